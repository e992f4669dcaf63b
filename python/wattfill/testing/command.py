"""``wattfill verify``: an allocator held to the laws, from the command line."""

from __future__ import annotations

import argparse
import inspect
import json
import platform
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wattfill import __version__
from wattfill.errors import InputError, MissingExtraError
from wattfill.testing.program import Program
from wattfill.testing.spec import Spec
from wattfill.testing.target import expected_failures, find_allocator
from wattfill.testing.trial import Allocator, as_factory

ALL_HELD, BROKEN = 0, 1
# What is coloured on a terminal; the text is the same in a pipe.
COLOURS = {
    r"(?<=  )held(?=  )": "green",
    r"(?<=  )broken(?=  )": "bold red",
    r"(?<=  )(expected|unexpected|not judged)(?=  )": "yellow",
    r"(?m)^.*  does not apply  .*$": "dim",
    r"(?m)^(expected: .*|\{.*\})$": "dim",
}


@dataclass(frozen=True)
class Run:
    """What a report is of, and how to have it again.

    Attributes
    ----------
    allocator : str
        The name or the command of what was judged.
    command : str
        What repeats the run.
    versions : dict of str to str
        Of what decides which sites are made.

    """

    allocator: str
    command: str
    versions: dict[str, str]

    def __str__(self) -> str:
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return f"to repeat it: {self.command}\nwith {versions}"


def verify(options: argparse.Namespace) -> tuple[str, int]:
    """Return what to print and the exit status.

    Raises
    ------
    InputError
        If there is no such allocator, or a file or an option is no good.
    MissingExtraError
        If Hypothesis is not installed, or rich where there is a terminal.

    """
    if options.history is not None:
        return _history(options)
    if options.vectors is not None:
        return _write_vectors(options)
    if options.check_vectors is not None:
        return _check_vectors(options)
    return _laws(options)


def _laws(options: argparse.Namespace) -> tuple[str, int]:
    try:
        import hypothesis

        from wattfill.testing.conformance import check_allocator
    except ImportError:
        raise MissingExtraError(
            "wattfill verify takes hypothesis, which is not installed: "
            "pip install 'wattfill[testing]'"
        ) from None
    expected = expected_failures(options.expect)
    if options.report:
        _require_writable(options.report)
    settings = {} if options.max_examples is None else {"max_examples": options.max_examples}
    with (
        # What an allocator prints is no part of the report.
        redirect_stdout(sys.stderr),
        _subject(options) as (name, allocator, spec),
        _progress(options) as progress,
    ):
        report = check_allocator(
            allocator,
            spec=spec,
            expected_failures=expected,
            seed=options.seed,
            time_limit=options.time_limit,
            on_fail="return",
            progress=progress,
            **settings,
        )
    assert report.seed is not None
    run = Run(
        allocator=name,
        command=_command(options, report.seed),
        versions={
            "wattfill": __version__,
            "hypothesis": hypothesis.__version__,
            "Python": platform.python_version(),
        },
    )
    if options.report:
        from wattfill.testing.page import as_page

        Path(options.report).write_text(as_page(report, run), encoding="utf-8")
    status = ALL_HELD if report.ok else BROKEN
    if options.json:
        document = {
            "allocator": run.allocator,
            **report.to_dict(),
            "repeat": run.command,
            "versions": run.versions,
        }
        return json.dumps(document, indent=2) + "\n", status
    return _for_people(f"{report.text(details=True)}\n\n{run}\n"), status


def _write_vectors(options: argparse.Namespace) -> tuple[str, int]:
    from wattfill.testing.vectors import CASES, SEED, write_vectors

    _require_writable(options.vectors)
    n = CASES if options.max_examples is None else options.max_examples
    seed = SEED if options.seed is None else options.seed
    write_vectors(options.vectors, seed, n)
    if options.json:
        return json.dumps({"file": options.vectors, "cases": n, "seed": seed}) + "\n", ALL_HELD
    return f"{options.vectors}: {n} cases, seed {seed}\n", ALL_HELD


def _check_vectors(options: argparse.Namespace) -> tuple[str, int]:
    from wattfill.testing.vectors import check_vectors

    file, seconds = options.check_vectors, options.time_limit
    with redirect_stdout(sys.stderr):
        if options.allocator is None and options.program is None:
            outcome = check_vectors(file)
        else:
            with _subject(options) as (_, factory, spec):
                outcome = check_vectors(file, _taking(factory, spec), time_limit=seconds)
    return _told(options, outcome, ALL_HELD if outcome.ok else BROKEN)


def _taking(factory: Allocator, spec: Spec) -> Callable[[], Allocator]:
    """Return a factory of allocators whose signature says what they take."""
    names = ("minimum", "maximum", "capacity", *sorted(spec.features))
    signature = inspect.Signature(
        [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in names]
    )

    def make() -> Allocator:
        instance = factory()

        def ask(**batch: Any) -> Any:
            return instance(**batch)

        ask.__signature__ = signature  # type: ignore[attr-defined]
        return ask

    return make


def _history(options: argparse.Namespace) -> tuple[str, int]:
    from wattfill.testing.history import check_history

    path = options.history
    name = "standard input" if path == "-" else path
    try:
        # Not sys.stdin, which is None where standard input is closed.
        with open(0 if path == "-" else path, "rb", closefd=path != "-") as log:
            verdict = check_history(log, skew=options.skew, lag=options.lag)
    except OSError as error:
        raise InputError(f"{name}: the file cannot be read: {error.strerror}") from None
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    return _told(options, verdict, ALL_HELD if verdict.safe else BROKEN)


def _told(options: argparse.Namespace, outcome: Any, status: int) -> tuple[str, int]:
    if options.json:
        return json.dumps(outcome.to_dict(), indent=2) + "\n", status
    return _for_people(f"{outcome}\n"), status


@contextmanager
def _subject(options: argparse.Namespace) -> Iterator[tuple[str, Allocator, Spec]]:
    """Yield the name of what is judged, a factory of it, and what it promises."""
    if (options.allocator is None) == (options.program is None):
        raise InputError("verify takes an allocator as MODULE:FUNCTION, or a program with --exec")
    promises: dict[str, Any] = {
        "pausing": not options.no_pausing,
        "ordered": not options.any_order,
    }
    if options.exact or options.tolerance is not None:
        promises["tolerance"] = 0.0 if options.exact else options.tolerance
    if options.features is not None:
        names = options.features.replace(",", " ").split()
        promises["features"] = frozenset(names)
    if options.program is not None:
        spec = Spec(**promises)
        with Program(options.program, time_limit=options.time_limit) as program:
            yield options.program, program, spec
        return
    factory = as_factory(find_allocator(options.allocator))
    try:
        instance = factory()
    except (Exception, SystemExit) as error:
        raise InputError(f"{options.allocator}() raised {type(error).__name__}: {error}") from error
    if not callable(instance):
        raise InputError(
            f"{options.allocator}() must return a function, got {type(instance).__name__}"
        )
    spec = Spec(**promises) if "features" in promises else Spec.of(instance, **promises)
    yield options.allocator, factory, spec


def _require_writable(path: str) -> None:
    """Find out now what would else be found out after the run."""
    try:
        with open(path, "a", encoding="utf-8"):
            pass
    except OSError as error:
        raise InputError(f"{path}: the file cannot be written: {error.strerror}") from None


def _command(options: argparse.Namespace, seed: int) -> str:
    """Return the command that repeats a run."""
    words = ["wattfill", "verify"]
    words += ["--exec", options.program] if options.program is not None else [options.allocator]
    for name in ("features", "tolerance", "max_examples"):
        if getattr(options, name) is not None:
            words += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    words += [
        f"--{name.replace('_', '-')}"
        for name in ("no_pausing", "any_order", "exact")
        if getattr(options, name)
    ]
    for expected in options.expect:
        words += ["--expect", expected]
    if options.time_limit != 10.0:
        words += ["--time-limit", f"{options.time_limit:g}"]
    return shlex.join([*words, "--seed", str(seed)])


@contextmanager
def _progress(options: argparse.Namespace) -> Iterator[Callable[[int, int], None] | None]:
    """Show a bar on a terminal, for as long as it takes; yield what moves it."""
    if options.json or sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    try:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
        )
    except ImportError:
        raise _no_rich() from None
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("sites", total=None)

        def move(done: int, of: int) -> None:
            words = "sites" if done < of else "the smallest counterexamples"
            bars.update(task, completed=done, total=of, description=words)

        yield move


def _for_people(text: str) -> str:
    """Escape what would move the cursor; colour what is for a terminal."""
    text = "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)
    if sys.stdout is None or not sys.stdout.isatty():
        return text
    try:
        from rich.console import Console
        from rich.text import Text
    except ImportError:
        raise _no_rich() from None
    coloured = Text(text)
    for pattern, style in COLOURS.items():
        coloured.highlight_regex(pattern, style)
    console = Console(force_terminal=True)
    with console.capture() as capture:
        console.print(coloured, soft_wrap=True, end="")
    return capture.get()


def _no_rich() -> MissingExtraError:
    return MissingExtraError(
        "a terminal takes rich, which is not installed: pip install 'wattfill[cli]', "
        "or ask for --json"
    )
