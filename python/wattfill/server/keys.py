"""Keys: made once, shown once, and kept as digests.

A key is ``wf_live_<id>_<secret>_<checksum>``: the prefix and the checksum let scanners of
repositories and logs find one that leaked, and tell it from what only looks alike.
"""

from __future__ import annotations

import hmac
import re
import secrets
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from wattfill.errors import InputError

SCOPES = ("read", "operate", "configure", "commission", "monitor")
"""Look; start and stop sessions and answer for stations; change groups and stations; set what a
group may draw at the most; see the metrics of the whole server."""
FULL = "read operate configure commission"
READ_ONLY = "read"

ENVIRONMENT = "live"
_KEY = re.compile(r"(wf_([a-z]{1,16})_([0-9a-f]{12})_([0-9a-f]{64}))_([0-9a-f]{8})")
DUMMY_DIGEST = "0" * 64


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key as it is shown once, and what is kept of it."""

    id: str
    text: str
    digest: str


def make() -> NewKey:
    """Make a key of 32 random bytes.

    Examples
    --------
    >>> key = make()
    >>> split(key.text) == (key.id, key.digest)
    True

    """
    id, secret = secrets.token_hex(6), secrets.token_hex(32)
    body = f"wf_{ENVIRONMENT}_{id}_{secret}"
    return NewKey(id, f"{body}_{_checksum(body)}", _digest(id, secret))


def split(text: str) -> tuple[str, str] | None:
    """Return the id of a key and its digest, or None for what is no key of this environment."""
    found = _KEY.fullmatch(text)
    if found is None or found[2] != ENVIRONMENT or found[5] != _checksum(found[1]):
        return None
    return found[3], _digest(found[3], found[4])


def matches(digest: str, kept: str | None) -> bool:
    """Compare digests in a time that does not depend on them; None stands for an unknown key."""
    return hmac.compare_digest(digest, DUMMY_DIGEST if kept is None else kept) and kept is not None


def checked_scopes(scopes: Iterable[str]) -> str:
    """Return scopes as they are kept, in one order."""
    wanted = list(scopes)
    unknown = [scope for scope in wanted if scope not in SCOPES]
    if unknown or not wanted:
        raise InputError(
            f"scopes must be some of {', '.join(SCOPES)}, got {unknown[0] if unknown else 'none'!r}"
        )
    return " ".join(scope for scope in SCOPES if scope in wanted)


def _digest(id: str, secret: str) -> str:
    # 256 random bits need no slow hash. The id as the key makes digests of no use elsewhere.
    return hmac.new(id.encode(), secret.encode(), "sha256").hexdigest()


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"
