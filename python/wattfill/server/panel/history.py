"""The last day of a group, as the log of changes tells it.

Nothing is sampled: between two changes a group gives what it gave, so that its sessions, connectors
and settings at every change say all, and the allocation is made again for each of them. What was
the case before a change is known where an earlier line says it, or where no line has touched it
since; where neither holds, the day begins with that change.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

from wattfill.registry import Connector, Registry
from wattfill.report import decimal
from wattfill.server.engine import Engine
from wattfill.server.refusal import not_found
from wattfill.server.service import Caller, Service

Fact: TypeAlias = tuple[str, ...]
"""What a value is of, such as ("session", station, connector, "weight")."""

DAY = 86400.0
MOST_LINES = 100_000
"""Of the organisation's log that are looked at; more would take long."""
LINES_AT_ONCE = 1_000
NOT_OF_REGISTRY = ("dispatch", "commissioned_capacity")
"""What the log tells of a group, and no power hangs on."""
STEP = 60.0
"""Seconds whose changes are seen together: a curve shows no less."""


@dataclass(frozen=True, slots=True)
class Present:
    """What a group's tree is now, and up to which line of the log."""

    organisation: str
    group: str
    name: str
    root: str
    revision: int
    registry: dict[str, Any]
    now: float


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the log."""

    at: float
    action: str
    target: str
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Moment:
    """From when on a group gave how much of what, kW."""

    at: float
    used: float
    usable: float


@dataclass(frozen=True, slots=True)
class Day:
    """The moments of the last day at which something changed, the first where it begins."""

    moments: tuple[Moment, ...]
    start: float
    end: float
    n_changes: int
    """Lines of the log that are in it."""


def present(service: Service, caller: Caller, group_id: str) -> Present:
    """Return what the tree of a group is now."""
    organisation = service.store.organisation(caller.organisation)
    root = organisation.group_root.get(group_id)
    if root is None:
        raise not_found("group", "group", group_id)
    tree = organisation.trees[root]
    return Present(
        organisation.id,
        group_id,
        tree.registry.group(group_id).name,
        root,
        organisation.revision,
        tree.registry.to_dict(),
        tree.now(service.clock),
    )


async def read(engine: Engine, present: Present) -> tuple[list[Line], float]:
    """Return lines of a tree, the oldest first, and since when none is missing.

    They are those of the day, and as many before as are quick. Others are served between one part
    of the log and the next.
    """
    found: list[Line] = []
    high, lowest = present.revision, max(0, present.revision - MOST_LINES)
    while high > lowest:
        low = max(lowest, high - LINES_AT_ONCE)
        found += await engine.read(partial(part, present=present, low=low, high=high))
        high = low
    found.reverse()
    since = await engine.read(partial(_time_of, present=present, revision=lowest))
    return found, since


def _time_of(service: Service, present: Present, revision: int) -> float:
    row = service.store.database.row(
        "SELECT at FROM wf_change WHERE organisation = :organisation AND revision = :revision",
        organisation=present.organisation,
        revision=revision,
    )
    return 0.0 if row is None else float(row[0])


def part(service: Service, present: Present, low: int, high: int) -> list[Line]:
    """Return the lines of a tree with revisions above `low` and up to `high`, the latest first."""
    rows = service.store.database.rows(
        "SELECT at, action, target, detail, roots FROM wf_change "
        "WHERE organisation = :organisation AND revision > :low AND revision <= :high "
        "ORDER BY revision DESC",
        organisation=present.organisation,
        low=low,
        high=high,
    )
    return [
        Line(at, action, target, json.loads(detail))
        for at, action, target, detail, roots in rows
        if present.root in json.loads(roots)
    ]


def replay(present: Present, lines: list[Line], since: float = 0.0) -> Day:
    """Return the last day of a group, out of the lines of its tree up to the present.

    Parameters
    ----------
    present : Present
    lines : list of Line
        The oldest first; the more there are from before the day, the more is known of its begin.
    since : float
        Seconds: behind it no line is missing.

    """
    start = max(present.now - DAY, since)
    n_before = sum(line.at <= start for line in lines)
    facts, first = _facts_at(present, lines, n_before)
    if first > n_before:
        start = lines[first - 1].at
    registry = _registry(present, facts, start)
    moments: list[Moment] = []

    def look(at: float) -> None:
        outcome = registry.allocate(present.root, at=max(at, registry.clock)).groups[present.group]
        moments.append(Moment(at, outcome.used, outcome.usable))

    look(start)
    takes_turns = any(group["policy"] == "rotate" for group in present.registry["groups"])
    at, i = start, first
    while at < present.now:
        at = min(at + STEP, present.now)
        before = i
        while i < len(lines) and lines[i].at <= at:
            _apply(registry, lines[i])
            i += 1
        if i > before or takes_turns:
            look(lines[i - 1].at if i > before else at)
    return Day(tuple(moments), start, present.now, len(lines) - first)


def _facts_at(present: Present, lines: list[Line], n_before: int) -> tuple[dict[Fact, Any], int]:
    """Return what held behind the first `n_before` lines, or behind the first where all is known.

    The second part of what is returned is how many lines that is.
    """
    touched: dict[Fact, list[tuple[int, Any]]] = {}
    created: dict[Fact, bool] = {}
    first = n_before
    for i, line in enumerate(lines):
        is_new = line.action in ("create group", "add chargestation", "start session")
        # What a line adds to a charge station that an earlier one told of is new as well.
        is_new = is_new or ("home", line.target) in touched
        for fact, value in _said(line, touched):
            touched.setdefault(fact, []).append((i, value))
            created.setdefault(fact, is_new)
        moves = line.action == "delete group" or "parent" in line.detail
        if line.action == "create group":
            # One that is made below holds nothing yet.
            moves = line.target in (present.group, present.root)
        if moves:
            # Before it, what is told stood in another tree.
            first = max(first, i + 1)
    for fact, sayings in touched.items():
        if sayings[0][0] >= first and not created[fact]:
            first = sayings[0][0] + 1
    facts = {fact: v for fact, v in _present_facts(present).items() if fact not in touched}
    for fact, sayings in touched.items():
        known = [value for i, value in sayings if i < first]
        if known:
            facts[fact] = known[-1]
    return facts, first


def _said(line: Line, touched: Mapping[Fact, list[tuple[int, Any]]]) -> Iterable[tuple[Fact, Any]]:
    """Yield what a line of the log says is the case from then on; None for what is gone."""
    match line.action:
        case "create group" | "change group":
            for name, value in line.detail.items():
                if name != "id" and name not in NOT_OF_REGISTRY:
                    yield ("group", line.target, _argument(name)), value
        case "add chargestation" | "change chargestation":
            if line.action == "add chargestation":
                yield ("home", line.target), line.detail["group"]
            for plug in line.detail["connectors"]:
                yield ("plug", line.target, plug["id"], "id"), plug["id"]
                for name, value in plug.items():
                    yield ("plug", line.target, plug["id"], name), value
        case "remove chargestation":
            yield ("home", line.target), None
            for fact in list(touched):
                if fact[0] in ("plug", "session") and fact[1] == line.target:
                    yield fact, None
        case "start session" | "change session" | "stop session":
            station, _, connector = line.target.partition("/")
            if line.action == "stop session":
                yield ("session", station, connector, "started_at"), None
            for name, value in line.detail.items():
                if name not in ("station", "connector"):
                    yield ("session", station, connector, name), value


def _present_facts(present: Present) -> dict[Fact, Any]:
    facts: dict[Fact, Any] = {}
    for group in present.registry["groups"]:
        for name, value in group.items():
            if name not in ("id", "line"):
                facts["group", group["id"], name] = value
    for station in present.registry["charge_stations"]:
        facts["home", station["id"]] = station["group"]
        for plug in station["connectors"]:
            for name, value in plug.items():
                facts["plug", station["id"], plug["id"], name] = value
    for session in present.registry["sessions"]:
        for name, value in session.items():
            if name not in ("station", "connector"):
                facts["session", session["station"], session["connector"], name] = value
    return facts


def _registry(present: Present, facts: Mapping[Fact, Any], at: float) -> Registry:
    """Return the tree that facts tell of."""
    groups: dict[str, dict[str, Any]] = {}
    plugs: dict[str, dict[str, dict[str, Any]]] = {}
    sessions: dict[tuple[str, str], dict[str, Any]] = {}
    for fact, value in facts.items():
        match fact:
            case ("group", id, name):
                groups.setdefault(id, {"id": id, "line": None})[name] = value
            case ("plug", station, plug, name):
                plugs.setdefault(station, {}).setdefault(plug, {})[name] = value
            case ("session", station, plug, name):
                sessions.setdefault((station, plug), {"station": station, "connector": plug})[
                    name
                ] = value
    order = [group["id"] for group in present.registry["groups"] if group["id"] in groups]
    homes = {f[1]: home for f, home in facts.items() if f[0] == "home" and home is not None}
    charging = [
        {"maximum": None, "weight": 1.0, "priority": 0, **session}
        for (station, _), session in sessions.items()
        if session.get("started_at") is not None and station in homes
    ]
    charging.sort(key=lambda session: session["started_at"])
    return Registry.from_dict(
        {
            **present.registry,
            "clock": max([0.0, at, *(session["started_at"] for session in charging)]),
            "groups": [groups[id] for id in order],
            "charge_stations": [
                {
                    "id": id,
                    "group": home,
                    "connectors": [
                        {"minimum_capacity": None, "fallback": None, **plug}
                        for plug in plugs[id].values()
                        if plug.get("id") is not None
                    ],
                }
                for id, home in homes.items()
            ],
            "sessions": charging,
        }
    )


def _apply(registry: Registry, line: Line) -> None:
    """Do what a line of the log tells of."""
    detail = {name: v for name, v in line.detail.items() if name not in NOT_OF_REGISTRY}
    station, _, connector = line.target.partition("/")
    match line.action:
        case "create group":
            registry.create_group(**detail)
        case "change group":
            changes: Any = {_argument(name): value for name, value in detail.items()}
            registry.update_group(line.target, **changes)
        case "add chargestation":
            connectors = [Connector(**plug) for plug in detail["connectors"]]
            registry.add_charge_station(detail["group"], station, connectors)
        case "change chargestation":
            plugs = {plug.id: plug for plug in registry.charge_station(station).connectors}
            for record in detail["connectors"]:
                old = plugs.get(record["id"])
                plugs[record["id"]] = replace(old, **record) if old else Connector(**record)
            registry.update_charge_station(station, list(plugs.values()))
        case "remove chargestation":
            registry.remove_charge_station(station)
        case "start session":
            registry.start_session(at=detail.pop("started_at"), **detail)
        case "change session":
            registry.update_session(station, connector, **detail)
        case "stop session":
            registry.stop_session(station, connector)


def _argument(name: str) -> str:
    """Return what the registry calls a field of the API's groups."""
    return "policy" if name == "admission" else name


@dataclass(frozen=True, slots=True)
class Chart:
    """A day as paths in a box of 1000 by 1000, and the labels beside it in percent."""

    used: str
    area: str
    usable: str
    across: tuple[tuple[str, str], ...]
    """Where, and how long before the end."""
    up: tuple[tuple[str, str], ...]
    """Where, and how many kW."""
    words: str


def draw(day: Day) -> Chart:
    """Return the chart of a day, 24 hours wide: power given out, under what was usable."""
    most = max(max(m.used, m.usable) for m in day.moments)
    step = round_step(most / 4)
    top = max(step, most * 1.08)

    def x(at: float) -> str:
        return f"{1000 * (1 - (day.end - at) / DAY):.1f}"

    def y(kw: float) -> str:
        return f"{1000 * (1 - kw / top):.1f}"

    def steps(values: Iterable[tuple[float, float]]) -> str:
        path = ""
        for at, kw in values:
            path += f"H{x(at)}V{y(kw)}" if path else f"M{x(at)} {y(kw)}"
        return f"{path}H{x(day.end)}"

    used = steps((m.at, m.used) for m in day.moments)
    highest = max(day.moments, key=lambda m: m.used)
    n_steps = int(top / step)
    return Chart(
        used,
        f"{used}V1000H{x(day.start)}Z",
        steps((m.at, m.usable) for m in day.moments),
        tuple((f"{100 * (1 - h / 24):.3f}%", f"{h} h" if h else "now") for h in range(24, -1, -6)),
        tuple(
            (f"{100 * (1 - i * step / top):.3f}%", decimal(round(i * step, 6)))
            for i in range(n_steps + 1)
        ),
        f"At most {decimal(round(highest.used, 3))} kW were given out at once, of "
        f"{decimal(round(highest.usable, 3))} kW usable then; "
        f"{decimal(round(day.moments[-1].used, 3))} kW are given out now.",
    )


def round_step(least: float) -> float:
    """Return 1, 2 or 5 times a power of ten, not below a number."""
    if least <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(least))
    return next(n * power for n in (1, 2, 5, 10) if n * power >= least)
