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
