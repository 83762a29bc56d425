"""What a conversation is about, how long it is and what it needs. Pure, and total: any shape gives an answer."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from handler.flow import Need

SHORT = 40
"""Characters below which a turn ("and in French?", "yes, do it") gets its meaning from one before it."""
CHARACTERS_PER_TOKEN = 4
"""Good enough for a price estimate, and free."""
MEDIA_TOKENS = 1000
"""For each image, sound or file: within what providers count for a usual one."""

_TEXT_FIELDS = ("text", "content", "value", "refusal")
_STAND_INS = {"image": "[image]", "audio": "[audio]", "file": "[file]", "video": "[video]"}
_MEDIA = {
    "image": Need.IMAGES,
    "image_url": Need.IMAGES,
    "input_image": Need.IMAGES,
    "input_audio": Need.AUDIO,
    "audio": Need.AUDIO,
    "file": Need.FILES,
    "input_file": Need.FILES,
    "document": Need.FILES,
}
"""The `type` of a part that is no text."""
_TOOL_RESULTS = ("tool_result", "function_call_output", "custom_tool_call_output", "local_shell_call_output")
_REMINDER = re.compile(r"<system-reminder>.*?</system-reminder>", re.DOTALL)
"""What coding agents say to their model inside the user's turn."""


@dataclass(frozen=True, slots=True)
class Measured:
    """How long a request is, and what media it has."""

    tokens: int
    """Estimated."""
    needs: frozenset[Need]


def measure(*values: Any) -> Measured:
    """Of all that is sent: messages, instructions, tools. The data of media does not count as text."""
    characters = media = 0
    needs = set()
    # A stack, not recursion: JSON may be nested more deeply than Python may call itself.
    waiting = list(values)
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            characters += len(value)
        elif isinstance(value, Mapping):
            kind = value.get("type")
            need = _MEDIA.get(kind) if isinstance(kind, str) else None
            if need is None:
                characters += sum(map(len, value))
                waiting.extend(value.values())
            else:
                media += 1
                needs.add(need)
        elif isinstance(value, Sequence):
            waiting.extend(value)
    return Measured(characters // CHARACTERS_PER_TOKEN + media * MEDIA_TOKENS, frozenset(needs))


def text_to_embed(turns: Iterable[Any]) -> str:
    """The last user turn; when it is too short to stand alone, led by the last one before it that is not, for
    "continue" may follow "continue", or, where all are short, by the one before it. Without a user's turn the last
    text of anybody's; "" when there is no text at all. What a tool gave back is no turn of the user's: an agent's
    steps are about what the user asked."""
    known = [turn for turn in turns if isinstance(turn, Mapping)]
    spoken = [text for text in (said(turn) for turn in known if turn.get("role") == "user") if text]
    if not spoken:
        return next((text for text in (text_of(turn.get("content")) for turn in reversed(known)) if text), "")
    *earlier, last = spoken
    if not earlier or len(last) >= SHORT:
        return last
    lead = next((text for text in reversed(earlier) if len(text) >= SHORT), earlier[-1])
    return f"{lead}\n{last}"


def said(turn: Mapping[str, Any]) -> str:
    """What the user says in a turn of theirs."""
    content = turn.get("content")
    if isinstance(content, Sequence) and not isinstance(content, str):
        content = [part for part in content if not is_tool_result(part)]
    text = text_of(content)
    return _REMINDER.sub("", text).strip() if "<system-reminder>" in text else text


def is_tool_result(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") in _TOOL_RESULTS


def text_of(content: Any) -> str:
    """The text of a message's content, whatever its shape; what is not text leaves its kind in brackets."""
    return "\n".join(_texts(content))


def _texts(content: Any) -> Iterator[str]:
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
