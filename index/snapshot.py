"""One version in memory: its live examples, and FAISS over their vectors."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np

from index import segment as segments
from index.manifest import Manifest
from index.segment import Segment
from index.types import Floats, Peers, Rows

# Requests are searched side by side on threads of their own; FAISS's threads beside them only spin.
faiss.omp_set_num_threads(1)

CENTERED_FROM = 50
_TINY = 1e-6


@dataclass(frozen=True, slots=True)
class Snapshot:
    """n live examples of one version."""

    version: str
    manifest: Manifest
    examples: Segment
    origins: tuple[tuple[int, int], ...]
    """For each live example, which segment of the manifest it lies in and on which row."""
    rows: Mapping[str, int]
    """Example id → row."""
    center: Floats
    """[384]; what most vectors share, which is taken out before they are compared: it would make all seem alike."""
    peers: Peers | None
    """As the version keeps them; None where it does not."""
    nearest: Any
    """faiss.IndexFlatIP: exact, and on unit vectors inner product is cosine."""

    def __len__(self) -> int:
        return len(self.examples)

    def search(self, vectors: Floats, k: int) -> tuple[Floats, Rows]:
        """The k nearest of each of [q, 384] unit vectors: similarities [q, k'] from near to far, and their
        rows; k' = min(k, n)."""
        if not len(self):
            return np.empty((len(vectors), 0), np.float32), np.empty((len(vectors), 0), np.int64)
        similarities, rows = self.nearest.search(_centered(vectors, self.center), min(k, len(self)))
        return similarities, rows


def assemble(
    version: str, manifest: Manifest, parts: list[Segment], dimensions: int, peers: Peers | None = None
) -> Snapshot:
    """`parts`: the manifest's segments, in its order."""
    live = [_live_rows(len(part), ref.dropped) for part, ref in zip(parts, manifest.segments, strict=True)]
    examples = segments.merge(
        [part if len(rows) == len(part) else part.take(rows) for part, rows in zip(parts, live, strict=True)],
        dimensions,
    )
    center = _center(examples.vectors)
    nearest = faiss.IndexFlatIP(dimensions)
    if len(examples):
        nearest.add(_centered(examples.vectors, center))
    return Snapshot(
        version,
        manifest,
        examples,
        tuple((number, int(row)) for number, rows in enumerate(live) for row in rows),
        {id: row for row, id in enumerate(examples.ids)},
        center,
        peers,
        nearest,
    )


def _center(vectors: Floats) -> Floats:
    """Their mean; 0 where they are too few to tell what all have in common from what they are about."""
    mean: Floats = vectors.mean(axis=0) if len(vectors) >= CENTERED_FROM else np.zeros(vectors.shape[1], np.float32)
    return mean


def _centered(vectors: Floats, center: Floats) -> Floats:
    if not center.any():
        return vectors
    moved = vectors - center
    unit: Floats = moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), _TINY)
    return unit


def _live_rows(rows: int, dropped: tuple[int, ...]) -> Rows:
    return np.setdiff1d(np.arange(rows), np.asarray(dropped, dtype=np.int64), assume_unique=True)
