"""What the columns of a table of sessions are called, and which of them are theirs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import NamedTuple

from wattfill.errors import InputError


class Column(NamedTuple):
    """A column of a session: what else it is called, and what it stands for."""

    kind: str
    """text, time or number."""
    others: tuple[str, ...]
    """Names that it has in the tables of others."""
    meaning: str


COLUMNS = {
    "group": Column("text", ("site", "siteID"), "id of the group at which it arrives"),
    "chargestation": Column("text", ("station", "stationID"), "id of the charge station"),
    "connector": Column("text", (), "id of the connector; 1 where only its station is said"),
    "arrival": Column("time", ("connectionTime",), "when it is plugged in"),
    "departure": Column("time", ("disconnectTime",), "when it is unplugged"),
    "energy": Column("number", ("energy_kwh", "kWhDelivered"), "wanted, kWh"),
    "maximum": Column("number", ("max_kw", "maximum_kw"), "that the vehicle takes, kW"),
    "minimum": Column("number", ("min_kw", "minimum_kw"), "to sustain it, kW"),
    "weight": Column("number", (), "share of what is left, above 0"),
    "priority": Column("number", (), "whole number, higher first"),
    "battery": Column("number", ("battery_kwh",), "capacity, kWh"),
    "soc": Column("number", (), "state of charge at arrival, 0 to 1"),
}
NEEDED = ("arrival", "departure", "energy")


def find_columns(
    place: str, names: Sequence[str], columns: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return which name of a table stands for which column.

    Parameters
    ----------
    place : str
        What to call the table in a message.
    names : sequence of str
        What its columns are called.
    columns : mapping of str to str, optional
        By column what it is called there, where that is none of the known names.

    Raises
    ------
    InputError
        A column is missing, is there twice, or is named that is not there.

    Examples
    --------
    >>> find_columns("a.csv", ["site", "Start", "departure", "energy_kwh"], {"arrival": "Start"})
    {'group': 'site', 'arrival': 'Start', 'departure': 'departure', 'energy': 'energy_kwh'}

    """
    for name, count in Counter(names).items():
        if count > 1:
            raise InputError(f"{place} must have each column once, got {name!r} {count} times")
    given = dict(columns or {})
    for column, name in given.items():
        if column not in COLUMNS:
            near = get_close_matches(column, COLUMNS, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; they are {', '.join(COLUMNS)}"
            raise InputError(f"columns must name columns of a session, got {column!r}{hint}")
        if name not in names:
            near = get_close_matches(name, names, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(names)}"
            raise InputError(f"{place} must have the column {name!r} for {column}{hint}")
    found = {}
    for column, (_, others, _) in COLUMNS.items():
        there = [name for name in (column, *others) if name in names]
        if column in given:
            found[column] = given[column]
        elif len(there) > 1:
            raise InputError(
                f"{place} must have one column for {column}, got {' and '.join(there)}; "
                f"columns={{{column!r}: {there[0]!r}}} or --column {column}={there[0]} picks one"
            )
        elif there:
            found[column] = there[0]
    for column in NEEDED:
        if column not in found:
            known = ", ".join((column, *COLUMNS[column].others))
            raise InputError(
                f"{place} must have a column for {column} ({known}), got {', '.join(names)}; "
                f"columns={{{column!r}: NAME}} or --column {column}=NAME says which it is"
            )
    if "group" not in found and "chargestation" not in found:
        raise InputError(
            f"{place} must have a column for group or chargestation "
            f"(group, site, siteID, chargestation, station, stationID), got {', '.join(names)}"
        )
    if "connector" in found and "chargestation" not in found:
        raise InputError(
            f"{place} must have a column for chargestation where it has one for connector, "
            f"got {', '.join(names)}"
        )
    return found
