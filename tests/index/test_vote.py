from math import e, log

import numpy as np
import pytest

from index.types import Floats
from index.vote import claim, predict, weigh

HALVING = log(4)
"""The β at which a neighbour half a cosine farther than the nearest weighs half as much."""


def floats(*rows: object) -> Floats:
    return np.array(rows, np.float32)


def test_the_nearest_weighs_1_and_the_others_fall_off_exponentially() -> None:
    np.testing.assert_allclose(weigh(floats(0.9, 0.8, 0.7), 10.0), [1, 1 / e, 1 / e**2], rtol=1e-5)
    np.testing.assert_allclose(weigh(floats(1.0, 0.5, 0.0), HALVING), [1, 0.5, 0.25], rtol=1e-6)


def test_only_distance_to_the_nearest_counts() -> None:
    np.testing.assert_allclose(weigh(floats(0.5, 0.25), 8.0), weigh(floats(0.25, 0.0), 8.0), rtol=1e-6)


def test_each_row_is_weighed_against_its_own_nearest() -> None:
    np.testing.assert_allclose(weigh(floats([1.0, 0.5], [0.5, -0.5]), HALVING), [[1, 0.5], [1, 0.25]], rtol=1e-6)


def test_a_vote_is_the_weighted_mean_shrunk_to_the_prior() -> None:
    """Neighbours weigh 1, 1/2, 1/4. Of the first model 1, 0 and nothing are known, of the second nothing, 1, 0."""
    quality, support = predict(
        weigh(floats(1.0, 0.5, 0.0), HALVING),
        floats([1, 0], [0, 1], [0, 0]),
        floats([1, 0], [1, 1], [0, 1]),
        floats(0.5, 0.2),
        kappa=1.0,
    )
    np.testing.assert_allclose(quality, [(1 + 0.5) / (1.5 + 1), (0.5 + 0.2) / (0.75 + 1)], rtol=1e-6)
    np.testing.assert_allclose(support, [1.5, 0.75], rtol=1e-6)


def test_an_unknown_outcome_is_not_a_0() -> None:
    arguments = (floats(1, 1), floats([1], [0]))
    known, _ = predict(*arguments, floats([1], [1]), floats(1), kappa=1)
    unknown, _ = predict(*arguments, floats([1], [0]), floats(1), kappa=1)
    np.testing.assert_allclose(known, [2 / 3], rtol=1e-6)
    np.testing.assert_array_equal(unknown, [1])


@pytest.mark.parametrize(("kappa", "quality"), [(0.0, 1.0), (1.0, 0.75), (3.0, 0.625), (1e9, 0.5)])
def test_kappa_is_how_many_neighbours_the_prior_is_worth(kappa: float, quality: float) -> None:
    predicted, _ = predict(floats(1), floats([1]), floats([1]), floats(0.5), kappa)
    np.testing.assert_allclose(predicted, [quality], rtol=1e-6)


def test_where_no_neighbour_knows_a_model_the_prior_speaks() -> None:
    quality, support = predict(floats(1, 0.5), floats([0], [0]), floats([0], [0]), floats(0.7), kappa=1.0)
    np.testing.assert_allclose(quality, [0.7], rtol=1e-6)
    np.testing.assert_array_equal(support, [0])


def test_a_model_of_which_nothing_is_known_is_nan_and_leaves_the_others_alone() -> None:
    quality, support = predict(floats(1), floats([1, 0]), floats([1, 0]), floats(0.5, np.nan), kappa=1.0)
    np.testing.assert_array_equal(quality, floats(0.75, np.nan))
    np.testing.assert_array_equal(support, [1, 0])


def test_many_votes_at_once_are_each_the_vote_alone() -> None:
    rng = np.random.default_rng(5)
    similarities = -np.sort(-rng.random((6, 9), np.float32), axis=1)
    known = (rng.random((6, 9, 3)) < 0.7).astype(np.float32)
    scores = rng.random((6, 9, 3), np.float32) * known
    prior, weights = floats(0.2, 0.5, 0.8), weigh(similarities, 10.0)
    together, support = predict(weights, scores, known, prior, 1.0)
    alone = [predict(weights[row], scores[row], known[row], prior, 1.0) for row in range(6)]
    np.testing.assert_allclose(together, [quality for quality, _ in alone], rtol=1e-6)
    np.testing.assert_allclose(support, [heard for _, heard in alone], rtol=1e-6)


def test_a_claim_is_the_share_of_the_whole_vote() -> None:
    """Of 1 + 1/2 + 1/4 the first claims for one model, the last for the other."""
    weights, claims = floats(1, 0.5, 0.25), floats([1, 0], [0, 0], [0, 1])
    np.testing.assert_allclose(claim(weights, claims), [1 / 1.75, 0.25 / 1.75], rtol=1e-6)
