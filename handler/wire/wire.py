"""What sets one protocol apart from another, as one value for each."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from handler.errors import ApiError
from handler.flow import Ask, Decision, Protocol, Usage


@dataclass(frozen=True, slots=True)
class Wire:
    protocol: Protocol
    path: str
    """Behind a deployment's base URL, and behind /v1 here."""
    read: Callable[[bytes, Mapping[str, str]], Ask]
    """Body and headers (lower-case names) → Ask. Raises BadRequest, naming the field."""
    usage: Callable[[Mapping[str, Any], Usage | None], Usage | None]
    """Of an answer or one event of a stream, over what earlier events told."""
    ending: re.Pattern[bytes]
    """In the event after which an answer is over; its group `error` is where the upstream says that it failed."""
    error_event: Callable[[ApiError], bytes]
    """What ends a stream that broke off."""
    last_words: Callable[[Decision, int], bytes]
    """The evidence as an event of a stream; with the time, in seconds."""
    with_effort: Callable[[Mapping[str, Any], str], dict[str, Any]]
    """A body that asks for this reasoning effort where it asks for none itself."""
    passed_on: tuple[str, ...] = ()
    """Headers of the caller's that the upstream gets."""
    fixed: Mapping[str, str] = field(default_factory=dict)
    """Headers that the upstream gets where the caller sent none of the name."""
    key_header: str = "authorization"
    """Where a deployment's key goes."""
