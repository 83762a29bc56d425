"""OpenAI's Responses, as the simulated provider speaks them. Pure."""

import itertools
from collections.abc import Iterable

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
    text_of,
    typed_sse,
)
from scripts.simulated_schema import structured

ECHOED: Json = {
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "truncation": "disabled",
}
"""What a response repeats of its request, and what stands there when the request does not say."""


def _read(body: Json) -> Question:
    if (previous := body.get("previous_response_id")) is not None:
        message = f"Previous response with id {previous!r} not found: the simulated provider stores none."
        raise ApiError(message, "previous_response_id", code="previous_response_not_found")
    items, tools = _items(body), objects(body.get("tools"), "tools")
    declared = [tool for tool in tools if tool.get("type") == "function"]
    text = next((text_of(each.get("content")) for each in reversed(items) if each.get("role") == "user"), "")
    after_result = items[-1].get("type") == "function_call_output"
    return Question(
        prompt=(simulated_openai.head(tools, _instructions(body)), *map(_part, items)),
        text=text,
        limit=limit_of(body, "max_output_tokens"),
        tool=tool_to_call(simulated_openai.functions(declared), _tool_choice(body), text, after_result),
        structured=_structured(body),
    )


def _items(body: Json) -> list[Json]:
    given = body.get("input")
    items = [{"role": "user", "content": given}] if isinstance(given, str) else objects(given, "input")
    if not items:
        raise ApiError("input must be text or a list of at least one item.", "input")
    return items


def _instructions(body: Json) -> str:
    instructions = body.get("instructions")
    if instructions is not None and not isinstance(instructions, str):
        raise ApiError("instructions must be text.", "instructions")
    return instructions or ""


def _part(item: Json) -> Part:
    said = item.get("output") if item.get("type") == "function_call_output" else item.get("content")
    return Part(canonical(item), len(text_of(said)))


def _tool_choice(body: Json) -> ToolChoice:
    match body.get("tool_choice"):
        case {"type": "function", "name": name}:
            return ToolChoice("required", name)
        case str(mode):
            return ToolChoice(mode)
    return ToolChoice()


def _structured(body: Json) -> str | None:
    match body.get("text"):
        case {"format": {"type": kind, "schema": schema}}:
            return structured(kind, schema, "text.format")
        case {"format": {"type": kind}}:
            return structured(kind, None, "text.format")
    return None


def _whole(answer: Answer, envelope: Envelope) -> Json:
    """The answer as one `response`."""
    item = _item(answer, envelope)
    incomplete = {"reason": "max_output_tokens"} if answer.finish is Finish.LENGTH else None
    ending = {"status": item["status"], "incomplete_details": incomplete, "output": [item], "usage": _usage(answer)}
    return {**_begun(envelope), **ending}


def _events(answer: Answer, envelope: Envelope) -> Events:
    """The answer as events: of the response, its one item, that item's text or arguments, and all done at the end."""
    whole = _whole(answer, envelope)
    [item] = whole["output"]
    about = {"item_id": item["id"], "output_index": 0}
    opening, delta, done = _call_events(item, about) if answer.function else _text_events(item, about)
    started, ended = {"response": _begun(envelope)}, {"response": whole}
    numbers = itertools.count()

    def numbered(events: Iterable[Json]) -> tuple[bytes, ...]:
        return tuple(typed_sse({**event, "sequence_number": next(numbers)}) for event in events)

    return Events(
        numbered([{"type": "response.created", **started}, {"type": "response.in_progress", **started}, *opening]),
        numbered({**delta, "delta": piece} for piece in answer.pieces),
        numbered(
            [
                *done,
                {"type": "response.output_item.done", "output_index": 0, "item": item},
                {"type": f"response.{whole['status']}", **ended},
            ]
        ),
    )


def _text_events(item: Json, about: Json) -> tuple[list[Json], Json, list[Json]]:
    """What comes before the text, each delta less its text, and what comes after it."""
    [part] = item["content"]
    place = {**about, "content_index": 0}
    opening = [
        _added({**item, "status": "in_progress", "content": []}),
        {"type": "response.content_part.added", **place, "part": {**part, "text": ""}},
    ]
    done = [
        {"type": "response.output_text.done", **place, "text": part["text"], "logprobs": []},
        {"type": "response.content_part.done", **place, "part": part},
    ]
    return opening, {"type": "response.output_text.delta", **place, "logprobs": []}, done


def _call_events(item: Json, about: Json) -> tuple[list[Json], Json, list[Json]]:
    """The same for a function call's arguments."""
    opening = [_added({**item, "status": "in_progress", "arguments": ""})]
    whole = {"name": item["name"], "arguments": item["arguments"]}
    done = [{"type": "response.function_call_arguments.done", **about, **whole}]
    return opening, {"type": "response.function_call_arguments.delta", **about}, done


def _added(item: Json) -> Json:
    return {"type": "response.output_item.added", "output_index": 0, "item": item}


def _begun(envelope: Envelope) -> Json:
    """A response that has no output yet."""
    request = envelope.request
    echoed = {name: request.get(name, default) for name, default in ECHOED.items()}
    own = {"id": f"resp_simulated_{envelope.number}", "object": "response", "created_at": envelope.created}
    ending: Json = {"status": "in_progress", "error": None, "incomplete_details": None, "output": [], "usage": None}
    return {**own, "model": envelope.model, **echoed, **ending}


def _item(answer: Answer, envelope: Envelope) -> Json:
    status = "incomplete" if answer.finish is Finish.LENGTH else "completed"
    if answer.function is not None:
        ids = {"id": f"fc_simulated_{envelope.number}", "call_id": f"call_simulated_{envelope.number}"}
        call = {"name": answer.function, "arguments": answer.text}
        return {"type": "function_call", **ids, **call, "status": status}
    part = {"type": "output_text", "text": answer.text, "annotations": [], "logprobs": []}
    message = {"type": "message", "id": f"msg_simulated_{envelope.number}", "role": "assistant"}
    return {**message, "status": status, "content": [part]}


def _usage(answer: Answer) -> Json:
    tokens = answer.tokens
    return {
        "input_tokens": tokens.total,
        "input_tokens_details": {"cached_tokens": tokens.read},
        "output_tokens": len(answer.pieces),
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": tokens.total + len(answer.pieces),
    }


def _error_event(problem: ApiError, request_id: str, position: int) -> bytes:
    error = simulated_openai.error(problem, request_id)["error"]
    told = {"code": error["code"] or error["type"], "message": error["message"], "param": error["param"]}
    return typed_sse({"type": "error", **told, "sequence_number": position})


RESPONSES = Protocol(
    check=simulated_openai.check,
    read=_read,
    whole=_whole,
    events=_events,
    error=simulated_openai.error,
    error_event=_error_event,
    overloaded_status=simulated_openai.OVERLOADED,
)
