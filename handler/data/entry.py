"""Lambda's way into the data plane, buffered: API Gateway event → Mangum → the app."""

from starlette.applications import Starlette

from handler.asgi import EXCEPTION_HANDLERS
from handler.data.build import ASLEEP_BETWEEN_REQUESTS, build, load_embedder
from handler.gateway import behind_api_gateway
from handler.logs import log_to_stderr
from handler.services import open_services
from handler.settings import from_environment

log_to_stderr()
settings = from_environment()
plane = build(open_services(settings), load_embedder(settings.model_dir), ASLEEP_BETWEEN_REQUESTS)
app = Starlette(routes=plane.routes(), exception_handlers=EXCEPTION_HANDLERS)
entry = behind_api_gateway(app)
