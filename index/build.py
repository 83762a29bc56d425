"""What a version needs besides its examples: the vote's parameters, picked on the examples themselves."""

from itertools import product

import numpy as np

from index.ballot import others, resolve, spread
from index.snapshot import Snapshot
from index.types import Candidate, Floats, VoteParams
from index.vote import predict, weigh

WIDTHS = (10, 20, 50, 100)
SHARPNESS = (5.0, 10.0, 20.0, 40.0)
SHRINKAGE = (0.1, 0.3, 1.0, 3.0)
TUNING_EXAMPLES = 1000
UNFAMILIAR_SHARE = 0.01
"""A prompt is unfamiliar when its nearest example is as far as that of the loneliest 1 % of the index's own."""


def tune(snapshot: Snapshot) -> VoteParams:
    """k, β and κ with the smallest leave-one-out squared error, and the similarity that counts as familiar."""
    if len(snapshot) < 2:
        return VoteParams()
    rows = spread(len(snapshot), TUNING_EXAMPLES)
    similarities, voters = others(snapshot, rows, max(WIDTHS))
    candidates = [Candidate(model, 0.0) for model in _named(snapshot)]
    outcomes = resolve(snapshot.examples, candidates)
    known = (~np.isnan(outcomes)).astype(np.float32)
    scores = np.nan_to_num(outcomes, nan=0.0)
    prior = scores.sum(axis=0) / np.maximum(known.sum(axis=0), 1)

    def error(choice: tuple[int, float, float]) -> float:
        k, beta, kappa = choice
        near = voters[:, :k]
        quality, _ = predict(weigh(similarities[:, :k], beta), scores[near], known[near], prior, kappa)
        return _squared_error(quality, outcomes[rows])

    k, beta, kappa = min(product(WIDTHS, SHARPNESS, SHRINKAGE), key=error)
    return VoteParams(k, beta, kappa, round(float(np.quantile(similarities[:, 0], UNFAMILIAR_SHARE)), 4))


def _named(snapshot: Snapshot) -> list[str]:
    labels = (label for label in snapshot.examples.labels if label is not None)
    return sorted({*snapshot.examples.models, *(label.model for label in labels)})


def _squared_error(quality: Floats, outcomes: Floats) -> float:
    return float(np.nansum((quality - outcomes) ** 2))
