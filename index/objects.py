"""Segments and manifests in the store: immutable, and named by the hash of their bytes.

index/versions/ID.json   a manifest
index/segments/ID.npz    a segment
index/peers/ID.npz       the nearest others of a version's examples
"""

import hashlib
import threading
from collections import OrderedDict

from index import manifest as manifests
from index import peers
from index import segment as segments
from index.errors import Damaged, UnknownVersion
from index.manifest import Manifest, SegmentRef
from index.segment import Segment
from index.store import ObjectStore
from index.types import Peers

CACHED_SEGMENTS = 64


class Objects:
    """Reading raises Damaged for an object that is missing where it must be, or not what its name says."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._segments = _Cache(CACHED_SEGMENTS)

    def put_manifest(self, manifest: Manifest) -> str:
        """The new version's id."""
        data = manifests.to_bytes(manifest)
        id = _name(data)
        self._store.put(f"index/versions/{id}.json", data)
        return id

    def manifest(self, version: str) -> Manifest:
        """Raises UnknownVersion."""
        stored = self._store.get(f"index/versions/{version}.json") if version.isalnum() else None
        if stored is None:
            raise UnknownVersion(version)
        if _name(stored.data) != version:
            raise Damaged(f"version {version} is not what its name says")
        return manifests.from_bytes(stored.data, version)

    def put_segment(self, segment: Segment) -> SegmentRef:
        data = segments.to_bytes(segment)
        id = _name(data)
        if self._segments.get(id) is None:  # else it was put before a race that was lost
            self._store.put(f"index/segments/{id}.npz", data)
            self._segments.put(id, segment)
        return SegmentRef(id, len(segment))

    def segment(self, id: str) -> Segment:
        cached = self._segments.get(id)
        if cached is not None:
            return cached
        stored = self._store.get(f"index/segments/{id}.npz")
        if stored is None or _name(stored.data) != id:
            raise Damaged(f"segment {id} is {'missing' if stored is None else 'not what its name says'}")
        segment = segments.from_bytes(stored.data)
        self._segments.put(id, segment)
        return segment

    def put_peers(self, found: Peers) -> str:
        data = peers.to_bytes(found)
        id = _name(data)
        self._store.put(f"index/peers/{id}.npz", data)
        return id

    def peers(self, id: str, examples: int) -> Peers:
        stored = self._store.get(f"index/peers/{id}.npz")
        if stored is None or _name(stored.data) != id:
            raise Damaged(f"peers {id} are {'missing' if stored is None else 'not what their name says'}")
        return peers.from_bytes(stored.data, examples)


def _name(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


class _Cache:
    """The last few segments by id; they never change."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._held: OrderedDict[str, Segment] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, id: str) -> Segment | None:
        with self._lock:
            return self._held.get(id)

    def put(self, id: str, segment: Segment) -> None:
        with self._lock:
            self._held[id] = segment
            if len(self._held) > self._size:
                self._held.popitem(last=False)
