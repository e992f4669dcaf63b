"""Raising what a group may draw at the most: one person asks for it, another one approves it.

A person is told by the name of a key: keys of one name are one person's, as while one of them
takes the other's place. What waits for approval is a row, and in memory beside its group.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from wattfill.server.database import Database, Row

MODES = ("auto", "always", "never")
"""Whether a raise needs two persons: where an organisation has two who could, or as it is set."""
STATES = ("pending", "approved", "declined", "withdrawn", "expired")
LASTS = 72 * 3600.0
"""Seconds for which a raise waits: from one working day to the next, with a weekend between."""
SERVER = "server"
"""Who it was, in the log, where nobody did it but the clock."""

COLUMNS = (
    "revision",
    "group_id",
    "commissioned",
    "commissioned_before",
    "note",
    "state",
    "asked_by",
    "asked_name",
    "asked_at",
    "expires_at",
    "decided_by",
    "decided_at",
)
"""Of a row, as `Raise` takes them."""
_STATE = "CASE WHEN state = 'pending' AND expires_at <= :now THEN 'expired' ELSE state END"


@dataclass(frozen=True, slots=True)
class Raise:
    """What somebody asked for, and what became of it."""

    revision: int
    """Of the line of the log that tells of it first; it is its id."""
    group: str
    commissioned: float
    before: float
    """kW that were commissioned when it was asked for."""
    note: str
    state: str
    asked_by: str
    asked_name: str
    asked_at: float
    expires_at: float
    decided_by: str | None = None
    decided_at: float | None = None

    @property
    def id(self) -> str:
        """How it is called, in its organisation."""
        return str(self.revision)

    def show(self) -> dict[str, Any]:
        """Return what answers have of it."""
        return {
            "_id": self.id,
            "group": self.group,
            "commissioned_capacity": self.commissioned,
            "commissioned_before": self.before,
            "note": self.note,
            "state": self.state,
            "asked_by": self.asked_by,
            "asked_by_name": self.asked_name,
            "asked_at": self.asked_at,
            "expires_at": self.expires_at,
            "decided_by": self.decided_by,
            "decided_at": self.decided_at,
        }

    def detail(self) -> dict[str, Any]:
        """Return what the log has of it."""
        return {
            "raise": self.id,
            "commissioned_capacity": self.commissioned,
            "commissioned_before": self.before,
            "note": self.note,
            "asked_by": self.asked_by,
        }


def person_of(name: str) -> str:
    """Return who has the keys of a name.

    Examples
    --------
    >>> person_of("Anna  Ohm ") == person_of("anna ohm")
    True

    """
    return " ".join(name.casefold().split())


def needs_two(database: Database, tenant: str, mode: str) -> bool:
    """Say whether a raise needs two persons.

    A key counts until it is revoked, also when it has expired: what time alone undoes would be no
    rule.
    """
    if mode != "auto":
        return mode == "always"
    rows = database.rows(
        "SELECT name, scopes FROM wf_key WHERE organisation = :tenant AND revoked_at IS NULL",
        tenant=tenant,
    )
    return len({person_of(name) for name, scopes in rows if "commission" in scopes.split()}) > 1


def key_of(database: Database, tenant: str, id: str) -> tuple[str, bool]:
    """Return the name of a key, and whether it is revoked."""
    row = database.row(
        "SELECT name, revoked_at FROM wf_key WHERE organisation = :tenant AND id = :id",
        tenant=tenant,
        id=id,
    )
    return ("", True) if row is None else (row[0], row[1] is not None)


def find(
    database: Database,
    tenant: str,
    now: float,
    *,
    id: str | None = None,
    group: str | None = None,
    state: str | None = None,
    before: int | None = None,
    limit: int = 50,
) -> list[Raise]:
    """Return raises of an organisation, the latest first."""
    conditions = ["organisation = :tenant"]
    values: dict[str, Any] = {}
    if id is not None:
        # No other text is the id of any.
        values["revision"] = int(id) if id.isdecimal() and str(int(id)) == id else -1
        conditions.append("revision = :revision")
    if group is not None:
        values["group_id"] = group
        conditions.append("group_id = :group_id")
    if state is not None:
        values["state"] = state
        conditions.append(f"{_STATE} = :state")
    if before is not None:
        values["before"] = before
        conditions.append("revision < :before")
    columns = ", ".join(_STATE if name == "state" else name for name in COLUMNS)
    rows = database.rows(
        f"SELECT {columns} FROM wf_raise WHERE {' AND '.join(conditions)} "
        "ORDER BY revision DESC LIMIT :limit",
        tenant=tenant,
        now=now,
        limit=limit,
        **values,
    )
    return [Raise(*row) for row in rows]


def overdue(database: Database, now: float) -> list[Row]:
    """Return the organisation and the group of each raise whose time is over."""
    return database.rows(
        "SELECT organisation, group_id FROM wf_raise "
        "WHERE state = 'pending' AND expires_at <= :now ORDER BY organisation, revision",
        now=now,
    )


def insert(database: Database, tenant: str, raise_: Raise) -> None:
    """Keep what somebody asked for."""
    values = dict(zip(COLUMNS, (getattr(raise_, name) for name in raise_.__slots__), strict=True))
    database.run(
        f"INSERT INTO wf_raise (organisation, {', '.join(COLUMNS)}) "
        f"VALUES (:organisation, {', '.join(f':{name}' for name in COLUMNS)})",
        organisation=tenant,
        **values,
    )


def decide(database: Database, tenant: str, raise_: Raise) -> None:
    """Keep what became of one that waited."""
    database.run(
        "UPDATE wf_raise SET state = :state, decided_by = :decided_by, decided_at = :decided_at "
        "WHERE organisation = :organisation AND revision = :revision AND state = 'pending'",
        organisation=tenant,
        revision=raise_.revision,
        state=raise_.state,
        decided_by=raise_.decided_by,
        decided_at=raise_.decided_at,
    )
