"""Sessions from files, data frames and arrays."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any, Literal

from wattfill.errors import InputError
from wattfill.simulation.readers.acn import USER_INPUTS
from wattfill.simulation.readers.reading import Reader
from wattfill.simulation.readers.sources import acn_source, open_source
from wattfill.simulation.tables import Sessions, Site


def read_sessions(
    source: object,
    site: Site | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    time_zone: str | None = None,
    skip_bad_rows: str | PathLike[str] | None = None,
) -> Sessions:
    """Read sessions from a file, a data frame, an Arrow table or arrays.

    A table has a row for each session, in any order; of two that arrive in the same millisecond the
    one whose row is first is first in line. Its columns, and other names that are known:

    - ``arrival`` (``connectionTime``), ``departure`` (``disconnectTime``): timestamps, or texts in
      ISO 8601 such as ``2026-03-02T08:00`` or as in HTTP (RFC 1123), from 1970 to 2199; what is
      finer than a millisecond is cut off
    - ``energy`` (``energy_kwh``, ``kWhDelivered``): kWh wanted; a record of what was delivered
      stands for what was wanted
    - ``group`` (``site``, ``siteID``), ``chargestation`` (``station``, ``stationID``),
      ``connector``: ids. One of the first two must be there; without a connector a session takes
      the first one that is free, of its charge station or else of its group
    - if need be ``maximum`` (``max_kw``, ``maximum_kw``), ``minimum`` (``min_kw``, ``minimum_kw``):
      kW that the vehicle takes, and that it takes to sustain a session; ``weight``, ``priority``;
      ``battery`` (``battery_kwh``): kWh, and ``soc``: state of charge at arrival, 0 to 1, for the
      taper near full

    Other columns are left alone, and an empty cell is one that says nothing.

    Parameters
    ----------
    source : path, data frame, Arrow table or mapping of arrays
        A CSV file (delimited by commas, semicolons or tabs, perhaps gzipped), a Parquet or Arrow
        file, an answer of ACN-Data in JSON (see `read_acn`); anything with ``__arrow_c_stream__``,
        as data frames of pandas and Polars have it; or arrays by column.
    site : Site, optional
        Where the sessions are: makes those at an unknown group or connector bad rows.
    columns : mapping of str to str, optional
        By column what the table calls it, where that is none of the names above.
    time_zone : str, optional
        Of times without an offset from UTC, which else are refused. Of an hour that a wall clock
        shows twice, the earlier one counts, or for a departure the later one where its arrival is
        later; in an hour that it skips, the offset from before does.
    skip_bad_rows : path, optional
        Write rows that break a rule to this CSV file, each with its place and the reason, and read
        the others. Without it such rows are refused.

    Returns
    -------
    Sessions
        In the order of the table.

    Raises
    ------
    InputError
        A file is not what its name says, a column is missing, times with an offset from UTC stand
        beside times without, or a row breaks a rule; the message says where, how often, and what
        to do.

    Examples
    --------
    >>> read_sessions(
    ...     {
    ...         "group": ["North", "North"],
    ...         "arrival": ["2026-03-02T08:00", "2026-03-02T08:10"],
    ...         "departure": ["2026-03-02T17:00", "2026-03-02T12:00"],
    ...         "energy": [20.0, 7.5],
    ...     },
    ...     time_zone="Europe/Oslo",
    ... )
    <Sessions: 2 sessions in 1 group, 2026-03-02T07:00:00.000 to 2026-03-02T16:00:00.000>

    """
    reader = make_reader(
        source, site, columns=columns, time_zone=time_zone, skip_bad_rows=skip_bad_rows
    )
    (sessions,) = reader.pieces()
    return sessions


def make_reader(
    source: object, site: Site | None = None, *, requested: bool = False, **options: Any
) -> Reader:
    """Return what reads a source; the arguments are those of `read_sessions` and `read_acn`."""
    is_answer = isinstance(source, list) or (isinstance(source, dict) and "_items" in source)
    return Reader(
        acn_source("the answer", source) if is_answer else open_source(source),
        site=site,
        asked=USER_INPUTS if requested else None,
        **options,
    )


def read_acn(
    source: object,
    site: Site | None = None,
    *,
    energy: Literal["delivered", "requested"] = "delivered",
    skip_bad_rows: str | PathLike[str] | None = None,
) -> Sessions:
    """Read sessions of ACN-Data (Lee, Li, Low, ACM e-Energy 2019) as its API and exports have them.

    A site (``siteID``) is a group, and an EVSE (``stationID``) is a charge station.

    Parameters
    ----------
    source : path, dict or list
        A JSON file, an answer of the API (``_items``) or a list of its items; or a CSV file with
        the columns of these.
    site : Site, optional
        As of `read_sessions`.
    energy : {"delivered", "requested"}
        Whether a session wants what was delivered (``kWhDelivered``), or what its driver asked for
        last (``kWhRequested`` in ``userInputs``), if anything.
    skip_bad_rows : path, optional
        As of `read_sessions`.

    Returns
    -------
    Sessions
        In the order of the items.

    Raises
    ------
    InputError
        As of `read_sessions`.

    Examples
    --------
    >>> read_acn({"_items": [{
    ...     "siteID": "0002", "stationID": "2-39-78-362", "kWhDelivered": 7.932,
    ...     "connectionTime": "Wed, 25 Apr 2018 11:08:04 GMT",
    ...     "disconnectTime": "Wed, 25 Apr 2018 13:20:10 GMT",
    ... }]})
    <Sessions: 1 session in 1 group, 2018-04-25T11:08:04.000 to 2018-04-25T13:20:10.000>

    """
    if energy not in ("delivered", "requested"):
        raise InputError(f"energy must be 'delivered' or 'requested', got {energy!r}")
    reader = make_reader(source, site, requested=energy == "requested", skip_bad_rows=skip_bad_rows)
    (sessions,) = reader.pieces()
    return sessions
