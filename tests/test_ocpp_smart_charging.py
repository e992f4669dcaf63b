"""What `SmartCharging` sends when, and what it takes for proved."""

import asyncio
from datetime import UTC, datetime

import pytest
from ocpp import v16, v21, v201
from ocpp.exceptions import InternalError, NotImplementedError

import wattfill
from wattfill import InputError, InputTypeError, UnknownIdError
from wattfill.ocpp import VERSIONS, Clock, Evse, Outcome, SmartCharging, Supply

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
THREE = Supply("A", voltage=230, phases=3)
ACCEPTED = v16.call_result.SetChargingProfile("Accepted")
REJECTED = v16.call_result.SetChargingProfile("Rejected")
CLEARED = v16.call_result.ClearChargingProfile("Accepted")
UNKNOWN = v16.call_result.ClearChargingProfile("Unknown")


def Command(seq, limit, why="increase", expires=300.0, connector="1", station="CS-1"):  # noqa: N802
    return wattfill.Command(station, connector, seq, limit, expires, why)


def in_force(amperes):
    return v16.call_result.GetCompositeSchedule(
        "Accepted",
        1,
        "2026-01-01T12:00:00Z",
        {
            "charging_rate_unit": "A",
            "charging_schedule_period": [{"start_period": 0, "limit": amperes}],
        },
    )


def made(version="1.6", evses=None, **changes):
    changes = {"clock": Clock(0.0, NOON), "maximum": 44.0} | changes
    evses = evses or {"1": Evse(THREE, fallback=0.0, minimum=4.14)}
    return SmartCharging("CS-1", version, evses, **changes)


def installed(**changes):
    """Return one whose profiles are installed, in transaction 7, at 1 s."""
    charging = made(**changes)
    charging.connected()
    charging.transaction_started("1", 7)
    while (call := charging.next_call(0.5)) is not None:
        charging.answer(call, ACCEPTED, 1.0)
    return charging


def sent(charging, now=1.0):
    """Return what is sent next, in short, and the request."""
    call = charging.next_call(now)
    kind = type(call).__name__
    if kind == "SetChargingProfile":
        profile = call.cs_charging_profiles
        limit = profile.charging_schedule.charging_schedule_period[0].limit
        return (profile.charging_profile_purpose.value, limit), call
    return (kind, getattr(call, "id", None)), call


def confirm(seq):
    return Outcome("confirm", "CS-1", "1", seq)


def reject(seq):
    return Outcome("reject", "CS-1", "1", seq)


def read_back(limit, seq=None):
    return Outcome("read-back", "CS-1", "1", seq, limit)


# Before the first grant


def test_the_maximum_and_each_default_are_installed_before_an_increase_is_sent():
    evses = {"1": Evse(THREE, fallback=4.14), "2": Evse(THREE)}
    charging = made(evses=evses)
    charging.transaction_started("1", 7)
    charging.command(Command(1, 11.0))
    charging.connected()

    order = []
    for _ in range(4):
        what, call = sent(charging)
        order.append(what)
        charging.answer(call, ACCEPTED, 1.0)

    assert order == [
        ("ChargePointMaxProfile", 63.7),
        ("TxDefaultProfile", 6.0),
        ("TxDefaultProfile", 0.0),
        ("TxProfile", 15.9),
    ]


@pytest.mark.parametrize("refused", ["ChargePointMaxProfile", "TxDefaultProfile"])
def test_where_a_profile_is_refused_no_increase_is_sent(refused):
    charging = made()
    charging.transaction_started("1", 7)
    charging.command(Command(1, 11.0))
    charging.connected()
    for _ in range(2):
        what, call = sent(charging)
        charging.answer(call, REJECTED if what[0] == refused else ACCEPTED, 1.0)

    assert charging.next_call(2.0) is None
    assert not charging.ready("1")
    [refusal] = charging.refusals
    assert refusal.startswith("'CS-1' did not take the ")
    assert refusal.endswith(": Rejected")


def test_where_a_profile_is_refused_a_decrease_is_sent_but_proves_nothing():
    charging = made(maximum=None)
    charging.transaction_started("1", 7)
    charging.connected()
    charging.answer(charging.next_call(0.0), REJECTED, 1.0)
    charging.command(Command(1, 5.0, "decrease"))

    what, call = sent(charging)

    assert what == ("TxProfile", 7.2)
    assert charging.answer(call, ACCEPTED, 2.0) == ()


def test_what_was_sent_before_the_default_is_sent_again_after_it():
    charging = made(maximum=None)
    charging.transaction_started("1", 7)
    charging.connected()
    charging.answer(charging.next_call(0.0), REJECTED, 1.0)
    charging.command(Command(1, 5.0, "decrease"))
    charging.answer(charging.next_call(1.0), ACCEPTED, 2.0)
    charging.connected()
    charging.answer(charging.next_call(3.0), ACCEPTED, 4.0)

    what, call = sent(charging, 4.0)

    assert what == ("TxProfile", 7.2)
    assert charging.answer(call, ACCEPTED, 5.0) == (confirm(1),)


@pytest.mark.parametrize("answer", [CLEARED, UNKNOWN])
def test_a_command_within_the_fallback_needs_no_transaction(answer):
    charging = made(maximum=None, evses={"1": Evse(THREE, fallback=1.4)})
    charging.connected()
    charging.answer(charging.next_call(0.0), ACCEPTED, 1.0)
    charging.command(Command(1, 0.0, "decrease"))

    what, call = sent(charging)

    # Where nothing is granted, the default holds.
    assert what == ("ClearChargingProfile", 13)
    assert charging.answer(call, answer, 2.0) == (confirm(1),)


def test_after_a_boot_everything_is_installed_again():
    charging = installed()
    charging.command(Command(1, 11.0))
    charging.answer(charging.next_call(1.0), ACCEPTED, 2.0)
    charging.booted()

    order = []
    while (found := sent(charging, 3.0))[1] is not None:
        order.append(found[0])
        charging.answer(found[1], ACCEPTED, 3.0)

    assert order == [
        ("ChargePointMaxProfile", 63.7),
        ("TxDefaultProfile", 0.0),
        ("TxProfile", 15.9),
    ]


def test_a_profile_that_is_taken_in_the_end_was_not_refused():
    charging = made(maximum=None)
    charging.connected()
    charging.answer(charging.next_call(0.0), REJECTED, 1.0)
    charging.connected()
    charging.answer(charging.next_call(2.0), ACCEPTED, 3.0)

    assert charging.ready("1")
    assert charging.refusals == ()


def test_what_is_installed_is_not_installed_again_on_the_next_connection():
    charging = installed()
    charging.disconnected()
    charging.connected()

    assert charging.next_call(3.0) is None


# Grants


@pytest.mark.parametrize("version", VERSIONS)
def test_a_grant_is_for_its_transaction_and_ends_with_its_lease(version):
    charging = made(version, maximum=None, max_offline=30 if version == "2.1" else None)
    package = {"1.6": v16, "2.0.1": v201, "2.1": v21}[version]
    accepted = package.call_result.SetChargingProfile(status="Accepted")
    charging.connected()
    charging.answer(charging.next_call(0.0), accepted, 0.0)
    charging.transaction_started("1", 7 if version == "1.6" else "t-7")
    charging.command(Command(1, 11.0, expires=90.9))

    call = charging.next_call(1.0)

    profile = call.cs_charging_profiles if version == "1.6" else call.charging_profile
    schedule = profile.charging_schedule if version == "1.6" else profile.charging_schedule[0]
    assert profile.charging_profile_purpose.value == "TxProfile"
    assert profile.transaction_id == (7 if version == "1.6" else "t-7")
    assert profile.stack_level == 1
    assert profile.valid_to == "2026-01-01T12:01:30Z"
    # It has begun on a clock that is behind.
    assert schedule.start_schedule == "2026-01-01T11:59:01Z"
    assert getattr(profile, "max_offline_duration", None) == (30 if version == "2.1" else None)
    assert charging.answer(call, accepted, 1.5) == (confirm(1),)


def test_without_a_lease_a_grant_has_no_end():
    charging = installed()
    charging.command(Command(1, 11.0, expires=None))

    assert charging.next_call(1.0).cs_charging_profiles.valid_to is None


def test_a_pause_is_a_limit_of_zero():
    charging = installed()
    charging.command(Command(1, 0.0, "decrease"))

    assert sent(charging)[0] == ("TxProfile", 0.0)


def test_what_is_below_the_minimum_in_whole_tenths_is_a_pause():
    charging = installed(evses={"1": Evse(THREE, minimum=4.2)})
    charging.command(Command(1, 4.2))

    assert sent(charging)[0] == ("TxProfile", 0.0)


def test_a_grant_waits_for_a_transaction():
    charging = installed()
    charging.transaction_ended("1")
    charging.command(Command(1, 11.0))
    before = charging.next_call(1.0)
    charging.transaction_started("1", 8)

    after = charging.next_call(2.0)

    assert before is None
    assert after.cs_charging_profiles.transaction_id == 8


@pytest.mark.parametrize("answer", [CLEARED, UNKNOWN])
def test_after_a_transaction_what_was_granted_is_taken_out(answer):
    charging = installed()
    charging.command(Command(1, 11.0))
    charging.answer(charging.next_call(1.0), ACCEPTED, 2.0)
    charging.transaction_ended("1")
    charging.command(Command(2, 0.0, "decrease"))

    what, call = sent(charging, 3.0)

    assert what == ("ClearChargingProfile", 13)
    assert charging.answer(call, answer, 4.0) == (confirm(2),)


def test_a_lease_that_is_over_is_not_sent():
    charging = installed()
    charging.command(Command(1, 11.0, expires=20.9))

    # It would be written as valid to 20 s.
    assert charging.next_call(20.0) is None


def test_of_a_connector_only_the_newest_command_is_sent():
    charging = installed()
    charging.command(Command(1, 11.0))
    charging.command(Command(2, 5.0))

    what, call = sent(charging)
    charging.answer(call, ACCEPTED, 2.0)

    assert what == ("TxProfile", 7.2)
    assert charging.next_call(3.0) is None


def test_decreases_go_first():
    charging = installed(evses={"1": Evse(THREE), "2": Evse(THREE)})
    charging.transaction_started("2", 8)
    charging.command(Command(1, 11.0))
    charging.command(Command(1, 4.14, "decrease", connector="2"))

    assert [sent(charging)[0], charging.next_call(1.0)] == [("TxProfile", 6.0), None]


def test_one_call_is_outstanding_at_a_time():
    charging = installed()
    charging.command(Command(1, 11.0))
    call = charging.next_call(1.0)
    charging.command(Command(2, 5.0))

    waiting = charging.next_call(1.0)
    proved = charging.answer(call, ACCEPTED, 2.0)

    assert waiting is None
    assert proved == (confirm(1),)
    assert sent(charging)[0] == ("TxProfile", 7.2)


def test_an_answer_to_another_call_proves_nothing():
    charging = installed()
    charging.command(Command(1, 11.0))
    old = charging.next_call(1.0)
    charging.answer(old, TimeoutError(), 31.0)
    charging.connected()
    charging.answer(charging.next_call(32.0), in_force(0.0), 33.0)
    charging.next_call(33.0)

    assert charging.answer(old, ACCEPTED, 34.0) == ()


# Rejections and call errors


def test_each_rejection_is_told():
    charging = installed()
    charging.command(Command(1, 11.0))
    first = charging.answer(charging.next_call(1.0), REJECTED, 2.0)
    charging.command(Command(2, 5.0))
    second = charging.answer(charging.next_call(3.0), REJECTED, 4.0)

    assert (first, second) == ((reject(1),), (reject(2),))


def test_what_is_told_as_rejected_is_not_sent_again():
    charging = installed()
    charging.command(Command(1, 11.0))
    charging.answer(charging.next_call(1.0), REJECTED, 2.0)

    charging.transaction_started("1", 8)

    assert charging.next_call(3.0) is None


def test_a_charge_point_without_smart_charging_rejects():
    charging = installed()
    charging.command(Command(1, 11.0))

    assert charging.answer(charging.next_call(1.0), NotImplementedError(), 2.0) == (reject(1),)


def test_the_rejection_of_what_was_sent_twice_proves_nothing():
    charging = installed()
    charging.command(Command(1, 11.0))
    charging.answer(charging.next_call(1.0), TimeoutError(), 31.0)
    charging.connected()
    charging.answer(charging.next_call(32.0), in_force(0.0), 33.0)

    # The first of the two may be in force.
    assert charging.answer(charging.next_call(33.0), REJECTED, 34.0) == ()


def test_the_rejection_of_a_command_that_was_confirmed_before_proves_nothing():
    charging = installed()
    charging.command(Command(1, 11.0))
    charging.answer(charging.next_call(1.0), ACCEPTED, 2.0)
    charging.command(Command(1, 11.0, "refresh"))

    assert charging.answer(charging.next_call(3.0), REJECTED, 4.0) == ()


@pytest.mark.parametrize("answer", [InternalError(), None])
def test_after_a_call_error_it_is_asked_what_is_in_force(answer):
    charging = installed()
    charging.command(Command(1, 11.0))
    proved = charging.answer(charging.next_call(1.0), answer, 2.0)

    what, call = sent(charging)

    assert proved == ()
    assert charging.is_connected
    assert what == ("GetCompositeSchedule", None)
    assert charging.answer(call, in_force(15.9), 3.0) == ()
    assert charging.next_call(3.0) is None


# Time-outs


def lost(charging, *commands):
    """Send commands, the last of which is not answered, and connect again at 32 s."""
    for command in commands[:-1]:
        charging.command(command)
        charging.answer(charging.next_call(1.0), ACCEPTED, 1.0)
    charging.command(commands[-1])
    charging.answer(charging.next_call(1.0), TimeoutError(), 31.0)
    charging.connected()
    what, call = sent(charging, 32.0)
    assert what == ("GetCompositeSchedule", None)
    return call


def test_after_a_time_out_nothing_is_sent_on_that_connection():
    charging = installed()
    charging.command(Command(1, 11.0))
    proved = charging.answer(charging.next_call(1.0), TimeoutError(), 31.0)
    charging.command(Command(2, 5.0))

    assert proved == ()
    assert not charging.is_connected
    assert charging.next_call(31.0) is None


@pytest.mark.parametrize("amperes", [15.9, 10.0, 7.2, 6.0, 0.0])
def test_what_is_in_force_proves_nothing_and_the_command_is_sent_again(amperes):
    # 15.9: it was lost, or not yet applied. 7.2: it was applied, or something else holds down the
    # 15.9 for now, and may let them go.
    charging = installed()
    call = lost(charging, Command(1, 11.0), Command(2, 5.0))
    proved = charging.answer(call, in_force(amperes), 33.0)

    what, call = sent(charging, 33.0)

    assert proved == ()
    assert what == ("TxProfile", 7.2)
    assert charging.answer(call, ACCEPTED, 34.0) == (confirm(2),)


def test_more_in_force_than_may_be_is_told():
    charging = installed()
    call = lost(charging, Command(1, 11.0), Command(2, 5.0))

    assert charging.answer(call, in_force(32.0), 33.0) == (read_back(22.08, 2),)


def test_what_is_in_force_where_nothing_was_confirmed_yet_is_not_told():
    # An earlier sender may have granted more than others let it use for now.
    charging = installed()
    call = lost(charging, Command(1, 5.0))

    assert charging.answer(call, in_force(10.0), 33.0) == ()


def test_a_charge_point_that_cannot_say_is_sent_the_command_again():
    charging = installed()
    call = lost(charging, Command(1, 11.0))
    proved = charging.answer(call, NotImplementedError(), 33.0)

    what, call = sent(charging, 33.0)

    assert proved == ()
    assert what == ("TxProfile", 15.9)


def test_a_newer_command_is_sent_instead_of_one_that_was_lost():
    charging = installed()
    call = lost(charging, Command(1, 11.0))
    charging.command(Command(2, 5.0))
    charging.answer(call, in_force(0.0), 33.0)

    what, call = sent(charging, 33.0)

    assert what == ("TxProfile", 7.2)
    assert charging.answer(call, ACCEPTED, 34.0) == (confirm(2),)


def test_a_connection_that_is_lost_leaves_a_call_open_as_a_time_out_does():
    charging = installed()
    charging.command(Command(1, 11.0))
    charging.next_call(1.0)
    charging.connected()

    assert sent(charging, 5.0)[0] == ("GetCompositeSchedule", None)


def test_profiles_that_were_not_answered_for_are_installed_on_the_next_connection():
    charging = made()
    charging.connected()
    charging.answer(charging.next_call(0.0), TimeoutError(), 30.0)
    charging.connected()

    assert sent(charging, 31.0)[0] == ("ChargePointMaxProfile", 63.7)
    assert charging.refusals == ("'CS-1' did not take the maximum: no answer",)


def test_what_was_asked_and_not_answered_is_not_asked_again():
    # Some charge points never answer what they do not know.
    charging = installed()
    call = lost(charging, Command(1, 11.0))
    charging.answer(call, TimeoutError(), 62.0)
    charging.connected()

    assert sent(charging, 63.0)[0] == ("TxProfile", 15.9)


# One connection


def test_run_sends_what_is_due_and_ends_when_a_call_is_not_answered():
    charging = made()
    charging.transaction_started("1", 7)
    charging.command(Command(1, 11.0))
    answers = [ACCEPTED, ACCEPTED, ACCEPTED, TimeoutError()]
    outcomes = []

    async def call(request):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if len(answers) == 1:
            charging.command(Command(2, 5.0))
        return answer

    asyncio.run(charging.run(call, lambda: 1.0, outcomes.append))

    assert outcomes == [confirm(1)]
    assert answers == []
    assert not charging.is_connected


def test_run_waits_for_work_and_leaves_a_call_open_when_it_is_cancelled():
    charging = made(maximum=None)
    outcomes = []

    async def call(request):
        if request.cs_charging_profiles.transaction_id is None:
            charging.transaction_started("1", 7)
            asyncio.get_running_loop().call_later(0.01, charging.command, Command(1, 11.0))
            return ACCEPTED
        running.cancel()
        await asyncio.Event().wait()

    async def main():
        nonlocal running
        running = asyncio.ensure_future(charging.run(call, lambda: 1.0, outcomes.append))
        await asyncio.wait([running])

    running = None
    asyncio.run(main())

    assert running.cancelled()
    assert outcomes == []
    charging.connected()
    assert sent(charging, 2.0)[0] == ("GetCompositeSchedule", None)


def test_run_ends_when_the_connection_is_lost():
    charging = installed()

    async def main():
        running = asyncio.ensure_future(charging.run(print, lambda: 1.0, print))
        await asyncio.sleep(0)
        charging.disconnected()
        await asyncio.wait_for(running, 10)

    asyncio.run(main())

    assert not charging.is_connected


def test_run_raises_what_is_no_answer_and_leaves_the_call_open():
    charging = installed()
    charging.command(Command(1, 11.0))

    async def call(request):
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError, match="gone"):
        asyncio.run(charging.run(call, lambda: 1.0, print))

    charging.connected()
    assert sent(charging, 2.0)[0] == ("GetCompositeSchedule", None)


def test_a_newer_connection_ends_run_on_the_older_one():
    charging = installed()
    calls = []

    async def main():
        hung = asyncio.Event()

        async def old(request):
            calls.append("old")
            await hung.wait()
            return ACCEPTED

        async def new(request):
            calls.append(type(request).__name__)
            return in_force(0.0) if len(calls) == 2 else ACCEPTED

        charging.command(Command(1, 11.0))
        first = asyncio.ensure_future(charging.run(old, lambda: 1.0, outcomes.append))
        await asyncio.sleep(0)
        second = asyncio.ensure_future(charging.run(new, lambda: 2.0, outcomes.append))
        await asyncio.sleep(0)
        hung.set()
        await first
        connected.append(charging.is_connected)
        second.cancel()
        await asyncio.wait([second])

    outcomes, connected = [], []
    asyncio.run(main())

    assert calls == ["old", "GetCompositeSchedule", "SetChargingProfile"]
    assert outcomes == [confirm(1)]
    assert connected == [True]


# With a dispatcher


def test_two_connectors_share_by_ocpp_what_a_group_may_draw():
    r = wattfill.Registry()
    r.create_group("Yard", 22, id="yard")
    both = {}
    for station in ("CS-1", "CS-2"):
        connector = wattfill.Connector("1", 22, 4.14, fallback=0)
        r.add_charge_station("yard", station, [connector])
        both[station] = SmartCharging(
            station, "1.6", {"1": Evse(THREE, minimum=4.14)}, clock=Clock(0.0, NOON), maximum=None
        )
    d = wattfill.Dispatcher(r, lease=60.0, lag=5.0)

    def exchange(now, silent=None):
        """Send what may be sent, all of which is accepted but by one; return limits in A."""
        limits = []
        for command in d.plan(now).commands:
            both[command.station].command(command)
        for station, charging in both.items():
            while (call := charging.next_call(now)) is not None:
                answer = CLEARED if type(call).__name__ == "ClearChargingProfile" else ACCEPTED
                if hasattr(call, "cs_charging_profiles"):
                    schedule = call.cs_charging_profiles.charging_schedule
                    limits.append((station, schedule.charging_schedule_period[0].limit))
                answer = TimeoutError() if station == silent else answer
                for outcome in charging.answer(call, answer, now):
                    outcome.tell(d, now)
        return limits

    for charging in both.values():
        charging.connected()
    assert exchange(0.0) == [("CS-1", 0.0), ("CS-2", 0.0)]  # their defaults
    r.start_session("CS-1", "1", at=10.0)
    both["CS-1"].transaction_started("1", 7)
    assert exchange(10.0) == [("CS-1", 31.8)]  # 22 kW are 31.88 A
    r.start_session("CS-2", "1", at=20.0)
    both["CS-2"].transaction_started("1", 8)
    assert exchange(20.0, silent="CS-1") == [("CS-1", 15.9), ("CS-2", 0.0)]
    assert exchange(30.0) == []
    both["CS-1"].connected()
    # Taken now, and settled 5 s later.
    assert exchange(32.0) == [("CS-1", 15.9)]
    assert exchange(36.9) == []
    assert exchange(37.0) == [("CS-2", 15.9)]
    assert d.committed().groups == {"yard": 22.0}


# Refusals


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"version": "1.5"}, InputError, "version must be one of 1.6, 2.0.1, 2.1, got '1.5'"),
        ({"clock": NOON}, InputTypeError, "clock must be a Clock, got datetime"),
        (
            {"evses": {"left": Evse(THREE)}},
            InputError,
            "id must be given for connector 'left', which is no number",
        ),
        ({"evses": {"1": THREE}}, InputTypeError, "evses must be of Evse, got Supply for '1'"),
        (
            {"evses": {"1": Evse(THREE), "left": Evse(THREE, id=1)}},
            InputError,
            "evses must have an id each, got 1, 1",
        ),
        (
            {"evses": {"1": Evse(THREE), "2": Evse(Supply("A", phases=1))}},
            InputError,
            "supply must be given where those of the connectors differ, got none",
        ),
        ({"maximum": -1.0}, InputError, r"maximum must be at least 0 \(kW\), got -1.0"),
        ({"max_offline": 5}, InputError, "max_offline must be left out before OCPP 2.1, got 5"),
        (
            {"version": "2.1", "max_offline": -5},
            InputError,
            r"max_offline must be a whole number, at least 0 \(s\), got -5",
        ),
    ],
)
def test_what_is_no_charge_point_is_refused(changes, error, message):
    with pytest.raises(error, match=message):
        made(**changes)


def test_a_charge_point_without_connectors_is_refused():
    with pytest.raises(InputError, match="evses must have at least one connector, got none"):
        SmartCharging("CS-1", "1.6", {}, clock=Clock(0.0, NOON), maximum=None)


@pytest.mark.parametrize(
    ("command", "error", "message"),
    [
        (Command(3, 5.0, station="CS-2"), InputError, "station must be 'CS-1', got 'CS-2'"),
        (
            Command(3, 5.0, connector="2"),
            UnknownIdError,
            "charge station 'CS-1' has no connector '2'",
        ),
        (Command(1, 5.0), InputError, "seq must not fall, got 1 after 2"),
    ],
)
def test_a_command_that_cannot_be_meant_is_refused_and_changes_nothing(command, error, message):
    charging = installed()
    charging.command(Command(2, 11.0))

    with pytest.raises(error, match=message):
        charging.command(command)

    assert sent(charging)[0] == ("TxProfile", 15.9)


def test_a_transaction_that_a_version_does_not_have_is_refused():
    with pytest.raises(InputTypeError, match=r"transaction_id must be a whole number in OCPP 1\.6"):
        made().transaction_started("1", "t-7")
