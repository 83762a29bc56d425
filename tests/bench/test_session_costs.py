"""The simulation of conversations; figures that a person can compute."""

import itertools
from dataclasses import replace
from random import Random

import numpy as np
import pytest

from handler.fleet import Deployment, Fleet, Model, Price
from handler.flow import Usage
from index.ballot import draw_up
from index.structure import describe
from index.types import Example, VoteParams
from scripts.simulated_cache import PromptCache
from scripts.simulated_protocol import CHARACTERS_PER_TOKEN, Part
from tests.bench.quality import traces
from tests.bench.quality.cases import SIX, with_cache
from tests.bench.quality.rides import PromptCaches, Router, Turn, always, ride, switches
from tests.bench.quality.sessions import LEVELS, MIX, Bill, Compared, World
from tests.bench.quality.traces import Step
from tests.tiny import snapshot_of, unit


def model(name: str, dollars: float, **price: float) -> Model:
    """Dollars per million tokens; what the cache has costs a tenth."""
    prices = Price(input=dollars, output=0.0, cached_input=dollars / 10, **price)
    return Model(name=name, price=prices, deployments=(Deployment(base_url="u"),))


CHEAP, DEAR = model("cheap", 1), model("dear", 10, cache_write=12)
FLEET = Fleet(models=(CHEAP, DEAR))
EASY, HARD = 0, 1
"""Rows of the prompts: of the first both models are right, of the second the dear one alone."""


def step(row: int, at: float, tokens: int) -> Step:
    return Step(row, at, tokens, output_tokens=100)


def router(dial: float) -> Router:
    vectors = np.array([unit(1, 0), unit(0, 1)])
    examples = [Example("e", "easy", {"cheap": 1.0, "dear": 1.0}), Example("h", "hard", {"cheap": 0.0, "dear": 1.0})]
    ballot = draw_up(snapshot_of(examples, vectors, VoteParams(1, 10.0, 1.0, 0.0)), FLEET.candidates)
    polled = [ballot.poll(vector, describe(text)) for vector, text in zip(vectors, ("easy", "hard"), strict=True)]
    return Router(FLEET, ballot, polled, dial)


def models(turns: list[Turn]) -> list[str]:
    return [turn.model for turn in turns]


def test_conversations_are_the_same_for_the_same_seed_and_only_grow() -> None:
    made = traces.conversations(20, 9, 0.25, Random(3))
    assert made == traces.conversations(20, 9, 0.25, Random(3))
    for talk in made:
        assert traces.TURNS[0] <= len(talk) <= traces.TURNS[1]
        for one, other in itertools.pairwise(talk):
            assert other.at > one.at
            assert other.input_tokens >= one.input_tokens + one.output_tokens + traces.GROWTH_TOKENS[0]


def test_only_a_users_turn_is_about_another_prompt() -> None:
    (talk,) = traces.conversations(1, 1000, 0.0, Random(1))
    assert len({one.row for one in talk}) == 1
    (talk,) = traces.conversations(1, 1_000_000, 1.0, Random(1))
    assert len({one.row for one in talk}) == len(talk)


def test_a_provider_bills_what_it_has_what_it_takes_in_and_what_it_forgot() -> None:
    talk = (step(0, 0, 2000), step(0, 300, 3000), step(0, 601, 4000))
    assert [turn.usage for turn in ride(talk, FLEET, always("dear"))] == [
        Usage(2000, 100, cached_tokens=0, written_tokens=2000),
        Usage(3000, 100, cached_tokens=2000, written_tokens=1000),
        Usage(4000, 100, cached_tokens=0, written_tokens=4000),
    ]


def test_what_is_billed_is_what_the_simulated_provider_counts() -> None:
    (talk,) = traces.conversations(1, 9, 1.0, Random(5))
    clock = 0.0
    cache, ours, parts, sent = PromptCache(lambda: clock), PromptCaches(), [], 0
    for place, one in enumerate(talk):
        clock = one.at
        parts.append(Part(str(place).encode(), (one.input_tokens - sent) * CHARACTERS_PER_TOKEN, kept=True))
        sent = one.input_tokens
        counted = cache.use("dear", parts)
        assert ours.use(DEAR, one) == Usage(sent, one.output_tokens, counted.read, counted.written)


def test_a_router_that_sees_the_cache_stays_where_the_conversation_is_warm() -> None:
    talk = (step(HARD, 0, 20_000), step(EASY, 10, 20_500), step(EASY, 20, 21_000))
    middle = router(5.0)
    assert models(ride(talk, FLEET, middle.unaware)) == ["dear", "cheap", "cheap"]
    assert models(ride(talk, FLEET, middle.aware)) == ["dear", "dear", "dear"]
    assert models(ride(talk, FLEET, middle.sticky)) == ["dear", "dear", "dear"]
    assert switches(ride(talk, FLEET, middle.unaware)) == 1


def test_past_the_caches_life_the_router_is_free_again() -> None:
    talk = (step(HARD, 0, 20_000), step(EASY, 301, 20_500))
    assert models(ride(talk, FLEET, router(5.0).aware)) == ["dear", "cheap"]


def test_looking_ahead_charges_a_switch_with_the_prefix_that_it_breaks() -> None:
    talk = (step(EASY, 0, 20_000), step(HARD, 10, 20_500))
    assert models(ride(talk, FLEET, router(5.0).aware)) == ["cheap", "dear"]
    assert models(ride(talk, FLEET, replace(router(5.0), ahead=100.0).aware)) == ["cheap", "cheap"]


def test_a_bill_is_of_one_conversation_on_average() -> None:
    talks = [(step(EASY, 0, 10_000), step(HARD, 10, 20_000)), (step(HARD, 0, 10_000),)]
    middle = router(5.0)
    outcomes = np.array([[1.0, 1.0], [0.0, 1.0]])
    world = World(FLEET, middle.ballot, middle.polled, outcomes, talks)
    bill = world.bill(always("dear"))
    assert (bill.total, bill.read, bill.written) == pytest.approx(((0.01 + 0.36) / 2, 0.01 / 2, 0.36 / 2))
    assert (bill.quality, bill.switches) == (1.0, 0.0)
    assert world.bill(always("cheap")).quality == pytest.approx(1 / 3)


def test_at_equal_quality_the_two_models_alone_are_mixed() -> None:
    cheapest, dearest = Bill(1.0, 0, 0, 0.0, 0), Bill(5.0, 0, 0, 1.0, 0)
    found = Compared(cheapest, dearest, {"good": (replace(cheapest, total=1.5, quality=0.5),)})
    assert found.equal(MIX) == pytest.approx([1 + 4 * level for level in LEVELS])
    assert found.equal("good") == pytest.approx([1.25, 1.5, 3.25, 4.3])


@pytest.mark.parametrize(
    ("name", "cached", "written"),
    [
        ("claude-3-5-sonnet-20241022", 0.3, 3.75),
        ("gpt-4o-2024-08-06", 1.25, None),
        ("Meta-Llama-3.1-8B-Instruct", None, None),
    ],
)
def test_prices_of_2024_know_each_providers_cache(name: str, cached: float | None, written: float | None) -> None:
    found = with_cache(name, SIX[name])
    assert (found.input, found.output) == (SIX[name].input, SIX[name].output)
    assert [found.cached_input, found.cache_write] == pytest.approx([cached, written])
