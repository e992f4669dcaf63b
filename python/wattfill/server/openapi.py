"""The published description of the API, made of the operations themselves."""

from __future__ import annotations

from typing import Any

from wattfill import __version__
from wattfill.reason import Reason
from wattfill.server.api import OPERATIONS, PREFIXES, STREAM, Operation
from wattfill.server.commissioning import STATES
from wattfill.server.fields import ID

_ID = {"type": "string", "pattern": f"^{ID.pattern}$"}
_TEXT = {"type": "string"}
_NUMBER = {"type": "number"}
_WHOLE = {"type": "integer"}
_FLAG = {"type": "boolean"}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def _object(properties: dict[str, Any], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "required": [name for name in properties if name not in optional],
    }


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _list(name: str) -> dict[str, Any]:
    return {"type": "array", "items": _ref(name)}


_OUTCOME = {
    "usable": _NUMBER,
    "used": _NUMBER,
    "headroom": _NUMBER,
    "shortfall": _NUMBER,
    "level": _or_null(_NUMBER),
}
_REASON = {"type": "string", "enum": [reason.label for reason in Reason]}

SCHEMAS: dict[str, Any] = {
    "Group": _object(
        {
            "_id": _ID,
            "id": _ID,
            "name": _TEXT,
            "description": _TEXT,
            "notes": _TEXT,
            "maximum_capacity": _NUMBER,
            "minimum_connector_capacity": _NUMBER,
            "buffer": _NUMBER,
            "reserved": _NUMBER,
            "location": _or_null(_ID),
            "parent": _or_null(_ID),
            "admission": _TEXT,
            "rotation": _NUMBER,
            "dispatch": _FLAG,
            "commissioned_capacity": _NUMBER,
            "raise": _or_null(_ref("Raise")),
            "version": _WHOLE,
            "created_at": _NUMBER,
            "updated_at": _NUMBER,
            "chargestations": _list("Chargestation"),
            "allocation": _object(_OUTCOME),
        }
    ),
    "Raise": _object(
        {
            "_id": _ID,
            "group": _ID,
            "commissioned_capacity": _NUMBER,
            "commissioned_before": _NUMBER,
            "note": _TEXT,
            "state": {"type": "string", "enum": list(STATES)},
            "asked_by": _TEXT,
            "asked_by_name": _TEXT,
            "asked_at": _NUMBER,
            "expires_at": _NUMBER,
            "decided_by": _or_null(_TEXT),
            "decided_at": _or_null(_NUMBER),
        }
    ),
    "Chargestation": _object(
        {
            "_id": _ID,
            "chargestation": _ID,
            "group": _ID,
            "connectors": _list("Connector"),
        }
    ),
    "Connector": _object(
        {
            "id": _ID,
            "maximum_capacity": _NUMBER,
            "minimum_capacity": _or_null(_NUMBER),
            "fallback": _or_null(_NUMBER),
            "session": _or_null(_ref("Session")),
            "power": _NUMBER,
            "reason": _REASON,
            "words": _TEXT,
        }
    ),
    "Session": _object(
        {
            "_id": _TEXT,
            "chargestation": _ID,
            "connector": _ID,
            "maximum": _or_null(_NUMBER),
            "weight": _NUMBER,
            "priority": _WHOLE,
            "started_at": _NUMBER,
        }
    ),
    "SessionResult": _object(
        {
            "_id": _TEXT,
            "session": _or_null(_ref("Session")),
            "allocation": _ref("Allocation"),
        }
    ),
    "Allocation": _object(
        {
            "_id": _ID,
            "root": _ID,
            "at": _NUMBER,
            "dispatch": _FLAG,
            "groups": {
                "type": "array",
                "items": _object({"_id": _ID, "name": _TEXT, "parent": _or_null(_ID), **_OUTCOME}),
            },
            "connectors": {
                "type": "array",
                "items": _object(
                    {
                        "chargestation": _ID,
                        "connector": _ID,
                        "group": _ID,
                        "power": _NUMBER,
                        "reason": _REASON,
                        "words": _TEXT,
                        "bound_by": _or_null(_ID),
                        "minimum": _NUMBER,
                        "maximum": _NUMBER,
                        "committed": _NUMBER,
                        "disobeys": _FLAG,
                    },
                    ("committed", "disobeys"),
                ),
            },
            "waiting": {"type": "array", "items": _TEXT},
        },
        ("waiting",),
    ),
    "Removed": _object({"_id": _ID, "group": _ID}, ("group",)),
    "Noted": _object({"_id": _ID, "noted": _WHOLE}),
    "Change": _object(
        {
            "_id": _TEXT,
            "revision": _WHOLE,
            "at": _NUMBER,
            "key": _TEXT,
            "action": _TEXT,
            "target": _TEXT,
            "detail": {"type": "object"},
            "digest": _TEXT,
        }
    ),
    "Page": _object({"total": _WHOLE, "limit": _WHOLE, "offset": _WHOLE}),
    "Refusal": _object(
        {
            "ok": {"const": False},
            "message": _TEXT,
            "errors": {"type": "array", "items": _object({"field": _TEXT, "message": _TEXT})},
        }
    ),
}

REFUSALS = {
    "400": "The body is no JSON.",
    "401": "There is no valid key.",
    "403": "The key may not do this.",
    "404": "There is nothing of this id.",
    "408": "The body takes too long to arrive.",
    "409": "It does not go with what is there.",
    "412": "The group is of another version.",
    "413": "The body is too large.",
    "415": "The body must be application/json.",
    "422": "A value breaks a rule.",
    "429": "Too many requests; see Retry-After.",
    "503": "The database cannot be used; see Retry-After.",
}


def document() -> dict[str, Any]:
    """Return the description, as OpenAPI 3.1.

    Examples
    --------
    >>> document()["openapi"]
    '3.1.0'

    """
    paths: dict[str, Any] = {}
    for prefix in PREFIXES:
        for operation in OPERATIONS:
            place = paths.setdefault(f"{prefix}{operation.path}", {})
            place[operation.method.lower()] = _describe(operation, prefix)
        paths[f"{prefix}{STREAM}"] = {"get": _describe_stream(prefix)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "wattfill",
            "version": __version__,
            "description": "Share a group's electrical capacity among EV connectors. Powers and "
            "capacities are kW, times are seconds since 1970. Both prefixes are the same.",
        },
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "responses": {
                f"Refused{status}": {
                    "description": description,
                    "content": {"application/json": {"schema": _ref("Refusal")}},
                }
                for status, description in REFUSALS.items()
            },
        },
        "security": [{"key": []}],
    }


def _describe(operation: Operation, prefix: str) -> dict[str, Any]:
    names = [part[1:-1] for part in operation.path.split("/") if part.startswith("{")]
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": _ID} for name in names
    ]
    for field in operation.query:
        schema = dict(field.schema())
        if field.kind == "id":
            schema = dict(_ID)
        parameters.append(
            {
                "name": field.name,
                "in": "query",
                "required": False,
                "description": field.about,
                "schema": schema,
            }
        )
    statuses = ["401", "403", "422", "429", "503", "413"]
    if names or operation.query or operation.model is not None:
        statuses.append("404")
    if operation.is_conditional:
        parameters.append(
            {
                "name": "If-Match",
                "in": "header",
                "required": False,
                "description": "The ETag of the group that is meant to be changed.",
                "schema": {"type": "string", "pattern": '^"[0-9]{1,15}"$'},
            }
        )
        statuses.append("412")
    if operation.method == "POST":
        parameters.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "description": "Makes a request that is sent again harmless for 24 hours.",
                "schema": {"type": "string", "pattern": "^[!-~]{1,200}$"},
            }
        )
    if operation.method != "GET":
        statuses += ["400", "408", "409", "415"]
    name = operation.name if prefix == PREFIXES[0] else f"{operation.name}_short"
    described: dict[str, Any] = {
        "operationId": name,
        "summary": operation.summary,
        "description": f"Needs the scope {operation.scope}.",
        "parameters": parameters,
        "responses": {
            "200": {
                "description": "Done.",
                "content": {"application/json": {"schema": _envelope(operation)}},
            }
        }
        | {status: {"$ref": f"#/components/responses/Refused{status}"} for status in statuses},
    }
    if operation.model is not None:
        described["requestBody"] = {
            "required": True,
            "content": {
                "application/json": {
                    "schema": operation.model.schema(),
                    "example": operation.model.example(),
                }
            },
        }
    return described


def _envelope(operation: Operation) -> dict[str, Any]:
    name = operation.answer.removesuffix("[]")
    result = _ref(name) if name == operation.answer else _list(name)
    properties: dict[str, Any] = {"ok": {"const": True}, "result": result}
    if operation.name == "list_groups":
        properties["page"] = _ref("Page")
    return _object(properties)


def _describe_stream(prefix: str) -> dict[str, Any]:
    return {
        "operationId": "stream" if prefix == PREFIXES[0] else "stream_short",
        "summary": "Follow a group by server-sent events.",
        "description": "`allocation`: as get_allocation, at first and whenever it changes. "
        "`commands`: limits that may be sent to stations now, in this order, where the tree is "
        "dispatched. `configuration`: the settings of each group, it or below it, whose version "
        "changes, with what is commissioned and which raise waits. "
        "`deleted`: the group is gone. Needs the scope read, and operate where the "
        "tree is dispatched.",
        "parameters": [{"name": "group", "in": "path", "required": True, "schema": _ID}],
        "responses": {
            "200": {
                "description": "A stream without an end.",
                "content": {"text/event-stream": {"schema": {"type": "string"}}},
            }
        }
        | {
            status: {"$ref": f"#/components/responses/Refused{status}"}
            for status in ("401", "403", "404", "422", "429", "503")
        },
    }
