import hashlib
from typing import Any

import orjson
import pytest

from handler import catalogue
from handler.fleet import BadFleet, Deployment, Fleet, FleetFile, Model, Price, expand, parse
from handler.flow import Need, Protocol, Usage
from index.types import Candidate
from scripts.local_state import PROVIDERS, fleet_for

TEXT = b"""
models:
  - name: cheap
    like: small
    price: {input: 1, output: 2}
    deployments: [{base_url: "http://one/v1"}]
  - name: vendor/dear:2026-01@eu
    price: {input: 10, output: 20}
    deployments:
      - {base_url: "http://one/v1", api_key: "${KEY}", model: dear, weight: 3}
      - {base_url: "http://two/v1"}
default: cheap
"""
FLEET = Fleet(
    models=(
        Model(
            name="cheap",
            like="small",
            price=Price(input=1, output=2),
            deployments=(Deployment(base_url="http://one/v1"),),
        ),
        Model(
            name="vendor/dear:2026-01@eu",
            price=Price(input=10, output=20),
            deployments=(
                Deployment(base_url="http://one/v1", api_key="${KEY}", model="dear", weight=3.0),
                Deployment(base_url="http://two/v1", api_key="", model="", weight=1.0),
            ),
        ),
    ),
    default="cheap",
)


def test_a_fleet_file_is_read_whole_and_named_by_its_text() -> None:
    assert parse(TEXT) == FleetFile(FLEET, hashlib.sha256(TEXT).hexdigest()[:16])


def test_a_candidate_costs_what_a_typical_request_costs() -> None:
    typical = (300 * 1 + 500 * 2) / 1_000_000
    assert FLEET.candidates == (
        Candidate("cheap", typical, "small"),
        Candidate("vendor/dear:2026-01@eu", 10 * typical, None),
    )
    assert FLEET.dearest_first == ("vendor/dear:2026-01@eu", "cheap")


def fleet(model: dict[str, Any] | None = None, **more: Any) -> bytes:
    """A fleet of one model `m`, with these of its fields changed; None takes one away."""
    whole = {"name": "m", "price": {"input": 1, "output": 2}, "deployments": [{"base_url": "u"}], **(model or {})}
    return orjson.dumps({"models": [{name: value for name, value in whole.items() if value is not None}], **more})


M = orjson.loads(fleet())["models"][0]
PROTOCOLS = "fleet.yaml: line 1: models.0.deployments.0.protocols.0: Input should be 'chat', 'messages' or 'responses'"
OURS = "fleet.yaml: line 1: models.0.deployments.0.api_key: ${"
RULE = "fleet.yaml: line 1: rules.0"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"models: [", "fleet.yaml is not YAML: while parsing a flow"),
        (b"\xff\xfe\x00", "fleet.yaml is not YAML: "),
        (b"models: !!python/object:os.system {}", "fleet.yaml is not YAML: could not determine a constructor"),
        (b"", "fleet.yaml: line 1: the file: Input should be"),
        (b"- m", "fleet.yaml: line 1: the file: Input should be"),
        (b"{}", "fleet.yaml: line 1: models: Field required"),
        (b"models: []", "fleet.yaml: line 1: models: Tuple should have at least 1 item"),
        (b"models: [m]", "fleet.yaml: line 1: models.0: Input should be"),
        (fleet({"name": None}), "fleet.yaml: line 1: models.0.name: Field required"),
        (fleet({"name": "a b"}), "fleet.yaml: line 1: models.0.name: String should match"),
        (fleet({"name": "a\nb"}), "fleet.yaml: line 1: models.0.name: String should match"),
        (fleet({"name": "a\n"}), "fleet.yaml: line 1: models.0.name: String should match"),
        (fleet({"name": ""}), "fleet.yaml: line 1: models.0.name: String should match"),
        (fleet({"name": "auto"}), "fleet.yaml: line 1: models.0.name: 'auto' asks for routing"),
        (fleet({"name": "nearvote/auto"}), "fleet.yaml: line 1: models.0.name: 'nearvote/auto' asks for routing"),
        (fleet({"price": None}), "fleet.yaml: line 1: models.0.price: Field required"),
        (
            fleet({"price": {"input": -1, "output": 1}}),
            "fleet.yaml: line 1: models.0.price.input: Input should be greater",
        ),
        (fleet({"price": {"input": 1}}), "fleet.yaml: line 1: models.0.price.output: Field required"),
        (
            fleet({"price": {"input": 1, "output": "free"}}),
            "fleet.yaml: line 1: models.0.price.output: Input should be",
        ),
        (fleet({"deployments": []}), "fleet.yaml: line 1: models.0.deployments: Tuple should have at least 1 item"),
        (fleet({"deployments": [{}]}), "fleet.yaml: line 1: models.0.deployments.0.base_url: Field required"),
        (
            fleet({"deployments": [{"base_url": "u", "weight": 0}]}),
            "fleet.yaml: line 1: models.0.deployments.0.weight: Input should be greater than 0",
        ),
        (fleet({"prise": 1}), "fleet.yaml: line 1: models.0.prise: Extra inputs are not permitted"),
        (fleet(model=None, modles=[]), "fleet.yaml: line 1: modles: Extra inputs are not permitted"),
        (fleet(default="other"), "fleet.yaml: line 1: the file: default: 'other' is not among the models"),
        (orjson.dumps({"models": [M, M]}), "fleet.yaml: line 1: the file: listed twice: m"),
        (fleet({"deployments": [{"base_url": "u", "api_key": "${AWS_SECRET_ACCESS_KEY}"}]}), OURS),
        (fleet({"deployments": [{"base_url": "http://x/${NEARVOTE_PEPPER}"}]}), OURS.replace("api_key", "base_url")),
        (fleet({"context": 0}), "fleet.yaml: line 1: models.0.context: Input should be greater than 0"),
        (fleet({"deployments": [{"base_url": "u", "protocols": ["grpc"]}]}), PROTOCOLS),
        (fleet(rules=[{"name": "r"}]), f"{RULE}: give one of model, tier, dial and deny, not 0"),
        (
            fleet(rules=[{"name": "r", "model": "m", "dial": 1}]),
            f"{RULE}: give one of model, tier, dial and deny, not 2",
        ),
        (fleet(rules=[{"name": "r", "dial": 11}]), f"{RULE}.dial: Input should be less than or equal to 10"),
        (fleet(rules=[{"name": "r", "tier": "huge"}]), f"{RULE}.tier: Input should be 'small', 'medium' or 'large'"),
        (fleet(rules=[{"name": "r", "when": {"text": "("}, "dial": 1}]), f"{RULE}.when.text: not a regular expression"),
        (fleet(rules=[{"name": "r", "when": {"txet": "a"}, "dial": 1}]), f"{RULE}.when.txet: Extra inputs are"),
        (fleet(rules=[{"name": "r", "model": "n"}]), "fleet.yaml: line 1: the file: rule 'r': 'n' is not among"),
    ],
)
def test_what_is_wrong_with_a_fleet_file_is_said_with_its_place(text: bytes, complaint: str) -> None:
    with pytest.raises(BadFleet) as refused:
        parse(text)
    assert str(refused.value).startswith(complaint)


def test_a_complaint_names_the_line_of_what_is_wrong_or_of_what_something_is_missing_from() -> None:
    text = TEXT + b"rules:\n  - name: one\n    dial: 3\n  - {name: two,\n     dial: -1}\n"
    text = text.replace(b"    price: {input: 10, output: 20}\n", b"").replace(b"weight: 3", b"weight: 0")
    with pytest.raises(BadFleet) as refused:
        parse(text)
    assert str(refused.value) == (
        "fleet.yaml: line 7: models.1.price: Field required, as the catalogue of "
        f"{catalogue.load().date} does not have this model; "
        "line 9: models.1.deployments.0.weight: Input should be greater than 0; "
        "line 16: rules.1.dial: Input should be greater than or equal to 0"
    )


def test_every_complaint_is_listed() -> None:
    with pytest.raises(BadFleet) as refused:
        parse(fleet({"name": "a b", "price": None}))
    assert "models.0.name: String should match" in str(refused.value)
    assert "models.0.price: Field required" in str(refused.value)


def test_a_reference_is_read_from_the_environment_when_it_is_used() -> None:
    environ = {"HOST": "127.0.0.1", "PORT_2": "80", "EMPTY": ""}
    assert expand("http://${HOST}:${PORT_2}/v1", environ) == "http://127.0.0.1:80/v1"
    assert expand("plain $HOST $${host} {HOST}", environ) == "plain $HOST $${host} {HOST}"
    assert expand("", environ) == ""


@pytest.mark.parametrize("name", ["MISSING", "EMPTY"])
def test_a_reference_to_what_is_not_set_names_it(name: str) -> None:
    with pytest.raises(BadFleet, match=rf"fleet.yaml refers to \$\{{{name}\}}, which is not set in the environment"):
        expand(f"http://${{{name}}}/v1", {"EMPTY": ""})


def test_what_a_variable_holds_is_not_expanded_again() -> None:
    assert expand("${A}", {"A": "${B}", "B": "secret"}) == "${B}"


@pytest.mark.parametrize("variable", PROVIDERS)
def test_each_provider_s_template_is_a_fleet_of_the_three_tiers(variable: str) -> None:
    models = parse(fleet_for({variable: "sk"})).fleet.models
    assert {model.like for model in models} == {"small", "medium", "large"}
    assert {deployment.api_key for model in models for deployment in model.deployments} == {f"${{{variable}}}"}


def test_two_providers_make_one_fleet_and_none_the_simulated_one() -> None:
    both = parse(fleet_for({"OPENAI_API_KEY": "sk", "MISTRAL_API_KEY": "sk", "GEMINI_API_KEY": ""})).fleet
    assert len(both.models) == 6
    assert list(parse(fleet_for({})).fleet.by_name) == ["sim-small", "sim-medium", "sim-large"]


def test_each_kind_of_token_has_its_price_and_those_without_one_cost_what_fresh_input_does() -> None:
    usage = Usage(input_tokens=1000, output_tokens=100, cached_tokens=600, written_tokens=200, written_1h_tokens=50)
    whole = Price(input=10, output=50, cached_input=1, cache_write=12.5, cache_write_1h=20)
    assert whole.of(usage) == (150 * 10 + 600 * 1 + 200 * 12.5 + 50 * 20 + 100 * 50) / 1e6
    assert Price(input=10, output=50).of(usage) == (1000 * 10 + 100 * 50) / 1e6
    assert Price(input=10, output=50, cache_write=12.5).of(usage) == (750 * 10 + 250 * 12.5 + 100 * 50) / 1e6


def test_an_upstream_that_counts_more_cached_tokens_than_input_costs_no_less_than_nothing() -> None:
    assert Usage(10, 0, cached_tokens=30).fresh_tokens == 0


def test_what_a_model_is_not_known_to_lack_it_is_taken_to_do() -> None:
    assert parse(fleet({"tools": False, "schema": True})).fleet.models[0].lacks == {Need.TOOLS}


def test_a_model_speaks_what_any_of_its_deployments_speaks() -> None:
    deployments = [{"base_url": "one", "protocols": ["chat", "responses"]}, {"base_url": "two"}]
    (model,) = parse(fleet({"deployments": deployments})).fleet.models
    assert model.protocols == {Protocol.CHAT, Protocol.RESPONSES}
    assert [one.base_url for one in model.serving(Protocol.RESPONSES)] == ["one"]
    assert model.serving(Protocol.MESSAGES) == ()
