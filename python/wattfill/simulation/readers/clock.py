"""Wall-clock times as instants: whole columns at once, by the rules of a time zone.

Twice a year a wall clock in most zones is no clock: an hour is skipped, another one is there twice.
A time in the hour that is there twice is the earlier of the two, unless it is a departure and its
arrival is later: then it is the later one. A time in the hour that is skipped is read with the
offset from before, as by a clock that nobody has set yet. Both are what PEP 495 calls ``fold``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import numpy.typing as npt

from wattfill.errors import InputError

Instants = npt.NDArray[np.int64]
"""Microseconds since the Unix epoch, of UTC or of a wall clock."""

SECOND = 1_000_000
DAY = 86_400 * SECOND
# From when to when a time makes sense; 0014 and 20199 are slips of a hand.
FIRST, LAST = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * SECOND for year in (1970, 2200))


def find_zone(name: str) -> ZoneInfo:
    """Return the time zone of that name.

    Raises
    ------
    InputError
        There is none.

    Examples
    --------
    >>> find_zone("Europe/London").key
    'Europe/London'

    """
    try:
        return ZoneInfo(name)
    # A folder of the database, or a path out of it.
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InputError(
            f"time_zone must be a name of the tz database such as Europe/London or UTC, "
            f"got {name!r}"
        ) from None


def to_utc(local: Instants, zone: ZoneInfo, not_before: Instants | None = None) -> Instants:
    """Return the instants at which a zone's wall clock shows such times.

    Parameters
    ----------
    local : ndarray of int64
        Microseconds from 1970-01-01 00:00 on the wall clock, from 1970 to 2199.
    zone : ZoneInfo
        Whose wall clock it is.
    not_before : ndarray of int64, optional
        Instants: where a time is there twice and the earlier one is before this, it is the later.

    Returns
    -------
    ndarray of int64
        Microseconds since the Unix epoch.

    Examples
    --------
    On 31 March 2019 London skips from 01:00 to 02:00; on 27 October 01:30 is there twice.

    >>> t = np.array(["2019-03-31T01:30", "2019-10-27T01:30"], "M8[us]").astype(np.int64)
    >>> to_utc(t, find_zone("Europe/London")).astype("M8[us]").astype("M8[m]")
    array(['2019-03-31T01:30', '2019-10-27T00:30'], dtype='datetime64[m]')

    """
    if not len(local):
        return local
    starts, offsets = _periods(zone, int(local.min()) - DAY, int(local.max()) + DAY)
    # Period k shows wall-clock times from starts[k] + offsets[k] to ends[k].
    ends = starts[1:] + offsets[:-1]
    early = np.searchsorted(ends, local, side="right")
    skipped = local - offsets[early] < starts[early]
    early = early - skipped
    instants = local - offsets[early]
    if not_before is not None:
        late = np.searchsorted((starts + offsets)[1:], local, side="right")
        instants = np.where(
            (instants < not_before) & (late > early), local - offsets[late], instants
        )
    return instants


def to_local(instants: Instants, zone: ZoneInfo) -> Instants:
    """Return what a zone's wall clock shows at such instants; both in microseconds.

    Examples
    --------
    >>> t = np.array(["2019-07-01T12:00"], "M8[us]").astype(np.int64)
    >>> to_local(t, find_zone("Europe/Oslo")).astype("M8[us]").astype("M8[m]")
    array(['2019-07-01T14:00'], dtype='datetime64[m]')

    """
    if not len(instants):
        return instants
    starts, offsets = _periods(zone, int(instants.min()) - DAY, int(instants.max()) + DAY)
    local: Instants = instants + offsets[np.searchsorted(starts[1:], instants, side="right")]
    return local


def _periods(zone: ZoneInfo, first: int, last: int) -> tuple[Instants, Instants]:
    """Return from when on which offset from UTC holds, in microseconds, over days of interest."""
    return _periods_of_days(zone, first // DAY, -(-last // DAY))


@lru_cache(maxsize=64)
def _periods_of_days(zone: ZoneInfo, first: int, last: int) -> tuple[Instants, Instants]:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)

    def offset(second: int) -> int:
        there = (epoch + timedelta(seconds=second)).astimezone(zone)
        utc_offset: Any = there.utcoffset()
        return int(utc_offset / timedelta(microseconds=1))

    starts, offsets = [first * DAY], [offset(first * 86_400)]
    for day in range(first, last):
        low, high = day * 86_400, (day + 1) * 86_400
        if (after := offset(high)) == offsets[-1]:
            continue
        # No zone changes its offset twice within a day, so halving finds the second.
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if offset(middle) == offsets[-1] else (low, middle)
        starts.append(high * SECOND)
        offsets.append(after)
    return np.array(starts, np.int64), np.array(offsets, np.int64)
