"""One connection to SQLite or PostgreSQL, with one dialect of SQL and three kinds of failure.

SQL is written once, with ``:name`` for values, in what both databases know. Nothing is built out
of what a request holds.
"""

from __future__ import annotations

import os
import re
import secrets
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

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
    mark = 0
    """How often journals were written, as far as is known outside of the database."""

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

    @abstractmethod
    def still_leads(self) -> bool:
        """Show others a sign of life; say whether the lock is still held."""

    @abstractmethod
    def sign_of_leader(self) -> tuple[object, ...] | None:
        """Return what changes as long as the server that holds the lock lives; None if unknown."""

    @abstractmethod
    def depose(self, sign: tuple[object, ...]) -> None:
        """Take the lock from the server whose last sign of life this was."""

    @abstractmethod
    def place(self) -> str:
        """Return what tells this database from one that was made of a copy of it."""

    def keep_mark(self, mark: int) -> None:
        """Keep outside of the database how often journals were written."""
        self.mark = mark

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
            except Exception:
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
        self._is_doubtful = False
        """Whether the disk failed, so that what can be read may not be on it."""
        self._lock_path = Path(f"{self.path}.dispatch")
        self._lock: int | None = None

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
            # A process that was killed, or whose disk failed, may have left a commit in the log
            # that can be read and is not on the disk. Nobody is told of it before it is.
            row = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except OSError as error:
            raise Unreachable(f"{self.path} cannot be opened: {error.strerror}") from None
        except sqlite3.Error as error:
            raise self._translated(error) from error
        is_busy, n_frames, n_copied = row
        if self._is_doubtful and (is_busy or n_copied != n_frames):
            self.close()
            raise Busy(f"{self.path} is used by another process, and its disk has failed")
        self._is_doubtful = False

    def close(self) -> None:
        """Let the connection go, if there is one."""
        self.in_transaction = False
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close()
        self._let_lock_go()

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
            self._is_doubtful = True
            self.close()
            return Unreachable(f"{self.path} cannot be read or written: {error}")
        if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return DatabaseError(f"{self.path} is damaged, or no SQLite file: {error}")
        return error

    def try_to_lead(self) -> bool:
        """Take the lock of the one server that dispatches: a file beside the database."""
        if self._lock is None:
            lock = os.open(self._lock_path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                flock(lock, LOCK_EX | LOCK_NB)
            except OSError:
                os.close(lock)
                return False
            self._lock = lock
        return self.still_leads()

    def still_leads(self) -> bool:
        """Touch the file; say whether it is the one that is locked, and no other in its place."""
        if self._lock is None:
            return False
        try:
            is_there = os.path.samestat(self._lock_path.stat(), os.fstat(self._lock))
        except FileNotFoundError:
            is_there = False
        if is_there:
            os.utime(self._lock)
        else:
            self._let_lock_go()
        return is_there

    def sign_of_leader(self) -> tuple[object, ...] | None:
        """Return which file is there, and when it was touched."""
        try:
            there = self._lock_path.stat()
        except FileNotFoundError:
            return None
        return there.st_ino, there.st_mtime_ns

    def depose(self, sign: tuple[object, ...]) -> None:
        """Put a copy of the file in its place, which nobody has locked."""
        copy = self._lock_path.with_suffix(f".{secrets.token_hex(8)}")
        copy.write_bytes(self._lock_path.read_bytes())
        copy.chmod(0o600)
        if self.sign_of_leader() == sign:
            copy.replace(self._lock_path)
        copy.unlink(missing_ok=True)

    def place(self) -> str:
        """Return what the locked file holds: it is not copied with the database.

        The mark stands beside it.
        """
        assert self._lock is not None
        place, _, mark = os.pread(self._lock, 64, 0).decode("ascii", "replace").partition(" ")
        if not mark:
            place, mark = secrets.token_hex(8), "0"
            try:
                os.pwrite(self._lock, f"{place} {0:020}\n".encode(), 0)
                os.fsync(self._lock)
            except OSError as error:
                raise NoSpace(f"{self._lock_path} cannot be written: {error.strerror}") from None
        self.mark = max(self.mark, int(mark))
        return place

    def keep_mark(self, mark: int) -> None:
        """Keep it in the locked file; it may be lost with the power, and be too low then."""
        super().keep_mark(mark)
        if self._lock is not None:
            # Behind the place and a space. What cannot be written is too low as well.
            with suppress(OSError):
                os.pwrite(self._lock, f"{mark:020}".encode(), 17)

    def _let_lock_go(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


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
        self._leads = False

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
        self.in_transaction = self._leads = False
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
        if not self._leads:
            row = self.row("SELECT pg_try_advisory_lock(:number)", number=DISPATCH_LOCK)
            self._leads = row is not None and bool(row[0])
        return self._leads

    def still_leads(self) -> bool:
        """Ask for something, which others see; say whether the connection is still the same."""
        if self._leads:
            self.row("SELECT 1")
        return self._leads

    def sign_of_leader(self) -> tuple[object, ...] | None:
        """Return which session holds the lock, and when it was last asked for something.

        Sessions of another role cannot be looked at.
        """
        row = self.row(
            "SELECT a.pid, CAST(a.backend_start AS TEXT), CAST(a.state_change AS TEXT) "
            "FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid WHERE l.granted "
            "AND l.locktype = 'advisory' AND l.classid = 0 AND l.objid = :number AND l.database = "
            "(SELECT oid FROM pg_database WHERE datname = current_database())",
            number=DISPATCH_LOCK,
        )
        return row if row is not None and None not in row else None

    def depose(self, sign: tuple[object, ...]) -> None:
        """End the session, and so whatever it was about to write."""
        self.row(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = :pid "
            "AND CAST(backend_start AS TEXT) = :start AND CAST(state_change AS TEXT) = :change",
            **dict(zip(("pid", "start", "change"), sign, strict=True)),
        )

    def place(self) -> str:
        """Return which cluster it is, on which line of its history, and which database."""
        row = self.row(
            "SELECT CONCAT(c.system_identifier, '/', "
            "SUBSTR(pg_walfile_name(pg_current_wal_lsn()), 1, 8), '/', d.oid) "
            "FROM pg_control_system() c, pg_database d WHERE d.datname = current_database()"
        )
        assert row is not None
        return str(row[0])


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
