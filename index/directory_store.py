"""Objects as files below one directory; safe between threads and processes of one machine."""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile

from index.errors import Conflict, StoreUnavailable
from index.store import Stored, check_key, check_prefix, is_key

LOCK = ".lock"
"""One in each folder; hidden, as temporary files are, so it is no key."""


class DirectoryStore:
    """An etag is the sha256 of the content, so a file that a user's editor wrote has one too."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def get(self, key: str, unless: str | None = None) -> Stored | None:
        path = self._path(key)
        with _translated("read", path):
            stored = _read(path)
        return Stored(b"", unless) if stored is not None and stored.etag == unless else stored

    def put(self, key: str, data: bytes) -> None:
        path = self._path(key)
        with _translated("write", path), _locked(path.parent):
            _replace(path, data)

    def swap(self, key: str, data: bytes, expected: str | None) -> str:
        path = self._path(key)
        with _translated("write", path), _locked(path.parent):
            stored = _read(path)
            if (stored and stored.etag) != expected:
                raise Conflict(f"another writer changed {key} first")
            _replace(path, data)
        return _etag(data)

    def delete(self, key: str) -> None:
        path = self._path(key)
        with _translated("delete", path):
            if path.is_file():
                with _locked(path.parent):
                    path.unlink(missing_ok=True)

    def keys(self, prefix: str) -> Iterator[str]:
        folder = self._root / check_prefix(prefix).rpartition("/")[0]
        with _translated("list", folder):
            found = [path.relative_to(self._root).as_posix() for path in _files(folder)]
        return iter(sorted(key for key in found if key.startswith(prefix) and is_key(key)))

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)


def _etag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _read(path: Path) -> Stored | None:
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    return Stored(data, _etag(data))


def _replace(path: Path, data: bytes) -> None:
    """All or nothing, also when the power fails: the bytes reach the disk before the name does."""
    with NamedTemporaryFile(dir=path.parent, prefix=".", suffix=".tmp", delete=False) as file:
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
    _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder, onerror=_unless_missing):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(parent, name) for name in names)


def _unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One writer a folder; the system lets go of the lock of a process that dies."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _translated(operation: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(f"cannot {operation} {path}: {error.strerror or type(error).__name__}") from error
