"""What a server survives: kills, full disks, locks, a database that goes away, another server."""

import itertools
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from servers import Serving, new_database, opened, service_of

from wattfill.server.database import Database
from wattfill.server.service import Caller
from wattfill.server.store import verify_log

PATH = "/v1.1/sessions"
NUMBERS = itertools.count()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path) -> str:
    return new_database(request, tmp_path, f"faults_{next(NUMBERS)}")


@pytest.fixture
def serve() -> Iterator[Callable[..., Serving]]:
    """Return what starts servers; those that are left are killed."""
    servers: list[Serving] = []

    def start(*arguments: str, **environment: str) -> Serving:
        servers.append(Serving(*arguments, **environment))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def build(client: httpx.Client, n_stations: int = 4) -> None:
    """Make a group of charge stations with one connector each."""
    group = {"id": "g1", "name": "Yard", "maximum_capacity": 100}
    assert client.post("/v1.1/groups", json=group).status_code == 200
    for n in range(n_stations):
        body = {"chargestation": f"CS-{n}", "connectors": [{"id": "1", "maximum_capacity": 22}]}
        assert client.post("/v1.1/groups/g1/chargestations", json=body).status_code == 200


def toggle_for_ever(client: httpx.Client, station: str, done: Counter[str]) -> None:
    """Start and stop a session until the server is gone; count what was answered with ok."""
    while True:
        try:
            if done[station] % 2:
                answer = client.delete(f"{PATH}/{station}/1")
            else:
                answer = client.post(PATH, json={"chargestation": station, "connector": "1"})
        except httpx.TransportError:
            return
        assert answer.status_code == 200, answer.text
        done[station] += 1


def changes_of(database: Database) -> tuple[Counter[str], list[str]]:
    """Return how often each session was started and stopped, and what does not go with it."""
    with database.transaction():
        # PostgreSQL may still be at the last commit of a server that is gone.
        database.run("UPDATE wf_organisation SET epoch = epoch + 1")
        actions = ("start session", "stop session")
        changes = database.rows("SELECT target, action FROM wf_change")
        sessions = {id for (id,) in database.rows("SELECT station FROM wf_session")}
    done = Counter(target.partition("/")[0] for target, action in changes if action in actions)
    return done, sorted(sessions ^ {s for s, n in done.items() if n % 2}) + verify_log(database)


def test_what_was_answered_survives_kills(serve, url):
    serving = serve(url)
    key = serving.first_key
    with serving.client(key) as client:
        build(client)
    done: Counter[str] = Counter()
    found = []

    for round in range(3):
        before = done.total()
        with serving.client(key) as client, ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(toggle_for_ever, client, f"CS-{n}", done) for n in range(4)]
            # The kill falls anywhere in the requests: after another number of them each time.
            while done.total() < before + 15 + 7 * round:
                client.get("/healthz")
            serving.kill()
            for each in asked:
                each.result()
        serving = serve(url)
        database = opened(url)
        there, broken = changes_of(database)
        database.close()
        found.append((Counter(done), there, broken))
        done = Counter(there)

    for answered, there, broken in found:
        assert broken == []
        # What was asked last may have happened, too.
        assert {s: n - answered[s] for s, n in there.items() if n - answered[s] not in (0, 1)} == {}


@pytest.fixture(scope="module")
def disk(tmp_path_factory) -> Path:
    """Return the library that is the disk of whoever loads it; see disk.c."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    library = tmp_path_factory.mktemp("disk") / "disk.so"
    source = Path(__file__).with_name("disk.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


def test_what_was_answered_survives_a_loss_of_power(serve, tmp_path, disk):
    folder = tmp_path / "disk"
    folder.mkdir()
    serving = serve(str(folder / "site.db"), LD_PRELOAD=str(disk), WATTFILL_DISK=str(folder))
    key = serving.first_key
    done: Counter[str] = Counter()
    with serving.client(key) as client, ThreadPoolExecutor(4) as pool:
        build(client)
        asked = [pool.submit(toggle_for_ever, client, f"CS-{n}", done) for n in range(4)]
        while done.total() < 60:
            client.get("/healthz")
        serving.kill()
        for each in asked:
            each.result()
    found = []
    # What was not brought to the disk may be there or not: each file in its own way.
    for n, lost in enumerate([(), ("site.db",), ("site.db-wal",), ("site.db", "site.db-wal")]):
        after = tmp_path / f"after-{n}"
        after.mkdir()
        for name in ("site.db", "site.db-wal"):
            source = folder / (f"{name}.kept" if name in lost else name)
            if source.exists():
                shutil.copy(source, after / name)
        database = opened(str(after / "site.db"))
        is_sound = database.row("PRAGMA integrity_check") == ("ok",)
        found.append((*changes_of(database), is_sound))
        database.close()

    for there, broken, is_sound in found:
        assert broken == []
        assert is_sound
        assert all(there[s] - done[s] in (0, 1) for s in ("CS-0", "CS-1", "CS-2", "CS-3"))


def test_a_disk_that_fails_is_taken_for_a_crash(serve, tmp_path, disk):
    folder = tmp_path / "disk"
    folder.mkdir()
    serving = serve(
        str(folder / "site.db"),
        LD_PRELOAD=str(disk),
        WATTFILL_DISK=str(folder),
        WATTFILL_PATIENCE="0.3",
    )
    start = {"chargestation": "CS-0", "connector": "1"}
    again = {"Idempotency-Key": "one"}
    with serving.client(serving.first_key) as client:
        build(client, 1)
        (folder / "fails").touch()
        refused = client.post(PATH, json=start, headers=again)
        (folder / "fails").unlink()
        after = client.post(PATH, json=start, headers=again)
    serving.kill()
    for name in ("site.db", "site.db-wal"):
        if (folder / f"{name}.kept").exists():
            shutil.copy(folder / f"{name}.kept", tmp_path / name)
    database = opened(str(tmp_path / "site.db"))
    sessions = database.rows("SELECT station FROM wf_session")
    database.close()

    assert refused.status_code == 503
    assert refused.json()["message"].startswith("it is not known what is stored: ")
    assert after.status_code == 200
    # It is on the disk, whether it was the first time that brought it there or the second.
    assert sessions == [("CS-0",)]


def test_a_full_disk_refuses_changes_and_answers_the_rest(serve, tmp_path):
    url = str(tmp_path / "site.db")
    serving = serve(url)
    with serving.client(serving.first_key) as client:
        build(client)
        before = client.get("/v1.1/groups/g1").json()["result"]
        # No page of the database, nor of its log, can be written.
        limits = resource.prlimit(serving.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(serving.process.pid, resource.RLIMIT_FSIZE, (1024, limits[1]))
        refused = [
            client.post(PATH, json={"chargestation": f"CS-{n}", "connector": "1"}) for n in (0, 1)
        ]
        meanwhile = client.get("/v1.1/groups/g1").json()["result"]
        resource.prlimit(serving.process.pid, resource.RLIMIT_FSIZE, limits)
        after = client.post(PATH, json={"chargestation": "CS-0", "connector": "1"})
        sessions = client.get(PATH).json()["result"]

    assert [answer.status_code for answer in refused] == [503, 503]
    assert "Retry-After" in refused[0].headers
    assert {**meanwhile, "allocation": None} == {**before, "allocation": None}
    assert after.status_code == 200
    assert [each["chargestation"] for each in sessions] == ["CS-0"]


def test_a_small_file_system_that_is_full_is_told_and_recovers(serve, tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    if os.system(f"mount -t tmpfs -o size=700k none {folder} 2>/dev/null"):
        pytest.skip("no file system can be mounted here")
    serving = None
    try:
        serving = serve(str(folder / "site.db"))
        with serving.client(serving.first_key) as client:
            build(client)
            ballast = folder / "ballast"
            with ballast.open("wb") as file:
                free = os.statvfs(folder)
                file.write(b"\0" * (free.f_bavail * free.f_frsize))
            refused = client.post(PATH, json={"chargestation": "CS-0", "connector": "1"})
            meanwhile = client.get(PATH).json()["result"]
            ballast.unlink()
            after = client.post(PATH, json={"chargestation": "CS-0", "connector": "1"})
    finally:
        if serving is not None:
            serving.kill()
        os.system(f"umount {folder}")

    assert refused.status_code == 503
    assert "full" in refused.json()["message"]
    assert meanwhile == []
    assert after.status_code == 200


def test_a_locked_database_is_waited_for_and_then_told(serve, url):
    serving = serve(url, WATTFILL_PATIENCE="0.3")
    other = opened(url)
    with serving.client(serving.first_key) as client:
        build(client, 1)
        other.begin(write=True)
        other.run("UPDATE wf_organisation SET epoch = epoch + 1")
        locked = client.post(PATH, json={"chargestation": "CS-0", "connector": "1"})
        looked = client.get("/v1.1/groups/g1")
        other.rollback()
        free = client.post(PATH, json={"chargestation": "CS-0", "connector": "1"})
    other.close()

    assert locked.status_code == 503
    assert locked.json()["message"].startswith("nothing was changed")
    assert locked.headers["Retry-After"] == "1"
    assert looked.status_code == 200
    assert free.status_code == 200


def test_a_database_that_ends_without_warning_is_found_again(serve, postgres):
    url = postgres.new_database(f"faults_{next(NUMBERS)}")
    serving = serve(url, WATTFILL_PATIENCE="0.5")
    done, unknown = Counter(), Counter()
    with serving.client(serving.first_key) as client:
        build(client)
        stopped = threading.Event()

        def toggle(station: str) -> None:
            is_on = False
            while not stopped.is_set():
                if is_on:
                    answer = client.delete(f"{PATH}/{station}/1")
                else:
                    answer = client.post(PATH, json={"chargestation": station, "connector": "1"})
                if answer.status_code == 503:
                    # It may have happened before the connection broke: the next one tells.
                    unknown[station] += 1
                    continue
                assert answer.status_code in (200, 404, 409), answer.text
                done[station] += answer.status_code == 200
                is_on = not is_on

        with ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(toggle, f"CS-{n}") for n in range(4)]
            for _ in range(2):
                before = done.total()
                while done.total() < before + 20:
                    client.get("/healthz")
                postgres.kill()
                gone = client.get("/readyz").status_code
                refused = client.post(PATH, json={"chargestation": "CS-9", "connector": "1"})
                postgres.start()
                while client.get("/readyz").status_code != 200:
                    pass
            stopped.set()
            for each in asked:
                each.result()
    database = opened(url)
    there, broken = changes_of(database)
    database.close()

    assert gone == 503
    assert refused.status_code == 503
    assert broken == []
    for station in ("CS-0", "CS-1", "CS-2", "CS-3"):
        assert done[station] <= there[station] <= done[station] + unknown[station]


def test_two_servers_on_one_database_never_contradict_each_other(serve, postgres):
    url = postgres.new_database(f"faults_{next(NUMBERS)}")
    one = serve(url)
    key = one.first_key
    two = serve(url)
    with one.client(key) as a, two.client(key) as b, ThreadPoolExecutor(8) as pool:
        for id in ("g1", "g2"):
            a.post("/v1.1/groups", json={"id": id, "name": id, "maximum_capacity": 100})
        seen = b.get("/v1.1/groups").json()["page"]["total"]

        def create(n: int) -> str:
            answer = (a, b)[n % 2].post(
                "/v1.1/groups",
                json={"name": f"Yard {n // 8}", "maximum_capacity": 10},
                headers={"Idempotency-Key": f"key-{n // 8}"},
            )
            assert answer.status_code == 200, answer.text
            return str(answer.json()["result"]["_id"])

        made = list(pool.map(create, range(40)))
        total = a.get("/v1.1/groups").json()["page"]["total"]

        def add(n: int) -> int:
            client, group = (a, "g1") if n % 2 else (b, "g2")
            plug = {"id": "1", "maximum_capacity": 22}
            body = {"chargestation": f"CS-{n // 2}", "connectors": [plug]}
            return client.post(f"/v1.1/groups/{group}/chargestations", json=body).status_code

        added = list(pool.map(add, range(20)))

        def change(n: int) -> int:
            client = a if n % 2 else b
            return client.patch("/v1.1/groups/g1", json={"notes": str(n)}).status_code

        version = a.get("/v1.1/groups/g1").json()["result"]["version"]
        changed = list(pool.map(change, range(20)))

        def change_that(n: int) -> int:
            which = {"If-Match": f'"{version + 20}"'}
            body = {"notes": f"that, {n}"}
            return (a, b)[n % 2].patch("/v1.1/groups/g1", json=body, headers=which).status_code

        meant = sorted(pool.map(change_that, range(8)))
        groups = [client.get("/v1.1/groups").json()["result"] for client in (a, b)]
        for group in [group for each in groups for group in each]:
            group["allocation"] = None
    database = opened(url)
    homes = database.rows("SELECT id, group_id FROM wf_station")
    broken = verify_log(database)
    database.close()

    assert seen == 2
    # Each request was sent eight times, to both, and done once.
    assert total == 2 + 5
    assert made == [made[n - n % 8] for n in range(40)]
    assert sorted(added) == [200] * 10 + [409] * 10
    assert len(homes) == 10
    assert changed == [200] * 20
    assert meant == [200] + [412] * 7
    assert groups[0] == groups[1]
    assert [g["version"] for g in groups[0] if g["_id"] == "g1"] == [version + 21]
    assert broken == []


def test_without_memory_a_request_fails_and_nothing_else(serve, tmp_path):
    serving = serve(str(tmp_path / "site.db"))
    with serving.client(serving.first_key) as client:
        build(client)
        before = client.get("/v1.1/groups/g1").json()["result"]
        large = {"notes": "x" * 900_000}
        unlimited = resource.prlimit(serving.process.pid, resource.RLIMIT_AS)
        resource.prlimit(serving.process.pid, resource.RLIMIT_AS, (1 << 20, unlimited[1]))
        try:
            status = client.patch("/v1.1/groups/g1", json=large).status_code
        except httpx.TransportError:
            status = 0
        resource.prlimit(serving.process.pid, resource.RLIMIT_AS, unlimited)
        meanwhile = client.get("/v1.1/groups/g1").json()["result"]
        with_memory = client.patch("/v1.1/groups/g1", json=large).status_code
        after = client.post(PATH, json={"chargestation": "CS-0", "connector": "1"})

    # What reads requests may take this one for a broken one, or end the connection.
    assert status in (0, 400, 500)
    assert with_memory == 422
    assert {**meanwhile, "allocation": None} == {**before, "allocation": None}
    assert after.status_code == 200


def test_what_another_server_changed_reaches_those_who_follow(serve, tmp_path):
    url = str(tmp_path / "site.db")
    one = serve(url)
    two = serve(url)
    with one.client(one.first_key) as a, two.client(one.first_key) as b:
        build(a, 1)
        with b.stream("GET", "/v1.1/groups/g1/stream") as stream:
            lines = (line for line in stream.iter_lines() if line.startswith("data: "))
            first = next(lines)
            a.post(PATH, json={"chargestation": "CS-0", "connector": "1"})
            second = next(lines)

    assert '"power":0.0' in first
    assert '"power":22.0' in second


def dispatched(client: httpx.Client) -> None:
    """Make a group of two charge stations, with a session each, that is dispatched."""
    client.post("/v1.1/groups", json={"id": "g1", "name": "Yard", "maximum_capacity": 22})
    for station in ("CS-1", "CS-2"):
        plug = {"id": "1", "maximum_capacity": 22, "fallback": 0}
        body = {"chargestation": station, "connectors": [plug]}
        client.post("/v1.1/groups/g1/chargestations", json=body)
    assert client.patch("/v1.1/groups/g1", json={"dispatch": True}).status_code == 200


def events(stream: httpx.Response) -> Iterator[tuple[str, Any]]:
    """Yield the events of a stream, which must not be silent for two signs of life."""
    kind, n_alive = "", 0
    for line in stream.iter_lines():
        if line.startswith(":"):
            n_alive += 1
            assert n_alive < 2, "nothing happens any more"
        elif line.startswith("event: "):
            kind = line.removeprefix("event: ")
        elif line.startswith("data: "):
            n_alive = 0
            yield kind, json.loads(line.removeprefix("data: "))
    raise AssertionError("the stream ended")


def next_of(kind: str, happened: Iterator[tuple[str, Any]]) -> Any:
    return next(data for what, data in happened if what == kind)


def commands(client: httpx.Client) -> list[dict]:
    """Return the first commands of a stream."""
    with client.stream("GET", "/v1.1/groups/g1/stream") as stream:
        return next_of("commands", events(stream))


def report(client: httpx.Client, *reports: dict[str, object]) -> httpx.Response:
    body = {"confirmations": [{"connector": "1", **each} for each in reports]}
    return client.post("/v1.1/groups/g1/confirmations", json=body)


def confirm(client: httpx.Client, sent: list[dict]) -> None:
    """Tell that stations go by what was sent."""
    answer = report(
        client,
        *({"chargestation": c["chargestation"], "kind": "confirm", "seq": c["seq"]} for c in sent),
    )
    assert answer.status_code == 200, answer.text


def limits(sent: list[dict]) -> dict[str, float]:
    return {c["chargestation"]: c["limit"] for c in sent}


def committed(client: httpx.Client) -> dict[str, float]:
    """Return what may be in force at each charge station."""
    shown = client.get("/v1.1/groups/g1/allocation").json()["result"]
    return {c["chargestation"]: c["committed"] for c in shown["connectors"]}


def test_after_a_kill_no_station_is_told_more_than_may_be_free(serve, url):
    # Vehicles follow at once, so that what a station confirms is free at once.
    serving = serve(url, WATTFILL_LAG="0")
    key = serving.first_key
    with serving.client(key) as client:
        dispatched(client)
        client.post(PATH, json={"chargestation": "CS-1", "connector": "1"})
        confirm(client, commands(client))
        # Sent, and not confirmed: it may be in force or not.
        raised = commands(client)
    serving.kill()

    serving = serve(url, WATTFILL_LAG="0")
    with serving.client(key) as client:
        client.post(PATH, json={"chargestation": "CS-2", "connector": "1"})
        after = commands(client)
        counted = committed(client)

    assert limits(raised)["CS-1"] == 22
    assert limits(after) == {"CS-1": 11}
    assert counted == {"CS-1": 22, "CS-2": 0}
    assert min(c["seq"] for c in after) > max(c["seq"] for c in raised)


def test_one_server_at_a_time_dispatches_and_one_that_hangs_is_replaced(serve, url):
    one, two = (serve(url, WATTFILL_LAG="0", WATTFILL_TAKEOVER="0.6") for _ in range(2))
    key = one.first_key
    with one.client(key) as a, two.client(key) as b:
        dispatched(a)
        with a.stream("GET", "/v1.1/groups/g1/stream") as stream:
            heard = events(stream)
            first = next_of("commands", heard)
            confirm(a, first)
            # From then on it has nothing to write, and holds no lock but the one to dispatch.
            while any(c["committed"] for c in next_of("allocation", heard)["connectors"]):
                pass
            reading = {"chargestation": "CS-1", "kind": "meter", "power": 0}
            elsewhere = report(b, reading)
            one.process.send_signal(signal.SIGSTOP)
            b.post(PATH, json={"chargestation": "CS-1", "connector": "1"})
            taken_over = commands(b)
            one.process.send_signal(signal.SIGCONT)
            b.post(PATH, json={"chargestation": "CS-2", "connector": "1"})
            # What it shows in the end is no longer what may be in force, as others know that.
            since = [next(heard)]
            while since[-1][0] == "allocation" and [
                c["power"] for c in since[-1][1]["connectors"]
            ] != [11, 11]:
                since.append(next(heard))
            refused = report(a, reading)
        confirm(b, taken_over)
        counted = committed(b)
        two.kill()
        last = commands(a)

    assert limits(first) == {"CS-1": 0, "CS-2": 0}
    assert limits(taken_over) == {"CS-1": 22, "CS-2": 0}
    assert min(c["seq"] for c in taken_over) > max(c["seq"] for c in first)
    assert {kind for kind, _ in since} == {"allocation"}
    for answer in (elsewhere, refused):
        assert answer.status_code == 503
        assert answer.json()["message"] == "another server dispatches this group"
    assert counted == {"CS-1": 22, "CS-2": 0}
    # It goes on with what the other one's journal tells: CS-1 has to come down first.
    assert limits(last) == {"CS-1": 11}
    assert min(c["seq"] for c in last) > max(c["seq"] for c in taken_over)


def test_a_full_disk_lets_limits_be_lowered_and_the_server_is_not_ready(serve, tmp_path):
    serving = serve(str(tmp_path / "site.db"), WATTFILL_LAG="0")
    with serving.client(serving.first_key) as client:
        dispatched(client)
        for station in ("CS-1", "CS-2"):
            client.post(PATH, json={"chargestation": station, "connector": "1"})
        with client.stream("GET", "/v1.1/groups/g1/stream") as stream:
            heard = events(stream)
            confirm(client, next_of("commands", heard))
            raised = next_of("commands", heard)
            confirm(client, raised)
            before = committed(client)
            unlimited = resource.prlimit(serving.process.pid, resource.RLIMIT_FSIZE)
            limited = (1024, unlimited[1])
            resource.prlimit(serving.process.pid, resource.RLIMIT_FSIZE, limited)
            # It draws twice what it confirmed: others must be planned around it.
            reading = {"chargestation": "CS-2", "kind": "meter", "power": 22}
            for _ in range(2):
                report(client, reading)
            lowered = next_of("commands", heard)
            during = client.get("/readyz")
            resource.prlimit(serving.process.pid, resource.RLIMIT_FSIZE, unlimited)
            after = client.get("/readyz")
            confirm(client, lowered)
            counted = committed(client)
            shown = client.get("/v1.1/groups/g1/allocation").json()["result"]

    assert limits(raised) == before == {"CS-1": 11, "CS-2": 11}
    assert limits(lowered) == {"CS-1": 0}
    assert during.status_code == 503
    assert during.headers["Retry-After"] == "1"
    assert after.status_code == 200
    assert counted == {"CS-1": 0, "CS-2": 22}
    assert [c["disobeys"] for c in shown["connectors"]] == [False, True]


def test_a_stop_in_good_order_ends_streams_and_answers_what_was_asked(serve, tmp_path):
    serving = serve(str(tmp_path / "site.db"))
    with serving.client(serving.first_key) as client:
        build(client, 1)
        with client.stream("GET", "/v1.1/groups/g1/stream") as stream:
            lines = stream.iter_lines()
            next(line for line in lines if line.startswith("data: "))
            started = time.monotonic()
            serving.stop()
            rest = [line for line in lines if line]
            seconds = time.monotonic() - started
    text = serving.log()

    assert rest == []
    # It does not wait for the ten seconds after which tasks are cancelled.
    assert "timeout graceful shutdown exceeded" not in text
    assert seconds < 10


def test_several_workers_serve_one_database(serve, tmp_path):
    serving = serve(str(tmp_path / "site.db"), "--workers=2", f"--port={free_port()}")
    key = serving.first_key
    with serving.client(key) as client:
        build(client)
    with ThreadPoolExecutor(8) as pool:

        def start(n: int) -> int:
            with serving.client(key) as client:
                body = {"chargestation": f"CS-{n % 4}", "connector": "1"}
                return client.post(PATH, json=body).status_code

        statuses = sorted(pool.map(start, range(16)))
    with serving.client(key) as client:
        dispatched = client.patch("/v1.1/groups/g1", json={"dispatch": True})
    serving.stop()

    assert statuses == [200] * 4 + [409] * 12
    assert dispatched.status_code == 409
    assert dispatched.json()["message"] == (
        "dispatch must be set where one process serves: start it with --workers 1"
    )


def test_a_restored_backup_is_read_anew(tmp_path):
    database = opened(str(tmp_path / "site.db"))
    service = service_of(database)
    with database.transaction():
        service.create_key("acme", "test")
    caller = Caller("acme", "key", frozenset(("commission",)))
    with database.transaction():
        service.create_group(caller, {"id": "g1", "name": "A", "maximum_capacity": 10.0})
    service.store.committed()
    database.run("DELETE FROM wf_group")
    database.run("UPDATE wf_organisation SET revision = 0")

    groups, total = service.list_groups(caller)
    database.close()

    assert (groups, total) == ([], 0)
