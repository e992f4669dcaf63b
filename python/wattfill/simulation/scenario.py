"""What ``wattfill simulate`` is asked to simulate: who comes, and to where."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from wattfill.errors import InputError
from wattfill.registry import Registry
from wattfill.simulation._files import is_same_file
from wattfill.simulation.readers import make_reader
from wattfill.simulation.readers.clock import find_zone
from wattfill.simulation.readers.reading import Reader
from wattfill.simulation.sites import site_of_sessions
from wattfill.simulation.synthetic import generate, synthetic_site
from wattfill.simulation.tables import Sessions, Site
from wattfill.simulation.words import count
from wattfill.site import parse

GROUPS_MADE, CONNECTORS_MADE, MAXIMUM = 10, 20, 22.0
# What makes groups that no file describes, and what makes a fleet.
MAKES_GROUPS = (
    "capacity",
    "buffer",
    "policy",
    "rotation",
    "connectors",
    "connector_maximum",
    "connector_minimum",
)
MAKES_FLEET = ("days", "seed", "start", "demand")
READS = ("column", "requested", "skip_bad_rows")


@dataclass(frozen=True)
class Scenario:
    """What is simulated: who comes, and to where.

    Attributes
    ----------
    name : str
        What to call it.
    sessions : Sessions
    site : Site
    zone : ZoneInfo or None
        Whose local times are shown; UTC where None.
    notes : list of str
        What was done to the input.

    """

    name: str
    sessions: Sessions
    site: Site
    zone: ZoneInfo | None
    notes: list[str] = field(default_factory=list)

    def about(self) -> str:
        """Return how much there is."""
        begin, end = (
            np.datetime_as_string(np.datetime64(int(at), "ms"), unit="m").replace("T", " ")
            for at in (self.sessions.arrival.min(), self.sessions.departure.max())
        )
        return (
            f"{self.name}: {count(len(self.sessions), 'session')} in "
            f"{count(len(self.site.groups), 'group')} with "
            f"{count(len(self.site.connectors), 'connector')}, {begin} to {end} UTC"
        )

    def told(self) -> list[str]:
        """Return what there is, and what was done to the input."""
        return [self.about(), *self.notes]


def require_sense(options: argparse.Namespace) -> None:
    """Refuse options that do not go together."""
    if (options.sessions is None) == (options.synthetic is None):
        raise InputError("simulate takes a file of sessions, or a kind of fleet with --synthetic")
    if options.sweep and options.compare:
        raise InputError("simulate takes --sweep or --compare, not both")
    for name in ("out", "plot", "report"):
        path = getattr(options, name)
        if path and options.sessions and is_same_file(path, options.sessions):
            raise InputError(f"--{name} must be another file than what is read, got {path!r}")
    if options.synthetic is not None:
        if options.groups is not None and not options.groups.isdecimal():
            raise InputError(
                f"--groups must be how many groups a synthetic fleet has, got {options.groups!r}"
            )
        refuse(options, READS, "is for a file of sessions, not for a synthetic fleet")
        refuse(options, MAKES_GROUPS[-2:], "is that of the kind for a synthetic fleet")
        return
    refuse(options, MAKES_FLEET, "is for a synthetic fleet, not for a file of sessions")
    if options.groups is not None:
        refuse(options, MAKES_GROUPS, "is for groups that no file describes, not with --groups")
    elif options.capacity is None:
        raise InputError(
            "simulate takes groups as a site file with --groups, or with --capacity how much each "
            "of those has that the sessions name"
        )


def refuse(options: argparse.Namespace, names: Sequence[str], why: str) -> None:
    """Refuse options that were given; 0 is something that was given."""
    for name in names:
        value = getattr(options, name)
        if not (value is None or value is False or value == []):
            raise InputError(f"--{name.replace('_', '-')} {why}")


def make_scenario(options: argparse.Namespace) -> Scenario:
    """Return what the options tell of."""
    zone = None if options.time_zone is None else find_zone(options.time_zone)
    if options.synthetic is not None:
        groups, fleet, make = fleet_options(options)
        return Scenario(
            f"synthetic {options.synthetic}",
            generate(options.synthetic, groups=groups, **fleet),
            synthetic_site(options.synthetic, groups=groups, **make),
            zone,
        )
    site, reader = open_sessions(options)
    (sessions,) = reader.pieces()
    notes = notes_of(options, reader)
    if site is None:
        site, sessions, moved = site_of_sessions(
            sessions,
            maximum=MAXIMUM if options.connector_maximum is None else options.connector_maximum,
            minimum=options.connector_minimum or 0.0,
            **_given(options, "capacity", "buffer", "connectors", "policy", "rotation"),
        )
        if moved:
            notes.append(
                f"{count(moved, 'session')} put a charge station into another group than most do, "
                "and count in that of the most."
            )
    return Scenario(options.sessions, sessions, site, zone, notes)


def fleet_options(options: argparse.Namespace) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """Return how many groups a fleet has, and what else makes its sessions and its site."""
    connectors = {"connectors": options.connectors or CONNECTORS_MADE}
    fleet = _given(options, *MAKES_FLEET, "time_zone")
    make = _given(options, "capacity", "buffer", "policy", "rotation")
    groups = GROUPS_MADE if options.groups is None else int(options.groups)
    return groups, connectors | fleet, connectors | make


def open_sessions(options: argparse.Namespace) -> tuple[Site | None, Reader]:
    """Return the site of a file, if there is one, and what reads the sessions."""
    site = None if options.groups is None else Site.of(_read_site(options.groups))
    return site, make_reader(
        options.sessions,
        site,
        columns=dict(options.column),
        time_zone=options.time_zone,
        requested=options.requested,
        skip_bad_rows=options.skip_bad_rows,
    )


def notes_of(options: argparse.Namespace, reader: Reader) -> list[str]:
    """Return what was done to the rows of a file."""
    if not reader.n_skipped:
        return []
    return [
        f"{reader.n_skipped:,} of {count(reader.n_rows, 'row')} broken and left out: "
        f"{options.skip_bad_rows} has them, each with the reason."
    ]


def _given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    values = {name: getattr(options, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def _read_site(path: str) -> Registry:
    try:
        return parse(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: the file cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: the file must be text in UTF-8") from None
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
