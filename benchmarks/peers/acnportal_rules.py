"""The two rules of acnportal that share one limit, each group as a site of its own.

They are other rules than max-min fairness: first come, first served, and round robin in
increments of 0.1. acnportal counts in amperes; at 1 kV one of them is one kW. Who comes first in
line also stays the shortest, so that there is one order.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Literal, TypeAlias

import numpy as np
from acnportal import algorithms  # type: ignore[import-untyped]
from acnportal.acnsim.interface import (  # type: ignore[import-untyped]
    InfrastructureInfo,
    Interface,
    SessionInfo,
)
from acnportal.algorithms import sorted_algorithms  # type: ignore[import-untyped]

from benchmarks.workloads import Floats, Integers

VOLTAGE, PLENTY_KWH = 1000.0, 1e9

Minimums: TypeAlias = Literal["session", "station", "deadband"]


class _Site(Interface):  # type: ignore[misc]
    """A limit, and what is connected below it, as ``acnsim`` would describe it."""

    period, current_time = 1.0, 0

    def __init__(
        self, low: Floats, high: Floats, budget: float, line: Sequence[int], minimums: Minimums
    ) -> None:
        super().__init__(None)
        n = low.size
        self.names = [str(i) for i in range(n)]
        self.infrastructure = InfrastructureInfo(
            np.ones((1, n)),
            np.array([budget]),
            np.zeros(n),
            np.full(n, VOLTAGE),
            ["site"],
            self.names,
            high,
            # A `DeadbandEVSE` says that it has none, and only in the next argument where it starts.
            np.zeros(n) if minimums == "deadband" else low,
            [np.array(bounds) for bounds in zip(low, high, strict=True)],
            np.ones(n, np.bool_),
        )
        place = {i: k for k, i in enumerate(line)}
        self.sessions = [
            SessionInfo(
                *(name, name, PLENTY_KWH, 0.0),
                # Comes one period after the other, and stays one period longer.
                arrival=place[i] - n,
                departure=place[i] + 1,
                min_rates=least if minimums == "session" else 0.0,
                max_rates=most,
            )
            for i, (name, least, most) in enumerate(zip(self.names, low, high, strict=True))
        ]

    def infrastructure_info(self) -> Any:
        return self.infrastructure

    def _infrastructure_info(self) -> Any:
        return self.infrastructure

    def evse_voltage(self, station_id: str) -> float:
        return VOLTAGE


def share(
    low: Floats,
    high: Floats,
    budget: float,
    *,
    rule: str = "SortedSchedulingAlgo",
    sort: str = "first_come_first_served",
    line: Sequence[int] | None = None,
    minimums: Minimums = "session",
) -> list[float]:
    """Share one limit by a rule: the powers in kW, for those in line as it says.

    Parameters
    ----------
    low, high : array of float, shape (n_connectors,)
        Bounds in kW.
    budget : float
        The limit in kW.
    rule, sort : str
        Name of the algorithm, and of how it sorts the sessions.
    line : sequence of int, optional
        The connectors in the order in which they came; by default as they stand.
    minimums : {"session", "station", "deadband"}
        Whether minimums are those of sessions, which have to fit; or of stations, by their
        ``min_pilot`` or as a `DeadbandEVSE` has them, where sessions whose minimum does not fit
        are paused (``uninterrupted_charging``).

    """
    site = _Site(low, high, budget, range(low.size) if line is None else line, minimums)
    algorithm = getattr(algorithms, rule)(
        getattr(sorted_algorithms, sort), uninterrupted_charging=minimums != "session"
    )
    algorithm.register_interface(site)
    schedule = algorithm.schedule(site.sessions)
    return [float(schedule[name][0]) for name in site.names]


def _solve(
    rule: str,
    minimum: Floats,
    maximum: Floats,
    capacity: Floats,
    offsets: Integers,
    power: Floats,
) -> None:
    """Share each group's capacity among its connectors."""
    for budget, (start, stop) in zip(capacity.tolist(), pairwise(offsets.tolist()), strict=True):
        power[start:stop] = share(minimum[start:stop], maximum[start:stop], budget, rule=rule)


first_come = partial(_solve, "SortedSchedulingAlgo")
round_robin = partial(_solve, "RoundRobin")
