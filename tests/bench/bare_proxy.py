"""The least that a proxy of nearvote's make does: Starlette, httpx over aiohttp, bytes in, bytes out.

`python -m tests.bench.bare_proxy --upstream URL` prints its URL. It answers POST /v1/chat/completions.
"""

import argparse
import contextlib
import socket
from collections.abc import AsyncIterator

import httpx
import uvicorn
from httpx_aiohttp import AiohttpTransport
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

PATH = "/v1/chat/completions"
MOST_CONNECTIONS = 1000


def build_app(upstream: str) -> Starlette:
    """`upstream`: a base URL that ends in /v1."""
    limits = httpx.Limits(max_connections=MOST_CONNECTIONS)
    client = httpx.AsyncClient(transport=AiohttpTransport(limits=limits))
    headers = {"content-type": "application/json", "accept-encoding": "identity"}

    async def forward(request: Request) -> Response:
        answer = await client.post(f"{upstream}/chat/completions", content=await request.body(), headers=headers)
        return Response(answer.content, answer.status_code, {"content-type": answer.headers["content-type"]})

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await client.aclose()

    return Starlette(routes=[Route(PATH, forward, methods=["POST"])], lifespan=lifespan)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bare_proxy", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    parser.add_argument("--upstream", required=True, help="base URL, ending in /v1")
    options = parser.parse_args()
    listener = socket.create_server(("127.0.0.1", options.port), backlog=2048)
    print(f"bare proxy on http://127.0.0.1:{listener.getsockname()[1]}/v1", flush=True)  # noqa: T201
    config = uvicorn.Config(build_app(options.upstream), log_level="warning", access_log=False)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
