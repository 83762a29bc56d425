"""Counters, and records that are written whatever was there, on both stores."""

import sqlite3
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from handler.sqlite_table import SqliteTable
from handler.table import Count, OverLimit, Record, Table, TableUnavailable
from tests.dynamodb_server import Clock, OpenTable

KIND = "spend#a"


def add(table: Table, id: str = "day", limit: int | None = None, **amounts: int) -> None:
    table.count(KIND, [Count(id, amounts, {} if limit is None else dict.fromkeys(amounts, limit))])


def counted(table: Table) -> Mapping[str, Mapping[str, int]]:
    return table.counters(KIND)


def test_nothing_was_counted_at_first(table: Table) -> None:
    assert counted(table) == {}


def test_counters_start_at_nothing_and_are_sums(table: Table) -> None:
    add(table, spent=3, requests=1)
    add(table, spent=4, requests=1)
    add(table, id="month", spent=10**18)
    assert counted(table) == {"day": {"spent": 7, "requests": 2}, "month": {"spent": 10**18}}


def test_what_is_less_than_nothing_takes_away(table: Table) -> None:
    add(table, spent=3)
    add(table, spent=-5)
    assert counted(table) == {"day": {"spent": -2}}


def test_counters_of_one_kind_are_apart_from_records_and_other_kinds(table: Table) -> None:
    add(table, spent=3)
    table.count("spend#b", [Count("day", {"spent": 4})])
    table.put("key", "a", {}, None)
    assert counted(table) == {"day": {"spent": 3}}
    assert table.list("key") == [Record("a", {}, 1)]


def test_a_counter_may_reach_its_limit_and_not_pass_it(table: Table) -> None:
    add(table, spent=7, limit=10)
    add(table, spent=3, limit=10)
    with pytest.raises(OverLimit, match="'day' would pass its limit"):
        add(table, spent=1, limit=10)
    assert counted(table) == {"day": {"spent": 10}}


def test_the_first_amount_may_not_pass_the_limit_either(table: Table) -> None:
    with pytest.raises(OverLimit):
        add(table, spent=11, limit=10)
    assert counted(table) == {}


def test_there_is_more_room_where_something_was_taken_away(table: Table) -> None:
    add(table, spent=-5)
    add(table, spent=12, limit=10)
    assert counted(table) == {"day": {"spent": 7}}


def test_one_counter_of_an_id_that_would_pass_its_limit_holds_back_the_others(table: Table) -> None:
    table.count(KIND, [Count("minute", {"requests": 1, "tokens": 90}, {"requests": 9, "tokens": 100})])
    with pytest.raises(OverLimit):
        table.count(KIND, [Count("minute", {"requests": 1, "tokens": 11}, {"requests": 9, "tokens": 100})])
    assert counted(table) == {"minute": {"requests": 1, "tokens": 90}}


def test_a_count_that_is_refused_leaves_nothing_behind_of_those_before_it(table: Table) -> None:
    add(table, id="total", spent=95)
    with pytest.raises(OverLimit) as refused:
        table.count(
            KIND,
            [
                Count("day", {"spent": 6}, {"spent": 100}),
                Count("month", {"spent": 6}, {"spent": 100}),
                Count("total", {"spent": 6}, {"spent": 100}),
            ],
        )
    assert refused.value.id == "total"
    found = counted(table)
    assert found["total"] == {"spent": 95}
    # A store may show that it was there.
    assert {id: dict(found.get(id, {"spent": 0})) for id in ("day", "month")} == {
        "day": {"spent": 0},
        "month": {"spent": 0},
    }


def test_counters_are_forgotten_once_they_expire(open_table_again: OpenTable) -> None:
    clock = Clock(1_000.0)
    table = open_table_again(clock)
    table.count(KIND, [Count("minute", {"requests": 1}, expires_at=1_010), Count("total", {"spent": 1})])
    clock.seconds = 1_009.9
    assert counted(table) == {"minute": {"requests": 1}, "total": {"spent": 1}}
    clock.seconds = 1_010.0
    assert counted(table) == {"total": {"spent": 1}}


def test_sqlite_removes_expired_counters_when_others_are_counted(tmp_path: Path) -> None:
    clock, path = Clock(1_000.0), tmp_path / "table.db"
    with closing(SqliteTable(path, clock)) as table:
        table.count(KIND, [Count("minute-1", {"requests": 1}, expires_at=1_010)])
        clock.seconds = 1_010.0
        table.count("spend#b", [Count("minute-2", {"requests": 1}, expires_at=1_070)])
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT id FROM counters").fetchall() == [("minute-2",)]


def test_of_many_threads_as_many_are_let_in_as_there_is_room_for(table: Table) -> None:
    def enter(_: int) -> bool:
        try:
            add(table, entered=3, limit=50)
        except OverLimit:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(enter, range(40))) == 16  # 16 × 3 = 48
    assert counted(table) == {"day": {"entered": 48}}


def test_the_last_writer_wins(open_table_again: OpenTable) -> None:
    clock = Clock(1_000.0)
    one, another = open_table_again(clock), open_table_again(clock)
    one.write("session", "a", {"n": 1}, expires_at=1_010)
    another.write("session", "a", {"n": 2}, expires_at=1_020)
    assert one.get("session", "a") == Record("a", {"n": 2}, 1)
    clock.seconds = 1_019.0
    assert one.get("session", "a") == Record("a", {"n": 2}, 1)
    clock.seconds = 1_020.0
    assert one.get("session", "a") is None
    one.write("session", "a", {"n": 3}, expires_at=1_030)
    assert another.get("session", "a") == Record("a", {"n": 3}, 1)


def test_a_write_takes_the_place_of_what_was_put(table: Table) -> None:
    table.put("session", "a", {"n": 1}, None)
    table.put("session", "a", {"n": 2}, 1)
    table.write("session", "a", {"n": 3}, expires_at=4_000_000_000)
    assert table.get("session", "a") == Record("a", {"n": 3}, 1)


def test_sqlite_removes_expired_records_when_others_are_written(tmp_path: Path) -> None:
    clock, path = Clock(1_000.0), tmp_path / "table.db"
    with closing(SqliteTable(path, clock)) as table:
        table.write("session", "a", {}, expires_at=1_010)
        clock.seconds = 1_010.0
        table.write("session", "b", {}, expires_at=1_020)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT id FROM records").fetchall() == [("b",)]


def test_a_closed_sqlite_table_does_not_count(tmp_path: Path) -> None:
    table = SqliteTable(tmp_path / "table.db")
    table.close()
    with pytest.raises(TableUnavailable):
        add(table, spent=1)
    with pytest.raises(TableUnavailable):
        counted(table)
    with pytest.raises(TableUnavailable):
        table.write("session", "a", {}, expires_at=1)
