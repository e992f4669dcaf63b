"""Named, seeded workloads: the same arrays on every machine and in every run.

Every value is a whole number of milliwatts, so that what each connector must get is known to the
last quantum. Every group has a connector and fits its minimums: peers know no admission.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]

QUANTA_PER_KW = 1_000_000

# What connectors are rated at, how common that is, and what they need to sustain a session: kW.
RATINGS = (3.7, 7.4, 11.0, 22.0, 50.0, 150.0)
RATING_SHARES = (0.10, 0.20, 0.30, 0.25, 0.10, 0.05)
MINIMUMS = (1.4, 4.1, 5.0, 10.0)

# Of the groups, 20 % can give everybody the maximum and 10 % hardly more than the minimums.
UNCONSTRAINED, TIGHT = 0.2, 0.9


class Batch(NamedTuple):
    """What a solver takes: group ``g`` owns connectors ``offsets[g]:offsets[g + 1]``."""

    minimum: Floats
    maximum: Floats
    capacity: Floats
    offsets: Integers


@dataclass(frozen=True, eq=False)
class Workload:
    """Groups to share capacity in, and how they are handed to a solver."""

    name: str
    batch: Batch
    one_by_one: bool = False
    """Whether every group is a call of its own, as from an event loop; otherwise all are one."""

    @property
    def n_groups(self) -> int:
        """How many groups there are."""
        return self.batch.capacity.size

    @property
    def n_connectors(self) -> int:
        """How many connectors all groups have together."""
        return self.batch.minimum.size

    def calls(self) -> list[Batch]:
        """Return the arguments of each call that solves a part of the workload."""
        if not self.one_by_one:
            return [self.batch]
        return [_groups(self.batch, [g]) for g in range(self.n_groups)]

    def sample(self, most: int) -> Workload:
        """Return the workload with at most so many of its groups, small and large in proportion."""
        if self.n_groups <= most:
            return self
        by_size = np.argsort(np.diff(self.batch.offsets), kind="stable")
        places = (np.arange(most) + 0.5) * self.n_groups / most
        chosen = np.sort(by_size[places.astype(np.int64)])
        return Workload(self.name, _groups(self.batch, chosen), self.one_by_one)


def _groups(batch: Batch, chosen: npt.ArrayLike) -> Batch:
    """Return some groups of a batch as a batch."""
    chosen = np.asarray(chosen)
    start, sizes = batch.offsets[chosen], np.diff(batch.offsets)[chosen]
    offsets = np.concatenate(([0], np.cumsum(sizes)))
    connectors = np.repeat(start - offsets[:-1], sizes) + np.arange(offsets[-1])
    return Batch(
        batch.minimum[connectors], batch.maximum[connectors], batch.capacity[chosen], offsets
    )


def _equal(n_groups: int, size: int) -> Callable[[np.random.Generator], Integers]:
    return lambda rng: np.full(n_groups, size, np.int64)


def _power_law(rng: np.random.Generator) -> Integers:
    """Return sizes of density ``size**-1.5`` on 1..5000 that add up to a million connectors."""
    most, n_connectors = 5000, 1_000_000
    uniform = rng.random(n_connectors)
    sizes: Integers = np.floor((1.0 - uniform * (1.0 - most**-0.5)) ** -2).astype(np.int64)
    ends = np.cumsum(sizes)
    n_groups = int(np.searchsorted(ends, n_connectors)) + 1
    sizes[n_groups - 1] -= ends[n_groups - 1] - n_connectors
    return sizes[:n_groups]


class _Recipe(NamedTuple):
    seed: int
    sizes: Callable[[np.random.Generator], Integers]
    one_by_one: bool = False


_SHAPES = {
    "10000x50": _Recipe(1, _equal(10_000, 50)),
    "100000x8": _Recipe(2, _equal(100_000, 8)),
    "100x10000": _Recipe(3, _equal(100, 10_000)),
    "1x1000000": _Recipe(4, _equal(1, 1_000_000)),
    # Many different groups: one over and over would teach the branch predictor its answer.
    "1x20-per-call": _Recipe(5, _equal(256, 20), one_by_one=True),
    "power-law": _Recipe(6, _power_law),
}
_VALUES = ("discrete", "continuous")

NAMES = tuple(f"{shape}-{values}" for shape in _SHAPES for values in _VALUES)
"""What `load` knows: discrete bounds have ties everywhere, continuous ones next to none."""


def load(name: str) -> Workload:
    """Make the workload of that name.

    Examples
    --------
    >>> workload = load("10000x50-discrete")
    >>> workload.n_groups, workload.n_connectors
    (10000, 500000)

    """
    shape, _, values = name.rpartition("-")
    seed, make_sizes, one_by_one = _SHAPES[shape]
    rng = np.random.default_rng(seed)
    sizes = make_sizes(rng)
    offsets = np.concatenate(([0], np.cumsum(sizes)))
    low, high = _bounds(rng, int(offsets[-1]), continuous=values == "continuous")
    capacity = _capacities(
        rng, np.add.reduceat(low, offsets[:-1]), np.add.reduceat(high, offsets[:-1])
    )
    batch = Batch(low / QUANTA_PER_KW, high / QUANTA_PER_KW, capacity / QUANTA_PER_KW, offsets)
    return Workload(name, batch, one_by_one)


def _bounds(rng: np.random.Generator, n: int, *, continuous: bool) -> tuple[Integers, Integers]:
    """Draw minimums and maximums in quanta."""
    ratings, minimums = np.array(RATINGS), np.array(MINIMUMS)
    high = rng.choice(ratings, n, p=RATING_SHARES)
    # Each is equally likely among those that are not above the rating.
    n_fitting = np.searchsorted(minimums, high, side="right")
    low = minimums[rng.integers(0, n_fitting)]
    if continuous:
        high *= rng.uniform(0.4, 1.0, n)
        low = np.minimum(low * rng.uniform(0.7, 1.0, n), high)
    return _quanta(low), _quanta(high)


def _capacities(rng: np.random.Generator, least: Integers, most: Integers) -> Integers:
    """Draw what groups with these sums of minimums and maximums may use, in quanta."""
    n = least.size
    # Dealt, not drawn: a workload of one group is neither unconstrained nor tight.
    place = rng.permutation((np.arange(n) + 0.5) / n)
    part = rng.random(n)
    return np.select(
        [place < UNCONSTRAINED, place < TIGHT],
        [_up(most * (1.0 + part)), least + _up((most - least) * part)],
        _up(least * (1.0 + 0.01 * part)),
    )


def _quanta(kw: Floats) -> Integers:
    return np.rint(kw * QUANTA_PER_KW).astype(np.int64)


def _up(quanta: Floats) -> Integers:
    return np.ceil(quanta).astype(np.int64)
