"""From powers to commands: what may be sent now, and what must wait.

A limit travels as a message that may be late, lost, doubled or overtaken, so each connector is
counted with what is *committed* there: the largest limit that may still be in force, whatever
became of each message. What lowers it may always be sent; what raises it only into headroom that
is proven in every group above. ``docs/dispatch.md`` tells how, and what each rule is there for.
"""

from __future__ import annotations

import json
import math
from typing import Any

from wattfill import _validate
from wattfill._demand import Answer
from wattfill._desk import Desk, Plug, Site, Sum, disobeying, turn
from wattfill._outcome import Forest
from wattfill._plans import Blocker as Blocker
from wattfill._plans import Command as Command
from wattfill._plans import Committed as Committed
from wattfill._plans import Over as Over
from wattfill._plans import Plan as Plan
from wattfill._plans import Waiting as Waiting
from wattfill._records import QUANTA_PER_KW, TOO_MUCH_KW, Key, quanta_above
from wattfill._trees import Layout
from wattfill.errors import InputError, InputTypeError, JournalError
from wattfill.journal import FileJournal as FileJournal
from wattfill.journal import Journal as Journal
from wattfill.registry import Registry

FEWEST_RECORDS = 4096
"""Records to write before the journal is made anew, at the least."""
METER_ERROR = 200_000
"""Quanta that a meter may show too much, at the least."""


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
        link keeps the order). If not, only the end of its lease proves a command dead, and a
        journal is needed to know after a restart what was sent before.
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
    epoch : int
        What the numbers of commands begin with, below 2**31. A journal sees to it that it rises
        with every start. Without one it is yours to raise, unless no command from before can
        arrive any more, and no answer to one: two commands with the same number are not to be told
        apart.

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

    # What connectors and their desk are made of.
    _Plug = Plug
    _Desk = Desk

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
        epoch: int = 0,
    ) -> None:
        if not isinstance(registry, Registry):
            raise InputTypeError(f"registry must be a Registry, got {type(registry).__name__}")
        self._release_after = _seconds("release_after", release_after)
        self._margin = quanta_above(_kw("release_margin", release_margin))
        self._manner = _manner(lease, ordered)
        self._manners: dict[str, tuple[float | None, bool]] = {}
        """How a station takes its commands, where that is not as usual."""
        self._retry = _seconds("retry", retry, above_0=True)
        desk = self._desk = self._Desk(
            registry,
            skew=_seconds("skew", skew),
            lag=_seconds("lag", lag),
            retry=self._retry,
            patience=_seconds("patience", patience, above_0=True),
            between=_seconds("between_increases", between_increases),
            probe_after=_seconds("probe_after", probe_after, above_0=True),
            smallest_change=quanta_above(_kw("smallest_change", smallest_change)),
            smallest_share=_validate.number_within(
                "smallest_share", smallest_share, "finite and at least 0"
            ),
        )
        if not 0 <= _validate.whole_number("epoch", epoch) < 2**31:
            raise InputError(f"epoch must be within 0..2**31 - 1, got {epoch!r}")
        desk.epoch = epoch
        desk.now = registry.clock
        desk.writes = journal is not None
        self._registry = registry
        self._journal = journal
        self._journal_error: Exception | None = None
        self._n_records = 0
        self._is_recovered = False
        """Whether no time was told since what the journal tells of."""
        self._plugs: dict[Key, Plug] = {}
        self._gone: dict[Key, Plug] = {}
        """Those that were removed: what was sent there may still arrive."""
        self._sites: dict[str, Site] = {}
        """By the id of the root."""
        self._forest = Forest()
        if journal is not None:
            self._recover(journal)
        # What was accepted once is steered on, also if the capacity has fallen since.
        registry._attach_dispatcher(fit=not self._plugs)
        self._look(None)
        for plug in [plug for plug in self._plugs.values() if plug.site is None]:
            self._remove(plug)
        self._write()

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
            plug.lease, plug.ordered = _lease(manner[0]), ordered
            self._note_plug(plug)
            self._desk.todo[plug] = None
        self._write(sync=True)

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
        desk = self._desk
        # A new session begins without what is known of the one before it.
        for plug in [plug for plug in desk.released if plug.session != desk.session(plug)]:
            desk.set_ceiling(plug, -1)
        self._look(now)
        drafts = desk.send_due()
        wake_at = min(desk.next_wake(), self._registry._next_turn())
        if not self._write(sync=any(draft.extends for draft in drafts)):
            drafts = desk.hold_back(drafts)
            wake_at = min(wake_at, now + self._retry)
        return Plan(
            tuple(
                draft.command
                for raises in (False, True)
                for draft in drafts
                if draft.raises == raises
            ),
            wake_at,
            tuple(
                Over(s.group.id, s.committed / QUANTA_PER_KW, s.usable / QUANTA_PER_KW)
                for s in desk.over
            ),
            self._journal_error,
        )

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

        Not that it did not answer, which proves nothing; and the same command must not be sent
        again by whatever carries it. Others are planned around the station
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
            kW: what the station would allow if nothing else held it down just now.
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
                    f"finite and at most {now + self._desk.skew!r}, now and the skew",
                    least=-math.inf,
                    most=now + self._desk.skew,
                )
                - self._desk.skew
            )
        if quanta > plug.rating + _tolerance(plug.rating):
            return
        self._compare(plug, quanta, at)
        if plug.newest_limit >= 0 and not plug.held:
            self._follow(plug, quanta, plug.newest_limit)

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
            self._desk.keep(plug)

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

    def disobeying(self) -> frozenset[Key]:
        """Return the connectors that draw more than was ever sent to them, by their meters.

        They count with their maximum, and others are planned around them; see `meter`.
        """
        return disobeying(self._plugs.values())

    def waiting(self) -> tuple[Waiting, ...]:
        """Return the increases that the last plan could not hold, and what each waits for."""
        return tuple(
            self._waiting(plug)
            for site in self._sites.values()
            for plug in sorted(site.blocked, key=turn)
        )

    def _waiting(self, plug: Plug) -> Waiting:
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

    def _because(self, plug: Plug) -> str:
        """Say why a connector counts with more than it is to have."""
        if plug.unanswered_since < math.inf:
            return f"told at {plug.tried_at:g} s, not confirmed"
        if plug.committed > plug.in_force:
            return f"it may still draw that, until {plug.settles_at:g} s"
        if not plug.known:
            return "nothing is known of it"
        return "it is not told yet"

    # One connector

    def _told_of(self, station: str, connector: str, now: float, seq: int | None) -> Plug:
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

    def _plugs_of(self, station: str) -> list[Plug]:
        plugs = self._registry.charge_station(station).connectors
        if any((station, plug.id) not in self._plugs for plug in plugs):
            self._look(None)
        return [self._plugs[station, plug.id] for plug in plugs]

    def _answered(self, plug: Plug, seq: int) -> None:
        """Note that a station answers."""
        plug.unanswered_since = math.inf if seq >= plug.newest_seq else self._desk.now
        if plug.silent or plug.refuses:
            plug.silent = plug.refuses = False
            self._desk.keep(plug)

    def _settle(self, plug: Plug) -> None:
        """Count a connector anew after what was told of it, and write that down."""
        desk = self._desk
        desk.recount(plug, desk.now)
        if plug.refuses:
            desk.keep(plug)
        desk.todo[plug] = None
        desk.schedule(plug, desk.now)
        self._write()

    def _compare(self, plug: Plug, draw: int, at: float) -> None:
        """Compare what is drawn with what may be."""
        if draw <= plug.in_force + _tolerance(plug.in_force) and not plug.disobeys:
            plug.over_since = math.inf
            settles_at = plug.settles_at
            if draw <= plug.in_force and settles_at and at > settles_at - self._desk.lag:
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
            if at > plug.over_since + self._desk.lag:
                self._set_disobeys(plug, True)

    def _set_disobeys(self, plug: Plug, disobeys: bool) -> None:
        if plug.disobeys != disobeys:
            plug.disobeys = disobeys
            self._note("disobeys", *plug.key, disobeys)
            self._settle(plug)
            self._desk.keep(plug)

    def _follow(self, plug: Plug, draw: int, limit: int) -> None:
        """Note whether a session makes use of what it may draw."""
        desk = self._desk
        if plug.ceiling >= 0 and draw + self._margin // 2 >= limit:
            desk.set_ceiling(plug, -1)
        answered = plug.unanswered_since == math.inf
        if not answered or draw + self._margin >= limit or limit <= plug.least:
            plug.low_since = math.inf
            return
        if plug.low_since == math.inf:
            plug.low_since, plug.low_peak = desk.now, draw
        plug.low_peak = max(plug.low_peak, draw)
        if desk.now >= plug.low_since + self._release_after:
            desk.set_ceiling(plug, plug.low_peak + self._margin)

    # Time

    def _not_past(self) -> tuple[str, float]:
        if self._is_recovered:
            return "finite", -math.inf
        now = self._desk.now
        return f"finite and at least {now!r}, the latest time that was told", now

    def _advance(self, now: float) -> None:
        """Let what was due by now happen, each at its time."""
        if self._is_recovered:
            self._is_recovered = False
            if now < self._desk.now:
                self._desk.turn_back(self._plugs.values(), now)
                self._desk.now = now
                self._write(replace=True, sync=True)
        self._desk.advance(now)

    # The registry

    def _look(self, at: float | None) -> None:
        """Take up what the registry holds and allocates now."""
        while True:
            forest, changed = self._registry._changed_trees(self._forest, at)
            self._forest = forest
            if not changed:
                if self._desk.records:
                    self._write()  # What came and went; a crash forgets nothing that was counted.
                return
            left: list[Plug] = []
            for root, answer in changed.items():
                site = self._sites.get(root)
                if site is not None and (answer is None or site.layout is not answer.layout):
                    left += site.plugs
                    del self._sites[root]
                    for s in site.sums:
                        self._desk.over.pop(s, None)
                    self._desk.stirred.pop(site, None)
                    for plug in site.plugs:
                        plug.site, plug.sums = None, ()
            # In an order that is the same in every process.
            for root, answer in sorted(changed.items()):
                if answer is not None:
                    self._take(root, answer)
            for plug in left:
                if plug.site is None:
                    self._remove(plug)

    def _remove(self, plug: Plug) -> None:
        self._gone[plug.key] = self._plugs.pop(plug.key)
        self._desk.todo.pop(plug, None)
        self._desk.released.pop(plug, None)
        plug.wake_at = math.inf
        self._registry._set_terms(plug.key, None)
        self._note("remove", *plug.key)

    def _comes(self, key: Key, fallback: int, rating: int, ordered: bool) -> Plug:
        """Return a connector that is new, or comes back and may be any that was there before."""
        plug = self._gone.pop(key, None)
        if plug is None:
            return self._Plug(key, fallback, rating, math.inf, ordered)
        plug.come_back(fallback, rating, ordered, self._desk.now)
        return plug

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
                    self._desk.watch(s)
                    self._desk.stirred[site] = None
        self._desk.aim(site, answer.quanta())

    def _settle_in(self, layout: Layout) -> Site:
        """Take up a tree of groups as it stands now."""
        site = Site(layout)
        chains: list[tuple[Sum, ...]] = []
        for g, group_id in enumerate(layout.groups):
            s = Sum(self._registry.group(group_id), layout.below(g))
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
                plug = self._plugs[key] = self._comes(key, fallback, rating, ordered)
                self._note_plug(plug)
            elif (plug.fallback, plug.rating, plug.ordered) != (fallback, rating, ordered):
                plug.fallback, plug.rating, plug.ordered = fallback, rating, ordered
                self._note_plug(plug)
                plug.recount(self._desk.now, self._desk.lag)
            plug.lease = _lease(lease)
            plug.site, plug.place, plug.sums = site, i, chains[layout.owner[i]]
            plug.least = quanta_above(layout.minimum[i])
            for s in plug.sums:
                s.committed += plug.committed
            site.plugs.append(plug)
            if plug.wanted_since < math.inf:
                site.blocked[plug] = None
            self._desk.keep(plug)
            self._desk.schedule(plug, self._desk.now)
        for s in site.sums:
            self._desk.watch(s)
        return site

    # The journal

    def _note(self, kind: str, *what: object) -> None:
        """Keep a record to be written."""
        if self._journal is not None:
            self._desk.records.append(json.dumps([kind, self._desk.now, *what]))

    def _note_plug(self, plug: Plug) -> None:
        self._note("connector", *plug.key, plug.fallback, plug.rating, plug.ordered)

    def _write(self, *, replace: bool = False, sync: bool = False) -> bool:
        """Write the records that are kept, or all that is known; say whether that went well."""
        if self._journal is None:
            return True
        desk = self._desk
        records, desk.records = desk.records, []
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
            self._journal_error, desk.is_mute = error, True
            return False
        self._n_records = len(records) if replace else self._n_records + len(records)
        if self._journal_error is not None:
            self._journal_error, desk.is_mute, desk.has_epoch = None, False, True
            desk.stirred.update(dict.fromkeys(self._sites.values()))
        return True

    def _snapshot(self) -> list[str]:
        """Return records that stand for all before them."""
        desk = self._desk
        head: list[list[object]] = [["epoch", desk.now, desk.epoch, desk.lag]]
        head += [["station", desk.now, station, *way] for station, way in self._manners.items()]
        return [json.dumps(record) for record in head] + [
            json.dumps([kind, desk.now, *plug.key, plug.state()])
            for kind, plugs in (("state", self._plugs), ("gone", self._gone))
            for plug in plugs.values()
        ]

    def _recover(self, journal: Journal) -> None:
        """Bring back what the journal tells of."""
        reader = _Reader(self._Plug)
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
        self._plugs, self._gone, self._manners = reader.plugs, reader.gone, reader.manners
        desk = self._desk
        desk.epoch = max(reader.epoch + 1, desk.epoch)
        if reader.now > -math.inf:
            desk.now, self._is_recovered = reader.now, True
        for plug in self._plugs.values():
            if plug.newest_seq > plug.confirmed_seq:
                plug.unanswered_since = desk.now
        self._note("epoch", desk.epoch, desk.lag)
        desk.has_epoch = self._write(sync=True)


class _Reader:
    """What the records of a journal come to."""

    def __init__(self, plug: type[Plug]) -> None:
        self._Plug = plug
        self.plugs: dict[Key, Plug] = {}
        self.gone: dict[Key, Plug] = {}
        self.manners: dict[str, tuple[float | None, bool]] = {}
        self.epoch = 0
        self.lag = 0.0
        self.now = -math.inf
        self._counted_at: dict[Plug, float] = {}

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
        if kind in ("state", "gone"):
            plug = self._Plug(key, 0, 0, math.inf, True)
            plug.set_state(what[0])
            (self.plugs if kind == "state" else self.gone)[key] = plug
            self._counted_at[plug] = at
            return
        if plug is None:
            if kind != "connector":
                raise ValueError("there is no such connector")
            plug = self.gone.pop(key, None)
            if plug is None:
                plug = self._Plug(key, what[0], what[1], math.inf, what[2])
            else:
                fallback, rating, ordered = what
                plug.come_back(fallback, rating, ordered, at)
            self.plugs[key] = plug
            self._counted_at[plug] = at
            return
        self._catch_up(plug, at)
        if kind == "connector":
            plug.fallback, plug.rating, plug.ordered = what
        elif kind == "command":
            seq, limit, until = what
            until = math.inf if until is None else until
            plug.send(seq, limit, until, at)
            plug.newest_seq, plug.newest_limit, plug.tried_at = seq, limit, at
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
            self.gone[key] = self.plugs.pop(key)
        else:
            raise ValueError("there is no such kind")
        plug.recount(at, self.lag)

    def _catch_up(self, plug: Plug, at: float) -> None:
        """Let leases end and vehicles settle, each at its time."""
        while (change := plug.next_change(self._counted_at[plug])) <= at:
            plug.recount(change, self.lag)
            self._counted_at[plug] = change
        self._counted_at[plug] = at

    def finish(self) -> None:
        for plug in self.plugs.values():
            self._catch_up(plug, self.now)


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


def _lease(lease: float | None) -> float:
    """Return the seconds of a lease, infinite for none."""
    return math.inf if lease is None else lease


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
