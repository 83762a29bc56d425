"""Prompts → vectors, embedded once: they are kept in the user's cache by embedder and prompts."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np

from handler.control.embedding import LazyEmbedder
from index.embedder import DIMENSIONS
from index.types import Floats
from scripts.embedding import embed_with_bar


def embed(prompts: Sequence[str], embedder: LazyEmbedder, folder: Path) -> Floats:
    """float32 [len(prompts), 384], from the cache if it is there."""
    path = folder / f"{embedder.fingerprint}-{_digest(prompts)}.npy"
    kept = _read(path)
    if kept is not None and kept.shape == (len(prompts), DIMENSIONS):
        return kept
    vectors = embed_with_bar(embedder, prompts)
    _write(path, vectors)
    return vectors


def cache_folder(environ: Mapping[str, str]) -> Path:
    stated = Path(environ.get("XDG_CACHE_HOME", ""))
    root = stated if stated.is_absolute() else Path.home() / ".cache"
    return root / "nearvote" / "vectors"


def _digest(prompts: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for prompt in prompts:
        digest.update(hashlib.sha256(prompt.encode("utf-8", "replace")).digest())
    return digest.hexdigest()[:16]


def _read(path: Path) -> Floats | None:
    try:
        vectors: Floats = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):  # not there, or damaged: then it is made again
        return None
    return vectors


def _write(path: Path, vectors: Floats) -> None:
    """The whole file or none of it, for a run that is broken off."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, prefix=".", suffix=".tmp", delete=False) as file:
        try:
            np.save(file, vectors, allow_pickle=False)
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
