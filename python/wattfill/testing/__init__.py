"""The property kit: find out whether an allocator is safe and fair, and where it is not.

`check_allocator` holds an allocator to the laws, `laws` has them one by one, `strategies` and
`events` make sites and what happens to them, `check_vectors` holds a port to exact answers,
`check_history` judges what was sent to stations, and `solve` is the exact reference. What makes
sites needs Hypothesis (extra ``testing``). Nothing here imports the compiled kernel, so that all of
it can judge it.
"""

from typing import TYPE_CHECKING

from wattfill._lazy import loader

if TYPE_CHECKING:
    from wattfill.testing.conformance import NotConformingError as NotConformingError
    from wattfill.testing.conformance import Report as Report
    from wattfill.testing.conformance import Verdict as Verdict
    from wattfill.testing.conformance import check_allocator as check_allocator
    from wattfill.testing.history import check_history as check_history
    from wattfill.testing.laws import LAWS as LAWS
    from wattfill.testing.laws import Law as Law
    from wattfill.testing.program import Program as Program
    from wattfill.testing.pytest_plugin import parametrize_laws as parametrize_laws
    from wattfill.testing.reference import Solution as Solution
    from wattfill.testing.reference import solve as solve
    from wattfill.testing.spec import FEATURES as FEATURES
    from wattfill.testing.spec import Spec as Spec
    from wattfill.testing.trial import LawBrokenError as LawBrokenError
    from wattfill.testing.vectors import check_vectors as check_vectors
    from wattfill.testing.vectors import make_vectors as make_vectors
    from wattfill.testing.vectors import read_vectors as read_vectors
    from wattfill.testing.vectors import write_vectors as write_vectors

# Loaded when first asked for: the reference and the laws do without Hypothesis.
_HOME = {
    "NotConformingError": "conformance",
    "Report": "conformance",
    "Verdict": "conformance",
    "check_allocator": "conformance",
    "check_history": "history",
    "LAWS": "laws",
    "Law": "laws",
    "Program": "program",
    "parametrize_laws": "pytest_plugin",
    "Solution": "reference",
    "solve": "reference",
    "FEATURES": "spec",
    "Spec": "spec",
    "LawBrokenError": "trial",
    "check_vectors": "vectors",
    "make_vectors": "vectors",
    "read_vectors": "vectors",
    "write_vectors": "vectors",
}

__all__ = [*_HOME]

__getattr__ = loader(__name__, _HOME)


def __dir__() -> list[str]:
    return sorted(__all__)
