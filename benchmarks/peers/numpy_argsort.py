"""The water level of every group at once, by the sorting order of its bounds.

The vectorised water-fill as it is usually written: put the bounds of each group in order, let
running sums say what the group draws at each of them, and interpolate where its capacity lies.
"""

from __future__ import annotations

import numpy as np

from benchmarks.workloads import Floats, Integers


def solve(
    minimum: Floats, maximum: Floats, capacity: Floats, offsets: Integers, power: Floats
) -> None:
    """Share each group's capacity among its connectors."""
    start, sizes = offsets[:-1], np.diff(offsets)
    n, n_groups = minimum.size, sizes.size
    first, last = 2 * start, 2 * offsets[1:] - 1
    if (sizes == sizes[0]).all():
        shape = (n_groups, sizes[0])
        grouped = np.concatenate([minimum.reshape(shape), maximum.reshape(shape)], axis=1)
        order = np.argsort(grouped, axis=1)
        bounds = np.take_along_axis(grouped, order, axis=1).ravel()
        rises = (order < sizes[0]).ravel()
    else:
        owner = np.repeat(np.arange(n_groups), sizes)
        both = np.concatenate([minimum, maximum])
        order = np.lexsort((both, np.concatenate([owner, owner])))
        bounds, rises = both[order], order < n

    # One more rises from a minimum on, one less from a maximum on.
    rising = np.cumsum(np.where(rises, 1, -1))
    grown = np.zeros(2 * n)
    grown[1:] = rising[:-1] * np.diff(bounds)
    drawn = np.cumsum(grown)
    base = np.add.reduceat(minimum, start) - drawn[first]
    fits = drawn + np.repeat(base, 2 * sizes) <= np.repeat(capacity, 2 * sizes)
    # Rounding may say that not even the first bound fits, or that the last one does.
    k = np.clip(first + np.add.reduceat(fits, first, dtype=np.int64) - 1, first, last - 1)
    level = bounds[k] + (capacity - base - drawn[k]) / np.maximum(rising[k], 1)
    level[np.add.reduceat(maximum, start) <= capacity] = np.inf
    np.clip(np.repeat(level, sizes), minimum, maximum, out=power)
