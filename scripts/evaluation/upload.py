"""The index that votes, built from measured outcomes as an upload builds it."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from index import segment as segments
from index.directory_store import DirectoryStore
from index.snapshot import Snapshot
from index.types import Example, Floats, Rows
from index.versions import Change, Repository
from scripts.evaluation.outcomes import Outcomes


@dataclass(frozen=True, slots=True)
class Prompts:
    """Everything that a router may look at, for all n prompts."""

    outcomes: Outcomes
    vectors: Floats
    """[n, 384]"""
    structures: Floats
    """[n, p]"""
    fingerprint: str
    """Of the embedder."""


def build(prompts: Prompts, rows: Rows) -> Snapshot:
    """The version that an upload of these rows' outcomes, of all models, makes of an empty index."""
    examples = [_example(prompts.outcomes, int(row)) for row in rows]
    with TemporaryDirectory(prefix="nearvote-evaluate-") as folder:
        added = segments.from_examples(examples, prompts.vectors[rows])
        return Repository(DirectoryStore(Path(folder))).commit(lambda _: Change(added), "evaluate", prompts.fingerprint)


def _example(outcomes: Outcomes, row: int) -> Example:
    known = {
        model: float(score)
        for model, score in zip(outcomes.models, outcomes.scores[row], strict=True)
        if not np.isnan(score)
    }
    prompt = outcomes.prompts[row]
    return Example(f"ex-{hashlib.sha256(prompt.encode()).hexdigest()[:16]}", prompt, known, task=outcomes.tasks[row])
