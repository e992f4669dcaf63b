"""The benchmarks' own parts: what they time is always the same, and no wrong answer passes."""

import doctest
import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wattfill
from benchmarks import exact, report, server, simulation, timing, workloads
from benchmarks.__main__ import main
from benchmarks.cases import INTO, ROOFLINE, Figure
from benchmarks.certificate import assert_close, assert_exact, assert_within
from benchmarks.peers import PEERS, Peer
from benchmarks.workloads import Batch, Workload
from wattfill import Allocation
from wattfill.testing import solve

# 40 kW over three: the third stops at 10 kW, the other two share 30 kW. Then 14.000001 kW over
# two: a quantum is left, too little for both to rise by one.
BATCH = Batch(
    np.array([6.0, 6.0, 6.0, 5.0, 5.0]),
    np.array([16.0, 32.0, 10.0, 50.0, 50.0]),
    np.array([40.0, 14.000001]),
    np.array([0, 3, 5]),
)
EXACT = np.array([15.0, 15.0, 10.0, 7.0, 7.0])

SMALL, CONTINUOUS = workloads.equal(12, 7), workloads.equal(12, 7, "continuous")
VARIANTS = [
    SMALL,
    CONTINUOUS,
    workloads.weighted(SMALL, "discrete"),
    workloads.weighted(CONTINUOUS, "continuous"),
    workloads.tiers(SMALL),
    workloads.steps(SMALL, workloads.STEP),
    workloads.steps(SMALL, workloads.STEP_THREE_PHASE),
    workloads.tree(SMALL, below=4),
]


def test_the_exact_powers_have_a_certificate() -> None:
    assert_exact(EXACT, BATCH)


@pytest.mark.parametrize(
    ("power", "message"),
    [
        ([15.000001, 15.000001, 10.0, 7.0, 7.0], "over its capacity"),
        ([14.0, 16.0, 10.0, 7.0, 7.0], "somebody has more than another"),
        ([15.0, 15.0, 10.0, 7.000001, 7.0], "somebody has more than another"),
        ([14.999999, 14.999999, 10.0, 7.0, 7.0], "could rise by a quantum"),
        ([15.5, 15.5, 9.0, 7.0, 7.0], "somebody has more than another"),
        ([17.0, 13.0, 10.0, 7.0, 7.0], "maximum"),
        ([16.0, 20.0, 4.0, 7.0, 7.0], "minimum"),
        ([15.0000000001, 15.0, 10.0, 7.0, 7.0], "no whole number of quanta"),
    ],
)
def test_wrong_powers_have_none(power: list[float], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        assert_exact(np.array(power), BATCH)


def test_every_group_of_a_batch_of_many_blocks_is_looked_at() -> None:
    n_groups = 600_000
    batch = Batch(
        np.tile(BATCH.minimum[3:], n_groups),
        np.tile(BATCH.maximum[3:], n_groups),
        np.full(n_groups, 14.0),
        np.arange(0, 2 * n_groups + 1, 2),
    )
    power = np.full(2 * n_groups, 7.0)
    assert_exact(power, batch)

    for wrong in (0, n_groups, 2 * n_groups - 1):
        with pytest.raises(AssertionError, match="over its capacity"):
            assert_exact(np.where(np.arange(power.size) == wrong, 8.0, power), batch)


def test_powers_two_quanta_off_are_not_close() -> None:
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_close(EXACT + 2e-6, EXACT)


@pytest.mark.parametrize(
    ("power", "message"),
    [
        ([16.0, 16.0, 10.0, 7.0, 7.0], "over its capacity"),
        ([5.0, 15.0, 10.0, 7.0, 7.0], "minimum"),
        ([15.0, 12.0, 11.0, 7.0, 7.0], "maximum"),
    ],
)
def test_another_rule_has_to_keep_to_bounds_and_capacities(
    power: list[float], message: str
) -> None:
    with pytest.raises(AssertionError, match=message):
        assert_within(np.array(power), BATCH, 1e-3)


@pytest.mark.parametrize("workload", VARIANTS, ids=lambda workload: workload.name)
def test_exact_powers_are_those_of_the_reference(workload: Workload) -> None:
    for k in range(4):
        options = {
            name: option.tolist() if isinstance(option, np.ndarray) else option
            for name, option in workload.options.items()
        }
        due = solve(*(column.tolist() for column in workload.batches[k]), **options)

        assert exact.powers(workload, k).tolist() == due.power


def test_workloads_are_the_same_everywhere() -> None:
    digests = {}
    for workload in [*VARIANTS, workloads.power_law(n_connectors=1_000)]:
        columns = [*workload.batch, workload.capacities[-1], *workload.options.values()]
        digests[workload.name] = hashlib.sha256(b"".join(map(_bytes, columns))).hexdigest()[:16]

    assert digests == {
        "12x7-discrete": "5631566464b36775",
        "12x7-continuous": "08901970a43e7433",
        "12x7-discrete-weighted-discrete": "295098db92dbc7ef",
        "12x7-continuous-weighted-continuous": "4a827f94d3c365e4",
        "12x7-discrete-tiers": "7ecb4a98be559ae2",
        "12x7-discrete-steps-0.023": "945865c62f40d88e",
        "12x7-discrete-steps-0.069": "05cfdbad024de6c9",
        "12x7-discrete-tree": "1b7a3859e9cb24c5",
        "power-law-discrete": "712825a9dc1f8b92",
    }


def _bytes(column: object) -> bytes:
    array = np.asarray(column)
    return array.astype(array.dtype.newbyteorder("<")).tobytes()


def test_the_examples_of_the_workloads_are_true() -> None:
    assert doctest.testmod(workloads).failed == 0


def test_a_shrunk_workload_is_of_the_same_kind() -> None:
    names = [*workloads.NAMES, *workloads.VARIANTS]
    small = [workloads.load(name, shrink=1_000) for name in names]

    assert [workload.n_connectors for workload in small[:5]] == [500, 800, 1_000, 1_000, 1_000]
    assert [list(workload.options) for workload in small[-6:]] == [
        *(["weight"], ["weight"], ["parent"], ["priority"], ["step"], ["step"])
    ]


def test_a_larger_workload_repeats_what_was_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workloads, "MOST_DRAWN", 14)

    workload = workloads.equal(3, 10)

    assert workload.maximum[14:28].tolist() == workload.maximum[:14].tolist()


def test_a_sample_has_small_groups_and_large_ones_as_they_are() -> None:
    workload = workloads.power_law(n_connectors=1_000)
    sample = workload.sample(3)
    groups = {tuple(batch.maximum) for batch in map(workload.group, range(workload.n_groups))}
    sizes = np.sort(np.diff(workload.offsets))

    assert np.sort(np.diff(sample.offsets)).tolist() == [
        sizes[int((place + 0.5) * workload.n_groups / 3)] for place in range(3)
    ]
    assert {tuple(sample.group(g).maximum) for g in range(3)} <= groups


@pytest.mark.parametrize(
    "peer", [peer for peer in PEERS if peer.needs == "numpy"], ids=lambda peer: peer.name
)
@pytest.mark.parametrize(
    "workload",
    [*VARIANTS[:2], workloads.power_law("continuous", n_connectors=1_000)],
    ids=lambda workload: workload.name,
)
def test_peers_find_the_same_answer(peer: Peer, workload: Workload) -> None:
    power = np.empty(workload.n_connectors)
    for k in range(4):
        peer.load()(*workload.batches[k], power)

        assert_close(power, exact.powers(workload, k))


def test_a_wrong_answer_ends_the_race() -> None:
    def check(k: int, answer: int) -> None:
        assert answer == 2 * k

    right = timing.Contender("right", lambda k: 2 * k, check, units=1)
    wrong = timing.Contender("wrong", lambda k: 4 if k < 3 else 6, check, units=1)
    timing.race([right], 4, seconds=0.0)

    with pytest.raises(AssertionError):
        timing.race([right, wrong], 4, seconds=0.0)


def test_a_figure_is_the_mean_of_the_best_of_every_input(monkeypatch: pytest.MonkeyPatch) -> None:
    # Three rounds of two inputs, each taking so long.
    durations = iter([5, 30, 4, 40, 6, 20])
    clock = [0]

    def now() -> int:
        # Read before a call and after it.
        clock.append(clock[-1] + (next(durations) if len(clock) % 2 == 0 else 0))
        return clock[-1]

    monkeypatch.setattr(timing, "perf_counter_ns", now)
    contender = timing.Contender("one", lambda k: k, lambda k, answer: None, units=2)

    assert timing.race([contender], 2, seconds=0.0) == {
        "one": timing.Timing(best=(4 + 20) / 2 / 2, median=17.5 / 2, rounds=3)
    }


def test_a_goal_names_the_best_that_was_reached() -> None:
    less_is_better, more_is_better = report.Goal(4, 3, 2), report.Goal(1.7, 1.85, 1.95)

    assert [less_is_better.reached(x) for x in (4.1, 4, 2.9, 2)] == ["no", "must", "aim", "beyond"]
    assert [more_is_better.reached(x) for x in (1.6, 1.7, 1.9, 2)] == [
        "no",
        "must",
        "aim",
        "beyond",
    ]


def test_a_table_says_what_was_reckoned_from_a_sample() -> None:
    taken = ("shapes", "10000x50-discrete")
    figures = report.Figures(
        [
            Figure(*taken, ROOFLINE, 0.25, 0.3, 9, 500_000, 10_000, 10_000),
            Figure(*taken, INTO, 0.8, 0.9, 9, 500_000, 10_000, 10_000),
            Figure(*taken, "SciPy, brentq", 400.0, 410.0, 3, 500_000, 10_000, 512),
        ]
    )
    first, solvers = report.tables(figures).split("**ns per connector, all solvers")

    assert "| 3.20x |    4 |   3 |      2 |    must |" in first.replace(
        "             3.20x", " 3.20x"
    )
    assert "~400 |" in solvers
    assert "~0.8" not in solvers


def test_one_command_runs_it_all_and_shows_it_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = tmp_path / "record.json"
    cases = ["variants", "threads", "calls"]
    main(["--quick", "--no-peers", "--only", *cases, "--json", str(record)])
    ran = capsys.readouterr().out
    main(["--show", str(record)])
    shown = capsys.readouterr().out

    assert {figure["case"] for figure in json.loads(record.read_text())["figures"]} == set(cases)
    assert "one group of 20: wattfill, out=" in ran
    assert shown.partition("**")[2] == ran.partition("**")[2]


@pytest.mark.parametrize("case", ["calls", "variants", "registry", "threads", "totals"])
def test_no_case_takes_a_wrong_answer(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    allocate = wattfill.allocate

    def generous(low: Any, high: Any, capacity: Any, *args: Any, **options: Any) -> Allocation:
        return allocate(low, high, 1.01 * np.asarray(capacity), *args, **options)

    monkeypatch.setattr(wattfill, "allocate", generous)

    with pytest.raises(AssertionError, match=r"over its capacity|not the exact ones|not those of"):
        main(["--quick", "--no-peers", "--only", case])


def test_a_peer_that_is_not_installed_is_named_and_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = Peer("Abacus", "abacus", "abacus.solve")
    monkeypatch.setattr("benchmarks.__main__.PEERS", (missing,))
    main(["--quick", "--only", "threads"])

    assert "skipped: Abacus, which needs abacus" in capsys.readouterr().out


def test_the_simulation_is_timed_and_its_answers_are_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "figures.json"

    status = simulation.main(["--quick", "--no-peers", "--json", str(file)])

    record = json.loads(file.read_text())
    assert status == 0
    assert [figure["what"] for figure in record["figures"]] == [
        "7 days of 1 sites",
        "7 days of 10 sites",
    ]
    assert "events/s" in capsys.readouterr().out


def test_a_simulation_that_loses_energy_is_no_answer() -> None:
    site, sessions = simulation.site_of(3), simulation.year_of(3, 2)
    result = simulation.simulate(sessions, site)
    lost = result.delivered.copy()
    lost[5] -= 1

    simulation.check_year(result, site)
    with pytest.raises(AssertionError):
        simulation.check_year(replace(result, delivered=lost), site)


def test_the_server_is_filled_loaded_and_asked(monkeypatch, capsys):
    arguments = "server --groups 2 --connections 2 --seconds 0.2 --rate 100"
    monkeypatch.setattr(sys, "argv", arguments.split())

    server.main()

    said = capsys.readouterr().out
    assert said.startswith("2 groups of 20: loaded in ")
    assert "of 100 requests/s over 2 connections" in said
