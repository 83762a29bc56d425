"""What is kept of a request: one JSON log line, without prompt, answer or key."""

import logging
from typing import Any

import orjson

from handler.flow import Decision, Outcome
from handler.keys import KeyRecord

log = logging.getLogger("nearvote.requests")


def record(decision: Decision, key: KeyRecord, outcome: Outcome) -> None:
    usage = outcome.usage
    _write(
        {
            "event": "request",
            **_stamp(decision, key),
            "status": outcome.status,
            "stream": outcome.stream,
            "overhead_ms": round(outcome.overhead_ms, 2),
            "total_ms": round(outcome.total_ms, 1),
            "input_tokens": usage and usage.input_tokens,
            "cached_tokens": usage and usage.cached_tokens,
            "output_tokens": usage and usage.output_tokens,
            "cost": outcome.cost,
            "saved": outcome.saved,
            "failed_attempts": [f"{one.model} {one.host} {one.fault}" for one in decision.attempts] or None,
            "error": outcome.error or None,
        }
    )


def record_forecast(forecast: Decision, decision: Decision, key: KeyRecord) -> None:
    """What routing would have done with a request that was not routed."""
    _write({"event": "forecast", **_stamp(forecast, key), "of": decision.id, "served": decision.model})


def _stamp(decision: Decision, key: KeyRecord) -> dict[str, Any]:
    return {
        "decision_id": decision.id,
        "key": key.id,
        "requested": decision.requested,
        "model": decision.model,
        "cause": decision.cause.value,
        "rule": decision.rule or None,
        "confidence": decision.confidence,
        "expected_cost": decision.cost,
        "dearest_cost": max((one.cost for one in decision.ranking), default=None),
        "index_version": decision.index_version or None,
        "fleet_version": decision.fleet_version,
    }


def _write(line: dict[str, Any]) -> None:
    log.info("%s", orjson.dumps(line).decode())
