"""The load generator, against the fast upstream and against one that answers badly."""

from collections.abc import Iterator

import pytest

from tests.bench.endpoint import Endpoint
from tests.bench.load import BadAnswer, Load, load
from tests.providers import running
from tests.scripted_upstream import answer, scripted_upstream

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    with running("tests.bench.fast_upstream", "--one-by-one") as url:
        yield url


def loaded(base_url: str, stream: bool) -> Load:
    endpoint = Endpoint(f"{base_url}/chat/completions", "any", {})
    request = endpoint.request("Hello", stream)
    return load(endpoint.url, lambda: request, callers=2, seconds=0.1)


def test_whole_answers_have_no_first_event(upstream: str) -> None:
    found = loaded(upstream, stream=False)
    assert len(found.latencies) >= 2
    assert found.first_events == ()


def test_the_first_event_of_each_stream_comes_before_its_end(upstream: str) -> None:
    found = loaded(upstream, stream=True)
    assert len(found.first_events) == len(found.latencies) >= 2
    assert all(first < whole for first, whole in zip(found.first_events, found.latencies, strict=True))


@pytest.mark.parametrize(
    "bad",
    [
        answer(b'{"error": "busy"}', status=b"503 Service Unavailable"),
        CHUNKED + b'e\r\ndata: "word"\n\n\r\n0\r\n\r\n',
        b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nword",
    ],
    ids=["an error", "a stream that is not [DONE]", "an answer whose end cannot be told"],
)
def test_nothing_is_measured_where_answers_are_bad(bad: bytes) -> None:
    with scripted_upstream() as scripted:
        scripted.steps = [bad]
        with pytest.raises(BadAnswer, match=r"word|busy"):
            loaded(scripted.url, stream=True)
