"""What the database holds, in memory: organisations and their trees of groups.

The database is the source of truth. A tree in memory is what the rows of its groups, charge
stations and sessions came to when it was read; every change writes the rows and the tree in one
transaction, under the next revision of its organisation. When a transaction fails, or another
server has raised the revision, the trees concerned are forgotten and read again.

One thread uses a store. Every function is given the organisation that it is for, and looks at
nothing else.
"""

from __future__ import annotations

import gc
import hashlib
import json
import secrets
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from wattfill.dispatch import Dispatcher
from wattfill.registry import Connector, Registry, RegistryAllocation
from wattfill.server import commissioning
from wattfill.server.clock import Clock
from wattfill.server.commissioning import Raise
from wattfill.server.database import Database, Row

TreeRows: TypeAlias = tuple[str, list[Row], list[Row], list[Row], list[Row]]
"""A root, and the rows of the groups, charge stations, sessions and raises below it."""

MOST_ROOTS_READ_ALONE = 64
GROUP_COLUMNS = (
    "id, name, maximum_capacity, minimum_connector_capacity, buffer, reserved, admission, "
    "rotation, parent, location, description, notes, line, root, dispatch, commissioned, version, "
    "created_at, updated_at"
)
GENESIS = "0" * 64
"""What the first change of an organisation is chained to."""


@dataclass(slots=True)
class GroupMeta:
    """What the registry does not know of a group."""

    dispatch: bool
    commissioned: float
    """kW: the most that `maximum_capacity` may be set to, until more is commissioned."""
    version: int
    created_at: float
    updated_at: float
    line: str | None = None
    """Who takes turns, as it is in the database."""
    asked: Raise | None = None
    """The raise that waits to be approved, or whose time is over and not noted yet."""


@dataclass(slots=True, eq=False)
class Tree:
    """A root group and all below it."""

    root: str
    registry: Registry
    meta: dict[str, GroupMeta]
    dispatcher: Dispatcher | None = None
    dispatch_error: str | None = None
    """Why it is not dispatched although it should be."""
    wake_at: float = float("inf")

    @property
    def is_dispatched(self) -> bool:
        """Whether commands are to be sent for it, by this server or another one."""
        return self.meta[self.root].dispatch

    def now(self, clock: Clock) -> float:
        """Return the time for its registry, which does not go back."""
        return max(clock.now(), self.registry.clock)

    def allocate(self, clock: Clock) -> RegistryAllocation:
        """Return what each of its connectors may draw now."""
        return self.registry.allocate(self.root, at=self.now(clock))


@dataclass(slots=True, eq=False)
class Organisation:
    """The groups of one customer."""

    id: str
    revision: int
    digest: str
    trees: dict[str, Tree] = field(default_factory=dict)
    group_root: dict[str, str] = field(default_factory=dict)
    station_root: dict[str, str] = field(default_factory=dict)
    stale: set[str] = field(default_factory=set)
    """Roots whose trees are to be read again."""

    def adopt(self, tree: Tree) -> None:
        """Take up a tree, and where its groups and charge stations are."""
        self.trees[tree.root] = tree
        for group in tree.meta:
            self.group_root[group] = tree.root
        for station in tree.registry.charge_stations():
            self.station_root[station.id] = tree.root

    def forget(self, roots: set[str]) -> None:
        """Let trees go, to be read again if they are still there."""
        for root in roots:
            self.trees.pop(root, None)
        for homes in (self.group_root, self.station_root):
            for name in [name for name, root in homes.items() if root in roots]:
                del homes[name]


@dataclass(slots=True)
class _Touched:
    """What an organisation was before the transaction, and which of its trees are changed."""

    revision: int
    digest: str
    roots: set[str] = field(default_factory=set)


class Store:
    """Organisations in memory, as they are in the database."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.database = database
        self.clock = clock
        self._organisations: dict[str, Organisation] = {}
        self._touched: dict[str, _Touched] = {}
        self.first_token: str | None = None
        """By which the transaction can be found in the database, if its end was not heard of."""

    # Reading

    def load(self) -> int:
        """Read everything; return how many groups there are."""
        self._organisations = {}
        # All of it stays: looking for garbage meanwhile would take longer than reading it, and
        # looking through it later would hold up requests.
        gc.disable()
        try:
            self._load()
        finally:
            gc.enable()
            gc.freeze()
        return sum(len(o.group_root) for o in self._organisations.values())

    def _load(self) -> None:
        with self.database.transaction(write=False):
            rows = self.database.rows("SELECT id, revision, digest FROM wf_organisation")
            read = [(Organisation(*row), self._read(row[0])) for row in rows]
        # No transaction is open while trees are built, which takes longer than to read them.
        for organisation, trees in read:
            self._organisations[organisation.id] = organisation
            for each in trees:
                organisation.adopt(_tree(*each))

    def organisations(self) -> Iterator[Organisation]:
        """Yield those that are in memory."""
        yield from self._organisations.values()

    def organisation(self, tenant: str) -> Organisation:
        """Return an organisation as it is in the database now, and lock it where one writes."""
        lock = ""
        if self.database.in_transaction and self.database.name == "postgresql":
            lock = " FOR UPDATE"
        row = self.database.row(
            f"SELECT revision FROM wf_organisation WHERE id = :id{lock}", id=tenant
        )
        if row is None:
            raise LookupError(f"there is no organisation {tenant!r}")
        organisation = self._organisations.get(tenant)
        if organisation is None:
            organisation = self._organisations[tenant] = Organisation(tenant, -1, GENESIS)
        if organisation.revision != row[0] or organisation.stale:
            self._catch_up(organisation)
        return organisation

    def _catch_up(self, organisation: Organisation) -> None:
        """Read again what others changed, or what was undone."""
        if self.database.in_transaction:
            self._catch_up_within(organisation)
            return
        with self.database.transaction(write=False):
            self._catch_up_within(organisation)

    def _catch_up_within(self, organisation: Organisation) -> None:
        row = self.database.row(
            "SELECT revision, digest FROM wf_organisation WHERE id = :id", id=organisation.id
        )
        assert row is not None
        revision, digest = row
        roots: set[str] | None = set(organisation.stale)
        if not 0 <= organisation.revision <= revision:
            roots = None  # An older database was put in the place of this one.
        elif organisation.revision < revision:
            for (text,) in self.database.stream(
                "SELECT roots FROM wf_change WHERE organisation = :organisation "
                "AND revision > :revision",
                organisation=organisation.id,
                revision=organisation.revision,
            ):
                assert roots is not None
                roots.update(json.loads(text))
        if roots is None or len(roots) > MOST_ROOTS_READ_ALONE:
            organisation.forget(set(organisation.trees))
            trees = self._read(organisation.id)
        else:
            organisation.forget(roots)
            trees = [each for root in roots for each in self._read(organisation.id, root)]
        for each in trees:
            organisation.adopt(_tree(*each))
        organisation.stale = set()
        organisation.revision, organisation.digest = revision, digest

    def _read(self, tenant: str, root: str | None = None) -> list[TreeRows]:
        """Return the rows of all trees of an organisation, or of one of them."""
        values, which = {"organisation": tenant}, ""
        if root is not None:
            values, which = values | {"root": root}, " AND g.root = :root"
        columns = ", ".join(f"g.{name}" for name in GROUP_COLUMNS.split(", "))
        groups: dict[str, list[Row]] = defaultdict(list)
        for row in self.database.stream(
            f"SELECT {columns} FROM wf_group g WHERE g.organisation = :organisation{which}",
            **values,
        ):
            groups[row[13]].append(row)
        stations: dict[str, list[Row]] = defaultdict(list)
        for row in self.database.stream(
            "SELECT g.root, s.id, s.group_id, s.connectors FROM wf_station s JOIN wf_group g "
            "ON g.organisation = s.organisation AND g.id = s.group_id "
            f"WHERE s.organisation = :organisation{which}",
            **values,
        ):
            stations[row[0]].append(row[1:])
        sessions: dict[str, list[Row]] = defaultdict(list)
        for row in self.database.stream(
            "SELECT g.root, e.station, e.connector, e.maximum, e.weight, e.priority, e.started_at "
            "FROM wf_session e JOIN wf_station s "
            "ON s.organisation = e.organisation AND s.id = e.station "
            "JOIN wf_group g ON g.organisation = s.organisation AND g.id = s.group_id "
            f"WHERE e.organisation = :organisation{which} ORDER BY e.arrival",
            **values,
        ):
            sessions[row[0]].append(row[1:])
        raises: dict[str, list[Row]] = defaultdict(list)
        columns = ", ".join(f"r.{name}" for name in commissioning.COLUMNS)
        for row in self.database.stream(
            f"SELECT g.root, {columns} FROM wf_raise r JOIN wf_group g "
            "ON g.organisation = r.organisation AND g.id = r.group_id "
            f"WHERE r.organisation = :organisation{which} AND r.state = 'pending'",
            **values,
        ):
            raises[row[0]].append(row[1:])
        return [
            (each, rows, stations.get(each, []), sessions.get(each, []), raises.get(each, []))
            for each, rows in groups.items()
        ]

    # Writing

    def touch(self, organisation: Organisation, *roots: str) -> None:
        """Note that trees are about to change, before they do."""
        touched = self._touched.get(organisation.id)
        if touched is None:
            touched = self._touched[organisation.id] = _Touched(
                organisation.revision, organisation.digest
            )
        touched.roots.update(roots)

    def undo_memory(self, organisation: Organisation, *roots: str) -> None:
        """Have trees read again, as what was changed in them is refused after all."""
        organisation.stale.update(roots)

    def note_change(
        self,
        organisation: Organisation,
        who: str,
        action: str,
        target: str,
        detail: Mapping[str, Any],
    ) -> int:
        """Write a change into the log, under the next revision, which is returned.

        Each line's digest covers the one before it, so that a line that was changed or taken out
        later is found out.
        """
        roots = sorted(self._touched[organisation.id].roots)
        revision, at = organisation.revision + 1, self.clock.now()
        token = secrets.token_hex(8)
        values = {
            "organisation": organisation.id,
            "revision": revision,
            "at": at,
            "key_id": who,
            "action": action,
            "target": target,
            "roots": json.dumps(roots),
            "detail": json.dumps(detail),
        }
        digest = chained(organisation.digest, values)
        self.database.run(
            "INSERT INTO wf_change (organisation, revision, at, key_id, action, target, roots, "
            "detail, token, digest) VALUES (:organisation, :revision, :at, :key_id, :action, "
            ":target, :roots, :detail, :token, :digest)",
            **values,
            token=token,
            digest=digest,
        )
        self.database.run(
            "UPDATE wf_organisation SET revision = :revision, digest = :digest WHERE id = :id",
            revision=revision,
            digest=digest,
            id=organisation.id,
        )
        organisation.revision, organisation.digest = revision, digest
        self.first_token = self.first_token or token
        return revision

    def keep_lines(self, organisation: Organisation, *roots: str) -> None:
        """Write down who takes turns in trees, where that is not what it was."""
        for root in roots:
            tree = organisation.trees[root]
            takes_turns = any(group.policy == "rotate" for group in tree.registry.groups())
            if not takes_turns and all(meta.line is None for meta in tree.meta.values()):
                continue
            tree.allocate(self.clock)
            for group in tree.registry.to_dict()["groups"]:
                line = None if group["line"] is None else json.dumps(group["line"])
                meta = tree.meta[group["id"]]
                if line != meta.line:
                    meta.line = line
                    self.database.run(
                        "UPDATE wf_group SET line = :line "
                        "WHERE organisation = :organisation AND id = :id",
                        line=line,
                        organisation=organisation.id,
                        id=group["id"],
                    )

    def committed(self) -> dict[str, set[str]]:
        """Note that the transaction is over; return the roots it touched, by organisation."""
        touched, self._touched, self.first_token = self._touched, {}, None
        return {tenant: each.roots for tenant, each in touched.items()}

    def rolled_back(self) -> None:
        """Note that nothing of the transaction happened."""
        touched, self._touched, self.first_token = self._touched, {}, None
        for tenant, before in touched.items():
            organisation = self._organisations[tenant]
            organisation.revision, organisation.digest = before.revision, before.digest
            organisation.stale |= before.roots

    def read_all_again(self) -> None:
        """Believe nothing that is in memory any more."""
        for organisation in self._organisations.values():
            organisation.stale.update(organisation.trees)

    def has_happened(self, token: str) -> bool:
        """Say whether the transaction with this token is in the database."""
        return self.database.row("SELECT 1 FROM wf_change WHERE token = :t", t=token) is not None


def chained(before: str, values: Mapping[str, Any]) -> str:
    """Return the digest of a line of the log behind one with the digest `before`."""
    text = json.dumps([before, *(values[name] for name in CHAINED)])
    return hashlib.sha256(text.encode()).hexdigest()


def verify_log(database: Database) -> list[str]:
    """Return the organisations in whose log a line is not what was written."""
    broken = []
    for id, last in database.rows("SELECT id, digest FROM wf_organisation ORDER BY id"):
        digest = GENESIS
        for row in database.stream(
            f"SELECT {', '.join(CHAINED)}, digest FROM wf_change "
            "WHERE organisation = :id ORDER BY revision",
            id=id,
        ):
            digest = chained(digest, dict(zip(CHAINED, row, strict=False)))
            if digest != row[-1]:
                break
        if digest != last:
            broken.append(id)
    return broken


CHAINED = ("organisation", "revision", "at", "key_id", "action", "target", "roots", "detail")


def connector_records(connectors: Iterable[Connector]) -> str:
    """Return connectors as they are kept."""
    return json.dumps(
        [[c.id, c.maximum_capacity, c.minimum_capacity, c.fallback] for c in connectors]
    )


def _tree(
    root: str, groups: list[Row], stations: list[Row], sessions: list[Row], raises: list[Row]
) -> Tree:
    """Return a tree as its rows say."""
    records = {
        row[0]: {
            "id": row[0],
            "name": row[1],
            "maximum_capacity": row[2],
            "minimum_connector_capacity": row[3],
            "buffer": row[4],
            "reserved": row[5],
            "policy": row[6],
            "rotation": row[7],
            "parent": row[8],
            "location": row[9],
            "description": row[10],
            "notes": row[11],
            "line": None if row[12] is None else json.loads(row[12]),
        }
        for row in groups
    }
    clock = max((row[5] for row in sessions), default=0.0)
    registry = Registry.from_dict(
        {
            "format": "wattfill.registry",
            "version": 1,
            "clock": max(clock, 0.0),
            "groups": [records[id] for id in _parents_first(root, records)],
            "charge_stations": [
                {
                    "id": id,
                    "group": group,
                    "connectors": [
                        {
                            "id": plug,
                            "maximum_capacity": most,
                            "minimum_capacity": least,
                            "fallback": fallback,
                        }
                        for plug, most, least, fallback in json.loads(connectors)
                    ],
                }
                for id, group, connectors in stations
            ],
            "sessions": [
                {
                    "station": station,
                    "connector": plug,
                    "maximum": most,
                    "weight": weight,
                    "priority": priority,
                    "started_at": started_at,
                }
                for station, plug, most, weight, priority, started_at in sessions
            ],
        }
    )
    meta = {
        row[0]: GroupMeta(
            dispatch=bool(row[14]),
            commissioned=row[15],
            version=row[16],
            created_at=row[17],
            updated_at=row[18],
            line=row[12],
        )
        for row in groups
    }
    for row in raises:
        asked = Raise(*row)
        meta[asked.group].asked = asked
    return Tree(root, registry, meta)


def _parents_first(root: str, records: Mapping[str, Mapping[str, Any]]) -> list[str]:
    if len(records) == 1:
        return [root]
    below: dict[str | None, list[str]] = defaultdict(list)
    for id, record in records.items():
        below[record["parent"]].append(id)
    order = [root]
    for id in order:
        order += below[id]
    return order
