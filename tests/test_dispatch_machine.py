"""The dispatcher keeps its promises, whatever becomes of messages, stations, controller and disk.

Each step is one thing that happens in the `World` of adversary.py, which checks after each that

- I1: no connector draws more than is committed there;
- I2: what is committed below a group fits, or does not rise while it does not;
- I3: what is drawn below a group fits, if what is committed does;
- I4: a recovered dispatcher counts as the one before it, to the last quantum.

When the steps are over, the log of all that happened is judged by `check_history`, which shares
nothing with the dispatcher, and then all messages get through until all targets are reached.
"""

import os
import shutil
import tempfile

import pytest
from adversary import EAGER, Disk, Memory, World
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from wattfill import Connector, Dispatcher, Registry

# A choice of a few, and of anything: small numbers are what shrinking leads to.
NUMBERS = st.integers(0, 7) | st.integers(0, 2**30)
NEWEST = st.integers(0, 3) | st.integers(0, 2**10)
MOST_ROUNDS = 12
"""Round trips in which all is reached from any state, as docs/dispatch-proof.md has it."""


class DispatchMachine(RuleBasedStateMachine):
    """All that may happen, in any order."""

    journals = ("memory", "file", "none")
    options = (EAGER, {})

    def __init__(self):
        super().__init__()
        self.folder = None
        self.world = None

    @initialize(
        data=st.data(),
        skew=st.sampled_from([0, 2]),
        lag=st.sampled_from([0, 5]),
        stations=st.tuples(NUMBERS, NUMBERS),
    )
    def begin(self, data, skew, lag, stations):
        journal = None
        kind = data.draw(st.sampled_from(self.journals))
        if kind == "file":
            self.folder = tempfile.mkdtemp()
            journal = Disk(self.folder)
        elif kind == "memory":
            journal = Memory()
        options = data.draw(st.sampled_from(self.options))
        self.world = World(journal=journal, skew=skew, lag=lag, options=options)
        for n in stations:
            self.step(self.world.add_station, n)

    def step(self, what, n):
        what(n)
        self.world.check()

    def teardown(self):
        if self.world is not None:
            self.world.judge()
            assert self.world.calm() <= MOST_ROUNDS
            self.world.judge()
        if self.folder is not None:
            self.world.journal.journal.close()
            shutil.rmtree(self.folder)

    # What a controller and a network do all the time stands here more than once.

    @rule(n=st.just(0))
    def plan(self, n):
        self.step(self.world.plan, n)

    @rule(n=st.just(0))
    def plan_again(self, n):
        self.step(self.world.plan, n)

    @rule(n=NUMBERS)
    def plan_after_a_wait(self, n):
        self.world.wait(n)
        self.step(self.world.plan, n)

    @rule(n=NUMBERS)
    def round_trip(self, n):
        self.world.plan()
        self.step(self.world.round_trip, n)

    @rule(n=NEWEST)
    def deliver(self, n):
        self.step(self.world.deliver, n)

    @rule(n=NEWEST)
    def deliver_another(self, n):
        self.step(self.world.deliver, n)

    @rule(n=NEWEST)
    def answer(self, n):
        self.step(self.world.answer, n)

    @rule(n=NEWEST)
    def answer_another(self, n):
        self.step(self.world.answer, n)

    @rule(n=NUMBERS)
    def wait(self, n):
        self.step(self.world.wait, n)

    # Stations and vehicles

    @rule(n=NUMBERS)
    def fall_back_or_resume(self, n):
        self.step(self.world.fall_back, n)

    @rule(n=NUMBERS)
    def refuse(self, n):
        self.step(self.world.refuse, n)

    @rule(n=NUMBERS)
    def go_offline_or_online(self, n):
        self.step(self.world.go, n)

    @rule(n=NUMBERS)
    def read_back(self, n):
        self.step(self.world.read_back, n)

    @rule(n=NUMBERS)
    def meter(self, n):
        self.step(self.world.meter, n)

    @rule(n=NUMBERS)
    def meter_what_cannot_be(self, n):
        self.step(self.world.lie, n)

    @rule(n=NUMBERS)
    def take_less_or_more(self, n):
        self.step(self.world.appetite, n)

    # Sessions and sites

    @rule(n=NUMBERS)
    def start_session(self, n):
        self.step(self.world.start, n)

    @rule(n=NUMBERS)
    def start_another_session(self, n):
        self.step(self.world.start, n)

    @rule(n=NUMBERS)
    def stop_session(self, n):
        self.step(self.world.stop, n)

    @rule(n=NUMBERS)
    def resize_group(self, n):
        self.step(self.world.resize, n)

    @rule(n=NUMBERS)
    def move_group(self, n):
        self.step(self.world.regroup, n)

    @rule(n=NUMBERS)
    def add_station(self, n):
        self.step(self.world.add_station, n)

    @rule(n=NUMBERS)
    def change_station(self, n):
        self.step(self.world.change_station, n)

    @rule(n=NUMBERS)
    def move_station(self, n):
        self.step(self.world.move_station, n)

    @rule(n=NUMBERS)
    def remove_station(self, n):
        self.step(self.world.remove_station, n)

    # The controller

    @rule(n=NUMBERS)
    def crash_and_recover(self, n):
        self.step(self.world.crash, n)

    @rule(n=NUMBERS)
    def journal_fails_or_works(self, n):
        self.step(self.world.journal_fails, n)


# What the machine found once, in the fewest steps


def one_connector(journal=None, fallback=0):
    registry = Registry()
    registry.create_group("g", 22, id="g")
    registry.add_charge_station("g", "A", [Connector("1", 22, fallback=fallback)])
    return registry, Dispatcher(registry, journal, lag=0.0)


def restarted(registry, journal):
    registry = Registry.from_dict(registry.to_dict())
    return registry, Dispatcher(registry, journal, lag=0.0)


def test_numbers_go_on_when_a_connector_comes_back():
    # The 10 kW of its first life may arrive in its second.
    registry, d = one_connector()
    registry.start_session("A", "1", maximum=10)
    (first,) = d.plan(0).commands
    registry.remove_charge_station("A")
    d.plan(1)
    registry.add_charge_station("g", "A", [Connector("1", 22, fallback=0)])

    (second,) = d.plan(2).commands

    assert second.seq > first.seq


def test_numbers_are_never_sent_again_by_one_that_could_not_write_that_it_began():
    journal = Memory()
    registry, d = one_connector(journal)
    registry.start_session("A", "1", maximum=10)
    (c,) = d.plan(0).commands
    d.confirm("A", "1", c.seq, 1)
    journal.fault = "before"
    registry, d = restarted(registry, journal)
    registry.update_session("A", "1", maximum=5)
    silent = d.plan(2).commands
    journal.fault = None
    registry, d = restarted(registry, journal)

    later = d.plan(3).commands

    assert not {c.seq for c in silent} & {c.seq for c in later}


def test_what_left_without_the_journal_is_covered_whatever_is_confirmed_later():
    # 10 kW are in force; a pause was sent, and then 10 kW again while the journal failed. After a
    # crash, the late confirmation of the pause must not be taken for what counts.
    journal = Memory()
    registry, d = one_connector(journal)
    registry.start_session("A", "1", maximum=10)
    (c,) = d.plan(0).commands
    d.confirm("A", "1", c.seq, 0)
    registry.stop_session("A", "1")
    (pause,) = d.plan(1).commands
    journal.fault = "before"
    registry.start_session("A", "1", maximum=10)
    unwritten = d.plan(60).commands
    journal.fault = None
    registry, d = restarted(registry, journal)
    d.confirm("A", "1", pause.seq, 61)

    committed = d.committed().connectors["A", "1"]

    assert committed >= max((c.limit for c in unwritten), default=0.0)


def told_up_to_its_fallback(journal):
    """Return a connector that was told 0 kW, has a fallback of 5 since, and the registry."""
    registry, d = one_connector(journal)
    (c,) = d.plan(0).commands
    d.confirm("A", "1", c.seq, 0)
    registry.update_charge_station("A", [Connector("1", 22, fallback=5)])
    registry.start_session("A", "1", maximum=5)
    journal.crash(0)  # And nothing is lost.
    return restarted(registry, journal)


def test_what_the_fallback_covers_is_counted_when_it_is_lowered_and_the_machine_crashes(tmp_path):
    journal = Disk(tmp_path)
    registry, d = told_up_to_its_fallback(journal)
    (c,) = d.plan(1).commands
    registry.update_charge_station("A", [Connector("1", 22, fallback=0)])
    d.committed()
    journal.crash(os.path.getsize(journal.path) - journal.synced)
    registry, d = restarted(registry, journal)

    committed = d.committed().connectors["A", "1"]
    journal.journal.close()

    assert committed >= c.limit == 5


def test_what_only_the_fallback_covers_does_not_leave_without_the_journal():
    journal = Memory()
    _, d = told_up_to_its_fallback(journal)
    journal.fault = "before"

    plan = d.plan(1)

    assert plan.journal_error is not None
    assert plan.commands == ()


def test_a_connector_that_came_back_is_not_known_by_what_it_falls_back_to():
    # It has 10 kW from its first life, has fallen back for now, and goes on with them later.
    registry, d = one_connector()
    registry.start_session("A", "1", maximum=10)
    (c,) = d.plan(0).commands
    d.confirm("A", "1", c.seq, 0)
    registry.remove_charge_station("A")
    d.plan(1)
    registry.add_charge_station("g", "A", [Connector("1", 22, fallback=0)])
    d.plan(2)

    d.read_back("A", "1", 0, 3, seq=c.seq)

    assert d.committed().connectors["A", "1"] >= 10


@pytest.mark.parametrize("crashes", [False, True])
def test_who_goes_by_another_is_told_again_though_the_controller_crashes_before(crashes):
    # It has fallen back to 5 kW. When its fallback is lowered, nothing else asks for a command.
    journal = Memory()
    registry, d = one_connector(journal, fallback=5)
    (c,) = d.plan(0).commands
    d.confirm("A", "1", c.seq, 0)
    d.read_back("A", "1", 5, 1, seq=c.seq)
    registry.update_charge_station("A", [Connector("1", 22, fallback=0)])
    if crashes:
        registry, d = restarted(registry, journal)

    (again,) = d.plan(2).commands
    d.confirm("A", "1", again.seq, 2)

    assert (again.limit, again.why) == (0, "refresh")
    assert d.committed().connectors["A", "1"] == 0
    assert d.plan(3).commands == ()


def test_what_left_the_registry_does_not_come_back_with_the_journal():
    journal = Memory()
    registry, d = one_connector(journal)
    d.plan(0)
    registry.remove_charge_station("A")
    live = d.committed()

    _, d = restarted(registry, journal)

    assert d.committed() == live


def test_what_was_counted_is_counted_after_a_crash_though_nothing_was_sent():
    journal = Memory()
    registry = Registry()
    registry.create_group("g", 22, id="g")
    registry.add_charge_station("g", "A", [Connector("1", 22, fallback=0)])
    d = Dispatcher(registry, journal, lag=5.0)
    registry.update_charge_station("A", [Connector("1", 11, fallback=0)])
    live = d.committed(0)

    registry = Registry.from_dict(registry.to_dict())
    d = Dispatcher(registry, journal, lag=5.0)

    assert d.committed(0) == live


TestDispatch = DispatchMachine.TestCase
TestDispatch.settings = settings(
    max_examples=2 * settings().max_examples,
    stateful_step_count=2 * settings().stateful_step_count,
)
