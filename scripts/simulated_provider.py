"""An OpenAI-compatible provider that runs no model: for users without provider keys, and for tests.

`python -m scripts.simulated_provider --port 0` serves on loopback and prints its URL. A fault is asked for by
the header `x-simulate` or the body field `simulate`: 429, 500, hang, cut, slow or garbage. `--fault-rate 0.1`
makes that share of the other requests fail too.
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
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from scripts.simulated_models import (
    MODELS,
    Envelope,
    Json,
    RequestError,
    SimulatedModel,
    answer_to,
    chunks,
    completion,
    model_of,
)

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[None]]

HANG_S = 120.0
SLOW_FIRST_TOKEN_S = 2.0
CUT_AFTER_CHUNKS = 4
SECRET_HEADERS = ("authorization", "proxy-authorization", "cookie", "api-key", "x-api-key")


class Fault(enum.Enum):
    RATE_LIMITED = "429"
    SERVER_ERROR = "500"
    HANG = "hang"
    CUT = "cut"
    SLOW = "slow"
    GARBAGE = "garbage"


Draw = Callable[[], Fault | None]
"""The fault of the next request that asks for none."""


def draw_faults(rate: float, seed: int) -> Draw:
    """Of that share of the requests, 0..1, each fault as often as any other; no hang, which would only hold callers."""
    draws = random.Random(seed)  # noqa: S311 - the same faults each time are what is wanted
    faults = [fault for fault in Fault if fault is not Fault.HANG]
    return lambda: draws.choice(faults) if draws.random() < rate else None


@dataclass(slots=True)
class Calls:
    """What came in: counts of chat requests, and the latest one for tests to look at."""

    started: int = 0
    finished: int = 0
    cancelled: int = 0
    last: Json = field(default_factory=lambda: {"body": None, "headers": {}})

    def counts(self) -> dict[str, int]:
        active = self.started - self.finished - self.cancelled
        return {
            "started": self.started,
            "finished": self.finished,
            "cancelled": self.cancelled,
            "active": active,
        }


@dataclass(frozen=True, slots=True)
class Piece:
    wait_s: float
    data: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """A response in timed pieces; its head goes out with the first. `cut`: then the connection drops."""

    pieces: tuple[Piece, ...]
    status: int = 200
    headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Delivery:
    """Sends a Reply at its pace and counts how it ended; stops as soon as the client has left."""

    reply: Reply
    calls: Calls
    sleep: Sleep

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        sending = asyncio.ensure_future(self._send(send))
        leaving = asyncio.ensure_future(_client_left(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            finished = sending.done()
            self.calls.finished += finished
            self.calls.cancelled += not finished
            sending.cancel()
            leaving.cancel()
        if finished:
            sending.result()

    async def _send(self, send: Send) -> None:
        for position, piece in enumerate(self.reply.pieces):
            await self.sleep(piece.wait_s)
            if position == 0:
                headers = [(name.encode(), value.encode()) for name, value in self.reply.headers]
                await send({"type": "http.response.start", "status": self.reply.status, "headers": headers})
            await send({"type": "http.response.body", "body": piece.data, "more_body": True})
        # A response that is left incomplete makes the server close the connection: that is the cut.
        if not self.reply.cut:
            await send({"type": "http.response.body", "body": b""})


async def _client_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def build_app(clock: Clock = time.time, sleep: Sleep = asyncio.sleep, draw: Draw = lambda: None) -> Starlette:
    """The provider. `clock` stamps answers (seconds since the epoch), `sleep` paces them, `draw` spoils them."""
    calls = Calls()

    async def chat(request: Request) -> Delivery:
        calls.started += 1
        try:
            raw = await request.body()
        except BaseException:
            calls.cancelled += 1
            raise
        return Delivery(_reply(request, raw, calls, clock, draw), calls, sleep)

    async def models(_: Request) -> Response:
        data = [{"id": name, "object": "model", "created": 0, "owned_by": "simulated"} for name in MODELS]
        return JSONResponse({"object": "list", "data": data})

    async def last(_: Request) -> Response:
        return JSONResponse(calls.last)

    async def stats(_: Request) -> Response:
        return JSONResponse(calls.counts())

    routes = [
        Route("/v1/chat/completions", chat, methods=["POST"]),
        Route("/v1/models", models),
        Route("/v1/_last", last),
        Route("/v1/_stats", stats),
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: _no_such_route})


async def _no_such_route(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return JSONResponse(_error(str(error), "invalid_request_error"), status)


def _reply(request: Request, raw: bytes, calls: Calls, clock: Clock, draw: Draw) -> Reply:
    try:
        body = _parsed(raw)
        calls.last = {"body": body, "headers": _visible(request)}
        fault = _fault(request, body) or draw()
        failure = _failure(fault)
        if failure is not None:
            return failure
        model = model_of(body)
        if fault is Fault.SLOW:
            model = replace(model, first_token_s=SLOW_FIRST_TOKEN_S)
        return _answer(body, model, Envelope(calls.started, int(clock()), model.name), cut=fault is Fault.CUT)
    except RequestError as refused:
        error = _error(str(refused), "invalid_request_error", refused.param, refused.code)
        return _json_reply(error, refused.status)


def _parsed(raw: bytes) -> Json:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise RequestError("The body is not JSON.") from error
    if not isinstance(body, dict):
        raise RequestError("The body must be a JSON object.")
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
        raise RequestError(f"Unknown fault {word!r}; there are {known}.", "simulate") from error


def _failure(fault: Fault | None) -> Reply | None:
    """The reply to a request for a fault that needs no answer to spoil."""
    if fault is Fault.RATE_LIMITED:
        error = _error("Simulated rate limit.", "rate_limit_error", code="rate_limit_exceeded")
        reply = _json_reply(error, 429)
        return replace(reply, headers=(*reply.headers, ("retry-after", "1")))
    if fault is Fault.SERVER_ERROR:
        return _json_reply(_error("Simulated server error.", "server_error"), 500)
    if fault is Fault.HANG:
        return _json_reply(_error("The simulated hang is over.", "server_error"), 504, HANG_S)
    if fault is Fault.GARBAGE:
        return Reply((Piece(0.0, b"<html>this is simulated garbage, not JSON"),))
    return None


def _answer(body: Json, model: SimulatedModel, envelope: Envelope, cut: bool) -> Reply:
    answer = answer_to(body, model)
    if body.get("stream"):
        options = body.get("stream_options")
        include_usage = isinstance(options, dict) and bool(options.get("include_usage"))
        events = [_event(orjson.dumps(chunk)) for chunk in chunks(answer, envelope, include_usage)]
        return _stream_reply([*events, _event(b"[DONE]")], model, len(answer.pieces), cut)
    reply = _json_reply(
        completion(answer, envelope), wait_s=model.first_token_s + len(answer.pieces) / model.tokens_per_s
    )
    return _halved(reply) if cut else reply


def _event(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"


def _stream_reply(events: list[bytes], model: SimulatedModel, tokens: int, cut: bool) -> Reply:
    """The first event is the role, `tokens` events follow at the model's speed, and the rest at once."""
    waits = [model.first_token_s, *[1 / model.tokens_per_s] * tokens]
    waits += [0.0] * (len(events) - len(waits))
    pieces = tuple(map(Piece, waits, events))
    headers = (("content-type", "text/event-stream; charset=utf-8"), ("cache-control", "no-cache"))
    # The last three may be the finish, the usage and [DONE]: none belongs in a stream that was cut.
    return Reply(pieces[:-3][:CUT_AFTER_CHUNKS] if cut else pieces, headers=headers, cut=cut)


def _json_reply(value: Json, status: int = 200, wait_s: float = 0.0) -> Reply:
    data = orjson.dumps(value)
    headers = (("content-type", "application/json"), ("content-length", str(len(data))))
    return Reply((Piece(wait_s, data),), status, headers)


def _halved(reply: Reply) -> Reply:
    whole = reply.pieces[0]
    return replace(reply, pieces=(Piece(whole.wait_s, whole.data[: len(whole.data) // 2]),), cut=True)


def _error(message: str, kind: str, param: str | None = None, code: str | None = None) -> Json:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _end_with_parent(parent: int, server: uvicorn.Server) -> None:
    while os.getppid() == parent:
        time.sleep(0.2)
    server.should_exit = True


def main() -> None:
    parser = argparse.ArgumentParser(prog="simulated_provider", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    parser.add_argument("--parent-pid", type=int, help="the process that started this one: end when it has ended")
    parser.add_argument("--fault-rate", type=float, default=0.0, help="share of the requests that fail at random, 0..1")
    parser.add_argument("--seed", type=int, default=0, help="of those faults")
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
