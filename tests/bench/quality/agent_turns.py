"""What to embed of an agent's request: APGR of the vote under several rules, on transcripts around measured prompts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

import numpy as np

from handler.wire import messages
from handler.wire.conversation import said, text_of
from index.structure import describe_all
from index.types import Floats, Rows
from scripts.evaluation import metrics, trial
from scripts.evaluation.outcomes import split
from scripts.evaluation.upload import Prompts
from tests.bench.quality.cases import Case
from tests.bench.quality.report import Aim, Cell, Part, Table, over
from tests.bench.quality.transcripts import SHAPES, SYSTEM, Talk, Turn, body

ASKED = 600
"""Prompts of a file that are made into transcripts; those that are not in a split's index are asked."""
SEED = 7
NOISE = 0.01
"""APGR by which the product's rule may lie behind another."""

Embed: TypeAlias = Callable[[Sequence[str]], Floats]
Rule: TypeAlias = Callable[[str, Sequence[Turn]], str]
"""The task and the turns of a request → what is embedded."""


def _product(_: str, turns: Sequence[Turn]) -> str:
    return messages.read(body(turns), {}).prompt.text


def _spoken(turns: Sequence[Turn]) -> list[str]:
    return [text for turn in turns if turn["role"] == "user" and (text := said(turn))]


def _last(_: str, turns: Sequence[Turn]) -> str:
    return text_of(turns[-1]["content"])


def _everything(_: str, turns: Sequence[Turn]) -> str:
    return "\n".join([SYSTEM, *(text_of(turn["content"]) for turn in turns)])


TASK, PRODUCT = "task alone", "as it is"
RULES: Mapping[str, Rule] = {
    TASK: lambda task, _: task,
    PRODUCT: _product,
    "last user turn": lambda _, turns: _spoken(turns)[-1],
    "last two user turns": lambda _, turns: "\n".join(_spoken(turns)[-2:]),
    "last message": _last,
    "as it is + last message": lambda task, turns: f"{_product(task, turns)}\n{_last(task, turns)}",
    "everything": _everything,
    "first user turn": lambda _, turns: said(turns[0]),
}
"""Long texts are cut to head and tail by the embedder. The first knows what no router does: where the task is."""
COLUMNS = ("pair", "labels", "asked", "splits", *RULES)
NOTE = (
    "APGR ± standard error over splits of the index; each prompt is asked as one transcript. 'as it is' is the"
    " product's text_to_embed; 'task alone' is the prompt without its transcript, as a bound."
)
SIMILARITY = "Mean cosine between what is embedded and the task alone, by what the request ends in; all files together"


@dataclass(frozen=True, slots=True)
class Asked:
    """q prompts of one file, each in a transcript."""

    rows: Rows
    """[q]"""
    shapes: tuple[str, ...]
    vectors: Mapping[str, Floats]
    """Rule → [q, 384]"""
    structures: Mapping[str, Floats]


def part(pairs: Sequence[Case], embed: Embed) -> Part:
    files = {id(case.prompts): case.prompts for case in pairs}
    asked = {file: transcribe(prompts, embed) for file, prompts in files.items()}
    found = [(case, asked[id(case.prompts)]) for case in pairs]
    measured = [apgr(case, one) for case, one in found]
    rows: list[tuple[Cell, ...]] = [
        (case.name, case.indexed, len(one.rows), case.seeds, *(over(each[rule]) for rule in RULES))
        for (case, one), each in zip(found, measured, strict=True)
    ]
    means = {rule: float(np.mean([np.mean(each[rule]) for each in measured])) for rule in RULES}
    table = Table("APGR", COLUMNS, (*rows, ("mean of these", None, None, None, *means.values())), NOTE)
    best = max(mean for rule, mean in means.items() if rule not in (TASK, PRODUCT))
    aim = Aim("mean APGR of the product's rule behind the best other", best - means[PRODUCT], NOISE, at_least=False)
    return Part("Agents' turns", (table, _similarity([*asked.values()])), (aim,))


def transcribe(prompts: Prompts, embed: Embed) -> Asked:
    """The first ASKED prompts of a shuffle, and what each rule embeds of each."""
    texts = prompts.outcomes.prompts
    rows = np.random.default_rng(SEED).permutation(len(texts))[:ASKED]
    shapes = tuple(list(SHAPES)[place % len(SHAPES)] for place in range(len(rows)))
    turns = [
        SHAPES[shape](texts[row], Talk(Random(f"{SEED}:{row}"), texts)) for row, shape in zip(rows, shapes, strict=True)
    ]
    embedded = {
        name: [rule(texts[row], one) for row, one in zip(rows, turns, strict=True)] for name, rule in RULES.items()
    }
    return Asked(
        rows,
        shapes,
        {name: _vectors(prompts, each, embed) for name, each in embedded.items()},
        {name: describe_all(each) for name, each in embedded.items()},
    )


def apgr(case: Case, asked: Asked) -> dict[str, list[float]]:
    """Rule → one a split."""
    splits = [_split(case, asked, seed) for seed in range(case.seeds)]
    return {rule: [one[rule] for one in splits] for rule in RULES}


def _split(case: Case, asked: Asked, seed: int) -> dict[str, float]:
    parts = split(len(case.prompts.outcomes), seed, case.indexed)
    ballot = trial.draw(case.prompts, case.contest, parts).ballot
    outcomes = case.prompts.outcomes.scores[:, case.contest.columns]
    new = ~np.isin(asked.rows, parts.index) & ~np.isnan(outcomes[asked.rows]).any(axis=1)
    weak, strong = outcomes[asked.rows[new]].T

    def measure(rule: str) -> float:
        predicted = ballot.predict(asked.vectors[rule][new], asked.structures[rule][new])
        found = metrics.apgr(metrics.calls(predicted[:, -1] - predicted[:, 0], weak, strong))
        return np.nan if found is None else found

    return {rule: measure(rule) for rule in RULES}


def _vectors(prompts: Prompts, texts: Sequence[str], embed: Embed) -> Floats:
    """[len(texts), 384]; of prompts as they are there are vectors already."""
    known = dict(zip(prompts.outcomes.prompts, prompts.vectors, strict=True))
    new = sorted(set(texts) - set(known))
    vectors = {**known, **dict(zip(new, embed(new), strict=True))}
    return np.array([vectors[text] for text in texts])


def _similarity(files: Sequence[Asked]) -> Table:
    shapes = np.array([shape for one in files for shape in one.shapes])
    task = np.concatenate([one.vectors[TASK] for one in files])
    cosines = {rule: (np.concatenate([one.vectors[rule] for one in files]) * task).sum(axis=1) for rule in RULES}
    rows: list[tuple[Cell, ...]] = [
        (shape, int((shapes == shape).sum()), *(float(each[shapes == shape].mean()) for each in cosines.values()))
        for shape in SHAPES
    ]
    return Table("Nearness to the task", ("ends in", "transcripts", *RULES), tuple(rows), SIMILARITY)
