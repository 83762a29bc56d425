"""The data plane streams through the real Lambda Web Adapter, as it does behind API Gateway."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import httpx
import pytest

from handler.fleet import KEY as FLEET_KEY
from handler.keys import NewKey, Routing
from tests.infra.adapter import adapted
from tests.infra.artifact import Runtime
from tests.infra.runtime_api import Answer, Reader, RuntimeApi, runtime_api
from tests.nearvote_server import copy_home, create_key
from tests.providers import ROOT
from tests.scripted_upstream import EVENT_STREAM, ScriptedUpstream, scripted_upstream
from tests.scripted_upstream import WAIT_S as UNASKED_S

Json: TypeAlias = dict[str, Any]

EVENTS = ROOT / "tests" / "events" / "rest-v1"
FLEET = """
models:
  - {name: sim-small, like: small, price: {input: 0.10, output: 0.50}, deployments: [{base_url: "PROVIDER"}]}
  - {name: sim-large, like: large, price: {input: 2.00, output: 10.00}, deployments: [{base_url: "PROVIDER"}]}
  - {name: scripted, price: {input: 9.00, output: 90.00}, deployments: [{base_url: "SCRIPTED"}]}
"""
SOON_S = 10.0
STREAMED = {
    "lambda-runtime-function-response-mode": "streaming",
    "content-type": "application/vnd.awslambda.http-integration-response",
    "transfer-encoding": "chunked",
    "trailer": "Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body",
}
EVERY_TIME = ("date", "x-nearvote-decision-id", "x-nearvote-overhead-ms")


@dataclass(frozen=True, slots=True)
class Deployment:
    """All that a function needs to start. `key` wants the cheapest model."""

    adapter: Path
    start: Path
    environment: dict[str, str]
    log: Path
    key: str
    provider: str
    """Base URL of the simulated provider."""
    scripted: ScriptedUpstream
    """The upstream of the model `scripted`."""

    def event(self, name: str, key: str = "", **changed: object) -> Json:
        """A stored event, with these fields of its body changed."""
        event: Json = json.loads((EVENTS / f"{name}.json").read_text())
        authorization = f"Bearer {key or self.key}"
        event["headers"]["Authorization"] = authorization
        event["multiValueHeaders"]["Authorization"] = [authorization]
        if event["body"]:
            event["body"] = json.dumps({**json.loads(event["body"]), **changed})
        return event

    def cancelled(self) -> int:
        """Calls that the provider saw end before their answer did."""
        count: int = httpx.get(f"{self.provider}/_stats").json()["cancelled"]
        return count

    def said_upstream(self, event: Json, model: str) -> httpx.Response:
        return httpx.post(f"{self.provider}/chat/completions", json={**json.loads(event["body"]), "model": model})


@pytest.fixture(scope="module")
def deployment(
    lambda_runtime: Runtime,
    lambda_adapter: Path,
    artifact: Path,
    starter_home: Path,
    simulated_provider: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("adapter")
    home = copy_home(starter_home, folder / "home")
    environment = lambda_runtime.environment(artifact) | {"NEARVOTE_HOME": str(home)}
    with scripted_upstream() as scripted:
        fleet = FLEET.replace("PROVIDER", simulated_provider).replace("SCRIPTED", scripted.url)
        (home / FLEET_KEY).write_text(fleet)
        key = create_key(home, NewKey(name="help desk", routing=Routing.ON, dial=10))
        log = folder / "log"
        yield Deployment(lambda_adapter, artifact / "run.sh", environment, log, key, simulated_provider, scripted)


@pytest.fixture(scope="module")
def api(deployment: Deployment) -> Iterator[RuntimeApi]:
    """With one warm function behind it."""
    with (
        runtime_api() as api,
        adapted(deployment.adapter, api, deployment.start, deployment.environment, deployment.log),
    ):
        yield api


def prelude(answer: Answer, *, changing: tuple[str, ...] = EVERY_TIME) -> tuple[int, dict[str, str]]:
    """Status and headers of a whole streamed answer; `changing` headers must be there, and are left out."""
    told = answer.whole().prelude
    assert answer.kind == "response"
    assert {name: answer.headers[name] for name in STREAMED} == STREAMED
    assert answer.trailers == {}
    assert set(told) == {"statusCode", "headers", "cookies"}
    assert told["cookies"] == []
    headers = {name: value for name, value in told["headers"].items() if name != "server"}
    for name in changing:
        assert headers.pop(name)
    return told["statusCode"], headers


def events_in(text: str) -> list[Json | str]:
    """Of a stream, less what the provider counts and clocks."""
    assert text.endswith("\n\n")
    lines = [part.removeprefix("data: ") for part in text.split("\n\n") if part]
    return [line if line == "[DONE]" else without_number(json.loads(line)) for line in lines]


def without_number(chunk: Json) -> Json:
    return {name: value for name, value in chunk.items() if name not in ("id", "created")}


def soon(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + SOON_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_the_adapter_registers_as_an_extension_and_init_goes_well(api: RuntimeApi) -> None:
    assert api.extensions == ["lambda-adapter"]
    assert api.init_errors == []


def test_a_routed_stream_comes_whole_behind_a_prelude_with_its_evidence(
    api: RuntimeApi, deployment: Deployment
) -> None:
    asked = deployment.event("chat-stream")
    answer = api.invoke(asked)
    status, headers = prelude(answer, changing=(*EVERY_TIME, "x-nearvote-index-version", "x-nearvote-confidence"))
    expected = deployment.said_upstream(asked, "sim-small")
    assert status == 200
    assert headers == {
        "content-type": expected.headers["content-type"],
        "x-nearvote-model": "sim-small",
        "x-nearvote-cause": "vote",
        # 65 characters are 16 tokens in; 500 are expected out: 16 × $0.10 + 500 × $0.50, per million.
        "x-nearvote-expected-cost": "0.00025240",
    }
    assert events_in(answer.text) == events_in(expected.text)
    assert events_in(answer.text)[-1] == "[DONE]"


def test_each_chunk_leaves_the_function_before_the_upstream_sends_the_next(
    api: RuntimeApi, deployment: Deployment
) -> None:
    events = [b'data: {"choices":[{"index":0,"delta":{"content":"%d"}}]}\n\n' % number for number in range(8)]
    events.append(b"data: [DONE]\n\n")
    gates = [threading.Event() for _ in events]
    deployment.scripted.steps = [EVENT_STREAM, *(step for pair in zip(gates, events, strict=True) for step in pair)]
    answer = api.invoke(deployment.event("chat-stream", model="scripted"))
    for number, gate in enumerate(gates):
        sent = time.monotonic()
        gate.set()
        assert answer.await_chunk(number).at - sent < UNASKED_S  # after that, the upstream sends the next by itself
    status, headers = prelude(answer)
    assert (status, headers["content-type"]) == (200, "text/event-stream")
    assert [chunk.data for chunk in answer.body] == events


def test_an_upstream_that_breaks_off_ends_with_our_error_event(api: RuntimeApi, deployment: Deployment) -> None:
    answer = api.invoke(deployment.event("chat-stream", model="sim-small", simulate="cut"))
    status, _ = prelude(answer)
    *said, last = [json.loads(part.removeprefix("data: ")) for part in answer.text.split("\n\n") if part]
    assert status == 200
    assert [chunk["object"] for chunk in said] == ["chat.completion.chunk"] * 4
    assert last == {
        "error": {
            "message": "sim-small broke off in the middle of its answer",
            "type": "upstream_error",
            "param": None,
            "code": "upstream_failed",
        }
    }


def test_an_answer_that_is_not_streamed_takes_the_same_way(api: RuntimeApi, deployment: Deployment) -> None:
    asked = deployment.event("chat", model="sim-small")
    answer = api.invoke(asked)
    status, headers = prelude(answer, changing=(*EVERY_TIME, "x-nearvote-index-version"))
    body = json.loads(answer.text)
    assert status == 200
    assert without_number(body) == without_number(deployment.said_upstream(asked, "sim-small").json())
    usage = body["usage"]
    cost = (usage["prompt_tokens"] * 0.10 + usage["completion_tokens"] * 0.50) / 1_000_000
    assert headers == {
        "content-type": "application/json",
        "content-length": str(len(answer.text)),
        "x-nearvote-model": "sim-small",
        "x-nearvote-cause": "named",
        "x-nearvote-expected-cost": "0.00025240",
        "x-nearvote-cost": f"{cost:.8f}",
    }


@pytest.mark.parametrize(
    ("key", "model", "status", "kind", "code"),
    [
        (f"nv-{'0' * 12}-{'0' * 43}", "auto", 401, "authentication_error", "invalid_api_key"),
        ("", "no-such-model", 404, "invalid_request_error", "model_not_found"),
    ],
)
def test_an_error_keeps_its_status_and_its_one_shape(
    key: str, model: str, status: int, kind: str, code: str, api: RuntimeApi, deployment: Deployment
) -> None:
    answer = api.invoke(deployment.event("chat-stream", key, model=model))
    told, headers = prelude(answer, changing=("date",))
    error = json.loads(answer.text)["error"]
    assert (told, error["type"], error["code"]) == (status, kind, code)
    assert headers == {
        "content-type": "application/json",
        "content-length": str(len(answer.text.encode())),
        "x-nearvote-retryable": "false",
        "x-should-retry": "false",
    }


def test_what_lambda_and_the_gateway_say_of_a_request_stays_here(api: RuntimeApi, deployment: Deployment) -> None:
    """The adapter adds both contexts, account and all, to what the app is asked."""
    api.invoke(deployment.event("chat", model="sim-small")).whole()
    seen = httpx.get(f"{deployment.provider}/_last").json()["headers"]
    assert not [name for name in seen if name.startswith(("x-amz", "x-forwarded"))]
    assert "cookie" not in seen


def test_neither_the_key_nor_the_prompt_is_logged(api: RuntimeApi, deployment: Deployment) -> None:
    asked = deployment.event("chat", model="sim-small")
    api.invoke(asked).whole()
    logged = deployment.log.read_text()
    assert '"event":"request"' in logged
    assert not [secret for secret in (deployment.key, "How do I reset my password?") if secret in logged]


def test_an_answer_that_nobody_wants_any_more_ends_the_call_upstream(api: RuntimeApi, deployment: Deployment) -> None:
    before = deployment.cancelled()
    api.invoke(deployment.event("chat-stream", model="sim-large"), Reader.TURNS_AWAY).whole()
    after = api.invoke(deployment.event("chat-stream"))
    assert prelude(after, changing=("date",))[0] == 200
    assert events_in(after.text)[-1] == "[DONE]"
    assert soon(lambda: deployment.cancelled() == before + 1)


def test_a_connection_that_is_dropped_ends_the_call_and_the_adapter_and_the_function_starts_anew(
    deployment: Deployment,
) -> None:
    """The worst that a Runtime API can do in the middle of an answer."""
    before = deployment.cancelled()
    with runtime_api() as api:
        start = (deployment.adapter, api, deployment.start, deployment.environment, deployment.log)
        with adapted(*start) as function:
            api.invoke(deployment.event("chat-stream", model="sim-large"), Reader.HANGS_UP).whole()
            assert function.adapter.wait(SOON_S) == 1
            assert soon(lambda: deployment.cancelled() == before + 1)
            assert function.app.poll() is None
        with adapted(*start):
            assert events_in(api.invoke(deployment.event("chat-stream")).whole().text)[-1] == "[DONE]"
