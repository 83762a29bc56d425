"""Quality, cost and the dial → a ranking; and the curve that says what the dial buys. Pure."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from index.types import Floats, Rows

MOST_CAPABLE = 0.0
CHEAPEST = 10.0
"""The dial's end at which price alone decides; 0 is the end at which quality alone does."""
TENTHS = 10
"""How many settings of the dial the curve is measured at from one whole setting to the next."""
SETTINGS = np.arange(10 * TENTHS + 1) / TENTHS
COST_TIERS = {"low": 9.0, "medium": 7.0, "high": 5.0, "xhigh": 3.0, "max": 1.0}
"""OpenRouter's names for the fifths of what can be spent, cheapest first. The dial is linear in spend, so the middle
of each fifth is one setting."""
LEAST_GAP = 1e-6
"""Of quality; what is nearer than this are equals."""
Z = 1.96
"""Standard errors in a 95 % half-width."""


@dataclass(frozen=True, slots=True)
class Promise:
    """What one setting of the dial gave on the index's own examples, leave-one-out.

    The margins are 95 % half-widths: what the mean over other examples, drawn as these were, would differ by. They
    cover that sampling and no more: not prompts unlike the examples, not outcomes that were measured wrongly, not
    requests longer or shorter than the typical one.
    """

    spend: float
    """Mean dollars of a typical request."""
    spend_margin: float
    """Infinite where one example alone was measured."""
    quality: float
    """Mean measured outcome of the models chosen, over examples where it is known; NaN where none is."""
    quality_margin: float


@dataclass(frozen=True, slots=True)
class Single:
    """What one model alone gave on the same examples."""

    cost: float
    """Dollars of a typical request."""
    quality: float
    """Mean measured outcome; NaN where none is known."""
    quality_margin: float
    """As in Promise."""
    measured: int
    """The examples where its outcome is known."""


@dataclass(frozen=True, slots=True)
class Curve:
    """What each setting of the dial gave on the index's own examples, leave-one-out.

    It depends on the fleet's prices as much as on the index, so a version keeps that of the fleet of its time, and it
    is computed anew when another fleet meets it; nothing is embedded for it.
    """

    exchange: tuple[float, ...]
    """At each whole setting, λ: how much quality one dollar must buy; rising, 0 at dial 0."""
    promises: tuple[Promise, ...]
    """At 0, 0.1, 0.2 … 10, with the λ that `rate` gives there."""
    singles: tuple[Single, ...]
    """In the order of the candidates."""
    examples: int
    """How many it was measured on; 0 where there was nothing to calibrate on."""

    def rate(self, dial: float) -> float:
        """λ at any setting 0..10."""
        return float(np.interp(dial, np.arange(len(self.exchange)), self.exchange))

    def promise(self, dial: float) -> Promise:
        """At any setting 0..10, as measured at the nearest tenth."""
        return self.promises[round(dial * TENTHS)]

    @property
    def spend(self) -> tuple[float, ...]:
        """Mean dollars a request, at each whole setting; linear as far as whole examples allow."""
        return tuple(promise.spend for promise in self.promises[::TENTHS])

    @property
    def quality(self) -> tuple[float, ...]:
        """Mean outcome, at each whole setting."""
        return tuple(promise.quality for promise in self.promises[::TENTHS])

    def dial_for_quality(self, least: float) -> float:
        """The highest, so the cheapest, setting that promises at least this quality; 0 where none does. To a tenth."""
        return max(self._settings(lambda promise: promise.quality >= least), default=0.0)

    def dial_for_spend(self, most: float) -> float:
        """The lowest, so the best, setting that promises to spend at most this; 10 where none does. To a tenth."""
        return min(self._settings(lambda promise: promise.spend <= most), default=CHEAPEST)

    def _settings(self, keeps: Callable[[Promise], bool]) -> list[float]:
        return [place / TENTHS for place, promise in enumerate(self.promises) if keeps(promise)]

    def best_single(self) -> int | None:
        """The position of the model that does best alone; of equals the cheaper. One that was measured on less than
        half as many examples as another does not stand beside it."""
        most = max((single.measured for single in self.singles), default=0)
        stand = [place for place, single in enumerate(self.singles) if single.measured * 2 >= most > 0]
        return min(stand, key=lambda place: (-self.singles[place].quality, self.singles[place].cost), default=None)


FLAT = Curve((0.0,) * 11, (Promise(0.0, 0.0, 0.0, 0.0),) * len(SETTINGS), (), 0)
"""Where there is nothing to calibrate on, only the dial's ends mean something."""


def rank(
    quality: Sequence[float], cost: Sequence[float], dial: float, rate: float, claimed: Sequence[bool]
) -> list[int]:
    """Positions of the models from best to worst: quality − λ·cost; at dial 10 by cost alone; but first of all
    those that the intent belongs to, whatever they cost.

    Equals go to the cheaper, but for dial 0, which takes no risk to save: there to the dearer. A model of unknown
    quality (NaN) is left out. Each list has one entry a model. Raising the dial never ranks a dearer model first.
    """
    voted = [position for position in range(len(quality)) if not math.isnan(quality[position])]
    if dial >= CHEAPEST:
        return sorted(voted, key=lambda place: (not claimed[place], cost[place], -quality[place]))
    if dial <= MOST_CAPABLE:
        return sorted(voted, key=lambda place: (not claimed[place], -quality[place], -cost[place]))
    return sorted(voted, key=lambda place: (not claimed[place], rate * cost[place] - quality[place], cost[place]))


def calibrate(predicted: Floats, outcomes: Floats, cost: Floats) -> Curve:
    """The curve, with λ set so that spend falls linearly from dial 0 to dial 10.

    `predicted` [n, m] are leave-one-out votes, `outcomes` [n, m] what was measured (NaN unknown), `cost` [m].
    """
    if np.isnan(predicted).all():
        return FLAT
    singles = tuple(_single(column, float(dollars)) for column, dollars in zip(outcomes.T, cost, strict=True))
    order = np.argsort(cost, kind="stable")  # argmax takes the first of equals, which must be the cheaper
    offered = np.where(np.isnan(predicted), -np.inf, predicted)[:, order]
    outcomes, cost = outcomes[:, order], cost[order].astype(np.float64)
    exchange = _exchange(offered, cost)
    rates = np.interp(SETTINGS, np.arange(len(exchange)), exchange)
    promises = tuple(_promise(outcomes, cost, _pick(offered, cost, rate)) for rate in rates)
    return Curve(tuple(exchange.tolist()), promises, singles, len(predicted))


def _exchange(offered: Floats, cost: Floats) -> Floats:
    """[11] λ at each whole setting."""
    steepest = _steepest(offered, cost)
    dear, cheap = _spend(offered, cost, 0.0), _spend(offered, cost, steepest)
    targets = np.linspace(dear, cheap, 11)[1:]
    found = (_find_rate(offered, cost, target, steepest) for target in targets)
    exchange: Floats = np.maximum.accumulate([0.0, *found])
    return exchange


def _promise(outcomes: Floats, cost: Floats, pick: Rows) -> Promise:
    spent = cost[pick]
    more = spent - spent[0]  # so that the mean of equals is what they are, to the last digit
    margin = Z * more.std(ddof=1) / math.sqrt(len(more)) if len(more) > 1 else math.inf
    quality, quality_margin, _ = _mean_outcome(outcomes[np.arange(len(outcomes)), pick])
    return Promise(float(spent[0] + more.mean()), float(margin), quality, quality_margin)


def _single(outcomes: Floats, cost: float) -> Single:
    return Single(cost, *_mean_outcome(outcomes))


def _mean_outcome(outcomes: Floats) -> tuple[float, float, int]:
    """Mean and margin of those that are known, and how many are. The margin is Agresti and Coull's: two more at
    either end of the scale, so that a few that agree are not taken for certain."""
    known = outcomes[~np.isnan(outcomes)].astype(np.float64)
    if not len(known):
        return math.nan, math.inf, 0
    padded = np.concatenate([known, (0.0, 0.0, 1.0, 1.0)])
    return float(known.mean()), float(Z * padded.std() / math.sqrt(len(padded))), len(known)


def _pick(offered: Floats, cost: Floats, rate: float) -> Rows:
    """[n], models being ordered from cheap to dear; of equals as `rank` has it."""
    if rate == 0:
        dearest: Rows = offered.shape[1] - 1 - np.argmax(offered[:, ::-1], axis=1)
        return dearest
    chosen: Rows = np.argmax(offered - rate * cost, axis=1)
    return chosen


def _spend(offered: Floats, cost: Floats, rate: float) -> float:
    return float(cost[_pick(offered, cost, rate)].mean())


def _steepest(offered: Floats, cost: Floats) -> float:
    """A λ at which the cheapest model that can be had wins every example."""
    finite = np.isfinite(offered)
    gap = np.where(finite, offered, -1.0).max(axis=1) - np.where(finite, offered, 2.0).min(axis=1)
    steps = np.diff(np.unique(cost))
    return float(1.01 * max(gap.max(), LEAST_GAP) / steps.min()) if len(steps) else 0.0


def _find_rate(offered: Floats, cost: Floats, target: float, steepest: float) -> float:
    """The least λ, to nine digits, at which no more than `target` is spent. Bisection in log λ: spend only falls as
    λ grows."""
    low, high = steepest * 1e-30, steepest
    for _ in range(60):
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if _spend(offered, cost, middle) > target else (low, middle)
    return high * (1 + 1e-9)  # past the tie that it found, where rounding would choose
