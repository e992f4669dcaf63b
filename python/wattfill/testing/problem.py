"""A batch in whole numbers: what the reference solves and what the laws speak of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

# More quanta than any group can have: stands for all that is larger.
BEYOND = 2**54


@dataclass
class Member:
    """An active connector; bounds in grains: steps, or quanta where there are none."""

    index: int
    group: int
    minimum: int
    maximum: int
    weight: float
    priority: int
    order: tuple[float, ...]

    @property
    def servable(self) -> bool:
        """Whether there is a grain between the bounds: with steps there may be none."""
        return self.minimum <= self.maximum


class Problem:
    """The arguments of `wattfill.allocate` in whole quanta.

    Attributes
    ----------
    per_unit, grain : int
        Quanta in one unit of power, and in one grain: a step, or one quantum.
    usable : list of int
        Usable capacity of each group, in quanta.
    chains : list of list of int
        Each group and all above it, from the leaf to the root.
    members : dict of int to Member
        The active connectors, by index.
    line : list of Member
        The same in admission order.

    """

    def __init__(
        self,
        minimum: Sequence[float],
        maximum: Sequence[float],
        capacity: float | Sequence[float],
        offsets: Sequence[int] | None = None,
        *,
        buffer: float | Sequence[float] = 0.0,
        reserved: float | Sequence[float] = 0.0,
        parent: Sequence[int] | None = None,
        weight: Sequence[float] | None = None,
        priority: Sequence[int] | None = None,
        rank: Sequence[float] | None = None,
        active: Sequence[bool] | None = None,
        step: float | None = None,
        resolution: float = 1e-6,
    ) -> None:
        self.n_connectors = len(minimum)
        ends = [0, self.n_connectors] if offsets is None else list(offsets)
        self.ends = ends
        self.groups = range(len(ends) - 1)
        self.owner = [g for g in self.groups for _ in range(ends[g], ends[g + 1])]
        self.per_unit = round(1 / resolution)
        self.grain = 1 if step is None else round(step * self.per_unit)
        self.has_steps, self.has_weights = step is not None, weight is not None
        feeds = [-1 for _ in self.groups] if parent is None else list(parent)
        self.chains = [_chain(g, feeds) for g in self.groups]

        # The way in: limits and maximums down to the grid, minimums up to it.
        self.capacity, self.buffer, self.reserved = (
            [float(x)] * len(self.groups) if isinstance(x, (int, float)) else [float(y) for y in x]
            for x in (capacity, buffer, reserved)
        )
        self.usable = [
            min(max(self.down(c * (1.0 - b)) - self.up(r), 0), 2**53 - 1)
            for c, b, r in zip(self.capacity, self.buffer, self.reserved, strict=True)
        ]
        self.members: dict[int, Member] = {}
        for i, g in enumerate(self.owner):
            if active is None or active[i]:
                high = self.down(float(maximum[i]))
                low = min(self.up(float(minimum[i])), high)
                tier = 0 if priority is None else int(priority[i])
                self.members[i] = Member(
                    index=i,
                    group=g,
                    minimum=-(-low // self.grain),
                    maximum=high // self.grain,
                    weight=1.0 if weight is None else float(weight[i]),
                    priority=tier,
                    order=(-tier, 0.0 if rank is None else float(rank[i]), i),
                )
        self.line = sorted(self.members.values(), key=lambda c: c.order)

    def down(self, units: float) -> int:
        """Return the whole quanta at or below a power; what lies near to a grid point is that."""
        y = min(units * self.per_unit, BEYOND)
        return math.floor(y + _reach(y))

    def up(self, units: float) -> int:
        """Return the whole quanta at or above a power, likewise."""
        y = min(units * self.per_unit, BEYOND)
        return max(math.ceil(y - _reach(y)), 0)

    def budget(self, group: int) -> int:
        """Return the grains that a group may use."""
        return self.usable[group] // self.grain


def _reach(y: float) -> float:
    """Return how far a grid point may be from y and still be meant."""
    return max(2.0**-10, y * 2.0**-52)


def _chain(group: int, feeds: Sequence[int]) -> list[int]:
    """Return a group and all above it, from the leaf to the root."""
    chain = [group]
    while feeds[chain[-1]] >= 0:
        chain.append(feeds[chain[-1]])
    return chain
