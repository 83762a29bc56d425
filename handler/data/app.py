"""The data plane: answers requests and can only read the index.

auth → wire → decide → forward → record
"""

import asyncio
import contextlib
import time
from dataclasses import dataclass, replace

import httpx
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from handler import curve
from handler.asgi import CLIENT_CLOSED_REQUEST, json_response, read_body, unless_gone
from handler.auth import Authenticator
from handler.data import evidence
from handler.data.decide import Decider
from handler.data.forward import PASSED_BACK, Forwarder, read_whole
from handler.data.live import Live, Watcher
from handler.data.record import record, record_forecast
from handler.data.stream import Passage, PassageResponse
from handler.errors import ApiError, RoutingOff
from handler.fleet import Model
from handler.flow import AUTO, Ask, Decision, Outcome, Usage
from handler.keys import KeyRecord, Routing
from handler.wire import chat_completions


@dataclass(frozen=True, slots=True)
class Sent:
    """One request on its way: all that its answer and its record need."""

    key: KeyRecord
    ask: Ask
    decision: Decision
    model: Model
    started: float
    overhead_ms: float

    def cost(self, usage: Usage | None) -> float | None:
        return None if usage is None else self.model.price.of(usage)

    def headers(self, answer: httpx.Response, cost: float | None) -> dict[str, str]:
        passed = {name: answer.headers[name] for name in PASSED_BACK if name in answer.headers}
        return passed | self.evidence(cost)

    def evidence(self, cost: float | None = None) -> dict[str, str]:
        return evidence.headers(self.decision, self.overhead_ms, cost)

    def record(self, status: int, usage: Usage | None = None, error: ApiError | None = None) -> None:
        outcome = Outcome(
            status=status,
            stream=self.ask.stream,
            overhead_ms=self.overhead_ms,
            total_ms=milliseconds_since(self.started),
            usage=usage,
            cost=self.cost(usage),
            error=error.code if error else "",
        )
        record(self.decision, self.key, outcome)


class DataPlane:
    def __init__(
        self, auth: Authenticator, watcher: Watcher, decider: Decider, forwarder: Forwarder, body_bytes: int
    ) -> None:
        self._auth = auth
        self._watcher = watcher
        self._decider = decider
        self._forwarder = forwarder
        self._body_bytes = body_bytes
        self._forecasts: set[asyncio.Task[None]] = set()

    def routes(self) -> list[Route]:
        return [
            Route("/v1/chat/completions", self.chat_completions, methods=["POST"]),
            Route("/v1/route", self.route, methods=["POST"]),
            Route("/v1/models", self.models, methods=["GET"]),
            Route("/v1/dial", self.dial, methods=["GET"]),
            Route("/healthz", self.healthz, methods=["GET"]),
        ]

    def touch(self) -> None:
        """Look for a new index or fleet in the background, if it is time."""
        self._watcher.touch()

    async def close(self) -> None:
        self._watcher.close()
        self._decider.close()
        await self._forwarder.close()

    async def chat_completions(self, request: Request) -> Response:
        started = time.perf_counter()
        key, ask = await self._read(request)
        return await unless_gone(request, self._answer(key, ask, started))

    async def _answer(self, key: KeyRecord, ask: Ask, started: float) -> Response:
        live = await self._look()
        decision = await self._decider.decide(ask, key, live, ask.preferences.full_evidence)
        if not ask.auto and key.routing is Routing.FORECAST:
            self._forecast(ask, key, live, decision)
        model = live.fleet.fleet.by_name[decision.model]
        sent = Sent(key, ask, decision, model, started, overhead_ms=milliseconds_since(started))
        try:
            answer = await self._forwarder.send(model, ask)
            return _streamed(sent, answer) if _is_stream(answer) else await _whole(sent, answer)
        except ApiError as error:
            sent.record(error.status, error=error)
            return error.response(sent.evidence())
        except asyncio.CancelledError:
            sent.record(CLIENT_CLOSED_REQUEST)
            raise

    async def route(self, request: Request) -> Response:
        """The decision that chat_completions would make, with all its evidence, without calling a model."""
        started = time.perf_counter()
        key, ask = await self._read(request)
        decision = await self._decider.decide(ask, key, await self._look(), full_evidence=True)
        shown = evidence.headers(decision, milliseconds_since(started), cost=None)
        return json_response(evidence.full(decision), headers=shown)

    async def models(self, request: Request) -> Response:
        await self._auth.caller(request)
        names = (*AUTO, *(await self._look()).fleet.fleet.by_name)
        return json_response(
            {
                "object": "list",
                "data": [{"id": name, "object": "model", "created": 0, "owned_by": "nearvote"} for name in names],
            }
        )

    async def dial(self, request: Request) -> Response:
        """What each setting of the dial spends and gives, as measured for this index and this fleet."""
        await self._auth.caller(request)
        live = await self._look()
        return json_response(curve.describe(live.ballot, live.fleet.version, live.detail))

    async def healthz(self, _: Request) -> Response:
        live = self._watcher.live
        return json_response(
            {
                "status": "ok",
                "index_version": live.ballot.snapshot.version if live.ballot else None,
                "fleet_version": live.fleet.version,
                "detail": live.detail or None,
            }
        )

    async def _read(self, request: Request) -> tuple[KeyRecord, Ask]:
        key = await self._auth.caller(request)
        ask = chat_completions.read(await read_body(request, self._body_bytes), dict(request.headers))
        if ask.auto and key.routing is not Routing.ON:
            raise RoutingOff(
                f"routing is {key.routing.value} for this key, so `{ask.model}` is not answered: name a model, or "
                f"switch it on with `nearvote keys change {key.id} --routing on`"
            )
        return key, ask

    async def _look(self) -> Live:
        """What is live now; a request keeps it to its end."""
        await self._watcher.catch_up()
        return self._watcher.live

    def _forecast(self, ask: Ask, key: KeyRecord, live: Live, decision: Decision) -> None:
        """Beside the call upstream, so that it costs the request no time."""

        async def forecast() -> None:
            with contextlib.suppress(ApiError):  # restrictions that leave no model: there is nothing to forecast
                record_forecast(await self._decider.decide(replace(ask, model=AUTO[0]), key, live), decision, key)

        task = asyncio.create_task(forecast())
        self._forecasts.add(task)
        task.add_done_callback(self._forecasts.discard)


def milliseconds_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000


def _is_stream(answer: httpx.Response) -> bool:
    return answer.is_success and answer.headers.get("content-type", "").startswith("text/event-stream")


async def _whole(sent: Sent, answer: httpx.Response) -> Response:
    body = await read_whole(answer, sent.model)
    usage = evidence.usage_in(body) if answer.is_success else None
    sent.record(answer.status_code, usage)
    if sent.ask.preferences.full_evidence:
        body = evidence.in_body(body, sent.decision)
    return Response(body, answer.status_code, sent.headers(answer, sent.cost(usage)))


def _streamed(sent: Sent, answer: httpx.Response) -> Response:
    last_words = evidence.as_chunk(sent.decision, int(time.time())) if sent.ask.preferences.full_evidence else b""
    passage = Passage(answer, sent.model.name, last_words)

    def ended() -> None:
        sent.record(answer.status_code, passage.usage, passage.error)

    return PassageResponse(passage, sent.headers(answer, cost=None), ended)
