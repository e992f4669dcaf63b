"""Newton's method on one group after another, compiled by Numba.

Bounds are met without a branch, each pass reads them once and leaves its powers behind, so that
the last one needs no other to write them, and sums may be reordered, which lets the compiler add
eight numbers at a time. Looking at a padded copy of small groups, or at sixteen groups side by
side, was tried too, and is slower.
"""

from __future__ import annotations

from numba import njit

from benchmarks.workloads import Floats, Integers

MOST_STEPS = 100


def newton(
    minimum: Floats, maximum: Floats, capacity: Floats, offsets: Integers, power: Floats
) -> None:
    """Share each group's capacity among its connectors."""
    for g in range(capacity.size):
        low = minimum[offsets[g] : offsets[g + 1]]
        high = maximum[offsets[g] : offsets[g + 1]]
        share = power[offsets[g] : offsets[g + 1]]
        n, budget = low.size, capacity[g]
        level = budget / n
        most, drawn, rising = 0.0, 0.0, 0.0
        for i in range(n):
            x = min(max(low[i], level), high[i])
            share[i] = x
            most += high[i]
            drawn += x
            # Who stands at a bound counts as rising: the step is too short there, never too long.
            rising += 1.0 if x == level else 0.0
        if most <= budget:
            share[:] = high
            continue
        below, above = 0.0, -1.0
        for _ in range(MOST_STEPS):
            left = budget - drawn
            if abs(left) <= max(1e-9 * rising, 1e-13 * budget):
                break
            if left > 0:
                below = level
            else:
                above = level
            step = level + left / rising if rising > 0.0 else -1.0
            if not (below < step and (above < 0.0 or step < above)):
                # Nobody rises there, or a step came back: the bracket is halved instead.
                if above < 0.0:
                    for i in range(n):
                        above = max(above, high[i])
                step = (below + above) / 2
            level = step
            drawn, rising = 0.0, 0.0
            for i in range(n):
                x = min(max(low[i], level), high[i])
                share[i] = x
                drawn += x
                rising += 1.0 if x == level else 0.0


solve = njit(
    fastmath={"reassoc", "nsz", "arcp", "contract", "nnan"},
    error_model="numpy",
)(newton)
