"""The trained control."""

import math

import numpy as np
import pytest

from scripts.evaluation import logistic


def test_a_fit_ends_where_the_gradient_is_zero() -> None:
    random = np.random.default_rng(0)
    features = random.normal(size=(200, 20))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    outcomes = (features[:, 0] + 0.3 * random.normal(size=200) > 0).astype(float)
    found = logistic.fit(features, outcomes)
    inputs, penalty = np.column_stack([features, np.ones(200)]), np.append(np.ones(20), 0)
    assert np.abs(logistic.gradient(found, inputs, outcomes, penalty)).max() < 1e-6
    assert found[0] > np.abs(found[1:-1]).max()


def test_the_gradient_is_that_of_the_loss() -> None:
    random = np.random.default_rng(1)
    features, outcomes, place = random.normal(size=(9, 2)), random.random(9), random.normal(size=3)
    inputs, penalty = np.column_stack([features, np.ones(9)]), np.array([1.0, 1.0, 0.0])

    def loss(at: float, axis: int) -> float:
        moved = place + at * np.eye(3)[axis]
        chance = 1 / (1 + np.exp(-inputs @ moved))
        return float(
            -(outcomes * np.log(chance) + (1 - outcomes) * np.log(1 - chance)).sum() + (moved[:2] ** 2).sum() / 2
        )

    slope = [(loss(1e-5, axis) - loss(-1e-5, axis)) / 2e-5 for axis in range(3)]
    np.testing.assert_allclose(logistic.gradient(place, inputs, outcomes, penalty), slope, rtol=1e-6)


def test_without_features_the_chance_is_the_mean() -> None:
    found = logistic.fit(np.zeros((4, 1)), np.array([1.0, 1.0, 1.0, 0.0]))
    np.testing.assert_allclose(found, [0, math.log(3)], atol=1e-8)
    np.testing.assert_allclose(logistic.predict(found, np.zeros((2, 1))), [0.75, 0.75])


def test_one_feature_is_held_back_by_the_penalty() -> None:
    # By symmetry the intercept is 0, and the loss 2·log(1 + exp(−w)) + w²/2 is least where w = 2 / (1 + exp(w)).
    found = logistic.fit(np.array([[1.0], [-1.0]]), np.array([1.0, 0.0]))
    assert found[1] == pytest.approx(0, abs=1e-9)
    assert found[0] == pytest.approx(2 / (1 + math.exp(found[0])))
    looser = logistic.fit(np.array([[1.0], [-1.0]]), np.array([1.0, 0.0]), inverse_penalty=100)
    assert looser[0] > 3 > found[0]


def test_outcomes_that_can_be_told_apart_are_no_difficulty() -> None:
    features = np.repeat([[1000.0], [-1000.0]], 50, axis=0)
    found = logistic.fit(features, np.repeat([1.0, 0.0], 50))
    np.testing.assert_allclose(logistic.predict(found, features), np.repeat([1.0, 0.0], 50), atol=1e-3)
