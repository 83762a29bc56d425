"""LiteLLM's proxy as an upstream: an independent server, whose models fail as it lets them fail.

`make test-peers` puts it into an environment of its own.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import orjson
import pytest

from handler.keys import NewKey, Routing
from tests.bench.endpoint import Endpoint
from tests.bench.peers.gateways import LITELLM, litellm_serving
from tests.nearvote_server import Server, copy_home, create_key, start_nearvote
from tests.scripted_upstream import EVENT_STREAM, scripted_upstream

pytestmark = pytest.mark.skipif(not LITELLM.exists(), reason="LiteLLM is not installed: `make test-peers` does it")


def chunk(word: str) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"role": "assistant", "content": word}, "finish_reason": None}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


ANSWER = "The answer is forty-two."
FAILING = {
    "limited": ("litellm.RateLimitError", "429"),
    "broken": ("litellm.InternalServerError", "500"),
    "small": ("litellm.ContextWindowExceededError", "400"),
    "unstreamed": ("Exception: mock_streaming_error", "529"),
}
"""What LiteLLM is told to fail with, and the status that it answers with then."""
BEGUN = [EVENT_STREAM.replace(b"connection: close", b"transfer-encoding: chunked")] + [
    b"%x\r\n%b\r\n" % (len(event), event)
    for word in ("one", " two")
    if (event := b"data: " + orjson.dumps(chunk(word)) + b"\n\n")
]
"""A stream of two words, which is never ended."""


@dataclass(frozen=True, slots=True)
class Peers:
    """nearvote before LiteLLM. `auto` asks the model that a key has as its default, and then `good`."""

    server: Server

    def client(self, default_model: str = "good") -> openai.OpenAI:
        new = NewKey(name=default_model, routing=Routing.ON, default_model=default_model)
        key = create_key(self.server.home, new)
        return openai.OpenAI(base_url=f"{self.server.url}/v1", api_key=key, max_retries=0, timeout=30)


@pytest.fixture(scope="module")
def peers(starter_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peers]:
    directory = tmp_path_factory.mktemp("litellm")
    home = copy_home(starter_home, directory / "home")
    mocked = {"good": ANSWER} | {name: mock for name, (mock, _) in FAILING.items()}
    models: dict[str, dict[str, object]] = {
        name: {"model": f"openai/{name}", "api_key": "none", "mock_response": mock} for name, mock in mocked.items()
    }
    with scripted_upstream() as upstream:
        upstream.steps = BEGUN
        models["midstream"] = {"model": "openai/midstream", "api_key": "none", "api_base": upstream.url}
        with litellm_serving(models, directory) as litellm, nearvote_before(litellm, models, home) as server:
            yield Peers(server)


@contextmanager
def nearvote_before(litellm: Endpoint, models: Iterable[str], home: Path) -> Iterator[Server]:
    (home / "fleet.yaml").write_bytes(fleet(models, litellm.url.removesuffix("/chat/completions")))
    key = litellm.headers["authorization"].removeprefix("Bearer ")
    with start_nearvote(home, {"LITELLM_KEY": key}) as server:
        yield server


def fleet(names: Iterable[str], base_url: str) -> bytes:
    """The first is the dearest, and so the first fallback."""
    deployments = [{"base_url": base_url, "api_key": "${LITELLM_KEY}"}]
    models = [
        {"name": name, "like": "small", "price": {"input": price, "output": price}, "deployments": deployments}
        for price, name in zip(range(9, 0, -1), names, strict=False)
    ]
    return orjson.dumps({"models": models})


def ask(client: openai.OpenAI, model: str) -> tuple[str, str, str]:
    """The answer, the model and the cause."""
    raw = client.chat.completions.with_raw_response.create(model=model, messages=[{"role": "user", "content": ""}])
    text = raw.parse().choices[0].message.content or ""
    return text, raw.headers["x-nearvote-model"], raw.headers["x-nearvote-cause"]


def stream(client: openai.OpenAI, model: str, seen: list[str]) -> tuple[str, str, str]:
    """The same of a stream; `seen` has its words even where it breaks off."""
    raw = client.chat.completions.with_raw_response.create(
        model=model, messages=[{"role": "user", "content": ""}], stream=True
    )
    seen.extend(chunk.choices[0].delta.content or "" for chunk in raw.parse())
    return "".join(seen), raw.headers["x-nearvote-model"], raw.headers["x-nearvote-cause"]


def test_a_named_model_answers(peers: Peers) -> None:
    with peers.client() as client:
        assert ask(client, "good") == stream(client, "good", []) == (ANSWER, "good", "named")


@pytest.mark.parametrize("model", FAILING)
def test_auto_falls_over_from_a_model_that_fails_to_one_that_answers(peers: Peers, model: str) -> None:
    with peers.client(model) as client:
        assert ask(client, "auto") == stream(client, "auto", []) == (ANSWER, "good", "failover")


@pytest.mark.parametrize("model", FAILING)
def test_a_named_model_that_fails_comes_back_in_litellm_s_words(peers: Peers, model: str) -> None:
    with peers.client() as client, pytest.raises(openai.APIStatusError) as error:
        ask(client, model)
    assert str(error.value.status_code) == FAILING[model][1]
    assert error.value.message.startswith("Error code: ")
    assert "LiteLLM: model group" in error.value.message


@pytest.mark.parametrize("model", ["midstream", "auto"])
def test_a_stream_that_breaks_off_behind_litellm_raises_in_the_client(peers: Peers, model: str) -> None:
    seen: list[str] = []
    with peers.client("midstream") as client, pytest.raises(openai.APIError):
        stream(client, model, seen)
    assert seen[:1] == ["one"]  # LiteLLM itself may drop what came just before the break
