"""What a simulation reads: sessions, sites, changes over time, and how batteries taper."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from wattfill import _validate
from wattfill._records import POLICIES, QUANTA_PER_KW, TOO_MUCH_KW, Key, effective_minimum
from wattfill.errors import InputError, InputTypeError
from wattfill.registry import Registry

Floats: TypeAlias = npt.NDArray[np.float64]
Times: TypeAlias = npt.NDArray[np.int64]
Codes: TypeAlias = npt.NDArray[np.int32]

ANY_CONNECTOR = ""
"""In place of the id of a connector: any one of the charge station."""

_set = object.__setattr__


def _column(name: str, value: object, kinds: str, kind: str, dtype: type, n: int | None) -> Any:
    """Return a contiguous column of this type, of length n if that is known."""
    array = _validate._vector(name, value, n, "session", kinds, kind, dtype)
    if kinds == "iu" and dtype is np.int32:
        wide = np.asarray(value)
        if wide.size and not -(2**31) <= int(wide.min()) <= int(wide.max()) < 2**31:
            raise InputError(f"{name} must fit into 32 bits with a sign")
    return array


def times(name: str, value: object, n: int | None = None) -> Times:
    """Return milliseconds since the epoch, from such or from `datetime64` in UTC.

    Examples
    --------
    >>> times("arrival", np.array(["1970-01-01T00:00:01.5"], "datetime64[us]"))
    array([1500])

    """
    array = np.asarray(value)
    if array.dtype.kind == "M":
        if np.isnat(array).any():
            raise InputError(f"{name} must be times, got {name}[{np.isnat(array).argmax()}] = NaT")
        value = array.astype("datetime64[ms]").astype(np.int64)
    kind = "times: datetime64, or whole milliseconds since the epoch"
    column: Times = _column(name, value, "iu", kind, np.int64, n)
    return column


def _codes(values: Iterable[Any]) -> tuple[Codes, tuple[Any, ...]]:
    """Return a number for each value, in the order of first appearance, and what it means."""
    numbers: dict[Any, int] = {}
    codes = [numbers.setdefault(value, len(numbers)) for value in values]
    return np.array(codes, np.int32), tuple(numbers)


@dataclass(frozen=True, slots=True, eq=False)
class Sessions:
    """Charging sessions, one row each, in any order.

    Columns are contiguous arrays; one that is None has its default in every row, and takes no
    memory. Nothing is checked here but types and lengths: `simulate` checks what the rows say, and
    `wattfill.simulation.validate` tells of every row that it would refuse.

    Examples
    --------
    >>> Sessions.of(
    ...     group=["North", "North"],
    ...     arrival=np.array(["2026-03-02T08:00", "2026-03-02T08:10"], "datetime64[m]"),
    ...     departure=np.array(["2026-03-02T17:00", "2026-03-02T12:00"], "datetime64[m]"),
    ...     energy=[20.0, 7.5],
    ... )
    <Sessions: 2 sessions in 1 group, 2026-03-02T08:00:00.000 to 2026-03-02T17:00:00.000>

    """

    arrival: Times
    """(n,) Milliseconds since the epoch, UTC: when the vehicle is plugged in."""
    departure: Times
    """(n,) When it is unplugged; not before `arrival`."""
    energy: Floats
    """(n,) kWh wanted, at least 0 and below 1e6."""
    group: Codes | None = None
    """(n,) Place in `groups`, or -1 where `connector` alone says where; None: all -1."""
    connector: Codes | None = None
    """(n,) Place in `connectors`, or -1 for the first free one of the group; None: all -1."""
    maximum: Floats | None = None
    """(n,) kW that the vehicle takes; infinite where only the connector limits it, the default."""
    minimum: Floats | None = None
    """(n,) kW that the vehicle needs to charge at all; 0, the default, for the connector's."""
    weight: Floats | None = None
    """(n,) Of its share, 1 by default."""
    priority: Times | None = None
    """(n,) Higher is admitted and filled first, 0 by default."""
    battery: Floats | None = None
    """(n,) kWh, the battery's capacity; NaN, the default, where it is not known: no taper."""
    soc: Floats | None = None
    """(n,) State of charge at arrival, 0.0..1.0; NaN without a battery."""
    row: Times | None = None
    """(n,) Where each stands in its source, for messages; None: 0, 1, 2, ..."""
    groups: tuple[str, ...] = ()
    """Ids of groups."""
    connectors: tuple[Key, ...] = ()
    """(station id, connector id); the connector id may be `ANY_CONNECTOR`."""

    def __post_init__(self) -> None:
        _set(self, "arrival", times("arrival", self.arrival))
        n = len(self.arrival)
        _set(self, "departure", times("departure", self.departure, n))
        reals, whole = "real numbers", "whole numbers"
        for name in ("energy", "maximum", "minimum", "weight", "battery", "soc"):
            if (value := getattr(self, name)) is not None:
                _set(self, name, _column(name, value, "iuf", reals, np.float64, n))
        for name, dtype in (
            ("group", np.int32),
            ("connector", np.int32),
            ("priority", np.int64),
            ("row", np.int64),
        ):
            if (value := getattr(self, name)) is not None:
                _set(self, name, _column(name, value, "iu", whole, dtype, n))
        _set(self, "groups", tuple(self.groups))
        _set(self, "connectors", tuple(tuple(key) for key in self.connectors))

    @classmethod
    def of(
        cls,
        *,
        arrival: object,
        departure: object,
        energy: object,
        group: Sequence[str] | None = None,
        station: Sequence[str] | None = None,
        connector: Sequence[str] | None = None,
        **columns: Any,
    ) -> Self:
        """Return sessions whose groups, charge stations and connectors are called by their ids.

        Parameters
        ----------
        arrival, departure, energy : array_like, shape (n,)
            As the columns of these names; times may be `datetime64`, in UTC.
        group : sequence of str, shape (n,), optional
            Ids of groups, "" where the charge station says where.
        station, connector : sequence of str, shape (n,), optional
            Ids; "" for the first free connector of the group, or of the charge station. A
            connector's id means nothing without that of its station.
        **columns
            Any other column.

        Examples
        --------
        >>> s = Sessions.of(
        ...     station=["CS-1", "CS-1", ""], connector=["2", "", ""], group=["", "", "North"],
        ...     arrival=[0, 0, 0], departure=[9, 9, 9], energy=[1, 1, 1],
        ... )
        >>> s.connectors, s.connector.tolist()
        ((('CS-1', '2'), ('CS-1', '')), [0, 1, -1])
        >>> s.groups, s.group.tolist()
        (('North',), [-1, -1, 0])

        """
        found: dict[str, Any] = {}
        if group is not None:
            found |= cls._called("group", "groups", group, group)
        if station is not None:
            plugs = [ANY_CONNECTOR] * len(station) if connector is None else connector
            if len(plugs) != len(station):
                raise InputError(
                    f"station and connector must have the same length, got {len(station)} and "
                    f"{len(plugs)}"
                )
            keys = [(str(at), str(plug)) for at, plug in zip(station, plugs, strict=True)]
            found |= cls._called("connector", "connectors", keys, station)
        elif connector is not None:
            raise InputError("connector must come with station: its id is unique only within it")
        return cls(arrival=arrival, departure=departure, energy=energy, **found, **columns)  # type: ignore[arg-type]

    @staticmethod
    def _called(
        column: str, names: str, values: Sequence[Any], named: Sequence[str]
    ) -> dict[str, Any]:
        """Return the codes of the values, -1 where `named` is empty, and what they stand for."""
        is_named = np.array([bool(name) for name in named], np.bool_)
        codes = np.full(len(values), -1, np.int32)
        codes[is_named], known = _codes(
            value for value, is_there in zip(values, is_named, strict=True) if is_there
        )
        return {column: codes, names: known}

    def __len__(self) -> int:
        return len(self.arrival)

    def __repr__(self) -> str:
        n, m = len(self), len(self.groups)
        span = ""
        if n:
            begin, end = np.array([self.arrival.min(), self.departure.max()], "datetime64[ms]")
            span = f", {begin} to {end}"
        groups = f" in {m} group{'s' * (m != 1)}" if m else ""
        return f"<Sessions: {n} session{'s' * (n != 1)}{groups}{span}>"

    def take(self, rows: Any) -> Self:
        """Return some of the rows, by a mask, a slice or their places; a slice copies nothing."""
        columns: dict[str, Any] = {
            field.name: None if value is None else value[rows]
            for field in fields(self)
            if field.name not in ("groups", "connectors", "row")
            for value in (getattr(self, field.name),)
        }
        row = np.arange(len(self)) if self.row is None else self.row
        return type(self)(**columns, row=row[rows], groups=self.groups, connectors=self.connectors)


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """Groups and their connectors as arrays: trees of groups, side by side.

    Groups stand behind their parents and trees together, connectors in the order of their groups.
    `Site.of` makes one from a registry, and so from a site file (`wattfill.site.parse`).

    Examples
    --------
    >>> from wattfill import Connector, Registry
    >>> r = Registry()
    >>> g = r.create_group("Yard", 40, 4.14, id="yard", policy="rotate")
    >>> _ = r.add_charge_station(g.id, "CS-1", [Connector("1", 11), Connector("2", 22)])
    >>> Site.of(r)
    <Site: 1 group in 1 tree, 2 connectors>

    """

    groups: tuple[str, ...]
    """(n_groups,) Ids."""
    capacity: Floats
    """(n_groups,) kW"""
    buffer: Floats
    """(n_groups,) Fraction set aside."""
    reserved: Floats
    """(n_groups,) kW"""
    minimum: Floats
    """(n_groups,) kW that it takes to sustain a session: `minimum_connector_capacity`."""
    parent: Times
    """(n_groups,) Place of the parent, or -1."""
    policy: tuple[str, ...]
    """(n_groups,) "fifo", "rotate" or "most"."""
    rotation: Floats
    """(n_groups,) Seconds in a turn of "rotate"."""
    connectors: tuple[Key, ...]
    """(n_connectors,) (station id, connector id)"""
    owner: Times
    """(n_connectors,) Place of the group."""
    connector_minimum: Floats
    """(n_connectors,) kW; where it is less than its group's `minimum`, it becomes that."""
    connector_maximum: Floats
    """(n_connectors,) kW"""

    def __post_init__(self) -> None:
        _set(self, "groups", tuple(self.groups))
        _set(self, "policy", tuple(self.policy))
        _set(self, "connectors", tuple(tuple(key) for key in self.connectors))
        n, m = len(self.connectors), len(self.groups)
        for name in ("capacity", "buffer", "reserved", "minimum", "rotation"):
            _set(self, name, _validate.reals(name, getattr(self, name), m, "group"))
        for name in ("connector_minimum", "connector_maximum"):
            _set(self, name, _validate.reals(name, getattr(self, name), n))
        for name, size, of in (("parent", m, "group"), ("owner", n, "connector")):
            _set(self, name, _validate._integers(name, getattr(self, name), size, of))
        self._check()
        self._check_order()
        self._raise_minimums()

    def _check(self) -> None:
        _validate.capacity(
            self.capacity, len(self.groups), QUANTA_PER_KW, _validate.MOST_QUANTA_WEIGHTED
        )
        _validate.buffer(self.buffer, len(self.groups))
        _validate.reserved(self.reserved, len(self.groups))
        for name, values in (
            ("minimum", self.minimum),
            ("connector_minimum", self.connector_minimum),
            ("connector_maximum", self.connector_maximum),
        ):
            bad = ~((values >= 0.0) & (values < np.inf))
            if bad.any():
                _validate._refuse(name, "finite and at least 0", values, bad)
        if len(self.policy) != len(self.groups):
            raise InputError(
                f"policy must have one value per group, got {len(self.policy)} for "
                f"{len(self.groups)} groups"
            )
        for g, policy in enumerate(self.policy):
            if policy not in POLICIES:
                raise InputError(
                    f"policy must be one of 'fifo', 'rotate' and 'most', got policy[{g}] = "
                    f"{policy!r}"
                )
        for name, ids in (("groups", self.groups), ("connectors", self.connectors)):
            if len(set(ids)) < len(ids):
                twice = next(each for i, each in enumerate(ids) if each in ids[:i])
                raise InputError(f"{name} must differ from each other, got {twice!r} twice")

    def _check_order(self) -> None:
        """Refuse groups that do not stand right behind their parents or what is below these."""
        line: list[int] = []
        for g, parent in enumerate(self.parent.tolist()):
            while line and line[-1] != parent:
                line.pop()
            if parent != -1 and not line:
                raise InputError(
                    f"parent must stand before what is below it, and every tree together, got "
                    f"parent[{g}] = {parent}"
                )
            line.append(g)
        falls = np.flatnonzero(self.owner[1:] < self.owner[:-1])
        beyond = np.flatnonzero((self.owner < 0) | (self.owner >= len(self.groups)))
        if beyond.size:
            i = int(beyond[0])
            raise InputError(
                f"owner must be the place of a group, got owner[{i}] = {self.owner[i]}"
            )
        if falls.size:
            i = int(falls[0]) + 1
            raise InputError(
                f"owner must not fall: connectors stand in the order of their groups, got "
                f"owner[{i}] = {self.owner[i]} after {self.owner[i - 1]}"
            )

    def _raise_minimums(self) -> None:
        """Let no connector need less than its group does, nor more than it has."""
        low = np.maximum(self.connector_minimum, self.minimum[self.owner])
        high = self.connector_maximum
        short = low > high
        if short.any():
            i = int(np.argmax(short))
            raise InputError(
                f"connector_maximum must be at least the effective minimum, got "
                f"connector_maximum[{i}] = {high[i].item()!r} < {low[i].item()!r} "
                f"({int(short.sum())} of {short.size} connectors)"
            )
        _set(self, "connector_minimum", low)

    @classmethod
    def of(cls, registry: Registry) -> Self:
        """Return the groups, charge stations and connectors of a registry, without its sessions."""
        if not isinstance(registry, Registry):
            raise InputTypeError(f"registry must be a Registry, got {type(registry).__name__}")
        groups = registry.groups()
        place = {group.id: g for g, group in enumerate(groups)}
        plugs = [
            (g, group, station, connector)
            for g, group in enumerate(groups)
            for station in registry.charge_stations(group.id)
            for connector in station.connectors
        ]
        return cls(
            groups=tuple(group.id for group in groups),
            capacity=np.array([group.maximum_capacity for group in groups], np.float64),
            buffer=np.array([group.buffer for group in groups], np.float64),
            reserved=np.array([group.reserved for group in groups], np.float64),
            minimum=np.array([group.minimum_connector_capacity for group in groups], np.float64),
            parent=np.array(
                [-1 if group.parent is None else place[group.parent] for group in groups], np.int64
            ),
            policy=tuple(group.policy for group in groups),
            rotation=np.array([group.rotation for group in groups], np.float64),
            connectors=tuple((station.id, connector.id) for _, _, station, connector in plugs),
            owner=np.array([g for g, *_ in plugs], np.int64),
            connector_minimum=np.array(
                [effective_minimum(group, connector) for _, group, _, connector in plugs],
                np.float64,
            ),
            connector_maximum=np.array(
                [connector.maximum_capacity for *_, connector in plugs], np.float64
            ),
        )

    @property
    def roots(self) -> Times:
        """(n_trees,) Places of the groups that nothing feeds: each begins a tree."""
        return np.flatnonzero(self.parent < 0)

    def __repr__(self) -> str:
        def count(n: int, thing: str) -> str:
            return f"{n:,} {thing}{'s' * (n != 1)}"

        return (
            f"<Site: {count(len(self.groups), 'group')} in {count(len(self.roots), 'tree')}, "
            f"{count(len(self.connectors), 'connector')}>"
        )


@dataclass(frozen=True, slots=True, eq=False)
class Schedule:
    """Capacities and reserved loads of groups that change over time, one row a change.

    From its time on a change holds until the next of its kind at its group; before the first one,
    what the site says holds. Of several at one time the last row counts.

    Examples
    --------
    A building that takes 30 kW more from 06:00:

    >>> six = np.array(["2026-03-02T06:00"], "datetime64[ms]")
    >>> Schedule(at=six, group=[0], reserved=[30.0], groups=["North"])
    <Schedule: 1 change at 1 group>

    """

    at: Times
    """(n,) Milliseconds since the epoch, UTC."""
    group: Codes
    """(n,) Place in `groups`."""
    capacity: Floats | None = None
    """(n,) kW; NaN, the default, where it stays as it is."""
    reserved: Floats | None = None
    """(n,) kW; NaN, the default, where it stays as it is."""
    groups: tuple[str, ...] = ()
    """Ids of groups."""

    def __post_init__(self) -> None:
        _set(self, "at", times("at", self.at))
        n = len(self.at)
        _set(self, "group", _column("group", self.group, "iu", "whole numbers", np.int32, n))
        for name in ("capacity", "reserved"):
            if (value := getattr(self, name)) is not None:
                _set(self, name, _column(name, value, "iuf", "real numbers", np.float64, n))
        _set(self, "groups", tuple(self.groups))
        self._check()

    def _check(self) -> None:
        bad = (self.group < 0) | (self.group >= len(self.groups))
        if bad.any():
            _validate._refuse("group", "a place in `groups`", self.group, bad)
        if self.capacity is not None:
            bad = ~(np.isnan(self.capacity) | (self.capacity >= 0) & (self.capacity < TOO_MUCH_KW))
            if bad.any():
                rule = f"at least 0 and below {TOO_MUCH_KW:.6g} kW, or NaN"
                _validate._refuse("capacity", rule, self.capacity, bad)
        if self.reserved is not None:
            bad = ~(np.isnan(self.reserved) | (self.reserved >= 0) & np.isfinite(self.reserved))
            if bad.any():
                _validate._refuse("reserved", "finite and at least 0, or NaN", self.reserved, bad)

    def __len__(self) -> int:
        return len(self.at)

    def __repr__(self) -> str:
        n, m = len(self), len(np.unique(self.group))
        return f"<Schedule: {n} change{'s' * (n != 1)} at {m} group{'s' * (m != 1)}>"


@dataclass(frozen=True, slots=True)
class Taper:
    """What a battery accepts as it fills up, constant between states of charge.

    From ``soc[k]`` on, up to ``soc[k + 1]``, a vehicle takes ``fraction[k]`` of its maximum (of the
    connector's where it has none of its own); below ``soc[0]`` all of it. A session's upper bound
    never falls below its effective minimum, so a vehicle that tapers to less is still given that.

    The default has, in steps, the two stages of lithium-ion cells: constant current up to 80 %,
    then constant voltage, while what is taken falls on a line to nothing at 100 % (the linear
    two-stage battery of Lee, Sharma, Low: Research tools for smart electric vehicle charging, IEEE
    Electrification Magazine 9(3), 2021). Each step has what that line has in its middle.

    Examples
    --------
    >>> Taper((0.8, 0.9), (0.5, 0.2)).fraction
    (0.5, 0.2)

    """

    soc: tuple[float, ...] = (0.80, 0.85, 0.90, 0.95)
    """States of charge, rising, within 0.0..1.0."""
    fraction: tuple[float, ...] = (0.875, 0.625, 0.375, 0.125)
    """Of the maximum, within 0.0..1.0, not 0."""

    def __post_init__(self) -> None:
        for name in ("soc", "fraction"):
            values = _validate.reals(name, list(getattr(self, name))).tolist()
            _set(self, name, tuple(values))
        if len(self.soc) != len(self.fraction):
            raise InputError(
                f"soc and fraction must have the same length, got {len(self.soc)} and "
                f"{len(self.fraction)}"
            )
        if len(self.soc) > 16:
            raise InputError(f"soc must have at most 16 values, got {len(self.soc)}")
        for i, (before, soc) in enumerate(zip((-1.0, *self.soc), self.soc, strict=False)):
            if not (0.0 <= soc <= 1.0 and soc > before):
                raise InputError(f"soc must rise within 0.0..1.0, got soc[{i}] = {soc!r}")
        for i, fraction in enumerate(self.fraction):
            if not 0.0 < fraction <= 1.0:
                raise InputError(
                    f"fraction must be above 0 and at most 1, got fraction[{i}] = {fraction!r}"
                )
