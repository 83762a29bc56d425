"""A case, split and routed: what the vote promised and delivered, calibrated and plain, beside the controls."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from tqdm import tqdm

from index.ballot import Ballot
from index.dial import Curve
from index.types import Rows
from scripts.evaluation import trial
from scripts.evaluation.arrays import Numbers
from scripts.evaluation.contest import Contest, of
from scripts.evaluation.curves import choose
from scripts.evaluation.dialled import rates
from scripts.evaluation.judge import Judge
from scripts.evaluation.outcomes import split
from scripts.evaluation.summary import Evaluation, measures, pooled_saving_at_best
from scripts.evaluation.trial import Drawn, Trial
from scripts.evaluation.upload import Prompts
from tests.bench.quality.cases import Case
from tests.bench.quality.report import Estimate

PLAIN = "plain vote"
"""What the neighbours say, not calibrated."""
OWN = "vote, own outcomes"
"""The vote of an index that holds the outcomes of the contest's models and of no others."""


@dataclass(frozen=True, slots=True)
class Asked:
    """q prompts that a ballot voted on; m models from cheap to dear."""

    curve: Curve
    cost: Numbers
    """[m]"""
    outcomes: Numbers
    """[q, m]"""
    vote: Numbers
    """[q, m]"""
    plain: Numbers
    """[q, m]"""

    def chosen(self, dial: int, predicted: Numbers) -> Rows:
        """[q] positions of the models that a whole setting of the dial picks."""
        return choose(predicted, self.cost, float(rates(self.curve, self.cost)[dial]))


@dataclass(frozen=True, slots=True)
class Run:
    case: Case
    asked: tuple[Asked, ...]
    """One a split."""


@dataclass(frozen=True)
class Compared:
    """A run beside the controls; PLAIN and OWN are among its routers."""

    run: Run
    evaluation: Evaluation

    def measure(self, router: str, name: str) -> Estimate | None:
        """None where it is not defined."""
        found = self._measures[router]
        return None if found[name] is None else Estimate(found[name], found["standard_error"][name])

    def by(self, router: str, name: str) -> Mapping[str, float | None]:
        """The mean of a measure that has a value for each of several budgets or savings."""
        found: Mapping[str, float | None] = self._measures[router][name]
        return found

    def pooled_saving(self, router: str) -> float | None:
        return pooled_saving_at_best(self.evaluation, router)

    def each(self, router: str, name: str) -> list[float]:
        """A measure of every split; NaN where it is not defined."""
        found = [getattr(one.routers[router].measures, name) for one in self.evaluation.trials]
        return [math.nan if value is None else float(value) for value in found]

    @cached_property
    def _measures(self) -> dict[str, Mapping[str, Any]]:
        trials = self.evaluation.trials
        return {router: measures(trials, router) for router in trials[0].routers}


def run(case: Case) -> Run:
    """Without the controls, most of which are slow."""
    drawn = (
        trial.draw(case.prompts, case.contest, split(len(case.prompts.outcomes), seed, case.indexed))
        for seed in _seeds(case)
    )
    return Run(case, tuple(ask(case.prompts, one.ballot, one.rest, one.outcomes) for one in drawn))


def compare(case: Case) -> Compared:
    pairs = [_compare(case, seed) for seed in _seeds(case)]
    outcomes = case.prompts.outcomes
    trials = tuple(one for one, _ in pairs)
    evaluation = Evaluation(
        case.name, len(outcomes), outcomes.duplicates, case.prompts.fingerprint, case.contest, trials
    )
    return Compared(Run(case, tuple(asked for _, asked in pairs)), evaluation)


def ask(prompts: Prompts, ballot: Ballot, rows: Rows, outcomes: Numbers) -> Asked:
    vectors, structures = prompts.vectors[rows], prompts.structures[rows]
    vote = ballot.predict(vectors, structures)
    plain = replace(ballot, fit=replace(ballot.fit, calibration=None)).predict(vectors, structures)
    return Asked(ballot.fit.curve, _cost(ballot), outcomes, vote, plain)


def only_own(prompts: Prompts, contest: Contest) -> tuple[Prompts, Contest]:
    """The same without the outcomes of models that are not in the contest."""
    columns = contest.columns
    outcomes = replace(
        prompts.outcomes,
        models=tuple(prompts.outcomes.models[column] for column in columns),
        scores=prompts.outcomes.scores[:, columns],
    )
    return replace(prompts, outcomes=outcomes), of(outcomes, contest.candidates)


def _compare(case: Case, seed: int) -> tuple[Trial, Asked]:
    prompts, parts = case.prompts, split(len(case.prompts.outcomes), seed, case.indexed)
    drawn = trial.draw(prompts, case.contest, parts)
    asked = ask(prompts, drawn.ballot, drawn.rest, drawn.outcomes)
    own = trial.draw(*only_own(prompts, case.contest), parts) if _has_others(case) else drawn
    judge = Judge(drawn.outcomes, asked.cost)
    more = {PLAIN: judge.predicted(asked.plain), OWN: judge.predicted(_predict(prompts, own))}
    found = trial.compare(prompts, case.contest, parts, seed, drawn)
    return replace(found, routers={**found.routers, **more}), asked


def _predict(prompts: Prompts, drawn: Drawn) -> Numbers:
    return drawn.ballot.predict(prompts.vectors[drawn.rest], prompts.structures[drawn.rest])


def _has_others(case: Case) -> bool:
    return len(case.prompts.outcomes.models) > len(case.contest.names)


def _cost(ballot: Ballot) -> Numbers:
    return np.array([candidate.cost for candidate in ballot.candidates])


def _seeds(case: Case) -> Iterator[int]:
    yield from tqdm(range(case.seeds), desc=case.name, unit="splits", leave=False)
