import contextlib
import hashlib
import itertools
import multiprocessing
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from index import versions
from index.directory_store import DirectoryStore
from index.errors import Conflict, Damaged, EmbedderMismatch, StoreUnavailable, UnknownVersion
from index.manifest import Manifest, SegmentRef
from index.objects import Objects
from index.s3_store import S3Store
from index.segment import Segment
from index.snapshot import Snapshot
from index.store import ObjectStore, Stored
from index.types import Example, VoteParams
from index.versions import EMPTY, HEAD, MOST_SEGMENTS, Change, Difference, Edit, Repository, compare
from tests.servers import BUCKET, S3Server
from tests.tiny import DIMENSIONS, Interrupted, Wrapped, hashed_segment, unit

FINGERPRINT = "tiny"
NOON = datetime(2030, 1, 2, 12, tzinfo=UTC)
WRITERS, EDITS = 8, 25
KILLS = 10
SHARED_ROWS = 5

prefixes = itertools.count(1)

Connect = Callable[[], ObjectStore]
"""A store object of its own, always at the same place."""


@pytest.fixture(params=["directory", "s3"])
def connect(request: pytest.FixtureRequest) -> Connect:
    place: Connect = request.getfixturevalue(f"{request.param}_place")
    return place


@pytest.fixture
def directory_place(tmp_path: Path) -> Connect:
    return partial(DirectoryStore, tmp_path)


@pytest.fixture
def s3_place(s3_server: S3Server) -> Iterator[Connect]:
    prefix = f"versions/{next(prefixes)}"
    with contextlib.ExitStack() as clients:

        def connect() -> ObjectStore:
            return S3Store(clients.enter_context(contextlib.closing(s3_server.client())), BUCKET, prefix)

        yield connect


@pytest.fixture
def store(connect: Connect) -> ObjectStore:
    return connect()


@pytest.fixture
def repository(store: ObjectStore) -> Repository:
    return opened(store)


def opened(store: ObjectStore) -> Repository:
    return Repository(store, DIMENSIONS)


def example(id: str, score: float = 1) -> Example:
    return Example(id, f"prompt {id}", {"small": score})


def adding(*ids: str, score: float = 1) -> Edit:
    """Adds these; an id that is there already is replaced."""

    def edit(base: Snapshot) -> Change:
        replaced = tuple(base.rows[id] for id in ids if id in base.rows)
        return Change(hashed_segment([example(id, score) for id in ids]), replaced)

    return edit


def dropping(*ids: str) -> Edit:
    return lambda base: Change(None, tuple(base.rows[id] for id in ids))


def add(repository: Repository, *ids: str, score: float = 1) -> Snapshot:
    return repository.commit(adding(*ids, score=score), f"add {' '.join(ids)}", FINGERPRINT)


def contents(snapshot: Snapshot) -> dict[str, float]:
    """Id → score; each example is checked to be whole, and to be found by its own vector."""
    examples = [snapshot.examples.example(row) for row in range(len(snapshot))]
    scores = {example.id: example.scores["small"] for example in examples}
    assert examples == [example(id, score) for id, score in scores.items()]
    assert snapshot.manifest.examples == len(examples) == len(scores)
    expected = hashed_segment(examples).vectors
    np.testing.assert_array_equal(snapshot.examples.vectors, expected)
    if examples:
        np.testing.assert_array_equal(snapshot.search(expected, 1)[1][:, 0], np.arange(len(examples)))
    return scores


def stored_contents(store: ObjectStore) -> dict[str, float]:
    """What someone reads who has nothing in memory."""
    return contents(opened(store).current())


def messages(repository: Repository) -> list[str]:
    return [manifest.message for _, manifest in repository.history(1000)]


def test_before_the_first_version_the_index_is_empty(repository: Repository) -> None:
    assert repository.poll_head() == (EMPTY, "")
    assert repository.current().manifest == Manifest(0, None, "", "", "")
    assert contents(repository.current()) == {}
    assert list(repository.history(10)) == []


def test_the_first_commit_makes_version_1(store: ObjectStore) -> None:
    made = add(Repository(store, DIMENSIONS, lambda: NOON), "a")
    (segment,) = made.manifest.segments
    assert made.manifest == Manifest(
        1, None, "2030-01-02T12:00:00.000+00:00", "add a", FINGERPRINT, (SegmentRef(segment.id, 1),), VoteParams()
    )
    assert opened(store).load(made.version).manifest == made.manifest
    assert stored_contents(store) == contents(made) == {"a": 1}
    assert list(store.keys("")) == sorted(
        [HEAD, f"index/versions/{made.version}.json", f"index/segments/{segment.id}.npz"]
    )


def test_an_upload_appends_a_segment_and_leaves_the_others_as_they_are(repository: Repository) -> None:
    first, second = add(repository, "a", "b"), add(repository, "c")
    assert second.manifest.segments[:1] == first.manifest.segments
    assert [ref.rows for ref in second.manifest.segments] == [2, 1]
    assert contents(second) == {"a": 1, "b": 1, "c": 1}


def test_the_vote_s_parameters_are_those_of_the_version_s_own_examples(repository: Repository) -> None:
    snapshot = add(repository, "a", "b")
    cosine = float(snapshot.examples.vectors[0] @ snapshot.examples.vectors[1])
    assert snapshot.manifest.params.familiar == round(cosine, 4)


def test_what_is_dropped_becomes_a_tombstone(repository: Repository) -> None:
    first = add(repository, "a", "b", "c")
    second = repository.commit(dropping("b"), "drop b")
    third = repository.commit(dropping("c"), "drop c")
    (segment,) = first.manifest.segments
    assert second.manifest.segments == (replace(segment, dropped=(1,)),)
    assert third.manifest.segments == (replace(segment, dropped=(1, 2)),)
    assert third.manifest.fingerprint == FINGERPRINT
    assert contents(third) == contents(repository.current()) == {"a": 1}
    assert contents(repository.load(first.version)) == {"a": 1, "b": 1, "c": 1}


def test_a_segment_without_a_row_left_is_no_part_of_the_version(repository: Repository) -> None:
    add(repository, "a")
    kept = add(repository, "b").manifest.segments[1]
    assert repository.commit(dropping("a"), "drop a").manifest.segments == (kept,)
    assert repository.commit(dropping("b"), "drop b").manifest.segments == ()
    assert contents(repository.current()) == {}
    assert contents(add(repository, "a", score=0.5)) == {"a": 0.5}


def test_history_goes_from_head_to_the_first(repository: Repository) -> None:
    made = [add(repository, id) for id in "abc"]
    expected = [(snapshot.version, snapshot.manifest) for snapshot in reversed(made)]
    assert list(repository.history(10)) == expected
    assert list(repository.history(2)) == expected[:2]
    assert list(repository.history(0)) == []
    assert [manifest.number for _, manifest in expected] == [3, 2, 1]
    assert [manifest.parent for _, manifest in expected] == [made[1].version, made[0].version, None]


def test_a_diff_names_what_came_what_went_and_what_changed(repository: Repository) -> None:
    old = add(repository, "a", "b", "c")
    add(repository, "b", score=0.5)
    repository.commit(dropping("c"), "drop c")
    new = add(repository, "d", "e")
    assert compare(old, new) == Difference(("d", "e"), ("c",), ("b",))
    assert compare(new, old) == Difference(("c",), ("d", "e"), ("b",))
    assert compare(old, old) == Difference((), (), ())


def test_a_roll_back_is_a_new_version_and_can_be_rolled_back(repository: Repository) -> None:
    first = add(repository, "a", "b")
    second = add(repository, "b", "c", score=0.5)
    back = repository.roll_back(first.version)
    assert contents(back) == {"a": 1, "b": 1}
    assert back.manifest == replace(
        first.manifest,
        number=3,
        parent=second.version,
        created_at=back.manifest.created_at,
        message=f"roll back to version 1 ({first.version})",
    )
    forth = repository.roll_back(second.version)
    assert contents(forth) == contents(repository.current()) == {"a": 1, "b": 0.5, "c": 0.5}
    assert messages(repository) == [
        f"roll back to version 2 ({second.version})",
        f"roll back to version 1 ({first.version})",
        "add b c",
        "add a b",
    ]


def test_a_roll_back_undoes_a_rebuild_s_embedder_too(repository: Repository) -> None:
    first = add(repository, "a")
    repository.replace_all(lambda base: base.examples, "rebuild", "another")
    assert repository.roll_back(first.version).manifest.fingerprint == FINGERPRINT


@pytest.mark.parametrize("change", [Change(None), Change(hashed_segment([]))], ids=["none", "empty"])
def test_no_change_makes_no_version(store: ObjectStore, change: Change) -> None:
    before = add(opened(store), "a")
    keys = list(store.keys(""))
    assert opened(store).commit(lambda _: change, "nothing", FINGERPRINT).version == before.version
    assert list(store.keys("")) == keys


def test_an_edit_that_raises_changes_nothing(store: ObjectStore) -> None:
    add(opened(store), "a")
    keys = list(store.keys(""))
    with pytest.raises(KeyError):
        opened(store).commit(dropping("nobody"), "drop")
    assert list(store.keys("")) == keys


def test_vectors_of_another_embedder_are_refused_until_all_are_replaced(repository: Repository) -> None:
    add(repository, "a", "b")
    with pytest.raises(EmbedderMismatch) as caught:
        repository.commit(adding("c"), "add", "another")
    assert str(caught.value) == (
        "this index was made by embedder tiny, but another is running: its vectors cannot be compared. "
        "Run `nearvote index rebuild` to embed its examples again, or run with the embedder that made it."
    )
    assert contents(repository.commit(dropping("b"), "needs no vectors")) == {"a": 1}
    healed = repository.replace_all(lambda base: base.examples, "rebuild", "another")
    assert (healed.manifest.fingerprint, healed.manifest.message) == ("another", "rebuild")
    assert contents(repository.commit(adding("c"), "add", "another")) == {"a": 1, "c": 1}


def test_many_segments_are_merged_and_nothing_is_lost(store: ObjectStore) -> None:
    repository = opened(store)
    for number in range(MOST_SEGMENTS):
        add(repository, f"{number}-a", f"{number}-b", score=number / 100)
    assert len(repository.current().manifest.segments) == MOST_SEGMENTS
    expected = {f"{number}-{letter}": number / 100 for number in range(MOST_SEGMENTS) for letter in "ab"}
    merged = repository.commit(adding("3-a", "new", score=0.5), "one more", FINGERPRINT)
    expected |= {"3-a": 0.5, "new": 0.5}
    assert [(ref.rows, ref.dropped) for ref in merged.manifest.segments] == [(2 * MOST_SEGMENTS + 1, ())]
    assert stored_contents(store) == contents(merged) == expected
    assert len(add(repository, "after").manifest.segments) == 2


def test_large_segments_are_left_as_they_are(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "SMALL_ROWS", 3)
    repository = opened(store)
    sizes = [3, 1] * (MOST_SEGMENTS // 2)
    for number, size in enumerate(sizes):
        add(repository, *(f"{number}-{row}" for row in range(size)))
    large = [ref for ref in repository.current().manifest.segments if ref.rows == 3]
    merged = add(repository, "last")
    assert merged.manifest.segments[:-1] == tuple(large)
    assert merged.manifest.segments[-1].rows == MOST_SEGMENTS // 2 + 1
    assert len(stored_contents(store)) == sum(sizes) + 1


def test_more_large_segments_than_are_merged_stay(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "SMALL_ROWS", 1)
    repository = opened(store)
    for number in range(MOST_SEGMENTS + 2):
        add(repository, str(number))
    assert [ref.rows for ref in repository.current().manifest.segments] == [1] * (MOST_SEGMENTS + 2)


@pytest.mark.parametrize("version", ["0123456789abcdef", "nope", EMPTY, "../HEAD", "a/b", "."])
def test_an_unknown_version_is_refused(repository: Repository, version: str) -> None:
    add(repository, "a")
    with pytest.raises(UnknownVersion, match="nearvote index history"):
        repository.manifest(version)
    with pytest.raises(UnknownVersion):
        repository.roll_back(version)
    assert messages(repository) == ["add a"]


def test_head_is_told_again_only_when_it_moved(repository: Repository) -> None:
    first = add(repository, "a")
    head = repository.poll_head()
    assert head is not None
    assert head[0] == first.version
    assert repository.poll_head(head[1]) is None
    second = add(repository, "b")
    moved = repository.poll_head(head[1])
    assert moved is not None
    assert moved[0] == second.version


def changed(data: bytes) -> bytes:
    """Still a readable file: one digit of a number is another."""
    at = max(data.rfind(b"\x3f"), data.rfind(b"1"))
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize(
    "spoil", [changed, lambda data: data[:-7], lambda data: data[:0]], ids=["changed", "cut", "empty"]
)
@pytest.mark.parametrize("kind", ["segments", "versions"])
def test_an_object_whose_bytes_changed_is_damaged(
    store: ObjectStore, kind: str, spoil: Callable[[bytes], bytes]
) -> None:
    add(opened(store), "a", "b")
    (key,) = store.keys(f"index/{kind}/")
    store.put(key, spoil(read(store, key)))
    with pytest.raises(Damaged, match="not what its name says"):
        opened(store).current()
    with pytest.raises(Damaged):
        add(opened(store), "c")


def read(store: ObjectStore, key: str) -> bytes:
    stored = store.get(key)
    assert stored is not None
    return stored.data


def test_a_missing_segment_is_damaged(store: ObjectStore) -> None:
    snapshot = add(opened(store), "a")
    (segment,) = snapshot.manifest.segments
    version = Objects(store).put_manifest(replace(snapshot.manifest, segments=(replace(segment, id="0" * 16),)))
    with pytest.raises(Damaged, match="segment 0000000000000000 is missing"):
        opened(store).load(version)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"format": 2}', "of a format that this nearvote cannot read"),
        (b'{"format": 1}', "no manifest"),
        (b"[]", "not a JSON object"),
        (b"{", "not JSON"),
    ],
)
def test_a_manifest_that_cannot_be_understood_is_damaged(store: ObjectStore, data: bytes, reason: str) -> None:
    version = hashlib.sha256(data).hexdigest()[:16]
    store.put(f"index/versions/{version}.json", data)
    with pytest.raises(Damaged, match=f"version {version} is {reason}"):
        opened(store).manifest(version)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b'{"version": 1}', b"\xff"])
def test_a_head_that_cannot_be_understood_is_damaged(store: ObjectStore, data: bytes) -> None:
    store.put(HEAD, data)
    with pytest.raises(Damaged, match=HEAD):
        opened(store).current()


def write_all(store: ObjectStore, writer: int, times: int) -> None:
    repository = opened(store)
    for number in range(times):
        add(repository, f"{writer}-{number}", "shared", score=writer / 10)


def assert_none_lost(store: ObjectStore, writers: int, times: int) -> None:
    scores = stored_contents(store)
    scores.pop("shared")
    assert scores == {f"{writer}-{number}": writer / 10 for writer in range(writers) for number in range(times)}
    history = list(opened(store).history(1000))
    assert [manifest.number for _, manifest in history] == list(range(writers * times + 1, 0, -1))
    written = [f"add {writer}-{number} shared" for writer in range(writers) for number in range(times)]
    assert sorted(manifest.message for _, manifest in history) == sorted([*written, "add shared"])


def test_of_200_edits_by_8_writers_at_once_none_is_lost(connect: Connect) -> None:
    add(opened(connect()), "shared")
    stores = [connect() for _ in range(WRITERS)]
    with ThreadPoolExecutor(WRITERS) as pool:
        for done in [pool.submit(write_all, store, writer, EDITS) for writer, store in enumerate(stores)]:
            done.result(timeout=120)
    assert_none_lost(connect(), WRITERS, EDITS)


forkserver = multiprocessing.get_context("forkserver")
forkserver.set_forkserver_preload(["index.versions", "tests.servers"])


def write_in_directory(root: Path, writer: int, times: int) -> None:
    write_all(DirectoryStore(root), writer, times)


def test_of_200_edits_by_4_processes_at_once_none_is_lost(tmp_path: Path) -> None:
    add(opened(DirectoryStore(tmp_path)), "shared")
    writers = [forkserver.Process(target=write_in_directory, args=(tmp_path, writer, 50)) for writer in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
    assert [writer.exitcode for writer in writers] == [0] * 4
    assert_none_lost(DirectoryStore(tmp_path), 4, 50)


def test_a_writer_that_always_loses_gives_up_in_bounded_time(
    directory_place: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Lost(Wrapped):
        def swap(self, key: str, data: bytes, expected: str | None) -> str:
            raise Conflict(f"{key}: {len(data)} bytes, always after {expected}")

    monkeypatch.setattr(versions, "PATIENCE_S", 0.2)
    with pytest.raises(StoreUnavailable, match="other writers kept moving HEAD"):
        add(opened(Lost(directory_place())), "a")
    assert stored_contents(directory_place()) == {}


class Crash(BaseException):
    """The process ends here; nothing catches it."""


class Crashing(Wrapped):
    """Ends the process at the n-th operation, before it is done or right after."""

    def __init__(self, store: ObjectStore, operation: int, done: bool) -> None:
        super().__init__(store)
        self._left = operation
        self._done = done

    def get(self, key: str, unless: str | None = None) -> Stored | None:
        with self._at_its_time():
            return super().get(key, unless)

    def put(self, key: str, data: bytes) -> None:
        with self._at_its_time():
            super().put(key, data)

    def swap(self, key: str, data: bytes, expected: str | None) -> str:
        with self._at_its_time():
            return super().swap(key, data, expected)

    @contextlib.contextmanager
    def _at_its_time(self) -> Iterator[None]:
        self._left -= 1
        if self._left == 0 and not self._done:
            raise Crash
        yield
        if self._left == 0:
            raise Crash


def rescored(base: Snapshot) -> Segment:
    """Every example with a score of .5, where it was 1, and the other way round."""
    return replace(base.examples, scores=np.float32(1.5) - base.examples.scores)


def swap_scores(repository: Repository) -> None:
    repository.replace_all(rescored, "rescore", FINGERPRINT)


def replace_shared(repository: Repository) -> None:
    """Drops rows, adds a segment, and merges all of them, as there are just enough."""
    ids = [f"shared-{row}" for row in range(SHARED_ROWS)]
    add(repository, *ids, score=1.5 - contents(repository.current())[ids[0]])


def roll_back_to_parent(repository: Repository) -> None:
    parent = repository.current().manifest.parent
    assert parent is not None
    repository.roll_back(parent)


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("write", [replace_shared, swap_scores, roll_back_to_parent])
def test_a_crash_at_any_operation_leaves_the_old_or_the_new_version(
    connect: Connect, write: Callable[[Repository], None], done: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "MOST_SEGMENTS", 3)
    store = connect()
    add(opened(store), *(f"shared-{row}" for row in range(SHARED_ROWS)))
    add(opened(store), *(f"shared-{row}" for row in range(SHARED_ROWS)), score=0.5)
    seen: list[float] = []
    for operation in itertools.count(1):
        (before,) = set(stored_contents(store).values())
        number = opened(store).current().manifest.number
        try:
            write(opened(Crashing(store, operation, done)))
        except Crash:
            crashed = True
        else:
            crashed = False
        after = stored_contents(store)
        assert after in (dict.fromkeys(after, score) for score in (before, 1.5 - before))
        assert len(after) == SHARED_ROWS
        (score,) = set(after.values())
        moved = opened(store).current().manifest.number - number
        assert moved == (score != before)
        seen.append(moved)
        if not crashed:
            break
    assert seen == sorted(seen)  # up to some operation it is the old version, from there on the new
    assert {0, 1} == set(seen)
    assert len(seen) > 5


def write_pairs(store: ObjectStore) -> None:
    """For ever: both of a pair with the next number, in one version."""
    repository = opened(store)
    while True:
        (score,) = set(contents(repository.current()).values())
        add(repository, "left", "right", score=round(score % 1 + 0.001, 3))


def write_pairs_in_directory(root: Path) -> None:
    write_pairs(DirectoryStore(root))


def write_pairs_in_s3(server: S3Server, prefix: str) -> None:
    write_pairs(S3Store(server.client(), BUCKET, prefix))


def assert_survives_kills(store: ObjectStore, start: Callable[[], multiprocessing.process.BaseProcess]) -> None:
    chance = random.Random(7)
    add(opened(store), "left", "right", score=0)
    for _ in range(KILLS):
        before = opened(store).current().manifest.number
        writer = start()
        try:
            await_version(store, before + 1)
            time.sleep(chance.uniform(0, 0.03))
        finally:
            writer.kill()
            writer.join(30)
        assert writer.exitcode == -9
        snapshot = opened(store).current()
        score = round((snapshot.manifest.number - 1) % 1000 / 1000, 3)
        assert contents(snapshot) == {"left": score, "right": score}
        assert snapshot.manifest.number > before
    history = [manifest.number for _, manifest in opened(store).history(100_000)]
    assert history == list(range(len(history), 0, -1))


def await_version(store: ObjectStore, number: int) -> None:
    deadline = time.monotonic() + 30
    while opened(store).current().manifest.number < number:
        assert time.monotonic() < deadline, "the writer wrote nothing"
        time.sleep(0.005)


def test_a_writer_killed_at_any_time_leaves_a_whole_version_in_a_directory(tmp_path: Path) -> None:
    def start() -> multiprocessing.process.BaseProcess:
        writer = forkserver.Process(target=write_pairs_in_directory, args=(tmp_path,))
        writer.start()
        return writer

    assert_survives_kills(DirectoryStore(tmp_path), start)


def test_a_writer_killed_at_any_time_leaves_a_whole_version_in_s3(s3_server: S3Server) -> None:
    prefix = f"versions/{next(prefixes)}"

    def start() -> multiprocessing.process.BaseProcess:
        writer = forkserver.Process(target=write_pairs_in_s3, args=(s3_server, prefix))
        writer.start()
        return writer

    with contextlib.closing(s3_server.client()) as client:
        assert_survives_kills(S3Store(client, BUCKET, prefix), start)


class LostAnswer(Wrapped):
    """The first swap is done, but its caller hears that it lost; `others` write before it looks again."""

    def __init__(self, store: ObjectStore, others: int) -> None:
        super().__init__(store)
        self._others = others
        self._swaps = 0

    def swap(self, key: str, data: bytes, expected: str | None) -> str:
        etag = super().swap(key, data, expected)
        self._swaps += 1
        if self._swaps > 1:
            return etag
        for number in range(self._others):
            add(opened(self.store), f"other-{number}")
        raise Conflict("the answer was lost, and the second attempt came second to the first")


@pytest.mark.parametrize("others", [0, 1, 2, 5])
@pytest.mark.parametrize("first", [True, False], ids=["first version", "later version"])
def test_an_edit_whose_answer_was_lost_is_not_applied_again(store: ObjectStore, others: int, first: bool) -> None:
    if not first:
        add(opened(store), "before")
    applied: list[str] = []

    def counted(base: Snapshot) -> Change:
        applied.append(base.version)
        return adding("mine")(base)

    made = opened(LostAnswer(store, others)).commit(counted, "mine", FINGERPRINT)
    assert len(applied) == 1
    assert (made.manifest.message, made.manifest.number) == ("mine", 1 if first else 2)
    written = [f"add other-{number}" for number in reversed(range(others))]
    assert messages(opened(store)) == [*written, "mine", *([] if first else ["add before"])]


@pytest.mark.parametrize("others", [1, 3])
def test_an_edit_that_did_lose_is_applied_to_what_the_others_made(store: ObjectStore, others: int) -> None:
    def meanwhile() -> None:
        for number in range(others):
            add(opened(store), f"other-{number}")

    add(opened(store), "before")
    made = add(opened(Interrupted(store, meanwhile)), "mine")
    assert made.manifest.number == others + 2
    assert contents(made) == {"before": 1, **{f"other-{number}": 1 for number in range(others)}, "mine": 1}


def test_a_rebuild_that_lost_takes_what_the_others_made(store: ObjectStore) -> None:
    add(opened(store), "a")
    late = opened(Interrupted(store, lambda: add(opened(store), "b")))
    assert contents(late.replace_all(rescored, "rescore", FINGERPRINT)) == {"a": 0.5, "b": 0.5}


def test_one_repository_serves_many_threads(store: ObjectStore) -> None:
    repository = opened(store)
    made = [add(repository, str(number)) for number in range(4)]
    expected = [{str(number): 1.0 for number in range(last + 1)} for last in range(4)]
    reader = opened(store)
    with ThreadPoolExecutor(8) as pool:
        loaded = pool.map(lambda snapshot: contents(reader.load(snapshot.version)), made * 4)
    assert list(loaded) == expected * 4


def test_a_version_can_be_asked_by_its_own_vectors(repository: Repository) -> None:
    add(repository, "a", "b")
    vector = unit(*range(1, DIMENSIONS + 1))
    found, rows = repository.current().search(vector[None, :], 2)
    products = repository.current().examples.vectors @ vector
    np.testing.assert_array_equal(rows[0], np.argsort(-products))
    np.testing.assert_allclose(found[0], np.sort(products)[::-1], atol=1e-6)
