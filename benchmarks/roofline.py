"""The roofline: how long it takes to read two doubles and write one for every connector.

No solver that reads both bounds and writes a power is faster. The loop is NumPy's addition into
ready memory: compiled, as wide as the processor's vectors, with normal stores and no temporary.
The same loop in C (GCC 12, -O3 -march=native) and in Numba takes the same time within the noise,
from 10,000 to 20 million connectors.
"""

import numpy as np

from benchmarks.workloads import Floats


def read_two_write_one(minimum: Floats, maximum: Floats, power: Floats) -> Floats:
    """Touch what a solver must touch, and do next to nothing with it."""
    return np.add(minimum, maximum, out=power)
