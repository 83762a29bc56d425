"""pytest plugin: the control plane on a loopback port, over small state that one test owns."""

import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from handler import fleet as fleets
from handler.asgi import EXCEPTION_HANDLERS
from handler.auth import Authenticator
from handler.control.app import control_routes
from handler.control.embedding import LazyEmbedder
from handler.keys import KeyStore, NewKey
from handler.services import Services, open_repository
from handler.settings import Settings
from handler.sqlite_table import SqliteTable
from index.store import open_store
from scripts.local_state import ensure_home

START_S = 10.0
FLEET = """
models:
  - {name: nano, like: small, price: {input: 1, output: 1}, deployments: [{base_url: "http://127.0.0.1:9/v1"}]}
  - {name: mini, like: medium, price: {input: 2, output: 2}, deployments: [{base_url: "http://127.0.0.1:9/v1"}]}
  - {name: maxi, like: large, price: {input: 9, output: 9}, deployments: [{base_url: "http://127.0.0.1:9/v1"}]}
"""
"""Three models that nobody calls."""
MINI_DOES_IT = {"nano": 0.0, "mini": 1.0, "maxi": 1.0}
"""What {"model": "mini"} says in that fleet."""
MAXI_DOES_IT = {"nano": 0.0, "mini": 0.0, "maxi": 1.0}
UNTUNED = {"k": 100, "beta": 10.0, "kappa": 1.0, "familiar": 0.0}
"""The vote of an index that is too small to tune it on."""


@dataclass(frozen=True, slots=True)
class AdminServer:
    """A server that answers."""

    url: str
    home: Path
    admin_key: str
    client: httpx.Client
    """Sends the admin key."""
    routes: tuple[tuple[str, str], ...]
    """Every method and path there is, with `x` for what a path leaves open."""

    def upload(self, *rows: object, **query: str) -> Any:
        """The report of an upload that must succeed."""
        return told(self.client.post("/admin/v1/examples", content=jsonl(*rows), params=query))

    def examples(self) -> Any:
        """All of them, by id."""
        found = told(self.client.get("/admin/v1/examples", params={"limit": 1000}))["data"]
        return {example["id"]: example for example in found}


@pytest.fixture(scope="session")
def lazy_embedder(model_dir: Path) -> LazyEmbedder:
    return LazyEmbedder(lambda: model_dir, workers=2)


@pytest.fixture
def admin_home(tmp_path: Path) -> Path:
    """A home with a pepper and FLEET, without keys or examples."""
    home = tmp_path / "home"
    ensure_home(home)
    (home / fleets.KEY).write_text(FLEET)
    return home


class Stage:
    """An app whose place another one takes with each test, so that one listening server does for all."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


@pytest.fixture(scope="session")
def admin_stage() -> Iterator[tuple[Stage, str]]:
    stage = Stage()
    with served(stage) as url:
        yield stage, url


@pytest.fixture
def admin_server(
    admin_home: Path, lazy_embedder: LazyEmbedder, admin_stage: tuple[Stage, str]
) -> Iterator[AdminServer]:
    stage, url = admin_stage
    store = open_store(str(admin_home))
    with closing(SqliteTable(admin_home / "state.db")) as table:
        keys = KeyStore(table, (admin_home / "pepper").read_bytes())
        _, admin_key = keys.create(NewKey(name="operator", admin=True))
        services = Services(Settings(), store, open_repository(store), keys, table)
        routes = control_routes(services, Authenticator(keys).admin, lazy_embedder)
        stage.app = Starlette(routes=routes, exception_handlers=EXCEPTION_HANDLERS)
        headers = {"authorization": f"Bearer {admin_key}"}
        with httpx.Client(base_url=url, headers=headers, timeout=60) as client:
            paths = [(method, re.sub(r"{\w+}", "x", route.path)) for route in routes for method in route.methods or ()]
            yield AdminServer(url, admin_home, admin_key, client, tuple(sorted(paths)))


@contextmanager
def served(app: ASGIApp) -> Iterator[str]:
    """The app on a thread of this process; yields its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="critical", access_log=False))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        deadline = time.monotonic() + START_S
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.005)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def told(answer: httpx.Response) -> Any:
    """The JSON of an answer that must be a success."""
    assert answer.is_success, answer.text
    return orjson.loads(answer.content)


def refused(answer: httpx.Response) -> tuple[int, Mapping[str, Any]]:
    """Status and error of a refusal, whose one shape is checked on the way."""
    body = orjson.loads(answer.content)
    assert set(body) == {"error"}
    assert set(body["error"]) - {"details"} == {"message", "type", "param", "code"}
    return answer.status_code, body["error"]


def jsonl(*rows: object) -> bytes:
    """A string stands for itself, anything else for its JSON."""
    return b"".join((row.encode() if isinstance(row, str) else orjson.dumps(row)) + b"\n" for row in rows)
