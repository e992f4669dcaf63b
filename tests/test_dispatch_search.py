"""In small worlds, no state of the real dispatcher is unsafe, and none is a dead end."""

import math
import random
from dataclasses import dataclass, field

import pytest
from dispatch_search import EVENTS, PARTS, SMALL, Outlet, Search, Written, quanta

from wattfill import Registry


@pytest.fixture(scope="module", params=SMALL, ids=str)
def search(request):
    """All states of a small world, and the steps to the first that is unsafe."""
    world, options = request.param
    search = Search(*world, **options)
    return search, search.run()


def test_no_state_is_unsafe(search):
    _, trace = search

    assert trace is None


def test_all_that_there_is_can_be_drawn(search):
    searched, _ = search

    assert searched.n_states > 500
    assert searched.most_drawn == searched.capacity


def test_every_target_is_reached_from_every_state_in_a_few_round_trips(search):
    searched, _ = search
    # One for the decreases, one for the increases. Without order only the end of a lease proves a
    # command dead.
    waits = 0 if searched.ordered else searched.life + searched.skew

    assert searched.most_rounds() == 2 + waits


def test_what_a_silent_station_had_comes_back_when_its_lease_is_over_and_not_without(search):
    searched, _ = search
    life = math.inf if searched.life is None else searched.life

    assert searched.most_ticks() == life + searched.skew + searched.lag


# What the search leaves out


@dataclass
class Station:
    """A station that lives on, all that was ever sent to it and all that it ever answered."""

    sort: int
    newest: int = -1
    limit: int = 0
    expires: float = 0.0
    has_fallen_back: bool = False
    peak: int = 0
    sent: list = field(default_factory=list)
    answers: set = field(default_factory=set)

    def outlet(self, now, ordered):
        return Outlet(
            self.limit,
            max(self.expires - now, 0.0),
            self.has_fallen_back,
            self.peak,
            tuple(
                (seq, limit, expires - now)
                for seq, limit, expires in self.sent
                if expires > now and (seq > self.newest or not ordered)
            ),
            frozenset(self.answers),
        )


class Alive:
    """A dispatcher that lives on: it is put nowhere, and nothing of it is left out."""

    def __init__(self, world, rng):
        self.world, self.rng = world, rng
        world.first()
        self.d, self.registry = world.d, world.registry
        self.now = self.d._desk.now
        expires = 0.0 if world.life else math.inf
        self.stations = [Station(sort, expires=expires) for sort in world.sort]

    def state(self, search):
        """Return the state that the search has for this."""
        return search.state(
            search.part(
                station.sort,
                search.known(self.d._plugs[key], self.now),
                station.outlet(self.now, search.ordered),
            )
            for key, station in zip(search.keys, self.stations, strict=True)
        )

    def counts(self):
        """Return what is drawn and what is committed at each connector."""
        committed = self.d.committed(self.now).connectors
        return sorted(
            (self.drawn(station), quanta(committed[key]))
            for key, station in zip(self.world.keys, self.stations, strict=True)
        )

    def drawn(self, station):
        return self.world.drawn(station.sort, station.outlet(self.now, self.world.ordered))

    def step(self):
        i = self.rng.randrange(len(self.stations))
        steps = ["plan", "plan", "deliver", "deliver", "answer", "answer", "fall_back", "tick"]
        steps += self.world.extra
        getattr(self, self.rng.choice(steps))(self.stations[i], *self.world.keys[i])

    def plan(self, *_):
        self.world.ask_for(self.rng.choice(self.world.targets))
        for c in self.d.plan(self.now).commands:
            station = self.stations[self.world.keys.index((c.station, c.connector))]
            expires = math.inf if c.expires is None else c.expires + self.world.skew
            station.sent.append((c.seq, quanta(c.limit), expires))

    def deliver(self, station, *_):
        if not station.sent:
            return
        seq, limit, expires = self.rng.choice(station.sent[-4:])
        if expires > self.now and (seq >= station.newest or not self.world.ordered):
            station.peak = self.drawn(station)
            station.newest, station.limit, station.expires = seq, limit, expires
            station.has_fallen_back = False
            station.answers.add(seq)

    def answer(self, station, *key):
        if station.answers:
            self.d.confirm(*key, self.rng.choice(sorted(station.answers)[-4:]), self.now)

    def fall_back(self, station, *_):
        station.peak = self.drawn(station)
        station.has_fallen_back = not station.has_fallen_back

    def tick(self, *_):
        for station in self.stations:
            outlet = station.outlet(self.now, self.world.ordered)
            station.peak = self.world.in_force(station.sort, outlet)
        self.now += 1
        self.d.committed(self.now)

    def timeout(self, *_):
        """Nothing is told of it."""

    def offline(self, _, name, connector):
        if self.d._plugs[name, connector].offline:
            self.d.online(name, self.now)
        else:
            self.d.offline(name, self.now)

    def crash(self, *_):
        registry = Registry.from_dict(self.registry.to_dict())
        self.d = self.world.make(registry, Written(self.d._snapshot()), **self.world.options)
        self.world.registry = self.registry = registry
        self.d.committed(self.now)


@pytest.mark.parametrize(
    ("floors", "options"),
    [
        ((0, 0), {}),
        ((0, 1), {}),
        ((0, 0), {"life": 1}),
        ((0, 1), {"life": 1, "skew": 1}),
        ((0, 0), {"life": 2, "skew": 1}),
        ((1, 1), {"life": 2}),
        ((0, 1), {"life": 2, "skew": 1, "ordered": False}),
    ],
)
def test_what_the_search_leaves_out_has_no_effect(floors, options):
    world = (2, 2, 2 + sum(floors) // 2, math.inf, floors)
    search = Search(*world, **options, extra=EVENTS)
    for seed in range(12):
        alive = Alive(Search(*world, **options, extra=EVENTS), random.Random(seed))
        state = alive.state(search)
        for _ in range(50):
            alive.step()
            search.play_plans([tuple(part // PARTS for part in state)])
            expected = {after for _, _, after in search.moves(state)} | {state}
            state = alive.state(search)

            assert state in expected
            assert search.counts(state) == alive.counts()
