"""The property kit catches allocators that are wrong on purpose, and no others."""

from functools import cache
from pathlib import Path

import pytest
from allocators import FloatFill, PlainFill, sorted_fill
from hypothesis import settings
from mutants import MUTANTS, REFERENCE, screened

from wattfill import allocate
from wattfill.testing import LAWS, Spec, check_allocator, solve

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


@cache
def caught_by(name: str) -> list[str]:
    """Return the laws that a mutant breaks on the first site on which it breaks any."""
    return list(screened(MUTANTS[name], OTHERS, stop_at_first=True).broken)


def rows(page: str) -> dict[str, tuple[str, list[str]]]:
    """Return the fault of each mutant, and the laws that catch it, as the page says."""
    cells = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    return {name: (fault, laws.split(", ")) for name, fault, laws, *site in cells if site}


@pytest.mark.parametrize("name", MUTANTS)
def test_the_kit_catches_without_the_reference(name):
    assert caught_by(name)


@pytest.mark.parametrize("law", OTHERS)
def test_a_mutant_is_caught_by_the_law(law):
    told = [name for name, (_, laws) in rows(PAGE.read_text()).items() if law in laws]

    assert any(screened(MUTANTS[name], [law], stop_at_first=True).broken for name in told)


def test_the_page_lists_the_mutants_and_what_catches_them():
    told = rows(PAGE.read_text())

    assert told.pop("mutant")
    assert {name: fault for name, (fault, _) in told.items()} == {
        name: mutant.__doc__ for name, mutant in MUTANTS.items()
    }
    for name, (_, laws) in told.items():
        assert set(caught_by(name)) <= set(laws)


@pytest.mark.parametrize("name", CORRECT)
def test_who_is_right_breaks_no_law(name):
    allocator, spec = CORRECT[name]
    seed = 0 if settings().derandomize else None

    report = check_allocator(
        allocator, spec=spec, max_examples=4 * settings().max_examples, seed=seed
    )

    assert report.ok
