"""Figures of the quality benchmark that a person can compute."""

from dataclasses import replace

import numpy as np
import pytest

from index.dial import FLAT, Z, calibrate
from tests.bench.quality.dial import ABSOLUTE, Kept, quality, spend
from tests.bench.quality.reliability import Decisions, decisions, reliability
from tests.bench.quality.report import Aim, Estimate, Part, Table, as_json, as_text, over
from tests.bench.quality.runs import Asked
from tests.bench.quality.signals import fires, separation
from tests.bench.quality.unseen import over_random

COST = np.array([1.0, 10.0])


def asked() -> Asked:
    """The cheap model is predicted to be, and is, right on the first two of four prompts; the dear one on all."""
    vote = np.array([[0.9, 1.0], [0.9, 1.0], [0.1, 1.0], [0.1, 1.0]], np.float32)
    outcomes = np.array([[1, 1], [1, 1], [0, 1], [0, 1]], np.float32)
    return Asked(calibrate(vote, outcomes, COST), COST, outcomes, vote, vote)


def test_decisions_are_binned_by_confidence() -> None:
    found = reliability(Decisions(np.array([0.05, 0.95, 0.97, 1.0]), np.array([0.0, 1.0, 1.0, 0.0])))
    assert found.count.tolist() == [1, 0, 0, 0, 0, 0, 0, 0, 0, 3]
    assert (found.confidence[0], found.right[0]) == (0.05, 0.0)
    assert found.confidence[9] == pytest.approx(2.92 / 3)
    assert found.right[9] == pytest.approx(2 / 3)
    assert np.isnan(found.right[1:9]).all()


def test_the_expected_calibration_error_weighs_bins_by_their_decisions() -> None:
    found = reliability(Decisions(np.array([0.05, 0.95, 0.97, 1.0]), np.array([0.0, 1.0, 1.0, 0.0])))
    assert found.error == pytest.approx((1 * 0.05 + 3 * (2.92 / 3 - 2 / 3)) / 4)


def test_a_decision_has_the_confidence_and_the_outcome_of_the_model_that_was_chosen() -> None:
    found = decisions([asked()], [0, 10])
    assert found.confidence.tolist() == pytest.approx([1, 1, 1, 1, 0.9, 0.9, 0.1, 0.1])
    assert found.right.tolist() == [1, 1, 1, 1, 1, 1, 0, 0]


def test_the_plain_votes_decisions_are_its_own() -> None:
    one = asked()
    found = decisions([replace(one, plain=one.vote / 2)], [10], plain=True)
    assert found.confidence.tolist() == pytest.approx([0.45, 0.45, 0.05, 0.05])


def test_the_dial_is_read_where_it_promises_and_where_it_delivers() -> None:
    one = asked()
    assert quality(one).delivered[[0, 5, 10]].tolist() == [1.0, 1.0, 0.5]
    assert spend(one).delivered[[0, 5, 10]].tolist() == [10.0, 5.5, 1.0]
    assert quality(one).promised.tolist() == list(one.curve.quality)
    assert spend(one).promised.tolist() == list(one.curve.spend)
    assert spend(one).delivered_margin[[0, 10]].tolist() == [0.0, 0.0]
    spread = np.std([1, 1, 10, 10], ddof=1)
    assert spend(one).delivered_margin[5] == pytest.approx(Z * spread / 2)


def test_an_interval_covers_what_lies_within_it() -> None:
    kept = Kept(np.array([0.5, 0.5]), np.array([0.03, 0.03]), np.array([0.53, 0.54]), np.array([0.0, 0.04]))
    assert kept.covered() == 0.5
    assert kept.covered_allowing() == 1.0


def test_luck_is_what_sampling_alone_would_put_between_promise_and_delivery() -> None:
    kept = Kept(np.zeros(1), np.array([3 * Z]), np.zeros(1), np.array([4 * Z]))
    assert kept.luck() == pytest.approx(5 * ABSOLUTE)
    draws = np.abs(np.random.default_rng(0).normal(size=100_000)).mean()
    assert pytest.approx(draws, rel=0.01) == ABSOLUTE


def test_separation_is_the_share_of_pairs_in_their_order_and_half_of_the_ties() -> None:
    assert separation(np.array([0.5, 0.9]), np.array([0.1, 0.5, 0.7])) == (1.5 + 3) / 6


def test_a_signal_fires_below_a_quantile_of_the_indexs_own() -> None:
    own = np.arange(101) / 100
    assert fires(own, np.array([0.04, 0.05, 0.9, 0.01]), 0.05) == 0.5


def test_routing_is_compared_with_a_lot_that_spends_as_much() -> None:
    outcomes = np.array([[1, 1], [1, 1], [0, 1], [0, 1]], np.float32)
    assert over_random(outcomes, COST, np.array([0, 0, 1, 1])) == pytest.approx((5.5, 1.0, 0.25))
    assert over_random(outcomes, COST, np.array([1, 1, 0, 0])) == pytest.approx((5.5, 0.5, -0.25))


def test_a_mean_has_a_standard_error_from_two_splits_on() -> None:
    assert over([1.0, 3.0]) == Estimate(2.0, 1.0)
    assert over([1.0]) == Estimate(1.0, None)


def test_a_curve_of_nothing_delivers_all_the_same() -> None:
    assert quality(replace(asked(), curve=FLAT)).delivered[10] == 0.5


def test_a_part_is_printed_as_markdown_with_its_aims() -> None:
    table = Table("Title", ("a", "b"), (("one", Estimate(0.5, 0.01)), ("two", 1234), ("three", float("nan"))), "Note.")
    part = Part("Part", (table,), (Aim("much", 0.4, 0.5), Aim("little", 0.4, 0.5, at_least=False)))
    assert as_text(part).splitlines() == [
        *("## Part", "", "### Title", "", "Note.", ""),
        *("| a | b |", "| --- | --- |", "| one | 0.500 ±0.010 |", "| two | 1,234 |", "| three | - |", ""),
        "- MISSED: much: 0.4000, aim at least 0.5",
        "- met: little: 0.4000, aim at most 0.5",
    ]
    assert as_json(part) == {
        "title": "Part",
        "tables": [
            {
                "title": "Title",
                "note": "Note.",
                "rows": [
                    {"a": "one", "b": {"mean": 0.5, "standard_error": 0.01}},
                    {"a": "two", "b": 1234},
                    {"a": "three", "b": None},
                ],
            }
        ],
        "aims": [
            {"what": "much", "measured": 0.4, "bound": 0.5, "at_least": True, "met": False},
            {"what": "little", "measured": 0.4, "bound": 0.5, "at_least": False, "met": True},
        ],
    }
