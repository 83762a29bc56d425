"""The functions behind API Gateway over S3, DynamoDB and Secrets Manager, called with the events that it sends."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeAlias

import httpx
import pytest

from index.embedder import Embedder
from tests.deployment import Deployer, Deployment
from tests.lambda_events import LIVE_S, Json, answered, event, routed, with_header
from tests.lambda_function import function
from tests.servers import S3Server

KINDS = ("rest-v1", "http-v2", "http-v2-default-stage")

Call: TypeAlias = Callable[[Json], Json]
Start: TypeAlias = Callable[[str, Mapping[str, str]], AbstractContextManager[Call]]


@pytest.fixture(scope="module")
def deployer(
    s3_server: S3Server, dynamodb_server: str, simulated_provider: str, model_dir: Path, embedder: Embedder
) -> Deployer:
    return Deployer(s3_server, dynamodb_server, simulated_provider, model_dir, embedder)


@pytest.fixture(scope="module")
def deployment(deployer: Deployer) -> Deployment:
    return deployer.deploy()


@pytest.fixture(scope="module", params=["checkout", "artifact"])
def start(request: pytest.FixtureRequest) -> Start:
    """Starts a function as it lies here, asleep between events; or as it is built, under Lambda's own emulator."""
    started: Start = function if request.param == "checkout" else request.getfixturevalue("start_artifact")
    return started


@pytest.fixture(scope="module")
def data(start: Start, deployment: Deployment) -> Iterator[Call]:
    with start("handler.data.entry", deployment.environment) as running:
        yield running


@pytest.fixture(scope="module")
def control(start: Start, deployment: Deployment) -> Iterator[Call]:
    with start("handler.control.entry", deployment.environment) as running:
        yield running


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
    # With roles and fields the messages are 24 tokens; 500 are expected out: 24 × $0.10 + 500 × $0.50, per million.
    return {
        "x-nearvote-model": "sim-small",
        "x-nearvote-cause": "vote",
        "x-nearvote-index-version": deployment.version,
        "x-nearvote-expected-cost": "0.00025240",
    }


@pytest.mark.parametrize("kind", KINDS)
def test_auto_is_routed_and_answered_as_the_provider_answers(
    kind: str, data: Call, deployment: Deployment, simulated_provider: str
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
    kind: str, data: Call, deployment: Deployment, simulated_provider: str
) -> None:
    asked = event(kind, "chat-stream", deployment.key)
    status, headers, body = answered(data(asked), changing=EVERY_TIME)
    expected = said_by_the_provider(simulated_provider, asked)
    assert status == 200
    assert sse(body) == sse(expected.text)
    assert sse(body)[-1] == "[DONE]"
    assert headers == {**evidence(deployment), "content-type": expected.headers["content-type"]}


@pytest.mark.parametrize("kind", KINDS)
def test_a_decision_is_shown_without_a_call(kind: str, data: Call, deployment: Deployment) -> None:
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
        "rule": None,
        "requested": "auto",
        "dial": 0.0,
        "promised_quality": None,
        "promised_spend": None,
        "expected_cost": 0.0002524,
        "cached_tokens": 0,
        "fallbacks": ["sim-large"],
        "attempts": [],
        "index_version": deployment.version,
        "fleet_version": deployment.fleet_version,
        "embedder": deployment.fingerprint,
    }


@pytest.mark.parametrize("kind", KINDS)
def test_the_models_are_listed(kind: str, data: Call, deployment: Deployment) -> None:
    status, headers, body = answered(data(event(kind, "models", deployment.key)))
    names = ("auto", "nearvote/auto", "sim-small", "sim-large")
    listed = [{"id": name, "object": "model", "created": 0, "owned_by": "nearvote"} for name in names]
    assert (status, json.loads(body)) == (200, {"object": "list", "data": listed})
    assert headers == {"content-type": "application/json", "content-length": str(len(body))}


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_key_is_refused_in_the_one_error_shape(kind: str, data: Call) -> None:
    told = answered(data(event(kind, "chat", f"nv-{'0' * 12}-{'0' * 43}")))
    hint = "send it as `Authorization: Bearer nv-…` or `x-api-key: nv-…`; `nearvote keys create` makes one"
    message = f"this API key is unknown, wrong, revoked or expired; {hint}"
    assert told == refusal(401, "authentication_error", "invalid_api_key", message)


def refusal(status: int, kind: str, code: str, message: str) -> tuple[int, dict[str, str], str]:
    error = {"message": message, "type": kind, "param": None, "code": code}
    body = json.dumps({"error": error}, ensure_ascii=False, separators=(",", ":"))
    headers = {
        "content-type": "application/json",
        "content-length": str(len(body.encode())),
        "x-nearvote-retryable": "false",
        "x-should-retry": "false",
    }
    return status, headers, body


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_that_the_control_plane_makes_works_in_the_data_plane(
    kind: str, control: Call, data: Call, deployment: Deployment
) -> None:
    status, headers, body = answered(control(event(kind, "keys-create", deployment.admin_key)))
    created = json.loads(body)
    secret = created.pop("key")
    assert (status, headers) == (201, {"content-type": "application/json", "content-length": str(len(body))})
    assert {name: value for name, value in created.items() if name not in ("id", "created_at")} == {
        "name": "night batch",
        "admin": False,
        "routing": "on",
        "dial": 9.0,
        "default_model": None,
        "allow": [],
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

    status, headers, body = answered(control(event(kind, "keys-list", deployment.admin_key)))
    listed = json.loads(body)["data"]
    assert (status, headers) == (200, {"content-type": "application/json", "content-length": str(len(body))})
    assert created in listed
    assert {key["name"] for key in listed} == {"help desk", "night batch", "operator"}
    assert secret not in body

    assert answered(data(event(kind, "models", secret)))[0] == 200


def test_the_control_plane_is_for_admin_keys(control: Call, deployment: Deployment) -> None:
    told = answered(control(event("rest-v1", "keys-list", deployment.key)))
    message = "this needs an admin key; `nearvote keys create --admin` makes one"
    assert told == refusal(403, "permission_error", "admin_only", message)


def test_an_uploaded_file_changes_the_routes_of_a_warm_function_in_time(start: Start, deployer: Deployer) -> None:
    stack = deployer.deploy()
    with (
        start("handler.data.entry", stack.environment) as data,
        start("handler.control.entry", stack.environment) as control,
    ):
        asked = event("rest-v1", "route", stack.key)
        assert routed(data(asked)) == ("sim-small", stack.version)

        status, headers, body = answered(control(event("rest-v1", "examples-upload", stack.admin_key)))
        uploaded = time.monotonic()
        report = json.loads(body)
        version = report["version"]
        assert (status, headers) == (200, {"content-type": "application/json", "content-length": str(len(body))})
        assert as_computed(report) == uploaded_to(stack)

        while (now := routed(data(asked))) != ("sim-large", version):
            assert now == ("sim-small", stack.version)
            assert time.monotonic() - uploaded < LIVE_S
            time.sleep(0.1)


def test_progress_comes_as_plain_lines(start: Start, deployer: Deployer) -> None:
    """Mangum would send NDJSON as base64, and a REST API would pass that on as it is."""
    stack = deployer.deploy()
    with start("handler.control.entry", stack.environment) as control:
        upload = event("rest-v1", "examples-upload", stack.admin_key)
        status, headers, body = answered(control(with_header(upload, "Accept", "application/x-ndjson")))
    *steps, last = [json.loads(line) for line in body.splitlines()]
    assert (status, headers["content-type"]) == (200, "application/x-ndjson")
    assert steps == [{"done": done, "total": 3} for done in (1, 2, 3)]
    assert as_computed(last["result"]) == uploaded_to(stack)
    assert set(last) == {"result"}


def uploaded_to(stack: Deployment) -> Json:
    """The report of the stored upload."""
    return {
        "added": 3,
        "replaced": 0,
        "skipped": [],
        "number": 2,
        "parent": stack.version,
        "message": "what the loan desk asks",
        "examples": 7,
        "segments": 2,
        "embedder": stack.fingerprint,
    }


def as_computed(report: Json) -> Json:
    """Less what has to do with the time, and the outcome of tuning."""
    return {name: value for name, value in report.items() if name not in ("version", "created_at", "vote", "promised")}
