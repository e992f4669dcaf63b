import csv
import io
import json
import os
import pty
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from wattfill import __version__, cli, report
from wattfill.cli import main
from wattfill.site import parse

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"
EIGHT_PORTS = (EXAMPLES / "eight-ports.json").read_text()
pytest.importorskip("rich")


def site(*stations, **group):
    """Return the text of a site of one group, of stations with one connector that is charging."""
    plugs = [
        {"id": id, "connectors": [{"id": 1, "session": True} | plug]}
        for id, plug in enumerate(stations, 1)
    ]
    return json.dumps({"groups": [{"name": "P3", "chargestations": plugs} | group]})


def table(text, **options):
    registry = parse(text)
    return report.as_table(registry, registry.allocate(), **options).splitlines()


def run(*arguments, **options):
    """Run the command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "wattfill", *arguments],
        capture_output=True,
        timeout=60,
        **options,
    )


@pytest.fixture
def refusal(capsys, tmp_path):
    """Give `main` a file to refuse, and return what it says, without the folder."""

    def refuse(content):
        path = tmp_path / "site.json"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        status = main(["allocate", str(path)])
        out, err = capsys.readouterr()
        assert (status, out) == (2, "")
        assert err.startswith("wattfill: ")
        assert err.count("\n") == 1
        return err.strip().replace(f"{tmp_path}{os.sep}", "")

    return refuse


# The examples


@pytest.mark.parametrize("name", ["airport.json", "campus.json", "eight-ports.json", "depot.csv"])
def test_an_example_prints_what_is_stored_beside_it(name, capfdbinary):
    path = EXAMPLES / name

    status = main(["allocate", str(path)])

    assert status == 0
    assert capfdbinary.readouterr().out == path.with_suffix(".txt").read_bytes()


def test_a_process_of_its_own_prints_the_same_from_standard_input():
    outcome = run("allocate", "-", input=EIGHT_PORTS.encode())

    assert (outcome.returncode, outcome.stderr) == (0, b"")
    assert outcome.stdout == (EXAMPLES / "eight-ports.txt").read_bytes()


@pytest.mark.parametrize(
    ("cars", "powers"),
    [
        (0, [0, 0, 0, 0, 0, 0, 0, 0]),
        (1, [7, 0, 0, 0, 0, 0, 0, 0]),
        (2, [7, 7, 0, 0, 0, 0, 0, 0]),
        (3, [7, 7, 7, 0, 0, 0, 0, 0]),
        (4, [7, 7, 7, 7, 0, 0, 0, 0]),
        (5, [6, 6, 6, 6, 6, 0, 0, 0]),
        (6, [5, 5, 5, 5, 5, 5, 0, 0]),
        (7, [5, 5, 5, 5, 5, 5, 0, 0]),
        (8, [5, 5, 5, 5, 5, 5, 0, 0]),
    ],
)
def test_eight_ports_share_30_kw_as_cars_come(cars, powers, capsys, tmp_path):
    document = json.loads(EIGHT_PORTS)
    for station in document["groups"][0]["chargestations"][cars:]:
        station["connectors"][0]["session"] = False
    path = tmp_path / "site.json"
    path.write_text(json.dumps(document))

    main(["allocate", str(path), "--json"])

    connectors = json.loads(capsys.readouterr().out)["connectors"]
    assert [connector["power"] for connector in connectors] == powers
    waiting = [connector for connector in connectors if connector["reason"] == "paused"]
    assert len(waiting) == max(cars - 6, 0)


# For machines


def test_json_has_groups_and_connectors(capsys):
    main(["allocate", str(EXAMPLES / "eight-ports.json"), "--json"])

    document = json.loads(capsys.readouterr().out)
    assert list(document) == ["groups", "connectors"]
    assert document["groups"] == [
        {
            "id": "Eight ports",
            "name": "Eight ports",
            "parent": None,
            "usable": 30,
            "used": 30,
            "headroom": 0,
            "shortfall": 10,
            "level": 5,
        }
    ]
    assert document["connectors"][-1] == {
        "group": "Eight ports",
        "chargestation": "Port-8",
        "connector": "1",
        "power": 0,
        "reason": "paused",
        "bound_by": "Eight ports",
        "minimum": 5,
        "maximum": 7,
    }


def test_a_level_that_does_not_bind_is_null_in_json():
    registry = parse(site({"maximum_capacity": 5}, maximum_capacity=10))

    document = json.loads(report.as_json(registry, registry.allocate()))

    assert document["groups"][0]["level"] is None


def test_csv_has_what_json_has_of_connectors(capsys):
    path = str(EXAMPLES / "campus.json")
    main(["allocate", path, "--json"])
    connectors = json.loads(capsys.readouterr().out)["connectors"]

    main(["allocate", path, "--csv"])

    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [list(row) for row in rows] == [list(connector) for connector in connectors]
    for row, connector in zip(rows, connectors, strict=True):
        for key, value in connector.items():
            if isinstance(value, float):
                assert float(row[key]) == value
            else:
                assert row[key] == (value or "")


def test_csv_writes_small_powers_as_decimals():
    # 0.000002 kW among two.
    registry = parse(site(*[{"maximum_capacity": 1}] * 2, maximum_capacity=0.000002))

    rows = report.as_csv(registry, registry.allocate()).splitlines()

    assert rows[1] == "P3,1,1,0.000001,sharing,P3,0,1"


def test_machines_do_without_rich(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "rich.console", None)

    statuses = [
        main(["allocate", str(EXAMPLES / "depot.csv"), form]) for form in ("--json", "--csv")
    ]

    assert statuses == [0, 0]
    assert capsys.readouterr().err == ""


def test_a_table_without_rich_says_which_extra_has_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "rich.console", None)

    status = main(["allocate", str(EXAMPLES / "depot.csv")])

    assert status == 2
    assert capsys.readouterr().err == (
        "wattfill: a table takes rich, which is not installed: pip install 'wattfill[cli]', "
        "or ask for --json or --csv\n"
    )


# The table


def test_what_is_left_is_a_decimal():
    # 9.2 - 6 is 3.1999999999999993 in binary.
    plugs = [{"maximum_capacity": 22, "minimum_capacity": low} for low in (6, 5)]

    lines = table(site(*plugs, maximum_capacity=9.2))

    assert lines[2].endswith("waits: needs 5 kW, 3.2 kW left in P3")


def test_what_is_left_in_a_parent_counts_all_groups_below_it():
    plug = {"id": 1, "maximum_capacity": 22, "minimum_capacity": 6, "session": True}
    floors = [
        {
            "name": floor,
            "parent": "Site",
            "maximum_capacity": 50,
            "chargestations": [{"id": floor, "connectors": [plug]}],
        }
        for floor in ("L1", "L2", "L3")
    ]
    site = {"groups": [{"name": "Site", "maximum_capacity": 15}, *floors]}

    lines = table(json.dumps(site))

    assert lines[-3].endswith("waits: needs 6 kW, 3 kW left in Site")


def test_reasons_are_words():
    # 20 kW: 1 and 12 stand, the third gets the 7 that are left; the fourth would need 2 more.
    plugs = [
        {"maximum_capacity": 1},
        {"maximum_capacity": 22, "minimum_capacity": 12},
        {"maximum_capacity": 22, "minimum_capacity": 6},
        {"maximum_capacity": 22, "minimum_capacity": 8},
        {"maximum_capacity": 22, "session": False},
    ]

    lines = table(site(*plugs, maximum_capacity=20))

    assert lines == [
        "P3      20 kW  ━━━━━━━━━━  used of 20 kW usable, headroom 0 kW, shortfall 6 kW",
        "  1  1   1 kW  ━━━━━━━━━━  at its maximum",
        "  2  1  12 kW  ━━━━━─────  at its minimum, held by P3",
        "  3  1   7 kW  ━━━───────  shares the level of P3",
        "  4  1   0 kW  ──────────  waits: needs 8 kW, 2 kW left in P3",
        "  5  1   0 kW  ──────────  idle",
        "",
        "3 charging, 1 waiting, 1 idle",
    ]


def test_a_bar_is_empty_at_0_and_full_at_the_maximum_alone():
    # 22 kW over two: 21.999 of 22 kW, and 0.001 of 22 kW.
    plugs = [
        {"maximum_capacity": 22, "minimum_capacity": 21.999},
        {"maximum_capacity": 22},
    ]

    lines = table(site(*plugs, maximum_capacity=22))

    assert "━━━━━━━━━━" in lines[0]
    assert "  ━━━━━━━━━─  " in lines[1]
    assert "  ━─────────  " in lines[2]


def test_ids_stand_in_the_order_in_which_people_count():
    stations = [
        {"id": id, "connectors": [{"id": 1, "maximum_capacity": 9}]} for id in ("P10", "P9", "P1")
    ]
    groups = [
        {"name": name, "maximum_capacity": 9, "chargestations": plugs}
        for name, plugs in (("L10", stations), ("L9", []))
    ]

    lines = table(json.dumps({"groups": groups}))

    assert [line.split()[0] for line in lines if line][:5] == ["L9", "L10", "P1", "P9", "P10"]


def test_lines_of_a_pipe_have_at_most_100_characters_and_lose_nothing():
    name = "x" * 120

    lines = table(site({"maximum_capacity": 9}, maximum_capacity=5, name=name))

    assert max(map(len, lines)) <= 100
    assert not any(line.endswith(" ") for line in lines)
    assert "".join(lines).count("x") == 240


def test_what_would_move_the_cursor_is_escaped():
    lines = table(site({"maximum_capacity": 9}, maximum_capacity=5, name="\x1b[2J\n\u202e\ud800é"))

    assert lines[0].startswith(r"\x1b[2J\n\u202e\ud800é ")


def test_markup_in_a_name_is_text():
    lines = table(site({"maximum_capacity": 9}, maximum_capacity=5, name="[red]P3[/red] :car:"))

    assert lines[0].startswith("[red]P3[/red] :car: ")


def test_ascii_has_bars_of_its_own():
    lines = table(
        site({"maximum_capacity": 10}, maximum_capacity=5, name="Zürich"), encoding="ascii"
    )

    assert lines[:2] == [
        r"Z\xfcrich     5 kW  ##########  used of 5 kW usable, headroom 0 kW",
        r"  1        1  5 kW  #####-----  shares the level of Z\xfcrich",
    ]


def test_the_encoding_is_that_of_standard_output():
    outcome = run(
        "allocate",
        str(EXAMPLES / "eight-ports.json"),
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )

    assert outcome.stdout.decode("ascii").startswith("Eight ports     30 kW  ##########  used")


def test_an_empty_site_is_a_table_too():
    assert table('{"groups": []}')[-1] == "0 charging, 0 waiting, 0 idle"


def test_colour_is_for_terminals(tmp_path):
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "60", "FORCE_COLOR": "1"}
    environment.pop("NO_COLOR", None)
    path = str(EXAMPLES / "eight-ports.json")
    ours, theirs = pty.openpty()

    with open(ours, "rb") as terminal:
        process = subprocess.Popen(
            [sys.executable, "-m", "wattfill", "allocate", path], stdout=theirs, env=environment
        )
        os.close(theirs)
        shown = b""
        # Linux says so when the other end is closed.
        with suppress(OSError):
            while part := os.read(terminal.fileno(), 4096):
                shown += part
        process.wait(60)
    piped = run("allocate", path, env=environment).stdout

    assert b"\x1b[31m" in shown
    assert b"\x1b[" not in piped
    assert piped == (EXAMPLES / "eight-ports.txt").read_bytes()


# What is refused


def test_a_refusal_names_the_file_and_the_place(refusal):
    text = EIGHT_PORTS.replace('"maximum_capacity": 30', '"maximum_capacity": 30, "buffer": 1.5')

    assert refusal(text) == (
        "wattfill: site.json: groups[0].buffer must be within 0.0..1.0, got 1.5"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"\x89PNG\r\n", "the file must be text in UTF-8, got byte 0x89 at offset 0"),
        ("Zürich".encode("latin-1"), "the file must be text in UTF-8, got byte 0xfc at offset 1"),
        (b'{"groups": [}', "line 1, column 13 is not JSON: Expecting value"),
        (b"group;chargestation", "row 1 must have the column 'group_maximum_capacity'"),
    ],
)
def test_what_is_no_site_file_is_refused(refusal, content, message):
    assert refusal(content) == f"wattfill: site.json: {message}"


def test_a_file_that_is_not_there_is_refused(capsys, tmp_path):
    path = tmp_path / "none.json"

    assert main(["allocate", str(path)]) == 2
    assert capsys.readouterr().err == (
        f"wattfill: {path}: the file cannot be read: No such file or directory\n"
    )


def test_a_folder_is_refused(capsys, tmp_path):
    assert main(["allocate", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"wattfill: {tmp_path}: the file cannot be read: Is a directory\n"
    )


def test_standard_input_is_named_in_a_refusal():
    outcome = run("allocate", "-", input=b"[]")

    assert outcome.returncode == 2
    assert outcome.stderr == b"wattfill: standard input: the file must be an object, got []\n"


@pytest.mark.parametrize(
    "arguments", [[], ["share"], ["allocate"], ["allocate", "--json", "--csv", "x"]]
)
def test_a_command_that_is_none_exits_with_2_and_the_usage(arguments, capsys):
    with pytest.raises(SystemExit) as left:
        main(arguments)

    assert left.value.code == 2
    assert capsys.readouterr().err.startswith("usage: wattfill")


# How it ends


def test_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit) as left:
        main(["--version"])

    assert left.value.code == 0
    assert capsys.readouterr().out == f"wattfill {__version__}\n"


def test_help_names_every_key_of_a_site_file(capsys):
    from wattfill.site import CONNECTOR_KEYS, GROUP_KEYS, SESSION_KEYS

    with pytest.raises(SystemExit):
        main(["allocate", "--help"])

    words = capsys.readouterr().out.replace(",", " ").split()
    assert {*GROUP_KEYS, *CONNECTOR_KEYS, *SESSION_KEYS} <= set(words)


@pytest.mark.parametrize("text", [cli.SITE_FILES, (EXAMPLES.parent / "site-files.md").read_text()])
def test_the_sites_of_the_documentation_are_sites(text):
    text = text.replace("```", "")
    json_site, csv_site = re.findall(r"^ *(?:\{|group,).*?\n\n", text, re.DOTALL | re.MULTILINE)

    assert len(parse(json_site).sessions()) == 2
    assert len(parse(csv_site).sessions()) == 1


def run_into(stdout, *arguments):
    """Run the command line with this for standard output."""
    command = [sys.executable, "-m", "wattfill", *arguments]
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, timeout=60)


@pytest.fixture
def closed_pipe():
    ours, theirs = os.pipe()
    os.close(ours)
    with open(theirs, "wb") as pipe:
        yield pipe


@pytest.mark.parametrize("form", ["--json", "--csv"])
def test_a_closed_pipe_is_quiet(form, closed_pipe):
    outcome = run_into(closed_pipe, "allocate", str(EXAMPLES / "campus.json"), form)

    assert (outcome.returncode, outcome.stderr) == (141, b"")


def test_help_into_a_closed_pipe_is_quiet(closed_pipe):
    assert run_into(closed_pipe, "allocate", "--help").stderr == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_full_disk_is_reported():
    with open("/dev/full", "wb") as full:
        outcome = run_into(full, "allocate", str(EXAMPLES / "campus.json"))

    assert outcome.returncode == 1
    assert outcome.stderr == b"wattfill: standard output: No space left on device\n"


def test_an_interrupt_exits_with_130(monkeypatch):
    def interrupted(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_allocate", interrupted)

    assert main(["allocate", "-"]) == 130


def test_help_loads_neither_numpy_nor_the_kernel():
    code = (
        "import sys; from wattfill.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print('numpy' in sys.modules)"
    )

    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)

    assert outcome.stdout.endswith(b"False\n")
