"""httpx's requests and responses over aiohttp's connections: httpx's own transport collapses when many callers wait at
once, and its client pays for cookies, redirects and merging of URLs, which a gateway does not want."""

import io
from collections.abc import AsyncIterator

import aiohttp
import httpx

MOST_CONNECTIONS = 1000
IDLE_SECONDS = 4.0
"""A connection is not used again after so long: many servers close theirs after 5."""

LARGE_BODY = 1024 * 1024
"""Bytes; a larger one is written piece by piece, and holds up nobody else's request."""

FAULTS = (aiohttp.ClientError, httpx.HTTPError, httpx.InvalidURL, OSError)
"""What a call may raise, and reading its answer. A TimeoutError is an OSError; aiohttp's own are both."""


class Transport(httpx.AsyncBaseTransport):
    """Bytes as they come: nothing is decoded, no redirect is followed, no cookie is kept."""

    def __init__(self, connect_seconds: float, silent_seconds: float) -> None:
        """`silent_seconds`: the longest that an upstream may say nothing."""
        self._timeout = aiohttp.ClientTimeout(sock_connect=connect_seconds, sock_read=silent_seconds)
        self._session: aiohttp.ClientSession | None = None  # it belongs to the loop that it is made in

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """`request.stream` must be a ByteStream. Raises FAULTS."""
        if self._session is None:
            self._session = _session(self._timeout)
        try:
            answer = await _send(self._session, request)
        except ValueError as error:  # a URL that aiohttp cannot call, in words that may quote it
            raise httpx.InvalidURL("it cannot be called") from error
        return httpx.Response(answer.status, headers=answer.raw_headers, stream=_Body(answer))

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()


async def _send(session: aiohttp.ClientSession, request: httpx.Request) -> aiohttp.ClientResponse:
    assert isinstance(request.stream, httpx.ByteStream)  # noqa: S101 - a body of which the length is known
    body = b"".join(request.stream)
    return await session.request(
        request.method,
        str(request.url),
        headers=[(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw],
        data=body if len(body) <= LARGE_BODY else io.BytesIO(body),
        allow_redirects=False,
    )


class _Body(httpx.AsyncByteStream):
    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._answer.content.iter_any())

    async def aclose(self) -> None:
        """The connection is used again if all was read, and closed otherwise."""
        self._answer.release()


def _session(timeout: aiohttp.ClientTimeout) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(
        limit=MOST_CONNECTIONS, keepalive_timeout=IDLE_SECONDS, ssl=httpx.create_ssl_context()
    )
    return aiohttp.ClientSession(
        connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, timeout=timeout
    )
