"""Prompts of tasks of which the index has no label: does it notice, and what does routing them do?"""

from collections.abc import Callable, Sequence

import numpy as np

from index.build import UNFAMILIAR_SHARE
from index.types import Rows
from scripts.evaluation.arrays import Numbers
from scripts.evaluation.curves import hull
from scripts.evaluation.metrics import best_single
from tests.bench.quality.leftout import Absence, Absences, Met
from tests.bench.quality.report import Cell, Part, Table
from tests.bench.quality.signals import fires, separation, signals

DIALS = (3, 5, 7)
SHARES = (0.01, 0.05)
FIRING = ("tasks left out", "labels", "splits", "on its own", "on its tasks", "on those left out", "AUC")
FIRING_NOTE = (
    "How often the index abstains: on its own examples (leave-one-out; it is built for"
    f" {UNFAMILIAR_SHARE:.0%}), on other prompts of its tasks, and on prompts of the tasks left out. AUC: how often the"
    " nearest similarity of a prompt of its tasks is the higher of the two."
)
ROUTING = (
    *("tasks left out", "dial", "its tasks: over random", "spend", "quality", "over random", "best single"),
    *("abstaining: spend", "abstaining: quality", "abstaining: over random"),
)
ROUTING_NOTE = (
    "Prompts of the tasks left out, at a dial's setting; what it abstains on goes to the dearest model. Spend is a"
    " share of the dearest model's. over random: quality beyond what a lot between two single models gets for the same"
    " spend. best single: quality of the model that is best on these very prompts."
)
SIGNALS = (
    *("signal", "AUC"),
    *(column for share in SHARES for column in (f"at {share:.0%}: its tasks", f"at {share:.0%}: left out")),
)
SIGNALS_NOTE = (
    "Means over all of these. AUC as above; then how often each would fire, were the index to abstain on that share of"
    " its own examples. structure: Mahalanobis distance of a prompt's structural numbers from the index's; the two"
    " together: the lower of their ranks among the index's own."
)


def part(found: Sequence[Absences]) -> Part:
    routed = tuple(_routing(one, dial) for one in found for dial in DIALS)
    return Part(
        "Unseen tasks",
        (
            Table("Abstention", FIRING, tuple(map(_firing, found)), FIRING_NOTE),
            Table("Routing what was never seen", ROUTING, routed, ROUTING_NOTE),
            Table("Signals", SIGNALS, _signals(found), SIGNALS_NOTE),
            Table("Signals: AUC", ("signal", *(one.name for one in found)), _by_case(found)),
        ),
    )


def over_random(outcomes: Numbers, cost: Numbers, chosen: Rows) -> tuple[float, float, float]:
    """(spend, quality, quality beyond a lot between single models at that spend)."""
    spend = float(cost[chosen].mean())
    quality = float(outcomes[np.arange(len(chosen)), chosen].mean(dtype=np.float64))
    lot = hull(cost, outcomes.mean(axis=0, dtype=np.float64))
    return spend, quality, quality - float(np.interp(spend, lot.spend, lot.quality))


def abstaining(met: Met, familiar: float, chosen: Rows) -> Rows:
    """The choices, where what is unfamiliar goes to the dearest model."""
    return np.where(met.similarities[:, 0] < familiar, len(met.asked.cost) - 1, chosen)


def _firing(one: Absences) -> tuple[Cell, ...]:
    return (
        *(one.name, one.splits[0].labels, len(one.splits)),
        _mean(one, lambda split: float((split.own.similarities[:, 0] < split.familiar).mean())),
        _mean(one, lambda split: _fired(split, split.seen)),
        _mean(one, lambda split: _fired(split, split.unseen)),
        _mean(one, lambda split: separation(split.seen.similarities[:, 0], split.unseen.similarities[:, 0])),
    )


def _fired(split: Absence, met: Met) -> float:
    return float((met.similarities[:, 0] < split.familiar).mean())


def _routing(one: Absences, dial: int) -> tuple[Cell, ...]:
    found = np.mean([_routed(split, dial) for split in one.splits], axis=0)
    return (one.name, dial, *found.tolist())


def _routed(split: Absence, dial: int) -> tuple[float, ...]:
    seen, unseen = split.seen.asked, split.unseen.asked
    cost, chosen = unseen.cost, unseen.chosen(dial, unseen.vote)
    known = over_random(seen.outcomes, cost, seen.chosen(dial, seen.vote))
    plain = over_random(unseen.outcomes, cost, chosen)
    careful = over_random(unseen.outcomes, cost, abstaining(split.unseen, split.familiar, chosen))
    best = float(unseen.outcomes[:, best_single(unseen.outcomes)].mean(dtype=np.float64))
    return (known[2], plain[0] / cost[-1], *plain[1:], best, careful[0] / cost[-1], *careful[1:])


def _signals(found: Sequence[Absences]) -> tuple[tuple[Cell, ...], ...]:
    every = [_signal_rows(split) for one in found for split in one.splits]
    return tuple((name, *np.mean([rows[name] for rows in every], axis=0).tolist()) for name in every[0])


def _signal_rows(split: Absence) -> dict[str, list[float]]:
    return {
        name: [
            separation(seen, unseen),
            *(fires(own, asked, share) for share in SHARES for asked in (seen, unseen)),
        ]
        for name, (own, seen, unseen) in signals(split).items()
    }


def _by_case(found: Sequence[Absences]) -> tuple[tuple[Cell, ...], ...]:
    cases = [[signals(split) for split in one.splits] for one in found]
    return tuple(
        (name, *(float(np.mean([separation(*split[name][1:]) for split in case])) for case in cases))
        for name in cases[0][0]
    )


def _mean(one: Absences, of: Callable[[Absence], float]) -> float:
    return float(np.mean([of(split) for split in one.splits]))
