"""Test vectors: the file of the docs, made again, answered by the kernel, and corrupted."""

import copy
import json
import math
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

import wattfill
from wattfill import InputError, _kernel, allocate
from wattfill.testing import solve
from wattfill.testing.conformance import kinds_of
from wattfill.testing.trial import Trial
from wattfill.testing.vectors import (
    ANSWERS,
    COLUMNS,
    as_text,
    check_vectors,
    make_vectors,
    read_vectors,
    write_vectors,
)

FILE = Path(__file__).parents[1] / "docs/vectors.json"
SIZES = {0, 1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 40, 41, 255, 256, 257}


@pytest.fixture(params=_kernel.simd_levels())
def simd_level(request):
    chosen = _kernel.simd_level()
    yield _kernel.simd_level(request.param)
    _kernel.simd_level(chosen)


@pytest.fixture(scope="module")
def few():
    return make_vectors(seed=3, n=60)


@pytest.fixture
def vectors(few):
    return copy.deepcopy(few)


def column(name: str) -> int:
    return COLUMNS.index(name)


# The file of the docs.


def test_the_file_is_what_its_seed_makes(tmp_path):
    # After a change of the tables or the rules: python -c "from wattfill.testing.vectors import
    # write_vectors as w; w('docs/vectors.json')"
    write_vectors(tmp_path / "again.json")

    assert (tmp_path / "again.json").read_bytes() == FILE.read_bytes()


def test_the_file_is_small_and_has_a_case_in_each_line():
    text = FILE.read_text(encoding="utf-8")
    cases = text.splitlines()[1:-1]

    assert len(text) < 400_000
    assert len(cases) == 2000
    assert all(len(json.loads(line.rstrip(","))) == len(COLUMNS) for line in cases)


def test_the_kernel_answers_the_file_on_every_instruction_set_level(simd_level):
    assert _kernel.simd_level() == simd_level

    check = check_vectors(FILE, allocate)

    assert check.ok
    assert check.asked == check.cases == 2000
    assert str(check) == "all 2000 cases have the answers that are due"


def test_the_reference_answers_the_file():
    assert check_vectors(FILE).ok


def test_every_argument_every_reason_every_size_and_every_kind_of_site_is_in_the_file():
    cases = list(read_vectors(FILE))
    arguments = {name for batch, _ in cases for name in batch}
    reasons = {x for _, answer in cases for x in answer["reason"]}
    sizes = {stop - start for batch, _ in cases for start, stop in pairwise(batch["offsets"])}
    kinds = Counter()
    for batch, answer in cases:
        kinds.update(kinds_of(Trial(batch, lambda answer=answer, **_: answer["power"])))

    assert arguments | set(ANSWERS) == set(COLUMNS)
    assert reasons == set(wattfill.Reason)
    assert sizes >= SIZES
    assert [kind for kind, n in kinds.items() if not n] == []


# What is made from a seed.


def test_a_seed_makes_the_same_cases_again_and_another_seed_others(few):
    assert as_text(make_vectors(seed=3, n=60)) == as_text(few)
    assert make_vectors(seed=4, n=60)["cases"] != few["cases"]


def test_what_is_written_reads_as_the_same_doubles(tmp_path):
    path = tmp_path / "vectors.json"
    write_vectors(path, seed=3, n=60)

    for batch, answer in read_vectors(path):
        solution = solve(**batch)
        for name in ANSWERS:
            assert answer[name] == getattr(solution, name), name


# Answers that are not those that are due.

CHANGES = {
    "power": lambda x: math.nextafter(x, math.inf),
    "reason": lambda x: (x + 1) % 5,
    "bound_by": lambda x: x + 1,
    "level": lambda x: 1.0 if x is None else math.nextafter(x, math.inf),
    "used": lambda x: math.nextafter(x, math.inf),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_file_in_which_one_answer_is_off_by_a_bit_is_noticed(name, vectors):
    k, case = next((k, x) for k, x in enumerate(vectors["cases"]) if x[column(name)])
    case[column(name)][0] = CHANGES[name](case[column(name)][0])

    check = check_vectors(vectors)

    assert [(x.case, x.what) for x in check.differences] == [(k, name)]
    assert not check.ok


@pytest.mark.parametrize("name", CHANGES)
def test_an_allocator_that_is_off_by_a_bit_is_noticed(name, few):
    def wrong(**batch):
        answer = vars(solve(**batch)) | {}
        answer[name] = [CHANGES[name](x) for x in answer[name]]
        return answer

    check = check_vectors(few, wrong)

    assert {x.what for x in check.differences} <= {name}
    assert len(check.differences) > 20


def one_case(**values):
    case = {"minimum": [0], "maximum": [9], "capacity": [5], "offsets": [0, 1]}
    case |= {"power": [5], "reason": [3], "bound_by": [0], "level": [5], "used": [5]}
    row = [(case | values).get(name) for name in COLUMNS]
    return {"format": 1, "columns": list(COLUMNS), "cases": [row]}


def test_a_difference_says_what_is_found_and_what_is_due_in_kw():
    check = check_vectors(one_case(), lambda minimum, **_: [4.5])

    assert str(check) == (
        "0 of 1 cases have the answers that are due\n"
        "case 0: power of connector 0 is 4.5 kW, due is 5.0 kW"
    )


def test_only_the_first_differences_are_shown_and_all_are_counted(few):
    check = check_vectors(few, lambda minimum, **_: [-1.0] * len(minimum))
    lines = str(check).splitlines()

    assert len(check.differences) > 40
    assert len(lines) == 7
    assert lines[-1] == f"and {len(check.differences) - 5} more"


def test_an_allocator_that_raises_does_not_answer():
    def fails(minimum, maximum, capacity, offsets):
        raise ZeroDivisionError("division by zero")

    check = check_vectors(one_case(), fails)

    assert [x.sentence for x in check.differences] == [
        "it raised ZeroDivisionError: division by zero"
    ]


def test_an_allocator_that_never_answers_is_not_waited_for():
    def hangs(minimum, maximum, capacity, offsets):
        while True:
            pass

    check = check_vectors(one_case(), hangs, time_limit=0.01)

    assert [x.sentence for x in check.differences] == ["it did not answer within 0.01 s"]


def test_an_answer_of_another_length_is_a_difference():
    check = check_vectors(one_case(), lambda minimum, **_: [])

    assert [x.sentence for x in check.differences] == ["power has 0 values, due are 1"]


def test_an_allocator_of_one_group_is_asked_with_numbers_what_it_takes(few):
    asked = []

    def one_group(minimum, maximum, capacity, buffer=0.0):
        asked.append(capacity)
        return solve(minimum, maximum, capacity, buffer=buffer).power

    check = check_vectors(few, one_group)

    assert check.ok
    assert 0 < check.asked == len(asked) < check.cases == 60
    assert all(type(x) is float for x in asked)
    assert str(check) == (
        f"all {check.asked} cases have the answers that are due; {60 - check.asked} more have "
        "arguments that are not taken"
    )


def test_where_nothing_is_asked_nothing_is_found_to_be_right():
    assert not check_vectors(one_case() | {"cases": []}).ok


def test_a_check_is_json(vectors):
    vectors["cases"][1][column("power")] = [-1.0] * len(vectors["cases"][1][column("power")])

    check = json.loads(json.dumps(check_vectors(vectors).to_dict()))

    assert check["ok"] is False
    assert check["cases"] == check["asked"] == 60
    assert check["differences"][0]["case"] == 1


# Files that are none.

REFUSED = {
    "a list": ([], "vectors.json must be an object that has a format"),
    "no format": ({}, "vectors.json must be an object that has a format"),
    "a later format": ({"format": 2}, r"vectors.json must have format 1, got 2"),
    "other columns": (
        {"format": 1, "columns": ["power"]},
        "vectors.json must have the columns minimum, maximum, capacity, offsets, .*, used",
    ),
    "no cases": (one_case() | {"cases": None}, "vectors.json must have a list of cases"),
    "a case that is no list": (
        one_case() | {"cases": [5]},
        "case 0 of .*vectors.json must be a list of 17 values",
    ),
    "a case without capacity": (one_case(capacity=None), "case 0 of .* must have capacity"),
    "a case without power": (one_case(power=None), "case 0 of .* must have power"),
    "a capacity that is no list": (
        one_case(capacity=5),
        "case 0 of .* must have a list as capacity, got 5",
    ),
    "a minimum that is no number": (
        one_case(minimum=["5"]),
        r"case 0 of .* must have numbers in minimum, got minimum\[0\] = '5'",
    ),
    "a power that is null": (
        one_case(power=[None]),
        r"case 0 of .* must have numbers in power, got power\[0\] = None",
    ),
    "a step that is no number": (
        one_case(step=[1]),
        r"case 0 of .* must have a number as step, got \[1\]",
    ),
    "a maximum too many": (
        one_case(maximum=[9, 9]),
        "case 0 of .* must have as much of maximum as of others for each connector, got 2",
    ),
    "a level too many": (
        one_case(level=[5, 5]),
        "case 0 of .* must have as much of level as of others for each group, got 2",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_malformed_file_is_refused(name, tmp_path):
    content, message = REFUSED[name]
    path = tmp_path / "vectors.json"
    path.write_text(json.dumps(content), encoding="utf-8")

    with pytest.raises(InputError, match=message):
        check_vectors(path)


def test_what_is_no_json_is_refused(tmp_path):
    path = tmp_path / "vectors.json"
    path.write_text("{", encoding="utf-8")

    with pytest.raises(InputError, match=r"vectors.json is no JSON: Expecting property name"):
        check_vectors(path)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"none.json cannot be read: No such file or directory"):
        check_vectors(tmp_path / "none.json")
