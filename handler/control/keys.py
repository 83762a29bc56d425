"""/admin/v1/keys: create, list, change, revoke."""

import asyncio
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from handler.asgi import json_response, read_object
from handler.control.guard import Guard
from handler.errors import BadRequest, NotFound
from handler.keys import KeyChange, KeyRecord, KeyStore, NewKey, UnknownKey

BODY_BYTES = 64 * 1024

Options = TypeVar("Options", bound=BaseModel)


class KeyRoutes:
    def __init__(self, guard: Guard, keys: KeyStore) -> None:
        self._guard = guard
        self._keys = keys

    def routes(self) -> list[Route]:
        return [
            Route("/admin/v1/keys", self.create, methods=["POST"]),
            Route("/admin/v1/keys", self.list, methods=["GET"]),
            Route("/admin/v1/keys/{id}", self.show, methods=["GET"]),
            Route("/admin/v1/keys/{id}", self.change, methods=["PATCH"]),
            Route("/admin/v1/keys/{id}", self.revoke, methods=["DELETE"]),
        ]

    async def create(self, request: Request) -> Response:
        await self._guard(request)
        new = await _read(request, NewKey)
        record, secret = await asyncio.to_thread(self._keys.create, new)
        return json_response({**record.public(), "key": secret}, 201)

    async def list(self, request: Request) -> Response:
        await self._guard(request)
        records = await asyncio.to_thread(self._keys.list)
        return json_response({"data": [record.public() for record in records]})

    async def show(self, request: Request) -> Response:
        await self._guard(request)
        record = await asyncio.to_thread(key_of, self._keys, request.path_params["id"])
        return json_response(record.public())

    async def change(self, request: Request) -> Response:
        await self._guard(request)
        change = await _read(request, KeyChange)
        return await self._edited(request, self._keys.change, change)

    async def revoke(self, request: Request) -> Response:
        await self._guard(request)
        return await self._edited(request, self._keys.revoke)

    async def _edited(self, request: Request, edit: Any, *change: KeyChange) -> Response:
        id = request.path_params["id"]
        try:
            record = await asyncio.to_thread(edit, id, *change)
        except UnknownKey as error:
            raise _no_key(id) from error
        return json_response(record.public())


def key_of(keys: KeyStore, id: str) -> KeyRecord:
    """Raises NotFound."""
    record = keys.get(id)
    if record is None:
        raise _no_key(id)
    return record


def _no_key(id: str) -> NotFound:
    return NotFound(f"no key {id!r}; `nearvote keys list` shows those that exist", code="key_not_found")


async def _read(request: Request, options: type[Options]) -> Options:
    try:
        return options.model_validate(await read_object(request, BODY_BYTES))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise BadRequest(f"{field}: {first['msg']}", param=field) from error
