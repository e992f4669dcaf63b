"""Powers in kW as limits of a charging profile, and times as UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from math import ceil, floor
from typing import Literal

from wattfill import _validate
from wattfill.errors import InputError, InputTypeError

Unit = Literal["A", "W"]

QUANTA_PER_KW = 10**6


@dataclass(frozen=True, slots=True)
class Supply:
    """How a connector is fed, and so how a power in kW is written as a limit.

    Parameters
    ----------
    unit : "A" or "W"
        What the charge point takes limits in: amperes per phase, or watts over all phases
        (``ChargingScheduleAllowedChargingRateUnit``, in OCPP 2 ``RateUnit`` of
        ``SmartChargingCtrlr``).
    voltage : float
        V between a phase and neutral. With amperes, a grid that is above it carries more power
        than was meant.
    phases : int
        1 to 3: how many phases the connector can draw from.

    Examples
    --------
    >>> Supply("A", voltage=230, phases=3).limit(11)
    15.9
    >>> Supply("W").limit(11)
    11000.0

    """

    unit: Unit
    voltage: float = 230.0
    phases: int = 3

    def __post_init__(self) -> None:
        if self.unit not in ("A", "W"):
            raise InputError(f"unit must be 'A' or 'W', got {self.unit!r}")
        voltage = _validate.number_within("voltage", self.voltage, "within 1..1000 (V)", 1.0, 1e3)
        object.__setattr__(self, "voltage", voltage)
        if type(self.phases) is not int or not 1 <= self.phases <= 3:
            raise InputError(f"phases must be 1, 2 or 3, got {self.phases!r}")

    def limit(self, power: float, minimum: float = 0.0) -> float:
        """Return the largest limit of at most one decimal that is no more than a power.

        Counted in decimals, ``limit * voltage * phases`` (of amperes; of watts the limit itself) is
        at most `power`: what does not fit into one decimal is cut off. Where what is left is less
        than `minimum`, it is 0: the vehicle waits, rather than being given what cannot sustain it,
        or what is not there. A minimum that is itself a limit of one decimal never comes to that.

        Parameters
        ----------
        power : float
            kW, at least 0.
        minimum : float
            kW, at least 0: the least that sustains a session.

        Examples
        --------
        >>> Supply("A", phases=3).limit(4.14, minimum=4.14)
        6.0
        >>> Supply("A", phases=3).limit(4.2, minimum=4.2)
        0.0

        """
        rule = "finite and at least 0 (kW)"
        watts = 1000 * _decimal(_validate.number_within("power", power, rule))
        least = 1000 * _decimal(_validate.number_within("minimum", minimum, rule))
        tenths = floor(10 * watts / self._watts_per_unit)
        if tenths * self._watts_per_unit < 10 * least:
            return 0.0
        # Through text, so that 0.3 is the double that JSON writes as 0.3.
        return float(f"{tenths // 10}.{tenths % 10}")

    def power(self, limit: float | Decimal, phases: int | None = None) -> float:
        """Return the power in kW that a limit allows, rounded up to whole mW.

        Parameters
        ----------
        limit : float or Decimal
            In `unit`, at least 0.
        phases : int, optional
            The ``numberPhases`` that go with it, by default those of the supply.

        Examples
        --------
        >>> Supply("A", phases=1).power(16)
        3.68

        """
        number = _validate.number_within("limit", float(limit), "finite and at least 0")
        exact = Fraction(limit) if isinstance(limit, Decimal) else _decimal(number)
        watts = exact * self._watts_per_unit
        if phases is not None and self.unit == "A":
            watts = watts / self.phases * phases
        return ceil(watts * QUANTA_PER_KW / 1000) / QUANTA_PER_KW

    @property
    def _watts_per_unit(self) -> Fraction:
        if self.unit == "W":
            return Fraction(1)
        return _decimal(self.voltage) * self.phases


@dataclass(frozen=True, slots=True)
class Clock:
    """What the caller's clock showed at an instant of UTC, and so what UTC is at any time on it.

    ``utc_at(t)`` is ``utc + (t - now)``. A dispatcher counts leases on the caller's clock, a charge
    point by its own idea of UTC. How far these may be apart, in all, is the `skew` that the
    dispatcher must be given: how wrong a charge point's clock is, how wrong `utc` was, and how
    far the two have drifted since. Take a new one when UTC was stepped.

    Parameters
    ----------
    now : float
        Seconds on the caller's clock, such as ``time.monotonic()``.
    utc : datetime
        UTC at that moment, with a time zone.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> Clock(1000.0, datetime(2026, 1, 1, tzinfo=UTC)).utc_at(1090.0).isoformat()
    '2026-01-01T00:01:30+00:00'

    """

    now: float
    utc: datetime

    def __post_init__(self) -> None:
        now = _validate.number_within("now", self.now, "a finite number (s)", least=-float("inf"))
        object.__setattr__(self, "now", now)
        if not isinstance(self.utc, datetime):
            raise InputTypeError(f"utc must be a datetime, got {type(self.utc).__name__}")
        if self.utc.tzinfo is None:
            raise InputError(f"utc must have a time zone, got {self.utc!r}")

    def utc_at(self, t: float) -> datetime:
        """Return UTC at a time on the caller's clock."""
        return self.utc + timedelta(seconds=t - self.now)


@lru_cache(maxsize=1024)
def _decimal(x: float) -> Fraction:
    """Return the decimal that was written: 4.14 kW are 4140 W."""
    return Fraction(repr(x))
