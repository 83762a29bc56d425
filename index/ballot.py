"""One version as one fleet sees it: what a request is decided with. Made whenever either changes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from index import calibration, dial
from index import peers as nearest
from index.calibration import TERMS, Calibration, Votes
from index.dial import Curve
from index.outcomes import Outcomes, or_nan, tabulate
from index.snapshot import Snapshot
from index.types import Candidate, Flags, Floats, Neighbour, Peers, Rows, Vote
from index.vote import claim, lost, predict, share, weigh

MAJORITY = 0.5
"""The share of the vote past which an intent belongs to the model that its `only` labels name."""


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
    candidates: tuple[Candidate, ...]
    outcomes: Outcomes
    calibration: Calibration | None
    """None where the index is too small for one: then the neighbours' vote stands as it is."""
    curve: Curve

    def poll(self, vector: Floats, structure: Floats) -> Polled:
        """Let the nearest examples of a [384] unit vector vote; `structure` as structure.describe gives it. The
        ballot must not be empty."""
        params = self.snapshot.manifest.params
        similarities, rows = self.snapshot.search(vector[None, :], params.k)
        weights = weigh(similarities, params.beta)
        votes, support, _ = self.tally(weights, rows, structure[None, :])
        cast = Vote(self._calibrated(votes)[0], votes.quality[0], support[0], float(similarities[0, 0]))
        claimed = claim(weights, self.outcomes.claims[rows])[0] > MAJORITY
        return Polled(cast, votes, rows[0], similarities[0], claimed)

    def predict(self, vectors: Floats, structures: Floats) -> Floats:
        """Quality [q, m] of many prompts at once: `vectors` [q, 384], `structures` [q, p]."""
        params = self.snapshot.manifest.params
        similarities, rows = self.snapshot.search(vectors, params.k)
        votes, _, _ = self.tally(weigh(similarities, params.beta), rows, structures)
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
        if self.calibration is None:
            return [{} for _ in self.candidates]
        parts = np.broadcast_arrays(*self.calibration.terms(polled.votes))
        return [
            dict(zip(TERMS, (float(part[0, place]) for part in parts), strict=True))
            for place in range(len(self.candidates))
        ]

    def tally(self, weights: Floats, rows: Rows, structures: Floats) -> tuple[Votes, Floats, Floats]:
        """The votes of neighbours `rows` [q, k], the support [q, m], and that of the ease [q, 1]."""
        heard, kappa = self.outcomes, self.snapshot.manifest.params.kappa
        quality, support = predict(weights, heard.scores[rows], heard.known[rows], heard.prior, kappa)
        ease, eased = predict(weights, heard.ease[rows], heard.eased[rows], np.zeros(1, np.float32), kappa)
        return Votes(quality, ease[:, 0], structures), support, eased

    def _calibrated(self, votes: Votes) -> Floats:
        return votes.quality if self.calibration is None else self.calibration.predict(votes)

    def _neighbour(self, row: int, similarity: float, weight: float) -> Neighbour:
        scores = {
            candidate.name: round(float(self.outcomes.scores[row, position]), 6)
            for position, candidate in enumerate(self.candidates)
            if self.outcomes.known[row, position]
        }
        examples = self.snapshot.examples
        return Neighbour(examples.ids[row], similarity, weight, examples.prompts[row], scores, examples.sources[row])


def draw_up(snapshot: Snapshot, candidates: Sequence[Candidate]) -> Ballot:
    """The ballot of a version for a fleet; reads no files, embeds nothing."""
    table = tabulate(snapshot.examples, candidates)
    ballot = Ballot(snapshot, tuple(candidates), table, None, dial.FLAT)
    peers = snapshot.peers or nearest.find(snapshot, snapshot.manifest.params.k)
    if not len(peers.rows) or not candidates:
        return ballot
    votes = leave_one_out(ballot, peers)
    outcomes = or_nan(table.scores, table.known)[peers.rows]
    ease = or_nan(table.ease, table.eased)[peers.rows, 0]
    corrected, quality = calibration.calibrate(votes, outcomes, ease, table.usual) or (None, votes.quality)
    offered = np.where(_stands_back(ballot, peers), np.float32(np.nan), quality)
    cost = np.array([candidate.cost for candidate in candidates])
    return replace(ballot, calibration=corrected, curve=dial.calibrate(offered, outcomes, cost))


def leave_one_out(ballot: Ballot, peers: Peers) -> Votes:
    """How the rest of the index votes on each of these examples."""
    examples, table, params = ballot.snapshot.examples, ballot.outcomes, ballot.snapshot.manifest.params
    weights = weigh(peers.similarities, params.beta)
    votes, support, eased = ballot.tally(weights, peers.voters, examples.structure[peers.rows])
    quality_lost = lost(table.scores, table.known, np.nan_to_num(table.prior))[peers.rows]
    ease_lost = lost(table.ease, table.eased, np.zeros(1, np.float32))[peers.rows]
    return replace(
        votes,
        quality=votes.quality + share(support, params.kappa) * quality_lost,
        ease=votes.ease + (share(eased, params.kappa) * ease_lost)[:, 0],
    )


def _stands_back(ballot: Ballot, peers: Peers) -> Flags:
    """[r, m]: whether most of the vote says that the intent belongs to another model."""
    weights = weigh(peers.similarities, ballot.snapshot.manifest.params.beta)
    claimed = claim(weights, ballot.outcomes.claims[peers.voters]) > MAJORITY
    back: Flags = claimed.any(axis=1, keepdims=True) & ~claimed
    return back
