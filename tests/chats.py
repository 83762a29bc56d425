"""Chat requests to a `nearvote run`, and what it answers and logs."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import orjson
from openai.types.chat import ChatCompletionMessageParam

from tests.nearvote_server import Server

PRICES = {"sim-small": (0.10, 0.50), "sim-medium": (0.4, 2.0), "sim-large": (2.0, 10.0)}
QUESTION: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Translate to French: good morning"}]
FULL = {"x-nearvote-evidence": "full"}


def chat(http: httpx.Client, headers: Mapping[str, str] | None = None, path: str = "", **body: Any) -> httpx.Response:
    whole = {"model": "auto", "messages": QUESTION, "max_completion_tokens": 8, **body}
    return http.post(path or "/v1/chat/completions", json=whole, headers=headers)


def error_of(answer: httpx.Response) -> tuple[int, str, str | None]:
    """Status, code and param, of an error in OpenAI's shape."""
    error = answer.json()["error"]
    assert error.keys() - {"details"} == {"message", "type", "param", "code"}
    return answer.status_code, error["code"], error["param"]


def wait_until(holds: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def lines(server: Server, **fields: Any) -> list[dict[str, Any]]:
    """The log lines with these fields."""
    found = [orjson.loads(line) for line in server.logged().splitlines() if line.startswith("{")]
    return [line for line in found if fields.items() <= line.items()]
