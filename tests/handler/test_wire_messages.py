"""Anthropic's messages, read: what is used of them, and how their tokens are counted."""

from typing import Any

import orjson
import pytest

from handler.errors import BadRequest, Unavailable
from handler.flow import Ask, Need, Preferences, Prompt, Protocol, Turn, Usage
from handler.wire.messages import WIRE, error_event, read, usage_in, with_effort
from handler.wire.session import session_of

QUESTION = {"role": "user", "content": "What is the capital of France, please?"}
USED = {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]}
RESULT = {"type": "tool_result", "tool_use_id": "t", "content": "Paris"}


def ask(headers: dict[str, str] | None = None, **body: Any) -> Ask:
    return read(orjson.dumps({"model": "auto", "max_tokens": 100, "messages": [QUESTION], **body}), headers or {})


def test_a_request_is_read_whole() -> None:
    body: dict[str, Any] = {
        "model": "auto",
        "max_tokens": 100,
        "stream": True,
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        "messages": [QUESTION],
        "tools": [{"name": "f", "input_schema": {"type": "object"}}],
        "thinking": {"type": "adaptive"},
    }
    raw = orjson.dumps(body)
    # system: 4+4+4+9+13+4+9 = 47; messages: 4+4+7+38 = 53; tools: 4+1+12+4+6 = 27 characters.
    assert read(raw, {"anthropic-version": "2023-06-01"}) == Ask(
        model="auto",
        stream=True,
        prompt=Prompt(QUESTION["content"], input_tokens=127 // 4, output_tokens=100, most_output_tokens=100),
        preferences=Preferences(),
        body=body,
        raw=raw,
        protocol=Protocol.MESSAGES,
        headers={"anthropic-version": "2023-06-01"},
        needs=frozenset({Need.TOOLS}),
        turn=Turn.USER,
        session=session_of({}, {}, [body["system"], QUESTION]),
        writes_cache=True,
    )


@pytest.mark.parametrize(
    ("last", "turn"),
    [
        ([RESULT], Turn.TOOL_RESULT),
        ([RESULT, {"type": "text", "text": "<system-reminder>Go on.</system-reminder>"}], Turn.TOOL_RESULT),
        ([RESULT, {"type": "text", "text": "No, stop. What about Spain?"}], Turn.USER),
        ("What about Spain?", Turn.USER),
        (None, Turn.USER),
    ],
)
def test_a_turn_is_a_tool_s_where_the_user_says_nothing(last: Any, turn: Turn) -> None:
    assert ask(messages=[QUESTION, USED, {"role": "user", "content": last}]).turn is turn


def test_an_instruction_behind_a_tool_s_result_leaves_the_turn_a_tool_s() -> None:
    said = [QUESTION, USED, {"role": "user", "content": [RESULT]}, {"role": "system", "content": "Today is Monday."}]
    assert ask(messages=said).turn is Turn.TOOL_RESULT


@pytest.mark.parametrize(
    ("part", "is_sealed"),
    [
        ({"type": "thinking", "thinking": "Hm.", "signature": "EqQB"}, True),
        ({"type": "redacted_thinking", "data": "EmwK"}, True),
        ({"type": "text", "text": "thinking"}, False),
    ],
)
def test_signed_thoughts_are_for_their_provider_alone(part: dict[str, Any], is_sealed: bool) -> None:
    assert ask(messages=[QUESTION, {"role": "assistant", "content": [part]}, QUESTION]).is_sealed is is_sealed


def test_a_subagent_is_known_by_what_stands_in_its_instructions() -> None:
    billing = "x-anthropic-billing-header: cc_version=2.1.332.0fa; cc_entrypoint=cli; cc_is_subagent=true;"
    assert ask(system=[{"type": "text", "text": billing}]).turn is Turn.SUBAGENT


@pytest.mark.parametrize(
    "wanted",
    [
        {"output_format": {"type": "json_schema", "schema": {}}},
        {"output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {}}}},
    ],
)
def test_an_answer_held_to_a_schema_is_a_need(wanted: dict[str, Any]) -> None:
    assert ask(**wanted).needs == frozenset({Need.SCHEMA})


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"model": 1}, "model"),
        ({"messages": {}}, "messages"),
        ({"messages": [1]}, "messages"),
        ({"stream": "yes"}, "stream"),
        ({"plugins": [1]}, "plugins"),
        ({"plugins": "auto-router"}, "plugins"),
        ({"session_id": ""}, "session_id"),
    ],
)
def test_what_cannot_be_read_is_named(changes: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        ask(**changes)
    assert refused.value.param == param


def test_a_whole_answer_s_tokens_are_fresh_cached_and_written_ones_together() -> None:
    usage = {
        "input_tokens": 10,
        "cache_read_input_tokens": 2000,
        "cache_creation_input_tokens": 300,
        "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200},
        "output_tokens": 7,
    }
    assert usage_in({"type": "message", "usage": usage}, None) == Usage(2310, 7, 2000, 100, 200)


def started(**usage: Any) -> Usage | None:
    return usage_in({"type": "message_start", "message": {"usage": {"output_tokens": 1, **usage}}}, None)


def test_a_stream_s_later_event_counts_the_output_and_leaves_the_input_as_it_was_told() -> None:
    before = started(
        input_tokens=10,
        cache_read_input_tokens=0,
        cache_creation_input_tokens=300,
        cache_creation={"ephemeral_1h_input_tokens": 200},
    )
    for told in ({}, {"input_tokens": 10, "cache_creation_input_tokens": 300}, {"input_tokens": None}):
        event = {"type": "message_delta", "usage": {"output_tokens": 50, **told}}
        assert usage_in(event, before) == Usage(310, 50, 0, 100, 200)


def test_a_later_event_that_counts_more_input_keeps_what_was_told_of_the_hour() -> None:
    before = started(
        input_tokens=10, cache_creation_input_tokens=300, cache_creation={"ephemeral_1h_input_tokens": 300}
    )
    usage = {"input_tokens": 900, "cache_creation_input_tokens": 300, "output_tokens": 50}
    assert usage_in({"type": "message_delta", "usage": usage}, before) == Usage(1200, 50, 0, 0, 300)


@pytest.mark.parametrize("event", [{}, {"usage": None}, {"usage": 3}, {"type": "ping"}, {"message": {"usage": []}}])
def test_an_event_without_usage_changes_nothing(event: dict[str, Any]) -> None:
    assert usage_in(event, Usage(5, 6)) == Usage(5, 6)


def test_a_stream_that_broke_off_ends_with_anthropic_s_error_event() -> None:
    event, data, *blank = error_event(Unavailable("gone")).split(b"\n")
    assert (event, blank) == (b"event: error", [b"", b""])
    assert orjson.loads(data.removeprefix(b"data: ")) == {
        "type": "error",
        "error": {"type": "overloaded_error", "message": "gone", "code": "unavailable"},
    }


def test_an_effort_is_asked_for_only_where_the_request_asks_for_none() -> None:
    form = {"format": {"type": "json_schema"}}
    assert with_effort({"model": "m"}, "low") == {"model": "m", "output_config": {"effort": "low"}}
    assert with_effort({"output_config": form}, "low") == {"output_config": {"effort": "low", **form}}
    assert with_effort({"output_config": {"effort": "max"}}, "low") == {"output_config": {"effort": "max"}}
    assert with_effort({"output_config": 3}, "low") == {"output_config": 3}


def test_anthropic_s_headers_and_key_go_where_anthropic_looks_for_them() -> None:
    assert (WIRE.passed_on, WIRE.key_header) == (("anthropic-version", "anthropic-beta"), "x-api-key")
    assert WIRE.fixed == {"anthropic-version": "2023-06-01"}
