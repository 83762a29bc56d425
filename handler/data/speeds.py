"""How fast each deployment answers: averages of real traffic in which what is old counts less and less."""

import hashlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from handler.data.health import Target
from handler.fleet import Model
from handler.table import Record, RecordConflict, Table, TableError

log = logging.getLogger("nearvote.speeds")

KIND = "speed"
HALF_LIFE_S = 300.0
KEPT_S = 3600
SHARE_S = 30.0
"""How often a process tells the others."""
ATTEMPTS = 5

Id = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Speed:
    """Weighted sums as of one time."""

    at: float
    """Seconds since the epoch."""
    first_ms: float = 0.0
    firsts: float = 0.0
    """Weight of the answers in `first_ms`."""
    token_ms: float = 0.0
    tokens: float = 0.0
    """Weight of the tokens in `token_ms`."""

    def aged(self, now: float) -> "Speed":
        kept = 0.5 ** (max(now - self.at, 0.0) / HALF_LIFE_S)
        return Speed(now, self.first_ms * kept, self.firsts * kept, self.token_ms * kept, self.tokens * kept)

    def plus(self, other: "Speed") -> "Speed":
        """As of the later of the two."""
        now = max(self.at, other.at)
        one, two = self.aged(now), other.aged(now)
        return Speed(
            now,
            one.first_ms + two.first_ms,
            one.firsts + two.firsts,
            one.token_ms + two.token_ms,
            one.tokens + two.tokens,
        )

    def less(self, other: "Speed") -> "Speed":
        """What came since the other, which was a part of it."""
        return self.plus(Speed(other.at, -other.first_ms, -other.firsts, -other.token_ms, -other.tokens))

    def expected_ms(self, output_tokens: int) -> float | None:
        """Until an answer of so many tokens is whole; None where there is nothing to tell by."""
        if self.firsts + self.tokens == 0:
            return None
        first = self.first_ms / self.firsts if self.firsts else 0.0
        token = self.token_ms / self.tokens if self.tokens else 0.0
        return first + token * output_tokens


class Speeds:
    """Used on one thread, but for `share_if_due`, which runs on any other."""

    def __init__(self, table: Table | None, now: Callable[[], float] = time.time) -> None:
        self._table = table
        self._now = now
        self._known: dict[Id, Speed] = {}
        """What all processes have told."""
        self._news: dict[Id, Speed] = {}
        """What this one has not told yet."""
        self._shared_at = now()
        self._sharing = threading.Lock()

    def note_stream(self, target: Target, first_ms: float, seconds: float, output_tokens: int) -> None:
        """`seconds`: from the first bytes to the last."""
        self._add(target, Speed(self._now(), first_ms, 1.0, seconds * 1000, float(output_tokens)))

    def note_whole(self, target: Target, ms: float, output_tokens: int) -> None:
        """What of it went by before the first token is known from streams, if at all. An answer without tokens tells
        nothing."""
        if output_tokens == 0:
            return
        known = self._of(target.id)
        first = known.first_ms / known.firsts if known.firsts else 0.0
        self._add(target, Speed(self._now(), 0.0, 0.0, max(ms - first, 0.0), float(output_tokens)))

    def expected_ms(self, model: Model, output_tokens: int) -> float | None:
        """The mean over its deployments, by their weights; None where none was seen to answer."""
        total = weight = 0.0
        for deployment in model.deployments:
            ms = self._of(Target(model, deployment).id).expected_ms(output_tokens)
            if ms is not None:
                total, weight = total + ms * deployment.weight, weight + deployment.weight
        return total / weight if weight else None

    def share_if_due(self) -> None:
        """Blocking: tells the others, and learns what they told. A fault of the table leaves it for the next time."""
        if self._table is None or not self._sharing.acquire(blocking=False):
            return
        try:
            if self._news and self._now() - self._shared_at >= SHARE_S:
                self._shared_at = self._now()
                self._share(self._table)
        except TableError as error:
            log.error("speeds are not shared: %s", error)
        finally:
            self._sharing.release()

    def _share(self, table: Table) -> None:
        for id, news in list(self._news.items()):
            self._known[id] = self._merged(table, _name(id), news)
            later = self._news.pop(id)
            if later is not news:  # noted meanwhile
                self._news[id] = later.less(news)

    def _merged(self, table: Table, name: str, news: Speed) -> Speed:
        for _ in range(ATTEMPTS):
            stored = table.get(KIND, name)
            merged = news if stored is None else _read(stored).plus(news)
            try:
                expires_at = int(self._now()) + KEPT_S
                table.put(KIND, name, _written(merged), stored.revision if stored else None, expires_at)
            except RecordConflict:
                continue
            return merged
        raise RecordConflict(KIND, name)

    def _add(self, target: Target, seen: Speed) -> None:
        before = self._news.get(target.id)
        self._news[target.id] = seen if before is None else before.plus(seen)

    def _of(self, id: Id) -> Speed:
        known, news = self._known.get(id), self._news.get(id)
        found = known.plus(news) if known is not None and news is not None else known or news
        # What nobody calls any more, perhaps because it was slow, is unknown again after a while, and gets its chance.
        return found if found is not None and self._now() - found.at < KEPT_S else Speed(0.0)


def _name(id: Id) -> str:
    return hashlib.blake2b("\0".join(id).encode(), digest_size=12).hexdigest()


def _written(speed: Speed) -> dict[str, Any]:
    return {
        "at": speed.at,
        "first_ms": speed.first_ms,
        "firsts": speed.firsts,
        "token_ms": speed.token_ms,
        "tokens": speed.tokens,
    }


def _read(stored: Record) -> Speed:
    """Raises TableError for what another release wrote otherwise."""
    try:
        return Speed(**stored.value)
    except TypeError as error:
        raise TableError(f"the speed {stored.id!r} cannot be read") from error
