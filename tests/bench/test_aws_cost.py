"""What AWS charges, worked out by hand."""

import inspect
import logging
import re

import pytest

from handler.data.record import log, record
from handler.flow import Cause, Decision, Outcome, Ranked, Usage
from handler.keys import KeyRecord, KeyStore
from tests.bench import aws_cost
from tests.bench.aws_cost import Load, per_million
from tests.infra.artifact import ROOT


def test_a_million_requests_of_two_seconds_cost_what_a_hand_works_out() -> None:
    bill = per_million(
        Load(2.0, memory_mb=1024, answer_bytes=98_000, poll_seconds=4.0, logged_bytes=1_000, architecture="arm64")
    )
    # 2,000,000 GB-seconds at $0.0000133334, and a million calls at $0.20.
    assert bill.function == pytest.approx(26.8668)
    assert bill.api == pytest.approx(3.50)
    # 98,000 bytes out to the client and 2,000 to the model, a million times: 100 GB at $0.09.
    assert bill.transfer == pytest.approx(9.00)
    # A look every other request, of two GETs: a million GETs at $0.40.
    assert bill.index == pytest.approx(0.40)
    # Two requests for three seconds that a key is kept: 666,667 reads at $0.125 a million.
    assert bill.keys == pytest.approx(0.125 * 2 / 3)
    # 1 GB.
    assert bill.logs == pytest.approx(0.50)
    assert bill.total == pytest.approx(26.8668 + 3.50 + 9.00 + 0.40 + 0.125 * 2 / 3 + 0.50)


@pytest.mark.parametrize("poll_seconds", [0.0, 2.0, 8.0])
def test_no_request_looks_twice_or_reads_its_key_twice(poll_seconds: float) -> None:
    bill = per_million(Load(8.0, poll_seconds=poll_seconds))
    assert bill.index == pytest.approx(0.80)
    assert bill.keys == pytest.approx(0.125)


def test_what_is_deployed_is_what_is_priced() -> None:
    template = (ROOT / "template.yaml").read_text()
    default = re.search(r"^  DataMemory:\n    Type: Number\n    Default: (\d+)$", template, re.MULTILINE)
    assert default is not None
    assert int(default[1]) == Load(1.0).memory_mb
    assert "NEARVOTE_POLL_SECONDS" not in template


def test_a_key_is_kept_as_long_as_is_priced() -> None:
    assert inspect.signature(KeyStore).parameters["ttl"].default == aws_cost.KEY_SECONDS


def test_a_request_line_is_no_longer_than_is_priced(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", lambda line: lines.append(line.getMessage()))
    monkeypatch.setattr(log, "handlers", [handler])
    monkeypatch.setattr(log, "level", logging.INFO)
    key = KeyRecord(id="0" * 12, name="app", digest="0" * 64, created_at="2026-01-01T00:00:00+00:00")
    ranking = (Ranked("a-model-of-a-usual-length-20250929", 0.9, 0.0123456, 0.4),)
    decision = Decision(
        f"dec-{'0' * 24}",
        ranking[0].model,
        Cause.VOTE,
        "auto",
        0.0123456,
        0.7512,
        ranking=ranking,
        index_version="0" * 16,
        fleet_version="0" * 16,
    )
    record(decision, key, Outcome(200, True, 12.34, 8000.1, Usage(1000, 500), 0.0123456))
    assert [aws_cost.REQUEST_LINE_BYTES * 0.8 < len(line) <= aws_cost.REQUEST_LINE_BYTES for line in lines] == [True]
