"""One budget, many callers at once: in several processes on either store, and through a server over HTTP."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from subprocess import PIPE

import httpx
import pytest

from handler import fleet as fleets
from handler.keys import NewKey
from handler.ledger import NANO, Ledger
from handler.sqlite_table import SqliteTable
from handler.table import open_table
from tests.nearvote_server import Server, copy_home, create_key, start_nearvote
from tests.providers import ROOT
from tests.spenders import ACTUAL, BUDGET, DEAREST, ESTIMATE, KEY, THREADS, Receipt

PROCESSES = 4
CALLERS = PROCESSES * THREADS
WAIT_S = 120.0
QUESTION = [{"role": "user", "content": "Translate to French: good morning"}]
MOST_TOKENS = 50
FLEET = """
models:
  - name: sim-large
    price: {input: 2.00, output: 10.00}
    deployments: [{base_url: "${SIMULATED_PROVIDER_URL}", api_key: any, protocols: [chat, messages]}]
"""


@pytest.fixture(params=["sqlite", "dynamodb"])
def table_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty table that any process of this machine can open."""
    if request.param == "sqlite":
        return str(tmp_path / "table.db")
    request.getfixturevalue("aws_environment")
    return f"dynamodb://{request.getfixturevalue('dynamo_table_name')}"


def spend_in_processes(table_url: str) -> list[Receipt]:
    """What each process's callers settled, who all began at once and went on until they were refused."""
    command = [sys.executable, "-m", "tests.spenders", table_url]
    with ExitStack() as stack:
        processes = [
            stack.enter_context(subprocess.Popen(command, cwd=ROOT, env=os.environ, stdin=PIPE, stdout=PIPE))
            for _ in range(PROCESSES)
        ]
        for process in processes:
            stack.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()
            process.stdin = None
        printed = [process.communicate(timeout=WAIT_S)[0] for process in processes]
        assert [process.returncode for process in processes] == [0] * PROCESSES
    return [Receipt(**json.loads(text)) for text in printed]


def test_64_callers_in_4_processes_do_not_pass_a_budget_by_more_than_was_in_flight(table_url: str) -> None:
    receipts = spend_in_processes(table_url)
    settled = sum(receipt.nano for receipt in receipts)
    requests = sum(receipt.requests for receipt in receipts)
    counters = open_table(table_url).counters(f"spend#{KEY.id}")
    (day,) = Ledger(open_table(table_url)).days(KEY.id).values()

    assert counters["total"] == {"spent": settled}
    assert day == {"spent": settled, "saved": 0, "requests": requests, "tokens": 100 * requests}
    # All that was let in had room at its estimate; each can have cost so much more in the end.
    assert settled <= (BUDGET + CALLERS * (DEAREST - ESTIMATE)) * NANO
    # The first who was refused found no room for an estimate; each in flight then can have cost so much less.
    assert settled > (BUDGET - ESTIMATE - CALLERS * (ESTIMATE - min(ACTUAL))) * NANO


@pytest.fixture(scope="module")
def server(starter_home: Path, simulated_provider: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Its one model speaks OpenAI's chat and Anthropic's messages."""
    home = copy_home(starter_home, tmp_path_factory.mktemp("budgets") / "home")
    (home / fleets.KEY).write_text(FLEET)
    with start_nearvote(home, {"SIMULATED_PROVIDER_URL": simulated_provider}) as server:
        yield server


def send_at_once(server: Server, key: str, count: int, path: str = "/v1/chat/completions") -> list[httpx.Response]:
    body = {"model": "sim-large", "messages": QUESTION, "max_tokens": MOST_TOKENS}
    headers = {"authorization": f"Bearer {key}"}

    async def send() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=count)
        async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=60, limits=limits) as http:
            return await asyncio.gather(*(http.post(path, json=body) for _ in range(count)))

    return asyncio.run(send())


def settled_by(server: Server, key: str, requests: int) -> Mapping[str, int]:
    """The day's counters, once so many requests are settled: that is a moment after their answers."""
    deadline = time.monotonic() + WAIT_S
    with closing(SqliteTable(server.home / "state.db")) as table:
        while True:
            (day,) = Ledger(table).days(key.split("-")[1]).values()
            if day.get("requests", 0) >= requests:
                return day
            assert time.monotonic() < deadline, f"{day} and no more"
            time.sleep(0.05)


def nano(answer: httpx.Response) -> int:
    """What an answer cost, by its usage and the prices of FLEET."""
    usage = answer.json()["usage"]
    return int(usage["prompt_tokens"]) * 2_000 + int(usage["completion_tokens"]) * 10_000


def test_64_requests_at_once_are_answered_while_the_budget_lasts(server: Server) -> None:
    """The estimate is of the whole 50 tokens that an answer may have."""
    budget = 0.01
    key = create_key(server.home, NewKey(name="test", budget_day=budget))
    answers = send_at_once(server, key, CALLERS)
    answered = [answer for answer in answers if answer.status_code == 200]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert (len(answered) + len(refused), len(answered) > 0, len(refused) > 0) == (CALLERS, True, True)

    estimate = float(answered[0].headers["x-nearvote-expected-cost"]) * NANO
    costs = [nano(answer) for answer in answered]
    spent = settled_by(server, key, len(answered))
    assert (spent["spent"], spent["requests"]) == (sum(costs), len(answered))
    assert sum(costs) <= budget * NANO + CALLERS * max(max(costs) - estimate, 0)
    assert len(answered) >= budget * NANO // estimate
    for answer in refused:
        assert answer.json()["error"] == {
            "message": "this key may spend $0.01 today, and this request could pass that",
            "type": "rate_limit_error",
            "param": None,
            "code": "budget_exceeded",
        }
        assert (answer.headers["x-should-retry"], "retry-after" in answer.headers) == ("false", False)


def test_a_spent_budget_is_told_in_the_shape_of_the_protocol_that_was_called(server: Server) -> None:
    key = create_key(server.home, NewKey(name="test", budget_total=0.000_001))
    (answer,) = send_at_once(server, key, 1, "/v1/messages")
    assert (answer.status_code, answer.headers["x-should-retry"]) == (429, "false")
    assert answer.json() == {
        "type": "error",
        "error": {
            "type": "rate_limit_error",
            "message": "this key may spend $1e-06 in all, and this request could pass that",
            "code": "budget_exceeded",
        },
    }


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_exactly_so_many_requests_a_minute_are_answered_as_the_key_may_send(server: Server, path: str) -> None:
    key = create_key(server.home, NewKey(name="test", requests_per_minute=10))
    if time.time() % 60 > 50:
        time.sleep(60 - time.time() % 60)  # all of it is to happen in one minute
    answers = send_at_once(server, key, 16, path)
    refused = [answer for answer in answers if answer.status_code == 429]
    assert Counter(answer.status_code for answer in answers) == {200: 10, 429: 6}
    for answer in refused:
        wait = int(answer.headers["retry-after"])
        error = answer.json()["error"]
        assert 0 < wait <= 60
        assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
        assert error["message"] == f"this key may send 10 requests a minute; try again in {wait} s"
        assert (answer.headers["x-nearvote-retryable"], "x-should-retry" in answer.headers) == ("true", False)
        assert (answer.json().get("type") == "error") is (path == "/v1/messages")
