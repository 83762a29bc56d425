"""What could tell a prompt of a task that the index does not have: numbers that are low for such a prompt. Pure."""

from collections.abc import Mapping

import numpy as np

from index.types import Floats
from scripts.evaluation.arrays import Numbers
from tests.bench.quality.leftout import Absence

RIDGE = 0.1
"""Keeps structural numbers that hardly vary from deciding alone."""


def signals(absence: Absence) -> dict[str, tuple[Numbers, Numbers, Numbers]]:
    """By name, for the index's own examples (leave-one-out), prompts of its tasks, and prompts of others."""
    own, seen, unseen = (
        _measured(absence.structure, similarities, structure)
        for similarities, structure in (
            (absence.own.similarities, absence.structure[absence.own.rows]),
            (absence.seen.similarities, absence.seen.structure),
            (absence.unseen.similarities, absence.unseen.structure),
        )
    )
    found = {name: (own[name], seen[name], unseen[name]) for name in own}
    return {**found, "nearest or structure": _either(found, "nearest", "structure")}


def separation(seen: Numbers, unseen: Numbers) -> float:
    """AUC: how often a prompt of a task that the index has gets more than one of another task; of ties half."""
    order = np.sort(unseen)
    below, upto = (np.searchsorted(order, seen, side=side) for side in ("left", "right"))
    return float((below + upto).mean() / 2 / len(unseen))


def fires(own: Numbers, asked: Numbers, share: float) -> float:
    """The share of those asked that get less than all but this share of the index's own examples."""
    return float((asked < np.quantile(own, share)).mean())


def _measured(index: Floats, similarities: Floats, structure: Floats) -> Mapping[str, Numbers]:
    return {
        "nearest": similarities[:, 0],
        "5th nearest": similarities[:, min(4, similarities.shape[1] - 1)],
        "mean of 5": similarities[:, :5].mean(axis=1),
        "mean of 10": similarities[:, :10].mean(axis=1),
        "mean of all that vote": similarities.mean(axis=1),
        "structure": -_distance(index, structure),
    }


def _distance(index: Floats, asked: Floats) -> Numbers:
    """[q]; Mahalanobis, squared, of the structure from the index's."""
    mean, spread = index.mean(axis=0), index.std(axis=0) + 1e-6
    steps = (asked - mean) / spread
    shape = np.cov(((index - mean) / spread).T) + RIDGE * np.eye(index.shape[1])
    distance: Numbers = np.einsum("qi,ij,qj->q", steps, np.linalg.inv(shape), steps)
    return distance


def _either(
    found: Mapping[str, tuple[Numbers, Numbers, Numbers]], one: str, other: str
) -> tuple[Numbers, Numbers, Numbers]:
    """The lower of the two, each as its place among the index's own."""
    own = [np.sort(found[name][0]) for name in (one, other)]

    def lower(part: int) -> Numbers:
        left, right = (
            np.searchsorted(sorted_own, found[name][part]) / len(sorted_own)
            for sorted_own, name in zip(own, (one, other), strict=True)
        )
        return np.minimum(left, right)

    return lower(0), lower(1), lower(2)
