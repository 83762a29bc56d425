import hashlib
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index import peers
from index.ballot import draw_up
from index.build import USUAL, tune
from index.directory_store import DirectoryStore
from index.errors import Damaged
from index.objects import Objects
from index.peers import MOST, find, from_bytes, narrow, spread, to_bytes
from index.snapshot import Snapshot
from index.types import Candidate, Example, Peers
from index.versions import Change, Repository
from tests.tiny import DIMENSIONS, hashed_segment, snapshot_of, unit

CHEAP = Candidate("cheap", 1.0)
TRIANGLE = np.array([unit(1, 0), unit(0.8, 0.6), unit(0, 1)])
"""Cosines .8 from the first to the second, .6 from the second to the third, 0 from the first to the third."""


def scored(*ids: str) -> list[Example]:
    return [Example(id, f"prompt {id}", {"cheap": float(number % 2)}) for number, id in enumerate(ids)]


def triangle() -> Snapshot:
    return snapshot_of(scored(*"abc"), TRIANGLE)


def assert_same(one: Peers, other: Peers) -> None:
    np.testing.assert_array_equal(one.rows, other.rows)
    np.testing.assert_array_equal(one.voters, other.voters)
    np.testing.assert_array_equal(one.similarities, other.similarities)
    dtypes = [values.dtype.name for values in (other.rows, other.voters, other.similarities)]
    assert dtypes == ["int64", "int64", "float32"]


def test_peers_are_the_nearest_others_near_to_far() -> None:
    found = find(triangle(), 2)
    np.testing.assert_array_equal(found.rows, [0, 1, 2])
    np.testing.assert_array_equal(found.voters, [[1, 2], [0, 2], [1, 0]])
    np.testing.assert_allclose(found.similarities, [[0.8, 0], [0.8, 0.6], [0.6, 0]], atol=1e-6)


@pytest.mark.parametrize(("k", "width"), [(1, 1), (2, 2), (3, 2), (200, 2)])
def test_there_are_no_more_peers_than_others(k: int, width: int) -> None:
    found = find(triangle(), k)
    assert found.voters.shape == found.similarities.shape == (3, width)


@pytest.mark.parametrize("count", [0, 1])
def test_without_two_examples_there_are_no_peers(count: int) -> None:
    found = find(snapshot_of(scored("a")[:count], TRIANGLE[:count]), 5)
    assert (len(found.rows), len(found.voters), len(found.similarities)) == (0, 0, 0)


@pytest.mark.parametrize("k", [1, 2, 3, 4, 100])
def test_no_example_is_among_its_own_voters_even_with_exact_duplicates(k: int) -> None:
    vectors = np.array([unit(1, 0)] * 5 + [unit(0, 1)] * 2 + [unit(1, 1)])
    found = find(snapshot_of(scored(*map(str, range(8))), vectors), k)
    assert found.voters.shape == found.similarities.shape == (8, min(k, 7))
    assert not (found.voters == found.rows[:, None]).any()
    assert all(len(set(row)) == len(row) for row in found.voters.tolist())
    expected = (vectors[found.rows, None] * vectors[found.voters]).sum(axis=2)
    np.testing.assert_allclose(found.similarities, expected, atol=1e-6)
    assert (np.diff(found.similarities, axis=1) <= 1e-6).all()


def test_narrow_keeps_the_nearest_of_a_sample() -> None:
    wide = Peers(
        np.array([0, 10, 20, 30, 40]),
        np.arange(15).reshape(5, 3),
        np.linspace(1, 0, 15, dtype=np.float32).reshape(5, 3),
    )
    expected = Peers(np.array([0, 20, 40]), np.array([[0, 1], [6, 7], [12, 13]]), wide.similarities[[0, 2, 4], :2])
    assert_same(expected, narrow(wide, 2, 3))
    assert_same(wide, narrow(wide, 3))
    assert_same(wide, narrow(wide, 100))


@pytest.mark.parametrize(
    ("count", "most", "rows"),
    [(0, 3, []), (1, 3, [0]), (3, 3, [0, 1, 2]), (5, 3, [0, 2, 4]), (101, 5, [0, 25, 50, 75, 100])],
)
def test_rows_are_spread_evenly_from_the_first_to_the_last(count: int, most: int, rows: list[int]) -> None:
    np.testing.assert_array_equal(spread(count, most), rows)


def test_of_a_large_index_a_bounded_number_has_peers() -> None:
    angles = np.linspace(0, 6, MOST + 500)
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    found = find(snapshot_of(scored(*map(str, range(len(vectors)))), vectors), 2)
    assert (found.voters.shape, found.rows[0], found.rows[-1]) == ((MOST, 2), 0, MOST + 499)


def test_bytes_give_peers_back() -> None:
    found = find(triangle(), 2)
    assert_same(found, from_bytes(to_bytes(found), 3))
    assert to_bytes(found) == to_bytes(find(triangle(), 2)) == to_bytes(from_bytes(to_bytes(found), 3))


_savez: Callable[..., None] = np.savez


def archive(**changes: object) -> bytes:
    """Sound peers of a version of three examples, with some arrays changed; None takes one out."""
    arrays: dict[str, object] = {
        "rows": np.array([0, 1, 2], np.int32),
        "voters": np.array([[1], [2], [0]], np.int32),
        "similarities": np.ones((3, 1), np.float32),
    }
    file = io.BytesIO()
    _savez(file, **{name: np.asarray(array) for name, array in (arrays | changes).items() if array is not None})
    return file.getvalue()


def test_a_sound_archive_is_peers() -> None:
    assert from_bytes(archive(), 3).voters.tolist() == [[1], [2], [0]]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"garbage",
        b"PK\x03\x04",
        b"\x93NUMPY",
        b"\x80\x04N.",
        archive(rows=None),
        archive(voters=None),
        archive(similarities=None),
        archive(rows=np.array(["a", "b", "c"])),
        archive(rows=np.array([0, 1])),
        archive(rows=np.array([[0], [1], [2]])),
        archive(rows=np.array([0, 1, 3])),
        archive(rows=np.array([-1, 1, 2])),
        archive(voters=np.array([[1], [2], [3]])),
        archive(voters=np.array([[1], [2], [-1]])),
        archive(voters=np.array([[1, 2]] * 3)),
        archive(voters=np.array([1, 2, 0]), similarities=np.ones(3, np.float32)),
        archive(voters=np.array(1), similarities=np.float32(1)),
        archive(similarities=np.ones((2, 1), np.float32)),
        archive(similarities=np.array([[object()]] * 3, dtype=object)),
    ],
    ids=range(20),
)
def test_what_is_no_peers_of_the_version_is_damaged(data: bytes) -> None:
    with pytest.raises(Damaged):
        from_bytes(data, 3)


def test_every_truncation_is_damaged() -> None:
    data = to_bytes(find(triangle(), 2))
    for length in range(len(data)):
        with pytest.raises(Damaged):
            from_bytes(data[:length], 3)


@given(st.data())
def test_changed_bytes_are_damaged_or_peers_of_the_version(data: st.DataObject) -> None:
    changed = bytearray(to_bytes(find(triangle(), 2)))
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = from_bytes(bytes(changed), 3)
    except Damaged:
        return
    assert found.voters.shape == found.similarities.shape == (len(found.rows), found.voters.shape[1])
    assert set(found.voters.flat) | set(found.rows) <= {0, 1, 2}


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path)


def committed(store: DirectoryStore, *ids: str) -> Snapshot:
    added = hashed_segment(scored(*ids))
    return Repository(store, DIMENSIONS).commit(lambda _: Change(added), "add", "tiny")


def loaded(store: DirectoryStore, version: str) -> Snapshot:
    """As someone reads it who has nothing in memory."""
    return Repository(store, DIMENSIONS).load(version)


def naming(store: DirectoryStore, snapshot: Snapshot, peers: str | None) -> str:
    """A version just like this one, but for its peers."""
    return Objects(store).put_manifest(replace(snapshot.manifest, peers=peers))


def test_a_version_keeps_the_peers_it_was_tuned_on(store: DirectoryStore) -> None:
    ids = tuple(map(str, range(120)))
    snapshot = loaded(store, committed(store, *ids).version)
    params, expected = tune(replace(snapshot, peers=None))
    assert snapshot.peers is not None
    assert_same(expected, snapshot.peers)
    assert snapshot.manifest.params == params
    assert snapshot.peers.voters.shape == (120, USUAL[0])
    assert list(store.keys("index/peers/")) == [f"index/peers/{snapshot.manifest.peers}.npz"]


def test_a_version_that_is_loaded_is_not_searched_again(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    version = committed(store, *"abcd").version

    def searched(*_: object) -> Peers:
        raise AssertionError("a search over the whole index")

    monkeypatch.setattr(peers, "find", searched)
    assert draw_up(loaded(store, version), [CHEAP]).fit.curve.examples == 4
    with pytest.raises(AssertionError, match="a search"):
        committed(store, "e")


def test_an_older_version_without_peers_is_served_by_searching(store: DirectoryStore) -> None:
    made = committed(store, *map(str, range(60)))
    older = loaded(store, naming(store, made, None))
    assert older.peers is None
    assert draw_up(older, [CHEAP]).fit.curve == draw_up(loaded(store, made.version), [CHEAP]).fit.curve


def test_a_manifest_written_before_there_were_peers_is_read(store: DirectoryStore) -> None:
    committed(store, "a")
    (key,) = store.keys("index/versions/")
    stored = store.get(key)
    assert stored is not None
    data = stored.data.replace(b',"peers":null', b"")
    assert data != stored.data
    version = hashlib.sha256(data).hexdigest()[:16]
    store.put(f"index/versions/{version}.json", data)
    assert loaded(store, version).manifest.peers is None


@pytest.mark.parametrize("count", [0, 1])
def test_a_version_without_two_examples_keeps_no_peers(store: DirectoryStore, count: int) -> None:
    made = committed(store, "a")
    if not count:
        made = Repository(store, DIMENSIONS).commit(lambda _: Change(None, (0,)), "drop")
    assert made.manifest.peers is None
    assert list(store.keys("index/peers/")) == []


def test_each_edit_gives_a_version_peers_of_its_own(store: DirectoryStore) -> None:
    first, second = committed(store, *"abc"), committed(store, *"de")
    third = Repository(store, DIMENSIONS).commit(lambda _: Change(None, (0, 1)), "drop")
    widths = [snapshot.peers.voters.shape for snapshot in (first, second, third) if snapshot.peers is not None]
    assert widths == [(3, 2), (5, 4), (3, 2)]


def test_a_version_rolled_back_to_has_its_peers_again(store: DirectoryStore) -> None:
    first = committed(store, *"abc")
    committed(store, *"de")
    back = Repository(store, DIMENSIONS).roll_back(first.version)
    assert back.manifest.peers == first.manifest.peers
    assert back.peers is not None
    assert first.peers is not None
    assert_same(first.peers, back.peers)


def test_peers_that_are_missing_are_damaged(store: DirectoryStore) -> None:
    version = naming(store, committed(store, *"abc"), "0" * 16)
    with pytest.raises(Damaged, match="peers 0000000000000000 are missing"):
        loaded(store, version)


def test_peers_whose_bytes_changed_are_damaged(store: DirectoryStore) -> None:
    made = committed(store, *"abc")
    store.put(f"index/peers/{made.manifest.peers}.npz", archive())
    with pytest.raises(Damaged, match="not what their name says"):
        loaded(store, made.version)


def test_another_version_s_peers_are_damaged(store: DirectoryStore) -> None:
    small, large = committed(store, *"abc"), committed(store, *"de")
    with pytest.raises(Damaged, match="not those of their version"):
        loaded(store, naming(store, small, large.manifest.peers))
