"""The server without HTTP: what it keeps, whom it tells what, its settings and its commands."""

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schemathesis_checks import FOREIGN
from servers import Serving, new_key, opened, service_of

from wattfill.cli import main
from wattfill.errors import InputError
from wattfill.server import keys, migrations
from wattfill.server import settings as server_settings
from wattfill.server.database import Database, DatabaseError, NoSpace, connect
from wattfill.server.engine import Engine, Follower
from wattfill.server.limits import Limiter
from wattfill.server.openapi import document
from wattfill.server.refusal import Refusal
from wattfill.server.service import Caller, Service
from wattfill.server.store import Store, verify_log


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
