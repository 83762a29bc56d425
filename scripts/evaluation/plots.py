"""Pictures of an Evaluation, as PNG and SVG. The only file that needs matplotlib."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.evaluation.curves import hull
from scripts.evaluation.summary import Evaluation, curve, dial, qualities
from scripts.evaluation.trial import VOTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = (8.0, 5.0)
"""Inches."""
DOTS = 150
LINES = ("random", "prompt_length", "logistic_regression", "logistic_regression_structure", "oracle")
"""Controls that have a curve; the others are points on it."""


def draw(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Writes every picture twice and returns the files."""
    pictures = {"cost-quality": _cost_quality, "collapse": _collapse, "dial": _dial}
    return [path for name, fill in pictures.items() for path in _save(fill, evaluation, folder / name)]


def _save(fill: Callable[["Axes", Evaluation], None], evaluation: Evaluation, stem: Path) -> list[Path]:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # Without pyplot, so that no window system is looked for; with a fixed salt and no date, the same run draws
    # the same file.
    with mpl.rc_context({"svg.hashsalt": "nearvote"}):
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.add_subplot()
        fill(axes, evaluation)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
        png, svg = stem.with_suffix(".png"), stem.with_suffix(".svg")
        figure.savefig(png, dpi=DOTS, metadata={"Software": None})
        figure.savefig(svg, metadata={"Date": None})
    return [png, svg]


def _cost_quality(axes: "Axes", evaluation: Evaluation) -> None:
    vote = curve(evaluation.trials, VOTE)
    axes.plot(vote.spend, vote.quality, color="black", linewidth=2, label="vote")
    envelope = hull(vote.spend, vote.quality)
    axes.plot(envelope.spend, envelope.quality, color="black", linewidth=0.8, linestyle=":", label="vote, its hull")
    for name in LINES:
        points = curve(evaluation.trials, name)
        line = hull(points.spend, points.quality) if name == "random" else points
        axes.plot(line.spend, line.quality, linewidth=1, label=name.replace("_", " "))
    contest, quality = evaluation.contest, qualities(evaluation.trials)
    axes.scatter(contest.cost, quality, color="grey", s=16, zorder=3, label="one model for everything")
    for name, cost, mean in zip(contest.names, contest.cost, quality, strict=True):
        side = "right" if cost > contest.cost.max() / 2 else "left"
        axes.annotate(name, (cost, mean), xytext=(4, -9), textcoords="offset points", fontsize="x-small", ha=side)
    axes.set(xlabel="mean cost of a request", ylabel="mean quality")


def _collapse(axes: "Axes", evaluation: Evaluation) -> None:
    for name in (VOTE, *LINES[1:]):
        points = curve(evaluation.trials, name)
        style = {"color": "black", "linewidth": 2.0} if name == VOTE else {"linewidth": 1.0}
        axes.plot(points.spend, points.dearest, label=name.replace("_", " "), **style)
    axes.set(xlabel="mean cost of a request", ylabel=f"share of {evaluation.contest.names[-1]}")


def _dial(axes: "Axes", evaluation: Evaluation) -> None:
    mean = dial(evaluation.trials)
    axes.plot(mean.promised_spend, mean.promised_quality, marker="o", fillstyle="none", label="promised")
    axes.plot(mean.delivered_spend, mean.delivered_quality, marker=".", label="delivered")
    for setting, place in enumerate(zip(mean.delivered_spend, mean.delivered_quality, strict=True)):
        axes.annotate(str(setting), place, xytext=(4, -9), textcoords="offset points", fontsize="x-small")
    axes.set(xlabel="mean cost of a request", ylabel="mean quality")
