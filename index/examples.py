"""Uploads → examples. Pure; every line that cannot be taken is named by its number."""

import difflib
import hashlib
import re
from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from index.errors import BadUpload
from index.types import TIERS, Candidate, Example, Fault, Label, LabelKind
from index.upload import FIELDS, Row, count_lines, rows, unpack

MAX_UPLOAD_BYTES = 128 * 2**20
"""As sent, that is before gzip is unpacked."""
MAX_PROMPT_CHARS = 1_000_000
MAX_TASK_CHARS = 64

_OUTCOMES = ("model", "only", "scores")
_ALLOWED = (*FIELDS, "scores")
_ID = re.compile(r"(?!\.{1,2}$)[^\s/\\\x00-\x1f\x7f-\x9f]{1,128}")
_SHOWN_CHARS = 80
_MAX_HINTS = 100


@dataclass(frozen=True)
class Catalog:
    """What a model's name may be, and what a short label says of the other models."""

    candidates: tuple[Candidate, ...]
    others: frozenset[str] = frozenset()
    """Models that are no candidates, but whose outcomes the index already has."""

    @cached_property
    def names(self) -> frozenset[str]:
        """Every name that an example may use."""
        likes = {candidate.like for candidate in self.candidates if candidate.like is not None}
        return self.others | likes | set(TIERS) | {candidate.name for candidate in self.candidates}

    def objection(self, name: str, hint: bool = True) -> str | None:
        """Why `name` cannot be used, if a `hint` is wanted with the closest one that can; None: it can."""
        if name in self.names:
            return None
        closest = difflib.get_close_matches(name[:_SHOWN_CHARS], sorted(self.names), n=1) if hint else []
        meant = f"; did you mean {closest[0]!r}?" if closest else ""
        return f"names an unknown model {_shown(name)}{meant}"

    def expand(self, label: Label) -> dict[str, float]:
        """The scores that a label stands for. `only` gives none: it also speaks of models that come later,
        so it stays a label. Where the labelled model's price is not known, nothing is said of others."""
        if label.kind is LabelKind.ONLY:
            return {}
        costs = {candidate.name: candidate.cost for candidate in self.candidates}
        if label.model not in costs:
            costs = {tier: float(rank) for rank, tier in enumerate(TIERS)}
        least = costs.get(label.model)
        if least is None:
            return {label.model: 1.0}
        return {name: float(cost >= least) for name, cost in costs.items()}


@dataclass(frozen=True, slots=True)
class Parsed:
    """All of an upload: what can be taken, and what cannot."""

    examples: tuple[Example, ...]
    faults: tuple[Fault, ...]
    lines: int
    """Physical lines, blank ones too."""


def parse(data: bytes, catalog: Catalog, taken: Container[str] = frozenset(), name: str = "") -> Parsed:
    """Read JSON lines or CSV, gzipped or not. `taken`: ids that the index already has; `name`: the file's, if
    known. Raises BadUpload only for an upload that is too large or cannot be unpacked."""
    if len(data) > MAX_UPLOAD_BYTES:
        raise BadUpload([Fault(0, f"{len(data):,} bytes; at most {MAX_UPLOAD_BYTES:,} can be sent at once")])
    text = unpack(data)
    checker = _Checker(catalog, taken)
    examples: list[Example] = []
    faults: list[Fault] = []
    for row in rows(text, name, checker.objection):
        result = checker.check(row) if isinstance(row, Row) else row
        if isinstance(result, Fault):
            faults.append(result)
        else:
            examples.append(result)
    return Parsed(tuple(examples), tuple(faults), count_lines(text))


def relabelled(example: Example, outcome: Mapping[str, object], catalog: Catalog) -> Example:
    """The example with other outcomes: `{"model": X}`, `{"only": X}` or `{"scores": {…}}`. Raises BadUpload."""
    try:
        _check_names(outcome)
        scores, label = _Checker(catalog, frozenset()).outcome(outcome)
    except _RefusedError as refusal:
        raise BadUpload([Fault(1, str(refusal))]) from refusal
    return replace(example, scores=scores, label=label)


class _RefusedError(Exception):
    """Why a row is no example."""


@dataclass(frozen=True)
class _Checker:
    """Turns the rows of one upload into examples."""

    catalog: Catalog
    taken: Container[str]
    first_lines: dict[str, int] = field(default_factory=dict)
    """Id → the line that brought it."""
    objections: dict[str, str | None] = field(default_factory=dict)
    """Of the first unknown names: finding the closest known one is slow, so not done twice, nor for all."""

    def check(self, row: Row) -> Example | Fault:
        try:
            example = self._example(row.fields)
            self._check_new(example.id)
        except _RefusedError as refusal:
            return Fault(row.line, str(refusal))
        self.first_lines[example.id] = row.line
        return example

    def objection(self, model: str) -> str | None:
        if model in self.catalog.names:
            return None
        if model not in self.objections and len(self.objections) < _MAX_HINTS:
            self.objections[model] = self.catalog.objection(model)
        return self.objections.get(model) or self.catalog.objection(model, hint=False)

    def _example(self, fields: Mapping[str, object]) -> Example:
        _check_names(fields)
        prompt = _prompt(fields)
        example_id = _id(fields, prompt)
        task = _task(fields)
        scores, label = self.outcome(fields)
        return Example(example_id, prompt, scores, label, task)

    def outcome(self, fields: Mapping[str, object]) -> tuple[dict[str, float], Label | None]:
        outcomes = [name for name in _OUTCOMES if name in fields]
        if not outcomes:
            raise _RefusedError("no outcome: give one of model, only, scores")
        if len(outcomes) > 1:
            raise _RefusedError(f"{' and '.join(outcomes)} together: give only one of them")
        if "scores" in fields:
            return self._scores(fields["scores"]), None
        label = self._label(LabelKind(outcomes[0]), fields[outcomes[0]])
        return self.catalog.expand(label), label

    def _label(self, kind: LabelKind, model: object) -> Label:
        if not isinstance(model, str):
            raise _RefusedError(f"{kind.value} has to be a model's name")
        self._check_model(model, kind.value)
        return Label(kind, model)

    def _scores(self, scores: object) -> dict[str, float]:
        if not isinstance(scores, dict):
            raise _RefusedError("scores has to be an object: model → number from 0 to 1")
        if not scores:
            raise _RefusedError("no outcome: scores is empty")
        for model in scores:
            self._check_model(model, "scores")
        return {model: _score(model, score) for model, score in scores.items()}

    def _check_model(self, model: str, where: str) -> None:
        if reason := self.objection(model):
            raise _RefusedError(f"{where} {reason}")

    def _check_new(self, example_id: str) -> None:
        if example_id in self.first_lines:
            raise _RefusedError(f"duplicate id {example_id!r}, first on line {self.first_lines[example_id]}")
        if example_id in self.taken:
            raise _RefusedError(f"id {example_id!r} is already in the index")


def _shown(value: object) -> str:
    text = repr(value) if isinstance(value, str | int | float) else type(value).__name__
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"


def _check_names(fields: Mapping[str, object]) -> None:
    unknown = [name for name in fields if name not in _ALLOWED]
    if unknown:
        raise _RefusedError(f"unknown field {', '.join(_shown(name) for name in unknown[:5])}")


def _prompt(fields: Mapping[str, object]) -> str:
    if "prompt" not in fields:
        raise _RefusedError("no prompt")
    prompt = fields["prompt"]
    if not isinstance(prompt, str):
        raise _RefusedError("prompt has to be a string")
    if not prompt.strip():
        raise _RefusedError("empty prompt")
    if len(prompt) > MAX_PROMPT_CHARS:
        raise _RefusedError(f"over-long prompt: {len(prompt):,} characters, at most {MAX_PROMPT_CHARS:,}")
    return prompt


def _id(fields: Mapping[str, object], prompt: str) -> str:
    if "id" not in fields:
        return f"ex-{hashlib.sha256(prompt.encode()).hexdigest()[:16]}"
    given = fields["id"]
    if not isinstance(given, str) or not _ID.fullmatch(given):
        raise _RefusedError(
            f"id {_shown(given)} has to be 1 to 128 characters without spaces, slashes or control characters"
        )
    return given


def _task(fields: Mapping[str, object]) -> str:
    task = fields.get("task", "")
    if not isinstance(task, str) or len(task) > MAX_TASK_CHARS or not task.isprintable():
        raise _RefusedError(f"task {_shown(task)} has to be a string of at most {MAX_TASK_CHARS} printable characters")
    return task


def _score(model: str, score: object) -> float:
    if isinstance(score, bool) or not isinstance(score, int | float) or score != score:
        raise _RefusedError(f"score of {model} is not a number: {_shown(score)}")
    if not 0 <= score <= 1:
        raise _RefusedError(f"score of {model} is outside 0..1: {_shown(score)}")
    return float(score)
