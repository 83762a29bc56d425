"""The vote, corrected by what the index itself shows of it: how far neighbours can be believed, how easy a prompt
looks, and what its structure adds. Closed form, a few dozen named coefficients a model; no I/O, nothing is trained.

Fitted quality of a model = its mean on the index
                          + how much easier than usual the prompt looks, for all models alike   (`ease`)
                          + what ease, its square, its own neighbours' vote and structure say of this model beside the
                            rest.

The square matters: a strong model's lead is small on what is easy for all and on what is hard for all. The fit is
believed no further than the index's own outcomes bear it out (Bounds), and the vote as it is keeps a share (PLAIN).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from index.ridge import Doubles, regress
from index.structure import NAMES
from index.types import Floats

ENOUGH = 50
"""Examples with a known outcome from which on there is a calibration; below, the neighbours' vote stands as it is."""
FEW = 8
"""Outcomes of one model below which it is taken for a usual one of its mean: its own vote would be luck."""
TERMS = ("mean", "ease", "neighbours", "structure")
"""What a predicted quality is the sum of, before the fit is kept within its bounds."""
EASE_COEFFICIENTS = ("constant", "neighbours", *NAMES)
COEFFICIENTS = ("constant", "neighbours", "ease", "ease_squared", *NAMES)
"""Of each model."""
PLAIN = 0.2
"""Share of a quality that stays the neighbours' vote. Where good models are near each other, coefficients that were
fitted one model at a time find leads that are none, and the vote does not make the same mistakes."""

_DOUBT = 20  # outcomes at an end of the scale that are imagined before the index's own
_BEYOND = 0.1  # share that counts of what lies past a bound: no two predictions become equals
_ROUNDING = 1e-6
_FARTHEST = 4.0  # standard deviations; past them a term says no more
_FLAT = 1e-6


@dataclass(frozen=True, slots=True)
class Votes:
    """What neighbours say of q prompts, and the structure of these; m models, p structural numbers."""

    quality: Floats
    """[q, m]"""
    ease: Floats
    """[q]; how much better than usual models did on the neighbours."""
    structure: Floats
    """[q, p]; NaN where it is not known."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Brings columns to mean 0 and spread 1 on the index's examples."""

    mean: Doubles
    spread: Doubles

    def __call__(self, values: Floats | Doubles) -> Doubles:
        steps: Doubles = (values - self.mean) / self.spread
        return np.minimum(np.maximum(steps, -_FARTHEST), _FARTHEST)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How low and how high a quality that was fitted is borne out; a sum of terms has no ends of its own."""

    low: float
    high: float

    def __call__(self, fitted: Doubles) -> Doubles:
        inside = np.minimum(np.maximum(fitted, self.low), self.high)
        kept: Doubles = np.minimum(np.maximum(inside + _BEYOND * (fitted - inside), 0), 1)
        return kept


@dataclass(frozen=True, slots=True)
class Calibration:
    """m models, p structural numbers. Coefficients are per standard deviation of their term."""

    structure: Scale
    ease_vote: Scale
    ease: Doubles
    """[2 + p], the EASE_COEFFICIENTS."""
    level: Scale
    """Of the ease so predicted."""
    bend: Scale
    """Of the square of that level."""
    mean: Doubles
    """[m]; NaN where nothing is known of a model."""
    own: Scale
    """[m]; of a model's vote beside what mean and ease explain."""
    coefficients: Doubles
    """[m, 4 + p], the COEFFICIENTS."""
    bounds: Bounds

    def predict(self, votes: Votes) -> Floats:
        """[q, m] in 0..1; NaN where nothing is known of a model."""
        mean, ease, neighbours, structure = self._fitted(votes)
        return _blend(self.bounds(mean + ease + neighbours + structure), votes)

    def terms(self, votes: Votes) -> tuple[Doubles, Doubles, Doubles, Doubles]:
        """The TERMS, each [q, m] or [m], whose sum is the quality before the fit is kept within its bounds."""
        mean, ease, neighbours, structure = self._fitted(votes)
        return (
            (1 - PLAIN) * mean + PLAIN * self.mean,
            (1 - PLAIN) * ease + PLAIN * votes.ease[:, None],
            (1 - PLAIN) * neighbours + PLAIN * _beside(votes, self.mean),
            (1 - PLAIN) * structure,
        )

    def _fitted(self, votes: Votes) -> tuple[Doubles, Doubles, Doubles, Doubles]:
        structure, coefficients = np.nan_to_num(self.structure(votes.structure)), self.coefficients
        eased = self.ease[0] + self.ease[1] * self.ease_vote(votes.ease) + structure @ self.ease[2:]
        level = self.level(eased)[:, None]
        return (
            self.mean + coefficients[:, 0],
            eased[:, None] + level * coefficients[:, 2] + self.bend(level**2) * coefficients[:, 3],
            self.own(_beside(votes, self.mean)) * coefficients[:, 1],
            structure @ coefficients[:, 4:].T,
        )

    def named(self, model: int) -> dict[str, float]:
        """One model's coefficients by name."""
        values = self.coefficients[model].tolist()
        return {name: round(value, 4) for name, value in zip(COEFFICIENTS, values, strict=True)}


def calibrate(votes: Votes, outcomes: Floats, ease: Floats, mean: Floats) -> tuple[Calibration, Floats] | None:
    """A calibration, and what it predicts leave-one-out, [n, m]; None where too little is known.

    `votes` are leave-one-out votes on n examples, `outcomes` [n, m] what was measured (NaN unknown), `ease` [n] how
    much better than usual models did on each (NaN unknown), `mean` [m] each model's on a usual example.
    """
    measured = ~np.isnan(ease)
    if measured.sum() < ENOUGH:
        return None
    structure, ease_vote = _scale(votes.structure), _scale(votes.ease)
    shape = np.nan_to_num(structure(votes.structure))
    columns = np.column_stack([ease_vote(votes.ease), shape])
    to_ease, left_out_ease = regress(columns, _groups(1, shape), ease, measured)
    eased = to_ease[0] + columns @ to_ease[1:]  # of what was left out, the next terms could tell what it was
    level = _scale(eased)
    bend = _scale(level(eased) ** 2)
    beside = _beside(votes, mean)
    own = _scale(beside)
    shared = np.column_stack([_powers(eased, level, bend), shape])
    coefficients, predicted = [], []
    for model, center in enumerate(mean):
        target = outcomes[:, model] - center - ease
        known = ~np.isnan(target)
        terms = np.column_stack([own(beside)[:, model], shared])
        if known.sum() < FEW:
            fitted, left_out = np.zeros(1 + terms.shape[1]), np.zeros(len(terms))  # as any model that does as well
        elif known.sum() >= ENOUGH and np.ptp(outcomes[known, model]) == 0:
            always = float(outcomes[known, model][0]) - center
            fitted, left_out = _as_ever(terms, level, always), always - left_out_ease
        else:
            fitted, left_out = regress(terms, _groups(1, shared[:, :2], shape), target, known)
        coefficients.append(fitted)
        predicted.append(center + left_out_ease + left_out)
    fits = np.column_stack(predicted)
    bounds = _bounds(fits, outcomes)
    calibration = Calibration(
        structure, ease_vote, to_ease, level, bend, mean.astype(np.float64), own, np.array(coefficients), bounds
    )
    return calibration, _blend(bounds(fits), votes)


def _groups(*parts: int | Doubles) -> NDArray[np.int64]:
    """For each column, which of the parts (a number of columns, or the columns) it belongs to."""
    widths = [part if isinstance(part, int) else part.shape[1] for part in parts]
    return np.repeat(np.arange(len(widths)), widths)


def _beside(votes: Votes, mean: Floats | Doubles) -> Doubles:
    """[q, m]: each model's vote beside what its mean and the neighbours' ease explain."""
    beside: Doubles = votes.quality.astype(np.float64) - mean - votes.ease[:, None]
    return beside


def _blend(fitted: Doubles, votes: Votes) -> Floats:
    quality: Floats = ((1 - PLAIN) * fitted + PLAIN * votes.quality).astype(np.float32)
    return quality


def _bounds(fitted: Doubles, outcomes: Floats) -> Bounds:
    """`fitted` [n, m] leave-one-out. Over all models at once: one has too few outcomes near the ends."""
    known = ~(np.isnan(fitted) | np.isnan(outcomes))
    promised, kept = fitted[known], outcomes[known].astype(np.float64)
    return Bounds(1 - _highest(1 - promised, 1 - kept), _highest(promised, kept))


def _highest(promised: Doubles, kept: Doubles) -> float:
    """The mean outcome of the highest predictions: of as many, from the top, as promised more than that. Until there
    are more than _DOUBT of these it stays near 1, so that a small index is not held back by a few."""
    if not len(promised):  # of these models nothing was measured
        return 1.0
    order = np.argsort(-promised, kind="stable")
    mean = (_DOUBT + np.cumsum(kept[order])) / (_DOUBT + np.arange(1, len(order) + 1))
    borne_out = promised[order] <= mean + _ROUNDING
    return float(mean[borne_out.argmax() if borne_out.any() else -1])


def _powers(eased: Doubles, level: Scale, bend: Scale) -> Doubles:
    """[q, 2]: the level of ease and its square."""
    steps = level(eased)
    return np.column_stack([steps, bend(steps**2)])


def _scale(values: Floats | Doubles) -> Scale:
    """Over axis 0, of what is known."""
    known = ~np.isnan(values)
    count = np.maximum(known.sum(axis=0), 1)
    filled = np.where(known, values, 0.0).astype(np.float64)
    mean = filled.sum(axis=0) / count
    spread = np.sqrt((np.where(known, filled - mean, 0.0) ** 2).sum(axis=0) / count)
    return Scale(mean, np.where(spread > _FLAT, spread, 1.0))


def _as_ever(terms: Doubles, level: Scale, always: float) -> Doubles:
    """Of a model that did the same on all examples, as the dearest tier does by its label: however easy a prompt."""
    coefficients = np.zeros(1 + terms.shape[1])
    coefficients[0], coefficients[2] = always - level.mean, -level.spread
    return coefficients
