"""/admin/v1/examples: upload, list, search, show, relabel, delete."""

import asyncio
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from handler.asgi import json_response, read_body, read_object
from handler.control.embedding import LazyEmbedder, Progress
from handler.control.guard import Guard
from handler.control.progress import answer_with_progress
from handler.control.query import flag, number, only
from handler.control.versions import describe
from handler.errors import BadRequest, Conflicting
from handler.fleet import BadFleet, stored_candidates
from index import edits
from index.edits import Upload
from index.errors import BadUpload, UnknownExample
from index.examples import MAX_UPLOAD_BYTES
from index.snapshot import Snapshot
from index.store import ObjectStore
from index.types import Candidate, Example
from index.versions import Repository, require_embedder

BODY_BYTES = 1024 * 1024
MOST_SHOWN = 1000
OUTCOMES = {"model", "only", "scores"}


class ExampleRoutes:
    def __init__(self, guard: Guard, store: ObjectStore, repository: Repository, embedder: LazyEmbedder) -> None:
        self._guard = guard
        self._store = store
        self._repository = repository
        self._embedder = embedder

    def routes(self) -> list[Route]:
        return [
            Route("/admin/v1/examples", self.upload, methods=["POST"]),
            Route("/admin/v1/examples", self.list_examples, methods=["GET"]),
            Route("/admin/v1/examples/search", self.search, methods=["GET"]),
            Route("/admin/v1/examples/delete", self.delete_many, methods=["POST"]),
            Route("/admin/v1/examples/{id}", self.show, methods=["GET"]),
            Route("/admin/v1/examples/{id}", self.relabel, methods=["PATCH"]),
            Route("/admin/v1/examples/{id}", self.delete, methods=["DELETE"]),
        ]

    async def upload(self, request: Request) -> Response:
        """The body is the file: JSONL or CSV, gzipped or not. ?name= &skip_bad= &replace= &message="""
        await self._guard(request)
        only(request, "name", "skip_bad", "replace", "message")
        name = request.query_params.get("name", "")
        message = request.query_params.get("message", "") or f"add {name or 'examples'}"
        skip_bad, replace = flag(request, "skip_bad"), flag(request, "replace")
        upload = Upload(await read_body(request, MAX_UPLOAD_BYTES), name, skip_bad, replace)
        return await answer_with_progress(request, lambda progress: self._add(upload, message[:200], progress))

    def _add(self, upload: Upload, message: str, progress: Progress) -> dict[str, Any]:
        report = edits.add(
            self._repository,
            upload,
            self._candidates(),
            lambda prompts: self._embedder.embed_many(prompts, progress),
            self._embedder.fingerprint,
            message,
        )
        return {
            "added": report.added,
            "replaced": report.replaced,
            "skipped": [fault.as_json() for fault in report.skipped],
            **describe(report.snapshot),
        }

    async def list_examples(self, request: Request) -> Response:
        """?limit= &after=ID (the last one seen) &task= &text= (a part of the prompt, in any case)"""
        await self._guard(request)
        only(request, "limit", "after", "task", "text")
        most = number(request, "limit", 50, 1, MOST_SHOWN)
        after, task = request.query_params.get("after"), request.query_params.get("task")
        text = request.query_params.get("text", "").casefold()
        snapshot = await asyncio.to_thread(self._repository.current)
        if after is not None and after not in snapshot.rows:
            raise UnknownExample([after])
        first = 0 if after is None else snapshot.rows[after] + 1
        found = [
            row
            for row in range(first, len(snapshot))
            if task in (None, snapshot.examples.tasks[row]) and text in snapshot.examples.prompts[row].casefold()
        ]
        return json_response(
            {
                "data": [_shown(snapshot.examples.example(row)) for row in found[:most]],
                "more": len(found) > most,
                "total": len(snapshot),
            }
        )

    async def search(self, request: Request) -> Response:
        """?q=TEXT &limit=: the nearest examples, as the vote finds them."""
        await self._guard(request)
        only(request, "q", "limit")
        text = request.query_params.get("q", "")
        if not text.strip():
            raise BadRequest("q must be the text to search for", param="q")
        most = number(request, "limit", 10, 1, MOST_SHOWN)
        return json_response({"data": await asyncio.to_thread(self._nearest, text, most)})

    def _nearest(self, text: str, most: int) -> list[dict[str, Any]]:
        snapshot = self._repository.current()
        if not len(snapshot):
            return []
        require_embedder(snapshot.manifest, self._embedder.fingerprint)
        similarities, rows = snapshot.search(self._embedder.embed(text)[None, :], most)
        return [
            {"similarity": round(float(similarity), 4), **_shown(snapshot.examples.example(int(row)))}
            for similarity, row in zip(similarities[0], rows[0], strict=True)
        ]

    async def show(self, request: Request) -> Response:
        await self._guard(request)
        snapshot = await asyncio.to_thread(self._repository.current)
        return json_response(_shown(_find(snapshot, request.path_params["id"])))

    async def relabel(self, request: Request) -> Response:
        """The body is one of {"model": X}, {"only": X}, {"scores": {…}}."""
        await self._guard(request)
        outcome = await read_object(request, BODY_BYTES)
        if set(outcome) - OUTCOMES or len(outcome) != 1:
            raise BadRequest("give one of model, only, scores")
        try:
            snapshot = await asyncio.to_thread(self._relabel, request.path_params["id"], outcome)
        except BadUpload as error:  # of one line, which nobody has numbered
            raise BadRequest(error.faults[0].reason, param=next(iter(outcome))) from error
        return json_response(describe(snapshot))

    def _relabel(self, id: str, outcome: dict[str, Any]) -> Snapshot:
        return edits.relabel(self._repository, id, outcome, self._candidates())

    async def delete(self, request: Request) -> Response:
        await self._guard(request)
        return await self._removed([request.path_params["id"]])

    async def delete_many(self, request: Request) -> Response:
        """The body is {"ids": [...]}; all go in one version, or none."""
        await self._guard(request)
        ids = (await read_object(request, BODY_BYTES)).get("ids")
        if not isinstance(ids, list) or not ids or not all(isinstance(id, str) for id in ids):
            raise BadRequest("ids must be a list of example ids", param="ids")
        return await self._removed(ids)

    async def _removed(self, ids: Sequence[str]) -> Response:
        return json_response(describe(await asyncio.to_thread(edits.remove, self._repository, ids)))

    def _candidates(self) -> tuple[Candidate, ...]:
        """The fleet's models as of now: what names mean, and which is dearer."""
        try:
            return stored_candidates(self._store)
        except BadFleet as error:
            raise Conflicting(str(error), code="bad_fleet") from error


def _find(snapshot: Snapshot, id: str) -> Example:
    if id not in snapshot.rows:
        raise UnknownExample([id])
    return snapshot.examples.example(snapshot.rows[id])


def _shown(example: Example) -> dict[str, Any]:
    label = example.label
    outcome = {label.kind.value: label.model} if label else {}
    source = {"source": example.source} if example.source else {}
    return {
        "id": example.id,
        "prompt": example.prompt,
        "task": example.task,
        **source,
        **outcome,
        "scores": example.scores,
    }
