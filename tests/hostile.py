"""Stations, a network and a sender of limits in whole seconds: each does its worst.

Stations draw all that they may and follow a lower limit as late as they may. What becomes of each
message is a `Fate`. The sender keeps to the rules of docs/histories.md, with accounts of its own
that share nothing with `wattfill.testing.history`; a careless one has another account. It writes
its log before it sends.
"""

import heapq
import json
import math
from dataclasses import dataclass, field
from itertools import count

from wattfill.testing.events import Fate

GROUPS = {"hall": ["A", "B"], "site": ["A", "B", "C"]}
KEYS = ("A", "B", "C")
# Times at which a lease is renewed and a message is sent again.
PATIENCE = 4


# Stations


@dataclass
class Station:
    """One connector: it holds a limit until a newer one comes, its lease ends or it falls back."""

    floor: int
    maximum: int
    limit: int
    ordered: bool = True
    clock: int = 0
    """Seconds by which its clock is slow."""
    lag: int = 0
    newest: int = -1
    expires: float = math.inf
    fallen_back: bool = False
    refuses: bool = False
    refused: set[int] = field(default_factory=set)
    peaks: list[tuple[int, int]] = field(default_factory=list)
    last: int = 0

    def in_force(self, now):
        over = now - self.clock >= self.expires
        return min(self.floor if self.fallen_back or over else self.limit, self.maximum)

    def draw(self, now):
        limit = self.in_force(now)
        if limit < self.last:
            self.peaks.append((self.last, now))
        self.last = limit
        self.peaks = [(peak, at) for peak, at in self.peaks if now < at + self.lag]
        return max([limit, *(peak for peak, _ in self.peaks)])

    def receive(self, now, seq, limit, expires, life):
        """Return "confirmation", "rejection" or nothing."""
        if life is not None:
            expires = now - self.clock + life
        if seq in self.refused or now - self.clock >= expires:
            return None
        if self.ordered and seq < self.newest:
            return None
        if self.ordered and seq == self.newest:
            return "confirmation"
        if self.refuses:
            self.refuses = False
            self.refused.add(seq)
            return "rejection"
        self.newest, self.limit, self.expires = seq, limit, expires
        self.fallen_back = False
        return "confirmation"


# What the sender believes


class Account:
    """What a careful sender counts one connector with, by rules 2 to 7."""

    def __init__(self, floor, maximum, skew, lag):
        self.floor, self.maximum, self.skew, self.lag = floor, maximum, skew, lag
        self.known = False
        self.confirmed = (-1, 0, -math.inf)
        self.outstanding = {}
        self.freed = []
        self.newest = None
        self.offline = False

    def until(self, expires):
        return expires + self.skew

    def in_force(self, now):
        if not self.known:
            return self.maximum
        _, limit, until = self.confirmed
        values = [limit] if now < until else []
        values += [limit for limit, until in self.outstanding.values() if now < until]
        return max([self.floor, *values])

    def committed(self, now):
        limit = self.in_force(now)
        return max([limit, *(old for old, until in self.freed if now < until)])

    def note(self, now, change):
        """Count what a change frees for as long as the draw may take to fall."""
        before = self.in_force(now)
        change()
        if self.in_force(now) < before and self.lag:
            self.freed.append((before, now + self.lag))

    def over(self, now):
        """Leases that end now free power, too."""
        limits = [(self.confirmed[1], self.confirmed[2]), *self.outstanding.values()]
        for limit, until in limits:
            if until == now and self.lag:
                self.freed.append((limit, now + self.lag))

    def sent(self, now, seq, limit, expires):
        self.outstanding[seq] = (limit, self.until(expires))
        self.newest = (seq, limit)

    def resolve(self, now, seq, limit, expires):
        def change():
            self.known = True
            self.confirmed = (seq, limit, self.until(expires))
            self.outstanding = {s: v for s, v in self.outstanding.items() if s > seq}

        if seq > self.confirmed[0] or not self.known:
            self.note(now, change)

    def rejected(self, now, seq):
        self.note(now, lambda: self.outstanding.pop(seq, None))

    def timed_out(self, now):
        pass

    def restarted(self):
        pass


class FloorForgotten(Account):
    def committed(self, now):
        self.floor = 0
        return super().committed(now)


class OnlyConfirmedCounted(Account):
    def in_force(self, now):
        outstanding, self.outstanding = self.outstanding, {}
        limit = super().in_force(now)
        self.outstanding = outstanding
        return limit


class NewestBelieved(Account):
    def in_force(self, now):
        return super().in_force(now) if self.newest is None else max(self.floor, self.newest[1])


class TimeoutTakenForLost(Account):
    def timed_out(self, now):
        self.outstanding.clear()


class OfflineTakenForZero(Account):
    def committed(self, now):
        return self.floor if self.offline else super().committed(now)


class OutstandingForgottenAtRestart(Account):
    def restarted(self):
        self.outstanding.clear()


class PendingDecreaseTakenForDone(Account):
    def in_force(self, now):
        limit = super().in_force(now)
        below = self.newest is not None and self.newest[1] < self.confirmed[1]
        return max(self.floor, self.newest[1]) if below else limit


class LagForgotten(Account):
    def committed(self, now):
        return self.in_force(now)


class SkewForgotten(Account):
    def until(self, expires):
        return expires


# The sender, the network, and all that happens


class World:
    """A sender with its stations; `unit` is the kW of one step of power."""

    def __init__(
        self,
        account=Account,
        *,
        capacity=2,
        site_capacity=None,
        floors=(0, 0, 0),
        maximum=9,
        limits=(0, 0, 0),
        known=True,
        ordered=True,
        skew=0,
        clocks=(0, 0, 0),
        lag=0,
        life=None,
        relative=False,
        fates=(),
        unit=1.0,
        keys=KEYS,
    ):
        self.now, self.n = 0, count()
        self.unit, self.life, self.relative, self.keys = unit, life, relative, keys
        self.fates = iter(fates)
        self.capacity = {
            "hall": capacity,
            "site": capacity if site_capacity is None else site_capacity,
        }
        self.usable = dict(self.capacity)
        self.stations = {
            key: Station(floor, maximum, limit, ordered, clock, lag)
            for key, floor, limit, clock in zip(keys, floors, limits, clocks, strict=False)
        }
        self.accounts = {
            key: account(station.floor, maximum, skew, lag)
            for key, station in self.stations.items()
        }
        self.seq = dict.fromkeys(keys, 0)
        self.sent_at = {}
        self.targets = {}
        self.queue = []
        self.lines = []
        self.excesses = []
        """(at, group, draw, usable) in steps of power."""
        self.write("group", group="site", maximum_capacity=self.kw(self.capacity["site"]))
        self.write(
            "group", group="hall", maximum_capacity=self.kw(self.capacity["hall"]), parent="site"
        )
        for key, station in self.stations.items():
            self.write(
                "connector",
                key,
                group="hall" if key in GROUPS["hall"] else "site",
                maximum_capacity=self.kw(maximum),
                floor=self.kw(station.floor),
                ordered=ordered,
            )
        if known:
            for key, station in self.stations.items():
                self.write("read-back", key, limit=self.kw(station.limit))
                self.accounts[key].resolve(0, -1, station.limit, math.inf)
        self.measure()
        # What was drawn before the first words has come down to them when the script begins.
        self.wait(max(1, lag))
        self.began = self.now

    def kw(self, steps):
        return steps * self.unit

    def write(self, kind, key=None, **fields):
        if key is not None:
            fields = {"station": f"CS-{key}", "connector": 1, **fields}
        self.lines.append({"at": self.now, "kind": kind, **fields})

    def log(self):
        return "".join(f"{json.dumps(line)}\n" for line in self.lines)

    def measure(self):
        draws = {key: station.draw(self.now) for key, station in self.stations.items()}
        for group, keys in GROUPS.items():
            drawn = sum(draws[key] for key in keys if key in draws)
            if drawn > self.usable[group]:
                self.excesses.append((self.now, group, drawn, self.usable[group]))

    # What can happen: each is a step of a script

    def wait(self, seconds=1):
        for _ in range(seconds):
            self.now += 1
            for account in self.accounts.values():
                account.over(self.now)
            self.measure()
            self.run()

    def target(self, **targets):
        """Ask for other powers; what does not fit with the floors is not asked for."""
        wanted = {**self.targets, **targets}
        for group, keys in GROUPS.items():
            here = [max(wanted.get(k, 0), self.stations[k].floor) for k in keys if k in wanted]
            if sum(here) > self.usable[group]:
                return
        self.targets = wanted
        self.run()

    def send(self, key, limit):
        """Send a limit whatever it comes to."""
        seq = self.seq[key] = self.seq[key] + 1
        expires = math.inf if self.life is None else self.now + self.life
        self.accounts[key].sent(self.now, seq, limit, expires)
        self.sent_at[key] = self.now
        lease = {} if self.life is None or self.relative else {"expires": expires}
        self.write("command", key, seq=seq, limit=self.kw(limit), **lease)
        fate = next(self.fates, Fate())
        for delay in fate.arrivals:
            self.later(delay, self.arrive, key, seq, limit, expires, fate.answers)
        self.settle()

    def fall_back(self, key):
        self.stations[key].fallen_back = True
        self.measure()

    def resume(self, key):
        self.stations[key].fallen_back = False
        self.measure()

    def refuse_next(self, key):
        self.stations[key].refuses = True

    def time_out(self, key):
        for seq in self.accounts[key].outstanding:
            self.write("timeout", key, seq=seq)
        self.accounts[key].timed_out(self.now)
        self.run()

    def go_offline(self, key):
        self.write("offline", key)
        del self.lines[-1]["connector"]
        self.accounts[key].offline = True
        self.run()

    def restart(self):
        for account in self.accounts.values():
            account.restarted()
        self.run()

    def set_capacity(self, group, capacity):
        """Change a capacity; floors must fit, by rule 1."""
        floors = sum(self.stations[key].floor for key in GROUPS[group] if key in self.stations)
        self.usable[group] = max(capacity, floors)
        self.write("group", group=group, maximum_capacity=self.kw(self.usable[group]))
        self.targets = {
            key: min(limit, self.stations[key].floor) for key, limit in self.targets.items()
        }
        self.run()

    def read_back(self, key, delay=0):
        """Have a station say what it has; the answer takes its time."""
        station = self.stations[key]
        seq = station.newest
        answer = (seq, station.in_force(self.now), station.limit, station.expires)
        if seq >= 0 and station.ordered:
            self.later(delay, self.read, key, *answer)
            self.settle()

    def meter(self, key, delay=0):
        station = self.stations[key]
        power = station.draw(self.now)
        measured_at = self.now - station.clock
        self.later(delay, self.metered, key, power, measured_at, delay)
        self.settle()

    # What arrives

    def later(self, delay, what, *args):
        heapq.heappush(self.queue, (self.now + int(delay), next(self.n), what, args))

    def settle(self):
        while self.queue and self.queue[0][0] <= self.now:
            _, _, what, args = heapq.heappop(self.queue)
            what(*args)
            self.measure()

    def arrive(self, key, seq, limit, expires, answers):
        life = self.life if self.relative else None
        answer = self.stations[key].receive(self.now, seq, limit, expires, life)
        if answer is not None:
            for delay in answers:
                self.later(delay, self.answered, key, answer, seq, limit, expires)

    def answered(self, key, kind, seq, limit, expires):
        self.write(kind, key, seq=seq)
        if kind == "rejection":
            self.accounts[key].rejected(self.now, seq)
        else:
            self.accounts[key].resolve(self.now, seq, limit, expires)

    def read(self, key, seq, in_force, limit, expires):
        # It may have fallen back and go on with its limit, so that it confirms no more than that.
        self.write("read-back", key, seq=seq, limit=self.kw(in_force))
        self.accounts[key].resolve(self.now, seq, limit, expires)

    def metered(self, key, power, measured_at, delay):
        if delay or self.stations[key].clock:
            self.write("meter", key, power=self.kw(power), measured_at=measured_at)
        else:
            self.write("meter", key, power=self.kw(power))

    # The sender

    def run(self):
        """Let the sender act until there is nothing more that it may send."""
        self.settle()
        for raising in (False, True):
            for key, limit in self.targets.items():
                account = self.accounts[key]
                newest = None if account.newest is None else account.newest[1]
                stale = self.now - self.sent_at.get(key, -math.inf) >= PATIENCE
                unsure = account.newest is not None and account.newest[0] in account.outstanding
                renew = self.life is not None and limit > account.floor
                if newest == limit and not (stale and (unsure or renew)):
                    continue
                rises = limit > account.committed(self.now)
                if rises == raising and (not rises or self.fits(key, limit)):
                    self.send(key, limit)

    def fits(self, raised, limit):
        for group, keys in GROUPS.items():
            if raised in keys:
                total = sum(
                    limit if key == raised else self.accounts[key].committed(self.now)
                    for key in keys
                    if key in self.accounts
                )
                if total > self.usable[group]:
                    return False
        return True
