import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence

import aiohttp
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handler.data.forward import Reply
from handler.data.health import Target
from handler.data.stream import Passage
from handler.errors import UpstreamFailed, UpstreamTimeout
from handler.fleet import Deployment, Model, Price
from handler.flow import Protocol, Usage
from handler.wire.chat_completions import error_event
from handler.wire.protocols import WIRES

WORDS = b'data: {"nearvote":1}\n\n'
FIRST = b'data: {"choices":[{"delta":{"content":"a dad said: data: [DONE] \xc3\xa9"}}]}\n\n'
SECOND = b'data: {"choices":[{"delta":{"content":"\\ndata: [DONE]\\n"}}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}\n\n'
FINISH = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"
STREAM = FIRST + SECOND + USAGE + DONE


class Chunks(httpx.AsyncByteStream):
    """Hand-made chunks, and the fault that ends them."""

    def __init__(self, chunks: Sequence[bytes], fault: Exception | None = None) -> None:
        self._chunks = chunks
        self._fault = fault
        self.given = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            self.given += 1
            yield chunk
        if self._fault:
            raise self._fault


TARGET = Target(
    Model(name="m", price=Price(input=1, output=1), deployments=(Deployment(base_url="u"),)), Deployment(base_url="u")
)


def passage(
    chunks: Sequence[bytes],
    words: bytes = b"",
    fault: Exception | None = None,
    hides_usage: bool = False,
    protocol: Protocol = Protocol.CHAT,
) -> Passage:
    first, *rest = chunks
    return passage_over(first, Chunks(rest, fault), words, hides_usage, protocol)


def passage_over(
    first: bytes,
    rest: Chunks,
    words: bytes = b"",
    hides_usage: bool = False,
    protocol: Protocol = Protocol.CHAT,
) -> Passage:
    answer = httpx.Response(200, stream=rest)
    reply = Reply(TARGET, answer, first, {}, aiter(answer.aiter_raw()), 1.0)
    return Passage(reply, WIRES[protocol], words, hides_usage)


def passed(
    chunks: Sequence[bytes], words: bytes = b"", fault: Exception | None = None, hides_usage: bool = False
) -> list[bytes]:
    async def collect() -> list[bytes]:
        return [chunk async for chunk in passage(chunks, words, fault, hides_usage).chunks()]

    return asyncio.run(collect())


def split(data: bytes, places: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted(places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def places_in(data: bytes) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(0, len(data)), max_size=12)


def test_whole_events_are_passed_on_as_they_came() -> None:
    chunks = [FIRST, SECOND + USAGE, b": a comment\r\n\r\n", DONE]
    assert passed(chunks) == chunks


def test_an_event_waits_until_it_is_whole() -> None:
    chunks = [FIRST[:10], FIRST[10:] + SECOND[:9], SECOND[9:] + USAGE, DONE[:6], DONE[6:]]
    assert passed(chunks) == [FIRST, SECOND + USAGE, DONE]


@given(places_in(STREAM))
def test_last_words_come_before_done_however_the_bytes_are_split(places: list[int]) -> None:
    assert b"".join(passed(split(STREAM, places), WORDS)) == FIRST + SECOND + USAGE + WORDS + DONE


def test_last_words_come_before_done_when_each_byte_comes_by_itself() -> None:
    chunks = [bytes([byte]) for byte in STREAM]
    assert b"".join(passed(chunks, WORDS)) == FIRST + SECOND + USAGE + WORDS + DONE


TEXT = st.text(alphabet='data: [DONE]\n"', max_size=40).map(str.encode)


@given(st.lists(TEXT, max_size=6))
def test_no_byte_is_lost_or_said_twice_whatever_the_upstream_sends(chunks: list[bytes]) -> None:
    out = b"".join(passed([*chunks, b"\n\n", DONE], WORDS))
    assert out.replace(WORDS, b"", 1) == b"".join(chunks) + b"\n\n" + DONE


@given(st.lists(TEXT, min_size=1, max_size=6))
def test_only_the_beginning_of_an_event_is_held_back(chunks: list[bytes]) -> None:
    async def watch() -> None:
        upstream = Chunks(chunks[1:], READ_ERROR)
        out = b""
        async for chunk in passage_over(chunks[0], upstream).chunks():
            came = b"".join(chunks[: 1 + upstream.given])
            if b"upstream_failed" in chunk:
                return
            out += chunk
            assert out == came[: came.rfind(b"\n\n") + 2]

    asyncio.run(watch())


@pytest.mark.parametrize("done", [b"data: [DONE]\r\n\r\n", b"data:[DONE]\n\n", b"data: [DONE]"])
def test_done_is_known_in_each_spelling_that_clients_know(done: bytes) -> None:
    assert b"".join(passed([FIRST, done], WORDS)) == FIRST + WORDS + done


@pytest.mark.parametrize("rest", [b"", b'data: {"choices":[]}', b'data: {"choices":[]}\n'])
def test_a_stream_without_done_ends_with_the_last_words_as_an_event_of_their_own(rest: bytes) -> None:
    assert b"".join(passed([FIRST, FINISH, rest], WORDS)) == FIRST + FINISH + rest + b"\n\n" + WORDS


BROKE_OFF = b"\n\n" + error_event(UpstreamFailed("m broke off in the middle of its answer"))
FELL_SILENT = b"\n\n" + error_event(UpstreamTimeout("m fell silent in the middle of its answer"))


@pytest.mark.parametrize("words", [b"", WORDS])
@pytest.mark.parametrize("rest", [b"", b"data: [DO", b'data: {"choices":[]}', USAGE])
def test_a_stream_that_ends_before_its_answer_does_is_not_taken_for_whole(rest: bytes, words: bytes) -> None:
    kept = rest if rest.endswith(b"\n\n") else b""
    assert b"".join(passed([FIRST, rest], words)) == FIRST + kept + BROKE_OFF


@pytest.mark.parametrize("end", [DONE, FINISH])
def test_what_becomes_of_the_connection_after_the_end_of_the_answer_is_nothing_to_the_caller(end: bytes) -> None:
    assert passed([FIRST, end], fault=READ_ERROR) == [FIRST, end]


def test_a_second_done_is_passed_on_without_saying_them_again() -> None:
    assert b"".join(passed([DONE, DONE], WORDS)) == WORDS + DONE + DONE


READ_ERROR = aiohttp.ClientPayloadError("not enough data")
LATE = aiohttp.SocketTimeoutError("late")


@pytest.mark.parametrize(
    ("fault", "event"),
    [
        (READ_ERROR, BROKE_OFF),
        (aiohttp.ServerDisconnectedError(), BROKE_OFF),
        (ConnectionResetError(), BROKE_OFF),
        (LATE, FELL_SILENT),
        (TimeoutError(), FELL_SILENT),
    ],
)
@pytest.mark.parametrize("words", [b"", WORDS])
def test_a_stream_that_breaks_off_ends_with_an_error_event(fault: Exception, event: bytes, words: bytes) -> None:
    assert b"".join(passed([FIRST, SECOND[:9]], words, fault)) == FIRST + event


async def run(one: Passage) -> Passage:
    async for _ in one.chunks():
        pass
    return one


async def test_how_a_stream_broke_off_is_kept_for_the_record() -> None:
    ended = await run(passage([FIRST], fault=LATE))
    assert (type(ended.error), ended.usage) == (UpstreamTimeout, None)


@given(places_in(STREAM), st.sampled_from([b"", WORDS]))
def test_the_usage_is_found_however_the_bytes_are_split(places: list[int], words: bytes) -> None:
    ended = asyncio.run(run(passage(split(STREAM, places), words)))
    assert (ended.usage, ended.error) == (Usage(7, 3), None)


@pytest.mark.parametrize(
    "chunks",
    [
        [DONE],
        [FIRST, DONE],
        [b'data: {"usage":null}\n\n', DONE],
        [b'data: {"usage":{"prompt_tokens":null,"completion_tokens":3}}\n\n'],
        [b'data: {"usage":{"prompt_tokens":7}}\n\n'],
        [b'data: {"usage":[7,3]}\n\n'],
        [b"data: usage\n\n", b"data: [1]\n\n"],
        [b'event: {"usage":{"prompt_tokens":7,"completion_tokens":3}}\n\n'],
    ],
)
async def test_a_stream_without_usage_has_none(chunks: list[bytes]) -> None:
    assert (await run(passage(chunks))).usage is None


async def test_the_last_usage_counts_wherever_it_stands() -> None:
    first = USAGE.replace(b"7", b"1")
    assert (await run(passage([first, USAGE, DONE]))).usage == Usage(7, 3)
    assert (await run(passage([USAGE, FIRST * 1000, DONE]))).usage == Usage(7, 3)


async def test_closing_a_passage_closes_the_upstreams_answer() -> None:
    answer = httpx.Response(200, stream=Chunks([STREAM]))
    reply = Reply(TARGET, answer, b"", {}, aiter(answer.aiter_raw()), 1.0)
    await Passage(reply, WIRES[Protocol.CHAT]).close()
    assert answer.is_closed


@given(places_in(STREAM))
def test_a_usage_that_the_caller_did_not_ask_for_stays_here_however_the_bytes_are_split(places: list[int]) -> None:
    assert b"".join(passed(split(STREAM, places), hides_usage=True)) == FIRST + SECOND + DONE
    assert b"".join(passed(split(STREAM, places), WORDS, hides_usage=True)) == FIRST + SECOND + WORDS + DONE
    assert asyncio.run(run(passage(split(STREAM, places), hides_usage=True))).usage == Usage(7, 3)


def test_a_usage_beside_a_choice_is_passed_on() -> None:
    last = b'data: {"choices":[{"delta":{}}],"usage":{"prompt_tokens":7,"completion_tokens":3}}\r\n\r\n'
    assert b"".join(passed([FIRST, last, DONE], hides_usage=True)) == FIRST + last + DONE


ANSWERS = {
    Protocol.CHAT: (
        [DONE, b'data: {"choices":[{"finish_reason": "length"}]}\n\n'],
        [b'data: {"error":{"message":"no"}}\n\n', b'data: {"error": "no"}\n\n'],
    ),
    Protocol.MESSAGES: (
        [b'event: message_stop\ndata: {"type":"message_stop"}\n\n', b'data: {"type": "message_stop"}\n\n'],
        [b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"no"}}\n\n'],
    ),
    Protocol.RESPONSES: (
        [b'data: {"type":"response.completed"}\n\n', b'data: {"type":"response.incomplete"}\n\n'],
        [b'data: {"type":"error","message":"no"}\n\n', b'data: {"type":"response.failed"}\n\n'],
    ),
}
"""Events that end an answer, and that end one which failed."""
QUOTED = b'data: {"text":"[DONE] \\"finish_reason\\":\\"stop\\" \\"type\\":\\"message_stop\\" \\"error\\":{"}\n\n'


@pytest.mark.parametrize("protocol", Protocol)
async def test_a_stream_is_whole_with_the_end_that_its_protocol_asks_for(protocol: Protocol) -> None:
    ends, failures = ANSWERS[protocol]
    for end in ends:
        ended = await run(passage([QUOTED, end], protocol=protocol))
        assert (ended.error, ended.fault) == (None, "")
    for failure in failures:
        ended = await run(passage([QUOTED, failure], protocol=protocol))
        assert (ended.error, ended.fault) == (None, "error_event")


@pytest.mark.parametrize("protocol", Protocol)
async def test_an_end_that_an_answer_only_talks_about_is_none(protocol: Protocol) -> None:
    for end in (b"", *(end for other in Protocol if other is not protocol for end in ANSWERS[other][0])):
        ended = await run(passage([QUOTED, end], protocol=protocol))
        assert isinstance(ended.error, UpstreamFailed)


async def test_a_reason_of_no_words_is_no_end() -> None:
    empty = b'data: {"choices":[{"delta":{"content":"one"},"finish_reason":""}]}\n\n'
    ended = await run(passage([empty]))
    assert (ended.whole, type(ended.error)) == (False, UpstreamFailed)


async def test_the_answer_s_id_is_found_behind_a_comment() -> None:
    first = b'data: {"id":"chatcmpl-1","choices":[]}\n\n'
    assert (await run(passage([b": keep-alive\n\n", first, DONE]))).answer_id == "chatcmpl-1"
