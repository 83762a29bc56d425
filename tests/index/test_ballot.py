from dataclasses import replace
from math import log, sqrt

import numpy as np
import pytest

from index.ballot import Ballot, draw_up, leave_one_out, others, resolve, spread
from index.dial import FLAT
from index.segment import from_examples
from index.types import Candidate, Example, Floats, Label, LabelKind, Neighbour, VoteParams
from index.vote import vote
from tests.tiny import hashed_segment, snapshot_of, unit

NAN = float("nan")
HALVING = VoteParams(k=3, beta=log(4), kappa=1.0)
"""A neighbour half a cosine farther than the nearest weighs half as much."""
FAN = np.array([unit(1, 0), unit(0.5, sqrt(0.75)), unit(0, 1), unit(-1, 0)])
"""Cosines to the first: 1, 1/2, 0, -1."""
CHEAP, DEAR = Candidate("cheap", 1.0), Candidate("dear", 5.0)


def floats(*rows: object) -> Floats:
    return np.array(rows, np.float32)


def scored(id: str, **scores: float) -> Example:
    return Example(id, f"prompt {id}", scores)


def owned(id: str, model: str) -> Example:
    return Example(id, f"prompt {id}", {}, Label(LabelKind.ONLY, model))


def rounded(neighbour: Neighbour) -> Neighbour:
    return replace(neighbour, similarity=round(neighbour.similarity, 6), weight=round(neighbour.weight, 6))


def fan(params: VoteParams = HALVING) -> Ballot:
    """Known of cheap: 1, 0, nothing, 0; of dear: nothing, 1, 0, 1."""
    examples = [scored("a", cheap=1), scored("b", cheap=0, dear=1), scored("c", dear=0), scored("d", cheap=0, dear=1)]
    return draw_up(snapshot_of(examples, FAN, params), [CHEAP, DEAR])


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
    np.testing.assert_array_equal(outcomes, floats([np.nan, np.nan]))


def test_an_intent_is_claimed_when_most_of_the_vote_says_that_it_belongs_to_a_model() -> None:
    """At FAN[0] the owner's label weighs 1 of 1 + 1/2 + 1/4; at FAN[3] its weight is less than half."""
    examples = [owned("a", "dear"), *(scored(id, cheap=1, dear=1) for id in "bcd")]
    ballot = draw_up(snapshot_of(examples, FAN, HALVING), [CHEAP, DEAR])
    assert ballot.poll(FAN[0]).claimed.tolist() == [False, True]
    assert ballot.poll(FAN[3]).claimed.tolist() == [False, False]


def test_left_out_votes_leave_a_claimed_intent_to_its_owner() -> None:
    examples = [owned(id, "dear") for id in "abcd"]
    ballot = draw_up(snapshot_of(examples, FAN, HALVING), [CHEAP, DEAR])
    assert np.isnan(leave_one_out(ballot, np.arange(4))).tolist() == [[True, False]] * 4


def test_a_ballot_holds_outcomes_and_each_model_s_mean() -> None:
    ballot = fan()
    np.testing.assert_array_equal(ballot.scores, floats([1, 0], [0, 1], [0, 0], [0, 1]))
    np.testing.assert_array_equal(ballot.known, floats([1, 0], [1, 1], [0, 1], [1, 1]))
    np.testing.assert_allclose(ballot.prior, [1 / 3, 2 / 3], rtol=1e-6)
    assert ballot.candidates == (CHEAP, DEAR)


def test_a_poll_is_the_vote_by_hand() -> None:
    """The three nearest weigh 1, 1/2, 1/4; of cheap 1 and 0 are known, of dear the last two: 1 and 0."""
    polled = fan().poll(FAN[0])
    np.testing.assert_array_equal(polled.rows, [0, 1, 2])
    np.testing.assert_allclose(polled.similarities, [1, 0.5, 0], atol=1e-6)
    np.testing.assert_allclose(
        polled.vote.quality, [(1 + 1 / 3) / (1 + 0.5 + 1), (0.5 + 2 / 3) / (0.5 + 0.25 + 1)], rtol=1e-5
    )
    np.testing.assert_allclose(polled.vote.support, [1.5, 0.75], rtol=1e-5)
    assert polled.vote.nearest == pytest.approx(1)


def test_a_poll_of_fewer_examples_than_k_hears_them_all() -> None:
    assert sorted(fan(VoteParams(k=100)).poll(FAN[2]).rows) == [0, 1, 2, 3]


def test_neighbours_are_evidence_with_what_is_known_of_them() -> None:
    ballot = fan()
    first, second = ballot.neighbours(ballot.poll(FAN[0]), 2)
    assert rounded(first) == Neighbour("a", 1.0, 1.0, "prompt a", {"cheap": 1.0})
    assert rounded(second) == Neighbour("b", 0.5, 0.5, "prompt b", {"cheap": 0.0, "dear": 1.0})
    assert len(ballot.neighbours(ballot.poll(FAN[0]), 10)) == 3


def test_evidence_names_the_candidates_also_where_they_borrow() -> None:
    snapshot = snapshot_of([scored("a", small=0.1, large=1), owned("b", "large")], FAN[:2], HALVING)
    ballot = draw_up(snapshot, [Candidate("mini", 1, like="small"), Candidate("maxi", 5, like="large")])
    polled = ballot.poll(FAN[0])
    assert [neighbour.scores for neighbour in ballot.neighbours(polled, 2)] == [
        {"mini": 0.1, "maxi": 1.0},
        {"mini": 0.0, "maxi": 1.0},
    ]


@pytest.mark.parametrize("k", [1, 2, 3, 4, 100])
def test_no_example_is_among_its_own_voters_even_with_exact_duplicates(k: int) -> None:
    vectors = np.array([unit(1, 0)] * 5 + [unit(0, 1)] * 2 + [unit(1, 1)])
    snapshot = snapshot_of([scored(str(row), cheap=1) for row in range(8)], vectors)
    rows = np.arange(8)
    similarities, voters = others(snapshot, rows, k)
    assert voters.shape == similarities.shape == (8, min(k, 7))
    assert not (voters == rows[:, None]).any()
    assert all(len(set(row)) == len(row) for row in voters.tolist())
    np.testing.assert_allclose(similarities, (vectors[rows, None] * vectors[voters]).sum(axis=2), atol=1e-6)
    assert (np.diff(similarities, axis=1) <= 1e-6).all()


def test_leaving_one_out_gives_what_the_rest_of_the_index_votes() -> None:
    ballot = fan()
    left_out = leave_one_out(ballot, np.arange(4))
    for row in range(4):
        rest = np.array([other for other in range(4) if other != row])
        near = FAN[rest] @ FAN[row]
        order = np.argsort(-near)
        cast = vote(near[order], ballot.scores[rest[order]], ballot.known[rest[order]], ballot.prior, HALVING)
        np.testing.assert_allclose(left_out[row], cast.quality, rtol=1e-5)


def test_of_two_copies_each_is_voted_on_by_the_other() -> None:
    """Same prompt, opposite outcomes, one voter: each is told the other's outcome, shrunk to the mean of 1/2."""
    params = VoteParams(k=1, kappa=1.0)
    snapshot = snapshot_of([scored("a", cheap=1), scored("b", cheap=0)], np.array([unit(1, 0)] * 2), params)
    left_out = leave_one_out(draw_up(snapshot, [CHEAP]), np.arange(2))
    np.testing.assert_allclose(left_out, [[0.25], [0.75]], rtol=1e-6)


def test_a_model_of_which_nothing_is_known_is_nan_and_disturbs_no_one() -> None:
    alone, joined = fan(), draw_up(fan().snapshot, [CHEAP, DEAR, Candidate("new", 3.0)])
    assert np.isnan(joined.prior[2])
    quality = joined.poll(FAN[0]).vote.quality
    assert np.isnan(quality[2])
    np.testing.assert_array_equal(quality[:2], alone.poll(FAN[0]).vote.quality)
    assert joined.curve.spend == alone.curve.spend
    assert joined.curve.exchange == pytest.approx(alone.curve.exchange)


def test_the_curve_is_that_of_the_fleet_s_prices() -> None:
    curve = fan().curve
    assert curve.examples == 4
    assert (curve.spend[0], curve.spend[10]) == (4, 1)  # but for `c`, whose neighbours say nothing for dear, dear wins
    assert curve.quality[10] == pytest.approx(1 / 3)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_examples_have_no_curve(count: int) -> None:
    snapshot = snapshot_of([scored("a", cheap=1)][:count], FAN[:count])
    assert draw_up(snapshot, [CHEAP, DEAR]).curve == FLAT


def test_a_fleet_without_models_has_an_empty_ballot() -> None:
    ballot = draw_up(fan().snapshot, [])
    assert ballot.curve == FLAT
    assert ballot.poll(FAN[0]).vote.quality.shape == (0,)


def test_a_ballot_of_one_example_can_be_polled() -> None:
    polled = draw_up(snapshot_of([scored("a", cheap=1)], FAN[:1], HALVING), [CHEAP]).poll(FAN[1])
    np.testing.assert_array_equal(polled.vote.quality, [1])
    assert polled.vote.nearest == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("count", "most", "rows"),
    [(0, 3, []), (1, 3, [0]), (3, 3, [0, 1, 2]), (5, 3, [0, 2, 4]), (101, 5, [0, 25, 50, 75, 100])],
)
def test_rows_are_spread_evenly_from_the_first_to_the_last(count: int, most: int, rows: list[int]) -> None:
    np.testing.assert_array_equal(spread(count, most), rows)


def test_candidates_that_borrow_the_same_outcomes_get_the_same_votes() -> None:
    examples = from_examples([scored("a", small=1), scored("b", small=0)], FAN[:2])
    outcomes = resolve(examples, [Candidate("one", 1, like="small"), Candidate("two", 2, like="small")])
    np.testing.assert_array_equal(outcomes, floats([1, 1], [0, 0]))
