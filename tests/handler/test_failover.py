"""Who is called, in which order, how often, and what is told when nobody answers: over scripted upstreams."""

import asyncio
import random
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import orjson
import pytest
import pytest_asyncio

from handler.data.failover import MOST_ATTEMPTS, PAUSE_S, Failover, NotServed, Patience
from handler.data.forward import Forwarder
from handler.data.health import Health, Target
from handler.fleet import Deployment, Fleet, Model, Price
from handler.flow import Ask, Attempt, Cause, Decision, Preferences, Prompt, Protocol, Ranked
from handler.wire.protocols import WIRES
from tests.scripted_upstream import EVENT_STREAM, ScriptedUpstream, Step, answer, scripted_upstream

OK = b'{"id":"a","choices":[{"message":{"content":"yes"},"finish_reason":"stop"}]}'
CHUNK = b'data: {"choices":[{"delta":{"content":"yes"}}]}\n\n'
DONE = b"data: [DONE]\n\n"
STREAM = [EVENT_STREAM, CHUNK, DONE]
NO = b'{"error": {"message": "no"}} '
TOO_LONG = b'{"error":{"message":"too long","code":"context_length_exceeded"}}'


def refusal(status: int, *headers: bytes, body: bytes = NO) -> list[Step]:
    return [answer(body, *headers, status=b"%d Refused" % status)]


@dataclass
class Clock:
    """Sleeps take no time, but are kept, and the circuits know of them."""

    now: float = 0.0
    slept: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture(scope="module")
def shared() -> Iterator[list[ScriptedUpstream]]:
    with ExitStack() as stack:
        yield [stack.enter_context(scripted_upstream()) for _ in range(3)]


@pytest.fixture
def upstreams(shared: list[ScriptedUpstream]) -> list[ScriptedUpstream]:
    for upstream in shared:
        upstream.received.clear()
        upstream.first.clear()
        upstream.left.clear()
        upstream.steps = [answer(OK)]
    return shared


@pytest.fixture
def clock() -> Clock:
    return Clock()


PATIENCE = Patience(deadline_s=20.0, first_byte_s=1.0, rounds=2)


@dataclass
class Caller:
    """Models a, b and c, each with one upstream of its own, unless other deployments are given."""

    upstreams: list[ScriptedUpstream]
    forwarder: Forwarder
    health: Health
    clock: Clock
    patience: Patience = PATIENCE

    async def send(
        self,
        ask: Ask | None = None,
        fallbacks: tuple[str, ...] = ("b", "c"),
        preferred: str = "",
        path: str = "",
        unaffordable: str = "",
        **models: Model,
    ) -> "Told":
        fleet = Fleet(models=tuple(self.models(models).values()))
        ranking = tuple(Ranked(name, quality, quality, 1.0, 0.1) for name, quality in (("a", 0.9), ("b", 0.8)))
        decision = Decision("dec-1", "a", Cause.VOTE, "auto", 0.1, 0.9, ranking=ranking, fallbacks=fallbacks)
        failover = Failover(self.forwarder, self.health, self.patience, self.clock.sleep)
        ask = ask or ASK

        async def affords(model: Model) -> bool:
            return model.name != unaffordable

        try:
            served = await failover.send(ask, decision, fleet, WIRES[ask.protocol], preferred, path, affords)
        except NotServed as none:
            body = none.failed.reply.body if none.failed.reply else none.failed.error.message.encode()
            return Told(none.failed.fault, body, none.decision)
        body = served.reply.body
        if served.reply.rest is not None:
            body += b"".join([chunk async for chunk in served.reply.rest])
        await served.reply.answer.aclose()
        return Told(str(served.reply.status), body, served.decision, served.reply.body)

    def models(self, others: dict[str, Model]) -> dict[str, Model]:
        return {name: model(name, upstream.url) for name, upstream in zip("abc", self.upstreams, strict=True)} | others

    def script(self, *scripts: Sequence[Step]) -> None:
        for upstream, steps in zip(self.upstreams, scripts, strict=False):
            upstream.steps = steps

    @property
    def calls(self) -> list[int]:
        return [len(upstream.received) for upstream in self.upstreams]


@dataclass
class Told:
    fault: str
    """The status, where an upstream told one."""
    body: bytes
    decision: Decision
    began: bytes = b""
    """A stream's first bytes."""

    @property
    def attempts(self) -> list[tuple[str, str]]:
        return [(attempt.model, attempt.fault) for attempt in self.decision.attempts]


ASK = Ask("auto", False, Prompt("", 10, 10), Preferences(), {})
STREAMED = replace(ASK, stream=True)


def model(name: str, *urls: str, context: int | None = None, **deployment: Any) -> Model:
    deployments = tuple(Deployment(base_url=url, protocols=tuple(Protocol), **deployment) for url in urls)
    return Model(name=name, price=Price(input=1, output=1), deployments=deployments, context=context)


@pytest_asyncio.fixture
async def caller(upstreams: list[ScriptedUpstream], clock: Clock) -> AsyncIterator[Caller]:
    forwarder = Forwarder(1.0, 5.0, {})
    yield Caller(upstreams, forwarder, Health(clock, random.Random(7)), clock)
    await forwarder.close()


async def test_who_answers_at_once_is_the_only_one_that_is_called(caller: Caller) -> None:
    told = await caller.send()
    assert (told.fault, told.body, caller.calls, caller.clock.slept) == ("200", OK, [1, 0, 0], [])
    assert (told.decision.model, told.decision.cause, told.decision.attempts) == ("a", Cause.VOTE, ())


MOVES_ON: dict[str, tuple[Sequence[Step], str]] = {
    "429": (refusal(429), "429"),
    "500": (refusal(500), "500"),
    "529": (refusal(529), "529"),
    "a dead key": (refusal(401), "401"),
    "no money": (refusal(402), "402"),
    "not allowed": (refusal(403), "403"),
    "no such model": (refusal(404), "404"),
    "a closed connection": ([], "upstream_failed"),
    "no HTTP": ([b"not HTTP\r\n\r\n"], "upstream_failed"),
    "garbage": ([answer(b"<html>")], "upstream_failed"),
    "half an answer": ([answer(OK[:9], length=len(OK))], "upstream_failed"),
    "an error with status 200": ([answer(NO)], "error_body"),
}


@pytest.mark.parametrize(("steps", "fault"), MOVES_ON.values(), ids=MOVES_ON)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_fails_before_the_first_byte_moves_on_to_the_next_in_the_ranking(
    caller: Caller, steps: Sequence[Step], fault: str, stream: bool
) -> None:
    caller.script(steps, STREAM if stream else [answer(OK)])
    told = await caller.send(replace(ASK, stream=stream))
    assert (told.fault, told.body) == ("200", CHUNK + DONE if stream else OK)
    assert (told.attempts, caller.calls, caller.clock.slept) == ([("a", fault)], [1, 1, 0], [])
    assert (told.decision.model, told.decision.cause, told.decision.confidence) == ("b", Cause.FAILOVER, 0.8)


BEGUN: dict[str, tuple[Sequence[Step], str]] = {
    "no event": ([], "upstream_failed"),
    "half an event": ([CHUNK[:-2]], "upstream_failed"),
    "comments alone": ([b": wait\n\n"], "upstream_failed"),
    "an error": ([b"data: " + NO + b"\n\n"], "error_event"),
    "an error after a comment, in pieces": ([b": wait\n\n", b'data: {"er', b'ror":{}, "error":1}\n\n'], "error_event"),
    "a pause": ([threading.Event()], "upstream_timeout"),
    "a pause after a comment": ([b": wait\n\n", threading.Event()], "upstream_timeout"),
}


@pytest.mark.parametrize(("begun", "fault"), BEGUN.values(), ids=BEGUN)
async def test_a_stream_that_begins_but_says_nothing_moves_on(
    caller: Caller, begun: Sequence[Step], fault: str
) -> None:
    caller.script([EVENT_STREAM, *begun], STREAM)
    told = await caller.send(STREAMED)
    assert (told.body, told.attempts, caller.calls) == (CHUNK + DONE, [("a", fault)], [1, 1, 0])


OPENINGS = {
    Protocol.MESSAGES: [b'event: message_start\ndata: {"type":"message_start","message":{}}\n\n'],
    Protocol.RESPONSES: [
        b'event: response.created\ndata: {"type":"response.created","response":{"error":null}}\n\n',
        b'event: response.in_progress\ndata: {"type":"response.in_progress","response":{"error":null}}\n\n',
    ],
}
FAILURES = {
    Protocol.MESSAGES: b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error"}}\n\n',
    Protocol.RESPONSES: b'event: response.failed\ndata: {"type":"response.failed","response":{}}\n\n',
}


@pytest.mark.parametrize("protocol", OPENINGS)
async def test_an_error_right_after_the_opening_of_a_stream_moves_on(caller: Caller, protocol: Protocol) -> None:
    opening = OPENINGS[protocol]
    caller.script([EVENT_STREAM, *opening, FAILURES[protocol]], [EVENT_STREAM, *opening, b"data: 1\n\n"])
    told = await caller.send(replace(STREAMED, protocol=protocol))
    assert (told.body, told.attempts) == (b"".join(opening) + b"data: 1\n\n", [("a", "error_event")])


async def test_the_last_one_to_ask_is_waited_for(caller: Caller) -> None:
    begins = threading.Event()
    caller.script(refusal(401), [EVENT_STREAM, begins, CHUNK])
    asyncio.get_running_loop().call_later(2 * caller.patience.first_byte_s, begins.set)
    told = await caller.send(STREAMED, fallbacks=("b",))
    assert (told.body, told.attempts) == (CHUNK, [("a", "401")])


async def test_the_last_one_that_may_be_asked_is_waited_for_too(caller: Caller) -> None:
    """The one behind it had said that it wants to be left alone: nobody else could have been asked."""
    caller.script([answer(OK)], refusal(429, b"retry-after: 60"))
    await caller.send(fallbacks=("b",), a=model("a", "http://127.0.0.1:9/v1"))
    begins = threading.Event()
    caller.script([EVENT_STREAM, begins, CHUNK])
    asyncio.get_running_loop().call_later(2 * caller.patience.first_byte_s, begins.set)
    told = await caller.send(STREAMED, fallbacks=("b",))
    assert (told.body, told.attempts) == (CHUNK, [])


async def test_nothing_of_a_stream_is_held_back_where_nobody_else_can_be_asked(caller: Caller) -> None:
    goes_on = threading.Event()
    caller.script([EVENT_STREAM, b": wait\n\n", goes_on, CHUNK])
    asyncio.get_running_loop().call_later(0.3, goes_on.set)
    told = await caller.send(STREAMED, fallbacks=())
    assert (told.began, told.body) == (b": wait\n\n", b": wait\n\n" + CHUNK)


@pytest.mark.parametrize("status", [400, 413, 422, 451])
async def test_a_request_that_is_at_fault_itself_goes_nowhere_else(caller: Caller, status: int) -> None:
    caller.script(refusal(status))
    told = await caller.send()
    assert (told.fault, told.body, caller.calls) == (str(status), NO, [1, 0, 0])


async def test_a_model_falls_back_to_its_other_deployments_before_the_next_model(caller: Caller) -> None:
    one, two, _ = caller.upstreams
    caller.script(refusal(500), refusal(503))
    told = await caller.send(a=model("a", one.url, two.url), b=model("b", caller.upstreams[2].url))
    assert sorted(told.attempts) == [("a", "500"), ("a", "503")]
    assert (told.decision.model, caller.calls) == ("b", [1, 1, 1])


async def test_a_model_that_was_asked_for_by_name_falls_back_to_its_own_deployments_alone(caller: Caller) -> None:
    one, two, three = caller.upstreams
    caller.script(refusal(401), refusal(401))
    told = await caller.send(fallbacks=(), a=model("a", one.url, two.url), b=model("b", three.url))
    assert (told.fault, told.attempts, caller.calls) == ("401", [("a", "401")] * 2, [1, 1, 0])


async def test_an_answer_of_another_deployment_is_no_failover_to_another_model(caller: Caller) -> None:
    one, two, _ = caller.upstreams
    caller.script(refusal(500))
    told = await caller.send(preferred=one.url, a=model("a", one.url, two.url))
    assert (told.decision.model, told.decision.cause, told.attempts) == ("a", Cause.VOTE, [("a", "500")])


async def test_an_attempt_says_where_it_went_and_nothing_secret(caller: Caller) -> None:
    caller.script(refusal(500))
    host = caller.upstreams[0].url.split("/")[2]
    told = await caller.send(a=model("a", f"http://user:password@{host}/v1"))
    [attempt] = told.decision.attempts
    assert attempt == Attempt("a", host, "500", attempt.ms)
    assert 0 < attempt.ms < 5000


async def test_when_all_have_failed_those_that_may_do_better_are_asked_once_more(caller: Caller) -> None:
    caller.script(refusal(500), refusal(401), refusal(503))
    caller.upstreams[2].first = [refusal(503), [answer(OK)]]
    told = await caller.send()
    assert told.attempts == [("a", "500"), ("b", "401"), ("c", "503"), ("a", "500")]
    assert (told.decision.model, caller.calls) == ("c", [2, 1, 2])
    [pause] = caller.clock.slept
    assert 0 <= pause <= PAUSE_S


async def test_a_single_deployment_is_asked_again_after_the_time_it_asks_for(caller: Caller) -> None:
    caller.upstreams[0].first = [refusal(429, b"retry-after: 1"), [answer(OK)]]
    told = await caller.send(fallbacks=())
    assert (told.fault, told.attempts) == ("200", [("a", "429")])
    [pause] = caller.clock.slept
    assert 1 <= pause <= 1 + PAUSE_S


async def test_callers_who_failed_together_do_not_come_back_together(caller: Caller) -> None:
    for _ in range(40):
        caller.upstreams[0].first = [refusal(500), [answer(OK)]]
        await caller.send(fallbacks=())
    slept = caller.clock.slept
    assert all(0 <= pause <= PAUSE_S for pause in slept)
    assert min(slept) < PAUSE_S / 4 < 3 * PAUSE_S / 4 < max(slept)


@pytest.mark.parametrize(
    "header",
    [
        b"retry-after: 30",
        b"retry-after: 30.5",
        b"retry-after-ms: 30000",
    ],
)
async def test_who_wants_to_be_left_alone_for_long_is_not_waited_for_but_left_alone(
    caller: Caller, header: bytes
) -> None:
    caller.script(refusal(429, header))
    told = await caller.send(fallbacks=())
    assert (told.fault, told.body, caller.calls, caller.clock.slept) == ("429", NO, [1, 0, 0], [])
    assert (await caller.send()).decision.model == "b"
    assert caller.calls == [1, 1, 0]
    caller.clock.now += 40
    caller.script([answer(OK)])
    assert (await caller.send()).decision.model == "a"


async def test_a_date_says_as_well_for_how_long(caller: Caller) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(minutes=30), usegmt=True)
    caller.script(refusal(429, b"retry-after: " + date.encode()))
    await caller.send(fallbacks=())
    caller.clock.now += 29 * 60
    assert (await caller.send()).decision.model == "b"
    caller.clock.now += 2 * 60
    caller.script([answer(OK)])
    assert (await caller.send()).decision.model == "a"


@pytest.mark.parametrize("header", [b"retry-after: soon", b"retry-after: -5", b"retry-after: nan", b"retry-after:"])
async def test_a_time_that_cannot_be_read_is_as_good_as_none(caller: Caller, header: bytes) -> None:
    caller.upstreams[0].first = [refusal(429, header), [answer(OK)]]
    assert (await caller.send(fallbacks=())).fault == "200"
    assert caller.clock.slept[0] <= PAUSE_S


async def test_who_asks_to_be_left_alone_is_not_asked_again_for_want_of_others(caller: Caller) -> None:
    caller.script(refusal(429, b"retry-after: 30"), refusal(401))
    told = await caller.send(fallbacks=("b",))
    assert (told.fault, caller.calls, caller.clock.slept) == ("401", [1, 1, 0], [])


async def test_an_upstream_that_may_still_be_at_work_is_not_asked_twice(caller: Caller) -> None:
    caller.patience = replace(caller.patience, deadline_s=5.0, rounds=3)
    caller.script([threading.Event()], [threading.Event()])
    told = await caller.send(STREAMED, fallbacks=("b",))
    assert (told.fault, told.attempts, caller.calls) == (
        "upstream_timeout",
        [("a", "upstream_timeout"), ("b", "upstream_timeout")],
        [1, 1, 0],
    )


async def test_there_is_a_deadline_for_all_attempts_together(caller: Caller) -> None:
    caller.patience = replace(caller.patience, deadline_s=0.5)
    caller.script([threading.Event()])
    started = time.monotonic()
    told = await caller.send()
    assert (told.fault, told.attempts) == ("upstream_timeout", [("a", "upstream_timeout")])
    assert 0.5 <= time.monotonic() - started < 2


async def test_there_is_a_bound_on_all_attempts_together(caller: Caller) -> None:
    caller.patience = replace(caller.patience, rounds=100)
    caller.script(refusal(500), refusal(500), refusal(500))
    assert len((await caller.send()).attempts) == MOST_ATTEMPTS


async def test_the_caller_is_told_the_last_upstream_s_own_words(caller: Caller) -> None:
    words = b'{ "error":{"message":"ours"} }\n'
    caller.script(refusal(401), refusal(401), refusal(404, body=words))
    told = await caller.send()
    assert (told.fault, told.body) == ("404", words)


async def test_a_deployment_whose_circuit_is_open_is_passed_over(caller: Caller) -> None:
    caller.script(refusal(500))
    for _ in range(4):
        assert (await caller.send()).decision.model == "b"
    assert caller.calls == [3, 4, 0]


async def test_when_every_circuit_is_open_the_one_that_closes_first_is_tried(caller: Caller) -> None:
    caller.script(refusal(429, b"retry-after: 60"), refusal(429, b"retry-after: 30"), refusal(429, b"retry-after: 90"))
    assert (await caller.send()).fault == "429"
    caller.script(*([answer(OK)],) * 3)
    told = await caller.send()
    assert (told.decision.model, caller.calls) == ("b", [1, 2, 1])


async def test_a_request_at_fault_shows_that_its_deployment_is_well(caller: Caller) -> None:
    for _ in range(4):
        caller.upstreams[0].first = [refusal(500), refusal(500), refusal(400)]
        await caller.send(fallbacks=())
        await caller.send(fallbacks=())
    assert caller.calls == [12, 0, 0]


async def test_a_client_that_leaves_cancels_the_call_and_gives_the_trial_back(caller: Caller) -> None:
    caller.script(refusal(500))
    for _ in range(3):
        await caller.send()
    caller.clock.now += 5
    caller.script([threading.Event()])
    leaving = asyncio.create_task(caller.send())
    await until(lambda: caller.calls[0] == 4)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert await asyncio.to_thread(caller.upstreams[0].left.wait, 5)
    caller.script([answer(OK)])
    assert (await caller.send()).decision.model == "a"


async def test_what_another_path_answers_tells_nothing_of_completions(caller: Caller) -> None:
    caller.script(refusal(500))
    for _ in range(3):
        await caller.send(fallbacks=("b",))
        caller.script([answer(OK)])
        await caller.send(fallbacks=("b",), path="/messages/count_tokens")
        caller.script(refusal(500))
    assert not caller.health.admits(Target(caller.models({})["a"], caller.models({})["a"].deployments[0]))


async def test_what_another_path_is_refused_tells_nothing_of_completions(caller: Caller) -> None:
    caller.script(refusal(404))
    for _ in range(4):
        await caller.send(fallbacks=(), path="/messages/count_tokens")
    caller.script([answer(OK)])
    assert (await caller.send()).decision.model == "a"


async def test_a_request_that_is_too_long_goes_to_a_larger_model(caller: Caller) -> None:
    caller.script(refusal(400, body=TOO_LONG))
    a, b, c = (upstream.url for upstream in caller.upstreams)
    told = await caller.send(
        a=model("a", a, context=1000), b=model("b", b, context=1000), c=model("c", c, context=2000)
    )
    assert (told.decision.model, told.attempts, caller.calls) == ("c", [("a", "400")], [1, 0, 1])


async def test_a_request_that_is_too_long_for_all_comes_back_at_once_as_the_upstream_put_it(caller: Caller) -> None:
    caller.script(refusal(400, body=TOO_LONG))
    a, b, _ = (upstream.url for upstream in caller.upstreams)
    told = await caller.send(fallbacks=("b",), a=model("a", a, a, context=1000), b=model("b", b, context=500))
    assert (told.fault, told.body, caller.calls, caller.clock.slept) == ("400", TOO_LONG, [1, 0, 0], [])


@pytest.mark.parametrize(
    "words",
    [
        b"This model's maximum context length is 8192 tokens",
        b"prompt is too long: 205000 tokens > 200000 maximum",
        b"input length and `max_tokens` exceed context limit: 1 + 2 > 3",
        b"litellm.ContextWindowExceededError: litellm.BadRequestError",
        b"The input token count (9) exceeds the maximum number of tokens allowed (8)",
    ],
)
async def test_each_provider_s_words_for_too_long_are_known(caller: Caller, words: bytes) -> None:
    caller.script(refusal(400, body=orjson.dumps({"error": {"message": words.decode()}})))
    assert (await caller.send()).decision.model == "b"


async def test_who_has_the_conversation_in_its_cache_is_asked_first(caller: Caller) -> None:
    one, two, _ = caller.upstreams
    for _ in range(8):
        await caller.send(preferred=two.url, a=model("a", one.url, two.url))
    assert caller.calls == [0, 8, 0]


async def test_a_request_that_leans_on_an_answer_is_asked_of_nobody_but_who_gave_it(caller: Caller) -> None:
    one, two, _ = caller.upstreams
    caller.script([answer(OK)], refusal(401))
    ask = replace(ASK, leans_on="resp_1")
    told = await caller.send(ask, fallbacks=(), preferred=two.url, a=model("a", one.url, two.url))
    assert (told.fault, caller.calls) == ("401", [0, 1, 0])


async def test_a_request_with_sealed_reasoning_is_asked_of_its_provider_first_and_then_of_others(
    caller: Caller,
) -> None:
    one, two, three = caller.upstreams
    caller.script([answer(OK)], refusal(401), [answer(OK)])
    a, b = model("a", one.url, two.url), model("b", two.url)
    told = await caller.send(replace(ASK, is_sealed=True), preferred=two.url, a=a, b=b)
    assert (told.fault, [attempt.model for attempt in told.decision.attempts]) == ("200", ["a", "b"])
    assert (caller.calls, three.received) == ([1, 2, 0], [])


async def test_a_fallback_that_the_caller_may_not_spend_on_is_passed_over(caller: Caller) -> None:
    caller.script(refusal(401))
    told = await caller.send(unaffordable="b")
    assert (told.decision.model, caller.calls) == ("c", [1, 0, 1])
    assert [attempt.model for attempt in told.decision.attempts] == ["a"]
    caller.script(refusal(500))
    told = await caller.send(unaffordable="b", fallbacks=("b",))
    assert (told.fault, caller.calls) == ("500", [3, 0, 1])


async def test_load_is_shared_by_weight(caller: Caller) -> None:
    one, two, _ = caller.upstreams
    deployments = (Deployment(base_url=one.url, weight=3.0), Deployment(base_url=two.url))
    shared = Model(name="a", price=Price(input=1, output=1), deployments=deployments)
    for _ in range(200):
        await caller.send(a=shared)
    assert abs(caller.calls[0] - 150) < 25  # 4 standard deviations
    assert sum(caller.calls) == 200


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
