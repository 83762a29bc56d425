"""POST /v1/chat/completions: what is used is validated, the rest is carried untouched."""

import re
from collections.abc import Mapping
from typing import Any

import orjson

from handler.asgi import parse_object
from handler.errors import ApiError
from handler.evidence import FIELD, full
from handler.flow import Ask, Decision, Need, Prompt, Protocol, Usage
from handler.wire.conversation import last_turn, measure, opening_of, text_to_embed
from handler.wire.fields import (
    as_it_came,
    count_in,
    expected_output,
    for_upstream,
    has_counts,
    messages_in,
    model_in,
    output_limit,
    stream_in,
)
from handler.wire.preferences import read_preferences
from handler.wire.session import session_of, turn_of
from handler.wire.wire import End, Wire

_TOOL_ROLES = ("tool", "function")
_END = End(
    re.compile(rb'^data: ?\[DONE\]|"finish_reason": ?"[^"]|(?P<error>"error" ?: ?["{])', re.MULTILINE),
    (b"[DONE]", b'"finish_reason":"', b'"finish_reason": "', b'"error"'),
)
"""Some upstreams never send [DONE], others no reason."""


def read(raw: bytes, headers: Mapping[str, str]) -> Ask:
    """Raises BadRequest, naming the field, for what nearvote uses and cannot read."""
    body = parse_object(raw)
    model, messages, stream = model_in(body), messages_in(body), stream_in(body)
    preferences, rest = read_preferences(body, headers), for_upstream(body)
    adds_usage = stream and not _asks_for_usage(body)
    if adds_usage:
        rest = {**rest, "stream_options": {**(body.get("stream_options") or {}), "include_usage": True}}
    measured = measure(messages, tools=body.get("tools"))
    limit = output_limit(body, "max_completion_tokens", "max_tokens")
    return Ask(
        model,
        stream,
        Prompt(text_to_embed(messages), measured.tokens, expected_output(limit), limit),
        preferences,
        rest,
        as_it_came(raw, body, rest),
        headers=headers,
        needs=measured.needs | _needs(body),
        turn=turn_of(headers, last_turn(messages).get("role") in _TOOL_ROLES),
        session=session_of(body, headers, opening_of(messages)),
        adds_usage=adds_usage,
    )


def usage_in(event: Mapping[str, Any], before: Usage | None) -> Usage | None:
    """Token counts of an answer, or of a stream's chunk, where it has them."""
    usage = event.get("usage")
    if not isinstance(usage, dict) or not has_counts(usage, "prompt_tokens", "completion_tokens"):
        return before
    return Usage(
        count_in(usage, "prompt_tokens"),
        count_in(usage, "completion_tokens"),
        count_in(usage, "prompt_tokens_details", "cached_tokens") or count_in(usage, "prompt_cache_hit_tokens"),
        count_in(usage, "prompt_tokens_details", "cache_write_tokens"),
    )


def error_event(error: ApiError) -> bytes:
    return b"data: " + orjson.dumps(error.body()) + b"\n\n"


def last_words(decision: Decision, created: int) -> bytes:
    """A stream's last chunk, which carries the evidence and no text."""
    chunk = {
        "id": decision.id,
        "object": "chat.completion.chunk",
        "created": created,
        "model": decision.model,
        "choices": [],
        FIELD: full(decision),
    }
    return b"data: " + orjson.dumps(chunk) + b"\n\n"


def with_effort(body: Mapping[str, Any], effort: str) -> dict[str, Any]:
    return {"reasoning_effort": effort, **body}


def _asks_for_usage(body: Mapping[str, Any]) -> bool:
    options = body.get("stream_options")
    # Options of another shape are the upstream's to refuse.
    return options is not None and (not isinstance(options, dict) or "include_usage" in options)


def _needs(body: Mapping[str, Any]) -> frozenset[Need]:
    form = body.get("response_format")
    wanted = {
        Need.TOOLS: bool(body.get("tools") or body.get("functions")),
        Need.SCHEMA: isinstance(form, dict) and form.get("type") == "json_schema",
    }
    return frozenset(need for need, is_wanted in wanted.items() if is_wanted)


WIRE = Wire(Protocol.CHAT, "/chat/completions", read, usage_in, _END, error_event, last_words, with_effort)
