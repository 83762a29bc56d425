"""Ask → Decision. Embedding and search run on threads of their own; nothing here fails a request."""

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from handler.data.live import Live
from handler.errors import BadRequest, NotFound
from handler.fleet import Fleet
from handler.flow import AUTO, Ask, Cause, Decision, Prompt, Ranked
from handler.keys import KeyRecord
from index import dial
from index.ballot import Ballot, Polled
from index.embedder import Embedder

log = logging.getLogger("nearvote.decide")

EVIDENCE_NEIGHBOURS = 10

Costs: TypeAlias = NDArray[np.float64]
"""Dollars, one entry a candidate."""


class Decider:
    """`workers` prompts are embedded at once; `waiting` more may queue, first come, first served, before `busy`
    is the answer."""

    def __init__(self, embedder: Embedder | None, workers: int, waiting: int) -> None:
        self._embedder = embedder
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="decide")
        self._room = workers + waiting

    async def decide(self, ask: Ask, key: KeyRecord, live: Live, full_evidence: bool = False) -> Decision:
        """Raises NotFound for a model that does not exist or restrictions that leave none."""
        if not ask.auto:
            return _named(ask, live)
        pool = candidates(ask, key, live.fleet.fleet)
        fallback = _fallback(pool, key, live.fleet.fleet)
        obstacle = self._obstacle(ask, live, pool)
        if obstacle is not None or live.ballot is None:
            return _unvoted(ask, live, fallback, obstacle or Cause.NO_INDEX)
        polled = await self._poll(live.ballot, ask.prompt.text)
        if isinstance(polled, Cause):
            return _unvoted(ask, live, fallback, polled)
        setting = key.dial if ask.preferences.dial is None else ask.preferences.dial
        decision = _voted(ask, live, live.ballot, polled, pool, fallback, setting)
        if not full_evidence:
            return decision
        return replace(decision, neighbours=tuple(live.ballot.neighbours(polled, EVIDENCE_NEIGHBOURS)))

    def _obstacle(self, ask: Ask, live: Live, pool: Sequence[str]) -> Cause | None:
        """What makes a vote impossible or needless, before anything is embedded."""
        obstacles = (
            (ask.preferences.routing_off, Cause.OPTED_OUT),
            (len(pool) == 1, Cause.ONLY_CANDIDATE),
            (not ask.prompt.text, Cause.NO_TEXT),
            (self._embedder is None, Cause.EMBEDDER_FAULT),
            (live.ballot is None, Cause.NO_INDEX),
        )
        return next((cause for stands, cause in obstacles if stands), None)

    async def _poll(self, ballot: Ballot, text: str) -> Polled | Cause:
        if self._room <= 0:
            return Cause.BUSY
        self._room -= 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._embed_and_poll, ballot, text)
        except Exception as error:
            # The type alone: a message could quote the prompt.
            log.error("a prompt could not be embedded or looked up: %s", type(error).__name__)
            return Cause.EMBEDDER_FAULT
        finally:
            self._room += 1

    def _embed_and_poll(self, ballot: Ballot, text: str) -> Polled:
        assert self._embedder is not None  # noqa: S101 - decide() has asked
        return ballot.poll(self._embedder.embed(text))

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def candidates(ask: Ask, key: KeyRecord, fleet: Fleet) -> list[str]:
    """The fleet's models that key and request leave to `auto`. Raises NotFound naming what left none."""
    wanted = ask.preferences
    unknown = [model for model in wanted.models if model not in fleet.by_name]
    if unknown:
        raise BadRequest(f"`models` names {unknown[0]!r}; the fleet has {', '.join(fleet.by_name)}", param="models")
    restrictions: tuple[tuple[str, Callable[[str], bool]], ...] = (
        ("the key's allowed models", lambda name: not key.allow or _any(key.allow, name)),
        ("the key's excluded models", lambda name: not _any(key.exclude, name)),
        ("the request's `models`", lambda name: not wanted.models or name in wanted.models),
        ("the request's allowed_models", lambda name: not wanted.allow or _any(wanted.allow, name)),
        ("the request's excluded_models", lambda name: not _any(wanted.exclude, name)),
    )
    pool = list(fleet.by_name)
    for restriction, keeps in restrictions:
        left = [name for name in pool if keeps(name)]
        if not left:
            raise NotFound(
                f"no model is left to choose: {restriction} left none of {', '.join(pool)}", code="no_model_left"
            )
        pool = left
    return pool


def _any(globs: Sequence[str], name: str) -> bool:
    return any(fnmatchcase(name, glob) for glob in globs)


def _fallback(pool: Sequence[str], key: KeyRecord, fleet: Fleet) -> str:
    """What answers when there is no vote: the key's default, the fleet's, else the dearest that is allowed."""
    wishes = (key.default_model or "", fleet.default, *fleet.dearest_first)
    return next(model for model in wishes if model in pool)


def _named(ask: Ask, live: Live) -> Decision:
    if ask.model not in live.fleet.fleet.by_name:
        known = ", ".join((*AUTO, *live.fleet.fleet.by_name))
        raise NotFound(
            f"the model {ask.model!r} does not exist; there are: {known}",
            code="model_not_found",
            param="model",
        )
    return _unvoted(ask, live, ask.model, Cause.NAMED)


def _unvoted(ask: Ask, live: Live, model: str, cause: Cause) -> Decision:
    return Decision(
        id=new_id(),
        model=model,
        cause=cause,
        requested=ask.model,
        cost=_cost(live.fleet.fleet, model, ask.prompt),
        index_version=live.ballot.snapshot.version if live.ballot else "",
        fleet_version=live.fleet.version,
        fingerprint=live.ballot.snapshot.manifest.fingerprint if live.ballot else "",
        detail=live.detail if cause is Cause.NO_INDEX else "",
    )


def _voted(
    ask: Ask, live: Live, ballot: Ballot, polled: Polled, pool: Sequence[str], fallback: str, setting: float
) -> Decision:
    vote = polled.vote
    cost = np.array([_cost(live.fleet.fleet, one.name, ask.prompt) for one in ballot.candidates])
    in_pool = np.flatnonzero([one.name in pool for one in ballot.candidates])
    order = dial.rank(vote.quality[in_pool], _typical(cost, ballot)[in_pool], setting, ballot.curve.rate(setting))
    ranking = tuple(
        Ranked(
            ballot.candidates[place].name, float(vote.quality[place]), float(vote.support[place]), float(cost[place])
        )
        for place in in_pool[order]
    )
    familiar = vote.nearest >= ballot.snapshot.manifest.params.familiar
    if familiar and ranking:
        chosen, cause, confidence = ranking[0].model, Cause.VOTE, ranking[0].quality
    else:
        chosen, cause, confidence = fallback, Cause.UNFAMILIAR if ranking else Cause.NO_INDEX, None
    return replace(
        _unvoted(ask, live, chosen, cause),
        confidence=confidence,
        dial=setting,
        nearest=vote.nearest,
        ranking=ranking,
    )


def _typical(cost: Costs, ballot: Ballot) -> Costs:
    """This request's costs on the scale of a typical request's, on which the dial is calibrated: the dial weighs
    what models cost beside each other, so it means the same for a short request and a long one."""
    dearest = max(one.cost for one in ballot.candidates)
    return cost * (dearest / cost.max()) if cost.max() > 0 else cost


def _cost(fleet: Fleet, model: str, prompt: Prompt) -> float:
    return fleet.by_name[model].price.of(prompt.input_tokens, prompt.output_tokens)


def new_id() -> str:
    return f"dec-{secrets.token_hex(12)}"
