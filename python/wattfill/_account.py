"""What may be in force at one connector, whatever became of each message.

This is the protocol for one connector: what is sent may arrive late, twice, overtaken or never, so
a connector counts with the largest limit that may still be in force there. Times are seconds on
one clock; powers are whole quanta.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple


class Sent(NamedTuple):
    """A limit that may be in force until some time."""

    limit: int
    until: float
    """When it is over by the slowest clock; infinite without a lease."""


NOTHING = Sent(-1, -1e300)


class Account:
    """The most that one connector may allow.

    It is *unknown* at first and may allow its rating. Once it has confirmed a command, it may
    allow its fallback, what it has confirmed, and every command sent since.
    """

    __slots__ = (
        "committed",
        "confirmed",
        "confirmed_seq",
        "disobeys",
        "fallback",
        "in_force",
        "known",
        "ordered",
        "rating",
        "sent",
        "settling",
    )

    def __init__(self, fallback: int, rating: int, ordered: bool) -> None:
        self.fallback = fallback
        self.rating = rating
        self.ordered = ordered
        """Whether it drops what is older than the newest command that it received."""
        self.known = False
        self.disobeys = False
        """Whether it was seen to draw more than all that it was told."""
        self.confirmed = NOTHING
        self.confirmed_seq = -1
        self.sent: dict[int, Sent] = {}
        """What was neither confirmed nor rejected, nor followed by a command that was."""
        self.settling: list[Sent] = []
        """What it was allowed before, and may still draw."""
        self.in_force = self.committed = max(fallback, rating)

    def recount(self, at: float, lag: float) -> int:
        """Count anew at some time; return by how much what is committed rose.

        What is no longer allowed may still be drawn for `lag` seconds.
        """
        most = self.told(at)
        if (not self.known or self.disobeys) and self.rating > most:
            most = self.rating
        if most < self.in_force and lag > 0.0:
            self.settling.append(Sent(self.in_force, at + lag))
        self.in_force = most
        before = self.committed
        if self.settling:
            self.settling = [old for old in self.settling if old.limit > most and old.until > at]
            self.committed = max([most, *(old.limit for old in self.settling)])
        else:
            self.committed = most
        return self.committed - before

    def told(self, at: float) -> int:
        """Return the largest limit that it may apply at some time by what is known to be sent."""
        most = self.fallback
        if self.confirmed.limit > most and self.confirmed.until > at:
            most = self.confirmed.limit
        for limit, until in self.sent.values():
            if limit > most and until > at:
                most = limit
        return most

    def until(self, limit: int, at: float) -> float:
        """Return how long a limit of at least this size may be in force in any case."""
        if limit <= self.fallback or not self.known:
            return math.inf
        values = [self.confirmed, *self.sent.values()]
        return max((until for most, until in values if most >= limit and until > at), default=at)

    def next_change(self, at: float) -> float:
        """Return when a lease or the time to settle is over next; infinite if none is."""
        soonest = math.inf
        for _, until in (self.confirmed, *self.sent.values(), *self.settling):
            if at < until < soonest:
                soonest = until
        return soonest

    def send(self, seq: int, limit: int, until: float, at: float) -> None:
        """Note a command, before it is sent."""
        if any(old.until <= at for old in self.sent.values()):
            self.sent = {before: old for before, old in self.sent.items() if old.until > at}
        self.sent[seq] = Sent(limit, until)

    def confirm(self, seq: int) -> bool:
        """Take a command for the one in force; return whether that says anything new."""
        command = self.sent.get(seq)
        if seq <= self.confirmed_seq or command is None:
            return False
        self._resolve(seq, command)
        return True

    def reject(self, seq: int) -> bool:
        """Take a command for one that never was; return whether that says anything new."""
        return self.sent.pop(seq, None) is not None

    def read_back(self, limit: int, seq: int | None) -> bool:
        """Take what the connector says of itself; return whether that says anything new.

        With the number of the newest command that it has, it confirms that command, and may go on
        to allow as much however little it says it does just now. Without a number this may be
        older than what is known, so it only tells of a connector of which nothing is known.
        """
        if seq is None:
            if self.known:
                return False
            self._resolve(-1, Sent(limit, math.inf))
            return True
        command = self.sent.get(seq, self.confirmed if seq == self.confirmed_seq else None)
        if command is None or seq < self.confirmed_seq:
            return False
        if limit > command.limit:
            # It has more than it was told, from whom we do not know, and not by our lease.
            command = Sent(limit, math.inf)
        self._resolve(seq, command)
        return True

    def _resolve(self, seq: int, command: Sent) -> None:
        self.known = True
        self.confirmed_seq, self.confirmed = seq, command
        if self.ordered:
            # Whatever is older comes too late from now on.
            self.sent = {later: sent for later, sent in self.sent.items() if later > seq}

    def is_settled(self) -> None:
        """Note that no more is drawn than may be in force."""
        self.settling = []

    def shift(self, seconds: float) -> None:
        """Move all times, as by another clock."""

        def moved(sent: Sent) -> Sent:
            return Sent(sent.limit, sent.until + seconds)

        self.confirmed = moved(self.confirmed)
        self.sent = {seq: moved(sent) for seq, sent in self.sent.items()}
        self.settling = [moved(sent) for sent in self.settling]

    def state(self) -> dict[str, Any]:
        """Return all of it in what JSON knows."""
        return {
            "fallback": self.fallback,
            "rating": self.rating,
            "ordered": self.ordered,
            "known": self.known,
            "disobeys": self.disobeys,
            "confirmed": [self.confirmed_seq, *_plain(self.confirmed)],
            "sent": [[seq, *_plain(sent)] for seq, sent in self.sent.items()],
            "settling": [_plain(sent) for sent in self.settling],
            "in_force": self.in_force,
            "committed": self.committed,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Become what another one was."""
        for name in ("fallback", "rating", "ordered", "known", "disobeys", "in_force", "committed"):
            setattr(self, name, state[name])
        self.confirmed_seq, self.confirmed = state["confirmed"][0], _sent(state["confirmed"][1:])
        self.sent = {seq: _sent(rest) for seq, *rest in state["sent"]}
        self.settling = [_sent(each) for each in state["settling"]]


def _plain(sent: Sent) -> list[float | None]:
    """Return a limit and its end in what JSON knows: it knows no infinity."""
    limit, until = sent
    return [limit, None if until == math.inf else until]


def _sent(plain: list[Any]) -> Sent:
    limit, until = plain
    return Sent(limit, math.inf if until is None else until)
