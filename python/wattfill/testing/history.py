"""Judge a log of the limits sent to stations by the most that these could have drawn.

A log has a line for each thing that the sender of limits knew, in the order in which it knew it:
groups and their capacities, connectors, commands, confirmations, read-backs, meter readings. Each
line is a JSON object, or a dict::

    {"at": 0, "kind": "group", "group": "P3", "maximum_capacity": 10}
    {"at": 0, "kind": "connector", "group": "P3", "station": "CS-1", "connector": 1,
     "maximum_capacity": 22, "floor": 0}
    {"at": 1, "kind": "command", "station": "CS-1", "connector": 1, "seq": 1, "limit": 10}
    {"at": 2, "kind": "confirmation", "station": "CS-1", "connector": 1, "seq": 1}

A connector is counted with what is *committed* there: the largest limit that may still be in force,
whatever became of each message. The sums are exact, in whole quanta of 1 mW, with powers and
usable capacities taken as `wattfill.allocate` takes them, so that what adds up in decimals adds up
here. ``docs/histories.md`` describes every kind of line.
"""

from __future__ import annotations

import heapq
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from difflib import get_close_matches
from fractions import Fraction
from itertools import count
from reprlib import repr as shown
from typing import Any, NoReturn, TypeAlias

from wattfill.errors import InputError, InputTypeError
from wattfill.testing.problem import Problem

Log: TypeAlias = "str | os.PathLike[str] | Iterable[Mapping[str, Any] | str | bytes]"
Key: TypeAlias = tuple[str, str]
"""(station id, connector id)"""

QUANTA_PER_KW = 10**6
# No site has a terawatt; who gets there has written watts, or milliwatts.
MOST_KW = 1e9
_POWER = "a number within 0..1e9 (kW)"
# Rows of a table, and violations with a table, before the rest is only counted.
MOST_ROWS = 12
MOST_TABLES = 3

# Keys that a line of each kind must have beside `at` and `kind`, and those that it may have.
KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "group": (("group",), ("maximum_capacity", "buffer", "reserved", "parent")),
    "connector": (("station", "connector"), ("group", "maximum_capacity", "floor", "ordered")),
    "leave": (("station", "connector"), ()),
    "command": (("station", "connector", "seq", "limit"), ("expires",)),
    "confirmation": (("station", "connector", "seq"), ()),
    "rejection": (("station", "connector", "seq"), ()),
    "read-back": (("station", "connector", "limit"), ("seq",)),
    "meter": (("station", "connector", "power"), ("measured_at",)),
    "timeout": (("station", "connector", "seq"), ()),
    "offline": (("station",), ()),
    "online": (("station",), ()),
    "boot": (("station",), ()),
}
_WHY_ABOVE = {
    "raise": "by a raise",
    "capacity": "its capacity fell",
    "configuration": "connectors came or changed",
    "station": "a station said so",
}


@dataclass(frozen=True, slots=True)
class Message:
    """A command as it was sent."""

    station: str
    connector: str
    seq: int
    limit: float
    """kW"""
    sent_at: float
    """Seconds, as all times, on the clock of the log."""
    expires: float | None
    """When its lease ends; None where it holds until something newer comes."""

    def __str__(self) -> str:
        lease = "" if self.expires is None else f", expires at {_seconds(self.expires)} s"
        return (
            f"seq {self.seq} to {self.station} {self.connector} ({_kw(_quanta(self.limit))} kW, "
            f"sent at {_seconds(self.sent_at)} s{lease})"
        )


@dataclass(frozen=True, slots=True)
class Commitment:
    """What one connector counts with at an instant, and why."""

    station: str
    connector: str
    committed: float
    """kW"""
    why: str
    """"floor", "confirmed" (or read back), "sent" (not confirmed), "settling" (its draw may not yet
    have fallen to the limit) or "unknown" (its maximum)."""
    message: Message | None
    """The message that may be in force; None where it is the floor, the maximum or a read-back."""
    because: str
    """The same in words."""


@dataclass(frozen=True, slots=True)
class Violation:
    """An instant at which stations could have drawn more than a group may, by what was sent."""

    at: float
    group: str
    rule: str
    """"raise": a command raised the sum above the usable capacity. "floors": what the connectors
    can apply on their own does not fit, whatever is sent."""
    committed: float
    """kW that the connectors below the group could have drawn."""
    usable: float
    """kW that they may."""
    line: int
    """Of the log, from 1."""
    messages: tuple[Message, ...]
    """The raise, and as few others as it takes: with these in force, and every other message lost,
    the connectors could have drawn too much. None for "floors"."""
    commitments: tuple[Commitment, ...]
    """Of every connector below the group that counts with something, largest first."""

    def __str__(self) -> str:
        return "\n".join([*_headline(self), "", *_table(self.commitments)])


@dataclass(frozen=True, slots=True)
class Breach:
    """A station that does not keep to its limits: it was seen above what is committed there."""

    at: float
    station: str
    connector: str
    seen: float
    """kW: what it drew, or the limit that it said was in force."""
    committed: float
    """kW"""
    line: int
    """Of the log: a meter reading or a read-back."""

    def __str__(self) -> str:
        return (
            f"{self.station} {self.connector} was at {_kw(_quanta(self.seen))} kW at "
            f"{_seconds(self.at)} s, above the {_kw(_quanta(self.committed))} kW that may be in "
            f"force there (line {self.line})"
        )


@dataclass(frozen=True, slots=True)
class Above:
    """A time in which the connectors below a group could have drawn more than it may."""

    group: str
    since: float
    until: float | None
    """None where it had not ended when the log did."""
    most: float
    """kW that they could have drawn."""
    usable: float
    """kW: the lowest usable capacity in that time."""
    why: str
    """How it began: "raise" (there is a `Violation`), "capacity" (which fell), "configuration" (a
    connector came or moved, or its floor or its maximum rose) or "station" (a read-back, or the
    confirmation of a command that had been rejected)."""

    def __str__(self) -> str:
        until = "the end of the log" if self.until is None else f"{_seconds(self.until)} s"
        return (
            f"{self.group} from {_seconds(self.since)} s to {until}, at most "
            f"{_kw(_quanta(self.most))} kW of {_kw(_quanta(self.usable))} kW usable: "
            f"{_WHY_ABOVE[self.why]}"
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a log shows; ``str()`` is for people, `to_dict` for JSON."""

    violations: tuple[Violation, ...]
    """What the sender did wrong, in the order of the log."""
    breaches: tuple[Breach, ...]
    """What stations did wrong."""
    above: tuple[Above, ...]
    """When a sum of committed limits was above a usable capacity, whoever is to blame. After a
    capacity fell, or before the first word of a connector, that is nobody's fault."""
    n_lines: int
    first_at: float | None
    last_at: float | None
    skew: float
    lag: float

    @property
    def safe(self) -> bool:
        """Whether nothing that was sent, and no station, can have led above a usable capacity."""
        return not self.violations and not self.breaches

    def to_dict(self) -> dict[str, Any]:
        """Return all of it in what JSON knows, numbers in kW and seconds."""
        record = asdict(self)
        for name in ("violations", "breaches", "above"):
            record[name] = list(record[name])
        for violation in record["violations"]:
            violation["messages"] = list(violation["messages"])
            violation["commitments"] = list(violation["commitments"])
        return {"safe": self.safe, **record}

    def __str__(self) -> str:
        if self.first_at is None or self.last_at is None:
            return "Safe: the log is empty."
        span = (
            f"{_plural(self.n_lines, 'line')}, {_seconds(self.first_at)} s to "
            f"{_seconds(self.last_at)} s"
        )
        wrong = [
            _plural(len(found), word)
            for found, word in ((self.violations, "violation"), (self.breaches, "breach"))
            if found
        ]
        text = [
            f"Unsafe: {' and '.join(wrong)} in {span}."
            if wrong
            else f"Safe: in {span}, whatever became of each message."
        ]
        for violation in self.violations[:MOST_TABLES]:
            text += ["", str(violation)]
        if rest := self.violations[MOST_TABLES:]:
            text += ["", "And then:"]
            text += [f"  {_headline(violation)[0]}" for violation in rest[:MOST_ROWS]]
            text += [f"  and {len(rest) - MOST_ROWS} more"] * (len(rest) > MOST_ROWS)
        for title, found in (
            ("Stations that do not keep to their limits:", self.breaches),
            ("More committed than usable:", self.above),
        ):
            if found:
                text += ["", title, *(f"  {item}" for item in found[:MOST_ROWS])]
                text += [f"  and {len(found) - MOST_ROWS} more"] * (len(found) > MOST_ROWS)
        return "\n".join(text)


def check_history(log: Log, *, skew: float = 0.0, lag: float = 0.0) -> Verdict:
    """Say whether stations could have drawn more than they may at any instant, and by what.

    Parameters
    ----------
    log : path, open file, or iterable of dict or str
        The lines, each a dict or a JSON object. A string is the path of a file.
    skew : float
        Seconds by which the clock of a station may differ from that of the log. A lease counts
        until its expiry and `skew`, and a meter reading that has a time of its own is compared
        with what was committed up to `skew` before and after it.
    lag : float
        Seconds that a vehicle may take to follow a lower limit. A confirmation frees power when
        they have passed, or when a meter reading is at or below the limit.

    Returns
    -------
    Verdict
        ``safe`` if no command raised what is committed above a usable capacity, the floors always
        fitted, and no station was seen above what is committed. A sum that is above because the
        capacity fell is a violation only if something raises it meanwhile.

    Raises
    ------
    InputError
        If a line is malformed; the message names the line, the key, the value and the rule.
    InputTypeError
        If `log` is no such thing.

    Examples
    --------
    CS-1 has 10 kW. It is told to stop, does not answer, and its power is given to CS-2:

    >>> verdict = check_history([
    ...     {"at": 0, "kind": "group", "group": "P3", "maximum_capacity": 10},
    ...     {"at": 0, "kind": "connector", "group": "P3", "station": "CS-1", "connector": 1,
    ...      "maximum_capacity": 22, "floor": 0},
    ...     {"at": 0, "kind": "connector", "group": "P3", "station": "CS-2", "connector": 1,
    ...      "maximum_capacity": 22, "floor": 0},
    ...     {"at": 1, "kind": "read-back", "station": "CS-1", "connector": 1, "limit": 10},
    ...     {"at": 1, "kind": "read-back", "station": "CS-2", "connector": 1, "limit": 0},
    ...     {"at": 5, "kind": "command", "station": "CS-1", "connector": 1, "seq": 1, "limit": 0},
    ...     {"at": 35, "kind": "timeout", "station": "CS-1", "connector": 1, "seq": 1},
    ...     {"at": 36, "kind": "command", "station": "CS-2", "connector": 1, "seq": 1, "limit": 8},
    ... ])
    >>> verdict.safe
    False
    >>> print(verdict.violations[0])
    At 36 s the connectors below P3 could have drawn 18 kW of 10 kW usable (line 8).
    Enough for it, if all other messages were lost: seq 1 to CS-2 1 (8 kW, sent at 36 s).
    <BLANKLINE>
      station  connector  kW  why
      CS-1     1          10  read back at 1 s; seq 1 (0 kW) timed out, which proves nothing
      CS-2     1           8  seq 1 (8 kW), sent at 36 s, may be in force

    """
    ledger = _Ledger(_option("skew", skew), _option("lag", lag))
    with _lines(log) as lines:
        for line in lines:
            ledger.take(line)
    return ledger.verdict()


# Reading


class _Line:
    """One line of a log; what it refuses begins with its number."""

    def __init__(self, number: int, values: Mapping[str, Any]) -> None:
        self.number = number
        self.values = values
        kind = values.get("kind")
        if not isinstance(kind, str) or kind not in KINDS:
            near = _nearest(kind, KINDS) or f"; the kinds are {', '.join(KINDS)}"
            self.refuse(f"kind must be that of a line, got {self._shown('kind')}{near}")
        self.kind: str = kind
        needed, allowed = KINDS[kind]
        keys = ("at", "kind", *needed, *allowed)
        for key in values:
            if key not in keys:
                near = _nearest(key, keys) or f"; the keys are {', '.join(keys)}"
                self.refuse(f"a {kind} has no key {key!r}{near}")
        for key in ("at", *needed):
            if values.get(key) is None:
                self.refuse(f"a {kind} must have the key {key!r}")
        self.at = _exact(self.time("at"))

    def __contains__(self, key: str) -> bool:
        return self.values.get(key) is not None

    def refuse(self, sentence: str) -> NoReturn:
        raise InputError(f"line {self.number}: {sentence}")

    def refuse_value(self, key: str, rule: str) -> NoReturn:
        self.refuse(f"{key} must be {rule}, got {self._shown(key)}")

    def _shown(self, key: str) -> str:
        return shown(self.values[key]) if key in self.values else "none"

    def number_in(self, key: str, rule: str, least: float, most: float) -> float:
        """Return the finite number of this key, which must lie in least..most."""
        x = _finite(self.values[key])
        if x is None or not least <= x <= most:
            self.refuse_value(key, rule)
        return x

    def power(self, key: str) -> float:
        return self.number_in(key, _POWER, 0.0, MOST_KW)

    def time(self, key: str) -> float:
        return self.number_in(key, "a finite number", -math.inf, math.inf)

    def id(self, key: str) -> str:
        """Return an id: a string, or a whole number, which stands for its digits."""
        value = self.values[key]
        if not (type(value) is int or (isinstance(value, str) and value)):
            self.refuse_value(key, "a non-empty string or a whole number")
        return str(value)

    def seq(self) -> int:
        value = self.values["seq"]
        if type(value) is not int or value < 0:
            self.refuse_value("seq", "a whole number, at least 0")
        return value


class _Object(dict[str, Any]):
    """A JSON object that remembers a key that it has twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        keys = [key for key, _ in pairs]
        self.twice = next((key for key in keys if keys.count(key) > 1), None)


@contextmanager
def _lines(log: Log) -> Iterator[Iterator[_Line]]:
    """Open what has to be opened, and parse lines while it is open."""
    if isinstance(log, (str, os.PathLike)):
        with open(log, "rb") as file:
            yield _parsed(file)
    elif isinstance(log, (bytes, Mapping)) or not isinstance(log, Iterable):
        raise InputTypeError(
            f"log must be a path, an open file or an iterable of lines, got {type(log).__name__}"
        )
    else:
        yield _parsed(log)


def _parsed(lines: Iterable[Mapping[str, Any] | str | bytes]) -> Iterator[_Line]:
    for number, line in enumerate(lines, 1):
        values = line
        if isinstance(values, (bytes, bytearray)):
            try:
                values = values.decode("utf-8")
            except UnicodeDecodeError as error:
                raise InputError(f"line {number} is not UTF-8: {error.reason}") from None
        if isinstance(values, str):
            values = values.removeprefix("\ufeff") if number == 1 else values
            if not values.strip():
                continue
            values = _from_json(number, values)
        if not isinstance(values, Mapping):
            raise InputError(f"line {number} must be an object, got {shown(values)}")
        twice = getattr(values, "twice", None)
        if twice is not None:
            raise InputError(f"line {number}: the key {twice!r} is there twice")
        yield _Line(number, values)


def _from_json(number: int, text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_Object)
    except json.JSONDecodeError as error:
        raise InputError(
            f"line {number} is not JSON: {error.msg} at column {error.colno}"
        ) from None
    except RecursionError:
        raise InputError(f"line {number} is nested too deeply for a line of a log") from None
    except ValueError as error:
        # Python reads no whole number of thousands of digits.
        raise InputError(f"line {number} has a number that is too long: {error}") from None


def _finite(value: object) -> float | None:
    """Return a number as a float, None if it is none or not finite."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        x = float(value)
    except OverflowError:
        return None
    return x if math.isfinite(x) else None


def _option(name: str, value: float) -> Fraction:
    x = _finite(value)
    if x is None or x < 0.0:
        raise InputError(f"{name} must be a finite number, at least 0 (s), got {shown(value)}")
    return _exact(x)


def _nearest(word: object, words: Iterable[str]) -> str:
    near = get_close_matches(word, words, 1) if isinstance(word, str) else []
    return f"; did you mean {near[0]!r}?" if near else ""


# Counting


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
        what = "" if m is None else f"seq {m.seq} ({_kw(value.quanta)} kW)"
        if kind == "settling":
            return f"{what or 'what it had'} is over, but the draw may not have fallen yet"
        if kind == "sent":
            assert m is not None
            if m.seq <= self.confirmed_seq:
                return f"{what}, sent at {_seconds(m.sent_at)} s, may arrive again: no order"
            return f"{what}, sent at {_seconds(m.sent_at)} s, may be in force{self._newer(m.seq)}"
        assert value.noted_at is not None
        word = f"{what} confirmed" if m is not None else "read back"
        seq = self.confirmed_seq if m is None else m.seq
        return f"{word} at {_seconds(value.noted_at)} s{self._newer(seq)}"

    def _newer(self, seq: int) -> str:
        """Say what became of the newest command, if it is newer than this."""
        newest = max(self.sent, default=seq)
        if newest <= seq:
            return ""
        what = f"seq {newest} ({_kw(_quanta(self.sent[newest].limit))} kW)"
        if newest in self.rejected:
            return f"; {what} was rejected"
        if newest in self.timed_out:
            return f"; {what} timed out, which proves nothing"
        return f"; {what} is not confirmed" if newest in self.outstanding else ""


class _Ledger:
    """Takes a log line by line and keeps the sum of what is committed below each group."""

    def __init__(self, skew: Fraction, lag: Fraction) -> None:
        self.skew, self.lag = skew, lag
        self.groups: dict[str, _Group] = {}
        self.connectors: dict[Key, _Connector] = {}
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

    def take(self, line: _Line) -> None:
        """Count one line in: what ends before it first."""
        if self.last_at is not None and line.at < self.last_at:
            line.refuse(
                f"at must not go backwards, got {_seconds(line.at)} after {_seconds(self.last_at)} "
                f"in line {self.last_line}"
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

    def _group(self, line: _Line) -> None:
        id = line.id("group")
        group = self.groups.get(id)
        if group is None and "maximum_capacity" not in line:
            line.refuse(f"the first line of group {id!r} must have the key 'maximum_capacity'")
        numbers = {
            key: line.number_in(key, rule, 0.0, most)
            for key, rule, most in (
                ("maximum_capacity", _POWER, MOST_KW),
                ("buffer", "a number within 0..1", 1.0),
                ("reserved", _POWER, MOST_KW),
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
        group.usable = _usable(group.maximum_capacity, group.buffer, group.reserved)
        self._watch(group, line.at, "capacity")
        self._judge_floors(group.above(), line)

    def _connector(self, line: _Line) -> None:
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
            name: _quanta(line.power(name))
            for name in ("maximum_capacity", "floor")
            if name in line
        }
        maximum = powers.get("maximum_capacity", old.maximum if old else 0)
        # Of a station that says nothing about itself, everything is possible up to its maximum.
        floor = powers.get("floor", old.floor if old else maximum)
        if floor > maximum:
            line.refuse(
                f"floor must be at most maximum_capacity, got {_kw(floor)} > {_kw(maximum)}"
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

    def _leave(self, line: _Line) -> None:
        connector = self._known(line)
        del self.connectors[connector.station, connector.id]
        groups = connector.group.above()
        self._move(groups, [], connector.committed, connector.floor, line.at)
        self._judge_floors(groups, line)

    # Messages

    def _command(self, line: _Line) -> None:
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
        connector.outstanding[seq] = _Value(_quanta(limit), until, first)
        self._wake(connector, until)
        if self._recount(connector, line.at, "raise") > 0:
            self._judge_raise(connector, first, line)

    def _confirmation(self, line: _Line) -> None:
        connector = self._known(line)
        message = self._known_command(line, connector)
        if message.seq > connector.confirmed_seq:
            value = _Value(_quanta(message.limit), self._until(message), message, line.at)
            self._confirm(connector, message.seq, value)

    def _read_back(self, line: _Line) -> None:
        connector, limit = self._known(line), line.power("limit")
        message = self._known_command(line, connector) if "seq" in line else None
        seq = connector.confirmed_seq if message is None else message.seq
        if seq < connector.confirmed_seq:
            return  # It was overtaken.
        quanta, until = _quanta(limit), self._until(message)
        most = connector.committed_within(line.at, line.at)
        if quanta > most:
            self._breach(connector, "limit", line, most)
        elif message is None:
            # Without a number it may be older than what is known.
            if connector.confirmed is not None:
                return
        elif quanta <= connector.floor or quanta == _quanta(message.limit):
            # At its floor a station may have fallen back, and go on with its limit at any time.
            self._confirm(connector, seq, _Value(_quanta(message.limit), until, message, line.at))
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

    def _rejection(self, line: _Line) -> None:
        connector = self._known(line)
        seq = self._known_command(line, connector).seq
        if connector.outstanding.pop(seq, None) is not None:
            connector.rejected.add(seq)
            self._recount(connector, line.at, "station")

    def _meter(self, line: _Line) -> None:
        connector, power = self._known(line), _quanta(line.power("power"))
        start = end = line.at
        if "measured_at" in line:
            measured_at = _exact(line.time("measured_at"))
            start, end = measured_at - self.skew, measured_at + self.skew
        most = connector.committed_within(start, end)
        if power > most:
            self._breach(connector, "power", line, most)
        elif power <= connector.limit:
            # The draw has come down to the limit, so what was over before then has settled.
            connector.settling = [item for item in connector.settling if item[1] >= start]
            self._recount(connector, line.at, "station")

    # What proves nothing

    def _timeout(self, line: _Line) -> None:
        connector = self._known(line)
        connector.timed_out.add(self._known_command(line, connector).seq)

    def _offline(self, line: _Line) -> None:
        station = line.id("station")
        if all(key[0] != station for key in self.connectors):
            line.refuse_value("station", "a charge station that has a line of kind connector")

    _online = _boot = _offline

    # Looking up

    def _known_group(self, line: _Line, key: str) -> _Group:
        id = line.id(key)
        if id not in self.groups:
            line.refuse_value(key, f"a group that has a line before{_nearest(id, self.groups)}")
        return self.groups[id]

    def _known(self, line: _Line) -> _Connector:
        key = line.id("station"), line.id("connector")
        if key not in self.connectors:
            line.refuse(
                "station and connector must be those of a line of kind connector before, got "
                f"{key[0]!r}, {key[1]!r}"
            )
        return self.connectors[key]

    def _known_command(self, line: _Line, connector: _Connector) -> Message:
        seq = line.seq()
        if seq not in connector.sent:
            line.refuse_value("seq", "that of a command before (write the log, then send)")
        return connector.sent[seq]

    # Sums

    def _until(self, message: Message | None) -> Fraction | float:
        """Return when a message is over: with its lease, by the slowest clock."""
        if message is None or message.expires is None:
            return math.inf
        return _exact(message.expires) + self.skew

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

    def _judge_floors(self, groups: Iterable[_Group], line: _Line) -> None:
        for group in groups:
            fit = group.floors <= group.usable
            if group.floors_fit and not fit:
                self._violate(group, line, "floors", group.floors, (), "floor")
            group.floors_fit = fit

    def _judge_raise(self, raised: _Connector, message: Message, line: _Line) -> None:
        for group in raised.group.above():
            if group.committed <= group.usable:
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
        line: _Line,
        rule: str,
        committed: int,
        messages: tuple[Message, ...],
        *kinds: str,
    ) -> None:
        found = [c.commitment(line.at, *kinds) for c in self._below(group)]
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

    def _breach(self, connector: _Connector, key: str, line: _Line, committed: int) -> None:
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


# Numbers

# The grid of a batch, so that a limit in a log has the quanta that it has when it is allocated.
_GRID = Problem([], [], [], [0])


def _quanta(kw: float) -> int:
    return _GRID.down(kw)


def _usable(maximum_capacity: float, buffer: float, reserved: float) -> int:
    return Problem([], [], maximum_capacity, buffer=buffer, reserved=reserved).usable[0]


def _exact(x: float) -> Fraction:
    """Return the decimal that was written: 0.1 s and 0.2 s are 0.3 s."""
    return Fraction(repr(x))


# Words


def _kw(quanta: int) -> str:
    return f"{Decimal(quanta).scaleb(-6).normalize():f}"


def _seconds(at: Fraction | float) -> str:
    return f"{Decimal(repr(float(at))).normalize():f}"


def _plural(n: int, word: str) -> str:
    return f"1 {word}" if n == 1 else f"{n} {word}{'es' if word.endswith('ch') else 's'}"


def _headline(violation: Violation) -> list[str]:
    v = violation
    powers = f"{_kw(_quanta(v.committed))} kW of {_kw(_quanta(v.usable))} kW usable"
    if v.rule == "floors":
        return [
            f"At {_seconds(v.at)} s the floors below {v.group}, which stations may apply on their "
            f"own, came to {powers} (line {v.line})."
        ]
    return [
        f"At {_seconds(v.at)} s the connectors below {v.group} could have drawn {powers} "
        f"(line {v.line}).",
        f"Enough for it, if all other messages were lost: {', '.join(map(str, v.messages))}.",
    ]


def _table(commitments: tuple[Commitment, ...]) -> list[str]:
    rows = commitments[:MOST_ROWS]
    powers = [_kw(_quanta(c.committed)) for c in rows]
    deep = max((len(power.partition(".")[2]) for power in powers), default=0)
    cells = [("station", "connector", "kW", "why")]
    for c, power in zip(rows, powers, strict=True):
        short = deep - len(power.partition(".")[2]) + (deep > 0 and "." not in power)
        cells.append((c.station, c.connector, power + " " * short, c.because))
    wide = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
    lines = [
        f"  {a:<{wide[0]}}  {b:<{wide[1]}}  {power:>{wide[2]}}  {why}" for a, b, power, why in cells
    ]
    if rest := commitments[MOST_ROWS:]:
        power = _kw(sum(_quanta(c.committed) for c in rest))
        lines.append(f"  and {len(rest)} more, {power} kW together")
    return lines
