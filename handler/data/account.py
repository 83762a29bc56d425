"""What a request leaves behind: its price, the key's counters, the conversation's warmth, the deployment's speed, and
one line in the log."""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from handler.asgi import CLIENT_CLOSED_REQUEST
from handler.data.forward import Reply, milliseconds_since
from handler.data.live import Live
from handler.data.outlook import reused
from handler.data.record import record
from handler.data.sessions import LEAST_TOKENS, Memory, Recalled, Sessions, Warm, answer_id, continued_id, id_of
from handler.data.speeds import Speeds
from handler.errors import ApiError
from handler.evidence import headers
from handler.flow import Ask, Decision, Outcome, Protocol, Usage
from handler.keys import KeyRecord
from handler.ledger import Ledger, Reservation, Spent, Stake, limited
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
    called: bool = True
    """Whether a model was called at all."""


GONE_BEFORE = Ending(CLIENT_CLOSED_REQUEST, called=False)
"""The caller left before a model was called."""


class Accountant:
    def __init__(self, ledger: Ledger, sessions: Sessions, speeds: Speeds) -> None:
        self._ledger = ledger
        self._sessions = sessions
        self._speeds = speeds

    async def recall(self, key: KeyRecord, ask: Ask) -> Recalled:
        return Recalled(await self._look(id_of(ask, key.id)), await self._look(continued_id(ask, key.id)))

    async def _look(self, id: str) -> Memory:
        known = self._sessions.peek(id)
        return known if known is not None else await asyncio.to_thread(self._sessions.look, id)

    async def reserve(self, errand: Errand) -> Errand:
        """Raises BudgetSpent or RateLimited."""
        if not limited(errand.key):
            return errand
        reserving = asyncio.ensure_future(asyncio.to_thread(self._ledger.reserve, errand.key, errand.stake))
        try:
            return replace(errand, reservation=await asyncio.shield(reserving))
        except asyncio.CancelledError:  # the thread goes on, and what it takes is to be given back
            with suppress(ApiError, TableError):
                await self._close(replace(errand, reservation=await reserving), GONE_BEFORE)
            raise

    async def close(self, errand: Errand, ending: Ending) -> None:
        """Never fails the request, and goes on where the caller leaves."""
        await asyncio.shield(self._close(errand, ending))

    async def _close(self, errand: Errand, ending: Ending) -> None:
        cost = errand.cost(ending.usage)
        saved = None if ending.usage is None or cost is None else _saved(errand, ending.usage, cost, self._sessions.now)
        if ending.reply is not None and ending.usage is not None:
            self._note_speed(ending.reply, ending.usage, ending)
        ids = self._remember(errand, ending)
        await asyncio.to_thread(self._write, errand, _spent(errand, ending, cost, saved), ids)
        _record(errand, ending, cost, saved)

    def _note_speed(self, reply: Reply, usage: Usage, ending: Ending) -> None:
        if ending.stream_seconds is None:
            self._speeds.note_whole(reply.target, reply.ms, usage.output_tokens)
        elif ending.error is None:
            self._speeds.note_stream(reply.target, reply.ms, ending.stream_seconds, usage.output_tokens)

    def _remember(self, errand: Errand, ending: Ending) -> list[str]:
        """Ids of what the other processes are to know too: an answer, which a later request may lean on, however
        short."""
        ask, usage, reply = errand.ask, ending.usage, ending.reply
        if usage is None or reply is None:
            return []
        warm = Warm(_cached_after(ask, usage), self._sessions.now, reply.target.deployment.base_url)
        after = errand.memory.after(errand.decision.model, usage.input_tokens, warm)
        conversation = id_of(ask, errand.key.id)
        self._sessions.remember(conversation, after)
        told = [conversation] if conversation and usage.input_tokens >= LEAST_TOKENS else []
        if ask.protocol is not Protocol.RESPONSES or not ending.answer:
            return told
        answer = answer_id(errand.key.id, ending.answer)
        self._sessions.remember(answer, Memory().after(errand.decision.model, usage.input_tokens, warm))
        return [*told, answer]

    def _write(self, errand: Errand, spent: Spent, ids: list[str]) -> None:
        try:
            self._ledger.settle(errand.key, errand.reservation, spent)
        except TableError as error:
            log.error("what a request cost is not counted: %s", error)
        for id in ids:
            self._sessions.share(id)
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
    written = max(usage.input_tokens - cached, 0) if usage.written_tokens or usage.written_1h_tokens else 0
    return model.price.of(Usage(usage.input_tokens, usage.output_tokens, cached, written))


def _cached_after(ask: Ask, usage: Usage) -> int:
    """Tokens that the model has in its cache from now on."""
    if ask.protocol is Protocol.MESSAGES:
        return usage.cached_tokens + usage.written_tokens + usage.written_1h_tokens
    return usage.input_tokens


def _spent(errand: Errand, ending: Ending, cost: float | None, saved: float | None) -> Spent:
    """Of an answer whose usage nobody told, and of one that the caller did not wait for, what was expected, as it is
    paid for; of no answer, nothing."""
    if cost is not None and ending.usage is not None:
        return Spent(cost, ending.usage.input_tokens + ending.usage.output_tokens, saved or 0.0)
    answered = ending.reply is not None and ending.reply.answer.is_success
    if answered or (ending.status == CLIENT_CLOSED_REQUEST and ending.called):
        return Spent(errand.stake.dollars, errand.stake.tokens)
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
