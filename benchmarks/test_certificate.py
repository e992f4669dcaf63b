"""The certificate says no to powers that are wrong on purpose, each in one way."""

import numpy as np
import pytest

from benchmarks.certificate import assert_close, assert_exact
from benchmarks.workloads import Batch

# 40 kW over three: the third stops at 10 kW, the other two share 30 kW. Then 14.000001 kW over
# two: a quantum is left, too little for both to rise by one.
BATCH = Batch(
    np.array([6.0, 6.0, 6.0, 5.0, 5.0]),
    np.array([16.0, 32.0, 10.0, 50.0, 50.0]),
    np.array([40.0, 14.000001]),
    np.array([0, 3, 5]),
)
EXACT = np.array([15.0, 15.0, 10.0, 7.0, 7.0])


def test_the_exact_powers_pass() -> None:
    assert_exact(EXACT, BATCH)


@pytest.mark.parametrize(
    ("power", "message"),
    [
        ([15.000001, 15.000001, 10.0, 7.0, 7.0], "over its capacity"),
        ([14.0, 16.0, 10.0, 7.0, 7.0], "somebody has more than another"),
        ([15.0, 15.0, 10.0, 7.000001, 7.0], "somebody has more than another"),
        ([14.999999, 14.999999, 10.0, 7.0, 7.0], "could rise by a quantum"),
        ([15.5, 15.5, 9.0, 7.0, 7.0], "somebody has more than another"),
        ([17.0, 13.0, 10.0, 7.0, 7.0], "maximum"),
        ([16.0, 20.0, 4.0, 7.0, 7.0], "minimum"),
    ],
)
def test_wrong_powers_do_not(power: list[float], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        assert_exact(np.array(power), BATCH)


def test_powers_two_quanta_off_are_not_close() -> None:
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_close(EXACT + 2e-6, EXACT)
