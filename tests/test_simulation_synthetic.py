"""Synthetic fleets, and the sites that sessions tell of."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattfill.errors import InputError, InputTypeError
from wattfill.simulation import Sessions
from wattfill.simulation.readers.clock import find_zone, to_local
from wattfill.simulation.sites import site_of_sessions
from wattfill.simulation.synthetic import KINDS, generate, synthetic_site

COLUMNS = ("arrival", "departure", "energy", "maximum", "battery", "soc")
HOUR = 3_600_000
kinds = pytest.mark.parametrize("kind", KINDS)


def hours_of_day(sessions, zone):
    local = to_local(sessions.arrival * 1000, find_zone(zone)) // 1000
    return local % (24 * HOUR) / HOUR


@given(
    kind=st.sampled_from(list(KINDS)),
    seed=st.integers(0, 2**64),
    start=st.integers(0, 50),
    connectors=st.integers(1, 9),
    zone=st.sampled_from(["UTC", "Europe/Oslo"]),
)
def test_a_group_depends_on_the_seed_and_its_number_alone(kind, seed, start, connectors, zone):
    options = {"connectors": connectors, "days": 9, "seed": seed, "time_zone": zone}
    many = generate(kind, groups=range(start, start + 3), **options)

    alone = generate(kind, groups=range(start + 1, start + 2), **options)

    there = many.group == 1
    assert alone.groups == many.groups[1:2]
    for name in COLUMNS:
        assert np.array_equal(getattr(alone, name), getattr(many, name)[there])
    if alone.connector is not None:
        assert [alone.connectors[i] for i in alone.connector] == [
            many.connectors[i] for i in many.connector[there]
        ]


def test_another_seed_makes_another_fleet():
    one, other = (generate("public", groups=1, days=3, seed=seed) for seed in (0, 1))

    assert not np.array_equal(one.arrival, other.arrival)


@kinds
def test_sessions_are_such_as_can_be(kind):
    sessions = generate(kind, groups=4, connectors=25, days=60, seed=5, time_zone="Europe/London")

    assert (sessions.departure > sessions.arrival).all()
    assert (sessions.energy > 0).all()
    assert ((sessions.soc >= 0.05) & (sessions.soc < 1)).all()
    # What is wanted has room in the battery.
    assert (sessions.soc + sessions.energy / sessions.battery <= 1 + 1e-9).all()
    same_group = sessions.group[1:] == sessions.group[:-1]
    assert (np.diff(sessions.arrival)[same_group] >= 0).all()
    assert (np.diff(sessions.group) >= 0).all()


@pytest.mark.parametrize("kind", ["depot", "residential"])
def test_nobody_comes_to_a_connector_of_their_own_while_they_are_there(kind):
    sessions = generate(kind, groups=3, connectors=40, days=100, seed=2)

    order = np.lexsort((sessions.arrival, sessions.connector))
    same = np.diff(sessions.connector[order]) == 0
    assert (sessions.arrival[order][1:] >= sessions.departure[order][:-1])[same].all()


# Per kind: by what hours most arrive, how many of 100 arrive on weekends, and the ranges in which
# the medians of energy (kWh) and of stays (hours) lie.
USE = {
    "workplace": ((6, 12), (0, 5), (7, 12), (6, 9)),
    "public": ((8, 20), (22, 32), (8, 13), (0.5, 2.5)),
    "depot": ((13, 20), (1, 6), (18, 30), (11, 15)),
    "residential": ((15, 24), (24, 32), (6, 12), (10, 14)),
}


@kinds
def test_a_kind_is_used_as_is_known_of_it(kind):
    (begin, end), weekends, energy, stay = USE[kind]

    sessions = generate(kind, groups=20, connectors=20, days=364, seed=1, time_zone="Europe/London")

    hours = hours_of_day(sessions, "Europe/London")
    assert ((hours >= begin) & (hours < end)).mean() > 0.8
    weekday = (sessions.arrival // (24 * HOUR) + 3) % 7
    assert weekends[0] <= 100 * (weekday >= 5).mean() <= weekends[1]
    assert energy[0] <= np.median(sessions.energy) <= energy[1]
    assert stay[0] <= np.median(sessions.departure - sessions.arrival) / HOUR <= stay[1]


@kinds
def test_people_live_by_the_wall_clock_of_their_zone(kind):
    # 2026 has summer time from 29 March to 25 October.
    options = {"groups": 1, "days": 365, "start": "2026-01-01", "seed": 3}
    one, other = (generate(kind, time_zone=zone, **options) for zone in ("UTC", "Europe/Oslo"))

    ahead = (one.arrival - other.arrival) / HOUR

    summer = np.array(["2026-03-29T01:00", "2026-10-25T01:00"], "M8[ms]").astype(np.int64)
    is_summer = (other.arrival >= summer[0]) & (other.arrival < summer[1])
    assert (ahead == np.where(is_summer, 2, 1)).mean() > 0.999


def test_more_demand_is_more_sessions():
    one, twice = (len(generate("public", groups=5, demand=demand)) for demand in (1, 2))

    assert 1.9 < twice / one < 2.1


@kinds
def test_a_site_has_what_its_sessions_name(kind):
    options = {"groups": range(3, 6), "connectors": 4}
    sessions = generate(kind, days=30, **options)

    site = synthetic_site(kind, buffer=0.1, policy="rotate", **options)

    assert site.groups == sessions.groups
    assert set(sessions.connectors) <= set(site.connectors)
    assert len(site.connectors) == 12
    assert site.capacity.tolist() == [0.45 * 4 * KINDS[kind].connector[1]] * 3
    assert site.policy == ("rotate",) * 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"kind": "airport"},
            "kind must be one of workplace, public, depot, residential, got 'air",
        ),
        ({"groups": 0}, "groups must be at least 1, got 0"),
        ({"groups": range(3, 3)}, r"groups must be a number or a range from 0 up, got range\(3, 3"),
        ({"groups": range(-2, 3)}, "groups must be a number or a range from 0 up, got range"),
        ({"connectors": 0}, "connectors must be at least 1, got 0"),
        ({"days": 0}, "days must be at least 1, got 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"demand": 0.0}, "demand must be above 0 and finite, got 0.0"),
        ({"demand": np.inf}, "demand must be above 0 and finite, got inf"),
        ({"start": "tomorrow"}, "start must be a day such as 2026-03-02, got 'tomorrow'"),
        ({"start": "0014-03-02"}, "start must be a day from 1970 to 2134, got '0014-03-02'"),
        ({"time_zone": "Mars"}, "time_zone must be a name of the tz database"),
    ],
)
def test_what_makes_no_fleet_is_refused(options, said):
    with pytest.raises(InputError, match=said):
        generate(**({"kind": "workplace", "groups": 1, "days": 1} | options))


def test_numbers_that_are_none_are_refused():
    with pytest.raises(InputTypeError, match=r"days must be a whole number, got 1\.5"):
        generate("workplace", groups=1, days=1.5)


# Sites that sessions tell of


def sessions_at(*places, **columns):
    groups, stations, plugs = zip(*places, strict=True)
    n = len(places)
    return Sessions.of(
        group=groups, station=stations, connector=plugs,
        arrival=np.zeros(n, np.int64), departure=np.ones(n, np.int64), energy=np.ones(n), **columns,
    )  # fmt: skip


def test_a_site_has_the_groups_and_connectors_that_sessions_name():
    sessions = sessions_at(("b", "CS-2", "1"), ("a", "CS-1", "2"), ("b", "CS-3", ""),
                           ("b", "CS-2", ""), maximum=[np.inf, 7.4, np.inf, 50])  # fmt: skip

    site, same, moved = site_of_sessions(
        sessions, capacity=30, maximum=22, minimum=1.4, buffer=0.1, policy="most", rotation=60
    )

    assert site.groups == ("b", "a")
    assert site.connectors == (("CS-2", "1"), ("CS-3", "1"), ("CS-1", "2"))
    assert site.owner.tolist() == [0, 0, 1]
    assert site.connector_maximum.tolist() == [22, 22, 7.4]
    assert site.connector_minimum.tolist() == [1.4] * 3
    assert site.capacity.tolist() == [30, 30]
    assert site.buffer.tolist() == [0.1, 0.1]
    assert (site.policy, site.rotation.tolist()) == (("most",) * 2, [60, 60])
    assert (same.group.tolist(), moved) == ([0, 1, 0, 0], 0)


def test_a_station_is_where_most_of_its_rows_put_it_or_the_first_of_equals():
    sessions = sessions_at(
        ("Mill St", "CS-1", "1"), ("Mill Street", "CS-1", "1"), ("Mill Street", "CS-1", "2"),
        ("Yard", "CS-2", "1"), ("yard", "CS-2", "1"),
    )  # fmt: skip

    site, same, moved = site_of_sessions(sessions, capacity=30, maximum=22)

    assert site.groups == ("Mill Street", "Yard")
    assert [same.groups[g] for g in same.group] == ["Mill Street"] * 3 + ["Yard"] * 2
    assert moved == 2


def test_groups_get_connectors_for_those_who_name_none():
    sessions = sessions_at(("a", "", ""), ("a", "", ""), ("b", "CS-1", "1"))

    site, _, _ = site_of_sessions(sessions, capacity=30, maximum=22, connectors=2)

    assert site.connectors == (("a", "1"), ("a", "2"), ("CS-1", "1"))


def test_without_connectors_there_must_be_a_number_of_them():
    with pytest.raises(InputError, match=r"connectors must say how many .* since 1 sessions name"):
        site_of_sessions(sessions_at(("a", "", "")), capacity=30, maximum=22)


def test_without_groups_there_is_no_site():
    with pytest.raises(InputError, match="sessions must name a group each where no site is given"):
        site_of_sessions(sessions_at(("", "CS-1", "1")), capacity=30, maximum=22)
