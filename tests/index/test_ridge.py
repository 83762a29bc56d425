import time

import numpy as np
import pytest

from index import ridge
from index.ridge import Doubles, regress
from index.types import Floats

GROUPS = np.array([0, 1, 1, 2])


def drawn(seed: int, count: int, slope: tuple[float, ...], noise: float = 0.3) -> tuple[Doubles, Floats]:
    """Four terms far from mean 0, and 1 + slope · terms with noise."""
    rng = np.random.default_rng(seed)
    terms = rng.normal(size=(count, 4)) + np.array([0, 1, -2, 5])
    return terms, (1 + terms @ np.array(slope) + noise * rng.normal(size=count)).astype(np.float32)


def held(penalty: float) -> object:
    """In place of the choice that the data would make."""

    def inverse(x: Doubles, *_: object) -> Doubles:
        found: Doubles = np.linalg.inv(x.T @ x + penalty * np.eye(x.shape[1])).astype(np.float64)
        return found

    return inverse


@pytest.mark.parametrize("penalty", [0.5, 30.0])
def test_leave_one_out_is_what_refitting_without_the_row_predicts(
    monkeypatch: pytest.MonkeyPatch, penalty: float
) -> None:
    monkeypatch.setattr(ridge, "_shrunken_inverse", held(penalty))
    terms, target = drawn(1, 60, (0.5, 0, 0.2, -0.1))
    everything = np.ones(60, bool)
    _, left_out = regress(terms, GROUPS, target, everything)
    refitted = [regress(terms, GROUPS, target, np.arange(60) != row)[1][row] for row in range(60)]
    np.testing.assert_allclose(left_out, refitted, atol=1e-9)


def test_leave_one_out_is_near_refitting_also_where_the_choice_is_made_anew() -> None:
    terms, target = drawn(1, 200, (0.5, 0, 0.2, -0.1))
    _, left_out = regress(terms, GROUPS, target, np.ones(200, bool))
    refitted = [regress(terms, GROUPS, target, np.arange(200) != row)[1][row] for row in range(200)]
    np.testing.assert_allclose(left_out, refitted, atol=5e-3)


def test_a_line_is_found_and_continued() -> None:
    """Rows that are not known are predicted by the coefficients."""
    terms, target = drawn(2, 400, (0.5, 0, 0.2, -0.1), noise=0)
    known = np.arange(400) < 300
    target[~known] = np.nan
    coefficients, predicted = regress(terms, GROUPS, target, known)
    np.testing.assert_allclose(coefficients, [1, 0.5, 0, 0.2, -0.1], atol=2e-3)
    np.testing.assert_allclose(predicted[~known], coefficients[0] + terms[~known] @ coefficients[1:], atol=1e-12)


def test_where_terms_tell_nothing_their_coefficients_shrink_to_nothing() -> None:
    """Nothing held back, a slope would stray by 1 / √300, and 5 coefficients cost 5 / 300 of the variance twice over:
    once where they were found, once more where they were not."""
    slopes, excess = [], []
    for seed in range(20):
        terms, _ = drawn(seed, 300, (0, 0, 0, 0))
        target = np.random.default_rng(1000 + seed).normal(size=300).astype(np.float32)
        coefficients, left_out = regress(terms, GROUPS, target, np.ones(300, bool))
        slopes.append(coefficients[1:])
        excess.append(((left_out - target) ** 2).mean() / target.var() - 1)
    assert np.sqrt(np.square(slopes).mean()) < 0.3 / np.sqrt(300)
    assert 0 < np.mean(excess) < 0.02


def test_a_group_that_tells_is_held_back_less_than_one_that_does_not() -> None:
    rng = np.random.default_rng(3)
    terms = rng.normal(size=(400, 21))
    target = (0.3 * terms[:, 0] + rng.normal(size=400)).astype(np.float32)
    groups = np.array([0] + [1] * 20)
    coefficients, _ = regress(terms, groups, target, np.ones(400, bool))
    free = np.linalg.lstsq(terms - terms.mean(axis=0), target - target.mean(), rcond=None)[0]
    kept = coefficients[1:] / free
    assert kept[0] > 0.8
    assert np.median(kept[1:]) < 0.4


@pytest.mark.parametrize("value", [0.0, 1.0, -0.25])
def test_a_target_that_never_changes_is_predicted_as_it_is(value: float) -> None:
    terms, _ = drawn(4, 50, (0, 0, 0, 0))
    coefficients, left_out = regress(terms, GROUPS, np.full(50, value, np.float32), np.ones(50, bool))
    np.testing.assert_allclose(coefficients, [value, 0, 0, 0, 0], atol=1e-12)
    np.testing.assert_allclose(left_out, value, atol=1e-12)


def test_terms_that_say_the_same_share_its_weight() -> None:
    terms, target = drawn(5, 100, (0.5, 0, 0, 0))
    twins = np.column_stack([terms[:, 0], terms[:, 0], np.zeros(100)])
    coefficients, _ = regress(twins, np.array([0, 0, 0]), target, np.ones(100, bool))
    np.testing.assert_allclose(coefficients[1:], [coefficients[1], coefficients[1], 0], atol=1e-6)
    assert 2 * coefficients[1] == pytest.approx(0.5, abs=0.1)


def test_units_of_the_target_only_scale_what_is_predicted() -> None:
    terms, target = drawn(6, 100, (0.5, 0.1, 0, 0))
    once, _ = regress(terms, GROUPS, target, np.ones(100, bool))
    twice, _ = regress(terms, GROUPS, 2 * target, np.ones(100, bool))
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-6)


def test_it_is_quick_enough_for_a_whole_fleet() -> None:
    """28 models on 3,000 examples within seconds; here a tenth of them."""
    rng = np.random.default_rng(7)
    terms, groups = rng.normal(size=(3000, 15)), np.array([0] + [1] * 2 + [2] * 12)
    target = (0.1 * terms[:, 0] + rng.normal(size=3000)).astype(np.float32)
    started = time.perf_counter()
    for _ in range(3):
        regress(terms, groups, target, np.ones(3000, bool))
    assert time.perf_counter() - started < 0.5
