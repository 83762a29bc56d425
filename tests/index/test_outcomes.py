import numpy as np

from index.outcomes import ease_of, resolve, tabulate
from index.segment import from_examples, merge
from index.types import Candidate, Example, Floats, Label, LabelKind
from tests.tiny import hashed_segment, unit

NAN = float("nan")
CHEAP, DEAR = Candidate("cheap", 1.0), Candidate("dear", 5.0)


def floats(*rows: object) -> Floats:
    return np.array(rows, np.float32)


def scored(id: str, **scores: float) -> Example:
    return Example(id, f"prompt {id}", scores)


def owned(id: str, model: str) -> Example:
    return Example(id, f"prompt {id}", {}, Label(LabelKind.ONLY, model))


def test_an_outcome_of_its_own_comes_before_a_borrowed_one() -> None:
    examples = hashed_segment([scored("a", small=0, mini=1), scored("b", small=0.5), scored("c", mini=0.25)])
    np.testing.assert_array_equal(resolve(examples, [Candidate("mini", 1, like="small")]), floats([1], [0.5], [0.25]))


def test_what_is_not_known_stays_unknown() -> None:
    examples = hashed_segment([scored("a", small=1), scored("b", large=0)])
    candidates = [Candidate("mini", 1, like="small"), Candidate("maxi", 5, like="large"), Candidate("new", 2)]
    np.testing.assert_array_equal(resolve(examples, candidates), floats([1, NAN, NAN], [NAN, 0, NAN]))


def test_an_intent_that_belongs_to_one_model_is_0_for_all_others_also_later_ones() -> None:
    examples = hashed_segment([owned("a", "mini"), scored("b", mini=0.5)])
    candidates = [Candidate("mini", 1), Candidate("maxi", 5), Candidate("came later", 3, like="maxi")]
    np.testing.assert_array_equal(resolve(examples, candidates), floats([1, 0, 0], [0.5, NAN, NAN]))


def test_who_is_like_the_owner_stands_in_for_it() -> None:
    examples = hashed_segment([owned("a", "small")])
    candidates = [Candidate("mini", 1, like="small"), Candidate("maxi", 5, like="large")]
    np.testing.assert_array_equal(resolve(examples, candidates), floats([1, 0]))


def test_an_intent_whose_owner_has_left_says_nothing_of_the_others() -> None:
    outcomes = resolve(hashed_segment([owned("a", "retired")]), [CHEAP, DEAR])
    np.testing.assert_array_equal(outcomes, floats([NAN, NAN]))


def test_candidates_that_borrow_the_same_outcomes_have_the_same() -> None:
    examples = from_examples([scored("a", small=1), scored("b", small=0)], np.array([unit(1, 0), unit(0, 1)]))
    outcomes = resolve(examples, [Candidate("one", 1, like="small"), Candidate("two", 2, like="small")])
    np.testing.assert_array_equal(outcomes, floats([1, 1], [0, 0]))


def test_ease_is_how_much_better_than_usual_the_measured_models_did() -> None:
    """Means: cheap 1/2, dear 2/3."""
    examples = hashed_segment([scored("a", cheap=1, dear=1), scored("b", cheap=0, dear=1), scored("c", dear=0)])
    expected = [(1 / 2 + 1 / 3) / 2, (-1 / 2 + 1 / 3) / 2, -2 / 3]
    np.testing.assert_allclose(ease_of(examples), expected, rtol=1e-6)


def test_an_example_on_which_nothing_was_measured_has_no_ease() -> None:
    """An `only` label says whose an intent is, not how hard it is."""
    examples = hashed_segment([scored("a", cheap=1), owned("b", "cheap"), Example("c", "c"), scored("d", cheap=0)])
    np.testing.assert_array_equal(ease_of(examples), floats(0.5, NAN, NAN, -0.5))


def test_labels_alone_have_no_ease() -> None:
    np.testing.assert_array_equal(ease_of(hashed_segment([owned("a", "cheap"), owned("b", "dear")])), floats(NAN, NAN))


def test_models_that_no_example_knows_leave_ease_alone() -> None:
    examples = hashed_segment([scored("a", cheap=1), scored("b", cheap=0), scored("gone", huge=1)])
    np.testing.assert_array_equal(ease_of(examples.take(np.arange(2))), floats(0.5, -0.5))


def test_outcomes_are_columns_with_0_where_nothing_is_known() -> None:
    """Means: cheap 1/2, dear 1/3 and the retired model's 1; the last example belongs to dear."""
    examples = hashed_segment(
        [scored("a", cheap=1), scored("b", cheap=0.5, dear=0), scored("c", dear=0, retired=1), owned("d", "dear")]
    )
    table = tabulate(examples, [CHEAP, DEAR, Candidate("new", 3.0)])
    np.testing.assert_array_equal(table.scores, floats([1, 0, 0], [0.5, 0, 0], [0, 0, 0], [0, 1, 0]))
    np.testing.assert_array_equal(table.known, floats([1, 0, 0], [1, 1, 0], [0, 1, 0], [1, 1, 1]))
    np.testing.assert_array_equal(table.claims, floats([0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 1, 0]))
    np.testing.assert_allclose(table.prior, [1 / 2, 1 / 3, 0], rtol=1e-6)
    np.testing.assert_array_equal(table.ease, floats([0.25], [-0.125], [0], [0]))
    np.testing.assert_array_equal(table.eased, floats([1], [1], [1], [0]))


def test_a_model_of_which_nothing_is_known_has_no_mean() -> None:
    table = tabulate(hashed_segment([scored("a", cheap=1)]), [CHEAP, DEAR])
    np.testing.assert_array_equal(table.prior, floats(1, NAN))
    np.testing.assert_array_equal(table.known, floats([1, 0]))


def test_ease_depends_on_no_fleet() -> None:
    examples = hashed_segment([scored("a", cheap=1, dear=1), scored("b", cheap=0, dear=1)])
    for fleet in ([], [DEAR], [Candidate("mini", 1, like="cheap"), DEAR]):
        np.testing.assert_array_equal(tabulate(examples, fleet).ease, floats([0.25], [-0.25]))


def test_an_empty_index_has_columns_too() -> None:
    table = tabulate(merge([], 8), [CHEAP, DEAR])
    assert (table.scores.shape, table.known.shape, table.claims.shape) == ((0, 2),) * 3
    assert (table.ease.shape, table.eased.shape) == ((0, 1),) * 2
    np.testing.assert_array_equal(table.prior, floats(NAN, NAN))
    assert {values.dtype.name for values in (table.scores, table.known, table.claims, table.prior, table.ease)} == {
        "float32"
    }


def test_what_a_model_was_measured_on_may_have_been_easier_than_usual() -> None:
    """a is 1/3 easier than usual, and b 1/2 harder; the new one was measured on a alone."""
    examples = hashed_segment([scored("a", one=1, two=1, new=1), scored("b", one=0, two=0)])
    table = tabulate(examples, [Candidate("one", 1), Candidate("new", 2), Candidate("nobody", 3)])
    np.testing.assert_allclose(table.ease[:, 0], [1 / 3, -1 / 2], rtol=1e-6)
    np.testing.assert_allclose(table.prior, [1 / 2, 1, NAN], rtol=1e-6)
    np.testing.assert_allclose(table.usual, [7 / 12, 2 / 3, NAN], rtol=1e-6)
