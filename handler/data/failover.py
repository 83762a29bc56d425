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
from handler.fleet import Fleet, Model
from handler.flow import Ask, Attempt, Cause, Decision
from handler.wire.wire import Wire

MOST_ATTEMPTS = 8
PAUSE_S = 0.25
"""The most that is waited before everybody is asked a second time; twice as long before the third."""
LONGEST_WAIT_S = 2.0
"""Deployments that are all to be left alone for longer are not waited for: the caller is told."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Bounds on one request."""

    deadline_s: float
    """For all attempts together, until an answer is there or its stream has begun."""
    first_byte_s: float
    """For a stream to begin, while there is another to ask."""
    rounds: int
    """How often everybody is asked at most."""


Affords = Callable[[Model], Awaitable[bool]]
"""Whether the caller may spend what this model is expected to cost."""


async def _affords_all(_: Model) -> bool:
    return True


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
        self,
        ask: Ask,
        decision: Decision,
        fleet: Fleet,
        wire: Wire,
        preferred: str = "",
        path: str = "",
        affords: Affords = _affords_all,
    ) -> Served:
        """`preferred`: base URL of the deployment that has the conversation in its cache. `path`: see Forwarder.call.
        Raises NotServed.

        Whatever fails before the first byte moves on: to the model's other deployments, then to the fallbacks. When
        all have been asked, those that may do better in a moment are asked again, after a pause."""
        course = _Course(decision, time.monotonic() + self._patience.deadline_s)
        targets = self._targets(ask, decision, fleet, preferred)
        for turn in range(self._patience.rounds):
            for target in self._admitted(targets, course, turn):
                if not await affords(target.model):
                    self._health.released(target)
                    course.pass_over(target)
                    continue
                served = await self._try(course, target, ask, wire, self._is_last(target, targets, course), path)
                if served is not None:
                    return served
                if course.over:
                    raise NotServed(course.told, course.decision)
            targets = [target for target in targets if course.stands(target)]
            if not targets or turn + 1 == self._patience.rounds:
                break
            pause = course.pause(turn, min(map(self._health.wait, targets)))
            if pause is None:
                break
            await self._sleep(pause)
        raise NotServed(course.told, course.decision)

    def ended(self, target: Target, whole: bool) -> None:
        """How a stream went on that was served: one that breaks off time and again is not worth asking."""
        if whole:
            self._health.answered(target)
        else:
            self._health.failed(target)

    async def _try(
        self, course: "_Course", target: Target, ask: Ask, wire: Wire, last: bool, path: str
    ) -> Served | None:
        started = time.perf_counter()
        left = max(course.deadline - time.monotonic(), 0.0)
        # The last one is waited for: the others have been asked.
        seconds = left if last or not ask.stream else min(left, self._patience.first_byte_s)
        try:
            reply = await self._forwarder.call(target, ask, wire, seconds, path, holds_opening=not last)
        except Failed as failed:
            self._blame(target, failed, path)
            course.note(target, failed, milliseconds_since(started))
            return None
        except BaseException:  # a client that left, above all: nobody else would end the trial
            self._health.released(target)
            raise
        if path:  # as in _blame
            self._health.released(target)
        elif reply.rest is None:
            self._health.answered(target)
        else:
            self._health.begun(target)
        return Served(reply, _came_out(course.decision, target.model.name))

    def _is_last(self, target: Target, targets: Sequence[Target], course: "_Course") -> bool:
        """Whether nobody is left to ask in this round."""
        behind = targets[targets.index(target) + 1 :]
        return not any(course.stands(one) and not self._health.wait(one) for one in behind)

    def _blame(self, target: Target, failed: Failed, path: str) -> None:
        """What a deployment says to a request that is at fault itself shows that it is well. Another path than that of
        completions may be unknown to it, which tells nothing."""
        if path or (not failed.blames and failed.reply is None):
            self._health.released(target)
        elif failed.blames:
            self._health.failed(target, failed.retry_after)
        else:
            self._health.answered(target)

    def _targets(self, ask: Ask, decision: Decision, fleet: Fleet, preferred: str) -> list[Target]:
        targets: list[Target] = []
        for name in (decision.model, *decision.fallbacks):
            model = fleet.by_name[name]
            of_model = [Target(model, one) for one in model.serving(ask.protocol)]
            targets += self._health.order(of_model, preferred)
        if ask.leans_on and targets[0].deployment.base_url == preferred:
            return [target for target in targets if target.deployment.base_url == preferred]
        if ask.is_sealed:  # elsewhere it may be refused, but that is better than no answer
            return sorted(targets, key=lambda target: target.deployment.base_url != preferred)
        return targets

    def _admitted(self, targets: Sequence[Target], course: "_Course", turn: int) -> Iterator[Target]:
        """Those that may be called. Where none may, the one that may be first is, once: a doubtful answer is better
        than none."""
        any_admitted = False
        for target in targets:
            if course.stands(target) and self._health.admits(target):
                any_admitted = True
                yield target
        if not any_admitted and turn == 0:
            yield min(targets, key=self._health.wait)


class _Course:
    """What happened so far to one request."""

    def __init__(self, decision: Decision, deadline: float) -> None:
        self.decision = decision
        self.deadline = deadline
        self._last: Failed | None = None
        self._spent: set[tuple[str, ...]] = set()
        """Ids of targets that are not to be asked, or not again."""
        self._too_small: list[Model] = []
        """Models that the request is too long for."""

    @property
    def told(self) -> Failed:
        """What the caller is to hear."""
        return self._last or Failed("", UpstreamFailed("no deployment could be called"))

    @property
    def over(self) -> bool:
        moves_on = self._last is None or self._last.moves_on
        return not moves_on or len(self.decision.attempts) >= MOST_ATTEMPTS or time.monotonic() >= self.deadline

    def stands(self, target: Target) -> bool:
        """Whether it may do better than what was tried."""
        if not self._spent and not self._too_small:
            return True
        return target.id not in self._spent and all(_may_be_larger(target.model, small) for small in self._too_small)

    def note(self, target: Target, failed: Failed, ms: float) -> None:
        attempt = Attempt(target.model.name, _host(target.deployment.base_url), failed.fault, round(ms, 1))
        self.decision = replace(self.decision, attempts=(*self.decision.attempts, attempt))
        self._last = failed
        if failed.too_long:
            self._too_small.append(target.model)
        if not failed.again:
            self._spent.add(target.id)

    def pass_over(self, target: Target) -> None:
        self._spent.add(target.id)

    def pause(self, turn: int, wait: float) -> float | None:
        """Seconds, `wait` and more at random, so that callers who failed together do not come back together; None
        where it would be too long."""
        pause = wait + random.uniform(0, PAUSE_S * 2**turn)  # noqa: S311 - no secret
        return pause if wait <= LONGEST_WAIT_S and time.monotonic() + pause < self.deadline else None


def _may_be_larger(model: Model, small: Model) -> bool:
    if model.name == small.name:
        return False
    return model.context is None or small.context is None or model.context > small.context


def _came_out(decision: Decision, model: str) -> Decision:
    if model == decision.model:
        return decision
    quality = next((one.quality for one in decision.ranking if one.model == model), None)
    return replace(decision, model=model, cause=Cause.FAILOVER, confidence=quality)


def _host(base_url: str) -> str:
    try:
        return urlsplit(base_url).netloc.rpartition("@")[2]
    except ValueError:  # what is no URL has no host
        return ""
