"""pytest: a test a law for an allocator, by a decorator or by an option.

pytest loads this module in every run of everybody who has wattfill, so it loads nothing itself
until there is an allocator to judge.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from wattfill.testing.laws import Law
    from wattfill.testing.spec import Spec
    from wattfill.testing.trial import Allocator, Batch


def parametrize_laws(
    allocator: Allocator,
    *,
    spec: Spec | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> pytest.MarkDecorator:
    """Make of a test one for each law; it is passed ``law``, and calls it.

    A law that does not apply is skipped, and one that is expected to be broken fails as expected;
    each with the reason. Hypothesis searches with the settings that are current, so its profiles
    and its options for pytest have their meaning.

    Parameters
    ----------
    allocator : callable
        The allocator, or a factory of it, as for `check_allocator`.
    spec : Spec, optional
        What it promises; by default what its signature says that it takes.
    expected_failures : mapping of str to str, optional
        Laws that it is known to break, and why.

    Raises
    ------
    InputError
        If an expected failure is no law.

    Examples
    --------
    >>> def equal(minimum, maximum, capacity):
    ...     return [min(high, capacity / len(maximum)) for high in maximum]
    >>> @parametrize_laws(equal, expected_failures={"nothing is wasted": "nobody gets the rest"})
    ... def test_equal(law):
    ...     law()

    """
    tests = list(_tests(allocator, spec, expected_failures or {}))
    return pytest.mark.parametrize(
        "law", [pytest.param(test, id=test.law.name, marks=marks) for test, marks in tests]
    )


def _tests(
    allocator: Allocator, spec: Spec | None, expected: Mapping[str, str]
) -> Iterator[tuple[LawTest, list[pytest.MarkDecorator]]]:
    """Yield a test for each law, and how it is marked."""
    from wattfill.errors import InputError
    from wattfill.testing.laws import LAWS
    from wattfill.testing.spec import Spec
    from wattfill.testing.trial import LawBrokenError, as_factory

    if unknown := sorted(set(expected) - set(LAWS)):
        raise InputError(f"expected_failures must name laws, got {unknown[0]!r}")
    factory = as_factory(allocator)
    promised = spec or Spec.of(factory())
    for law in LAWS.values():
        marks = []
        if why := law.why_not(promised):
            marks.append(pytest.mark.skip(reason=f"does not apply: {why}"))
        elif law.name in expected:
            marks.append(
                pytest.mark.xfail(reason=expected[law.name], strict=True, raises=LawBrokenError)
            )
        yield LawTest(law, factory, promised, getattr(allocator, "__name__", "allocator")), marks


class LawTest:
    """A test that an allocator keeps a law, called without arguments.

    Attributes
    ----------
    law : Law
        The law.

    """

    def __init__(
        self, law: Law, factory: Callable[[], Allocator], spec: Spec, allocator: str
    ) -> None:
        self.law, self._factory, self._spec, self._allocator = law, factory, spec, allocator

    def __repr__(self) -> str:
        return f"<{self.law.name}, of {self._allocator}>"

    def __call__(self) -> None:
        """Search for a site that breaks the law.

        Raises
        ------
        LawBrokenError
            If there is one; with the smallest.

        """
        __tracebackhide__ = True
        from hypothesis import HealthCheck, Phase, event, given, settings
        from hypothesis.errors import Flaky

        from wattfill.testing.strategies import batches
        from wattfill.testing.trial import LawBrokenError, Trial

        last: LawBrokenError | None = None

        def judge(batch: Batch) -> None:
            __tracebackhide__ = True
            nonlocal last
            try:
                judged = self.law.check(Trial(batch, self._factory, self._spec))
            except LawBrokenError as broken:
                last = broken
                raise
            event("judged" if judged else "nothing to judge")

        # Hypothesis shows this name; what it has found it keeps by the code of a function, which is
        # the same for all laws, and by this, which it has for what is made as this is.
        words = f"{self.law.name} by {self._allocator}"
        judge.__name__ = "".join(c if c.isalnum() else "_" for c in words)
        judge._hypothesis_internal_add_digest = words.encode()  # type: ignore[attr-defined]
        # How long a site takes, and how large it is, lies with the laws and the strategies; and
        # which lines of theirs were run explains nothing.
        chosen = settings.default
        assert chosen is not None
        current = settings(
            chosen,
            phases=[phase for phase in chosen.phases if phase is not Phase.explain],
            deadline=None,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        )
        try:
            current(given(batches(self._spec))(judge))()
        except (LawBrokenError, Flaky):
            # Flaky is an allocator that answers now one thing and now another.
            if last is None:
                raise
            # The message says all; the frames would be those of the law.
            raise last.with_traceback(None) from last.__cause__


class LawItem(pytest.Item):
    """The test of one law, where the allocator is an option."""

    def __init__(self, *, test: LawTest, **parts: Any) -> None:
        super().__init__(**parts)
        self._test = test

    def runtest(self) -> None:
        """Search for a site that breaks the law."""
        self._test()

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return what a broken law says of itself, and what Hypothesis adds."""
        from wattfill.testing.trial import LawBrokenError

        error = excinfo.value
        if isinstance(error, LawBrokenError):
            return "\n".join([str(error), "", *getattr(error, "__notes__", [])])
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Any, int, str]:
        """Return what a report is headed with."""
        return self.path, 0, f"{self._test.law.name}: {self._test._allocator}"


class LawCollector(pytest.Collector):
    """The tests of all laws, where the allocator is an option."""

    def collect(self) -> Iterator[LawItem]:
        """Yield a test for each law."""
        for test, marks in self.config.stash[_TESTS]:
            item = LawItem.from_parent(self, name=test.law.name, test=test)
            for mark in marks:
                item.add_marker(mark)
            yield item


_TESTS = pytest.StashKey[list[tuple[LawTest, list[pytest.MarkDecorator]]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("wattfill", "the laws of an allocation")
    group.addoption(
        "--wattfill-allocator",
        metavar="MODULE:FUNCTION",
        help="add a test for each law that an allocator, or a factory of one, should keep",
    )
    group.addoption(
        "--wattfill-tolerance",
        metavar="KW",
        type=_tolerance,
        help="by how much a power may be off, by default 0.000001; 0 asks for the very doubles",
    )
    group.addoption(
        "--wattfill-no-pausing", action="store_true", help="it pauses nobody: all minimums fit"
    )
    group.addoption(
        "--wattfill-expect",
        metavar="LAW=REASON",
        action="append",
        default=[],
        help="a law that it is known to break, and why; may be there many times",
    )


def _tolerance(text: str) -> float:
    if not 0.0 <= (tolerance := float(text)) <= 1.0:
        raise argparse.ArgumentTypeError(f"must be within 0..1 kW, got {text}")
    return tolerance


def pytest_configure(config: pytest.Config) -> None:
    """Find the allocator, where there is one."""
    name = config.getoption("wattfill_allocator", None)
    if not name:
        return
    from wattfill.errors import WattfillError
    from wattfill.testing.spec import Spec
    from wattfill.testing.target import expected_failures, find_allocator
    from wattfill.testing.trial import as_factory

    promises: dict[str, Any] = {"pausing": not config.getoption("wattfill_no_pausing")}
    if (tolerance := config.getoption("wattfill_tolerance")) is not None:
        promises["tolerance"] = tolerance
    try:
        expected = expected_failures(config.getoption("wattfill_expect"))
        allocator = find_allocator(name)
        spec = Spec.of(as_factory(allocator)(), **promises)
        config.stash[_TESTS] = list(_tests(allocator, spec, expected))
    except WattfillError as error:
        raise pytest.UsageError(f"--wattfill-allocator: {error}") from None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Add the tests, which lie in no file, before others choose among them."""
    if _TESTS not in config.stash:
        return
    name = config.getoption("wattfill_allocator")
    collector = LawCollector.from_parent(session, name=name, nodeid=name)
    report = session.ihook.pytest_make_collect_report(collector=collector)
    session.ihook.pytest_collectreport(report=report)
    items.extend(report.result)
