"""What a stream begins with, in any of the protocols: nothing yet, an answer, or an error. Pure."""

import enum
import re
from collections.abc import Iterator
from typing import Any

import orjson

_BLANK = re.compile(rb"\r?\n\r?\n")
_DATA = re.compile(rb"^data: ?(.*?)\r?$", re.MULTILINE)
_PREAMBLE = re.compile(rb'"type" ?: ?"(?:ping|message_start|response\.(?:queued|created|in_progress))"')
"""In an event that says no more than that an answer was begun: providers send it before they do the work."""
_PERHAPS_ERROR = re.compile(rb'"error"|"response\.failed"')


class Opening(enum.Enum):
    NOTHING = "nothing"
    """Comments, pings, and that an answer was begun."""
    ANSWER = "answer"
    ERROR = "error"


def opening_of(begun: bytes) -> Opening:
    """By the first whole event that says something."""
    for data in _events(begun):
        if _tells_error(data):
            return Opening.ERROR
        if _PREAMBLE.search(data) is None:
            return Opening.ANSWER
    return Opening.NOTHING


def _events(begun: bytes) -> Iterator[bytes]:
    """The data of each event that is whole and has any."""
    start = 0
    for blank in _BLANK.finditer(begun):
        data = _DATA.search(begun, start, blank.start())
        start = blank.end()
        if data is not None:
            yield data[1]


def _tells_error(data: bytes) -> bool:
    if _PERHAPS_ERROR.search(data) is None:
        return False
    try:
        event: Any = orjson.loads(data)
    except orjson.JSONDecodeError:
        return False
    return isinstance(event, dict) and (event.get("type") in ("error", "response.failed") or bool(event.get("error")))
