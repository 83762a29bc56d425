"""pytest plugin: a `nearvote run` whose fleet speaks three protocols, prices the prompt cache, and has rules."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from handler.flow import Usage
from handler.keys import NewKey, Routing
from tests.nearvote_server import Server, copy_home, create_key, start_nearvote

FLEET = """
models:
  - name: sim-small
    like: small
    price: {input: 0.10, output: 0.50, cached_input: 0.01, cache_write: 0.125, cache_write_1h: 0.20}
    context: 100000
    audio: false
    files: false
    deployments: &simulated
      - {base_url: "${SIMULATED_PROVIDER_URL}", api_key: made-up, protocols: [chat, messages, responses]}
  - name: sim-medium
    like: medium
    price: {input: 0.40, output: 2.00, cached_input: 0.04, cache_write: 0.50, cache_write_1h: 0.80}
    context: 100000
    audio: false
    files: false
    deployments: *simulated
  - name: sim-large
    like: large
    price: {input: 2.00, output: 10.00, cached_input: 0.02, cache_write: 2.50, cache_write_1h: 4.00}
    context: 100000
    audio: false
    files: false
    deployments: [{base_url: "${OTHER_PROVIDER_URL}", api_key: made-up, protocols: [chat, messages, responses]}]
  - name: plain
    price: {input: 0.10, output: 0.50}
    images: false
    tools: false
    schema: false
    audio: false
    files: false
    context: 1000
    deployments:
      - base_url: "${SIMULATED_PROVIDER_URL}"
        api_key: made-up
        model: sim-small
        protocols: [chat, messages, responses]
  - name: keyless
    price: {input: 0.10, output: 0.50}
    audio: false
    files: false
    context: 1000
    deployments: [{base_url: "${SIMULATED_PROVIDER_URL}", model: sim-small, protocols: [messages]}]
  - name: chat-only
    price: {input: 0.10, output: 0.50}
    audio: false
    files: false
    context: 1000
    deployments: [{base_url: "${SIMULATED_PROVIDER_URL}", model: sim-small}]
rules:
  - {name: no-codes, when: {text: "(?i)launch codes"}, deny: Not here.}
  - {name: legal, when: {headers: {x-team: legal-*}}, model: sim-medium}
  - {name: steps, when: {turn: tool_result, headers: {x-rules: "on"}}, tier: small}
  - {name: helpers, when: {turn: subagent, headers: {x-rules: "on"}}, tier: medium}
  - {name: careful, when: {headers: {x-rules: "on"}}, dial: 0}
"""
PRICES = {
    "sim-small": (0.10, 0.50, 0.01, 0.125),
    "sim-medium": (0.40, 2.00, 0.04, 0.50),
    "sim-large": (2.00, 10.00, 0.02, 2.50),
}
"""Of fresh input, output, cached input and what is written into the cache."""


@pytest.fixture(scope="session")
def protocol_server(
    starter_home: Path, simulated_provider: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Its key chooses among the three `sim-` models, of which sim-large seems to have a provider of its own; the others
    are there to be named."""
    home = copy_home(starter_home, tmp_path_factory.mktemp("protocols") / "home")
    (home / "fleet.yaml").write_text(FLEET)
    other = simulated_provider.replace("127.0.0.1", "localhost")
    with start_nearvote(home, {"SIMULATED_PROVIDER_URL": simulated_provider, "OTHER_PROVIDER_URL": other}) as server:
        yield replace(server, key=create_key(home, NewKey(name="agents", routing=Routing.ON, allow=("sim-*",))))


@pytest.fixture(scope="session")
def caller(protocol_server: Server) -> Iterator[httpx.Client]:
    """Speaks with it byte for byte."""
    headers = {"authorization": f"Bearer {protocol_server.key}"}
    with httpx.Client(base_url=f"{protocol_server.url}/v1", headers=headers, timeout=20) as client:
        yield client


@pytest.fixture(scope="session")
def provider(simulated_provider: str) -> Iterator[httpx.Client]:
    """Speaks with the simulated provider itself."""
    with httpx.Client(base_url=simulated_provider, headers={"x-api-key": "made-up"}, timeout=20) as client:
        yield client


def price_of(model: str, usage: Usage) -> float:
    """Dollars, by hand."""
    fresh, output, cached, written = PRICES[model]
    tokens = (usage.input_tokens - usage.cached_tokens - usage.written_tokens) * fresh
    return (tokens + usage.output_tokens * output + usage.cached_tokens * cached + usage.written_tokens * written) / 1e6
