"""The kernel equals the exact integer reference, bit for bit."""

from typing import Any

import numpy as np
from hypothesis import given, settings

from wattfill import allocate
from wattfill.testing import Solution, solve
from wattfill.testing.strategies import batches


def assert_same(batch: dict[str, Any]) -> None:
    expected = solve(**batch)

    found = allocate(**batch)

    for name in ("power", "reason", "bound_by", "level", "usable", "used"):
        assert getattr(found, name).tolist() == getattr(expected, name), name


@settings(max_examples=2000)
@given(batches())
def test_the_kernel_equals_the_reference(batch: dict[str, Any]) -> None:
    assert_same(batch)
