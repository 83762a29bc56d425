"""One version as one fleet sees it: what a request is decided with. Made whenever either changes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from index import dial
from index.dial import Curve
from index.segment import Segment
from index.snapshot import Snapshot
from index.types import Candidate, Floats, LabelKind, Neighbour, Rows, Vote
from index.vote import predict, vote, weigh

CURVE_EXAMPLES = 2000
"""How many examples, evenly spread, the dial's curve is calibrated on."""


@dataclass(frozen=True, slots=True)
class Polled:
    """A vote together with who voted."""

    vote: Vote
    rows: Rows
    """[k] rows of the snapshot, near to far."""
    similarities: Floats
    """[k]"""


@dataclass(frozen=True, slots=True)
class Ballot:
    """n examples, m candidates."""

    snapshot: Snapshot
    candidates: tuple[Candidate, ...]
    scores: Floats
    """[n, m]; 0 where unknown."""
    known: Floats
    """[n, m]; 1 where the outcome is known, else 0."""
    prior: Floats
    """[m]; a candidate's mean over the index, NaN when nothing is known of it."""
    curve: Curve

    def poll(self, vector: Floats) -> Polled:
        """Let the nearest examples of a [384] unit vector vote. The ballot must not be empty."""
        similarities, rows = self.snapshot.search(vector[None, :], self.snapshot.manifest.params.k)
        near, voters = similarities[0], rows[0]
        cast = vote(near, self.scores[voters], self.known[voters], self.prior, self.snapshot.manifest.params)
        return Polled(cast, voters, near)

    def neighbours(self, polled: Polled, most: int) -> list[Neighbour]:
        """The nearest of those who voted, for evidence."""
        weights = weigh(polled.similarities, self.snapshot.manifest.params.beta)
        return [
            self._neighbour(int(row), float(similarity), float(weight))
            for row, similarity, weight in zip(polled.rows[:most], polled.similarities, weights, strict=False)
        ]

    def _neighbour(self, row: int, similarity: float, weight: float) -> Neighbour:
        scores = {
            candidate.name: round(float(self.scores[row, position]), 6)
            for position, candidate in enumerate(self.candidates)
            if self.known[row, position]
        }
        examples = self.snapshot.examples
        return Neighbour(examples.ids[row], similarity, weight, examples.prompts[row], scores)


def draw_up(snapshot: Snapshot, candidates: Sequence[Candidate]) -> Ballot:
    """The ballot of a version for a fleet; reads no files, embeds nothing."""
    outcomes = resolve(snapshot.examples, candidates)
    known = (~np.isnan(outcomes)).astype(np.float32)
    scores = np.nan_to_num(outcomes, nan=0.0)
    prior = _prior(scores, known)
    cost = np.array([candidate.cost for candidate in candidates])
    rows = spread(len(snapshot), CURVE_EXAMPLES)
    predicted = leave_one_out(snapshot, scores, known, prior, rows)
    curve = dial.calibrate(predicted, outcomes[rows], cost)
    return Ballot(snapshot, tuple(candidates), scores, known, prior, curve)


def resolve(examples: Segment, candidates: Sequence[Candidate]) -> Floats:
    """Outcomes float32 [n, m], NaN unknown: a candidate's own, else those it borrows by `like`, else what an
    `only` label says."""
    columns = {model: position for position, model in enumerate(examples.models)}
    outcomes = np.full((len(examples), len(candidates)), np.nan, dtype=np.float32)
    for position, candidate in enumerate(candidates):
        for source in (candidate.name, candidate.like):
            if source in columns:
                column = examples.scores[:, columns[source]]
                outcomes[:, position] = np.where(np.isnan(outcomes[:, position]), column, outcomes[:, position])
    for row, label in enumerate(examples.labels):
        if label is not None and label.kind is LabelKind.ONLY:
            outcomes[row] = [float(label.model in (candidate.name, candidate.like)) for candidate in candidates]
    return outcomes


def leave_one_out(snapshot: Snapshot, scores: Floats, known: Floats, prior: Floats, rows: Rows) -> Floats:
    """[len(rows), m]: how the rest of the index votes on each of these examples. NaN where the prior is."""
    if len(snapshot) < 2:
        return np.empty((0, scores.shape[1]), dtype=np.float32)
    params = snapshot.manifest.params
    similarities, voters = others(snapshot, rows, params.k)
    quality, _ = predict(weigh(similarities, params.beta), scores[voters], known[voters], prior, params.kappa)
    return quality


def others(snapshot: Snapshot, rows: Rows, k: int) -> tuple[Floats, Rows]:
    """For each of these examples, its k nearest but itself: similarities and rows, near to far."""
    similarities, found = snapshot.search(snapshot.examples.vectors[rows], k + 1)
    itself = found == rows[:, None]
    itself[~itself.any(axis=1), -1] = True  # more than k copies of it came first: leave out the last instead
    width = found.shape[1] - 1
    return similarities[~itself].reshape(len(rows), width), found[~itself].reshape(len(rows), width)


def spread(count: int, most: int) -> Rows:
    """At most `most` rows, evenly over all of them; the same for the same count."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64)) if count else np.empty(0, np.int64)


def _prior(scores: Floats, known: Floats) -> Floats:
    count = known.sum(axis=0)
    mean: Floats = np.divide(scores.sum(axis=0), count, out=np.full(len(count), np.nan, np.float32), where=count > 0)
    return mean
