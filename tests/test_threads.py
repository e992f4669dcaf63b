"""Python threads that call at once, with the GIL and without."""

import os
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest

from wattfill import Allocation, allocate

FIELDS = ("power", "reason", "bound_by", "level", "usable", "used", "needed")


def bits(allocation: Allocation) -> list[bytes]:
    return [getattr(allocation, name).tobytes() for name in FIELDS]


def a_batch(seed: int) -> dict[str, object]:
    """Make groups of all sizes, every other one with weights, the third ones with tiers."""
    rng = np.random.default_rng(seed)
    sizes = rng.choice([1, 8, 50, 300, 7_000], 30, p=[0.2, 0.4, 0.3, 0.08, 0.02])
    offsets = np.concatenate(([0], np.cumsum(sizes)))
    n = int(offsets[-1])
    maximum = rng.choice([3.7, 11.0, 22.0], n)
    batch = {
        "minimum": maximum * rng.uniform(0.0, 0.5, n),
        "maximum": maximum,
        "capacity": sizes * rng.uniform(1.0, 15.0, sizes.size),
        "offsets": offsets,
    }
    if seed % 2 == 0:
        batch["weight"] = rng.choice([1.0, 2.0], n)
    if seed % 3 == 0:
        batch["priority"] = rng.integers(0, 3, n)
    return batch


@pytest.mark.parametrize("threads", [None, 2])
def test_threads_that_call_at_once_get_what_each_gets_alone(threads):
    made = [a_batch(seed) for seed in range(8)]
    expected = [bits(allocate(**batch)) for batch in made]
    together = Barrier(len(made))

    def call(k: int) -> list[list[bytes]]:
        together.wait()
        return [bits(allocate(**made[k], threads=threads)) for _ in range(20)]

    with ThreadPoolExecutor(len(made)) as pool:
        found = list(pool.map(call, range(len(made))))

    assert found == [[answer] * 20 for answer in expected]


def test_threads_that_read_the_same_arrays_get_the_same_answer():
    batch = a_batch(6)
    expected = bits(allocate(**batch))
    together = Barrier(4)

    def call(_: int) -> list[list[bytes]]:
        together.wait()
        return [bits(allocate(**batch)) for _ in range(20)]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(call, range(4)))

    assert found == [[expected] * 20] * 4


@pytest.mark.skipif(
    not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this Python always has the GIL"
)
def test_importing_wattfill_leaves_the_gil_off():
    # A module that does not say that it can do without the GIL turns it on, with a warning.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHON_GIL"}
    code = (
        "import sys, wattfill; print(wattfill.allocate([1], [2], 5).power, sys._is_gil_enabled())"
    )

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], env=environment, text=True, capture_output=True
    )

    assert (done.stdout, done.stderr) == ("[2.] False\n", "")
