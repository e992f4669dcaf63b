"""What can be done, for whom: every function takes the caller, and sees one organisation alone.

All of it runs on the thread of `wattfill.server.engine`, inside the transaction that it began.
What a function refuses it refuses before anything is changed, or it has what it changed read again.
"""

from __future__ import annotations

import json
import logging
import math
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

from wattfill._records import count
from wattfill.errors import ConflictError, UnknownIdError, WattfillError
from wattfill.reason import Reason
from wattfill.registry import (
    ChargeStation,
    Connector,
    ConnectorAllocation,
    Group,
    Registry,
    RegistryAllocation,
    Session,
)
from wattfill.report import REASONS, decimal
from wattfill.server import commissioning, keys
from wattfill.server.clock import Clock
from wattfill.server.commissioning import Raise, person_of
from wattfill.server.dispatching import (
    Manner,
    command_record,
    forget_journal,
    offline_stations,
    refuse_unfit,
)
from wattfill.server.models import NAMES
from wattfill.server.refusal import Fault, Refusal, not_found, refuse_field, unavailable
from wattfill.server.store import GroupMeta, Organisation, Store, Tree, connector_records

log = logging.getLogger("wattfill.dispatch")

REACH = {"offline": 1, "online": 0}
RESERVED_IDS = ("chargestations",)
"""What a group cannot be called, as a path of the API has it in the same place."""
SORTS = ("name", "id", "created_at", "updated_at", "maximum_capacity")
MOST_GROUPS, MOST_STATIONS = 2000, 2000
"""In one tree, so that one request cannot take the server for long."""
LAST_USED_STEP = 60.0
ANSWERS_KEPT = 86400.0
"""Seconds for which an Idempotency-Key stands for the answer it got."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: an organisation, by one of its keys, and what that key may do."""

    organisation: str
    key: str
    scopes: frozenset[str]

    def refuse_without(self, scope: str) -> None:
        """Refuse what the key may not do."""
        if scope not in self.scopes:
            raise Refusal(403, f"the key must have the scope {scope}")


class Service:
    """Groups, charge stations, sessions and keys, as the API and the panel see them."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        manner: Manner,
        two_person: str = "auto",
        *,
        is_one_of_many: bool = False,
    ) -> None:
        self.store = store
        self.is_one_of_many = is_one_of_many
        """Whether other processes of the same server get some of the requests."""
        self.clock = clock
        self.manner = manner
        self.two_person = two_person
        self._used: dict[str, float] = {}
        self.spoken_of: dict[str, set[str]] = {}
        """Roots of trees of which something became known, by organisation."""
        self.n_allocations = 0
        self.n_overloads_prevented = 0

    def ping(self) -> None:
        """Ask the database for something."""
        self.store.database.row("SELECT COUNT(*) FROM wf_organisation")

    def try_to_write(self) -> None:
        """Write something, to see whether the database can be written."""
        self.store.database.run("UPDATE wf_mark SET n = n + 1")

    # Keys

    def authenticate(self, text: str) -> Caller:
        """Return whose key this is, or refuse with status 401.

        The database is asked every time, so that a key which was revoked opens nothing.
        """
        parts = keys.split(text)
        id, digest = parts or ("", keys.DUMMY_DIGEST)
        row = None
        if parts is not None:
            row = self.store.database.row(
                "SELECT digest, organisation, scopes, expires_at, revoked_at FROM wf_key "
                "WHERE id = :id",
                id=id,
            )
        fits = keys.matches(digest, None if row is None else row[0])
        now = self.clock.now()
        if row is None or not fits or row[4] is not None or (row[3] or math.inf) <= now:
            raise Refusal(
                401,
                "the request must have a valid key: Authorization: Bearer KEY",
                headers={"WWW-Authenticate": "Bearer"},
            )
        self._used[id] = now
        return Caller(row[1], id, frozenset(row[2].split()))

    def caller_of_key(self, id: str) -> Caller:
        """Return who a key with this id stands for, if it still opens something; else 401.

        It is for sessions that somebody has begun with the key itself.
        """
        row = self.store.database.row(
            "SELECT organisation, scopes FROM wf_key WHERE id = :id AND revoked_at IS NULL "
            "AND (expires_at IS NULL OR expires_at > :now)",
            id=id,
            now=self.clock.now(),
        )
        if row is None:
            raise Refusal(401, "the session must be of a key that is valid: log in again")
        return Caller(row[0], id, frozenset(row[1].split()))

    def create_key(
        self,
        organisation: str,
        name: str,
        scopes: str = keys.FULL,
        expires_at: float | None = None,
    ) -> keys.NewKey:
        """Make a key of an organisation, which is created if there is none; it is shown once."""
        key, now = keys.make(), self.clock.now()
        database = self.store.database
        database.run(
            "INSERT INTO wf_organisation (id, name, revision, digest, epoch, created_at) VALUES "
            "(:id, :id, 0, :digest, 0, :now) ON CONFLICT (id) DO NOTHING",
            id=organisation,
            digest="0" * 64,
            now=now,
        )
        database.run(
            "INSERT INTO wf_key (id, organisation, name, digest, scopes, created_at, expires_at) "
            "VALUES (:id, :organisation, :name, :digest, :scopes, :now, :expires_at)",
            id=key.id,
            organisation=organisation,
            name=name,
            digest=key.digest,
            scopes=scopes,
            now=now,
            expires_at=expires_at,
        )
        return key

    def rotate_key(self, id: str, expires_at: float | None = None) -> keys.NewKey | None:
        """Make a key like one that is valid, of the same name and so the same person's."""
        now = self.clock.now()
        for key in self.list_keys():
            is_over = key["expires_at"] is not None and key["expires_at"] <= now
            if key["id"] == id and key["revoked_at"] is None and not is_over:
                return self.create_key(key["organisation"], key["name"], key["scopes"], expires_at)
        return None

    def list_keys(self, organisation: str | None = None) -> list[dict[str, Any]]:
        """Return what is known of keys, without the keys."""
        which = "" if organisation is None else " WHERE organisation = :organisation"
        names = (
            "id",
            "organisation",
            "name",
            "scopes",
            "created_at",
            "expires_at",
            "revoked_at",
            "last_used_at",
        )
        values = {} if organisation is None else {"organisation": organisation}
        rows = self.store.database.rows(
            f"SELECT {', '.join(names)} FROM wf_key{which} ORDER BY created_at, id", **values
        )
        return [dict(zip(names, row, strict=True)) for row in rows]

    def revoke_key(self, id: str, organisation: str | None = None) -> bool:
        """Revoke a key; say whether there was one that could be."""
        if not any(
            key["id"] == id and key["revoked_at"] is None for key in self.list_keys(organisation)
        ):
            return False
        self.store.database.run(
            "UPDATE wf_key SET revoked_at = :now WHERE id = :id", now=self.clock.now(), id=id
        )
        return True

    def flush_used(self) -> None:
        """Write down when keys were last used, and forget answers that nobody asks for any more."""
        used, self._used = self._used, {}
        with self.store.database.transaction():
            self.store.database.run(
                "DELETE FROM wf_answer WHERE at < :before", before=self.clock.now() - ANSWERS_KEPT
            )
            self.store.database.run_many(
                "UPDATE wf_key SET last_used_at = :at WHERE id = :id "
                "AND (last_used_at IS NULL OR last_used_at < :at)",
                [{"id": id, "at": at} for id, at in used.items()],
            )

    # Requests that come again

    def earlier_answer(
        self, caller: Caller, idempotency_key: str, fingerprint: str
    ) -> tuple[int, str] | None:
        """Return the status and body that this request was answered with, if it was.

        Whoever is doing the same for this organisation, by another server, is waited for.
        """
        self._organisation(caller)
        row = self.store.database.row(
            "SELECT fingerprint, status, body FROM wf_answer "
            "WHERE organisation = :organisation AND idempotency_key = :key AND at >= :after",
            organisation=caller.organisation,
            key=idempotency_key,
            after=self.clock.now() - ANSWERS_KEPT,
        )
        if row is None:
            return None
        if row[0] != fingerprint:
            raise Refusal(
                422, "Idempotency-Key must not be that of another request of the last 24 hours"
            )
        return row[1], row[2]

    def keep_answer(
        self, caller: Caller, idempotency_key: str, fingerprint: str, status: int, body: str
    ) -> None:
        """Keep an answer, in the transaction of what it tells of."""
        which = {"organisation": caller.organisation, "key": idempotency_key}
        self.store.database.run(
            "DELETE FROM wf_answer WHERE organisation = :organisation AND idempotency_key = :key",
            **which,
        )
        self.store.database.run(
            "INSERT INTO wf_answer VALUES (:organisation, :key, :fingerprint, :status, :body, :at)",
            **which,
            fingerprint=fingerprint,
            status=status,
            body=body,
            at=self.clock.now(),
        )

    # Groups

    def list_groups(
        self,
        caller: Caller,
        *,
        location: str | None = None,
        sort: str = "name",
        limit: int = 50,
        offset: int = 0,
    ) -> tuple[list[dict[str, Any]], int]:
        """Return some of the groups, and how many there are in all."""
        organisation = self._organisation(caller)
        by = sort.removeprefix("-")
        value = attrgetter(by)
        is_of_meta = by in ("created_at", "updated_at")
        # Nearly all of it is for groups that are not on the page: no more is asked of each than
        # its place. No two have the same id, so that trees are not compared.
        found = [
            (value(meta if is_of_meta else group), id, tree)
            for tree in organisation.trees.values()
            for id, meta in tree.meta.items()
            for group in (tree.registry.group(id),)
            if location is None or group.location == location
        ]
        found.sort(reverse=sort.startswith("-"))
        page = found[offset : offset + limit]
        return [self._show_group(organisation, tree, id) for _, id, tree in page], len(found)

    def get_group(self, caller: Caller, group_id: str) -> dict[str, Any]:
        """Return a group, with its charge stations, sessions and allocation."""
        organisation = self._organisation(caller)
        return self._show_group(organisation, self._tree_of(organisation, group_id), group_id)

    def create_group(self, caller: Caller, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Create a group."""
        caller.refuse_without("commission")
        organisation = self._organisation(caller)
        id = fields.get("id") or secrets.token_hex(12)
        if id in RESERVED_IDS:
            raise refuse_field(422, "id", f"must not be {id!r}, which the API uses itself")
        if id in organisation.group_root:
            raise refuse_field(409, "id", f"must not be that of another group, got {id!r}")
        parent = fields.get("parent")
        if parent is None:
            tree = Tree(id, Registry(), {})
        else:
            tree = self._parent_tree(organisation, parent)
            _refuse_more(tree, n_groups=1)
        arguments = _as_arguments(fields) | {"id": id}
        commissioned = arguments.pop("commissioned_capacity", arguments["maximum_capacity"])
        _refuse_above(arguments["maximum_capacity"], commissioned)
        self.store.touch(organisation, tree.root)
        with _refusing():
            group = tree.registry.create_group(**arguments)
        now = self.clock.now()
        meta = tree.meta[id] = GroupMeta(False, commissioned, 1, now, now)
        organisation.trees[tree.root] = tree
        organisation.group_root[id] = tree.root
        self._insert_group(organisation, tree, group, meta)
        detail = _group_record(group) | {"commissioned_capacity": commissioned}
        self._finish(organisation, caller, "create group", id, detail, tree.root)
        return self._show_group(organisation, tree, id)

    def update_group(
        self,
        caller: Caller,
        group_id: str,
        fields: Mapping[str, Any],
        if_version: int | None = None,
    ) -> dict[str, Any]:
        """Change a group; what is not named stays as it is."""
        organisation = self._organisation(caller)
        tree = self._tree_of(organisation, group_id)
        meta = tree.meta[group_id]
        _refuse_version(meta, if_version)
        changes = _as_arguments(fields)
        dispatch = changes.pop("dispatch", None)
        old = tree.registry.group(group_id)
        commissioned = self._commissioned(caller, old, meta, changes)
        if "parent" in changes and changes["parent"] == old.parent:
            del changes["parent"]
        if dispatch is not None and old.parent is not None:
            raise refuse_field(
                422, "dispatch", f"must be set for the group without a parent, {tree.root!r}"
            )
        if dispatch and self.is_one_of_many:
            raise refuse_field(
                409, "dispatch", "must be set where one process serves: start it with --workers 1"
            )
        self.store.touch(organisation, tree.root)
        parent = changes.get("parent")
        moves = "parent" in changes and (
            parent is None or self._parent_tree(organisation, parent) is not tree
        )
        if moves:
            del changes["parent"]
            if tree.is_dispatched or (
                parent is not None and self._parent_tree(organisation, parent).is_dispatched
            ):
                raise refuse_field(
                    409, "parent", "must stay what it is while one of the groups is dispatched"
                )
            if parent is not None:
                below = _groups_below(tree, group_id)
                n_stations = sum(s.group in below for s in tree.registry.charge_stations())
                _refuse_more(self._parent_tree(organisation, parent), len(below), n_stations)
        with self._undoing(organisation, tree), _refusing():
            group = tree.registry.update_group(group_id, **changes)
            if "parent" in changes and tree.is_dispatched and tree.dispatcher is None:
                refuse_unfit(tree.registry)
        if dispatch:
            with self._undoing(organisation, tree), _refusing():
                if tree.dispatcher is None:
                    refuse_unfit(tree.registry)
        elif dispatch is False and meta.dispatch:
            forget_journal(self.store.database, organisation.id, tree.root)
            self.store.undo_memory(organisation, tree.root)
        detail = dict(fields)
        if commissioned != meta.commissioned:
            meta.commissioned = detail["commissioned_capacity"] = commissioned
        meta.dispatch = meta.dispatch if dispatch is None else dispatch
        self._bump(meta)
        self.store.database.run(
            "UPDATE wf_group SET name = :name, maximum_capacity = :maximum_capacity, "
            "minimum_connector_capacity = :minimum_connector_capacity, buffer = :buffer, "
            "reserved = :reserved, admission = :policy, rotation = :rotation, parent = :parent, "
            "location = :location, description = :description, notes = :notes, "
            "dispatch = :dispatch, commissioned = :commissioned, version = :version, "
            "updated_at = :updated_at WHERE organisation = :organisation AND id = :id",
            organisation=organisation.id,
            **_group_record(group),
            **_meta_values(meta),
        )
        root = tree.root
        if moves:
            root = self._move(organisation, tree, group_id, parent)
        self._finish(organisation, caller, "change group", group_id, detail, root)
        organisation = self._organisation(caller)
        return self._show_group(organisation, self._tree_of(organisation, group_id), group_id)

    def _commissioned(
        self, caller: Caller, old: Group, meta: GroupMeta, changes: dict[str, Any]
    ) -> float:
        """Return what is commissioned once these changes are made, or refuse them.

        What the registry does not know of is taken out of them.
        """
        capacity = changes.get("maximum_capacity", old.maximum_capacity)
        named = changes.pop("commissioned_capacity", None)
        if named is not None and named != meta.commissioned:
            caller.refuse_without("commission")
        wanted: float = max(capacity, meta.commissioned) if named is None else named
        if wanted > meta.commissioned:
            place = "maximum_capacity" if named is None else "commissioned_capacity"
            rule = f"must be at most {decimal(meta.commissioned)} kW, as was commissioned"
            if "commission" not in caller.scopes:
                raise refuse_field(
                    403, place, f"{rule}, without the scope commission, got {wanted!r}"
                )
            if commissioning.needs_two(self.store.database, caller.organisation, self.two_person):
                raise refuse_field(
                    409,
                    place,
                    f"{rule}, got {wanted!r}: ask for a raise, which another person approves",
                )
        _refuse_above(capacity, wanted)
        return wanted

    def _move(
        self, organisation: Organisation, tree: Tree, group_id: str, parent: str | None
    ) -> str:
        """Put a group with all below it into another tree; return the root of that."""
        root = group_id if parent is None else organisation.group_root[parent]
        self.store.touch(organisation, tree.root, root)
        below = _groups_below(tree, group_id)
        database = self.store.database
        database.run(
            "UPDATE wf_group SET parent = :parent WHERE organisation = :organisation AND id = :id",
            parent=parent,
            organisation=organisation.id,
            id=group_id,
        )
        database.run_many(
            "UPDATE wf_group SET root = :root, line = NULL "
            "WHERE organisation = :organisation AND id = :id",
            [{"root": root, "organisation": organisation.id, "id": id} for id in below],
        )
        # Who is in line in a group that stays may have gone with the others.
        database.run(
            "UPDATE wf_group SET line = NULL WHERE organisation = :organisation "
            "AND root IN (:before, :after)",
            organisation=organisation.id,
            before=tree.root,
            after=root,
        )
        self.store.undo_memory(organisation, tree.root, root)
        return root

    def delete_group(
        self, caller: Caller, group_id: str, if_version: int | None = None
    ) -> dict[str, Any]:
        """Delete a group that holds nothing."""
        organisation = self._organisation(caller)
        tree = self._tree_of(organisation, group_id)
        _refuse_version(tree.meta[group_id], if_version)
        stations = tree.registry.charge_stations(group_id)
        children = [group for group in tree.registry.groups() if group.parent == group_id]
        if stations or children:
            raise Refusal(
                409,
                f"group {group_id!r} must be empty to be deleted, and it has "
                f"{count(len(stations), 'charge station')} and "
                f"{count(len(children), 'group')} below it",
            )
        self.store.touch(organisation, tree.root)
        tree.registry.delete_group(group_id)
        del tree.meta[group_id], organisation.group_root[group_id]
        database = self.store.database
        if group_id == tree.root:
            del organisation.trees[group_id]
            forget_journal(database, organisation.id, group_id)
        database.run(
            "DELETE FROM wf_group WHERE organisation = :organisation AND id = :id",
            organisation=organisation.id,
            id=group_id,
        )
        roots = () if group_id == tree.root else (tree.root,)
        self._finish(organisation, caller, "delete group", group_id, {}, *roots)
        return {"_id": group_id}

    # Raises

    def list_raises(
        self,
        caller: Caller,
        *,
        group: str | None = None,
        state: str | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> list[dict[str, Any]]:
        """Return what was asked to be commissioned, the latest first."""
        if group is not None:
            self._tree_of(self._organisation(caller), group)
        found = commissioning.find(
            self.store.database,
            caller.organisation,
            self.clock.now(),
            group=group,
            state=state,
            before=before,
            limit=limit,
        )
        return [each.show() for each in found]

    def get_raise(self, caller: Caller, raise_id: str) -> dict[str, Any]:
        """Return what somebody asked to be commissioned, and what became of it."""
        return self._raise(caller, raise_id).show()

    def ask_for_raise(
        self, caller: Caller, group_id: str, fields: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Ask for more to be commissioned; it is at once where it does not need two persons."""
        caller.refuse_without("commission")
        organisation = self._organisation(caller)
        tree = self._tree_of(organisation, group_id)
        meta, now = tree.meta[group_id], self.clock.now()
        wanted: float = fields["commissioned_capacity"]
        if wanted <= meta.commissioned:
            raise refuse_field(
                422,
                "commissioned_capacity",
                f"must be above the {decimal(meta.commissioned)} kW that are commissioned, got "
                f"{wanted!r}",
            )
        if meta.asked is not None:
            if now < meta.asked.expires_at:
                raise Refusal(
                    409,
                    f"group {group_id!r} must have one raise that waits, and it has "
                    f"{meta.asked.id!r}: have that approved, declined or withdrawn first",
                )
            self._expire(organisation, tree, meta.asked)
        self.store.touch(organisation, tree.root)
        database = self.store.database
        name, _ = commissioning.key_of(database, organisation.id, caller.key)
        asked = Raise(
            revision=organisation.revision + 1,
            group=group_id,
            commissioned=wanted,
            before=meta.commissioned,
            note=fields.get("note", ""),
            state="pending",
            asked_by=caller.key,
            asked_name=name,
            asked_at=now,
            expires_at=now + commissioning.LASTS,
        )
        if commissioning.needs_two(database, organisation.id, self.two_person):
            meta.asked = asked
            commissioning.insert(database, organisation.id, asked)
            self._note_raise(organisation, tree, caller.key, "request raise", asked)
            return asked.show()
        done = replace(asked, state="approved", decided_by=caller.key, decided_at=now)
        commissioning.insert(database, organisation.id, done)
        self._commission(organisation, tree, done)
        return done.show()

    def approve_raise(self, caller: Caller, raise_id: str) -> dict[str, Any]:
        """Commission what another person asked for."""
        caller.refuse_without("commission")
        organisation, tree, asked = self._waiting_raise(caller, raise_id)
        if self._is_of(caller, asked):
            raise Refusal(
                403,
                f"raise {raise_id!r} must be approved by another person than asked for it, with a "
                f"key of another name than {asked.asked_name!r}",
            )
        _, is_revoked = commissioning.key_of(self.store.database, organisation.id, asked.asked_by)
        if is_revoked:
            raise Refusal(
                409,
                f"raise {raise_id!r} must be of a key that is still good, and {asked.asked_by} has "
                "been revoked since: decline it",
            )
        commissioned = tree.meta[asked.group].commissioned
        if commissioned != asked.before:
            raise Refusal(
                409,
                f"raise {raise_id!r} must start from what is commissioned, and that is "
                f"{decimal(commissioned)} kW now, not {decimal(asked.before)}: decline it and ask "
                "anew",
            )
        self.store.touch(organisation, tree.root)
        done = replace(asked, state="approved", decided_by=caller.key, decided_at=self.clock.now())
        commissioning.decide(self.store.database, organisation.id, done)
        self._commission(organisation, tree, done)
        return done.show()

    def decline_raise(self, caller: Caller, raise_id: str) -> dict[str, Any]:
        """Decline what another person asked for, or withdraw what one has asked for oneself."""
        caller.refuse_without("commission")
        organisation, tree, asked = self._waiting_raise(caller, raise_id)
        is_own = self._is_of(caller, asked)
        self.store.touch(organisation, tree.root)
        done = replace(
            asked,
            state="withdrawn" if is_own else "declined",
            decided_by=caller.key,
            decided_at=self.clock.now(),
        )
        commissioning.decide(self.store.database, organisation.id, done)
        tree.meta[asked.group].asked = None
        action = "withdraw raise" if is_own else "decline raise"
        self._note_raise(organisation, tree, caller.key, action, done)
        return done.show()

    def expire_raises(self) -> None:
        """Note which raises nobody approved in time."""
        for tenant, group_id in commissioning.overdue(self.store.database, self.clock.now()):
            organisation = self.store.organisation(tenant)
            tree = organisation.trees[organisation.group_root[group_id]]
            asked = tree.meta[group_id].asked
            # Another server may have noted it while we waited.
            if asked is not None and asked.expires_at <= self.clock.now():
                self._expire(organisation, tree, asked)

    def _expire(self, organisation: Organisation, tree: Tree, asked: Raise) -> None:
        self.store.touch(organisation, tree.root)
        over = replace(asked, state="expired", decided_at=asked.expires_at)
        commissioning.decide(self.store.database, organisation.id, over)
        tree.meta[asked.group].asked = None
        self._note_raise(organisation, tree, commissioning.SERVER, "expire raise", over)

    def _raise(self, caller: Caller, raise_id: str) -> Raise:
        found = commissioning.find(
            self.store.database, caller.organisation, self.clock.now(), id=raise_id
        )
        if not found:
            raise not_found("raise", "raise", raise_id)
        return found[0]

    def _waiting_raise(self, caller: Caller, raise_id: str) -> tuple[Organisation, Tree, Raise]:
        organisation = self._organisation(caller)
        asked = self._raise(caller, raise_id)
        if asked.state != "pending":
            raise Refusal(409, f"raise {raise_id!r} must still wait, and it is {asked.state}")
        return organisation, self._tree_of(organisation, asked.group), asked

    def _is_of(self, caller: Caller, asked: Raise) -> bool:
        """Say whether it is the person who asked, with the same key or another one."""
        name, _ = commissioning.key_of(self.store.database, caller.organisation, caller.key)
        return caller.key == asked.asked_by or person_of(name) == person_of(asked.asked_name)

    def _commission(self, organisation: Organisation, tree: Tree, done: Raise) -> None:
        meta = tree.meta[done.group]
        meta.commissioned, meta.asked = done.commissioned, None
        self.store.database.run(
            "UPDATE wf_group SET commissioned = :commissioned "
            "WHERE organisation = :organisation AND id = :id",
            commissioned=done.commissioned,
            organisation=organisation.id,
            id=done.group,
        )
        assert done.decided_by is not None
        self._note_raise(organisation, tree, done.decided_by, "approve raise", done)

    def _note_raise(
        self, organisation: Organisation, tree: Tree, who: str, action: str, noted: Raise
    ) -> None:
        self._bump_stored(organisation, tree, noted.group)
        self.store.note_change(organisation, who, action, noted.group, noted.detail())

    # Charge stations

    def list_stations(self, caller: Caller, group_id: str) -> list[dict[str, Any]]:
        """Return the charge stations of a group."""
        organisation = self._organisation(caller)
        tree = self._tree_of(organisation, group_id)
        return self._show_stations(tree, tree.allocate(self.clock), group_id)

    def get_station(self, caller: Caller, station_id: str) -> dict[str, Any]:
        """Return a charge station."""
        organisation = self._organisation(caller)
        tree = self._station_tree(organisation, station_id)
        return self._show_station(tree, station_id)

    def add_station(
        self, caller: Caller, group_id: str, fields: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Add a charge station to a group."""
        organisation = self._organisation(caller)
        tree = self._tree_of(organisation, group_id)
        station_id: str = fields["chargestation"]
        other = organisation.station_root.get(station_id)
        if other is not None:
            home = organisation.trees[other].registry.charge_station(station_id).group
            raise refuse_field(
                409,
                "chargestation",
                f"must not be that of another charge station, got {station_id!r}, which is in "
                f"group {home!r}",
            )
        _refuse_more(tree, n_stations=1)
        connectors = _connectors(fields["connectors"])
        self.store.touch(organisation, tree.root)
        with self._undoing(organisation, tree), _refusing():
            station = tree.registry.add_charge_station(group_id, station_id, connectors)
            if tree.is_dispatched and tree.dispatcher is None:
                refuse_unfit(tree.registry)
        organisation.station_root[station_id] = tree.root
        now = self.clock.now()
        self.store.database.run(
            "INSERT INTO wf_station (organisation, id, group_id, connectors, created_at, "
            "updated_at) VALUES (:organisation, :id, :group_id, :connectors, :now, :now)",
            organisation=organisation.id,
            id=station_id,
            group_id=group_id,
            connectors=connector_records(station.connectors),
            now=now,
        )
        detail = {"group": group_id, "connectors": fields["connectors"]}
        self._bump_stored(organisation, tree, group_id)
        self._finish(organisation, caller, "add chargestation", station_id, detail, tree.root)
        return self._show_station(tree, station_id)

    def update_station(
        self, caller: Caller, station_id: str, fields: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Change connectors of a charge station, or add some; others stay."""
        organisation = self._organisation(caller)
        tree = self._station_tree(organisation, station_id)
        old = tree.registry.charge_station(station_id)
        connectors = _merged(old, fields["connectors"])
        self.store.touch(organisation, tree.root)
        with self._undoing(organisation, tree), _refusing():
            station = tree.registry.update_charge_station(station_id, connectors)
            if tree.is_dispatched and tree.dispatcher is None:
                refuse_unfit(tree.registry)
        self.store.database.run(
            "UPDATE wf_station SET connectors = :connectors, updated_at = :now "
            "WHERE organisation = :organisation AND id = :id",
            connectors=connector_records(station.connectors),
            now=self.clock.now(),
            organisation=organisation.id,
            id=station_id,
        )
        self._bump_stored(organisation, tree, station.group)
        self._finish(
            organisation, caller, "change chargestation", station_id, dict(fields), tree.root
        )
        return self._show_station(tree, station_id)

    def remove_station(self, caller: Caller, station_id: str) -> dict[str, Any]:
        """Remove a charge station, and with it the sessions at its connectors."""
        organisation = self._organisation(caller)
        tree = self._station_tree(organisation, station_id)
        group_id = tree.registry.charge_station(station_id).group
        self.store.touch(organisation, tree.root)
        tree.registry.remove_charge_station(station_id)
        del organisation.station_root[station_id]
        self.store.database.run(
            "DELETE FROM wf_station WHERE organisation = :organisation AND id = :id",
            organisation=organisation.id,
            id=station_id,
        )
        self._bump_stored(organisation, tree, group_id)
        self._finish(
            organisation, caller, "remove chargestation", station_id, {"group": group_id}, tree.root
        )
        return {"_id": station_id, "group": group_id}

    # Sessions

    def list_sessions(self, caller: Caller, group_id: str | None = None) -> list[dict[str, Any]]:
        """Return the sessions of a group (not below it), or all, in the order of their start."""
        organisation = self._organisation(caller)
        if group_id is not None:
            sessions = self._tree_of(organisation, group_id).registry.sessions(group_id)
        else:
            sessions = [s for tree in organisation.trees.values() for s in tree.registry.sessions()]
        sessions.sort(key=lambda s: (s.started_at, s.station, s.connector))
        return [_show_session(session) for session in sessions]

    def get_session(self, caller: Caller, station_id: str, connector: str) -> dict[str, Any]:
        """Return the session at a connector."""
        organisation = self._organisation(caller)
        tree = self._station_tree(organisation, station_id)
        with _refusing():
            session = tree.registry.session(station_id, connector)
        return self._show_session_result(tree, session, f"{station_id}/{connector}")

    def start_session(self, caller: Caller, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Start a session at a connector."""
        organisation = self._organisation(caller)
        station_id, connector = fields["chargestation"], fields["connector"]
        tree = self._station_tree(organisation, station_id)
        now = tree.now(self.clock)
        started_at = fields.get("started_at", now)
        if started_at > now:
            raise refuse_field(
                422, "started_at", f"must not lie in the future, got {started_at!r} after {now!r}"
            )
        self.store.touch(organisation, tree.root)
        with _refusing():
            session = tree.registry.start_session(
                station_id,
                connector,
                fields.get("maximum"),
                fields.get("weight", 1.0),
                fields.get("priority", 0),
                started_at,
            )
        values = _session_values(session)
        self.store.database.run(
            "INSERT INTO wf_session (organisation, station, connector, maximum, weight, priority, "
            "started_at, arrival) VALUES (:organisation, :station, :connector, :maximum, :weight, "
            ":priority, :started_at, :arrival)",
            organisation=organisation.id,
            **values,
            arrival=organisation.revision + 1,
        )
        target = f"{station_id}/{connector}"
        self._finish(organisation, caller, "start session", target, values, tree.root)
        return self._show_session_result(tree, session, target)

    def update_session(
        self, caller: Caller, station_id: str, connector: str, fields: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Change what a session asks for."""
        organisation = self._organisation(caller)
        tree = self._station_tree(organisation, station_id)
        self.store.touch(organisation, tree.root)
        with _refusing():
            session = tree.registry.update_session(station_id, connector, **fields)
        self.store.database.run(
            "UPDATE wf_session SET maximum = :maximum, weight = :weight, priority = :priority "
            "WHERE organisation = :organisation AND station = :station AND connector = :connector",
            organisation=organisation.id,
            **{k: v for k, v in _session_values(session).items() if k != "started_at"},
        )
        target = f"{station_id}/{connector}"
        self._finish(organisation, caller, "change session", target, dict(fields), tree.root)
        return self._show_session_result(tree, session, target)

    def stop_session(self, caller: Caller, station_id: str, connector: str) -> dict[str, Any]:
        """Stop the session at a connector."""
        organisation = self._organisation(caller)
        tree = self._station_tree(organisation, station_id)
        self.store.touch(organisation, tree.root)
        with _refusing():
            tree.registry.stop_session(station_id, connector)
        self.store.database.run(
            "DELETE FROM wf_session WHERE organisation = :organisation AND station = :station "
            "AND connector = :connector",
            organisation=organisation.id,
            station=station_id,
            connector=connector,
        )
        target = f"{station_id}/{connector}"
        self._finish(organisation, caller, "stop session", target, {}, tree.root)
        return self._show_session_result(tree, None, target)

    # Allocations

    def get_allocation(self, caller: Caller, group_id: str) -> dict[str, Any]:
        """Return what each connector in a group and below it may draw, and why."""
        organisation = self._organisation(caller)
        tree = self._tree_of(organisation, group_id)
        return self.show_allocation(tree, tree.allocate(self.clock), group_id)

    def what_if(self, caller: Caller, group_id: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return the shares that a group would give with these changes, which are not made."""
        tree = self._tree_of(self._organisation(caller), group_id)
        registry = Registry.from_dict(tree.registry.to_dict())
        with _refusing():
            registry.update_group(group_id, **_as_arguments(fields))
        trial = Tree(tree.root, registry, tree.meta)
        return self.show_allocation(trial, trial.allocate(self.clock), group_id)

    def tree_allocation(self, organisation: Organisation, group_id: str) -> dict[str, Any] | None:
        """Return the allocation of a group for those who follow it; None where there is none."""
        root = organisation.group_root.get(group_id)
        if root is None:
            return None
        tree = organisation.trees[root]
        return self.show_allocation(tree, tree.allocate(self.clock), group_id)

    def versions(self, organisation: Organisation, group_id: str) -> dict[str, int]:
        """Return the versions of a group and of those below it."""
        tree = organisation.trees[organisation.group_root[group_id]]
        return {id: tree.meta[id].version for id in _groups_below(tree, group_id)}

    def configuration(self, organisation: Organisation, groups: Iterable[str]) -> dict[str, Any]:
        """Return the settings of groups of one tree."""
        return {
            "groups": [
                self._show_settings(organisation.trees[organisation.group_root[id]], id)
                for id in groups
            ]
        }

    def report(
        self, caller: Caller, group_id: str, reports: list[Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Note what became of commands, or what is known of stations.

        Ids and what must be given are looked at before the first is noted. Where a number of a
        command is refused later, what stands before it is noted; to send that again is harmless.
        """
        organisation = self._organisation(caller)
        tree = self._tree_of(organisation, group_id)
        dispatcher = tree.dispatcher
        if dispatcher is None:
            if not tree.is_dispatched:
                raise Refusal(409, f"group {tree.root!r} must be dispatched: set its dispatch")
            raise unavailable(tree.dispatch_error or "another server dispatches this group")
        faults: list[Fault] = []
        for i, report in enumerate(reports):
            _check_report(tree, report, f"confirmations[{i}]", faults)
        if faults:
            raise Refusal(422, faults[0].message, faults)
        self._keep_offline(organisation, reports)
        now, disobeyed = tree.now(self.clock), dispatcher.disobeying()
        self.spoken_of.setdefault(organisation.id, set()).add(tree.root)
        for report in reports:
            station, kind = report["chargestation"], report["kind"]
            with _refusing():
                match kind:
                    case "offline":
                        dispatcher.offline(station, now)
                    case "online":
                        dispatcher.online(station, now)
                    case "confirm":
                        dispatcher.confirm(station, report["connector"], report["seq"], now)
                    case "reject":
                        dispatcher.reject(station, report["connector"], report["seq"], now)
                    case "meter":
                        dispatcher.meter(station, report["connector"], report["power"], now)
                    case _:
                        dispatcher.read_back(
                            station, report["connector"], report["limit"], now, report.get("seq")
                        )
        for key in dispatcher.disobeying():
            if key not in disobeyed:
                log.warning("a connector draws more than it was told", extra={"connector": key})
        return {"_id": group_id, "noted": len(reports)}

    def _keep_offline(self, organisation: Organisation, reports: list[Mapping[str, Any]]) -> None:
        """Write down which stations can be reached, where that is not what it was."""
        told = {r["chargestation"]: r["kind"] for r in reports if r["kind"] in REACH}
        if told:
            database = self.store.database
            with database.transaction():
                database.run_many(
                    "UPDATE wf_station SET offline = :offline WHERE organisation = :organisation "
                    "AND id = :id AND offline <> :offline",
                    [
                        {"organisation": organisation.id, "id": id, "offline": REACH[kind]}
                        for id, kind in told.items()
                    ],
                )

    def tell_anew(self, organisation: Organisation, tree: Tree) -> None:
        """Have every station that can be reached told again what it may draw."""
        if tree.dispatcher is not None:
            now = tree.now(self.clock)
            offline = offline_stations(self.store.database, organisation.id, tree.root)
            for station in tree.registry.charge_stations():
                if station.id not in offline:
                    tree.dispatcher.online(station.id, now)

    def plan(self, tree: Tree) -> tuple[list[dict[str, object]], Exception | None]:
        """Return the commands that may be sent now, and why there are no increases, if so."""
        assert tree.dispatcher is not None
        plan = tree.dispatcher.plan(tree.now(self.clock))
        tree.wake_at = plan.wake_at
        return [command_record(command) for command in plan.commands], plan.journal_error

    # The log

    def list_changes(
        self, caller: Caller, *, before: int | None = None, limit: int = 50
    ) -> list[dict[str, Any]]:
        """Return who changed what, the latest first."""
        self._organisation(caller)
        rows = self.store.database.rows(
            "SELECT revision, at, key_id, action, target, detail, digest FROM wf_change "
            "WHERE organisation = :organisation AND revision < :before "
            "ORDER BY revision DESC LIMIT :limit",
            organisation=caller.organisation,
            before=2**62 if before is None else before,
            limit=limit,
        )
        return [
            {
                "_id": str(revision),
                "revision": revision,
                "at": at,
                "key": key,
                "action": action,
                "target": target,
                "detail": json.loads(detail),
                "digest": digest,
            }
            for revision, at, key, action, target, detail, digest in rows
        ]

    # What answers are made of

    def _show_group(self, organisation: Organisation, tree: Tree, group_id: str) -> dict[str, Any]:
        allocation = tree.allocate(self.clock)
        return {
            **self._show_settings(tree, group_id),
            "chargestations": self._show_stations(tree, allocation, group_id),
            "allocation": _show_outcome(tree.registry, allocation, group_id),
        }

    def _show_settings(self, tree: Tree, group_id: str) -> dict[str, Any]:
        meta, record = tree.meta[group_id], _group_record(tree.registry.group(group_id))
        record["admission"] = record.pop("policy")
        waits = meta.asked is not None and self.clock.now() < meta.asked.expires_at
        return {
            "_id": group_id,
            **record,
            "dispatch": meta.dispatch,
            "commissioned_capacity": meta.commissioned,
            "raise": meta.asked.show() if meta.asked is not None and waits else None,
            "version": meta.version,
            "created_at": meta.created_at,
            "updated_at": meta.updated_at,
        }

    def _show_stations(
        self, tree: Tree, allocation: RegistryAllocation, group_id: str
    ) -> list[dict[str, Any]]:
        sessions = {(s.station, s.connector): s for s in tree.registry.sessions(group_id)}
        return [
            _show_one_station(tree.registry, station, allocation, sessions)
            for station in tree.registry.charge_stations(group_id)
        ]

    def _show_station(self, tree: Tree, station_id: str) -> dict[str, Any]:
        station = tree.registry.charge_station(station_id)
        sessions = {(s.station, s.connector): s for s in tree.registry.sessions(station.group)}
        allocation = tree.allocate(self.clock)
        return _show_one_station(tree.registry, station, allocation, sessions)

    def _show_session_result(self, tree: Tree, session: Session | None, id: str) -> dict[str, Any]:
        allocation = tree.allocate(self.clock)
        return {
            "_id": id,
            "session": None if session is None else _show_session(session),
            "allocation": self.show_allocation(tree, allocation, tree.root),
        }

    def show_allocation(
        self, tree: Tree, allocation: RegistryAllocation, group_id: str
    ) -> dict[str, Any]:
        """Return the outcome for a group and all below it."""
        registry = tree.registry
        self.n_allocations += 1
        below = None if group_id == tree.root else _groups_below(tree, group_id)
        words = _Words(registry, allocation)
        connectors = []
        is_held = False
        for plug in allocation.connectors.values():
            if below is None or plug.group in below:
                connectors.append(_show_connector(plug, words))
                is_held = is_held or plug.bound_by is not None
        self.n_overloads_prevented += is_held
        result = {
            "_id": group_id,
            "root": tree.root,
            "at": registry.clock,
            "dispatch": tree.is_dispatched,
            "groups": [
                {"_id": group.id, "name": group.name, "parent": group.parent}
                | _show_outcome(registry, allocation, group.id)
                for group in registry.groups()
                if below is None or group.id in below
            ],
            "connectors": connectors,
        }
        if tree.dispatcher is not None:
            committed = tree.dispatcher.committed()
            disobeying = tree.dispatcher.disobeying()
            for record in connectors:
                key = record["chargestation"], record["connector"]
                record["committed"] = committed.connectors[key]
                record["disobeys"] = key in disobeying
            result["waiting"] = [str(waiting) for waiting in tree.dispatcher.waiting()]
        return result

    # What functions are made of

    def _organisation(self, caller: Caller) -> Organisation:
        return self.store.organisation(caller.organisation)

    def _tree_of(self, organisation: Organisation, group_id: str) -> Tree:
        root = organisation.group_root.get(group_id)
        if root is None:
            raise not_found("group", "group", group_id)
        return organisation.trees[root]

    def _parent_tree(self, organisation: Organisation, group_id: str) -> Tree:
        root = organisation.group_root.get(group_id)
        if root is None:
            raise refuse_field(422, "parent", f"must be the id of a group, got {group_id!r}")
        return organisation.trees[root]

    def _station_tree(self, organisation: Organisation, station_id: str) -> Tree:
        root = organisation.station_root.get(station_id)
        if root is None:
            raise not_found("chargestation", "charge station", station_id)
        return organisation.trees[root]

    @contextmanager
    def _undoing(self, organisation: Organisation, tree: Tree) -> Iterator[None]:
        """Have a tree read again if what is inside is refused half-way."""
        try:
            yield
        except BaseException:
            self.store.undo_memory(organisation, tree.root)
            raise

    def _finish(
        self,
        organisation: Organisation,
        caller: Caller,
        action: str,
        target: str,
        detail: Mapping[str, Any],
        *roots: str,
    ) -> None:
        """Write the change into the log, and who takes turns in the trees that are still there."""
        self.store.keep_lines(
            organisation,
            *(r for r in roots if r in organisation.trees and r not in organisation.stale),
        )
        self.store.note_change(organisation, caller.key, action, target, detail)

    def _bump(self, meta: GroupMeta) -> None:
        meta.version += 1
        meta.updated_at = self.clock.now()

    def _bump_stored(self, organisation: Organisation, tree: Tree, group_id: str) -> None:
        """Note that what a group holds is changed."""
        meta = tree.meta[group_id]
        self._bump(meta)
        self.store.database.run(
            "UPDATE wf_group SET version = :version, updated_at = :updated_at "
            "WHERE organisation = :organisation AND id = :id",
            version=meta.version,
            updated_at=meta.updated_at,
            organisation=organisation.id,
            id=group_id,
        )

    def _insert_group(
        self, organisation: Organisation, tree: Tree, group: Group, meta: GroupMeta
    ) -> None:
        self.store.database.run(
            "INSERT INTO wf_group (organisation, id, root, name, maximum_capacity, "
            "minimum_connector_capacity, buffer, reserved, admission, rotation, parent, location, "
            "description, notes, dispatch, commissioned, version, created_at, updated_at) VALUES "
            "(:organisation, :id, :root, :name, :maximum_capacity, :minimum_connector_capacity, "
            ":buffer, :reserved, :policy, :rotation, :parent, :location, :description, :notes, "
            ":dispatch, :commissioned, :version, :created_at, :updated_at)",
            organisation=organisation.id,
            root=tree.root,
            **_group_record(group),
            **_meta_values(meta),
            created_at=meta.created_at,
        )


class _Words:
    """Why connectors get what they get, in words; made once for each group."""

    def __init__(self, registry: Registry, allocation: RegistryAllocation) -> None:
        self._registry = registry
        self._allocation = allocation
        self._groups: dict[str, tuple[str, str]] = {}

    def of(self, plug: ConnectorAllocation) -> str:
        words = REASONS[plug.reason][0]
        if plug.bound_by is None:
            return words
        known = self._groups.get(plug.bound_by)
        if known is None:
            headroom = self._allocation.groups[plug.bound_by].headroom
            known = self._registry.group(plug.bound_by).name, decimal(headroom)
            self._groups[plug.bound_by] = known
        if plug.reason is Reason.PAUSED:
            return words.format(minimum=decimal(plug.minimum), left=known[1], group=known[0])
        return words.format(group=known[0])


@contextmanager
def _refusing() -> Iterator[None]:
    """Answer what the registry refuses in the words of the API."""
    try:
        yield
    except WattfillError as error:
        if isinstance(error, OSError):
            raise
        status = 422
        if isinstance(error, UnknownIdError):
            status = 404
        elif isinstance(error, ConflictError):
            status = 409
        message = re.sub(r" \((?:use |move_)[^()]*\)$", "", str(error))
        name, space, rest = message.partition(" ")
        if not re.fullmatch(r"[a-z_]+(\[\d+\])?(\.[a-z_]+)?", name) or name == "the":
            raise Refusal(status, message) from None
        name = NAMES.get(name, name)
        message = f"{name}{space}{rest}"
        raise Refusal(status, message, [Fault(name, message)]) from None


def _refuse_version(meta: GroupMeta, if_version: int | None) -> None:
    if if_version is not None and if_version != meta.version:
        raise Refusal(
            412, f"the group must still be of version {if_version}, and it is of {meta.version}"
        )


def _refuse_above(capacity: float, commissioned: float) -> None:
    if capacity > commissioned:
        raise refuse_field(
            422,
            "commissioned_capacity",
            f"must be at least maximum_capacity, {decimal(capacity)} kW, got {commissioned!r}",
        )


def _refuse_more(tree: Tree, n_groups: int = 0, n_stations: int = 0) -> None:
    """Refuse what would make a tree too large."""
    for what, n, most in (
        ("groups", len(tree.meta) + n_groups, MOST_GROUPS),
        ("charge stations", len(tree.registry.charge_stations()) + n_stations, MOST_STATIONS),
    ):
        if n > most:
            raise Refusal(409, f"a tree of groups must have at most {most} {what}, got {n}")


def _groups_below(tree: Tree, group_id: str) -> set[str]:
    """Return a group and all below it."""
    below = {group_id}
    for group in tree.registry.groups():  # Parents come first.
        if group.parent in below:
            below.add(group.id)
    return below


def _as_arguments(fields: Mapping[str, Any]) -> dict[str, Any]:
    arguments = dict(fields)
    if "admission" in arguments:
        arguments["policy"] = arguments.pop("admission")
    return arguments


def _connectors(records: list[Mapping[str, Any]]) -> list[Connector]:
    connectors = []
    for i, record in enumerate(records):
        try:
            connectors.append(Connector(**record))
        except WattfillError as error:
            place = f"connectors[{i}].{str(error).partition(' ')[0]}"
            message = f"connectors[{i}].{error}"
            raise Refusal(422, message, [Fault(place, message)]) from None
    return connectors


def _merged(station: ChargeStation, records: list[Mapping[str, Any]]) -> list[Connector]:
    """Return the connectors of a station with these changes."""
    merged: dict[str, Mapping[str, Any]] = {
        c.id: {
            "id": c.id,
            "maximum_capacity": c.maximum_capacity,
            "minimum_capacity": c.minimum_capacity,
            "fallback": c.fallback,
        }
        for c in station.connectors
    }
    seen: set[str] = set()
    for i, record in enumerate(records):
        id = record["id"]
        if id in seen:
            raise refuse_field(422, f"connectors[{i}].id", f"must be there once, got {id!r} again")
        seen.add(id)
        if id not in merged and "maximum_capacity" not in record:
            raise refuse_field(
                422,
                f"connectors[{i}].maximum_capacity",
                f"must be given, as there is no connector {id!r} yet",
            )
        merged[id] = {**merged.get(id, {}), **record}
    return _connectors(list(merged.values()))


def _check_report(tree: Tree, report: Mapping[str, Any], place: str, faults: list[Fault]) -> None:
    """Add what is wrong with a report to the faults."""
    kind = report["kind"]
    needed = {
        "confirm": ("connector", "seq"),
        "reject": ("connector", "seq"),
        "read_back": ("connector", "limit"),
        "meter": ("connector", "power"),
    }.get(kind, ())
    for name in needed:
        if report.get(name) is None:
            faults.append(
                Fault(f"{place}.{name}", f"{place}.{name} must be given where kind is {kind}")
            )
    try:
        plugs = tree.registry.charge_station(report["chargestation"]).connectors
    except UnknownIdError:
        where = f"{place}.chargestation"
        rule = "must be the id of a charge station in the same tree of groups"
        faults.append(Fault(where, f"{where} {rule}, got {report['chargestation']!r}"))
        return
    connector = report.get("connector")
    if "connector" in needed and connector is not None and connector not in [p.id for p in plugs]:
        where = f"{place}.connector"
        faults.append(
            Fault(where, f"{where} must be the id of a connector there, got {connector!r}")
        )


def _group_record(group: Group) -> dict[str, Any]:
    return {name: getattr(group, name) for name in group.__slots__}


def _meta_values(meta: GroupMeta) -> dict[str, Any]:
    return {
        "dispatch": int(meta.dispatch),
        "commissioned": meta.commissioned,
        "version": meta.version,
        "updated_at": meta.updated_at,
    }


def _session_values(session: Session) -> dict[str, Any]:
    return {
        "station": session.station,
        "connector": session.connector,
        "maximum": session.maximum,
        "weight": session.weight,
        "priority": session.priority,
        "started_at": session.started_at,
    }


def _show_session(session: Session) -> dict[str, Any]:
    return {
        "_id": f"{session.station}/{session.connector}",
        "chargestation": session.station,
        "connector": session.connector,
        "maximum": session.maximum,
        "weight": session.weight,
        "priority": session.priority,
        "started_at": session.started_at,
    }


def _show_one_station(
    registry: Registry,
    station: ChargeStation,
    allocation: RegistryAllocation,
    sessions: Mapping[tuple[str, str], Session],
) -> dict[str, Any]:
    words = _Words(registry, allocation)
    connectors = []
    for plug in station.connectors:
        outcome = allocation.connectors[station.id, plug.id]
        session = sessions.get((station.id, plug.id))
        connectors.append(
            {
                "id": plug.id,
                "maximum_capacity": plug.maximum_capacity,
                "minimum_capacity": plug.minimum_capacity,
                "fallback": plug.fallback,
                "session": None if session is None else _show_session(session),
                "power": outcome.power,
                "reason": outcome.reason.label,
                "words": words.of(outcome),
            }
        )
    return {
        "_id": station.id,
        "chargestation": station.id,
        "group": station.group,
        "connectors": connectors,
    }


def _show_connector(plug: ConnectorAllocation, words: _Words) -> dict[str, Any]:
    return {
        "chargestation": plug.station,
        "connector": plug.connector,
        "group": plug.group,
        "power": plug.power,
        "reason": plug.reason.label,
        "words": words.of(plug),
        "bound_by": plug.bound_by,
        "minimum": plug.minimum,
        "maximum": plug.maximum,
    }


def _show_outcome(
    registry: Registry, allocation: RegistryAllocation, group_id: str
) -> dict[str, Any]:
    outcome = allocation.groups[group_id]
    return {
        "usable": outcome.usable,
        "used": outcome.used,
        "headroom": outcome.headroom,
        "shortfall": outcome.shortfall,
        # JSON has no infinity: nobody is held down.
        "level": outcome.level if math.isfinite(outcome.level) else None,
    }
