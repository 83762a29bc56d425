"""Prices and capabilities of well-known models, baked from published data by `make catalogue`; read with a fleet file,
never for a request."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson

FILE = Path(__file__).with_name("catalogue.json")

FIRST = ("openai", "anthropic", "google", "mistral", "deepseek", "x-ai")
"""Whose model it is, where a name does not say its provider."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    date: str
    """Of the data, ISO 8601."""
    entries: Mapping[str, Mapping[str, Any]]
    """`provider/model` → fields as a fleet file's model has them."""

    def find(self, name: str) -> Mapping[str, Any]:
        """Empty where there is none of that name."""
        keys = (name, *(f"{provider}/{name}" for provider in FIRST))
        return next((self.entries[key] for key in keys if key in self.entries), {})


@lru_cache(maxsize=1)
def load() -> Catalogue:
    baked = orjson.loads(FILE.read_bytes())
    return Catalogue(baked["date"], baked["models"])
