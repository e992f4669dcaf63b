"""An allocation on paper: a table for people, JSON and CSV for machines."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np

from wattfill.errors import MissingExtraError
from wattfill.reason import Reason
from wattfill.registry import ConnectorAllocation, Group, Registry, RegistryAllocation

CONNECTOR_COLUMNS = (
    "group",
    "chargestation",
    "connector",
    "power",
    "reason",
    "bound_by",
    "minimum",
    "maximum",
)
PLAIN_WIDTH = 100
BAR_WIDTH = 10
BARS = ("━", "─")
ASCII_BARS = ("#", "-")
# In words, and in which style.
REASONS = {
    Reason.IDLE: ("idle", "dim"),
    Reason.PAUSED: ("waits: needs {minimum} kW, {left} kW left in {group}", "red"),
    Reason.MINIMUM: ("at its minimum, held by {group}", "yellow"),
    Reason.SHARING: ("shares the level of {group}", "cyan"),
    Reason.MAXIMUM: ("at its maximum", "green"),
}


class _Line(NamedTuple):
    """What the table says of a group or of a connector."""

    depth: int
    name: str
    connector: str
    power: float
    most: float
    """What a full bar stands for."""
    words: str
    style: str


def as_json(site: Registry, allocation: RegistryAllocation) -> str:
    """Return groups and connectors as JSON: an object of two lists.

    A group has ``id``, ``name``, ``parent``, ``usable``, ``used``, ``headroom``, ``shortfall`` and
    ``level`` (null where it did not bind); a connector has ``group``, ``chargestation``,
    ``connector``, ``power``, ``reason`` (idle, paused, minimum, sharing or maximum), ``bound_by``
    (the id of a group, or null), ``minimum`` and ``maximum``. Numbers are kW.
    """
    groups = []
    for group, _ in _by_tree(site):
        outcome = allocation.groups[group.id]
        groups.append(
            {
                "id": group.id,
                "name": group.name,
                "parent": group.parent,
                "usable": outcome.usable,
                "used": outcome.used,
                "headroom": outcome.headroom,
                "shortfall": outcome.shortfall,
                "level": outcome.level if math.isfinite(outcome.level) else None,
            }
        )
    document = {"groups": groups, "connectors": list(_records(site, allocation))}
    return json.dumps(document, indent=2) + "\n"


def as_csv(site: Registry, allocation: RegistryAllocation) -> str:
    """Return a header and a row per connector: what `as_json` has of it, null as an empty cell."""
    text = io.StringIO()
    rows = csv.DictWriter(text, CONNECTOR_COLUMNS, lineterminator="\n")
    rows.writeheader()
    for record in _records(site, allocation):
        numbers = {key: decimal(record[key]) for key in ("power", "minimum", "maximum")}
        rows.writerow(record | numbers)
    return text.getvalue()


def as_table(
    site: Registry,
    allocation: RegistryAllocation,
    *,
    width: int = PLAIN_WIDTH,
    colour: bool = False,
    encoding: str = "utf-8",
) -> str:
    """Return a table for people: each group, and below it its connectors.

    Parameters
    ----------
    width : int
        Characters in a line, at most.
    colour : bool
        Whether it may hold escape sequences of a terminal.
    encoding : str
        What it will be written in; where that has no bars, they are made of ASCII.

    Raises
    ------
    MissingExtraError
        rich is not installed.

    """
    try:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        raise MissingExtraError(
            "a table takes rich, which is not installed: pip install 'wattfill[cli]', "
            "or ask for --json or --csv"
        ) from None

    def text(string: str, style: str) -> Text:
        return Text(_printable(string, encoding), style)

    full, rest = BARS if _can_carry(encoding, "".join(BARS)) else ASCII_BARS
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for no_wrap in (False, False, True, True, False):
        table.add_column(no_wrap=no_wrap, overflow="fold")
    lines = list(_lines(site, allocation))
    for line, power in zip(lines, _aligned([line.power for line in lines]), strict=True):
        if not line.connector and line is not lines[0]:
            table.add_row()
        cells = _cells(line.power, line.most)
        # Colour is for bars and reasons, so that what is wrong stands out.
        plain = line.style if line.style in ("bold", "dim") else ""
        table.add_row(
            text("  " * line.depth + line.name, plain),
            text(line.connector, plain),
            text(f"{power} kW", plain),
            Text.assemble((full * cells, line.style), (rest * (BAR_WIDTH - cells), "dim")),
            text(line.words, line.style),
        )
    console = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=colour,
        color_system="auto" if colour else None,
    )
    with console.capture() as capture:
        console.print(table)
        console.print()
        console.print(text(_summary(allocation), "dim"))
    return "".join(f"{line.rstrip(' ')}\n" for line in capture.get().splitlines())


def decimal(x: float) -> str:
    """Return the shortest decimal that is x, without an exponent.

    Examples
    --------
    >>> decimal(5.0), decimal(4.14), decimal(1e-06)
    ('5', '4.14', '0.000001')

    """
    return np.format_float_positional(x, trim="-")


def _by_tree(site: Registry) -> Iterator[tuple[Group, int]]:
    """Walk over the groups, each with its depth and before those below it."""
    below: dict[str | None, list[Group]] = {}
    for group in site.groups():
        below.setdefault(group.parent, []).append(group)
    for siblings in below.values():
        siblings.sort(key=lambda group: _natural(group.id), reverse=True)
    waiting = [(group, 0) for group in below.get(None, [])]
    while waiting:
        group, depth = waiting.pop()
        yield group, depth
        waiting += [(child, depth + 1) for child in below.get(group.id, [])]


def _natural(id: str) -> list[int | str]:
    """Order ids so that CS-2 comes before CS-10."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", id))]


def _in_group(
    site: Registry, allocation: RegistryAllocation, group: str
) -> Iterator[ConnectorAllocation]:
    for station in sorted(site.charge_stations(group), key=lambda station: _natural(station.id)):
        for connector in station.connectors:
            yield allocation.connectors[station.id, connector.id]


def _records(site: Registry, allocation: RegistryAllocation) -> Iterator[dict[str, Any]]:
    for group, _ in _by_tree(site):
        for plug in _in_group(site, allocation, group.id):
            yield {
                "group": plug.group,
                "chargestation": plug.station,
                "connector": plug.connector,
                "power": plug.power,
                "reason": plug.reason.label,
                "bound_by": plug.bound_by,
                "minimum": plug.minimum,
                "maximum": plug.maximum,
            }


def _lines(site: Registry, allocation: RegistryAllocation) -> Iterator[_Line]:
    left = _left(site, allocation)
    for group, depth in _by_tree(site):
        outcome = allocation.groups[group.id]
        words = (
            f"used of {decimal(outcome.usable)} kW usable, headroom {decimal(outcome.headroom)} kW"
        )
        if outcome.shortfall:
            words += f", shortfall {decimal(outcome.shortfall)} kW"
        yield _Line(depth, group.name, "", outcome.used, outcome.usable, words, "bold")
        for plug in _in_group(site, allocation, group.id):
            words, style = REASONS[plug.reason]
            if plug.bound_by is not None:
                words = words.format(
                    group=site.group(plug.bound_by).name,
                    minimum=decimal(plug.minimum),
                    left=f"{left[plug.bound_by].normalize():f}",
                )
            yield _Line(
                depth + 1, plug.station, plug.connector, plug.power, plug.maximum, words, style
            )


def _left(site: Registry, allocation: RegistryAllocation) -> dict[str, Decimal]:
    """Return what the minimums of those admitted leave of each group's usable capacity.

    Decimals, since 3.2 and not 3.1999999999999993 is left of 9.2 kW after a minimum of 6.
    """
    left = {id: Decimal(repr(group.usable)) for id, group in allocation.groups.items()}
    parent = {group.id: group.parent for group in site.groups()}
    for plug in allocation.connectors.values():
        if plug.reason in (Reason.IDLE, Reason.PAUSED):
            continue
        above: str | None = plug.group
        while above is not None:
            left[above] -= Decimal(repr(plug.minimum))
            above = parent[above]
    return left


def _aligned(numbers: list[float]) -> list[str]:
    """Return the numbers as decimals, as wide as each other, one point below the other."""
    parts = [decimal(number).partition(".") for number in numbers]
    wide = max((len(whole) for whole, _, _ in parts), default=0)
    deep = max((len(point + fraction) for _, point, fraction in parts), default=0)
    return [f"{whole:>{wide}}{point + fraction:<{deep}}" for whole, point, fraction in parts]


def _cells(power: float, most: float) -> int:
    """Return how much of a bar is full: all of it for the most alone, nothing for 0 alone."""
    if power <= 0.0:
        return 0
    return BAR_WIDTH if power >= most else max(1, math.floor(BAR_WIDTH * power / most))


def _summary(allocation: RegistryAllocation) -> str:
    reasons = Counter(plug.reason for plug in allocation.connectors.values())
    idle, waiting = reasons[Reason.IDLE], reasons[Reason.PAUSED]
    charging = reasons.total() - idle - waiting
    return f"{charging} charging, {waiting} waiting, {idle} idle"


def _can_carry(encoding: str, string: str) -> bool:
    try:
        string.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _printable(string: str, encoding: str) -> str:
    """Escape what would move the cursor, and what the encoding does not have."""
    return "".join(
        c if c.isprintable() and _can_carry(encoding, c) else ascii(c)[1:-1] for c in string
    )
