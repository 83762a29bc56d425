from dataclasses import replace
from math import log, sqrt
from pathlib import Path

import numpy as np
import pytest

from index import peers
from index.ballot import Ballot, draw_up
from index.calibration import ENOUGH
from index.dial import FLAT
from index.directory_store import DirectoryStore
from index.leave_one_out import leave_one_out
from index.snapshot import assemble
from index.structure import NAMES, describe
from index.types import Candidate, Example, Floats, Label, LabelKind, Neighbour, VoteParams
from index.versions import Change, Repository
from tests.tiny import DIMENSIONS, measured, snapshot_of, unit, units, version_of

NAN = float("nan")
PLAIN = describe("a prompt")
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


def test_an_intent_is_claimed_when_most_of_the_vote_says_that_it_belongs_to_a_model() -> None:
    """At FAN[0] the owner's label weighs 1 of 1 + 1/2 + 1/4; at FAN[3] its weight is less than half."""
    examples = [owned("a", "dear"), *(scored(id, cheap=1, dear=1) for id in "bcd")]
    ballot = draw_up(snapshot_of(examples, FAN, HALVING), [CHEAP, DEAR])
    assert ballot.poll(FAN[0], PLAIN).claimed.tolist() == [False, True]
    assert ballot.poll(FAN[3], PLAIN).claimed.tolist() == [False, False]


def test_the_curve_leaves_a_claimed_intent_to_its_owner_also_where_price_alone_decides() -> None:
    examples = [owned(id, "dear") for id in "abcd"]
    curve = draw_up(snapshot_of(examples, FAN, HALVING), [CHEAP, DEAR]).fit.curve
    assert (set(curve.spend), set(curve.quality)) == ({5.0}, {1.0})


def test_a_poll_is_the_vote_by_hand() -> None:
    """The three nearest weigh 1, 1/2, 1/4; of cheap 1 and 0 are known, of dear the last two: 1 and 0."""
    polled = fan().poll(FAN[0], PLAIN)
    np.testing.assert_array_equal(polled.rows, [0, 1, 2])
    np.testing.assert_allclose(polled.similarities, [1, 0.5, 0], atol=1e-6)
    np.testing.assert_allclose(
        polled.vote.quality, [(1 + 1 / 3) / (1 + 0.5 + 1), (0.5 + 2 / 3) / (0.5 + 0.25 + 1)], rtol=1e-5
    )
    np.testing.assert_array_equal(polled.vote.plain, polled.vote.quality)
    np.testing.assert_allclose(polled.vote.support, [1.5, 0.75], rtol=1e-5)
    assert polled.vote.nearest == pytest.approx(1)


def test_a_poll_of_fewer_examples_than_k_hears_them_all() -> None:
    assert sorted(fan(VoteParams(k=100)).poll(FAN[2], PLAIN).rows) == [0, 1, 2, 3]


def test_neighbours_are_evidence_with_what_is_known_of_them() -> None:
    ballot = fan()
    first, second = ballot.neighbours(ballot.poll(FAN[0], PLAIN), 2)
    assert rounded(first) == Neighbour("a", 1.0, 1.0, "prompt a", {"cheap": 1.0})
    assert rounded(second) == Neighbour("b", 0.5, 0.5, "prompt b", {"cheap": 0.0, "dear": 1.0})
    assert len(ballot.neighbours(ballot.poll(FAN[0], PLAIN), 10)) == 3


def test_evidence_names_the_candidates_also_where_they_borrow() -> None:
    snapshot = snapshot_of([scored("a", small=0.1, large=1), owned("b", "large")], FAN[:2], HALVING)
    ballot = draw_up(snapshot, [Candidate("mini", 1, like="small"), Candidate("maxi", 5, like="large")])
    polled = ballot.poll(FAN[0], PLAIN)
    assert [neighbour.scores for neighbour in ballot.neighbours(polled, 2)] == [
        {"mini": 0.1, "maxi": 1.0},
        {"mini": 0.0, "maxi": 1.0},
    ]


def left_out(ballot: Ballot) -> tuple[Floats, Floats]:
    """Quality and ease of each example, as the others vote."""
    found = peers.find(ballot.snapshot, ballot.snapshot.manifest.params.k)
    votes = leave_one_out(ballot.snapshot, ballot.outcomes, found)
    return votes.quality, votes.ease


def test_leaving_one_out_gives_what_the_rest_of_the_index_votes() -> None:
    """`a` is voted on by b, c and d, that weigh 1, 1/2 and 1/8, `d` by c, b and a: 1, 1/2 and 1/4. Means are 1/3 and
    2/3, and a's ease is 2/3, c's -2/3, the others' 0. Of the three that tell of a model, or the four of ease, the
    others' mean lies a half, or a third, as far from the mean of all as the one left out does on its other side."""
    quality, ease = left_out(fan())
    heard = 1.125 / 2.125
    of_a = [(1 / 3) / 2.125 + (1 - 1 / 3) / 2 * heard, (1 + 1 / 8 + 2 / 3) / 2.625]
    of_d = [(1 / 4 + 1 / 3) / 1.75 - (1 / 3) / 2 * 0.75 / 1.75, (1 / 2 + 2 / 3) / 2.5 + (1 / 3) / 2 * 1.5 / 2.5]
    np.testing.assert_allclose(quality[[0, 3]], [of_a, of_d], rtol=1e-5)
    ease_of_a = (-2 / 3 * 1 / 2) / 2.625 + (2 / 3) / 3 * 1.625 / 2.625
    ease_of_d = (-2 / 3 + 2 / 3 * 1 / 4) / 2.75
    np.testing.assert_allclose(ease[[0, 3]], [ease_of_a, ease_of_d], rtol=1e-5)


def test_of_two_copies_that_differ_neither_tells_anything_of_the_other() -> None:
    """One voter, who says the opposite of what is true: as it must, where one of two did well."""
    params = VoteParams(k=1, kappa=1.0)
    snapshot = snapshot_of([scored("a", cheap=1), scored("b", cheap=0)], np.array([unit(1, 0)] * 2), params)
    quality, ease = left_out(draw_up(snapshot, [CHEAP]))
    np.testing.assert_allclose(quality, [[0.5], [0.5]], rtol=1e-6)
    np.testing.assert_allclose(ease, [0, 0], atol=1e-7)


def test_an_example_s_own_outcome_cannot_be_told_from_its_being_left_out() -> None:
    """All stand at one place: whatever they did, the rest can only say the mean, also of what few tell of."""
    examples = [scored(str(row), cheap=row % 3 == 0, **({"dear": row % 2} if row < 4 else {})) for row in range(9)]
    ballot = draw_up(snapshot_of(examples, np.array([unit(1, 0)] * 9), VoteParams(k=100)), [CHEAP, DEAR])
    quality, ease = left_out(ballot)
    np.testing.assert_allclose(quality, [[1 / 3, 1 / 2]] * 9, rtol=1e-5)
    np.testing.assert_allclose(ease, np.full(9, ease[0]), atol=1e-6)


def test_a_model_of_which_nothing_is_known_is_nan_and_disturbs_no_one() -> None:
    alone, joined = fan(), draw_up(fan().snapshot, [CHEAP, DEAR, Candidate("new", 3.0)])
    assert np.isnan(joined.outcomes.prior[2])
    quality = joined.poll(FAN[0], PLAIN).vote.quality
    assert np.isnan(quality[2])
    np.testing.assert_array_equal(quality[:2], alone.poll(FAN[0], PLAIN).vote.quality)
    assert joined.fit.curve.spend == alone.fit.curve.spend
    assert joined.fit.curve.exchange == pytest.approx(alone.fit.curve.exchange)


def test_the_curve_is_that_of_the_fleet_s_prices() -> None:
    curve = fan().fit.curve
    assert curve.examples == 4
    assert (curve.spend[0], curve.spend[10]) == (5, 1)  # dear's mean is 2/3, cheap's 1/3, and none stands far from it
    assert (curve.quality[0], curve.quality[10]) == pytest.approx((2 / 3, 1 / 3))


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_examples_have_no_curve(count: int) -> None:
    snapshot = snapshot_of([scored("a", cheap=1)][:count], FAN[:count])
    assert draw_up(snapshot, [CHEAP, DEAR]).fit.curve == FLAT


def test_a_fleet_without_models_has_an_empty_ballot() -> None:
    ballot = draw_up(fan().snapshot, [])
    assert ballot.fit.curve == FLAT
    assert ballot.poll(FAN[0], PLAIN).vote.quality.shape == (0,)


def test_a_ballot_of_one_example_can_be_polled() -> None:
    polled = draw_up(snapshot_of([scored("a", cheap=1)], FAN[:1], HALVING), [CHEAP]).poll(FAN[1], PLAIN)
    np.testing.assert_array_equal(polled.vote.quality, [1])
    assert polled.vote.nearest == pytest.approx(0.5)


@pytest.mark.parametrize(("count", "calibrated"), [(ENOUGH - 1, False), (ENOUGH, True)])
def test_an_index_is_calibrated_from_enough_examples_on(count: int, calibrated: bool) -> None:
    ballot = draw_up(version_of(measured(count)), [CHEAP, DEAR])
    assert (ballot.fit.calibration is not None) == calibrated
    vote = ballot.poll(units(np.random.default_rng(2), 1)[0], PLAIN).vote
    assert (vote.quality.tolist() != vote.plain.tolist()) == calibrated
    assert ((vote.quality >= 0) & (vote.quality <= 1)).all()


@pytest.mark.parametrize("count", [40, 200])
def test_many_prompts_are_predicted_as_each_is_polled(count: int) -> None:
    ballot = draw_up(version_of(measured(count)), [CHEAP, DEAR, Candidate("new", 2.0)])
    vectors, structures = units(np.random.default_rng(3), 5), np.arange(5 * len(NAMES), dtype=np.float32).reshape(5, -1)
    alone = [ballot.poll(vector, structure).vote.quality for vector, structure in zip(vectors, structures, strict=True)]
    np.testing.assert_allclose(ballot.predict(vectors, structures), alone, rtol=1e-5)


def test_the_terms_of_a_quality_sum_to_it() -> None:
    ballot = draw_up(version_of(measured(200)), [CHEAP, DEAR])
    polled = ballot.poll(unit(*[1] * DIMENSIONS), PLAIN)
    terms = ballot.terms(polled)
    assert [tuple(of_model) for of_model in terms] == [("mean", "ease", "neighbours", "structure")] * 2
    quality = [sum(of_model.values()) for of_model in terms]
    assert all(0 < value < 1 for value in quality)
    np.testing.assert_allclose(polled.vote.quality, quality, rtol=1e-6)


def test_a_vote_that_is_not_calibrated_has_no_terms() -> None:
    ballot = fan()
    assert ballot.terms(ballot.poll(FAN[0], PLAIN)) == [{}, {}]


def test_a_large_index_serves_a_fleet_without_models_too() -> None:
    ballot = draw_up(version_of(measured(60)), [])
    assert (ballot.fit.curve, ballot.fit.calibration) == (FLAT, None)
    assert ballot.predict(units(np.random.default_rng(4), 3), np.zeros((3, len(NAMES)), np.float32)).shape == (3, 0)


def test_a_large_index_serves_a_fleet_of_models_that_it_knows_nothing_of() -> None:
    ballot = draw_up(version_of(measured(60)), [Candidate("new", 1.0), Candidate("newer", 2.0)])
    assert np.isnan(ballot.predict(units(np.random.default_rng(4), 3), np.zeros((3, len(NAMES)), np.float32))).all()
    assert ballot.fit.curve == FLAT


def test_a_fleet_of_one_model_is_calibrated_as_beside_others() -> None:
    """What ease and a model's own vote say of it hangs on the index, not on who else is offered."""
    snapshot = version_of(measured(200))
    vectors, structures = units(np.random.default_rng(5), 20), np.zeros((20, len(NAMES)), np.float32)
    alone = draw_up(snapshot, [DEAR]).predict(vectors, structures)
    beside = draw_up(snapshot, [CHEAP, DEAR]).predict(vectors, structures)
    np.testing.assert_allclose(alone[:, 0], beside[:, 1], rtol=1e-5)


def test_an_index_of_one_model_alone_is_calibrated_too() -> None:
    """Its vote beside ease is nothing, whatever its neighbours say."""
    both = measured(200)
    lone = replace(both, models=("cheap",), scores=both.scores[:, :1])
    ballot = draw_up(version_of(lone), [CHEAP])
    terms = ballot.terms(ballot.poll(unit(1, *[0] * (DIMENSIONS - 1)), PLAIN))
    assert terms[0]["neighbours"] == pytest.approx(0, abs=1e-5)
    quality = ballot.predict(
        np.array([unit(1, 1), unit(-1, 1)]) @ np.eye(2, DIMENSIONS, dtype=np.float32), np.array([PLAIN] * 2)
    )
    assert quality[0, 0] > quality[1, 0] + 0.2


def test_an_index_of_copies_says_the_mean() -> None:
    """All at one place and of one wording, 2 of 3 did well."""
    examples = [Example(str(row), "the same", {"cheap": float(row % 3 > 0)}) for row in range(60)]
    ballot = draw_up(snapshot_of(examples, np.array([unit(1, 2)] * 60)), [CHEAP])
    vectors = np.array([unit(1, 2), unit(1, 0)])
    np.testing.assert_allclose(ballot.predict(vectors, np.array([PLAIN] * 2)), [[2 / 3], [2 / 3]], atol=0.01)


@pytest.mark.parametrize("count", [30, 120])
def test_a_stored_version_votes_as_it_did_before_it_was_stored(tmp_path: Path, count: int) -> None:
    added, store = measured(count), DirectoryStore(tmp_path)
    version = Repository(store, DIMENSIONS).commit(lambda _: Change(added), "add", "tiny").version
    loaded = Repository(store, DIMENSIONS).load(version)
    fresh = assemble("fresh", loaded.manifest, [added], DIMENSIONS)
    assert (loaded.peers is None, fresh.peers is None) == (False, True)
    one, other = draw_up(loaded, [CHEAP, DEAR]), draw_up(fresh, [CHEAP, DEAR])
    vectors, structures = units(np.random.default_rng(6), 20), np.tile(PLAIN, (20, 1))
    np.testing.assert_array_equal(one.predict(vectors, structures), other.predict(vectors, structures))
    assert one.fit.curve == other.fit.curve
