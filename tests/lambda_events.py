"""The events that API Gateway and S3 send, as stored in tests/events, and the answers to API Gateway."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote_plus

from tests.servers import BUCKET

Json: TypeAlias = dict[str, Any]

LIVE_S = 5.0
"""Within which an edit must show in routes."""
EVENTS = Path(__file__).parent / "events"
OBJECT_CREATED: Json = json.loads((EVENTS / "s3" / "object-created.json").read_text())


def event(kind: str, name: str, key: str) -> Json:
    """A stored event, sent with `key`."""
    folder = "http-v2" if kind == "http-v2-default-stage" else kind
    stored: Json = json.loads((EVENTS / folder / f"{name}.json").read_text())
    if kind == "http-v2-default-stage":
        _in_default_stage(stored)
    return with_header(stored, "Authorization", f"Bearer {key}")


def with_header(stored: Json, name: str, value: str) -> Json:
    changed = deepcopy(stored)
    if "multiValueHeaders" in changed:
        changed["headers"][name] = value
        changed["multiValueHeaders"][name] = [value]
    else:
        changed["headers"][name.lower()] = value
    return changed


def _in_default_stage(stored: Json) -> None:
    """Whose name is not in the path."""
    path = stored["rawPath"].removeprefix("/live")
    stored["rawPath"] = stored["requestContext"]["http"]["path"] = path
    stored["requestContext"]["stage"] = "$default"


def object_created(key: str, size: int, bucket: str = BUCKET) -> Json:
    """The stored event, about another file."""
    told = deepcopy(OBJECT_CREATED)
    told["Records"][0]["s3"]["bucket"]["name"] = bucket
    told["Records"][0]["s3"]["object"] |= {"key": quote_plus(key, safe="/"), "size": size}
    return told


def answered(answer: Json, *, changing: tuple[str, ...] = ()) -> tuple[int, dict[str, str], str]:
    """Status, headers and body of an answer in either format; `changing` headers must be there, and are left out."""
    assert not answer["isBase64Encoded"]
    assert answer.get("multiValueHeaders", {}) == {}
    headers = dict(answer["headers"])
    for name in changing:
        assert headers.pop(name)
    return answer["statusCode"], headers, answer["body"]


def routed(answer: Json) -> tuple[str, str]:
    """The model, and the version that chose it."""
    status, headers, _ = answered(answer)
    assert (status, headers["x-nearvote-cause"]) == (200, "vote")
    return headers["x-nearvote-model"], headers["x-nearvote-index-version"]
