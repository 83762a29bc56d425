"""Times of many calls → the few figures that are reported. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds."""

    p50: float
    p95: float
    most: float


def summarize(seconds: Sequence[float]) -> Times:
    """Quantiles lie between the two nearest values. Raises ValueError when there are none."""
    if not seconds:
        raise ValueError("nothing was measured")
    p50, p95, most = np.quantile(np.asarray(seconds) * 1000, (0.5, 0.95, 1.0))
    return Times(round(float(p50), 3), round(float(p95), 3), round(float(most), 3))


def ratio(one: float, other: float) -> float:
    return round(one / other, 3)
