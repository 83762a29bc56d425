"""The published measures of a router, each with its definition. Pure.

RouteLLM: Ong et al., "RouteLLM: Learning to Route LLMs with Preference Data", 2024.
RouterBench: Hu et al., "RouterBench: A Benchmark for Multi-LLM Routing System", 2024.
LLMRouterBench: Li et al., "LLMRouterBench: A Massive Benchmark and Unified Framework for LLM Routing", 2026.
"""

from dataclasses import dataclass

import numpy as np

from scripts.evaluation.arrays import Numbers
from scripts.evaluation.curves import Hull, Settings

THRESHOLDS = 11
SAVINGS = (10, 20, 30, 40, 50, 60, 70, 80, 90)
"""Per cent of the best single model's cost."""
BUDGETS = (10, 20, 30, 40, 50, 60, 70, 80, 90, 100)
"""Per cent of the dearest model's cost."""
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Calls:
    """Routing between a weak and a strong model: for p thresholds, from few strong calls to many."""

    share: Numbers
    """Of the requests, those that the strong model gets."""
    quality: Numbers
    """Mean outcome."""


@dataclass(frozen=True, slots=True)
class Single:
    """A model that answers everything."""

    cost: float
    quality: float


def calls(score: Numbers, weak: Numbers, strong: Numbers) -> Calls:
    """RouteLLM's curve: requests whose score reaches a threshold go to the strong model; the 11 thresholds are
    the score's quantiles 0, .1, … 1, at the last of which none goes there. The curve ends at the weak model
    alone and at the strong model alone. `score`, and the outcomes `weak` and `strong`, are [q]."""
    thresholds = [*np.quantile(score, np.linspace(0, 1, THRESHOLDS))[:-1], np.inf]
    strongly = [score >= threshold for threshold in reversed(thresholds)]
    share = [0.0, *(float(there.mean()) for there in strongly), 1.0]
    mixed = [float(np.where(there, strong, weak).mean(dtype=np.float64)) for there in strongly]
    ends = float(weak.mean(dtype=np.float64)), float(strong.mean(dtype=np.float64))
    return Calls(np.array(share), np.array([ends[0], *mixed, ends[1]]))


def apgr(curve: Calls) -> float | None:
    """Average performance gap recovered (RouteLLM): the area under the curve, 0 being the weak model alone and
    1 the strong one alone: (area − weak) / (strong − weak). A random router has ½. None where the strong model
    is no better than the weak one."""
    weak, strong = curve.quality[0], curve.quality[-1]
    if strong <= weak:
        return None
    return float((np.trapezoid(curve.quality, curve.share) - weak) / (strong - weak))


def cpt(curve: Calls, percent: float) -> float | None:
    """Call-performance threshold (RouteLLM): the least share of strong calls at which `percent` of the gap
    between weak and strong is recovered, on the curve's straight pieces. None where there is no gap."""
    weak, strong = curve.quality[0], curve.quality[-1]
    if strong <= weak:
        return None
    wanted = weak + percent / 100 * (strong - weak)
    right = int(np.argmax(curve.quality >= wanted))  # the last point has it, being the strong model alone
    if right == 0:
        return 0.0
    (x0, x1), (y0, y1) = curve.share[right - 1 : right + 1], curve.quality[right - 1 : right + 1]
    return float(x0 + (x1 - x0) * (wanted - y0) / (y1 - y0))


def best_single(outcomes: Numbers) -> int:
    """The position of the model with the highest mean outcome, of equals the cheapest: the baseline, chosen with
    hindsight on the very requests that are routed. `outcomes` [q, m], from cheap to dear."""
    return int(np.argmax(outcomes.mean(axis=0, dtype=np.float64)))


def aiq(envelope: Hull, cheapest: float, dearest: float) -> float | None:
    """Average improvement in quality (RouterBench): the mean height of the non-decreasing convex hull between
    the cost of the cheapest model and that of the dearest. None where the router cannot be had that cheaply."""
    if envelope.spend[0] - cheapest > ROUNDING * dearest:
        return None
    inside = (envelope.spend > cheapest) & (envelope.spend < dearest)
    spend = np.array([cheapest, *envelope.spend[inside], dearest])
    height = np.interp(spend, envelope.spend, envelope.quality)
    return float(np.trapezoid(height, spend) / (dearest - cheapest))


def saving_at_best(points: Settings, best: Single) -> float:
    """The share of the best single model's cost that is saved at no less than its quality (LLMRouterBench's
    cost saving): the cheapest one setting that reaches its mean outcome is read, not a mix of settings. 0 where
    none does for less: then the best single model itself is what to run."""
    reached = points.quality >= best.quality - ROUNDING
    return _saved(float(points.spend[reached].min()), best) if reached.any() else 0.0


def mixed_saving_at_best(envelope: Hull, best: Single) -> float:
    """The same, read on the hull: two settings may be mixed at random."""
    if envelope.quality[-1] < best.quality - ROUNDING:
        return 0.0
    return _saved(float(np.interp(best.quality, envelope.quality, envelope.spend)), best)


def quality_at_savings(envelope: Hull, best: Single) -> dict[str, float | None]:
    """Mean quality when 10 %, 20 % … 90 % of the best single model's cost are saved, read on the hull."""
    return {str(saving): envelope.at((100 - saving) * best.cost / 100) for saving in SAVINGS}


def dearest_at_budgets(points: Settings, dearest: float) -> dict[str, float | None]:
    """Routing collapse: the share of the requests that the dearest model gets when 10 %, 20 % … 100 % of its
    cost may be spent on average, at the setting that spends the most of those that keep to the budget. A router
    that collapses sends it nearly all of them long before it has to; the oracle hardly any."""
    return {str(budget): _dearest(points, budget * dearest / 100) for budget in BUDGETS}


def _dearest(points: Settings, budget: float) -> float | None:
    kept = points.spend <= budget + ROUNDING * points.spend.max()
    return float(points.dearest[kept][points.spend[kept].argmax()]) if kept.any() else None


def _saved(spend: float, best: Single) -> float:
    return max(0.0, 1 - spend / best.cost) if best.cost > 0 else 0.0
