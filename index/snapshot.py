"""One version in memory: its live examples, and FAISS over their vectors."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np

from index import segment as segments
from index.segment import Segment
from index.types import Floats, Manifest, Rows

# Requests are searched side by side on threads of their own; FAISS's threads beside them only spin.
faiss.omp_set_num_threads(1)


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
    nearest: Any
    """faiss.IndexFlatIP: exact, and on unit vectors inner product is cosine."""

    def __len__(self) -> int:
        return len(self.examples)

    def search(self, vectors: Floats, k: int) -> tuple[Floats, Rows]:
        """The k nearest of each of [q, 384] unit vectors: similarities [q, k'] from near to far, and their
        rows; k' = min(k, n)."""
        if not len(self):
            return np.empty((len(vectors), 0), np.float32), np.empty((len(vectors), 0), np.int64)
        similarities, rows = self.nearest.search(vectors, min(k, len(self)))
        return similarities, rows


def assemble(version: str, manifest: Manifest, parts: list[Segment], dimensions: int) -> Snapshot:
    """`parts`: the manifest's segments, in its order."""
    live = [_live_rows(len(part), ref.dropped) for part, ref in zip(parts, manifest.segments, strict=True)]
    examples = segments.merge(
        [part if len(rows) == len(part) else part.take(rows) for part, rows in zip(parts, live, strict=True)],
        dimensions,
    )
    nearest = faiss.IndexFlatIP(dimensions)
    if len(examples):
        nearest.add(examples.vectors)
    return Snapshot(
        version,
        manifest,
        examples,
        tuple((number, int(row)) for number, rows in enumerate(live) for row in rows),
        {id: row for row, id in enumerate(examples.ids)},
        nearest,
    )


def _live_rows(rows: int, dropped: tuple[int, ...]) -> Rows:
    return np.setdiff1d(np.arange(rows), np.asarray(dropped, dtype=np.int64), assume_unique=True)
