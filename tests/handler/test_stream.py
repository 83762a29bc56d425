import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence

import aiohttp
import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handler.data.forward import Reply
from handler.data.health import Target
from handler.data.stream import Passage
from handler.errors import UpstreamFailed, UpstreamTimeout
from handler.fleet import Deployment, Model, Price
from handler.flow import Protocol, Usage
from handler.wire.protocols import WIRES

WORDS = b'data: {"nearvote":1}\n\n'
FIRST = b'data: {"choices":[{"delta":{"content":"a dad said: data: [DONE] \xc3\xa9"}}]}\n\n'
SECOND = b'data: {"choices":[{"delta":{"content":"\\ndata: [DONE]\\n"}}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}\n\n'
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
    chunks: Sequence[bytes], words: bytes = b"", fault: Exception | None = None, hides_usage: bool = False
) -> Passage:
    first, *rest = chunks or [b""]
    return passage_over(first, Chunks(rest, fault), words, hides_usage)


def passage_over(first: bytes, rest: Chunks, words: bytes = b"", hides_usage: bool = False) -> Passage:
    answer = httpx.Response(200, stream=rest)
    reply = Reply(TARGET, answer, first, {}, aiter(answer.aiter_raw()), 1.0)
    return Passage(reply, WIRES[Protocol.CHAT], words, hides_usage)


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


def test_each_chunk_is_passed_on_as_it_came() -> None:
    chunks = [FIRST[:10], FIRST[10:], SECOND + USAGE, DONE[:6], DONE[6:]]
    assert passed(chunks) == chunks


@given(places_in(STREAM))
def test_last_words_come_before_done_however_the_bytes_are_split(places: list[int]) -> None:
    assert b"".join(passed(split(STREAM, places), WORDS)) == FIRST + SECOND + USAGE + WORDS + DONE


def test_last_words_come_before_done_when_each_byte_comes_by_itself() -> None:
    chunks = [bytes([byte]) for byte in STREAM]
    assert b"".join(passed(chunks, WORDS)) == FIRST + SECOND + USAGE + WORDS + DONE


TEXT = st.text(alphabet='data: [DONE]\n"', max_size=40).map(str.encode)


@given(st.lists(TEXT, min_size=1, max_size=6))
def test_no_byte_is_lost_or_said_twice_whatever_the_upstream_sends(chunks: list[bytes]) -> None:
    data = b"".join(chunks)
    out = b"".join(passed(chunks, WORDS))
    assert out.replace(WORDS, b"", 1).removesuffix(b"\n\n" if not has_done(data) else b"") == data


@given(st.lists(TEXT, min_size=1, max_size=6))
def test_only_what_may_turn_out_to_be_done_is_held_back(chunks: list[bytes]) -> None:
    async def watch() -> None:
        upstream = Chunks(chunks[1:])
        out = b""
        async for chunk in passage_over(chunks[0], upstream, WORDS).chunks():
            out += chunk
            came = b"".join(chunks[: 1 + upstream.given])
            if has_done(came) or WORDS in out:
                return
            line = came[came.rfind(b"\n") + 1 :]
            held = line if any(done.startswith(line) for done in (b"data: [DONE]", b"data:[DONE]")) else b""
            assert out + held == came

    asyncio.run(watch())


def has_done(data: bytes) -> bool:
    return any(line.startswith((b"data: [DONE]", b"data:[DONE]")) for line in data.split(b"\n"))


@pytest.mark.parametrize("done", [b"data: [DONE]\r\n\r\n", b"data:[DONE]\n\n", b"data: [DONE]"])
def test_done_is_known_in_each_spelling_that_clients_know(done: bytes) -> None:
    assert b"".join(passed([FIRST, done], WORDS)) == FIRST + WORDS + done


@pytest.mark.parametrize("rest", [b"", b"data: [DO", b'data: {"choices":[]}', b'data: {"choices":[]}\n'])
def test_a_stream_without_done_ends_with_the_last_words_as_an_event_of_their_own(rest: bytes) -> None:
    assert b"".join(passed([FIRST, rest], WORDS)) == FIRST + rest + b"\n\n" + WORDS


def test_a_stream_of_nothing_is_the_last_words() -> None:
    assert b"".join(passed([], WORDS)) == b"\n\n" + WORDS


def test_a_second_done_is_passed_on_without_saying_them_again() -> None:
    assert b"".join(passed([DONE, DONE], WORDS)) == WORDS + DONE + DONE


READ_ERROR = httpx.ReadError("lost")
LATE = httpx.ReadTimeout("late")
LOST_AS_TIMEOUT = httpx.ConnectTimeout("what the transport makes of a lost connection")
LOST_AS_TIMEOUT.__cause__ = aiohttp.ServerDisconnectedError()


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (READ_ERROR, UpstreamFailed("m broke off in the middle of its answer")),
        (LOST_AS_TIMEOUT, UpstreamFailed("m broke off in the middle of its answer")),
        (aiohttp.ClientPayloadError("not enough data"), UpstreamFailed("m broke off in the middle of its answer")),
        (ConnectionResetError(), UpstreamFailed("m broke off in the middle of its answer")),
        (LATE, UpstreamTimeout("m fell silent in the middle of its answer")),
        (TimeoutError(), UpstreamTimeout("m fell silent in the middle of its answer")),
    ],
)
@pytest.mark.parametrize("words", [b"", WORDS])
def test_a_stream_that_breaks_off_ends_with_an_error_event(
    fault: Exception, error: UpstreamFailed | UpstreamTimeout, words: bytes
) -> None:
    event = b"\n\ndata: " + orjson.dumps(error.body()) + b"\n\n"
    assert b"".join(passed([FIRST, SECOND[:9]], words, fault)) == FIRST + SECOND[:9] + event


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
        [],
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


def test_half_an_event_before_a_break_is_dropped_where_events_are_passed_on_whole() -> None:
    event = b"\n\ndata: " + orjson.dumps(UpstreamTimeout("m fell silent in the middle of its answer").body()) + b"\n\n"
    assert b"".join(passed([FIRST, SECOND[:9]], fault=LATE, hides_usage=True)) == FIRST + event
