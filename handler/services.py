"""Settings → the real clients and stores. Only entry points call it; everything else is handed what it needs."""

import os
from dataclasses import dataclass
from pathlib import Path

from handler.keys import KeyStore
from handler.settings import Settings
from handler.table import open_table
from index.store import ObjectStore, open_store
from index.versions import Repository


@dataclass(frozen=True, slots=True)
class Services:
    settings: Settings
    store: ObjectStore
    repository: Repository
    keys: KeyStore


def open_services(settings: Settings) -> Services:
    store = open_store(settings.store_url)
    keys = KeyStore(open_table(settings.table_url), _pepper(settings))
    return Services(settings, store, Repository(store), keys)


def cores(settings: Settings) -> int:
    """Threads that embed: those that were asked for, else one for each core this process may use."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return settings.embed_workers or usable or 1


def _pepper(settings: Settings) -> bytes:
    """Raises FileNotFoundError where neither the settings nor the local state has one."""
    return settings.pepper.encode() or (Path(settings.home) / "pepper").read_bytes()
