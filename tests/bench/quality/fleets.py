"""Routing among many models: what is saved at the best single model's quality."""

from collections.abc import Sequence
from itertools import chain

from scripts.evaluation.metrics import BUDGETS
from scripts.evaluation.summary import qualities
from scripts.evaluation.trial import VOTE
from tests.bench.quality.pairs import LENGTH, STRUCTURED, TRAINED
from tests.bench.quality.report import Aim, Cell, Part, Table
from tests.bench.quality.runs import OWN, PLAIN, Compared

ROUTERS = (VOTE, OWN, PLAIN, LENGTH, TRAINED, STRUCTURED, "random", "oracle")
COLUMNS = ("router", "saved", "mixed", "pooled", "AIQ", "cheapest right")
NOTE = (
    "Share of the best single model's cost that is saved at no less than its quality; which model that is, is known"
    " with hindsight. saved: one setting, read on each split; mixed: two settings mixed at random (the hull), on each"
    " split; pooled: one setting, read once on the curve averaged over the splits. cheapest right: requests that went"
    " to the cheapest model that was right, at the setting where they are most."
)
COLLAPSE = "Share of the requests that the dearest model gets, by per cent of its cost that may be spent"
AIM = 0.36


def part(fleets: Sequence[Compared]) -> Part:
    """Aims are about the first."""
    return Part("Fleets", tuple(chain.from_iterable(map(_tables, fleets))), _aims(fleets[0]))


def _aims(one: Compared) -> tuple[Aim, ...]:
    readings = (
        ("each split, one setting", one.measure(VOTE, "saving_at_best")),
        ("each split, settings mixed", one.measure(VOTE, "mixed_saving_at_best")),
    )
    name = f"{one.run.case.name}: saved at the best single model's quality"
    found = [Aim(f"{name}, {reading}", saved.mean, AIM) for reading, saved in readings if saved is not None]
    pooled = one.pooled_saving(VOTE)
    return (*found, *([] if pooled is None else [Aim(f"{name}, pooled", pooled, AIM)]))


def _tables(one: Compared) -> tuple[Table, Table, Table]:
    case = one.run.case
    rows = tuple(_row(one, router) for router in ROUTERS)
    collapse = tuple((router, *_dearest(one, router)) for router in (VOTE, PLAIN, STRUCTURED, "oracle"))
    return (
        Table(f"{case.name}: the models", ("model", "cost of a request, m$", "quality"), _models(one)),
        Table(f"{case.name}: {case.indexed} labels, {case.seeds} splits", COLUMNS, rows, NOTE),
        Table(f"{case.name}: collapse", ("router", *map(str, BUDGETS)), collapse, COLLAPSE),
    )


def _models(one: Compared) -> tuple[tuple[Cell, ...], ...]:
    measured = zip(one.run.case.contest.candidates, qualities(one.evaluation.trials), strict=True)
    return tuple((candidate.name, 1000 * candidate.cost, float(quality)) for candidate, quality in measured)


def _row(one: Compared, router: str) -> tuple[Cell, ...]:
    return (
        router,
        one.measure(router, "saving_at_best"),
        one.measure(router, "mixed_saving_at_best"),
        one.pooled_saving(router),
        one.measure(router, "aiq"),
        one.measure(router, "cheapest_correct"),
    )


def _dearest(one: Compared, router: str) -> list[Cell]:
    mean = one.by(router, "dearest_at_budgets")
    return [mean[str(budget)] for budget in BUDGETS]
