"""A version and a fleet → their Fit: each example is voted on by the others. Reads no files, embeds nothing."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from index import calibration, dial
from index import peers as nearest
from index.calibration import Votes
from index.fit import Fit
from index.outcomes import Outcomes, or_nan
from index.snapshot import Snapshot
from index.types import Candidate, Flags, Peers
from index.vote import MAJORITY, claim, lost, share, weigh


def fit(snapshot: Snapshot, table: Outcomes, candidates: Sequence[Candidate]) -> Fit:
    """`table`: what the version's examples say of the candidates."""
    peers = snapshot.peers or nearest.find(snapshot, snapshot.manifest.params.k)
    if not len(peers.rows) or not candidates:
        return Fit(tuple(candidates), None, dial.FLAT)
    votes = leave_one_out(snapshot, table, peers)
    outcomes = or_nan(table.scores, table.known)[peers.rows]
    ease = or_nan(table.ease, table.eased)[peers.rows, 0]
    corrected, quality = calibration.calibrate(votes, outcomes, ease, table.usual) or (None, votes.quality)
    offered = np.where(_stands_back(snapshot, table, peers), np.float32(np.nan), quality)
    cost = np.array([candidate.cost for candidate in candidates])
    return Fit(tuple(candidates), corrected, dial.calibrate(offered, outcomes, cost))


def leave_one_out(snapshot: Snapshot, table: Outcomes, peers: Peers) -> Votes:
    """How the rest of the index votes on each of these examples."""
    params = snapshot.manifest.params
    weights = weigh(peers.similarities, params.beta)
    votes, support, eased = table.tally(weights, peers.voters, snapshot.examples.structure[peers.rows], params.kappa)
    quality_lost = lost(table.scores, table.known, np.nan_to_num(table.prior))[peers.rows]
    ease_lost = lost(table.ease, table.eased, np.zeros(1, np.float32))[peers.rows]
    return replace(
        votes,
        quality=votes.quality + share(support, params.kappa) * quality_lost,
        ease=votes.ease + (share(eased, params.kappa) * ease_lost)[:, 0],
    )


def _stands_back(snapshot: Snapshot, table: Outcomes, peers: Peers) -> Flags:
    """[r, m]: whether most of the vote says that the intent belongs to another model."""
    weights = weigh(peers.similarities, snapshot.manifest.params.beta)
    claimed = claim(weights, table.claims[peers.voters]) > MAJORITY
    back: Flags = claimed.any(axis=1, keepdims=True) & ~claimed
    return back
