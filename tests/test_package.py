"""What is installed: its version, its names, what it loads and what it leaves alone."""

import ast
import doctest
import importlib
import importlib.metadata
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import wattfill
from wattfill import _kernel
from wattfill.testing import LAWS

README = Path(__file__).parents[1] / "README.md"
PAGES = [README, *sorted((README.parent / "docs").glob("*.md"))]
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(wattfill.__path__, "wattfill.")
    if not module.name.endswith("__main__")
)


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in an interpreter of its own, outside the source tree."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=os.sep,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def loaded_by(code: str) -> set[str]:
    """Top-level modules outside the standard library that come in with code."""
    done = run(
        "import sys; before = set(sys.modules)\n"
        f"{code}\n"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    assert done.returncode == 0, done.stderr
    names = set(done.stdout.split()) - sys.stdlib_module_names
    # Every module that Cython made shares these.
    return {name for name in names if not name.startswith(("_cython_", "cython_runtime"))}


def test_the_metadata_has_the_version_of_the_package():
    version = importlib.metadata.version("wattfill")

    assert version == wattfill.__version__


def test_numpy_is_all_that_has_to_be_installed():
    required = [
        line for line in importlib.metadata.requires("wattfill") or [] if "extra ==" not in line
    ]

    assert [line.partition(">")[0] for line in required] == ["numpy"]


def test_importing_wattfill_loads_nothing_else():
    names = loaded_by("import wattfill")

    assert names == {"wattfill"}


def test_all_that_the_top_level_offers_loads_numpy_alone():
    names = loaded_by("from wattfill import *")

    assert names == {"wattfill", "numpy"}


def test_simulating_loads_numpy_alone():
    names = loaded_by("from wattfill.simulation import Sessions, Site, simulate")

    assert names == {"wattfill", "numpy"}


@pytest.mark.parametrize("module", ["strategies", "events"])
def test_strategies_without_hypothesis_name_the_extra_that_has_it(module):
    done = run(f"import sys; sys.modules['hypothesis'] = None; import wattfill.testing.{module}")

    assert done.stderr.endswith(
        f"MissingExtraError: wattfill.testing.{module} needs hypothesis: "
        "pip install 'wattfill[testing]'\n"
    )


def test_ocpp_without_its_library_names_the_extra_that_has_it():
    done = run("import sys; sys.modules['ocpp'] = None; import wattfill.ocpp")

    assert done.stderr.endswith(
        "MissingExtraError: wattfill.ocpp needs ocpp: pip install 'wattfill[ocpp]'\n"
    )


@pytest.mark.parametrize("module", ["wattfill.testing", "wattfill.testing.history"])
def test_what_judges_needs_neither_hypothesis_nor_the_kernel(module):
    assert loaded_by(f"import {module}") == {"wattfill"}


def test_strategies_of_events_need_no_kernel():
    done = run(
        "import sys\n"
        "from wattfill.testing.events import AddChargeStation, Plug\n"
        "assert 'numpy' not in sys.modules\n"
        "calls = []\n"
        "class Registry: add_charge_station = staticmethod(lambda *args: calls.append(args))\n"
        "AddChargeStation('a', 'p', (Plug('1', 22.0),)).apply(Registry)\n"
        "print(calls, 'wattfill.allocation' in sys.modules)"
    )

    assert done.stdout == (
        "[('a', 'p', [Connector(id='1', maximum_capacity=22.0, minimum_capacity=None, "
        "fallback=None)])] False\n"
    ), done.stderr


def test_type_checkers_see_the_names_that_are_loaded_when_first_asked_for():
    tree = ast.parse(Path(wattfill.__file__).read_text(encoding="utf-8"))
    guarded = [node for node in tree.body if isinstance(node, ast.If)]
    names = [alias.name for node in ast.walk(guarded[0]) for alias in getattr(node, "names", [])]

    assert sorted([*names, "__version__", "get_include"]) == dir(wattfill)


def test_every_name_that_is_offered_is_there():
    missing = [name for name in dir(wattfill) if not hasattr(wattfill, name)]

    assert missing == []


def test_a_name_that_is_not_offered_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'wattfill' has no attribute 'alocate'"):
        wattfill.alocate  # noqa: B018


def test_the_header_lies_where_get_include_says():
    header = Path(wattfill.get_include(), "wattfill.h")

    assert "wattfill_batch" in header.read_text(encoding="utf-8")


@pytest.mark.parametrize("module", ["wattfill", *MODULES])
def test_every_example_in_a_docstring_runs(module):
    failed, _ = doctest.testmod(importlib.import_module(module))

    assert failed == 0


def test_denormals_stay_what_they_are():
    # One library linked with -ffast-math makes the whole process flush them to zero.
    halve = "import math; least = math.ulp(0.0); assert 2 * least / 2 == least"

    done = run(f"{halve}\nimport wattfill\nwattfill.allocate([0], [1], 1)\n{halve}")

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("level", _kernel.simd_levels())
def test_wattfill_simd_names_the_level_in_use(level):
    done = run(
        "from wattfill import _kernel; print(_kernel.simd_level())",
        WATTFILL_SIMD=level,
    )

    assert done.stdout.split() == [level], done.stderr


def test_the_best_level_is_in_use_where_none_is_named():
    done = run("from wattfill import _kernel; print(_kernel.simd_level())", WATTFILL_SIMD="")

    assert done.stdout.split() == [_kernel.simd_levels()[-1]], done.stderr


def test_a_level_that_this_processor_does_not_have_is_refused():
    done = run("import wattfill; wattfill.allocate", WATTFILL_SIMD="x86_64_v9")

    assert done.returncode == 1
    assert "ValueError: WATTFILL_SIMD must be one of baseline" in done.stderr
    assert done.stderr.endswith("on this processor, got 'x86_64_v9'\n")


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if ">>> " in page.read_text(encoding="utf-8")],
    ids=lambda page: page.name,
)
def test_every_example_of_a_page_runs(page):
    failed, _ = doctest.testfile(str(page), module_relative=False)

    assert failed == 0


def test_the_page_of_laws_has_each_as_it_is():
    page = (README.parent / "docs/laws.md").read_text(encoding="utf-8")
    rows = [line.split(" | ")[:2] for line in page.splitlines() if line.startswith("| **")]

    assert rows == [[f"| **{law.name}**", " ".join(law.statement.split())] for law in LAWS.values()]


def test_the_readme_shows_what_the_command_prints():
    expected = (README.parent / "docs/examples/airport.txt").read_text(encoding="utf-8")

    assert expected.rstrip() in README.read_text(encoding="utf-8")
