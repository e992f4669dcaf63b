"""Hypothesis strategies for what happens over time: events at a site, and fates of messages."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, TypeAlias

from wattfill.errors import MissingExtraError

try:
    from hypothesis import strategies as st
except ImportError:
    raise MissingExtraError(
        "wattfill.testing.events needs hypothesis: pip install 'wattfill[testing]'"
    ) from None

from wattfill.testing.sites import BUFFERS, RATINGS, WIDE_WEIGHTS
from wattfill.testing.strategies import powers

GROUPS = ("a", "b", "c", "d")
STATIONS = ("p", "q", "r", "s", "t")
PLUGS = ("1", "2", "3")
# What a network does: at once, round trips, a retry, a cell that is down, a night offline.
DELAYS = (0.0, 0.0, 0.2, 1.0, 2.0, 5.0, 30.0, 60.0, 900.0, 28800.0)
# No registry takes a group of more, as its powers would not be whole numbers of quanta any more.
_MOST = 2.0**30


def _arguments(record: Any) -> str:
    """Return what a record was made of, without what it has by default."""
    parts = []
    for f in fields(record):
        value = getattr(record, f.name)
        if f.default is MISSING:
            parts.append(repr(value))
        elif value != f.default:
            parts.append(f"{f.name}={value!r}")
    return ", ".join(parts)


class _Short:
    """Prints as the shortest code that makes it again."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({_arguments(self)})"


@dataclass(frozen=True, repr=False)
class Plug(_Short):
    """A connector, with the fields of `wattfill.Connector`, that takes no compiled code."""

    id: str
    maximum_capacity: float
    minimum_capacity: float | None = None


@dataclass(frozen=True, repr=False)
class Event(_Short, ABC):
    """Something that happens to a registry.

    ``repr()`` is code that makes the event again, ``str()`` the call that it comes to. Both leave
    out what is as by default.
    """

    @abstractmethod
    def _call(self) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
        """Return the method that it calls, and with what."""

    def apply(self, registry: Any, connector: Callable[..., Any] | None = None) -> None:
        """Make it happen.

        Parameters
        ----------
        registry
            A `wattfill.Registry`, or anything with methods of the same names.
        connector : callable, optional
            What makes a connector of an id, a maximum and a minimum that may be None; by default
            `wattfill.Connector`.

        """
        method, args, options = self._call()
        getattr(registry, method)(*(_made(value, connector) for value in args), **options)

    def __str__(self) -> str:
        method, args, options = self._call()
        given = [_code(value) for value in args]
        given += [f"{name}={value!r}" for name, value in options.items()]
        return f"registry.{method}({', '.join(given)})"

    def _options(self, start: int) -> dict[str, Any]:
        """Return the fields from some place on that are not as by default."""
        found = {f.name: (getattr(self, f.name), f.default) for f in fields(self)[start:]}
        return {name: value for name, (value, default) in found.items() if value != default}


def _made(value: Any, connector: Callable[..., Any] | None) -> Any:
    if not isinstance(value, list):
        return value
    if connector is None:
        # It comes with NumPy, which those who only judge an allocator need not have.
        from wattfill._records import Connector

        connector = Connector
    return [connector(plug.id, plug.maximum_capacity, plug.minimum_capacity) for plug in value]


def _code(value: Any) -> str:
    if not isinstance(value, list):
        return repr(value)
    return f"[{', '.join(f'Connector({_arguments(plug)})' for plug in value)}]"


@dataclass(frozen=True, repr=False)
class CreateGroup(Event):
    """A group comes, with its id for a name."""

    id: str
    maximum_capacity: float
    minimum_connector_capacity: float = 0.0
    buffer: float = 0.0
    reserved: float = 0.0
    parent: str | None = None

    def _call(self) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
        options = {"id": self.id, **self._options(2)}
        return "create_group", (self.id, self.maximum_capacity), options


@dataclass(frozen=True, repr=False)
class UpdateGroup(Event):
    """The capacity of a group changes; what is None stays as it is."""

    id: str
    maximum_capacity: float | None = None
    buffer: float | None = None
    reserved: float | None = None

    def _call(self) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
        return "update_group", (self.id,), self._options(1)


@dataclass(frozen=True, repr=False)
class DeleteGroup(Event):
    """A group that holds nothing goes."""

    id: str

    def _call(self) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
        return "delete_group", (self.id,), {}


@dataclass(frozen=True, repr=False)
class AddChargeStation(Event):
    """A charge station joins a group."""

    group: str
    station: str
    connectors: tuple[Plug, ...]

    def _call(self) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
        return "add_charge_station", (self.group, self.station, list(self.connectors)), {}


@dataclass(frozen=True, repr=False)
class UpdateChargeStation(Event):
    """Connectors of a charge station join, leave or change; those with a session stay."""

    station: str
    connectors: tuple[Plug, ...]

    def _call(self) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
        return "update_charge_station", (self.station, list(self.connectors)), {}


@dataclass(frozen=True, repr=False)
class MoveChargeStation(Event):
    """A charge station goes to another group, with its sessions."""

    station: str
    group: str

    def _call(self) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
        return "move_charge_station", (self.station, self.group), {}


@dataclass(frozen=True, repr=False)
class RemoveChargeStation(Event):
    """A charge station leaves, and its sessions end."""

    station: str

    def _call(self) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
        return "remove_charge_station", (self.station,), {}


@dataclass(frozen=True, repr=False)
class StartSession(Event):
    """A vehicle begins to charge."""

    station: str
    connector: str
    maximum: float | None = None
    weight: float = 1.0
    priority: int = 0

    def _call(self) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
        return "start_session", (self.station, self.connector), self._options(2)


@dataclass(frozen=True, repr=False)
class UpdateSession(Event):
    """A session changes; what is None stays as it is."""

    station: str
    connector: str
    maximum: float | None = None
    weight: float | None = None
    priority: int | None = None

    def _call(self) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
        return "update_session", (self.station, self.connector), self._options(2)


@dataclass(frozen=True, repr=False)
class StopSession(Event):
    """A session ends."""

    station: str
    connector: str

    def _call(self) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
        return "stop_session", (self.station, self.connector), {}


@dataclass
class _Site:
    """What is there after some events, as far as it says which may come next."""

    groups: dict[str, CreateGroup] = field(default_factory=dict)
    stations: dict[str, tuple[str, tuple[Plug, ...]]] = field(default_factory=dict)
    """The group that each is in, and its connectors."""
    sessions: set[tuple[str, str]] = field(default_factory=set)

    def free(self) -> list[tuple[str, str]]:
        here = [(id, plug.id) for id, (_, plugs) in self.stations.items() for plug in plugs]
        return [key for key in here if key not in self.sessions]

    def empty_groups(self) -> list[str]:
        held = {group for group, _ in self.stations.values()}
        held |= {group.parent for group in self.groups.values() if group.parent is not None}
        return [id for id in self.groups if id not in held]

    def open_to(self, station: str) -> list[str]:
        """Return the groups that a station may move to: its connectors sustain a session there."""
        least = min(plug.maximum_capacity for plug in self.stations[station][1])
        return [
            id for id, group in self.groups.items() if group.minimum_connector_capacity <= least
        ]

    def take(self, event: Event) -> None:
        match event:
            case CreateGroup():
                self.groups[event.id] = event
            case DeleteGroup():
                del self.groups[event.id]
            case AddChargeStation():
                self.stations[event.station] = event.group, event.connectors
            case UpdateChargeStation():
                self.stations[event.station] = self.stations[event.station][0], event.connectors
            case MoveChargeStation():
                self.stations[event.station] = event.group, self.stations[event.station][1]
            case RemoveChargeStation():
                del self.stations[event.station]
                self.sessions = {key for key in self.sessions if key[0] != event.station}
            case StartSession():
                self.sessions.add((event.station, event.connector))
            case StopSession():
                self.sessions.remove((event.station, event.connector))


# Made once, as a sequence of events draws from each of them many times. Each has a plain way that
# takes a choice or two: Hypothesis leaves out events of a handful of choices best.
_POWERS = powers()
_CAPACITIES = st.one_of(st.integers(0, 50).map(float), _POWERS).filter(lambda kw: kw < _MOST)
_LEAST = st.sampled_from([0.0, 0.0, 1.4, 4.14])
_BUFFERS = st.sampled_from(BUFFERS)
_RESERVED = st.sampled_from([0.0, 0.0, 0.1, 5.0, 1e9])
_GROUP_OPTIONS = st.just((0.0, 0.0, 0.0)) | st.tuples(_LEAST, _BUFFERS, _RESERVED)
_GROUP_CHANGES = st.one_of(
    _CAPACITIES.map(lambda kw: {"maximum_capacity": kw}),
    _BUFFERS.map(lambda share: {"buffer": share}),
    _RESERVED.map(lambda kw: {"reserved": kw}),
)
# Maximum and minimum of a connector.
_BOUNDS: st.SearchStrategy[tuple[float, float | None]] = st.one_of(
    st.sampled_from(RATINGS).map(lambda kw: (kw, None)),
    _POWERS.map(lambda kw: (kw, kw)),
    st.tuples(_POWERS, _POWERS).map(lambda pair: (max(pair), min(pair))),
)
_WEIGHTS = st.sampled_from([1.0, 1.0, 1.0, *WIDE_WEIGHTS])
_PRIORITIES = st.sampled_from([0, 0, 0, 1, -1])
_SESSION_OPTIONS: st.SearchStrategy[tuple[float | None, float, int]] = st.one_of(
    st.just((None, 1.0, 0)), st.tuples(st.none() | _POWERS, _WEIGHTS, _PRIORITIES)
)
_SESSION_CHANGES = st.one_of(
    _POWERS.map(lambda kw: {"maximum": kw}),
    _WEIGHTS.map(lambda weight: {"weight": weight}),
    _PRIORITIES.map(lambda priority: {"priority": priority}),
)
_ONE_BY_ONE = st.integers(0, len(PLUGS) - 1)
_SOME_PLUGS = st.sets(st.sampled_from(PLUGS), min_size=1)


def _plug(draw: st.DrawFn, id: str, least: float) -> Plug:
    """Draw a connector of a group that takes `least` for a session."""
    high, low = draw(_BOUNDS)
    return Plug(id, max(high, least), low)


def _create_group(draw: st.DrawFn, site: _Site) -> Event:
    id = next(id for id in GROUPS if id not in site.groups)
    capacity, options = draw(_CAPACITIES), draw(_GROUP_OPTIONS)
    return CreateGroup(id, capacity, *options, draw(st.sampled_from([None, *site.groups])))


def _update_group(draw: st.DrawFn, site: _Site) -> Event:
    return UpdateGroup(draw(st.sampled_from(list(site.groups))), **draw(_GROUP_CHANGES))


def _delete_group(draw: st.DrawFn, site: _Site) -> Event:
    return DeleteGroup(draw(st.sampled_from(site.empty_groups())))


def _add_charge_station(draw: st.DrawFn, site: _Site) -> Event:
    group = draw(st.sampled_from(list(site.groups)))
    station = next(id for id in STATIONS if id not in site.stations)
    least = site.groups[group].minimum_connector_capacity
    plugs = [_plug(draw, PLUGS[0], least)]
    while len(plugs) < len(PLUGS) and draw(_ONE_BY_ONE):
        plugs.append(_plug(draw, PLUGS[len(plugs)], least))
    return AddChargeStation(group, station, tuple(plugs))


def _update_charge_station(draw: st.DrawFn, site: _Site) -> Event:
    station = draw(st.sampled_from(list(site.stations)))
    busy = {connector for where, connector in site.sessions if where == station}
    least = site.groups[site.stations[station][0]].minimum_connector_capacity
    ids = sorted(busy | draw(_SOME_PLUGS))
    return UpdateChargeStation(station, tuple(_plug(draw, id, least) for id in ids))


def _move_charge_station(draw: st.DrawFn, site: _Site) -> Event:
    station = draw(st.sampled_from(list(site.stations)))
    return MoveChargeStation(station, draw(st.sampled_from(site.open_to(station))))


def _remove_charge_station(draw: st.DrawFn, site: _Site) -> Event:
    return RemoveChargeStation(draw(st.sampled_from(list(site.stations))))


def _start_session(draw: st.DrawFn, site: _Site) -> Event:
    station, connector = draw(st.sampled_from(site.free()))
    return StartSession(station, connector, *draw(_SESSION_OPTIONS))


def _update_session(draw: st.DrawFn, site: _Site) -> Event:
    return UpdateSession(*draw(st.sampled_from(sorted(site.sessions))), **draw(_SESSION_CHANGES))


def _stop_session(draw: st.DrawFn, site: _Site) -> Event:
    return StopSession(*draw(st.sampled_from(sorted(site.sessions))))


_Kind: TypeAlias = Callable[[st.DrawFn, _Site], Event]
_WANTED: st.SearchStrategy[_Kind | None] = st.sampled_from(
    [
        None,
        _create_group,
        _update_group,
        _update_group,
        *[_add_charge_station] * 2,
        *[_start_session] * 6,
        *[_stop_session] * 2,
        _update_session,
        _update_charge_station,
        _move_charge_station,
        _remove_charge_station,
        *[_delete_group] * 2,
    ]
)


def _possible(kind: _Kind, site: _Site) -> _Kind:
    """Return a kind of event, or what has to come before it."""
    if kind in (_stop_session, _update_session) and not site.sessions:
        kind = _start_session
    if kind is _start_session and not site.free():
        kind = _add_charge_station if len(site.stations) < len(STATIONS) else _stop_session
    if kind in (_update_charge_station, _move_charge_station, _remove_charge_station) and (
        not site.stations
    ):
        kind = _add_charge_station
    if kind is _add_charge_station and len(site.stations) == len(STATIONS):
        kind = _remove_charge_station
    if kind is _delete_group and not site.empty_groups():
        kind = _update_group
    if kind is _create_group and len(site.groups) == len(GROUPS):
        kind = _update_group
    return kind if site.groups else _create_group


@st.composite
def _next_event(draw: st.DrawFn, site: _Site) -> Event | None:
    """Draw an event that may come next, or None, which is where shrinking goes.

    What is wanted does not depend on the site, so that it stays the same when an event before it
    is left out.
    """
    wanted = draw(_WANTED)
    return None if wanted is None else _possible(wanted, site)(draw, site)


@st.composite
def events(draw: st.DrawFn, max_size: int = 40) -> list[Event]:
    """Events from an empty registry on, each valid where it stands.

    Groups, charge stations and connectors come, change, move and go; capacities change; sessions
    start, change and stop. Values are realistic and evil ones. Sequences shrink to a few events.

    Parameters
    ----------
    max_size : int
        The most events of a sequence; few have more than 20.

    Examples
    --------
    >>> from hypothesis import given
    >>> from wattfill import Registry
    >>> @given(events(max_size=5))
    ... def test_nothing_is_refused(happened):
    ...     registry = Registry()
    ...     for event in happened:
    ...         event.apply(registry)
    >>> test_nothing_is_refused()
    >>> print(StartSession("p", "1", maximum=7.4))
    registry.start_session('p', '1', maximum=7.4)

    """
    site, happened = _Site(), []
    for _ in range(max_size):
        event = draw(_next_event(site))
        if event is None:
            break
        site.take(event)
        happened.append(event)
    return happened


# Messages


@dataclass(frozen=True, repr=False)
class Fate(_Short):
    """What becomes of a message and of its confirmation; by default both arrive at once.

    A message with a long delay is overtaken by those that are sent after it and arrive before.

    Examples
    --------
    >>> print(Fate())
    arrives at once; confirmed at once
    >>> print(Fate(arrivals=(2.0, 30.0), answers=()))
    arrives after 2 s and again after 30 s; the confirmations are lost
    >>> print(Fate(arrivals=()))
    lost

    """

    arrivals: tuple[float, ...] = (0.0,)
    """Seconds from sending to each arrival: none where it is lost, two where it is duplicated."""
    answers: tuple[float, ...] = (0.0,)
    """Seconds from each arrival to each arrival of its confirmation, likewise."""

    def __str__(self) -> str:
        if not self.arrivals:
            return "lost"
        many = "confirmations are" if len(self.arrivals) > 1 else "confirmation is"
        answers = f"confirmed {_after(self.answers)}" if self.answers else f"the {many} lost"
        return f"arrives {_after(self.arrivals)}; {answers}"


def _after(delays: tuple[float, ...]) -> str:
    return " and again ".join("at once" if d == 0.0 else f"after {d:g} s" for d in delays)


def fates(
    delays: st.SearchStrategy[float] | None = None, *, lost: bool = True, duplicated: bool = True
) -> st.SearchStrategy[Fate]:
    """Fates of a message: it arrives at once or late, is lost or duplicated; so its confirmation.

    It shrinks to ``Fate()``: delivered and confirmed at once.

    Parameters
    ----------
    delays : strategy, optional
        Seconds, at least 0; by default from a round trip to a night offline.
    lost, duplicated : bool
        Whether that happens.

    Examples
    --------
    >>> from hypothesis import given
    >>> @given(fates(lost=False))
    ... def test_it_arrives(fate):
    ...     assert fate.arrivals
    >>> test_it_arrives()

    """
    seconds = st.sampled_from(DELAYS) if delays is None else delays
    once = seconds.map(lambda delay: (delay,))
    ways: list[st.SearchStrategy[tuple[float, ...]]] = [st.just((0.0,)), once, once]
    if lost:
        ways.append(st.just(()))
    if duplicated:
        ways.append(st.tuples(seconds, seconds))
    return st.builds(Fate, st.one_of(ways), st.one_of(ways))
