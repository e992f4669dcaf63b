"""Sessions out of a table: every row is read or told of, none is dropped in silence."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wattfill.errors import InputError
from wattfill.simulation._files import whole_file
from wattfill.simulation.readers.acn import asked_for
from wattfill.simulation.readers.cells import A_NUMBER, A_TIME, Texts, read_numbers, read_times
from wattfill.simulation.readers.clock import find_zone, to_utc
from wattfill.simulation.readers.columns import NEEDED, find_columns
from wattfill.simulation.readers.sources import Rows, Source
from wattfill.simulation.tables import ANY_CONNECTOR, Sessions, Site
from wattfill.simulation.validate import problems

# What a session has where its row says nothing.
DEFAULTS = {
    "maximum": np.inf,
    "minimum": 0.0,
    "weight": 1.0,
    "priority": 0.0,
    "battery": np.nan,
    "soc": np.nan,
}
TEXTS = ("group", "chargestation", "connector")
SKIP = "skip_bad_rows=FILE, or --skip-bad-rows FILE, writes them there and goes on without them"


@dataclass(frozen=True, slots=True)
class Reading:
    """What came of reading a table.

    Attributes
    ----------
    sessions : Sessions
        Of the rows that keep the rules, in the order of the table.
    n_rows : int
        How many rows there are in the table.
    skipped : int
        How many of them were left out.

    """

    sessions: Sessions
    n_rows: int
    skipped: int


class _Reader:
    """What has been read so far, a part for each batch."""

    def __init__(
        self,
        source: Source,
        names: Mapping[str, str],
        zone: ZoneInfo | None,
        asked: str | None,
    ) -> None:
        self.source = source
        self.asked = asked
        self.names = names
        self.zone = zone
        self.n_rows = 0
        self.bad: dict[int, str] = {}
        """By row what is wrong with it."""
        self.texts = {column: Texts() for column in TEXTS if column in names}
        self.parts: dict[str, list[npt.NDArray[Any]]] = {}
        # Of times with an offset from UTC, and of those without: how many, and where the first is.
        self.n_times = {True: 0, False: 0}
        self.first_time: dict[bool, tuple[int, str]] = {}

    def read(self, batch: pa.RecordBatch) -> None:
        cells = {column: batch.column(name) for column, name in self.names.items()}
        if self.asked is not None:
            cells["energy"] = asked_for(cells["energy"], batch.column(self.asked))
        for column, texts in self.texts.items():
            self._add(column, texts.read(self.names[column], cells[column]))
        arrival = self._read_times("arrival", cells["arrival"], None)
        self._read_times("departure", cells["departure"], arrival)
        for column in ("energy", *DEFAULTS):
            if column in cells:
                self._read_numbers(column, cells[column])
        self.n_rows += batch.num_rows

    def _read_times(
        self, column: str, cells: pa.Array, not_before: npt.NDArray[np.int64] | None
    ) -> npt.NDArray[np.int64]:
        name = self.names[column]
        times = read_times(name, cells)
        bad = times.wrong | times.empty
        self._refuse(name, cells, A_TIME, bad)
        for has_offset in (True, False):
            there = np.flatnonzero((times.has_offset == has_offset) & ~bad)
            self.n_times[has_offset] += len(there)
            if len(there):
                place = (self.n_rows + int(there[0]), name)
                self.first_time[has_offset] = min(self.first_time.get(has_offset, place), place)
        instants = times.microseconds
        if self.zone is not None:
            local = ~times.has_offset & ~bad
            if local.all():
                instants = to_utc(instants, self.zone, not_before)
            elif local.any():
                before = None if not_before is None else not_before[local]
                instants = instants.copy()
                instants[local] = to_utc(instants[local], self.zone, before)
        self._add(column, instants // 1000)
        return instants

    def _read_numbers(self, column: str, cells: pa.Array) -> None:
        numbers, empty, wrong = read_numbers(self.names[column], cells)
        rule = A_NUMBER
        if column in NEEDED:
            wrong = wrong | empty
        else:
            numbers = np.where(empty | wrong, DEFAULTS[column], numbers)
        if column == "priority":
            rule = "a whole number"
            wrong = wrong | (numbers != np.floor(numbers)) | (np.abs(numbers) >= 2.0**53)
            numbers = np.where(wrong, 0.0, numbers).astype(np.int64)
        self._refuse(self.names[column], cells, rule, wrong)
        self._add(column, numbers)

    def _refuse(self, name: str, cells: pa.Array, rule: str, wrong: npt.NDArray[np.bool_]) -> None:
        for row in np.flatnonzero(wrong).tolist():
            cell = cells[row].as_py()
            got = "nothing" if cell is None else repr(cell) if isinstance(cell, str) else str(cell)
            # What is wrong first is what is told.
            self.bad.setdefault(self.n_rows + row, f"{name} must be {rule}, got {got}")

    def _add(self, column: str, part: npt.NDArray[Any]) -> None:
        self.parts.setdefault(column, []).append(part)

    def require_one_kind_of_times(self) -> None:
        """Refuse times with an offset from UTC beside such without; and these without a zone."""
        if len(self.first_time) == 2:
            raise InputError(
                f"{self.source.name} must have an offset from UTC at all times or at none, got one "
                f"in {self._place(True)} and none in {self._place(False)} "
                f"({self.n_times[False]} of {sum(self.n_times.values())} times have none)"
            )
        if False in self.first_time and self.zone is None:
            raise InputError(
                f"{self.source.name} must have times with an offset from UTC, got none in "
                f"{self._place(False)}: time_zone='Europe/London', or --time-zone Europe/London, "
                "says whose wall clock it is"
            )

    def _place(self, has_offset: bool) -> str:
        row, name = self.first_time[has_offset]
        (number,) = self.source.places(np.array([row]))
        return f"{self.source.counts_in} {number} ({name})"

    def sessions(self) -> Sessions:
        """Return all rows; those that are bad have any values."""
        columns: dict[str, Any] = {column: self._take(column) for column in self.parts}
        keys: dict[str, Any] = {"group": columns.pop("group", None)}
        if keys["group"] is not None:
            keys["groups"] = tuple(self.texts["group"].codes)
        if (station := columns.pop("chargestation", None)) is not None:
            plug = columns.pop("connector", None)
            keys |= _connectors(self.texts, station, plug)
        for column, default in DEFAULTS.items():
            values = columns.get(column)
            if values is not None and np.array_equal(
                values, np.full(1, default).repeat(len(values)), equal_nan=column != "priority"
            ):
                del columns[column]
        return Sessions(**columns, **keys)

    def _take(self, column: str) -> npt.NDArray[Any]:
        parts = self.parts[column]
        whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
        parts.clear()
        return whole


def _connectors(
    texts: Mapping[str, Texts], station: npt.NDArray[np.int32], plug: npt.NDArray[np.int32] | None
) -> dict[str, Any]:
    """Return codes of pairs of a charge station and a connector, and what they stand for."""
    stations = list(texts["chargestation"].codes)
    plugs = [ANY_CONNECTOR, *(texts["connector"].codes if plug is not None else ())]
    # -1, no id, comes to stand for any connector.
    pair = station.astype(np.int64) * len(plugs)
    if plug is not None:
        pair += plug + 1
    pair[station < 0] = -1
    known, codes = np.unique(pair, return_inverse=True)
    shift = int(known[0] == -1)
    return {
        "connector": (codes - shift).astype(np.int32),
        "connectors": tuple(
            (stations[at], plugs[which])
            for at, which in (divmod(code, len(plugs)) for code in known[shift:].tolist())
        ),
    }


def read(
    source: Source,
    *,
    site: Site | None = None,
    columns: Mapping[str, str] | None = None,
    time_zone: str | None = None,
    asked: str | None = None,
    skip_bad_rows: str | PathLike[str] | None = None,
) -> Reading:
    """Read a table; see `wattfill.simulation.read_sessions`.

    Where `asked` is the name of a column, what drivers have asked for there is the energy wanted.
    """
    zone = None if time_zone is None else find_zone(time_zone)
    names = find_columns(source.name, source.columns, columns)
    if asked is not None and asked not in source.columns:
        raise InputError(
            f"{source.name} must have the column {asked!r} for what drivers have asked for, got "
            f"{', '.join(source.columns)}"
        )
    reader = _Reader(source, names, zone, asked)
    wanted = [*names.values(), *([] if asked is None else [asked])]
    for batch in source.batches(list(dict.fromkeys(wanted))):
        if batch.num_rows:
            reader.read(batch)
    misshapen = source.misshapen()
    n_rows = reader.n_rows + len(misshapen)
    if not n_rows:
        raise InputError(f"{source.name} must have a session, got a table without rows")
    reader.require_one_kind_of_times()
    bad = reader.bad
    sessions = None
    if reader.n_rows:
        sessions = reader.sessions()
        if bad:
            sessions = sessions.take(~np.isin(np.arange(reader.n_rows), list(bad)))
        # With a row that is left out, what was wrong with another one may be gone or come.
        while found := problems(sessions, site):
            row = np.arange(reader.n_rows) if sessions.row is None else sessions.row
            for problem in found:
                name = names.get(problem.column, problem.column)
                bad.setdefault(problem.row, f"{name} {problem.rule}, got {problem.value}")
            sessions = sessions.take(~np.isin(row, list(bad)))
    _tell(source, bad, misshapen, n_rows, skip_bad_rows)
    n_bad = len(bad) + len(misshapen)
    if sessions is None or n_bad == n_rows:
        raise InputError(f"{source.name} must have a session, got {n_rows} broken rows alone")
    return Reading(sessions, n_rows, n_bad)


def _tell(
    source: Source,
    bad: Mapping[int, str],
    misshapen: Sequence[tuple[int, str, list[str]]],
    n_rows: int,
    skip_bad_rows: str | PathLike[str] | None,
) -> None:
    """Refuse the bad rows, or write them to a file."""
    n_bad = len(bad) + len(misshapen)
    if not n_bad:
        return
    rows: Rows = np.array(sorted(bad), np.int64)
    places = source.places(rows)
    if skip_bad_rows is None:
        told = [(place, bad[row]) for place, row in zip(places, rows.tolist(), strict=True)]
        place, reason = min(told + [(place, reason) for place, reason, _ in misshapen])
        more = f" ({n_bad} of {n_rows} rows are broken; {SKIP})"
        raise InputError(f"{source.name}: {source.counts_in} {place}: {reason}{more}")
    told_with_cells = [
        (place, bad[row], cells)
        for place, row, cells in zip(places, rows.tolist(), source.cells(rows), strict=True)
    ]
    with (
        whole_file(skip_bad_rows) as path,
        open(path, "w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([source.counts_in, "reason", *source.columns])
        for place, reason, cells in sorted([*told_with_cells, *misshapen]):
            writer.writerow([place, reason, *cells])
