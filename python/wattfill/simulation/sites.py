"""Sites that sessions tell of, where nobody has written one down."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from wattfill.errors import InputError
from wattfill.simulation.tables import ANY_CONNECTOR, Sessions, Site

Codes = npt.NDArray[np.int64]


def site_of_sessions(
    sessions: Sessions,
    *,
    capacity: float,
    maximum: float,
    minimum: float = 0.0,
    connectors: int | None = None,
    buffer: float = 0.0,
    policy: str = "fifo",
    rotation: float = 900.0,
) -> tuple[Site, Sessions, int]:
    """Return a site with the groups and connectors that sessions name, all of one make.

    A charge station that rows put into more than one group, as where a place is spelled in more
    than one way, counts in that which most of them name.

    Parameters
    ----------
    sessions : Sessions
        Each with a group.
    capacity : float
        kW of each group.
    maximum, minimum : float
        kW of a connector; where sessions there say what was taken at most, that is its maximum.
    connectors : int, optional
        How many each group has for sessions that name neither a connector nor a charge station.
    buffer, policy, rotation
        As of a group.

    Returns
    -------
    site : Site
        The groups in the order in which they are met.
    sessions : Sessions
        With the group of each session's charge station.
    moved : int
        How many sessions named another group.

    Raises
    ------
    InputError
        A session has no group, or nothing to be at.

    Examples
    --------
    >>> s = Sessions.of(
    ...     group=["North", "North", "nort"], station=["CS-1", "CS-1", "CS-1"],
    ...     connector=["1", "2", "2"], arrival=[0, 0, 5], departure=[5, 5, 9], energy=[1, 1, 1],
    ... )
    >>> site, _, moved = site_of_sessions(s, capacity=20, maximum=11)
    >>> site.groups, site.connectors, moved
    (('North',), (('CS-1', '1'), ('CS-1', '2')), 1)

    """
    n_groups = len(sessions.groups)
    if sessions.group is None or (sessions.group < 0).any():
        raise InputError("sessions must name a group each where no site is given")
    group = sessions.group.astype(np.int64)
    has_place = np.zeros(len(sessions), np.bool_)
    moved = 0
    if sessions.connector is not None:
        has_place = sessions.connector >= 0
        here = sessions.connector[has_place]
        stations = {id: code for code, id in enumerate(dict(sessions.connectors))}
        station_of = np.array([stations[station] for station, _ in sessions.connectors], np.int64)
        home = _most_named(station_of[here], group[has_place], len(stations), n_groups)
        there = home[station_of[here]]
        moved = int((there != group[has_place]).sum())
        group[has_place] = there
    if connectors is None and not has_place.all():
        raise InputError(
            f"connectors must say how many connectors each group has, since "
            f"{int((~has_place).sum())} sessions name neither a connector nor a charge station"
        )
    keys: dict[tuple[str, str], tuple[int, float]] = {}
    with_plugs = {station for station, plug in sessions.connectors if plug != ANY_CONNECTOR}
    if sessions.connector is not None:
        for key, at, most in zip(
            sessions.connectors, home[station_of], _most_taken(sessions), strict=True
        ):
            station, plug = key
            is_any = plug == ANY_CONNECTOR
            if not (is_any and station in with_plugs):
                power = max(maximum if np.isnan(most) else most, minimum)
                keys[station, "1" if is_any else plug] = int(at), power
    for g in range(n_groups):
        # Only where somebody comes who needs one.
        if connectors is not None and (group[~has_place] == g).any():
            for number in range(1, connectors + 1):
                keys[sessions.groups[g], str(number)] = g, maximum
    used = np.unique([at for at, _ in keys.values()])
    place = np.full(n_groups, -1)
    place[used] = np.arange(len(used))
    plugs = sorted(keys.items(), key=lambda item: item[1][0])
    n = len(used)
    site = Site(
        groups=tuple(sessions.groups[g] for g in used),
        capacity=np.full(n, capacity),
        buffer=np.full(n, buffer),
        reserved=np.zeros(n),
        minimum=np.full(n, minimum),
        parent=np.full(n, -1),
        policy=(policy,) * n,
        rotation=np.full(n, rotation),
        connectors=tuple(key for key, _ in plugs),
        owner=place[[at for _, (at, _) in plugs]],
        connector_minimum=np.full(len(plugs), minimum),
        connector_maximum=np.array([power for _, (_, power) in plugs]),
    )
    return site, replace(sessions, group=group.astype(np.int32)), moved


def _most_named(station: Codes, group: Codes, n_stations: int, n_groups: int) -> Codes:
    """Return for each station the group that most of its rows name, the first one among equals."""
    home = np.full(n_stations, -1)
    pairs, first, counts = np.unique(
        station * n_groups + group, return_index=True, return_counts=True
    )
    at, named = np.divmod(pairs, n_groups)
    # The last that is written stands: that which is named most, and of equals was named first.
    order = np.lexsort((-first, counts))
    home[at[order]] = named[order]
    return home


def _most_taken(sessions: Sessions) -> npt.NDArray[np.float64]:
    """Return for each connector what vehicles take there at most, NaN where nobody says."""
    most = np.full(len(sessions.connectors), np.nan)
    if sessions.maximum is not None and sessions.connector is not None:
        says = np.isfinite(sessions.maximum) & (sessions.connector >= 0)
        np.fmax.at(most, sessions.connector[says], sessions.maximum[says])
    return most
