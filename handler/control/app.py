"""The control plane: keys and what they spent, examples, index versions, the fleet, the dial's curve."""

from starlette.routing import Route

from handler.control.dial import DialRoutes
from handler.control.embedding import LazyEmbedder
from handler.control.examples import ExampleRoutes
from handler.control.fleet import FleetRoutes
from handler.control.guard import Guard
from handler.control.keys import KeyRoutes
from handler.control.spending import SpendingRoutes
from handler.control.versions import VersionRoutes
from handler.ledger import Ledger
from handler.services import Services


def control_routes(services: Services, guard: Guard, embedder: LazyEmbedder) -> list[Route]:
    return [
        *KeyRoutes(guard, services.keys).routes(),
        *SpendingRoutes(guard, services.keys, Ledger(services.table)).routes(),
        *ExampleRoutes(guard, services.store, services.repository, embedder).routes(),
        *VersionRoutes(guard, services.repository, embedder).routes(),
        *FleetRoutes(guard, services.store).routes(),
        *DialRoutes(guard, services.store, services.repository).routes(),
    ]
