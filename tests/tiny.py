"""Indexes that a person can compute: vectors of a few dimensions, and stores that fail on demand."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from index.manifest import Manifest, SegmentRef
from index.segment import Segment, from_examples
from index.snapshot import Snapshot, assemble
from index.store import ObjectStore, Stored
from index.types import Example, Floats, VoteParams

DIMENSIONS = 8


def unit(*numbers: float) -> Floats:
    vector = np.array(numbers, np.float32)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def embed(prompts: Sequence[str]) -> Floats:
    """float32 [n, DIMENSIONS]; the same text always the same unit vector, another text another one."""
    return np.array([_hashed(prompt) for prompt in prompts], np.float32).reshape(-1, DIMENSIONS)


def _hashed(text: str) -> Floats:
    digest = hashlib.sha256(text.encode()).digest()
    return unit(*(byte - 127.5 for byte in digest[:DIMENSIONS]))


def hashed_segment(examples: Sequence[Example]) -> Segment:
    return from_examples(examples, embed([example.prompt for example in examples]))


def snapshot_of(examples: Sequence[Example], vectors: Floats, params: VoteParams | None = None) -> Snapshot:
    """A version of one segment, which no store holds."""
    refs = (SegmentRef("segment", len(examples)),)
    manifest = Manifest(1, None, "", "", "", refs, params or VoteParams())
    return assemble("version", manifest, [from_examples(examples, vectors)], vectors.shape[1])


def units(rng: np.random.Generator, count: int, dimensions: int = DIMENSIONS) -> Floats:
    vectors = rng.normal(size=(count, dimensions)).astype(np.float32)
    lengths: Floats = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / lengths


def measured(count: int, seed: int = 1) -> Segment:
    """Where the first number of its vector is high both models do well on an example; dear does so on others too."""
    rng = np.random.default_rng(seed)
    vectors = units(rng, count)
    chance = np.clip(0.5 + vectors[:, :1] + np.array([-0.2, 0.2]), 0, 1)
    outcomes = (rng.random((count, 2)) < chance).astype(float)
    examples = [
        Example(f"e{row}", f"prompt {'why? ' * (row % 7)}{row}", {"cheap": cheap, "dear": dear})
        for row, (cheap, dear) in enumerate(outcomes.tolist())
    ]
    return from_examples(examples, vectors)


def version_of(examples: Segment) -> Snapshot:
    manifest = Manifest(1, None, "", "", "", (SegmentRef("s", len(examples)),))
    return assemble("v", manifest, [examples], DIMENSIONS)


def exact(value: object) -> object:
    """What equals another only if every number in it does to the last bit; NaN equals NaN."""
    if dataclasses.is_dataclass(value):
        return tuple(exact(getattr(value, field.name)) for field in dataclasses.fields(value))
    if isinstance(value, np.ndarray | np.generic):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, tuple):
        return tuple(map(exact, value))
    return value.hex() if isinstance(value, float) else value


class Wrapped:
    """A store as it is; what a test needs is put in its way by a subclass."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store

    def get(self, key: str, unless: str | None = None) -> Stored | None:
        return self.store.get(key, unless)

    def put(self, key: str, data: bytes) -> None:
        self.store.put(key, data)

    def swap(self, key: str, data: bytes, expected: str | None) -> str:
        return self.store.swap(key, data, expected)

    def delete(self, key: str) -> None:
        self.store.delete(key)

    def keys(self, prefix: str) -> Iterator[str]:
        return self.store.keys(prefix)


class Interrupted(Wrapped):
    """Lets something happen just before the first swap, as another writer would."""

    def __init__(self, store: ObjectStore, happening: Callable[[], object]) -> None:
        super().__init__(store)
        self._happenings = [happening]

    def swap(self, key: str, data: bytes, expected: str | None) -> str:
        while self._happenings:
            self._happenings.pop()()
        return super().swap(key, data, expected)
