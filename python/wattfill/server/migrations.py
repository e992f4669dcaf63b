"""The tables, and how a database comes from one version of them to the next.

A step is never changed once it was released: what comes later is a new step. Each runs in one
transaction, so a database is at one version or at the next, whenever the process is killed. After
the first a step only adds, so that a server of the version before goes on beside the new one.
"""

from __future__ import annotations

import time

from wattfill.server.database import Database, DatabaseError, Postgres

MIGRATION_LOCK = 0x77616D69

STEPS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE wf_organisation (
            id TEXT PRIMARY KEY,
            name TEXT NOT NULL,
            revision BIGINT NOT NULL,
            digest TEXT NOT NULL,
            epoch BIGINT NOT NULL,
            created_at DOUBLE PRECISION NOT NULL
        )""",
        """CREATE TABLE wf_key (
            id TEXT PRIMARY KEY,
            organisation TEXT NOT NULL REFERENCES wf_organisation,
            name TEXT NOT NULL,
            digest TEXT NOT NULL,
            scopes TEXT NOT NULL,
            created_at DOUBLE PRECISION NOT NULL,
            expires_at DOUBLE PRECISION,
            revoked_at DOUBLE PRECISION,
            last_used_at DOUBLE PRECISION
        )""",
        """CREATE TABLE wf_group (
            organisation TEXT NOT NULL REFERENCES wf_organisation,
            id TEXT NOT NULL,
            root TEXT NOT NULL,
            name TEXT NOT NULL,
            maximum_capacity DOUBLE PRECISION NOT NULL CHECK (maximum_capacity >= 0),
            minimum_connector_capacity DOUBLE PRECISION NOT NULL
                CHECK (minimum_connector_capacity >= 0),
            buffer DOUBLE PRECISION NOT NULL CHECK (buffer BETWEEN 0 AND 1),
            reserved DOUBLE PRECISION NOT NULL CHECK (reserved >= 0),
            admission TEXT NOT NULL,
            rotation DOUBLE PRECISION NOT NULL CHECK (rotation > 0),
            parent TEXT,
            location TEXT,
            description TEXT NOT NULL,
            notes TEXT NOT NULL,
            dispatch BIGINT NOT NULL,
            commissioned DOUBLE PRECISION NOT NULL,
            line TEXT,
            version BIGINT NOT NULL,
            created_at DOUBLE PRECISION NOT NULL,
            updated_at DOUBLE PRECISION NOT NULL,
            PRIMARY KEY (organisation, id),
            FOREIGN KEY (organisation, parent) REFERENCES wf_group (organisation, id),
            CHECK (maximum_capacity <= commissioned)
        )""",
        "CREATE INDEX wf_group_by_root ON wf_group (organisation, root)",
        """CREATE TABLE wf_station (
            organisation TEXT NOT NULL,
            id TEXT NOT NULL,
            group_id TEXT NOT NULL,
            connectors TEXT NOT NULL,
            created_at DOUBLE PRECISION NOT NULL,
            updated_at DOUBLE PRECISION NOT NULL,
            PRIMARY KEY (organisation, id),
            FOREIGN KEY (organisation, group_id) REFERENCES wf_group (organisation, id)
        )""",
        "CREATE INDEX wf_station_by_group ON wf_station (organisation, group_id)",
        """CREATE TABLE wf_session (
            organisation TEXT NOT NULL,
            station TEXT NOT NULL,
            connector TEXT NOT NULL,
            maximum DOUBLE PRECISION,
            weight DOUBLE PRECISION NOT NULL,
            priority BIGINT NOT NULL,
            started_at DOUBLE PRECISION NOT NULL,
            arrival BIGINT NOT NULL,
            PRIMARY KEY (organisation, station, connector),
            FOREIGN KEY (organisation, station) REFERENCES wf_station (organisation, id)
                ON DELETE CASCADE
        )""",
        """CREATE TABLE wf_change (
            organisation TEXT NOT NULL REFERENCES wf_organisation,
            revision BIGINT NOT NULL,
            at DOUBLE PRECISION NOT NULL,
            key_id TEXT NOT NULL,
            action TEXT NOT NULL,
            target TEXT NOT NULL,
            roots TEXT NOT NULL,
            detail TEXT NOT NULL,
            token TEXT NOT NULL,
            digest TEXT NOT NULL,
            PRIMARY KEY (organisation, revision)
        )""",
        """CREATE TABLE wf_answer (
            organisation TEXT NOT NULL REFERENCES wf_organisation,
            idempotency_key TEXT NOT NULL,
            fingerprint TEXT NOT NULL,
            status BIGINT NOT NULL,
            body TEXT NOT NULL,
            at DOUBLE PRECISION NOT NULL,
            PRIMARY KEY (organisation, idempotency_key)
        )""",
        "CREATE INDEX wf_answer_by_time ON wf_answer (at)",
        """CREATE TABLE wf_journal (
            organisation TEXT NOT NULL,
            root TEXT NOT NULL,
            number BIGINT NOT NULL,
            record TEXT NOT NULL,
            PRIMARY KEY (organisation, root, number)
        )""",
        """CREATE TABLE wf_journal_owner (
            organisation TEXT NOT NULL,
            root TEXT NOT NULL,
            owner TEXT NOT NULL,
            PRIMARY KEY (organisation, root)
        )""",
    ),
    (
        # Sessions at the panel: of a key, by a digest of what the browser's cookie holds.
        """CREATE TABLE wf_panel_session (
            digest TEXT PRIMARY KEY,
            key_id TEXT NOT NULL REFERENCES wf_key,
            expires_at DOUBLE PRECISION NOT NULL
        )""",
        "CREATE INDEX wf_panel_session_by_time ON wf_panel_session (expires_at)",
    ),
    (
        # What one person asked to be commissioned, and another one approves.
        """CREATE TABLE wf_raise (
            organisation TEXT NOT NULL,
            revision BIGINT NOT NULL,
            group_id TEXT NOT NULL,
            commissioned DOUBLE PRECISION NOT NULL,
            commissioned_before DOUBLE PRECISION NOT NULL,
            note TEXT NOT NULL,
            state TEXT NOT NULL,
            asked_by TEXT NOT NULL,
            asked_name TEXT NOT NULL,
            asked_at DOUBLE PRECISION NOT NULL,
            expires_at DOUBLE PRECISION NOT NULL,
            decided_by TEXT,
            decided_at DOUBLE PRECISION,
            PRIMARY KEY (organisation, revision),
            FOREIGN KEY (organisation, group_id) REFERENCES wf_group (organisation, id)
                ON DELETE CASCADE,
            CHECK (commissioned > commissioned_before)
        )""",
        "CREATE INDEX wf_raise_by_group ON wf_raise (organisation, group_id)",
        "CREATE UNIQUE INDEX wf_raise_pending ON wf_raise (organisation, group_id) "
        "WHERE state = 'pending'",
    ),
    (
        # Which charge stations cannot be reached, as somebody said.
        "ALTER TABLE wf_station ADD COLUMN offline BIGINT NOT NULL DEFAULT 0",
        # One row: how often journals were written, and where the database stood then.
        """CREATE TABLE wf_mark (
            id BIGINT PRIMARY KEY CHECK (id = 1),
            n BIGINT NOT NULL,
            place TEXT NOT NULL
        )""",
        "INSERT INTO wf_mark VALUES (1, 0, '')",
    ),
)


def version(database: Database) -> int:
    """Return how many steps a database has gone through, 0 for an empty one."""
    if isinstance(database, Postgres):
        there = database.row("SELECT to_regclass('wf_schema')")
        is_there = there is not None and there[0] is not None
    else:
        is_there = bool(
            database.row("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'wf_schema'")
        )
    if not is_there:
        return 0
    row = database.row("SELECT MAX(version) FROM wf_schema")
    return 0 if row is None or row[0] is None else int(row[0])


def migrate(database: Database) -> tuple[int, int]:
    """Bring a database to the version that this wattfill uses; return both versions.

    Raises
    ------
    DatabaseError
        If a newer wattfill has been there.

    """
    before = _checked(version(database))
    for step in range(before, len(STEPS)):
        with database.transaction():
            if isinstance(database, Postgres):
                database.row("SELECT pg_advisory_xact_lock(:number)", number=MIGRATION_LOCK)
            # Another process may have been here while we waited.
            if version(database) > step:
                continue
            if step == 0:
                database.run(
                    "CREATE TABLE wf_schema "
                    "(version BIGINT PRIMARY KEY, applied_at DOUBLE PRECISION NOT NULL)"
                )
            for statement in STEPS[step]:
                database.run(statement)
            database.run(
                "INSERT INTO wf_schema VALUES (:version, :at)", version=step + 1, at=time.time()
            )
    return before, len(STEPS)


def _checked(found: int) -> int:
    if found > len(STEPS):
        raise DatabaseError(
            f"the database must be of version {len(STEPS)} or before, and a newer wattfill has "
            f"made it {found}"
        )
    return found
