"""The fleet file: the models that can be chosen, what they can do and cost, where they are served, and rules."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from handler import catalogue
from handler.flow import AUTO, Need, Protocol, Usage
from handler.rules import Rule
from handler.yaml_lines import line_of
from index.store import ObjectStore
from index.types import Candidate, Fault

KEY = "fleet.yaml"
"""Its place in the object store."""
TYPICAL_INPUT_TOKENS = 300
TYPICAL_OUTPUT_TOKENS = 500
TYPICAL = Usage(TYPICAL_INPUT_TOKENS, TYPICAL_OUTPUT_TOKENS)
PER = 1_000_000
"""Prices are dollars for this many tokens."""

OURS = ("NEARVOTE_", "AWS_")
"""What no provider is to be sent: whoever may write the fleet file may not read these."""

_REFERENCE = re.compile(r"\$\{([A-Z_][A-Z0-9_]*)\}")
ModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}$")]
Tokens = Annotated[int, Field(gt=0)]
Dollars = Annotated[float, Field(ge=0)]


class BadFleet(Exception):
    """The fleet file cannot be used; the text says where and why."""

    def __init__(self, text: str, faults: Sequence[Fault] = ()) -> None:
        super().__init__(text)
        self.faults = tuple(faults)
        """The complaints, each with its line, where they are of single lines."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Price(_Strict):
    """Dollars per million tokens. Tokens that a provider's prompt cache has, or takes in, cost what other input does
    where nothing else is said."""

    input: Dollars
    output: Dollars
    cached_input: Dollars | None = None
    cache_write: Dollars | None = None
    cache_write_1h: Dollars | None = None
    """Of what is to be kept for an hour; default: as `cache_write`."""

    def of(self, usage: Usage) -> float:
        """Dollars."""
        write = self.input if self.cache_write is None else self.cache_write
        write_1h = write if self.cache_write_1h is None else self.cache_write_1h
        cached = self.input if self.cached_input is None else self.cached_input
        return (
            usage.fresh_tokens * self.input
            + usage.cached_tokens * cached
            + usage.written_tokens * write
            + usage.written_1h_tokens * write_1h
            + usage.output_tokens * self.output
        ) / PER


class Deployment(_Strict):
    """One place that serves a model. `${NAME}` in a value is read from the credentials when it is called."""

    base_url: str
    api_key: str = ""
    model: str = ""
    """The model's id there; default: its name in the fleet."""
    weight: float = Field(default=1.0, gt=0)
    protocols: tuple[Protocol, ...] = Field(default=(Protocol.CHAT,), min_length=1)
    """What it speaks."""
    stream_usage: bool = True
    """Whether it knows `stream_options`, by which a stream's usage is asked for."""

    @field_validator("base_url", "api_key")
    @classmethod
    def _no_secret_of_ours(cls, value: str) -> str:
        ours = [name for name in _REFERENCE.findall(value) if name.startswith(OURS)]
        if ours:
            raise ValueError(f"${{{ours[0]}}} is nearvote's own or AWS's, and not for a provider")
        return value


class Model(_Strict):
    name: ModelName
    price: Price
    deployments: tuple[Deployment, ...] = Field(min_length=1)
    like: str | None = None
    """The model or tier whose outcomes it borrows until it has its own."""
    catalogue: str | None = None
    """Its `provider/model` in the catalogue, where its name does not tell; "" for none."""
    effort: str | None = None
    """The reasoning effort that it is called with, where the request names none: one model at two efforts is two
    choices."""
    context: Tokens | None = None
    """Tokens that a request and its answer may have together. What is not known restricts nothing."""
    max_output: Tokens | None = None
    cache_seconds: float = Field(default=300.0, ge=0)
    """How long its provider keeps a conversation in the prompt cache."""
    images: bool | None = None
    audio: bool | None = None
    files: bool | None = None
    tools: bool | None = None
    schema_: bool | None = Field(default=None, alias="schema")
    """Whether an answer can be held to a JSON schema."""

    @field_validator("name")
    @classmethod
    def _not_auto(cls, name: str) -> str:
        if name in AUTO:
            raise ValueError(f"{name!r} asks for routing and cannot be a model's name")
        return name

    @cached_property
    def lacks(self) -> frozenset[Need]:
        """What it is known not to do."""
        able = {
            Need.IMAGES: self.images,
            Need.AUDIO: self.audio,
            Need.FILES: self.files,
            Need.TOOLS: self.tools,
            Need.SCHEMA: self.schema_,
        }
        return frozenset(need for need, can in able.items() if can is False)

    @cached_property
    def protocols(self) -> frozenset[Protocol]:
        """That at least one deployment speaks."""
        return frozenset(protocol for one in self.deployments for protocol in one.protocols)

    def serving(self, protocol: Protocol) -> tuple[Deployment, ...]:
        return tuple(one for one in self.deployments if protocol in one.protocols)


class Fleet(_Strict):
    models: tuple[Model, ...] = Field(min_length=1)
    default: str = ""
    """What answers when there is no vote and the key names nothing; default: the dearest."""
    rules: tuple[Rule, ...] = ()
    """Looked through in their order before the vote; the first that fits counts."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [model.name for model in self.models]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"listed twice: {', '.join(twice)}")
        if self.default and self.default not in names:
            raise ValueError(f"default: {self.default!r} is not among the models")
        unknown = [rule for rule in self.rules if rule.model is not None and rule.model not in names]
        if unknown:
            raise ValueError(f"rule {unknown[0].name!r}: {unknown[0].model!r} is not among the models")
        return self

    @cached_property
    def by_name(self) -> Mapping[str, Model]:
        return {model.name: model for model in self.models}

    @cached_property
    def candidates(self) -> tuple[Candidate, ...]:
        return tuple(Candidate(model.name, model.price.of(TYPICAL), model.like) for model in self.models)

    @cached_property
    def references(self) -> tuple[str, ...]:
        """What the deployments read from the credentials."""
        texts = [text for model in self.models for one in model.deployments for text in (one.base_url, one.api_key)]
        return tuple(dict.fromkeys(name for text in texts for name in _REFERENCE.findall(text)))

    @cached_property
    def dearest_first(self) -> tuple[str, ...]:
        return tuple(one.name for one in sorted(self.candidates, key=lambda one: -one.cost))


@dataclass(frozen=True, slots=True)
class FleetFile:
    """A fleet and the hash of the text it was read from."""

    fleet: Fleet
    version: str
    defaulted: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Model → its fields that the file left to the catalogue."""
    catalogue_date: str = ""
    """Of the catalogue, where something was left to it."""


def parse(data: bytes) -> FleetFile:
    """Raises BadFleet, which names each complaint's line."""
    try:
        root = yaml.compose(data, Loader=yaml.SafeLoader)
        written = yaml.safe_load(data)
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError) as error:
        raise BadFleet(f"{KEY} is not YAML: {error}", _not_yaml(error)) from error
    defaults = _defaults(written)
    try:
        fleet = Fleet.model_validate(_filled(written, defaults))
    except ValidationError as error:
        faults = _complaints(error, root)
        told = "; ".join(f"line {fault.line}: {fault.reason}" for fault in faults)
        raise BadFleet(f"{KEY}: {told}", faults) from error
    defaulted = {model.name: tuple(found) for model, found in zip(fleet.models, defaults, strict=True) if found}
    date = catalogue.load().date if defaulted else ""
    return FleetFile(fleet, version_of(data), defaulted, date)


def version_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def stored_candidates(store: ObjectStore) -> tuple[Candidate, ...]:
    """The models of the fleet file as it lies in the store now; none where there is no file. Raises BadFleet."""
    stored = store.get(KEY)
    return () if stored is None else parse(stored.data).fleet.candidates


def usable_candidates(store: ObjectStore) -> tuple[Candidate, ...]:
    """The same, for what can do without: none either where the file cannot be used."""
    try:
        return stored_candidates(store)
    except BadFleet:
        return ()


def expand(value: str, credentials: Mapping[str, str]) -> str:
    """`${NAME}` replaced by what the credentials have for it. Raises BadFleet for a name that they lack."""

    def read(match: re.Match[str]) -> str:
        found = credentials.get(match[1])
        if not found:
            raise BadFleet(f"{KEY} refers to ${{{match[1]}}}, which is not set in the environment or in the secret")
        return found

    return _REFERENCE.sub(read, value) if "$" in value else value


def _defaults(written: Any) -> list[dict[str, Any]]:
    """For each model that the file lists, the fields that the catalogue has and the file has not."""
    models = written.get("models") if isinstance(written, dict) else None
    return [_left_out(model) for model in models] if isinstance(models, list) else []


def _left_out(model: Any) -> dict[str, Any]:
    if not isinstance(model, dict) or model.keys() >= catalogue.FIELDS:
        return {}
    name = model.get("catalogue", model.get("name"))
    known = catalogue.load().find(name) if isinstance(name, str) and name else {}
    return {field: value for field, value in known.items() if field not in model}


def _filled(written: Any, defaults: list[dict[str, Any]]) -> Any:
    if not defaults:
        return written
    models = [{**model, **more} if more else model for model, more in zip(written["models"], defaults, strict=True)]
    return {**written, "models": models}


def _complaints(error: ValidationError, root: yaml.Node | None) -> list[Fault]:
    """Without those of a list that is too short for what was wrong in it."""
    found = error.errors()
    return [
        Fault(
            line_of(root, complaint["loc"]), f"{'.'.join(map(str, complaint['loc'])) or 'the file'}: {_said(complaint)}"
        )
        for complaint in found
        if not (complaint["type"] == "too_short" and any(_within(other["loc"], complaint["loc"]) for other in found))
    ]


def _within(inner: tuple[int | str, ...], outer: tuple[int | str, ...]) -> bool:
    return len(inner) > len(outer) and inner[: len(outer)] == outer


def _not_yaml(error: Exception) -> list[Fault]:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return [Fault(error.problem_mark.line + 1, f"not YAML: {error.problem}")]
    return []


def _said(complaint: ErrorDetails) -> str:
    if complaint["type"] == "missing" and complaint["loc"][-1] == "price":
        return f"{complaint['msg']}, as the catalogue of {catalogue.load().date} does not have this model"
    return complaint["msg"].removeprefix("Value error, ")
