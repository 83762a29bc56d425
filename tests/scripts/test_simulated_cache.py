"""The prompt cache by itself, and as each protocol tells of it."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from scripts.simulated_cache import MOST_PREFIXES, PromptCache
from scripts.simulated_protocol import Part, PromptTokens
from scripts.simulated_provider import build_app

ANTHROPIC = {"x-api-key": "made-up", "anthropic-version": "2023-06-01"}
LONG = "word " * 1000
"""1,250 tokens."""
MARK = {"cache_control": {"type": "ephemeral"}}


def part(name: str, tokens: int, kept: bool = True) -> Part:
    return Part(name.encode(), 4 * tokens, kept)


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_was_seen_before_is_read_and_what_is_new_is_written() -> None:
    cache = PromptCache(Time())
    first, second, third = part("system", 1500), part("question", 30), part("answer", 70)
    assert cache.use("m", [first, second]) == PromptTokens(1530, read=0, written=1530)
    assert cache.use("m", [first, second]) == PromptTokens(1530, read=1530, written=0)
    assert cache.use("m", [first, second, third]) == PromptTokens(1600, read=1530, written=70)
    assert cache.use("m", [first, third]) == PromptTokens(1570, read=1500, written=70)
    assert cache.use("m", [second, first]) == PromptTokens(1530, read=0, written=1530)
    assert cache.use("another", [first, second]) == PromptTokens(1530, read=0, written=1530)


def test_fewer_than_1024_tokens_are_not_cached() -> None:
    cache = PromptCache(Time())
    for prompt in ([part("short", 1023)], [part("short", 1023), part("more", 1)]):
        cache.use("m", prompt)
    assert cache.use("m", [part("short", 1023)]) == PromptTokens(1023)
    assert cache.use("m", [part("short", 1023), part("more", 1)]) == PromptTokens(1024, read=1024)


def test_a_prefix_is_kept_at_a_breakpoint_alone_and_found_before_a_later_one() -> None:
    cache = PromptCache(Time())
    unmarked, marked = part("a", 2000, kept=False), part("b", 100)
    assert cache.use("m", [unmarked, marked, part("c", 5, kept=False)]) == PromptTokens(2105, written=2100)
    assert cache.use("m", [unmarked, part("d", 100)]) == PromptTokens(2100, read=0, written=2100)
    assert cache.use("m", [unmarked, part("b", 100, kept=False), part("e", 9)]) == PromptTokens(2109, 2100, 9)
    assert cache.use("m", [unmarked, part("b", 100, kept=False)]) == PromptTokens(2100)


def test_a_prefix_lives_300_s_from_its_last_use() -> None:
    clock = Time()
    cache = PromptCache(clock)
    read = []
    for clock.now in (0.0, 300.0, 600.0, 900.1):
        read.append(cache.use("m", [part("a", 2000)]).read)
    assert read == [0, 2000, 2000, 0]


def test_the_prefix_that_was_used_longest_ago_gives_way() -> None:
    cache = PromptCache(Time())
    cache.use("m", [part("0", 2000)])
    cache.use("m", [part("1", 2000)])
    cache.use("m", [part("0", 2000)])
    for number in range(2, MOST_PREFIXES + 1):
        cache.use("m", [part(str(number), 2000)])
    assert cache.use("m", [part("0", 2000)]).read == 2000
    assert cache.use("m", [part("1", 2000)]).read == 0


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture
async def provider(clock: Time) -> AsyncIterator[httpx.AsyncClient]:
    async def no_sleep(_: float) -> None:
        pass

    transport = httpx.ASGITransport(build_app(clock, no_sleep))
    async with httpx.AsyncClient(transport=transport, base_url="http://app/v1", headers=ANTHROPIC) as client:
        yield client


async def chat_usage(provider: httpx.AsyncClient, *texts: str) -> tuple[int, int]:
    messages = [{"role": "user", "content": text} for text in texts]
    reply = await provider.post("/chat/completions", json={"model": "sim-small", "messages": messages})
    usage = reply.json()["usage"]
    return usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"]


async def test_a_chat_tells_the_cached_among_its_prompt_tokens(provider: httpx.AsyncClient, clock: Time) -> None:
    assert await chat_usage(provider, LONG) == (1250, 0)
    assert await chat_usage(provider, LONG, "and more") == (1252, 1250)
    assert await chat_usage(provider, "and more", LONG) == (1252, 0)
    clock.now = 301
    assert await chat_usage(provider, LONG) == (1250, 0)


async def test_a_chat_with_other_tools_has_another_prefix(provider: httpx.AsyncClient) -> None:
    cached = []
    for tools in ([], [{"type": "function", "function": {"name": "f"}}]) * 2:
        body = {"model": "sim-small", "messages": [{"role": "user", "content": LONG}], "tools": tools}
        usage = (await provider.post("/chat/completions", json=body)).json()["usage"]
        cached.append((usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"]))
    # [{"function":{"name":"f"},"type":"function"}] has 45 characters, which are 12 tokens.
    assert cached == [(1250, 0), (1262, 0), (1250, 1250), (1262, 1262)]


async def test_a_response_tells_the_cached_among_its_input_tokens(provider: httpx.AsyncClient) -> None:
    told = []
    for text in ("first", "first", "other"):
        body = {"model": "sim-small", "instructions": LONG, "input": text}
        usage = (await provider.post("/responses", json=body)).json()["usage"]
        told.append((usage["input_tokens"], usage["input_tokens_details"]["cached_tokens"]))
    assert told == [(1252, 0), (1252, 1252), (1252, 1250)]


async def message_usage(provider: httpx.AsyncClient, system: Any, *texts: Any, **fields: Any) -> tuple[int, int, int]:
    """Tokens that were neither read nor written, those that were written, and those that were read."""
    messages = [{"role": "user", "content": text} for text in texts]
    body = {"model": "sim-small", "max_tokens": 50, "system": system, "messages": messages, **fields}
    usage = (await provider.post("/messages", json=body)).json()["usage"]
    return usage["input_tokens"], usage["cache_creation_input_tokens"], usage["cache_read_input_tokens"]


async def test_a_message_is_cached_up_to_its_last_breakpoint_alone(provider: httpx.AsyncClient) -> None:
    marked = [{"type": "text", "text": LONG, **MARK}]
    assert await message_usage(provider, LONG, "Hi! ") == (1251, 0, 0)
    assert await message_usage(provider, LONG, "Hi! ") == (1251, 0, 0)
    assert await message_usage(provider, marked, "Hi! ") == (1, 1250, 0)
    assert await message_usage(provider, marked, "Bye, bye") == (2, 0, 1250)
    assert await message_usage(provider, LONG, "Bye, bye") == (1252, 0, 0)
    assert await message_usage(provider, [{"type": "text", "text": "Short", **MARK}], "Hi! ") == (3, 0, 0)


async def test_a_conversation_whose_mark_moves_on_reads_what_it_wrote(provider: httpx.AsyncClient) -> None:
    asked = {"type": "text", "text": "Hi! "}
    assert await message_usage(provider, LONG, [{**asked, **MARK}]) == (0, 1251, 0)
    assert await message_usage(provider, LONG, "Hi! ", [{**asked, **MARK}], "End.") == (1, 1, 1251)
    assert await message_usage(provider, LONG, "Hi! ", "Hi! ", cache_control={"type": "ephemeral"}) == (0, 0, 1252)


async def test_counting_tokens_leaves_the_cache_alone(provider: httpx.AsyncClient) -> None:
    content = [{"type": "text", "text": LONG, **MARK}]
    body = {"model": "sim-small", "messages": [{"role": "user", "content": content}]}
    counted = await provider.post("/messages/count_tokens", json=body)
    assert counted.json() == {"input_tokens": 1250}
    assert await message_usage(provider, "", content) == (0, 1250, 0)
