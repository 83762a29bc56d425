"""What is remembered of a conversation, in one process and in several over one table."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from handler.data import sessions
from handler.data.sessions import KEPT_S, KIND, NOTHING, Memory, Sessions, Warm, answer_id, continued_id, id_of
from handler.flow import Ask, Preferences, Prompt
from handler.sqlite_table import SqliteTable
from tests.dynamodb_server import Clock, OpenTable

FIRST = Memory().after("small", 2_000, Warm(2_000, 1_000.0, "http://a/v1"))
SECOND = FIRST.after("large", 3_000, Warm(1_500, 1_010.0, "http://b/v1"))


@dataclass
class Pair:
    """Two processes over one table."""

    one: Sessions
    other: Sessions
    clock: Clock


@pytest.fixture
def pair(open_table_again: OpenTable) -> Pair:
    clock = Clock(1_000.0)
    return Pair(Sessions(open_table_again(clock), clock), Sessions(open_table_again(clock), clock), clock)


def ask(session: str = "", leans_on: str = "") -> Ask:
    return Ask("auto", False, Prompt("", 1, 1), Preferences(), {}, session=session, leans_on=leans_on)


def test_a_memory_has_what_each_model_saw_and_the_latest_length() -> None:
    assert (
        Memory(
            3_000, 1_010.0, {"small": Warm(2_000, 1_000.0, "http://a/v1"), "large": Warm(1_500, 1_010.0, "http://b/v1")}
        )
        == SECOND
    )


def test_what_a_model_saw_lasts_as_long_as_its_provider_keeps_it() -> None:
    assert [SECOND.seen_by("small", 300.0, now) for now in (1_000.0, 1_299.9, 1_300.0)] == [2_000, 2_000, 0]
    assert [SECOND.seen_by(model, 300.0, 1_010.0) for model in ("large", "another")] == [1_500, 0]


def test_one_model_that_answered_all_along_would_have_seen_all_of_it() -> None:
    assert [SECOND.seen(300.0, now) for now in (1_010.0, 1_309.9, 1_310.0)] == [3_000, 3_000, 0]


def test_the_deployment_that_has_it_is_known_by_model() -> None:
    assert [SECOND.deployment(model) for model in ("small", "large", "another")] == ["http://a/v1", "http://b/v1", ""]


def test_the_deployment_that_answered_last_is_known() -> None:
    assert [Memory().latest, SECOND.latest] == ["", "http://b/v1"]
    assert SECOND.after("small", 10, Warm(10, 1_020.0, "http://c/v1")).latest == "http://c/v1"


def test_nothing_is_known_of_a_conversation_without_a_name(pair: Pair) -> None:
    pair.one.remember("", FIRST)
    assert pair.one.peek("") == NOTHING


def test_a_new_conversation_is_to_be_looked_for_and_then_known_to_be_new(pair: Pair) -> None:
    assert pair.one.peek("a") is None
    assert pair.one.look("a") == NOTHING
    assert pair.one.peek("a") == NOTHING


def test_what_one_process_shares_another_finds(pair: Pair) -> None:
    pair.one.remember("a", FIRST)
    assert pair.one.peek("a") == FIRST
    assert pair.other.look("a") == NOTHING
    pair.one.share("a", KEPT_S)
    pair.clock.seconds += sessions.FRESH_S
    assert pair.other.peek("a") is None
    assert pair.other.look("a") == FIRST


def test_a_turn_that_another_process_took_is_not_missed(pair: Pair) -> None:
    """Each went by its own memory, however old, and wrote it over the other's."""
    pair.one.remember("a", FIRST)
    pair.one.share("a", KEPT_S)
    pair.clock.seconds = 1_010.0
    assert pair.other.look("a") == FIRST
    pair.other.remember("a", SECOND)
    pair.other.share("a", KEPT_S)
    assert pair.one.peek("a") is None
    assert pair.one.look("a") == SECOND


def test_what_is_in_the_table_is_not_taken_for_newer_than_what_was_not_shared(pair: Pair) -> None:
    pair.one.remember("a", FIRST)
    pair.one.share("a", KEPT_S)
    pair.one.remember("a", SECOND)
    pair.clock.seconds += sessions.FRESH_S
    assert pair.one.look("a") == SECOND


def test_an_hour_of_silence_ends_a_conversation_for_the_others(pair: Pair) -> None:
    pair.one.remember("a", FIRST)
    pair.one.share("a", KEPT_S)
    pair.clock.seconds += KEPT_S
    assert pair.other.look("a") == NOTHING


def test_without_a_table_a_process_goes_by_its_own_memory() -> None:
    clock = Clock(1_000.0)
    alone = Sessions(None, clock)
    assert alone.peek("a") == NOTHING
    alone.remember("a", FIRST)
    alone.share("a", KEPT_S)
    clock.seconds += 10 * sessions.FRESH_S
    assert (alone.peek("a"), alone.look("a")) == (FIRST, FIRST)


def test_the_conversations_that_rested_longest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "REMEMBERED", 2)
    alone = Sessions(None, Clock())
    for id in ("a", "b", "a", "c"):
        alone.remember(id, FIRST)
    assert [alone.peek(id) for id in ("a", "b", "c")] == [FIRST, NOTHING, FIRST]


def test_a_table_that_fails_costs_a_discount_and_no_request(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock, table = Clock(1_000.0), SqliteTable(tmp_path / "table.db")
    known = Sessions(table, clock)
    known.remember("a", FIRST)
    table.close()
    clock.seconds += sessions.FRESH_S
    known.share("a", KEPT_S)
    assert (known.look("a"), known.look("b")) == (FIRST, NOTHING)
    assert [line.getMessage().partition(":")[0] for line in caplog.records] == [
        "a conversation is not shared",
        "a conversation is not remembered",
        "a conversation is not remembered",
    ]


@pytest.mark.parametrize("value", [{}, {"tokens": 1, "at": 1.0, "warm": []}, {"warm": {"m": [1, 2, 3, 4]}}])
def test_what_another_release_wrote_otherwise_is_nothing(tmp_path: Path, value: Mapping[str, Any]) -> None:
    with closing(SqliteTable(tmp_path / "table.db")) as table:
        table.write(KIND, "a", value, expires_at=4_000_000_000)
        assert Sessions(table).look("a") == NOTHING


def test_ids_tell_keys_apart_and_have_no_word_of_the_conversation() -> None:
    ids = {id_of(ask("secret"), "key-1"), id_of(ask("secret"), "key-2"), id_of(ask("other"), "key-1")}
    assert len(ids) == 3
    assert {len(id) for id in ids} == {24}
    assert id_of(ask(), "key-1") == ""


def test_an_answer_is_found_by_the_request_that_leans_on_it() -> None:
    assert continued_id(ask(leans_on="resp_1"), "key-1") == answer_id("key-1", "resp_1")
    assert continued_id(ask(), "key-1") == ""
