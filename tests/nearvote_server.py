"""pytest plugin: the real `nearvote run` in a process of its own, with local state of its own."""

import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from handler.control.embedding import LazyEmbedder
from handler.keys import KeyStore, NewKey
from handler.services import Services, open_repository
from handler.settings import Settings
from handler.sqlite_table import SqliteTable
from index.store import open_store
from scripts.local_state import PROVIDERS, ensure_home, ensure_index
from tests.providers import ROOT
from tests.servers import free_ports

START_S = 60.0
STOP_S = 15.0
COMMAND = (sys.executable, "-c", "from scripts.main import main; main()", "run")
KEY = re.compile(r"nv-[0-9a-f]{12}-[0-9A-Za-z]{43}")
KEPT = "NEARVOTE_MODEL_DIR"
"""The only setting of the person who runs the tests that the servers get too."""


@dataclass(frozen=True, slots=True)
class Server:
    """A `nearvote run` that answers."""

    url: str
    """Without the /v1."""
    home: Path
    log: Path
    """All that it printed, in a file beside its home."""
    key: str
    """As printed, with routing on; "" where the home had keys already."""
    admin_key: str

    def logged(self) -> str:
        return self.log.read_text()


@pytest.fixture(scope="session")
def starter_home(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with pepper and starter index, to be copied: building the index takes seconds. Has no keys."""
    home = tmp_path_factory.mktemp("starter") / "home"
    ensure_home(home)
    store = open_store(str(home))
    embedder = LazyEmbedder(lambda: model_dir, workers=2)
    with closing(SqliteTable(home / "state.db")) as table:
        services = Services(Settings(home=str(home)), store, open_repository(store), _keys(home, table), table)
        ensure_index(services, embedder.embed_many, embedder.fingerprint, print)
    return home


@pytest.fixture(scope="session")
def nearvote_server(
    starter_home: Path, simulated_provider: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """One server for all tests that do not change its index or fleet; its upstream is `simulated_provider`."""
    home = copy_home(starter_home, tmp_path_factory.mktemp("nearvote") / "home")
    with start_nearvote(home, {"SIMULATED_PROVIDER_URL": simulated_provider}) as server:
        yield server


def copy_home(starter: Path, home: Path) -> Path:
    """`home`, with the pepper and the starter index of `starter`."""
    shutil.copytree(starter, home)
    return home


@contextmanager
def start_nearvote(home: Path, environ: Mapping[str, str] | None = None) -> Iterator[Server]:
    """`nearvote run` over this home, which is made where it is missing, until the block ends. `environ` is added
    to an environment without settings and without providers' keys."""
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    settings = {"NEARVOTE_HOME": str(home), "NEARVOTE_PORT": url.rpartition(":")[2]}
    log = home.with_name(f"{home.name}.log")
    with (
        log.open("wb") as output,
        subprocess.Popen(
            COMMAND,
            cwd=ROOT,
            env=clean_environment() | settings | dict(environ or {}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            _wait_until_healthy(process, url, log)
            printed = KEY.search(log.read_text())
            yield Server(url, home, log, printed[0] if printed else "", create_key(home, NewKey(name="a", admin=True)))
        finally:
            _end(process)


def create_key(home: Path, new: NewKey) -> str:
    """A key made beside the server, as `nearvote keys create` makes it."""
    with closing(SqliteTable(home / "state.db")) as table:
        return _keys(home, table).create(new)[1]


def clean_environment() -> dict[str, str]:
    """This process's, less what would change how nearvote runs."""
    return {
        name: value
        for name, value in os.environ.items()
        if name == KEPT or (not name.startswith("NEARVOTE_") and name not in (*PROVIDERS, "SIMULATED_PROVIDER_URL"))
    }


def _keys(home: Path, table: SqliteTable) -> KeyStore:
    return KeyStore(table, (home / "pepper").read_bytes())


def _wait_until_healthy(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            with urllib.request.urlopen(f"{url}/healthz", timeout=1):
                return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"nearvote did not start:\n{log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
