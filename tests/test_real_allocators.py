"""What docs/real-allocators.md says of allocators that others wrote is still so.

Of those that are installed in the versions that it speaks of: they are in the extra ``bench``, but
for EV2Gym, and not in ``dev``.
"""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pytest

from benchmarks.verify import SUBJECTS, Subject

PAGE = Path(__file__).parents[1] / "docs" / "real-allocators.md"
# The faults that are shown in full there.
PRINTED = ("an answer for everyone", "never over", "nothing between zero and the minimum")
KNOWN = [(subject, law) for subject in SUBJECTS for law in subject.known]


def load_or_skip(subject: Subject) -> None:
    for package, release in subject.packages.items():
        try:
            installed = version(package)
        except PackageNotFoundError:
            pytest.skip(f"{package} is not installed")
        if installed != release:
            pytest.skip(f"findings are of {package} {release}, here is {installed}")
    try:
        subject.load()
    except ImportError as error:
        pytest.skip(f"it cannot be loaded: {error}")


@pytest.mark.parametrize(("subject", "law"), KNOWN, ids=lambda x: getattr(x, "name", x))
def test_a_known_site_still_breaks_the_law(subject, law):
    load_or_skip(subject)

    broken = subject.broken_on(subject.known[law], [law]).get(law)

    assert broken is not None
    if law in subject.faults and law in PRINTED:
        assert str(broken) in PAGE.read_text()


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
def test_a_known_site_breaks_no_law_that_is_not_known(subject):
    load_or_skip(subject)

    for site in subject.known.values():
        assert set(subject.broken_on(site)) <= set(subject.known)


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
def test_the_page_names_each_with_its_versions(subject):
    page = PAGE.read_text()

    assert f"| {subject.name} |" in page
    for package, release in subject.packages.items():
        assert f"{package} {release}" in page


@pytest.mark.parametrize(
    ("rule", "uninterrupted", "limit_a", "message"),
    [
        ("SortedSchedulingAlgo", True, 34, "Pilot 2.0 A is not valid for station A1"),
        ("RoundRobin", True, 16, "Pilot 5.4 A is not valid for station A0"),
        ("RoundRobin", False, 16, "Pilot 5.4 A is not valid for station A0"),
    ],
)
def test_acnportal_refuses_what_its_rules_answer_to_a_deadband(
    rule, uninterrupted, limit_a, message
):
    load_or_skip(SUBJECTS[0])
    from datetime import datetime

    from acnportal import acnsim, algorithms
    from acnportal.algorithms.sorted_algorithms import first_come_first_served

    names = ["A0", "A1", "A2"]
    network = acnsim.ChargingNetwork()
    for name in names:
        network.register_evse(acnsim.models.DeadbandEVSE(name, 6, 32), 230, 0)
    network.add_constraint(acnsim.Current(names), limit_a, "feeder")
    arrivals = [
        acnsim.PluginEvent(0, acnsim.EV(0, 10, 20, name, name, acnsim.Battery(100, 0, 22)))
        for name in names
    ]
    algorithm = getattr(algorithms, rule)(
        first_come_first_served, uninterrupted_charging=uninterrupted
    )
    simulator = acnsim.Simulator(
        network,
        algorithm,
        acnsim.EventQueue(arrivals),
        datetime(2026, 1, 1),
        period=5,
        verbose=False,
    )

    with pytest.raises(acnsim.models.InvalidRateError, match=message):
        simulator.run()


def test_round_robin_of_acnportal_leaves_a_lone_car_an_increment_below_its_maximum():
    load_or_skip(SUBJECTS[0])
    from benchmarks.peers.acnportal_rules import share

    # 1.4 + 206 * 0.1 is 22, but not in doubles.
    power = share(np.array([1.4]), np.array([22.0]), 100.0, rule="RoundRobin")

    assert power == pytest.approx([21.9])


@pytest.mark.parametrize(
    ("n", "total_kw", "ends"), [(2, 43.9999, True), (2, 43.99999, False), (5, 109.99999, False)]
)
def test_highs_alone_goes_round_in_circles_on_sites_that_are_almost_full(n, total_kw, ends):
    load_or_skip(next(s for s in SUBJECTS if s.name.startswith("HiGHS")))
    import highspy

    solver = highspy.Highs()
    solver.setOptionValue("output_flag", False)
    solver.setOptionValue("time_limit", 1.0)
    for _ in range(n):
        solver.addVar(0.0, 22.0)
    solver.addRow(total_kw, total_kw, n, np.arange(n), np.ones(n))
    squares = highspy.HighsHessian()
    squares.dim_, squares.format_ = n, highspy.HessianFormat.kTriangular
    squares.start_, squares.index_ = np.arange(n + 1), np.arange(n)
    squares.value_ = np.full(n, 2.0)
    solver.passHessian(squares)
    solver.run()

    assert (solver.getModelStatus() == highspy.HighsModelStatus.kOptimal) is ends
