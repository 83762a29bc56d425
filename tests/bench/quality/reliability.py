"""Of decisions with confidence c, the share that were right."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scripts.evaluation.arrays import Numbers
from tests.bench.quality.report import Cell, Part, Table
from tests.bench.quality.runs import Asked

BINS = 10
DIALS = (0, 3, 5, 7, 10)
NOTE = (
    "The confidence of a decision is the quality predicted of the model that was chosen, right is that model's measured"
    " outcome; pooled over splits. Expected calibration error: how far confidence and share of right decisions lie"
    " apart, averaged over ten bins of confidence by how many decisions are in them. The plain vote is read at the same"
    " exchange of quality for cost. Of a task that was left out the index has no labels at all."
)
COLUMNS = ("case", *(f"dial {dial}" for dial in DIALS), "all of these", "plain vote", "confidence", "right")


@dataclass(frozen=True, slots=True)
class Reliability:
    """Decisions by confidence, in BINS equal bins of 0..1. All arrays are [BINS]."""

    count: Numbers
    confidence: Numbers
    """Mean of those in the bin; NaN where there are none."""
    right: Numbers
    """Mean outcome of those in the bin; NaN where there are none."""

    @property
    def error(self) -> float:
        """Expected calibration error."""
        return float(np.nansum(self.count * np.abs(self.confidence - self.right)) / self.count.sum())


@dataclass(frozen=True, slots=True)
class Decisions:
    """What was chosen, by how much confidence, and what it turned out to be. Both are [q]."""

    confidence: Numbers
    right: Numbers


def part(cases: Sequence[tuple[str, Sequence[Asked]]], left_out: Sequence[tuple[str, Sequence[Asked]]]) -> Part:
    """Each case by name, with what it was asked on every split."""
    rows = tuple(_row(*case) for case in (*cases, *((f"left out: {name}", asked) for name, asked in left_out)))
    bins = [_bins(name, [asked]) for name, asked in cases if name.startswith("ZeroEval, ")]
    everything = [asked for _, asked in cases]
    return Part(
        "Confidence",
        (
            Table("Expected calibration error", COLUMNS, rows, NOTE),
            _bins("all cases together", everything),
            *bins,
            *([_bins("tasks that were left out", [asked for _, asked in left_out])] if left_out else []),
        ),
    )


def reliability(decisions: Decisions) -> Reliability:
    place = np.minimum((decisions.confidence * BINS).astype(np.int64), BINS - 1)
    count = np.bincount(place, minlength=BINS).astype(np.float64)
    with np.errstate(invalid="ignore"):
        return Reliability(
            count,
            np.bincount(place, decisions.confidence, BINS) / count,
            np.bincount(place, decisions.right, BINS) / count,
        )


def decisions(asked: Sequence[Asked], dials: Sequence[int], plain: bool = False) -> Decisions:
    found = [_decided(one, dial, one.plain if plain else one.vote) for one in asked for dial in dials]
    return Decisions(np.concatenate([one.confidence for one in found]), np.concatenate([one.right for one in found]))


def _decided(asked: Asked, dial: int, predicted: Numbers) -> Decisions:
    every, chosen = np.arange(len(predicted)), asked.chosen(dial, predicted)
    return Decisions(predicted[every, chosen], asked.outcomes[every, chosen])


def _row(name: str, asked: Sequence[Asked]) -> tuple[Cell, ...]:
    together = decisions(asked, DIALS)
    return (
        name,
        *(reliability(decisions(asked, [dial])).error for dial in DIALS),
        reliability(together).error,
        reliability(decisions(asked, DIALS, plain=True)).error,
        float(together.confidence.mean()),
        float(together.right.mean()),
    )


def _bins(name: str, cases: Sequence[Sequence[Asked]]) -> Table:
    asked = [one for case in cases for one in case]
    vote, plain = (reliability(decisions(asked, DIALS, plain)) for plain in (False, True))
    rows = tuple(
        (
            f"{place / BINS:.1f} to {(place + 1) / BINS:.1f}",
            *(float(vote.count[place] / vote.count.sum()), float(vote.confidence[place]), float(vote.right[place])),
            *(float(plain.count[place] / plain.count.sum()), float(plain.confidence[place]), float(plain.right[place])),
        )
        for place in range(BINS)
    )
    columns = ("confidence", "share", "mean", "right", "plain: share", "plain: mean", "plain: right")
    return Table(f"Reliability, {name}", columns, rows, f"Dials {', '.join(map(str, DIALS))} together.")
