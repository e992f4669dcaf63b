"""What the bodies of requests may hold."""

from __future__ import annotations

from wattfill._records import POLICIES
from wattfill.server.fields import MOST_TEXT, Field, Model

NAMES = {
    "policy": "admission",
    "station": "chargestation",
    "station_id": "chargestation",
    "group_id": "group",
    "at": "started_at",
}
"""What the API calls an argument of the registry, where that is not its name."""

_GROUP_FIELDS = (
    Field("name", "text", "For people; need not be unique.", "Park3-E1", True, most=200),
    Field("description", "text", "For people.", "Floor 3, east", most=MOST_TEXT, default=""),
    Field("notes", "text", "For people.", "", most=MOST_TEXT, default=""),
    Field("maximum_capacity", "number", "kW: the grid constraint.", 100, True),
    Field(
        "commissioned_capacity",
        "number",
        "kW: the most that maximum_capacity may be set to, by default what that is at first. Only "
        "a key with the scope commission changes it; more may have to be approved, see raises.",
    ),
    Field(
        "minimum_connector_capacity",
        "number",
        "kW: what it takes to sustain a session at any connector of the group.",
        2.5,
        default=0,
    ),
    Field("buffer", "number", "Fraction of maximum_capacity set aside.", 0.1, most=1.0, default=0),
    Field(
        "reserved",
        "number",
        "kW: load on the same feeder that is not ours to steer.",
        0,
        default=0,
    ),
    Field(
        "location",
        "id",
        "Id of the place where it stands.",
        "649be7ca525c000bc98a6c05",
        null=True,
    ),
    Field("parent", "id", "Id of the group that feeds this one; null for none.", None, null=True),
    Field(
        "admission",
        "choice",
        "Who is admitted first when not all minimums fit: who came first, who has waited (in "
        "turns), who needs least.",
        "fifo",
        choices=POLICIES,
        default="fifo",
    ),
    Field(
        "rotation",
        "number",
        "Seconds in a turn of `rotate`.",
        900,
        least=1.0,
        most=1e7,
        default=900,
    ),
)

NEW_GROUP = Model(
    "NewGroup",
    (
        Field("id", "id", "By default 24 random hexadecimal digits.", None),
        *_GROUP_FIELDS,
    ),
)
CHANGED_GROUP = Model(
    "ChangedGroup",
    (
        *Model("", _GROUP_FIELDS).optional().fields,
        Field(
            "dispatch",
            "flag",
            "Of a group without a parent: whether this server plans in which order limits are "
            "sent, and streams commands. It is refused where the fallbacks of all connectors do "
            "not fit.",
            None,
        ),
    ),
)

NEW_RAISE = Model(
    "NewRaise",
    (
        Field(
            "commissioned_capacity",
            "number",
            "kW: what is to be commissioned, more than there is.",
            120,
            True,
        ),
        Field("note", "text", "Why, for who approves it.", "New fuse", most=1000, default=""),
    ),
)

_CONNECTOR_FIELDS = (
    Field("id", "id", "Unique in its charge station.", "1", True),
    Field("maximum_capacity", "number", "kW: the connector's rating.", 22, True),
    Field(
        "minimum_capacity",
        "number",
        "kW: the least that sustains a session here; by default the group's.",
        4.2,
        null=True,
    ),
    Field(
        "fallback",
        "number",
        "kW: the most that it may allow on its own, without being told; by default its rating.",
        None,
        null=True,
    ),
)
CONNECTOR = Model("Connector", _CONNECTOR_FIELDS)
CHANGED_CONNECTOR = Model(
    "ChangedConnector", (_CONNECTOR_FIELDS[0], *Model("", _CONNECTOR_FIELDS[1:]).optional().fields)
)
NEW_STATION = Model(
    "NewChargestation",
    (
        Field("chargestation", "id", "Id, in one group at most.", "CS-1", True),
        Field("connectors", "list", "Its plugs.", required=True, of=CONNECTOR, most_items=64),
    ),
)
CHANGED_STATION = Model(
    "ChangedChargestation",
    (
        Field(
            "connectors",
            "list",
            "Connectors to change, or to add where there is none with the id; others stay.",
            required=True,
            of=CHANGED_CONNECTOR,
            most_items=64,
        ),
    ),
)

_TERMS = (
    Field("maximum", "number", "kW that the vehicle can take; null for any.", 11, null=True),
    Field(
        "weight",
        "number",
        "Of its share.",
        1,
        above=True,
        most=1e6,
        default=1,
    ),
    Field(
        "priority",
        "whole",
        "Higher is admitted and filled first.",
        0,
        least=-(10**9),
        most=10**9,
        default=0,
    ),
)
NEW_SESSION = Model(
    "NewSession",
    (
        Field("chargestation", "id", "Where the vehicle charges.", "CS-1", True),
        Field("connector", "id", "The plug there.", "1", True),
        *_TERMS,
        Field(
            "started_at",
            "number",
            "Seconds since 1970, not in the future; by default now.",
            None,
            most=1e11,
        ),
    ),
)
CHANGED_SESSION = Model("ChangedSession", _TERMS)

KINDS = ("confirm", "reject", "read_back", "meter", "offline", "online")
REPORT = Model(
    "Report",
    (
        Field("chargestation", "id", "Who it is about.", "CS-1", True),
        Field("connector", "id", "The plug; not with offline and online.", "1"),
        Field(
            "kind",
            "choice",
            "confirm: the station goes by command `seq`; reject: it refused it, and never will; "
            "read_back: `limit` is in force there; meter: it draws `power`; offline, online: "
            "whether the station can be reached.",
            "confirm",
            True,
            choices=KINDS,
        ),
        Field("seq", "whole", "Of the command.", 0, most=2**53),
        Field("limit", "number", "kW in force.", None),
        Field("power", "number", "kW drawn.", None),
    ),
)
REPORTS = Model(
    "Reports",
    (
        Field(
            "confirmations",
            "list",
            "What became known, in this order.",
            required=True,
            of=REPORT,
            most_items=1000,
        ),
    ),
)
