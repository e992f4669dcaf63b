"""The lines of a log of limits: JSON in, checked; what is malformed is refused by its number."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from fractions import Fraction
from reprlib import repr as shown
from typing import Any, NoReturn, TypeAlias

from wattfill.errors import InputError, InputTypeError

Log: TypeAlias = "str | os.PathLike[str] | Iterable[Mapping[str, Any] | str | bytes]"

# No site has a terawatt; who gets there has written watts, or milliwatts.
MOST_KW = 1e9
POWER = "a number within 0..1e9 (kW)"

# Keys that a line of each kind must have beside `at` and `kind`, and those that it may have.
KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "group": (("group",), ("maximum_capacity", "buffer", "reserved", "parent")),
    "connector": (("station", "connector"), ("group", "maximum_capacity", "floor", "ordered")),
    "leave": (("station", "connector"), ()),
    "command": (("station", "connector", "seq", "limit"), ("expires",)),
    "confirmation": (("station", "connector", "seq"), ()),
    "rejection": (("station", "connector", "seq"), ()),
    "read-back": (("station", "connector", "limit"), ("seq",)),
    "meter": (("station", "connector", "power"), ("measured_at",)),
    "timeout": (("station", "connector", "seq"), ()),
    "offline": (("station",), ()),
    "online": (("station",), ()),
    "boot": (("station",), ()),
}


class Line:
    """One line of a log; what it refuses begins with its number."""

    def __init__(self, number: int, values: Mapping[str, Any]) -> None:
        self.number = number
        self.values = values
        kind = values.get("kind")
        if not isinstance(kind, str) or kind not in KINDS:
            near = nearest(kind, KINDS) or f"; the kinds are {', '.join(KINDS)}"
            self.refuse(f"kind must be that of a line, got {self._shown('kind')}{near}")
        self.kind: str = kind
        needed, allowed = KINDS[kind]
        keys = ("at", "kind", *needed, *allowed)
        for key in values:
            if key not in keys:
                near = nearest(key, keys) or f"; the keys are {', '.join(keys)}"
                self.refuse(f"a {kind} has no key {key!r}{near}")
        for key in ("at", *needed):
            if values.get(key) is None:
                self.refuse(f"a {kind} must have the key {key!r}")
        self.at = exact(self.time("at"))

    def __contains__(self, key: str) -> bool:
        return self.values.get(key) is not None

    def refuse(self, sentence: str) -> NoReturn:
        raise InputError(f"line {self.number}: {sentence}")

    def refuse_value(self, key: str, rule: str) -> NoReturn:
        self.refuse(f"{key} must be {rule}, got {self._shown(key)}")

    def _shown(self, key: str) -> str:
        return shown(self.values[key]) if key in self.values else "none"

    def number_in(self, key: str, rule: str, least: float, most: float) -> float:
        """Return the finite number of this key, which must lie in least..most."""
        x = _finite(self.values[key])
        if x is None or not least <= x <= most:
            self.refuse_value(key, rule)
        return x

    def power(self, key: str) -> float:
        return self.number_in(key, POWER, 0.0, MOST_KW)

    def time(self, key: str) -> float:
        return self.number_in(key, "a finite number", -math.inf, math.inf)

    def id(self, key: str) -> str:
        """Return an id: a string, or a whole number, which stands for its digits."""
        value = self.values[key]
        if not (type(value) is int or (isinstance(value, str) and value)):
            self.refuse_value(key, "a non-empty string or a whole number")
        return str(value)

    def seq(self) -> int:
        value = self.values["seq"]
        if type(value) is not int or value < 0:
            self.refuse_value("seq", "a whole number, at least 0")
        return value


class _Object(dict[str, Any]):
    """A JSON object that remembers a key that it has twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        keys = [key for key, _ in pairs]
        self.twice = next((key for key in keys if keys.count(key) > 1), None)


@contextmanager
def lines_of(log: Log) -> Iterator[Iterator[Line]]:
    """Open what has to be opened, and parse lines while it is open."""
    if isinstance(log, (str, os.PathLike)):
        with open(log, "rb") as file:
            yield _parsed(file)
    elif isinstance(log, (bytes, Mapping)) or not isinstance(log, Iterable):
        raise InputTypeError(
            f"log must be a path, an open file or an iterable of lines, got {type(log).__name__}"
        )
    else:
        yield _parsed(log)


def _parsed(lines: Iterable[Mapping[str, Any] | str | bytes]) -> Iterator[Line]:
    for number, line in enumerate(lines, 1):
        values = line
        if isinstance(values, (bytes, bytearray)):
            try:
                values = values.decode("utf-8")
            except UnicodeDecodeError as error:
                raise InputError(f"line {number} is not UTF-8: {error.reason}") from None
        if isinstance(values, str):
            values = values.removeprefix("\ufeff") if number == 1 else values
            if not values.strip():
                continue
            values = _from_json(number, values)
        if not isinstance(values, Mapping):
            raise InputError(f"line {number} must be an object, got {shown(values)}")
        twice = getattr(values, "twice", None)
        if twice is not None:
            raise InputError(f"line {number}: the key {twice!r} is there twice")
        yield Line(number, values)


def _from_json(number: int, text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_Object)
    except json.JSONDecodeError as error:
        raise InputError(
            f"line {number} is not JSON: {error.msg} at column {error.colno}"
        ) from None
    except RecursionError:
        raise InputError(f"line {number} is nested too deeply for a line of a log") from None
    except ValueError as error:
        # Python reads no whole number of thousands of digits.
        raise InputError(f"line {number} has a number that is too long: {error}") from None


def _finite(value: object) -> float | None:
    """Return a number as a float, None if it is none or not finite."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        x = float(value)
    except OverflowError:
        return None
    return x if math.isfinite(x) else None


def seconds(name: str, value: float) -> Fraction:
    x = _finite(value)
    if x is None or x < 0.0:
        raise InputError(f"{name} must be a finite number, at least 0 (s), got {shown(value)}")
    return exact(x)


def nearest(word: object, words: Iterable[str]) -> str:
    near = get_close_matches(word, words, 1) if isinstance(word, str) else []
    return f"; did you mean {near[0]!r}?" if near else ""


def exact(x: float) -> Fraction:
    """Return the decimal that was written: 0.1 s and 0.2 s are 0.3 s."""
    return Fraction(repr(x))
