"""What the simulated provider's protocols have in common: the frozen values between their files. Read this first.

body → Protocol.read → Question → PromptCache.use → PromptTokens → answer_to → Answer → Protocol.whole or .events
"""

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import orjson

Json: TypeAlias = dict[str, Any]

CHARACTERS_PER_TOKEN = 4


class ApiError(Exception):
    """An error as a real provider would give it, or one that was asked for; its text is the error's message."""

    def __init__(self, message: str, param: str | None = None, status: int = 400, code: str | None = None) -> None:
        self.param, self.status, self.code = param, status, code
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a prompt, a message say, that is cached whole or not at all."""

    content: bytes
    characters: int
    """Of its text; four of them are a token."""
    kept: bool = True
    """Whether a prefix of the prompt that ends here is kept in the cache."""


@dataclass(frozen=True, slots=True)
class PromptTokens:
    """A prompt's tokens, and how many of them came from the cache and went into it."""

    total: int
    read: int = 0
    written: int = 0


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    schema: Json
    """JSON schema of the arguments."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a request asks for, whatever its protocol."""

    prompt: tuple[Part, ...]
    text: str
    """The user's last."""
    limit: int | None
    """Most tokens of the answer."""
    tool: Tool | None = None
    """To be called instead of an answer in words."""
    structured: str | None = None
    """JSON text that fits the wanted schema, where one is wanted."""
    stop_sequences: tuple[str, ...] = ()


class Finish(enum.Enum):
    """Why an answer ends."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALL = "tool_call"
    STOP_SEQUENCE = "stop_sequence"


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer in pieces, a piece a token. With `function`, the pieces are the call's arguments."""

    pieces: tuple[str, ...]
    finish: Finish
    tokens: PromptTokens
    function: str | None = None
    stop_sequence: str | None = None

    @property
    def text(self) -> str:
        return "".join(self.pieces)


@dataclass(frozen=True, slots=True)
class Envelope:
    """What an answer and all events of it have in common."""

    number: int
    """Of the request, from 1."""
    created: int
    """Seconds since the epoch."""
    model: str
    request: Json
    """The body that is answered."""


@dataclass(frozen=True, slots=True)
class Events:
    """A streamed answer as server-sent events: those before its first token, one a token, and those after the last."""

    opening: tuple[bytes, ...]
    pieces: tuple[bytes, ...]
    closing: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Protocol:
    """How one API reads its requests and words its answers. `read` and `check` raise ApiError."""

    check: Callable[[Mapping[str, str]], None]
    """Refuses headers that the API would refuse."""
    read: Callable[[Json], Question]
    whole: Callable[[Answer, Envelope], Json]
    events: Callable[[Answer, Envelope], Events]
    error: Callable[[ApiError, str], Json]
    """The body of an error, given the request's id."""
    error_event: Callable[[ApiError, str, int], bytes]
    """An error in a stream, given the request's id and the number of events before it."""
    overloaded_status: int
    request_id_header: str | None = None
    """Which header of every reply has the request's id, if any."""


def sse(value: Json) -> bytes:
    """A server-sent event of nothing but data."""
    return b"data: " + orjson.dumps(value) + b"\n\n"


def typed_sse(value: Json) -> bytes:
    """A server-sent event that is named by its value's `type`."""
    return b"event: " + str(value["type"]).encode() + b"\n" + sse(value)


def objects(value: object, field: str) -> list[Json]:
    """`value` if it is a list of JSON objects, [] for None; raises ApiError naming the field."""
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise ApiError(f"{field} must be a list of objects.", field)
    return value


def text_of(content: object) -> str:
    """The text of a message's content: a string, or a list of parts of which some have a text."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = (part.get("text") for part in parts if isinstance(part, dict))
    return " ".join(text for text in texts if isinstance(text, str))


def limit_of(body: Json, field: str) -> int | None:
    """The most tokens that the request allows its answer; raises ApiError."""
    limit = body.get(field)
    if limit is not None and (type(limit) is not int or limit < 1):
        raise ApiError(f"{field} must be a whole number of at least 1.", field)
    return limit


def canonical(value: object) -> bytes:
    """The same bytes for equal JSON values."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
