"""Conversations routed turn by turn by the product's own code, and billed as providers with a prompt cache bill."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from handler.data import slate
from handler.data.decide import Case, voted
from handler.data.live import Live
from handler.data.outlook import Outlook, look_ahead
from handler.data.sessions import NOTHING, Memory, Recalled, Warm
from handler.data.speeds import Speeds
from handler.fleet import TYPICAL_OUTPUT_TOKENS, Fleet, FleetFile, Model
from handler.flow import Ask, Preferences, Prompt, Usage
from handler.keys import KeyRecord, Routing
from index.ballot import Ballot, Polled
from scripts.simulated_cache import FEWEST_TOKENS, LIFE_S
from tests.bench.quality.traces import Conversation, Step

KEY = KeyRecord(id="0" * 12, digest="0" * 64, created_at="", name="key", routing=Routing.ON)
SPEEDS = Speeds(None)

Choice: TypeAlias = Callable[[Step, Memory, str], str]
"""A turn, what is known of the conversation, and the model that answered last ("" at first) → the model."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One answer."""

    row: int
    model: str
    usage: Usage


@dataclass(frozen=True, slots=True)
class Router:
    """What decides, at one setting of the dial."""

    fleet: Fleet
    ballot: Ballot
    polled: Sequence[Polled]
    """How the index votes on each prompt."""
    dial: float
    ahead: float = 0.0
    """Turns to come, each charged to a switch with what the prefix that it breaks is worth; the product has none."""

    def choose(self, step: Step, memory: Memory, last: str = "") -> str:
        prompt = Prompt("text", step.input_tokens, TYPICAL_OUTPUT_TOKENS)
        ask = Ask("auto", False, prompt, Preferences(dial=self.dial), {}, writes_cache=True)
        outlook = look_ahead(ask, self.fleet.models, Recalled(memory), SPEEDS, step.at)
        if last and self.ahead:
            outlook = replace(outlook, costs=_charged(outlook, last, self.ahead))
        live = Live(FleetFile(self.fleet, "fleet"), self.ballot)
        case = Case(ask, live, slate.draw(ask, KEY, self.fleet), None, outlook, 0.0)
        return voted(case, self.ballot, self.polled[step.row]).model

    def aware(self, step: Step, memory: Memory, last: str) -> str:
        return self.choose(step, memory, last)

    def unaware(self, step: Step, _: Memory, __: str) -> str:
        """Every turn as if it were the first."""
        return self.choose(step, NOTHING)

    def sticky(self, step: Step, _: Memory, last: str) -> str:
        """The first turn's model for ever."""
        return last or self.choose(step, NOTHING)


def _charged(outlook: Outlook, last: str, turns: float) -> dict[str, float]:
    broken = turns * (outlook.cold[last] - outlook.costs[last])
    return {model: cost if model == last else cost + broken for model, cost in outlook.costs.items()}


def always(name: str) -> Choice:
    return lambda _, __, ___: name


class PromptCaches:
    """The providers' caches of one conversation. As it only grows, all of a model's last request is a prefix of the
    next one."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[int, float]] = {}
        """By model: tokens, and when they were last used."""

    def use(self, model: Model, step: Step) -> Usage:
        price = model.price
        tokens, used = self._kept.get(model.name, (0, 0.0))
        fresh_enough = step.at - used <= LIFE_S and tokens >= FEWEST_TOKENS
        cached = tokens if price.cached_input is not None and fresh_enough else 0
        self._kept[model.name] = (step.input_tokens, step.at)
        written = step.input_tokens - cached if price.cache_write is not None else 0
        return Usage(step.input_tokens, step.output_tokens, cached, written)


def ride(conversation: Conversation, fleet: Fleet, choice: Choice) -> list[Turn]:
    caches, memory, last, turns = PromptCaches(), NOTHING, "", []
    for step in conversation:
        last = choice(step, memory, last)
        usage = caches.use(fleet.by_name[last], step)
        memory = memory.after(last, usage.input_tokens, Warm(usage.input_tokens, step.at))
        turns.append(Turn(step.row, last, usage))
    return turns


def switches(turns: Sequence[Turn]) -> int:
    return sum(one.model != other.model for one, other in itertools.pairwise(turns))
