import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from scripts.in_process import App, InProcess

START = {"type": "http.response.start", "status": 200, "headers": []}


def client(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url="http://app", transport=InProcess(app))


def answering(*messages: dict[str, Any], error: Exception | None = None) -> App:
    async def app(_: Scope, __: Receive, send: Send) -> None:
        for message in messages:
            await send(message)
        if error is not None:
            raise error

    return app


def others() -> set[asyncio.Task[Any]]:
    """Tasks beside the test's own."""
    current = asyncio.current_task()
    return {task for task in asyncio.all_tasks() if task is not current}


async def test_the_app_is_told_the_whole_request() -> None:
    async def echo(request: Request) -> Response:
        shown = (request.method, request.url.path, dict(request.query_params), request.headers["x-a"])
        return Response(f"{shown} {(await request.body()).decode()}", 201, {"x-b": "c"})

    async with client(Starlette(routes=[Route("/say/{what}", echo, methods=["PUT"])])) as calling:
        answer = await calling.put("/say/hé%20l%2Fo", params={"q": "a&b=ü"}, headers={"x-a": "1"}, content=b"body")
    assert answer.status_code == 404  # the app sees the path decoded, as a server shows it
    async with client(Starlette(routes=[Route("/say/{what}", echo, methods=["PUT"])])) as calling:
        answer = await calling.put("/say/hé%20lo", params={"q": "a&b=ü"}, headers={"x-a": "1"}, content=b"body")
    assert (answer.status_code, answer.headers["x-b"]) == (201, "c")
    assert answer.text == "('PUT', '/say/hé lo', {'q': 'a&b=ü'}, '1') body"


async def test_an_answer_streams_chunk_by_chunk() -> None:
    released = asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        yield b"one"
        await released.wait()
        yield b"two"

    async def route(_: Request) -> Response:
        return StreamingResponse(chunks())

    async with client(Starlette(routes=[Route("/", route)])) as calling, calling.stream("GET", "/") as answer:
        arriving = answer.aiter_raw()
        assert await asyncio.wait_for(anext(arriving), 5) == b"one"
        assert not released.is_set()
        released.set()
        assert [chunk async for chunk in arriving if chunk] == [b"two"]
    assert others() == set()


async def test_an_error_before_the_answer_surfaces() -> None:
    async with client(answering(error=RuntimeError("at once"))) as calling:
        with pytest.raises(RuntimeError, match=r"^at once$"):
            await calling.get("/")
    assert others() == set()


async def test_an_error_within_the_answer_surfaces() -> None:
    part = {"type": "http.response.body", "body": b"a", "more_body": True}
    async with client(answering(START, part, error=RuntimeError("half-way"))) as calling:
        with pytest.raises(RuntimeError, match=r"^half-way$"):
            await calling.get("/")
    assert others() == set()


@pytest.mark.parametrize("messages", [(), (START,), (START, {"type": "http.response.body", "more_body": True})])
async def test_an_app_that_ends_without_its_answer_is_an_error_not_a_hang(messages: tuple[dict[str, Any], ...]) -> None:
    async with client(answering(*messages)) as calling:
        with pytest.raises(httpx.RemoteProtocolError, match="the app ended before its answer did"):
            await asyncio.wait_for(calling.get("/"), 5)
    assert others() == set()


async def test_a_reader_that_leaves_ends_the_app() -> None:
    ended = asyncio.Event()

    async def app(_: Scope, __: Receive, send: Send) -> None:
        try:
            await send(START)
            while True:
                await send({"type": "http.response.body", "body": b".", "more_body": True})
                await asyncio.sleep(0)
        finally:
            ended.set()

    async with client(app) as calling, calling.stream("GET", "/") as answer:
        assert await anext(answer.aiter_raw()) == b"."
    assert ended.is_set()
    assert others() == set()


async def test_a_caller_that_gives_up_ends_the_app() -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def app(_: Scope, __: Receive, ___: Send) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with client(app) as calling:
        call = asyncio.create_task(calling.get("/"))
        await started.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert ended.is_set()
    assert others() == set()
