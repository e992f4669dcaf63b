"""Synthetic fleets: sessions as they come at workplaces, in public, at depots and at home.

What a group's year looks like depends on a seed and on the number of the group alone, so that a
part of a fleet is made anywhere from these two: nobody has to send it.

Each kind has its sources in `KINDS`. They are published medians and shapes, not a fit to one site;
a site of yours has its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any, NamedTuple, TypeAlias
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from wattfill.errors import InputError, InputTypeError
from wattfill.simulation.readers.clock import DAY, SECOND, find_zone, to_utc
from wattfill.simulation.tables import Sessions, Site

Floats = npt.NDArray[np.float64]
Times = npt.NDArray[np.int64]

HOUR = 3600.0
# Columns of so many rows are memory of their own, which goes back once they are not needed.
PIECE = 1 << 22
# A session shorter than this is somebody who changed their mind.
SHORTEST = 600.0


class Peak(NamedTuple):
    """A normal distribution among others: how often it is drawn from, and what it has."""

    share: float
    mean: float
    spread: float


class Vehicle(NamedTuple):
    """A class of vehicles: how often it is met, its battery and its on-board charger."""

    share: float
    battery: float
    """kWh, usable."""
    maximum: float
    """kW of alternating current."""


# Small, middle and large cars as they are sold in Europe: one phase at 7.4 kW, three at 11 or 22.
CARS = (
    Vehicle(0.10, 26.0, 7.4),
    Vehicle(0.15, 39.0, 7.4),
    Vehicle(0.30, 57.0, 11.0),
    Vehicle(0.25, 64.0, 11.0),
    Vehicle(0.14, 77.0, 11.0),
    Vehicle(0.06, 94.0, 22.0),
)
VANS = (Vehicle(0.45, 46.0, 11.0), Vehicle(0.40, 68.0, 11.0), Vehicle(0.15, 89.0, 22.0))


@dataclass(frozen=True)
class Kind:
    """How a kind of site is used."""

    name: str
    vehicles: tuple[Vehicle, ...]
    per_day: tuple[float, ...]
    """Sessions at each connector on a Monday, ..., on a Sunday."""
    arrival: tuple[Peak, ...]
    """Hours after midnight."""
    energy: tuple[float, float]
    """kWh wanted: the median and the sigma of a lognormal; a day's where each has its connector."""
    connector: tuple[float, float]
    """kW: the least and the most that a connector gives."""
    stay: tuple[float, float] | None = None
    """Hours: the median and the sigma of a lognormal."""
    leaves_at: tuple[Peak, Peak] | None = None
    """Hours after midnight: when who stays for the day, or overnight, leaves on a working day, and
    on another one."""
    stays_on: float = 0.0
    """Share of those who stay until they leave as all do; the others stay for `stay`."""
    has_own: bool = False
    """Whether each vehicle has a connector of its own."""
    weekends_off: bool = False
    """Whether who would leave on a weekend leaves on Monday."""


KINDS = {
    "workplace": Kind(
        "workplace",
        CARS,
        per_day=(1.10, 1.15, 1.15, 1.15, 1.00, 0.10, 0.07),
        arrival=(Peak(0.70, 8.2, 0.8), Peak(0.20, 10.5, 1.5), Peak(0.10, 13.5, 1.2)),
        energy=(9.5, 0.62),
        connector=(4.14, 11.0),
        stay=(2.9, 0.45),
        leaves_at=(Peak(1.0, 17.0, 1.0), Peak(1.0, 15.5, 2.0)),
        stays_on=0.70,
    ),
    "public": Kind(
        "public",
        CARS,
        per_day=(2.3, 2.3, 2.35, 2.4, 2.5, 2.3, 1.95),
        arrival=(Peak(0.30, 10.5, 2.0), Peak(0.45, 15.0, 2.8), Peak(0.25, 18.5, 2.0)),
        energy=(10.5, 0.70),
        connector=(4.14, 22.0),
        stay=(1.3, 0.85),
        leaves_at=(Peak(1.0, 32.0, 1.5), Peak(1.0, 33.5, 2.0)),
        stays_on=0.08,
    ),
    "depot": Kind(
        "depot",
        VANS,
        per_day=(0.95, 0.95, 0.95, 0.95, 0.90, 0.15, 0.05),
        arrival=(Peak(0.80, 17.0, 1.2), Peak(0.20, 14.0, 1.5)),
        energy=(24.0, 0.40),
        connector=(4.14, 22.0),
        leaves_at=(Peak(1.0, 30.2, 0.8), Peak(1.0, 30.8, 1.0)),
        stays_on=1.0,
        has_own=True,
        weekends_off=True,
    ),
    "residential": Kind(
        "residential",
        CARS,
        per_day=(0.50, 0.50, 0.50, 0.50, 0.48, 0.45, 0.52),
        arrival=(Peak(0.68, 18.0, 1.9), Peak(0.17, 21.5, 1.3), Peak(0.15, 13.5, 2.0)),
        energy=(6.0, 0.55),
        connector=(1.38, 7.4),
        stay=(2.6, 0.60),
        leaves_at=(Peak(1.0, 31.6, 1.1), Peak(1.0, 34.0, 1.8)),
        stays_on=0.80,
        has_own=True,
    ),
}
"""By name. The sources, and what is taken from each:

- workplace: Lee, Li, Low, ACN-Data, ACM e-Energy 2019 (an employees' and a campus garage: weekdays
  above all, arrivals in the morning, stays until the afternoon); Develder et al., Quantifying
  flexibility in EV charging as DR potential, IEEE SmartGridComm 2016 (cluster "charge near work":
  arrivals from 6 to 9, stays of 9 hours in the mean); Asensio et al., Scientific Data 8:221, 2021
  (where stays are priced, a median below 3 hours: those who do not stay on)
- public: UK Department for Transport, Electric Chargepoint Analysis 2017: Local Authority Rapids (a
  median of 9.3 kWh, arrivals by day); Wolbertus, van den Hoed, Maase, Benchmarking charging
  infrastructure utilization, EVS29, 2016 (at kerbs some stay overnight)
- depot: Borlaug et al., Heavy-duty truck electrification and the impacts of depot charging, Nature
  Energy 6, 2021, and Bruchon et al., Depot-based vehicle data, NREL, 2024 (back in the afternoon,
  overnight at the depot, gone in the morning, weekends off; daily distances of short haul)
- residential: Department for Transport, Electric Chargepoint Analysis 2017: Domestics (arrivals
  above all from 17 to 19, a median of 7.5 kWh); Gonzalez Venegas, Petit, Perez, Plug-in behavior of
  electric vehicle users, 2021 (2 to 3 times a week, less often with a large battery); Sørensen et
  al., Data in Brief 36:107105, 2021 (apartment buildings: stays of 10 hours in the median)
"""
# Of all who charge, at least so many until the battery is full: My Electric Avenue, 2015.
UNTIL_FULL = 0.65
# Beside the battery that is empty, nobody arrives below this state of charge.
LEAST_SOC = 0.05
# One site is busier than another: the sigma of a lognormal with mean 1.
BUSIER = 0.15
# Of the connectors' sum, as at the sites of ACN-Data: 150 kW for 54 of 6.6 kW, 195 kW for 50.
CAPACITY = 0.45


def generate(
    kind: str,
    *,
    groups: int | range = 10,
    connectors: int = 20,
    days: int = 365,
    seed: int = 0,
    start: str | date = "2025-01-01",
    time_zone: str = "UTC",
    demand: float = 1.0,
) -> Sessions:
    """Return sessions of a synthetic fleet, those of one group after those of another.

    Parameters
    ----------
    kind : {"workplace", "public", "depot", "residential"}
        What the groups are; `KINDS` has what is behind it. At a depot and at home each vehicle has
        a connector of its own; elsewhere it takes the first one that is free.
    groups : int or range
        How many groups, or the numbers of those to make: ``range(20, 30)`` makes the same sessions
        for these ten as any other call with this seed.
    connectors : int
        In each group.
    days : int
        From `start`; who arrives on one of these days may leave later.
    seed : int
        Of all chance, at least 0. One seed makes one fleet, with one version of NumPy.
    start : str or date
        The first day, in ISO 8601.
    time_zone : str
        Whose wall clock people live by.
    demand : float
        Sessions, as a multiple of the usual number; where each vehicle has its connector, there is
        one a day at most.

    Returns
    -------
    Sessions
        By group, then by arrival. Ids are those of `synthetic_site`.

    Raises
    ------
    InputError
        There is no such kind, or a number is out of its range.

    Examples
    --------
    >>> generate("workplace", groups=2, connectors=10, days=5, seed=1, start="2026-03-02")
    <Sessions: 128 sessions in 2 groups, 2026-03-02T07:27:50.000 to 2026-03-06T18:29:15.000>

    """
    what, numbers = _kind(kind), _numbers(groups)
    _require("connectors", connectors, 1)
    _require("days", days, 1)
    _require("seed", seed, 0)
    if not 0.0 < demand < np.inf:
        raise InputError(f"demand must be above 0 and finite, got {demand!r}")
    zone, first = find_zone(time_zone), _day(start)
    make = _own if what.has_own else _pool
    parts: list[_Columns] = []
    pieces: list[_Columns] = []
    counts = []
    for number in numbers:
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number,)))
        drawn = make(what, rng, connectors, days, first, demand)
        parts.append(_made(drawn, rng, first, zone))
        counts.append(len(drawn.arrival))
        if sum(counts[-len(parts) :]) >= PIECE:
            pieces.append(_joined(parts))
    columns = _joined(pieces if not parts else [*pieces, _joined(parts)])
    if what.has_own:
        before = np.arange(len(numbers), dtype=np.int32) * connectors
        columns["connector"] += np.repeat(before, counts)
    names = _group_ids(what, numbers)
    return Sessions(
        **columns,
        group=np.repeat(np.arange(len(numbers), dtype=np.int32), counts),
        groups=names,
        connectors=_connector_ids(names, connectors) if what.has_own else (),
    )


def synthetic_site(
    kind: str,
    *,
    groups: int | range = 10,
    connectors: int = 20,
    capacity: float | None = None,
    buffer: float = 0.0,
    policy: str = "fifo",
    rotation: float = 900.0,
) -> Site:
    """Return the site of a synthetic fleet: groups side by side, with the same connectors each.

    Parameters
    ----------
    kind, groups, connectors
        As of `generate`.
    capacity : float, optional
        kW of each group; by default 45 % of what its connectors can give, as at the sites of
        ACN-Data.
    buffer, policy, rotation
        As of a group.

    Raises
    ------
    InputError
        There is no such kind, or a number is out of its range.

    Examples
    --------
    >>> site = synthetic_site("workplace", groups=2, connectors=10, capacity=50, buffer=0.1)
    >>> site.groups, site.connectors[0]
    (('workplace-00000', 'workplace-00001'), ('workplace-00000-00', '1'))

    """
    what, numbers = _kind(kind), _numbers(groups)
    _require("connectors", connectors, 1)
    low, high = what.connector
    n, m = len(numbers), len(numbers) * connectors
    names = _group_ids(what, numbers)
    return Site(
        groups=names,
        capacity=np.full(n, CAPACITY * connectors * high if capacity is None else capacity),
        buffer=np.full(n, buffer),
        reserved=np.zeros(n),
        minimum=np.full(n, low),
        parent=np.full(n, -1),
        policy=(policy,) * n,
        rotation=np.full(n, rotation),
        connectors=_connector_ids(names, connectors),
        owner=np.repeat(np.arange(n), connectors),
        connector_minimum=np.full(m, low),
        connector_maximum=np.full(m, high),
    )


def _kind(name: str) -> Kind:
    if name not in KINDS:
        raise InputError(f"kind must be one of {', '.join(KINDS)}, got {name!r}")
    return KINDS[name]


def _numbers(groups: int | range) -> range:
    if not isinstance(groups, range):
        _require("groups", groups, 1)
        return range(groups)
    if not groups or groups[0] < 0 or groups[-1] < 0:
        raise InputError(f"groups must be a number or a range from 0 up, got {groups!r}")
    return groups


def _require(name: str, value: int, least: int) -> None:
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
        raise InputTypeError(f"{name} must be a whole number, got {value!r}")
    if value < least:
        raise InputError(f"{name} must be at least {least}, got {value!r}")


def _day(start: str | date) -> int:
    """Return the days from the epoch to the first day."""
    try:
        day = np.datetime64(date.fromisoformat(start) if isinstance(start, str) else start, "D")
    except ValueError:
        raise InputError(f"start must be a day such as 2026-03-02, got {start!r}") from None
    number = int(day.astype(np.int64))
    if not 0 <= number < 60_000:
        raise InputError(f"start must be a day from 1970 to 2134, got {start!r}")
    return number


def _group_ids(kind: Kind, numbers: range) -> tuple[str, ...]:
    return tuple(f"{kind.name}-{number:05}" for number in numbers)


def _connector_ids(groups: tuple[str, ...], connectors: int) -> tuple[tuple[str, str], ...]:
    digits = max(2, len(str(connectors - 1)))
    return tuple((f"{group}-{i:0{digits}}", "1") for group in groups for i in range(connectors))


_Columns: TypeAlias = dict[str, npt.NDArray[Any]]


class _Drawn(NamedTuple):
    """Sessions of a group: seconds of the wall clock after the first midnight, and the rest."""

    arrival: Floats
    departure: Floats
    energy: Floats
    battery: Floats
    maximum: Floats
    connector: npt.NDArray[np.int32] | None


def _pool(
    kind: Kind, rng: np.random.Generator, connectors: int, days: int, first: int, demand: float
) -> _Drawn:
    """Draw sessions of many vehicles, each of which takes any connector."""
    assert kind.stay is not None
    weekday = _weekday(first + np.arange(days))
    busier = rng.lognormal(-(BUSIER**2) / 2, BUSIER)
    per_day = np.array(kind.per_day)[weekday] * (connectors * demand * busier)
    day = np.repeat(np.arange(days), rng.poisson(per_day))
    arrival = HOUR * np.maximum(24.0 * day + _draw_peaks(rng, kind.arrival, len(day)), 0.0)
    departure = _draw_departures(kind, rng, arrival, day, first)
    battery, maximum = _draw_vehicles(kind, rng, len(day))
    energy = rng.lognormal(np.log(kind.energy[0]), kind.energy[1], len(day))
    order = np.argsort(arrival, kind="stable")
    # What is drawn apart from the arrival goes with any.
    return _Drawn(arrival[order], departure[order], energy, battery, maximum, None)


def _own(
    kind: Kind, rng: np.random.Generator, connectors: int, days: int, first: int, demand: float
) -> _Drawn:
    """Draw sessions of vehicles that have a connector each, a session a day at most."""
    battery, maximum = _draw_vehicles(kind, rng, connectors)
    per_day = np.array(kind.per_day)[_weekday(first + np.arange(days))] * demand
    # Who has a large battery plugs in less often, for more.
    seldom = 1.0 if kind.weekends_off else np.sqrt(battery.mean() / battery)[:, None]
    connector, day = np.nonzero(rng.random((connectors, days)) < per_day * seldom)
    n = len(day)
    same = connector[1:] == connector[:-1]
    driven = np.ones(n)
    if not kind.weekends_off:
        driven[1:][same] = (day[1:] - day[:-1])[same]
    energy = driven * rng.lognormal(np.log(kind.energy[0]), kind.energy[1] / np.sqrt(driven))
    # So that nobody comes before the last session of the day before has begun.
    hour = np.clip(_draw_peaks(rng, kind.arrival, n), 10.0, 27.0)
    arrival = HOUR * (24.0 * day + hour)
    departure = _draw_departures(kind, rng, arrival, day, first)
    next_arrival = np.full(n, np.inf)
    next_arrival[:-1][same] = arrival[1:][same]
    departure = np.minimum(departure, next_arrival - SHORTEST)
    order = np.argsort(arrival, kind="stable")
    return _Drawn(
        arrival[order],
        departure[order],
        energy[order],
        battery[connector[order]],
        maximum[connector[order]],
        connector[order].astype(np.int32),
    )


def _weekday(day: Times) -> Times:
    """Return 0 for a Monday; the epoch is a Thursday."""
    return (day + 3) % 7


def _draw_peaks(rng: np.random.Generator, peaks: tuple[Peak, ...], n: int) -> Floats:
    which = _draw_shares(rng, [peak.share for peak in peaks], n)
    mean, spread = np.array([peak[1:] for peak in peaks]).T
    hours: Floats = mean[which] + spread[which] * rng.standard_normal(n)
    return hours


def _draw_shares(rng: np.random.Generator, shares: list[float], n: int) -> npt.NDArray[np.intp]:
    return np.searchsorted(np.cumsum(shares)[:-1], rng.random(n), side="right")


def _draw_vehicles(kind: Kind, rng: np.random.Generator, n: int) -> tuple[Floats, Floats]:
    which = _draw_shares(rng, [vehicle.share for vehicle in kind.vehicles], n)
    battery, maximum = np.array([vehicle[1:] for vehicle in kind.vehicles]).T
    return battery[which], maximum[which]


def _draw_departures(
    kind: Kind, rng: np.random.Generator, arrival: Floats, day: Times, first: int
) -> Floats:
    assert kind.leaves_at is not None
    # Whoever leaves at 31 hours after midnight leaves on the day after.
    leaving_day = day + int(kind.leaves_at[0].mean // 24)
    weekday = _weekday(first + leaving_day)
    is_working_day = weekday < 5
    if kind.weekends_off:
        leaving_day = leaving_day + np.where(is_working_day, 0, 7 - weekday)
    working, other = kind.leaves_at
    mean = np.where(is_working_day, working.mean, other.mean) % 24.0
    spread = np.where(is_working_day, working.spread, other.spread)
    hours = mean + spread * rng.standard_normal(len(day))
    departure: Floats = HOUR * (24.0 * leaving_day + hours)
    if kind.stay is not None:
        stay = HOUR * rng.lognormal(np.log(kind.stay[0]), kind.stay[1], len(day))
        departure = np.where(rng.random(len(day)) < kind.stays_on, departure, arrival + stay)
    # Whoever comes after all have left stays for a moment.
    departure = np.maximum(departure, arrival + SHORTEST)
    return departure


def _joined(parts: list[_Columns]) -> _Columns:
    """Return the columns of all parts, and empty these: next to nothing is there twice."""
    columns = {name: np.concatenate([part.pop(name) for part in parts]) for name in [*parts[0]]}
    parts.clear()
    return columns


def _made(drawn: _Drawn, rng: np.random.Generator, first: int, zone: ZoneInfo) -> _Columns:
    """Return the columns of a group."""
    battery = drawn.battery
    # To the watt-hour, as meters tell it.
    energy = np.minimum(drawn.energy, (1.0 - LEAST_SOC) * battery).round(3)
    luck = rng.random(len(energy))
    until = np.where(luck < UNTIL_FULL, 1.0, 0.8 + 0.2 * (luck - UNTIL_FULL) / (1 - UNTIL_FULL))
    columns: _Columns = {
        name: to_utc(seconds.astype(np.int64) * SECOND + first * DAY, zone) // 1000
        for name, seconds in (("arrival", drawn.arrival), ("departure", drawn.departure))
    }
    columns |= {
        "energy": energy,
        "maximum": drawn.maximum,
        "battery": battery,
        "soc": np.floor(1e4 * np.maximum(until - energy / battery, LEAST_SOC)) / 1e4,
    }
    if drawn.connector is not None:
        columns["connector"] = drawn.connector
    return columns
