"""What a conversation is about, how long it is and what it needs. Pure, and total: any shape gives an answer."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from handler.flow import Need

SHORT = 40
"""Characters below which a turn ("and in French?", "yes, do it") gets its meaning from one before it."""
BYTES_PER_TOKEN = 4
"""Of UTF-8: good enough for a price estimate in any script, and next to free."""
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
    "computer_screenshot": Need.IMAGES,
    "image_generation_call": Need.IMAGES,
}
"""The `type` of a part that is no text."""
_TEXT_SOURCES = ("text", "content")
"""Of a document that is no file: Anthropic's clients send plain text so."""
_DATA_URL = ";base64,"
_HEAD = 200
"""Characters in which a data URL says that it is one."""
_TOOL_RESULTS = ("tool_result", "function_call_output", "custom_tool_call_output", "local_shell_call_output")
_INSTRUCTIONS = ("system", "developer")
"""Roles of what is said to the model, wherever in the conversation it stands."""
_ASIDES = (
    "system-reminder",
    "environment_context",
    "environment_details",
    "user_instructions",
    "INSTRUCTIONS",
    "local-command-stdout",
    "local-command-caveat",
)
"""Tags of what coding agents say to their model inside the user's turn."""


@dataclass(frozen=True, slots=True)
class Measured:
    """How long a request is, and what media it has."""

    tokens: int
    """Estimated."""
    needs: frozenset[Need]


def measure(*values: Any, tools: Any = None) -> Measured:
    """Of all that is sent: instructions, messages, and the tools that are offered. The data of media does not count
    as text. What a tool declares or is called with is JSON of its own, in which a `type` says nothing of media."""
    size = media = 0
    needs = set()
    # A stack, not recursion: JSON may be nested more deeply than Python may call itself. And its own types by name:
    # to ask whether something is a Mapping or a Sequence costs ten times as much.
    waiting = [(tools, True), *((value, False) for value in values)]
    while waiting:
        value, is_tools = waiting.pop()
        kind = type(value)
        if kind is str:
            is_data = _DATA_URL in value[:_HEAD]
            media += is_data
            size += 0 if is_data else _bytes(value)
        elif kind is list:
            waiting += [(inner, is_tools) for inner in value]
        elif kind is dict:
            need = None if is_tools else _need(value)
            if need is None:
                size += sum(map(len, value))
                waiting += [(inner, is_tools or name == "input") for name, inner in value.items()]
            else:
                media += 1
                needs.add(need)
    return Measured(size // BYTES_PER_TOKEN + media * MEDIA_TOKENS, frozenset(needs))


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _need(part: Mapping[str, Any]) -> Need | None:
    """None for text."""
    kind, source = part.get("type"), part.get("source")
    if kind == "document" and isinstance(source, Mapping) and source.get("type") in _TEXT_SOURCES:
        return None
    return _MEDIA.get(kind) if isinstance(kind, str) else None


def opening_of(turns: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """What stays as it is while the conversation goes on: all up to the user's first turn."""
    end = next((place for place, turn in enumerate(turns, 1) if turn.get("role") == "user"), 1)
    return turns[:end]


def last_turn(turns: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The last that is no instruction: agents append some to what a tool gave back. {} where there is none."""
    return next((turn for turn in reversed(turns) if turn.get("role") not in _INSTRUCTIONS), {})


def text_to_embed(turns: Iterable[Any]) -> str:
    """The last user turn; when it is too short to stand alone, led by the last one before it that is not, for
    "continue" may follow "continue", or, where all are short, by the one before it. Without a user's turn the last
    text of anybody's; "" when there is no text at all. What a tool gave back is no turn of the user's: an agent's
    steps are about what the user asked."""
    known = [turn for turn in turns if isinstance(turn, dict)]
    spoken = (text for turn in reversed(known) if turn.get("role") == "user" and (text := said(turn)))
    last, before = next(spoken, ""), ""
    if not last:
        return next((text for text in (text_of(turn.get("content")) for turn in reversed(known)) if text), "")
    if len(last) < SHORT:
        before = next(spoken, "")
    if not before:
        return last
    lead = before if len(before) >= SHORT else next((text for text in spoken if len(text) >= SHORT), before)
    return f"{lead}\n{last}"


def said(turn: Mapping[str, Any]) -> str:
    """What the user says in a turn of theirs."""
    content = turn.get("content")
    if isinstance(content, list):
        content = [part for part in content if not is_tool_result(part)]
    text = text_of(content)
    for tag in _ASIDES:
        text = _without(text, f"<{tag}>", f"</{tag}>")
    return text.strip()


def _without(text: str, opening: str, closing: str) -> str:
    kept, at = [], 0
    while (start := text.find(opening, at)) >= 0 and (end := text.find(closing, start)) >= 0:
        kept.append(text[at:start])
        at = end + len(closing)
    return "".join((*kept, text[at:]))


def is_tool_result(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") in _TOOL_RESULTS


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
        elif isinstance(part, dict):
            inside = [part[field] for field in _TEXT_FIELDS if part.get(field)]
            waiting.extend(reversed(inside or [_stand_in(part)]))
        elif isinstance(part, list):
            waiting.extend(reversed(part))


def _stand_in(part: Mapping[str, Any]) -> str:
    kind = part.get("type")
    if not isinstance(kind, str):
        return ""
    return next((stand_in for word, stand_in in _STAND_INS.items() if word in kind), "")
