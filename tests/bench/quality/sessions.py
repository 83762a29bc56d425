"""What routing costs in conversations, where to switch models is to lose the prompt cache."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from random import Random

import numpy as np
from tqdm import tqdm

from handler.fleet import PER, Deployment, Fleet, Model
from index.ballot import Ballot, Polled, draw_up
from scripts.evaluation import upload
from scripts.evaluation.arrays import Numbers
from scripts.evaluation.curves import hull
from scripts.evaluation.outcomes import split
from scripts.evaluation.upload import Prompts
from tests.bench.quality import traces
from tests.bench.quality.cases import DOMINATED, INDEXED_FLEET, SIX, ZEROEVAL_PAIRS, with_cache
from tests.bench.quality.report import Cell, Part, Table, over
from tests.bench.quality.rides import Choice, Router, always, ride, switches
from tests.bench.quality.traces import Conversation

FLEETS = {
    "haiku→sonnet": ZEROEVAL_PAIRS["ZeroEval haiku→sonnet"],
    "4o-mini→o1-mini": ZEROEVAL_PAIRS["ZeroEval 4o-mini→o1-mini"],
    "six models": tuple(SIX),
}
USER_TURNS = {"chats": 1.0, "agent loops": 0.25}
"""The share of the turns that are the user's: in a chat each is about another prompt."""
DIALS = (1.0, 3.0, 5.0, 7.0, 9.0)
LEVELS = (0.25, 0.5, 0.75, 0.9)
"""Of the way from the cheapest model's quality to the dearest's."""
SEEDS = 8
CONVERSATIONS = 20
MIX, UNAWARE, STICKY, AWARE = "whole conversations by lot", "turn by turn, cache unseen", "sticky forever", "nearvote"
AHEAD = "nearvote, looking ahead"
TURNS_AHEAD = 2.0
ROUTED: Mapping[str, Callable[[Router], Choice]] = {
    UNAWARE: lambda router: router.unaware,
    STICKY: lambda router: router.sticky,
    AWARE: lambda router: router.aware,
    AHEAD: lambda router: replace(router, ahead=TURNS_AHEAD).aware,
}
NOTE = (
    "A conversation, mean over all: dollars, those of them for tokens read from and written into a prompt cache, and"
    " switches of model; quality is the mean measured outcome over turns."
)
EQUAL = (
    "Dollars a conversation ± standard error over seeds at equal quality, as shares of the way from the cheapest"
    f" model's to the dearest's; settings of the dial, and the two models alone, may be mixed by conversation. '{MIX}'"
    f" mixes the two alone; '{AHEAD}' charges a switch with the prefix that it breaks, {TURNS_AHEAD:g} times over. The"
    " last two rows are paired by seed."
)


@dataclass(frozen=True, slots=True)
class Bill:
    """What a policy cost, in dollars a conversation, and gave."""

    total: float
    read: float
    written: float
    quality: float
    switches: float


@dataclass(frozen=True, slots=True)
class World:
    """One split's index, and conversations about the prompts that are not in it."""

    fleet: Fleet
    ballot: Ballot
    polled: Sequence[Polled]
    outcomes: Numbers
    """[q, m], in the fleet's order."""
    conversations: Sequence[Conversation]

    def bill(self, choice: Choice) -> Bill:
        ridden = [ride(conversation, self.fleet, choice) for conversation in self.conversations]
        turns = [(self.fleet.by_name[turn.model].price, turn) for turns in ridden for turn in turns]
        count, column = len(ridden), {model.name: place for place, model in enumerate(self.fleet.models)}
        return Bill(
            sum(price.of(turn.usage) for price, turn in turns) / count,
            sum((price.cached_input or 0.0) * turn.usage.cached_tokens for price, turn in turns) / PER / count,
            sum((price.cache_write or 0.0) * turn.usage.written_tokens for price, turn in turns) / PER / count,
            float(np.mean([self.outcomes[turn.row, column[turn.model]] for _, turn in turns])),
            sum(map(switches, ridden)) / count,
        )


@dataclass(frozen=True, slots=True)
class Compared:
    """All policies in one world."""

    cheapest: Bill
    dearest: Bill
    routed: Mapping[str, tuple[Bill, ...]]
    """One for each of the DIALS."""

    def equal(self, policy: str) -> list[float]:
        """Dollars at each of the LEVELS."""
        ends = (self.cheapest, self.dearest)
        bills = (*ends, *self.routed.get(policy, ()))
        line = hull(np.array([bill.total for bill in bills]), np.array([bill.quality for bill in bills]))
        low, high = (bill.quality for bill in ends)
        return [float(np.interp(low + level * (high - low), line.quality, line.spend)) for level in LEVELS]


def part(prompts: Prompts, seeds: int | None) -> Part:
    tables = []
    for fleet, models in FLEETS.items():
        for kind, user_turns in USER_TURNS.items():
            make = partial(world, prompts, priced(models), user_turns, CONVERSATIONS)
            seeded = tqdm(range(seeds or SEEDS), desc=f"{fleet}, {kind}", unit="seeds", leave=False)
            found = [compare(make(seed)) for seed in seeded]
            tables += [_bills(f"{fleet}, {kind}", found), _equal(f"{fleet}, {kind}: equal quality", found)]
    return Part("Sessions", tuple(tables))


def priced(models: Sequence[str]) -> Fleet:
    nowhere = (Deployment(base_url="http://127.0.0.1"),)
    return Fleet(
        models=tuple(Model(name=name, price=with_cache(name, DOMINATED[name]), deployments=nowhere) for name in models)
    )


def world(prompts: Prompts, fleet: Fleet, user_turns: float, count: int, seed: int) -> World:
    every = len(prompts.outcomes)
    parts = split(every, seed, round(every * INDEXED_FLEET))
    columns = [prompts.outcomes.models.index(model.name) for model in fleet.models]
    outcomes = prompts.outcomes.scores[parts.rest][:, columns]
    known = ~np.isnan(outcomes).any(axis=1)
    asked = parts.rest[known]
    ballot = draw_up(upload.build(prompts, parts.index), fleet.candidates)
    polled = [ballot.poll(prompts.vectors[row], prompts.structures[row]) for row in asked]
    talks = traces.conversations(count, len(asked), user_turns, Random(seed))
    return World(fleet, ballot, polled, outcomes[known], talks)


def compare(world: World) -> Compared:
    routers = [Router(world.fleet, world.ballot, world.polled, dial) for dial in DIALS]
    dearest, *_, cheapest = world.fleet.dearest_first
    return Compared(
        world.bill(always(cheapest)),
        world.bill(always(dearest)),
        {policy: tuple(world.bill(choice(router)) for router in routers) for policy, choice in ROUTED.items()},
    )


def _bills(title: str, found: Sequence[Compared]) -> Table:
    policies: list[tuple[str, str, list[Bill]]] = [
        ("always the dearest", "", [one.dearest for one in found]),
        ("always the cheapest", "", [one.cheapest for one in found]),
        *(
            (policy, f"{dial:g}", [one.routed[policy][place] for one in found])
            for policy in ROUTED
            for place, dial in enumerate(DIALS)
        ),
    ]
    columns = ("policy", "dial", "dollars", "read", "written", "quality", "switches")
    rows: list[tuple[Cell, ...]] = [
        (
            policy,
            dial,
            *(
                float(np.mean([getattr(bill, name) for bill in bills]))
                for name in ("total", "read", "written", "quality", "switches")
            ),
        )
        for policy, dial, bills in policies
    ]
    return Table(title, columns, tuple(rows), NOTE)


def _equal(title: str, found: Sequence[Compared]) -> Table:
    dollars = {policy: np.array([one.equal(policy) for one in found]) for policy in (MIX, *ROUTED)}
    saved = {
        f"{AWARE} saves, of '{UNAWARE}'": 1 - dollars[AWARE] / dollars[UNAWARE],
        f"looking ahead saves, of '{AWARE}'": 1 - dollars[AHEAD] / dollars[AWARE],
    }
    rows: list[tuple[Cell, ...]] = [
        (name, *(over(column) for column in each.T.tolist())) for name, each in (dollars | saved).items()
    ]
    return Table(title, ("policy", *(f"{level:.0%}" for level in LEVELS)), tuple(rows), EQUAL)
