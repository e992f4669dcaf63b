"""One group after another as a quadratic program, by general solvers through CVXPY.

Of all powers that use up the capacity the max-min fair ones have the smallest sum of squares. A
program is set up once for every size of group, outside the clock's first look; a group only sets
its parameters.
"""

from __future__ import annotations

from functools import cache, partial
from itertools import pairwise
from typing import Any

import cvxpy

from benchmarks.workloads import Floats, Integers


def _solve(
    solver: str,
    minimum: Floats,
    maximum: Floats,
    capacity: Floats,
    offsets: Integers,
    power: Floats,
) -> None:
    """Share each group's capacity among its connectors."""
    for budget, (start, stop) in zip(capacity.tolist(), pairwise(offsets.tolist()), strict=True):
        problem, share, low, high, total = _program(stop - start, solver)
        low.value, high.value = minimum[start:stop], maximum[start:stop]
        total.value = min(budget, high.value.sum())
        problem.solve(solver=solver)
        power[start:stop] = share.value


@cache
def _program(n: int, solver: str) -> tuple[Any, Any, Any, Any, Any]:
    share, low, high = cvxpy.Variable(n), cvxpy.Parameter(n), cvxpy.Parameter(n)
    total = cvxpy.Parameter()
    problem = cvxpy.Problem(
        cvxpy.Minimize(cvxpy.sum_squares(share)),  # type: ignore[attr-defined]
        [low <= share, share <= high, cvxpy.sum(share) == total],  # type: ignore[attr-defined]
    )
    return problem, share, low, high, total


clarabel = partial(_solve, cvxpy.CLARABEL)
osqp = partial(_solve, cvxpy.OSQP)
highs = partial(_solve, cvxpy.HIGHS)
