"""Time the simulation, alone and beside those of others: ``python -m benchmarks.simulation``.

A year of 1,000 sites is simulated at once; a day of one site beside acnportal, which shares power
by round robin, and beside EV2Gym, where everybody charges as fast as possible. Every answer is
checked.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks import machine
from wattfill.simulation import Sessions, SimulationResult, Site, Strategy, simulate
from wattfill.simulation.result import UJ_PER_KWH

SEED = 20260302
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
PLUGS, PER_SITE_AND_DAY = 50, 41
RATING, CAPACITY, MINIMUM = 22.0, 120.0, 4.14
# A day beside others: enough vehicles to keep the site at its limit for hours, at connectors that
# differ, in steps of so many minutes as in the examples of each.
VISITS, MIXED = 90, (3.5, 7.5, 11.0, 22.0)
STEP = {"acnportal": 5, "ev2gym": 15}
MOST_SECONDS, MOST_GIB = 60.0, 2.0
LEAST_TIMES = {"acnportal": 1000.0, "ev2gym": 100.0}


@dataclass(frozen=True)
class Figure:
    """How long something took."""

    what: str
    seconds: float
    sessions: int
    events: int
    """Of wattfill's; 0 for others, who count steps."""


def site_of(n_sites: int) -> Site:
    """Return sites of one make, each a tree of its own."""
    n = n_sites * PLUGS
    return Site(
        groups=tuple(f"site {k}" for k in range(n_sites)),
        capacity=np.full(n_sites, CAPACITY),
        buffer=np.zeros(n_sites),
        reserved=np.zeros(n_sites),
        minimum=np.full(n_sites, MINIMUM),
        parent=np.full(n_sites, -1),
        policy=("fifo",) * n_sites,
        rotation=np.full(n_sites, 900.0),
        connectors=tuple((f"station {i}", "1") for i in range(n)),
        owner=np.repeat(np.arange(n_sites), PLUGS),
        connector_minimum=np.full(n, MINIMUM),
        connector_maximum=np.full(n, RATING),
    )


def year_of(n_sites: int, days: int) -> Sessions:
    """Return workdays at sites: who comes around nine stays about eight hours, and others less."""
    random = np.random.default_rng(SEED)
    per_site = PER_SITE_AND_DAY * days
    shape = (n_sites, per_site)
    arrival = random.integers(0, days, shape) * DAY
    arrival += (np.clip(random.normal(9.5, 3.0, shape), 0.0, 23.9) * HOUR).astype(np.int64)
    arrival.sort(axis=1)
    arrival = arrival.ravel()
    n = n_sites * per_site
    departure = arrival + (random.gamma(4.0, 1.4, n) * HOUR).astype(np.int64) + 5 * MINUTE
    return Sessions(
        arrival=arrival,
        departure=departure,
        energy=random.gamma(2.0, 9.0, n),
        group=np.repeat(np.arange(n_sites, dtype=np.int32), per_site),
        maximum=random.choice([3.7, 7.4, 11.0, 22.0], n),
        groups=tuple(f"site {k}" for k in range(n_sites)),
    )


def check_year(result: SimulationResult, site: Site) -> None:
    """Raise unless energy is conserved, no limit passed, and each site is as it is alone."""
    source = result.source
    assert source.group is not None
    assert (result.arrays["over"] == 0).all()
    assert (result.arrays["peak"] <= CAPACITY * 1e6).all()
    assert (result.delivered <= np.rint(source.energy * UJ_PER_KWH)).all()
    per_site = np.add.reduceat(
        result.delivered, np.searchsorted(source.group, np.arange(len(site.groups)))
    )
    for g in range(len(site.groups)):
        assert result.energy(site.groups[g]) == per_site[g]
    # One site alone, at another place.
    g = len(site.groups) // 2
    rows = slice(*np.searchsorted(source.group, [g, g + 1]))
    of_site = source.take(rows)
    alone = simulate(
        Sessions(
            of_site.arrival, of_site.departure, of_site.energy,
            group=np.zeros(len(of_site), np.int32), maximum=of_site.maximum, groups=("site 0",),
        ),
        site_of(1),
        period=(result.start, result.stop),
    )  # fmt: skip
    for name in ("delivered", "full_at", "paused"):
        assert (getattr(alone, name) == getattr(result, name)[rows]).all()
    assert alone.arrays["p95"][0] == result.arrays["p95"][g]


def time_years(sizes: Sequence[int], days: int) -> list[Figure]:
    """Simulate a year of more and more sites."""
    figures = []
    for n_sites in sizes:
        site, sessions = site_of(n_sites), year_of(n_sites, days)
        start = perf_counter()
        result = simulate(sessions, site)
        seconds = perf_counter() - start
        check_year(result, site)
        figures.append(
            Figure(f"{days} days of {n_sites:,} sites", seconds, len(sessions), result.n_events)
        )
        say(figures[-1])
    return figures


def mixed_site() -> Site:
    """Return a site whose connectors differ, and sustain any power."""
    rating = np.resize(MIXED, PLUGS)
    return replace(
        site_of(1), minimum=np.zeros(1), connector_minimum=np.zeros(PLUGS), connector_maximum=rating
    )


def visits_of_a_day(period: int) -> list[Any]:
    """Return sessions of one day at one site in whole periods, each where it finds a connector."""
    from benchmarks.peers.acnportal_day import Visit

    random = np.random.default_rng(SEED)
    ms = period * MINUTE
    arrival = np.clip(random.normal(10.0, 3.0, VISITS), 1.0, 20.0) * HOUR // ms
    arrival.sort()
    departure = arrival + np.maximum(random.gamma(3.0, 1.0, VISITS) * HOUR // ms, 1)
    departure = np.minimum(departure, DAY // ms - 1)
    sessions = Sessions(
        arrival=(arrival * ms).astype(np.int64),
        departure=(departure * ms).astype(np.int64),
        energy=random.gamma(2.0, 9.0, VISITS).round(2),
        group=np.zeros(VISITS, np.int32),
        groups=("site 0",),
    )
    found = simulate(sessions, mixed_site())
    there = zip(arrival, departure, sessions.energy, found.connector, strict=True)
    return [Visit(int(a), int(d), float(e), int(i)) for a, d, e, i in there if i >= 0]


def time_a_day(
    peer: str,
    prepare: Callable[[Any], Any],
    run: Callable[[Any], list[float]],
    strategy: Strategy,
    within: Callable[[Any], float],
) -> tuple[list[Figure], float]:
    """Simulate a day with a peer and with wattfill, by turns, and compare what each visit got."""
    period = STEP[peer]
    visits, site, ms = visits_of_a_day(period), mixed_site(), period * MINUTE

    def by_wattfill() -> SimulationResult:
        sessions = Sessions(
            arrival=np.array([visit.arrival * ms for visit in visits]),
            departure=np.array([visit.departure * ms for visit in visits]),
            energy=np.array([visit.energy for visit in visits]),
            connector=np.array([visit.connector for visit in visits], np.int32),
            connectors=site.connectors,
        )
        return simulate(sessions, site, strategy=strategy, threads=1)

    ours, theirs = [], []
    for _ in range(2):
        prepared = prepare(visits)
        start = perf_counter()
        energies = run(prepared)
        theirs.append(perf_counter() - start)
        # So short that whatever else happens shows.
        for _ in range(50):
            start = perf_counter()
            result = by_wattfill()
            ours.append(perf_counter() - start)
    assert len(energies) == len(visits)
    apart = result.sessions["energy_kwh"] - energies
    allowed = np.array([within(visit) for visit in visits])
    assert (np.abs(apart) <= allowed).all(), np.column_stack([apart, allowed])
    what = f"a day of one site, {strategy}"
    figures = [
        Figure(f"{what}: {peer}, steps of {period} min", min(theirs), len(visits), 0),
        Figure(f"{what}: wattfill", min(ours), len(visits), result.n_events),
    ]
    for figure in figures:
        say(figure)
    faster = min(theirs) / min(ours)
    print(
        f"    {faster:,.0f} times as fast as {peer}; energies {np.abs(apart).max():.3f} kWh apart "
        f"at most, and {apart.sum():+.3f} of {sum(energies):.1f} kWh in all"
    )
    return figures, faster


def beside_acnportal() -> tuple[list[Figure], float]:
    """Share by round robin, in tenths of a kW."""
    from benchmarks.peers import acnportal_day as peer

    site, period = mixed_site(), STEP["acnportal"]
    rating = site.connector_maximum.tolist()
    # What comes of somebody who is full within a step is handed out from the next one on: that is
    # at most a step of what a connector gives; and a tenth is not handed out, at any time.
    step = period / 60
    return time_a_day(
        "acnportal",
        lambda visits: peer.prepare(visits, rating, CAPACITY, period),
        peer.run,
        "wattfill",
        lambda visit: step * (rating[visit.connector] + 0.1 * (visit.departure - visit.arrival)),
    )


def beside_ev2gym() -> tuple[list[Figure], float]:
    """Charge as fast as possible."""
    from benchmarks.peers import ev2gym_day as peer

    site, period = mixed_site(), STEP["ev2gym"]
    rating = site.connector_maximum.tolist()
    return time_a_day(
        "ev2gym",
        lambda visits: peer.prepare(visits, rating, CAPACITY, period, DAY // (period * MINUTE)),
        peer.run,
        "uncontrolled",
        # It rounds up to 0.01 kWh in each step.
        lambda visit: 0.01 * (visit.departure - visit.arrival) + 1e-9,
    )


BESIDE = {"acnportal": beside_acnportal, "ev2gym": beside_ev2gym}


def say(figure: Figure) -> None:
    """Print how long something took, and how much it was."""
    rate = figure.sessions / figure.seconds
    events = f", {figure.events / figure.seconds:,.0f} events/s" if figure.events else ""
    print(f"{figure.what}: {figure.seconds:.6g} s, {rate:,.0f} sessions/s{events}")


def peak_gib() -> float:
    """Return the most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all of it, say what came out, and hold it to what is promised."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulation", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a week of ten sites: that it runs")
    parser.add_argument("--no-peers", action="store_true", help="wattfill alone")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    args = parser.parse_args(arguments)
    described = machine.describe()
    print(", ".join(f"{name} {value}" for name, value in described.items()))
    if machine.load() > machine.BUSY:
        print(f"The machine was busy (load {machine.load():.1f}): take times with care.")

    figures = time_years([1, 10] if args.quick else [10, 100, 1000], 7 if args.quick else 365)
    year, gib = figures[-1], peak_gib()
    print(f"    at most {gib:.2f} GiB")
    promised = args.quick or (year.seconds < MOST_SECONDS and gib < MOST_GIB)
    for name, run in () if args.no_peers else BESIDE.items():
        try:
            import_module(f"benchmarks.peers.{name}_day")
        except ImportError as error:
            print(f"skipped: {name} ({error})")
            continue
        measured, faster = run()
        figures += measured
        promised = promised and faster >= LEAST_TIMES[name]
    if args.json is not None:
        record = {"machine": described, "figures": [asdict(figure) for figure in figures]}
        args.json.write_text(json.dumps(record | {"peak_gib": gib}, indent=1) + "\n")
    if not promised:
        print("This is slower, or takes more memory, than it should.")
    return 0 if promised else 1


if __name__ == "__main__":
    sys.exit(main())
