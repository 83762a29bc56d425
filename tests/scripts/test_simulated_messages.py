"""The simulated provider as Anthropic's own client sees it."""

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import pytest
from anthropic.types import MessageParam, ToolParam

ANSWER = (
    '[simulated sim-small] You wrote "What is the capital of France, please?". '
    "A small model answers this in a sentence. This text is canned: no model ran."
)
QUESTION: MessageParam = {"role": "user", "content": "What is the capital of France, please?"}
WEATHER: ToolParam = {
    "name": "get_weather",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "optional": {"type": "string"}},
        "required": ["city", "days"],
    },
}
WEATHER_INPUT = {"city": "simulated", "days": 0}
OTHER: ToolParam = {"name": "other", "input_schema": {"type": "object"}}
HEADERS = {"x-api-key": "made-up", "anthropic-version": "2023-06-01"}


@pytest.fixture(scope="module")
def sdk(simulated_provider: str) -> Iterator[anthropic.Anthropic]:
    base_url = simulated_provider.removesuffix("/v1")
    with anthropic.Anthropic(base_url=base_url, api_key="made-up", max_retries=0, timeout=10) as client:
        yield client


@pytest.fixture(scope="module")
def http(simulated_provider: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=simulated_provider, timeout=10) as client:
        yield client


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "sim-small", "max_tokens": 100, "messages": [QUESTION], **fields}


def test_an_answer_says_that_it_is_simulated_and_counts_its_tokens(sdk: anthropic.Anthropic) -> None:
    message = sdk.messages.create(model="sim-small", max_tokens=100, messages=[QUESTION])
    assert message.to_dict() == {
        "id": message.id,
        "type": "message",
        "role": "assistant",
        "model": "sim-small",
        "content": [{"type": "text", "text": ANSWER}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 10,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 26,
        },
    }
    assert message._request_id == f"req_simulated_{message.id.removeprefix('msg_simulated_')}"


def test_system_and_content_may_be_blocks(sdk: anthropic.Anthropic) -> None:
    message = sdk.messages.create(
        model="sim-small",
        max_tokens=100,
        system=[{"type": "text", "text": "Be brief."}],
        messages=[
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": [{"type": "text", "text": "Hello yourself"}]},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is the capital"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
                    {"type": "text", "text": "of France, please?"},
                ],
            },
        ],
    )
    assert [block.to_dict() for block in message.content] == [{"type": "text", "text": ANSWER}]
    # 9 + 5 + 14 + 19 + 18 characters
    assert message.usage.input_tokens == 17


def test_a_stream_gives_the_same_message(sdk: anthropic.Anthropic) -> None:
    with sdk.messages.stream(model="sim-small", max_tokens=100, messages=[QUESTION]) as stream:
        assert "".join(stream.text_stream) == ANSWER
        message = stream.get_final_message()
    assert (message.stop_reason, message.usage.input_tokens, message.usage.output_tokens) == ("end_turn", 10, 26)


def test_each_event_has_its_name_and_one_line_of_data(http: httpx.Client) -> None:
    reply = http.post("/messages", json=body(stream=True, max_tokens=2), headers=HEADERS)
    *events, rest = reply.text.split("\n\n")
    lines = [event.split("\n") for event in events]
    data = [json.loads(line.removeprefix("data: ")) for _, line in lines]
    assert rest == ""
    assert [name for name, _ in lines] == [f"event: {each['type']}" for each in data]
    usage = {"input_tokens": 10, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
    started = data[0].pop("message")
    assert started.pop("id").startswith("msg_simulated_")
    assert started == {
        "type": "message",
        "role": "assistant",
        "model": "sim-small",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {**usage, "output_tokens": 1},
    }
    assert data == [
        {"type": "message_start"},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "[simulated"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": " sim-small]"}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "max_tokens", "stop_sequence": None},
            "usage": {**usage, "output_tokens": 2},
        },
        {"type": "message_stop"},
    ]


def test_an_answer_ends_before_a_stop_sequence(sdk: anthropic.Anthropic) -> None:
    message = sdk.messages.create(
        model="sim-small", max_tokens=100, messages=[QUESTION], stop_sequences=["canned", "France", "absent"]
    )
    assert message.content[0].type == "text"
    assert message.content[0].text == '[simulated sim-small] You wrote "What is the capital of '
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "France")


@pytest.mark.parametrize(
    ("choice", "name", "filled"),
    [
        ({"type": "any"}, "get_weather", WEATHER_INPUT),
        ({"type": "tool", "name": "other"}, "other", {}),
    ],
)
def test_a_forced_tool_is_used_with_its_required_input(
    http: httpx.Client, choice: dict[str, str], name: str, filled: dict[str, Any]
) -> None:
    reply = http.post("/messages", json=body(tools=[WEATHER, OTHER], tool_choice=choice), headers=HEADERS).json()
    [block] = reply["content"]
    assert block.pop("id").startswith("toolu_simulated_")
    assert block == {"type": "tool_use", "name": name, "input": filled}
    assert reply["stop_reason"] == "tool_use"


def test_an_agents_loop_uses_a_tool_once(sdk: anthropic.Anthropic) -> None:
    asked: MessageParam = {"role": "user", "content": "Use a tool for the weather"}
    with sdk.messages.stream(model="sim-small", max_tokens=100, messages=[asked], tools=[WEATHER]) as stream:
        used = stream.get_final_message()
    [block] = used.content
    assert block.type == "tool_use"
    assert (used.stop_reason, block.name, block.input) == ("tool_use", "get_weather", WEATHER_INPUT)
    answered: MessageParam = {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": block.id, "content": "sunny"}],
    }
    history: list[MessageParam] = [asked, {"role": "assistant", "content": used.content}, answered]
    last = sdk.messages.create(model="sim-small", max_tokens=100, messages=history, tools=[WEATHER])
    assert (last.stop_reason, last.content[0].type) == ("end_turn", "text")


@pytest.mark.parametrize(("text", "choice"), [("Hello", "auto"), ("Use a tool", "none")])
def test_no_tool_is_used_unasked_or_forbidden(http: httpx.Client, text: str, choice: str) -> None:
    asked = body(messages=[{"role": "user", "content": text}], tools=[WEATHER], tool_choice={"type": choice})
    assert http.post("/messages", json=asked, headers=HEADERS).json()["stop_reason"] == "end_turn"


def test_what_a_coding_agent_says_beside_the_user_is_not_the_question(http: httpx.Client) -> None:
    reminder = {"type": "text", "text": "<system-reminder>\nYou have a tool.\n</system-reminder>"}
    asked = {"role": "user", "content": [reminder, {"type": "text", "text": "Say hello"}]}
    aside = {"role": "system", "content": "Each tool is listed above."}
    reply = http.post("/messages", json=body(messages=[asked, aside], tools=[WEATHER]), headers=HEADERS).json()
    assert reply["content"] == [{"type": "text", "text": ANSWER.replace(str(QUESTION["content"]), "Say hello")}]


def test_input_that_the_limit_has_cut_is_left_out(sdk: anthropic.Anthropic) -> None:
    message = sdk.messages.create(
        model="sim-small", max_tokens=1, messages=[QUESTION], tools=[WEATHER], tool_choice={"type": "any"}
    )
    assert message.content[0].type == "tool_use"
    assert (message.stop_reason, message.content[0].input) == ("max_tokens", {})


def test_tokens_are_counted_as_an_answer_counts_them(sdk: anthropic.Anthropic) -> None:
    tools, system = [WEATHER], "Be brief."
    counted = sdk.messages.count_tokens(model="sim-small", messages=[QUESTION], tools=tools, system=system)
    message = sdk.messages.create(model="sim-small", max_tokens=1, messages=[QUESTION], tools=tools, system=system)
    assert counted.input_tokens == message.usage.input_tokens
    assert sdk.messages.count_tokens(model="sim-small", messages=[QUESTION]).input_tokens == 10


@pytest.mark.parametrize(
    ("fault", "raised"),
    [
        ("429", anthropic.RateLimitError),
        ("500", anthropic.InternalServerError),
        ("overloaded", anthropic.InternalServerError),
    ],
)
def test_a_fault_raises_what_anthropics_own_would(
    sdk: anthropic.Anthropic, fault: str, raised: type[anthropic.APIStatusError]
) -> None:
    with pytest.raises(raised):
        sdk.messages.create(model="sim-small", max_tokens=9, messages=[QUESTION], extra_headers={"x-simulate": fault})


def test_an_error_event_raises_in_the_middle_of_a_stream(sdk: anthropic.Anthropic) -> None:
    stream = sdk.messages.create(
        model="sim-small", max_tokens=9, messages=[QUESTION], stream=True, extra_body={"simulate": "error_event"}
    )
    received: list[str] = []
    with pytest.raises(anthropic.APIStatusError) as raised:
        received.extend(event.type for event in stream)
    assert received == ["message_start", "content_block_start", *["content_block_delta"] * 3]
    assert raised.value.body == {
        "type": "error",
        "error": {"type": "api_error", "message": "Simulated server error."},
        "request_id": raised.value.request_id,
    }


def test_an_unknown_model_is_not_found(sdk: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as raised:
        sdk.messages.create(model="claude-none", max_tokens=9, messages=[QUESTION])
    assert raised.value.response.json()["error"]["type"] == "not_found_error"


@pytest.mark.parametrize("path", ["/messages", "/messages/count_tokens"])
@pytest.mark.parametrize(
    ("headers", "status", "kind"),
    [
        ({"anthropic-version": "2023-06-01"}, 401, "authentication_error"),
        ({"anthropic-version": "2023-06-01", "authorization": "Basic made-up"}, 401, "authentication_error"),
        ({"x-api-key": "made-up"}, 400, "invalid_request_error"),
        ({"authorization": "Bearer made-up", "anthropic-version": "2023-06-01"}, 200, None),
    ],
)
def test_a_key_and_a_version_are_required(
    http: httpx.Client, path: str, headers: dict[str, str], status: int, kind: str | None
) -> None:
    reply = http.post(path, json=body(), headers=headers)
    assert (reply.status_code, reply.json().get("error", {}).get("type")) == (status, kind)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": ["text"]}, "messages"),
        ({"messages": [{"role": "tool", "content": "text"}]}, "messages.0.role"),
        ({"messages": [QUESTION, {"role": "user"}]}, "messages.1.content"),
        ({"messages": [{"role": "user", "content": ["text"]}]}, "messages.0.content"),
        ({"system": 1}, "system"),
        ({"tools": ["text"]}, "tools"),
        ({"tool_choice": "any"}, "tool_choice"),
        ({"tool_choice": {"type": "tool", "name": "absent"}}, "tool_choice"),
        ({"stop_sequences": [" "]}, "stop_sequences"),
        ({"simulate": "flood"}, "flood"),
    ],
)
def test_what_cannot_be_answered_is_refused_as_anthropic_does(
    http: httpx.Client, changes: dict[str, Any], named: str
) -> None:
    reply = http.post("/messages", json=body(**changes), headers=HEADERS)
    told = reply.json()
    assert (reply.status_code, told["type"], told["error"]["type"]) == (400, "error", "invalid_request_error")
    assert named in told["error"]["message"]
    assert told["request_id"] == reply.headers["request-id"]
