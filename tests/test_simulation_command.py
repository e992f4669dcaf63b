"""``wattfill simulate``, from the command line to files."""

import csv
import json
import os
import pty
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from wattfill.cli import main
from wattfill.simulation import simulate
from wattfill.simulation.readers import read_sessions
from wattfill.simulation.sites import site_of_sessions
from wattfill.simulation.synthetic import generate, synthetic_site
from wattfill.simulation.writing import write_sessions

DATA = Path(__file__).parents[2] / "shared" / "data"
SITE = {
    "groups": [
        {
            "name": "Yard",
            "maximum_capacity": 22,
            "buffer": 0.5,
            "chargestations": [
                {"id": "CS-1", "connectors": [{"id": 1, "maximum_capacity": 11},
                                              {"id": 2, "maximum_capacity": 11}]}
            ],
        }
    ]
}  # fmt: skip
# Both share 11 kW until 10:00, when the first leaves with 11 of 22 kWh; the second gets all.
LINES = """\
group,chargestation,connector,arrival,departure,energy
Yard,CS-1,1,2026-03-02T08:00,2026-03-02T10:00,22
Yard,CS-1,2,2026-03-02T08:00,2026-03-02T18:00,16.5
"""


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Change to a folder with a site file and a file of sessions."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "site.json").write_text(json.dumps(SITE))
    (tmp_path / "sessions.csv").write_text(LINES)
    return tmp_path


@pytest.fixture
def answer(capsys):
    """Run the command and return what it prints as JSON."""

    def ask(*arguments):
        status = main(["simulate", *arguments, "--json"])
        out, err = capsys.readouterr()
        assert (status, err) == (0, "")
        return json.loads(out)

    return ask


@pytest.fixture
def refusal(capsys):
    """Run what is refused, and return what is said."""

    def refuse(*arguments):
        status = main(["simulate", *arguments])
        out, err = capsys.readouterr()
        assert (status, out) == (2, "")
        assert err.startswith("wattfill: ")
        assert err.count("\n") == 1
        return err.removeprefix("wattfill: ").strip()

    return refuse


FLEET = ("--synthetic", "workplace", "--groups", "3", "--connectors", "4", "--days", "9")
LONDON = ("sessions.csv", "--groups", "site.json", "--time-zone", "Europe/London")


# What comes out


def test_sessions_of_a_file_at_a_site_are_told_in_a_table(files, capsys):
    status = main(["simulate", *LONDON])

    assert status == 0
    assert capsys.readouterr().out == (
        "sessions.csv: 2 sessions in 1 group with 2 connectors, 2026-03-02 08:00 to "
        "2026-03-02 18:00 UTC\n"
        "\n"
        "group  sessions  turned away  MWh delivered  % of wanted  mean kW  95 % kW  peak kW  "
        "h at limit  usable kW\n"
        "Yard          2            0           0.03         71.4      2.8     11.0     11.0"
        "         2.0       11.0\n"
        "\n"
        "wattfill: 0.0 MWh delivered to 2 sessions, 71.4 % of what was wanted; 50.0 % of them "
        "were full in the end.\n"
    )


def test_json_has_the_same_for_machines(files, answer):
    document = answer(*LONDON)

    assert document["about"] == {
        "input": "sessions.csv",
        "sessions": 2,
        "groups": 1,
        "connectors": 2,
        "notes": [],
    }
    assert document["summary"]["energy_kwh"] == 27.5
    (group,) = document["groups"]
    assert (group["group"], group["energy_kwh"], group["peak_kw"]) == ("Yard", 27.5, 11.0)


def test_what_each_session_got_is_written_to_parquet(files, answer):
    answer(*LONDON, "--out", "result.parquet")

    table = pq.read_table("result.parquet")
    assert table["energy_kwh"].to_pylist() == [11.0, 16.5]
    assert [str(at) for at in table["departure"].to_pylist()] == [
        "2026-03-02 10:00:00+00:00",
        "2026-03-02 18:00:00+00:00",
    ]


def test_a_synthetic_fleet_is_what_python_makes(answer):
    document = answer(
        *FLEET, "--seed", "3", "--capacity", "9", "--buffer", "0.1", "--policy", "most"
    )

    expected = simulate(
        generate("workplace", groups=3, connectors=4, days=9, seed=3),
        synthetic_site("workplace", groups=3, connectors=4, capacity=9, buffer=0.1, policy="most"),
    )
    assert document["summary"] == expected.summary
    assert document["groups"][0]["usable_kw"] == 8.1


def test_strategies_are_compared(answer):
    document = answer(*FLEET, "--capacity", "9", "--compare", "wattfill,equal,uncontrolled")

    rows = document["strategies"]
    assert [row["strategy"] for row in rows] == ["wattfill", "equal", "uncontrolled"]
    assert rows[0]["share"] > rows[1]["share"]
    assert (rows[0]["over_hours"], rows[2]["over_hours"] > 0) == (0, True)


def test_what_if_is_swept(answer, files):
    document = answer(*FLEET, "--sweep", "capacity=0.2,0.4", "--sweep", "buffer=0,0.5",
                      "--out", "sweep.parquet")  # fmt: skip

    rows = document["sweep"]
    assert [(row["capacity"], row["buffer"]) for row in rows] == [
        (0.2, 0.0), (0.2, 0.5), (0.4, 0.0), (0.4, 0.5)]  # fmt: skip
    # Half of 0.4 is 0.2.
    assert rows[0]["energy_kwh"] == rows[3]["energy_kwh"]
    assert pq.read_table("sweep.parquet").num_rows == 4


def test_groups_can_be_those_that_sessions_name(files, answer):
    document = answer("sessions.csv", "--time-zone", "UTC", "--capacity", "11",
                      "--connector-maximum", "7.4")  # fmt: skip

    assert document["about"]["connectors"] == 2
    assert document["groups"][0]["peak_kw"] == 11


def test_broken_rows_are_left_out_and_told_of(files, answer):
    (files / "sessions.csv").write_text(LINES + "Yard,CS-1,1,2026-03-03T08:00,yesterday,22\n")

    document = answer(*LONDON, "--skip-bad-rows", "bad.csv")

    assert document["about"]["notes"] == [
        "1 of 3 rows broken and left out: bad.csv has them, each with the reason."
    ]
    assert document["about"]["sessions"] == 2
    with open("bad.csv", newline="") as lines:
        (row,) = csv.DictReader(lines)
    assert (row["line"], row["departure"]) == ("4", "yesterday")


def test_stations_in_two_groups_are_told_of(files, answer):
    (files / "sessions.csv").write_text(LINES + "yard,CS-1,1,2026-03-03T08:00,2026-03-03T09:00,2\n")

    document = answer("sessions.csv", "--time-zone", "UTC", "--capacity", "11")

    assert document["about"]["notes"] == [
        "1 session put a charge station into another group than most do, and count in that of "
        "the most."
    ]
    assert document["about"]["groups"] == 1


def test_of_many_groups_those_are_shown_that_get_least(capsys):
    main(["simulate", "--synthetic", "depot", "--groups", "30", "--connectors", "2", "--days", "5"])

    out = capsys.readouterr().out
    assert len(re.findall("^depot-", out, re.MULTILINE)) == 20
    assert "The 20 of 30 that got the least of what they wanted." in out


# Pictures and pages

PICTURES = {
    "load": (),
    "day": ("--day", "2025-01-07", "--group", "workplace-00002"),
    "strategies": ("--compare", "wattfill,uncontrolled"),
    "one thing varied": ("--sweep", "capacity=0.5,1"),
    "two things varied": ("--sweep", "capacity=0.5,1", "--sweep", "buffer=0,0.1"),
}


@pytest.mark.parametrize("options", PICTURES.values(), ids=PICTURES)
def test_a_picture_and_a_page_are_written(options, answer, files):
    answer(*FLEET, "--capacity", "9", *options, "--plot", "a.png", "--report", "a.html")

    assert (files / "a.png").read_bytes().startswith(b"\x89PNG\r\n")
    page = (files / "a.html").read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert "<svg" in page
    # Nothing is asked of anybody: there is no address but that of a name space.
    assert set(re.findall(r"https?://[^\"' <]+", page)) <= {"http://www.w3.org/1999/xlink"}
    assert not re.search(r"<(script|link|iframe|img)\b", page)
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert "wattfill simulate --synthetic workplace" in page


def test_what_comes_from_files_is_escaped_in_a_page(answer, files):
    name = "<script>alert(1)</script>"
    (files / "sessions.csv").write_text(LINES.replace("Yard", name))

    answer("sessions.csv", "--time-zone", "UTC", "--capacity", "11", "--report", "a.html")

    page = (files / "a.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_a_picture_can_be_drawn_for_paper(answer, files):
    for ending in ("svg", "pdf"):
        answer(*FLEET, "--plot", f"a.{ending}")

    assert b"<svg" in (files / "a.svg").read_bytes()
    assert (files / "a.pdf").read_bytes().startswith(b"%PDF")


# In parts


def test_parts_come_to_what_the_whole_comes_to(answer, files):
    whole = answer(*FLEET, "--out", "whole.parquet")

    parted = answer(*FLEET, "--workers", "2", "--parts", "2", "--out", "parts")

    assert sorted(path.name for path in (files / "parts").iterdir()) == [
        "groups-00000.parquet", "groups-00001.parquet",
        "sessions-00000.parquet", "sessions-00001.parquet",
    ]  # fmt: skip
    for group, expected in zip(parted["groups"], whole["groups"], strict=True):
        assert group == {name: value for name, value in expected.items() if name != "usable_kw"}
    read = [pq.read_table(f"parts/sessions-0000{k}.parquet") for k in (0, 1)]
    got = [energy for table in read for energy in table["energy_kwh"].to_pylist()]
    assert got == pq.read_table("whole.parquet")["energy_kwh"].to_pylist()


def test_a_file_is_simulated_in_parts_on_a_cluster(answer, files):
    distributed = pytest.importorskip("distributed", reason="needs wattfill[dask]")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
    ) as cluster:
        document = answer(*LONDON, "--dask", cluster.scheduler_address, "--out", "parts")

    assert document["about"]["parts"] == 1
    assert document["groups"][0]["energy_kwh"] == 27.5
    assert pq.read_table("parts/sessions-00000.parquet")["row"].to_pylist() == [0, 1]
    # What the parts were read from is gone.
    assert len(list((files / "parts").iterdir())) == 2


# What is refused

REFUSED = {
    (): "simulate takes a file of sessions, or a kind of fleet with --synthetic",
    ("a.csv", "--synthetic", "depot"):
        "simulate takes a file of sessions, or a kind of fleet with --synthetic",
    ("sessions.csv",): "simulate takes groups as a site file with --groups, or with --capacity how "
        "much each of those has that the sessions name",
    ("sessions.csv", "--groups", "site.json", "--capacity", "0"):
        "--capacity is for groups that no file describes, not with --groups",
    ("sessions.csv", "--groups", "site.json", "--days", "9"):
        "--days is for a synthetic fleet, not for a file of sessions",
    ("--synthetic", "depot", "--groups", "site.json"):
        "--groups must be how many groups a synthetic fleet has, got 'site.json'",
    ("--synthetic", "depot", "--skip-bad-rows", "a"):
        "--skip-bad-rows is for a file of sessions, not for a synthetic fleet",
    ("--synthetic", "depot", "--connector-maximum", "7"):
        "--connector-maximum is that of the kind for a synthetic fleet",
    ("--synthetic", "airport"): "kind must be one of workplace, public, depot, residential, got "
        "'airport'",
    (*FLEET, "--compare", "wattfill", "--sweep", "buffer=0"):
        "simulate takes --sweep or --compare, not both",
    (*FLEET, "--plot", "a.png", "--group", "nowhere"):
        "--group must be a group of the site, got 'nowhere'",
    (*FLEET, "--plot", "a.png", "--day", "tomorrow"):
        "--day must be a day such as 2026-03-02, got 'tomorrow'",
    (*FLEET, "--plot", "a.gif"): "a picture must end in .png, .svg or .pdf, got 'a.gif'",
    (*FLEET, "--plot", "none/a.png"):
        "none/a.png: the file cannot be written: No such file or directory",
    (*FLEET, "--out", "."): ".: the file cannot be written: it is a folder",
    (*FLEET, "--sweep", "capacity=1", "--sweep", "buffer=0", "--sweep", "connectors=1",
     "--plot", "a.png"):
        "a picture has one or two things varied, got capacity, buffer, connectors",
    ("sessions.csv", "--capacity", "9", "--time-zone", "UTC", "--out", "sessions.csv"):
        "--out must be another file than what is read, got 'sessions.csv'",
    ("sessions.csv", "--capacity", "9", "--time-zone", "UTC", "--skip-bad-rows", "sessions.csv"):
        "skip_bad_rows must be another file than what is read, got sessions.csv",
    (*FLEET, "--strategy", "luck"): "strategy must be one of",
    (*FLEET, "--workers", "1"): "--out must name a folder for what comes of the parts",
    (*FLEET, "--workers", "1", "--out", "."):
        "--out must be a folder that is empty or not there, got '.'",
    (*FLEET, "--workers", "1", "--out", "site.json"):
        "site.json: the folder cannot be made: File exists",
    (*FLEET, "--workers", "1", "--out", "o", "--plot", "a.png"):
        "--plot is for a simulation in one process, without --workers or --dask",
    ("sessions.csv", "--capacity", "9", "--workers", "1", "--out", "o"):
        "simulate takes a site file with --groups where it is done in parts",
    ("sessions.csv", "--groups", "none.json"):
        "none.json: the file cannot be read: No such file or directory",
    ("sessions.csv", "--groups", "sessions.csv"):
        "sessions.csv: row 1 has an unknown column 'arrival'; the columns are",
    ("sessions.csv", "--groups", "site.json"):
        "sessions.csv must have times with an offset from UTC, got none in line 2 (arrival): "
        "time_zone='Europe/London', or --time-zone Europe/London, says whose wall clock it is",
}  # fmt: skip


@pytest.mark.parametrize("arguments", REFUSED, ids=" ".join)
def test_what_makes_no_sense_is_refused_and_nothing_is_written(arguments, refusal, files):
    before = sorted(files.iterdir())

    said = refusal(*arguments)

    assert said.startswith(REFUSED[arguments])
    assert [path for path in files.iterdir() if path.name != "o"] == [*map(Path, before)] or (
        sorted(path for path in files.iterdir() if path.name != "o") == before
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("--sweep", "power=1"),
            "must be capacity=, buffer= or connectors= and numbers, got power",
        ),
        (("--sweep", "buffer=x"), "must have numbers behind buffer=, got buffer=x"),
        (("--column", "arrival"), "must be COLUMN=NAME, got arrival"),
        (("--workers", "0"), "must be 1 at least, got 0"),
    ],
)
def test_options_that_cannot_be_read_are_refused(arguments, said, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["simulate", *arguments])

    assert ended.value.code == 2
    assert said in capsys.readouterr().err


# Processes


def test_a_terminal_has_colours_and_a_bar_with_the_time_that_is_left(files):
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "wattfill", "simulate", *FLEET]
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "120", "NO_COLOR": ""}
    environment.pop("NO_COLOR")
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        printed = b""
        # The other end of a terminal that is closed is an error on Linux.
        with suppress(OSError):
            while block := os.read(ours, 1 << 16):
                printed += block
    os.close(ours)

    assert process.returncode == 0
    assert b"workplace-00000" in printed
    # A bar, the time that is left, and the codes that draw them.
    assert re.search(rb"\d:\d\d:\d\d|-:--:--", printed)
    assert b"\x1b[" in printed


def test_a_pipe_gets_no_bar(files):
    command = [sys.executable, "-m", "wattfill", "simulate", *FLEET]

    done = subprocess.run(command, capture_output=True, check=True, timeout=60)

    assert (done.stderr, b"\x1b" in done.stdout) == (b"", False)


def test_an_interrupted_run_leaves_what_was_there(files):
    write_sessions(generate("public", groups=20, connectors=20), "big.parquet")
    for name in ("out.parquet", "page.html"):
        (files / name).write_text("as before")
    site = ("--capacity", "100", "--connectors", "20")
    command = [sys.executable, "-m", "wattfill", "simulate", "big.parquet", *site,
               "--out", "out.parquet", "--report", "page.html"]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        # The table is being written under another name: that is in the middle of it.
        while not any(files.glob(".out.parquet.*")) and process.poll() is None:
            pass
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)

    assert (process.returncode, out, err) == (130, b"", b"")
    assert (files / "out.parquet").read_text() == (files / "page.html").read_text() == "as before"
    assert sorted(path.name for path in files.iterdir()) == [
        "big.parquet", "out.parquet", "page.html", "sessions.csv", "site.json",
    ]  # fmt: skip


# Real sessions, and the same on synthetic ones

REAL = {
    "perth_kinross_public": ("Europe/London", "50", 66_479),
    "norway_residential": ("Europe/Oslo", "7.4", 6_844),
    "us_workplace": ("America/New_York", "6.6", 3_395),
}


def run_all(answer, files, source, *options):
    """Compare strategies and draw what came of it; return the rows by strategy."""
    document = answer(
        source, *options, "--capacity", "40", "--compare", "wattfill,uncontrolled,equal",
        "--skip-bad-rows", "bad.csv", "--report", "page.html", "--plot", "a.png",
    )  # fmt: skip
    rows = {row["strategy"]: row for row in document["strategies"]}
    assert rows["wattfill"]["over_hours"] == rows["equal"]["over_hours"] == 0
    assert rows["wattfill"]["energy_kwh"] >= rows["equal"]["energy_kwh"]
    assert rows["uncontrolled"]["energy_kwh"] >= rows["wattfill"]["energy_kwh"]
    assert (files / "page.html").stat().st_size > 10_000
    return document, rows


@pytest.mark.parametrize("name", REAL)
def test_real_sessions_run_from_end_to_end(name, answer, files):
    path = DATA / f"{name}.csv.gz"
    if not path.exists():
        pytest.skip(f"{path} is not there: real sessions are no part of the package")
    zone, maximum, n_rows = REAL[name]

    document, rows = run_all(
        answer, files, str(path), "--time-zone", zone, "--connector-maximum", maximum
    )

    with open("bad.csv", newline="") as lines:
        n_bad = sum(1 for _ in csv.DictReader(lines))
    assert document["about"]["sessions"] + n_bad == n_rows
    assert 0 < n_bad < n_rows / 100
    sessions = read_sessions(path, time_zone=zone, skip_bad_rows="bad.csv")
    site, sessions, _ = site_of_sessions(sessions, capacity=40, maximum=float(maximum))
    result = simulate(sessions, site)
    assert result.summary == rows["wattfill"]
    # What was delivered to sessions is what groups drew.
    assert sum(result.delivered.tolist()) == sum(map(result.energy, site.groups))


def test_synthetic_sessions_run_from_end_to_end(answer, files):
    sessions = generate("residential", groups=8, connectors=9, days=120, time_zone="Europe/Oslo")
    write_sessions(sessions, "fleet.csv")

    document, rows = run_all(answer, files, "fleet.csv")

    assert document["about"]["sessions"] == len(sessions)
    assert not (files / "bad.csv").exists()
    site, _, _ = site_of_sessions(sessions, capacity=40, maximum=22.0)
    assert simulate(sessions, site).summary == rows["wattfill"]
    assert np.isclose(rows["uncontrolled"]["energy_kwh"], sessions.energy.sum(), rtol=0.05)
