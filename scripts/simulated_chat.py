"""OpenAI's chat completions, as the simulated provider speaks them. Pure."""

from collections.abc import Iterator

from scripts import simulated_openai
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
    canonical,
    limit_of,
    objects,
    sse,
    text_of,
)
from scripts.simulated_schema import structured

FINGERPRINT = "simulated"
DONE = b"data: [DONE]\n\n"
FINISH_REASONS = {
    Finish.STOP: "stop",
    Finish.LENGTH: "length",
    Finish.TOOL_CALL: "tool_calls",
    Finish.STOP_SEQUENCE: "stop",
}


def _read(body: Json) -> Question:
    messages = objects(body.get("messages"), "messages")
    if not messages:
        raise ApiError("messages must have at least one message.", "messages")
    if body.get("n") not in (None, 1):
        raise ApiError("The simulated provider answers with one choice: n must be 1.", "n")
    tools = objects(body.get("tools"), "tools")
    declared = [tool["function"] for tool in tools if isinstance(tool.get("function"), dict)]
    text = next((text_of(each.get("content")) for each in reversed(messages) if each.get("role") == "user"), "")
    after_result = messages[-1].get("role") == "tool"
    return Question(
        prompt=(simulated_openai.head(tools), *map(_part, messages)),
        text=text,
        limit=limit_of(body, "max_tokens" if body.get("max_completion_tokens") is None else "max_completion_tokens"),
        tool=tool_to_call(simulated_openai.functions(declared), _tool_choice(body), text, after_result),
        structured=_structured(body),
    )


def _part(message: Json) -> Part:
    return Part(canonical(message), len(text_of(message.get("content"))))


def _tool_choice(body: Json) -> ToolChoice:
    match body.get("tool_choice"):
        case {"function": {"name": name}}:
            return ToolChoice("required", name)
        case str(mode):
            return ToolChoice(mode)
    return ToolChoice()


def _structured(body: Json) -> str | None:
    match body.get("response_format"):
        case {"type": "json_schema", "json_schema": {"schema": schema}}:
            return structured("json_schema", schema, "response_format")
        case {"type": kind}:
            return structured(kind, None, "response_format")
    return None


def _whole(answer: Answer, envelope: Envelope) -> Json:
    """The answer as one `chat.completion`."""
    message: Json = {"role": "assistant", "content": answer.text, "refusal": None}
    if answer.function is not None:
        call = {"name": answer.function, "arguments": answer.text}
        tool_calls = [{"id": _call_id(envelope), "type": "function", "function": call}]
        message = {"role": "assistant", "content": None, "refusal": None, "tool_calls": tool_calls}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": FINISH_REASONS[answer.finish]}
    return {**_around(envelope, "chat.completion", [choice]), "usage": _usage(answer)}


def _events(answer: Answer, envelope: Envelope) -> Events:
    """The answer as `chat.completion.chunk`s: the role, each piece, the finish and, if wanted, the usage."""
    options = envelope.request.get("stream_options")
    include_usage = isinstance(options, dict) and bool(options.get("include_usage"))
    no_usage: Json = {"usage": None} if include_usage else {}

    def chunk(delta: Json, finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return _chunk(envelope, [choice], no_usage)

    first, *rest = _deltas(answer, _call_id(envelope))
    usage = [_chunk(envelope, [], {"usage": _usage(answer)})] if include_usage else []
    finish = chunk({}, FINISH_REASONS[answer.finish])
    return Events((chunk(first),), tuple(map(chunk, rest)), (finish, *usage, DONE))


def _chunk(envelope: Envelope, choices: list[Json], usage: Json) -> bytes:
    return sse({**_around(envelope, "chat.completion.chunk", choices), **usage})


def _around(envelope: Envelope, kind: str, choices: list[Json]) -> Json:
    common = {"id": f"chatcmpl-simulated-{envelope.number}", "object": kind, "created": envelope.created}
    return {**common, "model": envelope.model, "choices": choices, "system_fingerprint": FINGERPRINT}


def _call_id(envelope: Envelope) -> str:
    return f"call_simulated_{envelope.number}"


def _deltas(answer: Answer, call_id: str) -> Iterator[Json]:
    if answer.function is None:
        yield {"role": "assistant", "content": "", "refusal": None}
        yield from ({"content": piece} for piece in answer.pieces)
        return
    opening = {"id": call_id, "type": "function", "function": {"name": answer.function, "arguments": ""}}
    yield {"role": "assistant", "content": None, "tool_calls": [{"index": 0, **opening}]}
    for piece in answer.pieces:
        yield {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}


def _usage(answer: Answer) -> Json:
    return {
        "prompt_tokens": answer.tokens.total,
        "completion_tokens": len(answer.pieces),
        "total_tokens": answer.tokens.total + len(answer.pieces),
        "prompt_tokens_details": {"cached_tokens": answer.tokens.read},
    }


def _error_event(problem: ApiError, request_id: str, _position: int) -> bytes:
    return sse(simulated_openai.error(problem, request_id))


CHAT = Protocol(
    check=simulated_openai.check,
    read=_read,
    whole=_whole,
    events=_events,
    error=simulated_openai.error,
    error_event=_error_event,
    overloaded_status=simulated_openai.OVERLOADED,
)
