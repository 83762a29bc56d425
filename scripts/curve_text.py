"""The dial's curve for people to read."""

from collections.abc import Mapping
from typing import Any

from handler.keys import KeyOptions
from scripts.output import table

SETTING_COLUMNS = ("dial", "$/1,000", "quality", "saved", "kept")
MODEL_COLUMNS = ("alone", "$/1,000", "quality", "measured on")


def describe(curve: Mapping[str, Any]) -> str:
    """`curve`: as GET /v1/dial tells it. Two tables, and what they say of the dial that keys have by default."""
    settings = [
        {
            "dial": one["dial"],
            "$/1,000": dollars(one["spend"], one["spend_margin"]),
            "quality": _quality(one),
            "saved": _percent(one["saved"]),
            "kept": _percent(one["kept"]),
        }
        for one in curve["settings"]
    ]
    models = [
        {
            "alone": one["model"],
            "$/1,000": dollars(one["cost"]),
            "quality": _quality(one),
            "measured on": one["measured"],
        }
        for one in curve["models"]
    ]
    return "\n\n".join((table(settings, SETTING_COLUMNS), table(models, MODEL_COLUMNS), _in_words(curve)))


def _in_words(curve: Mapping[str, Any]) -> str:
    usual = curve["settings"][int(KeyOptions().dial)]
    measured = f"measured leave-one-out on {curve['examples']:,} examples; ± covers 95 % of what sampling them adds"
    if usual["saved"] is None or usual["kept"] is None:
        return measured
    against = f"saves {_percent(usual['saved'])} of the cost of {curve['best_single']}, which does best alone"
    return f"dial {usual['dial']} {against}, and keeps {_percent(usual['kept'])} of its quality, {measured}"


def dollars(mean: float, margin: float | None = 0.0) -> str:
    """For a thousand requests."""
    return f"{mean * 1000:.4g}" + (f" ± {margin * 1000:.2g}" if margin else "")


def _quality(one: Mapping[str, Any]) -> str | None:
    return None if one["quality"] is None else f"{one['quality']:.3f} ± {one['quality_margin']:.3f}"


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{share:.1%}"
