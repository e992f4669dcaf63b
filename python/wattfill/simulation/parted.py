"""``wattfill simulate --workers`` and ``--dask``: a simulation in parts."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from wattfill.errors import InputError, MissingExtraError
from wattfill.simulation.executors import processes
from wattfill.simulation.partitions import Part, simulate_parts, split_fleet, split_sessions
from wattfill.simulation.scenario import fleet_options, notes_of, open_sessions, refuse
from wattfill.simulation.words import PARTED, as_text, count, progress, with_share

# How many parts there are if nobody says, and how many rows are read at a time.
PARTS, PIECE = 32, 1 << 20
# What is for a simulation that one process has in memory.
ONLY_ONE = ("compare", "sweep", "plot", "report", "group", "day", "threads")


def simulate_in_parts(options: argparse.Namespace) -> str:
    """Return what to print; what came of the parts is in the folder that --out names.

    Raises
    ------
    InputError
        If sessions, groups or an option are no good.
    MissingExtraError
        If there is no Dask.

    """
    refuse(options, ONLY_ONE, "is for a simulation in one process, without --workers or --dask")
    if options.out is None:
        raise InputError("--out must name a folder for what comes of the parts")
    if options.sessions is not None and options.groups is None:
        raise InputError("simulate takes a site file with --groups where it is done in parts")
    folder, n_parts = _empty_folder(options.out), options.parts or PARTS
    notes: list[str] = []
    with ExitStack() as stack:
        steps = stack.enter_context(progress(quiet=options.json))
        parts: Sequence[Part]
        if options.synthetic is not None:
            groups, fleet, make = fleet_options(options)
            name = f"synthetic {options.synthetic}"
            parts = split_fleet(options.synthetic, groups, n_parts, fleet=fleet, site=make)
        else:
            site, reader = open_sessions(options)
            assert site is not None
            name = options.sessions
            split = stack.enter_context(tempfile.TemporaryDirectory(dir=folder, prefix=".parts-"))
            parts = split_sessions(reader.pieces(PIECE), site, split, n_parts)
            notes = notes_of(options, reader)
        executor: Any = processes(options.workers or 1)
        if options.dask is not None:
            executor = stack.enter_context(_cluster(options.dask)).get_executor()
        result = simulate_parts(
            parts,
            folder,
            executor=executor,
            strategy=options.strategy,
            in_flight=2 * (options.workers or PARTS),
            progress=steps("parts"),
        )
    rows = with_share(result.groups().to_pylist())
    if options.json:
        about = {"input": name, "folder": str(folder), "parts": result.n_parts, "notes": notes}
        return json.dumps({"about": about, "groups": rows}, indent=2) + "\n"
    lines = [
        f"{name}: {count(result.n_sessions, 'session')} in {count(len(rows), 'group')}, in "
        f"{count(result.n_parts, 'part')}, whose files are in {folder}",
        *notes,
    ]
    return as_text(lines, "group", PARTED, rows)


def _empty_folder(name: str) -> Path:
    folder = Path(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise InputError(f"--out must be a folder that is empty or not there, got {name!r}")
    except OSError as error:
        raise InputError(f"{name}: the folder cannot be made: {error.strerror}") from None
    return folder


def _cluster(address: str) -> Any:
    try:
        from distributed import Client
    except ImportError:
        raise MissingExtraError(
            "--dask takes dask.distributed, which is not installed: pip install 'wattfill[dask]'"
        ) from None
    try:
        return Client(address, timeout=10)
    except (OSError, ValueError) as error:
        raise InputError(
            f"--dask must be the address of a scheduler, got {address!r}: {error}"
        ) from None
