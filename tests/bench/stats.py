"""Times of many calls → the few figures that are reported. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds."""

    p50: float
    p95: float
    p99: float
    most: float


def summarize(seconds: Sequence[float]) -> Times:
    """Quantiles lie between the two nearest values. Raises ValueError when there are none."""
    if not seconds:
        raise ValueError("nothing was measured")
    return Times(*(round(float(ms), 3) for ms in np.quantile(np.asarray(seconds) * 1000, (0.5, 0.95, 0.99, 1.0))))


def ratio(one: float, other: float) -> float:
    return round(one / other, 3)
