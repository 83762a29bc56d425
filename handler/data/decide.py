"""Ask → Decision. Embedding and search run on threads of their own; nothing here fails a request."""

import asyncio
import logging
import secrets
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from handler.data import slate as slates
from handler.data.live import Live
from handler.data.slate import Slate
from handler.errors import NotFound
from handler.flow import AUTO, Ask, Cause, Decision, Ranked, Usage
from handler.keys import KeyRecord
from index import dial
from index.ballot import Ballot, Polled
from index.embedder import Embedder
from index.structure import describe

log = logging.getLogger("nearvote.decide")

EVIDENCE_NEIGHBOURS = 10
UNCALIBRATED = "a floor or a ceiling was asked for, but there is nothing to calibrate the dial on"


class EmbedderFault(Exception):
    """Why there is no vote, without a word of the prompt."""


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
        slate = slates.draw(ask.preferences, key, live.fleet.fleet)
        obstacle = self._obstacle(ask, live, slate)
        if obstacle is not None or live.ballot is None:
            return _unvoted(ask, live, slate.fallback, obstacle or Cause.NO_INDEX)
        polled = await self._poll(live.ballot, ask.prompt.text)
        if isinstance(polled, Cause):
            return _unvoted(ask, live, slate.fallback, polled)
        decision = _voted(ask, live, live.ballot, slate, polled)
        if not full_evidence:
            return decision
        return _explained(decision, live.ballot, polled)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _obstacle(self, ask: Ask, live: Live, slate: Slate) -> Cause | None:
        """What makes a vote impossible or needless, before anything is embedded."""
        obstacles = (
            (ask.preferences.routing_off, Cause.OPTED_OUT),
            (len(slate.names) == 1, Cause.ONLY_CANDIDATE),
            (not ask.prompt.text, Cause.NO_TEXT),
            (self._embedder is None, Cause.EMBEDDER_FAULT),
            (live.ballot is None, Cause.NO_INDEX),
            (self._room <= 0, Cause.BUSY),
        )
        return next((cause for stands, cause in obstacles if stands), None)

    async def _poll(self, ballot: Ballot, text: str) -> Polled | Cause:
        self._room -= 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._embed_and_poll, ballot, text)
        except EmbedderFault as error:
            log.error("a prompt could not be embedded or looked up: %s", error)
            return Cause.EMBEDDER_FAULT
        finally:
            self._room += 1

    def _embed_and_poll(self, ballot: Ballot, text: str) -> Polled:
        assert self._embedder is not None  # noqa: S101 - decide() has asked
        try:
            return ballot.poll(self._embedder.embed(text), describe(text))
        except BaseException as error:
            # Whatever it died of, a panic in native code too, the request lives. A message could quote the prompt.
            raise EmbedderFault(type(error).__name__) from None


def _named(ask: Ask, live: Live) -> Decision:
    known = live.fleet.fleet.by_name
    if ask.model not in known:
        message = f"the model {ask.model!r} does not exist; there are: {', '.join((*AUTO, *known))}"
        raise NotFound(message, code="model_not_found", param="model")
    return _unvoted(ask, live, ask.model, Cause.NAMED)


def _unvoted(ask: Ask, live: Live, model: str, cause: Cause) -> Decision:
    return Decision(
        id=f"dec-{secrets.token_hex(12)}",
        model=model,
        cause=cause,
        requested=ask.model,
        cost=_cost(ask, live, model),
        index_version=live.ballot.snapshot.version if live.ballot else "",
        fleet_version=live.fleet.version,
        fingerprint=live.ballot.snapshot.manifest.fingerprint if live.ballot else "",
        detail=live.detail if cause is Cause.NO_INDEX else "",
    )


def _voted(ask: Ask, live: Live, ballot: Ballot, slate: Slate, polled: Polled) -> Decision:
    nearest, setting = polled.vote.nearest, slate.setting(ballot.fit.curve)
    if setting is None:
        return replace(_unvoted(ask, live, slate.fallback, Cause.NO_INDEX), nearest=nearest, detail=UNCALIBRATED)
    ranking = _ranking(ask, live, ballot, slate.names, setting.dial, polled)
    if not ranking:
        model, cause = slate.fallback, Cause.NO_INDEX
    elif nearest < ballot.snapshot.manifest.params.familiar:
        model, cause = slate.fallback, Cause.UNFAMILIAR
    else:
        model, cause = ranking[0].model, Cause.VOTE
    confidence = ranking[0].quality if cause is Cause.VOTE else None
    plain = _unvoted(ask, live, model, cause)
    decision = replace(plain, confidence=confidence, dial=setting.dial, nearest=nearest, ranking=ranking)
    if setting.promise is None or cause is not Cause.VOTE:
        return decision
    return replace(decision, promised_quality=setting.promise.quality, promised_spend=setting.promise.spend)


def _explained(decision: Decision, ballot: Ballot, polled: Polled) -> Decision:
    terms = dict(zip((one.name for one in ballot.candidates), ballot.terms(polled), strict=True))
    ranking = tuple(replace(ranked, terms=terms[ranked.model]) for ranked in decision.ranking)
    neighbours = tuple(ballot.neighbours(polled, EVIDENCE_NEIGHBOURS))
    return replace(decision, ranking=ranking, neighbours=neighbours)


def _ranking(
    ask: Ask, live: Live, ballot: Ballot, names: Sequence[str], setting: float, polled: Polled
) -> tuple[Ranked, ...]:
    # Plain lists: for a handful of models numpy costs more than it saves.
    vote = polled.vote
    columns = (vote.quality, vote.plain, vote.support, polled.claimed)
    heard = zip(ballot.candidates, *(column.tolist() for column in columns), strict=True)
    cost = {name: _cost(ask, live, name) for name in live.fleet.fleet.by_name}
    stands = [
        (Ranked(one.name, quality, plain, support, cost[one.name]), claimed)
        for one, quality, plain, support, claimed in heard
        if one.name in names
    ]
    scale = _scale(cost.values(), ballot)
    order = dial.rank(
        [ranked.quality for ranked, _ in stands],
        [ranked.cost * scale for ranked, _ in stands],
        setting,
        ballot.fit.curve.rate(setting),
        [claimed for _, claimed in stands],
    )
    return tuple(stands[place][0] for place in order)


def _scale(costs: Iterable[float], ballot: Ballot) -> float:
    """What brings this request's costs to those of a typical one, on which the dial is calibrated: the dial weighs
    what models cost beside each other, so it means the same for a short request and a long one."""
    dearest = max(costs)
    return max(candidate.cost for candidate in ballot.candidates) / dearest if dearest > 0 else 1.0


def _cost(ask: Ask, live: Live, model: str) -> float:
    return live.fleet.fleet.by_name[model].price.of(Usage(ask.prompt.input_tokens, ask.prompt.output_tokens))
