"""The three messages of smart charging, in the objects of the ``ocpp`` package for each version."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from ocpp.v16 import call as call16
from ocpp.v16 import datatypes as types16
from ocpp.v16 import enums as enums16
from ocpp.v21 import call as call21
from ocpp.v21 import datatypes as types21
from ocpp.v21 import enums as enums21
from ocpp.v201 import call as call201
from ocpp.v201 import datatypes as types201
from ocpp.v201 import enums as enums201

from wattfill.errors import InputError, InputTypeError
from wattfill.ocpp.supply import Supply, Unit

Version = Literal["1.6", "2.0.1", "2.1"]
VERSIONS: tuple[Version, ...] = ("1.6", "2.0.1", "2.1")
Purpose = Literal["maximum", "default", "transaction"]

Call: TypeAlias = Any
"""A request of the ``ocpp`` package, as its ``ChargePoint.call`` takes it."""

# A composite schedule of no length is answered with hardware limits by some.
COMPOSITE_S = 60

_PURPOSES: dict[Purpose, tuple[str, str]] = {
    "maximum": ("ChargePointMaxProfile", "ChargingStationMaxProfile"),
    "default": ("TxDefaultProfile", "TxDefaultProfile"),
    "transaction": ("TxProfile", "TxProfile"),
}


@dataclass(frozen=True, slots=True)
class Profile:
    """A charging profile of one period without an end, whatever the version of OCPP.

    Parameters
    ----------
    id : int
        ``chargingProfileId``, unique in the charge point. What is set again replaces what it was.
    evse : int
        ``connectorId`` of OCPP 1.6, ``evseId`` of 2.0.1 and 2.1; 0 for the whole charge point.
    purpose : "maximum", "default" or "transaction"
        ChargePointMaxProfile (ChargingStationMaxProfile), TxDefaultProfile or TxProfile.
    limit : float
        In the unit of `supply`, at least 0, at most one decimal.
    supply : Supply
        What the limit is written in.
    stack_level : int
        At least 0; the highest of a purpose is in force.
    start : datetime, optional
        Where the schedule starts (kind "Absolute"); without it, at the start of charging
        ("Relative").
    valid_to : datetime, optional
        When the charge point drops the profile by itself, written in whole seconds, rounded down.
    transaction_id : int or str, optional
        The transaction of a TxProfile: a whole number in OCPP 1.6, a string of at most 36
        characters in 2.0.1 and 2.1.
    max_offline : int, optional
        Seconds after which a charge point that is offline drops the profile for good
        (``maxOfflineDuration`` and ``invalidAfterOfflineDuration``), which OCPP 2.1 alone has.

    Examples
    --------
    >>> default = Profile(id=12, evse=1, purpose="default", limit=6.0, supply=Supply("A", phases=1))
    >>> set_profile("1.6", default).cs_charging_profiles.charging_profile_purpose.value
    'TxDefaultProfile'

    """

    id: int
    evse: int
    purpose: Purpose
    limit: float
    supply: Supply
    stack_level: int = 0
    start: datetime | None = None
    valid_to: datetime | None = None
    transaction_id: int | str | None = None
    max_offline: int | None = None

    def __post_init__(self) -> None:
        if self.purpose not in _PURPOSES:
            raise InputError(f"purpose must be one of {', '.join(_PURPOSES)}, got {self.purpose!r}")
        if (self.purpose == "maximum") != (self.evse == 0):
            raise InputError(
                f"evse must be 0 for the purpose 'maximum' and above 0 for the others, got "
                f"{self.evse!r} for {self.purpose!r}"
            )
        if (self.purpose == "transaction") != (self.transaction_id is not None):
            raise InputError(
                f"transaction_id must be given for the purpose 'transaction' and no other, got "
                f"{self.transaction_id!r} for {self.purpose!r}"
            )


def check_version(version: object) -> None:
    """Refuse what is no version of OCPP with smart charging."""
    if version not in VERSIONS:
        raise InputError(f"version must be one of {', '.join(VERSIONS)}, got {version!r}")


def check_transaction_id(version: Version, transaction_id: object) -> None:
    """Refuse what the schemas of a version do not take for a transaction."""
    if version == "1.6":
        if type(transaction_id) is not int:
            raise InputTypeError(
                f"transaction_id must be a whole number in OCPP 1.6, got {transaction_id!r}"
            )
    elif not isinstance(transaction_id, str):
        raise InputTypeError(
            f"transaction_id must be a string in OCPP {version}, got {transaction_id!r}"
        )
    elif not 1 <= len(transaction_id) <= 36:
        raise InputError(
            f"transaction_id must have 1 to 36 characters in OCPP {version}, got {transaction_id!r}"
        )


def set_profile(version: Version, profile: Profile) -> Call:
    """Return the SetChargingProfile request for a profile.

    Parameters
    ----------
    version : "1.6", "2.0.1" or "2.1"
        Of OCPP.
    profile : Profile
        What to install.

    Returns
    -------
    ocpp.v16.call.SetChargingProfile, or that of ocpp.v201 or ocpp.v21
        What the ``call`` of a ``ChargePoint`` of that package sends.

    Raises
    ------
    InputError, InputTypeError
        If the version has no such transaction id or no limit on the time offline.

    Examples
    --------
    >>> profile = Profile(id=13, evse=1, purpose="transaction", limit=9.5, supply=Supply("A"),
    ...                   stack_level=1, transaction_id="a-17")
    >>> [schedule] = set_profile("2.1", profile).charging_profile.charging_schedule
    >>> schedule.charging_rate_unit.value, schedule.charging_schedule_period[0].limit
    ('A', 9.5)

    """
    check_version(version)
    if profile.transaction_id is not None:
        check_transaction_id(version, profile.transaction_id)
    if profile.max_offline is not None and version != "2.1":
        raise InputError(
            f"max_offline must be left out in OCPP {version}, got {profile.max_offline!r}"
        )
    purpose = _PURPOSES[profile.purpose][version != "1.6"]
    kind = "Relative" if profile.start is None else "Absolute"
    # Checked above; each version has its own type.
    transaction_id: Any = profile.transaction_id
    start = None if profile.start is None else _timestamp(profile.start)
    valid_to = None if profile.valid_to is None else _timestamp(profile.valid_to)
    # Of watts the limit is over all phases, and on a direct current there are none to number.
    phases = profile.supply.phases if profile.supply.unit == "A" else None
    if version == "1.6":
        return call16.SetChargingProfile(
            connector_id=profile.evse,
            cs_charging_profiles=types16.ChargingProfile(
                charging_profile_id=profile.id,
                transaction_id=transaction_id,
                stack_level=profile.stack_level,
                charging_profile_purpose=enums16.ChargingProfilePurposeType(purpose),
                charging_profile_kind=enums16.ChargingProfileKindType(kind),
                valid_to=valid_to,
                charging_schedule=types16.ChargingSchedule(
                    charging_rate_unit=enums16.ChargingRateUnitType(profile.supply.unit),
                    start_schedule=start,
                    charging_schedule_period=[
                        types16.ChargingSchedulePeriod(0, profile.limit, phases)
                    ],
                ),
            ),
        )
    if version == "2.0.1":
        return call201.SetChargingProfile(
            evse_id=profile.evse,
            charging_profile=types201.ChargingProfileType(
                id=profile.id,
                stack_level=profile.stack_level,
                charging_profile_purpose=enums201.ChargingProfilePurposeEnumType(purpose),
                charging_profile_kind=enums201.ChargingProfileKindEnumType(kind),
                valid_to=valid_to,
                transaction_id=transaction_id,
                charging_schedule=[
                    types201.ChargingScheduleType(
                        id=profile.id,
                        charging_rate_unit=enums201.ChargingRateUnitEnumType(profile.supply.unit),
                        start_schedule=start,
                        charging_schedule_period=[
                            types201.ChargingSchedulePeriodType(0, profile.limit, phases)
                        ],
                    )
                ],
            ),
        )
    return call21.SetChargingProfile(
        evse_id=profile.evse,
        charging_profile=types21.ChargingProfileType(
            id=profile.id,
            stack_level=profile.stack_level,
            charging_profile_purpose=enums21.ChargingProfilePurposeEnumType(purpose),
            charging_profile_kind=enums21.ChargingProfileKindEnumType(kind),
            valid_to=valid_to,
            transaction_id=transaction_id,
            max_offline_duration=profile.max_offline,
            invalid_after_offline_duration=None if profile.max_offline is None else True,
            charging_schedule=[
                types21.ChargingScheduleType(
                    id=profile.id,
                    charging_rate_unit=enums21.ChargingRateUnitEnumType(profile.supply.unit),
                    start_schedule=start,
                    charging_schedule_period=[
                        types21.ChargingSchedulePeriodType(
                            start_period=0, limit=profile.limit, number_phases=phases
                        )
                    ],
                )
            ],
        ),
    )


def clear_profile(version: Version, id: int) -> Call:
    """Return the ClearChargingProfile request that takes out the profile of an id.

    Examples
    --------
    >>> clear_profile("1.6", 13)
    ClearChargingProfile(id=13, connector_id=None, charging_profile_purpose=None, stack_level=None)

    """
    check_version(version)
    if version == "1.6":
        return call16.ClearChargingProfile(id=id)
    module = call201 if version == "2.0.1" else call21
    return module.ClearChargingProfile(charging_profile_id=id)


def get_composite_schedule(version: Version, evse: int, unit: Unit) -> Call:
    """Return the GetCompositeSchedule request for a connector, from now on for a minute.

    Examples
    --------
    >>> get_composite_schedule("1.6", 1, "A").duration
    60

    """
    check_version(version)
    if version == "1.6":
        return call16.GetCompositeSchedule(
            connector_id=evse,
            duration=COMPOSITE_S,
            charging_rate_unit=enums16.ChargingRateUnitType(unit),
        )
    if version == "2.0.1":
        return call201.GetCompositeSchedule(
            evse_id=evse,
            duration=COMPOSITE_S,
            charging_rate_unit=enums201.ChargingRateUnitEnumType(unit),
        )
    return call21.GetCompositeSchedule(
        evse_id=evse,
        duration=COMPOSITE_S,
        charging_rate_unit=enums21.ChargingRateUnitEnumType(unit),
    )


def _timestamp(time: datetime) -> str:
    """Write UTC in whole seconds, rounded down: a lease must not end later than it is counted."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
