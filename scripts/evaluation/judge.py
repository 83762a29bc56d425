"""Routers measured on the same requests. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from scripts.evaluation import metrics
from scripts.evaluation.arrays import Numbers
from scripts.evaluation.curves import Settings, hull, settings, sweep
from scripts.evaluation.metrics import Calls, Single


@dataclass(frozen=True, slots=True)
class Measures:
    """One router on one split; None where a measure is not defined. metrics.py says what each is."""

    apgr: float | None
    cpt50: float | None
    cpt80: float | None
    saving_at_best: float
    aiq: float | None
    mixed_saving_at_best: float
    cheapest_correct: float | None
    """Of the requests, at the setting where it is highest."""
    quality_at_savings: Mapping[str, float | None]
    dearest_at_budgets: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Routed:
    measures: Measures
    settings: Settings


@dataclass(frozen=True, slots=True)
class Judge:
    """Measures routers on the same requests: `outcomes` [q, m], all known; `cost` [m], from cheap to dear."""

    outcomes: Numbers
    cost: Numbers

    def predicted(self, predicted: Numbers) -> Routed:
        """A router that predicts quality, [q, m]; NaN where it knows nothing of a model."""
        score = predicted[:, -1] - predicted[:, 0]
        calls = None if np.isnan(score).any() else metrics.calls(score, self.outcomes[:, 0], self.outcomes[:, -1])
        return self._routed(sweep(predicted, self.outcomes, self.cost), calls)

    def constants(self) -> dict[str, Routed]:
        """Those that do not look at the prompt. `random` sends each request to one of two models, by lot, which
        two and with what chances as the budget has it; what is given is its expectation (RouterBench's zero
        router)."""
        weak, strong = (self.outcomes[:, end].mean(dtype=np.float64) for end in (0, -1))
        lot = self._routed(self._always(*range(len(self.cost))), Calls(np.array([0.0, 1.0]), np.array([weak, strong])))
        unseen = replace(
            lot.measures, cheapest_correct=None, dearest_at_budgets=dict.fromkeys(lot.measures.dearest_at_budgets)
        )
        return {
            "random": replace(lot, measures=unseen),
            "best_single": self._routed(self._always(metrics.best_single(self.outcomes)), None),
            "cheapest": self._routed(self._always(0), None),
        }

    def _always(self, *places: int) -> Settings:
        """One setting a model, at which it gets every request."""
        choices = [np.full(len(self.outcomes), place) for place in places]
        return settings(choices, np.full(len(places), np.nan), self.outcomes, self.cost)

    def _routed(self, points: Settings, calls: Calls | None) -> Routed:
        place = metrics.best_single(self.outcomes)
        best = Single(float(self.cost[place]), float(self.outcomes[:, place].mean(dtype=np.float64)))
        envelope = hull(points.spend, points.quality)
        return Routed(
            Measures(
                None if calls is None else metrics.apgr(calls),
                None if calls is None else metrics.cpt(calls, 50),
                None if calls is None else metrics.cpt(calls, 80),
                metrics.saving_at_best(points, best),
                metrics.aiq(envelope, float(self.cost[0]), float(self.cost[-1])),
                metrics.mixed_saving_at_best(envelope, best),
                float(points.cheapest_correct.max()),
                metrics.quality_at_savings(envelope, best),
                metrics.dearest_at_budgets(points, float(self.cost[-1])),
            ),
            points,
        )
