"""What the dial promised on the index, beside what it delivers on the requests that are routed. Pure."""

from dataclasses import dataclass

import numpy as np

from index.dial import Curve
from scripts.evaluation.arrays import Numbers
from scripts.evaluation.curves import choose, exchanges, settings


@dataclass(frozen=True, slots=True)
class Dialled:
    """The dial's whole settings 0 to 10. All arrays are [11]."""

    promised_spend: Numbers
    promised_quality: Numbers
    delivered_spend: Numbers
    delivered_quality: Numbers


def dialled(curve: Curve, predicted: Numbers, outcomes: Numbers, cost: Numbers) -> Dialled:
    """`predicted` and `outcomes` [q, m], `cost` [m], from cheap to dear."""
    at = rates(curve, cost)
    got = settings([choose(predicted, cost, rate) for rate in at], at, outcomes, cost)
    return Dialled(np.array(curve.spend), np.array(curve.quality), got.spend, got.quality)


def rates(curve: Curve, cost: Numbers) -> Numbers:
    """[11]; λ at each whole setting, where at the last one price alone decides."""
    return np.array([*curve.exchange[:-1], exchanges(cost)[-1]])


def quality_error(dial: Dialled) -> float:
    """The mean absolute difference between promised and delivered quality."""
    return float(np.abs(dial.promised_quality - dial.delivered_quality).mean())


def spend_error(dial: Dialled, dearest: float) -> float:
    """The same of spend, as a share of the dearest model's cost."""
    return float(np.abs(dial.promised_spend - dial.delivered_spend).mean() / dearest)
