"""An httpx transport that calls an ASGI app in this process and, unlike httpx's own, streams its answer."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

import httpx

Message = MutableMapping[str, Any]
App = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]


class InProcess(httpx.AsyncBaseTransport):
    def __init__(self, app: App) -> None:
        self._app = app

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        call = _Call(await request.aread())
        call.task = asyncio.ensure_future(call.run(self._app, _scope(request)))
        try:
            start = await call.next_message()
        except BaseException:
            await call.aclose()
            raise
        return httpx.Response(start["status"], headers=start["headers"], stream=call, request=request)


class _Call(httpx.AsyncByteStream):
    """One request in flight; iterating it gives the answer's body."""

    def __init__(self, body: bytes) -> None:
        self._messages: asyncio.Queue[Message | BaseException] = asyncio.Queue()
        self._incoming: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        self.task: asyncio.Future[None] | None = None

    async def run(self, app: App, scope: MutableMapping[str, Any]) -> None:
        try:
            await app(scope, self._receive, self._messages.put)
        except Exception as error:
            await self._messages.put(error)
        else:
            await self._messages.put(httpx.RemoteProtocolError("the app ended before its answer did"))

    async def next_message(self) -> Message:
        message = await self._messages.get()
        if isinstance(message, BaseException):
            raise message
        return message

    async def __aiter__(self) -> AsyncIterator[bytes]:
        more = True
        while more:
            message = await self.next_message()
            yield message.get("body", b"")
            more = message.get("more_body", False)

    async def aclose(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait((self.task,))

    async def _receive(self) -> Message:
        if self._incoming:
            return self._incoming.pop()
        await asyncio.Event().wait()  # the client stays to the end
        raise AssertionError


def _scope(request: httpx.Request) -> MutableMapping[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": request.url.scheme,
        "path": request.url.path,
        "raw_path": request.url.raw_path.split(b"?")[0],
        "query_string": request.url.query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "client": None,
        "server": None,
    }
