"""Where a dispatcher writes down what it is about to send, so that a crash forgets nothing."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import IO, Protocol, Self

from wattfill.errors import JournalError

HEADER = b"wattfill.journal 1\n"


class Journal(Protocol):
    """What a dispatcher asks of a journal: a file, a table, whatever keeps lines of text."""

    def read(self) -> Iterable[str]:
        """Return all records in the order in which they were written."""

    def write(self, records: Sequence[str], *, replace: bool, sync: bool) -> None:
        """Write records behind those that are there, or in their place; all of them or none.

        Parameters
        ----------
        records : sequence of str
            Each a line of JSON.
        replace : bool
            Whether they stand for all that was written so far, which may be forgotten.
        sync : bool
            Whether they must have reached the disk when this returns. Otherwise it is enough that
            they are there after this process is killed.

        Raises
        ------
        Exception
            If they could not be written. The dispatcher then holds back all increases, and asks to
            replace everything the next time.

        """


class FileJournal:
    r"""A journal in a file of its own: lines, each with a checksum that covers those before it.

    One process at a time may have it open. A record that was not written to its end, as by a
    crash, is left out. Whatever else is damaged is refused: a limit that is forgotten is one that
    may be exceeded.

    Parameters
    ----------
    path : path-like
        It is created if there is none; its folder must be there.

    Raises
    ------
    JournalError
        If the file is damaged, no journal, or open elsewhere; the message says which line.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     with FileJournal(f"{folder}/site.journal") as journal:
    ...         journal.write(['["epoch", 1]'], replace=False, sync=True)
    ...     with FileJournal(f"{folder}/site.journal") as journal:
    ...         print(list(journal.read()))
    ['["epoch", 1]']

    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._file: IO[bytes] | None = None
        self._lock = open(f"{self.path}.lock", "ab")  # noqa: SIM115
        try:
            self._take_lock()
            self._records, self._crc, size = self._load()
            self._file = open(self.path, "r+b" if size else "w+b", buffering=0)  # noqa: SIM115
            self._file.truncate(size)
            self._file.seek(size)
            if not size:
                self._crc = _start(self._file, [])
                _sync_folder(self.path.parent)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, for others to open it."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._lock.close()

    def read(self) -> Iterator[str]:
        """Return the records that were there when the journal was opened."""
        return iter(self._records)

    def write(self, records: Sequence[str], *, replace: bool, sync: bool) -> None:
        """Write records behind those that are there, or in their place; see `Journal`."""
        if self._lock.closed or (self._file is None and not replace):
            raise JournalError(
                f"{self.path} must be open to be written to, and it is closed, or could not be "
                "written and waits to be replaced"
            )
        # After a failure it is unknown what the disk is left with, so that nothing more is written
        # to that file: it is replaced.
        file, self._file = self._file, None
        if replace:
            self._replace(records, file)
            return
        assert file is not None
        try:
            crc, text = _lines(records, self._crc)
            _write(file, text)
            if sync:
                os.fsync(file.fileno())
        except BaseException:
            file.close()
            raise
        self._file, self._crc = file, crc

    def _replace(self, records: Sequence[str], old: IO[bytes] | None) -> None:
        if old is not None:
            old.close()
        new = self.path.with_name(f"{self.path.name}.new")
        file = open(new, "wb", buffering=0)  # noqa: SIM115
        try:
            crc = _start(file, records)
            os.replace(new, self.path)
            _sync_folder(self.path.parent)
        except BaseException:
            file.close()
            new.unlink(missing_ok=True)
            raise
        self._file, self._crc = file, crc

    def _take_lock(self) -> None:
        try:
            flock(self._lock, LOCK_EX | LOCK_NB)
        except OSError:
            raise JournalError(
                f"{self.path} must be open once, and another process or dispatcher has it open"
            ) from None

    def _load(self) -> tuple[list[str], int, int]:
        """Return the records, the checksum of all, and where the last one ends."""
        content = self.path.read_bytes() if self.path.exists() else b""
        if HEADER.startswith(content):
            return [], zlib.crc32(HEADER), 0  # It was not written to its end.
        if not content.startswith(HEADER):
            raise JournalError(
                f"{self.path} must be a journal of this version, and begin with "
                f"{HEADER.decode().strip()!r}, got {content[:40]!r}"
            )
        records: list[str] = []
        crc, end = zlib.crc32(HEADER), len(HEADER)
        lines = content[end:].split(b"\n")
        for number, line in enumerate(lines[:-1], 2):
            sum_of, record = zlib.crc32(line[9:], crc), line[9:]
            if line[:9] != b"%08x " % sum_of:
                if number - 1 == len(lines) - 1 and not lines[-1]:
                    break  # The last one, of which a part had not reached the disk.
                raise JournalError(
                    f"{self.path} is damaged: line {number} of {len(lines)} does not have the "
                    f"checksum {sum_of:08x}, got {line[:8]!r}. Put back what was there, or begin "
                    "a new journal, with all stations unknown until they are read back"
                )
            records.append(record.decode())
            crc, end = sum_of, end + len(line) + 1
        return records, crc, end


def _start(file: IO[bytes], records: Sequence[str]) -> int:
    """Write a whole journal to the disk; return its checksum."""
    crc, text = _lines(records, zlib.crc32(HEADER))
    _write(file, HEADER + text)
    os.fsync(file.fileno())
    return crc


def _lines(records: Iterable[str], crc: int) -> tuple[int, bytes]:
    """Return records as they are written behind what has this checksum, and the one of all."""
    parts = []
    for record in records:
        text = record.encode()
        crc = zlib.crc32(text, crc)
        parts.append(b"%08x %b\n" % (crc, text))
    return crc, b"".join(parts)


def _write(file: IO[bytes], text: bytes) -> None:
    rest = memoryview(text)
    while rest:
        rest = rest[file.write(rest) :]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
