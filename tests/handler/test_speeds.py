"""How fast deployments answer, counted by hand: 300 s halve what was seen before."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from handler.data.health import Target
from handler.data.speeds import ATTEMPTS, KEPT_S, KIND, SHARE_S, Speed, Speeds
from handler.fleet import Deployment, Model, Price
from handler.sqlite_table import SqliteTable
from handler.table import Record, RecordConflict, Table
from tests.dynamodb_server import Clock, OpenTable

NEAR = Deployment(base_url="http://near/v1")
FAR = Deployment(base_url="http://far/v1", weight=3.0)
MODEL = Model(name="m", price=Price(input=1, output=1), deployments=(NEAR, FAR))
AT_NEAR, AT_FAR = Target(MODEL, NEAR), Target(MODEL, FAR)
ALONE = MODEL.model_copy(update={"deployments": (NEAR,)})


@dataclass
class Pair:
    """Two processes over one table."""

    one: Speeds
    other: Speeds
    clock: Clock
    table: Table


@pytest.fixture
def pair(open_table_again: OpenTable) -> Pair:
    clock = Clock(1_000.0)
    table = open_table_again(clock)
    return Pair(Speeds(table, clock), Speeds(open_table_again(clock), clock), clock, table)


def share(speeds: Speeds, clock: Clock) -> None:
    clock.seconds += SHARE_S
    speeds.share_if_due()


def test_what_was_seen_counts_half_after_five_minutes() -> None:
    assert Speed(1_000.0, 400.0, 1.0, 800.0, 40.0).aged(1_300.0) == Speed(1_300.0, 200.0, 0.5, 400.0, 20.0)
    assert Speed(1_000.0, 400.0, 1.0).aged(900.0) == Speed(900.0, 400.0, 1.0)


def test_a_sum_is_as_of_the_later() -> None:
    early, late = Speed(1_000.0, 400.0, 1.0, 800.0, 40.0), Speed(1_300.0, 100.0, 1.0, 80.0, 4.0)
    assert early.plus(late) == late.plus(early) == Speed(1_300.0, 300.0, 1.5, 480.0, 24.0)
    assert early.plus(late).less(early) == late


def test_nothing_is_expected_of_what_was_never_seen() -> None:
    assert Speeds(None, Clock()).expected_ms(MODEL, 100) is None


def test_a_stream_tells_the_time_to_the_first_token_and_that_of_each() -> None:
    speeds = Speeds(None, Clock())
    speeds.note_stream(AT_NEAR, first_ms=200.0, seconds=2.0, output_tokens=100)
    assert speeds.expected_ms(ALONE, 10) == 200 + 10 * 20


def test_a_whole_answer_tells_the_time_of_a_token_in_which_the_first_is() -> None:
    speeds = Speeds(None, Clock())
    speeds.note_whole(AT_NEAR, ms=1_000.0, output_tokens=50)
    assert speeds.expected_ms(ALONE, 10) == 10 * 20


def test_beside_streams_a_whole_answer_tells_what_comes_after_the_first() -> None:
    speeds = Speeds(None, Clock())
    speeds.note_stream(AT_NEAR, first_ms=200.0, seconds=1.0, output_tokens=100)
    speeds.note_whole(AT_NEAR, ms=3_200.0, output_tokens=100)
    assert speeds.expected_ms(ALONE, 10) == 200 + 10 * 20  # (1,000 + 3,000) / 200


def test_an_answer_without_tokens_tells_nothing() -> None:
    speeds = Speeds(None, Clock())
    speeds.note_whole(AT_NEAR, ms=1_000.0, output_tokens=0)
    assert speeds.expected_ms(ALONE, 10) is None


def test_the_old_counts_less_than_the_new() -> None:
    clock = Clock(1_000.0)
    speeds = Speeds(None, clock)
    speeds.note_whole(AT_NEAR, ms=4_000.0, output_tokens=100)
    clock.seconds += 600
    speeds.note_whole(AT_NEAR, ms=1_000.0, output_tokens=100)
    assert speeds.expected_ms(ALONE, 1) == (4_000 / 4 + 1_000) / (100 / 4 + 100)


def test_a_model_is_as_fast_as_its_deployments_by_their_weights() -> None:
    speeds = Speeds(None, Clock())
    speeds.note_whole(AT_NEAR, ms=1_000.0, output_tokens=100)
    assert speeds.expected_ms(MODEL, 10) == 100  # nothing is known of the other
    speeds.note_whole(AT_FAR, ms=5_000.0, output_tokens=100)
    assert speeds.expected_ms(MODEL, 10) == (1 * 100 + 3 * 500) / 4


def test_what_nobody_called_for_an_hour_is_unknown_again() -> None:
    """Else a model that was slow once would be kept out by a limit on latency, and never show that it is fast now."""
    clock = Clock(1_000.0)
    speeds = Speeds(None, clock)
    speeds.note_whole(AT_NEAR, ms=1_000.0, output_tokens=100)
    clock.seconds += KEPT_S - 1
    assert speeds.expected_ms(ALONE, 1) == 10
    clock.seconds += 1
    assert speeds.expected_ms(ALONE, 1) is None


def test_nothing_is_shared_before_it_is_time(pair: Pair) -> None:
    pair.one.note_whole(AT_NEAR, ms=1_000.0, output_tokens=100)
    pair.clock.seconds += SHARE_S - 1
    pair.one.share_if_due()
    assert pair.table.list(KIND) == []


def test_two_processes_come_to_know_what_both_saw(pair: Pair) -> None:
    pair.one.note_whole(AT_NEAR, ms=1_000.0, output_tokens=100)
    pair.other.note_whole(AT_NEAR, ms=5_000.0, output_tokens=100)
    share(pair.one, pair.clock)
    pair.other.share_if_due()
    assert pair.one.expected_ms(ALONE, 1) == 10
    assert pair.other.expected_ms(ALONE, 1) == pytest.approx(30)
    pair.one.note_stream(AT_NEAR, first_ms=7.0, seconds=0.0, output_tokens=0)
    share(pair.one, pair.clock)
    assert pair.one.expected_ms(ALONE, 1) == pytest.approx(7 + 30)


def test_what_was_shared_is_not_shared_twice(pair: Pair) -> None:
    pair.one.note_whole(AT_NEAR, ms=1_000.0, output_tokens=100)
    share(pair.one, pair.clock)
    share(pair.one, pair.clock)
    (stored,) = pair.table.list(KIND)
    assert stored == Record(
        stored.id, {"at": 1_000.0, "first_ms": 0.0, "firsts": 0.0, "token_ms": 1_000.0, "tokens": 100.0}, 1
    )


class Meanwhile(SqliteTable):
    """Lets something happen before each write."""

    def __init__(self, path: Path, clock: Clock) -> None:
        super().__init__(path, clock)
        self.happening: Callable[[], object] = lambda: None
        self.puts = 0

    def put(self, kind: str, id: str, value: object, expected: int | None, expires_at: int | None = None) -> Record:
        self.puts += 1
        self.happening()
        return super().put(kind, id, value, expected, expires_at)  # type: ignore[arg-type]


def test_what_is_noted_while_it_is_shared_is_counted_once(tmp_path: Path) -> None:
    clock = Clock(1_000.0)
    with closing(Meanwhile(tmp_path / "table.db", clock)) as table:
        speeds = Speeds(table, clock)
        speeds.note_whole(AT_NEAR, ms=1_000.0, output_tokens=100)
        table.happening = lambda: speeds.note_whole(AT_NEAR, ms=5_000.0, output_tokens=100)
        clock.seconds += SHARE_S
        speeds.share_if_due()
    kept = 0.5 ** (SHARE_S / 300)
    expected = (1_000 * kept + 5_000) / (100 * kept + 100)
    assert speeds.expected_ms(ALONE, 1) == pytest.approx(expected)


def test_a_conflict_is_tried_again_and_given_up_at_last(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock(1_000.0)

    def conflict() -> None:
        if table.puts <= conflicts:
            raise RecordConflict(KIND, "x")

    with closing(Meanwhile(tmp_path / "table.db", clock)) as table:
        table.happening = conflict
        conflicts = ATTEMPTS
        speeds = Speeds(table, clock)
        speeds.note_whole(AT_NEAR, ms=1_000.0, output_tokens=100)
        share(speeds, clock)
        assert (table.puts, len(table.list(KIND)), len(caplog.records)) == (ATTEMPTS, 0, 1)

        table.puts, conflicts = 0, ATTEMPTS - 1
        share(speeds, clock)
        assert (table.puts, len(table.list(KIND)), len(caplog.records)) == (ATTEMPTS, 1, 1)
    assert speeds.expected_ms(ALONE, 1) == 10


def test_a_speed_that_another_release_wrote_otherwise_is_left_alone(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    pair.one.note_whole(AT_NEAR, ms=1_000.0, output_tokens=100)
    share(pair.one, pair.clock)
    (stored,) = pair.table.list(KIND)
    pair.table.write(KIND, stored.id, {"ms": 1}, expires_at=4_000_000_000)
    pair.one.note_whole(AT_NEAR, ms=1_000.0, output_tokens=100)
    share(pair.one, pair.clock)
    assert [line.getMessage() for line in caplog.records] == [
        f"speeds are not shared: the speed '{stored.id}' cannot be read"
    ]
    assert pair.one.expected_ms(ALONE, 1) == 10
