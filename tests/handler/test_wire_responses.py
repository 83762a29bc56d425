"""OpenAI's responses, read: what is used of them, and how their tokens are counted."""

from typing import Any

import orjson
import pytest

from handler.errors import BadRequest, Unavailable
from handler.flow import Ask, Need, Preferences, Prompt, Protocol, Turn, Usage
from handler.wire.responses import error_event, read, usage_in, with_effort
from handler.wire.session import session_of

TEXT = "What is the capital of France, please?"
QUESTION = {"role": "user", "content": TEXT}


def ask(**body: Any) -> Ask:
    return read(orjson.dumps({"model": "auto", "input": TEXT, **body}), {})


def test_a_request_is_read_whole() -> None:
    body: dict[str, Any] = {
        "model": "auto",
        "instructions": "Be brief.",
        "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": TEXT}]}],
        "tools": [{"type": "function", "name": "f", "parameters": {}}],
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {}}},
        "max_output_tokens": 50,
        "prompt_cache_key": "k",
    }
    raw = orjson.dumps(body)
    # instructions: 9; input: 4+7+4+4+7 and 4+10+4+38 = 82; tools: 4+8+4+1+10 = 27 characters.
    assert read(raw, {}) == Ask(
        model="auto",
        stream=False,
        prompt=Prompt(TEXT, input_tokens=118 // 4, output_tokens=50, most_output_tokens=50),
        preferences=Preferences(),
        body=body,
        raw=raw,
        protocol=Protocol.RESPONSES,
        needs=frozenset({Need.TOOLS, Need.SCHEMA}),
        session=session_of(body, {}, ["Be brief.", *body["input"]]),
        is_kept=True,
    )


@pytest.mark.parametrize(
    ("item", "is_sealed"),
    [
        ({"type": "reasoning", "summary": [], "encrypted_content": "gAAAA"}, True),
        ({"type": "reasoning", "summary": [], "encrypted_content": None}, False),
        ({"type": "message", "role": "assistant", "content": "encrypted_content"}, False),
    ],
)
def test_encrypted_reasoning_is_for_its_provider_alone(item: dict[str, Any], is_sealed: bool) -> None:
    assert ask(input=[item, {"role": "user", "content": TEXT}]).is_sealed is is_sealed


@pytest.mark.parametrize(
    ("state", "leans_on"),
    [
        ({"previous_response_id": "resp_1"}, "resp_1"),
        ({"conversation": "conv_1"}, "conv_1"),
        ({"conversation": {"id": "conv_1"}}, "conv_1"),
        ({"conversation": {"id": 3}, "previous_response_id": None}, ""),
    ],
)
def test_what_the_provider_keeps_is_leant_on(state: dict[str, Any], leans_on: str) -> None:
    assert ask(**state).leans_on == leans_on


def test_a_request_that_leans_on_an_answer_needs_no_input() -> None:
    body = {"model": "auto", "previous_response_id": "resp_1"}
    assert read(orjson.dumps(body), {}).prompt.text == ""


@pytest.mark.parametrize(("store", "is_kept"), [({}, True), ({"store": None}, True), ({"store": False}, False)])
def test_an_answer_is_kept_unless_the_request_says_otherwise(store: dict[str, Any], is_kept: bool) -> None:
    assert ask(**store).is_kept is is_kept


@pytest.mark.parametrize("kind", ["function_call_output", "custom_tool_call_output", "local_shell_call_output"])
def test_a_turn_is_a_tool_s_where_its_output_comes_last(kind: str) -> None:
    output = {"type": kind, "call_id": "c", "output": "Paris"}
    assert ask(input=[QUESTION, output]).turn is Turn.TOOL_RESULT
    assert ask(input=[QUESTION, output, {"role": "developer", "content": "Be brief."}]).turn is Turn.TOOL_RESULT
    assert ask(input=[QUESTION, output, QUESTION]).turn is Turn.USER


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"model": ""}, "model"),
        ({"input": None}, "input"),
        ({"input": 3}, "input"),
        ({"input": ["text"]}, "input"),
        ({"stream": 1}, "stream"),
        ({"plugins": [1]}, "plugins"),
        ({"background": True}, "background"),
    ],
)
def test_what_cannot_be_read_or_served_is_named(changes: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        ask(**changes)
    assert refused.value.param == param


def test_a_background_answer_that_is_streamed_is_served() -> None:
    assert ask(background=True, stream=True).stream


def test_tokens_are_counted_of_an_answer_and_of_a_stream_s_last_event() -> None:
    usage = {
        "input_tokens": 2000,
        "input_tokens_details": {"cached_tokens": 1500, "cache_write_tokens": 400},
        "output_tokens": 7,
    }
    told = Usage(2000, 7, 1500, 400)
    assert usage_in({"object": "response", "usage": usage}, None) == told
    assert usage_in({"type": "response.completed", "response": {"usage": usage}}, None) == told
    assert usage_in({"type": "response.created", "response": {"usage": None}}, None) is None
    assert usage_in({"type": "response.output_text.delta", "delta": "x"}, told) == told


def test_a_stream_that_broke_off_ends_with_a_response_that_failed() -> None:
    event, data, *blank = error_event(Unavailable("gone")).split(b"\n")
    assert (event, blank) == (b"event: response.failed", [b"", b""])
    told = orjson.loads(data.removeprefix(b"data: "))
    assert (told["type"], told["response"]["status"]) == ("response.failed", "failed")
    assert told["response"]["error"] == {"code": "unavailable", "message": "gone"}


def test_an_effort_is_asked_for_only_where_the_request_asks_for_none() -> None:
    summary = {"summary": "auto"}
    assert with_effort({"model": "m"}, "low") == {"model": "m", "reasoning": {"effort": "low"}}
    assert with_effort({"reasoning": summary}, "low") == {"reasoning": {"effort": "low", **summary}}
    assert with_effort({"reasoning": {"effort": "high"}}, "low") == {"reasoning": {"effort": "high"}}
    assert with_effort({"reasoning": 3}, "low") == {"reasoning": 3}
