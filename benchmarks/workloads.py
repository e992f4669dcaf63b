"""Named, seeded workloads: the same arrays on every machine and in every run.

Every value is a whole number of milliwatts, so that what each connector must get is known to the
last quantum. Every group has a connector and fits its minimums: peers know no admission.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeAlias

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

VALUES = ("discrete", "continuous")

# Weights: what operators would type, or any whole number of parts between half and double.
WEIGHTS = (0.5, 1.0, 1.5, 2.0, 3.0)
WEIGHT_PARTS = 1024

# 0.1 A on one phase of 230 V and on three, in kW.
STEP, STEP_THREE_PHASE = 0.023, 0.069

# Capacities change from call to call, so that the branch predictor learns no answer: the fewer
# connectors there are, the more often, until so many were seen.
FEWEST_CAPACITIES, MOST_CAPACITIES, TO_SEE = 2, 32, 4_000_000

# Connectors that are drawn; a larger workload repeats them.
MOST_DRAWN = 1_000_000


class Batch(NamedTuple):
    """What a solver takes: group ``g`` owns connectors ``offsets[g]:offsets[g + 1]``."""

    minimum: Floats
    maximum: Floats
    capacity: Floats
    offsets: Integers


@dataclass(frozen=True, eq=False)
class Workload:
    """Groups to share capacity in, under one vector of capacities after another."""

    name: str
    minimum: Floats
    maximum: Floats
    capacities: list[Floats]
    """Each (n_groups,)"""
    offsets: Integers
    options: dict[str, Any] = field(default_factory=dict)
    """More arguments of `wattfill.allocate`: weights, priorities, a step, parents."""

    @property
    def n_groups(self) -> int:
        """How many groups there are."""
        return self.offsets.size - 1

    @property
    def n_connectors(self) -> int:
        """How many connectors all groups have together."""
        return self.minimum.size

    @property
    def batch(self) -> Batch:
        """What a solver takes under the first capacities."""
        return self.batches[0]

    @property
    def batches(self) -> list[Batch]:
        """What a solver takes under each of the capacities."""
        return [Batch(self.minimum, self.maximum, c, self.offsets) for c in self.capacities]

    def group(self, g: int) -> Batch:
        """Return what a solver takes for one group, under the first capacities."""
        connectors = slice(self.offsets[g], self.offsets[g + 1])
        low, high = self.minimum[connectors], self.maximum[connectors]
        return Batch(low, high, self.capacities[0][g : g + 1], np.array([0, low.size]))

    def sample(self, most: int) -> Workload:
        """Return the workload with at most so many of its groups, small and large in proportion."""
        if self.n_groups <= most:
            return self
        sizes = np.diff(self.offsets)
        places = (np.arange(most) + 0.5) * self.n_groups / most
        chosen = np.sort(np.argsort(sizes, kind="stable")[places.astype(np.int64)])
        offsets = _offsets(sizes[chosen])
        moved = np.repeat(self.offsets[chosen] - offsets[:-1], sizes[chosen])
        connectors = moved + np.arange(offsets[-1])
        return replace(
            self,
            minimum=self.minimum[connectors],
            maximum=self.maximum[connectors],
            capacities=[capacity[chosen] for capacity in self.capacities],
            offsets=offsets,
        )


def equal(n_groups: int, size: int, values: str = "discrete") -> Workload:
    """Make groups of one size.

    Bounds are "discrete", with ties everywhere, or "continuous", with next to none.

    Examples
    --------
    >>> workload = equal(10_000, 50)
    >>> workload.name, workload.n_connectors, len(workload.capacities)
    ('10000x50-discrete', 500000, 8)

    """
    sizes = np.full(n_groups, size, np.int64)
    return _make(f"{n_groups}x{size}", sizes, values, np.random.default_rng((n_groups, size)))


def power_law(values: str = "discrete", *, n_connectors: int = 1_000_000) -> Workload:
    """Make groups whose sizes have a density of ``size**-1.5`` on 1..5000."""
    most = 5000
    rng = np.random.default_rng(6)
    uniform = rng.random(n_connectors)
    sizes: Integers = np.floor((1.0 - uniform * (1.0 - most**-0.5)) ** -2).astype(np.int64)
    ends = np.cumsum(sizes)
    n_groups = int(np.searchsorted(ends, n_connectors)) + 1
    sizes[n_groups - 1] -= ends[n_groups - 1] - n_connectors
    return _make("power-law", sizes[:n_groups], values, rng)


def weighted(plain: Workload, values: str = "discrete") -> Workload:
    """Give weights to connectors: what operators type, or continuous ones."""
    rng = np.random.default_rng(7)
    n = plain.n_connectors
    if values == "discrete":
        weight = rng.choice(np.array(WEIGHTS), n)
    else:
        weight = rng.integers(WEIGHT_PARTS // 2, 2 * WEIGHT_PARTS, n) / WEIGHT_PARTS
    return replace(plain, name=f"{plain.name}-weighted-{values}", options={"weight": weight})


def tiers(plain: Workload) -> Workload:
    """Give every connector one of three priorities."""
    priority = np.random.default_rng(8).integers(0, 3, plain.n_connectors)
    return replace(plain, name=f"{plain.name}-tiers", options={"priority": priority})


def steps(plain: Workload, step: float = STEP) -> Workload:
    """Let powers be whole multiples of a step, with room for the minimums taken up to it."""
    room = quanta(np.full(1, step)) * np.diff(plain.offsets)
    capacities = [(quanta(capacity) + room) / QUANTA_PER_KW for capacity in plain.capacities]
    return replace(
        plain, name=f"{plain.name}-steps-{step}", capacities=capacities, options={"step": step}
    )


def tree(plain: Workload, below: int = 100) -> Workload:
    """Put so many groups at a time below one of a second level, and these below one root.

    Each of the upper groups is limited as often and as tightly as a group of a plain workload.
    """
    rng = np.random.default_rng(9)
    n_leaves = plain.n_groups
    middle = np.arange(0, n_leaves, below)
    root = n_leaves + middle.size
    parent = np.concatenate(
        [n_leaves + np.arange(n_leaves) // below, np.full(middle.size, root), [-1]]
    )
    start = plain.offsets[:-1]
    least = np.add.reduceat(quanta(plain.minimum), start)
    most = np.add.reduceat(quanta(plain.maximum), start)
    capacities = []
    for capacity in plain.capacities:
        leaves = quanta(capacity)
        least_middle = np.add.reduceat(least, middle)
        most_middle = np.add.reduceat(np.minimum(most, leaves), middle)
        middles = _capacities(rng, least_middle, most_middle)
        # The root always binds, or a third of the work would depend on its luck.
        share = rng.uniform(0.2, 0.8)
        room = np.minimum(middles, most_middle).sum() - least.sum()
        top = least.sum() + int(share * room)
        capacities.append(np.concatenate([leaves, middles, [top]]) / QUANTA_PER_KW)
    return replace(
        plain,
        name=f"{plain.name}-tree",
        capacities=capacities,
        offsets=np.concatenate([plain.offsets, np.full(middle.size + 1, plain.n_connectors)]),
        options={"parent": parent},
    )


_SHAPES: dict[str, Callable[[str, int], Workload]] = {
    "10000x50": lambda values, shrink: equal(10_000 // shrink, 50, values),
    "100000x8": lambda values, shrink: equal(100_000 // shrink, 8, values),
    "100x10000": lambda values, shrink: equal(100, 10_000 // shrink, values),
    "1x1000000": lambda values, shrink: equal(1, 1_000_000 // shrink, values),
    "power-law": lambda values, shrink: power_law(values, n_connectors=1_000_000 // shrink),
}
_VARIANTS: dict[str, Callable[[Workload], Workload]] = {
    "weighted-discrete": lambda plain: weighted(plain, "discrete"),
    "weighted-continuous": lambda plain: weighted(plain, "continuous"),
    "tree": tree,
    "tiers": tiers,
    "steps-0.023": lambda plain: steps(plain, STEP),
    "steps-0.069": lambda plain: steps(plain, STEP_THREE_PHASE),
}

NAMES = tuple(f"{shape}-{values}" for values in VALUES for shape in _SHAPES)
"""Plain groups of every kind of size."""
VARIANTS = tuple(f"{NAMES[0]}-{variant}" for variant in _VARIANTS)
"""The first of these with weights, parents, priorities and steps."""


def load(name: str, shrink: int = 1) -> Workload:
    """Make a workload of `NAMES` or `VARIANTS`, or the same so many times smaller.

    Examples
    --------
    >>> load("10000x50-discrete-tree").options["parent"]
    array([10000, 10000, 10000, ..., 10100, 10100,    -1], shape=(10101,))

    """
    if name in NAMES:
        shape, _, values = name.rpartition("-")
        return _SHAPES[shape](values, shrink)
    return _VARIANTS[name.removeprefix(f"{NAMES[0]}-")](load(NAMES[0], shrink))


def _make(shape: str, sizes: Integers, values: str, rng: np.random.Generator) -> Workload:
    offsets = _offsets(sizes)
    n = int(offsets[-1])
    low, high = _bounds(rng, min(n, MOST_DRAWN), continuous=values == "continuous")
    low, high = np.resize(low, n), np.resize(high, n)
    least, most = np.add.reduceat(low, offsets[:-1]), np.add.reduceat(high, offsets[:-1])
    n_capacities = min(max(FEWEST_CAPACITIES, TO_SEE // n), MOST_CAPACITIES)
    return Workload(
        f"{shape}-{values}",
        low / QUANTA_PER_KW,
        high / QUANTA_PER_KW,
        [_capacities(rng, least, most) / QUANTA_PER_KW for _ in range(n_capacities)],
        offsets,
    )


def _offsets(sizes: Integers) -> Integers:
    return np.concatenate(([0], np.cumsum(sizes)))


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
    return quanta(low), quanta(high)


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


def quanta(kw: Floats) -> Integers:
    """Count in whole quanta."""
    return np.rint(kw * QUANTA_PER_KW).astype(np.int64)


def _up(quanta: Floats) -> Integers:
    return np.ceil(quanta).astype(np.int64)
