"""Calls over real connections that are kept, closed and broken."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest

from handler.data.transport import FAULTS, Transport

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
Play = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    transport = Transport(connect_seconds=2.0, silent_seconds=0.5)
    yield transport
    await transport.aclose()


@asynccontextmanager
async def upstream(play: Play) -> AsyncIterator[str]:
    """Its URL; each connection is played to."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await play(reader, writer)
        finally:
            writer.close()

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


async def read_request(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
    await reader.readexactly(int(length.split(b":")[1]))


async def call(transport: Transport, url: str, body: bytes = b"{}") -> bytes:
    answer = await transport.handle_async_request(httpx.Request("POST", url, stream=httpx.ByteStream(body)))
    try:
        return await answer.aread()
    finally:
        await answer.aclose()


async def test_a_connection_is_used_again_once_its_answer_was_read(transport: Transport) -> None:
    opened = 0

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened
        opened += 1
        for _ in range(3):
            await read_request(reader)
            writer.write(ANSWER)

    async with upstream(play) as url:
        assert [await call(transport, url) for _ in range(3)] == [b"{}"] * 3
    assert opened == 1


async def test_a_kept_connection_that_was_closed_since_costs_no_request(transport: Transport) -> None:
    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(ANSWER)
        await writer.drain()

    async with upstream(play) as url:
        for _ in range(20):
            assert await call(transport, url) == b"{}"
            await asyncio.sleep(0)


async def test_a_large_body_arrives_whole(transport: Transport) -> None:
    arrived = 0

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal arrived
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"content-length: 3000000\r\n" in head.lower()
        arrived = len(await reader.readexactly(3_000_000))
        writer.write(ANSWER)

    async with upstream(play) as url:
        assert await call(transport, url, b"x" * 3_000_000) == b"{}"
    assert arrived == 3_000_000


async def test_an_answer_that_is_left_before_its_end_closes_the_connection(transport: Transport) -> None:
    closed = asyncio.Event()

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{}")
        assert await reader.read() == b""
        closed.set()

    async with upstream(play) as url:
        request = httpx.Request("POST", url, stream=httpx.ByteStream(b"{}"))
        answer = await transport.handle_async_request(request)
        await answer.aclose()
        await asyncio.wait_for(closed.wait(), 2)


async def test_silence_is_a_timeout_before_the_answer_and_within_it(transport: Transport) -> None:
    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(await beginnings.get())
        assert await reader.read() == b""

    beginnings: asyncio.Queue[bytes] = asyncio.Queue()
    async with upstream(play) as url:
        for beginning in (b"", b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{}"):
            beginnings.put_nowait(beginning)
            with pytest.raises(TimeoutError):
                await call(transport, url)


@pytest.mark.parametrize(
    "url",
    [
        "http://user:secret@127.0.0.1:1/v1",  # beside the key's own header
        f"http://{'a' * 300}/v1",
        "http://..a/v1",
        "http://127.0.0.1:99999/v1",
        "ftp://127.0.0.1/v1",
        "http:///v1",
    ],
)
async def test_a_url_that_cannot_be_called_is_a_fault_that_does_not_quote_it(transport: Transport, url: str) -> None:
    headers = {"authorization": "Bearer key"}
    request = httpx.Request("POST", url, headers=headers, stream=httpx.ByteStream(b"{}"))
    with pytest.raises(FAULTS) as caught:
        await transport.handle_async_request(request)
    assert "secret" not in str(caught.value)
