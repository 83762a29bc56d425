"""The dial's curve as JSON, the same for callers and for operators."""

from typing import Any

from handler.errors import NotFound
from index.ballot import Ballot
from index.dial import Curve, Promise, Single

NOTHING = "there is nothing to calibrate the dial on"


def describe(ballot: Ballot | None, fleet_version: str, detail: str = "") -> dict[str, Any]:
    """Dollars are for a typical request; margins are 95 % half-widths; a number that is not known is null.
    `detail`: why there is no ballot. Raises NotFound, with the code `no_index`, where there is no curve."""
    if ballot is None or not ballot.fit.curve.examples:
        raise NotFound(f"{NOTHING}: {detail or 'the index has too few examples of these models'}", code="no_index")
    curve = ballot.fit.curve
    names = [candidate.name for candidate in ballot.candidates]
    best = curve.best_single()
    return {
        "index_version": ballot.snapshot.version,
        "fleet_version": fleet_version,
        "examples": curve.examples,
        "best_single": None if best is None else names[best],
        "settings": [_setting(curve, dial, None if best is None else curve.singles[best]) for dial in range(11)],
        "models": [
            {**_model(name, single), "coefficients": _coefficients(ballot, place)}
            for place, (name, single) in enumerate(zip(names, curve.singles, strict=True))
        ],
    }


def _setting(curve: Curve, dial: int, best: Single | None) -> dict[str, Any]:
    promise = curve.promise(dial)
    return {
        "dial": dial,
        "exchange": curve.exchange[dial],
        "spend": promise.spend,
        "spend_margin": promise.spend_margin,
        "quality": promise.quality,
        "quality_margin": promise.quality_margin,
        **_beside(promise, best),
    }


def _beside(promise: Promise, best: Single | None) -> dict[str, float | None]:
    """Shares of what the best single model costs and of what it is worth."""
    return {
        "saved": 1 - promise.spend / best.cost if best and best.cost else None,
        "kept": promise.quality / best.quality if best and best.quality else None,
    }


def _model(name: str, single: Single) -> dict[str, Any]:
    return {
        "model": name,
        "cost": single.cost,
        "quality": single.quality,
        "quality_margin": single.quality_margin,
        "measured": single.measured,
    }


def _coefficients(ballot: Ballot, place: int) -> dict[str, float]:
    """Of a model's predicted quality, by the name of what each is for, per standard deviation of it; none where the
    vote is not calibrated."""
    calibration = ballot.fit.calibration
    return {} if calibration is None else calibration.named(place)
