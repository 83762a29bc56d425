"""One call upstream: Target and Ask → Reply, over one client for the process's life."""

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any

import httpx
import orjson

from handler.data.health import Target
from handler.data.opening import Opening, opening_of
from handler.data.transport import FAULTS, Transport
from handler.errors import (
    ApiError,
    BadRequest,
    Unauthenticated,
    Unavailable,
    UpstreamFailed,
    UpstreamKeyRefused,
    UpstreamTimeout,
)
from handler.fleet import BadFleet, expand
from handler.flow import Ask
from handler.wire.wire import Wire

PASSED_BACK = frozenset(
    (
        b"content-type",
        b"content-encoding",
        b"retry-after",
        b"retry-after-ms",
        b"x-should-retry",
        b"x-request-id",
        b"request-id",
        b"openai-processing-ms",
    )
)
"""Nothing of the operator's limits with a provider, and nothing that has to come back to the same provider."""
_REFUSED_HERE = frozenset((401, 402, 403, 404, 405))
"""Statuses by which a deployment says that it will not serve us; another may."""
_PASSING = frozenset((408, 409, 425, 429))
"""Statuses, besides those from 500 on, that may be over in a moment."""
_TOO_LONG = re.compile(
    rb"context[ _-]?(length|window|size|limit)|prompt is too long|maximum (prompt|number of tokens)", re.IGNORECASE
)
"""In the body of a 400 that is about this model alone, in the words of one provider or another."""

LARGEST_ANSWER = 128 * 1024 * 1024
"""Bytes; an answer of several images has tens of millions."""
LONGEST_OPENING = 64 * 1024
"""Bytes of a stream that are held back at most until it says something."""
_NUMBER = re.compile(r"\d{1,9}(\.\d+)?")


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer with nothing in its way: whole, or a stream of which the first bytes have come."""

    target: Target
    answer: httpx.Response
    body: bytes
    """All of it, or a stream's first bytes."""
    parsed: Mapping[str, Any]
    """A whole answer's JSON object; empty for a stream and for an error."""
    rest: AsyncIterator[bytes] | None
    """What is still to come of a stream."""
    ms: float
    """Until all or the first of it was there."""

    @property
    def status(self) -> int:
        return self.answer.status_code

    @property
    def headers(self) -> dict[str, str]:
        # Raw: to ask httpx's own mapping for each of the names costs ten times as much.
        named = ((name.lower(), value) for name, value in self.answer.headers.raw)
        return {name.decode(): value.decode("latin-1") for name, value in named if name in PASSED_BACK}


@dataclass(eq=False)  # not frozen: what raises it notes down where
class Failed(Exception):
    """A call that led to no answer."""

    fault: str
    """A status, or the code of `error`."""
    error: ApiError
    reply: Reply | None = None
    """The upstream's own words, where it has some for the caller."""
    blames: bool = True
    """Whether the deployment is at fault, and not the request."""
    moves_on: bool = True
    """Whether another may do better."""
    again: bool = True
    """Whether the same may do better in a moment, and asking it again can do no harm."""
    retry_after: float | None = None
    """Seconds."""
    too_long: bool = False
    """Whether the request has more tokens than the model takes: a larger one may do better, and none else."""


class Forwarder:
    """Raw bytes out, raw bytes back: nothing is decoded that need not be."""

    def __init__(self, connect_seconds: float, upstream_seconds: float, credentials: Mapping[str, str]) -> None:
        """`credentials`: what `${NAME}` in the fleet file stands for; a look must not block."""
        self._transport = Transport(connect_seconds, upstream_seconds)
        self._credentials = credentials

    async def call(
        self, target: Target, ask: Ask, wire: Wire, seconds: float, path: str = "", holds_opening: bool = False
    ) -> Reply:
        """The first bytes of a stream, or all of an answer, within so many seconds. Raises Failed. `path`: instead of
        the wire's own. `holds_opening`: a stream has begun when it says something, not when it says that it begins."""
        started = time.perf_counter()
        answer: httpx.Response | None = None
        streams = False
        try:
            request = self._request(target, ask, wire, path or wire.path)
            async with asyncio.timeout(seconds):
                answer = await self._transport.handle_async_request(request)
                reply = await _read(target, answer, started, holds_opening)
            _check(reply)
            streams = reply.rest is not None
        except FAULTS as error:
            raise _broken(error, target.model.name, begun=answer is not None) from error
        finally:
            if answer is not None and not streams:
                await answer.aclose()
        return reply

    async def close(self) -> None:
        await self._transport.aclose()

    def _request(self, target: Target, ask: Ask, wire: Wire, path: str) -> httpx.Request:
        deployment, name = target.deployment, target.model.name
        try:
            url, key = [expand(text, self._credentials) for text in (deployment.base_url, deployment.api_key)]
        except BadFleet as error:
            raise _unusable(f"{name} cannot be called: {error}") from error
        if not (key.isascii() and key.isprintable()):
            raise _unusable(f"{name} cannot be called: its API key has characters that a header cannot carry")
        headers = {"content-type": "application/json", "accept-encoding": "identity", **wire.fixed}
        headers |= {name: ask.headers[name] for name in wire.passed_on if name in ask.headers}
        if key:
            headers[wire.key_header] = key if wire.key_header != "authorization" else f"Bearer {key}"
        return httpx.Request(
            "POST",
            _endpoint(url, path),
            headers=_headers(tuple(headers.items())),
            # As a stream: httpx then adds no headers, which aiohttp adds.
            stream=httpx.ByteStream(_content(target, ask, wire)),
        )


@lru_cache(maxsize=1024)
def _headers(fields: tuple[tuple[str, str], ...]) -> httpx.Headers:
    """Encoded once; a request copies them."""
    return httpx.Headers(fields, encoding="latin-1")  # as callers' headers are read


@lru_cache(maxsize=1024)
def _endpoint(base_url: str, path: str) -> httpx.URL:
    return httpx.URL(f"{base_url.rstrip('/')}{path}")


def broken_off(error: Exception, model: str) -> ApiError:
    """What the caller is told of a fault in the middle of an answer."""
    if isinstance(error, TimeoutError):
        return UpstreamTimeout(f"{model} fell silent in the middle of its answer")
    return UpstreamFailed(f"{model} broke off in the middle of its answer")


async def _read(target: Target, answer: httpx.Response, started: float, holds_opening: bool) -> Reply:
    if answer.is_success and answer.headers.get("content-type", "").startswith("text/event-stream"):
        rest = _chunks(answer)
        first = await _first(rest, holds_opening)
        return Reply(target, answer, first, {}, rest, milliseconds_since(started))
    body = await _whole(_chunks(answer), target.model.name)
    parsed = _object(body) if answer.is_success else {}
    return Reply(target, answer, body, parsed, None, milliseconds_since(started))


def _chunks(answer: httpx.Response) -> AsyncIterator[bytes]:
    assert isinstance(answer.stream, httpx.AsyncByteStream)  # noqa: S101 - the transport gives no other
    return aiter(answer.stream)


async def _whole(chunks: AsyncIterator[bytes], model: str) -> bytes:
    pieces, size = [], 0
    async for chunk in chunks:
        pieces.append(chunk)
        size += len(chunk)
        if size > LARGEST_ANSWER:
            raise _failed(UpstreamFailed(f"{model} answered with more than {LARGEST_ANSWER} bytes"), again=False)
    return b"".join(pieces)


async def _first(rest: AsyncIterator[bytes], holds_opening: bool) -> bytes:
    """Empty for a stream that ends before it has said anything."""
    begun = await anext(rest, b"")
    while holds_opening and opening_of(begun) is Opening.NOTHING and len(begun) <= LONGEST_OPENING:
        more = await anext(rest, b"")
        if not more:
            return b""
        begun += more
    return begun


def _check(reply: Reply) -> None:
    """Raises Failed for a reply that is no answer."""
    name = reply.target.model.name
    if reply.rest is not None:
        if not reply.body:
            raise _failed(UpstreamFailed(f"{name} ended its stream before it began"))
        if opening_of(reply.body) is Opening.ERROR:
            raise Failed("error_event", UpstreamFailed(f"{name} answered with an error"))
    elif reply.answer.is_success:
        if not reply.parsed and "content-encoding" not in reply.answer.headers:
            raise _failed(UpstreamFailed(f"{name} answered with something that is not JSON"))
        if reply.parsed.get("error"):
            raise Failed("error_body", UpstreamFailed(f"{name} answered with an error"), reply)
    else:
        raise _refused(reply)


def _refused(reply: Reply) -> Failed:
    status = reply.status
    passing = status >= 500 or status in _PASSING
    too_long = status in (400, 413) and _TOO_LONG.search(reply.body) is not None
    here = status in _REFUSED_HERE
    name = reply.target.model.name
    if status == Unauthenticated.status:
        # Not the caller's key: passed on, it would have them look for a fault in theirs.
        refusal = UpstreamKeyRefused(f"{name} cannot be called: its provider does not take the key in the fleet file")
        return Failed(str(status), refusal, again=False)
    return Failed(
        str(status),
        UpstreamFailed(f"{name} answered with status {status}"),
        reply,
        blames=passing or here,
        moves_on=passing or here or too_long,
        again=passing,
        retry_after=_retry_after(reply.answer.headers),
        too_long=too_long,
    )


def _retry_after(headers: httpx.Headers) -> float | None:
    """Seconds; None where nothing is said, or nothing that can be read."""
    milliseconds, told = headers.get("retry-after-ms"), headers.get("retry-after")
    if milliseconds is not None and _NUMBER.fullmatch(milliseconds):
        return float(milliseconds) / 1000
    if told is None:
        return None
    if _NUMBER.fullmatch(told):
        return float(told)
    with contextlib.suppress(ValueError, OverflowError):
        return max(parsedate_to_datetime(told).timestamp() - time.time(), 0.0)
    return None


def _broken(error: Exception, model: str, begun: bool) -> Failed:
    """What was sent may be at work still, once it may have arrived: then the same is not asked for twice."""
    if begun:
        return _failed(broken_off(error, model), again=not isinstance(error, TimeoutError))
    if isinstance(error, TimeoutError):
        return _failed(UpstreamTimeout(f"{model} did not answer in time"), again=False)
    return _failed(UpstreamFailed(f"{model} cannot be reached: {type(error.__cause__ or error).__name__}"))


def _failed(error: ApiError, again: bool = True) -> Failed:
    return Failed(error.code, error, again=again)


def _unusable(message: str) -> Failed:
    error = Unavailable(message, code="deployment_not_configured")
    return Failed(error.code, error, blames=False, again=False)


def _content(target: Target, ask: Ask, wire: Wire) -> bytes:
    name, effort = target.deployment.model or target.model.name, target.model.effort
    if ask.raw is not None and ask.model == name and effort is None:
        return ask.raw
    body = wire.with_effort(ask.body, effort) if effort else {**ask.body}
    body["model"] = name
    if ask.adds_usage and not target.deployment.stream_usage:
        del body["stream_options"]
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError as error:
        refusal = BadRequest("the body is nested too deeply to be passed on", code="invalid_json")
        raise Failed(refusal.code, refusal, blames=False, moves_on=False, again=False) from error


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def milliseconds_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000
