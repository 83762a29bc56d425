"""Logistic regression, the trained control. Pure."""

import numpy as np

from scripts.evaluation.arrays import Numbers

STEPS = 100
CONVERGED = 1e-9
"""The largest component of the gradient, an example, at which the fit is done."""


def fit(features: Numbers, outcomes: Numbers, inverse_penalty: float = 1.0) -> Numbers:
    """Coefficients [d + 1], the intercept last, that minimise C · Σ log loss + ½ ‖coefficients‖², without the
    intercept, by Newton's method. `features` [n, d]; `outcomes` [n], 0..1, not all the same."""
    inputs = _with_one(features)
    penalty = np.append(np.full(features.shape[1], 1 / inverse_penalty), 0.0)
    coefficients = np.zeros(inputs.shape[1])
    for _ in range(STEPS):
        slope = gradient(coefficients, inputs, outcomes, penalty)
        if np.abs(slope).max() <= CONVERGED * len(inputs):
            break
        chance = _sigmoid(inputs @ coefficients)
        curvature = (inputs * (chance * (1 - chance))[:, None]).T @ inputs + np.diag(penalty)
        step = np.linalg.solve(curvature, slope)
        coefficients = coefficients - _length(coefficients, step, inputs, outcomes, penalty) * step
    return coefficients


def predict(coefficients: Numbers, features: Numbers) -> Numbers:
    """[q] probabilities."""
    return _sigmoid(_with_one(features) @ coefficients)


def gradient(coefficients: Numbers, inputs: Numbers, outcomes: Numbers, penalty: Numbers) -> Numbers:
    """Of the loss divided by C. `inputs` [n, d + 1], the last column 1."""
    slope: Numbers = inputs.T @ (_sigmoid(inputs @ coefficients) - outcomes) + penalty * coefficients
    return slope


def _length(coefficients: Numbers, step: Numbers, inputs: Numbers, outcomes: Numbers, penalty: Numbers) -> float:
    """How much of a Newton step to take: halved until the loss does not rise."""

    def loss(place: Numbers) -> float:
        log_odds = inputs @ place
        return float((np.logaddexp(0, log_odds) - outcomes * log_odds).sum() + 0.5 * (penalty * place**2).sum())

    now, length = loss(coefficients), 1.0
    while length > 1e-6 and loss(coefficients - length * step) > now + 1e-9:
        length /= 2
    return length


def _with_one(features: Numbers) -> Numbers:
    return np.column_stack([features, np.ones(len(features))]).astype(np.float64)


def _sigmoid(log_odds: Numbers) -> Numbers:
    return np.exp(-np.logaddexp(0, -log_odds))
