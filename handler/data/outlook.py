"""What a request is expected to cost and take on each model, given what each has in its prompt cache. Pure."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from handler.data.sessions import LEAST_TOKENS, NOTHING, Memory, Recalled
from handler.data.speeds import Speeds
from handler.fleet import Model
from handler.flow import Ask, Cause, Decision, Protocol, Usage


@dataclass(frozen=True)
class Outlook:
    """By model."""

    costs: Mapping[str, float]
    """Expected dollars."""
    cold: Mapping[str, float]
    """The same, were nothing cached."""
    cached: Mapping[str, int]
    """Tokens of the input that a model has in its cache; only of those that have any."""
    latencies: Mapping[str, float] = field(default_factory=dict)
    """Expected milliseconds, as far as known."""
    memory: Memory = NOTHING
    """Of the conversation so far."""
    leant_on: Memory = NOTHING
    """Of the answer that the request leans on."""
    sealed_by: str = ""
    """Base URL of the deployment whose reasoning is in the request; "" where there is none, or it is not known."""

    @property
    def continues(self) -> str:
        """The model that gave the answer which the request leans on; "" where it leans on none."""
        return next(iter(self.leant_on.warm), "")

    def deployment(self, model: str) -> str:
        """Base URL of the one that has the conversation; "" where none has."""
        return self.leant_on.deployment(model) or self.sealed_by or self.memory.deployment(model)

    def restated(self, decision: Decision) -> Decision:
        """With what is expected of its model, where that is not the one that was chosen first."""
        if decision.cause is not Cause.FAILOVER:
            return decision
        model = decision.model
        return replace(decision, cost=self.costs[model], cached_tokens=self.cached.get(model, 0))

    @cached_property
    def _fastest(self) -> float:
        return min(self.latencies.values(), default=0.0)

    def slowness(self, model: str) -> float:
        """How many times ten a model is slower than the fastest; 0 where that is not known."""
        latency = self.latencies.get(model)
        return math.log10(latency / self._fastest) if latency and self._fastest else 0.0


SHORTENED = 0.8
"""Of its last length: a conversation that is shorter now was rewritten, and nothing of it is in a cache."""


def look_ahead(ask: Ask, models: Iterable[Model], recalled: Recalled, speeds: Speeds, now: float) -> Outlook:
    cold, costs, cached, latencies = {}, {}, {}, {}
    memory = recalled.conversation
    for model in models:
        cold[model.name] = costs[model.name] = model.price.of(_usage(ask, 0))
        tokens = reused(memory.seen_by(model.name, model.cache_seconds, now), ask, memory, model)
        if tokens:
            cached[model.name] = tokens
            costs[model.name] = model.price.of(_usage(ask, tokens))
        expected = speeds.expected_ms(model, ask.prompt.output_tokens)
        if expected is not None:
            latencies[model.name] = expected
    return Outlook(costs, cold, cached, latencies, memory, recalled.leant_on, memory.latest if ask.is_sealed else "")


def reused(held: int, ask: Ask, memory: Memory, model: Model) -> int:
    """Tokens of the input that come from the model's prompt cache, which holds so many of the conversation."""
    asks_for_it = ask.protocol is not Protocol.MESSAGES or ask.writes_cache
    rewritten = ask.prompt.input_tokens < SHORTENED * memory.tokens
    if model.price.cached_input is None or not asks_for_it or rewritten:
        return 0
    tokens = min(held, ask.prompt.input_tokens)
    return tokens if tokens >= LEAST_TOKENS else 0


def _usage(ask: Ask, cached: int) -> Usage:
    fresh = ask.prompt.input_tokens - cached
    return Usage(ask.prompt.input_tokens, ask.prompt.output_tokens, cached, fresh if ask.writes_cache else 0)
