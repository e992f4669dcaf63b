# SPDX-License-Identifier: Apache-2.0
"""Share the usable capacity of groups among their connectors: arrays in, `Allocation` out.

An argument has two ways in. What the kernel can read as it stands, and lists of plain numbers,
are taken at a glance. All else goes to `wattfill._validate`, which turns it into what the kernel
can read, or says no: whatever is refused is refused there.
"""
from importlib import import_module

import numpy as np

cimport cython
cimport numpy as cnp
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_CheckExact
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_CheckExact
from cpython.object cimport PyObject
from libc.float cimport DBL_MAX
from libc.math cimport INFINITY
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memcmp, memmove

from wattfill._kernel cimport (
    NO_MEMORY, are_within, plant_batch, screen_all, solve_all, solve_sound, wattfill_batch,
)

from wattfill import _arrow, _validate
from wattfill.errors import MissingExtraError, WattfillError
from wattfill.reason import Reason

cnp.import_array()


cdef extern from "Python.h":
    PyObject *PySequence_Fast_GET_ITEM(object sequence, Py_ssize_t i)


cdef enum:
    FEW = 1024      # connectors and groups, which take about a microsecond

cdef double LIGHTEST = _validate.LIGHTEST
cdef double HEAVIEST = _validate.HEAVIEST
cdef double MOST_QUANTA = _validate.MOST_QUANTA
cdef double MOST_QUANTA_WEIGHTED = _validate.MOST_QUANTA_WEIGHTED
cdef double USUAL_RESOLUTION = 1e-6
cdef double USUAL_PER_UNIT = _validate.quanta_per_unit(USUAL_RESOLUTION)
# A number of NumPy's is a float with another name.
cdef object FLOAT64 = np.float64


# Arguments that can be taken as they are.


cdef inline bint is_real(object value) noexcept:
    return PyFloat_CheckExact(value) or type(value) is FLOAT64


cdef inline bint is_vector(object value, int type_number) noexcept:
    """Whether the kernel can read this as an array of such values, by its address alone."""
    if not cnp.PyArray_CheckExact(value):
        return False
    array = <cnp.ndarray> value
    return (
        cnp.PyArray_NDIM(array) == 1
        and cnp.PyArray_TYPE(array) == type_number
        and cnp.PyArray_ISCARRAY_RO(array)
    )


cdef inline Py_ssize_t length(object array) noexcept:
    return cnp.PyArray_DIM(<cnp.ndarray> array, 0)


cdef inline void *address(object array) noexcept:
    return cnp.PyArray_DATA(<cnp.ndarray> array)


cdef inline size_t size_of(object array) noexcept:
    """Bytes of an array of one dimension."""
    return length(array) * cnp.PyArray_ITEMSIZE(<cnp.ndarray> array)


cdef inline cnp.ndarray new_vector(Py_ssize_t n, int type_number):
    cdef cnp.npy_intp size = n
    return cnp.PyArray_SimpleNew(1, &size, type_number)


cdef object reals(object value):
    """Return an array of doubles that says what `value` says, or None if that takes more."""
    cdef double *x
    cdef Py_ssize_t i
    cdef int overflow = 0
    if is_vector(value, cnp.NPY_FLOAT64):
        return value
    if type(value) is not list and type(value) is not tuple:
        return None
    with cython.critical_section(value):
        array = new_vector(len(value), cnp.NPY_FLOAT64)
        x = <double *> address(array)
        for i in range(length(array)):
            item = <object> PySequence_Fast_GET_ITEM(value, i)
            if is_real(item):
                x[i] = PyFloat_AS_DOUBLE(item)
            elif PyLong_CheckExact(item):
                x[i] = <double> PyLong_AsLongLongAndOverflow(item, &overflow)
            else:
                return None
            if overflow:
                return None
    return array


cdef object integers(object value):
    """Return an array of 64-bit integers that says what `value` says, or None likewise."""
    cdef int64_t *x
    cdef Py_ssize_t i
    cdef int overflow = 0
    if is_vector(value, cnp.NPY_INT64):
        return value
    if type(value) is not list and type(value) is not tuple:
        return None
    with cython.critical_section(value):
        array = new_vector(len(value), cnp.NPY_INT64)
        x = <int64_t *> address(array)
        for i in range(length(array)):
            item = <object> PySequence_Fast_GET_ITEM(value, i)
            if not PyLong_CheckExact(item):
                return None
            x[i] = PyLong_AsLongLongAndOverflow(item, &overflow)
            if overflow:
                return None
    return array


cdef object booleans(object value):
    """Return an array of booleans that says what `value` says, or None likewise."""
    cdef uint8_t *x
    cdef Py_ssize_t i
    if is_vector(value, cnp.NPY_BOOL):
        return value
    if type(value) is not list and type(value) is not tuple:
        return None
    with cython.critical_section(value):
        array = new_vector(len(value), cnp.NPY_BOOL)
        x = <uint8_t *> address(array)
        for i in range(length(array)):
            item = <object> PySequence_Fast_GET_ITEM(value, i)
            if item is not True and item is not False:
                return None
            x[i] = item is True
    return array


cdef bint as_number(object value, double *x) noexcept:
    """Whether this is one plain number; if so, fill it in."""
    cdef int overflow = 0
    if is_real(value):
        x[0] = PyFloat_AS_DOUBLE(value)
        return True
    if PyLong_CheckExact(value):
        x[0] = <double> PyLong_AsLongLongAndOverflow(value, &overflow)
        return not overflow
    return False


cdef bint all_within(object array, int64_t n, double least, double most) noexcept:
    """Whether these are n numbers within least..most, which NaN and infinities never are."""
    return length(array) == n and are_within(n, <double *> address(array), least, most)


cdef bint are_offsets(object array, int64_t n_connectors) noexcept:
    """Whether these start at 0, never fall and end at the number of connectors."""
    cdef const int64_t *x = <int64_t *> address(array)
    cdef int64_t i, n = length(array)
    cdef bint ok = n > 0 and x[0] == 0 and x[n - 1] == n_connectors
    for i in range(n - 1):
        ok &= x[i] <= x[i + 1]
    return ok


cdef bint are_parents(object array, int64_t n) noexcept:
    """Whether each of n is another group, or -1."""
    cdef const int64_t *x = <int64_t *> address(array)
    cdef bint ok = length(array) == n
    cdef int64_t i
    for i in range(length(array)):
        ok &= (x[i] >= -1) & (x[i] < n) & (x[i] != i)
    return ok


cdef bint any_is_group(object parent) noexcept:
    """Whether there is a group among these, or -1 alone."""
    cdef const int64_t *x = <int64_t *> address(parent)
    cdef bint found = False
    cdef int64_t i
    for i in range(length(parent)):
        found |= x[i] >= 0
    return found


cdef inline bint all_below(const double *x, int64_t n, double per_unit, double limit) noexcept:
    """Whether all are below a limit in quanta, which may be infinite."""
    cdef bint ok = True
    cdef int64_t i
    if limit == INFINITY:
        return True
    for i in range(n):
        ok &= x[i] * per_unit < limit
    return ok


cdef object copied(object value):
    """Return a copy of an array; what is none cannot change."""
    return value.copy() if cnp.PyArray_CheckExact(value) else value


# What the kernel can do with a batch: look at its bounds, solve it, or both.
ctypedef int64_t (*Way)(const wattfill_batch *batch, int64_t n_threads) noexcept nogil


cdef struct Span:
    const char *start
    const char *stop


cdef enum:
    CAPACITY
    BUFFER
    RESERVED
    N_PER_GROUP

cdef enum:
    MOST_ARRAYS = 10    # without the offsets, which are copied


@cython.final
@cython.no_gc
@cython.auto_pickle(False)
@cython.freelist(8)
cdef class _Batch:
    """The arguments of one call, as the kernel reads them.

    It holds on to the arrays, and changes none. A number that stands for all groups is written
    out, for the kernel reads one per group.
    """

    cdef wattfill_batch c
    cdef object offsets     # None where one group owns all
    cdef int64_t ends[2]    # then these are the offsets
    cdef object minimum, maximum, capacity, buffer, reserved
    cdef object parent, weight, priority, rank, active, step    # None where absent
    cdef object filled      # (N_PER_GROUP, n_groups), where there are several groups, or None
    cdef double same[N_PER_GROUP]       # where there is one
    cdef Span read[MOST_ARRAYS]         # memory of the arrays
    cdef int n_read
    cdef object plan        # (5, n_groups): what plant() writes, and its scratch; or None
    cdef int64_t n_threads
    cdef double resolution

    cdef int take(
        self, minimum, maximum, capacity, offsets, buffer, reserved, parent, weight, priority,
        rank, active, step, resolution,
    ) except -1:
        """Take all arguments, or raise what `_validate` says against one."""
        cdef int64_t n, n_groups
        cdef double limit = MOST_QUANTA if weight is None else MOST_QUANTA_WEIGHTED
        cdef double per_unit = USUAL_PER_UNIT
        if not is_real(resolution) or PyFloat_AS_DOUBLE(resolution) != USUAL_RESOLUTION:
            per_unit = _validate.quanta_per_unit(resolution)
        self.resolution = resolution
        self.c.per_unit = per_unit
        self.step = step
        self.c.step = 0.0 if step is None else _validate.step(step, per_unit)

        self.minimum = reals(minimum)
        if self.minimum is None:
            self.minimum = _validate.reals("minimum", minimum)
        self.c.minimum = <double *> self.start_of(self.minimum)
        n = self.c.n_connectors = length(self.minimum)
        self.maximum = reals(maximum)
        if self.maximum is None or length(self.maximum) != n:
            self.maximum = _validate.maximum(maximum, n)
        self.c.maximum = <double *> self.start_of(self.maximum)

        if offsets is None:
            self.ends[1] = n
            self.c.offsets = self.ends
            n_groups = self.c.n_groups = 1
        else:
            self.offsets = integers(offsets)
            if self.offsets is None or not are_offsets(self.offsets, n):
                self.offsets = _validate.offsets(offsets, n)
            self.c.offsets = <int64_t *> address(self.offsets)
            n_groups = self.c.n_groups = length(self.offsets) - 1

        self.capacity = self.per_group(capacity, CAPACITY, DBL_MAX, limit)
        if self.capacity is None:
            capacity = _validate.capacity(capacity, n_groups, per_unit, limit)
            self.capacity = self.per_group(capacity, CAPACITY, DBL_MAX, limit)
        self.buffer = self.per_group(buffer, BUFFER, 1.0, INFINITY)
        if self.buffer is None:
            buffer = _validate.buffer(buffer, n_groups)
            self.buffer = self.per_group(buffer, BUFFER, 1.0, INFINITY)
        self.reserved = self.per_group(reserved, RESERVED, DBL_MAX, INFINITY)
        if self.reserved is None:
            reserved = _validate.reserved(reserved, n_groups)
            self.reserved = self.per_group(reserved, RESERVED, DBL_MAX, INFINITY)
        if parent is not None:
            self.parent = integers(parent)
            if self.parent is None or not are_parents(self.parent, n_groups):
                self.parent = _validate.parent(parent, n_groups)
            if any_is_group(self.parent):
                self.c.parent = <int64_t *> self.start_of(self.parent)
            else:
                self.parent = None

        if weight is not None:
            self.weight = reals(weight)
            if self.weight is None or not all_within(self.weight, n, LIGHTEST, HEAVIEST):
                self.weight = _validate.weight(weight, n)
            self.c.weight = <double *> self.start_of(self.weight)
        if priority is not None:
            self.priority = integers(priority)
            if self.priority is None or length(self.priority) != n:
                self.priority = _validate.priority(priority, n)
            self.c.priority = <int64_t *> self.start_of(self.priority)
        if rank is not None:
            self.rank = reals(rank)
            if self.rank is None or not all_within(self.rank, n, -DBL_MAX, DBL_MAX):
                self.rank = _validate.rank(rank, n)
            self.c.rank = <double *> self.start_of(self.rank)
        if active is not None:
            self.active = booleans(active)
            if self.active is None or length(self.active) != n:
                self.active = _validate.active(active, n)
            self.c.active = <uint8_t *> self.start_of(self.active)
        return 0

    cdef object per_group(self, object value, int which, double most, double limit):
        """Take numbers within 0..most and below a limit in quanta, one per group or one for all.

        Return what is to be held on to, or None if they need more than a look.
        """
        cdef int64_t g, n = self.c.n_groups
        cdef double x = 0.0
        cdef double *row
        if as_number(value, &x):
            if not (0.0 <= x <= most and all_below(&x, 1, self.c.per_unit, limit)):
                return None
            row = &self.same[which]
            if n > 1:
                if self.filled is None:
                    self.filled = new_vector(N_PER_GROUP * n, cnp.NPY_FLOAT64)
                row = <double *> address(self.filled) + which * n
            for g in range(max(<int64_t> 1, n)):
                row[g] = x
        else:
            value = reals(value)
            if value is None or not all_within(value, n, 0.0, most):
                return None
            if not all_below(<double *> address(value), n, self.c.per_unit, limit):
                return None
            row = <double *> self.start_of(value)
        if which == CAPACITY:
            self.c.capacity = row
        elif which == BUFFER:
            self.c.buffer = row
        else:
            self.c.reserved = row
        return value

    cdef inline void *start_of(self, object array) except? NULL:
        """Return the address of an array that the kernel reads, and remember where it lies."""
        cdef char *start = <char *> address(array)
        assert cnp.PyArray_CheckExact(array) and cnp.PyArray_ISCARRAY_RO(<cnp.ndarray> array)
        self.read[self.n_read] = Span(start, start + size_of(array))
        self.n_read += 1
        return start

    cdef int64_t plant(self) except -2:
        """Lay the groups out; return -1, or a group below a cycle."""
        cdef int64_t n = self.c.n_groups
        cdef int64_t *rows = NULL
        if self.c.parent != NULL:
            self.plan = new_vector(5 * n, cnp.NPY_INT64)
            rows = <int64_t *> address(self.plan)
            self.c.order, self.c.first, self.c.up = rows, rows + n, rows + 2 * n
            rows += 3 * n
        return plant_batch(&self.c, rows)

    cdef inline bint is_quick(self) noexcept:
        """Whether giving the GIL away would cost more than it brings."""
        return self.n_threads == 1 and self.c.n_connectors + self.c.n_groups < FEW

    cdef int64_t run(self, Way way) except -2:
        """Have the kernel do this; return -1, or a connector whose bounds are malformed."""
        cdef int64_t malformed
        if self.is_quick():
            malformed = way(&self.c, 1)
        else:
            with nogil:
                malformed = way(&self.c, self.n_threads)
        if malformed == NO_MEMORY:
            raise MemoryError
        return malformed

    cdef _Batch apart(self):
        """Return the same batch, from copies of the arrays."""
        batch = <_Batch> _Batch.__new__(_Batch)
        batch.take(
            copied(self.minimum), copied(self.maximum), copied(self.capacity), self.offsets,
            copied(self.buffer), copied(self.reserved), copied(self.parent),
            copied(self.weight), copied(self.priority), copied(self.rank), copied(self.active),
            self.step, self.resolution,
        )
        batch.plant()
        batch.c.guess = self.c.guess
        batch.n_threads = self.n_threads
        return batch

    cdef bint reads_from(self, object array) noexcept:
        """Whether the kernel reads arguments from the memory of this array."""
        cdef const char *start = <char *> address(array)
        cdef const char *stop = start + size_of(array)
        cdef int i
        for i in range(self.n_read):
            if self.read[i].start < stop and start < self.read[i].stop:
                return True
        return False


cdef inline bint is_vector_out(object value, int type_number, Py_ssize_t n) noexcept:
    """Whether the kernel can write n such values to this array."""
    return (
        is_vector(value, type_number)
        and length(value) == n
        and cnp.PyArray_ISWRITEABLE(<cnp.ndarray> value)
    )


cdef cnp.ndarray row_of(cnp.ndarray block, int64_t start, int64_t n, int type_number):
    """Return n of the block's 8-byte values as an array, which keeps the block alive."""
    cdef cnp.npy_intp size = n
    row = cnp.PyArray_SimpleNewFromData(
        1, &size, type_number, <double *> address(block) + start
    )
    cnp.set_array_base(row, block)
    return row


@cython.final
cdef class Allocation:
    """The outcome for a batch: a power per connector, a level per group.

    ``reason`` and ``bound_by`` are made when somebody first asks for one of them, from the arrays
    that `allocate` was given, which the allocation holds on to until then. So ask before you
    change those arrays, or pass copies; once made, both stay.

    It is also a table of its connectors, with the columns ``group``, ``power``, ``reason`` (the
    label) and ``bound_by`` (null where there is none), for whatever reads Arrow tables through
    the PyCapsule protocol: ``polars.DataFrame(allocation)``, ``pyarrow.table(allocation)``,
    DuckDB. What comes out of a conversion is a copy, so ``allocate(..., out=allocation)`` does
    not change it.

    Attributes
    ----------
    power : ndarray of float64, shape (n_connectors,)
        What each connector may draw, in the unit of the bounds.
    reason : ndarray of uint8, shape (n_connectors,)
        Why, as values of `Reason`.
    bound_by : ndarray of int64, shape (n_connectors,)
        The group that held it down, -1 where its own maximum or nothing did; of several that
        would, the one nearest to the root. Where its minimum did not fit, the first such group on
        the way to the root.
    level : ndarray of float64, shape (n_groups,)
        The power (per weight) that everybody rises to; infinite where the group did not bind.
        With priorities, that of the highest tier that the group bound.
    usable : ndarray of float64, shape (n_groups,)
        Usable capacity.
    used : ndarray of float64, shape (n_groups,)
        Sum of the power below the group.
    needed : ndarray of float64, shape (n_groups,)
        Sum of the minimums below the group: what it takes to pause nobody.
    headroom : ndarray of float64, shape (n_groups,)
        Usable capacity left over; never below 0.
    shortfall : ndarray of float64, shape (n_groups,)
        What the minimums lack to be admitted all; 0 where they fit.
    offsets : ndarray of int64, shape (n_groups + 1,)
        Group ``g`` owns connectors ``offsets[g]:offsets[g + 1]``.
    resolution : float
        One quantum: powers were counted in whole numbers of it.

    Examples
    --------
    >>> allocation = allocate([6, 6, 6], [16, 32, 10], 50, buffer=0.2)
    >>> allocation
    Allocation(3 connectors in 1 group: 40 of 40 used)
    >>> allocation.to_dicts()[2]
    {'group': 0, 'power': 10.0, 'reason': 'maximum', 'bound_by': None}

    """

    cdef readonly object power, level, usable, used, needed, offsets, resolution
    # None before they are first asked for. Of an earlier answer as long as `asked` is there.
    cdef object _reason, _bound_by
    cdef _Batch asked

    def __init__(
        self, power, reason, bound_by, level, usable, used, needed, offsets, resolution
    ):
        self.power, self._reason, self._bound_by = power, reason, bound_by
        self.level, self.usable, self.used, self.needed = level, usable, used, needed
        self.offsets, self.resolution = offsets, resolution
        self.asked = None

    @property
    def reason(self):
        with cython.critical_section(self):
            self.explain()
            return self._reason

    @property
    def bound_by(self):
        with cython.critical_section(self):
            self.explain()
            return self._bound_by

    @property
    def headroom(self):
        return self.beyond(self.usable, self.used)

    @property
    def shortfall(self):
        return self.beyond(self.needed, self.usable)

    cdef object beyond(self, more, less):
        quanta = _validate.quanta_per_unit(self.resolution)
        # Each is a whole number of quanta, rounded; the difference of the floats is not.
        left = (np.rint(more * quanta) - np.rint(less * quanta)) / quanta
        return np.maximum(left, 0.0)

    cdef int make_room(self, int64_t n_connectors, int64_t n_groups, double resolution) except -1:
        """Make the arrays of an answer; those per group in one piece of memory."""
        groups = new_vector(5 * n_groups + 1, cnp.NPY_FLOAT64)
        self.power = new_vector(n_connectors, cnp.NPY_FLOAT64)
        self.level = row_of(groups, 0, n_groups, cnp.NPY_FLOAT64)
        self.usable = row_of(groups, n_groups, n_groups, cnp.NPY_FLOAT64)
        self.used = row_of(groups, 2 * n_groups, n_groups, cnp.NPY_FLOAT64)
        self.needed = row_of(groups, 3 * n_groups, n_groups, cnp.NPY_FLOAT64)
        self.offsets = row_of(groups, 4 * n_groups, n_groups + 1, cnp.NPY_INT64)
        self.resolution = resolution
        return 0

    cdef bint has_room(self, int64_t n_connectors, int64_t n_groups, double resolution) noexcept:
        """Whether an answer of this size can be written here."""
        return (
            is_real(self.resolution)
            and PyFloat_AS_DOUBLE(self.resolution) == resolution
            and is_vector_out(self.power, cnp.NPY_FLOAT64, n_connectors)
            and is_vector_out(self.level, cnp.NPY_FLOAT64, n_groups)
            and is_vector_out(self.usable, cnp.NPY_FLOAT64, n_groups)
            and is_vector_out(self.used, cnp.NPY_FLOAT64, n_groups)
            and is_vector_out(self.needed, cnp.NPY_FLOAT64, n_groups)
            and is_vector_out(self.offsets, cnp.NPY_INT64, n_groups + 1)
            and (
                self._reason is None
                or is_vector_out(self._reason, cnp.NPY_UINT8, n_connectors)
                and is_vector_out(self._bound_by, cnp.NPY_INT64, n_connectors)
            )
        )

    cdef int check_room(self, int64_t n_connectors, int64_t n_groups, double resolution) except -1:
        """Raise what `_validate` says against writing such an answer here, if anything."""
        _validate.out(
            n_connectors, n_groups, resolution, self.resolution,
            power=self.power, reason=self._reason, bound_by=self._bound_by, level=self.level,
            usable=self.usable, used=self.used, needed=self.needed, offsets=self.offsets,
        )
        return 0

    cdef bint is_read_by(self, _Batch batch) noexcept:
        """Whether the batch reads from what an answer written here overwrites."""
        return (
            batch.reads_from(self.power)
            or batch.reads_from(self.level)
            or batch.reads_from(self.usable)
            or batch.reads_from(self.used)
            or batch.reads_from(self.needed)
            or batch.reads_from(self.offsets)
            or self._reason is not None
            and (batch.reads_from(self._reason) or batch.reads_from(self._bound_by))
        )

    cdef int answer(self, _Batch batch, bint keeps) except -1:
        """Solve the batch into the arrays; `keeps` what is there if the batch is refused."""
        cdef wattfill_batch *c = &batch.c
        cdef size_t size = (c.n_groups + 1) * sizeof(int64_t)
        if keeps and memcmp(address(self.offsets), c.offsets, size):
            if batch.run(screen_all) >= 0:
                _validate.refuse_bounds(batch.minimum, batch.maximum)
            keeps = False
        memmove(address(self.offsets), c.offsets, size)
        # While the kernel works, another thread may change the array that was passed.
        c.offsets = <int64_t *> address(self.offsets)
        c.power = <double *> address(self.power)
        c.level = <double *> address(self.level)
        c.usable = <double *> address(self.usable)
        c.used = <double *> address(self.used)
        c.needed = <double *> address(self.needed)
        if batch.run(solve_sound if keeps else solve_all) >= 0:
            _validate.refuse_bounds(batch.minimum, batch.maximum)
        self.asked = batch
        return 0

    cdef int explain(self) except -1:
        """Make `reason` and `bound_by`, if they are not those of this answer."""
        cdef _Batch asked = self.asked, again
        cdef wattfill_batch *c
        cdef int64_t n, n_groups
        cdef bint same
        if asked is None:
            return 0
        n, n_groups = asked.c.n_connectors, asked.c.n_groups
        again = _Batch.__new__(_Batch)
        try:
            again.take(
                asked.minimum, asked.maximum, asked.capacity, self.offsets, asked.buffer,
                asked.reserved, asked.parent, asked.weight, asked.priority, asked.rank,
                asked.active, asked.step, self.resolution,
            )
            same = self.has_room(n, n_groups, again.resolution) and again.plant() < 0
        except WattfillError:
            same = False
        c = &again.c
        if not same or c.n_connectors != n or c.n_groups != n_groups:
            _validate.refuse_changed()

        power = new_vector(n, cnp.NPY_FLOAT64)
        groups = new_vector(4 * n_groups, cnp.NPY_FLOAT64)
        if self._reason is None:
            reason, bound_by = new_vector(n, cnp.NPY_UINT8), new_vector(n, cnp.NPY_INT64)
        else:
            reason, bound_by = self._reason, self._bound_by
        c.power = <double *> address(power)
        c.reason = <uint8_t *> address(reason)
        c.bound_by = <int64_t *> address(bound_by)
        c.level = <double *> address(groups)
        c.usable = c.level + n_groups
        c.used = c.usable + n_groups
        c.needed = c.used + n_groups
        c.guess = <double *> address(self.level)
        again.n_threads = asked.n_threads
        same = again.run(solve_all) < 0
        if self.asked is not asked:
            # Meanwhile another thread made them, or there is another answer.
            return self.explain()
        if not same or (
            memcmp(c.power, address(self.power), n * sizeof(double))
            or memcmp(c.level, address(self.level), n_groups * sizeof(double))
            or memcmp(c.usable, address(self.usable), n_groups * sizeof(double))
            or memcmp(c.used, address(self.used), n_groups * sizeof(double))
            or memcmp(c.needed, address(self.needed), n_groups * sizeof(double))
        ):
            _validate.refuse_changed()
        self._reason, self._bound_by, self.asked = reason, bound_by, None
        return 0

    def __repr__(self):
        n_connectors, n_groups = self.power.size, self.usable.size
        sizes = (
            f"{n_connectors} connector{'s' * (n_connectors != 1)} "
            f"in {n_groups} group{'s' * (n_groups != 1)}"
        )
        if n_groups == 0:
            return f"Allocation({sizes})"
        if n_groups == 1:
            return f"Allocation({sizes}: {self.used[0]:.15g} of {self.usable[0]:.15g} used)"
        # A sum over groups would count nested ones twice.
        n_binding = np.count_nonzero(np.isfinite(self.level))
        return f"Allocation({sizes}: {n_binding} binding)"

    def __reduce__(self):
        return Allocation, (
            self.power, self.reason, self.bound_by, self.level, self.usable, self.used,
            self.needed, self.offsets, self.resolution,
        )

    def to_dicts(self):
        """Return a dict per connector, of plain Python values that JSON can hold.

        Returns
        -------
        list of dict
            ``group`` (int), ``power`` (float), ``reason`` (str, the label) and ``bound_by``
            (int, or None where there is none).

        Examples
        --------
        >>> allocate([5, 5], [7, 7], 8).to_dicts()[1]
        {'group': 0, 'power': 0.0, 'reason': 'paused', 'bound_by': 0}

        """
        names = labels()
        return [
            {
                "group": group,
                "power": power,
                "reason": names[reason],
                "bound_by": None if bound_by < 0 else bound_by,
            }
            for group, power, reason, bound_by in zip(
                *(column.tolist() for column in self.columns()), strict=True
            )
        ]

    def to_pandas(self):
        """Return the connectors as a ``pandas.DataFrame``.

        ``reason`` is categorical over all labels, ``bound_by`` a nullable integer (``Int64``).

        Raises
        ------
        MissingExtraError
            If pandas is not installed.

        """
        pandas = load("pandas", "to_pandas()")
        group, power, reason, bound_by = self.columns()
        return pandas.DataFrame(
            {
                "group": group,
                "power": power,
                "reason": pandas.Categorical.from_codes(reason, labels()),
                "bound_by": pandas.arrays.IntegerArray(bound_by, bound_by < 0),
            },
            copy=True,
        )

    def to_polars(self):
        """Return the connectors as a ``polars.DataFrame``; ``reason`` is categorical.

        Raises
        ------
        MissingExtraError
            If Polars is not installed.

        """
        return load("polars", "to_polars()").DataFrame(self)

    def to_arrow(self):
        """Return the connectors as a ``pyarrow.Table``; ``reason`` is a dictionary column.

        Raises
        ------
        MissingExtraError
            If PyArrow is not installed.

        """
        return load("pyarrow", "to_arrow()").table(self)

    def __arrow_c_schema__(self):
        return _arrow.schema()

    def __arrow_c_array__(self, requested_schema=None):
        if requested_schema is not None:
            _arrow.check_request(requested_schema)
        return _arrow.schema(), _arrow.batch(*self.columns())

    def __arrow_c_stream__(self, requested_schema=None):
        if requested_schema is not None:
            _arrow.check_request(requested_schema)
        return _arrow.stream(_arrow.batch(*self.columns()))

    cdef tuple columns(self):
        group = np.repeat(np.arange(self.offsets.size - 1), np.diff(self.offsets))
        return group, self.power, self.reason, self.bound_by


cdef list labels():
    return [reason.label for reason in Reason]


cdef object load(library, purpose):
    """Import a library that wattfill does without."""
    try:
        return import_module(library)
    except ImportError as error:
        raise MissingExtraError(
            f"{purpose} needs {library}, which cannot be imported: pip install {library}"
        ) from error


def allocate(
    minimum,
    maximum,
    capacity,
    offsets=None,
    *,
    buffer=0.0,
    reserved=0.0,
    parent=None,
    weight=None,
    priority=None,
    rank=None,
    active=None,
    step=None,
    resolution=1e-6,
    level=None,
    threads=None,
    out=None,
):
    """Share each group's usable capacity max-min fairly among its connectors.

    Connectors whose minimum does not fit are paused; above the minimums, power is shared
    max-min fair on totals, ``clip(level * weight, minimum, maximum)``, with one level per group,
    the highest that fits in whole quanta.

    Parameters
    ----------
    minimum, maximum : array_like of float, shape (n_connectors,)
        Bounds on each connector's power, ``0 <= minimum <= maximum < inf``, in one unit
        throughout (kW, say).
    capacity : float or array_like of float, shape (n_groups,)
        Most that each group may draw, at least 0, in the same unit.
    offsets : array_like of int, shape (n_groups + 1,), optional
        Group ``g`` owns connectors ``offsets[g]:offsets[g + 1]``. One group owns all by default.
    buffer : float or array_like of float, shape (n_groups,)
        Fraction of the capacity set aside, within 0..1.
    reserved : float or array_like of float, shape (n_groups,)
        Load in the group that is not ours to steer, at least 0. The usable capacity is
        ``capacity * (1 - buffer) - reserved``, not below 0.
    parent : array_like of int, shape (n_groups,), optional
        Index of the group that feeds this one, -1 for none. A connector is bound by its group
        and by every ancestor; the result is max-min fair over the whole tree.
    weight : array_like of float, shape (n_connectors,), optional
        Shares are in proportion to weights, within 1e-100..1e100; all 1 by default.
    priority : array_like of int, shape (n_connectors,), optional
        Higher first, in admission and in filling; all 0 by default.
    rank : array_like of float, shape (n_connectors,), optional
        Lower first in admission, among equal priorities; then by position.
    active : array_like of bool, shape (n_connectors,), optional
        Whether a session is on. Others get 0 and are not counted. All by default.
    step : float, optional
        Every power is a whole multiple of this, which is a whole number of quanta. What
        truncation frees is handed out in admission order; with weights, by Webster's rule.
    resolution : float
        One quantum, ``1 / n`` for a whole number n up to 2**50: powers are counted in whole
        numbers of it. Capacities stay below 2**53 quanta, with weights below 2**51.
    level : array_like of float, shape (n_groups,), optional
        Levels of an earlier answer, ``a.level`` say, to start the search from. Any numbers do:
        the closer they are the sooner the answer is found, and it is the same.
    threads : int, optional
        How many threads may work, on trees of groups side by side. The answer is the same.
    out : Allocation, optional
        Result of an earlier call with as many connectors and groups and the same resolution. Its
        memory is overwritten, that of ``reason`` and ``bound_by`` once these are asked for again,
        and it is returned. A call that is refused leaves it as it was.

    Returns
    -------
    Allocation
        A power and a reason per connector, a level per group. In whole quanta the powers of a
        group never add up to more than its usable capacity, nor to more than any ancestor's. It
        holds on to the arrays that were passed until its reasons are asked for; see `Allocation`.

    Raises
    ------
    InputError, InputTypeError
        If an argument is malformed. What depends on the data never raises: minimums that do not
        fit, capacity 0 and empty groups come back as data.

    Notes
    -----
    Water-filling as the projection on a box with one linear constraint: Brucker, An O(n)
    algorithm for quadratic knapsack problems, Oper. Res. Lett. 3 (1984); max-min fairness on a
    tree: Radunovic and Le Boudec, A unified framework for max-min and min-max fairness, IEEE/ACM
    Trans. Netw. 15 (2007), section IV; Webster's rule: Balinski and Young, Fair Representation
    (1982).

    Examples
    --------
    The third stops at 10 kW, the other two share 30 kW:

    >>> allocate([6, 6, 6], [16, 32, 10], 50, buffer=0.2).power
    array([15., 15., 10.])

    Two floors of 20 kW below a building of 35 kW:

    >>> a = allocate([0, 0, 0], [22, 22, 22], [20, 20, 35], [0, 2, 3, 3], parent=[2, 2, -1])
    >>> a.power
    array([10., 10., 15.])
    >>> a.bound_by
    array([0, 0, 2])

    """
    cdef _Batch batch = _Batch.__new__(_Batch)
    cdef Allocation result
    batch.take(
        minimum, maximum, capacity, offsets, buffer, reserved, parent, weight, priority, rank,
        active, step, resolution,
    )
    batch.n_threads = 1 if threads is None else _validate.threads(threads)
    cdef int64_t n = batch.c.n_connectors, n_groups = batch.c.n_groups
    cdef int64_t cyclic = batch.plant()
    if cyclic >= 0:
        _validate.refuse_cycle(batch.parent, cyclic)
    if level is not None:
        guess = reals(level)
        if guess is None or length(guess) != n_groups:
            guess = _validate.levels(level, n_groups)
        batch.c.guess = <double *> address(guess)

    if out is None:
        result = Allocation.__new__(Allocation)
        result.make_room(n, n_groups, batch.resolution)
        result.answer(batch, False)
        return result

    if not isinstance(out, Allocation):
        _validate.refuse_out(out)
    result = out
    with cython.critical_section(result):
        if not result.has_room(n, n_groups, batch.resolution):
            result.check_room(n, n_groups, batch.resolution)
        if result.is_read_by(batch):
            batch = batch.apart()
        result.answer(batch, True)
    return result
