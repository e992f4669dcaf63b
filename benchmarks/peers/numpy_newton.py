"""The water level of every group at once, by Newton's method on segmented sums."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from benchmarks.workloads import Floats, Integers

_MOST_STEPS = 200


def solve(
    minimum: Floats, maximum: Floats, capacity: Floats, offsets: Integers, power: Floats
) -> None:
    """Share each group's capacity among its connectors."""
    start, sizes = offsets[:-1], np.diff(offsets)
    level = np.full(sizes.size, np.inf)
    limited = np.add.reduceat(maximum, start) > capacity
    low, high = _only(limited, sizes, minimum), _only(limited, sizes, maximum)
    group, budget, n = np.flatnonzero(limited), capacity[limited], sizes[limited]
    guess = budget / n
    below, above = np.zeros(group.size), np.full(group.size, maximum.max())

    for _ in range(_MOST_STEPS):
        if not group.size:
            break
        wanted = np.repeat(guess, n)
        drawn = np.minimum(np.maximum(wanted, low), high)
        start = np.cumsum(n) - n
        # Who stands at a bound counts as rising: the step is too short there, never too long.
        rising = np.add.reduceat((drawn == wanted).view(np.int8), start, dtype=np.int64)
        left = budget - np.add.reduceat(drawn, start)
        level[group] = guess
        unsettled = np.abs(left) > np.maximum(rising * 1e-9, budget * 1e-13)

        below, above = np.where(left > 0, guess, below), np.where(left < 0, guess, above)
        # Where nobody rises the step leaves the bracket, which is halved instead.
        step = guess + left / np.maximum(rising, 1e-300)
        step = np.where((below < step) & (step < above), step, (below + above) / 2)
        guess = np.where(unsettled, step, guess)
        # Leaving groups out costs a copy of the rest, which pays when there are many.
        if 2 * np.count_nonzero(unsettled) <= unsettled.size:
            low, high = _only(unsettled, n, low), _only(unsettled, n, high)
            group, budget, n = group[unsettled], budget[unsettled], n[unsettled]
            guess, below, above = guess[unsettled], below[unsettled], above[unsettled]

    np.maximum(np.repeat(level, sizes), minimum, out=power)
    np.minimum(power, maximum, out=power)


def _only(chosen: npt.NDArray[np.bool_], sizes: Integers, values: Floats) -> Floats:
    """Return the values of connectors whose group is chosen."""
    return values[np.repeat(chosen, sizes)]
