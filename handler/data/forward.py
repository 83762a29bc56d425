"""Decision → the upstream's answer, over one client for the process's life."""

import random

import httpx
import orjson
from httpx_aiohttp import AiohttpTransport

from handler.errors import Unavailable, UpstreamFailed, UpstreamTimeout
from handler.fleet import BadFleet, Deployment, Model, expand
from handler.flow import Ask

PASSED_BACK = ("content-type", "retry-after", "x-request-id", "openai-processing-ms")
MOST_CONNECTIONS = 1000


class Forwarder:
    """Raw bytes out, raw bytes back: nothing is decoded that need not be."""

    def __init__(self, connect_seconds: float, upstream_seconds: float) -> None:
        # httpx's own transport collapses when many callers wait at once; aiohttp's holds.
        self._client = httpx.AsyncClient(
            transport=AiohttpTransport(limits=httpx.Limits(max_connections=MOST_CONNECTIONS)),
            timeout=httpx.Timeout(upstream_seconds, connect=connect_seconds),
        )

    async def send(self, model: Model, ask: Ask) -> httpx.Response:
        """The upstream's answer with its head read and its body still to come; the caller closes it.

        Raises UpstreamFailed or UpstreamTimeout when there is no answer, Unavailable when the fleet file's
        deployment cannot be used."""
        deployment = _pick(model)
        request = self._request(model, deployment, ask)
        try:
            return await self._client.send(request, stream=True)
        except httpx.TimeoutException as error:
            raise UpstreamTimeout(f"{model.name} did not answer in time") from error
        except httpx.HTTPError as error:
            raise UpstreamFailed(f"{model.name} cannot be reached: {type(error).__name__}") from error

    async def close(self) -> None:
        await self._client.aclose()

    def _request(self, model: Model, deployment: Deployment, ask: Ask) -> httpx.Request:
        try:
            url, key = expand(deployment.base_url), expand(deployment.api_key)
        except BadFleet as error:
            raise Unavailable(f"{model.name} cannot be called: {error}", code="deployment_not_configured") from error
        headers = {"content-type": "application/json", "accept-encoding": "identity"}
        if key:
            headers["authorization"] = f"Bearer {key}"
        content = _content(ask, deployment.model or model.name)
        return self._client.build_request(
            "POST", f"{url.rstrip('/')}/chat/completions", headers=headers, content=content
        )


async def read_whole(answer: httpx.Response, model: Model) -> bytes:
    """Raises UpstreamFailed when it breaks off, UpstreamTimeout when it falls silent."""
    try:
        return b"".join([chunk async for chunk in answer.aiter_raw()])
    except httpx.TimeoutException as error:
        raise UpstreamTimeout(f"{model.name} fell silent in the middle of its answer") from error
    except httpx.HTTPError as error:
        raise UpstreamFailed(f"{model.name} broke off in the middle of its answer") from error
    finally:
        await answer.aclose()


def _content(ask: Ask, name: str) -> bytes:
    if ask.raw is not None and ask.model == name:
        return ask.raw
    return orjson.dumps({**ask.body, "model": name})


def _pick(model: Model) -> Deployment:
    if len(model.deployments) == 1:
        return model.deployments[0]
    weights = [deployment.weight for deployment in model.deployments]
    return random.choices(model.deployments, weights)[0]  # noqa: S311 - balancing, not a secret
