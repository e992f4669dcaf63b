"""Newton's method on some groups at a time, so that its temporary arrays stay in cache."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from benchmarks.peers import numpy_newton
from benchmarks.workloads import Floats, Integers

_CONNECTORS = 1 << 16  # in a block: ten arrays of so many doubles fit beside each other


def solve(
    minimum: Floats, maximum: Floats, capacity: Floats, offsets: Integers, power: Floats
) -> None:
    """Share each group's capacity among its connectors."""
    n_blocks = -(-minimum.size // _CONNECTORS)
    shares = np.linspace(0, minimum.size, n_blocks + 1)
    ends = np.unique(np.searchsorted(offsets, shares)).tolist()
    for first, last in pairwise(ends):
        start, stop = offsets[first], offsets[last]
        numpy_newton.solve(
            minimum[start:stop],
            maximum[start:stop],
            capacity[first:last],
            offsets[first : last + 1] - start,
            power[start:stop],
        )
