import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionToolParam

from scripts.simulated_provider import Fault, build_app, draw_faults
from tests.providers import ROOT, announced_url

SMALL_ANSWER = (
    '[simulated sim-small] You wrote "What is the capital of France, please?". '
    "A small model answers this in a sentence. This text is canned: no model ran."
)
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "days": {"type": "integer"},
                "unit": {"enum": ["celsius", "kelvin"]},
                "place": {"$ref": "#/$defs/Place"},
                "optional": {"type": "string"},
            },
            "required": ["city", "days", "unit", "place"],
            "$defs": {
                "Place": {
                    "type": "object",
                    "properties": {"known": {"type": "boolean"}},
                    "required": ["known"],
                }
            },
        },
    },
}
WEATHER_ARGUMENTS = {"city": "simulated", "days": 0, "unit": "celsius", "place": {"known": False}}
OTHER: ChatCompletionToolParam = {"type": "function", "function": {"name": "other"}}


@pytest.fixture(scope="module")
def sdk(simulated_provider: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=simulated_provider, api_key="sk-made-up", max_retries=0, timeout=10) as client:
        yield client


@pytest.fixture(scope="module")
def http(simulated_provider: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=simulated_provider, timeout=10) as client:
        yield client


def chat_body(text: str = "Hello", **fields: Any) -> dict[str, Any]:
    return {"model": "sim-small", "messages": [{"role": "user", "content": text}], **fields}


def stats(http: httpx.Client) -> dict[str, int]:
    counts: dict[str, int] = http.get("/_stats").json()
    return counts


def grown(http: httpx.Client, before: dict[str, int]) -> dict[str, int]:
    return {name: count - before[name] for name, count in stats(http).items()}


def wait_until(holds: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_the_models_are_listed(sdk: openai.OpenAI) -> None:
    assert [model.id for model in sdk.models.list()] == ["sim-small", "sim-medium", "sim-large"]


def test_an_answer_says_that_it_is_simulated_and_counts_its_tokens(sdk: openai.OpenAI) -> None:
    reply = sdk.chat.completions.create(
        model="sim-small", messages=[{"role": "user", "content": "What is the capital of France, please?"}]
    )
    assert reply.choices[0].message.content == SMALL_ANSWER
    assert reply.choices[0].finish_reason == "stop"
    assert (reply.model, reply.system_fingerprint, reply.object) == (
        "sim-small",
        "simulated",
        "chat.completion",
    )
    assert reply.usage is not None
    assert reply.usage.to_dict() == {
        "prompt_tokens": 10,
        "completion_tokens": 26,
        "total_tokens": 36,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


@pytest.mark.parametrize("model", ["sim-small", "sim-medium", "sim-large"])
def test_each_model_answers_in_12_to_60_tokens(sdk: openai.OpenAI, model: str) -> None:
    reply = sdk.chat.completions.create(model=model, messages=[{"role": "user", "content": "word " * 500}])
    assert reply.usage is not None
    assert 12 <= reply.usage.completion_tokens <= 60


def test_text_parts_are_read_and_others_are_not(sdk: openai.OpenAI) -> None:
    reply = sdk.chat.completions.create(
        model="sim-small",
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is the capital"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                    {"type": "text", "text": "of France, please?"},
                ],
            }
        ],
    )
    assert reply.choices[0].message.content == SMALL_ANSWER


def test_a_stream_gives_the_same_text_without_usage(sdk: openai.OpenAI) -> None:
    stream = sdk.chat.completions.create(
        model="sim-small",
        messages=[{"role": "user", "content": "What is the capital of France, please?"}],
        stream=True,
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == SMALL_ANSWER
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * 27 + ["stop"]
    assert not any("usage" in chunk.to_dict() for chunk in chunks)
    assert len({chunk.id for chunk in chunks}) == 1


def test_usage_comes_in_a_last_chunk_without_choices_when_asked_for(sdk: openai.OpenAI) -> None:
    stream = sdk.chat.completions.create(
        model="sim-small",
        messages=[{"role": "user", "content": "Hello"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    *others, last = list(stream)
    assert last.choices == []
    assert last.usage is not None
    assert (last.usage.prompt_tokens, last.usage.completion_tokens, last.usage.total_tokens) == (2, 20, 22)
    assert all(chunk.to_dict()["usage"] is None for chunk in others)


def test_each_event_is_one_data_line_and_done_is_the_last(http: httpx.Client) -> None:
    reply = http.post("/chat/completions", json=chat_body(stream=True, max_tokens=2))
    *events, done, rest = reply.text.split("\n\n")
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert (done, rest) == ("data: [DONE]", "")
    choices = [json.loads(event.removeprefix("data: "))["choices"][0] for event in events]
    assert all(event.startswith("data: {") and "\n" not in event for event in events)
    assert [(choice["delta"], choice["finish_reason"]) for choice in choices] == [
        ({"role": "assistant", "content": "", "refusal": None}, None),
        ({"content": "[simulated"}, None),
        ({"content": " sim-small]"}, None),
        ({}, "length"),
    ]


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_an_answer_ends_at_the_token_limit(http: httpx.Client, field: str) -> None:
    reply = http.post("/chat/completions", json={**chat_body(), field: 3}).json()
    assert reply["choices"][0]["message"]["content"] == "[simulated sim-small] You"
    assert reply["choices"][0]["finish_reason"] == "length"
    assert reply["usage"]["completion_tokens"] == 3


def test_a_required_tool_is_called_with_its_required_arguments(sdk: openai.OpenAI) -> None:
    reply = sdk.chat.completions.create(
        model="sim-small",
        messages=[{"role": "user", "content": "Hello"}],
        tools=[WEATHER, OTHER],
        tool_choice="required",
    )
    calls = reply.choices[0].message.tool_calls
    assert reply.choices[0].finish_reason == "tool_calls"
    assert reply.choices[0].message.content is None
    assert calls is not None
    assert calls[0].type == "function"
    assert calls[0].function.name == "get_weather"
    assert json.loads(calls[0].function.arguments) == WEATHER_ARGUMENTS


def test_a_tool_call_streams_its_name_first_and_its_arguments_in_pieces(sdk: openai.OpenAI) -> None:
    stream = sdk.chat.completions.create(
        model="sim-small",
        messages=[{"role": "user", "content": "Use a tool for the weather"}],
        tools=[WEATHER],
        stream=True,
    )
    *chunks, last = list(stream)
    first, *rest = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    assert last.choices[0].finish_reason == "tool_calls"
    assert first.id is not None
    assert first.function is not None
    assert (first.function.name, first.function.arguments) == ("get_weather", "")
    assert len(rest) > 1
    assert all(call.id is None for call in rest)
    arguments = "".join(call.function.arguments or "" for call in rest if call.function)
    assert json.loads(arguments) == WEATHER_ARGUMENTS


def test_the_named_function_is_called(http: httpx.Client) -> None:
    choice = {"type": "function", "function": {"name": "other"}}
    reply = http.post("/chat/completions", json=chat_body(tools=[WEATHER, OTHER], tool_choice=choice)).json()
    assert reply["choices"][0]["message"]["tool_calls"][0]["function"] == {"name": "other", "arguments": "{}"}


@pytest.mark.parametrize(
    ("text", "choice", "later"),
    [
        ("Hello", "auto", []),
        ("Use a tool", "none", []),
        ("Use a tool", "auto", [{"role": "tool", "tool_call_id": "call_1", "content": "sunny"}]),
    ],
)
def test_no_tool_is_called_unasked_forbidden_or_after_its_result(
    http: httpx.Client, text: str, choice: str, later: list[dict[str, str]]
) -> None:
    body = chat_body(text, tools=[WEATHER], tool_choice=choice)
    body["messages"] += later
    reply = http.post("/chat/completions", json=body).json()
    assert reply["choices"][0]["finish_reason"] == "stop"


OPEN_SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}, "tags": {"type": "array"}}}


@pytest.mark.parametrize(
    ("response_format", "content"),
    [
        ({"type": "json_object"}, {"simulated": True}),
        (
            {"type": "json_schema", "json_schema": {"name": "open", "schema": OPEN_SCHEMA}},
            {"simulated": True, "name": "simulated", "tags": []},
        ),
        (
            {
                "type": "json_schema",
                "json_schema": {"name": "closed", "schema": {**OPEN_SCHEMA, "additionalProperties": False}},
            },
            {"name": "simulated", "tags": []},
        ),
    ],
)
def test_structured_content_fits_what_was_asked_for(
    http: httpx.Client, response_format: dict[str, Any], content: dict[str, Any]
) -> None:
    reply = http.post("/chat/completions", json=chat_body(response_format=response_format)).json()
    assert json.loads(reply["choices"][0]["message"]["content"]) == content


@pytest.mark.parametrize(
    ("changes", "status", "param", "code"),
    [
        ({"model": "gpt-none"}, 404, "model", "model_not_found"),
        ({"n": 2}, 400, "n", None),
        ({"messages": []}, 400, "messages", None),
        ({"messages": ["text"]}, 400, "messages", None),
        ({"max_tokens": 0}, 400, "max_tokens", None),
        ({"tools": ["text"]}, 400, "tools", None),
        ({"tool_choice": {"function": {"name": "absent"}}}, 400, "tool_choice", None),
        ({"response_format": {"type": "json_schema"}}, 400, "response_format", None),
        ({"simulate": "flood"}, 400, "simulate", None),
    ],
)
def test_what_cannot_be_answered_is_refused_as_openai_does(
    http: httpx.Client, changes: dict[str, Any], status: int, param: str, code: str | None
) -> None:
    reply = http.post("/chat/completions", json={**chat_body(), **changes})
    error = reply.json()["error"]
    assert (reply.status_code, error["type"]) == (status, "invalid_request_error")
    assert (error["param"], error["code"]) == (param, code)


def test_a_recursive_or_malformed_schema_is_no_crash(http: httpx.Client) -> None:
    recursive = {"type": "object", "properties": {"next": {"$ref": "#"}}}
    missing = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Nowhere"}}}
    formats = [{"type": "json_schema", "json_schema": {"schema": schema}} for schema in (recursive, missing)]
    replies = [http.post("/chat/completions", json=chat_body(response_format=each)) for each in formats]
    assert [reply.status_code for reply in replies] == [200, 400]


@pytest.mark.parametrize("data", [b"", b"not json", b"[1]", b"\xff"])
def test_a_body_that_is_no_json_object_is_refused(http: httpx.Client, data: bytes) -> None:
    reply = http.post("/chat/completions", content=data)
    assert (reply.status_code, reply.json()["error"]["type"]) == (400, "invalid_request_error")


def test_an_unknown_path_is_refused_in_the_same_shape(http: httpx.Client) -> None:
    reply = http.post("/embeddings", json={})
    assert (reply.status_code, reply.json()["error"]["type"]) == (404, "invalid_request_error")


def test_a_simulated_rate_limit_says_when_to_retry(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.RateLimitError) as raised:
        sdk.chat.completions.create(model="sim-small", messages=[], extra_headers={"x-simulate": "429"})
    assert raised.value.response.headers["retry-after"] == "1"
    assert raised.value.code == "rate_limit_exceeded"


def test_a_simulated_server_error_may_be_asked_for_in_the_body(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as raised:
        sdk.chat.completions.create(model="sim-small", messages=[], extra_body={"simulate": "500"})
    assert raised.value.type == "server_error"


def test_a_hang_lasts_until_the_client_leaves(http: httpx.Client) -> None:
    wait_until(lambda: stats(http)["active"] == 0)  # of an earlier test's calls
    before = stats(http)
    with pytest.raises(httpx.ReadTimeout):
        http.post("/chat/completions", json=chat_body(simulate="hang"), timeout=0.3)
    wait_until(lambda: grown(http, before) == {"started": 1, "finished": 0, "cancelled": 1, "active": 0})


def test_a_client_that_leaves_a_stream_cancels_it(sdk: openai.OpenAI, http: httpx.Client) -> None:
    before = stats(http)
    stream = sdk.chat.completions.create(
        model="sim-large", messages=[{"role": "user", "content": "Hello"}], stream=True
    )
    assert len(list(itertools.islice(stream, 3))) == 3
    assert grown(http, before) == {"started": 1, "finished": 0, "cancelled": 0, "active": 1}
    stream.close()
    wait_until(lambda: grown(http, before) == {"started": 1, "finished": 0, "cancelled": 1, "active": 0})


def test_answers_and_errors_that_were_sent_count_as_finished(http: httpx.Client) -> None:
    before = stats(http)
    bodies = [chat_body(), chat_body(stream=True), chat_body(simulate="429"), chat_body(model="none")]
    for body in bodies:
        http.post("/chat/completions", json=body)
    assert grown(http, before) == {"started": 4, "finished": 4, "cancelled": 0, "active": 0}


@pytest.mark.parametrize(
    ("changes", "waits"),
    [
        ({}, [0.04, 1 / 400, 1 / 400, 0, 0]),
        ({"model": "sim-medium"}, [0.08, 1 / 200, 1 / 200, 0, 0]),
        ({"model": "sim-large"}, [0.15, 1 / 100, 1 / 100, 0, 0]),
        ({"model": "sim-large", "stream": False}, [0.15 + 2 / 100]),
        ({"simulate": "slow"}, [2.0, 1 / 400, 1 / 400, 0, 0]),
        ({"simulate": "hang"}, [120]),
    ],
)
async def test_each_model_answers_at_its_own_pace(changes: dict[str, Any], waits: list[float]) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    transport = httpx.ASGITransport(build_app(clock=lambda: 1234.5, sleep=sleep))
    body = {**chat_body(stream=True, max_tokens=2), **changes}
    async with httpx.AsyncClient(transport=transport, base_url="http://app/v1") as client:
        reply = await client.post("/chat/completions", json=body)
    assert slept == waits
    assert '"created":1234,' in reply.text or reply.status_code == 504


def test_a_share_of_the_requests_fails_at_random_in_every_way_but_a_hang() -> None:
    draw = draw_faults(0.1, seed=7)
    drawn = [draw() for _ in range(10_000)]
    assert 900 < sum(fault is not None for fault in drawn) < 1100
    assert set(drawn) == {None, *Fault} - {Fault.HANG}


async def test_a_fault_that_is_drawn_spoils_a_request_that_asked_for_none() -> None:
    transport = httpx.ASGITransport(build_app(draw=lambda: Fault.SERVER_ERROR))
    async with httpx.AsyncClient(transport=transport, base_url="http://app/v1") as client:
        reply = await client.post("/chat/completions", json=chat_body())
    assert (reply.status_code, reply.json()["error"]["message"]) == (500, "Simulated server error.")


PARENT = """
import os, subprocess, sys
command = [sys.executable, "-m", "scripts.simulated_provider", "--parent-pid", str(os.getpid())]
subprocess.Popen(command).wait()
"""


def test_the_provider_ends_when_its_parent_is_gone() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    with parent:
        try:
            address = urlsplit(announced_url(parent))
            assert is_listening(address.port)
            parent.kill()
            wait_until(lambda: not is_listening(address.port))
        finally:
            with suppress(ProcessLookupError):
                os.killpg(parent.pid, signal.SIGKILL)


def is_listening(port: int | None) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_a_port_that_is_taken_is_said_plainly() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "scripts.simulated_provider", "--port", port]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"cannot listen on 127.0.0.1:{port}: Address already in use\n"
