"""A LiteLLM proxy's config.yaml → a fleet's models. Pure."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml
from pydantic import ValidationError

from handler import catalogue
from handler.fleet import PER, Model
from handler.flow import Protocol
from handler.yaml_lines import line_of
from index.types import Fault
from scripts.litellm_providers import PROVIDERS, REFUSED, Provider
from scripts.local_state import TEMPLATES

Json = dict[str, Any]

SPEAKS_CHAT = ("chat", "completion", "responses")
"""The modes of what can be routed to."""
NOT_CHAT = re.compile(r"embed|whisper|\btts|dall-e|gpt-image|rerank|moderation|transcribe")
REFERENCE = re.compile(r"os\.environ/([A-Z_][A-Z0-9_]*)")

PRICES = {
    "input": "input_cost_per_token",
    "output": "output_cost_per_token",
    "cached_input": "cache_read_input_token_cost",
    "cache_write": "cache_creation_input_token_cost",
    "cache_write_1h": "cache_creation_input_token_cost_above_1hr",
}
FIELDS = {
    "context": ("max_input_tokens",),
    "max_output": ("max_output_tokens", "max_tokens"),
    "images": ("supports_vision",),
    "audio": ("supports_audio_input",),
    "files": ("supports_pdf_input",),
    "tools": ("supports_function_calling",),
    "schema": ("supports_response_schema",),
}
"""A model's field → LiteLLM's names for it in `model_info`, the best first."""
TAKEN = {"model", "custom_llm_provider", "api_base", "api_key", "weight", "reasoning_effort", *PRICES.values()}
"""Of `litellm_params`."""
IN_ORDER = ("name", "like", "catalogue", "effort", "price", *FIELDS, "deployments")


class _Untakable(Exception):
    """An entry that no model can be made of; the text says why."""


@dataclass(frozen=True, slots=True)
class Imported:
    models: Sequence[Json]
    """As a fleet file lists them."""
    faults: Sequence[Fault]
    """What cannot be taken."""
    notes: Sequence[Fault]
    """What was taken otherwise than it stands there."""

    def as_json(self, text: str) -> Json:
        faults, notes = ([each.as_json() for each in every] for every in (self.faults, self.notes))
        return {"models": len(self.models), "skipped": faults, "notes": notes, "text": text}


@dataclass(frozen=True, slots=True)
class _Entry:
    """What becomes of one of `model_list`."""

    model: Json
    notes: Sequence[str]


def read(data: bytes) -> Imported:
    try:
        root, written = yaml.compose(data, Loader=yaml.SafeLoader), yaml.safe_load(data)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        return Imported([], [Fault(1, f"not YAML: {error}")], [])
    entries = written.get("model_list") if isinstance(written, dict) else None
    if not isinstance(entries, list):
        return Imported([], [Fault(1, "there is no list `model_list`")], [])
    models: dict[str, Json] = {}
    faults: list[Fault] = []
    notes = [Fault(line_of(root, (part,)), reason) for part, reason in _not_taken(written)]
    for place, entry in enumerate(entries):
        line = line_of(root, ("model_list", place))
        try:
            made = _entry(entry)
        except _Untakable as reason:
            faults.append(Fault(line, str(reason)))
            continue
        notes += [Fault(line, note) for note in (*made.notes, *_add(models, made.model))]
    return Imported(list(models.values()), faults, notes)


def fleet_file(models: Sequence[Json], source: str) -> str:
    listed = [{name: model[name] for name in IN_ORDER if name in model} for model in models]
    head = (
        f"# Imported from {source}. Prices that are not here come from nearvote's catalogue: `nearvote fleet show`.\n"
    )
    body: str = yaml.dump({"models": listed}, Dumper=_Indented, sort_keys=False, default_flow_style=None, width=120)
    return head + body


class _Indented(yaml.SafeDumper):
    """Lists stand a step further in than what they belong to."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002 - PyYAML's
        super().increase_indent(flow, False)


def _not_taken(written: Json) -> Iterator[tuple[str, str]]:
    """The parts beside `model_list`, and what to say of each."""
    for part in written:
        if part == "router_settings":
            yield part, "router_settings are not taken: fallbacks are not needed, as the ranking falls back by itself"
        elif part != "model_list":
            yield part, f"{part} is not taken"


def _add(models: dict[str, Json], model: Json) -> Iterator[str]:
    """Entries of one name are one model with several deployments; the first says what it costs and can do."""
    first = models.setdefault(model["name"], model)
    if first is not model:
        first["deployments"] += model["deployments"]
        differing = [name for name in (*FIELDS, "price", "effort") if first.get(name) != model.get(name)]
        if differing:
            yield f"another {model['name']} before it counts for {', '.join(differing)}"


def _entry(entry: Any) -> _Entry:
    name, params, info = _parts(entry)
    provider_name, written = _provider_and_id(params)
    provider = _provider(provider_name)
    id = written.removeprefix(provider.prefix)
    _refuse_no_chat(name, id, info)
    key, notes = _api_key(params.get("api_key"), provider)
    url = _base_url(params.get("api_base"), provider)
    deployment = {
        "base_url": url,
        "api_key": key,
        "model": f"{provider.prefix}{id}",
        "weight": params.get("weight"),
        "protocols": [protocol.value for protocol in _protocols(provider, url)],
    }
    model = {
        "name": name,
        "like": _tiers().get(name) or _tiers().get(id),
        "effort": params.get("reasoning_effort"),
        **_limits(info),
        "price": _price({**info, **params}),
        "deployments": [_given(deployment | {"model": None if deployment["model"] == name else deployment["model"]})],
    }
    whole = _given({**model, "catalogue": _catalogue_name(name, provider, id)})
    _validate(whole)
    left = sorted(params.keys() - TAKEN)
    return _Entry(whole, [*notes, *([f"not taken: {', '.join(left)}"] if left else [])])


def _parts(entry: Any) -> tuple[str, Json, Json]:
    if not isinstance(entry, dict):
        raise _Untakable("not an entry with model_name and litellm_params")
    name, params, info = entry.get("model_name"), entry.get("litellm_params"), entry.get("model_info") or {}
    if not (isinstance(name, str) and isinstance(params, dict) and isinstance(info, dict)):
        raise _Untakable("model_name or litellm_params is missing, or not what LiteLLM has there")
    if not isinstance(params.get("model"), str):
        raise _Untakable("litellm_params.model is missing")
    if "*" in name or "*" in params["model"]:
        raise _Untakable(f"{name}: a wildcard stands for models that cannot be listed; name each")
    return name, params, info


def _provider_and_id(params: Json) -> tuple[str, str]:
    model: str = params["model"]
    given = params.get("custom_llm_provider")
    if given:
        return str(given), model.removeprefix(f"{given}/")
    provider, slash, id = model.partition("/")
    if slash and (provider in PROVIDERS or provider in REFUSED):
        return provider, id
    known = [name for name in PROVIDERS if catalogue.load().entries.get(f"{PROVIDERS[name].catalogue}/{model}")]
    if known:
        return known[0], model
    raise _Untakable(f"{model}: which provider's it is cannot be told; with an api_base, write openai/{model}")


def _provider(name: str) -> Provider:
    if name in REFUSED:
        raise _Untakable(f"{name} is not spoken to: {REFUSED[name]}")
    if name not in PROVIDERS:
        raise _Untakable(f"{name} is no provider that is known here; with an api_base, write openai/…")
    return PROVIDERS[name]


def _refuse_no_chat(name: str, id: str, info: Json) -> None:
    mode = info.get("mode", "chat")
    if mode not in SPEAKS_CHAT:
        raise _Untakable(f"{name}: no chat model, but {mode}")
    if NOT_CHAT.search(id):
        raise _Untakable(f"{name}: {id} is no chat model")


def _api_key(written: Any, provider: Provider) -> tuple[str | None, list[str]]:
    """A reference, never a key, and what to say of it."""
    reference = f"${{{provider.variable}}}" if provider.variable else None
    if not written:
        return reference, []
    found = REFERENCE.fullmatch(str(written))
    if found:
        return f"${{{found[1]}}}", []
    variable = provider.variable or "UPSTREAM_API_KEY"
    return f"${{{variable}}}", [f"keys do not belong in a fleet file: this one is left out, set {variable} to it"]


def _base_url(written: Any, provider: Provider) -> str:
    url = REFERENCE.sub(r"${\1}", str(written or provider.base_url)).rstrip("/")
    if not url:
        raise _Untakable("api_base is missing")
    return url if url.endswith(provider.path) else url + provider.path


def _protocols(provider: Provider, url: str) -> tuple[Protocol, ...]:
    """Elsewhere than at its provider, a server that OpenAI's clients can call is not known to have responses."""
    if url == provider.base_url:
        return provider.protocols
    return tuple(protocol for protocol in provider.protocols if protocol is not Protocol.RESPONSES)


def _limits(info: Json) -> Json:
    return {
        name: next((info[theirs] for theirs in names if info.get(theirs) is not None), None)
        for name, names in FIELDS.items()
    }


def _price(costs: Json) -> Json | None:
    """None where it is the catalogue's, which a half of a price is too."""
    price = {name: _per_million(costs[theirs]) for name, theirs in PRICES.items() if costs.get(theirs) is not None}
    return price if {"input", "output"} <= price.keys() else None


def _per_million(cost: Any) -> float:
    # PyYAML reads 3e-06, which has no point, as text.
    try:
        return round(float(cost) * PER, 6)
    except (TypeError, ValueError) as error:
        raise _Untakable(f"a cost is no number: {cost}") from error


def _catalogue_name(name: str, provider: Provider, id: str) -> str | None:
    """None where the name says it."""
    found, meant = catalogue.load().find, f"{provider.catalogue}/{id}"
    if found(name) == found(meant):
        return None
    return meant if found(meant) else ""


def _validate(model: Json) -> None:
    """As the fleet file will be, with what the catalogue adds."""
    try:
        Model.model_validate(
            {**catalogue.load().find(model["catalogue"] if "catalogue" in model else model["name"]), **model}
        )
    except ValidationError as error:
        first = error.errors()[0]
        if first["loc"] == ("price",):
            date = catalogue.load().date
            raise _Untakable(
                f"{model['name']}: no price, as the catalogue of {date} does not have it; add input_cost_per_token and "
                "output_cost_per_token"
            ) from error
        raise _Untakable(f"{model['name']}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _given(fields: Mapping[str, Any]) -> Json:
    return {name: value for name, value in fields.items() if value is not None}


@cache
def _tiers() -> dict[str, str]:
    """The tier of each model that a provider's template lists."""
    fleets = [yaml.safe_load(path.read_text()) for path in sorted(TEMPLATES.glob("*.yaml"))]
    return {model["name"]: model["like"] for fleet in fleets for model in fleet["models"]}
