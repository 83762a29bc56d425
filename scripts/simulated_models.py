"""What the simulated provider says. Pure and deterministic: canned text, no model, no I/O, no clock."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import orjson

Json: TypeAlias = dict[str, Any]

FINGERPRINT = "simulated"
MAX_SCHEMA_DEPTH = 5


class RequestError(Exception):
    """A request that OpenAI would refuse too; its text is the error's message."""

    def __init__(self, message: str, param: str | None = None, status: int = 400, code: str | None = None) -> None:
        self.param, self.status, self.code = param, status, code
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class SimulatedModel:
    name: str
    first_token_s: float
    """Seconds until an answer begins."""
    tokens_per_s: float
    skill: str


MODELS = {
    model.name: model
    for model in (
        SimulatedModel("sim-small", 0.04, 400, "A small model answers this in a sentence."),
        SimulatedModel(
            "sim-medium",
            0.08,
            200,
            "A medium model explains its answer, with an example and the usual pitfalls.",
        ),
        SimulatedModel(
            "sim-large",
            0.15,
            100,
            "A large model weighs the alternatives, works through the hard steps one by one, "
            "checks its result and says what remains uncertain.",
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer in pieces, a piece a token. With `function`, the pieces are the call's arguments."""

    pieces: tuple[str, ...]
    finish_reason: str
    prompt_tokens: int
    function: str | None = None


@dataclass(frozen=True, slots=True)
class Envelope:
    """What an answer and all chunks of it have in common."""

    number: int
    created: int
    model: str

    def around(self, kind: str, choices: list[Json], **more: Json | None) -> Json:
        common = {"id": f"chatcmpl-simulated-{self.number}", "object": kind, "created": self.created}
        return {**common, "model": self.model, "choices": choices, "system_fingerprint": FINGERPRINT, **more}

    @property
    def call_id(self) -> str:
        return f"call_simulated_{self.number}"


def model_of(body: Json) -> SimulatedModel:
    """Raises RequestError (404) for a model that is not simulated."""
    name = body.get("model")
    if not isinstance(name, str) or name not in MODELS:
        message = f"The model `{name}` does not exist; the simulated provider has {', '.join(MODELS)}."
        raise RequestError(message, "model", 404, "model_not_found")
    return MODELS[name]


def answer_to(body: Json, model: SimulatedModel) -> Answer:
    """The answer to a chat request; raises RequestError for one that cannot be answered."""
    messages = _messages(body)
    if body.get("n") not in (None, 1):
        raise RequestError("The simulated provider answers with one choice: n must be 1.", "n")
    prompt_tokens = max(1, -(-sum(len(_text(message)) for message in messages) // 4))
    function = _called_function(body, messages)
    if function is not None:
        arguments = orjson.dumps(_filled(function.get("parameters") or {}, required_only=True)).decode()
        return _limited(body, Answer(_tokens(arguments), "tool_calls", prompt_tokens, str(function.get("name"))))
    content = _structured(body) or _prose(model, _last_user_text(messages))
    return _limited(body, Answer(_tokens(content), "stop", prompt_tokens))


def completion(answer: Answer, envelope: Envelope) -> Json:
    """The answer as one `chat.completion`."""
    text = "".join(answer.pieces)
    message: Json = {"role": "assistant", "content": text, "refusal": None}
    if answer.function is not None:
        call = {"name": answer.function, "arguments": text}
        tool_calls = [{"id": envelope.call_id, "type": "function", "function": call}]
        message = {"role": "assistant", "content": None, "refusal": None, "tool_calls": tool_calls}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": answer.finish_reason}
    return envelope.around("chat.completion", [choice], usage=_usage(answer))


def chunks(answer: Answer, envelope: Envelope, include_usage: bool) -> Iterator[Json]:
    """The answer as `chat.completion.chunk`s: the role, each piece, the finish and, if wanted, the usage."""
    no_usage: dict[str, Json | None] = {"usage": None} if include_usage else {}
    for delta in _deltas(answer, envelope.call_id):
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
        yield envelope.around("chat.completion.chunk", [choice], **no_usage)
    finish = {"index": 0, "delta": {}, "logprobs": None, "finish_reason": answer.finish_reason}
    yield envelope.around("chat.completion.chunk", [finish], **no_usage)
    if include_usage:
        yield envelope.around("chat.completion.chunk", [], usage=_usage(answer))


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
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": len(answer.pieces),
        "total_tokens": answer.prompt_tokens + len(answer.pieces),
        "prompt_tokens_details": {"cached_tokens": 0},
    }


def _messages(body: Json) -> list[Json]:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(each, dict) for each in messages):
        raise RequestError("messages must be a list of at least one message.", "messages")
    return messages


def _text(message: Json) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = (part.get("text") for part in parts if isinstance(part, dict))
    return " ".join(text for text in texts if isinstance(text, str))


def _last_user_text(messages: list[Json]) -> str:
    return next((_text(each) for each in reversed(messages) if each.get("role") == "user"), "")


def _prose(model: SimulatedModel, question: str) -> str:
    echo = " ".join(question[:1000].split()[:8])[:60]
    return f'[simulated {model.name}] You wrote "{echo}". {model.skill} This text is canned: no model ran.'


def _tokens(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\s*\S{1,12}|\s+", text))


def _limited(body: Json, answer: Answer) -> Answer:
    name = "max_tokens" if body.get("max_completion_tokens") is None else "max_completion_tokens"
    limit = body.get(name)
    if limit is None:
        return answer
    if type(limit) is not int or limit < 1:
        raise RequestError(f"{name} must be a whole number of at least 1.", name)
    if len(answer.pieces) <= limit:
        return answer
    return Answer(answer.pieces[:limit], "length", answer.prompt_tokens, answer.function)


def _called_function(body: Json, messages: list[Json]) -> Json | None:
    """The function to call: the one that tool_choice names, the first when a call is wanted, or none."""
    offered = _offered(body)
    choice = body.get("tool_choice")
    if isinstance(choice, dict) and isinstance(choice.get("function"), dict):
        return _named(offered, choice["function"].get("name"))
    if not offered or choice == "none":
        return None
    return offered[0] if choice == "required" or _asks_for_a_tool(messages) else None


def _offered(body: Json) -> list[Json]:
    tools = body.get("tools") or []
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise RequestError("tools must be a list of tools.", "tools")
    return [tool["function"] for tool in tools if isinstance(tool.get("function"), dict)]


def _asks_for_a_tool(messages: list[Json]) -> bool:
    # A tool's result is answered in words: otherwise an agent's loop would never end.
    if messages[-1].get("role") == "tool":
        return False
    return re.search(r"\btools?\b", _last_user_text(messages), re.IGNORECASE) is not None


def _named(offered: list[Json], name: object) -> Json:
    for function in offered:
        if function.get("name") == name:
            return function
    raise RequestError(f"tool_choice names {name!r}, which is not among tools.", "tool_choice")


def _structured(body: Json) -> str | None:
    """The JSON text that response_format asks for, or None when it asks for none."""
    match body.get("response_format"):
        case {"type": "json_object"}:
            return '{"simulated": true}'
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)}}:
            return _json_for(schema)
        case {"type": "json_schema"}:
            raise RequestError("response_format has no json_schema.schema.", "response_format")
    return None


def _json_for(schema: Json) -> str:
    filled = _filled(schema, required_only=False)
    if isinstance(filled, dict) and schema.get("additionalProperties") is not False:
        filled = {"simulated": True, **filled}
    return orjson.dumps(filled).decode()


def _filled(schema: Mapping[str, Any], *, required_only: bool) -> Any:
    """The plainest value that fits a JSON schema: "simulated", 0, false, [] or an object of such values."""
    try:
        return _value(schema, schema, required_only, MAX_SCHEMA_DEPTH)
    except (AttributeError, LookupError, TypeError) as error:
        raise RequestError("The simulated provider cannot read this JSON schema.") from error


def _value(schema: Mapping[str, Any], root: Mapping[str, Any], required_only: bool, depth: int) -> Any:
    schema = _resolved(schema, root)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    if "properties" in schema and depth:
        properties = schema["properties"]
        names = schema.get("required", []) if required_only else properties
        return {name: _value(properties.get(name, {}), root, required_only, depth - 1) for name in names}
    kind = schema.get("type", "object" if schema is root else "string")
    plain: Json = {"integer": 0, "number": 0, "boolean": False, "null": None, "array": [], "object": {}}
    return plain.get(kind[0] if isinstance(kind, list) else kind, "simulated")


def _resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow local references (`#/$defs/Name`) and take the first of several alternatives."""
    for _ in range(MAX_SCHEMA_DEPTH):
        alternatives = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
        if "$ref" in schema:
            schema = _at(schema["$ref"], root)
        elif alternatives:
            schema = alternatives[0]
    return schema


def _at(reference: str, root: Mapping[str, Any]) -> Mapping[str, Any]:
    found = root
    for key in reference.split("/")[1:]:
        found = found[key]
    return found
