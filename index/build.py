"""What a version needs besides its examples, found on the examples themselves: the vote's parameters, and peers."""

from collections.abc import Mapping
from itertools import product

import numpy as np

from index import peers
from index.outcomes import or_nan, tabulate
from index.snapshot import Snapshot
from index.types import Candidate, Floats, Peers, VoteParams
from index.vote import count, lost, share, shrink, weigh

WIDTHS = (10, 20, 50, 100, 200)
SHARPNESS = (2.5, 5.0, 10.0, 20.0)
SHRINKAGE = (0.1, 0.3, 1.0, 3.0)
USUAL = (100, 5.0, 1.0)
TUNING_EXAMPLES = 1000
UNFAMILIAR_SHARE = 0.01
"""A prompt is unfamiliar when its nearest example is as far as that of the loneliest 1 % of the index's own."""


def tune(snapshot: Snapshot) -> tuple[VoteParams, Peers]:
    """k, β and κ with the smallest leave-one-out squared error, the similarity that counts as familiar, and the k
    nearest others of the version's examples."""
    found = peers.find(snapshot, max(WIDTHS))
    if not len(found.rows):
        return VoteParams(), found
    k, beta, kappa = _clearly_best(_errors(snapshot, peers.narrow(found, max(WIDTHS), TUNING_EXAMPLES)))
    familiar = round(float(np.quantile(found.similarities[:, 0], UNFAMILIAR_SHARE)), 4)
    return VoteParams(k, beta, kappa, familiar), peers.narrow(found, k)


def _errors(snapshot: Snapshot, tried: Peers) -> dict[tuple[int, float, float], Floats]:
    """For each choice of k, β and κ, the squared error on each example that is tried."""
    table = tabulate(snapshot.examples, [Candidate(model, 0.0) for model in _named(snapshot)])
    prior = np.nan_to_num(table.prior)
    truth = or_nan(table.scores, table.known)[tried.rows]
    missing = lost(table.scores, table.known, prior)[tried.rows]
    heard, measured = table.scores[tried.voters], table.known[tried.voters]
    errors = {}
    for k, beta in product(WIDTHS, SHARPNESS):
        total, support = count(weigh(tried.similarities[:, :k], beta), heard[:, :k], measured[:, :k])
        for kappa in SHRINKAGE:
            quality = shrink(total, support, prior, kappa) + share(support, kappa) * missing
            errors[k, beta, kappa] = np.nansum((quality - truth) ** 2, axis=1)
    return errors


def _named(snapshot: Snapshot) -> list[str]:
    labels = (label for label in snapshot.examples.labels if label is not None)
    return sorted({*snapshot.examples.models, *(label.model for label in labels)})


def _clearly_best(errors: Mapping[tuple[int, float, float], Floats]) -> tuple[int, float, float]:
    """The choice with the least error, if it beats USUAL by more than two standard errors of their difference:
    on a few hundred examples many choices come first by luck."""
    best = min(errors, key=lambda choice: errors[choice].sum())
    lead = errors[USUAL] - errors[best]
    return best if lead.mean() > 2 * lead.std() / np.sqrt(len(lead)) else USUAL
