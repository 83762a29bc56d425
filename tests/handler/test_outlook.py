"""What a request is expected to cost and take, computed by hand."""

from dataclasses import replace
from typing import Any

import pytest

from handler.data.health import Target
from handler.data.outlook import Outlook, look_ahead
from handler.data.sessions import NOTHING, Memory, Recalled, Warm
from handler.data.speeds import Speeds
from handler.fleet import Deployment, Model, Price
from handler.flow import Ask, Preferences, Prompt, Protocol
from tests.dynamodb_server import Clock

NOW = 1_000.0
AT = Deployment(base_url="http://a/v1")
SMALL = Model(name="small", price=Price(input=1, output=4, cached_input=0.1, cache_write=1.25), deployments=(AT,))
LARGE = Model(name="large", price=Price(input=10, output=40, cached_input=1), deployments=(AT,), cache_seconds=60)
PLAIN = Model(name="plain", price=Price(input=2, output=8), deployments=(AT,))
MODELS = (SMALL, LARGE, PLAIN)
COLD = {
    "small": (4_000 * 1 + 500 * 4) / 1e6,
    "large": (4_000 * 10 + 500 * 40) / 1e6,
    "plain": (4_000 * 2 + 500 * 8) / 1e6,
}


def ask(**more: Any) -> Ask:
    return Ask("auto", False, Prompt("text", 4_000, 500), Preferences(), {}, **more)


def conversation(**seen: int) -> Memory:
    """Of 3,000 tokens, a second ago."""
    return Memory(
        3_000, NOW - 1, {model: Warm(tokens, NOW - 1, f"http://{model}/v1") for model, tokens in seen.items()}
    )


def outlook(of: Ask, memory: Memory = NOTHING, now: float = NOW) -> Outlook:
    return look_ahead(of, MODELS, Recalled(memory), Speeds(None), now)


def test_without_a_past_every_model_reads_all_of_it_anew() -> None:
    assert outlook(ask()) == Outlook(COLD, COLD, {}, {})


def test_what_a_model_has_in_its_cache_costs_the_cached_price() -> None:
    found = outlook(ask(), conversation(small=3_000, plain=3_000))
    assert found.costs == COLD | {"small": (1_000 * 1 + 3_000 * 0.1 + 500 * 4) / 1e6}
    assert (found.cold, found.cached) == (COLD, {"small": 3_000})


def test_no_more_is_cached_than_is_sent() -> None:
    found = outlook(ask(), conversation(small=4_500))
    assert found.cached == {"small": 4_000}


@pytest.mark.parametrize(("tokens", "cached"), [(1_024, {"small": 1_024}), (1_023, {})])
def test_providers_cache_from_1024_tokens_on(tokens: int, cached: dict[str, int]) -> None:
    assert outlook(ask(), conversation(small=tokens)).cached == cached


def test_a_cache_is_as_old_as_its_provider_lets_it_become() -> None:
    memory = conversation(small=3_000, large=3_000)
    assert outlook(ask(), memory, NOW + 58).cached == {"small": 3_000, "large": 3_000}
    assert outlook(ask(), memory, NOW + 59).cached == {"small": 3_000}
    assert outlook(ask(), memory, NOW + 299).cached == {}


@pytest.mark.parametrize(("length", "cached"), [(5_000, {"small": 3_000}), (5_001, {})])
def test_a_conversation_that_became_shorter_was_rewritten(length: int, cached: dict[str, int]) -> None:
    memory = replace(conversation(small=3_000), tokens=length)
    assert outlook(ask(), memory).cached == cached


def test_what_is_taken_into_the_cache_costs_the_price_of_a_write() -> None:
    found = outlook(ask(protocol=Protocol.MESSAGES, writes_cache=True), conversation(small=3_000))
    assert found.costs["small"] == (1_000 * 1.25 + 3_000 * 0.1 + 500 * 4) / 1e6
    assert found.cold["small"] == (4_000 * 1.25 + 500 * 4) / 1e6


def test_anthropics_cache_is_read_by_those_who_ask_for_it() -> None:
    assert outlook(ask(protocol=Protocol.MESSAGES), conversation(small=3_000)).cached == {}


def test_latencies_are_of_the_expected_answer_and_slowness_is_in_tens() -> None:
    speeds = Speeds(None, Clock(NOW))
    speeds.note_whole(Target(SMALL, AT), ms=1_000.0, output_tokens=500)
    speeds.note_whole(Target(LARGE, AT), ms=10_000.0, output_tokens=500)
    found = look_ahead(ask(), MODELS, Recalled(), speeds, NOW)
    assert found.latencies == {"small": 1_000.0, "large": 10_000.0}
    assert [found.slowness(model.name) for model in MODELS] == [0.0, 1.0, 0.0]


def test_a_request_continues_with_the_model_and_the_deployment_that_it_leans_on() -> None:
    leant_on = NOTHING.after("large", 100, Warm(100, NOW, "http://elsewhere/v1"))
    found = look_ahead(ask(), MODELS, Recalled(conversation(large=3_000, small=3_000), leant_on), Speeds(None), NOW)
    assert found.continues == "large"
    assert [found.deployment(model.name) for model in MODELS] == ["http://small/v1", "http://elsewhere/v1", ""]


def test_reasoning_is_sealed_by_the_deployment_that_answered_last() -> None:
    memory = NOTHING.after("large", 100, Warm(100, NOW - 9, "http://once/v1")).after(
        "small", 200, Warm(200, NOW, "http://last/v1")
    )
    assert outlook(ask(), memory).sealed_by == ""
    found = outlook(ask(is_sealed=True), memory)
    assert found.sealed_by == "http://last/v1"
    assert {found.deployment(model.name) for model in MODELS} == {"http://last/v1"}
    assert outlook(ask(is_sealed=True), NOTHING).sealed_by == ""


def test_a_request_that_leans_on_nothing_continues_with_nobody() -> None:
    assert outlook(ask(), conversation(small=3_000)).continues == ""
