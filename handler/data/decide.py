"""Ask → Decision. Embedding and search run on threads of their own; nothing here fails a request."""

import asyncio
import logging
import secrets
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from handler.data import slate as slates
from handler.data.live import Live
from handler.data.outlook import Outlook
from handler.data.slate import Slate
from handler.errors import Denied, NotFound
from handler.flow import AUTO, Ask, Cause, Decision, Ranked
from handler.keys import KeyRecord
from handler.rules import Rule, first_fitting
from index import dial
from index.ballot import Ballot, Polled
from index.embedder import Embedder
from index.structure import describe

log = logging.getLogger("nearvote.decide")

EVIDENCE_NEIGHBOURS = 10
UNCALIBRATED = "a floor or a ceiling was asked for, but there is nothing to calibrate the dial on"


class EmbedderFault(Exception):
    """Why there is no vote, without a word of the prompt."""


@dataclass(frozen=True, slots=True)
class Case:
    """One request for `auto`, with all that bears on it but the vote."""

    ask: Ask
    live: Live
    slate: Slate
    rule: Rule | None
    outlook: Outlook
    speed: float
    """How much quality ten times the speed is worth."""


class Decider:
    """`workers` prompts are embedded at once; `waiting` more may queue, first come, first served, before `busy`
    is the answer."""

    def __init__(self, embedder: Embedder | None, workers: int, waiting: int) -> None:
        self._embedder = embedder
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="decide")
        self._room = workers + waiting

    async def decide(
        self, ask: Ask, key: KeyRecord, live: Live, outlook: Outlook, full_evidence: bool = False
    ) -> Decision:
        """Raises NotFound for a model that does not exist or restrictions that leave none, Denied where a rule does."""
        fleet = live.fleet.fleet
        rule = first_fitting(fleet.rules, ask, key.id, key.name)
        if rule is not None and rule.deny is not None:
            raise Denied(rule.deny)
        if not ask.auto:
            return _named(ask, live, outlook)
        slate = slates.draw(ask, key, fleet, rule, outlook.latencies, outlook.sealed_by)
        wanted = ask.preferences.speed if ask.preferences.speed is not None else key.speed
        case = Case(ask, live, slate, rule, outlook, wanted or 0.0)
        settled = self._settled(case)
        if settled is not None or live.ballot is None:
            return _unvoted(case, *(settled or (slate.fallback, Cause.NO_INDEX)))
        polled = await self._poll(live.ballot, ask.prompt.text)
        if isinstance(polled, Cause):
            return _unvoted(case, slate.fallback, polled)
        decision = voted(case, live.ballot, polled)
        return _explained(decision, live.ballot, polled) if full_evidence else decision

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _settled(self, case: Case) -> tuple[str, Cause] | None:
        """The model, where no vote is needed or possible, before anything is embedded."""
        ask, slate, by_rule = case.ask, case.slate, case.rule.model if case.rule else None
        continued = case.outlook.continues
        choices = (
            (continued in slate.names, continued, Cause.CONTINUED),
            (by_rule in slate.names, by_rule or "", Cause.RULE),
            (ask.preferences.routing_off, slate.fallback, Cause.OPTED_OUT),
            (len(slate.names) == 1, slate.fallback, Cause.ONLY_CANDIDATE),
            (not ask.prompt.text, slate.fallback, Cause.NO_TEXT),
            (self._embedder is None, slate.fallback, Cause.EMBEDDER_FAULT),
            (case.live.ballot is None, slate.fallback, Cause.NO_INDEX),
            (self._room <= 0, slate.fallback, Cause.BUSY),
        )
        return next(((model, cause) for stands, model, cause in choices if stands), None)

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


def _named(ask: Ask, live: Live, outlook: Outlook) -> Decision:
    known = live.fleet.fleet.by_name
    if ask.model not in known:
        message = f"the model {ask.model!r} does not exist; there are: {', '.join((*AUTO, *known))}"
        raise NotFound(message, code="model_not_found", param="model")
    if ask.protocol not in known[ask.model].protocols:
        message = f"no deployment of {ask.model!r} speaks the protocol of {ask.protocol.value}"
        raise NotFound(message, code="protocol_not_spoken", param="model")
    return _stamped(ask, live, outlook, ask.model, Cause.NAMED)


def _unvoted(case: Case, model: str, cause: Cause) -> Decision:
    decision = _stamped(case.ask, case.live, case.outlook, model, cause)
    return replace(
        decision,
        rule=case.rule.name if case.rule and case.rule.model in (None, model) else "",
        detail=case.live.detail if cause is Cause.NO_INDEX else "",
        fallbacks=_others(case.slate.dearest_first, model) if cause.may_fall_back else (),
    )


def _stamped(ask: Ask, live: Live, outlook: Outlook, model: str, cause: Cause) -> Decision:
    return Decision(
        id=f"dec-{secrets.token_hex(12)}",
        model=model,
        cause=cause,
        requested=ask.requested,
        cost=outlook.costs[model],
        cached_tokens=outlook.cached.get(model, 0),
        index_version=live.ballot.snapshot.version if live.ballot else "",
        fleet_version=live.fleet.version,
        fingerprint=live.ballot.snapshot.manifest.fingerprint if live.ballot else "",
    )


def voted(case: Case, ballot: Ballot, polled: Polled) -> Decision:
    """What the vote, the dial and the outlook make of a request that nothing else settles. Pure, but for the id."""
    slate, nearest, setting = case.slate, polled.vote.nearest, case.slate.setting(ballot.fit.curve)
    if setting is None:
        return replace(_unvoted(case, slate.fallback, Cause.NO_INDEX), nearest=nearest, detail=UNCALIBRATED)
    ranking = _ranking(case, ballot, setting.dial, polled, case.outlook.costs)
    if not ranking:
        model, cause = slate.fallback, Cause.NO_INDEX
    elif nearest < ballot.snapshot.manifest.params.familiar:
        model, cause = slate.fallback, Cause.UNFAMILIAR
    else:
        model, cause = ranking[0].model, Cause.VOTE
        if case.outlook.cached and _ranking(case, ballot, setting.dial, polled, case.outlook.cold)[0].model != model:
            cause = Cause.CACHED_PREFIX
    by_vote = cause in (Cause.VOTE, Cause.CACHED_PREFIX)
    decision = replace(
        _unvoted(case, model, cause),
        confidence=ranking[0].quality if by_vote else None,
        dial=setting.dial,
        nearest=nearest,
        ranking=ranking,
        fallbacks=_others([one.model for one in ranking] or slate.dearest_first, model),
    )
    if setting.promise is None or not by_vote:
        return decision
    return replace(decision, promised_quality=setting.promise.quality, promised_spend=setting.promise.spend)


def _others(names: Sequence[str], model: str) -> tuple[str, ...]:
    return tuple(name for name in names if name != model)


def _explained(decision: Decision, ballot: Ballot, polled: Polled) -> Decision:
    terms = dict(zip((one.name for one in ballot.candidates), ballot.terms(polled), strict=True))
    ranking = tuple(replace(ranked, terms=terms[ranked.model]) for ranked in decision.ranking)
    neighbours = tuple(ballot.neighbours(polled, EVIDENCE_NEIGHBOURS))
    return replace(decision, ranking=ranking, neighbours=neighbours)


def _ranking(
    case: Case, ballot: Ballot, setting: float, polled: Polled, costs: Mapping[str, float]
) -> tuple[Ranked, ...]:
    # Plain lists: for a handful of models numpy costs more than it saves.
    vote, outlook = polled.vote, case.outlook
    columns = (vote.quality, vote.plain, vote.support, polled.claimed)
    heard = zip(ballot.candidates, *(column.tolist() for column in columns), strict=True)
    stands = [
        (Ranked(one.name, quality, plain, support, costs[one.name], outlook.latencies.get(one.name)), claimed)
        for one, quality, plain, support, claimed in heard
        if one.name in case.slate.names
    ]
    scale = _scale(outlook.cold.values(), ballot)
    order = dial.rank(
        [ranked.quality - case.speed * outlook.slowness(ranked.model) for ranked, _ in stands],
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
