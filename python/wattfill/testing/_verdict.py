"""What `check_history` finds, as records that read as sentences and tables."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from wattfill.testing.problem import Problem

QUANTA_PER_KW = 10**6
# A log that has gone wrong may be wrong at every line from there on: each is found, but what all
# connectors count with is noted for the first ones alone.
MOST_DETAILED = 100
# Rows of a table, and violations with a table, before the rest is only counted.
MOST_ROWS = 12
MOST_TABLES = 3

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
        lease = "" if self.expires is None else f", expires at {as_seconds(self.expires)} s"
        sent = f"sent at {as_seconds(self.sent_at)} s{lease}"
        return f"seq {self.seq} to {_plug(self)} ({_power(self.limit)}, {sent})"


@dataclass(frozen=True, slots=True)
class Commitment:
    """What one connector counts with at an instant, and why."""

    station: str
    connector: str
    committed: float
    """kW"""
    why: str
    """One of "floor", "confirmed" (or read back), "sent" (not confirmed), "settling" (its draw may
    not yet have fallen to the limit) or "unknown" (its maximum)."""
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
    """Either "raise": a command raised the sum above the usable capacity; or "floors": what the
    connectors can apply on their own does not fit, whatever is sent."""
    committed: float
    """kW that the connectors below the group could have drawn."""
    usable: float
    """kW that they may."""
    line: int
    """Of the log, from 1."""
    messages: tuple[Message, ...]
    """The raise, and as few others as it takes: with these in force, and every other message lost,
    the connectors could have drawn too much. None for "floors"; from the 101st violation on the
    raise alone."""
    commitments: tuple[Commitment, ...]
    """Of every connector below the group that counts with something, largest first; none from the
    101st violation on."""

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
            f"{_plug(self)} was at {_power(self.seen)} at {as_seconds(self.at)} s, above the "
            f"{_power(self.committed)} that may be in force there (line {self.line})"
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
        until = "the end of the log" if self.until is None else f"{as_seconds(self.until)} s"
        return (
            f"{printable(self.group)} from {as_seconds(self.since)} s to {until}, at most "
            f"{_power(self.most)} of {_power(self.usable)} usable: {_WHY_ABOVE[self.why]}"
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
            f"{_plural(self.n_lines, 'line')}, {as_seconds(self.first_at)} s to "
            f"{as_seconds(self.last_at)} s"
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


# Numbers and words

# The grid of a batch, so that a limit in a log has the quanta that it has when it is allocated.
_GRID = Problem([], [], [], [0])


def quanta_of(kw: float) -> int:
    return _GRID.down(kw)


def usable_quanta(maximum_capacity: float, buffer: float, reserved: float) -> int:
    return Problem([], [], maximum_capacity, buffer=buffer, reserved=reserved).usable[0]


def printable(id: str) -> str:
    """Escape what would move the cursor of a terminal: an id may be any string."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in id)


def as_kw(quanta: int) -> str:
    return f"{Decimal(quanta).scaleb(-6).normalize():f}"


def as_seconds(at: Fraction | float) -> str:
    return f"{Decimal(repr(float(at))).normalize():f}"


def _plural(n: int, word: str) -> str:
    return f"1 {word}" if n == 1 else f"{n} {word}{'es' if word.endswith('ch') else 's'}"


def _power(kw: float) -> str:
    return f"{as_kw(quanta_of(kw))} kW"


def _plug(record: Message | Breach) -> str:
    return f"{printable(record.station)} {printable(record.connector)}"


def _headline(violation: Violation) -> list[str]:
    v = violation
    at, below = f"At {as_seconds(v.at)} s", f"below {printable(v.group)}"
    powers = f"{_power(v.committed)} of {_power(v.usable)} usable (line {v.line})"
    if v.rule == "floors":
        return [
            f"{at} the floors {below}, which stations may apply on their own, came to {powers}."
        ]
    return [
        f"{at} the connectors {below} could have drawn {powers}.",
        f"Enough for it, if all other messages were lost: {', '.join(map(str, v.messages))}.",
    ]


def _table(commitments: tuple[Commitment, ...]) -> list[str]:
    rows = commitments[:MOST_ROWS]
    powers = [as_kw(quanta_of(c.committed)) for c in rows]
    deep = max((len(power.partition(".")[2]) for power in powers), default=0)
    cells = [("station", "connector", "kW", "why")]
    for c, power in zip(rows, powers, strict=True):
        short = deep - len(power.partition(".")[2]) + (deep > 0 and "." not in power)
        cells.append((printable(c.station), printable(c.connector), power + " " * short, c.because))
    wide = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
    lines = [
        f"  {a:<{wide[0]}}  {b:<{wide[1]}}  {power:>{wide[2]}}  {why}" for a, b, power, why in cells
    ]
    if rest := commitments[MOST_ROWS:]:
        power = as_kw(sum(quanta_of(c.committed) for c in rest))
        lines.append(f"  and {len(rest)} more, {power} kW together")
    return lines
