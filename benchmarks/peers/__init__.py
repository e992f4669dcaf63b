"""Other ways to the same answer, as good as their tools allow.

Each module has ``solve(minimum, maximum, capacity, offsets) -> power`` for groups of one
connector or more whose minimums fit. They count in doubles, so they are right to within rounding
and may pass a capacity by that much.
"""
