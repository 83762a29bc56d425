"""`nearvote run` in a process of its own, over state that is made here."""

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from handler.keys import KeyStore, NewKey, Routing
from handler.services import open_repository
from handler.sqlite_table import SqliteTable
from index import edits, starter
from index import segment as segments
from index.embedder import Embedder
from index.store import ObjectStore, open_store
from index.types import Floats
from scripts import model_files
from scripts.local_state import ensure_fleet, ensure_home, starter_segment
from scripts.output import say
from scripts.run import SIMULATED_URL
from tests.bench.machine import CORES

ROOT = Path(__file__).parents[2]
START_S = 60.0
STOP_S = 15.0
NEARVOTE = "from scripts.main import main; main()"
"""The console script, but of this working copy, whichever one is installed."""
NOWHERE = "http://127.0.0.1:9/v1"
URL = re.compile(r"^nearvote  (http://\S+)/v1$", re.MULTILINE)
"""In the welcome that `nearvote run` prints."""


@dataclass(frozen=True, slots=True)
class Server:
    url: str
    key: str
    """An admin key whose routing is on."""
    pid: int

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}", "content-type": "application/json"}


def model_directory() -> Path:
    return model_files.ensure(os.environ, report=say)


def add_starter_examples(store: ObjectStore, embedder: Embedder, most: int | None) -> None:
    """The starter index, or the first `most` of our own examples, as a first version, beside the simulated fleet."""
    ensure_fleet(store, {})

    def embed(prompts: Sequence[str]) -> Floats:
        return embedder.embed_many(prompts, len(CORES))

    if most is None:
        first = starter_segment(embed, embedder.fingerprint, say)
    else:
        own = starter.own()[:most]
        first = segments.from_examples(own, embed([example.prompt for example in own]))
    edits.start(open_repository(store), first, embedder.fingerprint, "starter examples")


@contextlib.contextmanager
def served(home: Path, examples: int | None = None, upstream: str = NOWHERE) -> Iterator[Server]:
    """A server over new state in `home`, whose models are all at `upstream`. It runs on the cores that the caller
    may use now."""
    key = _prepare(home, examples)
    environ = {**without_settings(os.environ), "NEARVOTE_HOME": str(home), "NEARVOTE_PORT": "0"}
    command = [sys.executable, "-c", NEARVOTE, "run"]
    with started(command, home / "log", ROOT, {**environ, SIMULATED_URL: upstream}) as process:
        yield Server(url_in(home / "log", process), key, process.pid)


@contextlib.contextmanager
def started(
    command: list[str], log: Path, directory: Path, environ: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    with (
        log.open("wb") as output,
        subprocess.Popen(command, cwd=directory, env=environ, stdout=output, stderr=subprocess.STDOUT) as process,
    ):
        try:
            yield process
        finally:
            _end(process)


def url_in(log: Path, process: subprocess.Popen[bytes], seconds: float = START_S) -> str:
    """Of the server that writes this log, once it says it. Raises TimeoutError or RuntimeError, with what it said."""
    await_that(lambda: URL.search(log.read_text()) is not None, log, process, seconds)
    found = URL.search(log.read_text())
    assert found is not None
    return found[1]


def await_that(
    happened: Callable[[], bool], log: Path, process: subprocess.Popen[bytes], seconds: float = START_S
) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        if process.poll() is not None:
            raise RuntimeError(f"the server ended:\n{log.read_text()[-2000:]}")
        if time.monotonic() > deadline:
            raise TimeoutError(f"the server did not get ready in {seconds:.0f} s:\n{log.read_text()[-2000:]}")
        time.sleep(0.01)


def without_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """The caller's own nearvote settings must not matter."""
    kept = "NEARVOTE_MODEL_DIR"
    return {name: value for name, value in environ.items() if not name.startswith("NEARVOTE_") or name == kept}


def _prepare(home: Path, examples: int | None) -> str:
    ensure_home(home)
    add_starter_examples(open_store(str(home)), Embedder(model_directory()), examples)
    with contextlib.closing(SqliteTable(home / "state.db")) as table:
        keys = KeyStore(table, (home / "pepper").read_bytes())
        _, key = keys.create(NewKey(name="bench", admin=True, routing=Routing.ON))
    return key


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
