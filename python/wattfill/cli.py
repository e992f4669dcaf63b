"""The command line: ``wattfill allocate FILE``."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence

from wattfill import __version__
from wattfill.errors import InputError, WattfillError

CANNOT_WRITE = 1
BAD_INPUT = 2
# As shells report a program that SIGINT (2) or SIGPIPE (13) ended.
INTERRUPTED = 128 + 2
PIPE_CLOSED = 128 + 13

ABOUT_ALLOCATE = """\
Read a site file and print what each connector may draw, and why.

In the table a group's line says what it uses of its usable capacity, and a connector's line what
it may draw, with a bar that is full at its maximum."""

SITE_FILES = """\
site files:
  JSON, in the vocabulary of the API:

    {"groups": [
      {"name": "Park3-E1", "maximum_capacity": 100, "minimum_connector_capacity": 2.5,
       "buffer": 0.1, "chargestations": [
         {"id": "CS-01", "connectors": [
           {"id": 1, "maximum_capacity": 22, "minimum_capacity": 4.2, "session": true},
           {"id": 2, "maximum_capacity": 22, "session": {"maximum": 7.4, "priority": 1}}]}]}]}

    group       name, maximum_capacity; if need be id (by default its name), parent (the id or the
                name of another group), minimum_connector_capacity, buffer, reserved, location,
                policy (fifo, rotate or most), rotation, description, notes
    connector   id, maximum_capacity; if need be minimum_capacity
    session     true, false, or what is known of it: maximum, weight, priority, at

  CSV, one connector a row, with a header:

    group,group_maximum_capacity,group_buffer,chargestation,connector,maximum_capacity,session
    Park3-E1,100,0.1,CS-01,1,22,true
    Park3-E1,,,CS-01,2,22,false

    group_ and session_ stand before any other key of a group or a session. What a group has
    stands in its first row. A group without connectors has a row of its own.

  Capacities are kW, buffer is a fraction of maximum_capacity, at and rotation are seconds.

exit status:
  0, or 2 where the input is no good: a message on standard error then says where and why.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments, by default those of the process.

    """
    try:
        try:
            text = _allocate(_parser().parse_args(argv))
        except SystemExit:
            # Help leaves here, while a closed pipe can still be answered.
            _print("")
            raise
        _print(text)
    except WattfillError as error:
        print(f"wattfill: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        # Python flushes once more when it ends: to nowhere, so that it cannot fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return PIPE_CLOSED
        print(f"wattfill: standard output: {error.strerror}", file=sys.stderr)
        return CANNOT_WRITE
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="wattfill",
        description="Share a group's electrical capacity among EV connectors: fairly and exactly.",
    )
    parser.add_argument("--version", action="version", version=f"wattfill {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    allocate = commands.add_parser(
        "allocate",
        help="a site file in, a power for each connector out",
        description=ABOUT_ALLOCATE,
        epilog=SITE_FILES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    allocate.add_argument("file", metavar="FILE", help="a site file; - is standard input")
    form = allocate.add_mutually_exclusive_group()
    for name in ("json", "csv"):
        form.add_argument(
            f"--{name}",
            dest="form",
            action="store_const",
            const=name,
            help=f"print {name.upper()} for machines",
        )
    return parser


def _allocate(options: argparse.Namespace) -> str:
    # Here, so that --help and --version do not load NumPy and the kernel.
    from wattfill import report, site

    name = "standard input" if options.file == "-" else options.file
    try:
        registry = site.parse(_read(options.file))
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    allocation = registry.allocate()
    if options.form == "json":
        return report.as_json(registry, allocation)
    if options.form == "csv":
        return report.as_csv(registry, allocation)
    on_terminal = sys.stdout is not None and sys.stdout.isatty()
    return report.as_table(
        registry,
        allocation,
        width=shutil.get_terminal_size().columns if on_terminal else report.PLAIN_WIDTH,
        colour=on_terminal,
        encoding=_encoding(),
    )


def _read(path: str) -> str:
    """Return the text of a file, or of standard input."""
    try:
        # Not sys.stdin, which is None where standard input is closed.
        with open(0 if path == "-" else path, "rb", closefd=path != "-") as file:
            content = file.read()
    except OSError as error:
        raise InputError(f"the file cannot be read: {error.strerror}") from None
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise InputError(
            f"the file must be text in UTF-8, got byte 0x{content[error.start]:02x} at offset "
            f"{error.start}"
        ) from None


def _encoding() -> str:
    return getattr(sys.stdout, "encoding", None) or "utf-8"


def _print(text: str) -> None:
    """Print text; what the encoding of standard output does not have is escaped."""
    encoding = _encoding()
    print(text.encode(encoding, "backslashreplace").decode(encoding), end="", flush=True)
