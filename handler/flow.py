"""The frozen values that pass between the stages of a request, in order. Read this first.

bytes → auth → KeyRecord → wire → Ask → decide → Decision → forward → the upstream's answer → record
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from index.types import Neighbour

AUTO = ("auto", "nearvote/auto")
"""The model ids that ask for routing; any other names a model."""


class Cause(enum.Enum):
    """Why a model was chosen."""

    VOTE = "vote"
    NAMED = "named"
    """The client named the model."""
    OPTED_OUT = "opted_out"
    """The client asked for `auto` but switched routing off for this request."""
    ONLY_CANDIDATE = "only_candidate"
    """The restrictions left one model."""
    UNFAMILIAR = "unfamiliar"
    """Nothing in the index is near enough to vote."""
    NO_INDEX = "no_index"
    """There is no index that can be read, it is empty, it knows none of the models, or it has no curve to read a floor
    or a ceiling from."""
    NO_TEXT = "no_text"
    """The request has no text to embed."""
    EMBEDDER_FAULT = "embedder_fault"
    BUSY = "busy"
    """More prompts wait for the embedder than are worth waiting for."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the index needs to know of a request."""

    text: str
    """What is embedded; empty when the request has no text."""
    input_tokens: int
    """Estimated from the length of all that is sent."""
    output_tokens: int
    """Expected: a typical answer, or the request's own limit when that is lower."""


@dataclass(frozen=True, slots=True)
class Preferences:
    """What one request may say about its routing; None and () mean: as the key says. At most one of the first three
    is given."""

    dial: float | None = None
    min_quality: float | None = None
    """0..1: as cheap as the dial's curve allows while it promises this quality."""
    max_cost: float | None = None
    """Dollars for a typical request: as good as the curve allows while it promises to spend no more."""
    allow: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    """Exact names to choose among."""
    routing_off: bool = False
    full_evidence: bool = False


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, read."""

    model: str
    stream: bool
    prompt: Prompt
    preferences: Preferences
    body: Mapping[str, Any]
    """What goes upstream, but for `model`: nearvote's own fields are taken out, all else is as it came."""
    raw: bytes | None = None
    """The bytes that came, where they can go upstream as they are if the model keeps its name."""

    @property
    def auto(self) -> bool:
        return self.model in AUTO


@dataclass(frozen=True, slots=True)
class Ranked:
    """One candidate as the dial saw it."""

    model: str
    quality: float
    """Predicted, 0..1."""
    vote: float
    """What the neighbours alone say, before it is calibrated."""
    support: float
    cost: float
    """Expected dollars for this request."""
    terms: Mapping[str, float] = field(default_factory=dict)
    """What the quality is the sum of, before the fit is kept within its bounds; for evidence."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Which model, and why. There always is one: failing to decide never fails a request."""

    id: str
    model: str
    cause: Cause
    requested: str
    cost: float
    """Expected dollars."""
    confidence: float | None = None
    """The predicted quality of the chosen model, where there was a vote."""
    dial: float | None = None
    promised_quality: float | None = None
    """What the curve promises at this dial, where the request named a floor or a ceiling and restricted nothing."""
    promised_spend: float | None = None
    """The same in dollars for a typical request."""
    nearest: float | None = None
    """Similarity of the nearest example."""
    ranking: tuple[Ranked, ...] = ()
    """Best first; those behind the chosen one are its fallbacks."""
    neighbours: tuple[Neighbour, ...] = ()
    index_version: str = ""
    fleet_version: str = ""
    fingerprint: str = ""
    detail: str = ""
    """What stood in the way of a vote, for people; the cause is for programs."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the upstream counted them."""

    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a request ended, for the record."""

    status: int
    stream: bool
    overhead_ms: float
    """From the request's last byte to the call upstream."""
    total_ms: float
    usage: Usage | None = None
    cost: float | None = None
    """Dollars by that usage."""
    error: str = ""
