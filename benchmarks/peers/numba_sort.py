"""Sorted bounds of one group after another, merged until its capacity is drawn; by Numba."""

from __future__ import annotations

import numpy as np
from numba import njit

from benchmarks.workloads import Floats, Integers


@njit(error_model="numpy")
def solve(
    minimum: Floats, maximum: Floats, capacity: Floats, offsets: Integers, power: Floats
) -> None:
    """Share each group's capacity among its connectors."""
    for g in range(capacity.size):
        low = minimum[offsets[g] : offsets[g + 1]]
        high = maximum[offsets[g] : offsets[g + 1]]
        share = power[offsets[g] : offsets[g + 1]]
        n, budget = low.size, capacity[g]
        if high.sum() <= budget:
            share[:] = high
            continue
        starts, ends = np.sort(low), np.sort(high)
        # One more rises from a minimum on, one less from a maximum on.
        level, left, rising, i, j = starts[0], budget - low.sum(), 0, 0, 0
        while True:
            while i < n and starts[i] <= level:
                rising += 1
                i += 1
            while ends[j] <= level:
                rising -= 1
                j += 1
            end = min(starts[i], ends[j]) if i < n else ends[j]
            if rising * (end - level) >= left:
                break
            left -= rising * (end - level)
            level = end
        if rising > 0:
            level += left / rising
        for k in range(n):
            share[k] = min(max(low[k], level), high[k])
