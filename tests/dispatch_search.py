"""Every state that the real dispatcher, its stations and the network between them can get into.

One group, one connector per station. A connector has what the dispatcher counts it with, what its
station does, every command that can still be applied and every answer that can still say something;
a state is that of all connectors. What the dispatcher makes of something that is told of one
connector depends on what it knows of that one alone, and what it plans on what it knows of all of
them. So each of these is played once, by a real `Dispatcher` and `Registry` that are put there, and
what comes of it is remembered.

Numbers of commands count by their order and times from now, and what can have no effect any more is
left out (`Search.fold`, `Search.rest`), so that there are finitely many states; connectors that are
alike may change places. test_dispatch_search.py holds that to a dispatcher that lives on. The clock
moves by ticks; a vehicle follows a lower limit within one.
"""

import math
from itertools import permutations, product
from typing import NamedTuple

from wattfill import Connector, Dispatcher, Registry
from wattfill._records import QUANTA_PER_KW

INFINITY = math.inf
MANY_ROUNDS = 20
"""Round trips, or ticks, after which a target, or a station, is given up."""
PARTS = 2**32
"""More than there are parts of states; the number of one begins with that of what is known."""


class Known(NamedTuple):
    """What the dispatcher counts one connector with; limits in quanta, times from now."""

    is_known: bool
    confirmed: tuple
    """(seq, limit, until)"""
    sent: tuple
    """Of (seq, limit, until)."""
    settling: tuple
    """Of (limit, until)."""
    newest: tuple
    """(seq, limit, tried_at)"""
    in_force: int
    committed: int
    is_offline: bool
    is_stale: bool


class Outlet(NamedTuple):
    """What there is beyond the dispatcher: a station and the network to and from it."""

    limit: int
    expires: float
    has_fallen_back: bool
    peak: int
    """What it may still draw until the next tick."""
    on_the_way: tuple
    """Commands that it may still get: (seq, limit, expires)."""
    answers: frozenset
    """Numbers that it has confirmed."""


class Part(NamedTuple):
    """What there is of a state at one connector."""

    known: Known
    outlet: Outlet


class Search:
    """A breadth-first search from the state in which all is known to be 0."""

    def __init__(
        self,
        n,
        levels,
        capacity,
        outstanding,
        floors,
        *,
        dispatcher=Dispatcher,
        plug=None,
        lag=1.0,
        life=None,
        skew=0,
        ordered=True,
        told_floors=None,
        told_ordered=None,
        from_receipt=False,
        extra=(),
    ):
        # What the dispatcher is told of stations is so, unless something else is said.
        told_floors = floors if told_floors is None else told_floors
        self.told_ordered = ordered if told_ordered is None else told_ordered
        self.from_receipt = from_receipt
        """Whether stations let a lease begin when they get it."""
        self.n, self.outstanding = n, outstanding
        self.capacity = capacity * QUANTA_PER_KW
        self.lag, self.life, self.skew, self.ordered = lag, life, skew, ordered
        self.extra = extra
        self.targets = [
            t
            for t in product(range(levels + 1), repeat=n)
            if all(x == 0 or x >= f for x, f in zip(t, told_floors, strict=True))
            and sum(map(max, t, told_floors)) <= capacity
        ]
        self.registry = Registry()
        self.registry.create_group("g", capacity, id="g")
        self.keys = [(f"s{i}", "1") for i in range(n)]
        for (station, _), floor in zip(self.keys, told_floors, strict=True):
            plugs = [Connector("1", levels, fallback=floor)]
            self.registry.add_charge_station("g", station, plugs)
        made = {} if plug is None else {"_Plug": plug}
        self.options = {
            "lease": life, "ordered": self.told_ordered, "skew": skew, "lag": lag,
            "retry": 1e6, "patience": 1e6,
            "smallest_change": 0.0, "smallest_share": 0.0, "between_increases": 0.0,
        }  # fmt: skip
        self.make = type("Dispatcher", (dispatcher,), made)
        self.d = self.make(self.registry, **self.options)
        self.d.committed(0.0)
        self.plugs = [self.d._plugs[key] for key in self.keys]

        floors = [f * QUANTA_PER_KW for f in floors]
        self.floors = list(
            dict.fromkeys(zip(floors, (p.fallback for p in self.plugs), strict=True))
        )
        """What a connector may do on its own, and what the dispatcher is told of that."""
        self.sort = [
            self.floors.index((f, plug.fallback))
            for f, plug in zip(floors, self.plugs, strict=True)
        ]
        """Connectors with the same of these are alike."""
        self.place = [self.sort.index(sort) for sort in range(len(self.floors))]

        self.kinds, self.kind_of = [], {}
        """What may be known of a connector, and of what sort it is."""
        self.parts, self.part_of = {}, {}
        """What there is at a connector, and what is drawn and counted there."""
        self.outcomes, self.outcome_of = [], {}
        """What a plan makes of what is known of a connector, and what it sends there."""
        self.asked, self.sends = {}, {}
        """What comes of each target, and all that a plan may send, by what is known of all."""
        self.own, self.ticks, self.crashes, self.sent, self.trips = {}, {}, {}, {}, {}
        self.n_states = self.n_transitions = self.n_left_out = 0
        self.most_drawn = 0

    # The dispatcher

    def put(self, places, kinds):
        """Put connectors of the dispatcher into what is known of them, at time 0."""
        desk = self.d._desk
        desk.now = 0.0
        plugs = [self.plugs[i] for i in places]
        for plug, kind in zip(plugs, kinds, strict=True):
            _, k, state = self.kinds[kind]
            plug.set_state(state)
            plug.offline, plug.stale = k.is_offline, k.is_stale
            plug.silent = plug.refuses = False
            plug.raised_at = -INFINITY
            plug.unanswered_since = plug.wanted_since = plug.wake_at = INFINITY
            desk.todo[plug] = None
        site = plugs[0].site
        site.blocked.clear()
        (s,) = site.sums
        s.committed = sum(plug.committed for plug in self.plugs)
        desk.stirred[site] = None
        desk.watch(s)
        # The heap of what is due is made anew with this.
        desk.turn_back(plugs, 0.0)
        for plug in plugs:
            desk.keep(plug)

    def known(self, plug, now):
        """Return all that counts of a connector, as its dispatcher has it."""
        state = plug.state()

        def later(until):
            return INFINITY if until is None else until - now

        seq, limit, until = state["confirmed"]
        tried_at = state["tried_at"]
        return Known(
            state["known"],
            (seq, limit, later(until)),
            tuple((s, most, later(u)) for s, most, u in state["sent"]),
            tuple((most, later(u)) for _, most, u in state["settling"]),
            (*state["newest"], -INFINITY if tried_at is None else tried_at - now),
            state["in_force"],
            state["committed"],
            bool(plug.offline),
            bool(plug.stale),
        )

    def after(self, kind, event, *args):
        """Return what is known of a connector after something happened there."""
        place = self.place[self.kinds[kind][0]]
        self.put([place], [kind])
        return getattr(self, "_" + event)(place, *args)

    def _confirm(self, i, seq):
        self.d.confirm(*self.keys[i], seq, 0.0)
        return self.known(self.plugs[i], 0.0)

    def _timeout(self, i, seq):
        timed_out = getattr(self.d, "timed_out", None)
        if timed_out is not None:
            timed_out(*self.keys[i], seq, 0.0)
        return self.known(self.plugs[i], 0.0)

    def _offline(self, i):
        self.d.offline(self.keys[i][0], 0.0)
        return self.known(self.plugs[i], 0.0)

    def _online(self, i):
        self.d.online(self.keys[i][0], 0.0)
        return self.known(self.plugs[i], 0.0)

    def _tick(self, i):
        self.d.committed(1.0)
        return self.known(self.plugs[i], 1.0)

    def _crash(self, i):
        """Recover a dispatcher from all that this one would write down."""
        registry = Registry.from_dict(self.registry.to_dict())
        again = self.make(registry, Written(self.d._snapshot()), **self.options)
        again.committed(0.0)
        return self.known(again._plugs[self.keys[i]], 0.0)

    def ask_for(self, target):
        """Let the sessions be those to which the registry gives so much."""
        for key, kw in zip(self.keys, target, strict=True):
            running = key in self.registry._sessions
            if kw and running:
                self.registry.update_session(*key, maximum=kw)
            elif kw:
                self.registry.start_session(*key, maximum=kw)
            elif running:
                self.registry.stop_session(*key)

    def plan(self, kinds, order):
        """Return what a plan makes of each connector, and whether it matters who waits longest."""
        self.put(range(self.n), kinds)
        site = self.plugs[0].site
        for waited, i in enumerate(order):
            self.plugs[i].wanted_since = float(waited - self.n)
            site.blocked[self.plugs[i]] = None
        in_force = [plug.in_force for plug in self.plugs]
        sent = [[] for _ in self.plugs]
        n_raised = 0
        for c in self.d.plan(0.0).commands:
            i = self.keys.index((c.station, c.connector))
            limit = quanta(c.limit)
            n_raised += limit > in_force[i]
            is_absolute = c.expires is not None and not self.from_receipt
            # By a clock that may be slow.
            sent[i].append((c.seq, limit, c.expires + self.skew if is_absolute else INFINITY))
        outcomes = tuple(
            self.outcome(sort, kind, self.known(plug, 0.0), tuple(commands))
            for sort, kind, plug, commands in zip(self.sort, kinds, self.plugs, sent, strict=True)
        )
        return outcomes, n_raised + len(site.blocked) > 1

    def outcome(self, sort, kind, known, commands):
        """Return the number of what a plan makes of a connector, None where that is nothing."""
        after = self.kind(sort, self.fold(sort, known)[0])
        if after == kind and not commands:
            return None
        found = self.outcome_of.setdefault((after, known, commands), len(self.outcomes))
        if found == len(self.outcomes):
            self.outcomes.append((after, known, commands))
        return found

    def play_plans(self, wanted):
        """Find what plans make of what is known of all connectors, for each target."""
        wanted = [kinds for kinds in wanted if kinds not in self.asked]
        asked = {kinds: [] for kinds in wanted}
        sends = {kinds: {} for kinds in wanted}
        for target in self.targets:
            self.ask_for(target)
            for kinds in wanted:
                first, *others = permutations(range(self.n))
                outcomes, depends = self.plan(kinds, first)
                asked[kinds].append(outcomes)
                found = [outcomes]
                if depends:
                    found += [self.plan(kinds, order)[0] for order in others]
                for outcomes in found:
                    sends[kinds].setdefault(outcomes, target)
        for kinds in wanted:
            self.asked[kinds] = tuple(asked[kinds])
            sends[kinds].pop((None,) * self.n, None)
            self.sends[kinds] = tuple(sends[kinds].items())

    # What is the same

    def kind(self, sort, known):
        """Return the number of what is known of a connector."""
        found = self.kind_of.setdefault((sort, known), len(self.kinds))
        if found == len(self.kinds):
            plug = self.plugs[self.place[sort]]
            state = {
                "fallback": plug.fallback,
                "rating": plug.rating,
                "ordered": plug.ordered,
                "known": known.is_known,
                "disobeys": False,
                "confirmed": plain(known.confirmed),
                "sent": [plain(sent) for sent in known.sent],
                "settling": [[-1, limit, until] for limit, until in known.settling],
                "in_force": known.in_force,
                "committed": known.committed,
                "newest": list(known.newest[:2]),
                "tried_at": known.newest[2],
            }
            self.kinds.append((sort, known, state))
        return found

    def fold(self, sort, k):
        """Return what is known without what has no effect, and the numbers of commands there.

        - A limit up to the fallback does not count, nor does one that is over. If it was confirmed,
          only its number does.
        - To confirm a command that does not count changes nothing but that older ones are dead; so
          there is none, unless an older one counts for longer.
        - Of what is still drawn, less than another for no longer does not count.
        - A command of the size of the fallback is not renewed, so that its time says nothing. Any
          other is due, or is not.
        """
        floor = self.floors[sort][1]
        seq, limit, until = k.confirmed
        counts = limit > floor and until > 0
        # Where stations keep no order, what is confirmed is among what was sent, too.
        longest = until if counts and self.told_ordered else 0.0
        confirmed = (seq, limit, until) if counts else (seq, -1, 0.0)
        sent = []
        for command in k.sent:
            seq, limit, until = command
            if limit <= floor:
                until = min(until, longest)
            if until > 0:
                sent.append((seq, limit, until))
                longest = max(longest, until)
        settling, latest = [], 0.0
        for limit, until in sorted(k.settling, reverse=True):
            if until > latest:
                settling.append((limit, until))
                latest = until
        seqs = sorted({confirmed[0], *(command[0] for command in sent)})
        number = {seq: at for at, seq in enumerate(seqs)}
        _, newest, tried_at = k.newest
        tried_at = 0.0 if self.life is None or newest == floor else max(tried_at, -self.life / 2)
        known = k._replace(
            confirmed=(number[confirmed[0]], *confirmed[1:]),
            sent=tuple((number[seq], limit, until) for seq, limit, until in sent),
            settling=tuple(settling),
            newest=(len(seqs) - 1, newest, tried_at),
        )
        return known, number

    def rest(self, sort, known, number, o):
        """Return what there is beyond the dispatcher without what has no effect.

        - A station that has no lease any more, or was told its fallback, is in it.
        - What vehicles may still draw counts if it is more than they may.
        - An answer counts if the dispatcher waits for it, and has no newer one.
        - A command that is left out of what is known has its place between two that are not. Where
          stations keep no order there are no places, and only what is waited for has a number.
        """
        floor = self.floors[sort][0]
        if o.expires <= 0 or o.limit == floor:
            o = o._replace(limit=floor, expires=0.0, has_fallen_back=False)
        waits_for = {seq for seq, _, _ in known.sent if seq > known.confirmed[0]}
        place, below, rank = {}, -1, 0
        for seq in sorted({*number, *(command[0] for command in o.on_the_way)}):
            if seq in number:
                below, rank = number[seq], 0
            else:
                rank += 1
            place[seq] = below + rank / 64
            if not self.ordered and place[seq] not in waits_for:
                place[seq] = -1
        return Outlet(
            o.limit,
            o.expires,
            o.has_fallen_back,
            o.peak if self.lag and o.peak > self.in_force(sort, o) else 0,
            tuple(sorted({(place[seq], *command) for seq, *command in o.on_the_way})),
            frozenset(number[seq] for seq in o.answers if seq in number) & waits_for,
        )

    def part(self, sort, known, outlet):
        """Return the number of what there is at a connector."""
        known, number = self.fold(sort, known)
        part = Part(known, self.rest(sort, known, number, outlet))
        found = self.part_of.get((sort, part))
        if found is None:
            kind = self.kind(sort, known)
            found = self.part_of[sort, part] = kind * PARTS + len(self.parts)
            drawn = self.drawn(sort, part.outlet)
            self.parts[found] = (sort, part, drawn, known.committed, drawn > known.committed)
        return found

    def state(self, parts):
        """Return the state of some parts: those of connectors that are alike have an order."""
        if len(self.floors) == 1:
            return tuple(sorted(parts))
        return tuple(parts)

    # The world

    def first(self):
        """Return the state in which all is known to be 0."""
        d = self.d
        for c in d.plan(0.0).commands:
            d.confirm(c.station, c.connector, c.seq, 0.0)
        now = 0.0
        while d._desk.next_wake() < INFINITY:
            now = d._desk.next_wake()
            d.committed(now)
        outlet = Outlet(0, 0.0 if self.life else INFINITY, False, 0, (), frozenset())
        return self.state(
            self.part(sort, self.known(plug, now), outlet)
            for sort, plug in zip(self.sort, self.plugs, strict=True)
        )

    def in_force(self, sort, outlet):
        if outlet.has_fallen_back or outlet.expires <= 0:
            return self.floors[sort][0]
        return outlet.limit

    def drawn(self, sort, outlet):
        return max(self.in_force(sort, outlet), outlet.peak if self.lag else 0)

    def moves(self, state):
        """Yield everything that may happen next: the words for it, where, and what comes of it."""
        for i, part in enumerate(state):
            own = self.own.get(part)
            if own is None:
                own = self.own[part] = tuple(self.own_moves(part))
            for words, after in own:
                yield words, i, self.state((*state[:i], after, *state[i + 1 :]))
        yield ("tick",), None, self.state(map(self.ticked, state))
        if "crash" in self.extra:
            yield ("crash",), None, self.state(map(self.crashed, state))
        for outcomes, target in self.sends[tuple(part // PARTS for part in state)]:
            after = tuple(map(self.send, state, outcomes))
            if None in after:
                self.n_left_out += 1
            else:
                yield ("plan", target), None, self.state(after)

    def own_moves(self, part):
        """Yield what may happen at one connector."""
        kind = part // PARTS
        sort, (known, outlet), *_ = self.parts[part]
        fallen = not outlet.has_fallen_back
        changed = outlet._replace(has_fallen_back=fallen, peak=self.drawn(sort, outlet))
        found = [(("fall back" if fallen else "resume",), known, changed)]
        for command in outlet.on_the_way:
            after = self.applied(sort, outlet, command)
            found.append((("apply", command[1] // QUANTA_PER_KW), known, after))
        for seq in outlet.answers:
            found.append((("confirm",), self.after(kind, "confirm", seq), outlet))
        if "timeout" in self.extra:
            for seq, _, _ in known.sent:
                found.append((("time-out",), self.after(kind, "timeout", seq), outlet))
        if "offline" in self.extra:
            word = "online" if known.is_offline else "offline"
            found.append(((word,), self.after(kind, word), outlet))
        for words, *after in found:
            after = self.part(sort, *after)
            if after != part:
                yield words, after

    def send(self, part, outcome):
        """Return what a plan makes of a part, None if more would be outstanding than may be."""
        if outcome is None:
            return part
        if (part, outcome) not in self.sent:
            sort, (_, outlet), *_ = self.parts[part]
            _, known, commands = self.outcomes[outcome]
            outlet = outlet._replace(on_the_way=(*outlet.on_the_way, *commands))
            found = self.part(sort, known, outlet)
            known, outlet = self.parts[found][1]
            if max(len(known.sent), len(outlet.on_the_way)) > self.outstanding:
                found = None
            self.sent[part, outcome] = found
        return self.sent[part, outcome]

    def applied(self, sort, outlet, command):
        seq, limit, expires = command
        return outlet._replace(
            limit=limit,
            expires=float(self.life) if self.from_receipt else expires,
            has_fallen_back=False,
            peak=self.drawn(sort, outlet),
            on_the_way=tuple(c for c in outlet.on_the_way if c[0] > seq or not self.ordered),
            answers=outlet.answers | {seq},
        )

    def ticked(self, part):
        """Let a tick pass: what was given up before is over, what a lease gives up now is not."""
        found = self.ticks.get(part)
        if found is None:
            sort, (_, outlet), *_ = self.parts[part]
            outlet = outlet._replace(
                expires=max(outlet.expires - 1, 0.0),
                on_the_way=tuple(
                    (seq, limit, expires - 1)
                    for seq, limit, expires in outlet.on_the_way
                    if expires > 1
                ),
                peak=self.in_force(sort, outlet),
            )
            found = self.part(sort, self.after(part // PARTS, "tick"), outlet)
            self.ticks[part] = found
        return found

    def crashed(self, part):
        found = self.crashes.get(part)
        if found is None:
            sort, (_, outlet), *_ = self.parts[part]
            found = self.part(sort, self.after(part // PARTS, "crash"), outlet)
            self.crashes[part] = found
        return found

    # What is asked

    def counts(self, state):
        """Return what is drawn and what is committed at each connector."""
        return sorted(self.parts[part][2:4] for part in state)

    def is_unsafe(self, state, counts):
        """Say whether the group draws more than it may (I3), or is counted wrongly (I1, I2)."""
        parts = [self.parts[part] for part in state]
        drawn = sum(part[2] for part in parts)
        self.most_drawn = max(self.most_drawn, drawn)
        if drawn > self.capacity:
            return True
        return counts and (
            sum(part[3] for part in parts) > self.capacity or any(part[4] for part in parts)
        )

    def run(self, *, counts=True, depth=INFINITY):
        """Visit all states within so many steps.

        Return the steps to the first in which too much is drawn (or, with `counts`, counted
        wrongly), None if there is none. Where connectors are alike, a step may name them anew.
        """
        first = self.first()
        came = {first: None}
        wave = [first]
        while wave and depth > 0:
            self.play_plans({tuple(part // PARTS for part in state) for state in wave})
            following = []
            for state in wave:
                for _, _, after in self.moves(state):
                    if after == state:
                        continue
                    self.n_transitions += 1
                    if after in came:
                        continue
                    came[after] = state
                    if self.is_unsafe(after, counts):
                        return self.trace_to(after, came)
                    following.append(after)
            wave = following
            depth -= 1
        self.n_states = len(came)
        return None

    def trace_to(self, state, came):
        """Return the words for each step to a state."""
        trace = []
        while came[state] is not None:
            before = came[state]
            trace.append(next((w, i) for w, i, after in self.moves(before) if after == state))
            state = before
        return trace[::-1]

    def most_rounds(self):
        """Reach every target from all that the dispatcher may know, with messages that get through.

        Return the most round trips that it takes. Each is a plan, the answers to the newest command
        of each connector, and a tick; stations that are offline come online first.
        """
        left = {
            self.alike(map(self.came_online, kinds), target)
            for kinds in list(self.asked)
            for target in self.targets
        }
        rounds = 0
        while left := {case for case in left if not self.is_reached(*case)}:
            if rounds == MANY_ROUNDS:
                kinds, target = min(left)
                raise AssertionError(([self.kinds[kind][1] for kind in kinds], target))
            rounds += 1
            self.play_plans({kinds for kinds, _ in left})
            left = {self.round_trip(*case) for case in left}
        return rounds

    def alike(self, kinds, target):
        """Return what is known and what is asked for: connectors that are alike have an order."""
        if len(self.floors) == 1:
            kinds, target = zip(*sorted(zip(kinds, target, strict=True)), strict=True)
        return tuple(kinds), tuple(target)

    def came_online(self, kind):
        sort, known, _ = self.kinds[kind]
        if not known.is_offline:
            return kind
        return self.kind(sort, self.fold(sort, self.after(kind, "online"))[0])

    def round_trip(self, kinds, target):
        outcomes = self.asked[kinds][self.targets.index(target)]
        after = [
            kind if outcome is None else self.outcomes[outcome][0]
            for kind, outcome in zip(kinds, outcomes, strict=True)
        ]
        return self.alike(map(self.answered, after), target)

    def answered(self, kind):
        """Return what is known when the newest command is confirmed, a tick later."""
        found = self.trips.get(kind)
        if found is None:
            sort, known, _ = self.kinds[kind]
            found = kind
            if known.sent and known.sent[-1][0] > known.confirmed[0]:
                known = self.after(found, "confirm", known.sent[-1][0])
                found = self.kind(sort, self.fold(sort, known)[0])
            found = self.trips[kind] = self.passed(found)
        return found

    def passed(self, kind):
        """Return what is known of a connector a tick later."""
        sort = self.kinds[kind][0]
        return self.kind(sort, self.fold(sort, self.after(kind, "tick"))[0])

    def is_reached(self, kinds, target):
        for kind, kw in zip(kinds, target, strict=True):
            sort, known, _ = self.kinds[kind]
            limit = kw * QUANTA_PER_KW
            if known.newest[1] != limit or known.committed != max(limit, self.floors[sort][1]):
                return False
            if known.sent and self.told_ordered:
                return False
        return True

    def most_ticks(self):
        """Return the ticks after which nothing but the fallback counts, though nobody answers."""
        left = set(range(len(self.kinds)))
        ticks = 0
        while left := {kind for kind in left if not self.is_let_go(kind)}:
            if ticks == MANY_ROUNDS:
                return INFINITY
            ticks += 1
            left = set(map(self.passed, left))
        return ticks

    def is_let_go(self, kind):
        sort, known, _ = self.kinds[kind]
        return known.committed == self.floors[sort][1]


class Written:
    """A journal that holds what a dispatcher would write down."""

    def __init__(self, records):
        self.records = records

    def read(self):
        return self.records

    def write(self, records, *, replace, sync):
        pass


def quanta(kw):
    return round(kw * QUANTA_PER_KW)


def plain(values):
    return [None if x == INFINITY else x for x in values]


EVENTS = ("timeout", "offline", "crash")
"""What may happen, beside all that always may."""

# Connectors, highest level, capacity, outstanding commands per connector, floors, as of the model
# that the protocol was checked with; and what else there is.
SMALL = [
    ((2, 2, 2, 2, (0, 0)), {}),
    ((2, 2, 2, 2, (0, 1)), {}),
    ((3, 2, 2, 2, (0, 0, 0)), {}),
    ((2, 2, 3, 3, (1, 1)), {}),
    ((3, 2, 4, 2, (1, 1, 1)), {}),
    ((2, 2, 2, 2, (0, 0)), {"extra": EVENTS}),
    ((2, 2, 2, 2, (0, 0)), {"life": 1}),
    ((2, 2, 2, 2, (0, 0)), {"life": 1, "extra": EVENTS}),
    ((2, 2, 2, 2, (0, 0)), {"life": 2}),
    ((2, 2, 2, 2, (0, 0)), {"life": 2, "skew": 1}),
    ((2, 2, 2, 2, (0, 0)), {"life": 1, "ordered": False, "extra": EVENTS}),
    ((2, 2, 2, 2, (0, 0)), {"life": 2, "skew": 1, "ordered": False}),
]
LARGE = [
    ((2, 3, 3, 3, (0, 0)), {}),
    ((2, 3, 4, 3, (1, 0)), {}),
    ((3, 2, 3, 3, (0, 0, 0)), {}),
    ((3, 3, 5, 2, (1, 1, 0)), {}),
    ((2, 2, 2, 2, (0, 0)), {"life": 2, "extra": EVENTS}),
    ((2, 2, 2, 2, (0, 0)), {"life": 2, "skew": 1, "extra": EVENTS}),
    ((2, 2, 2, 2, (0, 0)), {"life": 2, "skew": 1, "ordered": False, "extra": EVENTS}),
    ((2, 2, 3, 2, (1, 0)), {"life": 2, "skew": 1}),
    ((2, 2, 2, 3, (0, 0)), {"life": 2, "skew": 1}),
]


def told(options):
    """Return what there is in a world beside its connectors, in words."""
    life, extra = options.get("life"), options.get("extra", ())
    words = ["no leases" if life is None else f"leases of {life}"]
    words += [f"clocks off by {skew}"] if (skew := options.get("skew")) else []
    words += [] if options.get("ordered", True) else ["no order"]
    return ", ".join([*words, "events"] if extra else words)


def main():
    """Print the table of docs/dispatch-proof.md; a quarter of an hour."""
    print(
        "| Connectors, levels, kW, outstanding, floors | With | States | Transitions | Most drawn "
        "| Live | Silent |"
    )
    print("|---|---|---|---|---|---|---|")
    for world, options in SMALL + LARGE:
        search = Search(*world, **options)
        trace = search.run()
        if trace is not None:
            raise SystemExit(f"{world}, {options}: {trace}")
        n, levels, capacity, outstanding, floors = world
        silent = "holds" if search.life is None else f"{search.most_ticks()} ticks"
        print(
            f"| {n}, 0-{levels}, {capacity}, {outstanding}, {floors} | {told(options)} "
            f"| {search.n_states:,} | {search.n_transitions:,} "
            f"| {search.most_drawn / QUANTA_PER_KW:g} kW "
            f"| {len(search.targets)} targets in {search.most_rounds()} round trips "
            f"| {silent} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
