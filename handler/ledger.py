"""What each key has spent, and what it may: reserved before a call, settled after it.

Counters are whole numbers, of dollars in billionths, so that sums are exact and an addition is one atomic write:
kind `spend#KEY`, id of a day, a month, `total` or a minute.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from handler.errors import BudgetSpent, RateLimited, TooManyTokens
from handler.keys import KeyRecord
from handler.table import Count, OverLimit, Table, TableError

NANO = 1_000_000_000
TOTAL = "total"
DAY_S = 86_400
KEPT_DAYS = 400
"""How long the counters of a day or a month are kept."""
MINUTE_S = 60

SPENT, SAVED, REQUESTS, TOKENS = "spent", "saved", "requests", "tokens"


@dataclass(frozen=True, slots=True)
class Stake:
    """What a request is expected to take."""

    dollars: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Reservation:
    """What was taken from a key's limits for one request, and when."""

    stake: Stake
    at: float
    """Seconds since the epoch: it is settled in the periods in which it was made."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What a request took."""

    dollars: float
    tokens: int
    saved: float = 0.0
    """Dollars less than the baseline; below 0 where it was more."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """One request that is over."""

    key: KeyRecord
    reservation: Reservation | None
    spent: Spent
    at: float
    """Seconds since the epoch: when it was over."""


class Ledger:
    """Every method blocks for one write or read, and raises TableError where the table fails."""

    def __init__(self, table: Table, now: Callable[[], float] = time.time) -> None:
        self._table = table
        self._now = now

    def reserve(self, key: KeyRecord, stake: Stake) -> Reservation:
        """For a key that is limited. Raises BudgetSpent, RateLimited or TooManyTokens: nothing is taken."""
        at = self._now()
        _check_size(key, stake)
        try:
            self._table.count(_kind(key.id), tuple(_reserved(key, stake, at)))
        except OverLimit as error:
            raise _refusal(error.id, key, at) from error
        return Reservation(stake, at)

    def raise_to(self, key: KeyRecord, reservation: Reservation, dollars: float) -> Reservation:
        """More dollars than were reserved. Raises BudgetSpent: nothing more is taken."""
        more = _nano(dollars) - _nano(reservation.stake.dollars)
        try:
            self._table.count(_kind(key.id), tuple(_of_budgets(key, more, reservation.at)))
        except OverLimit as error:
            raise _refusal(error.id, key, reservation.at) from error
        return replace(reservation, stake=replace(reservation.stake, dollars=dollars))

    def settle(self, settlements: Sequence[Settlement]) -> None:
        """What was spent instead of what was reserved; of many requests in few writes."""
        sums: dict[str, dict[str, Count]] = {}
        for one in settlements:
            of_key = sums.setdefault(_kind(one.key.id), {})
            at = one.at if one.reservation is None else one.reservation.at
            for count in _settled(one.key, one.reservation, one.spent, at):
                of_key[count.id] = _sum(of_key.get(count.id), count)
        failed: list[TableError] = []
        for kind, counts in sums.items():
            try:
                self._table.count(kind, tuple(counts.values()))
            except TableError as error:
                failed.append(error)  # the others are counted all the same
        if failed:
            raise failed[0]

    def days(self, key_id: str) -> dict[str, Mapping[str, int]]:
        """The counters of each day, by ISO date, oldest first."""
        counters = self._table.counters(_kind(key_id))
        return {id: counters[id] for id in sorted(counters) if len(id) == len("2026-01-01") and id[:4].isdecimal()}


def limited(key: KeyRecord) -> bool:
    limits = key.budget_day, key.budget_month, key.budget_total, key.requests_per_minute, key.tokens_per_minute
    return any(limit is not None for limit in limits)


def _kind(key_id: str) -> str:
    return f"spend#{key_id}"


def _sum(one: Count | None, other: Count) -> Count:
    if one is None:
        return other
    names = {**one.amounts, **other.amounts}
    amounts = {name: one.amounts.get(name, 0) + other.amounts.get(name, 0) for name in names}
    return replace(other, amounts=amounts)


def _reserved(key: KeyRecord, stake: Stake, at: float) -> Iterator[Count]:
    """The rate comes first: what it refuses, which may be much, then never stands in the way of a budget."""
    rates = {REQUESTS: key.requests_per_minute, TOKENS: key.tokens_per_minute}
    limits = {name: limit for name, limit in rates.items() if limit is not None}
    if limits:
        amounts = {REQUESTS: 1, TOKENS: stake.tokens}
        yield Count(_minute(at), {name: amounts[name] for name in limits}, limits, int(at) + 2 * MINUTE_S)
    yield from _of_budgets(key, _nano(stake.dollars), at)


def _of_budgets(key: KeyRecord, nano: int, at: float) -> Iterator[Count]:
    for id, budget, expires_at in _budgets(key, at):
        if budget is not None:
            yield Count(id, {SPENT: nano}, {SPENT: _nano(budget)}, expires_at)


def _settled(key: KeyRecord, reservation: Reservation | None, spent: Spent, at: float) -> Iterator[Count]:
    held = reservation.stake if reservation else Stake(0.0, 0)
    for id, budget, expires_at in _budgets(key, at):
        reserved = _nano(held.dollars) if budget is not None and reservation else 0
        amounts = {SPENT: _nano(spent.dollars) - reserved}
        if id == _day(at):
            yield Count(id, amounts | _facts(spent), {}, expires_at)
        elif budget is not None:
            yield Count(id, amounts, {}, expires_at)
    if key.tokens_per_minute is not None and reservation:
        yield Count(_minute(at), {TOKENS: spent.tokens - held.tokens}, {}, int(at) + 2 * MINUTE_S)


def _facts(spent: Spent) -> dict[str, int]:
    return {SAVED: _nano(spent.saved), REQUESTS: 1, TOKENS: spent.tokens}


def _budgets(key: KeyRecord, at: float) -> tuple[tuple[str, float | None, int | None], ...]:
    """Each period's id, its budget in dollars, and when its counters expire."""
    kept = int(at) + KEPT_DAYS * DAY_S
    return (
        (_day(at), key.budget_day, kept),
        (_day(at)[:7], key.budget_month, kept),
        (TOTAL, key.budget_total, None),
    )


def _check_size(key: KeyRecord, stake: Stake) -> None:
    most = key.tokens_per_minute
    if most is not None and stake.tokens > most:
        raise TooManyTokens(
            f"this request may take {stake.tokens} tokens, its answer included, and this key may send {most} a minute: "
            "shorten it, or lower its limit of output tokens"
        )


def _refusal(id: str, key: KeyRecord, at: float) -> BudgetSpent | RateLimited:
    if id == _minute(at):
        wait = MINUTE_S - int(at) % MINUTE_S
        told = {"requests": key.requests_per_minute, "tokens": key.tokens_per_minute}
        rate = " and ".join(f"{limit} {what}" for what, limit in told.items() if limit is not None)
        message = f"this key may send {rate} a minute; try again in {wait} s"
        return RateLimited(message, retry_after=wait)
    budgets = {_day(at): ("today", key.budget_day), _day(at)[:7]: ("this month", key.budget_month)}
    period, budget = budgets.get(id, ("in all", key.budget_total))
    message = f"this key may spend ${budget:.12g} {period}, and this request could pass that"
    return BudgetSpent(message)


def _nano(dollars: float) -> int:
    return round(dollars * NANO)


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).date().isoformat()


def _minute(at: float) -> str:
    return f"minute-{int(at) // MINUTE_S}"
