"""What a version's own examples, each voted on by the others, say of one fleet."""

from dataclasses import dataclass

from index.calibration import Calibration
from index.dial import Curve
from index.types import Candidate


@dataclass(frozen=True, slots=True)
class Fit:
    """It depends on the fleet's prices as much as on the examples, so it holds for these candidates alone."""

    candidates: tuple[Candidate, ...]
    calibration: Calibration | None
    """None where the index is too small for one: then the neighbours' vote stands as it is."""
    curve: Curve
