"""What a log shows: shortcuts are found, careful senders are not accused, and bad lines refused."""

import io
import json
import math
import re
from pathlib import Path

import pytest
from hostile import (
    Account,
    FloorForgotten,
    LagForgotten,
    NewestBelieved,
    OfflineTakenForZero,
    OnlyConfirmedCounted,
    OutstandingForgottenAtRestart,
    PendingDecreaseTakenForDone,
    SkewForgotten,
    TimeoutTakenForLost,
    World,
)
from hypothesis import event, given, settings
from hypothesis import strategies as st

from wattfill.errors import InputError, InputTypeError
from wattfill.testing.events import Fate, fates
from wattfill.testing.history import KINDS, check_history

LOST = Fate(arrivals=())
UNCONFIRMED = Fate(answers=())

# A site in words short enough to be read: group P of 10 kW, connectors A and B of 22 kW.


def group(at=0, **fields):
    return {"at": at, "kind": "group", "group": "P", "maximum_capacity": 10} | fields


def plug(key, at=0, **fields):
    there = {"at": at, "kind": "connector", "station": key, "connector": 1}
    return there | {"group": "P", "maximum_capacity": 22, "floor": 0} | fields


def line(at, kind, key, **fields):
    return {"at": at, "kind": kind, "station": key, "connector": 1} | fields


def command(at, key, seq, limit, **fields):
    return line(at, "command", key, seq=seq, limit=limit, **fields)


def confirmation(at, key, seq):
    return line(at, "confirmation", key, seq=seq)


def read_back(at, key, limit, **fields):
    return line(at, "read-back", key, limit=limit, **fields)


def meter(at, key, power, **fields):
    return line(at, "meter", key, power=power, **fields)


SITE = [group(), plug("A"), plug("B"), read_back(0, "A", 0), read_back(0, "B", 0)]


def judged(*lines, **options):
    return check_history([*SITE, *lines], **options)


def raises(verdict, *stations):
    """Return when something was raised that was not to be, to how many kW."""
    return [
        (v.at, v.committed)
        for v in verdict.violations
        if v.rule == "raise" and (not stations or v.messages[0].station in stations)
    ]


# What counts


def test_a_raise_before_the_decrease_is_confirmed_is_a_violation():
    # A has 10 kW and is told 4; until it says so, B may have nothing.
    sent = [command(1, "A", 1, 10), confirmation(2, "A", 1), command(3, "A", 2, 4)]

    early = judged(*sent, command(4, "B", 1, 6), confirmation(5, "A", 2))
    late = judged(*sent, confirmation(4, "A", 2), command(5, "B", 1, 6))

    assert raises(early) == [(4.0, 16.0)]
    assert late.safe


def test_a_confirmation_proves_all_older_commands_dead():
    # The 10 never came back; the 4 sent after it did.
    lines = [command(1, "A", 1, 10), command(2, "A", 2, 4), confirmation(3, "A", 2)]

    assert judged(*lines, command(4, "B", 1, 6)).safe


def test_a_late_confirmation_of_an_older_command_says_nothing_new():
    lines = [
        command(1, "A", 1, 10),
        command(2, "A", 2, 4),
        confirmation(3, "A", 2),
        confirmation(4, "A", 1),
    ]

    assert judged(*lines, command(5, "B", 1, 6)).safe


def test_a_station_that_keeps_no_order_may_apply_anything_that_was_sent():
    lines = [
        plug("A", ordered=False),
        command(1, "A", 1, 10),
        command(2, "A", 2, 4),
        confirmation(3, "A", 1),
        confirmation(4, "A", 2),
    ]

    verdict = judged(*lines, command(5, "B", 1, 6))

    assert raises(verdict) == [(5.0, 16.0)]
    assert verdict.violations[0].commitments[0].because == (
        "seq 1 (10 kW), sent at 1 s, may arrive again: no order"
    )


def test_a_station_that_keeps_no_order_may_apply_a_number_below_the_newest():
    lines = [
        plug("A", ordered=False),
        command(1, "A", 5, 4),
        confirmation(2, "A", 5),
        command(3, "A", 3, 10),
    ]

    assert raises(judged(*lines, command(4, "B", 1, 6))) == [(4.0, 16.0)]


def test_a_rejected_limit_is_not_in_force():
    lines = [command(1, "A", 1, 10), line(2, "rejection", "A", seq=1)]

    assert judged(*lines, command(3, "B", 1, 10)).safe
    assert not judged(lines[0], command(3, "B", 1, 10)).safe


def test_a_rejected_command_that_is_sent_again_may_be_in_force():
    lines = [command(1, "A", 1, 10), line(2, "rejection", "A", seq=1), command(3, "A", 1, 10)]

    assert raises(judged(*lines, command(4, "B", 1, 10))) == [(4.0, 20.0)]


def test_a_rejection_after_the_confirmation_changes_nothing():
    lines = [command(1, "A", 1, 10), confirmation(2, "A", 1), line(3, "rejection", "A", seq=1)]

    assert raises(judged(*lines, command(4, "B", 1, 10))) == [(4.0, 20.0)]


@pytest.mark.parametrize("kind", ["timeout", "offline", "online", "boot"])
def test_time_outs_outages_and_reboots_prove_nothing(kind):
    what = line(3, "timeout", "A", seq=2) if kind == "timeout" else {"at": 3, "kind": kind}
    lines = [
        command(1, "A", 1, 10),
        confirmation(2, "A", 1),
        command(2, "A", 2, 0),
        {"station": "A"} | what,
    ]

    assert raises(judged(*lines, command(4, "B", 1, 10))) == [(4.0, 20.0)]


def test_a_command_sent_again_is_one_command():
    lines = [command(1, "A", 1, 10), command(2, "A", 1, 10), command(3, "A", 2, 0)]

    assert judged(*lines, confirmation(4, "A", 2), command(5, "B", 1, 10)).safe


def test_a_number_below_the_newest_confirmed_is_dropped_by_the_station():
    lines = [command(1, "A", 5, 4), confirmation(2, "A", 5), command(3, "A", 3, 10)]

    assert judged(*lines, command(4, "B", 1, 6)).safe


def test_nobody_draws_more_than_the_maximum_whatever_the_limit():
    lines = [plug("A", maximum_capacity=4), command(1, "A", 1, 100), command(2, "B", 1, 6)]

    assert judged(*lines).safe


def test_the_floor_counts_where_nothing_was_sent():
    verdict = judged(plug("A", floor=3), command(1, "B", 1, 8))

    assert raises(verdict) == [(1.0, 11.0)]
    assert [c.why for c in verdict.violations[0].commitments] == ["sent", "floor"]


def test_a_connector_without_a_floor_may_apply_its_maximum():
    floor = {"at": 0, "kind": "connector", "group": "P", "maximum_capacity": 9}

    verdict = check_history([group(), floor | {"station": "A", "connector": 1}])

    assert verdict.safe
    assert not check_history(
        [group(), floor | {"station": "A", "connector": 1, "maximum_capacity": 11}]
    ).safe


def test_a_command_that_raises_nothing_may_be_sent_above_capacity():
    lines = [command(1, "A", 1, 10), confirmation(2, "A", 1), group(3, maximum_capacity=4)]

    verdict = judged(*lines, command(4, "A", 2, 9), command(5, "A", 3, 4))

    assert verdict.safe


def test_a_raise_while_above_is_a_violation_though_it_is_small():
    lines = [command(1, "A", 1, 10), confirmation(2, "A", 1), group(3, maximum_capacity=4)]

    verdict = judged(*lines, command(4, "B", 1, 0.000001))

    assert raises(verdict) == [(4.0, 10.000001)]


def test_how_long_it_stays_above_after_a_drop_is_told():
    lines = [
        command(1, "A", 1, 10),
        confirmation(2, "A", 1),
        group(3, maximum_capacity=4),
        command(3, "A", 2, 4),
        group(4, maximum_capacity=3),
        group(5, maximum_capacity=4),
        confirmation(5.5, "A", 2),
    ]

    verdict = judged(*lines)

    assert verdict.safe
    (above,) = (above for above in verdict.above if above.since > 0)
    assert (above.group, above.since, above.until) == ("P", 3.0, 5.5)
    assert (above.most, above.usable, above.why) == (10.0, 3.0, "capacity")


def test_a_station_that_holds_its_last_limit_may_never_comply():
    lines = [command(1, "A", 1, 10), group(3, maximum_capacity=4), command(3, "A", 2, 4)]

    (above,) = judged(*lines, line(99, "timeout", "A", seq=2)).above

    assert above.until is None
    assert str(above) == (
        "P from 3 s to the end of the log, at most 10 kW of 4 kW usable: its capacity fell"
    )


def test_buffer_and_reserved_leave_the_usable_capacity():
    # 100 * (1 - 0.9) is less than 10 in binary; 10 kW it is all the same.
    site = group(maximum_capacity=100, buffer=0.9)

    assert judged(site, command(1, "A", 1, 10)).safe
    assert raises(judged(site | {"reserved": 0.5}, command(1, "A", 1, 10))) == [(1.0, 10.0)]


def test_what_adds_up_in_decimals_adds_up():
    # Thrice 0.1 is more than 0.3 in binary.
    lines = [group(maximum_capacity=0.3), plug("C"), read_back(0, "C", 0)]
    sent = [command(1, key, 1, 0.1) for key in "ABC"]

    assert judged(*lines, *sent).safe
    assert not judged(*lines, *sent, command(2, "C", 2, 0.100001)).safe


def test_every_group_above_is_judged():
    lines = [
        group(group="site", maximum_capacity=12),
        group(parent="site"),
        plug("C", group="site"),
        read_back(0, "C", 0),
        command(1, "C", 1, 4),
        command(2, "A", 1, 10),
    ]

    verdict = judged(*lines)

    assert [(v.at, v.group, v.committed) for v in verdict.violations] == [(2.0, "site", 14.0)]


def test_a_group_that_is_put_below_another_counts_there():
    lines = [
        group(group="site", maximum_capacity=5),
        command(1, "A", 1, 10),
        group(2, parent="site"),
        group(4, parent=None),
    ]

    verdict = judged(*lines)

    assert verdict.safe
    (above,) = verdict.above
    assert (above.group, above.since, above.until) == ("site", 2.0, 4.0)
    assert above.why == "configuration"


def test_a_connector_that_moves_counts_where_it_is():
    lines = [group(group="Q", maximum_capacity=10), command(1, "A", 1, 10)]

    assert judged(*lines, plug("A", 2, group="Q"), command(3, "B", 1, 10)).safe
    assert not judged(
        *lines, plug("A", 2, group="Q"), plug("B", 2, group="Q"), command(3, "B", 1, 10)
    ).safe


def test_a_move_within_a_group_that_is_above_changes_nothing_there():
    lines = [
        group(group="site", maximum_capacity=20),
        group(parent="site"),
        group(group="Q", parent="site"),
        command(1, "A", 1, 10),
        group(2, group="site", maximum_capacity=5),
        plug("A", 4, group="Q"),
        group(6, group="site", maximum_capacity=20),
    ]

    above = [a for a in judged(*lines).above if a.since > 0]

    assert [(a.group, a.since, a.until, a.why) for a in above] == [("site", 2.0, 6.0, "capacity")]


def test_a_connector_that_leaves_counts_no_more():
    lines = [command(1, "A", 1, 10), line(2, "leave", "A")]

    assert judged(*lines, command(3, "B", 1, 10)).safe


def test_a_lease_of_who_has_left_frees_nothing_more():
    lines = [command(1, "A", 1, 10, expires=20), line(5, "leave", "A")]

    assert raises(judged(*lines, command(25, "B", 1, 11))) == [(25.0, 11.0)]


def test_a_connector_that_comes_back_is_unknown():
    lines = [line(1, "leave", "A"), plug("A", 2), command(3, "B", 1, 1)]

    assert raises(judged(*lines)) == [(3.0, 23.0)]


# Unknown, and read back


def test_nothing_is_known_before_the_first_word():
    lines = [group(), plug("A"), plug("B"), command(1, "A", 1, 4), command(2, "B", 1, 4)]

    verdict = check_history(lines)

    assert verdict.safe
    assert [(a.since, a.until, a.most, a.why) for a in verdict.above] == [
        (0.0, None, 44.0, "configuration")
    ]


def test_a_raise_beside_an_unknown_connector_is_a_violation():
    lines = [group(), plug("A"), plug("B"), read_back(0, "B", 0), command(1, "B", 1, 1)]

    verdict = check_history(lines)

    assert raises(verdict) == [(1.0, 23.0)]
    assert verdict.violations[0].commitments[0].because == "its maximum, as nothing is known of it"


def test_the_first_confirmation_makes_a_connector_known():
    lines = [
        group(),
        plug("A"),
        plug("B"),
        read_back(0, "B", 0),
        command(1, "A", 1, 0),
        confirmation(2, "A", 1),
        command(3, "B", 1, 10),
    ]

    verdict = check_history(lines)

    assert verdict.safe
    assert verdict.above[0].until == 2.0


def test_a_read_back_with_a_number_resolves_what_is_older():
    lines = [command(1, "A", 1, 10), command(2, "A", 2, 4), command(3, "A", 3, 3)]

    verdict = judged(*lines, read_back(4, "A", 4, seq=2), command(5, "B", 1, 6))

    assert verdict.safe


def test_a_read_back_without_a_number_may_be_old():
    lines = [command(1, "A", 1, 10), confirmation(2, "A", 1), read_back(3, "A", 0)]

    assert raises(judged(*lines, command(4, "B", 1, 10))) == [(4.0, 20.0)]


def test_a_read_back_that_was_overtaken_says_nothing():
    lines = [
        command(1, "A", 1, 4),
        confirmation(2, "A", 1),
        command(3, "A", 2, 10),
        confirmation(4, "A", 2),
        read_back(5, "A", 4, seq=1),
    ]

    assert raises(judged(*lines, command(6, "B", 1, 6))) == [(6.0, 16.0)]


def test_a_station_at_its_floor_may_go_on_with_its_limit():
    lines = [command(1, "A", 1, 10), read_back(2, "A", 0, seq=1), command(3, "B", 1, 10)]

    assert raises(judged(*lines)) == [(3.0, 20.0)]


def test_a_station_that_took_less_counts_with_what_it_took():
    lines = [command(1, "A", 1, 7.36), read_back(2, "A", 7.3, seq=1), confirmation(3, "A", 1)]

    assert judged(*lines, command(4, "B", 1, 2.7)).safe
    assert not judged(*lines, command(4, "B", 1, 2.8)).safe


def test_a_read_back_above_what_was_sent_is_a_breach_and_counts():
    verdict = judged(command(1, "A", 1, 4), read_back(2, "A", 6, seq=1), command(3, "B", 1, 5))

    assert raises(verdict) == [(3.0, 11.0)]
    assert [str(breach) for breach in verdict.breaches] == [
        "A 1 was at 6 kW at 2 s, above the 4 kW that may be in force there (line 7)"
    ]


# Leases


def test_a_lease_ends_at_its_expiry_by_the_slowest_clock():
    lines = [command(1, "A", 1, 10, expires=20), confirmation(2, "A", 1)]

    assert judged(*lines, command(20, "B", 1, 10)).safe
    assert judged(*lines, command(23, "B", 1, 10), skew=3).safe
    assert raises(judged(*lines, command(22.9, "B", 1, 10), skew=3)) == [(22.9, 20.0)]


def test_a_lease_ends_where_nothing_was_confirmed():
    lines = [command(1, "A", 1, 10, expires=20), line(9, "timeout", "A", seq=1)]

    assert judged(*lines, command(20, "B", 1, 10)).safe
    assert raises(judged(*lines, command(19, "B", 1, 10))) == [(19.0, 20.0)]


def test_what_a_lease_ends_at_is_the_floor():
    lines = [plug("A", floor=3), command(1, "A", 1, 10, expires=20), command(21, "B", 1, 8)]

    assert raises(judged(*lines)) == [(21.0, 11.0)]


def test_times_are_decimals():
    # 0.1 + 0.2 is more than 0.3 in binary; the lease is over at 0.3 s all the same.
    lines = [command(0, "A", 1, 10, expires=0.1), command(0.3, "B", 1, 10)]

    assert judged(*lines, skew=0.2).safe


def test_a_command_that_is_over_when_it_is_sent_counts_nothing():
    assert judged(command(5, "A", 1, 10, expires=5), command(6, "B", 1, 10)).safe


def test_a_confirmation_of_a_lease_that_is_over_brings_no_other_one_back():
    lines = [
        command(1, "A", 1, 4, expires=10),
        command(1, "A", 2, 10, expires=20),
        confirmation(25, "A", 1),
        line(26, "online", "A"),
    ]
    del lines[-1]["connector"]

    assert judged(*lines, command(27, "B", 1, 10)).safe


# Lag and meters


def test_a_confirmation_frees_power_when_the_draw_has_had_time_to_fall():
    lines = [
        command(1, "A", 1, 10),
        confirmation(2, "A", 1),
        command(3, "A", 2, 0),
        confirmation(4, "A", 2),
    ]

    early = judged(*lines, command(8.9, "B", 1, 10), lag=5)

    assert judged(*lines, command(9, "B", 1, 10), lag=5).safe
    assert raises(early) == [(8.9, 20.0)]
    assert early.violations[0].commitments[0].because == (
        "seq 1 (10 kW) is over, but the draw may not have fallen yet"
    )


def test_a_meter_at_the_limit_shows_that_the_draw_has_fallen():
    lines = [
        command(11, "A", 1, 10),
        confirmation(12, "A", 1),
        command(13, "A", 2, 4),
        confirmation(14, "A", 2),
    ]
    raised = command(16, "B", 1, 6)

    assert judged(*lines, meter(15, "A", 4), raised, lag=9).safe
    assert not judged(*lines, meter(15, "A", 4.1), raised, lag=9).safe
    assert not judged(*lines, meter(14, "A", 0), raised, lag=9).safe
    assert not judged(*lines, meter(15, "A", 0, measured_at=13.9), raised, lag=9).safe
    assert not judged(*lines, meter(15, "A", 0, measured_at=15), raised, lag=9, skew=1.5).safe


def test_a_lease_that_ends_takes_its_lag():
    lines = [command(1, "A", 1, 10, expires=20)]

    assert raises(judged(*lines, command(24, "B", 1, 10), lag=5)) == [(24.0, 20.0)]
    assert judged(*lines, command(25, "B", 1, 10), lag=5).safe


def test_a_meter_above_what_is_committed_is_a_breach():
    verdict = judged(command(1, "A", 1, 4), meter(2, "A", 4), meter(3, "A", 4.2))

    assert not verdict.safe
    assert verdict.violations == ()
    assert [(b.at, b.seen, b.committed) for b in verdict.breaches] == [(3.0, 4.2, 4.0)]


def test_a_meter_is_compared_with_what_was_committed_when_it_was_read():
    lines = [
        command(1, "A", 1, 10),
        confirmation(2, "A", 1),
        command(3, "A", 2, 4),
        confirmation(4, "A", 2),
    ]

    assert judged(*lines, meter(9, "A", 10, measured_at=3.5)).safe
    assert judged(*lines, meter(9, "A", 10, measured_at=5), skew=1).safe
    assert not judged(*lines, meter(9, "A", 10, measured_at=5)).safe
    assert not judged(*lines, meter(9, "A", 10, measured_at=0.5)).safe


def test_a_meter_at_the_moment_of_a_confirmation_may_be_from_before():
    lines = [command(1, "A", 1, 10), confirmation(2, "A", 1), command(3, "A", 2, 4)]

    assert judged(*lines, confirmation(4, "A", 2), meter(4, "A", 10)).safe


def test_a_meter_from_before_the_log_is_held_to_the_maximum():
    assert judged(meter(1, "A", 22, measured_at=-5)).safe
    assert not judged(meter(1, "A", 23, measured_at=-5)).safe


# Floors


def test_floors_that_do_not_fit_are_a_violation_from_the_start():
    verdict = check_history([group(), plug("A", floor=6), plug("B", floor=5)])

    (violation,) = verdict.violations
    assert (violation.at, violation.rule, violation.committed) == (0.0, "floors", 11.0)
    assert violation.messages == ()
    assert str(violation).splitlines()[0] == (
        "At 0 s the floors below P, which stations may apply on their own, came to 11 kW of 10 kW "
        "usable (line 3)."
    )


def test_a_capacity_below_the_floors_is_a_violation():
    lines = [plug("A", floor=6), group(5, maximum_capacity=5), group(6, maximum_capacity=4)]

    assert [(v.at, v.rule) for v in judged(*lines).violations] == [(5.0, "floors")]


def test_the_floor_of_who_leaves_or_moves_counts_no_more():
    lines = [plug("A", floor=6), group(group="Q", maximum_capacity=10)]

    assert judged(*lines, line(1, "leave", "A"), plug("B", 2, floor=6)).safe
    assert judged(*lines, plug("A", 1, group="Q"), plug("B", 2, floor=6)).safe
    assert judged(*lines, plug("A", 1, floor=4), plug("B", 2, floor=6)).safe
    assert not judged(*lines, plug("B", 2, floor=6)).safe


def test_floors_that_come_not_to_fit_again_are_a_violation_again():
    lines = [plug("A", floor=6), plug("B", floor=6), line(2, "leave", "A"), plug("A", 3, floor=6)]

    assert [(v.at, v.rule) for v in judged(*lines).violations] == [(0.0, "floors"), (3.0, "floors")]


def test_floors_are_judged_in_every_group_above():
    lines = [group(group="site", maximum_capacity=4), group(5, parent="site")]

    verdict = judged(plug("A", floor=6), *lines)

    assert [(v.at, v.group) for v in verdict.violations] == [(5.0, "site")]


# The verdict


def lost_decrease():
    return judged(
        command(1, "A", 1, 10),
        confirmation(2, "A", 1),
        command(10, "A", 2, 0),
        line(20, "timeout", "A", seq=2),
        command(21, "B", 1, 7.5),
    )


def test_a_verdict_reads_as_a_sentence_and_a_table():
    assert (
        str(lost_decrease())
        == """\
Unsafe: 1 violation in 10 lines, 0 s to 21 s.

At 21 s the connectors below P could have drawn 17.5 kW of 10 kW usable (line 10).
Enough for it, if all other messages were lost: seq 1 to B 1 (7.5 kW, sent at 21 s).

  station  connector    kW  why
  A        1          10    seq 1 (10 kW) confirmed at 2 s; seq 2 (0 kW) timed out, which proves \
nothing
  B        1           7.5  seq 1 (7.5 kW), sent at 21 s, may be in force

More committed than usable:
  P from 21 s to the end of the log, at most 17.5 kW of 10 kW usable: by a raise"""
    )


def test_the_messages_are_as_few_as_it_takes():
    # The smaller of the others makes 10 kW with the raise, the larger makes more.
    lines = [plug("C"), read_back(0, "C", 0), command(1, "A", 1, 3), command(2, "C", 1, 4)]

    (violation,) = judged(*lines, command(3, "B", 1, 7)).violations
    (smaller,) = judged(*lines, command(3, "B", 1, 6)).violations

    assert [message.station for message in smaller.messages] == ["B", "C", "A"]
    assert [str(message) for message in violation.messages] == [
        "seq 1 to B 1 (7 kW, sent at 3 s)",
        "seq 1 to C 1 (4 kW, sent at 2 s)",
    ]
    assert [(c.station, c.committed) for c in violation.commitments] == [
        ("B", 7.0),
        ("C", 4.0),
        ("A", 3.0),
    ]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], "; seq 2 (4 kW) is not confirmed"),
        ([line(4, "timeout", "A", seq=2)], "; seq 2 (4 kW) timed out, which proves nothing"),
        ([line(4, "rejection", "A", seq=2)], "; seq 2 (4 kW) was rejected"),
        (
            [
                line(4, "timeout", "A", seq=2),
                line(4, "rejection", "A", seq=2),
                command(5, "A", 2, 4),
            ],
            "; seq 2 (4 kW) is not confirmed",
        ),
    ],
)
def test_the_table_says_what_became_of_the_newest_command(lines, words):
    sent = [command(1, "A", 1, 10), confirmation(2, "A", 1), command(3, "A", 2, 4), *lines]

    (violation,) = judged(*sent, command(6, "B", 1, 1)).violations

    assert violation.commitments[0].because == f"seq 1 (10 kW) confirmed at 2 s{words}"


def test_a_message_says_when_its_lease_ends():
    (violation,) = judged(command(1, "A", 1, 11, expires=1.7e9)).violations

    assert str(violation.messages[0]) == (
        "seq 1 to A 1 (11 kW, sent at 1 s, expires at 1700000000 s)"
    )


def test_a_safe_verdict_is_one_line():
    assert str(judged(command(1, "A", 1, 10))) == (
        "Safe: in 6 lines, 0 s to 1 s, whatever became of each message."
    )
    assert str(check_history([])) == "Safe: the log is empty."


def test_a_long_verdict_counts_what_it_does_not_show():
    plugs = [plug(f"C{i}", maximum_capacity=1) for i in range(20)]
    raised = [command(1 + i, "A", i, 1 + i) for i in range(20)]

    text = str(judged(*plugs, *raised))

    assert "Unsafe: 20 violations in 45 lines" in text
    assert text.count("  station  connector") == 3
    assert "  and 9 more, 9 kW together" in text
    assert "  and 5 more" in text.splitlines()


def test_an_id_cannot_move_the_cursor():
    verdict = check_history([group(group="P\x1b[2J"), plug("A\n", group="P\x1b[2J", floor=11)])

    assert "below P\\x1b[2J, which" in str(verdict)
    assert "  A\\n      1          11  its floor" in str(verdict)


def test_who_counts_with_what_is_told_of_the_first_hundred_violations():
    raised = [command(1 + i, "A", i, 10.1 + i / 10) for i in range(102)]

    violations = judged(*raised).violations

    assert len(violations) == 102
    assert [len(v.commitments) for v in violations[98:]] == [1, 1, 0, 0]
    assert [v.messages[0].seq for v in violations] == list(range(102))


def test_a_verdict_is_json():
    record = lost_decrease().to_dict()

    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert record["safe"] is False
    assert record["violations"][0]["messages"] == [
        {
            "station": "B",
            "connector": "1",
            "seq": 1,
            "limit": 7.5,
            "sent_at": 21.0,
            "expires": None,
        }
    ]
    assert record["above"][0]["until"] is None


# Ways in


def test_a_log_may_be_a_path_a_file_lines_or_dicts(tmp_path):
    text = "".join(f"{json.dumps(one)}\n" for one in [*SITE, command(1, "A", 1, 11)])
    path = tmp_path / "log.jsonl"
    path.write_text("\ufeff" + text + "\n", encoding="utf-8")
    expected = judged(command(1, "A", 1, 11))

    assert not expected.safe
    with path.open("rb") as file:
        assert check_history(file) == expected
    for log in (path, str(path), io.StringIO(text), text.splitlines(), text.encode().splitlines()):
        assert check_history(log) == expected


def test_lines_are_read_as_they_are_asked_for():
    def lines():
        yield from SITE
        yield {"at": 1, "kind": "nonsense"}
        raise AssertionError

    with pytest.raises(InputError, match="line 6"):
        check_history(lines())


@pytest.mark.parametrize("log", [None, 5, b"{}", {"at": 0}])
def test_what_is_no_log_is_refused(log):
    with pytest.raises(
        InputTypeError, match="log must be a path, an open file or an iterable of lines, got "
    ):
        check_history(log)


@pytest.mark.parametrize("option", ["skew", "lag"])
@pytest.mark.parametrize("value", [-1, math.nan, math.inf, True, "1", None])
def test_options_that_are_no_seconds_are_refused(option, value):
    with pytest.raises(
        InputError, match=rf"{option} must be a finite number, at least 0 \(s\), go"
    ):
        check_history([], **{option: value})


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        ("{", "line 6 is not JSON: Expecting property name enclosed in double quotes at column 2"),
        (b'{"\xff', "line 6 is not UTF-8: invalid start byte"),
        ("[" * 100_000, "line 6 is nested too deeply for a line of a log"),
        ("1" * 5_000, "line 6 has a number that is too long: "),
        ("[]", "line 6 must be an object, got []"),
        ('{"at": 1, "kind": "boot", "station": "A", "at": 2}', "line 6: the key 'at' is there twi"),
        ({"kind": "boot", "station": "A"}, "line 6: a boot must have the key 'at'"),
        (
            {"at": 1},
            "line 6: kind must be that of a line, got none; the kinds are group, connector",
        ),
        (
            {"at": 1, "kind": "comand"},
            "line 6: kind must be that of a line, got 'comand'; did you mean 'command'?",
        ),
        ({"at": 1, "kind": ["meter"]}, "line 6: kind must be that of a line, got ['meter']; the k"),
        (meter(1, "A", 1, pwoer=2), "line 6: a meter has no key 'pwoer'; did you mean 'power'?"),
        (meter(1, "A", 1, x=2), "line 6: a meter has no key 'x'; the keys are at, kind, station, "),
        ({"at": 1, "kind": "meter"}, "line 6: a meter must have the key 'station'"),
        (command(1, "A", 1, None), "line 6: a command must have the key 'limit'"),
        (command(-1, "A", 1, 1), "line 6: at must not go backwards, got -1 after 0 in line 5"),
        (command(True, "A", 1, 1), "line 6: at must be a finite number, got True"),
        (command("1", "A", 1, 1), "line 6: at must be a finite number, got '1'"),
        (
            '{"at": NaN, "kind": "boot", "station": "A"}',
            "line 6: at must be a finite number, got nan",
        ),
        (command(1, "A", 1, -1), "line 6: limit must be a number within 0..1e9 (kW), got -1"),
        (
            command(1, "A", 1, math.inf),
            "line 6: limit must be a number within 0..1e9 (kW), got inf",
        ),
        (
            command(1, "A", 1, 10**400),
            "line 6: limit must be a number within 0..1e9 (kW), got 1000",
        ),
        (
            command(1, "A", 1, 1, expires=math.inf),
            "line 6: expires must be a finite number, got in",
        ),
        (command(1, "A", -1, 1), "line 6: seq must be a whole number, at least 0, got -1"),
        (command(1, "A", 1.0, 1), "line 6: seq must be a whole number, at least 0, got 1.0"),
        (command(1, "A", True, 1), "line 6: seq must be a whole number, at least 0, got True"),
        (
            command(1, "", 1, 1),
            "line 6: station must be a non-empty string or a whole number, got ",
        ),
        (
            command(1, 1.5, 1, 1),
            "line 6: station must be a non-empty string or a whole number, got",
        ),
        (
            command(1, "Z", 1, 1),
            "line 6: station and connector must be those of a line of kind connector before, got "
            "'Z', '1'",
        ),
        (
            confirmation(1, "A", 1),
            "line 6: seq must be that of a command before (write the log, then send), got 1",
        ),
        (read_back(1, "A", 1, seq=1), "line 6: seq must be that of a command before (write the lo"),
        (meter(1, "A", -0.1), "line 6: power must be a number within 0..1e9 (kW), got -0.1"),
        (meter(1, "A", 1, measured_at="x"), "line 6: measured_at must be a finite number, got 'x'"),
        (
            {"at": 1, "kind": "offline", "station": "Z"},
            "line 6: station must be a charge station that has a line of kind connector, got 'Z'",
        ),
        (
            {"at": 1, "kind": "group", "group": "Q"},
            "line 6: the first line of group 'Q' must have the key 'maximum_capacity'",
        ),
        (group(maximum_capacity=2e9), "line 6: maximum_capacity must be a number within 0..1e9 ("),
        (group(buffer=1.1), "line 6: buffer must be a number within 0..1, got 1.1"),
        (group(reserved=-1), "line 6: reserved must be a number within 0..1e9 (kW), got -1"),
        (
            group(parent="P"),
            "line 6: parent must be neither the group itself nor below it, got 'P'",
        ),
        (group(parent="p"), "line 6: parent must be a group that has a line before, got 'p'"),
        (
            {"at": 1, "kind": "connector", "station": "C", "connector": 2, "group": "P"},
            "line 6: the first line of connector '2' of charge station 'C' must have the key "
            "'maximum_capacity'",
        ),
        (plug("C", group="PP"), "line 6: group must be a group that has a line before; did you me"),
        (plug("C", floor=23), "line 6: floor must be at most maximum_capacity, got 23 > 22"),
        (plug("C", ordered="yes"), "line 6: ordered must be true or false, got 'yes'"),
    ],
)
def test_a_malformed_line_is_refused(bad, sentence):
    with pytest.raises(InputError) as refusal:
        judged(bad)

    assert str(refusal.value).startswith(sentence)


def test_a_number_that_meant_another_limit_is_refused():
    with pytest.raises(InputError) as refusal:
        judged(command(1, "A", 1, 10), command(2, "A", 1, 4))

    assert str(refusal.value) == (
        "line 7: seq must be new, or repeat its command, got 1, which was seq 1 to A 1 (10 kW, "
        "sent at 1 s)"
    )


def test_a_circle_of_groups_is_refused():
    with pytest.raises(InputError, match="line 7: parent must be neither the group itself nor bel"):
        judged(group(group="Q", parent="P"), group(parent="Q"))


# Shortcuts: the traces of the model checker, as they happen to a sender that takes one

SHORTCUTS = {
    "floor not reserved": (
        {"account": FloorForgotten, "floors": (0, 1, 0)},
        [("target", {"A": 2}), ("fall_back", "B")],
        [],
    ),
    "only confirmed values counted": (
        {"account": OnlyConfirmedCounted},
        [("target", {"A": 1}), ("target", {"A": 0}), ("target", {"B": 2})],
        [UNCONFIRMED, LOST],
    ),
    "newest value believed": (
        {"account": NewestBelieved},
        [("target", {"A": 1}), ("target", {"A": 0}), ("target", {"B": 2}), ("wait", 3)],
        [Fate(arrivals=(3,)), LOST],
    ),
    "time-out treated as not applied": (
        {"account": TimeoutTakenForLost},
        [
            ("target", {"A": 1}),
            ("time_out", "A"),
            ("target", {"A": 0}),
            ("time_out", "A"),
            ("target", {"B": 2}),
        ],
        [UNCONFIRMED, LOST],
    ),
    "offline counted as 0": (
        {"account": OfflineTakenForZero},
        [("target", {"A": 2}), ("go_offline", "A"), ("target", {"A": 0}), ("target", {"B": 2})],
        [Fate(), LOST],
    ),
    "restart with confirmed values only": (
        {"account": OutstandingForgottenAtRestart},
        [("target", {"A": 1}), ("target", {"A": 0}), ("restart",), ("target", {"B": 2})],
        [UNCONFIRMED, LOST],
    ),
    "pending decrease counted as done": (
        {"account": PendingDecreaseTakenForDone},
        [("target", {"A": 2}), ("target", {"A": 0}), ("target", {"B": 2})],
        [Fate(), LOST],
    ),
    "no sequence number with reordering": (
        {"ordered": False},
        [("target", {"A": 1}), ("target", {"A": 0}), ("target", {"B": 2}), ("wait", 5)],
        [Fate(arrivals=(5,))],
    ),
    "confirmation on receipt, before the draw fell": (
        {"account": LagForgotten, "lag": 3},
        [("target", {"A": 2}), ("target", {"A": 0}), ("target", {"B": 2})],
        [],
    ),
    "lease without skew margin": (
        {"account": SkewForgotten, "life": 4, "skew": 1, "clocks": (1, 0, 0)},
        [("target", {"A": 2}), ("target", {"A": 0}), ("target", {"B": 2}), ("wait", 4)],
        [Fate(), LOST, LOST],
    ),
    "lease from receipt": (
        {"life": 4, "relative": True},
        [("target", {"A": 2}), ("target", {"A": 0}), ("target", {"B": 2}), ("wait", 4)],
        [Fate(arrivals=(3,)), LOST, LOST],
    ),
    "lease only for confirmed": (
        {"account": OnlyConfirmedCounted, "life": 9},
        [("target", {"A": 1}), ("target", {"A": 0}), ("target", {"B": 2})],
        [UNCONFIRMED, LOST],
    ),
}
# What a careful sender has in place of a shortcut.
CARE = {"account": Account, "ordered": True, "relative": False}


def played(script, fates, **options):
    world = World(fates=fates, **options)
    for what, *args in script:
        if args and isinstance(args[0], dict):
            getattr(world, what)(**args[0])
        else:
            getattr(world, what)(*args)
    return world


def verdict_on(world, skew=0, lag=0):
    return check_history(io.StringIO(world.log()), skew=skew, lag=lag)


@pytest.mark.parametrize("name", SHORTCUTS)
def test_a_shortcut_leads_above_the_capacity_and_is_found(name):
    options, script, fates = SHORTCUTS[name]

    world = played(script, fates, **options)
    verdict = verdict_on(world, options.get("skew", 0), options.get("lag", 0))

    assert world.excesses
    assert [v.rule for v in verdict.violations[:1]] == ["raise"]
    assert verdict.violations[0].at <= world.excesses[0][0]
    assert verdict.violations[0].messages[0].station == ("CS-A" if "floor" in name else "CS-B")
    assert verdict.breaches == ()


@pytest.mark.parametrize("name", SHORTCUTS)
def test_a_careful_sender_is_safe_where_a_shortcut_is_not(name):
    options, script, fates = SHORTCUTS[name]

    world = played(script, fates, **{**options, **CARE})
    verdict = verdict_on(world, options.get("skew", 0), options.get("lag", 0))

    assert world.excesses == []
    assert verdict.safe


# Whatever happens

KEYS = st.sampled_from("ABC")
DELAYS = st.sampled_from([0, 0, 1, 2, 3, 5, 9])
HOSTILE = st.lists(fates(DELAYS), max_size=30)


def steps(*more):
    return st.one_of(
        st.dictionaries(KEYS, st.integers(0, 3), min_size=1).map(lambda t: ("target", t)),
        st.integers(1, 6).map(lambda n: ("wait", n)),
        st.dictionaries(KEYS, st.just(0), min_size=1).map(lambda t: ("target", t)),
        st.tuples(
            st.sampled_from(["fall_back", "resume", "time_out", "go_offline", "refuse_next"]), KEYS
        ),
        st.tuples(st.sampled_from(["read_back", "meter"]), KEYS, DELAYS),
        st.just(("restart",)),
        *more,
    )


NEW_CAPACITY = st.tuples(
    st.just("set_capacity"), st.sampled_from(["hall", "site"]), st.integers(0, 4)
)


@st.composite
def worlds(draw, leases=True):
    """Options of a world whose floors fit."""
    floors = draw(st.sampled_from([(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 1)]))
    options = {
        "capacity": draw(st.integers(2, 4)),
        "site_capacity": draw(st.integers(2, 5)),
        "floors": floors,
        "maximum": draw(st.sampled_from([3, 9])),
        "lag": draw(st.sampled_from([0, 0, 2])),
        "unit": draw(st.sampled_from([1.0, 0.1, 7.36])),
    }
    if leases and draw(st.booleans()):
        options["life"] = draw(st.sampled_from([3, 9]))
        options["skew"] = skew = draw(st.sampled_from([0, 1, 2]))
        options["clocks"] = draw(st.tuples(*[st.integers(-skew, skew)] * 3))
    return options


MANY = settings(max_examples=4 * settings().max_examples)


@MANY
@given(worlds(), st.lists(steps(), max_size=25), HOSTILE)
def test_a_careful_sender_is_safe_under_any_fates_and_found_so(options, script, fates):
    world = played(script, fates, **options)

    verdict = verdict_on(world, options.get("skew", 0), options["lag"])

    assert world.excesses == []
    assert verdict.safe, str(verdict)
    # Only what was drawn before the stations' first words had to settle.
    assert {(above.since, above.why) for above in verdict.above} <= {(0, "configuration")}


@MANY
@given(
    worlds(),
    st.lists(steps(NEW_CAPACITY), max_size=25),
    HOSTILE,
    st.tuples(*[st.integers(0, 3)] * 3),
    st.booleans(),
)
def test_after_a_drop_and_before_the_first_word_a_careful_sender_raises_nothing(
    options, script, fates, limits, known
):
    world = played(script, fates, limits=limits, known=known, **options)

    verdict = verdict_on(world, options.get("skew", 0), options["lag"])

    assert verdict.safe, str(verdict)
    assert {above.why for above in verdict.above} <= {"capacity", "configuration", "station"}
    assert_found(world, verdict)


def assert_found(world, verdict):
    """Check that whenever the draw was above a usable capacity, the verdict says so."""
    for at, group, draw, _ in world.excesses:
        found = [
            above
            for above in verdict.above
            if above.group == group and above.since <= at <= (above.until or math.inf)
        ]
        assert found, (at, group, str(verdict))
        assert max(above.most for above in found) >= world.kw(draw) - 1e-6


@st.composite
def detours(draw, name):
    """Draw a shortcut's trace with anything in between, and fates that go on in any way."""
    options, script, fates = SHORTCUTS[name]
    between = st.lists(steps(), max_size=2)
    longer = [step for known in script for step in [*draw(between), known]]
    options = options | {"unit": draw(st.sampled_from([1.0, 0.1, 7.36]))}
    return options, longer + draw(st.lists(steps(), max_size=6)), fates + draw(HOSTILE)


@pytest.mark.parametrize("name", SHORTCUTS)
@given(st.data())
def test_whenever_the_draw_of_a_careless_sender_is_above_it_was_found(name, data):
    options, script, fates = data.draw(detours(name))

    world = played(script, fates, **options)
    verdict = verdict_on(world, options.get("skew", 0), options.get("lag", 0))

    event(f"above: {bool(world.excesses)}")
    assert_found(world, verdict)
    assert verdict.breaches == ()
    if world.excesses:
        assert any(v.at <= world.excesses[0][0] for v in verdict.violations)


@pytest.mark.parametrize("name", SHORTCUTS)
@given(st.data())
def test_a_careful_sender_is_not_accused_where_careless_ones_are(name, data):
    options, script, fates = data.draw(detours(name))

    world = played(script, fates, **{**options, **CARE})
    verdict = verdict_on(world, options.get("skew", 0), options.get("lag", 0))

    assert world.excesses == []
    assert verdict.safe, str(verdict)


class Fates:
    """Every state that a station can be in, whatever became of what it was sent.

    A state is the newest number that it took, and the sets of those that it took and rejected. It
    has the slowest clock that is allowed, and may fall back to its floor at any time.
    """

    def __init__(self, floor, skew):
        self.floor, self.skew, self.now = floor, skew, 0
        self.sent = {}
        self.states = {(0, frozenset([0]), frozenset())}
        self.sent[0] = (0, math.inf)

    def over(self, seq):
        return self.now - self.skew >= self.sent[seq][1]

    def spread(self):
        """Let each message arrive that may, be it taken or rejected."""
        waiting = list(self.states)
        while waiting:
            newest, taken, rejected = waiting.pop()
            for seq in self.sent:
                if seq <= newest or seq in rejected or self.over(seq):
                    continue
                for state in (
                    (seq, taken | {seq}, rejected),
                    (newest, taken, rejected | {seq}),
                ):
                    if state not in self.states:
                        self.states.add(state)
                        waiting.append(state)

    def answers(self, kind, seq):
        """Return whether a station may give an answer, and keep the states in which it may."""
        left = {
            (newest, taken, rejected)
            for newest, taken, rejected in self.states
            if {
                "confirmation": seq in taken,
                "rejection": seq in rejected,
                "read-back": newest == seq and not self.over(seq),
                "fallen back": newest == seq,
            }[kind]
        }
        self.states = left or self.states
        return bool(left)

    def most(self):
        """Return the largest limit that may be in force."""
        newest = {newest for newest, _, _ in self.states}
        return max([self.floor, *(self.sent[seq][0] for seq in newest if not self.over(seq))])


ANSWERS = st.tuples(
    st.sampled_from(["confirmation", "rejection", "read-back", "fallen back"]), st.integers(1, 4)
)
COMMANDS = st.tuples(st.just("command"), st.integers(0, 9), st.none() | st.integers(1, 6))


@settings(max_examples=8 * settings().max_examples)
@given(
    st.lists(st.tuples(st.integers(0, 2), COMMANDS | ANSWERS), max_size=12),
    st.sampled_from([0, 2]),
    st.sampled_from([0, 1]),
)
def test_what_is_committed_is_the_most_that_some_fate_leaves_in_force(happened, floor, skew):
    # B is raised by 1 mW after each line, in a group of 0 kW: the violation tells the sum.
    lines = [*SITE, group(maximum_capacity=0), plug("A", floor=floor)]
    station, expected = Fates(floor, skew), []
    for wait, (kind, number, *life) in happened:
        station.now += wait
        station.spread()
        seq = len(station.sent)
        if kind == "command":
            if seq > 4:
                continue
            expires = math.inf if life[0] is None else station.now + life[0]
            lease = {} if life[0] is None else {"expires": expires}
            station.sent[seq] = (number, expires)
            lines.append(command(station.now, "A", seq, number, **lease))
        elif number in station.sent and station.answers(kind, number):
            limit = {"read-back": station.sent[number][0], "fallen back": floor}.get(kind)
            if limit is None:
                lines.append(line(station.now, kind, "A", seq=number))
            else:
                lines.append(read_back(station.now, "A", limit, seq=number))
        station.spread()
        expected.append((float(station.now), station.most()))
        lines.append(command(station.now, "B", len(expected), len(expected) / 1e6))

    verdict = check_history(lines, skew=skew)

    assert raises(verdict, "B") == [
        (at, (most * 10**6 + i) / 10**6) for i, (at, most) in enumerate(expected, 1)
    ]
    assert verdict.breaches == ()


# The page and its examples

PAGE = Path(__file__).parent.parent / "docs" / "histories.md"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("history-lost-decrease.jsonl", {"skew": 5, "lag": 5}),
        ("history-leases.jsonl", {"skew": 5}),
    ],
)
def test_the_page_shows_what_is_said_of_the_examples(name, options):
    verdict = check_history(PAGE.parent / "examples" / name, **options)

    assert f"```text\n{verdict}\n```" in PAGE.read_text(encoding="utf-8")


def test_the_page_shows_the_log_of_the_example():
    log = (PAGE.parent / "examples" / "history-lost-decrease.jsonl").read_text(encoding="utf-8")

    assert f"```json\n{log}```" in PAGE.read_text(encoding="utf-8")


def test_the_leases_of_the_example_take_a_clock_that_is_right_to_five_seconds():
    assert not check_history(PAGE.parent / "examples" / "history-leases.jsonl", skew=6).safe


def test_the_page_has_a_row_for_every_kind_with_all_its_keys():
    rows = [line.split("|")[1:] for line in PAGE.read_text(encoding="utf-8").splitlines()]
    found = {
        kind: (re.findall("`([a-z_]+)`", row[1]), re.findall("`([a-z_]+)`", row[2]))
        for row in rows
        if len(row) > 3
        for kind in re.findall("`([a-z-]+)`", row[0])
        if kind != "kind"
    }

    assert found == {kind: tuple(map(list, keys)) for kind, keys in KINDS.items()}
