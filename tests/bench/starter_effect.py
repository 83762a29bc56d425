"""What the measured half of the starter index changes, by how large it is.

`python -m tests.bench.starter_effect DATA` reads what tests.bench.measured draws from. Our own examples are voted on
leave-one-out; exam questions that were drawn but not indexed stand for prompts like the measured ones. Quality is
measured at equal spend, at the prices of the simulated fleet.
"""

import argparse
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from handler import fleet as fleets
from handler.control.embedding import LazyEmbedder
from handler.keys import NewKey
from index import calibration, edits, starter
from index import segment as segments
from index.ballot import Ballot, draw_up
from index.directory_store import DirectoryStore
from index.embedder import DIMENSIONS
from index.leave_one_out import leave_one_out
from index.segment import Segment
from index.structure import describe_all
from index.types import TIERS, Candidate, Floats, Rows
from index.versions import Repository
from scripts import model_files
from scripts.evaluation import curves, metrics
from scripts.evaluation.arrays import Numbers
from scripts.evaluation.outcomes import split
from scripts.evaluation.vectors import cache_folder, embed
from scripts.local_state import fleet_for
from scripts.output import say, show, table
from tests.bench import measured
from tests.bench.measured import Measured

DRAWN = 4000
INDEXABLE = 1600
SIZES = (0, 200, 400, 600, 1200)
SEEDS = 5
WORKERS = 2
DIAL = float(NewKey(name="default").dial)
SMALL, MEDIUM, LARGE = range(len(TIERS))


@dataclass(frozen=True, slots=True)
class Exam:
    """n measured prompts."""

    measured: Measured
    vectors: Floats
    structures: Floats

    def of_set(self, name: str) -> Rows:
        return np.array(
            [row for row, task in enumerate(self.measured.tasks) if measured.set_of(task) == name], np.int64
        )


@dataclass(frozen=True, slots=True)
class Own:
    """How our own n examples are routed, each voted on by all others."""

    outcomes: Floats
    """[n, 3]"""
    quality: Floats
    """[n, 3], predicted."""
    chosen: Rows
    """[n], at the default dial."""
    cost: Numbers
    """[3]"""

    def auc(self, tier: int) -> float:
        """Of telling those for which the tier is enough from the others."""
        return auc(self.quality[:, tier], self.outcomes[:, tier])

    @property
    def spend(self) -> float:
        """Mean dollars of a request at the default dial."""
        return float(self.cost[self.chosen].mean())

    @property
    def right(self) -> float:
        """Mean outcome at the default dial."""
        return float(self.outcomes[np.arange(len(self.chosen)), self.chosen].mean())


@dataclass(frozen=True, slots=True)
class Effect:
    """One row of the table; means over splits."""

    indexed: int
    small_is_enough: float
    medium_is_enough: float
    own_quality: float
    """Mean over all spends."""
    changed: float
    """Share of our own examples that are routed otherwise at the default dial than without any measured ones."""
    spend: float
    """Of our own examples at the default dial, in thousandths of a dollar."""
    right: float
    mmlu_error: float
    """Mean squared error of predicted quality on questions that are not indexed."""
    mmlu_apgr: float
    """Between small and large."""
    zeroeval_error: float
    zeroeval_apgr: float
    zeroeval_quality: float
    """Of all three tiers, mean over all spends."""


def auc(score: Floats, truth: Floats) -> float:
    """The chance that one that is true scores higher than one that is not."""
    margin = score[truth == 1][:, None] - score[truth == 0]
    return float(np.mean((margin > 0) + 0.5 * (margin == 0)))


def simulated_fleet() -> tuple[Candidate, ...]:
    """Small, medium and large."""
    return fleets.parse(fleet_for({})).fleet.candidates


def ballot_of(parts: Sequence[Segment], fingerprint: str) -> Ballot:
    with tempfile.TemporaryDirectory(prefix="nearvote-bench-") as folder:
        first = segments.merge(parts, DIMENSIONS)
        return draw_up(
            edits.start(Repository(DirectoryStore(Path(folder))), first, fingerprint, "first"), simulated_fleet()
        )


def routed(ballot: Ballot, examples: int) -> Own:
    """The first so many examples of an index."""
    peers, known = ballot.snapshot.peers, ballot.outcomes
    assert peers is not None
    rows = peers.rows
    votes = leave_one_out(ballot.snapshot, known, peers)
    outcomes = np.where(known.known > 0, known.scores, np.nan)[rows]
    ease = np.where(known.eased > 0, known.ease, np.nan)[rows, 0]
    calibrated = calibration.calibrate(votes, outcomes, ease, known.prior)
    assert calibrated is not None
    quality = calibrated[1][rows < examples]
    cost = np.array([candidate.cost for candidate in ballot.candidates])
    return Own(outcomes[rows < examples], quality, curves.choose(quality, cost, ballot.fit.curve.rate(DIAL)), cost)


def mean_quality(predicted: Floats, outcomes: Floats, cost: Numbers) -> float:
    """Over all spends between the cheapest model's and the dearest's, RouterBench's AIQ."""
    points = curves.sweep(predicted, outcomes, cost)
    found = metrics.aiq(curves.hull(points.spend, points.quality), float(cost[0]), float(cost[-1]))
    return np.nan if found is None else found


def apgr(predicted: Floats, outcomes: Floats) -> float:
    """RouteLLM's, of small and large."""
    lead = predicted[:, LARGE] - predicted[:, SMALL]
    found = metrics.apgr(metrics.calls(lead, outcomes[:, SMALL], outcomes[:, LARGE]))
    return np.nan if found is None else found


def effect(own: Segment, exam: Exam, without: Own, size: int, seed: int, fingerprint: str) -> Effect:
    parts = split(len(exam.measured), seed, INDEXABLE)
    rows = measured.sample(exam.measured, parts.index, size, seed)
    ballot = ballot_of([own, measured.segment(exam.measured, rows, exam.vectors[rows])], fingerprint)
    ours = routed(ballot, len(own))
    mmlu = np.intersect1d(parts.rest, exam.of_set("mmlu"))
    zeroeval = parts.rest[~np.isnan(exam.measured.scores[parts.rest, MEDIUM])]
    guessed, graded = ballot.predict(exam.vectors, exam.structures), exam.measured.scores
    return Effect(
        size,
        ours.auc(SMALL),
        ours.auc(MEDIUM),
        mean_quality(ours.quality, ours.outcomes, ours.cost),
        float(np.mean(ours.chosen != without.chosen)),
        1000 * ours.spend,
        ours.right,
        float(np.nanmean((guessed - graded)[mmlu] ** 2)),
        apgr(guessed[mmlu], graded[mmlu]),
        float(np.mean((guessed - graded)[zeroeval] ** 2)),
        apgr(guessed[zeroeval], graded[zeroeval]),
        mean_quality(guessed[zeroeval], graded[zeroeval], ours.cost),
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.starter_effect", description=__doc__)
    parser.add_argument("data", type=Path, help="the directory of the published outcomes")
    parser.add_argument("--json", action="store_true", help="one JSON list on stdout")
    options = parser.parse_args()
    found = [asdict(row) for row in _effects(options.data)]
    show(found, options.json, _table(found))


def _table(found: Sequence[dict[str, float]]) -> str:
    """One column a size."""
    sizes = [str(row["indexed"]) for row in found]
    lines = [
        {"indexed": name, **{size: f"{row[name]:.3f}" for size, row in zip(sizes, found, strict=True)}}
        for name in found[0]
        if name != "indexed"
    ]
    return table(lines, ["indexed", *sizes])


def _effects(folder: Path) -> list[Effect]:
    embedder = LazyEmbedder(lambda: model_files.ensure(os.environ, report=say), WORKERS)
    cache = cache_folder(os.environ)
    examples = starter.own()
    own = segments.from_examples(examples, embed([example.prompt for example in examples], embedder, cache))
    exam = _exam(folder, embedder, cache)
    without = routed(ballot_of([own], embedder.fingerprint), len(own))
    return [
        _mean([effect(own, exam, without, size, seed, embedder.fingerprint) for seed in range(SEEDS)]) for size in SIZES
    ]


def _exam(folder: Path, embedder: LazyEmbedder, cache: Path) -> Exam:
    everything = measured.read(folder)
    rows = measured.sample(everything, np.arange(len(everything)), DRAWN, measured.SEED)
    drawn = Measured(
        tuple(everything.prompts[row] for row in rows),
        tuple(everything.tasks[row] for row in rows),
        tuple(everything.sources[row] for row in rows),
        everything.scores[rows],
    )
    return Exam(drawn, embed(drawn.prompts, embedder, cache), describe_all(drawn.prompts))


def _mean(effects: Sequence[Effect]) -> Effect:
    size, *means = np.mean([[getattr(one, field.name) for field in fields(Effect)] for one in effects], axis=0)
    return Effect(int(size), *map(float, means))


if __name__ == "__main__":
    main()
