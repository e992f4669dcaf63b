"""Two persons for more than was commissioned: without HTTP, by a clock that a test sets."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from servers import opened, service_of

from wattfill.server import migrations
from wattfill.server.commissioning import LASTS, person_of
from wattfill.server.database import Database, connect
from wattfill.server.engine import Engine, Follower
from wattfill.server.keys import FULL
from wattfill.server.refusal import Refusal
from wattfill.server.service import Caller, Service


class FakeClock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.at = 1_000_000.0

    def now(self) -> float:
        return self.at


@dataclass
class Site:
    """An organisation whose group has 100 kW commissioned, and who works there."""

    database: Database
    service: Service
    clock: FakeClock
    people: dict[str, Caller]

    def person(self, name: str, scopes: str = FULL) -> Caller:
        """Give somebody a key; who has one gets another one of the same name."""
        with self.database.transaction():
            key = self.service.create_key("acme", name, scopes)
        return Caller("acme", key.id, frozenset(scopes.split()))

    def do(self, who: str | Caller, name: str, *arguments: object) -> dict:
        caller = self.people[who] if isinstance(who, str) else who
        try:
            with self.database.transaction():
                answer = getattr(self.service, name)(caller, *arguments)
        except BaseException:
            self.service.store.rolled_back()
            raise
        self.service.store.committed()
        return answer

    def ask(self, who: str = "anna", wanted: float = 120.0, **more: object) -> dict:
        return self.do(who, "ask_for_raise", "g", {"commissioned_capacity": wanted, **more})

    @property
    def commissioned(self) -> float:
        return self.service.get_group(self.people["anna"], "g")["commissioned_capacity"]

    def actions(self) -> list[str]:
        changes = self.service.list_changes(self.people["anna"])
        return [change["action"] for change in reversed(changes)]


@pytest.fixture
def site(tmp_path) -> Iterator[Site]:
    database = opened(str(tmp_path / "site.db"))
    database.run("PRAGMA synchronous=OFF")
    clock = FakeClock()
    site = Site(database, service_of(database, clock), clock, {})
    site.people = {name: site.person(name) for name in ("anna", "ben")}
    site.do("anna", "create_group", {"id": "g", "name": "Yard", "maximum_capacity": 100.0})
    yield site
    database.close()


def test_more_is_commissioned_once_another_person_approves_it(site):
    asked = site.ask(note="new fuse")
    waiting = site.service.get_group(site.people["ben"], "g")
    before = site.commissioned
    done = site.do("ben", "approve_raise", asked["_id"])
    site.do("anna", "update_group", "g", {"maximum_capacity": 120.0})

    assert (asked["state"], before) == ("pending", 100.0)
    assert waiting["raise"] == asked
    assert (done["state"], done["decided_by"]) == ("approved", site.people["ben"].key)
    assert (done["asked_by"], done["asked_by_name"]) == (site.people["anna"].key, "anna")
    assert site.service.get_group(site.people["ben"], "g")["raise"] is None
    assert site.commissioned == 120.0
    assert site.actions()[1:] == ["request raise", "approve raise", "change group"]


@pytest.mark.parametrize("field", ["maximum_capacity", "commissioned_capacity"])
def test_a_raise_that_waits_raises_nothing(site, field):
    site.ask()

    for person in ("anna", "ben"):
        with pytest.raises(Refusal) as refusal:
            site.do(person, "update_group", "g", {field: 110.0})
        assert (refusal.value.status, refusal.value.message) == (
            409,
            f"{field} must be at most 100 kW, as was commissioned, got 110.0: ask for a raise, "
            "which another person approves",
        )
    assert site.commissioned == 100.0


def test_nobody_approves_what_they_asked_for_not_even_with_another_key_of_theirs(site):
    asked = site.ask()
    twins = [site.person(name) for name in ("anna", " Anna ")]
    rotated = site.service.rotate_key(site.people["anna"].key)
    twins.append(Caller("acme", rotated.id, frozenset(FULL.split())))

    for caller in (site.people["anna"], *twins):
        with pytest.raises(Refusal) as refusal:
            site.do(caller, "approve_raise", asked["_id"])
        assert (refusal.value.status, refusal.value.message) == (
            403,
            f"raise {asked['_id']!r} must be approved by another person than asked for it, with a "
            "key of another name than 'anna'",
        )
    assert site.commissioned == 100.0
    assert site.do("ben", "approve_raise", asked["_id"])["state"] == "approved"


def test_without_the_scope_nobody_asks_approves_declines_or_commissions(site):
    asked = site.ask()
    other = site.person("carl", "read operate configure")

    for name, *arguments in (
        ("ask_for_raise", "g", {"commissioned_capacity": 200.0}),
        ("approve_raise", asked["_id"]),
        ("decline_raise", asked["_id"]),
        ("update_group", "g", {"commissioned_capacity": 100.5}),
        ("update_group", "g", {"commissioned_capacity": 99.0}),
    ):
        with pytest.raises(Refusal, match="the key must have the scope commission") as refusal:
            site.do(other, name, *arguments)
        assert refusal.value.status == 403


def test_who_declines_and_who_withdraws_is_told_apart(site):
    withdrawn = site.do("anna", "decline_raise", site.ask()["_id"])
    declined = site.do("ben", "decline_raise", site.ask()["_id"])

    assert (withdrawn["state"], declined["state"]) == ("withdrawn", "declined")
    assert site.commissioned == 100.0
    actions = ["request raise", "withdraw raise", "request raise", "decline raise"]
    assert site.actions()[1:] == actions
    for raise_, state in ((withdrawn, "withdrawn"), (declined, "declined")):
        with pytest.raises(Refusal) as refusal:
            site.do("ben", "approve_raise", raise_["_id"])
        assert (refusal.value.status, refusal.value.message) == (
            409,
            f"raise {raise_['_id']!r} must still wait, and it is {state}",
        )


def test_a_group_has_one_raise_that_waits(site):
    asked = site.ask()

    with pytest.raises(Refusal) as refusal:
        site.ask("ben", 130.0)

    assert (refusal.value.status, refusal.value.message) == (
        409,
        f"group 'g' must have one raise that waits, and it has {asked['_id']!r}: have that "
        "approved, declined or withdrawn first",
    )


@pytest.mark.parametrize("wanted", [100.0, 99.0])
def test_a_raise_is_more_than_is_commissioned(site, wanted):
    with pytest.raises(Refusal) as refusal:
        site.ask(wanted=wanted)

    assert (refusal.value.status, refusal.value.message) == (
        422,
        f"commissioned_capacity must be above the 100 kW that are commissioned, got {wanted}",
    )


def test_less_is_at_once_and_back_again_takes_two(site):
    site.do("anna", "update_group", "g", {"maximum_capacity": 80.0, "commissioned_capacity": 80.0})

    assert site.commissioned == 80.0
    with pytest.raises(Refusal, match="maximum_capacity must be at most 80 kW"):
        site.do("anna", "update_group", "g", {"maximum_capacity": 100.0})


def test_who_only_sets_a_lower_capacity_can_set_the_old_one_again(site):
    site.do("anna", "update_group", "g", {"maximum_capacity": 50.0})
    site.do("anna", "update_group", "g", {"maximum_capacity": 100.0})

    assert site.commissioned == 100.0


def test_no_less_is_commissioned_than_the_capacity(site):
    lower = {"commissioned_capacity": 80.0}
    new = {"id": "h", "name": "H", "maximum_capacity": 100.0, **lower}

    for name, *arguments in (("update_group", "g", lower), ("create_group", new)):
        with pytest.raises(Refusal) as refusal:
            site.do("anna", name, *arguments)
        assert (refusal.value.status, refusal.value.message) == (
            422,
            "commissioned_capacity must be at least maximum_capacity, 100 kW, got 80.0",
        )


def test_a_group_is_made_with_what_one_person_commissions(site):
    new = {"id": "h", "name": "H", "maximum_capacity": 50.0, "commissioned_capacity": 60.0}
    made = site.do("anna", "create_group", new)

    assert made["commissioned_capacity"] == 60.0
    site.do("ben", "update_group", "h", {"maximum_capacity": 60.0})


def test_a_raise_that_nobody_approves_in_time_is_over(site):
    asked = site.ask()
    site.clock.at += LASTS

    with pytest.raises(Refusal) as refusal:
        site.do("ben", "approve_raise", asked["_id"])

    assert refusal.value.message == f"raise {asked['_id']!r} must still wait, and it is expired"
    assert site.service.get_group(site.people["anna"], "g")["raise"] is None
    for state, n in (("pending", 0), ("expired", 1)):
        assert len(site.service.list_raises(site.people["ben"], state=state)) == n
    again = site.ask()
    assert again["state"] == "pending"
    assert site.actions()[1:] == ["request raise", "expire raise", "request raise"]
    assert site.service.list_changes(site.people["anna"])[1]["key"] == "server"


def test_what_is_over_is_noted_without_being_asked_and_followers_are_told(site):
    site.ask()
    engine = Engine(site.database, clock=site.clock)

    async def watch() -> list[tuple[str, dict]]:
        follower = Follower("acme", "g", asyncio.get_running_loop(), asyncio.Queue(9))
        engine.start()
        await engine.follow(follower)
        told = [await follower.events.get()]
        site.clock.at += LASTS
        engine._next_look = engine._next_flush = 0.0
        await engine.read(lambda service: service.ping())
        told.append(await follower.events.get())
        engine.unfollow(follower)
        return told

    told = asyncio.run(asyncio.wait_for(watch(), 20))
    engine.stop()

    assert [kind for kind, _ in told] == ["allocation", "configuration"]
    assert [group["raise"] for group in told[1][1]["groups"]] == [None]
    # The engine has closed its connection; the database opens another one.
    assert site.actions()[-1] == "expire raise"


def test_what_was_asked_with_a_key_that_is_revoked_is_not_approved(site):
    asked = site.ask()
    carl = site.person("carl")
    site.service.revoke_key(site.people["anna"].key)

    for caller in (site.people["ben"], carl):
        with pytest.raises(Refusal) as refusal:
            site.do(caller, "approve_raise", asked["_id"])
        assert (refusal.value.status, refusal.value.message) == (
            409,
            f"raise {asked['_id']!r} must be of a key that is still good, and "
            f"{site.people['anna'].key} has been revoked since: decline it",
        )
    assert site.do("ben", "decline_raise", asked["_id"])["state"] == "declined"


def test_who_approves_approves_what_was_shown(site):
    asked = site.ask()
    site.do("ben", "update_group", "g", {"maximum_capacity": 60.0, "commissioned_capacity": 60.0})

    with pytest.raises(Refusal) as refusal:
        site.do("ben", "approve_raise", asked["_id"])

    assert (refusal.value.status, refusal.value.message) == (
        409,
        f"raise {asked['_id']!r} must start from what is commissioned, and that is 60 kW now, not "
        "100: decline it and ask anew",
    )


@pytest.mark.parametrize(
    ("mode", "persons", "state"),
    [
        ("auto", ["anna", "ben"], "pending"),
        ("auto", ["anna"], "approved"),
        ("auto", ["anna", "Anna"], "approved"),
        ("auto", ["anna", "looks only"], "approved"),
        ("auto", ["anna", "expired"], "pending"),
        ("auto", ["anna", "revoked"], "approved"),
        ("always", ["anna"], "pending"),
        ("never", ["anna", "ben"], "approved"),
    ],
)
def test_two_persons_are_needed_where_there_are_two_or_as_is_set(tmp_path, mode, persons, state):
    database = opened(str(tmp_path / "site.db"))
    clock = FakeClock()
    site = Site(database, service_of(database, clock, mode), clock, {})
    for name in persons:
        scopes = "read" if name == "looks only" else FULL
        expires_at = clock.at + 1.0 if name == "expired" else None
        key = site.service.create_key("acme", name, scopes, expires_at)
        site.people.setdefault(name, Caller("acme", key.id, frozenset(FULL.split())))
        if name == "revoked":
            site.service.revoke_key(key.id)
    clock.at += 2.0
    site.do("anna", "create_group", {"id": "g", "name": "Yard", "maximum_capacity": 100.0})
    asked = site.ask()
    at_once = state == "approved"
    try:
        site.do("anna", "update_group", "g", {"maximum_capacity": 200.0})
        changed = True
    except Refusal:
        changed = False

    assert asked["state"] == state
    assert changed == at_once
    assert site.commissioned == (200.0 if at_once else 100.0)
    database.close()


def test_the_log_replays_to_what_is_commissioned(site):
    site.do("ben", "approve_raise", site.ask()["_id"])
    site.do("ben", "decline_raise", site.ask(wanted=500.0)["_id"])
    site.do("ben", "update_group", "g", {"buffer": 0.1})
    site.do("ben", "update_group", "g", {"commissioned_capacity": 110.0})
    site.ask(wanted=400.0)
    site.do("anna", "create_group", {"id": "h", "name": "H", "maximum_capacity": 5.0})
    site.service.two_person = "never"
    site.do("anna", "update_group", "h", {"maximum_capacity": 7.0})

    replayed: dict[str, float] = {}
    for change in reversed(site.service.list_changes(site.people["anna"], limit=200)):
        if change["action"] in ("create group", "change group", "approve raise"):
            now = change["detail"].get("commissioned_capacity", replayed.get(change["target"]))
            replayed[change["target"]] = now

    groups, _ = site.service.list_groups(site.people["anna"])
    assert replayed == {group["_id"]: group["commissioned_capacity"] for group in groups}
    assert replayed == {"g": 110.0, "h": 7.0}


def test_raises_go_with_their_group(site):
    site.ask()
    site.do("ben", "delete_group", "g")

    assert site.service.list_raises(site.people["anna"]) == []


def test_a_raise_waits_while_its_group_moves(site):
    asked = site.ask()
    site.do("anna", "create_group", {"id": "h", "name": "H", "maximum_capacity": 5.0})
    site.do("anna", "update_group", "g", {"parent": "h"})

    assert site.service.get_group(site.people["anna"], "g")["raise"] == asked
    site.do("ben", "approve_raise", asked["_id"])
    assert site.commissioned == 120.0


def test_a_database_of_before_keeps_what_was_commissioned(tmp_path, monkeypatch):
    database = connect(str(tmp_path / "site.db"))
    with monkeypatch.context() as before:
        before.setattr(migrations, "STEPS", migrations.STEPS[:2])
        migrations.migrate(database)
    database.run("INSERT INTO wf_organisation VALUES ('acme', 'acme', 0, '', 0, 0)")
    columns = "organisation, id, root, name, maximum_capacity, minimum_connector_capacity, "
    database.run(
        f"INSERT INTO wf_group ({columns} buffer, reserved, admission, rotation, description, "
        "notes, dispatch, commissioned, version, created_at, updated_at) VALUES "
        "('acme', 'g', 'g', 'Yard', 80, 0, 0, 0, 'fifo', 900, '', '', 0, 100, 1, 0, 0)"
    )

    steps = migrations.migrate(database)

    anna = Caller("acme", "key", frozenset(FULL.split()))
    group = service_of(database).get_group(anna, "g")
    assert steps == (2, len(migrations.STEPS))
    assert (group["commissioned_capacity"], group["raise"]) == (100.0, None)
    database.close()


def test_a_name_is_a_person_however_it_is_written():
    assert person_of("Anna  Ohm ") == person_of("ANNA OHM")
    assert person_of("anna") != person_of("anne")
