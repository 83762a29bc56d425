"""The fleet and the index as this process serves them now. Looked for in the background, swapped whole."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from handler import fleet as fleets
from handler.fleet import BadFleet, FleetFile
from index.ballot import Ballot, draw_up
from index.errors import EmbedderMismatch, NearvoteIndexError
from index.snapshot import Snapshot
from index.store import ObjectStore
from index.versions import Repository

log = logging.getLogger("nearvote.live")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Live:
    """One consistent view: requests take it once and keep it to their end."""

    fleet: FleetFile
    ballot: Ballot | None
    detail: str = ""
    """Why there is no ballot."""


class Watcher:
    """`live` never blocks; `touch` starts a look in the background when one is due; `refresh` looks now."""

    def __init__(
        self,
        store: ObjectStore,
        repository: Repository,
        fingerprint: str,
        interval: float,
        patience: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Looks every `interval` seconds. `patience`: seconds that a request may wait in `catch_up`; 0 where a
        timer calls `touch` and no request needs to."""
        self._store = store
        self._repository = repository
        self._fingerprint = fingerprint
        self._interval = interval
        self._patience = patience
        self._clock = clock
        self._looking = threading.Lock()
        self._pending: Future[None] | None = None
        self._background = ThreadPoolExecutor(1, thread_name_prefix="watch")
        self._fleet_etag: str | None = None
        self._head_etag: str | None = None
        self._snapshot: Snapshot | None = None
        self.live = self._first()
        self._looked = self._caught_up = self._clock()

    def touch(self) -> None:
        """Called on every request and by a timer; costs one comparison when no look is due."""
        if self._clock() - self._looked >= self._interval and not self._looking.locked():
            self._looked = self._clock()
            self._pending = self._background.submit(self.refresh)

    async def catch_up(self) -> None:
        """`touch`, for a process that sleeps between requests, as in Lambda: one that finds the last look too
        long ago waits for the next one, within its patience."""
        self.touch()
        late = self._clock() - self._caught_up > self._interval
        if late and self._patience and self._pending is not None:
            await asyncio.wait([asyncio.wrap_future(self._pending)], timeout=self._patience)

    def refresh(self) -> None:
        """Blocking. What cannot be read leaves what is served as it is, and says so in the log."""
        with self._looking:
            self._looked = self._clock()
            fleet = self._look(self._changed_fleet)
            moved = self._look(self._changed_index)
            if fleet is not None or moved is not None:
                self.live = self._look(lambda: self._view(fleet or self.live.fleet)) or self.live
            self._caught_up = self._clock()

    def close(self) -> None:
        self._background.shutdown(wait=False, cancel_futures=True)

    def _first(self) -> Live:
        """Raises BadFleet when there is no usable fleet: nothing can be served without one."""
        fleet = self._changed_fleet()
        if fleet is None:
            raise BadFleet(f"there is no {fleets.KEY} in the store")
        self._look(self._changed_index)
        return self._view(fleet)

    def _look(self, at: Callable[[], T]) -> T | None:
        try:
            return at()
        except (NearvoteIndexError, BadFleet) as error:
            log.error("kept what is served: %s", error)
        except Exception:
            log.exception("kept what is served")  # a fault of ours; the traceback holds no prompt
        return None

    def _changed_fleet(self) -> FleetFile | None:
        stored = self._store.get(fleets.KEY, self._fleet_etag)
        if stored is None or stored.etag == self._fleet_etag:
            return None
        self._fleet_etag = stored.etag
        return fleets.parse(stored.data)

    def _changed_index(self) -> Snapshot | None:
        head = self._repository.poll_head(self._head_etag)
        if head is None:
            return None
        version, etag = head
        self._snapshot = self._repository.load(version)
        self._head_etag = etag
        return self._snapshot

    def _view(self, fleet: FleetFile) -> Live:
        if self._snapshot is None or not len(self._snapshot):
            return Live(fleet, None, "the index is empty")
        made_by = self._snapshot.manifest.fingerprint
        if made_by != self._fingerprint:
            mismatch = EmbedderMismatch(made_by, self._fingerprint)
            log.error("routing has no index: %s", mismatch)
            return Live(fleet, None, str(mismatch))
        ballot = draw_up(self._snapshot, fleet.fleet.candidates)
        log.info("serving index version %s with fleet %s", self._snapshot.version, fleet.version)
        return Live(fleet, ballot)
