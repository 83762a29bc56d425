"""Faults of an upstream, before the real server: what the caller gets, what it is told, and what is counted."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import orjson
import pytest

from tests.failing_fleet import FIRST_BYTE_S, WHOLE, FailingFleet
from tests.scripted_upstream import EVENT_STREAM, Step, answer

NO = b'{"error": {"message": "no"}} '
CHUNK = b'data: {"choices":[{"delta":{"content":"yes"}}]}\n\n'
STREAM = [EVENT_STREAM, CHUNK, b"data: [DONE]\n\n"]
FAULTS: dict[str, tuple[Sequence[Step], str]] = {
    "429": ([answer(NO, b"retry-after: 60", status=b"429 Slow Down")], "429"),
    "500": ([answer(NO, status=b"500 Oops")], "500"),
    "a dead key": ([answer(NO, status=b"401 Who")], "401"),
    "a cut before the first byte": ([], "upstream_failed"),
}


def ask(http: httpx.Client, model: str = "auto", stream: bool = False, evidence: str = "") -> httpx.Response:
    body = {"model": model, "stream": stream, "messages": [{"role": "user", "content": ""}], "max_tokens": 100}
    headers = {"x-nearvote-evidence": evidence} if evidence else {}
    return http.post("/chat/completions", json=body, headers=headers)


def served(told: httpx.Response) -> tuple[str, str, str | None]:
    return (
        told.headers["x-nearvote-model"],
        told.headers["x-nearvote-cause"],
        told.headers.get("x-nearvote-failed-attempts"),
    )


@pytest.mark.parametrize(("steps", "fault"), FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("stream", [False, True])
def test_the_next_model_answers_where_the_first_cannot(
    failing_fleet: FailingFleet, steps: Sequence[Step], fault: str, stream: bool
) -> None:
    failing_fleet.first.steps = steps
    if stream:
        failing_fleet.second.steps = STREAM
    with failing_fleet.client() as http:
        told = ask(http, stream=stream)
    assert (told.status_code, told.content) == (200, b"".join(STREAM[1:]) if stream else WHOLE)
    assert served(told) == ("second", "failover", "1")
    line = last_record(failing_fleet, told)
    assert line["failed_attempts"] == [f"first {failing_fleet.first.url.split('/')[2]} {fault}"]
    assert (line["model"], line["cause"], line["status"], line["error"]) == ("second", "failover", 200, None)


def test_a_stream_that_hangs_moves_on_after_the_time_that_was_set(failing_fleet: FailingFleet) -> None:
    failing_fleet.first.steps = [EVENT_STREAM, threading.Event()]
    failing_fleet.second.steps = STREAM
    started = time.monotonic()
    with failing_fleet.client() as http:
        told = ask(http, stream=True)
    assert (told.content, served(told)) == (b"".join(STREAM[1:]), ("second", "failover", "1"))
    assert FIRST_BYTE_S <= time.monotonic() - started < FIRST_BYTE_S + 2
    assert failing_fleet.first.left.wait(5)


def test_a_model_whose_streams_break_off_time_and_again_is_passed_over(failing_fleet: FailingFleet) -> None:
    failing_fleet.first.steps = [EVENT_STREAM, CHUNK]
    failing_fleet.second.steps = STREAM
    with failing_fleet.client() as http:
        told = [ask(http, stream=True) for _ in range(4)]
    assert [served(each)[:2] for each in told] == [*[("first", "no_text")] * 3, ("second", "failover")]
    assert [b"broke off" in each.content for each in told] == [True, True, True, False]
    assert last_record(failing_fleet, told[0])["error"] == "upstream_failed"


def test_the_expected_cost_is_that_of_the_model_which_answered(failing_fleet: FailingFleet) -> None:
    with failing_fleet.client() as http:
        first = ask(http)
        failing_fleet.first.steps = []
        second = ask(http)
    costs = [float(told.headers["x-nearvote-expected-cost"]) for told in (first, second)]
    assert costs[1] / costs[0] == pytest.approx(20 / 30)
    assert second.headers["x-nearvote-cost"] == f"{30 * 20 / 1e6:.8f}"


def test_full_evidence_has_every_attempt(failing_fleet: FailingFleet) -> None:
    failing_fleet.first.steps = [answer(NO, status=b"500 Oops")]
    with failing_fleet.client() as http:
        told = ask(http, evidence="full").json()["nearvote"]
    [attempt] = told["attempts"]
    assert 0 < attempt.pop("ms") < 5000
    assert attempt == {"model": "first", "host": failing_fleet.first.url.split("/")[2], "fault": "500"}
    assert (told["model"], told["cause"], told["requested"]) == ("second", "failover", "auto")
    assert told["fallbacks"] == ["second", "elsewhere", "nowhere"]


def test_a_refused_connection_leads_to_the_model_s_other_deployment(failing_fleet: FailingFleet) -> None:
    with failing_fleet.client() as http:
        told = [ask(http, "elsewhere") for _ in range(20)]
    assert {each.status_code for each in told} == {200}
    assert {served(each) for each in told} == {("elsewhere", "named", None), ("elsewhere", "named", "1")}
    # Three refusals open the circuit: it is not knocked at for each request.
    assert sum(served(each)[2] == "1" for each in told) == 3


def test_a_named_model_never_becomes_another(failing_fleet: FailingFleet) -> None:
    failing_fleet.first.steps = [answer(NO, status=b"404 What")]
    with failing_fleet.client() as http:
        told = ask(http, "first")
    assert (told.status_code, told.content, served(told)) == (404, NO, ("first", "named", "1"))
    assert failing_fleet.second.received == []


def test_when_nobody_answers_the_last_upstream_s_words_come_back(failing_fleet: FailingFleet) -> None:
    failing_fleet.first.steps = [answer(NO, status=b"401 Who")]
    words = b'{ "error": {"message": "the last"} }'
    failing_fleet.second.steps = [answer(words, b"x-request-id: r-2", status=b"404 What")]
    key = failing_fleet.key(exclude=["nowhere"])
    with failing_fleet.client(key) as http:
        told = ask(http)
    assert (told.status_code, told.content, told.headers["x-request-id"]) == (404, words, "r-2")
    assert int(told.headers["x-nearvote-failed-attempts"]) >= 3
    assert last_record(failing_fleet, told)["error"] == "404"


def test_each_try_presents_its_own_deployment_s_key(failing_fleet: FailingFleet) -> None:
    failing_fleet.first.steps = []
    with failing_fleet.client() as http:
        ask(http)
    sent = [upstream.received[0].headers["authorization"] for upstream in (failing_fleet.first, failing_fleet.second)]
    assert sent == ["Bearer sk-dead", "Bearer sk-good"]


def test_failures_leave_the_budget_as_it_was(failing_fleet: FailingFleet) -> None:
    key = failing_fleet.key(budget_total=1.0)
    failing_fleet.first.steps = [answer(NO, status=b"401 Who")]
    with failing_fleet.client(key) as http:
        for _ in range(3):
            assert ask(http, "first").status_code == 502  # a refused key is ours, and told in our words
        until(lambda: spent(failing_fleet, key) == (3, 0))
        assert ask(http).headers["x-nearvote-model"] == "second"
    until(lambda: spent(failing_fleet, key) == (4, 30 * 20 * 1000))  # 30 tokens at $20 a million, in billionths


@pytest.mark.parametrize(
    ("budget", "status", "first_asked"), [(0.003, 500, 0), (0.0031, 200, 1)], ids=["too little", "enough"]
)
def test_a_dearer_model_is_asked_instead_only_where_the_budget_has_room_for_it(
    failing_fleet: FailingFleet, budget: float, status: int, first_asked: int
) -> None:
    # 3 tokens and the 100 that may be answered: 0.00206 dollars on second, 0.00309 on first.
    key = failing_fleet.key(budget_total=budget, default_model="second", allow=("first", "second"))
    failing_fleet.second.steps = [answer(NO, status=b"500 Oops")]
    with failing_fleet.client(key) as http:
        told = ask(http)
    assert (told.status_code, len(failing_fleet.first.received)) == (status, first_asked)
    paid = first_asked * 30 * 30 * 1000  # for 10 tokens and 20, in billionths
    until(lambda: spent(failing_fleet, key) == (1, paid))


@pytest.mark.parametrize("begun", [[], [EVENT_STREAM, b": wait\n\n"]], ids=["before the head", "after it"])
def test_a_client_that_leaves_cancels_the_call_and_pays_once_what_was_expected(
    failing_fleet: FailingFleet, begun: list[Step]
) -> None:
    failing_fleet.first.steps = [*begun, threading.Event()]
    key = failing_fleet.key(budget_total=1.0)
    with failing_fleet.client(key, FIRST_BYTE_S / 2) as http, pytest.raises(httpx.ReadTimeout):
        ask(http, stream=True)
    assert failing_fleet.first.left.wait(5)
    # 3 tokens and the 100 that may be answered, at $30 a million: the provider is at work, and is paid.
    until(lambda: spent(failing_fleet, key) == (1, 103 * 30 * 1000))
    assert failing_fleet.second.received == []


def spent(fleet: FailingFleet, key: str) -> tuple[int, int]:
    """Requests, and billionths of a dollar."""
    counted = fleet.counted(key)
    return counted.get("requests", 0), counted.get("spent", 0)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def last_record(fleet: FailingFleet, told: httpx.Response) -> dict[str, Any]:
    decision = told.headers["x-nearvote-decision-id"].encode()
    until(lambda: decision in fleet.server.log.read_bytes())
    [line] = [line for line in fleet.server.log.read_bytes().splitlines() if decision in line]
    return dict(orjson.loads(line[line.index(b"{") :]))
