"""A process of many callers who spend one key's budget until they are refused. `python -m tests.spenders TABLE`

It says `ready`, begins once its input ends, and prints what it spent as JSON.
"""

import json
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import cycle

from handler.errors import BudgetSpent
from handler.keys import KeyRecord
from handler.ledger import Ledger, Settlement, Spent, Stake
from handler.table import open_table

THREADS = 16
ESTIMATE = 0.01
"""Dollars."""
ACTUAL = (0.005, 0.015, 0.0001, 0.012_345_678)
"""Dollars, in turn: below the estimate and above it."""
DEAREST = max(ACTUAL)
BUDGET = 1.0
KEY = KeyRecord(id="a" * 12, digest="0" * 64, created_at="", name="spent", budget_day=1_000_000.0, budget_total=BUDGET)
"""The day is reserved first, so each refusal has something to take back."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What one process's callers settled."""

    requests: int
    nano: int
    """Dollars in billionths."""


def spend(ledger: Ledger, prices: Iterator[float], lock: threading.Lock) -> list[float]:
    """The price of each request until one is refused."""
    paid: list[float] = []
    while True:
        try:
            reservation = ledger.reserve(KEY, Stake(ESTIMATE, 100))
        except BudgetSpent:
            return paid
        with lock:
            price = next(prices)
        time.sleep(0.005)  # the model answers
        ledger.settle([Settlement(KEY, reservation, Spent(price, 100), time.time())])
        paid.append(price)


def main() -> None:
    table = open_table(sys.argv[1])
    print("ready", flush=True)  # noqa: T201
    sys.stdin.read()
    ledger, prices, lock = Ledger(table), cycle(ACTUAL), threading.Lock()
    with ThreadPoolExecutor(THREADS) as threads:
        callers = [threads.submit(spend, ledger, prices, lock) for _ in range(THREADS)]
        paid = [price for caller in callers for price in caller.result()]
    receipt = Receipt(len(paid), sum(round(price * 1_000_000_000) for price in paid))
    print(json.dumps(asdict(receipt)))  # noqa: T201


if __name__ == "__main__":
    main()
