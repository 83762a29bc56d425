"""What a dearer fallback may take of a budget."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from handler.data.account import Accountant, Errand
from handler.data.live import Live
from handler.data.purse import Purse
from handler.data.sessions import NOTHING, Sessions
from handler.data.speeds import Speeds
from handler.fleet import Deployment, Fleet, FleetFile, Model, Price
from handler.flow import Ask, Cause, Decision, Preferences, Prompt
from handler.keys import KeyRecord
from handler.ledger import NANO, Ledger
from handler.sqlite_table import SqliteTable
from handler.table import Count, TableUnavailable
from tests.dynamodb_server import Clock

AT = Deployment(base_url="http://a/v1")
CHEAP, SMALL, LARGE = (
    Model(name=name, price=Price(input=1, output=1), deployments=(AT,)) for name in ("cheap", "small", "large")
)
LIVE = Live(FleetFile(Fleet(models=(CHEAP, SMALL, LARGE)), "f"), None, "")
COSTS = {"cheap": 0.005, "small": 0.01, "large": 0.1}


class Halting(SqliteTable):
    """Its counts wait, and fail, as they are told to."""

    gate: threading.Event | None = None
    broken = False

    def count(self, kind: str, counts: Sequence[Count]) -> None:
        if self.gate is not None:
            assert self.gate.wait(5)
        if self.broken:
            raise TableUnavailable("gone")
        super().count(kind, counts)


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Halting]:
    with closing(Halting(tmp_path / "table.db", Clock(1_000.0))) as table:
        yield table


async def purse_of(table: Halting, **limits: Any) -> Purse:
    """Of a request for which small is chosen, and its cent reserved."""
    clock = Clock(1_000.0)
    accountant = Accountant(Ledger(table, clock), Sessions(table, clock), Speeds(table, clock), delay=0.0)
    key = KeyRecord(id="0" * 12, digest="0" * 64, created_at="", name="key", **limits)
    ask = Ask("auto", False, Prompt("text", 2_000, 500), Preferences(), {})
    decision = Decision("dec-1", "small", Cause.VOTE, "auto", cost=COSTS["small"])
    errand = await accountant.reserve(Errand(key, ask, LIVE, NOTHING, decision, started=0.0))
    return Purse(accountant, errand, COSTS)


def reserved(table: Halting) -> dict[str, float]:
    return {id: counters["spent"] / NANO for id, counters in table.counters(f"spend#{'0' * 12}").items()}


async def test_what_a_dearer_model_costs_more_is_reserved_in_every_budget_before_it_is_asked(table: Halting) -> None:
    purse = await purse_of(table, budget_day=0.1, budget_total=1.0, requests_per_minute=1, tokens_per_minute=5_000)
    assert [await purse.affords(model) for model in (SMALL, CHEAP, LARGE, SMALL)] == [True] * 4
    counters = table.counters(f"spend#{'0' * 12}")
    assert {id: counters[id]["spent"] / NANO for id in ("1970-01-01", "total")} == {"1970-01-01": 0.1, "total": 0.1}
    assert counters["minute-16"] == {"requests": 1, "tokens": 2_500}
    assert purse.errand.reservation is not None
    assert purse.errand.reservation.stake.dollars == 0.1


async def test_a_model_that_the_budget_has_no_room_for_takes_nothing(table: Halting) -> None:
    purse = await purse_of(table, budget_day=1.0, budget_total=0.099)
    assert [await purse.affords(LARGE), await purse.affords(CHEAP)] == [False, True]
    assert reserved(table) == {"1970-01-01": 0.01, "total": 0.01}


async def test_a_key_without_a_budget_affords_all(table: Halting) -> None:
    assert await (await purse_of(table)).affords(LARGE)
    assert await (await purse_of(table, requests_per_minute=1)).affords(LARGE)


async def test_where_nothing_can_be_reserved_no_dearer_model_is_asked(table: Halting) -> None:
    purse = await purse_of(table, budget_total=1.0)
    table.broken = True
    assert not await purse.affords(LARGE)


async def test_a_client_that_leaves_meanwhile_leaves_what_was_taken_to_be_given_back(table: Halting) -> None:
    purse = await purse_of(table, budget_total=1.0)
    table.gate = threading.Event()
    asking = asyncio.create_task(purse.affords(LARGE))
    await asyncio.sleep(0.05)
    asking.cancel()
    table.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert purse.errand.reservation is not None
    assert purse.errand.reservation.stake.dollars == COSTS["large"]
    assert reserved(table) == {"total": COSTS["large"]}
