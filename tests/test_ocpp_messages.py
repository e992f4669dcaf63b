"""Limits and messages of OCPP 1.6, 2.0.1 and 2.1, held to the schemas of the ocpp package."""

import asyncio
import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from ocpp import exceptions, v16, v21, v201
from ocpp.charge_point import remove_nones, serialize_as_dict, snake_to_camel_case
from ocpp.messages import Call, get_validator, validate_payload

from wattfill import InputError, InputTypeError
from wattfill.ocpp import (
    VERSIONS,
    Clock,
    Evse,
    Profile,
    Supply,
    clear_profile,
    get_composite_schedule,
    limit_in_force,
    set_profile,
    verdict,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
TRANSACTIONS = {"1.6": 4711, "2.0.1": "a-17", "2.1": "a-17"}
PACKAGES = {"1.6": v16, "2.0.1": v201, "2.1": v21}

SUPPLIES = st.builds(
    Supply,
    st.sampled_from(["A", "W"]),
    voltage=st.sampled_from([110.0, 120.0, 208.0, 230.0, 231.5, 239.6, 240.0, 253.0]),
    phases=st.sampled_from([1, 2, 3]),
)
# Commands are whole mW.
POWERS = st.integers(0, 400_000_000).map(lambda quanta: quanta / 10**6)

MANY = settings(max_examples=20 * settings().max_examples)


def grant(version, limit=9.5, supply=Supply("A"), **changes):  # noqa: B008
    changes.setdefault("transaction_id", TRANSACTIONS[version])
    return Profile(13, 1, "transaction", limit, supply, 1, **changes)


def payload(call):
    """Return what the library makes of a request."""
    return remove_nones(snake_to_camel_case(serialize_as_dict(call)))


def exactly(x):
    return Fraction(repr(x))


def watts(limit, supply):
    return limit * (exactly(supply.voltage) * supply.phases if supply.unit == "A" else 1)


# Limits


@MANY
@given(power=POWERS, minimum=POWERS, supply=SUPPLIES)
def test_a_limit_is_the_largest_of_one_decimal_within_the_power(power, minimum, supply):
    limit = exactly(supply.limit(power, minimum))

    assert (10 * limit).denominator == 1
    assert watts(limit, supply) <= 1000 * exactly(power)
    if limit:
        assert watts(limit, supply) >= 1000 * exactly(minimum)
        assert watts(limit + Fraction(1, 10), supply) > 1000 * exactly(power)


@MANY
@given(power=POWERS, minimum=POWERS, supply=SUPPLIES)
def test_a_limit_is_zero_only_where_no_other_is_both_safe_and_enough(power, minimum, supply):
    assume(supply.limit(power, minimum) == 0.0)

    tenths = 10000 * exactly(power) // watts(1, supply)

    assert tenths == 0 or watts(tenths / 10, supply) < 1000 * exactly(minimum)


@MANY
@given(tenths=st.integers(0, 4000), supply=SUPPLIES)
def test_a_power_that_is_a_limit_of_one_decimal_loses_nothing(tenths, supply):
    limit = float(f"{tenths // 10}.{tenths % 10}")
    power = supply.power(limit)

    # A voltage of one decimal makes whole mW of every tenth of an ampere.
    assert supply.limit(power, minimum=power) == limit


@MANY
@given(power=POWERS, supply=SUPPLIES)
def test_a_limit_read_back_is_at_most_the_power_that_it_was_made_of(power, supply):
    assert supply.power(supply.limit(power)) <= power


def test_what_cannot_be_both_safe_and_enough_is_a_pause():
    # 4.2 kW over three phases of 230 V are 6.08 A: 6.0 A are too little, 6.1 A too much.
    three = Supply("A", voltage=230, phases=3)

    assert three.limit(4.2, minimum=4.2) == 0.0
    assert three.limit(4.2, minimum=4.14) == 6.0
    assert three.limit(4.209, minimum=4.2) == 6.1


def test_amperes_are_cut_off_in_decimals_not_in_doubles():
    # In doubles 4.14 * 1000 / (230 * 3) is 5.999999999999999.
    assert Supply("A").limit(4.14) == 6.0
    assert Supply("W").limit(0.0003) == 0.3
    assert repr(Supply("W").limit(1.1111)) == "1111.1"


# Schemas


@lru_cache(maxsize=2)
def limits(unit):
    """Return the limits of 0, 0.1, ... 40 A or 30,000 W, as they are read from JSON."""
    supply = Supply(unit, voltage=230, phases=1)
    kw_per_tenth, most = (Fraction(23, 1000), 40) if unit == "A" else (Fraction(1, 10**4), 30_000)
    made = [supply.limit(float(tenths * kw_per_tenth)) for tenths in range(10 * most + 1)]
    # In decimals, as the library reads what it sends before it holds it to the schema.
    return json.loads(json.dumps(made), parse_float=Decimal)


def schema_of_limit(validator, version):
    if version != "1.6":
        return validator.schema["definitions"]["ChargingSchedulePeriodType"]["properties"]["limit"]
    profile = validator.schema["properties"]["csChargingProfiles"]
    schedule = profile["properties"]["chargingSchedule"]
    return schedule["properties"]["chargingSchedulePeriod"]["items"]["properties"]["limit"]


def schedules(request):
    if "csChargingProfiles" in request:
        return [request["csChargingProfiles"]["chargingSchedule"]]
    return request["chargingProfile"]["chargingSchedule"]


@pytest.mark.parametrize(("unit", "n"), [("A", 401), ("W", 300_001)])
@pytest.mark.parametrize("version", VERSIONS)
def test_every_limit_in_tenths_is_valid_by_the_schema(version, unit, n):
    validator = get_validator(2, "SetChargingProfile", version, parse_float=Decimal)
    of_limit = validator.evolve(schema=schema_of_limit(validator, version))

    assert [10 * limit for limit in limits(unit)] == list(range(n))
    assert all(map(of_limit.is_valid, limits(unit)))


@pytest.mark.parametrize("unit", ["A", "W"])
@pytest.mark.parametrize("version", VERSIONS)
def test_requests_of_many_limits_are_valid_by_the_schema(version, unit):
    validator = get_validator(2, "SetChargingProfile", version, parse_float=Decimal)
    request = payload(set_profile(version, grant(version, supply=Supply(unit))))
    [schedule] = schedules(request)
    some = limits(unit)[:: 1 if unit == "A" else 37]

    for start in range(0, len(some), 1024):
        schedule["chargingSchedulePeriod"] = [
            {"startPeriod": i, "limit": limit} for i, limit in enumerate(some[start : start + 1024])
        ]
        validator.validate(request)


@pytest.mark.parametrize("limit", [Decimal("0.05"), Decimal("16.01"), Decimal("4140.11")])
def test_the_schema_of_ocpp_1_6_takes_one_decimal(limit):
    validator = get_validator(2, "SetChargingProfile", "1.6", parse_float=Decimal)

    assert not validator.evolve(schema=schema_of_limit(validator, "1.6")).is_valid(limit)


@pytest.mark.parametrize("unit", ["A", "W"])
@pytest.mark.parametrize("limit", [0.0, 0.3, 0.7, 6.0, 21.4, 29_999.9, 30_000.0])
@pytest.mark.parametrize("version", VERSIONS)
def test_each_profile_passes_the_checks_of_the_library_whole(version, limit, unit):
    supply = Supply(unit)
    lease = {"start": NOON, "valid_to": NOON + timedelta(minutes=5)}
    if version == "2.1":
        lease["max_offline"] = 30
    profiles = [
        Profile(1, 0, "maximum", limit, supply, start=NOON),
        Profile(12, 1, "default", limit, supply),
        grant(version, limit, supply),
        grant(version, limit, supply, **lease),
    ]

    for profile in profiles:
        check(version, set_profile(version, profile))


@pytest.mark.parametrize("version", VERSIONS)
def test_the_other_requests_pass_the_checks_of_the_library(version):
    check(version, clear_profile(version, 13))
    check(version, get_composite_schedule(version, 1, "A"))
    check(version, get_composite_schedule(version, 1, "W"))


def check(version, call):
    """Do what the library does before it sends."""
    message = Call("17", type(call).__name__, payload(call))
    asyncio.run(validate_payload(message, version))


# Requests


def test_a_grant_in_amperes_names_its_transaction_its_phases_and_its_end():
    profile = grant("1.6", 9.5, start=NOON, valid_to=NOON + timedelta(seconds=90))

    assert payload(set_profile("1.6", profile)) == {
        "connectorId": 1,
        "csChargingProfiles": {
            "chargingProfileId": 13,
            "transactionId": 4711,
            "stackLevel": 1,
            "chargingProfilePurpose": "TxProfile",
            "chargingProfileKind": "Absolute",
            "validTo": "2026-01-01T12:01:30Z",
            "chargingSchedule": {
                "chargingRateUnit": "A",
                "startSchedule": "2026-01-01T12:00:00Z",
                "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 9.5, "numberPhases": 3}],
            },
        },
    }


def test_a_grant_in_ocpp_2_1_ends_for_good_after_a_time_offline():
    profile = grant("2.1", 9.5, Supply("W"), max_offline=30)

    assert payload(set_profile("2.1", profile)) == {
        "evseId": 1,
        "chargingProfile": {
            "id": 13,
            "stackLevel": 1,
            "chargingProfilePurpose": "TxProfile",
            "chargingProfileKind": "Relative",
            "transactionId": "a-17",
            "maxOfflineDuration": 30,
            "invalidAfterOfflineDuration": True,
            "chargingSchedule": [
                {
                    "id": 13,
                    "chargingRateUnit": "W",
                    "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 9.5}],
                }
            ],
        },
    }


@pytest.mark.parametrize(
    ("version", "purpose"),
    [
        ("1.6", "ChargePointMaxProfile"),
        ("2.0.1", "ChargingStationMaxProfile"),
        ("2.1", "ChargingStationMaxProfile"),
    ],
)
def test_the_maximum_is_of_the_whole_charge_point_and_absolute(version, purpose):
    request = payload(set_profile(version, Profile(1, 0, "maximum", 63.0, Supply("A"), start=NOON)))

    profile = request.get("csChargingProfiles") or request.get("chargingProfile")
    assert request.get("connectorId", request.get("evseId")) == 0
    assert profile["chargingProfilePurpose"] == purpose
    assert profile["chargingProfileKind"] == "Absolute"


def test_the_end_of_a_lease_is_rounded_down_to_whole_seconds_of_utc():
    in_berlin = NOON.astimezone(timezone(timedelta(hours=1))) + timedelta(milliseconds=1999)

    request = set_profile("2.0.1", grant("2.0.1", valid_to=in_berlin))

    assert request.charging_profile.valid_to == "2026-01-01T12:00:01Z"


# Answers


@pytest.mark.parametrize("version", VERSIONS)
def test_each_status_of_a_profile_that_is_set_proves_what_it_says(version):
    enums = PACKAGES[version].enums
    statuses = getattr(enums, "ChargingProfileStatus", None) or enums.ChargingProfileStatusEnumType

    found = {
        status.value: verdict(PACKAGES[version].call_result.SetChargingProfile(status))
        for status in statuses
    }

    due = {"Accepted": "confirm", "Rejected": "reject"}
    assert found == due | ({"NotSupported": "reject"} if version == "1.6" else {})


@pytest.mark.parametrize("version", VERSIONS)
def test_each_status_of_a_profile_that_is_cleared_proves_that_it_is_gone(version):
    enums = PACKAGES[version].enums
    statuses = (
        getattr(enums, "ClearChargingProfileStatus", None)
        or enums.ClearChargingProfileStatusEnumType
    )

    found = {
        status.value: verdict(PACKAGES[version].call_result.ClearChargingProfile(status))
        for status in statuses
    }

    assert found == {"Accepted": "confirm", "Unknown": "confirm"}


@pytest.mark.parametrize("error", exceptions.OCPPError.__subclasses__())
def test_a_call_error_proves_something_only_if_the_action_is_unknown(error):
    due = "reject" if error.code in ("NotImplemented", "NotSupported") else None

    assert verdict(error()) == due


@pytest.mark.parametrize(
    "answer",
    [
        None,
        TimeoutError(),
        ConnectionError(),
        exceptions.UnknownCallErrorCodeError(),
        v16.call_result.SetChargingProfile("Perhaps"),
        v16.call_result.ChangeAvailability("Accepted"),
    ],
)
def test_what_is_no_answer_proves_nothing(answer):
    assert verdict(answer) is None


def composite(version, **changes):
    """Return an answer of the library to GetCompositeSchedule."""
    schedule = {
        "charging_rate_unit": "A",
        "charging_schedule_period": [
            {"start_period": 0, "limit": 16.0},
            {"start_period": 30, "limit": 6.5, "number_phases": 1},
        ],
        "duration": 60,
        **changes,
    }
    start = schedule.pop("schedule_start", "2026-01-01T12:00:00.000Z")
    results = PACKAGES[version].call_result
    if version == "1.6":
        return results.GetCompositeSchedule("Accepted", 1, start, schedule)
    schedule |= {"schedule_start": start, "evse_id": 1}
    return results.GetCompositeSchedule(status="Accepted", schedule=schedule)


@pytest.mark.parametrize(
    ("after", "power"),
    [(-5, 11.04), (0, 11.04), (29.9, 11.04), (30, 1.495), (59, 1.495), (60, None)],
)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_composite_schedule_tells_the_limit_of_an_instant(version, after, power):
    at = NOON + timedelta(seconds=after)

    assert limit_in_force(composite(version), Supply("W"), at) == power


@pytest.mark.parametrize("version", VERSIONS)
def test_a_composite_schedule_in_watts_is_over_all_phases(version):
    # The library reads the numbers of OCPP 1.6 as decimals.
    periods = [{"start_period": 0, "limit": Decimal("4140.1"), "number_phases": 1}]
    answer = composite(version, charging_rate_unit="W", charging_schedule_period=periods)

    assert limit_in_force(answer, Supply("A"), NOON) == 4.1401


def test_a_limit_read_back_is_rounded_up():
    periods = [{"start_period": 0, "limit": 6.1}]
    answer = composite("2.1", charging_schedule_period=periods)

    # 6.1 A * 230.0001 V * 1 = 1403.00061 W
    assert limit_in_force(answer, Supply("A", 230.0001, 1), NOON) == 1.403001


def test_a_composite_schedule_of_the_objects_of_the_library_is_read_as_well():
    types = v201.datatypes
    schedule = types.CompositeScheduleType(
        1, 60, "2026-01-01T12:00:00", "A", [types.ChargingSchedulePeriodType(0, 10.0, 3)]
    )
    answer = v201.call_result.GetCompositeSchedule("Accepted", schedule=schedule)

    assert limit_in_force(answer, Supply("A"), NOON) == 6.9


@pytest.mark.parametrize(
    "answer",
    [
        None,
        TimeoutError(),
        v16.call_result.GetCompositeSchedule("Rejected"),
        v201.call_result.GetCompositeSchedule("Rejected"),
        v21.call_result.GetCompositeSchedule("Rejected"),
        v16.call_result.GetCompositeSchedule("Accepted"),
        v201.call_result.GetCompositeSchedule("Accepted"),
        composite("1.6", schedule_start="soon"),
        composite("1.6", charging_rate_unit="VA"),
        composite("1.6", charging_schedule_period=[]),
        composite("1.6", charging_schedule_period=[{"start_period": 10, "limit": 1.0}]),
        composite("2.1", charging_schedule_period=[{"start_period": 0, "setpoint": 4000.0}]),
        composite(
            "2.1", charging_schedule_period=[{"start_period": 0, "limit": 1.0, "limit__l2": 2.0}]
        ),
    ],
)
def test_what_tells_no_limit_is_none(answer):
    assert limit_in_force(answer, Supply("A"), NOON) is None


# Refusals


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Supply("kW"), InputError, "unit must be 'A' or 'W', got 'kW'"),
        (lambda: Supply("A", 0), InputError, r"voltage must be within 1..1000 \(V\), got 0"),
        (lambda: Supply("A", phases=4), InputError, "phases must be 1, 2 or 3, got 4"),
        (lambda: Supply("A", phases=True), InputError, "phases must be 1, 2 or 3, got True"),
        (
            lambda: Supply("A").limit(-1),
            InputError,
            r"power must be finite and at least 0 \(kW\), got -1",
        ),
        (
            lambda: Supply("A").limit(1, float("nan")),
            InputError,
            r"minimum must be finite and at least 0 \(kW\), got nan",
        ),
        (lambda: Supply("A").power(-6), InputError, "limit must be finite and at least 0, got -6"),
        (
            lambda: Clock(float("inf"), NOON),
            InputError,
            r"now must be a finite number \(s\), got inf",
        ),
        (lambda: Clock(0, "noon"), InputTypeError, "utc must be a datetime, got str"),
        (lambda: Clock(0, datetime(2026, 1, 1)), InputError, "utc must have a time zone, got"),
        (lambda: Evse("A"), InputTypeError, "supply must be a Supply, got str"),
        (
            lambda: Evse(Supply("A"), fallback=-1),
            InputError,
            r"fallback must be finite and at least 0 \(kW\), got -1",
        ),
        (
            lambda: Evse(Supply("A"), id=0),
            InputError,
            "id must be a whole number, at least 1, got 0",
        ),
        (
            lambda: Profile(1, 1, "some", 6.0, Supply("A")),
            InputError,
            "purpose must be one of maximum, default, transaction, got 'some'",
        ),
        (
            lambda: Profile(1, 1, "maximum", 6.0, Supply("A")),
            InputError,
            "evse must be 0 for the purpose 'maximum' and above 0 for the others, got 1 for 'max",
        ),
        (
            lambda: Profile(1, 1, "transaction", 6.0, Supply("A")),
            InputError,
            "transaction_id must be given for the purpose 'transaction' and no other, got None",
        ),
        (
            lambda: set_profile("2.0", grant("2.0.1")),
            InputError,
            "version must be one of 1.6, 2.0.1, 2.1, got '2.0'",
        ),
        (
            lambda: set_profile("1.6", grant("2.1")),
            InputTypeError,
            "transaction_id must be a whole number in OCPP 1.6, got 'a-17'",
        ),
        (
            lambda: set_profile("2.1", grant("1.6")),
            InputTypeError,
            "transaction_id must be a string in OCPP 2.1, got 4711",
        ),
        (
            lambda: set_profile("2.0.1", grant("2.0.1", transaction_id="x" * 37)),
            InputError,
            "transaction_id must have 1 to 36 characters in OCPP 2.0.1, got 'xxx",
        ),
        (
            lambda: set_profile("2.0.1", grant("2.0.1", max_offline=5)),
            InputError,
            "max_offline must be left out in OCPP 2.0.1, got 5",
        ),
    ],
)
def test_what_is_refused_is_told_by_name_value_and_rule(make, error, message):
    with pytest.raises(error, match=message):
        make()
