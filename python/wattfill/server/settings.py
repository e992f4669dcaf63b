"""Settings of the server: flags before the environment, before a file, before what is usual."""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from ipaddress import ip_address
from pathlib import Path
from typing import Any, get_type_hints

from wattfill.errors import InputError
from wattfill.server.commissioning import MODES

PREFIX = "WATTFILL_"
FILE_VARIABLE = "WATTFILL_SETTINGS"


@dataclass(frozen=True, slots=True)
class Settings:
    """How the server runs.

    Examples
    --------
    >>> read({"port": "9000"}, {"WATTFILL_PORT": "8000", "WATTFILL_DATABASE": "site.db"}).port
    9000

    """

    database: str = "wattfill.db"
    """A path of a SQLite file, or postgresql://..."""
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    """Processes. One of them dispatches, so that with dispatched groups there should be one."""
    tls_certificate: str = ""
    tls_key: str = ""
    behind_proxy: bool = False
    """Whether a proxy in front speaks TLS, so that plain HTTP may be served beyond loopback."""
    patience: float = 5.0
    """Seconds for which a database that cannot be used is waited for, before 503."""
    rate: float = 2000.0
    """Requests a second that one key may make."""
    burst: float = 4000.0
    """Requests of one key at once."""
    body_limit: int = 1 << 20
    """Bytes."""
    body_timeout: float = 10.0
    """Seconds that a body may take to arrive."""
    idle_timeout: float = 30.0
    """Seconds that a connection may take to send the head of its next request."""
    streams: int = 100
    """Streams that one key may follow at once."""
    lease: float = 0.0
    """Seconds for which a command holds; 0 for stations that hold the last limit for ever."""
    skew: float = 2.0
    lag: float = 5.0
    takeover: float = 10.0
    """Seconds without a sign of life of the server that dispatches, before another one does."""
    two_person: str = "auto"
    """Whether more is commissioned by two persons: `always`, `never`, or where there are two."""
    log_level: str = "info"


_ABOVE_0 = ("patience", "rate", "burst", "body_timeout", "idle_timeout", "takeover")
_WITHIN: dict[str, tuple[float, float]] = {
    "port": (0, 65535),
    "workers": (1, 64),
    "body_limit": (1024, 1 << 24),
    "streams": (1, 10_000),
}
_CHOICES = {"log_level": ("debug", "info", "warning", "error"), "two_person": MODES}


def read(
    flags: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None
) -> Settings:
    """Return the settings.

    Parameters
    ----------
    flags : mapping
        By name; None is as good as left out.
    environment : mapping, optional
        By default that of the process: ``WATTFILL_PORT`` and so on; ``WATTFILL_SETTINGS`` names a
        TOML file of the same names in lower case.

    Raises
    ------
    InputError
        If a setting is unknown, or breaks a rule; the message says where it stands.

    """
    environment = os.environ if environment is None else environment
    flags = {name: value for name, value in (flags or {}).items() if value is not None}
    path = flags.pop("settings", None) or environment.get(FILE_VARIABLE)
    known = {field.name for field in fields(Settings)}
    found: dict[str, Any] = {}
    for name, value in _file(path).items() if path else ():
        if name not in known:
            raise InputError(f"{path} must have settings that are known, got {name!r}")
        found[name] = _taken(f"{name} in {path}", name, value)
    for name in known:
        variable = f"{PREFIX}{name.upper()}"
        if variable in environment:
            found[name] = _taken(variable, name, environment[variable])
    for name, value in flags.items():
        found[name] = _taken(f"--{name.replace('_', '-')}", name, value)
    return _checked(Settings(**found))


def as_environment(settings: Settings) -> dict[str, str]:
    """Return what makes a process that is started have the same settings."""
    return {f"{PREFIX}{f.name.upper()}": str(getattr(settings, f.name)) for f in fields(Settings)}


def _file(path: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} must be TOML: {error}") from None


def _taken(place: str, name: str, value: Any) -> Any:
    """Return a setting in its type."""
    kind = get_type_hints(Settings)[name]
    try:
        if kind is bool:
            if isinstance(value, bool):
                return value
            return {"true": True, "1": True, "false": False, "0": False, "": False}[value.lower()]
        if isinstance(value, bool):
            raise ValueError
        taken = kind(value)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise InputError(f"{place} must be a {kind.__name__}, got {value!r}") from None
    low, high = _WITHIN.get(name, (-math.inf, math.inf))
    if kind is not str and not (low <= taken <= high and math.isfinite(taken) and taken >= 0):
        within = f" within {low:g}..{high:g}" if name in _WITHIN else " of at least 0"
        raise InputError(f"{place} must be a number{within}, got {value!r}")
    if name in _ABOVE_0 and not taken:
        raise InputError(f"{place} must be above 0, got {value!r}")
    if name in _CHOICES and taken not in _CHOICES[name]:
        raise InputError(f"{place} must be one of {', '.join(_CHOICES[name])}, got {value!r}")
    return taken


def _checked(settings: Settings) -> Settings:
    if bool(settings.tls_certificate) != bool(settings.tls_key):
        raise InputError("tls_certificate and tls_key must be given together")
    if not (is_loopback(settings.host) or settings.tls_certificate or settings.behind_proxy):
        raise InputError(
            f"host must be a loopback address, such as 127.0.0.1, got {settings.host!r}: keys must "
            "not travel in the clear. Give tls_certificate and tls_key, or behind_proxy where a "
            "proxy in front speaks TLS"
        )
    return settings


def is_loopback(host: str) -> bool:
    """Say whether an address is seen by this machine alone."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
