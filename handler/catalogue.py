"""Prices and capabilities of well-known models, baked from published data by `make catalogue`; read with a fleet file,
never for a request."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson

FILE = Path(__file__).with_name("catalogue.json")

FIELDS = frozenset({"price", "context", "max_output", "images", "audio", "files", "tools", "schema"})
"""What it may know of a model."""
OPENROUTER = "openrouter/"
FIRST = ("openai/", "anthropic/", "google/", "mistral/", "deepseek/", "x-ai/", OPENROUTER)
"""Whose model it is, where a name does not say its provider. OpenRouter's ids name another."""
DAY = re.compile(r"[-@](20\d{2}-\d{2}-\d{2}|20\d{6})$")
"""Of a model's snapshot, at the end of its name."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    date: str
    """Of the data, ISO 8601."""
    entries: Mapping[str, Mapping[str, Any]]
    """`provider/model` → fields as a fleet file's model has them."""

    def find(self, name: str) -> Mapping[str, Any]:
        """Empty where there is none of that name. A snapshot that has no entry of its own is its model; what OpenRouter
        does not price otherwise is its maker's."""
        keys = (f"{provider}{one}" for one in (name, DAY.sub("", name)) for provider in ("", *FIRST))
        found = next((self.entries[key] for key in keys if key in self.entries), None)
        if found is None and name.startswith(OPENROUTER):
            return self.find(name.removeprefix(OPENROUTER))
        return found or {}


@lru_cache(maxsize=1)
def load() -> Catalogue:
    baked = orjson.loads(FILE.read_bytes())
    return Catalogue(baked["date"], baked["models"])
