"""GET /v1/models: the names that a request may give, as each family of clients reads them. Pure."""

from collections.abc import Sequence
from typing import Any

UNDATED = "1970-01-01T00:00:00Z"


def list_for_openai(names: Sequence[str]) -> dict[str, Any]:
    models = [{"id": name, "object": "model", "created": 0, "owned_by": "nearvote"} for name in names]
    return {"object": "list", "data": models}


def list_for_anthropic(names: Sequence[str]) -> dict[str, Any]:
    """All on one page."""
    models = [{"type": "model", "id": name, "display_name": name, "created_at": UNDATED} for name in names]
    return {"data": models, "has_more": False, "first_id": names[0], "last_id": names[-1]}
