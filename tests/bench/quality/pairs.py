"""Routing between two models: APGR beside prompt length and trained controls."""

from collections.abc import Sequence

import numpy as np

from scripts.evaluation.trial import VOTE
from tests.bench.quality.report import Aim, Cell, Estimate, Part, Table, over
from tests.bench.quality.runs import OWN, PLAIN, Compared

LENGTH, TRAINED, STRUCTURED = "prompt_length", "logistic_regression", "logistic_regression_structure"
ROUTERS = (VOTE, OWN, PLAIN, LENGTH, TRAINED, STRUCTURED)
COLUMNS = ("pair", "labels", "splits", *ROUTERS, "lead over the last", "CPT50", "CPT80")
NOTE = (
    "APGR ± standard error over splits of the same prompts (which says nothing of other prompts). The index of a"
    f" ZeroEval pair holds the outcomes of all its 28 models; '{OWN}' has those of the pair alone. The lead is paired"
    " by split. CPT are the vote's."
)
AIMS = {"MMLU": 0.66, "GSM8K": 0.62}
MEAN = 0.67


def part(pairs: Sequence[Compared], references: Sequence[Compared]) -> Part:
    rows = (*map(_row, pairs), _mean(pairs), *map(_row, references))
    return Part("Pairs", (Table("APGR", COLUMNS, rows, NOTE),), _aims(pairs))


def _aims(pairs: Sequence[Compared]) -> tuple[Aim, ...]:
    leads = [Aim(f"{one.run.case.name}: lead over {STRUCTURED}", _lead(one).mean, 0.0) for one in pairs]
    named = [
        Aim(f"APGR of {one.run.case.name}", _apgr(one, VOTE).mean, bound)
        for one in pairs
        for name, bound in AIMS.items()
        if one.run.case.name.startswith(name)
    ]
    return (*leads, Aim("mean APGR of the pairs", _average([_apgr(one, VOTE) for one in pairs]).mean, MEAN), *named)


def _row(one: Compared) -> tuple[Cell, ...]:
    case = one.run.case
    apgr = (one.measure(router, "apgr") for router in ROUTERS)
    return (
        *(case.name, case.indexed, case.seeds),
        *(*apgr, _lead(one), one.measure(VOTE, "cpt50"), one.measure(VOTE, "cpt80")),
    )


def _mean(pairs: Sequence[Compared]) -> tuple[Cell, ...]:
    apgr = (_average([_apgr(one, router) for one in pairs]) for router in ROUTERS)
    return ("mean of these", None, None, *apgr, _average([_lead(one) for one in pairs]), None, None)


def _apgr(one: Compared, router: str) -> Estimate:
    return over(one.each(router, "apgr"))


def _lead(one: Compared) -> Estimate:
    return over(list(np.subtract(one.each(VOTE, "apgr"), one.each(STRUCTURED, "apgr"))))


def _average(estimates: Sequence[Estimate]) -> Estimate:
    """Of independent estimates."""
    errors = [estimate.error for estimate in estimates if estimate.error is not None]
    error = float(np.linalg.norm(errors) / len(estimates)) if len(errors) == len(estimates) else None
    return Estimate(float(np.mean([estimate.mean for estimate in estimates])), error)
