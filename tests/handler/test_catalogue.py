"""The catalogue as it is shipped: `make catalogue` bakes it."""

import pytest

from handler import catalogue
from handler.catalogue import Catalogue
from handler.fleet import Model, parse
from scripts.local_state import PROVIDERS, fleet_for

DEPLOYMENT = {"base_url": "http://one/v1"}
MINI = {"price": {"input": 0.25, "output": 2.0}}
CHEAPER = {"price": {"input": 0.2, "output": 2.0}}
MOST_BYTES = 150_000
"""Every function's zip carries it."""


@pytest.fixture(scope="module")
def shipped() -> Catalogue:
    return catalogue.load()


def test_every_entry_is_valid_as_a_model_s_fields(shipped: Catalogue) -> None:
    for name, fields in shipped.entries.items():
        model = Model.model_validate({"name": name, "deployments": [DEPLOYMENT], **fields})
        assert model.model_dump(by_alias=True, exclude_unset=True) == {
            "name": name,
            "deployments": (DEPLOYMENT,),
            **fields,
        }


def test_it_knows_what_it_may_know_and_is_not_read_for_a_fleet_that_says_all_of_that(shipped: Catalogue) -> None:
    assert {name for fields in shipped.entries.values() for name in fields} == catalogue.FIELDS
    catalogue.load.cache_clear()
    assert parse(fleet_for({})).defaulted == {}
    assert catalogue.load.cache_info().misses == 0


def test_it_is_small_and_its_names_are_in_order(shipped: Catalogue) -> None:
    assert catalogue.FILE.stat().st_size < MOST_BYTES
    assert list(shipped.entries) == sorted(shipped.entries)


def test_one_line_is_one_model(shipped: Catalogue) -> None:
    lines = catalogue.FILE.read_text().splitlines()
    assert len([line for line in lines if line.startswith('"')]) == len(shipped.entries)


@pytest.mark.parametrize("variable", PROVIDERS)
def test_it_has_the_models_of_each_provider_s_template(variable: str) -> None:
    file = parse(fleet_for({variable: "sk"}))
    assert {name for name, fields in file.defaulted.items() if "price" in fields} == set(file.fleet.by_name)
    assert all(model.context and model.max_output and model.tools for model in file.fleet.models)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("gpt-5-mini", "openai/gpt-5-mini"),
        ("openai/gpt-5-mini", "openai/gpt-5-mini"),
        ("gpt-5-mini-2025-08-07", "openai/gpt-5-mini"),
        ("openai/gpt-5-mini-2025-08-07", "openai/gpt-5-mini"),
        ("openrouter/openai/gpt-5-mini", "openai/gpt-5-mini"),
        ("claude-sonnet-4-5-20250929", "anthropic/claude-sonnet-4-5"),
        ("anthropic/claude-sonnet-4.5", "openrouter/anthropic/claude-sonnet-4.5"),
        ("meta-llama/llama-3.3-70b-instruct", "openrouter/meta-llama/llama-3.3-70b-instruct"),
        ("groq/openai/gpt-oss-120b", "groq/openai/gpt-oss-120b"),
    ],
)
def test_a_model_is_found_by_the_names_that_people_call_it_by(shipped: Catalogue, name: str, key: str) -> None:
    assert shipped.find(name) == shipped.entries[key]


@pytest.mark.parametrize("name", ["", "gpt", "gpt-5-mini-2025", "GPT-5-mini", "nobody/gpt-5-mini", "openrouter/"])
def test_what_is_no_model_s_name_is_not_found(shipped: Catalogue, name: str) -> None:
    assert shipped.find(name) == {}


def test_a_snapshot_and_openrouter_may_have_a_price_of_their_own() -> None:
    entries = {"openai/m": MINI, "openai/m-2025-08-07": CHEAPER, "openrouter/openai/m": CHEAPER}
    made = Catalogue("2026-11-20", entries)
    assert made.find("m-2025-08-07") == CHEAPER
    assert made.find("m-2026-01-01") == MINI
    assert (made.find("openai/m"), made.find("openrouter/openai/m")) == (MINI, CHEAPER)
