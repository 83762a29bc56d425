"""Anthropic's Messages, as the simulated provider speaks them. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import orjson

from scripts.simulated_models import ToolChoice, tool_to_call
from scripts.simulated_protocol import (
    Answer,
    ApiError,
    Envelope,
    Events,
    Finish,
    Json,
    Part,
    Protocol,
    Question,
    Tool,
    canonical,
    limit_of,
    objects,
    text_of,
    typed_sse,
)

STOP_REASONS = {
    Finish.STOP: "end_turn",
    Finish.LENGTH: "max_tokens",
    Finish.TOOL_CALL: "tool_use",
    Finish.STOP_SEQUENCE: "stop_sequence",
}
ERROR_TYPES = {
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}
REMINDER = "<system-reminder>"
NO_ENDING: Json = {"stop_reason": None, "stop_sequence": None}


def _check(headers: Mapping[str, str]) -> None:
    bearer = headers.get("authorization", "").lower().startswith("bearer ")
    if not bearer and not headers.get("x-api-key"):
        raise ApiError("x-api-key header is required", status=401)
    if "anthropic-version" not in headers:
        raise ApiError("anthropic-version: header is required")


@dataclass(frozen=True, slots=True)
class _Turn:
    """A message, its content as blocks."""

    role: str
    blocks: tuple[Json, ...]


def _read(body: Json) -> Question:
    limit = limit_of(body, "max_tokens")
    if limit is None:
        raise ApiError("max_tokens: Field required", "max_tokens")
    turns = _turns(body)
    # Coding agents speak too: in blocks of the user's turns, and in turns of the system after those.
    spoken = (text_of(_spoken(turn)) for turn in reversed(turns) if turn.role == "user")
    text = next((each for each in spoken if each), "")
    last = next((turn for turn in reversed(turns) if turn.role != "system"), turns[-1])
    after_result = any(block.get("type") == "tool_result" for block in last.blocks)
    return Question(
        prompt=read_prompt(body),
        text=text,
        limit=limit,
        tool=tool_to_call(_offered(body), _tool_choice(body), text, after_result),
        stop_sequences=_stop_sequences(body),
    )


def _spoken(turn: _Turn) -> list[Json]:
    return [block for block in turn.blocks if not str(block.get("text", "")).startswith(REMINDER)]


def read_prompt(body: Json) -> tuple[Part, ...]:
    """Tools and system, then each message: all that the tokens of a request are counted of. Raises ApiError."""
    tools, system = objects(body.get("tools"), "tools"), _blocks(body.get("system") or [], "system")
    head = Part(
        content=canonical([_unmarked(tools), _unmarked(system)]),
        characters=(len(canonical(_unmarked(tools))) if tools else 0) + _characters(system),
        kept=_marked(tools) or _marked(system),
    )
    *others, last = (_part(turn) for turn in _turns(body))
    # A mark on the request itself stands for one on its last block.
    return (head, *others, replace(last, kept=last.kept or _marked([body])))


def _turns(body: Json) -> list[_Turn]:
    messages = objects(body.get("messages"), "messages")
    if not messages:
        raise ApiError("messages: at least one message is required", "messages")
    return [_turn(message, f"messages.{position}") for position, message in enumerate(messages)]


def _turn(message: Json, field: str) -> _Turn:
    role = message.get("role")
    if role not in ("user", "assistant", "system"):
        raise ApiError(f"{field}.role: Input should be 'user', 'assistant' or 'system'", "messages")
    return _Turn(role, _blocks(message.get("content"), f"{field}.content"))


def _blocks(content: object, field: str) -> tuple[Json, ...]:
    if isinstance(content, str):
        return ({"type": "text", "text": content},)
    if content is None:
        raise ApiError(f"{field}: Field required", field)
    return tuple(objects(content, field))


def _part(turn: _Turn) -> Part:
    content = canonical([turn.role, _unmarked(turn.blocks)])
    return Part(content, _characters(turn.blocks), kept=_marked(turn.blocks))


def _characters(blocks: Sequence[Json]) -> int:
    """Of the blocks' text and of the tools' results in them."""
    return sum(len(text_of([block])) + len(text_of(block.get("content"))) for block in blocks)


def _marked(blocks: Sequence[Json]) -> bool:
    return any(block.get("cache_control") is not None for block in blocks)


def _unmarked(blocks: Sequence[Json]) -> list[Json]:
    return [{name: value for name, value in block.items() if name != "cache_control"} for block in blocks]


def _offered(body: Json) -> tuple[Tool, ...]:
    tools = objects(body.get("tools"), "tools")
    named = ((tool.get("name"), tool.get("input_schema")) for tool in tools)
    return tuple(Tool(name, schema) for name, schema in named if isinstance(name, str) and isinstance(schema, dict))


def _tool_choice(body: Json) -> ToolChoice:
    match body.get("tool_choice"):
        case None:
            return ToolChoice()
        case {"type": "tool", "name": str(name)}:
            return ToolChoice("required", name)
        case {"type": "auto" | "any" | "none" as mode}:
            return ToolChoice("required" if mode == "any" else mode)
    raise ApiError("tool_choice: Input should have the type 'auto', 'any', 'none', or 'tool' and a name", "tool_choice")


def _stop_sequences(body: Json) -> tuple[str, ...]:
    sequences = body.get("stop_sequences") or []
    if not isinstance(sequences, list) or not all(isinstance(each, str) and each.strip() for each in sequences):
        raise ApiError("stop_sequences: each must be text that is not white space", "stop_sequences")
    return tuple(sequences)


def _whole(answer: Answer, envelope: Envelope) -> Json:
    """The answer as one `message`."""
    usage = {**_input_usage(answer), "output_tokens": len(answer.pieces)}
    return _message(envelope, [_block(answer, envelope)], _ending(answer), usage)


def _events(answer: Answer, envelope: Envelope) -> Events:
    """The answer as events: of the message, its one block, a piece a delta, and the usage at the end."""
    block: Json = {"type": "text", "text": ""}
    kind, field = "text_delta", "text"
    if answer.function is not None:
        block = {**_block(answer, envelope), "input": {}}
        kind, field = "input_json_delta", "partial_json"
    start = _message(envelope, [], NO_ENDING, {**_input_usage(answer), "output_tokens": 1})
    usage = {**_input_usage(answer), "output_tokens": len(answer.pieces)}
    opening: list[Json] = [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "ping"},
    ]
    deltas: list[Json] = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": kind, field: piece}} for piece in answer.pieces
    ]
    closing: list[Json] = [
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": _ending(answer), "usage": usage},
        {"type": "message_stop"},
    ]
    return Events(tuple(map(typed_sse, opening)), tuple(map(typed_sse, deltas)), tuple(map(typed_sse, closing)))


def _message(envelope: Envelope, content: list[Json], ending: Json, usage: Json) -> Json:
    common = {"id": f"msg_simulated_{envelope.number}", "type": "message", "role": "assistant"}
    return {**common, "model": envelope.model, "content": content, **ending, "usage": usage}


def _block(answer: Answer, envelope: Envelope) -> Json:
    if answer.function is None:
        return {"type": "text", "text": answer.text}
    # Arguments that the limit has cut are no JSON.
    filled = orjson.loads(answer.text) if answer.finish is Finish.TOOL_CALL else {}
    return {"type": "tool_use", "id": f"toolu_simulated_{envelope.number}", "name": answer.function, "input": filled}


def _ending(answer: Answer) -> Json:
    return {"stop_reason": STOP_REASONS[answer.finish], "stop_sequence": answer.stop_sequence}


def _input_usage(answer: Answer) -> Json:
    tokens = answer.tokens
    return {
        "input_tokens": tokens.total - tokens.read - tokens.written,
        "cache_creation_input_tokens": tokens.written,
        "cache_read_input_tokens": tokens.read,
    }


def _error(problem: ApiError, request_id: str) -> Json:
    kind = ERROR_TYPES.get(problem.status, "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": str(problem)}, "request_id": request_id}


def _error_event(problem: ApiError, request_id: str, _position: int) -> bytes:
    return typed_sse(_error(problem, request_id))


MESSAGES = Protocol(
    check=_check,
    read=_read,
    whole=_whole,
    events=_events,
    error=_error,
    error_event=_error_event,
    overloaded_status=529,
    request_id_header="request-id",
)
