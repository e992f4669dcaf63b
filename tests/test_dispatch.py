"""Which limits may be sent now: what counts at a connector, what waits, what is sent again."""

import math

import pytest

from wattfill import (
    ConflictError,
    Connector,
    Dispatcher,
    InputError,
    InputTypeError,
    Registry,
    UnknownIdError,
)

EAGER = {"smallest_change": 0.0, "smallest_share": 0.0, "between_increases": 0.0, "lag": 0.0}


def registry(capacity=20, n=2, fallback=0.0, minimum=4.0, **group):
    r = Registry()
    r.create_group("Yard", capacity, id="yard", **group)
    for i in range(n):
        plugs = [Connector("1", 22, minimum, fallback=fallback)]
        r.add_charge_station("yard", "ABCDEFGH"[i], plugs)
    return r


def dispatcher(r, **options):
    return Dispatcher(r, **{**EAGER, **options})


def confirm(d, plan, now, *stations):
    for c in plan.commands:
        if not stations or c.station in stations:
            d.confirm(c.station, c.connector, c.seq, now)


def known(capacity=20, n=2, **options):
    """Return a registry and a dispatcher that knows that nobody may draw anything."""
    group = {k: options.pop(k) for k in ("fallback", "minimum") if k in options}
    r = registry(capacity, n, **group)
    d = dispatcher(r, **options)
    confirm(d, d.plan(0), 0)
    return r, d


def charging(r, d, *stations, now=0):
    """Let sessions start, and everybody get a share."""
    for station in stations:
        r.start_session(station, "1")
    for _ in range(3):
        confirm(d, d.plan(now), now)


def sent(plan):
    return [(c.station, c.limit, c.why) for c in plan.commands]


def in_force(d):
    return {station: kw for (station, _), kw in d.committed().connectors.items()}


# What counts


def test_a_connector_of_which_nothing_is_known_counts_with_its_maximum():
    d = dispatcher(registry())

    assert d.committed().connectors == {("A", "1"): 22.0, ("B", "1"): 22.0}
    assert d.committed().groups == {"yard": 44.0}


def test_nobody_is_raised_from_the_unknown_before_it_is_known_to_be_free():
    # A may draw 22 kW, and B nothing: that both count with 22 kW makes room for neither.
    r = registry(22)
    r.start_session("B", "1")
    d = dispatcher(r)
    first = d.plan(0)
    confirm(d, first, 1, "B")
    second = d.plan(1)
    confirm(d, first, 2, "A")

    assert sent(first) == [("A", 0.0, "decrease"), ("B", 0.0, "decrease")]
    assert sent(second) == []
    assert sent(d.plan(2)) == [("B", 22.0, "increase")]


@pytest.mark.parametrize(
    ("capacity", "fallback", "limit"),
    [(44, 0.0, 22.0), (43, 5.0, 5.0), (43, 3.0, 0.0)],
    ids=["all fits", "its fallback", "its fallback is below its minimum"],
)
def test_whoever_is_not_known_is_told_no_more_than_its_fallback_where_too_much_may_be_in_force(
    capacity, fallback, limit
):
    r = registry(capacity, fallback=fallback)
    r.start_session("B", "1")

    assert sent(dispatcher(r).plan(0))[-1][:2] == ("B", limit)


def test_the_first_plan_asks_everybody_for_what_is_due():
    d = dispatcher(registry())

    plan = d.plan(0)

    assert sent(plan) == [("A", 0.0, "decrease"), ("B", 0.0, "decrease")]
    assert [(over.group, over.committed, over.usable) for over in plan.over] == [("yard", 44, 20)]


def test_what_is_confirmed_is_all_that_counts():
    _r, d = known()

    assert in_force(d) == {"A": 0.0, "B": 0.0}


def test_what_was_sent_counts_before_it_is_confirmed():
    r, d = known()
    r.start_session("A", "1")

    d.plan(1)

    assert in_force(d) == {"A": 20.0, "B": 0.0}


def test_a_decrease_frees_nothing_before_it_is_confirmed():
    r, d = known()
    charging(r, d, "A")
    r.start_session("B", "1")

    plan = d.plan(1)

    assert sent(plan) == [("A", 10.0, "decrease")]
    assert d.plan(2).commands == ()
    assert in_force(d) == {"A": 20.0, "B": 0.0}
    confirm(d, plan, 3)
    assert sent(d.plan(3)) == [("B", 10.0, "increase")]


def test_a_confirmation_proves_everything_older_dead():
    # A is told 20, then 10, and only the 10 is ever heard of.
    r, d = known(n=3)
    r.start_session("A", "1")
    d.plan(1)
    r.start_session("B", "1")
    [command] = d.plan(2).commands

    d.confirm("A", "1", command.seq, 3)

    assert in_force(d)["A"] == 10.0


def test_a_late_confirmation_of_an_older_command_says_nothing_new():
    r, d = known()
    r.start_session("A", "1")
    [first] = d.plan(1).commands
    r.start_session("B", "1")
    [second] = d.plan(2).commands
    d.confirm("A", "1", second.seq, 3)

    d.confirm("A", "1", first.seq, 4)

    assert in_force(d)["A"] == 10.0


def test_a_rejected_command_never_was():
    r, d = known()
    r.start_session("A", "1")
    [command] = d.plan(1).commands

    d.reject("A", "1", command.seq, 2)

    assert in_force(d)["A"] == 0.0


def test_a_rejection_leaves_what_was_sent_before_it():
    r, d = known()
    r.start_session("A", "1")
    d.plan(1)
    r.start_session("B", "1")
    [second] = d.plan(2).commands

    d.reject("A", "1", second.seq, 3)

    assert in_force(d)["A"] == 20.0


def test_nobody_counts_with_less_than_it_may_draw_on_its_own():
    _r, d = known(fallback=3.0)

    assert in_force(d) == {"A": 3.0, "B": 3.0}


def test_what_is_given_up_counts_until_the_vehicle_has_followed():
    r, d = known(lag=5.0)
    charging(r, d, "A", now=6)
    r.start_session("B", "1")
    confirm(d, d.plan(10), 11)

    assert in_force(d)["A"] == 20.0
    assert d.plan(15.9).commands == ()
    assert d.plan(15.9).wake_at == 16.0
    assert sent(d.plan(16)) == [("B", 10.0, "increase")]


def test_a_meter_shows_that_the_vehicle_has_followed():
    r, d = known(lag=5.0)
    charging(r, d, "A", now=6)
    r.start_session("B", "1")
    confirm(d, d.plan(10), 11)

    d.meter("A", "1", 10.0, 12)

    assert sent(d.plan(12)) == [("B", 10.0, "increase")]


@pytest.mark.parametrize(
    ("power", "measured_at"),
    [(10.001, None), (4.0, 10.9), (4.0, 11.0)],
    ids=["above the limit", "before it", "at the same time"],
)
def test_a_reading_that_proves_nothing_frees_nothing(power, measured_at):
    r, d = known(lag=5.0, skew=0.0)
    charging(r, d, "A", now=6)
    r.start_session("B", "1")
    confirm(d, d.plan(10), 11)

    d.meter("A", "1", power, 12, measured_at)

    assert d.plan(12).commands == ()


def test_a_low_reading_never_counts_in_place_of_the_limit():
    r, d = known()
    charging(r, d, "A")

    d.meter("A", "1", 1.0, 1)

    assert in_force(d)["A"] == 20.0


# Increases


def test_an_increase_needs_room_in_every_group_above():
    r = Registry()
    r.create_group("Site", 20, id="site")
    for hall in ("east", "west"):
        r.create_group(hall, 15, id=hall, parent="site")
        r.add_charge_station(hall, hall, [Connector("1", 22, 4, fallback=0)])
    d = dispatcher(r)
    confirm(d, d.plan(0), 0)
    charging(r, d, "east")

    r.start_session("west", "1")
    plan = d.plan(1)

    assert sent(plan) == [("east", 10.0, "decrease")]
    assert d.waiting()[0].group == "site"
    assert d.committed().groups == {"site": 15.0, "east": 15.0, "west": 0.0}


def test_who_has_nothing_comes_first():
    # C gives up 10 kW: A rises from 4 to 7 kW, and B from nothing.
    r, d = known(20, n=3)
    r.start_session("A", "1", maximum=4)
    charging(r, d, "C")
    r.update_session("A", "1", maximum=None)
    r.update_session("C", "1", maximum=6)
    r.start_session("B", "1")
    confirm(d, d.plan(1), 2)

    assert sent(d.plan(2)) == [("B", 7.0, "increase"), ("A", 7.0, "increase")]


def test_what_lowers_comes_before_what_raises():
    r, d = known(20, n=3)
    charging(r, d, "A")
    r.update_group("yard", maximum_capacity=50)
    r.update_session("A", "1", maximum=15)
    r.start_session("B", "1")

    assert [c.why for c in d.plan(1).commands] == ["decrease", "increase"]


def test_a_limit_between_two_outstanding_ones_raises_nothing():
    # 20 kW may still come into force at A, so that 12 may be sent at once.
    r, d = known()
    charging(r, d, "A")
    r.update_session("A", "1", maximum=5)
    d.plan(1)
    r.update_session("A", "1", maximum=12)

    assert sent(d.plan(2)) == [("A", 12.0, "increase")]


def test_what_still_settles_is_no_room_while_a_group_is_above():
    # The vehicle at A goes from 20 to 5 kW; until it has, 12 kW would add nothing to what counts.
    r, d = known(20, n=2, lag=5.0)
    charging(r, d, "A", now=6)
    r.update_session("A", "1", maximum=5)
    confirm(d, d.plan(10), 10)
    r.update_group("yard", maximum_capacity=15)
    r.update_session("A", "1", maximum=12)

    assert d.plan(11).commands == ()
    assert sent(d.plan(15)) == [("A", 12.0, "increase")]


def test_after_a_capacity_fell_nothing_is_raised_before_it_is_kept():
    r, d = known(20, n=2)
    charging(r, d, "A", "B")
    r.update_group("yard", maximum_capacity=12)

    plan = d.plan(1)

    assert sent(plan) == [("A", 6.0, "decrease"), ("B", 6.0, "decrease")]
    assert [(over.committed, over.usable) for over in plan.over] == [(20.0, 12.0)]
    confirm(d, plan, 2, "A")
    assert d.plan(2).commands == ()
    assert [(over.committed, over.usable) for over in d.plan(2).over] == [(16.0, 12.0)]
    confirm(d, plan, 3, "B")
    assert d.plan(3).over == ()


def test_a_paused_session_is_told_0():
    r, d = known(10, n=3)

    charging(r, d, "A", "B", "C")

    assert in_force(d) == {"A": 5.0, "B": 5.0, "C": 0.0}


# The allocation is asked for with what is reserved


def test_an_idle_connector_costs_its_fallback():
    r, d = known(20, n=3, fallback=2.0)

    charging(r, d, "A")

    # 20 kW less twice 2 kW.
    assert r.allocate().powers() == {("A", "1"): 16.0, ("B", "1"): 0.0, ("C", "1"): 0.0}
    assert in_force(d) == {"A": 16.0, "B": 2.0, "C": 2.0}


def test_a_paused_session_costs_its_fallback():
    # Of 10 kW two sessions of 4 kW each would fit, but not beside the 3 kW that C may draw.
    r, _d = known(10, n=3, fallback=3.0)
    for station in "ABC":
        r.start_session(station, "1")

    powers = r.allocate().powers()

    assert powers == {("A", "1"): 4.0, ("B", "1"): 0.0, ("C", "1"): 0.0}
    assert r.allocate().groups["yard"].shortfall == 2.0


def test_a_session_has_its_fallback_at_least():
    r, _d = known(20, n=2, fallback=6.0)
    r.start_session("A", "1", maximum=4)
    r.start_session("B", "1")

    assert list(r.allocate().powers().values()) == [6.0, 14.0]


def test_others_are_planned_around_an_offline_station():
    r, d = known(20, n=3)
    charging(r, d, "A", "B")

    d.offline("A", 1)
    r.start_session("C", "1")
    plan = d.plan(1)

    # A goes on to hold 10 kW, B and C share the rest.
    assert sent(plan) == [("B", 5.0, "decrease")]
    confirm(d, plan, 2)
    assert sent(d.plan(2)) == [("C", 5.0, "increase")]


def test_an_offline_station_is_sent_nothing_and_told_anew_when_it_is_back():
    r, d = known()
    charging(r, d, "A")
    d.offline("A", 1)
    r.update_session("A", "1", maximum=7)
    assert d.plan(2).commands == ()

    d.online("A", 3)

    assert sent(d.plan(3)) == [("A", 7.0, "decrease")]


def test_a_station_that_is_back_is_told_again_what_it_was_told():
    r, d = known()
    charging(r, d, "A")
    d.offline("A", 1)
    d.plan(1)

    d.online("A", 2)

    assert sent(d.plan(2)) == [("A", 20.0, "refresh")]


# Without an answer


def test_a_command_without_an_answer_is_sent_again_and_still_counts():
    r, d = known(retry=30.0)
    charging(r, d, "A")
    r.update_session("A", "1", maximum=5)
    d.plan(1)

    assert d.plan(30).commands == ()
    assert d.plan(30).wake_at == 31.0
    assert sent(d.plan(31)) == [("A", 5.0, "refresh")]
    assert in_force(d)["A"] == 20.0


def test_others_are_planned_around_a_station_that_is_silent_for_too_long():
    r, d = known(patience=60.0, retry=100.0)
    charging(r, d, "A")
    r.start_session("B", "1")
    d.plan(1)
    assert r.allocate().powers() == {("A", "1"): 10.0, ("B", "1"): 10.0}

    d.plan(61)

    # A may go on with 20 kW for all that is known, and so there is nothing left for B.
    assert r.allocate().powers() == {("A", "1"): 0.0, ("B", "1"): 0.0}
    assert d.waiting() == ()


def test_a_silent_station_that_answers_gets_its_share_again():
    r, d = known(patience=60.0, retry=30.0)
    charging(r, d, "A")
    r.start_session("B", "1")
    d.plan(1)
    d.plan(61)
    [again] = d.plan(91).commands
    assert (again.limit, again.why) == (10.0, "refresh")

    d.confirm("A", "1", again.seq, 92)

    assert sent(d.plan(92)) == [("B", 10.0, "increase")]


def test_a_silent_station_whose_session_ended_is_told_so():
    r, d = known(patience=60.0, retry=30.0)
    charging(r, d, "A")
    r.update_session("A", "1", maximum=5)
    d.plan(1)
    d.plan(61)
    r.stop_session("A", "1")

    assert sent(d.plan(91)) == [("A", 0.0, "decrease")]


def test_a_station_that_refuses_is_asked_again_later_and_planned_around():
    r, d = known(retry=30.0)
    charging(r, d, "A")
    r.start_session("B", "1")
    [command] = d.plan(1).commands

    d.reject("A", "1", command.seq, 2)

    assert d.plan(2).commands == ()
    assert r.allocate().powers() == {("A", "1"): 0.0, ("B", "1"): 0.0}
    assert sent(d.plan(31)) == [("A", 10.0, "refresh")]


# Leases


def test_a_leased_command_says_when_it_ends():
    r, d = known(lease=300.0)
    r.start_session("A", "1")

    [command] = d.plan(10).commands

    assert command.expires == 310.0


def test_a_lease_is_renewed_after_half_of_it():
    r, d = known(lease=300.0)
    charging(r, d, "A", now=10)

    assert d.plan(11).wake_at == 160.0
    [command] = d.plan(160).commands
    assert (command.limit, command.expires, command.why) == (20.0, 460.0, "refresh")


def test_a_silent_station_counts_with_its_fallback_once_the_lease_is_over():
    r, d = known(lease=100.0, skew=2.0, lag=5.0)
    charging(r, d, "A", now=10)
    d.offline("A", 11)

    assert in_force(d)["A"] == 20.0
    assert d.committed(116.9).connectors["A", "1"] == 20.0
    assert d.committed(117).connectors["A", "1"] == 0.0


def test_a_station_without_a_lease_holds_its_limit_for_ever():
    r, d = known()
    charging(r, d, "A")
    d.offline("A", 1)

    assert d.committed(1e9).connectors["A", "1"] == 20.0


def test_what_was_sent_and_not_confirmed_counts_until_its_own_lease_is_over():
    r, d = known(lease=100.0, skew=0.0)
    charging(r, d, "A", now=0)
    r.update_session("A", "1", maximum=5)
    d.plan(50)
    d.offline("A", 51)

    assert d.committed(100).connectors["A", "1"] == 5.0
    assert d.committed(150).connectors["A", "1"] == 0.0


def test_the_limit_of_an_idle_connector_needs_no_lease():
    _r, d = known(lease=100.0)

    assert d.plan(1e6).commands == ()


def test_where_no_order_is_kept_only_the_end_of_the_lease_frees_power():
    r, d = known(lease=100.0, skew=0.0, ordered=False)
    charging(r, d, "A", now=200)
    r.update_session("A", "1", maximum=5)
    confirm(d, d.plan(250), 251)

    assert d.committed(299).connectors["A", "1"] == 20.0
    assert d.committed(300).connectors["A", "1"] == 5.0


def test_one_station_may_be_told_otherwise():
    r = registry()
    d = dispatcher(r, lease=100.0)

    d.set_station("B", lease=None)

    assert [c.expires for c in d.plan(0).commands] == [100.0, None]


# What a station says of itself


def test_what_is_read_back_tells_of_a_station_of_which_nothing_is_known():
    d = dispatcher(registry())

    d.read_back("A", "1", 7.0, 0)

    assert in_force(d) == {"A": 7.0, "B": 22.0}


def test_what_is_read_back_without_a_number_may_be_old():
    r, d = known()
    charging(r, d, "A")

    d.read_back("A", "1", 0.0, 1)

    assert in_force(d)["A"] == 20.0


def test_a_number_that_is_read_back_confirms():
    r, d = known()
    charging(r, d, "A")
    r.update_session("A", "1", maximum=5)
    [command] = d.plan(1).commands

    d.read_back("A", "1", 0.0, 2, seq=command.seq)

    # It has fallen back to 0 kW, and may go on with 5.
    assert in_force(d)["A"] == 5.0


def test_a_station_that_has_more_than_it_was_told_counts_with_that():
    r, d = known()
    charging(r, d, "A")
    r.update_session("A", "1", maximum=5)
    [command] = d.plan(1).commands

    d.read_back("A", "1", 9.0, 2, seq=command.seq)

    assert in_force(d)["A"] == 9.0
    assert sent(d.plan(2)) == [("A", 5.0, "refresh")]


def test_a_connector_that_draws_more_than_it_was_told_counts_with_its_maximum():
    r, d = known(lag=5.0)
    charging(r, d, "A", now=0)
    r.update_session("A", "1", maximum=8)
    confirm(d, d.plan(10), 10)
    d.plan(20)

    d.meter("A", "1", 12.0, 20)
    assert in_force(d)["A"] == 8.0
    d.meter("A", "1", 12.0, 26)

    assert in_force(d)["A"] == 22.0
    d.meter("A", "1", 8.0, 30)
    assert d.committed(35).connectors["A", "1"] == 8.0


@pytest.mark.parametrize("power", [23.5, 1e8])
def test_a_reading_above_the_maximum_is_none(power):
    r, d = known()
    charging(r, d, "A")

    for now in range(1, 100, 10):
        d.meter("A", "1", power, now)

    assert in_force(d)["A"] == 20.0


# Few messages


def test_a_plan_is_empty_when_nothing_changed():
    r, d = known()
    charging(r, d, "A", "B")

    assert d.plan(1).commands == d.plan(1e6).commands == ()


@pytest.mark.parametrize(
    ("maximum", "is_sent"), [(10.09, False), (10.1, True)], ids=["not worth it", "worth it"]
)
def test_a_small_increase_is_not_worth_a_message(maximum, is_sent):
    r, d = known(smallest_change=0.1, smallest_share=0.05)
    r.start_session("A", "1", maximum=10.0)
    confirm(d, d.plan(1), 1)
    r.update_session("A", "1", maximum=maximum)

    assert bool(d.plan(2).commands) == is_sent


def test_a_share_of_a_small_limit_is_worth_a_message():
    r, d = known(smallest_change=1.0, smallest_share=0.05, minimum=1.0)
    r.start_session("A", "1", maximum=1.4)
    confirm(d, d.plan(1), 1)
    r.update_session("A", "1", maximum=1.5)

    assert sent(d.plan(2)) == [("A", 1.5, "increase")]


def test_a_decrease_is_sent_however_small_it_is():
    r, d = known(smallest_change=0.1, smallest_share=0.05)
    r.start_session("A", "1", maximum=10.0)
    confirm(d, d.plan(1), 1)
    r.update_session("A", "1", maximum=9.999999)

    assert sent(d.plan(2)) == [("A", 9.999999, "decrease")]


def test_one_increase_follows_another_after_some_time_only():
    r, d = known(between_increases=30.0)
    r.start_session("A", "1", maximum=5.0)
    confirm(d, d.plan(10), 10)
    r.update_session("A", "1", maximum=9.0)

    plan = d.plan(39)

    assert (plan.commands, plan.wake_at) == ((), 40.0)
    assert sent(d.plan(40)) == [("A", 9.0, "increase")]


def test_turns_of_rotation_keep_to_the_period_of_the_group():
    r = registry(6, n=2, policy="rotate", rotation=900.0)
    d = dispatcher(r)
    confirm(d, d.plan(0), 0)
    charging(r, d, "A", "B", now=0)
    assert in_force(d) == {"A": 6.0, "B": 0.0}

    plan = d.plan(899)
    assert (plan.commands, plan.wake_at) == ((), 900.0)
    confirm(d, d.plan(900), 900)
    confirm(d, d.plan(901), 901)

    assert in_force(d) == {"A": 0.0, "B": 6.0}


# What is drawn


def drawing(power=3.0, **options):
    """Return a session at A that draws little of its 10 kW, and one at B that has the rest."""
    r, d = known(20, n=2, release_after=300.0, release_margin=1.0, **options)
    charging(r, d, "A", "B")
    for now in range(10, 311, 60):
        d.meter("A", "1", power, now)
    return r, d


def test_what_a_session_does_not_use_goes_to_others():
    _r, d = drawing()

    plan = d.plan(310)

    # It draws 3 kW; 1 kW more lets it show that it wants more.
    assert sent(plan) == [("A", 4.0, "decrease")]
    confirm(d, plan, 311)
    assert sent(d.plan(311)) == [("B", 16.0, "increase")]


def test_a_session_that_draws_what_it_may_gets_its_share_again():
    _r, d = drawing()
    confirm(d, d.plan(310), 310)
    confirm(d, d.plan(311), 311)

    d.meter("A", "1", 3.9, 400)

    plan = d.plan(400)
    assert sent(plan) == [("B", 10.0, "decrease")]
    confirm(d, plan, 401)
    assert sent(d.plan(401)) == [("A", 10.0, "increase")]


def test_a_session_is_offered_its_share_again_from_time_to_time():
    _r, d = drawing(probe_after=1800.0)
    confirm(d, d.plan(310), 310)
    confirm(d, d.plan(311), 311)

    assert d.plan(312).wake_at == 2110.0
    assert sent(d.plan(2110)) == [("B", 10.0, "decrease")]


def test_a_new_session_begins_with_its_full_share():
    r, d = drawing()
    confirm(d, d.plan(310), 310)
    confirm(d, d.plan(311), 311)
    r.stop_session("A", "1")
    r.start_session("A", "1")

    assert sent(d.plan(312)) == [("B", 10.0, "decrease")]


def test_a_session_that_once_drew_more_keeps_what_it_has():
    r, d = known(20, n=2, release_after=300.0)
    charging(r, d, "A", "B")
    for now in range(10, 311, 60):
        d.meter("A", "1", 9.5 if now == 190 else 3.0, now)

    assert d.plan(311).commands == ()


def test_nobody_gets_less_than_what_sustains_a_session():
    _r, d = drawing(power=0.0)

    assert sent(d.plan(310)) == [("A", 4.0, "decrease")]


# In words


def test_what_an_increase_waits_for_is_told_in_words():
    r, d = known(lag=5.0)
    charging(r, d, "A", now=6)
    r.start_session("B", "1")
    plan = d.plan(10)

    [waiting] = d.waiting()

    assert str(waiting) == (
        "B 1 waits to go from 0 to 10 kW: 10 kW are missing in group 'yard' until they are "
        "confirmed by A 1 (20 kW may be in force there, 10 kW are due: told at 10 s, not confirmed)"
    )
    confirm(d, plan, 12)
    assert d.waiting()[0].on[0].because == "it may still draw that, until 17 s"
    d.plan(17)
    assert d.waiting() == ()


# The registry


def test_fallbacks_that_do_not_fit_are_refused_with_the_numbers():
    message = (
        "the fallbacks of all connectors below a group must fit its usable capacity, got 44 kW > "
        r"20 kW of group 'yard' \(a connector without a fallback counts with its maximum_capacity\)"
    )

    with pytest.raises(ConflictError, match=message):
        dispatcher(registry(fallback=None))


REGISTRATIONS = {
    "a new station": lambda r: r.add_charge_station("yard", "C", [Connector("1", 22, fallback=5)]),
    "a higher fallback": lambda r: r.update_charge_station("A", [Connector("1", 22, fallback=13)]),
    "another group": lambda r: r.move_charge_station("A", "small"),
    "another parent": lambda r: r.update_group("yard", parent="small"),
}


@pytest.mark.parametrize("change", REGISTRATIONS.values(), ids=REGISTRATIONS)
def test_a_registration_that_does_not_fit_is_refused_and_changes_nothing(change):
    r = registry(20, n=2, fallback=8.0)
    r.create_group("Small", 5, id="small")
    d = dispatcher(r)
    before = r.to_dict()

    with pytest.raises(ConflictError, match="the fallbacks of all connectors below a group must"):
        change(r)

    assert r.to_dict() == before
    assert d.committed().groups == {"yard": 44.0, "small": 0.0}


def test_what_stays_below_the_same_groups_fits():
    r = Registry()
    r.create_group("Site", 10, id="site")
    r.create_group("East", 10, id="east", parent="site")
    r.create_group("West", 10, id="west", parent="site")
    r.add_charge_station("east", "A", [Connector("1", 22, fallback=10)])
    d = dispatcher(r)

    r.move_charge_station("A", "west")

    assert d.committed().groups == {"site": 22.0, "east": 0.0, "west": 22.0}


def test_a_capacity_may_fall_below_the_fallbacks():
    r, d = known(20, n=2, fallback=8.0)

    r.update_group("yard", reserved=10.0)

    assert [(over.committed, over.usable) for over in d.plan(1).over] == [(16.0, 10.0)]


def test_without_a_dispatcher_fallbacks_are_nobodys_concern():
    r = registry(fallback=None)
    d = dispatcher(registry())
    d.close()

    r.add_charge_station("yard", "C", [Connector("1", 22)])

    assert r.allocate().powers() == dict.fromkeys([("A", "1"), ("B", "1"), ("C", "1")], 0.0)


def test_a_registry_that_is_let_go_allocates_as_before():
    r, d = known(20, n=2, fallback=5.0)
    r.start_session("A", "1")
    d.offline("B", 1)
    assert r.allocate().powers()["A", "1"] == 15.0

    d.close()

    assert r.allocate().powers()["A", "1"] == 20.0
    dispatcher(r)


def test_stations_come_and_go():
    r, d = known(20, n=2)
    charging(r, d, "A", "B")
    r.remove_charge_station("A")
    r.add_charge_station("yard", "C", [Connector("1", 11, 4, fallback=0)])

    assert d.committed().connectors == {("B", "1"): 10.0, ("C", "1"): 11.0}
    with pytest.raises(UnknownIdError, match="must be the id of a charge station, got 'A'"):
        d.confirm("A", "1", 1, 1)


def test_a_station_that_moves_takes_along_what_is_committed_there():
    r, d = known(20, n=2)
    charging(r, d, "A", "B")
    r.create_group("Other", 50, id="other")

    r.move_charge_station("A", "other")

    assert d.committed().groups == {"yard": 10.0, "other": 10.0}
    assert sent(d.plan(1)) == [("A", 22.0, "increase"), ("B", 20.0, "increase")]


# Refusals


def test_time_does_not_go_back():
    _r, d = known()
    d.plan(10)

    for call in (d.plan, lambda now: d.offline("A", now), lambda now: d.meter("A", "1", 1, now)):
        with pytest.raises(InputError, match=r"now must be finite and at least 10\.0, the latest"):
            call(9.5)


def test_a_plan_is_not_older_than_the_registry():
    r, d = known()
    r.allocate(at=100)

    with pytest.raises(InputError, match=r"now must be at least 100\.0, the registry's clock"):
        d.plan(50)


def test_what_was_not_sent_cannot_be_confirmed():
    _r, d = known()

    for told in (d.confirm, d.reject):
        with pytest.raises(
            InputError, match=r"seq must be that of a command sent to connector '1'"
        ):
            told("A", "1", 10**6, 1)


BAD = {
    "lag": (-1.0, "lag must be finite and at least 0, got -1.0"),
    "skew": (math.nan, "skew must be finite and at least 0, got nan"),
    "retry": (0.0, "retry must be above 0 and finite, got 0.0"),
    "patience": (math.inf, "patience must be above 0 and finite, got inf"),
    "lease": (0.0, "lease must be above 0 and finite, got 0.0"),
    "smallest_change": (-0.1, "smallest_change must be at least 0"),
    "smallest_share": (-0.1, "smallest_share must be finite and at least 0"),
    "release_margin": (-1.0, "release_margin must be at least 0"),
}


@pytest.mark.parametrize(("name", "value", "message"), [(k, *v) for k, v in BAD.items()], ids=BAD)
def test_an_option_that_breaks_its_rule_is_refused(name, value, message):
    with pytest.raises(InputError, match=message):
        Dispatcher(registry(), **{name: value})


def test_a_station_that_keeps_no_order_needs_a_lease():
    with pytest.raises(InputError, match="lease must be given where ordered is False"):
        Dispatcher(registry(), ordered=False)


def test_what_is_no_registry_is_refused():
    with pytest.raises(InputTypeError, match="registry must be a Registry, got dict"):
        Dispatcher({})


def test_a_registry_has_one_dispatcher():
    r, _d = known()

    with pytest.raises(ConflictError, match="registry must have no dispatcher yet"):
        Dispatcher(r)


def test_a_fallback_is_at_most_the_maximum():
    with pytest.raises(InputError, match=r"at least fallback, got 22\.0 < 23\.0"):
        Connector("1", 22, fallback=23)


@pytest.mark.parametrize("power", [-1.0, math.nan, math.inf])
def test_what_is_no_power_is_refused(power):
    _r, d = known()

    with pytest.raises(InputError, match="power must be at least 0 and below"):
        d.meter("A", "1", power, 1)
