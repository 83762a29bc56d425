"""How the simulated provider's responses reach the client: piece by piece, at their pace, and counted."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import orjson
from starlette.types import Receive, Scope, Send

from scripts.simulated_protocol import Json

Sleep: TypeAlias = Callable[[float], Awaitable[None]]
Headers: TypeAlias = tuple[tuple[str, str], ...]

EVENT_STREAM: Headers = (("content-type", "text/event-stream; charset=utf-8"), ("cache-control", "no-cache"))


@dataclass(slots=True)
class Calls:
    """What came in: counts of requests to the models, and the latest one for tests to look at."""

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
    headers: Headers = (("content-type", "application/json"),)
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


def json_reply(value: Json, status: int = 200, wait_s: float = 0.0) -> Reply:
    """`value` as one piece, `wait_s` seconds from now."""
    data = orjson.dumps(value)
    headers = (("content-type", "application/json"), ("content-length", str(len(data))))
    return Reply((Piece(wait_s, data),), status, headers)


def halved(reply: Reply) -> Reply:
    """The reply whose connection drops in the middle of its only piece."""
    whole = reply.pieces[0]
    return replace(reply, pieces=(Piece(whole.wait_s, whole.data[: len(whole.data) // 2]),), cut=True)
