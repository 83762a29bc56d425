"""From nothing to the first decision: the artifact that Lambda gets, started on this machine."""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import httpx
import numpy as np

from handler.keys import KeyStore, NewKey, Routing
from handler.services import open_repository
from handler.sqlite_table import SqliteTable
from index import segment
from index.embedder import DIMENSIONS, Embedder
from index.store import open_store
from index.types import Example
from infra import bytecode, package
from scripts.local_state import ensure_fleet, ensure_home
from tests.bench.local_server import START_S, started
from tests.bench.machine import CORES
from tests.bench.report import Aim, Report
from tests.infra.artifact import ARCH, ROOT, Runtime, make_runtime
from tests.servers import free_ports

EXAMPLES = 20_000
WARM, DROPPED = "warm", "dropped"
SCORES = {"small": 0.5, "medium": 0.7, "large": 0.9}
"""How often each tier does well on a made-up example."""
POLL_S = 0.01
"""As often as the adapter asks whether the server is ready."""
PROGRAM_S = 60.0
AIM_S = 2.0
READY, DECISION, CLIENTS = "start to ready", "start to first decision", "boto3 and its clients (in AWS only)"
PARTS = ("interpreter and imports", "model", "index and ballot")
LOADING = """
import json, time
import handler.data.server
marks = [time.perf_counter()]
from handler.data.build import ASLEEP_BETWEEN_REQUESTS, build, load_embedder
from handler.services import open_services
from handler.settings import from_environment
services = open_services(from_environment())
embedder = load_embedder(services.settings.model_dir)
marks.append(time.perf_counter())
build(services, embedder, ASLEEP_BETWEEN_REQUESTS)
marks.append(time.perf_counter())
print(json.dumps(marks))
"""
"""What the server does before it listens, with the time after each of PARTS."""
CONNECTING = """
import json, time
import handler.data.server
from handler.secrets import secrets_client
from handler.table import open_table
from index.store import open_store
before = time.perf_counter()
open_store("s3://bucket"), open_table("dynamodb://table"), secrets_client()
print(json.dumps(time.perf_counter() - before))
"""
QUESTION = {"model": "auto", "messages": [{"role": "user", "content": "Translate to French: good morning"}]}
AWS = {"AWS_DEFAULT_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "made-up", "AWS_SECRET_ACCESS_KEY": "made-up"}

Steps = dict[str, float]
"""Step → seconds."""


@dataclass(frozen=True, slots=True)
class Row:
    step: str
    page_cache: str
    """`dropped`: of the files of the artifact, the index and Python's library."""
    starts: int
    median_s: float
    most_s: float


@dataclass(frozen=True, slots=True)
class Function:
    artifact: Path
    runtime: Runtime
    home: Path
    key: str

    @property
    def environment(self) -> dict[str, str]:
        return self.runtime.environment(self.artifact) | {"NEARVOTE_HOME": str(self.home)}


def measure(
    starts: int = 5,
    warm_up: int = 1,
    examples: int = EXAMPLES,
    caches: Sequence[str] = (WARM, DROPPED),
    artifact: Path | None = None,
) -> Report[Row]:
    """`warm_up`: starts that are not counted; `artifact`: one that is built, by default it is built now. Raises
    RuntimeError where the artifact cannot be run."""
    python = bytecode.find_python()
    if sys.platform != "linux" or python is None:
        raise RuntimeError("the artifact was not started: that takes Linux and a Python 3.13")
    if artifact is None:
        artifact = ROOT / "build" / f"lambda-{ARCH}"
        package.build(ARCH, artifact, python)
    with tempfile.TemporaryDirectory(prefix="nearvote-bench-") as directory:
        function = _function(Path(directory), python, artifact, examples)
        trees = (artifact, function.home, _library(function))
        rows = [row for cache in caches for row in _rows(function, cache, starts, warm_up, trees)]
        clients = [_connect(function) for _ in range(warm_up + starts)][warm_up:]
    ready = next(row for row in rows if row.step == READY)
    return Report(
        "Cold start of the artifact",
        f"{examples:,} examples in a local directory, {len(CORES)} cores, Python {bytecode.version(python)}, no "
        f"network; the parts are timed in runs of their own, and ready is asked every {POLL_S * 1000:g} ms",
        (*rows, *_summed(clients, WARM)),
        (Aim(f"{READY}, page cache {ready.page_cache}, median, s", ready.median_s, AIM_S),),
    )


def _rows(function: Function, cache: str, starts: int, warm_up: int, trees: Sequence[Path]) -> list[Row]:
    dropped = trees if cache == DROPPED else ()

    def start() -> Steps:
        _drop(dropped)
        loaded = _load(function)
        _drop(dropped)
        return loaded | _serve(function)

    return _summed([start() for _ in range(warm_up + starts)][warm_up:], cache)


def _summed(runs: Sequence[Steps], cache: str) -> list[Row]:
    def row(step: str, seconds: Sequence[float]) -> Row:
        return Row(step, cache, len(seconds), round(statistics.median(seconds), 2), round(max(seconds), 2))

    return [row(step, [run[step] for run in runs]) for step in runs[0]]


def _load(function: Function) -> Steps:
    before = time.perf_counter()  # the machine's clock, so the same in the child
    marks = [before, *json.loads(_run(function, LOADING, {}))]
    return {part: end - start for part, (start, end) in zip(PARTS, pairwise(marks), strict=True)}


def _serve(function: Function) -> Steps:
    port = str(free_ports(1)[0])
    environment, log = function.environment | {"AWS_LWA_PORT": port}, function.home / "log"
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PROGRAM_S) as http:
        before = time.perf_counter()
        with started([str(function.artifact / "run.sh")], log, function.runtime.bin, environment) as process:
            _await_ready(http, process, log)
            ready = time.perf_counter()
            decided = http.post("/v1/route", json=QUESTION, headers={"authorization": f"Bearer {function.key}"})
            end = time.perf_counter()
    if not decided.is_success or not decided.json()["index_version"]:
        raise RuntimeError(f"nothing was decided: {decided.text}")
    return {READY: ready - before, DECISION: end - before}


def _connect(function: Function) -> Steps:
    """Compiled ahead, as what is warm: Python keeps beside the home what it compiles."""
    compiled = {"PYTHONPYCACHEPREFIX": str(function.home / "compiled"), "PYTHONDONTWRITEBYTECODE": ""}
    return {CLIENTS: json.loads(_run(function, CONNECTING, AWS | compiled))}


def _run(function: Function, script: str, environment: dict[str, str]) -> str:
    command, where = [function.runtime.python, "-c", script], function.runtime.bin
    return subprocess.run(
        command, cwd=where, env=function.environment | environment, capture_output=True, timeout=PROGRAM_S, check=True
    ).stdout.decode()


def _await_ready(http: httpx.Client, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        with contextlib.suppress(httpx.TransportError):
            if http.get("/healthz").is_success:
                return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the artifact did not start:\n{log.read_text()[-2000:]}")
        time.sleep(POLL_S)


def _function(directory: Path, python: Path, artifact: Path, examples: int) -> Function:
    home = directory / "home"
    ensure_home(home)
    store = open_store(str(home))
    ensure_fleet(store, {})
    made, vectors = _made_up(examples)
    fingerprint = Embedder(artifact / "model").fingerprint
    open_repository(store).replace_all(lambda _: segment.from_examples(made, vectors), "made up", fingerprint)
    with contextlib.closing(SqliteTable(home / "state.db")) as table:
        keys = KeyStore(table, (home / "pepper").read_bytes())
        _, key = keys.create(NewKey(name="bench", routing=Routing.ON))
    return Function(artifact, make_runtime(directory, python), home, key)


def _made_up(count: int) -> tuple[list[Example], "np.ndarray[tuple[int, int], np.dtype[np.float32]]"]:
    random = np.random.default_rng(0)
    vectors = random.standard_normal((count, DIMENSIONS), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    does_well = random.random((count, len(SCORES))) < list(SCORES.values())
    prompt = "made-up words of a usual length " * 5
    return [
        Example(f"example-{row}", f"{row} {prompt}", dict(zip(SCORES, map(float, scores), strict=True)))
        for row, scores in enumerate(does_well)
    ], vectors


def _library(function: Function) -> Path:
    return Path(_run(function, "import sysconfig; print(sysconfig.get_path('stdlib'))", {}).strip())


def _drop(trees: Sequence[Path]) -> None:
    """Their files from the page cache, so that they are read from the disk again."""
    for path in _files(trees):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fdatasync(descriptor)  # what is not on the disk yet stays
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def _files(trees: Sequence[Path]) -> Iterator[Path]:
    for tree in trees:
        yield from (path for path in tree.rglob("*") if path.is_file() and not path.is_symlink())
