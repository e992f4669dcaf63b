"""``wattfill simulate``: sessions in, outcomes and pictures out, from the command line."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from wattfill import __version__
from wattfill.errors import InputError
from wattfill.registry import Registry
from wattfill.simulation._files import require_writable, whole_file
from wattfill.simulation._pyarrow import pa
from wattfill.simulation.readers import make_reader
from wattfill.simulation.readers.clock import find_zone
from wattfill.simulation.report import Part, Table, as_page
from wattfill.simulation.result import SimulationResult
from wattfill.simulation.run import simulate, sweep
from wattfill.simulation.sites import site_of_sessions
from wattfill.simulation.synthetic import generate, synthetic_site
from wattfill.simulation.tables import Sessions, Site
from wattfill.simulation.words import (
    GROUPS,
    STRATEGIES,
    Columns,
    Row,
    as_table,
    cells,
    groups_of,
    no_rich,
    sentence,
    worst,
)
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
            f"{self.name}: {len(self.sessions):,} sessions in {len(self.site.groups):,} groups "
            f"with {len(self.site.connectors):,} connectors, {begin} to {end} UTC"
        )


def simulate_sessions(options: argparse.Namespace) -> tuple[str, int]:
    """Return what to print and the exit status.

    Raises
    ------
    InputError
        If sessions, groups or an option are no good.
    MissingExtraError
        If a library is missing that something that was asked for takes.

    """
    _require_sense(options)
    for path in (options.plot, options.report, options.out):
        if path is not None:
            require_writable(path)
    with _progress(options) as steps:
        scenario = _scenario(options)
        if options.sweep:
            return _swept(options, scenario, steps), 0
        results = [
            simulate(
                scenario.sessions,
                scenario.site,
                strategy=strategy,
                threads=options.threads,
                progress=steps(strategy),
            )
            for strategy in options.compare or [options.strategy]
        ]
    tell = _compared if options.compare else _simulated
    return tell(options, scenario, results), 0


def _require_sense(options: argparse.Namespace) -> None:
    """Refuse options that do not go together."""
    if (options.sessions is None) == (options.synthetic is None):
        raise InputError("simulate takes a file of sessions, or a kind of fleet with --synthetic")
    if options.sweep and options.compare:
        raise InputError("simulate takes --sweep or --compare, not both")
    if options.synthetic is not None:
        if options.groups is not None and not options.groups.isdecimal():
            raise InputError(
                f"--groups must be how many groups a synthetic fleet has, got {options.groups!r}"
            )
        _refuse(options, READS, "is for a file of sessions, not for a synthetic fleet")
        _refuse(options, MAKES_GROUPS[-2:], "is that of the kind for a synthetic fleet")
        return
    _refuse(options, MAKES_FLEET, "is for a synthetic fleet, not for a file of sessions")
    if options.groups is not None:
        _refuse(options, MAKES_GROUPS, "is for groups that no file describes, not with --groups")
    elif options.capacity is None:
        raise InputError(
            "simulate takes groups as a site file with --groups, or with --capacity how much each "
            "of those has that the sessions name"
        )


def _refuse(options: argparse.Namespace, names: Sequence[str], why: str) -> None:
    for name in names:
        if getattr(options, name):
            raise InputError(f"--{name.replace('_', '-')} {why}")


def _scenario(options: argparse.Namespace) -> Scenario:
    zone = None if options.time_zone is None else find_zone(options.time_zone)
    if options.synthetic is not None:
        sizes: dict[str, Any] = {
            "groups": int(options.groups or GROUPS_MADE),
            "connectors": options.connectors or CONNECTORS_MADE,
        }
        fleet = _given(options, *MAKES_FLEET, "time_zone")
        make = _given(options, "capacity", "buffer", "policy", "rotation")
        return Scenario(
            f"synthetic {options.synthetic}",
            generate(options.synthetic, **sizes, **fleet),
            synthetic_site(options.synthetic, **sizes, **make),
            zone,
        )
    site = None if options.groups is None else Site.of(_read_site(options.groups))
    reader = make_reader(
        options.sessions,
        site,
        columns=dict(options.column),
        time_zone=options.time_zone,
        requested=options.requested,
        skip_bad_rows=options.skip_bad_rows,
    )
    (sessions,) = reader.pieces()
    notes = []
    if reader.n_skipped:
        notes.append(
            f"{reader.n_skipped:,} of {reader.n_rows:,} rows are broken and left out: "
            f"{options.skip_bad_rows} has them, each with the reason."
        )
    if site is None:
        site, sessions, moved = site_of_sessions(
            sessions,
            maximum=options.connector_maximum or MAXIMUM,
            minimum=options.connector_minimum or 0.0,
            **_given(options, "capacity", "buffer", "connectors", "policy", "rotation"),
        )
        if moved:
            notes.append(
                f"{moved:,} sessions name another group than most at their charge station, and "
                "count in that of the most."
            )
    return Scenario(options.sessions, sessions, site, zone, notes)


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


# What came of it


def _simulated(
    options: argparse.Namespace, scenario: Scenario, results: list[SimulationResult]
) -> str:
    (result,) = results
    rows = groups_of(result)
    if options.out:
        result.sessions.save(options.out)
    if options.plot or options.report:
        from wattfill.simulation.pictures import save_picture
        from wattfill.simulation.views import View, for_page

        view = View(results, scenario.zone, group=options.group, day=options.day)
        if options.plot:
            save_picture(view.connectors() if options.day else view.load(), options.plot)
        if options.report:
            _write_page(
                options,
                scenario,
                [sentence(result.summary)],
                [
                    _page_table("Groups", "group", GROUPS, rows),
                    for_page(view.load(), f"{view.group}: load and limit"),
                    for_page(view.connectors(), f"{view.group}: a day, connector by connector"),
                    for_page(view.energy(), "All groups: energy delivered and wanted"),
                ],
            )
    if options.json:
        return _as_json(scenario, {"summary": result.summary, "groups": rows})
    return _as_text(scenario, "group", GROUPS, rows, sentence(result.summary))


def _compared(
    options: argparse.Namespace, scenario: Scenario, results: list[SimulationResult]
) -> str:
    rows = [result.summary for result in results]
    if options.out:
        _save_rows(rows, options.out)
    if options.plot or options.report:
        from wattfill.simulation.pictures import save_picture
        from wattfill.simulation.views import View, for_page

        view = View(results, scenario.zone, group=options.group, day=options.day)
        if options.plot:
            save_picture(view.strategies(), options.plot)
        if options.report:
            _write_page(
                options,
                scenario,
                [sentence(row) for row in rows],
                [
                    _page_table("Strategies", "strategy", STRATEGIES, rows),
                    for_page(view.strategies(), f"{view.group}: strategies over a week"),
                    *(
                        _page_table(f"Groups: {each.strategy}", "group", GROUPS, groups_of(each))
                        for each in results
                    ),
                ],
            )
    if options.json:
        return _as_json(scenario, {"strategies": rows})
    return _as_text(scenario, "strategy", STRATEGIES, rows)


def _swept(options: argparse.Namespace, scenario: Scenario, steps: Callable[[str], Any]) -> str:
    varied = dict(options.sweep)
    table = sweep(
        scenario.sessions,
        scenario.site,
        strategy=options.strategy,
        threads=options.threads,
        progress=steps("sweep"),
        **varied,
    )
    name, rows = ", ".join(varied), table.to_dicts()
    for row in rows:
        row[name] = ", ".join(f"{row[key]:g}" for key in varied)
    if options.out:
        table.save(options.out)
    if options.plot or options.report:
        from wattfill.simulation.pictures import save_picture
        from wattfill.simulation.views import for_page, sweep_view

        if options.plot:
            save_picture(sweep_view(varied, rows), options.plot)
        if options.report:
            _write_page(
                options,
                scenario,
                [],
                [
                    for_page(sweep_view(varied, rows), "Energy wanted and not delivered"),
                    _page_table("What-if", name, STRATEGIES, rows),
                ],
            )
    if options.json:
        return _as_json(scenario, {"sweep": table.to_dicts()})
    return _as_text(scenario, name, STRATEGIES, rows)


def _as_text(
    scenario: Scenario, name: str, columns: Columns, rows: Sequence[Row], end: str = ""
) -> str:
    shown = worst(rows)
    lines = [scenario.about(), *scenario.notes]
    text = "".join(f"{line}\n" for line in lines) + "\n" + as_table(name, columns, shown)
    if len(shown) < len(rows):
        text += f"\nThe {len(shown)} of {len(rows):,} that got the least of what they wanted.\n"
    return text + (f"\n{end}\n" if end else "")


def _as_json(scenario: Scenario, document: dict[str, Any]) -> str:
    about = {
        "input": scenario.name,
        "sessions": len(scenario.sessions),
        "groups": len(scenario.site.groups),
        "connectors": len(scenario.site.connectors),
        "notes": scenario.notes,
    }
    return json.dumps({"about": about} | document, indent=2) + "\n"


def _page_table(caption: str, name: str, columns: Columns, rows: Sequence[Row]) -> Table:
    shown = worst(rows)
    note = ""
    if len(shown) < len(rows):
        note = f"The {len(shown)} of {len(rows):,} that got the least of what they wanted."
    body = [[str(row[name]), *cells(columns, row)] for row in shown]
    return Table(caption, [name, *columns], body, note)


def _write_page(
    options: argparse.Namespace, scenario: Scenario, lead: Sequence[str], parts: Sequence[Part]
) -> None:
    page = as_page(
        f"Simulation of {scenario.name}",
        [*lead, f"{scenario.about()}.", *scenario.notes],
        parts,
        command=shlex.join(["wattfill", *options.words]),
        version=__version__,
    )
    with whole_file(options.report) as path:
        path.write_text(page, encoding="utf-8")


def _save_rows(rows: Sequence[Row], path: str) -> None:
    with whole_file(path) as file:
        pa.parquet.write_table(pa.Table.from_pylist([dict(row) for row in rows]), file)


@contextmanager
def _progress(
    options: argparse.Namespace,
) -> Iterator[Callable[[str], Callable[[int, int], None] | None]]:
    """Show bars on a terminal, with the time that is left; yield what makes one."""
    if options.json or sys.stderr is None or not sys.stderr.isatty():
        yield lambda what: None
        return
    try:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    except ImportError:
        raise no_rich("a terminal") from None
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        reading = bars.add_task("sessions", total=None)

        def step(what: str) -> Callable[[int, int], None]:
            bars.update(reading, visible=False)
            task = bars.add_task(what, total=None)
            return lambda done, of: bars.update(task, completed=done, total=of)

        yield step
