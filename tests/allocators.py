"""Allocators to hold against the laws: plain, right, and each written another way.

`mutants` makes faulty ones of them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import Any

import numpy as np

PER_KW = 10**6
BEYOND = 2**54


def down(kw: float) -> int:
    """Return the whole quanta in a power; what is as good as one more is one more."""
    y = min(kw * PER_KW, BEYOND)
    return math.floor(y + max(2**-10, y * 2**-52))


def up(kw: float) -> int:
    """Return the whole quanta that a power needs, likewise."""
    y = min(kw * PER_KW, BEYOND)
    return max(math.ceil(y - max(2**-10, y * 2**-52)), 0)


@dataclass(eq=False)
class Plug:
    """A connector with a session; bounds and power in grains: steps, or else quanta."""

    index: int
    group: int
    minimum: int
    maximum: int
    weight: float
    priority: int
    rank: float
    power: int = 0
    admitted: bool = False


@dataclass(eq=False)
class Feeder:
    """A group: what it may use, in grains, its own connectors, and who is above."""

    index: int
    budget: int
    plugs: list[Plug]
    chain: list["Feeder"] = field(default_factory=list)


class PlainFill:
    """A water-fill as one writes it in Python: bounds sorted, then swept; weights by bisection.

    It has all that `wattfill.allocate` has, and gives the same doubles.
    """

    def __call__(
        self,
        minimum: Sequence[float],
        maximum: Sequence[float],
        capacity: Any,
        offsets: Sequence[int] | None = None,
        *,
        buffer: Any = 0.0,
        reserved: Any = 0.0,
        parent: Sequence[int] | None = None,
        weight: Sequence[float] | None = None,
        priority: Sequence[int] | None = None,
        rank: Sequence[float] | None = None,
        active: Sequence[bool] | None = None,
        step: float | None = None,
    ) -> list[float]:
        self.minimum, self.maximum = minimum, maximum
        self.n = n = len(minimum)
        self.offsets = [0, n] if offsets is None else offsets
        self.n_groups = m = len(self.offsets) - 1
        self.capacity, self.buffer, self.reserved = (
            list(x) if isinstance(x, Sequence) else [x] * m for x in (capacity, buffer, reserved)
        )
        self.parent = [-1] * m if parent is None else parent
        self.weight = [1.0] * n if weight is None else weight
        self.priority = [0] * n if priority is None else priority
        self.rank = [0.0] * n if rank is None else rank
        self.active = [True] * n if active is None else active
        self.has_weights, self.has_steps = weight is not None, step is not None
        self.grain = self.grain_of(step)
        self.power = [0.0] * n
        self.feeders = self.make_feeders()
        self.admit()
        self.fill()
        return self.answer()

    # The way in.

    def grain_of(self, step: float | None) -> int:
        return 1 if step is None else round(step * PER_KW)

    def make_feeders(self) -> list[Feeder]:
        feeders = [
            Feeder(g, self.usable(g) // self.grain, [self.plug(i, g) for i in self.plugs_of(g)])
            for g in range(self.n_groups)
        ]
        for feeder in feeders:
            feeder.chain = [feeders[g] for g in self.chain(feeder.index)]
        return feeders

    def usable(self, g: int) -> int:
        return max(down(self.capacity[g] * (1 - self.buffer[g])) - up(self.reserved[g]), 0)

    def chain(self, g: int) -> list[int]:
        """Return a group and all above it."""
        chain = [g]
        while self.parent[chain[-1]] >= 0:
            chain.append(self.parent[chain[-1]])
        return chain

    def plugs_of(self, g: int) -> list[int]:
        return [i for i in range(self.offsets[g], self.offsets[g + 1]) if self.active[i]]

    def plug(self, i: int, g: int) -> Plug:
        low, high = self.bounds(i)
        return Plug(i, g, low, high, self.weight[i], self.priority[i], self.rank[i])

    def bounds(self, i: int) -> tuple[int, int]:
        high = down(self.maximum[i])
        low = min(up(self.minimum[i]), high)
        return -(-low // self.grain), high // self.grain

    # Admission: one after another, if the minimum fits in the group and in all above it.

    def line(self) -> list[Plug]:
        return sorted((c for f in self.feeders for c in f.plugs), key=self.place)

    def place(self, c: Plug) -> tuple[float, ...]:
        return -c.priority, c.rank, c.index

    def admission_line(self) -> list[Plug]:
        return self.line()

    def admit(self) -> None:
        self.left = [f.budget for f in self.feeders]
        for c in self.admission_line():
            c.admitted = c.minimum <= c.maximum and self.fits(c)
            if c.admitted:
                c.power = c.maximum
                self.take(c)

    def fits(self, c: Plug) -> bool:
        return all(self.left[f.index] >= c.minimum for f in self.fed_by(c))

    def take(self, c: Plug) -> None:
        for f in self.fed_by(c):
            self.left[f.index] -= c.minimum

    def fed_by(self, c: Plug) -> list[Feeder]:
        return self.feeders[c.group].chain

    # Filling: group by group from the leaves to the root, each lowering what those below allow.

    def fill(self) -> None:
        for f in self.fill_order():
            self.fill_group(f, [c for c in self.line() if c.admitted and f in self.fed_by(c)])

    def fill_order(self) -> list[Feeder]:
        return sorted(self.feeders, key=lambda f: -len(f.chain))

    def fill_group(self, f: Feeder, below: list[Plug]) -> None:
        spare = f.budget - sum(c.minimum for c in below)
        for tier in self.tiers(below):
            least, most = sum(c.minimum for c in tier), sum(c.power for c in tier)
            if most - least > spare:
                # The last quanta do not go round: they are left, and not for lower tiers.
                self.fill_tier(tier, least + spare)
                spare = 0
            else:
                spare -= most - least

    def tiers(self, below: list[Plug]) -> list[list[Plug]]:
        return [list(tier) for _, tier in groupby(below, key=lambda c: c.priority)]

    def fill_tier(self, tier: list[Plug], budget: int) -> None:
        level, above = self.levels(tier, budget)
        shares = [self.held(c, level) for c in tier]
        if self.has_steps:
            rising = [self.held(c, above) > share for c, share in zip(tier, shares, strict=True)]
            self.hand_out(shares, rising, budget - sum(shares))
        for c, share in zip(tier, shares, strict=True):
            c.power = share

    def hand_out(self, shares: list[int], rising: list[bool], left: int) -> None:
        """Give what is left to those who rise next, a step each, in admission order."""
        for k, rises in enumerate(rising):
            if rises and left > 0:
                shares[k] += 1
                left -= 1

    def held(self, c: Plug, level: float) -> int:
        """Return what a connector draws at a level, within bounds and what groups below allow."""
        return min(max(self.wanted(c, level), c.minimum), c.power)

    def wanted(self, c: Plug, level: float) -> int:
        if not self.has_weights:
            return int(level)
        if not self.has_steps:
            return math.floor(min(level * c.weight, BEYOND))
        # Webster's rule: how many of the claims (k + 1/2) / weight the level has reached.
        k = math.floor(min(level * c.weight, BEYOND))
        return k + (self.claim(c, k) <= level) - (k > 0 and self.claim(c, k - 1) > level)

    def claim(self, c: Plug, k: int) -> float:
        return (k + 0.5) / c.weight

    def drawn(self, tier: list[Plug], level: float) -> int:
        return sum(self.held(c, level) for c in tier)

    def levels(self, tier: list[Plug], budget: int) -> tuple[float, float]:
        """Return the highest level that the budget suffices for, and the next one."""
        if not self.has_weights:
            level = self.sweep(tier, budget)
            return level, level + 1
        low, high = self.bisect(tier, budget)
        if not self.has_steps:
            grid = self.grid(tier)
            low = math.floor(low / grid) * grid
        return low, high

    def sweep(self, tier: list[Plug], budget: int) -> int:
        """Raise the level from bound to bound: from a minimum on one more rises, one less above."""
        drawn, level, rising = sum(c.minimum for c in tier), 0, 0
        for bound, turn in sorted(self.turns(tier)):
            if drawn + rising * (bound - level) > budget:
                return self.between(level, budget - drawn, rising)
            drawn += rising * (bound - level)
            level = bound
            rising += turn
        return level

    def turns(self, tier: list[Plug]) -> list[tuple[int, int]]:
        return [(c.minimum, 1) for c in tier] + [(c.power, -1) for c in tier]

    def between(self, level: int, left: int, rising: int) -> int:
        """Return how high the level gets by what is left for those who rise."""
        return level + left // rising

    def bisect(self, tier: list[Plug], budget: int) -> tuple[float, float]:
        """Return the neighbouring doubles between which more would be drawn than the budget."""
        low, high = 0.0, 1.0
        while self.drawn(tier, high) <= budget:
            low, high = high, 2 * high
        while low < (middle := (low + high) / 2) < high:
            if self.drawn(tier, middle) <= budget:
                low = middle
            else:
                high = middle
        return low, high

    def grid(self, tier: list[Plug]) -> float:
        """Return the largest power of two by which nobody rises by more than one."""
        heaviest = max(c.weight for c in tier if c.minimum < c.power)
        fraction, exponent = math.frexp(heaviest)
        return math.ldexp(1.0, 1 - exponent if fraction == 0.5 else -exponent)

    # The way out.

    def answer(self) -> list[float]:
        for f in self.feeders:
            for c in f.plugs:
                if c.admitted:
                    self.power[c.index] = self.kw(c)
        return self.power

    def kw(self, c: Plug) -> float:
        low, high = self.minimum[c.index], self.maximum[c.index]
        return min(max(c.power * self.grain / PER_KW, low), high)


class FloatFill:
    """One group, in floats, where all minimums fit: bisection until the level is known to 1e-12."""

    def __call__(
        self,
        minimum: Sequence[float],
        maximum: Sequence[float],
        capacity: float,
        *,
        buffer: float = 0.0,
    ) -> list[float]:
        low, high = [float(x) for x in minimum], [float(x) for x in maximum]
        return self.share(low, high, capacity * (1 - buffer))

    def share(self, low: list[float], high: list[float], usable: float) -> list[float]:
        level = self.level(low, high, usable)
        return [min(max(level, x), y) for x, y in zip(low, high, strict=True)]

    def level(self, low: list[float], high: list[float], usable: float) -> float:
        under, over = 0.0, max(high, default=0.0)
        for _ in range(self.rounds()):
            middle = (under + over) / 2
            if sum(min(max(middle, x), y) for x, y in zip(low, high, strict=True)) <= usable:
                under = middle
            else:
                over = middle
        return over if sum(high) <= usable else under

    def rounds(self) -> int:
        return 60


def sorted_fill(
    minimum: Sequence[float],
    maximum: Sequence[float],
    capacity: Sequence[float],
    offsets: Sequence[int],
    *,
    buffer: float | Sequence[float] = 0.0,
    reserved: float | Sequence[float] = 0.0,
    active: Sequence[bool] | None = None,
) -> list[float]:
    """Share the capacity of many groups in NumPy: one sort and two running sums for each group.

    Powers are floats; only minimums are counted, in whole quanta, as three of 0.1 fit into 0.3.
    """
    low, high = np.asarray(minimum, float), np.asarray(maximum, float)
    usable = np.maximum(np.asarray(capacity) * (1 - np.asarray(buffer)) - np.asarray(reserved), 0)
    takes_part = np.ones(low.size, bool) if active is None else np.array(active, bool)
    needed = np.ceil(low * PER_KW - 2**-10).astype(np.int64)
    fits = np.floor(usable * PER_KW + 2**-10).astype(np.int64)
    power = np.zeros(low.size)
    for g, (start, stop) in enumerate(pairwise(offsets)):
        left = fits[g]
        for i in range(start, stop):
            takes_part[i] &= needed[i] <= left
            left -= needed[i] * takes_part[i]
        own = np.flatnonzero(takes_part[start:stop]) + start
        power[own] = _level_out(low[own], high[own], usable[g])
    return power.tolist()


def _level_out(low: np.ndarray, high: np.ndarray, usable: float) -> np.ndarray:
    if high.sum() <= usable:
        return high
    bounds = np.concatenate([low, high])
    order = np.argsort(bounds)
    bounds = bounds[order]
    rising = np.cumsum(np.where(order < low.size, 1, -1))
    drawn = low.sum() + np.concatenate([[0.0], np.cumsum(rising[:-1] * np.diff(bounds))])
    k = max(np.searchsorted(drawn, usable, side="right") - 1, 0)
    # Where nobody rises, minimums alone fill the group.
    level = bounds[k] + (usable - drawn[k]) / max(rising[k], 1)
    return np.clip(level, low, high)
