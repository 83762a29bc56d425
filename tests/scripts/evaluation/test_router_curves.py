"""What routing by predicted quality spends and gets."""

import numpy as np
import pytest

from scripts.evaluation.curves import choose, exchanges, hull, settings, sweep

COST = np.array([1.0, 3.0, 9.0])
PREDICTED = np.array([[0.5, 0.9, 1.0], [0.2, 0.2, np.nan], [np.nan, 0.4, 0.9]])


@pytest.mark.parametrize(
    ("exchange", "chosen"),
    [
        (0.0, [2, 0, 2]),  # quality alone; of equals the cheaper, and nothing of which nothing is known
        (0.05, [1, 0, 2]),  # .45 .75 .55 | .15 .05 | .25 .45
        (0.1, [1, 0, 1]),  # .4 .6 .1 | .1 −.1 | .1 0
        (0.5, [0, 0, 1]),  # 0 −.6 … | … | −1.1 −3.6
    ],
)
def test_the_dearer_model_is_chosen_where_it_is_worth_its_price(exchange: float, chosen: list[int]) -> None:
    assert choose(PREDICTED, COST, exchange).tolist() == chosen


def test_settings_are_measured_on_outcomes() -> None:
    outcomes = np.array([[1.0, 1.0, 1.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    always_dear, by_turns = np.array([2, 2, 2, 2]), np.array([0, 2, 0, 1])
    found = settings([always_dear, by_turns], np.array([0.0, 0.1]), outcomes, COST)
    assert found.exchange.tolist() == [0.0, 0.1]
    assert found.spend.tolist() == [9.0, 3.5]
    assert found.quality.tolist() == [0.5, 0.75]
    assert found.dearest.tolist() == [1.0, 0.25]
    assert found.cheapest_correct.tolist() == [0.25, 0.75]  # nobody was right on the third


def test_a_sweep_goes_from_quality_alone_to_price_alone_and_spends_ever_less() -> None:
    predicted = np.random.default_rng(0).random((50, 3))
    found = sweep(predicted, np.round(predicted), COST)
    assert found.exchange[0] == 0
    assert found.spend[0] == COST[predicted.argmax(axis=1)].mean()
    assert (found.spend[-1], found.dearest[-1]) == (1.0, 0.0)
    assert (np.diff(found.spend) <= 0).all()


def test_exchanges_depend_on_prices_alone() -> None:
    rates = exchanges(COST)
    np.testing.assert_allclose([rates[0], rates[1], rates[-1]], [0, 1e-4 / 8, 2 / 2])
    np.testing.assert_allclose(exchanges(COST / 1000), rates * 1000)


def test_a_hull_leaves_out_what_a_mix_of_others_betters() -> None:
    spend = np.array([4.0, 1.0, 2.0, 3.0, 5.0, 4.0])
    quality = np.array([0.8, 0.2, 0.3, 0.7, 0.75, 0.6])
    found = hull(spend, quality)
    assert (found.spend.tolist(), found.quality.tolist()) == ([1.0, 3.0, 4.0], [0.2, 0.7, 0.8])
    assert [found.at(place) for place in (0.9, 1.0, 2.0, 3.0, 9.0)] == [None, 0.2, pytest.approx(0.45), 0.7, 0.8]


def test_a_hull_of_one_point_is_flat() -> None:
    found = hull(np.array([2.0]), np.array([0.5]))
    assert (found.at(1.0), found.at(2.0), found.at(9.0)) == (None, 0.5, 0.5)
