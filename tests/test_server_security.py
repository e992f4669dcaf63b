"""What a server holds against whoever asks: heads without an end, faults, addresses of others."""

import asyncio
import json
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from servers import Serving, opened, service_of
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from wattfill.server import panel, service
from wattfill.server.api import OPERATIONS, PREFIXES, STREAM
from wattfill.server.app import create
from wattfill.server.fields import Field, take_id
from wattfill.server.keys import FULL
from wattfill.server.protocol import MOST_HEAD
from wattfill.server.refusal import Refusal
from wattfill.server.service import Caller
from wattfill.server.settings import Settings

OF_ALL = {"/healthz", "/readyz", "/openapi.json"}
"""What is answered without a key."""
TELL_CALLS = """import sys

def tell(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        print("CALLED", event, arguments, file=sys.stderr)

sys.addaudithook(tell)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Serving]:
    """Return a server that waits a second at most, and tells whom it calls."""
    folder = tmp_path_factory.mktemp("security")
    (folder / "sitecustomize.py").write_text(TELL_CALLS)
    serving = Serving(
        str(folder / "site.db"),
        PYTHONPATH=str(folder),
        WATTFILL_IDLE_TIMEOUT="1",
        WATTFILL_BODY_TIMEOUT="1",
        WATTFILL_STREAMS="1",
    )
    yield serving
    serving.close()


def connected(server: Serving) -> socket.socket:
    address = urlsplit(server.url)
    return socket.create_connection((address.hostname, address.port), 20)


def rest(connection: socket.socket) -> bytes:
    """Return what a server says until it hangs up."""
    answer = b""
    while part := connection.recv(65536):
        answer += part
    return answer


def said(server: Serving, sent: bytes) -> bytes:
    """Return what a server says to a client that sends this and nothing else."""
    with connected(server) as connection:
        connection.sendall(sent)
        return rest(connection)


# Before anybody has looked for a key


def test_who_does_not_end_a_head_is_hung_up_on(server):
    heads = [b"", b"\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nA: "]
    with ExitStack() as stack:
        connections = [stack.enter_context(connected(server)) for _ in range(len(heads) + 1)]
        for connection, head in zip(connections, heads, strict=False):
            connection.sendall(head)
        # The last one has been answered before.
        connections[-1].sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while b"healthz" not in answer:
            answer += connections[-1].recv(65536)
        connections[-1].sendall(b"GET /heal")
        answers = [rest(connection) for connection in connections]

    assert answer.startswith(b"HTTP/1.1 200")
    assert [text for text in answers if b"HTTP/" in text] == []


def test_a_head_has_a_size(server):
    # One byte more than may be: nothing is left that the server has not read.
    answer = said(server, b"GET / HTTP/1.1\r\nHost: x\r\nA: ".ljust(MOST_HEAD + 1, b"a"))

    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.endswith(b"The head of a request must have at most 65536 bytes.")


def test_a_body_has_a_time(server):
    head = "POST /v1.1/groups HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nConnection: close\r\n"
    answer = said(server, f"{head}\r\n{{".encode())

    assert answer.startswith(b"HTTP/1.1 408")
    assert b"the body must arrive within 1 seconds" in answer


def test_a_key_follows_no_more_streams_than_it_may(server):
    with server.client(server.first_key) as client:
        client.post("/v1.1/groups", json={"id": "s", "name": "S", "maximum_capacity": 1})
        with client.stream("GET", "/v1.1/groups/s/stream") as first:
            # The stream lasts as long as what reads it.
            lines = first.iter_lines()
            next(lines)
            with client.stream("GET", "/v1.1/groups/s/stream") as second:
                refused = second.status_code == 429 and json.loads(second.read())
            next(lines)

    assert refused
    assert second.headers["Retry-After"] == "10"
    assert refused["message"] == "a key must follow at most 1 streams at once"


# Calls to others


def test_no_request_makes_the_server_call_anybody(server):
    hostile = "http://169.254.169.254/latest/meta-data"
    texts = dict.fromkeys(("name", "description", "notes"), hostile)
    with server.client(server.first_key) as client:
        group = {"id": "g1", "maximum_capacity": 100, **texts}
        assert client.post("/v1.1/groups", json=group).status_code == 200
        client.patch("/v1.1/groups/g1", json=texts | {"location": hostile})
        for operation in OPERATIONS:
            path = operation.path.replace("{group}", "g1").replace("{", "").replace("}", "")
            headers = {"Host": "169.254.169.254", "X-Forwarded-Host": "169.254.169.254"}
            body = operation.model.example() if operation.model else None
            client.request(operation.method, f"/v1.1{path}", json=body, headers=headers)
    log = server.log()

    assert '"route": "/v1.1/groups/{group}"' in log
    assert "CALLED" not in log


# How it is set up


def test_keys_travel_by_tls(tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    verify = ssl.create_default_context(cafile=str(certificate))
    flags = "--tls-certificate", str(certificate), "--tls-key", str(key)
    serving = Serving(str(tmp_path / "site.db"), *flags, verify=verify)
    with serving.client(serving.first_key) as client:
        answer = client.get("/v1.1/groups")
        login = client.get("/admin/login")
    plain = said(serving, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    serving.close()

    assert serving.url.startswith("https://")
    assert answer.status_code == 200
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
    assert login.headers["set-cookie"].startswith("__Host-wattfill=")
    assert b"200" not in plain


def test_every_route_needs_a_scope_or_is_known_to_need_none():
    app = create(Settings(), routes=panel.routes())
    found = {route.path for route in app.routes if not route.path.startswith("/admin")}

    due = {f"{prefix}{o.path}" for prefix in PREFIXES for o in OPERATIONS}
    streams = {f"{prefix}{STREAM}" for prefix in PREFIXES}
    assert found == due | streams | OF_ALL | {"/metrics"}
    assert {o.scope for o in OPERATIONS} <= set(FULL.split())


def test_a_fault_tells_nothing_of_how_the_server_is_made(tmp_path, caplog):
    async def fail(request: Request) -> Response:
        raise ValueError("a secret of the server")

    app = create(Settings(database=str(tmp_path / "site.db")), routes=[Route("/fail", fail)])

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            return await client.get("/fail")

    answer = asyncio.run(ask())

    assert answer.status_code == 500
    id = answer.headers["X-Request-Id"]
    assert answer.json() == {
        "ok": False,
        "message": f"the server failed; its log has it under {id}",
        "errors": [],
    }
    assert "a secret of the server" in caplog.text


# Ids


@given(st.text(max_size=70))
@example("a\n")
@example("\u0663")
@example("\uff41")
@example("a" * 64)
@example("a" * 65)
@example("..")
def test_an_id_is_of_64_characters_that_are_nowhere_special(text):
    plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
    is_id = 1 <= len(text) <= 64 and set(text) <= set(plain)
    faults = []

    Field("id", "id", "").read(text, "id", faults)
    try:
        taken = take_id("id", text)
    except Refusal as refusal:
        taken = refusal.status

    assert (not faults) == is_id
    assert taken == (text if is_id else 422)


# How much a tree may hold


def test_a_tree_has_only_so_many_groups_and_stations_however_they_come(tmp_path, monkeypatch):
    monkeypatch.setattr(service, "MOST_GROUPS", 3)
    monkeypatch.setattr(service, "MOST_STATIONS", 2)
    database = opened(str(tmp_path / "site.db"))
    site = service_of(database)
    caller = Caller("acme", "key", frozenset(FULL.split()))

    def station(group: str, id: str) -> None:
        plugs = [{"id": "1", "maximum_capacity": 22.0}]
        site.add_station(caller, group, {"chargestation": id, "connectors": plugs})

    def group(id: str, parent: str | None = None) -> None:
        fields = {"id": id, "name": id, "maximum_capacity": 1.0, "parent": parent}
        site.create_group(caller, fields)

    with database.transaction():
        site.create_key("acme", "test")
        for id, parent in (("a", None), ("b", "a"), ("c", None), ("d", None), ("e", None)):
            group(id, parent)
        for place, id in (("a", "s"), ("b", "t"), ("c", "u")):
            station(place, id)
        refused = []
        for change in (
            lambda: station("b", "v"),
            lambda: site.update_group(caller, "c", {"parent": "b"}),
            lambda: site.update_group(caller, "d", {"parent": "b"}),
            lambda: site.update_group(caller, "e", {"parent": "b"}),
            lambda: group("f", "b"),
        ):
            try:
                change()
                refused.append(None)
            except Refusal as refusal:
                refused.append((refusal.status, refusal.message))
    site.store.committed()
    database.close()

    stations = (409, "a tree of groups must have at most 2 charge stations, got 3")
    groups = (409, "a tree of groups must have at most 3 groups, got 4")
    assert refused == [stations, stations, None, groups, groups]


def test_a_private_file_is_made(tmp_path):
    opened(str(tmp_path / "site.db")).close()

    assert Path(tmp_path / "site.db").stat().st_mode & 0o077 == 0
