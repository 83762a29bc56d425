"""Long work: one JSON answer, or, for a client that accepts NDJSON, lines of progress and then the answer."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from handler.asgi import json_response
from handler.control.embedding import Progress, unwatched
from handler.errors import ApiError, Internal
from handler.faults import to_api
from index.errors import NearvoteIndexError

log = logging.getLogger("nearvote.control")

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
        except Exception as error:  # the status line is long gone, so only a line can tell the client
            told = _told(error)
            tell({"status": told.status, **told.body()})

    working = asyncio.ensure_future(asyncio.to_thread(run))
    working.add_done_callback(lambda _: steps.put_nowait({}))
    while line := await steps.get():
        yield orjson.dumps(line) + b"\n"


def _told(error: Exception) -> ApiError:
    if isinstance(error, ApiError):
        return error
    if isinstance(error, NearvoteIndexError):
        return to_api(error)
    log.error("long work failed", exc_info=error)
    return Internal(f"nearvote failed: {type(error).__name__}")
