"""Lambda's way into the inbox: S3's event → each file it names → one JSON log line a file."""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

import orjson

from handler.control.embedding import LazyEmbedder
from handler.control.inbox import Handled, Inbox
from handler.logs import log_to_stderr
from handler.services import cores, open_repository
from handler.settings import from_environment
from index.store import open_store

log = logging.getLogger("nearvote.inbox")

CREATED = "ObjectCreated:"

log_to_stderr()
settings = from_environment()
store = open_store(settings.store_url)
bucket, _, prefix = settings.store_url.removeprefix("s3://").partition("/")
base = f"{prefix.strip('/')}/".lstrip("/")
inbox = Inbox(store, open_repository(store), LazyEmbedder(lambda: Path(settings.model_dir), cores(settings)))


def entry(event: Mapping[str, Any], _: object) -> None:
    """Raises what is not a file's fault, so that Lambda tries the event again."""
    for key, size in files(event):
        record(inbox.take(key, size))


def files(event: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Key, as the store has it, and bytes of each file that came into the store's own bucket."""
    for told in event.get("Records", []):
        file = told["s3"]["object"]
        key = unquote_plus(file["key"])
        created = told["eventName"].startswith(CREATED)
        if created and told["s3"]["bucket"]["name"] == bucket and key.startswith(base):
            yield key.removeprefix(base), file.get("size", 0)


def record(handled: Handled) -> None:
    line = {
        "event": "inbox",
        "file": handled.key,
        "outcome": handled.fate.value,
        "added": handled.added,
        "faults": handled.faults,
        "index_version": handled.version or None,
    }
    log.info("%s", orjson.dumps(line).decode())
