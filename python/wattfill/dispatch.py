"""From powers to commands: what may be sent now, and what must wait.

A limit travels as a message that may be late, lost, doubled or overtaken, so each connector is
counted with what is *committed* there: the largest limit that may still be in force, whatever
became of each message. What lowers it may always be sent; what raises it only into headroom that
is proven in every group above. ``docs/dispatch.md`` tells how, and what each rule is there for.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from typing import Any, Literal, NamedTuple, TypeAlias

from wattfill import _validate
from wattfill._account import Account, Sent
from wattfill._demand import Answer
from wattfill._outcome import Forest
from wattfill._records import (
    QUANTA_PER_KW,
    TOO_MUCH_KW,
    Group,
    Key,
    quanta_above,
    usable_quanta,
)
from wattfill._trees import Layout, Terms
from wattfill.errors import InputError, InputTypeError, JournalError
from wattfill.journal import FileJournal as FileJournal
from wattfill.journal import Journal as Journal
from wattfill.registry import Registry

Why: TypeAlias = Literal["decrease", "increase", "refresh"]

SEQS_PER_EPOCH = 2**32
FEWEST_RECORDS = 4096
"""Records to write before the journal is made anew, at the least."""
METER_ERROR = 200_000
"""Quanta that a meter may show too much, at the least."""


@dataclass(frozen=True, slots=True)
class Command:
    """A limit that may be sent to a connector now."""

    station: str
    connector: str
    seq: int
    """Rises from command to command of a connector, also after a restart."""
    limit: float
    """kW, a whole number of mW: the most that it may draw. 0.0 pauses it."""
    expires: float | None
    """Seconds on the caller's clock at which the station must stop to apply it; None for never."""
    why: Why
    """A decrease, an increase (into proven headroom), or a refresh of what was sent before."""


@dataclass(frozen=True, slots=True)
class Over:
    """A group below which more may be in force than it may draw, as after its capacity fell."""

    group: str
    committed: float
    """kW"""
    usable: float
    """kW"""


@dataclass(frozen=True, slots=True)
class Plan:
    """What may be sent now, and when to ask again at the latest."""

    commands: tuple[Command, ...]
    """Those that raise what is committed come last. Each may be sent at once and in any order."""
    wake_at: float
    """Seconds on the caller's clock when something is due even if nothing happens; infinite if
    nothing is."""
    over: tuple[Over, ...]
    """Groups below which more may be in force than they may draw: nothing is raised there."""
    journal_error: Exception | None
    """Why the journal could not be written, so that only decreases are in the plan."""


@dataclass(frozen=True, slots=True)
class Committed:
    """What may be in force, whatever became of each message."""

    connectors: dict[Key, float]
    """kW by (station id, connector id)."""
    groups: dict[str, float]
    """kW by the id of the group: the sum of those in it and below it."""


@dataclass(frozen=True, slots=True)
class Blocker:
    """A connector whose power an increase waits for."""

    station: str
    connector: str
    committed: float
    """kW that may still be in force there."""
    due: float
    """kW that it is to have."""
    because: str
    """Why it still counts with more, in words."""

    def __str__(self) -> str:
        return (
            f"{self.station} {self.connector} ({_kw_text(self.committed)} kW may be in force "
            f"there, {_kw_text(self.due)} kW are due: {self.because})"
        )


@dataclass(frozen=True, slots=True)
class Waiting:
    """An increase that may not be sent yet."""

    station: str
    connector: str
    committed: float
    """kW that may be in force now."""
    limit: float
    """kW that it is to have."""
    group: str
    """Id of the group in which there is no room yet: the nearest to the connector."""
    missing: float
    """kW"""
    on: tuple[Blocker, ...]
    """Where these kW are still committed, those with most first."""

    def __str__(self) -> str:
        blockers = "; ".join(map(str, self.on)) or "nobody: the group may draw less than before"
        return (
            f"{self.station} {self.connector} waits to go from {_kw_text(self.committed)} to "
            f"{_kw_text(self.limit)} kW: {_kw_text(self.missing)} kW are missing in group "
            f"{self.group!r} until they are confirmed by {blockers}"
        )


class _Sum:
    """What is committed below a group."""

    __slots__ = ("below", "committed", "group", "usable")

    def __init__(self, group: Group, below: range) -> None:
        self.committed = 0
        self.below = below
        """The connectors below it, by their places in the site."""
        self.take(group)

    def take(self, group: Group) -> None:
        self.group = group
        self.usable = usable_quanta(group)


class _Site:
    """A tree of groups, and the connectors that want more than there is room for yet."""

    __slots__ = ("blocked", "layout", "plugs", "sums", "targets")

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.sums: list[_Sum] = []
        self.plugs: list[_Plug] = []
        self.targets: list[int] = []
        self.blocked: dict[_Plug, None] = {}


class _Plug(Account):
    """A connector, and what is due there."""

    __slots__ = (
        "ceiling",
        "key",
        "lease",
        "least",
        "low_peak",
        "low_since",
        "newest",
        "newest_seq",
        "offline",
        "over_since",
        "place",
        "raised_at",
        "refuses",
        "released_at",
        "session",
        "silent",
        "site",
        "stale",
        "sums",
        "target",
        "text",
        "tried_at",
        "unanswered_since",
        "wake_at",
        "wanted_since",
    )

    def __init__(
        self, key: Key, fallback: int, rating: int, lease: float | None, ordered: bool
    ) -> None:
        super().__init__(fallback, rating, ordered)
        self.key = key
        self.text = json.dumps(key)[1:-1]
        """How records of the journal name it."""
        self.lease = lease
        self.site: _Site | None = None
        self.place = 0
        self.sums: tuple[_Sum, ...] = ()
        """Its group and all above it."""
        self.least = 0
        """What sustains a session."""
        self.target = 0
        self.newest_seq = -1
        self.newest: Sent | None = None
        """What was sent last."""
        self.tried_at = self.raised_at = -math.inf
        """When something was sent last, and something larger than before."""
        self.unanswered_since = math.inf
        """When the first of those commands was sent that nothing has been heard of."""
        self.wanted_since = math.inf
        """Since when an increase waits for headroom."""
        self.offline = False
        self.silent = False
        """Whether it has answered nothing for too long."""
        self.refuses = False
        """Whether it rejected what was sent last."""
        self.stale = False
        """Whether it may have forgotten what was sent."""
        self.wake_at = math.inf
        # What is known of its draw.
        self.over_since = self.low_since = math.inf
        self.low_peak = 0
        self.ceiling: int | None = None
        """More than it makes use of."""
        self.session = -1
        """The number of the session that this holds for."""
        self.released_at = math.inf

    def state(self) -> dict[str, Any]:
        newest = None if self.newest is None else [self.newest_seq, self.tried_at, *self.newest]
        return {**super().state(), "newest": newest}

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        if state["newest"] is not None:
            self.newest_seq, self.tried_at, *newest = state["newest"]
            self.newest = Sent(*newest)

    @property
    def held(self) -> bool:
        """Whether it cannot be told what to do, so that others are planned around it."""
        return self.offline or self.silent or self.refuses or self.disobeys

    @property
    def is_unanswered(self) -> bool:
        return self.unanswered_since < math.inf


class _Draft(NamedTuple):
    """A command that is taken for sent, and how to take it back before it is."""

    plug: _Plug
    command: Command
    raises: bool
    """Whether more is committed than before."""
    extends: bool
    """Whether a limit may be in force that could not be before, or for longer."""
    before: tuple[int, int, list[Sent], Sent | None, float]
    before_that: tuple[float, float, bool]


class Dispatcher:
    """Say which limits may be sent to stations now, so that no group can ever draw too much.

    It asks the registry what each connector is to have, and turns that into commands that are
    safe whatever becomes of any message: the sum of what stations may be drawing stays within the
    usable capacity of every group, or, after a capacity fell below it, does not rise until it is
    within it again. Decreases may leave at any time; an increase leaves when the power that it
    takes is proven free in every group above.

    Every `now` is in seconds on one clock of the caller's, which is the registry's clock as well
    and never goes back while the dispatcher lives. There is no clock inside. One thread at a time
    may use a dispatcher and its registry.

    Parameters
    ----------
    registry : Registry
        Each connector's `fallback` is what it may draw on its own at any time; without one it is
        its maximum. From now on the registry refuses what would make the fallbacks of all
        connectors below a group exceed its usable capacity, and its allocations are those that can
        be reached: connectors without a session cost their fallback, and those that cannot be told
        what to do cost what may be in force there and take no part.
    journal : Journal, optional
        Where everything is written down before it is sent: a `FileJournal`, or any object with its
        `read` and `write`. What it holds is recovered. Without one every connector is unknown
        after a restart, and counts with its maximum until it confirms something.
    lease : float, optional
        Seconds for which a command holds; it is renewed after half of them. None: stations hold
        the last limit for ever.
    ordered : bool
        Whether stations drop a command that is older than the newest that they received (or the
        link keeps the order). If not, only the end of its lease proves a command dead.
    skew : float
        Seconds by which the clock of a station may be slow: a lease counts for so much longer.
    lag : float
        Seconds that a vehicle may take to follow a lower limit (IEC 61851-1 gives it 5). Power is
        free when they have passed since the confirmation, or a meter shows no more.
    retry : float
        Seconds after which a command without an answer is sent again.
    patience : float
        Seconds without an answer after which others are planned around a station. What may be in
        force there goes on to count.
    smallest_change, smallest_share : float
        An increase is worth a message if it is at least so many kW, or at least this fraction of
        the limit that was sent last.
    between_increases : float
        Seconds from one increase of a connector to its next one.
    release_after, release_margin : float
        A session that draws at least `release_margin` kW less than it may for `release_after`
        seconds is planned with this much more than its draw; see `meter`.
    probe_after : float
        Seconds after which it is offered its full share again, to see whether it takes it.

    Raises
    ------
    ConflictError
        If the fallbacks below a group do not fit, or the registry has a dispatcher.
    JournalError
        If the journal holds what no dispatcher wrote.

    Examples
    --------
    Two connectors share 22 kW. The second gets its share when the first has come down:

    >>> from wattfill import Connector, Registry
    >>> r = Registry()
    >>> g = r.create_group("Yard", 22, id="yard")
    >>> for station in ("CS-1", "CS-2"):
    ...     _ = r.add_charge_station(g.id, station, [Connector("1", 22, 4, fallback=0)])
    >>> d = Dispatcher(r)
    >>> for c in d.plan(now=0).commands:
    ...     d.confirm(c.station, c.connector, c.seq, now=0)
    >>> _ = r.start_session("CS-1", "1")
    >>> [c] = d.plan(now=10).commands
    >>> (c.station, c.limit, c.why)
    ('CS-1', 22.0, 'increase')
    >>> d.confirm("CS-1", "1", c.seq, now=11)
    >>> _ = r.start_session("CS-2", "1")
    >>> [c] = d.plan(now=20).commands
    >>> (c.station, c.limit, c.why)
    ('CS-1', 11.0, 'decrease')
    >>> print(d.waiting()[0])
    CS-2 1 waits to go from 0 to 11 kW: 11 kW are missing in group 'yard' until they are confirmed \
by CS-1 1 (22 kW may be in force there, 11 kW are due: told at 20 s, not confirmed)
    >>> d.confirm("CS-1", "1", c.seq, now=21)
    >>> d.plan(now=26).commands[0].station
    'CS-2'

    """

    def __init__(
        self,
        registry: Registry,
        journal: Journal | None = None,
        *,
        lease: float | None = None,
        ordered: bool = True,
        skew: float = 2.0,
        lag: float = 5.0,
        retry: float = 30.0,
        patience: float = 60.0,
        smallest_change: float = 0.1,
        smallest_share: float = 0.05,
        between_increases: float = 30.0,
        release_after: float = 300.0,
        release_margin: float = 1.0,
        probe_after: float = 1800.0,
    ) -> None:
        if not isinstance(registry, Registry):
            raise InputTypeError(f"registry must be a Registry, got {type(registry).__name__}")
        self._skew, self._lag = _seconds("skew", skew), _seconds("lag", lag)
        self._retry = _seconds("retry", retry, above_0=True)
        self._patience = _seconds("patience", patience, above_0=True)
        self._between = _seconds("between_increases", between_increases)
        self._release_after = _seconds("release_after", release_after)
        self._probe_after = _seconds("probe_after", probe_after, above_0=True)
        self._smallest_change = quanta_above(_kw("smallest_change", smallest_change))
        self._smallest_share = _validate.number_within(
            "smallest_share", smallest_share, "finite and at least 0"
        )
        self._margin = quanta_above(_kw("release_margin", release_margin))
        self._manner = _manner(lease, ordered)
        self._manners: dict[str, tuple[float | None, bool]] = {}
        """How a station takes its commands, where that is not as usual."""
        self._registry = registry
        self._journal = journal
        self._journal_error: Exception | None = None
        self._records: list[str] = []
        """Those to write next."""
        self._n_records = 0
        self._epoch = 0
        self._now = registry.clock
        self._is_recovered = False
        """Whether no time was told since what the journal tells of."""
        self._plugs: dict[Key, _Plug] = {}
        self._sites: dict[str, _Site] = {}
        """By the id of the root."""
        self._forest = Forest()
        self._todo: dict[_Plug, None] = {}
        """Those to look at in the next plan."""
        self._stirred: dict[_Site, None] = {}
        """Where there may be room that there was not."""
        self._over: dict[_Sum, None] = {}
        self._released: dict[_Plug, None] = {}
        self._wakes: list[tuple[float, int, _Plug]] = []
        self._n_wakes = count()
        if journal is not None:
            self._recover(journal)
        # What was accepted once is steered on, also if the capacity has fallen since.
        registry._attach_dispatcher(fit=not self._plugs)
        self._look(None)

    def __repr__(self) -> str:
        return f"<Dispatcher of {self._registry!r}>"

    def close(self) -> None:
        """Let the registry go: it allocates again as it did without a dispatcher."""
        self._write(sync=True)
        self._registry._detach_dispatcher()

    def set_station(
        self, station: str, *, lease: float | None = None, ordered: bool = True
    ) -> None:
        """Say how one station takes its commands, before the first is sent to it.

        Parameters
        ----------
        station : str
            Id of a charge station.
        lease, ordered
            As of the dispatcher, for this station.

        Raises
        ------
        InputError
            If the station keeps no order and has no lease: nothing could ever be taken back.
        UnknownIdError
            If there is no such charge station.

        """
        plugs = self._plugs_of(station)
        manner = _manner(lease, ordered)
        self._manners[station] = manner
        self._note("station", station, *manner)
        for plug in plugs:
            plug.lease, plug.ordered = manner
            self._note_plug(plug)
            self._todo[plug] = None

    # What may be sent

    def plan(self, now: float) -> Plan:
        """Return the commands that may be sent now; each is taken for sent from now on.

        Ask after every event, and at `Plan.wake_at`. A plan is empty when nothing changed. What
        it holds is in the journal before this returns, so that commands may leave at once; what
        becomes of each is told by `confirm`, `reject` or not at all.

        Parameters
        ----------
        now : float
            Seconds, not before any time that was told before.

        Raises
        ------
        InputError
            If `now` lies in the past, also of the registry's clock.

        """
        now = _validate.number_within("now", now, *self._not_past())
        if now < self._registry.clock:
            raise InputError(
                f"now must be at least {self._registry.clock!r}, the registry's clock, got {now!r}"
            )
        self._advance(now)
        if self._journal_error is not None:
            self._write(replace=True, sync=True)
        self._forget_ceilings()
        self._look(now)
        drafts: list[_Draft] = []
        todo, self._todo = self._todo, {}
        for plug in todo:
            self._attend(plug, now, drafts)
        stirred, self._stirred = self._stirred, {}
        for site in stirred:
            for plug in sorted(site.blocked, key=_turn) if site.blocked else ():
                self._raise(plug, now, drafts)
        if not self._write(sync=any(draft.extends for draft in drafts)):
            drafts = self._hold_back(drafts, now)
        for plug in todo:
            self._schedule(plug, now)
        for draft in drafts:
            self._schedule(draft.plug, now)
        while self._wakes and self._wakes[0][2].wake_at != self._wakes[0][0]:
            heappop(self._wakes)
        wake_at = self._wakes[0][0] if self._wakes else math.inf
        return Plan(
            tuple(
                draft.command
                for raises in (False, True)
                for draft in drafts
                if draft.raises == raises
            ),
            min(wake_at, self._registry._next_turn()),
            tuple(
                Over(s.group.id, s.committed / QUANTA_PER_KW, s.usable / QUANTA_PER_KW)
                for s in self._over
            ),
            self._journal_error,
        )

    def _attend(self, plug: _Plug, now: float, drafts: list[_Draft]) -> None:
        """Send what is due at a connector, or let it wait if it takes more than is committed."""
        site = plug.site
        if site is None:
            return  # It was removed.
        wish = self._wish(plug, now)
        if wish is None or wish[0] <= plug.committed:
            site.blocked.pop(plug, None)
            plug.wanted_since = math.inf
            if wish is not None:
                self._send(plug, *wish, now, drafts)
            return
        if plug not in site.blocked:
            site.blocked[plug] = None
            plug.wanted_since = now
        self._stirred[site] = None

    def _raise(self, plug: _Plug, now: float, drafts: list[_Draft]) -> None:
        """Send an increase if there is room for it in every group above."""
        wish = self._wish(plug, now)
        if wish is not None and wish[0] > plug.committed:
            more = wish[0] - plug.committed
            if self._journal_error is not None or any(
                s.committed + more > s.usable for s in plug.sums
            ):
                return
        assert plug.site is not None
        del plug.site.blocked[plug]
        plug.wanted_since = math.inf
        if wish is None:
            self._schedule(plug, now)
        else:
            self._send(plug, *wish, now, drafts)

    def _wish(self, plug: _Plug, now: float) -> tuple[int, Why] | None:
        """Return what is to be sent to a connector, whether or not it may be."""
        if plug.offline:
            return None
        newest = plug.newest
        if plug.held:
            # It goes on to be told what it was told, or less where too much is committed.
            if now < plug.tried_at + self._retry:
                return None
            limit = plug.committed if newest is None else min(newest.limit, plug.committed)
            if any(s in self._over for s in plug.sums):
                limit = min(limit, plug.least)
            return limit, "refresh" if newest is not None and limit == newest.limit else "decrease"
        limit = plug.target
        if newest is None:
            return limit, "increase" if limit > plug.committed else "decrease"
        if limit < newest.limit:
            return limit, "decrease"
        gain = limit - newest.limit
        if (
            gain > 0
            and now >= plug.raised_at + self._between
            and (gain >= self._smallest_change or gain >= self._smallest_share * newest.limit)
        ):
            return limit, "increase"
        if (
            plug.stale
            or (plug.is_unanswered and now >= plug.tried_at + self._retry)
            or now >= self._renew_at(plug)
        ):
            return newest.limit, "refresh"
        return None

    def _renew_at(self, plug: _Plug) -> float:
        """Return when the lease of what was sent last is to be renewed, if it is."""
        assert plug.newest is not None
        limit = plug.newest.limit
        if plug.lease is None or limit == plug.fallback:
            return math.inf
        if limit < plug.fallback and plug.key not in self._registry._sessions:
            return math.inf  # It costs the fallback as it is.
        return plug.tried_at + plug.lease / 2

    def _send(self, plug: _Plug, limit: int, why: Why, now: float, drafts: list[_Draft]) -> None:
        """Take a command for sent, and note it to be written down before it is."""
        expires = None if plug.lease is None else now + plug.lease
        until = math.inf if expires is None else expires + self._skew
        known_until = plug.until(limit, now)
        extends = until > known_until
        if extends and self._journal_error is not None:
            # Only what the journal tells of already may be in force.
            self._todo[plug] = None
            if known_until <= now + self._skew or why == "refresh":
                return
            until, extends = known_until, False
            expires = known_until - self._skew
        seq = max(plug.newest_seq + 1, self._epoch * SEQS_PER_EPOCH)
        before = plug.in_force, plug.committed, plug.settling, plug.newest, plug.tried_at
        before_that = plug.raised_at, plug.unanswered_since, plug.stale
        command = Command(*plug.key, seq, limit / QUANTA_PER_KW, expires, why)
        raises = limit > plug.committed
        drafts.append(_Draft(plug, command, raises, extends, before, before_that))
        plug.send(seq, limit, until, now)
        plug.newest_seq, plug.newest = seq, Sent(limit, until)
        plug.tried_at, plug.stale = now, False
        if why == "increase":
            plug.raised_at = now
        if plug.unanswered_since > now:
            plug.unanswered_since = now
        self._recount(plug, now)
        if self._journal is not None:
            end = "null" if until == math.inf else repr(until)
            self._records.append(f'["command",{now!r},{plug.text},{seq},{limit},{end}]')

    def _hold_back(self, drafts: list[_Draft], now: float) -> list[_Draft]:
        """Take back what the journal would have to know of, as it could not be written."""
        left = [draft for draft in drafts if not draft.extends]
        for draft in drafts:
            if not draft.extends:
                continue
            plug = draft.plug
            del plug.sent[draft.command.seq]
            committed = plug.committed
            plug.in_force, plug.committed, plug.settling, plug.newest, plug.tried_at = draft.before
            plug.raised_at, plug.unanswered_since, plug.stale = draft.before_that
            self._shift(plug, plug.committed - committed, now)
            self._attend(plug, now, left)
            self._todo[plug] = None
        return left

    # What is known

    def confirm(self, station: str, connector: str, seq: int, now: float) -> None:
        """Note that a station accepted a command and goes by it.

        Whatever was sent to the connector before that is dead, if stations keep the order. The
        power that this frees is free `lag` seconds later, or when the meter shows no more.

        Parameters
        ----------
        station, connector : str
        seq : int
            Of the command. One that is older than the newest confirmed tells nothing new.
        now : float
            Seconds, when this became known.

        Raises
        ------
        InputError
            If no such command was sent, or `now` lies in the past.
        UnknownIdError
            If there is no such connector.

        """
        plug = self._told_of(station, connector, now, seq)
        if plug.confirm(seq):
            self._answered(plug, seq)
            self._note("confirm", *plug.key, seq)
            self._settle(plug)

    def reject(self, station: str, connector: str, seq: int, now: float) -> None:
        """Note that a station refused a command, and never goes by it.

        Not that it did not answer, which proves nothing. Others are planned around the station
        until it accepts something; it is asked again every `retry` seconds.

        Raises
        ------
        InputError, UnknownIdError
            As `confirm`.

        """
        plug = self._told_of(station, connector, now, seq)
        if plug.reject(seq):
            self._answered(plug, seq)
            plug.refuses = seq == plug.newest_seq
            self._note("reject", *plug.key, seq)
            self._settle(plug)

    def read_back(
        self, station: str, connector: str, limit: float, now: float, seq: int | None = None
    ) -> None:
        """Note which limit a station says is in force at a connector.

        Parameters
        ----------
        station, connector : str
        limit : float
            kW.
        now : float
            Seconds, when this became known.
        seq : int, optional
            The newest command that the station has processed, which this confirms. It is that if
            the station tells it, or if nothing was sent between the question and the answer and
            whatever was sent before can reach the station no more. Without it, this only tells of
            a connector of which nothing is known.

        Raises
        ------
        InputError, UnknownIdError
            As `confirm`.

        """
        quanta = quanta_above(_kw("limit", limit))
        plug = self._told_of(station, connector, now, seq)
        if plug.read_back(quanta, seq):
            if seq is not None:
                self._answered(plug, seq)
            self._note("read_back", *plug.key, quanta, seq)
            self._settle(plug)

    def meter(
        self,
        station: str,
        connector: str,
        power: float,
        now: float,
        measured_at: float | None = None,
    ) -> None:
        """Note what a connector draws.

        A draw at or below the limit in force shows that the vehicle has followed it. A session
        that draws much less than it may for `release_after` seconds is planned with
        `release_margin` kW more than its draw, so that others get the rest once its limit is
        lowered; it is planned in full again as soon as it draws about what it may, or
        `probe_after` seconds have passed. A connector that draws more than was ever sent to it for
        longer than `lag` seconds counts with its maximum until it no longer does, and others are
        planned around it. No reading is ever a reason to count with less than what was sent.

        Parameters
        ----------
        station, connector : str
        power : float
            kW, at least 0. What exceeds the connector's maximum is no measurement and is ignored.
        now : float
            Seconds, when this became known.
        measured_at : float, optional
            Seconds, when it was measured, by the station's clock; by default now.

        Raises
        ------
        InputError, UnknownIdError
            As `confirm`.

        """
        quanta = quanta_above(_kw("power", power))
        plug = self._told_of(station, connector, now, None)
        at = now
        if measured_at is not None:
            at = (
                _validate.number_within(
                    "measured_at",
                    measured_at,
                    f"finite and at most {now + self._skew!r}, now and the skew",
                    least=-math.inf,
                    most=now + self._skew,
                )
                - self._skew
            )
        if quanta > plug.rating + _tolerance(plug.rating):
            return
        self._compare(plug, quanta, at)
        if plug.site is not None and plug.newest is not None and not plug.held:
            self._follow(plug, quanta, plug.newest.limit)

    def offline(self, station: str, now: float) -> None:
        """Note that a station cannot be reached: it is sent nothing, and planned around.

        What may be in force there goes on to count, until its leases are over.

        Raises
        ------
        InputError
            If `now` lies in the past.
        UnknownIdError
            If there is no such charge station.

        """
        self._set_offline(station, now, True)

    def online(self, station: str, now: float) -> None:
        """Note that a station can be reached again: it is told anew what it may draw.

        Raises
        ------
        InputError, UnknownIdError
            As `offline`.

        """
        self._set_offline(station, now, False)

    def _set_offline(self, station: str, now: float, offline: bool) -> None:
        plugs = self._plugs_of(station)
        self._advance(_validate.number_within("now", now, *self._not_past()))
        for plug in plugs:
            plug.offline, plug.stale = offline, True
            plug.silent = plug.refuses = False
            plug.unanswered_since = math.inf
            self._keep(plug)

    # What may be in force

    def committed(self, now: float | None = None) -> Committed:
        """Return what may be in force per connector and per group.

        Parameters
        ----------
        now : float, optional
            Seconds; by default the latest time that was told.

        """
        if now is not None:
            self._advance(_validate.number_within("now", now, *self._not_past()))
        self._look(None)
        return Committed(
            {plug.key: plug.committed / QUANTA_PER_KW for plug in self._plugs.values()},
            {
                s.group.id: s.committed / QUANTA_PER_KW
                for site in self._sites.values()
                for s in site.sums
            },
        )

    def waiting(self) -> tuple[Waiting, ...]:
        """Return the increases that the last plan could not hold, and what each waits for."""
        return tuple(
            self._waiting(plug)
            for site in self._sites.values()
            for plug in sorted(site.blocked, key=_turn)
        )

    def _waiting(self, plug: _Plug) -> Waiting:
        full = [s for s in plug.sums if s.committed - plug.committed + plug.target > s.usable]
        s = full[0] if full else plug.sums[0]
        assert plug.site is not None
        below = [plug.site.plugs[i] for i in s.below]
        blockers = [
            (other.committed - due, other, due)
            for other in below
            if other is not plug
            and other.committed > (due := max(other.fallback, other.target))
            and not other.held
        ]
        return Waiting(
            *plug.key,
            plug.committed / QUANTA_PER_KW,
            plug.target / QUANTA_PER_KW,
            s.group.id,
            max(s.committed - plug.committed + plug.target - s.usable, 0) / QUANTA_PER_KW,
            tuple(
                Blocker(
                    *other.key,
                    other.committed / QUANTA_PER_KW,
                    due / QUANTA_PER_KW,
                    self._because(other),
                )
                for _, other, due in sorted(blockers, key=lambda each: (-each[0], each[1].key))
            ),
        )

    def _because(self, plug: _Plug) -> str:
        """Say why a connector counts with more than it is to have."""
        if plug.is_unanswered:
            return f"told at {plug.tried_at:g} s, not confirmed"
        if plug.committed > plug.in_force:
            return f"it may still draw that, until {max(s.until for s in plug.settling):g} s"
        if not plug.known:
            return "nothing is known of it"
        return "it is not told yet"

    # One connector

    def _told_of(self, station: str, connector: str, now: float, seq: int | None) -> _Plug:
        """Return the connector that something is told of at some time."""
        _validate.identifier("station", station)
        _validate.identifier("connector", connector)
        plug = self._plugs.get((station, connector))
        if plug is None:
            self._registry._root_of((station, connector))
            self._look(None)
            plug = self._plugs[station, connector]
        if seq is not None:
            _validate.whole_number("seq", seq)
            if not 0 <= seq <= plug.newest_seq:
                raise InputError(
                    f"seq must be that of a command sent to connector {connector!r} of charge "
                    f"station {station!r}, at most {plug.newest_seq}, got {seq}"
                )
        self._advance(_validate.number_within("now", now, *self._not_past()))
        return plug

    def _plugs_of(self, station: str) -> list[_Plug]:
        plugs = self._registry.charge_station(station).connectors
        if any((station, plug.id) not in self._plugs for plug in plugs):
            self._look(None)
        return [self._plugs[station, plug.id] for plug in plugs]

    def _answered(self, plug: _Plug, seq: int) -> None:
        """Note that a station answers."""
        plug.unanswered_since = math.inf if seq >= plug.newest_seq else self._now
        if plug.silent or plug.refuses:
            plug.silent = plug.refuses = False
            self._keep(plug)

    def _settle(self, plug: _Plug) -> None:
        """Count a connector anew after what was told of it, and write that down."""
        self._recount(plug, self._now)
        if plug.refuses:
            self._keep(plug)
        self._todo[plug] = None
        self._schedule(plug, self._now)
        self._write()

    def _compare(self, plug: _Plug, draw: int, at: float) -> None:
        """Compare what is drawn with what may be."""
        if draw <= plug.in_force + _tolerance(plug.in_force) and not plug.disobeys:
            plug.over_since = math.inf
            since = max((old.until for old in plug.settling), default=math.inf) - self._lag
            if draw <= plug.in_force and at >= since:
                plug.is_settled()
                self._note("settled", *plug.key)
                self._settle(plug)
            return
        told = plug.told(at)
        if draw <= told + _tolerance(told):
            plug.over_since = math.inf
            self._set_disobeys(plug, False)
        elif draw > plug.committed + _tolerance(plug.committed):
            plug.over_since = min(plug.over_since, at)
            if at > plug.over_since + self._lag:
                self._set_disobeys(plug, True)

    def _set_disobeys(self, plug: _Plug, disobeys: bool) -> None:
        if plug.disobeys != disobeys:
            plug.disobeys = disobeys
            self._note("disobeys", *plug.key, disobeys)
            self._settle(plug)
            self._keep(plug)

    def _follow(self, plug: _Plug, draw: int, limit: int) -> None:
        """Note whether a session makes use of what it may draw."""
        if plug.ceiling is not None and draw + self._margin // 2 >= limit:
            self._set_ceiling(plug, None)
        if plug.is_unanswered or draw + self._margin >= limit or limit <= plug.least:
            plug.low_since = math.inf
            return
        if plug.low_since == math.inf:
            plug.low_since, plug.low_peak = self._now, draw
        plug.low_peak = max(plug.low_peak, draw)
        if self._now >= plug.low_since + self._release_after:
            self._set_ceiling(plug, plug.low_peak + self._margin)

    def _set_ceiling(self, plug: _Plug, ceiling: int | None) -> None:
        plug.low_since = math.inf
        plug.ceiling = ceiling
        if ceiling is None:
            plug.released_at = math.inf
            self._released.pop(plug, None)
        else:
            plug.released_at = self._now
            plug.session = self._session(plug)
            self._released[plug] = None
            self._schedule(plug, self._now)
        self._keep(plug)

    def _session(self, plug: _Plug) -> int:
        running = self._registry._sessions.get(plug.key)
        return -1 if running is None else running.number

    def _forget_ceilings(self) -> None:
        """Let new sessions begin without what is known of those before them."""
        for plug in [plug for plug in self._released if plug.session != self._session(plug)]:
            self._set_ceiling(plug, None)

    def _keep(self, plug: _Plug) -> None:
        """Let the registry know what a connector costs in any case."""
        self._todo[plug] = None
        self._registry._set_terms(
            plug.key,
            Terms(
                plug.fallback / QUANTA_PER_KW,
                plug.committed / QUANTA_PER_KW if plug.held else None,
                None if plug.ceiling is None else plug.ceiling / QUANTA_PER_KW,
            ),
        )

    def _recount(self, plug: _Plug, at: float) -> None:
        more = plug.recount(at, self._lag)
        if more:
            self._shift(plug, more, at)

    def _shift(self, plug: _Plug, more: int, at: float) -> None:
        """Note that more, or less, is committed at a connector."""
        for s in plug.sums:
            s.committed += more
            self._watch(s)
        if more < 0 and plug.site is not None:
            self._stirred[plug.site] = None
        if plug.held:
            self._keep(plug)

    def _watch(self, s: _Sum) -> None:
        if s.committed > s.usable:
            self._over[s] = None
        elif self._over:
            self._over.pop(s, None)

    # Time

    def _not_past(self) -> tuple[str, float]:
        if self._is_recovered:
            return "finite", -math.inf
        return f"finite and at least {self._now!r}, the latest time that was told", self._now

    def _advance(self, now: float) -> None:
        """Let what was due by now happen, each at its time."""
        if self._is_recovered:
            self._is_recovered = False
            if now < self._now:
                self._turn_back(now)
        while self._wakes and self._wakes[0][0] <= now:
            at, _, plug = heappop(self._wakes)
            if plug.wake_at == at:
                plug.wake_at = math.inf
                self._wake(plug, at)
        self._now = now

    def _wake(self, plug: _Plug, at: float) -> None:
        self._now = at
        self._recount(plug, at)
        if not plug.held and at >= plug.unanswered_since + self._patience:
            plug.silent = True
            self._keep(plug)
        if at >= plug.released_at + self._probe_after:
            self._set_ceiling(plug, None)
        self._todo[plug] = None
        self._schedule(plug, at)

    def _schedule(self, plug: _Plug, at: float) -> None:
        """See to it that a connector is looked at when something is due there next."""
        if plug.site is None:
            return
        due = [plug.next_change(at), plug.released_at + self._probe_after]
        if not plug.offline and plug.newest is not None:
            if plug.is_unanswered or plug.held:
                due += (plug.tried_at + self._retry, plug.unanswered_since + self._patience)
            if not plug.held:
                due.append(self._renew_at(plug))
                if plug.target > plug.newest.limit:
                    due.append(plug.raised_at + self._between)
        soonest = min((time for time in due if time > at), default=math.inf)
        if soonest < plug.wake_at:
            plug.wake_at = soonest
            heappush(self._wakes, (soonest, next(self._n_wakes), plug))

    def _turn_back(self, now: float) -> None:
        """Go by a clock that began anew: what was left to wait for is waited for in full."""
        less = now - self._now
        self._wakes = []
        for plug in self._plugs.values():
            plug.shift(less)
            plug.tried_at += less
            plug.unanswered_since += less
            plug.wake_at = math.inf
            if plug.newest is not None:
                plug.newest = Sent(plug.newest.limit, plug.newest.until + less)
            self._schedule(plug, now)
        self._write(replace=True, sync=True)

    # The registry

    def _look(self, at: float | None) -> None:
        """Take up what the registry holds and allocates now."""
        while True:
            forest, changed = self._registry._changed_trees(self._forest, at)
            self._forest = forest
            if not changed:
                return
            left: list[_Plug] = []
            for root, answer in changed.items():
                site = self._sites.get(root)
                if site is not None and (answer is None or site.layout is not answer.layout):
                    left += site.plugs
                    del self._sites[root]
                    for s in site.sums:
                        self._over.pop(s, None)
                    self._stirred.pop(site, None)
                    for plug in site.plugs:
                        plug.site, plug.sums = None, ()
            for root, answer in changed.items():
                if answer is not None:
                    self._take(root, answer)
            for plug in left:
                if plug.site is None:
                    self._remove(plug)

    def _remove(self, plug: _Plug) -> None:
        del self._plugs[plug.key]
        self._todo.pop(plug, None)
        self._released.pop(plug, None)
        plug.wake_at = math.inf
        self._registry._set_terms(plug.key, None)
        self._note("remove", *plug.key)

    def _take(self, root: str, answer: Answer) -> None:
        """Take up what one tree of groups is to have."""
        site = self._sites.get(root)
        if site is None:
            site = self._sites[root] = self._settle_in(answer.layout)
        else:
            for s in site.sums:
                group = self._registry.group(s.group.id)
                if group is not s.group:
                    s.take(group)
                    self._watch(s)
                    self._stirred[site] = None
        targets = answer.quanta()
        if targets != site.targets:
            for plug, target in zip(site.plugs, targets, strict=True):
                if target != plug.target:
                    plug.target = target
                    self._todo[plug] = None
            site.targets = targets

    def _settle_in(self, layout: Layout) -> _Site:
        """Take up a tree of groups as it stands now."""
        site = _Site(layout)
        chains: list[tuple[_Sum, ...]] = []
        for g, group_id in enumerate(layout.groups):
            s = _Sum(self._registry.group(group_id), layout.below(g))
            site.sums.append(s)
            chains.append((s, *(chains[layout.parent[g]] if g else ())))
        stations = {station: self._registry.charge_station(station) for station, _ in layout.keys}
        connectors = {
            (station.id, connector.id): connector
            for station in stations.values()
            for connector in station.connectors
        }
        for i, key in enumerate(layout.keys):
            connector = connectors[key]
            fallback = quanta_above(connector.may_draw_untold)
            rating = quanta_above(connector.maximum_capacity)
            lease, ordered = self._manners.get(key[0], self._manner)
            plug = self._plugs.get(key)
            if plug is None:
                plug = self._plugs[key] = _Plug(key, fallback, rating, lease, ordered)
                self._note_plug(plug)
            elif (plug.fallback, plug.rating, plug.ordered) != (fallback, rating, ordered):
                plug.fallback, plug.rating, plug.ordered = fallback, rating, ordered
                self._note_plug(plug)
                plug.recount(self._now, self._lag)
            plug.lease = lease
            plug.site, plug.place, plug.sums = site, i, chains[layout.owner[i]]
            plug.least = quanta_above(layout.minimum[i])
            for s in plug.sums:
                s.committed += plug.committed
            site.plugs.append(plug)
            self._keep(plug)
            self._schedule(plug, self._now)
        site.targets = [plug.target for plug in site.plugs]
        for s in site.sums:
            self._watch(s)
        return site

    # The journal

    def _note(self, kind: str, *what: object) -> None:
        """Keep a record to be written."""
        if self._journal is not None:
            self._records.append(json.dumps([kind, self._now, *what]))

    def _note_plug(self, plug: _Plug) -> None:
        self._note("connector", *plug.key, plug.fallback, plug.rating, plug.ordered)

    def _write(self, *, replace: bool = False, sync: bool = False) -> bool:
        """Write the records that are kept, or all that is known; say whether that went well."""
        if self._journal is None:
            return True
        records, self._records = self._records, []
        if self._journal_error is not None and not replace:
            return False  # All that is known is written by the next plan.
        if not records and not replace:
            return True
        if self._n_records > max(FEWEST_RECORDS, 4 * len(self._plugs)):
            replace = sync = True
        if replace:
            records = self._snapshot()
        try:
            self._journal.write(records, replace=replace, sync=sync)
        except Exception as error:
            self._journal_error = error
            return False
        self._n_records = len(records) if replace else self._n_records + len(records)
        if self._journal_error is not None:
            self._journal_error = None
            self._stirred.update(dict.fromkeys(self._sites.values()))
        return True

    def _snapshot(self) -> list[str]:
        """Return records that stand for all before them."""
        head: list[list[object]] = [["epoch", self._now, self._epoch, self._lag]]
        head += [["station", self._now, station, *way] for station, way in self._manners.items()]
        return [json.dumps(record) for record in head] + [
            json.dumps(["state", self._now, *plug.key, plug.state()])
            for plug in self._plugs.values()
        ]

    def _recover(self, journal: Journal) -> None:
        """Bring back what the journal tells of."""
        reader = _Reader()
        for number, text in enumerate(journal.read(), 1):
            try:
                reader.take(json.loads(text))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise JournalError(
                    f"record {number} of the journal must be one that a dispatcher wrote, got "
                    f"{text[:80]!r} ({type(error).__name__}: {error})"
                ) from None
            self._n_records = number
        reader.finish()
        self._plugs, self._manners = reader.plugs, reader.manners
        self._epoch = reader.epoch + 1
        if reader.now > -math.inf:
            self._now, self._is_recovered = reader.now, True
        for plug in self._plugs.values():
            if plug.newest_seq > plug.confirmed_seq:
                plug.unanswered_since = self._now
        self._note("epoch", self._epoch, self._lag)
        self._write(sync=True)


class _Reader:
    """What the records of a journal come to."""

    def __init__(self) -> None:
        self.plugs: dict[Key, _Plug] = {}
        self.manners: dict[str, tuple[float | None, bool]] = {}
        self.epoch = 0
        self.lag = 0.0
        self.now = -math.inf
        self._counted_at: dict[_Plug, float] = {}

    def take(self, record: list[Any]) -> None:
        kind, at, *what = record
        self.now = max(self.now, float(at))
        if kind == "epoch":
            self.epoch, self.lag = what
        elif kind == "station":
            station, lease, ordered = what
            self.manners[station] = lease, ordered
        else:
            station, connector, *rest = what
            self._take(kind, self.now, (station, connector), rest)

    def _take(self, kind: str, at: float, key: Key, what: list[Any]) -> None:
        plug = self.plugs.get(key)
        if kind == "state":
            plug = self.plugs[key] = _Plug(key, 0, 0, None, True)
            plug.set_state(what[0])
            self._counted_at[plug] = at
            return
        if plug is None:
            if kind != "connector":
                raise ValueError("there is no such connector")
            plug = self.plugs[key] = _Plug(key, what[0], what[1], None, what[2])
            self._counted_at[plug] = at
            return
        self._catch_up(plug, at)
        if kind == "connector":
            plug.fallback, plug.rating, plug.ordered = what
        elif kind == "command":
            seq, limit, until = what
            until = math.inf if until is None else until
            plug.send(seq, limit, until, at)
            plug.newest_seq, plug.newest, plug.tried_at = seq, Sent(limit, until), at
        elif kind == "confirm":
            plug.confirm(*what)
        elif kind == "reject":
            plug.reject(*what)
        elif kind == "read_back":
            plug.read_back(*what)
        elif kind == "settled":
            plug.is_settled()
        elif kind == "disobeys":
            (plug.disobeys,) = what
        elif kind == "remove":
            del self.plugs[key], self._counted_at[plug]
        else:
            raise ValueError("there is no such kind")
        plug.recount(at, self.lag)

    def _catch_up(self, plug: _Plug, at: float) -> None:
        """Let leases end and vehicles settle, each at its time."""
        while (change := plug.next_change(self._counted_at[plug])) <= at:
            plug.recount(change, self.lag)
            self._counted_at[plug] = change
        self._counted_at[plug] = at

    def finish(self) -> None:
        for plug in self.plugs.values():
            self._catch_up(plug, self.now)


def _turn(plug: _Plug) -> tuple[bool, float, int]:
    """Whose increase comes first: who has nothing, then who has waited longest."""
    return plug.newest is not None and plug.newest.limit > 0, plug.wanted_since, plug.place


def _tolerance(limit: int) -> int:
    """Return what a meter may show above a limit that is kept, in quanta."""
    return max(METER_ERROR, limit // 20)


def _seconds(name: str, value: object, above_0: bool = False) -> float:
    rule = "above 0 and finite" if above_0 else "finite and at least 0"
    return _validate.number_within(name, value, rule, least=math.ulp(0.0) if above_0 else 0.0)


def _kw(name: str, value: object) -> float:
    return _validate.number_within(
        name, value, f"at least 0 and below {TOO_MUCH_KW:.6g} kW", most=TOO_MUCH_KW
    )


def _kw_text(kw: float) -> str:
    return f"{kw:.12g}"


def _manner(lease: float | None, ordered: bool) -> tuple[float | None, bool]:
    """Return how commands are taken, if that can be."""
    if not isinstance(ordered, bool):
        raise InputTypeError(f"ordered must be True or False, got {ordered!r}")
    if lease is None:
        if not ordered:
            raise InputError(
                "lease must be given where ordered is False: nothing else ever proves a command "
                "dead, got None"
            )
        return None, ordered
    return _seconds("lease", lease, above_0=True), ordered
