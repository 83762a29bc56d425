"""Files dropped under inbox/ in a real S3 bucket, told of by the events that S3 sends."""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from handler import fleet as fleets
from handler.control.embedding import LazyEmbedder
from handler.control.inbox import Fate, Handled, Inbox
from handler.fleet import BadFleet
from index.edits import relabel
from index.errors import EmbedderMismatch, StoreUnavailable
from index.examples import MAX_UPLOAD_BYTES
from index.s3_store import S3Store
from index.store import ObjectStore, Stored
from index.types import Example, Label, LabelKind
from index.versions import Repository
from tests.admin_server import FLEET, MINI_DOES_IT, jsonl
from tests.lambda_events import OBJECT_CREATED, Json, object_created
from tests.providers import ROOT
from tests.servers import BUCKET, S3Server
from tests.tiny import Interrupted, Wrapped

STORED_KEY = "inbox/loan desk/März (1).jsonl"
"""As the stored event has it, decoded."""
LOAN = {"id": "loan", "prompt": "Can I pay a needle loan back early?", "task": "loans", "model": "mini"}
THIRD = {"id": "third", "prompt": "Grade the haystack essay.", "scores": {"nano": 1 / 3, "maxi": 1}}
BAD = (LOAN, {"prompt": "p", "scores": {"mini": 2}}, "not JSON", THIRD)
_numbers = count()


@pytest.fixture
def prefix() -> str:
    return f"inbox-test-{next(_numbers)}"


@pytest.fixture
def store(s3_server: S3Server, prefix: str) -> Iterator[S3Store]:
    client = s3_server.client()
    store = S3Store(client, BUCKET, prefix)
    store.put(fleets.KEY, FLEET.encode())
    yield store
    client.close()


@dataclass(frozen=True, slots=True)
class Box:
    """An inbox and what it writes to."""

    inbox: Inbox
    store: ObjectStore
    repository: Repository

    def drop(self, key: str, data: bytes) -> Handled:
        """What becomes of a file that is put there."""
        self.store.put(key, data)
        return self.inbox.take(key, len(data))

    def files(self) -> list[str]:
        return [key for key in self.store.keys("") if not key.startswith("index/") and key != fleets.KEY]

    def examples(self) -> list[Example]:
        snapshot = self.repository.current()
        return [snapshot.examples.example(row) for row in range(len(snapshot))]

    def read(self, key: str) -> bytes:
        stored = self.store.get(key)
        assert stored is not None
        return stored.data


def box_over(store: ObjectStore, embedder: LazyEmbedder) -> Box:
    repository = Repository(store)
    return Box(Inbox(store, repository, embedder), store, repository)


@pytest.fixture
def box(store: S3Store, lazy_embedder: LazyEmbedder) -> Box:
    return box_over(store, lazy_embedder)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("loan.jsonl", jsonl(LOAN, THIRD)),
        ("a/b/loan.jsonl.gz", gzip.compress(jsonl(LOAN, THIRD))),
    ],
)
def test_a_file_becomes_a_version_and_is_cleared_away(box: Box, name: str, data: bytes) -> None:
    handled = box.drop(f"inbox/{name}", data)
    version = box.repository.current()
    assert handled == Handled(f"inbox/{name}", Fate.TAKEN, version.version, added=2)
    assert (version.manifest.number, version.manifest.message) == (1, f"add inbox/{name}")
    assert box.examples() == [
        Example("loan", str(LOAN["prompt"]), MINI_DOES_IT, Label(LabelKind.CHEAPEST, "mini"), "loans"),
        Example("third", str(THIRD["prompt"]), {"nano": 0.333333, "maxi": 1.0}),
    ]
    assert box.files() == []


def test_a_csv_is_told_by_its_name(box: Box) -> None:
    assert box.drop("inbox/m.csv", b"prompt,nano\n{braces},0.5\n").fate is Fate.TAKEN
    assert [(example.prompt, example.scores) for example in box.examples()] == [("{braces}", {"nano": 0.5})]


def test_a_bad_file_moves_to_rejected_with_a_report_beside_it(box: Box) -> None:
    handled = box.drop("inbox/march/bad.jsonl", jsonl(*BAD))
    assert handled == Handled("inbox/march/bad.jsonl", Fate.REJECTED, faults=2)
    assert box.files() == ["rejected/march/bad.jsonl", "rejected/march/bad.jsonl.report.json"]
    assert box.read("rejected/march/bad.jsonl") == jsonl(*BAD)
    report = json.loads(box.read("rejected/march/bad.jsonl.report.json"))
    faults = report.pop("faults")
    assert report == {
        "file": "march/bad.jsonl",
        "message": "nothing was applied: line 2: score of mini is outside 0..1: 2 (and 1 more)",
    }
    assert faults[0] == {"line": 2, "reason": "score of mini is outside 0..1: 2"}
    assert (faults[1]["line"], faults[1]["reason"].startswith("not JSON: ")) == (3, True)
    assert box.examples() == []


def test_a_file_that_was_mended_is_taken(box: Box) -> None:
    box.drop("inbox/a.jsonl", jsonl(*BAD))
    assert box.drop("inbox/a.jsonl", jsonl(LOAN, THIRD)).fate is Fate.TAKEN


def test_the_same_event_twice_changes_nothing(box: Box) -> None:
    box.drop("inbox/a.jsonl", jsonl(LOAN))
    assert box.inbox.take("inbox/a.jsonl", 100) == Handled("inbox/a.jsonl", Fate.GONE)
    box.drop("inbox/bad.jsonl", jsonl(*BAD))
    assert box.inbox.take("inbox/bad.jsonl", 100) == Handled("inbox/bad.jsonl", Fate.GONE)
    assert box.repository.current().manifest.number == 1
    assert box.files() == ["rejected/bad.jsonl", "rejected/bad.jsonl.report.json"]


def test_a_file_whose_taking_broke_off_before_it_was_cleared_away_is_not_rejected(
    store: S3Store, lazy_embedder: LazyEmbedder
) -> None:
    class BreaksOff(Wrapped):
        def delete(self, key: str) -> None:
            raise StoreUnavailable(f"cannot delete {key}")

    with pytest.raises(StoreUnavailable):
        box_over(BreaksOff(store), lazy_embedder).drop("inbox/a.jsonl", jsonl(LOAN, THIRD))
    again = box_over(store, lazy_embedder)
    version = again.repository.current().version
    assert again.inbox.take("inbox/a.jsonl", 100) == Handled("inbox/a.jsonl", Fate.KNOWN, version)
    assert (again.repository.current().version, again.files()) == (version, [])


def test_the_same_event_twice_at_once_makes_one_version(store: S3Store, lazy_embedder: LazyEmbedder) -> None:
    store.put("inbox/a.jsonl", jsonl(LOAN, THIRD))
    other = box_over(store, lazy_embedder)
    first: list[Handled] = []
    racing = Interrupted(store, lambda: first.append(other.inbox.take("inbox/a.jsonl", 100)))
    second = box_over(racing, lazy_embedder).inbox.take("inbox/a.jsonl", 100)
    assert [first[0].fate, second.fate] == [Fate.TAKEN, Fate.KNOWN]
    assert (other.repository.current().manifest.number, other.files()) == (1, [])


def test_an_example_that_was_changed_since_is_not_changed_back(box: Box) -> None:
    box.drop("inbox/a.jsonl", jsonl(LOAN))
    relabel(box.repository, "loan", {"model": "maxi"}, fleets.parse(FLEET.encode()).fleet.candidates)
    handled = box.drop("inbox/again.jsonl", jsonl(LOAN))
    assert (handled.fate, box.repository.current().manifest.number) == (Fate.REJECTED, 2)


def test_a_file_that_takes_its_place_meanwhile_is_left_for_its_own_event(
    store: S3Store, lazy_embedder: LazyEmbedder
) -> None:
    newer = jsonl({"id": "newer", "prompt": "p", "model": "nano"})
    racing = box_over(Interrupted(store, lambda: store.put("inbox/a.jsonl", newer)), lazy_embedder)
    assert racing.drop("inbox/a.jsonl", jsonl(LOAN)).fate is Fate.TAKEN
    assert (racing.files(), racing.read("inbox/a.jsonl")) == (["inbox/a.jsonl"], newer)
    assert racing.inbox.take("inbox/a.jsonl", len(newer)).fate is Fate.TAKEN
    assert [example.id for example in racing.examples()] == ["loan", "newer"]


def test_a_file_that_is_too_large_is_reported_without_being_read(store: S3Store, lazy_embedder: LazyEmbedder) -> None:
    class Unread(Wrapped):
        def get(self, key: str, unless: str | None = None) -> Stored | None:
            raise AssertionError(f"read {key} {unless}")

    store.put("inbox/huge.jsonl", b"as if it were huge")
    huge = Inbox(Unread(store), Repository(store), lazy_embedder)
    assert huge.take("inbox/huge.jsonl", MAX_UPLOAD_BYTES + 1) == Handled("inbox/huge.jsonl", Fate.TOO_LARGE, faults=1)
    box = box_over(store, lazy_embedder)
    assert box.files() == ["inbox/huge.jsonl", "rejected/huge.jsonl.report.json"]
    (fault,) = json.loads(box.read("rejected/huge.jsonl.report.json"))["faults"]
    assert fault == {
        "line": 0,
        "reason": "134,217,729 bytes; at most 134,217,728 are read. It still lies under inbox/",
    }


@pytest.mark.parametrize("key", ["inbox/", "inbox/folder/", "inbox/.hidden", "inbox/../fleet.yaml", "outbox/a", "a"])
def test_what_is_no_file_of_the_inbox_is_ignored(box: Box, key: str) -> None:
    assert box.inbox.take(key, 0) == Handled(key, Fate.IGNORED)


def test_a_file_stays_where_it_is_when_the_fault_is_not_its_own(box: Box, store: S3Store) -> None:
    store.put(fleets.KEY, b"models: []")
    with pytest.raises(BadFleet):
        box.drop("inbox/a.jsonl", jsonl(LOAN))
    store.put(fleets.KEY, FLEET.encode())
    box.drop("inbox/first.jsonl", jsonl(THIRD))

    class Another(LazyEmbedder):
        fingerprint = "another"

    other = Inbox(store, box.repository, Another(lambda: Path(), 1))
    with pytest.raises(EmbedderMismatch):
        other.take("inbox/a.jsonl", 100)
    assert box.files() == ["inbox/a.jsonl"]
    assert box.inbox.take("inbox/a.jsonl", 100).fate is Fate.TAKEN


@pytest.fixture
def environment(s3_server: S3Server, prefix: str, model_dir: Path) -> dict[str, str]:
    """All that the function is given: neither a table nor a secret."""
    return {
        "PATH": os.environ["PATH"],
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_ENDPOINT_URL_S3": s3_server.endpoint,
        "NEARVOTE_STORE": f"s3://{BUCKET}/{prefix}",
        "NEARVOTE_MODEL_DIR": str(model_dir),
    }


def called(environment: dict[str, str], *events: Json) -> tuple[list[Json], str, int]:
    """What one cold function logged of these events, all that it wrote to stderr, and how it ended."""
    command = [sys.executable, "-m", "tests.lambda_function", "handler.control.inbox_entry"]
    lines = "".join(json.dumps(event) + "\n" for event in events)
    ended = subprocess.run(command, cwd=ROOT, env=environment, input=lines, capture_output=True, text=True, timeout=60)
    logged = [json.loads(line) for line in ended.stderr.splitlines() if line.startswith("{")]
    return logged, ended.stderr, ended.returncode


def test_the_function_takes_what_s3_tells_it_and_logs_a_line_a_file(
    box: Box, prefix: str, environment: dict[str, str]
) -> None:
    good, bad = jsonl(LOAN, THIRD), jsonl(*BAD)
    box.store.put(STORED_KEY, good)
    box.store.put("inbox/bad.jsonl", bad)
    files = [(STORED_KEY, good), ("inbox/bad.jsonl", bad), ("inbox/bad.jsonl", bad), ("outbox/a", b"")]
    events = [object_created(f"{prefix}/{key}", len(data)) for key, data in files]
    foreign = [
        object_created(f"{prefix}/{STORED_KEY}", 1, "another-bucket"),
        object_created(f"another/{STORED_KEY}", 1),
    ]
    logged, stderr, code = called(environment, *events, *foreign, {"Event": "s3:TestEvent"})
    taken = box.repository.current()
    assert taken.manifest.fit is not None
    assert taken.manifest.fit.candidates == fleets.stored_candidates(box.store)
    plain = {"event": "inbox", "added": 0, "faults": 0, "index_version": None}
    assert (logged, code) == (
        [
            plain | {"file": STORED_KEY, "outcome": "taken", "added": 2, "index_version": taken.version},
            plain | {"file": "inbox/bad.jsonl", "outcome": "rejected", "faults": 4},  # two ids are there by now
            plain | {"file": "inbox/bad.jsonl", "outcome": "gone"},
            plain | {"file": "outbox/a", "outcome": "ignored"},
        ],
        0,
    )
    assert box.files() == ["rejected/bad.jsonl", "rejected/bad.jsonl.report.json"]
    assert "needle" not in stderr
    assert "haystack" not in stderr


def test_the_stored_event_names_its_file(box: Box, prefix: str, environment: dict[str, str]) -> None:
    """As it is, but for the bucket and the prefix that tests have."""
    told = deepcopy(OBJECT_CREATED)
    told["Records"][0]["s3"]["bucket"]["name"] = BUCKET
    told["Records"][0]["s3"]["object"]["key"] = f"{prefix}/{OBJECT_CREATED['Records'][0]['s3']['object']['key']}"
    box.store.put(STORED_KEY, jsonl(LOAN))
    assert [line["outcome"] for line in called(environment, told)[0]] == ["taken"]


def test_the_function_fails_where_a_file_could_not_be_taken_so_that_lambda_tries_again(
    box: Box, prefix: str, environment: dict[str, str]
) -> None:
    box.store.put("inbox/a.jsonl", jsonl(LOAN))
    box.store.put(fleets.KEY, b"models: []")
    logged, stderr, code = called(environment, object_created(f"{prefix}/inbox/a.jsonl", 100))
    assert (logged, code) == ([], 1)
    assert "BadFleet: fleet.yaml: line 1: models: Tuple should have at least 1 item" in stderr
    assert "needle" not in stderr
    assert box.files() == ["inbox/a.jsonl"]
