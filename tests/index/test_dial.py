from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from index.dial import FLAT, Curve, calibrate, rank
from index.types import Floats

NAN = float("nan")
SETTINGS = range(11)
EXCHANGE = (0, 0.1, 0.2, 0.3, 0.4, 0.5, 1, 2, 4, 8, 16)
CURVE = replace(FLAT, exchange=EXCHANGE)


def floats(*rows: object) -> Floats:
    return np.array(rows, np.float32)


def costs(*dollars: float) -> NDArray[np.float64]:
    return np.array(dollars)


def at(dial: float, quality: Floats, cost: NDArray[np.float64], curve: Curve = CURVE) -> list[int]:
    return rank(quality.tolist(), cost.tolist(), dial, curve.rate(dial), [False] * len(cost))


def test_dial_0_ranks_by_quality_whatever_it_costs() -> None:
    assert at(0, floats(0.5, 0.9, 0.7), costs(0.1, 100, 1)) == [1, 2, 0]


def test_dial_10_ranks_by_cost_whatever_it_is_worth() -> None:
    assert at(10, floats(0.9, 0.1, 0.7), costs(3, 1, 2)) == [1, 2, 0]
    assert at(10, floats(0.9, 0.0), costs(1.0, 0.999), FLAT) == [1, 0]


def test_between_the_ends_a_dollar_has_to_buy_quality() -> None:
    """The dearer model is worth .4 more and costs $2 more, so it wins while λ is below .2."""
    quality, cost = floats(0.5, 0.9), costs(1, 3)
    assert [at(dial, quality, cost)[0] for dial in (0, 1, 1.99, 2.01, 3, 10)] == [1, 1, 1, 0, 0, 0]


@pytest.mark.parametrize("dial", [0.1, 2.5, 5, 10])
def test_equals_go_to_the_cheaper(dial: float) -> None:
    assert at(dial, floats(0.5, 0.5, 0.5), costs(3, 1, 2)) == [1, 2, 0]


def test_equals_go_to_the_dearer_at_dial_0() -> None:
    assert at(0, floats(0.5, 0.5, 0.5, 0.4), costs(3, 1, 2, 9)) == [0, 2, 1, 3]


def test_a_tie_of_quality_less_price_goes_to_the_cheaper() -> None:
    assert rank([1, 0.5], [2, 1], 5, 0.5, [False, False]) == [1, 0]


@pytest.mark.parametrize("dial", [0, 5, 9.5, 10])
def test_a_model_that_the_intent_belongs_to_comes_first_whatever_it_costs(dial: float) -> None:
    assert rank([0.9, 0.5, 0.7], [1, 100, 2], dial, CURVE.rate(dial), [False, True, False])[0] == 1


def test_equal_prices_go_to_the_better() -> None:
    assert at(10, floats(0.5, 0.9), costs(1, 1)) == at(5, floats(0.5, 0.9), costs(1, 1)) == [1, 0]


@pytest.mark.parametrize("dial", [0, 5, 10])
def test_a_model_of_unknown_quality_is_left_out(dial: float) -> None:
    assert sorted(at(dial, floats(0.5, NAN, 0.9), costs(2, 1, 3))) == [0, 2]
    assert at(dial, floats(NAN, NAN), costs(1, 2)) == []


def test_a_setting_in_between_has_a_rate_in_between() -> None:
    assert [CURVE.rate(dial) for dial in (0, 5, 5.5, 9.75, 10)] == [0, 0.5, 0.75, 14, 16]


models = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 1000).map(lambda score: score / 1000), st.just(NAN)),
        st.integers(0, 100_000).map(lambda millionths: millionths / 1e6),
    ),
    min_size=1,
    max_size=6,
)
dials = st.one_of(st.integers(0, 10), st.floats(0, 10))
rises = st.lists(st.one_of(st.just(0.0), st.floats(1e-3, 1e5)), min_size=10, max_size=10)


@given(models, dials, dials, rises)
@example([(0.5, 0.0), (1.0, 0.1)], 9.999, 10, [0.0] * 10)
def test_raising_the_dial_never_picks_a_dearer_model(
    models: list[tuple[float, float]], one: float, other: float, rises: list[float]
) -> None:
    curve = replace(FLAT, exchange=(0.0, *np.cumsum(rises).tolist()))
    quality, cost = floats(*(quality for quality, _ in models)), costs(*(cost for _, cost in models))
    low, high = (at(dial, quality, cost, curve)[:1] for dial in sorted((one, other)))
    assert len(low) == len(high) == min(1, np.count_nonzero(~np.isnan(quality)))
    assert bool(np.all(cost[high] <= cost[low]))


def synthetic(n: int, m: int, seed: int) -> tuple[Floats, Floats, Floats]:
    """Dearer models do better by a margin that varies; outcomes are drawn with the predicted chance."""
    rng = np.random.default_rng(seed)
    predicted = np.sort(rng.random((n, m)), axis=1).astype(np.float32)
    outcomes = (rng.random((n, m)) < predicted).astype(np.float32)
    return predicted, outcomes, np.geomspace(1e-4, 1e-2, m).astype(np.float32)


@pytest.mark.parametrize(("m", "seed"), [(2, 1), (3, 2), (5, 3)])
def test_spend_falls_linearly_from_the_best_to_the_cheapest(m: int, seed: int) -> None:
    predicted, outcomes, cost = synthetic(2000, m, seed)
    curve = calibrate(predicted, outcomes, cost)
    linear = np.linspace(cost[predicted.argmax(axis=1)].mean(), cost.min(), 11)
    one_example = (cost.max() - cost.min()) / 2000
    np.testing.assert_allclose(curve.spend, linear, atol=float(one_example) * 1.01)
    assert curve.exchange[0] == 0
    assert all(low < high for low, high in pairwise(curve.exchange))
    assert all(low > high for low, high in pairwise(curve.spend))
    assert curve.examples == 2000


def test_a_request_s_dial_spends_what_the_curve_says() -> None:
    predicted, outcomes, cost = synthetic(300, 3, seed=4)
    curve = calibrate(predicted, outcomes, cost)
    for dial in SETTINGS:
        picks = [at(dial, quality, cost.astype(np.float64), curve)[0] for quality in predicted]
        assert cost[picks].mean() == pytest.approx(curve.spend[dial], rel=1e-4)
        assert outcomes[np.arange(300), picks].mean() == pytest.approx(curve.quality[dial], rel=1e-4)


def test_the_curve_of_four_examples() -> None:
    """The dear model ($5) is thought better than the cheap one ($1) by .1, .2, .3 and .4, so an example goes over
    to the cheap one at λ = .025, .05, .075, .1. The line asks for at most 5, 4.6, 4.2, 3.8 … 1 dollars a request,
    and four examples can spend 5, 4, 3, 2 or 1. The dear model did all four well, the cheap one the first two."""
    predicted = floats([0.6, 0.5], [0.7, 0.5], [0.8, 0.5], [0.9, 0.5])
    outcomes = floats([1, 1], [1, 1], [1, 0], [1, 0])
    curve = calibrate(predicted, outcomes, floats(5, 1))
    assert list(curve.spend) == [5, 4, 4, 3, 3, 3, 2, 2, 1, 1, 1]
    assert list(curve.quality) == [1, 1, 1, 1, 1, 1, 0.75, 0.75, 0.5, 0.5, 0.5]
    rates = [0, *(0.025,) * 2, *(0.05,) * 3, *(0.075,) * 2, *(0.1,) * 3]
    assert curve.exchange == pytest.approx(rates, rel=1e-5)
    assert curve.examples == 4


def test_the_best_model_may_be_the_cheapest_and_then_the_dial_does_nothing() -> None:
    curve = calibrate(floats([0.9, 0.5], [0.8, 0.5]), floats([1, 0], [1, 0]), floats(1, 5))
    assert (curve.spend, curve.quality) == ((1,) * 11, (1,) * 11)


def test_equal_votes_spend_on_the_dearer_at_dial_0_alone() -> None:
    assert calibrate(floats([0.5, 0.5]), floats([1, 0]), floats(5, 1)).spend == (5, *[1] * 10)


def test_unknown_outcomes_do_not_count_as_0() -> None:
    curve = calibrate(floats([0.9, 0.1], [0.9, 0.1]), floats([1, NAN], [NAN, NAN]), floats(2, 1))
    assert curve.quality[0] == 1
    assert np.isnan(curve.quality[10])


def test_a_model_of_which_nothing_is_known_is_never_chosen() -> None:
    predicted = floats([0.5, NAN, 0.9], [0.5, NAN, 0.6])
    curve = calibrate(predicted, floats([0, NAN, 1], [1, NAN, 1]), floats(2, 1, 4))
    assert (curve.spend[0], curve.spend[10]) == (4, 2)
    assert (curve.quality[0], curve.quality[10]) == (1, 0.5)


def test_two_prices_that_differ_by_rounding_leave_the_curve_as_it_is() -> None:
    predicted, outcomes, _ = synthetic(500, 3, seed=6)
    with_noise = np.array([0.1 * 3, 0.3, 5.0])
    assert with_noise[0] != with_noise[1]
    plain = calibrate(predicted, outcomes, np.array([0.3, 0.3, 5.0]))
    curve = calibrate(predicted, outcomes, with_noise)
    assert curve.spend == pytest.approx(plain.spend)
    assert curve.exchange[:10] == pytest.approx(plain.exchange[:10], rel=1e-3)


@pytest.mark.parametrize(
    "predicted", [np.empty((0, 3)), np.empty((0, 0)), np.empty((5, 0)), np.full((4, 3), NAN)], ids=str
)
def test_where_there_is_nothing_to_go_by_only_the_ends_mean_something(predicted: NDArray[np.float64]) -> None:
    nothing = predicted.astype(np.float32)
    assert calibrate(nothing, nothing, np.ones(nothing.shape[1], np.float32)) == FLAT


def test_one_model_has_a_curve_too() -> None:
    curve = calibrate(floats([0.5], [0.7]), floats([1], [0]), floats(3))
    assert (curve.exchange, curve.spend, curve.quality, curve.examples) == ((0,) * 11, (3,) * 11, (0.5,) * 11, 2)


def test_models_of_one_price_have_a_curve_too() -> None:
    curve = calibrate(floats([0.5, 0.7]), floats([1, 0]), floats(3, 3))
    assert (curve.exchange, curve.spend, curve.quality, curve.examples) == ((0,) * 11, (3,) * 11, (0,) * 11, 1)
