"""The panel over HTTP, as a running server answers it, on a SQLite file; the main ways on both."""

import itertools
import re
from collections.abc import Iterator
from html.parser import HTMLParser

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from servers import Serving, new_database, new_key, opened, service_of

from wattfill.server.database import connect
from wattfill.server.keys import FULL, READ_ONLY, SCOPES
from wattfill.server.panel import history, login
from wattfill.server.panel.pages import Form, _Panel
from wattfill.server.refusal import Refusal
from wattfill.server.service import Caller

NUMBERS = itertools.count()
FORMS = _Panel().forms
PAGES = [
    "/admin/locations",
    "/admin/locations/park",
    "/admin/unplaced",
    "/admin/locations/park/changes",
    "/admin/unplaced/changes",
    "/admin/raises",
    "/admin/groups/{group}",
    "/admin/groups/{group}/last-day",
    *(form.path for form in FORMS if form.has_page),
]
TABLES = ("wf_group", "wf_station", "wf_session", "wf_raise", "wf_change")
HOSTILE = ["<img src=x onerror=alert(1)>", "{{7777*7777}}", "\"'><script>alert(1)</script>", "=1+1"]
IDS = {"group": "g1", "chargestation": "CS-1", "connector": "1"}
FILLED = {
    "name": "Renamed",
    "maximum_capacity": "55",
    "buffer": "0.5",
    "version": "2",
    "chargestation": "CS-9",
    "connectors[0].id": "1",
    "connectors[0].maximum_capacity": "5",
    "commissioned_capacity": "130",
}
"""What some form does something with."""


class Found(HTMLParser):
    """What a page holds: its forms, by where they are sent, and what might run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.forms: dict[str, dict[str, str]] = {}
        self.ids: set[str] = set()
        self.inline: list[str] = []
        self.hosts: list[str] = []
        self.texts: list[str] = []
        self.links: dict[str, str] = {}
        self._form: dict[str, str] | None = None
        self._area: str | None = None
        self._select: str | None = None
        self._link: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, pairs: list[tuple[str, str | None]]) -> None:
        have = {name: value or "" for name, value in pairs}
        self.ids.add(have.get("id", ""))
        self.inline += [name for name in have if name.startswith("on") or name == "style"]
        if tag == "style" or (tag == "script" and "src" not in have):
            self.inline.append(tag)
        self.hosts += [
            have[name] for name in ("src", "href", "action") if "//" in have.get(name, "")
        ]
        if tag == "a":
            self._link = have.get("href")
        if tag == "form":
            self._form = self.forms.setdefault(have["action"], {})
        if self._form is None:
            return
        if tag == "input" and "name" in have:
            if have.get("type") != "radio" or "checked" in have:
                self._form[have["name"]] = have.get("value", "")
        elif tag == "textarea":
            self._area = have["name"]
            self._form[self._area] = ""
        elif tag == "select":
            self._select = have["name"]
            self._form[self._select] = ""
        elif tag == "option" and "selected" in have:
            self._form[self._select or ""] = have["value"]

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form = None
        if tag == "textarea":
            self._area = None
        if tag == "a":
            self._link = None

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self._area is not None and self._form is not None:
            self._form[self._area] += data.removeprefix("\n")
        if self._link is not None:
            self.links[data.strip()] = self._link

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


VISITS: list["Visit"] = []


@pytest.fixture(autouse=True)
def _leave() -> Iterator[None]:
    yield
    while VISITS:
        VISITS.pop().client.close()


class Visit:
    """Somebody at the panel."""

    def __init__(self, server: Serving, key: str) -> None:
        self.client = httpx.Client(base_url=server.url, headers={"Origin": server.url}, timeout=20)
        VISITS.append(self)
        login = Found(self.client.get("/admin/login").text).forms["/admin/login"]
        self.answer = self.client.post("/admin/login", data={**login, "key": key})

    def look(self, path: str) -> Found:
        answer = self.client.get(path)
        assert answer.status_code == 200, (path, answer.text)
        return Found(answer.text)

    def send(self, page: str, action: str, **typed: str) -> httpx.Response:
        """Fill in a form of a page and send it."""
        return self.client.post(action, data={**self.look(page).forms[action], **typed})


on_both_databases = pytest.mark.parametrize("server", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture(scope="module")
def server(request, tmp_path_factory) -> Iterator[Serving]:
    serving = Serving(new_database(request, tmp_path_factory.mktemp("panel"), "panel"))
    yield serving
    serving.close()


@pytest.fixture
def organisation() -> str:
    return f"org-{next(NUMBERS)}"


@pytest.fixture
def visit(server, organisation) -> Visit:
    """Return somebody at the panel of an organisation with a group, a station and a session.

    A second person has asked for more to be commissioned.
    """
    key = new_key(server.database, organisation)
    fill(server, key)
    ask(server, organisation)
    return Visit(server, key)


@pytest.fixture(scope="module")
def still(server) -> str:
    """Return a key of an organisation that no test may change anything of."""
    key = new_key(server.database, "still")
    fill(server, key)
    ask(server, "still")
    return key


@pytest.fixture
def bare(server) -> Visit:
    """Return somebody at the panel of an organisation that has nothing."""
    return Visit(server, new_key(server.database, f"bare-{next(NUMBERS)}"))


def fill(server: Serving, key: str, name: str = "Park3-E1") -> None:
    with server.client(key) as api:
        group = {"id": "g1", "name": name, "maximum_capacity": 100, "buffer": 0.1}
        plugs = [{"id": "1", "maximum_capacity": 50, "minimum_capacity": 5}]
        plugs.append({"id": "2", "maximum_capacity": 80})
        station = {"chargestation": "CS-1", "connectors": plugs}
        session = {"chargestation": "CS-1", "connector": "1"}
        for path, body in (
            ("/groups", {**group, "location": "park"}),
            ("/groups/g1/chargestations", station),
            ("/sessions", session),
        ):
            assert api.post(f"/v1.1/load_management{path}", json=body).status_code == 200


def ask(server: Serving, organisation: str, note: str = "") -> str:
    """Have a second person ask for more to be commissioned; return the key."""
    key = new_key(server.database, organisation, name="Ben")
    with server.client(key) as api:
        body = {"commissioned_capacity": 120, "note": note}
        assert api.post("/v1.1/groups/g1/raises", json=body).json()["result"]["state"] == "pending"
    return key


def rows(server: Serving, organisation: str) -> list[list[tuple[object, ...]]]:
    """Return all that the database has of an organisation."""
    database = connect(server.database)
    found = [
        database.rows(f"SELECT * FROM {table} WHERE organisation = :id ORDER BY 2", id=organisation)
        for table in TABLES
    ]
    database.close()
    return found


def group_of(server: Serving, key: str, id: str = "g1") -> dict[str, object]:
    with server.client(key) as api:
        return api.get(f"/v1.1/groups/{id}").json()["result"]


# Login and sessions


def test_a_wrong_key_opens_nothing_and_is_told_so_next_to_the_field(server):
    visit = Visit(server, "wf_live_wrong")

    assert visit.answer.status_code == 401
    assert "This key opens nothing" in Found(visit.answer.text).text
    assert visit.client.get("/admin/locations").status_code == 303


@on_both_databases
def test_a_login_gives_a_new_secret_in_a_cookie_that_scripts_and_other_sites_do_not_get(
    server, organisation
):
    key = new_key(server.database, organisation)
    with httpx.Client(base_url=server.url, headers={"Origin": server.url}) as client:
        form = Found(client.get("/admin/login").text).forms["/admin/login"]
        before = client.cookies["wattfill"]
        answer = client.post("/admin/login", data={**form, "key": key})
        after = client.cookies["wattfill"]

    cookie = answer.headers["set-cookie"]
    assert (answer.status_code, answer.headers["location"]) == (303, "/admin/locations")
    assert before != after
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    anybody = httpx.get(f"{server.url}/admin/locations", cookies={"wattfill": before})
    assert anybody.status_code == 303


def test_where_browsers_come_by_https_no_other_host_can_set_the_cookie(tmp_path):
    serving = Serving(str(tmp_path / "site.db"), WATTFILL_BEHIND_PROXY="true")
    try:
        host = serving.url.removeprefix("http://")
        with httpx.Client(base_url=serving.url) as client:
            shown = client.get("/admin/login")
            form = Found(shown.text).forms["/admin/login"]
            cookies = {"Cookie": shown.headers["set-cookie"].partition(";")[0]}
            answers = [
                client.post(
                    "/admin/login",
                    data={**form, "key": serving.first_key},
                    headers={**cookies, "Origin": f"{scheme}://{host}"},
                )
                for scheme in ("http", "https")
            ]
    finally:
        serving.close()

    cookie = answers[1].headers["set-cookie"]
    assert [answer.status_code for answer in answers] == [403, 303]
    assert cookie.startswith("__Host-wattfill=")
    assert {"Secure", "HttpOnly", "Path=/"} <= set(cookie.split("; "))
    assert "Domain" not in cookie


def test_a_logout_ends_the_session_for_whoever_has_the_cookie(visit):
    secret = visit.client.cookies["wattfill"]
    answer = visit.send("/admin/locations", "/admin/logout")

    assert answer.headers["location"] == "/admin/login"
    visit.client.cookies.set("wattfill", secret)
    assert visit.client.get("/admin/locations").headers["location"].startswith("/admin/login")


@on_both_databases
def test_a_key_that_is_revoked_ends_its_sessions(server, organisation, visit):
    before = visit.client.get("/admin/locations").status_code
    database = opened(server.database)
    with database.transaction():
        service = service_of(database)
        for key in service.list_keys(organisation):
            service.revoke_key(key["id"])
    database.close()

    assert before == 200
    assert visit.client.get("/admin/locations").status_code == 303


def test_the_database_keeps_no_secret_of_a_session(server, visit):
    secret = visit.client.cookies["wattfill"].encode()

    for suffix in ("", "-wal"):
        with open(server.database + suffix, "rb") as file:
            assert secret not in file.read()


def test_the_api_ignores_cookies_and_the_panel_ignores_keys(server, organisation, visit):
    key = new_key(server.database, organisation)
    by_cookie = visit.client.get("/v1.1/groups")
    with server.client(key) as client:
        by_key = client.get("/admin/locations")

    assert by_cookie.status_code == 401
    assert (by_key.status_code, by_key.headers["location"][:12]) == (303, "/admin/login")


def test_many_wrong_keys_have_to_wait_and_shut_nobody_out(tmp_path):
    serving = Serving(str(tmp_path / "site.db"))
    try:
        wrong = [Visit(serving, "wrong").answer for _ in range(30)]
        right = Visit(serving, serving.first_key).answer
    finally:
        serving.close()

    # The allowance fills by one in five seconds.
    statuses = [answer.status_code for answer in wrong]
    assert statuses[:20] == [401] * 20
    assert 429 in statuses[20:]
    assert int(wrong[statuses.index(429)].headers["retry-after"]) >= 1
    assert right.status_code == 303


def test_a_login_leads_back_into_the_panel_and_nowhere_else(server, organisation):
    key = new_key(server.database, organisation)
    with httpx.Client(base_url=server.url, headers={"Origin": server.url}) as client:
        for wanted, due in (
            ("/admin/groups/g1", "/admin/groups/g1"),
            ("//evil.example/", "/admin/locations"),
            ("https://evil.example/admin", "/admin/locations"),
            ("/admin/../v1.1/groups", "/admin/locations"),
        ):
            shown = client.get("/admin/login", params={"next": wanted})
            form = Found(shown.text).forms["/admin/login"]
            answer = client.post("/admin/login", data={**form, "key": key})
            assert answer.headers["location"] == due


@pytest.mark.parametrize("path", PAGES)
def test_no_page_is_shown_to_whoever_is_not_logged_in(server, path):
    answer = httpx.get(server.url + path.format(**IDS))

    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/admin/login?next=")


@on_both_databases
def test_a_page_that_cannot_be_made_is_a_page_that_says_so(server):
    visit = Visit(server, new_key(server.database, f"fault-{next(NUMBERS)}"))
    database = connect(server.database)
    database.run("ALTER TABLE wf_change RENAME TO wf_gone")
    answer = visit.client.get("/admin/unplaced/changes")
    database.run("ALTER TABLE wf_gone RENAME TO wf_change")
    database.close()
    after = visit.client.get("/admin/unplaced/changes")
    log = server.log()
    [alert] = re.findall('<p role="alert">(.*)</p>', answer.text)
    number = alert.rpartition(" ")[2]

    assert (answer.status_code, after.status_code) == (500, 200)
    assert answer.headers["Content-Type"].startswith("text/html")
    assert alert == f"the server failed; its log has it under {number}"
    assert "wf_change" not in answer.text
    assert any(number in line and "wf_change" in line for line in log.splitlines())


# Forms from elsewhere

ATTACKS = {
    "no token": (lambda form, other: {"token": ""}, {}),
    "the token of another form": (lambda form, other: {"token": other["logout"]}, {}),
    "the token of another session": (lambda form, other: {"token": other["session"]}, {}),
    "another origin": (lambda form, other: {}, {"Origin": "http://evil.example"}),
    "an opaque origin": (lambda form, other: {}, {"Origin": "null"}),
    "another port": (lambda form, other: {}, {"Origin": "http://127.0.0.1:1"}),
    "another site": (lambda form, other: {}, {"Sec-Fetch-Site": "cross-site"}),
    "a neighbouring host": (lambda form, other: {}, {"Sec-Fetch-Site": "same-site"}),
}


def path_of(form: Form) -> str:
    # Connector 2 is free: what is started there is started by the form.
    plug = "2" if form.path.endswith("start") else "1"
    return form.path.format(**{**IDS, "connector": plug})


def form_of(visit: Visit, action: str) -> dict[str, str]:
    """Return what a form carries where it is shown, and otherwise a token made as the page does."""
    pages = ["/admin/groups/g1", "/admin/groups/g1?maximum_capacity=90&buffer=0.2"]
    page = visit.client.get(action)
    texts = [page.text] if page.status_code == 200 else []
    texts += [visit.client.get(path).text for path in pages]
    for text in texts:
        forms = Found(text).forms
        if action in forms:
            return forms[action]
    raise AssertionError(f"no page has the form {action}")


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.path)
def test_a_form_from_elsewhere_changes_nothing(server, still, form):
    action = path_of(form)
    visit, other = Visit(server, still), Visit(server, still)
    own = form_of(visit, action)
    tokens = {
        "logout": visit.look("/admin/locations").forms["/admin/logout"]["token"],
        "session": form_of(other, action)["token"],
    }
    before = rows(server, "still")
    statuses = {
        attack: visit.client.post(
            action, data={**own, **FILLED, **changed(own, tokens)}, headers=headers
        ).status_code
        for attack, (changed, headers) in ATTACKS.items()
    }

    assert statuses == dict.fromkeys(ATTACKS, 403)
    assert rows(server, "still") == before


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.path)
def test_a_form_of_ours_changes_something(server, organisation, visit, form):
    action = path_of(form)
    if form.path == "/admin/groups/{group}/remove":
        visit.send("/admin/chargestations/CS-1/remove", "/admin/chargestations/CS-1/remove")
    if form.path == "/admin/groups/{group}/commission":
        visit.send("/admin/raises", "/admin/groups/g1/decline-raise")
    own = form_of(visit, action)
    before = rows(server, organisation)
    typed = {**FILLED, "version": own["version"]} if "version" in own else FILLED
    answer = visit.client.post(action, data={**own, **typed})

    assert answer.status_code == 303
    assert rows(server, organisation) != before


def test_a_form_that_does_not_say_where_it_comes_from_changes_nothing(server, organisation, visit):
    action = "/admin/sessions/CS-1/1/stop"
    own = form_of(visit, action)
    before = rows(server, organisation)
    del visit.client.headers["Origin"]
    answer = visit.client.post(action, data=own)

    assert answer.status_code == 403
    assert rows(server, organisation) == before


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.path)
def test_get_changes_nothing(server, still, form):
    action = path_of(form)
    visit = Visit(server, still)
    own = form_of(visit, action)
    before = rows(server, "still")
    answer = visit.client.get(action, params={**own, **FILLED})

    assert answer.status_code == (200 if form.has_page else 405)
    assert rows(server, "still") == before


def test_a_login_without_its_token_or_from_elsewhere_begins_no_session(server, organisation):
    key = new_key(server.database, organisation)
    with httpx.Client(base_url=server.url) as client:
        form = Found(client.get("/admin/login").text).forms["/admin/login"]
        answers = [
            client.post("/admin/login", data={"key": key}, headers={"Origin": server.url}),
            client.post("/admin/login", data={**form, "key": key}),
            client.post(
                "/admin/login", data={**form, "key": key}, headers={"Origin": "http://evil.example"}
            ),
        ]
        home = client.get("/admin/locations")

    assert [answer.status_code for answer in answers] == [403, 403, 403]
    assert home.status_code == 303


def test_nobody_is_logged_out_from_elsewhere(visit):
    own = visit.look("/admin/locations").forms["/admin/logout"]
    answers = [
        visit.client.get("/admin/logout"),
        visit.client.post("/admin/logout", data={"token": ""}),
        visit.client.post("/admin/logout", data=own, headers={"Origin": "http://evil.example"}),
    ]

    assert [answer.status_code for answer in answers] == [405, 403, 403]
    assert visit.client.get("/admin/locations").status_code == 200


# Who may do what


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.path)
def test_a_key_without_the_scope_of_a_form_gets_neither_it_nor_what_it_does(server, still, form):
    scopes = " ".join(scope for scope in SCOPES if scope != form.scope)
    other = Visit(server, new_key(server.database, "still", scopes))
    action = path_of(form)
    before = rows(server, "still")
    page = other.client.get("/admin/groups/g1?maximum_capacity=90&buffer=0.2")
    shown = other.client.get(action)
    # The token is right: it is made of the secret of the session, which tests may know.
    token = login_token(other, action)
    answer = other.client.post(action, data={**FILLED, "token": token})

    assert action not in Found(page.text).forms
    assert action not in Found(page.text).links.values()
    assert shown.status_code == (403 if form.has_page else 405)
    assert answer.status_code == 403
    assert rows(server, "still") == before


def login_token(visit: Visit, action: str) -> str:
    return login.token(visit.client.cookies["wattfill"], action)


def test_every_page_is_known_to_these_tests():
    open_to_all = {"/admin", "/admin/", "/admin/static/{name}", "/admin/login", "/admin/logout"}
    others = {"/admin/events", "/admin/{rest:path}"}
    pages = {path.replace("/park", "/{location}") for path in PAGES}
    found = {route.path for route in _Panel().routes()}

    assert found == open_to_all | others | pages | {form.path for form in FORMS}


def test_a_key_that_may_not_look_sees_nothing(server, still):
    blind = Visit(server, new_key(server.database, "still", "operate commission configure"))
    paths = [path.format(**IDS) for path in PAGES if path not in {form.path for form in FORMS}]
    statuses = {blind.client.get(path).status_code for path in [*paths, "/admin/events?group=g1"]}

    assert statuses == {403}


def test_a_key_that_only_looks_sees_everything_and_no_button(server, still):
    looking = Visit(server, new_key(server.database, "still", READ_ONLY))
    pages = ["/admin/locations", "/admin/locations/park", "/admin/groups/g1"]

    for path in pages:
        assert set(looking.look(path).forms) <= {"/admin/logout", "/admin/groups/g1#what-if"}
    assert "50 kW" in looking.look("/admin/groups/g1").text


@pytest.mark.parametrize("path", [p for p in PAGES if "{" in p])
def test_a_page_of_another_organisation_is_as_one_that_is_not_there(still, bare, path):
    theirs = bare.client.get(path.format(**IDS))
    nobodys = bare.client.get(path.format(group="g7", chargestation="CS-7", connector="1"))

    assert theirs.status_code == nobodys.status_code == 404
    theirs_as = Found(theirs.text).text.replace("g1", "g7").replace("CS-1", "CS-7")
    assert theirs_as == Found(nobodys.text).text


@pytest.mark.parametrize("form", [f for f in FORMS if "{" in f.path], ids=lambda form: form.path)
def test_a_form_changes_nothing_of_another_organisation(server, still, bare, form):
    action = form.path.format(**IDS)
    before = rows(server, "still")
    answer = bare.client.post(action, data={**FILLED, "token": login_token(bare, action)})

    assert answer.status_code == 404
    assert rows(server, "still") == before


def test_lists_and_events_have_nothing_of_another_organisation(still, bare):
    assert "There is no group yet" in bare.look("/admin/locations").text
    assert "No group stands here" in bare.look("/admin/locations/park").text
    assert "Nothing has been changed" in bare.look("/admin/locations/park/changes").text
    with bare.client.stream("GET", "/admin/events?group=g1") as stream:
        assert next(stream.iter_text()) == "retry: 2000\n\n"


# What pages hold


@pytest.mark.parametrize("path", [*PAGES, "/admin/login", "/admin/nothing/here"])
def test_a_page_has_no_inline_script_and_asks_no_other_host(server, still, path):
    answer = Visit(server, still).client.get(path.format(**IDS))
    found = Found(answer.text)
    policy = answer.headers["content-security-policy"]

    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert (found.inline, found.hosts) == ([], [])
    assert {"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"} <= set(
        policy.split("; ")
    )
    assert "unsafe" not in policy
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "same-origin"


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_text(server, organisation, name):
    key = new_key(server.database, organisation)
    fill(server, key, name)
    ask(server, organisation, f"{name} {name}")
    visit = Visit(server, key)

    assert f"{name} {name}" in visit.look("/admin/raises").text
    for path in (
        "/admin/raises",
        "/admin/locations/park",
        "/admin/groups/g1",
        "/admin/groups/g1/update",
    ):
        text = visit.client.get(path).text
        assert name in Found(text).text or name in Found(text).forms.get(path, {}).values()
        assert Found(text).inline == []
    changes = visit.client.get("/admin/locations/park/changes").text
    assert (Found(changes).inline, "60481729" in Found(changes).text) == ([], False)


def test_pictures_scripts_and_styles_come_out_of_the_package(server):
    for name, kind in (
        ("panel.css", "text/css"),
        ("panel.js", "text/javascript"),
        ("icon.svg", "image/svg+xml"),
    ):
        answer = httpx.get(f"{server.url}/admin/static/{name}")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(kind)
        assert "immutable" in answer.headers["cache-control"]
        assert "http" not in answer.text.replace("http://www.w3.org/2000/svg", "")
    assert httpx.get(f"{server.url}/admin/static/..%2fpages.py").status_code == 404


# What forms do


@on_both_databases
def test_a_group_is_created_shown_at_its_location_and_updated(server, organisation):
    key = new_key(server.database, organisation)
    bare = Visit(server, key)
    assert "Create the first group" in bare.look("/admin/locations").links
    made = bare.send(
        "/admin/create?location=park",
        "/admin/create",
        id="g1",
        name="Roof",
        maximum_capacity="12,5",
        buffer="0.2",
        admission="rotate",
        notes="two\nlines",
    )
    at_place = bare.look("/admin/locations/park")
    bare.send(
        "/admin/groups/g1/update", "/admin/groups/g1/update", reserved="1.5", location="", name="R"
    )

    group = group_of(server, key)
    assert made.headers["location"] == "/admin/groups/g1"
    assert at_place.links["Roof"] == "/admin/groups/g1"
    assert group["maximum_capacity"], group["buffer"] == (12.5, 0.2)
    assert (group["admission"], group["notes"]) == ("rotate", "two\nlines")
    assert (group["reserved"], group["location"], group["name"]) == (1.5, None, "R")
    assert bare.look("/admin/unplaced").links["R"] == "/admin/groups/g1"


def test_what_is_wrong_is_said_next_to_its_field_and_nothing_that_was_typed_is_lost(bare):
    typed = {"name": "", "maximum_capacity": "much", "buffer": "1.5", "notes": "<keep> this"}
    answer = bare.send("/admin/create", "/admin/create", **typed)
    found = Found(answer.text)

    assert answer.status_code == 422
    assert {"e-name", "e-maximum_capacity", "e-buffer"} <= found.ids
    assert "Must be a number, at least 0" in found.text
    assert "3 fields are wrong. Nothing has been saved." in found.text
    form = found.forms["/admin/create"]
    assert {name: form[name] for name in typed} == typed


@on_both_databases
def test_a_change_that_would_undo_somebody_elses_is_refused_and_kept_in_the_form(
    server, organisation, visit
):
    key = new_key(server.database, organisation)
    path = "/admin/groups/g1/update"
    form = visit.look(path).forms[path]
    with server.client(key) as api:
        api.patch("/v1.1/groups/g1", json={"buffer": 0.3})
    answer = visit.client.post(path, data={**form, "name": "Mine"})

    assert answer.status_code == 412
    assert "must still be of version" in Found(answer.text).text
    assert Found(answer.text).forms[path]["name"] == "Mine"
    assert (group_of(server, key)["name"], group_of(server, key)["buffer"]) == ("Park3-E1", 0.3)


@on_both_databases
def test_an_update_that_changes_nothing_leaves_no_line_in_the_log(server, organisation, visit):
    before = rows(server, organisation)
    visit.send("/admin/groups/g1/update", "/admin/groups/g1/update")

    assert rows(server, organisation) == before


@on_both_databases
def test_stations_are_added_updated_and_removed_with_a_confirmation(server, organisation, visit):
    key = new_key(server.database, organisation)
    add = "/admin/groups/g1/add-chargestation"
    added = visit.send(
        add,
        add,
        **{
            "chargestation": "CS-2",
            # The first row is left empty.
            "connectors[1].id": "1",
            "connectors[1].maximum_capacity": "22",
        },
    )
    update = "/admin/chargestations/CS-2/update"
    visit.send(
        update,
        update,
        **{
            "connectors[0].maximum_capacity": "11",
            "connectors[1].id": "2",
            "connectors[1].maximum_capacity": "7.4",
            "connectors[1].minimum_capacity": "4",
        },
    )
    plugs = group_of(server, key)["chargestations"][1]["connectors"]
    confirm = visit.look("/admin/chargestations/CS-1/remove")
    visit.send("/admin/chargestations/CS-1/remove", "/admin/chargestations/CS-1/remove")

    assert added.headers["location"] == "/admin/groups/g1#station-CS-2"
    assert [(p["id"], p["maximum_capacity"], p["minimum_capacity"]) for p in plugs] == [
        ("1", 11, None),
        ("2", 7.4, 4),
    ]
    assert "1 of its connectors has a session that ends with it" in confirm.text
    assert [s["_id"] for s in group_of(server, key)["chargestations"]] == ["CS-2"]


def test_a_row_that_is_wrong_is_told_so_in_its_place(visit):
    add = "/admin/groups/g1/add-chargestation"
    answer = visit.send(
        add,
        add,
        **{
            "chargestation": "CS-2",
            "connectors[0].id": "1",
            "connectors[0].maximum_capacity": "22",
            "connectors[1].id": "2",
            "connectors[1].maximum_capacity": "4",
            "connectors[1].minimum_capacity": "six",
        },
    )
    found = Found(answer.text)

    assert answer.status_code == 422
    assert "e-connectors[1].minimum_capacity" in found.ids
    assert "e-connectors[0].minimum_capacity" not in found.ids
    assert found.forms[add]["connectors[1].minimum_capacity"] == "six"


def test_another_row_is_added_and_nothing_else_happens(server, organisation, visit):
    add = "/admin/groups/g1/add-chargestation"
    before = rows(server, organisation)
    typed = {"chargestation": "CS-2", "connectors[0].id": "1", "connectors[1].id": "2"}
    answer = visit.send(add, add, **typed, more="1")
    form = Found(answer.text).forms[add]

    assert answer.status_code == 200
    assert {name: form[name] for name in typed} == typed
    assert form["connectors[2].id"] == ""
    assert rows(server, organisation) == before


def test_a_station_of_another_group_is_refused_next_to_its_field(visit):
    add = "/admin/groups/g1/add-chargestation"
    answer = visit.send(
        add,
        add,
        **{
            "chargestation": "CS-1",
            "connectors[0].id": "1",
            "connectors[0].maximum_capacity": "22",
        },
    )

    assert answer.status_code == 409
    assert "e-chargestation" in Found(answer.text).ids


@on_both_databases
def test_sessions_start_and_stop_and_lead_back_to_where_they_were_clicked(visit):
    start, stop = "/admin/sessions/CS-1/2/start", "/admin/sessions/CS-1/2/stop"
    started = visit.send("/admin/locations/park", start, maximum="7.4")
    page = visit.look("/admin/groups/g1")
    stopped = visit.send("/admin/groups/g1", stop)

    assert started.headers["location"] == "/admin/locations/park?open=g1#station-CS-1"
    assert "Connector 2 7.4 kW at its maximum" in page.text
    assert stopped.headers["location"] == "/admin/groups/g1#station-CS-1"
    assert "Connector 2 0 kW idle" in visit.look("/admin/groups/g1").text


def test_a_session_that_cannot_start_is_told_why_where_it_was_asked_for(visit):
    start = "/admin/sessions/CS-1/2/start"
    answer = visit.send("/admin/groups/g1", start, maximum="lots")
    found = Found(answer.text)

    assert answer.status_code == 422
    assert "error-CS-1-2" in found.ids
    assert found.forms[start]["maximum"] == "lots"


@on_both_databases
def test_a_what_if_shows_the_new_shares_and_saves_them_only_when_told(server, organisation, visit):
    key = new_key(server.database, organisation)
    before = rows(server, organisation)
    # 60 kW less a quarter are 45 kW for one session that could take 50.
    page = visit.look("/admin/groups/g1?maximum_capacity=60&buffer=0.25")
    during = rows(server, organisation)
    form = page.forms["/admin/groups/g1/what-if"]
    visit.client.post("/admin/groups/g1/what-if", data=form)

    assert "CS-1/1 50 kW 45 kW -5 kW shares the level of Park3-E1" in page.text
    assert during == before
    assert (group_of(server, key)["maximum_capacity"], group_of(server, key)["buffer"]) == (
        60,
        0.25,
    )


def test_a_what_if_that_cannot_be_says_so_next_to_its_field(visit):
    answer = visit.client.get("/admin/groups/g1?maximum_capacity=60&buffer=2")

    assert answer.status_code == 422
    assert "Must be a number, at least 0 and at most 1" in Found(answer.text).text


@on_both_databases
def test_a_group_that_is_not_empty_stays_and_one_that_is_goes(server, organisation, visit):
    path = "/admin/groups/g1/remove"
    refused = visit.send(path, path)
    visit.send("/admin/chargestations/CS-1/remove", "/admin/chargestations/CS-1/remove")
    gone = visit.send(path, path)

    assert refused.status_code == 409
    assert "must be empty to be deleted" in Found(refused.text).text
    assert gone.headers["location"] == "/admin/locations/park"
    assert visit.client.get("/admin/groups/g1").status_code == 404


def test_what_was_typed_outlives_the_session(server, organisation, visit):
    key = new_key(server.database, organisation)
    path = "/admin/groups/g1/update"
    form = visit.look(path).forms[path]
    visit.client.cookies.clear()
    over = visit.client.post(path, data={**form, "name": "Typed for long"})
    form = Found(over.text).forms["/admin/login"]
    again = visit.client.post("/admin/login", data={**form, "key": key})
    kept = Found(again.text).forms[path]
    name = group_of(server, key)["name"]
    visit.client.post(path, data=kept)

    assert over.status_code == 401
    assert "what you typed is kept" in Found(over.text).text
    assert "Nothing has been saved yet" in Found(again.text).text
    assert (kept["name"], name) == ("Typed for long", "Park3-E1")
    assert group_of(server, key)["name"] == "Typed for long"


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"x" * 200_000, "application/x-www-form-urlencoded", 413),
        (b"{}", "application/json", 415),
        (b"a=%ff", "application/x-www-form-urlencoded", 400),
        (b"&".join(b"a%d=1" % i for i in range(1001)), "application/x-www-form-urlencoded", 400),
    ],
)
def test_what_is_no_form_is_refused(visit, body, kind, status):
    answer = visit.client.post("/admin/create", content=body, headers={"Content-Type": kind})

    assert answer.status_code == status


def test_a_tree_is_shown_with_what_it_feeds(server, organisation, visit):
    key = new_key(server.database, organisation)
    visit.send(
        "/admin/create?location=park&parent=g1",
        "/admin/create",
        id="g2",
        name="Below",
        maximum_capacity="10",
        parent="g1",
    )

    assert group_of(server, key, "g2")["parent"] == "g1"
    assert "Feeds Below (0 kW)" in visit.look("/admin/groups/g1").text
    assert "Fed by Park3-E1" in visit.look("/admin/groups/g2").text


def test_what_somebody_asks_for_is_seen_and_approved_by_another(server, organisation, visit):
    page = visit.look("/admin/groups/g1")
    home = visit.look("/admin/locations").links
    listed = visit.look("/admin/raises")
    done = visit.send("/admin/raises", "/admin/groups/g1/approve-raise")

    assert home["Raises (1 waits)"] == "/admin/raises"
    assert "asks for 120 kW instead of 100 kW" in page.text
    assert "asks for 120 kW instead of 100 kW" in listed.text
    assert (done.status_code, done.headers["location"]) == (303, "/admin/groups/g1#commissioned")
    after = visit.look("/admin/groups/g1")
    assert "The capacity may be set to at most 120 kW" in after.text
    assert "/admin/groups/g1/approve-raise" not in after.forms
    assert "Nothing waits to be approved" in visit.look("/admin/raises").text
    assert "100 kW 120 kW Ben approved" in visit.look("/admin/raises").text
    assert "approve raise" in visit.look("/admin/locations/park/changes").text


def test_who_asked_can_withdraw_and_not_approve(server, organisation):
    fill(server, new_key(server.database, organisation))
    ben = Visit(server, ask(server, organisation))
    twin = Visit(server, new_key(server.database, organisation, name="Ben"))
    approve, decline = (f"/admin/groups/g1/{verb}-raise" for verb in ("approve", "decline"))
    own = ben.look("/admin/groups/g1").forms
    forged = ben.client.post(approve, data={**own[decline], "token": login_token(ben, approve)})
    refused = twin.send("/admin/raises", approve)
    ben.send("/admin/groups/g1", decline)

    assert approve not in own
    assert (forged.status_code, refused.status_code) == (403, 403)
    for answer in (forged, refused):
        assert "must be approved by another person than asked for it" in Found(answer.text).text
    assert "Ben withdrawn" in ben.look("/admin/raises").text


def test_more_is_asked_for_and_less_is_at_once(server, organisation, visit):
    key = new_key(server.database, organisation)
    path = "/admin/groups/g1/commission"
    taken = visit.send(path, path, commissioned_capacity="130", note="again")
    wrong = visit.send(path, path, commissioned_capacity="much", note="again")
    below = visit.send(path, path, commissioned_capacity="90")
    visit.send("/admin/groups/g1", "/admin/groups/g1/decline-raise")
    same = visit.send(path, path, commissioned_capacity="100")
    asked = visit.send(path, path, commissioned_capacity="130,5", note="new fuse")
    update = "/admin/groups/g1/update"
    above = visit.send(update, update, maximum_capacity="130.5")
    # A form changes what it is for, whatever else it carries.
    visit.send(update, update, commissioned_capacity="500", name="N")
    form = group_of(server, key)
    visit.send(update, update, maximum_capacity="60")
    visit.send("/admin/groups/g1", "/admin/groups/g1/decline-raise")
    lowered = visit.send(path, path, commissioned_capacity="60")

    assert [a.status_code for a in (taken, wrong, below, above)] == [409, 422, 422, 409]
    assert "must have one raise that waits" in Found(taken.text).text
    assert "Must be a number" in Found(wrong.text).text
    assert Found(wrong.text).forms[path]["note"] == "again"
    assert (form["name"], form["commissioned_capacity"]) == ("N", 100)
    assert "Must be at least maximum_capacity, 100 kW" in Found(below.text).text
    assert "Must be at most 100 kW, as was commissioned" in Found(above.text).text
    assert [a.status_code for a in (same, asked, lowered)] == [303, 303, 303]
    assert group_of(server, key)["commissioned_capacity"] == 60
    with server.client(key) as api:
        raises = api.get("/v1.1/raises").json()["result"]
    assert [(r["commissioned_capacity"], r["note"]) for r in raises] == [
        (130.5, "new fuse"),
        (120, ""),
    ]


def test_a_raise_of_one_group_is_not_decided_at_another(server, organisation, visit):
    visit.send(
        "/admin/create?location=park", "/admin/create", id="g2", name="G2", maximum_capacity="10"
    )
    own = form_of(visit, "/admin/groups/g1/approve-raise")
    action = "/admin/groups/g2/approve-raise"
    answers = [
        visit.client.post(action, data={"token": login_token(visit, action), "raise": id})
        for id in (own["raise"], "")
    ]

    assert [answer.status_code for answer in answers] == [404, 422]
    assert "raise must be the id of a raise" in Found(answers[0].text).text
    assert "asks for 120 kW" in visit.look("/admin/groups/g1").text


@on_both_databases
def test_whoever_watches_is_told_of_a_change(server, organisation, visit):
    key = new_key(server.database, organisation)
    with visit.client.stream("GET", "/admin/events?group=g1") as stream:
        lines = stream.iter_lines()
        first = [next(lines), next(lines), next(lines)]
        with server.client(key) as api:
            api.patch("/v1.1/groups/g1", json={"buffer": 0.9})
        next(lines)
        second = next(lines)

    assert first == ["retry: 2000", "", "data: g1"]
    assert second == "data: g1"


def test_no_more_groups_are_on_a_page_than_are_quick(server, organisation):
    key = new_key(server.database, organisation)
    bare = Visit(server, key)
    with server.client(key) as api:
        for i in range(26):
            body = {"name": f"G{i:02}", "maximum_capacity": 1, "location": "park"}
            api.post("/v1.1/groups", json=body)
    first = bare.look("/admin/locations/park")
    second = bare.look("/admin/locations/park?page=2")

    assert "26 groups" in first.text
    assert ("G00" in first.links, "G25" in first.links, "G25" in second.links) == (
        True,
        False,
        True,
    )


# The last day


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.at = 1_000_000.0

    def now(self) -> float:
        return self.at


PLUGS = st.sampled_from(["1", "2"])
STATIONS = st.sampled_from(["s", "t"])
POWERS = st.sampled_from([4.0, 11.0, 22.0])
CONNECTORS = st.fixed_dictionaries(
    {"id": PLUGS, "maximum_capacity": POWERS}, optional={"minimum_capacity": st.just(3.0)}
)
OPERATIONS = st.one_of(
    st.tuples(
        st.just("add_station"),
        st.sampled_from(["g", "h"]),
        st.builds(
            lambda id, plug: {"chargestation": id, "connectors": [plug]}, STATIONS, CONNECTORS
        ),
    ),
    st.tuples(
        st.just("update_station"), STATIONS, st.builds(lambda p: {"connectors": [p]}, CONNECTORS)
    ),
    st.tuples(st.just("remove_station"), STATIONS),
    st.tuples(
        st.just("update_group"),
        st.sampled_from(["g", "h"]),
        st.fixed_dictionaries(
            {},
            optional={
                "maximum_capacity": st.sampled_from([5.0, 20.0, 40.0]),
                "buffer": st.sampled_from([0.0, 0.5]),
                "admission": st.sampled_from(["fifo", "most"]),
            },
        ),
    ),
    *[
        st.tuples(
            st.just("start_session"),
            st.builds(
                lambda s, p, most: {"chargestation": s, "connector": p, "maximum": most},
                STATIONS,
                PLUGS,
                st.sampled_from([None, 4.0, 11.0]),
            ),
        )
    ]
    * 3,
    st.tuples(st.just("update_session"), STATIONS, PLUGS, st.just({"maximum": 5.0, "priority": 1})),
    st.tuples(st.just("stop_session"), STATIONS, PLUGS),
)


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    database = opened(str(tmp_path_factory.mktemp("history") / "site.db"))
    # What these tests hold does not hang on when it reaches the disk.
    database.run("PRAGMA synchronous=OFF")
    yield database
    database.close()


@given(
    steps=st.lists(st.tuples(st.sampled_from([60.0, 3000.0, 20_000.0]), OPERATIONS), max_size=40),
    lost=st.integers(0, 30),
)
@settings(max_examples=200)
def test_the_last_day_is_what_was_given_at_each_moment_of_it(database, steps, lost):
    clock, tenant = Clock(), f"day-{next(NUMBERS)}"
    service = service_of(database, clock)
    caller = Caller(tenant, "key", frozenset(FULL.split()))
    with database.transaction():
        service.create_key(tenant, "test")
    truth: list[tuple[float, float, float]] = []

    def do(name: str, *arguments: object) -> None:
        try:
            with database.transaction():
                getattr(service, name)(caller, *arguments)
            service.store.committed()
        except Refusal:
            service.store.rolled_back()
        outcome = next(g for g in service.get_allocation(caller, "g")["groups"] if g["_id"] == "g")
        truth.append((clock.at, outcome["used"], outcome["usable"]))

    do("create_group", {"id": "g", "name": "G", "maximum_capacity": 30.0})
    do("create_group", {"id": "h", "name": "H", "maximum_capacity": 20.0, "parent": "g"})
    for pause, operation in steps:
        clock.at += pause
        do(*operation)
    clock.at += 61.0
    present = history.present(service, caller, "g")
    lines = history.part(service, present, 0, present.revision)[::-1]
    kept = lines[lost:]
    since = ([0.0] + [line.at for line in lines[:lost]])[-1]
    day = history.replay(present, kept, since)

    def at(moment: float) -> tuple[float, float]:
        return next((used, usable) for t, used, usable in reversed(truth) if t <= moment)

    shown = [(m.used, m.usable) for m in day.moments]
    assert shown == [at(m.at) for m in day.moments]
    assert day.start >= clock.at - history.DAY
    # Nothing that happened since it begins is left out.
    told = {m.at for m in day.moments}
    assert all(t in told for t, *_ in truth if t > day.start and at(t) != at(t - 1.0))
    if not lost and truth[0][0] <= clock.at - history.DAY:
        assert day.start == clock.at - history.DAY


@on_both_databases
def test_a_day_in_which_a_group_was_made_begins_with_it(visit):
    text = visit.look("/admin/groups/g1/last-day").text

    assert "At most 50 kW were given out at once, of 90 kW usable then" in text
    assert "Before that the group was not there" in text
