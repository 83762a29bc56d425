"""GET /admin/v1/keys/{id}/spending over HTTP."""

import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest

from handler.keys import KeyRecord
from handler.ledger import Ledger, Settlement, Spent, Stake
from handler.sqlite_table import SqliteTable
from tests.admin_server import AdminServer, refused, told

NOTHING = {"spent": 0.0, "saved": 0.0, "requests": 0, "tokens": 0}
DAY = 86_400


def create(server: AdminServer, **options: object) -> KeyRecord:
    record = told(server.client.post("/admin/v1/keys", json={"name": "a", **options}))
    del record["key"]
    return KeyRecord(**record, digest="0" * 64)


@pytest.fixture
def table(admin_server: AdminServer) -> Iterator[SqliteTable]:
    with closing(SqliteTable(admin_server.home / "state.db")) as table:
        yield table


def settle(table: SqliteTable, key: KeyRecord, days_ago: int, spent: Spent) -> str:
    """The day."""
    at = time.time() - days_ago * DAY
    ledger = Ledger(table, lambda: at)
    ledger.settle([Settlement(key, ledger.reserve(key, Stake(0.01, 100)), spent, at)])
    return datetime.fromtimestamp(at, UTC).date().isoformat()


def spending(server: AdminServer, key: KeyRecord, **query: int) -> Any:
    return told(server.client.get(f"/admin/v1/keys/{key.id}/spending", params=query))


def test_a_key_that_was_never_used_spent_nothing(admin_server: AdminServer) -> None:
    key = create(admin_server)
    assert spending(admin_server, key) == {
        "id": key.id,
        "days": [],
        "month": NOTHING,
        "total": NOTHING,
        "budgets": {"day": None, "month": None, "total": None},
    }


def test_days_are_summed_in_dollars_beside_the_budgets(admin_server: AdminServer, table: SqliteTable) -> None:
    key = create(admin_server, budget_day=1, budget_month=2.5, budget_total=100)
    settle(table, key, 0, Spent(0.25, 300, 0.5))
    today = settle(table, key, 0, Spent(0.5, 100, -0.125))
    assert spending(admin_server, key) == {
        "id": key.id,
        "days": [{"date": today, "spent": 0.75, "saved": 0.375, "requests": 2, "tokens": 400}],
        "month": {"spent": 0.75, "saved": 0.375, "requests": 2, "tokens": 400},
        "total": {"spent": 0.75, "saved": 0.375, "requests": 2, "tokens": 400},
        "budgets": {"day": 1.0, "month": 2.5, "total": 100.0},
    }


def test_as_many_days_are_told_as_are_asked_for_and_all_are_summed(
    admin_server: AdminServer, table: SqliteTable
) -> None:
    key = create(admin_server)
    days = {ago: settle(table, key, ago, Spent(0.25, 100)) for ago in (399, 31, 30, 1, 0)}

    def dates(**query: int) -> list[str]:
        return [day["date"] for day in spending(admin_server, key, **query)["days"]]

    assert dates() == [days[30], days[1], days[0]]
    assert dates(days=1) == [days[0]]
    assert dates(days=32) == [days[31], days[30], days[1], days[0]]
    assert dates(days=400) == list(days.values())
    found = spending(admin_server, key, days=1)
    assert found["total"] == {"spent": 1.25, "saved": 0.0, "requests": 5, "tokens": 500}
    of_this_month = sum(day[:7] == days[0][:7] for day in days.values())
    assert found["month"]["requests"] == of_this_month


def test_only_the_key_s_own_spending_is_told(admin_server: AdminServer, table: SqliteTable) -> None:
    one, another = create(admin_server), create(admin_server)
    settle(table, one, 0, Spent(0.25, 100))
    assert spending(admin_server, another)["total"] == NOTHING


def test_an_unknown_key_is_not_found(admin_server: AdminServer) -> None:
    status, error = refused(admin_server.client.get("/admin/v1/keys/0123456789ab/spending"))
    assert (status, error["code"]) == (404, "key_not_found")


@pytest.mark.parametrize("query", ["days=0", "days=401", "days=x", "month=1"])
def test_a_query_that_means_nothing_is_refused(admin_server: AdminServer, query: str) -> None:
    key = create(admin_server)
    status, error = refused(admin_server.client.get(f"/admin/v1/keys/{key.id}/spending?{query}"))
    assert (status, error["param"]) == (400, query.partition("=")[0])
