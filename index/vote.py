"""Neighbours → predicted quality per model. Pure."""

import numpy as np

from index.types import Floats, Vote, VoteParams


def weigh(similarities: Floats, beta: float) -> Floats:
    """[..., k] similarities, near to far → weights with the nearest at 1."""
    weights: Floats = np.exp(beta * (similarities - similarities[..., :1]))
    return weights


def predict(weights: Floats, scores: Floats, known: Floats, prior: Floats, kappa: float) -> tuple[Floats, Floats]:
    """Quality and support, each [..., m].

    `weights` [..., k]; `scores` and `known` [..., k, m], with 0 in both where an outcome is unknown, so that
    the unknown weighs nothing; `prior` [m] is what a model does on the whole index, worth `kappa` neighbours.
    """
    row = weights[..., None, :]
    support = (row @ known)[..., 0, :]
    quality = ((row @ scores)[..., 0, :] + kappa * prior) / (support + kappa)
    return quality, support


def claim(weights: Floats, claims: Floats) -> Floats:
    """[..., m]: the share of the whole vote that says "this intent belongs to that model alone".
    `weights` [..., k]; `claims` [..., k, m] is 1 where an example has an `only` label for a model, else 0."""
    share: Floats = (weights[..., None, :] @ claims)[..., 0, :] / weights.sum(axis=-1, keepdims=True)
    return share


def vote(similarities: Floats, scores: Floats, known: Floats, prior: Floats, params: VoteParams) -> Vote:
    """One prompt's vote: `similarities` [k] near to far, `scores` and `known` [k, m], `prior` [m]."""
    quality, support = predict(weigh(similarities, params.beta), scores, known, prior, params.kappa)
    return Vote(quality, support, float(similarities[0]))
