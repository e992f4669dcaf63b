"""One answer, bit for bit: whatever the processor, the threads, the company and the first guess."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import workloads
from wattfill import Allocation, _kernel, allocate
from wattfill.testing.strategies import batches

LEVELS = _kernel.simd_levels()
THREADS = (2, 3, 5)
PER_CONNECTOR = ("power", "reason", "bound_by")
PER_GROUP = ("level", "usable", "used", "needed")
FIELDS = PER_CONNECTOR + PER_GROUP

# Sizes from each of the kernel's classes: how many groups, and of how many connectors.
SIZES = {
    "tiny": (200, 0, 16),
    "small": (30, 17, 250),
    "middle": (4, 250, 6_000),
    "large": (2, 6_000, 60_000),
    "larger": (1, 100_001, 120_000),
    "mixed": (40, 0, 400),
}
FEATURES = ("ties", "none alike", "weights", "tiers", "steps", "tree", "short", "all of it")

Batch = dict[str, Any]


def sized_batch(sizes: str, feature: str) -> Batch:
    """Make groups of one size class, with one feature, or with all of them."""
    rng = np.random.default_rng([*SIZES].index(sizes) * len(FEATURES) + FEATURES.index(feature))
    n_groups, least, most = SIZES[sizes]
    offsets = np.concatenate(([0], np.cumsum(rng.integers(least, most + 1, n_groups))))
    n = int(offsets[-1])
    maximum = rng.choice([3.7, 7.4, 11.0, 22.0, 50.0, 150.0], n)
    minimum = np.minimum(maximum, rng.choice([1.4, 4.1, 5.0, 10.0], n))
    if feature == "none alike":
        maximum *= rng.uniform(0.4, 1.0, n)
        minimum = np.minimum(minimum * rng.uniform(0.0, 1.0, n), maximum)
    lows, highs = (np.concatenate(([0.0], np.cumsum(x)))[offsets] for x in (minimum, maximum))
    part = rng.uniform(*((0.0, 1.0) if feature == "short" else (-0.05, 1.1)), n_groups)
    capacity = np.diff(lows) * (part if feature == "short" else 1.0)
    if feature != "short":
        capacity = np.maximum(0.0, capacity + (np.diff(highs) - np.diff(lows)) * part)
    batch = {"minimum": minimum, "maximum": maximum, "capacity": capacity, "offsets": offsets}
    if feature in ("tree", "all of it"):
        # A third of the groups have no parent; what feeds others needs more.
        parent = rng.integers(0, n_groups, n_groups) - 1
        batch["parent"] = np.where(parent < np.arange(n_groups), parent, -1)
        batch["parent"][rng.random(n_groups) < 1 / 3] = -1
        batch["capacity"] = capacity * (1.0 + 2.0 * np.isin(np.arange(n_groups), batch["parent"]))
    if feature in ("weights", "all of it"):
        batch["weight"] = rng.choice([1.0, 2.0, 3.0, 0.1], n)
    if feature in ("tiers", "all of it"):
        batch["priority"] = rng.integers(-1, 2, n)
    if feature in ("steps", "all of it"):
        batch["step"] = 0.1
    if feature == "all of it":
        batch |= {"rank": rng.integers(0, 9, n), "active": rng.random(n) < 0.7}
    return batch


@pytest.fixture(scope="module", params=SIZES)
def sizes(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module", params=FEATURES)
def sized(request: pytest.FixtureRequest, sizes: str) -> Batch:
    return sized_batch(sizes, request.param)


@pytest.fixture(scope="module", params=workloads.NAMES)
def workload(request: pytest.FixtureRequest) -> Batch:
    return dict(workloads.load(request.param).batch._asdict())


@contextmanager
def on(level: str) -> Iterator[None]:
    chosen = _kernel.simd_level()
    _kernel.simd_level(level)
    try:
        yield
    finally:
        _kernel.simd_level(chosen)


def assert_same_bits(found: Allocation, expected: Allocation) -> None:
    for name in FIELDS:
        assert getattr(found, name).tobytes() == getattr(expected, name).tobytes(), name


def as_arrays(batch: Batch) -> Batch:
    """Return the batch with arrays for lists, so that it can be cut and put together."""
    kinds = {"active": bool, "priority": np.int64, "parent": np.int64, "offsets": np.int64}
    return {
        name: value if np.isscalar(value) else np.asarray(value, kinds.get(name, float))
        for name, value in batch.items()
    }


def is_per_connector(name: str) -> bool:
    return name in ("minimum", "maximum", "weight", "priority", "rank", "active")


def is_per_group(name: str) -> bool:
    return name in ("capacity", "buffer", "reserved")


def picked(batch: Batch, groups: np.ndarray) -> tuple[Batch, np.ndarray]:
    """Return the batch of some groups, with all that feed them, and their connectors."""
    start, sizes = batch["offsets"][:-1][groups], np.diff(batch["offsets"])[groups]
    offsets = np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)
    connectors = np.repeat(start - offsets[:-1], sizes) + np.arange(offsets[-1])
    found = dict(batch, offsets=offsets)
    for name, value in batch.items():
        if is_per_connector(name):
            found[name] = value[connectors]
        elif is_per_group(name):
            found[name] = value[groups]
    if "parent" in batch:
        place = np.full(batch["offsets"].size, -1)
        place[groups] = np.arange(groups.size)
        found["parent"] = place[batch["parent"][groups]]
    return found, connectors


def roots(batch: Batch) -> np.ndarray:
    """Return the root of the tree that each group is in."""
    n_groups = batch["offsets"].size - 1
    parent = batch.get("parent", np.full(n_groups, -1))
    root = np.arange(n_groups)
    for _ in range(n_groups):
        above = parent[root]
        if (above < 0).all():
            break
        root = np.where(above >= 0, above, root)
    return root


def assert_same_where_picked(
    found: Allocation, expected: Allocation, groups: np.ndarray, connectors: np.ndarray
) -> None:
    """Assert that what was picked from a batch got what it gets in all of it."""
    for name in ("power", "reason"):
        assert getattr(found, name).tobytes() == getattr(expected, name)[connectors].tobytes(), name
    bound_by = np.append(groups, -1)[found.bound_by]
    assert bound_by.tolist() == expected.bound_by[connectors].tolist()
    for name in PER_GROUP:
        assert getattr(found, name).tobytes() == getattr(expected, name)[groups].tobytes(), name


def assert_same_on_every_level(batch: Batch) -> None:
    expected = allocate(**batch)

    for level in LEVELS[:-1]:
        with on(level):
            assert_same_bits(allocate(**batch), expected)


def assert_same_with_threads(batch: Batch) -> None:
    expected = allocate(**batch)

    for n in THREADS:
        assert_same_bits(allocate(**batch, threads=n), expected)


def assert_same_in_another_order(batch: Batch, seed: int) -> None:
    """Mix up trees; within a tree the order of groups is part of the input, as it breaks ties."""
    rng = np.random.default_rng(seed)
    root = roots(batch)
    places = rng.permutation(root.size)
    groups = np.empty(root.size, np.int64)
    # The groups of each tree, in order, at the places where another order has this tree.
    groups[np.argsort(root[places], kind="stable")] = np.argsort(root, kind="stable")
    other, connectors = picked(batch, groups)

    assert_same_where_picked(allocate(**other), allocate(**batch), groups, connectors)


def assert_same_beside(batch: Batch, n_before: int, n_after: int) -> None:
    """Put a group of some connectors before all, and one after: that moves them in memory."""
    n, n_groups = batch["offsets"][-1], batch["offsets"].size - 1
    beside = dict(batch)
    for name, value in batch.items():
        if is_per_connector(name) or is_per_group(name):
            first, last = (n_before, n_after) if is_per_connector(name) else (1, 1)
            beside[name] = np.concatenate((np.ones(first), value, np.ones(last))).astype(
                value.dtype
            )
    inner = batch["offsets"] + n_before
    beside["offsets"] = np.concatenate(([0], inner, [inner[-1] + n_after]))
    if "parent" in batch:
        parent = batch["parent"]
        beside["parent"] = np.concatenate(([-1], np.where(parent < 0, -1, parent + 1), [-1]))

    found, expected = allocate(**beside), allocate(**batch)

    connectors, groups = slice(n_before, n_before + n), slice(1, 1 + n_groups)
    for name in ("power", "reason"):
        assert getattr(found, name)[connectors].tobytes() == getattr(expected, name).tobytes(), name
    bound_by = np.where(expected.bound_by < 0, -1, expected.bound_by + 1)
    assert found.bound_by[connectors].tolist() == bound_by.tolist()
    for name in PER_GROUP:
        assert getattr(found, name)[groups].tobytes() == getattr(expected, name).tobytes(), name


def assert_same_from_any_guess(batch: Batch, seed: int) -> None:
    rng = np.random.default_rng(seed)
    expected = allocate(**batch)
    n_groups = expected.level.size
    right = expected.level
    guesses = [right, np.nextafter(right, 0.0), right * rng.uniform(0.0, 2.0, n_groups)]
    guesses += [np.full(n_groups, x) for x in (np.nan, np.inf, -np.inf, 0.0, -1.0, 1e300, 5e-324)]
    guesses.append(rng.permutation(np.concatenate(guesses))[:n_groups])

    for guess in guesses:
        assert_same_bits(allocate(**batch, level=guess), expected)


MANY = settings(max_examples=2 * settings().max_examples)
SEEDS = st.integers(0, 2**32)


@MANY
@given(batches())
def test_every_instruction_set_level_gives_the_same_bits(batch):
    assert_same_on_every_level(batch)


@given(batches())
def test_any_number_of_threads_gives_the_same_bits(batch):
    assert_same_with_threads(batch)


@MANY
@given(batches(), SEEDS)
def test_groups_in_another_order_get_the_same_bits(batch, seed):
    assert_same_in_another_order(as_arrays(batch), seed)


@MANY
@given(batches(), SEEDS)
def test_a_tree_alone_gets_the_same_bits_as_in_company(batch, seed):
    batch = as_arrays(batch)
    expected = allocate(**batch)
    root = roots(batch)

    for tree in np.unique(root):
        groups = np.flatnonzero(root == tree)
        alone, connectors = picked(batch, groups)
        assert_same_where_picked(allocate(**alone), expected, groups, connectors)


@MANY
@given(batches(), st.integers(0, 70), st.integers(0, 70))
def test_neighbours_and_alignment_change_no_bit(batch, n_before, n_after):
    assert_same_beside(as_arrays(batch), n_before, n_after)


@MANY
@given(batches(), SEEDS)
def test_a_guess_of_the_levels_changes_no_bit(batch, seed):
    assert_same_from_any_guess(as_arrays(batch), seed)


@given(batches())
def test_reasons_that_are_looked_at_later_have_the_same_bits(batch):
    unasked, asked = allocate(**batch), allocate(**batch)
    first = [getattr(asked, name).tobytes() for name in PER_CONNECTOR]

    later = [getattr(unasked, name).tobytes() for name in ("reason", "bound_by", "power")]

    assert later == [first[1], first[2], first[0]]
    assert_same_bits(unasked, asked)


def test_every_level_gives_the_same_bits_in_every_size_class(sized):
    assert_same_on_every_level(sized)


def test_threads_give_the_same_bits_in_every_size_class(sized):
    assert_same_with_threads(sized)


def test_another_order_gives_the_same_bits_in_every_size_class(sized):
    assert_same_in_another_order(sized, 1)


@pytest.mark.parametrize("n_before", range(8))
def test_alignment_changes_no_bit_in_any_size_class(sized, n_before):
    assert_same_beside(sized, n_before, 3)


def test_a_guess_of_the_levels_changes_no_bit_in_any_size_class(sized):
    assert_same_from_any_guess(sized, 1)


def test_an_earlier_answer_written_over_has_the_same_bits_in_every_size_class(sized):
    expected = allocate(**sized)
    earlier = allocate(**dict(sized, buffer=0.5))

    for level in LEVELS:
        for n in (1, 2, 3):
            with on(level):
                assert_same_bits(allocate(**sized, threads=n, out=earlier), expected)
            earlier.power.fill(np.nan)


def test_bounds_far_off_the_grid_written_over_have_the_same_bits():
    rng = np.random.default_rng(5)
    sizes = rng.integers(0, 900, 60)
    offsets = np.concatenate(([0], np.cumsum(sizes)))
    maximum = rng.uniform(0.0, 9.0, offsets[-1])
    minimum = maximum * rng.choice([0.0, 0.3, 1.0, -0.0], offsets[-1])
    # Some groups have less than the minimums, some enough for all; at the finest resolution most
    # have more quanta than the quick ways count.
    capacity = sizes * rng.choice([0.5, 2.0, 5.0, 9.0], 60)
    batch = {"minimum": minimum, "maximum": maximum, "capacity": capacity, "offsets": offsets}
    for resolution in (1e-6, 0.25, 2.0**-40):
        expected = allocate(**batch, resolution=resolution)
        earlier = allocate(**batch, buffer=0.5, resolution=resolution)

        for level in LEVELS:
            with on(level):
                again = allocate(**batch, resolution=resolution, out=earlier)
                assert_same_bits(again, expected)


def test_every_level_and_thread_gives_the_same_bits_on_the_workloads(workload):
    expected = allocate(**workload)

    for level in LEVELS:
        with on(level):
            assert_same_bits(allocate(**workload, threads=3), expected)
            earlier = allocate(**workload, buffer=0.5)
            assert_same_bits(allocate(**workload, out=earlier), expected)


def test_order_and_guess_change_no_bit_on_the_workloads(workload):
    expected = allocate(**workload)
    groups = np.random.default_rng(1).permutation(expected.level.size)
    other, connectors = picked(workload, groups)

    found = allocate(**other, level=expected.level)

    assert_same_where_picked(found, expected, groups, connectors)


DIGEST = """
import sys
sys.path[:0] = sys.argv[1:]
from test_bits import digest
print(digest())
"""


def digest() -> str:
    """Return the level in use, and a hash of answers in each size class."""
    answer = hashlib.sha256()
    for sizes in SIZES:
        found = allocate(**sized_batch(sizes, "all of it"))
        for name in FIELDS:
            answer.update(getattr(found, name).tobytes())
    return f"{_kernel.simd_level()} {answer.hexdigest()}"


@pytest.mark.parametrize("level", LEVELS)
def test_the_environment_chooses_the_level_and_the_bits_stay(level):
    with on(level):
        expected = digest()

    done = subprocess.run(
        [sys.executable, "-c", DIGEST, *sys.path],
        env=os.environ | {"WATTFILL_SIMD": level},
        text=True,
        capture_output=True,
    )

    assert done.stderr == ""
    assert done.stdout.split() == expected.split()
