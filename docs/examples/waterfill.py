"""An allocator in Python, for ``wattfill verify docs/examples/waterfill.py:share``.

It shares one group by a water level. It pauses nobody, so it is right where all minimums fit. As a
program of its own it answers ``wattfill verify --exec "python docs/examples/waterfill.py"``.
"""

import json
import sys


def share(minimum, maximum, capacity, buffer=0.0, reserved=0.0, active=None):
    """Return a power for each connector of one group."""
    usable = max(capacity * (1.0 - buffer) - reserved, 0.0)

    def at(level):
        return [
            min(max(level, low), high) if active is None or active[i] else 0.0
            for i, (low, high) in enumerate(zip(minimum, maximum, strict=True))
        ]

    # The highest level that fits lies between these two.
    low, high = 0.0, max(maximum, default=0.0)
    if sum(at(high)) <= usable:
        return at(high)
    for _ in range(100):
        middle = (low + high) / 2
        if sum(at(middle)) <= usable:
            low = middle
        else:
            high = middle
    return at(low)


if __name__ == "__main__":
    for line in sys.stdin:
        request = json.loads(line)
        number = request.pop("id")
        try:
            answer = {"power": share(**request)}
        except TypeError as error:
            answer = {"error": str(error)}
        print(json.dumps({"id": number, **answer}), flush=True)
