"""Where objects lie: a directory or S3, behind one small interface with compare-and-swap."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Stored:
    """An object's bytes and the tag that names this state of it."""

    data: bytes
    etag: str


class ObjectStore(Protocol):
    """Keys are relative, '/'-separated. Every method raises StoreUnavailable where the store fails."""

    def get(self, key: str, unless: str | None = None) -> Stored | None:
        """The object, or None when it does not exist. With `unless`, the caller's etag: when the object
        still has that etag, a Stored with empty data and that same etag comes back (a cheap poll)."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Write the whole object or nothing; a reader never sees a part."""
        ...

    def swap(self, key: str, data: bytes, expected: str | None) -> str:
        """Write only if the object's etag is still `expected` (None: only if it does not exist).
        Returns the new etag; raises Conflict when another writer was first."""
        ...

    def delete(self, key: str) -> None:
        """Remove the object; one that does not exist is no fault."""
        ...

    def keys(self, prefix: str) -> Iterator[str]:
        """The keys that start with `prefix`, in order."""
        ...


def open_store(url: str) -> ObjectStore:
    """The store at `s3://bucket/prefix` or in a directory. boto3 finds region, credentials and endpoint
    (AWS_ENDPOINT_URL) as it always does, and is imported for S3 only."""
    scheme, separator, place = url.partition("://")
    if not separator:
        from index.directory_store import DirectoryStore

        return DirectoryStore(Path(url).expanduser())
    bucket, _, prefix = place.partition("/")
    if scheme != "s3" or not bucket:
        raise ValueError("a store is s3://bucket, s3://bucket/prefix or the path of a directory")
    from index.s3_store import S3Store, s3_client

    return S3Store(s3_client(), bucket, prefix)


def is_key(text: str) -> bool:
    """Whether `text` can name an object: printable, no part empty or hidden (so neither `..` nor '/x')."""
    return text.isprintable() and all(part and not part.startswith(".") for part in text.split("/"))


def check_key(key: str) -> str:
    """The key itself; raises ValueError when it cannot name an object."""
    if not is_key(key):
        raise ValueError(f"not a key of an object: {key!r}")
    return key


def check_prefix(prefix: str) -> str:
    """The prefix itself; raises ValueError when no key can start with it."""
    if prefix and not is_key(f"{prefix}x"):
        raise ValueError(f"not the start of a key: {prefix!r}")
    return prefix
