"""``wattfill serve``, ``wattfill keys``, ``wattfill migrate`` and ``wattfill doctor``."""

from __future__ import annotations

import argparse
import json
import logging
import os
import socket
import sqlite3
import time
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import uvicorn

from wattfill.errors import InputError, WattfillError
from wattfill.server import keys, panel, settings
from wattfill.server.app import create
from wattfill.server.clock import Clock
from wattfill.server.database import Database, Sqlite, connect
from wattfill.server.dispatching import Manner, refuse_workers
from wattfill.server.fields import ID, ID_RULE
from wattfill.server.migrations import STEPS, migrate, version
from wattfill.server.protocol import BoundedProtocol
from wattfill.server.service import Service
from wattfill.server.settings import Settings
from wattfill.server.store import Store, verify_log

FIRST_ORGANISATION = "default"


class _JsonLines(logging.Formatter):
    """A line of JSON for each record."""

    _usual = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "color_message"}

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {k: v for k, v in record.__dict__.items() if k not in self._usual}
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def log_config(level: str) -> dict[str, object]:
    """Return how the server logs: lines of JSON on standard error, and no line of a key."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": _JsonLines}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
        "root": {"handlers": ["stderr"], "level": level.upper()},
    }


def serve(options: argparse.Namespace) -> tuple[str, int]:
    """Run the server until it is told to stop."""
    found = settings.read(_flags(options))
    database = connect(found.database, found.patience)
    try:
        migrate(database)
        refuse_workers(database, found.workers)
        first = _first_key(database)
    finally:
        database.close()
    if first is not None:
        print(
            f"There was no key yet. This one may do everything; it is shown once:\n\n    {first}\n",
            flush=True,
        )
    scheme = "https" if found.tls_certificate else "http"
    place = f"{scheme}://{found.host}"
    if found.workers > 1:
        # Each worker reads its settings out of the environment.
        os.environ.update(settings.as_environment(found))
        print(f"wattfill serves {place}:{found.port} from {database}", flush=True)
        uvicorn.run(
            "wattfill.server.app:from_environment",
            factory=True,
            workers=found.workers,
            port=found.port,
            **_uvicorn(found),
        )
        return "", 0
    config = uvicorn.Config(
        create(found, routes=panel.routes()), port=found.port, **_uvicorn(found)
    )
    bound = config.bind_socket()
    print(f"wattfill serves {place}:{bound.getsockname()[1]} from {database}", flush=True)
    server = uvicorn.Server(config)
    server.run(sockets=[bound])
    return "", 0 if server.started else 1


def _uvicorn(found: Settings) -> dict[str, Any]:
    """Return how the application is served."""
    return {
        "host": found.host,
        "log_config": log_config(found.log_level),
        "log_level": found.log_level,
        # Every request has a line of our own.
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,
        "ssl_certfile": found.tls_certificate or None,
        "ssl_keyfile": found.tls_key or None,
        "timeout_graceful_shutdown": 10,
        "http": BoundedProtocol,
        "timeout_keep_alive": found.idle_timeout,
        "limit_concurrency": 2000,
    }


def keys_create(options: argparse.Namespace) -> tuple[str, int]:
    """Make a key and show it once."""
    scopes = keys.READ_ONLY if options.read_only else keys.FULL
    if options.scopes:
        scopes = keys.checked_scopes(options.scopes.replace(",", " ").split())
    if not 1 <= len(options.name) <= 200:
        raise InputError(f"name must have 1 to 200 characters, got {len(options.name)}")
    organisation = _organisation(options.organisation)
    database = _opened(options)
    try:
        service = _service(database)
        expires_at = None if options.days is None else time.time() + options.days * 86400.0
        with database.transaction():
            key = service.create_key(organisation, options.name, scopes, expires_at)
    finally:
        database.close()
    return f"{key.text}\n", 0


def keys_rotate(options: argparse.Namespace) -> tuple[str, int]:
    """Make the key that takes another one's place, and show it once."""
    expires_at = None if options.days is None else time.time() + options.days * 86400.0
    database = _opened(options)
    try:
        with database.transaction():
            key = _service(database).rotate_key(options.id, expires_at)
    finally:
        database.close()
    if key is None:
        raise InputError(f"id must be that of a key that is valid, got {options.id!r}")
    return f"{key.text}\n", 0


def keys_list(options: argparse.Namespace) -> tuple[str, int]:
    """Show what is known of keys."""
    database = _opened(options)
    try:
        found = _service(database).list_keys(options.organisation)
    finally:
        database.close()
    if options.json:
        return json.dumps(found, indent=2) + "\n", 0
    lines = [("ID", "ORGANISATION", "NAME", "SCOPES", "CREATED", "LAST USED", "STATE")]
    for key in found:
        state = "valid"
        if key["revoked_at"] is not None:
            state = f"revoked {_day(key['revoked_at'])}"
        elif key["expires_at"] is not None:
            state = f"{'expired' if key['expires_at'] <= time.time() else 'until'} "
            state += _day(key["expires_at"])
        lines.append(
            (
                key["id"],
                key["organisation"],
                key["name"],
                key["scopes"].replace(" ", ","),
                _day(key["created_at"]),
                _day(key["last_used_at"]),
                state,
            )
        )
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
    return text + "\n", 0


def keys_revoke(options: argparse.Namespace) -> tuple[str, int]:
    """Revoke a key."""
    database = _opened(options)
    try:
        with database.transaction():
            is_done = _service(database).revoke_key(options.id)
    finally:
        database.close()
    if not is_done:
        raise InputError(f"id must be that of a key that is not revoked yet, got {options.id!r}")
    return f"{options.id} opens nothing any more\n", 0


def run_migrations(options: argparse.Namespace) -> tuple[str, int]:
    """Bring the database to the version of this wattfill."""
    found = settings.read(_flags(options))
    database = connect(found.database, found.patience)
    try:
        before, after = migrate(database)
    finally:
        database.close()
    return f"{database}: version {before} before, {after} now\n", 0


def doctor(options: argparse.Namespace) -> tuple[str, int]:
    """Say what is wrong with a set-up, and what is well."""
    lines: list[tuple[bool, str]] = []
    try:
        found = settings.read(_flags(options))
    except InputError as error:
        return f"wrong  settings: {error}\n", 1
    lines.append((True, f"settings: {found.host}:{found.port}, {found.workers} worker(s)"))
    database = connect(found.database, found.patience)
    try:
        lines += _examine(database, found)
    except (WattfillError, sqlite3.Error) as error:
        lines.append((False, f"database: {error}"))
    finally:
        database.close()
    lines.append(_examine_port(found))
    text = "".join(f"{'ok   ' if ok else 'wrong'}  {line}\n" for ok, line in lines)
    return text, 0 if all(ok for ok, _ in lines) else 1


def _examine(database: Database, found: Settings) -> list[tuple[bool, str]]:
    lines: list[tuple[bool, str]] = []
    if isinstance(database, Sqlite):
        if not database.path.exists():
            folder = database.path.absolute().parent
            ok = os.access(folder, os.W_OK)
            state = "is created at the first start" if ok else f"cannot be created in {folder}"
            return [(ok, f"database: {database} {state}")]
        mode = database.path.stat().st_mode & 0o077
        lines.append(
            (not mode, f"database: {database} is {'open to others' if mode else 'private'}")
        )
        free = os.statvfs(database.path.absolute().parent)
        megabytes = free.f_bavail * free.f_frsize // 2**20
        lines.append((megabytes >= 100, f"disk: {megabytes} MB are free beside the database"))
        (sound,) = database.row("PRAGMA quick_check") or ("no answer",)
        lines.append((sound == "ok", f"database: quick_check says {sound}"))
    else:
        database.row("SELECT 1")
        lines.append((True, f"database: {database} answers"))
    there = version(database)
    is_current = there == len(STEPS)
    note = "" if is_current else " (wattfill migrate changes it)"
    lines.append((is_current, f"tables: version {there} of {len(STEPS)}{note}"))
    if not is_current:
        return lines
    try:
        refuse_workers(database, found.workers)
    except InputError as error:
        lines.append((False, f"settings: {error}"))
    valid = [k for k in _service(database).list_keys() if k["revoked_at"] is None]
    state = f"{len(valid)} not revoked" if valid else "none: wattfill keys create makes one"
    lines.append((bool(valid), f"keys: {state}"))
    store = Store(database, Clock())
    n_groups = store.load()
    lines.append((True, f"groups: {n_groups} are read without a fault"))
    broken = verify_log(database)
    lines.append(
        (
            not broken,
            f"log: {', '.join(broken)} is not what was written" if broken else "log: whole",
        )
    )
    return lines


def _examine_port(found: Settings) -> tuple[bool, str]:
    family = socket.AF_INET6 if ":" in found.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((found.host, found.port))
        except OSError as error:
            return False, f"port: {found.host}:{found.port} cannot be bound: {error.strerror}"
    return True, f"port: {found.host}:{found.port} is free"


def _first_key(database: Database) -> str | None:
    """Make a key if there is none at all, and return it."""
    with database.transaction():
        service = _service(database)
        if service.list_keys():
            return None
        return service.create_key(FIRST_ORGANISATION, "first").text


def _service(database: Database) -> Service:
    clock = Clock()
    return Service(Store(database, clock), clock, Manner())


def _opened(options: argparse.Namespace) -> Database:
    found = settings.read(_flags(options))
    database = connect(found.database, found.patience)
    migrate(database)
    return database


def _flags(options: argparse.Namespace) -> dict[str, object]:
    names = [field.name for field in fields(Settings)] + ["settings"]
    return {name: getattr(options, name) for name in names if hasattr(options, name)}


def _organisation(text: str) -> str:
    if not ID.fullmatch(text):
        raise InputError(f"organisation {ID_RULE}, got {text!r}")
    return text


def _day(at: float | None) -> str:
    return "-" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")
