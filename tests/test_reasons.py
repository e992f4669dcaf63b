"""`reason` and `bound_by` are made when somebody asks, and belong to the answer they stand by."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given

from wattfill import InputError, Reason, allocate
from wattfill.testing import solve
from wattfill.testing.strategies import batches

IDLE, PAUSED, MINIMUM, SHARING, MAXIMUM = Reason
CHANGED = "reason and bound_by must be asked for before the arrays that allocate.. was given"


def arrays() -> dict[str, np.ndarray]:
    """Return two groups of which the second feeds the first; everybody's bounds matter."""
    return {
        "minimum": np.array([1.0, 1.0, 1.0, 5.0]),
        "maximum": np.array([9.0, 9.0, 9.0, 9.0]),
        "capacity": np.array([8.0, 20.0]),
        "offsets": np.array([0, 2, 4]),
        "buffer": np.array([0.1, 0.1]),
        "reserved": np.array([0.1, 1.1]),
        "parent": np.array([1, -1]),
        "weight": np.array([1.0, 2.0, 3.0, 1.0]),
        "priority": np.array([1, 1, 0, 0]),
        "rank": np.array([1.0, 2.0, 3.0, 4.0]),
        "active": np.array([True, True, True, True]),
    }


@given(batches())
def test_reasons_are_those_of_the_reference_whichever_is_asked_for_first(batch):
    expected = solve(
        **{k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in batch.items()}
    )

    a, b = allocate(**batch), allocate(**batch)

    assert a.reason.tolist() == expected.reason
    assert a.bound_by.tolist() == expected.bound_by
    assert b.bound_by.tolist() == expected.bound_by
    assert b.reason.tolist() == expected.reason


def test_reasons_are_made_once():
    a = allocate([1, 1], [7, 11], 9)

    assert a.reason is a.reason
    assert a.bound_by is a.bound_by


def test_what_is_changed_after_asking_changes_no_reason():
    given_arrays = arrays()
    a = allocate(**given_arrays)
    before = a.reason.tolist(), a.bound_by.tolist()

    for array in (*given_arrays.values(), a.power, a.level, a.offsets):
        array[:] = 0

    assert (a.reason.tolist(), a.bound_by.tolist()) == before


CHANGES: dict[str, Any] = {
    "minimum": 2.5,
    "maximum": 1.0,
    "capacity": 7.0,
    "buffer": 0.2,
    "reserved": 0.4,
    "parent": -1,
    "weight": 5.0,
    "priority": -1,
    "rank": np.nan,
    "active": False,
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("attribute", ["reason", "bound_by"])
def test_an_array_that_was_changed_before_asking_is_noticed(name, attribute):
    given_arrays = arrays()
    a = allocate(**given_arrays)
    given_arrays[name][0] = CHANGES[name]

    with pytest.raises(InputError, match=CHANGED):
        getattr(a, attribute)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("minimum", np.nan),
        ("maximum", 0.5),
        ("capacity", -1.0),
        ("capacity", np.inf),
        ("buffer", 2.0),
        ("reserved", np.nan),
        ("parent", 7),
        ("parent", 0),
        ("weight", 0.0),
        ("weight", np.nan),
    ],
)
def test_an_array_that_became_malformed_is_noticed(name, value):
    given_arrays = arrays()
    a = allocate(**given_arrays)
    given_arrays[name][0] = value

    with pytest.raises(InputError, match=CHANGED):
        a.reason  # noqa: B018


def test_a_parent_that_became_a_child_of_its_child_is_noticed():
    given_arrays = arrays()
    a = allocate(**given_arrays)
    given_arrays["parent"][1] = 0

    with pytest.raises(InputError, match=CHANGED):
        a.reason  # noqa: B018


@pytest.mark.parametrize("name", ["power", "level", "usable", "used", "needed", "offsets"])
def test_an_answer_that_was_changed_before_asking_is_noticed(name):
    a = allocate(**arrays())
    getattr(a, name)[-1] = 3

    with pytest.raises(InputError, match=CHANGED):
        a.reason  # noqa: B018


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_answer_of_another_shape_than_it_had_is_noticed():
    a = allocate(**arrays())
    a.power.shape = (2, 2)

    with pytest.raises(InputError, match=CHANGED):
        a.reason  # noqa: B018


def test_an_array_that_was_changed_back_is_as_good_as_before():
    given_arrays = arrays()
    expected = allocate(**arrays()).reason.tolist()
    a = allocate(**given_arrays)
    given_arrays["minimum"] += 3

    with pytest.raises(InputError, match=CHANGED):
        a.bound_by  # noqa: B018
    given_arrays["minimum"] -= 3

    assert a.reason.tolist() == expected


def test_lists_and_numbers_may_be_changed():
    minimum, maximum, capacity = [1.0, 1.0], [7.0, 11.0], [9.0]
    a = allocate(minimum, maximum, capacity)

    for values in (minimum, maximum, capacity):
        values.clear()

    assert a.reason.tolist() == [SHARING, SHARING]


def test_reasons_of_a_used_out_are_those_of_the_last_call():
    out = allocate([1, 1], [7, 11], 9)
    reason, bound_by = out.reason, out.bound_by
    assert (reason.tolist(), bound_by.tolist()) == ([SHARING, SHARING], [0, 0])

    allocate([1, 1], [7, 11], 20, out=out)

    assert out.reason.tolist() == [MAXIMUM, MAXIMUM]
    assert out.bound_by.tolist() == [-1, -1]
    # Its memory is overwritten, as that of the powers.
    assert out.reason is reason
    assert out.bound_by is bound_by


def test_a_refused_call_leaves_the_reasons_of_out_as_they_were():
    minimum, maximum = np.array([1.0, 1.0]), np.array([7.0, 11.0])
    out = allocate(minimum, maximum, 9)

    with pytest.raises(InputError, match="maximum must be at least minimum"):
        allocate([1, 12], [7, 11], 20, out=out)

    assert out.reason.tolist() == [SHARING, SHARING]


def test_out_may_share_memory_with_what_its_reasons_are_made_from():
    first = allocate([0, 0, 0], [22, 22, 3], 30)
    assert first.bound_by.tolist() == [0, 0, -1]

    again = allocate([0, 0, 0], first.power, 20, active=first.reason.view(bool), out=first)

    assert again.power.tolist() == [8.5, 8.5, 3.0]
    assert again.reason.tolist() == [SHARING, SHARING, MAXIMUM]
