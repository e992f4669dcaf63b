"""Charging sessions, millisecond by millisecond: what `wattfill.simulation` answers, by definition.

Nothing is skipped and nothing is kept up to date: in every millisecond it is seen who is there, who
comes first and what each may draw, by the exact reference of `wattfill.testing`, and then everybody
draws that, or what is left to be had. Numbers are Python's integers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from wattfill import Reason
from wattfill.simulation import ANY_CONNECTOR, Schedule, Sessions, Site, Taper
from wattfill.testing.problem import Problem
from wattfill.testing.reference import solve

UJ_PER_KWH = 3_600_000_000_000


@dataclass
class Session:
    """A session while it lasts, and what becomes of it."""

    row: int
    group: int
    """The one that it came to."""
    arrival: int
    departure: int
    wanted: int
    connector: int = -1
    goal: int = 0
    delivered: int = 0
    full_at: int | None = None
    paused: int = 0
    low_kw: float = 0.0
    taken_kw: float = 0.0
    rating_kw: float = 0.0
    reached: list[int] = field(default_factory=list)
    """What has to be delivered for each piece of the taper to begin."""
    weight: float = 1.0
    priority: int = 0
    powers: list[tuple[int, int]] = field(default_factory=list)
    """When what it drew changed, and to what."""

    @property
    def takes_part(self) -> bool:
        return self.delivered < self.goal and self.low_kw <= self.rating_kw

    def upper_kw(self, taper: Taper) -> float:
        begun = [taper.fraction[k] for k, at in enumerate(self.reached) if at <= self.delivered]
        taken = self.taken_kw * begun[-1] if begun else self.taken_kw
        return max(min(taken, self.rating_kw), self.low_kw)


class Line:
    """Who takes turns in a group."""

    def __init__(self, rotation: int) -> None:
        self.rotation = rotation
        self.order: list[int] = []
        self.served: set[int] = set()

    def keep(self, here: list[int]) -> None:
        self.order = [row for row in self.order if row in here]
        self.order += [row for row in here if row not in self.order]
        self.served &= set(here)

    def turn(self) -> None:
        waited = [row for row in self.order if row not in self.served]
        self.order = waited + [row for row in self.order if row in self.served]
        self.served = set()


class Simulator:
    """One site from the first arrival to the last departure."""

    def __init__(
        self, sessions: Sessions, site: Site, schedule: Schedule | None, strategy: str, taper: Taper
    ) -> None:
        self.table, self.site, self.strategy, self.taper = sessions, site, strategy, taper
        self.parent = site.parent.tolist()
        self.groups = range(len(self.parent))
        self.chains = [self._chain(g) for g in self.groups]
        self.owner = site.owner.tolist()
        self.capacity, self.reserved = site.capacity.tolist(), site.reserved.tolist()
        policies = ("fifo", "rotate", "most")
        self.policy = [strategy if strategy in policies else each for each in site.policy]
        self.lines = {
            g: Line(round(float(site.rotation[g]) * 1000))
            for g in self.groups
            if self.policy[g] == "rotate"
        }
        self.changes: list[tuple[int, int, float, float]] = []
        if schedule is not None:
            for k in range(len(schedule)):
                g = site.groups.index(schedule.groups[int(schedule.group[k])])
                cells = [
                    math.nan if column is None else float(column[k])
                    for column in (schedule.capacity, schedule.reserved)
                ]
                self.changes.append((int(schedule.at[k]), g, *cells))
        self.sessions = [self._session(row) for row in range(len(sessions))]
        self.loads: list[list[int]] = [[] for _ in self.groups]
        self.usables: list[list[int]] = [[] for _ in self.groups]
        self.limiting = [0 for _ in self.groups]
        self.there: list[Session] = []
        """Who is plugged in, who came first first."""

    def _chain(self, g: int) -> list[int]:
        return [g] if self.parent[g] < 0 else [g, *self._chain(self.parent[g])]

    def _cell(self, name: str, row: int, default: Any) -> Any:
        column = getattr(self.table, name)
        return default if column is None else column[row].item()

    def _places(self, row: int) -> tuple[int, list[int]]:
        """Return the group that a session comes to, and the connectors that will do."""
        t, site = self.table, self.site
        code = self._cell("connector", row, -1)
        if code < 0:
            g = site.groups.index(t.groups[self._cell("group", row, -1)])
            return g, [i for i, owner in enumerate(self.owner) if owner == g]
        station, plug = t.connectors[code]
        found = [
            i
            for i, (name, id) in enumerate(site.connectors)
            if name == station and plug in (id, ANY_CONNECTOR)
        ]
        return self.owner[found[0]], found

    def _session(self, row: int) -> Session:
        t = self.table
        return Session(
            row,
            self._places(row)[0],
            int(t.arrival[row]),
            int(t.departure[row]),
            round(float(t.energy[row]) * UJ_PER_KWH),
            weight=self._cell("weight", row, 1.0),
            priority=self._cell("priority", row, 0),
        )

    def run(self) -> None:
        """Let all milliseconds go by."""
        if not self.sessions:
            return
        start = min(s.arrival for s in self.sessions)
        for change in sorted(self.changes, key=lambda change: change[0]):
            if change[0] < start:
                self._change(*change)
        for now in range(start, max(s.departure for s in self.sessions) + 1):
            self._leave(now)
            for change in self.changes:
                if change[0] == now:
                    self._change(*change)
            for s in self.sessions:
                if s.arrival == now:
                    self._arrive(s, now)
            powers = self._powers(now)
            self._draw(now, powers)

    def _leave(self, now: int) -> None:
        for s in self.there:
            if s.delivered == s.goal and s.full_at is None:
                s.full_at = now
        self.there = [s for s in self.there if s.departure > now]

    def _change(self, at: int, g: int, capacity: float, reserved: float) -> None:
        if not math.isnan(capacity):
            self.capacity[g] = capacity
        if not math.isnan(reserved):
            self.reserved[g] = reserved

    def _arrive(self, s: Session, now: int) -> None:
        taken = {other.connector for other in self.there}
        free = [i for i in self._places(s.row)[1] if i not in taken]
        if not free:
            return
        i = s.connector = free[0]
        site = self.site
        s.goal = s.wanted
        battery = self._cell("battery", s.row, math.nan)
        if not math.isnan(battery):
            soc = self._cell("soc", s.row, math.nan)
            s.goal = min(s.goal, round((1.0 - soc) * battery * UJ_PER_KWH))
            s.reached = [round((at - soc) * battery * UJ_PER_KWH) for at in self.taper.soc]
        s.rating_kw = float(site.connector_maximum[i])
        maximum = self._cell("maximum", s.row, math.inf)
        s.taken_kw = s.rating_kw if maximum == math.inf else maximum
        s.low_kw = max(float(site.connector_minimum[i]), self._cell("minimum", s.row, 0.0))
        if s.departure > now:
            self.there.append(s)
            if s.goal == 0:
                s.full_at = now
        elif s.wanted == 0:
            s.full_at = now
        else:
            s.goal = 0

    # Who comes first

    def _order(self, members: list[Session]) -> list[Session]:
        """Put them into the order of admission: the root's, anew in every group with another."""
        order = []
        for root in self.groups:
            if self.parent[root] < 0:
                below = [s for s in members if root in self.chains[self.owner[s.connector]]]
                order += self._ordered(root, below)
        for g in self.groups:
            above = self.parent[g]
            if above < 0 or self._way(g) == self._way(above):
                continue
            held = [k for k, s in enumerate(order) if g in self.chains[self.owner[s.connector]]]
            anew = self._ordered(g, [order[k] for k in held])
            for k, s in zip(held, anew, strict=True):
                order[k] = s
        return order

    def _way(self, g: int) -> tuple[str, float]:
        policy = self.policy[g]
        return policy, float(self.site.rotation[g]) if policy == "rotate" else 0.0

    def _ordered(self, g: int, members: list[Session]) -> list[Session]:
        by_arrival = sorted(members, key=lambda s: (s.arrival, s.row))
        if self.policy[g] == "rotate":
            return sorted(members, key=lambda s: self.lines[g].order.index(s.row))
        if self.policy[g] == "most":
            return sorted(by_arrival, key=lambda s: s.low_kw)
        return by_arrival

    # What each may draw

    def _powers(self, now: int) -> dict[int, int]:
        members = [s for s in self.there if s.takes_part]
        for g, line in self.lines.items():
            below = [s for s in members if g in self.chains[self.owner[s.connector]]]
            line.keep([s.row for s in sorted(below, key=lambda s: (s.arrival, s.row))])
            if now % line.rotation == 0:
                line.turn()
        order = self._order(members)
        rank = {s.row: k for k, s in enumerate(order)}
        line_up = sorted(members, key=lambda s: self.owner[s.connector])
        problem = {
            "minimum": [s.low_kw for s in line_up],
            "maximum": [s.upper_kw(self.taper) for s in line_up],
            "capacity": self.capacity,
            "offsets": [
                sum(self.owner[s.connector] < g for s in line_up)
                for g in range(len(self.groups) + 1)
            ],
            "buffer": self.site.buffer.tolist(),
            "reserved": self.reserved,
            "parent": self.parent,
        }
        bounds = Problem(**problem)
        for g in self.groups:
            self.usables[g].append(bounds.usable[g])
        low = {s.row: bounds.members[k].minimum for k, s in enumerate(line_up)}
        high = {s.row: bounds.members[k].maximum for k, s in enumerate(line_up)}
        if self.strategy == "uncontrolled":
            return high
        if self.strategy == "equal":
            return self._equal(line_up, low, high, bounds.usable)
        if self.strategy == "first-come":
            return self._first_come(members, low, high, bounds.usable)
        answer = solve(
            **problem,
            weight=[s.weight for s in line_up],
            priority=[s.priority for s in line_up],
            rank=[rank[s.row] for s in line_up],
        )
        paused = {
            answer.bound_by[k] for k in range(len(line_up)) if answer.reason[k] is Reason.PAUSED
        }
        for g in self.groups:
            self.limiting[g] += answer.level[g] < math.inf or g in paused
        for line in self.lines.values():
            line.served |= {
                s.row
                for k, s in enumerate(line_up)
                if s.row in line.order and answer.reason[k] is not Reason.PAUSED
            }
        return {s.row: answer.quanta[k] for k, s in enumerate(line_up)}

    def _equal(
        self, members: list[Session], low: dict[int, int], high: dict[int, int], usable: list[int]
    ) -> dict[int, int]:
        shares = [
            math.inf
            if not (n := sum(g in self.chains[owner] for owner in self.owner))
            else usable[g] // n
            for g in self.groups
        ]
        powers, holding = {}, set()
        for s in members:
            # Of equal shares that of the group nearest to the root counts.
            chain = self.chains[self.owner[s.connector]][::-1]
            g = min(chain, key=lambda g: shares[g])
            share = min(high[s.row], shares[g])
            powers[s.row] = int(share) if share >= low[s.row] else 0
            if share < high[s.row]:
                holding.add(g)
        for g in holding:
            self.limiting[g] += 1
        return powers

    def _first_come(
        self, members: list[Session], low: dict[int, int], high: dict[int, int], usable: list[int]
    ) -> dict[int, int]:
        left, powers, holding = list(usable), {}, set()
        for s in sorted(members, key=lambda s: (s.arrival, s.row)):
            chain = self.chains[self.owner[s.connector]]
            g = min(chain, key=lambda g: left[g])
            power = min(high[s.row], left[g])
            if power < high[s.row]:
                holding.add(g)
            powers[s.row] = power if power >= low[s.row] else 0
            for g in chain:
                left[g] -= powers[s.row]
        for g in holding:
            self.limiting[g] += 1
        return powers

    def _draw(self, now: int, powers: dict[int, int]) -> None:
        loads = [0 for _ in self.groups]
        for s in self.sessions:
            left = s.goal - s.delivered if s in self.there else 0
            power = min(powers.get(s.row, 0), left)
            if left and powers.get(s.row, 0) == 0:
                s.paused += 1
            s.delivered += power
            if power != (s.powers[-1][1] if s.powers else 0):
                s.powers.append((now, power))
            if s.connector >= 0:
                for g in self.chains[self.owner[s.connector]]:
                    loads[g] += power
        for g, load in enumerate(loads):
            self.loads[g].append(load)


def percentile_95(loads: list[int]) -> int:
    """Return the least load that was not passed for 95 % of the milliseconds."""
    return sorted(loads)[math.ceil(len(loads) * 95 / 100) - 1] if loads else 0


def steps(start: int, loads: list[int]) -> list[tuple[int, int]]:
    """Return when a load changed, and to what; before the first one it was 0."""
    before = [0, *loads]
    return [
        (start + k, load)
        for k, (load, last) in enumerate(zip(loads, before[:-1], strict=True))
        if load != last
    ]
