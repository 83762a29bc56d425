"""The faults that can be asked for, in each of the simulated provider's protocols."""

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import httpx
import pytest


@dataclass(frozen=True, eq=False)
class Api:
    path: str
    question: dict[str, Any]
    opening: int
    """Events before the first token."""


HELLO = [{"role": "user", "content": "Hello"}]
CHAT = Api("/chat/completions", {"messages": HELLO}, 1)
MESSAGES = Api("/messages", {"messages": HELLO, "max_tokens": 50}, 3)
RESPONSES = Api("/responses", {"input": "Hello"}, 4)
every_api = pytest.mark.parametrize("api", [CHAT, MESSAGES, RESPONSES], ids=lambda api: api.path)


@pytest.fixture(scope="module")
def http(simulated_provider: str) -> Iterator[httpx.Client]:
    headers = {"x-api-key": "made-up-key", "anthropic-version": "2023-06-01"}
    with httpx.Client(base_url=simulated_provider, headers=headers, timeout=10) as client:
        yield client


def body(api: Api, **fields: Any) -> dict[str, Any]:
    return {"model": "sim-small", **api.question, **fields}


def openai_error(message: str, kind: str, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def anthropic_error(message: str, kind: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}}


LIMITED, FAILED, OVERLOADED = "Simulated rate limit.", "Simulated server error.", "Simulated overload."
OPENAI_LIMITED = openai_error(LIMITED, "rate_limit_error", "rate_limit_exceeded")


@pytest.mark.parametrize(
    ("api", "fault", "status", "error"),
    [
        (CHAT, "429", 429, OPENAI_LIMITED),
        (RESPONSES, "429", 429, OPENAI_LIMITED),
        (MESSAGES, "429", 429, anthropic_error(LIMITED, "rate_limit_error")),
        (CHAT, "500", 500, openai_error(FAILED, "server_error")),
        (RESPONSES, "500", 500, openai_error(FAILED, "server_error")),
        (MESSAGES, "500", 500, anthropic_error(FAILED, "api_error")),
        (CHAT, "overloaded", 503, openai_error(OVERLOADED, "server_error")),
        (RESPONSES, "overloaded", 503, openai_error(OVERLOADED, "server_error")),
        (MESSAGES, "overloaded", 529, anthropic_error(OVERLOADED, "overloaded_error")),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_failure_has_the_status_and_the_shape_of_its_protocol(
    http: httpx.Client, api: Api, fault: str, status: int, error: dict[str, Any], stream: bool
) -> None:
    reply = http.post(api.path, json=body(api, stream=stream), headers={"x-simulate": fault})
    told = reply.json()
    request_id = told.pop("request_id", None)
    assert (reply.status_code, told) == (status, error)
    assert request_id == (reply.headers["request-id"] if api is MESSAGES else None)
    assert reply.headers.get("retry-after") == ("1" if fault == "429" else None)


@every_api
def test_garbage_is_a_success_that_is_not_json(http: httpx.Client, api: Api) -> None:
    reply = http.post(api.path, json=body(api, simulate="garbage"))
    assert reply.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        reply.json()


@every_api
def test_an_empty_stream_ends_before_its_first_byte(http: httpx.Client, api: Api) -> None:
    reply = http.post(api.path, json=body(api, stream=True, simulate="empty"))
    assert (reply.status_code, reply.content) == (200, b"")
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"


def events_of(text: str) -> list[dict[str, Any]]:
    """The data of each event; an event's name must be its data's type."""
    events = []
    for event in text.strip().split("\n\n"):
        *names, data = event.split("\n")
        value = json.loads(data.removeprefix("data: "))
        assert names == ([f"event: {value['type']}"] if "type" in value else [])
        events.append(value)
    return events


FLAT_ERROR = {"type": "error", "code": "server_error", "message": FAILED, "param": None, "sequence_number": 7}


@pytest.mark.parametrize(
    ("api", "expected"),
    [
        (CHAT, openai_error(FAILED, "server_error")),
        (MESSAGES, anthropic_error(FAILED, "api_error")),
        (RESPONSES, FLAT_ERROR),
    ],
)
def test_an_error_event_comes_after_three_tokens_and_is_the_last(
    http: httpx.Client, api: Api, expected: dict[str, Any]
) -> None:
    reply = http.post(api.path, json=body(api, stream=True, simulate="error_event"))
    *begun, error = events_of(reply.text)
    error.pop("request_id", None)
    assert (reply.status_code, len(begun), error) == (200, api.opening + 3, expected)


@every_api
def test_an_answer_that_is_no_stream_fails_instead_of_an_error_event(http: httpx.Client, api: Api) -> None:
    reply = http.post(api.path, json=body(api, simulate="error_event"))
    assert (reply.status_code, reply.json()["error"]["message"]) == (500, FAILED)


def received_until_cut(reply: httpx.Response) -> bytes:
    received = b""
    with suppress(httpx.RemoteProtocolError):
        for part in reply.iter_bytes():
            received += part
        pytest.fail("the connection was not cut")
    return received


@every_api
def test_a_cut_stream_ends_after_three_tokens(http: httpx.Client, api: Api) -> None:
    with http.stream("POST", api.path, json=body(api, stream=True, simulate="cut")) as reply:
        received = received_until_cut(reply)
    assert len(events_of(received.decode())) == api.opening + 3


@every_api
def test_a_cut_answer_ends_in_the_middle_of_its_body(http: httpx.Client, api: Api) -> None:
    with http.stream("POST", api.path, json=body(api, simulate="cut")) as reply:
        received = received_until_cut(reply)
    assert len(received) == int(reply.headers["content-length"]) // 2


@every_api
def test_a_slow_answer_begins_after_2_s(http: httpx.Client, api: Api) -> None:
    start = time.monotonic()
    with http.stream("POST", api.path, json=body(api, stream=True, simulate="slow")) as reply:
        next(reply.iter_bytes())
        assert time.monotonic() - start >= 2.0


@every_api
def test_a_hang_lasts_longer_than_the_client(http: httpx.Client, api: Api) -> None:
    with pytest.raises(httpx.ReadTimeout):
        http.post(api.path, json=body(api, simulate="hang"), timeout=0.3)


@every_api
def test_the_last_request_can_be_looked_at_but_not_its_keys(http: httpx.Client, api: Api) -> None:
    before = http.get("/_stats").json()
    asked = body(api, unknown_field={"kept": [1, 2.5, None]})
    http.post(api.path, json=asked, headers={"authorization": "Bearer made-up-key", "x-extra": "yes"})
    last = http.get("/_last")
    assert last.json()["body"] == asked
    headers = last.json()["headers"]
    assert [headers[name] for name in ("x-extra", "authorization", "x-api-key")] == ["yes", True, True]
    assert "made-up-key" not in last.text
    after = http.get("/_stats").json()
    assert {name: after[name] - before[name] for name in ("started", "finished")} == {"started": 1, "finished": 1}


def test_every_answer_has_an_id_of_its_own(http: httpx.Client) -> None:
    ids = [http.post(api.path, json=body(api)).json()["id"] for api in [CHAT, MESSAGES, RESPONSES] * 2]
    assert len(set(ids)) == 6
