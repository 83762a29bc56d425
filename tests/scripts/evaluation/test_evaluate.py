"""`nearvote evaluate`, from a CSV file to numbers and pictures."""

import csv
import gzip
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from typer.testing import CliRunner, Result

from index import dial
from scripts.evaluation.curves import choose
from scripts.evaluation.trial import CONTROLS
from scripts.main import app

HEADLINES = ("apgr", "cpt50", "cpt80", "saving_at_best", "aiq")
Evaluate = Callable[..., Result]


def measured() -> str:
    """60 prompts: the small model can greet, only the big one can prove, and the middle one does half of that."""
    lines = ["prompt,task,small,middle,big"]
    names = ("Ann", "Bob", "Cat", "Dan", "Eve", "Finn", "Gil", "Hal", "Ida", "Jo")
    for number in range(30):
        lines.append(f"Say hello to {names[number % 10]} and {names[number // 3]}.,chat,1,1,1")
        lines.append(f"Prove that the square root of {number + 2} is irrational or whole.,maths,0,{number % 2},1")
    return "\n".join(lines) + "\n"


FLEET = """\
models:
- {name: small, price: {input: 1, output: 2}, deployments: [{base_url: "http://127.0.0.1:1/v1"}]}
- {name: mine, like: middle, price: {input: 3, output: 6}, deployments: [{base_url: "http://127.0.0.1:1/v1"}]}
- {name: big, price: {input: 10, output: 20}, deployments: [{base_url: "http://127.0.0.1:1/v1"}]}
"""


@pytest.fixture(scope="session")
def vectors_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all tests of this file: what is embedded once need not be embedded again."""
    return tmp_path_factory.mktemp("vectors")


@pytest.fixture
def evaluate(vectors_home: Path, model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Evaluate:
    monkeypatch.setenv("XDG_CACHE_HOME", str(vectors_home))
    monkeypatch.setenv("NEARVOTE_MODEL_DIR", str(model_dir))
    monkeypatch.chdir(tmp_path)
    Path("data.csv").write_text(measured())
    Path("fleet.yaml").write_text(FLEET)
    return lambda *arguments: CliRunner().invoke(app, ["evaluate", *arguments])


def printed(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return orjson.loads(result.stdout)


PAIR = ("data.csv", "--weak", "small", "--strong", "big", "--index-share", "0.5")


def test_a_pair_is_told_apart_by_its_neighbours(evaluate: Evaluate) -> None:
    found = printed(evaluate(*PAIR, "--json"))
    assert found["data"] == {
        "file": "data.csv",
        "prompts": 60,
        "duplicates": 0,
        "indexed": 30,
        "routed": 30,
        "left_out": 0,
    }
    assert (found["seeds"], found["pair"], found["best_single"]) == ([0], {"weak": "small", "strong": "big"}, "big")
    assert [(model["name"], model["cost"]) for model in found["models"]] == [("small", 1.0), ("big", 10.0)]
    proofs = 1 - found["models"][0]["quality"]  # of those routed
    # Every proof goes to the big model and every greeting to the small one, as the oracle has it.
    assert found["saving_at_best"] == pytest.approx(1 - (10 * proofs + 1 * (1 - proofs)) / 10)
    assert found["saving_at_best"] == found["controls"]["oracle"]["saving_at_best"]
    assert found["cheapest_correct"] == 1.0
    assert found["controls"]["oracle"]["dearest_at_budgets"]["100"] == pytest.approx(proofs)
    assert found["apgr"] > 0.7


def test_each_control_has_what_the_vote_has(evaluate: Evaluate) -> None:
    found = printed(evaluate(*PAIR, "--json"))
    assert tuple(found["controls"]) == CONTROLS
    fields = {name for name in found if name not in ("controls", "dial", "dial_error", "models", "best_single")}
    fields -= {"pair", "data", "seeds", "embedder"}
    assert set(HEADLINES) < fields
    assert all(set(control) == fields for control in found["controls"].values())
    random = [found["controls"]["random"][name] for name in HEADLINES[:4]]
    assert random == [pytest.approx(0.5), pytest.approx(0.5), pytest.approx(0.8), 0.0]
    assert [found["controls"]["best_single"][name] for name in HEADLINES] == [None, None, None, 0.0, None]
    assert {found["standard_error"][name] for name in HEADLINES} == {None}  # of one split there is none


def test_several_seeds_are_averaged_and_the_same_seeds_give_the_same_numbers(evaluate: Evaluate) -> None:
    both = printed(evaluate(*PAIR, "--seed", "3", "--seeds", "2", "--json"))
    again = printed(evaluate(*PAIR, "--seed", "3", "--seeds", "2", "--json"))
    one, two = (printed(evaluate(*PAIR, "--seed", seed, "--json")) for seed in ("3", "4"))
    assert both == again
    assert both["seeds"] == [3, 4]
    for name in HEADLINES:
        values = [one["controls"]["prompt_length"][name], two["controls"]["prompt_length"][name]]
        assert both["controls"]["prompt_length"][name] == pytest.approx(np.mean(values))
        error = both["controls"]["prompt_length"]["standard_error"][name]
        assert error == pytest.approx(abs(values[0] - values[1]) / 2)
    assert one["models"] != two["models"]


def test_the_dials_promise_stands_beside_what_it_delivers(evaluate: Evaluate) -> None:
    found = printed(evaluate(*PAIR, "--json"))
    assert [setting["dial"] for setting in found["dial"]] == list(range(11))
    proofs = 1 - found["models"][0]["quality"]
    assert found["dial"][10]["delivered"] == {"spend": 1.0, "quality": pytest.approx(1 - proofs)}
    assert found["dial"][10]["promised"]["spend"] == pytest.approx(1.0)
    assert found["dial"][0]["delivered"]["quality"] == 1.0
    off = [abs(setting["promised"]["spend"] - setting["delivered"]["spend"]) / 10 for setting in found["dial"]]
    assert found["dial_error"]["spend"] == pytest.approx(np.mean(off))
    off = [abs(setting["promised"]["quality"] - setting["delivered"]["quality"]) for setting in found["dial"]]
    assert found["dial_error"]["quality"] == pytest.approx(np.mean(off))


def test_a_fleet_brings_its_prices_and_what_its_models_are_like(evaluate: Evaluate) -> None:
    options = (
        "data.csv",
        "--fleet",
        "fleet.yaml",
        "--index-size",
        "20",
        "--input-tokens",
        "100",
        "--output-tokens",
        "50",
    )
    found = printed(evaluate(*options, "--json"))
    assert (found["data"]["indexed"], found["data"]["routed"]) == (20, 40)
    assert found["pair"] == {"weak": "small", "strong": "big"}
    assert [model["name"] for model in found["models"]] == ["small", "mine", "big"]
    np.testing.assert_allclose([model["cost"] for model in found["models"]], [0.0002, 0.0006, 0.002])
    text = evaluate(*options).stdout
    assert text.startswith("data.csv: 60 prompts, 20 of them indexed, 40 routed; seed 0; embedder ")
    assert "small  0.0002" in text
    assert "strong, best single" in text
    assert [line.split()[0] for line in text.splitlines() if line.startswith(("vote", *CONTROLS))] == [
        "vote",
        *CONTROLS,
    ]


def test_a_run_is_saved(evaluate: Evaluate, tmp_path: Path) -> None:
    shown = printed(evaluate(*PAIR, "--out", "found", "--json"))
    folder = tmp_path / "found"
    pictures = {f"{name}.{kind}" for name in ("cost-quality", "collapse", "dial") for kind in ("png", "svg")}
    assert {path.name for path in folder.iterdir()} == {
        *pictures,
        *("evaluation.json", "routers.csv", "curves.csv", "dial.csv"),
    }
    assert orjson.loads((folder / "evaluation.json").read_bytes()) == shown
    assert (folder / "collapse.png").read_bytes().startswith(b"\x89PNG")
    assert "</svg>" in (folder / "dial.svg").read_text()
    rows = list(csv.DictReader(io.StringIO((folder / "routers.csv").read_text())))
    assert [row["router"] for row in rows] == ["vote", *CONTROLS]
    assert (float(rows[0]["apgr"]), rows[2]["apgr"]) == (shown["apgr"], "")
    settings = list(csv.DictReader(io.StringIO((folder / "dial.csv").read_text())))
    assert [float(row["delivered_spend"]) for row in settings] == [one["delivered"]["spend"] for one in shown["dial"]]
    first = next(csv.DictReader(io.StringIO((folder / "curves.csv").read_text())))
    assert (first["router"], first["exchange"], first["quality"]) == ("vote", "0.0", "1.0")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    evaluate(*PAIR, "--out", "found")
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_vectors_are_kept(evaluate: Evaluate, vectors_home: Path) -> None:
    first = evaluate(*PAIR, "--json").stdout
    (file,) = (vectors_home / "nearvote" / "vectors").iterdir()
    state = file.stat()
    assert np.load(file, allow_pickle=False).shape == (60, 384)
    assert evaluate(*PAIR, "--json").stdout == first
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == (state.st_mtime_ns, state.st_ino)


def test_two_models_need_no_names_and_prompts_with_unknown_outcomes_are_not_routed(evaluate: Evaluate) -> None:
    rows = [line.split(",") for line in measured().splitlines()]
    lines = [",".join((row[0], row[4], row[2] if number % 5 else "")) for number, row in enumerate(rows[1:])]
    Path("two.csv.gz").write_bytes(gzip.compress("\n".join(["prompt,big,small", *lines, lines[0]]).encode()))
    found = printed(evaluate("two.csv.gz", "--price-ratio", "4", "--index-share", "0.5", "--json"))
    assert found["pair"] == {"weak": "small", "strong": "big"}
    assert [model["cost"] for model in found["models"]] == [1.0, 4.0]
    data = found["data"]
    assert (data["prompts"], data["duplicates"], data["routed"] + data["left_out"]) == (60, 1, 30)
    assert 0 < data["left_out"] < 12


def test_the_evaluation_chooses_as_a_request_is_decided() -> None:
    random = np.random.default_rng(0)
    predicted, cost = random.random((50, 4)), np.sort(random.random(4))
    predicted[random.random((50, 4)) < 0.2] = np.nan
    predicted[:, 3] = 0.5
    for exchange in (0.0, 0.3, 1.0):
        ranked = [dial.rank(row.tolist(), cost.tolist(), 5, exchange, [False] * 4)[0] for row in predicted]
        assert choose(predicted, cost, exchange).tolist() == ranked


def refusal(result: Result) -> str:
    assert (result.exit_code, result.stdout) == (1, "")
    return result.stderr


def test_bad_lines_are_all_told(evaluate: Evaluate) -> None:
    Path("data.csv").write_text("prompt,small,big\na,1,1\nb,2,1\n,1,1\n")
    assert refusal(evaluate(*PAIR)) == (
        "error: 2 line(s) cannot be taken\n  line 3: score of small is outside 0..1: 2\n  line 4: empty prompt\n"
    )
    result = evaluate(*PAIR, "--json")
    assert result.exit_code == 1
    assert orjson.loads(result.stdout)["error"] == {
        "message": "2 line(s) cannot be taken",
        "details": {
            "faults": [
                {"line": 3, "reason": "score of small is outside 0..1: 2"},
                {"line": 4, "reason": "empty prompt"},
            ]
        },
    }


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ("data.csv",),
            "error: this file has 3 models: say which to compare by --weak and --strong, or by --fleet\n",
        ),
        (
            ("data.csv", "--weak", "tiny", "--strong", "big"),
            "error: no column has outcomes of tiny; the columns are small, middle, big\n",
        ),
        ((*PAIR, "--index-size", "59"), "error: 59 of 60 prompts cannot be indexed: one is needed, and two to route\n"),
        (("data.csv", "--fleet", "data.csv"), "error: fleet.yaml: line 1: the file: "),
    ],
)
def test_what_cannot_be_compared_is_told(evaluate: Evaluate, arguments: tuple[str, ...], told: str) -> None:
    assert refusal(evaluate(*arguments)).startswith(told)


@pytest.mark.parametrize(
    "arguments",
    [
        ("no-such-file.csv",),
        ("data.csv", "--weak", "small"),
        (*PAIR, "--fleet", "fleet.yaml"),
        (*PAIR, "--price-ratio", "1"),
        (*PAIR, "--index-share", "1"),
    ],
)
def test_an_evaluation_that_cannot_be_understood_exits_with_2(evaluate: Evaluate, arguments: tuple[str, ...]) -> None:
    assert evaluate(*arguments).exit_code == 2
