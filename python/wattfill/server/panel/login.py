"""Who is at the panel: sessions by cookie, and what a form must carry to be heeded.

A cookie holds a random secret; the database keeps its digest and the id of the key that it was
begun with, so that whoever revokes the key ends the session. The token of a form is made of the
secret and of the path that the form is sent to: it fits nobody else's session and no other form.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from wattfill.server.refusal import Refusal
from wattfill.server.service import Caller, Service
from wattfill.server.settings import Settings

LASTS = 12 * 3600.0
"""Seconds after which one has to log in again."""
_SECRET = re.compile("[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks for a page: a caller, and the secret of their session."""

    caller: Caller
    secret: str

    def may(self, scope: str) -> bool:
        """Say whether the key of the session has a scope."""
        return scope in self.caller.scopes


def is_https(settings: Settings) -> bool:
    """Say whether browsers reach the server by HTTPS."""
    return bool(settings.tls_certificate) or settings.behind_proxy


def cookie_name(settings: Settings) -> str:
    """Return the name of the cookie: by HTTPS one that no other host or path can set."""
    return "__Host-wattfill" if is_https(settings) else "wattfill"


def new_secret() -> str:
    """Return what a cookie holds."""
    return secrets.token_urlsafe(32)


def secret_of(request: Request) -> str:
    """Return the secret that a request brings, or nothing."""
    secret = request.cookies.get(cookie_name(request.app.state.settings), "")
    return secret if _SECRET.fullmatch(secret) else ""


def set_cookie(response: Response, settings: Settings, secret: str) -> None:
    """Have the browser keep a secret; without one, forget it."""
    response.set_cookie(
        cookie_name(settings),
        secret,
        max_age=int(LASTS) if secret else 0,
        path="/",
        secure=is_https(settings),
        httponly=True,
        samesite="strict",
    )


def begin(service: Service, key: str, secret: str) -> None:
    """Begin a session with a key; forget those that are over."""
    caller, now = service.authenticate(key), service.clock.now()
    database = service.store.database
    database.run("DELETE FROM wf_panel_session WHERE expires_at <= :now", now=now)
    database.run(
        "INSERT INTO wf_panel_session (digest, key_id, expires_at) "
        "VALUES (:digest, :key_id, :expires_at)",
        digest=_digest(secret),
        key_id=caller.key,
        expires_at=now + LASTS,
    )


def visitor(service: Service, secret: str) -> Visitor:
    """Return whose session it is, or refuse with status 401."""
    row = None
    if secret:
        row = service.store.database.row(
            "SELECT key_id FROM wf_panel_session WHERE digest = :digest AND expires_at > :now",
            digest=_digest(secret),
            now=service.clock.now(),
        )
    if row is None:
        raise Refusal(401, "the session is over: log in again")
    return Visitor(service.caller_of_key(row[0]), secret)


def end(service: Service, secret: str) -> None:
    """End a session."""
    service.store.database.run(
        "DELETE FROM wf_panel_session WHERE digest = :digest", digest=_digest(secret)
    )


def token(secret: str, path: str) -> str:
    """Return what a form that is sent to a path must carry."""
    return hmac.new(secret.encode(), path.encode(), "sha256").hexdigest()


def refuse_foreign_page(request: Request) -> None:
    """Refuse, with status 403, a form that the browser does not say is from one of our own pages.

    One that does not say where it comes from is none that people use.
    """
    origin = request.headers.get("origin")
    site = request.headers.get("sec-fetch-site")
    scheme = "https" if is_https(request.app.state.settings) else "http"
    is_ours = site == "same-origin"
    if origin is not None:
        parts = urlsplit(origin)
        is_ours = site in (None, "same-origin") and (
            (parts.scheme, parts.netloc) == (scheme, request.headers.get("host", ""))
        )
    if not is_ours:
        raise Refusal(403, "the form must be sent from a page of this server")


def refuse_foreign_form(request: Request, secret: str, given: str) -> None:
    """Refuse, with status 403, a form without the token of this session and this path."""
    due = token(secret, request.url.path)
    if not secret or not hmac.compare_digest(due.encode(), given.encode()):
        raise Refusal(403, "the form is not of this session: load its page again")


def _digest(secret: str) -> str:
    # 256 random bits need no slow hash.
    return hashlib.sha256(secret.encode()).hexdigest()
