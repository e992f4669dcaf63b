"""The registry against a plain dictionary model, whatever is done to it."""

import json
import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from wattfill import (
    ConflictError,
    Connector,
    InputError,
    InputTypeError,
    Reason,
    Registry,
    UnknownIdError,
)

GROUPS = st.sampled_from(["a", "b", "c", "d", "e"])
STATIONS = st.sampled_from(["p", "q", "r", "s", "t"])
PLUGS = st.sampled_from(["1", "2", "3"])
KW = st.sampled_from([0, 0.1, 0.3, 1, 2.5, 4.14, 5, 6, 7.4, 11, 13.333333, 22, 1e-7, 1 / 3])
CAPACITIES = st.sampled_from([0, 0.3, 1, 5, 10, 12.42, 20, 33.3, 100, 2e9])
BUFFERS = st.sampled_from([0, 0.1, 0.5, 0.9, 1])
POLICIES = st.sampled_from(["fifo", "rotate", "most"])
ROTATIONS = st.sampled_from([0.1, 1, 1.5, 3])
NOT_NUMBERS = st.sampled_from([None, True, "5", float("nan"), float("inf"), -1, 1j, [1.0]])
BAD = (InputError, InputTypeError)


@st.composite
def connectors(draw):
    made = []
    for plug in draw(st.lists(PLUGS, min_size=1, max_size=3, unique=True)):
        low, high = sorted(draw(st.tuples(KW, KW)))
        made.append(Connector(plug, high, draw(st.sampled_from([None, low]))))
    return made


def quanta(kw):
    return round(kw * 1e6)


def least_quanta(a):
    """Return the minimum of a connector up to the grid, its maximum down to it at most."""
    return min(math.ceil(a.minimum * 1e6 - 1e-3), math.floor(a.maximum * 1e6 + 1e-3))


class RegistryMachine(RuleBasedStateMachine):
    """`groups`, `stations` and `sessions` are the model: what there should be, by id."""

    def __init__(self):
        super().__init__()
        self.registry = Registry()
        self.groups, self.stations, self.sessions = {}, {}, {}
        self.clock = 0.0
        self.results = []

    def refused(self, errors, operation, *args, **kwargs):
        """Check that the operation is refused and changes nothing."""
        before = self.registry.to_dict()
        with pytest.raises(errors):
            operation(*args, **kwargs)
        assert self.registry.to_dict() == before

    def fits(self, group, plugs):
        least = self.groups[group]["minimum_connector_capacity"]
        return all(plug.maximum_capacity >= least for plug in plugs)

    def above(self, group):
        while group is not None:
            yield group
            group = self.groups[group]["parent"]

    # Groups

    @initialize(
        capacities=st.tuples(CAPACITIES, CAPACITIES, CAPACITIES),
        policies=st.tuples(POLICIES, POLICIES, POLICIES),
        rotations=st.tuples(ROTATIONS, ROTATIONS, ROTATIONS),
        plugs=st.lists(connectors(), max_size=4),
    )
    def begin_with_some_sessions(self, capacities, policies, rotations, plugs):
        groups = zip("abc", (None, "a", None), capacities, policies, rotations, strict=True)
        for group, parent, capacity, policy, rotation in groups:
            self.create_group(group, parent, capacity, 0, 0, 0, policy, rotation)
        for group, station, here in zip("abcb", "pqrs", plugs, strict=False):
            self.add_charge_station(group, station, here)
            for plug in here:
                self.start_session(station, plug.id, None, 1, 0, None)

    @rule(
        group=GROUPS,
        parent=st.none() | GROUPS,
        capacity=CAPACITIES,
        minimum=KW,
        buffer=BUFFERS,
        reserved=KW,
        policy=POLICIES,
        rotation=ROTATIONS,
    )
    def create_group(self, group, parent, capacity, minimum, buffer, reserved, policy, rotation):
        fields = {
            "maximum_capacity": capacity,
            "minimum_connector_capacity": minimum,
            "buffer": buffer,
            "reserved": reserved,
            "policy": policy,
            "rotation": rotation,
            "parent": parent,
        }

        def create():
            return self.registry.create_group(group, id=group, **fields)

        if group in self.groups:
            self.refused(ConflictError, create)
        elif parent is not None and parent not in self.groups:
            self.refused(UnknownIdError, create)
        else:
            assert create().id == group
            self.groups[group] = {"name": group, **fields}

    @rule(
        group=GROUPS,
        changes=st.fixed_dictionaries(
            {},
            optional={
                "maximum_capacity": CAPACITIES,
                "minimum_connector_capacity": KW,
                "buffer": BUFFERS,
                "policy": POLICIES,
                "rotation": ROTATIONS,
                "parent": st.none() | GROUPS,
            },
        ),
    )
    def update_group(self, group, changes):
        parent = changes.get("parent")
        if group not in self.groups or (parent is not None and parent not in self.groups):
            error = UnknownIdError
        elif group in self.above(parent):
            error = InputError
        else:
            old, self.groups[group] = self.groups[group], {**self.groups[group], **changes}
            here = [plugs for where, plugs in self.stations.values() if where == group]
            if all(self.fits(group, plugs) for plugs in here):
                self.registry.update_group(group, **changes)
                return
            self.groups[group] = old
            error = InputError
        self.refused(error, self.registry.update_group, group, **changes)

    @rule(group=GROUPS)
    def delete_group(self, group):
        held = [where for where, _ in self.stations.values()]
        held += [fields["parent"] for fields in self.groups.values()]
        if group not in self.groups:
            self.refused(UnknownIdError, self.registry.delete_group, group)
        elif group in held:
            self.refused(ConflictError, self.registry.delete_group, group)
        else:
            self.registry.delete_group(group)
            del self.groups[group]

    # Charge stations

    @rule(group=GROUPS, station=STATIONS, plugs=connectors())
    def add_charge_station(self, group, station, plugs):
        args = self.registry.add_charge_station, group, station, plugs
        if group not in self.groups:
            self.refused(UnknownIdError, *args)
        elif station in self.stations:
            self.refused(ConflictError, *args)
        elif not self.fits(group, plugs):
            self.refused(InputError, *args)
        else:
            self.registry.add_charge_station(group, station, plugs)
            self.stations[station] = (group, plugs)

    @rule(station=STATIONS, plugs=connectors())
    def update_charge_station(self, station, plugs):
        args = self.registry.update_charge_station, station, plugs
        if station not in self.stations:
            self.refused(UnknownIdError, *args)
            return
        group = self.stations[station][0]
        kept = {plug.id for plug in plugs}
        if not self.fits(group, plugs):
            self.refused(InputError, *args)
        elif any(where == station and plug not in kept for where, plug in self.sessions):
            self.refused(ConflictError, *args)
        else:
            self.registry.update_charge_station(station, plugs)
            self.stations[station] = (group, plugs)

    @rule(station=STATIONS, group=GROUPS)
    def move_charge_station(self, station, group):
        args = self.registry.move_charge_station, station, group
        if station not in self.stations or group not in self.groups:
            self.refused(UnknownIdError, *args)
            return
        plugs = self.stations[station][1]
        if not self.fits(group, plugs):
            self.refused(ConflictError, *args)
        else:
            self.registry.move_charge_station(station, group)
            self.stations[station] = (group, plugs)

    @rule(station=STATIONS)
    def remove_charge_station(self, station):
        if station not in self.stations:
            self.refused(UnknownIdError, self.registry.remove_charge_station, station)
            return
        self.registry.remove_charge_station(station)
        del self.stations[station]
        self.sessions = {key: value for key, value in self.sessions.items() if key[0] != station}

    # Sessions

    def there(self, station, plug):
        return station in self.stations and plug in {c.id for c in self.stations[station][1]}

    @rule(
        station=STATIONS,
        plug=PLUGS,
        maximum=st.none() | KW,
        weight=st.sampled_from([1, 1, 1, 2, 0.5]),
        priority=st.sampled_from([0, 0, 0, 1, -1]),
        at=st.none() | st.integers(-5, 30),
    )
    def start_session(self, station, plug, maximum, weight, priority, at):
        args = self.registry.start_session, station, plug, maximum, weight, priority, at
        if not self.there(station, plug):
            self.refused(UnknownIdError, *args)
        elif (station, plug) in self.sessions:
            self.refused(ConflictError, *args)
        else:
            self.registry.start_session(*args[1:])
            at = self.clock if at is None else at
            self.sessions[station, plug] = (maximum, weight, priority, at)
            self.clock = max(self.clock, at)

    @rule(
        station=STATIONS,
        plug=PLUGS,
        maximum=st.none() | KW,
        weight=st.sampled_from([1, 2]),
        priority=st.sampled_from([0, 1]),
    )
    def update_session(self, station, plug, maximum, weight, priority):
        changes = {"maximum": maximum, "weight": weight, "priority": priority}
        if (station, plug) not in self.sessions:
            self.refused(UnknownIdError, self.registry.update_session, station, plug, **changes)
        else:
            self.registry.update_session(station, plug, **changes)
            at = self.sessions[station, plug][3]
            self.sessions[station, plug] = (maximum, weight, priority, at)

    @rule(station=STATIONS, plug=PLUGS)
    def stop_session(self, station, plug):
        if (station, plug) not in self.sessions:
            self.refused(UnknownIdError, self.registry.stop_session, station, plug)
        else:
            self.registry.stop_session(station, plug)
            del self.sessions[station, plug]

    # What is no number

    @rule(
        group=GROUPS,
        bad=NOT_NUMBERS,
        field=st.sampled_from(
            ["maximum_capacity", "minimum_connector_capacity", "buffer", "reserved", "rotation"]
        ),
    )
    def update_group_with_what_is_no_number(self, group, bad, field):
        if group in self.groups:
            self.refused(BAD, self.registry.update_group, group, **{field: bad, "parent": None})

    @rule(station=STATIONS, plug=PLUGS, bad=NOT_NUMBERS)
    def start_session_with_what_is_no_number(self, station, plug, bad):
        if self.there(station, plug):
            self.refused(BAD, self.registry.start_session, station, plug, weight=bad, at=99)

    # Powers

    @rule(later=st.none() | st.sampled_from([0, 0.1, 1, 1, 2, 7, 40]))
    def allocate(self, later):
        if later is not None:
            self.clock += later
        self.keep(self.registry.allocate(at=None if later is None else self.clock))

    @rule(group=GROUPS, later=st.sampled_from([0, 1]))
    def allocate_one_tree(self, group, later):
        if group not in self.groups:
            self.refused(UnknownIdError, self.registry.allocate, group, at=self.clock + 1)
            return
        self.clock += later
        one = self.registry.allocate(group, at=self.clock)
        root = list(self.above(group))[-1]
        assert set(one.groups) == {g for g in self.groups if root in self.above(g)}
        whole = self.registry.allocate()
        assert all(whole.groups[g] == one.groups[g] for g in one.groups)
        assert all(whole.connectors[key] == one.connectors[key] for key in one.connectors)
        self.keep(one)

    @rule()
    def allocate_in_the_past(self):
        self.refused(InputError, self.registry.allocate, at=self.clock - 1)

    def keep(self, result):
        """Remember what a result says, to see that it goes on saying it."""
        connectors = dict(result.connectors)
        assert result.powers() == {key: a.power for key, a in connectors.items()}
        self.results = [*self.results[-2:], (result, connectors, dict(result.groups))]

    # What always holds

    @invariant()
    def what_is_there_is_what_was_put_there(self):
        r = self.registry
        assert r.clock == self.clock
        assert {
            g.id: {name: getattr(g, name) for name in self.groups[g.id]} for g in r.groups()
        } == (self.groups)
        assert {s.id: (s.group, list(s.connectors)) for s in r.charge_stations()} == self.stations
        assert [
            ((s.station, s.connector), (s.maximum, s.weight, s.priority, s.started_at))
            for s in r.sessions()
        ] == list(self.sessions.items())
        for group in self.groups:
            here = [station for station, (where, _) in self.stations.items() if where == group]
            assert [station.id for station in r.charge_stations(group)] == sorted(here)

    @invariant()
    def a_registry_comes_back_from_json(self):
        saved = self.registry.to_dict()
        again = Registry.from_dict(json.loads(json.dumps(saved, allow_nan=False)))
        assert again.to_dict() == saved
        # The registry itself is asked by the rules alone, so that events pile up in between.
        self.check(again.allocate())

    @rule()
    def what_was_solved_event_by_event_is_what_is_solved_from_scratch(self):
        again = Registry.from_dict(self.registry.to_dict())
        assert self.registry.allocate() == again.allocate()
        assert self.registry.to_dict() == again.to_dict()

    @invariant()
    def a_result_never_changes(self):
        for result, connectors, groups in self.results:
            assert dict(result.connectors) == connectors
            assert dict(result.groups) == groups

    def check(self, result):
        """Check one whole answer against the model."""
        assert set(result.groups) == set(self.groups)
        assert set(result.connectors) == {
            (station, plug.id) for station, (_, plugs) in self.stations.items() for plug in plugs
        }
        used = dict.fromkeys(self.groups, 0)
        for key, a in result.connectors.items():
            where, plugs = self.stations[a.station]
            plug = next(plug for plug in plugs if plug.id == a.connector)
            least = self.groups[where]["minimum_connector_capacity"]
            assert a.group == where
            assert a.minimum == max(plug.minimum_capacity or 0, least)
            assert (a.reason == Reason.IDLE) == (key not in self.sessions)
            wanted = self.sessions.get(key, (None,))[0]
            most = plug.maximum_capacity if wanted is None else min(plug.maximum_capacity, wanted)
            assert a.maximum == max(most, a.minimum)
            if a.reason in (Reason.IDLE, Reason.PAUSED):
                assert a.power == 0
            else:
                assert a.minimum <= a.power <= a.maximum
            assert a.bound_by is None or a.bound_by in self.above(where)
            for group in self.above(where):
                used[group] += quanta(a.power)
        for group, g in result.groups.items():
            assert used[group] <= quanta(g.usable)
            assert g.headroom == (quanta(g.usable) - quanta(g.used)) / 1e6
            here = [least_quanta(result.connectors[key]) for key in self.line(group)]
            assert g.shortfall == max(sum(here) - quanta(g.usable), 0) / 1e6
        for root in (group for group, fields in self.groups.items() if fields["parent"] is None):
            below = [group for group in self.groups if root in self.above(group)]
            if all(self.groups[group]["policy"] != "rotate" for group in below):
                self.check_admission(result, self.line(root))

    def check_admission(self, result, line):
        left = {group: quanta(g.usable) for group, g in result.groups.items()}
        for key in sorted(line, key=lambda key: -self.sessions[key][2]):
            a = result.connectors[key]
            least, above = least_quanta(a), list(self.above(a.group))
            full = [group for group in above if left[group] < least]
            assert (a.reason == Reason.PAUSED) == bool(full)
            if full:
                assert a.bound_by == full[0]
                continue
            for group in above:
                left[group] -= least

    def line(self, group):
        """Return the sessions below a group, who comes first first; turns are not modelled."""
        came = list(self.sessions)
        line = [key for key in came if group in self.above(self.stations[key[0]][0])]

        def by_policy(key):
            where, plugs = self.stations[key[0]]
            own = next(plug.minimum_capacity for plug in plugs if plug.id == key[1])
            least = max(own or 0, self.groups[where]["minimum_connector_capacity"])
            most = self.groups[group]["policy"] == "most"
            return least if most else 0, self.sessions[key][3], came.index(key)

        line.sort(key=by_policy)
        for child in [child for child, fields in self.groups.items() if fields["parent"] == group]:
            below = iter(self.line(child))
            line = [
                next(below) if child in self.above(self.stations[key[0]][0]) else key
                for key in line
            ]
        return line


TestRegistry = RegistryMachine.TestCase
TestRegistry.settings = settings(max_examples=3 * settings().max_examples, stateful_step_count=40)
