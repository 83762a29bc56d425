"""Which models a router may choose from, what each costs, and which column holds its outcomes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from handler.fleet import Fleet
from handler.flow import Usage
from index.types import Candidate, Rows
from scripts.evaluation.arrays import Numbers
from scripts.evaluation.outcomes import Outcomes

WEAK_COST = 1.0


class BadContest(Exception):
    """The models asked for cannot be compared on this data; the text says why."""


@dataclass(frozen=True, slots=True)
class Contest:
    """m models from cheap to dear; the ends are the pair that APGR and CPT are about."""

    candidates: tuple[Candidate, ...]
    columns: Rows
    """[m], of Outcomes.scores."""

    @property
    def cost(self) -> Numbers:
        """[m], in dollars a request, or in calls of the weak model where there are no prices."""
        return np.array([candidate.cost for candidate in self.candidates], dtype=np.float64)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(candidate.name for candidate in self.candidates)


def pair(outcomes: Outcomes, weak: str, strong: str, price_ratio: float) -> Contest:
    """Two models; a call of the strong one costs as much as `price_ratio` calls of the weak one."""
    return of(outcomes, [Candidate(weak, WEAK_COST), Candidate(strong, WEAK_COST * price_ratio)])


def only_pair(outcomes: Outcomes, price_ratio: float) -> Contest:
    """The two models of a file that has no others; the one with the lower mean is the weak one."""
    if len(outcomes.models) != 2:
        raise BadContest(
            f"this file has {len(outcomes.models)} models: say which to compare by --weak and --strong, or by --fleet"
        )
    means = np.nanmean(outcomes.scores, axis=0)
    weak, strong = (outcomes.models[place] for place in np.argsort(means, kind="stable"))
    return pair(outcomes, weak, strong, price_ratio)


def fleet(outcomes: Outcomes, models: Fleet, input_tokens: int, output_tokens: int) -> Contest:
    """A fleet at its own prices, for requests of that size."""
    return of(
        outcomes,
        [
            Candidate(model.name, model.price.of(Usage(input_tokens, output_tokens)), model.like)
            for model in models.models
        ],
    )


def of(outcomes: Outcomes, candidates: Sequence[Candidate]) -> Contest:
    """The candidates, from cheap to dear. Raises BadContest where nothing can be compared."""
    ordered = tuple(sorted(candidates, key=lambda candidate: candidate.cost))
    sources = [_source(outcomes, candidate) for candidate in ordered]
    unmeasured = [candidate.name for candidate, source in zip(ordered, sources, strict=True) if source is None]
    if unmeasured:
        raise BadContest(
            f"no column has outcomes of {', '.join(unmeasured)}; the columns are {', '.join(outcomes.models)}"
        )
    if len({candidate.name for candidate in ordered}) < 2:
        raise BadContest("there is nothing to choose from: give two models or more")
    if not 0 <= ordered[0].cost < ordered[-1].cost:
        raise BadContest("all models cost the same: there is nothing to save")
    return Contest(ordered, np.array([outcomes.models.index(source) for source in sources if source is not None]))


def _source(outcomes: Outcomes, candidate: Candidate) -> str | None:
    return next((name for name in (candidate.name, candidate.like) if name in outcomes.models), None)
