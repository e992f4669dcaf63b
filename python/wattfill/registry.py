"""Groups, charge stations, connectors and sessions by id, and what each may draw."""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from typing import Any, Self, TypedDict, Unpack

from wattfill import _validate
from wattfill._demand import Answer
from wattfill._outcome import AllTrees, Directory, Forest, OneTree
from wattfill._outcome import RegistryAllocation as RegistryAllocation
from wattfill._records import (
    QUANTA_PER_KW,
    Key,
    Policy,
    count,
    quanta_above,
    seconds,
)
from wattfill._records import ChargeStation as ChargeStation
from wattfill._records import Connector as Connector
from wattfill._records import ConnectorAllocation as ConnectorAllocation
from wattfill._records import Group as Group
from wattfill._records import GroupAllocation as GroupAllocation
from wattfill._records import Session as Session
from wattfill._trees import Line, Node, Running, Terms, Tree, parents_first, usable_quanta
from wattfill.errors import (
    ConflictError,
    InputError,
    InputTypeError,
    UnknownIdError,
    WattfillError,
)

FORMAT = "wattfill.registry"
VERSION = 1
NO_TERMS = Terms(0.0)


class GroupChanges(TypedDict, total=False):
    """What `Registry.update_group` changes."""

    name: str
    maximum_capacity: float
    minimum_connector_capacity: float
    buffer: float
    reserved: float
    policy: Policy
    rotation: float
    parent: str | None
    location: str | None
    description: str
    notes: str


class SessionChanges(TypedDict, total=False):
    """What `Registry.update_session` changes."""

    maximum: float | None
    weight: float
    priority: int


class Registry:
    """Groups, charge stations, connectors and sessions by id, and what each may draw.

    Every operation either happens or raises and changes nothing. An operation touches one tree of
    groups (moving something touches two), and that tree alone is solved again by the next
    `allocate`. There is no clock inside: time is the caller's, in seconds, and the registry's
    clock is the latest time that it was told, 0.0 at first.

    One thread at a time may use a registry. What it returns never changes, so any thread may
    read that.

    Examples
    --------
    >>> r = Registry()
    >>> g = r.create_group("Park3-E1", 100, 2.5, buffer=0.1)
    >>> _ = r.add_charge_station(g.id, "CS-1", [Connector("1", 60), Connector("2", 60)])
    >>> _ = r.start_session("CS-1", "1")
    >>> _ = r.start_session("CS-1", "2")
    >>> r.allocate().connectors["CS-1", "2"].power
    45.0

    """

    def __init__(self) -> None:
        self._clock = 0.0
        self._nodes: dict[str, Node] = {}
        self._home: dict[str, Node] = {}
        """The group that each charge station is in."""
        self._sessions: dict[Key, Running] = {}
        """Those that came first first."""
        self._n_arrived = 0
        self._pending: set[str] = set()
        """Roots, past and present, whose answer in `_trees` may not be the latest."""
        self._trees = Forest()
        self._directory = Directory()
        self._terms: dict[Key, Terms] = {}
        """What a dispatcher knows of connectors."""
        self._dispatched = False
        """Whether there is a dispatcher, so that fallbacks must fit."""
        self._turns: dict[Fraction | float, set[str]] = {}
        """Roots by the time of their next turn; a root may stand at an earlier time as well."""

    def __repr__(self) -> str:
        return (
            f"<Registry of {count(len(self._nodes), 'group')}, "
            f"{count(len(self._home), 'charge station')} and "
            f"{count(len(self._sessions), 'session')}>"
        )

    @property
    def clock(self) -> float:
        """The latest time that the registry was told, in seconds."""
        return self._clock

    # Groups

    def create_group(
        self,
        name: str,
        maximum_capacity: float,
        minimum_connector_capacity: float = 0.0,
        *,
        buffer: float = 0.0,
        reserved: float = 0.0,
        policy: Policy = "fifo",
        rotation: float = 900.0,
        parent: str | None = None,
        location: str | None = None,
        description: str = "",
        notes: str = "",
        id: str | None = None,
    ) -> Group:
        """Create a group.

        Parameters
        ----------
        name : str
            For people; it need not be unique.
        maximum_capacity : float
            kW, at least 0: the grid constraint.
        minimum_connector_capacity : float
            kW, at least 0: what it takes to sustain a session at any connector of the group.
        buffer : float
            Fraction of `maximum_capacity` set aside, 0.0..1.0.
        reserved : float
            kW, at least 0: load on the same feeder that is not ours to steer.
        policy : {"fifo", "rotate", "most"}
            Who is admitted first when not all minimums fit: who came first; who has waited, in
            turns; who needs least. The root's policy orders all sessions below it. A group below
            that has another one orders its own sessions among the places that they hold.
        rotation : float
            Seconds in a turn of "rotate", above 0. Turns begin at whole multiples of it.
        parent : str, optional
            Id of the group that feeds this one.
        location : str, optional
            Id of the place where it stands.
        description, notes : str
            For people.
        id : str, optional
            By default 24 random hexadecimal digits.

        Raises
        ------
        ConflictError
            If there is a group with this id.
        UnknownIdError
            If there is no group with the parent's id.

        Examples
        --------
        >>> r = Registry()
        >>> site = r.create_group("Campus", 400)
        >>> library = r.create_group("Library", 100, buffer=0.1, parent=site.id, id="lib")
        >>> library.id, library.parent == site.id
        ('lib', True)

        """
        group = Group(
            secrets.token_hex(12) if id is None else id,
            name,
            maximum_capacity,
            minimum_connector_capacity,
            buffer,
            reserved,
            policy,
            rotation,
            parent,
            location,
            description,
            notes,
        )
        self._plant(group)
        return group

    def _plant(self, group: Group) -> Node:
        if group.id in self._nodes:
            raise ConflictError(f"id must not be that of another group, got {group.id!r}")
        parent = None if group.parent is None else self._node(group.parent, "parent")
        node = self._nodes[group.id] = Node(group, parent)
        if parent is not None:
            parent.children[group.id] = node
        self._rebuild(node)
        return node

    def update_group(self, group_id: str, **changes: Unpack[GroupChanges]) -> Group:
        """Change a group; what is not named stays as it is.

        Parameters
        ----------
        group_id : str
        **changes
            Any argument of `create_group` but its id. A group is put below another one, with all
            that it holds, by `parent`, and made a root by ``parent=None``.

        Raises
        ------
        InputError
            If a value breaks a rule, `parent` is the group itself or below it, or
            `minimum_connector_capacity` exceeds the maximum of a connector in the group.
        ConflictError
            If there is a dispatcher, and what connectors may draw on their own does not fit under
            the other parent.
        UnknownIdError
            If there is no group with this id, or with the parent's.

        Examples
        --------
        >>> r = Registry()
        >>> g = r.create_group("Park3-E1", 100)
        >>> r.update_group(g.id, buffer=0.2).buffer
        0.2

        """
        node = self._node(group_id)
        _refuse_unknown("update_group", changes, GroupChanges)
        old, group = node.group, replace(node.group, **changes)
        parent = None if group.parent is None else self._node(group.parent, "parent")
        above = parent
        while above is not None:
            if above is node:
                raise InputError(
                    f"parent must not be the group itself or below it, got {group.parent!r}"
                )
            above = above.parent
        connectors = [
            (station, c) for station in node.stations.values() for c in station.connectors
        ]
        short = [
            (station, c)
            for station, c in connectors
            if c.maximum_capacity < group.minimum_connector_capacity
        ]
        if short:
            station, connector = short[0]
            raise InputError(
                "minimum_connector_capacity must be at most the maximum_capacity of every "
                f"connector in the group, got {group.minimum_connector_capacity!r} > "
                f"{connector.maximum_capacity!r} of connector {connector.id!r} of charge station "
                f"{station.id!r} ({len(short)} of {count(len(connectors), 'connector')})"
            )
        if parent is not None and parent is not node.parent:
            self._refuse_unfit(parent, node.fallback_below(), node.parent)
        root = node.root
        if root.tree is not None and _stands(old) == _stands(group):
            node.group = group
            root.tree.update_group(group)
            self._pending.add(root.group.id)
            return group
        self._rebuild(node)
        if node.parent is not None:
            del node.parent.children[group_id]
        if parent is not None:
            parent.children[group_id] = node
        node.group, node.parent = group, parent
        if node.line is not None and group.rotation != old.rotation:
            node.line.set_rotation(group.rotation, self._clock)
        self._rebuild(node)
        return group

    def delete_group(self, group_id: str) -> None:
        """Delete a group that holds nothing.

        Raises
        ------
        ConflictError
            If there are charge stations in it or groups below it.
        UnknownIdError
            If there is no group with this id.

        """
        node = self._node(group_id)
        if node.stations or node.children:
            raise ConflictError(
                f"group_id must be that of an empty group, but {group_id!r} has "
                f"{count(len(node.stations), 'charge station')} and "
                f"{count(len(node.children), 'child group')}: use move_charge_station or "
                "remove_charge_station, and update_group with another parent or delete_group, first"
            )
        self._rebuild(node)
        if node.parent is not None:
            del node.parent.children[group_id]
        del self._nodes[group_id]

    def group(self, group_id: str) -> Group:
        """Return the group with this id, or raise `UnknownIdError`."""
        return self._node(group_id).group

    def groups(self) -> list[Group]:
        """Return all groups: each before those below it, and siblings in the order of their ids."""
        return [node.group for node in self._walk()]

    def _walk(self) -> Iterator[Node]:
        return parents_first(node for node in self._nodes.values() if node.parent is None)

    # Charge stations

    def add_charge_station(
        self, group_id: str, station_id: str, connectors: Iterable[Connector]
    ) -> ChargeStation:
        """Add a charge station to a group.

        Parameters
        ----------
        group_id : str
        station_id : str
            Unique in the registry.
        connectors : iterable of Connector
            At least one. The maximum of each must reach its effective minimum.

        Raises
        ------
        ConflictError
            If there is a charge station with this id, in this group or another; or if there is a
            dispatcher, and what connectors may draw on their own would not fit.
        InputError
            If a connector is there twice, or its maximum is below the group's
            `minimum_connector_capacity`.
        UnknownIdError
            If there is no group with this id.

        Examples
        --------
        >>> r = Registry()
        >>> g = r.create_group("Park3-E1", 100, 2.5)
        >>> r.add_charge_station(g.id, "CS-1", [Connector("1", 15, 5), Connector("2", 22)]).id
        'CS-1'

        """
        return self._install(group_id, station_id, connectors, "group_id", "station_id")

    def _install(
        self, group: str, id: str, connectors: Iterable[Connector], group_name: str, id_name: str
    ) -> ChargeStation:
        """Add a charge station; refusals call its group and its id by these names."""
        node = self._node(group, group_name)
        _validate.identifier(id_name, id)
        if id in self._home:
            raise ConflictError(
                f"{id_name} must not be that of another charge station, got {id!r}, which is in "
                f"group {self._home[id].group.id!r} (move_charge_station moves it)"
            )
        station = ChargeStation(id, group, _checked_connectors(connectors))
        _refuse_short(node.group, station.connectors)
        fallback = _fallback(station)
        self._refuse_unfit(node, fallback)
        node.stations[id] = station
        node.fallback += fallback
        self._home[id] = node
        self._rebuild(node)
        return station

    def update_charge_station(
        self, station_id: str, connectors: Iterable[Connector]
    ) -> ChargeStation:
        """Replace the connectors of a charge station; sessions go on where they are.

        Raises
        ------
        ConflictError
            If a connector with a session is not among the new ones, or as `add_charge_station`.
        InputError
            As `add_charge_station`.
        UnknownIdError
            If there is no charge station with this id.

        """
        old = self.charge_station(station_id)
        node = self._home[station_id]
        station = replace(old, connectors=_checked_connectors(connectors))
        _refuse_short(node.group, station.connectors)
        kept = {connector.id for connector in station.connectors}
        lost = [key[1] for key in self._running_at(old) if key[1] not in kept]
        if lost:
            raise ConflictError(
                f"connectors must keep {lost[0]!r}, which has a session: stop the session first "
                f"({count(len(lost), 'such connector')})"
            )
        more = _fallback(station) - _fallback(old)
        self._refuse_unfit(node, more)
        node.stations[station_id] = station
        node.fallback += more
        self._rebuild(node)
        return station

    def move_charge_station(self, station_id: str, group_id: str) -> ChargeStation:
        """Move a charge station, with its sessions, to another group.

        Raises
        ------
        ConflictError
            If the maximum of a connector is below the other group's `minimum_connector_capacity`,
            or as `add_charge_station`.
        UnknownIdError
            If there is no charge station or no group with this id.

        """
        old = self.charge_station(station_id)
        before, after = self._home[station_id], self._node(group_id)
        station = replace(old, group=group_id)
        try:
            _refuse_short(after.group, station.connectors)
        except InputError as error:
            raise ConflictError(f"charge station {station_id!r} cannot move: {error}") from None
        fallback = _fallback(station)
        self._refuse_unfit(after, fallback, before)
        self._rebuild(before)
        del before.stations[station_id]
        before.fallback -= fallback
        after.stations[station_id] = station
        after.fallback += fallback
        self._home[station_id] = after
        self._rebuild(after)
        return station

    def remove_charge_station(self, station_id: str) -> None:
        """Remove a charge station, and with it the sessions at its connectors.

        Raises
        ------
        UnknownIdError
            If there is no charge station with this id.

        """
        station = self.charge_station(station_id)
        for key in self._running_at(station):
            del self._sessions[key]
        node = self._home.pop(station_id)
        del node.stations[station_id]
        node.fallback -= _fallback(station)
        self._rebuild(node)

    def charge_station(self, station_id: str) -> ChargeStation:
        """Return the charge station with this id, or raise `UnknownIdError`."""
        return self._charge_station(station_id, "station_id")

    def charge_stations(self, group_id: str | None = None) -> list[ChargeStation]:
        """Return all charge stations, or those in one group (not below it), by id."""
        nodes = self._nodes.values() if group_id is None else [self._node(group_id)]
        stations = (station for node in nodes for station in node.stations.values())
        return sorted(stations, key=lambda station: station.id)

    # Sessions

    def start_session(
        self,
        station: str,
        connector: str,
        maximum: float | None = None,
        weight: float = 1.0,
        priority: int = 0,
        at: float | None = None,
    ) -> Session:
        """Start a session at a connector.

        Parameters
        ----------
        station, connector : str
            Ids of the charge station and, within it, of the connector.
        maximum : float, optional
            kW that the vehicle can take. The session's upper bound is the smaller of this and the
            connector's maximum, but never below the effective minimum.
        weight : float
            Of its share, within 1e-100..1e100.
        priority : int
            Higher is admitted and filled first; 64 bits.
        at : float, optional
            Seconds on the caller's clock, by default the registry's clock. It may lie in the past,
            so that sessions can be restored in any order.

        Raises
        ------
        ConflictError
            If there is a session at the connector.
        UnknownIdError
            If there is no such connector.

        """
        started_at = self._clock if at is None else seconds("at", at)
        session = Session(station, connector, maximum, weight, priority, started_at)
        self._begin(session)
        if started_at > self._clock:
            self._clock = started_at
        return session

    def _begin(self, session: Session) -> None:
        key = session.station, session.connector
        root = self._root_of(key)
        if key in self._sessions:
            raise ConflictError(
                f"connector must be free, but {session.connector!r} of charge station "
                f"{session.station!r} has a session (use update_session, or stop_session first)"
            )
        running = Running(session, (session.started_at, self._n_arrived))
        self._sessions[key] = running
        self._n_arrived += 1
        self._pending.add(root.group.id)
        if root.tree is not None:
            root.tree.start(key, running)

    def update_session(
        self, station: str, connector: str, **changes: Unpack[SessionChanges]
    ) -> Session:
        """Change `maximum`, `weight` or `priority` of a session; what is not named stays.

        Raises
        ------
        UnknownIdError
            If there is no session at this connector, or no such connector.

        """
        old, arrival = self._running(station, connector)
        _refuse_unknown("update_session", changes, SessionChanges)
        session = Session(
            old.station,
            old.connector,
            changes.get("maximum", old.maximum),
            changes.get("weight", old.weight),
            changes.get("priority", old.priority),
            old.started_at,
        )
        key = station, connector
        running = self._sessions[key] = Running(session, arrival)
        root = self._home[station].root
        self._pending.add(root.group.id)
        if root.tree is not None:
            root.tree.update(key, running)
        return session

    def stop_session(self, station: str, connector: str) -> None:
        """Stop the session at a connector, or raise `UnknownIdError`."""
        self._running(station, connector)
        key = station, connector
        del self._sessions[key]
        root = self._home[station].root
        self._pending.add(root.group.id)
        if root.tree is not None:
            root.tree.stop(key)

    def session(self, station: str, connector: str) -> Session:
        """Return the session at a connector, or raise `UnknownIdError`."""
        return self._running(station, connector).session

    def sessions(self, group_id: str | None = None) -> list[Session]:
        """Return all sessions, or those in one group (not below it), as they came."""
        if group_id is None:
            return [running.session for running in self._sessions.values()]
        stations = self._node(group_id).stations.values()
        here = [self._sessions[key] for station in stations for key in self._running_at(station)]
        return [running.session for running in sorted(here, key=lambda running: running.number)]

    # Powers

    def allocate(
        self, group_id: str | None = None, *, at: float | None = None
    ) -> RegistryAllocation:
        """Say what each connector may draw, and why.

        Trees of groups in which nothing happened since they were solved, and no turn has begun,
        are not solved again.

        Parameters
        ----------
        group_id : str, optional
            Answer only for the tree that this group is in; by default for all groups.
        at : float, optional
            Seconds on the caller's clock, not before the registry's, which it sets. Turns of
            "rotate" begin here and nowhere else: those that have gone by since the last call are
            made up for.

        Raises
        ------
        InputError
            If `at` lies before the registry's clock.
        UnknownIdError
            If there is no group with this id.

        Examples
        --------
        Two minimums of 6 kW do not fit into 10 kW, so they take turns:

        >>> r = Registry()
        >>> g = r.create_group("Yard", 10, 6, policy="rotate")
        >>> _ = r.add_charge_station(g.id, "CS-1", [Connector("1", 11), Connector("2", 11)])
        >>> _ = r.start_session("CS-1", "1")
        >>> _ = r.start_session("CS-1", "2")
        >>> [a.power for a in r.allocate(at=0).connectors.values()]
        [10.0, 0.0]
        >>> [a.power for a in r.allocate(at=900).connectors.values()]
        [0.0, 10.0]
        >>> r.allocate().groups[g.id].shortfall
        2.0

        """
        root = None if group_id is None else self._node(group_id).root
        if at is not None:
            rule = f"finite and at least {self._clock!r}, the registry's clock"
            self._clock = _validate.number_within("at", at, rule, least=self._clock)
        if root is not None:
            return RegistryAllocation(OneTree(self._solve(root)))
        for begins in [begins for begins in self._turns if begins <= self._clock]:
            self._pending |= self._turns.pop(begins)
        if self._pending:
            roots = {root_id: self._nodes.get(root_id) for root_id in self._pending}
            self._trees = self._trees.changed(
                {
                    root_id: None if node is None or node.parent else self._solve(node)
                    for root_id, node in roots.items()
                }
            )
            self._pending = set()
        return RegistryAllocation(AllTrees(self._trees, self._directory))

    def _solve(self, root: Node) -> Answer:
        tree = root.tree
        if tree is None:
            tree = root.tree = Tree(root, self._sessions, self._terms, self._clock)
        answer = tree.answer(self._clock)
        if tree.lines:
            self._turns.setdefault(tree.next_turn, set()).add(root.group.id)
        return answer

    def _rebuild(self, node: Node) -> None:
        """Note that what the node's tree holds changes, or did."""
        root = node.root
        root.tree = None
        self._pending.add(root.group.id)
        self._directory = Directory()

    # For a dispatcher

    def _attach_dispatcher(self, *, fit: bool) -> None:
        """Refuse fallbacks that do not fit, from now on; also those that are there, to `fit`."""
        if self._dispatched:
            raise ConflictError("registry must have no dispatcher yet: close the other one first")
        for node in self._walk() if fit else ():
            _refuse_over(node, node.fallback_below())
        self._dispatched = True

    def _detach_dispatcher(self) -> None:
        for key in list(self._terms):
            self._set_terms(key, None)
        self._dispatched = False

    def _set_terms(self, key: Key, terms: Terms | None) -> None:
        """Note what a dispatcher knows of a connector; its tree is solved with that."""
        terms = terms or NO_TERMS
        if terms == self._terms.get(key, NO_TERMS):
            return
        if terms == NO_TERMS:
            del self._terms[key]
        else:
            self._terms[key] = terms
        node = self._home.get(key[0])
        if node is not None:
            root = node.root
            if root.tree is not None and key in root.tree.layout.place:
                root.tree.keep(key, terms)
            self._pending.add(root.group.id)

    def _changed_trees(
        self, before: Forest, at: float | None
    ) -> tuple[Forest, dict[str, Answer | None]]:
        """Allocate; return the answers, and those that were not there before by their roots."""
        self.allocate(at=at)
        return self._trees, self._trees.differences(before)

    def _next_turn(self) -> float:
        """Return when a turn begins next in some group, as far as was asked for."""
        return float(min(self._turns, default=math.inf))

    def _refuse_unfit(self, node: Node, more: int, before: Node | None = None) -> None:
        """Refuse more quanta that may be drawn untold in a group, if a dispatcher is to go by them.

        They come from another group, `before`, or from nowhere.
        """
        if not self._dispatched or more <= 0:
            return
        there = [] if before is None else list(before.upwards())
        for above in node.upwards():
            if above not in there:
                _refuse_over(above, above.fallback_below() + more)

    # To and from a file

    def to_dict(self) -> dict[str, Any]:
        """Return everything that the registry knows, in what JSON knows.

        Examples
        --------
        >>> import json
        >>> r = Registry()
        >>> _ = r.create_group("Park3-E1", 100, id="649be7ca525c000bc98a6c05")
        >>> text = json.dumps(r.to_dict())
        >>> Registry.from_dict(json.loads(text)).to_dict() == r.to_dict()
        True

        """
        keys = {running.number: list(key) for key, running in self._sessions.items()}

        def line(node: Node) -> dict[str, Any] | None:
            if node.line is None:
                return None
            order = [number for number in node.line.order if number in keys]
            return {
                "turn": node.line.turn,
                "order": [keys[number] for number in order],
                "served": [keys[number] for number in order if number in node.line.served],
            }

        return {
            "format": FORMAT,
            "version": VERSION,
            "clock": self._clock,
            "groups": [{**_plain(node.group), "line": line(node)} for node in self._walk()],
            "charge_stations": [
                {**_plain(station), "connectors": [_plain(c) for c in station.connectors]}
                for station in self.charge_stations()
            ],
            "sessions": [_plain(session) for session in self.sessions()],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the registry that `to_dict` was called on, or one that cannot be told from it.

        Parameters
        ----------
        data : dict
            As `to_dict` makes it. Groups stand behind their parents, and sessions in the order
            in which they came.

        Raises
        ------
        InputError, InputTypeError
            If `data` is damaged or of a newer version; the message says where and why.

        """
        _refuse_other_formats(data)
        registry = cls()
        registry._clock = _validate.number_within("clock", data["clock"], "finite and at least 0")
        lines = []
        for place, record in _records("groups", data["groups"], (*_names(Group), "line")):
            with _within(place):
                node = registry._plant(Group(**{name: record[name] for name in _names(Group)}))
            lines.append((f"{place}.line", node, record["line"]))
        stations = _records("charge_stations", data["charge_stations"], _names(ChargeStation))
        for place, record in stations:
            connectors = []
            plugs = _records(f"{place}.connectors", record["connectors"], _names(Connector))
            for inner, plug in plugs:
                with _within(inner):
                    connectors.append(Connector(**plug))
            with _within(place):
                registry._install(record["group"], record["id"], connectors, "group", "id")
        for place, record in _records("sessions", data["sessions"], _names(Session)):
            with _within(place):
                session = Session(**record)
                if session.started_at > registry._clock:
                    raise InputError(
                        f"started_at must be at most the clock, {registry._clock!r}, got "
                        f"{session.started_at!r}"
                    )
                registry._begin(session)
        for place, node, line in lines:
            if line is not None:
                node.line = registry._read_line(place, line, node.group.rotation)
        return registry

    def _read_line(self, place: str, line: object, rotation: float) -> Line:
        record = _record(place, line, ("turn", "order", "served"))
        turn = record["turn"]
        if type(turn) is not int:
            raise InputTypeError(f"{place}.turn must be a whole number, got {turn!r}")
        numbers: dict[str, list[int]] = {"order": [], "served": []}
        for name, read in numbers.items():
            for i, key in enumerate(_list(f"{place}.{name}", record[name])):
                running = self._sessions.get((key[0], key[1])) if _is_key(key) else None
                if running is None or running.number in read:
                    raise InputError(
                        f"{place}.{name}[{i}] must be the station and the connector of one more "
                        f"session, got {key!r}"
                    )
                read.append(running.number)
        return Line(Fraction(rotation), turn, numbers["order"], set(numbers["served"]))

    # Looking up

    def _node(self, group_id: str, name: str = "group_id") -> Node:
        _validate.identifier(name, group_id)
        node = self._nodes.get(group_id)
        if node is None:
            raise UnknownIdError(f"{name} must be the id of a group, got {group_id!r}")
        return node

    def _charge_station(self, station_id: str, name: str) -> ChargeStation:
        _validate.identifier(name, station_id)
        if station_id not in self._home:
            raise UnknownIdError(f"{name} must be the id of a charge station, got {station_id!r}")
        return self._home[station_id].stations[station_id]

    def _root_of(self, key: Key) -> Node:
        """Return the root above a connector, which must be there."""
        station, connector = key
        node = self._home.get(station)
        if node is not None:
            root = node.root
            if root.tree is not None and key in root.tree.layout.place:
                return root
        connectors = self._charge_station(station, "station").connectors
        if all(plug.id != connector for plug in connectors):
            raise UnknownIdError(
                f"connector must be the id of a connector of charge station {station!r} "
                f"({', '.join(repr(plug.id) for plug in connectors)}), got {connector!r}"
            )
        return self._home[station].root

    def _running(self, station: str, connector: str) -> Running:
        _validate.identifier("station", station)
        _validate.identifier("connector", connector)
        key = station, connector
        running = self._sessions.get(key)
        if running is None:
            self._root_of(key)
            raise UnknownIdError(
                f"connector must have a session, but {connector!r} of charge station {station!r} "
                "has none"
            )
        return running

    def _running_at(self, station: ChargeStation) -> list[Key]:
        keys = ((station.id, connector.id) for connector in station.connectors)
        return [key for key in keys if key in self._sessions]


def _checked_connectors(connectors: Iterable[Connector]) -> tuple[Connector, ...]:
    if isinstance(connectors, (str, bytes)) or not isinstance(connectors, Iterable):
        raise InputTypeError(
            f"connectors must be a list of Connector, got {type(connectors).__name__}"
        )
    checked = tuple(connectors)
    if not checked:
        raise InputError("connectors must hold at least one Connector, got none")
    ids: set[str] = set()
    for i, connector in enumerate(checked):
        if not isinstance(connector, Connector):
            raise InputTypeError(
                f"connectors must be a list of Connector, got connectors[{i}] of type "
                f"{type(connector).__name__}"
            )
        if connector.id in ids:
            raise InputError(
                f"connectors must have ids of their own, got connectors[{i}].id = "
                f"{connector.id!r} for the second time"
            )
        ids.add(connector.id)
    return checked


def _refuse_short(group: Group, connectors: tuple[Connector, ...]) -> None:
    """Refuse connectors that cannot have what it takes to sustain a session in the group."""
    for i, connector in enumerate(connectors):
        if connector.maximum_capacity < group.minimum_connector_capacity:
            raise InputError(
                f"connectors[{i}].maximum_capacity must be at least "
                f"{group.minimum_connector_capacity!r}, the minimum_connector_capacity of group "
                f"{group.id!r}, got {connector.maximum_capacity!r}"
            )


def _fallback(station: ChargeStation) -> int:
    """Return the quanta that a charge station may draw on its own."""
    return sum(quanta_above(connector.may_draw_untold) for connector in station.connectors)


def _refuse_over(node: Node, fallback: int) -> None:
    """Refuse fallbacks that exceed what a group may draw."""
    usable = usable_quanta(node.group)
    if fallback > usable:
        raise ConflictError(
            "the fallbacks of all connectors below a group must fit its usable capacity, got "
            f"{fallback / QUANTA_PER_KW:.12g} kW > {usable / QUANTA_PER_KW:.12g} kW of group "
            f"{node.group.id!r} (a connector without a fallback counts with its maximum_capacity)"
        )


def _stands(group: Group) -> tuple[object, ...]:
    """Return what a tree cannot take up without being laid out anew."""
    return group.parent, group.minimum_connector_capacity, group.policy, group.rotation


def _refuse_unknown(function: str, changes: Mapping[str, Any], known: type) -> None:
    for name in changes:
        if name not in known.__annotations__:
            raise InputTypeError(
                f"{function} must be given what it can change "
                f"({', '.join(known.__annotations__)}), got {name!r}"
            )


def _names(record: type[Any]) -> tuple[str, ...]:
    # The slots of a dataclass are its fields, ready made.
    return tuple(record.__slots__)


def _plain(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in _names(type(record))}


def _refuse_other_formats(data: Mapping[str, Any]) -> None:
    if not isinstance(data, Mapping):
        raise InputTypeError(f"data must be a dict, got {type(data).__name__}")
    if data.get("format") != FORMAT:
        raise InputError(f"format must be {FORMAT!r}, got {data.get('format')!r}")
    version = data.get("version")
    if type(version) is not int or not 1 <= version <= VERSION:
        newer = ", written by a newer wattfill" if type(version) is int and version > 0 else ""
        raise InputError(f"version must be {VERSION}, got {version!r}{newer}")
    _record("data", data, ("format", "version", "clock", "groups", "charge_stations", "sessions"))


def _record(place: str, value: object, names: tuple[str, ...]) -> Mapping[str, Any]:
    """Return `value`, which must be a dict with these keys and no others."""
    if not isinstance(value, Mapping):
        raise InputTypeError(f"{place} must be a dict, got {type(value).__name__}")
    for name in names:
        if name not in value:
            raise InputError(f"{place} must have {name!r}, which is missing")
    for name in value:
        if name not in names:
            raise InputError(f"{place} must have nothing but {', '.join(names)}, got {name!r}")
    return value


def _list(place: str, value: object) -> list[Any]:
    if not isinstance(value, list):
        raise InputTypeError(f"{place} must be a list, got {type(value).__name__}")
    return value


def _records(
    place: str, value: object, names: tuple[str, ...]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield every dict of a list with its place."""
    for i, record in enumerate(_list(place, value)):
        yield f"{place}[{i}]", _record(f"{place}[{i}]", record, names)


def _is_key(value: object) -> bool:
    return (
        isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) for part in value)
    )


@contextmanager
def _within(place: str) -> Iterator[None]:
    """Say where in the file something was refused: every refusal begins with a name."""
    try:
        yield
    except WattfillError as error:
        kind = InputTypeError if isinstance(error, InputTypeError) else InputError
        raise kind(f"{place}.{error}") from None
