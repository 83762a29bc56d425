"""The measured half of the starter index: what its file holds, and that it leaves the routing of our own prompts be."""

import io
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from index import starter
from index.ballot import draw_up
from index.directory_store import DirectoryStore
from index.embedder import Embedder
from index.errors import Damaged
from index.segment import Segment
from index.structure import NAMES, RECIPE
from index.types import TIERS
from index.versions import Repository
from tests.bench import measured as drawing
from tests.bench.measured import Measured
from tests.bench.starter_effect import DIAL, LARGE, MEDIUM, SMALL, Own, ballot_of, routed, simulated_fleet
from tests.tiny import unit

NAN = float("nan")
SOURCES = {
    "mmlu": "MMLU (RouteLLM's published responses)",
    "gsm8k": "GSM8K (RouteLLM's published responses; ZeroEval)",
    "crux": "CRUXEval (ZeroEval)",
    "math-l5": "MATH level 5 (ZeroEval)",
}


@pytest.fixture(scope="session")
def measured(embedder: Embedder) -> Segment:
    found = starter.measured(embedder.fingerprint)
    assert found is not None, "the embedder has changed: run python -m tests.bench.measured DATA"
    return found


def test_they_are_a_compact_half_without_text(measured: Segment) -> None:
    assert 300 <= len(measured) <= len(starter.own())
    assert starter.MEASURED.stat().st_size <= 400_000
    assert set(measured.prompts) == {""}
    assert len(set(measured.ids)) == len(measured)
    assert set(measured.ids).isdisjoint(example.id for example in starter.own())


def test_each_set_has_as_many_and_each_names_its_source(measured: Segment) -> None:
    count = Counter(map(drawing.set_of, measured.tasks))
    assert count == dict.fromkeys(SOURCES, len(measured) // 4)
    sources = {*SOURCES.values(), "GSM8K (ZeroEval)"}  # of GSM8K, RouteLLM published a few questions less
    assert set(measured.sources) <= sources
    mmlu = Counter(task for task in measured.tasks if task.startswith("mmlu:"))
    assert len(mmlu) == 57
    assert max(mmlu.values()) - min(mmlu.values()) <= 1


def test_each_is_measured_for_small_and_large_and_beyond_mmlu_for_medium(measured: Segment) -> None:
    by_tier = dict(zip(measured.models, measured.scores.T, strict=True))
    assert by_tier.keys() == set(TIERS)
    of_mmlu = np.array([task.startswith("mmlu:") for task in measured.tasks])
    assert not np.isnan(by_tier["small"]).any()
    assert not np.isnan(by_tier["large"]).any()
    np.testing.assert_array_equal(np.isnan(by_tier["medium"]), of_mmlu)
    assert by_tier["small"].mean() < by_tier["large"].mean()


def test_their_structure_is_known(measured: Segment) -> None:
    assert measured.structure.shape == (len(measured), len(NAMES))
    assert not np.isnan(measured.structure).any()


def test_the_file_says_whose_outcomes_they_are() -> None:
    with np.load(starter.MEASURED, allow_pickle=False) as arrays:
        about = arrays["about"].tobytes().decode()
    for said in ("RouteLLM", "ZeroEval", "Apache-2.0"):
        assert said in about


def small_segment() -> Segment:
    return Segment(
        ("a", "b"),
        ("", ""),
        ("sums", "law"),
        (None, None),
        ("large", "small"),
        np.array([[1, NAN], [0.75, 0.25]], np.float32),
        np.array([unit(3, 4), unit(0, 1)]),
        np.arange(2 * len(NAMES)).reshape(2, -1).astype(np.float32),
        ("Set A", "Set B"),
    )


def test_what_is_packed_comes_back_to_the_precision_of_float16() -> None:
    packed = starter.pack(small_segment(), "f", "by whom")
    found = starter.unpack(packed, "f")
    assert found is not None
    assert [found.example(row) for row in range(2)] == [small_segment().example(row) for row in range(2)]
    np.testing.assert_allclose(found.vectors, small_segment().vectors, atol=5e-4)
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(found.structure, small_segment().structure)
    assert found.vectors.dtype == found.scores.dtype == found.structure.dtype == np.float32
    assert packed == starter.pack(small_segment(), "f", "by whom")


def test_texts_are_not_packed() -> None:
    packed = starter.pack(replace(small_segment(), prompts=("secret", "words")), "f", "by whom")
    found = starter.unpack(packed, "f")
    assert found is not None
    assert found.prompts == ("", "")


def test_vectors_of_another_embedder_are_none() -> None:
    assert starter.unpack(starter.pack(small_segment(), "f", "by whom"), "another") is None


def test_structure_of_another_recipe_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = starter.pack(small_segment(), "f", "by whom")
    monkeypatch.setattr(starter, "RECIPE", f"{RECIPE}, changed")
    found = starter.unpack(packed, "f")
    assert found is not None
    assert np.isnan(found.structure).all()


def test_what_is_no_such_file_is_damaged() -> None:
    single = io.BytesIO()
    np.save(single, np.zeros(3))
    for data in (b"", b"garbage", single.getvalue(), starter.pack(small_segment(), "f", "")[:-30]):
        with pytest.raises(Damaged):
            starter.unpack(data, "f")


EXAM = Measured(
    tuple(f"Question {number}?" for number in range(9)),
    ("law", "law", "law", "law", "mmlu:art", "mmlu:art", "mmlu:art", "mmlu:music", "sums"),
    ("Law",) * 4 + ("MMLU",) * 4 + ("Sums",),
    np.array([[0.25, NAN, 1]] * 9, np.float32),
)


def test_a_sample_takes_turns_between_sets_and_within_a_set_between_tasks() -> None:
    def tasks(count: int) -> list[str]:
        return [EXAM.tasks[row] for row in drawing.sample(EXAM, np.arange(9), count, seed=1)]

    assert sorted(tasks(5)) == ["law", "law", "mmlu:art", "mmlu:music", "sums"]
    assert sorted(tasks(9)) == sorted(EXAM.tasks)
    assert sorted(tasks(100)) == sorted(EXAM.tasks)


def test_the_same_seed_draws_the_same() -> None:
    first, again, other = (drawing.sample(EXAM, np.arange(9), 5, seed).tolist() for seed in (1, 1, 2))
    assert first == again != other


def test_a_drawn_example_has_outcomes_and_structure_but_no_text() -> None:
    drawn = drawing.segment(EXAM, np.array([8]), np.array([unit(1, 0)]))
    assert drawn.ids == ("sums-b0174cfd",)
    assert dict(drawn.example(0).scores) == {"small": 0.25, "large": 1.0}
    assert (drawn.prompts, drawn.tasks, drawn.sources) == (("",), ("sums",), ("Sums",))
    assert drawn.structure[0, NAMES.index("questions")] == pytest.approx(np.log(2))


def test_a_tier_is_the_mean_of_its_models_that_were_run_on_the_prompt_in_any_file(tmp_path: Path) -> None:
    (tmp_path / "mmlu-2models.csv.gz").write_text("prompt,task,mixtral-8x7b-instruct\nWhich muse?,mmlu:art,0\n")
    (tmp_path / "gsm8k-2models.csv.gz").write_text(
        "prompt,task,mixtral-8x7b-instruct,gpt-4-1106-preview\nAdd  1.,gsm8k,1,1\n"
    )
    (tmp_path / "zeroeval-28models.csv.gz").write_text(
        "prompt,task,gemma-2-9b-it,Mistral-Large-2,o1-mini-2024-09-12,Qwen2-7B-Instruct\nAdd 1.,gsm,0,1,0,1\n"
        "f(1),crux,1,0,1,1\n"
    )
    found = drawing.read(tmp_path)
    assert found.prompts == ("Which muse?", "Add  1.", "f(1)")
    assert found.tasks == ("mmlu:art", "gsm8k", "crux")
    assert found.sources == (SOURCES["mmlu"], SOURCES["gsm8k"], SOURCES["crux"])
    np.testing.assert_array_equal(found.scores, np.array([[0, NAN, NAN], [0.5, 1, 0.5], [1, 0, 1]], np.float32))


@pytest.fixture(scope="module")
def halves(starter_home: Path) -> tuple[Own, Own]:
    """Our own examples as they are routed without the measured ones, and with them."""
    snapshot = Repository(DirectoryStore(starter_home)).current()
    own = len(starter.own())
    alone = ballot_of([snapshot.examples.take(np.arange(own))], snapshot.manifest.fingerprint)
    return routed(alone, own), routed(draw_up(snapshot, simulated_fleet()), own)


def test_our_own_are_told_apart_as_well_as_without_them(halves: tuple[Own, Own]) -> None:
    without, beside = halves
    assert beside.auc(SMALL) >= max(without.auc(SMALL) - 0.01, 0.92)
    assert beside.auc(MEDIUM) >= max(without.auc(MEDIUM) - 0.01, 0.96)


def test_at_the_default_dial_most_of_our_own_are_routed_as_without_them(halves: tuple[Own, Own]) -> None:
    without, beside = halves
    assert np.mean(beside.chosen != without.chosen) <= 0.25
    assert beside.right >= without.right - 0.02
    assert beside.spend <= 1.25 * without.spend


def test_measured_neighbours_name_their_source_in_the_evidence(starter_home: Path) -> None:
    ballot = draw_up(Repository(DirectoryStore(starter_home)).current(), simulated_fleet())
    examples = ballot.snapshot.examples
    own = len(starter.own())
    for row in (0, own):
        (itself,) = ballot.neighbours(ballot.poll(examples.vectors[row], examples.structure[row]), 1)
        assert (itself.id, itself.prompt, itself.source) == (
            (examples.ids[row], examples.prompts[row], examples.sources[row])
        )
        assert itself.source.startswith(starter.OWN_SOURCE if row < own else "CRUXEval (")


def test_exam_questions_are_not_promised_what_only_small_talk_gets(starter_home: Path) -> None:
    """Each is left out in turn: the others know that even a large model fails many of them."""
    snapshot = Repository(DirectoryStore(starter_home)).current()
    every = routed(draw_up(snapshot, simulated_fleet()), len(snapshot))
    exam = slice(len(starter.own()), None)
    errors = [np.mean((every.quality[exam, tier] - every.outcomes[exam, tier]) ** 2) for tier in (SMALL, LARGE)]
    assert max(errors) <= 0.18
    assert DIAL == 7
