"""What the catalogue takes from its two sources, by sources that are small."""

from datetime import UTC, date, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from infra.bake import Source, by_genai_prices, by_litellm, by_makers, differences, is_chat, merged, slim, text

DAY = date(2026, 11, 20)
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
MINI = {
    "litellm_provider": "openai",
    "mode": "chat",
    "input_cost_per_token": 2.5e-07,
    "output_cost_per_token": 2e-06,
    "cache_read_input_token_cost": 2.5e-08,
    "cache_creation_input_token_cost": 0.0,
    "input_cost_per_token_batches": 1.25e-07,
    "max_input_tokens": 272000,
    "max_output_tokens": 128000.0,
    "supports_vision": True,
    "supports_response_schema": False,
}
FIELDS = {
    "price": {"input": 0.25, "output": 2.0, "cached_input": 0.025},
    "context": 272000,
    "max_output": 128000,
    "images": True,
    "audio": False,
    "files": False,
    "schema": False,
}


def source(**models: dict[str, Any]) -> Source:
    return Source(frozenset(models), lambda id: models.get(id, {}))


def price(fresh: float, output: float, **more: float) -> dict[str, Any]:
    return {"price": {"input": fresh, "output": output, **more}}


def test_litellm_s_costs_become_prices_and_its_silence_about_pictures_sound_and_files_a_no() -> None:
    assert by_litellm({"mini": MINI}, "openai", DAY).find("mini") == FIELDS
    assert by_litellm({"mini": MINI}, "openai", DAY).find("maxi") == {}


@pytest.mark.parametrize(
    ("key", "change", "ids"),
    [
        ("gemini/m", {"litellm_provider": "gemini"}, {"m"}),
        ("fireworks_ai/accounts/fireworks/models/m", {"litellm_provider": "fireworks_ai"}, {"m"}),
        ("m", {"mode": "responses"}, {"m"}),
        ("perplexity/m", {"mode": "responses", "litellm_provider": "perplexity"}, set()),
        ("m", {"mode": "embedding"}, set()),
        ("m", {"supports_vision": None}, {"m"}),
    ],
)
def test_litellm_lists_chat_models_by_their_ids(key: str, change: dict[str, Any], ids: set[str]) -> None:
    entry: dict[str, Any] = MINI | change
    listed = {key: entry, "azure/n": MINI | {"litellm_provider": "azure"}}
    assert by_litellm(listed, entry["litellm_provider"], DAY).ids == ids


def test_what_litellm_gives_nothing_but_a_price_is_not_taken_for_described() -> None:
    bare = {name: value for name, value in MINI.items() if not name.startswith("supports_")}
    assert by_litellm({"mini": bare}, "openai", DAY).ids == frozenset()


@pytest.mark.parametrize(("ends", "names"), [("2026-11-20", []), ("2026-11-21", ["openai/mini"])])
def test_a_model_that_was_switched_off_is_left_out(ends: str, names: list[str]) -> None:
    described = by_litellm({"mini": MINI | {"deprecation_date": ends}}, "openai", DAY)
    assert [name for name, _ in merged("openai", source(mini=price(0.25, 2)), described)] == names


def test_genai_prices_are_those_of_the_moment_and_of_the_lowest_tier() -> None:
    asked: list[datetime] = []
    tiered = SimpleNamespace(base=Decimal("0.1"))
    prices = SimpleNamespace(
        input_mtok=tiered,
        output_mtok=Decimal("0.5"),
        cache_read_mtok=None,
        cache_write_mtok=Decimal("0.125"),
        cache_write_1h_mtok=None,
    )

    def get_prices(moment: datetime) -> SimpleNamespace:
        asked.append(moment)
        return prices

    model = SimpleNamespace(id="m", deprecated=None, context_window=1_050_000, get_prices=get_prices)
    old = SimpleNamespace(id="old", deprecated=True)
    found = by_genai_prices(
        SimpleNamespace(models=[model, old], find_model=lambda id: model if id == "m" else None), NOON
    )
    assert found.ids == {"m"}
    assert found.find("m") == {"price": {"input": 0.1, "output": 0.5, "cache_write": 0.125}, "context": 1_050_000}
    assert found.find("n") == {}
    assert asked == [NOON]


def test_genai_prices_counts_and_litellm_fills_in_where_they_agree() -> None:
    described = source(
        alike=price(1, 2, cached_input=0.1) | {"context": 5, "images": True},
        other=price(1, 3, cached_input=0.1) | {"context": 5},
        alone=price(7, 8) | {"context": 5},
    )
    priced = source(alike=price(1, 2, cache_write=1.5) | {"context": 9}, other=price(1, 2))
    assert dict(merged("x", priced, described)) == {
        "x/alike": price(1, 2, cached_input=0.1, cache_write=1.5) | {"context": 9, "images": True},
        "x/alone": price(7, 8) | {"context": 5},
        "x/other": price(1, 2) | {"context": 5},
    }
    assert differences(priced, described) == ["other"]


@pytest.mark.parametrize("half", [{}, {"price": {"input": 1.0}}, price(0, 0)])
def test_a_model_without_a_whole_price_is_left_out(half: dict[str, Any]) -> None:
    assert dict(merged("x", source(m=half), source(m={"context": 5}))) == {}


def test_a_bare_price_counts_only_where_litellm_lists_nothing() -> None:
    assert dict(merged("x", source(m=price(1, 2)), source(n=price(1, 2) | {"context": 5}))).keys() == {"x/n"}
    assert dict(merged("x", source(m=price(1, 2)), source())) == {"x/m": price(1, 2)}


def test_openrouter_s_models_can_do_what_their_makers_say() -> None:
    able = {"tools": True, "context": 5}
    found = by_makers({"anthropic": source(**{"claude-5-5": price(1, 2) | able})})
    assert found.find("anthropic/claude-5.5") == able
    assert found.find("meta-llama/llama") == found.find("openai/gpt") == {}


@pytest.mark.parametrize(
    ("provider", "id", "chats"),
    [
        ("openai", "gpt-5-mini", True),
        ("openai", "gpt-image-2", False),
        ("openai", "text-embedding-3-small", False),
        ("openai", "gpt-realtime", False),
        ("openai", "ft:gpt-4o", False),
        ("google", "gemini-4-argon", True),
        ("google", "claude-opus-5", False),
        ("mistral", "mistral-large-4", True),
        ("openrouter", "openai/gpt-5-mini", True),
        ("openrouter", "openai/gpt-5-mini:batch", False),
        ("openrouter", "gpt-5-mini", False),
    ],
)
def test_only_chat_models_at_their_own_price_are_taken(provider: str, id: str, chats: bool) -> None:
    assert is_chat(provider, id) is chats


def test_what_another_name_finds_at_the_same_price_is_left_out() -> None:
    models = {
        "openai/m": price(1, 2),
        "openai/m-2025-08-07": price(1, 2),
        "openai/m-2024-05-13": price(5, 9),
        "openrouter/openai/m": price(1, 2),
        "openrouter/openai/n": price(3, 4),
        "mistral/n": price(3, 4),
    }
    assert slim(models).keys() == {"openai/m", "openai/m-2024-05-13", "openrouter/openai/n", "mistral/n"}


def test_the_file_has_one_line_a_model_in_the_order_of_their_names() -> None:
    assert text(DAY, [{"name": "s"}], {"b/m": price(1, 2), "a/m": {"context": 5}}) == (
        '{"date":"2026-11-20","sources":[\n{"name":"s"}\n],"models":{\n'
        '"a/m":{"context":5},\n"b/m":{"price":{"input":1,"output":2}}\n}}\n'
    )
