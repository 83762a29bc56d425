"""A fit ↔ JSON, in which coefficients stand by the name of their term, and what NaN or infinity says is null."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, TypeAlias, TypeVar

import numpy as np
from pydantic import BeforeValidator, Field, TypeAdapter

from index import structure
from index.calibration import COEFFICIENTS, EASE_COEFFICIENTS, Bounds, Calibration, Scale
from index.dial import FLAT, Curve, Promise, Single
from index.fit import Fit
from index.ridge import Doubles
from index.types import Candidate

RECIPE = f"fit-2 {structure.RECIPE}"
"""Change it with whatever changes what is found, or how it is written: a fit of another recipe is found anew."""

T = TypeVar("T")
Unknown: TypeAlias = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]
"""NaN where nothing is known."""
Unbounded: TypeAlias = Annotated[float, BeforeValidator(lambda value: math.inf if value is None else value)]
"""Infinite where one example alone was measured, or prices are beyond all measure."""


@dataclass(frozen=True, slots=True)
class _Scale:
    mean: float
    spread: float


@dataclass(frozen=True, slots=True)
class _Bounds:
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class _Alone:
    quality: Unknown
    quality_margin: Unbounded
    measured: int


@dataclass(frozen=True, slots=True)
class _Calibrated:
    mean: Unknown
    own: _Scale
    coefficients: dict[str, float]


@dataclass(frozen=True, slots=True)
class _Model:
    """One candidate, what its quality is predicted with, and what it gave alone."""

    name: str
    cost: Unbounded
    like: str | None
    calibration: _Calibrated | None
    alone: _Alone | None


@dataclass(frozen=True, slots=True)
class _Shared:
    """What the calibrations of all models have in common."""

    structure: dict[str, _Scale]
    ease_vote: _Scale
    ease: dict[str, float]
    level: _Scale
    bend: _Scale
    bounds: _Bounds


@dataclass(frozen=True, slots=True)
class _Curve:
    """At each whole setting, then at each tenth; a column a number."""

    examples: int
    exchange: Annotated[tuple[Unbounded, ...], Field(min_length=len(FLAT.exchange), max_length=len(FLAT.exchange))]
    spend: Annotated[tuple[Unbounded, ...], Field(min_length=len(FLAT.promises), max_length=len(FLAT.promises))]
    spend_margin: tuple[Unbounded, ...]
    quality: tuple[Unknown, ...]
    quality_margin: tuple[Unbounded, ...]


@dataclass(frozen=True, slots=True)
class StoredFit:
    """As it lies in the manifest."""

    recipe: str
    models: tuple[_Model, ...]
    calibration: _Shared | None
    curve: _Curve | None
    """None where it is FLAT."""


_STORED = TypeAdapter(StoredFit)


def to_json(fit: Fit) -> StoredFit:
    """What orjson writes as it is."""
    singles = fit.curve.singles
    models = tuple(
        _Model(
            one.name,
            float(one.cost),
            one.like,
            _calibrated(fit.calibration, place) if fit.calibration else None,
            _alone(singles[place]) if singles else None,
        )
        for place, one in enumerate(fit.candidates)
    )
    return StoredFit(
        RECIPE,
        models,
        _shared(fit.calibration) if fit.calibration else None,
        _columns(fit.curve) if fit.curve.examples else None,
    )


def from_json(value: object) -> Fit | None:
    """None where there is no fit, or one of another recipe. Raises ValueError for what is no fit."""
    if value is None or (isinstance(value, dict) and value.get("recipe", RECIPE) != RECIPE):
        return None
    stored = _STORED.validate_python(value)
    candidates = tuple(Candidate(one.name, one.cost, one.like) for one in stored.models)
    return Fit(
        candidates,
        _calibration(stored.calibration, stored.models) if stored.calibration else None,
        _curve(stored.curve, stored.models) if stored.curve else FLAT,
    )


def _calibrated(calibration: Calibration, place: int) -> _Calibrated:
    own, coefficients = calibration.own, calibration.coefficients[place].tolist()
    return _Calibrated(
        float(calibration.mean[place]),
        _Scale(float(own.mean[place]), float(own.spread[place])),
        dict(zip(COEFFICIENTS, coefficients, strict=True)),
    )


def _alone(single: Single) -> _Alone:
    return _Alone(single.quality, single.quality_margin, single.measured)


def _shared(calibration: Calibration) -> _Shared:
    shape = calibration.structure
    scales = map(_Scale, shape.mean.tolist(), shape.spread.tolist())
    return _Shared(
        dict(zip(structure.NAMES, scales, strict=True)),
        _stored_scale(calibration.ease_vote),
        dict(zip(EASE_COEFFICIENTS, calibration.ease.tolist(), strict=True)),
        _stored_scale(calibration.level),
        _stored_scale(calibration.bend),
        _Bounds(calibration.bounds.low, calibration.bounds.high),
    )


def _stored_scale(scale: Scale) -> _Scale:
    return _Scale(float(scale.mean), float(scale.spread))


def _columns(curve: Curve) -> _Curve:
    promises = curve.promises
    return _Curve(
        curve.examples,
        curve.exchange,
        tuple(promise.spend for promise in promises),
        tuple(promise.spend_margin for promise in promises),
        tuple(promise.quality for promise in promises),
        tuple(promise.quality_margin for promise in promises),
    )


def _calibration(shared: _Shared, models: tuple[_Model, ...]) -> Calibration:
    of_models = _each(one.calibration for one in models)
    return Calibration(
        _scale_of(_in_order(shared.structure, structure.NAMES)),
        _scale(shared.ease_vote),
        _doubles(_in_order(shared.ease, EASE_COEFFICIENTS)),
        _scale(shared.level),
        _scale(shared.bend),
        _doubles([one.mean for one in of_models]),
        _scale_of([one.own for one in of_models]),
        _doubles([_in_order(one.coefficients, COEFFICIENTS) for one in of_models]),
        Bounds(shared.bounds.low, shared.bounds.high),
    )


def _curve(stored: _Curve, models: tuple[_Model, ...]) -> Curve:
    columns = (stored.spend, stored.spend_margin, stored.quality, stored.quality_margin)
    promises = tuple(Promise(*row) for row in zip(*columns, strict=True))
    alone = zip(models, _each(one.alone for one in models), strict=True)
    singles = tuple(Single(one.cost, found.quality, found.quality_margin, found.measured) for one, found in alone)
    return Curve(stored.exchange, promises, singles, stored.examples)


def _scale(stored: _Scale) -> Scale:
    return Scale(_doubles(stored.mean), _doubles(stored.spread))


def _scale_of(columns: list[_Scale]) -> Scale:
    return Scale(_doubles([one.mean for one in columns]), _doubles([one.spread for one in columns]))


def _doubles(values: object) -> Doubles:
    """Of no dimension for one number: it would count as float32 beside float32, were it Python's."""
    return np.array(values, np.float64)


def _in_order(named: Mapping[str, T], names: tuple[str, ...]) -> list[T]:
    if set(named) != set(names):
        raise ValueError(f"not the terms of {RECIPE}: {', '.join(named)}")
    return [named[name] for name in names]


def _each(values: Iterable[T | None]) -> list[T]:
    found = list(values)
    kept = [one for one in found if one is not None]
    if len(kept) != len(found):
        raise ValueError("of some models something is missing")
    return kept
