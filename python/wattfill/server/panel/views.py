"""What the pages show, read from the service on the engine's thread."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from wattfill.registry import Group
from wattfill.server.panel.picture import draw
from wattfill.server.service import Caller, Service

PAGE = 25
"""Groups on a page of a location."""


def locations(service: Service, caller: Caller) -> list[dict[str, Any]]:
    """Return the places where groups stand, with how many; groups without one come last."""
    organisation = service.store.organisation(caller.organisation)
    found: dict[str | None, dict[str, Any]] = defaultdict(
        lambda: {"groups": 0, "stations": 0, "sessions": 0, "capacity": 0.0}
    )
    for tree in organisation.trees.values():
        registry = tree.registry
        home = {group.id: group.location for group in registry.groups()}
        for group in registry.groups():
            entry = found[group.location]
            entry["groups"] += 1
            if group.parent is None or home[group.parent] != group.location:
                # What feeds another one here is counted once.
                entry["capacity"] += group.maximum_capacity
        for station in registry.charge_stations():
            found[home[station.group]]["stations"] += 1
        for session in registry.sessions():
            found[home[registry.charge_station(session.station).group]]["sessions"] += 1
    names = sorted(found, key=lambda name: (name is None, name or ""))
    return [{"id": name, **found[name]} for name in names]


def groups_at(service: Service, caller: Caller, location: str | None) -> list[Group]:
    """Return the groups at a location, or those without one, by name."""
    organisation = service.store.organisation(caller.organisation)
    found = [
        group
        for tree in organisation.trees.values()
        for group in tree.registry.groups()
        if group.location == location
    ]
    return sorted(found, key=lambda group: (group.name, group.id))


def group_names(service: Service, caller: Caller) -> list[tuple[str, str]]:
    """Return the id and the name of every group, by name."""
    organisation = service.store.organisation(caller.organisation)
    found = [
        (group.id, group.name)
        for tree in organisation.trees.values()
        for group in tree.registry.groups()
    ]
    return sorted(found, key=lambda each: (each[1], each[0]))


def group(
    service: Service,
    caller: Caller,
    group_id: str,
    trial: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Return a group with its allocation and picture.

    With values to try, it is shown as it would be with them, each connector with its present power
    as ``now``; nothing is changed.
    """
    shown = service.get_group(caller, group_id)
    allocation = service.get_allocation(caller, group_id)
    present = {
        (plug["chargestation"], plug["connector"]): plug["power"]
        for plug in allocation["connectors"]
    }
    if trial is not None:
        allocation = service.what_if(caller, group_id, trial)
        shown = {**shown, **trial}
    below = [g for g in allocation["groups"] if g["parent"] == group_id]
    return {
        "group": shown,
        "outcome": next(g for g in allocation["groups"] if g["_id"] == group_id),
        "picture": draw(shown, allocation, [(g["name"], g["used"]) for g in below]),
        "below": below,
        "parent_name": _name_of(service, caller, shown["parent"]),
        "plugs": [
            {**plug, "now": present[plug["chargestation"], plug["connector"]]}
            for plug in allocation["connectors"]
        ],
        "waiting": allocation.get("waiting", []),
    }


def changes_at(service: Service, caller: Caller, location: str | None) -> list[dict[str, Any]]:
    """Return the latest changes of what stands at a location."""
    places = {each.id for each in groups_at(service, caller, location)}
    organisation = service.store.organisation(caller.organisation)
    targets = set(places)
    for place in places:
        registry = organisation.trees[organisation.group_root[place]].registry
        targets.update(station.id for station in registry.charge_stations(place))
    return [
        change
        for change in service.list_changes(caller, limit=500)
        if change["target"].partition("/")[0] in targets or change["detail"].get("group") in places
    ]


def _name_of(service: Service, caller: Caller, group_id: str | None) -> str | None:
    if group_id is None:
        return None
    organisation = service.store.organisation(caller.organisation)
    registry = organisation.trees[organisation.group_root[group_id]].registry
    return registry.group(group_id).name
