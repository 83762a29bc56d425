from dataclasses import replace

import numpy as np
import pytest

from index.calibration import ENOUGH, FEW, PLAIN, TERMS, Bounds, Calibration, Scale, Votes, calibrate
from index.ridge import Doubles
from index.structure import NAMES
from index.types import Floats

NAN = float("nan")
SHAPE = len(NAMES)


def floats(*rows: object) -> Floats:
    return np.array(rows, np.float32)


def shaped(**numbers: float) -> Doubles:
    """One number for each structural name; 0 for those that are not given."""
    assert set(numbers) <= set(NAMES)
    return np.array([numbers.get(name, 0.0) for name in NAMES])


class Simulated:
    """n prompts and three models. How easy a prompt is hangs on what its neighbours know and on its length; neighbours
    understate it by half. They also know what each model does beside the rest, and understate that by a third."""

    MEAN = floats(0.4, 0.5, 0.6)

    def __init__(self, seed: int, count: int, signal: float = 1.0) -> None:
        rng = np.random.default_rng(seed)
        known, own = rng.uniform(-1, 1, (count, 1)), rng.uniform(-1, 1, (count, 3))
        structure = rng.uniform(-1, 1, (count, SHAPE))
        own -= own.mean(axis=1, keepdims=True)
        ease = signal * (0.2 * known + 0.1 * structure[:, :1])
        self.chance = self.MEAN + ease + signal * 0.1 * own
        voted = signal * 0.1 * known
        quality = self.MEAN + voted + signal * 0.07 * own
        self.votes = Votes(quality.astype(np.float32), voted[:, 0].astype(np.float32), structure.astype(np.float32))
        self.outcomes = (rng.random((count, 3)) < self.chance).astype(np.float32)

    def calibrated(self, outcomes: Floats | None = None) -> tuple[Calibration, Floats]:
        return fitted(self.votes, self.outcomes if outcomes is None else outcomes)


def known_mean(values: Floats, axis: int) -> Floats:
    """NaN where nothing is known."""
    known = ~np.isnan(values)
    count = np.where(known.any(axis=axis), known.sum(axis=axis), np.nan)
    mean: Floats = (np.where(known, values, 0).sum(axis=axis) / count).astype(np.float32)
    return mean


def fitted(votes: Votes, outcomes: Floats) -> tuple[Calibration, Floats]:
    mean = known_mean(outcomes, axis=0)
    found = calibrate(votes, outcomes, known_mean(outcomes - mean, axis=1), mean)
    assert found is not None
    return found


def by_hand() -> Calibration:
    """Two models; of structure only lines, that lie 2 around 3, and questions say anything."""
    middle, spread = shaped(lines=3), 1 + shaped(lines=1)
    return Calibration(
        Scale(middle, spread),
        ease_vote=Scale(np.array(0.1), np.array(0.2)),
        ease=np.array([0.05, 0.1, *shaped(lines=-0.02)]),
        level=Scale(np.array(0.03), np.array(0.04)),
        bend=Scale(np.array(1.0), np.array(2.0)),
        mean=np.array([0.4, 0.6]),
        own=Scale(np.zeros(2), np.array([0.1, 0.1])),
        coefficients=np.array([[0.01, 0.02, 0.03, 0.04, *shaped(lines=0.05)], [0, 0.1, 0, 0, *shaped(questions=-0.2)]]),
        bounds=Bounds(0.1, 0.9),
    )


def asked(quality: tuple[float, float] = (0.75, 0.65), ease: float = 0.3, **structure: float) -> Votes:
    numbers = {"lines": 5.0, "questions": 2.0} | structure
    return Votes(floats(quality), floats(ease), shaped(**numbers).astype(np.float32)[None, :])


def test_a_quality_is_the_sum_of_its_terms_by_hand() -> None:
    """Neighbours' ease is one step, lines are one and questions two; ease is then .05 + .1 - .02, 2.5 steps up, whose
    square is 2.625 steps up. Beside mean and ease the first model's vote is half a step, the second's -2.5. Four fifths
    of all that are the fit, of .78 and .08; a fifth is the vote, .75 = .4 + .3 + .05 and .65 = .6 + .3 - .25."""
    terms = dict(zip(TERMS, by_hand().terms(asked()), strict=True))
    np.testing.assert_allclose(terms["mean"], [0.8 * 0.41 + 0.2 * 0.4, 0.6], rtol=1e-6)
    fitted_ease = 0.13 + 2.5 * 0.03 + 2.625 * 0.04
    np.testing.assert_allclose(terms["ease"], [[0.8 * fitted_ease + 0.2 * 0.3, 0.8 * 0.13 + 0.2 * 0.3]], rtol=1e-6)
    np.testing.assert_allclose(
        terms["neighbours"], [[0.8 * 0.5 * 0.02 + 0.2 * 0.05, 0.8 * -2.5 * 0.1 + 0.2 * -0.25]], rtol=1e-5
    )
    np.testing.assert_allclose(terms["structure"], [[0.8 * 0.05, 0.8 * 2 * -0.2]], rtol=1e-6)
    np.testing.assert_allclose(sum(terms.values()), [[0.8 * 0.78 + 0.2 * 0.75, 0.8 * 0.08 + 0.2 * 0.65]], rtol=1e-5)


def test_of_a_fit_a_tenth_of_what_lies_past_a_bound_counts() -> None:
    """The second model's .08 is .02 below the lower bound."""
    quality = by_hand().predict(asked())
    np.testing.assert_allclose(quality, [[0.8 * 0.78 + 0.2 * 0.75, 0.8 * 0.098 + 0.2 * 0.65]], rtol=1e-5)


def test_bounds_keep_the_order_and_0_to_1() -> None:
    kept = Bounds(0.1, 0.9)(np.array([-2, -0.1, 0.1, 0.5, 0.9, 1.1, 3]))
    np.testing.assert_allclose(kept, [0, 0.08, 0.1, 0.5, 0.9, 0.92, 1])


def test_past_four_steps_a_fitted_term_says_no_more() -> None:
    """Of a vote that lies nine thousand steps off, its plain share is left."""
    far, farther = asked(quality=(9, -9), questions=40), asked(quality=(99, -99), questions=400)
    for votes in (far, farther):
        _, _, neighbours, structure = by_hand().terms(votes)
        plain = PLAIN * (votes.quality - np.array([0.4, 0.6]) - 0.3)
        np.testing.assert_allclose(neighbours - plain, [[0.8 * 4 * 0.02, 0.8 * -4 * 0.1]], rtol=1e-5)
        np.testing.assert_allclose(structure, [[0.8 * 0.05, 0.8 * 4 * -0.2]], rtol=1e-6)


def test_structure_that_is_not_known_counts_as_average() -> None:
    unknown = replace(asked(), structure=np.full((1, SHAPE), NAN, np.float32))
    average = asked(lines=3, questions=0)
    np.testing.assert_array_equal(by_hand().predict(unknown), by_hand().predict(average))


def test_coefficients_have_names() -> None:
    first, second = by_hand().named(0), by_hand().named(1)
    none = dict.fromkeys(("constant", "neighbours", "ease", "ease_squared", *NAMES), 0.0)
    assert first == none | {"constant": 0.01, "neighbours": 0.02, "ease": 0.03, "ease_squared": 0.04, "lines": 0.05}
    assert second == none | {"neighbours": 0.1, "questions": -0.2}


def error(quality: Floats, chance: Doubles) -> float:
    """Of a prediction beside the chance that outcomes were drawn with: what a better one could still save."""
    return float(((quality - chance) ** 2).mean())


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_neighbours_understate_and_structure_adds_is_found(seed: int) -> None:
    """The vote is off by half of ease and a third of the rest. Left is what 16 coefficients from 2,000 outcomes of
    variance 1/4 must cost, .002 a model."""
    calibration, _ = Simulated(seed, 2000).calibrated()
    fresh = Simulated(seed + 100, 4000)
    assert error(fresh.votes.quality, fresh.chance) > 0.006
    assert error(calibration.predict(fresh.votes), fresh.chance) < 0.002


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_left_out_predictions_are_as_good_as_those_of_other_prompts(seed: int) -> None:
    simulated, fresh = Simulated(seed, 2000), Simulated(seed + 100, 20_000)
    calibration, left_out = simulated.calibrated()
    on_fresh = error(calibration.predict(fresh.votes), fresh.outcomes.astype(np.float64))
    on_own = error(calibration.predict(simulated.votes), simulated.outcomes.astype(np.float64))
    assert error(left_out, simulated.outcomes.astype(np.float64)) == pytest.approx(on_fresh, abs=0.006)
    assert on_own < error(left_out, simulated.outcomes.astype(np.float64))


def test_a_left_out_prediction_does_not_hang_on_the_outcome_left_out() -> None:
    """What an outcome that is turned round does to its own prediction, beside what it does to one fitted on it too:
    it still has its say in how much every term is held back."""
    simulated = Simulated(4, 200)
    calibration, left_out = simulated.calibrated()
    moved_left_out, moved_fitted = [], []
    for row in range(40):
        turned = simulated.outcomes.copy()
        turned[row] = 1 - turned[row]
        toward = turned[row] - simulated.outcomes[row]
        other, other_left_out = simulated.calibrated(turned)
        moved_left_out.append(toward @ (other_left_out - left_out)[row] / 3)
        moved_fitted.append(toward @ (other.predict(simulated.votes) - calibration.predict(simulated.votes))[row] / 3)
    assert np.mean(moved_fitted) > 0.01
    assert abs(np.mean(moved_left_out)) < 0.3 * np.mean(moved_fitted)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_where_nothing_tells_anything_each_model_s_mean_is_all_that_is_said(seed: int) -> None:
    noise, fresh = Simulated(seed, 500, signal=0), Simulated(seed + 100, 500)
    calibration, left_out = noise.calibrated()
    for quality in (calibration.predict(fresh.votes), left_out):
        assert np.abs(quality - calibration.mean).mean() < 0.02
    assert np.abs(calibration.coefficients).max() < 0.03
    assert np.abs(calibration.ease).max() < 0.03


def test_structure_that_says_nothing_shrinks_away_beside_neighbours_that_do() -> None:
    simulated = Simulated(5, 2000)
    simulated.votes.structure[:, 0] = np.random.default_rng(6).normal(size=2000)
    calibration, _ = simulated.calibrated()
    assert calibration.ease[1] > 0.08
    assert np.abs(calibration.ease[2:]).max() < 0.2 * calibration.ease[1]
    assert np.abs(calibration.coefficients[:, 4:]).max() < 0.02


def few(count: int) -> tuple[Simulated, Floats]:
    """Outcomes of which all are known but those of the last model, which has so many."""
    simulated = Simulated(7, 400)
    outcomes = simulated.outcomes.copy()
    outcomes[count:, 2] = NAN
    return simulated, outcomes


def test_a_model_with_few_outcomes_is_taken_for_a_usual_one_of_its_mean() -> None:
    simulated, outcomes = few(FEW - 1)
    calibration, left_out = simulated.calibrated(outcomes)
    mean, ease, neighbours, structure = calibration.terms(simulated.votes)
    beside = simulated.votes.quality[:, 2] - known_mean(outcomes, axis=0)[2] - simulated.votes.ease
    np.testing.assert_allclose(neighbours[:, 2], PLAIN * beside, atol=1e-6)
    np.testing.assert_array_equal(structure[:, 2], 0)
    np.testing.assert_allclose(mean[2], known_mean(outcomes, axis=0)[2], atol=1e-6)
    assert np.ptp(ease[:, 2]) > 0.2
    assert np.abs(left_out[:, 2] - calibration.predict(simulated.votes)[:, 2]).max() < 0.05


def test_with_one_outcome_more_it_is_calibrated() -> None:
    simulated, outcomes = few(FEW)
    calibration, _ = simulated.calibrated(outcomes)
    _, _, _, structure = calibration.terms(simulated.votes)
    assert structure[:, 2].any()


@pytest.mark.parametrize(("count", "calibrated"), [(ENOUGH - 1, False), (ENOUGH, True)])
def test_too_few_examples_of_known_ease_leave_the_vote_as_it_is(count: int, calibrated: bool) -> None:
    simulated = Simulated(8, 400)
    ease = np.where(np.arange(400) < count, simulated.outcomes.mean(axis=1), NAN).astype(np.float32)
    found = calibrate(simulated.votes, simulated.outcomes, ease, simulated.MEAN)
    assert (found is not None) == calibrated
    if found:
        assert np.isfinite(found[1]).all()
        assert np.isfinite(found[0].predict(simulated.votes)).all()


def test_a_model_of_which_nothing_is_known_is_nan_and_leaves_the_others_alone() -> None:
    simulated = Simulated(9, 200)
    alone, left_out = simulated.calibrated()
    nothing = np.full((200, 1), NAN, np.float32)
    votes = replace(simulated.votes, quality=np.hstack([simulated.votes.quality, nothing]))
    ease = known_mean(simulated.outcomes - simulated.outcomes.mean(axis=0), axis=1)
    mean = np.append(known_mean(simulated.outcomes, axis=0), np.float32(NAN))
    found = calibrate(votes, np.hstack([simulated.outcomes, nothing]), ease, mean)
    assert found is not None
    for both, of_three in ((found[1], left_out), (found[0].predict(votes), alone.predict(simulated.votes))):
        assert np.isnan(both[:, 3]).all()
        np.testing.assert_allclose(both[:, :3], of_three, atol=1e-6)


def test_predictions_are_within_0_and_1_and_in_the_order_of_the_models() -> None:
    simulated, turned = Simulated(10, 300, signal=2), [2, 0, 1]
    calibration, left_out = simulated.calibrated()
    votes = replace(simulated.votes, quality=simulated.votes.quality[:, turned])
    other, other_left_out = fitted(votes, simulated.outcomes[:, turned])
    predicted = calibration.predict(simulated.votes)
    assert 0 <= predicted.min() <= predicted.max() <= 1
    assert 0 <= left_out.min() <= left_out.max() <= 1
    np.testing.assert_allclose(other.predict(votes), predicted[:, turned], atol=1e-5)
    np.testing.assert_allclose(other_left_out, left_out[:, turned], atol=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_outcomes_that_are_all_the_same_are_predicted(value: float) -> None:
    same = np.full((100, 3), value, np.float32)
    votes = Votes(same, np.zeros(100, np.float32), Simulated(11, 100).votes.structure)
    calibration, left_out = fitted(votes, same)
    np.testing.assert_allclose(calibration.predict(votes), value, atol=1e-6)
    np.testing.assert_allclose(left_out, value, atol=1e-6)


def test_a_model_that_did_the_same_on_all_examples_is_predicted_to_however_easy_a_prompt() -> None:
    """Its mean is lower, for `only` labels that give intents to others, of which no ease is known."""
    simulated = Simulated(12, 400)
    simulated.votes.quality[:, 2] = 1
    outcomes = simulated.outcomes.copy()
    outcomes[:, 2] = 1
    ease = known_mean(outcomes - outcomes.mean(axis=0), axis=1)
    outcomes[300:], ease[300:] = (0, 0, 0), NAN
    found = calibrate(simulated.votes, outcomes, ease, known_mean(outcomes, axis=0))
    assert found is not None
    np.testing.assert_allclose(found[0].predict(simulated.votes)[:, 2], 1, atol=1e-5)
    np.testing.assert_allclose(found[1][:, 2], 1, atol=1e-5)


def test_examples_of_unknown_structure_are_taken_as_average() -> None:
    simulated = Simulated(13, 400)
    kept_out = np.arange(400) % 4 == 0
    simulated.votes.structure[kept_out] = NAN
    calibration, left_out = simulated.calibrated()
    assert np.isfinite(left_out).all()
    np.testing.assert_allclose(calibration.structure.mean, simulated.votes.structure[~kept_out].mean(axis=0), atol=1e-6)
    filled = replace(
        simulated.votes, structure=np.where(kept_out[:, None], calibration.structure.mean, simulated.votes.structure)
    )
    np.testing.assert_allclose(calibration.predict(simulated.votes), calibration.predict(filled), atol=1e-6)


@pytest.mark.parametrize("constant", [0.0, 3.0, NAN])
def test_structure_that_never_differs_says_nothing(constant: float) -> None:
    simulated = Simulated(14, 200)
    simulated.votes.structure[:, 3] = constant
    calibration, left_out = simulated.calibrated()
    assert np.isfinite(left_out).all()
    np.testing.assert_allclose(calibration.ease[2 + 3], 0, atol=1e-12)
    np.testing.assert_allclose(calibration.coefficients[:, 4 + 3], 0, atol=1e-12)


def step(count: int) -> Calibration:
    """One prompt in ten of the harder half is done well and nine in ten of the easier; a fit slopes past both."""
    rng = np.random.default_rng(16)
    told = np.linspace(-0.5, 0.5, count)
    outcomes = (rng.random((count, 2)) < np.where(told < 0, 0.1, 0.9)[:, None]).astype(np.float32)
    quality = np.column_stack([0.5 + told] * 2).astype(np.float32)
    return fitted(Votes(quality, told.astype(np.float32), np.zeros((count, SHAPE), np.float32)), outcomes)[0]


def test_a_fit_is_believed_as_far_as_outcomes_bear_it_out() -> None:
    bounds = step(3000).bounds
    assert (bounds.low, bounds.high) == pytest.approx((0.1, 0.9), abs=0.02)


def test_a_few_outcomes_bound_a_fit_less() -> None:
    few, many = step(ENOUGH).bounds, step(3000).bounds
    assert few.high - few.low > many.high - many.low + 0.05


def test_a_strong_model_s_lead_is_widest_between_what_all_can_do_and_what_none_can() -> None:
    """These votes tell of the same lead everywhere, and keep their share."""
    rng = np.random.default_rng(15)
    level = rng.uniform(-4, 4, 3000)
    chance = 1 / (1 + np.exp(-np.stack([level - 1, level + 1], axis=1)))
    outcomes = (rng.random((3000, 2)) < chance).astype(np.float32)
    center = chance.mean(axis=0)
    told = (chance - center).mean(axis=1)
    votes = Votes(
        (center + told[:, None]).astype(np.float32), told.astype(np.float32), np.zeros((3000, SHAPE), np.float32)
    )
    calibration, _ = fitted(votes, outcomes)
    order = np.argsort(level)
    lead = np.diff(calibration.predict(votes), axis=1)[order, 0]
    hard, middle, easy = lead[100], lead[1500], lead[-100]
    true = np.diff(chance, axis=1)[order, 0]
    assert (true[100], true[1500], true[-100]) == pytest.approx((hard, middle, easy), abs=0.08)
    assert middle > max(hard, easy) + 0.25
    squared = [calibration.named(model)["ease_squared"] for model in range(2)]
    assert squared[0] > 0.05 > -0.05 > squared[1]
