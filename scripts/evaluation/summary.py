"""Several splits → means and standard errors."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np

from scripts.evaluation.arrays import Numbers
from scripts.evaluation.contest import Contest
from scripts.evaluation.curves import Settings
from scripts.evaluation.dialled import Dialled, quality_error, spend_error
from scripts.evaluation.metrics import Single, saving_at_best
from scripts.evaluation.trial import CONSTANT, Trial

Statistic: TypeAlias = Callable[[Sequence[float]], float | None]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All that a run found out."""

    file: str
    prompts: int
    duplicates: int
    fingerprint: str
    contest: Contest
    trials: tuple[Trial, ...]


def measures(trials: Sequence[Trial], router: str) -> dict[str, Any]:
    """The router's Measures, averaged over the splits where they are defined, beside their standard errors,
    which need two of those."""
    found = [asdict(trial.routers[router].measures) for trial in trials]
    return {**_over(found, _mean), "standard_error": _over(found, _standard_error)}


def pooled_saving_at_best(evaluation: Evaluation, router: str) -> float | None:
    """The saving read once, on the router's curve averaged over the splits, against the model that is best on
    average: one split's curve is nearly flat there, so that a handful of outcomes moves its reading a long way.
    None for routers without a curve."""
    if router in CONSTANT:
        return None
    quality = qualities(evaluation.trials)
    place = int(np.argmax(quality))
    best = Single(float(evaluation.contest.cost[place]), float(quality[place]))
    return saving_at_best(curve(evaluation.trials, router), best)


def curve(trials: Sequence[Trial], router: str) -> Settings:
    """The router's settings, averaged over the splits; it has the same ones in each."""
    found = [asdict(trial.routers[router].settings) for trial in trials]
    return Settings(**{name: _stacked(found, name) for name in found[0]})


def dial(trials: Sequence[Trial]) -> Dialled:
    found = [asdict(trial.dial) for trial in trials]
    return Dialled(**{name: _stacked(found, name) for name in found[0]})


def dial_error(evaluation: Evaluation) -> dict[str, float]:
    """Of one split's promise, averaged over the splits; not of the averages, in which errors cancel out."""
    dearest = float(evaluation.contest.cost[-1])
    return {
        "quality": float(np.mean([quality_error(trial.dial) for trial in evaluation.trials])),
        "spend": float(np.mean([spend_error(trial.dial, dearest) for trial in evaluation.trials])),
    }


def qualities(trials: Sequence[Trial]) -> Numbers:
    """[m]; each model's mean outcome on what was routed."""
    mean: Numbers = np.mean([trial.quality for trial in trials], axis=0)
    return mean


def _stacked(found: Sequence[dict[str, Any]], name: str) -> Numbers:
    mean: Numbers = np.mean([one[name] for one in found], axis=0)
    return mean


def _over(found: Sequence[Mapping[str, Any]], statistic: Statistic) -> dict[str, Any]:
    """The statistic of each value, also of those of a mapping within."""
    return {
        name: _over([one[name] for one in found], statistic)
        if isinstance(value, Mapping)
        else statistic([one[name] for one in found if one[name] is not None])
        for name, value in found[0].items()
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _standard_error(values: Sequence[float]) -> float | None:
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
