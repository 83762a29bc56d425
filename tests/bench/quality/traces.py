"""Conversations as agents have them, made up from a seed: what is asked, when, and how long it is. Pure."""

import math
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

TURNS = (5, 60)
PREFIX_TOKENS = (8_000, 20_000)
"""Of the system prompt and the tools."""
GROWTH_TOKENS = (200, 4_000)
"""Of what each turn brings: a user's words, a tool's result."""
ANSWER_TOKENS = (100, 1_500)
USER_GAP = (90.0, 1.2)
"""Seconds until a user's turn: median, and spread of the logarithm. One in six passes five minutes."""
TOOL_GAP = (10.0, 0.8)


@dataclass(frozen=True, slots=True)
class Step:
    """One request of a conversation."""

    row: int
    """Of the prompts: what it is about."""
    at: float
    """Seconds since the conversation began."""
    input_tokens: int
    """All of it. What an earlier request sent, and what answered it, is how it begins."""
    output_tokens: int


Conversation: TypeAlias = tuple[Step, ...]


def conversations(count: int, rows: int, user_turns: float, chance: Random) -> list[Conversation]:
    """`rows`: prompts to draw from. `user_turns`: share of the turns that are the user's, each about another prompt;
    the others are tools' results, and about what the user asked last."""
    return [_conversation(rows, user_turns, chance) for _ in range(count)]


def _conversation(rows: int, user_turns: float, chance: Random) -> Conversation:
    row, at, tokens = chance.randrange(rows), 1.0, chance.randint(*PREFIX_TOKENS)
    steps: list[Step] = []
    for _ in range(chance.randint(*TURNS)):
        if steps:
            asked = chance.random() < user_turns
            row = chance.randrange(rows) if asked else row
            at += _gap(USER_GAP if asked else TOOL_GAP, chance)
        tokens += _log_uniform(GROWTH_TOKENS, chance)
        answer = _log_uniform(ANSWER_TOKENS, chance)
        steps.append(Step(row, at, tokens, answer))
        tokens += answer
    return tuple(steps)


def _gap(usual: tuple[float, float], chance: Random) -> float:
    median, spread = usual
    return median * chance.lognormvariate(0.0, spread)


def _log_uniform(ends: tuple[int, int], chance: Random) -> int:
    """Mostly short, now and then long."""
    low, high = ends
    return round(low * math.pow(high / low, chance.random()))
