"""One version as one fleet sees it: what a request is decided with. Made whenever either changes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from index import leave_one_out
from index.calibration import TERMS, Votes
from index.fit import Fit
from index.outcomes import Outcomes, tabulate
from index.snapshot import Snapshot
from index.types import Candidate, Flags, Floats, Neighbour, Rows, Vote
from index.vote import MAJORITY, claim, weigh


@dataclass(frozen=True, slots=True)
class Polled:
    """A vote together with who voted."""

    vote: Vote
    votes: Votes
    """The same of one prompt, before it was calibrated."""
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
    outcomes: Outcomes
    fit: Fit

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        return self.fit.candidates

    def poll(self, vector: Floats, structure: Floats) -> Polled:
        """Let the nearest examples of a [384] unit vector vote; `structure` as structure.describe gives it. The
        ballot must not be empty."""
        params = self.snapshot.manifest.params
        similarities, rows = self.snapshot.search(vector[None, :], params.k)
        weights = weigh(similarities, params.beta)
        votes, support, _ = self.outcomes.tally(weights, rows, structure[None, :], params.kappa)
        cast = Vote(self._calibrated(votes)[0], votes.quality[0], support[0], float(similarities[0, 0]))
        claimed = claim(weights, self.outcomes.claims[rows])[0] > MAJORITY
        return Polled(cast, votes, rows[0], similarities[0], claimed)

    def predict(self, vectors: Floats, structures: Floats) -> Floats:
        """Quality [q, m] of many prompts at once: `vectors` [q, 384], `structures` [q, p]."""
        params = self.snapshot.manifest.params
        similarities, rows = self.snapshot.search(vectors, params.k)
        votes, _, _ = self.outcomes.tally(weigh(similarities, params.beta), rows, structures, params.kappa)
        return self._calibrated(votes)

    def neighbours(self, polled: Polled, most: int) -> list[Neighbour]:
        """The nearest of those who voted, for evidence."""
        weights = weigh(polled.similarities, self.snapshot.manifest.params.beta)
        return [
            self._neighbour(int(row), float(similarity), float(weight))
            for row, similarity, weight in zip(polled.rows[:most], polled.similarities, weights, strict=False)
        ]

    def terms(self, polled: Polled) -> list[dict[str, float]]:
        """For each candidate, what its quality is the sum of, for evidence; empty where it is the vote as it is."""
        if self.fit.calibration is None:
            return [{} for _ in self.candidates]
        parts = np.broadcast_arrays(*self.fit.calibration.terms(polled.votes))
        return [
            dict(zip(TERMS, (float(part[0, place]) for part in parts), strict=True))
            for place in range(len(self.candidates))
        ]

    def _calibrated(self, votes: Votes) -> Floats:
        return votes.quality if self.fit.calibration is None else self.fit.calibration.predict(votes)

    def _neighbour(self, row: int, similarity: float, weight: float) -> Neighbour:
        scores = {
            candidate.name: round(float(self.outcomes.scores[row, position]), 6)
            for position, candidate in enumerate(self.candidates)
            if self.outcomes.known[row, position]
        }
        examples = self.snapshot.examples
        return Neighbour(examples.ids[row], similarity, weight, examples.prompts[row], scores, examples.sources[row])


def draw_up(snapshot: Snapshot, candidates: Sequence[Candidate]) -> Ballot:
    """The ballot of a version for a fleet, with the fit that the version keeps where that is for this very fleet; reads
    no files, embeds nothing."""
    table, kept = tabulate(snapshot.examples, candidates), snapshot.manifest.fit
    if kept is not None and kept.candidates == tuple(candidates):
        return Ballot(snapshot, table, kept)
    return Ballot(snapshot, table, leave_one_out.fit(snapshot, table, candidates))
