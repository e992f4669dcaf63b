"""The grid of milliseconds against continuous time, in which times and energies are fractions.

How far apart can they be? A state is what each session of a tree has been delivered. Where nobody
is paused, and no quantum is left over, a battery that is full or takes less leaves all others at
least what they had, and the sum does not grow. So continuous time keeps the order of two states
that see the same arrivals, departures and capacities, and the sum of their differences never grows
if one is at least the other in everything; then it never grows for any two (Crandall and Tartar,
Some relations between nonexpansive and order preserving mappings, Proc. AMS 78, 1980).

A difference comes about only in a millisecond in which the engine lets a battery be full or take
less, as until its end the others draw what they did. Seen from the state at its beginning,

- who is full has in both what it wanted, and what it leaves goes to others at most a millisecond
  later, which is at most its power times a millisecond;
- who takes less has had too much by at most what its maximum fell by, times a millisecond, and
  others too little by at most the same;
- nobody else has more than in continuous time, where it draws at least as much until it passes what
  it does not even reach on the grid.

The sum of all differences is at most that of these amounts over all such events of the tree so far,
and each difference of a session or a group is part of it. Where somebody is paused this does not
follow: who is admitted takes from others.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from wattfill import Reason
from wattfill.simulation import Schedule, Sessions, Site, Taper, simulate
from wattfill.simulation.result import NEVER
from wattfill.testing.reference import solve

UJ_PER_KWH = 3_600_000_000_000
# Bounds and capacities are multiples of a quarter of this: three groups one in another divide them
# by one to six connectors each, so that levels are whole numbers and no quantum is left over.
UNIT_MW = 4 * 60**3
UNIT_KW = UNIT_MW / 1e6
TAPERS = [Taper((), ()), Taper((0.75,), (0.5,)), Taper((0.5, 0.75), (0.5, 0.25))]
MINIMUMS = (0, 1)


@dataclass
class Vehicle:
    """A session in continuous time; energies are in microjoules."""

    row: int
    connector: int
    departure: int
    low: int
    goal: int
    pieces: list[tuple[int, int]]
    """What has to be delivered for a piece of the taper to begin, and the maximum from then on."""
    delivered: Fraction = Fraction(0)

    @property
    def high(self) -> int:
        return max(self.low, [most for at, most in self.pieces if at <= self.delivered][-1])

    @property
    def next_mark(self) -> int:
        return min(at for at in (*(at for at, _ in self.pieces), self.goal) if at > self.delivered)


@dataclass
class Span:
    """A time in which every power is constant."""

    begin: Fraction
    end: Fraction
    powers: dict[int, int]
    usable: list[int]
    crossed: set[int]
    """Whose battery was full or began to take less as it began."""
    pauses: bool


@dataclass
class ContinuousTime:
    """A site under `fifo`, from event to event."""

    sessions: Sessions
    site: Site
    schedule: Schedule
    taper: Taper
    vehicles: dict[int, Vehicle] = field(default_factory=dict)
    spans: list[Span] = field(default_factory=list)

    def run(self) -> None:
        table, site = self.sessions, self.site
        capacity = site.capacity.tolist()
        changes = sorted(range(len(self.schedule)), key=lambda k: self.schedule.at[k])
        arrivals, departures = table.arrival.tolist(), table.departure.tolist()
        here: list[Vehicle] = []
        stops = sorted({*arrivals, *departures, *self.schedule.at.tolist()})
        for begin, end in pairwise(stops):
            here = [v for v in here if v.departure > begin]
            for k in changes:
                if self.schedule.at[k] == begin:
                    capacity[self.schedule.group[k]] = float(self.schedule.capacity[k])
            for row in range(len(table)):
                if arrivals[row] == begin < departures[row]:
                    here += self.come(row, {v.connector for v in here})
            self.pass_time(Fraction(begin), Fraction(end), here, capacity)

    def come(self, row: int, taken: set[int]) -> list[Vehicle]:
        table, site = self.sessions, self.site
        owner = site.owner.tolist()
        free = [i for i, g in enumerate(owner) if g == table.group[row] and i not in taken]
        if not free:
            return []
        rating = round(float(site.connector_maximum[free[0]]) * 1e6)
        low = max(float(site.connector_minimum[free[0]]), float(table.minimum[row]))
        battery, soc = (Fraction(float(x[row])) for x in (table.battery, table.soc))
        marks = [
            (round((Fraction(float(at)) - soc) * battery * UJ_PER_KWH), round(rating * share))
            for at, share in zip(self.taper.soc, self.taper.fraction, strict=True)
        ]
        wanted, room = float(table.energy[row]), (1 - soc) * battery
        vehicle = Vehicle(
            row,
            free[0],
            int(table.departure[row]),
            round(low * 1e6),
            min(round(wanted * UJ_PER_KWH), round(room * UJ_PER_KWH)),
            [(-(10**18), rating), *marks],
        )
        self.vehicles[row] = vehicle
        return [vehicle]

    def pass_time(
        self, now: Fraction, end: Fraction, here: list[Vehicle], capacity: list[float]
    ) -> None:
        crossed: set[int] = set()
        while now < end:
            drawing = [v for v in here if v.delivered < v.goal]
            powers, pauses = self.powers(drawing, capacity)
            times = [(v.next_mark - v.delivered) / powers[v.row] for v in drawing if powers[v.row]]
            step = min([end - now, *times])
            usable = [
                round((most * (1 - buffer) - reserved) * 1e6)
                for most, buffer, reserved in zip(
                    capacity, self.site.buffer, self.site.reserved, strict=True
                )
            ]
            self.spans.append(Span(now, now + step, powers, usable, crossed, pauses))
            marks = {v.row: v.next_mark for v in drawing}
            for v in drawing:
                v.delivered += powers[v.row] * step
            crossed = {v.row for v in drawing if v.delivered == marks[v.row]}
            now += step

    def powers(self, drawing: list[Vehicle], capacity: list[float]) -> tuple[dict[int, int], bool]:
        owner = self.site.owner.tolist()
        line = sorted(drawing, key=lambda v: owner[v.connector])
        first = sorted(line, key=lambda v: (self.sessions.arrival[v.row], v.row))
        answer = solve(
            [v.low / 1e6 for v in line],
            [v.high / 1e6 for v in line],
            capacity,
            [sum(owner[v.connector] < g for v in line) for g in range(len(capacity) + 1)],
            buffer=self.site.buffer.tolist(),
            reserved=self.site.reserved.tolist(),
            parent=self.site.parent.tolist(),
            rank=[first.index(v) for v in line],
        )
        powers = {v.row: power for v, power in zip(line, answer.quanta, strict=True)}
        return powers, Reason.PAUSED in answer.reason


def chain(site: Site, g: int) -> list[int]:
    """Return a group and all above it."""
    above = int(site.parent[g])
    return [g] if above < 0 else [g, *chain(site, above)]


@st.composite
def cases(draw, pauses):
    """Return sessions, a site, later capacities and a taper; without pauses all minimums fit."""
    n_groups = draw(st.integers(1, 3))
    parent, line = [], []
    for g in range(n_groups):
        line = line[: draw(st.integers(0, len(line)))]
        parent.append(line[-1] if line else -1)
        line.append(g)
    owner = sorted(draw(st.lists(st.integers(0, n_groups - 1), min_size=3, max_size=6)))
    lows = (*MINIMUMS, 2, 3) if pauses else MINIMUMS
    low = [draw(st.sampled_from(lows)) for _ in owner]
    buffer = [draw(st.sampled_from([0.0, 0.0, 0.5])) for _ in parent]
    reserved = [draw(st.sampled_from([0, 0, 1])) for _ in parent]
    below = [0] * n_groups
    for g in owner:
        while g >= 0:
            below[g] += 1
            g = parent[g]

    def capacity(g):
        usable = draw(st.integers(0, 6)) + (0 if pauses else below[g] * max(MINIMUMS))
        return (usable + reserved[g]) / (1 - buffer[g]) * UNIT_KW

    site = Site(
        groups=tuple(f"g{g}" for g in range(n_groups)),
        capacity=[capacity(g) for g in range(n_groups)],
        buffer=buffer,
        reserved=np.array(reserved) * UNIT_KW,
        minimum=np.zeros(n_groups),
        parent=parent,
        policy=("fifo",) * n_groups,
        rotation=np.full(n_groups, 900.0),
        connectors=tuple(("s", str(i)) for i in range(len(owner))),
        owner=np.array(owner, np.int64),
        connector_minimum=np.array(low) * UNIT_KW,
        connector_maximum=[draw(st.sampled_from([3, 4, 6])) * UNIT_KW for _ in owner],
    )

    def energies():
        # Some are full in a few milliseconds, within one of them, and some not before they leave.
        most = st.sampled_from([11, 23, 38, 59, 97, 250, 800, 801])
        return [draw(most) * (UNIT_MW // 7) / UJ_PER_KWH for _ in range(n)]

    n = draw(st.integers(3, 8))
    arrival = [draw(st.integers(0, 8)) for _ in range(n)]
    sessions = Sessions(
        arrival=np.array(arrival, np.int64),
        departure=np.array(
            [at + draw(st.sampled_from([12, 0, 7, 20])) for at in arrival], np.int64
        ),
        energy=energies(),
        group=np.array([draw(st.sampled_from(owner)) for _ in range(n)], np.int32),
        minimum=[draw(st.sampled_from(lows)) * UNIT_KW for _ in range(n)],
        battery=energies(),
        soc=[draw(st.sampled_from([0.0, 0.25, 0.5])) for _ in range(n)],
        groups=site.groups,
    )
    at = draw(st.lists(st.integers(min(arrival), 20), max_size=3))
    group = [draw(st.integers(0, n_groups - 1)) for _ in at]
    schedule = Schedule(
        at=np.array(at, np.int64),
        group=np.array(group, np.int32),
        capacity=[capacity(g) for g in group],
        groups=site.groups,
    )
    return sessions, site, schedule, draw(st.sampled_from(TAPERS))


def live(case):
    """Return what the engine and what continuous time make of it."""
    sessions, site, schedule, taper = case
    exact = ContinuousTime(*case)
    exact.run()
    result = simulate(
        sessions, site, schedule=schedule, strategy="fifo", taper=taper, curves="sessions"
    )
    return exact, result


def at_stake(vehicle, result, until):
    """Return what the events of a session up to a time may have moved, by the derivation above."""
    row, low = vehicle.row, vehicle.low
    tops = [most for at, most in vehicle.pieces if at <= 0 or at <= int(result.delivered[row])]
    begun = [most for at, most in vehicle.pieces if at <= 0]
    stake = 2 * (max(low, begun[-1]) - max(low, tops[-1]))
    full_at = int(result.full_at[row])
    return stake + (max(low, begun[-1]) if full_at != NEVER and full_at <= until else 0)


def of_two(wanted, taper):
    """Return a case in which one of two is full, or takes less, within a millisecond."""
    site = Site(
        groups=("g0",),
        capacity=[6 * UNIT_KW],
        buffer=[0.0],
        reserved=[0.0],
        minimum=[0.0],
        parent=[-1],
        policy=("fifo",),
        rotation=[900.0],
        connectors=(("s", "0"), ("s", "1")),
        owner=[0, 0],
        connector_minimum=[0.0, 0.0],
        connector_maximum=[3 * UNIT_KW, 6 * UNIT_KW],
    )
    sessions = Sessions(
        arrival=[0, 0],
        departure=[8, 8],
        energy=[wanted * UNIT_MW / UJ_PER_KWH, 1.0],
        group=[0, 0],
        minimum=[0.0, 0.0],
        battery=[20.5 * UNIT_MW / UJ_PER_KWH, 1000 * UNIT_MW / UJ_PER_KWH],
        soc=[0.0, 0.0],
        groups=site.groups,
    )
    nothing = Schedule(at=[], group=[], capacity=[], groups=site.groups)
    return sessions, site, nothing, taper


@settings(max_examples=300)
@given(case=cases(pauses=False))
def test_who_takes_less_leaves_others_no_less(case):
    exact = ContinuousTime(*case)

    exact.run()

    assert not any(span.pauses for span in exact.spans)
    for before, after in pairwise(exact.spans):
        if after.crossed:
            assert sum(after.powers.values()) <= sum(before.powers.values())
            for row in after.powers.keys() - after.crossed:
                assert after.powers[row] >= before.powers[row]


@settings(max_examples=300)
@given(case=cases(pauses=False))
@example(case=of_two(9.5, TAPERS[0]))
@example(case=of_two(20.0, Taper((0.5,), (0.5,))))
def test_it_is_within_a_millisecond_of_each_event_of_continuous_time(case):
    sessions, site, *_ = case

    exact, result = live(case)

    apart = {
        row: abs(v.delivered - int(result.delivered[row])) for row, v in exact.vehicles.items()
    }
    tree = {row: chain(site, int(sessions.group[row]))[-1] for row in apart}
    for row, v in exact.vehicles.items():
        others = [w for w in exact.vehicles.values() if tree[w.row] == tree[row]]
        assert apart[row] <= sum(at_stake(w, result, v.departure) for w in others)
    for g, name in enumerate(site.groups):
        below = [row for row in apart if g in chain(site, int(sessions.group[row]))]
        energy = sum(exact.vehicles[row].delivered for row in below)
        bound = sum(
            at_stake(w, result, NEVER)
            for w in exact.vehicles.values()
            if tree[w.row] == chain(site, g)[-1]
        )
        assert abs(energy - result.energy(name)) <= sum(apart[row] for row in below) <= bound


@settings(max_examples=300)
@given(case=cases(pauses=True))
def test_energy_is_the_integral_of_a_load_that_passes_no_limit(case):
    sessions, site, *_ = case

    exact, result = live(case)

    for g, name in enumerate(site.groups):
        below = [row for row in exact.vehicles if g in chain(site, int(sessions.group[row]))]
        integral = Fraction(0)
        for span in exact.spans:
            load = sum(span.powers.get(row, 0) for row in below)
            assert load <= span.usable[g]
            integral += load * (span.end - span.begin)
        assert integral == sum(exact.vehicles[row].delivered for row in below)
        curve, limit = result.curve(name), result.limit(name)
        assert curve.energy() == result.energy(name) == sum(result.delivered[below].tolist())
        for at in {*curve.at.tolist(), *limit.at.tolist()}:
            assert curve.value(at) <= limit.value(at)
