"""A task as a coding agent sends it: somewhere in a conversation, among what its tools gave back. Pure."""

import inspect
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, TypeAlias

import orjson

SYSTEM = (
    "You are a coding agent that works in the user's terminal. Use the tools to do what the user asks, and say in a few"
    " words what you did. Never guess what a file says: read it."
)
REMINDER = "<system-reminder>\nThe to-do list is empty. Do not mention this to the user.\n</system-reminder>"
BRIEF = ("continue", "yes, do it", "ok", "go on", "try again")
"""Follow-ups that say nothing of the task."""
WORDY = ("Looks good to me, please go ahead and finish it.", "That is what I meant, carry on with the next step now.")
"""The same at greater length."""
LINES = 40
"""Of a file, in a tool's result."""
_CODE = inspect.getsource(textwrap).splitlines()

Turn: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Talk:
    """What transcripts are filled with, by lot."""

    chance: Random
    others: Sequence[str]
    """Other tasks."""

    def asks(self, task: str) -> list[Turn]:
        return [{"role": "user", "content": [_text(task), _text(REMINDER)]}]

    def steps(self, count: int) -> list[Turn]:
        """So many calls of a tool, with their results."""
        return [turn for step in range(count) for turn in self._step(f"toolu_{step:02}")]

    def follows_up(self, *texts: str) -> list[Turn]:
        """Each after an answer."""
        return [turn for text in texts for turn in (_answers(), {"role": "user", "content": text})]

    def brief(self, count: int) -> list[str]:
        return [self.chance.choice(BRIEF) for _ in range(count)]

    def other(self) -> str:
        return self.chance.choice(self.others)

    def _step(self, id: str) -> list[Turn]:
        result = self.chance.choice((self._file, self._notes))()
        call = {"type": "tool_use", "id": id, "name": "read", "input": {"path": "notes.txt"}}
        given = {"type": "tool_result", "tool_use_id": id, "content": [_text(result)]}
        return [{"role": "assistant", "content": [call]}, {"role": "user", "content": [given]}]

    def _file(self) -> str:
        start = self.chance.randrange(len(_CODE) - LINES)
        return "\n".join(f"{start + line}\t{text}" for line, text in enumerate(_CODE[start : start + LINES], 1))

    def _notes(self) -> str:
        return "\n\n".join(self.other() for _ in range(3))


Shape: TypeAlias = Callable[[str, Talk], list[Turn]]

SHAPES: Mapping[str, Shape] = {
    "the task itself": lambda task, talk: talk.asks(task),
    "a tool's result": lambda task, talk: [*talk.asks(task), *talk.steps(1)],
    "a fifth tool's result": lambda task, talk: [*talk.asks(task), *talk.steps(5)],
    "a brief follow-up": lambda task, talk: [*talk.asks(task), *talk.steps(1), *talk.follows_up(*talk.brief(1))],
    "a third brief follow-up": lambda task, talk: [*talk.asks(task), *talk.follows_up(*talk.brief(3)), *talk.steps(1)],
    "a wordy follow-up": lambda task, talk: [*talk.asks(task), *talk.follows_up(talk.chance.choice(WORDY))],
    "a second task": lambda task, talk: [
        *(*talk.asks(talk.other()), *talk.steps(1)),
        *(_answers(), *talk.asks(task), *talk.steps(1)),
    ],
}
"""What a request ends in, and how it got there."""


def body(turns: Sequence[Turn]) -> bytes:
    """As POST /v1/messages takes it."""
    return orjson.dumps({"model": "auto", "max_tokens": 4096, "system": SYSTEM, "messages": turns})


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def _answers() -> Turn:
    return {"role": "assistant", "content": [_text("Done so far. Shall I go on?")]}
