"""However arguments are passed, the answer is the same; and so are the words of a refusal."""

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wattfill import Allocation, InputError, InputTypeError, allocate
from wattfill import _validate as validate
from wattfill.testing.strategies import batches

NAN, INF = float("nan"), float("inf")
FIELDS = ("power", "reason", "bound_by", "level", "usable", "used", "needed", "offsets")
NUMBERS = ("minimum", "maximum", "capacity", "buffer", "reserved", "weight", "rank", "level")


class Labelled(np.ndarray):
    """A subclass that adds nothing."""


class Convertible:
    """No array, but NumPy can make one of it."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.array


def strided(array: np.ndarray) -> np.ndarray:
    return array.repeat(2)[::2]


def reversed_twice(array: np.ndarray) -> np.ndarray:
    return array[::-1].copy()[::-1]


def swapped(array: np.ndarray) -> np.ndarray:
    return array.astype(array.dtype.newbyteorder())


def unaligned(array: np.ndarray) -> np.ndarray:
    shifted = np.empty(array.nbytes + 1, np.uint8)[1:].view(array.dtype)
    shifted[:] = array
    return shifted


def read_only(array: np.ndarray) -> np.ndarray:
    frozen = array.copy()
    frozen.flags.writeable = False
    return frozen


def of_another_c_type(array: np.ndarray) -> np.ndarray:
    return array.astype(np.longlong if array.dtype == np.int64 else array.dtype)


def numpy_numbers(array: np.ndarray) -> list[Any]:
    return list(array)


FORMS = {
    "an array": np.copy,
    "a list": np.ndarray.tolist,
    "a tuple": lambda array: tuple(array.tolist()),
    "numbers of NumPy's": numpy_numbers,
    "a strided array": strided,
    "a reversed array": reversed_twice,
    "a byte-swapped array": swapped,
    "an unaligned array": unaligned,
    "a read-only array": read_only,
    "an array of another C type": of_another_c_type,
    "a subclass": lambda array: array.view(Labelled),
    "a masked array": np.ma.MaskedArray,
    "something convertible": Convertible,
}
forms = st.sampled_from(sorted(FORMS)).map(FORMS.get)


def assert_same(found: Allocation, expected: Allocation) -> None:
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), name)


def as_arrays(batch: dict[str, Any]) -> dict[str, Any]:
    """Give every argument that is one per group or per connector the type that the kernel reads."""
    types = dict.fromkeys(("offsets", "parent", "priority"), np.int64) | {"active": np.bool_}
    types |= dict.fromkeys(NUMBERS, np.float64)
    return {
        name: np.asarray(value, types[name]) if np.ndim(value) else value
        for name, value in batch.items()
    }


@settings(max_examples=5 * settings().max_examples)
@given(batches(), st.data())
def test_the_form_of_an_argument_changes_nothing(batch, data):
    plain = as_arrays(batch)
    expected = allocate(**plain)

    found = allocate(
        **{
            name: data.draw(forms, name)(value) if isinstance(value, np.ndarray) else value
            for name, value in plain.items()
        }
    )

    assert_same(found, expected)


@pytest.mark.parametrize("number", [float, int, np.float64, np.float32, np.int16, np.array])
@pytest.mark.parametrize("n_groups", [0, 1, 3])
def test_one_number_for_all_groups_is_that_number_for_each(number, n_groups):
    minimum, maximum = [0.5] * n_groups, [30.0] * n_groups
    offsets = list(range(n_groups + 1))
    each = {"capacity": 28, "buffer": 1, "reserved": 3}
    for name in each:
        several = each | {"buffer": 0, name: [each[name]] * n_groups}
        one = several | {name: number(each[name])}

        assert_same(
            allocate(minimum, maximum, offsets=offsets, **one),
            allocate(minimum, maximum, offsets=offsets, **several),
        )


@pytest.mark.parametrize("form", [np.copy, np.ndarray.tolist, lambda a: tuple(a.tolist())])
def test_what_the_kernel_can_read_is_not_looked_at_twice(form, monkeypatch):
    batch = as_arrays(
        {"minimum": [1, 1, 1], "maximum": [7, 7, 9], "capacity": [9, 9], "offsets": [0, 2, 3]}
        | {"buffer": [0.1, 0], "reserved": [0, 1], "parent": [1, -1], "weight": [1, 2, 3]}
        | {"priority": [0, 0, 1], "rank": [1, 2, 3], "active": [True, False, True]}
        | {"level": [3, 4]}
    )
    expected = allocate(**batch)
    for name in (*batch, "reals"):
        monkeypatch.setattr(validate, name, pytest.fail, raising=False)

    found = allocate(**{name: form(array) for name, array in batch.items()})

    assert_same(found, expected)


GOOD: dict[str, Any] = {
    "minimum": np.array([1.0, 2.0, 3.0]),
    "maximum": np.array([4.0, 5.0, 6.0]),
    "capacity": np.array([9.0, 9.0]),
    "offsets": np.array([0, 2, 3]),
}
BAD = [
    ("minimum", 1, NAN, "minimum must be at least 0, got minimum[1] = nan (1 of 3 values)"),
    ("maximum", 2, INF, "maximum must be finite (give the connector's rating), got maximum[2] ="),
    ("maximum", 2, 2.5, "maximum must be at least minimum, got maximum[2] = 2.5 < minimum[2] = 3"),
    ("capacity", 1, NAN, "capacity must be finite and at least 0, got capacity[1] = nan (1 of 2"),
    ("capacity", 0, 2.0**53, "capacity must be below 9.0072e+09, which is 2**53 quanta"),
    ("buffer", 1, 1.5, "buffer must be within 0.0..1.0, got buffer[1] = 1.5 (1 of 2 values)"),
    ("reserved", 0, -1.0, "reserved must be finite and at least 0, got reserved[0] = -1.0 (1 of"),
    ("offsets", 0, 1, "offsets must start at 0, got offsets[0] = 1"),
    ("offsets", 1, 4, "offsets must not fall, got offsets[2] = 3 after 4 (1 of 2 groups)"),
    ("offsets", 2, 4, "offsets must end at the number of connectors, got offsets[2] = 4 for 3"),
    ("parent", 1, 2, "parent must be a group index below 2, or -1 for none, got parent[1] = 2 (1"),
    ("parent", 1, 1, "parent must be another group, got parent[1] = 1 (1 of 2 values)"),
    ("weight", 2, 0.0, "weight must be above 0 (within 1e-100..1e+100), got weight[2] = 0.0 (1"),
    ("rank", 0, INF, "rank must be finite, got rank[0] = inf (1 of 3 values)"),
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("name", "i", "value", "message"), BAD)
def test_a_refusal_has_the_same_words_in_every_form(form, name, i, value, message):
    sizes = {"buffer": 2, "reserved": 2, "weight": 3, "rank": 3}
    array = GOOD[name].copy() if name in GOOD else np.ones(sizes.get(name, 2)) / 2
    array = np.array([1, -1]) if name == "parent" else array
    array[i] = value

    with pytest.raises(InputError, match=re.escape(message)):
        allocate(**GOOD | {name: FORMS[form](array)})


@pytest.mark.parametrize("n_groups", [0, 1, 3])
@pytest.mark.parametrize("number", [float, int, np.float64, np.float32, np.array])
def test_one_number_that_breaks_a_rule_is_refused_by_its_value(number, n_groups):
    groups = {"minimum": [], "maximum": [], "offsets": [0] * (n_groups + 1), "capacity": 1.0}
    limit = "below 9.0072e+09, which is 2**53 quanta (take a coarser resolution)"

    for change, message in (
        ({"capacity": number(2**34)}, f"capacity must be {limit}, got 17179869184.0"),
        ({"capacity": number(-1)}, "capacity must be finite and at least 0, got -1.0"),
        ({"buffer": number(2)}, "buffer must be within 0.0..1.0, got 2.0"),
        ({"reserved": number(-3)}, "reserved must be finite and at least 0, got -3.0"),
    ):
        with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
            allocate(**groups | change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"level": [1.0]}, "level must have one value per group, got 1 for 2 groups"),
        ({"level": 1.0}, "level must have one dimension, got shape ()"),
    ],
)
def test_levels_of_other_groups_are_refused(change, message):
    with pytest.raises(InputError, match=re.escape(message)):
        allocate(**GOOD | change)


def test_levels_that_are_no_numbers_are_refused():
    with pytest.raises(InputTypeError, match=r"level must be real numbers, got level\[1\] = None"):
        allocate(**GOOD, level=[1.0, None])


@pytest.mark.parametrize("name", ["minimum", "maximum", "weight", "rank"])
@pytest.mark.parametrize("size", [0, 2, 4])
@pytest.mark.parametrize("form", [np.ones, lambda n: [1.0] * n])
def test_as_many_values_as_connectors_are_needed(name, size, form):
    with pytest.raises(InputError, match=f"{size}"):
        allocate(**GOOD | {name: form(size)})


# Where the search starts.


@settings(max_examples=5 * settings().max_examples)
@given(batches(), st.data())
def test_an_answer_does_not_depend_on_where_the_search_for_it_starts(batch, data):
    expected = allocate(**batch)
    n_groups = expected.level.size

    for level in (
        expected.level,
        expected.level * data.draw(st.floats(0.5, 2.0)),
        data.draw(st.lists(st.floats(), min_size=n_groups, max_size=n_groups)),
        np.full(n_groups, data.draw(st.sampled_from([NAN, INF, -INF, -1.0, 0.0, 5e-324, 1e308]))),
    ):
        assert_same(allocate(**batch, level=level), expected)


@given(batches(), st.sampled_from(["level", "usable", "used", "needed"]))
def test_the_search_may_start_from_the_memory_that_the_answer_goes_to(batch, name):
    expected = allocate(**batch)
    out = allocate(**batch)

    allocate(**batch, level=getattr(out, name), out=out)

    assert_same(out, expected)


# An answer in the memory of an earlier one.


@given(batches())
def test_arguments_may_be_parts_of_the_answer_before(batch):
    batch = as_arrays(batch)
    before = allocate(**batch)
    per_connector = {"minimum": np.zeros(before.power.size), "maximum": before.power}
    per_group = {"capacity": before.used, "reserved": before.level, "buffer": before.needed}
    shared = batch | per_connector | per_group | {"offsets": before.offsets}
    shared["reserved"][:], shared["buffer"][:] = 0.25, 0.5
    shared.pop("step", None)
    apart = {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in shared.items()}
    expected = allocate(**apart)

    found = allocate(**shared, out=before)

    assert found is before
    assert_same(found, expected)


def test_an_answer_goes_to_where_the_earlier_one_was():
    out = allocate([1, 1], [7, 11], 9)
    arrays = {name: getattr(out, name) for name in FIELDS}

    again = allocate([1, 1], [7, 11], 12, out=out)

    assert again is out
    assert out.power.tolist() == [6.0, 6.0]
    assert all(getattr(out, name) is arrays[name] for name in FIELDS)
    assert_same(out, allocate([1, 1], [7, 11], 12))


def test_an_answer_goes_into_memory_of_the_callers():
    ones = np.ones((4, 1))
    power, reason, bound_by = np.zeros(2), np.zeros(2, np.uint8), np.zeros(2, np.int64)
    out = Allocation(power, reason, bound_by, *ones, np.zeros(2, np.int64), 1e-6)

    allocate([1, 1], [7, 11], 12, out=out)

    assert power.tolist() == [6.0, 6.0]
    assert ones[2].tolist() == [12.0]
    assert (out.reason is reason, reason.tolist()) == (True, [3, 3])
    assert (out.bound_by is bound_by, bound_by.tolist()) == (True, [0, 0])


@pytest.mark.parametrize("name", ["power", "level", "usable", "used", "needed", "offsets"])
def test_an_out_that_was_made_read_only_is_refused(name):
    out = allocate([1, 1], [7, 11], 9)
    getattr(out, name).flags.writeable = False

    with pytest.raises(InputError, match=rf"out\.{name} must be a writable, contiguous array"):
        allocate([1, 1], [7, 11], 12, out=out)

    assert out.power.tolist() == [4.5, 4.5]


@pytest.mark.parametrize("value", [None, [1.0, 2.0], "a string"])
def test_an_out_of_no_arrays_is_refused(value):
    arrays = {name: getattr(allocate([1, 1], [7, 11], 9), name) for name in FIELDS}
    out = Allocation(**arrays | {"power": value}, resolution=1e-6)

    with pytest.raises(InputError, match=r"^out"):
        allocate([1, 1], [7, 11], 12, out=out)


def test_resolutions_of_the_same_value_are_the_same():
    out = allocate([1, 1], [7, 11], 9, resolution=1)

    again = allocate([1, 1], [7, 11], 9, resolution=np.float64(1.0), out=out)

    assert again is out
    assert type(out.resolution) is float
