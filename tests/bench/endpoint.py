"""Where a gateway answers chat requests, and what it wants to see in them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.bench.load import post


@dataclass(frozen=True, slots=True)
class Endpoint:
    url: str
    model: str
    headers: Mapping[str, str]
    pid: int | None = None
    """Of the process whose memory is told, with all below it."""

    def request(self, prompt: str, stream: bool) -> bytes:
        """As it goes over the wire."""
        body: dict[str, Any] = {"model": self.model, "messages": [{"role": "user", "content": prompt}]}
        if stream:
            body["stream"] = True
        return post(self.url, json.dumps(body).encode(), self.headers)
