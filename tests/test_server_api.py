"""The API of a running server, on a SQLite file and on PostgreSQL."""

import itertools
import json
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from servers import Serving, new_database, new_key, opened, service_of

from wattfill.server import keys
from wattfill.server.api import OPERATIONS, PREFIXES, STREAM
from wattfill.server.keys import SCOPES
from wattfill.server.openapi import SCHEMAS

NUMBERS = itertools.count()
LONG, SHORT = PREFIXES
GROUP = {
    "id": "g1",
    "name": "Park3-E1",
    "description": "east",
    "notes": "by the lift",
    "maximum_capacity": 100,
    "minimum_connector_capacity": 2.5,
    "buffer": 0.1,
    "location": "649be7ca525c000bc98a6c05",
}
STATION = {
    "chargestation": "CS-1",
    "connectors": [
        {"id": "1", "maximum_capacity": 75, "minimum_capacity": 5},
        {"id": 2, "maximum_capacity": 22},
    ],
}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def server(request, tmp_path_factory) -> Iterator[Serving]:
    url = new_database(request, tmp_path_factory.mktemp("server"), "api")
    # Vehicles follow at once, so that what a station confirms is free at once.
    serving = Serving(url, "--log-level", "debug", WATTFILL_LAG="0")
    yield serving
    serving.close()


@pytest.fixture
def organisation() -> str:
    return f"org-{next(NUMBERS)}"


@pytest.fixture
def client(server, organisation) -> Iterator[httpx.Client]:
    with server.client(new_key(server.database, organisation)) as client:
        yield client


@pytest.fixture
def site(client) -> httpx.Client:
    """Return a client of an organisation that has a group with a charge station."""
    assert client.post(f"{SHORT}/groups", json=GROUP).status_code == 200
    assert client.post(f"{LONG}/groups/g1/chargestations", json=STATION).status_code == 200
    return client


def start(client: httpx.Client, connector: str = "1", **terms: object) -> httpx.Response:
    body = {"chargestation": "CS-1", "connector": connector, **terms}
    return client.post(f"{LONG}/sessions", json=body)


def powers(answer: httpx.Response) -> dict[str, float]:
    allocation = answer.json()["result"]
    allocation = allocation.get("allocation", allocation)
    return {plug["connector"]: plug["power"] for plug in allocation["connectors"]}


def refusal(answer: httpx.Response) -> tuple[int, str, list[str]]:
    body = answer.json()
    assert body["ok"] is False
    return answer.status_code, body["message"], [each["field"] for each in body["errors"]]


# Groups


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_group_is_answered_with_its_id_and_all_that_was_stored(client, prefix):
    answer = client.post(f"{prefix}/groups", json=GROUP)

    result = answer.json()["result"]
    assert answer.status_code == 200
    assert result["_id"] == "g1"
    assert {name: result[name] for name in GROUP} == GROUP
    assert client.get(f"{prefix}/groups/g1").json()["result"] == result


def test_a_group_without_an_id_gets_one_of_24_hexadecimal_digits(client):
    body = {name: value for name, value in GROUP.items() if name != "id"}

    id = client.post(f"{SHORT}/groups", json=body).json()["result"]["_id"]

    assert len(id) == 24
    assert int(id, 16) >= 0


def test_a_group_shows_its_charge_stations_sessions_and_allocation(site):
    start(site, maximum=11)

    result = site.get(f"{LONG}/groups/g1").json()["result"]

    [station] = result["chargestations"]
    assert station["_id"] == "CS-1"
    assert [plug["id"] for plug in station["connectors"]] == ["1", "2"]
    assert station["connectors"][0]["session"]["maximum"] == 11
    assert station["connectors"][0]["power"] == 11
    assert station["connectors"][0]["words"] == "at its maximum"
    assert result["allocation"]["usable"] == 90
    assert result["allocation"]["headroom"] == 79


def test_a_change_leaves_what_it_does_not_name(site):
    answer = site.patch(f"{LONG}/groups/g1", json={"buffer": 0.2})

    assert answer.json()["result"]["buffer"] == 0.2
    assert answer.json()["result"]["notes"] == "by the lift"
    assert answer.json()["result"]["allocation"]["usable"] == 80


def test_a_delete_comes_with_a_content_type_and_an_empty_body(site):
    headers = {"Content-Type": "application/json"}

    station = site.delete(f"{LONG}/groups/chargestations/CS-1", headers=headers)
    group = site.delete(f"{LONG}/groups/g1", headers=headers)

    assert station.json()["result"]["_id"] == "CS-1"
    assert group.json()["result"]["_id"] == "g1"
    assert site.get(f"{LONG}/groups/g1").status_code == 404


def test_a_group_that_holds_something_is_not_deleted(site):
    answer = site.delete(f"{SHORT}/groups/g1")

    assert refusal(answer) == (
        409,
        "group 'g1' must be empty to be deleted, and it has 1 charge station and 0 groups below it",
        [],
    )


def test_groups_are_filtered_sorted_and_paged(client):
    for n in range(5):
        body = GROUP | {"id": f"g{n}", "name": f"n{4 - n}", "location": f"at-{n % 2}"}
        client.post(f"{SHORT}/groups", json=body)

    answer = client.get(
        f"{SHORT}/groups", params={"location": "at-0", "sort": "-name", "limit": 2, "offset": 1}
    ).json()

    assert [group["_id"] for group in answer["result"]] == ["g2", "g4"]
    assert answer["page"] == {"total": 3, "limit": 2, "offset": 1}


def test_a_group_moves_below_another_with_all_that_it_holds(site):
    site.post(f"{SHORT}/groups", json=GROUP | {"id": "campus", "maximum_capacity": 20})
    start(site)

    moved = site.patch(f"{SHORT}/groups/g1", json={"parent": "campus"})
    inside = site.get(f"{SHORT}/groups/campus/allocation")
    site.patch(f"{SHORT}/groups/g1", json={"parent": None})
    outside = site.get(f"{SHORT}/groups/campus/allocation")

    assert moved.json()["result"]["parent"] == "campus"
    assert powers(inside) == {"1": 18, "2": 0}
    assert powers(outside) == {}
    assert powers(site.get(f"{SHORT}/groups/g1/allocation")) == {"1": 75, "2": 0}


def test_a_group_does_not_move_below_itself(site):
    site.post(f"{SHORT}/groups", json=GROUP | {"id": "g2", "parent": "g1"})

    answer = site.patch(f"{SHORT}/groups/g1", json={"parent": "g2"})

    assert refusal(answer) == (
        422,
        "parent must not be the group itself or below it, got 'g2'",
        ["parent"],
    )


def test_a_change_is_only_made_to_the_version_that_was_meant(site):
    tag = site.get(f"{SHORT}/groups/g1").headers["ETag"]
    first = site.patch(f"{SHORT}/groups/g1", json={"buffer": 0.2}, headers={"If-Match": tag})

    second = site.patch(f"{SHORT}/groups/g1", json={"buffer": 0.3}, headers={"If-Match": tag})

    assert first.status_code == 200
    assert second.status_code == 412
    assert site.get(f"{SHORT}/groups/g1").json()["result"]["buffer"] == 0.2


# Charge stations


def test_a_change_of_a_station_keeps_the_connectors_that_it_does_not_name(site):
    answer = site.patch(
        f"{LONG}/groups/chargestations/CS-1",
        json={"connectors": [{"id": "1", "maximum_capacity": 50}]},
    )

    plugs = answer.json()["result"]["connectors"]
    assert [(p["id"], p["maximum_capacity"], p["minimum_capacity"]) for p in plugs] == [
        ("1", 50, 5),
        ("2", 22, None),
    ]
    assert site.get(f"{LONG}/groups/chargestations/CS-1").json() == answer.json()


def test_a_station_is_in_one_group(site):
    site.post(f"{SHORT}/groups", json=GROUP | {"id": "g2"})

    answer = site.post(f"{SHORT}/groups/g2/chargestations", json=STATION)

    assert refusal(answer) == (
        409,
        "chargestation must not be that of another charge station, got 'CS-1', which is in group "
        "'g1'",
        ["chargestation"],
    )


def test_a_connector_below_the_minimum_of_its_group_is_refused(site):
    body = {"chargestation": "CS-2", "connectors": [{"id": "1", "maximum_capacity": 2}]}

    answer = site.post(f"{SHORT}/groups/g1/chargestations", json=body)

    assert refusal(answer) == (
        422,
        "connectors[0].maximum_capacity must be at least 2.5, the minimum_connector_capacity of "
        "group 'g1', got 2.0",
        ["connectors[0].maximum_capacity"],
    )


# Sessions


def test_each_change_of_a_session_is_answered_with_the_allocation(site):
    started = start(site)
    both = start(site, "2")
    changed = site.patch(f"{LONG}/sessions/CS-1/1", json={"maximum": 10})
    stopped = site.delete(f"{LONG}/sessions/CS-1/1")

    assert started.json()["result"]["_id"] == "CS-1/1"
    assert powers(started) == {"1": 75, "2": 0}
    assert powers(both) == {"1": 68, "2": 22}
    assert powers(changed) == {"1": 10, "2": 22}
    assert powers(stopped) == {"1": 0, "2": 22}
    assert [s["_id"] for s in site.get(f"{LONG}/sessions").json()["result"]] == ["CS-1/2"]


def test_a_connector_has_one_session(site):
    start(site)

    assert refusal(start(site)) == (
        409,
        "connector must be free, but '1' of charge station 'CS-1' has a session",
        ["connector"],
    )


def test_a_session_does_not_start_in_the_future(site):
    assert refusal(start(site, started_at=9e9))[0] == 422


# What is refused


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"buffer": NaN}', "the body must be JSON, which has no NaN"),
        (b'{"buffer": -Infinity}', "the body must be JSON, which has no -Infinity"),
        (b'{"buffer": 1e999}', "the body must hold numbers that fit a double, got 1e999"),
        (b'{"buffer": 0, "buffer": 1}', "the body must have each key once, got 'buffer' twice"),
        (b'{"name": "\\ud800"}', "the body must hold no lone surrogates and no U+0000"),
        (b'{"name": "\\u0000"}', "the body must hold no lone surrogates and no U+0000"),
        (b'{"buffer": ' + b"1" * 5000 + b"}", "the body must hold numbers of at most 40 digits"),
        (b"[" * 100_000, "the body must not be nested so deeply"),
        (b'{"a":' * 100_000, "the body must not be nested so deeply"),
        (b"\xff", "the body must be UTF-8, got byte 0 that is not"),
        (b"", "the body must be JSON"),
        (b"{} x", "the body must be JSON"),
    ],
)
def test_what_is_no_json_is_refused(site, body, message):
    headers = {"Content-Type": "application/json"}

    answer = site.patch(f"{SHORT}/groups/g1", content=body, headers=headers)

    assert refusal(answer)[0] == 400
    assert refusal(answer)[1].startswith(message)


def test_every_field_that_is_wrong_is_named(client):
    body = {"nam": "x", "maximum_capacity": "100", "buffer": 1.5, "location": "a b", "_id": "x"}

    answer = client.post(f"{SHORT}/groups", json=body)

    assert refusal(answer) == (
        422,
        "nam must be one of the known fields; did you mean name? (6 fields are wrong)",
        ["nam", "maximum_capacity", "buffer", "location", "_id", "name"],
    )


@pytest.mark.parametrize(
    "id",
    ["a%0A", "a%00", "..%2f..", "%D9%A1", "a%20b", "a" * 65, "%F0%9F%98%80", "a'--", "a;b"],
)
def test_an_id_of_other_characters_is_refused(site, id):
    answers = [
        site.get(f"{SHORT}/groups/{id}"),
        site.delete(f"{SHORT}/groups/chargestations/{id}"),
        site.get(f"{SHORT}/groups", params={"location": "a\n"}),
    ]

    assert {answer.status_code for answer in answers} <= {404, 422}
    assert site.get(f"{SHORT}/groups").json()["page"]["total"] == 1


@pytest.mark.parametrize("id", ["a\n", "a\0", "../x", "\u0661", "", "a" * 65, "chargestations"])
def test_a_group_is_not_given_such_an_id(client, id):
    answer = client.post(f"{SHORT}/groups", json=GROUP | {"id": id})

    # U+0000 is no JSON that is taken at all.
    assert answer.status_code == (400 if id == "a\0" else 422)
    assert client.get(f"{SHORT}/groups").json()["page"]["total"] == 0


def test_a_large_body_is_refused_before_it_is_read(client):
    large = b" " * (2 << 20)
    headers = {"Content-Type": "application/json"}

    told = client.post(f"{SHORT}/groups", content=large, headers=headers)
    chunked = client.post(f"{SHORT}/groups", content=iter([large[:9000]] * 233), headers=headers)

    assert refusal(told) == (413, "the body must have at most 1048576 bytes", [])
    assert refusal(chunked) == refusal(told)


def test_no_station_has_more_connectors_than_it_may(client):
    client.post(f"{SHORT}/groups", json=GROUP)
    plugs = [{"id": str(n), "maximum_capacity": 22} for n in range(65)]
    body = {"chargestation": "CS-1", "connectors": plugs}
    million = b'{"chargestation":"CS-1","connectors":[' + b'{"id":"1"},' * 10**6 + b"{}]}"
    headers = {"Content-Type": "application/json"}
    path = f"{SHORT}/groups/g1/chargestations"

    some = client.post(path, json=body)
    many = client.post(path, content=million, headers=headers)

    assert refusal(some) == (
        422,
        "connectors must be a list of 1 to 64 objects, got 65 items",
        ["connectors"],
    )
    assert many.status_code == 413


def test_an_encoded_body_and_another_media_type_are_refused(client):
    gzip = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    text = {"Content-Type": "text/plain"}

    answers = [client.post(f"{SHORT}/groups", content=b"{}", headers=h) for h in (gzip, text)]

    assert [answer.status_code for answer in answers] == [415, 415]


def test_an_unknown_parameter_is_refused(client):
    answer = client.get(f"{SHORT}/groups", params={"lokation": "x"})

    assert refusal(answer)[0] == 422


def test_other_methods_and_paths_are_refused_in_the_same_envelope(client):
    method = client.put(f"{SHORT}/groups")
    path = client.get("/nowhere")

    assert refusal(method)[0] == 405
    assert set(method.headers["Allow"].split(", ")) >= {"GET", "POST"}
    assert refusal(path) == (404, "there is nothing at this path", [])


# Keys


def test_without_a_valid_key_every_answer_is_the_same(server):
    key, revoked = (new_key(server.database, "keys") for _ in range(2))
    other = key.replace("_live_", "_test_")
    unknown = keys.make()
    # Of a key that is there, with the secret of none, and checksums that fit.
    wrong = f"wf_live_{key.split('_')[2]}_{unknown.text.split('_')[3]}"
    wrong = f"{wrong}_{zlib.crc32(wrong.encode()):08x}"
    database = opened(server.database)
    with database.transaction():
        service_of(database).revoke_key(revoked.split("_")[2])
    database.close()
    answers = set()

    for header in (
        "",
        "Bearer",
        f"Bearer {key}0",
        f"Bearer {other}",
        f"Basic {key}",
        "Bearer wf_live_x_y_z",
        f"Bearer {unknown.text}",
        f"Bearer {wrong}",
        f"Bearer {revoked}",
    ):
        answer = httpx.get(f"{server.url}{SHORT}/groups", headers={"Authorization": header})
        headers = [(n, v) for n, v in answer.headers.items() if n not in ("x-request-id", "date")]
        answers.add((answer.status_code, answer.text, tuple(headers)))

    assert keys.split(wrong) is not None
    assert len(answers) == 1
    assert answers.pop()[0] == 401


@pytest.mark.parametrize("scope", SCOPES)
def test_a_key_does_what_its_scope_allows_and_nothing_else(server, organisation, scope):
    allowed, refused = set(), set()
    with server.client(new_key(server.database, organisation, scope)) as client:
        for operation in OPERATIONS:
            path = operation.path.replace("{", "").replace("}", "")
            answer = client.request(operation.method, f"{SHORT}{path}", json={})
            (refused if answer.status_code == 403 else allowed).add(operation.name)

    assert allowed == {o.name for o in OPERATIONS if o.scope == scope}
    assert refused == {o.name for o in OPERATIONS if o.scope != scope}


def test_only_who_commissions_raises_what_a_group_may_draw(server, organisation, site):
    with server.client(new_key(server.database, organisation, "read configure")) as other:
        raised = other.patch(f"{SHORT}/groups/g1", json={"maximum_capacity": 101})
        lowered = other.patch(f"{SHORT}/groups/g1", json={"maximum_capacity": 50})
        back = other.patch(f"{SHORT}/groups/g1", json={"maximum_capacity": 100})
        created = other.post(f"{SHORT}/groups", json=GROUP | {"id": "g2"})

    assert [a.status_code for a in (raised, lowered, back, created)] == [403, 200, 200, 403]
    assert refusal(raised)[1:] == (
        "maximum_capacity must be at most 100 kW, as was commissioned, without the scope "
        "commission, got 101.0",
        ["maximum_capacity"],
    )


def test_an_id_of_another_organisation_in_a_body_is_as_one_that_is_not_there(server, site):
    with server.client(new_key(server.database, f"foreign-{next(NUMBERS)}")) as other:
        other.post(f"{SHORT}/groups", json=GROUP | {"id": "own"})
        answers = []
        for group, station in (("g1", "CS-1"), ("g9", "CS-9")):
            body = {"chargestation": station, "connector": "1"}
            both = [
                other.post(f"{SHORT}/groups", json=GROUP | {"id": "new", "parent": group}),
                other.patch(f"{SHORT}/groups/own", json={"parent": group}),
                other.post(f"{SHORT}/sessions", json=body),
                other.get(f"{SHORT}/sessions", params={"group": group}),
            ]
            answers.append(
                [(a.status_code, a.text.replace(group, "G").replace(station, "S")) for a in both]
            )
        added = other.post(f"{SHORT}/groups/own/chargestations", json=STATION)

    assert answers[0] == answers[1]
    assert [status for status, _ in answers[0]] == [422, 422, 404, 404]
    # Each organisation has ids of its own.
    assert added.status_code == 200


def test_what_is_only_answered_cannot_be_set(site):
    answered = set(SCHEMAS["Group"]["properties"])
    taken = {o.name: set(o.model.by_name) for o in OPERATIONS if o.model is not None}
    names = answered - taken["create_group"] - taken["update_group"]
    for name in [*names, "organisation", "root", "committed", "key_id"]:
        created = site.post(f"{SHORT}/groups", json=GROUP | {"id": "new", name: 1})
        changed = site.patch(f"{SHORT}/groups/g1", json={name: 1})
        for answer in (created, changed):
            assert (answer.status_code, refusal(answer)[2]) == (422, [name])

    assert {"_id", "version", "raise", "allocation", "created_at"} <= names


def test_streams_and_metrics_have_scopes_of_their_own(server, organisation, site):
    statuses = {}
    for scope in SCOPES:
        with server.client(new_key(server.database, organisation, scope)) as client:
            stream = client.head(f"{SHORT}/groups/g1/stream").status_code
            statuses[scope] = stream, client.get("/metrics").status_code

    assert statuses == {
        "read": (200, 403),
        "operate": (403, 403),
        "configure": (403, 403),
        "commission": (403, 403),
        "monitor": (403, 200),
    }


def test_what_is_streamed_to_be_sent_is_not_for_who_only_looks(server, organisation, site):
    site.post(f"{SHORT}/groups", json={"id": "yard", "name": "Yard", "maximum_capacity": 22})
    site.patch(f"{SHORT}/groups/yard", json={"dispatch": True})
    answers = []
    for scopes in ("read", "read operate"):
        with server.client(new_key(server.database, organisation, scopes)) as client:
            answers.append(client.head(f"{SHORT}/groups/yard/stream").status_code)

    assert answers == [403, 200]


@pytest.fixture
def second(server, organisation) -> Iterator[httpx.Client]:
    """Return a client of another person of the same organisation."""
    with server.client(new_key(server.database, organisation, name="second")) as client:
        yield client


def ask(client: httpx.Client, wanted: float = 120, **headers: str) -> httpx.Response:
    body = {"commissioned_capacity": wanted, "note": "new fuse"}
    return client.post(f"{LONG}/groups/g1/raises", json=body, headers=headers)


def test_more_is_commissioned_by_two_persons(site, second):
    asked = ask(site).json()["result"]
    path = f"{LONG}/raises/{asked['_id']}"
    meanwhile = [
        c.patch(f"{LONG}/groups/g1", json={"maximum_capacity": 120}) for c in (site, second)
    ]
    alone = site.post(f"{path}/approve")
    listed = second.get(f"{LONG}/raises", params={"state": "pending", "group": "g1"})
    shown = second.get(f"{LONG}/groups/g1").json()["result"]
    done = second.post(f"{path}/approve").json()["result"]
    again = second.post(f"{path}/approve")
    changed = site.patch(f"{LONG}/groups/g1", json={"maximum_capacity": 120})

    assert [answer.status_code for answer in meanwhile] == [409, 409]
    assert alone.status_code == 403
    assert listed.json()["result"] == [asked]
    assert (shown["raise"], shown["commissioned_capacity"]) == (asked, 100)
    assert done == site.get(path).json()["result"]
    assert done | {"state": "pending", "decided_by": None, "decided_at": None} == asked
    assert refusal(again)[:2] == (
        409,
        f"raise {asked['_id']!r} must still wait, and it is approved",
    )
    assert changed.json()["result"]["commissioned_capacity"] == 120
    actions = [(c["action"], c["key"]) for c in site.get(f"{LONG}/changes").json()["result"][:3]]
    assert actions == [
        ("change group", asked["asked_by"]),
        ("approve raise", done["decided_by"]),
        ("request raise", asked["asked_by"]),
    ]


def test_what_was_asked_is_declined_or_withdrawn(site, second):
    first = ask(site).json()["result"]["_id"]
    taken = ask(second, 130)
    declined = second.post(f"{LONG}/raises/{first}/decline").json()["result"]
    other = ask(second, 130).json()["result"]["_id"]
    withdrawn = second.post(f"{LONG}/raises/{other}/decline").json()["result"]

    assert taken.status_code == 409
    assert (declined["state"], withdrawn["state"]) == ("declined", "withdrawn")
    assert site.get(f"{LONG}/groups/g1").json()["result"]["commissioned_capacity"] == 100


def test_a_raise_that_is_sent_again_is_asked_for_and_approved_once(site, second):
    key = {"Idempotency-Key": "raise"}
    answers = [ask(site, **key) for _ in range(2)]
    path = f"{LONG}/raises/{answers[0].json()['result']['_id']}/approve"
    approvals = [second.post(path, headers={"Idempotency-Key": "approve"}) for _ in range(2)]

    for first, replayed in (answers, approvals):
        assert first.status_code == 200
        assert first.text == replayed.text
        assert replayed.headers["Idempotent-Replayed"] == "true"
    assert len(site.get(f"{LONG}/raises").json()["result"]) == 1


def test_two_who_approve_at_once_approve_once(server, organisation, site, second):
    asked = ask(site).json()["result"]
    third = server.client(new_key(server.database, organisation, name="third"))
    with third, ThreadPoolExecutor(2) as pool:
        approve = f"{LONG}/raises/{asked['_id']}/approve"
        statuses = sorted(
            answer.status_code for answer in pool.map(lambda c: c.post(approve), (second, third))
        )

    assert statuses == [200, 409]


def test_one_person_alone_commissions_at_once(site):
    asked = ask(site).json()["result"]
    changed = site.patch(f"{LONG}/groups/g1", json={"maximum_capacity": 150}).json()["result"]

    assert (asked["state"], asked["decided_by"]) == ("approved", asked["asked_by"])
    assert changed["commissioned_capacity"] == 150


def test_what_is_anothers_is_answered_like_what_is_not_there(server, site, second):
    asked = ask(site).json()["result"]["_id"]
    with server.client(new_key(server.database, f"foreign-{next(NUMBERS)}")) as other:
        for operation in OPERATIONS:
            if "{" not in operation.path:
                continue
            body = operation.model.example() if operation.model else None
            if body is not None:
                body.pop("dispatch", None)
                body.pop("id", None)
                body = {name: value for name, value in body.items() if value is not None}
            answers = []
            for ids in (("g1", "CS-1", "1", asked), ("g9", "CS-9", "9", "99")):
                path = operation.path
                names = ("group", "chargestation", "connector", "raise")
                for name, id in zip(names, ids, strict=True):
                    path = path.replace(f"{{{name}}}", id)
                answer = other.request(operation.method, f"{SHORT}{path}", json=body)
                text = answer.text.replace(ids[0], "G").replace(ids[1], "S")
                text = text.replace(f"'{ids[3]}'", "R")
                answers.append((operation.name, answer.status_code, text))
            assert answers[0] == answers[1]
            assert answers[0][1] == 404
        streams = [other.get(f"{SHORT}{STREAM.format(group=id)}") for id in ("g1", "g9")]
        assert [answer.status_code for answer in streams] == [404, 404]
        assert streams[0].text.replace("g1", "G") == streams[1].text.replace("g9", "G")
        for path in ("groups", "raises", "sessions", "changes"):
            assert other.get(f"{SHORT}/{path}").json()["result"] == []
        assert other.get(f"{SHORT}/raises", params={"group": "g1"}).status_code == 404

    assert site.get(f"{SHORT}/raises/{asked}").json()["result"]["state"] == "pending"
    assert site.get(f"{SHORT}/groups").json()["page"]["total"] == 1


# Requests that come again


def test_eighty_requests_with_ten_keys_create_ten_groups(client):
    def create(n: int) -> httpx.Response:
        headers = {"Idempotency-Key": f"key-{n % 10}"}
        body = {"name": f"group {n % 10}", "maximum_capacity": 10}
        return client.post(f"{SHORT}/groups", json=body, headers=headers)

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(create, range(80)))

    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 10
    assert client.get(f"{SHORT}/groups").json()["page"]["total"] == 10


def test_an_idempotency_key_stands_for_one_request(client):
    headers = {"Idempotency-Key": "once"}
    client.post(f"{SHORT}/groups", json=GROUP, headers=headers)

    answer = client.post(f"{SHORT}/groups", json=GROUP | {"name": "x"}, headers=headers)

    assert refusal(answer)[0] == 422


def test_what_was_refused_may_be_asked_again_with_the_same_idempotency_key(client):
    headers = {"Idempotency-Key": "again"}
    bad = client.post(f"{SHORT}/groups", json=GROUP | {"parent": "p"}, headers=headers)
    client.post(f"{SHORT}/groups", json=GROUP | {"id": "p"})

    good = client.post(f"{SHORT}/groups", json=GROUP | {"parent": "p"}, headers=headers)

    assert (bad.status_code, good.status_code) == (422, 200)


# The log


def test_the_log_tells_who_changed_what(site):
    start(site)

    changes = site.get(f"{SHORT}/changes").json()["result"]

    assert [(c["revision"], c["action"], c["target"]) for c in changes] == [
        (3, "start session", "CS-1/1"),
        (2, "add chargestation", "CS-1"),
        (1, "create group", "g1"),
    ]
    assert len({c["key"] for c in changes}) == 1


def test_what_is_refused_is_not_in_the_log(site):
    site.delete(f"{SHORT}/groups/g1")
    site.post(f"{SHORT}/groups", json={})

    assert len(site.get(f"{SHORT}/changes").json()["result"]) == 2


# Streams


class Stream:
    """The events of a group, as they come."""

    def __init__(self, client: httpx.Client, group: str) -> None:
        self._context = client.stream("GET", f"{SHORT}/groups/{group}/stream", timeout=20)
        self.response = self._context.__enter__()
        self._lines = self.response.iter_lines()

    def next(self, kind: str) -> dict | list:
        """Return the data of the next event of a kind."""
        found = ""
        for line in self._lines:
            if line.startswith("event: "):
                found = line.removeprefix("event: ")
            elif line.startswith("data: ") and found == kind:
                return json.loads(line.removeprefix("data: "))
        raise AssertionError("the stream has ended")

    def close(self) -> None:
        self._context.__exit__(None, None, None)


def test_a_stream_tells_what_holds_and_what_changes(site):
    stream = Stream(site, "g1")
    first = stream.next("allocation")
    start(site)
    second = stream.next("allocation")
    site.delete(f"{SHORT}/groups/chargestations/CS-1")
    site.delete(f"{SHORT}/groups/g1")
    last = stream.next("deleted")
    stream.close()

    assert [plug["power"] for plug in first["connectors"]] == [0, 0]
    assert [plug["power"] for plug in second["connectors"]] == [75, 0]
    assert last == {"_id": "g1"}


def test_a_stream_tells_what_is_configured_and_commissioned(site, second):
    stream = Stream(site, "g1")
    stream.next("allocation")
    asked = ask(site).json()["result"]
    told = [stream.next("configuration")]
    second.post(f"{LONG}/raises/{asked['_id']}/approve")
    told.append(stream.next("configuration"))
    site.patch(f"{LONG}/groups/g1", json={"buffer": 0.5})
    told.append(stream.next("configuration"))
    stream.close()

    groups = [event["groups"][0] for event in told]
    assert {event["_id"] for event in told} == {"g1"}
    assert [group["raise"] for group in groups] == [asked, None, None]
    assert [group["commissioned_capacity"] for group in groups] == [100, 120, 120]
    assert [group["buffer"] for group in groups] == [0.1, 0.1, 0.5]
    shown = site.get(f"{LONG}/groups/g1").json()["result"]
    assert groups[-1] == {name: shown[name] for name in groups[-1]}


def test_a_dispatched_group_raises_only_what_is_confirmed_to_be_free(client):
    client.post(f"{SHORT}/groups", json={"id": "yard", "name": "Yard", "maximum_capacity": 22})
    for station in ("CS-1", "CS-2"):
        plug = {"id": "1", "maximum_capacity": 22, "minimum_capacity": 4, "fallback": 0}
        body = {"chargestation": station, "connectors": [plug]}
        client.post(f"{SHORT}/groups/yard/chargestations", json=body)
    dispatched = client.patch(f"{SHORT}/groups/yard", json={"dispatch": True})
    stream = Stream(client, "yard")

    def confirm(commands: list[dict]) -> None:
        known = [
            {k: c[k] for k in ("chargestation", "connector", "seq")} | {"kind": "confirm"}
            for c in commands
        ]
        body = {"confirmations": known}
        answer = client.post(f"{SHORT}/groups/yard/confirmations", json=body)
        assert answer.status_code == 200, answer.text

    at_first = stream.next("commands")
    confirm(at_first)
    client.post(f"{SHORT}/sessions", json={"chargestation": "CS-1", "connector": "1"})
    raised = stream.next("commands")
    confirm(raised)
    client.post(f"{SHORT}/sessions", json={"chargestation": "CS-2", "connector": "1"})
    lowered = stream.next("commands")
    waiting = client.get(f"{SHORT}/groups/yard/allocation").json()["result"]["waiting"]
    confirm(lowered)
    given = stream.next("commands")
    stream.close()

    def told(commands: list[dict]) -> list[tuple[str, float, str]]:
        return [(c["chargestation"], c["limit"], c["why"]) for c in commands]

    assert dispatched.status_code == 200
    assert [limit for _, limit, _ in told(at_first)] == [0, 0]
    assert told(raised) == [("CS-1", 22, "increase")]
    assert told(lowered) == [("CS-1", 11, "decrease")]
    assert waiting[0].startswith("CS-2 1 waits to go from 0 to 11 kW")
    assert told(given) == [("CS-2", 11, "increase")]


def test_what_a_station_measures_raises_nothing(client):
    client.post(f"{SHORT}/groups", json={"id": "yard", "name": "Yard", "maximum_capacity": 22})
    plugs = [{"id": id, "maximum_capacity": 22, "fallback": 0} for id in "12"]
    body = {"chargestation": "CS-1", "connectors": plugs}
    client.post(f"{SHORT}/groups/yard/chargestations", json=body)
    client.patch(f"{SHORT}/groups/yard", json={"dispatch": True})
    stream = Stream(client, "yard")
    stream.next("commands")
    path = f"{SHORT}/groups/yard/confirmations"

    def committed() -> list[float]:
        allocation = client.get(f"{SHORT}/groups/yard/allocation").json()["result"]
        return [plug["committed"] for plug in allocation["connectors"]]

    def measure(power: object) -> int:
        report = {"chargestation": "CS-1", "connector": "1", "kind": "meter", "power": power}
        return client.post(path, json={"confirmations": [report]}).status_code

    before = committed()
    statuses = [measure(power) for power in (0.0, 21.9, 1e6, 1e9, -1.0, 1e300, "7", None)]
    after = committed()
    stream.close()

    assert statuses == [200, 200, 200, 200, 422, 422, 422, 422]
    assert all(now <= then for now, then in zip(after, before, strict=True))


def test_a_group_whose_fallbacks_do_not_fit_is_not_dispatched(site):
    answer = site.patch(f"{SHORT}/groups/g1", json={"dispatch": True})

    status, message, _ = refusal(answer)
    assert status == 409
    assert message.startswith("the fallbacks of all connectors below a group must fit its usable")
    assert site.get(f"{SHORT}/groups/g1").json()["result"]["dispatch"] is False


def test_a_station_that_would_not_fit_is_refused_where_its_group_is_dispatched(client):
    client.post(f"{SHORT}/groups", json={"id": "yard", "name": "Yard", "maximum_capacity": 22})
    client.patch(f"{SHORT}/groups/yard", json={"dispatch": True})
    body = {"chargestation": "CS-1", "connectors": [{"id": "1", "maximum_capacity": 23}]}

    answer = client.post(f"{SHORT}/groups/yard/chargestations", json=body)

    assert answer.status_code == 409
    assert client.get(f"{SHORT}/groups/yard").json()["result"]["chargestations"] == []
    assert client.get(f"{SHORT}/groups/chargestations/CS-1").status_code == 404


def test_a_confirmation_of_what_was_never_sent_is_refused(site):
    known = [{"chargestation": "CS-1", "connector": "1", "kind": "confirm", "seq": 1}]

    answer = site.post(f"{SHORT}/groups/g1/confirmations", json={"confirmations": known})

    assert refusal(answer) == (409, "group 'g1' must be dispatched: set its dispatch", [])


# How it goes


def test_the_server_says_how_it_goes(server, site):
    with server.client(new_key(server.database, "monitoring", "monitor")) as monitor:
        metrics = monitor.get("/metrics").text

    assert httpx.get(f"{server.url}/healthz").status_code == 200
    assert httpx.get(f"{server.url}/readyz").status_code == 200
    assert httpx.get(f"{server.url}/metrics").status_code == 401
    assert 'wattfill_requests_total{method="POST",route="/v1.1/groups",status="200"}' in metrics
    for name in ("overloads_prevented_total", "pending_increases", "request_seconds_bucket"):
        assert f"wattfill_{name}" in metrics


def test_every_answer_has_the_headers_that_browsers_heed(server):
    headers = httpx.get(f"{server.url}/healthz").headers

    assert headers["X-Content-Type-Options"] == "nosniff"
    # No page of another host may read an answer.
    asked = {"Origin": "http://evil.example", "Access-Control-Request-Method": "GET"}
    for method in ("OPTIONS", "GET"):
        answer = httpx.request(method, f"{server.url}{SHORT}/groups", headers=asked)
        assert not [name for name in answer.headers if name.startswith("access-control-")]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "server" not in headers


def test_no_key_is_in_the_log(server, site):
    key = site.headers["Authorization"].removeprefix("Bearer ")
    site.get(f"{SHORT}/groups", params={"location": key, "key": key})
    site.get(f"/{key}")
    secret = key.split("_")[3]

    assert '"route": "/v1.1/groups"' in server.log()
    assert secret not in server.log()


def test_the_published_description_has_every_route(server):
    document = httpx.get(f"{server.url}/openapi.json").json()

    published = {
        (method.upper(), path) for path, item in document["paths"].items() for method in item
    }
    due = {(o.method, f"{prefix}{o.path}") for prefix in PREFIXES for o in OPERATIONS}
    assert published == due | {("GET", f"{prefix}/groups/{{group}}/stream") for prefix in PREFIXES}


def test_many_who_start_and_stop_at_once_leave_one_order_of_events(site):
    barrier = threading.Barrier(8)

    def toggle(_: int) -> list[int]:
        barrier.wait()
        statuses = []
        for _ in range(5):
            statuses.append(start(site).status_code)
            statuses.append(site.delete(f"{SHORT}/sessions/CS-1/1").status_code)
        return statuses

    with ThreadPoolExecutor(8) as pool:
        statuses = [status for each in pool.map(toggle, range(8)) for status in each]

    changes = site.get(f"{SHORT}/changes", params={"limit": 200}).json()["result"]
    actions = [c["action"] for c in reversed(changes)][2:]
    assert set(statuses) <= {200, 404, 409}
    assert statuses.count(200) == len(actions)
    assert set(actions[::2]) == {"start session"}
    assert set(actions[1::2]) == {"stop session"}
