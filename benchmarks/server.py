"""How fast the server is: loading 10,000 groups, and sessions that start and stop under load.

    python -m benchmarks.server                           a SQLite file in a new folder
    python -m benchmarks.server --database postgresql://...    an empty database

Server and load generator share the machine. Each connection starts and stops sessions at connectors
of its own; every answer is checked to hold the new allocation.
"""

import argparse
import asyncio
import json
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from wattfill.server.clock import Clock
from wattfill.server.database import connect
from wattfill.server.dispatching import Manner
from wattfill.server.migrations import migrate
from wattfill.server.service import Service
from wattfill.server.store import Store

N_STATIONS = 10
TENANT = "bench"


def fill(url: str, n_groups: int) -> str:
    """Fill a database with groups of 20 connectors, half with a session; return a key."""
    database = connect(url)
    migrate(database)
    clock = Clock()
    service = Service(Store(database, clock), clock, Manner())
    now = clock.now()
    groups = [f"g{g}" for g in range(n_groups)]
    plugs = json.dumps([["1", 22.0, 4.2, 0.0], ["2", 22.0, None, 0.0]])
    with database.transaction():
        key = service.create_key(TENANT, "benchmark").text
        database.run_many(
            "INSERT INTO wf_group (organisation, id, root, name, maximum_capacity, "
            "minimum_connector_capacity, buffer, reserved, admission, rotation, description, "
            "notes, dispatch, commissioned, version, created_at, updated_at) VALUES (:o, :g, :g, "
            ":g, 150, 2.5, 0.1, 0, 'fifo', 900, '', '', 0, 150, 1, :now, :now)",
            [{"o": TENANT, "g": g, "now": now} for g in groups],
        )
        stations = [(g, f"{g}-{s}") for g in groups for s in range(N_STATIONS)]
        database.run_many(
            "INSERT INTO wf_station (organisation, id, group_id, connectors, created_at, "
            "updated_at) VALUES (:o, :s, :g, :plugs, :now, :now)",
            [{"o": TENANT, "s": s, "g": g, "plugs": plugs, "now": now} for g, s in stations],
        )
        database.run_many(
            "INSERT INTO wf_session VALUES (:o, :s, '1', NULL, 1, 0, :now, :n)",
            [{"o": TENANT, "s": s, "now": now, "n": n} for n, (_, s) in enumerate(stations)],
        )
    database.close()
    return key


def load_seconds(url: str) -> tuple[float, float]:
    """Return the seconds in which all groups are read, and how long the processor was busy."""
    database = connect(url)
    database.open()
    store = Store(database, Clock())
    started = time.perf_counter(), time.process_time()
    store.load()
    seconds = time.perf_counter() - started[0], time.process_time() - started[1]
    database.close()
    return seconds


async def ask(host: str, port: int, key: str, mine: list[str], until: float, pace: float) -> list:
    """Start and stop sessions over one connection; return the seconds that each answer took."""
    reader, writer = await asyncio.open_connection(host, port)
    head = f"Host: {host}\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
    taken, due = [], time.perf_counter() + random.random() * pace
    for n in range(1_000_000):
        station = mine[n // 2 % len(mine)]
        if n % 2 == 0:
            body = json.dumps({"chargestation": station, "connector": "2", "maximum": 11})
            text = (
                f"POST /v1.1/sessions HTTP/1.1\r\n{head}Content-Length: {len(body)}\r\n\r\n{body}"
            )
        else:
            text = f"DELETE /v1.1/sessions/{station}/2 HTTP/1.1\r\n{head}\r\n"
        # An answer that is late makes the next request late, which counts, too.
        if pace:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
        else:
            due = time.perf_counter()
        if due > until and n % 2 == 0:
            break
        writer.write(text.encode())
        status = await reader.readline()
        length = 0
        while (line := await reader.readline()) != b"\r\n":
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        answer = await reader.readexactly(length)
        taken.append(time.perf_counter() - due)
        power = 11.0 if n % 2 == 0 else 0.0
        if b" 200 " not in status or not holds(json.loads(answer), station, power):
            raise SystemExit(f"a wrong answer: {status!r} {answer[:300]!r}")
        due += pace
    writer.close()
    return taken


def holds(answer: dict, station: str, most: float) -> bool:
    """Say whether an answer has the allocation of a group of 20, within what it may draw."""
    allocation = answer["result"]["allocation"]
    powers = {(c["chargestation"], c["connector"]): c["power"] for c in allocation["connectors"]}
    return (
        len(powers) == 2 * N_STATIONS
        and 0 <= powers[station, "2"] <= most
        and math.fsum(powers.values()) <= allocation["groups"][0]["usable"] + 1e-9
    )


async def load(port: int, key: str, connections: int, seconds: float, rate: float) -> list[float]:
    """Return the seconds of all answers, in order of length."""
    until = time.perf_counter() + seconds
    pace = connections / rate if rate else 0.0
    each = [[f"g{c}-{s}" for s in range(N_STATIONS)] for c in range(connections)]
    many = await asyncio.gather(*(ask("127.0.0.1", port, key, m, until, pace) for m in each))
    return sorted(second for taken in many for second in taken)


def processor_seconds(pid: int) -> float:
    """Return the seconds that a process has used the processor for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Fill, load, serve, ask, and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--database", help="an empty database (a SQLite file in a new folder)")
    parser.add_argument("--groups", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument(
        "--rate", type=float, default=500.0, help="requests a second; 0: all it can"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = options.database or str(Path(folder, "bench.db"))
        key = fill(url, options.groups)
        wall, busy = load_seconds(url)
        print(
            f"{options.groups} groups of {2 * N_STATIONS}: loaded in {wall:.2f} s, "
            f"{busy:.2f} s of them busy"
        )
        server = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "wattfill",
                "serve",
                "--database",
                url,
                "--port=0",
                "--log-level=warning",
            ],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "WATTFILL_RATE": "100000", "WATTFILL_BURST": "100000"},
        )
        assert server.stdout is not None
        try:
            port = int(server.stdout.readline().split()[2].rpartition(":")[2])
            while True:
                try:
                    asyncio.run(load(port, key, 1, 0.5, 0))
                    break
                except OSError:
                    time.sleep(0.2)
            before = processor_seconds(server.pid)
            taken = asyncio.run(load(port, key, options.connections, options.seconds, options.rate))
            busy = processor_seconds(server.pid) - before
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait()
            server.stdout.close()
    quantiles = {q: taken[min(len(taken) - 1, int(len(taken) * q))] for q in (0.5, 0.9, 0.99)}
    text = ", ".join(f"p{q * 100:g} {second * 1000:.1f} ms" for q, second in quantiles.items())
    print(
        f"{len(taken) / options.seconds:.0f} of {options.rate:g} requests/s over "
        f"{options.connections} connections: {text}, longest {taken[-1] * 1000:.1f} ms; "
        f"{busy / len(taken) * 1000:.2f} ms of the processor for each in the server"
    )


if __name__ == "__main__":
    main()
