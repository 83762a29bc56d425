"""The data plane: answers requests; of the index it can only read.

auth → wire → decide → reserve → forward → account; all from `decide` on is complete.py.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from handler import curve, evidence
from handler.asgi import json_response, read_body, unless_gone
from handler.auth import Authenticator
from handler.data.complete import Completer
from handler.data.forward import milliseconds_since
from handler.data.live import Live, Watcher
from handler.data.slate import matches
from handler.errors import BadRequest, RoutingOff
from handler.flow import AUTO, Ask, Protocol
from handler.keys import KeyRecord, Routing
from handler.wire.models import list_for_anthropic, list_for_openai
from handler.wire.protocols import WIRES
from handler.wire.wire import Wire

WARM_UP = "/api/hello"
"""Which Claude Code asks for with HEAD as it starts."""


class DataPlane:
    def __init__(
        self,
        auth: Authenticator,
        watcher: Watcher,
        completer: Completer,
        body_bytes: int,
        close: Callable[[], Awaitable[None]],
    ) -> None:
        """`close` ends what the completer was made from."""
        self._auth = auth
        self._watcher = watcher
        self._completer = completer
        self._body_bytes = body_bytes
        self._close = close

    def routes(self) -> list[Route]:
        return [
            *(Route(f"/v1{wire.path}", partial(self.complete, wire=wire), methods=["POST"]) for wire in WIRES.values()),
            Route("/v1/messages/count_tokens", self.count_tokens, methods=["POST"]),
            Route("/v1/route", self.route, methods=["POST"]),
            Route("/v1/models", self.models, methods=["GET"]),
            Route("/v1/dial", self.dial, methods=["GET"]),
            Route("/healthz", self.healthz, methods=["GET"]),
            Route(WARM_UP, self.healthz, methods=["GET"]),
        ]

    def touch(self) -> None:
        """Look for a new index or fleet in the background, if it is time."""
        self._watcher.touch()

    async def close(self) -> None:
        self._watcher.close()
        await self._close()

    async def complete(self, request: Request, wire: Wire) -> Response:
        """One answer, whole or as a stream, in the protocol that was called."""
        started = time.perf_counter()
        key, ask = await self._read(request, wire)

        async def answer() -> Response:
            return await self._completer.complete(key, ask, wire, await self._look(), started)

        return await unless_gone(request, answer())

    async def count_tokens(self, request: Request) -> Response:
        wire = WIRES[Protocol.MESSAGES]
        key, ask = await self._read(request, wire)
        return await self._completer.count_tokens(key, ask, wire, await self._look())

    async def route(self, request: Request) -> Response:
        """The decision that a completion would make, with all its evidence, without calling a model. ?protocol="""
        started = time.perf_counter()
        key, ask = await self._read(request, _wire_of(request))
        decision, _ = await self._completer.decide(key, ask, await self._look(), full_evidence=True)
        shown = evidence.headers(decision, milliseconds_since(started), cost=None)
        return json_response(evidence.full(decision), headers=shown)

    async def models(self, request: Request) -> Response:
        """All that can be named, in Anthropic's shape for callers that speak as Anthropic's clients do."""
        await self._auth.caller(request)
        names = (*AUTO, *(await self._look()).fleet.fleet.by_name)
        listed = list_for_anthropic if "anthropic-version" in request.headers else list_for_openai
        return json_response(listed(names))

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

    async def _read(self, request: Request, wire: Wire) -> tuple[KeyRecord, Ask]:
        key = await self._auth.caller(request)
        ask = wire.read(await read_body(request, self._body_bytes), dict(request.headers))
        if not ask.auto and key.routing is Routing.ON and matches(key.route_models, ask.model):
            ask = replace(ask, model=AUTO[0], instead_of=ask.model)
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


def _wire_of(request: Request) -> Wire:
    name = request.query_params.get("protocol", Protocol.CHAT.value)
    try:
        return WIRES[Protocol(name)]
    except ValueError as error:
        known = ", ".join(protocol.value for protocol in Protocol)
        raise BadRequest(f"protocol must be one of {known}, not {name!r}", param="protocol") from error
