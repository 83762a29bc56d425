"""POST /v1/chat/completions: what is used is validated, the rest is carried untouched."""

from collections.abc import Mapping
from typing import Any

from handler.asgi import parse_object
from handler.errors import BadRequest
from handler.fleet import TYPICAL_OUTPUT_TOKENS
from handler.flow import AUTO, Ask, Prompt
from handler.wire.conversation import text_of, text_to_embed
from handler.wire.preferences import PLUGIN, read_preferences

CHARACTERS_PER_TOKEN = 4
"""Good enough for a price estimate, and free."""


def read(raw: bytes, headers: Mapping[str, str]) -> Ask:
    """Raises BadRequest, naming the field, for what nearvote uses and cannot read."""
    body = parse_object(raw)
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequest("`model` must be a model id, or `auto` to have one chosen", param="model")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequest("`messages` must be a list with at least one message", param="messages")
    if not all(isinstance(message, dict) for message in messages):
        raise BadRequest("each of `messages` must be an object", param="messages")
    stream = body.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise BadRequest("`stream` must be true or false", param="stream")
    preferences, rest = read_preferences(body, headers), _for_upstream(body)
    return Ask(model, bool(stream), _prompt(body, messages), preferences, rest, _as_it_came(raw, body, rest))


def _as_it_came(raw: bytes, body: Mapping[str, Any], rest: Mapping[str, Any]) -> bytes | None:
    # A second "model" could be another one to the upstream than it is to us.
    return raw if rest == body and raw.count(b'"model"') == 1 else None


def _prompt(body: Mapping[str, Any], messages: list[Any]) -> Prompt:
    characters = sum(len(text_of(message.get("content"))) for message in messages)
    return Prompt(text_to_embed(messages), characters // CHARACTERS_PER_TOKEN, _expected_output(body))


def _expected_output(body: Mapping[str, Any]) -> int:
    limits = [body.get("max_completion_tokens"), body.get("max_tokens")]
    return min([TYPICAL_OUTPUT_TOKENS, *(limit for limit in limits if isinstance(limit, int) and limit > 0)])


def _for_upstream(body: dict[str, Any]) -> dict[str, Any]:
    """The body less what only nearvote understands. `models` with a named model is the provider's business."""
    own = {"session_id", "plugins"} | ({"models"} if body["model"] in AUTO else set())
    rest = {name: value for name, value in body.items() if name not in own}
    others = [plugin for plugin in body.get("plugins") or [] if plugin.get("id") != PLUGIN]
    return {**rest, "plugins": others} if others else rest
