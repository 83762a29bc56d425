"""The simulated provider's prompt cache: it knows the beginnings of the prompts that a model saw lately."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from scripts.simulated_protocol import CHARACTERS_PER_TOKEN, Part, PromptTokens

LIFE_S = 300.0
FEWEST_TOKENS = 1024
"""A shorter prefix is not worth keeping: neither OpenAI nor Anthropic does."""
MOST_PREFIXES = 10_000


@dataclass(frozen=True, slots=True)
class _Prefix:
    digest: bytes
    tokens: int
    kept: bool


@dataclass(frozen=True, slots=True)
class PromptCache:
    """Keeps no text: a prefix is known by its digest. `clock` is in seconds."""

    clock: Callable[[], float]
    _used: OrderedDict[bytes, float] = field(default_factory=OrderedDict)
    """When each prefix was used last, the longest ago first."""

    def use(self, model: str, prompt: Sequence[Part]) -> PromptTokens:
        """Count the prompt's tokens, and keep its prefixes for the next 300 s."""
        now = self.clock()
        self._forget(now - LIFE_S)
        prefixes = _prefixes(model, prompt)
        read = max((prefix.tokens for prefix in prefixes if prefix.digest in self._used), default=0)
        for prefix in prefixes:
            if prefix.kept or prefix.digest in self._used:
                self._used[prefix.digest] = now
                self._used.move_to_end(prefix.digest)
        while len(self._used) > MOST_PREFIXES:
            self._used.popitem(last=False)
        return PromptTokens(tokens_of(prompt), read, prefixes[-1].tokens - read if prefixes else 0)

    def _forget(self, before: float) -> None:
        while self._used and next(iter(self._used.values())) < before:
            self._used.popitem(last=False)


def tokens_of(prompt: Sequence[Part]) -> int:
    """All tokens of a prompt, at least 1."""
    return max(1, _tokens(sum(part.characters for part in prompt)))


def _tokens(characters: int) -> int:
    return -(-characters // CHARACTERS_PER_TOKEN)


def _prefixes(model: str, prompt: Sequence[Part]) -> list[_Prefix]:
    """The prompt's beginnings that may be in the cache, shortest first; none goes beyond the last breakpoint."""
    end = max((position for position, part in enumerate(prompt, 1) if part.kept), default=0)
    digest, characters, prefixes = model.encode(), 0, []
    for part in prompt[:end]:
        digest = hashlib.sha256(digest + part.content).digest()
        characters += part.characters
        if _tokens(characters) >= FEWEST_TOKENS:
            prefixes.append(_Prefix(digest, _tokens(characters), part.kept))
    return prefixes
