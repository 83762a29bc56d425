"""Lambda's way into the data plane, buffered: API Gateway event → Mangum → the app."""

from mangum import Mangum
from starlette.applications import Starlette

from handler.asgi import EXCEPTION_HANDLERS
from handler.data.build import build, load_embedder
from handler.logs import log_to_stderr
from handler.services import open_services
from handler.settings import from_environment

log_to_stderr()
settings = from_environment()
plane = build(open_services(settings), load_embedder(settings.model_dir))
app = Starlette(routes=plane.routes(), exception_handlers=EXCEPTION_HANDLERS)
entry = Mangum(app, lifespan="off")
