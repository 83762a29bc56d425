"""Which deployments can be called now: a circuit breaker for each. No I/O; used on one thread."""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from handler.fleet import Deployment, Model

FAILURES = 3
"""In a row, that open a circuit."""
OPEN_S = 5.0
"""For so long at first, then twice as long each time that the trial after it fails too."""
LONGEST_OPEN_S = 60.0
LONGEST_ASKED_S = 3600.0
"""A deployment that wants to be left alone for longer is tried once an hour all the same."""


@dataclass(frozen=True, slots=True)
class Target:
    """One place that serves a model."""

    model: Model
    deployment: Deployment

    @property
    def id(self) -> tuple[str, ...]:
        """Two keys of one provider are two places: one may be dead, or out of its quota, alone."""
        deployment = self.deployment
        return self.model.name, deployment.base_url, deployment.model, deployment.api_key


@dataclass(slots=True)
class _Circuit:
    failures: int = 0
    pause: float = OPEN_S
    """For how long it opens the next time."""
    open_until: float = 0.0
    """0 while it is closed."""
    on_trial: bool = False


class Health:
    """A deployment that fails thrice in a row, or says when to come again, is left alone for a while. Then one request
    tries it: if it answers, all is well again."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, rng: random.Random | None = None) -> None:
        self._clock = clock
        self._random = rng or random.Random()  # noqa: S311 - balancing, not a secret
        self._circuits: dict[tuple[str, ...], _Circuit] = {}

    def order(self, targets: Sequence[Target], preferred: str = "") -> list[Target]:
        """In which they are to be tried: at random by their weights, the preferred (a base URL) first."""
        if len(targets) == 1:
            return list(targets)
        # Of clocks that ring at random, each at the rate of its weight, one rings first in that share of the cases.
        rings = [self._random.expovariate(one.deployment.weight) for one in targets]
        places = sorted(range(len(targets)), key=lambda at: (targets[at].deployment.base_url != preferred, rings[at]))
        return [targets[at] for at in places]

    def admits(self, target: Target) -> bool:
        """Whether it may be called; of those that ask after the pause, the first may."""
        circuit = self._circuits.get(target.id)
        if circuit is None or circuit.open_until == 0:
            return True
        if circuit.on_trial or self._clock() < circuit.open_until:
            return False
        circuit.on_trial = True
        return True

    def wait(self, target: Target) -> float:
        """Seconds until it may be called."""
        circuit = self._circuits.get(target.id)
        return 0.0 if circuit is None else max(circuit.open_until - self._clock(), 0.0)

    def begun(self, target: Target) -> None:
        """Of a stream: others may call it again, but its failures are forgotten only when it has answered."""
        circuit = self._circuits.get(target.id)
        if circuit is not None:
            circuit.open_until, circuit.on_trial = 0.0, False

    def answered(self, target: Target) -> None:
        self._circuits.pop(target.id, None)

    def failed(self, target: Target, retry_after: float | None = None) -> None:
        """`retry_after`: seconds that it asked to be left alone for."""
        circuit = self._circuits.setdefault(target.id, _Circuit())
        circuit.failures += 1
        tried, circuit.on_trial = circuit.on_trial, False
        until = self._clock() + min(retry_after or 0.0, LONGEST_ASKED_S)
        # Of many that were on their way when it opened, only one counts.
        if tried or (circuit.failures >= FAILURES and not self.wait(target)):
            until = max(until, self._clock() + circuit.pause)
            circuit.pause = min(2 * circuit.pause, LONGEST_OPEN_S)
        if until > self._clock():
            circuit.open_until = max(circuit.open_until, until)

    def released(self, target: Target) -> None:
        """Of a call that told nothing: the client left, or it could not be made."""
        circuit = self._circuits.get(target.id)
        if circuit is not None:
            circuit.on_trial = False
