"""Neighbours → predicted quality per model. Pure."""

import numpy as np

from index.types import Floats

MAJORITY = 0.5
"""The share of the vote past which an intent belongs to the model that its `only` labels name."""


def weigh(similarities: Floats, beta: float) -> Floats:
    """[..., k] similarities, near to far → weights with the nearest at 1."""
    weights: Floats = np.exp(beta * (similarities - similarities[..., :1]))
    return weights


def predict(weights: Floats, scores: Floats, known: Floats, prior: Floats, kappa: float) -> tuple[Floats, Floats]:
    """Quality and support, each [..., m]; arguments as those of `count` and `shrink`."""
    total, support = count(weights, scores, known)
    return shrink(total, support, prior, kappa), support


def count(weights: Floats, scores: Floats, known: Floats) -> tuple[Floats, Floats]:
    """Weighted sums of scores and of what is known, each [..., m].

    `weights` [..., k]; `scores` and `known` [..., k, m], with 0 in both where an outcome is unknown, so that
    the unknown weighs nothing.
    """
    row = weights[..., None, :]
    return (row @ scores)[..., 0, :], (row @ known)[..., 0, :]


def shrink(total: Floats, support: Floats, prior: Floats, kappa: float) -> Floats:
    """`prior` [m] is what a model does on the whole index, worth `kappa` neighbours."""
    quality: Floats = (total + kappa * prior) / (support + kappa)
    return quality


def share(support: Floats, kappa: float) -> Floats:
    """Of a predicted quality, what the neighbours say and not the prior."""
    heard: Floats = support / (support + kappa)
    return heard


def lost(scores: Floats, known: Floats, mean: Floats) -> Floats:
    """[n, m]: how far the mean over the others lies below the mean over all, where an example is left out; above it
    where negative. All of it is the example's own doing, and is held against no prompt from outside: left in, it
    would tell what was left out."""
    below: Floats = known * (scores - mean) / np.maximum(known.sum(axis=0) - 1, 1)
    return below


def claim(weights: Floats, claims: Floats) -> Floats:
    """[..., m]: the share of the whole vote that says "this intent belongs to that model alone".
    `weights` [..., k]; `claims` [..., k, m] is 1 where an example has an `only` label for a model, else 0."""
    share: Floats = (weights[..., None, :] @ claims)[..., 0, :] / weights.sum(axis=-1, keepdims=True)
    return share
