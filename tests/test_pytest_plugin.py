"""The laws as tests of pytest, by a decorator and by an option."""

import re
import subprocess
import sys

import pytest

from wattfill.errors import InputError
from wattfill.testing import LAWS, Spec, parametrize_laws

pytest_plugins = ["pytester"]

# Each breaks one law: what is left is wasted, or what is larger than 9 kW.
SHARES = '''
import itertools

calls = itertools.count()


def least(minimum, maximum, capacity):
    next(calls)
    return list(minimum)


def alike(minimum, maximum, capacity):
    from wattfill.testing import solve

    return solve(minimum, maximum, capacity).power


class Moody:
    """Now one thing and now another, whatever was asked."""

    def __call__(self, minimum, maximum, capacity):
        power = alike(minimum, maximum, capacity)
        return power if next(calls) % 3 else [x / 2 for x in power]


number = 7
'''
PROFILES = """
from hypothesis import Phase, settings
from hypothesis.database import DirectoryBasedExampleDatabase

# All that Hypothesis would otherwise have another way on a machine for CI.
settings.register_profile("few", max_examples=15, derandomize=True, database=None, print_blob=False)
kept = dict(derandomize=False, database=DirectoryBasedExampleDatabase("kept"), print_blob=False)
settings.register_profile("kept", max_examples=30, **kept)
settings.register_profile("again", phases=[Phase.reuse], **kept)
"""
DECORATED = """
from shares import least
from wattfill.testing import Spec, parametrize_laws

NO_PAUSES = Spec(features=(), pausing=False)


@parametrize_laws(least, spec=NO_PAUSES, expected_failures={})
def test_least(law):
    law()
"""
N_LAWS = len(LAWS)
DO_NOT_APPLY = sum(bool(law.why_not(Spec(features=(), pausing=False))) for law in LAWS.values())
OPTION = ["--wattfill-allocator", "shares:least", "--wattfill-no-pausing"]


@pytest.fixture
def run(pytester):
    """Run pytest, in a process of its own, where there are allocators and few examples."""
    pytester.makepyfile(shares=SHARES)
    pytester.makeconftest(PROFILES)

    def run(*arguments, profile="few"):
        return pytester.runpytest_subprocess(
            "-p", "no:cacheprovider", "-p", "no:xdist", "--hypothesis-profile", profile, *arguments
        )

    return run


def falsifying(result):
    """Return the failing cases that Hypothesis shows; summaries for CI have them once more."""
    shown = re.findall(r"(?m)^(?:E +)?F\w+ (?:test case|example): (\w+)\(", result.stdout.str())
    return [*dict.fromkeys(shown)]


# By the decorator


def test_a_decorated_test_is_one_for_each_law(run, pytester):
    pytester.makepyfile(test_shares=DECORATED)

    result = run("-v", "-rs")

    result.assert_outcomes(passed=N_LAWS - DO_NOT_APPLY - 1, failed=1, skipped=DO_NOT_APPLY)
    result.stdout.fnmatch_lines(
        [
            "test_shares.py::test_least?never over? PASSED*",
            "test_shares.py::test_least?nothing is wasted? FAILED*",
            "SKIPPED*does not apply: pauses nobody",
        ]
    )


def test_a_failure_is_the_site_and_not_the_code_of_the_law(run, pytester):
    pytester.makepyfile(test_shares=DECORATED)

    result = run("-k", "wasted")

    result.stdout.fnmatch_lines(
        [
            "> *law()",
            "E *LawBrokenError: nothing is wasted: connector 0 gets 0 kW and could take *",
            "E * connector * minimum * maximum * got * reference",
            "E *batch = {'minimum': *",
            "test_shares.py:*: LawBrokenError",
        ]
    )
    assert falsifying(result) == ["nothing_is_wasted_by_least"]
    assert "laws.py" not in result.stdout.str()


def test_an_expected_failure_is_one_and_must_fail(run, pytester):
    known = '{"nothing is wasted": "so it is", "never over": "is it?"}'
    pytester.makepyfile(test_shares=DECORATED.replace("{}", known))

    result = run("-k", "wasted or over", "-rx")

    result.assert_outcomes(xfailed=1, failed=1)
    result.stdout.fnmatch_lines(["?XPASS(strict)? is it?*", "XFAIL*wasted? - so it is*"])


def test_an_allocator_that_cannot_make_up_its_mind_breaks_a_law(run, pytester):
    moody = DECORATED.replace("import least", "import Moody").replace("(least", "(Moody")
    pytester.makepyfile(test_shares=moody)

    result = run("-k", "history")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *LawBrokenError: history does not matter: connector *"])


def test_an_expected_failure_that_is_no_law_is_refused():
    with pytest.raises(InputError, match=r"^expected_failures must name laws, got 'never under'$"):
        parametrize_laws(lambda minimum: minimum, expected_failures={"never under": "x"})


def test_a_test_of_a_law_shows_its_name():
    (_, parameters), _ = parametrize_laws(lambda minimum: minimum).mark.args, None

    assert [parameter.id for parameter in parameters] == list(LAWS)
    assert repr(parameters[0].values[0]) == "<an answer for everyone, of <lambda>>"


# By the option


def test_an_option_needs_no_test_files(run):
    result = run(*OPTION, "-v")

    result.assert_outcomes(passed=N_LAWS - DO_NOT_APPLY - 1, failed=1, skipped=DO_NOT_APPLY)
    result.stdout.fnmatch_lines(
        [
            f"*collected {N_LAWS} items",
            "shares:least::never over PASSED*",
            "shares:least::nothing is wasted FAILED*",
            "*nothing is wasted: least*",
            "nothing is wasted: connector 0 gets 0 kW and could take *",
            "expected: less left than a quantum*",
            "batch = {'minimum': *",
        ]
    )
    assert falsifying(result) == ["nothing_is_wasted_by_least"]


def test_an_option_takes_expected_failures_and_a_tolerance(run):
    result = run(
        "--wattfill-allocator=shares.py:alike",
        "--wattfill-tolerance=0",
        "--wattfill-expect=nothing-is-wasted=so it is",
        "-k",
        "wasted or reference",
        "-rfE",
    )

    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["?XPASS(strict)? so it is"])


def test_items_stand_beside_those_of_files(run, pytester):
    pytester.makepyfile(test_shares="def test_mine(): pass")

    result = run(*OPTION, "-k", "mine or over", "-v")

    result.assert_outcomes(passed=2, deselected=N_LAWS - 1)
    result.stdout.fnmatch_lines(["test_shares.py::test_mine PASSED*", "*::never over PASSED*"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--wattfill-allocator", "none:f"], "there is no module 'none'"),
        (["--wattfill-allocator", "shares:f"], "shares has no 'f'"),
        (
            ["--wattfill-allocator", "shares:number"],
            "shares:number must be a function or a factory of one, got int",
        ),
        (
            [*OPTION, "--wattfill-expect", "never under=x"],
            "an expected failure must name a law, got 'never under'; did you mean 'never over'?",
        ),
    ],
)
def test_what_is_no_good_is_refused_in_one_sentence(arguments, message, run):
    result = run(*arguments)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --wattfill-allocator: {message}"])


def test_a_tolerance_that_is_none_is_refused(run):
    result = run(*OPTION, "--wattfill-tolerance", "7")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--wattfill-tolerance: must be within 0..1 kW, got 7"])


# As Hypothesis is told to


def test_a_profile_says_how_many_sites_are_made(run, pytester):
    pytester.makepyfile(
        test_shares=DECORATED + "\n\ndef test_calls():\n"
        "    from shares import calls\n"
        "    assert next(calls) == 15\n"
    )

    result = run("-k", "over or calls")

    result.assert_outcomes(passed=2)


def test_a_seed_repeats_a_run(run):
    runs = [
        run(*OPTION, "-k", "wasted", "--hypothesis-seed", seed, profile="default").stdout.str()
        for seed in ("7", "7")
    ]

    first, second = (re.search(r"batch = \{.*", text).group() for text in runs)
    assert first == second


def test_what_was_found_is_kept_for_each_law(run):
    # The second time only what was kept is tried, and a test for which nothing was kept is skipped.
    chosen = ["-k", "wasted or over or bounds"]

    first = run(*OPTION, *chosen, profile="kept")
    again = run(*OPTION, *chosen, profile="again")
    other = run("--wattfill-allocator=shares:alike", *OPTION[2:], *chosen, profile="again")

    first.assert_outcomes(passed=2, failed=1, deselected=N_LAWS - 3)
    again.assert_outcomes(skipped=2, failed=1, deselected=N_LAWS - 3)
    other.assert_outcomes(skipped=3, deselected=N_LAWS - 3)


def test_verbosity_is_that_of_hypothesis(run):
    result = run(*OPTION, "-k", "over", "-s", "--hypothesis-verbosity", "verbose")

    assert result.stdout.str().count("never_over_by_least(") == 15


# Who does not use it


@pytest.mark.parametrize("collects", [True, False])
def test_who_does_not_use_it_loads_nothing(collects, tmp_path):
    (tmp_path / "test_mine.py").write_text("def test_mine(): pass")
    code = (
        "import os, pytest, sys\n"
        # Others' plugins load Hypothesis: its own, and schemathesis'.
        "os.environ['PYTEST_DISABLE_PLUGIN_AUTOLOAD'] = '1'\n"
        "pytest.main(['-q', '-p', 'no:cacheprovider', '-p', 'wattfill',\n"
        f"    *{['--help'] * (not collects)!r}])\n"
        "names = ['numpy', 'hypothesis', 'wattfill._kernel', 'wattfill.testing.laws',\n"
        "         'wattfill.testing.trial', 'wattfill.testing.pytest_plugin']\n"
        "print(*(name for name in names if name in sys.modules))"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=100
    )

    assert done.stdout.splitlines()[-1] == "wattfill.testing.pytest_plugin", done.stderr
