"""JSON that fits a schema: what the simulated provider puts into structured answers and tool calls. Pure."""

from collections.abc import Mapping
from typing import Any

import orjson

from scripts.simulated_protocol import ApiError, Json

MAX_SCHEMA_DEPTH = 5


def structured(kind: object, schema: object, field: str) -> str | None:
    """The JSON text that a wanted format of this kind asks for, or None when it asks for none. Raises ApiError."""
    if kind == "json_object":
        return '{"simulated": true}'
    if kind != "json_schema":
        return None
    if not isinstance(schema, dict):
        raise ApiError(f"{field} has no schema.", field)
    filled = _filled(schema, required_only=False)
    if isinstance(filled, dict) and schema.get("additionalProperties") is not False:
        filled = {"simulated": True, **filled}
    return orjson.dumps(filled).decode()


def arguments(schema: Json) -> str:
    """A tool call's arguments as JSON text: the required ones. Raises ApiError."""
    return orjson.dumps(_filled(schema, required_only=True)).decode()


def _filled(schema: Mapping[str, Any], *, required_only: bool) -> Any:
    """The plainest value that fits a JSON schema: "simulated", 0, false, [] or an object of such values."""
    try:
        return _value(schema, schema, required_only, MAX_SCHEMA_DEPTH)
    except (AttributeError, LookupError, TypeError) as error:
        raise ApiError("The simulated provider cannot read this JSON schema.") from error


def _value(schema: Mapping[str, Any], root: Mapping[str, Any], required_only: bool, depth: int) -> Any:
    schema = _resolved(schema, root)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    if "properties" in schema and depth:
        properties = schema["properties"]
        names = schema.get("required", []) if required_only else properties
        return {name: _value(properties.get(name, {}), root, required_only, depth - 1) for name in names}
    kind = schema.get("type", "object" if schema is root else "string")
    plain: Json = {"integer": 0, "number": 0, "boolean": False, "null": None, "array": [], "object": {}}
    return plain.get(kind[0] if isinstance(kind, list) else kind, "simulated")


def _resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow local references (`#/$defs/Name`) and take the first of several alternatives."""
    for _ in range(MAX_SCHEMA_DEPTH):
        alternatives = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
        if "$ref" in schema:
            schema = _at(schema["$ref"], root)
        elif alternatives:
            schema = alternatives[0]
    return schema


def _at(reference: str, root: Mapping[str, Any]) -> Mapping[str, Any]:
    found = root
    for key in reference.split("/")[1:]:
        found = found[key]
    return found
