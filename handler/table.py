"""Keyed records with conditional update: SQLite here, DynamoDB in the cloud, behind one interface.

TableError
├── RecordConflict        another writer changed the record first
├── OverLimit             a counter would pass its limit
└── TableUnavailable      the store cannot be reached, refuses, or failed
"""

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


class TableError(Exception):
    """The root; raised itself for a record that cannot be read. Its text never holds a record's value."""


class RecordConflict(TableError):
    def __init__(self, kind: str, id: str) -> None:
        super().__init__(f"{kind} {id!r} was changed by another writer")


class OverLimit(TableError):
    def __init__(self, id: str) -> None:
        super().__init__(f"{id!r} would pass its limit")
        self.id = id


class TableUnavailable(TableError):
    pass


@dataclass(frozen=True, slots=True)
class Record:
    """One record as stored; `revision` counts its writes from 1."""

    id: str
    value: Mapping[str, Any]
    revision: int


@dataclass(frozen=True, slots=True)
class Count:
    """What is added to the counters of one id, which start at 0."""

    id: str
    amounts: Mapping[str, int]
    """By counter; less than 0 takes away."""
    limits: Mapping[str, int] = field(default_factory=dict)
    """What a counter may be at most once its amount is added."""
    expires_at: int | None = None
    """Seconds since the epoch, after which it may be forgotten."""


class Table(Protocol):
    """Records by (kind, id); values are what JSON can hold. Raises TableUnavailable where the store fails."""

    def get(self, kind: str, id: str) -> Record | None: ...

    def put(
        self,
        kind: str,
        id: str,
        value: Mapping[str, Any],
        expected: int | None,
        expires_at: int | None = None,
    ) -> Record:
        """Write if the record's revision is still `expected` (None: only if there is none yet).
        Raises RecordConflict otherwise. `expires_at`: seconds since the epoch, after which get and list do
        not show it."""
        ...

    def write(self, kind: str, id: str, value: Mapping[str, Any], expires_at: int) -> None:
        """Whatever was there: the last writer wins, and the revision starts anew at 1."""
        ...

    def delete(self, kind: str, id: str) -> bool:
        """True when there was one."""
        ...

    def count(self, kind: str, counts: Sequence[Count]) -> None:
        """Add to counters, in their order; each id's at once, whoever else counts. Raises OverLimit, and then nothing
        was added."""
        ...

    def counters(self, kind: str) -> Mapping[str, Mapping[str, int]]:
        """All counters of a kind, by id."""
        ...

    def list(self, kind: str) -> list[Record]:
        """All records of a kind, by id."""
        ...


def open_table(url: str, now: Callable[[], float] = time.time) -> Table:
    """`dynamodb://table-name`, with region and credentials from AWS's usual places, or a SQLite file's path.
    Raises ValueError for another scheme or an impossible name."""
    if dynamo := re.fullmatch(r"dynamodb://([A-Za-z0-9_.-]{3,255})", url):
        from handler.dynamo_table import connect  # boto3 is slow to import and not needed locally

        return connect(dynamo[1], now)
    if "://" in url or not url:
        raise ValueError(f"a table is dynamodb://table-name or the path of a SQLite file, not {url!r}")
    from handler.sqlite_table import SqliteTable

    return SqliteTable(Path(url), now)


def encode_value(value: Mapping[str, Any]) -> str:
    """Raises TypeError or ValueError for what JSON cannot hold."""
    return json.dumps(dict(value), allow_nan=False, separators=(",", ":"))


def decode_record(id: str, text: str, revision: int) -> Record:
    """Raises TableError when the text is not one that encode_value made."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise TableError(f"record {id!r} is damaged") from error
    if not isinstance(value, dict):
        raise TableError(f"record {id!r} is damaged")
    return Record(id, value, revision)
