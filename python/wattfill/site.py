"""Site files: a registry written down, as JSON or as CSV with one connector a line.

JSON is in the vocabulary of the API. Charge stations stand in their group::

    {
      "groups": [
        {
          "name": "Park3-E1",
          "maximum_capacity": 100,
          "minimum_connector_capacity": 2.5,
          "buffer": 0.1,
          "location": "649be7ca525c000bc98a6c05",
          "chargestations": [
            {
              "id": "CS-01",
              "connectors": [
                {"id": 1, "maximum_capacity": 22, "minimum_capacity": 4.2, "session": true},
                {"id": 2, "maximum_capacity": 22, "session": {"maximum": 7.4, "priority": 1}}
              ]
            }
          ]
        }
      ]
    }

A group may also have an ``id`` (its name where it has none), a ``parent`` (the id, or the name if
only one group has it), ``reserved``, ``policy``, ``rotation``, ``description`` and ``notes``. A
``session`` is true, false (as where it is left out) or an object of ``maximum``, ``weight``,
``priority`` and ``at``. A connector may have a ``fallback``. Ids may be whole numbers, and null is
as good as left out.

CSV has the same words as columns: ``group`` (its id, and its name unless there is a
``group_name``) and ``group_`` before any other key of a group; ``chargestation``; ``connector``,
``maximum_capacity``, ``minimum_capacity``, ``fallback``; ``session`` (true or false) and
``session_`` before any key of a session. What a group has stands in its first row; later ones
repeat it or leave it empty. A group without connectors has a row of its own.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from reprlib import repr as shown
from typing import Any

from wattfill.errors import InputError, WattfillError
from wattfill.registry import Connector, Registry

GROUP_KEYS = (
    "name",
    "id",
    "maximum_capacity",
    "minimum_connector_capacity",
    "buffer",
    "reserved",
    "parent",
    "policy",
    "rotation",
    "location",
    "description",
    "notes",
)
CONNECTOR_KEYS = ("maximum_capacity", "minimum_capacity", "fallback")
SESSION_KEYS = ("maximum", "weight", "priority", "at")

COLUMNS = (
    "group",
    *(f"group_{key}" for key in GROUP_KEYS if key != "id"),
    "chargestation",
    "connector",
    *CONNECTOR_KEYS,
    "session",
    *(f"session_{key}" for key in SESSION_KEYS),
)
_NEEDED_COLUMNS = (
    "group",
    "group_maximum_capacity",
    "chargestation",
    "connector",
    "maximum_capacity",
)
_TEXT_KEYS = ("name", "parent", "policy", "location", "description", "notes")
_NUMBER = {"priority": int}
_SESSION_IS_ON = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True)
class _Entry:
    """A group, station, connector or session of the file, and what to call its place there."""

    place: str
    prefix: str
    """What makes a place of one of its keys."""
    values: dict[str, Any] = field(default_factory=dict)
    parts: list[_Entry] = field(default_factory=list)
    """The stations of a group, the connectors of a station, the session of a connector."""
    renamed: dict[str, str] = field(default_factory=dict)
    """What the file calls an argument of the registry, where that is not its name."""

    def refusal(self, key: str, rule: str) -> InputError:
        return InputError(f"{self.prefix}{key} {rule}, got {shown(self.values[key])}")

    @contextmanager
    def placed(self) -> Iterator[None]:
        """Say where in the file stands what the registry refuses."""
        try:
            yield
        except WattfillError as error:
            message = str(error)
            part = re.match(r"connectors\[(\d+)\]\.", message)
            if part:
                where = self.parts[int(part[1])]._where(message[part.end() :])
            else:
                where = self._where(message)
            raise InputError(where) from None

    def _where(self, message: str) -> str:
        """Put the place before a message, which begins with the name of an argument."""
        for argument, called in self.renamed.items():
            if message.startswith(f"{argument} "):
                return f"{self.place}{called}{message.removeprefix(argument)}"
        argument = message.partition(" ")[0]
        return f"{self.prefix}{message}" if argument in self.values else f"{self.place}: {message}"


def parse(text: str) -> Registry:
    r"""Read a site file, JSON or CSV, told apart by the first character that is not blank.

    Parameters
    ----------
    text : str
        The whole file.

    Returns
    -------
    Registry
        Its groups, charge stations and connectors, with the sessions that are on. Those that
        start at the same time stand in line in the order of the file.

    Raises
    ------
    InputError
        The file is no site file, or breaks a rule of the registry; the message says where.

    Examples
    --------
    >>> site = parse(
    ...     "group,group_maximum_capacity,chargestation,connector,maximum_capacity,session\n"
    ...     "Park3-E1,100,CS-01,1,22,true\n"
    ... )
    >>> site.allocate().connectors["CS-01", "1"].power
    22.0

    """
    text = text.removeprefix("\ufeff")
    first = text.lstrip()[:1]
    if not first:
        raise InputError("the file is empty")
    return _build(_read_json(text) if first in "{[" else _read_csv(text))


def _build(groups: list[_Entry]) -> Registry:
    registry = Registry()
    for group in groups:
        with group.placed():
            registry.create_group(**group.values | {"parent": None})
    # Parents come second, so that they may stand below their children in the file.
    by_name: dict[str, list[str]] = {}
    for group in groups:
        by_name.setdefault(group.values["name"], []).append(group.values["id"])
    ids = {group.values["id"] for group in groups}
    for group in groups:
        parent = group.values["parent"]
        if parent is None:
            continue
        if parent not in ids:
            named = by_name.get(parent, [])
            if len(named) != 1:
                why = f" ({len(named)} groups have that name)" if named else ""
                near = "" if named else _nearest(parent, [*ids, *by_name])
                rule = f"must be the id of a group, or a name that one group has{why}"
                raise InputError(f"{group.refusal('parent', rule)}{near}")
            (parent,) = named
        with group.placed():
            registry.update_group(group.values["id"], parent=parent)
    for group in groups:
        for station in group.parts:
            _add_station(registry, group.values["id"], station)
    return registry


def _add_station(registry: Registry, group: str, station: _Entry) -> None:
    connectors = []
    for connector in station.parts:
        with connector.placed():
            connectors.append(Connector(**connector.values))
    with station.placed():
        registry.add_charge_station(group, station.values["id"], connectors)
    for connector in station.parts:
        for session in connector.parts:
            with session.placed():
                registry.start_session(
                    station.values["id"], connector.values["id"], **session.values
                )


def _nearest(word: str, words: Iterable[str]) -> str:
    near = get_close_matches(word, words, 1)
    return f"; did you mean {near[0]!r}?" if near else ""


# JSON


class _Object(dict[str, Any]):
    """An object of the file, which remembers a key that it has twice."""

    def __init__(self, pairs: Sequence[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.twice = ""
        if len(self) < len(pairs):
            self.twice = Counter(key for key, _ in pairs).most_common(1)[0][0]


def _read_json(text: str) -> list[_Entry]:
    try:
        document = json.loads(text, object_pairs_hook=_Object)
    except json.JSONDecodeError as error:
        raise InputError(
            f"line {error.lineno}, column {error.colno} is not JSON: {error.msg}"
        ) from None
    except RecursionError:
        raise InputError("the file is nested too deeply for a site file") from None
    except ValueError as error:
        # Python reads no whole number of thousands of digits.
        raise InputError(f"the file has a number that is too long: {error}") from None
    values = _values("the file", document, ["groups"], [])
    return [_group(place, group) for place, group in _items("groups", values["groups"])]


def _group(place: str, value: object) -> _Entry:
    values = _values(place, value, ["name", "maximum_capacity"], [*GROUP_KEYS, "chargestations"])
    stations = _items(f"{place}.chargestations", values.pop("chargestations", []))
    named = "id" if "id" in values else "name"
    values["id"] = _id(place, values, named)
    values["parent"] = _id(place, values, "parent") if "parent" in values else None
    return _Entry(
        place,
        f"{place}.",
        values,
        [_station(*station) for station in stations],
        {"id": f".{named}"},
    )


def _station(place: str, value: object) -> _Entry:
    values = _values(place, value, ["id", "connectors"], [])
    values["id"] = _id(place, values, "id")
    connectors = _items(f"{place}.connectors", values.pop("connectors"))
    return _Entry(
        place,
        f"{place}.",
        values,
        [_connector(*connector) for connector in connectors],
        {"station_id": ".id", "connectors": ".connectors"},
    )


def _connector(place: str, value: object) -> _Entry:
    values = _values(place, value, ["id", "maximum_capacity"], [*CONNECTOR_KEYS, "session"])
    values["id"] = _id(place, values, "id")
    session = values.pop("session", False)
    return _Entry(place, f"{place}.", values, list(_session(f"{place}.session", session)))


def _session(place: str, value: object) -> Iterator[_Entry]:
    if isinstance(value, _Object):
        yield _Entry(place, f"{place}.", _values(place, value, [], SESSION_KEYS))
    elif value is True:
        yield _Entry(place, f"{place}.")
    elif value is not False:
        raise InputError(f"{place} must be true, false or an object, got {shown(value)}")


def _values(
    place: str, value: object, needed: Sequence[str], allowed: Sequence[str]
) -> dict[str, Any]:
    """Return the values of an object that has all keys that it needs, and no unknown ones.

    Null stands for no value, unless one is needed.
    """
    if not isinstance(value, _Object):
        raise InputError(f"{place} must be an object, got {shown(value)}")
    if value.twice:
        raise InputError(f"{place} has the key {value.twice!r} twice")
    keys = dict.fromkeys([*needed, *allowed])
    for key in value:
        if key not in keys:
            hint = _nearest(key, keys) or f"; the keys are {', '.join(keys)}"
            raise InputError(f"{place} has an unknown key {key!r}{hint}")
    for key in needed:
        if key not in value:
            raise InputError(f"{place} must have the key {key!r}")
    return {key: item for key, item in value.items() if item is not None or key in needed}


def _items(place: str, value: object) -> list[tuple[str, Any]]:
    """Return the items of a list, each with its place."""
    if not isinstance(value, list):
        raise InputError(f"{place} must be a list, got {shown(value)}")
    return [(f"{place}[{i}]", item) for i, item in enumerate(value)]


def _id(place: str, values: dict[str, Any], key: str) -> str:
    value = values[key]
    if type(value) is int:
        return str(value)
    if isinstance(value, str):
        return value
    raise InputError(f"{place}.{key} must be a string or a whole number, got {shown(value)}")


# CSV


def _read_csv(text: str) -> list[_Entry]:
    header_line = text.lstrip().partition("\n")[0]
    delimiter = max(",;\t", key=header_line.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    columns: list[str] = []
    groups: dict[str, _Entry] = {}
    stations: dict[tuple[str, str], _Entry] = {}
    number = 0
    try:
        for number, row in enumerate(rows, 1):
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            if columns:
                _add_row(f"row {number}", columns, cells, groups, stations)
            else:
                columns = _columns(f"row {number}", cells)
    except csv.Error as error:
        raise InputError(f"row {number + 1} is not CSV: {error}") from None
    return list(groups.values())


def _columns(place: str, cells: list[str]) -> list[str]:
    """Return the names of the columns, checked."""
    if not set(cells) & set(COLUMNS):
        raise InputError(
            "the file is neither JSON, which starts with '{', nor CSV with the columns "
            f"{', '.join(COLUMNS)}; {place} is {shown(cells[0])}"
        )
    for column, count in Counter(cells).items():
        if column not in COLUMNS:
            hint = _nearest(column, COLUMNS) or f"; the columns are {', '.join(COLUMNS)}"
            raise InputError(f"{place} has an unknown column {column!r}{hint}")
        if count > 1:
            raise InputError(f"{place} has the column {column!r} {count} times")
    for column in _NEEDED_COLUMNS:
        if column not in cells:
            raise InputError(f"{place} must have the column {column!r}")
    return cells


def _add_row(
    place: str,
    columns: list[str],
    cells: list[str],
    groups: dict[str, _Entry],
    stations: dict[tuple[str, str], _Entry],
) -> None:
    """Add one row's group, station, connector and session, as far as they are new."""
    if len(cells) != len(columns):
        raise InputError(f"{place} must have {len(columns)} cells, as the header, got {len(cells)}")
    row = {column: cell for column, cell in zip(columns, cells, strict=True) if cell}
    if "group" not in row:
        raise InputError(f"{place}: group must not be empty")
    id = row["group"]
    group = _Entry(place, f"{place}: group_", _numbers(place, row, "group_", GROUP_KEYS))
    if id in groups:
        first = groups[id]
        for key, value in group.values.items():
            if value != first.values.get(key):
                raise group.refusal(key, f"must be as in the group's first row, {first.place}")
    else:
        group.values["id"] = id
        group.values.setdefault("name", id)
        group.values.setdefault("parent", None)
        if "maximum_capacity" not in group.values:
            raise InputError(f"{group.prefix}maximum_capacity must not be empty")
        groups[id] = group

    of_connector = [column for column in row if not column.startswith("group")]
    if not of_connector:
        return
    for column in ("chargestation", "connector", "maximum_capacity"):
        if column not in row:
            raise InputError(f"{place}: {column} must not be empty where {of_connector[0]} is not")
    station = _Entry(
        place,
        f"{place}: ",
        {"id": row["chargestation"]},
        renamed={"station_id": ": chargestation"},
    )
    if (id, row["chargestation"]) not in stations:
        groups[id].parts.append(station)
    station = stations.setdefault((id, row["chargestation"]), station)
    connector = _Entry(place, f"{place}: ", _numbers(place, row, "", CONNECTOR_KEYS))
    connector.values["id"] = row["connector"]
    for other in station.parts:
        if other.values["id"] == row["connector"]:
            raise InputError(
                f"{place}: connector must be another than those of the charge station before, got "
                f"{row['connector']!r} as in {other.place}"
            )
    station.parts.append(connector)

    session = _Entry(place, f"{place}: session_", _numbers(place, row, "session_", SESSION_KEYS))
    on = _SESSION_IS_ON.get(row.get("session", "false").lower())
    if on is None:
        raise InputError(f"{place}: session must be true or false, got {row['session']!r}")
    if on:
        connector.parts.append(session)
    elif session.values:
        raise session.refusal(next(iter(session.values)), "must be empty where session is not true")


def _numbers(place: str, row: dict[str, str], prefix: str, keys: Sequence[str]) -> dict[str, Any]:
    """Return the values of one row that belong to one thing, numbers where numbers belong."""
    values: dict[str, Any] = {}
    for key in keys:
        cell = row.get(prefix + key)
        if cell is None:
            continue
        try:
            values[key] = cell if key in _TEXT_KEYS else _NUMBER.get(key, float)(cell)
        except ValueError:
            kind = "whole number" if key == "priority" else "number"
            raise InputError(f"{place}: {prefix}{key} must be a {kind}, got {cell!r}") from None
    return values
