"""The application: HTTP in, the engine behind it, HTTP out."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import re
import secrets
import signal
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from types import FrameType
from typing import Any, TypeAlias, TypeVar

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wattfill.server import openapi
from wattfill.server.api import (
    OPERATIONS,
    PREFIXES,
    STREAM,
    Call,
    Operation,
    read_path,
    read_query,
)
from wattfill.server.database import connect
from wattfill.server.dispatching import Manner
from wattfill.server.engine import Engine, Follower
from wattfill.server.fields import take_id
from wattfill.server.limits import Limiter
from wattfill.server.metrics import CONTENT_TYPE, Metrics
from wattfill.server.refusal import Refusal, not_found
from wattfill.server.service import Caller, Service
from wattfill.server.settings import Settings, read
from wattfill.server.strict_json import parse

log = logging.getLogger("wattfill.requests")

T = TypeVar("T")
Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]

EVENT_STREAM = "text/event-stream"
HEARTBEAT = 10.0
"""Seconds between signs of life in a stream; the key is looked at again each time."""
EVENTS_AHEAD = 256
"""Events that a stream may be late by."""
FAILED_LOGINS = 1 / 5, 20
"""From one address, a second and at once, before they are answered with 429."""
REQUEST_ID = "wattfill.request_id"
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def create(
    settings: Settings, *, engine: Engine | None = None, routes: Sequence[BaseRoute] = ()
) -> Starlette:
    """Return the application.

    Parameters
    ----------
    settings : Settings
    engine : Engine, optional
        By default one on the database of the settings, started and stopped with the application.
        Whoever gives one starts and stops it.
    routes : sequence of routes
        Of others, such as a panel, which use ``request.app.state.engine``. They set a
        ``Content-Security-Policy`` and ``Cache-Control`` of their own where they need one.

    """
    own = engine is None
    if engine is None:
        engine = Engine(
            connect(settings.database, settings.patience),
            patience=settings.patience,
            manner=Manner(settings.lease or None, settings.skew, settings.lag),
            two_person=settings.two_person,
            takeover=settings.takeover,
            is_one_of_many=settings.workers > 1,
        )
    server = _Server(settings, engine)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        if own:
            await asyncio.to_thread(engine.start)
        if threading.current_thread() is threading.main_thread():
            _end_streams_on_signals(engine)
        yield
        engine.let_followers_go()
        if own:
            await asyncio.to_thread(engine.stop)

    app = Starlette(
        routes=[*server.routes(), *routes],
        lifespan=lifespan,
        exception_handlers={HTTPException: _http_exception},
    )
    app.router.redirect_slashes = False
    app.state.engine = engine
    app.state.settings = settings
    app.add_middleware(_Around, server=server)
    return app


def _end_streams_on_signals(engine: Engine) -> None:
    """End streams when the process is told to stop, as nobody else would."""
    for number in (signal.SIGTERM, signal.SIGINT):
        before = signal.getsignal(number)

        def end(number: int, frame: FrameType | None, before: Any = before) -> None:
            engine.let_followers_go()
            if callable(before):
                before(number, frame)

        if callable(before):
            signal.signal(number, end)


def from_environment() -> Starlette:
    """Return the application by the settings of the environment, as each worker does."""
    # The panel takes what is above.
    from wattfill.server import panel

    return create(read(), routes=panel.routes())


class _Server:
    """What the endpoints have in common."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self.settings = settings
        self.engine = engine
        self.metrics = Metrics(engine)
        self.requests = Limiter(settings.rate, settings.burst, time.monotonic)
        self.failures = Limiter(*FAILED_LOGINS, time.monotonic)
        self.streams: Counter[str] = Counter()
        self.document = _dumps(openapi.document()).encode()

    def routes(self) -> list[BaseRoute]:
        routes: list[BaseRoute] = [
            Route("/healthz", self.healthz),
            Route("/readyz", self.readyz),
            Route("/metrics", self.show_metrics),
            Route("/openapi.json", self.show_document),
        ]
        for prefix in PREFIXES:
            by_path: dict[str, dict[str, Endpoint]] = {STREAM: {"GET": self.stream}}
            for operation in OPERATIONS:
                by_path.setdefault(operation.path, {})[operation.method] = self.endpoint(operation)
            # Fixed parts come before ids in their place.
            for path in sorted(by_path, key=_ids_last):
                methods = by_path[path]
                routes.append(Route(f"{prefix}{path}", _dispatch(methods), methods=list(methods)))
        return routes

    # Operations

    def endpoint(self, operation: Operation) -> Endpoint:
        """Return what answers an operation."""

        async def answer(request: Request) -> Response:
            text = self.key_of(request)
            body = await self.body_of(request)
            run = self.job(operation, request, text, body)
            return await self.counted(
                request, asyncio.wrap_future(self.engine.submit(operation.kind, run))
            )

        return answer

    def job(
        self, operation: Operation, request: Request, text: str, body: bytes
    ) -> Callable[[Service], Response]:
        """Return what the engine does for a request: whoever it is for is looked at first."""
        params, pairs = request.path_params, request.query_params.multi_items()
        headers = request.headers
        fingerprint = ""
        idempotency_key = headers.get("idempotency-key") if operation.method == "POST" else None
        if idempotency_key is not None:
            what = [
                operation.method,
                operation.name,
                sorted(params.items()),
                body.decode("latin-1"),
            ]
            fingerprint = hashlib.sha256(json.dumps(what).encode()).hexdigest()

        def run(service: Service) -> Response:
            caller = self.admitted(service, text, operation.scope)
            call = Call(
                read_path(params),
                read_query(operation.query, pairs),
                _read_body(operation, headers.get("content-type"), body),
                _if_version(headers.get("if-match")) if operation.is_conditional else None,
            )
            if idempotency_key is not None:
                if not re.fullmatch("[!-~]{1,200}", idempotency_key):
                    raise Refusal(422, "Idempotency-Key must be 1 to 200 visible characters")
                earlier = service.earlier_answer(caller, idempotency_key, fingerprint)
                if earlier is not None:
                    return _json(earlier[1].encode(), earlier[0], {"Idempotent-Replayed": "true"})
            reply = operation.run(service, caller, call)
            answer = _dumps({"ok": True, "result": reply.result, **reply.beside})
            if idempotency_key is not None and operation.kind == "write":
                service.keep_answer(caller, idempotency_key, fingerprint, 200, answer)
            version = reply.version
            return _json(answer.encode(), 200, {"ETag": f'"{version}"'} if version else None)

        return run

    def admitted(self, service: Service, text: str, scope: str) -> Caller:
        """Return who asks, if they may."""
        caller = service.authenticate(text)
        wait = self.requests.wait(caller.key)
        if wait:
            raise Refusal(429, "the key makes too many requests", headers=_retry_after(wait))
        caller.refuse_without(scope)
        return caller

    async def counted(self, request: Request, answer: Awaitable[T]) -> T:
        """Await an answer; count failed logins by address, and after many say so.

        A valid key is let in whatever else comes from its address, which may be a proxy's.
        """
        try:
            return await answer
        except Refusal as refusal:
            address = request.client.host if request.client else ""
            if refusal.status == 401 and (wait := self.failures.wait(address)):
                raise Refusal(
                    429, "too many requests without a valid key", headers=_retry_after(wait)
                ) from None
            raise

    def key_of(self, request: Request) -> str:
        scheme, _, text = request.headers.get("authorization", "").partition(" ")
        return text.strip() if scheme.lower() == "bearer" else ""

    async def body_of(self, request: Request) -> bytes:
        """Return the body, if it is not too large and does not take too long."""
        limit = self.settings.body_limit
        too_large = Refusal(413, f"the body must have at most {limit} bytes")
        length = request.headers.get("content-length", "0")
        if not re.fullmatch("[0-9]{1,18}", length) or int(length) > limit:
            raise too_large
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise Refusal(415, "the body must not be encoded: leave Content-Encoding out")
        parts, size = [], 0
        try:
            async with asyncio.timeout(self.settings.body_timeout):
                async for part in request.stream():
                    size += len(part)
                    if size > limit:
                        raise too_large
                    parts.append(part)
        except TimeoutError:
            raise Refusal(
                408, f"the body must arrive within {self.settings.body_timeout:g} seconds"
            ) from None
        return b"".join(parts)

    # Streams

    async def stream(self, request: Request) -> Response:
        """Answer with the events of a group."""
        text = self.key_of(request)
        params = request.path_params

        def admit(service: Service) -> tuple[Caller, str]:
            caller = self.admitted(service, text, "read")
            group = take_id("group", params["group"])
            organisation = service.store.organisation(caller.organisation)
            root = organisation.group_root.get(group)
            if root is None:
                raise not_found("group", "group", group)
            if organisation.trees[root].is_dispatched:
                # What is streamed counts as sent, and stations are told anew.
                caller.refuse_without("operate")
            return caller, group

        caller, group = await self.counted(request, self.engine.read(admit))
        read_query((), request.query_params.multi_items())
        if request.method == "HEAD":
            return Response(media_type=EVENT_STREAM)
        if self.streams[caller.key] >= self.settings.streams:
            raise Refusal(
                429,
                f"a key must follow at most {self.settings.streams} streams at once",
                headers=_retry_after(10),
            )
        follower = Follower(
            caller.organisation, group, asyncio.get_running_loop(), asyncio.Queue(EVENTS_AHEAD)
        )
        return StreamingResponse(
            self.events(follower, caller, text),
            media_type=EVENT_STREAM,
            headers={"X-Accel-Buffering": "no"},
        )

    async def events(self, follower: Follower, caller: Caller, text: str) -> AsyncIterator[str]:
        """Yield what a follower is told, until it is let go or its key opens nothing any more."""
        self.streams[caller.key] += 1
        try:
            yield "retry: 1000\n\n"
            await self.engine.follow(follower)
            while True:
                try:
                    event = await asyncio.wait_for(follower.events.get(), HEARTBEAT)
                except TimeoutError:
                    yield ": alive\n\n"
                    await self.engine.read(lambda service: service.authenticate(text))
                    continue
                if event is None:
                    return
                kind, data = event
                yield f"event: {kind}\ndata: {_dumps(data)}\n\n"
        except Refusal as refusal:
            yield f"event: refused\ndata: {_dumps(refusal.body())}\n\n"
        finally:
            self.streams[caller.key] -= 1
            self.engine.unfollow(follower)

    # How it goes

    async def healthz(self, request: Request) -> Response:
        """Say that the process answers."""
        return _json(b'{"ok":true,"result":{"_id":"healthz"}}')

    async def readyz(self, request: Request) -> Response:
        """Say whether requests can be answered: the database can be read, and written."""
        if not self.engine.is_ready:
            raise Refusal(503, "the database is being read", headers=_retry_after(1))
        try:
            async with asyncio.timeout(self.settings.patience):
                if self.engine.trouble is None:
                    await self.engine.read(lambda service: service.ping())
                else:
                    await self.engine.write(lambda service: service.try_to_write())
        except TimeoutError:
            raise Refusal(503, "the database is waited for", headers=_retry_after(1)) from None
        return _json(b'{"ok":true,"result":{"_id":"readyz"}}')

    async def show_metrics(self, request: Request) -> Response:
        """Show the metrics of the whole server."""
        text = self.key_of(request)

        def admit(service: Service) -> Caller:
            return self.admitted(service, text, "monitor")

        await self.counted(request, self.engine.read(admit))
        return Response(self.metrics.text(), media_type=CONTENT_TYPE)

    async def show_document(self, request: Request) -> Response:
        """Show the description of the API."""
        return _json(self.document)


class _Around:
    """Around every request: headers, a line in the log, metrics, and no trace of a fault."""

    def __init__(self, app: ASGIApp, server: _Server) -> None:
        self._app = app
        self._server = server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, request_id = time.perf_counter(), secrets.token_hex(8)
        scope[REQUEST_ID] = request_id
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers["X-Request-Id"] = request_id
                if scope["scheme"] == "https":
                    headers["Strict-Transport-Security"] = "max-age=31536000"
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except ClientDisconnect:
            status = 499
        except Refusal as refusal:
            response = _json(_dumps(refusal.body()).encode(), refusal.status, refusal.headers)
            await response(scope, receive, send_with_headers)
        except Exception:
            fault = failed(scope)
            if status == 0:
                response = _json(_dumps(fault.body()).encode(), 500)
                await response(scope, receive, send_with_headers)
        finally:
            seconds = time.perf_counter() - started
            # Only what is known: a name that somebody made up would be one more series.
            route = getattr(scope.get("route"), "path", "none")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._server.metrics.count(method, route, status, seconds)
            log.info(
                "request",
                extra={
                    "request": request_id,
                    "method": method,
                    "route": route,
                    "status": status,
                    "ms": round(seconds * 1000, 2),
                },
            )


def failed(scope: Scope) -> Refusal:
    """Log the fault that is being handled; return what is said of it, which is where to look."""
    request_id = scope[REQUEST_ID]
    log.exception("a request failed", extra={"request": request_id})
    return Refusal(500, f"the server failed; its log has it under {request_id}")


def _ids_last(path: str) -> list[bool]:
    return [part.startswith("{") for part in path[1:].split("/")]


_METHODS = ("GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS")


def _dispatch(methods: dict[str, Endpoint]) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        return await methods[method](request)

    return endpoint


async def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = {
        404: "there is nothing at this path",
        405: f"the method must be one of {(error.headers or {}).get('Allow', 'others')}",
    }.get(error.status_code, str(error.detail))
    refusal = Refusal(error.status_code, message, headers=dict(error.headers or {}))
    return _json(_dumps(refusal.body()).encode(), refusal.status, refusal.headers)


def _read_body(operation: Operation, content_type: str | None, body: bytes) -> dict[str, Any]:
    """Return what a body holds; where none is due it may be empty, whatever its type is."""
    if operation.model is None:
        if body.strip() not in (b"", b"{}"):
            raise Refusal(422, "the body must be empty")
        return {}
    media_type = (content_type or "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Refusal(415, "Content-Type must be application/json")
    found = operation.model.read(parse(body))
    if operation.method == "PATCH" and not found:
        raise Refusal(422, "the body must name what is to be changed")
    return found


def _if_version(header: str | None) -> int | None:
    if header is None or header.strip() == "*":
        return None
    found = re.fullmatch('"([0-9]{1,15})"', header.strip())
    # What is no version of ours is not the present one.
    return -1 if found is None else int(found[1])


def _dumps(value: Any) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def _json(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status, headers, "application/json")


def _retry_after(seconds: int) -> dict[str, str]:
    return {"Retry-After": str(seconds)}
