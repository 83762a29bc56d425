"""How commands reach the control plane: the one at NEARVOTE_URL, else the local state through the same app."""

import asyncio
import os
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Annotated, Any

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
from scripts.output import say, to_json
from scripts.stack import StackError, find_stack

Url = Annotated[
    str, typer.Option("--url", envvar="NEARVOTE_URL", help="A server to speak to; default: the local state.")
]
AdminKey = Annotated[str, typer.Option("--admin-key", envvar="NEARVOTE_ADMIN_KEY", help="An admin key of that server.")]
TIMEOUT = httpx.Timeout(3600.0, connect=10.0)


class Admin:
    """A client of the control plane. A refusal is printed and ends the command with exit code 1."""

    def __init__(self, url: str = "", admin_key: str = "", as_json: bool = False, stack: str = "") -> None:
        self._admin_key = admin_key.strip()
        self._as_json = as_json
        self._url = self._url_of(stack) if stack else url

    def get(self, path: str, **query: Any) -> Any:
        return self._ask("GET", path, query)

    def post(self, path: str, body: Any = None) -> Any:
        return self._ask("POST", path, content=orjson.dumps(body or {}))

    def patch(self, path: str, body: Any) -> Any:
        return self._ask("PATCH", path, content=orjson.dumps(body))

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
        if self._as_json:
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
