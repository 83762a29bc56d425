from typing import Any

import pytest

from handler.flow import Ask, Need, Preferences, Prompt, Protocol, Turn
from handler.rules import Rule, When, first_fitting

ASK = Ask(
    "auto",
    False,
    Prompt("Draft a contract for ACME", 1000, 500),
    Preferences(),
    {},
    headers={"x-team": "legal-eu"},
    needs=frozenset({Need.TOOLS}),
)


@pytest.mark.parametrize(
    "when",
    [
        {},
        {"key": "0123*"},
        {"key": "my-app"},
        {"headers": {"X-Team": "legal-*"}},
        {"text": r"(?i)\bcontract\b"},
        {"min_tokens": 1000, "max_tokens": 1000},
        {"tools": True},
        {"protocol": "chat", "turn": "user"},
    ],
)
def test_a_condition_that_holds(when: dict[str, Any]) -> None:
    assert When.model_validate(when).fits(ASK, "0123456789ab", "my-app")


@pytest.mark.parametrize(
    "when",
    [
        {"key": "other"},
        {"headers": {"x-team": "sales"}},
        {"headers": {"x-missing": "*"}},
        {"text": "^contract"},
        {"min_tokens": 1001},
        {"max_tokens": 999},
        {"tools": False},
        {"protocol": "messages"},
        {"turn": "tool_result"},
        {"text": "contract", "tools": False},
    ],
)
def test_a_condition_that_does_not(when: dict[str, Any]) -> None:
    assert not When.model_validate(when).fits(ASK, "0123456789ab", "my-app")


def test_the_first_rule_that_fits_counts() -> None:
    rules = (
        Rule(name="messages", when=When(protocol=Protocol.MESSAGES), dial=1),
        Rule(name="users", when=When(turn=Turn.USER), dial=2),
        Rule(name="all", dial=3),
    )
    assert first_fitting(rules, ASK, "id", "name") == rules[1]
    assert first_fitting(rules[:1], ASK, "id", "name") is None


def test_a_pattern_is_matched_with_the_beginning_of_a_long_prompt_alone() -> None:
    long = Ask("auto", False, Prompt("x" * 10_000 + "contract", 1000, 500), Preferences(), {})
    assert not When(text="contract").fits(long, "id", "name")
