import numpy as np
import pytest

from index.build import SHARPNESS, SHRINKAGE, USUAL, WIDTHS, tune
from index.manifest import Manifest, SegmentRef
from index.segment import from_examples
from index.snapshot import assemble
from index.types import Example, Floats, Label, LabelKind, VoteParams
from tests.tiny import snapshot_of, unit


def scored(outcomes: Floats) -> list[Example]:
    return [Example(f"e{row}", f"prompt {row}", {"small": float(outcome)}) for row, outcome in enumerate(outcomes)]


def on_a_circle(count: int) -> Floats:
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_neighbourhoods_that_differ_sharply_get_a_sharp_narrow_vote() -> None:
    arcs = np.arange(400) // 20 % 2  # 20 in a row do well, the next 20 do not
    params, _ = tune(snapshot_of(scored(arcs.astype(np.float32)), on_a_circle(400)))
    assert (params.k, params.kappa) == (min(WIDTHS), min(SHRINKAGE))


def test_near_examples_that_decide_get_the_highest_beta() -> None:
    """Pairs that share an outcome stand half a radian from the next pair: all that is not a twin misleads."""
    angles = np.repeat(np.linspace(0, 2 * np.pi, 12, endpoint=False), 2)
    outcomes = np.repeat(np.arange(12) % 2, 2).astype(np.float32)
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    params, _ = tune(snapshot_of(scored(outcomes), vectors))
    assert params.beta == max(SHARPNESS)


@pytest.mark.parametrize("seed", range(5))
def test_outcomes_that_no_neighbour_tells_get_no_sharper_vote_than_usual(seed: int) -> None:
    outcomes = np.random.default_rng(seed).integers(0, 2, 400).astype(np.float32)
    params, _ = tune(snapshot_of(scored(outcomes), on_a_circle(400)))
    k, beta, kappa = USUAL
    assert (params.k >= k, params.beta <= beta, params.kappa >= kappa) == (True, True, True)


def test_where_no_choice_is_clearly_better_it_is_the_usual_one() -> None:
    """Outcomes are drawn at random: of 80 choices some are ahead by luck."""
    outcomes = np.random.default_rng(1).integers(0, 2, 300).astype(np.float32)
    params, _ = tune(snapshot_of(scored(outcomes), on_a_circle(300)))
    assert (params.k, params.beta, params.kappa) == USUAL


def test_the_peers_are_as_many_as_will_vote() -> None:
    arcs = np.arange(400) // 20 % 2
    params, peers = tune(snapshot_of(scored(arcs.astype(np.float32)), on_a_circle(400)))
    assert peers.rows.tolist() == list(range(400))
    assert peers.voters.shape == peers.similarities.shape == (400, params.k)
    assert {abs(int(voter)) for voter in peers.voters[200] - 200} == {1, 2, 3, 4, 5}


def test_two_examples_cannot_show_that_the_usual_choice_is_wrong() -> None:
    """Each is told by the other, whose outcome is the opposite, which any sharper vote would only hear louder."""
    params, _ = tune(snapshot_of(scored(np.array([1, 0], np.float32)), on_a_circle(2)))
    assert (params.k, params.beta, params.kappa) == USUAL


def test_the_same_version_is_tuned_the_same() -> None:
    outcomes = np.random.default_rng(2).integers(0, 2, 150).astype(np.float32)
    params = [tune(snapshot_of(scored(outcomes), on_a_circle(150)))[0] for _ in range(2)]
    assert params[0] == params[1]


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_examples_leave_the_defaults(count: int) -> None:
    outcomes = np.ones(count, np.float32)
    params, peers = tune(snapshot_of(scored(outcomes), on_a_circle(2)[:count]))
    assert (params, len(peers.rows)) == (VoteParams(), 0)


def test_familiar_is_as_near_as_the_loneliest_hundredth_is_to_its_nearest() -> None:
    """Nearest cosines .8, .8 and .6 (the third's, to the second): the hundredth quantile lies .02 of the way up."""
    vectors = np.array([unit(1, 0), unit(0.8, 0.6), unit(0, 1)])
    assert tune(snapshot_of(scored(np.ones(3, np.float32)), vectors))[0].familiar == 0.604


def test_one_loner_in_a_hundred_does_not_decide_what_is_familiar_alone() -> None:
    vectors = np.array([unit(1, 0)] * 299 + [unit(0, 1)])
    assert tune(snapshot_of(scored(np.ones(300, np.float32)), vectors))[0].familiar == 1.0


def test_a_whole_column_may_be_unknown() -> None:
    """The one example that told of `huge` was dropped; its column is still there. Warnings are errors here."""
    examples = [*scored(np.array([1, 0, 1, 0], np.float32)), Example("gone", "gone", {"huge": 1})]
    part = from_examples(examples, on_a_circle(5))
    manifest = Manifest(1, None, "", "", "", (SegmentRef("s", 5, (4,)),))
    left = assemble("v", manifest, [part], 2)
    assert left.examples.models == ("huge", "small")
    assert tune(left)[0] == tune(snapshot_of(examples[:4], on_a_circle(5)[:4]))[0]


def test_all_columns_may_be_unknown() -> None:
    nothing = [Example("a", "a"), Example("b", "b")]
    assert tune(snapshot_of(nothing, on_a_circle(2)))[0] == VoteParams(*USUAL, familiar=-1.0)


def test_an_intent_that_belongs_to_one_model_is_tuned_on_too() -> None:
    owned = [Example(f"e{row}", "p", {}, Label(LabelKind.ONLY, "ab"[row // 20 % 2])) for row in range(400)]
    params, _ = tune(snapshot_of(owned, on_a_circle(400)))
    assert (params.k, params.kappa) == (min(WIDTHS), min(SHRINKAGE))


def test_a_large_index_is_tuned_on_a_sample_of_it() -> None:
    outcomes = (np.arange(3000) // 150 % 2).astype(np.float32)
    assert tune(snapshot_of(scored(outcomes), on_a_circle(3000)))[0].k in WIDTHS
