"""Groups, charge stations, connectors and sessions by id, and who is to be solved again."""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import chain
from typing import Any, Literal, NamedTuple, Self, TypeAlias, TypedDict, Unpack

import numpy as np
import numpy.typing as npt

from wattfill import _validate
from wattfill._validate import Floats, Integers
from wattfill.allocation import Allocation, allocate
from wattfill.errors import (
    ConflictError,
    InputError,
    InputTypeError,
    UnknownIdError,
    WattfillError,
)
from wattfill.reason import Reason

Policy: TypeAlias = Literal["fifo", "rotate", "most"]
Key: TypeAlias = tuple[str, str]
"""(station id, connector id)"""

POLICIES = ("fifo", "rotate", "most")
FORMAT = "wattfill.registry"
VERSION = 1
QUANTA_PER_KW = 10**6
# Sessions may have weights, so the smaller of the kernel's two limits holds for every group.
TOO_MUCH_KW = _validate.MOST_QUANTA_WEIGHTED / QUANTA_PER_KW
MOST_TURNS = 10_000
N_SHARDS = 256


@dataclass(frozen=True, slots=True)
class Group:
    """A group as it was when it was asked for: it shares one capacity."""

    id: str
    name: str
    maximum_capacity: float
    """kW, at least 0: the grid constraint."""
    minimum_connector_capacity: float = 0.0
    """kW, at least 0: what it takes to sustain a session."""
    buffer: float = 0.0
    """Fraction of `maximum_capacity` set aside, 0.0..1.0."""
    reserved: float = 0.0
    """kW, at least 0: load on the same feeder that is not ours to steer."""
    policy: Policy = "fifo"
    """Who is admitted first when not all minimums fit: "fifo", "rotate" or "most"."""
    rotation: float = 900.0
    """Seconds in a turn of "rotate", above 0."""
    parent: str | None = None
    """Id of the group that feeds this one."""
    location: str | None = None
    description: str = ""
    notes: str = ""

    def __post_init__(self) -> None:
        _validate.identifier("id", self.id)
        for name in ("name", "description", "notes"):
            _validate.text(name, getattr(self, name))
        for name in ("parent", "location"):
            if getattr(self, name) is not None:
                _validate.identifier(name, getattr(self, name))
        _take_kw(self, "maximum_capacity", "minimum_connector_capacity", "reserved")
        if self.maximum_capacity >= TOO_MUCH_KW:
            raise InputError(
                f"maximum_capacity must be below {TOO_MUCH_KW:.6g} kW, which is 2**51 quanta, "
                f"got {self.maximum_capacity!r}"
            )
        buffer = _validate.number_within("buffer", self.buffer, "within 0.0..1.0", most=1.0)
        rotation = _validate.number_within(
            "rotation", self.rotation, "above 0 and finite", least=math.ulp(0.0)
        )
        object.__setattr__(self, "buffer", buffer)
        object.__setattr__(self, "rotation", rotation)
        if not isinstance(self.policy, str) or self.policy not in POLICIES:
            raise InputError(
                f"policy must be one of 'fifo', 'rotate' and 'most', got {self.policy!r}"
            )


@dataclass(frozen=True, slots=True)
class Connector:
    """One plug of a charge station.

    Parameters
    ----------
    id : str
        Unique within its charge station.
    maximum_capacity : float
        kW, finite: the connector's rating.
    minimum_capacity : float, optional
        kW, at most `maximum_capacity`: the least that sustains a session here. A connector without
        one takes its group's `minimum_connector_capacity`, which also raises a smaller one.

    Examples
    --------
    >>> Connector("1", maximum_capacity=22, minimum_capacity=4.14)
    Connector(id='1', maximum_capacity=22.0, minimum_capacity=4.14)

    """

    id: str
    maximum_capacity: float
    minimum_capacity: float | None = None

    def __post_init__(self) -> None:
        _validate.identifier("id", self.id)
        maximum = _validate.number_within(
            "maximum_capacity",
            self.maximum_capacity,
            "finite and at least 0 (give the connector's rating)",
        )
        object.__setattr__(self, "maximum_capacity", maximum)
        if self.minimum_capacity is None:
            return
        _take_kw(self, "minimum_capacity")
        if maximum < self.minimum_capacity:
            raise InputError(
                f"maximum_capacity must be at least minimum_capacity, got {maximum!r} < "
                f"{self.minimum_capacity!r}"
            )


@dataclass(frozen=True, slots=True)
class ChargeStation:
    """A charge station as it was when it was asked for."""

    id: str
    group: str
    """Id of the group that it is in."""
    connectors: tuple[Connector, ...]


@dataclass(frozen=True, slots=True)
class Session:
    """A session as it was when it was asked for: a vehicle charging at a connector."""

    station: str
    connector: str
    maximum: float | None
    """kW that the vehicle can take, or None where only the connector limits it."""
    weight: float
    priority: int
    started_at: float
    """Seconds on the caller's clock."""

    def __post_init__(self) -> None:
        _validate.identifier("station", self.station)
        _validate.identifier("connector", self.connector)
        if self.maximum is not None:
            _take_kw(self, "maximum")
        weight = _validate.number_within(
            "weight",
            self.weight,
            f"above 0 (within {_validate.LIGHTEST:g}..{_validate.HEAVIEST:g})",
            _validate.LIGHTEST,
            _validate.HEAVIEST,
        )
        object.__setattr__(self, "weight", weight)
        object.__setattr__(self, "priority", _validate.whole_number("priority", self.priority))
        object.__setattr__(self, "started_at", _time("started_at", self.started_at))


@dataclass(frozen=True, slots=True)
class ConnectorAllocation:
    """What one connector may draw, and why."""

    station: str
    connector: str
    group: str
    """Id of the group that its charge station is in."""
    power: float
    """kW"""
    reason: Reason
    bound_by: str | None
    """Id of the group that held it down or paused it; None where nothing but its own bounds did."""
    minimum: float
    """kW, its effective minimum."""
    maximum: float
    """kW, its effective maximum: the smaller of the connector's and the session's, but not below
    the effective minimum."""


@dataclass(frozen=True, slots=True)
class GroupAllocation:
    """What one group uses of what it may."""

    id: str
    usable: float
    """kW: ``maximum_capacity * (1 - buffer) - reserved``, not below 0."""
    used: float
    """kW: the sum of the powers in the group and in all groups below it."""
    headroom: float
    """kW: ``usable - used``."""
    shortfall: float
    """kW: by how much the minimums of all sessions below the group exceed `usable`, 0 where they
    fit."""
    level: float
    """kW (per weight) that everybody rises to; infinite where the group did not bind."""


@dataclass(frozen=True, slots=True)
class RegistryAllocation:
    """The outcome for all groups or for one tree of them. What happens later does not change it."""

    connectors: Mapping[Key, ConnectorAllocation]
    """By (station id, connector id)."""
    groups: Mapping[str, GroupAllocation]
    """By group id."""


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


def _take_kw(record: Group | Connector | Session, *names: str) -> None:
    for name in names:
        value = _validate.number_within(name, getattr(record, name), "finite and at least 0")
        object.__setattr__(record, name, value)


def _time(name: str, value: object) -> float:
    return _validate.number_within(name, value, "finite", least=-math.inf)


def _count(n: int, thing: str) -> str:
    return f"{n} {thing}" if n == 1 else f"{n} {thing}s"


def _effective_minimum(group: Group, connector: Connector) -> float:
    return max(connector.minimum_capacity or 0.0, group.minimum_connector_capacity)


class _Running(NamedTuple):
    """A session, and its number: those that came to the registry later have larger ones."""

    session: Session
    number: int

    @property
    def arrival(self) -> tuple[float, int]:
        return self.session.started_at, self.number


@dataclass(slots=True)
class _Line:
    """Who takes turns in a group, by the numbers of the sessions."""

    turn: int
    """Whole rotations from time 0 to the start of this turn."""
    order: list[int]
    """The front of the line first."""
    served: set[int]
    """Who was admitted during this turn."""

    def turn_over(self) -> bool:
        """Send those who were served to the end of the line; say whether that changed it."""
        before = self.order
        self.order = sorted(before, key=self.served.__contains__)
        self.served = set()
        self.turn += 1
        return self.order != before


@dataclass(slots=True, eq=False)
class _Node:
    """A group as it stands: what it is, what feeds it, and what it holds."""

    group: Group
    parent: _Node | None = None
    children: dict[str, _Node] = field(default_factory=dict)
    stations: dict[str, ChargeStation] = field(default_factory=dict)
    line: _Line | None = None
    tree: _Tree | None = None
    """Of a root, what is known of the groups below it; None once they are not what they were."""

    @property
    def root(self) -> _Node:
        node = self
        while node.parent is not None:
            node = node.parent
        return node

    @property
    def order(self) -> tuple[str, float]:
        """What the group's policy comes to: equal ones put the same sessions into the same line."""
        return self.group.policy, self.group.rotation if self.group.policy == "rotate" else 0.0


def _parents_first(nodes: Iterable[_Node]) -> Iterator[_Node]:
    """Walk down from the nodes, siblings by id; those below a group follow right behind it."""

    def last_first(siblings: Iterable[_Node]) -> list[_Node]:
        return sorted(siblings, key=lambda node: node.group.id, reverse=True)

    waiting = last_first(nodes)
    while waiting:
        node = waiting.pop()
        yield node
        waiting += last_first(node.children.values())


@dataclass(frozen=True, slots=True, eq=False)
class _Layout:
    """A tree as the kernel reads it, parents first. It never changes: answers refer to it."""

    groups: list[str]
    parent: Integers
    after: list[int]
    """(n_groups,) Behind the last group below each: what is below stands together."""
    offsets: Integers
    keys: list[Key]
    owner: list[int]
    """(n_connectors,) The group that each is in."""
    minimum: Floats
    maximum: Floats
    capacity: Floats
    buffer: Floats
    reserved: Floats
    place: dict[Key, int]
    rank: dict[str, int]

    def below(self, g: int) -> range:
        """Return the connectors of group g and of all groups below it."""
        return range(int(self.offsets[g]), int(self.offsets[self.after[g]]))


def _lay_out(nodes: list[_Node]) -> _Layout:
    rank = {node.group.id: g for g, node in enumerate(nodes)}
    parent = [-1, *(rank[node.parent.group.id] for node in nodes[1:] if node.parent)]
    after = list(range(1, len(nodes) + 1))
    for g in reversed(range(1, len(nodes))):
        after[parent[g]] = max(after[parent[g]], after[g])
    offsets, keys, owner = [0], [], []
    minimum, maximum = [], []
    for g, node in enumerate(nodes):
        for station in sorted(node.stations.values(), key=lambda station: station.id):
            for connector in station.connectors:
                keys.append((station.id, connector.id))
                owner.append(g)
                minimum.append(_effective_minimum(node.group, connector))
                maximum.append(connector.maximum_capacity)
        offsets.append(len(keys))
    return _Layout(
        groups=list(rank),
        parent=np.array(parent, np.int64),
        after=after,
        offsets=np.array(offsets, np.int64),
        keys=keys,
        owner=owner,
        minimum=np.array(minimum, np.float64),
        maximum=np.array(maximum, np.float64),
        capacity=np.array([node.group.maximum_capacity for node in nodes]),
        buffer=np.array([node.group.buffer for node in nodes]),
        reserved=np.array([node.group.reserved for node in nodes]),
        place={key: i for i, key in enumerate(keys)},
        rank=rank,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Answer:
    """What was solved for one tree. It never changes."""

    layout: _Layout
    maximum: Floats
    """(n_connectors,) Effective maximums."""
    allocation: Allocation

    def connector(self, key: Key) -> ConnectorAllocation:
        i = self.layout.place[key]
        bound_by = int(self.allocation.bound_by[i])
        return ConnectorAllocation(
            *key,
            group=self.layout.groups[self.layout.owner[i]],
            power=float(self.allocation.power[i]),
            reason=Reason(int(self.allocation.reason[i])),
            bound_by=self.layout.groups[bound_by] if bound_by >= 0 else None,
            minimum=float(self.layout.minimum[i]),
            maximum=float(self.maximum[i]),
        )

    def group(self, group_id: str) -> GroupAllocation:
        g = self.layout.rank[group_id]
        return GroupAllocation(
            id=group_id,
            usable=float(self.allocation.usable[g]),
            used=float(self.allocation.used[g]),
            headroom=float(self.allocation.headroom[g]),
            shortfall=float(self.allocation.shortfall[g]),
            level=float(self.allocation.level[g]),
        )


class _Forest(Mapping[str, _Answer]):
    """The answers of many trees by the id of the root. It never changes: results refer to it.

    A changed one shares all shards with it but those that hold a change, so that the cost of an
    event hardly depends on how many other trees there are.
    """

    def __init__(self, shards: Sequence[dict[str, _Answer]] = ({},) * N_SHARDS) -> None:
        self._shards = tuple(shards)

    def __getitem__(self, root: str) -> _Answer:
        return self._shards[hash(root) % N_SHARDS][root]

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(self._shards)

    def __len__(self) -> int:
        return sum(map(len, self._shards))

    def changed(self, answers: Mapping[str, _Answer | None]) -> _Forest:
        """Return a forest with these answers; None takes a tree out."""
        shards = list(self._shards)
        for root, answer in answers.items():
            at = hash(root) % N_SHARDS
            if shards[at] is self._shards[at]:
                shards[at] = dict(shards[at])
            if answer is None:
                shards[at].pop(root, None)
            else:
                shards[at][root] = answer
        return _Forest(shards)


class _Directory:
    """Under which root a connector or a group is found.

    Filled when somebody first looks something up, and shared by all answers for the whole
    registry until a group or a charge station is not where it was.
    """

    def __init__(self) -> None:
        self._root: dict[Key | str, str] = {}

    def find(self, trees: Mapping[str, _Answer], what: Key | str) -> _Answer:
        if not self._root:
            self._root = {
                what: root
                for root, answer in trees.items()
                for place in (answer.layout.place, answer.layout.rank)
                for what in place
            }
        return trees[self._root[what]]


class _View:
    """What the two mappings of a `RegistryAllocation` have in common."""

    def __init__(self, trees: Mapping[str, _Answer], directory: _Directory) -> None:
        self._trees = trees
        self._directory = directory

    def _layouts(self) -> Iterator[_Layout]:
        return (self._trees[root].layout for root in sorted(self._trees))

    def __repr__(self) -> str:
        return repr(dict(self))  # type: ignore[call-overload]


class _Connectors(_View, Mapping[Key, ConnectorAllocation]):
    def __getitem__(self, key: Key) -> ConnectorAllocation:
        return self._directory.find(self._trees, key).connector(key)

    def __iter__(self) -> Iterator[Key]:
        return (key for layout in self._layouts() for key in layout.keys)

    def __len__(self) -> int:
        return sum(len(layout.keys) for layout in self._layouts())


class _Groups(_View, Mapping[str, GroupAllocation]):
    def __getitem__(self, group_id: str) -> GroupAllocation:
        return self._directory.find(self._trees, group_id).group(group_id)

    def __iter__(self) -> Iterator[str]:
        return (group_id for layout in self._layouts() for group_id in layout.groups)

    def __len__(self) -> int:
        return sum(len(layout.groups) for layout in self._layouts())


class _Demand(NamedTuple):
    """What the sessions of a tree ask for."""

    running: dict[int, _Running]
    """By the place of the connector."""
    active: npt.NDArray[np.bool_]
    maximum: Floats
    weight: Floats | None
    priority: Integers | None


class _Tree:
    """The groups below one root: their layout, what their sessions ask for, the last answer."""

    def __init__(self, root: _Node) -> None:
        self.nodes = list(_parents_first([root]))
        self.layout = _lay_out(self.nodes)
        # A group that orders its sessions as its parent does needs no order of its own.
        self.ordering = [
            g
            for g, node in enumerate(self.nodes)
            if node.parent is None or node.order != node.parent.order
        ]
        self.turning = [g for g in self.ordering if self.nodes[g].group.policy == "rotate"]
        for g in set(range(len(self.nodes))).difference(self.turning):
            self.nodes[g].line = None
        self.forget()

    def forget(self) -> None:
        """Note that the sessions are not what they were."""
        self.demand: _Demand | None = None
        self.latest: _Answer | None = None

    def answer(self, sessions: Mapping[Key, _Running], now: float) -> _Answer:
        """Return what holds at `now`; solve what is not known yet."""
        demand = self.demand
        if demand is None:
            demand = self.demand = self._gather(sessions)
            self._keep_lines(demand, now)
        answer = self._replay_turns(demand, Fraction(now))
        if answer is None:
            answer = self._solve(demand)
        return answer

    def _gather(self, sessions: Mapping[Key, _Running]) -> _Demand:
        layout = self.layout
        n = len(layout.keys)
        running = {i: sessions[key] for i, key in enumerate(layout.keys) if key in sessions}
        active, maximum = np.zeros(n, np.bool_), layout.maximum.copy()
        weight, priority = np.ones(n), np.zeros(n, np.int64)
        for i, (session, _) in running.items():
            active[i] = True
            weight[i] = session.weight
            priority[i] = session.priority
            if session.maximum is not None:
                maximum[i] = max(min(maximum[i], session.maximum), layout.minimum[i])
        return _Demand(
            running,
            active,
            maximum,
            weight if (weight != 1.0).any() else None,
            priority if priority.any() else None,
        )

    def _keep_lines(self, demand: _Demand, now: float) -> None:
        """Let those who left out of the lines, and those who came in at the end."""
        for g in self.turning:
            node, below = self.nodes[g], self.layout.below(g)
            here = {who.number: who for i, who in demand.running.items() if i in below}
            if node.line is None:
                node.line = _Line(_turn_at(now, node.group.rotation), [], set())
            line = node.line
            stayed = [number for number in line.order if number in here]
            came = here.keys() - set(stayed)
            line.order = stayed + sorted(came, key=lambda number: here[number].arrival)
            line.served &= here.keys()

    def _lines(self) -> list[tuple[_Line, Fraction]]:
        """Return every line with its rotation."""
        turning = (self.nodes[g] for g in self.turning)
        return [(node.line, Fraction(node.group.rotation)) for node in turning if node.line]

    @property
    def next_turn(self) -> Fraction:
        """When the next turn begins: exact, so that turns of several lengths stay in step."""
        return min((line.turn + 1) * rotation for line, rotation in self._lines())

    def _replay_turns(self, demand: _Demand, now: Fraction) -> _Answer | None:
        """Let the turns that have ended by `now` end, one after another.

        Who was served in the first of them is known; who is in the others is solved for. The lines
        alone decide what comes next, so once they are as they were, rounds can be left out: lines
        are compared with those after 1, 2, 4, 8, ... turns (Brent: An improved Monte Carlo
        factorization algorithm, BIT 20, 1980, section 2). Lines that have not come round after
        MOST_TURNS stay as they are.
        """
        if not self.turning:
            return self.latest
        known: list[object] | None = None
        known_at, remember = now, 1
        for turn in range(1, MOST_TURNS + 1):
            due = self.next_turn
            if due > now:
                return self.latest
            for line, rotation in self._lines():
                if (line.turn + 1) * rotation == due and line.turn_over():
                    self.latest = None
            state: list[object] = [
                (line.order, frozenset(line.served), (line.turn + 1) * rotation - due)
                for line, rotation in self._lines()
            ]
            if state == known:
                rounds = (now - due) // (due - known_at)
                for line, rotation in self._lines():
                    line.turn += int(rounds * (due - known_at) / rotation)
            elif turn == remember:
                known, known_at, remember = state, due, 2 * remember
            if self.latest is None:
                self._solve(demand)
            else:
                self._note_served(demand, self.latest)
        for line, rotation in self._lines():
            line.turn = now // rotation
        return self.latest

    def _solve(self, demand: _Demand) -> _Answer:
        layout = self.layout
        line = self._admission_order(demand)
        rank = np.zeros(len(layout.keys))
        rank[line] = np.arange(len(line))
        allocation = allocate(
            layout.minimum,
            demand.maximum,
            layout.capacity,
            layout.offsets,
            buffer=layout.buffer,
            reserved=layout.reserved,
            parent=layout.parent,
            weight=demand.weight,
            priority=demand.priority,
            rank=rank,
            active=demand.active,
        )
        self.latest = answer = _Answer(layout, demand.maximum, allocation)
        self._note_served(demand, answer)
        return answer

    def _note_served(self, demand: _Demand, answer: _Answer) -> None:
        for g in self.turning:
            line, below = self.nodes[g].line, self.layout.below(g)
            assert line is not None
            line.served.update(
                who.number
                for i, who in demand.running.items()
                if i in below and answer.allocation.reason[i] != Reason.PAUSED
            )

    def _admission_order(self, demand: _Demand) -> list[int]:
        """Return the places of the sessions, who is admitted first first.

        The root's policy orders all of them. Every group below that has another one orders its own
        anew, among the places in the line that they hold.
        """
        line = list(demand.running)
        for g in self.ordering:
            below = self.layout.below(g)
            held = [at for at, i in enumerate(line) if i in below]
            anew = self._ordered(g, [line[at] for at in held], demand.running)
            for at, i in zip(held, anew, strict=True):
                line[at] = i
        return line

    def _ordered(self, g: int, places: list[int], running: dict[int, _Running]) -> list[int]:
        """Order these sessions by the policy of group g."""
        node = self.nodes[g]
        if node.group.policy == "rotate":
            assert node.line is not None
            spot = {number: at for at, number in enumerate(node.line.order)}
            return sorted(places, key=lambda i: spot[running[i].number])
        if node.group.policy == "most":
            minimum = self.layout.minimum
            return sorted(places, key=lambda i: (minimum[i], *running[i].arrival))
        return sorted(places, key=lambda i: running[i].arrival)


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
        self._nodes: dict[str, _Node] = {}
        self._home: dict[str, _Node] = {}
        """The group that each charge station is in."""
        self._sessions: dict[Key, _Running] = {}
        """Those that came first first."""
        self._n_arrived = 0
        self._pending: set[str] = set()
        """Roots, past and present, whose answer in `_trees` may not be the latest."""
        self._trees = _Forest()
        self._directory = _Directory()
        self._turns: dict[Fraction, set[str]] = {}
        """Roots by the time of their next turn; a root may stand at an earlier time as well."""

    def __repr__(self) -> str:
        return (
            f"<Registry of {_count(len(self._nodes), 'group')}, "
            f"{_count(len(self._home), 'charge station')} and "
            f"{_count(len(self._sessions), 'session')}>"
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

    def _plant(self, group: Group) -> _Node:
        if group.id in self._nodes:
            raise ConflictError(f"id must not be that of another group, got {group.id!r}")
        parent = None if group.parent is None else self._node(group.parent, "parent")
        node = self._nodes[group.id] = _Node(group, parent)
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
                f"{station.id!r} ({len(short)} of {_count(len(connectors), 'connector')})"
            )
        self._rebuild(node)
        if node.parent is not None:
            del node.parent.children[group_id]
        if parent is not None:
            parent.children[group_id] = node
        node.group, node.parent = group, parent
        if node.line is not None and group.rotation != old.rotation:
            node.line.turn = _turn_at(self._clock, group.rotation)
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
                f"{_count(len(node.stations), 'charge station')} and "
                f"{_count(len(node.children), 'child group')}: use move_charge_station or "
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

    def _walk(self) -> Iterator[_Node]:
        return _parents_first(node for node in self._nodes.values() if node.parent is None)

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
            If there is a charge station with this id, in this group or another.
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
        node.stations[id] = station
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
            If a connector with a session is not among the new ones.
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
                f"({_count(len(lost), 'such connector')})"
            )
        node.stations[station_id] = station
        self._rebuild(node)
        return station

    def move_charge_station(self, station_id: str, group_id: str) -> ChargeStation:
        """Move a charge station, with its sessions, to another group.

        Raises
        ------
        ConflictError
            If the maximum of a connector is below the other group's `minimum_connector_capacity`.
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
        self._rebuild(before)
        del before.stations[station_id]
        after.stations[station_id] = station
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
        started_at = self._clock if at is None else _time("at", at)
        session = Session(station, connector, maximum, weight, priority, started_at)
        self._begin(session)
        self._clock = max(self._clock, started_at)
        return session

    def _begin(self, session: Session) -> None:
        key = self._key(session.station, session.connector)
        if key in self._sessions:
            raise ConflictError(
                f"connector must be free, but {session.connector!r} of charge station "
                f"{session.station!r} has a session (use update_session, or stop_session first)"
            )
        self._sessions[key] = _Running(session, self._n_arrived)
        self._n_arrived += 1
        self._disturb(session.station)

    def update_session(
        self, station: str, connector: str, **changes: Unpack[SessionChanges]
    ) -> Session:
        """Change `maximum`, `weight` or `priority` of a session; what is not named stays.

        Raises
        ------
        UnknownIdError
            If there is no session at this connector, or no such connector.

        """
        key, running = self._running(station, connector)
        _refuse_unknown("update_session", changes, SessionChanges)
        session = replace(running.session, **changes)
        self._sessions[key] = running._replace(session=session)
        self._disturb(station)
        return session

    def stop_session(self, station: str, connector: str) -> None:
        """Stop the session at a connector, or raise `UnknownIdError`."""
        key, _ = self._running(station, connector)
        del self._sessions[key]
        self._disturb(station)

    def session(self, station: str, connector: str) -> Session:
        """Return the session at a connector, or raise `UnknownIdError`."""
        return self._running(station, connector)[1].session

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
            return _result({root.group.id: self._solve(root)}, _Directory())
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
        return _result(self._trees, self._directory)

    def _solve(self, root: _Node) -> _Answer:
        if root.tree is None:
            root.tree = _Tree(root)
        answer = root.tree.answer(self._sessions, self._clock)
        if root.tree.turning:
            self._turns.setdefault(root.tree.next_turn, set()).add(root.group.id)
        return answer

    def _disturb(self, station_id: str) -> None:
        """Note that sessions of a charge station changed."""
        root = self._home[station_id].root
        if root.tree is not None:
            root.tree.forget()
        self._pending.add(root.group.id)

    def _rebuild(self, node: _Node) -> None:
        """Note that what the node's tree holds changes, or did."""
        root = node.root
        root.tree = None
        self._pending.add(root.group.id)
        self._directory = _Directory()

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

        def line(node: _Node) -> dict[str, Any] | None:
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
                node.line = registry._read_line(place, line)
        return registry

    def _read_line(self, place: str, line: object) -> _Line:
        record = _record(place, line, _names(_Line))
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
        return _Line(turn, numbers["order"], set(numbers["served"]))

    # Looking up

    def _node(self, group_id: str, name: str = "group_id") -> _Node:
        _validate.identifier(name, group_id)
        if group_id not in self._nodes:
            raise UnknownIdError(f"{name} must be the id of a group, got {group_id!r}")
        return self._nodes[group_id]

    def _charge_station(self, station_id: str, name: str) -> ChargeStation:
        _validate.identifier(name, station_id)
        if station_id not in self._home:
            raise UnknownIdError(f"{name} must be the id of a charge station, got {station_id!r}")
        return self._home[station_id].stations[station_id]

    def _key(self, station: str, connector: str) -> Key:
        connectors = self._charge_station(station, "station").connectors
        _validate.identifier("connector", connector)
        if all(plug.id != connector for plug in connectors):
            raise UnknownIdError(
                f"connector must be the id of a connector of charge station {station!r} "
                f"({', '.join(repr(plug.id) for plug in connectors)}), got {connector!r}"
            )
        return station, connector

    def _running(self, station: str, connector: str) -> tuple[Key, _Running]:
        key = self._key(station, connector)
        if key not in self._sessions:
            raise UnknownIdError(
                f"connector must have a session, but {connector!r} of charge station {station!r} "
                "has none"
            )
        return key, self._sessions[key]

    def _running_at(self, station: ChargeStation) -> list[Key]:
        keys = ((station.id, connector.id) for connector in station.connectors)
        return [key for key in keys if key in self._sessions]


def _result(trees: Mapping[str, _Answer], directory: _Directory) -> RegistryAllocation:
    return RegistryAllocation(_Connectors(trees, directory), _Groups(trees, directory))


def _turn_at(time: float, rotation: float) -> int:
    return Fraction(time) // Fraction(rotation)


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
