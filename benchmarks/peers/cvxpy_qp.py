"""One group after another as a quadratic program, by general solvers through CVXPY.

Of all powers that use up the capacity the max-min fair ones have the smallest sum of squares. A
program is set up once for every size of group, outside the clock's first look; a group only sets
its parameters.
"""

from __future__ import annotations

import warnings
from functools import cache, partial
from itertools import pairwise
from typing import Any

import cvxpy

from benchmarks.workloads import Floats, Integers


def share(
    low: Floats, high: Floats, budget: float, *, solver: str, **options: float
) -> list[float]:
    """Share one capacity: the powers in kW. Minimums have to fit, so whoever calls admits first.

    Parameters
    ----------
    low, high : array of float, shape (n_connectors,)
        Bounds in kW.
    budget : float
        The capacity in kW.
    solver : str
        Its name in CVXPY.
    **options
        What the solver is told, beside the program.

    """
    problem, share, lowest, highest, total = _program(low.size, solver)
    lowest.value, highest.value = low, high
    total.value = min(budget, high.sum())
    with warnings.catch_warnings():
        # That it may be inaccurate; how much, others judge.
        warnings.simplefilter("ignore", UserWarning)
        problem.solve(solver=solver, **options)
    if problem.status not in (cvxpy.OPTIMAL, cvxpy.OPTIMAL_INACCURATE):
        raise RuntimeError(f"{solver} stopped: {problem.status}")
    return list(share.value)


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
        power[start:stop] = share(minimum[start:stop], maximum[start:stop], budget, solver=solver)


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
