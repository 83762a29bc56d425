"""What a request leaves behind, in dollars counted by hand."""

import asyncio
import threading
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from handler.asgi import CLIENT_CLOSED_REQUEST
from handler.data.account import Accountant, Ending, Errand
from handler.data.forward import Reply
from handler.data.health import Target
from handler.data.live import Live
from handler.data.sessions import NOTHING, Memory, Sessions, Warm, answer_id
from handler.data.speeds import Speeds
from handler.errors import BudgetSpent, UpstreamFailed
from handler.fleet import Deployment, Fleet, FleetFile, Model, Price
from handler.flow import Ask, Cause, Decision, Preferences, Prompt, Protocol, Usage
from handler.keys import KeyRecord
from handler.ledger import NANO, Ledger
from handler.sqlite_table import SqliteTable
from handler.table import Count
from tests.dynamodb_server import Clock

NOW = 1_000.0
DAY = "1970-01-01"
AT = Deployment(base_url="http://a/v1")
SMALL = Model(name="small", price=Price(input=1, output=4, cached_input=0.5), deployments=(AT,))
LARGE = Model(name="large", price=Price(input=10, output=40, cached_input=1, cache_write=12), deployments=(AT,))
LIVE = Live(FleetFile(Fleet(models=(SMALL, LARGE)), "f"), None, "")
USED = Usage(2_000, 100)
ON_SMALL = (2_000 * 1 + 100 * 4) / 1e6
ON_LARGE = (2_000 * 10 + 100 * 40) / 1e6
KNOWN = Memory(1_500, NOW - 1, {"small": Warm(1_500, NOW - 1)})
"""A conversation whose last turn small answered."""


@dataclass(frozen=True)
class Desk:
    """An accountant and what it writes to."""

    accountant: Accountant
    table: SqliteTable
    sessions: Sessions
    speeds: Speeds

    @property
    def counters(self) -> Mapping[str, Mapping[str, int]]:
        return self.table.counters(f"spend#{'0' * 12}")


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    clock = Clock(NOW)
    table = SqliteTable(tmp_path / "table.db", clock)
    sessions, speeds = Sessions(table, clock), Speeds(table, clock)
    ledger = Ledger(table, clock)
    return Desk(Accountant(ledger, sessions, speeds, delay=0.0), table, sessions, speeds)


def key(**options: Any) -> KeyRecord:
    return KeyRecord(id="0" * 12, digest="0" * 64, created_at="", name="key", **options)


def errand(who: KeyRecord | None = None, memory: Memory = NOTHING, model: str = "auto", **more: Any) -> Errand:
    """Small is chosen, and expected to cost a cent."""
    ask = Ask(model, False, Prompt("text", 2_000, 500), Preferences(), {}, session="conversation", **more)
    decision = Decision("dec-1", "small", Cause.VOTE, ask.requested, cost=0.01)
    return Errand(who or key(), ask, LIVE, memory, decision, started=0.0)


def reply(status: int = 200, ms: float = 1_000.0) -> Reply:
    return Reply(Target(SMALL, AT), httpx.Response(status), b"", {}, None, ms)


def answered(usage: Usage | None = USED, answer: str = "") -> Ending:
    return Ending(200, reply(), usage, answer=answer)


async def day_after(desk: Desk, of: Errand, ending: Ending) -> dict[str, float]:
    """The day's counters, dollars as dollars."""
    await desk.accountant.close(await desk.accountant.reserve(of), ending)
    counters = dict(desk.counters[DAY])
    return {name: n / NANO if name in ("spent", "saved") else n for name, n in counters.items()}


def dollars(spent: float, saved: float = 0.0, tokens: int = 2_100) -> Any:
    return pytest.approx({"spent": spent, "saved": saved, "requests": 1, "tokens": tokens}, abs=1e-9)


async def test_an_answer_costs_what_it_used_and_saved_what_the_dearest_would_have_cost(desk: Desk) -> None:
    assert await day_after(desk, errand(), answered()) == dollars(ON_SMALL, ON_LARGE - ON_SMALL)


@pytest.mark.parametrize(
    ("options", "more", "baseline"),
    [
        ({"default_model": "small"}, {}, ON_SMALL),
        ({"default_model": "small", "baseline_model": "large"}, {}, ON_LARGE),
        ({"baseline_model": "gone"}, {}, ON_LARGE),
        ({}, {"instead_of": "small"}, ON_SMALL),
        ({"default_model": "small"}, {"instead_of": "large"}, ON_LARGE),
        ({"baseline_model": "small"}, {"instead_of": "large"}, ON_SMALL),
    ],
)
async def test_the_baseline_is_what_would_have_answered_without_routing(
    desk: Desk, options: dict[str, Any], more: dict[str, Any], baseline: float
) -> None:
    found = await day_after(desk, errand(key(**options), **more), answered())
    assert found == dollars(ON_SMALL, baseline - ON_SMALL)


async def test_a_model_that_the_client_named_saves_nothing(desk: Desk) -> None:
    assert await day_after(desk, errand(model="small"), answered()) == dollars(ON_SMALL, 0.0)


async def test_a_cache_that_routing_kept_is_one_that_the_baseline_would_have_had(desk: Desk) -> None:
    usage = Usage(2_000, 100, cached_tokens=1_500)
    cost = (500 * 1 + 1_500 * 0.5 + 100 * 4) / 1e6
    baseline = (500 * 10 + 1_500 * 1 + 100 * 40) / 1e6
    assert await day_after(desk, errand(memory=KNOWN), answered(usage)) == dollars(cost, baseline - cost)


async def test_a_cache_that_routing_broke_is_charged_against_what_it_saved(desk: Desk) -> None:
    """Small has nothing of the conversation; large, had it answered all along, would have 1,500 tokens of it."""
    broken = Memory(1_500, NOW - 1, {"large": Warm(1_500, NOW - 1)})
    baseline = (500 * 10 + 1_500 * 1 + 100 * 40) / 1e6
    assert await day_after(desk, errand(memory=broken), answered()) == dollars(ON_SMALL, baseline - ON_SMALL)


@pytest.mark.parametrize(
    "memory",
    [
        replace(KNOWN, at=NOW - 300),  # the provider would have dropped it by now
        replace(KNOWN, tokens=1_023),  # too short for any provider's cache
        replace(KNOWN, tokens=2_501),  # the conversation was rewritten
    ],
)
async def test_the_baseline_has_no_cache_that_nobody_would_have(desk: Desk, memory: Memory) -> None:
    assert await day_after(desk, errand(memory=memory), answered()) == dollars(ON_SMALL, ON_LARGE - ON_SMALL)


async def test_a_request_that_does_not_ask_for_anthropics_cache_would_not_have_had_it_either(desk: Desk) -> None:
    of = errand(memory=KNOWN, protocol=Protocol.MESSAGES)
    assert await day_after(desk, of, answered()) == dollars(ON_SMALL, ON_LARGE - ON_SMALL)


async def test_what_was_taken_into_the_cache_the_baseline_would_have_paid_for_too(desk: Desk) -> None:
    usage = Usage(2_000, 100, written_tokens=2_000)
    of = errand(protocol=Protocol.MESSAGES, writes_cache=True)
    baseline = (2_000 * 12 + 100 * 40) / 1e6
    assert await day_after(desk, of, answered(usage)) == dollars(ON_SMALL, baseline - ON_SMALL)


BUDGET = key(budget_day=0.015)
"""Room for one request at its estimate."""


async def test_a_reservation_is_settled_by_what_was_used(desk: Desk) -> None:
    reserved = await desk.accountant.reserve(errand(BUDGET))
    assert desk.counters == {DAY: {"spent": NANO // 100}}
    with pytest.raises(BudgetSpent):
        await desk.accountant.reserve(errand(BUDGET))
    await desk.accountant.close(reserved, answered())
    assert desk.counters[DAY]["spent"] == round(ON_SMALL * NANO)


@pytest.mark.parametrize(
    "ending",
    [
        Ending(502, error=UpstreamFailed("nobody answered")),
        Ending(429, fault="429"),
        Ending(400, reply(400)),
    ],
)
async def test_no_answer_costs_nothing_and_counts_as_a_request(desk: Desk, ending: Ending) -> None:
    assert await day_after(desk, errand(BUDGET), ending) == dollars(0.0, tokens=0)


async def test_a_stream_that_did_not_come_to_its_end_costs_no_less_than_was_expected(desk: Desk) -> None:
    """Anthropic tells of the input and one token of the answer with a stream's first event."""
    begun = replace(answered(Usage(2_000, 1)), stream_seconds=30.0, whole=False)
    assert await day_after(desk, errand(), begun) == dollars(0.01, tokens=2_500)
    assert desk.speeds.expected_ms(SMALL, 500) is None


async def test_the_model_that_would_have_answered_saves_nothing_however_it_fills_its_cache(desk: Desk) -> None:
    written = Usage(10_000, 100, cached_tokens=0, written_tokens=0, written_1h_tokens=8_000)
    assert (await day_after(desk, errand(key(baseline_model="small")), answered(written)))["saved"] == 0


@pytest.mark.parametrize("ending", [answered(usage=None), Ending(CLIENT_CLOSED_REQUEST)])
async def test_what_nobody_told_the_usage_of_costs_what_was_expected(desk: Desk, ending: Ending) -> None:
    assert await day_after(desk, errand(BUDGET), ending) == dollars(0.01, tokens=2_500)


async def test_a_client_that_leaves_while_a_dearer_model_is_at_work_pays_what_was_reserved_for_that(desk: Desk) -> None:
    reserved = await desk.accountant.reserve(errand(key(budget_day=1.0)))
    raised = await desk.accountant.reserve_more(reserved, 0.03)
    await desk.accountant.close(raised, Ending(CLIENT_CLOSED_REQUEST))
    assert desk.counters[DAY] == {"spent": 0.03 * NANO, "saved": 0, "requests": 1, "tokens": 2_500}


async def test_a_key_without_limits_writes_nothing_before_the_call(desk: Desk) -> None:
    of = errand()
    assert await desk.accountant.reserve(of) is of
    assert desk.counters == {}


class Watched(SqliteTable):
    """Keeps what is counted, write by write."""

    def __init__(self, path: Path, clock: Clock) -> None:
        super().__init__(path, clock)
        self.written: list[Sequence[Count]] = []

    def count(self, kind: str, counts: Sequence[Count]) -> None:
        self.written.append(counts)
        super().count(kind, counts)


async def test_with_a_delay_what_several_requests_took_is_one_write(tmp_path: Path) -> None:
    clock = Clock(NOW)
    with closing(Watched(tmp_path / "table.db", clock)) as table:
        accountant = Accountant(Ledger(table, clock), Sessions(table, clock), Speeds(table, clock), delay=0.05)
        await asyncio.gather(*(accountant.close(errand(), answered()) for _ in range(10)))
        assert table.written == []
        await accountant.flush()
        (counts,) = table.written
        amounts = {"spent": 10 * round(ON_SMALL * NANO), "requests": 10, "tokens": 21_000}
        assert [{name: count.amounts[name] for name in amounts} for count in counts] == [amounts]
        await asyncio.sleep(0.1)


async def test_after_the_delay_it_is_written_by_itself_again_and_again(tmp_path: Path) -> None:
    clock = Clock(NOW)
    with closing(Watched(tmp_path / "table.db", clock)) as table:
        accountant = Accountant(Ledger(table, clock), Sessions(table, clock), Speeds(table, clock), delay=0.02)
        for writes in (1, 2):
            await accountant.close(errand(), answered())
            for _ in range(100):
                if len(table.written) == writes:
                    break
                await asyncio.sleep(0.02)
            assert len(table.written) == writes
            await asyncio.sleep(0.1)


class Slow(Ledger):
    """Reserves once it may."""

    may = threading.Event()

    def reserve(self, *what: Any) -> Any:
        self.may.wait(10)
        return super().reserve(*what)


async def test_a_caller_who_leaves_while_it_is_reserved_gives_all_of_it_back(desk: Desk) -> None:
    ledger = Slow(desk.table, Clock(NOW))
    accountant = Accountant(ledger, desk.sessions, desk.speeds, delay=0.0)
    reserving = asyncio.create_task(accountant.reserve(errand(BUDGET)))
    await asyncio.sleep(0.05)
    reserving.cancel()
    await asyncio.sleep(0.05)
    ledger.may.set()
    with pytest.raises(asyncio.CancelledError):
        await reserving
    assert desk.counters == {DAY: {"spent": 0, "saved": 0, "requests": 1, "tokens": 0}}


async def test_a_caller_who_leaves_while_it_is_settled_does_not_stop_that(desk: Desk) -> None:
    settling = asyncio.create_task(desk.accountant.close(errand(), answered()))
    await asyncio.sleep(0)
    settling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await settling
    for _ in range(100):
        if desk.counters:
            break
        await asyncio.sleep(0.02)
    assert desk.counters[DAY]["spent"] == round(ON_SMALL * NANO)


async def test_a_table_that_fails_does_not_fail_the_request(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.table.close()
    await desk.accountant.close(errand(), answered())
    assert "what 1 requests cost is not counted" in caplog.text


async def test_a_conversation_is_remembered_by_the_model_that_answered(desk: Desk) -> None:
    await desk.accountant.close(errand(memory=KNOWN), answered())
    recalled = await desk.accountant.recall(key(), errand().ask)
    after = Memory(2_000, NOW, {"small": Warm(2_000, NOW, "http://a/v1")})
    assert (recalled.conversation, recalled.leant_on) == (after, NOTHING)
    assert len(desk.table.list("session")) == 1


async def test_a_conversation_too_short_for_a_cache_is_not_written_down(desk: Desk) -> None:
    await desk.accountant.close(errand(), answered(Usage(1_023, 100)))
    assert desk.table.list("session") == []


async def test_who_sealed_the_reasoning_of_a_short_conversation_is_known_here(desk: Desk) -> None:
    of = errand(protocol=Protocol.RESPONSES)
    await desk.accountant.close(of, answered(Usage(100, 50)))
    short = replace(of.ask, prompt=Prompt("text", 100, 500))
    sealed, unsealed = replace(short, is_sealed=True), short
    assert (await desk.accountant.recall(key(), sealed)).conversation.latest == "http://a/v1"
    assert (await desk.accountant.recall(key(), unsealed)).conversation == NOTHING
    assert desk.table.list("session") == []


async def test_of_anthropics_input_that_is_cached_which_was_read_or_written(desk: Desk) -> None:
    of = errand(protocol=Protocol.MESSAGES, writes_cache=True)
    await desk.accountant.close(of, answered(Usage(2_000, 100, 1_100, 200, 300)))
    recalled = await desk.accountant.recall(key(), of.ask)
    assert recalled.conversation.warm == {"small": Warm(1_600, NOW, "http://a/v1")}


async def test_however_short_an_answer_is_others_know_who_gave_it(desk: Desk) -> None:
    """Only its provider can go on with it."""
    of = errand(protocol=Protocol.RESPONSES, is_kept=True)
    await desk.accountant.close(of, answered(Usage(10, 5), answer="resp_1"))
    another = Sessions(desk.table, Clock(NOW))
    assert another.look(answer_id(key().id, "resp_1")).warm == {"small": Warm(10, NOW, "http://a/v1")}


async def test_the_deployment_s_speed_is_noted(desk: Desk) -> None:
    await desk.accountant.close(errand(), answered())
    assert desk.speeds.expected_ms(SMALL, 50) == 500.0


async def test_a_stream_that_broke_off_tells_no_speed(desk: Desk) -> None:
    await desk.accountant.close(errand(), replace(answered(), stream_seconds=1.0, whole=False))
    assert desk.speeds.expected_ms(SMALL, 50) is None


async def test_the_log_has_what_it_cost_and_saved(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "nearvote.requests"):
        await desk.accountant.close(errand(), answered())
    (line,) = [orjson.loads(each.getMessage()) for each in caplog.records if each.name == "nearvote.requests"]
    assert (line["cost"], line["saved"]) == (pytest.approx(ON_SMALL), pytest.approx(ON_LARGE - ON_SMALL))
    assert (line["status"], line["input_tokens"], line["output_tokens"]) == (200, 2_000, 100)
