"""What the vote is compared with."""

import numpy as np
import pytest

from index.types import Floats
from scripts.evaluation import controls
from scripts.evaluation.contest import only_pair
from scripts.evaluation.judge import Judge
from scripts.evaluation.outcomes import parse
from scripts.evaluation.upload import Prompts

OUTCOMES = np.array([[1.0, 1.0], [1.0, 1.0], [0.0, 1.0], [0.0, 0.0]])
COST = np.array([1.0, 10.0])


def prompts(lines: str, vectors: list[list[float]], structures: list[list[float]] | None = None) -> Prompts:
    def array(rows: list[list[float]]) -> Floats:
        return np.array(rows, np.float32)

    return Prompts(parse(f"prompt,weak,strong\n{lines}".encode()), array(vectors), array(structures or vectors), "")


def test_the_longest_prompt_is_worth_the_dearest_model() -> None:
    found = controls.prompt_length(prompts("aaaa,1,1\na,1,1\naa,1,1\nbb,1,1\n", []), np.array([0, 1, 2, 3]), models=3)
    assert found.tolist() == [[0, 0.5, 1], [0, 0.125, 0.25], [0, 0.375, 0.75], [0, 0.375, 0.75]]


def test_a_logistic_regression_learns_from_the_indexed_outcomes_alone() -> None:
    lines = "a,0,1\nb,0,1\nc,1,0\nd,1,0\ne,0,1\nf,1,0\n"
    seen = prompts(lines, [[1, 0], [1, 0], [0, 1], [0, 1], [1, 0], [0, 1]])
    contest = only_pair(seen.outcomes, 10)
    found = controls.logistic_regression(seen, contest, np.array([0, 1, 2, 3]), np.array([4, 5]))
    weak, strong = contest.names.index("weak"), contest.names.index("strong")
    assert found[0, strong] > 0.6 > 0.4 > found[0, weak]
    assert found[1, weak] > 0.6 > 0.4 > found[1, strong]
    np.testing.assert_allclose(found.sum(axis=1), 1)  # the two columns are each other's opposite


def test_structure_is_standardised_on_what_is_indexed() -> None:
    lines = "a,0,1\nb,0,1\nc,1,0\nd,1,0\ne,0,1\n"
    known = np.array([0, 1, 2, 3])
    structures = [[9000.0], [9000.0], [1000.0], [1000.0], [9000.0]]  # +1 and −1, so +.1 and −.1 beside the vectors
    by_structure = prompts(lines, [[0.0]] * 5, structures)
    by_vectors = prompts(lines, [[0.1], [0.1], [-0.1], [-0.1], [0.1]])
    contest = only_pair(by_structure.outcomes, 10)
    found = controls.logistic_regression_structure(by_structure, contest, known, np.array([4]))
    np.testing.assert_allclose(found, controls.logistic_regression(by_vectors, contest, known, np.array([4])))


def test_a_model_that_is_always_or_never_right_needs_no_training_and_an_unknown_one_is_unknown() -> None:
    seen = prompts("a,1,1\nb,1,1\nc,1,\n", [[1.0], [0.5], [0.2]])
    contest = only_pair(seen.outcomes, 10)
    assert controls.logistic_regression(seen, contest, np.array([0, 1]), np.array([2])).tolist() == [[1.0, 1.0]]
    found = controls.logistic_regression(seen, contest, np.array([2]), np.array([0]))
    np.testing.assert_array_equal(found[0, [contest.names.index("weak"), contest.names.index("strong")]], [1, np.nan])


def test_constants_look_at_no_prompt() -> None:
    found = {name: routed.measures for name, routed in Judge(OUTCOMES, COST).constants().items()}
    random, best, cheapest = found["random"], found["best_single"], found["cheapest"]
    assert (random.apgr, random.cpt50) == (0.5, 0.5)
    assert random.cpt80 == pytest.approx(0.8)
    assert (random.aiq, random.saving_at_best, random.mixed_saving_at_best) == (0.625, 0.0, 0.0)
    assert random.cheapest_correct is None
    assert set(random.dearest_at_budgets.values()) == {None}
    assert (best.apgr, best.aiq, best.saving_at_best, best.cheapest_correct) == (None, None, 0.0, 0.25)
    assert (cheapest.apgr, cheapest.aiq, cheapest.saving_at_best, cheapest.cheapest_correct) == (None, 0.5, 0.0, 0.5)
    assert set(cheapest.quality_at_savings.values()) == {0.5}


def test_the_oracle_pays_for_the_strong_model_only_where_it_helps() -> None:
    found = Judge(OUTCOMES, COST).predicted(OUTCOMES).measures
    # One of four needs the strong model: 3·1 + 10 = 13 of 40 dollars.
    assert found.saving_at_best == 1 - 13 / 40
    assert found.cheapest_correct == 0.75
    assert list(found.dearest_at_budgets.values()) == [0.0, 0.0, 0.0, *[0.25] * 7]
    # .5 to .75 while the first quarter of the cost range is spent, then .75
    assert found.aiq == 0.25 * 0.625 + 0.75 * 0.75


def test_a_router_that_knows_nothing_of_a_model_has_no_calls_to_be_measured_by() -> None:
    found = Judge(OUTCOMES, COST).predicted(np.array([[0.5, np.nan]] * 4)).measures
    assert (found.apgr, found.cpt50, found.cpt80, found.aiq) == (None, None, None, 0.5)
