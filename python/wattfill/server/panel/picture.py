"""The picture of a group: where its parts stand, in percent, for a template to draw.

The bar is the group's capacity: a part for each connector and each group below, what is left of the
usable capacity, what is reserved, and the buffer. Below it each session is a column as wide as its
weight, filled to its power per weight, so that area is power; the water level runs across them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from wattfill.report import decimal

MOST_DRAWN = 60
"""Parts and columns; what is beyond them is one part, and is not drawn as a column."""
MOST_NAMED = 12
FEWEST_COLUMNS = 6.0
"""So that one session is a column, and not a wall."""
GAP = 0.12
"""Of a column's width."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the bar."""

    kind: str
    """A reason, or below, more, free, reserved or buffer."""
    name: str
    kw: float
    x: str
    width: str
    is_wide: bool
    """Whether its name has room in it on a desk, and"""
    is_very_wide: bool
    """on a phone."""


@dataclass(frozen=True, slots=True)
class Column:
    """A session."""

    kind: str
    name: str
    kw: float
    x: str
    width: str
    top: str
    """Where the connector's maximum stands; y runs down."""
    height: str
    fill_top: str
    fill_height: str
    minimum: str


@dataclass(frozen=True, slots=True)
class Picture:
    """What is drawn of a group."""

    parts: tuple[Part, ...]
    columns: tuple[Column, ...]
    n_sessions: int
    level: str | None
    """Where the level stands, None where the group holds nobody down."""
    is_level_high: bool
    """Whether its label goes below the line."""
    has_names: bool
    """Whether there is room for the names of the columns."""
    words: str
    """The same for those who do not see it."""


def draw(
    group: Mapping[str, Any], allocation: Mapping[str, Any], below: Iterable[tuple[str, float]]
) -> Picture:
    """Return the picture of a group.

    Parameters
    ----------
    group, allocation : mapping
        As the API shows them; the group may have other values than those that are stored.
    below : iterable of (name, kW)
        The groups that it feeds, and what each uses.

    """
    plugs = [plug for plug in allocation["connectors"] if plug["group"] == group["_id"]]
    outcome = next(g for g in allocation["groups"] if g["_id"] == group["_id"])
    weights = {
        (station["chargestation"], plug["id"]): plug["session"]["weight"]
        for station in group["chargestations"]
        for plug in station["connectors"]
        if plug["session"] is not None
    }
    return Picture(
        _parts(group, outcome, plugs, below),
        *_columns(plugs, outcome["level"], weights),
        _words(group, outcome, plugs),
    )


def _parts(
    group: Mapping[str, Any],
    outcome: Mapping[str, Any],
    plugs: list[Mapping[str, Any]],
    below: Iterable[tuple[str, float]],
) -> tuple[Part, ...]:
    capacity = group["maximum_capacity"]
    buffer = capacity * group["buffer"]
    found = [
        (plug["reason"], f"{plug['chargestation']}/{plug['connector']}", plug["power"])
        for plug in plugs
    ]
    found += [("below", name, kw) for name, kw in below]
    found = [each for each in found if each[2] > 0]
    if len(found) > MOST_DRAWN:
        rest = found[MOST_DRAWN:]
        found = found[:MOST_DRAWN]
        found.append(("more", f"{len(rest)} more", sum(kw for _, _, kw in rest)))
    found += [
        ("free", "free", outcome["headroom"]),
        ("reserved", "reserved", min(group["reserved"], capacity - buffer)),
        ("buffer", "buffer", buffer),
    ]
    parts, x = [], 0.0
    for kind, name, kw in found:
        width = 100.0 * kw / capacity if capacity > 0 else 0.0
        if width > 0:
            parts.append(
                Part(kind, name, kw, _percent(x), _percent(width), width >= 7, width >= 20)
            )
        x += width
    return tuple(parts)


def _columns(
    plugs: list[Mapping[str, Any]],
    level: float | None,
    weights: Mapping[tuple[str, str], float],
) -> tuple[tuple[Column, ...], int, str | None, bool, bool]:
    sessions = [plug for plug in plugs if plug["reason"] != "idle"]
    drawn = [
        (plug, weights.get((plug["chargestation"], plug["connector"]), 1.0))
        for plug in sessions[:MOST_DRAWN]
    ]
    highest = max((plug["maximum"] / weight for plug, weight in drawn), default=0.0)
    # Room above, for the level of a group all of whose columns are full.
    full = 1.08 * max(highest, level or 0.0) or 1.0
    total = sum(weight for _, weight in drawn)
    # Columns are as wide as their weights, the usual one at most a sixth of the picture.
    unit = 100.0 / max(total, FEWEST_COLUMNS * total / max(len(drawn), 1), 1e-12)
    columns, x = [], 0.0
    for plug, weight in drawn:
        width = unit * weight
        top = 100.0 * (1 - plug["maximum"] / weight / full)
        fill = 100.0 * plug["power"] / weight / full
        columns.append(
            Column(
                plug["reason"],
                f"{plug['chargestation']}/{plug['connector']}",
                plug["power"],
                _percent(x + GAP / 2 * width),
                _percent((1 - GAP) * width),
                _percent(top),
                _percent(100.0 - top),
                _percent(100.0 - fill),
                _percent(fill),
                _percent(100.0 * (1 - plug["minimum"] / weight / full)),
            )
        )
        x += width
    has_names = len(columns) <= MOST_NAMED
    if level is None or not drawn:
        return tuple(columns), len(sessions), None, False, has_names
    at = 100.0 * (1 - level / full)
    return tuple(columns), len(sessions), _percent(at), at < 20, has_names


def _words(
    group: Mapping[str, Any], outcome: Mapping[str, Any], plugs: list[Mapping[str, Any]]
) -> str:
    charging = sum(plug["power"] > 0 for plug in plugs)
    words = (
        f"{decimal(outcome['used'])} of {decimal(outcome['usable'])} kW usable are given out, to "
        f"{charging} of {len(plugs)} connectors of its own"
    )
    if outcome["level"] is not None:
        words += f"; the water level is {decimal(outcome['level'])} kW"
    return words


def _percent(x: float) -> str:
    return f"{x:.3f}%"
