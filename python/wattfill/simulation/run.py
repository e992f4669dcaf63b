"""Simulate sessions at groups, compare strategies, and vary what is there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from itertools import pairwise, product
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from wattfill import _validate
from wattfill._records import POLICIES, QUANTA_PER_KW
from wattfill._simulate import Simulation
from wattfill.errors import InputError, InputTypeError
from wattfill.simulation.result import NEVER, SimulationResult, Table
from wattfill.simulation.tables import Floats, Schedule, Sessions, Site, Taper, Times, times
from wattfill.simulation.validate import Pools, moment, refuse

Strategy: TypeAlias = Literal[
    "wattfill", "fifo", "rotate", "most", "uncontrolled", "equal", "first-come"
]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
"""wattfill by the policies of groups, or by one of them everywhere; and what to compare it with."""

_CODES = {"uncontrolled": 1, "equal": 2, "first-come": 3}
_POLICY_CODES = {policy: code for code, policy in enumerate(("fifo", "rotate", "most"))}
MOST_KW = 1e6
"""Of a connector: with it, sums over eight million of them fit into 64 bits."""
PARTS_PER_THREAD = 16

Curves: TypeAlias = Literal["groups", "sessions"]


def simulate(
    sessions: Sessions,
    site: Site,
    *,
    schedule: Schedule | None = None,
    strategy: Strategy = "wattfill",
    taper: Taper | None = None,
    period: tuple[object, object] | None = None,
    curves: Curves | None = None,
    threads: int | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> SimulationResult:
    """Let sessions charge at a site, from event to event, exactly.

    Parameters
    ----------
    sessions : Sessions
        In any order.
    site : Site
        Groups and connectors.
    schedule : Schedule, optional
        Capacities and reserved loads that change over time.
    strategy : str
        "wattfill": as `wattfill.Registry` shares power, by each group's own admission policy;
        "fifo", "rotate" or "most": the same, by this policy in all groups; "uncontrolled": each
        draws its maximum, whatever the limits are; "equal": each draws at most an equal share of
        the usable capacity of its group and of every group above, by the number of their
        connectors; "first-come": in the order of arrival each draws as much as it can.
    taper : Taper, optional
        What batteries accept as they fill up, where a session has one; `Taper()` by default.
    period : tuple of two times, optional
        What means, percentiles and hours are taken over, in ms since the epoch or as
        `datetime64`; by default from the first arrival to the last departure. All sessions lie
        within it.
    curves : {"groups", "sessions"}, optional
        Keep the loads of groups over time; with "sessions", those of sessions as well.
    threads : int, optional
        How many may work, on trees of groups side by side; by default as many as the process has
        processors. The result is the same.
    progress : callable, optional
        Called as ``progress(done, of)`` with numbers of sessions now and then.

    Returns
    -------
    SimulationResult

    Raises
    ------
    InputError
        If rows break a rule; the message says which, how many, and what to do.

    Notes
    -----
    Power is counted in mW, time in ms, energy in their products; docs/simulation.md says what
    happens at an instant, and in which order.

    Examples
    --------
    Two vehicles at 11 kW: until the first is full they share it.

    >>> from wattfill import Connector, Registry
    >>> r = Registry()
    >>> _ = r.create_group("Yard", 11, id="yard")
    >>> _ = r.add_charge_station("yard", "CS-1", [Connector("1", 11), Connector("2", 11)])
    >>> hour = 3_600_000
    >>> result = simulate(
    ...     Sessions.of(group=["yard"] * 2, arrival=[0, 0], departure=[2 * hour, 5 * hour],
    ...                 energy=[5.5, 27.5]),
    ...     Site.of(r),
    ...     curves="groups",
    ... )
    >>> result.sessions["energy_kwh"]
    array([ 5.5, 27.5])
    >>> result.full_at / hour
    array([1., 3.])
    >>> result.curve("yard").power
    array([11.,  0.])

    """
    return Run(
        sessions,
        site,
        schedule=schedule,
        strategy=strategy,
        taper=taper,
        period=period,
    ).result(curves, threads, progress)


class Run:
    """Sessions at a site, checked and laid out as the loop over events reads them."""

    def __init__(
        self,
        sessions: Sessions,
        site: Site,
        *,
        schedule: Schedule | None,
        strategy: str,
        taper: Taper | None,
        period: tuple[object, object] | None,
    ) -> None:
        for name, value, kind in (
            ("sessions", sessions, Sessions),
            ("site", site, Site),
            ("schedule", schedule, Schedule),
            ("taper", taper, Taper),
        ):
            optional = value is None and name in ("schedule", "taper")
            if not optional and not isinstance(value, kind):
                raise InputTypeError(
                    f"{name} must be a {kind.__name__}, got {type(value).__name__}"
                )
        if strategy not in STRATEGIES:
            raise InputError(f"strategy must be one of {', '.join(STRATEGIES)}, got {strategy!r}")
        refuse(sessions, site)
        self.sessions, self.site, self.schedule = sessions, site, schedule
        self.strategy = strategy
        self.start, self.stop = self._period(period)
        self.taper = taper or Taper()
        policy = [strategy] * len(site.policy) if strategy in POLICIES else list(site.policy)
        codes = np.array([_POLICY_CODES[each] for each in policy], np.uint8)
        too_large = site.connector_maximum > MOST_KW
        if too_large.any():
            rule = f"at most {MOST_KW:g} kW"
            _validate._refuse("connector_maximum", rule, site.connector_maximum, too_large)
        self.arrays = {
            "capacity": site.capacity,
            "buffer": site.buffer,
            "reserved": site.reserved,
            "parent": site.parent,
            "policy": codes,
            "rotation": self._rotation(codes),
            "least": site.connector_minimum,
            "rating": site.connector_maximum,
            "trees": np.append(site.roots, len(site.groups)),
            "offsets": np.searchsorted(site.owner, np.arange(len(site.groups) + 1)),
            **{
                name: getattr(sessions, name)
                for name in (
                    *("arrival", "departure", "energy", "maximum", "minimum", "weight"),
                    *("priority", "battery", "soc", "group", "connector"),
                )
            },
            **self._sort(),
            **self._changes(),
        }

    def _period(self, period: tuple[object, object] | None) -> tuple[int, int]:
        s = self.sessions
        first, last = (int(s.arrival.min()), int(s.departure.max())) if len(s) else (0, 0)
        if period is None:
            return first, last
        start, stop = (int(times("period", [at])[0]) for at in period)
        if stop < start:
            raise InputError(
                f"period must not end before it starts, got {moment(start)} to {moment(stop)}"
            )
        if len(s) and not start <= first <= last <= stop:
            outside = int(((s.arrival < start) | (s.departure > stop)).sum())
            raise InputError(
                f"period must have all sessions in it, got {moment(start)} to {moment(stop)} for "
                f"{moment(first)} to {moment(last)} ({outside} of {len(s)} sessions lie outside): "
                "make it longer, or leave them out"
            )
        return start, stop

    def _rotation(self, policy: npt.NDArray[np.uint8]) -> Times:
        exact: Floats = self.site.rotation * 1000.0
        ms: Floats = np.rint(exact)
        whole = (ms >= 1.0) & (ms < 2.0**53) & (np.abs(ms - exact) <= ms * 1e-12)
        bad = (policy == _POLICY_CODES["rotate"]) & ~whole
        if bad.any():
            rule = "a whole number of milliseconds, in seconds"
            _validate._refuse("rotation", rule, self.site.rotation, bad)
        return np.where(policy == _POLICY_CODES["rotate"], ms, 0.0).astype(np.int64)

    def _sort(self) -> dict[str, Any]:
        """Put the sessions of one tree together."""
        s, site = self.sessions, self.site
        pools = Pools.of(s, site)
        roots = site.roots
        tree_of_group = np.searchsorted(roots, pools.group_at, "right") - 1
        owner = np.append(site.owner, 0)[pools.first]
        tree_of_plug = np.searchsorted(roots, owner, "right") - 1
        small = np.uint16 if len(roots) <= 2**16 else np.int64
        tree: npt.NDArray[Any] = np.zeros(len(s), small)
        if s.group is not None:
            tree = np.append(tree_of_group, 0).astype(small)[s.group]
        if s.connector is not None:
            of_plug = np.append(tree_of_plug, 0).astype(small)[s.connector]
            tree = np.where(s.connector >= 0, of_plug, tree) if s.group is not None else of_plug
        # Of 16 bits the sort is by radix, in linear time.
        together = bool((tree[1:] >= tree[:-1]).all())
        rows = None if together else np.argsort(tree, kind="stable")
        of_tree = np.zeros(len(roots) + 1, np.int64)
        np.cumsum(np.bincount(tree, minlength=len(roots)), out=of_tree[1:])
        return {
            "rows": rows,
            "of_tree": of_tree,
            "group_at": pools.group_at,
            "first": pools.first,
            "last": pools.last,
        }

    def _changes(self) -> dict[str, Any]:
        s = self.schedule
        none: dict[str, Any] = dict.fromkeys(
            ("changes", "change_at", "change_group", "change_capacity", "change_reserved")
        )
        if s is None or len(s) == 0:
            return none
        places = {name: g for g, name in enumerate(self.site.groups)}
        for name in s.groups:
            if name not in places:
                raise InputError(f"schedule.groups must be groups of the site, got {name!r}")
        group = np.array([places[name] for name in s.groups], np.int64)[s.group]
        tree = np.searchsorted(self.site.roots, group, "right") - 1
        order = np.lexsort((s.at, tree))
        nan = np.full(len(s), np.nan)
        return {
            "changes": np.searchsorted(tree[order], np.arange(len(self.site.roots) + 1)),
            "change_at": s.at[order],
            "change_group": group[order],
            "change_capacity": (nan if s.capacity is None else s.capacity)[order],
            "change_reserved": (nan if s.reserved is None else s.reserved)[order],
        }

    def result(
        self,
        curves: Curves | None,
        threads: int | None,
        progress: Callable[[int, int], object] | None,
    ) -> SimulationResult:
        """Simulate all trees."""
        if curves not in (None, *get_args(Curves)):
            raise InputError(f"curves must be 'groups', 'sessions' or None, got {curves!r}")
        n_threads = _processors() if threads is None else _validate.threads(threads)
        n, m = len(self.sessions), len(self.site.groups)
        of_sessions: dict[str, npt.NDArray[Any]] = {
            "taken": np.full(n, -1, np.int32),
            "delivered": np.zeros(n, np.int64),
            "full_at": np.full(n, NEVER, np.int64),
            "paused": np.zeros(n, np.int64),
        }
        of_groups: dict[str, npt.NDArray[Any]] = {
            name: np.zeros(m, np.int64)
            for name in (
                *("n_sessions", "n_turned_away", "peak", "p95", "limiting", "over", "over_peak"),
            )
        }
        energies = {
            name: np.zeros(2 * m, np.int64)
            for name in ("group_energy", "group_wanted", "group_refused")
        }
        simulation = Simulation(
            self.arrays | of_sessions | of_groups | energies,
            per_kw=float(QUANTA_PER_KW),
            strategy=_CODES.get(self.strategy, 0),
            start=self.start,
            stop=self.stop,
            taper=tuple(zip(self.taper.soc, self.taper.fraction, strict=True)),
        )
        done = self._work(simulation, curves, n_threads, progress)
        steps = {}
        if curves is not None:
            steps["groups"] = _joined_steps(groups for _, _, groups, _ in done)
        if curves == "sessions":
            steps["sessions"] = _joined_steps(each for *_, each in done)
        of_groups |= {name: limbs.reshape(m, 2) for name, limbs in energies.items()}
        for array in (*of_sessions.values(), *of_groups.values()):
            array.flags.writeable = False
        return SimulationResult(
            strategy=self.strategy,
            start=self.start,
            stop=self.stop,
            source=self.sessions,
            site=self.site,
            schedule=self.schedule,
            n_events=sum(events for events, *_ in done),
            n_solved=sum(solved for _, solved, *_ in done),
            connector=of_sessions["taken"],
            delivered=of_sessions["delivered"],
            full_at=of_sessions["full_at"],
            paused=of_sessions["paused"],
            arrays=of_groups,
            steps=steps,
        )

    def _work(
        self,
        simulation: Simulation,
        curves: Curves | None,
        n_threads: int,
        progress: Callable[[int, int], object] | None,
    ) -> list[tuple[int, int, bytes, bytes]]:
        """Simulate parts of the trees side by side; return what came of each, in their order."""
        of_tree = self.arrays["of_tree"]
        n_trees, n = len(of_tree) - 1, len(self.sessions)
        # About as many sessions in each, so that in the end no thread waits long for another.
        n_parts = max(1, min(n_trees, PARTS_PER_THREAD * n_threads))
        wanted = np.linspace(0, n + n_trees, n_parts + 1)
        edges = np.searchsorted(of_tree + np.arange(n_trees + 1), wanted).tolist()
        edges[-1] = n_trees
        parts = [(a, b) for a, b in pairwise(edges) if a < b]
        keep = curves is not None, curves == "sessions"
        done = 0
        if n_threads == 1:
            found = []
            for start, stop in parts:
                found.append(simulation.run(start, stop, *keep))
                if progress is not None:
                    progress(int(of_tree[stop]), n)
            return found
        with ThreadPoolExecutor(n_threads) as pool:
            futures = {pool.submit(simulation.run, *part, *keep): part for part in parts}
            waiting: set[Future[tuple[int, int, bytes, bytes]]] = set(futures)
            try:
                while waiting:
                    ready, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    for future in ready:
                        future.result()
                        start, stop = futures[future]
                        done += int(of_tree[stop] - of_tree[start])
                    if progress is not None:
                        progress(done, n)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            return [future.result() for future in futures]


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _joined_steps(parts: Iterable[bytes]) -> npt.NDArray[np.int64]:
    steps = np.frombuffer(b"".join(parts), np.int64).reshape(-1, 3)
    steps.flags.writeable = False
    return steps


def compare(
    sessions: Sessions,
    site: Site,
    *,
    strategies: Iterable[Strategy] = ("wattfill", "uncontrolled", "equal", "first-come"),
    **options: Any,
) -> Table:
    """Simulate the same sessions by several strategies.

    Parameters
    ----------
    sessions, site
        As in `simulate`.
    strategies : sequence of str
    **options
        Any other argument of `simulate`.

    Returns
    -------
    Table
        A row for each strategy, with what `SimulationResult.summary` has.

    Examples
    --------
    >>> from wattfill import Connector, Registry
    >>> r = Registry()
    >>> _ = r.create_group("Yard", 11, id="yard")
    >>> _ = r.add_charge_station("yard", "CS-1", [Connector("1", 11), Connector("2", 11)])
    >>> s = Sessions.of(group=["yard"] * 2, arrival=[0, 0], departure=[7_200_000] * 2,
    ...                 energy=[5.5, 16.5])
    >>> table = compare(s, Site.of(r))
    >>> for row in table.to_dicts():
    ...     print(row["strategy"], row["energy_kwh"], row["over_kw"])
    wattfill 22.0 0.0
    uncontrolled 22.0 11.0
    equal 16.5 0.0
    first-come 22.0 0.0

    """
    return _table(
        [simulate(sessions, site, strategy=strategy, **options).summary for strategy in strategies]
    )


def sweep(
    sessions: Sessions,
    site: Site,
    *,
    capacity: Sequence[float] = (1.0,),
    buffer: Sequence[float] | None = None,
    connectors: Sequence[float] = (1.0,),
    schedule: Schedule | None = None,
    **options: Any,
) -> Table:
    """Simulate the same sessions at every combination of what could be there.

    Parameters
    ----------
    sessions, site
        As in `simulate`.
    capacity : sequence of float
        Factors, at least 0, by which every group's capacity is multiplied, and those of the
        schedule.
    buffer : sequence of float, optional
        Fractions, 0.0..1.0, that replace every group's buffer.
    connectors : sequence of float
        Factors, at least 0, by which the number of connectors in every group is multiplied and
        rounded. Those that go are the last ones, and sessions that name one are refused; those
        that come are like the group's own, from the first one on, at stations of their own.
    schedule : Schedule, optional
    **options
        Any other argument of `simulate`.

    Returns
    -------
    Table
        A row for each combination, the last argument changing first: what was varied, and what
        `SimulationResult.summary` has.

    Examples
    --------
    >>> from wattfill import Connector, Registry
    >>> r = Registry()
    >>> _ = r.create_group("Yard", 22, id="yard")
    >>> _ = r.add_charge_station("yard", "CS-1", [Connector("1", 22)])
    >>> s = Sessions.of(group=["yard"] * 2, arrival=[0, 0], departure=[3_600_000] * 2,
    ...                 energy=[20.0, 20.0])
    >>> sweep(s, Site.of(r), capacity=[0.5, 1.0], connectors=[1, 2])
    capacity  connectors  strategy  sessions  turned_away  energy_kwh  unmet_kwh  refused_kwh  \
share  full  paused_hours  peak_kw  limiting_hours  over_hours  over_kw
         0.5           1  wattfill         2            1          11          9           20  \
0.275     0             0       11               1           0        0
         0.5           2  wattfill         2            0          11         29            0  \
0.275     0             0       11               1           0        0
           1           1  wattfill         2            1          20          0           20  \
  0.5   0.5             0       22               0           0        0
           1           2  wattfill         2            0          22         18            0  \
 0.55     0             0       22               1           0        0

    """
    rows = []
    buffers: Sequence[float | None] = (None,) if buffer is None else buffer
    for by, set_aside, times_as_many in product(capacity, buffers, connectors):
        varied = {"capacity": _factor("capacity", by)}
        there = replace(_more_connectors(site, times_as_many), capacity=site.capacity * by)
        if set_aside is not None:
            varied["buffer"] = _validate.number_within(
                "buffer", set_aside, "within 0.0..1.0", most=1.0
            )
            there = replace(there, buffer=np.full(len(site.groups), float(set_aside)))
        varied["connectors"] = _factor("connectors", times_as_many)
        then = schedule
        if schedule is not None and schedule.capacity is not None:
            then = replace(schedule, capacity=schedule.capacity * by)
        rows.append(varied | simulate(sessions, there, schedule=then, **options).summary)
    return _table(rows)


def _factor(name: str, value: object) -> float:
    return _validate.number_within(name, value, "finite and at least 0")


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    if not rows:
        return Table({"strategy": np.empty(0, object)})
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return Table(
        {
            name: np.array(values, object if isinstance(values[0], str) else None)
            for name, values in columns.items()
        }
    )


def _more_connectors(site: Site, factor: float) -> Site:
    """Return a site with another number of connectors in every group."""
    if factor == 1.0:
        return site
    places: list[int] = []
    keys = []
    for g in range(len(site.groups)):
        own = np.flatnonzero(site.owner == g).tolist()
        for k in range(round(_factor("connectors", factor) * len(own))):
            copy, i = k // len(own), own[k % len(own)]
            station, plug = site.connectors[i]
            places.append(i)
            keys.append((f"{station} (copy {copy})" if copy else station, plug))
    return replace(
        site,
        connectors=tuple(keys),
        owner=site.owner[places],
        connector_minimum=site.connector_minimum[places],
        connector_maximum=site.connector_maximum[places],
    )
