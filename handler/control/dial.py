"""/admin/v1/dial: the curve of the current version for the fleet as it lies in the store."""

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from handler import curve
from handler.asgi import json_response
from handler.control.fleet import read, stored_text
from handler.control.guard import Guard
from handler.control.query import only
from index.ballot import draw_up
from index.store import ObjectStore
from index.versions import Repository


class DialRoutes:
    def __init__(self, guard: Guard, store: ObjectStore, repository: Repository) -> None:
        self._guard = guard
        self._store = store
        self._repository = repository

    def routes(self) -> list[Route]:
        return [Route("/admin/v1/dial", self.dial, methods=["GET"])]

    async def dial(self, request: Request) -> Response:
        await self._guard(request)
        only(request)
        return json_response(await asyncio.to_thread(self._describe))

    def _describe(self) -> dict[str, Any]:
        file, snapshot = read(stored_text(self._store)), self._repository.current()
        ballot = draw_up(snapshot, file.fleet.candidates) if len(snapshot) else None
        return curve.describe(ballot, file.version, "the index is empty")
