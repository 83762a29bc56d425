import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from subprocess import PIPE

import numpy as np
import pytest

from handler import fleet as fleets
from handler.keys import KeyStore, NewKey, Routing
from handler.services import Services, open_repository
from handler.settings import Settings
from handler.sqlite_table import SqliteTable
from index import starter
from index.edits import remove
from index.embedder import Embedder
from index.store import open_store
from index.types import TIERS, Floats
from scripts.local_state import (
    PROVIDERS,
    TEMPLATES,
    ensure_fleet,
    ensure_home,
    ensure_index,
    ensure_key,
    fleet_for,
)

SIMULATED = {"sim-small", "sim-medium", "sim-large"}
MAKE_HOME = """
import sys
from pathlib import Path
from scripts.local_state import ensure_home
print("ready", flush=True)
sys.stdin.readline()
ensure_home(Path(sys.argv[1]))
print(Path(sys.argv[1], "pepper").read_text())
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "a" / "home"
    ensure_home(path)
    return path


@pytest.fixture
def services(home: Path) -> Iterator[Services]:
    store = open_store(str(home))
    with closing(SqliteTable(home / "state.db")) as table:
        keys = KeyStore(table, (home / "pepper").read_bytes())
        yield Services(Settings(home=str(home)), store, open_repository(store), keys, table)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names_in(fleet: bytes) -> set[str]:
    return {model.name for model in fleets.parse(fleet).fleet.models}


def pretended(prompts: Sequence[str]) -> Floats:
    """Unit vectors, all the same."""
    vectors = np.zeros((len(prompts), 384), np.float32)
    vectors[:, 0] = 1
    return vectors


def test_a_home_is_for_its_user_alone(home: Path) -> None:
    assert mode(home) == 0o700
    assert mode(home / "pepper") == 0o600
    assert [path.name for path in home.iterdir()] == ["pepper"]


def test_a_pepper_is_64_random_hex_digits_and_stays(home: Path, tmp_path: Path) -> None:
    pepper = (home / "pepper").read_text()
    assert re.fullmatch(r"[0-9a-f]{64}", pepper)
    ensure_home(home)
    assert (home / "pepper").read_text() == pepper
    ensure_home(tmp_path / "other")
    assert (tmp_path / "other" / "pepper").read_text() != pepper


def test_processes_that_start_together_agree_on_the_pepper(tmp_path: Path) -> None:
    command = [sys.executable, "-c", MAKE_HOME, str(tmp_path / "home")]
    racers = [subprocess.Popen(command, text=True, stdin=PIPE, stdout=PIPE) for _ in range(2)]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    peppers = {racer.communicate(timeout=30)[0].strip() for racer in racers}
    assert peppers == {(tmp_path / "home" / "pepper").read_text()}
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["pepper"]


@pytest.mark.parametrize("template", sorted(path.stem for path in TEMPLATES.glob("*.yaml")))
def test_every_template_is_a_fleet_with_each_tier_the_dearer_the_larger(template: str) -> None:
    fleet = fleets.parse((TEMPLATES / f"{template}.yaml").read_bytes()).fleet
    assert [candidate.like for candidate in sorted(fleet.candidates, key=lambda one: one.cost)] == list(TIERS)
    assert template == "simulated" or template in PROVIDERS.values()


@pytest.mark.parametrize("variable", PROVIDERS)
def test_a_provider_with_a_key_is_the_fleet(variable: str) -> None:
    fleet = fleets.parse(fleet_for({variable: "secret", "OTHER": "x"})).fleet
    references = {deployment.api_key for model in fleet.models for deployment in model.deployments}
    assert references == {f"${{{variable}}}"}
    assert len(fleet.models) == 3


def test_several_providers_make_one_fleet() -> None:
    alone = [names_in(fleet_for({variable: "secret"})) for variable in PROVIDERS]
    together = fleet_for(dict.fromkeys(PROVIDERS, "secret"))
    assert names_in(together) == set().union(*alone)
    assert len(fleets.parse(together).fleet.models) == 3 * len(PROVIDERS)
    assert b"secret" not in together
    assert together.count(b"# Taken when") == len(PROVIDERS)


@pytest.mark.parametrize("environ", [{}, {"OPENAI_API_KEY": ""}, {"SOME_API_KEY": "x"}])
def test_without_a_provider_the_fleet_is_simulated(environ: dict[str, str]) -> None:
    assert names_in(fleet_for(environ)) == SIMULATED


def test_a_fleet_is_written_once(services: Services, home: Path) -> None:
    ensure_fleet(services.store, {})
    written = (home / fleets.KEY).read_bytes()
    assert names_in(written) == SIMULATED
    ensure_fleet(services.store, {"OPENAI_API_KEY": "x"})
    assert (home / fleets.KEY).read_bytes() == written


def test_the_starter_index_holds_our_own_examples_and_measured_ones(services: Services, embedder: Embedder) -> None:
    reports: list[str] = []
    ensure_index(services, pretended, embedder.fingerprint, reports.append)
    first = services.repository.current()
    own, measured = len(starter.own()), starter.measured(embedder.fingerprint)
    assert measured is not None
    assert first.examples.ids[own:] == measured.ids
    assert [bool(prompt) for prompt in first.examples.prompts] == [True] * own + [False] * len(measured)
    assert (first.manifest.number, first.manifest.message) == (1, "starter examples")
    assert reports == ["building the starter index"]


def test_with_another_embedder_it_holds_our_own_alone_and_that_is_told(services: Services) -> None:
    reports: list[str] = []
    ensure_index(services, pretended, "f", reports.append)
    assert services.repository.current().examples.ids == tuple(example.id for example in starter.own())
    assert reports == [
        "building the starter index",
        "the measured examples are left out: another embedding model made their vectors",
    ]


def test_the_starter_index_is_built_once(services: Services) -> None:
    reports: list[str] = []
    ensure_index(services, pretended, "f", reports.append)
    first = services.repository.current()
    assert (first.manifest.number, first.manifest.message, first.manifest.fingerprint) == (1, "starter examples", "f")
    assert len(first) >= 500
    assert set(first.examples.models) == set(TIERS)
    reports.clear()
    ensure_index(services, pretended, "f", reports.append)
    assert services.repository.current().version == first.version
    assert reports == []


def test_the_starter_index_is_fitted_to_the_fleet_beside_it(services: Services) -> None:
    ensure_fleet(services.store, {})
    ensure_index(services, pretended, "f", lambda _: None)
    fit = services.repository.current().manifest.fit
    assert fit is not None
    assert fit.candidates == fleets.stored_candidates(services.store)
    assert fit.curve.examples >= 500


def test_an_index_that_was_emptied_stays_empty(services: Services) -> None:
    ensure_index(services, pretended, "f", lambda _: None)
    remove(services.repository, services.repository.current().examples.ids)
    ensure_index(services, pretended, "f", lambda _: None)
    assert len(services.repository.current()) == 0


def test_processes_that_build_the_index_together_make_one_version(services: Services) -> None:
    """The second one embeds too, but finds all of it there when it comes to write."""

    def embed_while_another_is_first(prompts: Sequence[str]) -> Floats:
        if not len(services.repository.current()):
            ensure_index(services, pretended, "f", lambda _: None)
        return pretended(prompts)

    ensure_index(services, embed_while_another_is_first, "f", lambda _: None)
    assert services.repository.current().manifest.number == 1


def test_a_first_key_routes_and_is_made_once(services: Services) -> None:
    key = ensure_key(services.keys)
    assert key is not None
    record = services.keys.authenticate(key)
    assert record is not None
    assert (record.name, record.routing, record.admin) == ("first", Routing.ON, False)
    assert ensure_key(services.keys) is None
    assert services.keys.list() == [record]


def test_where_there_is_a_key_even_a_revoked_one_none_is_made(services: Services) -> None:
    record, _ = services.keys.create(NewKey(name="mine"))
    services.keys.revoke(record.id)
    assert ensure_key(services.keys) is None


def test_a_key_lies_nowhere_under_the_home(services: Services, home: Path) -> None:
    key = ensure_key(services.keys)
    assert key is not None
    secret = key.rpartition("-")[2].encode()
    files = [Path(folder, name) for folder, _, names in os.walk(home) for name in names]
    assert {"pepper", "state.db", "state.db-wal"} <= {path.name for path in files}
    assert [path for path in files if secret in path.read_bytes()] == []
