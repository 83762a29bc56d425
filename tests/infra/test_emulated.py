"""The artifact under Lambda's own runtime emulator, as a stack of three functions with ResponseMode buffered.

What is asked of the functions behind API Gateway, tests/handler/test_lambda.py asks of the artifact too.
"""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from index.embedder import Embedder
from index.versions import Repository
from tests.deployment import EXAMPLES, PEPPER, Deployer, Deployment
from tests.emulator import Emulated
from tests.infra.artifact import StartArtifact
from tests.lambda_events import LIVE_S, Json, answered, event, object_created, routed
from tests.servers import S3Server

GOOD = b"""\
{"id": "reset-1", "prompt": "How do I reset my password?", "only": "sim-large"}
{"id": "reset-2", "prompt": "How can I reset my password, please?", "only": "sim-large"}
"""
BAD = b"""\
{"id": "reset-3", "prompt": "Where do I reset my password?", "scores": {"sim-large": 2}}
"""
COMPILED_FOR = re.compile(r"\.cpython-(\d+)-")
FRAME = re.compile(r'  File "([^"]+)", line')


@dataclass(frozen=True, slots=True)
class Stack:
    deployed: Deployment
    data: Emulated
    control: Emulated
    inbox: Emulated

    def drop(self, key: str, data: bytes) -> object:
        """What the inbox function answers to S3's word of a file that is put there."""
        self.deployed.store.put(key, data)
        return self.inbox(object_created(f"{self.deployed.prefix}/{key}", len(data)))

    def stored(self, prefix: str) -> dict[str, bytes]:
        """Key → contents."""
        store = self.deployed.store
        return {key: stored.data for key in store.keys(prefix) if (stored := store.get(key))}


@pytest.fixture(scope="module")
def stack(
    s3_server: S3Server,
    dynamodb_server: str,
    simulated_provider: str,
    model_dir: Path,
    embedder: Embedder,
    start_artifact: StartArtifact,
) -> Iterator[Stack]:
    deployed = Deployer(s3_server, dynamodb_server, simulated_provider, model_dir, embedder).deploy()
    with (
        start_artifact("handler.data.entry", deployed.environment) as data,
        start_artifact("handler.control.entry", deployed.environment) as control,
        start_artifact("handler.control.inbox_entry", deployed.inbox_environment) as inbox,
    ):
        yield Stack(deployed, data, control, inbox)


@pytest.mark.parametrize(
    ("name", "unreadable", "raised", "module"),
    [
        ("data", {}, "RuntimeError", "mangum/adapter.py"),
        ("control", {}, "RuntimeError", "mangum/adapter.py"),
        ("inbox", {"Records": [{}]}, "KeyError", "handler/control/inbox_entry.py"),
    ],
)
def test_what_runs_is_the_artifact_on_the_runtimes_python(
    name: str, unreadable: Json, raised: str, module: str, stack: Stack, artifact: Path
) -> None:
    """Told by the trace of an event that it cannot read, and by what its process has mapped."""
    function: Emulated = getattr(stack, name)
    failed = function(unreadable)
    assert failed["errorType"] == raised
    assert {file for line in failed["stackTrace"] for file in FRAME.findall(line)} == {str(artifact / module)}
    mapped = function.mapped()
    packed = {path.relative_to(artifact).parts[0] for path in mapped if path.is_relative_to(artifact)}
    assert packed >= {"faiss", "numpy", "orjson"}
    assert [path for path in mapped if "site-packages" in path.parts] == []
    assert {version for path in mapped for version in COMPILED_FOR.findall(path.name)} == {"313"}


def test_a_file_in_the_inbox_becomes_a_version_that_the_warm_data_function_routes_by(stack: Stack) -> None:
    asked = event("rest-v1", "route", stack.deployed.key)
    assert routed(stack.data(asked)) == ("sim-small", stack.deployed.version)

    assert stack.drop("inbox/passwords (1).jsonl", GOOD) is None
    taken = time.monotonic()
    version = Repository(stack.deployed.store).current()
    assert stack.inbox.logged()[-1] == {
        "event": "inbox",
        "file": "inbox/passwords (1).jsonl",
        "outcome": "taken",
        "added": 2,
        "faults": 0,
        "index_version": version.version,
    }
    assert (version.manifest.number, version.manifest.parent) == (2, stack.deployed.version)
    assert stack.stored("inbox/") == {}

    while (now := routed(stack.data(asked))) != ("sim-large", version.version):
        assert now == ("sim-small", stack.deployed.version)
        assert time.monotonic() - taken < LIVE_S
        time.sleep(0.1)


def test_a_bad_file_moves_to_rejected_with_a_report_and_changes_nothing(stack: Stack) -> None:
    before = Repository(stack.deployed.store).current().version
    assert stack.drop("inbox/bad.jsonl", BAD) is None
    rejected = stack.stored("rejected/")
    fault = "score of sim-large is outside 0..1: 2"
    assert json.loads(rejected.pop("rejected/bad.jsonl.report.json")) == {
        "file": "bad.jsonl",
        "message": f"nothing was applied: line 1: {fault}",
        "faults": [{"line": 1, "reason": fault}],
    }
    assert rejected == {"rejected/bad.jsonl": BAD}
    assert stack.stored("inbox/") == {}
    assert Repository(stack.deployed.store).current().version == before


def test_neither_keys_nor_texts_are_logged(stack: Stack) -> None:
    key, admin_key = stack.deployed.key, stack.deployed.admin_key
    assert answered(stack.data(event("rest-v1", "chat", key)))[0] == 200
    status, _, body = answered(stack.control(event("rest-v1", "keys-create", admin_key)))
    assert status == 201
    assert stack.drop("inbox/known.jsonl", EXAMPLES) is None
    logs = [function.log.read_text() for function in (stack.data, stack.control, stack.inbox)]
    secrets = (key, admin_key, json.loads(body)["key"], PEPPER, "reset my password", "login credentials")
    assert [secret for secret in secrets for log in logs if secret in log] == []
    assert stack.data.logged()[-1]["event"] == "request"
    assert stack.inbox.logged()[-1]["outcome"] == "known"
