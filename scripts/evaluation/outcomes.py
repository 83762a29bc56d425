"""Measured outcomes: a CSV file → arrays, and the split into what is indexed and what is routed."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from index.errors import BadUpload
from index.types import Fault, Floats, Rows
from index.upload import Row, rows, unpack

LABELS = ("model", "only")
"""Columns of an upload that say less than a measured outcome does."""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """n different prompts, m models."""

    prompts: tuple[str, ...]
    tasks: tuple[str, ...]
    models: tuple[str, ...]
    scores: Floats
    """[n, m], 0..1; NaN = unknown."""
    duplicates: int
    """Lines that were left out because a later line has the same prompt."""

    def __len__(self) -> int:
        return len(self.prompts)


@dataclass(frozen=True, slots=True)
class Split:
    """Rows of Outcomes: the labelled examples of the index, and the requests that are routed."""

    index: Rows
    rest: Rows


def parse(data: bytes) -> Outcomes:
    """Read CSV, gzipped or not: `prompt`, optionally `task` and `id`, and a column a model; an empty cell is
    unknown. Of lines with the same prompt the last counts. Raises BadUpload, naming every line that cannot be
    taken."""
    models: list[str] = []
    taken = [_checked(row) for row in rows(unpack(data), "data.csv", models.append)]
    faults = [fault for fault in taken if isinstance(fault, Fault)]
    good = [row for row in taken if isinstance(row, Row)]
    if faults or not good:
        raise BadUpload(faults or [Fault(1, "no outcomes")])
    last = {str(row.fields["prompt"]): row for row in good}
    return Outcomes(
        tuple(last),
        tuple(str(row.fields.get("task", "")) for row in last.values()),
        tuple(models),
        np.array([[_given(row).get(model, np.nan) for model in models] for row in last.values()], np.float32),
        len(good) - len(last),
    )


def split(count: int, seed: int, indexed: int) -> Split:
    """`indexed` of `count` rows, at random but the same for the same seed; the others are routed."""
    order = np.random.default_rng(seed).permutation(count)
    return Split(order[:indexed], order[indexed:])


def _checked(row: Row | Fault) -> Row | Fault:
    if isinstance(row, Fault):
        return row
    reason = _objection(row.fields, _given(row))
    return row if reason is None else Fault(row.line, reason)


def _objection(fields: Mapping[str, object], scores: Mapping[str, object]) -> str | None:
    if "prompt" not in fields:
        return "empty prompt"
    for label in LABELS:
        if label in fields:
            return f"a {label!r} label is no measured outcome: give each model a column of scores"
    if not scores:
        return "no outcome: every model's cell is empty"
    return next((reason for model, score in scores.items() if (reason := _score_objection(model, score))), None)


def _score_objection(model: str, score: object) -> str | None:
    if not isinstance(score, float) or score != score:
        return f"score of {model} is not a number: {str(score)[:80]!r}"
    return None if 0 <= score <= 1 else f"score of {model} is outside 0..1: {score:g}"


def _given(row: Row) -> Mapping[str, object]:
    scores = row.fields.get("scores", {})
    return scores if isinstance(scores, dict) else {}
