"""What AWS charges, worked out by hand, for what nearvote is counted to do."""

import logging
import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from handler import fleet as fleets
from handler.data.account import Accountant, Ending, Errand
from handler.data.forward import Reply
from handler.data.health import Target
from handler.data.live import Live, Watcher
from handler.data.record import log, record
from handler.data.sessions import NOTHING, Sessions
from handler.data.speeds import SHARE_S, Speeds
from handler.fleet import Deployment, Fleet, FleetFile, Model, Price
from handler.flow import Ask, Cause, Decision, Outcome, Preferences, Prompt, Ranked, Usage
from handler.keys import KeyRecord, KeyStore, NewKey
from handler.ledger import Ledger
from handler.sqlite_table import SqliteTable
from handler.table import Count, Record
from index.directory_store import DirectoryStore
from index.store import Stored
from index.versions import Repository
from tests.admin_server import FLEET
from tests.bench import aws_cost
from tests.bench.aws_cost import Load, per_million
from tests.dynamodb_server import Clock
from tests.nearvote_server import copy_home
from tests.providers import ROOT

README = (ROOT / "README.md").read_text()


def test_a_million_requests_of_two_seconds_cost_what_a_hand_works_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws_cost, "OWN_SECONDS", 0.25)
    bill = per_million(
        Load(1.75, memory_mb=2048, answer_bytes=98_000, poll_seconds=4.0, logged_bytes=1_000, architecture="arm64")
    )
    # 3,500,000 GB-seconds at $0.0000133334.
    assert bill.waiting == pytest.approx(46.6669)
    # 500,000 of nearvote's own, and a million calls at $0.20.
    assert bill.work == pytest.approx(6.8667)
    assert bill.api == pytest.approx(3.50)
    # 98,000 bytes out to the client and 2,000 to the model, a million times: 100 GB at $0.09.
    assert bill.transfer == pytest.approx(9.00)
    # A look every other request, of two GETs: a million GETs at $0.40.
    assert bill.index == pytest.approx(0.40)
    # Two requests for three seconds that a key is kept: 666,667 reads at $0.125 a million.
    assert bill.keys == pytest.approx(0.125 * 2 / 3)
    # A write each, and in every fifteenth request a read and a write more: 1,066,667 at $0.625 and 66,667 at $0.125.
    assert bill.spending == pytest.approx(0.625 * 16 / 15 + 0.125 / 15)
    # 150 requests for 300 seconds that the secret is kept: 6,667 calls at $0.05 for 10,000.
    assert bill.secret == pytest.approx(0.05 * 2 / 3)
    # 1 GB.
    assert bill.logs == pytest.approx(0.50)
    assert bill.total == pytest.approx(46.6669 + 6.8667 + 3.50 + 9.00 + 0.40 + 0.175 * 2 / 3 + 0.675 + 0.50)


@pytest.mark.parametrize(("memory_mb", "seconds"), [(1769, 0.007), (3538, 0.007), (1024, 0.007 * 1769 / 1024)])
def test_less_than_a_cpu_works_longer_and_more_than_one_no_less(memory_mb: int, seconds: float) -> None:
    assert Load(1.0, memory_mb).own_seconds == pytest.approx(seconds)


@pytest.mark.parametrize("poll_seconds", [0.0, 2.0, 8.0])
def test_no_request_looks_twice_or_reads_its_key_twice(poll_seconds: float) -> None:
    bill = per_million(Load(8.0, poll_seconds=poll_seconds))
    assert bill.index == pytest.approx(0.80)
    assert bill.keys == pytest.approx(0.125)


def test_the_readme_has_the_costs_that_are_computed() -> None:
    assert aws_cost.PRICED in README
    assert aws_cost.cost_table() in README


def test_nearvotes_own_time_is_that_of_the_rate_that_was_measured() -> None:
    rate = re.search(r"^\| `auto`, requests/s on one core,[^|]* \| (\d+) to (\d+) \|$", README, re.MULTILINE)
    assert rate is not None
    assert 1 / int(rate[2]) <= aws_cost.OWN_SECONDS <= 1 / int(rate[1])


def test_what_is_deployed_is_what_is_priced() -> None:
    template = (ROOT / "template.yaml").read_text()
    default = re.search(r"^  DataMemory:\n    Type: Number\n    Default: (\d+)$", template, re.MULTILINE)
    assert default is not None
    assert int(default[1]) == Load(1.0).memory_mb
    assert "NEARVOTE_POLL_SECONDS" not in template


class CountingStore(DirectoryStore):
    gets = 0

    def get(self, key: str, unless: str | None = None) -> Stored | None:
        self.gets += 1
        return super().get(key, unless)


class CountingTable(SqliteTable):
    """Counts reads and writes as DynamoDB does: one for each item."""

    gets = writes = 0

    def get(self, kind: str, id: str) -> Record | None:
        self.gets += 1
        return super().get(kind, id)

    def put(
        self, kind: str, id: str, value: Mapping[str, Any], expected: int | None, expires_at: int | None = None
    ) -> Record:
        self.writes += 1
        return super().put(kind, id, value, expected, expires_at)

    def write(self, kind: str, id: str, value: Mapping[str, Any], expires_at: int) -> None:
        self.writes += 1
        super().write(kind, id, value, expires_at)

    def count(self, kind: str, counts: Sequence[Count]) -> None:
        self.writes += len(counts)
        super().count(kind, counts)


def test_a_look_that_finds_nothing_new_has_as_many_gets_as_are_priced(starter_home: Path, tmp_path: Path) -> None:
    home = copy_home(starter_home, tmp_path / "home")
    (home / fleets.KEY).write_text(FLEET)
    store = CountingStore(home)
    repository = Repository(store)
    watcher = Watcher(store, repository, repository.current().manifest.fingerprint, interval=2.0)
    store.gets = 0
    watcher.refresh()
    assert watcher.live.ballot is not None
    assert store.gets == aws_cost.GETS_PER_LOOK


def test_a_key_is_read_once_in_as_long_as_is_priced(tmp_path: Path) -> None:
    with closing(CountingTable(tmp_path / "state.db")) as table:
        _, key = KeyStore(table, b"pepper").create(NewKey(name="app"))
        clock = Clock(0.0)
        keys = KeyStore(table, b"pepper", clock)
        reads = []
        for clock.seconds in (0.0, 1.0, aws_cost.KEY_SECONDS - 0.01, aws_cost.KEY_SECONDS):
            assert keys.authenticate(key) is not None
            reads.append(table.gets)
    assert reads == [1, 1, 1, 2]


DEPLOYMENT = Deployment(base_url="http://a/v1")
MODEL = Model(name="m", price=Price(input=1, output=1), deployments=(DEPLOYMENT,))


@pytest.mark.parametrize(
    ("options", "tokens", "seconds", "reads", "writes"),
    [
        ({}, 500, 0.0, 0, aws_cost.SETTLING_WRITES),
        ({}, 500, SHARE_S, 1, aws_cost.SETTLING_WRITES + 1),
        (
            {"budget_day": 1.0, "requests_per_minute": 9},
            500,
            0.0,
            0,
            aws_cost.SETTLING_WRITES + aws_cost.RESERVING_WRITES,
        ),
        ({}, 2_000, 0.0, aws_cost.REMEMBERING_READS, aws_cost.SETTLING_WRITES + aws_cost.REMEMBERING_WRITES),
    ],
)
async def test_a_request_reads_and_writes_as_often_as_is_priced(
    options: dict[str, Any], tokens: int, seconds: float, reads: int, writes: int, tmp_path: Path
) -> None:
    clock = Clock(1_000.0)
    key = KeyRecord(id="0" * 12, name="app", digest="0" * 64, created_at="", **options)
    ask = Ask("auto", False, Prompt("text", tokens, 500), Preferences(), {}, session="conversation")
    live = Live(FleetFile(Fleet(models=(MODEL,)), "f"), None, "")
    errand = Errand(key, ask, live, NOTHING, Decision("dec", "m", Cause.VOTE, "auto", 0.001), started=0.0)
    reply = Reply(Target(MODEL, DEPLOYMENT), httpx.Response(200), b"", {}, None, 1_000.0)
    with closing(CountingTable(tmp_path / "state.db", clock)) as table:
        accountant = Accountant(Ledger(table, clock), Sessions(table, clock), Speeds(table, clock), delay=0.0)
        clock.seconds += seconds
        await accountant.recall(key, ask)
        await accountant.close(await accountant.reserve(errand), Ending(200, reply, Usage(tokens, 100)))
        assert (table.gets, table.writes) == (reads, writes)


def test_a_request_line_is_no_longer_than_is_priced(caplog: pytest.LogCaptureFixture) -> None:
    key = KeyRecord(id="0" * 12, name="app", digest="0" * 64, created_at="2026-01-01T00:00:00+00:00")
    ranking = (Ranked("a-model-of-a-usual-length-20250929", 0.9, 0.9, 0.0123456, 0.4),)
    decision = Decision(
        f"dec-{'0' * 24}",
        ranking[0].model,
        Cause.VOTE,
        "auto",
        0.0123456,
        0.7512,
        ranking=ranking,
        index_version="0" * 16,
        fleet_version="0" * 16,
    )
    with caplog.at_level(logging.INFO, log.name):
        record(decision, key, Outcome(200, True, 12.34, 8000.1, Usage(1000, 500), 0.0123456, saved=0.0876543))
    (line,) = caplog.messages
    assert aws_cost.REQUEST_LINE_BYTES * 0.8 < len(line) <= aws_cost.REQUEST_LINE_BYTES
