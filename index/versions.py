"""The index as a repository: immutable versions, and HEAD, which moves only by compare-and-swap.

index/HEAD.json is {"version": id}; objects.py keeps what the id names. A writer puts segments, then the manifest,
then swaps HEAD: killed anywhere in between, it leaves objects that nothing points to, and HEAD at the old version.
"""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import orjson

from index.ballot import draw_up
from index.build import tune
from index.errors import Conflict, Damaged, EmbedderMismatch, StoreUnavailable
from index.fit import Fit
from index.manifest import Manifest, SegmentRef, read_json
from index.objects import Objects
from index.segment import Segment
from index.snapshot import Snapshot, assemble
from index.store import ObjectStore
from index.types import Candidate

HEAD = "index/HEAD.json"
EMPTY = ""
"""The version id before there is any version."""

PATIENCE_S = 60.0
"""How long a writer that keeps losing HEAD to others tries again."""
LONGEST_PAUSE_S = 0.3
MOST_SEGMENTS = 16
"""Past this many, a version merges its small segments."""
SMALL_ROWS = 4096


@dataclass(frozen=True, slots=True)
class Change:
    """What one edit does to the version it is applied to."""

    added: Segment | None
    dropped: tuple[int, ...] = ()
    """Rows of that version's snapshot."""

    @property
    def empty(self) -> bool:
        return not self.dropped and (self.added is None or not len(self.added))


@dataclass(frozen=True, slots=True)
class Difference:
    """Example ids between two versions."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    """Same id, other outcomes or other text."""


Edit = Callable[[Snapshot], Change]
"""Applied to the current version; applied again to the newer one when another writer was first."""


_NOTHING = Manifest(0, None, "", "", "")
"""What the first version is made from."""


def _now() -> datetime:
    return datetime.now(UTC)


class Repository:
    def __init__(
        self,
        store: ObjectStore,
        dimensions: int = 384,
        clock: Callable[[], datetime] = _now,
        candidates: Callable[[], Sequence[Candidate]] = tuple,
    ) -> None:
        """`candidates`: the fleet of the moment, for which a new version keeps its fit; by default there is none."""
        self._store = store
        self._dimensions = dimensions
        self._clock = clock
        self._candidates = candidates
        self._objects = Objects(store)

    def poll_head(self, unless: str | None = None) -> tuple[str, str] | None:
        """The current version's id and HEAD's etag; None when HEAD still has the etag `unless`."""
        stored = self._store.get(HEAD, unless)
        if stored is None:
            return EMPTY, ""
        if stored.etag == unless:
            return None
        version = read_json(stored.data, HEAD).get("version")
        if not isinstance(version, str):
            raise Damaged(f"{HEAD} names no version")
        return version, stored.etag

    def manifest(self, version: str) -> Manifest:
        """Raises UnknownVersion."""
        return self._objects.manifest(version)

    def load(self, version: str) -> Snapshot:
        """The whole version; EMPTY gives a snapshot without examples."""
        if version == EMPTY:
            return self._assemble(_NOTHING)
        return self._assemble(self.manifest(version), version)

    def current(self) -> Snapshot:
        head = self.poll_head()
        return self.load(head[0] if head else EMPTY)

    def commit(self, edit: Edit, message: str, fingerprint: str | None = None) -> Snapshot:
        """Apply an edit as one new version, and return it; no change makes no version. `fingerprint`: of the
        embedder of any new vectors. Raises EmbedderMismatch where the version's own differ from it."""
        return self._advance(lambda base: self._successor(base, edit, message, fingerprint))

    def replace_all(self, rebuilt: Callable[[Snapshot], Segment], message: str, fingerprint: str) -> Snapshot:
        """A version whose every vector is new, whichever embedder made the old ones."""

        def successor(base: Snapshot) -> Manifest:
            refs = (self._objects.put_segment(rebuilt(base)),)
            return self._manifest(base, refs, message, fingerprint)

        return self._advance(successor)

    def roll_back(self, version: str) -> Snapshot:
        """A new version with the contents of an old one, so that history only grows and a roll back can
        itself be rolled back."""
        old = self.manifest(version)
        message = f"roll back to version {old.number} ({version})"
        again = replace(old, message=message, fit=self._fit(self._assemble(old)))
        return self._advance(lambda base: self._succeed(base, again))

    def history(self, most: int) -> Iterator[tuple[str, Manifest]]:
        """Versions from HEAD back to the first, with their ids."""
        head = self.poll_head()
        version: str | None = head[0] if head else EMPTY
        while version and most > 0:
            manifest = self.manifest(version)
            yield version, manifest
            version, most = manifest.parent, most - 1

    def _advance(self, successor: Callable[[Snapshot], Manifest | None]) -> Snapshot:
        deadline = time.monotonic() + PATIENCE_S
        tried: set[str] = set()
        seen = losses = 0
        while True:
            version, etag = self.poll_head() or (EMPTY, "")
            base = self.load(version)
            done = tried.intersection(self._newer(base, seen)) if tried else None
            if done:
                return self.load(done.pop())  # the swap was done after all, only its answer was lost
            seen = base.manifest.number
            manifest = successor(base)
            if manifest is None:
                return base
            id = self._objects.put_manifest(manifest)
            tried.add(id)
            try:
                self._store.swap(HEAD, orjson.dumps({"version": id}), etag or None)
            except Conflict:
                if time.monotonic() > deadline:
                    raise StoreUnavailable(
                        f"other writers kept moving HEAD for {PATIENCE_S:.0f} s; try again"
                    ) from None
                losses += 1
                time.sleep(_pause(losses))
                continue
            return self.load(id)

    def _newer(self, base: Snapshot, number: int) -> Iterator[str]:
        """This version and those before it, back to the one with that number."""
        version, manifest = base.version, base.manifest
        while manifest.number > number:
            yield version
            if manifest.parent is None:
                return
            version, manifest = manifest.parent, self.manifest(manifest.parent)

    def _successor(self, base: Snapshot, edit: Edit, message: str, fingerprint: str | None) -> Manifest | None:
        require_embedder(base.manifest, fingerprint)
        change = edit(base)
        if change.empty:
            return None
        refs = _drop(base, change.dropped)
        if change.added is not None and len(change.added):
            refs = (*refs, self._objects.put_segment(change.added))
        return self._manifest(base, self._compacted(refs), message, base.manifest.fingerprint or fingerprint or "")

    def _manifest(self, base: Snapshot, refs: tuple[SegmentRef, ...], message: str, fingerprint: str) -> Manifest:
        plain = self._succeed(base, Manifest(0, None, "", message, fingerprint, refs))
        snapshot = self._assemble(plain)
        params, peers = tune(snapshot)
        tuned = replace(plain, params=params, peers=self._objects.put_peers(peers) if len(peers.rows) else None)
        return replace(tuned, fit=self._fit(replace(snapshot, manifest=tuned, peers=peers)))

    def _fit(self, snapshot: Snapshot) -> Fit | None:
        candidates = self._candidates()
        return draw_up(snapshot, candidates).fit if candidates else None

    def _succeed(self, base: Snapshot, manifest: Manifest) -> Manifest:
        return replace(
            manifest,
            number=base.manifest.number + 1,
            parent=base.version or None,
            created_at=self._clock().isoformat(timespec="milliseconds"),
        )

    def _assemble(self, manifest: Manifest, version: str = EMPTY) -> Snapshot:
        parts = [self._objects.segment(ref.id) for ref in manifest.segments]
        peers = self._objects.peers(manifest.peers, manifest.examples) if manifest.peers else None
        return assemble(version, manifest, parts, self._dimensions, peers)

    def _compacted(self, refs: tuple[SegmentRef, ...]) -> tuple[SegmentRef, ...]:
        if len(refs) <= MOST_SEGMENTS:
            return refs
        small = [ref for ref in refs if ref.rows < SMALL_ROWS]
        if len(small) < 2:
            return refs
        merged = self._assemble(replace(_NOTHING, segments=tuple(small))).examples
        return (*(ref for ref in refs if ref.rows >= SMALL_ROWS), self._objects.put_segment(merged))


def _pause(losses: int) -> float:
    """Seconds before the next try; at random, and the longer the more writers there seem to be."""
    return random.uniform(0, min(LONGEST_PAUSE_S, 0.02 * 2**losses))  # noqa: S311 - no secret


def require_embedder(manifest: Manifest, fingerprint: str | None) -> None:
    """Raises EmbedderMismatch where another embedder made the version's vectors."""
    if fingerprint and manifest.fingerprint not in ("", fingerprint):
        raise EmbedderMismatch(manifest.fingerprint, fingerprint)


def compare(old: Snapshot, new: Snapshot) -> Difference:
    both = [id for id in new.rows if id in old.rows]
    changed = [id for id in both if old.examples.example(old.rows[id]) != new.examples.example(new.rows[id])]
    return Difference(
        tuple(id for id in new.rows if id not in old.rows),
        tuple(id for id in old.rows if id not in new.rows),
        tuple(changed),
    )


def _drop(base: Snapshot, dropped: tuple[int, ...]) -> tuple[SegmentRef, ...]:
    """The version's segments less these rows of its snapshot; a segment with no row left goes."""
    gone: list[set[int]] = [set(ref.dropped) for ref in base.manifest.segments]
    for row in dropped:
        number, position = base.origins[row]
        gone[number].add(position)
    refs = (replace(ref, dropped=tuple(sorted(rows))) for ref, rows in zip(base.manifest.segments, gone, strict=True))
    return tuple(ref for ref in refs if len(ref.dropped) < ref.rows)
