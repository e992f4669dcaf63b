import json
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wattfill.errors import InputError
from wattfill.registry import Connector
from wattfill.site import COLUMNS, CONNECTOR_KEYS, GROUP_KEYS, SESSION_KEYS, parse

HEADER = "group,group_maximum_capacity,chargestation,connector,maximum_capacity,session"


def site(connector=None, station=None, **group):
    """Return the text of a site of one group, with one station of one connector."""
    plug = {"id": "1", "maximum_capacity": 22} | (connector or {})
    stations = [{"id": "CS-1", "connectors": [plug]} | (station or {})]
    whole = {"name": "P3", "maximum_capacity": 100, "chargestations": stations} | group
    return json.dumps({"groups": [whole]})


def groups(*groups):
    return json.dumps({"groups": [{"maximum_capacity": 10} | group for group in groups]})


def rows(*rows, header=HEADER):
    return "\n".join([header, *rows]) + "\n"


def test_a_json_site_is_read_in_the_words_of_the_api():
    text = site(
        {
            "minimum_capacity": 4.14,
            "session": {"maximum": 7.4, "weight": 2, "priority": 1, "at": 9},
        },
        id="649be7ca525c000bc98a6c05",
        minimum_connector_capacity=2.5,
        buffer=0.1,
        reserved=3,
        policy="rotate",
        rotation=600,
        location="airport",
        description="level 1",
        notes="wet",
    )

    registry = parse(text)

    (group,) = registry.groups()
    assert (group.id, group.name) == ("649be7ca525c000bc98a6c05", "P3")
    assert (group.maximum_capacity, group.minimum_connector_capacity) == (100, 2.5)
    assert (group.buffer, group.reserved) == (0.1, 3)
    assert (group.policy, group.rotation) == ("rotate", 600)
    assert (group.location, group.description, group.notes) == ("airport", "level 1", "wet")
    assert registry.charge_station("CS-1").connectors == (Connector("1", 22, 4.14),)
    session = registry.session("CS-1", "1")
    assert (session.maximum, session.weight, session.priority) == (7.4, 2, 1)
    assert session.started_at == 9


def test_a_csv_site_is_read_as_the_json_of_the_same():
    header = (
        "group,group_name,group_maximum_capacity,group_buffer,group_policy,chargestation,connector,"
        "maximum_capacity,minimum_capacity,session,session_maximum,session_priority"
    )
    text = rows(
        "P3,Park 3,100,0.1,most,CS-1,1,22,4.14,true,7.4,1",
        "P3,,,,,CS-1,2,22,,false,,",
        header=header,
    )
    plugs = [
        {
            "id": 1,
            "maximum_capacity": 22,
            "minimum_capacity": 4.14,
            "session": {"maximum": 7.4, "priority": 1},
        },
        {"id": 2, "maximum_capacity": 22},
    ]

    registry = parse(text)

    same = site(station={"connectors": plugs}, id="P3", name="Park 3", buffer=0.1, policy="most")
    assert registry.to_dict() == parse(same).to_dict()


def test_every_key_of_a_site_has_a_column():
    keys = {f"group_{key}" for key in GROUP_KEYS} | {f"session_{key}" for key in SESSION_KEYS}

    assert set(COLUMNS) == keys - {"group_id"} | {
        "group",
        "chargestation",
        "connector",
        "session",
        *CONNECTOR_KEYS,
    }


def test_a_group_without_an_id_has_its_name_for_one():
    (group,) = parse(site(name="Park3-E1")).groups()

    assert group.id == "Park3-E1"


def test_null_is_as_good_as_left_out():
    (group,) = parse(site({"session": None}, parent=None, location=None, notes=None)).groups()

    assert (group.parent, group.location, group.notes) == (None, None, "")


@pytest.mark.parametrize("parent", ["n7", "North"])
def test_a_parent_is_given_by_id_or_by_name_and_may_stand_below_its_child(parent):
    registry = parse(groups({"name": "L1", "parent": parent}, {"name": "North", "id": "n7"}))

    assert registry.group("L1").parent == "n7"


def test_an_id_comes_before_a_name():
    registry = parse(
        groups({"name": "b", "id": "a"}, {"name": "a"} | {"id": "b"}, {"name": "c", "parent": "a"})
    )

    assert registry.group("c").parent == "a"


def test_whole_numbers_are_ids_too():
    text = site({"id": 1, "session": True}, {"id": 7}, id=3)

    assert list(parse(text).allocate().connectors) == [("7", "1")]


def test_sessions_stand_in_line_in_the_order_of_the_file():
    # Two minimums of 6 kW do not fit into 10 kW.
    stations = [
        {"id": id, "connectors": [{"id": 1, "maximum_capacity": 10, "session": True}]}
        for id in ("Z", "A")
    ]
    text = site(chargestations=stations, maximum_capacity=10, minimum_connector_capacity=6)

    connectors = parse(text).allocate().connectors

    assert (connectors["Z", "1"].power, connectors["A", "1"].power) == (10, 0)


def test_a_byte_order_mark_and_blank_lines_are_passed_over():
    text = "\ufeff\n\n" + rows("P3,100,CS-1,1,22,true", "", "P3,,CS-1,2,22,")

    assert len(parse(text).allocate().connectors) == 2


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_cells_may_be_parted_by_commas_semicolons_or_tabs(delimiter):
    text = rows("P3,100,CS-1,1,22,true").replace(",", delimiter)

    assert parse(text).allocate().connectors["CS-1", "1"].power == 22


def test_a_row_without_a_connector_is_a_group_alone():
    registry = parse(rows("Site,90,,,,", "P3,100,CS-1,1,22,true"))

    assert [group.id for group in registry.groups()] == ["P3", "Site"]
    assert registry.charge_stations("Site") == []


@pytest.mark.parametrize("on", ["true", "TRUE", "yes", "1"])
def test_a_session_is_on_where_its_cell_says_so(on):
    assert len(parse(rows(f"P3,100,CS-1,1,22,{on}")).sessions()) == 1


@pytest.mark.parametrize("off", ["false", "No", "0", "", " "])
def test_a_session_is_off_where_its_cell_says_so_or_is_empty(off):
    assert parse(rows(f"P3,100,CS-1,1,22,{off}")).sessions() == []


def test_a_site_of_no_groups_is_a_site():
    assert parse('{"groups": []}').groups() == []


STATION = "groups[0].chargestations[0]"
PLUG = f"{STATION}.connectors[0]"
TWO_PLUGS = {"connectors": [{"id": id, "maximum_capacity": 22} for id in ("1", "1")]}
REFUSED_JSON = {
    "": "the file is empty",
    " \n\t": "the file is empty",
    "[]": "the file must be an object, got []",
    "{}": "the file must have the key 'groups'",
    '{"groups": [\n  {,': "line 2, column 4 is not JSON: Expecting property name enclosed in "
    "double quotes",
    '{"groups": {}}': "groups must be a list, got {}",
    '{"groups": [7]}': "groups[0] must be an object, got 7",
    '{"groups": [], "groups": []}': "the file has the key 'groups' twice",
    '{"groups": [{"buffer": 0, "name": 1, "buffer": 1}]}': "groups[0] has the key 'buffer' twice",
    '{"groups": [{"name": "P3"}]}': "groups[0] must have the key 'maximum_capacity'",
    '{"group": []}': "the file has an unknown key 'group'; did you mean 'groups'?",
    "[" * 100_000: "the file is nested too deeply for a site file",
    site(bufer=0.1): "groups[0] has an unknown key 'bufer'; did you mean 'buffer'?",
    site({"sesion": True}): f"{PLUG} has an unknown key 'sesion'; did you mean 'session'?",
    site({"plug": "CCS"}): f"{PLUG} has an unknown key 'plug'; the keys are id, maximum_capacity, "
    "minimum_capacity, fallback, session",
    site(buffer=1.5): "groups[0].buffer must be within 0.0..1.0, got 1.5",
    site(buffer="0.1"): "groups[0].buffer must be a real number, got '0.1'",
    site(buffer=True): "groups[0].buffer must be a real number, got True",
    site(maximum_capacity=-1): "groups[0].maximum_capacity must be finite and at least 0, got -1.0",
    site(maximum_capacity=float("nan")): "groups[0].maximum_capacity must be finite and at least "
    "0, got nan",
    site(maximum_capacity=float("inf")): "groups[0].maximum_capacity must be finite and at least "
    "0, got inf",
    site(maximum_capacity=None): "groups[0].maximum_capacity must be a real number, got None",
    site(policy="lifo"): "groups[0].policy must be one of 'fifo', 'rotate' and 'most', got 'lifo'",
    site(name=["P3"]): "groups[0].name must be a string or a whole number, got ['P3']",
    site(name=""): "groups[0].name must be a non-empty string, got ''",
    site(name="", id=""): "groups[0].id must be a non-empty string, got ''",
    site(id=True): "groups[0].id must be a string or a whole number, got True",
    site(parent=1.5): "groups[0].parent must be a string or a whole number, got 1.5",
    site(name="Park3-E1", parent="Park3-E2"): "groups[0].parent must be the id of a group, or a "
    "name that one group has, got 'Park3-E2'; did you mean 'Park3-E1'?",
    site(parent="P3"): "groups[0].parent must not be the group itself or below it, got 'P3'",
    groups({"name": "A", "parent": "B"}, {"name": "B", "parent": "A"}): "groups[1].parent must not "
    "be the group itself or below it, got 'A'",
    groups({"name": "A"}, {"name": "A"}): "groups[1].name must not be that of another group, "
    "got 'A'",
    groups(
        {"name": "A", "id": 1}, {"name": "A", "id": 2}, {"name": "B", "parent": "A"}
    ): "groups[2].parent must be the id of a group, or a name that one group has (2 groups have "
    "that name), got 'A'",
    site(chargestations={}): "groups[0].chargestations must be a list, got {}",
    site(station={"id": ""}): f"{STATION}.id must be a non-empty string, got ''",
    site(station={"connectors": []}): f"{STATION}.connectors must hold at least one Connector, "
    "got none",
    site(station=TWO_PLUGS): f"{STATION}.connectors must have ids of their own, got "
    "connectors[1].id = '1' for the second time",
    site({"id": None}): f"{PLUG}.id must be a string or a whole number, got None",
    site({"maximum_capacity": 3, "minimum_capacity": 4}): f"{PLUG}.maximum_capacity must be at "
    "least minimum_capacity, got 3.0 < 4.0",
    site({"maximum_capacity": 3}, minimum_connector_capacity=4): f"{PLUG}.maximum_capacity must "
    "be at least 4.0, the minimum_connector_capacity of group 'P3', got 3.0",
    site({"session": 1}): f"{PLUG}.session must be true, false or an object, got 1",
    site({"session": {"weight": 0}}): f"{PLUG}.session.weight must be above 0 (within "
    "1e-100..1e+100), got 0.0",
    site({"session": {"priority": 1.5}}): f"{PLUG}.session.priority must be a whole number, "
    "got 1.5",
    site({"session": {"at": float("inf")}}): f"{PLUG}.session.at must be finite, got inf",
}
REFUSED_CSV = {
    "hello, world": "the file is neither JSON, which starts with '{', nor CSV with the columns "
    f"{', '.join(COLUMNS)}; row 1 is 'hello'",
    rows(header="group,chargestation"): "row 1 must have the column 'group_maximum_capacity'",
    rows(header=f"{HEADER},group_bufer"): "row 1 has an unknown column 'group_bufer'; did you mean "
    "'group_buffer'?",
    rows(header=f"{HEADER},vendor"): "row 1 has an unknown column 'vendor'; the columns are "
    f"{', '.join(COLUMNS)}",
    rows(header=f"{HEADER},group"): "row 1 has the column 'group' 2 times",
    rows("P3,100,CS-1"): "row 2 must have 6 cells, as the header, got 3",
    rows('P3,100,CS-1,"1"x,22,'): "row 2 is not CSV: ',' expected after '\"'",
    rows(",100,CS-1,1,22,"): "row 2: group must not be empty",
    rows("P3,,CS-1,1,22,"): "row 2: group_maximum_capacity must not be empty",
    rows("P3,-1,CS-1,1,22,"): "row 2: group_maximum_capacity must be finite and at least 0, "
    "got -1.0",
    rows("P3,100,CS-1,1,22,", "P3,90,CS-1,2,22,"): "row 3: group_maximum_capacity must be as in "
    "the group's first row, row 2, got 90.0",
    rows("P3,100,CS-1,1,22,", "P3,,CS-2,1,x,"): "row 3: maximum_capacity must be a number, got 'x'",
    rows("P3,100,CS-1,1,nan,"): "row 2: maximum_capacity must be finite and at least 0 (give the "
    "connector's rating), got nan",
    rows("P3,100,,1,22,"): "row 2: chargestation must not be empty where connector is not",
    rows("P3,100,CS-1,,22,"): "row 2: connector must not be empty where chargestation is not",
    rows("P3,100,CS-1,1,,"): "row 2: maximum_capacity must not be empty where chargestation is not",
    rows("P3,100,CS-1,1,22,", "P3,,CS-1,1,22,"): "row 3: connector must be another than those of "
    "the charge station before, got '1' as in row 2",
    rows("P3,100,CS-1,1,22,", "P4,9,CS-1,1,22,"): "row 3: chargestation must not be that of "
    "another charge station, got 'CS-1', which is in group 'P3' (move_charge_station moves it)",
    rows("P3,100,CS-1,1,22,maybe"): "row 2: session must be true or false, got 'maybe'",
    rows("P3,100,CS-1,1,22,,7.4", header=f"{HEADER},session_maximum"): "row 2: session_maximum "
    "must be empty where session is not true, got 7.4",
    rows("P3,100,CS-1,1,22,yes,1.5", header=f"{HEADER},session_priority"): "row 2: "
    "session_priority must be a whole number, got '1.5'",
    rows("P3,100,CS-1,1,22,yes,0", header=f"{HEADER},session_weight"): "row 2: session_weight "
    "must be above 0 (within 1e-100..1e+100), got 0.0",
    rows("P3,100,CS-1,1,22,,9", header=f"{HEADER},group_parent"): "row 2: group_parent must be the "
    "id of a group, or a name that one group has, got '9'",
    rows(
        "P3,100,CS-1,1,22,,4", "P3,,CS-1,2,3,,", header=f"{HEADER},group_minimum_connector_capacity"
    ): "row 3: maximum_capacity must be at least 4.0, the minimum_connector_capacity of group "
    "'P3', got 3.0",
}


@pytest.mark.parametrize(("text", "message"), [*REFUSED_JSON.items(), *REFUSED_CSV.items()])
def test_bad_input_is_refused_with_its_place(text, message):
    with pytest.raises(InputError) as refused:
        parse(text)

    assert str(refused.value) == message


def test_a_number_of_thousands_of_digits_is_refused():
    with pytest.raises(InputError, match=r"^the file has a number that is too long: "):
        parse(site(buffer=0).replace("100", "1" * 5000))


def test_a_cell_beyond_what_csv_can_hold_is_refused():
    with pytest.raises(InputError, match=r"^row 2 is not CSV: field larger than field limit"):
        parse(rows("x" * 200_000))


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1, 3),
    st.just(10**400),
    st.floats(width=16),
    st.sampled_from(["", "A", "B", "1", "fifo", "most", "\ud800", "\0"]),
)


def objects(keys, **fixed):
    return st.fixed_dictionaries(fixed, optional={key: VALUES for key in keys if key not in fixed})


SESSIONS = st.one_of(VALUES, objects(SESSION_KEYS))
CONNECTORS = objects(
    CONNECTOR_KEYS, id=VALUES, maximum_capacity=st.integers(0, 9), session=SESSIONS
)
STATIONS = objects([], id=VALUES, connectors=st.one_of(VALUES, st.lists(CONNECTORS, max_size=3)))
GROUPS = objects(
    GROUP_KEYS,
    name=st.sampled_from("ABC"),
    maximum_capacity=st.integers(0, 9),
    chargestations=st.one_of(VALUES, st.lists(STATIONS, max_size=3)),
)
CELLS = st.sampled_from(["", "A", "B", "1", "2", "22", "true", "-1", "nan", '"', "x\ny", "1e999"])


@given(st.builds(json.dumps, st.fixed_dictionaries({"groups": st.lists(GROUPS, max_size=4)})))
def test_json_of_anything_is_allocated_or_refused(text):
    with suppress(InputError):
        parse(text).allocate()


@given(
    st.lists(st.sampled_from(COLUMNS), unique=True, max_size=4),
    st.lists(st.lists(CELLS, min_size=6, max_size=10), max_size=5),
)
def test_csv_of_anything_is_allocated_or_refused(more, cells):
    columns = list(dict.fromkeys([*HEADER.split(","), *more]))
    table = [row[: len(columns)] + [""] * (len(columns) - len(row)) for row in cells]
    with suppress(InputError):
        parse("\n".join(",".join(row) for row in [columns, *table])).allocate()


@given(st.text())
@example("{\x00")
@example('"')
@example('{"groups": [{"name": "\\ud800", "maximum_capacity": 1}]}')
def test_any_text_is_read_or_refused(text):
    with suppress(InputError):
        parse(text)
