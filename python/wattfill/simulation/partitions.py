"""Parts of a large simulation: trees of groups side by side have nothing to do with each other.

A part is small and says where its sessions come from: a seed and a range of groups, or a pair of
files. A worker makes or reads them, simulates, and writes what comes of it to Parquet files of its
own, so that neither sessions nor results go through anybody's hands, and as many fit as the disk
holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wattfill.errors import InputError
from wattfill.simulation._files import whole_file
from wattfill.simulation._pyarrow import pa
from wattfill.simulation.executors import IN_FLIGHT, RETRIES, Pool, run
from wattfill.simulation.readers import make_reader
from wattfill.simulation.readers.columns import COLUMNS
from wattfill.simulation.result import NEVER
from wattfill.simulation.run import Strategy, simulate
from wattfill.simulation.synthetic import generate, synthetic_site
from wattfill.simulation.tables import Sessions, Site, Taper
from wattfill.simulation.writing import INSTANT, sessions_to_arrow

Places = npt.NDArray[np.int64]

KINDS = {"text": pa.string(), "time": INSTANT, "number": pa.float64()}
SCHEMA = pa.schema([(name, KINDS[column.kind]) for name, column in COLUMNS.items()]).append(
    pa.field("row", pa.int64())
)
"""Of the sessions of a part; `row` is where a session stands among all."""


@dataclass(frozen=True)
class SyntheticPart:
    """Some groups of a synthetic fleet: what `generate` and `synthetic_site` make them from."""

    kind: str
    groups: range
    fleet: tuple[tuple[str, Any], ...] = ()
    """Further arguments of `generate`."""
    site: tuple[tuple[str, Any], ...] = ()
    """Further arguments of `synthetic_site`."""

    def load(self) -> tuple[Sessions, Site]:
        """Return its sessions and its groups."""
        fleet, site = dict(self.fleet), dict(self.site)
        return (
            generate(self.kind, groups=self.groups, **fleet),
            synthetic_site(self.kind, groups=self.groups, **site),
        )


@dataclass(frozen=True)
class FilePart:
    """Some trees of groups, and their sessions, in files that `split_sessions` has written."""

    sessions: str
    site: str

    def load(self) -> tuple[Sessions, Site]:
        """Return its sessions and its groups."""
        site = _load_site(self.site)
        (row,) = pa.parquet.read_table(self.sessions, columns=["row"]).columns
        if not len(row):
            none = np.zeros(0, np.int64)
            return Sessions(none, none, none.astype(np.float64), row=none), site
        # What overlaps with a row of another piece is told by its place among all.
        (sessions,) = make_reader(self.sessions, check=False).pieces()
        return replace(sessions, row=row.to_numpy()), site


Part = SyntheticPart | FilePart


def split_fleet(
    kind: str, groups: int, parts: int, *, fleet: dict[str, Any], site: dict[str, Any]
) -> list[SyntheticPart]:
    """Return parts of a synthetic fleet that together have all of its groups.

    Examples
    --------
    >>> parts = split_fleet("depot", 100, 8, fleet={"days": 7}, site={})
    >>> [len(part.groups) for part in parts]
    [12, 13, 12, 13, 12, 13, 12, 13]

    """
    bounds = [groups * i // parts for i in range(parts + 1)]
    return [
        SyntheticPart(kind, range(start, stop), tuple(fleet.items()), tuple(site.items()))
        for start, stop in pairwise(bounds)
        if stop > start
    ]


def split_sessions(
    sessions: Sessions | Iterable[Sessions], site: Site, folder: str | PathLike[str], parts: int
) -> list[FilePart]:
    """Write sessions and their site to files, a pair for each part, and return the parts.

    Parameters
    ----------
    sessions : Sessions, or iterable of Sessions
        All at once, or a piece at a time, so that only a piece has to fit in memory. Each is at a
        group or a connector of the site.
    site : Site
        All groups.
    folder : path
        Where to; it is made if need be.
    parts : int
        How many, of about as many connectors each; fewer if there are not as many trees.

    Raises
    ------
    InputError
        The files cannot be written there.

    Examples
    --------
    >>> import tempfile
    >>> from wattfill.simulation import generate, synthetic_site
    >>> sessions, site = generate("depot", groups=5, days=7), synthetic_site("depot", groups=5)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     parts = split_sessions(sessions, site, folder, 2)
    ...     [part.load()[1] for part in parts]
    [<Site: 3 groups in 3 trees, 60 connectors>, <Site: 2 groups in 2 trees, 40 connectors>]

    """
    folder = _made(Path(folder))
    part_of_group, parts = _share_out(site, parts)
    made = [
        FilePart(str(folder / f"sessions-{k:05}.parquet"), str(folder / f"site-{k:05}.npz"))
        for k in range(parts)
    ]
    for k, part in enumerate(made):
        _save_site(take_groups(site, part_of_group == k), part.site)
    with ExitStack() as files:
        writers = [
            files.enter_context(
                pa.parquet.ParquetWriter(files.enter_context(whole_file(part.sessions)), SCHEMA)
            )
            for part in made
        ]
        before = 0
        for piece in [sessions] if isinstance(sessions, Sessions) else sessions:
            row = piece.row if piece.row is not None else before + np.arange(len(piece))
            before += len(piece)
            table = _all_columns(sessions_to_arrow(piece)).append_column("row", pa.array(row))
            where = part_of_group[_group_of_rows(piece, site)]
            # All rows of a part at once, in their order.
            order = np.argsort(where, kind="stable")
            bounds = np.searchsorted(where[order], np.arange(parts + 1))
            for k, writer in enumerate(writers):
                if bounds[k + 1] > bounds[k]:
                    writer.write_table(table.take(pa.array(order[bounds[k] : bounds[k + 1]])))
    return made


@dataclass(frozen=True)
class PartedResult:
    """What came out of the parts of a simulation, in the files of a folder.

    Attributes
    ----------
    folder : Path
        With ``sessions-00000.parquet``, ``groups-00000.parquet``, ... of each part, whose columns
        are those of `SimulationResult.sessions` and `SimulationResult.groups`. The ``row`` of a
        session is its place in the table that was split, or in its part of a fleet.
    strategy : str
    period : tuple of two ints
        As of `simulate`, in milliseconds since the epoch.
    n_parts : int
    n_sessions, n_full : int
        How many sessions there were, and how many of them were full in the end.
    paused : int
        Milliseconds in which sessions wanted energy and drew nothing.

    """

    folder: Path
    strategy: str
    period: tuple[int, int]
    n_parts: int
    n_sessions: int
    n_full: int
    paused: int

    def groups(self) -> pa.Table:
        """Return the groups of all parts, in their order."""
        return self._joined("groups")

    def sessions(self) -> pa.Table:
        """Return the sessions of all parts, those of one part after those of another.

        All at once, so they have to fit into memory; else read the files.
        """
        return self._joined("sessions")

    def _joined(self, what: str) -> pa.Table:
        return pa.concat_tables(
            pa.parquet.read_table(_file(self.folder, what, k)) for k in range(self.n_parts)
        )


def simulate_parts(
    parts: Sequence[Part],
    folder: str | PathLike[str],
    *,
    executor: Executor | Callable[[], Executor] | None = None,
    strategy: Strategy = "wattfill",
    taper: Taper | None = None,
    period: tuple[int, int] | None = None,
    threads: int = 1,
    in_flight: int = IN_FLIGHT,
    retries: int = RETRIES,
    progress: Callable[[int, int], object] | None = None,
) -> PartedResult:
    """Simulate parts wherever an executor does, and leave what comes of them in a folder.

    What is in the files is the same, bit by bit, as of one call of `simulate` with all groups.

    Parameters
    ----------
    parts : sequence of SyntheticPart or FilePart
        What `split_fleet` or `split_sessions` return. Each should take a worker 0.1 to a few
        seconds: a hundred thousand to a few million sessions.
    folder : path
        Where workers write; on a cluster, one that all machines have.
    executor : Executor, or callable that makes one, optional
        As of `wattfill.simulation.executors.run`: ``processes(4)``, or of a cluster of Dask
        ``Client(address).get_executor()``. By default the parts are simulated here, one by one.
    strategy, taper : optional
        As of `simulate`.
    period : tuple of two ints, optional
        As of `simulate`, in milliseconds since the epoch; by default from the first arrival to the
        last departure, for which all parts are loaded once before.
    threads : int
        How many simulate a part.
    in_flight, retries : int
        As of `wattfill.simulation.executors.run`.
    progress : callable, optional
        Called as ``progress(done, of)`` with numbers of parts now and then.

    Raises
    ------
    InputError
        The sessions are refused, or the folder cannot be made.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     parts = split_fleet("depot", 6, 3, fleet={"days": 7}, site={})
    ...     result = simulate_parts(parts, folder)
    ...     result.groups().num_rows, result.n_sessions == result.sessions().num_rows
    (6, True)

    """
    folder = _made(Path(folder))
    options: dict[str, Any] = {"in_flight": in_flight, "retries": retries}
    n_done = 0

    def done(place: int) -> None:
        nonlocal n_done
        n_done += 1
        if progress is not None:
            progress(n_done, len(parts))

    with ExitStack() as stack:
        stack.callback(_tidy, folder)
        pool = stack.enter_context(Pool(executor or partial(ThreadPoolExecutor, 1)))
        if period is None:
            spans = [span for span in run(parts, _span, pool, **options) if span is not None]
            if not spans:
                raise InputError("parts must have a session, got none in all of them")
            period = (min(start for start, _ in spans), max(stop for _, stop in spans))
        simulation = {"strategy": strategy, "taper": taper, "period": period, "threads": threads}
        work = partial(_simulate_part, str(folder), simulation)
        counts = run(list(enumerate(parts)), work, pool, done=done, **options)
    n_sessions, n_full, paused = (sum(column) for column in zip(*counts, strict=True))
    return PartedResult(folder, strategy, period, len(parts), n_sessions, n_full, paused)


def _span(part: Part) -> tuple[int, int] | None:
    """Return when the first session of a part arrives, and the last one departs."""
    sessions, _ = part.load()
    if not len(sessions):
        return None
    return int(sessions.arrival.min()), int(sessions.departure.max())


def _simulate_part(
    folder: str, simulation: dict[str, Any], numbered: tuple[int, Part]
) -> tuple[int, int, int]:
    """Simulate a part, write its files, and return how many sessions there are, ..."""
    k, part = numbered
    sessions, site = part.load()
    result = simulate(sessions, site, **simulation)
    # Each file takes its name once it is whole: doing a part again does no harm.
    result.sessions.save(_file(folder, "sessions", k))
    result.groups.save(_file(folder, "groups", k))
    n_full = int((result.full_at != NEVER).sum())
    return len(sessions), n_full, int(result.paused.sum())


def _tidy(folder: Path) -> None:
    """Remove what workers that were killed had written under other names."""
    for what in ("groups", "sessions"):
        for path in folder.glob(f".{what}-*.parquet.*"):
            path.unlink(missing_ok=True)


def _file(folder: str | Path, what: str, k: int) -> Path:
    return Path(folder) / f"{what}-{k:05}.parquet"


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: the folder cannot be made: {error.strerror}") from None
    return folder


def one_tree(sessions: Sessions, site: Site, group: str) -> tuple[Sessions, Site]:
    """Return the tree of a group, and the sessions there."""
    tree = _tree_of_groups(site)
    there = tree == tree[site.groups.index(group)]
    return sessions.take(there[_group_of_rows(sessions, site)]), take_groups(site, there)


def take_groups(site: Site, keep: npt.NDArray[np.bool_]) -> Site:
    """Return some groups of a site, of each tree all or none."""
    place = np.cumsum(keep) - 1
    groups, plugs = np.flatnonzero(keep), np.flatnonzero(keep[site.owner])
    parent = site.parent[groups]
    return Site(
        groups=tuple(site.groups[g] for g in groups),
        capacity=site.capacity[groups],
        buffer=site.buffer[groups],
        reserved=site.reserved[groups],
        minimum=site.minimum[groups],
        parent=np.where(parent < 0, -1, place[parent]),
        policy=tuple(site.policy[g] for g in groups),
        rotation=site.rotation[groups],
        connectors=tuple(site.connectors[i] for i in plugs),
        owner=place[site.owner[plugs]],
        connector_minimum=site.connector_minimum[plugs],
        connector_maximum=site.connector_maximum[plugs],
    )


def _share_out(site: Site, parts: int) -> tuple[Places, int]:
    """Return for each group its part, and how many parts there are."""
    if parts < 1:
        raise InputError(f"parts must be at least 1, got {parts}")
    parts = min(parts, len(site.roots))
    tree = _tree_of_groups(site)
    size = np.bincount(tree[site.owner], minlength=len(site.roots)) + 1
    before = np.cumsum(size) - size
    part = np.minimum(before * parts // size.sum(), np.arange(len(size)))
    # None is left empty: from the last one back, at least as many trees are left as parts.
    part = np.maximum(part, np.arange(len(size)) - len(size) + parts)
    return part[tree], parts


def _tree_of_groups(site: Site) -> Places:
    # Each tree stands together behind its root.
    tree: Places = np.searchsorted(site.roots, np.arange(len(site.groups)), side="right") - 1
    return tree


def _group_of_rows(sessions: Sessions, site: Site) -> Places:
    """Return for each session the place of its group."""
    at = np.full(len(sessions), -1)
    if sessions.group is not None:
        known = {id: g for g, id in enumerate(site.groups)}
        at = np.array([known.get(id, -1) for id in sessions.groups] + [-1])[sessions.group]
    if sessions.connector is not None:
        owner = {key[0]: int(g) for key, g in zip(site.connectors, site.owner, strict=True)}
        of = np.array([owner.get(station, -1) for station, _ in sessions.connectors] + [-1])
        at = np.where(sessions.connector >= 0, of[sessions.connector], at)
    return at


def _all_columns(table: pa.Table) -> pa.Table:
    """Return a table with all columns that sessions may have, so that all pieces are alike."""
    return pa.table(
        [
            table[field.name].cast(field.type)
            if field.name in table.column_names
            else pa.nulls(len(table), field.type)
            for field in list(SCHEMA)[:-1]
        ],
        schema=pa.schema(list(SCHEMA)[:-1]),
    )


def _save_site(site: Site, path: str) -> None:
    arrays: dict[str, Any] = {
        field.name: np.array(getattr(site, field.name)) for field in fields(site)
    }
    with whole_file(path) as file, open(file, "wb") as opened:
        np.savez(opened, **arrays)


def _load_site(path: str) -> Site:
    with np.load(path) as arrays:
        columns: dict[str, Any] = dict(arrays)
    for name in ("groups", "policy"):
        columns[name] = tuple(columns[name].tolist())
    columns["connectors"] = tuple(map(tuple, columns["connectors"].tolist()))
    return Site(**columns)
