"""/admin/v1/index and /admin/v1/versions over HTTP."""

from typing import Any

import httpx
import orjson
import pytest

from handler import fleet as fleets
from handler.control.embedding import LazyEmbedder
from handler.control.progress import NDJSON
from index.store import open_store
from index.versions import Repository
from tests.admin_server import FLEET, UNTUNED, AdminServer, refused, told

INDEX = "/admin/v1/index"
VERSIONS = "/admin/v1/versions"
ONE = {"id": "one", "prompt": "Say hello.", "model": "nano"}
TWO = {"id": "two", "prompt": "Prove the theorem of Pythagoras.", "model": "maxi"}
COUNTS = {"added", "replaced", "skipped"}


def version_of(report: Any) -> Any:
    """An upload's report without what only uploads have."""
    return {name: value for name, value in report.items() if name not in COUNTS}


def ids_of(server: AdminServer) -> set[str]:
    return set(server.examples())


def roll_back(server: AdminServer, version: str) -> httpx.Response:
    return server.client.post(f"{VERSIONS}/{version}/rollback")


def diff(server: AdminServer, old: str, new: str) -> Any:
    return told(server.client.get(f"{VERSIONS}/{old}/diff/{new}"))


def test_before_the_first_version_there_is_an_empty_index(admin_server: AdminServer) -> None:
    assert told(admin_server.client.get(INDEX)) == {
        "version": None,
        "number": 0,
        "parent": None,
        "created_at": "",
        "message": "",
        "examples": 0,
        "segments": 0,
        "embedder": "",
        "vote": UNTUNED,
        "promised": None,
        "models": [],
    }
    assert told(admin_server.client.get(VERSIONS)) == {"data": []}


def test_the_current_version_is_the_last_one(admin_server: AdminServer) -> None:
    admin_server.upload(ONE)
    second = version_of(admin_server.upload({"id": "m", "prompt": "p", "scores": {"maxi": 1, "small": 0}}))
    assert told(admin_server.client.get(INDEX)) == second | {"models": ["maxi", "mini", "nano", "small"]}


def test_history_goes_back_from_the_last_to_the_first(admin_server: AdminServer) -> None:
    first = version_of(admin_server.upload(ONE))
    second = version_of(admin_server.upload(TWO, message="more"))
    third = told(admin_server.client.delete("/admin/v1/examples/one"))
    assert [(one["number"], one["parent"]) for one in (first, second, third)] == [
        (1, None),
        (2, first["version"]),
        (3, second["version"]),
    ]
    assert told(admin_server.client.get(VERSIONS)) == {"data": [third, second, first]}
    assert told(admin_server.client.get(VERSIONS, params={"limit": 2})) == {"data": [third, second]}


def test_history_tells_what_each_version_promised_the_fleet_of_its_time(admin_server: AdminServer) -> None:
    """Every model does every prompt, so the usual dial goes to the cheapest; a request is 800 tokens."""
    rows = [{"id": id, "prompt": f"Say {id}.", "scores": dict.fromkeys(("nano", "mini", "maxi"), 1)} for id in "abc"]
    assert admin_server.upload(rows[0])["promised"] is None  # one alone has no others to be voted on by
    admin_server.upload(rows[1])
    fleet = admin_server.home / fleets.KEY
    fleet.write_text(FLEET.replace("{input: 1, output: 1}", "{input: 1.5, output: 1.5}"))
    admin_server.upload(rows[2])
    told_of = [one["promised"] for one in told(admin_server.client.get(VERSIONS))["data"]]
    assert told_of == [
        {"dial": 7, "spend": pytest.approx(0.0012), "quality": 1},
        {"dial": 7, "spend": pytest.approx(0.0008), "quality": 1},
        None,
    ]


@pytest.mark.parametrize("fleet", [None, "models: []", "{"], ids=["missing", "empty", "no YAML"])
def test_without_a_usable_fleet_a_roll_back_and_a_deletion_promise_nothing(
    admin_server: AdminServer, fleet: str | None
) -> None:
    first = admin_server.upload(ONE, TWO)
    assert first["promised"] is not None
    file = admin_server.home / fleets.KEY
    file.unlink() if fleet is None else file.write_text(fleet)
    back = told(roll_back(admin_server, first["version"]))
    left = told(admin_server.client.delete("/admin/v1/examples/one"))
    assert [(one["examples"], one["promised"]) for one in (back, left)] == [(2, None), (1, None)]


def test_a_diff_lists_what_was_added_removed_and_changed(admin_server: AdminServer) -> None:
    other = {"id": "other", "prompt": "p", "model": "mini"}
    old = admin_server.upload(ONE, TWO)["version"]
    admin_server.upload(other)
    admin_server.client.patch("/admin/v1/examples/two", json={"only": "maxi"})
    new = told(admin_server.client.delete("/admin/v1/examples/one"))["version"]
    assert diff(admin_server, old, new) == {"added": ["other"], "removed": ["one"], "changed": ["two"]}
    assert diff(admin_server, new, old) == {"added": ["one"], "removed": ["other"], "changed": ["two"]}
    assert diff(admin_server, new, new) == {"added": [], "removed": [], "changed": []}


def test_a_roll_back_is_a_new_version_with_the_old_contents(admin_server: AdminServer) -> None:
    first = version_of(admin_server.upload(ONE))
    second = admin_server.upload(TWO)["version"]
    back = told(roll_back(admin_server, first["version"]))
    assert back["version"] not in (first["version"], second)
    assert back == first | {
        "version": back["version"],
        "number": 3,
        "parent": second,
        "created_at": back["created_at"],
        "message": f"roll back to version 1 ({first['version']})",
    }
    assert ids_of(admin_server) == {"one"}


def test_a_roll_back_can_be_rolled_back(admin_server: AdminServer) -> None:
    first = admin_server.upload(ONE)["version"]
    second = admin_server.upload(TWO)["version"]
    roll_back(admin_server, first)
    assert told(roll_back(admin_server, second))["number"] == 4
    assert ids_of(admin_server) == {"one", "two"}


@pytest.mark.parametrize("version", ["0" * 16, "HEAD", "..", "ä" * 8, "%2E%2E%2Fpepper"])
def test_an_unknown_version_is_not_found(admin_server: AdminServer, version: str) -> None:
    known = admin_server.upload(ONE)["version"]
    quoted = version.replace("..", "%2E%2E")
    paths = [("GET", f"{quoted}/diff/{known}"), ("GET", f"{known}/diff/{quoted}"), ("POST", f"{quoted}/rollback")]
    answers = [refused(admin_server.client.request(method, f"{VERSIONS}/{path}")) for method, path in paths]
    assert {status for status, _ in answers} == {404}
    assert {error["code"] for _, error in answers} <= {"version_not_found", "not_found"}
    assert ids_of(admin_server) == {"one"}


def test_what_to_do_about_an_unknown_version_is_told(admin_server: AdminServer) -> None:
    assert refused(roll_back(admin_server, "abc")) == (
        404,
        {
            "message": "no version 'abc'; `nearvote index history` lists those that exist",
            "type": "invalid_request_error",
            "param": None,
            "code": "version_not_found",
        },
    )


def test_a_rebuild_embeds_all_examples_again(admin_server: AdminServer, lazy_embedder: LazyEmbedder) -> None:
    admin_server.upload(ONE, TWO)
    before = admin_server.examples()
    other = Repository(open_store(str(admin_server.home))).replace_all(lambda base: base.examples, "", "another")
    assert told(admin_server.client.get(INDEX))["embedder"] == "another"
    rebuilt = told(admin_server.client.post(f"{INDEX}/rebuild"))
    assert (rebuilt["number"], rebuilt["parent"], rebuilt["examples"]) == (3, other.version, 2)
    assert rebuilt["embedder"] == lazy_embedder.fingerprint
    assert admin_server.examples() == before
    near = told(admin_server.client.get("/admin/v1/examples/search", params={"q": TWO["prompt"], "limit": 1}))
    assert [(one["id"], one["similarity"]) for one in near["data"]] == [("two", 1.0)]


def test_a_rebuild_tells_its_progress(admin_server: AdminServer) -> None:
    admin_server.upload(ONE, TWO)
    answer = admin_server.client.post(f"{INDEX}/rebuild", headers={"accept": NDJSON})
    *progress, last = [orjson.loads(line) for line in answer.content.splitlines()]
    assert progress == [{"done": 1, "total": 2}, {"done": 2, "total": 2}]
    assert (last["result"]["number"], last["result"]["examples"]) == (2, 2)


def test_an_empty_index_can_be_rebuilt_and_added_to(admin_server: AdminServer) -> None:
    assert told(admin_server.client.post(f"{INDEX}/rebuild"))["examples"] == 0
    assert admin_server.upload(ONE)["examples"] == 1


@pytest.mark.parametrize("head", [b"", b"[]", b"{}", b'{"version": 1}'])
def test_a_damaged_index_is_told_and_not_written_over(admin_server: AdminServer, head: bytes) -> None:
    admin_server.upload(ONE)
    (admin_server.home / "index" / "HEAD.json").write_bytes(head)
    read, written = admin_server.client.get(INDEX), admin_server.client.delete("/admin/v1/examples/one")
    for answer in (read, written):
        status, error = refused(answer)
        assert (status, error["code"]) == (500, "index_damaged")
    assert (admin_server.home / "index" / "HEAD.json").read_bytes() == head
