"""What a registry takes and tells: groups, connectors, sessions, and what each may draw."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from wattfill import _validate
from wattfill.errors import InputError
from wattfill.reason import Reason

Policy: TypeAlias = Literal["fifo", "rotate", "most"]
Key: TypeAlias = tuple[str, str]
"""(station id, connector id)"""

POLICIES = ("fifo", "rotate", "most")
QUANTA_PER_KW = 10**6
# Sessions may have weights, so the smaller of the kernel's two limits holds for every group.
TOO_MUCH_KW = _validate.MOST_QUANTA_WEIGHTED / QUANTA_PER_KW
WEIGHTS = f"above 0 (within {_validate.LIGHTEST:g}..{_validate.HEAVIEST:g})"


# How a frozen record takes a number in the type that it keeps.
_set = object.__setattr__


@dataclass(frozen=True, slots=True)
class Group:
    """A group as it was when it was asked for: it shares one capacity."""

    id: str
    name: str
    maximum_capacity: float
    """kW, at least 0: the grid constraint."""
    minimum_connector_capacity: float = 0.0
    """kW, at least 0: what it takes to sustain a session."""
    buffer: float = 0.0
    """Fraction of `maximum_capacity` set aside, 0.0..1.0."""
    reserved: float = 0.0
    """kW, at least 0: load on the same feeder that is not ours to steer."""
    policy: Policy = "fifo"
    """Who is admitted first when not all minimums fit: "fifo", "rotate" or "most"."""
    rotation: float = 900.0
    """Seconds in a turn of "rotate", above 0."""
    parent: str | None = None
    """Id of the group that feeds this one."""
    location: str | None = None
    description: str = ""
    notes: str = ""

    def __post_init__(self) -> None:
        _validate.identifier("id", self.id)
        for name in ("name", "description", "notes"):
            _validate.text(name, getattr(self, name))
        for name in ("parent", "location"):
            if getattr(self, name) is not None:
                _validate.identifier(name, getattr(self, name))
        _take_kw(self, "maximum_capacity", "minimum_connector_capacity", "reserved")
        if self.maximum_capacity >= TOO_MUCH_KW:
            raise InputError(
                f"maximum_capacity must be below {TOO_MUCH_KW:.6g} kW, which is 2**51 quanta, "
                f"got {self.maximum_capacity!r}"
            )
        buffer = _validate.number_within("buffer", self.buffer, "within 0.0..1.0", most=1.0)
        rotation = _validate.number_within(
            "rotation", self.rotation, "above 0 and finite", least=math.ulp(0.0)
        )
        _set(self, "buffer", buffer)
        _set(self, "rotation", rotation)
        if not isinstance(self.policy, str) or self.policy not in POLICIES:
            raise InputError(
                f"policy must be one of 'fifo', 'rotate' and 'most', got {self.policy!r}"
            )


@dataclass(frozen=True, slots=True)
class Connector:
    """One plug of a charge station.

    Parameters
    ----------
    id : str
        Unique within its charge station.
    maximum_capacity : float
        kW, finite: the connector's rating.
    minimum_capacity : float, optional
        kW, at most `maximum_capacity`: the least that sustains a session here. A connector without
        one takes its group's `minimum_connector_capacity`, which also raises a smaller one.
    fallback : float, optional
        kW, at most `maximum_capacity`: the most that it may allow on its own, without being told
        (by its default profile, after a reboot or a loss of the connection). By default its
        maximum. Only a `wattfill.Dispatcher` makes use of it.

    Examples
    --------
    >>> Connector("1", maximum_capacity=22, minimum_capacity=4.14)
    Connector(id='1', maximum_capacity=22.0, minimum_capacity=4.14, fallback=None)

    """

    id: str
    maximum_capacity: float
    minimum_capacity: float | None = None
    fallback: float | None = None

    def __post_init__(self) -> None:
        _validate.identifier("id", self.id)
        maximum = _validate.number_within(
            "maximum_capacity",
            self.maximum_capacity,
            "finite and at least 0 (give the connector's rating)",
        )
        _set(self, "maximum_capacity", maximum)
        for name in ("minimum_capacity", "fallback"):
            if getattr(self, name) is None:
                continue
            _take_kw(self, name)
            if maximum < getattr(self, name):
                raise InputError(
                    f"maximum_capacity must be at least {name}, got {maximum!r} < "
                    f"{getattr(self, name)!r}"
                )

    @property
    def may_draw_untold(self) -> float:
        """kW: `fallback`, or without one `maximum_capacity`."""
        return self.maximum_capacity if self.fallback is None else self.fallback


@dataclass(frozen=True, slots=True)
class ChargeStation:
    """A charge station as it was when it was asked for."""

    id: str
    group: str
    """Id of the group that it is in."""
    connectors: tuple[Connector, ...]


@dataclass(frozen=True, slots=True)
class Session:
    """A session as it was when it was asked for: a vehicle charging at a connector."""

    station: str
    connector: str
    maximum: float | None
    """kW that the vehicle can take, or None where only the connector limits it."""
    weight: float
    priority: int
    started_at: float
    """Seconds on the caller's clock."""

    def __init__(
        self,
        station: str,
        connector: str,
        maximum: float | None,
        weight: float,
        priority: int,
        started_at: float,
    ) -> None:
        # In place of the one that would set every field twice, before and after the check.
        _set(self, "station", _validate.identifier("station", station))
        _set(self, "connector", _validate.identifier("connector", connector))
        _set(self, "maximum", None if maximum is None else _kw("maximum", maximum))
        _set(
            self,
            "weight",
            _validate.number_within(
                "weight", weight, WEIGHTS, _validate.LIGHTEST, _validate.HEAVIEST
            ),
        )
        _set(self, "priority", _validate.whole_number("priority", priority))
        _set(self, "started_at", seconds("started_at", started_at))


@dataclass(frozen=True, slots=True)
class ConnectorAllocation:
    """What one connector may draw, and why."""

    station: str
    connector: str
    group: str
    """Id of the group that its charge station is in."""
    power: float
    """kW"""
    reason: Reason
    bound_by: str | None
    """Id of the group that held it down or paused it; None where nothing but its own bounds did."""
    minimum: float
    """kW, its effective minimum."""
    maximum: float
    """kW, its effective maximum: the smaller of the connector's and the session's, but not below
    the effective minimum."""


@dataclass(frozen=True, slots=True)
class GroupAllocation:
    """What one group uses of what it may."""

    id: str
    usable: float
    """kW: ``maximum_capacity * (1 - buffer) - reserved``, not below 0."""
    used: float
    """kW: the sum of the powers in the group and in all groups below it."""
    headroom: float
    """kW: ``usable - used``."""
    shortfall: float
    """kW: by how much the minimums of all sessions below the group exceed `usable`, 0 where they
    fit."""
    level: float
    """kW (per weight) that everybody rises to; infinite where the group did not bind."""


def _kw(name: str, value: object) -> float:
    return _validate.number_within(name, value, "finite and at least 0")


def _take_kw(record: Group | Connector, *names: str) -> None:
    for name in names:
        _set(record, name, _kw(name, getattr(record, name)))


def seconds(name: str, value: object) -> float:
    return _validate.number_within(name, value, "finite", least=-math.inf)


def count(n: int, thing: str) -> str:
    return f"{n} {thing}" if n == 1 else f"{n} {thing}s"


def quanta_above(kw: float) -> int:
    """Return the smallest whole number of quanta that is not less, as the kernel takes minimums."""
    quanta = kw * QUANTA_PER_KW
    nearest = round(quanta)
    return nearest if abs(quanta - nearest) <= 1e-3 else math.ceil(quanta)


def effective_minimum(group: Group, connector: Connector) -> float:
    return max(connector.minimum_capacity or 0.0, group.minimum_connector_capacity)
