"""Figures as Markdown tables, beside what they should reach."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from benchmarks.cases import (
    EVENT,
    EVENT_READ,
    INTO,
    LISTS,
    PLAIN,
    REASONS,
    ROOFLINE,
    TWO_THREADS,
    UNADORNED,
    WARM,
    Figure,
)
from benchmarks.peers import PEERS


class Goal(NamedTuple):
    """What a figure must be, should be, and would be beyond what was hoped for."""

    must: float
    aim: float
    beyond: float

    def reached(self, value: float) -> str:
        """Name the best of the three that a value meets."""
        sign = 1 if self.beyond > self.must else -1
        met = [name for name, goal in self._asdict().items() if sign * value >= sign * goal]
        return met[-1] if met else "no"


# Times the roofline, by shape.
ROOFLINE_GOALS = {
    "10000x50": Goal(4, 3, 2),
    "100000x8": Goal(7, 5, 3.3),
    "100x10000": Goal(3, 2.2, 1.6),
    "1x1000000": Goal(2.2, 1.6, 1.35),
    "power-law": Goal(5, 3.5, 2.6),
    "400000x50": Goal(2, 1.4, 1.05),
}
# How many times longer the best Numba solver must take, and the best of NumPy.
NUMBA_GOALS = {
    "10000x50": 4.0,
    "100000x8": 3.5,
    "100x10000": 5.0,
    "1x1000000": 15.0,
    "power-law": 3.0,
}
NUMPY_GOALS = {"10000x50": 20.0}
# Microseconds of a call, by what it is given, and of an event.
CALL_GOALS = {INTO: Goal(0.5, 0.2, 0.1), PLAIN: None, LISTS: Goal(5, 3, 2)}
EVENT_GOALS = {EVENT: Goal(10, 5, 2), EVENT_READ: None}
VARIANT_GOAL = Goal(2, 1.5, 1.2)  # times the same groups without
THREADS_GOAL = Goal(1.7, 1.85, 1.95)  # times as fast as one thread

GOAL_COLUMNS = ("must", "aim", "beyond", "reached")
NOT_RUN = "-"


class Figures:
    """The figures of a run, by case, workload and contender."""

    def __init__(self, figures: Iterable[Figure]) -> None:
        self.all = list(figures)
        self._by_name = {(f.case, f.workload, f.contender): f for f in self.all}

    def workloads(self, case: str) -> list[str]:
        """Return the names of the workloads of a case, in the order of the run."""
        return list(dict.fromkeys(f.workload for f in self.all if f.case == case))

    def contenders(self, case: str) -> list[str]:
        """Return the names of the contenders of a case, likewise."""
        return list(dict.fromkeys(f.contender for f in self.all if f.case == case))

    def get(self, case: str, workload: str, contender: str) -> Figure | None:
        """Return a figure, or None if it was not taken."""
        return self._by_name.get((case, workload, contender))

    def ns(self, case: str, workload: str, contender: str) -> float | None:
        """Return nanoseconds, or None if they were not taken."""
        figure = self.get(case, workload, contender)
        return figure.ns if figure else None


def tables(figures: Figures) -> str:
    """Return all tables that the figures fill."""
    made = (make(figures) for make in (_rooflines, _others, _solvers, _sizes, _totals))
    return "\n\n".join(table for table in made if table)


def _rooflines(figures: Figures) -> str:
    """Hold wattfill on every shape against the roofline and the best of each kind of peer."""
    rows = []
    for case, workload in _workloads(figures, "shapes", "large"):
        roofline, own, *others = (
            figures.ns(case, workload, name) for name in (ROOFLINE, INTO, PLAIN, WARM, REASONS)
        )
        ratio = _ratio(own, roofline)
        shape = workload.rpartition("-")[0]
        numba, strict = (figures.ns(case, workload, peer.name) for peer in PEERS[:2])
        taken = (figures.ns(case, workload, p.name) for p in PEERS if p.needs == "numpy")
        numpy = min((ns for ns in taken if ns), default=None)
        rows.append(
            [workload]
            + [_ns(ns) for ns in (roofline, own, *others)]
            + [_times(ratio), *_goal(ROOFLINE_GOALS.get(shape), ratio)]
            + [_times(_ratio(numba, own), NUMBA_GOALS.get(shape)), _times(_ratio(strict, own))]
            + [_times(_ratio(numpy, own), NUMPY_GOALS.get(shape))]
        )
    columns = ["workload", "roofline", "`out=`", "plain", "warm", "reasons", "`out=` / roofline"]
    peers = [f"{name} / `out=`" for name in ("Numba", "Numba, strict sums", "best NumPy")]
    title = "ns per connector, one thread (what a ratio must be stands in brackets)"
    return _table(title, [*columns, *GOAL_COLUMNS, *peers], rows)


def _others(figures: Figures) -> str:
    """Hold what is not a batch of plain groups against its goals."""
    rows: list[list[str]] = []
    for case, workload in _workloads(figures, "calls"):
        for name, goal in CALL_GOALS.items():
            us = _ratio(figures.ns(case, workload, name), 1e3)
            rows.append([f"one group of 20: {name}", _us(us), *_goal(goal, us)])
    for case, workload in _workloads(figures, "registry"):
        for name, goal in EVENT_GOALS.items():
            us = _ratio(figures.ns(case, workload, name), 1e3)
            rows.append([f"registry of {workload}: {name}", _us(us), *_goal(goal, us)])
    for case, workload in _workloads(figures, "variants"):
        ratio = _ratio(figures.ns(case, workload, INTO), figures.ns(case, workload, UNADORNED))
        if ratio and workload.endswith("-tree"):
            ratio, workload = ratio / 3, f"{workload}, per level"
        rows.append([f"{workload} / {UNADORNED}", _times(ratio), *_goal(VARIANT_GOAL, ratio)])
    for case, workload in _workloads(figures, "threads"):
        ratio = _ratio(figures.ns(case, workload, INTO), figures.ns(case, workload, TWO_THREADS))
        rows.append([f"{workload}: one thread / two", _times(ratio), *_goal(THREADS_GOAL, ratio)])
    return _table("Calls, events, variants, threads", ["", "figure", *GOAL_COLUMNS], rows)


def _solvers(figures: Figures) -> str:
    """List what every solver takes on every shape."""
    shapes = figures.workloads("shapes")
    rows = [
        [solver, *(_figure(figures.get("shapes", shape, solver)) for shape in shapes)]
        for solver in figures.contenders("shapes")
    ]
    note = "ns per connector, all solvers; ~ is reckoned from a sample of the groups"
    return _table(note, ["", *shapes], rows)


def _sizes(figures: Figures) -> str:
    return _sweep(figures, "sizes", "ns per connector by size of group")


def _totals(figures: Figures) -> str:
    return _sweep(figures, "totals", "ns per connector by number of connectors")


def _sweep(figures: Figures, case: str, title: str) -> str:
    contenders = figures.contenders(case)
    rows = [
        [workload]
        + [_ns(figures.ns(case, workload, name)) for name in contenders]
        + [_times(_ratio(figures.ns(case, workload, INTO), figures.ns(case, workload, ROOFLINE)))]
        for workload in figures.workloads(case)
    ]
    return _table(title, ["workload", *contenders, "`out=` / roofline"], rows)


def _workloads(figures: Figures, *cases: str) -> list[tuple[str, str]]:
    return [(case, workload) for case in cases for workload in figures.workloads(case)]


def _ratio(value: float | None, to: float | None) -> float | None:
    return value / to if value and to else None


def _goal(goal: Goal | None, value: float | None) -> list[str]:
    if goal is None or value is None:
        return [""] * len(GOAL_COLUMNS)
    return [*(f"{part:g}" for part in goal), goal.reached(value)]


def _figure(figure: Figure | None) -> str:
    if figure is None:
        return NOT_RUN
    return "~" * (figure.n_groups_timed < figure.n_groups) + _ns(figure.ns)


def _ns(value: float | None) -> str:
    if value is None:
        return NOT_RUN
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _us(value: float | None) -> str:
    return NOT_RUN if value is None else f"{value:.2f} \N{MICRO SIGN}s"


def _times(value: float | None, must: float | None = None) -> str:
    if value is None:
        return NOT_RUN
    return f"{value:.2f}x" + (f" ({must:g}x)" if must else "")


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay a Markdown table out so that it is also read as it stands; "" if there are no rows."""
    if not rows:
        return ""
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        first, *rest = zip(cells, widths, strict=True)
        shown = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]
        return f"| {' | '.join(shown)} |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([f"**{title}**", "", line(columns), line(rule), *map(line, rows)])
