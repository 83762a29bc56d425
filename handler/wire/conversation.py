"""What a conversation is about, as the one short text that is embedded. Pure, and total: any shape gives a text."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

SHORT = 40
"""Characters below which a turn ("and in French?", "yes, do it") gets its meaning from the turn before it."""

_TEXT_FIELDS = ("text", "content", "value", "refusal")
_STAND_INS = {"image": "[image]", "audio": "[audio]", "file": "[file]", "video": "[video]"}


def text_to_embed(messages: Sequence[Any]) -> str:
    """The last user turn, led by the user's turn before it when it is too short to stand alone; without a
    user's turn the last text of anybody's; "" when there is no text at all."""
    turns = [message for message in messages if isinstance(message, Mapping)]
    spoken = [text for text in (text_of(turn.get("content")) for turn in turns if turn.get("role") == "user") if text]
    if not spoken:
        return next((text for text in (text_of(turn.get("content")) for turn in reversed(turns)) if text), "")
    if len(spoken) > 1 and len(spoken[-1]) < SHORT:
        return f"{spoken[-2]}\n{spoken[-1]}"
    return spoken[-1]


def text_of(content: Any) -> str:
    """The text of a message's content, whatever its shape; what is not text leaves its kind in brackets."""
    return "\n".join(_texts(content))


def _texts(content: Any) -> Iterator[str]:
    # A stack, not recursion: JSON may be nested more deeply than Python may call itself.
    waiting = [content]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            if text := part.strip():
                yield text
        elif isinstance(part, Mapping):
            inside = [part[field] for field in _TEXT_FIELDS if part.get(field)]
            waiting.extend(reversed(inside or [_stand_in(part)]))
        elif isinstance(part, Sequence):
            waiting.extend(reversed(part))


def _stand_in(part: Mapping[str, Any]) -> str:
    kind = part.get("type")
    if not isinstance(kind, str):
        return ""
    return next((stand_in for word, stand_in in _STAND_INS.items() if word in kind), "")
