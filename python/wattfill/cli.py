"""The command line: ``wattfill allocate``, ``simulate``, ``verify``, and the server's commands."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Sequence

from wattfill import __version__
from wattfill.errors import InputError, MissingExtraError, WattfillError

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
    connector   id, maximum_capacity; if need be minimum_capacity, fallback
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


ABOUT_SIMULATE = """\
Let sessions charge at groups of connectors, from event to event, and print what they got and what
the groups drew: how many more chargers a feeder can carry, what a buffer costs drivers, what
rotation does to waiting."""

SIMULATED = """\
sessions:
  CSV (perhaps gzipped), Parquet, Arrow, or JSON of ACN-Data, with a row for each session:

    group,chargestation,connector,arrival,departure,energy
    Park3-E1,CS-01,1,2026-03-02T08:00+01:00,2026-03-02T17:00+01:00,20

    arrival, departure   in ISO 8601; without an offset from UTC, --time-zone says whose wall clock
    energy               kWh wanted; also known as energy_kwh, kWhDelivered
    group                also known as site, siteID
    chargestation        also known as station, stationID; connector, within it
    if need be           maximum (kW that the vehicle takes; max_kw), minimum (kW), weight,
                         priority, battery (kWh) and soc (0 to 1, at arrival)

examples:
  wattfill simulate sessions.csv --groups site.json --time-zone Europe/London --plot load.png
  wattfill simulate sessions.csv --capacity 50 --compare wattfill,equal,uncontrolled
  wattfill simulate --synthetic workplace --groups 1000 --days 365 --report report.html
  wattfill simulate --synthetic depot --sweep capacity=0.5,0.75,1 --sweep buffer=0,0.1,0.2
  wattfill simulate --synthetic public --groups 20000 --workers 8 --out year/

exit status:
  0, or 2 where the input is no good: a message on standard error then says where and why.
"""

ABOUT_SERVE = """\
Serve the REST API from a SQLite file, or from PostgreSQL. The first start makes a key and prints
it. Every option can also stand in the environment (WATTFILL_PORT) or in a file of settings.
docs/server.md is the manual."""

ABOUT_VERIFY = """\
Hold an allocator to the laws of an allocation, and print which it keeps. For each law that it
breaks, print the smallest site that was found on which it does.

The allocator is a function, or a factory of one, of arguments of wattfill.allocate: minimum,
maximum, capacity, and which of the features it takes. It returns a power for each connector."""

VERIFIED = """\
examples:
  wattfill verify depot.sharing:share
  wattfill verify path/to/share.py:share --no-pausing --report laws.html
  wattfill verify --exec "node share.js" --features active,buffer

  wattfill verify --vectors vectors.json
  wattfill verify --check-vectors vectors.json --exec "./share --exact"
  wattfill verify --history site.jsonl

  A program reads a JSON request a line and writes a JSON answer a line:
  {"id": 1, "minimum": [6.0], "maximum": [22.0], "capacity": 11.0}
  {"id": 1, "power": [11.0]}

exit status:
  0 where no law is broken that was not expected to be, all cases are answered as they are due, or
  no station could have drawn too much; 1 where not; 2 where the allocator cannot be had, a file is
  no good, or an option.
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
            options = _parser().parse_args(argv)
            options.words = list(sys.argv[1:] if argv is None else argv)
            run: Callable[[argparse.Namespace], tuple[str, int]] = options.run
            text, status = run(options)
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
    return status


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
    allocate.set_defaults(run=_allocate)
    simulate = commands.add_parser(
        "simulate",
        help="sessions in, outcomes and pictures out",
        description=ABOUT_SIMULATE,
        epilog=SIMULATED,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_simulate_options(simulate)
    simulate.set_defaults(run=_simulate)
    verify = commands.add_parser(
        "verify",
        help="an allocator in, which laws it keeps and where it breaks others out",
        description=ABOUT_VERIFY,
        epilog=VERIFIED,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_verify_options(verify)
    verify.set_defaults(run=_verify)
    _add_server_commands(commands)
    return parser


def _add_simulate_options(simulate: argparse.ArgumentParser) -> None:
    simulate.add_argument("sessions", metavar="SESSIONS", nargs="?", help="a file of sessions")
    reading = simulate.add_argument_group("how to read it")
    reading.add_argument(
        "--time-zone",
        metavar="ZONE",
        help="such as Europe/London: of times without an offset from UTC, and of pictures; of an "
        "hour that is there twice the first counts, in one that is skipped the offset before it",
    )
    reading.add_argument(
        "--column",
        metavar="COLUMN=NAME",
        action="append",
        default=[],
        type=_column,
        help="what the file calls a column; may be there many times",
    )
    reading.add_argument(
        "--requested",
        action="store_true",
        help="of ACN-Data: a session wants what its driver asked for, not what was delivered",
    )
    reading.add_argument(
        "--skip-bad-rows",
        metavar="FILE",
        help="write rows that break a rule there, with the reason, and go on without them",
    )
    groups = simulate.add_argument_group("groups")
    groups.add_argument(
        "--groups",
        metavar="SITE",
        help="a site file, as of wattfill allocate; for a synthetic fleet how many (10)",
    )
    kind: Callable[[str], object]
    for name, metavar, kind, words in (
        ("capacity", "KW", float, "of each group, where no file describes them"),
        ("buffer", "FRACTION", float, "of it set aside (0)"),
        ("policy", "POLICY", str, "fifo (the default), rotate or most"),
        ("rotation", "S", float, "seconds in a turn of rotate (900)"),
        ("connectors", "N", _positive, "in each group, for sessions that name none (fleet: 20)"),
        ("connector-maximum", "KW", float, "where sessions do not say (22)"),
        ("connector-minimum", "KW", float, "to sustain a session (0)"),
    ):
        groups.add_argument(f"--{name}", metavar=metavar, type=kind, help=words)
    fleet = simulate.add_argument_group("a synthetic fleet instead")
    fleet.add_argument(
        "--synthetic", metavar="KIND", help="workplace, public, depot or residential"
    )
    for name, metavar, kind, words in (
        ("days", "N", int, "how many (365)"),
        ("seed", "N", int, "of all chance (0)"),
        ("start", "DAY", str, "the first one (2025-01-01)"),
        ("demand", "FACTOR", float, "times the usual number of sessions (1)"),
    ):
        fleet.add_argument(f"--{name}", metavar=metavar, type=kind, help=words)
    what = simulate.add_argument_group("what to simulate")
    what.add_argument(
        "--strategy",
        metavar="STRATEGY",
        default="wattfill",
        help="wattfill (by each group's own policy), fifo, rotate, most, uncontrolled, equal or "
        "first-come (wattfill)",
    )
    what.add_argument(
        "--compare",
        metavar="LIST",
        type=_words,
        help="strategies side by side, with commas between",
    )
    what.add_argument(
        "--sweep",
        metavar="NAME=LIST",
        action="append",
        default=[],
        type=_sweep,
        help="what if: capacity or connectors, as multiples, or buffer, with commas between; may "
        "be there for each of them",
    )
    what.add_argument(
        "--threads", metavar="N", type=_positive, help="(as many as there are processors)"
    )
    beyond = simulate.add_argument_group("in parts, of which each has a place in memory")
    who = beyond.add_mutually_exclusive_group()
    who.add_argument(
        "--workers", metavar="N", type=_positive, help="so many processes; --out is a folder"
    )
    who.add_argument(
        "--dask",
        metavar="ADDRESS",
        help="a cluster, by its scheduler; --out is a folder that all machines have",
    )
    beyond.add_argument("--parts", metavar="N", type=_positive, help="how many (32)")
    output = simulate.add_argument_group("what to write")
    output.add_argument("--json", action="store_true", help="print JSON for machines")
    output.add_argument(
        "--out",
        metavar="FILE.parquet",
        help="what each session got; of --compare and --sweep, their tables",
    )
    output.add_argument(
        "--plot",
        metavar="FILE.png",
        help="the load against the limit; the strategies of --compare, a heat map of --sweep",
    )
    output.add_argument("--report", metavar="FILE.html", help="a page with tables and pictures")
    output.add_argument(
        "--group", metavar="ID", help="to draw (the one that most is not delivered in)"
    )
    output.add_argument(
        "--day", metavar="DAY", help="to draw, connector by connector (the busiest)"
    )


def _column(text: str) -> tuple[str, str]:
    column, equals, name = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"must be COLUMN=NAME, got {text}")
    return column, name


def _words(text: str) -> list[str]:
    return [word for word in text.replace(",", " ").split() if word]


def _sweep(text: str) -> tuple[str, list[float]]:
    name, _, values = text.partition("=")
    if name not in ("capacity", "buffer", "connectors"):
        raise argparse.ArgumentTypeError(
            f"must be capacity=, buffer= or connectors= and numbers, got {text}"
        )
    try:
        return name, [float(value) for value in _words(values)]
    except ValueError:
        raise argparse.ArgumentTypeError(f"must have numbers behind {name}=, got {text}") from None


def _add_server_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    set_up = argparse.ArgumentParser(add_help=False)
    set_up.add_argument(
        "--database",
        metavar="DATABASE",
        help="the path of a SQLite file, or postgresql://... (wattfill.db)",
    )
    set_up.add_argument("--settings", metavar="FILE.toml", help="a file of settings")
    address = argparse.ArgumentParser(add_help=False)
    address.add_argument("--host", help="address to listen at (127.0.0.1)")
    address.add_argument("--port", type=int, help="port to listen at, 0 for any (8000)")
    serve = commands.add_parser(
        "serve", help="the REST API", description=ABOUT_SERVE, parents=[set_up, address]
    )
    serve.add_argument("--workers", type=int, metavar="N", help="processes (1)")
    serve.add_argument("--tls-certificate", metavar="FILE", help="a certificate chain in PEM")
    serve.add_argument("--tls-key", metavar="FILE", help="its private key in PEM")
    serve.add_argument(
        "--behind-proxy",
        action="store_true",
        default=None,
        help="a proxy in front speaks TLS: plain HTTP may be served beyond loopback",
    )
    serve.add_argument(
        "--two-person",
        metavar="WHEN",
        help="raising what is commissioned takes two persons: always, never, or where an "
        "organisation has two who could (auto)",
    )
    serve.add_argument("--log-level", help="debug, info, warning or error (info)")
    serve.set_defaults(run=_server("serve"))
    migrate = commands.add_parser(
        "migrate", help="bring the server's database to this version", parents=[set_up]
    )
    migrate.set_defaults(run=_server("run_migrations"))
    doctor = commands.add_parser(
        "doctor", help="what is wrong with a set-up of the server", parents=[set_up, address]
    )
    doctor.set_defaults(run=_server("doctor"))
    keys = commands.add_parser("keys", help="keys of the server: create, list, rotate, revoke")
    actions = keys.add_subparsers(title="actions", metavar="ACTION", required=True)
    create = actions.add_parser("create", help="make a key; it is shown once", parents=[set_up])
    create.add_argument(
        "--name", required=True, help="whose it is: keys of one name are one person's"
    )
    create.add_argument("--organisation", default="default", help="whose key it is (default)")
    create.add_argument("--days", type=_seconds, metavar="N", help="until it expires (never)")
    scopes = create.add_mutually_exclusive_group()
    scopes.add_argument("--read-only", action="store_true", help="it changes nothing")
    scopes.add_argument(
        "--scopes",
        metavar="LIST",
        help="what it may do, with commas between: read, operate, configure, commission, monitor "
        "(all but monitor)",
    )
    create.set_defaults(run=_server("keys_create"))
    show = actions.add_parser("list", help="what is known of keys", parents=[set_up])
    show.add_argument("--organisation", help="of this organisation alone")
    show.add_argument("--json", action="store_true", help="print JSON for machines")
    show.set_defaults(run=_server("keys_list"))
    rotate = actions.add_parser(
        "rotate",
        help="make a key of the same name and scopes; the old one is good until it is revoked",
        parents=[set_up],
    )
    rotate.add_argument("id", help="of the old key, as list shows it")
    rotate.add_argument("--days", type=_seconds, metavar="N", help="until it expires (never)")
    rotate.set_defaults(run=_server("keys_rotate"))
    revoke = actions.add_parser("revoke", help="let a key open nothing more", parents=[set_up])
    revoke.add_argument("id", help="of the key, as list shows it")
    revoke.set_defaults(run=_server("keys_revoke"))


def _server(name: str) -> Callable[[argparse.Namespace], tuple[str, int]]:
    """Return a command of the server, which is loaded when it is run."""

    def run(options: argparse.Namespace) -> tuple[str, int]:
        try:
            from wattfill.server import command
        except ImportError as error:
            if error.name is None or error.name.partition(".")[0] == "wattfill":
                raise
            raise MissingExtraError(
                f"the server needs {error.name}: pip install 'wattfill[server]'"
            ) from None
        done: tuple[str, int] = getattr(command, name)(options)
        return done

    return run


def _add_verify_options(verify: argparse.ArgumentParser) -> None:
    verify.add_argument(
        "allocator",
        metavar="MODULE:FUNCTION",
        nargs="?",
        help="the allocator; the module is found in the current folder, too, and may be a file",
    )
    verify.add_argument(
        "--exec", dest="program", metavar="COMMAND", help="an allocator that is another program"
    )
    promises = verify.add_argument_group("what the allocator promises")
    promises.add_argument(
        "--features",
        metavar="LIST",
        help="which it takes, with commas between: offsets, buffer, reserved, parent, weight, "
        "priority, rank, active, step; by default what its signature says, and of a program all",
    )
    promises.add_argument(
        "--no-pausing", action="store_true", help="it pauses nobody: all minimums fit"
    )
    promises.add_argument(
        "--any-order", action="store_true", help="who waits is its own choice: no priority, no rank"
    )
    exactness = promises.add_mutually_exclusive_group()
    exactness.add_argument(
        "--tolerance", metavar="KW", type=float, help="by how much a power may be off (0.000001)"
    )
    exactness.add_argument(
        "--exact", action="store_true", help="the very doubles of the reference: a tolerance of 0"
    )
    promises.add_argument(
        "--expect",
        metavar="LAW=REASON",
        action="append",
        default=[],
        help="a law that it is known to break, and why; may be there many times",
    )
    search = verify.add_argument_group("how to search")
    search.add_argument(
        "--max-examples", metavar="N", type=_positive, help="how many sites to make (500)"
    )
    search.add_argument("--seed", metavar="N", type=int, help="repeats a run")
    search.add_argument(
        "--time-limit",
        metavar="S",
        type=_seconds,
        default=10.0,
        help="seconds that one answer may take (10)",
    )
    files = verify.add_argument_group("files instead").add_mutually_exclusive_group()
    files.add_argument(
        "--vectors",
        metavar="FILE",
        help="write cases with exact answers, --max-examples many (2000) from a --seed (1)",
    )
    files.add_argument(
        "--check-vectors",
        metavar="FILE",
        help="ask the cases of such a file, and compare the answers to the last bit; without an "
        "allocator the reference is asked",
    )
    files.add_argument(
        "--history",
        metavar="FILE",
        help="whether stations could have drawn too much at any instant, by a log of JSON lines; "
        "- is standard input",
    )
    history = verify.add_argument_group("of a history")
    for name, words in (
        ("skew", "by which a station's clock may differ from that of the log"),
        ("lag", "that a vehicle may take to follow a lower limit"),
    ):
        history.add_argument(
            f"--{name}", metavar="S", type=float, default=0.0, help=f"seconds {words} (0)"
        )
    output = verify.add_argument_group("what to print")
    output.add_argument("--json", action="store_true", help="print JSON for machines")
    output.add_argument(
        "--report",
        metavar="FILE.html",
        help="write a page, too, with a picture of each counterexample",
    )


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be 1 at least, got {number}")
    return number


def _seconds(text: str) -> float:
    if not 0.0 < (seconds := float(text)) < float("inf"):
        raise argparse.ArgumentTypeError(f"must be above 0 and finite, got {text}")
    return seconds


def _simulate(options: argparse.Namespace) -> tuple[str, int]:
    # Here, so that --help does not load Arrow.
    from wattfill.simulation.command import simulate_sessions

    return simulate_sessions(options)


def _verify(options: argparse.Namespace) -> tuple[str, int]:
    # Here, so that --help does not load Hypothesis.
    from wattfill.testing.command import verify

    return verify(options)


def _allocate(options: argparse.Namespace) -> tuple[str, int]:
    # Here, so that --help and --version do not load NumPy and the kernel.
    from wattfill import report, site

    name = "standard input" if options.file == "-" else options.file
    try:
        registry = site.parse(_read(options.file))
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    allocation = registry.allocate()
    if options.form == "json":
        return report.as_json(registry, allocation), 0
    if options.form == "csv":
        return report.as_csv(registry, allocation), 0
    on_terminal = sys.stdout is not None and sys.stdout.isatty()
    table = report.as_table(
        registry,
        allocation,
        width=shutil.get_terminal_size().columns if on_terminal else report.PLAIN_WIDTH,
        colour=on_terminal,
        encoding=_encoding(),
    )
    return table, 0


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
