"""Long work: one JSON answer, or, for a client that accepts NDJSON, lines of progress and then the answer."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from handler.asgi import json_response
from handler.control.embedding import Progress, unwatched
from handler.errors import ApiError
from handler.faults import to_api
from index.errors import NearvoteIndexError

NDJSON = "application/x-ndjson"

Work = Callable[[Progress], dict[str, Any]]
"""Blocking; runs on a thread and tells its progress."""


async def answer_with_progress(request: Request, work: Work) -> Response:
    """NDJSON lines are `{"done": n, "total": m}`, then `{"result": …}` or `{"error": …}`."""
    if request.headers.get("accept") != NDJSON:
        return json_response(await asyncio.to_thread(work, unwatched))
    return StreamingResponse(_lines(work), media_type=NDJSON)


async def _lines(work: Work) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    steps: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    def tell(line: dict[str, Any]) -> None:
        loop.call_soon_threadsafe(steps.put_nowait, line)

    def run() -> None:
        try:
            tell({"result": work(lambda done, total: tell({"done": done, "total": total}))})
        except (ApiError, NearvoteIndexError) as error:
            told = error if isinstance(error, ApiError) else to_api(error)
            tell({"status": told.status, **told.body()})

    working = asyncio.ensure_future(asyncio.to_thread(run))
    working.add_done_callback(lambda _: steps.put_nowait({}))
    while line := await steps.get():
        yield orjson.dumps(line) + b"\n"
    await working
