"""Text → unit vector: fastembed over a local directory with the int8 bge-small."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from index.errors import ModelFilesMissing
from index.types import Floats

if TYPE_CHECKING:
    from tokenizers import Encoding

MODEL_FILE = "model_optimized.onnx"
MODEL_FILES = (MODEL_FILE, "tokenizer.json", "tokenizer_config.json", "config.json")
DIMENSIONS = 384
HEAD_TOKENS = 16
TAIL_TOKENS = 16
RECIPE = f"cls-unit-head{HEAD_TOKENS}-tail{TAIL_TOKENS}-1"
"""How files become a vector. It is part of the fingerprint: change it with whatever changes vectors."""

_SCAN = 4096  # characters looked at on each side, before runs of blanks are folded
_SIDE = 200  # characters tokenized on each side: 16 tokens are some 75 characters of prose, 50 of code


class Embedder:
    """Thread-safe. Each text is embedded alone: dynamic int8 scales depend on all that shares a batch,
    so a batch would give the same text another vector than a request does."""

    def __init__(self, model_dir: Path, threads: int = 1, remembered: int = 512) -> None:
        _require_files(model_dir)
        # Imported here: it costs half a second, which commands that do not embed need not pay.
        from fastembed import TextEmbedding
        from tokenizers import Tokenizer

        self.fingerprint = _fingerprint(model_dir)
        self._model = TextEmbedding("BAAI/bge-small-en-v1.5", specific_model_path=str(model_dir), threads=threads)
        self._tokenizer: Tokenizer = Tokenizer.from_file(str(model_dir / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._recent = _Recent(remembered)

    def embed(self, text: str) -> Floats:
        """float32 [384], unit length. A text's length does not matter: see `cut`."""
        short = self.cut(text)
        vector = self._recent.get(short)
        if vector is None:
            vector = next(iter(self._model.embed([short], batch_size=1))).astype(np.float32, copy=False)
            vector.setflags(write=False)
            self._recent.put(short, vector)
        return vector

    def embed_many(
        self, texts: Sequence[str], workers: int, progress: Callable[[int], None] = lambda _: None
    ) -> Floats:
        """float32 [len(texts), 384]; `progress` is told how many are done, on the calling thread."""
        vectors = np.empty((len(texts), DIMENSIONS), dtype=np.float32)
        with ThreadPoolExecutor(workers, thread_name_prefix="embed") as pool:
            for row, vector in enumerate(pool.map(self.embed, texts)):
                vectors[row] = vector
                progress(row + 1)
        return vectors

    def cut(self, text: str) -> str:
        """The head and tail that are embedded: at most 16 + 16 tokens, at the same cost for any length."""
        text = text.strip()
        if len(text) <= 2 * _SCAN:
            text = _plain(text)
        if len(text) > 2 * _SIDE + 1:  # the blank between them, so that what was cut is not cut again
            return self._ends(_plain(text[:_SCAN])[:_SIDE], _plain(text[-_SCAN:])[-_SIDE:])
        if len(self._encode(text)) > HEAD_TOKENS + TAIL_TOKENS:
            return self._ends(text, text)
        return text

    def _ends(self, first: str, last: str) -> str:
        return f"{self._head(first).strip()} {self._tail(last).strip()}"

    # A word that is cut may become more tokens than it was, and one character may be several: so, until it fits.
    def _head(self, text: str) -> str:
        while len(tokens := self._encode(text)) > HEAD_TOKENS:
            text = text[: min(tokens.offsets[HEAD_TOKENS - 1][1], len(text) - 1)]
        return text

    def _tail(self, text: str) -> str:
        while len(tokens := self._encode(text)) > TAIL_TOKENS:
            text = text[max(tokens.offsets[-TAIL_TOKENS][0], 1) :]
        return text

    def _encode(self, text: str) -> "Encoding":
        return self._tokenizer.encode(text, add_special_tokens=False)


def _plain(text: str) -> str:
    """Blanks folded, as the tokenizer ignores them, and lone surrogates replaced, as it dies of them."""
    return " ".join(text.split()).encode("utf-8", "replace").decode("utf-8")


class _Recent:
    """The last few vectors by text, so that a retried or repeated prompt is not embedded again."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._vectors: OrderedDict[str, Floats] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, text: str) -> Floats | None:
        with self._lock:
            vector = self._vectors.get(text)
            if vector is not None:
                self._vectors.move_to_end(text)
            return vector

    def put(self, text: str, vector: Floats) -> None:
        with self._lock:
            self._vectors[text] = vector
            if len(self._vectors) > self._size:
                self._vectors.popitem(last=False)


def _require_files(model_dir: Path) -> None:
    missing = [name for name in MODEL_FILES if not (model_dir / name).is_file()]
    if missing:
        raise ModelFilesMissing(
            f"{model_dir} lacks {', '.join(missing)}; `nearvote model fetch` brings the embedding model"
        )


def _fingerprint(model_dir: Path) -> str:
    """16 hex digits that differ whenever the vectors would."""
    digest = hashlib.sha256(RECIPE.encode())
    for name in (MODEL_FILE, "tokenizer.json"):
        with (model_dir / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
