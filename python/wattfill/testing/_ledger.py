"""What is committed below each group, line by line of a log."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import count

from wattfill.testing._log import MOST_KW, POWER, Line, exact, nearest
from wattfill.testing._verdict import (
    MOST_DETAILED,
    QUANTA_PER_KW,
    Above,
    Breach,
    Commitment,
    Message,
    Verdict,
    Violation,
    as_kw,
    as_seconds,
    quanta_of,
    usable_quanta,
)


@dataclass(slots=True)
class _Value:
    """A limit that may be in force until some time."""

    quanta: int
    until: Fraction | float
    message: Message | None
    noted_at: Fraction | None = None
    """When it was confirmed or read back."""


@dataclass(slots=True, eq=False)
class _Group:
    id: str
    maximum_capacity: float = 0.0
    buffer: float = 0.0
    reserved: float = 0.0
    parent: _Group | None = None
    usable: int = 0
    committed: int = 0
    """Quanta: the sum over all connectors below."""
    floors: int = 0
    floors_fit: bool = True
    since: Fraction | None = None
    """Since when more is committed than usable; None where it is not."""
    most: int = 0
    least: int = 0
    """The lowest usable capacity since then."""
    why: str = ""

    def above(self) -> list[_Group]:
        """Return the group and all above it."""
        chain, group = [self], self.parent
        while group is not None:
            chain.append(group)
            group = group.parent
        return chain


@dataclass(slots=True, eq=False)
class _Connector:
    """What is known of a connector; powers are quanta."""

    station: str
    id: str
    group: _Group
    maximum: int
    floor: int
    ordered: bool
    """Whether the station drops what is older than the newest that it received."""
    confirmed: _Value | None = None
    """Also what was read back; None as long as nothing is known."""
    confirmed_seq: int = -1
    outstanding: dict[int, _Value] = field(default_factory=dict)
    sent: dict[int, Message] = field(default_factory=dict)
    timed_out: set[int] = field(default_factory=set)
    rejected: set[int] = field(default_factory=set)
    limit: int = 0
    """The largest limit that may be in force."""
    cause: _Value | None = None
    """What that limit is."""
    settling: list[tuple[_Value, Fraction]] = field(default_factory=list)
    """Limits that are over, which the draw may not have followed, and since when they are."""
    committed: int = 0
    """The largest of all these."""
    course: list[tuple[Fraction, int]] = field(default_factory=list)
    """What was committed, from when on."""

    def in_force(self, at: Fraction) -> Iterator[tuple[str, _Value]]:
        """Yield what may be in force, each with the word for it; who is to blame less first."""
        yield "floor", _Value(self.floor, math.inf, None)
        if self.confirmed is None:
            yield "unknown", _Value(self.maximum, math.inf, None)
        elif at < self.confirmed.until:
            yield "confirmed", self.confirmed
        for value in self.outstanding.values():
            if at < value.until:
                yield "sent", value

    def clipped(self, value: _Value) -> int:
        """Return what a connector can draw by a limit: at most its maximum."""
        return min(value.quanta, self.maximum)

    def largest(self, at: Fraction, *kinds: str) -> tuple[str, _Value]:
        """Return the first of the largest limits, of these kinds, that may be in force."""
        found = (item for item in self.in_force(at) if not kinds or item[0] in kinds)
        return max(found, key=lambda item: self.clipped(item[1]))

    def proven(self, at: Fraction) -> int:
        """Return what it may draw if every unconfirmed message is lost."""
        _, value = self.largest(at, "floor", "unknown", "confirmed")
        return max([self.clipped(value), *(self.clipped(old) for old, _ in self.settling)])

    def committed_within(self, start: Fraction, end: Fraction) -> int:
        """Return the most that was committed at any time in start..end, ends included."""
        most = 0
        for since, committed in reversed(self.course):
            if since <= end:
                most = max(most, committed)
            if since < start:
                return most
        # Before the log speaks of it, nothing is known of it.
        return max(most, self.maximum) if start < self.course[0][0] else most

    def commitment(self, at: Fraction, *kinds: str) -> Commitment:
        """Return what it counts with, of these kinds or of all, and why."""
        kind, value = self.largest(at, *kinds)
        if not kinds and self.committed > self.limit:
            kind = "settling"
            value = max((old for old, _ in self.settling), key=self.clipped)
        return Commitment(
            self.station,
            self.id,
            self.clipped(value) / QUANTA_PER_KW,
            kind,
            value.message,
            self._because(kind, value),
        )

    def _because(self, kind: str, value: _Value) -> str:
        if kind == "floor":
            return "its floor, which it may apply on its own"
        if kind == "unknown":
            return "its maximum, as nothing is known of it"
        m = value.message
        what = "" if m is None else f"seq {m.seq} ({as_kw(value.quanta)} kW)"
        if kind == "settling":
            return f"{what or 'what it had'} is over, but the draw may not have fallen yet"
        if kind == "sent":
            assert m is not None
            if m.seq <= self.confirmed_seq:
                return f"{what}, sent at {as_seconds(m.sent_at)} s, may arrive again: no order"
            return f"{what}, sent at {as_seconds(m.sent_at)} s, may be in force{self._newer(m.seq)}"
        assert value.noted_at is not None
        word = f"{what} confirmed" if m is not None else "read back"
        seq = self.confirmed_seq if m is None else m.seq
        return f"{word} at {as_seconds(value.noted_at)} s{self._newer(seq)}"

    def _newer(self, seq: int) -> str:
        """Say what became of the newest command, if it is newer than this."""
        newest = max(self.sent, default=seq)
        if newest <= seq:
            return ""
        what = f"seq {newest} ({as_kw(quanta_of(self.sent[newest].limit))} kW)"
        if newest in self.rejected:
            return f"; {what} was rejected"
        if newest in self.timed_out:
            return f"; {what} timed out, which proves nothing"
        return f"; {what} is not confirmed" if newest in self.outstanding else ""


class Ledger:
    """Takes a log line by line and keeps the sum of what is committed below each group."""

    def __init__(self, skew: Fraction, lag: Fraction) -> None:
        self.skew, self.lag = skew, lag
        self.groups: dict[str, _Group] = {}
        self.connectors: dict[tuple[str, str], _Connector] = {}
        """By the ids of the station and of the connector."""
        self.wakes: list[tuple[Fraction | float, int, _Connector]] = []
        """When a lease ends or a draw has settled."""
        self.n_wakes = count()
        self.now = Fraction(0)
        self.n_lines = 0
        self.first_at: Fraction | None = None
        self.last_at: Fraction | None = None
        self.last_line = 0
        self.violations: list[Violation] = []
        self.breaches: list[Breach] = []
        self.above: list[Above] = []

    def take(self, line: Line) -> None:
        """Count one line in: what ends before it first."""
        if self.last_at is not None and line.at < self.last_at:
            line.refuse(
                f"at must not go backwards, got {as_seconds(line.at)} after "
                f"{as_seconds(self.last_at)} in line {self.last_line}"
            )
        self.first_at = line.at if self.first_at is None else self.first_at
        self.last_at, self.last_line = line.at, line.number
        self.n_lines += 1
        while self.wakes and self.wakes[0][0] <= line.at:
            at, _, connector = heapq.heappop(self.wakes)
            self.now = Fraction(at)
            if self.connectors.get((connector.station, connector.id)) is connector:
                self._recount(connector, self.now, "station")
        self.now = line.at
        getattr(self, "_" + line.kind.replace("-", "_"))(line)

    def verdict(self) -> Verdict:
        """Return what was found up to here."""
        still = [_above(group, None) for group in self.groups.values() if group.since is not None]
        return Verdict(
            tuple(self.violations),
            tuple(self.breaches),
            tuple(sorted([*self.above, *still], key=lambda above: above.since)),
            self.n_lines,
            None if self.first_at is None else float(self.first_at),
            None if self.last_at is None else float(self.last_at),
            float(self.skew),
            float(self.lag),
        )

    # Groups and connectors

    def _group(self, line: Line) -> None:
        id = line.id("group")
        group = self.groups.get(id)
        if group is None and "maximum_capacity" not in line:
            line.refuse(f"the first line of group {id!r} must have the key 'maximum_capacity'")
        numbers = {
            key: line.number_in(key, rule, 0.0, most)
            for key, rule, most in (
                ("maximum_capacity", POWER, MOST_KW),
                ("buffer", "a number within 0..1", 1.0),
                ("reserved", POWER, MOST_KW),
            )
            if key in line
        }
        # Null says that there is none, also of a group that had one.
        parent = self._known_group(line, "parent") if "parent" in line else None
        if parent is not None and id in (above.id for above in parent.above()):
            line.refuse_value("parent", "neither the group itself nor below it")
        if group is None:
            group = self.groups[id] = _Group(id)
        for key, number in numbers.items():
            setattr(group, key, number)
        before = group.above()
        if "parent" in line.values:
            group.parent = parent
        self._move(before, group.above(), group.committed, group.floors, line.at)
        group.usable = usable_quanta(group.maximum_capacity, group.buffer, group.reserved)
        self._watch(group, line.at, "capacity")
        self._judge_floors(group.above(), line)

    def _connector(self, line: Line) -> None:
        key = line.id("station"), line.id("connector")
        old = self.connectors.get(key)
        if old is None:
            for needed in ("group", "maximum_capacity"):
                if needed not in line:
                    line.refuse(
                        f"the first line of connector {key[1]!r} of charge station {key[0]!r} must "
                        f"have the key {needed!r}"
                    )
        powers = {
            name: quanta_of(line.power(name))
            for name in ("maximum_capacity", "floor")
            if name in line
        }
        maximum = powers.get("maximum_capacity", old.maximum if old else 0)
        # Of a station that says nothing about itself, everything is possible up to its maximum.
        floor = powers.get("floor", old.floor if old else maximum)
        if floor > maximum:
            line.refuse(
                f"floor must be at most maximum_capacity, got {as_kw(floor)} > {as_kw(maximum)}"
            )
        ordered = line.values.get("ordered")
        if not isinstance(ordered, bool | None):
            line.refuse_value("ordered", "true or false")
        group = self._known_group(line, "group") if "group" in line else None
        if old is None:
            assert group is not None
            connector = _Connector(*key, group, maximum, floor, ordered is not False)
            self.connectors[key] = connector
            self._move([], group.above(), 0, floor, line.at)
        else:
            connector = old
            before, connector.group = connector.group.above(), group or connector.group
            self._move(
                before, connector.group.above(), connector.committed, connector.floor, line.at
            )
            for above in connector.group.above():
                above.floors += floor - connector.floor
            connector.maximum, connector.floor = maximum, floor
            connector.ordered = connector.ordered if ordered is None else ordered
        self._recount(connector, line.at, "configuration")
        self._judge_floors(connector.group.above(), line)

    def _leave(self, line: Line) -> None:
        connector = self._known(line)
        del self.connectors[connector.station, connector.id]
        groups = connector.group.above()
        self._move(groups, [], connector.committed, connector.floor, line.at)
        self._judge_floors(groups, line)

    # Messages

    def _command(self, line: Line) -> None:
        connector, seq, limit = self._known(line), line.seq(), line.power("limit")
        expires = line.time("expires") if "expires" in line else None
        message = Message(connector.station, connector.id, seq, limit, float(line.at), expires)
        first = connector.sent.setdefault(seq, message)
        if (first.limit, first.expires) != (limit, expires):
            line.refuse(f"seq must be new, or repeat its command, got {seq}, which was {first}")
        connector.timed_out.discard(seq)
        connector.rejected.discard(seq)
        if connector.ordered and seq <= connector.confirmed_seq:
            return  # The station drops what is older than the newest that it received.
        until = self._until(first)
        connector.outstanding[seq] = _Value(quanta_of(limit), until, first)
        self._wake(connector, until)
        if self._recount(connector, line.at, "raise") > 0:
            self._judge_raise(connector, first, line)

    def _confirmation(self, line: Line) -> None:
        connector = self._known(line)
        message = self._known_command(line, connector)
        if message.seq > connector.confirmed_seq:
            value = _Value(quanta_of(message.limit), self._until(message), message, line.at)
            self._confirm(connector, message.seq, value)

    def _read_back(self, line: Line) -> None:
        connector, limit = self._known(line), line.power("limit")
        message = self._known_command(line, connector) if "seq" in line else None
        seq = connector.confirmed_seq if message is None else message.seq
        if seq < connector.confirmed_seq:
            return  # It was overtaken.
        quanta, until = quanta_of(limit), self._until(message)
        most = connector.committed_within(line.at, line.at)
        if message is not None:
            # The answer may be late, and the lease of what it tells have ended on its way.
            most = max(most, quanta_of(message.limit))
        if quanta > most:
            self._breach(connector, "limit", line, most)
        elif message is None:
            # Without a number it may be older than what is known.
            if connector.confirmed is not None:
                return
        elif quanta <= connector.floor or quanta == quanta_of(message.limit):
            # At its floor a station may have fallen back, and go on with its limit at any time.
            self._confirm(connector, seq, _Value(quanta_of(message.limit), until, message, line.at))
            return
        self._confirm(connector, seq, _Value(quanta, until, None, line.at))

    def _confirm(self, connector: _Connector, seq: int, value: _Value) -> None:
        """Take a limit for the one in force, and all up to its number for dead."""
        assert value.noted_at is not None
        connector.confirmed, connector.confirmed_seq = value, seq
        if connector.ordered:
            for dead in [old for old in connector.outstanding if old <= seq]:
                del connector.outstanding[dead]
        self._recount(connector, value.noted_at, "station")

    def _rejection(self, line: Line) -> None:
        connector = self._known(line)
        seq = self._known_command(line, connector).seq
        if connector.outstanding.pop(seq, None) is not None:
            connector.rejected.add(seq)
            self._recount(connector, line.at, "station")

    def _meter(self, line: Line) -> None:
        connector, power = self._known(line), quanta_of(line.power("power"))
        start = end = line.at
        if "measured_at" in line:
            measured_at = exact(line.time("measured_at"))
            start, end = measured_at - self.skew, measured_at + self.skew
        most = connector.committed_within(start, end)
        if power > most:
            self._breach(connector, "power", line, most)
        elif power <= connector.limit:
            # The draw has come down to the limit, so what was over before then has settled.
            connector.settling = [item for item in connector.settling if item[1] >= start]
            self._recount(connector, line.at, "station")

    # What proves nothing

    def _timeout(self, line: Line) -> None:
        connector = self._known(line)
        connector.timed_out.add(self._known_command(line, connector).seq)

    def _offline(self, line: Line) -> None:
        station = line.id("station")
        if all(key[0] != station for key in self.connectors):
            line.refuse_value("station", "a charge station that has a line of kind connector")

    _online = _boot = _offline

    # Looking up

    def _known_group(self, line: Line, key: str) -> _Group:
        id = line.id(key)
        if id not in self.groups:
            line.refuse_value(key, f"a group that has a line before{nearest(id, self.groups)}")
        return self.groups[id]

    def _known(self, line: Line) -> _Connector:
        key = line.id("station"), line.id("connector")
        if key not in self.connectors:
            line.refuse(
                "station and connector must be those of a line of kind connector before, got "
                f"{key[0]!r}, {key[1]!r}"
            )
        return self.connectors[key]

    def _known_command(self, line: Line, connector: _Connector) -> Message:
        seq = line.seq()
        if seq not in connector.sent:
            line.refuse_value("seq", "that of a command before (write the log, then send)")
        return connector.sent[seq]

    # Sums

    def _until(self, message: Message | None) -> Fraction | float:
        """Return when a message is over: with its lease, by the slowest clock."""
        if message is None or message.expires is None:
            return math.inf
        return exact(message.expires) + self.skew

    def _wake(self, connector: _Connector, at: Fraction | float) -> None:
        # What is over already must not be counted as of then.
        if self.now < at < math.inf:
            heapq.heappush(self.wakes, (at, next(self.n_wakes), connector))

    def _recount(self, connector: _Connector, at: Fraction, why: str) -> int:
        """Count a connector anew; return by how many quanta its commitment rose."""
        _, value = connector.largest(at)
        limit = connector.clipped(value)
        if limit < connector.limit and self.lag and connector.cause is not None:
            connector.settling.append((connector.cause, at))
            self._wake(connector, at + self.lag)
        connector.limit, connector.cause = limit, value
        connector.settling = [
            (old, over)
            for old, over in connector.settling
            if at < over + self.lag and limit < connector.clipped(old)
        ]
        committed = max([limit, *(connector.clipped(old) for old, _ in connector.settling)])
        rise = committed - connector.committed
        if rise or not connector.course:
            connector.committed = committed
            connector.course.append((at, committed))
            for group in connector.group.above():
                self._shift(group, rise, at, why)
        return rise

    def _move(
        self,
        before: list[_Group],
        after: list[_Group],
        committed: int,
        floors: int,
        at: Fraction,
    ) -> None:
        """Take something out of the groups before and into the groups after."""
        for groups, others, sign in ((before, after, -1), (after, before, 1)):
            for group in groups:
                if group not in others:
                    group.floors += sign * floors
                    self._shift(group, sign * committed, at, "configuration")

    def _shift(self, group: _Group, committed: int, at: Fraction, why: str) -> None:
        group.committed += committed
        self._watch(group, at, why)

    def _watch(self, group: _Group, at: Fraction, why: str) -> None:
        """Note when more comes to be committed than usable, and when no longer."""
        if group.committed > group.usable:
            if group.since is None:
                group.since, group.why = at, why
                group.most, group.least = group.committed, group.usable
            group.most = max(group.most, group.committed)
            group.least = min(group.least, group.usable)
        elif group.since is not None:
            # What a site is written down with comes line by line, which is nothing to tell.
            if group.since < at or group.why != "configuration":
                self.above.append(_above(group, at))
            group.since = None

    def _judge_floors(self, groups: Iterable[_Group], line: Line) -> None:
        for group in groups:
            fit = group.floors <= group.usable
            if group.floors_fit and not fit:
                self._violate(group, line, "floors", group.floors, (), "floor")
            group.floors_fit = fit

    def _judge_raise(self, raised: _Connector, message: Message, line: Line) -> None:
        for group in raised.group.above():
            if group.committed <= group.usable:
                continue
            if len(self.violations) >= MOST_DETAILED:
                self._violate(group, line, "raise", group.committed, (message,))
                continue
            # The raise, and the largest of the other messages until it is too much.
            below = self._below(group)
            proven = {id(c): c.proven(line.at) for c in below}
            total = sum(proven.values()) + raised.committed - proven[id(raised)]
            messages = [message]
            others = (c for c in below if c is not raised)
            for c in sorted(others, key=lambda c: proven[id(c)] - c.committed):
                if total > group.usable:
                    break
                total += c.committed - proven[id(c)]
                sent = c.largest(line.at)[1].message
                assert sent is not None
                messages.append(sent)
            self._violate(group, line, "raise", group.committed, tuple(messages))

    def _violate(
        self,
        group: _Group,
        line: Line,
        rule: str,
        committed: int,
        messages: tuple[Message, ...],
        *kinds: str,
    ) -> None:
        below = self._below(group) if len(self.violations) < MOST_DETAILED else []
        found = [c.commitment(line.at, *kinds) for c in below]
        found = [c for c in found if c.committed > 0.0]
        found.sort(key=lambda c: -c.committed)
        self.violations.append(
            Violation(
                float(line.at),
                group.id,
                rule,
                committed / QUANTA_PER_KW,
                group.usable / QUANTA_PER_KW,
                line.number,
                messages,
                tuple(found),
            )
        )

    def _breach(self, connector: _Connector, key: str, line: Line, committed: int) -> None:
        self.breaches.append(
            Breach(
                float(line.at),
                connector.station,
                connector.id,
                float(line.values[key]),
                committed / QUANTA_PER_KW,
                line.number,
            )
        )

    def _below(self, group: _Group) -> list[_Connector]:
        return [c for c in self.connectors.values() if group in c.group.above()]


def _above(group: _Group, until: Fraction | None) -> Above:
    assert group.since is not None
    return Above(
        group.id,
        float(group.since),
        None if until is None else float(until),
        group.most / QUANTA_PER_KW,
        group.least / QUANTA_PER_KW,
        group.why,
    )
