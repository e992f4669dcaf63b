"""The operations of the API: what each takes, which scope it needs, and what it does."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from wattfill.server import models
from wattfill.server.commissioning import STATES
from wattfill.server.engine import Kind
from wattfill.server.fields import Field, Model, take_id
from wattfill.server.refusal import Fault, Refusal
from wattfill.server.service import SORTS, Caller, Service

PREFIXES = ("/v1.1/load_management", "/v1.1")
"""Clients use either."""


@dataclass(frozen=True, slots=True)
class Call:
    """What a request asks for, checked."""

    path: Mapping[str, str]
    query: Mapping[str, Any]
    body: Mapping[str, Any]
    if_version: int | None


@dataclass(frozen=True, slots=True)
class Reply:
    """What an operation answers."""

    result: Any
    beside: Mapping[str, Any] = field(default_factory=dict)
    """What stands beside the result in the envelope."""

    @property
    def version(self) -> int | None:
        """The version of the group that is answered, if one is."""
        return self.result.get("version") if isinstance(self.result, dict) else None


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    scope: str
    kind: Kind
    name: str
    summary: str
    run: Callable[[Service, Caller, Call], Reply]
    answer: str
    """The name of the schema of the result; a list of it where it ends in []."""
    model: Model | None = None
    query: tuple[Field, ...] = ()
    is_conditional: bool = False
    """Whether it heeds If-Match."""


def read_query(known: tuple[Field, ...], pairs: list[tuple[str, str]]) -> dict[str, Any]:
    """Return what a query holds; refuse what nobody knows, or what is there twice."""
    by_name = {field.name: field for field in known}
    found: dict[str, Any] = {}
    faults: list[Fault] = []
    for name, text in pairs:
        field_ = by_name.get(name)
        if field_ is None:
            known_names = ", ".join(by_name) or "none"
            shown = name[:80]
            faults.append(
                Fault(shown, f"{shown} must be a parameter of this path, which has {known_names}")
            )
            continue
        if name in found:
            faults.append(Fault(name, f"{name} must be there once"))
            continue
        value: Any = text
        if field_.kind == "whole" and re.fullmatch("[0-9]{1,18}", text):
            value = int(text)
        found[name] = field_.read(value, name, faults)
    if faults:
        raise Refusal(422, faults[0].message, faults[:100])
    return found


def read_path(params: Mapping[str, str]) -> dict[str, str]:
    """Return the ids in a path, or refuse them."""
    return {name: take_id(name, value) for name, value in params.items()}


_LIMIT = Field("limit", "whole", "How many, at most.", 50, least=1, most=200, default=50)
_LIST_QUERY = (
    Field("location", "id", "Only those that stand here."),
    Field(
        "sort",
        "choice",
        "By what; - before it for the other way round.",
        choices=(*SORTS, *(f"-{by}" for by in SORTS)),
        default="name",
    ),
    _LIMIT,
    Field("offset", "whole", "How many to leave out.", 0, most=1e9, default=0),
)


def _list_groups(service: Service, caller: Caller, call: Call) -> Reply:
    groups, total = service.list_groups(caller, **call.query)
    page = {
        "total": total,
        "limit": call.query.get("limit", 50),
        "offset": call.query.get("offset", 0),
    }
    return Reply(groups, {"page": page})


OPERATIONS = (
    Operation(
        "POST",
        "/groups",
        "configure",
        "write",
        "create_group",
        "Create a group. The key must have the scope commission, too.",
        lambda service, caller, call: Reply(service.create_group(caller, call.body)),
        "Group",
        models.NEW_GROUP,
    ),
    Operation(
        "GET",
        "/groups",
        "read",
        "read",
        "list_groups",
        "Groups with what they hold and their present allocation.",
        _list_groups,
        "Group[]",
        query=_LIST_QUERY,
    ),
    Operation(
        "GET",
        "/groups/chargestations/{chargestation}",
        "read",
        "read",
        "get_chargestation",
        "A charge station.",
        lambda service, caller, call: Reply(
            service.get_station(caller, call.path["chargestation"])
        ),
        "Chargestation",
    ),
    Operation(
        "PATCH",
        "/groups/chargestations/{chargestation}",
        "configure",
        "write",
        "update_chargestation",
        "Change connectors of a charge station, or add some; sessions go on.",
        lambda service, caller, call: Reply(
            service.update_station(caller, call.path["chargestation"], call.body)
        ),
        "Chargestation",
        models.CHANGED_STATION,
    ),
    Operation(
        "DELETE",
        "/groups/chargestations/{chargestation}",
        "configure",
        "write",
        "remove_chargestation",
        "Remove a charge station, and with it its sessions.",
        lambda service, caller, call: Reply(
            service.remove_station(caller, call.path["chargestation"])
        ),
        "Removed",
    ),
    Operation(
        "GET",
        "/groups/{group}",
        "read",
        "read",
        "get_group",
        "A group, with its charge stations, connectors, sessions and present allocation.",
        lambda service, caller, call: Reply(service.get_group(caller, call.path["group"])),
        "Group",
    ),
    Operation(
        "PATCH",
        "/groups/{group}",
        "configure",
        "write",
        "update_group",
        "Change a group; what is not named stays as it is.",
        lambda service, caller, call: Reply(
            service.update_group(caller, call.path["group"], call.body, call.if_version)
        ),
        "Group",
        models.CHANGED_GROUP,
        is_conditional=True,
    ),
    Operation(
        "DELETE",
        "/groups/{group}",
        "configure",
        "write",
        "delete_group",
        "Delete a group that holds nothing.",
        lambda service, caller, call: Reply(
            service.delete_group(caller, call.path["group"], call.if_version)
        ),
        "Removed",
        is_conditional=True,
    ),
    Operation(
        "GET",
        "/groups/{group}/chargestations",
        "read",
        "read",
        "list_chargestations",
        "The charge stations of a group.",
        lambda service, caller, call: Reply(service.list_stations(caller, call.path["group"])),
        "Chargestation[]",
    ),
    Operation(
        "POST",
        "/groups/{group}/chargestations",
        "configure",
        "write",
        "add_chargestation",
        "Add a charge station to a group.",
        lambda service, caller, call: Reply(
            service.add_station(caller, call.path["group"], call.body)
        ),
        "Chargestation",
        models.NEW_STATION,
    ),
    Operation(
        "GET",
        "/groups/{group}/allocation",
        "read",
        "read",
        "get_allocation",
        "What each connector in a group and below it may draw, and why.",
        lambda service, caller, call: Reply(service.get_allocation(caller, call.path["group"])),
        "Allocation",
    ),
    Operation(
        "POST",
        "/groups/{group}/confirmations",
        "operate",
        "alone",
        "confirm",
        "What became of commands, and what else is known of stations.",
        lambda service, caller, call: Reply(
            service.report(caller, call.path["group"], call.body["confirmations"])
        ),
        "Noted",
        models.REPORTS,
    ),
    Operation(
        "POST",
        "/groups/{group}/raises",
        "commission",
        "write",
        "ask_for_raise",
        "Ask for more to be commissioned for a group. It waits until another person approves it; "
        "where it does not need two it is at once.",
        lambda service, caller, call: Reply(
            service.ask_for_raise(caller, call.path["group"], call.body)
        ),
        "Raise",
        models.NEW_RAISE,
    ),
    Operation(
        "GET",
        "/raises",
        "read",
        "read",
        "list_raises",
        "What was asked to be commissioned, the latest first.",
        lambda service, caller, call: Reply(service.list_raises(caller, **call.query)),
        "Raise[]",
        query=(
            Field("group", "id", "Only those of this group."),
            Field("state", "choice", "Only those in this state.", choices=STATES),
            Field("before", "whole", "Only raises with ids below this one.", most=2.0**53),
            _LIMIT,
        ),
    ),
    Operation(
        "GET",
        "/raises/{raise}",
        "read",
        "read",
        "get_raise",
        "What somebody asked to be commissioned, and what became of it.",
        lambda service, caller, call: Reply(service.get_raise(caller, call.path["raise"])),
        "Raise",
    ),
    Operation(
        "POST",
        "/raises/{raise}/approve",
        "commission",
        "write",
        "approve_raise",
        "Approve what another person asked for: it is commissioned from then on.",
        lambda service, caller, call: Reply(service.approve_raise(caller, call.path["raise"])),
        "Raise",
    ),
    Operation(
        "POST",
        "/raises/{raise}/decline",
        "commission",
        "write",
        "decline_raise",
        "Decline what another person asked for, or withdraw what you asked for yourself.",
        lambda service, caller, call: Reply(service.decline_raise(caller, call.path["raise"])),
        "Raise",
    ),
    Operation(
        "GET",
        "/sessions",
        "read",
        "read",
        "list_sessions",
        "The sessions of a group (not below it), or all.",
        lambda service, caller, call: Reply(service.list_sessions(caller, call.query.get("group"))),
        "Session[]",
        query=(Field("group", "id", "Id of the group."),),
    ),
    Operation(
        "POST",
        "/sessions",
        "operate",
        "write",
        "start_session",
        "Start a session; the answer has the allocation of the tree of groups.",
        lambda service, caller, call: Reply(service.start_session(caller, call.body)),
        "SessionResult",
        models.NEW_SESSION,
    ),
    Operation(
        "GET",
        "/sessions/{chargestation}/{connector}",
        "read",
        "read",
        "get_session",
        "The session at a connector, with the allocation of the tree of groups.",
        lambda service, caller, call: Reply(
            service.get_session(caller, call.path["chargestation"], call.path["connector"])
        ),
        "SessionResult",
    ),
    Operation(
        "PATCH",
        "/sessions/{chargestation}/{connector}",
        "operate",
        "write",
        "update_session",
        "Change what a session asks for; the answer has the allocation of the tree of groups.",
        lambda service, caller, call: Reply(
            service.update_session(
                caller, call.path["chargestation"], call.path["connector"], call.body
            )
        ),
        "SessionResult",
        models.CHANGED_SESSION,
    ),
    Operation(
        "DELETE",
        "/sessions/{chargestation}/{connector}",
        "operate",
        "write",
        "stop_session",
        "Stop a session; the answer has the allocation of the tree of groups.",
        lambda service, caller, call: Reply(
            service.stop_session(caller, call.path["chargestation"], call.path["connector"])
        ),
        "SessionResult",
    ),
    Operation(
        "GET",
        "/changes",
        "configure",
        "read",
        "list_changes",
        "Who changed what, the latest first.",
        lambda service, caller, call: Reply(service.list_changes(caller, **call.query)),
        "Change[]",
        query=(
            Field("before", "whole", "Only changes before this revision.", most=2.0**53),
            _LIMIT,
        ),
    ),
)

STREAM = "/groups/{group}/stream"
"""Server-sent events, with the scope read."""
