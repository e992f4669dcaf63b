"""Dispatchers of trees, with their journals in the database.

One server at a time dispatches, whoever holds the lock of the database. A journal has an owner,
and what another one writes is refused, so that a server that lost the lock without noticing
cannot raise a limit.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from wattfill.dispatch import Command, Dispatcher
from wattfill.errors import ConflictError, JournalError, WattfillError
from wattfill.registry import Registry
from wattfill.server.clock import Clock
from wattfill.server.database import Database, DatabaseError
from wattfill.server.store import Organisation, Tree

log = logging.getLogger("wattfill.dispatch")


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
        """Write records; they are on the disk when this returns, whatever `sync` says."""
        database = self._database
        with database.transaction():
            lock = " FOR UPDATE" if database.name == "postgresql" else ""
            owner = database.row(
                "SELECT owner FROM wf_journal_owner WHERE organisation = :organisation "
                f"AND root = :root{lock}",
                **self._which,
            )
            if owner is None or owner[0] != self._owner:
                raise JournalError("another server has taken the journal over")
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
    now = tree.now(clock)
    for station in tree.registry.charge_stations():
        if station.id in organisation.offline:
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
