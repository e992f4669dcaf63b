"""The property kit catches allocators that are wrong on purpose, and no others."""

from pathlib import Path

import pytest
from allocators import FloatFill, PlainFill, sorted_fill
from hypothesis import settings
from mutants import MUTANTS, REFERENCE, apart, first_caught

from wattfill import allocate
from wattfill.testing import LAWS, Spec, check_allocator, solve
from wattfill.testing.conformance import Search
from wattfill.testing.sites import HARD

OTHERS = [name for name in LAWS if name != REFERENCE]
PAGE = Path(__file__).parent.parent / "docs" / "mutants.md"
EXACT = Spec(tolerance=0)
CORRECT = {
    "wattfill": (allocate, EXACT),
    "the reference": (solve, EXACT),
    "a sweep in whole quanta": (PlainFill, EXACT),
    "a sort in NumPy": (sorted_fill, Spec.of(sorted_fill)),
    "a bisection in floats": (FloatFill, Spec.of(FloatFill(), pausing=False)),
}


@pytest.fixture(scope="module")
def caught():
    """Return the laws that each mutant breaks on the first site on which it breaks any."""
    return dict(zip(MUTANTS, apart(first_caught, MUTANTS), strict=True))


def rows(page: str) -> dict[str, tuple[str, list[str]]]:
    """Return the fault of each mutant, and the laws that catch it, as the page says."""
    cells = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    return {name: (fault, laws.split(", ")) for name, fault, laws, *site in cells if site}


def test_the_kit_catches_every_mutant_without_the_reference(caught):
    assert [name for name, laws in caught.items() if not laws] == []


@pytest.mark.parametrize(
    "name",
    [
        "ByteIndex",
        "FloatLevel",
        "Jefferson",
        "LargestRemainder",
        "ReservedAtTheRootOnly",
        "RestToLowerTiers",
    ],
)
def test_what_chance_may_miss_is_caught_before_chance_has_a_say(name):
    mutant = MUTANTS[name]
    search = Search(mutant, mutant.spec, seed=0, max_examples=len(HARD), time_limit=4.0)

    search.screen([law for law in LAWS.values() if law.name in OTHERS])

    assert search.broken


def test_every_law_catches_a_mutant(caught):
    told = {law: name for name, (_, laws) in rows(PAGE.read_text()).items() for law in laws}
    assert told.keys() - {"caught by"} == set(OTHERS)

    seen = apart(first_caught, [told[law] for law in OTHERS], OTHERS)

    assert seen == [[law] for law in OTHERS]


def test_the_page_lists_the_mutants_and_laws_that_catch_them():
    told = rows(PAGE.read_text())

    assert told.pop("mutant")
    assert {name: fault for name, (fault, _) in told.items()} == {
        name: mutant.__doc__ for name, mutant in MUTANTS.items()
    }
    # Which law is first depends on the sites, and these on which modules Hypothesis sees.
    assert all(set(laws) <= set(OTHERS) for _, laws in told.values())


@pytest.mark.parametrize("name", CORRECT)
def test_who_is_right_breaks_no_law(name):
    allocator, spec = CORRECT[name]
    seed = 0 if settings().derandomize else None

    report = check_allocator(
        allocator, spec=spec, max_examples=4 * settings().max_examples, seed=seed
    )

    assert report.ok
