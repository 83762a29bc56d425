"""A provider that runs no model, for users without provider keys and for tests: OpenAI's and Anthropic's protocols.

`python -m scripts.simulated_provider --port 0` serves on loopback and prints its URL. A fault is asked for by
the header `x-simulate` or the body field `simulate`: 429, 500, overloaded, hang, cut, slow, garbage, error_event (a
stream begins and then tells of an error) or empty (a stream that ends before its first byte). `--fault-rate 0.1` makes
that share of the other requests fail too.
"""

import argparse
import asyncio
import contextlib
import enum
import os
import random
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from scripts import simulated_openai
from scripts.simulated_cache import PromptCache, tokens_of
from scripts.simulated_chat import CHAT
from scripts.simulated_delivery import EVENT_STREAM, Calls, Delivery, Piece, Reply, Sleep, halved, json_reply
from scripts.simulated_messages import MESSAGES, read_prompt
from scripts.simulated_models import MODELS, SimulatedModel, answer_to, model_of
from scripts.simulated_protocol import ApiError, Envelope, Events, Json, Protocol
from scripts.simulated_responses import RESPONSES

Clock: TypeAlias = Callable[[], float]

HANG_S = 120.0
SLOW_FIRST_TOKEN_S = 2.0
SPOILED_AFTER_PIECES = 3
SECRET_HEADERS = ("authorization", "proxy-authorization", "cookie", "api-key", "x-api-key")


class Fault(enum.Enum):
    RATE_LIMITED = "429"
    SERVER_ERROR = "500"
    OVERLOADED = "overloaded"
    HANG = "hang"
    CUT = "cut"
    SLOW = "slow"
    GARBAGE = "garbage"
    ERROR_EVENT = "error_event"
    EMPTY = "empty"


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request, and what its answer depends on beside its body."""

    protocol: Protocol
    request: Request
    number: int
    created: int
    cache: PromptCache

    @property
    def id(self) -> str:
        return f"req_simulated_{self.number}"

    def failed(self, error: ApiError, wait_s: float = 0.0) -> Reply:
        return json_reply(self.protocol.error(error, self.id), error.status, wait_s)


Answering: TypeAlias = Callable[[Exchange, Json, Fault | None], Reply]


Draw = Callable[[], Fault | None]
"""The fault of the next request that asks for none."""


def draw_faults(rate: float, seed: int) -> Draw:
    """Of that share of the requests, 0..1, each fault as often as any other; no hang, which would only hold callers."""
    draws = random.Random(seed)  # noqa: S311 - the same faults each time are what is wanted
    faults = [fault for fault in Fault if fault is not Fault.HANG]
    return lambda: draws.choice(faults) if draws.random() < rate else None


def build_app(clock: Clock = time.time, sleep: Sleep = asyncio.sleep, draw: Draw = lambda: None) -> Starlette:
    """The provider. `clock` stamps answers and ages the prompt cache (seconds since the epoch), `sleep` paces them,
    `draw` spoils them."""
    calls, cache = Calls(), PromptCache(clock)

    def endpoint(protocol: Protocol, answering: Answering) -> Callable[[Request], Awaitable[Delivery]]:
        async def answered(request: Request) -> Delivery:
            calls.started += 1
            exchange = Exchange(protocol, request, calls.started, int(clock()), cache)
            try:
                raw = await request.body()
            except BaseException:
                calls.cancelled += 1
                raise
            return Delivery(_reply(exchange, raw, calls, answering, draw), calls, sleep)

        return answered

    async def models(_: Request) -> Response:
        data = [{"id": name, "object": "model", "created": 0, "owned_by": "simulated"} for name in MODELS]
        return JSONResponse({"object": "list", "data": data})

    async def last(_: Request) -> Response:
        return JSONResponse(calls.last)

    async def stats(_: Request) -> Response:
        return JSONResponse(calls.counts())

    routes = [
        Route("/v1/chat/completions", endpoint(CHAT, _answer), methods=["POST"]),
        Route("/v1/responses", endpoint(RESPONSES, _answer), methods=["POST"]),
        Route("/v1/messages", endpoint(MESSAGES, _answer), methods=["POST"]),
        Route("/v1/messages/count_tokens", endpoint(MESSAGES, _token_count), methods=["POST"]),
        Route("/v1/models", models),
        Route("/v1/_last", last),
        Route("/v1/_stats", stats),
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: _no_such_route})


async def _no_such_route(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return JSONResponse(simulated_openai.error(ApiError(str(error), status=status), ""), status)


def _reply(exchange: Exchange, raw: bytes, calls: Calls, answering: Answering, draw: Draw) -> Reply:
    try:
        body = _parsed(raw)
        calls.last = {"body": body, "headers": _visible(exchange.request)}
        fault = _fault(exchange.request, body) or draw()
        reply = _failure(fault, exchange) or answering(exchange, body, fault)
    except ApiError as refused:
        reply = exchange.failed(refused)
    except orjson.JSONEncodeError:
        # JSON may be nested more deeply than it can be written again.
        reply = exchange.failed(ApiError("The body is nested too deeply."))
    named = exchange.protocol.request_id_header
    return replace(reply, headers=(*reply.headers, (named, exchange.id))) if named else reply


def _parsed(raw: bytes) -> Json:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise ApiError("The body is not JSON.") from error
    if not isinstance(body, dict):
        raise ApiError("The body must be a JSON object.")
    return body


def _visible(request: Request) -> dict[str, Any]:
    """The headers, of those that carry secrets only whether they were there."""
    shown: dict[str, Any] = {"authorization": False, **request.headers}
    return {name: (bool(value) if name in SECRET_HEADERS else value) for name, value in shown.items()}


def _fault(request: Request, body: Json) -> Fault | None:
    word = request.headers.get("x-simulate", body.get("simulate"))
    if word is None:
        return None
    try:
        return Fault(str(word))
    except ValueError as error:
        known = ", ".join(fault.value for fault in Fault)
        raise ApiError(f"Unknown fault {word!r}; there are {known}.", "simulate") from error


def _failure(fault: Fault | None, exchange: Exchange) -> Reply | None:
    """The reply to a request for a fault that needs no answer to spoil."""
    match fault:
        case Fault.RATE_LIMITED:
            reply = exchange.failed(ApiError("Simulated rate limit.", status=429, code="rate_limit_exceeded"))
            return replace(reply, headers=(*reply.headers, ("retry-after", "1")))
        case Fault.SERVER_ERROR:
            return exchange.failed(_server_error())
        case Fault.OVERLOADED:
            return exchange.failed(ApiError("Simulated overload.", status=exchange.protocol.overloaded_status))
        case Fault.HANG:
            return exchange.failed(ApiError("The simulated hang is over.", status=504), HANG_S)
        case Fault.GARBAGE:
            return Reply((Piece(0.0, b"<html>this is simulated garbage, not JSON"),))
        case Fault.EMPTY:
            return Reply((Piece(0.0, b""),), headers=EVENT_STREAM)
    return None


def _server_error() -> ApiError:
    return ApiError("Simulated server error.", status=500)


def _answer(exchange: Exchange, body: Json, fault: Fault | None) -> Reply:
    protocol = exchange.protocol
    protocol.check(exchange.request.headers)
    model = model_of(body)
    question = protocol.read(body)
    answer = answer_to(question, model, exchange.cache.use(model.name, question.prompt))
    envelope = Envelope(exchange.number, exchange.created, model.name, body)
    if fault is Fault.SLOW:
        model = replace(model, first_token_s=SLOW_FIRST_TOKEN_S)
    if body.get("stream"):
        return _streamed(exchange, protocol.events(answer, envelope), model, fault)
    if fault is Fault.ERROR_EVENT:
        return exchange.failed(_server_error())
    reply = json_reply(
        protocol.whole(answer, envelope), wait_s=model.first_token_s + len(answer.pieces) / model.tokens_per_s
    )
    return halved(reply) if fault is Fault.CUT else reply


def _streamed(exchange: Exchange, events: Events, model: SimulatedModel, fault: Fault | None) -> Reply:
    """The opening begins when the first token would, the pieces follow at the model's speed, and the rest at once."""
    first, *opening = events.opening
    pieces = [
        Piece(model.first_token_s, first),
        *(Piece(0.0, event) for event in opening),
        *(Piece(1 / model.tokens_per_s, event) for event in events.pieces),
    ]
    begun = pieces[: len(events.opening) + SPOILED_AFTER_PIECES]
    if fault is Fault.CUT:
        return Reply(tuple(begun), headers=EVENT_STREAM, cut=True)
    if fault is Fault.ERROR_EVENT:
        error = exchange.protocol.error_event(_server_error(), exchange.id, len(begun))
        return Reply((*begun, Piece(0.0, error)), headers=EVENT_STREAM)
    return Reply((*pieces, *(Piece(0.0, event) for event in events.closing)), headers=EVENT_STREAM)


def _token_count(exchange: Exchange, body: Json, _: Fault | None) -> Reply:
    exchange.protocol.check(exchange.request.headers)
    model_of(body)
    return json_reply({"input_tokens": tokens_of(read_prompt(body))})


def _end_with_parent(parent: int, server: uvicorn.Server) -> None:
    while os.getppid() == parent:
        time.sleep(0.2)
    server.should_exit = True


def main() -> None:
    parser = argparse.ArgumentParser(prog="simulated_provider", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    parser.add_argument("--fault-rate", type=float, default=0.0, help="share of the requests that fail at random, 0..1")
    parser.add_argument("--seed", type=int, default=0, help="of those faults")
    parser.add_argument("--parent-pid", type=int, help="the process that started this one: end when it has ended")
    options = parser.parse_args()
    try:
        listener = socket.create_server(("127.0.0.1", options.port), backlog=2048)
    except OSError as error:
        sys.exit(f"cannot listen on 127.0.0.1:{options.port}: {os.strerror(error.errno or 0)}")
    # Cut connections would be logged as errors of the app: they are what was asked for.
    config = uvicorn.Config(
        build_app(draw=draw_faults(options.fault_rate, options.seed)),
        lifespan="off",
        log_level="critical",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    if options.parent_pid is not None:
        threading.Thread(target=_end_with_parent, args=(options.parent_pid, server), daemon=True).start()
    print(f"simulated provider on http://127.0.0.1:{listener.getsockname()[1]}/v1", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listener])


if __name__ == "__main__":
    main()
