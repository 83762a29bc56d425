"""LiteLLM's proxy and Portkey's gateway in front of one upstream: on loopback, offline, one process each."""

import contextlib
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.bench.endpoint import Endpoint
from tests.bench.local_server import ROOT, await_that, started
from tests.servers import free_ports

LITELLM = ROOT / ".venv-bench" / "litellm" / "bin" / "litellm"
PORTKEY = ROOT / ".venv-bench" / "portkey" / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
ON_LOOPBACK = Path(__file__).with_name("on_loopback.cjs")
START_S = 120.0
MODEL = "canned"
MASTER_KEY = "sk-bench"
OFFLINE = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_LOCAL_AUTOROUTER_PRESETS": "True",
    "LITELLM_LOCAL_BLOG_POSTS": "True",
    "LITELLM_LOCAL_POLICY_TEMPLATES": "True",
}
"""LiteLLM would look these up on the web."""
QUIET = {"LITELLM_LOG": "ERROR"}
"""As its makers advise for production: no line for each request."""


def check_installed() -> None:
    """Raises RuntimeError when one of them is not there."""
    missing = [path for path in (LITELLM, PORTKEY) if not path.exists()]
    if missing or shutil.which("node") is None:
        raise RuntimeError("the other gateways are not installed: `make bench-gateway` does it, and needs Node's npm")


@contextlib.contextmanager
def litellm(upstream: str, directory: Path) -> Iterator[Endpoint]:
    """`upstream`: a base URL, ending in /v1."""
    model = {"model": f"openai/{MODEL}", "api_base": upstream, "api_key": "none"}
    with litellm_serving({MODEL: model}, directory) as endpoint:
        yield endpoint


@contextlib.contextmanager
def litellm_serving(models: Mapping[str, Mapping[str, object]], directory: Path) -> Iterator[Endpoint]:
    """With a master key and no database, and no retries of its own. `models`: LiteLLM's parameters by name."""
    config = directory / "litellm.json"
    config.write_text(json.dumps(_litellm_config(models)))
    port = free_ports(1)[0]
    command = [str(LITELLM), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--num_workers", "1", "--telemetry", "False"]
    with _listening(command, port, directory, OFFLINE | QUIET) as pid:
        yield Endpoint(_chat_url(port), MODEL, _headers(MASTER_KEY), pid)


@contextlib.contextmanager
def portkey(upstream: str, directory: Path) -> Iterator[Endpoint]:
    """`upstream`: a base URL, ending in /v1; each request names it."""
    port = free_ports(1)[0]
    command = [shutil.which("node") or "node", "--require", str(ON_LOOPBACK), str(PORTKEY), f"--port={port}"]
    route = {"x-portkey-provider": "openai", "x-portkey-custom-host": upstream}
    with _listening([*command, "--headless"], port, directory, {"NODE_ENV": "production"}) as pid:
        yield Endpoint(_chat_url(port), MODEL, _headers("any") | route, pid)


@contextlib.contextmanager
def _listening(command: list[str], port: int, directory: Path, environ: Mapping[str, str]) -> Iterator[int]:
    """The process's id. It sees nothing of the caller's own settings and keys."""
    log = directory / f"{port}.log"
    plain = {"PATH": os.environ["PATH"], "HOME": str(directory)}
    with started(command, log, directory, plain | dict(environ)) as process:
        await_that(lambda: _accepts(port), log, process, START_S)
        yield process.pid


def _litellm_config(models: Mapping[str, Mapping[str, object]]) -> dict[str, object]:
    return {
        "model_list": [{"model_name": name, "litellm_params": parameters} for name, parameters in models.items()],
        "general_settings": {"master_key": MASTER_KEY},
        "litellm_settings": {"telemetry": False},
        "router_settings": {"num_retries": 0, "disable_cooldowns": True},
    }


def _chat_url(port: int) -> str:
    return f"http://127.0.0.1:{port}/v1/chat/completions"


def _headers(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}", "content-type": "application/json"}


def _accepts(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
