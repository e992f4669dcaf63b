"""Whether powers are the answer, told from the powers alone, in whole numbers."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from benchmarks.workloads import QUANTA_PER_KW, Batch, Floats, quanta

_CONNECTORS = 1 << 20  # looked at together, so that a large batch is not held many times over


def assert_exact(power: Floats, batch: Batch) -> None:
    """Assert that the powers are max-min fair and exact to the last quantum.

    They are if each group stays within its capacity, everybody between the bounds is at one level
    with nobody held above or below it but by the own bounds, and one more quantum for all who can
    rise would not fit. Bounds and capacities must be whole numbers of quanta.
    """
    assert power.shape == batch.minimum.shape
    n_blocks = -(-power.size // _CONNECTORS)
    shares = np.linspace(0, power.size, n_blocks + 1)
    ends = np.unique(np.searchsorted(batch.offsets, shares)).tolist()
    for first, last in pairwise(ends):
        start, stop = batch.offsets[first], batch.offsets[last]
        part = Batch(
            batch.minimum[start:stop],
            batch.maximum[start:stop],
            batch.capacity[first:last],
            batch.offsets[first : last + 1] - start,
        )
        _assert_exact(power[start:stop], part)


def _assert_exact(power: Floats, batch: Batch) -> None:
    assert (batch.minimum <= power).all(), "a power is below its minimum"
    assert (power <= batch.maximum).all(), "a power is above its maximum"

    start, sizes = batch.offsets[:-1], np.diff(batch.offsets)
    low, high, got = quanta(batch.minimum), quanta(batch.maximum), quanta(power)
    assert (power == got / QUANTA_PER_KW).all(), "a power is no whole number of quanta"
    used, capacity = np.add.reduceat(got, start), quanta(batch.capacity)
    assert (used <= capacity).all(), "a group is over its capacity"

    # Who got more than the minimum is at the level at most, who could take more at least.
    nobody = np.iinfo(np.int64).max
    highest = np.maximum.reduceat(np.where(got > low, got, -1), start)
    lowest = np.minimum.reduceat(np.where(got < high, got, nobody), start)
    assert (highest <= lowest).all(), "somebody has more than another who could take it"

    rising = (got < high) & (got == np.repeat(lowest, sizes))
    growth = np.add.reduceat(rising, start, dtype=np.int64)
    limited = lowest < nobody
    assert (used + growth > capacity)[limited].all(), "a group could rise by a quantum"


def assert_close(power: Floats, exact: Floats, kw: float = 1.0 / QUANTA_PER_KW) -> None:
    """Assert that the powers of a solver that counts in doubles are the exact ones.

    The exact level is the true one taken down to a whole quantum, so less than a quantum lies
    between them, plus a few roundings in sums of up to a million connectors.
    """
    np.testing.assert_allclose(power, exact, rtol=1e-8, atol=kw)


def assert_within(power: Floats, batch: Batch, kw: float) -> None:
    """Assert that powers keep to bounds and capacities, whatever rule they follow."""
    assert (batch.minimum - kw <= power).all(), "a power is below its minimum"
    assert (power <= batch.maximum + kw).all(), "a power is above its maximum"
    used = np.add.reduceat(power, batch.offsets[:-1])
    assert (used <= batch.capacity + kw).all(), "a group is over its capacity"
