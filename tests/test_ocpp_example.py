"""The example of a CSMS, run for real: processes, websockets, and what became of the limits."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from wattfill.testing.history import check_history

EXAMPLES = Path(__file__).parents[1] / "docs/examples"
SECONDS = "150"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Run it as it is and without the dispatcher, side by side; return what came of each."""
    folder = tmp_path_factory.mktemp("csms")
    logs = {name: folder / f"{name}.jsonl" for name in ("safe", "careless")}
    started = {
        name: subprocess.Popen(
            [sys.executable, EXAMPLES / "csms.py", "--seconds", SECONDS, "--log", log, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for (name, log), options in zip(logs.items(), ([], ["--careless"]), strict=True)
    }
    done = {}
    for name, process in started.items():
        out, err = process.communicate(timeout=120)
        done[name] = process.returncode, out, err, logs[name]
    return done


def most_drawn(out):
    [kw] = re.findall(r"could have drawn at most ([\d.]+) kW, of 66 kW", out)
    return float(kw)


def test_20_charge_points_never_draw_more_than_they_share(runs):
    status, out, err, _ = runs["safe"]

    assert (status, err) == (0, ""), out
    assert 0 < most_drawn(out) <= 66
    assert "\nSafe: in " in out


def test_without_the_dispatcher_the_same_charge_points_do(runs):
    status, out, err, log = runs["careless"]

    assert (status, err) == (1, "")
    assert most_drawn(out) > 66
    assert not check_history(log, skew=3, lag=5).safe


def test_the_log_has_every_version_and_connections_that_were_lost(runs):
    lines = [json.loads(line) for line in runs["safe"][3].read_text().splitlines()]

    confirmed = {line["station"] for line in lines if line["kind"] == "confirmation"}
    kinds = {line["kind"] for line in lines}
    assert {int(station[3:]) % 3 for station in confirmed} == {0, 1, 2}
    assert kinds >= {"command", "confirmation", "meter", "offline", "online", "boot"}
    assert check_history(lines, skew=3, lag=5).safe


# How the accounts of the charge points are added up


@pytest.fixture
def charge_points(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    import charge_points

    return charge_points


def accounts(folder, *of):
    """Write accounts of records (at, limit, until, limit after that, reaction)."""
    paths = []
    for i, records in enumerate(of):
        paths.append(folder / f"{i}.jsonl")
        paths[-1].write_text("".join(json.dumps(record) + "\n" for record in records))
    return paths


def test_limits_of_one_time_add_up(charge_points, tmp_path):
    found = accounts(
        tmp_path,
        [(0, 4.0, None, 4.0, 0), (10, 6.0, None, 6.0, 0)],
        [(0, 3.0, None, 3.0, 0), (12, 0.0, None, 0.0, 0)],
    )

    assert charge_points.most_drawn(found) == (9.0, 10)


def test_a_vehicle_that_has_not_reacted_draws_what_it_had(charge_points, tmp_path):
    slow, quick = [(0, 4.0, None, 4.0, 3), (10, 0.0, None, 0.0, 3)], [(0, 0.0, None, 0.0, 0)]

    before = charge_points.most_drawn(accounts(tmp_path, slow, [*quick, (12.9, 4.0, None, 4.0, 0)]))
    after = charge_points.most_drawn(accounts(tmp_path, slow, [*quick, (13, 4.0, None, 4.0, 0)]))

    assert before == (8.0, 12.9)
    assert after == (4.0, 0)


def test_a_lease_that_is_over_leaves_the_default(charge_points, tmp_path):
    leased = [(0, 5.0, 20, 1.0, 2), (30, 2.0, None, 2.0, 2)]
    other = [(0, 0.0, None, 0.0, 0), (22, 7.0, None, 7.0, 0), (25, 0.0, None, 0.0, 0)]

    assert charge_points.most_drawn(accounts(tmp_path, leased, other)) == (8.0, 22)
