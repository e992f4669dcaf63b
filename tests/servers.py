"""Real servers for tests: wattfill's own in a process, and PostgreSQL in a folder of its own."""

import os
import pwd
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx
import pytest

from wattfill.server import keys
from wattfill.server.clock import Clock
from wattfill.server.database import Database, connect
from wattfill.server.dispatching import Manner
from wattfill.server.migrations import migrate
from wattfill.server.service import Service
from wattfill.server.store import Store


class Postgres:
    """A PostgreSQL server that only this machine's sockets reach.

    Tests kill its processes, and never the machine, so that it need not wait for the disk.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="wattfill-postgres-"))
        self._bin = postgres_programs()
        assert self._bin is not None
        # It refuses to run as root.
        self._as: dict[str, str | int] = {}
        if os.geteuid() == 0:
            self._as = {"user": "postgres", "group": pwd.getpwnam("postgres").pw_gid}
            shutil.chown(self.folder, "postgres")
        self.data = self.folder / "data"
        self._run(["initdb", "-D", self.data, "-A", "trust", "-U", "postgres", "--no-sync"])
        self.url = f"postgresql:///postgres?host={self.folder}&user=postgres"
        self.start()

    def start(self) -> None:
        options = f"-k {self.folder} -c listen_addresses='' -c max_connections=40 -c fsync=off"
        log = self.folder / "log"
        self._run(["pg_ctl", "-D", self.data, "-w", "-o", options, "-l", log, "start"])

    def kill(self) -> None:
        """End it without warning, as by a loss of power."""
        self._run(["pg_ctl", "-D", self.data, "-m", "immediate", "stop"])

    def close(self) -> None:
        subprocess.run(
            [self._bin / "pg_ctl", "-D", self.data, "-m", "immediate", "stop"],
            capture_output=True,
            cwd=self.folder,
            **self._as,
        )
        shutil.rmtree(self.folder, ignore_errors=True)

    def new_database(self, name: str) -> str:
        """Make an empty database; return its URL."""
        database = connect(self.url)
        database.run(f"CREATE DATABASE {name}")
        database.close()
        return self.url.replace("/postgres?", f"/{name}?")

    def _run(self, command: list[object]) -> None:
        subprocess.run(
            [self._bin / str(command[0]), *map(str, command[1:])],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self.folder,
            **self._as,
        )


def postgres_programs() -> Path | None:
    """Return the folder of initdb and pg_ctl, or None where they are not installed."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3])
    )
    if found:
        return found[-1].parent
    program = shutil.which("initdb")
    return None if program is None else Path(program).resolve().parent


class Serving:
    """``wattfill serve`` in a process of its own."""

    def __init__(
        self,
        database: str,
        *flags: str,
        verify: ssl.SSLContext | bool = True,
        **environment: str,
    ) -> None:
        self.database = database
        self.verify = verify
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "wattfill",
                "serve",
                "--database",
                database,
                "--port",
                "0",
                *flags,
            ],
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, "WATTFILL_PATIENCE": "2", **environment},
            text=True,
        )
        assert self.process.stdout is not None
        self.printed = ""
        for line in self.process.stdout:
            self.printed += line
            if line.startswith("wattfill serves "):
                self.url = line.split()[2]
                break
        else:
            raise AssertionError(f"the server did not start: {self.log()}")
        self._wait_until_it_answers()

    def _wait_until_it_answers(self) -> None:
        while self.process.poll() is None:
            try:
                httpx.get(f"{self.url}/healthz", verify=self.verify)
                return
            except httpx.TransportError:
                continue
        raise AssertionError(f"the server did not start: {self.log()}")

    @property
    def first_key(self) -> str:
        return next(word for word in self.printed.split() if word.startswith("wf_live_"))

    def client(self, key: str, timeout: float = 20) -> httpx.Client:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=timeout, verify=self.verify)

    def log(self) -> str:
        self._log.seek(0)
        return self._log.read().decode()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=20)

    def close(self) -> None:
        if self.process.poll() is None:
            self.kill()
        assert self.process.stdout is not None
        self.process.stdout.close()
        log = self.log()
        self._log.close()
        # Whatever a test has asked, and whatever failed: keys are in no log.
        assert "wf_live_" not in log


def new_database(request: pytest.FixtureRequest, folder: Path, name: str) -> str:
    """Return the URL of an empty database: of PostgreSQL where a fixture's parameter says so."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return str(folder / "site.db")
    url: str = request.getfixturevalue("postgres").new_database(name)
    return url


def opened(url: str) -> Database:
    """Return a database with its tables."""
    database = connect(url)
    migrate(database)
    return database


def service_of(database: Database, clock: Clock | None = None, two_person: str = "auto") -> Service:
    clock = clock or Clock()
    return Service(Store(database, clock), clock, Manner(), two_person)


def new_key(url: str, organisation: str, scopes: str = keys.FULL, name: str = "test") -> str:
    """Make a key of an organisation in a database."""
    database = opened(url)
    try:
        with database.transaction():
            return service_of(database).create_key(organisation, name, scopes).text
    finally:
        database.close()
