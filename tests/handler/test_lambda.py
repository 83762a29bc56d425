"""Both Lambda functions over S3 and DynamoDB, called with the events that API Gateway sends."""

import json
import os
import time
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias

import httpx
import pytest

from handler import fleet as fleets
from handler.dynamo_table import DynamoTable
from handler.fleet import FleetFile
from handler.keys import KeyStore, NewKey, Routing
from index import edits
from index.edits import Upload
from index.embedder import Embedder
from index.s3_store import S3Store
from index.versions import Repository
from tests.dynamodb_server import create_dynamo_table, dynamodb_client
from tests.emulator import emulated
from tests.lambda_function import Function, function
from tests.servers import BUCKET, S3Server

Json: TypeAlias = dict[str, Any]

EVENTS = Path(__file__).parents[1] / "events"
KINDS = ("rest-v1", "http-v2", "http-v2-default-stage")
PEPPER = "a pepper for tests"
LIVE_S = 5.0
"""Within which an edit must show in routes."""
QUESTION = "How do I reset my password?"
FLEET = """
models:
  - {name: sim-small, price: {input: 0.10, output: 0.50}, deployments: [{base_url: "URL"}]}
  - {name: sim-large, price: {input: 2.00, output: 10.00}, deployments: [{base_url: "URL"}]}
"""
EXAMPLES = b"""\
{"id": "login-1", "prompt": "I forgot my login credentials, help", "only": "sim-small"}
{"id": "login-2", "prompt": "I cannot log in any more, what now?", "only": "sim-small"}
{"id": "proof-1", "prompt": "Prove that there are infinitely many primes", "only": "sim-large"}
{"id": "proof-2", "prompt": "Prove that the square root of two is irrational", "only": "sim-large"}
"""
_numbers = count()


@dataclass(frozen=True, slots=True)
class Deployment:
    """What a stack has besides its functions. `key` asks for the best answer whatever it costs."""

    environment: dict[str, str]
    key: str
    admin_key: str
    version: str
    fingerprint: str
    fleet_version: str


class Deployer:
    def __init__(self, s3: S3Server, dynamodb: str, provider: str, model_dir: Path, embedder: Embedder) -> None:
        self._s3 = s3
        self._dynamodb = dynamodb
        self._provider = provider
        self._model_dir = model_dir
        self._embedder = embedder

    def deploy(self) -> Deployment:
        prefix = table = f"lambda-{next(_numbers)}"
        store = S3Store(self._s3.client(), BUCKET, prefix)
        fleet = fleets.parse(FLEET.replace("URL", self._provider).encode())
        store.put(fleets.KEY, FLEET.replace("URL", self._provider).encode())
        version = self._first_version(Repository(store), fleet)
        client = dynamodb_client(self._dynamodb)
        create_dynamo_table(client, table)
        keys = KeyStore(DynamoTable(client, table), PEPPER.encode())
        _, key = keys.create(NewKey(name="help desk", routing=Routing.ON, dial=0))
        _, admin_key = keys.create(NewKey(name="operator", admin=True))
        environment = self._environment(prefix, table)
        return Deployment(environment, key, admin_key, version, self._embedder.fingerprint, fleet.version)

    def _first_version(self, repository: Repository, fleet: FleetFile) -> str:
        return edits.add(
            repository,
            Upload(EXAMPLES),
            fleet.fleet.candidates,
            lambda prompts: self._embedder.embed_many(prompts, 1),
            self._embedder.fingerprint,
            "first examples",
        ).snapshot.version

    def _environment(self, prefix: str, table: str) -> dict[str, str]:
        """All of it, as Lambda gives a function only what it is configured with."""
        return {
            "PATH": os.environ["PATH"],
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_ENDPOINT_URL_S3": self._s3.endpoint,
            "AWS_ENDPOINT_URL_DYNAMODB": self._dynamodb,
            "NEARVOTE_STORE": f"s3://{BUCKET}/{prefix}",
            "NEARVOTE_TABLE": f"dynamodb://{table}",
            "NEARVOTE_PEPPER": PEPPER,
            "NEARVOTE_MODEL_DIR": str(self._model_dir),
        }


@pytest.fixture(scope="module")
def deployer(
    s3_server: S3Server, dynamodb_server: str, simulated_provider: str, model_dir: Path, embedder: Embedder
) -> Deployer:
    return Deployer(s3_server, dynamodb_server, simulated_provider, model_dir, embedder)


@pytest.fixture(scope="module")
def deployment(deployer: Deployer) -> Deployment:
    return deployer.deploy()


@pytest.fixture(scope="module")
def data(deployment: Deployment) -> Iterator[Function]:
    with function("handler.data.entry", deployment.environment) as running:
        yield running


@pytest.fixture(scope="module")
def control(deployment: Deployment) -> Iterator[Function]:
    with function("handler.control.entry", deployment.environment) as running:
        yield running


def event(kind: str, name: str, key: str) -> Json:
    """A stored event, sent with `key`."""
    folder = "http-v2" if kind == "http-v2-default-stage" else kind
    stored: Json = json.loads((EVENTS / folder / f"{name}.json").read_text())
    if kind == "http-v2-default-stage":
        _in_default_stage(stored)
    return with_header(stored, "Authorization", f"Bearer {key}")


def with_header(stored: Json, name: str, value: str) -> Json:
    changed = deepcopy(stored)
    if "multiValueHeaders" in changed:
        changed["headers"][name] = value
        changed["multiValueHeaders"][name] = [value]
    else:
        changed["headers"][name.lower()] = value
    return changed


def _in_default_stage(stored: Json) -> None:
    """Whose name is not in the path."""
    path = stored["rawPath"].removeprefix("/live")
    stored["rawPath"] = stored["requestContext"]["http"]["path"] = path
    stored["requestContext"]["stage"] = "$default"


def answered(answer: Json, *, changing: tuple[str, ...] = ()) -> tuple[int, dict[str, str], str]:
    """Status, headers and body of an answer in either format; `changing` headers must be there, and are left out."""
    assert not answer["isBase64Encoded"]
    assert answer.get("multiValueHeaders", {}) == {}
    headers = dict(answer["headers"])
    for name in changing:
        assert headers.pop(name)
    return answer["statusCode"], headers, answer["body"]


def said_by_the_provider(url: str, asked: Json) -> httpx.Response:
    body = {**json.loads(asked["body"]), "model": "sim-small"}
    return httpx.post(f"{url}/chat/completions", json=body)


def without_number(chunk: Json) -> Json:
    """Less what the provider counts and clocks."""
    return {name: value for name, value in chunk.items() if name not in ("id", "created")}


def sse(body: str) -> list[Json | str]:
    assert body.endswith("\n\n")
    lines = [part.removeprefix("data: ") for part in body.split("\n\n")[:-1]]
    return [line if line == "[DONE]" else without_number(json.loads(line)) for line in lines]


EVERY_TIME = ("x-nearvote-decision-id", "x-nearvote-overhead-ms", "x-nearvote-confidence")


def evidence(deployment: Deployment) -> dict[str, str]:
    # 65 characters are 16 tokens in; 500 are expected out: 16 × $0.10 + 500 × $0.50, per million.
    return {
        "x-nearvote-model": "sim-small",
        "x-nearvote-cause": "vote",
        "x-nearvote-index-version": deployment.version,
        "x-nearvote-expected-cost": "0.00025160",
    }


@pytest.mark.parametrize("kind", KINDS)
def test_auto_is_routed_and_answered_as_the_provider_answers(
    kind: str, data: Function, deployment: Deployment, simulated_provider: str
) -> None:
    asked = event(kind, "chat", deployment.key)
    status, headers, body = answered(data(asked), changing=EVERY_TIME)
    expected = said_by_the_provider(simulated_provider, asked).json()
    usage = expected["usage"]
    cost = (usage["prompt_tokens"] * 0.10 + usage["completion_tokens"] * 0.50) / 1_000_000
    assert status == 200
    assert without_number(json.loads(body)) == without_number(expected)
    assert headers == {
        **evidence(deployment),
        "content-type": "application/json",
        "content-length": str(len(body)),
        "x-nearvote-cost": f"{cost:.8f}",
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_comes_as_one_body_at_its_end(
    kind: str, data: Function, deployment: Deployment, simulated_provider: str
) -> None:
    asked = event(kind, "chat-stream", deployment.key)
    status, headers, body = answered(data(asked), changing=EVERY_TIME)
    expected = said_by_the_provider(simulated_provider, asked)
    assert status == 200
    assert sse(body) == sse(expected.text)
    assert sse(body)[-1] == "[DONE]"
    assert headers == {**evidence(deployment), "content-type": expected.headers["content-type"]}


@pytest.mark.parametrize("kind", KINDS)
def test_a_decision_is_shown_without_a_call(kind: str, data: Function, deployment: Deployment) -> None:
    status, headers, body = answered(data(event(kind, "route", deployment.key)), changing=EVERY_TIME)
    decision = json.loads(body)
    assert status == 200
    assert headers == {
        **evidence(deployment),
        "content-type": "application/json",
        "content-length": str(len(body.encode())),
    }
    assert [one["model"] for one in decision.pop("ranking")] == ["sim-small", "sim-large"]
    assert [one["id"] for one in decision.pop("neighbours")][:2] == ["login-1", "login-2"]
    for changing in ("decision_id", "confidence", "nearest"):
        assert decision.pop(changing)
    assert decision == {
        "model": "sim-small",
        "cause": "vote",
        "detail": None,
        "requested": "auto",
        "dial": 0.0,
        "expected_cost": 0.0002516,
        "index_version": deployment.version,
        "fleet_version": deployment.fleet_version,
        "embedder": deployment.fingerprint,
    }


@pytest.mark.parametrize("kind", KINDS)
def test_the_models_are_listed(kind: str, data: Function, deployment: Deployment) -> None:
    status, headers, body = answered(data(event(kind, "models", deployment.key)))
    names = ("auto", "nearvote/auto", "sim-small", "sim-large")
    listed = [{"id": name, "object": "model", "created": 0, "owned_by": "nearvote"} for name in names]
    assert (status, json.loads(body)) == (200, {"object": "list", "data": listed})
    assert headers == {"content-type": "application/json", "content-length": str(len(body))}


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_key_is_refused_in_the_one_error_shape(kind: str, data: Function) -> None:
    status, headers, body = answered(data(event(kind, "chat", f"nv-{'0' * 12}-{'0' * 43}")))
    error = json.loads(body)["error"]
    assert (status, error["type"], error["code"]) == (401, "authentication_error", "invalid_api_key")
    assert headers == {
        "content-type": "application/json",
        "content-length": str(len(body.encode())),
        "x-nearvote-retryable": "false",
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_that_the_control_plane_makes_works_in_the_data_plane(
    kind: str, control: Function, data: Function, deployment: Deployment
) -> None:
    status, headers, body = answered(control(event(kind, "keys-create", deployment.admin_key)))
    created = json.loads(body)
    assert (status, created["name"], created["routing"], created["dial"]) == (201, "night batch", "on", 9)
    assert headers == {"content-type": "application/json", "content-length": str(len(body))}

    status, _, body = answered(control(event(kind, "keys-list", deployment.admin_key)))
    secret = created.pop("key")
    assert status == 200
    assert created in json.loads(body)["data"]
    assert secret not in body

    assert answered(data(event(kind, "models", secret)))[0] == 200


def test_the_control_plane_is_for_admin_keys(control: Function, deployment: Deployment) -> None:
    status, _, body = answered(control(event("rest-v1", "keys-list", deployment.key)))
    assert (status, json.loads(body)["error"]["code"]) == (403, "admin_only")


def test_an_uploaded_file_changes_the_routes_of_a_warm_function_in_time(deployer: Deployer) -> None:
    stack = deployer.deploy()
    with (
        function("handler.data.entry", stack.environment) as data,
        function("handler.control.entry", stack.environment) as control,
    ):
        asked = event("rest-v1", "route", stack.key)
        assert routed(data(asked)) == ("sim-small", stack.version)

        status, headers, body = answered(control(event("rest-v1", "examples-upload", stack.admin_key)))
        uploaded = time.monotonic()
        report = json.loads(body)
        version = report["version"]
        told = {name: report[name] for name in ("added", "skipped", "number", "parent", "message", "examples")}
        assert (status, headers["content-type"]) == (200, "application/json")
        assert told == {
            "added": 3,
            "skipped": [],
            "number": 2,
            "parent": stack.version,
            "message": "what the loan desk asks",
            "examples": 7,
        }

        while (now := routed(data(asked))) != ("sim-large", version):
            assert now == ("sim-small", stack.version)
            assert time.monotonic() - uploaded < LIVE_S
            time.sleep(0.1)


def routed(answer: Json) -> tuple[str, str]:
    """The model, and the version that chose it."""
    status, headers, _ = answered(answer)
    assert (status, headers["x-nearvote-cause"]) == (200, "vote")
    return headers["x-nearvote-model"], headers["x-nearvote-index-version"]


def test_progress_comes_as_plain_lines(deployer: Deployer) -> None:
    """Mangum would send NDJSON as base64, and a REST API would pass that on as it is."""
    stack = deployer.deploy()
    with function("handler.control.entry", stack.environment) as control:
        upload = event("rest-v1", "examples-upload", stack.admin_key)
        status, headers, body = answered(control(with_header(upload, "Accept", "application/x-ndjson")))
    *steps, last = [json.loads(line) for line in body.splitlines()]
    assert (status, headers["content-type"]) == (200, "application/x-ndjson")
    assert steps == [{"done": done, "total": 3} for done in (1, 2, 3)]
    assert last["result"]["added"] == 3


def test_both_functions_run_under_lambdas_own_runtime(
    deployer: Deployer, lambda_emulator: Path, tmp_path: Path
) -> None:
    stack = deployer.deploy()
    data_log, control_log = tmp_path / "data.log", tmp_path / "control.log"
    with (
        emulated(lambda_emulator, "handler.data.entry.entry", stack.environment, data_log) as data,
        emulated(lambda_emulator, "handler.control.entry.entry", stack.environment, control_log) as control,
    ):
        key = stack.key
        for kind in KINDS:  # the first event is the cold one
            status, headers, body = answered(invoke(data, event(kind, "chat", key)))
            assert (status, headers["x-nearvote-model"]) == (200, "sim-small")
            assert json.loads(body)["model"] == "sim-small"

            status, headers, body = answered(invoke(data, event(kind, "chat-stream", key)))
            assert (status, headers["x-nearvote-model"], sse(body)[-1]) == (200, "sim-small", "[DONE]")

            assert routed(invoke(data, event(kind, "route", key))) == ("sim-small", stack.version)
            assert answered(invoke(data, event(kind, "models", key)))[0] == 200

            status, _, body = answered(invoke(control, event(kind, "keys-create", stack.admin_key)))
            assert status == 201
            key = json.loads(body)["key"]
            assert answered(invoke(control, event(kind, "keys-list", stack.admin_key)))[0] == 200

        status, _, body = answered(invoke(control, event("http-v2", "examples-upload", stack.admin_key)))
        assert (status, json.loads(body)["added"]) == (200, 3)
        version = json.loads(body)["version"]
        deadline = time.monotonic() + LIVE_S
        while routed(invoke(data, event("http-v2", "route", stack.key))) != ("sim-large", version):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    logged = data_log.read_text() + control_log.read_text()
    assert '"event":"request"' in logged
    assert not [secret for secret in (stack.key, stack.admin_key, key, QUESTION) if secret in logged]


def invoke(url: str, sent: Json) -> Json:
    answer: Json = httpx.post(url, json=sent, timeout=60).json()
    return answer
