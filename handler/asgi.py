"""What both planes need of HTTP: bounded bodies, JSON answers, clients that leave, one error shape."""

import asyncio
import logging
import zlib
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from handler.errors import (
    ApiError,
    BadRequest,
    BodyTooLarge,
    Internal,
    MethodNotAllowed,
    NotFound,
    Shape,
    Unavailable,
)
from handler.faults import to_api
from handler.table import TableError
from index.errors import NearvoteIndexError

log = logging.getLogger("nearvote.http")

T = TypeVar("T")
Headers = dict[str, str]
CLIENT_CLOSED_REQUEST = 499
WATCHED_AFTER_S = 0.1
"""When a request's client begins to be watched, whether it leaves."""


def json_response(value: Any, status: int = 200, headers: Headers | None = None) -> Response:
    return Response(orjson.dumps(value), status, headers, media_type="application/json")


async def read_body(request: Request, most: int) -> bytes:
    """Raises BodyTooLarge before more than `most` bytes are held."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > most:
        raise BodyTooLarge(f"the body has {declared} bytes; at most {most} are taken")
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > most:
            raise BodyTooLarge(f"the body has more than the {most} bytes that are taken")
        chunks.append(chunk)
    return _unpacked(b"".join(chunks), request.headers.get("content-encoding", "identity"), most)


def _unpacked(body: bytes, encoding: str, most: int) -> bytes:
    """Some coding agents send their long bodies packed."""
    if encoding == "identity":
        return body
    if encoding != "gzip":
        raise BadRequest(f"the body is encoded as {encoding!r}; gzip or none is taken", code="invalid_encoding")
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        unpacked = unpacker.decompress(body, most + 1)
    except zlib.error as error:
        raise BadRequest("the body is not gzip", code="invalid_encoding") from error
    if len(unpacked) > most:
        raise BodyTooLarge(f"the body has more than the {most} bytes that are taken, unpacked")
    if not unpacker.eof:
        raise BadRequest("the gzip body ends too early", code="invalid_encoding")
    return unpacked


def parse_object(raw: bytes) -> dict[str, Any]:
    """Raises BadRequest for what is not a JSON object."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not JSON: {error}", code="invalid_json") from error
    if not isinstance(body, dict):
        raise BadRequest("the body must be a JSON object", code="invalid_json")
    return body


async def read_object(request: Request, most: int) -> dict[str, Any]:
    return parse_object(await read_body(request, most))


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The work's result; a client that leaves cancels it and raises ClientDisconnect.
    The request's body must have been read."""
    loop, working = asyncio.get_running_loop(), asyncio.current_task()
    assert working is not None  # noqa: S101 - a coroutine runs in a task
    watch = _Watch(request, working)
    # What is answered sooner needs no watch, which costs a task.
    begins = loop.call_later(WATCHED_AFTER_S, watch.begin)
    try:
        return await work
    except asyncio.CancelledError:
        if watch.is_gone and not working.uncancel():
            raise ClientDisconnect from None
        raise
    finally:
        begins.cancel()
        watch.end()


class _Watch:
    """For the client that leaves: its work is cancelled."""

    def __init__(self, request: Request, working: "asyncio.Task[Any]") -> None:
        self._request = request
        self._working = working
        self._watching: asyncio.Task[None] | None = None
        self.is_gone = False

    def begin(self) -> None:
        self._watching = asyncio.create_task(self._until_gone())

    def end(self) -> None:
        if self._watching is not None:
            self._watching.cancel()

    async def _until_gone(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        self.is_gone = True
        self._working.cancel()


def shape_of(path: str) -> Shape:
    """Of the errors of what answers there."""
    return Shape.ANTHROPIC if path.startswith("/v1/messages") else Shape.OPENAI


async def _tell_api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)  # noqa: S101 - registered for it alone
    return _told(request, error)


def _told(request: Request, error: ApiError) -> Response:
    return error.response(shape_of(request.scope["path"]))


async def _tell_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it alone
    place = f"{request.method} {request.scope['path']}"
    if error.status_code == MethodNotAllowed.status:
        return _told(request, MethodNotAllowed(f"{place}: there is no such method here"))
    if error.status_code == NotFound.status:
        return _told(request, NotFound(f"{place}: there is nothing here"))
    return _told(request, BadRequest(error.detail))


async def _tell_index_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, NearvoteIndexError)  # noqa: S101 - registered for it alone
    return _told(request, to_api(error))


async def _tell_unavailable(request: Request, error: Exception) -> Response:
    log.error("%s", error)
    return _told(request, Unavailable("a store that nearvote keeps its state in does not answer; try again"))


async def _tell_gone(_: Request, __: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED_REQUEST)


async def _tell_internal(request: Request, error: Exception) -> Response:
    # Starlette raises it again afterwards, so the server logs the traceback.
    return _told(request, Internal(f"nearvote failed: {type(error).__name__}"))


EXCEPTION_HANDLERS: dict[Any, Callable[[Request, Exception], Coroutine[Any, Any, Response]]] = {
    ApiError: _tell_api_error,
    HTTPException: _tell_http_exception,
    ClientDisconnect: _tell_gone,
    TableError: _tell_unavailable,
    NearvoteIndexError: _tell_index_error,
    Exception: _tell_internal,
}
