"""The kernel equals the exact integer reference, bit for bit."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wattfill import _kernel, allocate
from wattfill.testing import solve
from wattfill.testing.strategies import batches

MANY = settings(max_examples=20 * settings().max_examples)
# How often large groups are small, so that most examples cost the reference little.
SCALE = (0.3, 0.3, 0.3, 0.08, 0.02)
FIELDS = ("power", "reason", "bound_by", "level", "usable", "used", "needed")


@pytest.fixture(params=_kernel.simd_levels())
def simd_level(request):
    chosen = _kernel.simd_level()
    yield _kernel.simd_level(request.param)
    _kernel.simd_level(chosen)


def as_lists(batch: dict[str, Any]) -> dict[str, Any]:
    return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in batch.items()}


def assert_same(batch: dict[str, Any]) -> None:
    expected = solve(**as_lists(batch))

    found = allocate(**batch)

    for name in FIELDS:
        assert getattr(found, name).tolist() == getattr(expected, name), name


@MANY
@given(batches())
def test_the_kernel_equals_the_reference(batch):
    assert_same(batch)


def large_batch(seed: int) -> dict[str, Any]:
    """Make groups of 0 to 2,000 connectors, each feature on or off, values over ten decades."""
    rng = np.random.default_rng(seed)
    most_groups, most_connectors = [(8, 4), (8, 10), (8, 41), (4, 301), (2, 2001)][
        rng.choice(5, p=SCALE)
    ]
    n_groups = int(rng.integers(1, most_groups))
    sizes = rng.integers(0, most_connectors, n_groups)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    n = int(offsets[-1])
    match rng.integers(4):
        case 0:
            maximum = rng.choice([3.7, 7.4, 11, 22, 50, 150], n)
        case 1:
            maximum = np.round(rng.random(n) * 50, int(rng.integers(0, 7)))
        case 2:
            maximum = rng.random(n) * 50
        case _:
            maximum = 10 ** rng.uniform(-7, 3, n)
    minimum = np.minimum(maximum, rng.choice([0, 1.4, 4.1, 5, 10], n))
    if rng.random() < 0.5:
        minimum = maximum * rng.random(n)
    batch = {"minimum": minimum, "maximum": maximum, "offsets": offsets}
    least, most = (
        np.array([bound[start:stop].sum() for start, stop in pairwise(offsets)])
        for bound in (minimum, maximum)
    )
    batch["capacity"] = np.maximum(0, least + (most - least) * rng.uniform(-0.3, 1.2, n_groups))
    if rng.random() < 0.6:
        order = rng.permutation(n_groups)
        batch["parent"] = np.full(n_groups, -1)
        for place in range(1, n_groups):
            if rng.random() < 0.8:
                batch["parent"][order[place]] = order[rng.integers(place)]
    if rng.random() < 0.4:
        batch["weight"] = rng.choice([rng.choice([1, 2, 3, 0.1], n), 10 ** rng.uniform(-3, 3, n)])
    if rng.random() < 0.4:
        batch["priority"] = rng.integers(-1, 2, n)
    if rng.random() < 0.4:
        batch["rank"] = rng.integers(0, n + 1, n)
    if rng.random() < 0.4:
        batch["active"] = rng.random(n) < 0.7
    if rng.random() < 0.4:
        batch["step"] = float(rng.choice([0.1, 1e-6, 0.25, 1, 0.023]))
    return batch


@settings(max_examples=4 * settings().max_examples)
@given(st.integers(0, 2**32))
def test_the_kernel_equals_the_reference_on_large_groups(seed):
    assert_same(large_batch(seed))


@pytest.mark.parametrize("seed", range(40))
def test_every_instruction_set_level_equals_the_reference(simd_level, seed):
    assert _kernel.simd_level() == simd_level
    assert_same(large_batch(seed))


@pytest.mark.parametrize("seed", range(40))
def test_threads_and_a_used_out_change_nothing(seed):
    batch = large_batch(seed)
    expected = allocate(**batch)
    used = allocate(**large_batch(seed) | {"buffer": 0.5})

    again = [allocate(**batch, threads=n) for n in (2, 3, 16)] + [allocate(**batch, out=used)]

    assert again[-1] is used
    for found in again:
        for name in (*FIELDS, "offsets"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), name)


# Batches that once were answered wrongly, or that a change could easily break.
CASES = {
    "nothing at all": {"minimum": [], "maximum": [], "capacity": [], "offsets": [0]},
    "one empty group": {"minimum": [], "maximum": [], "capacity": 5.0},
    "no capacity": {"minimum": [0.0, 1.0], "maximum": [5.0, 5.0], "capacity": 0.0},
    "more than any group can have": {
        "minimum": [1e300, 0.0, 0.0],
        "maximum": [1e300, 1e300, 5e-324],
        "capacity": 9e9,
    },
    "weights over two hundred decades": {
        "minimum": [0.0, 0.0, 0.0],
        "maximum": [9.0, 9.0, 9.0],
        "capacity": 14.0,
        "weight": [1e-100, 1.0, 1e100],
    },
    "the same with steps": {
        "minimum": [0.0, 0.0, 0.0],
        "maximum": [9.0, 9.0, 9.0],
        "capacity": 14.0,
        "weight": [1e-100, 1.0, 1e100],
        "step": 0.1,
    },
    "no step between the bounds": {
        "minimum": [5.0, 1.0],
        "maximum": [5.5, 9.0],
        "capacity": 9.0,
        "step": 2.0,
    },
    "a chain of sixty groups": {
        "minimum": [1.0] * 60,
        "maximum": [3.0] * 60,
        "offsets": list(range(61)),
        "capacity": [1.5 * g + 1 for g in range(60)],
        "parent": [*range(1, 60), -1],
    },
    "gigawatts, some beyond all bounds": {
        "minimum": [0.0, 4398046.511104, 0.1, 0.0, 1e300],
        "maximum": [1e7, 4398046.511105, 1e300, 4398046511.104, 1e300],
        "capacity": [4398046.611104, 549756.0, 6e5],
        "offsets": [0, 3, 4, 5],
    },
    "a large group with one beyond all bounds": {
        "minimum": [0.0] * 99 + [1e300],
        "maximum": [7.4] * 98 + [1e300, 1e300],
        "capacity": 500.0,
    },
    "coarse quanta": {
        "minimum": [0.2, 0.0],
        "maximum": [3.0, 3.0],
        "capacity": 4.9,
        "resolution": 1.0,
    },
    "quanta of a third": {
        "minimum": [0.0, 0.0],
        "maximum": [3.0, 3.0],
        "capacity": 4.9,
        "resolution": 1 / 3,
    },
}


@pytest.mark.parametrize("name", CASES)
def test_the_kernel_equals_the_reference_on(name, simd_level):
    assert_same(CASES[name])
