"""An Evaluation as one JSON object, as text for people, and as CSV."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from scripts.evaluation.summary import Evaluation, curve, dial, dial_error, measures, pooled_saving_at_best, qualities
from scripts.evaluation.trial import CONTROLS, VOTE
from scripts.output import table

COLUMNS = {
    "apgr": "APGR",
    "cpt50": "CPT50",
    "cpt80": "CPT80",
    "saving_at_best": "saved",
    "pooled_saving_at_best": "pooled",
    "mixed_saving_at_best": "mixed",
    "aiq": "AIQ",
    "cheapest_correct": "cheapest right",
}
"""Measure → its name in the text."""


def as_json(evaluation: Evaluation) -> dict[str, Any]:
    """The vote's measures at the top, each control's under `controls`."""
    trials, contest = evaluation.trials, evaluation.contest
    quality = qualities(trials)
    models = [
        {"name": candidate.name, "cost": candidate.cost, "quality": float(mean)}
        for candidate, mean in zip(contest.candidates, quality, strict=True)
    ]
    return {
        **_measures(evaluation, VOTE),
        "controls": {name: _measures(evaluation, name) for name in CONTROLS},
        "dial": _dial(evaluation),
        "dial_error": dial_error(evaluation),
        "models": models,
        "best_single": models[int(np.argmax(quality))]["name"],
        "pair": {"weak": contest.names[0], "strong": contest.names[-1]},
        "data": {
            "file": evaluation.file,
            "prompts": evaluation.prompts,
            "duplicates": evaluation.duplicates,
            "indexed": trials[0].indexed,
            "routed": trials[0].routed,
            "left_out": trials[0].left_out,
        },
        "seeds": [trial.seed for trial in trials],
        "embedder": evaluation.fingerprint,
    }


def as_text(found: Mapping[str, Any]) -> str:
    """What as_json gave, for people."""
    return "\n\n".join([_heading(found), _models(found), _routers(found), _told_dial(found)])


def as_csv(found: Mapping[str, Any], evaluation: Evaluation) -> dict[str, str]:
    """File name → text."""
    return {
        "routers.csv": _csv(
            ("router", *COLUMNS), ((name, *(one[key] for key in COLUMNS)) for name, one in _all(found))
        ),
        "curves.csv": _csv(("router", *_FIELDS), _curve_rows(evaluation)),
        "dial.csv": _csv(
            ("dial", "promised_spend", "promised_quality", "delivered_spend", "delivered_quality"),
            (_flat(setting) for setting in found["dial"]),
        ),
    }


_FIELDS = ("exchange", "spend", "quality", "dearest", "cheapest_correct")


def _measures(evaluation: Evaluation, router: str) -> dict[str, Any]:
    pooled = pooled_saving_at_best(evaluation, router)
    return {**measures(evaluation.trials, router), "pooled_saving_at_best": pooled}


def _dial(evaluation: Evaluation) -> list[dict[str, Any]]:
    mean = dial(evaluation.trials)
    return [
        {
            "dial": setting,
            "promised": {
                "spend": float(mean.promised_spend[setting]),
                "quality": float(mean.promised_quality[setting]),
            },
            "delivered": {
                "spend": float(mean.delivered_spend[setting]),
                "quality": float(mean.delivered_quality[setting]),
            },
        }
        for setting in range(len(mean.promised_spend))
    ]


def _all(found: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return [(VOTE, found), *found["controls"].items()]


def _heading(found: Mapping[str, Any]) -> str:
    data, seeds = found["data"], found["seeds"]
    splits = f"seed {seeds[0]}" if len(seeds) == 1 else f"means over seeds {seeds[0]} to {seeds[-1]}"
    gone = f" ({data['duplicates']} duplicates left out)" if data["duplicates"] else ""
    unknown = f", {data['left_out']} without a known outcome left out" if data["left_out"] else ""
    return (
        f"{data['file']}: {data['prompts']} prompts{gone}, {data['indexed']} of them indexed, "
        f"{data['routed']} routed{unknown}; {splits}; embedder {found['embedder']}"
    )


def _models(found: Mapping[str, Any]) -> str:
    notes = {found["pair"]["weak"]: ["weak"], found["pair"]["strong"]: ["strong"]}
    notes.setdefault(found["best_single"], []).append("best single")
    rows = [
        {
            "model": model["name"],
            "cost": f"{model['cost']:.4g}",
            "quality": f"{model['quality']:.3f}",
            "": ", ".join(notes.get(model["name"], [])),
        }
        for model in found["models"]
    ]
    return table(rows, ("model", "cost", "quality", ""))


def _routers(found: Mapping[str, Any]) -> str:
    rows = [
        {"router": name, **{title: _with_error(one, key) for key, title in COLUMNS.items()}}
        for name, one in _all(found)
    ]
    return table(rows, ("router", *COLUMNS.values()))


def _told_dial(found: Mapping[str, Any]) -> str:
    rows = [
        {
            "dial": setting["dial"],
            **{
                f"{what}, {when}": f"{setting[when][what]:.4g}"
                for what in ("spend", "quality")
                for when in ("promised", "delivered")
            },
        }
        for setting in found["dial"]
    ]
    error = found["dial_error"]
    return (
        f"{table(rows, tuple(rows[0]))}\n"
        f"off by, on average: quality {error['quality']:.4f}, spend {error['spend']:.4f} of the dearest model's"
    )


def _with_error(one: Mapping[str, Any], key: str) -> str | None:
    error = one["standard_error"].get(key)
    if one[key] is None:
        return None
    return f"{one[key]:.3f}" if error is None else f"{one[key]:.3f} ±{error:.3f}"


def _curve_rows(evaluation: Evaluation) -> Iterable[Sequence[object]]:
    for router in (VOTE, *CONTROLS):
        columns = asdict(curve(evaluation.trials, router))
        for row in zip(*(columns[name].tolist() for name in _FIELDS), strict=True):
            yield (router, *("" if value != value else value for value in row))


def _flat(setting: Mapping[str, Any]) -> Sequence[object]:
    return (setting["dial"], *setting["promised"].values(), *setting["delivered"].values())


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
