"""Which models stand for a request: each ability and restriction with the message that names it."""

from dataclasses import replace
from typing import Any

import pytest

from handler import evidence
from handler.data.decide import Decider
from handler.data.live import Live
from handler.data.slate import Slate, draw
from handler.errors import BadRequest, Denied, NotFound
from handler.fleet import Deployment, Fleet, FleetFile, Model, Price
from handler.flow import Ask, Cause, Decision, Need, Preferences, Prompt, Protocol
from handler.keys import KeyRecord, Routing
from handler.rules import Rule, When
from tests.outlooks import cold

CHAT = Deployment(base_url="http://a/v1")
BOTH = Deployment(base_url="http://b/v1", protocols=(Protocol.CHAT, Protocol.MESSAGES))
FLEET = Fleet(
    models=(
        Model(name="small", price=Price(input=1, output=1), deployments=(CHAT,), like="small", context=1_000),
        Model(name="middle", price=Price(input=2, output=2), deployments=(BOTH,), like="medium", max_output=200),
        Model(name="large", price=Price(input=9, output=9), deployments=(BOTH,), like="large"),
    )
)
ALL = ("small", "middle", "large")
NO_IMAGES = FLEET.model_copy(update={"models": tuple(one.model_copy(update={"images": False}) for one in FLEET.models)})


def key(**options: Any) -> KeyRecord:
    return KeyRecord(id="0" * 12, digest="0" * 64, created_at="", name="key", **options)


def ask(tokens: int = 100, most: int | None = None, wants: Preferences | None = None, **more: Any) -> Ask:
    return Ask("auto", False, Prompt("text", tokens, most or 500, most), wants or Preferences(), {}, **more)


def names(
    of: Ask, who: KeyRecord | None = None, rule: Rule | None = None, latency: dict[str, float] | None = None
) -> tuple[str, ...]:
    return draw(of, who or key(), FLEET, rule, latency).names


def refusal(of: Ask, who: KeyRecord | None = None, rule: Rule | None = None, fleet: Fleet = FLEET) -> str:
    with pytest.raises(NotFound) as refused:
        draw(of, who or key(), fleet, rule)
    assert (refused.value.status, refused.value.code) == (404, "no_model_left")
    return refused.value.message


def test_where_nothing_is_said_the_whole_fleet_stands() -> None:
    assert draw(ask(), key(), FLEET) == Slate(
        names=ALL,
        fallback="large",
        dial=7.0,
        min_quality=None,
        max_cost=None,
        whole=True,
        dearest_first=("large", "middle", "small"),
    )


def test_a_model_must_speak_the_protocol() -> None:
    assert names(ask(protocol=Protocol.MESSAGES)) == ("middle", "large")
    assert refusal(ask(protocol=Protocol.RESPONSES)) == (
        "no model is left to choose: the protocol of responses left none of small, middle, large"
    )


@pytest.mark.parametrize(
    ("need", "field"),
    [
        (Need.IMAGES, "images"),
        (Need.AUDIO, "audio"),
        (Need.FILES, "files"),
        (Need.TOOLS, "tools"),
        (Need.SCHEMA, "schema_"),
    ],
)
def test_a_model_that_is_known_to_lack_what_is_needed_does_not_stand(need: Need, field: str) -> None:
    small, *others = FLEET.models
    fleet = Fleet(models=(small.model_copy(update={field: False}), *others))
    assert draw(ask(needs=frozenset({need})), key(), fleet).names == ("middle", "large")
    assert draw(ask(), key(), fleet).names == ALL


def test_a_need_that_nobody_meets_is_named() -> None:
    found = refusal(ask(needs=frozenset({Need.TOOLS, Need.IMAGES})), fleet=NO_IMAGES)
    assert found == "no model is left to choose: the request's images left none of small, middle, large"


@pytest.mark.parametrize(("tokens", "most", "stand"), [(500, None, ALL), (501, None, ALL[1:]), (801, 200, ALL[1:])])
def test_a_request_and_its_answer_must_fit_into_the_context(
    tokens: int, most: int | None, stand: tuple[str, ...]
) -> None:
    assert names(ask(tokens, most)) == stand


@pytest.mark.parametrize(("most", "stand"), [(200, ALL), (201, ("small", "large"))])
def test_a_model_must_be_able_to_answer_as_long_as_the_request_says(most: int, stand: tuple[str, ...]) -> None:
    assert names(ask(most=most)) == stand


def test_a_request_that_fits_nowhere_is_told_its_size() -> None:
    tight = Fleet(models=FLEET.models[:1])
    assert refusal(ask(2_000, 50), fleet=tight) == (
        "no model is left to choose: the request's size (prompt is too long: about 2000 tokens, and 50 for the answer) "
        "left none of small"
    )


@pytest.mark.parametrize(("tokens", "stand"), [(1_950, ("wide",)), (1_951, ("wider",)), (2_438, ("wider",))])
def test_what_may_fit_after_all_goes_to_the_largest_whose_provider_counts(tokens: int, stand: tuple[str, ...]) -> None:
    small = FLEET.models[0]
    wide, wider = (
        small.model_copy(update={"name": name, "context": at}) for name, at in (("wide", 2_000), ("wider", 2_001))
    )
    assert draw(ask(tokens, 50), key(), Fleet(models=(small, wide, wider))).names[:1] == stand
    assert "prompt is too long" in refusal(ask(2_439, 50), fleet=Fleet(models=(small, wide, wider)))


@pytest.mark.parametrize(
    ("options", "wants", "stand"),
    [
        ({"allow": ("*l*",), "exclude": ("small",)}, Preferences(), ("middle", "large")),
        ({}, Preferences(models=("large", "small")), ("small", "large")),
        ({}, Preferences(allow=("s*", "m*")), ("small", "middle")),
        ({}, Preferences(exclude=("s*", "m*")), ("large",)),
        ({"allow": ("s*", "m*")}, Preferences(exclude=("small",)), ("middle",)),
    ],
)
def test_the_key_and_the_request_restrict(options: dict[str, Any], wants: Preferences, stand: tuple[str, ...]) -> None:
    assert names(ask(wants=wants), key(**options)) == stand


@pytest.mark.parametrize(
    ("options", "wants", "restriction", "before"),
    [
        ({"allow": ("x*",)}, Preferences(), "the key's allowed models", "small, middle, large"),
        ({"exclude": ("*",)}, Preferences(), "the key's excluded models", "small, middle, large"),
        ({"exclude": ("large",)}, Preferences(models=("large",)), "the request's `models`", "small, middle"),
        ({"exclude": ("large",)}, Preferences(allow=("large",)), "the request's allowed_models", "small, middle"),
        ({"allow": ("s*",)}, Preferences(exclude=("small",)), "the request's excluded_models", "small"),
    ],
)
def test_the_restriction_that_left_none_is_named(
    options: dict[str, Any], wants: Preferences, restriction: str, before: str
) -> None:
    assert refusal(ask(wants=wants), key(**options)) == (
        f"no model is left to choose: {restriction} left none of {before}"
    )


def test_a_model_that_the_fleet_has_not_is_named() -> None:
    with pytest.raises(BadRequest, match="`models` names 'huge'; the fleet has small, middle, large") as refused:
        names(ask(wants=Preferences(models=("small", "huge"))))
    assert refused.value.param == "models"


def test_a_rule_s_tier_leaves_the_models_that_are_like_it() -> None:
    assert names(ask(), rule=Rule(name="mid", tier="medium")) == ("middle",)
    assert refusal(ask(), key(exclude=("large",)), Rule(name="top", tier="large")).endswith(
        "the key's excluded models left none of large"
    )
    assert refusal(ask(protocol=Protocol.MESSAGES), rule=Rule(name="low", tier="small")) == (
        "no model is left to choose: the rule 'low' left none of middle, large"
    )


@pytest.mark.parametrize(
    ("wants", "rule", "dial"),
    [
        (Preferences(), None, 6.0),
        (Preferences(), Rule(name="cheap", dial=9), 9.0),
        (Preferences(), Rule(name="best", dial=0), 0.0),
        (Preferences(dial=3), Rule(name="cheap", dial=9), 3.0),
        (Preferences(dial=0), None, 0.0),
        (Preferences(), Rule(name="mid", tier="medium"), 6.0),
    ],
)
def test_the_request_s_dial_goes_before_the_rule_s_and_that_before_the_key_s(
    wants: Preferences, rule: Rule | None, dial: float
) -> None:
    assert draw(ask(wants=wants), key(dial=6), FLEET, rule).dial == dial


LATENCY = {"small": 400.0, "middle": 900.0}
"""Nothing is known of large."""


@pytest.mark.parametrize(
    ("options", "wants", "stand"),
    [
        ({}, Preferences(), ALL),
        ({"max_latency_ms": 900.0}, Preferences(), ALL),
        ({"max_latency_ms": 899.0}, Preferences(), ("small", "large")),
        ({"max_latency_ms": 1.0}, Preferences(), ("large",)),
        ({"max_latency_ms": 1.0}, Preferences(max_latency_ms=500.0), ("small", "large")),
    ],
)
def test_models_that_are_known_to_be_too_slow_do_not_stand(
    options: dict[str, Any], wants: Preferences, stand: tuple[str, ...]
) -> None:
    assert names(ask(wants=wants), key(**options), latency=LATENCY) == stand


@pytest.mark.parametrize(
    ("sealed_by", "stand"),
    [("", ALL), ("http://a/v1", ("small",)), ("http://b/v1", ("middle", "large")), ("http://gone/v1", ALL)],
)
def test_reasoning_that_one_provider_alone_can_read_goes_to_models_that_it_serves(
    sealed_by: str, stand: tuple[str, ...]
) -> None:
    assert draw(ask(), key(), FLEET, sealed_by=sealed_by).names == stand


def test_where_all_are_too_slow_the_fastest_stands() -> None:
    slow = LATENCY | {"large": 300.0}
    found = draw(ask(), key(max_latency_ms=1.0), FLEET, latency=slow)
    assert (found.names, found.fallback, found.whole) == (("large",), "large", False)


@pytest.mark.parametrize(
    ("options", "fleet", "fallback"),
    [
        ({"default_model": "small"}, FLEET, "small"),
        ({"default_model": "gone"}, FLEET, "large"),
        ({"default_model": "small", "exclude": ("small",)}, FLEET, "large"),
        ({}, FLEET.model_copy(update={"default": "middle"}), "middle"),
        ({"exclude": ("large",)}, FLEET, "middle"),
    ],
)
def test_the_fallback_is_the_key_s_default_then_the_fleet_s_then_the_dearest_that_stands(
    options: dict[str, Any], fleet: Fleet, fallback: str
) -> None:
    assert draw(ask(), key(**options), fleet).fallback == fallback


async def decided(rule: Rule, model: str = "auto") -> Decision:
    """By a process that has no index."""
    live = Live(FleetFile(FLEET.model_copy(update={"rules": (rule,)}), "f"), None, "")
    of = replace(ask(), model=model)
    decider = Decider(None, workers=1, waiting=1)
    try:
        return await decider.decide(of, key(routing=Routing.ON), live, cold(of, live))
    finally:
        decider.close()


@pytest.mark.parametrize(
    ("outcome", "model", "cause"),
    [
        ({"model": "small"}, "small", Cause.RULE),
        ({"tier": "medium"}, "middle", Cause.ONLY_CANDIDATE),
        ({"dial": 3}, "large", Cause.EMBEDDER_FAULT),
    ],
)
async def test_the_evidence_names_the_rule(outcome: dict[str, Any], model: str, cause: Cause) -> None:
    decision = await decided(Rule(name="my-rule", **outcome))
    assert (decision.model, decision.cause) == (model, cause)
    assert evidence.full(decision)["rule"] == "my-rule"


async def test_a_rule_that_does_not_fit_is_not_named() -> None:
    decision = await decided(Rule(name="my-rule", when=When(min_tokens=101), model="small"))
    assert evidence.full(decision)["rule"] is None


async def test_a_rule_that_denies_goes_before_a_model_that_is_named() -> None:
    with pytest.raises(Denied, match="not here"):
        await decided(Rule(name="my-rule", deny="not here"), model="small")
