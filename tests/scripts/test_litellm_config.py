"""What becomes of a LiteLLM proxy's config.yaml."""

from typing import Any

import orjson
import pytest

from handler import catalogue, fleet
from handler.fleet import Price
from index.types import Fault
from scripts.litellm_config import Imported, fleet_file, read
from scripts.litellm_providers import PROVIDERS

CONFIG = b"""
model_list:
  - model_name: gpt-6.1-terra
    litellm_params: {model: openai/gpt-6.1-terra, api_key: os.environ/OPENAI_API_KEY, weight: 3}
  - model_name: gpt-6.1-terra
    litellm_params: {model: openrouter/openai/gpt-6.1-terra, api_key: os.environ/OTHER_KEY}
  - model_name: smart
    litellm_params: {model: anthropic/claude-sonnet-5-5, reasoning_effort: high}
    model_info: {max_output_tokens: 64000, supports_vision: false}
  - model_name: local
    litellm_params:
      model: hosted_vllm/meta/llama
      api_base: os.environ/VLLM_URL
      input_cost_per_token: 1e-7
      output_cost_per_token: 0.0000002
"""
FLEET_FILE = """\
# Imported from config.yaml. Prices that are not here come from nearvote's catalogue: `nearvote fleet show`.
models:
  - name: gpt-6.1-terra
    like: medium
    deployments:
      - base_url: https://api.openai.com/v1
        api_key: ${OPENAI_API_KEY}
        weight: 3
        protocols: [chat, responses]
      - base_url: https://openrouter.ai/api/v1
        api_key: ${OTHER_KEY}
        model: openai/gpt-6.1-terra
        protocols: [chat, messages, responses]
  - name: smart
    like: medium
    catalogue: anthropic/claude-sonnet-5-5
    effort: high
    max_output: 64000
    images: false
    deployments:
      - base_url: https://api.anthropic.com/v1
        api_key: ${ANTHROPIC_API_KEY}
        model: claude-sonnet-5-5
        protocols: [chat, messages]
  - name: local
    price: {input: 0.1, output: 0.2}
    deployments:
      - base_url: ${VLLM_URL}
        model: meta/llama
        protocols: [chat]
"""
COST: dict[str, Any] = {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6}


def config(*entries: Any, **more: Any) -> bytes:
    return orjson.dumps({"model_list": entries, **more})


def entry(model: str, name: str = "m", info: dict[str, Any] | None = None, **params: Any) -> dict[str, Any]:
    return {"model_name": name, "litellm_params": {"model": model, **params}, "model_info": info or {}}


def only(data: bytes) -> dict[str, Any]:
    """The model of a configuration that is taken whole."""
    found = read(data)
    assert (found.faults, found.notes) == ([], [])
    (model,) = found.models
    return model


def reasons(data: bytes) -> list[str]:
    found = read(data)
    assert found.models == []
    return [fault.reason for fault in found.faults]


def test_a_configuration_becomes_a_fleet_file_that_nearvote_reads() -> None:
    found = read(CONFIG)
    text = fleet_file(found.models, "config.yaml")
    assert (text, found.faults, found.notes) == (FLEET_FILE, [], [])
    assert list(fleet.parse(text.encode()).fleet.by_name) == ["gpt-6.1-terra", "smart", "local"]


def test_costs_per_token_are_prices_per_million_wherever_they_stand_and_however_yaml_reads_them() -> None:
    costs = {
        "input_cost_per_token": "3e-06",
        "cache_read_input_token_cost": 3e-7,
        "cache_creation_input_token_cost": 3.75e-6,
        "cache_creation_input_token_cost_above_1hr": 6e-6,
    }
    model = only(config(entry("openai/mine", info=costs, output_cost_per_token=1.5e-5)))
    assert Price.model_validate(model["price"]) == Price(
        input=3, output=15, cached_input=0.3, cache_write=3.75, cache_write_1h=6
    )


def test_half_a_price_is_left_to_the_catalogue() -> None:
    assert "price" not in only(config(entry("openai/gpt-6.1-terra", "gpt-6.1-terra", input_cost_per_token=1e-6)))


def test_limits_and_capabilities_are_taken_from_model_info() -> None:
    info = {
        "max_tokens": 9,
        "max_output_tokens": 10,
        "max_input_tokens": 100,
        "supports_vision": True,
        "supports_audio_input": False,
        "supports_pdf_input": None,
        "supports_function_calling": True,
        "supports_response_schema": False,
    }
    model = only(config(entry("openai/mine", info=info, **COST)))
    assert {name: model[name] for name in model if name not in ("name", "price", "deployments", "catalogue")} == {
        "context": 100,
        "max_output": 10,
        "images": True,
        "audio": False,
        "tools": True,
        "schema": False,
    }


def test_the_catalogue_is_named_where_a_name_does_not_lead_there_or_leads_elsewhere() -> None:
    assert only(config(entry("openai/gpt-6.1-terra", "fast")))["catalogue"] == "openai/gpt-6.1-terra"
    assert only(config(entry("hosted_vllm/own", "gpt-6.1-terra", api_base="http://x/v1", **COST)))["catalogue"] == ""
    assert "catalogue" not in only(config(entry("openai/gpt-5-mini-2025-08-07", "gpt-5-mini")))


@pytest.mark.parametrize(
    ("model", "api_base", "url", "protocols"),
    [
        ("openai/m", None, "https://api.openai.com/v1", ["chat", "responses"]),
        ("openai/m", "http://vllm:8000/v1/", "http://vllm:8000/v1", ["chat"]),
        ("openai/m", "os.environ/HOST", "${HOST}", ["chat"]),
        ("anthropic/m", "https://gate.way", "https://gate.way/v1", ["chat", "messages"]),
        ("anthropic/m", "https://gate.way/v1", "https://gate.way/v1", ["chat", "messages"]),
        ("ollama/m", "http://localhost:11434", "http://localhost:11434/v1", ["chat"]),
        ("ollama_chat/m", None, "http://127.0.0.1:11434/v1", ["chat"]),
    ],
)
def test_where_a_model_is_served_and_what_is_spoken_there(
    model: str, api_base: str | None, url: str, protocols: list[str]
) -> None:
    (deployment,) = only(config(entry(model, **COST, api_base=api_base)))["deployments"]
    assert (deployment["base_url"], deployment["protocols"]) == (url, protocols)


def test_a_model_of_fireworks_has_the_id_that_is_called() -> None:
    path = "accounts/fireworks/models/glm-5p3"
    for model in ("fireworks_ai/glm-5p3", f"fireworks_ai/{path}"):
        made = only(config(entry(model)))
        assert (made["deployments"][0]["model"], made["catalogue"]) == (path, "fireworks/glm-5p3")


@pytest.mark.parametrize(
    ("model", "more", "url"),
    [
        ("gpt-6.1-terra", {}, "https://api.openai.com/v1"),
        ("claude-opus-5-5", {}, "https://api.anthropic.com/v1"),
        ("org/m", {"custom_llm_provider": "together_ai", **COST}, "https://api.together.xyz/v1"),
    ],
)
def test_the_provider_may_stand_elsewhere(model: str, more: dict[str, Any], url: str) -> None:
    (deployment,) = only(config(entry(model, **more)))["deployments"]
    assert (deployment["base_url"], deployment["model"]) == (url, model)


def test_a_key_that_stands_there_is_left_out_and_said_so_without_it() -> None:
    found = read(config(entry("openai/gpt-6.1-terra", api_key="sk-secret"), entry("hosted_vllm/m", "n")))
    assert [one["api_key"] for one in found.models[0]["deployments"]] == ["${OPENAI_API_KEY}"]
    assert found.notes == [
        Fault(1, "keys do not belong in a fleet file: this one is left out, set OPENAI_API_KEY to it")
    ]
    assert "secret" not in repr(found)


def test_entries_of_one_name_share_the_first_one_s_fields_and_differences_are_said() -> None:
    found = read(config(entry("openai/gpt-6.1-terra", reasoning_effort="low"), entry("openai/gpt-6.1-terra")))
    (model,) = found.models
    assert (model["effort"], len(model["deployments"])) == ("low", 2)
    assert [note.reason for note in found.notes] == ["another m before it counts for effort"]


def test_what_is_not_taken_is_said_with_its_line() -> None:
    text = b"router_settings: {fallbacks: []}\nlitellm_settings: {}\nmodel_list:\n" + (
        b"  - {model_name: m, litellm_params: {model: openai/gpt-6.1-terra, rpm: 6, temperature: 0}}\n"
    )
    assert read(text).notes == [
        Fault(1, "router_settings are not taken: fallbacks are not needed, as the ranking falls back by itself"),
        Fault(2, "litellm_settings is not taken"),
        Fault(4, "not taken: rpm, temperature"),
    ]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (entry("azure/gpt-5"), "azure is not spoken to: its deployments and API versions are part of each URL"),
        (entry("bedrock/m"), "bedrock is not spoken to: its requests are signed with a cloud's credentials, not with"),
        (entry("vertex_ai/m"), "vertex_ai is not spoken to: its requests are signed with a cloud's credentials"),
        (entry("openai/*", "*"), "*: a wildcard stands for models that cannot be listed; name each"),
        (entry("openai/text-embedding-3-small"), "m: text-embedding-3-small is no chat model"),
        (entry("openai/m", info={"mode": "embedding"}), "m: no chat model, but embedding"),
        (entry("nobody/m"), "nobody/m: which provider's it is cannot be told; with an api_base, write openai/nobody/m"),
        (entry("m", custom_llm_provider="nobody"), "nobody is no provider that is known here; with an api_base, write"),
        (entry("hosted_vllm/m", **COST), "api_base is missing"),
        (entry("openai/mine"), f"m: no price, as the catalogue of {catalogue.load().date} does not have it; add"),
        (entry("openai/m", "a b", **COST), "a b: name: String should match pattern"),
        (entry("openai/m", "auto", **COST), "auto: name: Value error, 'auto' asks for routing"),
        (entry("openai/m", **{**COST, "weight": 0}), "m: deployments.0.weight: Input should be greater than 0"),
        (entry("openai/m", **{**COST, "input_cost_per_token": "much"}), "a cost is no number: much"),
        ("m", "not an entry with model_name and litellm_params"),
        ({"model_name": "m"}, "model_name or litellm_params is missing"),
        ({"model_name": "m", "litellm_params": {}}, "litellm_params.model is missing"),
    ],
)
def test_what_cannot_be_taken_is_said(wrong: Any, reason: str) -> None:
    (said,) = reasons(config(wrong))
    assert said.startswith(reason)


@pytest.mark.parametrize("data", [b"", b"[]", b"model_list: 3", b"\x00", b"a: b: c"])
def test_what_is_no_configuration_is_said(data: bytes) -> None:
    (fault,) = read(data).faults
    assert fault.line == 1
    assert fault.reason.startswith(("there is no list `model_list`", "not YAML: "))


def test_a_fault_has_the_line_of_its_entry_and_the_others_are_taken() -> None:
    text = CONFIG + b"  - model_name: x\n    litellm_params: {model: azure/x}\n"
    found = read(text)
    assert [fault.line for fault in found.faults] == [16]
    assert len(found.models) == 3


def test_the_report_as_json() -> None:
    found = Imported([{"name": "m"}], [Fault(1, "a")], [Fault(2, "b")])
    assert found.as_json("text") == {
        "models": 1,
        "skipped": [{"line": 1, "reason": "a"}],
        "notes": [{"line": 2, "reason": "b"}],
        "text": "text",
    }


@pytest.mark.parametrize("provider", [provider for provider in PROVIDERS.values() if provider.catalogue])
def test_every_provider_that_the_catalogue_has_is_called_by_its_name_there(provider: Any) -> None:
    assert any(name.startswith(f"{provider.catalogue}/") for name in catalogue.load().entries)
