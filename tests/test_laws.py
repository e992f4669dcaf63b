"""The laws: wattfill keeps them without a tolerance, and wrong answers break the right one."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from wattfill import InputError, InputTypeError, Reason, allocate
from wattfill.testing import LAWS, LawBrokenError, Spec, laws, solve
from wattfill.testing.strategies import batches
from wattfill.testing.trial import Trial, pick

LAW = settings(max_examples=4 * settings().max_examples)
EXACT = Spec(tolerance=0)


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_allocate_keeps_the_law(law):
    @LAW
    @given(batches(EXACT))
    def keeps(batch: dict[str, Any]) -> None:
        law.check(Trial(batch, allocate, EXACT))

    keeps()


@LAW
@given(batches())
def test_reasons_and_binding_groups_say_what_happened(batch):
    a = allocate(**batch)
    feeds = batch.get("parent", [-1] * len(batch["capacity"]))
    active = batch.get("active", [True] * a.power.size)

    for i, reason in enumerate(a.reason):
        bound_by = a.bound_by[i]
        chain = [int(np.searchsorted(a.offsets, i, "right")) - 1]
        while feeds[chain[-1]] >= 0:
            chain.append(feeds[chain[-1]])

        assert (reason == Reason.IDLE) == (not active[i])
        if reason in (Reason.IDLE, Reason.MAXIMUM):
            assert bound_by == -1
        elif reason == Reason.PAUSED:
            assert bound_by in [-1, *chain]
        else:
            assert bound_by in chain
            assert np.isfinite(a.level[bound_by])


@LAW
@given(batches())
def test_no_array_that_is_passed_changes(batch):
    expected = allocate(**batch)
    arrays = {
        name: np.array(value, order="C") for name, value in batch.items() if isinstance(value, list)
    }
    arrays = {name: value for name, value in arrays.items() if value.size}
    copies = {name: value.copy() for name, value in arrays.items()}
    for value in arrays.values():
        value.flags.writeable = False

    again = allocate(**batch | arrays)

    assert again.power.tolist() == expected.power.tolist()
    for name, value in arrays.items():
        np.testing.assert_array_equal(value, copies[name])


# Each answer is wrong in one way, and its law says how.
ONE = {"minimum": [2.0, 0.0], "maximum": [10.0, 10.0], "capacity": 12.0, "offsets": [0, 2]}
THREE = {"minimum": [0.1] * 3, "maximum": [1.0] * 3, "capacity": 0.3}
TREE = {
    "minimum": [0.0, 0.0],
    "maximum": [9.0, 9.0],
    "capacity": [9.0, 9.0, 10.0],
    "offsets": [0, 1, 2, 2],
    "parent": [2, 2, -1],
}
WRONG = {
    "a group over its capacity": (
        laws.never_over,
        ONE,
        [6.0, 6.5],
        "never over: group 0 draws 12.5 kW, 0.5 kW more than it may use\n"
        "expected: at most 12 kW below group 0\n",
    ),
    "a group over its buffer": (
        laws.never_over,
        ONE | {"buffer": 0.5},
        [6.0, 6.0],
        "group 0 draws 12 kW, 6 kW more than it may use",
    ),
    "the group above over its capacity": (
        laws.never_over,
        TREE,
        [6.0, 6.0],
        "group 2 draws 12 kW, 2 kW more than it may use",
    ),
    "less than the minimum": (
        laws.nothing_between_zero_and_the_minimum,
        ONE,
        [1.5, 10.0],
        "connector 0 gets 1.5 kW, less than its minimum of 2 kW\nexpected: 0 kW, or 2 kW at least",
    ),
    "more than the maximum": (
        laws.within_bounds,
        ONE,
        [2.0, 10.5],
        "connector 1 gets 10.5 kW, its maximum is 10 kW",
    ),
    "less than nothing": (laws.within_bounds, ONE, [-2.0, 10.0], "connector 0 gets -2 kW"),
    "power without a session": (
        laws.idle_gets_zero,
        ONE | {"active": [False, True]},
        [2.0, 10.0],
        "connector 0 gets 2 kW and has no session\nexpected: 0 kW",
    ),
    "a pause where minimums fit as decimals": (
        laws.nobody_is_paused_while_all_minimums_fit,
        THREE,
        [0.1, 0.1, 0.0],
        "connector 2 gets 0 kW, though all minimums fit: 0.3 kW of the 0.3 kW of group 0\n"
        "expected: its minimum of 0.1 kW at least",
    ),
    "a pause though there is room": (
        laws.nobody_is_paused_who_would_have_fitted,
        THREE | {"capacity": 0.25},
        [0.25, 0.0, 0.0],
        "connector 1 gets 0 kW, though the minimums of the others leave 0.15 kW",
    ),
    "the first in line paused": (
        laws.who_comes_first_is_admitted_first,
        THREE | {"capacity": 0.25},
        [0.0, 0.125, 0.125],
        "connector 0 gets 0 kW, though the minimums of those before it in line leave 0.25 kW",
    ),
    "a lower priority above its minimum": (
        laws.priority_is_respected,
        ONE | {"priority": [1, 0]},
        [6.0, 6.0],
        "connector 1 of priority 0 gets 6 kW, above its minimum, while connector 0 of priority 1 "
        "gets 6 kW and could take more\nexpected: connector 1 at its minimum of 0 kW",
    ),
    "equal increments instead of equal totals": (
        laws.nobody_larger_could_give,
        ONE,
        [7.0, 5.0],
        "connector 0 gets 7 kW, more than connector 1, which gets 5 kW in the full group 0 and "
        "could take more",
    ),
    "shares that are not by weight": (
        laws.nobody_larger_could_give,
        ONE | {"weight": [2.0, 1.0]},
        [6.0, 6.0],
        "connector 1 gets 6 kW per weight, more than connector 0, which gets 3 kW per weight",
    ),
    "capacity left over": (
        laws.nothing_is_wasted,
        ONE,
        [5.0, 5.0],
        "connector 0 gets 5 kW and could take 10 kW, while 2 kW are left",
    ),
    "capacity left over in a tree": (laws.nothing_is_wasted, TREE, [4.0, 4.0], "2 kW are left"),
    "equals unequal": (
        laws.equals_get_equal,
        THREE | {"capacity": 1.0},
        [0.3, 0.4, 0.3],
        "connectors 0 and 1 are alike and get 0.3 and 0.4 kW\nexpected: the same for both",
    ),
    "half a step": (
        laws.powers_are_whole_steps,
        ONE | {"step": 1.0},
        [6.5, 5.0],
        "connector 0 gets 6.5 kW, which is no multiple of the step\nexpected: a multiple of 1 kW",
    ),
    "the last step to the wrong one": (
        laws.the_last_steps_go_in_line,
        ONE | {"step": 1.0, "capacity": 11.0, "rank": [1.0, 0.0]},
        [6.0, 5.0],
        "connector 0 gets 6 kW, the last step of which was the turn of connector 1, which gets 5 "
        "kW\nexpected: a step of 1 kW more for connector 1",
    ),
    "a quantum less than there is": (
        laws.the_answer_is_that_of_the_reference,
        ONE,
        [6.0, 5.999999],
        "connector 1 gets 5.999999 kW\nexpected: 6.0 kW, as the reference",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_answer_breaks_the_law_on(case):
    law, batch, power, message = WRONG[case]

    with pytest.raises(LawBrokenError) as broken:
        law(batch, power, EXACT)

    assert message in str(broken.value)
    assert f"\nbatch = {batch}" in str(broken.value)
    law(batch, solve(**batch).power, EXACT)


def positions_count(minimum, maximum, capacity, offsets=None, **_):
    """Answer the first in line what it can take."""
    return [min(maximum[0], capacity), *[0.0] * (len(minimum) - 1)] if minimum else []


class Remembers:
    """Answers what it answered before, if it has answered as many."""

    def __init__(self) -> None:
        self.before: list[float] = []

    def __call__(self, **batch: Any) -> list[float]:
        if len(self.before) != len(batch["minimum"]):
            self.before = solve(**batch).power
        return self.before


def clears(**batch: Any) -> list[float]:
    power = solve(**batch).power
    batch["minimum"][:] = []
    return power


def counts_groups(**batch: Any) -> list[float]:
    n = len(batch["offsets"]) - 1
    return [power / n for power in solve(**batch).power]


def pauses_cost(**batch: Any) -> list[float]:
    batch["minimum"] = [0.0 for _ in batch["minimum"]]
    n = len(batch["minimum"])
    return [min(high, batch["capacity"] / n) for high in batch["maximum"]]


def likes_five(**batch: Any) -> list[float]:
    return [min(5.0, x) for x in solve(**batch).power]


def shy(minimum, maximum, capacity, **_):
    return [min(x, 100 / (1 + capacity)) for x in maximum]


def halves(**batch: Any) -> list[float]:
    return [x / 2 for x in solve(**batch).power]


FAULTY = {
    "raises": (
        laws.an_answer_for_everyone,
        ONE,
        lambda **_: 1 / 0,
        "it raised ZeroDivisionError: division by zero\nexpected: a finite power for each",
    ),
    "answers too few": (
        laws.an_answer_for_everyone,
        ONE,
        lambda **_: [1.0],
        "it answered 1 powers for 2 connectors",
    ),
    "answers NaN": (
        laws.an_answer_for_everyone,
        ONE,
        lambda **_: [1.0, float("nan")],
        "it answered nan kW for connector 1",
    ),
    "writes to its input": (
        laws.the_input_is_left_alone,
        ONE,
        clears,
        "minimum was changed to []\nexpected: minimum as it was passed: [2.0, 0.0]",
    ),
    "remembers": (
        laws.history_does_not_matter,
        ONE,
        Remembers,
        "connector 0 gets 6 kW, and 10 kW of an instance that was asked about fewer, more and less",
    ),
    "goes by position": (
        laws.order_does_not_matter,
        THREE | {"minimum": [0.0] * 3, "maximum": [0.3, 0.2, 0.1]},
        positions_count,
        "connector 0 gets 0.3 kW, and 0 kW in reverse order",
    ),
    "counts the groups": (
        laws.other_groups_do_not_matter,
        ONE | {"capacity": [12.0]},
        counts_groups,
        "connector 0 gets 6 kW, and 1.2 kW between other groups",
    ),
    "lets the idle cost": (
        laws.who_gets_nothing_does_not_matter,
        ONE | {"active": [True, False]},
        pauses_cost,
        "connector 0 gets 6 kW, and 10 kW without those who are idle or paused",
    ),
    "gives five at most": (
        laws.twice_everything_gives_twice_the_power,
        ONE,
        likes_five,
        "connector 0 gets 5 kW, and 5 kW where everything is doubled\nexpected: 10 kW",
    ),
    "gives less of more": (
        laws.more_capacity_never_means_less,
        ONE | {"maximum": [99.0, 99.0]},
        shy,
        "connector 0 gets 7.692307692 kW, and 5.882352941 kW of more",
    ),
    "halves": (
        laws.an_answer_as_the_maximums_returns_itself,
        ONE | {"minimum": [0.0, 0.0]},
        halves,
        "connector 0 gets 3 kW, and 1.5 kW with what was answered as the maximums",
    ),
    "halves, and somebody leaves": (
        laws.who_leaves_with_its_power_changes_nothing,
        ONE | {"minimum": [0.0, 0.0]},
        halves,
        "connector 1 gets 3 kW, and 4.5 kW after connector 0 has left with its power",
    ),
}


@pytest.mark.parametrize("case", FAULTY)
def test_an_allocator_breaks_the_law_that(case):
    law, batch, allocator, message = FAULTY[case]

    with pytest.raises(LawBrokenError) as broken:
        law(batch, allocator, EXACT)

    assert message in str(broken.value)
    law(batch, allocate, EXACT)


def test_every_law_has_a_wrong_answer_here():
    judged = {law.name for law, *_ in (*WRONG.values(), *FAULTY.values())}

    assert judged == set(LAWS)


def test_a_message_shows_the_site_as_a_table_and_as_code():
    with pytest.raises(LawBrokenError) as broken:
        laws.never_over(ONE | {"buffer": 0.5, "weight": [1.0, 2.0]}, [6.0, 6.5])

    assert str(broken.value) == (
        "never over: group 0 draws 12.5 kW, 6.5 kW more than it may use\n"
        "expected: at most 6 kW below group 0\n"
        "\n"
        "group 0: capacity 12 kW, buffer 0.5, usable 6 kW, drawn 12.5 kW\n"
        "    connector    minimum    maximum     weight        got  reference\n"
        "            0          2         10          1          6          2\n"
        "            1          0         10          2        6.5          4\n"
        "batch = {'minimum': [2.0, 0.0], 'maximum': [10.0, 10.0], 'capacity': 12.0, "
        "'offsets': [0, 2], 'buffer': 0.5, 'weight': [1.0, 2.0]}"
    )


def test_a_large_site_is_cut_short_for_people():
    n = 1000
    batch = {"minimum": [0.0] * n, "maximum": [1.0] * n, "capacity": 10.0}

    with pytest.raises(LawBrokenError, match="976 more") as broken:
        laws.never_over(batch, [1.0] * n)

    assert str(broken.value).count("\n") < 40


def test_a_tolerance_is_for_powers_and_not_for_what_fits():
    loose = Spec(tolerance=0.01)

    laws.never_over(ONE, [6.005, 6.004], loose)
    laws.nothing_is_wasted(ONE, [5.995, 5.995], loose)
    laws.equals_get_equal(THREE, [0.1, 0.105, 0.095], loose)
    laws.nobody_larger_could_give(ONE, [6.005, 5.995], loose)
    with pytest.raises(LawBrokenError):
        laws.never_over(ONE, [6.01, 6.01], loose)
    with pytest.raises(LawBrokenError):
        laws.nobody_is_paused_while_all_minimums_fit(THREE, [0.1, 0.1, 0.0], loose)


def test_a_tie_of_claims_that_is_one_in_doubles_is_no_fault():
    # Half a step over 1/3 is one and a half, but for rounding: the first in line gets the step.
    batch = {"minimum": [0, 0], "maximum": [9, 9], "capacity": 2, "step": 1, "weight": [1 / 3, 1]}

    for law in LAWS.values():
        law(batch, allocate if law.compares else allocate(**batch).power, EXACT)


def test_laws_apply_to_what_a_spec_has():
    spec = Spec(features={"offsets", "step"}, pausing=False, ordered=False)

    why = {name: law.why_not(spec) for name, law in LAWS.items()}

    assert {name: reason for name, reason in why.items() if reason} == {
        "idle gets zero": "takes no active",
        "priority is respected": "takes no priority",
        "nobody is paused who would have fitted": "pauses nobody",
        "who comes first is admitted first": "pauses nobody",
        "the last steps go in line": "has an order of its own",
        "the answer is that of the reference": "has an order of its own",
    }


def test_a_spec_is_read_off_a_signature():
    def share(minimum, maximum, capacity, weight=None, *, buffer=0.0, colour="red"): ...
    def trees(minimum, maximum, capacity, parent): ...

    assert Spec.of(share).features == {"weight", "buffer"}
    assert Spec.of(trees).features == set()
    assert Spec.of(lambda **batch: batch) == Spec()
    assert Spec.of(allocate) == Spec()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"features": {"offsets", "colour"}},
            "features must be some of offsets, buffer, reserved, parent, weight, priority, rank, "
            "active, step, got colour",
        ),
        (
            {"features": {"parent"}},
            "features with parent must have offsets: one group has no parent",
        ),
        ({"tolerance": -1.0}, "tolerance must be within 0..1 kW, got -1.0"),
        ({"tolerance": float("nan")}, "tolerance must be within 0..1 kW, got nan"),
    ],
)
def test_a_spec_refuses(arguments, message):
    with pytest.raises(InputError) as refused:
        Spec(**arguments)

    assert str(refused.value) == message


def test_what_cannot_be_called_is_no_allocator():
    with pytest.raises(InputTypeError) as refused:
        laws.order_does_not_matter(ONE, [1.0, 2.0])

    assert str(refused.value) == "allocator must be a function or a factory of one, got list"


def test_picking_keeps_what_belongs_together():
    batch = TREE | {"weight": [1.0, 2.0], "buffer": [0.0, 0.1, 0.2], "minimum": [0.0, 1.0]}

    picked = pick(batch, [1], [2, 1])

    assert picked == {
        "minimum": [1.0],
        "maximum": [9.0],
        "weight": [2.0],
        "capacity": [10.0, 9.0],
        "buffer": [0.2, 0.1],
        "offsets": [0, 0, 1],
        "parent": [-1, 0],
    }
