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


@dataclass(frozen=True, slots=True)
class Target:
    """One place that serves a model."""

    model: Model
    deployment: Deployment

    @property
    def id(self) -> tuple[str, str, str]:
        return self.model.name, self.deployment.base_url, self.deployment.model


@dataclass(slots=True)
class _Circuit:
    failures: int = 0
    openings: int = 0
    open_until: float = 0.0
    on_trial: bool = False


class Health:
    """A deployment that fails thrice in a row, or says when to come again, is left alone for a while. Then one request
    tries it: if it answers, all is well again."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, rng: random.Random | None = None) -> None:
        self._clock = clock
        self._random = rng or random.Random()  # noqa: S311 - balancing, not a secret
        self._circuits: dict[tuple[str, str, str], _Circuit] = {}

    def order(self, targets: Sequence[Target], preferred: str = "") -> list[Target]:
        """In which they are to be tried: at random by their weights, the preferred (a base URL) first."""
        if len(targets) == 1:
            return list(targets)
        drawn = {one.id: self._random.random() ** (1 / one.deployment.weight) for one in targets}
        return sorted(targets, key=lambda one: (one.deployment.base_url != preferred, -drawn[one.id]))

    def closed(self, target: Target) -> bool:
        """Whether it may be called; of those that ask after the pause, the first may."""
        circuit = self._circuits.get(target.id)
        if circuit is None or circuit.open_until == 0:
            return True
        if circuit.on_trial or self._clock() < circuit.open_until:
            return False
        circuit.on_trial = True
        return True

    def answered(self, target: Target) -> None:
        self._circuits.pop(target.id, None)

    def failed(self, target: Target, retry_after: float | None = None) -> None:
        """`retry_after`: seconds that it asked to be left alone for."""
        circuit = self._circuits.setdefault(target.id, _Circuit())
        circuit.failures += 1
        if retry_after is not None:
            self._open(circuit, min(retry_after, LONGEST_OPEN_S))
        elif circuit.on_trial or circuit.failures >= FAILURES:
            self._open(circuit, min(OPEN_S * 2**circuit.openings, LONGEST_OPEN_S))
            circuit.openings += 1

    def released(self, target: Target) -> None:
        """Of a call that told nothing: the client left, or the request was at fault."""
        circuit = self._circuits.get(target.id)
        if circuit is not None:
            circuit.on_trial = False

    def _open(self, circuit: _Circuit, seconds: float) -> None:
        circuit.open_until = self._clock() + seconds
        circuit.on_trial = False
