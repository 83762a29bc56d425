"""One immutable block of examples ↔ bytes: numpy arrays and a JSON table, never pickle."""

import io
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from index.errors import Damaged
from index.structure import NAMES, RECIPE, describe_all
from index.types import Example, Floats, Label, LabelKind, Rows

FORMAT = 2
"""1 had no structure; it is read as before."""

UNREADABLE = (
    *(ValueError, LookupError, TypeError, AttributeError, EOFError, OSError, RuntimeError, MemoryError),
    *(zipfile.BadZipFile, zlib.error),
)
"""What numpy, zipfile and our own reading raise on bytes that are not what they should be."""


@dataclass(frozen=True, slots=True)
class Segment:
    """n examples as columns; m models."""

    ids: tuple[str, ...]
    prompts: tuple[str, ...]
    tasks: tuple[str, ...]
    labels: tuple[Label | None, ...]
    models: tuple[str, ...]
    scores: Floats
    """float32 [n, m]; NaN = unknown."""
    vectors: Floats
    """float32 [n, 384], unit length."""
    structure: Floats
    """float32 [n, p], as structure.describe gives it; NaN where it is not known."""
    sources: tuple[str, ...] = ()
    """By default no example has one."""

    def __post_init__(self) -> None:
        if not self.sources:
            object.__setattr__(self, "sources", ("",) * len(self.ids))

    def __len__(self) -> int:
        return len(self.ids)

    def example(self, row: int) -> Example:
        known = {
            model: round(float(score), 6)
            for model, score in zip(self.models, self.scores[row], strict=True)
            if not np.isnan(score)
        }
        return Example(self.ids[row], self.prompts[row], known, self.labels[row], self.tasks[row], self.sources[row])

    def take(self, rows: Rows) -> "Segment":
        return Segment(
            tuple(self.ids[row] for row in rows),
            tuple(self.prompts[row] for row in rows),
            tuple(self.tasks[row] for row in rows),
            tuple(self.labels[row] for row in rows),
            self.models,
            self.scores[rows],
            self.vectors[rows],
            self.structure[rows],
            tuple(self.sources[row] for row in rows),
        )


def from_examples(examples: Sequence[Example], vectors: Floats, structure: Floats | None = None) -> Segment:
    """`vectors`: float32 [len(examples), 384], in the same order; so is `structure`, by default the prompts' own."""
    models = tuple(sorted({model for example in examples for model in example.scores}))
    column = {model: position for position, model in enumerate(models)}
    scores = np.full((len(examples), len(models)), np.nan, dtype=np.float32)
    for row, example in enumerate(examples):
        for model, score in example.scores.items():
            scores[row, column[model]] = score
    return Segment(
        tuple(example.id for example in examples),
        tuple(example.prompt for example in examples),
        tuple(example.task for example in examples),
        tuple(example.label for example in examples),
        models,
        scores,
        vectors,
        _described([example.prompt for example in examples]) if structure is None else structure,
        tuple(example.source for example in examples),
    )


def merge(parts: Sequence[Segment], dimensions: int) -> Segment:
    """All rows of all parts, in order, over the union of their models."""
    models = tuple(sorted({model for part in parts for model in part.models}))
    return Segment(
        tuple(id for part in parts for id in part.ids),
        tuple(prompt for part in parts for prompt in part.prompts),
        tuple(task for part in parts for task in part.tasks),
        tuple(label for part in parts for label in part.labels),
        models,
        np.concatenate([np.empty((0, len(models)), np.float32), *(_widened(part, models) for part in parts)]),
        np.concatenate([np.empty((0, dimensions), np.float32), *(part.vectors for part in parts)]),
        np.concatenate([np.empty((0, len(NAMES)), np.float32), *(part.structure for part in parts)]),
        tuple(source for part in parts for source in part.sources),
    )


def _widened(part: Segment, models: Sequence[str]) -> Floats:
    wide = np.full((len(part), len(models)), np.nan, dtype=np.float32)
    wide[:, [models.index(model) for model in part.models]] = part.scores
    return wide


def to_bytes(segment: Segment) -> bytes:
    """The same segment always gives the same bytes, so that its hash can be its name."""
    sources = sorted(set(segment.sources))
    table = orjson.dumps(
        {
            "format": FORMAT,
            "ids": segment.ids,
            "prompts": segment.prompts,
            "tasks": segment.tasks,
            "labels": [label and [label.kind.value, label.model] for label in segment.labels],
            "models": segment.models,
            "structure": RECIPE,
            "sources": sources,
            "source": [sources.index(source) for source in segment.sources],
        }
    )
    file = io.BytesIO()
    np.savez(
        file,
        allow_pickle=False,
        table=np.frombuffer(table, dtype=np.uint8),
        scores=segment.scores,
        vectors=segment.vectors,
        structure=segment.structure,
    )
    return file.getvalue()


def from_bytes(data: bytes) -> Segment:
    """Raises Damaged where the bytes are no segment."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            table: dict[str, Any] = orjson.loads(arrays["table"].tobytes())
            segment = Segment(
                tuple(table["ids"]),
                tuple(table["prompts"]),
                tuple(table["tasks"]),
                tuple(label and Label(LabelKind(label[0]), label[1]) for label in table["labels"]),
                tuple(table["models"]),
                arrays["scores"],
                arrays["vectors"],
                arrays["structure"] if table.get("structure") == RECIPE else _described(table["prompts"]),
                tuple(table["sources"][place] for place in table.get("source", ())),
            )
    except UNREADABLE as error:
        raise Damaged(f"a segment cannot be read: {error}") from error
    n = len(segment)
    arrays_fit = segment.scores.shape == (n, len(segment.models)) and segment.vectors.shape[:1] == (n,)
    arrays_fit = arrays_fit and segment.structure.shape == (n, len(NAMES))
    columns = (segment.prompts, segment.tasks, segment.labels, segment.sources)
    if not arrays_fit or any(len(column) != n for column in columns):
        raise Damaged("a segment's columns differ in length")
    return segment


def _described(prompts: Sequence[str]) -> Floats:
    """Of a prompt that was kept out of storage the numbers are lost."""
    structure = describe_all(prompts)
    structure[[not prompt for prompt in prompts]] = np.nan
    return structure
