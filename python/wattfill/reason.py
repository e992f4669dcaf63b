"""Why a connector got what it got."""

from enum import IntEnum


class Reason(IntEnum):
    """Why a connector got what it got.

    Examples
    --------
    >>> Reason(1)
    <Reason.PAUSED: 1>
    >>> Reason.PAUSED.label
    'paused'

    """

    IDLE = 0
    """No session: it gets 0 and is not counted."""
    PAUSED = 1
    """Its minimum did not fit, in the group `bound_by`; it gets 0."""
    MINIMUM = 2
    """Held at its minimum by the group `bound_by`."""
    SHARING = 3
    """At the level of the group `bound_by`."""
    MAXIMUM = 4
    """At its own maximum."""

    @property
    def label(self) -> str:
        """The reason as a lower-case word."""
        return self.name.lower()
