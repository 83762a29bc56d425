"""What a conversation is about, as the one short text that is embedded. Pure, and total: any shape gives a text."""

from collections.abc import Mapping, Sequence
from typing import Any

SHORT = 40
"""Characters below which a turn ("and in French?", "yes, do it") gets its meaning from the turn before it."""

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
    if isinstance(content, str):
        return content.strip()
    if isinstance(content, Sequence) and not isinstance(content, bytes):
        return "\n".join(text for text in map(_part, content) if text)
    return _part(content)


def _part(part: Any) -> str:
    if isinstance(part, str):
        return part.strip()
    if not isinstance(part, Mapping):
        return ""
    for field in ("text", "content"):
        if field in part:
            return text_of(part[field])
    kind = str(part.get("type", ""))
    return next((stand_in for word, stand_in in _STAND_INS.items() if word in kind), "")
