"""The control plane's embedder: loaded when something is first embedded, told about on the way."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from index.embedder import Embedder
from index.types import Floats

Progress = Callable[[int, int], None]
"""Told how many prompts of how many are embedded."""


def unwatched(_: int, __: int) -> None:
    pass


class LazyEmbedder:
    """Thread-safe. `load` gives the model's directory, or raises ModelFilesMissing."""

    def __init__(self, load: Callable[[], Path], workers: int) -> None:
        self._load = load
        self._workers = workers
        self._lock = threading.Lock()
        self._embedder: Embedder | None = None

    def get(self) -> Embedder:
        with self._lock:
            if self._embedder is None:
                self._embedder = Embedder(self._load())
            return self._embedder

    @property
    def fingerprint(self) -> str:
        return self.get().fingerprint

    def embed(self, text: str) -> Floats:
        return self.get().embed(text)

    def embed_many(self, texts: Sequence[str], progress: Progress = unwatched) -> Floats:
        return self.get().embed_many(texts, self._workers, lambda done: progress(done, len(texts)))
