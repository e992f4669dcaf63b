"""The loop over events against the definition, millisecond by millisecond, without a tolerance."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulator import UJ_PER_KWH, Simulator, percentile_95, steps

from wattfill import Connector, Registry
from wattfill.simulation import (
    ANY_CONNECTOR,
    STRATEGIES,
    Schedule,
    Sessions,
    Site,
    Taper,
    simulate,
)
from wattfill.simulation.result import NEVER

# Where times begin: at the epoch, before it, and in the hour that summer time leaves out.
BEGINNINGS = [0, -7, -1_000_003, 1_774_746_000_000]
# Powers are some of these times a unit: 1 mW, where every rest shows, or what people write.
UNITS = [0.000001, 0.000001, 1.38]
LOWS, HIGHS, LIMITS = [0, 0, 2, 3, 4], [3, 5, 7, 8, 16], [0, 3, 5, 6, 9, 10, 14, 20, 40]


@st.composite
def sites(draw):
    """One to four groups in trees, and their connectors."""
    n_groups = draw(st.integers(1, 4))
    parent, line = [], []
    for g in range(n_groups):
        line = line[: draw(st.integers(0, len(line)))]
        parent.append(line[-1] if line else -1)
        line.append(g)
    unit = draw(st.sampled_from(UNITS))
    owner = sorted(draw(st.lists(st.integers(0, n_groups - 1), min_size=1, max_size=6)))
    low = [draw(st.sampled_from(LOWS)) for _ in owner]
    high = [max(least, draw(st.sampled_from(HIGHS))) for least in low]
    return Site(
        groups=tuple(f"g{g}" for g in range(n_groups)),
        capacity=np.array([draw(st.sampled_from(LIMITS)) for _ in parent]) * unit,
        buffer=[draw(st.sampled_from([0.0, 0.0, 0.1, 0.5])) for _ in parent],
        reserved=np.array([draw(st.sampled_from([0, 0, 0, 1, 3])) for _ in parent]) * unit,
        minimum=np.zeros(n_groups),
        parent=parent,
        policy=tuple(draw(st.sampled_from(["fifo", "rotate", "most"])) for _ in parent),
        rotation=[draw(st.sampled_from([0.001, 0.002, 0.003, 0.005])) for _ in parent],
        # Two connectors at a station, as long as they are in one group.
        connectors=tuple((f"s{g}-{i // 2}", str(i)) for i, g in enumerate(owner)),
        owner=np.array(owner, np.int64),
        connector_minimum=np.array(low) * unit,
        connector_maximum=np.array(high) * unit,
    ), unit


def optional(draw, values, n):
    """Return a column of values, or none."""
    if draw(st.booleans()):
        return None
    return [draw(st.sampled_from(values)) for _ in range(n)]


@st.composite
def tables(draw, site, unit):
    """Return some sessions at a site, within 50 ms."""
    n = draw(st.integers(0, 8))
    begin = draw(st.sampled_from(BEGINNINGS))
    arrival = [begin + draw(st.integers(0, 25)) for _ in range(n)]
    energy = [draw(st.integers(0, 60)) * unit * 1e6 / UJ_PER_KWH for _ in range(n)]
    kw = [count * unit for count in HIGHS]
    stations = sorted({station for station, _ in site.connectors})
    connectors = (*site.connectors, *((station, ANY_CONNECTOR) for station in stations))
    # Only the first to ask for a connector may name it: others would overlap.
    named = iter(range(len(site.connectors)))
    codes = []
    for _ in range(n):
        kind = draw(st.sampled_from(["group", "group", "station", "connector"]))
        code = -1
        if kind == "station" and stations:
            code = len(site.connectors) + draw(st.integers(0, len(stations) - 1))
        if kind == "connector":
            code = next(named, -1)
        codes.append(code)
    batteries = draw(st.booleans())
    return Sessions(
        arrival=np.array(arrival, np.int64),
        departure=np.array([at + draw(st.integers(0, 20)) for at in arrival], np.int64),
        energy=np.array(energy, np.float64),
        group=np.array(
            [draw(st.integers(0, len(site.groups) - 1)) if c < 0 else -1 for c in codes], np.int32
        ),
        connector=np.array(codes, np.int32),
        maximum=optional(draw, [math.inf, 0.0, *kw], n),
        minimum=optional(draw, [0.0, 0.0, *(count * unit for count in LOWS), 9 * unit], n),
        weight=optional(draw, [1.0, 1.0, 0.5, 3.0], n),
        priority=optional(draw, [0, 0, 1, -2], n),
        battery=[
            draw(
                st.sampled_from(
                    [math.nan, 30 * unit * 1e6 / UJ_PER_KWH, 50 * unit * 1e6 / UJ_PER_KWH]
                )
            )
            for _ in range(n)
        ]
        if batteries
        else None,
        soc=[draw(st.sampled_from([0.0, 0.5, 0.79, 0.9, 1.0])) for _ in range(n)]
        if batteries
        else None,
        groups=site.groups,
        connectors=connectors,
    )


@st.composite
def schedules(draw, site, unit, sessions):
    n = draw(st.integers(0, 4))
    if n == 0 or len(sessions) == 0:
        return None
    begin = int(sessions.arrival.min())
    kw = st.sampled_from([math.nan, *(count * unit for count in LIMITS)])
    return Schedule(
        at=np.array([begin + draw(st.integers(-3, 40)) for _ in range(n)], np.int64),
        group=np.array([draw(st.integers(0, len(site.groups) - 1)) for _ in range(n)], np.int32),
        capacity=[draw(kw) for _ in range(n)] if draw(st.booleans()) else None,
        reserved=[draw(kw) for _ in range(n)],
        groups=site.groups,
    )


TAPERS = [Taper(), Taper((), ()), Taper((0.0, 0.4, 1.0), (0.7, 0.3, 0.1))]


@st.composite
def cases(draw):
    site, unit = draw(sites())
    sessions = draw(tables(site, unit))
    return sessions, site, draw(schedules(site, unit, sessions)), draw(st.sampled_from(TAPERS))


def hold_to_the_definition(case, strategy):
    """Compare all that the engine says."""
    sessions, site, schedule, taper = case
    definition = Simulator(sessions, site, schedule, strategy, taper)
    definition.run()

    result = simulate(
        sessions, site, schedule=schedule, strategy=strategy, taper=taper, curves="sessions"
    )

    known = definition.sessions
    assert result.connector.tolist() == [s.connector for s in known]
    assert result.delivered.tolist() == [s.delivered for s in known]
    assert result.full_at.tolist() == [NEVER if s.full_at is None else s.full_at for s in known]
    assert result.paused.tolist() == [s.paused for s in known]
    for s in known:
        curve = result.session_curve(s.row)
        assert list(zip(curve.at.tolist(), curve.quanta.tolist(), strict=True)) == s.powers
        assert curve.energy() == s.delivered
    a = result.arrays
    for g, name in enumerate(site.groups):
        below = [s for s in known if g in definition.chains[s.group]]
        loads, usables = definition.loads[g][:-1], definition.usables[g][:-1]
        curve = result.curve(name)
        assert a["n_sessions"][g] == len(below)
        assert a["n_turned_away"][g] == sum(s.connector < 0 for s in below)
        assert (
            result.energy(name) == curve.energy() == sum(s.delivered for s in below) == sum(loads)
        )
        assert list(zip(curve.at.tolist(), curve.quanta.tolist(), strict=True)) == steps(
            result.start, definition.loads[g]
        )
        assert a["peak"][g] == max(loads, default=0)
        assert a["p95"][g] == percentile_95(loads)
        over = [load - usable for load, usable in zip(loads, usables, strict=True)]
        assert a["over"][g] == sum(excess > 0 for excess in over)
        assert a["over_peak"][g] == max([0, *over])
        if strategy == "uncontrolled":
            assert a["limiting"][g] == a["over"][g]
        else:
            assert a["limiting"][g] == definition.limiting[g]
            assert a["over"][g] == 0


@pytest.mark.parametrize("strategy", STRATEGIES)
@given(case=cases())
def test_it_does_what_the_definition_says(strategy, case):
    hold_to_the_definition(case, strategy)


@st.composite
def registries(draw):
    """Return a registry whose seconds are milliseconds, and the same site."""
    r = Registry()
    n_groups = draw(st.integers(1, 3))
    for g in range(n_groups):
        above = draw(st.sampled_from([None, *range(g)]))
        r.create_group(
            "",
            draw(st.sampled_from([6.0, 12.0, 25.0, 40.0])),
            draw(st.sampled_from([0.0, 1.4, 4.14])),
            buffer=draw(st.sampled_from([0.0, 0.1])),
            reserved=draw(st.sampled_from([0.0, 0.5])),
            policy=draw(st.sampled_from(["fifo", "rotate", "most"])),
            rotation=draw(st.sampled_from([2, 3, 5])),
            parent=None if above is None else f"g{above}",
            id=f"g{g}",
        )
    for i in range(draw(st.integers(2, 6))):
        minimum = draw(st.sampled_from([None, 0.3, 4.14, 6.0, 8.0]))
        g = draw(st.integers(0, n_groups - 1))
        r.add_charge_station(f"g{g}", f"s{i}", [Connector("1", 11, minimum)])
    site = Site.of(r)
    return r, replace(site, rotation=site.rotation / 1000)


@st.composite
def queues(draw, site):
    """Return sessions that follow each other on every connector, by arrival."""
    sessions = []
    for i in range(len(site.connectors)):
        at = draw(st.integers(0, 10))
        for _ in range(draw(st.integers(0, 3))):
            departure = at + draw(st.integers(1, 20))
            sessions.append((at, departure, i))
            at = departure + draw(st.integers(0, 4))
    sessions.sort()
    n = len(sessions)
    return Sessions(
        arrival=np.array([at for at, _, _ in sessions], np.int64),
        departure=np.array([at for _, at, _ in sessions], np.int64),
        connector=np.array([i for *_, i in sessions], np.int32),
        energy=[draw(st.integers(1, 150)) * 1e6 / UJ_PER_KWH for _ in range(n)],
        maximum=optional(draw, [math.inf, 0.0, 7.0, 11.5], n),
        weight=optional(draw, [1.0, 1.0, 0.5, 2.0], n),
        priority=optional(draw, [0, 0, 1, -1], n),
        connectors=site.connectors,
    )


@given(data=st.data(), there=registries())
def test_it_gives_what_the_registry_gives_at_every_millisecond(data, there):
    registry, site = there
    s = data.draw(queues(site))
    # Out of line, so that others are not slowed down: later capacities.
    at = data.draw(st.lists(st.integers(0, 40), max_size=3))
    schedule = Schedule(
        at=np.array(at, np.int64),
        group=np.array([data.draw(st.integers(0, len(site.groups) - 1)) for _ in at], np.int32),
        capacity=[data.draw(st.sampled_from([0.0, 9.0, 30.0])) for _ in at],
        groups=site.groups,
    )

    result = simulate(s, site, schedule=schedule, curves="sessions")

    curves = [result.session_curve(i) for i in range(len(s))]
    for now in range(int(s.departure.max(initial=0))):
        for i in range(len(s)):
            if now == min(s.departure[i], result.full_at[i]):
                registry.stop_session(*site.connectors[s.connector[i]])
        for k in np.flatnonzero(schedule.at == now).tolist():
            name, capacity = site.groups[schedule.group[k]], float(schedule.capacity[k])
            registry.update_group(name, maximum_capacity=capacity)
        for i in np.flatnonzero(s.arrival == now).tolist():
            registry.start_session(
                *site.connectors[s.connector[i]],
                maximum=None if s.maximum is None or s.maximum[i] == math.inf else s.maximum[i],
                weight=1.0 if s.weight is None else s.weight[i],
                priority=0 if s.priority is None else int(s.priority[i]),
                at=now,
            )
        powers = registry.allocate(at=now).powers()
        for i in range(len(s)):
            if s.arrival[i] <= now < min(s.departure[i], result.full_at[i]):
                given_mw = round(powers[site.connectors[s.connector[i]]] * 1e6)
                drawn_mw = round(curves[i].value(now) * 1e6)
                # In its last millisecond it draws what is left.
                last = now + 1 == result.full_at[i]
                assert drawn_mw == given_mw or (last and drawn_mw < given_mw)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_many_sessions_at_a_deep_tree_do_what_the_definition_says(strategy):
    random = np.random.default_rng(5)
    n_groups, n_plugs, n = 6, 14, 90
    site = Site(
        groups=tuple("abcdef"),
        capacity=[40.0, 18.0, 12.0, 25.0, 9.0, 15.0],
        buffer=[0.0, 0.1, 0.0, 0.0, 0.05, 0.0],
        reserved=[1.0, 0.0, 0.0, 0.5, 0.0, 0.0],
        minimum=np.zeros(n_groups),
        parent=[-1, 0, 1, 0, 3, -1],
        policy=("rotate", "fifo", "most", "rotate", "fifo", "rotate"),
        rotation=[0.004, 0.9, 0.9, 0.006, 0.9, 0.005],
        connectors=tuple(("s", str(i)) for i in range(n_plugs)),
        owner=np.sort(random.integers(0, n_groups, n_plugs)),
        connector_minimum=random.choice([0.0, 1.4, 4.14], n_plugs),
        connector_maximum=random.choice([7.4, 11.0, 22.0], n_plugs),
    )
    arrival = random.integers(0, 150, n)
    sessions = Sessions(
        arrival=arrival,
        departure=arrival + random.integers(1, 40, n),
        energy=random.integers(1, 200_000_000, n) / UJ_PER_KWH,
        group=random.integers(0, n_groups, n),
        maximum=random.choice([3.7, 7.4, 22.0, np.inf], n),
        weight=random.choice([1.0, 1.0, 2.0], n),
        priority=random.choice([0, 0, 0, 1], n),
        battery=random.choice([np.nan, 60e-6], n),
        soc=random.choice([0.1, 0.7, 0.85], n),
        groups=site.groups,
    )
    schedule = Schedule(
        at=random.integers(0, 150, 12),
        group=random.integers(0, n_groups, 12),
        reserved=random.choice([0.0, 2.0, 5.0], 12),
        groups=site.groups,
    )

    hold_to_the_definition((sessions, site, schedule, Taper()), strategy)


def a_forest(random, n_trees):
    """Return sites of one to three groups each, and sessions at them over a week."""
    n_groups = 2 * n_trees
    n_plugs = 4 * n_groups
    site = Site(
        groups=tuple(f"g{g}" for g in range(n_groups)),
        capacity=random.uniform(10.0, 40.0, n_groups).round(2),
        buffer=random.choice([0.0, 0.1], n_groups),
        reserved=np.zeros(n_groups),
        minimum=np.full(n_groups, 4.14),
        parent=np.where(np.arange(n_groups) % 2, np.arange(n_groups) - 1, -1),
        policy=tuple(random.choice(["fifo", "rotate", "most"], n_groups).tolist()),
        rotation=np.full(n_groups, 900.0),
        connectors=tuple(("s", str(i)) for i in range(n_plugs)),
        owner=np.repeat(np.arange(n_groups), 4),
        connector_minimum=np.full(n_plugs, 4.14),
        connector_maximum=random.choice([11.0, 22.0], n_plugs),
    )
    n = 40 * n_trees
    arrival = random.integers(0, 7 * 86_400_000, n)
    sessions = Sessions(
        arrival=arrival,
        departure=arrival + random.integers(0, 10 * 3_600_000, n),
        energy=random.uniform(0.0, 60.0, n),
        group=random.integers(0, n_groups, n),
        battery=np.full(n, 60.0),
        soc=random.uniform(0.0, 1.0, n),
        groups=site.groups,
    )
    return sessions, site


def outcome(result):
    """Return the bytes of all that a result holds, apart from the names."""
    arrays = (result.connector, result.delivered, result.full_at, result.paused)
    return [a.tobytes() for a in (*arrays, *result.arrays.values(), *result.steps.values())]


@pytest.mark.parametrize("threads", [2, 3, 50])
def test_any_number_of_threads_gives_the_same_bits(threads):
    sessions, site = a_forest(np.random.default_rng(1), 60)
    alone = simulate(sessions, site, curves="sessions", threads=1)

    together = simulate(sessions, site, curves="sessions", threads=threads)

    assert outcome(together) == outcome(alone)
    assert alone.n_solved > 1000
    assert alone.n_events == together.n_events


def test_trees_and_rows_in_another_order_change_nothing():
    random = np.random.default_rng(2)
    sessions, site = a_forest(random, 20)
    before = simulate(sessions, site)
    trees = random.permutation(20)
    groups = (2 * trees[:, None] + [0, 1]).ravel()
    plugs = (4 * groups[:, None] + np.arange(4)).ravel()
    rows = random.permutation(len(sessions))
    moved = Site(
        groups=tuple(site.groups[g] for g in groups),
        **{
            name: getattr(site, name)[groups]
            for name in ("capacity", "buffer", "reserved", "minimum", "rotation")
        },
        parent=site.parent,
        policy=tuple(site.policy[g] for g in groups),
        connectors=tuple(site.connectors[i] for i in plugs),
        owner=site.owner,
        connector_minimum=site.connector_minimum[plugs],
        connector_maximum=site.connector_maximum[plugs],
    )

    after = simulate(sessions.take(rows), moved)

    for name in ("delivered", "full_at", "paused"):
        assert getattr(after, name).tolist() == getattr(before, name)[rows].tolist(), name
    for name, values in after.arrays.items():
        assert values.tolist() == before.arrays[name][groups].tolist(), name


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_week_conserves_energy_and_passes_no_limit(strategy):
    sessions, site = a_forest(np.random.default_rng(3), 10)

    result = simulate(sessions, site, strategy=strategy, curves="sessions")

    came_to = sessions.group
    assert (result.delivered <= np.rint(sessions.energy * UJ_PER_KWH)).all()
    for i in range(len(sessions)):
        assert result.session_curve(i).energy() == result.delivered[i]
    for g, name in enumerate(site.groups):
        curve, limit = result.curve(name), result.limit(name)
        below = [g, g + 1] if site.parent[g] < 0 else [g]
        delivered = result.delivered[np.isin(came_to, below)].sum()
        assert curve.energy() == result.energy(name) == delivered
        passed = (curve.quanta > limit.quanta[0]).any()
        assert not passed or strategy == "uncontrolled"


def test_nobody_at_nothing_comes_to_nothing():
    site = Site.of(Registry())
    nobody = Sessions(arrival=[], departure=[], energy=[])

    result = simulate(nobody, site)

    assert len(result.delivered) == result.groups.n_rows == result.sessions.n_rows == 0
    assert (result.start, result.stop, result.n_events) == (0, 0, 0)
    assert result.summary["share"] == 1.0


def test_a_group_without_connectors_turns_everybody_away():
    r = Registry()
    r.create_group("", 10, id="bare")
    sessions = Sessions.of(group=["bare"], arrival=[0], departure=[1000], energy=[1.0])

    result = simulate(sessions, Site.of(r))

    assert result.groups.to_dicts()[0]["turned_away"] == 1
    assert result.groups["refused_kwh"].tolist() == [1.0]
    assert result.sessions["group"].tolist() == ["bare"]
