"""Decision → what the caller is shown: headers on every answer, all of it on request."""

from dataclasses import asdict
from typing import Any

import orjson

from handler.flow import Decision

FIELD = "nearvote"
"""Where full evidence stands in a body or a stream's last chunk."""


def headers(decision: Decision, overhead_ms: float, cost: float | None) -> dict[str, str]:
    """`cost`: dollars as measured; None while they are not known, when only the expected cost is told."""
    shown = {
        "model": decision.model,
        "cause": decision.cause.value,
        "decision-id": decision.id,
        "index-version": decision.index_version or "none",
        "overhead-ms": f"{overhead_ms:.1f}",
        "expected-cost": f"{decision.cost:.8f}",
        "confidence": None if decision.confidence is None else f"{decision.confidence:.3f}",
        "cost": None if cost is None else f"{cost:.8f}",
        "rule": decision.rule or None,
        "failed-attempts": str(len(decision.attempts)) if decision.attempts else None,
    }
    return {f"x-nearvote-{name}": value for name, value in shown.items() if value is not None}


def full(decision: Decision) -> dict[str, Any]:
    return {
        "decision_id": decision.id,
        "model": decision.model,
        "cause": decision.cause.value,
        "detail": decision.detail or None,
        "rule": decision.rule or None,
        "requested": decision.requested,
        "confidence": _rounded(decision.confidence),
        "dial": decision.dial,
        "promised_quality": _rounded(decision.promised_quality),
        "promised_spend": decision.promised_spend,
        "nearest": _rounded(decision.nearest),
        "expected_cost": decision.cost,
        "cached_tokens": decision.cached_tokens,
        "fallbacks": list(decision.fallbacks),
        "attempts": [asdict(attempt) for attempt in decision.attempts],
        "ranking": [
            {
                "model": one.model,
                "quality": _rounded(one.quality),
                "vote": _rounded(one.vote),
                "terms": {name: round(value, 4) for name, value in one.terms.items()},
                "support": _rounded(one.support),
                "expected_cost": one.cost,
                "expected_latency_ms": one.latency_ms and round(one.latency_ms),
            }
            for one in decision.ranking
        ],
        "neighbours": [
            {
                "id": one.id,
                "similarity": _rounded(one.similarity),
                "weight": _rounded(one.weight),
                "prompt": one.prompt,
                "scores": one.scores,
                "source": one.source,
            }
            for one in decision.neighbours
        ],
        "index_version": decision.index_version or None,
        "fleet_version": decision.fleet_version,
        "embedder": decision.fingerprint or None,
    }


def in_body(body: bytes, decision: Decision) -> bytes:
    """A JSON answer with the evidence in it; one that is not a JSON object stays as it is."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body
    return orjson.dumps({**answer, FIELD: full(decision)}) if isinstance(answer, dict) else body


def as_event(decision: Decision, _: int) -> bytes:
    """An event of its own, which clients that do not know it pass over."""
    return b"event: nearvote\ndata: " + orjson.dumps({"type": FIELD, FIELD: full(decision)}) + b"\n\n"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
