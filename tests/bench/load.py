"""A load generator: so many callers, each with one connection, each sending its next request once it has an answer."""

import asyncio
import contextlib
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

import uvloop

GRACE_S = 60.0
"""How long the last answers may take once the time is up."""
MOST_ANSWER_BYTES = 2**20
OK = b"HTTP/1.1 200 "

_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:\s*chunked", re.IGNORECASE)
_LAST_CHUNK = b"\r\n0\r\n\r\n"
_EVENT = b"\ndata:"
_DONE = b"\ndata: [DONE]"

NextRequest = Callable[[], bytes]


class BadAnswer(Exception):
    """A server sent what is not a 200 with a Content-Length, nor a whole stream in HTTP chunks, or hung up."""


@dataclass(frozen=True, slots=True)
class Load:
    """Times of all answers, in seconds, and how long it took to get them."""

    latencies: tuple[float, ...]
    first_events: tuple[float, ...]
    """Until a stream's first event; none of whole answers."""
    seconds: float

    @property
    def per_second(self) -> float:
        return round(len(self.latencies) / self.seconds, 1)


@dataclass(frozen=True, slots=True)
class _Times:
    latencies: list[float]
    first_events: list[float]


class _Caller(asyncio.Protocol):
    """Its result are the times of its answers and of their first events."""

    def __init__(self, next_request: NextRequest, until: float, done: "asyncio.Future[_Times]") -> None:
        self._next_request = next_request
        self._until = until
        self._done = done
        self._times = _Times([], [])
        self._received = bytearray()
        self._sent = 0.0
        self._streaming = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._received += data
        try:
            whole = _is_whole(self._received)
        except BadAnswer as error:
            self._end(error)
            return
        if not self._streaming and _EVENT in self._received:
            self._streaming = True
            self._times.first_events.append(time.perf_counter() - self._sent)
        if whole:
            self._times.latencies.append(time.perf_counter() - self._sent)
            self._received.clear()
            self._streaming = False
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(BadAnswer(f"the server hung up: {exc}"))

    def _send(self) -> None:
        if time.perf_counter() >= self._until:
            self._end(None)
            return
        request = self._next_request()
        self._sent = time.perf_counter()
        self._transport.write(request)

    def _end(self, error: BadAnswer | None) -> None:
        if self._done.done():
            return
        if error is None:
            self._done.set_result(self._times)
        else:
            self._done.set_exception(error)
        self._transport.close()


def load(url: str, next_request: NextRequest, callers: int, seconds: float) -> Load:
    """At least one answer for each caller. Raises BadAnswer or TimeoutError."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_load(url, next_request, callers, seconds))


def post(url: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    """One request, as it goes over the wire."""
    place = urlsplit(url)
    named = {"host": place.netloc, **headers, "content-length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    return f"POST {place.path} HTTP/1.1\r\n{head}\r\n".encode() + body


async def _load(url: str, next_request: NextRequest, callers: int, seconds: float) -> Load:
    loop, (host, port) = asyncio.get_running_loop(), _address(url)
    started = time.perf_counter()
    done: list[asyncio.Future[_Times]] = [loop.create_future() for _ in range(callers)]
    with contextlib.ExitStack() as connections:
        async with asyncio.timeout(seconds + GRACE_S):
            for future in done:
                caller = _Caller(next_request, started + seconds, future)
                transport, _ = await loop.create_connection(lambda caller=caller: caller, host, port)  # type: ignore[misc]
                connections.callback(transport.close)
            times = await asyncio.gather(*done)
    return Load(
        tuple(one for caller in times for one in caller.latencies),
        tuple(one for caller in times for one in caller.first_events),
        time.perf_counter() - started,
    )


def _address(url: str) -> tuple[str, int]:
    place = urlsplit(url)
    return place.hostname or "", place.port or 80


def _is_whole(received: bytearray) -> bool:
    """Raises BadAnswer for what will never be."""
    head_end = received.find(b"\r\n\r\n")
    if head_end < 0:
        return False
    length = _LENGTH.search(received, 0, head_end)
    framed = length is not None or _CHUNKED.search(received, 0, head_end)
    if not received.startswith(OK) or not framed or len(received) > MOST_ANSWER_BYTES:
        raise _bad(received)
    if length is not None:
        return len(received) >= head_end + 4 + int(length[1])
    if not received.endswith(_LAST_CHUNK):
        return False
    if _DONE not in received:
        raise _bad(received[-500:])
    return True


def _bad(received: bytearray) -> BadAnswer:
    return BadAnswer(received[:500].decode(errors="replace"))
