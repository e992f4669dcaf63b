"""Other ways to the same answer, as good as their tools allow.

Each has ``solve(minimum, maximum, capacity, offsets, power)``, which writes the powers of groups of
one connector or more whose minimums fit. They count in doubles, so they are right to within
rounding and may pass a capacity by that much.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Peer:
    """A solver, what it needs, and how much of a workload it can be given."""

    name: str
    needs: str
    """The package that it runs on, beside those that it comes with."""
    place: str
    """Module below this package, and function."""
    most_groups: int | None = None
    """How many groups it is timed on, where it is too slow for all; the rest is reckoned."""
    largest_group: int | None = None
    """Of the slowest, the largest group that they are given."""
    close_to_kw: float | None = 1e-6
    """How far from the exact powers it may be; None where it follows another rule."""

    def load(self) -> Callable[..., Any]:
        """Import the solver; raise ImportError where what it needs is missing."""
        import_module(self.needs)
        module, function = self.place.split(".")
        solve: Callable[..., Any] = getattr(import_module(f"{__name__}.{module}"), function)
        return solve


PEERS = (
    Peer("Numba, Newton", "numba", "numba_newton.solve"),
    Peer("Numba, Newton, strict sums", "numba", "numba_strict.solve"),
    Peer("Numba, two sorts", "numba", "numba_sort.solve"),
    Peer("NumPy, Newton in blocks", "numpy", "numpy_blocks.solve"),
    Peer("NumPy, Newton", "numpy", "numpy_newton.solve"),
    Peer("NumPy, packed sort", "numpy", "numpy_sort.solve"),
    Peer("NumPy, argsort", "numpy", "numpy_argsort.solve"),
    Peer("SciPy, brentq", "scipy", "scipy_brentq.solve", most_groups=512),
    # These stop within tolerances of their own, which are the default ones.
    Peer("CVXPY, Clarabel", "clarabel", "cvxpy_qp.clarabel", 4, 10_000, 1e-1),
    Peer("CVXPY, OSQP", "osqp", "cvxpy_qp.osqp", 4, 100, 1e-1),
    Peer("CVXPY, HiGHS", "highspy", "cvxpy_qp.highs", 4, 100, 1e-1),
    Peer("acnportal, first come", "acnportal", "acnportal_rules.first_come", 2, 100, None),
    Peer("acnportal, round robin", "acnportal", "acnportal_rules.round_robin", 2, 100, None),
)
