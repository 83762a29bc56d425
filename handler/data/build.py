"""Services → a data plane that is ready to answer."""

import gc
import logging
from pathlib import Path

from handler.auth import Authenticator
from handler.data.account import Accountant
from handler.data.app import DataPlane
from handler.data.complete import Completer, Stages
from handler.data.decide import Decider
from handler.data.failover import Failover, Patience
from handler.data.forward import Forwarder
from handler.data.health import Health
from handler.data.live import Watcher
from handler.data.sessions import Sessions
from handler.data.speeds import Speeds
from handler.ledger import Ledger
from handler.services import Services, cores
from index.embedder import Embedder
from index.errors import ModelFilesMissing

log = logging.getLogger("nearvote.data")


ASLEEP_BETWEEN_REQUESTS = 1.0
"""The patience, in seconds, of a data plane that Lambda freezes between requests."""


WRITE_DELAY_S = 0.5
"""After which what requests took is written down, where the process stays awake."""


def build(services: Services, embedder: Embedder | None, patience: float = 0.0) -> DataPlane:
    """Loads the current fleet and index. Raises BadFleet: without a fleet nothing can be answered; without an
    embedder or an index requests still are, by the default model. `patience`: see Watcher."""
    settings = services.settings
    watcher = Watcher(
        services.store,
        services.repository,
        embedder.fingerprint if embedder else "",
        settings.poll_seconds,
        patience,
    )
    decider = Decider(embedder, cores(settings), settings.waiting_decisions)
    forwarder = Forwarder(settings.connect_seconds, settings.upstream_seconds, services.credentials)
    speeds = Speeds(services.table)
    # Where the process sleeps between requests, nothing would be written later.
    delay = 0.0 if patience else WRITE_DELAY_S
    accountant = Accountant(Ledger(services.table), Sessions(services.table), speeds, delay)
    stages = Stages(
        decider,
        Failover(
            forwarder, Health(), Patience(settings.deadline_seconds, settings.first_byte_seconds, settings.rounds)
        ),
        accountant,
        speeds,
    )

    async def close() -> None:
        decider.close()
        await accountant.flush()
        await forwarder.close()

    gc.freeze()  # what is loaded by now stays: looking through it for garbage would hold up requests
    return DataPlane(Authenticator(services.keys), watcher, Completer(stages), settings.body_bytes, close)


def load_embedder(model_dir: str) -> Embedder | None:
    """None, and a log line, when the files are not there."""
    try:
        embedder = Embedder(Path(model_dir))
        embedder.embed("warm up")
    except ModelFilesMissing as error:
        log.error("nothing can be routed: %s", error)
        return None
    return embedder
