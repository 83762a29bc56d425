"""POST /v1/responses, as OpenAI's clients speak: what is used is validated, the rest is carried untouched."""

import re
from collections.abc import Mapping
from typing import Any

import orjson

from handler.asgi import parse_object
from handler.errors import ApiError, BadRequest
from handler.evidence import as_event
from handler.flow import Ask, Need, Prompt, Protocol, Usage
from handler.wire.conversation import is_tool_result, last_turn, measure, opening_of, text_to_embed
from handler.wire.fields import (
    as_it_came,
    count_in,
    expected_output,
    for_upstream,
    has_counts,
    model_in,
    output_limit,
    stream_in,
)
from handler.wire.preferences import read_preferences
from handler.wire.session import session_of, turn_of
from handler.wire.wire import End, Wire

STATE = ("previous_response_id", "conversation")
"""Fields by which a request leans on what the provider keeps."""
_END = End(
    re.compile(rb'"type" ?: ?"(?:response\.(?:completed|incomplete)|(?P<error>response\.failed|error))"'),
    (b'"response.completed"', b'"response.incomplete"', b'"response.failed"', b'"error"'),
)


def read(raw: bytes, headers: Mapping[str, str]) -> Ask:
    """Raises BadRequest, naming the field, for what nearvote uses and cannot read."""
    body = parse_object(raw)
    model, turns, stream = model_in(body), _turns(body), stream_in(body)
    _refuse_background(body)
    preferences, rest = read_preferences(body, headers), for_upstream(body)
    measured = measure(body.get("instructions"), turns, tools=body.get("tools"))
    limit = output_limit(body, "max_output_tokens")
    return Ask(
        model,
        stream,
        Prompt(text_to_embed(turns), measured.tokens, expected_output(limit), limit),
        preferences,
        rest,
        as_it_came(raw, body, rest),
        protocol=Protocol.RESPONSES,
        headers=headers,
        needs=measured.needs | _needs(body),
        turn=turn_of(headers, is_tool_result(last_turn(turns))),
        session=session_of(body, headers, [body.get("instructions"), *opening_of(turns)]),
        leans_on=next((id for id in (_id_in(body.get(name)) for name in STATE) if id), ""),
        is_sealed=any(turn.get("type") == "reasoning" and turn.get("encrypted_content") for turn in turns),
        is_kept=body.get("store") is not False,
    )


def usage_in(event: Mapping[str, Any], before: Usage | None) -> Usage | None:
    """Token counts of an answer, or of a stream's last event, which has the whole answer in it."""
    response = event.get("response")
    usage = (response if isinstance(response, dict) else event).get("usage")
    if not isinstance(usage, dict) or not has_counts(usage, "input_tokens", "output_tokens"):
        return before
    return Usage(
        count_in(usage, "input_tokens"),
        count_in(usage, "output_tokens"),
        count_in(usage, "input_tokens_details", "cached_tokens"),
        count_in(usage, "input_tokens_details", "cache_write_tokens"),
    )


def error_event(error: ApiError) -> bytes:
    """The event that ends an answer which failed: some clients pass over a bare `error`."""
    told = {"code": error.code, "message": error.message}
    response: dict[str, Any] = {
        "id": "resp_failed",
        "object": "response",
        "status": "failed",
        "error": told,
        "output": [],
        "usage": None,
    }
    event = {"type": "response.failed", "sequence_number": 0, "response": response}
    return b"event: response.failed\ndata: " + orjson.dumps(event) + b"\n\n"


def with_effort(body: Mapping[str, Any], effort: str) -> dict[str, Any]:
    given = body.get("reasoning")
    if given is not None and not isinstance(given, dict):
        return dict(body)
    return {**body, "reasoning": {"effort": effort, **(given or {})}}


def _refuse_background(body: Mapping[str, Any]) -> None:
    """Such an answer is fetched later, from a path that is not here, and nobody would know what it cost."""
    if body.get("background") and not body.get("stream"):
        raise BadRequest("`background` answers are not served here; ask for a stream instead", param="background")


def _id_in(state: Any) -> str:
    """A conversation may be an object with an id."""
    id = state.get("id") if isinstance(state, Mapping) else state
    return id if isinstance(id, str) else ""


def _turns(body: Mapping[str, Any]) -> list[Any]:
    given = body.get("input")
    if given is None and any(body.get(name) for name in (*STATE, "prompt")):
        return []
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    if not isinstance(given, list) or not all(isinstance(item, dict) for item in given):
        raise BadRequest("`input` must be a text or a list of items", param="input")
    return given


def _needs(body: Mapping[str, Any]) -> frozenset[Need]:
    text = body.get("text")
    form = text.get("format") if isinstance(text, dict) else None
    wanted = {
        Need.TOOLS: bool(body.get("tools")),
        Need.SCHEMA: isinstance(form, dict) and form.get("type") == "json_schema",
    }
    return frozenset(need for need, is_wanted in wanted.items() if is_wanted)


WIRE = Wire(Protocol.RESPONSES, "/responses", read, usage_in, _END, error_event, as_event, with_effort)
