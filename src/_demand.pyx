# SPDX-License-Identifier: Apache-2.0
"""What the sessions of one tree of groups ask for, kept in the arrays that the kernel reads.

An event writes the cells of its connector, and nothing is gathered again. An answer has numbers
of its own, so nothing that happens later changes it. `wattfill.registry` has checked every number
that comes here; connectors and groups are called by their places in the layout of the tree.
"""
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from cpython.object cimport PyObject_GenericSetAttr
from libc.math cimport INFINITY, rint
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memcpy, memset

from wattfill._kernel cimport plant_batch, scratch_size, solve_batch, wattfill_batch

from wattfill._records import ConnectorAllocation, GroupAllocation
from wattfill.reason import Reason

cdef tuple REASONS = tuple(Reason)


cdef extern from "wattfill.h" nogil:
    int WATTFILL_PAUSED


cdef void *memory(size_t size) except NULL:
    cdef void *start = PyMem_RawMalloc(size)
    if start == NULL:
        raise MemoryError
    return start


cdef int refuse(Py_ssize_t place, int64_t n) except -1:
    """Raise if there is no such place among n."""
    if not 0 <= place < n:
        raise IndexError(place)
    return 0


cdef double beyond(double more, double less, double per_unit) noexcept:
    """By how much one number of quanta exceeds another, in units; 0 where it does not."""
    # Each is a whole number of quanta, rounded; the difference of the floats is not.
    return max(rint(more * per_unit) - rint(less * per_unit), 0.0) / per_unit


cdef class Block:
    """One piece of memory for the arrays of a tree: words of 8 bytes, and bytes behind them."""

    cdef readonly object layout
    cdef int64_t n_connectors, n_groups
    cdef double per_unit                    # quanta in one unit of power
    cdef double *words
    cdef Py_ssize_t size                    # in bytes

    cdef uint8_t *reserve(
        self, layout, double per_unit, int64_t per_connector, int64_t per_group
    ) except NULL:
        """Take memory for this many words, one more, and a byte per connector; return the bytes."""
        cdef int64_t n = len(layout.keys), m = len(layout.groups)
        assert self.words == NULL
        cdef int64_t n_words = per_connector * n + per_group * m + 1
        self.layout = layout
        self.n_connectors = n
        self.n_groups = m
        self.per_unit = per_unit
        self.size = 8 * n_words + n
        self.words = <double *> memory(self.size)
        memset(self.words, 0, self.size)
        return <uint8_t *> (self.words + n_words)

    def __dealloc__(self):
        PyMem_RawFree(self.words)

    # Copies and pickles are made from the layout and what the block holds.

    def __reduce__(self):
        return type(self), (self.layout, self.per_unit), (<char *> self.words)[:self.size]

    def __setstate__(self, const uint8_t[::1] state not None):
        if state.shape[0] != self.size:
            raise ValueError(f"state must have {self.size} bytes, got {state.shape[0]}")
        memcpy(self.words, &state[0], self.size)
        self.count()

    cdef void count(self) noexcept:
        """Find again what follows from the numbers."""


cdef class Answer(Block):
    """What was solved for one tree. It never changes; `Demand.solve` makes it."""

    cdef readonly bint short                # the minimums below some group do not fit
    cdef double *power                      # (n_connectors,)
    cdef double *maximum                    # (n_connectors,)
    cdef int64_t *bound_by                  # (n_connectors,)
    cdef double *level                      # (n_groups,)
    cdef double *usable                     # (n_groups,)
    cdef double *used                       # (n_groups,)
    cdef double *needed                     # (n_groups,)
    cdef uint8_t *reason                    # (n_connectors,)

    def __init__(self, layout, double per_unit):
        self.reason = self.reserve(layout, per_unit, 3, 4)
        self.power = self.words
        self.maximum = self.power + self.n_connectors
        self.bound_by = <int64_t *> (self.maximum + self.n_connectors)
        self.level = self.maximum + 2 * self.n_connectors
        self.usable = self.level + self.n_groups
        self.used = self.usable + self.n_groups
        self.needed = self.used + self.n_groups

    cdef void count(self) noexcept:
        cdef int64_t g
        self.short = False
        for g in range(self.n_groups):
            self.short = self.short or self.needed[g] > self.usable[g]

    def tell_powers(self, dict powers not None):
        """Write the power of every connector under its key."""
        cdef Py_ssize_t i
        for i, key in enumerate(self.layout.keys):
            powers[key] = self.power[i]

    def quanta(self):
        """The power of every connector in whole quanta."""
        cdef Py_ssize_t i
        return [<int64_t> rint(self.power[i] * self.per_unit) for i in range(self.n_connectors)]

    def paused(self):
        """The connectors whose minimum did not fit."""
        cdef Py_ssize_t i
        return {i for i in range(self.n_connectors) if self.reason[i] == WATTFILL_PAUSED}

    def connector(self, Py_ssize_t i):
        """What one connector may draw, and why."""
        refuse(i, self.n_connectors)
        cdef int64_t bound_by = self.bound_by[i]
        cdef list groups = self.layout.groups
        station, connector = self.layout.keys[i]
        # As the __init__ of a frozen record sets its fields, in a third of the time.
        record = ConnectorAllocation.__new__(ConnectorAllocation)
        PyObject_GenericSetAttr(record, "station", station)
        PyObject_GenericSetAttr(record, "connector", connector)
        PyObject_GenericSetAttr(record, "group", groups[self.layout.owner[i]])
        PyObject_GenericSetAttr(record, "power", self.power[i])
        PyObject_GenericSetAttr(record, "reason", REASONS[self.reason[i]])
        PyObject_GenericSetAttr(record, "bound_by", groups[bound_by] if bound_by >= 0 else None)
        PyObject_GenericSetAttr(record, "minimum", self.layout.minimum[i])
        PyObject_GenericSetAttr(record, "maximum", self.maximum[i])
        return record

    def group(self, Py_ssize_t g):
        """What one group uses of what it may."""
        refuse(g, self.n_groups)
        cdef double usable = self.usable[g], used = self.used[g]
        return GroupAllocation(
            self.layout.groups[g],
            usable,
            used,
            beyond(usable, used, self.per_unit),
            beyond(self.needed[g], usable, self.per_unit),
            self.level[g],
        )


cdef class Demand(Block):
    """What the sessions of one tree ask for. At first there are none, and no capacities."""

    cdef wattfill_batch batch
    cdef int64_t n_weighted, n_preferred    # weights that are not 1, priorities that are not 0
    cdef int64_t n_kept                     # connectors that cost something without a session
    cdef Answer latest
    # What is known of each connector; (n_connectors,)
    cdef double *least                      # its effective minimum
    cdef double *rating                     # its maximum without a session
    cdef double *asked                      # what the session can take; below 0 for no session
    cdef double *fallback                   # what it costs whether or not it has a session
    cdef double *kept                       # what it holds while it cannot be told; below 0 if it can
    cdef double *ceiling                    # what it makes use of
    # What follows from it; (n_connectors,)
    cdef double *minimum
    cdef double *maximum
    cdef uint8_t *active
    cdef double *weight                     # (n_connectors,)
    cdef double *rank                       # (n_connectors,)
    cdef int64_t *priority                  # (n_connectors,)
    cdef double *capacity                   # (n_groups,)
    cdef double *buffer                     # (n_groups,)
    cdef double *load                       # (n_groups,) what is not ours to steer
    cdef double *reserved                   # (n_groups,) that, and what connectors below it keep
    cdef int64_t *parent                    # (n_groups,)
    cdef int64_t *offsets                   # (n_groups + 1,)

    def __init__(self, layout, double per_unit):
        self.active = self.reserve(layout, per_unit, 11, 9)
        cdef int64_t n = self.n_connectors, m = self.n_groups, i, g
        self.least = self.words
        self.rating = self.least + n
        self.asked = self.rating + n
        self.fallback = self.asked + n
        self.kept = self.fallback + n
        self.ceiling = self.kept + n
        self.minimum = self.ceiling + n
        self.maximum = self.minimum + n
        self.weight = self.maximum + n
        self.rank = self.weight + n
        self.priority = <int64_t *> (self.rank + n)
        self.capacity = self.rank + 2 * n
        self.buffer = self.capacity + m
        self.load = self.buffer + m
        self.reserved = self.load + m
        self.parent = <int64_t *> (self.reserved + m)
        cdef int64_t *order = self.parent + m
        self.offsets = order + 3 * m
        assert len(layout.minimum) == len(layout.maximum) == n
        assert len(layout.offsets) == m + 1 and len(layout.parent) == m
        for i in range(n):
            self.least[i] = self.minimum[i] = layout.minimum[i]
            self.rating[i] = self.maximum[i] = layout.maximum[i]
            self.asked[i] = self.kept[i] = -1.0
            self.ceiling[i] = INFINITY
            self.weight[i] = 1.0
        for g in range(m):
            self.parent[g] = layout.parent[g]
            self.offsets[g + 1] = layout.offsets[g + 1]

        # Whatever is not set here is absent.
        self.batch.n_connectors = n
        self.batch.n_groups = m
        self.batch.minimum = self.minimum
        self.batch.maximum = self.maximum
        self.batch.offsets = self.offsets
        self.batch.capacity = self.capacity
        self.batch.buffer = self.buffer
        self.batch.reserved = self.reserved
        self.batch.rank = self.rank
        self.batch.active = self.active
        self.batch.per_unit = per_unit
        cdef int64_t *scratch = NULL
        if m > 1:
            self.batch.parent = self.parent
            self.batch.order = order
            self.batch.first = order + m
            self.batch.up = order + 2 * m
            scratch = <int64_t *> memory(2 * m * sizeof(int64_t))
        plant_batch(&self.batch, scratch)
        PyMem_RawFree(scratch)

    cdef void count(self) noexcept:
        cdef int64_t i
        self.n_weighted = self.n_preferred = self.n_kept = 0
        for i in range(self.n_connectors):
            self.n_weighted += self.weight[i] != 1.0
            self.n_preferred += self.priority[i] != 0
            self.n_kept += self.keeps(i)

    cdef inline bint keeps(self, int64_t i) noexcept nogil:
        return self.fallback[i] > 0.0 or self.kept[i] >= 0.0

    cdef void settle(self, Py_ssize_t i) noexcept:
        """Find again what the kernel reads of a connector."""
        self.active[i] = self.asked[i] >= 0.0 and self.kept[i] < 0.0
        self.minimum[i] = max(self.least[i], self.fallback[i])
        self.maximum[i] = max(
            min(min(self.rating[i], self.asked[i] if self.asked[i] >= 0.0 else INFINITY),
                self.ceiling[i]),
            self.minimum[i],
        )

    cdef void write(
        self, Py_ssize_t i, double asked, double weight, int64_t priority
    ) noexcept:
        self.n_weighted += (weight != 1.0) - (self.weight[i] != 1.0)
        self.n_preferred += (priority != 0) - (self.priority[i] != 0)
        self.asked[i] = asked
        self.weight[i] = weight
        self.priority[i] = priority
        self.settle(i)

    def start(self, Py_ssize_t i, maximum, double weight, int64_t priority, double rank):
        """Note a session at connector i."""
        self.update(i, maximum, weight, priority)
        self.rank[i] = rank

    def update(self, Py_ssize_t i, maximum, double weight, int64_t priority):
        """Note what the session at connector i asks for now."""
        refuse(i, self.n_connectors)
        self.write(i, INFINITY if maximum is None else maximum, weight, priority)

    def stop(self, Py_ssize_t i):
        """Note that there is no session at connector i."""
        refuse(i, self.n_connectors)
        self.write(i, -1.0, 1.0, 0)
        self.rank[i] = 0.0

    def keep(self, Py_ssize_t i, double fallback, kept, ceiling):
        """Note what connector i costs in any case, and what more is known of it.

        It costs its fallback with or without a session, and all that it keeps, as long as it
        cannot be told to do with less; then its session takes no part. Its session makes no use
        of more than the ceiling. None stands for no such thing.
        """
        refuse(i, self.n_connectors)
        self.n_kept -= self.keeps(i)
        self.fallback[i] = fallback
        self.kept[i] = -1.0 if kept is None else kept
        self.ceiling[i] = INFINITY if ceiling is None else ceiling
        self.n_kept += self.keeps(i)
        self.settle(i)

    def line_up(self, order):
        """Rank the sessions: connectors, who is admitted first first."""
        cdef Py_ssize_t i, at
        for at, i in enumerate(order):
            refuse(i, self.n_connectors)
            self.rank[i] = at

    def set_group(self, Py_ssize_t g, double capacity, double buffer, double reserved):
        """Note what group g may draw."""
        refuse(g, self.n_groups)
        self.capacity[g] = capacity
        self.buffer[g] = buffer
        self.load[g] = self.reserved[g] = reserved

    cdef void set_aside(self, bint everybody) noexcept:
        """Reserve what the connectors keep that take no part, or the fallback of everybody."""
        cdef int64_t i, g
        cdef double quanta, kept
        for g in range(self.n_groups):
            self.reserved[g] = 0.0
        for g in range(self.n_groups - 1, -1, -1):
            quanta = 0.0
            for i in range(self.offsets[g], self.offsets[g + 1]):
                if everybody or not self.active[i]:
                    kept = max(self.fallback[i], self.kept[i])
                    quanta += rint(kept * self.per_unit)
            # Those below it stand behind it, so that theirs are there already.
            self.reserved[g] += quanta
            if self.parent[g] >= 0:
                self.reserved[self.parent[g]] += self.reserved[g]
        for g in range(self.n_groups):
            self.reserved[g] = self.load[g] + self.reserved[g] / self.per_unit

    cdef bint has_fallbacks(self) noexcept:
        """Whether some session costs something even if it is paused."""
        cdef int64_t i
        for i in range(self.n_connectors):
            if self.active[i] and self.fallback[i] > 0.0:
                return True
        return False

    def solve(self):
        """Share the capacity among the sessions as they are now."""
        cdef Answer answer, first
        cdef int64_t i, g
        if not self.n_kept:
            answer = self.solve_once()
        else:
            self.set_aside(False)
            answer = self.solve_once()
            if answer.short and self.has_fallbacks():
                # Who is paused still costs the fallback. So all fallbacks are set aside, and who
                # is admitted is found by what each costs beyond its own.
                first = answer
                self.set_aside(True)
                for i in range(self.n_connectors):
                    self.minimum[i] = self.maximum[i] = self.minimum[i] - self.fallback[i]
                admitted = self.solve_once()
                paused = (<Answer> admitted).paused()
                for i in range(self.n_connectors):
                    self.settle(i)
                for i in paused:
                    self.active[i] = False
                self.set_aside(False)
                answer = self.solve_once()
                for i in paused:
                    self.settle(i)
                    answer.reason[i] = WATTFILL_PAUSED
                    answer.bound_by[i] = (<Answer> admitted).bound_by[i]
                for g in range(self.n_groups):
                    # What was short is short.
                    answer.needed[g] = first.needed[g] + (answer.usable[g] - first.usable[g])
                answer.count()
            for g in range(self.n_groups):
                self.reserved[g] = self.load[g]
        self.latest = answer
        return answer

    cdef Answer solve_once(self):
        cdef wattfill_batch *batch = &self.batch
        cdef Answer answer = Answer(self.layout, self.per_unit)
        memcpy(answer.maximum, self.maximum, self.n_connectors * sizeof(double))
        # Equal weights and priorities are left out: without them there is less to do.
        batch.weight = self.weight if self.n_weighted else NULL
        batch.priority = self.priority if self.n_preferred else NULL
        batch.guess = self.latest.level if self.latest is not None else NULL
        batch.power = answer.power
        batch.reason = answer.reason
        batch.bound_by = answer.bound_by
        batch.level = answer.level
        batch.usable = answer.usable
        batch.used = answer.used
        batch.needed = answer.needed
        cdef void *scratch = memory(scratch_size(batch))
        with nogil:
            solve_batch(batch, 0, self.n_groups, scratch)
        PyMem_RawFree(scratch)
        answer.count()
        return answer
