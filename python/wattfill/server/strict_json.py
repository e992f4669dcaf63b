r"""JSON as the server takes it: nothing that two readers could read in two ways.

Python's parser takes NaN, Infinity and 1e999 for numbers, the last of two equal keys for the one
that counts, and lone surrogates for text. These are refused, and so is U+0000, which PostgreSQL
cannot keep.

Examples
--------
>>> parse(b'{"buffer": 0.1}')
{'buffer': 0.1}
>>> parse(b'{"buffer": NaN}')
Traceback (most recent call last):
wattfill.server.refusal.Refusal: the body must be JSON, which has no NaN

"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, NoReturn

from wattfill.server.refusal import Refusal

MOST_DIGITS = 40


def parse(body: bytes) -> Any:
    """Return what a body holds.

    Raises
    ------
    Refusal
        With status 400, if the body is no JSON, or not only one thing.

    """
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise Refusal(400, f"the body must be UTF-8, got byte {error.start} that is not") from None
    try:
        value = _DECODE(text)
    except json.JSONDecodeError as error:
        raise Refusal(
            400, f"the body must be JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from None
    except RecursionError:
        raise Refusal(400, "the body must not be nested so deeply") from None
    # Whatever is no plain text was written as an escape.
    if "\\u" in text and not _is_plain(value):
        raise Refusal(400, "the body must hold no lone surrogates and no U+0000")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise Refusal(400, f"the body must have each key once, got {twice[:80]!r} twice")
    return found


def _constant(name: str) -> NoReturn:
    raise Refusal(400, f"the body must be JSON, which has no {name}")


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise Refusal(400, f"the body must hold numbers that fit a double, got {text[:40]}")
    return number


def _int(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise Refusal(
            400, f"the body must hold numbers of at most {MOST_DIGITS} digits, got {len(text)}"
        )
    return int(text)


_DECODE: Callable[[str], Any] = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_constant, parse_float=_float, parse_int=_int
).decode


def _is_plain(value: object) -> bool:
    """Say whether all text in a value can be written as UTF-8, without U+0000."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            if "\0" in item or any("\ud800" <= letter <= "\udfff" for letter in item):
                return False
        elif isinstance(item, dict):
            waiting += item.keys()
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item
    return True
