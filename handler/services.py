"""Settings → the real clients and stores. Only entry points call it; everything else is handed what it needs."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from handler.fleet import usable_candidates
from handler.keys import KeyStore
from handler.secrets import Secret, open_secret
from handler.settings import Settings
from handler.table import Table, open_table
from index.store import ObjectStore, open_store
from index.versions import Repository


@dataclass(frozen=True, slots=True)
class Services:
    settings: Settings
    store: ObjectStore
    repository: Repository
    keys: KeyStore
    table: Table
    credentials: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    """What `${NAME}` in the fleet file stands for; a look never blocks."""


def open_services(settings: Settings) -> Services:
    """Raises SecretUnavailable, TableError, StoreUnavailable, or ValueError for an impossible URL."""
    secret = open_secret(settings.secret) if settings.secret else None
    store = open_store(settings.store_url)
    table = open_table(settings.table_url)
    keys = KeyStore(table, _pepper(settings, secret))
    return Services(settings, store, open_repository(store), keys, table, os.environ if secret is None else secret)


def open_repository(store: ObjectStore) -> Repository:
    """Its new versions keep the fit for the fleet file as it lies in the store then."""
    return Repository(store, candidates=lambda: usable_candidates(store))


def cores(settings: Settings) -> int:
    """Threads that embed: those that were asked for, else one for each core this process may use."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return settings.embed_workers or usable or 1


def _pepper(settings: Settings, secret: Secret | None) -> bytes:
    """Raises SecretUnavailable where the secret has none, FileNotFoundError where there is no secret and neither
    the settings nor the local state has one."""
    if secret is not None:
        return secret.pepper
    return settings.pepper.encode() or (Path(settings.home) / "pepper").read_bytes()
