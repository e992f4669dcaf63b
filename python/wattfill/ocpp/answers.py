"""What the answers of a charge point prove."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from ocpp.exceptions import NotImplementedError as ActionNotImplementedError
from ocpp.exceptions import NotSupportedError as ActionNotSupportedError

from wattfill.ocpp.supply import Supply

if TYPE_CHECKING:
    from wattfill.dispatch import Dispatcher

Verdict = Literal["confirm", "reject"]

_VERDICTS: dict[tuple[str, str], Verdict] = {
    ("SetChargingProfile", "Accepted"): "confirm",
    ("SetChargingProfile", "Rejected"): "reject",
    ("SetChargingProfile", "NotSupported"): "reject",
    # There was such a profile or there was none: now there is none.
    ("ClearChargingProfile", "Accepted"): "confirm",
    ("ClearChargingProfile", "Unknown"): "confirm",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """Something that an answer proves, for the dispatcher.

    Attributes
    ----------
    kind : "confirm", "reject" or "read-back"
        The method of the dispatcher.
    station, connector : str
        Of whom.
    seq : int or None
        Of which command; a read-back may know of none.
    limit : float or None
        kW in force, of a read-back.

    """

    kind: Literal["confirm", "reject", "read-back"]
    station: str
    connector: str
    seq: int | None
    limit: float | None = None

    def tell(self, dispatcher: Dispatcher, now: float) -> None:
        """Call the method of the dispatcher, with the time on its clock."""
        if self.kind == "read-back":
            assert self.limit is not None
            dispatcher.read_back(self.station, self.connector, self.limit, now, seq=self.seq)
            return
        assert self.seq is not None
        tell = dispatcher.confirm if self.kind == "confirm" else dispatcher.reject
        tell(self.station, self.connector, self.seq, now)


def verdict(answer: object) -> Verdict | None:
    """Return what an answer to SetChargingProfile or ClearChargingProfile proves, None for nothing.

    Parameters
    ----------
    answer : object
        What the ``call(..., suppress=False)`` of a ``ChargePoint`` returned or raised.

    Returns
    -------
    "confirm", "reject" or None
        None for a time-out, and for every call error but NotImplemented and NotSupported: a charge
        point may have applied a profile before it failed to say so. None also for None, which is
        what ``call`` makes of any error unless `suppress` is False.

    Examples
    --------
    >>> from ocpp.exceptions import InternalError, NotSupportedError
    >>> from ocpp.v16 import call_result
    >>> verdict(call_result.SetChargingProfile("Accepted"))
    'confirm'
    >>> verdict(NotSupportedError())
    'reject'
    >>> verdict(InternalError()), verdict(TimeoutError())
    (None, None)

    """
    if isinstance(answer, (ActionNotImplementedError, ActionNotSupportedError)):
        return "reject"
    return _VERDICTS.get((type(answer).__name__, _text(getattr(answer, "status", ""))))


def limit_in_force(answer: object, supply: Supply, at: datetime) -> float | None:
    """Return the limit that the answer to a GetCompositeSchedule tells for an instant.

    Parameters
    ----------
    answer : object
        What the ``call(..., suppress=False)`` of a ``ChargePoint`` returned or raised.
    supply : Supply
        Of the connector: its voltage, and its phases where the answer has no ``numberPhases``. The
        unit is that of the answer.
    at : datetime
        An instant, with a time zone. One before the start of the schedule, by a clock that is
        behind that of the charge point, counts as the start.

    Returns
    -------
    float or None
        kW, rounded up to whole mW. None if the charge point does not say: it rejects the request,
        the schedule ends before that instant, or it is not of one limit over all phases.

    Examples
    --------
    >>> from datetime import UTC
    >>> from ocpp.v16 import call_result
    >>> schedule = {"charging_rate_unit": "A", "charging_schedule_period": [
    ...     {"start_period": 0, "limit": 16.0}, {"start_period": 30, "limit": 6.0}]}
    >>> answer = call_result.GetCompositeSchedule(
    ...     "Accepted", 1, "2026-01-01T00:00:00Z", schedule)
    >>> limit_in_force(answer, Supply("A", phases=1), datetime(2026, 1, 1, 0, 0, 10, tzinfo=UTC))
    3.68
    >>> limit_in_force(answer, Supply("A", phases=1), datetime(2026, 1, 1, 0, 1, tzinfo=UTC))
    1.38

    """
    if _text(getattr(answer, "status", "")) != "Accepted":
        return None
    # OCPP 1.6 has the start beside the schedule, 2.0.1 and 2.1 have it within.
    outer = _mapping(answer)
    schedule = _mapping(outer.get("charging_schedule") or outer.get("schedule"))
    start = _time(schedule.get("schedule_start") or outer.get("schedule_start"))
    unit = _text(schedule.get("charging_rate_unit"))
    if start is None or unit not in ("A", "W"):
        return None
    offset = max(0.0, (at - start).total_seconds())
    duration = schedule.get("duration")
    if duration is not None and offset >= duration:
        return None
    periods = [_mapping(period) for period in schedule.get("charging_schedule_period") or ()]
    begun = [period for period in periods if period.get("start_period", 0) <= offset]
    if not begun:
        return None
    period = max(begun, key=lambda period: period.get("start_period", 0))
    by_phase = [key for key, value in period.items() if key.startswith("limit_") and value]
    if period.get("limit") is None or by_phase:
        return None
    supply = replace(supply, unit="A" if unit == "A" else "W")
    return supply.power(max(0, period["limit"]), period.get("number_phases"))


def _mapping(value: object) -> Mapping[str, Any]:
    """Return the keys of what the library parsed, or of the object that it would be made of."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return value if isinstance(value, Mapping) else {}


def _text(value: object) -> str:
    return str(getattr(value, "value", value))


def _time(text: object) -> datetime | None:
    try:
        time = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)
