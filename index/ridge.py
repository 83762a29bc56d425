"""Ridge regression in closed form, with how much to hold back left to the data. Pure."""

from itertools import product
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from index.types import Flags, Floats

Doubles: TypeAlias = NDArray[np.float64]

_SHARES = (0.1, 0.3, 1.0)
_PENALTIES = 10.0 ** np.arange(-1, 6.01, 0.5)
_NOISE = 1e-4  # variance; no outcome is known better
_LEAST_LEFT = 1e-3


def regress(terms: Doubles, groups: NDArray[np.int64], target: Floats, known: Flags) -> tuple[Doubles, Doubles]:
    """Coefficients [1 + p], the constant first, of `target` [n] on `terms` [n, p], from the known rows; and what they
    predict, [n], on known rows leave-one-out. `groups` [p] numbers the terms that are held back alike."""
    x, y = terms[known], target[known].astype(np.float64)
    center, usual = x.mean(axis=0), y.mean()
    x, y = x - center, y - usual
    inverse = _shrunken_inverse(x, groups, y)
    slope = inverse @ (x.T @ y)
    hat = ((x @ inverse) * x).sum(axis=1) + 1 / len(y)
    predicted = usual + (terms - center) @ slope
    predicted[known] = usual + y - (y - x @ slope) / np.maximum(1 - hat, _LEAST_LEFT)
    return np.append(usual - center @ slope, slope), predicted


def _shrunken_inverse(x: Doubles, groups: NDArray[np.int64], y: Doubles) -> Doubles:
    """[p, p], the inverse of x'x + penalties. How much each group is held back, and all together, is not picked but
    averaged over, each choice weighing as much as its marginal likelihood: the best of many is best by luck."""
    gram, moment, total, n = x.T @ x, x.T @ y, y @ y, len(y)
    inverses, evidences = [], []
    for shares in product(_SHARES, repeat=int(groups.max()) + 1):
        if max(shares) < 1:
            continue  # the same as one with a larger penalty
        scale = np.array(shares)[groups]
        values, axes = np.linalg.eigh(scale[:, None] * gram * scale)
        values = np.maximum(values, 0)[:, None]
        axes = scale[:, None] * axes
        kept = values + _PENALTIES
        noise = np.maximum((total - ((axes.T @ moment) ** 2 @ (1 / kept))) / n, _NOISE)
        evidences.append(-0.5 * (n * np.log(noise) + np.log1p(values / _PENALTIES).sum(axis=0)))
        inverses.append(np.einsum("ij,jk,lj->kil", axes, 1 / kept, axes))
    evidence = np.concatenate(evidences)
    weight = np.exp(evidence - evidence.max())
    average: Doubles = np.tensordot(weight / weight.sum(), np.concatenate(inverses), 1)
    return average
