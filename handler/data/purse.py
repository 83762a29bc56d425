"""What one request has reserved of its key's budget, and whether that bears another model than the chosen one."""

import asyncio
import contextlib
import logging
from collections.abc import Mapping

from handler.data.account import Accountant, Errand
from handler.errors import BudgetSpent
from handler.fleet import Model
from handler.table import TableError

log = logging.getLogger("nearvote.purse")


class Purse:
    def __init__(self, accountant: Accountant, errand: Errand, costs: Mapping[str, float]) -> None:
        """`costs`: expected dollars by model."""
        self.errand = errand
        """With what is reserved by now."""
        self._accountant = accountant
        self._costs = costs

    async def affords(self, model: Model) -> bool:
        """Whether what the model is expected to cost is now reserved."""
        reserved, dollars = self.errand.reservation, self._costs[model.name]
        if reserved is None or dollars <= reserved.stake.dollars:
            return True
        reserving = asyncio.ensure_future(self._accountant.reserve_more(self.errand, dollars))
        try:
            self.errand = await asyncio.shield(reserving)
        except BudgetSpent:
            return False
        except TableError as error:
            log.error("a dearer model is not asked, as nothing can be reserved: %s", error)
            return False
        except asyncio.CancelledError:  # the client left, and the thread goes on: what it takes is given back later
            with contextlib.suppress(BudgetSpent, TableError):
                self.errand = await reserving
            raise
        return True
