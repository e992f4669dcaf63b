"""Trees of groups: how the kernel reads them, who is admitted first, what is solved again."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

from wattfill._demand import Answer, Demand
from wattfill._records import (
    QUANTA_PER_KW,
    ChargeStation,
    Group,
    Key,
    Session,
    effective_minimum,
)
from wattfill.allocation import allocate

MOST_TURNS = 10_000


class Terms(NamedTuple):
    """What a dispatcher knows of a connector, in kW."""

    fallback: float
    """What it costs whether or not it has a session: it may draw this on its own."""
    kept: float | None = None
    """What it may draw while it cannot be told; None where it can."""
    ceiling: float | None = None
    """More than its session makes use of; None where that is not known."""


class Running(NamedTuple):
    """A session, and when it came to the registry."""

    session: Session
    arrival: tuple[float, int]
    """When it started, and its number: those that came to the registry later have larger ones."""

    @property
    def number(self) -> int:
        return self.arrival[1]


@dataclass(slots=True)
class Line:
    """Who takes turns in a group, by the numbers of the sessions."""

    rotation: Fraction
    """Seconds in a turn."""
    turn: int
    """Whole rotations from time 0 to the start of this turn."""
    order: list[int] = field(default_factory=list)
    """The front of the line first."""
    served: set[int] = field(default_factory=set)
    """Who was admitted during this turn."""

    def set_rotation(self, rotation: float, now: float) -> None:
        """Let the turn be the one of these seconds that it is now."""
        self.rotation = Fraction(rotation)
        self.turn = Fraction(now) // self.rotation

    @property
    def next_turn(self) -> Fraction:
        """When this turn ends."""
        return (self.turn + 1) * self.rotation

    def turn_over(self) -> bool:
        """Send those who were served to the end of the line; say whether that changed it."""
        before = self.order
        self.order = sorted(before, key=self.served.__contains__)
        self.served = set()
        self.turn += 1
        return self.order != before


@dataclass(slots=True, eq=False)
class Node:
    """A group as it stands: what it is, what feeds it, and what it holds."""

    group: Group
    parent: Node | None = None
    children: dict[str, Node] = field(default_factory=dict)
    stations: dict[str, ChargeStation] = field(default_factory=dict)
    line: Line | None = None
    tree: Tree | None = None
    """Of a root, what is known of the groups below it; None once they are not what they were."""
    fallback: int = 0
    """Quanta that its own connectors may draw on their own."""

    def upwards(self) -> Iterator[Node]:
        """Walk from the group up to its root."""
        node: Node | None = self
        while node is not None:
            yield node
            node = node.parent

    def fallback_below(self) -> int:
        """Return the quanta that connectors in the group and below it may draw on their own."""
        return sum(node.fallback for node in parents_first([self]))

    @property
    def root(self) -> Node:
        node = self
        while node.parent is not None:
            node = node.parent
        return node

    @property
    def order(self) -> tuple[str, float]:
        """What the group's policy comes to: equal ones put the same sessions into the same line."""
        return self.group.policy, self.group.rotation if self.group.policy == "rotate" else 0.0

    @property
    def orders_anew(self) -> bool:
        """Whether its sessions stand in another order than its parent's policy gives them."""
        return self.parent is None or self.order != self.parent.order


def parents_first(nodes: Iterable[Node]) -> Iterator[Node]:
    """Walk down from the nodes, siblings by id; those below a group follow right behind it."""

    def last_first(siblings: Iterable[Node]) -> list[Node]:
        return sorted(siblings, key=lambda node: node.group.id, reverse=True)

    waiting = last_first(nodes)
    while waiting:
        node = waiting.pop()
        yield node
        waiting += last_first(node.children.values())


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """A tree as the kernel reads it: groups, parents first, and their connectors, by place.

    It never changes: answers refer to it.
    """

    groups: list[str]
    parent: list[int]
    after: list[int]
    """(n_groups,) Behind the last group below each: what is below stands together."""
    offsets: list[int]
    keys: list[Key]
    owner: list[int]
    """(n_connectors,) The group that each is in."""
    minimum: list[float]
    maximum: list[float]
    place: dict[Key, int]
    """Of a connector."""
    index: dict[str, int]
    """Of a group."""

    def below(self, g: int) -> range:
        """Return the connectors of group g and of all groups below it."""
        return range(self.offsets[g], self.offsets[self.after[g]])


def _lay_out(nodes: list[Node]) -> Layout:
    index = {node.group.id: g for g, node in enumerate(nodes)}
    parent = [-1, *(index[node.parent.group.id] for node in nodes[1:] if node.parent)]
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
                minimum.append(effective_minimum(node.group, connector))
                maximum.append(connector.maximum_capacity)
        offsets.append(len(keys))
    return Layout(
        groups=list(index),
        parent=parent,
        after=after,
        offsets=offsets,
        keys=keys,
        owner=owner,
        minimum=minimum,
        maximum=maximum,
        place={key: i for i, key in enumerate(keys)},
        index=index,
    )


def usable_quanta(group: Group) -> int:
    """Return the usable capacity of a group as the kernel counts it."""
    empty = allocate(
        (), (), (group.maximum_capacity,), (0, 0), buffer=group.buffer, reserved=group.reserved
    )
    return round(float(empty.usable[0]) * QUANTA_PER_KW)


class Tree:
    """The groups below one root, their sessions, and the last answer.

    It lasts while groups and charge stations stay where they are. Meanwhile an event writes what it
    changes and no more, and the next answer starts from there.
    """

    def __init__(
        self,
        root: Node,
        sessions: Mapping[Key, Running],
        terms: Mapping[Key, Terms],
        now: float,
    ) -> None:
        self.nodes = list(parents_first([root]))
        self.layout = _lay_out(self.nodes)
        self.ordering = [g for g, node in enumerate(self.nodes) if node.orders_anew]
        self.lines = self._lines(now)
        self.next_turn = self._next_turn()
        """When a turn begins in some group of the tree; never where none takes turns."""
        # Everybody stands in the order of arrival: there is no other policy in the tree.
        self.by_arrival = self.ordering == [0] and root.group.policy == "fifo"
        self.latest: Answer | None = None
        self.demand = Demand(self.layout, QUANTA_PER_KW)
        self.running: dict[int, Running] = {}
        """By the place of the connector."""
        self.ranked = True
        """Whether the demand has the ranks of the admission order."""
        self.last_start = -math.inf
        for node in self.nodes:
            self.update_group(node.group)
        for key in self.layout.keys if terms else ():
            if key in terms:
                self.keep(key, terms[key])
        here = ((sessions[key], key) for key in self.layout.keys if key in sessions)
        for running, key in sorted(here, key=lambda each: each[0].number):
            self.start(key, running)

    def update_group(self, group: Group) -> None:
        """Note what a group may draw."""
        self.demand.set_group(
            self.layout.index[group.id], group.maximum_capacity, group.buffer, group.reserved
        )
        self.latest = None

    def keep(self, key: Key, terms: Terms) -> None:
        """Note what a dispatcher knows of a connector."""
        self.demand.keep(self.layout.place[key], *terms)
        self.latest = None

    def start(self, key: Key, running: Running) -> None:
        """Note that a session came: the last of all so far."""
        session, (started_at, number) = running
        i = self.layout.place[key]
        self.running[i] = running
        # Where those who came later started later, their numbers rank them.
        self.ranked = self.ranked and self.by_arrival and started_at >= self.last_start
        if started_at > self.last_start:
            self.last_start = started_at
        self.demand.start(i, session.maximum, session.weight, session.priority, number)
        self.latest = None

    def update(self, key: Key, running: Running) -> None:
        """Note that a session asks for something else."""
        session = running.session
        i = self.layout.place[key]
        self.running[i] = running
        self.demand.update(i, session.maximum, session.weight, session.priority)
        self.latest = None

    def stop(self, key: Key) -> None:
        """Note that a session left."""
        i = self.layout.place[key]
        del self.running[i]
        # A group that orders its sessions anew has one place less for them.
        self.ranked = self.ranked and len(self.ordering) == 1
        self.demand.stop(i)
        self.latest = None

    def answer(self, now: float) -> Answer:
        """Return what holds at `now`; solve what is not known yet."""
        if self.lines:
            if self.latest is None:
                self._keep_lines()
            if self.next_turn <= now:
                self._replay_turns(Fraction(now))
        return self.latest or self._solve()

    def _lines(self, now: float) -> list[tuple[Line, range]]:
        """Return the line of every group that takes turns, and the connectors below it."""
        lines = []
        for g, node in enumerate(self.nodes):
            if not node.orders_anew or node.group.policy != "rotate":
                node.line = None
                continue
            if node.line is None:
                rotation = Fraction(node.group.rotation)
                node.line = Line(rotation, Fraction(now) // rotation)
            lines.append((node.line, self.layout.below(g)))
        return lines

    def _next_turn(self) -> Fraction | float:
        # A fraction is exact, so that turns of several lengths stay in step.
        return min((line.next_turn for line, _ in self.lines), default=math.inf)

    def _keep_lines(self) -> None:
        """Let those who left out of the lines, and those who came in at the end."""
        for line, below in self.lines:
            here = {who.number: who for i, who in self.running.items() if i in below}
            stayed = [number for number in line.order if number in here]
            came = here.keys() - set(stayed)
            line.order = stayed + sorted(came, key=lambda number: here[number].arrival)
            line.served &= here.keys()

    def _replay_turns(self, now: Fraction) -> None:
        """Let the turns that have ended by `now` end, one after another.

        Who was served in the first of them is known; who is in the others is solved for. The lines
        alone decide what comes next, so once they are as they were, rounds can be left out: lines
        are compared with those after 1, 2, 4, 8, ... turns (Brent: An improved Monte Carlo
        factorization algorithm, BIT 20, 1980, section 2). Lines that have not come round after
        MOST_TURNS stay as they are.
        """
        known: list[object] | None = None
        known_at, remember = now, 1
        lines = [line for line, _ in self.lines]
        for turn in range(1, MOST_TURNS + 1):
            due = min(line.next_turn for line in lines)
            if due > now:
                break
            for line in lines:
                if line.next_turn == due and line.turn_over():
                    self.ranked, self.latest = False, None
            state: list[object] = [
                (line.order, frozenset(line.served), line.next_turn - due) for line in lines
            ]
            if state == known:
                rounds = (now - due) // (due - known_at)
                for line in lines:
                    line.turn += int(rounds * (due - known_at) / line.rotation)
            elif turn == remember:
                known, known_at, remember = state, due, 2 * remember
            if self.latest is None:
                self._solve()
            else:
                self._note_served(self.latest)
        else:
            for line in lines:
                line.turn = now // line.rotation
        self.next_turn = self._next_turn()

    def _solve(self) -> Answer:
        answer = self.demand.solve()
        if answer.short and not self.ranked:
            # Somebody has to wait: only now it matters who comes first.
            self.demand.line_up(self._admission_order())
            self.ranked = True
            answer = self.demand.solve()
        self.latest = answer
        if self.lines:
            self._note_served(answer)
        return answer

    def _note_served(self, answer: Answer) -> None:
        paused = answer.paused()
        for line, below in self.lines:
            line.served.update(
                who.number for i, who in self.running.items() if i in below and i not in paused
            )

    def _admission_order(self) -> list[int]:
        """Return the places of the sessions, who is admitted first first.

        The root's policy orders all of them. Every group below that has another one orders its own
        anew, among the places in the line that they hold.
        """
        order = self._ordered(0, list(self.running))
        for g in self.ordering[1:]:
            below = self.layout.below(g)
            held = [at for at, i in enumerate(order) if i in below]
            anew = self._ordered(g, [order[at] for at in held])
            for at, i in zip(held, anew, strict=True):
                order[at] = i
        return order

    def _ordered(self, g: int, places: list[int]) -> list[int]:
        """Order these sessions by the policy of group g."""
        group, line = self.nodes[g].group, self.nodes[g].line
        if line is not None:
            spot = {number: at for at, number in enumerate(line.order)}
            return sorted(places, key=lambda i: spot[self.running[i].number])
        by_arrival = sorted(places, key=lambda i: self.running[i].arrival)
        if group.policy == "most":
            return sorted(by_arrival, key=self.layout.minimum.__getitem__)
        return by_arrival
