"""One clock for all that must not go back: sessions, turns, leases, limits."""

from __future__ import annotations

import time
from collections.abc import Callable


class Clock:
    """Seconds since 1970 as they were when it was made, and from then on the steady clock.

    Whoever sets the time of the machine moves neither a lease nor a turn. The steady clock goes on
    while the machine sleeps.
    """

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
    ) -> None:
        self._steady = steady
        self._offset = wall() - steady()

    def now(self) -> float:
        """Return the seconds, never less than before."""
        return self._offset + self._steady()
