"""`nearvote …` as a user runs it: on the local state, and on a server by --url and --admin-key."""

import csv
import gzip
import io
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from typer.testing import CliRunner, Result

from handler import catalogue
from handler.control.embedding import LazyEmbedder
from handler.fleet import KEY, parse, version_of
from handler.keys import KeyStore
from handler.ledger import Ledger, Settlement, Spent
from handler.sqlite_table import SqliteTable
from index.edits import Upload, add
from index.store import open_store
from index.versions import Repository
from scripts.main import app
from scripts.place import MEANINGLESS
from tests.admin_server import MAXI_DOES_IT, MINI_DOES_IT, AdminServer, jsonl, served
from tests.nearvote_server import clean_environment

Run = Callable[..., Result]
"""Runs `nearvote` with these arguments."""

GREETING = {"id": "greet", "prompt": "Say hello.", "task": "chat", "model": "nano"}
SQL = {"id": "sql", "prompt": "Write an SQL query that joins orders and customers.", "task": "code", "model": "mini"}
PROOF = {"id": "proof", "prompt": "Prove that the square root of two is irrational.", "task": "maths", "model": "maxi"}
FAULTS = [
    {"line": 2, "reason": "score of mini is outside 0..1: 2"},
    {"line": 3, "reason": "model names an unknown model 'minni'; did you mean 'mini'?"},
]
TWO_MODELS = """models:
  - name: gpt-5-mini
    deployments: [{base_url: "http://127.0.0.1:9/v1", protocols: [responses, chat]}]
  - {name: own, like: small, tools: false, deployments: [{base_url: "http://127.0.0.1:9/v1", api_key: sk-1}],
     price: {input: 1, output: 2}}
"""
COMMAND = r"^│ (\w+) "
"""A line of a help's list of commands."""
BAD = (GREETING, {"prompt": "p", "scores": {"mini": 2}}, {"prompt": "q", "model": "minni"}, SQL)


@pytest.fixture(params=["local", "url"])
def run(
    request: pytest.FixtureRequest,
    admin_home: Path,
    model_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Run:
    """The same state either way."""
    for name in set(os.environ) - set(clean_environment()):
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    if request.param == "local":
        options: tuple[str, ...] = ()
        monkeypatch.setenv("NEARVOTE_HOME", str(admin_home))
        monkeypatch.setenv("NEARVOTE_MODEL_DIR", str(model_dir))
    else:
        server: AdminServer = request.getfixturevalue("admin_server")
        options = ("--url", server.url, "--admin-key", server.admin_key)
    return lambda *arguments: CliRunner().invoke(app, [*map(str, arguments), *options])


def printed(result: Result) -> Any:
    """The JSON of a command that must have succeeded, and nothing beside it on stdout."""
    assert result.exit_code == 0, result.output
    return orjson.loads(result.stdout)


def text(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def refusal(result: Result) -> str:
    """What a refused command says to people."""
    assert (result.exit_code, result.stdout) == (1, "")
    return result.stderr


@pytest.fixture
def help_of(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *command: text(CliRunner().invoke(app, [*filter(None, command), "--help"]))


def file_of(folder: Path, *rows: object, name: str = "rows.jsonl") -> Path:
    path = folder / name
    path.write_bytes(jsonl(*rows))
    return path


@pytest.fixture
def first(admin_home: Path, lazy_embedder: LazyEmbedder) -> str:
    """A first version with GREETING, SQL and PROOF, and its id."""
    candidates = parse((admin_home / KEY).read_bytes()).fleet.candidates
    upload, embed = Upload(jsonl(GREETING, SQL, PROOF)), lazy_embedder.embed_many
    repository = Repository(open_store(str(admin_home)))
    return add(repository, upload, candidates, embed, lazy_embedder.fingerprint, "first").snapshot.version


def test_a_key_is_created_and_shown_once(run: Run) -> None:
    key = text(run("keys", "create", "--name", "a", "--routing", "on", "--allow", "m*", "--allow", "nano")).strip()
    id = re.fullmatch(r"nv-([0-9a-f]{12})-[0-9A-Za-z]{43}", key)
    assert id is not None
    shown = printed(run("keys", "show", id[1], "--json"))
    del shown["created_at"]
    assert shown == {
        "id": id[1],
        "name": "a",
        "admin": False,
        "routing": "on",
        "default_model": None,
        "dial": 7.0,
        "allow": ["m*", "nano"],
        "exclude": [],
        "route_models": [],
        "baseline_model": None,
        "budget_day": None,
        "budget_month": None,
        "budget_total": None,
        "requests_per_minute": None,
        "tokens_per_minute": None,
        "max_latency_ms": None,
        "speed": None,
        "expires_at": None,
        "revoked": False,
    }


def test_a_created_key_is_json_on_request(run: Run) -> None:
    record = printed(run("keys", "create", "--name", "boss", "--admin", "--dial", "3", "--json"))
    assert (record["admin"], record["dial"], record["routing"]) == (True, 3.0, "off")
    assert record["key"].startswith(f"nv-{record['id']}-")


def test_keys_are_listed_as_a_table_and_as_json(run: Run) -> None:
    record = printed(run("keys", "create", "--name", "b", "--exclude", "maxi", "--json"))
    key = record.pop("key")
    assert record in printed(run("keys", "list", "--json"))
    table = text(run("keys", "list"))
    assert table.splitlines()[0].split() == [
        *("id", "name", "routing", "dial", "default_model", "allow", "exclude", "admin", "revoked", "created_at")
    ]
    (line,) = [line for line in table.splitlines() if line.startswith(record["id"])]
    assert line.split() == [record["id"], "b", "off", "7.0", "-", "-", "maxi", "False", "False", record["created_at"]]
    assert key.rpartition("-")[2] not in table


def test_a_change_leaves_what_is_not_given(run: Run) -> None:
    options = ("--allow", "m*", "--exclude", "maxi", "--default-model", "mini", "--expires-at", "4000000000")
    record = printed(run("keys", "create", "--name", "c", "--dial", "0", *options, "--json"))
    del record["key"]
    assert printed(run("keys", "change", record["id"], "--json")) == record
    changed = printed(run("keys", "change", record["id"], "--routing", "forecast", "--name", "d", "--json"))
    assert changed == record | {"routing": "forecast", "name": "d"}


def test_an_empty_option_takes_away_what_was_there(run: Run) -> None:
    options = ("--allow", "m*", "--exclude", "maxi", "--default-model", "mini", "--expires-at", "4000000000")
    record = printed(run("keys", "create", "--name", "e", *options, "--json"))
    del record["key"]
    cleared = run("keys", "change", record["id"], "--allow", "", "--exclude", "", "--default-model", "", "--json")
    assert printed(cleared) == record | {"allow": [], "exclude": [], "default_model": None}
    endless = run("keys", "change", record["id"], "--expires-at", "0", "--json")
    assert printed(endless) == printed(cleared) | {"expires_at": None}


LIMITS = {
    "route_models": ["gpt-*", "claude-*"],
    "baseline_model": "maxi",
    "budget_day": 0.5,
    "budget_month": 10.0,
    "budget_total": 100.0,
    "requests_per_minute": 60,
    "tokens_per_minute": 100_000,
    "max_latency_ms": 2_500.0,
    "speed": 0.1,
}


def test_a_key_takes_limits_when_it_is_created_and_when_it_is_changed(run: Run) -> None:
    options = (
        *("--route-model", "gpt-*", "--route-model", "claude-*", "--baseline-model", "maxi"),
        *("--budget-day", "0.5", "--budget-month", "10", "--budget-total", "100"),
        *("--requests-per-minute", "60", "--tokens-per-minute", "100000"),
        *("--max-latency-ms", "2500", "--speed", "0.1"),
    )
    created = printed(run("keys", "create", "--name", "a", *options, "--json"))
    plain = printed(run("keys", "create", "--name", "b", "--json"))
    changed = printed(run("keys", "change", plain["id"], *options, "--json"))
    assert [{name: record[name] for name in LIMITS} for record in (created, changed)] == [LIMITS, LIMITS]


def test_0_takes_a_limit_away_and_leaves_the_others(run: Run) -> None:
    record = printed(
        run("keys", "create", "--name", "a", "--budget-day", "0.5", "--speed", "0.1", "--dial", "3", "--json")
    )
    cleared = printed(run("keys", "change", record["id"], "--budget-day", "0", "--dial", "0", "--json"))
    assert (cleared["budget_day"], cleared["speed"], cleared["dial"]) == (None, 0.1, 0.0)
    none = ("--speed", "0", "--baseline-model", "", "--route-model", "", "--requests-per-minute", "0")
    assert printed(run("keys", "change", record["id"], *none, "--json")) == cleared | {"speed": None}


def test_what_a_key_spent_is_told_by_the_day_and_in_sums(run: Run, admin_home: Path) -> None:
    id = printed(run("keys", "create", "--name", "a", "--budget-month", "10", "--json"))["id"]
    with closing(SqliteTable(admin_home / "state.db")) as table:
        key = KeyStore(table, b"pepper").get(id)
        assert key is not None
        Ledger(table).settle([Settlement(key, None, Spent(0.000_012_9, 230, 0.25), time.time())])
    sums = {"spent": 0.000_012_9, "saved": 0.25, "requests": 1, "tokens": 230}
    told = printed(run("keys", "spending", id, "--json"))
    (day,) = told["days"]
    assert told == {
        "id": id,
        "days": [{"date": day["date"], **sums}],
        "month": sums,
        "total": sums,
        "budgets": {"day": None, "month": 10.0, "total": None},
    }
    lines = [re.split("  +", line) for line in text(run("keys", "spending", id, "--days", "1")).splitlines()]
    shown = ["0.000013", "0.250000", "1", "230"]
    assert lines == [
        ["period", "spent", "saved", "requests", "tokens", "budget"],
        [day["date"], *shown, "-"],
        ["this month", *shown, "10.0"],
        ["in all", *shown, "-"],
    ]


def test_a_key_is_revoked(run: Run) -> None:
    id = printed(run("keys", "create", "--name", "f", "--json"))["id"]
    assert printed(run("keys", "revoke", id, "--json"))["revoked"] is True
    assert text(run("keys", "show", id)).splitlines()[1].split()[-2] == "True"


@pytest.mark.parametrize("command", ["show", "change", "revoke", "spending"])
def test_an_unknown_key_is_told(run: Run, command: str) -> None:
    told = "error: no key 'nobody'; `nearvote keys list` shows those that exist\n"
    assert refusal(run("keys", command, "nobody")) == told


def test_examples_are_added_from_json_lines(run: Run, tmp_path: Path) -> None:
    told = text(run("examples", "add", file_of(tmp_path, GREETING, SQL, PROOF)))
    assert re.fullmatch(r"3 added, 0 replaced, 0 skipped; version 1 \([0-9a-f]{16}\), 3 examples\n", told)
    assert printed(run("examples", "show", "sql", "--json")) == SQL | {"scores": MINI_DOES_IT}


def test_examples_are_added_from_packed_csv_with_a_column_a_model(run: Run, tmp_path: Path) -> None:
    table = io.StringIO()
    csv.writer(table).writerows(
        [
            ["id", "prompt", "task", "nano", "mini", "maxi"],
            ["a", 'A "quoted", two-line\nprompt', "t", "0", "0.5", "1"],
            ["b", "A prompt of which little is known", "", "", "1", ""],
        ]
    )
    path = tmp_path / "measured.csv.gz"
    path.write_bytes(gzip.compress(table.getvalue().encode()))
    report = printed(run("examples", "add", path, "-m", "measured", "--json"))
    assert (report["added"], report["replaced"], report["skipped"]) == (2, 0, [])
    assert (report["number"], report["message"], report["examples"]) == (1, "measured", 2)
    assert printed(run("examples", "list", "--json"))["data"] == [
        {
            "id": "a",
            "prompt": 'A "quoted", two-line\nprompt',
            "task": "t",
            "scores": {"nano": 0.0, "mini": 0.5, "maxi": 1.0},
        },
        {"id": "b", "prompt": "A prompt of which little is known", "task": "", "scores": {"mini": 1.0}},
    ]


def test_bad_lines_are_told_by_number_and_nothing_is_applied(run: Run, tmp_path: Path) -> None:
    path = file_of(tmp_path, *BAD)
    assert refusal(run("examples", "add", path)) == (
        "error: nothing was applied: line 2: score of mini is outside 0..1: 2 (and 1 more)\n"
        "  line 2: score of mini is outside 0..1: 2\n"
        "  line 3: model names an unknown model 'minni'; did you mean 'mini'?\n"
    )
    result = run("examples", "add", path, "--json")
    assert result.exit_code == 1
    error = orjson.loads(result.stdout)["error"]
    assert (error["code"], error["details"]) == ("bad_upload", {"faults": FAULTS})
    assert printed(run("examples", "list", "--json")) == {"data": [], "more": False, "total": 0}


def test_skipped_lines_are_told_too(run: Run, tmp_path: Path) -> None:
    path = file_of(tmp_path, *BAD)
    result = run("examples", "add", path, "--skip-bad")
    assert text(result).startswith("2 added, 0 replaced, 2 skipped; version 1 (")
    assert result.stderr.endswith(
        "  skipped line 2: score of mini is outside 0..1: 2\n"
        "  skipped line 3: model names an unknown model 'minni'; did you mean 'mini'?\n"
    )
    again = printed(run("examples", "add", path, "--skip-bad", "--replace", "--json"))
    assert (again["added"], again["replaced"], again["skipped"]) == (0, 2, FAULTS)


@pytest.mark.usefixtures("first")
def test_examples_are_listed_filtered_and_paged(run: Run) -> None:
    assert text(run("examples", "list", "--limit", "2")) == (
        "id     outcome      task  prompt\n"
        "greet  model: nano  chat  Say hello.\n"
        "sql    model: mini  code  Write an SQL query that joins orders and customers.\n"
        "… more: --after sql\n"
    )
    rest = printed(run("examples", "list", "--after", "sql", "--json"))
    assert rest == {"data": [PROOF | {"scores": MAXI_DOES_IT}], "more": False, "total": 3}
    found = printed(run("examples", "list", "--text", "SQUARE", "--task", "maths", "--json"))
    assert [example["id"] for example in found["data"]] == ["proof"]
    assert refusal(run("examples", "list", "--after", "nobody")) == "error: no such example: nobody\n"


@pytest.mark.usefixtures("first")
def test_search_shows_the_nearest_first(run: Run) -> None:
    lines = text(run("examples", "search", PROOF["prompt"], "--limit", "1")).splitlines()
    assert lines == [
        "similarity  id     outcome      task   prompt",
        "1.0         proof  model: maxi  maths  Prove that the square root of two is irrational.",
    ]
    found = printed(run("examples", "search", "Hello there!", "--limit", "1", "--json"))
    assert [example["id"] for example in found] == ["greet"]


@pytest.mark.usefixtures("first")
def test_an_example_is_shown_for_people(run: Run) -> None:
    assert text(run("examples", "show", "sql")) == f"sql  model: mini  code\n\n{SQL['prompt']}\n"


@pytest.mark.usefixtures("first")
def test_an_example_is_relabelled(run: Run) -> None:
    told = text(run("examples", "relabel", "sql", "--model", "maxi"))
    assert re.fullmatch(r"version 2 \([0-9a-f]{16}\), 3 examples\n", told)
    assert printed(run("examples", "show", "sql", "--json")) == SQL | {"model": "maxi", "scores": MAXI_DOES_IT}
    assert printed(run("examples", "relabel", "sql", "--only", "nano", "--json"))["message"] == "relabel sql"
    assert printed(run("examples", "relabel", "sql", "--scores", '{"mini": 0.25}', "--json"))["number"] == 4
    shown = {name: SQL[name] for name in ("id", "prompt", "task")} | {"scores": {"mini": 0.25}}
    assert printed(run("examples", "show", "sql", "--json")) == shown


@pytest.mark.usefixtures("first")
def test_a_bad_relabel_is_told(run: Run) -> None:
    told = "error: model names an unknown model 'minni'; did you mean 'mini'?\n"
    assert refusal(run("examples", "relabel", "sql", "--model", "minni")) == told
    assert refusal(run("examples", "relabel", "sql")) == "error: give one of model, only, scores\n"
    assert refusal(run("examples", "relabel", "no", "--model", "mini")) == "error: no such example: no\n"
    assert run("examples", "relabel", "sql", "--scores", "{").exit_code == 2


@pytest.mark.usefixtures("first")
def test_examples_are_deleted_all_or_none(run: Run) -> None:
    assert refusal(run("examples", "delete", "sql", "no")) == "error: no such example: no\n"
    version = printed(run("examples", "delete", "sql", "greet", "--json"))
    assert (version["number"], version["examples"]) == (2, 1)
    assert text(run("examples", "delete", "proof")).endswith("), 0 examples\n")


def test_an_empty_index_has_a_status(run: Run) -> None:
    status = printed(run("index", "status", "--json"))
    assert (status["version"], status["number"], status["examples"], status["models"]) == (None, 0, 0, [])
    assert printed(run("index", "history", "--json")) == []


def test_history_diff_and_roll_back(run: Run, first: str, tmp_path: Path) -> None:
    run("examples", "relabel", "sql", "--model", "maxi")
    run("examples", "delete", "greet")
    new = file_of(tmp_path, {"id": "new", "prompt": "Count to ten.", "model": "nano"})
    last = printed(run("examples", "add", new, "-m", "one more", "--json"))["version"]
    assert text(run("index", "diff", first, last)) == "+ new\n- greet\n~ sql\n"
    assert text(run("index", "diff", first, first)) == "no difference\n"
    assert printed(run("index", "diff", first, last, "--json")) == {
        "added": ["new"],
        "removed": ["greet"],
        "changed": ["sql"],
    }
    assert text(run("index", "rollback", first)).startswith("version 5 (")
    assert printed(run("index", "diff", first, printed(run("index", "status", "--json"))["version"], "--json")) == {
        "added": [],
        "removed": [],
        "changed": [],
    }
    history = printed(run("index", "history", "--limit", "4", "--json"))
    assert [(one["number"], one["message"]) for one in history] == [
        (5, f"roll back to version 1 ({first})"),
        (4, "one more"),
        (3, "delete 1 example(s)"),
        (2, "relabel sql"),
    ]
    header, newest, *_ = text(run("index", "history")).splitlines()
    assert re.split(r"\s{2,}", header) == [
        *("number", "version", "created_at", "examples", "dial 7 $/1,000", "dial 7 quality", "message")
    ]
    assert newest.split()[:1] == ["5"]
    assert newest.endswith(f"roll back to version 1 ({first})")


def test_an_unknown_version_is_told(run: Run) -> None:
    told = "error: no version 'abc'; `nearvote index history` lists those that exist\n"
    assert refusal(run("index", "rollback", "abc")) == told
    assert refusal(run("index", "diff", "abc", "def")) == told


@pytest.mark.usefixtures("first")
def test_the_index_is_rebuilt(run: Run) -> None:
    assert text(run("index", "rebuild")).startswith("version 2 (")
    assert printed(run("index", "status", "--json"))["message"] == "rebuild with another embedder"


def test_the_fleet_is_shown_with_what_each_model_costs_and_can_do(run: Run, admin_home: Path) -> None:
    (admin_home / KEY).write_text(TWO_MODELS)
    lines = [line.split("  ") for line in text(run("fleet", "show")).splitlines()]
    assert [[cell.strip() for cell in line if cell.strip()] for line in lines] == [
        ["model", "like", "input", "output", "cached", "context", "can", "protocols", "price from"],
        [
            *("gpt-5-mini", "-", "0.25", "2", "0.025", "400000", "images files tools schema", "chat responses"),
            f"catalogue {catalogue.load().date}",
        ],
        ["own", "small", "1", "2", "-", "-", "images? audio? files? schema?", "chat", "fleet file"],
    ]


def test_the_fleet_is_put_in_the_place_of_another(run: Run, admin_home: Path, tmp_path: Path) -> None:
    before = printed(run("fleet", "show", "--json"))["version"]
    path = tmp_path / "new.yaml"
    path.write_text(TWO_MODELS)
    after = version_of(TWO_MODELS.encode())
    told = f"version {after} in place of {before}: gpt-5-mini, own\n"
    assert text(run("fleet", "put", path, "--expected", before)) == told
    assert (admin_home / KEY).read_text() == TWO_MODELS
    assert text(run("fleet", "show", "--text")) == TWO_MODELS
    assert refusal(run("fleet", "put", path, "--expected", before)).startswith(
        f"error: nothing was stored: the fleet is at version {after}, not {before}; "
    )


def test_a_bad_fleet_is_not_put_and_its_lines_are_told(run: Run, admin_home: Path, tmp_path: Path) -> None:
    before = (admin_home / KEY).read_bytes()
    path = tmp_path / "bad.yaml"
    path.write_text(TWO_MODELS.replace("output: 2", "output: -2"))
    complaint = "line 5: models.1.price.output: Input should be greater than or equal to 0"
    assert refusal(run("fleet", "put", path)) == f"error: nothing was stored: fleet.yaml: {complaint}\n  {complaint}\n"
    assert (admin_home / KEY).read_bytes() == before


def test_a_refusal_is_json_on_request(run: Run) -> None:
    result = run("keys", "show", "nobody", "--json")
    assert (result.exit_code, result.stderr) == (1, "")
    assert orjson.loads(result.stdout) == {
        "error": {
            "message": "no key 'nobody'; `nearvote keys list` shows those that exist",
            "type": "invalid_request_error",
            "param": None,
            "code": "key_not_found",
        }
    }


@pytest.mark.parametrize(
    "arguments",
    [
        ("keys", "create"),
        ("keys", "create", "--name", "a", "--dial", "11"),
        ("keys", "create", "--name", "a", "--routing", "sometimes"),
        ("examples", "add", "no-such-file.jsonl"),
        ("examples", "list", "--limit", "0"),
        ("index", "diff", "one"),
        ("fly",),
    ],
)
def test_a_command_that_cannot_be_understood_exits_with_2(arguments: tuple[str, ...]) -> None:
    assert CliRunner().invoke(app, list(arguments)).exit_code == 2


def test_a_wrong_admin_key_is_told(admin_server: AdminServer) -> None:
    result = CliRunner().invoke(app, ["keys", "list", "--url", admin_server.url])
    assert refusal(result).startswith("error: no API key; send it as ")
    wrong = admin_server.admin_key[:-4] + "0000"
    result = CliRunner().invoke(app, ["keys", "list", "--url", admin_server.url, "--admin-key", wrong])
    assert refusal(result).startswith("error: this API key is unknown, wrong, revoked or expired; ")


def test_server_and_key_can_come_from_the_environment(
    admin_server: AdminServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEARVOTE_URL", admin_server.url)
    monkeypatch.setenv("NEARVOTE_ADMIN_KEY", admin_server.admin_key)
    (record,) = printed(CliRunner().invoke(app, ["keys", "list", "--json"]))
    assert record["name"] == "operator"


NOWHERE = ("--url", "http://127.0.0.1:1", "--admin-key", "wrong")


@pytest.mark.parametrize("command", [("keys", "list"), ("keys", "create", "--name", "a"), ("index", "history")])
def test_server_and_key_can_stand_before_the_command(
    admin_server: AdminServer, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    there = ("--url", admin_server.url, "--admin-key", admin_server.admin_key)
    monkeypatch.setenv("NEARVOTE_URL", NOWHERE[1])
    monkeypatch.setenv("NEARVOTE_ADMIN_KEY", NOWHERE[3])
    printed(CliRunner().invoke(app, [*there, *command, "--json"]))
    printed(CliRunner().invoke(app, [*there[:2], *command, *there[2:], "--json"]))


def test_an_option_behind_the_command_goes_before_the_one_before_it(
    admin_server: AdminServer, monkeypatch: pytest.MonkeyPatch, admin_home: Path
) -> None:
    there = ("--url", admin_server.url, "--admin-key", admin_server.admin_key)
    command = ("keys", "list", "--json")
    assert len(printed(CliRunner().invoke(app, [*NOWHERE, *command, *there]))) == 1
    assert refusal(CliRunner().invoke(app, [*there, "keys", "list", *NOWHERE])).startswith(f"error: {NOWHERE[1]} does")
    assert len(printed(CliRunner().invoke(app, ["--stack", "no-such-stack", *command, *there]))) == 1
    monkeypatch.setenv("NEARVOTE_HOME", str(admin_home))
    assert len(printed(CliRunner().invoke(app, [*NOWHERE, *command, "--url", ""]))) == 1  # the local state


@pytest.mark.parametrize(
    ("option", "command"),
    [
        *(("--url", command) for command in ("run", "model fetch", "fleet check f", "bootstrap --stack s")),
        *(("--admin-key", command) for command in ("run", "model fetch", "bootstrap --stack s")),
        *(("--stack", command) for command in ("run", "model fetch")),
    ],
)
def test_an_option_that_means_nothing_to_the_command_is_refused(option: str, command: str) -> None:
    result = CliRunner().invoke(app, [option, "x", *command.split()])
    refused = next(known for known in MEANINGLESS if command.startswith(known))
    told = f"Invalid value for {option}: `nearvote {refused}` does not take it"
    assert (result.exit_code, result.stdout) == (2, "")
    assert told in " ".join(result.stderr.replace("│", " ").split())


def test_what_means_nothing_to_a_command_in_the_environment_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, model_dir: Path
) -> None:
    monkeypatch.setenv("NEARVOTE_URL", NOWHERE[1])
    monkeypatch.setenv("NEARVOTE_MODEL_DIR", str(model_dir))
    assert text(CliRunner().invoke(app, ["model", "fetch"])) == f"{model_dir}\n"


def test_every_command_has_a_use_for_the_options_before_it_or_refuses_them(help_of: Callable[..., str]) -> None:
    ignored = []
    for group in re.findall(COMMAND, help_of(), re.MULTILINE):
        for command in re.findall(COMMAND, help_of(group), re.MULTILINE) or [""]:
            taken = set(re.findall(r"--(?:url|stack|admin-key)\b", help_of(group, command)))
            refused = MEANINGLESS.get(group) or MEANINGLESS.get(f"{group} {command}", frozenset())
            if taken | refused != set(NOWHERE[::2]) | {"--stack"}:
                ignored.append((group, command))
    assert ignored == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "127.0.0.1:8080", "http://127.0.0.1:port", "ftp://127.0.0.1"])
@pytest.mark.parametrize("command", [("keys", "list"), ("index", "rebuild")])
def test_a_server_that_cannot_be_reached_is_told(url: str, command: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*command, "--url", url])
    assert refusal(result).startswith(f"error: {url} does not answer: ")
    result = CliRunner().invoke(app, [*command, "--url", url, "--json"])
    assert result.exit_code == 1
    assert orjson.loads(result.stdout)["error"]["message"].startswith(f"{url} does not answer: ")


def test_a_server_that_is_no_nearvote_is_told() -> None:
    async def anything(_: Request) -> Response:
        return Response("<html>hello</html>", media_type="text/html")

    async def breaks_off(_: Request) -> Response:
        return StreamingResponse(iter([b'{"done": 1, "total": 2}\n']))

    routes = [Route("/admin/v1/keys", anything), Route("/admin/v1/index/rebuild", breaks_off, methods=["POST"])]
    with served(Starlette(routes=routes)) as url:
        listed = CliRunner().invoke(app, ["keys", "list", "--url", url])
        rebuilt = CliRunner().invoke(app, ["index", "rebuild", "--url", url])
        missing = CliRunner().invoke(app, ["index", "status", "--url", url])
    assert refusal(listed) == f"error: {url} answered 200, but not as nearvote does\n"
    assert refusal(missing) == f"error: {url} answered 404, but not as nearvote does\n"
    told = f"error: {url} broke off before it was done; nothing is known of the result\n"
    assert refusal(rebuilt).endswith(told)


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("NEARVOTE_PROT", "1", "NEARVOTE_PROT is no setting of nearvote; there are: NEARVOTE_HOME, "),
        ("NEARVOTE_TABLE", "ftp://x", "a table is dynamodb://table-name or the path of a SQLite file, not 'ftp://x'"),
        ("NEARVOTE_HOME", "/dev/null/home", "[Errno 20] Not a directory: '/dev/null/home'"),
    ],
)
def test_a_local_state_that_cannot_be_used_is_told(
    monkeypatch: pytest.MonkeyPatch, admin_home: Path, variable: str, value: str, reason: str
) -> None:
    monkeypatch.setenv("NEARVOTE_HOME", str(admin_home))
    monkeypatch.setenv(variable, value)
    result = CliRunner().invoke(app, ["keys", "list"])
    assert refusal(result).startswith(f"error: the local state cannot be used: {reason}")


def test_the_model_is_fetched(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEARVOTE_MODEL_DIR", str(model_dir))
    assert printed(CliRunner().invoke(app, ["model", "fetch", "--json"])) == {"directory": str(model_dir)}
    assert text(CliRunner().invoke(app, ["model", "fetch"])) == f"{model_dir}\n"


def test_a_thousand_lines_take_well_under_a_minute_with_progress_beside_pure_json(
    admin_home: Path, tmp_path: Path, model_dir: Path
) -> None:
    path = file_of(tmp_path, *({"prompt": f"Add {n} and {n * 7}.", "model": "nano"} for n in range(1000)))
    command = [sys.executable, "-c", "from scripts.main import main; main()", "examples", "add", str(path), "--json"]
    environ = clean_environment() | {"NEARVOTE_HOME": str(admin_home), "NEARVOTE_MODEL_DIR": str(model_dir)}
    started = time.monotonic()
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120)
    assert time.monotonic() - started < 45
    assert ended.returncode == 0, ended.stderr
    assert orjson.loads(ended.stdout)["added"] == 1000
    assert re.search(r"\d+%.*/1000 \[.*examples/s\]", ended.stderr)
