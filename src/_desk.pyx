# SPDX-License-Identifier: Apache-2.0
"""What may be in force at each connector, and what may be sent there now.

The part of `wattfill.dispatch` that a plan spends its time in. `Account` is the protocol for one
connector: what is sent may arrive late, twice, overtaken or never, so a connector counts with the
largest limit that may still be in force there. `Desk` sends what is due, lets increases wait for
headroom that is proven in every group above, and remembers when something is due next.

Times are seconds on one clock of the caller's; powers are whole quanta.
"""
from heapq import heappop, heappush
from json import dumps

from cpython.mem cimport PyMem_RawFree, PyMem_RawRealloc
from cpython.object cimport PyObject_GenericSetAttr
from libc.math cimport INFINITY
from libc.stdint cimport int64_t

from wattfill import _records
from wattfill._plans import Command
from wattfill._trees import Terms, usable_quanta

cdef enum:
    MANY = 8            # values of which some may well be over

cdef double PER_KW = _records.QUANTA_PER_KW
cdef int64_t SEQS_PER_EPOCH = 2**32


cdef struct Value:
    int64_t seq         # of the command; -1 where none brought it
    int64_t limit
    double until        # when it is over by the slowest clock; infinite without a lease


cdef class Values:
    """Limits, each until some time."""

    cdef Value *item
    cdef Py_ssize_t n, room

    def __dealloc__(self):
        PyMem_RawFree(self.item)

    cdef int add(self, int64_t seq, int64_t limit, double until) except -1:
        if self.n == self.room:
            room = 2 * self.room + 2
            item = <Value *> PyMem_RawRealloc(self.item, room * sizeof(Value))
            if item == NULL:
                raise MemoryError
            self.item, self.room = item, room
        self.item[self.n] = Value(seq, limit, until)
        self.n += 1
        return 0

    cdef void remove(self, Py_ssize_t i) noexcept:
        cdef Py_ssize_t j
        self.n -= 1
        for j in range(i, self.n):
            self.item[j] = self.item[j + 1]

    cdef void keep_later(self, int64_t seq, double at) noexcept:
        """Leave out what has no larger number, or is over."""
        cdef Py_ssize_t i, n = 0
        for i in range(self.n):
            if self.item[i].seq > seq and self.item[i].until > at:
                self.item[n] = self.item[i]
                n += 1
        self.n = n

    cdef Py_ssize_t find(self, int64_t seq) noexcept:
        cdef Py_ssize_t i
        for i in range(self.n):
            if self.item[i].seq == seq:
                return i
        return -1

    cdef double soonest(self, double at, double soonest) noexcept:
        cdef Py_ssize_t i
        for i in range(self.n):
            if at < self.item[i].until < soonest:
                soonest = self.item[i].until
        return soonest

    cdef list plain(self):
        """All of it in what JSON knows: it knows no infinity."""
        return [
            [self.item[i].seq, self.item[i].limit, plain_time(self.item[i].until)]
            for i in range(self.n)
        ]

    cdef int set_plain(self, list values) except -1:
        self.n = 0
        for seq, limit, until in values:
            self.add(seq, limit, time_of(until))
        return 0


cdef object plain_time(double time):
    return None if time == INFINITY else time


cdef double time_of(object plain) except *:
    return INFINITY if plain is None else plain


cdef class Account:
    """The most that one connector may allow.

    It is *unknown* at first and may allow its rating. Once it has confirmed a command, it may
    allow its fallback, what it has confirmed, and every command sent since.
    """

    cdef public int64_t fallback            # what it may apply on its own
    cdef public int64_t rating
    cdef public bint ordered                # it drops what is older than the newest it received
    cdef public bint known
    cdef public bint disobeys               # it was seen to draw more than all that it was told
    cdef public int64_t confirmed_seq       # -1 where none is
    cdef public int64_t confirmed_limit
    cdef public double confirmed_until
    cdef readonly int64_t in_force          # the most that it may allow
    cdef readonly int64_t committed         # the most that it may draw
    cdef Values sent            # neither confirmed nor rejected, nor followed by one that was
    cdef Values settling        # allowed before, and perhaps still drawn

    def __init__(self, int64_t fallback, int64_t rating, bint ordered):
        self.fallback = fallback
        self.rating = rating
        self.ordered = ordered
        self.confirmed_seq = self.confirmed_limit = -1
        self.confirmed_until = 0.0
        self.sent = Values()
        self.settling = Values()
        self.in_force = self.committed = max(fallback, rating)

    cpdef int64_t told(self, double at) except -1:
        """The largest limit that it may apply at some time by what is known to be sent."""
        cdef int64_t most = self.fallback
        cdef Py_ssize_t i
        if self.confirmed_limit > most and self.confirmed_until > at:
            most = self.confirmed_limit
        for i in range(self.sent.n):
            if self.sent.item[i].limit > most and self.sent.item[i].until > at:
                most = self.sent.item[i].limit
        return most

    cpdef int64_t recount(self, double at, double lag) except? -1:
        """Count anew at some time; return by how much what is committed rose.

        What is no longer allowed may still be drawn for `lag` seconds.
        """
        cdef int64_t most = self.told(at), before = self.committed
        cdef Py_ssize_t i
        if (not self.known or self.disobeys) and self.rating > most:
            most = self.rating
        if most < self.in_force and lag > 0.0:
            self.settling.add(-1, self.in_force, at + lag)
        self.in_force = self.committed = most
        for i in reversed(range(self.settling.n)):
            if self.settling.item[i].limit <= most or self.settling.item[i].until <= at:
                self.settling.remove(i)
            elif self.settling.item[i].limit > self.committed:
                self.committed = self.settling.item[i].limit
        return self.committed - before

    cpdef double until(self, int64_t limit, double at) except? -1.0:
        """How long a limit of at least this size may be in force, whatever else becomes known."""
        cdef double earliest = self.confirmed_until
        cdef Py_ssize_t i
        # The fallback is no cover: it may be lowered, and a crash forgets what is not written down.
        if limit <= 0:
            return INFINITY
        # Each of these may turn out to be the one that counts, and prove the others dead.
        if not self.known or self.confirmed_limit < limit:
            return at
        for i in range(self.sent.n):
            if self.sent.item[i].limit < limit:
                return at
            earliest = min(earliest, self.sent.item[i].until)
        return max(earliest, at)

    cpdef double next_change(self, double at) except? -1.0:
        """When a lease or the time to settle is over next; infinite if none is."""
        cdef double soonest = INFINITY
        if at < self.confirmed_until:
            soonest = self.confirmed_until
        return self.settling.soonest(at, self.sent.soonest(at, soonest))

    cpdef int send(self, int64_t seq, int64_t limit, double until, double at) except -1:
        """Note a command, before it is sent."""
        if self.sent.n >= MANY:
            self.sent.keep_later(-1, at)
        self.sent.add(seq, limit, until)
        return 0

    cpdef bint confirm(self, int64_t seq) except -1:
        """Take a command for the one in force; return whether that says anything new."""
        cdef Py_ssize_t i = self.sent.find(seq)
        if seq <= self.confirmed_seq or i < 0:
            return False
        self.resolve(seq, self.sent.item[i].limit, self.sent.item[i].until)
        return True

    cpdef bint reject(self, int64_t seq) except -1:
        """Take a command for one that never was; return whether that says anything new."""
        cdef Py_ssize_t i = self.sent.find(seq)
        if i < 0:
            return False
        self.sent.remove(i)
        return True

    cpdef bint read_back(self, int64_t limit, object seq) except -1:
        """Take what the connector says of itself; return whether that says anything new.

        With the number of the newest command that it has, it confirms that command, and may go on
        to allow as much however little it says it does just now. Without a number this may be
        older than what is known, so it only tells of a connector of which nothing is known.
        """
        cdef int64_t number, known
        cdef double until
        cdef Py_ssize_t i
        if seq is None:
            if self.known:
                return False
            self.resolve(-1, limit, INFINITY)
            return True
        number = seq
        i = self.sent.find(number)
        if i >= 0 and number > self.confirmed_seq:
            known, until = self.sent.item[i].limit, self.sent.item[i].until
        elif number == self.confirmed_seq and self.confirmed_limit >= 0:
            known, until = self.confirmed_limit, self.confirmed_until
        else:
            return False
        if limit > known:
            # It has more than it was told, from whom we do not know, and not by our lease.
            known, until = limit, INFINITY
        self.resolve(number, known, until)
        return True

    cdef void resolve(self, int64_t seq, int64_t limit, double until) noexcept:
        self.known = True
        self.confirmed_seq, self.confirmed_limit, self.confirmed_until = seq, limit, until
        if self.ordered:
            # Whatever is older comes too late from now on.
            self.sent.keep_later(seq, -INFINITY)

    cpdef int is_settled(self) except -1:
        """Note that no more is drawn than may be in force."""
        self.settling.n = 0
        return 0

    @property
    def settles_at(self):
        """When no more is drawn than may be in force, at the latest; 0.0 if that is so now."""
        cdef double latest = 0.0
        cdef Py_ssize_t i
        for i in range(self.settling.n):
            latest = max(latest, self.settling.item[i].until)
        return latest

    def shift(self, double seconds):
        """Move all times, as by another clock."""
        cdef Values values
        cdef Py_ssize_t i
        self.confirmed_until += seconds
        for values in (self.sent, self.settling):
            for i in range(values.n):
                values.item[i].until += seconds

    def state(self):
        """All that counts, in what JSON knows."""
        return {
            "fallback": self.fallback,
            "rating": self.rating,
            "ordered": self.ordered,
            "known": self.known,
            "disobeys": self.disobeys,
            "confirmed": [self.confirmed_seq, self.confirmed_limit,
                          plain_time(self.confirmed_until)],
            "sent": self.sent.plain(),
            "settling": self.settling.plain(),
            "in_force": self.in_force,
            "committed": self.committed,
        }

    def set_state(self, state):
        """Become what another one was."""
        self.fallback = state["fallback"]
        self.rating = state["rating"]
        self.ordered = state["ordered"]
        self.known = state["known"]
        self.disobeys = state["disobeys"]
        self.confirmed_seq, self.confirmed_limit, until = state["confirmed"]
        self.confirmed_until = time_of(until)
        self.sent.set_plain(state["sent"])
        self.settling.set_plain(state["settling"])
        self.in_force = state["in_force"]
        self.committed = state["committed"]


cdef class Sum:
    """What is committed below a group."""

    cdef public object group
    cdef public object below                # its connectors, by their places in the site
    cdef public int64_t committed, usable

    def __init__(self, group, below):
        self.below = below
        self.take(group)

    def take(self, group):
        """Note what the group may draw."""
        self.group = group
        self.usable = usable_quanta(group)


cdef class Site:
    """A tree of groups, and the connectors that want more than there is room for yet."""

    cdef public object layout
    cdef public list sums, plugs
    cdef public dict blocked

    def __init__(self, layout):
        self.layout = layout
        self.sums = []
        self.plugs = []
        self.blocked = {}


cdef class Plug(Account):
    """A connector, and what is due there."""

    cdef readonly tuple key
    cdef readonly str text                    # how records of a journal name it
    cdef public double lease                # seconds; infinite for none
    cdef public Site site                   # None once it is removed
    cdef public Py_ssize_t place
    cdef public tuple sums                  # of its group and of all above it
    cdef public int64_t least               # what sustains a session
    cdef public int64_t target
    cdef public int64_t newest_seq, newest_limit    # what was sent last; -1 where nothing was
    cdef public double tried_at             # when that was
    cdef public double raised_at            # when something larger than before was sent last
    cdef public double unanswered_since     # the first command that nothing has been heard of
    cdef public double wanted_since         # since when an increase waits for headroom
    cdef public bint offline
    cdef public bint silent                 # it has answered nothing for too long
    cdef public bint refuses                # it rejected what was sent last
    cdef public bint stale                  # it may have forgotten what was sent
    cdef public double wake_at
    # What is known of its draw.
    cdef public double over_since, low_since, released_at
    cdef public int64_t low_peak
    cdef public int64_t ceiling             # more than it makes use of; -1 where that is not known
    cdef public int64_t session             # the number of the session that this holds for

    def __init__(self, tuple key, int64_t fallback, int64_t rating, double lease, bint ordered):
        Account.__init__(self, fallback, rating, ordered)
        self.key = key
        self.text = dumps(key).removeprefix("[").removesuffix("]")
        self.lease = lease
        self.sums = ()
        self.newest_seq = self.newest_limit = self.ceiling = self.session = -1
        self.tried_at = self.raised_at = -INFINITY
        self.unanswered_since = self.wanted_since = self.wake_at = INFINITY
        self.over_since = self.low_since = self.released_at = INFINITY

    def come_back(self, int64_t fallback, int64_t rating, bint ordered, double at):
        """Be a connector of which nothing is known, but that what was sent may still arrive.

        It goes on with its numbers, so that answers from before tell nothing of what is sent now.
        """
        self.fallback, self.rating, self.ordered = fallback, rating, ordered
        self.known = self.disobeys = False
        self.offline = self.silent = self.refuses = False
        self.newest_limit = self.ceiling = self.session = -1
        self.tried_at = self.raised_at = -INFINITY
        self.unanswered_since = self.wanted_since = self.wake_at = INFINITY
        self.over_since = self.low_since = self.released_at = INFINITY
        self.target = 0
        self.confirmed_limit = -1
        self.settling.n = 0
        self.in_force = 0
        self.recount(at, 0.0)

    @property
    def held(self):
        """Whether it cannot be told what to do, so that others are planned around it."""
        return self.is_held()

    cdef inline bint is_held(self) noexcept:
        return self.offline or self.silent or self.refuses or self.disobeys

    cdef inline bint goes_by_another(self) noexcept:
        """Whether it has the last command, and allows more than that, from whom we do not know."""
        return (
            self.confirmed_seq == self.newest_seq and self.confirmed_limit > self.newest_limit
        )

    def state(self):
        return {
            **Account.state(self),
            "newest": [self.newest_seq, self.newest_limit],
            "tried_at": self.tried_at if self.newest_seq >= 0 else None,
        }

    def set_state(self, state):
        Account.set_state(self, state)
        self.newest_seq, self.newest_limit = state["newest"]
        self.tried_at = -INFINITY if state["tried_at"] is None else state["tried_at"]


cdef class Draft:
    """A command that is taken for sent, and how to take it back before it is."""

    cdef readonly Plug plug
    cdef readonly object command
    cdef readonly bint raises               # more may be in force than before
    cdef readonly bint extends              # a limit may be in force that could not be, or for longer
    cdef int64_t seq, in_force, committed, newest_limit
    cdef double tried_at, raised_at, unanswered_since
    cdef bint stale
    cdef list settling


cdef class Desk:
    """All connectors of a dispatcher: what is committed, what is due, what waits."""

    cdef object registry
    cdef readonly double skew, lag
    cdef double retry, patience, between, probe_after, smallest_share
    cdef int64_t smallest_change
    cdef public double now
    cdef public int64_t epoch
    cdef public bint writes                 # there is a journal
    cdef public bint has_epoch              # nobody else sends the same numbers
    cdef public bint is_mute                # it could not be written, so that nothing is raised
    cdef public list records                # to be written next
    cdef public dict todo                   # connectors to look at in the next plan
    cdef public dict stirred                # sites where there may be room that there was not
    cdef public dict over                   # sums that exceed what is usable
    cdef public dict released               # connectors with a ceiling
    cdef list wakes
    cdef int64_t n_wakes

    def __init__(
        self, registry, *, double skew, double lag, double retry, double patience, double between,
        double probe_after, int64_t smallest_change, double smallest_share,
    ):
        self.registry = registry
        self.has_epoch = True
        self.skew = skew
        self.lag = lag
        self.retry = retry
        self.patience = patience
        self.between = between
        self.probe_after = probe_after
        self.smallest_change = smallest_change
        self.smallest_share = smallest_share
        self.records = []
        self.todo = {}
        self.stirred = {}
        self.over = {}
        self.released = {}
        self.wakes = []

    # What is sent

    def aim(self, Site site not None, list targets not None):
        """Note what each connector of a site is to have."""
        cdef Plug plug
        cdef Py_ssize_t i
        cdef int64_t target
        if len(targets) != len(site.plugs):
            raise ValueError(f"targets must be {len(site.plugs)}, got {len(targets)}")
        for i in range(len(targets)):
            plug, target = site.plugs[i], targets[i]
            if target != plug.target:
                plug.target = target
                self.todo[plug] = None

    def send_due(self):
        """Take what may be sent now for sent; return the drafts."""
        cdef list drafts = []
        cdef Plug plug
        cdef Draft draft
        cdef Site site
        if not self.has_epoch:
            return drafts
        todo, self.todo = self.todo, {}
        for plug in todo:
            self.attend(plug, drafts)
        stirred, self.stirred = self.stirred, {}
        for site in stirred:
            if site.blocked:
                for plug in sorted(site.blocked, key=turn):
                    self.raise_limit(plug, drafts)
        for plug in todo:
            self.schedule(plug, self.now)
        for draft in drafts:
            if draft.raises:
                self.schedule(draft.plug, self.now)
        return drafts

    cdef int attend(self, Plug plug, list drafts) except -1:
        """Send what is due at a connector, or let it wait if it allows more than may be in force."""
        cdef int64_t limit = 0
        cdef Site site = plug.site
        if site is None:
            return 0
        why = self.wish(plug, &limit)
        if why is None or limit <= plug.in_force:
            if plug.wanted_since < INFINITY:
                site.blocked.pop(plug, None)
                plug.wanted_since = INFINITY
            if why is not None:
                self.send(plug, limit, why, drafts)
            return 0
        if plug.wanted_since == INFINITY:
            site.blocked[plug] = None
            plug.wanted_since = self.now
        self.stirred[site] = None
        return 0

    cdef int raise_limit(self, Plug plug, list drafts) except -1:
        """Send an increase if there is room for it in every group above."""
        cdef int64_t limit = 0, more
        cdef Sum s
        why = self.wish(plug, &limit)
        if why is not None and limit > plug.in_force:
            if self.is_mute:
                return 0
            more = max(limit - plug.committed, 0)
            for s in plug.sums:
                if s.committed + more > s.usable:
                    return 0
        del plug.site.blocked[plug]
        plug.wanted_since = INFINITY
        if why is None:
            self.schedule(plug, self.now)
        else:
            self.send(plug, limit, why, drafts)
        return 0

    cdef object wish(self, Plug plug, int64_t *limit):
        """What is to be sent to a connector and why, whether or not it may be; None for nothing."""
        cdef int64_t newest = plug.newest_limit, gain
        if plug.offline:
            return None
        if plug.is_held():
            # It goes on to be told what it was told, or less where too much is committed.
            if self.now < plug.tried_at + self.retry:
                return None
            limit[0] = plug.committed if newest < 0 else min(newest, plug.committed)
            if plug.key not in self.registry._sessions:
                limit[0] = 0
            if is_over(plug):
                limit[0] = min(limit[0], plug.least)
            return "refresh" if limit[0] == newest else "decrease"
        limit[0] = plug.target
        if not plug.known and limit[0] > plug.fallback and is_over(plug):
            # It may draw little just now, and whoever draws much may not hear of it.
            limit[0] = plug.fallback if plug.fallback >= plug.least else 0
        if newest < 0:
            return "increase" if limit[0] > plug.committed else "decrease"
        gain = limit[0] - newest
        if gain < 0:
            return "decrease"
        if gain > 0 and self.now >= plug.raised_at + self.between and (
            gain >= self.smallest_change or gain >= self.smallest_share * newest
        ):
            return "increase"
        if (
            plug.stale
            or plug.goes_by_another()
            or (plug.unanswered_since < INFINITY and self.now >= plug.tried_at + self.retry)
            or self.now >= self.renew_at(plug)
        ):
            limit[0] = newest
            return "refresh"
        return None

    cdef double renew_at(self, Plug plug) except? -1.0:
        """When the lease of what was sent last is to be renewed, if it is."""
        if plug.lease == INFINITY or plug.newest_limit == plug.fallback:
            return INFINITY
        if plug.newest_limit < plug.fallback and plug.key not in self.registry._sessions:
            return INFINITY     # It costs the fallback as it is.
        return plug.tried_at + plug.lease / 2

    cdef int send(self, Plug plug, int64_t limit, str why, list drafts) except -1:
        """Take a command for sent, and note it to be written down before it is."""
        cdef double expires = self.now + plug.lease, until = expires + self.skew
        cdef double known_until = plug.until(limit, self.now)
        cdef bint extends = until > known_until
        cdef int64_t seq = max(plug.newest_seq + 1, self.epoch * SEQS_PER_EPOCH)
        cdef Draft draft
        if extends and self.is_mute:
            # Only what the journal tells of already may be in force.
            self.todo[plug] = None
            if known_until <= self.now + self.skew or why == "refresh":
                return 0
            until, extends = known_until, False
            expires = known_until - self.skew
        draft = Draft.__new__(Draft)
        draft.plug = plug
        draft.raises = limit > plug.in_force
        draft.extends = extends
        draft.seq = seq
        draft.in_force, draft.committed = plug.in_force, plug.committed
        draft.settling = plug.settling.plain() if extends and plug.settling.n else []
        draft.newest_limit, draft.stale = plug.newest_limit, plug.stale
        draft.tried_at, draft.raised_at = plug.tried_at, plug.raised_at
        draft.unanswered_since = plug.unanswered_since
        draft.command = command(plug, seq, limit, expires, why)
        drafts.append(draft)
        plug.send(seq, limit, until, self.now)
        plug.newest_seq, plug.newest_limit = seq, limit
        plug.tried_at, plug.stale = self.now, False
        if why == "increase":
            plug.raised_at = self.now
        if plug.unanswered_since > self.now:
            plug.unanswered_since = self.now
        self.recount(plug, self.now)
        if self.writes:
            end = "null" if until == INFINITY else repr(until)
            self.records.append(f'["command",{self.now!r},{plug.text},{seq},{limit},{end}]')
        return 0

    def hold_back(self, list drafts):
        """Take back what a journal would have to know of, as it could not be written."""
        cdef list left = []
        cdef Draft draft
        cdef Plug plug
        cdef int64_t committed
        for draft in drafts:
            if not draft.extends:
                left.append(draft)
        for draft in drafts:
            if not draft.extends:
                continue
            plug = draft.plug
            plug.sent.remove(plug.sent.find(draft.seq))
            committed = plug.committed
            plug.in_force, plug.committed = draft.in_force, draft.committed
            plug.settling.set_plain(draft.settling)
            plug.newest_limit, plug.stale = draft.newest_limit, draft.stale
            plug.tried_at, plug.raised_at = draft.tried_at, draft.raised_at
            plug.unanswered_since = draft.unanswered_since
            self.shift(plug, plug.committed - committed)
            self.attend(plug, left)
            self.todo[plug] = None
        return left

    # What is committed

    cpdef int recount(self, Plug plug, double at) except -1:
        """Count a connector anew, and all groups above it."""
        cdef int64_t more = plug.recount(at, self.lag)
        if more:
            self.shift(plug, more)
        return 0

    cdef int shift(self, Plug plug, int64_t more) except -1:
        """Note that more, or less, is committed at a connector."""
        cdef Sum s
        for s in plug.sums:
            s.committed += more
            self.watch(s)
        if more < 0 and plug.site is not None:
            self.stirred[plug.site] = None
        if plug.is_held():
            self.keep(plug)
        return 0

    cpdef int watch(self, Sum s) except -1:
        """Note whether more is committed below a group than it may draw."""
        if s.committed > s.usable:
            self.over[s] = None
        elif self.over:
            self.over.pop(s, None)
        return 0

    cpdef int keep(self, Plug plug) except -1:
        """Let the registry know what a connector costs in any case."""
        self.todo[plug] = None
        self.registry._set_terms(
            plug.key,
            Terms(
                plug.fallback / PER_KW,
                plug.committed / PER_KW if plug.is_held() else None,
                None if plug.ceiling < 0 else plug.ceiling / PER_KW,
            ),
        )
        return 0

    cpdef int set_ceiling(self, Plug plug, int64_t ceiling) except -1:
        """Note that a session makes use of less than this, or with -1, that it may of anything."""
        plug.low_since = plug.released_at = INFINITY
        plug.ceiling = ceiling
        if ceiling < 0:
            self.released.pop(plug, None)
        else:
            plug.released_at = self.now
            plug.session = self.session(plug)
            self.released[plug] = None
            self.schedule(plug, self.now)
        return self.keep(plug)

    cpdef int64_t session(self, Plug plug) except? -1:
        """The number of the session at a connector, -1 for none."""
        running = self.registry._sessions.get(plug.key)
        return -1 if running is None else running.number

    # Time

    def advance(self, double now):
        """Let what was due by now happen, each at its time."""
        cdef Plug plug
        while self.wakes and self.wakes[0][0] <= now:
            at, _, plug = heappop(self.wakes)
            if plug.wake_at == at:
                plug.wake_at = INFINITY
                self.now = at
                self.wake(plug)
        self.now = now

    cdef int wake(self, Plug plug) except -1:
        self.recount(plug, self.now)
        if not plug.is_held() and self.now >= plug.unanswered_since + self.patience:
            plug.silent = True
            self.keep(plug)
        if self.now >= plug.released_at + self.probe_after:
            self.set_ceiling(plug, -1)
        self.todo[plug] = None
        return self.schedule(plug, self.now)

    cpdef int schedule(self, Plug plug, double at) except -1:
        """See to it that a connector is looked at when something is due there next."""
        cdef double soonest
        if plug.site is None:
            return 0
        soonest = min(plug.next_change(at), plug.released_at + self.probe_after)
        if plug.newest_limit >= 0 and not plug.offline:
            if plug.unanswered_since < INFINITY or plug.is_held():
                soonest = sooner(plug.tried_at + self.retry, soonest, at)
                soonest = sooner(plug.unanswered_since + self.patience, soonest, at)
            if not plug.is_held():
                if plug.lease < INFINITY:
                    soonest = sooner(self.renew_at(plug), soonest, at)
                if plug.target > plug.newest_limit:
                    soonest = sooner(plug.raised_at + self.between, soonest, at)
        if soonest != plug.wake_at:
            plug.wake_at = soonest
            if soonest < INFINITY:
                self.n_wakes += 1
                heappush(self.wakes, (soonest, self.n_wakes, plug))
        return 0

    def next_wake(self):
        """When something is due next; infinite if nothing is."""
        cdef Plug plug
        while self.wakes:
            at, _, plug = self.wakes[0]
            if plug.wake_at == at:
                return at
            heappop(self.wakes)
        return INFINITY

    def turn_back(self, plugs, double now):
        """Go by a clock that began anew: what was left to wait for is waited for in full."""
        cdef Plug plug
        cdef double less = now - self.now
        self.wakes = []
        for plug in plugs:
            plug.shift(less)
            plug.tried_at += less
            plug.unanswered_since += less
            plug.wake_at = INFINITY
            self.schedule(plug, now)


cdef object command(Plug plug, int64_t seq, int64_t limit, double expires, str why):
    """As the __init__ of a frozen record sets its fields, in a third of the time."""
    station, connector = plug.key
    record = Command.__new__(Command)
    PyObject_GenericSetAttr(record, "station", station)
    PyObject_GenericSetAttr(record, "connector", connector)
    PyObject_GenericSetAttr(record, "seq", seq)
    PyObject_GenericSetAttr(record, "limit", limit / PER_KW)
    PyObject_GenericSetAttr(record, "expires", plain_time(expires))
    PyObject_GenericSetAttr(record, "why", why)
    return record


cdef inline double sooner(double time, double soonest, double at) noexcept:
    """A time that is still to come if it comes before the soonest so far."""
    return time if at < time < soonest else soonest


cdef bint is_over(Plug plug):
    """Say whether more may be in force than is usable, in a group above a connector."""
    cdef Sum s
    for s in plug.sums:
        if s.committed > s.usable:
            return True
    return False


def disobeying(plugs):
    """The keys of connectors that were seen to draw more than all that they were told."""
    cdef Plug plug
    return frozenset([plug.key for plug in plugs if plug.disobeys])


def turn(Plug plug not None):
    """Whose increase comes first: who has nothing, then who has waited longest."""
    return plug.newest_limit > 0, plug.wanted_since, plug.place
