"""The water level of every group at once, by sorting bounds.

What a group draws grows by the level's growth times the number of connectors whose minimum it has
passed and whose maximum it has not, so two running sums over the sorted bounds say what is drawn
at each of them, and a binary search finds the two that the level lies between. NumPy sorts plain
integers several times faster than it finds a sorting order, so a bound becomes an integer in
fixed point that carries along in its last bit which bound it is, and in its first bits, where
groups differ in size, whose.
"""

from __future__ import annotations

import numpy as np

from benchmarks.workloads import Floats, Integers

_BITS = 62  # of an integer, beside its sign


def solve(
    minimum: Floats, maximum: Floats, capacity: Floats, offsets: Integers, power: Floats
) -> None:
    """Share each group's capacity among its connectors."""
    start, stop, sizes = offsets[:-1], offsets[1:], np.diff(offsets)
    n, n_groups = minimum.size, sizes.size
    alike = bool((sizes == sizes[0]).all())
    group_bits = 0 if alike else n_groups.bit_length()
    # The largest bound must fit between the number of its group and the last bit, and all bounds
    # together into one sum.
    scale = 2.0 ** min(
        _BITS - 1 - group_bits - np.frexp(maximum.max())[1],
        _BITS - 1 - np.frexp(maximum.sum())[1],
    )

    bounds = np.empty(2 * n, np.int64)
    shape = (n_groups, 2, int(sizes[0])) if alike else (1, 2, n)
    low, high = bounds.reshape(shape).swapaxes(0, 1)
    np.multiply(minimum.reshape(low.shape), 2.0 * scale, out=low, casting="unsafe")
    np.multiply(maximum.reshape(high.shape), 2.0 * scale, out=high, casting="unsafe")
    low &= ~1
    high |= 1
    if alike:
        bounds.reshape(n_groups, -1).sort(axis=1)
    else:
        owner = np.repeat(np.arange(n_groups) << (_BITS - group_bits), sizes)
        low |= owner
        high |= owner
        bounds.sort()
        bounds &= (1 << (_BITS - group_bits)) - 1

    # One more rises from a minimum on, one less from a maximum on.
    rising = bounds & 1
    rising *= -2
    rising += 1
    np.cumsum(rising, out=rising)
    bounds >>= 1
    # Nobody rises from the last bound of a group to the first of the next.
    drawn = np.empty_like(bounds)
    drawn[0] = 0
    np.subtract(bounds[1:], bounds[:-1], out=drawn[1:])
    drawn[1:] *= rising[:-1]
    np.cumsum(drawn, out=drawn)

    level = np.full(n_groups, np.inf)
    g = np.flatnonzero(np.add.reduceat(maximum, start) > capacity)
    spare = (capacity - np.add.reduceat(minimum, start))[g]
    wanted = drawn[2 * start[g]] + np.rint(spare * scale).astype(np.int64)
    # Rounding may have moved what a group wants past its last bound or before its first.
    k = np.searchsorted(drawn, wanted, side="right") - 1
    k = np.clip(k, 2 * start[g], 2 * stop[g] - 2)
    level[g] = (bounds[k] + (wanted - drawn[k]) / rising[k]) / scale

    np.maximum(np.repeat(level, sizes), minimum, out=power)
    np.minimum(power, maximum, out=power)
