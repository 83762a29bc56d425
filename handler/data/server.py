"""Lambda's way into the data plane, streaming: the Web Adapter passes each call on to this server."""

import contextlib
import os
from collections.abc import AsyncIterator, Mapping

import uvicorn
from starlette.applications import Starlette

from handler.asgi import EXCEPTION_HANDLERS
from handler.data.app import DataPlane
from handler.data.build import ASLEEP_BETWEEN_REQUESTS, build, load_embedder
from handler.logs import log_to_stderr
from handler.services import open_services
from handler.settings import from_environment

PORTS = ("AWS_LWA_PORT", "PORT")
"""As the adapter reads them."""
KEEP_ALIVE_S = 24 * 3600
"""The adapter keeps connections over the function's sleep: were the server to close one, a call could be lost."""
STOP_S = 1
"""Lambda ends a function two seconds after it has asked it to stop."""


def main() -> None:
    """Serve until SIGTERM, from the moment that the model and the index are there."""
    log_to_stderr()
    settings = from_environment()
    app = build_app(build(open_services(settings), load_embedder(settings.model_dir), ASLEEP_BETWEEN_REQUESTS))
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=port(os.environ),
        access_log=False,
        log_level="warning",
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOP_S,
    )


def build_app(plane: DataPlane) -> Starlette:
    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await plane.close()

    return Starlette(routes=plane.routes(), exception_handlers=EXCEPTION_HANDLERS, lifespan=lifespan)


def port(environ: Mapping[str, str]) -> int:
    """Raises ValueError, naming the variable, for what is no number."""
    for variable in PORTS:
        text = environ.get(variable)
        if text is not None and not text.isdecimal():
            raise ValueError(f"{variable}={text!r} is not a port")
        if text is not None:
            return int(text)
    return 8080


if __name__ == "__main__":
    main()
