"""The exact powers of workloads with weights, priorities, steps or parents.

By the definition, in whole numbers, and unlike the kernel in method: the level of every group is
found by halving. Every group has a connector and fits its minimums.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from benchmarks.workloads import QUANTA_PER_KW, WEIGHT_PARTS, Floats, Integers, Workload, quanta


def powers(workload: Workload, k: int) -> Floats:
    """Return what each connector gets under the k-th capacities; one kind of option at a time."""
    low, high = quanta(workload.minimum), quanta(workload.maximum)
    capacity, offsets = quanta(workload.capacities[k]), workload.offsets
    match workload.options:
        case {"parent": parent}:
            got = _in_tree(low, high, capacity, offsets, parent)
        case {"weight": weight}:
            got = _weighted(low, high, capacity, offsets, weight)
        case {"priority": priority}:
            got = _in_tiers(low, high, capacity, offsets, priority)
        case {"step": step}:
            got = _in_steps(low, high, capacity, offsets, round(step * QUANTA_PER_KW))
        case _:
            got, _ = _fill(low, high, capacity, offsets)
    return got / QUANTA_PER_KW


def _in_tree(
    low: Integers, high: Integers, capacity: Integers, offsets: Integers, parent: Integers
) -> Integers:
    """Fill a level of the tree over what the one below it left; leaves come first, then parents."""
    got, sizes = high, np.diff(offsets)
    first, n_groups = 0, int(np.count_nonzero(sizes))
    while n_groups:
        ends = np.concatenate(([0], np.cumsum(sizes[:n_groups])))
        got, _ = _fill(low, got, capacity[first : first + n_groups], ends)
        above = parent[first : first + n_groups]
        first += n_groups
        above = above[above >= 0] - first
        sizes = np.bincount(above, weights=sizes[: above.size]).astype(np.int64)
        n_groups = sizes.size
    return got


def _in_tiers(
    low: Integers, high: Integers, capacity: Integers, offsets: Integers, priority: Integers
) -> Integers:
    """Fill one tier after another, all others held where they are."""
    got = low
    bound = np.zeros(capacity.size, np.bool_)
    for tier in np.unique(priority)[::-1]:
        rises = (priority == tier) & ~np.repeat(bound, np.diff(offsets))
        got, limited = _fill(got, np.where(rises, high, got), capacity, offsets)
        bound |= limited
    return got


def _in_steps(
    low: Integers, high: Integers, capacity: Integers, offsets: Integers, step: int
) -> Integers:
    """Fill in whole steps, and give what is left to the first who could take one more."""
    low, high, capacity = -(-low // step), high // step, capacity // step
    got, _ = _fill(low, high, capacity, offsets)
    start, sizes = offsets[:-1], np.diff(offsets)
    nobody = np.iinfo(np.int64).max
    level = np.minimum.reduceat(np.where(got < high, got, nobody), start)
    rises = (got < high) & (got == np.repeat(level, sizes))
    line = np.cumsum(rises)
    place = line - np.repeat(line[start] - rises[start], sizes)
    left = capacity - np.add.reduceat(got, start)
    got += rises & (place <= np.repeat(left, sizes))
    return got * step


def _weighted(
    low: Integers, high: Integers, capacity: Integers, offsets: Integers, weight: Floats
) -> Integers:
    """Fill up to the level times the weight; levels are multiples of a power of two.

    It is the largest that raises nobody by more than one quantum.
    """
    start, sizes = offsets[:-1], np.diff(offsets)
    parts = np.rint(weight * WEIGHT_PARTS).astype(np.int64)
    heaviest = np.maximum.reduceat(np.where(low < high, parts, 1), start)
    # Level l of a group stands for l / 2**shift parts of a weight.
    shift = np.repeat(np.ceil(np.log2(heaviest)).astype(np.int64), sizes)
    top = np.maximum.reduceat(-(-(high << shift) // parts), start)
    got, _ = _fill(low, high, capacity, offsets, lambda level: (level * parts) >> shift, top)
    return got


def _fill(
    low: Integers,
    high: Integers,
    capacity: Integers,
    offsets: Integers,
    wanted: Callable[[Integers], Integers] = lambda level: level,
    top: Integers | None = None,
) -> tuple[Integers, npt.NDArray[np.bool_]]:
    """Return what all get at the highest level that fits, and which groups it limits."""
    start, sizes = offsets[:-1], np.diff(offsets)

    def drawn(level: Integers) -> Integers:
        return np.clip(wanted(np.repeat(level, sizes)), low, high)

    fits = np.zeros(capacity.size, np.int64)
    above = np.maximum.reduceat(high, start) if top is None else top.copy()
    limited = np.add.reduceat(high, start) > capacity
    fits[~limited] = above[~limited]
    while (above - fits > 1).any():
        middle = (fits + above) // 2
        fit = np.add.reduceat(drawn(middle), start) <= capacity
        fits, above = np.where(fit, middle, fits), np.where(fit, above, middle)
    return drawn(fits), limited
