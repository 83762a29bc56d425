"""Every measure on numbers that a person can check."""

import numpy as np
import pytest

from scripts.evaluation import metrics
from scripts.evaluation.curves import Settings, hull
from scripts.evaluation.metrics import Calls, Single

WEAK = np.array([0.0] * 5 + [1.0] * 5)
STRONG = np.ones(10)
"""The strong model is right on all ten, the weak one on the last five."""
NEED = np.arange(10, 0, -1.0)
"""A score that knows it."""


def points(spend: list[float], quality: list[float], dearest: list[float] | None = None) -> Settings:
    nothing = np.zeros(len(spend))
    return Settings(nothing, np.array(spend), np.array(quality), np.array(dearest or nothing), nothing)


def test_calls_go_from_the_weak_model_alone_to_the_strong_one_alone() -> None:
    found = metrics.calls(NEED, WEAK, STRONG)
    # The quantiles of 1 … 10 are 1, 1.9, 2.8 … 9.1 and 10, at the last of which none is sent.
    tenths = [share / 10 for share in range(1, 11)]
    np.testing.assert_allclose(found.share, [0, 0, *tenths, 1])
    np.testing.assert_allclose(found.quality, [0.5, 0.5, *(min(1, 0.5 + share) for share in tenths), 1])


def test_a_router_that_knows_gains_all_by_half_of_the_calls() -> None:
    curve = metrics.calls(NEED, WEAK, STRONG)
    # Its area is that of .5 to 1 over the first half, .375, and of 1 over the second, .5: (.875 − .5) / .5
    assert metrics.apgr(curve) == pytest.approx(0.75)
    assert metrics.cpt(curve, 50) == pytest.approx(0.25)
    assert metrics.cpt(curve, 80) == pytest.approx(0.4)
    assert metrics.cpt(curve, 95) == pytest.approx(0.475)  # between two thresholds


def test_a_router_that_has_it_backwards_gains_nothing_before_half_of_the_calls() -> None:
    curve = metrics.calls(-NEED, WEAK, STRONG)
    assert metrics.apgr(curve) == pytest.approx(0.25)
    assert metrics.cpt(curve, 50) == pytest.approx(0.75)


def test_equal_scores_are_sent_together() -> None:
    found = metrics.calls(np.zeros(10), WEAK, STRONG)
    assert set(found.share) == {0.0, 1.0}
    assert metrics.apgr(found) == pytest.approx(0.5)  # as at random


def test_without_a_gap_there_is_nothing_to_recover() -> None:
    curve = metrics.calls(NEED, STRONG, WEAK)
    assert (metrics.apgr(curve), metrics.cpt(curve, 50)) == (None, None)


def test_a_threshold_that_the_weak_model_reaches_needs_no_calls() -> None:
    assert metrics.cpt(Calls(np.array([0.0, 1.0]), np.array([0.2, 0.4])), 0) == 0.0


def test_the_best_single_model_is_of_equals_the_cheapest() -> None:
    assert metrics.best_single(np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])) == 1


def test_aiq_is_the_mean_height_of_the_hull_over_all_that_can_be_spent() -> None:
    envelope = hull(np.array([1.0, 2.0]), np.array([0.4, 0.8]))
    # .6 on average from 1 to 2, then .8 from 2 to 5
    assert metrics.aiq(envelope, 1.0, 5.0) == pytest.approx((0.6 + 3 * 0.8) / 4)
    assert metrics.aiq(envelope, 0.5, 5.0) is None  # half a dollar buys nothing there


BEST = Single(cost=10.0, quality=0.8)


def test_a_saving_is_read_at_the_cheapest_setting_that_is_as_good_as_the_best_single_model() -> None:
    found = points([10, 6, 5, 1], [0.9, 0.82, 0.7, 0.5])
    assert metrics.saving_at_best(found, BEST) == pytest.approx(0.4)
    # 15 of 16 requests at the setting that spends 6, and one at that which spends 1: .82 − .32/16 = .8
    assert metrics.mixed_saving_at_best(hull(found.spend, found.quality), BEST) == pytest.approx(1 - (6 - 5 / 16) / 10)


@pytest.mark.parametrize("found", [points([9, 1], [0.79, 0.5]), points([11, 1], [0.85, 0.5])])
def test_nothing_is_saved_where_the_best_single_model_is_not_reached_for_less(found: Settings) -> None:
    assert metrics.saving_at_best(found, BEST) == 0.0
    assert metrics.saving_at_best(points([5], [0.9]), Single(0.0, 0.8)) == 0.0  # it is free


def test_a_mix_may_save_where_no_setting_does() -> None:
    envelope = hull(np.array([11.0, 1.0]), np.array([0.85, 0.5]))
    assert metrics.mixed_saving_at_best(envelope, BEST) == pytest.approx(1 - (1 + 10 * 0.3 / 0.35) / 10)
    short = hull(np.array([9.0, 1.0]), np.array([0.79, 0.5]))
    assert metrics.mixed_saving_at_best(short, BEST) == 0.0


def test_quality_is_read_at_shares_of_the_best_single_models_cost() -> None:
    envelope = hull(np.array([2.0, 6.0]), np.array([0.4, 0.8]))
    found = metrics.quality_at_savings(envelope, BEST)
    assert list(found) == ["10", "20", "30", "40", "50", "60", "70", "80", "90"]
    assert [found[saving] for saving in ("10", "40", "50", "80", "90")] == [
        *(0.8, 0.8, pytest.approx(0.7), pytest.approx(0.4)),
        None,
    ]


def test_collapse_is_read_at_the_setting_that_spends_most_of_the_budget() -> None:
    found = points([10, 5, 2], [0.9, 0.8, 0.5], [1.0, 0.4, 0.1])
    shares = metrics.dearest_at_budgets(found, 10.0)
    assert list(shares.values()) == [None, 0.1, 0.1, 0.1, 0.4, 0.4, 0.4, 0.4, 0.4, 1.0]
