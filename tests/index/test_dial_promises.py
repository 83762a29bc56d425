"""What the curve promises, how far that may be off, and how a floor or a ceiling is read from it."""

import math
from dataclasses import astuple
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from index.dial import COST_TIERS, FLAT, Curve, Promise, Single, calibrate
from index.types import Floats

NAN = float("nan")
SPEND = (10.0, 9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.5, 1.0)
QUALITY = (0.90, 0.92, 0.91, 0.90, 0.89, 0.88, 0.80, 0.70, 0.60, 0.55, 0.50)


def floats(*rows: object) -> Floats:
    return np.array(rows, np.float32)


def single(quality: float, cost: float = 1, measured: int = 100) -> Single:
    return Single(cost, quality, 0.01, measured)


def curve_of(quality: tuple[float, ...] = QUALITY, singles: tuple[Single, ...] = ()) -> Curve:
    """Straight lines between these whole settings."""
    tenths = np.arange(101) / 10
    lines = (np.interp(tenths, range(11), values).tolist() for values in (SPEND, quality))
    promises = tuple(Promise(spend, 0.1, worth, 0.02) for spend, worth in zip(*lines, strict=True))
    return Curve((0.0,) * 11, promises, singles, 100)


CURVE = curve_of()


def drawn(n: int, m: int, seed: int) -> tuple[Floats, Floats, NDArray[Any]]:
    """Votes that are noisy, outcomes that follow what the votes are a noisy sight of."""
    rng = np.random.default_rng(seed)
    chance = np.sort(rng.random((n, m)), axis=1)
    votes = np.clip(chance + rng.normal(0, 0.1, (n, m)), 0, 1)
    outcomes = rng.random((n, m)) < chance
    return votes.astype(np.float32), outcomes.astype(np.float32), np.geomspace(1e-4, 1e-2, m)


def test_a_promise_is_the_mean_and_what_sampling_may_add_to_it() -> None:
    """One model at $3 that did one of four examples well; Agresti and Coull count 3 of 8."""
    curve = calibrate(floats([0.5], [0.5], [0.5], [0.5]), floats([1], [0], [0], [0]), floats(3))
    margin = 1.96 * math.sqrt(3 / 8 * 5 / 8 / 8)
    assert astuple(curve.promise(5)) == pytest.approx((3.0, 0.0, 0.25, margin))
    assert [astuple(one) for one in curve.singles] == [pytest.approx((3.0, 0.25, margin, 4))]


def test_the_margin_of_spend_is_that_of_a_mean() -> None:
    """Two of four examples on the $1 model and two on the $5 model: sd √(16/3), over √4."""
    votes = floats([0.6, 0.5], [0.7, 0.5], [0.8, 0.5], [0.9, 0.5])
    curve = calibrate(votes, floats(*[[1, 0]] * 4), floats(5, 1))
    promise = curve.promise(5)
    assert [promise.spend, promise.spend_margin] == pytest.approx([3.0, 1.96 * math.sqrt(16 / 3) / 2])


def test_one_example_says_nothing_of_the_spread() -> None:
    promise = calibrate(floats([0.5, 0.9]), floats([0, 1]), floats(1, 5)).promise(0)
    assert (promise.spend, promise.spend_margin, promise.quality) == (5.0, math.inf, 1.0)
    assert promise.quality_margin == pytest.approx(1.96 * math.sqrt(3 / 5 * 2 / 5 / 5))


def test_what_is_not_measured_is_not_promised() -> None:
    curve = calibrate(floats([0.9, 0.1], [0.9, 0.1]), floats([1, NAN], [0, NAN]), floats(2, 1))
    cheapest, unknown = curve.promise(10), curve.singles[1]
    assert (cheapest.spend, math.isnan(cheapest.quality), cheapest.quality_margin) == (1.0, True, math.inf)
    assert (unknown.cost, math.isnan(unknown.quality), unknown.quality_margin, unknown.measured) == (
        *(1.0, True, math.inf, 0),
    )
    assert (curve.dial_for_quality(0.5), curve.dial_for_quality(0.51)) == (0.9, 0.0)  # at dial 1 both go over


def test_singles_keep_the_order_of_the_candidates() -> None:
    curve = calibrate(floats([0.9, 0.1, 0.5]), floats([1, 0, 0.5]), floats(5, 1, 3))
    assert [(one.cost, one.quality, one.measured) for one in curve.singles] == [(5, 1, 1), (1, 0, 1), (3, 0.5, 1)]


def test_the_ends_are_what_the_best_vote_and_the_cheapest_model_give() -> None:
    votes, outcomes, cost = drawn(400, 3, seed=1)
    curve = calibrate(votes, outcomes, cost)
    best = 2 - votes[:, ::-1].argmax(axis=1)  # of equals the dearer
    assert curve.promise(0).spend == pytest.approx(cost[best].mean())
    assert curve.promise(0).quality == pytest.approx(outcomes[np.arange(400), best].mean())
    cheapest, last = curve.singles[0], curve.promise(10)
    assert [last.spend, last.spend_margin] == pytest.approx([1e-4, 0], abs=1e-12)
    assert (last.quality, last.quality_margin) == (cheapest.quality, cheapest.quality_margin)


@pytest.mark.parametrize("dial", [0.1, 0.3, 2.5, 7, 9.1, 9.9, 10])
def test_a_setting_between_is_promised_what_its_own_rate_gives(dial: float) -> None:
    """Not what lies between its neighbours: λ may rise a hundredfold from one whole setting to the next."""
    votes, outcomes, cost = drawn(500, 4, seed=2)
    curve = calibrate(votes, outcomes, cost)
    pick = (votes - curve.rate(dial) * cost).argmax(axis=1)
    assert curve.promise(dial).spend == pytest.approx(cost[pick].mean())
    assert curve.promise(dial).quality == pytest.approx(outcomes[np.arange(500), pick].mean())


def test_whole_settings_are_every_tenth_promise() -> None:
    curve = calibrate(*drawn(300, 3, seed=3))
    assert curve.spend == tuple(curve.promise(dial).spend for dial in range(11))
    assert curve.quality == tuple(curve.promise(dial).quality for dial in range(11))
    assert (len(curve.promises), len(curve.exchange)) == (101, 11)


@pytest.mark.parametrize(
    ("least", "dial"),
    [(0, 10), (0.5, 10), (0.51, 9.8), (0.6, 8), (0.75, 6.5), (0.9, 3), (0.91, 2), (0.92, 1), (0.93, 0), (1, 0)],
)
def test_a_floor_takes_the_cheapest_setting_that_promises_it_else_the_best(least: float, dial: float) -> None:
    assert CURVE.dial_for_quality(least) == pytest.approx(dial)


@pytest.mark.parametrize(
    ("most", "dial"), [(100, 0), (10, 0), (9.5, 0.5), (9, 1), (3, 7), (2.3, 7.7), (1.25, 9.5), (1, 10), (0.5, 10)]
)
def test_a_ceiling_takes_the_best_setting_that_keeps_under_it_else_the_cheapest(most: float, dial: float) -> None:
    assert CURVE.dial_for_spend(most) == pytest.approx(dial)


def test_a_price_that_is_asked_for_exactly_is_kept_to() -> None:
    """The mean of a hundred times 1e-4 is a little more than 1e-4 in floating point."""
    dollars: NDArray[Any] = np.array([1e-5, 1e-4])
    curve = calibrate(floats(*[[0.5, 0.9]] * 100), floats(*[[0, 1]] * 100), dollars)
    assert curve.dial_for_spend(1e-4) == 0


def test_without_examples_the_promises_mean_nothing() -> None:
    assert (FLAT.examples, FLAT.best_single(), FLAT.spend, FLAT.quality) == (0, None, (0.0,) * 11, (0.0,) * 11)


@pytest.mark.parametrize(
    ("singles", "best"),
    [
        ((single(0.5), single(0.9), single(0.8)), 1),
        ((single(0.9, cost=2), single(0.9, cost=1)), 1),
        ((single(0.5), single(1.0, measured=49)), 0),
        ((single(0.5), single(1.0, measured=50)), 1),
        ((single(NAN, measured=0), single(0.1)), 1),
        ((single(NAN, measured=0),), None),
        ((), None),
    ],
)
def test_the_best_single_model_is_the_best_of_those_that_were_measured_often(
    singles: tuple[Single, ...], best: int | None
) -> None:
    assert curve_of(singles=singles).best_single() == best


def test_the_cost_tiers_are_the_middles_of_the_fifths_of_what_can_be_spent() -> None:
    votes, outcomes, cost = drawn(1000, 2, seed=4)
    curve = calibrate(votes, outcomes, cost)
    low, high = curve.spend[10], curve.spend[0]
    shares = {tier: (curve.promise(dial).spend - low) / (high - low) for tier, dial in COST_TIERS.items()}
    assert shares == {
        tier: pytest.approx(share, abs=0.01)
        for tier, share in {"low": 0.1, "medium": 0.3, "high": 0.5, "xhigh": 0.7, "max": 0.9}.items()
    }


def calibrated(votes: list[list[int]], outcomes: list[list[float]], cost: list[int]) -> Curve:
    """Votes in hundredths, costs in hundred-thousandths."""
    dollars: NDArray[Any] = np.array(cost) / 1e5
    return calibrate(floats(*votes) / np.float32(100), floats(*outcomes), dollars)


measured = st.integers(2, 25).flatmap(
    lambda n: st.integers(1, 4).flatmap(
        lambda m: st.tuples(
            st.lists(st.lists(st.integers(0, 100), min_size=m, max_size=m), min_size=n, max_size=n),
            st.lists(st.lists(st.sampled_from([0.0, 0.5, 1.0, NAN]), min_size=m, max_size=m), min_size=n, max_size=n),
            st.lists(st.integers(0, 1000), min_size=m, max_size=m),
        )
    )
)


@settings(max_examples=50)
@given(measured, st.lists(st.floats(0, 1), min_size=2, max_size=6))
def test_raising_a_floor_never_turns_the_dial_to_the_cheaper_and_a_promise_that_can_be_made_is_kept(
    rows: tuple[list[list[int]], list[list[float]], list[int]], floors: list[float]
) -> None:
    curve = calibrated(*rows)
    dials = [curve.dial_for_quality(floor) for floor in sorted(floors)]
    assert dials == sorted(dials, reverse=True)
    best = np.nanmax([NAN, -1, *(promise.quality for promise in curve.promises)])
    assert all(
        curve.promise(dial).quality >= floor - 1e-8
        for dial, floor in zip(dials, sorted(floors), strict=True)
        if floor <= best
    )


@settings(max_examples=50)
@given(measured, st.lists(st.floats(0, 0.02), min_size=2, max_size=6))
def test_raising_a_ceiling_never_turns_the_dial_to_the_cheaper_and_it_is_kept_to_where_it_can_be(
    rows: tuple[list[list[int]], list[list[float]], list[int]], ceilings: list[float]
) -> None:
    curve = calibrated(*rows)
    dials = [curve.dial_for_spend(ceiling) for ceiling in sorted(ceilings)]
    assert dials == sorted(dials, reverse=True)
    for dial, ceiling in zip(dials, sorted(ceilings), strict=True):
        assert curve.promise(dial).spend <= max(ceiling, curve.promise(10).spend) + 1e-8
        assert dial == 0 or curve.promise(dial - 0.1).spend > ceiling


@settings(max_examples=50)
@given(measured)
def test_spend_falls_with_every_tenth_of_the_dial(
    rows: tuple[list[list[int]], list[list[float]], list[int]],
) -> None:
    curve = calibrated(*rows)
    spend = [promise.spend for promise in curve.promises]
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(spend))


def test_the_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """The truth is what the same λ gives on many times as many prompts drawn the same way."""
    everyone = drawn(20_000, 3, seed=5)
    rng = np.random.default_rng(6)
    covered = [_covered(everyone, rng.choice(20_000, 300)) for _ in range(100)]
    spend, quality = np.mean(covered, axis=0).T  # each [11]
    assert 0.93 <= quality.mean() <= 0.98
    assert 0.93 <= spend[:10].mean() <= 0.98
    assert min(*quality, *spend[:10]) > 0.88


def _covered(everyone: tuple[Floats, Floats, NDArray[Any]], drawn: NDArray[np.int64]) -> NDArray[np.bool_]:
    """[11, 2]: whether the interval of each whole setting holds the truth of spend and of quality."""
    votes, outcomes, cost = everyone
    curve = calibrate(votes[drawn], outcomes[drawn], cost)
    held = []
    for dial in range(11):
        pick = (votes - curve.rate(dial) * cost).argmax(axis=1)
        promise = curve.promise(dial)
        held.append(
            (
                abs(cost[pick].mean() - promise.spend) <= promise.spend_margin,
                abs(outcomes[np.arange(len(pick)), pick].mean() - promise.quality) <= promise.quality_margin,
            )
        )
    return np.array(held)
