"""What the comparison makes of its figures; nothing is started."""

from pathlib import Path

import pytest

from tests.bench.gateway import AUTO, DIRECT, LITELLM, NAMED, PORTKEY, STREAM, WHOLE, Row, aims
from tests.bench.peers import gateways


def row(target: str, per_second: float, added: float, answer: str = WHOLE) -> Row:
    times = {"p50_ms": 1.0, "p95_ms": 1.0, "p99_ms": 1.0, "added_p95_ms": 1.0, "added_p99_ms": 1.0}
    return Row(target, answer, 16, per_second, None, added_p50_ms=added, memory_mb=None, **times)


def test_aims_compare_whole_answers_with_those_of_other_gateways() -> None:
    rows = [
        row(DIRECT, 10_000.0, 0.0),
        row(NAMED, 1200.0, 2.0),
        row(AUTO, 40.0, 30.0),
        row(LITELLM, 60.0, 10.0),
        row(PORTKEY, 1200.0, 5.0),
        row(LITELLM, 1.0, 1.0, answer=STREAM),
    ]
    assert [(aim.what, aim.measured, aim.at_most, aim.met) for aim in aims(rows)] == [
        ("LiteLLM's requests/s, of named nearvote's, callers: 16", 0.05, 0.0833, True),
        ("Portkey's requests/s, of named nearvote's, callers: 16", 1.0, 1.0, True),
        ("LiteLLM's requests/s, of nearvote's with auto, callers: 16", 1.5, 1.0, False),
        ("added by named nearvote, p50, of what LiteLLM adds, callers: 16", 0.2, 0.125, False),
    ]


def test_other_gateways_that_are_not_there_are_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gateways, "LITELLM", tmp_path / "litellm")
    with pytest.raises(RuntimeError, match="make bench-gateway"):
        gateways.check_installed()
