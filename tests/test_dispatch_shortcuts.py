"""Each plausible shortcut, applied to the real dispatcher, lets stations draw more than there is.

The traces are the shortest: the search of dispatch_search.py visits states breadth first.
docs/dispatch-proof.md has them in words.
"""

import json

import pytest
from dispatch_search import Search

from wattfill import Dispatcher

Plug = Dispatcher._Plug


class OnlyConfirmedCounted(Plug):
    """Count what was confirmed, and nothing that was only sent."""

    def told(self, at):
        in_force = self.confirmed_limit if self.confirmed_until > at else 0
        return max(self.fallback, in_force)


class NewestBelieved(Plug):
    """Count what was sent last."""

    def told(self, at):
        return max(self.fallback, self.newest_limit)


class PendingDecreaseTakenForDone(Plug):
    """Count a decrease as soon as it was sent."""

    def told(self, at):
        if self.newest_limit < self.confirmed_limit:
            return max(self.fallback, self.newest_limit)
        return super().told(at)


class OfflineTakenForZero(Plug):
    """Count nothing for a station that does not answer."""

    def told(self, at):
        return self.fallback if self.offline else super().told(at)


class LagForgotten(Plug):
    """Take what is confirmed for what is drawn."""

    def recount(self, at, lag):
        return super().recount(at, 0.0)


class SkewForgotten(Plug):
    """Take a lease for over when it is over by one's own clock."""

    def send(self, seq, limit, until, at):
        return super().send(seq, limit, until - 1.0, at)


class TimeoutTakenForRejection(Dispatcher):
    """Take what was not answered in time for what never arrived."""

    def timed_out(self, station, connector, seq, now):
        self.reject(station, connector, seq, now)


class OfflineRecounted(Dispatcher):
    """Count a station anew when it does not answer."""

    _Plug = OfflineTakenForZero

    def offline(self, station, now):
        super().offline(station, now)
        for plug in self._plugs_of(station):
            self._desk.recount(plug, now)


class OnlyConfirmedKept(Dispatcher):
    """Forget at a restart what was sent and not confirmed."""

    def _snapshot(self):
        records = [json.loads(record) for record in super()._snapshot()]
        for record in records:
            if record[0] == "state":
                record[-1]["sent"] = []
        return [json.dumps(record) for record in records]


WORLD = (2, 2, 2, 2)
"""Two connectors of 0 to 2 kW share 2 kW; at most two commands are outstanding at each."""
NO_FLOORS, FLOORS = (0, 0), (0, 1)
LEASE = {"life": 2, "lag": 0.0}
SLOW = {**LEASE, "skew": 1}

# What is taken, the world, what is different about it, and in how many steps it is found.
SHORTCUTS = {
    "floor not reserved": (FLOORS, {}, {"told_floors": NO_FLOORS}, 3),
    "floor not reserved, with leases": (FLOORS, LEASE, {"told_floors": NO_FLOORS}, 2),
    "only confirmed values counted": (NO_FLOORS, {}, {"plug": OnlyConfirmedCounted}, 4),
    "newest value believed": (NO_FLOORS, {}, {"plug": NewestBelieved}, 6),
    "time-out taken for a rejection": (
        NO_FLOORS,
        {"extra": ("timeout",)},
        {"dispatcher": TimeoutTakenForRejection},
        6,
    ),
    "offline counted as 0": (
        NO_FLOORS,
        {"extra": ("offline",)},
        {"dispatcher": OfflineRecounted},
        6,
    ),
    "restart with confirmed values only": (
        NO_FLOORS,
        {"extra": ("crash",)},
        {"dispatcher": OnlyConfirmedKept},
        7,
    ),
    "pending decrease taken for done": (NO_FLOORS, {}, {"plug": PendingDecreaseTakenForDone}, 7),
    "no numbers, and messages out of order": (
        NO_FLOORS,
        {},
        {"ordered": False, "told_ordered": True},
        8,
    ),
    "no numbers, and messages out of order, with leases": (
        NO_FLOORS,
        LEASE,
        {"ordered": False, "told_ordered": True},
        7,
    ),
    "confirmation before the draw fell": (NO_FLOORS, {}, {"plug": LagForgotten}, 7),
    "lease without a margin for slow clocks": (NO_FLOORS, SLOW, {"plug": SkewForgotten}, 6),
    "lease that begins with the receipt": (NO_FLOORS, LEASE, {"from_receipt": True}, 6),
    "lease counted for what is confirmed only": (
        NO_FLOORS,
        LEASE,
        {"plug": OnlyConfirmedCounted},
        4,
    ),
}


@pytest.mark.parametrize("name", SHORTCUTS)
def test_a_shortcut_lets_a_group_draw_too_much(name):
    floors, world, shortcut, steps = SHORTCUTS[name]

    trace = Search(*WORLD, floors, **world, **shortcut).run(counts=False)

    assert trace is not None
    assert len(trace) == steps


@pytest.mark.parametrize("name", SHORTCUTS)
def test_without_the_shortcut_as_many_steps_harm_nobody(name):
    floors, world, _, steps = SHORTCUTS[name]

    assert Search(*WORLD, floors, **world).run(depth=min(steps, 6)) is None
