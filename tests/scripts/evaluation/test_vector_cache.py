"""Prompts are embedded once."""

from pathlib import Path

import numpy as np
import pytest

from handler.control.embedding import LazyEmbedder, Progress, unwatched
from index.types import Floats
from scripts.evaluation.vectors import cache_folder, embed


class Counting(LazyEmbedder):
    """Says of each prompt how long it is, and counts how many it was asked."""

    def __init__(self, fingerprint: str = "f00") -> None:
        super().__init__(Path, 1)
        self.asked = 0
        self.name = fingerprint

    @property
    def fingerprint(self) -> str:
        return self.name

    def embed_many(self, texts: "list[str] | tuple[str, ...]", progress: Progress = unwatched) -> Floats:  # type: ignore[override]
        self.asked += len(texts)
        progress(len(texts), len(texts))
        return np.repeat(np.array([[len(text)] for text in texts], np.float32), 384, axis=1)


def test_the_second_time_vectors_come_from_the_cache(tmp_path: Path) -> None:
    embedder = Counting()
    first = embed(["a", "bb"], embedder, tmp_path)
    again = embed(["a", "bb"], embedder, tmp_path)
    assert (first[:, 0].tolist(), first.shape, embedder.asked) == ([1.0, 2.0], (2, 384), 2)
    np.testing.assert_array_equal(first, again)
    assert [path.suffix for path in tmp_path.iterdir()] == [".npy"]


@pytest.mark.parametrize("prompts", [["bb", "a"], ["a", "b", "b"], ["abb"]])
def test_other_prompts_have_a_file_of_their_own(tmp_path: Path, prompts: list[str]) -> None:
    embed(["a", "bb"], Counting(), tmp_path)
    assert embed(prompts, Counting(), tmp_path)[:, 0].tolist() == [len(prompt) for prompt in prompts]


def test_another_embedder_has_a_file_of_its_own(tmp_path: Path) -> None:
    first, other = Counting("f00"), Counting("bad")
    embed(["a"], first, tmp_path)
    embed(["a"], other, tmp_path)
    assert (first.asked, other.asked) == (1, 1)


@pytest.mark.parametrize("damage", [b"", b"no array", b"\x93NUMPY\x01\x00"])
def test_a_damaged_file_is_made_again(tmp_path: Path, damage: bytes) -> None:
    embed(["a"], Counting(), tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(damage)
    assert embed(["a"], Counting(), tmp_path)[:, 0].tolist() == [1.0]
    assert np.load(file, allow_pickle=False).shape == (1, 384)


def test_the_cache_is_the_users(tmp_path: Path) -> None:
    assert cache_folder({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "nearvote" / "vectors"
    assert cache_folder({"XDG_CACHE_HOME": "relative"}) == Path.home() / ".cache" / "nearvote" / "vectors"
