"""Sessions from files, data frames and arrays: what is read, and what is told of."""

import csv
import gzip
import json
import zipfile
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pandas
import polars
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattfill import Connector, Registry
from wattfill.errors import InputError, InputTypeError
from wattfill.simulation import Site, read_acn, read_sessions, write_sessions
from wattfill.simulation.readers import sources
from wattfill.simulation.readers.clock import find_zone, to_local, to_utc
from wattfill.simulation.readers.reading import Reader
from wattfill.simulation.readers.sources import open_source

HEADER = "group,chargestation,connector,arrival,departure,energy"
ROWS = [
    "North,CS-1,1,2026-03-02T08:00Z,2026-03-02T17:00Z,20",
    "North,CS-1,2,2026-03-02T08:10Z,2026-03-02T12:00Z,7.5",
    "South,CS-9,1,2026-03-02T09:00Z,2026-03-03T06:30Z,41.25",
]
COLUMNS = ("arrival", "departure", "energy", "group", "connector", "maximum", "minimum", "weight",
           "priority", "battery", "soc")  # fmt: skip


def ms(text):
    return int(np.datetime64(text, "ms").astype(np.int64))


def times(values):
    return [str(value) for value in values.astype("datetime64[ms]").astype("datetime64[m]")]


def same(one, other):
    return (one.groups, one.connectors) == (other.groups, other.connectors) and all(
        np.array_equal(getattr(one, name), getattr(other, name))
        if getattr(one, name) is not None
        else getattr(other, name) is None
        for name in COLUMNS
    )


@pytest.fixture
def file(tmp_path):
    """Write lines to a CSV file, and return its path."""

    def write(*lines, name="sessions.csv"):
        path = tmp_path / name
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return path

    return write


@pytest.fixture
def refusal(tmp_path):
    """Read what is refused, and return what is said, without the folder."""

    def refuse(source, *arguments, reader=read_sessions, **options):
        with pytest.raises(InputError) as refused:
            reader(source, *arguments, **options)
        return str(refused.value).replace(f"{tmp_path}/", "")

    return refuse


@pytest.fixture
def site():
    registry = Registry()
    for id, station, plugs in (("North", "CS-1", "12"), ("South", "CS-9", "1")):
        registry.create_group(id, 50, id=id)
        registry.add_charge_station(id, station, [Connector(plug, 22) for plug in plugs])
    return Site.of(registry)


# What is read


def test_a_csv_file_is_read(file):
    sessions = read_sessions(file(HEADER, *ROWS))

    assert sessions.groups == ("North", "South")
    assert sessions.group.tolist() == [0, 0, 1]
    assert sessions.connectors == (("CS-1", "1"), ("CS-1", "2"), ("CS-9", "1"))
    assert sessions.connector.tolist() == [0, 1, 2]
    assert sessions.arrival.tolist() == [
        ms(f"2026-03-02T{at}") for at in ("08:00", "08:10", "09:00")
    ]
    assert times(sessions.departure)[2] == "2026-03-03T06:30"
    assert sessions.energy.tolist() == [20, 7.5, 41.25]
    assert sessions.maximum is sessions.priority is sessions.soc is None


def test_the_same_is_read_from_every_form_of_the_same_table(file, tmp_path):
    path = file(HEADER, *ROWS)
    table = pa.csv.read_csv(
        path, convert_options=pa.csv.ConvertOptions(column_types={"connector": pa.string()})
    )
    (tmp_path / "s.csv.gz").write_bytes(gzip.compress(path.read_bytes()))
    (tmp_path / "no-name").write_bytes(path.read_bytes())
    pa.parquet.write_table(table, tmp_path / "s.parquet")
    pa.feather.write_feather(table, tmp_path / "s.arrow", compression="uncompressed")
    semicolons = file(*(line.replace(",", ";") for line in (HEADER, *ROWS)), name="semi.csv")
    tabs = file(*(line.replace(",", "\t") for line in (HEADER, *ROWS)), name="tabs.tsv")
    sources = [
        str(path),
        tmp_path / "s.csv.gz",
        tmp_path / "no-name",
        tmp_path / "s.parquet",
        tmp_path / "s.arrow",
        semicolons,
        tabs,
        table,
        table.to_reader(),
        table.to_pandas(),
        polars.from_arrow(table),
        pandas.read_csv(path, dtype={"connector": "category", "group": "category"}),
        table.to_pydict(),
        {name: np.array(values) for name, values in table.to_pydict().items()
         if name not in ("arrival", "departure")}
        | {name: table[name].to_numpy() for name in ("arrival", "departure")},
    ]  # fmt: skip

    read = [read_sessions(source, time_zone="UTC") for source in sources]

    assert len(read) == 14
    assert all(same(sessions, read[0]) for sessions in read)


def test_blank_lines_spaces_quotes_and_a_byte_order_mark_do_not_matter(file):
    plain = read_sessions(file(HEADER, *ROWS))

    sessions = read_sessions(
        file(
            "\ufeff" + HEADER.replace("energy", " energy "),
            "",
            '"North",CS-1,1,2026-03-02T08:00Z,2026-03-02T17:00Z, 20 ',
            "",
            "  North,CS-1, 2, 2026-03-02 08:10:00.000Z ,2026-03-02T12:00Z,7.5",
            ROWS[2],
            name="odd.csv",
        )
    )

    assert same(sessions, plain)


def test_other_names_of_columns_are_known(file):
    sessions = read_sessions(
        file(
            "session_id,site,station,connector,arrival,departure,energy_kwh,max_kw,model",
            "a,North,CS-1,1,2026-03-02T08:00Z,2026-03-02T17:00Z,20,,x",
            "b,North,CS-1,2,2026-03-02T08:10Z,2026-03-02T12:00Z,7.5,11,",
        )
    )

    assert sessions.connectors == (("CS-1", "1"), ("CS-1", "2"))
    assert sessions.maximum.tolist() == [np.inf, 11]


def test_columns_can_be_named(file):
    path = file("Depot,Start,End,kWh", "North,2026-03-02T08:00Z,2026-03-02T17:00Z,20")

    sessions = read_sessions(
        path, columns={"group": "Depot", "arrival": "Start", "departure": "End", "energy": "kWh"}
    )

    assert (sessions.groups, sessions.energy.tolist()) == (("North",), [20])


def test_all_columns_are_read_and_empty_cells_say_nothing(file):
    sessions = read_sessions(
        file(
            "group,arrival,departure,energy,maximum,minimum,weight,priority,battery,soc",
            "North,2026-03-02T08:00Z,2026-03-02T17:00Z,20,11,4.14,2,3,60,0.25",
            "North,2026-03-02T08:00Z,2026-03-02T17:00Z,20,,,,,,",
        )
    )

    assert sessions.maximum.tolist() == [11, np.inf]
    assert sessions.minimum.tolist() == [4.14, 0]
    assert sessions.weight.tolist() == [2, 1]
    assert sessions.priority.tolist() == [3, 0]
    assert sessions.battery[0] == 60
    assert sessions.soc[0] == 0.25
    assert np.isnan(sessions.battery[1])
    assert np.isnan(sessions.soc[1])


def test_without_a_connector_any_of_the_station_or_of_the_group_will_do(file):
    sessions = read_sessions(
        file(
            HEADER,
            ROWS[0],
            "North,CS-1,,2026-03-02T08:00Z,2026-03-02T17:00Z,20",
            "North,,,2026-03-02T08:00Z,2026-03-02T17:00Z,20",
        )
    )

    assert [sessions.connectors[i] if i >= 0 else None for i in sessions.connector] == [
        ("CS-1", "1"),
        ("CS-1", ""),
        None,
    ]


def test_what_was_written_is_read(tmp_path):
    sessions = read_sessions(
        {
            "group": ["North", "South", "North"],
            "station": ["CS-1", None, "CS-1"],
            "connector": [1, None, 2],
            "arrival": ["2026-03-02T08:00:00.125Z"] * 3,
            "departure": ["2026-03-02T17:00:00.250Z"] * 3,
            "energy": [0.1, 7.123, 20],
            "maximum": [None, 11, 22.5],
            "priority": [1, 0, -3],
            "battery": [60, None, 40],
            "soc": [0.1, None, 0.9],
        }
    )
    for name in ("s.parquet", "s.csv"):
        write_sessions(sessions, tmp_path / name)

    read = [read_sessions(tmp_path / name) for name in ("s.parquet", "s.csv")]

    # What nobody says is nothing, and no number.
    assert pa.parquet.read_table(tmp_path / "s.parquet")["battery"].null_count == 1
    for again in read:
        for name in COLUMNS:
            one, other = getattr(sessions, name), getattr(again, name)
            assert np.array_equal(one, other, equal_nan=True) if one is not None else other is None
        assert (again.groups, again.connectors) == (sessions.groups, sessions.connectors)


# Times


def test_local_times_are_those_of_their_zone(file):
    path = file(
        HEADER,
        "North,CS-1,1,2026-01-05T08:00,2026-01-05T17:00,20",
        "North,CS-1,2,2026-07-06 08:00:30,2026-07-06 17:00,20",
    )

    sessions = read_sessions(path, time_zone="Europe/London")

    assert times(sessions.arrival) == ["2026-01-05T08:00", "2026-07-06T07:00"]


def test_an_hour_that_is_there_twice_is_the_earlier_one_but_after_an_arrival():
    # London leaves summer time at 02:00 on 25 October 2026, when it is 01:00 again.
    sessions = read_sessions(
        {
            "group": ["North"] * 3,
            "arrival": ["2026-10-25T01:30", "2026-10-25T00:50", "2026-10-25T01:50"],
            "departure": ["2026-10-25T04:00", "2026-10-25T01:30", "2026-10-25T01:10"],
            "energy": [1, 1, 1],
        },
        time_zone="Europe/London",
    )

    assert times(sessions.arrival) == ["2026-10-25T00:30", "2026-10-24T23:50", "2026-10-25T00:50"]
    # The last one leaves at 01:10 after it came at 01:50: that is the second time it is 01:10.
    assert times(sessions.departure) == ["2026-10-25T04:00", "2026-10-25T00:30", "2026-10-25T01:10"]


def test_an_hour_that_is_skipped_is_read_with_the_offset_from_before():
    sessions = read_sessions(
        {
            "group": ["North"],
            "arrival": ["2026-03-29T01:30"],
            "departure": ["2026-03-29T02:30"],
            "energy": [1],
        },
        time_zone="Europe/London",
    )

    # A clock that nobody has set yet shows 01:30 when others show 02:30.
    assert times(sessions.arrival) == ["2026-03-29T01:30"]
    assert times(sessions.departure) == ["2026-03-29T01:30"]


ZONES = ["Europe/London", "America/St_Johns", "Australia/Lord_Howe", "Africa/Casablanca", "UTC"]


@given(
    zone=st.sampled_from(ZONES).map(find_zone),
    local=st.lists(st.datetimes(datetime(1971, 1, 1), datetime(2040, 1, 1)), max_size=20),
)
def test_instants_are_those_of_pep_495(zone, local):
    microseconds = np.array(local, "datetime64[us]").astype(np.int64)

    instants = to_utc(microseconds, zone)

    assert instants.tolist() == [
        round(time.replace(tzinfo=zone, fold=0).timestamp() * 1_000_000) for time in local
    ]
    late = to_utc(microseconds, zone, np.full(len(local), 2**62))
    doubles = [
        round(time.replace(tzinfo=zone, fold=fold).timestamp() * 1_000_000)
        for time in local
        for fold in (0, 1)
    ]
    expected = [max(pair) for pair in zip(doubles[::2], doubles[1::2], strict=True)]
    is_skipped = to_local(instants, zone) != microseconds
    assert (
        np.where(is_skipped, instants, late).tolist()
        == np.where(is_skipped, instants, expected).tolist()
    )


@given(
    zone=st.sampled_from(ZONES).map(find_zone),
    instants=st.lists(
        st.datetimes(
            datetime(1971, 1, 1), datetime(2040, 1, 1), timezones=st.just(ZoneInfo("UTC"))
        ),
        max_size=20,
    ),
)
def test_a_wall_clock_shows_what_it_shows(zone, instants):
    naive = [time.replace(tzinfo=None) for time in instants]

    local = to_local(np.array(naive, "datetime64[us]").astype(np.int64), zone)

    expected = [time.astimezone(zone).replace(tzinfo=None) for time in instants]
    assert local.tolist() == np.array(expected, "datetime64[us]").astype(np.int64).tolist()


@pytest.mark.parametrize(
    "text",
    ["2026-03-02T08:00Z", "2026-03-02 08:00:00+00:00", "2026-03-02T09:00+01:00",
     "2026-03-02T09:00:00.000+0100", "2026-03-02T02:30:00-0530", "Mon, 02 Mar 2026 08:00:00 GMT"],
)  # fmt: skip
def test_an_offset_from_utc_says_it_all(text, file):
    sessions = read_sessions(file(HEADER, f'North,CS-1,1,"{text}",2026-03-02T17:00Z,20'))

    assert times(sessions.arrival) == ["2026-03-02T08:00"]


def test_what_is_finer_than_a_millisecond_is_cut_off():
    sessions = read_sessions(
        {
            "group": ["North"],
            "arrival": np.array(["2026-03-02T08:00:00.000999"], "M8[us]"),
            "departure": np.array(["2026-03-02T08:00:00.001999999"], "M8[ns]"),
            "energy": [1],
        },
        time_zone="UTC",
    )

    assert (sessions.departure - sessions.arrival).tolist() == [1]


def test_times_with_and_without_an_offset_are_not_mixed(file, refusal):
    path = file(HEADER, ROWS[0], ROWS[1].replace("12:00Z", "12:00"), ROWS[2])

    assert refusal(path, time_zone="UTC") == (
        "sessions.csv must have an offset from UTC at all times or at none, got one in line 2 "
        "(arrival) and none in line 3 (departure) (1 of 6 times have none)"
    )


def test_local_times_without_a_zone_are_refused(file, refusal):
    path = file(HEADER, *(row.replace("Z", "") for row in ROWS))

    assert refusal(path) == (
        "sessions.csv must have times with an offset from UTC, got none in line 2 (arrival): "
        "time_zone='Europe/London', or --time-zone Europe/London, says whose wall clock it is"
    )


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../etc/passwd", "Europe"])
def test_an_unknown_time_zone_is_refused(name, refusal):
    assert refusal({}, time_zone=name).startswith("time_zone must be a name of the tz database")


def test_numbers_are_no_times(refusal):
    source = {"group": ["a"], "arrival": [0], "departure": [9], "energy": [1]}

    assert refusal(source) == (
        "arrival must be times: texts as in ISO 8601, or timestamps, got int64; of numbers nobody "
        "knows the unit"
    )


# ACN-Data

ITEM = {
    "_id": "5bc90cb9f9af8b0d7fe77cd2",
    "clusterID": "0039",
    "connectionTime": "Wed, 25 Apr 2018 11:08:04 GMT",
    "disconnectTime": "Wed, 25 Apr 2018 13:20:10 GMT",
    "doneChargingTime": "Wed, 25 Apr 2018 13:21:10 GMT",
    "kWhDelivered": 7.932,
    "sessionID": "2_39_78_362_2018-04-25 11:08:04.400812",
    "siteID": "0002",
    "spaceID": "CA-496",
    "stationID": "2-39-78-362",
    "timezone": "America/Los_Angeles",
    "userID": None,
    "userInputs": None,
}
ASKED = ITEM | {
    "stationID": "2-39-95-27",
    "userID": "000000194",
    "userInputs": [
        {"WhPerMile": 400, "kWhRequested": 8, "milesRequested": 20, "minutesAvailable": 60},
        {"WhPerMile": 400, "kWhRequested": 24.5, "milesRequested": 61, "minutesAvailable": 360},
    ],
}


@pytest.mark.parametrize("items", [[ITEM, ASKED], {"_items": [ITEM, ASKED], "_meta": {"page": 1}}])
def test_an_answer_of_acn_data_is_read(items, tmp_path):
    path = tmp_path / "acn.json"
    path.write_text(json.dumps(items))

    for source in (items, path):
        sessions = read_acn(source)

        assert sessions.groups == ("0002",)
        assert sessions.connectors == (("2-39-78-362", ""), ("2-39-95-27", ""))
        assert times(sessions.arrival) == ["2018-04-25T11:08"] * 2
        assert sessions.energy.tolist() == [7.932, 7.932]
        assert read_acn(source, energy="requested").energy.tolist() == [7.932, 24.5]
    assert same(read_sessions(path), read_acn(items))


def test_a_table_of_acn_data_is_read(tmp_path):
    path = tmp_path / "acn.csv"
    with open(path, "w", newline="") as lines:
        writer = csv.DictWriter(lines, ITEM)
        writer.writeheader()
        writer.writerows([ITEM, ASKED])

    assert same(read_acn(path), read_acn([ITEM, ASKED]))
    assert read_acn(path, energy="requested").energy.tolist() == [7.932, 24.5]


def test_what_is_no_answer_of_acn_data_is_refused(refusal, tmp_path):
    (tmp_path / "a.json").write_text('{"groups": []}')
    (tmp_path / "b.json").write_text("[7]")
    (tmp_path / "c.json").write_text('{"_items": ')

    assert refusal(tmp_path / "a.json") == (
        "a.json must be an answer of ACN-Data, an object with _items or a list of these, got "
        "{'groups': []}"
    )
    assert refusal(tmp_path / "b.json") == "b.json: item 0 must be an object, got 7"
    assert refusal(tmp_path / "c.json").startswith("c.json is not JSON: Expecting value: line 1")


def test_broken_items_of_acn_data_are_told_by_their_place(refusal):
    late = ITEM | {"disconnectTime": None}

    assert refusal({"_items": [ITEM, late]}, reader=read_acn) == (
        "the answer: item 1: disconnectTime must be a time from 1970 to 2199 such as "
        "2026-03-02T08:00 or 2026-03-02T08:00Z, got nothing (1 of 2 rows are broken; "
        "skip_bad_rows=FILE, or --skip-bad-rows FILE, writes them there and goes on without them)"
    )
    odd = ITEM | {"userInputs": "who knows"}
    assert "kWhDelivered must be a number with a decimal point, got 'who knows'" in refusal(
        [odd], reader=read_acn, energy="requested"
    )
    assert refusal([ITEM], reader=read_acn, energy="wanted") == (
        "energy must be 'delivered' or 'requested', got 'wanted'"
    )
    assert refusal([{"siteID": 1, "connectionTime": "", "disconnectTime": "", "kWhDelivered": 1}],
                   reader=read_acn, energy="requested").startswith(
        "the answer must have the column 'userInputs' for what drivers have asked for"
    )  # fmt: skip


# Broken rows

BROKEN = {
    "North,CS-1,1,yesterday,2026-03-02T17:00Z,20":
        "arrival must be a time from 1970 to 2199 such as 2026-03-02T08:00 or 2026-03-02T08:00Z, "
        "got 'yesterday'",
    "North,CS-1,1,2026-13-02T08:00Z,2026-03-02T17:00Z,20":
        "arrival must be a time from 1970 to 2199 such as 2026-03-02T08:00 or 2026-03-02T08:00Z, "
        "got '2026-13-02T08:00Z'",
    "North,CS-1,1,0014-03-02T08:00Z,2026-03-02T17:00Z,20":
        "arrival must be a time from 1970 to 2199 such as 2026-03-02T08:00 or 2026-03-02T08:00Z, "
        "got '0014-03-02T08:00Z'",
    "North,CS-1,1,,2026-03-02T17:00Z,20":
        "arrival must be a time from 1970 to 2199 such as 2026-03-02T08:00 or 2026-03-02T08:00Z, "
        "got nothing",
    "North,CS-1,1,2026-03-02T08:00Z,2026-03-02T17:00Z,":
        "energy must be a number with a decimal point, got nothing",
    'North,CS-1,1,2026-03-02T08:00Z,2026-03-02T17:00Z,"7,5"':
        "energy must be a number with a decimal point, got '7,5'",
    "North,CS-1,1,2026-03-02T08:00Z,2026-03-02T17:00Z":
        "must have 6 cells, as the header, got 5",
    "North,CS-1,1,2026-03-02T08:00Z,2026-03-02T17:00Z,20,,":
        "must have 6 cells, as the header, got 8",
}  # fmt: skip


@pytest.mark.parametrize("row", BROKEN)
def test_a_broken_row_is_told_by_its_line_and_column(row, file, refusal):
    path = file(HEADER, ROWS[0], "", row, ROWS[2])

    assert refusal(path) == (
        f"sessions.csv: line 4: {BROKEN[row]} (1 of 3 rows are broken; skip_bad_rows=FILE, or "
        "--skip-bad-rows FILE, writes them there and goes on without them)"
    )


FAULTS = {
    "North,CS-1,1,2026-03-02T19:00Z,2026-03-02T18:00Z,20":
        "departure must not be before arrival, got 2026-03-02T18:00:00.000 before "
        "2026-03-02T19:00:00.000",
    "North,CS-1,1,2026-03-03T08:00Z,2026-03-03T18:00Z,-0.5":
        "energy must be at least 0 and below 1e+06 kWh, got -0.5",
    "North,CS-1,1,2026-03-03T08:00Z,2026-03-03T18:00Z,nan":
        "energy must be at least 0 and below 1e+06 kWh, got nan",
    "West,,,2026-03-03T08:00Z,2026-03-03T18:00Z,20":
        "group must be a group of the site, got 'West'",
    "North,CS-1,3,2026-03-03T08:00Z,2026-03-03T18:00Z,20":
        "connector must be one of the site, got connector ('CS-1', '3')",
    "North,CS-7,,2026-03-03T08:00Z,2026-03-03T18:00Z,20":
        "connector must be one of the site, got charge station 'CS-7'",
    "South,CS-1,1,2026-03-03T08:00Z,2026-03-03T18:00Z,20":
        "group must be that of the connector, got 'South' for one in 'North'",
    "North,CS-1,1,2026-03-02T16:59Z,2026-03-02T18:00Z,20":
        "arrival must not be before the session before it at connector ('CS-1', '1') has ended, "
        "got 2026-03-02T16:59:00.000 before 2026-03-02T17:00:00.000",
    ",,,2026-03-03T08:00Z,2026-03-03T18:00Z,20":
        "group must be given where connector is not, got neither",
}  # fmt: skip


@pytest.mark.parametrize("row", FAULTS)
def test_a_row_that_breaks_a_rule_is_told_by_its_line(row, file, refusal, site):
    path = file(HEADER, row, *ROWS)

    assert refusal(path, site) == (
        f"sessions.csv: line 2: {FAULTS[row]} (1 of 4 rows are broken; skip_bad_rows=FILE, or "
        "--skip-bad-rows FILE, writes them there and goes on without them)"
    )


def test_rows_that_break_rules_are_left_out_and_the_others_read(file, site, tmp_path):
    sessions = read_sessions(
        file(HEADER, *FAULTS, *ROWS, *BROKEN), site, skip_bad_rows=tmp_path / "bad.csv"
    )

    assert times(sessions.arrival) == ["2026-03-02T08:00", "2026-03-02T08:10", "2026-03-02T09:00"]
    with open(tmp_path / "bad.csv", newline="") as lines:
        reasons = [row["reason"] for row in csv.DictReader(lines)]
    assert reasons == [*FAULTS.values(), *BROKEN.values()]


def test_who_overlaps_only_with_a_row_that_is_left_out_stays(file, site, tmp_path):
    # The second begins before the first has ended, the third before the second has.
    path = file(
        HEADER,
        "North,CS-1,1,2026-03-02T08:00Z,2026-03-02T09:00Z,20",
        "North,CS-1,1,2026-03-02T08:59Z,2026-03-02T12:00Z,20",
        "North,CS-1,1,2026-03-02T09:00Z,2026-03-02T12:00Z,20",
    )

    sessions = read_sessions(path, site, skip_bad_rows=tmp_path / "bad.csv")

    assert times(sessions.arrival) == ["2026-03-02T08:00", "2026-03-02T09:00"]


def test_who_overlaps_only_with_a_row_that_is_broken_otherwise_stays(file, site, tmp_path):
    path = file(
        HEADER,
        "North,CS-1,1,2026-03-02T08:00Z,2026-03-02T12:00Z,-1",
        "North,CS-1,1,2026-03-02T09:00Z,2026-03-02T10:00Z,20",
    )

    sessions = read_sessions(path, site, skip_bad_rows=tmp_path / "bad.csv")

    assert times(sessions.arrival) == ["2026-03-02T09:00"]


@pytest.fixture
def small_blocks(monkeypatch):
    """Have files read a few rows at a time."""
    monkeypatch.setattr(sources, "BLOCK_BYTES", 100)


def test_a_file_is_read_block_by_block(file, refusal, small_blocks):
    many = [f"g-{k % 7},,,2026-03-02T08:{k}Z,2026-03-02T17:00Z,{k}" for k in range(10, 60)]
    columns = zip(*(row.split(",") for row in many), strict=True)
    whole = read_sessions(dict(zip(HEADER.split(","), map(list, columns), strict=True)))

    sessions = read_sessions(file(HEADER, *many, name="good.csv"))

    assert same(sessions, whole)
    said = refusal(file(HEADER, *many, many[0].replace("08:10Z", "x"), *many))
    assert said.startswith("sessions.csv: line 52: arrival must be a time from")
    pieces = [*Reader(open_source(file(HEADER, *many))).pieces(10)]
    assert len(pieces) > 3
    assert np.concatenate([piece.arrival for piece in pieces]).tolist() == whole.arrival.tolist()
    assert [row for piece in pieces[1:] for row in piece.row] == [*range(len(pieces[0]), 50)]


def test_a_line_may_end_within_quotes(file, small_blocks):
    note = f'"a\nb, ""c""\n\n{"-" * 30}"'
    row = f"{note},North,,,2026-03-02T08:00Z,2026-03-02T17:00Z,20"

    sessions = read_sessions(file(f"note,{HEADER}", *[row] * 27))

    assert len(sessions) == 27


def test_the_line_of_a_row_is_where_it_ends(file, refusal):
    path = file(f"note,{HEADER}", f'"a\nb",{ROWS[0]}', f'"c\nd",{ROWS[1].replace("7.5", "x")}')

    assert refusal(path).startswith("sessions.csv: line 5: energy must be a number")


def test_a_date_is_its_midnight(file, tmp_path):
    path = file(HEADER, "North,CS-1,1,2026-03-02,2026-03-03,20", "North,CS-1,1,x,2026-03-03,20")

    sessions = read_sessions(path, time_zone="Europe/Oslo", skip_bad_rows=tmp_path / "bad.csv")

    assert times(sessions.arrival) == ["2026-03-01T23:00"]


def test_the_order_of_rows_does_not_matter(file, site):
    one = read_sessions(file(HEADER, *ROWS), site)

    other = read_sessions(file(HEADER, *reversed(ROWS), name="other.csv"), site)

    assert other.arrival[::-1].tolist() == one.arrival.tolist()
    assert [other.connectors[i] for i in other.connector[::-1]] == [
        one.connectors[i] for i in one.connector
    ]


def test_a_session_that_is_over_at_once_or_wants_nothing_is_a_session(file):
    sessions = read_sessions(file(HEADER, "North,CS-1,1,2026-03-02T08:00Z,2026-03-02T08:00Z,0"))

    assert len(sessions) == 1


def test_names_of_columns_in_what_is_told_are_those_of_the_table(file, refusal):
    path = file("site,arrival,departure,energy_kwh", "North,2026-03-02T08:00Z,2026-03-02T18:00Z,-1")

    assert ": energy_kwh must be at least 0 and below" in refusal(path)


def test_the_first_of_many_broken_rows_is_told_and_all_are_counted(file, refusal):
    path = file(HEADER, *ROWS, *BROKEN)

    said = refusal(path)

    assert said.startswith("sessions.csv: line 5: arrival must be a time")
    assert "(8 of 11 rows are broken; " in said


def test_broken_rows_are_written_to_a_file_and_the_others_read(file, tmp_path):
    path, bad = file(HEADER, ROWS[0], *BROKEN, *ROWS[1:]), tmp_path / "bad.csv"

    sessions = read_sessions(path, skip_bad_rows=bad)

    assert times(sessions.arrival) == ["2026-03-02T08:00", "2026-03-02T08:10", "2026-03-02T09:00"]
    with open(bad, newline="") as lines:
        header, *rows = csv.reader(lines)
    assert header == ["line", "reason", *HEADER.split(",")]
    assert [row[:2] for row in rows] == [
        [str(line), reason] for line, reason in enumerate(BROKEN.values(), 3)
    ]
    assert [row[2:] for row in rows] == list(csv.reader(BROKEN))


def test_what_was_broken_is_read_again_once_it_is_mended(file, tmp_path):
    path, bad = (
        file(HEADER, ROWS[0], ROWS[1].replace("7.5", "7,5").replace(",7,5", ',"7,5"')),
        tmp_path / "bad.csv",
    )
    read_sessions(path, skip_bad_rows=bad)

    bad.write_text(bad.read_text().replace('"7,5"', "7.5"))

    assert read_sessions(bad).energy.tolist() == [7.5]


def test_without_broken_rows_no_file_is_written(file, tmp_path):
    read_sessions(file(HEADER, *ROWS), skip_bad_rows=tmp_path / "bad.csv")

    assert not (tmp_path / "bad.csv").exists()


def test_broken_rows_alone_are_no_sessions(file, refusal, tmp_path):
    path = file(HEADER, *BROKEN)

    assert refusal(path, skip_bad_rows=tmp_path / "bad.csv") == (
        "sessions.csv must have a session, got 8 broken rows alone"
    )
    assert (tmp_path / "bad.csv").exists()


def test_where_broken_rows_cannot_be_written_nothing_is_read(file, refusal, tmp_path):
    path = file(HEADER, ROWS[0], *BROKEN)

    assert refusal(path, skip_bad_rows=tmp_path / "none" / "bad.csv") == (
        "none/bad.csv: the file cannot be written: No such file or directory"
    )


def test_rows_of_a_table_are_told_from_0(refusal, tmp_path):
    source = {
        "group": ["a", "a"],
        "arrival": ["2026-03-02T08:00Z", "2026-03-02T08:00Z"],
        "departure": ["2026-03-02T17:00Z", None],
        "energy": [1, 2],
    }

    assert refusal(source).startswith("the table: row 1: departure must be a time")
    read_sessions(source, skip_bad_rows=tmp_path / "bad.csv")
    assert (tmp_path / "bad.csv").read_text() == (
        "row,reason,group,arrival,departure,energy\n"
        '1,"departure must be a time from 1970 to 2199 such as 2026-03-02T08:00 or '
        '2026-03-02T08:00Z, got nothing",a,2026-03-02T08:00Z,,2\n'
    )


def test_priorities_are_whole_numbers(refusal):
    source = {
        "group": ["a"],
        "arrival": ["2026-03-02T08:00Z"],
        "departure": ["2026-03-02T17:00Z"],
        "energy": [1],
        "priority": [1.5],
    }

    assert "row 0: priority must be a whole number, got 1.5 " in refusal(source)


# Tables that are none


def test_missing_columns_are_named(file, refusal):
    assert refusal(file("group,arrival,departure", "a,b,c")) == (
        "sessions.csv must have a column for energy (energy, energy_kwh, kWhDelivered), got group, "
        "arrival, departure; columns={'energy': NAME} or --column energy=NAME says which it is"
    )
    assert refusal(file("arrival,departure,energy", "a,b,c")) == (
        "sessions.csv must have a column for group or chargestation (group, site, siteID, "
        "chargestation, station, stationID), got arrival, departure, energy"
    )
    assert refusal(file("group,connector,arrival,departure,energy", "a,b,c,d,e")) == (
        "sessions.csv must have a column for chargestation where it has one for connector, got "
        "group, connector, arrival, departure, energy"
    )


def test_columns_that_are_there_twice_are_refused(file, refusal):
    assert refusal(file("group,group,arrival,departure,energy", "a,b,c,d,e")) == (
        "sessions.csv must have each column once, got 'group' 2 times"
    )
    assert refusal(file("group,site,arrival,departure,energy", "a,b,c,d,e")) == (
        "sessions.csv must have one column for group, got group and site; "
        "columns={'group': 'group'} or --column group=group picks one"
    )


def test_columns_that_are_named_must_be_there(file, refusal):
    path = file(HEADER, *ROWS)

    assert refusal(path, columns={"arival": "x"}) == (
        "columns must name columns of a session, got 'arival'; did you mean 'arrival'?"
    )
    assert refusal(path, columns={"arrival": "Start"}).startswith(
        "sessions.csv must have the column 'Start' for arrival; it has group, chargestation"
    )


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf\n"])
def test_an_empty_file_is_told_of(content, refusal, tmp_path):
    (tmp_path / "s.csv").write_bytes(content)

    assert refusal(tmp_path / "s.csv") == "s.csv is empty"


def test_a_table_without_rows_is_told_of(file, refusal):
    assert refusal(file(HEADER)) == ("sessions.csv must have a session, got a table without rows")
    assert refusal({"group": [], "arrival": [], "departure": [], "energy": []}) == (
        "the table must have a session, got a table without rows"
    )


def test_a_file_that_is_not_what_its_name_says_is_told_of(file, refusal, tmp_path):
    table = pa.table({"group": ["a"]})
    with zipfile.ZipFile(tmp_path / "zip.csv", "w") as archive:
        archive.writestr("sessions.csv", HEADER)
    pa.parquet.write_table(table, tmp_path / "parquet.csv")
    pa.parquet.write_table(table, tmp_path / "p.parquet")
    file(HEADER, *ROWS, name="csv.parquet")
    file('{"groups": []}', name="json.csv")
    (tmp_path / "utf16.csv").write_bytes(HEADER.encode("utf-16"))
    (tmp_path / "binary.csv").write_bytes(b"group\0arrival")
    (tmp_path / "half.parquet").write_bytes((tmp_path / "p.parquet").read_bytes()[:40])
    (tmp_path / "half.csv.gz").write_bytes(gzip.compress("\n".join([HEADER, *ROWS]).encode())[:60])
    (tmp_path / "no.csv.gz").write_bytes(b"\x1f\x8b\x00\x00\x00\x00\x00\x00\x00\x00")
    (tmp_path / "p.parquet.gz").write_bytes(gzip.compress((tmp_path / "p.parquet").read_bytes()))

    said = {
        path.name: refusal(path) for path in sorted(tmp_path.iterdir()) if path.name != "p.parquet"
    }

    whole = "must be a whole gzip archive, got a part of one"
    assert said == {
        "zip.csv": "zip.csv must be CSV, Parquet, Arrow or JSON, got a ZIP archive or a workbook",
        "parquet.csv": "parquet.csv must be CSV, as its name says, got Parquet",
        "csv.parquet": "csv.parquet must be Parquet, as its name says, got CSV",
        "json.csv": "json.csv must be CSV, as its name says, got JSON",
        "utf16.csv": "utf16.csv must be CSV, Parquet, Arrow or JSON, got text in UTF-16",
        "binary.csv": "binary.csv must be CSV, Parquet, Arrow or JSON, got neither text nor "
        "anything known",
        "half.parquet": said["half.parquet"],
        "half.csv.gz": f"half.csv.gz {whole}",
        "no.csv.gz": f"no.csv.gz {whole}",
        "p.parquet.gz": "p.parquet.gz must not be gzipped: Parquet and Arrow files compress "
        "themselves",
    }  # fmt: skip
    assert said["half.parquet"].startswith("half.parquet is not a whole Parquet file: ")


def test_text_that_is_not_utf_8_is_told_of(refusal, tmp_path):
    lines = [HEADER.encode(), ROWS[0].encode(), ROWS[1].replace("North", "Nørd").encode("latin-1")]
    (tmp_path / "s.csv").write_bytes(b"\n".join(lines))

    assert refusal(tmp_path / "s.csv") == (
        "s.csv: line 3 must be text in UTF-8, got byte 0xf8 at column 2"
    )


def test_a_file_that_is_not_there_is_told_of(refusal, tmp_path):
    assert refusal(tmp_path / "s.csv") == (
        "s.csv: the file cannot be read: No such file or directory"
    )
    assert refusal(tmp_path).endswith(": the file cannot be read: Is a directory")


def test_what_is_no_table_is_told_of():
    with pytest.raises(InputTypeError, match="source must be the path of a file, a data frame"):
        read_sessions(7)


def test_columns_of_other_kinds_are_told_of(refusal):
    good = {
        "group": ["a"],
        "arrival": ["2026-03-02T08:00Z"],
        "departure": ["2026-03-02T17:00Z"],
        "energy": [1],
    }

    assert refusal(good | {"group": [1.5]}) == (
        "group must be ids: texts or whole numbers, got double"
    )
    assert refusal(good | {"group": [True]}) == (
        "group must be ids: texts or whole numbers, got bool"
    )
    assert refusal(good | {"energy": [True]}) == "energy must be numbers, got bool"
    assert refusal(good | {"energy": [1, 2]}).startswith("columns must have the same length, got")
    assert refusal(good | {"energy": ["a", 1]}).startswith("energy must be values of one kind: ")
