"""Services → a data plane that is ready to answer."""

import logging
from pathlib import Path

from handler.auth import Authenticator
from handler.data.app import DataPlane
from handler.data.decide import Decider
from handler.data.forward import Forwarder
from handler.data.live import Watcher
from handler.services import Services, cores
from index.embedder import Embedder
from index.errors import ModelFilesMissing

log = logging.getLogger("nearvote.data")


ASLEEP_BETWEEN_REQUESTS = 1.0
"""The patience, in seconds, of a data plane that Lambda freezes between requests."""


def build(services: Services, embedder: Embedder | None, patience: float = 0.0) -> DataPlane:
    """Loads the current fleet and index. Raises BadFleet: without a fleet nothing can be answered; without an
    embedder or an index requests still are, by the default model. `patience`: see Watcher."""
    settings = services.settings
    return DataPlane(
        Authenticator(services.keys),
        Watcher(
            services.store,
            services.repository,
            embedder.fingerprint if embedder else "",
            settings.poll_seconds,
            patience,
        ),
        Decider(embedder, cores(settings), settings.waiting_decisions),
        Forwarder(settings.connect_seconds, settings.upstream_seconds, services.credentials),
        settings.body_bytes,
    )


def load_embedder(model_dir: str) -> Embedder | None:
    """None, and a log line, when the files are not there."""
    try:
        embedder = Embedder(Path(model_dir))
        embedder.embed("warm up")
    except ModelFilesMissing as error:
        log.error("nothing can be routed: %s", error)
        return None
    return embedder
