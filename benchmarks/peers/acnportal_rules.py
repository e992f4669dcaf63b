"""The two rules of acnportal that share one limit, each group as a site of its own.

They are other rules than max-min fairness: first come, first served, and round robin in
increments of 0.1. acnportal counts in amperes; at 1 kV one of them is one kW.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from acnportal.acnsim.interface import (  # type: ignore[import-untyped]
    InfrastructureInfo,
    Interface,
    SessionInfo,
)
from acnportal.algorithms import (  # type: ignore[import-untyped]
    RoundRobin,
    SortedSchedulingAlgo,
)
from acnportal.algorithms.sorted_algorithms import (  # type: ignore[import-untyped]
    first_come_first_served,
)

from benchmarks.workloads import Floats, Integers

VOLTAGE, PLENTY_KWH = 1000.0, 1e9


class _Site(Interface):  # type: ignore[misc]
    """A limit, and what is connected below it."""

    period = 1.0

    def __init__(self, low: Floats, high: Floats, budget: float) -> None:
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
            low,
            [np.array(bounds) for bounds in zip(low, high, strict=True)],
            np.ones(n, np.bool_),
        )
        self.sessions = [
            SessionInfo(name, name, PLENTY_KWH, 0.0, 0, 1, min_rates=least, max_rates=most)
            for name, least, most in zip(self.names, low, high, strict=True)
        ]

    def infrastructure_info(self) -> Any:
        return self.infrastructure

    def evse_voltage(self, station_id: str) -> float:
        return VOLTAGE


def _solve(
    rule: type[Any],
    minimum: Floats,
    maximum: Floats,
    capacity: Floats,
    offsets: Integers,
    power: Floats,
) -> None:
    """Share each group's capacity among its connectors."""
    for budget, (start, stop) in zip(capacity.tolist(), pairwise(offsets.tolist()), strict=True):
        site = _Site(minimum[start:stop], maximum[start:stop], budget)
        algorithm = rule(first_come_first_served)
        algorithm.register_interface(site)
        schedule = algorithm.schedule(site.sessions)
        power[start:stop] = [schedule[name][0] for name in site.names]


first_come = partial(_solve, SortedSchedulingAlgo)
round_robin = partial(_solve, RoundRobin)
