"""What OpenAI's two protocols have in common, as the simulated provider speaks them. Pure."""

from collections.abc import Mapping, Sequence

from scripts.simulated_protocol import ApiError, Json, Part, Tool, canonical

OVERLOADED = 503


def check(_: Mapping[str, str]) -> None:
    """Any headers will do: what a key is worth is not simulated."""


def error(problem: ApiError, _request_id: str) -> Json:
    """The body of an error, in OpenAI's shape."""
    kind = "invalid_request_error"
    if problem.status == 429:
        kind = "rate_limit_error"
    elif problem.status >= 500:
        kind = "server_error"
    return {"error": {"message": str(problem), "type": kind, "param": problem.param, "code": problem.code}}


def head(tools: Sequence[Json], instructions: str = "") -> Part:
    """What comes before the first message of a prompt."""
    characters = len(canonical(tools)) if tools else 0
    return Part(canonical({"tools": tools, "instructions": instructions}), characters + len(instructions))


def functions(declared: Sequence[Json]) -> tuple[Tool, ...]:
    """The functions of such declarations: those that have a name."""
    named = ((each.get("name"), each.get("parameters")) for each in declared)
    return tuple(
        Tool(name, schema if isinstance(schema, dict) else {}) for name, schema in named if isinstance(name, str)
    )
