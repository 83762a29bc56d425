"""`nearvote index curve`: the table, the sentence and the picture."""

import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import orjson
import pytest
from typer.testing import CliRunner, Result

from handler.control.embedding import LazyEmbedder
from handler.fleet import KEY, parse
from index.edits import Upload, add
from index.store import open_store
from index.versions import Repository
from scripts import curve_plot, curve_text
from scripts.main import app
from tests.admin_server import AdminServer, jsonl
from tests.nearvote_server import clean_environment

SVG = "{http://www.w3.org/2000/svg}"
SETTINGS = [
    {
        "dial": dial,
        "exchange": dial / 10,
        "spend": 0.005 - dial * 0.0004,
        "spend_margin": 0.0001 if dial < 10 else 0.0,
        "quality": 0.9 - dial * 0.02,
        "quality_margin": 0.03,
        "saved": 0.08 * dial,
        "kept": 1 - 0.02 * dial,
    }
    for dial in range(11)
]
CURVE: dict[str, Any] = {
    "index_version": "v",
    "fleet_version": "f",
    "examples": 1234,
    "best_single": "large",
    "settings": SETTINGS,
    "models": [
        {"model": "small", "cost": 0.001, "quality": 0.7, "quality_margin": 0.04, "measured": 1234},
        {"model": "large", "cost": 0.005, "quality": 0.9, "quality_margin": 0.02, "measured": 1000},
        {"model": "new", "cost": 0.002, "quality": None, "quality_margin": None, "measured": 0},
    ],
}
UNMEASURED = {"quality": None, "quality_margin": None, "saved": None, "kept": None}


def test_the_table_gives_every_setting_and_every_model_alone_and_the_sentence_the_default_dial() -> None:
    settings, models, words = curve_text.describe(CURVE).split("\n\n")
    lines = settings.splitlines()
    assert lines[0].split() == ["dial", "$/1,000", "quality", "saved", "kept"]
    assert (lines[1].split(), lines[8].split(), lines[11].split()) == (
        ["0", "5", "±", "0.1", "0.900", "±", "0.030", "0.0%", "100.0%"],
        ["7", "2.2", "±", "0.1", "0.760", "±", "0.030", "56.0%", "86.0%"],
        ["10", "1", "0.700", "±", "0.030", "80.0%", "80.0%"],
    )
    assert [line.split() for line in models.splitlines()] == [
        ["alone", "$/1,000", "quality", "measured", "on"],
        ["small", "1", "0.700", "±", "0.040", "1234"],
        ["large", "5", "0.900", "±", "0.020", "1000"],
        ["new", "2", "-", "0"],
    ]
    assert words == (
        "dial 7 saves 56.0% of the cost of large, which does best alone, and keeps 86.0% of its quality, measured "
        "leave-one-out on 1,234 examples; ± covers 95 % of what sampling them adds"
    )


def test_a_curve_of_which_nothing_is_measured_is_told_too() -> None:
    bare = CURVE | {"best_single": None, "settings": [one | UNMEASURED for one in SETTINGS]}
    text = curve_text.describe(bare)
    assert text.splitlines()[1].split() == ["0", "5", "±", "0.1", "-", "-", "-"]
    assert text.splitlines()[-1].startswith("measured leave-one-out on 1,234 examples")


def texts(path: Path) -> list[str]:
    return ["".join(text.itertext()) for text in ElementTree.parse(path).iter(f"{SVG}text")]


def test_the_picture_as_svg_names_its_axes_its_dials_and_the_models(tmp_path: Path) -> None:
    curve_plot.draw(CURVE, tmp_path / "curve.svg")
    said = texts(tmp_path / "curve.svg")
    assert {"dollars per 1,000 typical requests", "mean measured outcome"} <= set(said)
    assert "What the dial buys, measured leave-one-out on 1,234 examples" in said
    assert {"95 % interval", "dial 0 to 10", "one model alone", "small", "large"} <= set(said)
    assert "new" not in said
    first = said.index("10") - 10  # the numbers at the curve come one after the other, unlike those of the axes
    assert said[first : first + 11] == [str(dial) for dial in range(11)]


def test_the_same_curve_is_the_same_file(tmp_path: Path) -> None:
    for name in ("one.svg", "two.svg"):
        curve_plot.draw(CURVE, tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_the_picture_as_png_has_a_readable_size(tmp_path: Path) -> None:
    curve_plot.draw(CURVE, tmp_path / "curve.PNG")
    data = (tmp_path / "curve.PNG").read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", data[16:24]) == (1050, 675)


def test_a_curve_of_which_nothing_is_measured_can_be_drawn(tmp_path: Path) -> None:
    bare = CURVE | {"settings": [one | UNMEASURED for one in SETTINGS], "models": [CURVE["models"][2]]}
    curve_plot.draw(bare, tmp_path / "bare.svg")
    assert "mean measured outcome" in texts(tmp_path / "bare.svg")


@pytest.fixture
def home(admin_home: Path, lazy_embedder: LazyEmbedder, monkeypatch: pytest.MonkeyPatch, model_dir: Path) -> Path:
    """Local state with twelve examples, for commands without --url."""
    for name in set(os.environ) - set(clean_environment()):
        monkeypatch.delenv(name)
    monkeypatch.setenv("NEARVOTE_HOME", str(admin_home))
    monkeypatch.setenv("NEARVOTE_MODEL_DIR", str(model_dir))
    candidates = parse((admin_home / KEY).read_bytes()).fleet.candidates
    rows = [
        {"id": f"{model}-{n}", "prompt": prompt.format(n), "model": model}
        for n in range(6)
        for model, prompt in (("nano", "Say hello, {} times."), ("maxi", "Prove theorem {} of algebra."))
    ]
    repository = Repository(open_store(str(admin_home)))
    add(repository, Upload(jsonl(*rows)), candidates, lazy_embedder.embed_many, lazy_embedder.fingerprint, "first")
    return admin_home


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["index", "curve", *map(str, arguments)])


@pytest.mark.usefixtures("home")
def test_the_command_prints_a_table_or_json_and_draws(tmp_path: Path) -> None:
    told = run("--json", "--plot", tmp_path / "curve.svg")
    assert (told.exit_code, told.stderr) == (0, f"drawn to {tmp_path / 'curve.svg'}\n")
    curve = orjson.loads(told.stdout)
    assert (curve["examples"], curve["best_single"], len(curve["settings"])) == (12, "maxi", 11)
    assert {"nano", "mini", "maxi"} <= set(texts(tmp_path / "curve.svg"))
    assert run().stdout == curve_text.describe(curve) + "\n"


def test_the_command_reads_a_server_too(home: Path, admin_server: AdminServer) -> None:
    local = run("--json")
    remote = run("--json", "--url", admin_server.url, "--admin-key", admin_server.admin_key)
    assert orjson.loads(remote.stdout) == orjson.loads(local.stdout)
    assert home == admin_server.home


@pytest.mark.usefixtures("home")
def test_another_kind_of_picture_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    refused = run("--plot", tmp_path / "curve.gif")
    assert refused.exit_code == 2
    assert "curve.gif ends in none of .png, .svg" in " ".join(refused.stderr.replace("│", "").split())


@pytest.mark.usefixtures("home")
def test_a_picture_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    refused = run("--plot", tmp_path / "nowhere" / "curve.svg")
    assert refused.exit_code == 1
    assert "nowhere/curve.svg cannot be written" in refused.stderr


def test_no_index_is_told(admin_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in set(os.environ) - set(clean_environment()):
        monkeypatch.delenv(name)
    monkeypatch.setenv("NEARVOTE_HOME", str(admin_home))
    refused = run()
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr == "error: there is nothing to calibrate the dial on: the index is empty\n"


def test_commands_start_without_matplotlib() -> None:
    code = "import sys, scripts.main; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
