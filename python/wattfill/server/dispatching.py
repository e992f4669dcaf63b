"""Dispatchers of trees, with their journals in the database.

One server at a time dispatches, whoever holds the lock of the database. A journal has an owner,
and what another one writes is refused, so that a server that lost the lock without noticing
sends nothing more.

A journal is worth what it tells as long as it is the latest. Of a database that stands elsewhere,
or is older than what was sent, nothing is believed: see `take_lead`.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from wattfill._records import count
from wattfill.dispatch import Command, Dispatcher
from wattfill.errors import ConflictError, InputError, JournalError, WattfillError
from wattfill.registry import Registry
from wattfill.server.clock import Clock
from wattfill.server.database import Busy, Database, DatabaseError, NoSpace
from wattfill.server.store import Organisation, Tree

log = logging.getLogger("wattfill.dispatch")

HOUR = 3600.0
EPOCHS_LEFT_OUT = 4096
"""At the least, where it is not known which were used. Those that fit into a number of JSON with 53
bits last for so many hours since 1970, or for 500 times that many left out."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How stations take their commands; see `wattfill.Dispatcher`."""

    lease: float | None = None
    skew: float = 2.0
    lag: float = 5.0


class DatabaseJournal:
    """The journal of one tree, in a table.

    Its epochs are those of the organisation: each time that a journal is read they rise, so that
    no number of a command is ever used again, also when a tree is dispatched anew or a charge
    station comes to another tree.
    """

    def __init__(self, database: Database, tenant: str, root: str) -> None:
        self._database = database
        self._which = {"organisation": tenant, "root": root}
        self._owner = secrets.token_hex(8)
        self._number = 0

    def read(self) -> Iterable[str]:
        """Take the journal over; return its records, and behind them the present epoch."""
        database = self._database
        with database.transaction():
            database.run(
                "UPDATE wf_organisation SET epoch = epoch + 1 WHERE id = :id",
                id=self._which["organisation"],
            )
            epoch = database.row(
                "SELECT epoch FROM wf_organisation WHERE id = :id", id=self._which["organisation"]
            )
            assert epoch is not None
            database.run(
                "DELETE FROM wf_journal_owner WHERE organisation = :organisation AND root = :root",
                **self._which,
            )
            database.run(
                "INSERT INTO wf_journal_owner VALUES (:organisation, :root, :owner)",
                **self._which,
                owner=self._owner,
            )
            rows = database.rows(
                "SELECT number, record FROM wf_journal WHERE organisation = :organisation "
                "AND root = :root ORDER BY number",
                **self._which,
            )
        self._number = rows[-1][0] if rows else 0
        records = [record for _, record in rows]
        at, lag = 0.0, 0.0
        for record in records:
            kind, at, *what = json.loads(record)
            if kind == "epoch":
                lag = what[1]
        return [*records, json.dumps(["epoch", at, epoch[0], lag])]

    def write(self, records: Sequence[str], *, replace: bool, sync: bool) -> None:
        """Write records; they are on the disk when this returns, whatever `sync` says.

        Raises
        ------
        JournalError
            If another server has taken the journal over.

        """
        try:
            self._write(records, replace)
        except (Busy, NoSpace):
            # Decreases leave without the journal, but not those of a server that is deposed.
            self._refuse_others()
            raise

    def _write(self, records: Sequence[str], replace: bool) -> None:
        database = self._database
        with database.transaction():
            self._refuse_others(" FOR UPDATE" if database.name == "postgresql" else "")
            database.run("UPDATE wf_mark SET n = n + 1")
            mark = database.row("SELECT n FROM wf_mark")
            if replace:
                forget_journal(database, **self._which)
            number = 0 if replace else self._number
            database.run_many(
                "INSERT INTO wf_journal VALUES (:organisation, :root, :number, :record)",
                [
                    self._which | {"number": number + i, "record": record}
                    for i, record in enumerate(records, 1)
                ],
            )
        self._number = number + len(records)
        assert mark is not None
        database.keep_mark(mark[0])

    def _refuse_others(self, lock: str = "") -> None:
        owner = self._database.row(
            "SELECT owner FROM wf_journal_owner WHERE organisation = :organisation "
            f"AND root = :root{lock}",
            **self._which,
        )
        if owner is None or owner[0] != self._owner:
            raise JournalError("another server has taken the journal over")


def take_lead(database: Database, clock: Clock) -> bool:
    """Become the one server that dispatches, if no other one is; say whether that is so.

    A database that was put back from a copy has journals which do not tell of what was sent since.
    They are forgotten, so that each connector counts with its rating until it confirms something,
    and numbers of commands go on behind all that can have been used.
    """
    if not database.try_to_lead():
        return False
    place, known = database.place(), database.mark
    with database.transaction():
        row = database.row("SELECT n, place FROM wf_mark")
        assert row is not None
        n, there = row
        if there not in ("", place) or n < known:
            log.warning("journals may be older than what was sent: all stations are unknown")
            database.run("DELETE FROM wf_journal")
            database.run(
                "UPDATE wf_organisation SET epoch = "
                "CASE WHEN epoch + :more > :hours THEN epoch + :more ELSE :hours END",
                more=EPOCHS_LEFT_OUT,
                hours=int(clock.now() / HOUR),
            )
        n = max(n, known) + 1
        database.run("UPDATE wf_mark SET n = :n, place = :place", n=n, place=place)
    database.keep_mark(n)
    return True


def refuse_workers(database: Database, workers: int) -> None:
    """Raise `InputError` if several processes are to serve groups whose commands one sends."""
    row = database.row("SELECT COUNT(*) FROM wf_group WHERE dispatch = 1")
    assert row is not None
    if workers > 1 and row[0]:
        raise InputError(
            f"workers must be 1 with {count(row[0], 'dispatched group')}, as one process sends "
            f"all commands, got {workers}"
        )


def offline_stations(database: Database, organisation: str, root: str) -> set[str]:
    """Return the charge stations of a tree that cannot be reached, as somebody said."""
    rows = database.rows(
        "SELECT s.id FROM wf_station s JOIN wf_group g ON g.organisation = s.organisation "
        "AND g.id = s.group_id WHERE s.organisation = :organisation AND g.root = :root "
        "AND s.offline = 1",
        organisation=organisation,
        root=root,
    )
    return {id for (id,) in rows}


def forget_journal(database: Database, organisation: str, root: str) -> None:
    """Delete the records of a tree that is dispatched no more."""
    database.run(
        "DELETE FROM wf_journal WHERE organisation = :organisation AND root = :root",
        organisation=organisation,
        root=root,
    )


def refuse_unfit(registry: Registry) -> None:
    """Raise `ConflictError` if what connectors may draw on their own does not fit."""
    Dispatcher(registry).close()


def take_up(
    database: Database, clock: Clock, manner: Manner, organisation: Organisation, tree: Tree
) -> None:
    """Dispatch a tree from now on, where its journal left off.

    A failure of the database is raised; whatever else is in the way is told by
    `Tree.dispatch_error`, and the tree is not dispatched: its stations keep what they have.
    """
    journal = DatabaseJournal(database, organisation.id, tree.root)
    try:
        dispatcher = Dispatcher(
            tree.registry, journal, lease=manner.lease, skew=manner.skew, lag=manner.lag
        )
    except DatabaseError:
        raise
    except (ConflictError, WattfillError) as error:
        tree.dispatch_error = str(error)
        log.error("tree is not dispatched", extra={"root": tree.root, "reason": str(error)})
        return
    tree.dispatcher, tree.dispatch_error = dispatcher, None
    now, offline = tree.now(clock), offline_stations(database, organisation.id, tree.root)
    for station in tree.registry.charge_stations():
        if station.id in offline:
            dispatcher.offline(station.id, now)


def command_record(command: Command) -> dict[str, object]:
    """Return a command as it is streamed."""
    return {
        "chargestation": command.station,
        "connector": command.connector,
        "seq": command.seq,
        "limit": command.limit,
        "expires": command.expires,
        "why": command.why,
    }
