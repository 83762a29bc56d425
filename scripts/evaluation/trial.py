"""One split: an index from the one part, the vote and every control on the other."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from index.ballot import Ballot, draw_up
from index.types import Rows
from scripts.evaluation import controls, upload
from scripts.evaluation.arrays import Numbers
from scripts.evaluation.contest import BadContest, Contest
from scripts.evaluation.dialled import Dialled, dialled
from scripts.evaluation.judge import Judge, Routed
from scripts.evaluation.outcomes import Split
from scripts.evaluation.upload import Prompts

VOTE = "vote"
CONTROLS = (
    "random",
    "best_single",
    "cheapest",
    "oracle",
    "prompt_length",
    "logistic_regression",
    "logistic_regression_structure",
)
CONSTANT = ("random", "best_single", "cheapest")
"""Those of them that do not look at the prompt."""


@dataclass(frozen=True, slots=True)
class Trial:
    seed: int
    indexed: int
    routed: int
    left_out: int
    """Prompts that would be routed, but for an unknown outcome of one of the models."""
    quality: Numbers
    """[m]; each model's mean outcome on the routed prompts."""
    routers: Mapping[str, Routed]
    """The vote and every control, by name."""
    dial: Dialled


@dataclass(frozen=True, slots=True)
class Drawn:
    """One split's ballot, and what it is asked."""

    ballot: Ballot
    rest: Rows
    """[q] rows of the prompts that are routed, the outcomes of all models being known."""
    outcomes: Numbers
    """[q, m]"""


def draw(prompts: Prompts, contest: Contest, split: Split) -> Drawn:
    """Raises BadContest where hardly any prompt has the outcomes of all models."""
    measured = prompts.outcomes.scores[:, contest.columns]
    rest = split.rest[~np.isnan(measured[split.rest]).any(axis=1)]
    if len(rest) < 2:
        raise BadContest(
            f"the outcomes of all {len(contest.names)} models are known for {len(rest)} prompt(s) to route"
        )
    return Drawn(draw_up(upload.build(prompts, split.index), contest.candidates), rest, measured[rest])


def run(prompts: Prompts, contest: Contest, split: Split, seed: int) -> Trial:
    """Raises BadContest, as draw does."""
    return compare(prompts, contest, split, seed, draw(prompts, contest, split))


def compare(prompts: Prompts, contest: Contest, split: Split, seed: int, drawn: Drawn) -> Trial:
    ballot, rest, outcomes = drawn.ballot, drawn.rest, drawn.outcomes
    vote = ballot.predict(prompts.vectors[rest], prompts.structures[rest])
    predictions = {
        VOTE: vote,
        "oracle": outcomes,
        "prompt_length": controls.prompt_length(prompts, rest, len(contest.candidates)),
        "logistic_regression": controls.logistic_regression(prompts, contest, split.index, rest),
        "logistic_regression_structure": controls.logistic_regression_structure(prompts, contest, split.index, rest),
    }
    judge = Judge(outcomes, contest.cost)
    routers = judge.constants() | {name: judge.predicted(predicted) for name, predicted in predictions.items()}
    return Trial(
        seed,
        len(split.index),
        len(rest),
        len(split.rest) - len(rest),
        outcomes.mean(axis=0, dtype=np.float64),
        {name: routers[name] for name in (VOTE, *CONTROLS)},
        dialled(ballot.fit.curve, vote, outcomes, contest.cost),
    )
