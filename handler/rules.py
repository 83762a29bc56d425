"""Rules of the fleet file: which requests are decided, restricted or refused before the vote. Pure.

A rule fits when each of its conditions does; one without any fits every request.
"""

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from handler.flow import Ask, Protocol, Turn

LOOKED_AT = 8192
"""Characters of the prompt that a pattern is matched with: a bound on its time."""

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
Glob = Annotated[str, Field(min_length=1, max_length=200)]


class When(BaseModel):
    """Conditions; those that are left out do not matter."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: Glob | None = None
    """Of a key's id or name."""
    headers: Mapping[str, Glob] = Field(default_factory=dict)
    """Lower-case names; a header that is missing fits no glob."""
    text: str | None = None
    """A regular expression that is found in the prompt."""
    min_tokens: int | None = Field(default=None, ge=0)
    """Of the whole input."""
    max_tokens: int | None = Field(default=None, ge=0)
    tools: bool | None = None
    """Whether the request offers tools."""
    protocol: Protocol | None = None
    turn: Turn | None = None

    @field_validator("text")
    @classmethod
    def _pattern(cls, text: str | None) -> str | None:
        if text is not None:
            try:
                re.compile(text)
            except re.error as error:
                raise ValueError(f"not a regular expression: {error}") from error
        return text

    @field_validator("headers")
    @classmethod
    def _lower_case(cls, headers: Mapping[str, Glob]) -> Mapping[str, Glob]:
        return {name.lower(): glob for name, glob in headers.items()}

    def fits(self, ask: Ask, key_id: str, key_name: str) -> bool:
        size = ask.prompt.input_tokens
        return (
            (self.key is None or any(fnmatchcase(name, self.key) for name in (key_id, key_name)))
            and all(name in ask.headers and fnmatchcase(ask.headers[name], glob) for name, glob in self.headers.items())
            and (self.text is None or re.search(self.text, ask.prompt.text[:LOOKED_AT]) is not None)
            and (self.min_tokens is None or size >= self.min_tokens)
            and (self.max_tokens is None or size <= self.max_tokens)
            and self.tools in (None, ask.offers_tools)
            and self.protocol in (None, ask.protocol)
            and self.turn in (None, ask.turn)
        )


class Rule(BaseModel):
    """Conditions, and one thing that is done where they hold. A model that a client names goes before every rule but
    one that denies."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    """Stands in the evidence."""
    when: When = When()
    model: str | None = None
    """Answers, without a vote."""
    tier: Literal["small", "medium", "large"] | None = None
    """Only models that are `like` it are voted on."""
    dial: float | None = Field(default=None, ge=0, le=10)
    """Where the request says nothing of the dial."""
    deny: str | None = Field(default=None, min_length=1, max_length=500)
    """Refused, with this message."""

    @model_validator(mode="after")
    def _one_outcome(self) -> Self:
        outcomes = [name for name in ("model", "tier", "dial", "deny") if getattr(self, name) is not None]
        if len(outcomes) != 1:
            raise ValueError(f"give one of model, tier, dial and deny, not {len(outcomes)}")
        return self


def first_fitting(rules: tuple[Rule, ...], ask: Ask, key_id: str, key_name: str) -> Rule | None:
    return next((rule for rule in rules if rule.when.fits(ask, key_id, key_name)), None)
