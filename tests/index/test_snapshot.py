import numpy as np
import pytest

from index.manifest import Manifest, SegmentRef
from index.segment import from_examples
from index.snapshot import CENTERED_FROM, Snapshot, assemble
from index.types import Example, Floats, Rows
from tests.tiny import snapshot_of, unit

DIMENSIONS = 16


def random_units(count: int, seed: int) -> Floats:
    vectors = np.random.default_rng(seed).normal(size=(count, DIMENSIONS)).astype(np.float32)
    units: Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return units


def named(*ids: str) -> list[Example]:
    return [Example(id, f"prompt {id}", {"small": 1}) for id in ids]


def in_two_segments(dropped: tuple[tuple[int, ...], tuple[int, ...]], vectors: Floats) -> Snapshot:
    """Examples a, b, c in the first segment; d, e in the second."""
    first = from_examples(named("a", "b", "c"), vectors[:3])
    second = from_examples(named("d", "e"), vectors[3:])
    refs = (SegmentRef("one", 3, dropped[0]), SegmentRef("two", 2, dropped[1]))
    return assemble("v", Manifest(1, None, "", "", "", refs), [first, second], vectors.shape[1])


def centred(vectors: Floats, center: Floats) -> Floats:
    moved = vectors.astype(np.float64) - center
    unit_again: Floats = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    return unit_again


def assert_found_like(found: Floats, rows: Rows, products: Floats, k: int) -> None:
    expected = np.argsort(-products, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_allclose(found, np.take_along_axis(products, expected, axis=1), atol=1e-6)
    assert found.shape == (len(products), min(k, products.shape[1]))


@pytest.mark.parametrize("k", [1, 7, 100, 500])
def test_ids_and_similarities_are_those_of_brute_force_on_what_the_vectors_do_not_share(k: int) -> None:
    vectors, queries = random_units(300, seed=1), random_units(20, seed=2)
    vectors = np.array([unit(*(vector + 0.5)) for vector in vectors])
    center = vectors.astype(np.float64).mean(axis=0)
    found, rows = snapshot_of(named(*(f"e{number}" for number in range(300))), vectors).search(queries, k)
    assert_found_like(found, rows, centred(queries, center) @ centred(vectors, center).T, k)


@pytest.mark.parametrize("k", [1, 7, 100])
def test_a_few_vectors_are_compared_as_they_are(k: int) -> None:
    count = CENTERED_FROM - 1
    vectors, queries = random_units(count, seed=1), random_units(20, seed=2)
    found, rows = snapshot_of(named(*(f"e{number}" for number in range(count))), vectors).search(queries, k)
    assert_found_like(found, rows, queries @ vectors.T, k)


def test_only_live_examples_tell_what_all_share() -> None:
    """Half of the vectors point one way and were dropped; what is left lies on all sides of nothing."""
    angles = np.linspace(0, 2 * np.pi, CENTERED_FROM, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    vectors = np.concatenate([np.array([unit(1, 0)] * CENTERED_FROM), circle])
    part = from_examples(named(*map(str, range(2 * CENTERED_FROM))), vectors)
    refs = (SegmentRef("s", len(part), tuple(range(CENTERED_FROM))),)
    snapshot = assemble("v", Manifest(1, None, "", "", "", refs), [part], 2)
    np.testing.assert_allclose(snapshot.center, [0, 0], atol=1e-6)
    found, _ = snapshot.search(circle[3:4], 1)
    np.testing.assert_allclose(found, 1, atol=1e-5)


def test_copies_of_one_vector_are_alike_in_nothing_else() -> None:
    """With what they share taken out, nothing is left; it must not be divided by."""
    snapshot = snapshot_of(named(*map(str, range(60))), np.array([unit(1, 2)] * 60))
    found, rows = snapshot.search(np.array([unit(1, 2), unit(2, -1)]), 5)
    assert np.isfinite(found).all()
    assert (np.abs(found) <= 1 + 1e-6).all()
    assert all(len(set(row)) == 5 for row in rows.tolist())


def test_an_example_is_its_own_nearest_with_cosine_1() -> None:
    vectors = random_units(50, seed=3)
    found, rows = snapshot_of(named(*map(str, range(50))), vectors).search(vectors, 1)
    np.testing.assert_array_equal(rows[:, 0], np.arange(50))
    np.testing.assert_allclose(found, 1, atol=1e-6)


def test_dropped_rows_are_neither_counted_nor_found() -> None:
    vectors = np.array([unit(1, 0), unit(1, 0.1), unit(1, 0.2), unit(1, 0.3), unit(1, 0.4)])
    snapshot = in_two_segments(((1,), (0,)), vectors)
    found, rows = snapshot.search(unit(1, 0.09)[None, :], 5)
    assert len(snapshot) == snapshot.manifest.examples == 3
    assert snapshot.examples.ids == ("a", "c", "e")
    assert snapshot.rows == {"a": 0, "c": 1, "e": 2}
    assert [snapshot.examples.ids[row] for row in rows[0]] == ["a", "c", "e"]
    np.testing.assert_allclose(found[0], vectors[[0, 2, 4]] @ unit(1, 0.09), atol=1e-6)


def test_each_live_row_knows_where_it_comes_from() -> None:
    snapshot = in_two_segments(((0, 1), (0,)), random_units(5, seed=4))
    assert snapshot.origins == ((0, 2), (1, 1))
    assert snapshot.examples.ids == ("c", "e")


def test_a_version_whose_every_row_is_dropped_is_empty() -> None:
    snapshot = in_two_segments(((0, 1, 2), (0, 1)), random_units(5, seed=5))
    assert len(snapshot) == 0
    assert snapshot.rows == {}


def test_a_search_of_nothing_finds_nothing() -> None:
    snapshot = assemble("", Manifest(0, None, "", "", ""), [], DIMENSIONS)
    found, rows = snapshot.search(random_units(3, seed=6), 10)
    assert found.shape == rows.shape == (3, 0)
    assert (found.dtype.name, rows.dtype.name) == ("float32", "int64")


def test_segments_that_the_manifest_does_not_list_are_refused() -> None:
    part = from_examples(named("a"), random_units(1, seed=7))
    with pytest.raises(ValueError, match="zip"):
        assemble("", Manifest(1, None, "", "", ""), [part], DIMENSIONS)
