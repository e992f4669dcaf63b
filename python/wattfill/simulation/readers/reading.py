"""Sessions out of a table: every row is read or told of, none is dropped in silence."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt

from wattfill.errors import InputError
from wattfill.simulation._files import is_same_file, whole_file
from wattfill.simulation._pyarrow import pa
from wattfill.simulation.readers.acn import asked_for
from wattfill.simulation.readers.cells import A_NUMBER, A_TIME, Texts, read_numbers, read_times
from wattfill.simulation.readers.clock import find_zone, to_utc
from wattfill.simulation.readers.columns import NEEDED, find_columns
from wattfill.simulation.readers.sources import Rows, Source
from wattfill.simulation.tables import ANY_CONNECTOR, Sessions, Site
from wattfill.simulation.validate import faults

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


class Reader:
    """A table of sessions that is read; see `wattfill.simulation.read_sessions`.

    Parameters
    ----------
    source : Source
        The table.
    site, columns, time_zone, skip_bad_rows
        As of `read_sessions`.
    asked : str, optional
        A column with what drivers have asked for, which is then the energy wanted.
    check : bool
        Whether to look for rows that break a rule, or leave that to `simulate`.

    """

    def __init__(
        self,
        source: Source,
        *,
        site: Site | None = None,
        columns: Mapping[str, str] | None = None,
        time_zone: str | None = None,
        asked: str | None = None,
        skip_bad_rows: str | PathLike[str] | None = None,
        check: bool = True,
    ) -> None:
        self.zone = None if time_zone is None else find_zone(time_zone)
        self.source = source
        self.names = find_columns(source.name, source.columns, columns)
        if asked is not None and asked not in source.columns:
            raise InputError(
                f"{source.name} must have the column {asked!r} for what drivers have asked for, "
                f"got {', '.join(source.columns)}"
            )
        if skip_bad_rows is not None and is_same_file(skip_bad_rows, source.name):
            raise InputError(
                f"skip_bad_rows must be another file than what is read, got {source.name}"
            )
        self.asked = asked
        self.site = site
        self.skip_bad_rows = skip_bad_rows
        self.check = check
        self.n_rows = 0
        """How many rows there have been so far; once all are read, with lines that are none."""
        self.n_skipped = 0
        """How many of them are left out."""
        self._start = 0
        # By row what is wrong with it.
        self._bad: dict[int, str] = {}
        self._texts = {column: Texts() for column in TEXTS if column in self.names}
        self._parts: dict[str, list[npt.NDArray[Any]]] = {}
        # Of times with an offset from UTC, and of those without: how many, and where the first is.
        self._n_times = {True: 0, False: 0}
        self._first_time: dict[bool, tuple[int, str]] = {}

    def pieces(self, at_least: int | None = None) -> Iterator[Sessions]:
        """Yield the sessions of so many rows at a time, or of all; what is broken is told at last.

        Whether sessions overlap can be told of those of a piece only.
        """
        n_read = 0
        wanted = [*self.names.values(), *([] if self.asked is None else [self.asked])]
        for batch in self.source.batches(list(dict.fromkeys(wanted))):
            if batch.num_rows:
                self._read(batch)
            if at_least is not None and self.n_rows - self._start >= at_least:
                yield (piece := self._piece())
                n_read += len(piece)
        misshapen = self.source.misshapen()
        if not self.n_rows and not misshapen:
            raise InputError(f"{self.source.name} must have a session, got a table without rows")
        last = self._piece() if self.n_rows > self._start else None
        n_read += 0 if last is None else len(last)
        self.n_rows += len(misshapen)
        self.n_skipped = self.n_rows - n_read
        self._tell(misshapen)
        if not n_read:
            raise InputError(
                f"{self.source.name} must have a session, got {self.n_rows} broken rows alone"
            )
        if last is not None:
            yield last

    def _piece(self) -> Sessions:
        """Return the sessions of the rows since the last piece, but for those that are broken."""
        self._require_one_kind_of_times()
        sessions = self._sessions()
        row = np.arange(self._start, self.n_rows)
        start, self._start = self._start, self.n_rows
        if start:
            sessions = replace(sessions, row=row)
        if bad := [row - start for row in self._bad if row >= start]:
            sessions = sessions.take(np.delete(np.arange(len(row)), bad))
        # Where a row is left out, what was wrong with another one may be gone.
        while self.check and (found := list(faults(sessions, self.site))):
            row = np.arange(len(sessions)) if sessions.row is None else sessions.row
            # Overlaps come last; they are looked for again among those that are whole.
            first = [fault for fault in found if fault.column != "arrival"] or found
            keep = np.ones(len(sessions), np.bool_)
            for fault in first:
                keep[fault.rows] = False
                for i in fault.rows.tolist():
                    self._bad.setdefault(int(row[i]), self._in_its_words(fault.say(i)))
            sessions = sessions.take(keep)
        return sessions

    def _in_its_words(self, said: str) -> str:
        """Say it with the name that the table has for the column."""
        column, blank, rest = said.partition(" ")
        return f"{self.names.get(column, column)}{blank}{rest}"

    def _read(self, batch: pa.RecordBatch) -> None:
        cells = {column: batch.column(name) for column, name in self.names.items()}
        if self.asked is not None:
            cells["energy"] = asked_for(cells["energy"], batch.column(self.asked))
        for column, texts in self._texts.items():
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
            self._n_times[has_offset] += len(there)
            if len(there):
                place = (self.n_rows + int(there[0]), name)
                self._first_time[has_offset] = min(self._first_time.get(has_offset, place), place)
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
            self._bad.setdefault(self.n_rows + row, f"{name} must be {rule}, got {got}")

    def _add(self, column: str, part: npt.NDArray[Any]) -> None:
        self._parts.setdefault(column, []).append(part)

    def _require_one_kind_of_times(self) -> None:
        """Refuse times with an offset from UTC beside such without; and these without a zone."""
        if len(self._first_time) == 2:
            raise InputError(
                f"{self.source.name} must have an offset from UTC at all times or at none, got one "
                f"in {self._place(True)} and none in {self._place(False)} "
                f"({self._n_times[False]} of {sum(self._n_times.values())} times have none)"
            )
        if False in self._first_time and self.zone is None:
            raise InputError(
                f"{self.source.name} must have times with an offset from UTC, got none in "
                f"{self._place(False)}: time_zone='Europe/London', or --time-zone Europe/London, "
                "says whose wall clock it is"
            )

    def _place(self, has_offset: bool) -> str:
        row, name = self._first_time[has_offset]
        (number,) = self.source.places(np.array([row]))
        return f"{self.source.counts_in} {number} ({name})"

    def _sessions(self) -> Sessions:
        """Return all rows; those that are bad have any values."""
        columns: dict[str, Any] = {column: self._take(column) for column in self._parts}
        keys: dict[str, Any] = {"group": columns.pop("group", None)}
        if keys["group"] is not None:
            keys["groups"] = tuple(self._texts["group"].codes)
        if (station := columns.pop("chargestation", None)) is not None:
            plug = columns.pop("connector", None)
            keys |= _connectors(self._texts, station, plug)
        for column, default in DEFAULTS.items():
            values = columns.get(column)
            if values is not None and np.array_equal(
                values, np.full(1, default).repeat(len(values)), equal_nan=column != "priority"
            ):
                del columns[column]
        return Sessions(**columns, **keys)

    def _take(self, column: str) -> npt.NDArray[Any]:
        parts = self._parts[column]
        whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
        parts.clear()
        return whole

    def _tell(self, misshapen: Sequence[tuple[int, str, list[str]]]) -> None:
        """Refuse the bad rows, or write them to a file."""
        if not self.n_skipped:
            return
        source = self.source
        rows: Rows = np.array(sorted(self._bad), np.int64)
        places, reasons = source.places(rows), [self._bad[row] for row in rows.tolist()]
        if self.skip_bad_rows is None:
            told = [*zip(places, reasons, strict=True), *(line[:2] for line in misshapen)]
            place, reason = min(told)
            raise InputError(
                f"{source.name}: {source.counts_in} {place}: {reason} "
                f"({self.n_skipped} of {self.n_rows} rows are broken; {SKIP})"
            )
        told_with_cells = zip(places, reasons, source.cells(rows), strict=True)
        with (
            whole_file(self.skip_bad_rows) as path,
            open(path, "w", encoding="utf-8", newline="") as file,
        ):
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow([source.counts_in, "reason", *source.columns])
            for place, reason, cells in sorted([*told_with_cells, *misshapen]):
                writer.writerow([place, reason, *cells])


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
