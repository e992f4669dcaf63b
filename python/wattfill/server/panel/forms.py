"""Forms: what was typed, as the models of the API take it, and back into the fields."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request

from wattfill.server.fields import Field, Model
from wattfill.server.refusal import Fault, Refusal

MOST_BYTES = 1 << 17
"""More than the largest form comes to."""
MOST_ROWS = 64
CONNECTOR_COLUMNS = ("id", "maximum_capacity", "minimum_capacity", "fallback")
_NUMBER = re.compile(r"[+-]?([0-9]+([.,][0-9]*)?|[.,][0-9]+)([eE][+-]?[0-9]{1,3})?")


async def read_form(request: Request) -> dict[str, str]:
    """Return the fields of a form as they were typed; of a name that comes twice, the last."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/x-www-form-urlencoded":
        raise Refusal(415, "Content-Type must be application/x-www-form-urlencoded")
    body = bytearray()
    try:
        async with asyncio.timeout(request.app.state.settings.body_timeout):
            async for part in request.stream():
                body += part
                if len(body) > MOST_BYTES:
                    raise Refusal(413, f"a form must have at most {MOST_BYTES} bytes")
    except TimeoutError:
        raise Refusal(408, "the form must arrive sooner") from None
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=1000
        )
    except ValueError:
        raise Refusal(400, "the form must be URL-encoded UTF-8 of at most 1000 fields") from None
    return {name: text.replace("\r\n", "\n") for name, text in pairs}


def as_typed(field: Field, text: str) -> Any:
    """Return the value that a text stands for; what is no number stays text, to be refused."""
    if field.kind in ("number", "whole"):
        text = text.strip()
        if not _NUMBER.fullmatch(text):
            return text
        number = float(text.replace(",", "."))
        return int(number) if field.kind == "whole" and number.is_integer() else number
    return text.strip() if field.kind == "id" else text


def take(model: Model, names: Sequence[str], typed: Mapping[str, str]) -> dict[str, Any]:
    """Return what a form says of some fields of a model.

    A field that was left empty is null where null is a value, its default where it has one, and
    otherwise not there.
    """
    found: dict[str, Any] = {}
    for name in names:
        field, text = model.by_name[name], typed.get(name, "")
        if text.strip() or field.kind == "text":
            found[name] = as_typed(field, text)
        elif field.null:
            found[name] = None
        elif field.default is not None:
            found[name] = field.default
    if "name" in found and not found["name"].strip():
        del found["name"]
    return found


def take_connectors(model: Model, typed: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the connectors of a form, without the rows that were left empty."""
    return [take(model, CONNECTOR_COLUMNS, row) for row in rows_of(typed) if any_typed(row)]


def rows_of(typed: Mapping[str, str]) -> list[dict[str, str]]:
    """Return the rows of connectors as they were typed, those that were left empty last."""
    rows = []
    for i in range(MOST_ROWS):
        names = {column: f"connectors[{i}].{column}" for column in CONNECTOR_COLUMNS}
        if any(name in typed for name in names.values()):
            rows.append({column: typed.get(name, "") for column, name in names.items()})
    return sorted(rows, key=lambda row: not any_typed(row))


def any_typed(row: Mapping[str, str]) -> bool:
    """Say whether anything stands in a row."""
    return any(text.strip() for text in row.values())


def by_field(refusal: Refusal, shown: Sequence[str]) -> dict[str, str]:
    """Return what to say next to each field, and under "" what belongs to none that is shown."""
    found: dict[str, str] = {}
    for fault in refusal.faults:
        place = fault.field if fault.field in shown else ""
        found.setdefault(place, _sentence(fault) if place else fault.message)
    if not refusal.faults:
        found[""] = refusal.message
    return found


def _sentence(fault: Fault) -> str:
    """Return a message without the name of the field that it stands next to."""
    words = fault.message.removeprefix(fault.field).strip()
    return words[:1].upper() + words[1:]
