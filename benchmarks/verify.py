"""Hold allocators that others wrote to the laws: ``python -m benchmarks.verify``.

Each is asked about one group at a time, and held to what it promises. What it is known to break
stands beside it, with a small site: as another rule, or as a fault by its own rule.
docs/real-allocators.md has what came out.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from wattfill.testing import LAWS, LawBrokenError, Report, Spec, check_allocator
from wattfill.testing.trial import Trial

SEED, EXAMPLES = 1, 200


@dataclass(frozen=True)
class Known:
    """Why a law is broken, and a site on which it is: bounds and a capacity in kW."""

    why: str
    minimum: Sequence[float]
    maximum: Sequence[float]
    capacity: float


@dataclass(frozen=True)
class Subject:
    """An allocator that others wrote, what it promises, and what is known of it.

    Attributes
    ----------
    name : str
        What to call it.
    packages : mapping of str to str
        The packages that it is of, and the versions of which the findings are.
    place : str
        Module of `benchmarks.peers`; its ``share`` is asked.
    options : mapping
        What it is called with, beside a site.
    spec : Spec
        What the allocator promises, by its documentation.
    differences : mapping of str to Known
        Laws that do not hold because its rule is another one.
    faults : mapping of str to Known
        Laws that its own rule should keep.

    """

    name: str
    packages: Mapping[str, str]
    place: str
    options: Mapping[str, Any]
    spec: Spec
    differences: Mapping[str, Known] = field(default_factory=dict)
    faults: Mapping[str, Known] = field(default_factory=dict)

    @property
    def known(self) -> dict[str, Known]:
        """All laws that it is known to break."""
        return {**self.differences, **self.faults}

    def load(self) -> Any:
        """Import the allocator; raise ImportError where what it needs is missing."""
        share = import_module(f"benchmarks.peers.{self.place}").share
        return partial(_alone, partial(share, **self.options))

    def check(self, max_examples: int = EXAMPLES, seed: int = SEED) -> Report:
        """Hold it to the laws."""
        return check_allocator(
            self.load(),
            spec=self.spec,
            expected_failures={law: known.why for law, known in self.known.items()},
            max_examples=max_examples,
            seed=seed,
            on_fail="return",
        )

    def broken_on(self, site: Known, laws: Iterable[str] = LAWS) -> dict[str, LawBrokenError]:
        """Ask about a site, and return which of some laws are broken on it, and how."""
        batch = {
            "minimum": list(site.minimum),
            "maximum": list(site.maximum),
            "capacity": site.capacity,
        }
        trial, broken = Trial(batch, self.load(), self.spec), {}
        for law in laws:
            if LAWS[law].why_not(self.spec):
                continue
            try:
                LAWS[law].check(trial)
            except LawBrokenError as error:
                broken[law] = error
        return broken


def _alone(
    share: Any,
    minimum: list[float],
    maximum: list[float],
    capacity: float,
    rank: list[float] | None = None,
) -> Any:
    """Ask about one group; ranks become the order in which sessions came."""
    n = len(minimum)
    if n == 0:
        return []
    line = {} if rank is None else {"line": sorted(range(n), key=lambda i: (rank[i], i))}
    return share(np.array(minimum), np.array(maximum), capacity, **line)


# acnportal bisects to 0.01 A, and round robin counts in increments of 0.1 A above a minimum.
_ACNPORTAL = {"acnportal": "0.3.3"}
_CAME = frozenset({"rank"})
_FIRST_COME = Known("who comes first gets all it can take", [0.0, 0.0], [11.0, 11.0], 11.0)
_SERVED_BEFORE = Known(_FIRST_COME.why, [0.0, 1.4], [11.0, 11.0], 11.0)
_DEADBAND = "`DeadbandEVSE` has no minimum for the algorithm, and refuses what it answers"
_INCREMENTS = Known(
    "equal increments above the minimums, not equal powers", [1.4, 5.0], [22.0, 22.0], 10.0
)
_ONE_LEFT_OUT = Known(
    "the last increment below a maximum may be left out",
    [0.0, 1.4, 2.3, 2.3],
    [50.0, 22.0, 22.0, 22.0],
    88.0,
)


def _acnportal(
    name: str, rule: str, minimums: str, differences: Mapping[str, Known], **rest: Any
) -> Subject:
    return Subject(
        f"acnportal, {name}",
        _ACNPORTAL,
        "acnportal_rules",
        {"rule": rule, "minimums": minimums},
        Spec(
            _CAME,
            pausing=minimums != "session",
            tolerance=0.1 if rule == "RoundRobin" else 0.01,
        ),
        differences,
        **rest,
    )


_BY_ARRIVAL = {"nobody larger could give": _FIRST_COME, "equals get equal": _FIRST_COME}
_BY_INCREMENTS = {
    "nobody larger could give": _INCREMENTS,
    "twice everything gives twice the power": _ONE_LEFT_OUT,
}

# EV2Gym rounds fractions to five digits, and a charger lets pass what is 0.01 A below its minimum.
_TURNS = Known("the others have their turn in another period", [0.0, 0.0], [11.0, 11.0], 11.0)
_WAITS = Known(_TURNS.why, [1.4, 0.0], [11.0, 11.0], 11.0)
_TAKES_TURNS = {
    "nobody is paused while all minimums fit": _WAITS,
    "nobody is paused who would have fitted": _WAITS,
    "nobody larger could give": _TURNS,
    "equals get equal": _TURNS,
    "order does not matter": _TURNS,
}
_LOST = Known("who charges is drawn by lot", [0.0, 0.0], [11.0, 11.0], 11.0)
_LOST_WAITS = Known(_LOST.why, [0.0, 1.4], [11.0, 11.0], 11.0)
_BY_LOT = {
    "nobody is paused while all minimums fit": _LOST_WAITS,
    "nobody is paused who would have fitted": _LOST_WAITS,
    "nobody larger could give": _LOST,
    "equals get equal": _LOST,
    "order does not matter": _LOST,
}
# With less than its minimum a charger gives nothing.
_BELOW = "what is left for the last one in turn is less than its minimum, and then nobody's"
_LAST_IN_TURN = Known(_BELOW, [0.0, 7.4], [7.4, 7.4], 5.0)
_LAST_BY_LOT = Known(_BELOW, [7.4, 0.0], [7.4, 7.4], 5.0)
_LAST_CHARGER = Known(
    "who has no turn gets the last charger's share of a minimum, which nobody reckons with",
    [0.0, 1.4],
    [11.0, 22.0],
    17.0,
)
_LAST_MINIMUM = Known(
    "who has no turn gets the last charger's share of a minimum, be it below its own",
    [1.4, 0.0],
    [11.0, 11.0],
    6.0,
)


def _by_average(over: Sequence[float], under: Sequence[float]) -> dict[str, Known]:
    """Return what comes of an average, for chargers of unlike power, first the chosen one."""
    why = "the limit over the average charger says how many may charge, whichever they are"
    draws_too_much = Known(why, [0.0, 0.0], over, 16.5)
    draws_too_little = Known(why, [0.0, 0.0], under, 16.5)
    return {
        "never over": draws_too_much,
        "nothing is wasted": draws_too_little,
        "who leaves with its power changes nothing": draws_too_little,
        "an answer as the maximums returns itself": draws_too_much,
    }


def _ev2gym(rule: str, **rest: Any) -> Subject:
    return Subject(
        f"EV2Gym, {rule}",
        {"ev2gym": "2.0.0"},
        "ev2gym_rules",
        {"rule": rule},
        Spec(frozenset(), ordered=False, tolerance=0.05),
        **rest,
    )


def _solver(name: str, package: str, release: str, **rest: Any) -> Subject:
    return Subject(
        f"{name} through CVXPY",
        {"cvxpy": "1.9.3", package: release},
        "cvxpy_qp",
        {"solver": name.upper(), **rest.pop("options", {})},
        Spec(frozenset(), pausing=False, tolerance=1e-3),
        **rest,
    )


SUBJECTS = (
    _acnportal("first come, minimums of sessions", "SortedSchedulingAlgo", "session", _BY_ARRIVAL),
    _acnportal("first come, minimums of stations", "SortedSchedulingAlgo", "station", _BY_ARRIVAL),
    _acnportal(
        "first come, stations with a deadband",
        "SortedSchedulingAlgo",
        "deadband",
        {
            **_BY_ARRIVAL,
            "nobody is paused while all minimums fit": _SERVED_BEFORE,
            "nobody is paused who would have fitted": _SERVED_BEFORE,
            "who comes first is admitted first": _SERVED_BEFORE,
        },
        faults={
            "nothing between zero and the minimum": Known(_DEADBAND, [1.4, 1.4], [7.4, 7.4], 8.0),
        },
    ),
    _acnportal("round robin, minimums of sessions", "RoundRobin", "session", _BY_INCREMENTS),
    _acnportal("round robin, minimums of stations", "RoundRobin", "station", _BY_INCREMENTS),
    _acnportal(
        "round robin, stations with a deadband",
        "RoundRobin",
        "deadband",
        {},
        faults={
            "nothing between zero and the minimum": Known(
                _DEADBAND, [1.4, 1.4, 1.4], [7.4, 7.4, 7.4], 3.6
            ),
        },
    ),
    _ev2gym(
        "RoundRobin",
        differences=_TAKES_TURNS,
        faults={
            **_by_average([11.0, 22.0], [22.0, 11.0]),
            "who gets nothing does not matter": _LAST_IN_TURN,
        },
    ),
    _ev2gym(
        "ChargeAsFastAsPossibleWithPowerLimit",
        differences=_BY_LOT,
        faults={
            **_by_average([22.0, 11.0], [22.0, 33.0]),
            "who gets nothing does not matter": _LAST_BY_LOT,
        },
    ),
    _ev2gym(
        "RoundRobin_GF",
        differences=_TAKES_TURNS,
        faults={
            "never over": _LAST_CHARGER,
            "nothing is wasted": _LAST_MINIMUM,
            "who gets nothing does not matter": _LAST_MINIMUM,
            "who leaves with its power changes nothing": _LAST_CHARGER,
            "more capacity never means less": Known(
                _LAST_CHARGER.why, [0.0, 5.5], [0.25, 11.0], 8.0
            ),
            "an answer as the maximums returns itself": _LAST_CHARGER,
        },
    ),
    _ev2gym(
        "RoundRobin_GF_off_allowed",
        differences=_TAKES_TURNS,
        faults={
            "nothing is wasted": _LAST_IN_TURN,
            "who gets nothing does not matter": _LAST_IN_TURN,
        },
    ),
    _solver("Clarabel", "clarabel", "0.11.1"),
    _solver("OSQP", "osqp", "1.1.3"),
    _solver(
        "HiGHS",
        "highspy",
        "1.16.0",
        # It has no limit of its own, and nobody else can stop it.
        options={"time_limit": 1.0},
        faults={
            "an answer for everyone": Known(
                "it goes round in circles", [0.0, 0.0], [22.0, 22.0], 43.99999
            ),
        },
    ),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Hold those that are asked for to the laws; return 1 if one breaks a law unknown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verify", description=__doc__)
    parser.add_argument("--only", default="", metavar="WORD", help="whose name has this word")
    parser.add_argument("--examples", type=int, default=EXAMPLES, metavar="N", help="sites each")
    parser.add_argument("--seed", type=int, default=SEED, help="repeats a run")
    parser.add_argument(
        "--known", action="store_true", help="no search: only the sites that are known"
    )
    args = parser.parse_args(arguments)
    unknown = False
    for subject in SUBJECTS:
        if args.only.lower() not in subject.name.lower():
            continue
        print(f"\n== {subject.name}, {_versions(subject)}", flush=True)
        try:
            subject.load()
        except ImportError as error:
            print(f"not run: {error}")
            continue
        print(_held_to(subject.spec))
        if not args.known:
            report = subject.check(args.examples, args.seed)
            unknown |= not report.ok
            print(report)
        for law, known in subject.known.items():
            kind = "by its own rule a fault" if law in subject.faults else "another rule"
            print(f"\n{law}: {kind}: {known.why}", flush=True)
            print(
                subject.broken_on(known, [law]).get(law) or f"held where it was broken: {known}",
                flush=True,
            )
    return int(unknown)


def _versions(subject: Subject) -> str:
    return ", ".join(f"{package} {_version(package)}" for package in subject.packages)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def _held_to(spec: Spec) -> str:
    takes = ", ".join(["minimum, maximum, capacity", *sorted(spec.features)])
    pauses = "pauses" if spec.pausing else "minimums fit"
    return f"takes {takes}; {pauses}; off by {spec.tolerance:g} kW at most"


if __name__ == "__main__":
    raise SystemExit(main())
