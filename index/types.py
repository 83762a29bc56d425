"""The vocabulary of the index: frozen, named values. Nothing here does I/O."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float32]
"""float32 of any shape; the docstring of what takes or returns it gives the shape."""

Flags: TypeAlias = NDArray[np.bool_]

Rows: TypeAlias = NDArray[np.int64]
"""Positions of examples in one Snapshot."""

TIERS = ("small", "medium", "large")
"""Names that stand for kinds of model, cheapest first. A fleet's model takes part through `like: small`."""


class LabelKind(enum.Enum):
    """How a short label is meant."""

    CHEAPEST = "model"
    """The cheapest model that does it well: every dearer one does too, every cheaper one does not."""
    ONLY = "only"
    """This intent belongs to one model, whatever it costs: all others, also later ones, score 0."""


@dataclass(frozen=True, slots=True)
class Label:
    """The short label as its author wrote it."""

    kind: LabelKind
    model: str


@dataclass(frozen=True, slots=True)
class Example:
    """One prompt with its measured outcomes."""

    id: str
    prompt: str
    """Empty where it was kept out of storage: its vector and structure are enough to vote."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """Model → score 0..1. A model that is absent is unknown, which is never counted as 0."""
    label: Label | None = None
    task: str = ""
    source: str = ""
    """The set that a starter example comes from; uploads have none."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model as the index sees it: whose outcomes it has, and what a typical request costs on it."""

    name: str
    cost: float
    """Expected dollars for one typical request; orders models from cheap to dear."""
    like: str | None = None
    """The model or tier whose outcomes it borrows where it has none of its own."""


@dataclass(frozen=True, slots=True)
class VoteParams:
    """What the vote needs besides the neighbours; kept in the manifest, not tuned by users."""

    k: int = 100
    beta: float = 10.0
    kappa: float = 1.0
    familiar: float = 0.0
    """Nearest similarity below which a prompt is unlike anything in this index."""


@dataclass(frozen=True, slots=True)
class Peers:
    """For r examples of a version, the others nearest to each. A search over the whole index, so a version keeps it:
    tuning, calibration and the dial's curve are computed from it, leave-one-out."""

    rows: Rows
    """[r] of the version's snapshot"""
    voters: Rows
    """[r, k] rows of the nearest others, near to far."""
    similarities: Floats
    """[r, k]"""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An example that voted, for evidence."""

    id: str
    similarity: float
    weight: float
    prompt: str
    scores: Mapping[str, float]
    source: str = ""


@dataclass(frozen=True, slots=True)
class Vote:
    """What the neighbours predict. Arrays have one entry a candidate, in the ballot's order."""

    quality: Floats
    """Predicted score 0..1; NaN for a model of which nothing is known."""
    plain: Floats
    """What the neighbours alone say, before it is calibrated."""
    support: Floats
    """Σ of the weights of neighbours whose outcome is known; 0 = only the prior spoke."""
    nearest: float
    """Cosine similarity of the nearest example; of centered vectors, where a snapshot centers them."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One line of an upload that could not be taken."""

    line: int
    reason: str

    def as_json(self) -> dict[str, Any]:
        return {"line": self.line, "reason": self.reason}
