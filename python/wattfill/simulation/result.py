"""What came out of a simulation: tables, curves, and files of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from wattfill import _simulate
from wattfill._records import QUANTA_PER_KW
from wattfill.errors import InputError, MissingExtraError, UnknownIdError
from wattfill.simulation._files import whole_file
from wattfill.simulation.tables import Floats, Schedule, Sessions, Site, Times

NEVER = np.iinfo(np.int64).max
"""In place of the time at which a session was full, where it never was."""
UJ_PER_KWH = 3_600_000_000_000
MS_PER_HOUR = 3_600_000
ROWS_AT_ONCE = 1 << 20
"""How many rows a file is written in, so that a table need not fit into memory twice."""

Column: TypeAlias = Callable[[slice], npt.NDArray[Any]]


class Table(Mapping[str, npt.NDArray[Any]]):
    """Named columns of one length. It never changes; a column is made when it is asked for.

    Examples
    --------
    >>> t = Table({"group": np.array(["N", "S"], object), "peak_kw": np.array([22.0, 7.4])})
    >>> t["peak_kw"].max(), len(t.columns), t.n_rows
    (np.float64(22.0), 2, 2)
    >>> t.to_dicts()[1]
    {'group': 'S', 'peak_kw': 7.4}

    """

    __slots__ = ("_columns", "n_rows")

    def __init__(self, columns: Mapping[str, npt.NDArray[Any] | Column], n_rows: int = -1) -> None:
        self._columns = dict(columns)
        self.n_rows = n_rows
        """How many rows there are."""
        if n_rows < 0:
            self.n_rows = len(self[self.columns[0]])

    @property
    def columns(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self._columns)

    def part(self, name: str, rows: slice) -> npt.NDArray[Any]:
        """Return some rows of a column."""
        column = self._columns[name]
        if callable(column):
            return column(rows)
        some = column[rows]
        some.flags.writeable = False
        return some

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return self.part(name, slice(None))

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return every row as a dict of Python's own numbers, strings and dates."""
        lists = [self[name].tolist() for name in self.columns]
        return [dict(zip(self.columns, row, strict=True)) for row in zip(*lists, strict=True)]

    def to_arrow(self) -> Any:
        """Return a `pyarrow.Table`."""
        return self._arrow(slice(0, self.n_rows))

    def _arrow(self, rows: slice) -> Any:
        pa = _pyarrow()
        return pa.table({name: self._arrow_column(name, rows) for name in self.columns})

    def _arrow_column(self, name: str, rows: slice) -> Any:
        values = self.part(name, rows)
        pa = _pyarrow()
        if values.dtype == object:
            return pa.array(values, pa.string())
        if values.dtype.kind == "M":
            return pa.array(values).cast(pa.timestamp("ms", "UTC"))
        return pa.array(values)

    def to_pandas(self) -> Any:
        """Return a `pandas.DataFrame`."""
        return self.to_arrow().to_pandas()

    def to_polars(self) -> Any:
        """Return a `polars.DataFrame`."""
        try:
            import polars
        except ImportError:
            raise MissingExtraError("to_polars needs polars: pip install polars") from None
        return polars.from_arrow(self.to_arrow())

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self.to_arrow().__arrow_c_stream__(requested_schema)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a Parquet file, under a temporary name until it is complete.

        Parameters
        ----------
        path : path-like
            Of the file; one that is there is replaced.

        Raises
        ------
        InputError
            If it cannot be written there.

        """
        pq = _pyarrow("pyarrow.parquet")
        with whole_file(path) as unfinished:
            schema = self._arrow(slice(0, 0)).schema
            with pq.ParquetWriter(unfinished, schema, compression="zstd") as writer:
                for start in range(0, self.n_rows, ROWS_AT_ONCE):
                    stop = min(start + ROWS_AT_ONCE, self.n_rows)
                    writer.write_table(self._arrow(slice(start, stop)))

    def __repr__(self) -> str:
        shown = min(self.n_rows, 20)
        cells = [[_shown(x) for x in self.part(name, slice(0, shown)).tolist()] for name in self]
        widths = [max(map(len, [name, *column])) for name, column in zip(self, cells, strict=True)]
        lines = [list(self.columns), *map(list, zip(*cells, strict=True))]
        text = [
            "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
            for line in lines
        ]
        if shown < self.n_rows:
            text.append(f"... {self.n_rows:,} rows")
        return "\n".join(text)


def _shown(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _pyarrow(module: str = "pyarrow") -> Any:
    try:
        return import_module(module)
    except ImportError:
        raise MissingExtraError(
            "tables of a simulation need pyarrow: pip install 'wattfill[simulation]'"
        ) from None


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """A power over time: constant between changes, and 0 before the first of them.

    Examples
    --------
    11 kW for an hour:

    >>> curve = Curve(np.array([0, 3_600_000]), np.array([11_000_000, 0]))
    >>> curve.power
    array([11.,  0.])
    >>> curve.energy(), curve.value(1_800_000)
    (39600000000000, 11.0)
    >>> curve.sampled(1_800_000, 0, 7_200_000)["mean_kw"]
    array([11., 11.,  0.,  0.])

    """

    at: Times
    """(n,) Milliseconds since the epoch, UTC, rising: when it changes."""
    quanta: Times
    """(n,) mW from then on."""

    @property
    def power(self) -> Floats:
        """(n,) kW from then on."""
        return self.quanta / QUANTA_PER_KW

    def value(self, at: int) -> float:
        """Return the power at a time, in kW."""
        k = int(np.searchsorted(self.at, at, "right")) - 1
        return float(self.quanta[k]) / QUANTA_PER_KW if k >= 0 else 0.0

    def energy(self) -> int:
        """Return the exact integral up to the last change, in microjoules."""
        return sum(
            power * time
            for power, time in zip(
                self.quanta[:-1].tolist(), np.diff(self.at).tolist(), strict=True
            )
        )

    def between(self, start: int, stop: int) -> Curve:
        """Return what holds from `start` to before `stop`, with a change at `start`."""
        first, last = np.searchsorted(self.at, [start, stop], "left").tolist()
        at, quanta = self.at[first:last], self.quanta[first:last]
        if at.size == 0 or at[0] != start:
            before = self.quanta[first - 1] if first else 0
            at, quanta = np.insert(at, 0, start), np.insert(quanta, 0, before)
        return Curve(at, quanta)

    def sampled(self, step: int, start: int, stop: int) -> Table:
        """Return mean and largest power in every `step` ms from `start` to `stop`.

        Parameters
        ----------
        step : int
            Milliseconds, at least 1; the last one ends at `stop`, and may be shorter.
        start, stop : int
            Milliseconds since the epoch.

        Returns
        -------
        Table
            With the columns ``at`` (when a step begins), ``mean_kw`` and ``peak_kw``.

        """
        if step < 1 or stop < start:
            raise InputError(
                f"step must be at least 1 and stop not before start, got step = {step}, "
                f"start = {start}, stop = {stop}"
            )
        edges = np.append(np.arange(start, stop, step, dtype=np.int64), stop)
        if edges.size == 1:
            nothing = np.zeros(0)
            return Table({"at": dates(edges[:0]), "mean_kw": nothing, "peak_kw": nothing})
        # Every step begins with a change, so that each change lies within one.
        here = self.between(start, stop)
        at = np.union1d(here.at, edges[:-1])
        power = here.power[np.searchsorted(here.at, at, "right") - 1]
        first = np.searchsorted(at, edges[:-1])
        energy = power * np.diff(np.append(at, stop))
        return Table(
            {
                "at": dates(edges[:-1]),
                "mean_kw": np.add.reduceat(energy, first) / np.diff(edges),
                "peak_kw": np.maximum.reduceat(power, first),
            }
        )


def dates(at: Times) -> npt.NDArray[np.datetime64]:
    """Return times as dates; what never comes to pass is no date."""
    found: npt.NDArray[np.datetime64] = at.astype("datetime64[ms]")
    if (at == NEVER).any():
        found[at == NEVER] = np.datetime64("NaT")
    return found


@dataclass(frozen=True, slots=True, eq=False)
class SimulationResult:
    """What sessions were delivered, and what groups drew.

    Numbers are exact: powers in mW, times in ms, energies in microjoules. `sessions` and `groups`
    are tables of them in the units that people use.
    """

    strategy: str
    start: int
    """Milliseconds since the epoch: shares of time are of what lies between this and `stop`."""
    stop: int
    source: Sessions
    site: Site
    schedule: Schedule | None
    n_events: int
    """Arrivals, departures, batteries that were full or took less, turns, changes of capacity."""
    n_solved: int
    """How often power was shared out because not everybody could have the maximum."""
    connector: npt.NDArray[np.int32]
    """(n_sessions,) Place of the connector at the site, or -1: turned away."""
    delivered: Times
    """(n_sessions,) Microjoules."""
    full_at: Times
    """(n_sessions,) When it had what it wanted, or its battery was full; else `NEVER`."""
    paused: Times
    """(n_sessions,) Milliseconds in which it wanted energy and drew nothing."""
    arrays: Mapping[str, npt.NDArray[Any]]
    """Of groups, with all that is below them, by the names that `simulate.h` has."""
    steps: Mapping[str, npt.NDArray[np.int64]]
    """Changes of powers, (place of the group or of the session, ms, mW), where they were kept."""

    # Sessions

    @property
    def sessions(self) -> Table:
        """One row per session, in the order in which they came in.

        ``row`` in the source; ``group``, ``station``, ``connector`` where it charged, or, turned
        away, where it wanted to; ``arrival``, ``departure``; ``turned_away``; ``wanted_kwh``,
        ``energy_kwh``; ``share`` of what was wanted (1 where nothing was); ``full_at``, a date or
        none; ``paused_hours`` in which it wanted energy and drew nothing; ``mean_kw`` over the time
        in which it wanted energy.
        """
        s, site = self.source, self.site
        groups = np.array([*site.groups, ""], object)
        stations = np.array([*(station for station, _ in site.connectors), ""], object)
        plugs = np.array([*(plug for _, plug in site.connectors), ""], object)
        return Table(
            {
                "row": self._row if s.row is None else s.row,
                "group": lambda rows: groups[self._group(rows)],
                "station": lambda rows: stations[self.connector[rows]],
                "connector": lambda rows: plugs[self.connector[rows]],
                "arrival": lambda rows: dates(s.arrival[rows]),
                "departure": lambda rows: dates(s.departure[rows]),
                "turned_away": lambda rows: self.connector[rows] < 0,
                "wanted_kwh": s.energy,
                "energy_kwh": lambda rows: self.delivered[rows] / UJ_PER_KWH,
                "share": self._share,
                "full_at": lambda rows: dates(self.full_at[rows]),
                "paused_hours": lambda rows: self.paused[rows] / MS_PER_HOUR,
                "mean_kw": self._mean,
            },
            len(s),
        )

    def _row(self, rows: slice) -> Times:
        return np.arange(*rows.indices(len(self.source)))

    def _group(self, rows: slice) -> Times:
        """Return the place of the group that each session came to."""
        s, site = self.source, self.site
        plug = self.connector[rows]
        owner = np.append(site.owner, -1)
        found: Times = owner[plug]
        away = np.flatnonzero(plug < 0)
        if away.size == 0:
            return found
        if s.group is not None:
            place = {name: g for g, name in enumerate(site.groups)}
            at = np.array([*(place[name] for name in s.groups), -1], np.int64)
            found[away] = at[s.group[rows][away]]
        if s.connector is not None:
            of_station = {
                station: g for (station, _), g in zip(site.connectors, site.owner, strict=True)
            }
            at = np.array([*(of_station[station] for station, _ in s.connectors), -1], np.int64)
            lost = away[found[away] < 0]
            found[lost] = at[s.connector[rows][lost]]
        return found

    def _share(self, rows: slice) -> Floats:
        wanted = np.rint(self.source.energy[rows] * UJ_PER_KWH)
        return np.where(wanted > 0, self.delivered[rows] / np.maximum(wanted, 1.0), 1.0)

    def _mean(self, rows: slice) -> Floats:
        s = self.source
        time = np.minimum(self.full_at[rows], s.departure[rows]) - s.arrival[rows]
        return np.where(time > 0, self.delivered[rows] / np.maximum(time, 1) / QUANTA_PER_KW, 0.0)

    # Groups

    def energy(self, group: str) -> int:
        """Return what was delivered in a group and below it, exactly, in microjoules."""
        return _joined(self.arrays["group_energy"])[self._place(group)]

    @property
    def groups(self) -> Table:
        """One row per group, each with all that is below it.

        ``group``; ``sessions``, and of these ``turned_away``; ``wanted_kwh`` by those who found a
        connector, ``energy_kwh`` delivered, ``unmet_kwh`` between these; ``refused_kwh`` wanted by
        those turned away; ``mean_kw``, ``p95_kw`` (not passed for 95 % of the time) and ``peak_kw``
        of the load; ``limiting_hours`` in which its capacity held somebody down or paused;
        ``over_hours`` in which the load passed the usable capacity, and ``over_kw``, by how much at
        most.
        """
        a = self.arrays
        energy, wanted, refused = (
            _joined(a[name]) for name in ("group_energy", "group_wanted", "group_refused")
        )
        time = self.stop - self.start
        return Table(
            {
                "group": np.array(self.site.groups, object),
                "sessions": a["n_sessions"],
                "turned_away": a["n_turned_away"],
                "wanted_kwh": _kwh(wanted),
                "energy_kwh": _kwh(energy),
                "unmet_kwh": _kwh([w - e for w, e in zip(wanted, energy, strict=True)]),
                "refused_kwh": _kwh(refused),
                "mean_kw": np.array(
                    [e / (time * QUANTA_PER_KW) if time else 0.0 for e in energy], np.float64
                ),
                "p95_kw": a["p95"] / QUANTA_PER_KW,
                "peak_kw": a["peak"] / QUANTA_PER_KW,
                "limiting_hours": a["limiting"] / MS_PER_HOUR,
                "over_hours": a["over"] / MS_PER_HOUR,
                "over_kw": a["over_peak"] / QUANTA_PER_KW,
            },
            len(self.site.groups),
        )

    @property
    def summary(self) -> dict[str, Any]:
        """All trees of groups together, in one row.

        Energies, sessions and hours are added up over the groups that nothing feeds; ``peak_kw``
        and ``over_kw`` are those of the one that has most. ``share`` is of all energy that was
        wanted, also by those turned away; ``full`` is the share of sessions that were full in the
        end; ``paused_hours`` are those of all sessions.
        """
        groups, roots = self.groups, self.site.roots
        a = self.arrays
        energy, wanted, refused = (
            sum(_joined(a[name][roots]))
            for name in ("group_energy", "group_wanted", "group_refused")
        )
        n = len(self.source)
        return {
            "strategy": self.strategy,
            "sessions": n,
            "turned_away": int(a["n_turned_away"][roots].sum()),
            "energy_kwh": energy / UJ_PER_KWH,
            "unmet_kwh": (wanted - energy) / UJ_PER_KWH,
            "refused_kwh": refused / UJ_PER_KWH,
            "share": energy / (wanted + refused) if wanted + refused else 1.0,
            "full": int((self.full_at != NEVER).sum()) / n if n else 1.0,
            "paused_hours": sum(map(int, _parts(self.paused))) / MS_PER_HOUR,
            "peak_kw": float(groups["peak_kw"][roots].max(initial=0.0)),
            "limiting_hours": int(a["limiting"][roots].sum()) / MS_PER_HOUR,
            "over_hours": int(a["over"][roots].sum()) / MS_PER_HOUR,
            "over_kw": float(groups["over_kw"][roots].max(initial=0.0)),
        }

    def _place(self, group: str) -> int:
        if group not in self.site.groups:
            raise UnknownIdError(f"group must be a group of the site, got {group!r}")
        return self.site.groups.index(group)

    # Curves

    def curve(self, group: str) -> Curve:
        """Return what a group and all below it drew over time.

        Raises
        ------
        InputError
            If the simulation was not asked for curves.
        UnknownIdError
            If there is no such group.

        """
        g = self._place(group)
        steps = self._kept("groups")
        start, stop = np.searchsorted(steps[:, 0], [g, g + 1])
        return Curve(steps[start:stop, 1], steps[start:stop, 2])

    def limit(self, group: str) -> Curve:
        """Return the usable capacity of a group over time."""
        g = self._place(group)
        capacity, reserved = float(self.site.capacity[g]), float(self.site.reserved[g])
        changes = [(self.start, np.nan, np.nan)]
        if self.schedule is not None and group in self.schedule.groups:
            s = self.schedule
            rows = np.flatnonzero(s.group == s.groups.index(group))
            rows = rows[np.argsort(s.at[rows], kind="stable")]
            none = np.full(len(s), np.nan)
            capacities = none if s.capacity is None else s.capacity
            loads = none if s.reserved is None else s.reserved
            changes += zip(s.at[rows].tolist(), capacities[rows], loads[rows], strict=True)
        found: dict[int, int] = {}
        for at, new_capacity, new_reserved in changes:
            capacity = capacity if np.isnan(new_capacity) else float(new_capacity)
            reserved = reserved if np.isnan(new_reserved) else float(new_reserved)
            found[max(at, self.start)] = _simulate.usable(
                capacity, float(self.site.buffer[g]), reserved, QUANTA_PER_KW
            )
        return Curve(np.array(list(found), np.int64), np.array(list(found.values()), np.int64))

    def connector_curves(self, group: str) -> dict[tuple[str, str], Curve]:
        """Return what every connector of a group, not below it, drew over time.

        Raises
        ------
        InputError
            If the simulation was not asked for the curves of sessions.
        UnknownIdError
            If there is no such group.

        """
        g = self._place(group)
        steps = self._kept("sessions")
        plugs = np.flatnonzero(self.site.owner == g)
        taken = self.connector[steps[:, 0]]
        curves = {}
        for i in plugs.tolist():
            of_plug = steps[taken == i]
            # Where one session ends and the next begins at once, what is drawn then counts.
            last = np.append(of_plug[1:, 1] != of_plug[:-1, 1], True)[: len(of_plug)]
            curves[self.site.connectors[i]] = Curve(of_plug[last, 1], of_plug[last, 2])
        return curves

    def session_curve(self, session: int) -> Curve:
        """Return what a session drew over time, by its place in the table."""
        steps = self._kept("sessions")
        own = steps[steps[:, 0] == session]
        last = np.append(own[1:, 1] != own[:-1, 1], True)[: len(own)]
        return Curve(own[last, 1], own[last, 2])

    def _kept(self, what: str) -> npt.NDArray[np.int64]:
        if what not in self.steps:
            raise InputError(
                f"curves must be asked for: simulate(..., curves={what!r}), got none of them"
            )
        return self.steps[what]

    # Files

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write ``sessions.parquet``, ``groups.parquet``, and ``curves.parquet`` if there are any.

        Parameters
        ----------
        folder : path-like
            Made if it is not there. Each file has a temporary name until it is complete.

        """
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        self.sessions.save(path / "sessions.parquet")
        self.groups.save(path / "groups.parquet")
        if "groups" in self.steps:
            names = np.array(self.site.groups, object)
            steps = self.steps["groups"]
            Table(
                {
                    "group": lambda rows: names[steps[rows, 0]],
                    "at": lambda rows: dates(steps[rows, 1]),
                    "power_kw": lambda rows: steps[rows, 2] / QUANTA_PER_KW,
                },
                len(steps),
            ).save(path / "curves.parquet")

    def __repr__(self) -> str:
        s = self.summary
        return (
            f"<SimulationResult of {self.strategy!r}: {s['sessions']:,} sessions, "
            f"{s['turned_away']:,} turned away, {s['energy_kwh']:,.1f} kWh, "
            f"{100 * s['share']:.1f} % of what was wanted>"
        )


def _parts(values: Times) -> Iterator[np.int64]:
    """Add up parts that cannot overflow."""
    for start in range(0, len(values), ROWS_AT_ONCE):
        yield values[start : start + ROWS_AT_ONCE].sum()


def _joined(limbs: npt.NDArray[np.int64]) -> list[int]:
    """Return whole numbers from (high, low), high * 2**62 + low."""
    return [(high << 62) + low for high, low in limbs.tolist()]


def _kwh(energies: Sequence[int]) -> Floats:
    return np.array([energy / UJ_PER_KWH for energy in energies], np.float64)
