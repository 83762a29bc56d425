"""Request → KeyRecord."""

import asyncio

from starlette.requests import Request

from handler.errors import AdminOnly, Unauthenticated
from handler.keys import KeyRecord, KeyStore

_HINT = "send it as `Authorization: Bearer nv-…` or `x-api-key: nv-…`; `nearvote keys create` makes one"


class Authenticator:
    def __init__(self, keys: KeyStore) -> None:
        self._keys = keys

    async def caller(self, request: Request) -> KeyRecord:
        """Raises Unauthenticated. A key seen in the last seconds costs no I/O and no thread."""
        presented = _presented(request)
        if not presented:
            raise Unauthenticated(f"no API key; {_HINT}", code="missing_api_key")
        key = self._keys.peek(presented) or await asyncio.to_thread(self._keys.authenticate, presented)
        if key is None:
            raise Unauthenticated(f"this API key is unknown, wrong, revoked or expired; {_HINT}")
        return key

    async def admin(self, request: Request) -> KeyRecord:
        """Raises Unauthenticated or AdminOnly."""
        key = await self.caller(request)
        if not key.admin:
            raise AdminOnly("this needs an admin key; `nearvote keys create --admin` makes one")
        return key


def _presented(request: Request) -> str:
    """Anthropic's clients send their key in a header of its own."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    bearer = token.strip() if scheme.lower() == "bearer" else ""
    return bearer or request.headers.get("x-api-key", "").strip()
