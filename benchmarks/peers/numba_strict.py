"""The same as `numba_newton`, compiled as Numba does unless told otherwise.

Sums keep the order in which they are written, one number at a time.
"""

from numba import njit

from benchmarks.peers.numba_newton import newton

solve = njit(newton)
