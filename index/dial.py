"""Quality, cost and the dial → a ranking; and the curve that says what the dial buys. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from index.types import Floats, Rows

CHEAPEST = 10.0
"""The dial's end at which price alone decides; 0 is the end at which quality alone does."""


@dataclass(frozen=True, slots=True)
class Curve:
    """What each whole setting of the dial, 0 to 10, gave on the index's own examples, leave-one-out."""

    exchange: tuple[float, ...]
    """λ: how much quality one dollar must buy; rising, 0 at dial 0."""
    spend: tuple[float, ...]
    """Mean dollars a request."""
    quality: tuple[float, ...]
    """Mean measured outcome of the models chosen, over examples where it is known."""
    examples: int

    def rate(self, dial: float) -> float:
        """λ at any setting 0..10."""
        return float(np.interp(dial, np.arange(len(self.exchange)), self.exchange))


FLAT = Curve((0.0,) * 11, (0.0,) * 11, (0.0,) * 11, 0)
"""Where there is nothing to calibrate on, only the dial's ends mean something."""


def rank(
    quality: Sequence[float], cost: Sequence[float], dial: float, rate: float, claimed: Sequence[bool]
) -> list[int]:
    """Positions of the models from best to worst: quality − λ·cost; at dial 10 by cost alone; but first of all
    those that the intent belongs to, whatever they cost.

    Equals go to the cheaper. A model of unknown quality (NaN) is left out. Each list has one entry a model.
    Raising the dial never ranks a dearer model first.
    """
    voted = [position for position in range(len(quality)) if not math.isnan(quality[position])]
    if dial >= CHEAPEST:
        return sorted(voted, key=lambda place: (not claimed[place], cost[place], -quality[place]))
    return sorted(voted, key=lambda place: (not claimed[place], rate * cost[place] - quality[place], cost[place]))


def calibrate(predicted: Floats, outcomes: Floats, cost: Floats) -> Curve:
    """The curve, with λ set so that spend falls linearly from dial 0 to dial 10.

    `predicted` [n, m] are leave-one-out votes, `outcomes` [n, m] what was measured (NaN unknown), `cost` [m].
    """
    if np.isnan(predicted).all():
        return FLAT
    order = np.argsort(cost, kind="stable")  # argmax takes the first of equals, which must be the cheaper
    offered = np.where(np.isnan(predicted), -np.inf, predicted)[:, order]
    outcomes, cost = outcomes[:, order], cost[order].astype(np.float64)
    steepest = _steepest(offered, cost)
    dear, cheap = _spend(offered, cost, 0.0), _spend(offered, cost, steepest)
    targets = np.linspace(dear, cheap, 11)[1:]
    exchange = np.maximum.accumulate([0.0, *(_find_rate(offered, cost, target, steepest) for target in targets)])
    picks = [_pick(offered, cost, rate) for rate in exchange]
    return Curve(
        tuple(float(rate) for rate in exchange),
        tuple(float(cost[pick].mean()) for pick in picks),
        tuple(_mean_outcome(outcomes, pick) for pick in picks),
        len(predicted),
    )


def _pick(offered: Floats, cost: Floats, rate: float) -> Rows:
    chosen: Rows = np.argmax(offered - rate * cost, axis=1)
    return chosen


def _spend(offered: Floats, cost: Floats, rate: float) -> float:
    return float(cost[_pick(offered, cost, rate)].mean())


def _steepest(offered: Floats, cost: Floats) -> float:
    """A λ at which the cheapest model that can be had wins every example."""
    finite = np.isfinite(offered)
    gap = np.where(finite, offered, -1.0).max(axis=1) - np.where(finite, offered, 2.0).min(axis=1)
    steps = np.diff(np.unique(cost))
    return float(1.01 * gap.max() / steps.min()) if len(steps) else 0.0


def _find_rate(offered: Floats, cost: Floats, target: float, steepest: float) -> float:
    """The least λ at which no more than `target` is spent. Bisection in log λ: spend only falls as λ grows."""
    low, high = steepest * 1e-30, steepest
    for _ in range(60):
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if _spend(offered, cost, middle) > target else (low, middle)
    return high


def _mean_outcome(outcomes: Floats, pick: Rows) -> float:
    chosen = outcomes[np.arange(len(outcomes)), pick]
    return float(np.nanmean(chosen)) if not np.isnan(chosen).all() else float("nan")
