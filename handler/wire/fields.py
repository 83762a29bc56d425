"""Fields that the protocols have in common, each validated in one place."""

from collections.abc import Mapping
from typing import Any

from handler.errors import BadRequest
from handler.fleet import TYPICAL_OUTPUT_TOKENS
from handler.flow import AUTO
from handler.wire.preferences import PLUGIN

LONGEST_MODEL = 256
MOST_TOKENS = 1_000_000_000
"""What an upstream says beyond is no count."""


def model_in(body: Mapping[str, Any]) -> str:
    model = body.get("model")
    if not isinstance(model, str) or not 0 < len(model) <= LONGEST_MODEL:
        raise BadRequest("`model` must be a model id, or `auto` to have one chosen", param="model")
    return model


def stream_in(body: Mapping[str, Any]) -> bool:
    stream = body.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise BadRequest("`stream` must be true or false", param="stream")
    return bool(stream)


def messages_in(body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequest("`messages` must be a list with at least one message", param="messages")
    if not all(isinstance(message, dict) for message in messages):
        raise BadRequest("each of `messages` must be an object", param="messages")
    return messages


def output_limit(body: Mapping[str, Any], *names: str) -> int | None:
    limits = [limit for limit in map(body.get, names) if type(limit) is int and limit > 0]
    return min(limits, default=None)


def expected_output(limit: int | None) -> int:
    """Tokens of a typical answer, or the limit where that is lower."""
    return TYPICAL_OUTPUT_TOKENS if limit is None else min(TYPICAL_OUTPUT_TOKENS, limit)


def for_upstream(body: Mapping[str, Any]) -> dict[str, Any]:
    """The body less what only nearvote understands. `models` with a named model is the provider's business."""
    own = {"session_id", "plugins"} | ({"models"} if body["model"] in AUTO else set())
    rest = {name: value for name, value in body.items() if name not in own}
    others = [plugin for plugin in body.get("plugins") or [] if plugin.get("id") != PLUGIN]
    return {**rest, "plugins": others} if others else rest


def as_it_came(raw: bytes, body: Mapping[str, Any], rest: Mapping[str, Any]) -> bytes | None:
    # A second "model" could be another one to the upstream than it is to us.
    return raw if rest == body and raw.count(b'"model"') == 1 else None


def has_counts(usage: Mapping[str, Any], *names: str) -> bool:
    return all(type(usage.get(name)) is int for name in names)


def count_in(usage: Mapping[str, Any], *path: str) -> int:
    """A number of tokens in an upstream's usage; 0 where it has none."""
    value: Any = usage
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return min(value, MOST_TOKENS) if type(value) is int and value > 0 else 0
