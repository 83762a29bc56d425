"""/admin/v1/examples over HTTP."""

import gzip
import http.client
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn
from urllib.parse import quote, urlsplit

import httpx
import orjson
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from handler.control.embedding import LazyEmbedder
from handler.control.progress import NDJSON, answer_with_progress
from index.store import open_store
from index.versions import Repository
from scripts.in_process import InProcess
from tests.admin_server import MAXI_DOES_IT, MINI_DOES_IT, UNTUNED, AdminServer, jsonl, refused, told

EXAMPLES = "/admin/v1/examples"
GREETING = {"id": "greet", "prompt": "Say hello.", "task": "chat", "model": "nano"}
SQL = {"id": "sql", "prompt": "Write an SQL query that joins orders and customers.", "task": "code", "model": "mini"}
PROOF = {"id": "proof", "prompt": "Prove that the square root of two is irrational.", "task": "maths", "model": "maxi"}
THREE = (GREETING, SQL, PROOF)
BAD = (
    GREETING,
    "[1, 2]",
    {"id": "none", "model": "mini"},
    {"id": "high", "prompt": "p", "scores": {"mini": 1.5}},
    {"id": "who", "prompt": "p", "model": "minni"},
    {"id": "greet", "prompt": "again", "model": "mini"},
    SQL,
    {"id": "two", "prompt": "p", "model": "mini", "only": "maxi"},
)
FAULTS = [
    {"line": 2, "reason": "not a JSON object"},
    {"line": 3, "reason": "no prompt"},
    {"line": 4, "reason": "score of mini is outside 0..1: 1.5"},
    {"line": 5, "reason": "model names an unknown model 'minni'; did you mean 'mini'?"},
    {"line": 6, "reason": "duplicate id 'greet', first on line 1"},
    {"line": 8, "reason": "model and only together: give only one of them"},
]


def lines_of(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.headers["content-type"] == NDJSON
    return [orjson.loads(line) for line in answer.content.splitlines()]


def send(server: AdminServer, content: bytes, accept: str = "*/*", **query: str) -> httpx.Response:
    return server.client.post(EXAMPLES, content=content, params=query, headers={"accept": accept})


def number_of(server: AdminServer) -> int:
    return int(told(server.client.get("/admin/v1/index"))["number"])


def made_by_another_embedder(server: AdminServer) -> None:
    repository = Repository(open_store(str(server.home)))
    repository.replace_all(lambda base: base.examples, "made elsewhere", "another")


def test_an_upload_is_one_version_that_says_what_it_did(admin_server: AdminServer, lazy_embedder: LazyEmbedder) -> None:
    report = told(send(admin_server, jsonl(SQL), name="more.jsonl"))
    assert re.fullmatch(r"[0-9a-f]{16}", report.pop("version"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", report.pop("created_at"))
    assert report == {
        "added": 1,
        "replaced": 0,
        "skipped": [],
        "number": 1,
        "parent": None,
        "message": "add more.jsonl",
        "examples": 1,
        "segments": 1,
        "embedder": lazy_embedder.fingerprint,
        "vote": UNTUNED,
        "promised": None,
    }


def test_an_example_is_shown_with_its_label_and_what_that_stands_for(admin_server: AdminServer) -> None:
    phrase = {"id": "human", "prompt": "I want to talk to a person.", "only": "maxi"}
    measured = {"id": "m", "prompt": "Translate: bonjour", "scores": {"nano": 0.25, "maxi": 1}}
    admin_server.upload(SQL, phrase, measured)
    assert told(admin_server.client.get(f"{EXAMPLES}/sql")) == SQL | {"scores": MINI_DOES_IT}
    assert told(admin_server.client.get(f"{EXAMPLES}/human")) == phrase | {"task": "", "scores": {}}
    assert told(admin_server.client.get(f"{EXAMPLES}/m")) == measured | {"task": ""}


@pytest.mark.parametrize("name", ["", "some.csv", "SOME.CSV.GZ"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_csv_has_a_column_a_model(admin_server: AdminServer, name: str, pack: Any) -> None:
    table = b'prompt,id,task,nano,maxi\n"one, two\nthree",a,count,0.5,1\nfour,b,,,0\n'
    assert told(send(admin_server, pack(table), name=name))["added"] == 2
    assert admin_server.examples() == {
        "a": {"id": "a", "prompt": "one, two\nthree", "task": "count", "scores": {"nano": 0.5, "maxi": 1.0}},
        "b": {"id": "b", "prompt": "four", "task": "", "scores": {"maxi": 0.0}},
    }


def test_gzipped_json_lines_are_read(admin_server: AdminServer) -> None:
    assert told(send(admin_server, gzip.compress(jsonl(*THREE))))["added"] == 3


def test_corrupt_gzip_is_refused(admin_server: AdminServer) -> None:
    status, error = refused(send(admin_server, gzip.compress(jsonl(*THREE))[:-9]))
    assert (status, error["code"]) == (400, "bad_upload")
    assert "corrupt gzip" in error["message"]


def test_one_bad_line_and_nothing_is_applied(admin_server: AdminServer) -> None:
    assert refused(send(admin_server, jsonl(*BAD))) == (
        400,
        {
            "message": "nothing was applied: line 2: not a JSON object (and 5 more)",
            "type": "invalid_request_error",
            "param": None,
            "code": "bad_upload",
            "details": {"faults": FAULTS},
        },
    )
    assert number_of(admin_server) == 0
    assert admin_server.examples() == {}


def test_what_was_skipped_is_listed(admin_server: AdminServer) -> None:
    report = told(send(admin_server, jsonl(*BAD), skip_bad="true"))
    assert (report["added"], report["skipped"], report["examples"]) == (2, FAULTS, 2)
    assert set(admin_server.examples()) == {"greet", "sql"}


def test_an_id_of_the_index_is_a_bad_line_unless_it_shall_replace(admin_server: AdminServer) -> None:
    admin_server.upload(*THREE)
    better = SQL | {"prompt": "Write a recursive SQL query.", "model": "maxi"}
    new = {"id": "new", "prompt": "Sum these numbers.", "model": "nano"}
    _, error = refused(send(admin_server, jsonl(better, new)))
    assert error["details"] == {"faults": [{"line": 1, "reason": "id 'sql' is already in the index"}]}
    report = admin_server.upload(better, new, replace="true", message="better")
    assert (report["added"], report["replaced"], report["number"], report["message"]) == (1, 1, 2, "better")
    assert set(admin_server.examples()) == {"greet", "sql", "proof", "new"}
    assert told(admin_server.client.get(f"{EXAMPLES}/sql")) == better | {"scores": MAXI_DOES_IT}


def test_an_upload_of_what_is_there_makes_no_version(admin_server: AdminServer) -> None:
    version = admin_server.upload(*THREE)["version"]
    assert told(send(admin_server, b"\n\n"))["version"] == version
    assert told(send(admin_server, jsonl(*THREE), skip_bad="1"))["version"] == version


def test_a_long_message_is_cut(admin_server: AdminServer) -> None:
    assert admin_server.upload(SQL, message="é" * 300)["message"] == "é" * 200


def test_progress_ends_with_the_result(admin_server: AdminServer) -> None:
    answer = send(admin_server, jsonl(*THREE), NDJSON)
    *progress, last = lines_of(answer)
    assert progress == [{"done": done, "total": 3} for done in (1, 2, 3)]
    assert set(last) == {"result"}
    assert (last["result"]["added"], last["result"]["number"]) == (3, 1)


def test_progress_ends_with_the_error(admin_server: AdminServer) -> None:
    plain = orjson.loads(send(admin_server, jsonl(*BAD)).content)
    answer = send(admin_server, jsonl(*BAD), NDJSON)
    assert answer.status_code == 200
    assert lines_of(answer) == [{"status": 400, **plain}]


def test_a_fleet_file_that_cannot_be_read_is_told(admin_server: AdminServer) -> None:
    (admin_server.home / "fleet.yaml").write_text("models: []")
    status, error = refused(send(admin_server, jsonl(SQL)))
    assert (status, error["code"]) == (409, "bad_fleet")
    assert error["message"].startswith("fleet.yaml: line 1: models: ")
    (line,) = lines_of(send(admin_server, jsonl(SQL), NDJSON))
    assert line == {"status": 409, "error": error}


async def test_work_that_fails_for_no_known_reason_ends_with_an_error_too() -> None:
    def fail(_: object) -> NoReturn:
        raise RuntimeError("quoting the prompt")

    async def route(request: Request) -> Response:
        return await answer_with_progress(request, fail)

    app = Starlette(routes=[Route("/", route)])
    async with httpx.AsyncClient(base_url="http://app", transport=InProcess(app)) as client:
        answer = await client.get("/", headers={"accept": NDJSON})
    assert lines_of(answer) == [
        {
            "status": 500,
            "error": {
                "message": "nearvote failed: RuntimeError",
                "type": "server_error",
                "param": None,
                "code": "internal_error",
            },
        }
    ]


@pytest.mark.parametrize(
    ("query", "param", "message"),
    [
        ({"skip_bad": "yes"}, "skip_bad", "skip_bad must be true or false, not 'yes'"),
        ({"replace": ""}, "replace", "replace must be true or false, not ''"),
        (
            {"skipbad": "true"},
            "skipbad",
            "unknown query parameter 'skipbad'; there are name, skip_bad, replace, message",
        ),
    ],
)
def test_a_flag_is_true_or_false(admin_server: AdminServer, query: Mapping[str, str], param: str, message: str) -> None:
    status, error = refused(send(admin_server, jsonl(SQL), **query))
    assert (status, error["param"], error["message"]) == (400, param, message)


@pytest.mark.parametrize("path", [EXAMPLES, f"{EXAMPLES}/search", "/admin/v1/versions"])
def test_a_limit_is_a_number_from_1_to_1000(admin_server: AdminServer, path: str) -> None:
    needed = {"q": "x"} if path.endswith("search") else {}

    def status(limit: str) -> int:
        return admin_server.client.get(path, params={**needed, "limit": limit}).status_code

    assert {status(limit) for limit in ("0", "1001", "-1", "1.5", "ten", "", "9" * 5000)} == {400}
    assert {status(limit) for limit in ("1", "1000", "007")} == {200}
    assert refused(admin_server.client.get(path, params={**needed, "limit": "ten"}))[1]["param"] == "limit"


@pytest.fixture
def connection(admin_server: AdminServer) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection(urlsplit(admin_server.url).netloc, timeout=10)
    yield connection
    connection.close()


def test_an_upload_that_is_too_large_is_refused_before_it_is_sent(
    admin_server: AdminServer, connection: http.client.HTTPConnection
) -> None:
    connection.putrequest("POST", EXAMPLES)
    connection.putheader("Authorization", f"Bearer {admin_server.admin_key}")
    connection.putheader("Content-Length", "200000000")
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413
    assert orjson.loads(answer.read())["error"]["message"] == (
        "the body has 200000000 bytes; at most 134217728 are taken"
    )


def test_search_finds_the_nearest_first(admin_server: AdminServer) -> None:
    admin_server.upload(*THREE)
    found = told(admin_server.client.get(f"{EXAMPLES}/search", params={"q": str(SQL["prompt"]), "limit": 2}))["data"]
    assert found[0] == {"similarity": 1.0, **SQL, "scores": MINI_DOES_IT}
    assert len(found) == 2
    assert found[1]["similarity"] < 1
    near = told(admin_server.client.get(f"{EXAMPLES}/search", params={"q": "hello there!"}))["data"]
    assert near[0]["id"] == "greet"
    assert len(near) == 3
    assert [one["similarity"] for one in near] == sorted((one["similarity"] for one in near), reverse=True)


def test_search_of_an_empty_index_finds_nothing(admin_server: AdminServer) -> None:
    assert told(admin_server.client.get(f"{EXAMPLES}/search", params={"q": "x"})) == {"data": []}


@pytest.mark.parametrize("query", ["", "?q=", "?q=%20%0A"])
def test_search_needs_a_text(admin_server: AdminServer, query: str) -> None:
    status, error = refused(admin_server.client.get(f"{EXAMPLES}/search{query}"))
    assert (status, error["param"]) == (400, "q")


def test_an_index_of_another_embedder_is_neither_searched_nor_added_to(admin_server: AdminServer) -> None:
    admin_server.upload(*THREE)
    made_by_another_embedder(admin_server)
    found = admin_server.client.get(f"{EXAMPLES}/search", params={"q": "x"})
    added = send(admin_server, jsonl({"prompt": "new", "model": "mini"}))
    for answer in (found, added):
        status, error = refused(answer)
        assert (status, error["code"]) == (409, "embedder_mismatch")
        assert "Run `nearvote index rebuild`" in error["message"]


def test_examples_are_listed_page_by_page(admin_server: AdminServer) -> None:
    admin_server.upload(*THREE)
    shown = [GREETING | {"scores": {"nano": 1, "mini": 1, "maxi": 1}}, SQL | {"scores": MINI_DOES_IT}]
    first = told(admin_server.client.get(EXAMPLES, params={"limit": 2}))
    assert first == {"data": shown, "more": True, "total": 3}
    rest = told(admin_server.client.get(EXAMPLES, params={"limit": 2, "after": "sql"}))
    assert rest == {"data": [PROOF | {"scores": MAXI_DOES_IT}], "more": False, "total": 3}
    assert told(admin_server.client.get(EXAMPLES, params={"after": "proof"}))["data"] == []


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ({"task": "code"}, ["sql"]),
        ({"task": "cod"}, []),
        ({"text": "PROVE"}, ["proof"]),
        ({"text": "s"}, ["greet", "sql", "proof"]),
        ({"text": "s", "task": "maths"}, ["proof"]),
        ({"text": "s", "after": "greet", "limit": "1"}, ["sql"]),
    ],
)
def test_examples_are_filtered(admin_server: AdminServer, query: Mapping[str, str], ids: list[str]) -> None:
    admin_server.upload(*THREE)
    found = told(admin_server.client.get(EXAMPLES, params=query))
    assert [example["id"] for example in found["data"]] == ids


@pytest.mark.parametrize(
    ("outcome", "shown"),
    [
        ({"model": "maxi"}, {"model": "maxi", "scores": MAXI_DOES_IT}),
        ({"model": "medium"}, {"model": "medium", "scores": {"small": 0.0, "medium": 1.0, "large": 1.0}}),
        ({"only": "nano"}, {"only": "nano", "scores": {}}),
        ({"scores": {"nano": 0.5}}, {"scores": {"nano": 0.5}}),
    ],
)
def test_a_relabel_leaves_all_but_the_outcome(
    admin_server: AdminServer, outcome: object, shown: Mapping[str, Any]
) -> None:
    admin_server.upload(*THREE)
    version = told(admin_server.client.patch(f"{EXAMPLES}/sql", json=outcome))
    assert (version["number"], version["message"], version["examples"]) == (2, "relabel sql", 3)
    kept = {name: SQL[name] for name in ("id", "prompt", "task")}
    assert told(admin_server.client.get(f"{EXAMPLES}/sql")) == kept | dict(shown)
    nearest = told(admin_server.client.get(f"{EXAMPLES}/search", params={"q": str(SQL["prompt"]), "limit": 1}))
    assert nearest == {"data": [{"similarity": 1.0, **kept, **shown}]}


def test_a_relabel_with_the_same_outcome_makes_no_version(admin_server: AdminServer) -> None:
    version = admin_server.upload(*THREE)["version"]
    assert told(admin_server.client.patch(f"{EXAMPLES}/sql", json={"model": "mini"}))["version"] == version


@pytest.mark.parametrize(
    ("outcome", "param", "message"),
    [
        ({}, None, "give one of model, only, scores"),
        ({"model": "mini", "only": "mini"}, None, "give one of model, only, scores"),
        ({"prompt": "x"}, None, "give one of model, only, scores"),
        ({"model": "minni"}, "model", "model names an unknown model 'minni'; did you mean 'mini'?"),
        ({"only": 3}, "only", "only has to be a model's name"),
        ({"scores": {}}, "scores", "no outcome: scores is empty"),
        ({"scores": {"nano": -1}}, "scores", "score of nano is outside 0..1: -1"),
    ],
)
def test_a_bad_relabel_is_told_and_changes_nothing(
    admin_server: AdminServer, outcome: object, param: str | None, message: str
) -> None:
    admin_server.upload(*THREE)
    status, error = refused(admin_server.client.patch(f"{EXAMPLES}/sql", json=outcome))
    assert (status, error["param"], error["message"]) == (400, param, message)
    assert number_of(admin_server) == 1


def test_an_example_is_deleted(admin_server: AdminServer) -> None:
    admin_server.upload(*THREE)
    version = told(admin_server.client.delete(f"{EXAMPLES}/sql"))
    assert (version["number"], version["message"], version["examples"]) == (2, "delete 1 example(s)", 2)
    assert set(admin_server.examples()) == {"greet", "proof"}


def test_several_are_deleted_in_one_version(admin_server: AdminServer) -> None:
    admin_server.upload(*THREE)
    version = told(admin_server.client.post(f"{EXAMPLES}/delete", json={"ids": ["sql", "greet", "sql"]}))
    assert (version["number"], version["message"], version["examples"]) == (2, "delete 2 example(s)", 1)
    assert set(admin_server.examples()) == {"proof"}


def test_with_one_unknown_id_none_is_deleted(admin_server: AdminServer) -> None:
    admin_server.upload(*THREE)
    assert refused(admin_server.client.post(f"{EXAMPLES}/delete", json={"ids": ["sql", "no", "nor"]})) == (
        404,
        {
            "message": "no such example: no, nor",
            "type": "invalid_request_error",
            "param": None,
            "code": "example_not_found",
            "details": {"ids": ["no", "nor"]},
        },
    )
    assert len(admin_server.examples()) == 3


@pytest.mark.parametrize("body", [{}, {"ids": []}, {"ids": "sql"}, {"ids": ["sql", 1]}])
def test_a_deletion_needs_ids(admin_server: AdminServer, body: object) -> None:
    status, error = refused(admin_server.client.post(f"{EXAMPLES}/delete", json=body))
    assert (status, error["param"]) == (400, "ids")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/no", None),
        ("PATCH", "/no", {"model": "mini"}),
        ("DELETE", "/no", None),
        ("GET", "?after=no", None),
    ],
)
def test_an_unknown_example_is_not_found(admin_server: AdminServer, method: str, path: str, body: object) -> None:
    status, error = refused(admin_server.client.request(method, f"{EXAMPLES}{path}", json=body))
    assert (status, error["code"], error["details"]) == (404, "example_not_found", {"ids": ["no"]})


@pytest.mark.parametrize("id", ["ünï", "50%25", "a?b#c", "delete", "..."])
def test_any_id_can_be_had_by_its_path(admin_server: AdminServer, id: str) -> None:
    path = f"{EXAMPLES}/{quote(id, safe='')}"
    admin_server.upload({"id": id, "prompt": "p", "model": "mini"})
    assert told(admin_server.client.get(path))["id"] == id
    assert told(admin_server.client.patch(path, json={"model": "maxi"}))["number"] == 2
    assert told(admin_server.client.delete(path))["examples"] == 0


def test_edits_at_the_same_time_are_all_kept(admin_server: AdminServer) -> None:
    rows = [{"id": f"e{number}", "prompt": f"number {number % 5}", "model": "mini"} for number in range(12)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(admin_server.upload, rows))
    assert set(admin_server.examples()) == {row["id"] for row in rows}
    assert number_of(admin_server) == 12
