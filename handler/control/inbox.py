"""A file dropped under inbox/ → a version of the index; a bad one → rejected/, with a report beside it.

S3 tells of a file at least once, so taking one a second time, or one that is gone, changes nothing.
"""

import enum
from dataclasses import dataclass

import orjson

from handler.control.embedding import LazyEmbedder
from handler.fleet import stored_candidates
from index import edits
from index.edits import Upload
from index.errors import BadUpload
from index.examples import MAX_UPLOAD_BYTES
from index.store import ObjectStore, Stored, is_key
from index.types import Fault
from index.versions import Repository

INBOX = "inbox/"
REJECTED = "rejected/"
REPORT = ".report.json"


class Fate(enum.Enum):
    """What became of a file."""

    TAKEN = "taken"
    KNOWN = "known"
    """The index had all of it already."""
    REJECTED = "rejected"
    TOO_LARGE = "too_large"
    """It is not read, so it stays where it is; a report lies under rejected/."""
    GONE = "gone"
    """It was dealt with before."""
    IGNORED = "ignored"
    """A folder, or a name that no object of ours can have."""


@dataclass(frozen=True, slots=True)
class Handled:
    """What became of one file, without a word of its text."""

    key: str
    fate: Fate
    version: str = ""
    """That has it, where it is in the index."""
    added: int = 0
    faults: int = 0


class Inbox:
    def __init__(self, store: ObjectStore, repository: Repository, embedder: LazyEmbedder) -> None:
        self._store = store
        self._repository = repository
        self._embedder = embedder

    def take(self, key: str, size: int) -> Handled:
        """Blocking. `size`: bytes. Raises NearvoteIndexError or BadFleet for what is not the file's fault: then
        it still lies there, to be taken by the next try."""
        name = key.removeprefix(INBOX)
        if name == key or not is_key(key):
            return Handled(key, Fate.IGNORED)
        if size > MAX_UPLOAD_BYTES:
            reason = f"{size:,} bytes; at most {MAX_UPLOAD_BYTES:,} are read. It still lies under {INBOX}"
            self._report(name, BadUpload([Fault(0, reason)]))
            return Handled(key, Fate.TOO_LARGE, faults=1)
        stored = self._store.get(key)
        if stored is None:
            return Handled(key, Fate.GONE)
        handled = self._add(key, name, stored)
        self._clear(key, stored.etag)
        return handled

    def _add(self, key: str, name: str, stored: Stored) -> Handled:
        upload, candidates = Upload(stored.data, name), stored_candidates(self._store)
        try:
            report = edits.add(
                self._repository,
                upload,
                candidates,
                self._embedder.embed_many,
                self._embedder.fingerprint,
                f"add {key}"[:200],
            )
        except BadUpload as error:
            base = self._repository.current()
            if edits.holds(base, upload, candidates):
                return Handled(key, Fate.KNOWN, base.version)
            self._store.put(f"{REJECTED}{name}", stored.data)
            self._report(name, error)
            return Handled(key, Fate.REJECTED, faults=len(error.faults))
        return Handled(key, Fate.TAKEN, report.snapshot.version, report.added)

    def _report(self, name: str, error: BadUpload) -> None:
        report = {"file": name, "message": str(error), "faults": [fault.as_json() for fault in error.faults]}
        self._store.put(f"{REJECTED}{name}{REPORT}", orjson.dumps(report, option=orjson.OPT_INDENT_2))

    def _clear(self, key: str, etag: str) -> None:
        """Unless another file took its place meanwhile, of which S3 will tell."""
        now = self._store.get(key, etag)
        if now is not None and now.etag == etag:
            self._store.delete(key)
