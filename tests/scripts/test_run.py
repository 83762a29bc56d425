"""`nearvote run`: what it prints works, it ends cleanly, and edits are live in it while it serves."""

import asyncio
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from typer.testing import CliRunner

from handler import fleet as fleets
from handler.keys import NewKey, Routing
from index.edits import remove
from index.store import open_store
from index.versions import Repository
from scripts.main import app
from tests.admin_server import jsonl, told
from tests.nearvote_server import COMMAND, KEY, Server, clean_environment, copy_home, create_key, start_nearvote
from tests.providers import ROOT
from tests.servers import free_ports

LIVE_S = 5.0
"""How soon an edit must be live."""
START_S = 30.0
SLOWEST_S = 3.0
"""While 30 uploads come in on a busy machine; some 0.1 s on a quiet one."""
CURL = re.compile(r"^curl .*\\\n.*$", re.MULTILINE)
PYTHON = re.compile(r"^import openai(?:.*\n)+?print\(.*", re.MULTILINE)
ANOTHER = re.compile(r"export KEY=\$\(.*\)$", re.MULTILINE)
SIMULATED = re.compile(r"simulated provider on http://127\.0\.0\.1:(\d+)/v1")
BEES = ("When do I inspect a bee hive in spring", "How do bees in a hive survive a cold winter")
TOPIC = [f"{question}{end}" for question in BEES for end in ("?", ", please?", " exactly?", " in short?")]
ASKED = "When should I inspect my bee hive in early spring?"


@dataclass(frozen=True, slots=True)
class Running:
    """A `nearvote run` that answers, with its process at hand."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path
    seconds: float
    """From start to first answer."""

    @property
    def provider_port(self) -> int:
        found = SIMULATED.search(self.log.read_text())
        assert found is not None
        return int(found[1])


@contextmanager
def running(home: Path) -> Iterator[Running]:
    port = free_ports(1)[0]
    url, log = f"http://127.0.0.1:{port}", home.with_name(f"{home.name}.log")
    started = time.monotonic()
    with log.open("wb") as output, launch({"NEARVOTE_HOME": str(home), "NEARVOTE_PORT": str(port)}, output) as process:
        try:
            eventually(lambda: listens(port) and httpx.get(f"{url}/healthz").is_success, START_S)
            yield Running(process, url, log, time.monotonic() - started)
        finally:
            process.kill()


def launch(settings: Mapping[str, str], output: Any = subprocess.PIPE) -> subprocess.Popen[bytes]:
    environ = clean_environment() | dict(settings)
    return subprocess.Popen(COMMAND, cwd=ROOT, env=environ, stdout=output, stderr=subprocess.STDOUT)


def refusal(settings: Mapping[str, str]) -> str:
    """What is said by a `nearvote run` that cannot start."""
    with launch(settings) as process:
        output, _ = process.communicate(timeout=START_S)
    assert process.returncode == 1
    return output.decode()


def eventually(condition: Callable[[], bool], seconds: float) -> float:
    """How long it took to become true."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, "it did not come true in time"
        time.sleep(0.05)
    return time.monotonic() - started


def listens(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def found(pattern: re.Pattern[str], text: str) -> str:
    match = pattern.search(text)
    assert match is not None, text
    return match[0]


def paste(command: Sequence[str], folder: Path, environ: Mapping[str, str] | None = None) -> str:
    """Run where a reader of the output would stand: beside .venv."""
    venv = folder / ".venv"
    if not venv.exists():
        venv.symlink_to(sys.prefix)
    ended = subprocess.run(
        command, cwd=folder, env=clean_environment() | dict(environ or {}), capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def first_run(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The very first `nearvote run`, from a home that is not there."""
    assert model_dir.is_dir()
    with start_nearvote(tmp_path_factory.mktemp("first") / ".nearvote") as server:
        yield server


def test_the_first_run_prints_where_it_serves_and_the_key_once(first_run: Server) -> None:
    log = first_run.logged()
    assert f"\nnearvote  {first_run.url}/v1\nkey       {first_run.key}   (shown this once)\n" in log
    assert "no provider is configured: simulated provider on http://127.0.0.1:" in log
    assert set(KEY.findall(log)) == {first_run.key}


def test_the_printed_curl_line_works(first_run: Server, tmp_path: Path) -> None:
    answer = paste(["bash", "-c", found(CURL, first_run.logged())], tmp_path)
    head, body = answer.replace("\r\n", "\n").split("\n\n", 1)
    assert head.startswith("HTTP/1.1 200 OK\n")
    assert "x-nearvote-cause: vote" in head
    model = orjson.loads(body)["model"]
    assert f"x-nearvote-model: {model}\n" in head


def test_the_printed_python_works(first_run: Server, tmp_path: Path) -> None:
    printed = paste([sys.executable, "-c", found(PYTHON, first_run.logged())], tmp_path)
    model, cause, text = printed.split(" ", 2)
    assert (model.startswith("sim-"), cause) == (True, "vote")
    assert text.startswith("[simulated ")


def test_the_first_state_is_for_its_user_alone(first_run: Server) -> None:
    assert first_run.home.stat().st_mode & 0o777 == 0o700
    assert {path.name for path in first_run.home.iterdir()} >= {"pepper", "fleet.yaml", "index", "state.db"}


def test_the_control_plane_is_served_too(first_run: Server) -> None:
    headers = {"authorization": f"Bearer {first_run.admin_key}"}
    keys = told(httpx.get(f"{first_run.url}/admin/v1/keys", headers=headers))["data"]
    assert {key["name"]: key["routing"] for key in keys} == {"first": "on", "a": "off"}


def test_a_second_run_starts_in_seconds_prints_no_key_and_ends_with_ctrl_c(starter_home: Path, tmp_path: Path) -> None:
    home = copy_home(starter_home, tmp_path / "home")
    create_key(home, NewKey(name="mine"))
    with running(home) as server:
        assert server.seconds < START_S / 2
        log = server.log.read_text()
        assert KEY.search(log) is None
        script = f"set -e; {found(ANOTHER, log)}\n{found(CURL, log)}\n.venv/bin/python -c '{found(PYTHON, log)}'"
        printed = paste(["bash", "-c", script], tmp_path, {"NEARVOTE_HOME": str(home)})
        assert printed.count("x-nearvote-cause: vote") == 1
        assert "[simulated " in printed.splitlines()[-1]
        provider_port = server.provider_port
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(10) == 0
    assert not listens(provider_port)
    assert "Traceback" not in server.log.read_text()


def test_the_simulated_provider_does_not_outlive_a_server_that_is_killed(starter_home: Path, tmp_path: Path) -> None:
    with running(copy_home(starter_home, tmp_path / "home")) as server:
        provider_port = server.provider_port
        assert listens(provider_port)
        server.process.kill()
        eventually(lambda: not listens(provider_port), 10)


def test_with_a_providers_key_the_fleet_is_theirs_and_nothing_is_simulated(starter_home: Path, tmp_path: Path) -> None:
    secret = "sk-of-a-provider"
    home = copy_home(starter_home, tmp_path / "home")
    with start_nearvote(home, {"MISTRAL_API_KEY": secret}) as server:
        listed = told(httpx.get(f"{server.url}/v1/models", headers={"authorization": f"Bearer {server.key}"}))["data"]
    mistral = [model.name for model in fleets.parse((home / fleets.KEY).read_bytes()).fleet.models]
    assert all(name.startswith("mistral-") for name in mistral)
    assert [model["id"] for model in listed] == ["auto", "nearvote/auto", *mistral]
    assert "simulated" not in server.logged()
    assert secret not in server.logged() + (home / fleets.KEY).read_text()


def test_a_port_that_is_taken_is_told(first_run: Server, tmp_path: Path) -> None:
    port = first_run.url.rpartition(":")[2]
    said = refusal({"NEARVOTE_HOME": str(tmp_path / "home"), "NEARVOTE_PORT": port})
    assert re.fullmatch(rf"cannot start: port {port} cannot be had \(.*\); NEARVOTE_PORT names another\n", said)
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("NEARVOTE_PORT", "99999", "port 99999 cannot be had (bind(): port must be 0-65535.)"),
        ("NEARVOTE_STORE", "ftp://x", "a store is s3://bucket, s3://bucket/prefix or the path of a directory"),
    ],
)
def test_a_setting_that_cannot_be_used_is_told(setting: str, value: str, said: str, tmp_path: Path) -> None:
    port = str(free_ports(1)[0])
    printed = refusal({"NEARVOTE_HOME": str(tmp_path / "home"), "NEARVOTE_PORT": port, setting: value})
    assert printed.startswith(f"cannot start: {said}")
    assert printed.count("\n") == 1


def test_a_fleet_file_that_cannot_be_read_is_told(starter_home: Path, tmp_path: Path) -> None:
    home = copy_home(starter_home, tmp_path / "home")
    (home / fleets.KEY).write_text("models: []")
    said = refusal({"NEARVOTE_HOME": str(home), "NEARVOTE_PORT": str(free_ports(1)[0])})
    assert said.startswith("cannot start: fleet.yaml: line 1: models: ")


@dataclass(frozen=True, slots=True)
class Edited:
    """A server whose index and fleet are edited while it serves."""

    home: Path
    url: str
    caller: httpx.Client
    """Sends a key with routing on."""
    admin: httpx.Client

    @property
    def repository(self) -> Repository:
        return Repository(open_store(str(self.home)))

    def route(self, prompt: str = ASKED, model: str = "auto", **headers: str) -> dict[str, Any]:
        body = {"model": model, "messages": [{"role": "user", "content": prompt}]}
        decision: dict[str, Any] = told(self.caller.post("/v1/route", json=body, headers=headers))
        return decision

    def models(self) -> list[str]:
        return [model["id"] for model in told(self.caller.get("/v1/models"))["data"]]

    def await_live(self) -> None:
        """Until the version that is current now is served."""
        version = told(self.admin.get("/admin/v1/index"))["version"]
        eventually(lambda: self.route()["index_version"] == version, LIVE_S)


@pytest.fixture(scope="module")
def edited(starter_home: Path, simulated_provider: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edited]:
    """With a part of the starter examples, so that a rebuild is quick."""
    home = copy_home(starter_home, tmp_path_factory.mktemp("edited") / "home")
    repository = Repository(open_store(str(home)))
    ids = repository.current().examples.ids
    remove(repository, [id for row, id in enumerate(ids) if row % 6])
    key = create_key(home, NewKey(name="caller", routing=Routing.ON))
    with (
        start_nearvote(home, {"SIMULATED_PROVIDER_URL": simulated_provider}) as server,
        httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {key}"}, timeout=30) as caller,
        httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {server.admin_key}"}, timeout=30) as admin,
    ):
        yield Edited(home, server.url, caller, admin)


def test_uploaded_relabelled_and_deleted_examples_change_the_route(edited: Edited) -> None:
    topic = [{"id": f"bees-{n}", "prompt": prompt, "model": "sim-large"} for n, prompt in enumerate(TOPIC)]
    ids = {str(example["id"]) for example in topic}
    assert ids.isdisjoint(one["id"] for one in edited.route()["neighbours"])

    told(edited.admin.post("/admin/v1/examples", content=jsonl(*topic)))
    eventually(lambda: edited.route()["model"] == "sim-large", LIVE_S)
    decision = edited.route()
    assert decision["cause"] == "vote"
    assert ids & {one["id"] for one in decision["neighbours"]}

    for id in ids:
        told(edited.admin.patch(f"/admin/v1/examples/{id}", json={"model": "sim-small"}))
    eventually(lambda: edited.route()["model"] == "sim-small", LIVE_S)

    told(edited.admin.post("/admin/v1/examples/delete", json={"ids": sorted(ids)}))
    eventually(lambda: ids.isdisjoint(one["id"] for one in edited.route()["neighbours"]), LIVE_S)


def test_a_change_of_a_key_made_beside_the_server_is_live(edited: Edited) -> None:
    key = create_key(edited.home, NewKey(name="changing"))
    headers = {"authorization": f"Bearer {key}"}
    body = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}

    def status() -> int:
        return httpx.post(f"{edited.url}/v1/route", json=body, headers=headers).status_code

    assert status() == 403
    command = ["keys", "change", key.split("-")[1], "--routing", "on"]
    result = CliRunner().invoke(app, command, env={"NEARVOTE_HOME": str(edited.home)})
    assert result.exit_code == 0, result.output
    eventually(lambda: status() == 200, LIVE_S)


def test_an_edit_of_the_fleet_file_is_live(edited: Edited) -> None:
    file = edited.home / fleets.KEY
    before = file.read_text()
    models = before.split("  - name: ")
    budget = models[1].replace("sim-small", "budget", 1).replace("0.10", "0.01").replace("0.50", "0.05")
    budget = budget.replace('_URL}"', '_URL}", model: sim-small')
    try:
        file.write_text("  - name: ".join([*(one for one in models if not one.startswith("sim-medium")), budget]))
        eventually(lambda: edited.models() == ["auto", "nearvote/auto", "sim-small", "sim-large", "budget"], LIVE_S)
        decision = edited.route("Say hello.", **{"x-nearvote-dial": "10"})
        assert (decision["model"], decision["cause"]) == ("budget", "vote")
        body = {"model": "sim-medium", "messages": [{"role": "user", "content": "hi"}]}
        assert edited.caller.post("/v1/chat/completions", json=body).status_code == 404
        answer = edited.caller.post("/v1/chat/completions", json=body | {"model": "budget"})
        assert told(answer)["model"] == "sim-small"
        assert answer.headers["x-nearvote-model"] == "budget"
    finally:
        file.write_text(before)
    eventually(lambda: edited.models()[2:] == ["sim-small", "sim-medium", "sim-large"], LIVE_S)


async def test_thirty_uploads_in_a_row_disturb_no_request(edited: Edited) -> None:
    took: list[float] = []
    failed: list[str] = []
    done = asyncio.Event()

    async def call(client: httpx.AsyncClient, prompt: str, path: str) -> None:
        body = {"model": "auto", "max_tokens": 1, "messages": [{"role": "user", "content": prompt}]}
        started = time.perf_counter()
        answer = await client.post(path, json=body)
        took.append(time.perf_counter() - started)
        if not answer.is_success or answer.headers["x-nearvote-cause"] != "vote":
            failed.append(f"{answer.status_code} {answer.headers.get('x-nearvote-cause')}")

    async def load(client: httpx.AsyncClient, worker: int) -> None:
        path = ("/v1/route", "/v1/chat/completions")[worker % 2]
        number = 0
        while not done.is_set():
            await call(client, f"Say hello to guest {worker}-{number}.", path)
            await asyncio.sleep(0.05)
            number += 1

    async with httpx.AsyncClient(base_url=edited.url, headers=edited.caller.headers, timeout=30) as client:
        callers = [asyncio.create_task(load(client, worker)) for worker in range(4)]
        for number in range(30):
            row = {"id": f"load-{number}", "prompt": f"What is {number} plus {number}?", "model": "sim-small"}
            sent = await asyncio.to_thread(edited.admin.post, "/admin/v1/examples", content=jsonl(row))
            assert told(sent)["added"] == 1
        await asyncio.to_thread(edited.await_live)
        done.set()
        await asyncio.gather(*callers)
    assert failed == []
    assert len(took) > 30
    assert max(took) < SLOWEST_S
    listed = told(edited.admin.get("/admin/v1/examples", params={"limit": 1000}))["data"]
    assert {f"load-{number}" for number in range(30)} <= {example["id"] for example in listed}


def test_an_index_of_another_embedder_is_not_used_until_it_is_rebuilt(
    edited: Edited, monkeypatch: pytest.MonkeyPatch, model_dir: Path
) -> None:
    edited.repository.replace_all(lambda base: base.examples, "made elsewhere", "another")
    eventually(lambda: edited.route()["cause"] == "no_index", LIVE_S)
    decision = edited.route()
    assert (decision["model"], decision["ranking"], decision["index_version"]) == ("sim-large", [], None)
    assert decision["detail"].startswith("this index was made by embedder another, but ")
    assert "nearvote index rebuild" in decision["detail"]
    body = {"model": "auto", "max_tokens": 1, "messages": [{"role": "user", "content": ASKED}]}
    answer = edited.caller.post("/v1/chat/completions", json=body)
    assert (answer.status_code, answer.headers["x-nearvote-cause"]) == (200, "no_index")

    monkeypatch.setenv("NEARVOTE_HOME", str(edited.home))
    monkeypatch.setenv("NEARVOTE_MODEL_DIR", str(model_dir))
    result = CliRunner().invoke(app, ["index", "rebuild"])
    assert result.exit_code == 0, result.output
    eventually(lambda: edited.route()["cause"] == "vote", LIVE_S)


def test_two_servers_stand_side_by_side(first_run: Server, edited: Edited) -> None:
    def status(url: str, key: str) -> int:
        return httpx.get(f"{url}/v1/models", headers={"authorization": f"Bearer {key}"}).status_code

    assert status(first_run.url, first_run.key) == 200
    assert status(edited.url, first_run.key) == 401
    assert first_run.url != edited.url
