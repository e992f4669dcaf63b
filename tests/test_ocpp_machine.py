"""One charge point at its worst: what is told of it is never less than what it may allow."""

import math
import random
from datetime import UTC, datetime, timedelta

from hypothesis import settings
from ocpp.exceptions import InternalError, NotImplementedError
from ocpp.v16 import call_result

from wattfill import Command
from wattfill.ocpp import Clock, Evse, SmartCharging, Supply

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ONE = Supply("A", voltage=230, phases=1)
FALLBACK, RATING = 1.38, 7.36
SKEW = 3
N_STEPS = 100


class ChargePoint:
    """What it does with messages; it keeps their order."""

    def __init__(self, clock_error):
        self.clock_error = clock_error
        # Out of the factory it allows everything.
        self.default = RATING
        self.granted = None
        self.transaction_id = None
        # What others hold it down to, and may let go of at any time.
        self.cap = math.inf

    def limit(self, now):
        """Return what it allows by what it was told, in kW."""
        if self.granted is not None and now < self.granted[1]:
            return self.granted[0]
        return self.default

    def process(self, call, now):
        kind = type(call).__name__
        if kind == "ClearChargingProfile":
            had, self.granted = self.granted, None
            return call_result.ClearChargingProfile("Accepted" if had else "Unknown")
        if kind == "GetCompositeSchedule":
            limit = round(1000 * min(self.limit(now), self.cap), 1)
            schedule = {
                "charging_rate_unit": "W",
                "charging_schedule_period": [{"start_period": 0, "limit": limit}],
            }
            start = (NOON + timedelta(seconds=now)).isoformat()
            return call_result.GetCompositeSchedule("Accepted", 1, start, schedule)
        profile = call.cs_charging_profiles
        limit = ONE.power(profile.charging_schedule.charging_schedule_period[0].limit)
        if profile.charging_profile_purpose.value == "TxDefaultProfile":
            self.default = limit
        elif profile.transaction_id != self.transaction_id:
            return call_result.SetChargingProfile("Rejected")
        else:
            until = math.inf
            if profile.valid_to is not None:
                until = (datetime.fromisoformat(profile.valid_to) - NOON).total_seconds()
            self.granted = limit, until - self.clock_error
        return call_result.SetChargingProfile("Accepted")


class World:
    """A charge point, what becomes of each message, and what a dispatcher would count."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.now = 0.0
        self.point = ChargePoint(self.random.choice([-2, 0, 2]))
        self.charging = SmartCharging(
            "CS-1",
            "1.6",
            {"1": Evse(ONE, fallback=FALLBACK, minimum=1.38)},
            clock=Clock(0.0, NOON),
            maximum=None,
        )
        self.seq = 0
        self.transaction_id = 0
        self.in_old_connection = []
        # Nothing is known of it until it has confirmed something.
        self.confirmed = None
        self.outstanding = {}
        self.told = []

    def step(self):
        weights = {
            self.command: 4,
            self.exchange: 8,
            self.reconnect: 4,
            self.wait: 2,
            self.disconnect: 1,
            self.begin: 1,
            self.end: 1,
            self.reboot: 0.3,
            self.hold_down: 1,
        }
        [act] = self.random.choices(list(weights), list(weights.values()))
        act()

    def command(self, limit=None):
        self.seq += 1
        if limit is None:
            limit = self.random.choice([0.0, 1.38, 3.0, 5.0, 7.36])
        lease = self.random.choice([None, 5.0, 60.0])
        expires = None if lease is None else self.now + lease
        why = self.random.choice(["increase", "decrease", "refresh"])
        self.charging.command(Command("CS-1", "1", self.seq, limit, expires, why))
        self.outstanding[self.seq] = limit, math.inf if lease is None else expires + SKEW

    def exchange(self, fate=None):
        call = self.charging.next_call(self.now)
        if call is None:
            return
        if fate is None:
            fates = ["lost", "stuck", "unanswered", "fails", "fails late", "refused", "unknown"]
            fate = self.random.choice([*fates, *["answered"] * 7])
        answer = TimeoutError()
        if fate in ("answered", "unanswered", "fails late"):
            found = self.point.process(call, self.now)
            answer = found if fate == "answered" else answer
        if fate == "stuck":
            self.in_old_connection.append(call)
        if fate.startswith("fails"):
            answer = InternalError()
        if fate == "refused":
            answer = call_result.SetChargingProfile("Rejected")
        if fate == "unknown":
            answer = NotImplementedError()
        for outcome in self.charging.answer(call, answer, self.now):
            self.take(outcome)

    def take(self, outcome):
        self.told.append((outcome.kind, outcome.seq))
        if outcome.kind == "reject":
            self.outstanding.pop(outcome.seq, None)
            return
        told = outcome.limit, math.inf
        if outcome.kind == "confirm":
            if outcome.seq not in self.outstanding:
                return  # It was confirmed before.
            told = self.outstanding[outcome.seq]
        self.confirmed = told
        self.outstanding = {s: v for s, v in self.outstanding.items() if s > outcome.seq}

    def reconnect(self):
        if not self.charging.is_connected:
            # What is left in the old connection is processed before that, or never.
            for call in self.in_old_connection if self.random.random() < 0.5 else ():
                self.point.process(call, self.now)
            self.in_old_connection.clear()
            self.charging.connected()

    def disconnect(self):
        """Lose the connection while a call is on its way."""
        call = self.charging.next_call(self.now)
        if call is not None and self.random.random() < 0.5:
            self.in_old_connection.append(call)
        self.charging.disconnected()

    def begin(self):
        self.transaction_id += 1
        self.point.transaction_id, self.point.granted = self.transaction_id, None
        self.charging.transaction_started("1", self.transaction_id)

    def end(self):
        self.point.transaction_id = self.point.granted = None
        if self.random.random() < 0.5:
            self.charging.transaction_ended("1")

    def reboot(self):
        if self.confirmed is not None:
            # Whatever it allows without profiles, its fallback has to cover it.
            self.point.default, self.point.granted = FALLBACK, None
            self.point.transaction_id = None
            self.charging.transaction_ended("1")
            self.charging.disconnected()
            self.in_old_connection.clear()
            self.charging.booted()

    def hold_down(self):
        self.point.cap = self.random.choice([0.0, 1.38, 2.99, 5.0, math.inf])

    def wait(self):
        self.now += self.random.choice([0.3, 4.0, 30.0])

    def committed(self):
        if self.confirmed is None:
            return RATING
        values = [self.confirmed, *self.outstanding.values()]
        return max([FALLBACK, *(limit for limit, until in values if self.now < until)])


def test_what_a_charge_point_may_allow_is_never_more_than_is_counted():
    for seed in range(10 * settings().max_examples):
        world = World(seed)
        for step in range(N_STEPS):
            world.step()

            allowed, counted = world.point.limit(world.now), world.committed()
            assert allowed <= counted, f"seed {seed}, step {step}"


def test_when_messages_get_through_again_the_next_command_is_confirmed():
    for seed in range(5 * settings().max_examples):
        world = World(seed)
        for _ in range(N_STEPS):
            world.step()

        world.disconnect()
        world.reconnect()
        world.begin()
        world.command(5.0)
        for _ in range(4):
            # The default, the question, the command, and once more after the default.
            world.exchange("answered")
        assert world.told[-1] == ("confirm", world.seq), f"seed {seed}"
        assert world.charging.next_call(world.now) is None
