"""``wattfill simulate``: sessions in, outcomes and pictures out, from the command line."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Callable, Sequence
from typing import Any

from wattfill import __version__
from wattfill.simulation._files import require_writable, whole_file
from wattfill.simulation._pyarrow import pa
from wattfill.simulation.parted import simulate_in_parts
from wattfill.simulation.report import Part, Table, as_page
from wattfill.simulation.result import SimulationResult
from wattfill.simulation.run import simulate, sweep
from wattfill.simulation.scenario import Scenario, make_scenario, require_sense
from wattfill.simulation.words import (
    GROUPS,
    STRATEGIES,
    Columns,
    Row,
    as_text,
    cells,
    groups_of,
    progress,
    sentence,
    worst,
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
    require_sense(options)
    if options.workers is not None or options.dask is not None:
        return simulate_in_parts(options), 0
    for path in (options.plot, options.report, options.out):
        if path is not None:
            require_writable(path)
    with progress(quiet=options.json) as steps:
        scenario = make_scenario(options)
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
    return as_text(scenario.told(), "group", GROUPS, rows, sentence(result.summary))


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
    return as_text(scenario.told(), "strategy", STRATEGIES, rows)


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
    named = [row | {name: ", ".join(f"{row[key]:g}" for key in varied)} for row in rows]
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
                    _page_table("What-if", name, STRATEGIES, named),
                ],
            )
    if options.json:
        return _as_json(scenario, {"sweep": rows})
    return as_text(scenario.told(), name, STRATEGIES, named)


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
    options: argparse.Namespace,
    scenario: Scenario,
    lead: Sequence[str],
    parts: Sequence[Part],
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
