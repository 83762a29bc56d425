"""The examples that a new index starts with carry signal: each is voted on by the others, with the real embedder."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import index
from index.ballot import draw_up
from index.build import tune
from index.calibration import calibrate
from index.embedder import Embedder
from index.examples import Catalog, Parsed, parse
from index.leave_one_out import leave_one_out
from index.types import TIERS, Candidate, Floats, Rows
from tests.tiny import snapshot_of

STARTER = Path(index.__file__).with_name("starter.jsonl")
FLEET = tuple(Candidate(tier, cost) for tier, cost in zip(TIERS, (1.0, 5.0, 25.0), strict=True))
TASKS = {
    *("chat", "rewriting", "extraction", "classification", "translation", "sql", "code_edit", "debugging", "maths"),
    *("planning", "long_synthesis", "agent_step"),
}


@dataclass(frozen=True)
class Trial:
    """n starter examples."""

    tasks: tuple[str, ...]
    lengths: Floats
    """[n], in characters."""
    outcomes: Floats
    """[n, 3]: 1 where that tier is enough."""
    voted: Floats
    """[n, 3]: what the other examples vote."""
    predicted: Floats
    """[n, 3]: that, calibrated."""


@pytest.fixture(scope="session")
def starter() -> Parsed:
    return parse(STARTER.read_bytes(), Catalog(()), name=STARTER.name)


@pytest.fixture(scope="session")
def trial(starter: Parsed, embedder: Embedder) -> Trial:
    examples = starter.examples
    vectors = embedder.embed_many([example.prompt for example in examples], workers=2)
    params, peers = tune(snapshot_of(examples, vectors))
    ballot = draw_up(snapshot_of(examples, vectors, params), FLEET)
    outcomes = ballot.outcomes
    votes = leave_one_out(ballot.snapshot, outcomes, peers)
    calibrated = calibrate(votes, outcomes.scores, outcomes.ease[:, 0], outcomes.prior)
    assert calibrated is not None
    lengths = np.array([len(example.prompt) for example in examples], np.float32)
    return Trial(tuple(example.task for example in examples), lengths, outcomes.scores, votes.quality, calibrated[1])


def auc(score: Floats, truth: Floats) -> float:
    """The chance that one that is true scores higher than one that is not."""
    margin = score[truth == 1][:, None] - score[truth == 0]
    return float(np.mean((margin > 0) + 0.5 * (margin == 0)))


def cheapest_adequate(quality: Floats) -> Rows:
    """The first tier of [n, 3] that is more likely enough than not; the last where none is."""
    enough = quality >= 0.5
    enough[:, -1] = True
    first: Rows = enough.argmax(axis=1)
    return first


def test_every_line_can_be_taken(starter: Parsed) -> None:
    assert starter.faults == ()
    assert len(starter.examples) >= 500


def test_no_prompt_comes_twice(starter: Parsed) -> None:
    count = Counter(" ".join(example.prompt.split()).casefold() for example in starter.examples)
    assert [prompt for prompt, times in count.items() if times > 1] == []


def test_each_of_the_12_tasks_has_examples_of_every_tier(starter: Parsed) -> None:
    count = Counter((example.task, example.label.model) for example in starter.examples if example.label)
    assert count.keys() == {(task, tier) for task in TASKS for tier in TIERS}
    assert min(count.values()) >= 5


def test_neighbours_tell_when_a_small_model_is_enough(trial: Trial) -> None:
    assert auc(trial.predicted[:, 0], trial.outcomes[:, 0]) >= 0.88


def test_neighbours_tell_when_a_medium_model_is_enough(trial: Trial) -> None:
    assert auc(trial.predicted[:, 1], trial.outcomes[:, 1]) >= 0.94


@pytest.mark.parametrize("tier", [0, 1])
def test_calibrated_they_are_nearer_to_what_was_measured(trial: Trial, tier: int) -> None:
    voted, predicted = (
        float(((quality - trial.outcomes) ** 2)[:, tier].mean()) for quality in (trial.voted, trial.predicted)
    )
    assert predicted < 0.95 * voted


@pytest.mark.parametrize("tier", [0, 1])
def test_neighbours_tell_far_more_than_the_prompt_s_length(trial: Trial, tier: int) -> None:
    by_length = auc(-trial.lengths, trial.outcomes[:, tier])
    assert by_length < 0.75
    assert auc(trial.predicted[:, tier], trial.outcomes[:, tier]) > by_length + 0.15


@pytest.mark.parametrize("task", sorted(TASKS))
def test_within_a_task_neighbours_beat_its_most_common_tier(trial: Trial, task: str) -> None:
    of_task = np.array([name == task for name in trial.tasks])
    truth = cheapest_adequate(trial.outcomes[of_task])
    accuracy = float((cheapest_adequate(trial.predicted[of_task]) == truth).mean())
    assert accuracy > np.bincount(truth).max() / len(truth) + 0.1
