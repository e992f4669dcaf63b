"""The property kit: find out whether an allocator is safe and fair, and where it is not.

`check_allocator` holds an allocator to the laws, `laws` has them one by one, `strategies` makes
sites for Hypothesis, and `solve` is the exact reference. Needs Hypothesis (extra ``testing``),
but for the reference and the laws. Nothing here imports the compiled kernel, so that all of it can
judge it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wattfill.testing.conformance import NotConformingError as NotConformingError
    from wattfill.testing.conformance import Report as Report
    from wattfill.testing.conformance import Verdict as Verdict
    from wattfill.testing.conformance import check_allocator as check_allocator
    from wattfill.testing.laws import LAWS as LAWS
    from wattfill.testing.laws import Law as Law
    from wattfill.testing.program import Program as Program
    from wattfill.testing.pytest_plugin import parametrize_laws as parametrize_laws
    from wattfill.testing.reference import Solution as Solution
    from wattfill.testing.reference import solve as solve
    from wattfill.testing.spec import FEATURES as FEATURES
    from wattfill.testing.spec import Spec as Spec
    from wattfill.testing.trial import LawBrokenError as LawBrokenError

# Loaded when first asked for: the reference and the laws do without Hypothesis.
_HOME = {
    "NotConformingError": "conformance",
    "Report": "conformance",
    "Verdict": "conformance",
    "check_allocator": "conformance",
    "LAWS": "laws",
    "Law": "laws",
    "Program": "program",
    "parametrize_laws": "pytest_plugin",
    "Solution": "reference",
    "solve": "reference",
    "FEATURES": "spec",
    "Spec": "spec",
    "LawBrokenError": "trial",
}

__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'wattfill.testing' has no attribute {name!r}")
    value = getattr(import_module(f"wattfill.testing.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
