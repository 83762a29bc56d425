"""What a request may say about its routing: headers of ours, and OpenRouter's auto-router plugin."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from handler.errors import BadRequest
from handler.flow import AUTO, Preferences
from index.dial import COST_TIERS

PLUGIN: Final = "auto-router"
HEADERS = (
    "x-nearvote-dial",
    "x-nearvote-min-quality",
    "x-nearvote-max-cost",
    "x-nearvote-max-latency-ms",
    "x-nearvote-speed",
    "x-nearvote-routing",
    "x-nearvote-evidence",
)
_PREFIX = "x-nearvote-"
MOST_DOLLARS = 1_000_000
MOST_MS = 86_400_000
MOST_NAMES = 100
LONGEST_NAME = 200

Dial = Annotated[float, Field(ge=0, le=10)]
Quality = Annotated[float, Field(ge=0, le=1)]
Dollars = Annotated[float, Field(ge=0, le=MOST_DOLLARS)]
Milliseconds = Annotated[float, Field(ge=0, le=MOST_MS)]
Names = Annotated[list[Annotated[str, Field(max_length=LONGEST_NAME)]], Field(max_length=MOST_NAMES)]
"""Each is matched with each model, on every request's way: so they are few, and short."""
CostTier = Literal["low", "medium", "high", "xhigh", "max"]


class _Plugin(BaseModel):
    """`plugins: [{id: "auto-router", …}]`. A field that is not known is refused, never ignored."""

    model_config = ConfigDict(extra="forbid", strict=True)

    id: Literal["auto-router"]
    enabled: bool = True
    cost_quality_tradeoff: Dial | None = None
    cost_tier: CostTier | None = None
    min_quality: Quality | None = None
    max_cost: Dollars | None = None
    max_latency_ms: Milliseconds | None = None
    speed: Quality | None = None
    allowed_models: Names = []
    excluded_models: Names = []


_NO_PLUGIN = _Plugin(id=PLUGIN)


@dataclass(frozen=True, slots=True)
class _Wish:
    """One way to set the dial, where the request takes it: under which name, and to what."""

    name: str
    value: float


def read_preferences(body: Mapping[str, Any], headers: Mapping[str, str]) -> Preferences:
    """`headers`: lower-case names. What a header says goes before what the plugin says of the same. Raises
    BadRequest."""
    ours = [name for name in headers if name.startswith(_PREFIX)]
    if not ours and body.get("plugins") is None:
        return Preferences(models=_models(body))
    unknown = [name for name in ours if name not in HEADERS]
    if unknown:
        raise BadRequest(f"unknown header {unknown[0]}; there are {', '.join(HEADERS)}", param=unknown[0])
    plugin = _plugin(body.get("plugins"))
    tier = None if plugin.cost_tier is None else COST_TIERS[plugin.cost_tier]
    dial = _wish(_number(headers, "x-nearvote-dial", 10), "cost_quality_tradeoff", plugin.cost_quality_tradeoff)
    by_tier = _wish(None, "cost_tier", tier)
    min_quality = _wish(_number(headers, "x-nearvote-min-quality", 1), "min_quality", plugin.min_quality)
    max_cost = _wish(_number(headers, "x-nearvote-max-cost", MOST_DOLLARS), "max_cost", plugin.max_cost)
    max_latency = _wish(_number(headers, "x-nearvote-max-latency-ms", MOST_MS), "max_latency_ms", plugin.max_latency_ms)
    speed = _wish(_number(headers, "x-nearvote-speed", 1), "speed", plugin.speed)
    _refuse_two(dial, by_tier, min_quality, max_cost)
    return Preferences(
        dial=_value(dial or by_tier),
        min_quality=_value(min_quality),
        max_cost=_value(max_cost),
        allow=tuple(plugin.allowed_models),
        exclude=tuple(plugin.excluded_models),
        models=_models(body),
        routing_off=_word(headers, "x-nearvote-routing", ("off",)) == "off" or not plugin.enabled,
        max_latency_ms=_value(max_latency),
        speed=_value(speed),
        full_evidence=_word(headers, "x-nearvote-evidence", ("full",)) == "full",
    )


def _wish(by_header: _Wish | None, field: str, by_plugin: float | None) -> _Wish | None:
    return by_header or (None if by_plugin is None else _Wish(f"plugins.{field}", by_plugin))


def _value(wish: _Wish | None) -> float | None:
    return None if wish is None else wish.value


def _refuse_two(*wishes: _Wish | None) -> None:
    names = [wish.name for wish in wishes if wish is not None]
    if len(names) > 1:
        raise BadRequest(f"{' and '.join(names)} each set the dial; a request may give one of them", param=names[1])


def _number(headers: Mapping[str, str], name: str, most: int) -> _Wish | None:
    text = headers.get(name)
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= most:
        raise BadRequest(f"{name} must be a number from 0 to {most}, not {text!r}", param=name)
    return _Wish(name, value)


def _plugin(plugins: Any) -> _Plugin:
    if plugins is None:
        return _NO_PLUGIN
    if not isinstance(plugins, list) or not all(isinstance(plugin, dict) for plugin in plugins):
        raise BadRequest("`plugins` must be a list of objects", param="plugins")
    ours = [plugin for plugin in plugins if plugin.get("id") == PLUGIN]
    if len(ours) > 1:
        raise BadRequest(f"`plugins` names {PLUGIN} twice", param="plugins")
    try:
        return _Plugin.model_validate(ours[0]) if ours else _NO_PLUGIN
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise BadRequest(f"{PLUGIN} plugin: {field}: {first['msg']}", param=f"plugins.{field}") from error


def _models(body: Mapping[str, Any]) -> tuple[str, ...]:
    if body.get("model") not in AUTO or body.get("models") is None:
        return ()
    models = body["models"]
    if not isinstance(models, list) or not models or not all(isinstance(model, str) for model in models):
        raise BadRequest("`models` must be a list of model ids to choose among", param="models")
    if len(models) > MOST_NAMES:
        raise BadRequest(f"`models` may name at most {MOST_NAMES} models", param="models")
    return tuple(models)


def _word(headers: Mapping[str, str], name: str, words: tuple[str, ...]) -> str | None:
    value = headers.get(name)
    if value is not None and value.lower() not in words:
        raise BadRequest(f"{name} must be {' or '.join(words)}, not {value!r}", param=name)
    return value and value.lower()
