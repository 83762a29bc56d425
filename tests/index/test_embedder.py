import json
import shutil
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from index.embedder import DIMENSIONS, MODEL_FILES, Embedder
from index.errors import ModelFilesMissing
from index.types import Floats

RESET = "How do I reset my password?"
FORGOT = "I forgot my login credentials, help"
MITOCHONDRIA = "The mitochondria is the powerhouse of the cell"
TOLERANCE = 0.02
"""What the int8 kernels of other processors may differ by. Mean pooling gives .301 where .380 is pinned."""
PINNED = ((RESET, FORGOT, 0.846), (RESET, MITOCHONDRIA, 0.380), (FORGOT, MITOCHONDRIA, 0.377))

MOST_TOKENS = 32
ODD = [
    *("", " ", "\n\t\u3000", "\0", "\ud800", "a\udfffb", "🙂", "👩‍👩‍👧‍👦" * 300, "\u0301" * 1000),
    *("日本語のテキスト" * 500, "가" * 900, "한글 " * 700, "½①ﬁ" * 400, "ﷺ" * 500),
    *("x" * 1_000_000, " " * 1_000_000, "-" * 1_000_000, "🙂" * 100_000),
]


class Counting:
    """The model, and the texts that it was given."""

    def __init__(self, embedder: Embedder) -> None:
        self._model = embedder._model
        self.texts: list[str] = []

    def embed(self, texts: Sequence[str], batch_size: int) -> Iterator[Floats]:
        self.texts.extend(texts)
        for vector in self._model.embed(texts, batch_size=batch_size):
            yield vector.astype(np.float32)


@pytest.fixture
def counting(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> Counting:
    counting = Counting(embedder)
    monkeypatch.setattr(embedder, "_model", counting)
    return counting


@pytest.fixture(scope="session")
def tokenizer(model_dir: Path) -> Tokenizer:
    tokenizer: Tokenizer = Tokenizer.from_file(str(model_dir / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def token_count(tokenizer: Tokenizer, text: str) -> int:
    return len(tokenizer.encode(text, add_special_tokens=False).ids)


def last_hidden_state(model_dir: Path, tokenizer: Tokenizer, text: str) -> Floats:
    """float32 [tokens, 384]: what the ONNX file says, without fastembed."""
    session = onnxruntime.InferenceSession(str(model_dir / "model_optimized.onnx"))
    ids = np.array([tokenizer.encode(text).ids], np.int64)
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    output: Floats = session.run(None, inputs)[0][0]
    return output


def words(count: int) -> str:
    """So many words, each one token and each different from its neighbours."""
    names = ("red", "green", "blue", "house", "river", "stone", "table")
    return " ".join(names[position % len(names)] for position in range(count))


@pytest.mark.parametrize(("one", "other", "cosine"), PINNED)
def test_cosines_are_those_of_the_pinned_model(embedder: Embedder, one: str, other: str, cosine: float) -> None:
    assert float(embedder.embed(one) @ embedder.embed(other)) == pytest.approx(cosine, abs=TOLERANCE)


def test_a_vector_is_the_first_token_s_at_unit_length(
    embedder: Embedder, model_dir: Path, tokenizer: Tokenizer
) -> None:
    output = last_hidden_state(model_dir, tokenizer, RESET)
    np.testing.assert_allclose(embedder.embed(RESET), output[0] / np.linalg.norm(output[0]), atol=1e-3)


def test_mean_pooling_would_miss_a_pinned_cosine(model_dir: Path, tokenizer: Tokenizer) -> None:
    mean = [last_hidden_state(model_dir, tokenizer, text).mean(axis=0) for text in (RESET, MITOCHONDRIA)]
    cosine = float(mean[0] @ mean[1] / np.linalg.norm(mean[0]) / np.linalg.norm(mean[1]))
    assert abs(cosine - 0.380) > 2 * TOLERANCE


@pytest.mark.parametrize("text", ["", RESET, MITOCHONDRIA * 50])
def test_a_vector_is_float32_of_unit_length(embedder: Embedder, text: str) -> None:
    vector = embedder.embed(text)
    assert (vector.shape, vector.dtype.name) == ((DIMENSIONS,), "float32")
    assert float(np.linalg.norm(vector)) == pytest.approx(1, abs=1e-5)


def test_a_text_has_one_vector_whoever_shares_its_upload(embedder: Embedder, model_dir: Path) -> None:
    texts = [RESET, words(200), FORGOT, MITOCHONDRIA, "ok"]
    other = Embedder(model_dir)  # which remembers nothing of the first
    together = embedder.embed_many(texts, workers=2)
    assert together.shape == (5, DIMENSIONS)
    np.testing.assert_array_equal(together, [other.embed(text) for text in reversed(texts)][::-1])


def test_progress_is_told_in_order_on_the_calling_thread(embedder: Embedder) -> None:
    told: list[tuple[int, int]] = []
    embedder.embed_many(["a", "b", "c"], 2, lambda done: told.append((done, threading.get_ident())))
    assert told == [(done, threading.get_ident()) for done in (1, 2, 3)]


def test_no_texts_are_no_vectors(embedder: Embedder) -> None:
    assert embedder.embed_many([], workers=2).shape == (0, DIMENSIONS)


def test_identical_text_is_not_embedded_twice_in_a_row(embedder: Embedder, counting: Counting) -> None:
    first = embedder.embed("embedded once only")
    np.testing.assert_array_equal(embedder.embed("  embedded once\nonly "), first)
    assert counting.texts == ["embedded once only"]


def test_a_remembered_vector_cannot_be_changed(embedder: Embedder) -> None:
    with pytest.raises(ValueError, match="read-only"):
        embedder.embed("remembered")[0] = 1


def test_only_the_last_few_vectors_are_remembered(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = Embedder(model_dir, remembered=2)
    counting = Counting(embedder)
    monkeypatch.setattr(embedder, "_model", counting)
    for text in ("a", "b", "a", "c", "a", "b"):
        embedder.embed(text)
    assert counting.texts == ["a", "b", "c", "b"]


def test_many_threads_get_the_vectors_of_their_own_texts(embedder: Embedder) -> None:
    texts = [f"thread {number} asks about {topic}" for number in range(4) for topic in ("cats", "tax")]
    with ThreadPoolExecutor(8) as pool:
        vectors = list(pool.map(embedder.embed, texts * 3))
    np.testing.assert_array_equal(vectors, [embedder.embed(text) for text in texts * 3])


@pytest.mark.parametrize("text", ["", "Hi!", RESET, words(32), "def f(x):\n", "日本語"])
def test_a_short_text_is_embedded_whole(embedder: Embedder, text: str) -> None:
    assert embedder.cut(text) == text.strip()


def test_blanks_are_folded_however_many_there_are(embedder: Embedder) -> None:
    for blanks in (1, 900, 5_000, 100_000):
        assert embedder.cut(" " * blanks + "one" + "\n" * min(blanks, 4000) + "two" + "\t" * blanks) == "one two"


def test_a_long_text_keeps_its_head_and_its_tail(embedder: Embedder) -> None:
    head, tail = words(16), words(19).split(" ", 3)[3]
    for middle in (1, 40, 100, 1_000, 100_000):
        assert embedder.cut(f"{head} {'filler ' * middle}{tail}") == f"{head} {tail}"


def test_one_word_more_than_fits_loses_the_middle_word_only(embedder: Embedder) -> None:
    sentence = words(33).split(" ")
    assert embedder.cut(" ".join(sentence)) == " ".join(sentence[:16] + sentence[17:])


def test_instructions_first_and_the_question_last_both_count(embedder: Embedder) -> None:
    document = "The committee met on Tuesday and adjourned without a vote. " * 400
    summarise = embedder.embed(f"Summarise this report. {document}")
    translate = embedder.embed(f"Translate this report into French. {document}")
    asked = embedder.embed(f"Summarise this report. {document}\nWho was the chair?")
    assert float(summarise @ translate) < 0.98
    assert float(summarise @ asked) < 0.98


@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
def test_odd_input_has_a_vector_too(embedder: Embedder, tokenizer: Tokenizer, text: str) -> None:
    short = embedder.cut(text)
    assert token_count(tokenizer, short) <= MOST_TOKENS
    assert bool(short) == bool(text.strip())
    assert float(np.linalg.norm(embedder.embed(text))) == pytest.approx(1, abs=1e-5)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.text(st.characters(), min_size=1), max_size=8).map("".join),
    st.sampled_from([1, 1, 1, 7, 60, 900]),
    st.sampled_from(["", " ", "\n\n    "]),
)
@example("00000000000000ꀀ", 60, " ")  # unknown words are one token each, however long
def test_any_text_is_cut_to_at_most_32_tokens_and_keeps_something(
    embedder: Embedder, tokenizer: Tokenizer, text: str, times: int, between: str
) -> None:
    long = between.join([text] * times)
    short = embedder.cut(long)
    assert token_count(tokenizer, short) <= MOST_TOKENS
    assert bool(short) == bool(long.strip())
    assert embedder.cut(short) == short


@settings(max_examples=40, deadline=None)
@given(st.text(st.characters(), max_size=300))
def test_any_text_has_a_unit_vector(embedder: Embedder, text: str) -> None:
    assert float(np.linalg.norm(embedder.embed(text))) == pytest.approx(1, abs=1e-5)


def copied(model_dir: Path, to: Path) -> Path:
    return Path(shutil.copytree(model_dir, to))


def test_the_fingerprint_is_that_of_the_files_wherever_they_lie(
    embedder: Embedder, model_dir: Path, tmp_path: Path
) -> None:
    assert Embedder(copied(model_dir, tmp_path / "copy")).fingerprint == embedder.fingerprint
    assert len(embedder.fingerprint) == 16
    assert int(embedder.fingerprint, 16) >= 0


def test_another_tokenizer_has_another_fingerprint(embedder: Embedder, model_dir: Path, tmp_path: Path) -> None:
    file = copied(model_dir, tmp_path / "copy") / "tokenizer.json"
    settings = json.loads(file.read_text())
    settings["normalizer"]["lowercase"] = not settings["normalizer"]["lowercase"]
    file.write_text(json.dumps(settings))
    assert Embedder(file.parent).fingerprint != embedder.fingerprint


def test_another_model_has_another_fingerprint(embedder: Embedder, model_dir: Path, tmp_path: Path) -> None:
    file = copied(model_dir, tmp_path / "copy") / "model_optimized.onnx"
    with file.open("ab") as appended:
        appended.write(b"\xc0\x3e\x01")  # a protobuf field (1000) that no reader knows
    assert Embedder(file.parent).fingerprint != embedder.fingerprint


def test_missing_files_are_named_with_what_brings_them(model_dir: Path, tmp_path: Path) -> None:
    folder = copied(model_dir, tmp_path / "copy")
    (folder / "tokenizer.json").unlink()
    (folder / "config.json").unlink()
    with pytest.raises(ModelFilesMissing) as caught:
        Embedder(folder)
    assert str(caught.value) == (
        f"{folder} lacks tokenizer.json, config.json; `nearvote model fetch` brings the embedding model"
    )


def test_a_folder_that_is_not_there_lacks_every_file(tmp_path: Path) -> None:
    with pytest.raises(ModelFilesMissing, match=", ".join(MODEL_FILES)):
        Embedder(tmp_path / "nowhere")
