"""What a server survives: kills, full disks, locks, a database that goes away, another server."""

import itertools
import os
import resource
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from servers import Postgres, Serving, opened, postgres_programs, service_of

from wattfill.server.service import Caller
from wattfill.server.store import verify_log

PATH = "/v1.1/sessions"
NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    if postgres_programs() is None:
        pytest.skip("PostgreSQL is not installed: initdb was not found")
    server = Postgres()
    yield server
    server.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "site.db")
    return request.getfixturevalue("postgres").new_database(f"faults_{next(NUMBERS)}")


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


def toggle_for_ever(client: httpx.Client, station: str, known: dict[str, bool]) -> None:
    """Start and stop a session until the server is gone; note what was answered with ok."""
    while True:
        try:
            if known.get(station):
                answer = client.delete(f"{PATH}/{station}/1")
            else:
                answer = client.post(PATH, json={"chargestation": station, "connector": "1"})
        except httpx.TransportError:
            known[f"{station} asked"] = not known.get(station, False)
            return
        if answer.status_code == 200:
            known[station] = not known.get(station, False)
        elif answer.status_code != 503:
            raise AssertionError(answer.text)


def agrees(client: httpx.Client, known: dict[str, bool], n_stations: int = 4) -> bool:
    """Say whether a server knows what was answered; what was asked last may have happened."""
    there = {each["chargestation"] for each in client.get(PATH).json()["result"]}
    return all(
        (station in there) in (known.get(station, False), known.get(f"{station} asked"))
        for station in (f"CS-{n}" for n in range(n_stations))
    )


def test_what_was_answered_survives_kills(serve, url):
    serving = serve(url)
    key = serving.first_key
    with serving.client(key) as client:
        build(client)
    known: dict[str, bool] = {}

    for round in range(3):
        with serving.client(key) as client, ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(toggle_for_ever, client, f"CS-{n}", known) for n in range(4)]
            # The kill falls anywhere in the requests: after another number of them each time.
            while sum(len(client.get("/v1.1/changes").json()["result"]) for _ in range(3)) < (
                15 + 20 * round
            ):
                pass
            serving.kill()
            for each in asked:
                each.result()
        serving = serve(url)
        with serving.client(key) as client:
            assert agrees(client, known)
            there = {each["chargestation"] for each in client.get(PATH).json()["result"]}
        known = dict.fromkeys(there, True)
    database = opened(url)

    assert verify_log(database) == []
    database.close()


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


def test_a_locked_database_is_waited_for_and_then_told(serve, tmp_path):
    url = str(tmp_path / "site.db")
    serving = serve(url, WATTFILL_PATIENCE="0.3")
    other = sqlite3.connect(url, isolation_level=None)
    with serving.client(serving.first_key) as client:
        build(client, 1)
        other.execute("BEGIN IMMEDIATE")
        locked = client.post(PATH, json={"chargestation": "CS-0", "connector": "1"})
        looked = client.get("/v1.1/groups/g1")
        other.execute("ROLLBACK")
        free = client.post(PATH, json={"chargestation": "CS-0", "connector": "1"})
    other.close()

    assert locked.status_code == 503
    assert locked.json()["message"].startswith("nothing was changed")
    assert locked.headers["Retry-After"] == "1"
    assert looked.status_code == 200
    assert free.status_code == 200


def test_a_database_that_ends_without_warning_is_found_again(serve, postgres):
    serving = serve(postgres.new_database(f"faults_{next(NUMBERS)}"), WATTFILL_PATIENCE="0.5")
    known: dict[str, bool] = {}
    with serving.client(serving.first_key) as client:
        build(client)
        stopped = threading.Event()

        def toggle(station: str) -> None:
            while not stopped.is_set():
                is_on = known.get(station, False)
                if is_on:
                    answer = client.delete(f"{PATH}/{station}/1")
                else:
                    answer = client.post(PATH, json={"chargestation": station, "connector": "1"})
                known.pop(f"{station} asked", None)
                if answer.status_code == 200:
                    known[station] = not is_on
                else:
                    # It may have happened before the connection broke.
                    known[f"{station} asked"] = not is_on
                    if answer.status_code in (404, 409):
                        known[station] = not is_on
                    else:
                        assert answer.status_code == 503, answer.text

        with ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(toggle, f"CS-{n}") for n in range(4)]
            for _ in range(2):
                while len(client.get("/v1.1/changes").json().get("result", ())) < 30:
                    pass
                postgres.kill()
                gone = client.get("/readyz").status_code
                refused = client.post(PATH, json={"chargestation": "CS-9", "connector": "1"})
                postgres.start()
                while client.get("/readyz").status_code != 200:
                    pass
            stopped.set()
            for each in asked:
                each.result()
        is_right = agrees(client, known)

    assert gone == 503
    assert refused.status_code == 503
    assert is_right


def test_two_servers_on_one_database_never_contradict_each_other(serve, postgres):
    url = postgres.new_database(f"faults_{next(NUMBERS)}")
    one = serve(url)
    key = one.first_key
    two = serve(url)
    with one.client(key) as a, two.client(key) as b, ThreadPoolExecutor(8) as pool:
        for id in ("g1", "g2"):
            a.post("/v1.1/groups", json={"id": id, "name": id, "maximum_capacity": 100})
        seen = b.get("/v1.1/groups").json()["page"]["total"]

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
        groups = [client.get("/v1.1/groups").json()["result"] for client in (a, b)]
        for group in [group for each in groups for group in each]:
            group["allocation"] = None
    database = opened(url)
    homes = database.rows("SELECT id, group_id FROM wf_station")
    broken = verify_log(database)
    database.close()

    assert seen == 2
    assert sorted(added) == [200] * 10 + [409] * 10
    assert len(homes) == 10
    assert changed == [200] * 20
    assert groups[0] == groups[1]
    assert groups[0][0]["version"] == version + 20
    assert broken == []


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


def commands(client: httpx.Client) -> list[dict]:
    """Return the first commands of a stream."""
    with client.stream("GET", "/v1.1/groups/g1/stream") as stream:
        kind = ""
        for line in stream.iter_lines():
            if line.startswith("event: "):
                kind = line
            elif line.startswith("data: ") and kind == "event: commands":
                return httpx.Response(200, content=line.removeprefix("data: ")).json()
    raise AssertionError("there were no commands")


def test_after_a_kill_no_station_is_told_more_than_may_be_free(serve, url):
    # Vehicles follow at once, so that what a station confirms is free at once.
    serving = serve(url, WATTFILL_LAG="0")
    key = serving.first_key
    with serving.client(key) as client:
        dispatched(client)
        client.post(PATH, json={"chargestation": "CS-1", "connector": "1"})
        before = commands(client)
        known = [
            {k: c[k] for k in ("chargestation", "connector", "seq")} | {"kind": "confirm"}
            for c in before
        ]
        answer = client.post("/v1.1/groups/g1/confirmations", json={"confirmations": known})
        assert answer.status_code == 200
        # Sent, and not confirmed: it may be in force or not.
        raised = commands(client)
    serving.kill()

    serving = serve(url, WATTFILL_LAG="0")
    with serving.client(key) as client:
        client.post(PATH, json={"chargestation": "CS-2", "connector": "1"})
        after = commands(client)
        connectors = client.get("/v1.1/groups/g1/allocation").json()["result"]["connectors"]

    limits = {c["chargestation"]: c["limit"] for c in raised}
    told = {c["chargestation"]: c["limit"] for c in after}
    committed = {c["chargestation"]: c["committed"] for c in connectors}
    assert limits["CS-1"] == 22
    assert told == {"CS-1": 11}
    assert committed == {"CS-1": 22, "CS-2": 0}
    assert min(c["seq"] for c in after) > max(c["seq"] for c in raised)


def test_one_server_at_a_time_dispatches(serve, url):
    one = serve(url)
    key = one.first_key
    two = serve(url)
    with one.client(key) as a, two.client(key) as b:
        dispatched(a)
        commands(a)
        known = [{"chargestation": "CS-1", "connector": "1", "kind": "meter", "power": 0}]
        body = {"confirmations": known}
        here = a.post("/v1.1/groups/g1/confirmations", json=body)
        there = b.post("/v1.1/groups/g1/confirmations", json=body)
        one.kill()
        commands(b)
        afterwards = b.post("/v1.1/groups/g1/confirmations", json=body)

    assert here.status_code == 200
    assert there.status_code == 503
    assert there.json()["message"] == "another server dispatches this group"
    assert afterwards.status_code == 200


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
    serving.stop()

    assert statuses == [200] * 4 + [409] * 12


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
