"""The water level of one group after another, by SciPy's root finder."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy.optimize import brentq  # type: ignore[import-untyped]

from benchmarks.workloads import Floats, Integers


def solve(
    minimum: Floats, maximum: Floats, capacity: Floats, offsets: Integers, power: Floats
) -> None:
    """Share each group's capacity among its connectors."""
    ends = offsets.tolist()
    for budget, (start, stop) in zip(capacity.tolist(), pairwise(ends), strict=True):
        power[start:stop] = _fill(minimum[start:stop], maximum[start:stop], budget)


def _fill(low: Floats, high: Floats, budget: float) -> Floats:
    def excess(level: float) -> float:
        return float(np.minimum(np.maximum(low, level), high).sum() - budget)

    if high.sum() <= budget:
        return high
    if low.sum() >= budget:
        return low
    level: float = brentq(excess, low.min(), high.max(), xtol=1e-9)
    return np.minimum(np.maximum(low, level), high)
