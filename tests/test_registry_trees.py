"""What a tree of groups keeps from event to event, against what is gathered anew."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wattfill import Connector, Registry, _trees, allocate

MINIMUMS = [None, 0.3, 4.14, 6, 6, 8]
EVENTS = st.fixed_dictionaries(
    {
        "i": st.integers(0, len(MINIMUMS) - 1),
        "goes": st.booleans(),
        "maximum": st.sampled_from([None, None, 0, 7, 11.5, 40]),
        "weight": st.sampled_from([1, 1, 1, 0.5, 2]),
        "priority": st.sampled_from([0, 0, 0, 1, -1]),
        "at": st.integers(0, 9),
        "capacity": st.sampled_from([None, None, None, 6, 20, 50]),
        "asked": st.booleans(),
    }
)


def site(policies):
    """Return a registry of two groups, one below the other, with three connectors each."""
    r = Registry()
    r.create_group("", 20, id="a", buffer=0.1, policy=policies[0], rotation=2)
    r.create_group("", 12, 5, id="b", parent="a", reserved=0.5, policy=policies[1], rotation=3)
    for i, minimum in enumerate(MINIMUMS):
        r.add_charge_station("ab"[i // 3], f"s{i}", [Connector("1", 11, minimum)])
    r.allocate()
    return r


def happen(r, i, goes, maximum, weight, priority, at, capacity, asked):
    """Let a session come, or go, or change, and perhaps a capacity; perhaps ask what follows."""
    station = f"s{i}"
    if all(session.station != station for session in r.sessions()):
        r.start_session(station, "1", maximum, weight, priority, at)
    elif goes:
        r.stop_session(station, "1")
    else:
        r.update_session(station, "1", maximum=maximum, weight=weight, priority=priority)
    if capacity is not None:
        r.update_group("ab"[i // 3], maximum_capacity=capacity)
    if asked:
        r.allocate()


def kept(tree):
    """Return the ranks that the kernel reads, and the bytes of all else that it reads."""
    n, (_, _, image) = len(tree.layout.keys), tree.demand.__reduce__()
    ranks = np.frombuffer(image, count=n, offset=8 * 9 * n)
    return ranks, image[: 8 * 9 * n] + image[8 * 10 * n :]


POLICIES = st.tuples(*[st.sampled_from(["fifo", "rotate", "most"])] * 2)


@settings(max_examples=3 * settings().max_examples)
@given(POLICIES, st.lists(EVENTS, max_size=25))
def test_what_a_tree_keeps_is_what_is_gathered_anew(policies, events):
    r = site(policies)
    tree = r._nodes["a"].tree
    for event in events:
        happen(r, **event)

        assert r._nodes["a"].tree is tree
        anew = _trees.Tree(r._nodes["a"], r._sessions, r._terms, r.clock)
        ranks, numbers = kept(tree)
        assert numbers == kept(anew)[1]
        assert tree.running == anew.running
        if tree.ranked:
            assert sorted(tree.running, key=ranks.__getitem__) == tree._admission_order()


@settings(max_examples=3 * settings().max_examples)
@given(POLICIES, st.lists(EVENTS, max_size=25))
def test_an_answer_is_what_allocate_says_of_the_same_arrays(policies, events):
    r = site(policies)
    for event in events:
        happen(r, **event)
    answer, tree = r.allocate("a"), r._nodes["a"].tree

    groups = [r.group(group) for group in answer.groups]
    sessions = {(s.station, s.connector): s for s in r.sessions()}
    asked = [sessions.get(key) for key in answer.connectors]
    order = tree._admission_order()
    connectors = list(answer.connectors.values())
    same = allocate(
        [a.minimum for a in connectors],
        [a.maximum for a in connectors],
        [group.maximum_capacity for group in groups],
        [0, 3, 6],
        buffer=[group.buffer for group in groups],
        reserved=[group.reserved for group in groups],
        parent=[-1, 0],
        weight=[1.0 if session is None else session.weight for session in asked],
        priority=[0 if session is None else session.priority for session in asked],
        rank=[order.index(i) if i in order else 0 for i in range(6)],
        active=[session is not None for session in asked],
    )
    assert [a.power for a in connectors] == same.power.tolist()
    assert [a.reason for a in connectors] == same.reason.tolist()
    assert [{"a": 0, "b": 1, None: -1}[a.bound_by] for a in connectors] == same.bound_by.tolist()
    for name in ("usable", "used", "headroom", "shortfall"):
        assert [getattr(g, name) for g in answer.groups.values()] == getattr(same, name).tolist()
    if any(session is not None and session.weight != 1 for session in asked):
        assert [g.level for g in answer.groups.values()] == same.level.tolist()


def test_a_place_that_is_not_there_is_refused():
    tree = site(("fifo", "fifo"))._nodes["a"].tree
    calls = [
        lambda i: tree.demand.start(i, None, 1.0, 0, 0.0),
        lambda i: tree.demand.update(i, None, 1.0, 0),
        lambda i: tree.demand.stop(i),
        lambda i: tree.demand.line_up([i]),
        lambda i: tree.demand.set_group(i, 1.0, 0.0, 0.0),
        lambda i: tree.latest.connector(i),
        lambda i: tree.latest.group(i),
    ]

    for call in calls:
        for i in (-1, 6):
            with pytest.raises(IndexError, match=str(i)):
                call(i)


def test_the_image_of_another_tree_is_refused():
    r = site(("fifo", "fifo"))
    demand = r._nodes["a"].tree.demand
    r.create_group("", 10, id="c")
    r.allocate()

    with pytest.raises(ValueError, match=r"^state must have \d+ bytes, got \d+$"):
        demand.__setstate__(r._nodes["c"].tree.demand.__reduce__()[2])
