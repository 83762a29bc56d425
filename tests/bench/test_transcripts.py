"""Transcripts read as the product reads them."""

from random import Random

import pytest

from handler.flow import Turn
from handler.wire import messages
from tests.bench.quality.agent_turns import RULES
from tests.bench.quality.transcripts import BRIEF, SHAPES, SYSTEM, WORDY, Talk, body

TASK = "Write a function that merges overlapping intervals, and test it."
OTHER = "Why is the sky blue at noon and red in the evening? Explain it."


def talk() -> Talk:
    return Talk(Random(1), (OTHER,))


@pytest.mark.parametrize(
    ("shape", "turn"),
    [
        ("the task itself", Turn.USER),
        ("a tool's result", Turn.TOOL_RESULT),
        ("a fifth tool's result", Turn.TOOL_RESULT),
        ("a brief follow-up", Turn.USER),
        ("a third brief follow-up", Turn.TOOL_RESULT),
        ("a wordy follow-up", Turn.USER),
        ("a second task", Turn.TOOL_RESULT),
    ],
)
def test_every_shape_is_told_by_whose_turn_it_is(shape: str, turn: Turn) -> None:
    assert messages.read(body(SHAPES[shape](TASK, talk())), {}).turn is turn


def test_a_subagents_call_is_told_by_its_header_whatever_it_ends_in() -> None:
    raw = body(SHAPES["a tool's result"](TASK, talk()))
    assert messages.read(raw, {"x-claude-code-agent-id": "a-1"}).turn is Turn.SUBAGENT


@pytest.mark.parametrize("shape", ["the task itself", "a tool's result", "a fifth tool's result", "a second task"])
def test_the_product_embeds_the_task_alone_where_the_user_said_nothing_since(shape: str) -> None:
    assert RULES["as it is"](TASK, SHAPES[shape](TASK, talk())) == TASK


@pytest.mark.parametrize("shape", ["a brief follow-up", "a third brief follow-up"])
def test_the_product_goes_back_to_the_task_from_brief_follow_ups(shape: str) -> None:
    task, follow_up = RULES["as it is"](TASK, SHAPES[shape](TASK, talk())).split("\n")
    assert task == TASK
    assert follow_up in BRIEF


def test_the_other_rules_embed_what_their_names_say() -> None:
    turns = SHAPES["a wordy follow-up"](TASK, talk())
    embedded = {name: rule(TASK, turns) for name, rule in RULES.items()}
    assert embedded["last user turn"] == embedded["last message"] in WORDY
    assert embedded["last two user turns"] == f"{TASK}\n{embedded['last user turn']}"
    assert embedded["first user turn"] == TASK
    assert embedded["everything"].startswith(f"{SYSTEM}\n{TASK}\n<system-reminder>")
    assert embedded["everything"].endswith(embedded["last message"])
