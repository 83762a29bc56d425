"""How commands reach the control plane: the one that is named, else the local state through the same app."""

import asyncio
import os
from collections.abc import Callable, Coroutine, Mapping
from functools import update_wrapper
from inspect import Signature, signature
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

import httpx
import orjson
import typer
from starlette.applications import Starlette
from tqdm import tqdm

from handler.asgi import EXCEPTION_HANDLERS
from handler.control.app import control_routes
from handler.control.embedding import LazyEmbedder
from handler.control.guard import operator
from handler.control.progress import NDJSON
from handler.secrets import SecretUnavailable
from handler.services import cores, open_services
from handler.settings import Settings, from_environment
from handler.table import TableError
from index.errors import NearvoteIndexError
from scripts import model_files
from scripts.in_process import InProcess
from scripts.local_state import ensure_home
from scripts.output import AsJson, say, show, to_json
from scripts.place import AdminKey, Place, StackName, Url, place_in_environment
from scripts.stack import StackError, find_stack

Own = ParamSpec("Own")
TIMEOUT = httpx.Timeout(3600.0, connect=10.0)


class Admin:
    """A client of the control plane. A refusal is printed and ends the command with exit code 1."""

    def __init__(self, place: Place, as_json: bool = False) -> None:
        self.as_json = as_json
        self._admin_key = (place.admin_key or "").strip()
        self._url = self._url_of(place.stack) if place.stack else place.url or ""

    def show(self, value: Any, text: str) -> None:
        """Print JSON when that was asked for, else the text."""
        show(value, self.as_json, text)

    def get(self, path: str, **query: Any) -> Any:
        return self._ask("GET", path, query)

    def post(self, path: str, body: Any = None) -> Any:
        return self._ask("POST", path, content=orjson.dumps(body or {}))

    def patch(self, path: str, body: Any) -> Any:
        return self._ask("PATCH", path, content=orjson.dumps(body))

    def put(self, path: str, content: bytes, **query: Any) -> Any:
        return self._ask("PUT", path, query, content)

    def delete(self, path: str) -> Any:
        return self._ask("DELETE", path)

    def send_long(self, path: str, content: bytes, unit: str, **query: Any) -> Any:
        """A POST whose work takes a while: a progress bar runs until its result is there."""
        return self._run(self._follow(path, content, unit, _given(query)))

    def _url_of(self, stack: str) -> str:
        try:
            return find_stack(stack).url
        except StackError as error:
            raise self._failed(str(error)) from error

    def _ask(self, method: str, path: str, query: Mapping[str, Any] | None = None, content: bytes | None = None) -> Any:
        return self._run(self._call(method, path, _given(query or {}), content))

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        try:
            return asyncio.run(work)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._failed(f"{self._place} does not answer: {str(error) or type(error).__name__}") from error

    async def _call(self, method: str, path: str, query: Mapping[str, str], content: bytes | None) -> Any:
        async with self._client() as client:
            answer = await client.request(method, path, params=query, content=content)
            return self._checked(answer.status_code, answer.content)

    async def _follow(self, path: str, content: bytes, unit: str, query: Mapping[str, str]) -> Any:
        headers = {"accept": NDJSON}
        async with (
            self._client() as client,
            client.stream("POST", path, params=query, content=content, headers=headers) as answer,
        ):
            if not answer.is_success:
                return self._checked(answer.status_code, await answer.aread())
            line: dict[str, Any] = {}
            with tqdm(unit=unit, leave=False, delay=0.5) as bar:
                async for text in answer.aiter_lines():
                    line = _object(text)
                    if "done" not in line:
                        break
                    bar.total = line["total"]
                    bar.update(line["done"] - bar.n)
        if "result" in line:
            return line["result"]
        if "error" in line:
            raise self._refused(line["error"])
        raise self._failed(f"{self._place} broke off before it was done; nothing is known of the result")

    def _checked(self, status: int, content: bytes) -> Any:
        body = _object(content)
        if status < 300 and body:
            return body
        if isinstance(body.get("error"), dict):
            raise self._refused(body["error"])
        raise self._failed(f"{self._place} answered {status}, but not as nearvote does")

    def _failed(self, message: str) -> SystemExit:
        return self._refused({"message": message})

    def _refused(self, error: Mapping[str, Any]) -> SystemExit:
        """Tells the error; raise what it returns."""
        if self.as_json:
            print(to_json({"error": error}))
        else:
            say(f"error: {error.get('message')}")
            for fault in (error.get("details") or {}).get("faults", []):
                say(f"  line {fault['line']}: {fault['reason']}")
        return SystemExit(1)

    def _client(self) -> httpx.AsyncClient:
        if self._url:
            headers = {"authorization": f"Bearer {self._admin_key}"} if self._admin_key else {}
            return httpx.AsyncClient(base_url=self._url, headers=headers, timeout=TIMEOUT)
        try:
            app = _local_app(from_environment())
        except (ValueError, OSError, SecretUnavailable, TableError, NearvoteIndexError) as error:
            raise self._failed(f"the local state cannot be used: {error}") from error
        return httpx.AsyncClient(base_url="http://local", transport=InProcess(app), timeout=TIMEOUT)

    @property
    def _place(self) -> str:
        return self._url or "the local state"


def with_admin(command: Callable[Concatenate[Admin, Own], None]) -> Callable[..., None]:
    """The command as typer takes it: the options that say which control plane it speaks to stand in for its Admin."""

    def run(
        ctx: typer.Context,
        url: Url = None,
        stack: StackName = None,
        admin_key: AdminKey = None,
        as_json: AsJson = False,
        *args: Own.args,
        **own: Own.kwargs,
    ) -> None:
        place = Place(url, stack, admin_key).over(ctx.obj).over(place_in_environment())
        command(Admin(place, as_json), *args, **own)

    ctx, *options, _, _ = signature(run).parameters.values()
    _, *its_own = signature(command).parameters.values()
    wrapped = update_wrapper(run, command)
    wrapped.__signature__ = Signature([ctx, *its_own, *options])  # type: ignore[attr-defined]
    return wrapped


def _object(content: bytes | str) -> dict[str, Any]:
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _given(query: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in query.items() if value
    }


def _local_app(settings: Settings) -> Starlette:
    ensure_home(Path(settings.home))
    services = open_services(settings)
    embedder = LazyEmbedder(lambda: model_files.ensure(os.environ, report=say), cores(settings))
    return Starlette(routes=control_routes(services, operator, embedder), exception_handlers=EXCEPTION_HANDLERS)
