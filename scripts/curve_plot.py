"""The dial's curve as a picture. Only this file needs matplotlib."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

THOUSAND = 1000
"""Requests that the axis of spend is for; for one, dollars are small numbers."""


def draw(curve: Mapping[str, Any], path: Path) -> None:
    """`curve`: as GET /v1/dial tells it. `path` ends in .png or .svg. Raises OSError."""
    # SVG with its text as text, and the same file for the same curve
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "nearvote", "font.size": 9}):
        figure = Figure(figsize=(7, 4.5), dpi=150, layout="constrained")
        axes = figure.add_subplot()
        _draw_settings(axes, curve["settings"])
        _draw_singles(axes, curve["models"])
        axes.set_xlabel("dollars per 1,000 typical requests")
        axes.set_ylabel("mean measured outcome")
        axes.set_title(f"What the dial buys, measured leave-one-out on {curve['examples']:,} examples")
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right")
        figure.savefig(path, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)


def _draw_settings(axes: Axes, settings: Sequence[Mapping[str, Any]]) -> None:
    known = [one for one in settings if one["quality"] is not None]
    spend = [one["spend"] * THOUSAND for one in known]
    quality = [one["quality"] for one in known]
    low = [one["quality"] - one["quality_margin"] for one in known]
    high = [one["quality"] + one["quality_margin"] for one in known]
    axes.fill_between(spend, low, high, color="C0", alpha=0.15, linewidth=0, label="95 % interval")
    axes.plot(spend, quality, color="C0", marker="o", markersize=4, label="dial 0 to 10")
    for one, across, up in zip(known, spend, quality, strict=True):
        axes.annotate(str(one["dial"]), (across, up), xytext=(0, 6), textcoords="offset points", ha="center")


def _draw_singles(axes: Axes, models: Sequence[Mapping[str, Any]]) -> None:
    known = [one for one in models if one["quality"] is not None]
    cost = [one["cost"] * THOUSAND for one in known]
    quality = [one["quality"] for one in known]
    margins = [one["quality_margin"] for one in known]
    axes.errorbar(cost, quality, yerr=margins, fmt="D", color="C1", markersize=5, capsize=2, label="one model alone")
    for one, across, up in zip(known, cost, quality, strict=True):
        axes.annotate(one["model"], (across, up), xytext=(6, -10), textcoords="offset points", color="C1")
