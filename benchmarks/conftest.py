"""Measure solvers on workloads, and say at the end how they compare."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.workloads import NAMES, Workload, load

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Measurement:
    """The best round of one solver on one workload."""

    workload: str
    solver: str
    ns_per_connector: float
    is_sampled: bool


class Measure:
    """Benchmark a solver on a workload, and keep what came out for the summary."""

    def __init__(self, benchmark: BenchmarkFixture, kept: list[Measurement]) -> None:
        self._benchmark = benchmark
        self._kept = kept

    def __call__(
        self,
        solver: str,
        solve: Callable[..., Answer],
        workload: Workload,
        calls: Sequence[Sequence[Any]],
        *,
        sampled_from: Workload | None = None,
    ) -> list[Answer]:
        """Time all calls together and return their answers.

        Of a sample the time stands for the whole workload, group by group.
        """
        whole = sampled_from or workload
        times = whole.n_groups / workload.n_groups
        self._benchmark.group = workload.name
        if whole is not workload:
            self._benchmark.name += f" ({workload.n_groups:,} of {whole.n_groups:,} groups)"
        self._benchmark.extra_info |= {
            "n_groups": workload.n_groups,
            "n_connectors": workload.n_connectors,
            "n_calls": len(calls),
            "stands_for_n_groups": whole.n_groups,
        }
        answers: list[Answer] = self._benchmark(lambda: [solve(*call) for call in calls])
        if self._benchmark.stats is not None:
            ns = self._benchmark.stats.stats.min * times / whole.n_connectors * 1e9
            self._benchmark.extra_info["ns_per_connector"] = ns
            self._kept.append(Measurement(whole.name, solver, ns, whole is not workload))
        return answers


_KEPT = pytest.StashKey[list[Measurement]]()


@pytest.fixture
def measure(benchmark: BenchmarkFixture, pytestconfig: pytest.Config) -> Measure:
    return Measure(benchmark, pytestconfig.stash.setdefault(_KEPT, []))


@pytest.fixture(scope="module", params=NAMES)
def workload(request: pytest.FixtureRequest) -> Workload:
    """One workload after another, so that what is compared was measured close together."""
    return load(request.param)


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print wattfill's nanoseconds per connector, and how many times that its peers take."""
    kept = config.stash.get(_KEPT, [])
    if not kept:
        return
    cells = {(m.workload, m.solver): m for m in kept}
    solvers = list(dict.fromkeys(m.solver for m in kept))
    terminalreporter.section("best round: wattfill's ns per connector, and times that")
    _write_row(terminalreporter, "", solvers)
    for name in dict.fromkeys(m.workload for m in kept):
        own = cells.get((name, "wattfill"))
        _write_row(
            terminalreporter, name, [_shown(cells.get((name, solver)), own) for solver in solvers]
        )
    if any(m.is_sampled for m in kept):
        terminalreporter.write_line("~ reckoned from a sample of the groups")


def _write_row(terminalreporter: pytest.TerminalReporter, name: str, cells: list[str]) -> None:
    terminalreporter.write_line(f"{name:22}" + "".join(f"{cell:>14}" for cell in cells))


def _shown(m: Measurement | None, own: Measurement | None) -> str:
    if m is None:
        return "-"
    reckoned = "~" if m.is_sampled else ""
    if own is None or m is own:
        return f"{reckoned}{m.ns_per_connector:,.2f} ns"
    return f"{reckoned}{m.ns_per_connector / own.ns_per_connector:.1f}x"
