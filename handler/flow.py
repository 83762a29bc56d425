"""The frozen values that pass between the stages of a request, in order. Read this first.

bytes → auth → KeyRecord → wire → Ask → decide → Decision → forward → Reply → record
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from index.types import Neighbour

AUTO = ("auto", "nearvote/auto")
"""The model ids that ask for routing; any other names a model."""


class Protocol(enum.Enum):
    """How a caller and a deployment speak with each other."""

    CHAT = "chat"
    """OpenAI's chat completions."""
    MESSAGES = "messages"
    """Anthropic's messages."""
    RESPONSES = "responses"
    """OpenAI's responses."""


class Need(enum.Enum):
    """What a request needs of a model besides text."""

    IMAGES = "images"
    AUDIO = "audio"
    FILES = "files"
    TOOLS = "tools"
    SCHEMA = "schema"
    """An answer that is held to a JSON schema."""


class Turn(enum.Enum):
    """Whose turn a request carries on."""

    USER = "user"
    TOOL_RESULT = "tool_result"
    """A step of an agent's loop: its last message is what a tool gave back."""
    SUBAGENT = "subagent"
    """A call that an agent makes on the side."""


class Cause(enum.Enum):
    """Why a model was chosen."""

    VOTE = "vote"
    NAMED = "named"
    """The client named the model."""
    OPTED_OUT = "opted_out"
    """The client asked for `auto` but switched routing off for this request."""
    RULE = "rule"
    """A rule of the fleet file names the model."""
    ONLY_CANDIDATE = "only_candidate"
    """The restrictions left one model."""
    CONTINUED = "continued"
    """The request goes on with an answer that only this model's provider has."""
    CACHED_PREFIX = "cached_prefix"
    """A vote in which this model won because it has the conversation in its prompt cache."""
    FAILOVER = "failover"
    """The model that was chosen could not answer, and this one is next in the ranking."""
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

    @property
    def may_fall_back(self) -> bool:
        """Whether another model may answer where this one cannot: not where one was asked for."""
        return self not in (Cause.NAMED, Cause.OPTED_OUT, Cause.RULE, Cause.CONTINUED)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the index needs to know of a request."""

    text: str
    """What is embedded; empty when the request has no text."""
    input_tokens: int
    """Estimated from the length of all that is sent."""
    output_tokens: int
    """Expected: a typical answer, or the request's own limit when that is lower."""
    most_output_tokens: int | None = None
    """The request's own limit."""


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
    max_latency_ms: float | None = None
    """Models that are expected to take longer for a typical answer do not stand."""
    speed: float | None = None
    """How much quality, 0..1, ten times the speed is worth."""


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
    protocol: Protocol = Protocol.CHAT
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """As they came, lower-case names."""
    needs: frozenset[Need] = frozenset()
    turn: Turn = Turn.USER
    session: str = ""
    """Tells the conversation that it belongs to from others; "" where there is nothing to tell by."""
    leans_on: str = ""
    """The id of an answer or a conversation that only the provider which has it can go on with."""
    is_sealed: bool = False
    """Whether it holds reasoning that only the provider which wrote it can read or vouch for."""
    is_kept: bool = False
    """Whether the provider keeps the answer, so that later requests may lean on it."""
    writes_cache: bool = False
    """Whether it asks the provider to take its input into the prompt cache."""
    instead_of: str = ""
    """The model that the client named, where its key wants that name routed."""
    adds_usage: bool = False
    """Whether a stream's usage is asked for by nearvote alone, and so not passed on."""

    @property
    def auto(self) -> bool:
        return self.model in AUTO

    @property
    def requested(self) -> str:
        return self.instead_of or self.model

    @property
    def offers_tools(self) -> bool:
        return Need.TOOLS in self.needs


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
    latency_ms: float | None = None
    """Expected until its answer is whole; None while it was never seen to answer."""
    terms: Mapping[str, float] = field(default_factory=dict)
    """What the quality is the sum of, before the fit is kept within its bounds; for evidence."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call upstream that did not lead to the answer."""

    model: str
    host: str
    """Where it went, without path or key."""
    fault: str
    """A status, or the code of our own error."""
    ms: float


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
    """Best first."""
    fallbacks: tuple[str, ...] = ()
    """What answers when the model cannot, in this order; none where the client named the model."""
    attempts: tuple[Attempt, ...] = ()
    """Calls upstream that failed before the one that answered."""
    rule: str = ""
    """Name of the rule that fitted."""
    cached_tokens: int = 0
    """Of the input, those that the chosen model is expected to have in its prompt cache."""
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
    """All of them: fresh, cached and written."""
    output_tokens: int
    cached_tokens: int = 0
    """Read from the provider's prompt cache."""
    written_tokens: int = 0
    """Taken into it."""
    written_1h_tokens: int = 0
    """Taken into it for an hour; not among `written_tokens`."""

    @property
    def fresh_tokens(self) -> int:
        return max(self.input_tokens - self.cached_tokens - self.written_tokens - self.written_1h_tokens, 0)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a request ended, for the record."""

    status: int
    stream: bool
    overhead_ms: float
    """From the request's last byte to the first call upstream."""
    total_ms: float
    usage: Usage | None = None
    cost: float | None = None
    """Dollars by that usage."""
    saved: float | None = None
    """Dollars less than the key's baseline model would have cost; less than 0 where it cost more."""
    error: str = ""
