"""What a request may say about its routing: headers of ours, and OpenRouter's auto-router plugin."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from handler.errors import BadRequest
from handler.flow import AUTO, Preferences

PLUGIN: Final = "auto-router"
HEADERS = ("x-nearvote-dial", "x-nearvote-routing", "x-nearvote-evidence")
_PREFIX = "x-nearvote-"

Dial = Annotated[float, Field(ge=0, le=10)]


class _Plugin(BaseModel):
    """`plugins: [{id: "auto-router", …}]`. A field that is not known is refused, never ignored."""

    model_config = ConfigDict(extra="forbid", strict=True)

    id: Literal["auto-router"]
    enabled: bool = True
    cost_quality_tradeoff: Dial | None = None
    allowed_models: list[str] = []
    excluded_models: list[str] = []


_NO_PLUGIN = _Plugin(id=PLUGIN)


def read_preferences(body: Mapping[str, Any], headers: Mapping[str, str]) -> Preferences:
    """`headers`: lower-case names. The header's dial goes before the plugin's. Raises BadRequest."""
    unknown = [name for name in headers if name.startswith(_PREFIX) and name not in HEADERS]
    if unknown:
        raise BadRequest(f"unknown header {unknown[0]}; there are {', '.join(HEADERS)}", param=unknown[0])
    plugin = _plugin(body.get("plugins"))
    dial = _dial(headers.get("x-nearvote-dial"))
    return Preferences(
        dial=plugin.cost_quality_tradeoff if dial is None else dial,
        allow=tuple(plugin.allowed_models),
        exclude=tuple(plugin.excluded_models),
        models=_models(body),
        routing_off=_word(headers, "x-nearvote-routing", ("off",)) == "off" or not plugin.enabled,
        full_evidence=_word(headers, "x-nearvote-evidence", ("full",)) == "full",
    )


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


def _dial(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        dial = float(text)
    except ValueError:
        dial = -1.0
    if not 0 <= dial <= 10:
        raise BadRequest(f"x-nearvote-dial must be a number from 0 to 10, not {text!r}", param="x-nearvote-dial")
    return dial


def _models(body: Mapping[str, Any]) -> tuple[str, ...]:
    if body.get("model") not in AUTO or body.get("models") is None:
        return ()
    models = body["models"]
    if not isinstance(models, list) or not models or not all(isinstance(model, str) for model in models):
        raise BadRequest("`models` must be a list of model ids to choose among", param="models")
    return tuple(models)


def _word(headers: Mapping[str, str], name: str, words: tuple[str, ...]) -> str | None:
    value = headers.get(name)
    if value is not None and value.lower() not in words:
        raise BadRequest(f"{name} must be {' or '.join(words)}, not {value!r}", param=name)
    return value and value.lower()
