"""Files that are there whole, or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path

from wattfill.errors import InputError


@contextmanager
def whole_file(path: str | PathLike[str]) -> Iterator[Path]:
    """Yield the path of a file to write, which takes its final name once it is written.

    Where that ends early, by an error or an interrupt, what was at the final name is still there.

    Raises
    ------
    InputError
        It cannot be written there.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with whole_file(f"{folder}/a.txt") as file:
    ...         _ = file.write_text("all of it")
    ...     Path(f"{folder}/a.txt").read_text()
    'all of it'

    """
    final = Path(path)
    try:
        # In the same folder, since a file changes its name in one step within a file system only.
        handle, name = tempfile.mkstemp(
            dir=final.parent, prefix=f".{final.name}.", suffix=final.suffix
        )
        os.close(handle)
        # As open() would have made it: mkstemp lets nobody else read.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)
        if final.is_dir():
            os.unlink(name)
            raise IsADirectoryError(0, "it is a folder")
    except OSError as error:
        raise InputError(f"{path}: the file cannot be written: {error.strerror}") from None
    try:
        yield Path(name)
        os.replace(name, final)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(name)


def require_writable(path: str | PathLike[str]) -> None:
    """Find out now what would else be found out in the end; nothing is left behind.

    Raises
    ------
    InputError
        No file can be written there.

    """
    with suppress(_NotWritten), whole_file(path):
        raise _NotWritten


def is_same_file(one: str | PathLike[str], other: str | PathLike[str]) -> bool:
    """Return whether both are there, and are the same file."""
    return os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other)


class _NotWritten(Exception):  # noqa: N818
    """Ends the writing of a file before it has its name."""
