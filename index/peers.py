"""Peers: found in a snapshot, and ↔ bytes."""

import io

import numpy as np

from index.errors import Damaged
from index.segment import UNREADABLE
from index.snapshot import Snapshot
from index.types import Peers, Rows

MOST = 3000
"""How many examples, evenly spread, have their peers looked up."""


def find(snapshot: Snapshot, k: int) -> Peers:
    """The k nearest others, or all there are, of at most MOST examples; none where there are no two."""
    rows = spread(len(snapshot) if len(snapshot) > 1 else 0, MOST)
    similarities, found = snapshot.search(snapshot.examples.vectors[rows], k + 1)
    itself = found == rows[:, None]
    itself[~itself.any(axis=1), -1:] = True  # more than k copies of it came first: leave out the last instead
    width = max(found.shape[1] - 1, 0)
    return Peers(rows, found[~itself].reshape(len(rows), width), similarities[~itself].reshape(len(rows), width))


def narrow(peers: Peers, k: int, most: int = MOST) -> Peers:
    """Only the k nearest, of at most `most` examples, evenly spread."""
    kept = spread(len(peers.rows), most)
    return Peers(peers.rows[kept], peers.voters[kept, :k], peers.similarities[kept, :k])


def spread(count: int, most: int) -> Rows:
    """At most `most` rows, evenly over all of them; the same for the same count."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64)) if count else np.empty(0, np.int64)


def to_bytes(peers: Peers) -> bytes:
    """The same peers always give the same bytes."""
    file = io.BytesIO()
    np.savez(
        file,
        allow_pickle=False,
        rows=peers.rows.astype(np.int32),
        voters=peers.voters.astype(np.int32),
        similarities=peers.similarities,
    )
    return file.getvalue()


def from_bytes(data: bytes, examples: int) -> Peers:
    """Of a version of so many examples. Raises Damaged where the bytes are no peers of it."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            rows, voters = arrays["rows"].astype(np.int64), arrays["voters"].astype(np.int64)
            peers = Peers(rows, voters, arrays["similarities"])
    except UNREADABLE as error:
        raise Damaged(f"peers cannot be read: {error}") from error
    shaped = voters.ndim == 2 and voters.shape == peers.similarities.shape and voters.shape[:1] == rows.shape
    spread_as_here = np.array_equal(rows, spread(examples if examples > 1 else 0, MOST))
    if not shaped or not spread_as_here or (voters.size and not 0 <= voters.min() <= voters.max() < examples):
        raise Damaged("peers are not those of their version")
    return peers
