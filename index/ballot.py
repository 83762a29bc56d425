"""One version as one fleet sees it: what a request is decided with. Made whenever either changes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from index import dial
from index.dial import Curve
from index.segment import Segment
from index.snapshot import Snapshot
from index.types import Candidate, Flags, Floats, LabelKind, Neighbour, Rows, Vote
from index.vote import claim, predict, vote, weigh

MAJORITY = 0.5
"""The share of the vote past which an intent belongs to the model that its `only` labels name."""
CURVE_EXAMPLES = 1000
"""How many examples, evenly spread, the dial's curve is calibrated on; every start and swap waits for them."""


@dataclass(frozen=True, slots=True)
class Polled:
    """A vote together with who voted."""

    vote: Vote
    rows: Rows
    """[k] rows of the snapshot, near to far."""
    similarities: Floats
    """[k]"""
    claimed: Flags
    """[m]; whether most of the vote says that this intent belongs to the candidate, whatever it costs."""


@dataclass(frozen=True, slots=True)
class Ballot:
    """n examples, m candidates."""

    snapshot: Snapshot
    candidates: tuple[Candidate, ...]
    scores: Floats
    """[n, m]; 0 where unknown."""
    known: Floats
    """[n, m]; 1 where the outcome is known, else 0."""
    claims: Floats
    """[n, m]; 1 where an `only` label names the candidate, else 0."""
    prior: Floats
    """[m]; a candidate's mean over the index, NaN when nothing is known of it."""
    curve: Curve

    def poll(self, vector: Floats) -> Polled:
        """Let the nearest examples of a [384] unit vector vote. The ballot must not be empty."""
        params = self.snapshot.manifest.params
        similarities, rows = self.snapshot.search(vector[None, :], params.k)
        near, voters = similarities[0], rows[0]
        cast = vote(near, self.scores[voters], self.known[voters], self.prior, params)
        claimed = claim(weigh(near, params.beta), self.claims[voters]) > MAJORITY
        return Polled(cast, voters, near, claimed)

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
    claims = _claims(snapshot.examples, candidates)
    ballot = Ballot(snapshot, tuple(candidates), scores, known, claims, _prior(scores, known), dial.FLAT)
    rows = spread(len(snapshot), CURVE_EXAMPLES)
    cost = np.array([candidate.cost for candidate in candidates])
    return replace(ballot, curve=dial.calibrate(leave_one_out(ballot, rows), outcomes[rows], cost))


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
    claims = _claims(examples, candidates)
    claimed = claims.any(axis=1)  # an owner that no candidate stands for says nothing of the others either
    outcomes[claimed] = claims[claimed]
    return outcomes


def _claims(examples: Segment, candidates: Sequence[Candidate]) -> Floats:
    """[n, m]; 1 where an `only` label names the candidate, or what it is like."""
    claims = np.zeros((len(examples), len(candidates)), dtype=np.float32)
    for row, label in enumerate(examples.labels):
        if label is not None and label.kind is LabelKind.ONLY:
            claims[row] = [label.model in (candidate.name, candidate.like) for candidate in candidates]
    return claims


def leave_one_out(ballot: Ballot, rows: Rows) -> Floats:
    """[len(rows), m]: how the rest of the index votes on each of these examples. NaN where the prior is, and
    for a model that stands back because the intent belongs to another."""
    if len(ballot.snapshot) < 2:
        return np.empty((0, len(ballot.candidates)), dtype=np.float32)
    params = ballot.snapshot.manifest.params
    similarities, voters = others(ballot.snapshot, rows, params.k)
    weights = weigh(similarities, params.beta)
    quality, _ = predict(weights, ballot.scores[voters], ballot.known[voters], ballot.prior, params.kappa)
    claimed = claim(weights, ballot.claims[voters]) > MAJORITY
    stands_back = claimed.any(axis=1, keepdims=True) & ~claimed
    return np.where(stands_back, np.float32(np.nan), quality)


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
