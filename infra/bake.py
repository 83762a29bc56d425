"""Bakes handler/catalogue.json from what two packages publish: genai-prices and LiteLLM.

`python -m infra.bake --date 2026-11-20`, with both on the path but not their dependencies: see infra/catalogue.mk.

A price is genai-prices' on that date, at noon UTC and its lowest tier; LiteLLM fills in what genai-prices does not
know of a model, and of a price only where both agree on input and output. Batch, flex and priority prices are left
out, and so is what LiteLLM says was switched off by that date.

`context` is genai-prices' context window, which is input and output together. LiteLLM's `max_input_tokens` stands in
where it has none: if that is the input alone, the window is larger, and a long request is kept from a model that
could take it, never sent to one that could not.

Capabilities are LiteLLM's. Where it describes a model and does not mention images, audio or files, the model does not
take them, as LiteLLM itself reads it; tools and schemas that it does not mention are unknown.
"""

import argparse
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any

import orjson

from handler.catalogue import DAY, FILE, OPENROUTER, Catalogue
from scripts.output import say

PROVIDERS = {
    "anthropic": "anthropic",
    "cerebras": "cerebras",
    "cohere": "cohere_chat",
    "deepseek": "deepseek",
    "fireworks": "fireworks_ai",
    "google": "gemini",
    "groq": "groq",
    "minimax": "minimax",
    "mistral": "mistral",
    "moonshotai": "moonshot",
    "openai": "openai",
    "openrouter": "openrouter",
    "perplexity": "perplexity",
    "together": "together_ai",
    "x-ai": "xai",
    "zai": "zai",
}
"""A provider's name here and in genai-prices → in LiteLLM."""
MAKERS = {
    "anthropic": "anthropic",
    "deepseek": "deepseek",
    "google": "gemini",
    "minimax": "minimax",
    "mistralai": "mistral",
    "moonshotai": "moonshot",
    "openai": "openai",
    "x-ai": "xai",
    "z-ai": "zai",
}
"""Whose model it is by OpenRouter's ids, which LiteLLM does not list → the provider whose LiteLLM lists."""

NOT_CHAT = re.compile(
    r"asr|decider|deep-research|embed|guard|image|live|lyria|moderation|nano-banana|ocr|orpheus|realtime|robotics"
    r"|safety|transcribe|tts|voice|computer-use|-maas$|turbo-instruct|^(ada|babbage|curie|davinci|text-)"
    r"|^ft:|[.:]ft-|:(batch|extended|flex|free|thinking)$|experimental|-spot$|^~|^together-ai-|^accounts/"
)
"""In the ids of what is no chat model, or is one at another price than its own."""
OWN_IDS = {"google": "gemini|gemma", "openrouter": ".+/"}
"""How ids begin where others are listed too: models that are Vertex's, names without their maker."""
NOTICES = (
    ("genai-prices", "prices, context windows", "MIT", "Copyright (c) Pydantic Services Inc. 2025 to present"),
    ("litellm", "capabilities, limits; prices that the other lacks", "MIT", "Copyright (c) 2023 Berri AI"),
)
LITELLM_FILE = "litellm/model_prices_and_context_window_backup.json"

PRICES = {
    "input": ("input_mtok", "input_cost_per_token"),
    "output": ("output_mtok", "output_cost_per_token"),
    "cached_input": ("cache_read_mtok", "cache_read_input_token_cost"),
    "cache_write": ("cache_write_mtok", "cache_creation_input_token_cost"),
    "cache_write_1h": ("cache_write_1h_mtok", "cache_creation_input_token_cost_above_1hr"),
}
"""A price's field → genai-prices' name for it, per million tokens → LiteLLM's, per token."""
ABLE = {
    "images": "supports_vision",
    "audio": "supports_audio_input",
    "files": "supports_pdf_input",
    "tools": "supports_function_calling",
    "schema": "supports_response_schema",
}
SILENCE_IS_NO = {"images", "audio", "files"}

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Source:
    """One package's view of one provider."""

    ids: frozenset[str]
    find: Callable[[str], Json]
    """A model's fields, as the fleet file has them; empty where it is not known."""
    gone: frozenset[str] = frozenset()
    """What was there and can no longer be called."""


def main() -> None:
    options = _options()
    day: date = options.date
    listed = json.loads(Path(str(distribution("litellm").locate_file(LITELLM_FILE))).read_bytes())
    described = {name: by_litellm(listed, theirs, day) for name, theirs in PROVIDERS.items()}
    described["openrouter"] = by_makers(described)
    priced = dict(_genai_prices(datetime.combine(day, time(12), UTC)))
    models = slim({key: fields for name in PROVIDERS for key, fields in merged(name, priced[name], described[name])})
    FILE.write_text(text(day, [_source(*notice) for notice in NOTICES], models))
    differing = [f"{name}/{id}" for name in PROVIDERS for id in differences(priced[name], described[name])]
    say(f"{FILE.name}: {len(models)} models, {FILE.stat().st_size:,} bytes")
    say(f"genai-prices was taken for {len(differing)} that LiteLLM prices otherwise: {', '.join(differing)}")


def merged(provider: str, priced: Source, described: Source) -> Iterator[tuple[str, Json]]:
    """`provider/model` and its fields, for every chat model whose price a source knows. Where LiteLLM lists a provider,
    something else must be known too: a bare price there is of a model that is long gone."""
    for id in sorted((priced.ids | described.ids) - described.gone):
        ours, theirs = priced.find(id), described.find(id)
        price = _price(ours.get("price", {}), theirs.get("price", {}))
        fields = {**theirs, **ours, "price": price}
        if is_chat(provider, id) and price and (len(fields) > 1 or not described.ids):
            yield f"{provider}/{id}", fields


def is_chat(provider: str, id: str) -> bool:
    return not NOT_CHAT.search(id) and bool(re.match(OWN_IDS.get(provider, ""), id))


def slim(models: Mapping[str, Json]) -> dict[str, Json]:
    """Without the snapshots and OpenRouter's models that are found, and cost the same, under another name."""
    kept = dict(models)
    for key in sorted(models, key=lambda key: (not key.startswith(OPENROUTER), key)):
        others = Catalogue("", {other: fields for other, fields in kept.items() if other != key})
        spare = key.startswith(OPENROUTER) or DAY.search(key)
        if spare and others.find(key).get("price") == models[key]["price"]:
            del kept[key]
    return kept


def differences(priced: Source, described: Source) -> list[str]:
    """The ids that both price, but not alike."""
    called = sorted(described.ids - described.gone)
    both = [(id, priced.find(id).get("price"), described.find(id).get("price")) for id in called]
    return [id for id, ours, theirs in both if ours and theirs and not _agree(ours, theirs)]


def text(day: date, sources: Iterable[Json], models: Mapping[str, Json]) -> str:
    """One model a line."""
    lines = ",\n".join(f"{_json(key)}:{_json(fields)}" for key, fields in sorted(models.items()))
    notices = ",\n".join(map(_json, sources))
    return f'{{"date":"{day.isoformat()}","sources":[\n{notices}\n],"models":{{\n{lines}\n}}}}\n'


def by_litellm(listed: Mapping[str, Json], provider: str, day: date) -> Source:
    """The models of one provider of which it says more than a price."""
    own = {
        _id(key, provider): entry
        for key, entry in listed.items()
        if entry.get("litellm_provider") == provider and _chats(entry) and _described(entry)
    }
    gone = {id for id, entry in own.items() if entry.get("deprecation_date", "9999") <= day.isoformat()}
    return Source(frozenset(own), lambda id: _fields(own[id]) if id in own else {}, frozenset(gone))


def _chats(entry: Json) -> bool:
    """OpenAI's models for the Responses API alone are models as others are; elsewhere that is somebody's agent."""
    return entry.get("mode") == "chat" or (entry.get("mode"), entry["litellm_provider"]) == ("responses", "openai")


def _described(entry: Json) -> bool:
    return any(name.startswith("supports_") for name in entry)


def by_makers(described: Mapping[str, Source]) -> Source:
    """What OpenRouter's models can do: what they can where they come from. Its prices are its own."""
    ours = {theirs: name for name, theirs in PROVIDERS.items()}

    def find(id: str) -> Json:
        maker, _, model = id.partition("/")
        source = described.get(ours.get(MAKERS.get(maker, ""), ""))
        found = (source.find(model) or source.find(model.replace(".", "-"))) if source else {}
        return {name: value for name, value in found.items() if name != "price"}

    return Source(frozenset(), find)


def _genai_prices(moment: datetime) -> Iterator[tuple[str, Source]]:
    from genai_prices.data import providers

    for provider in providers:
        yield provider.id, by_genai_prices(provider, moment)


def by_genai_prices(provider: Any, moment: datetime) -> Source:
    """`provider`: one of its Providers. Dates and times of day that a price is bound to are those of the moment."""

    def find(id: str) -> Json:
        model = provider.find_model(id)
        if model is None:
            return {}
        prices = model.get_prices(moment)
        price = {name: _number(getattr(prices, theirs)) for name, (theirs, _) in PRICES.items()}
        found = {"price": _given(price), "context": model.context_window}
        return {name: value for name, value in found.items() if value}

    return Source(frozenset(model.id for model in provider.models if not model.deprecated), find)


def _number(price: Any) -> float | None:
    """Of the first tier, where there are tiers."""
    return None if price is None else float(getattr(price, "base", price))


def _id(key: str, provider: str) -> str:
    return key.removeprefix(f"{provider}/").removeprefix("accounts/fireworks/models/")


def _fields(entry: Json) -> Json:
    costs = {name: entry.get(theirs) for name, (_, theirs) in PRICES.items()}
    price = {name: round(cost * 1_000_000, 6) for name, cost in costs.items() if cost}
    able = {name: entry.get(theirs) for name, theirs in ABLE.items()}
    able |= {name: bool(able[name]) for name in SILENCE_IS_NO}
    limits = {"context": entry.get("max_input_tokens"), "max_output": entry.get("max_output_tokens")}
    whole = {name: int(limit) for name, limit in limits.items() if limit}
    return {"price": price, **whole, **_given(able)}


def _price(ours: Json, theirs: Json) -> Json:
    """Empty where neither has both input and output, or where it is no price: what is free now is not so for long."""
    if _agree(ours, theirs):
        return {**theirs, **ours}
    return next((price for price in (ours, theirs) if price.get("input") and price.get("output")), {})


def _agree(one: Json, other: Json) -> bool:
    return all(one.get(name) is not None and one.get(name) == other.get(name) for name in ("input", "output"))


def _given(fields: Json) -> Json:
    return {name: value for name, value in fields.items() if value is not None}


def _source(name: str, of: str, licence: str, notice: str) -> Json:
    return {"name": name, "version": version(name), "of": of, "licence": licence, "notice": notice}


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m infra.bake", description="Bake handler/catalogue.json.")
    parser.add_argument("--date", type=date.fromisoformat, required=True, help="when both packages were as they are")
    return parser.parse_args()


if __name__ == "__main__":
    main()
