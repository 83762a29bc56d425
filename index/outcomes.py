"""What the examples of an index say of each candidate, as columns. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from index.calibration import Votes
from index.segment import Segment
from index.types import Candidate, Floats, LabelKind, Rows
from index.vote import predict


@dataclass(frozen=True, slots=True)
class Outcomes:
    """n examples, m candidates. Scores are 0 where unknown, so that the unknown weighs nothing in a product."""

    scores: Floats
    """[n, m]"""
    known: Floats
    """[n, m]; 1 where the outcome is known, else 0."""
    claims: Floats
    """[n, m]; 1 where an `only` label names the candidate, else 0."""
    prior: Floats
    """[m]; a candidate's mean over the index, NaN when nothing is known of it."""
    usual: Floats
    """[m]; its mean on a usual example: what it was measured on may have been easier or harder. NaN likewise."""
    ease: Floats
    """[n, 1]; how much better than usual the index's models did on an example; 0 where unknown."""
    eased: Floats
    """[n, 1]; 1 where the ease is known, else 0."""

    def tally(self, weights: Floats, rows: Rows, structures: Floats, kappa: float) -> tuple[Votes, Floats, Floats]:
        """The votes of neighbours `rows` [q, k], the support [q, m], and that of the ease [q, 1]."""
        quality, support = predict(weights, self.scores[rows], self.known[rows], self.prior, kappa)
        ease, eased = predict(weights, self.ease[rows], self.eased[rows], np.zeros(1, np.float32), kappa)
        return Votes(quality, ease[:, 0], structures), support, eased


def tabulate(examples: Segment, candidates: Sequence[Candidate]) -> Outcomes:
    outcomes = resolve(examples, candidates)
    known = ~np.isnan(outcomes)
    ease = ease_of(examples)
    filled = np.nan_to_num(ease, nan=0.0)[:, None]
    return Outcomes(
        np.nan_to_num(outcomes, nan=0.0),
        known.astype(np.float32),
        _claims(examples, candidates),
        _mean(outcomes, axis=0),
        np.clip(_mean(outcomes - filled, axis=0), 0, 1),
        filled,
        (~np.isnan(ease)).astype(np.float32)[:, None],
    )


def resolve(examples: Segment, candidates: Sequence[Candidate]) -> Floats:
    """Outcomes float32 [n, m], NaN unknown: a candidate's own, else those it borrows by `like`, else what an
    `only` label says."""
    columns = {model: position for position, model in enumerate(examples.models)}
    outcomes = np.full((len(examples), len(candidates)), np.nan, dtype=np.float32)
    for position, candidate in enumerate(candidates):
        for source in (candidate.name, candidate.like):
            if source in columns:
                column = examples.scores[:, columns[source]]
                outcomes[:, position] = np.where(np.isnan(outcomes[:, position]), column, outcomes[:, position])
    claims = _claims(examples, candidates)
    claimed = claims.any(axis=1)  # an owner that no candidate stands for says nothing of the others either
    outcomes[claimed] = claims[claimed]
    return outcomes


def or_nan(values: Floats, known: Floats) -> Floats:
    """The values as they were measured: NaN where unknown."""
    return np.where(known > 0, values, np.float32(np.nan))


def ease_of(examples: Segment) -> Floats:
    """[n]: the mean, over all models measured on an example, of its outcome less the model's own mean; NaN where
    none was measured. It depends on no fleet."""
    return _mean(examples.scores - _mean(examples.scores, axis=0), axis=1)


def _claims(examples: Segment, candidates: Sequence[Candidate]) -> Floats:
    """[n, m]; 1 where an `only` label names the candidate, or what it is like."""
    claims = np.zeros((len(examples), len(candidates)), dtype=np.float32)
    for row, label in enumerate(examples.labels):
        if label is not None and label.kind is LabelKind.ONLY:
            claims[row] = [label.model in (candidate.name, candidate.like) for candidate in candidates]
    return claims


def _mean(values: Floats, axis: int) -> Floats:
    """Over what is known; NaN where nothing is."""
    known = ~np.isnan(values)
    count = known.sum(axis=axis)
    total = np.where(known, values, 0).sum(axis=axis)
    mean: Floats = np.divide(total, count, out=np.full(count.shape, np.nan, np.float32), where=count > 0)
    return mean
