"""`nearvote fleet check` and `import`: files in, files out. `show` and `put` are in test_cli.py."""

from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner, Result

from handler import fleet
from scripts.local_state import TEMPLATES
from scripts.main import app
from tests.scripts.test_litellm_config import CONFIG, FLEET_FILE

BAD = b"  - model_name: x\n    litellm_params: {model: azure/x}\n"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["fleet", *map(str, arguments)])


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_bytes(CONFIG)
    return path


def test_a_good_fleet_file_is_told_by_its_models() -> None:
    path = TEMPLATES / "simulated.yaml"
    assert (run("check", path).exit_code, run("check", path).stdout) == (
        0,
        f"{path}: sim-small, sim-medium, sim-large\n",
    )
    assert orjson.loads(run("check", path, "--json").stdout) == {"models": ["sim-small", "sim-medium", "sim-large"]}


@pytest.mark.parametrize(
    ("text", "complaints"),
    [
        ("models:\n  - {name: a b}\n", "line 2: models.0.name: String|line 2: models.0.price: Field required|line 2: "),
        ("models:\n  - [\n", "line 3: not YAML: "),
        ("models: []\ndefalt: m\n", "line 1: models: Tuple should have|line 2: defalt: Extra inputs"),
    ],
)
def test_a_bad_fleet_file_is_told_complaint_by_complaint(tmp_path: Path, text: str, complaints: str) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text(text)
    result = run("check", path)
    first, *lines = result.stderr.splitlines()
    assert (result.exit_code, result.stdout, first) == (1, "", f"error: {path} cannot be used")
    for line, complaint in zip(lines, complaints.split("|"), strict=True):
        assert line.startswith(f"  {complaint}")
    faults = orjson.loads(run("check", path, "--json").stdout)["error"]["details"]["faults"]
    assert [f"  line {fault['line']}: {fault['reason']}" for fault in faults] == lines


def test_a_configuration_is_imported_to_stdout_with_what_is_to_be_done_beside_it(config: Path) -> None:
    result = run("import", config)
    assert (result.exit_code, result.stdout) == (0, FLEET_FILE)
    assert result.stderr.splitlines() == [
        "3 models",
        "  add `like: small`, `medium` or `large`, so that the starter examples count for: local",
    ]


def test_a_configuration_is_imported_to_a_file_that_is_only_replaced_when_that_is_said(
    config: Path, tmp_path: Path
) -> None:
    out = tmp_path / "fleet.yaml"
    out.write_text("mine")
    refused = run("import", config, "--out", out)
    assert (refused.exit_code, out.read_text()) == (1, "mine")
    assert refused.stderr == f"error: there is {out} already; --replace replaces it\n"
    replaced = run("import", config, "--out", out, "--replace")
    assert (replaced.exit_code, replaced.stdout, out.read_text()) == (0, "", FLEET_FILE)
    assert replaced.stderr.startswith(f"3 models in {out}\n")
    assert run("check", out).exit_code == 0


def test_what_cannot_be_taken_is_listed_and_nothing_written_unless_it_may_be_skipped(
    config: Path, tmp_path: Path
) -> None:
    config.write_bytes(CONFIG + BAD)
    out = tmp_path / "fleet.yaml"
    refused = run("import", config, "--out", out)
    assert (refused.exit_code, refused.stdout, out.exists()) == (1, "", False)
    assert refused.stderr.splitlines() == [
        f"error: nothing was written: {config} has what cannot be taken (--skip-bad)",
        "  line 16: azure is not spoken to: its deployments and API versions are part of each URL",
    ]
    skipped = run("import", config, "--out", out, "--skip-bad")
    assert "  skipped line 16: azure is not spoken to: " in skipped.stderr
    assert len(fleet.parse(out.read_bytes()).fleet.models) == 3


def test_a_configuration_without_any_model_that_can_be_taken_writes_nothing(config: Path, tmp_path: Path) -> None:
    config.write_bytes(b"model_list:\n" + BAD)
    result = run("import", config, "--skip-bad", "--out", tmp_path / "fleet.yaml")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: nothing was written: {config} has no model that can be taken\n  line 2: ")
    assert not (tmp_path / "fleet.yaml").exists()


def test_a_file_that_cannot_be_written_is_told(config: Path, tmp_path: Path) -> None:
    out = tmp_path / "nowhere" / "fleet.yaml"
    result = run("import", config, "--out", out)
    assert (result.exit_code, result.stderr) == (1, f"error: {out} cannot be written: No such file or directory\n")


def test_an_import_is_json_on_request(config: Path) -> None:
    assert orjson.loads(run("import", config, "--json").stdout) == {
        "models": 3,
        "skipped": [],
        "notes": [],
        "text": FLEET_FILE,
    }
