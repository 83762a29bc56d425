"""pytest plugin: the simulated provider in a process of its own, as an upstream for tests."""

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
START_S = 20.0


@contextmanager
def running(module: str, *arguments: str) -> Iterator[str]:
    """Run `python -m module`; yields the URL that it prints first, and ends it afterwards."""
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield announced_url(process)
        finally:
            process.terminate()


def announced_url(process: subprocess.Popen[str]) -> str:
    """The URL at the end of the first line that a starting server prints."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], START_S)
    line = process.stdout.readline() if ready else ""
    assert line, f"{process.args!r} printed no URL within {START_S:.0f} s"
    return line.split()[-1]


@pytest.fixture(scope="session")
def simulated_provider() -> Iterator[str]:
    """Base URL, ending in /v1, of a simulated provider that lives as long as the test session."""
    arguments = ("--port", "0", "--parent-pid", str(os.getpid()))
    with running("scripts.simulated_provider", *arguments) as url:
        yield url
