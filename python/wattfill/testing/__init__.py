"""Hold an allocator against the definition: an exact reference, and strategies that make sites.

Needs Hypothesis (extra ``testing``) for the strategies; the reference needs nothing, and neither
imports the compiled kernel, so that both can judge it.
"""

from wattfill.testing.reference import Solution, solve

__all__ = ["Solution", "solve"]
