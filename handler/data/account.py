"""What a request leaves behind: its price, the key's counters, the conversation's warmth, the deployment's speed, and
one line in the log."""

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from handler.asgi import CLIENT_CLOSED_REQUEST
from handler.data.forward import Reply, milliseconds_since
from handler.data.live import Live
from handler.data.outlook import reused
from handler.data.record import record
from handler.data.sessions import (
    ANSWER_KEPT_S,
    KEPT_S,
    LEAST_TOKENS,
    NOTHING,
    Memory,
    Recalled,
    Sessions,
    Warm,
    answer_id,
    continued_id,
    id_of,
)
from handler.data.speeds import Speeds
from handler.errors import ApiError
from handler.evidence import headers
from handler.flow import Ask, Decision, Outcome, Protocol, Usage
from handler.keys import KeyRecord
from handler.ledger import Ledger, Reservation, Settlement, Spent, Stake, limited
from handler.table import TableError

log = logging.getLogger("nearvote.account")


@dataclass(frozen=True, slots=True)
class Errand:
    """One request on its way: all that its answer and its record need."""

    key: KeyRecord
    ask: Ask
    live: Live
    memory: Memory
    """What was known of the conversation before."""
    decision: Decision
    started: float
    overhead_ms: float = 0.0
    reservation: Reservation | None = None

    def headers(self, cost: float | None = None) -> dict[str, str]:
        return headers(self.decision, self.overhead_ms, cost)

    def cost(self, usage: Usage | None) -> float | None:
        """Dollars."""
        return None if usage is None else self.live.fleet.fleet.by_name[self.decision.model].price.of(usage)

    @property
    def stake(self) -> Stake:
        return Stake(self.decision.cost, self.ask.prompt.input_tokens + self.ask.prompt.output_tokens)


@dataclass(frozen=True, slots=True)
class Ending:
    """How an errand ended."""

    status: int
    reply: Reply | None = None
    usage: Usage | None = None
    error: ApiError | None = None
    fault: str = ""
    """Of the upstream, where it and not we told the error."""
    answer: str = ""
    """The upstream's id of its answer."""
    stream_seconds: float | None = None
    """From the first bytes to the last; None for a whole answer."""
    whole: bool = True
    """Whether a stream came to its end: else its usage is that of its beginning."""
    called: bool = True
    """Whether a model was called at all."""


SEALING = (Protocol.MESSAGES, Protocol.RESPONSES)
"""Whose answers may hold reasoning that only its provider reads: then it matters who gave even a short one."""
GONE_BEFORE = Ending(CLIENT_CLOSED_REQUEST, called=False)
"""The caller left before that."""


@dataclass(slots=True)
class _Unwritten:
    """What this process knows and no other yet."""

    settlements: list[Settlement] = field(default_factory=list)
    conversations: dict[str, int] = field(default_factory=dict)
    """By id, the seconds that each is kept."""


class Accountant:
    """What a request took is written down `delay` seconds later, with what others took meanwhile; without a delay,
    before its answer ends. Until then a budget has it as it was reserved."""

    def __init__(self, ledger: Ledger, sessions: Sessions, speeds: Speeds, delay: float) -> None:
        self._ledger = ledger
        self._sessions = sessions
        self._speeds = speeds
        self._delay = delay
        self._unwritten = _Unwritten()
        self._writing: asyncio.Task[None] | None = None

    async def recall(self, key: KeyRecord, ask: Ask) -> Recalled:
        worth_it = ask.prompt.input_tokens >= LEAST_TOKENS or ask.is_sealed
        conversation = await self._look(id_of(ask, key.id)) if worth_it else NOTHING
        return Recalled(conversation, await self._look(continued_id(ask, key.id)))

    async def _look(self, id: str) -> Memory:
        known = self._sessions.peek(id)
        return known if known is not None else await asyncio.to_thread(self._sessions.look, id)

    async def reserve(self, errand: Errand) -> Errand:
        """Raises BudgetSpent, RateLimited or TooManyTokens."""
        if not limited(errand.key):
            return errand
        reserving = asyncio.ensure_future(asyncio.to_thread(self._ledger.reserve, errand.key, errand.stake))
        try:
            return replace(errand, reservation=await asyncio.shield(reserving))
        except asyncio.CancelledError:  # the client left, and the thread goes on: what it takes is given back
            with contextlib.suppress(ApiError, TableError):
                taken = replace(errand, reservation=await reserving)
                await self.close(taken, GONE_BEFORE)
            raise

    async def reserve_more(self, errand: Errand, dollars: float) -> Errand:
        """For a model that is expected to cost so much, where less was reserved. Raises BudgetSpent or TableError."""
        assert errand.reservation is not None  # noqa: S101 - there is something to raise
        raised = await asyncio.to_thread(self._ledger.raise_to, errand.key, errand.reservation, dollars)
        return replace(errand, reservation=raised)

    async def close(self, errand: Errand, ending: Ending) -> None:
        """Never fails the request."""
        cost = errand.cost(ending.usage)
        saved = None if ending.usage is None or cost is None else _saved(errand, ending.usage, cost, self._sessions.now)
        if ending.reply is not None and ending.usage is not None:
            self._note_speed(ending.reply, ending.usage, ending)
        spent = _spent(errand, ending, cost, saved)
        self._unwritten.settlements.append(Settlement(errand.key, errand.reservation, spent, self._sessions.now))
        self._unwritten.conversations.update(self._remember(errand, ending))
        _record(errand, ending, cost, saved)
        if not self._delay:
            await asyncio.shield(self.flush())  # the caller may leave
        elif self._writing is None:
            self._writing = asyncio.create_task(self._flush_later())

    async def flush(self) -> None:
        """Write down what is not yet."""
        unwritten, self._unwritten = self._unwritten, _Unwritten()
        await asyncio.to_thread(self._write, unwritten)

    async def _flush_later(self) -> None:
        try:
            while self._unwritten.settlements:
                await asyncio.sleep(self._delay)
                await self.flush()
        finally:  # whatever it died of, the next request begins anew
            self._writing = None

    def _note_speed(self, reply: Reply, usage: Usage, ending: Ending) -> None:
        if ending.stream_seconds is None:
            self._speeds.note_whole(reply.target, reply.ms, usage.output_tokens)
        elif ending.whole:
            self._speeds.note_stream(reply.target, reply.ms, ending.stream_seconds, usage.output_tokens)

    def _remember(self, errand: Errand, ending: Ending) -> dict[str, int]:
        """Ids of what is now known better and is worth telling other processes, each with the seconds that it keeps."""
        ask, usage, reply = errand.ask, ending.usage, ending.reply
        if usage is None or reply is None:
            return {}
        warm = Warm(_cached_after(ask, usage), self._sessions.now, reply.target.deployment.base_url)
        after = errand.memory.after(errand.decision.model, usage.input_tokens, warm)
        conversation, key = id_of(ask, errand.key.id), errand.key.id
        shared = {conversation: KEPT_S} if after.tokens >= LEAST_TOKENS else {}
        if shared or ask.protocol in SEALING:
            self._sessions.remember(conversation, after)
        if ask.is_kept:
            alone = Memory().after(errand.decision.model, usage.input_tokens, warm)
            for id in (answer_id(key, ending.answer), continued_id(ask, key)):
                self._sessions.remember(id, alone)
                shared[id] = ANSWER_KEPT_S
        return {id: seconds for id, seconds in shared.items() if id}

    def _write(self, unwritten: _Unwritten) -> None:
        try:
            self._ledger.settle(unwritten.settlements)
        except TableError as error:
            log.error("what %d requests cost is not counted: %s", len(unwritten.settlements), error)
        except Exception:  # a fault of ours must not take conversations, and those who come later, with it
            log.exception("what %d requests cost is not counted", len(unwritten.settlements))
        for id, seconds in unwritten.conversations.items():
            self._sessions.share(id, seconds)
        self._speeds.share_if_due()


def _saved(errand: Errand, usage: Usage, cost: float, now: float) -> float:
    """Dollars. A model that the client named would have answered without routing too."""
    return _baseline(errand, usage, now) - cost if errand.ask.auto else 0.0


def _baseline(errand: Errand, usage: Usage, now: float) -> float:
    """Dollars that the same would have cost without routing: on the key's baseline model, which would have had the
    conversation in its cache. So a cache that routing broke is charged against what routing saved."""
    fleet, key, ask = errand.live.fleet.fleet, errand.key, errand.ask
    wishes = (key.baseline_model, ask.instead_of, key.default_model, fleet.default, *fleet.dearest_first)
    model = next(fleet.by_name[wish] for wish in wishes if wish is not None and wish in fleet.by_name)
    cached = reused(errand.memory.seen(model.cache_seconds, now), ask, errand.memory, model)
    cached = min(max(cached, usage.cached_tokens), usage.input_tokens)
    rest = usage.input_tokens - cached
    written = rest - min(usage.fresh_tokens, rest)
    by_kind = (0, written) if usage.written_1h_tokens else (written, 0)
    return model.price.of(Usage(usage.input_tokens, usage.output_tokens, cached, *by_kind))


def _cached_after(ask: Ask, usage: Usage) -> int:
    """Tokens that the model has in its cache from now on."""
    if ask.protocol is Protocol.MESSAGES:
        return usage.cached_tokens + usage.written_tokens + usage.written_1h_tokens
    return usage.input_tokens


def _spent(errand: Errand, ending: Ending, cost: float | None, saved: float | None) -> Spent:
    """Of an answer whose usage nobody told, and of one that did not come to its end, what was expected, or more where
    that much is known; of no answer, nothing."""
    stake = errand.stake
    if cost is not None and ending.usage is not None:
        tokens = ending.usage.input_tokens + ending.usage.output_tokens
        if ending.whole:
            return Spent(cost, tokens, saved or 0.0)
        return Spent(max(cost, stake.dollars), max(tokens, stake.tokens))
    if ending.reply is not None and ending.reply.answer.is_success:
        return Spent(stake.dollars, stake.tokens)
    if ending.status == CLIENT_CLOSED_REQUEST and ending.called:  # a dearer model may have been at work
        held = errand.reservation.stake if errand.reservation else stake
        return Spent(held.dollars, held.tokens)
    return Spent(0.0, 0)


def _record(errand: Errand, ending: Ending, cost: float | None, saved: float | None) -> None:
    outcome = Outcome(
        status=ending.status,
        stream=errand.ask.stream,
        overhead_ms=errand.overhead_ms,
        total_ms=milliseconds_since(errand.started),
        usage=ending.usage,
        cost=cost,
        saved=saved,
        error=ending.error.code if ending.error else ending.fault,
    )
    record(errand.decision, errand.key, outcome)


def answer_id_in(parsed: Mapping[str, object]) -> str:
    """The upstream's id of a whole answer."""
    id = parsed.get("id")
    return id if isinstance(id, str) else ""
