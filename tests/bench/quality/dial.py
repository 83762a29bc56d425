"""What the dial promised on the index, beside what it delivered on prompts outside it."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from index.dial import Z
from scripts.evaluation.arrays import Numbers
from scripts.evaluation.dialled import Dialled, quality_error, spend_error
from tests.bench.quality.report import Aim, Cell, Part, Table, over
from tests.bench.quality.runs import Asked, Run

AIM = 0.010
WHOLE = range(11)
ROUNDING = 1e-9
ABSOLUTE = math.sqrt(2 / math.pi)
"""Mean absolute deviation of a normal distribution whose standard deviation is 1."""
COLUMNS = (
    *("case", "labels", "splits", "quality off", "quality, luck", "spend off", "spend, luck"),
    *("quality covered", "quality, allowing", "spend covered", "spend, allowing"),
)
NOTE = (
    "off: mean absolute difference over the dial's eleven settings, spend as a share of the dearest model's; luck:"
    " what it would be if promise and delivery differed by nothing but which prompts they were measured on. covered:"
    " how often the 95 % interval beside the promise holds what was delivered; allowing: for the delivered side's own"
    " sampling error too."
)
SETTINGS = (
    "dial",
    "spend promised",
    "spend ±",
    "spend delivered",
    "quality promised",
    "quality ±",
    "quality delivered",
)


@dataclass(frozen=True, slots=True)
class Kept:
    """One split's promises and deliveries. All arrays are [11]; margins are 95 % half-widths."""

    promised: Numbers
    promised_margin: Numbers
    delivered: Numbers
    delivered_margin: Numbers

    def covered(self) -> float:
        return self._within(self.promised_margin)

    def covered_allowing(self) -> float:
        return self._within(np.hypot(self.promised_margin, self.delivered_margin))

    def luck(self) -> float:
        return float(ABSOLUTE / Z * np.hypot(self.promised_margin, self.delivered_margin).mean())

    def _within(self, margin: Numbers) -> float:
        off = np.abs(self.promised - self.delivered)
        return float((off <= margin + ROUNDING * np.abs(self.promised)).mean())


def part(runs: Sequence[Run], shown: Sequence[Run]) -> Part:
    """`runs`: those that are summed up; `shown`: those whose every setting is."""
    summed = [_summary(run) for run in sorted(runs, key=lambda run: run.case.indexed)]
    table = Table("Promised and delivered", COLUMNS, tuple(summed), NOTE)
    return Part("The dial", (table, *map(_settings, shown)), _aims(runs))


def quality(asked: Asked) -> Kept:
    promises = [asked.curve.promise(dial) for dial in WHOLE]
    got = [asked.outcomes[np.arange(len(asked.outcomes)), asked.chosen(dial, asked.vote)] for dial in WHOLE]
    return Kept(*_columns([(one.quality, one.quality_margin) for one in promises]), *_columns(map(_mean, got)))


def spend(asked: Asked) -> Kept:
    promises = [asked.curve.promise(dial) for dial in WHOLE]
    got = [asked.cost[asked.chosen(dial, asked.vote)] for dial in WHOLE]
    return Kept(*_columns([(one.spend, one.spend_margin) for one in promises]), *_columns(map(_mean, got)))


def _mean(values: Numbers) -> tuple[float, float]:
    """Mean and margin."""
    return float(values.mean(dtype=np.float64)), float(Z * values.std(ddof=1) / math.sqrt(len(values)))


def _columns(pairs: Iterable[tuple[float, float]]) -> tuple[Numbers, Numbers]:
    means, margins = np.array(list(pairs), dtype=np.float64).T
    return means, margins


def _off(asked: Asked) -> tuple[float, float]:
    """Quality, and spend."""
    one, other = quality(asked), spend(asked)
    told = Dialled(other.promised, one.promised, other.delivered, one.delivered)
    return quality_error(told), spend_error(told, float(asked.cost[-1]))


def _aims(runs: Sequence[Run]) -> tuple[Aim, ...]:
    off = np.array([np.mean([_off(asked) for asked in run.asked], axis=0) for run in runs])
    return (
        Aim("quality off, mean over these cases", float(off[:, 0].mean()), AIM, at_least=False),
        Aim("spend off, mean over these cases", float(off[:, 1].mean()), AIM, at_least=False),
    )


def _summary(run: Run) -> tuple[Cell, ...]:
    dearest = float(run.asked[0].cost[-1])
    qualities, spends = [quality(asked) for asked in run.asked], [spend(asked) for asked in run.asked]
    off = [_off(asked) for asked in run.asked]
    return (
        *(run.case.name, run.case.indexed, run.case.seeds),
        *(over([one for one, _ in off]), float(np.mean([kept.luck() for kept in qualities]))),
        *(over([other for _, other in off]), float(np.mean([kept.luck() for kept in spends])) / dearest),
        *(float(np.mean([kept.covered() for kept in qualities])), _allowing(qualities)),
        *(float(np.mean([kept.covered() for kept in spends])), _allowing(spends)),
    )


def _allowing(kept: Sequence[Kept]) -> float:
    return float(np.mean([one.covered_allowing() for one in kept]))


def _settings(run: Run) -> Table:
    dearest = float(run.asked[0].cost[-1])
    qualities, spends = [quality(asked) for asked in run.asked], [spend(asked) for asked in run.asked]

    def mean(kept: Sequence[Kept], name: str, dial: int, unit: float = 1.0) -> float:
        return float(np.mean([getattr(one, name)[dial] for one in kept]) / unit)

    rows = tuple(
        (
            dial,
            *(mean(spends, name, dial, dearest) for name in ("promised", "promised_margin", "delivered")),
            *(mean(qualities, name, dial) for name in ("promised", "promised_margin", "delivered")),
        )
        for dial in WHOLE
    )
    note = f"{run.case.indexed} labels, means over {run.case.seeds} splits; spend as a share of the dearest model's."
    return Table(f"{run.case.name}: every setting", SETTINGS, rows, note)
