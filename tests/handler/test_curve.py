"""The dial's curve as callers and operators see it."""

import math
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import orjson
import pytest

from handler import curve, fleet
from handler.errors import NotFound
from index.ballot import Ballot, draw_up
from index.dial import FLAT, Curve, Promise, Single, calibrate
from index.structure import NAMES
from index.types import Candidate, Example
from tests.admin_server import FLEET, AdminServer, refused, told
from tests.nearvote_server import Server
from tests.tiny import snapshot_of, unit

CANDIDATES = (Candidate("cheap", 1.0), Candidate("dear", 5.0))
NAN = float("nan")


def ballot_with(curve: Curve) -> Ballot:
    snapshot = snapshot_of([Example("a", "p", {"cheap": 1.0, "dear": 1.0})], np.array([unit(1, 0)]))
    ballot = draw_up(snapshot, CANDIDATES)
    return replace(ballot, fit=replace(ballot.fit, curve=curve))


def four_examples() -> Curve:
    votes = np.array([[0.5, 0.6], [0.5, 0.7], [0.5, 0.8], [0.5, 0.9]], np.float32)
    outcomes = np.array([[1, 1], [1, 1], [0, 1], [0, 1]], np.float32)
    return calibrate(votes, outcomes, np.array([1, 5], np.float32))


def test_the_curve_tells_what_each_setting_gives_beside_the_best_single_model() -> None:
    shown = curve.describe(ballot_with(four_examples()), "fleet-1")
    settings = shown.pop("settings")
    dear_margin, cheap_margin = (1.96 * math.sqrt(p * (1 - p) / 8) for p in (6 / 8, 4 / 8))
    assert shown == {
        "index_version": "version",
        "fleet_version": "fleet-1",
        "examples": 4,
        "best_single": "dear",
        "models": [
            {
                "model": "cheap",
                "cost": 1.0,
                "quality": 0.5,
                "quality_margin": pytest.approx(cheap_margin),
                "measured": 4,
                "coefficients": {},
            },
            {
                "model": "dear",
                "cost": 5.0,
                "quality": 1.0,
                "quality_margin": pytest.approx(dear_margin),
                "measured": 4,
                "coefficients": {},
            },
        ],
    }
    assert [one["dial"] for one in settings] == list(range(11))
    assert settings[6] == {
        "dial": 6,
        "exchange": pytest.approx(0.075),
        "spend": 2.0,
        "spend_margin": pytest.approx(1.96 * 2 / 2),
        "quality": 0.75,
        "quality_margin": pytest.approx(1.96 * math.sqrt(5 / 8 * 3 / 8 / 8)),
        "saved": 0.6,
        "kept": 0.75,
    }


def test_what_is_not_known_is_null() -> None:
    unknown = Promise(2.0, math.inf, NAN, math.inf)
    nothing = Curve((0.0,) * 11, (unknown,) * 101, (Single(1.0, NAN, math.inf, 0), Single(5.0, NAN, math.inf, 0)), 1)
    shown = orjson.loads(orjson.dumps(curve.describe(ballot_with(nothing), "fleet-1")))
    assert shown["best_single"] is None
    assert shown["models"][0] == {
        "model": "cheap",
        "cost": 1.0,
        "quality": None,
        "quality_margin": None,
        "measured": 0,
        "coefficients": {},
    }
    assert shown["settings"][0] == {
        "dial": 0,
        "exchange": 0.0,
        "spend": 2.0,
        "spend_margin": None,
        "quality": None,
        "quality_margin": None,
        "saved": None,
        "kept": None,
    }


def test_a_calibrated_model_tells_its_coefficients_by_name() -> None:
    rng = np.random.default_rng(1)
    scores = rng.integers(0, 2, (60, 2)).astype(float)
    examples = [
        Example(f"e{row}", "p" * row, dict(zip(("cheap", "dear"), pair, strict=True)))
        for row, pair in enumerate(scores)
    ]
    vectors = rng.normal(size=(60, 4)).astype(np.float32)
    snapshot = snapshot_of(examples, vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    cheap, dear = curve.describe(draw_up(snapshot, CANDIDATES), "fleet-1")["models"]
    assert tuple(cheap["coefficients"]) == ("constant", "neighbours", "ease", "ease_squared", *NAMES)
    assert cheap["coefficients"] != dear["coefficients"]


def test_shares_of_nothing_are_null() -> None:
    free = Curve((0.0,) * 11, (Promise(0.0, 0.0, 0.0, 0.1),) * 101, (Single(0.0, 0.0, 0.1, 9),) * 2, 9)
    setting = curve.describe(ballot_with(free), "fleet-1")["settings"][0]
    assert (setting["saved"], setting["kept"]) == (None, None)


@pytest.mark.parametrize(
    ("ballot", "detail", "why"),
    [
        (None, "the index is empty", "the index is empty"),
        (ballot_with(FLAT), "", "the index has too few examples of these models"),
    ],
)
def test_where_there_is_no_curve_the_answer_says_why(ballot: Ballot | None, detail: str, why: str) -> None:
    with pytest.raises(NotFound) as told:
        curve.describe(ballot, "fleet-1", detail)
    assert (told.value.code, told.value.message) == ("no_index", f"there is nothing to calibrate the dial on: {why}")


def test_a_key_may_read_the_dial_and_an_operator_reads_the_same(nearvote_server: Server) -> None:
    callers, operators = (
        httpx.get(f"{nearvote_server.url}{path}", headers={"authorization": f"Bearer {key}"})
        for path, key in (("/v1/dial", nearvote_server.key), ("/admin/v1/dial", nearvote_server.admin_key))
    )
    shown = told(callers)
    assert told(operators) == shown
    health = httpx.get(f"{nearvote_server.url}/healthz").json()
    assert (shown["index_version"], shown["fleet_version"]) == (health["index_version"], health["fleet_version"])
    assert [one["model"] for one in shown["models"]] == ["sim-small", "sim-medium", "sim-large"]
    assert shown["best_single"] == "sim-large"
    assert shown["examples"] > 100
    spend = [one["spend"] for one in shown["settings"]]
    assert spend == sorted(spend, reverse=True)
    assert spend[10] == pytest.approx(shown["models"][0]["cost"])


def test_the_dial_needs_a_key(nearvote_server: Server) -> None:
    answers = (httpx.get(f"{nearvote_server.url}{path}") for path in ("/v1/dial", "/admin/v1/dial"))
    assert [(status, error["code"]) for status, error in map(refused, answers)] == [(401, "missing_api_key")] * 2


def ask(server: Server, headers: dict[str, str] | None = None, **plugin: Any) -> httpx.Response:
    body = {"model": "auto", "messages": [{"role": "user", "content": "Translate to French: good morning"}]}
    return httpx.post(
        f"{server.url}/v1/route",
        headers={"authorization": f"Bearer {server.key}", **(headers or {})},
        json={**body, "plugins": [{"id": "auto-router", **plugin}]},
    )


def test_a_floor_and_a_ceiling_are_met_by_what_the_curve_told(nearvote_server: Server) -> None:
    dial = httpx.get(f"{nearvote_server.url}/v1/dial", headers={"authorization": f"Bearer {nearvote_server.key}"})
    seventh = told(dial)["settings"][7]
    floor = told(ask(nearvote_server, min_quality=seventh["quality"]))
    ceiling = told(ask(nearvote_server, {"x-nearvote-max-cost": repr(seventh["spend"])}))
    assert (floor["cause"], ceiling["cause"]) == ("vote", "vote")
    assert floor["dial"] >= 7 >= ceiling["dial"]
    assert floor["promised_quality"] >= round(seventh["quality"], 4)
    assert ceiling["promised_spend"] <= seventh["spend"] * (1 + 1e-9)
    assert floor["promised_spend"] <= seventh["spend"]


def test_a_tier_is_a_dial_and_two_ways_to_set_it_are_refused(nearvote_server: Server) -> None:
    tiered = told(ask(nearvote_server, cost_tier="low"))
    assert (tiered["dial"], tiered["promised_quality"], tiered["promised_spend"]) == (9.0, None, None)
    status, error = refused(ask(nearvote_server, {"x-nearvote-dial": "3"}, cost_tier="low"))
    assert (status, error["code"], error["param"]) == (400, "invalid_value", "plugins.cost_tier")


def test_an_operator_of_an_empty_index_is_told_that_there_is_none(admin_server: AdminServer) -> None:
    status, error = refused(admin_server.client.get("/admin/v1/dial"))
    assert (status, error["code"]) == (404, "no_index")
    assert error["message"].endswith(": the index is empty")


def test_the_curve_follows_the_prices_without_a_new_version(admin_server: AdminServer) -> None:
    easy = [{"id": f"easy-{n}", "prompt": f"Say hello, {n} times.", "model": "nano"} for n in range(6)]
    hard = [{"id": f"hard-{n}", "prompt": f"Prove theorem {n} of algebra.", "model": "maxi"} for n in range(6)]
    admin_server.upload(*easy, *hard)
    before = told(admin_server.client.get("/admin/v1/dial"))
    path = admin_server.home / fleet.KEY
    path.write_text(FLEET.replace("{input: 9, output: 9}", "{input: 90, output: 90}"))
    after = told(admin_server.client.get("/admin/v1/dial"))
    assert after["index_version"] == before["index_version"]
    assert after["fleet_version"] != before["fleet_version"]
    assert [one["cost"] for one in before["models"]] == pytest.approx([0.0008, 0.0016, 0.0072])
    assert [one["cost"] for one in after["models"]] == pytest.approx([0.0008, 0.0016, 0.072])
    assert after["settings"][10]["spend"] == before["settings"][10]["spend"] == pytest.approx(0.0008)
    assert after["settings"][0]["spend"] > before["settings"][0]["spend"]


@pytest.mark.parametrize("text", [None, "models: ["])
def test_an_operator_is_told_of_a_fleet_that_cannot_be_used(admin_server: AdminServer, text: str | None) -> None:
    path = admin_server.home / fleet.KEY
    path.unlink() if text is None else path.write_text(text)
    status, error = refused(admin_server.client.get("/admin/v1/dial"))
    assert (status, error["code"]) == (409, "bad_fleet")
