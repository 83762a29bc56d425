"""Decision → the upstream's answer, over one client for the process's life."""

import random
from collections.abc import Mapping
from functools import lru_cache

import aiohttp
import httpx
import orjson
from httpx_aiohttp import AiohttpTransport

from handler.errors import ApiError, BadRequest, Unavailable, UpstreamFailed, UpstreamTimeout
from handler.fleet import BadFleet, Deployment, Model, expand
from handler.flow import Ask

PASSED_BACK = ("content-type", "content-encoding", "retry-after", "x-request-id", "openai-processing-ms")
MOST_CONNECTIONS = 1000
IDLE_SECONDS = 4.0
"""A connection is not used again after so long: many servers close theirs after 5."""

FAULTS = (httpx.HTTPError, httpx.InvalidURL, aiohttp.ClientError, OSError)
"""What a call upstream may raise; the transport lets some of aiohttp's own errors through."""


class Forwarder:
    """Raw bytes out, raw bytes back: nothing is decoded that need not be."""

    def __init__(self, connect_seconds: float, upstream_seconds: float, credentials: Mapping[str, str]) -> None:
        """`credentials`: what `${NAME}` in the fleet file stands for; a look must not block."""
        # httpx's own transport collapses when many callers wait at once; aiohttp's holds. It is called without
        # httpx's client, whose cookies, redirects and merging of URLs a gateway does not want to pay for.
        self._transport = AiohttpTransport(client=_session)
        self._timeout = httpx.Timeout(upstream_seconds, connect=connect_seconds).as_dict()
        self._credentials = credentials

    async def send(self, model: Model, ask: Ask) -> httpx.Response:
        """The upstream's answer with its head read and its body still to come; the caller closes it.

        Raises UpstreamFailed or UpstreamTimeout when there is no answer, Unavailable when the fleet file's
        deployment cannot be used, BadRequest for a body that cannot be written again."""
        deployment = _pick(model)
        try:
            return await self._transport.handle_async_request(self._request(model, deployment, ask))
        except FAULTS as error:
            raise _no_answer(error, model.name) from error

    async def close(self) -> None:
        await self._transport.aclose()

    def _request(self, model: Model, deployment: Deployment, ask: Ask) -> httpx.Request:
        try:
            url, key = [expand(text, self._credentials) for text in (deployment.base_url, deployment.api_key)]
        except BadFleet as error:
            raise Unavailable(f"{model.name} cannot be called: {error}", code="deployment_not_configured") from error
        if not (key.isascii() and key.isprintable()):
            message = f"{model.name} cannot be called: its API key has characters that a header cannot carry"
            raise Unavailable(message, code="deployment_not_configured")
        headers = {"content-type": "application/json", "accept-encoding": "identity"}
        if key:
            headers["authorization"] = f"Bearer {key}"
        content = _content(ask, deployment.model or model.name)
        extensions = {"timeout": self._timeout}
        return httpx.Request("POST", _endpoint(url), headers=headers, content=content, extensions=extensions)


@lru_cache(maxsize=1024)
def _endpoint(base_url: str) -> httpx.URL:
    return httpx.URL(f"{base_url.rstrip('/')}/chat/completions")


async def read_whole(answer: httpx.Response, model: Model) -> bytes:
    """Raises UpstreamFailed when it breaks off, UpstreamTimeout when it falls silent."""
    try:
        return b"".join([chunk async for chunk in answer.aiter_raw()])
    except FAULTS as error:
        raise broken_off(error, model.name) from error
    finally:
        await answer.aclose()


def broken_off(error: Exception, model: str) -> ApiError:
    """What the caller is told of a fault in the middle of an answer."""
    if _timed_out(error):
        return UpstreamTimeout(f"{model} fell silent in the middle of its answer")
    return UpstreamFailed(f"{model} broke off in the middle of its answer")


def _no_answer(error: Exception, model: str) -> ApiError:
    if _timed_out(error):
        return UpstreamTimeout(f"{model} did not answer in time")
    return UpstreamFailed(f"{model} cannot be reached: {type(error.__cause__ or error).__name__}")


def _timed_out(error: Exception) -> bool:
    # The transport calls every lost connection a timeout; what it was made from tells them apart.
    return isinstance(error.__cause__ or error, (TimeoutError, httpx.TimeoutException))


def _session() -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(
        limit=MOST_CONNECTIONS, keepalive_timeout=IDLE_SECONDS, ssl=httpx.create_ssl_context()
    )
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())


def _content(ask: Ask, name: str) -> bytes:
    if ask.raw is not None and ask.model == name:
        return ask.raw
    try:
        return orjson.dumps({**ask.body, "model": name})
    except orjson.JSONEncodeError as error:
        raise BadRequest("the body is nested too deeply to be passed on", code="invalid_json") from error


def _pick(model: Model) -> Deployment:
    if len(model.deployments) == 1:
        return model.deployments[0]
    weights = [deployment.weight for deployment in model.deployments]
    return random.choices(model.deployments, weights)[0]  # noqa: S311 - balancing, not a secret
