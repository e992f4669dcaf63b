"""Whether powers are the answer, told from the powers alone, in whole numbers."""

from __future__ import annotations

import numpy as np

from benchmarks.workloads import QUANTA_PER_KW, Batch, Floats, Integers


def assert_exact(power: Floats, batch: Batch) -> None:
    """Assert that the powers are max-min fair and exact to the last quantum.

    They are if each group stays within its capacity, everybody between the bounds is at one level
    with nobody held above or below it but by the own bounds, and one more quantum for all who can
    rise would not fit. Bounds and capacities must be whole numbers of quanta.
    """
    assert power.shape == batch.minimum.shape
    assert (batch.minimum <= power).all(), "a power is below its minimum"
    assert (power <= batch.maximum).all(), "a power is above its maximum"

    start, sizes = batch.offsets[:-1], np.diff(batch.offsets)
    low, high, got = _quanta(batch.minimum), _quanta(batch.maximum), _quanta(power)
    used, capacity = np.add.reduceat(got, start), _quanta(batch.capacity)
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


def assert_close(power: Floats, exact: Floats) -> None:
    """Assert that the powers of a solver that counts in doubles are the exact ones.

    The exact level is the true one taken down to a whole quantum, so less than a quantum lies
    between them, plus a few roundings in sums of up to a million connectors.
    """
    np.testing.assert_allclose(power, exact, rtol=1e-8, atol=1.0 / QUANTA_PER_KW)


def _quanta(kw: Floats) -> Integers:
    return np.rint(kw * QUANTA_PER_KW).astype(np.int64)
