"""What came of a simulation, in tables for people and in sentences."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from wattfill import _simulate
from wattfill._records import QUANTA_PER_KW
from wattfill.errors import MissingExtraError
from wattfill.simulation.result import SimulationResult

# Of more groups only those are shown that get the least.
SHOWN = 20
# Nothing is cut off in a pipe.
PLAIN_WIDTH = 1000


class Figure(NamedTuple):
    """A column of a table for people: where it comes from, and how it is written."""

    key: str
    form: str
    times: float = 1.0


OUTCOME = {
    "sessions": Figure("sessions", "{:,.0f}"),
    "turned away": Figure("turned_away", "{:,.0f}"),
    "MWh delivered": Figure("energy_kwh", "{:,.2f}", 1e-3),
    "% of wanted": Figure("share", "{:.1f}", 100),
}
PARTED = OUTCOME | {
    "mean kW": Figure("mean_kw", "{:,.1f}"),
    "95 % kW": Figure("p95_kw", "{:,.1f}"),
    "peak kW": Figure("peak_kw", "{:,.1f}"),
    "h at limit": Figure("limiting_hours", "{:,.1f}"),
}
GROUPS = PARTED | {"usable kW": Figure("usable_kw", "{:,.1f}")}
STRATEGIES = OUTCOME | {
    "% full": Figure("full", "{:.1f}", 100),
    "h paused": Figure("paused_hours", "{:,.0f}"),
    "peak kW": Figure("peak_kw", "{:,.1f}"),
    "h at limit": Figure("limiting_hours", "{:,.1f}"),
    "h over it": Figure("over_hours", "{:,.1f}"),
    "kW over it": Figure("over_kw", "{:,.1f}"),
}
Columns = Mapping[str, Figure]
Row = Mapping[str, Any]


def groups_of(result: SimulationResult) -> list[dict[str, Any]]:
    """Return what `SimulationResult.groups` has, what share got of what was wanted, and limits."""
    site, rows = result.site, with_share(result.groups.to_dicts())
    limits = zip(site.capacity.tolist(), site.buffer.tolist(), site.reserved.tolist(), strict=True)
    for row, (capacity, buffer, reserved) in zip(rows, limits, strict=True):
        usable = _simulate.usable(capacity, buffer, reserved, QUANTA_PER_KW)
        row["usable_kw"] = usable / QUANTA_PER_KW
    return rows


def with_share(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give each group the share that was delivered of all that was wanted."""
    for row in rows:
        wanted = row["wanted_kwh"] + row["refused_kwh"]
        row["share"] = row["energy_kwh"] / wanted if wanted else 1.0
    return rows


def worst(rows: Sequence[Row]) -> Sequence[Row]:
    """Return the rows to show: all, or of many those with the least of what was wanted."""
    if len(rows) <= SHOWN:
        return rows
    return sorted(rows, key=lambda row: float(row["share"]))[:SHOWN]


def cells(columns: Columns, row: Row) -> list[str]:
    """Return what stands in the columns of a row."""
    return [form.format(times * row[key]) for key, form, times in columns.values()]


def as_table(name: str, columns: Columns, rows: Sequence[Row]) -> str:
    """Return a table for a terminal, or for wherever standard output goes.

    Parameters
    ----------
    name : str
        The column that says what a row is of.
    columns : mapping of str to Figure
        What stands beside it.
    rows : sequence of mapping
        By the names of `name` and of the figures.

    Raises
    ------
    MissingExtraError
        rich is not installed.

    """
    try:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        raise no_rich("a table") from None
    on_terminal = sys.stdout is not None and sys.stdout.isatty()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(name, overflow="fold", no_wrap=not on_terminal)
    for heading in columns:
        table.add_column(heading, justify="right", no_wrap=not on_terminal)
    for row in rows:
        table.add_row(Text(printable(str(row[name]))), *cells(columns, row))
    console = Console(
        file=io.StringIO(),
        width=shutil.get_terminal_size().columns if on_terminal else PLAIN_WIDTH,
        force_terminal=on_terminal,
        color_system="auto" if on_terminal else None,
    )
    with console.capture() as capture:
        console.print(table)
    lines = [line.rstrip() for line in capture.get().splitlines()]
    return "".join(f"{line}\n" for line in lines if line)


def as_text(
    lines: Sequence[str], name: str, columns: Columns, rows: Sequence[Row], end: str = ""
) -> str:
    """Return lines, a table, and what is said in the end."""
    shown = worst(rows)
    text = "".join(f"{line}\n" for line in lines) + "\n" + as_table(name, columns, shown)
    if len(shown) < len(rows):
        text += f"\nThe {len(shown)} of {len(rows):,} that got the least of what they wanted.\n"
    return text + (f"\n{end}\n" if end else "")


def sentence(row: Row) -> str:
    """Return what came of a simulation, from its summary."""
    said = (
        f"{row['strategy']}: {row['energy_kwh'] / 1e3:,.1f} MWh delivered to "
        f"{count(row['sessions'], 'session')}, {100 * row['share']:.1f} % of what was wanted; "
        f"{100 * row['full']:.1f} % of them were full in the end"
    )
    if row["turned_away"]:
        said += f", {row['turned_away']:,} found no free connector"
    if row["over_hours"]:
        said += (
            f". Loads passed their limits for {row['over_hours']:,.1f} hours, by up to "
            f"{row['over_kw']:,.1f} kW"
        )
    return f"{said}."


def count(n: int, thing: str) -> str:
    """Return a number of things in words.

    Examples
    --------
    >>> count(1, "group"), count(2000, "group")
    ('1 group', '2,000 groups')

    """
    return f"{n:,} {thing}{'s' * (n != 1)}"


def printable(text: str) -> str:
    """Escape what would move the cursor."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def no_rich(what: str) -> MissingExtraError:
    """Return the error that says how to have rich."""
    return MissingExtraError(
        f"{what} takes rich, which is not installed: pip install 'wattfill[cli]', or ask for --json"
    )


@contextmanager
def progress(*, quiet: bool) -> Iterator[Callable[[str], Callable[[int, int], None] | None]]:
    """Show bars on a terminal, with the time that is left; yield what makes one."""
    if quiet or sys.stderr is None or not sys.stderr.isatty():
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
