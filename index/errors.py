"""What can go wrong with the index.

NearvoteIndexError
├── Conflict              another writer moved HEAD first (internal: the loser re-applies)
├── StoreUnavailable      the object store cannot be reached or refuses
├── EmbedderMismatch      the version was made by another embedder
├── UnknownVersion        no such version
├── UnknownExample        no such example id
├── BadUpload             lines that cannot be taken, each with its number
├── Damaged               an object is not what its name or format says
└── ModelFilesMissing     the embedding model's files are not there, or not the pinned ones
"""

from collections.abc import Sequence

from index.types import Fault


class NearvoteIndexError(Exception):
    """The root; its text is meant for the person who asked."""


class Conflict(NearvoteIndexError):
    pass


class StoreUnavailable(NearvoteIndexError):
    pass


class EmbedderMismatch(NearvoteIndexError):
    def __init__(self, stored: str, running: str) -> None:
        super().__init__(
            f"this index was made by embedder {stored}, but {running} is running: its vectors cannot be compared. "
            "Run `nearvote index rebuild` to embed its examples again, or run with the embedder that made it."
        )


class UnknownVersion(NearvoteIndexError):
    def __init__(self, version: str) -> None:
        super().__init__(f"no version {version!r}; `nearvote index history` lists those that exist")


class UnknownExample(NearvoteIndexError):
    def __init__(self, ids: Sequence[str]) -> None:
        self.ids = tuple(ids)
        super().__init__(f"no such example: {', '.join(ids[:5])}{' …' if len(ids) > 5 else ''}")


class BadUpload(NearvoteIndexError):
    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        first = faults[0]
        rest = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        super().__init__(f"nothing was applied: line {first.line}: {first.reason}{rest}")


class Damaged(NearvoteIndexError):
    pass


class ModelFilesMissing(NearvoteIndexError):
    pass
