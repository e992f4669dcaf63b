"""The pages of the panel, and what its forms do."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any, TypeAlias
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route, compile_path

from wattfill.report import decimal
from wattfill.server import models
from wattfill.server.api import OPERATIONS
from wattfill.server.app import EVENTS_AHEAD, FAILED_LOGINS, HEARTBEAT, failed
from wattfill.server.engine import Engine, Follower
from wattfill.server.fields import Model, take_id
from wattfill.server.limits import Limiter
from wattfill.server.panel import forms, history, login, views
from wattfill.server.panel.login import Visitor
from wattfill.server.refusal import Refusal, not_found
from wattfill.server.service import Caller, Service

Params: TypeAlias = Mapping[str, str]
Typed: TypeAlias = Mapping[str, str]
Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]

SCOPES = {operation.name: operation.scope for operation in OPERATIONS}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "img-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; "
    "base-uri 'none'",
    # With no-referrer, browsers would not say which page a form is from.
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cross-Origin-Opener-Policy": "same-origin",
}
TYPES = {"panel.css": "text/css", "panel.js": "text/javascript", "icon.svg": "image/svg+xml"}
GROUP_FIELDS = (
    "name",
    "location",
    "maximum_capacity",
    "minimum_connector_capacity",
    "buffer",
    "reserved",
    "admission",
    "rotation",
    "parent",
    "description",
    "notes",
)
TRIAL_FIELDS = ("maximum_capacity", "buffer")
TRIAL = Model("Trial", tuple(models.NEW_GROUP.by_name[name] for name in TRIAL_FIELDS))
SESSION_FIELDS = ("maximum", "weight", "priority")
RAISE_FIELDS = ("commissioned_capacity", "note")
HOME = "/admin/locations"
_OURS = re.compile(r"/admin(/[A-Za-z0-9_-]+)*(\?[a-z]+=[A-Za-z0-9_-]*)?")


@dataclass(frozen=True, slots=True)
class Visit:
    """Who asks for what, once it is known that they may."""

    request: Request
    visitor: Visitor
    params: Params

    @property
    def caller(self) -> Caller:
        """Whose key it is."""
        return self.visitor.caller

    @property
    def engine(self) -> Engine:
        """What reads and writes."""
        return _engine(self.request)


Page: TypeAlias = Callable[[Visit], Awaitable[Response]]
Show: TypeAlias = Callable[[Visit, Typed | None, Refusal | None], Awaitable[Response]]
Do: TypeAlias = Callable[[Visit, Typed], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Form:
    """A form: where it is sent, what the key must be allowed to, how it is shown and done."""

    path: str
    scope: str
    show: Show
    do: Do
    has_page: bool = True
    """Whether it is a page of its own, which GET shows."""


def routes() -> list[BaseRoute]:
    """Return the routes of the panel, for `wattfill.server.app.create`."""
    return _Panel().routes()


class _Panel:
    """What the pages have in common."""

    def __init__(self) -> None:
        folder = files(__package__) / "static"
        self.static = {name: (folder / name).read_bytes() for name in TYPES}
        digest = hashlib.sha256(b"".join(self.static.values())).hexdigest()[:12]
        self.templates = Environment(
            loader=PackageLoader(__package__),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.templates.globals.update(version=digest)
        self.templates.filters.update(kw=_kw, about=_about, when=_when)
        self.failures = Limiter(*FAILED_LOGINS, time.monotonic)
        self.requests: Limiter | None = None
        self.streams: Counter[str] = Counter()
        self.charts = asyncio.Semaphore(1)
        group, station = "/admin/groups/{group}", "/admin/chargestations/{chargestation}"
        plug = "/admin/sessions/{chargestation}/{connector}"
        self.forms = (
            Form("/admin/create", SCOPES["create_group"], self.group_form, self.create_group),
            Form(f"{group}/update", SCOPES["update_group"], self.group_form, self.update_group),
            Form(f"{group}/remove", SCOPES["delete_group"], self.confirm_group, self.delete_group),
            Form(
                f"{group}/add-chargestation",
                SCOPES["add_chargestation"],
                self.station_form,
                self.add_station,
            ),
            Form(
                f"{group}/commission",
                SCOPES["ask_for_raise"],
                self.commission_form,
                self.commission,
            ),
            Form(
                f"{group}/approve-raise",
                SCOPES["approve_raise"],
                self.group,
                self.approve_raise,
                False,
            ),
            Form(
                f"{group}/decline-raise",
                SCOPES["decline_raise"],
                self.group,
                self.decline_raise,
                False,
            ),
            Form(f"{group}/what-if", SCOPES["update_group"], self.group, self.save_trial, False),
            Form(
                f"{station}/update",
                SCOPES["update_chargestation"],
                self.station_form,
                self.update_station,
            ),
            Form(
                f"{station}/remove",
                SCOPES["remove_chargestation"],
                self.confirm_station,
                self.remove_station,
            ),
            Form(f"{plug}/start", SCOPES["start_session"], self.of_plug, self.start, False),
            Form(f"{plug}/stop", SCOPES["stop_session"], self.of_plug, self.stop, False),
        )

    def routes(self) -> list[BaseRoute]:
        """Return what answers below /admin."""
        pages: dict[str, Page] = {
            "/admin/locations": self.locations,
            "/admin/locations/{location}": self.location,
            "/admin/unplaced": self.location,
            "/admin/locations/{location}/changes": self.changes,
            "/admin/unplaced/changes": self.changes,
            "/admin/raises": self.raises,
            "/admin/groups/{group}": self.group,
            "/admin/groups/{group}/last-day": self.last_day,
        }
        found: list[BaseRoute] = [
            Route("/admin", _to_home),
            Route("/admin/", _to_home),
            Route("/admin/static/{name}", self.show_static),
            Route("/admin/login", self.guarded(self.login), methods=["GET", "POST"]),
            Route("/admin/logout", self.guarded(self.logout), methods=["GET", "POST"]),
            Route("/admin/events", self.events),
        ]
        found += [Route(path, self.guarded(self.page(show))) for path, show in pages.items()]
        for form in self.forms:
            endpoint = self.guarded(self.form(form))
            found.append(Route(form.path, endpoint, methods=["GET", "POST"]))
        return [*found, Route("/admin/{rest:path}", self.nothing)]

    # What surrounds a page

    def guarded(self, endpoint: Endpoint) -> Endpoint:
        """Return what says with a page that the server failed, if it does."""

        async def guarded(request: Request) -> Response:
            try:
                return await endpoint(request)
            except (Refusal, ClientDisconnect):
                raise
            except Exception:
                return self.error(None, failed(request.scope))

        return guarded

    def page(self, show: Page, scope: str = "read") -> Endpoint:
        """Return what shows a page to those who are logged in."""

        async def endpoint(request: Request) -> Response:
            visitor = None
            try:
                visitor = await self.visitor(request)
                visitor.caller.refuse_without(scope)
                return await show(Visit(request, visitor, _ids(request)))
            except Refusal as refusal:
                if refusal.status == 401:
                    query = urlencode({"next": _own(request)})
                    return _see(f"/admin/login?{query}")
                return self.error(visitor, refusal)

        return endpoint

    def form(self, form: Form) -> Endpoint:
        """Return what shows a form, and does what it is sent for."""
        show_page = self.page(lambda visit: form.show(visit, None, None), form.scope)

        async def endpoint(request: Request) -> Response:
            if request.method != "POST":
                return await show_page(request) if form.has_page else self.only_post()
            visitor = None
            try:
                login.refuse_foreign_page(request)
                typed = await forms.read_form(request)
                try:
                    visitor = await self.visitor(request)
                except Refusal as refusal:
                    if refusal.status != 401:
                        raise
                    return self.login_page(request, refusal, request.url.path, typed)
                login.refuse_foreign_form(request, visitor.secret, typed.get("token", ""))
                visitor.caller.refuse_without(form.scope)
                visit = Visit(request, visitor, _ids(request))
                try:
                    return await form.do(visit, typed)
                except Refusal as refusal:
                    return await form.show(visit, typed, refusal)
            except Refusal as refusal:
                return self.error(visitor, refusal)

        return endpoint

    async def visitor(self, request: Request) -> Visitor:
        """Return who asks, or refuse with 401 or 429."""
        secret = login.secret_of(request)
        visitor = await _engine(request).read(lambda service: login.visitor(service, secret))
        if self.requests is None:
            settings = request.app.state.settings
            self.requests = Limiter(settings.rate, settings.burst, time.monotonic)
        wait = self.requests.wait(visitor.caller.key)
        if wait:
            raise Refusal(429, "too many requests", headers={"Retry-After": str(wait)})
        return visitor

    def render(
        self,
        name: str,
        visitor: Visitor | None,
        status: int = 200,
        secret: str = "",
        **context: Any,
    ) -> Response:
        """Return a page out of a template."""
        secret = secret or (visitor.secret if visitor else "")
        text = self.templates.get_template(name).render(
            visitor=visitor,
            may=visitor.may if visitor else lambda scope: False,
            token=lambda path: login.token(secret, path),
            **context,
        )
        return Response(text, status, HEADERS, "text/html")

    def error(self, visitor: Visitor | None, refusal: Refusal) -> Response:
        """Say no with a page."""
        response = self.render("error.html", visitor, refusal.status, message=refusal.message)
        response.headers.update(refusal.headers)
        return response

    def only_post(self) -> Response:
        """Say that a form must be sent."""
        refusal = Refusal(405, "the method must be POST", headers={"Allow": "POST"})
        return self.error(None, refusal)

    async def nothing(self, request: Request) -> Response:
        """Say that there is no such page."""
        return self.error(None, Refusal(404, "there is nothing at this path"))

    async def show_static(self, request: Request) -> Response:
        """Answer with a style sheet, script or picture of the panel; their names have a version."""
        name = request.path_params["name"]
        if name not in self.static:
            return await self.nothing(request)
        headers = {"Cache-Control": "public, max-age=31536000, immutable"}
        return Response(self.static[name], 200, headers, TYPES[name])

    # Login

    async def login(self, request: Request) -> Response:
        """Show the login, or log somebody in."""
        if request.method != "POST":
            return self.login_page(request, None, _checked(request.query_params.get("next", "")))
        typed: Typed = {}
        try:
            login.refuse_foreign_page(request)
            typed = await forms.read_form(request)
            login.refuse_foreign_form(request, login.secret_of(request), typed.get("token", ""))
        except Refusal as refusal:
            return self.error(None, refusal)
        back = _checked(typed.get("next", ""))
        kept = {
            name.removeprefix("kept."): text
            for name, text in typed.items()
            if name.startswith("kept.")
        }
        address = request.client.host if request.client else ""
        secret = login.new_secret()
        try:
            key, old = typed.get("key", "").strip(), login.secret_of(request)

            def begin(service: Service) -> Visitor:
                login.begin(service, key, secret)
                login.end(service, old)
                return login.visitor(service, secret)

            visitor = await _engine(request).write(begin)
        except Refusal as refusal:
            if refusal.status == 401:
                refusal = Refusal(401, "This key opens nothing: it is mistyped, over or revoked.")
                wait = self.failures.wait(address)
                if wait:
                    message = f"too many wrong keys from here: wait {wait} seconds"
                    refusal = Refusal(429, message, headers={"Retry-After": str(wait)})
            return self.login_page(request, refusal, back, kept)
        response = await self.again(request, visitor, back, kept) if kept else _see(back)
        login.set_cookie(response, request.app.state.settings, secret)
        return response

    def login_page(
        self,
        request: Request,
        refusal: Refusal | None,
        back: str,
        kept: Typed | None = None,
    ) -> Response:
        """Show the login; what was typed in a form is kept in it."""
        # Whoever is not logged in has a secret, too, so that the login is a form like others.
        secret = login.secret_of(request)
        new = "" if secret else login.new_secret()
        response = self.render(
            "login.html",
            None,
            refusal.status if refusal else 200,
            secret or new,
            message=refusal.message if refusal else None,
            back=back,
            kept={k: v for k, v in (kept or {}).items() if k != "token"},
        )
        if refusal is not None:
            response.headers.update(refusal.headers)
        if new:
            login.set_cookie(response, request.app.state.settings, new)
        return response

    async def again(self, request: Request, visitor: Visitor, path: str, typed: Typed) -> Response:
        """Show the form that somebody sent when their session was over, as it was typed."""
        for form in self.forms:
            found = compile_path(form.path)[0].match(path)
            if found is None:
                continue
            note = Refusal(401, "You are logged in again. Nothing has been saved yet.")
            try:
                visitor.caller.refuse_without(form.scope)
                response = await form.show(Visit(request, visitor, found.groupdict()), typed, note)
            except Refusal as refusal:
                return self.error(visitor, refusal)
            response.status_code = 200
            return response
        return _see(HOME)

    async def logout(self, request: Request) -> Response:
        """End the session."""
        if request.method != "POST":
            return self.only_post()
        secret = login.secret_of(request)
        try:
            login.refuse_foreign_page(request)
            typed = await forms.read_form(request)
            login.refuse_foreign_form(request, secret, typed.get("token", ""))
            await _engine(request).write(lambda service: login.end(service, secret))
        except Refusal as refusal:
            return self.error(None, refusal)
        response = _see("/admin/login")
        login.set_cookie(response, request.app.state.settings, "")
        return response

    # Pages

    async def locations(self, visit: Visit) -> Response:
        """Show where groups stand."""

        def look(service: Service) -> tuple[list[dict[str, Any]], int]:
            waiting = service.list_raises(visit.caller, state="pending", limit=views.PAGE)
            return views.locations(service, visit.caller), len(waiting)

        found, n_raises = await visit.engine.read(look)
        return self.render("locations.html", visit.visitor, places=found, n_raises=n_raises)

    async def raises(self, visit: Visit) -> Response:
        """Show what was asked to be commissioned, and what became of it."""

        def look(service: Service) -> tuple[list[dict[str, Any]], dict[str, str]]:
            found = service.list_raises(visit.caller, limit=4 * views.PAGE)
            return found, dict(views.group_names(service, visit.caller))

        found, names = await visit.engine.read(look)
        return self.render("raises.html", visit.visitor, raises=found, names=names)

    async def location(self, visit: Visit) -> Response:
        """Show the groups at a location."""
        location = visit.params.get("location")
        text = visit.request.query_params.get("page", "1")
        number = int(text) if re.fullmatch("[1-9][0-9]{0,5}", text) else 1

        def look(service: Service) -> tuple[list[dict[str, Any]], int]:
            found = views.groups_at(service, visit.caller, location)
            page = found[(number - 1) * views.PAGE : number * views.PAGE]
            return [views.group(service, visit.caller, each.id) for each in page], len(found)

        groups, total = await visit.engine.read(look)
        path = _place(location)
        return self.render(
            "location.html",
            visit.visitor,
            location=location,
            path=path,
            groups=groups,
            total=total,
            number=number,
            n_pages=-(-total // views.PAGE),
            opened=visit.request.query_params.get("open"),
            back=path,
            plug_error=None,
        )

    async def changes(self, visit: Visit) -> Response:
        """Show who changed what at a location."""
        visit.caller.refuse_without(SCOPES["list_changes"])
        location = visit.params.get("location")
        found = await visit.engine.read(
            lambda service: views.changes_at(service, visit.caller, location)
        )
        return self.render(
            "changes.html",
            visit.visitor,
            location=location,
            path=_place(location),
            changes=found,
        )

    async def group(
        self,
        visit: Visit,
        typed: Typed | None = None,
        refusal: Refusal | None = None,
        plug_error: Mapping[str, Any] | None = None,
    ) -> Response:
        """Show a group, and what it would give with other values."""
        group_id = visit.params["group"]
        names = TRIAL_FIELDS
        tried = typed if typed is not None else visit.request.query_params
        fields = {name: tried[name] for name in names if name in tried}
        errors: dict[str, str] = {}
        if refusal is not None and plug_error is None:
            errors = forms.by_field(refusal, names)
        trial = None
        if fields and refusal is None:
            try:
                trial = TRIAL.read(forms.take(TRIAL, names, fields))
            except Refusal as wrong:
                errors = forms.by_field(wrong, names)

        def look(service: Service) -> tuple[dict[str, Any], dict[str, Any] | None]:
            shown = views.group(service, visit.caller, group_id)
            if not trial:
                return shown, None
            return shown, views.group(service, visit.caller, group_id, trial)

        shown, tried_out = await visit.engine.read(look)
        group = shown["group"]
        status = 200
        if refusal is not None:
            status = refusal.status
        elif errors:
            status = 422
        most = group["commissioned_capacity"]
        if visit.visitor.may("commission"):
            most = max(most * 1.5, 1.0)
        return self.render(
            "group.html",
            visit.visitor,
            status,
            each=shown,
            trial=tried_out,
            values={name: fields.get(name, decimal(group[name])) for name in names},
            most=most,
            step=history.round_step(most / 200),
            errors=errors,
            place=_place(group["location"]),
            back=f"/admin/groups/{group_id}",
            plug_error=plug_error,
        )

    async def last_day(self, visit: Visit) -> Response:
        """Show what a group gave during the last day."""
        group_id = visit.params["group"]
        engine = visit.engine
        present = await engine.read(
            lambda service: history.present(service, visit.caller, group_id)
        )
        # Both may take long: one after another, and the second beside the engine.
        async with self.charts:
            lines, since = await history.read(engine, present)
            day = await asyncio.to_thread(history.replay, present, lines, since)
        return self.render(
            "last_day.html",
            visit.visitor,
            day=day,
            chart=history.draw(day),
            group_id=group_id,
            group_name=present.name,
        )

    async def events(self, request: Request) -> Response:
        """Stream the ids of groups whose allocation changes, for the script."""
        try:
            visitor = await self.visitor(request)
            visitor.caller.refuse_without("read")
            groups = [take_id("group", text) for text in request.query_params.getlist("group")][
                : views.PAGE
            ]
            most = request.app.state.settings.streams
            if self.streams[visitor.caller.key] >= most:
                raise Refusal(429, f"a key must follow at most {most} streams at once")
        except Refusal as refusal:
            return self.error(None, refusal)
        return StreamingResponse(
            self.stream(_engine(request), visitor, groups),
            200,
            {"X-Accel-Buffering": "no"},
            "text/event-stream",
        )

    async def stream(
        self, engine: Engine, visitor: Visitor, groups: Sequence[str]
    ) -> AsyncIterator[str]:
        """Yield an event whenever something changes, until the session is over."""
        events: asyncio.Queue[tuple[str, Any] | None] = asyncio.Queue(EVENTS_AHEAD)
        tenant, loop = visitor.caller.organisation, asyncio.get_running_loop()
        followers = [Follower(tenant, group, loop, events, watches=True) for group in groups]
        self.streams[visitor.caller.key] += 1
        try:
            for follower in followers:
                await engine.follow(follower)
            yield "retry: 2000\n\n"
            while True:
                try:
                    event = await asyncio.wait_for(events.get(), HEARTBEAT)
                except TimeoutError:
                    yield ": alive\n\n"
                    await engine.read(lambda service: login.visitor(service, visitor.secret))
                    continue
                if event is None:
                    return
                yield f"data: {event[1]['_id']}\n\n"
        except Refusal:
            return
        finally:
            self.streams[visitor.caller.key] -= 1
            for follower in followers:
                engine.unfollow(follower)

    # Groups

    async def group_form(
        self, visit: Visit, typed: Typed | None, refusal: Refusal | None
    ) -> Response:
        """Show the form of a group, to create or to update it."""
        group_id = visit.params.get("group")

        def look(service: Service) -> tuple[dict[str, Any] | None, list[tuple[str, str]]]:
            group = None if group_id is None else service.get_group(visit.caller, group_id)
            return group, views.group_names(service, visit.caller)

        group, names = await visit.engine.read(look)
        values: dict[str, str] = dict.fromkeys(("id", "version", *GROUP_FIELDS), "")
        if typed is not None:
            values |= typed
        elif group is not None:
            values |= {name: _as_text(group[name]) for name in ("version", *GROUP_FIELDS)}
        else:
            values |= {
                field.name: _as_text(field.default)
                for field in models.NEW_GROUP.fields
                if field.default is not None
            }
            for name in ("location", "parent"):
                values[name] = visit.request.query_params.get(name, "")
        return self.render(
            "group_form.html",
            visit.visitor,
            refusal.status if refusal else 200,
            group=group,
            action=f"/admin/groups/{group_id}/update" if group_id else "/admin/create",
            values=values,
            errors=forms.by_field(refusal, ("id", *GROUP_FIELDS)) if refusal else {},
            parents=[each for each in names if each[0] != group_id],
            back=f"/admin/groups/{group_id}" if group_id else _place(values["location"] or None),
        )

    async def create_group(self, visit: Visit, typed: Typed) -> Response:
        """Create a group."""
        fields = models.NEW_GROUP.read(forms.take(models.NEW_GROUP, ("id", *GROUP_FIELDS), typed))
        made = await visit.engine.write(lambda service: service.create_group(visit.caller, fields))
        return _see(f"/admin/groups/{made['_id']}")

    async def update_group(self, visit: Visit, typed: Typed) -> Response:
        """Change what is not as it was."""
        wanted = models.NEW_GROUP.read(forms.take(models.NEW_GROUP, GROUP_FIELDS, typed))
        version = typed.get("version", "")
        if not re.fullmatch("[0-9]{1,15}", version):
            raise Refusal(400, "the form must say which version of the group it is for")
        await self._change(visit, visit.params["group"], wanted, int(version))
        return _see(f"/admin/groups/{visit.params['group']}")

    async def save_trial(self, visit: Visit, typed: Typed) -> Response:
        """Save what was tried."""
        wanted = TRIAL.read(forms.take(TRIAL, TRIAL_FIELDS, typed))
        await self._change(visit, visit.params["group"], wanted, None)
        return _see(f"/admin/groups/{visit.params['group']}")

    async def _change(
        self,
        visit: Visit,
        group_id: str,
        wanted: Mapping[str, Any],
        version: int | None,
    ) -> None:
        def change(service: Service) -> None:
            group = service.get_group(visit.caller, group_id)
            fields = {name: value for name, value in wanted.items() if group[name] != value}
            if fields:
                service.update_group(visit.caller, group_id, fields, version)

        await visit.engine.write(change)

    async def commission_form(
        self, visit: Visit, typed: Typed | None, refusal: Refusal | None
    ) -> Response:
        """Show the form of what is commissioned."""
        group_id = visit.params["group"]
        group = await visit.engine.read(lambda service: service.get_group(visit.caller, group_id))
        shown = {"commissioned_capacity": decimal(group["commissioned_capacity"]), "note": ""}
        return self.render(
            "commission.html",
            visit.visitor,
            refusal.status if refusal else 200,
            group=group,
            action=f"/admin/groups/{group_id}/commission",
            values=shown if typed is None else typed,
            errors=forms.by_field(refusal, RAISE_FIELDS) if refusal else {},
            back=f"/admin/groups/{group_id}",
        )

    async def commission(self, visit: Visit, typed: Typed) -> Response:
        """Commission less at once, or ask for more."""
        group_id = visit.params["group"]
        fields = models.NEW_RAISE.read(forms.take(models.NEW_RAISE, RAISE_FIELDS, typed))
        wanted = fields["commissioned_capacity"]

        def change(service: Service) -> None:
            present = service.get_group(visit.caller, group_id)["commissioned_capacity"]
            if wanted > present:
                service.ask_for_raise(visit.caller, group_id, fields)
            elif wanted < present:
                visit.caller.refuse_without(SCOPES["update_group"])
                service.update_group(visit.caller, group_id, {"commissioned_capacity": wanted})

        await visit.engine.write(change)
        return _see(f"/admin/groups/{group_id}#commissioned")

    async def approve_raise(self, visit: Visit, typed: Typed) -> Response:
        """Approve what somebody else asked for."""
        return await self._decide(visit, typed, Service.approve_raise)

    async def decline_raise(self, visit: Visit, typed: Typed) -> Response:
        """Decline what somebody else asked for, or withdraw one's own."""
        return await self._decide(visit, typed, Service.decline_raise)

    async def _decide(
        self,
        visit: Visit,
        typed: Typed,
        how: Callable[[Service, Caller, str], object],
    ) -> Response:
        def decide(service: Service) -> None:
            service.get_group(visit.caller, visit.params["group"])
            raise_id = take_id("raise", typed.get("raise", ""))
            if service.get_raise(visit.caller, raise_id)["group"] != visit.params["group"]:
                raise not_found("raise", "raise", raise_id)
            how(service, visit.caller, raise_id)

        await visit.engine.write(decide)
        return _see(f"/admin/groups/{visit.params['group']}#commissioned")

    async def confirm_group(
        self, visit: Visit, typed: Typed | None, refusal: Refusal | None
    ) -> Response:
        """Ask whether a group is to be removed."""
        group = await visit.engine.read(
            lambda service: service.get_group(visit.caller, visit.params["group"])
        )
        return self.render(
            "confirm.html",
            visit.visitor,
            refusal.status if refusal else 200,
            what=f"group {group['name']}",
            words=f"The group {group['name']} ({group['_id']}) and its settings are removed.",
            action=f"/admin/groups/{group['_id']}/remove",
            back=f"/admin/groups/{group['_id']}",
            message=refusal.message if refusal else None,
        )

    async def delete_group(self, visit: Visit, typed: Typed) -> Response:
        """Remove a group."""

        def delete(service: Service) -> str:
            location = service.get_group(visit.caller, visit.params["group"])["location"]
            service.delete_group(visit.caller, visit.params["group"])
            return _place(location)

        return _see(await visit.engine.write(delete))

    # Charge stations

    async def station_form(
        self, visit: Visit, typed: Typed | None, refusal: Refusal | None
    ) -> Response:
        """Show the form of a charge station, to add or to update it."""
        station_id = visit.params.get("chargestation")

        def look(service: Service) -> tuple[dict[str, Any] | None, dict[str, Any]]:
            station = None
            group_id = visit.params.get("group", "")
            if station_id is not None:
                station = service.get_station(visit.caller, station_id)
                group_id = station["group"]
            return station, service.get_group(visit.caller, group_id)

        station, group = await visit.engine.read(look)
        if typed is not None:
            rows, values = forms.rows_of(typed), dict(typed)
        else:
            kept = station["connectors"] if station is not None else []
            rows = [
                {column: _as_text(plug[column]) for column in forms.CONNECTOR_COLUMNS}
                for plug in kept
            ]
            values = {}
        n_blank = sum(not forms.any_typed(row) for row in rows)
        if not n_blank or (typed or {}).get("more"):
            rows += [dict.fromkeys(forms.CONNECTOR_COLUMNS, "")] * (1 if n_blank or rows else 2)
        names = ["chargestation"] + [
            f"connectors[{i}].{column}"
            for i in range(len(rows))
            for column in forms.CONNECTOR_COLUMNS
        ]
        return self.render(
            "station_form.html",
            visit.visitor,
            refusal.status if refusal else 200,
            station=station,
            group=group,
            n_known=len(station["connectors"]) if station is not None else 0,
            action=(
                f"/admin/chargestations/{station_id}/update"
                if station_id
                else f"/admin/groups/{group['_id']}/add-chargestation"
            ),
            rows=rows[: forms.MOST_ROWS],
            chargestation=values.get("chargestation", ""),
            errors=forms.by_field(refusal, names) if refusal else {},
            back=f"/admin/groups/{group['_id']}",
        )

    async def add_station(self, visit: Visit, typed: Typed) -> Response:
        """Add a charge station to a group."""
        if "more" in typed:
            return await self.station_form(visit, typed, None)
        fields = models.NEW_STATION.read(
            {
                **forms.take(models.NEW_STATION, ("chargestation",), typed),
                "connectors": forms.take_connectors(models.CONNECTOR, typed),
            }
        )
        await visit.engine.write(
            lambda service: service.add_station(visit.caller, visit.params["group"], fields)
        )
        return _see(f"/admin/groups/{visit.params['group']}#station-{fields['chargestation']}")

    async def update_station(self, visit: Visit, typed: Typed) -> Response:
        """Change the connectors of a charge station, or add some."""
        if "more" in typed:
            return await self.station_form(visit, typed, None)
        fields = models.CHANGED_STATION.read(
            {"connectors": forms.take_connectors(models.CONNECTOR, typed)}
        )
        station = await visit.engine.write(
            lambda service: service.update_station(
                visit.caller, visit.params["chargestation"], fields
            )
        )
        return _see(f"/admin/groups/{station['group']}#station-{station['_id']}")

    async def confirm_station(
        self, visit: Visit, typed: Typed | None, refusal: Refusal | None
    ) -> Response:
        """Ask whether a charge station is to be removed."""
        station = await visit.engine.read(
            lambda service: service.get_station(visit.caller, visit.params["chargestation"])
        )
        n_sessions = sum(plug["session"] is not None for plug in station["connectors"])
        words = f"The charge station {station['_id']} and its connectors are removed."
        if n_sessions:
            words += (
                f" {n_sessions} of its connectors {'has' if n_sessions == 1 else 'have'} a session "
                "that ends with it."
            )
        return self.render(
            "confirm.html",
            visit.visitor,
            refusal.status if refusal else 200,
            what=f"charge station {station['_id']}",
            words=words,
            action=f"/admin/chargestations/{station['_id']}/remove",
            back=f"/admin/groups/{station['group']}",
            message=refusal.message if refusal else None,
        )

    async def remove_station(self, visit: Visit, typed: Typed) -> Response:
        """Remove a charge station."""
        removed = await visit.engine.write(
            lambda service: service.remove_station(visit.caller, visit.params["chargestation"])
        )
        return _see(f"/admin/groups/{removed['group']}")

    # Sessions

    async def of_plug(self, visit: Visit, typed: Typed | None, refusal: Refusal | None) -> Response:
        """Show the group of a connector whose session could not be started or stopped."""
        station_id, connector = visit.params["chargestation"], visit.params["connector"]
        station = await visit.engine.read(
            lambda service: service.get_station(visit.caller, station_id)
        )
        assert refusal is not None
        plug_error = {
            "chargestation": station_id,
            "connector": connector,
            "errors": forms.by_field(refusal, SESSION_FIELDS),
            "typed": typed or {},
        }
        return await self.group(
            replace(visit, params={"group": station["group"]}), {}, refusal, plug_error
        )

    async def start(self, visit: Visit, typed: Typed) -> Response:
        """Start a session at a connector."""
        fields = models.NEW_SESSION.read(
            {**visit.params, **forms.take(models.NEW_SESSION, SESSION_FIELDS, typed)}
        )
        await visit.engine.write(lambda service: service.start_session(visit.caller, fields))
        return _see(f"{_checked(typed.get('back', ''))}#station-{visit.params['chargestation']}")

    async def stop(self, visit: Visit, typed: Typed) -> Response:
        """Stop the session at a connector."""
        await visit.engine.write(
            lambda service: service.stop_session(
                visit.caller, visit.params["chargestation"], visit.params["connector"]
            )
        )
        return _see(f"{_checked(typed.get('back', ''))}#station-{visit.params['chargestation']}")


async def _to_home(request: Request) -> Response:
    return _see(HOME)


def _engine(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine


def _ids(request: Request) -> dict[str, str]:
    return {name: take_id(name, value) for name, value in request.path_params.items()}


def _see(path: str) -> Response:
    return RedirectResponse(path, 303, HEADERS)


def _place(location: str | None) -> str:
    """Return the page of a location, or of the groups without one."""
    return "/admin/unplaced" if location is None else f"{HOME}/{quote(location, safe='')}"


def _own(request: Request) -> str:
    query = f"?{request.url.query}" if request.url.query else ""
    return _checked(f"{request.url.path}{query}")


def _checked(path: str) -> str:
    """Return a path within the panel, wherever it comes from."""
    return path if _OURS.fullmatch(path) else HOME


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return decimal(value) if isinstance(value, float) else str(value)


def _kw(value: float) -> str:
    """Return kW as people read them: to the watt."""
    return decimal(round(value, 3) + 0.0)


def _about(value: float) -> str:
    """Return kW where there is little room."""
    return decimal(round(value, 1) + 0.0)


def _when(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
