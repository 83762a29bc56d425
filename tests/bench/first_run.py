"""From nothing to the first routed answer: `git clone`, `make run`, one request."""

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import httpx

from tests.bench.local_server import ROOT, await_that, started, url_in, without_settings
from tests.bench.report import Report

INSTALL_S = 900.0
MODEL_S = 600.0
INDEX_S = 300.0
CALL_S = 60.0
KEY = re.compile(r"^key +(nv-\S+)", re.MULTILINE)
INDEXING = "building the starter index"
"""What `nearvote run` says once it has the model."""


@dataclass(frozen=True, slots=True)
class Row:
    step: str
    seconds: float


def measure(cold_model: bool = False) -> Report[Row]:
    """`cold_model`: fetch the embedding model too, instead of using this user's cache."""
    with tempfile.TemporaryDirectory(prefix="nearvote-first-run-") as directory:
        marks = _first_run(Path(directory), cold_model)
    steps = [Row(step, round(end - start, 1)) for (_, start), (step, end) in pairwise(marks)]
    commit = _output("git", "rev-parse", "--short", "HEAD")
    return Report(
        "From a fresh clone to the first routed answer",
        f"commit {commit}, empty home and pip cache, model {'fetched' if cold_model else 'from the user’s cache'}",
        (*steps, Row("total", round(marks[-1][1] - marks[0][1], 1))),
    )


def _first_run(directory: Path, cold_model: bool) -> list[tuple[str, float]]:
    """Steps in order, each with the time when it ended."""
    marks = [("start", time.perf_counter())]

    def mark(step: str) -> None:
        marks.append((step, time.perf_counter()))

    clone, log = directory / "clone", directory / "log"
    _output("git", "clone", "--quiet", str(ROOT), str(clone))
    mark("clone")
    with started(["make", "run"], log, clone, _environ(directory / "home", cold_model)) as process:
        await_that((clone / ".venv" / "runtime").exists, log, process, INSTALL_S)
        mark("venv and packages")
        await_that(_says(log, INDEXING), log, process, MODEL_S)
        mark("start and model")
        url = url_in(log, process, INDEX_S)
        mark("starter index")
        _ask(url, log)
        mark("first routed answer")
    return marks


def _says(log: Path, words: str) -> Callable[[], bool]:
    return lambda: words in log.read_text()


def _environ(home: Path, cold_model: bool) -> dict[str, str]:
    home.mkdir()
    cache = home / ".cache" if cold_model else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    own = {
        "HOME": str(home),
        "XDG_CACHE_HOME": str(cache),
        "PIP_CACHE_DIR": str(home / ".cache" / "pip"),
        "NEARVOTE_PORT": "0",
    }
    return without_settings(os.environ) | own


def _ask(url: str, log: Path) -> None:
    found = KEY.search(log.read_text())
    if found is None:
        raise RuntimeError("no key was shown")
    answer = httpx.post(
        f"{url}/v1/chat/completions",
        json={"model": "auto", "messages": [{"role": "user", "content": "Translate to French: good morning"}]},
        headers={"authorization": f"Bearer {found[1]}"},
        timeout=CALL_S,
    )
    answer.raise_for_status()
    if answer.headers["x-nearvote-cause"] != "vote":
        raise RuntimeError(f"the answer was not routed by a vote: {answer.headers['x-nearvote-cause']}")


def _output(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=CALL_S).stdout.strip()
