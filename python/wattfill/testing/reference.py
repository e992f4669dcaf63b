"""The definition of an allocation, in whole numbers: exact, slow, and short enough to be read.

It answers what `wattfill.allocate` answers, to the last bit, and gets there another way: levels
are built bit by bit instead of searched for, groups look for their connectors instead of having
them side by side, and sums are Python's integers.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from wattfill.reason import Reason
from wattfill.testing.problem import BEYOND, Member, Problem


@dataclass(frozen=True)
class Solution:
    """What `wattfill.allocate` answers, as lists; `quanta` are the powers in whole numbers."""

    power: list[float]
    reason: list[Reason]
    bound_by: list[int]
    level: list[float]
    usable: list[float]
    used: list[float]
    needed: list[float]
    quanta: list[int]


@dataclass
class _Connector(Member):
    """An active connector and what becomes of it; the power is in grains."""

    power: int = 0
    bound_by: int = -1
    admitted: bool = False


def solve(
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
) -> Solution:
    """Solve a batch as `wattfill.allocate` does, from the definition.

    Parameters are those of `wattfill.allocate`, as numbers and sequences of numbers, and are
    taken to be well-formed.

    Examples
    --------
    >>> solve([5, 1], [15, 15], 10).power
    [5.0, 5.0]

    """
    problem = Problem(
        minimum,
        maximum,
        capacity,
        offsets,
        buffer=buffer,
        reserved=reserved,
        parent=parent,
        weight=weight,
        priority=priority,
        rank=rank,
        active=active,
        step=step,
        resolution=resolution,
    )
    groups, chains, grain = problem.groups, problem.chains, problem.grain
    per_unit, usable = problem.per_unit, problem.usable
    connectors = {i: _Connector(**vars(member)) for i, member in problem.members.items()}
    line = [connectors[member.index] for member in problem.line]
    servable = [c for c in line if c.servable]
    needed = [sum(c.minimum for c in servable if g in chains[c.group]) * grain for g in groups]

    # Admission: one after another, if the minimum fits in the group and in every ancestor.
    left = [problem.budget(g) for g in groups]
    for c in servable:
        full = [g for g in chains[c.group] if left[g] < c.minimum]
        if full:
            c.bound_by = full[0]
            continue
        c.admitted, c.power = True, c.maximum
        for g in chains[c.group]:
            left[g] -= c.minimum

    # Filling: from the leaves to the root, with what the child gives as the upper bound.
    level = [math.inf for _ in groups]
    for g in sorted(groups, key=lambda g: -len(chains[g])):
        below = [c for c in line if c.admitted and g in chains[c.group]]
        if sum(c.power for c in below) > problem.budget(g):
            level[g] = _fill(g, below, problem.budget(g), problem.has_weights, problem.has_steps)

    # The way out: the quotient, correctly rounded, within the caller's own bounds.
    quanta = [
        connectors[i].power * grain if i in connectors else 0 for i in range(problem.n_connectors)
    ]
    reason = [_reason(connectors.get(i)) for i in range(problem.n_connectors)]
    return Solution(
        power=[
            0.0
            if reason[i] in (Reason.IDLE, Reason.PAUSED)
            else min(max(quanta[i] / per_unit, float(minimum[i])), float(maximum[i]))
            for i in range(problem.n_connectors)
        ],
        reason=reason,
        bound_by=[
            connectors[i].bound_by if i in connectors else -1 for i in range(problem.n_connectors)
        ],
        level=[x * grain / per_unit for x in level],
        usable=[u / per_unit for u in usable],
        used=[
            sum(c.power for c in line if g in chains[c.group]) * grain / per_unit for g in groups
        ],
        needed=[min(x, 2**53) / per_unit for x in needed],
        quanta=quanta,
    )


def _reason(c: _Connector | None) -> Reason:
    if c is None:
        return Reason.IDLE
    if not c.admitted:
        return Reason.PAUSED
    if c.power == c.maximum:
        return Reason.MAXIMUM
    return Reason.MINIMUM if c.power == c.minimum else Reason.SHARING


def _fill(g: int, line: list[_Connector], budget: int, weighted: bool, steps: bool) -> float:
    """Lower those in line, in admission order, who want more than the budget of group g.

    Tier after tier; who stands below the tier that the group binds keeps its minimum. Whoever its
    level keeps where it is, is bound by g, even if a group below had done so before.
    """
    spare = budget - sum(c.minimum for c in line)
    level = math.inf
    for _, members in groupby(line, key=lambda c: c.priority):
        tier = list(members)
        room = sum(c.power - c.minimum for c in tier)
        if level < math.inf:
            most = shares = [c.minimum for c in tier]
        elif room <= spare:
            spare -= room
            continue
        else:
            budget = spare + sum(c.minimum for c in tier)
            level, most, shares = _share(tier, budget, weighted, steps)
        for c, limit, share in zip(tier, most, shares, strict=True):
            c.power = share
            if limit <= share < c.maximum:
                c.bound_by = g
    return level


def _share(
    tier: list[_Connector], budget: int, weighted: bool, steps: bool
) -> tuple[float, list[int], list[int]]:
    """Return the highest level at which the budget suffices, its limits, and what each draws."""

    def limits(level: float) -> list[int]:
        wanted = _claims if weighted and steps else _whole
        return [min(max(wanted(level, c.weight), c.minimum), c.maximum) for c in tier]

    def drawn(level: float) -> list[int]:
        return [min(limit, c.power) for limit, c in zip(limits(level), tier, strict=True)]

    level = _largest_double(lambda x: sum(drawn(x)) <= budget)
    above = math.nextafter(level, math.inf)
    if not (weighted and steps):
        # On the grid: the largest power of two that raises nobody by more than one.
        heaviest = max(c.weight for c in tier if c.minimum < c.power)
        fraction, exponent = math.frexp(heaviest)
        grain = math.ldexp(1.0, 1 - exponent if fraction == 0.5 else -exponent)
        level = math.floor(level / grain) * grain
        above = max(level + grain, math.nextafter(level, math.inf))
    shares = drawn(level)
    if steps:
        left = budget - sum(shares)
        rising = [j for j, (x, y) in enumerate(zip(shares, drawn(above), strict=True)) if y > x]
        for j in rising[:left]:
            shares[j] += 1
    return level, limits(level), shares


def _whole(level: float, weight: float) -> int:
    return math.floor(min(level * weight, BEYOND))


def _claims(level: float, weight: float) -> int:
    """Return how many of the claims (k + 1/2) / weight, k = 0, 1, ... a level has reached."""
    k = math.floor(min(level * weight, BEYOND))
    while k > 0 and (k - 0.5) / weight > level:
        k -= 1
    while (k + 0.5) / weight <= level and k < BEYOND:
        k += 1
    return k


def _largest_double(holds: Callable[[float], bool]) -> float:
    """Return the largest double at which a condition holds that holds up to some point.

    Doubles that are not negative are in the order of their bits, so this builds them from the
    highest down.
    """

    def double(bits: int) -> float:
        value: float = struct.unpack("<d", struct.pack("<q", bits))[0]
        return value

    found = 0
    for place in reversed(range(63)):
        bits = found | 1 << place
        if bits <= 0x7FEF_FFFF_FFFF_FFFF and holds(double(bits)):
            found = bits
    return double(found)
