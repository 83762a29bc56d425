"""Every part of the quality benchmark, whole, on outcomes that are made up."""

import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import orjson
import pytest

from index.embedder import DIMENSIONS
from index.structure import describe_all
from index.types import Floats
from scripts.evaluation.metrics import BUDGETS
from scripts.evaluation.outcomes import Outcomes
from scripts.evaluation.upload import Prompts
from tests.bench.quality import __main__ as command
from tests.bench.quality import agent_turns, cases, edits, leftout, runs, sessions, signals, transcripts, unseen
from tests.bench.quality.__main__ import Bench
from tests.bench.quality.cases import DOMINATED, MIXTRAL_GPT4, SIX
from tests.bench.quality.report import Part, Table
from tests.bench.quality.sources import GSM8K, MMLU, ZEROEVAL, Sources, joined, read
from tests.tiny import units

OTHER = "a-model-of-no-contest"
PAIRS = (
    "MMLU mixtral→gpt-4",
    "GSM8K mixtral→gpt-4",
    "ZeroEval 4o-mini→o1-mini",
    "ZeroEval haiku→sonnet",
    "ZeroEval llama-8b→4o",
)
FLEETS = ("ZeroEval, six models", "ZeroEval, six and o1-mini")
LEFT_OUT = (
    "ZeroEval without crux",
    "ZeroEval without gsm",
    "ZeroEval without math-l5",
    "MMLU without a fifth of its subjects",
    "MMLU, asked GSM8K",
    "GSM8K, asked MMLU",
)


def made_up(name: str, count: int, tasks: Sequence[str], models: Mapping[str, float]) -> Prompts:
    """Models → what they can do, 0..1; half of a prompt's difficulty is in its vector."""
    chance = np.random.default_rng(len(name))
    places = np.arange(count) % len(tasks)
    difficulty = chance.random(count)
    centers = chance.normal(size=(len(tasks), DIMENSIONS))
    vectors = centers[places] + 0.7 * chance.normal(size=(count, DIMENSIONS))
    vectors[:, 0] += 30 * difficulty
    prompts = tuple(f"{name}: {'long ' * int(9 * hard)}question {row}?" for row, hard in enumerate(difficulty))
    needed = 0.5 * difficulty + 0.5 * chance.random(count)
    return Prompts(
        Outcomes(
            prompts,
            tuple(tasks[int(place)] for place in places),
            tuple(models),
            (np.array(list(models.values())) > needed[:, None]).astype(np.float32),
            0,
        ),
        (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32),
        describe_all(prompts),
        "fingerprint",
    )


@pytest.fixture(scope="module")
def sources() -> Sources:
    two = dict(zip(MIXTRAL_GPT4, (0.4, 0.8), strict=True))
    dearer_is_better = sorted(DOMINATED, key=lambda name: DOMINATED[name].output)
    abilities = np.linspace(0.3, 0.9, len(DOMINATED) + 1).tolist()
    return Sources(
        made_up("mmlu", 300, [f"mmlu:{subject}" for subject in range(7)], two),
        made_up("gsm8k", 260, ["gsm8k"], two),
        made_up(
            "zeroeval", 300, ["gsm", "crux", "math-l5"], dict(zip((*dearer_is_better, OTHER), abilities, strict=True))
        ),
    )


@pytest.fixture(scope="module")
def bench(sources: Sources) -> Iterator[Bench]:
    """The trained controls are hardly trained: how well does not matter here, and takes long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scripts.evaluation.logistic.STEPS", 2)
        yield Bench(sources, 2)


def titles(part: Part) -> list[str]:
    return [table.title for table in part.tables]


def first(table: Table, columns: int) -> list[tuple[object, ...]]:
    return [row[:columns] for row in table.rows]


def test_pairs_are_summed_up_beside_their_mean(bench: Bench) -> None:
    part = bench.part("pairs")
    (table,) = part.tables
    labels = (60, 52, 60, 60, 60)
    assert first(table, 3) == [
        *((name, size, 2) for name, size in zip(PAIRS, labels, strict=True)),
        ("mean of these", None, None),
    ]
    assert {len(row) for row in table.rows} == {len(table.columns)}
    assert [(aim.what, aim.bound) for aim in part.aims] == [
        *((f"{name}: lead over logistic_regression_structure", 0.0) for name in PAIRS),
        ("mean APGR of the pairs", 0.67),
        ("APGR of MMLU mixtral→gpt-4", 0.66),
        ("APGR of GSM8K mixtral→gpt-4", 0.62),
    ]


def test_as_many_labels_as_routellm_had_are_taken_only_where_as_many_prompts_are_left(sources: Sources) -> None:
    large = made_up("large", 3000, ["mmlu"], dict(zip(MIXTRAL_GPT4, (0.4, 0.8), strict=True)))
    found = cases.references(Sources(large, sources.gsm8k, sources.zeroeval), None)
    assert [(case.name, case.indexed, case.seeds) for case in found] == [("MMLU mixtral→gpt-4", 1500, 3)]


def test_fleets_are_told_with_their_savings_and_their_collapse(bench: Bench) -> None:
    part = bench.part("fleets")
    of_each = ("the models", "90 labels, 2 splits", "collapse")
    assert titles(part) == [f"{fleet}: {what}" for fleet in FLEETS for what in of_each]
    models, routers, collapse = part.tables[:3]
    assert sorted(str(row[0]) for row in models.rows) == sorted(SIX)
    assert first(models, 2)[-1] == ("claude-3-5-sonnet-20241022", pytest.approx(12.9))
    assert first(routers, 1) == [
        *(("vote",), ("vote, own outcomes",), ("plain vote",), ("prompt_length",)),
        *(("logistic_regression",), ("logistic_regression_structure",), ("random",), ("oracle",)),
    ]
    assert collapse.columns == ("router", *map(str, BUDGETS))
    assert [aim.bound for aim in part.aims] == [0.36] * 3


def test_the_dial_is_compared_by_the_number_of_labels_and_setting_by_setting(bench: Bench) -> None:
    summed, settings = bench.part("dial").tables
    sizes = [60, 52, 60, 60, 60, 90, 90, 15, 120, 104, 30, 60, 180]
    assert [row[1] for row in summed.rows] == sorted(sizes)
    assert [row[0] for row in settings.rows] == list(range(11))
    assert [(aim.bound, aim.at_least) for aim in bench.part("dial").aims] == [(0.01, False)] * 2


def test_tasks_are_left_out_wholly(sources: Sources, bench: Bench) -> None:
    plans = leftout.plans(sources, 2)
    assert [(plan.name, len(plan.out)) for plan in plans] == list(zip(LEFT_OUT, (2, 2, 2, 5, 2, 2), strict=True))
    for plan in plans:
        tasks = np.array(plan.prompts.outcomes.tasks)
        for out in plan.out:
            assert not set(tasks[out]) & set(np.delete(tasks, out))
    abstention, routing, found, by_case = bench.part("unseen").tables
    assert [row[0] for row in abstention.rows] == list(LEFT_OUT)
    assert first(routing, 2) == [(name, dial) for name in LEFT_OUT for dial in (3, 5, 7)]
    assert {row[0] for row in found.rows} == {row[0] for row in by_case.rows}
    assert by_case.columns == ("signal", *LEFT_OUT)


def test_half_of_what_is_not_left_out_is_indexed_and_the_other_half_is_asked(sources: Sources) -> None:
    (split, _) = leftout.run(leftout.plans(sources, 2)[0]).splits
    asked = len(split.seen.asked.outcomes), len(split.unseen.asked.outcomes)
    assert (split.labels, len(split.structure), *asked) == (100, 100, 100, 100)


def test_a_task_that_is_far_from_the_index_is_told_from_its_own(sources: Sources) -> None:
    (split, _) = leftout.run(leftout.plans(sources, 2)[0]).splits
    _, seen, other = signals.signals(split)["nearest"]
    assert signals.separation(seen, other) > 0.9


def test_confidence_is_told_for_every_case_and_every_task_left_out(bench: Bench) -> None:
    errors, *bins = bench.part("reliability").tables
    assert [row[0] for row in errors.rows] == [*PAIRS, *FLEETS, *(f"left out: {name}" for name in LEFT_OUT)]
    assert [table.title.removeprefix("Reliability, ") for table in bins] == [
        *("all cases together", *FLEETS, "tasks that were left out")
    ]
    assert {len(table.rows) for table in bins} == {10}


def test_every_model_comes_and_goes(sources: Sources) -> None:
    quality, saving, seconds = edits.part(sources, 1).tables
    assert first(quality, 2) == first(saving, 2) == [*((model, edits.LIKE[model]) for model in SIX), ("mean", None)]
    assert quality.columns[2:] == edits.WAYS
    assert [row[0] for row in seconds.rows] == [way for way in edits.WAYS if way != edits.BOTH]


def test_an_index_can_hold_the_outcomes_of_a_contest_alone(sources: Sources) -> None:
    contest = cases.priced(sources.zeroeval, SIX)
    own, narrowed = runs.only_own(sources.zeroeval, contest)
    assert own.outcomes.models == contest.names == narrowed.names
    assert narrowed.columns.tolist() == list(range(6))
    dearest = sources.zeroeval.outcomes.models.index("claude-3-5-sonnet-20241022")
    assert own.outcomes.scores[:, -1].tolist() == sources.zeroeval.outcomes.scores[:, dearest].tolist()


def test_joined_prompts_keep_their_models_apart(sources: Sources) -> None:
    swapped = dict(zip(reversed(MIXTRAL_GPT4), (0.8, 0.4), strict=True))
    other = made_up("other", 3, ["other"], swapped)
    both = joined(sources.mmlu, other)
    assert both.outcomes.models == MIXTRAL_GPT4
    assert both.outcomes.scores[300:].tolist() == other.outcomes.scores[:, ::-1].tolist()
    assert len(both.outcomes) == len(both.vectors) == len(both.structures) == 303


@pytest.fixture
def tiny_data(tmp_path: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NEARVOTE_MODEL_DIR", str(model_dir))
    for name in (MMLU, GSM8K, ZEROEVAL):
        with (tmp_path / name).open("w") as file:
            csv.writer(file).writerows([("prompt", "task", "small", "big"), (f"What is {name}?", "t", 0, 1)])
    return tmp_path


def test_measured_outcomes_are_read_with_their_vectors_and_structure(tiny_data: Path) -> None:
    found = read(tiny_data).gsm8k
    assert found.outcomes.prompts == (f"What is {GSM8K}?",)
    assert found.outcomes.models == ("small", "big")
    assert found.vectors.shape == (1, DIMENSIONS)
    assert found.structures.tolist() == describe_all(found.outcomes.prompts).tolist()


def test_outcomes_that_are_not_there_are_named(
    tiny_data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tiny_data / MMLU).unlink()
    (tiny_data / ZEROEVAL).unlink()
    monkeypatch.setattr(sys, "argv", ["quality", "--data", str(tiny_data)])
    assert command.main() == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == (
        f"error: {tiny_data} has no {MMLU}, {ZEROEVAL}: this benchmark needs measured outcomes, which are not part of"
        " this repository; say by --data where they are\n"
    )


def test_the_command_prints_markdown_and_saves_json(
    sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tests.bench.quality.sources.read", lambda _: sources)
    monkeypatch.setattr(sys, "argv", ["quality", "unseen", "--seeds", "1", "--json", str(tmp_path / "found.json")])
    assert command.main() == 0
    assert capsys.readouterr().out.startswith("## Unseen tasks\n\n### Abstention\n")
    found = orjson.loads((tmp_path / "found.json").read_bytes())
    assert set(found) == {"machine", "unseen"}
    assert [row["tasks left out"] for row in found["unseen"]["tables"][0]["rows"]] == list(LEFT_OUT)


def test_what_is_unfamiliar_goes_to_the_dearest_model(sources: Sources) -> None:
    met = leftout.run(leftout.plans(sources, 1)[0]).splits[0].unseen
    nearest = np.sort(met.similarities[:, 0])
    chosen = np.zeros(len(nearest), np.int64)
    careful = unseen.abstaining(met, float(nearest[10]), chosen)
    assert sorted(careful.tolist()) == [0] * (len(nearest) - 10) + [len(met.asked.cost) - 1] * 10


def test_conversations_are_routed_and_billed_for_every_fleet_and_kind(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.bench.quality.sessions.CONVERSATIONS", 1)
    part = bench.part("sessions")
    kinds = [f"{fleet}, {kind}" for fleet in sessions.FLEETS for kind in sessions.USER_TURNS]
    assert titles(part) == [f"{kind}{what}" for kind in kinds for what in ("", ": equal quality")]
    bills, equal = part.tables[:2]
    assert first(bills, 2)[:4] == [
        ("always the dearest", ""),
        ("always the cheapest", ""),
        (sessions.UNAWARE, "1"),
        (sessions.UNAWARE, "3"),
    ]
    assert [row[0] for row in equal.rows] == [
        *(sessions.MIX, *sessions.ROUTED),
        f"{sessions.AWARE} saves, of '{sessions.UNAWARE}'",
        f"looking ahead saves, of '{sessions.AWARE}'",
    ]


def hashed(texts: Sequence[str]) -> Floats:
    """A vector for each text that is like no other's."""
    return units(np.random.default_rng(1), len(texts), DIMENSIONS)


def test_agents_turns_are_measured_under_every_rule(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.bench.quality.sources.embed_texts", hashed)
    measured, nearness = bench.part("agent-turns").tables
    assert [row[0] for row in measured.rows] == [*PAIRS, "mean of these"]
    assert measured.columns[4:] == nearness.columns[2:] == tuple(agent_turns.RULES)
    assert [row[0] for row in nearness.rows] == list(transcripts.SHAPES)
    assert [row[2] for row in nearness.rows] == [pytest.approx(1.0)] * len(transcripts.SHAPES)
