"""Which rows of sessions cannot be simulated, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from wattfill._validate import HEAVIEST, LIGHTEST
from wattfill.errors import InputError
from wattfill.simulation.tables import ANY_CONNECTOR, Codes, Sessions, Site, Times

# Years 1 to 9999, which dates can be written in.
EARLIEST, LATEST = -62_135_596_800_000, 253_402_300_799_999
MOST_KWH = 1e6
"""More than any session or battery has; in microjoules it fits into 64 bits."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Rows that break the same rule."""

    rows: Times
    """(n,) Places in the table, rising."""
    column: str
    say: Callable[[int], str]
    """What is wrong with one of the rows, in a sentence that begins with the column."""


@dataclass(frozen=True, slots=True, eq=False)
class Pools:
    """Where sessions may go: groups and connectors of a site by the codes of sessions."""

    group_at: Times
    """(len(sessions.groups),) Place of the group at the site, or -1."""
    first: Times
    """(len(sessions.connectors),) First of the connectors that it stands for, or -1."""
    last: Times
    """(len(sessions.connectors),) Behind the last of them."""

    @classmethod
    def of(cls, sessions: Sessions, site: Site) -> Pools:
        """Look up what the sessions call by name."""
        groups = {name: g for g, name in enumerate(site.groups)}
        plugs = {key: i for i, key in enumerate(site.connectors)}
        stations: dict[str, tuple[int, int]] = {}
        for i, (station, _) in enumerate(site.connectors):
            stations[station] = stations.get(station, (i, i))[0], i + 1
        ranges = [
            stations.get(station, (-1, -1))
            if plug == ANY_CONNECTOR
            else (plugs.get((station, plug), -1), plugs.get((station, plug), -2) + 1)
            for station, plug in sessions.connectors
        ]
        return cls(
            np.array([groups.get(name, -1) for name in sessions.groups], np.int64),
            np.array([first for first, _ in ranges], np.int64),
            np.array([last for _, last in ranges], np.int64),
        )


def faults(sessions: Sessions, site: Site | None = None) -> Iterator[Fault]:
    """Find the rows that `simulate` refuses.

    Parameters
    ----------
    sessions : Sessions
    site : Site, optional
        Without one, whether groups and connectors are there is not looked at.

    Yields
    ------
    Fault
        The rows that break one rule. A row may break several. Of sessions that overlap on one
        connector, those are at fault that begin before the last one without fault has ended.

    Examples
    --------
    >>> late = Sessions.of(group=["Yard"], arrival=[60_000], departure=[0], energy=[5.0])
    >>> [(fault.column, fault.say(0)) for fault in faults(late)]
    [('departure', 'departure must not be before arrival, got 1970-01-01T00:00:00.000 before \
1970-01-01T00:01:00.000')]

    """
    checks = _Checks(sessions)
    yield from checks.numbers()
    yield from checks.names(site)
    yield from checks.overlaps()


def refuse(sessions: Sessions, site: Site) -> None:
    """Raise for the first rule that rows break, with the first of them and how many there are."""
    found = list(faults(sessions, site))
    if not found:
        return
    first = found[0]
    i = int(first.rows[0])
    place = f"sessions[{i}]" if sessions.row is None else f"row {sessions.row[i]}"
    others = np.setdiff1d(np.concatenate([fault.rows for fault in found]), first.rows).size
    also = f"; {others} more with other faults" if others else ""
    raise InputError(
        f"{place}: {first.say(i)} ({first.rows.size} of {len(sessions)} sessions{also}): correct "
        "them, or leave out the rows that wattfill.simulation.faults finds"
    )


def moment(at: int) -> str:
    """Write a time as a date, or as a number where it has none."""
    return str(np.datetime64(int(at), "ms")) if EARLIEST <= at <= LATEST else str(int(at))


class _Checks:
    def __init__(self, sessions: Sessions) -> None:
        self.sessions = sessions

    def _fault(
        self, column: str, bad: npt.NDArray[np.bool_], say: Callable[[int], str]
    ) -> Iterator[Fault]:
        rows = np.flatnonzero(bad)
        if rows.size:
            yield Fault(rows, column, say)

    def _rule(self, column: str, rule: str, good: npt.NDArray[np.bool_]) -> Iterator[Fault]:
        values: npt.NDArray[Any] = getattr(self.sessions, column)
        yield from self._fault(
            column, ~good, lambda i: f"{column} must be {rule}, got {values[i].item()!r}"
        )

    def numbers(self) -> Iterator[Fault]:
        s = self.sessions
        for column in ("arrival", "departure"):
            times = getattr(s, column)
            good = (times >= EARLIEST) & (times <= LATEST)
            yield from self._rule(column, "within the years 1 to 9999, in ms since 1970", good)
        yield from self._fault(
            "departure",
            s.departure < s.arrival,
            lambda i: (
                f"departure must not be before arrival, got {moment(s.departure[i])} before "
                f"{moment(s.arrival[i])}"
            ),
        )
        rule = f"at least 0 and below {MOST_KWH:g} kWh"
        yield from self._rule("energy", rule, (s.energy >= 0.0) & (s.energy < MOST_KWH))
        if s.maximum is not None:
            yield from self._rule("maximum", "at least 0", s.maximum >= 0.0)
        if s.minimum is not None:
            good = (s.minimum >= 0.0) & (s.minimum < np.inf)
            yield from self._rule("minimum", "finite and at least 0", good)
        if s.weight is not None:
            good = (s.weight >= LIGHTEST) & (s.weight <= HEAVIEST)
            yield from self._rule("weight", f"above 0 (within {LIGHTEST:g}..{HEAVIEST:g})", good)
        yield from self._batteries()

    def _batteries(self) -> Iterator[Fault]:
        battery, soc = self.sessions.battery, self.sessions.soc
        if battery is None:
            return
        good = np.isnan(battery) | (battery > 0.0) & (battery < MOST_KWH)
        yield from self._rule("battery", f"above 0 and below {MOST_KWH:g} kWh, or NaN", good)
        if soc is None:
            yield from self._fault(
                "soc", ~np.isnan(battery), lambda i: "soc must be given with battery, got none"
            )
            return
        good = np.isnan(battery) | (soc >= 0.0) & (soc <= 1.0)
        yield from self._rule("soc", "within 0.0..1.0 where there is a battery", good)

    def names(self, site: Site | None) -> Iterator[Fault]:
        s = self.sessions
        group = self._codes("group", len(s.groups))
        plug = self._codes("connector", len(s.connectors))
        for column, codes, n in (
            ("group", group, len(s.groups)),
            ("connector", plug, len(s.connectors)),
        ):
            if getattr(s, column) is not None:
                yield from self._rule(
                    column, f"a place in `{column}s`, or -1", (codes >= -1) & (codes < n)
                )
        yield from self._fault(
            "group",
            np.broadcast_to((group < 0) & (plug < 0), (len(s),)),
            lambda i: "group must be given where connector is not, got neither",
        )
        if site is None:
            return
        pools = Pools.of(s, site)
        known = np.append(pools.group_at >= 0, True)
        bad = ~known[np.clip(group, -1, len(s.groups) - 1)]
        yield from self._fault(
            "group",
            np.broadcast_to(bad, (len(s),)),
            lambda i: f"group must be a group of the site, got {s.groups[group[i]]!r}",
        )
        there = np.append(pools.first >= 0, True)
        bad = ~there[np.clip(plug, -1, len(s.connectors) - 1)]
        yield from self._fault(
            "connector",
            np.broadcast_to(bad, (len(s),)),
            lambda i: _unknown(s.connectors[plug[i]]),
        )
        if s.group is None or s.connector is None or len(site.owner) == 0:
            return
        at = np.append(pools.group_at, -1)[np.clip(group, -1, len(s.groups) - 1)]
        first = np.append(pools.first, -1)[np.clip(plug, -1, len(s.connectors) - 1)]
        bad = (at >= 0) & (first >= 0) & (site.owner[first] != at)
        yield from self._fault(
            "group",
            bad,
            lambda i: (
                f"group must be that of the connector, got {s.groups[group[i]]!r} for one in "
                f"{site.groups[site.owner[first[i]]]!r}"
            ),
        )

    def _codes(self, column: str, n: int) -> Codes:
        codes: Codes | None = getattr(self.sessions, column)
        return np.full(1, -1, np.int32) if codes is None else codes

    def overlaps(self) -> Iterator[Fault]:
        s = self.sessions
        if s.connector is None:
            return
        named = np.append(
            np.array([plug != ANY_CONNECTOR for _, plug in s.connectors], bool), False
        )
        rows = np.flatnonzero(named[np.clip(s.connector, -1, len(s.connectors) - 1)])
        order = rows[np.lexsort((s.arrival[rows], s.connector[rows]))]
        plug, arrival, departure = s.connector[order], s.arrival[order], s.departure[order]
        overlap = (plug[1:] == plug[:-1]) & (arrival[1:] < departure[:-1])
        if not overlap.any():
            return
        # Only at connectors where somebody overlaps it matters who is kept.
        suspects = order[np.isin(plug, plug[1:][overlap])].tolist()
        kept: dict[int, int] = {}
        before: dict[int, int] = {}
        for i in suspects:
            at = int(s.connector[i])
            if s.departure[i] < s.arrival[i]:
                continue
            if at in kept and s.arrival[i] < s.departure[kept[at]]:
                before[i] = kept[at]
            else:
                kept[at] = i
        yield from self._fault(
            "arrival",
            np.isin(np.arange(len(s)), list(before)),
            lambda i: (
                f"arrival must not be before the session before it at connector "
                f"{s.connectors[s.connector[i]]!r} has ended, got {moment(s.arrival[i])} before "  # type: ignore[index]
                f"{moment(s.departure[before[i]])}"
            ),
        )


def _unknown(key: tuple[str, str]) -> str:
    station, plug = key
    what = f"charge station {station!r}" if plug == ANY_CONNECTOR else f"connector {key!r}"
    return f"connector must be one of the site, got {what}"
