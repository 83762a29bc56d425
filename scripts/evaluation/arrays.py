from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Numbers: TypeAlias = NDArray[np.floating[Any]]
"""float32 or float64 of any shape; the docstring of what takes or returns it gives the shape."""
