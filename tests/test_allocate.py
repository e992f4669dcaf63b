"""Worked cases, with their arithmetic."""

import numpy as np
import pytest

from wattfill import Reason, allocate

IDLE, PAUSED, MINIMUM, SHARING, MAXIMUM = Reason


def test_what_a_saturated_connector_leaves_goes_to_the_others():
    # 40 kW over three: the third stops at 10 kW, the other two share 30 kW.
    a = allocate([6, 6, 6], [16, 32, 10], 40)

    assert a.power.tolist() == [15.0, 15.0, 10.0]
    assert a.reason.tolist() == [SHARING, SHARING, MAXIMUM]
    assert a.bound_by.tolist() == [0, 0, -1]
    assert (a.level.tolist(), a.usable.tolist(), a.used.tolist()) == ([15.0], [40.0], [40.0])


def test_totals_are_equal_not_increments_above_the_minimum():
    # 5..15 and 1..15 under 10: 5 and 5, not 7 and 3.
    assert allocate([5, 1], [15, 15], 10).power.tolist() == [5.0, 5.0]


def test_who_needs_more_than_the_level_keeps_its_minimum():
    # 20 kW: 12 go to the first; the others share 8.
    a = allocate([12, 1, 1], [22, 22, 22], 20)

    assert a.power.tolist() == [12.0, 4.0, 4.0]
    assert a.reason.tolist() == [MINIMUM, SHARING, SHARING]
    assert a.bound_by.tolist() == [0, 0, 0]


def test_a_group_with_room_for_all_does_not_bind():
    a = allocate([1, 1], [7, 11], 20)

    assert a.power.tolist() == [7.0, 11.0]
    assert a.reason.tolist() == [MAXIMUM, MAXIMUM]
    assert a.level.tolist() == [np.inf]


@pytest.mark.parametrize(
    ("cars", "power"),
    [(n, [7.0] * n) for n in range(1, 5)]
    + [(5, [6.0] * 5), (6, [5.0] * 6), (7, [5.0] * 6 + [0.0]), (8, [5.0] * 6 + [0.0] * 2)],
)
def test_eight_ports_of_7_kw_share_30_kw(cars, power):
    # 4 * 7 = 28 fits; 30 / 5 = 6; 30 / 6 = 5, the minimum; a seventh minimum does not fit.
    a = allocate([5] * 8, [7] * 8, 30, active=np.arange(8) < cars)

    assert a.power.tolist() == power + [0.0] * (8 - cars)
    assert a.reason.tolist()[cars:] == [IDLE] * (8 - cars)


def test_what_the_paused_leave_behind_is_used_by_the_others():
    # 5 + 5 of 14 kW; the third 5 does not fit, so the two share all 14.
    a = allocate([5, 5, 5], [22, 22, 22], 14)

    assert a.power.tolist() == [7.0, 7.0, 0.0]
    assert a.reason.tolist() == [SHARING, SHARING, PAUSED]
    assert a.bound_by.tolist() == [0, 0, 0]


def test_a_smaller_minimum_later_in_line_is_admitted_where_a_larger_one_did_not_fit():
    a = allocate([5, 5, 2], [22, 22, 22], 8)

    assert a.power.tolist() == [5.0, 0.0, 3.0]


def test_priority_then_rank_then_position_decide_who_is_admitted():
    a = allocate([5] * 4, [7] * 4, 10, priority=[0, 1, 0, 0], rank=[2, 9, 2, 1])

    assert a.power.tolist() == [0.0, 5.0, 0.0, 5.0]


def test_decimals_are_what_they_say():
    # In doubles 0.1 + 0.1 + 0.1 > 0.3, and 100 * (1 - 0.9) < 10.
    assert allocate([0.1] * 3, [1] * 3, 0.3).power.tolist() == [0.1, 0.1, 0.1]
    assert allocate([5, 5], [7, 7], 100, buffer=0.9).power.tolist() == [5.0, 5.0]
    assert allocate([0], [4.14], 9).power.tolist() == [4.14]


def test_equals_get_equal_and_less_than_a_quantum_each_stays_unused():
    a = allocate([0] * 3, [10] * 3, 10)

    assert a.power.tolist() == [3.333333] * 3
    assert a.used.tolist() == [9.999999]


def test_bounds_off_the_grid_come_back_within_the_callers_own():
    # The minimum goes up to 1.2 and the maximum down to 1.3 thousandths of a watt.
    a = allocate([1.19e-6, 0], [5, 1.31e-6], 2.4e-6)

    assert a.power.tolist() == [2e-6, 0.0]
    assert a.used.tolist() == [2e-6]


def test_the_highest_tier_is_filled_first():
    # Everybody has 2; of the other 6 the first takes all.
    a = allocate([2, 2, 2], [11, 5, 5], 12, priority=[1, 0, 0])

    assert a.power.tolist() == [8.0, 2.0, 2.0]
    assert a.reason.tolist() == [SHARING, MINIMUM, MINIMUM]
    assert a.level.tolist() == [8.0]


def test_the_next_tier_shares_what_a_saturated_tier_leaves():
    # 5 to the first; 4.5 each of the other 9.
    a = allocate([2, 2, 2], [5, 11, 11], 14, priority=[1, 0, 0])

    assert a.power.tolist() == [5.0, 4.5, 4.5]


def test_shares_are_in_proportion_to_weights():
    assert allocate([0, 0], [22, 22], 12, weight=[1, 3]).power.tolist() == [3.0, 9.0]


def test_weights_of_a_tenth_and_three_tenths_are_one_to_three():
    a = allocate([0, 0], [22, 22], 12, weight=[0.1, 0.3])

    assert a.power.tolist() == [3.0, 9.0]


def test_a_level_on_the_grid_leaves_less_than_a_quantum_per_connector():
    # Level 8 draws 8 + 8 + 4 quanta, level 9 would draw 9 + 9 + 4.
    a = allocate([0, 0, 0], [22, 22, 22], 21, weight=[1, 1, 0.5], resolution=1)

    assert a.level.tolist() == [8.0]
    assert a.power.tolist() == [8.0, 8.0, 4.0]


def test_steps_go_out_in_admission_order():
    # 10 A of 3 connectors: 3 each, and the one that is left to the first in line.
    a = allocate([0] * 3, [16] * 3, 10, step=1, rank=[2, 1, 3])

    assert a.power.tolist() == [3.0, 4.0, 3.0]
    assert a.used.tolist() == [10.0]


def test_a_power_is_a_multiple_of_the_step_within_the_bounds():
    # 6.5 goes up to 7, 16.5 down to 16.
    assert allocate([6.5], [16.5], 20, step=1).power.tolist() == [16.0]
    assert allocate([6.5], [16.5], 6.9, step=1).power.tolist() == [0.0]


def test_a_connector_with_no_step_between_its_bounds_is_paused_by_nobody():
    a = allocate([5, 1], [5.5, 9], 9, step=2)

    assert a.power.tolist() == [0.0, 8.0]
    assert a.reason.tolist() == [PAUSED, MAXIMUM]
    assert a.bound_by.tolist() == [-1, -1]


@pytest.mark.parametrize(("capacity", "power"), [(3, [1, 1, 1]), (4, [1, 2, 1]), (5, [1, 2, 2])])
def test_weighted_steps_have_no_alabama_paradox(capacity, power):
    # Claims (k + 1/2) / w: 1/2 and 3/2 of the first; 1/6, 1/2, 5/6, 7/6 of the others.
    a = allocate([0, 0, 0], [1, 4, 4], capacity, weight=[1, 3, 3], step=1)

    assert a.power.tolist() == power


def test_a_connector_is_bound_by_every_ancestor():
    # Two floors of 20 below 30: floor 0 gives 10 each, the building 10 each to all three.
    a = allocate([0] * 4, [22, 22, 22, 5], [20, 20, 30], [0, 2, 4, 4], parent=[2, 2, -1])

    assert a.power.tolist() == [8.333333, 8.333333, 8.333333, 5.0]
    assert a.bound_by.tolist() == [2, 2, 2, -1]
    assert a.level.tolist() == [10.0, 15.0, 8.333333]
    assert a.used.tolist() == [16.666666, 13.333333, 29.999999]


def test_a_minimum_must_fit_in_every_ancestor():
    a = allocate([5, 5, 5], [7, 7, 7], [10, 10, 12], [0, 2, 3, 3], parent=[2, 2, -1])

    assert a.power.tolist() == [5.0, 5.0, 0.0]
    assert a.reason.tolist() == [MINIMUM, MINIMUM, PAUSED]
    assert a.bound_by.tolist() == [0, 0, 2]


def test_who_binds_is_a_group_that_has_nothing_left():
    # The floor alone would leave the first 1 mW above 0; the building, full, leaves it none. It
    # is the building that holds the second at its minimum, too.
    a = allocate([0, 1.4], [1.4, 2.3], [1.4, 1.400001], [0, 0, 2], parent=[-1, 0])

    assert a.power.tolist() == [0.0, 1.4]
    assert a.bound_by.tolist() == [0, 0]
    assert a.headroom.tolist() == [0.0, 0.000001]


def test_reserved_load_comes_off_after_the_buffer():
    a = allocate([0], [99], 100, buffer=0.1, reserved=30.5)

    assert a.usable.tolist() == [59.5]
    assert a.power.tolist() == [59.5]


def test_more_reserved_than_there_is_leaves_nothing():
    a = allocate([0, 1], [5, 5], 10, reserved=11)

    assert a.usable.tolist() == [0.0]
    assert a.power.tolist() == [0.0, 0.0]
    assert a.reason.tolist() == [MINIMUM, PAUSED]


def test_one_hopeless_group_costs_the_others_nothing():
    a = allocate([5, 5, 5], [7, 7, 7], [0, 4.9, 6], [0, 1, 2, 3])

    assert a.power.tolist() == [0.0, 0.0, 6.0]
    assert a.bound_by.tolist() == [0, 1, 2]


def test_headroom_and_shortfall_are_decimals():
    # 0.3 - 0.2 is not 0.1 in doubles. Three minimums of 5 lack 1.1 of 13.9.
    a = allocate([0.2, 5, 5, 5], [0.2, 7, 7, 7], [0.3, 13.9], [0, 1, 4])

    assert a.needed.tolist() == [0.2, 15.0]
    assert a.headroom.tolist() == [0.1, 0.0]
    assert a.shortfall.tolist() == [0.0, 1.1]


def test_what_is_needed_counts_all_below_who_have_a_session():
    a = allocate([5, 5, 5], [7, 7, 7], [9, 9, 9], [0, 2, 3, 3], parent=[2, 2, -1],
                 active=[True, False, True])  # fmt: skip

    assert a.needed.tolist() == [5.0, 5.0, 10.0]


def test_minimum_equal_to_maximum_is_at_its_maximum():
    a = allocate([5, 0], [5, 9], 8)

    assert a.power.tolist() == [5.0, 3.0]
    assert a.reason.tolist() == [MAXIMUM, SHARING]


@pytest.mark.parametrize("n", [8, 50, 1_000, 50_000])
def test_minimums_of_minus_zero_are_minimums_of_zero(n):
    maximum = np.linspace(1.0, 5.0, 3 * n)
    shared = {"capacity": [0.2 * n, 2.0 * n, 9.0 * n], "offsets": np.arange(4) * n}

    found = allocate(np.full(3 * n, -0.0), maximum, **shared)
    again = allocate(
        np.full(3 * n, -0.0), maximum, **shared, out=allocate(maximum, maximum, **shared)
    )

    expected = allocate(np.zeros(3 * n), maximum, **shared)
    assert found.power.tobytes() == again.power.tobytes() == expected.power.tobytes()
    assert found.level.tobytes() == again.level.tobytes() == expected.level.tobytes()


@pytest.mark.parametrize("step", [None, 0.1])
def test_a_bound_of_minus_zero_comes_back_as_zero(step):
    a = allocate([-0.0, -0.0], [-0.0, 5.0], 0.0, step=step)

    assert np.signbit(a.power).tolist() == [False, False]
