"""The server without HTTP: what it keeps, whom it tells what, its settings and its commands."""

import asyncio
import itertools
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schemathesis_checks import FOREIGN
from servers import Serving, new_database, new_key, opened, service_of

from wattfill.cli import main
from wattfill.errors import InputError
from wattfill.server import keys, migrations
from wattfill.server import settings as server_settings
from wattfill.server.clock import Clock
from wattfill.server.database import Database, DatabaseError, NoSpace, Sqlite, connect
from wattfill.server.dispatching import Manner, take_lead, take_up
from wattfill.server.engine import Engine, Follower
from wattfill.server.limits import Limiter
from wattfill.server.openapi import document
from wattfill.server.refusal import Refusal
from wattfill.server.service import Caller, Service
from wattfill.server.store import Store, Tree, verify_log

NUMBERS = itertools.count()


class FakeClock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.at = 1_000_000.0

    def now(self) -> float:
        return self.at


def quick(path: Path) -> Database:
    database = opened(str(path))
    # What these tests hold does not hang on when it reaches the disk.
    database.run("PRAGMA synchronous=OFF")
    return database


@pytest.fixture(scope="module")
def database(tmp_path_factory) -> Iterator[Database]:
    database = quick(tmp_path_factory.mktemp("server") / "site.db")
    yield database
    database.close()


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory) -> Iterator[Database]:
    """Return a database that no organisation shares with those of the other one."""
    database = quick(tmp_path_factory.mktemp("elsewhere") / "site.db")
    yield database
    database.close()


# Random operations, on ids that few enough share


IDS = st.sampled_from(["a", "b", "c"])
STATIONS = st.sampled_from(["s", "t", "u"])
PLUGS = st.sampled_from(["1", "2"])
# Of the lines of the log that come first behind those of the beginning.
RAISES = st.integers(9, 14).map(str)
CAPACITIES = st.sampled_from([0.0, 3.0, 10.0, 22.0, 100.0])
GROUP_FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "maximum_capacity": CAPACITIES,
        "minimum_connector_capacity": st.sampled_from([0.0, 2.5, 30.0]),
        "buffer": st.sampled_from([0.0, 0.5, 1.0]),
        "admission": st.sampled_from(["fifo", "rotate", "most"]),
        "parent": IDS | st.none(),
        "commissioned_capacity": CAPACITIES,
        "notes": st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5),
    },
)
CONNECTORS = st.lists(
    st.fixed_dictionaries(
        {"id": PLUGS, "maximum_capacity": CAPACITIES},
        optional={"minimum_capacity": CAPACITIES, "fallback": CAPACITIES},
    ),
    min_size=1,
    max_size=2,
)
NEW_GROUPS = st.builds(
    lambda id, fields: {"name": "G", "maximum_capacity": 10.0, **fields, "id": id},
    IDS,
    GROUP_FIELDS,
)
OPERATIONS = st.one_of(
    st.tuples(st.just("create_group"), NEW_GROUPS),
    st.tuples(st.just("update_group"), IDS, GROUP_FIELDS),
    st.tuples(st.just("update_group"), IDS, st.fixed_dictionaries({"dispatch": st.booleans()})),
    st.tuples(st.just("delete_group"), IDS),
    st.tuples(
        st.just("add_station"),
        IDS,
        st.fixed_dictionaries({"chargestation": STATIONS, "connectors": CONNECTORS}),
    ),
    st.tuples(
        st.just("update_station"), STATIONS, st.fixed_dictionaries({"connectors": CONNECTORS})
    ),
    st.tuples(st.just("remove_station"), STATIONS),
    st.tuples(
        st.just("start_session"),
        st.fixed_dictionaries(
            {"chargestation": STATIONS, "connector": PLUGS},
            optional={"maximum": CAPACITIES, "priority": st.integers(0, 1)},
        ),
    ),
    st.tuples(
        st.just("update_session"), STATIONS, PLUGS, st.fixed_dictionaries({"maximum": CAPACITIES})
    ),
    st.tuples(st.just("stop_session"), STATIONS, PLUGS),
    st.tuples(
        st.just("ask_for_raise"), IDS, st.builds(lambda c: {"commissioned_capacity": c}, CAPACITIES)
    ),
    st.tuples(st.just("approve_raise"), RAISES),
    st.tuples(st.just("decline_raise"), RAISES),
    st.tuples(st.just("get_raise"), RAISES),
    st.tuples(st.just("list_raises")),
    st.tuples(st.just("get_group"), IDS),
    st.tuples(st.just("get_allocation"), IDS),
    st.tuples(st.just("get_station"), STATIONS),
    st.tuples(st.just("list_groups")),
    st.tuples(st.just("list_sessions")),
    st.tuples(st.just("list_changes")),
)

LISTS = ("list_groups", "list_sessions", "list_changes", "list_raises")

# Where operations begin, so that many of them find something: two trees, one of which takes turns.
AT_FIRST = [
    ("create_group", {"id": "a", "name": "A", "maximum_capacity": 10.0, "admission": "rotate"}),
    ("create_group", {"id": "b", "name": "B", "maximum_capacity": 22.0}),
    *(
        (
            "add_station",
            group,
            {
                "chargestation": station,
                "connectors": [
                    {"id": "1", "maximum_capacity": 22.0, "minimum_capacity": 6.0, "fallback": 0.0},
                    {"id": "2", "maximum_capacity": 22.0, "minimum_capacity": 6.0, "fallback": 0.0},
                ],
            },
        )
        for group, station in (("a", "s"), ("b", "t"))
    ),
    *(("start_session", {"chargestation": s, "connector": c}) for s in "st" for c in "12"),
]


class Site:
    """An organisation of its own, and what it is answered."""

    n_made = 0

    def __init__(self, service: Service) -> None:
        Site.n_made += 1
        self.name = f"organisation-{Site.n_made}"
        self.service = service
        made = [service.create_key(self.name, name).id for name in ("one", "other")]
        callers = [Caller(self.name, id, frozenset(keys.FULL.split())) for id in made]
        # Somebody else approves.
        self.caller, self.approver = callers
        for operation in AT_FIRST:
            assert not self.do(operation).startswith("[4")

    def do(self, operation: tuple) -> str:
        """Return what an operation is answered, as text."""
        name, *arguments = operation
        caller = self.approver if name == "approve_raise" else self.caller
        try:
            answer = getattr(self.service, name)(caller, *arguments)
        except Refusal as refusal:
            answer = [refusal.status, refusal.body()]
        text = json.dumps(answer)
        # Digests cover the name of the organisation, and each has keys of its own.
        for key, who in ((self.caller, "one"), (self.approver, "other")):
            text = text.replace(key.key, who)
        return json.dumps(without_digests(json.loads(text)))


def without_digests(value: object) -> object:
    if isinstance(value, dict):
        return {k: without_digests(v) for k, v in value.items() if k != "digest"}
    return [without_digests(item) for item in value] if isinstance(value, list) else value


@given(st.lists(st.tuples(st.booleans(), OPERATIONS), min_size=5, max_size=30))
def test_no_organisation_notices_another(database, elsewhere, steps):
    service, apart = service_of(database, FakeClock()), service_of(elsewhere, FakeClock())

    with database.transaction(), elsewhere.transaction():
        one, other, alone = Site(service), Site(service), Site(apart)
        for is_one, operation in steps:
            site = one if is_one else other
            answer = site.do(operation)
            if is_one:
                assert answer == alone.do(operation)
    service.store.committed()
    apart.store.committed()

    # Nor in the database, of which memory might not know.
    there = [one.do((what,)) for what in LISTS]
    assert there == [alone.do((what,)) for what in LISTS]
    one.service = service_of(database, service.clock)
    assert [one.do((what,)) for what in LISTS] == there


@given(st.lists(OPERATIONS, min_size=5, max_size=30))
def test_what_is_read_again_is_what_was_there(database, operations):
    clock = FakeClock()
    service = service_of(database, clock)

    with database.transaction():
        site = Site(service)
        for operation in operations:
            site.do(operation)
            clock.at += 400.0
    service.store.committed()
    again = service_of(database, clock)

    for what in LISTS:
        there = site.do((what,))
        site.service = again
        assert site.do((what,)) == there
        site.service = service


@given(st.lists(OPERATIONS, min_size=3, max_size=20), st.lists(OPERATIONS, min_size=1, max_size=5))
def test_what_is_not_committed_leaves_nothing_behind(database, before, lost):
    clock = FakeClock()
    service = service_of(database, clock)
    with database.transaction():
        site = Site(service)
        for operation in before:
            site.do(operation)
    service.store.committed()
    there = [site.do((what,)) for what in LISTS]

    database.begin(write=True)
    for operation in lost:
        site.do(operation)
    database.rollback()
    service.store.rolled_back()

    assert [site.do((what,)) for what in LISTS] == there


@given(st.lists(OPERATIONS, min_size=5, max_size=30))
def test_no_answer_promises_more_than_a_group_may_draw(database, operations):
    service = service_of(database, FakeClock())

    with database.transaction():
        site = Site(service)
        for operation in operations:
            site.do(operation)
            groups, _ = service.list_groups(site.caller)
            for group in groups:
                assert group["allocation"]["headroom"] >= 0
    service.store.committed()


def test_the_log_is_whole_until_somebody_changes_it(tmp_path):
    database = opened(str(tmp_path / "site.db"))
    service = service_of(database, FakeClock())
    with database.transaction():
        site = Site(service)
    before = verify_log(database)

    database.run("UPDATE wf_change SET key_id = 'somebody else' WHERE revision = 2")

    assert before == []
    assert verify_log(database) == [site.name]
    database.close()


# Keys


def test_a_database_holds_no_key(tmp_path):
    url = str(tmp_path / "site.db")
    text = new_key(url, "acme")

    dump = "\n".join(sqlite3.connect(url).iterdump())

    secret = text.split("_")[3]
    assert text.split("_")[2] in dump
    assert secret not in dump


@pytest.mark.parametrize("case", ["right", "wrong", "unknown"])
def test_digests_are_compared_once_whoever_asks(tmp_path, monkeypatch, case):
    database = opened(str(tmp_path / "site.db"))
    service = service_of(database)
    with database.transaction():
        key = service.create_key("acme", "test")
    _, digest = keys.split(keys.make().text)
    text = {"right": key.text, "wrong": key.text, "unknown": keys.make().text}[case]
    if case == "wrong":
        monkeypatch.setattr(keys, "split", lambda _: (key.id, digest))
    compared = []
    compare = keys.hmac.compare_digest
    monkeypatch.setattr(
        keys.hmac, "compare_digest", lambda a, b: compared.append(1) or compare(a, b)
    )

    with nullcontext() if case == "right" else pytest.raises(Refusal, match="a valid key"):
        service.authenticate(text)

    assert compared == [1]
    database.close()


def test_a_key_opens_nothing_after_it_expired(tmp_path):
    database = opened(str(tmp_path / "site.db"))
    clock = FakeClock()
    service = service_of(database, clock)
    with database.transaction():
        key = service.create_key("acme", "test", expires_at=clock.at + 10)
    organisation = service.authenticate(key.text).organisation
    clock.at += 10

    with pytest.raises(Refusal, match="the request must have a valid key"):
        service.authenticate(key.text)

    assert organisation == "acme"
    database.close()


def test_when_a_key_was_used_last_is_known(database):
    clock = FakeClock()
    service = service_of(database, clock)
    with database.transaction():
        used, unused = (service.create_key("uses", "test") for _ in range(2))
    clock.at += 5.0
    service.authenticate(used.text)
    clock.at += 5.0
    service.flush_used()

    last = {key["id"]: key["last_used_at"] for key in service.list_keys("uses")}
    assert last == {used.id: clock.at - 5.0, unused.id: None}


def test_a_session_of_a_key_ends_with_the_key(tmp_path):
    database = opened(str(tmp_path / "site.db"))
    service = service_of(database)
    with database.transaction():
        key = service.create_key("acme", "test", "read")
    before = service.caller_of_key(key.id)
    with database.transaction():
        service.revoke_key(key.id)

    with pytest.raises(Refusal, match="log in again"):
        service.caller_of_key(key.id)

    assert before == Caller("acme", key.id, frozenset({"read"}))
    database.close()


# What a panel asks


def test_what_is_tried_is_told_and_not_done(database):
    service = service_of(database, FakeClock())
    with database.transaction():
        site = Site(service)
    service.store.committed()
    before = site.do(("list_groups",))

    tried = service.what_if(site.caller, "b", {"maximum_capacity": 16.0, "buffer": 0.25})

    assert [plug["power"] for plug in tried["connectors"]] == [6.0, 6.0]
    assert site.do(("list_groups",)) == before
    with pytest.raises(Refusal, match="buffer must be within"):
        service.what_if(site.caller, "b", {"buffer": 2.0})


def test_who_only_watches_makes_no_commands(tmp_path):
    database = opened(str(tmp_path / "site.db"))
    with database.transaction():
        site = Site(service_of(database))
        site.do(("update_group", "b", {"dispatch": True}))
    engine = Engine(database)
    engine.start()

    async def watch() -> list[str]:
        loop = asyncio.get_running_loop()
        kinds = []
        for watches in (True, False):
            follower = Follower(site.name, "b", loop, asyncio.Queue(9), watches)
            await engine.follow(follower)
            kinds.append((await follower.events.get())[0])
            engine.unfollow(follower)
        return kinds

    kinds = asyncio.run(watch())
    engine.stop()

    assert kinds == ["allocation", "commands"]


# Limits


def test_many_who_have_no_key_are_slowed_down_and_those_who_have_one_are_not(tmp_path):
    serving = Serving(str(tmp_path / "site.db"))
    with serving.client("") as stranger, serving.client(serving.first_key) as client:
        answers = [stranger.get("/v1.1/groups") for _ in range(30)]
        known = client.get("/v1.1/groups")
    serving.close()

    assert [answer.status_code for answer in answers[:20]] == [401] * 20
    assert answers[-1].status_code == 429
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 5
    assert known.status_code == 200


def test_a_key_that_asks_too_often_is_told_when_to_come_again(tmp_path):
    serving = Serving(str(tmp_path / "site.db"), WATTFILL_RATE="0.001", WATTFILL_BURST="3")
    with serving.client(serving.first_key) as client:
        answers = [client.get("/v1.1/groups") for _ in range(4)]
    serving.close()

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 1000


def test_a_bucket_fills_with_time_and_no_further():
    at = [0.0]
    limiter = Limiter(2, 3, lambda: at[0])
    first = [limiter.wait("a") for _ in range(4)]
    at[0] = 0.5
    second = [limiter.wait("a") for _ in range(2)]
    at[0] = 1000.0
    third = [limiter.wait("a") for _ in range(4)]

    assert (first, second, third) == ([0, 0, 0, 1], [0, 1], [0, 0, 0, 1])


def test_a_clock_that_goes_back_takes_nothing_from_a_bucket():
    at = [100.0]
    limiter = Limiter(1, 1, lambda: at[0])
    taken = [limiter.wait("a")]
    at[0] = 0.0
    taken.append(limiter.wait("a"))
    at[0] = 1.0
    taken.append(limiter.wait("a"))

    assert taken == [0, 1, 0]


# Migrations


def test_a_step_that_fails_leaves_the_version_before_it(tmp_path, monkeypatch):
    database = connect(str(tmp_path / "site.db"))
    twice = "CREATE TABLE wf_more (id TEXT)"
    steps = (*migrations.STEPS, (twice, twice))
    monkeypatch.setattr(migrations, "STEPS", steps)

    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        migrations.migrate(database)

    assert migrations.version(database) == len(steps) - 1
    assert database.row("SELECT 1 FROM sqlite_master WHERE name = 'wf_more'") is None
    database.close()


def test_a_database_of_a_newer_version_is_left_alone(tmp_path):
    database = opened(str(tmp_path / "site.db"))
    database.run("INSERT INTO wf_schema VALUES (99, 0)")

    with pytest.raises(DatabaseError, match="a newer wattfill has made it 99"):
        migrations.migrate(database)

    database.close()


def test_a_full_sqlite_file_is_told_apart(tmp_path):
    database = opened(str(tmp_path / "site.db"))
    database.run("PRAGMA max_page_count = 1")

    with pytest.raises(NoSpace, match="is full"), database.transaction():
        database.run_many(
            "INSERT INTO wf_organisation VALUES (:id, 'n', 0, '', 0, 0)",
            [{"id": f"{n}" * 1000} for n in range(1000)],
        )

    assert database.row("SELECT COUNT(*) FROM wf_organisation") == (0,)
    database.close()


# Settings


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_plain_http_is_not_served_beyond_this_machine(host):
    with pytest.raises(InputError, match="host must be a loopback address"):
        server_settings.read({"host": host}, {})

    assert server_settings.read({"host": host, "behind_proxy": True}, {}).host == host


def test_flags_come_before_the_environment_and_that_before_the_file(tmp_path):
    file = tmp_path / "wattfill.toml"
    file.write_text('port = 1\ndatabase = "file.db"\npatience = 3\n')
    environment = {
        "WATTFILL_SETTINGS": str(file),
        "WATTFILL_PORT": "2",
        "WATTFILL_DATABASE": "env.db",
    }

    found = server_settings.read({"port": 3, "database": None}, environment)

    assert (found.port, found.database, found.patience) == (3, "env.db", 3.0)


@pytest.mark.parametrize(
    ("flags", "environment", "message"),
    [
        ({"port": 70000}, {}, "--port must be a number within 0..65535, got 70000"),
        ({}, {"WATTFILL_RATE": "fast"}, "WATTFILL_RATE must be a float, got 'fast'"),
        ({}, {"WATTFILL_PATIENCE": "0"}, "WATTFILL_PATIENCE must be above 0, got '0'"),
        ({}, {"WATTFILL_LAG": "nan"}, "WATTFILL_LAG must be a number of at least 0, got 'nan'"),
        ({"two_person": "no"}, {}, "--two-person must be one of auto, always, never, got 'no'"),
        ({"log_level": "loud"}, {}, "--log-level must be one of debug, info, warning, error"),
        ({"tls_key": "k"}, {}, "tls_certificate and tls_key must be given together"),
        ({"settings": "/nowhere"}, {}, "/nowhere cannot be read: No such file or directory"),
    ],
)
def test_a_setting_that_breaks_a_rule_is_refused(flags, environment, message):
    with pytest.raises(InputError) as error:
        server_settings.read(flags, environment)

    assert str(error.value).startswith(message)


# Commands


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "wattfill", *arguments], cwd=cwd, capture_output=True, text=True
    )


def test_keys_are_made_listed_and_revoked_while_the_server_runs(tmp_path):
    url = str(tmp_path / "site.db")
    serving = Serving(url)
    made = run("keys", "create", "--name", "csms", "--read-only", "--database", url, cwd=tmp_path)
    key = made.stdout.strip()
    with serving.client(key) as client:
        before = client.get("/v1.1/groups").status_code
        changing = client.post("/v1.1/sessions", json={}).status_code
        listed = run("keys", "list", "--database", url, cwd=tmp_path)
        revoked = run("keys", "revoke", key.split("_")[2], "--database", url, cwd=tmp_path)
        after = client.get("/v1.1/groups").status_code
    serving.close()

    assert (before, changing, after) == (200, 403, 401)
    assert "csms" in listed.stdout
    assert key.split("_")[3] not in listed.stdout
    assert revoked.stdout == f"{key.split('_')[2]} opens nothing any more\n"


def test_only_the_first_start_prints_a_key(tmp_path):
    url = str(tmp_path / "site.db")
    printed = []
    for _ in range(2):
        serving = Serving(url)
        printed.append("wf_live_" in serving.printed)
        serving.close()

    assert printed == [True, False]


def test_doctor_says_what_is_wrong(tmp_path):
    url = str(tmp_path / "site.db")
    empty = run("doctor", "--database", url, "--port", "0", cwd=tmp_path)
    new_key(url, "acme")
    well = run("doctor", "--database", url, "--port", "0", cwd=tmp_path)
    database = opened(url)
    with database.transaction():
        site = Site(service_of(database))
    database.run("UPDATE wf_change SET target = 'x' WHERE revision = 2")
    database.close()
    forged = run("doctor", "--database", url, "--port", "0", cwd=tmp_path)
    (tmp_path / "text.db").write_text("This is no database at all. " * 99)
    broken = run("doctor", "--database", "text.db", "--port", "0", cwd=tmp_path)

    assert empty.returncode == 0
    assert "is created at the first start" in empty.stdout
    assert well.returncode == 0
    n = len(migrations.STEPS)
    assert f"tables: version {n} of {n}" in well.stdout
    assert (forged.returncode, broken.returncode) == (1, 1)
    assert f"wrong  log: {site.name} is not what was written" in forged.stdout
    assert "wrong  database: text.db is damaged, or no SQLite file" in broken.stdout


def test_several_workers_are_refused_where_groups_are_dispatched(tmp_path, capsys, monkeypatch):
    url = str(tmp_path / "site.db")
    database = opened(url)
    dispatched(database, FakeClock())
    database.close()
    monkeypatch.setenv("WATTFILL_WORKERS", "2")
    served = main(["serve", "--database", url]), capsys.readouterr().err
    examined = main(["doctor", "--database", url, "--port", "0"]), capsys.readouterr().out
    rule = "workers must be 1 with 1 dispatched group, as one process sends all commands, got 2"

    assert served == (2, f"wattfill: {rule}\n")
    assert examined[0] == 1
    assert f"wrong  settings: {rule}\n" in examined[1]


def test_a_database_of_another_kind_is_refused(tmp_path):
    done = run("serve", "--database", "mysql://somewhere", cwd=tmp_path)

    assert done.returncode == 2
    assert done.stderr == (
        "wattfill: database must be a path, sqlite:///PATH or postgresql://..., got mysql://...\n"
    )


def test_a_key_that_is_rotated_is_good_until_it_is_revoked(tmp_path, capsys):
    url = str(tmp_path / "site.db")

    def said(*arguments: str) -> tuple[int, str]:
        code = main(["keys", *arguments, "--database", url])
        printed = capsys.readouterr()
        return code, (printed.out + printed.err).strip()

    _, old = said("create", "--name", "anna", "--scopes", "read,commission")
    id = old.split("_")[2]
    _, new = said("rotate", id)
    database = opened(url)
    both = service_of(database).list_keys()
    callers = [service_of(database).authenticate(text) for text in (old, new)]
    database.close()
    said("revoke", id)
    again = said("rotate", id)

    assert [(key["name"], key["scopes"]) for key in both] == [("anna", "read commission")] * 2
    assert callers[0].key != callers[1].key
    assert again == (2, f"wattfill: id must be that of a key that is valid, got {id!r}")


@pytest.mark.parametrize("missing", ["starlette", "uvicorn", "prometheus_client"])
def test_a_server_without_its_libraries_names_the_extra(missing):
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys; sys.modules[{missing!r}] = None; "
            "from wattfill.cli import main; sys.exit(main(['doctor']))",
        ],
        capture_output=True,
        text=True,
    )

    assert done.returncode == 2
    assert done.stderr.endswith("pip install 'wattfill[server]'\n")
    assert missing in done.stderr


# The published description


def test_every_example_of_the_description_is_taken(tmp_path):
    serving = Serving(str(tmp_path / "site.db"))
    described = document()["paths"]["/v1.1/groups"]["post"]
    body = described["requestBody"]["content"]["application/json"]["example"]
    with serving.client(serving.first_key) as client:
        answer = client.post("/v1.1/groups", json=body)
    serving.close()

    assert answer.status_code == 200


@pytest.fixture(scope="module")
def described(tmp_path_factory) -> Iterator[tuple[Serving, str]]:
    serving = Serving(str(tmp_path_factory.mktemp("described") / "site.db"), WATTFILL_RATE="1e6")
    yield serving, serving.first_key
    serving.close()


def test_schemathesis_finds_nothing(described, tmp_path):
    serving, key = described
    with serving.client(key) as client:
        group = {"id": "g1", "name": "Yard", "maximum_capacity": 100}
        client.post("/v1.1/groups", json=group)
        body = {"chargestation": "CS-1", "connectors": [{"id": "1", "maximum_capacity": 22}]}
        client.post("/v1.1/groups/g1/chargestations", json=body)
        client.post("/v1.1/sessions", json={"chargestation": "CS-1", "connector": "1"})
    # A raise waits where there is a second person who could approve it.
    new_key(serving.database, "default", name="second")
    with serving.client(new_key(serving.database, FOREIGN, name=FOREIGN)) as other:
        group = {"id": FOREIGN, "name": FOREIGN, "maximum_capacity": 100, "location": FOREIGN}
        other.post("/v1.1/groups", json=group)
        # What both have the id of is told apart.
        other.post("/v1.1/groups", json={**group, "id": "g1", "parent": FOREIGN})
        body = {"chargestation": "CS-1", "connectors": [{"id": FOREIGN, "maximum_capacity": 22}]}
        other.post("/v1.1/groups/g1/chargestations", json=body)
        other.post("/v1.1/sessions", json={"chargestation": "CS-1", "connector": FOREIGN})
        raised = {"commissioned_capacity": 120, "note": FOREIGN}
        assert other.post("/v1.1/groups/g1/raises", json=raised).status_code == 200

    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")),
            "run",
            f"{serving.url}/openapi.json",
            f"--header=Authorization: Bearer {key}",
            "--checks=not_a_server_error,status_code_conformance,content_type_conformance,"
            "response_schema_conformance,response_headers_conformance,negative_data_rejection,"
            "unsupported_method,nothing_of_others,no_group_gives_more_than_it_may",
            # A stream has no end; the long prefix is the same operations.
            "--exclude-path-regex=stream|load_management",
            "--phases=examples,coverage,fuzzing",
            f"--max-examples={max(10, settings().max_examples // 10)}",
            "--seed=1",
            "--generation-database=none",
            "--no-color",
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={
            **os.environ,
            "SCHEMATHESIS_HOOKS": "schemathesis_checks",
            "PYTHONPATH": str(Path(__file__).parent),
        },
    )

    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert httpx.get(f"{serving.url}/readyz").status_code == 200


def test_ten_thousand_rows_of_the_log_are_not_needed_to_follow(database):
    # A store that was not looked at for long reads everything once, instead of line by line.
    clock = FakeClock()
    one = service_of(database, clock)
    with database.transaction():
        site = Site(one)
        other = Store(database, clock)
        other.organisation(site.name)
        for n in range(100):
            site.do(("create_group", {"id": f"g{n}", "name": "G", "maximum_capacity": 1.0}))
    one.store.committed()

    assert len(other.organisation(site.name).group_root) == 102


# What fails half-way


class Breaking(Sqlite):
    """A SQLite file whose statements fail, or end the process, after some."""

    def __init__(self, path: str, fail: Callable[[], None]) -> None:
        super().__init__(path)
        self.left = -1
        self.fail = fail

    def _execute(self, sql, values):
        if self.left == 0:
            self.fail()
        self.left -= 1
        return super()._execute(sql, values)


def no_memory() -> None:
    raise MemoryError


def no_thread(*_: object) -> None:
    raise RuntimeError("can't start new thread")


CHANGES = [
    ("create_group", {"id": "c", "name": "C", "maximum_capacity": 5.0, "parent": "a"}),
    ("update_group", "b", {"buffer": 0.5, "admission": "rotate"}),
    ("update_group", "b", {"parent": "a"}),
    (
        "add_station",
        "a",
        {"chargestation": "u", "connectors": [{"id": "1", "maximum_capacity": 9.0}]},
    ),
    ("update_station", "s", {"connectors": [{"id": "3", "maximum_capacity": 9.0}]}),
    ("update_session", "s", "1", {"maximum": 7.0}),
    ("stop_session", "s", "1"),
    ("remove_station", "s"),
]


def test_a_thread_that_does_not_start_ends_the_start(tmp_path, monkeypatch):
    opened(str(tmp_path / "site.db")).close()
    monkeypatch.setattr(threading.Thread, "start", no_thread)

    engine = Engine(connect(str(tmp_path / "site.db")))
    with pytest.raises(RuntimeError, match="can't start new thread"):
        engine.start()
    refused = engine.submit("read", lambda _: None).exception()
    engine.stop()

    assert not engine.is_ready
    assert isinstance(refused, Refusal)
    assert refused.status == 503


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change[0])
def test_a_change_that_runs_out_of_memory_at_any_statement_did_not_happen(tmp_path, change):
    opened(str(tmp_path / "site.db")).close()
    database = Breaking(str(tmp_path / "site.db"), no_memory)
    database.run("PRAGMA synchronous=OFF")
    engine = Engine(database)
    with database.transaction():
        site = Site(engine.service)
    engine.service.store.committed()
    engine.start()

    def seen() -> list[object]:
        return [
            engine.submit("read", lambda _, what=what: site.do((what,))).result()
            for what in ("list_groups", "list_sessions", "list_changes")
        ]

    before, n_statements, failure = seen(), 0, MemoryError()
    while failure is not None:

        def change_and_fail(_: Service, left: int = n_statements) -> None:
            database.left = left
            site.do(change)

        failure = engine.submit("write", change_and_fail).exception()
        database.left = -1
        if failure is not None:
            assert isinstance(failure, MemoryError)
            assert seen() == before
            n_statements += 1
    after = seen()
    engine.stop()

    assert n_statements > 3
    assert after != before


KILLED = """
import itertools, os, signal, sys
from wattfill.server.database import Sqlite
from wattfill.server.migrations import STEPS, migrate, version

class Killed(Sqlite):
    def _execute(self, sql, values):
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1
        return super()._execute(sql, values)

for n in itertools.count():
    path = f"{sys.argv[1]}/{n}.db"
    child = os.fork()
    if not child:
        database = Killed(path)
        database.left = n
        migrate(database)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    database = Sqlite(path)
    there = version(database)
    tables = [name for (name,) in database.rows("SELECT name FROM sqlite_master ORDER BY name")]
    migrate(database)
    print(there, version(database) == len(STEPS), *tables)
    database.close()
    if status == 0:
        break
"""


def test_a_process_that_is_killed_at_any_statement_of_a_step_leaves_a_version(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, text=True
    )
    found = [line.split() for line in done.stdout.splitlines()]
    tables_of: dict[str, set[tuple[str, ...]]] = {}
    for there, _, *tables in found:
        tables_of.setdefault(there, set()).add(tuple(tables))

    assert done.returncode == 0, done.stderr
    assert sorted(map(int, tables_of)) == list(range(len(migrations.STEPS) + 1))
    assert all(len(tables) == 1 for tables in tables_of.values())
    assert all(is_current == "True" for _, is_current, *_ in found)
    assert len(found) > sum(len(step) for step in migrations.STEPS)


def test_a_step_only_adds_so_that_the_version_before_it_goes_on_beside_it():
    adds = re.compile(
        r"CREATE (TABLE|INDEX|UNIQUE INDEX) |INSERT INTO |"
        r"ALTER TABLE \w+ ADD COLUMN \w+ [A-Z ]+( DEFAULT \S+)?$"
    )
    columns = [s for step in migrations.STEPS[1:] for s in step if " ADD COLUMN " in s]

    for step in migrations.STEPS[1:]:
        for statement in step:
            assert adds.match(statement), statement
    for column in columns:
        # Who does not know of it leaves it out.
        assert "NOT NULL" not in column or "DEFAULT" in column


# Dispatching


def dispatched(database: Database, clock: Clock, lease: float | None = None) -> tuple[Site, Tree]:
    """Return a site whose group b is dispatched by a service with a clock."""
    manner = Manner(lease, skew=2.0, lag=5.0)
    service = Service(Store(database, clock), clock, manner)
    with database.transaction():
        site = Site(service)
        site.do(("update_group", "b", {"dispatch": True}))
    service.store.committed()
    organisation = service.store.organisation(site.name)
    tree = organisation.trees["b"]
    take_up(database, clock, manner, organisation, tree)
    return site, tree


def restarted(site: Site, url: str, clock: Clock) -> tuple[Database, Tree]:
    """Go on with a site in the database at a URL, as another process does."""
    database = opened(url)
    site.service = service_of(database, clock)
    organisation = site.service.store.organisation(site.name)
    assert take_lead(database, clock)
    take_up(database, clock, Manner(), organisation, organisation.trees["b"])
    return database, organisation.trees["b"]


def planned(site: Site, tree: Tree) -> list[dict]:
    commands, error = site.service.plan(tree)
    assert error is None
    return commands


def confirm(site: Site, commands: list[dict]) -> None:
    reports = [
        {k: c[k] for k in ("chargestation", "connector", "seq")} | {"kind": "confirm"}
        for c in commands
    ]
    site.do(("report", "b", reports))


def limits(commands: list[dict]) -> dict[str, float]:
    return {c["connector"]: c["limit"] for c in commands}


def change(site: Site, *operation: object) -> None:
    with site.service.store.database.transaction():
        site.do(operation)
    site.service.store.committed()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path) -> str:
    return new_database(request, tmp_path, f"server_{next(NUMBERS)}")


def test_a_station_that_cannot_be_reached_is_not_forgotten(url):
    clock = FakeClock()
    database = opened(url)
    site, tree = dispatched(database, clock)
    first = planned(site, tree)
    site.do(("report", "b", [{"chargestation": "t", "kind": "offline"}]))
    database.close()
    database, tree = restarted(site, url, clock)
    after = planned(site, tree)
    site.service.tell_anew(site.service.store.organisation(site.name), tree)
    anew = planned(site, tree)
    site.do(("report", "b", [{"chargestation": "t", "kind": "online"}]))
    again = planned(site, tree)
    database.close()

    assert set(limits(first)) == set(limits(again)) == {"1", "2"}
    assert after == anew == []


def test_a_backup_that_is_put_back_makes_all_stations_unknown(url, request):
    clock = FakeClock()
    database = opened(url)
    assert take_lead(database, clock)
    site, tree = dispatched(database, clock)
    for connector in "12":
        change(site, "stop_session", "t", connector)
    for _ in range(2):
        confirm(site, planned(site, tree))
        clock.at += 6
    database.close()
    database, tree = restarted(site, url, clock)
    known = tree.dispatcher.committed(clock.at).connectors
    database.close()
    backup = backed_up(url, request)
    database, tree = restarted(site, url, clock)
    change(site, "start_session", {"chargestation": "t", "connector": "1"})
    raised = planned(site, tree)
    confirm(site, raised)
    database.close()
    if not url.startswith("postgresql"):
        backup = str(Path(backup).replace(url))
    # It knows nothing of the session at connector 1, nor of what was sent there.
    database, tree = restarted(site, backup, clock)
    change(site, "start_session", {"chargestation": "t", "connector": "2"})
    first = planned(site, tree)
    confirm(site, first[:1])
    clock.at += 6
    meanwhile = planned(site, tree), tree.dispatcher.committed().groups["b"]
    confirm(site, first[1:])
    clock.at += 6
    last = planned(site, tree)
    database.close()

    assert set(known.values()) == {0.0}
    assert limits(raised) == {"1": 22.0}
    assert limits(first) == {"1": 0.0, "2": 0.0}
    assert min(c["seq"] for c in first) > max(c["seq"] for c in raised)
    assert max(c["seq"] for c in first) < 2**53
    assert meanwhile == ([], 22.0)
    assert limits(last) == {"2": 22.0}


def backed_up(url: str, request: pytest.FixtureRequest) -> str:
    """Return a copy of a database that nobody uses."""
    if not url.startswith("postgresql"):
        return str(shutil.copy(url, f"{url}.backup"))
    server, name = request.getfixturevalue("postgres"), f"server_{next(NUMBERS)}"
    database = connect(server.url)
    database.run(f"CREATE DATABASE {name} TEMPLATE {url.split('/')[3].partition('?')[0]}")
    database.close()
    return server.url.replace("/postgres?", f"/{name}?")


def test_a_database_that_is_said_to_be_put_back_is_not_believed(url):
    clock = FakeClock()
    database = opened(url)
    assert take_lead(database, clock)
    site, tree = dispatched(database, clock)
    confirm(site, planned(site, tree))
    clock.at += 6
    before = tree.dispatcher.committed(clock.at).groups["b"]
    # Of an image of a whole disk nobody else can tell.
    if database.name == "postgresql":
        database.run("UPDATE wf_mark SET place = 'put back'")
    database.close()
    if not url.startswith("postgresql"):
        Path(f"{url}.dispatch").unlink()
    database, tree = restarted(site, url, clock)
    after = tree.dispatcher.committed(clock.at).groups["b"]
    database.close()

    assert (before, after) == (0.0, 44.0)


def test_a_server_that_was_deposed_sends_nothing_though_it_cannot_write(tmp_path):
    url, clock = str(tmp_path / "site.db"), FakeClock()
    opened(url).close()

    def fail_once() -> None:
        database.left = -1
        raise NoSpace("the disk is full")

    database = Breaking(url, fail_once)
    site, tree = dispatched(database, clock)
    for _ in range(2):
        confirm(site, planned(site, tree))
        clock.at += 6
    change(site, "stop_session", "t", "2")
    other = opened(url)
    organisation = service_of(other, clock).store.organisation(site.name)
    take_up(other, clock, Manner(), organisation, organisation.trees["b"])
    database.left = 0
    _, error = site.service.plan(tree)
    other.close()
    database.close()

    assert str(error) == "another server has taken the journal over"


@given(
    st.lists(
        st.tuples(
            st.sampled_from([1.0, 20.0, 45.0, 200.0]),
            st.sampled_from([0.0, 1.0, -1.0, 3600.0, -3600.0, 1e8]),
            st.sampled_from(["confirm", "stop", "start", "nothing"]),
        ),
        min_size=3,
        max_size=12,
    )
)
@settings(max_examples=30)
def test_whoever_sets_the_wall_clock_changes_nothing(database, steps):
    steady, wall = 1000.0, [1e9, 1e9]
    clocks = [Clock(lambda n=n: wall[n], lambda: steady) for n in (0, 1)]
    sites = [dispatched(database, clock, lease=60.0) for clock in clocks]
    told: list[list[object]] = [[], []]
    for passed, jump, what in steps:
        steady += passed
        wall[1] += jump
        for n, (site, tree) in enumerate(sites):
            if what == "stop":
                change(site, "stop_session", "t", "1")
            elif what == "start":
                change(site, "start_session", {"chargestation": "t", "connector": "1"})
            commands = planned(site, tree)
            if what == "confirm":
                confirm(site, commands)
            told[n] += [commands, tree.dispatcher.committed().groups["b"]]
    for _, tree in sites:
        tree.dispatcher.close()

    assert told[0] == told[1]


def test_after_a_sleep_leases_are_over_before_anything_is_raised(database):
    steady = 1000.0
    site, tree = dispatched(database, Clock(lambda: 1e9, lambda: steady), lease=60.0)
    confirm(site, planned(site, tree))
    steady += 10
    raised = planned(site, tree)
    confirm(site, raised)
    steady += 6
    change(site, "stop_session", "t", "2")
    # The machine sleeps for an hour: what it knows at once is what the leases left.
    steady += 3600
    commands = planned(site, tree)
    counted = tree.dispatcher.committed().connectors

    assert limits(raised) == {"1": 11.0, "2": 11.0}
    assert limits(commands) == {"1": 22.0, "2": 0.0}
    assert counted == {("t", "1"): 22.0, ("t", "2"): 0.0}


# Stations that cannot be believed


def test_an_absurd_reading_changes_nothing_and_a_true_one_what_others_get(database, caplog):
    clock = FakeClock()
    site, tree = dispatched(database, clock)

    def told() -> dict[str, object]:
        return tree.dispatcher.committed().connectors

    def read(power: float) -> None:
        reading = {"chargestation": "t", "connector": "1", "kind": "meter", "power": power}
        site.do(("report", "b", [reading]))

    for _ in range(3):
        confirm(site, planned(site, tree))
        clock.at += 6
    before = told()
    for power in (1e5, 23.2, 4e6):
        read(power)
        clock.at += 6
        read(power)
    unmoved = told()
    for _ in range(2):
        read(20.0)
        clock.at += 6
    read(20.0)
    after = told()
    lowered = planned(site, tree)

    assert before == unmoved == {("t", "1"): 11.0, ("t", "2"): 11.0}
    assert after == {("t", "1"): 22.0, ("t", "2"): 11.0}
    assert limits(lowered)["2"] == 0.0
    assert [r.connector for r in caplog.records if "than it was told" in r.message] == [("t", "1")]
