"""One connection to SQLite or PostgreSQL, with one dialect of SQL and three kinds of failure.

SQL is written once, with ``:name`` for values, in what both databases know. Nothing is built out
of what a request holds.
"""

from __future__ import annotations

import os
import re
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from functools import lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

from wattfill.errors import InputError, MissingExtraError, WattfillError

if TYPE_CHECKING:
    import psycopg

Row: TypeAlias = tuple[Any, ...]
Values: TypeAlias = Mapping[str, Any]

POSTGRES_SCHEMES = ("postgresql://", "postgres://")
DISPATCH_LOCK = 0x77617474
"""The number of the advisory lock that one dispatching server holds."""


class DatabaseError(WattfillError, OSError):
    """The database does not do what it was asked for; the transaction is rolled back."""


class Unreachable(DatabaseError):  # noqa: N818 - what it is, not that it is an error
    """The connection is gone. Whether a commit that was under way happened is not known."""


class Busy(DatabaseError):  # noqa: N818
    """Others hold a lock; trying again may help."""


class NoSpace(DatabaseError):  # noqa: N818
    """The disk is full."""


class Database(ABC):
    """A connection, which one thread at a time uses."""

    name: str
    in_transaction = False

    @abstractmethod
    def open(self) -> None:
        """Connect anew."""

    @abstractmethod
    def close(self) -> None:
        """Let the connection go, if there is one."""

    @abstractmethod
    def _execute(self, sql: str, values: Values) -> Any: ...

    @abstractmethod
    def _execute_many(self, sql: str, values: Iterable[Values]) -> None: ...

    @abstractmethod
    def try_to_lead(self) -> bool:
        """Take the lock of the one server that dispatches, until the connection is closed.

        Say whether it is held.
        """

    _begin_write: str
    _begin_read: str

    def rows(self, sql: str, **values: Any) -> list[Row]:
        """Return the rows that a query finds."""
        rows: list[Row] = self._execute(sql, values).fetchall()
        return rows

    def stream(self, sql: str, **values: Any) -> Iterator[Row]:
        """Yield the rows that a query finds, one after another."""
        yield from self._execute(sql, values)

    def row(self, sql: str, **values: Any) -> Row | None:
        """Return the first row that a query finds."""
        row: Row | None = self._execute(sql, values).fetchone()
        return row

    def run(self, sql: str, **values: Any) -> None:
        """Run one statement."""
        self._execute(sql, values)

    def run_many(self, sql: str, values: Sequence[Values]) -> None:
        """Run one statement with each of these values."""
        if values:
            self._execute_many(sql, values)

    def begin(self, *, write: bool) -> None:
        """Begin a transaction: of its own snapshot, or to write."""
        self._execute(self._begin_write if write else self._begin_read, {})
        self.in_transaction = True

    def commit(self) -> None:
        """Have all of it on the disk when this returns."""
        self._execute("COMMIT", {})
        self.in_transaction = False

    def rollback(self) -> None:
        """Undo what was begun, if anything was."""
        if self.in_transaction:
            self.in_transaction = False
            try:
                self._execute("ROLLBACK", {})
            except DatabaseError:
                # Where that fails the database has done it already, or will as we leave.
                self.close()

    @contextmanager
    def transaction(self, *, write: bool = True) -> Iterator[None]:
        """Do what is inside as one, or not at all."""
        self.begin(write=write)
        try:
            yield
            self.commit()
        except BaseException:
            self.rollback()
            raise


class Sqlite(Database):
    """A SQLite file: one writer at a time, on the disk when it is committed."""

    name = "sqlite"
    # A transaction that begins to read and comes to write would not wait for others but fail.
    _begin_write = "BEGIN IMMEDIATE"
    _begin_read = "BEGIN"

    def __init__(self, path: str | os.PathLike[str], patience: float = 5.0) -> None:
        self.path = Path(path)
        self._patience = patience
        self._connection: sqlite3.Connection | None = None
        self._lock: IO[bytes] | None = None

    def __str__(self) -> str:
        return str(self.path)

    def open(self) -> None:
        """Connect anew; a file that is not there yet is created for its owner alone."""
        self.close()
        try:
            # Not for others to read: it holds digests of keys. One that is there is not opened, as
            # closing it would drop every lock that this process holds on it.
            with suppress(FileExistsError):
                os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            self._connection = connection = sqlite3.connect(
                self.path,
                timeout=self._patience,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=256,
            )
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
                connection.execute(f"PRAGMA {pragma}")
        except OSError as error:
            raise Unreachable(f"{self.path} cannot be opened: {error.strerror}") from None
        except sqlite3.Error as error:
            raise self._translated(error) from error

    def close(self) -> None:
        """Let the connection go, if there is one."""
        self.in_transaction = False
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def rollback(self) -> None:
        """Undo what was begun; after some failures SQLite has done that already."""
        if self._connection is None or self._connection.in_transaction:
            super().rollback()
        self.in_transaction = False

    def _execute(self, sql: str, values: Values) -> sqlite3.Cursor:
        if self._connection is None:
            self.open()
        assert self._connection is not None
        try:
            return self._connection.execute(sql, values)
        except sqlite3.Error as error:
            raise self._translated(error) from error

    def _execute_many(self, sql: str, values: Iterable[Values]) -> None:
        if self._connection is None:
            self.open()
        assert self._connection is not None
        try:
            self._connection.executemany(sql, values)
        except sqlite3.Error as error:
            raise self._translated(error) from error

    def _translated(self, error: sqlite3.Error) -> Exception:
        code = getattr(error, "sqlite_errorcode", None)
        primary = None if code is None else code & 0xFF
        if code == sqlite3.SQLITE_IOERR_WRITE:
            # Nothing of the transaction is there, and what was there can be read.
            return NoSpace(f"{self.path} cannot be written, as by a quota")
        if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return Busy(f"{self.path} is locked by another process")
        if primary == sqlite3.SQLITE_FULL:
            return NoSpace(f"the disk of {self.path} is full")
        if primary in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            # What the disk is left with after a failure is unknown, so that nothing more is
            # written over this connection.
            self.close()
            return Unreachable(f"{self.path} cannot be read or written: {error}")
        if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return DatabaseError(f"{self.path} is damaged, or no SQLite file: {error}")
        return error

    def try_to_lead(self) -> bool:
        """Take the lock of the one server that dispatches: a file beside the database."""
        if self._lock is None:
            lock = open(f"{self.path}.dispatch", "ab")  # noqa: SIM115 - held while we live
            try:
                flock(lock, LOCK_EX | LOCK_NB)
            except OSError:
                lock.close()
                return False
            self._lock = lock
        return True


class Postgres(Database):
    """A PostgreSQL database."""

    name = "postgresql"
    _begin_write = "BEGIN"
    _begin_read = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

    def __init__(self, url: str, patience: float = 5.0) -> None:
        try:
            import psycopg
        except ImportError:
            raise MissingExtraError(
                "PostgreSQL needs psycopg: pip install 'wattfill[server]'"
            ) from None
        self._psycopg = psycopg
        self._url = url
        self._patience_ms = max(1, int(patience * 1000))
        self._connection: psycopg.Connection[Row] | None = None

    def __str__(self) -> str:
        # A URL may hold a password.
        return re.sub(r"//([^:/@]*):[^@/]*@", r"//\1:...@", self._url)

    def open(self) -> None:
        """Connect anew."""
        self.close()
        wait = self._patience_ms
        try:
            self._connection = self._psycopg.connect(
                self._url,
                autocommit=True,
                connect_timeout=max(1, wait // 1000),
                application_name="wattfill",
                options=f"-c lock_timeout={wait} -c statement_timeout={6 * wait} "
                f"-c idle_in_transaction_session_timeout={6 * wait} -c synchronous_commit=on",
            )
        except self._psycopg.Error as error:
            raise Unreachable(f"{self} cannot be reached: {_first_line(error)}") from None

    def close(self) -> None:
        """Let the connection go, if there is one."""
        self.in_transaction = False
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close()

    def _execute(self, sql: str, values: Values) -> psycopg.Cursor[Row]:
        if self._connection is None:
            self.open()
        assert self._connection is not None
        try:
            return self._connection.execute(_for_psycopg(sql), values)
        except self._psycopg.Error as error:
            raise self._translated(error) from error

    def _execute_many(self, sql: str, values: Iterable[Values]) -> None:
        if self._connection is None:
            self.open()
        assert self._connection is not None
        try:
            with self._connection.cursor() as cursor:
                cursor.executemany(_for_psycopg(sql), list(values))
        except self._psycopg.Error as error:
            raise self._translated(error) from error

    def _translated(self, error: psycopg.Error) -> Exception:
        errors = self._psycopg.errors
        if isinstance(error, errors.DiskFull):
            return NoSpace(f"the disk of {self} is full")
        if isinstance(
            error,
            (
                errors.LockNotAvailable,
                errors.DeadlockDetected,
                errors.SerializationFailure,
                errors.QueryCanceled,
            ),
        ):
            return Busy(f"{self} is locked by another session")
        if self._connection is not None and not self._connection.closed:
            return error
        self.close()
        return Unreachable(f"{self} cannot be reached: {_first_line(error)}")

    def try_to_lead(self) -> bool:
        """Take the lock of the one server that dispatches: it goes with the connection."""
        row = self.row("SELECT pg_try_advisory_lock(:number)", number=DISPATCH_LOCK)
        return row is not None and bool(row[0])


def connect(url: str, patience: float = 5.0) -> Database:
    """Return a database by its URL, or by the path of a SQLite file; it is not open yet.

    Examples
    --------
    >>> print(connect("sqlite:///site.db"))
    site.db
    >>> print(connect("postgresql://wattfill:secret@db.example/wattfill"))
    postgresql://wattfill:...@db.example/wattfill

    """
    if url.startswith(POSTGRES_SCHEMES):
        return Postgres(url, patience)
    scheme, found, rest = url.partition("://")
    if not found:
        return Sqlite(url, patience)
    if scheme != "sqlite" or not rest.startswith("/") or rest == "/":
        raise InputError(
            f"database must be a path, sqlite:///PATH or postgresql://..., got {scheme}://..."
        )
    return Sqlite(rest[1:], patience)


@lru_cache(maxsize=512)
def _for_psycopg(sql: str) -> bytes:
    return re.sub(r":(\w+)", r"%(\1)s", sql).encode()


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
