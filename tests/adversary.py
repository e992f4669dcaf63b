"""The real dispatcher among stations, a network and a disk that do their worst.

Every command ever sent may be delivered never, late, repeatedly and in any order, and so may every
answer. Stations fall back, reboot, resume and refuse; their clocks are off; vehicles follow a lower
limit as late as they may. The controller crashes, and its journal with it. A `World` has a method
for each of these, of one whole number that says which and how much; after each it checks what
must hold, in whole quanta.
"""

import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

from hostile import Station

from wattfill import Connector, Dispatcher, FileJournal, Registry
from wattfill.errors import ConflictError, InputError
from wattfill.testing._verdict import QUANTA_PER_KW, usable_quanta
from wattfill.testing.history import check_history

GROUPS = ("site", "hall", "yard")
STATIONS = ("p", "q", "r", "s", "t", "u")
POWERS = (0.0, 1.4, 4.14, 6.0, 7.4, 10.0, 11.0, 16.0, 22.0)
LEASE = 20
"""Seconds; half of it is between two renewals."""
EAGER = {"smallest_change": 0.0, "smallest_share": 0.0, "between_increases": 0.0}
SPACE = 1_000_000
"""kW: what a vehicle takes that takes all."""
MOST_WAKES = 200
"""Times that a dispatcher may ask to be woken before all is reached."""


def quanta(kw):
    return round(kw * QUANTA_PER_KW)


def choose(n, *options):
    """Return one of the options and what is left of the number."""
    n, i = divmod(n, len(options))
    return options[i], n


# Stations


@dataclass
class Outlet(Station):
    """One connector of the world; powers are quanta, times those of the world."""

    appetite: int = SPACE * QUANTA_PER_KW
    """What the vehicle takes at the most."""
    lease: float | None = None
    applied: set[int] = field(default_factory=set)
    """What it has accepted, and so can refuse no more."""

    def receive(self, now, seq, limit, expires, life=None):
        refuses, self.refuses = self.refuses, self.refuses and seq not in self.applied
        said = super().receive(now, seq, limit, expires, life)
        if said == "confirmation":
            self.applied.add(seq)
        if said != "rejection":
            self.refuses = refuses
        return said

    def draw(self, now):
        return min(super().draw(now), self.appetite)

    def seen(self, now):
        """Return what a meter shows. A vehicle that follows a lower limit only comes down."""
        drawn = self.draw(now)
        self.peaks = [(min(peak, drawn), at) for peak, at in self.peaks]
        return drawn

    def ends(self):
        """Return when its lease is over, by its own clock, in the time of the world."""
        return self.expires + self.clock

    def configure(self, now, floor, maximum):
        """Take other hardware; what was drawn by the old one is over."""
        self.floor, self.maximum, self.peaks = floor, maximum, []
        self.limit = min(self.limit, maximum)
        self.last = self.in_force(now)


# Journals


class Memory:
    """A journal that outlives the controller, and fails when it is told to."""

    def __init__(self):
        self.records = []
        self.fault = None
        self.is_whole = True
        """Whether it has all that it was given."""

    def read(self):
        return list(self.records)

    def write(self, records, *, replace, sync):
        if self.fault == "before":
            self.is_whole = False
            raise OSError("no space left on the device")
        self.put(records, replace, sync)
        self.is_whole = self.fault is None and (self.is_whole or replace)
        if self.fault == "after":
            raise OSError("the disk did not say whether it wrote")

    def put(self, records, replace, sync):
        self.records = list(records) if replace else [*self.records, *records]

    def crash(self, n):
        """Lose what no disk has; say whether all is there."""
        return True


class Disk(Memory):
    """A file of a journal on a disk that keeps what was synced, and any part of the rest."""

    def __init__(self, folder):
        super().__init__()
        self.path = Path(folder) / "journal"
        self.journal = FileJournal(self.path)
        self.synced = os.path.getsize(self.path)

    def read(self):
        return self.journal.read()

    def put(self, records, replace, sync):
        # What this disk keeps is decided here; waiting for the real one would only take time.
        with patch.object(os, "fsync", lambda _: None):
            self.journal.write(records, replace=replace, sync=sync)
        if sync or replace:
            self.synced = os.path.getsize(self.path)

    def crash(self, n):
        self.journal.close()
        size = os.path.getsize(self.path)
        lost = n % (size - self.synced + 1)
        os.truncate(self.path, size - lost)
        self.journal = FileJournal(self.path)
        return lost == 0


# The world


class World:
    """A dispatcher and all that may happen to it."""

    def __init__(
        self,
        *,
        dispatcher=Dispatcher,
        journal=None,
        skew=2,
        lag=5,
        options=(),
        capacities=(30.0, 25.0, 20.0),
    ):
        self.make = dispatcher
        self.skew, self.lag = skew, lag
        self.options = {"skew": skew, "lag": lag, "retry": 5.0, "patience": 12.0, **dict(options)}
        self.journal = journal
        self.now, self.offset = 0, 0
        """The time of the world, and how far the clock of the controller is ahead of it."""
        self.outlets = {}
        self.commands = []
        """(key, seq, limit, expires): every command that was ever sent."""
        self.answers = []
        """(key, kind, ...): every answer that was ever given."""
        self.newest_seq = {}
        self.known = set()
        """Those that said something since they came."""
        self.settled = {}
        """The newest number that each confirmed, whether or not it left and came back since."""
        self.logged = set()
        """(key, seq) of the commands that the log has since their connector came."""
        self.told_again = set()
        """(key, seq) that the log has twice, as a controller that lost its journal knows less."""
        self.refused = set()
        """(key, seq) of what was rejected."""
        self.offline = set()
        self.lines = []
        self.lies = set()
        """Lines that a meter lied in."""
        self.trace = []
        self.before = {}
        self.excused = set()
        self.quiet_until = -math.inf
        self.is_hazy = False
        """Whether the controller lost what the log has."""
        self.knows_less = False
        """Whether the controller counts a connector that came back with more than the log does."""
        self.hazy = set()
        """(line, group) of commands in groups that such a controller counts as above."""
        self.is_touched = True
        self.eager = all(self.options.get(name) == x for name, x in EAGER.items())
        self.registry = Registry()
        groups = zip(
            GROUPS, capacities, (None, "site", None), ("fifo", "rotate", "most"), strict=True
        )
        for group, capacity, parent, policy in groups:
            self.registry.create_group(
                group, capacity, id=group, parent=parent, policy=policy, rotation=37
            )
            self.log("group", group=group, maximum_capacity=capacity, parent=parent)
        self.d = self.make(self.registry, journal, **self.options)
        self.check()

    # What is told

    @property
    def clock(self):
        """What the controller's clock shows."""
        return self.now + self.offset

    def log(self, kind, key=None, **fields):
        if key is not None:
            fields = {"station": key[0], "connector": key[1], **fields}
        self.lines.append({"at": self.now, "kind": kind, **fields})

    def say(self, *words):
        self.is_touched = True
        self.trace.append(f"{self.now:g} s: {' '.join(map(str, words))}")

    def here(self):
        """Return the keys of the connectors that the registry has."""
        return [(s.id, c.id) for s in self.registry.charge_stations() for c in s.connectors]

    def pick(self, n):
        """Return a connector, if there is one, and what is left of the number."""
        here = self.here()
        return choose(n, *here) if here else (None, n)

    def kw(self, quanta):
        return quanta / QUANTA_PER_KW

    # What must hold

    def check(self):
        """Check all that must hold after a step."""
        committed = self.d.committed(self.clock)
        now = {key: quanta(kw) for key, kw in committed.connectors.items()}
        here = self.here()
        assert list(now) == here or set(now) == set(here), self.words(f"{set(now)} {set(here)}")
        drawn = {}
        for key in here:
            drawn[key] = self.outlets[key].draw(self.now)
            assert drawn[key] <= now[key], self.words(
                f"I1: {key} draws {self.kw(drawn[key])} kW of {self.kw(now[key])} committed"
            )
        for group, keys in self.members().items():
            usable = self.usable(group)
            total = sum(now[key] for key in keys)
            assert total == quanta(committed.groups[group]), self.words(f"sum of {group}")
            # What is excused: what came, or changed, or was seen to draw more than it was told.
            fact = sum(
                now[key] if key in self.excused else self.before.get(key, now[key]) for key in keys
            )
            assert total <= max(usable, fact), self.words(
                f"I2: {self.kw(total)} kW committed below {group}, {self.kw(usable)} usable"
            )
            draws = sum(drawn[key] for key in keys)
            assert draws <= usable or draws <= total > usable, self.words(f"I3: {group}")
        self.before, self.excused = now, set()

    def members(self):
        """Return the connectors below each group."""
        found = {group.id: [] for group in self.registry.groups()}
        parent = {group.id: group.parent for group in self.registry.groups()}
        for station in self.registry.charge_stations():
            group = station.group
            while group is not None:
                found[group] += [(station.id, c.id) for c in station.connectors]
                group = parent[group]
        return found

    def usable(self, group):
        g = self.registry.group(group)
        return usable_quanta(g.maximum_capacity, g.buffer, g.reserved)

    def words(self, what):
        return "\n".join([what, *self.trace[-100:]])

    def judge(self):
        """Let the log be judged by rules that share nothing with the dispatcher."""
        verdict = check_history(self.lines, skew=self.skew, lag=self.lag)
        wrong = [
            v
            for v in verdict.violations
            if v.rule == "raise" and (v.line, v.group) not in self.hazy
        ]
        assert not wrong, self.words(str(wrong[0]))
        lied = {breach.line for breach in verdict.breaches} - self.lies
        assert not lied, self.words(str(verdict.breaches))

    # The controller

    def plan(self, n=0):
        """Ask what may be sent; n only says whether to ask twice."""
        before = {key: quanta(kw) for key, kw in self.d.committed(self.clock).connectors.items()}
        plan = self.d.plan(self.clock)
        asleep = not self.is_touched and self.clock < self.quiet_until
        assert not (asleep and plan.commands), self.words(
            f"{plan.commands} before {self.quiet_until} though nothing happened"
        )
        if plan.commands:
            self.say(
                "plan",
                *(f"{c.station}{c.connector} #{c.seq} {c.limit:g} kW" for c in plan.commands),
            )
        for c in plan.commands:
            key = (c.station, c.connector)
            assert c.seq > self.newest_seq.get(key, -1), self.words(f"number again: {c}")
            self.newest_seq[key] = c.seq
            expires = {} if c.expires is None else {"expires": c.expires - self.offset}
            assert (c.expires is None) == (self.outlets[key].lease is None)
            self.log("command", key, seq=c.seq, limit=c.limit, **expires)
            self.logged.add((key, c.seq))
            if self.is_hazy or self.knows_less:
                self.hazy.update((len(self.lines), over.group) for over in plan.over)
            self.commands.append((key, c.seq, quanta(c.limit), expires.get("expires", math.inf)))
        after = {key: quanta(kw) for key, kw in self.d.committed(self.clock).connectors.items()}
        if plan.journal_error is not None:
            raised = [key for key in after if after[key] > before[key]]
            assert not raised, self.words(f"{raised} raised without a journal")
        again = self.d.plan(self.clock)
        assert not again.commands, self.words(f"not quiet: {again.commands}")
        assert again.wake_at > self.clock, self.words(f"wakes at {again.wake_at}")
        self.quiet_until, self.is_touched = again.wake_at, False
        return plan

    def crash(self, n=0):
        """Lose the controller, and what of the journal no disk has; recover from the rest."""
        if self.journal is None:
            return
        (cut, turned), n = choose(n, (False, False), (True, False), (False, True), (True, True))
        live = self.d.committed(self.clock)
        exact = self.journal.is_whole
        exact = self.journal.crash(n if cut else 0) and exact
        data = self.registry.to_dict()
        if turned:
            # A clock that counts from the start of the machine begins anew.
            self.offset = -self.now
            data["clock"] = 0.0
            for session in data["sessions"]:
                session["started_at"] = 0.0
            for group in data["groups"]:
                group["line"] = None
        self.say("crash", "of the machine" if not exact else "", "clock anew" if turned else "")
        self.registry = Registry.from_dict(json.loads(json.dumps(data)))
        self.d = self.make(self.registry, self.journal, **self.options)
        for key in self.here():
            if self.outlets[key].lease is not None:
                self.tell_manner(key)
        recovered = self.d.committed(self.clock)
        if exact and not turned:
            assert recovered == live, self.words(f"I4: {live}\n{recovered}")
        else:
            self.excused = set(self.here())
            self.is_hazy = True
            for key in set(self.here()) & self.settled.keys() - self.known:
                # The controller may have forgotten that it left since it confirmed this.
                self.known.add(key)
                self.log("confirmation", key, seq=self.settled[key])
        for station in self.offline:
            if station in {key[0] for key in self.here()}:
                self.d.offline(station, self.clock)

    def journal_fails(self, n=0):
        """Let the journal fail, before or after it wrote, or work again."""
        if self.journal is not None:
            self.journal.fault, n = choose(n, None, "before", "after")
            self.say("journal", self.journal.fault or "works")

    # The network

    def deliver(self, n=0):
        """Deliver any command that was ever sent; the newest are the likeliest."""
        if self.commands:
            self.arrive(self.commands[-1 - n % len(self.commands)])

    def arrive(self, command):
        key, seq, limit, expires = command
        outlet = self.outlets[key]
        said = outlet.receive(self.now, seq, limit, expires)
        outlet.draw(self.now)
        if said is not None:
            self.answers.append((key, said, seq))
        self.say(f"{key[0]}{key[1]} receives #{seq} {self.kw(limit):g} kW: {said}")

    def answer(self, n=0):
        """Let any answer that was ever given arrive."""
        if self.answers:
            self.take(self.answers[-1 - n % len(self.answers)])

    def take(self, answer):
        key, kind, *what = answer
        if key not in self.here() or (
            kind == "read-back" and what[0] is None and key in self.known
        ):
            return  # Without a number, only the first word says anything.
        try:
            self.tell(key, kind, *what)
        except InputError as error:
            # A dispatcher that lost the end of its journal knows nothing of what it sent then.
            if "seq must be that of a command" not in str(error):
                raise

    def tell(self, key, kind, *what):
        d, now = self.d, self.clock
        if kind == "confirmation":
            d.confirm(*key, what[0], now)
            if what[0] > self.settled.get(key, -1) or (key, what[0]) in self.told_again:
                self.settled[key] = max(what[0], self.settled.get(key, -1))
                self.log(kind, key, seq=what[0])
        elif kind == "rejection":
            d.reject(*key, what[0], now)
            if (key, what[0]) not in self.refused:
                self.refused.add((key, what[0]))
                # What was settled before it left and came back is not in the log again.
                if (key, what[0]) in self.logged:
                    self.log(kind, key, seq=what[0])
        elif kind == "read-back":
            seq, limit = what
            d.read_back(*key, self.kw(limit), now, seq)
            if seq is None:
                self.log(kind, key, limit=self.kw(limit))
            elif seq >= self.settled.get(key, -1):
                self.settled[key] = seq
                self.log(kind, key, limit=self.kw(limit), seq=seq)
        else:
            power, measured_at, lied = what
            self.excused.add(key)
            if measured_at is None:
                d.meter(*key, self.kw(power), now)
                self.log("meter", key, power=self.kw(power))
            else:
                d.meter(*key, self.kw(power), now, measured_at + self.offset)
                self.log("meter", key, power=self.kw(power), measured_at=measured_at)
            if lied:
                self.lies.add(len(self.lines))
        if kind in ("confirmation", "read-back"):
            self.known.add(key)
        self.say(f"told {kind} of {key[0]}{key[1]}", *what)

    def round_trip(self, n=0):
        """Deliver the newest command of each connector, or of one, and its answer."""
        one, n = self.pick(n // 2) if n % 2 else (None, n)
        newest = {command[0]: command for command in self.commands}
        for key, command in newest.items():
            if one in (None, key) and key[0] not in self.offline:
                n_answers = len(self.answers)
                self.arrive(command)
                for answer in self.answers[n_answers:]:
                    self.take(answer)

    def wait(self, n=0):
        """Let time pass."""
        seconds, n = choose(n, 1, 0.25, 2, 5, 10, 21, 40)
        self.pass_until(self.now + seconds)

    def pass_until(self, ends):
        """Let time pass; leases end at their own times."""
        moments = {outlet.ends() for outlet in self.outlets.values()}
        for moment in sorted(m for m in moments if self.now < m < ends):
            self.now = moment
            self.check()
        self.now = ends
        self.trace.append(f"{self.now:g} s: ...")

    # Stations

    def fall_back(self, n=0):
        """Let a connector go to its fallback, or back to its limit."""
        key, n = self.pick(n)
        if key is not None:
            outlet = self.outlets[key]
            outlet.fallen_back = not outlet.fallen_back
            self.say(f"{key[0]}{key[1]}", "falls back" if outlet.fallen_back else "resumes")
            outlet.draw(self.now)

    def refuse(self, n=0):
        """Let a connector refuse the next command."""
        key, n = self.pick(n)
        if key is not None:
            self.outlets[key].refuses = True
            self.say(f"{key[0]}{key[1]} will refuse")

    def go(self, n=0):
        """Let a station be known to be offline, or online."""
        key, n = self.pick(n)
        if key is not None:
            station = key[0]
            if station in self.offline:
                self.offline.remove(station)
                self.d.online(station, self.clock)
                self.log("online", station=station)
                self.say(station, "online")
            else:
                self.offline.add(station)
                self.d.offline(station, self.clock)
                self.log("offline", station=station)
                self.say(station, "offline")

    def read_back(self, n=0):
        """Let a connector say what it has; the answer arrives at once, or later, or never."""
        key, n = self.pick(n)
        if key is None:
            return
        outlet = self.outlets[key]
        if outlet.newest >= 0:
            said = (key, "read-back", outlet.newest, outlet.in_force(self.now))
        elif not outlet.fallen_back and key not in self.newest_seq:
            # The first word of a connector that was never told anything is believed.
            said = (key, "read-back", None, outlet.in_force(self.now))
        else:
            return
        self.answers.append(said)
        if n % 2:
            self.take(said)

    def meter(self, n=0):
        """Let a connector be measured; the reading arrives at once, or later, or never."""
        key, n = self.pick(n)
        if key is None:
            return
        outlet = self.outlets[key]
        drawn = outlet.seen(self.now)
        late, n = choose(n, True, False)
        self.answers.append((key, "meter", drawn, self.now - outlet.clock, False))
        if not late:
            self.take((key, "meter", drawn, None, False))

    def lie(self, n=0):
        """Let a meter show what cannot be: more than the connector draws, or can."""
        key, n = self.pick(n)
        if key is not None:
            outlet = self.outlets[key]
            share, n = choose(n, 1.0, 0.5, 0.95, 1.04, 1.5, 1000.0)
            power = max(math.floor(outlet.maximum * share), outlet.draw(self.now))
            self.take((key, "meter", power, None, True))

    def appetite(self, n=0):
        """Let a vehicle take less, or more again."""
        key, n = self.pick(n)
        if key is not None:
            kw, n = choose(n, SPACE, *POWERS)
            self.outlets[key].appetite = quanta(kw)
            self.say(f"{key[0]}{key[1]} takes {kw:g} kW")

    # The registry

    def attempt(self, change, *args, **fields):
        """Make a change that may be refused; say whether it was made."""
        try:
            change(*args, **fields)
        except (ConflictError, InputError) as error:
            self.trace.append(f"refused: {error}")
            return False
        self.say(change.__name__, *args, *(f"{name}={x}" for name, x in fields.items()))
        return True

    def add_station(self, n=0):
        """Let a station come, or come back."""
        there = {station.id for station in self.registry.charge_stations()}
        new = [station for station in STATIONS if station not in there]
        if not new:
            return
        station, n = choose(n, *new)
        group, n = choose(n, *GROUPS)
        manner, n = choose(n, (None, True), (LEASE, True), (LEASE, False))
        n_plugs, n = choose(n, 1, 1, 2)
        plugs = []
        for id in "12"[:n_plugs]:
            maximum, n = choose(n, 22.0, 11.0)
            minimum, n = choose(n, 0.0, 1.4, 4.14)
            fallback, n = choose(n, 0.0, 0.0, 1.0, 2.0)
            plugs.append(Connector(id, maximum, minimum, fallback=fallback))
        slow, n = choose(n, 0, self.skew, -self.skew)
        if not self.attempt(self.registry.add_charge_station, group, station, plugs):
            return
        for plug in plugs:
            key = (station, plug.id)
            if key not in self.outlets:
                old = [o for (s, _), o in self.outlets.items() if s == station]
                lease, ordered = (old[0].lease, old[0].ordered) if old else manner
                limit = quanta(plug.maximum_capacity)
                self.outlets[key] = Outlet(
                    0, limit, limit, ordered, slow, self.lag, last=limit, lease=lease
                )
            self.take_up(key, plug)
        if self.outlets[key].lease is not None:
            self.tell_manner(key)

    def tell_manner(self, key):
        outlet = self.outlets[key]
        self.d.set_station(key[0], lease=outlet.lease, ordered=outlet.ordered)

    def take_up(self, key, plug):
        """Note that a connector is there, or another one, of which the old one said nothing."""
        self.answers = [
            answer
            for answer in self.answers
            if answer[0] != key or answer[1] in ("confirmation", "rejection")
        ]
        self.outlets[key].configure(
            self.now, quanta(plug.may_draw_untold), quanta(plug.maximum_capacity)
        )
        self.excused.add(key)
        self.log(
            "connector",
            key,
            group=self.registry.charge_station(key[0]).group,
            maximum_capacity=plug.maximum_capacity,
            floor=plug.may_draw_untold,
            ordered=self.outlets[key].ordered,
        )
        if key not in self.before:
            self.known.discard(key)
            self.logged = {pair for pair in self.logged if pair[0] != key}
            self.knows_less |= any(where == key for where, *_ in self.commands)
            # What it was told in an earlier life may still arrive.
            for where, seq, limit, expires in self.commands:
                if (
                    where == key
                    and (key, seq) not in self.refused
                    and (
                        seq >= self.settled.get(key, -1)
                        or not self.outlets[key].ordered
                        or self.is_hazy
                    )
                ):
                    if self.is_hazy:
                        self.told_again.add((key, seq))
                    self.logged.add((key, seq))
                    lease = {} if expires == math.inf else {"expires": expires}
                    self.log("command", key, seq=seq, limit=self.kw(limit), **lease)

    def change_station(self, n=0):
        """Let the connectors of a station be others: another rating, another fallback."""
        key, n = self.pick(n)
        if key is None:
            return
        old = self.registry.charge_station(key[0]).connectors
        plugs = []
        for plug in old:
            maximum, n = choose(n, 22.0, 11.0)
            fallback, n = choose(n, 0.0, 0.0, 1.0, 2.0)
            plugs.append(Connector(plug.id, maximum, plug.minimum_capacity, fallback=fallback))
        if self.attempt(self.registry.update_charge_station, key[0], plugs):
            for plug in plugs:
                self.take_up((key[0], plug.id), plug)

    def remove_station(self, n=0):
        """Let a station leave."""
        key, n = self.pick(n)
        if key is not None and self.attempt(self.registry.remove_charge_station, key[0]):
            for gone in [other for other in self.before if other[0] == key[0]]:
                self.log("leave", gone)

    def move_station(self, n=0):
        """Let a station go to another group."""
        key, n = self.pick(n)
        if key is not None:
            group, n = choose(n, *GROUPS)
            if self.attempt(self.registry.move_charge_station, key[0], group):
                for moved in [other for other in self.before if other[0] == key[0]]:
                    self.log("connector", moved, group=group)

    def regroup(self, n=0):
        """Hang a group below another one, or let it stand alone."""
        parent, n = choose(n, None, "site", "yard")
        if self.attempt(self.registry.update_group, "hall", parent=parent):
            self.log("group", group="hall", parent=parent)

    def resize(self, n=0):
        """Change what a group may draw."""
        group, n = choose(n, *GROUPS)
        name, n = choose(n, "maximum_capacity", "reserved", "buffer")
        if name == "buffer":
            value, n = choose(n, 0.0, 0.1, 0.5)
        elif name == "reserved":
            value, n = choose(n, 0.0, 0.0, 5.0, 12.5)
        else:
            value, n = choose(n, 30.0, 50.0, 20.0, 11.0, 6.0)
        if self.attempt(self.registry.update_group, group, **{name: value}):
            self.log("group", group=group, **{name: value})

    def start(self, n=0):
        """Let a vehicle come."""
        key, n = self.pick(n)
        if key is not None:
            kw, n = choose(n, None, *POWERS[1:])
            weight, n = choose(n, 1.0, 1.0, 2.0)
            self.attempt(self.registry.start_session, *key, maximum=kw, weight=weight)

    def stop(self, n=0):
        """Let a vehicle leave."""
        running = [(s.station, s.connector) for s in self.registry.sessions()]
        if running:
            key, n = choose(n, *running)
            self.attempt(self.registry.stop_session, *key)

    # Peace

    def calm(self):
        """Let all get through from now on; return in how many round trips all is reached."""
        self.say("peace")
        if self.journal is not None:
            self.journal.fault = None
        for group in self.registry.groups():
            self.registry.update_group(group.id, rotation=1e9)
        for key in self.here():
            outlet = self.outlets[key]
            outlet.refuses = outlet.fallen_back = False
            outlet.appetite = SPACE * QUANTA_PER_KW
            outlet.draw(self.now)
        for station in sorted(self.offline & {key[0] for key in self.here()}):
            self.offline.remove(station)
            self.d.online(station, self.clock)
        self.check()
        rounds = 0
        for _ in range(MOST_WAKES):
            if self.is_reached():
                return rounds
            for key in self.here():
                self.take((key, "meter", self.outlets[key].seen(self.now), None, False))
            plan = self.plan()
            n_commands = len(plan.commands)
            for command in self.commands[len(self.commands) - n_commands :]:
                n_answers = len(self.answers)
                self.arrive(command)
                for answer in self.answers[n_answers:]:
                    self.take(answer)
            self.check()
            rounds += n_commands > 0
            if not n_commands:
                assert self.quiet_until < math.inf, self.words("asleep for ever")
                self.pass_until(self.quiet_until - self.offset)
        raise AssertionError(self.words("never reached"))

    def is_reached(self):
        """Say whether every connector is known to go by what it is to have."""
        committed = self.d.committed(self.clock).connectors
        allocation = self.registry.allocate()
        newest = {}
        for key, seq, limit, _ in self.commands:
            newest[key] = (seq, limit)
        short = set()
        members = self.members()
        for group, keys in members.items():
            if sum(self.outlets[key].floor for key in keys) > self.usable(group):
                short.update(keys)
        trees = [keys for keys in members.values() if short.intersection(keys)]
        short.update(key for keys in trees for key in keys)
        for key in self.here():
            if key in short:
                continue
            target = quanta(allocation.connectors[key].power)
            floor = self.outlets[key].floor
            if not self.is_near(committed[key], max(target, floor), newest.get(key)):
                return False
        return True

    def is_near(self, committed, due, newest):
        committed = quanta(committed)
        if self.eager or newest is None:
            return committed == due
        slack = min(
            quanta(self.options.get("smallest_change", 0.1)),
            self.options.get("smallest_share", 0.05) * newest[1],
        )
        return due - slack < committed <= due or committed == due
