"""What `allocate` refuses, in which words; and that it refuses rather than crashes."""

import re
from contextlib import suppress
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from wattfill import Allocation, InputError, InputTypeError, Reason, WattfillError, allocate

NAN, INF = float("nan"), float("inf")
GOOD = {"minimum": [1.0, 2.0, 3.0], "maximum": [4.0, 5.0, 6.0], "capacity": [9.0, 9.0]}
GOOD["offsets"] = [0, 2, 3]

REFUSED = [
    # Bounds.
    ({"minimum": [1, NAN, 3]}, "minimum must be at least 0, got minimum[1] = nan (1 of 3 values)"),
    ({"minimum": [-1, 2, -3]}, "minimum must be at least 0, got minimum[0] = -1.0 (2 of 3 values)"),
    ({"maximum": [4, 5, NAN]}, "maximum must be at least 0, got maximum[2] = nan (1 of 3 values)"),
    ({"maximum": [4, -5, 6]}, "maximum must be at least 0, got maximum[1] = -5.0 (1 of 3 values)"),
    (
        {"maximum": [4, INF, INF]},
        "maximum must be finite (give the connector's rating), got maximum[1] = inf "
        "(2 of 3 values)",
    ),
    (
        {"minimum": [1, INF, 3]},
        "maximum must be at least minimum, got maximum[1] = 5.0 < minimum[1] = inf "
        "(1 of 3 connectors)",
    ),
    (
        {"maximum": [0.5, 5, 2]},
        "maximum must be at least minimum, got maximum[0] = 0.5 < minimum[0] = 1.0 "
        "(2 of 3 connectors)",
    ),
    ({"maximum": [4, 5]}, "minimum and maximum must have the same length, got 3 and 2"),
    ({"minimum": 1.0}, "minimum must have one dimension, got shape ()"),
    ({"maximum": [[4, 5, 6]]}, "maximum must have one dimension, got shape (1, 3)"),
    # Groups.
    ({"capacity": [9, NAN]}, "capacity must be finite and at least 0, got capacity[1] = nan"),
    ({"capacity": [9, INF]}, "capacity must be finite and at least 0, got capacity[1] = inf"),
    ({"capacity": -1}, "capacity must be finite and at least 0, got -1.0"),
    ({"capacity": [9]}, "capacity must have one value per group, got 1 for 2 groups"),
    (
        {"capacity": [9, 1e10]},
        "capacity must be below 9.0072e+09, which is 2**53 quanta (take a coarser resolution), "
        "got capacity[1] = 10000000000.0 (1 of 2 values)",
    ),
    ({"capacity": [9, 3e9], "weight": [1, 1, 1]}, "which is 2**51 quanta"),
    ({"capacity": [9, 9], "resolution": 2.0**-50}, "which is 2**53 quanta"),
    ({"buffer": 1.1}, "buffer must be within 0.0..1.0, got 1.1"),
    ({"buffer": [0, -0.1]}, "buffer must be within 0.0..1.0, got buffer[1] = -0.1 (1 of 2 values)"),
    ({"buffer": NAN}, "buffer must be within 0.0..1.0, got nan"),
    ({"reserved": [-1, 0]}, "reserved must be finite and at least 0, got reserved[0] = -1.0"),
    ({"reserved": INF}, "reserved must be finite and at least 0, got inf"),
    # Offsets.
    ({"offsets": []}, "offsets must have one value more than there are groups, got none"),
    ({"offsets": [1, 2, 3]}, "offsets must start at 0, got offsets[0] = 1"),
    ({"offsets": [0, 3, 2]}, "offsets must not fall, got offsets[2] = 2 after 3 (1 of 2 groups)"),
    (
        {"offsets": [0, 2, 4]},
        "offsets must end at the number of connectors, got offsets[2] = 4 for 3 connectors",
    ),
    ({"offsets": [[0, 2, 3]]}, "offsets must have one dimension, got shape (1, 3)"),
    # Nesting.
    ({"parent": [-1]}, "parent must have one value per group, got 1 for 2 groups"),
    (
        {"parent": [-1, 2]},
        "parent must be a group index below 2, or -1 for none, got parent[1] = 2",
    ),
    ({"parent": [-2, 0]}, "parent must be a group index below 2, or -1 for none, got parent[0]"),
    ({"parent": [-1, 1]}, "parent must be another group, got parent[1] = 1 (1 of 2 values)"),
    ({"parent": [1, 0]}, "parent must not go in a circle, got 0 -> 1 -> 0 (child -> parent)"),
    # Connectors.
    ({"weight": [1, 0, 1]}, "weight must be above 0 (within 1e-100..1e+100), got weight[1] = 0.0"),
    ({"weight": [1, 1, -2]}, "weight must be above 0 (within 1e-100..1e+100), got weight[2] = -2"),
    ({"weight": [NAN, 1, 1]}, "weight must be above 0 (within 1e-100..1e+100), got weight[0]"),
    ({"weight": [1, 1]}, "weight must have one value per connector, got 2 for 3 connectors"),
    ({"rank": [1, NAN, 2]}, "rank must be finite, got rank[1] = nan (1 of 3 values)"),
    ({"priority": [1, 2]}, "priority must have one value per connector, got 2 for 3 connectors"),
    (
        {"priority": np.array([1, 2, 2**63], np.uint64)},
        "priority must fit into 64 bits with a sign",
    ),
    ({"active": [True]}, "active must have one value per connector, got 1 for 3 connectors"),
    # Numbers that stand for the whole call.
    ({"step": 0}, "step must be above 0 and finite, got 0.0"),
    ({"step": -1.0}, "step must be above 0 and finite, got -1.0"),
    ({"step": NAN}, "step must be above 0 and finite, got nan"),
    (
        {"step": 1.5e-6},
        "step must be a whole number of quanta (of 1e-06), got 1.5e-06, which is 1.5 of them",
    ),
    ({"step": [1, 2]}, "step must be one number, got shape (2,)"),
    ({"resolution": 0}, "resolution must be one over a whole number up to 2**50"),
    ({"resolution": 0.3}, "(1e-6, 0.001, 0.25, 1), got 0.3"),
    ({"resolution": 2}, "resolution must be one over a whole number up to 2**50"),
    ({"resolution": -1e-6}, "resolution must be one over a whole number up to 2**50"),
    ({"resolution": NAN}, "resolution must be one over a whole number up to 2**50"),
    ({"threads": 0}, "threads must be a whole number, at least 1, or None, got 0"),
    ({"threads": 1.5}, "threads must be a whole number, at least 1, or None, got 1.5"),
    ({"threads": True}, "threads must be a whole number, at least 1, or None, got True"),
    ({"out": allocate([1], [2], 3)}, "out must have 3 connectors in 2 groups, got 1 in 1"),
]

NOT_NUMBERS = [
    ({"minimum": [1, True, 3]}, "minimum must be real numbers, got minimum[1] = True"),
    ({"minimum": [1, "2", 3]}, "minimum must be real numbers, got minimum[1] = '2'"),
    ({"minimum": [1, None, 3]}, "minimum must be real numbers, got minimum[1] = None"),
    ({"minimum": [1, 2j, 3]}, "minimum must be real numbers, got minimum[1] = 2j"),
    ({"minimum": [1, [2], 3]}, "minimum must be real numbers, got"),
    ({"minimum": [1, Decimal(2), 3]}, "got minimum[1] = Decimal('2')"),
    ({"minimum": [1, 10**400, 3]}, "minimum must be real numbers"),
    ({"minimum": None}, "minimum must be real numbers, got None"),
    ({"minimum": "123"}, "minimum must be real numbers, got '123'"),
    ({"minimum": {1, 2, 3}}, "minimum must be real numbers, got {1, 2, 3}"),
    ({"minimum": np.array([1, 2, 3], bool)}, "minimum must be real numbers, got minimum[0] = "),
    ({"minimum": np.array([1, 2, 3], complex)}, "minimum must be real numbers, got minimum[0] = "),
    ({"minimum": np.array([1, 2, 3], "m8[s]")}, "minimum must be real numbers, got minimum[0] = "),
    ({"minimum": np.array(False)}, "minimum must be real numbers, got an array of bool"),
    ({"minimum": [1, 10**5000, 3]}, "minimum must be real numbers, got minimum[1] = a huge number"),
    ({"minimum": np.ma.masked_less([1.0, 2, 3], 2)}, "got an array with masked values"),
    ({"capacity": None}, "capacity must be real numbers, got None"),
    ({"capacity": True}, "capacity must be real numbers, got True"),
    ({"capacity": "9"}, "capacity must be real numbers, got '9'"),
    ({"buffer": [0.1, None]}, "buffer must be real numbers, got buffer[1] = None"),
    ({"offsets": [0.0, 2.0, 3.0]}, "offsets must be whole numbers, got offsets[0] = 0.0"),
    ({"parent": [-1, 0.0]}, "parent must be whole numbers, got parent[1] = 0.0"),
    ({"priority": [1.0, 2.0, 3.0]}, "priority must be whole numbers, got priority[0] = 1.0"),
    ({"priority": [1, True, 3]}, "priority must be whole numbers, got priority[1] = True"),
    ({"active": [1, 0, 1]}, "active must be booleans, got active[0] = 1"),
    ({"step": "1"}, "step must be a real number, got '1'"),
    ({"step": True}, "step must be a real number, got True"),
    ({"resolution": None}, "resolution must be a real number, got None"),
    ({"out": 5}, "out must be an Allocation, got int"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_a_value_that_breaks_a_rule_is_refused(change, message):
    with pytest.raises(InputError, match=re.escape(message)):
        allocate(**GOOD | change)


@pytest.mark.parametrize(("change", "message"), NOT_NUMBERS)
def test_what_is_no_number_is_refused(change, message):
    with pytest.raises(InputTypeError, match=re.escape(message)):
        allocate(**GOOD | change)


def test_errors_are_the_builtin_ones_too():
    with pytest.raises(ValueError, match="buffer"):
        allocate(**GOOD | {"buffer": 2})
    with pytest.raises(TypeError, match="buffer"):
        allocate(**GOOD | {"buffer": "2"})


def test_a_long_circle_is_cut_short():
    n = 1000

    with pytest.raises(InputError, match=re.escape("9 -> 10 -> ... -> 0 (child -> parent)")):
        allocate([], [], [1.0] * n, [0] * (n + 1), parent=[*range(1, n), 0])


def test_groups_below_a_circle_are_found_too():
    with pytest.raises(InputError, match=re.escape("got 1 -> 2 -> 1 (child -> parent)")):
        allocate([], [], [1.0] * 3, [0] * 4, parent=[1, 2, 1])


@pytest.mark.parametrize(
    "name", ["power", "reason", "bound_by", "level", "usable", "used", "needed"]
)
def test_an_out_of_other_memory_is_refused(name):
    parts = {
        field: getattr(allocate(**GOOD), field)
        for field in ("power", "reason", "bound_by", "level", "usable", "used", "needed", "offsets")
    }
    frozen = parts[name].copy()
    frozen.flags.writeable = False
    for bad in (parts[name].astype(np.float32), parts[name].repeat(2)[::2], frozen):
        out = Allocation(**parts | {name: bad}, resolution=1e-6)

        with pytest.raises(InputError, match=rf"out\.{name} must be a writable, contiguous array"):
            allocate(**GOOD, out=out)


def test_an_out_of_another_resolution_is_refused():
    with pytest.raises(InputError, match=r"out must have the resolution of the call, got 1e-06"):
        allocate(**GOOD, out=allocate(**GOOD), resolution=0.001)


def test_a_refused_call_leaves_out_as_it_was():
    out = allocate(**GOOD)
    power = out.power.copy()

    with pytest.raises(InputError):
        allocate(**GOOD | {"maximum": [9, 9, NAN]}, out=out)

    np.testing.assert_array_equal(out.power, power)


@pytest.mark.parametrize("n", [200, 2_000, 50_000])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"step": 0.1},
        {"weight": "each"},
        {"priority": "each"},
        {"active": "each"},
        {"level": [5.0]},
        {"resolution": 1e-9},
    ],
    ids=lambda options: next(iter(options), "plain"),
)
def test_a_refused_call_for_one_group_leaves_all_of_out_as_it_was(n, options):
    # Of a long group nothing is written before its bounds were looked at, on the way to its level.
    place = np.arange(n)
    each = {"weight": np.full(n, 2.0), "priority": place % 3, "active": place % 2 == 0}
    options = {name: each[name] if value == "each" else value for name, value in options.items()}
    minimum, maximum = np.full(n, 1.0), np.linspace(1.0, 9.0, n)
    out = allocate(minimum, maximum, 0.2 * n, **options)
    before = [a.copy() for a in (out.power, out.level, out.usable, out.used, out.needed)]
    for i, bad in ((0, NAN), (n - 1, 0.5), (n // 2, np.inf)):
        malformed = maximum.copy()
        malformed[i] = bad

        with pytest.raises(InputError):
            allocate(minimum, malformed, 0.5 * n, **options, out=out)

        after = (out.power, out.level, out.usable, out.used, out.needed)
        assert [a.tobytes() for a in after] == [a.tobytes() for a in before]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("size", [3, 40, 400, 40_000])
@pytest.mark.parametrize(("low", "high"), [(2.0, 1.0), (-1e-300, 1.0), (1.0, -0.0), (1.0, -1e-300)])
def test_a_refused_call_for_several_groups_leaves_all_of_out_as_it_was(size, low, high, threads):
    minimum, maximum = np.full(3 * size, 1.0), np.linspace(1.0, 9.0, 3 * size)
    offsets, capacity = np.arange(4) * size, np.full(3, 2.0 * size)
    # The last group has to pause some.
    capacity[2] = 0.5 * size
    out = allocate(minimum, maximum, capacity, offsets)
    before = [a.copy() for a in (out.power, out.level, out.usable, out.used, out.needed)]
    for i in (0, size, 3 * size - 1):
        lows, highs = minimum.copy(), maximum.copy()
        lows[i], highs[i] = low, high

        with pytest.raises(InputError, match=rf"(minimum|maximum)\[{i}\]|at {i}\b"):
            allocate(lows, highs, 0.9 * capacity, offsets, threads=threads, out=out)

        after = (out.power, out.level, out.usable, out.used, out.needed)
        assert [a.tobytes() for a in after] == [a.tobytes() for a in before]


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f8", "g", "i1", "u2", "i4", "i8", "u8"])
def test_any_real_dtype_is_taken(dtype):
    a = allocate(np.array([6, 6, 6], dtype), np.array([16, 32, 10], dtype), 40)

    assert a.power.tolist() == [15.0, 15.0, 10.0]


def test_strided_reversed_read_only_and_unaligned_arrays_are_taken():
    bounds = np.array([[6.0, 16.0], [6.0, 32.0], [6.0, 10.0]])
    frozen = np.array([6.0, 6.0, 6.0])
    frozen.flags.writeable = False
    shifted = np.frombuffer(b"x" + np.array([16.0, 32.0, 10.0]).tobytes(), np.uint8)[1:]

    assert allocate(bounds[:, 0], bounds[:, 1], 40).power.tolist() == [15.0, 15.0, 10.0]
    assert allocate(bounds[::-1, 0], bounds[::-1, 1], 40).power.tolist() == [10.0, 15.0, 15.0]
    assert allocate(frozen, shifted.view(np.float64), 40).power.tolist() == [15.0, 15.0, 10.0]
    assert allocate((6, 6, 6), range(16, 19), [40]).power.tolist() == [13.333333] * 3


def test_out_may_share_memory_with_the_input():
    a = allocate([0, 0], [22, 22], 30)

    b = allocate([0, 0], a.power, [20], out=a)

    assert b.power.tolist() == [10.0, 10.0]


def test_reasons_have_labels():
    assert [reason.label for reason in Reason] == [
        "idle",
        "paused",
        "minimum",
        "sharing",
        "maximum",
    ]


ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.complex_numbers(),
    st.text(max_size=3),
    st.binary(max_size=3),
    st.dictionaries(st.text(max_size=1), st.integers(), max_size=2),
    st.lists(st.one_of(st.floats(), st.integers(), st.none(), st.booleans()), max_size=4),
    st.lists(st.lists(st.floats(), max_size=2), max_size=3),
    st.lists(st.floats(0, 10), min_size=3, max_size=3),
    st.lists(st.integers(-2, 4), min_size=2, max_size=3),
    arrays.arrays(
        arrays.scalar_dtypes() | arrays.unicode_string_dtypes(),
        arrays.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=4),
    ),
)
NAMES = ("minimum", "maximum", "capacity", "offsets", "buffer", "reserved", "parent", "weight")
NAMES += ("priority", "rank", "active", "step", "resolution", "out")


@settings(max_examples=20 * settings().max_examples)
@given(st.dictionaries(st.sampled_from(NAMES), ANYTHING, min_size=1, max_size=3))
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_whatever_is_passed_is_solved_or_refused(change: dict[str, Any]):
    with suppress(WattfillError):
        assert np.isfinite(allocate(**GOOD | change).power).all()
