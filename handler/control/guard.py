"""Who may use the control plane."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request

Guard = Callable[[Request], Awaitable[object]]
"""Raises Unauthenticated or AdminOnly for a request that may not pass."""


async def operator(_: Request) -> None:
    """For commands on the local state: whoever can read those files needs no key."""
