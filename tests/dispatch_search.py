"""Every state that the real dispatcher, its stations and the network between them can get into.

One group, one connector per station. A state has what the dispatcher counts with, what each station
does, every command that can still be applied and every answer that can still say something. What
the dispatcher makes of an event depends on its own part of the state alone, so each pair of these
is played once, by a real `Dispatcher` and `Registry` that are put into that state.

Numbers of commands count by their order and times from now, so that there are finitely many
states. The clock moves by ticks; a vehicle follows a lower limit within one.
"""

import json
import math
from itertools import product
from typing import NamedTuple

from wattfill import Connector, Dispatcher, Registry
from wattfill._records import QUANTA_PER_KW

INFINITY = math.inf
MOST_ROUNDS = 2
"""Round trips in which any target is reached from any state."""


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


class Outlet(NamedTuple):
    """What there is beyond the dispatcher: a station and the network to and from it."""

    newest: int
    """The number of the command that it has."""
    limit: int
    expires: float
    has_fallen_back: bool
    peak: int
    """What it may still draw until the next tick."""
    on_the_way: tuple
    """Commands that it may still get: (seq, limit, expires)."""
    answers: frozenset
    """Numbers that it has confirmed."""


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
        clock=0,
        ordered=True,
        told_floors=None,
        from_receipt=False,
        extra=(),
    ):
        told_floors = floors if told_floors is None else told_floors
        self.from_receipt = from_receipt
        """Whether stations let a lease begin when they get it."""
        self.n, self.outstanding = n, outstanding
        self.floors = [f * QUANTA_PER_KW for f in floors]
        self.capacity = capacity * QUANTA_PER_KW
        self.life, self.clock, self.ordered = life, clock, ordered
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
            "lease": life, "skew": skew, "lag": lag, "retry": 1e6, "patience": 1e6,
            "smallest_change": 0.0, "smallest_share": 0.0, "between_increases": 0.0,
        }  # fmt: skip
        self.make = type("Dispatcher", (dispatcher,), made)
        self.d = self.make(self.registry, **self.options)
        self.played = {}
        self.numbered = {}
        self.n_states = self.n_transitions = self.n_left_out = 0
        self.most_drawn = self.most_rounds = 0

    # The dispatcher

    def put(self, known):
        """Put the dispatcher into a state, at time 0."""
        d, desk = self.d, self.d._desk
        plugs = [d._plugs[key] for key in self.keys]
        desk.now = 0.0
        total = 0
        for plug, k in zip(plugs, known, strict=True):
            plug.set_state(
                {
                    "fallback": plug.fallback,
                    "rating": plug.rating,
                    "ordered": plug.ordered,
                    "known": k.is_known,
                    "disobeys": False,
                    "confirmed": list(plain(k.confirmed)),
                    "sent": [list(plain(sent)) for sent in k.sent],
                    "settling": [[-1, limit, until] for limit, until in k.settling],
                    "in_force": k.in_force,
                    "committed": k.committed,
                    "newest": list(k.newest[:2]),
                    "tried_at": k.newest[2],
                }
            )
            plug.offline = k.is_offline
            plug.stale = plug.silent = plug.refuses = False
            plug.raised_at = -INFINITY
            plug.unanswered_since = plug.wanted_since = plug.wake_at = INFINITY
            desk.todo[plug] = None
            total += k.committed
        site = plugs[0].site
        site.blocked.clear()
        (s,) = site.sums
        s.committed = total
        desk.stirred[site] = None
        desk.watch(s)
        # The heap of what is due is made anew with this.
        desk.turn_back(plugs, 0.0)
        for plug in plugs:
            desk.keep(plug)

    def get(self, now):
        return tuple(
            self._known(self.d._plugs[key].state(), self.d._plugs[key], now) for key in self.keys
        )

    def _known(self, state, plug, now):
        def later(until):
            return INFINITY if until is None else until - now

        seq, limit, until = state["confirmed"]
        confirmed = (seq, limit, later(until)) if later(until) > 0 else (seq, -1, 0.0)
        tried_at = None
        if self.life is not None and state["tried_at"] is not None:
            tried_at = max(state["tried_at"] - now, -float(self.life))
        elif state["newest"][0] >= 0:
            tried_at = 0.0
        return Known(
            state["known"],
            confirmed,
            tuple((s, most, later(u)) for s, most, u in state["sent"] if later(u) > 0),
            tuple(sorted({(most, later(u)) for _, most, u in state["settling"]})),
            (*state["newest"], tried_at),
            state["in_force"],
            state["committed"],
            bool(plug.offline),
        )

    def play(self, known, event, *args):
        """Return what the dispatcher sends, and the state that it is in afterwards."""
        found = self.played.get((known, event, args))
        if found is None:
            self.put(known)
            now, commands = getattr(self, "_" + event)(*args)
            sent = tuple(
                (self.keys.index((c.station, c.connector)), c.seq, quanta(c.limit), c.expires)
                for c in commands
            )
            found = self.played[known, event, args] = (sent, self.get(now))
        return found

    def _plan(self, target):
        for key, kw in zip(self.keys, target, strict=True):
            running = key in self.registry._sessions
            if kw and running:
                self.registry.update_session(*key, maximum=kw)
            elif kw:
                self.registry.start_session(*key, maximum=kw)
            elif running:
                self.registry.stop_session(*key)
        return 0.0, self.d.plan(0.0).commands

    def _confirm(self, i, seq):
        self.d.confirm(*self.keys[i], seq, 0.0)
        return 0.0, ()

    def _timeout(self, i, seq):
        timed_out = getattr(self.d, "timed_out", None)
        if timed_out is not None:
            timed_out(*self.keys[i], seq, 0.0)
        return 0.0, ()

    def _offline(self, i):
        self.d.offline(self.keys[i][0], 0.0)
        return 0.0, ()

    def _tick(self):
        self.d.committed(1.0)
        return 1.0, ()

    def _crash(self):
        """Recover a dispatcher from all that this one would write down, and go on as it."""
        self.d._desk.now = 0.0
        records = self.d._snapshot()

        class Written:
            def read(self):
                return records

            def write(self, records, *, replace, sync):
                pass

        again = self.make(Registry.from_dict(self.registry.to_dict()), Written(), **self.options)
        again.committed(0.0)
        states = [again._plugs[key].state() for key in self.keys]
        for key, state in zip(self.keys, states, strict=True):
            self.d._plugs[key].set_state(json.loads(json.dumps(state)))
        return 0.0, ()

    # The world

    def first(self):
        """Return the state in which all is known to be 0."""
        known = self.get(0.0)
        sent, known = self.play(known, "plan", (0,) * self.n)
        for i, seq, _, _ in sent:
            _, known = self.play(known, "confirm", i, seq)
        for _ in range(1 + (self.life or 0) + self.clock + 1):
            _, known = self.play(known, "tick")
        outlets = tuple(
            Outlet(k.newest[0], 0, 0.0 if self.life else INFINITY, False, 0, (), frozenset())
            for k in known
        )
        return self.canonical(known, outlets)

    def in_force(self, i, outlet):
        if outlet.has_fallen_back or outlet.expires <= 0:
            return self.floors[i]
        return outlet.limit

    def drawn(self, i, outlet):
        return max(self.in_force(i, outlet), outlet.peak if self.options["lag"] else 0)

    def moves(self, state):
        """Yield everything that may happen next: the words for it, and what comes of it."""
        known, outlets = state
        for target in self.targets:
            sent, after = self.play(known, "plan", target)
            if any(len(k.sent) > self.outstanding for k in after):
                self.n_left_out += 1
                continue
            if after != known or sent:
                there = list(outlets)
                for i, seq, limit, expires in sent:
                    # By its own clock, which may be slow.
                    is_absolute = expires is not None and not self.from_receipt
                    expires = expires + self.clock if is_absolute else INFINITY
                    there[i] = there[i]._replace(
                        on_the_way=(*there[i].on_the_way, (seq, limit, expires))
                    )
                yield (
                    ("plan", target, tuple((i, q // QUANTA_PER_KW) for i, _, q, _ in sent)),
                    (
                        after,
                        tuple(there),
                    ),
                )
        for i, outlet in enumerate(outlets):
            for command in outlet.on_the_way:
                yield (
                    ("apply", i, command[1] // QUANTA_PER_KW),
                    (
                        known,
                        replaced(outlets, i, self.applied(i, outlet, command)),
                    ),
                )
            for seq in outlet.answers:
                _, after = self.play(known, "confirm", i, seq)
                yield ("confirm", i), (after, outlets)
            changed = outlet._replace(has_fallen_back=not outlet.has_fallen_back)
            word = "fall back" if changed.has_fallen_back else "resume"
            yield (
                (word, i),
                (
                    known,
                    replaced(outlets, i, changed._replace(peak=self.drawn(i, outlet))),
                ),
            )
            if "timeout" in self.extra:
                for seq, _, _ in known[i].sent:
                    _, after = self.play(known, "timeout", i, seq)
                    yield ("time-out", i), (after, outlets)
            if "offline" in self.extra and not known[i].is_offline:
                _, after = self.play(known, "offline", i)
                yield ("offline", i), (after, outlets)
        if "crash" in self.extra:
            _, after = self.play(known, "crash")
            yield ("crash",), (after, outlets)
        _, after = self.play(known, "tick")
        yield ("tick",), (after, tuple(self.ticked(i, o) for i, o in enumerate(outlets)))

    def applied(self, i, outlet, command):
        seq, limit, expires = command
        if self.from_receipt:
            expires = float(self.life)
        return outlet._replace(
            newest=seq,
            limit=limit,
            expires=expires,
            has_fallen_back=False,
            peak=self.drawn(i, outlet),
            answers=outlet.answers | {seq},
        )

    def ticked(self, i, outlet):
        """Let a tick pass: what was given up before is over, what a lease gives up now is not."""
        after = outlet._replace(
            expires=max(outlet.expires - 1, 0.0),
            on_the_way=tuple(
                (seq, limit, expires - 1)
                for seq, limit, expires in outlet.on_the_way
                if expires > 1
            ),
        )
        return after._replace(peak=self.in_force(i, outlet))

    def canonical(self, known, outlets):
        """Return the state with commands numbered by their order, without what has no effect."""
        pairs = map(self._canonical, range(self.n), known, outlets)
        known, outlets = zip(*pairs, strict=True)
        return known, outlets

    def _canonical(self, i, k, o):
        found = self.numbered.get((i, k, o))
        if found is not None:
            return found
        way = o.on_the_way
        if self.ordered:
            way = tuple(c for c in way if c[0] > o.newest)
        answers = [seq for seq in o.answers if seq > k.confirmed[0]]
        seqs = {o.newest, k.confirmed[0], k.newest[0], *answers}
        seqs |= {c[0] for c in way} | {s[0] for s in k.sent}
        number = {seq: at for at, seq in enumerate(sorted(seqs - {-1}))}
        number[-1] = -1
        found = (
            k._replace(
                confirmed=(number[k.confirmed[0]], *k.confirmed[1:]),
                sent=tuple((number[s[0]], *s[1:]) for s in k.sent),
                newest=(number[k.newest[0]], *k.newest[1:]),
            ),
            Outlet(
                number[o.newest],
                o.limit if o.expires > 0 else 0,
                o.expires,
                o.has_fallen_back and o.expires > 0,
                o.peak if self.options["lag"] and o.peak > self.in_force(i, o) else 0,
                tuple(sorted((number[c[0]], *c[1:]) for c in way)),
                frozenset(number[seq] for seq in answers),
            ),
        )
        self.numbered[i, k, o] = found
        return found

    # What is asked

    def draws_too_much(self, state):
        """Say whether the group draws more than it may: I3."""
        drawn = sum(self.drawn(i, outlet) for i, outlet in enumerate(state[1]))
        self.most_drawn = max(self.most_drawn, drawn)
        return drawn > self.capacity

    def counts_too_little(self, state):
        """Say whether a connector, or the group, is counted wrongly: I1 or I2."""
        known, outlets = state
        return sum(k.committed for k in known) > self.capacity or any(
            self.drawn(i, outlet) > k.committed
            for i, (k, outlet) in enumerate(zip(known, outlets, strict=True))
        )

    def run(self, *, counts=True, depth=INFINITY):
        """Visit all states within so many steps.

        Return the steps to the first in which too much is drawn (or, with `counts`, counted
        wrongly), None if there is none.
        """
        first = self.first()
        came = {first: None}
        wave = [first]
        while wave and depth > 0:
            following = []
            for state in wave:
                for words, (known, outlets) in self.moves(state):
                    after = self.canonical(known, outlets)
                    self.n_transitions += 1
                    if after in came:
                        continue
                    came[after] = (state, words)
                    if self.draws_too_much(after) or (counts and self.counts_too_little(after)):
                        return trace_to(after, came)
                    following.append(after)
            wave = following
            depth -= 1
        self.n_states = len(came)
        self.knowledge = {known for known, _ in came}
        return None

    def check_live(self):
        """Reach every target from all that the dispatcher may know, with messages that get through.

        Each round is a plan, the newest command of each connector, its answer, and a tick.
        """
        for known in self.knowledge:
            for target in self.targets:
                after = known
                rounds = 0
                while not self.is_reached(after, target):
                    rounds += 1
                    if rounds > MOST_ROUNDS:
                        raise AssertionError((known, target))
                    _, after = self.play(after, "plan", target)
                    for i, k in enumerate(after):
                        if k.newest[0] > k.confirmed[0]:
                            _, after = self.play(after, "confirm", i, k.newest[0])
                    _, after = self.play(after, "tick")
                    after = self.canonical(after, self.reached(after))[0]
                self.most_rounds = max(self.most_rounds, rounds)

    def reached(self, known):
        """Return stations that have done what was told last."""
        return tuple(
            Outlet(k.newest[0], k.newest[1], INFINITY, False, 0, (), frozenset()) for k in known
        )

    def is_reached(self, known, target):
        return all(
            not k.sent
            and k.newest[1] == kw * QUANTA_PER_KW
            and k.committed == max(kw * QUANTA_PER_KW, floor)
            for k, kw, floor in zip(known, target, self.floors, strict=True)
        )


def quanta(kw):
    return round(kw * QUANTA_PER_KW)


def plain(values):
    return (None if x == INFINITY else x for x in values)


def replaced(items, i, item):
    return (*items[:i], item, *items[i + 1 :])


def trace_to(state, came):
    words = []
    while came[state] is not None:
        state, word = came[state]
        words.append(word)
    return words[::-1]


# Connectors, highest level, capacity, outstanding commands per connector, floors: those of the
# model that the protocol was checked with.
SMALL = [(2, 2, 2, 2, (0, 0)), (2, 2, 2, 2, (0, 1)), (3, 2, 2, 2, (0, 0, 0))]
LARGE = [(2, 2, 3, 3, (1, 1)), (2, 3, 3, 3, (0, 0))]


def main():
    """Print the table of docs/dispatch-proof.md; minutes."""
    print(
        "| Connectors, levels, kW, outstanding, floors | States | Transitions | Most drawn | Live |"
    )
    print("|---|---|---|---|---|")
    for case in SMALL + LARGE:
        search = Search(*case)
        trace = search.run()
        if trace is not None:
            raise SystemExit(f"{case}: {trace}")
        search.check_live()
        n, levels, capacity, outstanding, floors = case
        print(
            f"| {n}, 0-{levels}, {capacity}, {outstanding}, {floors} | {search.n_states:,} "
            f"| {search.n_transitions:,} | {search.most_drawn / QUANTA_PER_KW:g} kW "
            f"| {len(search.targets)} targets in {search.most_rounds} round trips |",
            flush=True,
        )


if __name__ == "__main__":
    main()
