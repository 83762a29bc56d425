"""Predicted quality → what routing by it spends and gets, at every exchange of quality for cost. Pure."""

from dataclasses import dataclass

import numpy as np

from index.types import Rows
from scripts.evaluation.arrays import Numbers

STEPS_A_DECADE = 100
FINEST = 1e-4
"""The least difference in predicted quality, over the whole range of costs, that the sweep tells apart."""
WIDEST = 2.0
"""A difference in predicted quality that no two models have."""


@dataclass(frozen=True, slots=True)
class Settings:
    """p settings of a router and what each gave. All arrays are [p]."""

    exchange: Numbers
    """λ, in quality per unit of cost."""
    spend: Numbers
    """Mean cost of a request."""
    quality: Numbers
    """Mean measured outcome of the models chosen."""
    dearest: Numbers
    """Share of the requests that went to the dearest model."""
    cheapest_correct: Numbers
    """Share of the requests that went to the cheapest of the models that were right."""


@dataclass(frozen=True, slots=True)
class Hull:
    """A non-decreasing, concave line from cheap to dear; flat beyond its end."""

    spend: Numbers
    quality: Numbers

    def at(self, spend: float) -> float | None:
        """The best mean quality for that spend; None below what the cheapest setting spends."""
        return None if spend < self.spend[0] else float(np.interp(spend, self.spend, self.quality))


def exchanges(cost: Numbers) -> Numbers:
    """[p] λ from 0 to where the cheapest model always wins; they depend on prices alone, so that the settings
    of several splits can be averaged. `cost` [m], from cheap to dear."""
    steps = np.diff(np.unique(cost))
    low, high = FINEST / steps.sum(), WIDEST / steps.min()
    count = int(np.ceil(np.log10(high / low) * STEPS_A_DECADE))
    return np.concatenate([[0.0], np.geomspace(low, high, count)])


def choose(predicted: Numbers, cost: Numbers, exchange: float) -> Rows:
    """[q] positions of the models with the largest quality − λ·cost; of equals the cheapest. `predicted` [q, m],
    NaN where nothing is known; models are in the order of `cost`, from cheap to dear."""
    offered = np.where(np.isnan(predicted), -np.inf, predicted)
    chosen: Rows = np.argmax(offered - exchange * cost, axis=1)
    return chosen


def sweep(predicted: Numbers, outcomes: Numbers, cost: Numbers) -> Settings:
    """A router at every λ. `outcomes` [q, m], all known."""
    rates = exchanges(cost)
    return settings([choose(predicted, cost, rate) for rate in rates], rates, outcomes, cost)


def settings(choices: list[Rows], exchange: Numbers, outcomes: Numbers, cost: Numbers) -> Settings:
    """What each of p lists of choices, [q] positions of models, gave."""
    every = np.arange(len(outcomes))
    cheapest = _cheapest_correct(outcomes)
    return Settings(
        exchange,
        np.array([cost[chosen].mean() for chosen in choices]),
        np.array([outcomes[every, chosen].mean(dtype=np.float64) for chosen in choices]),
        np.array([np.mean(chosen == len(cost) - 1) for chosen in choices]),
        np.array([np.mean(chosen == cheapest) for chosen in choices]),
    )


def hull(spend: Numbers, quality: Numbers) -> Hull:
    """The non-decreasing convex hull: what can be had by mixing settings at random. A setting that spends more
    for less quality is left out, and so is one that a mix of its neighbours betters."""
    kept: list[tuple[float, float]] = []
    for x, y in sorted(zip(spend.tolist(), quality.tolist(), strict=True), key=lambda point: (point[0], -point[1])):
        if kept and y <= kept[-1][1]:
            continue
        while len(kept) > 1 and _slope(kept[-2], kept[-1]) <= _slope(kept[-1], (x, y)):
            kept.pop()
        kept.append((x, y))
    return Hull(np.array([x for x, _ in kept]), np.array([y for _, y in kept]))


def _slope(left: tuple[float, float], right: tuple[float, float]) -> float:
    return (right[1] - left[1]) / (right[0] - left[0])


def _cheapest_correct(outcomes: Numbers) -> Rows:
    """[q]; −1 where no model was right. Right is an outcome of at least ½."""
    right = outcomes >= 0.5
    return np.where(right.any(axis=1), right.argmax(axis=1), -1)
