"""Threads that the kernel starts: they change no answer, and leave nothing behind."""

import os
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest

from wattfill import InputError, _kernel, allocate

FIELDS = ("power", "reason", "bound_by", "level", "usable", "used", "needed")
# A part for a thread has thousands of connectors: these have many parts.
N_CONNECTORS = 200_000


def groups_of(size: int) -> dict[str, Any]:
    random = np.random.default_rng(size)
    maximum = random.choice([3.7, 7.4, 11.0, 22.0], N_CONNECTORS)
    offsets = np.arange(0, N_CONNECTORS + 1, size)
    return {
        "minimum": np.minimum(maximum, random.choice([0.0, 1.4, 4.1], N_CONNECTORS)),
        "maximum": maximum,
        "capacity": random.uniform(1.0, 9.0, offsets.size - 1) * size,
        "offsets": offsets,
    }


def sizes_of_every_order() -> dict[str, Any]:
    batch = groups_of(1)
    sizes = np.random.default_rng(5).zipf(1.3, N_CONNECTORS) % 60_000
    ends = np.cumsum(sizes)
    offsets = np.concatenate([[0, 0], ends[ends < N_CONNECTORS], [N_CONNECTORS] * 3])
    capacity = np.diff(offsets) * 5.0
    return batch | {"offsets": offsets, "capacity": capacity}


def trees() -> dict[str, Any]:
    """Every tenth group feeds the nine before it, and every hundredth the nine tenths before."""
    batch = groups_of(50)
    g = np.arange(batch["capacity"].size)
    parent = np.where(g % 10 < 9, g - g % 10 + 9, np.where(g % 100 < 99, g - g % 100 + 99, -1))
    return batch | {"parent": parent, "capacity": np.where(g % 10 < 9, 200.0, 1000.0)}


def with_everything() -> dict[str, Any]:
    random = np.random.default_rng(3)
    return groups_of(20) | {
        "weight": random.choice([1.0, 2.0, 0.3], N_CONNECTORS),
        "priority": random.integers(0, 2, N_CONNECTORS),
        "rank": random.permutation(N_CONNECTORS).astype(float),
        "active": random.random(N_CONNECTORS) < 0.7,
        "step": 0.1,
    }


BATCHES = {
    "tiny groups": lambda: groups_of(2),
    "small groups": lambda: groups_of(50),
    "two groups": lambda: groups_of(N_CONNECTORS // 2),
    "one group": lambda: groups_of(N_CONNECTORS),
    "sizes of every order": sizes_of_every_order,
    "trees": trees,
    "one tree": lambda: trees() | {"parent": np.append(np.full(3999, 3999), -1)},
    "everything": with_everything,
}


def assert_same(found: Any, expected: Any) -> None:
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), name)


@pytest.mark.parametrize("name", BATCHES)
def test_the_number_of_threads_changes_nothing(name):
    batch = BATCHES[name]()
    expected = allocate(**batch)
    out = allocate(**batch | {"capacity": 1.0})

    for threads in (2, 3, 7, 64, 10**30):
        assert_same(allocate(**batch, threads=threads), expected)
    assert_same(allocate(**batch, threads=2, level=expected.level, out=out), expected)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("reuse", [False, True])
def test_the_same_malformed_connector_is_named_with_any_number_of_threads(threads, reuse):
    batch = groups_of(50)
    out = allocate(**batch) if reuse else None
    for i in (31_000, 77_777, 190_000):
        batch["maximum"][i] = np.nan

    rule = r"maximum must be at least 0, got maximum\[31000\] = nan \(3 of 200000 values\)"
    with pytest.raises(InputError, match=rule):
        allocate(**batch, threads=threads, out=out)


def test_a_refused_call_with_threads_leaves_out_as_it_was():
    batch = groups_of(50)
    out = allocate(**batch)
    power = out.power.copy()
    minimum = np.append(np.zeros(N_CONNECTORS - 1), -1.0)

    with pytest.raises(InputError, match="minimum must be at least 0"):
        allocate(**batch | {"minimum": minimum, "capacity": 1.0}, threads=2, out=out)

    np.testing.assert_array_equal(out.power, power)


def test_no_thread_writes_before_all_have_looked():
    # The malformed one stands where one thread looks last, while others would be writing.
    batch = groups_of(50)
    batch["maximum"][-1] = np.nan
    sound = groups_of(50)
    out = allocate(**sound)
    power = out.power.copy()

    for threads in (2, 3, 7) * 20:
        with pytest.raises(InputError, match="maximum must be at least 0"):
            allocate(**batch | {"capacity": 1.0}, threads=threads, out=out)
        np.testing.assert_array_equal(out.power, power)


def test_threads_may_ask_for_the_reasons_of_one_allocation_at_once():
    batch = groups_of(50)
    expected = allocate(**batch).reason
    allocation = allocate(**batch)
    found: list[Any] = [None] * 4
    start = threading.Barrier(len(found))

    def ask(i: int) -> None:
        start.wait()
        found[i] = allocation.reason

    workers = [threading.Thread(target=ask, args=(i,)) for i in range(len(found))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    for reason in found:
        np.testing.assert_array_equal(reason, expected)


def test_other_threads_go_on_while_the_kernel_works():
    # Were the GIL held, the loop below could only run before the first call or after the last.
    batch = groups_of(50)
    calls: list[int] = []
    seen = set()

    def solve() -> None:
        for i in range(200):
            allocate(**batch)
            calls.append(i)

    worker = threading.Thread(target=solve)
    worker.start()
    while worker.is_alive():
        seen.add(len(calls))
    worker.join()

    assert len(seen) > 2


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


BATCH = """
import numpy as np, os, sys, threading
from wattfill import allocate
maximum = np.random.default_rng(1).choice([3.7, 7.4, 11.0], 200_000)
batch = np.zeros(200_000), maximum, 200.0, np.arange(0, 200_001, 50)
expected = allocate(*batch).power.tobytes()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.skipif(
    _kernel.is_checked(), reason="a fork may find locked what the sanitizers lock to allocate"
)
def test_a_process_forked_after_and_during_calls_with_threads_works():
    done = run(
        BATCH
        + """
import warnings
# Python warns of forks beside threads from 3.12 on, for what others do with them.
warnings.simplefilter("ignore", DeprecationWarning)
stop = threading.Event()
def work():
    while not stop.is_set():
        allocate(*batch, threads=3)
worker = threading.Thread(target=work)
worker.start()
for _ in range(20):
    child = os.fork()
    if child == 0:
        same = allocate(*batch, threads=3).power.tobytes() == expected
        os._exit(0 if same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
stop.set()
worker.join()
"""
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="there is no /proc")
def test_no_thread_is_left_when_a_call_returns():
    # One that has done its work may take a moment to end, so look until there is none.
    done = run(
        BATCH
        + """
before = len(os.listdir("/proc/self/task"))
for _ in range(50):
    allocate(*batch, threads=4)
while len(os.listdir("/proc/self/task")) > before:
    pass
"""
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="there is no /proc")
@pytest.mark.skipif(_kernel.is_checked(), reason="the sanitizers need all of the address space")
def test_where_no_thread_can_be_started_the_caller_does_all_the_work():
    # Room for the batch, but not for the stack of a thread.
    done = run(
        BATCH
        + """
import resource
threading.stack_size(0)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
out = allocate(*batch)
resource.setrlimit(resource.RLIMIT_AS, (used + (6 << 20), resource.RLIM_INFINITY))
try:
    threading.Thread(target=print).start()
except RuntimeError:
    print("no thread")
allocate(*batch, threads=4, out=out)
print(out.power.tobytes() == expected)
"""
    )

    assert done.stdout.split("\n")[:2] == ["no thread", "True"], done.stderr
