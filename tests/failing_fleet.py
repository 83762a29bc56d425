"""pytest plugin: the real `nearvote run` over two scripted upstreams, to see what becomes of their faults."""

import socket
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from handler.flow import Protocol
from handler.keys import NewKey, Routing
from handler.ledger import Ledger
from handler.sqlite_table import SqliteTable
from tests.nearvote_server import Server, copy_home, create_key, start_nearvote
from tests.scripted_upstream import ScriptedUpstream, answer, scripted_upstream

FIRST_BYTE_S = 0.5
SILENCE_S = 2.0
WHOLE = b'{"id":"a","usage":{"prompt_tokens":10,"completion_tokens":20}}'


@dataclass(frozen=True, slots=True)
class FailingFleet:
    """`auto` without a text asks `first`, then `second`; `elsewhere` is the model that is served at a port which
    refuses and by the second upstream."""

    server: Server
    first: ScriptedUpstream
    second: ScriptedUpstream

    def client(self, key: str = "", timeout: float = 10.0) -> httpx.Client:
        headers = {"authorization": f"Bearer {key or self.server.key}"}
        return httpx.Client(base_url=f"{self.server.url}/v1", headers=headers, timeout=timeout)

    def key(self, **limits: Any) -> str:
        return create_key(self.server.home, NewKey(name="limited", routing=Routing.ON, **limits))

    def counted(self, key: str) -> Mapping[str, int]:
        """What the ledger has for a key that was made today."""
        with closing(SqliteTable(self.server.home / "state.db")) as table:
            return next(iter(Ledger(table).days(key.split("-")[1]).values()), {})


@pytest.fixture(scope="session")
def running_fleet(starter_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FailingFleet]:
    home = copy_home(starter_home, tmp_path_factory.mktemp("failing") / "home")
    settings = {
        "NEARVOTE_FIRST_BYTE_SECONDS": str(FIRST_BYTE_S),
        "NEARVOTE_UPSTREAM_SECONDS": str(SILENCE_S),
        "DEAD_KEY": "sk-dead",
        "GOOD_KEY": "sk-good",
    }
    # Bound but not listening: the port stays ours, and refuses.
    with scripted_upstream() as first, scripted_upstream() as second, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        refused = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
        (home / "fleet.yaml").write_bytes(_fleet(first.url, second.url, refused))
        with start_nearvote(home, settings) as server:
            yield FailingFleet(server, first, second)


@pytest.fixture
def failing_fleet(running_fleet: FailingFleet) -> FailingFleet:
    """With closed circuits, and upstreams that answer."""
    for upstream in (running_fleet.first, running_fleet.second):
        upstream.first.clear()
        upstream.left.clear()
        upstream.steps = [answer(WHOLE)]
    with running_fleet.client() as http:
        for model in ("first", "second"):
            http.post("/chat/completions", json={"model": model, "messages": [{"role": "user", "content": ""}]})
    running_fleet.first.received.clear()
    running_fleet.second.received.clear()
    return running_fleet


def _fleet(first: str, second: str, refused: str) -> bytes:
    def model(name: str, price: float, *urls: str, api_key: str = "${GOOD_KEY}") -> dict[str, Any]:
        protocols = [protocol.value for protocol in Protocol]
        deployments = [{"base_url": url, "api_key": api_key, "protocols": protocols} for url in urls]
        cost = {"input": price, "output": price}
        return {"name": name, "like": "small", "price": cost, "deployments": deployments}

    models = [
        model("first", 30, first, api_key="${DEAD_KEY}"),
        model("second", 20, second),
        model("elsewhere", 10, refused, second),
        model("nowhere", 5, refused),
    ]
    return orjson.dumps({"models": models, "default": "first"})
