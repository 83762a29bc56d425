import io
from collections.abc import Callable

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.errors import Damaged
from index.segment import Segment, from_bytes, from_examples, merge, to_bytes
from index.structure import NAMES, RECIPE, describe, describe_all
from index.types import Example, Label, LabelKind
from tests.tiny import unit

CHEAP = Example("a", "Rename x\nto y", {"small": 1, "large": 1}, Label(LabelKind.CHEAPEST, "small"), "code edit")
OWNED = Example("b", "Übersetze 🙂", {}, Label(LabelKind.ONLY, "large"))
SCORED = Example("c", "salute", {"large": 0.25, "medium": 0})
VECTORS = np.array([unit(1, 0, 0), unit(0, 1, 0), unit(1, 2, 2)])
NAN = float("nan")


def three() -> Segment:
    return from_examples([CHEAP, OWNED, SCORED], VECTORS)


def assert_same(one: Segment, other: Segment) -> None:
    assert (one.ids, one.prompts, one.tasks, one.labels, one.models) == (
        (other.ids, other.prompts, other.tasks, other.labels, other.models)
    )
    np.testing.assert_array_equal(one.scores, other.scores)
    np.testing.assert_array_equal(one.vectors, other.vectors)
    np.testing.assert_array_equal(one.structure, other.structure)
    dtypes = {values.dtype.name for part in (one, other) for values in (part.scores, part.vectors, part.structure)}
    assert dtypes == {"float32"}


_savez: Callable[..., None] = np.savez


def archive(recipe: str | None = None, **changes: object) -> bytes:
    """A segment's file with some of its columns or arrays changed; None takes one out. Without a `recipe` it is of
    the format that had no structure."""
    table: dict[str, object] = {
        "format": 2 if recipe else 1,
        "ids": ["a", "b"],
        "prompts": ["one", "two"],
        "tasks": ["", ""],
        "labels": [None, ["only", "small"]],
        "models": ["small"],
    }
    arrays: dict[str, object] = {"scores": np.zeros((2, 1), np.float32), "vectors": np.zeros((2, 3), np.float32)}
    for name, value in changes.items():
        (table if name in table else arrays)[name] = value
    table = {name: value for name, value in {**table, "structure": recipe}.items() if value is not None}
    arrays = {"table": np.frombuffer(orjson.dumps(table), np.uint8)} | arrays
    file = io.BytesIO()
    _savez(file, **{name: np.asarray(array) for name, array in arrays.items() if array is not None})
    return file.getvalue()


def test_examples_become_columns_over_all_their_models() -> None:
    segment = three()
    assert len(segment) == 3
    assert segment.models == ("large", "medium", "small")
    np.testing.assert_array_equal(segment.scores, np.array([[1, NAN, 1], [NAN] * 3, [0.25, 0, NAN]], np.float32))


def test_columns_give_the_examples_back() -> None:
    assert [three().example(row) for row in range(3)] == [CHEAP, OWNED, SCORED]


def test_a_score_comes_back_as_it_was_written() -> None:
    segment = from_examples([Example("a", "p", {"small": 0.1})], VECTORS[:1])
    assert segment.example(0).scores == {"small": 0.1}


def test_bytes_give_the_segment_back() -> None:
    assert_same(from_bytes(to_bytes(three())), three())


def test_an_empty_segment_comes_back_too() -> None:
    empty = merge([], 3)
    assert len(empty) == 0
    assert empty.vectors.shape == (0, 3)
    assert_same(from_bytes(to_bytes(empty)), empty)


def test_the_same_segment_gives_the_same_bytes() -> None:
    assert to_bytes(three()) == to_bytes(three()) == to_bytes(from_bytes(to_bytes(three())))


def test_another_score_gives_other_bytes() -> None:
    other = from_examples([CHEAP, OWNED, Example("c", "salute", {"large": 0.5, "medium": 0})], VECTORS)
    assert to_bytes(other) != to_bytes(three())


def test_take_gives_the_rows_asked_for_in_that_order() -> None:
    segment = three()
    expected = Segment(
        ("c", "a"),
        ("salute", "Rename x\nto y"),
        ("", "code edit"),
        (None, Label(LabelKind.CHEAPEST, "small")),
        ("large", "medium", "small"),
        segment.scores[[2, 0]],
        VECTORS[[2, 0]],
        describe_all(["salute", "Rename x\nto y"]),
    )
    assert_same(segment.take(np.array([2, 0])), expected)


def test_a_merge_has_all_rows_over_the_union_of_models() -> None:
    parts = [
        from_examples([SCORED], VECTORS[2:]),
        from_examples([OWNED], VECTORS[1:2]),
        from_examples([Example("d", "new", {"huge": 1, "medium": 0.5})], VECTORS[:1]),
    ]
    merged = merge(parts, 3)
    assert merged.models == ("huge", "large", "medium")
    assert merged.labels == (None, Label(LabelKind.ONLY, "large"), None)
    np.testing.assert_array_equal(merged.scores, np.array([[NAN, 0.25, 0], [NAN] * 3, [1, NAN, 0.5]], np.float32))
    np.testing.assert_array_equal(merged.vectors, VECTORS[[2, 1, 0]])
    np.testing.assert_array_equal(merged.structure, describe_all(["salute", "Übersetze 🙂", "new"]))
    assert merged.example(0) == SCORED


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"garbage",
        b"PK\x03\x04",
        b"\x93NUMPY",
        b"\x80\x04N.",
        archive(ids=None),
        archive(table=np.frombuffer(b"[1, 2]", np.uint8)),
        archive(table=np.frombuffer(b"{", np.uint8)),
        archive(table=None),
        archive(scores=None),
        archive(labels=[None, ["only"]]),
        archive(labels=[None, ["sometimes", "small"]]),
        archive(ids=["a"]),
        archive(prompts=["one"]),
        archive(tasks=["", "", ""]),
        archive(labels=[]),
        archive(models=[]),
        archive(scores=np.zeros((2, 2), np.float32)),
        archive(scores=np.zeros(2, np.float32)),
        archive(scores=np.float32(0)),
        archive(vectors=np.zeros((3, 3), np.float32)),
        archive(prompts=[None, "two"]),
        archive(RECIPE),
        archive(RECIPE, structure=np.zeros((3, len(NAMES)), np.float32)),
        archive(RECIPE, structure=np.zeros((2, len(NAMES) + 1), np.float32)),
        archive(RECIPE, structure=np.zeros(2, np.float32)),
        archive(RECIPE, structure=np.array([[None] * len(NAMES)] * 2, dtype=object)),
    ],
    ids=range(27),
)
def test_what_is_no_segment_is_damaged(data: bytes) -> None:
    with pytest.raises(Damaged):
        from_bytes(data)


def test_a_single_array_is_damaged() -> None:
    file = io.BytesIO()
    np.save(file, VECTORS)
    with pytest.raises(Damaged):
        from_bytes(file.getvalue())


class Planted:
    """Would leave a mark if anything unpickled it."""

    ran = False

    def __reduce__(self) -> tuple[object, tuple[()]]:
        return _run, ()


def _run() -> None:
    Planted.ran = True


def test_pickled_arrays_are_damaged_and_never_run() -> None:
    with pytest.raises(Damaged, match="allow_pickle=False"):
        from_bytes(archive(scores=np.array([[Planted()], [Planted()]], dtype=object)))
    assert not Planted.ran


def test_every_truncation_is_damaged() -> None:
    data = to_bytes(three())
    for length in range(len(data)):
        with pytest.raises(Damaged):
            from_bytes(data[:length])


@given(st.data())
def test_changed_bytes_are_damaged_or_a_whole_segment(data: st.DataObject) -> None:
    changed = bytearray(to_bytes(three()))
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    try:
        segment = from_bytes(bytes(changed))
    except Damaged:
        return
    assert len(segment.prompts) == len(segment.scores) == len(segment.vectors) == len(segment)


def test_a_sound_archive_is_a_segment() -> None:
    assert from_bytes(archive()).labels == (None, Label(LabelKind.ONLY, "small"))


def test_an_older_segment_without_structure_gets_that_of_its_prompts() -> None:
    segment = from_bytes(archive())
    assert segment.prompts == ("one", "two")
    np.testing.assert_array_equal(segment.structure, [describe("one"), describe("two")])


def test_of_an_older_prompt_that_was_kept_out_of_storage_structure_is_unknown() -> None:
    structure = from_bytes(archive(prompts=["one", ""])).structure
    np.testing.assert_array_equal(structure, np.array([describe("one"), [NAN] * len(NAMES)], np.float32))


def test_stored_structure_is_what_was_stored_even_where_the_prompt_was_not() -> None:
    stored = np.arange(2 * len(NAMES), dtype=np.float32).reshape(2, -1)
    np.testing.assert_array_equal(from_bytes(archive(RECIPE, structure=stored)).structure, stored)
    kept_out = from_examples([Example("a", ""), Example("b", "")], VECTORS[:2], stored)
    assert_same(from_bytes(to_bytes(kept_out)), kept_out)


def test_structure_by_another_recipe_is_computed_anew() -> None:
    stored = np.arange(14, dtype=np.float32).reshape(2, 7)
    segment = from_bytes(archive("structure-0", structure=stored))
    np.testing.assert_array_equal(segment.structure, describe_all(["one", "two"]))


def test_a_prompt_without_text_has_no_structure() -> None:
    segment = from_examples([Example("a", ""), Example("b", "two")], VECTORS[:2])
    np.testing.assert_array_equal(segment.structure, np.array([[NAN] * len(NAMES), describe("two")], np.float32))
    assert_same(from_bytes(to_bytes(segment)), segment)
