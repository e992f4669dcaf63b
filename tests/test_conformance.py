"""check_allocator: what becomes of each law, the smallest counterexample, how a run is repeated."""

import gc
import itertools
import time

import pytest

from wattfill import InputError, allocate
from wattfill.testing import (
    LAWS,
    LawBrokenError,
    NotConformingError,
    Spec,
    check_allocator,
    laws,
    solve,
)
from wattfill.testing.trial import Outcome, Trial


def fill(minimum, maximum, capacity):
    """Fill one group whose minimums fit; powers are counted in whole quanta."""
    return solve(minimum, maximum, capacity).power


def first_come(minimum, maximum, capacity):
    """Give the minimum to each, and the rest to who comes first."""
    power = list(minimum)
    for i, most in enumerate(maximum):
        power[i] += min(most - minimum[i], max(0.0, capacity - sum(power)))
    return power


NO_PAUSES = Spec(features=frozenset(), pausing=False)


def statuses(report):
    return {v.law.name: v.status for v in report.verdicts}


@pytest.mark.parametrize("allocator", [allocate, lambda **batch: solve(**batch)])
def test_a_correct_allocator_keeps_all_laws(allocator):
    report = check_allocator(allocator, spec=Spec(tolerance=0), max_examples=300, seed=1)

    assert report.ok
    assert set(statuses(report).values()) == {"held"}
    assert report.examples == 300


def test_a_smaller_contract_is_held_to_the_laws_that_apply():
    report = check_allocator(fill, spec=Spec.of(fill, pausing=False), max_examples=100, seed=1)

    assert report.ok
    assert {name for name, status in statuses(report).items() if status != "held"} == {
        "idle gets zero",
        "nobody is paused who would have fitted",
        "other groups do not matter",
        "powers are whole steps",
        "the last steps go in line",
        "priority is respected",
        "the answer is that of the reference",
        "who comes first is admitted first",
        "who gets nothing does not matter",
    }


def test_a_faulty_allocator_is_refused_with_the_smallest_site():
    with pytest.raises(NotConformingError) as refused:
        check_allocator(first_come, spec=NO_PAUSES, max_examples=200, seed=1)

    report = refused.value.report
    broken = {v.law.name: v.counterexample for v in report.broken}
    assert str(refused.value) == str(report)
    assert "order does not matter" in broken
    assert "nobody larger could give" in broken
    batch = broken["nobody larger could give"].answers[0][1].batch
    assert len(batch["minimum"]) == 2
    assert set(batch) == {"minimum", "maximum", "capacity"}


def test_a_seed_repeats_a_run():
    runs = [
        check_allocator(first_come, spec=NO_PAUSES, max_examples=60, seed=seed, on_fail="return")
        for seed in (7, 7)
    ]

    assert runs[0].to_dict() == runs[1].to_dict()
    assert runs[0].seed == 7


def test_expected_failures_are_no_failures_and_are_told_when_they_do_not_fail():
    known = ("order does not matter", "nobody larger could give", "equals get equal")
    expected = dict.fromkeys(known, "first come, first served")

    report = check_allocator(
        first_come,
        spec=NO_PAUSES,
        max_examples=100,
        seed=1,
        expected_failures=expected | {"never over": "just so"},
    )

    assert report.ok
    verdicts = {v.law.name: v for v in report.verdicts}
    assert {verdicts[name].status for name in expected} == {"expected"}
    assert verdicts["order does not matter"].why == "first come, first served"
    assert verdicts["order does not matter"].counterexample is not None
    assert verdicts["never over"].status == "unexpected"


def test_an_expected_failure_that_is_no_law_is_refused():
    with pytest.raises(InputError) as refused:
        check_allocator(fill, expected_failures={"never under": "why not"})

    assert str(refused.value) == "expected_failures must name laws, got 'never under'"


def test_what_never_came_up_is_not_judged():
    report = check_allocator(
        fill,
        spec=Spec(features={"active"}, pausing=False),
        max_examples=1,
        seed=0,
        on_fail="return",
    )

    assert statuses(report)["idle gets zero"] == "not judged"


def test_a_power_within_the_tolerance_of_the_minimum_is_no_pause():
    def a_little_less(minimum, maximum, capacity):
        return [max(x - 0.001, 0.0) for x in fill(minimum, maximum, capacity)]

    # As small as the tolerance or smaller is a minimum that solvers miss by it.
    trial = Trial(
        {"minimum": [0.01], "maximum": [0.01], "capacity": 0.01},
        a_little_less,
        Spec(features=frozenset(), tolerance=0.02),
    )

    assert trial.outcome.paused == []
    assert LAWS["nobody is paused while all minimums fit"].check(trial)


def test_history_is_judged_where_minimums_must_fit():
    class Site:
        def __call__(self, minimum, maximum, capacity):
            if sum(minimum) > capacity:
                raise ValueError("minimums do not fit")
            return minimum

    trial = Trial({"minimum": [6.0], "maximum": [7.0], "capacity": 6.0}, Site, NO_PAUSES)

    assert LAWS["history does not matter"].check(trial)


def test_a_factory_makes_the_allocator_anew():
    made = itertools.count()

    class Fill:
        def __init__(self) -> None:
            next(made)

        def __call__(self, minimum, maximum, capacity):
            return fill(minimum, maximum, capacity)

    def make():
        return Fill()

    for factory in (Fill, make):
        before = next(made)
        check_allocator(factory, spec=NO_PAUSES, max_examples=20, seed=1)

        assert next(made) - before > 20


def test_an_allocator_that_fails_on_some_sites_is_still_judged_on_others():
    def brittle(minimum, maximum, capacity):
        if not minimum:
            raise ValueError("nobody is here")
        return fill(minimum, maximum, capacity)

    report = check_allocator(brittle, spec=NO_PAUSES, max_examples=100, seed=1, on_fail="return")

    assert [v.law.name for v in report.broken] == ["an answer for everyone"]
    assert "it raised ValueError: nobody is here" in str(report)
    assert statuses(report)["never over"] == "held"


def test_an_endless_loop_ends():
    def stuck(minimum, maximum, capacity):
        while capacity == 0.0:
            pass
        return fill(minimum, maximum, capacity)

    report = check_allocator(
        stuck, spec=NO_PAUSES, max_examples=40, seed=1, time_limit=0.5, on_fail="return"
    )

    assert [v.law.name for v in report.broken] == ["an answer for everyone"]
    assert "it did not answer within 0.5 s" in str(report)


def test_an_endless_loop_ends_even_if_it_is_interrupted_where_errors_are_lost():
    def collecting(phase: str, info: dict[str, int]) -> None:
        while time.monotonic() < started + 0.3:
            pass

    def stuck(minimum, maximum, capacity):
        gc.collect()
        while True:
            pass

    gc.callbacks.append(collecting)
    started = time.monotonic()
    try:
        with pytest.raises(LawBrokenError, match=r"did not answer within 0\.1 s"):
            laws.an_answer_for_everyone.check(
                Trial({"minimum": [], "maximum": [], "capacity": 0.0}, stuck, time_limit=0.1)
            )
    finally:
        gc.callbacks.remove(collecting)


def test_an_allocator_that_cannot_make_up_its_mind_is_told():
    toss = itertools.cycle([True, False, False])

    def moody(minimum, maximum, capacity):
        return list(minimum) if next(toss) else [0.0] * len(minimum)

    report = check_allocator(moody, spec=NO_PAUSES, max_examples=60, seed=1, on_fail="return")

    assert "history does not matter" in {v.law.name for v in report.broken}


def test_progress_is_told_to_the_end():
    told = []

    check_allocator(
        fill,
        spec=NO_PAUSES,
        max_examples=30,
        seed=1,
        progress=lambda done, of: told.append((done, of)),
    )

    assert told == [(k, 30) for k in range(1, 31)]


def test_a_report_counts_the_kinds_of_sites():
    report = check_allocator(allocate, max_examples=200, seed=1)

    assert report.kinds["somebody paused"] > 20
    assert report.kinds["nested groups"] > 20


def test_a_long_number_does_not_run_into_the_next_column():
    outcome = Outcome({"minimum": [1.4], "maximum": [7.4], "capacity": 8.0}, [0.5998046875])

    assert list(outcome.rows())[1:] == [
        "    connector    minimum    maximum           got  reference",
        "            0        1.4        7.4  0.5998046875        7.4",
    ]


def test_a_report_is_a_table():
    report = check_allocator(fill, spec=NO_PAUSES, max_examples=20, seed=5)

    lines = str(report).splitlines()
    assert len(lines) == len(LAWS) + 1
    assert lines[0].split() == ["an", "answer", "for", "everyone", "held", "on", "20", "sites"]
    assert lines[-1] == "20 sites, seed 5"
