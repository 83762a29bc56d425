"""POST /v1/messages, as Anthropic's clients speak: what is used is validated, the rest is carried untouched."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson

from handler.asgi import parse_object
from handler.errors import ApiError, Shape
from handler.evidence import as_event
from handler.flow import Ask, Need, Prompt, Protocol, Usage
from handler.wire.conversation import is_tool_result, last_turn, measure, opening_of, said, text_to_embed
from handler.wire.fields import (
    as_it_came,
    count_in,
    expected_output,
    for_upstream,
    messages_in,
    model_in,
    output_limit,
    stream_in,
)
from handler.wire.preferences import read_preferences
from handler.wire.session import session_of, turn_of
from handler.wire.wire import End, Wire

VERSION = "2023-06-01"
"""Of Anthropic's API, for a caller that names none."""
_THOUGHTS = ("thinking", "redacted_thinking")
_END = End(re.compile(rb'"type" ?: ?"(?:message_stop|(?P<error>error))"'), (b'"message_stop"', b'"error"'))


def read(raw: bytes, headers: Mapping[str, str]) -> Ask:
    """Raises BadRequest, naming the field, for what nearvote uses and cannot read."""
    body = parse_object(raw)
    model, messages, stream = model_in(body), messages_in(body), stream_in(body)
    preferences, rest = read_preferences(body, headers), for_upstream(body)
    measured = measure(body.get("system"), messages, tools=body.get("tools"))
    limit = output_limit(body, "max_tokens")
    return Ask(
        model,
        stream,
        Prompt(text_to_embed(messages), measured.tokens, expected_output(limit), limit),
        preferences,
        rest,
        as_it_came(raw, body, rest),
        protocol=Protocol.MESSAGES,
        headers=headers,
        needs=measured.needs | _needs(body),
        turn=turn_of(headers, _gives_tool_results(last_turn(messages)), body.get("system")),
        session=session_of(body, headers, [body.get("system"), *opening_of(messages)]),
        is_sealed=any(map(_has_thoughts, messages)),
        writes_cache=b'"cache_control"' in raw,
    )


def usage_in(event: Mapping[str, Any], before: Usage | None) -> Usage | None:
    """Token counts of an answer, or of a stream's events: the first one counts the input, later ones the output, and no
    later one tells for how long the input is kept."""
    message = event.get("message")
    usage = event.get("usage") or (message.get("usage") if isinstance(message, dict) else None)
    if not isinstance(usage, dict):
        return before
    cached, written = count_in(usage, "cache_read_input_tokens"), count_in(usage, "cache_creation_input_tokens")
    told = count_in(usage, "input_tokens") + cached + written
    output = count_in(usage, "output_tokens")
    if before is not None and told <= before.input_tokens:
        return replace(before, output_tokens=output)
    by_event = count_in(usage, "cache_creation", "ephemeral_1h_input_tokens")
    written_1h = min(by_event or (before.written_1h_tokens if before else 0), written)
    return Usage(told, output, cached, written - written_1h, written_1h)


def error_event(error: ApiError) -> bytes:
    return b"event: error\ndata: " + orjson.dumps(error.body(Shape.ANTHROPIC)) + b"\n\n"


def with_effort(body: Mapping[str, Any], effort: str) -> dict[str, Any]:
    given = body.get("output_config")
    if given is not None and not isinstance(given, dict):
        return dict(body)
    return {**body, "output_config": {"effort": effort, **(given or {})}}


def _has_thoughts(message: Mapping[str, Any]) -> bool:
    """Which are signed, or encrypted."""
    content = message.get("content")
    return isinstance(content, list) and any(
        isinstance(part, dict) and part.get("type") in _THOUGHTS for part in content
    )


def _gives_tool_results(message: Mapping[str, Any]) -> bool:
    """Whether the turn is a tool's: it has results, and nothing that the user says."""
    content = message.get("content")
    return isinstance(content, list) and any(map(is_tool_result, content)) and not said(message)


def _needs(body: Mapping[str, Any]) -> frozenset[Need]:
    config = body.get("output_config")
    form = body.get("output_format") or (config.get("format") if isinstance(config, dict) else None)
    wanted = {
        Need.TOOLS: bool(body.get("tools")),
        Need.SCHEMA: isinstance(form, dict) and form.get("type") == "json_schema",
    }
    return frozenset(need for need, is_wanted in wanted.items() if is_wanted)


WIRE = Wire(
    Protocol.MESSAGES,
    "/messages",
    read,
    usage_in,
    _END,
    error_event,
    as_event,
    with_effort,
    passed_on=("anthropic-version", "anthropic-beta"),
    fixed={"anthropic-version": VERSION},
    key_header="x-api-key",
)
