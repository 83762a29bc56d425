import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from handler import fleet as fleets
from handler.data.live import Live, Watcher
from handler.fleet import BadFleet, parse
from index.directory_store import DirectoryStore
from index.errors import EmbedderMismatch, StoreUnavailable
from index.store import ObjectStore, Stored
from index.types import Example
from index.versions import HEAD, Change, Repository
from tests.dynamodb_server import Clock
from tests.tiny import DIMENSIONS, Wrapped, hashed_segment

EMBEDDER = "embedder-1"


class Outage(Wrapped):
    """A store that can be cut off, or made to hang."""

    def __init__(self, store: ObjectStore) -> None:
        super().__init__(store)
        self.out = False
        self.answers = threading.Event()
        self.answers.set()
        self.waiting = 0

    def get(self, key: str, unless: str | None = None) -> Stored | None:
        self.waiting += 1
        self.answers.wait(5)
        self.waiting -= 1
        if self.out:
            raise StoreUnavailable("the store is out")
        return super().get(key, unless)


@pytest.fixture
def store(tmp_path: Path) -> Outage:
    store = Outage(DirectoryStore(tmp_path))
    write_fleet(store, "cheap", "dear")
    return store


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "nearvote.live")
    return caplog


def fleet_text(*names: str, **like: str) -> bytes:
    """Each model dearer than the one before."""
    models = [
        {
            "name": name,
            "price": {"input": price, "output": price},
            "deployments": [{"base_url": "u"}],
            "like": like.get(name),
        }
        for price, name in enumerate(names, start=1)
    ]
    return orjson.dumps({"models": models})


def write_fleet(store: ObjectStore, *names: str, **like: str) -> str:
    """The fleet's version."""
    text = fleet_text(*names, **like)
    store.put(fleets.KEY, text)
    return parse(text).version


def add(store: ObjectStore, *examples: Example, made_by: str = EMBEDDER) -> str:
    """The new version's id."""
    segment = hashed_segment(examples)
    return Repository(store, DIMENSIONS).commit(lambda _: Change(segment), "add", made_by).version


def example(id: str, **scores: float) -> Example:
    return Example(id, f"prompt {id}", scores)


def watch(store: ObjectStore, **options: Any) -> Watcher:
    return Watcher(store, Repository(store, DIMENSIONS), EMBEDDER, interval=1.0, **options)


def served(live: Live) -> tuple[list[str], str | None, str]:
    """Models, index version, and why there is none."""
    version = live.ballot.snapshot.version if live.ballot else None
    return list(live.fleet.fleet.by_name), version, live.detail


def errors(log: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in log.records if record.levelno >= logging.ERROR]


def test_the_current_fleet_and_index_are_served_from_the_start(store: Outage) -> None:
    version = add(store, example("a", cheap=1, dear=1))
    live = watch(store).live
    assert served(live) == (["cheap", "dear"], version, "")
    assert live.fleet.version == parse(fleet_text("cheap", "dear")).version


def test_without_a_fleet_nothing_starts(tmp_path: Path) -> None:
    with pytest.raises(BadFleet, match=r"there is no fleet.yaml in the store"):
        watch(DirectoryStore(tmp_path))


def test_with_a_broken_fleet_nothing_starts(store: Outage) -> None:
    store.put(fleets.KEY, b"models: [")
    with pytest.raises(BadFleet, match=r"fleet.yaml is not YAML"):
        watch(store)


def test_a_broken_edit_of_the_fleet_keeps_the_old_one_and_a_repaired_one_is_taken(
    store: Outage, log: pytest.LogCaptureFixture
) -> None:
    version = add(store, example("a", cheap=1, dear=1))
    watcher = watch(store)
    store.put(fleets.KEY, b"models: []")
    watcher.refresh()
    watcher.refresh()
    assert served(watcher.live) == (["cheap", "dear"], version, "")
    assert len(errors(log)) == 1  # told once an edit, not at each look
    assert errors(log)[0].startswith(
        "kept what is served: fleet.yaml: line 1: models: Tuple should have at least 1 item"
    )
    write_fleet(store, "cheap", "dear", "new")
    watcher.refresh()
    assert served(watcher.live) == (["cheap", "dear", "new"], version, "")


def test_an_index_is_taken_although_the_fleet_was_broken_at_the_same_time(store: Outage) -> None:
    add(store, example("a", cheap=1, dear=1))
    watcher = watch(store)
    store.put(fleets.KEY, b"models: [")
    newer = add(store, example("b", cheap=0, dear=1))
    watcher.refresh()
    assert served(watcher.live) == (["cheap", "dear"], newer, "")


def test_a_fleet_file_that_is_gone_leaves_the_fleet(store: Outage, tmp_path: Path) -> None:
    watcher = watch(store)
    (tmp_path / fleets.KEY).unlink()
    watcher.refresh()
    assert served(watcher.live)[0] == ["cheap", "dear"]


def test_a_new_version_is_swapped_in_whole(store: Outage, log: pytest.LogCaptureFixture) -> None:
    add(store, example("a", cheap=1, dear=1))
    watcher = watch(store)
    before = watcher.live
    newer = add(store, example("b", cheap=0, dear=1))
    assert watcher.live is before
    watcher.refresh()
    assert served(watcher.live) == (["cheap", "dear"], newer, "")
    assert watcher.live.ballot is not None
    assert watcher.live.ballot.snapshot.examples.ids == ("a", "b")
    assert watcher.live.ballot.outcomes.scores.tolist() == [[1, 1], [0, 1]]
    assert served(before)[1] != newer  # a request that took it keeps it
    assert errors(log) == []


def test_a_look_that_finds_nothing_new_changes_nothing(store: Outage) -> None:
    add(store, example("a", cheap=1, dear=1))
    watcher = watch(store)
    before = watcher.live
    watcher.refresh()
    assert watcher.live is before


def test_a_missing_index_is_no_ballot_and_a_first_one_is_taken(store: Outage) -> None:
    watcher = watch(store)
    assert served(watcher.live) == (["cheap", "dear"], None, "the index is empty")
    first = add(store, example("a", cheap=1, dear=1))
    watcher.refresh()
    assert served(watcher.live) == (["cheap", "dear"], first, "")


def test_an_index_that_was_emptied_is_no_ballot(store: Outage) -> None:
    add(store, example("a", cheap=1, dear=1))
    watcher = watch(store)
    Repository(store, DIMENSIONS).commit(lambda _: Change(None, (0,)), "remove")
    watcher.refresh()
    assert served(watcher.live) == (["cheap", "dear"], None, "the index is empty")


def test_a_version_of_another_embedder_is_refused_with_what_to_do(store: Outage, log: pytest.LogCaptureFixture) -> None:
    add(store, example("a", cheap=1, dear=1), made_by="embedder-0")
    detail = str(EmbedderMismatch("embedder-0", EMBEDDER))
    watcher = watch(store)
    assert served(watcher.live) == (["cheap", "dear"], None, detail)
    assert "nearvote index rebuild" in detail
    assert errors(log) == [f"routing has no index: {detail}"]
    segment = hashed_segment([example("a", cheap=1, dear=1)])
    rebuilt = Repository(store, DIMENSIONS).replace_all(lambda _: segment, "rebuild", EMBEDDER)
    watcher.refresh()
    assert served(watcher.live) == (["cheap", "dear"], rebuilt.version, "")


@pytest.mark.parametrize("head", [b"{", b"[]", b"{}", b'{"version": 5}', b'{"version": "0123456789abcdef"}', b""])
def test_a_damaged_head_keeps_the_version_that_is_served(
    store: Outage, log: pytest.LogCaptureFixture, head: bytes
) -> None:
    version = add(store, example("a", cheap=1, dear=1))
    watcher = watch(store)
    good = store.get(HEAD)
    assert good is not None
    store.put(HEAD, head)
    watcher.refresh()
    assert served(watcher.live) == (["cheap", "dear"], version, "")
    assert [error.partition(":")[0] for error in errors(log)] == ["kept what is served"]
    store.put(HEAD, good.data)
    newer = add(store, example("b", cheap=0, dear=1))
    watcher.refresh()
    assert served(watcher.live)[1] == newer


def test_a_store_that_is_out_keeps_what_is_served(store: Outage, log: pytest.LogCaptureFixture) -> None:
    version = add(store, example("a", cheap=1, dear=1))
    watcher = watch(store)
    newer = add(store, example("b", cheap=0, dear=1))
    write_fleet(store, "dear")
    store.out = True
    watcher.refresh()
    assert served(watcher.live) == (["cheap", "dear"], version, "")
    assert errors(log) == ["kept what is served: the store is out"] * 2
    store.out = False
    watcher.refresh()
    assert served(watcher.live) == (["dear"], newer, "")


def test_a_retired_model_is_gone_at_once_and_its_outcomes_stay(store: Outage) -> None:
    add(store, example("a", cheap=1, dear=1))
    watcher = watch(store)
    write_fleet(store, "dear")
    watcher.refresh()
    ballot = watcher.live.ballot
    assert ballot is not None
    assert (served(watcher.live)[0], ballot.outcomes.scores.tolist()) == (["dear"], [[1]])
    assert ballot.snapshot.examples.models == ("cheap", "dear")
    write_fleet(store, "cheap", "dear")
    watcher.refresh()
    assert watcher.live.ballot is not None
    assert watcher.live.ballot.outcomes.scores.tolist() == [[1, 1]]


def test_a_model_that_is_added_with_like_borrows_outcomes_at_once(store: Outage) -> None:
    add(store, example("a", cheap=0.25, dear=1))
    watcher = watch(store)
    write_fleet(store, "cheap", "dear", "new", "stranger", new="cheap")
    watcher.refresh()
    ballot = watcher.live.ballot
    assert ballot is not None
    assert [candidate.name for candidate in ballot.candidates] == ["cheap", "dear", "new", "stranger"]
    assert (ballot.outcomes.scores.tolist(), ballot.outcomes.known.tolist()) == ([[0.25, 1, 0.25, 0]], [[1, 1, 1, 0]])


@contextmanager
def watched(store: ObjectStore, clock: Clock) -> Iterator[Watcher]:
    watcher = watch(store, clock=clock)
    watcher.refresh()
    yield watcher
    watcher.close()


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.002)


def test_a_touch_looks_in_the_background_when_one_is_due(store: Outage) -> None:
    clock = Clock(100.0)
    with watched(store, clock) as watcher:
        newer = add(store, example("a", cheap=1, dear=1))
        clock.seconds += 0.9
        watcher.touch()
        assert served(watcher.live)[1] is None
        clock.seconds += 0.1
        watcher.touch()
        wait_until(lambda: served(watcher.live)[1] == newer)


def test_a_touch_does_not_wait_for_a_look_that_hangs(store: Outage) -> None:
    clock = Clock()
    with watched(store, clock) as watcher:
        newer = add(store, example("a", cheap=1, dear=1))
        store.answers.clear()
        clock.seconds += 1
        watcher.touch()
        wait_until(lambda: store.waiting == 1)
        for _ in range(100):
            clock.seconds += 1
            watcher.touch()
        assert (store.waiting, served(watcher.live)[1]) == (1, None)
        store.answers.set()
        wait_until(lambda: served(watcher.live)[1] == newer)
