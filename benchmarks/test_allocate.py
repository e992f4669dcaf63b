"""wattfill and its peers on every workload: each is timed, and each answer asserted."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

import wattfill
from benchmarks.certificate import assert_close, assert_exact
from benchmarks.conftest import Measure
from benchmarks.peers import (
    numpy_argsort,
    numpy_blocks,
    numpy_newton,
    numpy_sort,
    scipy_brentq,
)
from benchmarks.workloads import Floats, Integers, Workload

# How many groups a solver that takes one at a time is given; its time for the rest is reckoned.
MOST_GROUPS = 1024


def _name(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2]


def _joined(powers: list[Floats]) -> Floats:
    return np.concatenate(powers)


def _exact(workload: Workload) -> Floats:
    return _joined([wattfill.allocate(*call).power for call in workload.calls()])


def _allocate_into(
    minimum: Floats,
    maximum: Floats,
    capacity: Floats,
    offsets: Integers,
    out: wattfill.Allocation,
) -> wattfill.Allocation:
    return wattfill.allocate(minimum, maximum, capacity, offsets, out=out)


def test_wattfill(measure: Measure, workload: Workload) -> None:
    allocations = measure("wattfill", wattfill.allocate, workload, workload.calls())

    assert_exact(_joined([a.power for a in allocations]), workload.batch)


def test_wattfill_into_the_memory_of_a_result(measure: Measure, workload: Workload) -> None:
    calls = [(*call, wattfill.allocate(*call)) for call in workload.calls()]

    allocations = measure("wattfill out=", _allocate_into, workload, calls)

    assert_exact(_joined([a.power for a in allocations]), workload.batch)


@pytest.mark.parametrize("peer", [numpy_argsort, numpy_sort, numpy_newton, numpy_blocks], ids=_name)
def test_peer_for_all_groups_at_once(
    measure: Measure, workload: Workload, peer: ModuleType
) -> None:
    powers = measure(_name(peer), peer.solve, workload, workload.calls())

    assert_close(_joined(powers), _exact(workload))


@pytest.mark.parametrize("peer", [scipy_brentq], ids=_name)
def test_peer_for_one_group_after_another(
    measure: Measure, workload: Workload, peer: ModuleType
) -> None:
    sample = workload.sample(MOST_GROUPS)

    powers = measure(_name(peer), peer.solve, sample, sample.calls(), sampled_from=workload)

    assert_close(_joined(powers), _exact(sample))
