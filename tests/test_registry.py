"""The registry: ids and membership, who is admitted first, and what is solved again."""

import copy
import dataclasses
import json
import math
import pickle
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattfill import (
    ChargeStation,
    ConflictError,
    Connector,
    Group,
    InputError,
    InputTypeError,
    Reason,
    Registry,
    UnknownIdError,
    WattfillError,
    _trees,
)


def yard(capacity=100, n=3, maximum=11, minimum=None, **options):
    """Return a registry of one group "g" with n stations "s0", "s1", ... of one connector "1"."""
    r = Registry()
    r.create_group("Yard", capacity, id="g", **options)
    for i in range(n):
        r.add_charge_station("g", f"s{i}", [Connector("1", maximum, minimum)])
    return r


def powers(allocation):
    return {key: a.power for key, a in allocation.connectors.items() if a.reason != Reason.IDLE}


def charging(allocation):
    """Return the stations that are admitted."""
    return [
        a.station
        for a in allocation.connectors.values()
        if a.reason not in (Reason.IDLE, Reason.PAUSED)
    ]


def saved(r):
    return json.loads(json.dumps(r.to_dict(), allow_nan=False))


# Sharing


def test_sessions_share_what_is_usable():
    # 100 kW less a tenth less 30 kW leaves 60 kW for three: 20 each, but one takes 11 at most.
    r = yard(100, 2, 50, buffer=0.1, reserved=30)
    r.add_charge_station("g", "s2", [Connector("1", 11)])
    for i in range(3):
        r.start_session(f"s{i}", "1")

    assert powers(r.allocate()) == {("s0", "1"): 24.5, ("s1", "1"): 24.5, ("s2", "1"): 11.0}


def test_a_connector_allocation_says_everything():
    r = yard(10, 2, 22, 6)
    r.start_session("s0", "1")
    r.start_session("s1", "1", maximum=8)

    a = r.allocate().connectors

    assert dataclasses.asdict(a["s0", "1"]) == {
        "station": "s0",
        "connector": "1",
        "group": "g",
        "power": 10.0,
        "reason": Reason.SHARING,
        "bound_by": "g",
        "minimum": 6.0,
        "maximum": 22.0,
    }
    assert (a["s1", "1"].reason, a["s1", "1"].bound_by) == (Reason.PAUSED, "g")
    assert (a["s1", "1"].power, a["s1", "1"].maximum) == (0.0, 8.0)


def test_a_group_allocation_says_everything_in_decimals():
    # 0.3 kW for two minimums of 0.1 and 0.25: the second waits, the first takes 0.2.
    r = yard(0.3, 1, 0.2, 0.1)
    r.add_charge_station("g", "late", [Connector("1", 0.4, 0.25)])
    r.start_session("s0", "1")
    r.start_session("late", "1")

    assert dataclasses.asdict(r.allocate().groups["g"]) == {
        "id": "g",
        "usable": 0.3,
        "used": 0.2,
        "headroom": 0.1,
        "shortfall": 0.05,
        "level": math.inf,
    }


def test_a_connector_without_a_session_is_idle():
    a = yard().allocate().connectors["s0", "1"]

    assert (a.power, a.reason, a.bound_by) == (0.0, Reason.IDLE, None)


def test_a_group_below_another_is_held_by_both():
    r = yard(30, 2, 22)
    r.create_group("Floor", 12, id="floor", parent="g")
    r.move_charge_station("s1", "floor")
    r.start_session("s0", "1")
    r.start_session("s1", "1")

    a = r.allocate()

    assert powers(a) == {("s0", "1"): 18.0, ("s1", "1"): 12.0}
    assert a.connectors["s0", "1"].bound_by == "g"
    assert a.connectors["s1", "1"].bound_by == "floor"
    assert (a.groups["g"].used, a.groups["floor"].used) == (30.0, 12.0)


def test_the_shortfall_of_a_group_counts_the_sessions_below_it():
    r = yard(10, 2, 22, 6)
    r.create_group("Floor", 4, id="floor", parent="g")
    r.move_charge_station("s1", "floor")
    r.start_session("s0", "1")
    r.start_session("s1", "1")

    groups = r.allocate().groups

    assert (groups["g"].shortfall, groups["floor"].shortfall) == (2.0, 2.0)


@pytest.mark.parametrize(
    ("minimum", "maximum", "capacity"),
    [(0.1, 1.0, 0.3), (1e-7, 1.0, 3e-6), (5.0000004, 5.0000004, 15.0), (4.1400000001, 22.0, 12.42)],
)
def test_there_is_a_shortfall_only_where_somebody_is_paused(minimum, maximum, capacity):
    r = yard(capacity, 3, maximum, minimum)
    for i in range(3):
        r.start_session(f"s{i}", "1")

    a = r.allocate()

    assert len(charging(a)) == 3
    assert a.groups["g"].shortfall == 0.0


def test_a_connector_takes_its_groups_minimum_where_that_is_larger():
    r = yard(100, 0, minimum_connector_capacity=2.5)
    r.add_charge_station(
        "g", "s", [Connector("a", 15, 5), Connector("b", 15), Connector("c", 15, 1)]
    )

    assert [a.minimum for a in r.allocate().connectors.values()] == [5.0, 2.5, 2.5]


def test_a_session_never_lowers_the_maximum_below_the_minimum():
    r = yard(100, 1, 22, 6)
    r.start_session("s0", "1", maximum=3)

    assert r.allocate().connectors["s0", "1"].maximum == 6.0


def test_weights_and_priorities_reach_the_kernel():
    r = yard(30, 3, 22)
    r.start_session("s0", "1", weight=2)
    r.start_session("s1", "1")
    r.start_session("s2", "1", maximum=15, priority=1)

    # The higher tier first: 15 kW; what is left in proportion 2 : 1.
    assert powers(r.allocate()) == {("s0", "1"): 10.0, ("s1", "1"): 5.0, ("s2", "1"): 15.0}


def test_an_updated_session_is_allocated_anew():
    r = yard(30, 1, 22)
    r.start_session("s0", "1", maximum=5, at=7)
    before = r.allocate()

    after = r.update_session("s0", "1", maximum=None, weight=3, priority=-2)

    assert (after.maximum, after.weight, after.priority, after.started_at) == (None, 3.0, -2, 7.0)
    assert (powers(before), powers(r.allocate())) == ({("s0", "1"): 5.0}, {("s0", "1"): 22.0})


def test_an_empty_registry_and_an_empty_group_have_an_answer():
    r = Registry()

    assert dict(r.allocate().connectors) == {}
    assert r.create_group("Empty", 0).id in r.allocate().groups


def test_a_capacity_of_zero_pauses_everybody():
    r = yard(0, 2, 22, 6)
    r.start_session("s0", "1")

    assert r.allocate().connectors["s0", "1"].reason == Reason.PAUSED


# Records


def test_an_id_is_made_of_24_hexadecimal_digits():
    made = Registry().create_group("Park3-E1", 100).id

    assert len(made) == 24
    assert set(made) <= set("0123456789abcdef")


def test_what_was_read_never_changes():
    r = yard()
    group, station, session = r.group("g"), r.charge_station("s0"), r.start_session("s0", "1")

    r.update_group("g", name="Other")
    r.update_charge_station("s0", [Connector("1", 7)])
    r.update_session("s0", "1", weight=2)

    assert (group.name, station.connectors[0].maximum_capacity, session.weight) == ("Yard", 11.0, 1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        group.name = "Mine"


def test_an_update_keeps_what_it_does_not_name():
    r = yard(100, 0, buffer=0.1, notes="North")

    assert r.update_group("g", buffer=0.2) == Group("g", "Yard", 100.0, buffer=0.2, notes="North")


def test_lists_are_in_the_order_of_ids_and_parents_come_first():
    r = Registry()
    for group_id, parent in [("c", None), ("a", "c"), ("b", "c"), ("d", "a"), ("0", None)]:
        r.create_group(group_id, 1, id=group_id, parent=parent)
    for station in ("y", "x"):
        r.add_charge_station("d", station, [Connector("1", 1)])

    assert [group.id for group in r.groups()] == ["0", "c", "a", "d", "b"]
    assert [station.id for station in r.charge_stations()] == ["x", "y"]
    assert list(r.allocate().connectors) == [("x", "1"), ("y", "1")]


def test_lists_can_be_of_one_group():
    r = yard(n=2)
    r.create_group("Floor", 1, id="floor", parent="g")
    r.add_charge_station("floor", "other", [Connector("1", 1)])
    for station in ("other", "s1", "s0"):
        r.start_session(station, "1")

    assert [station.id for station in r.charge_stations("floor")] == ["other"]
    assert [session.station for session in r.sessions("g")] == ["s1", "s0"]
    assert [session.station for session in r.sessions()] == ["other", "s1", "s0"]


def test_minus_zero_becomes_zero():
    r = yard(-0.0, 0, buffer=-0.0)

    assert math.copysign(1, r.group("g").maximum_capacity) == 1
    assert math.copysign(1, r.group("g").buffer) == 1


def test_numbers_of_numpy_are_numbers():
    group = Registry().create_group("g", np.float32(2.5), np.int64(1), buffer=np.array(0.5))

    assert [type(x) for x in (group.maximum_capacity, group.buffer)] == [float, float]
    assert json.dumps(dataclasses.asdict(group))


def test_a_moved_station_takes_its_sessions_along():
    r = yard(10, 2, 22)
    r.create_group("Other", 5, id="other")
    r.start_session("s0", "1")

    moved = r.move_charge_station("s0", "other")

    assert moved == ChargeStation("s0", "other", (Connector("1", 22),))
    assert powers(r.allocate()) == {("s0", "1"): 5.0}


def test_a_removed_station_takes_its_sessions_along():
    r = yard(n=2)
    r.start_session("s0", "1")
    r.start_session("s1", "1")

    r.remove_charge_station("s0")

    assert list(powers(r.allocate())) == [("s1", "1")]
    assert [session.station for session in r.sessions()] == ["s1"]


def test_an_emptied_group_can_be_deleted():
    r = yard(n=1)
    r.remove_charge_station("s0")

    r.delete_group("g")

    assert r.groups() == []
    assert dict(r.allocate().groups) == {}


def test_a_group_moves_with_all_that_it_holds():
    r = yard(10, 2, 22)
    r.create_group("Site", 6, id="site")
    r.start_session("s0", "1")
    r.start_session("s1", "1")

    free = powers(r.allocate())
    r.update_group("g", parent="site")
    held = powers(r.allocate())
    r.update_group("g", parent=None)

    assert set(free.values()) == {5.0}
    assert set(held.values()) == {3.0}
    assert powers(r.allocate()) == free


def test_a_registry_shows_how_much_it_holds():
    assert repr(yard(n=2)) == "<Registry of 1 group, 2 charge stations and 0 sessions>"


# Who is admitted first


def test_fifo_goes_by_start_and_then_by_arrival():
    r = yard(12, 4, 11, 6)
    for station, at in [("s3", 5), ("s0", 9), ("s1", 5), ("s2", 2)]:
        r.start_session(station, "1", at=at)

    assert charging(r.allocate()) == ["s2", "s3"]


def test_most_admits_the_smallest_minimums_first():
    r = yard(10, 0, policy="most")
    for station, minimum in [("a", 8), ("d", 4), ("c", 5), ("b", 4)]:
        r.add_charge_station("g", station, [Connector("1", 11, minimum)])
        r.start_session(station, "1")

    both = charging(r.allocate())
    r.update_group("g", maximum_capacity=7)

    assert both == ["b", "d"]
    assert charging(r.allocate()) == ["d"]


def test_rotate_sends_those_served_to_the_end_of_the_line():
    r = yard(10, 3, 11, 6, policy="rotate", rotation=60)
    for i in range(3):
        r.start_session(f"s{i}", "1")

    served = [charging(r.allocate(at=at)) for at in (0, 59, 60, 120, 180)]

    assert served == [["s0"], ["s0"], ["s1"], ["s2"], ["s0"]]


def test_a_session_that_starts_anew_goes_to_the_end_of_the_line():
    r = yard(10, 3, 11, 6, policy="rotate")
    for i in range(3):
        r.start_session(f"s{i}", "1")
    r.allocate()

    r.stop_session("s1", "1")
    r.start_session("s1", "1")

    assert [charging(r.allocate(at=900 * turn)) for turn in (1, 2)] == [["s2"], ["s1"]]


def test_who_was_served_early_in_a_turn_has_been_served():
    r = yard(10, 2, 11, 6, policy="rotate")
    r.start_session("s0", "1")
    r.start_session("s1", "1")
    r.allocate()

    r.update_session("s1", "1", priority=1)
    assert charging(r.allocate()) == ["s1"]
    r.update_session("s1", "1", priority=0)

    # Both go to the end, in the order they had.
    assert charging(r.allocate(at=900)) == ["s0"]


def test_a_session_that_comes_back_has_not_been_served_there():
    r = yard(10, 3, 11, 6, policy="rotate")
    r.create_group("Other", 10, id="other")
    for i in range(3):
        r.start_session(f"s{i}", "1")
    r.allocate()
    r.move_charge_station("s0", "other")
    r.allocate()
    r.move_charge_station("s0", "g")

    served = [charging(r.allocate(at=at)) for at in (0, 900, 1800, 2700)]

    assert served == [["s1"], ["s2"], ["s0"], ["s1"]]


def test_a_turn_begins_at_a_whole_multiple_of_the_rotation():
    r = yard(10, 2, 11, 6, policy="rotate", rotation=0.1)
    r.start_session("s0", "1")
    r.start_session("s1", "1")

    # 0.3 lies just below three times the double 0.1.
    assert [charging(r.allocate(at=at)) for at in (0, 0.1, 0.2, 0.3, 0.30000000000000004)] == [
        ["s0"], ["s1"], ["s0"], ["s0"], ["s1"]
    ]  # fmt: skip


def test_a_group_with_a_policy_of_its_own_orders_its_places_anew():
    r = yard(14, 2, 11, 6)
    r.create_group("Most", 100, id="most", parent="g", policy="most")
    r.add_charge_station("most", "big", [Connector("1", 11, 8)])
    r.add_charge_station("most", "small", [Connector("1", 11, 7)])
    # By start: s0, big, s1, small. Among the places of big and small, small goes first.
    for station in ("s0", "big", "s1", "small"):
        r.start_session(station, "1")

    assert charging(r.allocate()) == ["s0", "small"]


def test_a_group_with_its_parents_policy_leaves_the_order_alone():
    r = yard(10, 2, 11, 6, policy="rotate")
    r.create_group("Floor", 100, id="floor", parent="g", policy="rotate")
    r.move_charge_station("s0", "floor")
    r.start_session("s0", "1")
    r.start_session("s1", "1")

    served = [charging(r.allocate(at=900 * turn)) for turn in range(4)]

    assert served == [["s0"], ["s1"], ["s0"], ["s1"]]
    assert [group["line"] is None for group in r.to_dict()["groups"]] == [False, True]


def test_a_group_may_take_turns_below_one_that_does_not():
    r = yard(10, 0)
    r.create_group("Floor", 100, id="floor", parent="g", policy="rotate", rotation=60)
    for station in ("a", "b"):
        r.add_charge_station("floor", station, [Connector("1", 11, 6)])
        r.start_session(station, "1")

    assert [charging(r.allocate(at=60 * turn)) for turn in range(3)] == [["a"], ["b"], ["a"]]


def test_a_line_survives_another_rotation():
    r = yard(10, 3, 11, 6, policy="rotate")
    for i in range(3):
        r.start_session(f"s{i}", "1")
    r.allocate()
    r.allocate(at=900)

    r.update_group("g", rotation=50)

    assert [charging(r.allocate(at=at)) for at in (900, 950, 1000)] == [["s1"], ["s2"], ["s0"]]


def test_a_line_does_not_survive_another_policy():
    r = yard(10, 3, 11, 6, policy="rotate")
    for i in range(3):
        r.start_session(f"s{i}", "1")
    r.allocate()
    r.allocate(at=900)

    r.update_group("g", policy="fifo")
    r.allocate()
    r.update_group("g", policy="rotate")

    assert charging(r.allocate()) == ["s0"]


@st.composite
def minimums(draw):
    """Return usable quanta of a group and minimums of which at least one fits, in kW."""
    usable = draw(st.integers(1, 30))
    return usable, draw(st.lists(st.integers(1, 2 * usable), min_size=1, max_size=8))


@given(
    minimums(),
    st.lists(st.tuples(st.integers(0, 9), st.integers(1, 40), st.booleans()), max_size=8),
)
def test_everyone_who_fits_at_all_is_served_within_as_many_turns_as_there_are_sessions(
    group, visits
):
    usable, needs = group
    r = yard(usable, 0, policy="rotate", rotation=1)
    for i, need in enumerate(needs):
        r.add_charge_station("g", f"s{i}", [Connector("1", 100, need)])
        r.start_session(f"s{i}", "1")
    waiting = {f"s{i}" for i, need in enumerate(needs) if need <= usable}

    for turn in range(len(needs)):
        waiting -= set(charging(r.allocate(at=turn)))
        for start, need, stays in visits:
            if start != turn:
                continue
            # Somebody comes by, within the turn or until later, or another goes for good.
            station = f"v{len(r.charge_stations())}"
            r.add_charge_station("g", station, [Connector("1", 100, need)])
            r.start_session(station, "1", at=turn)
            waiting -= set(charging(r.allocate()))
            gone = station if not stays else f"s{need % len(needs)}"
            if any(session.station == gone for session in r.sessions()):
                r.stop_session(gone, "1")
                waiting.discard(gone)
    assert not waiting


@given(
    st.integers(1, 24),
    st.lists(st.integers(1, 12), min_size=1, max_size=7),
    st.lists(st.integers(1, 12), min_size=0, max_size=5),
    st.sampled_from([(1.0, 1.0), (2.0, 3.0), (0.75, 2.5), (5.0, 7.5)]),
    st.lists(st.floats(0, 30), min_size=1, max_size=3),
)
def test_turns_that_went_by_unasked_are_made_up_for(usable, needs, below, rotations, times):
    def build():
        r = yard(usable, 0, policy="rotate", rotation=rotations[0])
        r.create_group("b", usable, id="b", parent="g", policy="rotate", rotation=rotations[1])
        for group, ns in (("g", needs), ("b", below)):
            for i, need in enumerate(ns):
                r.add_charge_station(group, f"{group}{i}", [Connector("1", 100, need)])
                r.start_session(f"{group}{i}", "1")
        r.allocate()
        return r

    step_by_step, at_once = build(), build()
    for at in sorted(times):
        turns = [k * rotation for rotation in rotations for k in range(1, int(at / rotation) + 1)]
        for turn in sorted(turns):
            if step_by_step.clock < turn <= at:
                step_by_step.allocate(at=turn)

        assert at_once.allocate(at=at) == step_by_step.allocate(at=at)
    assert at_once.to_dict() == step_by_step.to_dict()


# What is solved again


@pytest.fixture
def solves(monkeypatch):
    """Return a list that grows by the number of connectors of each tree that is solved."""
    seen, solve = [], _trees.Tree._solve

    def counting(tree):
        seen.append(len(tree.layout.keys))
        return solve(tree)

    monkeypatch.setattr(_trees.Tree, "_solve", counting)
    return seen


def fleet(n_groups):
    r = Registry()
    for g in range(n_groups):
        r.create_group("", 50, id=f"g{g}", policy=("fifo", "most")[g % 2])
        r.add_charge_station(f"g{g}", f"s{g}", [Connector("1", 22), Connector("2", 22)])
    return r


@pytest.mark.parametrize("n_groups", [10, 10_000])
def test_an_event_is_the_work_of_its_tree_alone(n_groups, solves):
    r = fleet(n_groups)
    r.allocate()
    assert solves == [2] * n_groups
    solves.clear()

    r.start_session("s3", "1")
    of_one, of_all = r.allocate("g3"), r.allocate()
    r.update_group("g4", buffer=0.5)
    r.allocate()
    r.allocate()

    assert solves == [2, 2]
    assert of_one.connectors["s3", "1"] == of_all.connectors["s3", "1"]
    assert (len(of_one.groups), len(of_all.groups)) == (1, n_groups)


def test_an_event_lays_out_nothing_anew(monkeypatch):
    r = fleet(10)
    r.allocate()
    monkeypatch.setattr(_trees, "_lay_out", pytest.fail)

    r.start_session("s3", "1")

    assert len(powers(r.allocate())) == 1


@pytest.mark.parametrize("policy", ["fifo", "most", "rotate"])
def test_another_capacity_lays_out_nothing_anew(monkeypatch, policy):
    r = yard(20, 2, 22, 6, policy=policy)
    r.create_group("Floor", 12, id="floor", parent="g", policy=policy)
    r.move_charge_station("s1", "floor")
    r.start_session("s0", "1")
    r.start_session("s1", "1")
    r.allocate()
    monkeypatch.setattr(_trees, "_lay_out", pytest.fail)

    r.update_group("floor", reserved=2, name="Floor 1")
    r.update_group("g", maximum_capacity=40, buffer=0.5)

    assert powers(r.allocate()) == {("s0", "1"): 10.0, ("s1", "1"): 10.0}
    r.update_group("floor", maximum_capacity=6)
    assert powers(r.allocate()) == {("s0", "1"): 20.0, ("s1", "1"): 0.0}
    assert r.group("floor").name == "Floor 1"


def test_another_minimum_of_the_group_reaches_its_connectors():
    r = yard(11, 2, 11)
    r.start_session("s0", "1")
    r.start_session("s1", "1")
    r.allocate()

    r.update_group("g", minimum_connector_capacity=6)

    assert charging(r.allocate()) == ["s0"]
    assert r.allocate().connectors["s0", "1"].minimum == 6.0


def test_who_started_first_is_first_however_late_the_registry_heard_of_it():
    r = yard(6, 2, 11, 6)
    r.start_session("s1", "1", at=10)
    r.start_session("s0", "1", at=5)

    assert charging(r.allocate()) == ["s0"]


def test_who_must_wait_is_who_came_last_whatever_came_in_between():
    # 12 kW are enough for two minimums of 6; s2 comes last but started first.
    r = yard(12, 4, 11, 6)
    r.start_session("s0", "1", at=10)
    r.start_session("s1", "1", at=11)
    assert charging(r.allocate()) == ["s0", "s1"]
    r.start_session("s2", "1", at=5)
    assert charging(r.allocate()) == ["s0", "s2"]
    r.start_session("s3", "1", at=20)
    r.stop_session("s2", "1")
    assert charging(r.allocate()) == ["s0", "s1"]
    r.stop_session("s0", "1")
    r.start_session("s0", "1", at=20)

    assert charging(r.allocate()) == ["s1", "s3"]


@pytest.mark.parametrize("policy", ["fifo", "most", "rotate"])
def test_an_order_is_made_only_where_somebody_must_wait(monkeypatch, policy):
    orders, order = [], _trees.Tree._admission_order

    def counting(tree):
        orders.append(tree)
        return order(tree)

    monkeypatch.setattr(_trees.Tree, "_admission_order", counting)
    r = yard(12, 3, 11, 6, policy=policy)
    for station in ("s0", "s1"):
        r.start_session(station, "1")
        r.allocate()
    assert not orders

    r.start_session("s2", "1")
    r.allocate()
    r.update_session("s0", "1", maximum=7)
    r.allocate()

    # Those who come one after another are in the order of "fifo" as it is.
    assert len(orders) == (policy != "fifo")


def test_a_turn_is_the_work_of_those_trees_that_wait(solves):
    r = fleet(10)
    for g in (3, 4):
        r.update_group(f"g{g}", policy="rotate", maximum_capacity=5)
        for connector in "12":
            r.start_session(f"s{g}", connector)
    r.update_charge_station("s3", [Connector("1", 22, 4), Connector("2", 22, 4)])
    r.allocate()
    solves.clear()

    r.allocate(at=900)

    assert solves == [2]


def test_a_gap_of_a_year_costs_little(solves):
    # Seven wait for three places: the line is as it was after seven turns of 900 s.
    r = yard(20, 7, 11, 6, policy="rotate")
    for i in range(7):
        r.start_session(f"s{i}", "1")
    r.allocate()

    year = 365 * 24 * 3600
    assert year // 900 % 7 == 5
    far = charging(r.allocate(at=year))

    assert len(solves) < 40
    assert far == ["s1", "s2", "s3"]


def test_a_first_call_at_a_late_time_has_no_turns_to_make_up_for(solves):
    r = yard(10, 3, 11, 6, policy="rotate")
    r.start_session("s0", "1")

    r.allocate(at=1_800_000_000)

    assert len(solves) == 1


def test_rotations_that_never_meet_do_not_take_forever(monkeypatch, solves):
    monkeypatch.setattr(_trees, "MOST_TURNS", 100)
    r = yard(10, 3, 11, 6, policy="rotate", rotation=math.pi)
    r.create_group("Floor", 10, id="floor", parent="g", policy="rotate", rotation=1e-9)
    r.add_charge_station("floor", "f", [Connector("1", 11, 6)])
    for station in ("s0", "f", "s1", "s2"):
        r.start_session(station, "1")
    r.allocate()

    assert len(charging(r.allocate(at=1e300))) == 1
    assert len(solves) <= 101
    # Both lines have come to the turn of that time all the same.
    turns = [group["line"]["turn"] for group in r.to_dict()["groups"]]
    assert turns == [Fraction(1e300) // Fraction(rotation) for rotation in (math.pi, 1e-9)]
    assert Registry.from_dict(saved(r)).to_dict() == r.to_dict()


def test_a_result_stays_what_it_was():
    r = yard(20, 3, 22)
    r.create_group("Other", 9, id="other")
    r.start_session("s0", "1")
    all_before, tree_before = r.allocate(), r.allocate("g")
    shown = dict(all_before.connectors), dict(all_before.groups), dict(tree_before.connectors)

    r.start_session("s1", "1")
    r.move_charge_station("s0", "other")
    r.update_group("other", parent="g")
    r.allocate()
    r.remove_charge_station("s2")

    assert shown == (
        dict(all_before.connectors), dict(all_before.groups), dict(tree_before.connectors)
    )  # fmt: skip
    assert all_before.connectors["s0", "1"].group == "g"


def test_the_mappings_of_a_result_behave_like_dicts():
    r = yard(n=2)
    r.create_group("Other", 9, id="other")
    a = r.allocate()

    assert (len(a.connectors), len(a.groups)) == (2, 2)
    assert ("s0", "1") in a.connectors
    assert ("s0", "2") not in a.connectors
    assert "nowhere" not in a.groups
    assert "nowhere" not in r.allocate("g").groups
    assert repr(a.groups) == repr(dict(a.groups))
    assert a == r.allocate()


def test_powers_are_read_in_one_go():
    r = yard(10, 2, 11, 6)
    r.create_group("Other", 9, id="other")
    r.move_charge_station("s1", "other")
    r.start_session("s0", "1")
    r.start_session("s1", "1")
    one, whole = r.allocate("g"), r.allocate()
    one.powers().clear()

    assert one.powers() == {("s0", "1"): 10.0}
    assert whole.powers() == {("s0", "1"): 10.0, ("s1", "1"): 9.0}
    assert list(whole.powers()) == list(whole.connectors)


def test_a_result_is_equal_to_another_that_says_the_same():
    r = yard(n=1)
    a = r.allocate()

    assert a == r.allocate("g")
    assert a != dict(a.connectors)
    r.start_session("s0", "1")
    assert a != r.allocate()
    assert repr(a).startswith("RegistryAllocation(connectors={('s0', '1'): ConnectorAllocation(")


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_of_a_registry_goes_its_own_way(copied):
    r = full()
    r.update_session("s2", "1", weight=1, priority=0)
    before = r.allocate()
    again = copied(r)
    again.start_session("s1", "1")
    again.update_group("g", maximum_capacity=50)
    r.stop_session("f", "b")
    r.stop_session("s0", "1")

    assert copied(before) == before
    assert r.allocate() == Registry.from_dict(saved(r)).allocate()
    assert again.allocate() == Registry.from_dict(saved(again)).allocate()
    assert (len(r.sessions()), len(again.sessions())) == (1, 4)


# Time


def test_the_clock_is_the_latest_time_heard_of():
    r = yard()

    assert r.clock == 0.0
    assert r.start_session("s0", "1", at=50).started_at == 50.0
    assert r.start_session("s1", "1", at=-3).started_at == -3.0
    assert r.start_session("s2", "1").started_at == 50.0
    r.allocate(at=60)
    assert r.clock == 60.0


def test_time_does_not_run_backwards():
    r = yard()
    r.allocate(at=60)

    with pytest.raises(InputError, match=r"at must be finite and at least 60.0, the registry's"):
        r.allocate(at=59)
    assert r.clock == 60.0


# Files


def full():
    r = yard(10, 3, 11, 6, policy="rotate", notes="ä")
    r.create_group("Floor", 5, 1.5, id="0", parent="g", buffer=0.25, location="L")
    r.add_charge_station("0", "f", [Connector("a", 4), Connector("b", 4, 2)])
    for station, connector in [("s2", "1"), ("f", "b"), ("s0", "1")]:
        r.start_session(station, connector, maximum=7, weight=2, priority=1, at=4)
    r.allocate(at=1000)
    return r


def test_a_registry_comes_back_from_json():
    r = full()

    again = Registry.from_dict(saved(r))

    assert again.to_dict() == r.to_dict()
    assert again.groups() == r.groups()
    assert again.sessions() == r.sessions()
    assert [again.allocate(at=at) for at in (1500, 5000)] == [
        r.allocate(at=at) for at in (1500, 5000)
    ]


def test_a_registry_is_saved_in_the_words_of_the_api():
    r = yard(100, 1, 15, 5, minimum_connector_capacity=2.5, buffer=0.1)
    r.start_session("s0", "1")

    assert r.to_dict() == {
        "format": "wattfill.registry",
        "version": 1,
        "clock": 0.0,
        "groups": [
            {
                "id": "g",
                "name": "Yard",
                "maximum_capacity": 100.0,
                "minimum_connector_capacity": 2.5,
                "buffer": 0.1,
                "reserved": 0.0,
                "policy": "fifo",
                "rotation": 900.0,
                "parent": None,
                "location": None,
                "description": "",
                "notes": "",
                "line": None,
            }
        ],
        "charge_stations": [
            {
                "id": "s0",
                "group": "g",
                "connectors": [
                    {"id": "1", "maximum_capacity": 15.0, "minimum_capacity": 5.0, "fallback": None}
                ],
            }
        ],
        "sessions": [
            {
                "station": "s0",
                "connector": "1",
                "maximum": None,
                "weight": 1.0,
                "priority": 0,
                "started_at": 0.0,
            }
        ],
    }


def test_the_order_in_which_things_were_added_does_not_show():
    a, b = Registry(), Registry()
    for r, ids in ((a, "xyz"), (b, "zyx")):
        for i in ids:
            r.create_group(i, 9, id=i)
            r.add_charge_station(i, f"s{i}", [Connector("1", 3)])

    assert a.to_dict() == b.to_dict()
    assert list(a.allocate().connectors) == list(b.allocate().connectors)


DAMAGES = [
    ((), [], "data must be a dict, got list"),
    (("format",), "tar", r"format must be 'wattfill.registry', got 'tar'"),
    (("version",), 2, "version must be 1, got 2, written by a newer wattfill"),
    (("version",), True, "version must be 1, got True$"),
    (("extra",), 1, "data must have nothing but format, .*, got 'extra'"),
    (("clock",), -1, "clock must be finite and at least 0, got -1.0"),
    (("clock",), None, "clock must be a real number, got None"),
    (("groups",), {}, "groups must be a list, got dict"),
    (("groups", 0), 7, r"groups\[0\] must be a dict, got int"),
    (("groups", 1, "buffer"), 1.5, r"groups\[1\].buffer must be within 0.0..1.0, got 1.5"),
    (("groups", 1, "buffer"), math.nan, r"groups\[1\].buffer must be within 0.0..1.0, got nan"),
    (("groups", 1, "name"), 5, r"groups\[1\].name must be a string, got 5"),
    (("groups", 1, "id"), "g", r"groups\[1\].id must not be that of another group, got 'g'"),
    (("groups", 1, "id"), None, r"groups\[1\].id must be a non-empty string, got None"),
    (("groups", 1, "parent"), "x", r"groups\[1\].parent must be the id of a group, got 'x'"),
    (("groups", 0, "parent"), "0", r"groups\[0\].parent must be the id of a group, got '0'"),
    (("groups", 1, "colour"), "red", r"groups\[1\] must have nothing but id, .*, got 'colour'"),
    (("groups", 0, "line"), 3, r"groups\[0\].line must be a dict, got int"),
    (("groups", 0, "line", "turn"), 1.0, r"groups\[0\].line.turn must be a whole number, got 1.0"),
    (("groups", 0, "line", "order"), "s", r"groups\[0\].line.order must be a list, got str"),
    (
        ("groups", 0, "line", "order", 1),
        ["s1", "1"],
        r"groups\[0\].line.order\[1\] must be the station and the connector of one more session",
    ),
    (("groups", 0, "line", "served", 0), 5, r"groups\[0\].line.served\[0\] must be .* got 5"),
    (("charge_stations", 0, "group"), "x", r"charge_stations\[0\].group must be the id of a group"),
    (("charge_stations", 0, "connectors"), [], r"charge_stations\[0\].connectors must hold at"),
    (("charge_stations", 1, "id"), "f", r"charge_stations\[1\].id must not be that of another"),
    (
        ("charge_stations", 0, "connectors", 1, "maximum_capacity"),
        math.inf,
        r"charge_stations\[0\].connectors\[1\].maximum_capacity must be finite .* rating",
    ),
    (
        ("charge_stations", 0, "connectors", 1, "maximum_capacity"),
        "4",
        r"charge_stations\[0\].connectors\[1\].maximum_capacity must be a real number, got '4'",
    ),
    (
        ("charge_stations", 0, "connectors", 0, "maximum_capacity"),
        1,
        r"charge_stations\[0\].connectors\[0\].maximum_capacity must be at least 1.5, the minimum",
    ),
    (("sessions", 2, "station"), "s2", r"sessions\[2\].connector must be free, but '1' of"),
    (("sessions", 2, "connector"), "9", r"sessions\[2\].connector must be the id of a connector"),
    (("sessions", 2, "weight"), 0, r"sessions\[2\].weight must be above 0 \(within 1e-100..1e\+1"),
    (("sessions", 2, "started_at"), 2000, r"sessions\[2\].started_at must be at most the clock, 1"),
]


@pytest.mark.parametrize(("path", "value", "message"), DAMAGES)
def test_a_damaged_file_is_refused_with_where_and_why(path, value, message):
    data = {"": saved(full())}
    put(data, ("", *path), value)

    with pytest.raises((InputError, InputTypeError), match=f"^{message}"):
        Registry.from_dict(data[""])


def every_key(value, path=()):
    for key in value if isinstance(value, dict) else range(len(value)):
        yield (*path, key)
        if isinstance(value[key], (dict, list)):
            yield from every_key(value[key], (*path, key))


def put(data, path, value):
    for step in path[:-1]:
        data = data[step]
    data[path[-1]] = value


@pytest.mark.parametrize("value", [None, True, "", -1, math.nan, [], {}, [[]], 10**400, "\ud800"])
def test_a_file_with_any_value_damaged_is_taken_or_refused(value):
    for path in every_key(full().to_dict()):
        data = full().to_dict()
        put(data, path, value)

        try:
            r = Registry.from_dict(data)
        except (InputError, InputTypeError):
            continue
        r.allocate()
        assert saved(r) == r.to_dict()


def test_a_file_with_anything_missing_is_refused():
    for path in every_key(full().to_dict()):
        data = full().to_dict()
        place = data
        for step in path[:-1]:
            place = place[step]
        if not isinstance(place, dict):
            continue
        del place[path[-1]]

        with pytest.raises(InputError, match=path[-1]):
            Registry.from_dict(data)


# Saying no


def refusing():
    r = yard(100, 2, 11, minimum_connector_capacity=2.5)
    r.create_group("Floor", 10, id="floor", parent="g")
    r.create_group("Strict", 10, 12, id="strict")
    r.start_session("s0", "1")
    r.allocate(at=5)
    return r


C = Connector
INFINITE = (
    r"maximum_capacity must be finite and at least 0 \(give the connector's rating\), got inf"
)
REFUSALS = [
    # Numbers
    (lambda r: r.create_group("x", math.nan), "maximum_capacity must be finite and .*, got nan"),
    (lambda r: r.create_group("x", math.inf), "maximum_capacity must be finite and .*, got inf"),
    (lambda r: r.create_group("x", -1), "maximum_capacity must be finite and at least 0, got -1.0"),
    (lambda r: r.create_group("x", True), "maximum_capacity must be a real number, got True"),
    (lambda r: r.create_group("x", "9"), "maximum_capacity must be a real number, got '9'"),
    (lambda r: r.create_group("x", None), "maximum_capacity must be a real number, got None"),
    (lambda r: r.create_group("x", 1j), "maximum_capacity must be a real number, got 1j"),
    (lambda r: r.create_group("x", [1]), r"maximum_capacity must be one number, got shape \(1,\)"),
    (
        lambda r: r.create_group("x", 2**51 / 1e6),
        r"maximum_capacity must be below 2.2518e\+09 kW, which is 2\*\*51 quanta, got 22517998",
    ),
    (lambda r: r.create_group("x", 1, -1), "minimum_connector_capacity must be finite and at l"),
    (lambda r: r.create_group("x", 1, buffer=1.5), "buffer must be within 0.0..1.0, got 1.5"),
    (lambda r: r.create_group("x", 1, buffer=-0.1), "buffer must be within 0.0..1.0, got -0.1"),
    (lambda r: r.create_group("x", 1, reserved=math.inf), "reserved must be finite and at least"),
    (lambda r: r.create_group("x", 1, rotation=0), "rotation must be above 0 and finite, got 0.0"),
    (lambda r: r.create_group("x", 1, policy="lifo"), "policy must be one of 'fifo', 'rotate' a"),
    (lambda r: r.create_group("x", 1, policy=None), "policy must be one of .*, got None"),
    (lambda r: r.create_group(None, 1), "name must be a string, got None"),
    (lambda r: r.create_group("x", 1, notes=b"n"), "notes must be a string, got b'n'"),
    (lambda r: r.create_group("x", 1, location=""), "location must be a non-empty string, got ''"),
    (lambda r: Connector("1", math.inf), INFINITE),
    (lambda r: Connector("1", -1), r"maximum_capacity must be finite and at least 0 .*, got -1.0"),
    (lambda r: Connector("1", 1, math.nan), "minimum_capacity must be finite and at least 0, got"),
    (lambda r: Connector("1", 3, 5), "maximum_capacity must be at least minimum_cap.* 3.0 < 5.0"),
    (lambda r: Connector("", 3), "id must be a non-empty string, got ''"),
    (lambda r: r.start_session("s1", "1", maximum=-1), "maximum must be finite and at least 0, g"),
    (lambda r: r.start_session("s1", "1", maximum=math.inf), "maximum must be finite and at leas"),
    (lambda r: r.start_session("s1", "1", weight=0), r"weight must be above 0 \(within 1e-100..1"),
    (lambda r: r.start_session("s1", "1", weight=1e101), r"weight must be above 0 .* got 1e\+101"),
    (lambda r: r.start_session("s1", "1", priority=0.5), "priority must be a whole number, got 0"),
    (lambda r: r.start_session("s1", "1", priority=True), "priority must be a whole number, got T"),
    (lambda r: r.start_session("s1", "1", priority=2**63), "priority must fit into 64 bits with a"),
    (lambda r: r.start_session("s1", "1", at=math.nan), "at must be finite, got nan"),
    (lambda r: r.start_session("s1", "1", at="now"), "at must be a real number, got 'now'"),
    (lambda r: r.update_session("s0", "1", weight=-1), "weight must be above 0"),
    (lambda r: r.allocate(at=math.inf), "at must be finite and at least 5.0, the registry's clock"),
    # Ids that are not there
    (lambda r: r.group("x"), "group_id must be the id of a group, got 'x'"),
    (lambda r: r.group(["g"]), r"group_id must be a non-empty string, got \['g'\]"),
    (lambda r: r.update_group("x", buffer=0), "group_id must be the id of a group, got 'x'"),
    (lambda r: r.delete_group("x"), "group_id must be the id of a group, got 'x'"),
    (lambda r: r.create_group("x", 1, parent="x"), "parent must be the id of a group, got 'x'"),
    (lambda r: r.update_group("g", parent="x"), "parent must be the id of a group, got 'x'"),
    (lambda r: r.charge_stations("x"), "group_id must be the id of a group, got 'x'"),
    (lambda r: r.sessions("x"), "group_id must be the id of a group, got 'x'"),
    (lambda r: r.allocate("x", at=9), "group_id must be the id of a group, got 'x'"),
    (lambda r: r.add_charge_station("x", "s", [C("1", 9)]), "group_id must be the id of a group"),
    (lambda r: r.charge_station("x"), "station_id must be the id of a charge station, got 'x'"),
    (lambda r: r.move_charge_station("x", "g"), "station_id must be the id of a charge station"),
    (lambda r: r.move_charge_station("s0", "x"), "group_id must be the id of a group, got 'x'"),
    (lambda r: r.remove_charge_station("x"), "station_id must be the id of a charge station"),
    (lambda r: r.update_charge_station("x", []), "station_id must be the id of a charge station"),
    (lambda r: r.start_session("x", "1"), "station must be the id of a charge station, got 'x'"),
    (
        lambda r: r.start_session("s1", "9", at=99),
        r"connector must be the id of a connector of charge station 's1' \('1'\), got '9'",
    ),
    (lambda r: r.session("s1", "1"), "connector must have a session, but '1' of .* 's1' has none"),
    (lambda r: r.stop_session("s1", "1"), "connector must have a session, but '1' of"),
    (lambda r: r.update_session("s1", "1", weight=2), "connector must have a session, but '1' of"),
    (lambda r: r.stop_session("s1", 1), "connector must be a non-empty string, got 1"),
    # What does not go with what is there
    (lambda r: r.create_group("x", 1, id="g"), "id must not be that of another group, got 'g'"),
    (lambda r: r.create_group("x", 1, id=""), "id must be a non-empty string, got ''"),
    (
        lambda r: r.delete_group("g"),
        "group_id must be that of an empty group, but 'g' has 2 charge stations and 1 child group: "
        "use move_charge_station or remove_charge_station, and update_group with another parent or "
        "delete_group, first",
    ),
    (
        lambda r: r.add_charge_station("floor", "s0", [C("1", 9)]),
        "station_id must not be that of another charge station, got 's0', which is in group 'g' "
        r"\(move_charge_station moves it\)",
    ),
    (lambda r: r.add_charge_station("g", "", [C("1", 9)]), "station_id must be a non-empty string"),
    (lambda r: r.add_charge_station("g", "s", []), "connectors must hold at least one Connector"),
    (
        lambda r: r.add_charge_station("g", "s", "1"),
        "connectors must be a list of Connector, got s",
    ),
    (
        lambda r: r.add_charge_station("g", "s", 1),
        "connectors must be a list of Connector, got int",
    ),
    (
        lambda r: r.add_charge_station("g", "s", [C("1", 9), {"id": "2"}]),
        r"connectors must be a list of Connector, got connectors\[1\] of type dict",
    ),
    (
        lambda r: r.add_charge_station("g", "s", [C("1", 9), C("1", 9)]),
        r"connectors must have ids of their own, got connectors\[1\].id = '1' for the second time",
    ),
    (
        lambda r: r.add_charge_station("g", "s", [C("1", 9), C("2", 2)]),
        r"connectors\[1\].maximum_capacity must be at least 2.5, the minimum_connector_capacity of "
        "group 'g', got 2.0",
    ),
    (
        lambda r: r.update_charge_station("s1", [C("1", 2)]),
        r"connectors\[0\].maximum_capacity must be at least 2.5",
    ),
    (
        lambda r: r.update_charge_station("s0", [C("2", 9)]),
        r"connectors must keep '1', which has a session: stop the session first \(1 such",
    ),
    (
        lambda r: r.move_charge_station("s0", "strict"),
        r"charge station 's0' cannot move: connectors\[0\].maximum_capacity must be at least 12.0",
    ),
    (
        lambda r: r.update_group("g", minimum_connector_capacity=12, buffer=0.5),
        "minimum_connector_capacity must be at most the maximum_capacity of every connector in the "
        r"group, got 12.0 > 11.0 of connector '1' of charge station 's0' \(2 of 2 connectors\)",
    ),
    (lambda r: r.update_group("g", parent="g"), "parent must not be the group itself or below it"),
    (lambda r: r.update_group("g", parent="floor"), "parent must not be the group itself or below"),
    (lambda r: r.update_group("g", id="h"), r"update_group must be given what .*, got 'id'"),
    (lambda r: r.update_session("s0", "1", at=3), r"update_session must be given .*, got 'at'"),
    (
        lambda r: r.start_session("s0", "1", at=99),
        r"connector must be free, but '1' of charge station 's0' has a session \(use update",
    ),
]


@pytest.mark.parametrize(("operation", "message"), REFUSALS)
def test_what_is_refused_changes_nothing(operation, message):
    r = refusing()
    before, answer = r.to_dict(), r.allocate()

    with pytest.raises(WattfillError, match=f"^{message}"):
        operation(r)
    assert r.to_dict() == before
    assert r.allocate() == answer


def test_errors_are_those_that_a_python_programmer_would_catch():
    r = refusing()

    with pytest.raises(KeyError):
        r.group("x")
    with pytest.raises(ValueError, match="buffer"):
        r.update_group("g", buffer=2)
    with pytest.raises(TypeError, match="bufer"):
        r.update_group("g", bufer=2)
    with pytest.raises(ConflictError, match="empty"):
        r.delete_group("g")
    with pytest.raises(UnknownIdError, match="station"):
        r.charge_station("x")
