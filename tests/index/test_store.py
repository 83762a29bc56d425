import contextlib
import itertools
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from botocore.stub import Stubber

from index.directory_store import DirectoryStore
from index.errors import Conflict, StoreUnavailable
from index.s3_store import S3Store
from index.store import ObjectStore, Stored, open_store
from tests.servers import BUCKET, S3Server, free_ports

REFUSED = [
    "",
    "/",
    "/etc/passwd",
    "..",
    "../x",
    "a/../b",
    "a//b",
    "a/",
    "./a",
    ".lock",
    "a/.b",
    "a\0b",
    "a\nb",
]
numbers = itertools.count(1)


@pytest.fixture(params=["directory", "s3"])
def store(request: pytest.FixtureRequest) -> ObjectStore:
    kind: ObjectStore = request.getfixturevalue(f"{request.param}_store")
    return kind


@pytest.fixture
def directory_store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "state")


@pytest.fixture
def s3_store(s3_server: S3Server) -> Iterator[S3Store]:
    with contextlib.closing(s3_server.client()) as client:
        yield S3Store(client, BUCKET, f"store/{next(numbers)}")


def got(store: ObjectStore, key: str) -> Stored:
    stored = store.get(key)
    assert stored is not None
    return stored


def increment(store: ObjectStore, key: str, times: int) -> None:
    for _ in range(times):
        while True:
            stored = store.get(key)
            count = int(stored.data) if stored else 0
            try:
                store.swap(key, b"%d" % (count + 1), stored.etag if stored else None)
            except Conflict:
                continue
            break


def increment_in_directory(root: Path, key: str, times: int) -> None:
    increment(DirectoryStore(root), key, times)


def test_what_is_put_is_got(store: ObjectStore) -> None:
    data = bytes(range(256)) * 4096
    store.put("segments/one.npz", data)
    assert got(store, "segments/one.npz").data == data


def test_an_empty_object_is_an_object(store: ObjectStore) -> None:
    store.put("empty", b"")
    assert got(store, "empty").data == b""


def test_a_second_put_replaces_the_first(store: ObjectStore) -> None:
    store.put("a", b"longer than the second")
    store.put("a", b"second")
    assert got(store, "a").data == b"second"


def test_a_missing_object_is_none(store: ObjectStore) -> None:
    assert store.get("segments/none") is None
    assert store.get("segments/none", unless="some etag") is None


def test_a_key_below_an_object_and_a_folder_are_none(store: ObjectStore) -> None:
    store.put("a/b", b"1")
    assert store.get("a") is None
    assert store.get("a/b/c") is None


def test_an_unchanged_object_comes_back_without_its_data(store: ObjectStore) -> None:
    store.put("HEAD.json", b"one")
    etag = got(store, "HEAD.json").etag
    assert store.get("HEAD.json", unless=etag) == Stored(b"", etag)


def test_a_changed_object_comes_back_whole(store: ObjectStore) -> None:
    store.put("HEAD.json", b"one")
    etag = got(store, "HEAD.json").etag
    store.put("HEAD.json", b"two")
    stored = store.get("HEAD.json", unless=etag)
    assert stored is not None
    assert stored.data == b"two"
    assert stored.etag != etag


def test_a_swap_returns_the_etag_that_get_gives(store: ObjectStore) -> None:
    first = store.swap("HEAD.json", b"one", None)
    assert store.get("HEAD.json") == Stored(b"one", first)
    second = store.swap("HEAD.json", b"two", first)
    assert store.get("HEAD.json") == Stored(b"two", second)


def test_only_the_first_swap_from_nothing_wins(store: ObjectStore) -> None:
    store.swap("HEAD.json", b"one", None)
    with pytest.raises(Conflict):
        store.swap("HEAD.json", b"two", None)
    assert got(store, "HEAD.json").data == b"one"


def test_a_swap_with_a_stale_etag_conflicts(store: ObjectStore) -> None:
    stale = store.swap("HEAD.json", b"one", None)
    store.swap("HEAD.json", b"two", stale)
    with pytest.raises(Conflict):
        store.swap("HEAD.json", b"three", stale)
    assert got(store, "HEAD.json").data == b"two"


def test_a_swap_of_an_object_that_is_gone_conflicts(store: ObjectStore) -> None:
    etag = store.swap("HEAD.json", b"one", None)
    with pytest.raises(Conflict):
        store.swap("other.json", b"two", etag)
    assert store.get("other.json") is None


def test_what_is_deleted_is_missing_and_can_be_written_again(store: ObjectStore) -> None:
    store.put("a/b", b"1")
    store.put("a/c", b"2")
    store.delete("a/b")
    assert store.get("a/b") is None
    assert list(store.keys("")) == ["a/c"]
    store.swap("a/b", b"3", None)
    assert got(store, "a/b").data == b"3"


def test_a_delete_of_what_is_missing_changes_nothing(store: ObjectStore) -> None:
    store.put("a/b", b"1")
    for key in ("none", "a", "a/c", "a/b/c", "no/such/folder"):
        store.delete(key)
    store.delete("a/b")
    store.delete("a/b")
    assert list(store.keys("")) == []


def test_a_swap_of_what_was_deleted_meanwhile_conflicts(store: ObjectStore) -> None:
    etag = store.swap("HEAD.json", b"one", None)
    store.delete("HEAD.json")
    with pytest.raises(Conflict):
        store.swap("HEAD.json", b"two", etag)
    assert store.get("HEAD.json") is None


def test_keys_are_listed_by_prefix_in_order(store: ObjectStore) -> None:
    for key in ["b/2", "a/b/c", "b/10", "a.b", "a/é", "b2", "a/b.c"]:
        store.put(key, b"1")
    store.swap("b/3", b"1", None)
    assert list(store.keys("")) == ["a.b", "a/b.c", "a/b/c", "a/é", "b/10", "b/2", "b/3", "b2"]
    assert list(store.keys("b/")) == ["b/10", "b/2", "b/3"]
    assert list(store.keys("b")) == ["b/10", "b/2", "b/3", "b2"]
    assert list(store.keys("a/b/")) == ["a/b/c"]
    assert list(store.keys("none/")) == []


@pytest.mark.parametrize("key", REFUSED)
def test_a_key_that_could_lead_elsewhere_is_refused(store: ObjectStore, key: str) -> None:
    with pytest.raises(ValueError, match="not a key"):
        store.get(key)
    with pytest.raises(ValueError, match="not a key"):
        store.put(key, b"1")
    with pytest.raises(ValueError, match="not a key"):
        store.swap(key, b"1", None)
    with pytest.raises(ValueError, match="not a key"):
        store.delete(key)


@pytest.mark.parametrize("prefix", ["/", "../", "a/../", ".", "a//"])
def test_a_prefix_that_no_key_has_is_refused(store: ObjectStore, prefix: str) -> None:
    with pytest.raises(ValueError, match="not the start of a key"):
        store.keys(prefix)


def test_8_threads_that_increment_one_counter_lose_nothing(store: ObjectStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(increment, store, "counter", 25) for _ in range(8)]:
            done.result(timeout=60)
    assert got(store, "counter").data == b"200"


def test_4_processes_that_increment_one_counter_in_a_directory_lose_nothing(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=increment_in_directory, args=(tmp_path, "counter", 25)) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0, 0, 0]
    assert got(DirectoryStore(tmp_path), "counter").data == b"100"


def test_a_reader_never_sees_a_part_of_an_object(store: ObjectStore) -> None:
    objects = [bytes([letter]) * 2_000_000 for letter in b"ab"]
    store.put("large", objects[0])
    stop = threading.Event()

    def write() -> None:
        for data in itertools.cycle(objects):
            if stop.is_set():
                return
            store.put("large", data)

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        try:
            seen = {got(store, "large").data for _ in range(40)}
        finally:
            stop.set()
        writing.result(timeout=30)
    assert seen <= set(objects)


def test_what_a_killed_writer_leaves_behind_is_not_listed(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    writer = multiprocessing.get_context("spawn").Process(target=die_while_writing, args=(tmp_path,))
    writer.start()
    writer.join(30)
    assert writer.exitcode == 9
    assert [path.suffix for path in (tmp_path / "index").iterdir() if path.name != ".lock"] == [".tmp"]
    assert store.get("index/HEAD.json") is None
    assert list(store.keys("")) == []
    store.swap("index/HEAD.json", b"the lock is free again", None)
    assert list(store.keys("")) == ["index/HEAD.json"]


def die_while_writing(root: Path) -> None:
    pytest.MonkeyPatch().setattr(os, "fsync", lambda _: os._exit(9))
    DirectoryStore(root).swap("index/HEAD.json", b"never seen", None)


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreUnavailable, match="cannot write"):
        DirectoryStore(tmp_path).put("folder", b"1")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "folder"]


def test_a_file_that_a_user_edits_is_an_object(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    (tmp_path / "fleet.yaml").write_text("models: []\n")
    first = got(store, "fleet.yaml")
    assert first.data == b"models: []\n"
    (tmp_path / "fleet.yaml").write_text("models: {}\n")
    with pytest.raises(Conflict):
        store.swap("fleet.yaml", b"", first.etag)
    second = store.get("fleet.yaml", unless=first.etag)
    assert second is not None
    assert second.data == b"models: {}\n"
    assert list(store.keys("")) == ["fleet.yaml"]


def test_a_directory_that_cannot_be_used_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = DirectoryStore(tmp_path / "file")
    assert store.get("a") is None
    assert list(store.keys("")) == []
    with pytest.raises(StoreUnavailable, match="cannot write"):
        store.put("a", b"1")


def test_a_directory_is_opened_by_its_path(tmp_path: Path) -> None:
    open_store(str(tmp_path / "state")).put("a/b", b"1")
    assert (tmp_path / "state" / "a" / "b").read_bytes() == b"1"


@pytest.mark.parametrize("url", ["s3://", "s3:///prefix", "gs://bucket", "file:///tmp"])
def test_an_unknown_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="s3://bucket"):
        open_store(url)


@pytest.fixture
def s3_environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the-secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return monkeypatch


def test_s3_is_opened_by_its_url(s3_server: S3Server, s3_environment: pytest.MonkeyPatch) -> None:
    s3_environment.setenv("AWS_ENDPOINT_URL", s3_server.endpoint)
    open_store(f"s3://{BUCKET}/opened/by/url/").put("a", b"1")
    assert got(open_store(f"s3://{BUCKET}"), "opened/by/url/a").data == b"1"
    assert list(open_store(f"s3://{BUCKET}").keys("opened/")) == ["opened/by/url/a"]


@pytest.mark.parametrize(
    ("status", "code"),
    [(412, "PreconditionFailed"), (409, "ConditionalRequestConflict"), (404, "NoSuchKey")],
)
def test_all_the_ways_s3_says_that_a_write_was_second_are_conflicts(status: int, code: str) -> None:
    client = S3Server("http://127.0.0.1:9").client()
    with contextlib.closing(client), Stubber(client) as answers:
        answers.add_client_error("put_object", code, http_status_code=status)
        with pytest.raises(Conflict):
            S3Store(client, "bucket").swap("HEAD.json", b"two", "an etag")


def test_a_missing_bucket_is_unavailable(s3_server: S3Server) -> None:
    with contextlib.closing(s3_server.client()) as client:
        store = S3Store(client, "no-such-bucket")
        with pytest.raises(StoreUnavailable, match=r"cannot read 'a' in bucket no-such-bucket: NoSuchBucket \(404\)"):
            store.get("a")
        with pytest.raises(StoreUnavailable, match=r"cannot delete 'a' in bucket no-such-bucket: NoSuchBucket \(404\)"):
            store.delete("a")
        with pytest.raises(StoreUnavailable, match="cannot list"):
            store.keys("")


def test_an_unreachable_s3_is_unavailable_in_bounded_time(s3_environment: pytest.MonkeyPatch) -> None:
    s3_environment.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_ports(1)[0]}")
    store = open_store("s3://bucket/prefix")
    start = time.monotonic()
    with pytest.raises(StoreUnavailable, match="cannot read 'HEAD' in bucket bucket") as caught:
        store.get("HEAD")
    assert time.monotonic() - start < 15
    assert "the-secret" not in str(caught.value)
