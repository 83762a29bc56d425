"""/admin/v1/index and /admin/v1/versions: what is current, history, differences, roll back, rebuild."""

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from handler.asgi import json_response
from handler.control.embedding import LazyEmbedder, Progress
from handler.control.guard import Guard
from handler.control.progress import answer_with_progress
from handler.control.query import number, only
from handler.keys import KeyOptions
from index import edits, versions
from index.dial import Curve
from index.manifest import Manifest
from index.snapshot import Snapshot
from index.versions import Repository

MOST_VERSIONS = 1000


class VersionRoutes:
    def __init__(self, guard: Guard, repository: Repository, embedder: LazyEmbedder) -> None:
        self._guard = guard
        self._repository = repository
        self._embedder = embedder

    def routes(self) -> list[Route]:
        return [
            Route("/admin/v1/index", self.current, methods=["GET"]),
            Route("/admin/v1/versions", self.history, methods=["GET"]),
            Route("/admin/v1/versions/{old}/diff/{new}", self.difference, methods=["GET"]),
            Route("/admin/v1/versions/{id}/rollback", self.roll_back, methods=["POST"]),
            Route("/admin/v1/index/rebuild", self.rebuild, methods=["POST"]),
        ]

    async def current(self, request: Request) -> Response:
        await self._guard(request)
        snapshot = await asyncio.to_thread(self._repository.current)
        return json_response({**describe(snapshot), "models": snapshot.examples.models})

    async def history(self, request: Request) -> Response:
        await self._guard(request)
        only(request, "limit")
        most = number(request, "limit", 20, 1, MOST_VERSIONS)
        found = await asyncio.to_thread(lambda: list(self._repository.history(most)))
        return json_response({"data": [_manifest(id, manifest) for id, manifest in found]})

    async def difference(self, request: Request) -> Response:
        await self._guard(request)
        ids = (request.path_params["old"], request.path_params["new"])
        old, new = await asyncio.to_thread(lambda: [self._repository.load(id) for id in ids])
        found = versions.compare(old, new)
        return json_response({"added": found.added, "removed": found.removed, "changed": found.changed})

    async def roll_back(self, request: Request) -> Response:
        await self._guard(request)
        return json_response(describe(await asyncio.to_thread(self._repository.roll_back, request.path_params["id"])))

    async def rebuild(self, request: Request) -> Response:
        await self._guard(request)

        def work(progress: Progress) -> dict[str, Any]:
            rebuilt = edits.rebuild(
                self._repository,
                lambda prompts: self._embedder.embed_many(prompts, progress),
                self._embedder.fingerprint,
            )
            return {**describe(rebuilt.snapshot), "left_out": rebuilt.left_out}

        return await answer_with_progress(request, work)


def describe(snapshot: Snapshot) -> dict[str, Any]:
    return _manifest(snapshot.version, snapshot.manifest)


def _manifest(id: str, manifest: Manifest) -> dict[str, Any]:
    return {
        "version": id or None,
        "number": manifest.number,
        "parent": manifest.parent,
        "created_at": manifest.created_at,
        "message": manifest.message,
        "examples": manifest.examples,
        "segments": len(manifest.segments),
        "embedder": manifest.fingerprint,
        "vote": {
            "k": manifest.params.k,
            "beta": manifest.params.beta,
            "kappa": manifest.params.kappa,
            "familiar": manifest.params.familiar,
        },
        "promised": None if manifest.fit is None else _promised(manifest.fit.curve),
    }


def _promised(curve: Curve) -> dict[str, float] | None:
    """What the dial that keys have by default gave on the version's own examples, for the fleet of its time; dollars
    are for a typical request."""
    if not curve.examples:
        return None
    dial = KeyOptions().dial
    promise = curve.promise(dial)
    return {"dial": dial, "spend": promise.spend, "quality": promise.quality}
