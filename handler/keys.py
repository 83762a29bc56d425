"""API keys: format, record, and the store that creates, changes and checks them.

A key is `nv-<id>-<secret>`. The table holds HMAC-SHA256(pepper, key), never the key.
"""

import enum
import hmac
import re
import secrets
import string
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from handler.table import Record, RecordConflict, Table, TableError

_KIND = "key"
_ID = re.compile(r"[0-9a-f]{12}")
_KEY = re.compile(r"nv-([0-9a-f]{12})-[0-9A-Za-z]{43}")
_ALPHABET = string.digits + string.ascii_letters
_SECRET_LENGTH = 43  # of 62 characters each: 256 bits
_NO_DIGEST = "0" * 64
_CACHED_KEYS = 10_000
_ATTEMPTS = 200


class UnknownKey(Exception):
    def __init__(self, id: str) -> None:
        self.id = id
        super().__init__(f"no such key: {id!r}")


class Routing(enum.Enum):
    """Whether `auto` works with a key."""

    OFF = "off"
    FORECAST = "forecast"
    """Votes are computed and kept, but nothing is routed by them."""
    ON = "on"


Name = Annotated[str, Field(min_length=1, max_length=100)]
Model = Annotated[str, Field(min_length=1, max_length=200)]
Globs = Annotated[tuple[Model, ...], Field(max_length=100)]
Dial = Annotated[float, Field(ge=0, le=10, strict=True)]
Flag = Annotated[bool, Field(strict=True)]
Seconds = Annotated[int, Field(gt=0, strict=True)]
Dollars = Annotated[float, Field(gt=0, le=1_000_000_000, strict=True, allow_inf_nan=False)]
PerMinute = Annotated[int, Field(gt=0, le=1_000_000_000, strict=True)]
Milliseconds = Annotated[float, Field(gt=0, strict=True, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, strict=True)]


class KeyOptions(BaseModel):
    """What can be chosen for a key and changed later."""

    # hide_input_in_errors: a record that does not validate must not carry its digest into a log.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    routing: Routing = Routing.OFF
    default_model: Model | None = None
    dial: Dial = 7
    """0 = always the most capable, 10 = the cheapest wins."""
    allow: Globs = ()
    """Models that `auto` may choose, as globs; empty = all. A named model always wins."""
    exclude: Globs = ()
    route_models: Globs = ()
    """Names that are routed as `auto` is, for clients that cannot be told another; as globs."""
    baseline_model: Model | None = None
    """What would have answered without routing, which savings are counted against; default: the default model."""
    budget_day: Dollars | None = None
    """Dollars a day; days and months are UTC's."""
    budget_month: Dollars | None = None
    """Dollars a month, from when it is set."""
    budget_total: Dollars | None = None
    """Dollars, from when it is set."""
    requests_per_minute: PerMinute | None = None
    tokens_per_minute: PerMinute | None = None
    max_latency_ms: Milliseconds | None = None
    """Models that are expected to take longer for a typical answer do not stand."""
    speed: Share | None = None
    """How much quality, 0..1, ten times the speed is worth."""
    expires_at: Seconds | None = None
    """Seconds since the epoch."""


class NewKey(KeyOptions):
    """What a key is created from."""

    name: Name
    admin: Flag = False


class KeyRecord(NewKey):
    """A key as stored."""

    id: Annotated[str, Field(pattern=f"^{_ID.pattern}$")]
    digest: Annotated[str, Field(pattern="^[0-9a-f]{64}$", repr=False)]
    created_at: str
    """UTC, ISO 8601."""
    revoked: Flag = False

    def works_at(self, now: float) -> bool:
        return not self.revoked and (self.expires_at is None or now < self.expires_at)

    def public(self) -> dict[str, Any]:
        """As JSON, without the digest."""
        return self.model_dump(mode="json", exclude={"digest"})


class KeyChange(KeyOptions):
    """Fields to change. Only those that were given count (`model_fields_set`), so null is a value:
    `{"default_model": null}` takes the default model away. The defaults are never applied."""

    name: Name = ""

    def applied_to(self, record: KeyRecord) -> KeyRecord:
        return record.model_copy(update={name: getattr(self, name) for name in self.model_fields_set})


@dataclass(frozen=True, slots=True)
class _Read:
    """A record as the table had it at a time."""

    record: KeyRecord
    revision: int
    at: float


class KeyStore:
    """Keys in a table. Thread-safe; everything but `peek` does I/O and raises TableError where that fails.

    A record read is used for at most `ttl` seconds, so a change is live in every process by then.
    """

    def __init__(self, table: Table, pepper: bytes, now: Callable[[], float] = time.time, ttl: float = 3.0) -> None:
        if not pepper:
            raise ValueError("the pepper for API keys is empty")
        self._table = table
        self._pepper = pepper
        self._now = now
        self._ttl = ttl
        self._reads: dict[str, _Read] = {}  # oldest first
        self._lock = threading.Lock()

    def peek(self, presented: str) -> KeyRecord | None:
        """Like authenticate, from memory alone. None also means: not known here yet, so authenticate."""
        read = self._fresh(_id_of(presented))
        return None if read is None else self._verified(presented, read)

    def authenticate(self, presented: str) -> KeyRecord | None:
        """The key's record; None for one that is malformed, unknown, wrong, revoked or expired."""
        key_id = _id_of(presented)
        if key_id is None:
            return None
        return self._verified(presented, self._fresh(key_id) or self._read(key_id))

    def create(self, new: NewKey) -> tuple[KeyRecord, str]:
        """The record and the key itself, which cannot be had again."""
        key_id = secrets.token_hex(6)
        key = f"nv-{key_id}-{''.join(secrets.choice(_ALPHABET) for _ in range(_SECRET_LENGTH))}"
        created_at = datetime.fromtimestamp(self._now(), UTC).isoformat(timespec="seconds")
        record = KeyRecord(id=key_id, digest=self._digest(key), created_at=created_at, **new.model_dump())
        self._write(record, expected=None)
        return record, key

    def get(self, id: str) -> KeyRecord | None:
        read = self._read(id) if _ID.fullmatch(id) else None
        return None if read is None else read.record

    def change(self, id: str, change: KeyChange) -> KeyRecord:
        """Raises UnknownKey. Changes of other fields made at the same time are kept."""
        return self._update(id, change.applied_to)

    def revoke(self, id: str) -> KeyRecord:
        """The key stops working and stays listed. Raises UnknownKey."""
        return self._update(id, lambda record: record.model_copy(update={"revoked": True}))

    def list(self) -> list[KeyRecord]:
        """All keys, by id, also revoked and expired ones."""
        return [_parsed(stored) for stored in self._table.list(_KIND)]

    def _digest(self, key: str) -> str:
        return hmac.digest(self._pepper, key.encode(), "sha256").hex()

    def _verified(self, presented: str, read: _Read | None) -> KeyRecord | None:
        # Unknown ids are compared too, so that the time taken does not tell which ids exist.
        expected = _NO_DIGEST if read is None else read.record.digest
        matches = hmac.compare_digest(self._digest(presented), expected)
        works = read is not None and read.record.works_at(self._now())
        return read.record if read is not None and matches and works else None

    def _update(self, id: str, edit: Callable[[KeyRecord], KeyRecord]) -> KeyRecord:
        for _ in range(_ATTEMPTS):
            read = self._read(id) if _ID.fullmatch(id) else None
            if read is None:
                raise UnknownKey(id)
            try:
                return self._write(edit(read.record), expected=read.revision)
            except RecordConflict:
                continue
        raise RecordConflict(_KIND, id)

    def _read(self, id: str) -> _Read | None:
        at = self._now()
        stored = self._table.get(_KIND, id)
        if stored is None:
            return None
        read = _Read(_parsed(stored), stored.revision, at)
        self._remember(read)
        return read

    def _write(self, record: KeyRecord, expected: int | None) -> KeyRecord:
        at = self._now()
        stored = self._table.put(_KIND, record.id, record.model_dump(mode="json"), expected)
        self._remember(_Read(record, stored.revision, at))
        return record

    def _fresh(self, id: str | None) -> _Read | None:
        read = self._reads.get(id) if id is not None else None
        return read if read is not None and 0 <= self._now() - read.at < self._ttl else None

    def _remember(self, read: _Read) -> None:
        """Ids that do not exist are never kept, so made-up keys cannot push real ones out."""
        key_id = read.record.id
        with self._lock:
            held = self._fresh(key_id)
            if held is not None and held.revision > read.revision:
                return  # this read was overtaken by a write
            self._reads.pop(key_id, None)
            self._reads[key_id] = read
            if len(self._reads) > _CACHED_KEYS:
                del self._reads[next(iter(self._reads))]


def _id_of(presented: str) -> str | None:
    match = _KEY.fullmatch(presented)
    return match and match[1]


def _parsed(stored: Record) -> KeyRecord:
    try:
        return KeyRecord.model_validate(stored.value)
    except ValidationError as error:
        raise TableError(f"key record {stored.id!r} cannot be read") from error
