"""/admin/v1/fleet: the fleet as it lies in the store, described, as its text, and replaced."""

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from handler import fleet
from handler.asgi import json_response, read_body
from handler.control.guard import Guard
from handler.control.query import only
from handler.errors import BadRequest, Conflicting
from handler.fleet import BadFleet, FleetFile, Model
from index.errors import Conflict
from index.store import ObjectStore, Stored

BODY_BYTES = 1024 * 1024
SECRET = {"deployments": {"__all__": {"api_key"}}}
"""Left out: it should be a reference, and may not be."""


class FleetRoutes:
    def __init__(self, guard: Guard, store: ObjectStore) -> None:
        self._guard = guard
        self._store = store

    def routes(self) -> list[Route]:
        return [
            Route("/admin/v1/fleet", self.show, methods=["GET"]),
            Route("/admin/v1/fleet", self.replace, methods=["PUT"]),
            Route("/admin/v1/fleet/text", self.text, methods=["GET"]),
        ]

    async def show(self, request: Request) -> Response:
        await self._guard(request)
        only(request)
        return json_response(await asyncio.to_thread(lambda: describe(read(stored_text(self._store)))))

    async def text(self, request: Request) -> Response:
        await self._guard(request)
        only(request)
        data = await asyncio.to_thread(stored_text, self._store)
        return json_response({"version": fleet.version_of(data), "text": data.decode(errors="replace")})

    async def replace(self, request: Request) -> Response:
        """`expected`: the version that is to be replaced; without it, whichever is there."""
        await self._guard(request)
        only(request, "expected")
        data = await read_body(request, BODY_BYTES)
        return json_response(await asyncio.to_thread(self._put, data, request.query_params.get("expected")))

    def _put(self, data: bytes, expected: str | None) -> dict[str, Any]:
        try:
            file = fleet.parse(data)
        except BadFleet as error:
            details = {"faults": [fault.as_json() for fault in error.faults]}
            raise BadRequest(f"nothing was stored: {error}", code="bad_fleet", details=details) from error
        stored = self._store.get(fleet.KEY)
        found = _version(stored)
        if expected is not None and expected != found:
            raise _changed(f"the fleet is at version {found or 'none'}, not {expected}")
        try:
            self._store.swap(fleet.KEY, data, None if stored is None else stored.etag)
        except Conflict as error:
            raise _changed("another writer changed the fleet at the same time") from error
        return {**describe(file), "replaced": found}


def stored_text(store: ObjectStore) -> bytes:
    stored = store.get(fleet.KEY)
    if stored is None:
        raise Conflicting(f"there is no {fleet.KEY} in the store", code="bad_fleet")
    return stored.data


def read(data: bytes) -> FleetFile:
    """Of the store's own file, which is not the caller's fault."""
    try:
        return fleet.parse(data)
    except BadFleet as error:
        raise Conflicting(str(error), code="bad_fleet") from error


def describe(file: FleetFile) -> dict[str, Any]:
    return {
        "version": file.version,
        "catalogue_date": file.catalogue_date or None,
        "default": file.fleet.default or file.fleet.dearest_first[0],
        "models": [_described(model, file) for model in file.fleet.models],
        "rules": [rule.model_dump(mode="json", exclude_defaults=True) for rule in file.fleet.rules],
    }


def _described(model: Model, file: FleetFile) -> dict[str, Any]:
    """Its fields, and which of them the file leaves to the catalogue."""
    return {
        **model.model_dump(mode="json", by_alias=True, exclude=SECRET),
        "protocols": sorted(protocol.value for protocol in model.protocols),
        "from_catalogue": file.defaulted.get(model.name, ()),
    }


def _version(stored: Stored | None) -> str | None:
    return None if stored is None else fleet.version_of(stored.data)


def _changed(reason: str) -> Conflicting:
    return Conflicting(f"nothing was stored: {reason}; look at it again and repeat", code="fleet_changed")
