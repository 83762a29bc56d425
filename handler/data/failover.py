"""Decision → Reply: who is called, in which order, how often, and what is told when nobody answers."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from handler.data.forward import Failed, Forwarder, Reply, milliseconds_since
from handler.data.health import Health, Target
from handler.errors import UpstreamFailed
from handler.fleet import Fleet
from handler.flow import Ask, Attempt, Cause, Decision
from handler.wire.wire import Wire

MOST_ATTEMPTS = 8
PAUSE_S = 0.25
"""The most that is waited before everybody is asked a second time; twice as long before the third."""
LONGEST_PAUSE_S = 5.0
"""An upstream that wants to be left alone for longer is not waited for: the caller is told."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Bounds on one request."""

    deadline_s: float
    """For all attempts together, until an answer is there or its stream has begun."""
    first_byte_s: float
    """For a stream to begin, while there is another to ask."""
    rounds: int
    """How often everybody is asked at most."""


@dataclass(frozen=True, slots=True)
class Served:
    """An answer, and the decision as it came out."""

    reply: Reply
    decision: Decision


class NotServed(Exception):
    """Nobody answered. `failed` is what the caller is told, `decision` has all attempts."""

    def __init__(self, failed: Failed, decision: Decision) -> None:
        super().__init__(failed.fault)
        self.failed = failed
        self.decision = decision


class Failover:
    def __init__(
        self,
        forwarder: Forwarder,
        health: Health,
        patience: Patience,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._forwarder = forwarder
        self._health = health
        self._patience = patience
        self._sleep = sleep

    async def send(
        self, ask: Ask, decision: Decision, fleet: Fleet, wire: Wire, preferred: str = "", path: str = ""
    ) -> Served:
        """`preferred`: base URL of the deployment that has the conversation in its cache. `path`: see Forwarder.call.
        Raises NotServed.

        Whatever fails before the first byte moves on: to the model's other deployments, then to the fallbacks. When
        all have been asked, those that may do better in a moment are asked again, after a pause."""
        course = _Course(decision, time.monotonic() + self._patience.deadline_s)
        targets = self._targets(ask, decision, fleet, preferred)
        for turn in range(self._patience.rounds):
            for target in self._callable(targets):
                served = await self._try(course, target, ask, wire, len(targets) == 1, path)
                if served is not None:
                    return served
                if course.over:
                    raise NotServed(course.last, course.decision)
            targets = [target for target in targets if target not in course.spent]
            pause = course.pause(turn)
            if not targets or turn + 1 == self._patience.rounds or pause is None:
                break
            await self._sleep(pause)
        raise NotServed(course.last, course.decision)

    async def _try(
        self, course: "_Course", target: Target, ask: Ask, wire: Wire, alone: bool, path: str
    ) -> Served | None:
        started = time.perf_counter()
        try:
            reply = await self._forwarder.call(target, ask, wire, self._seconds(course, ask, alone), path)
        except Failed as failed:
            if failed.blames and not path:  # a deployment without a path on the side may still answer
                self._health.failed(target, failed.retry_after)
            else:
                self._health.released(target)
            course.note(target, failed, milliseconds_since(started))
            return None
        except asyncio.CancelledError:
            self._health.released(target)
            raise
        self._health.answered(target)
        return Served(reply, _came_out(course.decision, target.model.name))

    def _targets(self, ask: Ask, decision: Decision, fleet: Fleet, preferred: str) -> list[Target]:
        names = (decision.model, *decision.fallbacks)
        models = [fleet.by_name[name] for name in names]
        of_each = [[Target(model, one) for one in model.serving(ask.protocol)] for model in models]
        return [target for targets in of_each for target in self._health.order(targets, preferred)]

    def _callable(self, targets: Sequence[Target]) -> Iterator[Target]:
        """Those whose circuit is closed; where none is, the first: a doubtful answer is better than none."""
        any_closed = False
        for target in targets:
            if self._health.closed(target):
                any_closed = True
                yield target
        if not any_closed:
            yield targets[0]

    def _seconds(self, course: "_Course", ask: Ask, alone: bool) -> float:
        left = max(course.deadline - time.monotonic(), 0.0)
        return min(left, self._patience.first_byte_s) if ask.stream and not alone else left


class _Course:
    """What happened so far to one request."""

    def __init__(self, decision: Decision, deadline: float) -> None:
        self.decision = decision
        self.deadline = deadline
        self.last = Failed("", UpstreamFailed("no deployment could be called"))
        self.spent: set[Target] = set()
        """Not to be asked again."""
        self._moves_on = True

    @property
    def over(self) -> bool:
        attempts = len(self.decision.attempts)
        return not self._moves_on or attempts >= MOST_ATTEMPTS or time.monotonic() >= self.deadline

    def note(self, target: Target, failed: Failed, ms: float) -> None:
        attempt = Attempt(target.model.name, _host(target.deployment.base_url), failed.fault, round(ms, 1))
        self.decision = replace(self.decision, attempts=(*self.decision.attempts, attempt))
        self.last = failed
        self._moves_on = failed.moves_on
        if not failed.again:
            self.spent.add(target)

    def pause(self, turn: int) -> float | None:
        """Seconds, at random so that callers who failed together do not come back together; None where it would be
        too long."""
        wanted = self.last.retry_after or 0.0
        pause = wanted + random.uniform(0, PAUSE_S * 2**turn)  # noqa: S311 - no secret
        return pause if wanted <= LONGEST_PAUSE_S and time.monotonic() + pause < self.deadline else None


def _came_out(decision: Decision, model: str) -> Decision:
    if model == decision.model:
        return decision
    ranked = next((one for one in decision.ranking if one.model == model), None)
    return replace(
        decision,
        model=model,
        cause=Cause.FAILOVER,
        cost=ranked.cost if ranked else decision.cost,
        confidence=ranked.quality if ranked else None,
    )


def _host(base_url: str) -> str:
    try:
        return urlsplit(base_url).netloc.rpartition("@")[2]
    except ValueError:  # what is no URL has no host
        return ""
