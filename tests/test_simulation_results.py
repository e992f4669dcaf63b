"""What comes out of a simulation, worked by hand; and the tables, curves and files of it."""

import subprocess
import sys

import numpy as np
import polars
import pyarrow as pa
import pyarrow.parquet
import pytest

from wattfill import Connector, InputError, Registry, UnknownIdError
from wattfill.simulation import (
    ANY_CONNECTOR,
    Curve,
    Schedule,
    Sessions,
    Site,
    Table,
    Taper,
    compare,
    simulate,
    sweep,
)

HOUR = 3_600_000


def yard(capacity=22.0, plugs=3, maximum=11.0, **group):
    r = Registry()
    r.create_group("", capacity, id="yard", **group)
    for i in range(plugs):
        r.add_charge_station("yard", f"CS-{i + 1}", [Connector("1", maximum)])
    return Site.of(r)


def come(*rows, **columns):
    """Return sessions at the yard from (arrival, departure, energy), in hours and kWh."""
    arrival, departure, energy = zip(*rows, strict=True)
    return Sessions.of(
        group=["yard"] * len(rows),
        arrival=[round(at * HOUR) for at in arrival],
        departure=[round(at * HOUR) for at in departure],
        energy=energy,
        **columns,
    )


def hours(curve):
    return list(zip((curve.at / HOUR).tolist(), curve.power.tolist(), strict=True))


# What happens


def test_who_is_full_leaves_power_to_the_others_and_keeps_the_connector():
    # Two share 11 kW until 1:00, when the first has its 5.5 kWh; the third finds no connector.
    sessions = come((0, 4, 5.5), (0, 4, 16.5), (1, 2, 1.0))

    result = simulate(sessions, yard(11.0, plugs=2), curves="sessions")

    assert result.connector.tolist() == [0, 1, -1]
    assert hours(result.session_curve(0)) == [(0, 5.5), (1, 0)]
    assert hours(result.session_curve(1)) == [(0, 5.5), (1, 11), (2, 0)]
    assert result.sessions["turned_away"].tolist() == [False, False, True]


def test_in_its_last_millisecond_a_battery_draws_what_is_left():
    # 10 microjoules at 3 mW: three milliseconds of 3, and one of 1.
    sessions = Sessions.of(group=["yard"], arrival=[0], departure=[9], energy=[10 / 3.6e12])

    result = simulate(sessions, yard(maximum=0.000003), curves="groups")

    curve = result.curve("yard")
    assert list(zip(curve.at.tolist(), curve.quanta.tolist(), strict=True)) == [
        (0, 3),
        (3, 1),
        (4, 0),
    ]
    assert result.full_at.tolist() == [4]


def test_the_first_free_connector_is_taken_and_departures_come_before_arrivals():
    sessions = come((0, 2, 1.0), (0, 1, 1.0), (1, 3, 1.0), (1, 3, 1.0), (1, 3, 1.0))

    result = simulate(sessions, yard())

    assert result.connector.tolist() == [0, 1, 1, 2, -1]


def test_any_connector_of_a_station_will_do_and_a_named_one_may_be_taken():
    r = Registry()
    r.create_group("", 50, id="yard")
    r.add_charge_station("yard", "A", [Connector("1", 11), Connector("2", 11)])
    r.add_charge_station("yard", "B", [Connector("1", 11)])
    sessions = Sessions.of(
        group=["yard", "", "", "", "yard"],
        station=["", "A", "A", "B", ""],
        connector=["", ANY_CONNECTOR, "1", "1", ""],
        arrival=[0, 1, 2, 3, 4],
        departure=[9, 9, 9, 9, 9],
        energy=[1.0] * 5,
    )

    result = simulate(sessions, Site.of(r))

    # The third wants A's first connector, which the first has taken, and there is no fourth one.
    assert result.connector.tolist() == [0, 1, -1, 2, -1]
    assert result.sessions["group"].tolist() == ["yard"] * 5
    assert result.sessions["station"].tolist() == ["A", "A", "", "B", ""]


def test_who_leaves_as_it_comes_needs_a_free_connector_and_takes_none():
    sessions = come((1, 1, 5.0), (1, 1, 0.0), (1, 3, 5.0))

    result = simulate(sessions, yard(plugs=1))

    assert result.connector.tolist() == [0, 0, 0]
    assert result.sessions["energy_kwh"].tolist() == [0.0, 0.0, 5.0]
    assert result.sessions["share"].tolist() == [0.0, 1.0, 1.0]


def test_a_taper_slows_down_and_a_battery_takes_no_more_than_it_holds():
    # 40 kWh from 50 %: 12 kWh at 20 kW up to 80 %, 8 kWh at half of that, of 30 kWh wanted.
    sessions = come((0, 4, 30.0), maximum=[20.0], battery=[40.0], soc=[0.5])

    result = simulate(
        sessions, yard(50.0, maximum=22.0), taper=Taper((0.8,), (0.5,)), curves="groups"
    )

    assert hours(result.curve("yard")) == [(0, 20), (0.6, 10), (1.4, 0)]
    assert result.sessions["share"].tolist() == [20 / 30]
    assert result.groups["unmet_kwh"].tolist() == [10.0]


def test_a_taper_does_not_go_below_the_minimum():
    sessions = come((0, 4, 20.0), maximum=[10.0], battery=[20.0], soc=[0.0])
    taper = Taper((0.5,), (0.1,))

    result = simulate(sessions, yard(minimum_connector_capacity=5.0), taper=taper, curves="groups")

    assert [power for _, power in hours(result.curve("yard"))] == [10, 5, 0]


def test_a_vehicle_that_needs_more_than_its_connector_has_waits_for_nothing():
    sessions = come((0, 2, 5.0), (0, 2, 5.0), minimum=[12.0, 0.0])

    result = simulate(sessions, yard())

    assert result.sessions["energy_kwh"].tolist() == [0.0, 5.0]
    assert result.sessions["paused_hours"].tolist() == [2.0, 0.0]


def test_two_who_do_not_fit_take_turns():
    sessions = come((0, 1, 50.0), (0, 1, 50.0))
    site = yard(11.0, minimum_connector_capacity=6.0, policy="rotate", rotation=900)

    result = simulate(sessions, site, curves="sessions")

    assert hours(result.session_curve(0)) == [(0, 11), (0.25, 0), (0.5, 11), (0.75, 0)]
    assert result.sessions["paused_hours"].tolist() == [0.5, 0.5]
    assert result.groups["limiting_hours"].tolist() == [1.0]


def test_who_was_served_in_a_turn_in_which_nothing_happened_lets_a_newcomer_go_first():
    # The first never fits. The second is served alone for two turns, and then the third comes.
    sessions = come((0, 1, 50.0), (0, 1, 50.0), (0.5, 1, 50.0), minimum=[30.0, 6.0, 6.0])
    site = yard(11.0, maximum=32.0, policy="rotate", rotation=900)

    result = simulate(sessions, site, curves="sessions")

    assert hours(result.session_curve(1)) == [(0, 11), (0.5, 0), (0.75, 11), (1, 0)]
    assert hours(result.session_curve(2)) == [(0.5, 11), (0.75, 0)]


def test_a_newcomer_has_not_been_served_whoever_was_at_its_connector():
    # The third comes to the connector that the first was served at, and waits for the next turn.
    sessions = come((0, 0.1, 50.0), (0.05, 0.5, 50.0), (0.15, 0.5, 50.0), minimum=[6.0, 6.0, 6.0])
    site = yard(11.0, plugs=2, policy="rotate", rotation=900)

    result = simulate(sessions, site, curves="sessions")

    assert result.connector.tolist() == [0, 1, 0]
    assert hours(result.session_curve(1)) == [(0.1, 11), (0.25, 0)]
    assert hours(result.session_curve(2)) == [(0.25, 11), (0.5, 0)]


def test_most_admits_who_needs_least_first():
    sessions = come((0, 1, 50.0), (0, 1, 50.0), (0, 1, 50.0), minimum=[8.0, 6.0, 4.0])

    by_arrival, by_need = (
        simulate(sessions, yard(11.0), strategy=strategy).sessions["energy_kwh"].tolist()
        for strategy in ("fifo", "most")
    )

    assert by_arrival == [11.0, 0.0, 0.0]
    assert by_need == [0.0, 6.0, 5.0]


def test_a_building_that_takes_more_leaves_less():
    schedule = Schedule(at=[HOUR, 2 * HOUR], group=[0, 0], reserved=[15.0, 0.0], groups=("yard",))

    result = simulate(come((0, 3, 30.0)), yard(20.0), schedule=schedule, curves="groups")

    assert hours(result.curve("yard")) == [(0, 11), (1, 5), (2, 11), (3, 0)]
    assert hours(result.limit("yard")) == [(0, 20), (1, 5), (2, 20)]
    assert result.groups["limiting_hours"].tolist() == [1.0]


def test_without_control_a_limit_is_passed_and_it_is_said_by_how_much():
    schedule = Schedule(at=[HOUR], group=[0], capacity=[30.0], groups=("yard",))

    result = simulate(
        come((0, 2, 50.0), (0, 2, 50.0)), yard(20.0), schedule=schedule, strategy="uncontrolled"
    )

    (row,) = result.groups.to_dicts()
    assert (row["over_hours"], row["over_kw"], row["peak_kw"]) == (1.0, 2.0, 22.0)


def test_an_equal_split_leaves_unused_what_nobody_takes_and_pauses_whom_it_cannot_sustain():
    # 30 kW by three connectors.
    sessions = come((0, 1, 50.0), (0, 1, 50.0), minimum=[0.0, 10.5])

    result = simulate(sessions, yard(30.0), strategy="equal", curves="sessions")

    assert hours(result.session_curve(0)) == [(0, 10), (1, 0)]
    assert result.delivered[1] == 0


def test_who_came_first_is_served_first():
    sessions = come((0.5, 2, 50.0), (0, 2, 50.0), (1, 2, 50.0), minimum=[0.0, 0.0, 6.0])

    result = simulate(sessions, yard(15.0), strategy="first-come", curves="sessions")

    assert hours(result.session_curve(0)) == [(0.5, 4), (2, 0)]
    assert hours(result.session_curve(1)) == [(0, 11), (2, 0)]
    assert hours(result.session_curve(2)) == []


def test_a_percentile_is_by_time():
    # Of twenty hours nineteen have at most 5 kW.
    sessions = come((0, 19, 95.0), (19, 20, 11.0), maximum=[5.0, 11.0])

    result = simulate(sessions, yard())

    (row,) = result.groups.to_dicts()
    assert (row["p95_kw"], row["peak_kw"], row["mean_kw"]) == (5.0, 11.0, 5.3)


def test_shares_of_time_are_of_the_period_that_is_asked_for():
    result = simulate(come((0, 1, 11.0)), yard(), period=(-HOUR, np.datetime64(9 * HOUR, "ms")))

    assert result.groups["mean_kw"].tolist() == [1.1]
    assert result.groups["p95_kw"].tolist() == [11.0]


def test_progress_ends_with_all_sessions():
    told = []

    simulate(come((0, 1, 1.0), (0, 1, 1.0)), yard(), progress=lambda *numbers: told.append(numbers))

    assert told[-1] == (2, 2)


@pytest.mark.parametrize("threads", [1, 2])
def test_what_progress_raises_ends_the_run(threads):
    def stop(done, of):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(come((0, 1, 1.0)), yard(), progress=stop, threads=threads)


# Comparisons


def test_strategies_are_compared_in_the_order_in_which_they_are_named():
    table = compare(come((0, 1, 9.0), (0, 1, 9.0)), yard(), strategies=["uncontrolled", "equal"])

    assert table["strategy"].tolist() == ["uncontrolled", "equal"]
    assert table["peak_kw"].tolist() == [22.0, 14.666666]


def test_a_comparison_of_nothing_is_empty():
    assert compare(come((0, 1, 9.0)), yard(), strategies=[]).n_rows == 0


def test_a_sweep_varies_everything_with_everything():
    sessions = come((0, 1, 50.0), (0, 1, 50.0), (0, 1, 50.0), (0, 1, 50.0))
    schedule = Schedule(at=[0], group=[0], capacity=[20.0], groups=("yard",))

    table = sweep(
        sessions,
        yard(40.0),
        capacity=[0.5, 1.0],
        buffer=[0.0, 0.5],
        connectors=[1 / 3, 4 / 3],
        schedule=schedule,
    )

    assert table["capacity"].tolist() == [0.5] * 4 + [1.0] * 4
    assert table["buffer"].tolist() == [0.0, 0.0, 0.5, 0.5] * 2
    assert table["turned_away"].tolist() == [3, 0] * 4
    assert table["energy_kwh"].tolist() == [10, 10, 5, 5, 11, 20, 10, 10]


def test_more_connectors_are_like_those_that_are_there():
    r = Registry()
    r.create_group("", 100, id="yard")
    r.add_charge_station("yard", "A", [Connector("1", 7), Connector("2", 22)])
    sessions = come(*[(0, 1, 50.0)] * 4)

    table = sweep(sessions, Site.of(r), connectors=[2])

    assert table["energy_kwh"].tolist() == [7 + 22 + 7 + 22]


# Tables, curves and files


def test_a_table_turns_into_those_of_others():
    result = simulate(come((0, 1, 11.0), (0, 1, 50.0), row=[4, 9]), yard())

    arrow, frame = result.sessions.to_arrow(), result.sessions.to_pandas()

    assert arrow.schema.field("arrival").type == pa.timestamp("ms", "UTC")
    assert arrow.column("full_at").null_count == 1
    assert frame["row"].tolist() == [4, 9]
    assert result.sessions.to_polars()["energy_kwh"].to_list() == [11.0, 11.0]
    assert polars.DataFrame(result.groups)["group"].to_list() == ["yard"]
    assert pa.table(result.groups) == result.groups.to_arrow()


def test_a_long_table_shows_its_beginning():
    table = Table({"n": np.arange(30), "half": np.arange(30) / 2})

    assert str(table).splitlines()[:3] == [" n  half", " 0     0", " 1   0.5"]
    assert str(table).splitlines()[-1] == "... 30 rows"


def test_results_cannot_be_changed():
    result = simulate(come((0, 1, 11.0)), yard(), curves="groups")

    for array in (result.delivered, result.connector, result.sessions["wanted_kwh"]):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    with pytest.raises(AttributeError):
        result.strategy = "equal"


def test_what_is_saved_reads_back(tmp_path):
    result = simulate(come((0, 1, 11.0), (0, 2, 50.0)), yard(), curves="groups")

    result.save(tmp_path / "out")

    read = {path.stem: pyarrow.parquet.read_table(path) for path in (tmp_path / "out").iterdir()}
    assert sorted(read) == ["curves", "groups", "sessions"]
    assert read["sessions"] == result.sessions.to_arrow()
    assert read["groups"] == result.groups.to_arrow()
    assert read["curves"]["power_kw"].to_pylist() == [22.0, 11.0, 0.0]


def test_a_file_that_is_not_finished_is_not_there(tmp_path):
    def broken(rows):
        if rows.stop:
            raise RuntimeError("no more")
        return np.zeros(0)

    table = Table({"x": broken}, 5)
    path = tmp_path / "table.parquet"
    path.write_bytes(b"before")

    with pytest.raises(RuntimeError, match="no more"):
        table.save(path)

    assert [each.name for each in tmp_path.iterdir()] == ["table.parquet"]
    assert path.read_bytes() == b"before"


def test_curves_that_were_not_asked_for_are_refused():
    result = simulate(come((0, 1, 11.0)), yard(), curves="groups")

    with pytest.raises(InputError, match=r"curves must be asked for: simulate\(..., curves='sess"):
        result.connector_curves("yard")


@pytest.mark.parametrize("of", ["curve", "limit", "connector_curves", "energy"])
def test_a_group_that_is_not_there_has_no_curve(of):
    result = simulate(come((0, 1, 11.0)), yard(), curves="sessions")

    with pytest.raises(UnknownIdError, match="group must be a group of the site, got 'yrad'"):
        getattr(result, of)("yrad")


def test_a_connector_passes_from_one_session_to_the_next():
    sessions = come((0, 1, 50.0), (1, 2, 50.0), maximum=[11.0, 7.0])

    result = simulate(sessions, yard(plugs=2), curves="sessions")

    curves = result.connector_curves("yard")
    assert hours(curves["CS-1", "1"]) == [(0, 11), (1, 7), (2, 0)]
    assert hours(curves["CS-2", "1"]) == []


def test_a_curve_is_sampled_with_its_mean_and_its_peak():
    curve = Curve(np.array([0, 10, 15, 40]), np.array([4_000_000, 8_000_000, 2_000_000, 0]))

    sampled = curve.sampled(20, -20, 50)

    assert sampled["at"].astype(np.int64).tolist() == [-20, 0, 20, 40]
    # 10 ms of 4, 5 of 8 and 5 of 2 kW are 90 in 20 ms; the last step is half as long.
    assert sampled["mean_kw"].tolist() == [0.0, 4.5, 2.0, 0.0]
    assert sampled["peak_kw"].tolist() == [0.0, 8.0, 2.0, 0.0]
    assert curve.sampled(20, 5, 5).n_rows == 0


def test_a_part_of_a_curve_begins_with_what_held_before():
    curve = Curve(np.array([0, 10, 20]), np.array([4, 8, 0]))

    part = curve.between(5, 20)

    assert (part.at.tolist(), part.quanta.tolist()) == ([5, 10], [4, 8])
    assert curve.between(-5, 5).quanta.tolist() == [0, 4]
    assert curve.value(-1) == 0.0


def test_steps_of_no_length_are_refused():
    with pytest.raises(InputError, match="step must be at least 1 and stop not before start"):
        Curve(np.zeros(0, np.int64), np.zeros(0, np.int64)).sampled(0, 0, 1)


def test_without_pyarrow_the_extra_is_named():
    code = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from wattfill.simulation import Table\n"
        "import numpy\n"
        "Table({'x': numpy.zeros(1)}).to_arrow()"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.stderr.endswith(
        "MissingExtraError: tables of a simulation need pyarrow: "
        "pip install 'wattfill[simulation]'\n"
    )
