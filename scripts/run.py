"""`nearvote run`: everything in one local process, from nothing to a served first request."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from handler import fleet as fleets
from handler.asgi import EXCEPTION_HANDLERS
from handler.auth import Authenticator
from handler.control.app import control_routes
from handler.control.embedding import LazyEmbedder
from handler.data.app import DataPlane
from handler.data.build import build
from handler.fleet import BadFleet
from handler.logs import log_to_stderr
from handler.secrets import SecretUnavailable
from handler.services import Services, cores, open_services
from handler.settings import Settings, from_environment
from handler.table import TableError
from index.errors import NearvoteIndexError
from scripts import model_files
from scripts.embedding import embed_with_bar
from scripts.local_state import ensure_fleet, ensure_home, ensure_index, ensure_key
from scripts.output import say

SIMULATED_URL = "SIMULATED_PROVIDER_URL"
"""What the simulated fleet's deployments refer to."""


def run() -> None:
    """Serve on 127.0.0.1, port NEARVOTE_PORT (8080); state lies in NEARVOTE_HOME (.nearvote)."""
    log_to_stderr()
    with _faults_told():
        settings = from_environment()
        listener = _listen(settings.port)
        services, embedder = _prepare(settings)
    with _simulated_provider(services):
        with _faults_told():
            app = build_app(services, embedder)
            key = ensure_key(services.keys)
        say(welcome(f"http://127.0.0.1:{listener.getsockname()[1]}", key))
        config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=5)
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it again once it has ended in good order
            uvicorn.Server(config).run(sockets=[listener])


@contextlib.contextmanager
def _faults_told() -> Iterator[None]:
    try:
        yield
    except (ValueError, OSError, SecretUnavailable, TableError, NearvoteIndexError, BadFleet) as error:
        raise SystemExit(f"cannot start: {error}") from error


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server(("127.0.0.1", port), backlog=2048)
    except (OSError, OverflowError) as error:
        raise ValueError(f"port {port} cannot be had ({error}); NEARVOTE_PORT names another") from error


def _prepare(settings: Settings) -> tuple[Services, LazyEmbedder]:
    """All that has to be there before anything can be served."""
    settings = replace(settings, model_dir=str(model_files.ensure(os.environ, report=say)))
    ensure_home(Path(settings.home))
    services = open_services(settings)
    ensure_fleet(services.store, os.environ)
    embedder = LazyEmbedder(lambda: Path(settings.model_dir), cores(settings))
    ensure_index(services, lambda prompts: embed_with_bar(embedder, prompts), embedder.fingerprint, say)
    return services, embedder


def build_app(services: Services, embedder: LazyEmbedder) -> Starlette:
    """Both planes in one app."""
    data = build(services, embedder.get())
    guard = Authenticator(services.keys).admin

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        watching = asyncio.create_task(_keep_watching(data, services.settings.poll_seconds))
        yield
        watching.cancel()
        await data.close()

    return Starlette(
        routes=[*data.routes(), *control_routes(services, guard, embedder)],
        exception_handlers=EXCEPTION_HANDLERS,
        lifespan=lifespan,
    )


async def _keep_watching(data: DataPlane, every: float) -> None:
    """So that a change is live in time in a server that nobody calls."""
    while True:
        await asyncio.sleep(every)
        data.touch()


@contextlib.contextmanager
def _simulated_provider(services: Services) -> Iterator[None]:
    """Started when the fleet file refers to it; a process of its own, which ends with this one."""
    stored = services.store.get(fleets.KEY)
    if stored is None or SIMULATED_URL.encode() not in stored.data or SIMULATED_URL in os.environ:
        yield
        return
    command = [sys.executable, "-m", "scripts.simulated_provider", "--port", "0", "--parent-pid", str(os.getpid())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None  # noqa: S101 - asked for above
            said = process.stdout.readline().strip()
            if not said:
                raise SystemExit("cannot start: the simulated provider ended at once; what it said stands above")
            os.environ[SIMULATED_URL] = said.rpartition(" ")[2]
            say(f"no provider is configured: {said}")
            yield
        finally:
            process.terminate()


def welcome(url: str, key: str | None) -> str:
    """What to paste. An old key is not known any more: only its hash is kept."""
    another = ".venv/bin/nearvote keys create --name me --routing on"
    note = f"{key}   (shown this once)" if key else f"as shown when it was made; another: export KEY=$({another})"
    in_shell, in_python = (key, f'"{key}"') if key else ("$KEY", 'os.environ["KEY"]')
    return f"""
nearvote  {url}/v1
key       {note}

curl -sS -D - {url}/v1/chat/completions -H "Authorization: Bearer {in_shell}" -H "Content-Type: application/json" \\
  -d '{{"model": "auto", "messages": [{{"role": "user", "content": "Translate to French: good morning"}}]}}'

# .venv/bin/python
import openai, os
client = openai.OpenAI(base_url="{url}/v1", api_key={in_python})
question = [{{"role": "user", "content": "Prove that there are infinitely many primes."}}]
answer = client.chat.completions.with_raw_response.create(model="auto", messages=question)
print(answer.headers["x-nearvote-model"], answer.headers["x-nearvote-cause"], answer.parse().choices[0].message.content)
"""
