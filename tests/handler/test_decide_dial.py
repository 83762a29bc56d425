"""A floor of quality or a ceiling of cost, read from the curve of the index that decides."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from handler.data.decide import UNCALIBRATED, Decider
from handler.data.live import Live
from handler.fleet import Deployment, Fleet, FleetFile, Model, Price
from handler.flow import Ask, Cause, Decision, Preferences, Prompt
from handler.keys import KeyRecord, Routing
from index.ballot import draw_up
from index.dial import FLAT, Curve, calibrate
from index.embedder import Embedder
from index.types import Example, Floats, VoteParams
from tests.outlooks import cold
from tests.tiny import snapshot_of, unit

KEY = KeyRecord(id="0" * 12, digest="0" * 64, created_at="", name="key", routing=Routing.ON)
FLEET = Fleet(
    models=tuple(
        Model(name=name, price=Price(input=dollars, output=dollars), deployments=(Deployment(base_url="u"),))
        for name, dollars in (("cheap", 1), ("dear", 10))
    )
)
EXAMPLES = [
    Example("easy", "an easy prompt", {"cheap": 1.0, "dear": 1.0}),
    Example("hard", "a hard prompt", {"cheap": 0.0, "dear": 1.0}),
]
VECTORS = {"easy": unit(1, 0), "hard": unit(0, 1), "strange": unit(-1, -1)}


def curve() -> Curve:
    """The cheap model ($1) and the dear one ($5), which is thought better by .1, .2, .3 and .4 and was for the last
    two: an example goes over to the cheap one at λ = .025, .05, .075, .1. Whole settings 0 to 10 spend
    5 4 4 3 3 3 2 2 1 1 1 dollars and give 1 1 1 1 1 1 .75 .75 .5 .5 .5."""
    votes = np.array([[0.5, 0.6], [0.5, 0.7], [0.5, 0.8], [0.5, 0.9]], np.float32)
    outcomes = np.array([[1, 1], [1, 1], [0, 1], [0, 1]], np.float32)
    return calibrate(votes, outcomes, np.array([1, 5], np.float32))


def live(curve: Curve) -> Live:
    params = VoteParams(k=1, familiar=0.8)
    snapshot = snapshot_of(EXAMPLES, np.array([VECTORS[example.id] for example in EXAMPLES]), params)
    ballot = draw_up(snapshot, FLEET.candidates)
    return Live(FleetFile(FLEET, "fleet-1"), replace(ballot, fit=replace(ballot.fit, curve=curve)))


class Looked(Embedder):
    def __init__(self) -> None:
        pass

    def embed(self, text: str) -> Floats:
        return VECTORS[text]


async def decide(text: str = "hard", curve: Curve | None = None, key: KeyRecord = KEY, **preferences: Any) -> Decision:
    decider = Decider(Looked(), workers=1, waiting=8)
    ask = Ask("auto", False, Prompt(text, 100, 500), Preferences(**preferences), {})
    view = live(CURVE if curve is None else curve)
    decision = await decider.decide(ask, key, view, cold(ask, view))
    decider.close()
    return decision


CURVE = curve()


def promised(decision: Decision) -> tuple[Cause, float | None, float | None, float | None]:
    return decision.cause, decision.dial, decision.promised_quality, decision.promised_spend


@pytest.mark.parametrize(
    ("floor", "dial", "quality", "spend"),
    [(0.5, 10, 0.5, 1), (0.6, 7.9, 0.75, 2), (0.75, 7.9, 0.75, 2), (0.8, 5.9, 1, 3), (1, 5.9, 1, 3)],
)
async def test_a_floor_takes_the_cheapest_setting_that_promises_it(
    floor: float, dial: float, quality: float, spend: float
) -> None:
    assert promised(await decide(min_quality=floor)) == (Cause.VOTE, dial, quality, spend)


@pytest.mark.parametrize(
    ("ceiling", "dial", "quality", "spend"),
    [(9, 0, 1, 5), (5, 0, 1, 5), (4, 1, 1, 4), (3.5, 3, 1, 3), (1, 8, 0.5, 1), (0.5, 10, 0.5, 1)],
)
async def test_a_ceiling_takes_the_best_setting_that_keeps_under_it(
    ceiling: float, dial: float, quality: float, spend: float
) -> None:
    assert promised(await decide(max_cost=ceiling)) == (Cause.VOTE, dial, quality, spend)


async def test_a_floor_that_no_setting_promises_takes_the_best_and_says_what_that_promises() -> None:
    votes = np.array([[0.5, 0.9]] * 4, np.float32)
    outcomes = np.array([[0, 1], [0, 1], [0, 1], [0, 0]], np.float32)
    modest = calibrate(votes, outcomes, np.array([1, 5], np.float32))
    decision = await decide(curve=modest, min_quality=0.9)
    assert promised(decision) == (Cause.VOTE, 0.0, 0.75, 5.0)
    assert decision.model == "dear"


async def test_a_floor_or_ceiling_goes_before_the_key_s_dial() -> None:
    cheapest = KEY.model_copy(update={"dial": 10.0})
    assert (await decide(key=cheapest, min_quality=1.0)).dial == 5.9
    assert (await decide(key=cheapest, max_cost=9.0)).dial == 0.0


async def test_a_dial_makes_no_promise() -> None:
    assert promised(await decide(dial=3.0)) == (Cause.VOTE, 3.0, None, None)


async def test_an_unfamiliar_prompt_is_promised_nothing() -> None:
    assert promised(await decide("strange", min_quality=0.75)) == (Cause.UNFAMILIAR, 7.9, None, None)


async def test_what_is_measured_on_the_whole_fleet_is_not_promised_to_a_part_of_it() -> None:
    third = Model(name="new", price=Price(input=5, output=5), deployments=(Deployment(base_url="u"),))
    fleet = Fleet(models=(*FLEET.models, third))
    view = replace(live(CURVE), fleet=FleetFile(fleet, "fleet-2"))
    decider = Decider(Looked(), workers=1, waiting=8)
    ask = Ask("auto", False, Prompt("hard", 100, 500), Preferences(min_quality=0.75, exclude=("new",)), {})
    decision = await decider.decide(ask, KEY, view, cold(ask, view))
    decider.close()
    assert promised(decision) == (Cause.VOTE, 7.9, None, None)


@pytest.mark.parametrize("wish", [{"min_quality": 0.9}, {"max_cost": 1.0}], ids=str)
async def test_without_a_curve_the_default_answers_and_the_detail_says_why(wish: dict[str, Any]) -> None:
    decision = await decide(curve=FLAT, **wish)
    assert (decision.model, *promised(decision)) == ("dear", Cause.NO_INDEX, None, None, None)
    assert (decision.detail, decision.nearest) == (UNCALIBRATED, 1.0)
    assert (await decide(curve=FLAT, dial=5.0)).cause is Cause.VOTE
