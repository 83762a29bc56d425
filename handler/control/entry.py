"""Lambda's way into the control plane: API Gateway event → Mangum → the app."""

from pathlib import Path

from starlette.applications import Starlette

from handler.asgi import EXCEPTION_HANDLERS
from handler.auth import Authenticator
from handler.control.app import control_routes
from handler.control.embedding import LazyEmbedder
from handler.gateway import behind_api_gateway
from handler.logs import log_to_stderr
from handler.services import cores, open_services
from handler.settings import from_environment

log_to_stderr()
settings = from_environment()
services = open_services(settings)
app = Starlette(
    routes=control_routes(
        services,
        Authenticator(services.keys).admin,
        LazyEmbedder(lambda: Path(settings.model_dir), cores(settings)),
    ),
    exception_handlers=EXCEPTION_HANDLERS,
)
entry = behind_api_gateway(app)
