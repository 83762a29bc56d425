"""How a chat request ended for its caller. Pure."""

import enum
import json
from typing import Any

DATA = b"data:"
DONE = b"[DONE]"


class Ending(enum.Enum):
    ANSWERED = "answered"
    """To its end."""
    REFUSED = "refused"
    """With an error in the protocol; a stream may have begun by then."""
    LOST = "lost"
    """Neither: broken off, or not what the protocol allows."""


def whole(status: int, body: bytes) -> Ending:
    """Of an answer in one piece."""
    value = _object(body)
    if _is_error(value):
        return Ending.REFUSED
    return Ending.ANSWERED if status == 200 and _finished(value) else Ending.LOST


def stream(status: int, body: bytes) -> Ending:
    """Of an answer in events, all of them in `body`; an error before the first is no event."""
    if status != 200:
        return whole(status, body)
    data = [line.removeprefix(DATA).strip() for line in body.splitlines() if line.startswith(DATA)]
    events = [_object(one) for one in data if one != DONE]
    if any(map(_is_error, events)):
        return Ending.REFUSED
    return Ending.ANSWERED if data and data[-1] == DONE and any(map(_finished, events)) else Ending.LOST


def _object(text: bytes) -> dict[str, Any]:
    """Empty for what is none."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _is_error(value: dict[str, Any]) -> bool:
    error = value.get("error")
    return isinstance(error, dict) and isinstance(error.get("message"), str) and isinstance(error.get("type"), str)


def _finished(value: dict[str, Any]) -> bool:
    """A whole answer, or the chunk that says why it ends."""
    choices = value.get("choices")
    return isinstance(choices, list) and any(isinstance(one, dict) and one.get("finish_reason") for one in choices)
