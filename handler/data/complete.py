"""One completion, in whichever protocol: decide → reserve → forward → account."""

import asyncio
import contextlib
import time
from dataclasses import dataclass, replace

from starlette.responses import Response

from handler import evidence
from handler.asgi import CLIENT_CLOSED_REQUEST, shape_of
from handler.data.account import Accountant, Ending, Errand, answer_id_in
from handler.data.decide import Decider
from handler.data.failover import Failover, NotServed, Served
from handler.data.forward import milliseconds_since
from handler.data.live import Live
from handler.data.outlook import Outlook, look_ahead
from handler.data.purse import Purse
from handler.data.record import record_forecast
from handler.data.speeds import Speeds
from handler.data.stream import Passage, PassageResponse
from handler.errors import ApiError, Internal, UpstreamFailed
from handler.flow import AUTO, Ask, Decision
from handler.keys import KeyRecord, Routing
from handler.wire.wire import Wire


@dataclass(frozen=True, slots=True)
class Stages:
    """What a completion passes through, in order."""

    decider: Decider
    failover: Failover
    accountant: Accountant
    speeds: Speeds


class Completer:
    def __init__(self, stages: Stages) -> None:
        self._stages = stages
        self._forecasts: set[asyncio.Task[None]] = set()

    async def complete(self, key: KeyRecord, ask: Ask, wire: Wire, live: Live, started: float) -> Response:
        decision, outlook = await self.decide(key, ask, live, ask.preferences.full_evidence)
        if not ask.auto and key.routing is Routing.FORECAST:
            self._forecast(key, ask, live, decision)
        errand = await self._stages.accountant.reserve(Errand(key, ask, live, outlook.memory, decision, started))
        errand = replace(errand, overhead_ms=milliseconds_since(started))
        purse = Purse(self._stages.accountant, errand, outlook.costs)
        preferred = outlook.deployment(decision.model)
        try:
            fleet = live.fleet.fleet
            served = await self._stages.failover.send(ask, decision, fleet, wire, preferred, affords=purse.affords)
        except NotServed as none:
            return await self._not_served(replace(purse.errand, decision=none.decision), none, wire)
        except asyncio.CancelledError:
            await self._stages.accountant.close(purse.errand, Ending(CLIENT_CLOSED_REQUEST))
            raise
        except Exception as error:  # a fault of ours: what was reserved is given back all the same
            ending = Ending(Internal.status, error=Internal(type(error).__name__))
            await self._stages.accountant.close(purse.errand, ending)
            raise
        errand = purse.errand
        if served.decision is not decision:
            errand = replace(errand, decision=outlook.restated(served.decision))
        return self._streamed(errand, served, wire) if served.reply.rest else await self._whole(errand, served, wire)

    async def count_tokens(self, key: KeyRecord, ask: Ask, wire: Wire, live: Live) -> Response:
        """Of a request, by the model that is named, or by the default one: it costs nothing, and nothing is kept."""
        aside = replace(ask, stream=False, preferences=replace(ask.preferences, routing_off=True))
        decision, _ = await self.decide(key, aside, live)
        path = f"{wire.path}/count_tokens"
        try:
            reply = (await self._stages.failover.send(aside, decision, live.fleet.fleet, wire, path=path)).reply
        except NotServed as none:
            if none.failed.reply is None:
                raise none.failed.error from none
            reply = none.failed.reply
        if reply.rest is not None:
            await reply.answer.aclose()
            raise UpstreamFailed(f"{reply.target.model.name} answered with a stream where a number was asked for")
        return Response(reply.body, reply.status, reply.headers)

    async def decide(
        self, key: KeyRecord, ask: Ask, live: Live, full_evidence: bool = False
    ) -> tuple[Decision, Outlook]:
        stages, fleet = self._stages, live.fleet.fleet
        recalled = await stages.accountant.recall(key, ask)
        models = fleet.models if ask.auto else [model for model in fleet.models if model.name == ask.model]
        outlook = look_ahead(ask, models, recalled, stages.speeds, time.time())
        return await stages.decider.decide(ask, key, live, outlook, full_evidence), outlook

    async def _whole(self, errand: Errand, served: Served, wire: Wire) -> Response:
        reply = served.reply
        usage = wire.usage(reply.parsed, None)
        ending = Ending(reply.status, reply, usage, answer=answer_id_in(reply.parsed))
        await self._stages.accountant.close(errand, ending)
        full = errand.ask.preferences.full_evidence
        body = evidence.in_body(reply.body, errand.decision) if full else reply.body
        return Response(body, reply.status, {**reply.headers, **errand.headers(errand.cost(usage))})

    def _streamed(self, errand: Errand, served: Served, wire: Wire) -> Response:
        full, reply = errand.ask.preferences.full_evidence, served.reply
        last_words = wire.last_words(errand.decision, int(time.time())) if full else b""
        passage = Passage(reply, wire, last_words, errand.ask.adds_usage)

        async def ended() -> None:
            if passage.whole or passage.failed:
                self._stages.failover.ended(reply.target, passage.whole)
            ending = Ending(
                reply.status,
                reply,
                passage.usage,
                passage.error,
                passage.fault,
                passage.answer_id,
                passage.seconds,
                whole=passage.whole,
            )
            await self._stages.accountant.close(errand, ending)

        return PassageResponse(passage, {**reply.headers, **errand.headers()}, ended)

    async def _not_served(self, errand: Errand, none: NotServed, wire: Wire) -> Response:
        """Nobody answered: the caller is told what the last one said, or what was in the way."""
        failed = none.failed
        if failed.reply is not None:
            await self._stages.accountant.close(errand, Ending(failed.reply.status, fault=failed.fault))
            headers = {**failed.reply.headers, **errand.headers()}
            return Response(failed.reply.body, failed.reply.status, headers)
        await self._stages.accountant.close(errand, Ending(failed.error.status, error=failed.error))
        return failed.error.response(shape_of(f"/v1{wire.path}"), errand.headers())

    def _forecast(self, key: KeyRecord, ask: Ask, live: Live, decision: Decision) -> None:
        """Beside the call upstream, so that it costs the request no time."""

        async def forecast() -> None:
            with contextlib.suppress(ApiError):  # restrictions that leave no model: there is nothing to forecast
                forecasted, _ = await self.decide(key, replace(ask, model=AUTO[0]), live)
                record_forecast(forecasted, decision, key)

        task = asyncio.create_task(forecast())
        self._forecasts.add(task)
        task.add_done_callback(self._forecasts.discard)
