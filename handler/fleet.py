"""The fleet file: the models that can be chosen, their prices, and where they are served."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Self

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

from handler.flow import AUTO
from index.store import ObjectStore
from index.types import Candidate

KEY = "fleet.yaml"
"""Its place in the object store."""
TYPICAL_INPUT_TOKENS = 300
TYPICAL_OUTPUT_TOKENS = 500
PER = 1_000_000
"""Prices are dollars for this many tokens."""

_REFERENCE = re.compile(r"\$\{([A-Z_][A-Z0-9_]*)\}")
ModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}$")]


class BadFleet(Exception):
    """The fleet file cannot be used; the text says where and why."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Price(_Strict):
    """Dollars per million tokens."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)

    def of(self, input_tokens: int, output_tokens: int) -> float:
        return (input_tokens * self.input + output_tokens * self.output) / PER


class Deployment(_Strict):
    """One place that serves a model. `${NAME}` in a value is read from the credentials when it is called."""

    base_url: str
    api_key: str = ""
    model: str = ""
    """The model's id there; default: its name in the fleet."""
    weight: float = Field(default=1.0, gt=0)


class Model(_Strict):
    name: ModelName
    price: Price
    deployments: tuple[Deployment, ...] = Field(min_length=1)
    like: str | None = None
    """The model or tier whose outcomes it borrows until it has its own."""

    @field_validator("name")
    @classmethod
    def _not_auto(cls, name: str) -> str:
        if name in AUTO:
            raise ValueError(f"{name!r} asks for routing and cannot be a model's name")
        return name


class Fleet(_Strict):
    models: tuple[Model, ...] = Field(min_length=1)
    default: str = ""
    """What answers when there is no vote and the key names nothing; default: the dearest."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [model.name for model in self.models]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"listed twice: {', '.join(twice)}")
        if self.default and self.default not in names:
            raise ValueError(f"default: {self.default!r} is not among the models")
        return self

    @cached_property
    def by_name(self) -> Mapping[str, Model]:
        return {model.name: model for model in self.models}

    @cached_property
    def candidates(self) -> tuple[Candidate, ...]:
        return tuple(
            Candidate(model.name, model.price.of(TYPICAL_INPUT_TOKENS, TYPICAL_OUTPUT_TOKENS), model.like)
            for model in self.models
        )

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


def parse(data: bytes) -> FleetFile:
    """Raises BadFleet."""
    try:
        fleet = Fleet.model_validate(yaml.safe_load(data))
    except ValidationError as error:
        raise BadFleet(f"{KEY}: " + "; ".join(_complaints(error))) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadFleet(f"{KEY} is not YAML: {error}") from error
    return FleetFile(fleet, hashlib.sha256(data).hexdigest()[:16])


def stored_candidates(store: ObjectStore) -> tuple[Candidate, ...]:
    """The models of the fleet file as it lies in the store now; none where there is no file. Raises BadFleet."""
    stored = store.get(KEY)
    return () if stored is None else parse(stored.data).fleet.candidates


def expand(value: str, credentials: Mapping[str, str]) -> str:
    """`${NAME}` replaced by what the credentials have for it. Raises BadFleet for a name that they lack."""

    def read(match: re.Match[str]) -> str:
        found = credentials.get(match[1])
        if not found:
            raise BadFleet(f"{KEY} refers to ${{{match[1]}}}, which is not set in the environment or in the secret")
        return found

    return _REFERENCE.sub(read, value)


def _complaints(error: ValidationError) -> list[str]:
    return [
        f"{'.'.join(str(part) for part in complaint['loc']) or 'the file'}: {complaint['msg']}"
        for complaint in error.errors()
    ]
