"""The README's commands, run in order and as they stand, against a server that runs as it says."""

import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from handler import catalogue, fleet
from handler.flow import Cause
from handler.settings import Settings
from scripts.local_state import PROVIDERS
from tests.nearvote_server import Server, clean_environment, copy_home, start_nearvote
from tests.providers import ROOT

README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
URL = "http://127.0.0.1:8080"


def blocks(language: str) -> list[str]:
    return [text for found, text in BLOCK.findall(README) if found == language]


@pytest.fixture(scope="module")
def server(starter_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = copy_home(starter_home, tmp_path_factory.mktemp("readme") / "home")
    with start_nearvote(home) as server:
        yield server


def run(command: list[str], server: Server, folder: Path) -> str:
    """Where a reader would stand: a folder with .venv and with the key in KEY."""
    venv = folder / ".venv"
    if not venv.exists():
        venv.symlink_to(sys.prefix)
    environ = clean_environment() | {"KEY": server.key, "NEARVOTE_HOME": str(server.home)}
    ended = subprocess.run(
        command, cwd=folder, env=environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=240
    )
    assert ended.returncode == 0, ended.stdout
    return ended.stdout


def test_the_shell_blocks_work_one_after_the_other(server: Server, tmp_path: Path) -> None:
    shell = [block for block in blocks("sh") if not block.startswith("make")]
    script = "set -euo pipefail\n" + "\n".join(shell).replace(URL, server.url)
    output = run(["bash", "-c", script], server, tmp_path)
    assert "x-nearvote-cause: vote" in output
    assert '"neighbours":[{' in output
    assert "4 added, 0 replaced, 0 skipped; version 2" in output


def test_the_python_block_streams_an_answer(server: Server, tmp_path: Path) -> None:
    (block,) = blocks("python")
    output = run([sys.executable, "-c", block.replace(URL, server.url)], server, tmp_path)
    assert output.startswith("[simulated sim-")


def test_the_make_targets_exist() -> None:
    makefiles = "".join(path.read_text() for path in (ROOT / "Makefile", *sorted((ROOT / "infra").glob("*.mk"))))
    targets = re.findall(r"^(\w+):", makefiles, re.MULTILINE)
    assert set(re.findall(r"`?make (\w+)", README)) <= set(targets)


def test_ci_calls_the_test_command_of_the_readme() -> None:
    assert "\nmake test\n" in (ROOT / ".ci" / "run").read_text()


def test_every_cause_is_explained() -> None:
    table = README.split("| cause | why this model |")[1].split("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == [cause.value for cause in Cause]


def test_every_variable_that_is_named_is_read() -> None:
    known = {f"NEARVOTE_{name.upper()}" for name in Settings.__annotations__}
    assert set(re.findall(r"NEARVOTE_[A-Z_]+[A-Z]", README)) <= known
    assert set(re.findall(r"[A-Z]+_API_KEY", README)) == set(PROVIDERS)


def test_the_catalogue_is_as_large_and_as_old_as_is_said() -> None:
    shipped = catalogue.load()
    day = date.fromisoformat(shipped.date)
    assert f"catalogue: {len(shipped.entries)} models as of {day.day} {day:%B %Y}, " in README


def test_the_fleet_that_is_shown_is_one_and_every_field_of_a_model_is_explained() -> None:
    block, rules = blocks("yaml")
    assert fleet.parse(block.encode()).defaulted["gpt-6.1-terra"][0] == "price"
    with_rules = fleet.parse(f"{block}{rules.replace('gpt-6.1-sol', 'gpt-6.1-terra')}".encode()).fleet.rules
    assert [rule.name for rule in with_rules] == ["no-secrets", "legal", "agents", "nightly"]
    table = README.split("| field of a model | meaning |")[1].split("\n\n")[0]
    explained = [name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split(" | ")[0])]
    assert {*explained, "name"} == {field.alias or name for name, field in fleet.Model.model_fields.items()}


def test_every_path_that_is_named_exists() -> None:
    named = re.findall(r"`((?:index|handler|scripts|tests)/[\w./]*)`", README)
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []
