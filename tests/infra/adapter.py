"""pytest plugin: the real Lambda Web Adapter, built once and kept in the user's cache."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.infra.runtime_api import RuntimeApi
from tests.providers import ROOT
from tests.servers import free_ports

CRATE = "lambda_web_adapter"
VERSION = "1.0.0-rc1"
BUILD_S = 1200.0
START_S = 60.0
STOP_S = 15.0

WRAPPER = ("/bin/sh", "-c", 'exec "$LAMBDA_TASK_ROOT/$_HANDLER"')
"""What the layer's /opt/bootstrap does, which AWS_LAMBDA_EXEC_WRAPPER puts before the runtime's own command."""


@dataclass(frozen=True, slots=True)
class Function:
    """The processes of one execution environment."""

    adapter: "subprocess.Popen[bytes]"
    app: "subprocess.Popen[bytes]"


@pytest.fixture(scope="session")
def lambda_adapter() -> Path:
    """The program that the layer has at extensions/lambda-adapter. Building it takes minutes."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    root = cache / "nearvote" / "tools" / f"{CRATE}-{VERSION}"
    program = root / "bin" / "lambda-adapter"
    if not program.exists():
        cargo = shutil.which("cargo")
        if cargo is None:
            pytest.skip(f"the adapter is built from the crate {CRATE}, and there is no cargo on the PATH")
        command = [cargo, "install", CRATE, "--version", VERSION, "--locked", "--root", str(root)]
        subprocess.run(command, check=True, timeout=BUILD_S)
    return program


@contextmanager
def adapted(
    adapter: Path, api: RuntimeApi, start: Path, environment: Mapping[str, str], log: Path
) -> Iterator[Function]:
    """A zip function whose handler is the script `start`, in `environment` and what Lambda adds. The extension
    comes first, then the runtime, as in Lambda; ready when it asks for an event."""
    given = {
        "AWS_LAMBDA_RUNTIME_API": api.address,
        "AWS_LAMBDA_FUNCTION_NAME": "nearvote-data",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
        "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/nearvote-data",
        "AWS_LAMBDA_LOG_STREAM_NAME": "2025/11/24/[$LATEST]0",
        "LAMBDA_TASK_ROOT": str(start.parent),
        "_HANDLER": start.name,
        "AWS_LWA_INVOKE_MODE": "response_stream",
        "AWS_LWA_READINESS_CHECK_PATH": "/healthz",
        "AWS_LWA_PORT": str(free_ports(1)[0]),
    }
    env = {**environment, **given}
    with (
        log.open("ab") as output,
        subprocess.Popen([adapter], env=env, stdout=output, stderr=output) as extension,
        subprocess.Popen(WRAPPER, cwd=ROOT, env=env, stdout=output, stderr=output) as app,
    ):
        try:
            _await_ready(api, (extension, app), log)
            yield Function(extension, app)
        finally:
            for process in (extension, app):
                _end(process)


def _await_ready(api: RuntimeApi, processes: "tuple[subprocess.Popen[bytes], ...]", log: Path) -> None:
    deadline = time.monotonic() + START_S
    while not api.ready.wait(0.1):
        if time.monotonic() > deadline or any(process.poll() is not None for process in processes):
            pytest.fail(f"the function did not start:\n{log.read_text(errors='replace')[-2000:]}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
