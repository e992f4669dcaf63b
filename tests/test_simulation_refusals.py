"""What a simulation refuses, in which words; and what it takes in its stead."""

import re
from typing import Any

import numpy as np
import pytest

from wattfill import Connector, InputError, InputTypeError, Registry
from wattfill.simulation import Schedule, Sessions, Site, Taper, compare, faults, simulate, sweep

NAN, INF = float("nan"), float("inf")


def yard(**group: Any) -> Site:
    """Return a group "yard" of two charge stations, and a group "lot" of one."""
    r = Registry()
    r.create_group("", 40, 1.4, id="yard", **group)
    r.create_group("", 40, id="lot")
    r.add_charge_station("yard", "A", [Connector("1", 22), Connector("2", 22)])
    r.add_charge_station("yard", "B", [Connector("1", 11)])
    r.add_charge_station("lot", "C", [Connector("1", 11)])
    return Site.of(r)


SITE = yard()
GOOD: dict[str, Any] = {
    "arrival": [0, 1000, 2000],
    "departure": [5000, 6000, 7000],
    "energy": [1.0, 2.0, 3.0],
    "group": ["yard", "yard", "lot"],
}
PLUGS = {"group": None, "station": ["A", "A", "A"], "connector": ["1", "1", "1"]}


def sessions(**columns: Any) -> Sessions:
    return Sessions.of(**{k: v for k, v in (GOOD | columns).items() if v is not None})


REFUSED_ROWS = [
    (
        {"departure": [5000, 999, 1999]},
        "sessions[1]: departure must not be before arrival, got 1970-01-01T00:00:00.999 before "
        "1970-01-01T00:00:01.000 (2 of 3 sessions): correct them, or leave out the rows that "
        "wattfill.simulation.faults finds",
    ),
    (
        {"arrival": [0, -(10**15), 0]},
        "sessions[1]: arrival must be within the years 1 to 9999, in ms since 1970, got "
        "-1000000000000000 (1 of 3 sessions)",
    ),
    (
        {"energy": [1, -2, NAN]},
        "sessions[1]: energy must be at least 0 and below 1e+06 kWh, got -2.0 (2 of 3 sessions)",
    ),
    ({"energy": [1, 2, 1e6]}, "sessions[2]: energy must be at least 0 and below 1e+06 kWh"),
    ({"maximum": [7, NAN, 7]}, "sessions[1]: maximum must be at least 0, got nan (1 of 3"),
    ({"minimum": [0, 0, INF]}, "sessions[2]: minimum must be finite and at least 0, got inf"),
    ({"weight": [1, 0, 1]}, "sessions[1]: weight must be above 0 (within 1e-100..1e+100), got 0.0"),
    (
        {"battery": [NAN, 0.0, 50.0], "soc": [NAN, 0.5, 0.5]},
        "sessions[1]: battery must be above 0 and below 1e+06 kWh, or NaN, got 0.0 (1 of 3",
    ),
    (
        {"battery": [NAN, 50.0, 50.0], "soc": [NAN, 0.5, 1.01]},
        "sessions[2]: soc must be within 0.0..1.0 where there is a battery, got 1.01 (1 of 3",
    ),
    ({"battery": [NAN, 50.0, 50.0]}, "sessions[1]: soc must be given with battery, got none (2"),
    (
        {"group": ["yard", "yrad", "yard"]},
        "sessions[1]: group must be a group of the site, got 'yrad' (1 of 3 sessions)",
    ),
    (
        {"group": ["yard", "", "yard"]},
        "sessions[1]: group must be given where connector is not, got neither (1 of 3 sessions)",
    ),
    ({"group": None}, "sessions[0]: group must be given where connector is not, got neither (3"),
    (
        {"station": ["", "B", "D"], "connector": ["", "1", ""]},
        "sessions[2]: connector must be one of the site, got charge station 'D' (1 of 3",
    ),
    (
        {"station": ["", "B", ""], "connector": ["", "2", ""]},
        "sessions[1]: connector must be one of the site, got connector ('B', '2') (1 of 3",
    ),
    (
        {"station": ["", "C", ""], "connector": ["", "1", ""]},
        "sessions[1]: group must be that of the connector, got 'yard' for one in 'lot' (1 of 3",
    ),
    (
        PLUGS,
        "sessions[1]: arrival must not be before the session before it at connector ('A', '1') has "
        "ended, got 1970-01-01T00:00:01.000 before 1970-01-01T00:00:05.000 (2 of 3 sessions)",
    ),
    (
        {"energy": [-1, 2, 3], "weight": [1, 0, 0]},
        "sessions[0]: energy must be at least 0 and below 1e+06 kWh, got -1.0 (1 of 3 sessions; 2 "
        "more with other faults)",
    ),
    ({"energy": [-1, 2, 3], "row": [7, 8, 9]}, "row 7: energy must be at least 0"),
]


@pytest.mark.parametrize(("columns", "message"), REFUSED_ROWS)
def test_rows_that_break_a_rule_are_refused(columns, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        simulate(sessions(**columns), SITE)


@pytest.mark.parametrize(("columns", "message"), REFUSED_ROWS)
def test_without_the_rows_at_fault_the_others_run(columns, message):
    table = sessions(**columns)
    bad = np.unique(np.concatenate([fault.rows for fault in faults(table, SITE)]))

    kept = table.take(np.setdiff1d(np.arange(3), bad))

    assert bad.size > 0
    assert list(faults(kept, SITE)) == []
    assert len(simulate(kept, SITE).delivered) == 3 - bad.size


def test_of_overlapping_sessions_those_are_at_fault_that_come_before_the_one_kept_has_left():
    # The first lasts until 50; the second and the third come before that, the fourth then.
    table = Sessions.of(
        station=["A"] * 4 + ["B"],
        connector=["1"] * 5,
        arrival=[0, 10, 40, 50, 0],
        departure=[50, 20, 100, 60, 100],
        energy=[1.0] * 5,
    )

    (fault,) = faults(table, SITE)

    assert (fault.column, fault.rows.tolist()) == ("arrival", [1, 2])


def test_sessions_that_follow_each_other_at_once_do_not_overlap():
    table = Sessions.of(
        station=["A"] * 3, connector=["1"] * 3, arrival=[50, 0, 60], departure=[60, 50, 60],
        energy=[1.0] * 3,
    )  # fmt: skip

    assert list(faults(table, SITE)) == []


TABLES_REFUSED = [
    (Sessions, {"departure": [1, 2]}, InputError, "departure must have one value per session"),
    (Sessions, {"energy": ["a"]}, InputTypeError, "energy must be real numbers"),
    (Sessions, {"arrival": [0.5]}, InputTypeError, "arrival must be times: datetime64, or whole"),
    (
        Sessions,
        {"arrival": np.array(["NaT"], "datetime64[ms]")},
        InputError,
        "arrival must be times, got arrival[0] = NaT",
    ),
    (Sessions, {"group": [2**31]}, InputError, "group must fit into 32 bits with a sign"),
    (Taper, {"soc": (0.5,)}, InputError, "soc and fraction must have the same length, got 1 and 4"),
    (
        Taper,
        {"soc": (0.5, 0.5), "fraction": (1, 1)},
        InputError,
        "soc must rise within 0.0..1.0, got soc[1] = 0.5",
    ),
    (
        Taper,
        {"soc": (0.5,), "fraction": (0.0,)},
        InputError,
        "fraction must be above 0 and at most 1, got fraction[0] = 0.0",
    ),
    (
        Taper,
        {"soc": tuple(np.linspace(0, 1, 17)), "fraction": (1.0,) * 17},
        InputError,
        "soc must have at most 16 values, got 17",
    ),
    (
        Schedule,
        {"at": [0, 1], "group": [0, 1], "groups": ["yard"]},
        InputError,
        "group must be a place in `groups`, got group[1] = 1 (1 of 2 values)",
    ),
    (
        Schedule,
        {"at": [0], "group": [0], "capacity": [-1.0], "groups": ["yard"]},
        InputError,
        "capacity must be at least 0 and below 2.2518e+09 kW, or NaN, got capacity[0] = -1.0",
    ),
    (
        Schedule,
        {"at": [0], "group": [0], "reserved": [INF], "groups": ["yard"]},
        InputError,
        "reserved must be finite and at least 0, or NaN, got reserved[0] = inf",
    ),
]


@pytest.mark.parametrize(("table", "columns", "error", "message"), TABLES_REFUSED)
def test_columns_that_are_none_are_refused(table, columns, error, message):
    whole = {"arrival": [0], "departure": [1], "energy": [1.0]} if table is Sessions else {}

    with pytest.raises(error, match=f"^{re.escape(message)}"):
        table(**whole | columns)


def test_a_connector_without_its_station_is_refused():
    with pytest.raises(InputError, match=r"^connector must come with station: its id is unique"):
        Sessions.of(connector=["1"], arrival=[0], departure=[1], energy=[1.0])


def test_as_many_stations_as_connectors_are_needed():
    with pytest.raises(
        InputError, match=r"^station and connector must have the same length, got 2"
    ):
        Sessions.of(station=["A", "B"], connector=["1"], arrival=[0], departure=[1], energy=[1.0])


SITES_REFUSED = [
    ({"capacity": [1.0, NAN]}, "capacity must be finite and at least 0, got capacity[1] = nan"),
    ({"buffer": [0.0, 2.0]}, "buffer must be within 0.0..1.0, got buffer[1] = 2.0"),
    ({"reserved": [-1.0, 2.0]}, "reserved must be finite and at least 0, got reserved[0] = -1.0"),
    ({"minimum": [0.0, NAN]}, "minimum must be finite and at least 0, got minimum[1] = nan"),
    ({"policy": ("fifo",)}, "policy must have one value per group, got 1 for 2 groups"),
    (
        {"policy": ("fifo", "lifo")},
        "policy must be one of 'fifo', 'rotate' and 'most', got policy[1] = 'lifo'",
    ),
    ({"groups": ("a", "a")}, "groups must differ from each other, got 'a' twice"),
    (
        {"connectors": (("A", "1"),) * 4},
        "connectors must differ from each other, got ('A', '1') twice",
    ),
    (
        {"parent": [1, -1]},
        "parent must stand before what is below it, and every tree together, got parent[0] = 1",
    ),
    ({"owner": [0, 0, 0, 2]}, "owner must be the place of a group, got owner[3] = 2"),
    (
        {"owner": [0, 1, 0, 1]},
        "owner must not fall: connectors stand in the order of their groups, got owner[2] = 0 "
        "after 1",
    ),
    (
        {"minimum": [12.0, 0.0]},
        "connector_maximum must be at least the effective minimum, got connector_maximum[0] = 11.0 "
        "< 12.0 (1 of 4 connectors)",
    ),
    (
        {"connector_maximum": [22.0, INF, 11, 11]},
        "connector_maximum must be finite and at least 0, got connector_maximum[1] = inf",
    ),
]


@pytest.mark.parametrize(("columns", "message"), SITES_REFUSED)
def test_sites_that_break_a_rule_are_refused(columns, message):
    columns = {name: getattr(SITE, name) for name in SITE.__slots__} | columns

    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        Site(**columns)


def test_trees_that_are_not_together_are_refused():
    # Group 2 is below group 0, but a tree of its own stands between them.
    three = {
        name: np.zeros(3) for name in ("capacity", "buffer", "reserved", "minimum", "rotation")
    }

    with pytest.raises(InputError, match=r"^parent must stand .* got parent\[2\] = 0$"):
        Site(
            groups=("a", "b", "c"), parent=[-1, -1, 0], policy=("fifo",) * 3, **three,
            connectors=(), owner=[], connector_minimum=[], connector_maximum=[],
        )  # fmt: skip


ARGUMENTS_REFUSED = [
    ({"strategy": "lifo"}, InputError, "strategy must be one of wattfill, fifo, rotate, most"),
    ({"site": Registry()}, InputTypeError, "site must be a Site, got Registry"),
    ({"sessions": []}, InputTypeError, "sessions must be a Sessions, got list"),
    ({"taper": (0.8,)}, InputTypeError, "taper must be a Taper, got tuple"),
    ({"schedule": {}}, InputTypeError, "schedule must be a Schedule, got dict"),
    ({"curves": "all"}, InputError, "curves must be 'groups', 'sessions' or None, got 'all'"),
    ({"threads": 0}, InputError, "threads must be a whole number, at least 1, or None, got 0"),
    (
        {"period": (7000, 0)},
        InputError,
        "period must not end before it starts, got 1970-01-01T00:00:07.000 to",
    ),
    (
        {"period": (1000, 9000)},
        InputError,
        "period must have all sessions in it, got 1970-01-01T00:00:01.000 to "
        "1970-01-01T00:00:09.000 for 1970-01-01T00:00:00.000 to 1970-01-01T00:00:07.000 (1 of 3 "
        "sessions lie outside): make it longer, or leave them out",
    ),
    (
        {"schedule": Schedule(at=[0], group=[0], groups=["yrad"])},
        InputError,
        "schedule.groups must be groups of the site, got 'yrad'",
    ),
    (
        {"site": yard(policy="rotate", rotation=0.0015)},
        InputError,
        "rotation must be a whole number of milliseconds, in seconds, got rotation[1] = 0.0015",
    ),
]


@pytest.mark.parametrize(("arguments", "error", "message"), ARGUMENTS_REFUSED)
def test_arguments_that_make_no_sense_are_refused(arguments, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        simulate(**{"sessions": sessions(), "site": SITE} | arguments)


def test_a_connector_of_a_gigawatt_is_refused():
    r = Registry()
    r.create_group("", 40, id="yard")
    r.add_charge_station("yard", "A", [Connector("1", 1e6), Connector("2", 1e6 + 1)])

    with pytest.raises(InputError, match=r"^connector_maximum must be at most 1e\+06 kW, got"):
        simulate(Sessions([], [], []), Site.of(r))


@pytest.mark.parametrize(
    ("varied", "message"),
    [
        ({"capacity": [-1.0]}, "capacity must be finite and at least 0, got -1.0"),
        ({"buffer": [1.5]}, "buffer must be within 0.0..1.0, got 1.5"),
        ({"connectors": [NAN]}, "connectors must be finite and at least 0, got nan"),
    ],
)
def test_sweeps_of_what_cannot_be_are_refused(varied, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        sweep(sessions(), SITE, **varied)


def test_a_strategy_that_is_not_there_is_not_compared():
    with pytest.raises(InputError, match=r"^strategy must be one of"):
        compare(sessions(), SITE, strategies=["fifo", "lifo"])
