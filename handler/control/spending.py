"""/admin/v1/keys/{id}/spending: what a key spent, saved and sent, beside its budgets."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from handler.asgi import json_response
from handler.control.guard import Guard
from handler.control.keys import key_of
from handler.control.query import number, only
from handler.keys import KeyStore
from handler.ledger import KEPT_DAYS, NANO, REQUESTS, SAVED, SPENT, TOKENS, Ledger

DAYS = 31
"""That are told where the request does not say how many."""


class SpendingRoutes:
    def __init__(self, guard: Guard, keys: KeyStore, ledger: Ledger, now: Callable[[], float] = time.time) -> None:
        self._guard = guard
        self._keys = keys
        self._ledger = ledger
        self._now = now

    def routes(self) -> list[Route]:
        return [Route("/admin/v1/keys/{id}/spending", self.spending, methods=["GET"])]

    async def spending(self, request: Request) -> Response:
        """?days=: the last so many, of which those without a request are left out."""
        await self._guard(request)
        only(request, "days")
        days = number(request, "days", default=DAYS, least=1, most=KEPT_DAYS)
        return json_response(await asyncio.to_thread(self._describe, request.path_params["id"], days))

    def _describe(self, id: str, most: int) -> dict[str, Any]:
        key, days = key_of(self._keys, id), self._ledger.days(id)
        today = datetime.fromtimestamp(self._now(), UTC).date()
        first, month = (today - timedelta(most - 1)).isoformat(), today.isoformat()[:7]
        return {
            "id": key.id,
            "days": [{"date": date, **_told([day])} for date, day in days.items() if date >= first],
            "month": _told(day for date, day in days.items() if date.startswith(month)),
            "total": _told(days.values()),
            "budgets": {"day": key.budget_day, "month": key.budget_month, "total": key.budget_total},
        }


def _told(days: Iterable[Mapping[str, int]]) -> dict[str, float | int]:
    """Their sum; dollars as dollars."""
    total = Counter[str]()
    for day in days:
        total.update(day)
    return {
        "spent": total[SPENT] / NANO,
        "saved": total[SAVED] / NANO,
        "requests": total[REQUESTS],
        "tokens": total[TOKENS],
    }
