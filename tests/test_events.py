"""Events and fates: valid where they stand, readable, and enough to hold a registry by."""

import math

import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

from wattfill import Connector, Registry
from wattfill.testing import events as kit
from wattfill.testing import solve
from wattfill.testing.events import (
    AddChargeStation,
    CreateGroup,
    DeleteGroup,
    Event,
    Fate,
    MoveChargeStation,
    Plug,
    RemoveChargeStation,
    StartSession,
    StopSession,
    UpdateChargeStation,
    UpdateGroup,
    UpdateSession,
    events,
    fates,
)

SHORTEST = settings(database=None, derandomize=True)


class Plain:
    """A stranger's registry: dictionaries, and `solve` for all of it whenever it is asked."""

    def __init__(self):
        self.groups, self.stations, self.sessions = {}, {}, {}

    def create_group(
        self,
        name,
        maximum_capacity,
        minimum_connector_capacity=0.0,
        *,
        buffer=0.0,
        reserved=0.0,
        parent=None,
        id,
    ):
        self.groups[id] = {
            "maximum_capacity": maximum_capacity,
            "minimum_connector_capacity": minimum_connector_capacity,
            "buffer": buffer,
            "reserved": reserved,
            "parent": parent,
        }

    def update_group(self, id, **changes):
        self.groups[id].update(changes)

    def delete_group(self, id):
        del self.groups[id]

    def add_charge_station(self, group, station, connectors):
        self.stations[station] = (group, connectors)

    def update_charge_station(self, station, connectors):
        self.stations[station] = (self.stations[station][0], connectors)

    def move_charge_station(self, station, group):
        self.stations[station] = (group, self.stations[station][1])

    def remove_charge_station(self, station):
        del self.stations[station]
        self.sessions = {key: value for key, value in self.sessions.items() if key[0] != station}

    def start_session(self, station, connector, maximum=None, weight=1.0, priority=0):
        self.sessions[station, connector] = {
            "maximum": maximum,
            "weight": weight,
            "priority": priority,
        }

    def update_session(self, station, connector, **changes):
        self.sessions[station, connector].update(changes)

    def stop_session(self, station, connector):
        del self.sessions[station, connector]

    def solve(self):
        """Return the keys of the connectors, in an order of their own, and the solution."""
        ids = list(self.groups)
        keys, minimum, maximum, offsets = [], [], [], [0]
        for id in ids:
            for station, (group, plugs) in self.stations.items():
                for plug in plugs if group == id else ():
                    session = self.sessions.get((station, plug.id), {})
                    low = max(
                        plug.minimum_capacity or 0.0, self.groups[id]["minimum_connector_capacity"]
                    )
                    high = session.get("maximum")
                    high = plug.maximum_capacity if high is None else high
                    keys.append((station, plug.id))
                    minimum.append(low)
                    maximum.append(max(min(high, plug.maximum_capacity), low))
            offsets.append(len(keys))
        groups = list(self.groups.values())
        came = list(self.sessions)
        return keys, solve(
            minimum,
            maximum,
            [group["maximum_capacity"] for group in groups],
            offsets,
            buffer=[group["buffer"] for group in groups],
            reserved=[group["reserved"] for group in groups],
            parent=[-1 if g["parent"] is None else ids.index(g["parent"]) for g in groups],
            weight=[self.sessions.get(key, {}).get("weight", 1.0) for key in keys],
            priority=[self.sessions.get(key, {}).get("priority", 0) for key in keys],
            rank=[came.index(key) if key in self.sessions else 0 for key in keys],
            active=[key in self.sessions for key in keys],
        )


@settings(max_examples=2 * settings().max_examples)
@given(events(), st.integers(1, 4))
def test_a_registry_says_after_any_events_what_is_solved_anew(happened, every):
    registry, plain = Registry(), Plain()
    for i, event in enumerate(happened, 1):
        event.apply(registry)
        event.apply(plain, connector=Plug)
        if i % every:
            continue

        answer = registry.allocate()
        keys, anew = plain.solve()
        ids = [*plain.groups, None]
        assert set(answer.connectors) == set(keys)
        found = [answer.connectors[key] for key in keys]
        assert [a.power for a in found] == anew.power
        assert [a.reason for a in found] == anew.reason
        assert [a.bound_by for a in found] == [ids[g] for g in anew.bound_by]
        groups = [answer.groups[id] for id in plain.groups]
        assert [g.usable for g in groups] == anew.usable
        assert [g.used for g in groups] == anew.used


NAMESPACE = {name: getattr(kit, name) for name in dir(kit) if isinstance(getattr(kit, name), type)}


@given(events())
def test_events_print_as_code_that_makes_them_again(happened):
    assert eval(repr(happened), NAMESPACE) == happened


@given(events())
def test_events_print_as_the_calls_that_they_come_to(happened):
    pasted, applied = Registry(), Registry()
    for event in happened:
        event.apply(applied)
        exec(str(event), {"registry": pasted, "Connector": Connector})

    assert pasted.to_dict() == applied.to_dict()


@pytest.mark.parametrize(
    ("event", "code"),
    [
        (CreateGroup("a", 50.0), "registry.create_group('a', 50.0, id='a')"),
        (
            CreateGroup("b", 9.0, 4.14, 0.1, 5.0, "a"),
            "registry.create_group('b', 9.0, id='b', minimum_connector_capacity=4.14, buffer=0.1, "
            "reserved=5.0, parent='a')",
        ),
        (UpdateGroup("a", buffer=0.2), "registry.update_group('a', buffer=0.2)"),
        (DeleteGroup("a"), "registry.delete_group('a')"),
        (
            AddChargeStation("a", "p", (Plug("1", 22.0), Plug("2", 11.0, 4.14))),
            "registry.add_charge_station('a', 'p', [Connector('1', 22.0), "
            "Connector('2', 11.0, minimum_capacity=4.14)])",
        ),
        (
            UpdateChargeStation("p", (Plug("1", 7.4),)),
            "registry.update_charge_station('p', [Connector('1', 7.4)])",
        ),
        (MoveChargeStation("p", "b"), "registry.move_charge_station('p', 'b')"),
        (RemoveChargeStation("p"), "registry.remove_charge_station('p')"),
        (StartSession("p", "1"), "registry.start_session('p', '1')"),
        (
            StartSession("p", "1", 7.4, 2.0, 1),
            "registry.start_session('p', '1', maximum=7.4, weight=2.0, priority=1)",
        ),
        (UpdateSession("p", "1", priority=0), "registry.update_session('p', '1', priority=0)"),
        (StopSession("p", "1"), "registry.stop_session('p', '1')"),
    ],
)
def test_an_event_prints_without_what_is_as_by_default(event, code):
    assert str(event) == code
    assert eval(repr(event), NAMESPACE) == event


def test_every_kind_of_event_comes_up():
    kinds = set()

    @settings(SHORTEST, max_examples=4 * settings().max_examples)
    @given(events())
    def look(happened):
        kinds.update(map(type, happened))

    look()

    assert kinds == set(Event.__subclasses__())


@pytest.mark.parametrize(("kind", "n_events"), [(UpdateGroup, 2), (StartSession, 3)])
def test_events_shrink_to_about_what_it_takes(kind, n_events):
    happened = find(events(), lambda es: any(type(e) is kind for e in es), settings=SHORTEST)

    assert len(happened) <= n_events + 2, happened


@given(events(max_size=3))
def test_there_are_no_more_events_than_asked_for(happened):
    assert len(happened) <= 3


# Fates


@pytest.mark.parametrize(
    ("fate", "words"),
    [
        (Fate(), "arrives at once; confirmed at once"),
        (Fate((2.0,), (30.0,)), "arrives after 2 s; confirmed after 30 s"),
        (Fate((0.2, 5.0)), "arrives after 0.2 s and again after 5 s; confirmed at once"),
        (Fate((1.0,), ()), "arrives after 1 s; the confirmation is lost"),
        (Fate((1.0, 1.0), ()), "arrives after 1 s and again after 1 s; the confirmations are lost"),
        (Fate(()), "lost"),
    ],
)
def test_a_fate_reads_as_a_sentence(fate, words):
    assert str(fate) == words
    assert eval(repr(fate), {"Fate": Fate}) == fate


@pytest.mark.parametrize(
    ("wanted", "shortest"),
    [
        (lambda fate: True, Fate()),
        (lambda fate: not fate.arrivals, Fate(arrivals=())),
        (lambda fate: len(fate.arrivals) > 1, Fate(arrivals=(0.0, 0.0))),
        (lambda fate: not fate.answers, Fate(answers=())),
        (lambda fate: fate.arrivals and fate.arrivals[0] > 20, Fate(arrivals=(30.0,))),
        (lambda fate: len(fate.answers) > 1, Fate(answers=(0.0, 0.0))),
    ],
)
def test_every_fate_comes_up_and_shrinks_to_delivered_at_once(wanted, shortest):
    assert find(fates(), wanted, settings=SHORTEST) == shortest


@given(fates(st.sampled_from([1, 2]), lost=False, duplicated=False))
def test_fates_may_be_kinder(fate):
    delays = [*fate.arrivals, *fate.answers]

    assert len(delays) == 2
    assert all(delay in (0.0, 1, 2) and math.isfinite(delay) for delay in delays)
