import asyncio
import re
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handler.data.decide import Decider
from handler.data.live import Live
from handler.errors import ApiError, BadRequest, NotFound
from handler.fleet import Deployment, Fleet, FleetFile, Model, Price, parse
from handler.flow import Ask, Cause, Decision, Preferences, Prompt, Ranked
from handler.keys import KeyRecord, Routing
from index.ballot import draw_up
from index.directory_store import DirectoryStore
from index.embedder import Embedder
from index.types import Example, Floats, Neighbour, VoteParams
from index.versions import Repository
from scripts.local_state import fleet_for
from tests.outlooks import cold
from tests.tiny import snapshot_of, unit

KEY = KeyRecord(id="0" * 12, digest="0" * 64, created_at="", name="key", routing=Routing.ON)
PARAMS = VoteParams(k=1, beta=10.0, kappa=1.0, familiar=0.8)
EXAMPLES = [
    Example("easy-1", "an easy prompt", {"cheap": 1.0, "dear": 1.0}),
    Example("hard-1", "a hard prompt", {"cheap": 0.0, "dear": 1.0}),
]
VECTORS = {"easy": unit(1, 0), "hard": unit(0, 1), "strange": unit(-1, -1)}
"""What the embedder makes of a prompt."""


class Looked(Embedder):
    """Knows a few texts, each with its vector."""

    def __init__(self) -> None:
        pass

    def embed(self, text: str) -> Floats:
        return VECTORS[text]


class Broken(Looked):
    def embed(self, _: str) -> Floats:
        raise RuntimeError("a fault that quotes the prompt")


class Held(Looked):
    """Embeds nothing until it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def embed(self, text: str) -> Floats:
        assert self.go.wait(5)
        return super().embed(text)


def model(name: str, dollars: float) -> Model:
    """Dollars per million tokens of either kind."""
    return Model(name=name, price=Price(input=dollars, output=dollars), deployments=(Deployment(base_url="u"),))


FLEET = Fleet(models=(model("cheap", 1), model("dear", 10)))


def live(fleet: Fleet = FLEET, examples: Sequence[Example] = EXAMPLES, **params: Any) -> Live:
    vectors = np.array([VECTORS[example.id.split("-")[0]] for example in examples])
    snapshot = snapshot_of(examples, vectors, replace(PARAMS, **params))
    return Live(FleetFile(fleet, "fleet-1"), draw_up(snapshot, fleet.candidates))


def ask(text: str = "easy", model: str = "auto", tokens: int = 100, **preferences: Any) -> Ask:
    return Ask(model, False, Prompt(text, tokens, 500), Preferences(**preferences), {})


@asynccontextmanager
async def deciding(embedder: Embedder | None, workers: int = 1, waiting: int = 8) -> AsyncIterator[Decider]:
    decider = Decider(embedder, workers, waiting)
    yield decider
    decider.close()


async def decide(
    ask: Ask, key: KeyRecord = KEY, live: Live | None = None, embedder: Embedder | None = None, evidence: bool = False
) -> Decision:
    """The decision, with `id` for its id."""
    async with deciding(embedder or Looked()) as decider:
        decision = await decider.decide(ask, key, view := live or LIVE, cold(ask, view), evidence)
    assert re.fullmatch(r"dec-[0-9a-f]{24}", decision.id)
    return replace(decision, id="id")


LIVE = live()
COLD = cold(ask(), LIVE)
CHEAP_COST, DEAR_COST = (100 + 500) * 1 / 1e6, (100 + 500) * 10 / 1e6
UNVOTED = Decision(
    id="id",
    model="dear",
    cause=Cause.NAMED,
    requested="auto",
    cost=DEAR_COST,
    fallbacks=("cheap",),
    index_version="version",
    fleet_version="fleet-1",
)
"""What all unvoted decisions are like, but for model, cause and detail."""
# k = 1 and κ = 1: the nearest example's outcome and the mean over the index count the same.
EASY = (
    Ranked("dear", (1 + 1) / 2, (1 + 1) / 2, 1.0, DEAR_COST),
    Ranked("cheap", (1 + 0.5) / 2, (1 + 0.5) / 2, 1.0, CHEAP_COST),
)
HARD = (
    Ranked("dear", (1 + 1) / 2, (1 + 1) / 2, 1.0, DEAR_COST),
    Ranked("cheap", (0 + 0.5) / 2, (0 + 0.5) / 2, 1.0, CHEAP_COST),
)


async def test_dial_0_takes_the_best_by_vote_whatever_it_costs() -> None:
    voted = replace(UNVOTED, cause=Cause.VOTE, confidence=1.0, dial=0.0, nearest=1.0, ranking=EASY)
    assert await decide(ask(dial=0)) == voted


async def test_dial_10_takes_the_cheapest_whatever_the_vote() -> None:
    assert await decide(ask("hard", dial=10)) == replace(
        UNVOTED,
        model="cheap",
        cause=Cause.VOTE,
        cost=CHEAP_COST,
        fallbacks=("dear",),
        confidence=0.25,
        dial=10.0,
        nearest=1.0,
        ranking=HARD[::-1],
    )


async def test_the_key_s_dial_counts_where_the_request_has_none() -> None:
    cheapest = KEY.model_copy(update={"dial": 10.0})
    assert ((await decide(ask(), cheapest)).dial, (await decide(ask(dial=3), cheapest)).dial) == (10.0, 3.0)


async def test_full_evidence_names_the_neighbours_and_changes_nothing_else() -> None:
    plain = await decide(ask("hard", dial=0))
    assert plain.neighbours == ()
    neighbour = Neighbour("hard-1", 1.0, 1.0, "a hard prompt", {"cheap": 0.0, "dear": 1.0})
    assert await decide(ask("hard", dial=0), evidence=True) == replace(plain, neighbours=(neighbour,))


async def test_an_unfamiliar_prompt_goes_to_the_default_with_the_vote_as_evidence() -> None:
    decision = await decide(ask("strange", dial=0))
    nearest = float(VECTORS["strange"][0])
    assert decision == replace(UNVOTED, cause=Cause.UNFAMILIAR, dial=0.0, nearest=nearest, ranking=decision.ranking)
    assert [one.model for one in decision.ranking] == ["dear", "cheap"]


async def test_without_an_index_the_default_answers_and_the_detail_says_why() -> None:
    empty = Live(FleetFile(FLEET, "fleet-1"), None, "the index is empty")
    assert await decide(ask(), live=empty) == replace(
        UNVOTED, cause=Cause.NO_INDEX, index_version="", detail="the index is empty"
    )


async def test_an_index_that_knows_none_of_the_models_is_none() -> None:
    strangers = Fleet(models=(model("new-1", 1), model("new-2", 10)))
    decision = await decide(ask(dial=0), live=live(strangers))
    assert decision == replace(
        UNVOTED, model="new-2", cause=Cause.NO_INDEX, dial=0.0, nearest=1.0, fallbacks=("new-1",)
    )


async def test_a_model_that_the_index_does_not_know_is_left_out_of_the_vote() -> None:
    known_and_new = Fleet(models=(model("new", 0.1), model("cheap", 1), model("dear", 10)))
    decision = await decide(ask("hard", dial=10), live=live(known_and_new))
    assert (decision.model, [one.model for one in decision.ranking]) == ("cheap", ["cheap", "dear"])


async def test_a_request_without_text_goes_to_the_default() -> None:
    assert await decide(ask("")) == replace(UNVOTED, cause=Cause.NO_TEXT)


async def test_an_embedder_that_fails_is_no_failed_request(caplog: pytest.LogCaptureFixture) -> None:
    assert await decide(ask(), embedder=Broken()) == replace(UNVOTED, cause=Cause.EMBEDDER_FAULT)
    assert [record.getMessage() for record in caplog.records] == [
        "a prompt could not be embedded or looked up: RuntimeError"
    ]


async def test_without_an_embedder_the_default_answers() -> None:
    async with deciding(None) as decider:
        decision = await decider.decide(ask(), KEY, LIVE, COLD)
    assert replace(decision, id="id") == replace(UNVOTED, cause=Cause.EMBEDDER_FAULT)


async def test_the_only_candidate_needs_no_vote() -> None:
    decision = await decide(ask(exclude=("d*",)), embedder=Broken())
    assert decision == replace(UNVOTED, model="cheap", cause=Cause.ONLY_CANDIDATE, cost=CHEAP_COST, fallbacks=())


async def test_a_request_that_opts_out_gets_the_default_without_a_vote() -> None:
    assert await decide(ask(routing_off=True), embedder=Broken()) == replace(
        UNVOTED, cause=Cause.OPTED_OUT, fallbacks=()
    )


async def test_a_named_model_is_taken_whatever_the_restrictions() -> None:
    strict = KEY.model_copy(update={"exclude": ("cheap",)})
    decision = await decide(ask(model="cheap", exclude=("cheap",)), strict, embedder=Broken())
    assert decision == replace(UNVOTED, model="cheap", requested="cheap", cost=CHEAP_COST, fallbacks=())


@pytest.mark.parametrize(
    ("key_default", "fleet_default", "exclude", "chosen"),
    [
        (None, "", (), "c"),
        (None, "a", (), "a"),
        ("b", "a", (), "b"),
        ("b", "a", ("b",), "a"),
        ("b", "a", ("a", "b"), "c"),
        ("gone", "", (), "c"),
        (None, "", ("c",), "b"),
    ],
)
async def test_the_default_is_the_key_s_then_the_fleet_s_then_the_dearest_that_is_allowed(
    key_default: str | None, fleet_default: str, exclude: tuple[str, ...], chosen: str
) -> None:
    fleet = Fleet(models=(model("a", 1), model("b", 2), model("c", 3), model("d", 0.5)), default=fleet_default)
    key = KEY.model_copy(update={"default_model": key_default, "exclude": exclude})
    decision = await decide(ask(routing_off=True), key, Live(FleetFile(fleet, "fleet-1"), None))
    assert (decision.model, decision.cause) == (chosen, Cause.OPTED_OUT)


@pytest.mark.parametrize(
    ("key", "preferences", "models"),
    [
        ({}, {}, ["a-1", "a-2", "b-1"]),
        ({"allow": ("a-*",)}, {}, ["a-1", "a-2"]),
        ({"allow": ("a-1", "b-*")}, {}, ["a-1", "b-1"]),
        ({"exclude": ("*-1",)}, {"allow": ("a-*", "b-*")}, ["a-2"]),
        ({}, {"models": ("b-1", "a-1")}, ["a-1", "b-1"]),
        ({"allow": ("a-*",)}, {"exclude": ("*-2",)}, ["a-1"]),
    ],
)
async def test_restrictions_of_key_and_request_leave_what_both_allow(
    key: dict[str, Any], preferences: dict[str, Any], models: list[str]
) -> None:
    examples = [Example("easy-1", "p", {"a-1": 1, "a-2": 1, "b-1": 1})]
    fleet = Fleet(models=(model("a-1", 1), model("a-2", 2), model("b-1", 3)))
    decision = await decide(ask(dial=10, **preferences), KEY.model_copy(update=key), live(fleet, examples))
    assert ([one.model for one in decision.ranking] or [decision.model]) == models


@pytest.mark.parametrize(
    ("key", "preferences", "error", "words"),
    [
        ({"allow": ("x",)}, {}, NotFound, "the key's allowed models left none of cheap, dear"),
        ({"exclude": ("*",)}, {}, NotFound, "the key's excluded models left none of cheap, dear"),
        ({"allow": ("cheap",)}, {"models": ("dear",)}, NotFound, "the request's `models` left none of cheap"),
        ({}, {"allow": ("x",)}, NotFound, "the request's allowed_models left none of cheap, dear"),
        ({"allow": ("dear",)}, {"exclude": ("d*",)}, NotFound, "the request's excluded_models left none of dear"),
        ({}, {"models": ("cheap", "gone")}, BadRequest, "`models` names 'gone'; the fleet has cheap, dear"),
    ],
)
async def test_restrictions_that_leave_none_are_named(
    key: dict[str, Any], preferences: dict[str, Any], error: type[ApiError], words: str
) -> None:
    with pytest.raises(error) as refused:
        await decide(ask(**preferences), KEY.model_copy(update=key))
    assert words in refused.value.message


async def test_an_unknown_model_is_refused_with_those_that_exist() -> None:
    with pytest.raises(NotFound) as refused:
        await decide(ask(model="gpt-9"))
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
    assert refused.value.message == "the model 'gpt-9' does not exist; there are: auto, nearvote/auto, cheap, dear"


async def test_past_the_queue_the_default_answers_at_once_and_those_before_still_vote() -> None:
    held = Held()
    async with deciding(held, workers=1, waiting=2) as decider:
        voting = [asyncio.create_task(decider.decide(ask(dial=0), KEY, LIVE, COLD)) for _ in range(3)]
        await asyncio.sleep(0)  # each runs until it waits
        fourth = await asyncio.wait_for(decider.decide(ask(), KEY, LIVE, COLD), 1)
        assert replace(fourth, id="id") == replace(UNVOTED, cause=Cause.BUSY)
        held.go.set()
        assert [decision.cause for decision in await asyncio.gather(*voting)] == [Cause.VOTE] * 3
        assert (await decider.decide(ask(dial=0), KEY, LIVE, COLD)).cause is Cause.VOTE


async def test_callers_who_leave_make_room_in_the_queue() -> None:
    held = Held()
    async with deciding(held, workers=1, waiting=1) as decider:
        leaving = [asyncio.create_task(decider.decide(ask(), KEY, LIVE, COLD)) for _ in range(2)]
        await asyncio.sleep(0)
        for task in leaving:
            task.cancel()
        await asyncio.wait(leaving)
        staying = asyncio.create_task(decider.decide(ask(dial=0), KEY, LIVE, COLD))
        await asyncio.sleep(0)
        held.go.set()
        assert (await staying).cause is Cause.VOTE


async def test_the_dial_means_the_same_for_a_short_request_and_a_long_one() -> None:
    share = [0.0, 0.3, 0.6, 0.9]  # of what the dear model does that the cheap one does too
    examples = [
        Example(f"{kind}-{place}", "p", {"cheap": good / 4 if kind == "hard" else good, "dear": 1.0})
        for kind in ("easy", "hard")
        for place, good in enumerate(share)
    ]
    both = live(examples=examples, k=4)

    async def chosen(text: str, tokens: int) -> list[str]:
        return [(await decide(ask(text, tokens=tokens, dial=dial), live=both)).model for dial in range(11)]

    for text in ("easy", "hard"):
        short = await chosen(text, tokens=10)
        assert short == await chosen(text, tokens=100_000)
        assert set(short) == {"cheap", "dear"}
        assert short == sorted(short, reverse=True)  # raising the dial never goes back to the dear one


@dataclass(frozen=True, slots=True)
class Burst:
    order: list[int]
    """Arrival numbers in the order of the answers."""
    causes: set[Cause]
    longest_block_s: float


@pytest.fixture(scope="module")
def starter(starter_home: Path) -> Live:
    fleet = parse(fleet_for({}))
    return Live(fleet, draw_up(Repository(DirectoryStore(starter_home)).current(), fleet.fleet.candidates))


async def burst(decider: Decider, live: Live, label: str) -> Burst:
    order: list[int] = []
    causes: set[Cause] = set()

    async def one(number: int) -> None:
        text = f"{label} {number}: summarise the attached incident report for a manager in three sentences"
        causes.add((await decider.decide(ask(text), KEY, live, cold(ask(text), live))).cause)
        order.append(number)

    watching = asyncio.create_task(longest_block())
    await asyncio.sleep(0)
    await asyncio.gather(*(one(number) for number in range(64)))
    watching.cancel()
    await asyncio.wait([watching])
    return Burst(order, causes, watching.result())


async def longest_block() -> float:
    """Seconds for which the event loop was kept from its next turn, until cancelled."""
    longest = 0.0
    try:
        while True:
            started = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - started - 0.001)
    except asyncio.CancelledError:
        return longest


async def test_a_burst_of_64_is_answered_in_order_and_never_blocks_the_event_loop(
    embedder: Embedder, starter: Live
) -> None:
    blocks = []
    async with deciding(embedder, workers=1, waiting=64) as decider:
        for attempt in range(5):  # a busy machine stops the process itself now and then: once must do
            seen = await burst(decider, starter, f"burst {attempt}")
            assert seen.causes <= {Cause.VOTE, Cause.UNFAMILIAR}
            assert seen.order == list(range(64))
            blocks.append(seen.longest_block_s)
            if blocks[-1] < 0.05:
                break
    assert min(blocks) < 0.05
