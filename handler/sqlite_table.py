"""Records in one SQLite file, safe for several threads and processes."""

import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from handler.table import Count, OverLimit, Record, RecordConflict, TableUnavailable, decode_record, encode_value

_BUSY_SECONDS = 5.0

_SCHEMA = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = NORMAL",  # a power cut may lose the last moments, a crash of ours nothing
    """CREATE TABLE IF NOT EXISTS records (
        kind TEXT NOT NULL,
        id TEXT NOT NULL,
        value TEXT NOT NULL,
        revision INTEGER NOT NULL,
        expires_at INTEGER,
        PRIMARY KEY (kind, id)
    )""",
    """CREATE TABLE IF NOT EXISTS counters (
        kind TEXT NOT NULL,
        id TEXT NOT NULL,
        counter TEXT NOT NULL,
        value INTEGER NOT NULL,
        expires_at INTEGER,
        PRIMARY KEY (kind, id, counter)
    ) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS expiring ON records (expires_at) WHERE expires_at IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS expiring_counters ON counters (expires_at) WHERE expires_at IS NOT NULL",
)
_LIVE = "(expires_at IS NULL OR expires_at > :now)"
_GET = f"SELECT id, value, revision FROM records WHERE kind = :kind AND id = :id AND {_LIVE}"  # noqa: S608
_LIST = f"SELECT id, value, revision FROM records WHERE kind = :kind AND {_LIVE} ORDER BY id"  # noqa: S608
_DELETE = f"DELETE FROM records WHERE kind = :kind AND id = :id AND {_LIVE}"  # noqa: S608
_INSERT = """
    INSERT INTO records (kind, id, value, revision, expires_at) VALUES (:kind, :id, :value, 1, :expires_at)
    ON CONFLICT (kind, id)
    DO UPDATE SET value = excluded.value, revision = 1, expires_at = excluded.expires_at
    WHERE records.expires_at <= :now"""
_UPDATE = f"""
    UPDATE records SET value = :value, revision = revision + 1, expires_at = :expires_at
    WHERE kind = :kind AND id = :id AND revision = :expected AND {_LIVE}"""  # noqa: S608
_WRITE = """
    INSERT INTO records (kind, id, value, revision, expires_at) VALUES (:kind, :id, :value, 1, :expires_at)
    ON CONFLICT (kind, id)
    DO UPDATE SET value = excluded.value, revision = 1, expires_at = excluded.expires_at"""
_COUNT = """
    INSERT INTO counters (kind, id, counter, value, expires_at) VALUES (:kind, :id, :counter, :amount, :expires_at)
    ON CONFLICT (kind, id, counter) DO UPDATE SET value = value + :amount, expires_at = excluded.expires_at
    RETURNING value"""
_COUNTERS = f"SELECT id, counter, value FROM counters WHERE kind = :kind AND {_LIVE}"  # noqa: S608
_SWEEP_COUNTERS = "DELETE FROM counters WHERE expires_at <= :now"
_SWEEP = """
    DELETE FROM records WHERE rowid IN (SELECT rowid FROM records WHERE expires_at <= :now LIMIT 100)"""


class SqliteTable:
    """One connection behind a lock. The file is made readable by its owner only."""

    def __init__(self, path: Path, now: Callable[[], float] = time.time) -> None:
        self._path = path
        self._now = now
        self._lock = threading.Lock()
        try:
            path.touch(mode=0o600, exist_ok=True)
            self._connection = _connect(path)
        except (OSError, sqlite3.Error) as error:
            raise TableUnavailable(f"{path}: {error}") from error
        weakref.finalize(self, self._connection.close)  # a command ends without closing its table

    def get(self, kind: str, id: str) -> Record | None:
        with self._connected() as connection:
            row = connection.execute(_GET, {"kind": kind, "id": id, "now": self._seconds()}).fetchone()
        return None if row is None else decode_record(*row)

    def put(
        self,
        kind: str,
        id: str,
        value: Mapping[str, Any],
        expected: int | None,
        expires_at: int | None = None,
    ) -> Record:
        text = encode_value(value)
        fields = {
            "kind": kind,
            "id": id,
            "value": text,
            "expected": expected,
            "expires_at": expires_at,
            "now": self._seconds(),
        }
        with self._connected() as connection:
            if expected is None:
                connection.execute(_SWEEP, fields)
            written = connection.execute(_INSERT if expected is None else _UPDATE, fields).rowcount
        if not written:
            raise RecordConflict(kind, id)
        return decode_record(id, text, (expected or 0) + 1)

    def delete(self, kind: str, id: str) -> bool:
        with self._connected() as connection:
            return connection.execute(_DELETE, {"kind": kind, "id": id, "now": self._seconds()}).rowcount > 0

    def write(self, kind: str, id: str, value: Mapping[str, Any], expires_at: int) -> None:
        fields = {
            "kind": kind,
            "id": id,
            "value": encode_value(value),
            "expires_at": expires_at,
            "now": self._seconds(),
        }
        with self._connected() as connection:
            connection.execute(_SWEEP, fields)
            connection.execute(_WRITE, fields)

    def count(self, kind: str, counts: Sequence[Count]) -> None:
        with self._connected() as connection, _transaction(connection):
            connection.execute(_SWEEP_COUNTERS, {"now": self._seconds()})
            for count in counts:
                _count(connection, kind, count)

    def counters(self, kind: str) -> Mapping[str, Mapping[str, int]]:
        found: dict[str, dict[str, int]] = {}
        with self._connected() as connection:
            for id, counter, value in connection.execute(_COUNTERS, {"kind": kind, "now": self._seconds()}):
                found.setdefault(id, {})[counter] = value
        return found

    def close(self) -> None:
        """Every later call raises TableUnavailable."""
        with self._lock:
            self._connection.close()

    def list(self, kind: str) -> list[Record]:
        with self._connected() as connection:
            rows = connection.execute(_LIST, {"kind": kind, "now": self._seconds()}).fetchall()
        return [decode_record(*row) for row in rows]

    def _seconds(self) -> int:
        return int(self._now())

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._connection
            except sqlite3.Error as error:
                raise TableUnavailable(f"{self._path}: {error}") from error


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # some errors end it by themselves
            connection.execute("ROLLBACK")
        raise


def _count(connection: sqlite3.Connection, kind: str, count: Count) -> None:
    for counter, amount in count.amounts.items():
        fields = {
            "kind": kind,
            "id": count.id,
            "counter": counter,
            "amount": amount,
            "expires_at": count.expires_at,
        }
        ((value,),) = connection.execute(_COUNT, fields).fetchall()
        if counter in count.limits and value > count.limits[counter]:
            raise OverLimit(count.id)  # the transaction takes all of it back


def _connect(path: Path) -> sqlite3.Connection:
    # isolation_level=None: each statement is its own transaction, so it waits for the write lock by itself.
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        _prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            for statement in _SCHEMA:
                connection.execute(statement)
            return
        except sqlite3.OperationalError as error:
            # Processes that open a new file at once: the change to WAL fails at once instead of waiting.
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
