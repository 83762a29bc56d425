"""What is known of a conversation: how much of it each model's provider has in its prompt cache, and since when."""

import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from handler.flow import Ask
from handler.table import Record, Table, TableError

log = logging.getLogger("nearvote.sessions")

KIND = "session"
KEPT_S = 3600
"""Past so long a silence no provider has a conversation any more, or it costs next to nothing to send it again."""
ANSWER_KEPT_S = 30 * 86_400
"""How long OpenAI keeps an answer that a request may lean on."""
REMEMBERED = 20_000
"""Conversations that a process keeps in its memory."""
FRESH_S = 3.0
"""For so long a process goes by its own memory; later another may have taken the next turn."""
LEAST_TOKENS = 1024
"""Below that no provider caches."""


@dataclass(frozen=True, slots=True)
class Warm:
    """A beginning of a conversation that a model has seen."""

    tokens: int
    at: float
    """Seconds since the epoch."""
    deployment: str = ""
    """Base URL of the one that saw it: caches are not shared between providers."""


@dataclass(frozen=True, slots=True)
class Memory:
    """One conversation."""

    tokens: int = 0
    """Of its latest request, whichever model answered."""
    at: float = 0.0
    warm: Mapping[str, Warm] = field(default_factory=dict)
    """By model."""

    def seen_by(self, model: str, ttl: float, now: float) -> int:
        """Tokens of the conversation that this model's provider still has; 0 where none."""
        warm = self.warm.get(model)
        return warm.tokens if warm is not None and now - warm.at < ttl else 0

    def seen(self, ttl: float, now: float) -> int:
        """Tokens that one model would have now, had it answered all along."""
        return self.tokens if now - self.at < ttl else 0

    @property
    def latest(self) -> str:
        """Base URL of the deployment that answered last; "" where none did."""
        return max(self.warm.values(), key=lambda one: one.at).deployment if self.warm else ""

    def deployment(self, model: str) -> str:
        warm = self.warm.get(model)
        return "" if warm is None else warm.deployment

    def after(self, model: str, tokens: int, warm: Warm) -> "Memory":
        """Once a model has answered a request of so many tokens."""
        return Memory(tokens, warm.at, {**self.warm, model: warm})


NOTHING = Memory()


@dataclass(frozen=True, slots=True)
class _Seen:
    """A memory as this process has it, and since when."""

    memory: Memory
    at: float


@dataclass(frozen=True, slots=True)
class Recalled:
    """What is known of a request's past."""

    conversation: Memory = NOTHING
    leant_on: Memory = NOTHING
    """Of the answer that it leans on: one model and its deployment."""


class Sessions:
    """In memory, and in a table for the other processes. A fault of the table costs a discount, never a request."""

    def __init__(self, table: Table | None, now: Callable[[], float] = time.time) -> None:
        """Without a table, each process knows its own conversations alone."""
        self._table = table
        self._now = now
        self._seen: OrderedDict[str, _Seen] = OrderedDict()  # the latest last

    @property
    def now(self) -> float:
        return self._now()

    def peek(self, id: str) -> Memory | None:
        """From this process's memory; None where it is to be looked for."""
        if not id:
            return NOTHING
        if self._table is None:
            return self._own(id)
        seen = self._seen.get(id)
        return seen.memory if seen is not None and self._now() - seen.at < FRESH_S else None

    def look(self, id: str) -> Memory:
        """Blocking."""
        memory = max(self._own(id), self._others(id), key=lambda one: one.at)
        self._keep(id, memory)
        return memory

    def remember(self, id: str, memory: Memory) -> None:
        """In this process, at once."""
        if id:
            self._keep(id, memory)

    def share(self, id: str, seconds: int) -> None:
        """Blocking: what this process knows of a conversation, for the others. The last writer wins: of two turns at
        once, either is a fair guess of what is cached."""
        seen = self._seen.get(id)
        if self._table is None or seen is None:
            return
        try:
            self._table.write(KIND, id, _written(seen.memory), int(self._now()) + seconds)
        except TableError as error:
            log.error("a conversation is not shared: %s", error)

    def _own(self, id: str) -> Memory:
        seen = self._seen.get(id)
        return NOTHING if seen is None else seen.memory

    def _others(self, id: str) -> Memory:
        try:
            stored = self._table.get(KIND, id) if self._table is not None else None
            return NOTHING if stored is None else _read(stored)
        except TableError as error:
            log.error("a conversation is not remembered: %s", error)
            return NOTHING

    def _keep(self, id: str, memory: Memory) -> None:
        self._seen.pop(id, None)
        self._seen[id] = _Seen(memory, self._now())
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)


def id_of(ask: Ask, key_id: str) -> str:
    """Of the conversation, for this key alone, without a word of it; "" where there is nothing to tell by."""
    return _hashed(key_id, ask.session)


def continued_id(ask: Ask, key_id: str) -> str:
    """Of the answer that a request leans on; "" where it leans on none."""
    return _hashed(key_id, ask.leans_on)


def answer_id(key_id: str, answer: str) -> str:
    """As a later request will lean on it."""
    return _hashed(key_id, answer)


def _hashed(key_id: str, name: str) -> str:
    return hashlib.blake2b(f"{key_id}\0{name}".encode("utf-8", "replace"), digest_size=12).hexdigest() if name else ""


def _written(memory: Memory) -> dict[str, Any]:
    warm = {model: [one.tokens, one.at, one.deployment] for model, one in memory.warm.items()}
    return {"tokens": memory.tokens, "at": memory.at, "warm": warm}


def _read(stored: Record) -> Memory:
    """Raises TableError for what another release wrote otherwise."""
    value = stored.value
    try:
        warm = {model: Warm(*one) for model, one in value["warm"].items()}
        return Memory(value["tokens"], value["at"], warm)
    except (AttributeError, KeyError, TypeError) as error:
        raise TableError(f"the conversation {stored.id!r} cannot be read") from error
