"""What a key has spent and may spend, on both stores."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from handler.errors import ApiError, BudgetSpent, RateLimited
from handler.keys import KeyRecord
from handler.ledger import NANO, Ledger, Reservation, Settlement, Spent, Stake, limited
from handler.sqlite_table import SqliteTable
from handler.table import Count, Table, TableUnavailable
from tests.dynamodb_server import Clock, OpenTable

NOON = datetime.fromisoformat("2026-03-31T12:00:00+00:00").timestamp()
MIDNIGHT = NOON + 12 * 3600
"""Between two days and between two months."""
MINUTE = f"minute-{int(NOON) // 60}"
CENT = NANO // 100


def key(**options: Any) -> KeyRecord:
    return KeyRecord(id="0" * 12, digest="0" * 64, created_at="", name="key", **options)


@dataclass(frozen=True, slots=True)
class Book:
    """A ledger over a table of its own, and a clock that the test moves."""

    table: Table
    clock: Clock
    ledger: Ledger

    def settle(self, who: KeyRecord, reservation: Reservation | None, spent: Spent) -> None:
        self.ledger.settle([Settlement(who, reservation, spent, self.clock.seconds)])

    @property
    def counters(self) -> Mapping[str, Mapping[str, int]]:
        return self.table.counters(f"spend#{'0' * 12}")


@pytest.fixture
def book(open_table_again: OpenTable) -> Book:
    clock = Clock(NOON)
    table = open_table_again(clock)
    return Book(table, clock, Ledger(table, clock))


def cents(number: int, tokens: int = 100) -> Stake:
    return Stake(number / 100, tokens)


def refusal(book: Book, who: KeyRecord, stake: Stake) -> ApiError:
    before = book.counters
    with pytest.raises(ApiError) as refused:
        book.ledger.reserve(who, stake)
    after = book.counters
    counted = [
        {(id, name): n for id, each in both.items() for name, n in each.items() if n} for both in (before, after)
    ]
    assert counted[0] == counted[1]
    return refused.value


def test_a_key_without_limits_reserves_nothing_and_is_counted_by_the_day(book: Book) -> None:
    assert not limited(key())
    book.settle(key(), None, Spent(0.03, 70, 0.12))
    book.settle(key(), None, Spent(0.04, 30, -0.02))
    assert book.counters == {"2026-03-31": {"spent": 7 * CENT, "saved": 10 * CENT, "requests": 2, "tokens": 100}}


@pytest.mark.parametrize(
    ("option", "id", "told"),
    [
        ("budget_day", "2026-03-31", "today"),
        ("budget_month", "2026-03", "this month"),
        ("budget_total", "total", "in all"),
    ],
)
def test_a_budget_is_spent_to_its_end_and_not_beyond(book: Book, option: str, id: str, told: str) -> None:
    who = key(**{option: 0.10})
    assert limited(who)
    for _ in range(2):
        book.ledger.reserve(who, cents(5))
    assert book.counters[id]["spent"] == 10 * CENT
    refused = refusal(book, who, Stake(0.000_000_001, 1))
    assert isinstance(refused, BudgetSpent)
    assert refused.message == f"this key may spend $0.1 {told}, and this request could pass that"
    assert (refused.status, refused.code, refused.retryable, refused.retry_after) == (
        429,
        "budget_exceeded",
        False,
        None,
    )


def test_what_was_reserved_makes_room_for_what_was_spent(book: Book) -> None:
    who = key(budget_day=0.10)
    one, another = book.ledger.reserve(who, cents(5)), book.ledger.reserve(who, cents(5))
    book.settle(who, one, Spent(0.01, 10))
    assert book.counters["2026-03-31"] == {"spent": 6 * CENT, "saved": 0, "requests": 1, "tokens": 10}
    book.settle(who, another, Spent(0.08, 90, 0.5))
    assert book.counters["2026-03-31"] == {"spent": 9 * CENT, "saved": 50 * CENT, "requests": 2, "tokens": 100}
    assert book.ledger.reserve(who, cents(1)) is not None
    assert isinstance(refusal(book, who, cents(1)), BudgetSpent)


def test_a_request_that_failed_gives_back_all_of_it(book: Book) -> None:
    who = key(budget_total=0.05, tokens_per_minute=100)
    book.settle(who, book.ledger.reserve(who, cents(5)), Spent(0.0, 0))
    assert book.counters == {
        MINUTE: {"tokens": 0},
        "2026-03-31": {"spent": 0, "saved": 0, "requests": 1, "tokens": 0},
        "total": {"spent": 0},
    }
    assert book.ledger.reserve(who, cents(5)) is not None


def test_all_limits_of_a_key_hold_at_once_and_a_refusal_takes_from_none(book: Book) -> None:
    who = key(budget_day=1.0, budget_month=1.0, budget_total=0.07, requests_per_minute=10, tokens_per_minute=1_000)
    reservation = book.ledger.reserve(who, cents(5))
    assert book.counters == {
        MINUTE: {"requests": 1, "tokens": 100},
        "2026-03-31": {"spent": 5 * CENT},
        "2026-03": {"spent": 5 * CENT},
        "total": {"spent": 5 * CENT},
    }
    assert refusal(book, who, cents(3)).message.startswith("this key may spend $0.07 in all")
    book.settle(who, reservation, Spent(0.02, 40, 0.01))
    assert book.counters == {
        MINUTE: {"requests": 1, "tokens": 40},
        "2026-03-31": {"spent": 2 * CENT, "saved": CENT, "requests": 1, "tokens": 40},
        "2026-03": {"spent": 2 * CENT},
        "total": {"spent": 2 * CENT},
    }


def test_a_day_and_a_month_begin_at_midnight_of_utc(book: Book) -> None:
    who = key(budget_day=0.05, budget_month=0.05)
    book.clock.seconds = MIDNIGHT - 0.1
    book.ledger.reserve(who, cents(5))
    assert isinstance(refusal(book, who, cents(1)), BudgetSpent)
    book.clock.seconds = MIDNIGHT
    book.ledger.reserve(who, cents(4))
    assert {id: each["spent"] // CENT for id, each in book.counters.items()} == {
        "2026-03-31": 5,
        "2026-03": 5,
        "2026-04-01": 4,
        "2026-04": 4,
    }


def test_a_request_over_midnight_is_settled_on_the_day_that_it_began(book: Book) -> None:
    who = key(budget_day=0.05)
    book.clock.seconds = MIDNIGHT - 1
    reservation = book.ledger.reserve(who, cents(5))
    book.clock.seconds = MIDNIGHT + 1
    book.settle(who, reservation, Spent(0.03, 10))
    assert book.counters == {"2026-03-31": {"spent": 3 * CENT, "saved": 0, "requests": 1, "tokens": 10}}


def test_as_many_requests_a_minute_as_the_key_may_send(book: Book) -> None:
    who = key(requests_per_minute=2)
    book.clock.seconds = NOON + 18.5
    book.settle(who, book.ledger.reserve(who, cents(1)), Spent(0.01, 10))
    book.ledger.reserve(who, cents(1))
    refused = refusal(book, who, cents(1))
    assert isinstance(refused, RateLimited)
    assert refused.message == "this key may send 2 requests a minute; try again in 42 s"
    assert (refused.status, refused.code, refused.retryable, refused.retry_after) == (
        429,
        "rate_limit_exceeded",
        True,
        42,
    )
    book.clock.seconds = NOON + 60
    assert book.ledger.reserve(who, cents(1)) is not None


def test_a_second_after_the_last_moment_of_a_minute_there_is_room_again(book: Book) -> None:
    who = key(requests_per_minute=1)
    book.clock.seconds = NOON + 59.9
    book.ledger.reserve(who, cents(1))
    assert refusal(book, who, cents(1)).retry_after == 1
    book.clock.seconds = NOON + 60.9
    assert book.ledger.reserve(who, cents(1)) is not None


def test_a_request_of_more_tokens_than_any_minute_has_is_not_told_to_wait(book: Book) -> None:
    who = key(requests_per_minute=9, tokens_per_minute=150)
    refused = refusal(book, who, Stake(0.0, 151))
    assert refused.message == (
        "this request may take 151 tokens, its answer included, and this key may send 150 a minute: "
        "shorten it, or lower its limit of output tokens"
    )
    assert (refused.status, refused.code, refused.retryable, refused.retry_after) == (
        413,
        "too_many_tokens",
        False,
        None,
    )
    assert book.counters == {}


def test_tokens_a_minute_are_those_that_were_used(book: Book) -> None:
    who = key(requests_per_minute=9, tokens_per_minute=150)
    reservation = book.ledger.reserve(who, Stake(0.0, 100))
    refused = refusal(book, who, Stake(0.0, 100))
    assert refused.message == "this key may send 9 requests and 150 tokens a minute; try again in 60 s"
    book.settle(who, reservation, Spent(0.0, 50))
    assert book.ledger.reserve(who, Stake(0.0, 100)) is not None
    assert book.counters[MINUTE] == {"requests": 2, "tokens": 150}


def test_minutes_are_forgotten_soon_and_days_after_400(book: Book) -> None:
    who = key(requests_per_minute=9, budget_total=1.0)
    book.settle(who, book.ledger.reserve(who, cents(1)), Spent(0.01, 10))
    book.clock.seconds = NOON + 121
    assert set(book.counters) == {"2026-03-31", "total"}
    book.clock.seconds = NOON + 400 * 86_400
    assert set(book.counters) == {"total"}


def test_days_are_told_oldest_first_and_nothing_else_is(book: Book) -> None:
    who = key(budget_month=5.0, budget_total=5.0, requests_per_minute=9)
    for day in (1, 0, 2):
        book.clock.seconds = NOON + day * 86_400
        book.settle(who, book.ledger.reserve(who, cents(1)), Spent(day / 100, 10 * day))
    assert list(book.ledger.days(who.id).items()) == [
        ("2026-03-31", {"spent": 0, "saved": 0, "requests": 1, "tokens": 0}),
        ("2026-04-01", {"spent": CENT, "saved": 0, "requests": 1, "tokens": 10}),
        ("2026-04-02", {"spent": 2 * CENT, "saved": 0, "requests": 1, "tokens": 20}),
    ]


def test_each_key_has_a_book_of_its_own(book: Book) -> None:
    another = key(budget_day=0.05).model_copy(update={"id": "1" * 12})
    book.ledger.reserve(key(budget_day=0.05), cents(5))
    assert book.ledger.reserve(another, cents(5)) is not None


def test_many_requests_are_settled_in_one_write_a_key_each_in_its_own_period(book: Book) -> None:
    one, another = key(budget_total=1.0), key().model_copy(update={"id": "1" * 12})
    book.clock.seconds = MIDNIGHT - 1
    before = book.ledger.reserve(one, cents(5))
    book.clock.seconds = MIDNIGHT + 1
    after = book.ledger.reserve(one, cents(5))
    book.ledger.settle(
        [
            Settlement(one, before, Spent(0.01, 10), MIDNIGHT + 2),
            Settlement(another, None, Spent(0.5, 99), MIDNIGHT + 2),
            Settlement(one, after, Spent(0.02, 20, 0.03), MIDNIGHT + 2),
        ]
    )
    assert book.counters == {
        "2026-03-31": {"spent": CENT, "saved": 0, "requests": 1, "tokens": 10},
        "2026-04-01": {"spent": 2 * CENT, "saved": 3 * CENT, "requests": 1, "tokens": 20},
        "total": {"spent": 3 * CENT},
    }
    assert book.ledger.days(another.id) == {"2026-04-01": {"spent": 50 * CENT, "saved": 0, "requests": 1, "tokens": 99}}


class FailsOnce(SqliteTable):
    calls = 0

    def count(self, kind: str, counts: Sequence[Count]) -> None:
        self.calls += 1
        if self.calls == 1:
            raise TableUnavailable("not now")
        super().count(kind, counts)


def test_a_key_whose_settlement_fails_keeps_no_other_from_being_settled(tmp_path: Path) -> None:
    one, another = key(), key().model_copy(update={"id": "1" * 12})
    with closing(FailsOnce(tmp_path / "table.db", Clock(NOON))) as table:
        ledger = Ledger(table)
        with pytest.raises(TableUnavailable):
            ledger.settle([Settlement(who, None, Spent(0.01, 10), NOON) for who in (one, another)])
        assert (list(ledger.days(one.id)), list(ledger.days(another.id))) == ([], ["2026-03-31"])
