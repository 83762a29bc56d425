"""Whole tasks left out of the index: what is asked of tasks that it has, and of tasks of which it has no label."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from index.ballot import Ballot, draw_up
from index.types import Floats, Peers, Rows
from scripts.evaluation import upload
from scripts.evaluation.contest import Contest, pair
from scripts.evaluation.upload import Prompts
from tests.bench.quality.cases import MIXTRAL_GPT4, PRICE_RATIO, SIX, priced
from tests.bench.quality.runs import Asked, ask
from tests.bench.quality.sources import Sources, joined

FOLDS = 5
SEEDS = 3
MOST_LABELS = 2800
"""Of the prompts that are not left out, at most half, and at most these, are indexed."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Which rows of the prompts are left out; of the others some are indexed and some are asked."""

    name: str
    prompts: Prompts
    contest: Contest
    out: tuple[Rows, ...]
    """One set of rows a split."""


@dataclass(frozen=True, slots=True)
class Met:
    """q prompts as the index meets them."""

    asked: Asked
    similarities: Floats
    """[q, k], near to far"""
    structure: Floats
    """[q, p]"""


@dataclass(frozen=True, slots=True)
class Absence:
    """One split of a plan."""

    labels: int
    familiar: float
    """As the index has it: the similarity below which it abstains."""
    own: Peers
    structure: Floats
    """[n, p] of the index's examples."""
    seen: Met
    unseen: Met


@dataclass(frozen=True, slots=True)
class Absences:
    name: str
    splits: tuple[Absence, ...]


def plans(sources: Sources, seeds: int | None) -> tuple[Plan, ...]:
    zeroeval, mmlu, both = sources.zeroeval, sources.mmlu, joined(sources.mmlu, sources.gsm8k)
    six, splits = priced(zeroeval, SIX), seeds or SEEDS
    tasks = sorted(set(zeroeval.outcomes.tasks))
    first, second = np.split(np.arange(len(both.outcomes)), [len(mmlu.outcomes)])
    return (
        *(Plan(f"ZeroEval without {task}", zeroeval, six, (_of(zeroeval, [task]),) * splits) for task in tasks),
        Plan("MMLU without a fifth of its subjects", mmlu, _pair(mmlu), tuple(_folds(mmlu))),
        Plan("MMLU, asked GSM8K", both, _pair(both), (second,) * splits),
        Plan("GSM8K, asked MMLU", both, _pair(both), (first,) * splits),
    )


def run(plan: Plan) -> Absences:
    splits = tqdm(plan.out, desc=plan.name, unit="splits", leave=False)
    return Absences(plan.name, tuple(_absence(plan, out, seed) for seed, out in enumerate(splits)))


def _absence(plan: Plan, out: Rows, seed: int) -> Absence:
    others = np.random.default_rng(seed).permutation(np.setdiff1d(np.arange(len(plan.prompts.outcomes)), out))
    labels = min(len(others) // 2, MOST_LABELS)
    snapshot = upload.build(plan.prompts, others[:labels])
    ballot = draw_up(snapshot, plan.contest.candidates)
    if snapshot.peers is None:
        raise ValueError(f"{plan.name}: too few prompts to index")
    seen, unseen = (_meet(plan, ballot, rows) for rows in (others[labels:], out))
    return Absence(labels, snapshot.manifest.params.familiar, snapshot.peers, snapshot.examples.structure, seen, unseen)


def _meet(plan: Plan, ballot: Ballot, rows: Rows) -> Met:
    prompts = plan.prompts
    similarities, _ = ballot.snapshot.search(prompts.vectors[rows], ballot.snapshot.manifest.params.k)
    outcomes = prompts.outcomes.scores[np.ix_(rows, plan.contest.columns)]
    return Met(ask(prompts, ballot, rows, outcomes), similarities, prompts.structures[rows])


def _folds(prompts: Prompts) -> Iterator[Rows]:
    subjects = sorted(set(prompts.outcomes.tasks))
    order = np.random.default_rng(0).permutation(len(subjects))
    for fold in range(min(FOLDS, len(subjects))):
        yield _of(prompts, [subjects[place] for place in order[fold::FOLDS]])


def _of(prompts: Prompts, tasks: Sequence[str]) -> Rows:
    return _rows(place for place, task in enumerate(prompts.outcomes.tasks) if task in tasks)


def _rows(places: Iterable[int]) -> Rows:
    return np.fromiter(places, np.int64)


def _pair(prompts: Prompts) -> Contest:
    return pair(prompts.outcomes, *MIXTRAL_GPT4, PRICE_RATIO)
