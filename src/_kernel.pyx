# SPDX-License-Identifier: Apache-2.0
"""The compiled kernel: trusts its arguments, holds no GIL while it works.

Arrays are contiguous and of the lengths written beside them; an optional array that is absent
has length 0. `wattfill._validate` has checked the values (see `wattfill.h` for what is assumed).
"""
import os

from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memset


cdef extern from "wattfill.h" nogil:
    int64_t wattfill_plant(wattfill_batch *batch, int64_t *scratch)
    size_t wattfill_scratch_size(const wattfill_batch *batch)
    int64_t wattfill_solve(const wattfill_batch *batch, int64_t start, int64_t stop, void *scratch)
    int64_t wattfill_first_malformed(int64_t n, const double *minimum, const double *maximum)
    int wattfill_simd_levels(const char **names, int most)
    int wattfill_simd_choose(const char *name)
    const char *wattfill_simd_chosen()


cdef int64_t plant_batch(wattfill_batch *batch, int64_t *scratch) noexcept nogil:
    return wattfill_plant(batch, scratch)


cdef size_t scratch_size(const wattfill_batch *batch) noexcept nogil:
    return wattfill_scratch_size(batch)


cdef int64_t solve_batch(
    const wattfill_batch *batch, int64_t start, int64_t stop, void *scratch
) noexcept nogil:
    return wattfill_solve(batch, start, stop, scratch)


cdef const double *doubles(const double[::1] array) noexcept:
    return &array[0] if array.shape[0] else NULL


cdef const int64_t *integers(const int64_t[::1] array) noexcept:
    return &array[0] if array.shape[0] else NULL


def first_malformed(
    const double[::1] minimum not None,             # IN   (n_connectors,)
    const double[::1] maximum not None,             # IN   (n_connectors,)
):
    """First connector that breaks 0 <= minimum <= maximum < infinity, or -1."""
    assert minimum.shape[0] == maximum.shape[0]
    cdef int64_t n = minimum.shape[0]
    if n == 0:
        return -1
    with nogil:
        n = wattfill_first_malformed(n, &minimum[0], &maximum[0])
    return n


def plant(
    const int64_t[::1] offsets not None,            # IN   (n_groups + 1,)
    const int64_t[::1] parent not None,             # IN   (n_groups,) or (0,)
    int64_t[::1] order not None,                    # OUT  (n_groups,) or (0,), as parent
    int64_t[::1] first not None,                    # OUT  likewise
    int64_t[::1] up not None,                       # OUT  likewise
):
    """Lay groups out in post-order.

    Return (connectors, groups) of the largest tree, or (-1, g) where group g is below a cycle.
    """
    assert order.shape[0] == first.shape[0] == up.shape[0] == parent.shape[0]
    assert parent.shape[0] == 0 or parent.shape[0] == offsets.shape[0] - 1
    cdef wattfill_batch batch
    cdef int64_t *scratch = NULL
    cdef int64_t n_groups = offsets.shape[0] - 1
    cdef int64_t cyclic
    memset(&batch, 0, sizeof(batch))
    batch.n_groups = n_groups
    batch.offsets = integers(offsets)
    if parent.shape[0]:
        batch.parent = integers(parent)
        batch.order = &order[0]
        batch.first = &first[0]
        batch.up = &up[0]
        scratch = <int64_t *> PyMem_RawMalloc(2 * n_groups * sizeof(int64_t))
        if scratch == NULL:
            raise MemoryError
    with nogil:
        cyclic = plant_batch(&batch, scratch)
    PyMem_RawFree(scratch)
    if cyclic >= 0:
        return -1, cyclic
    return batch.most_connectors, batch.most_groups


def scratch_length(int64_t most_connectors, int64_t most_groups, bint weighted):
    """How many doubles of scratch one call of solve() needs, as plant() measured the trees."""
    cdef wattfill_batch batch
    cdef double some_weight = 1.0
    memset(&batch, 0, sizeof(batch))
    batch.most_connectors = most_connectors
    batch.most_groups = most_groups
    if weighted:
        batch.weight = &some_weight
    return scratch_size(&batch) // sizeof(double)


def solve(
    int64_t start,                                  # places start..stop - 1 are solved
    int64_t stop,
    int64_t most_connectors,                        # as plant() says
    int64_t most_groups,
    double per_unit,                                # quanta in one unit
    double step,                                    # quanta in one step, 0 for none
    const double[::1] minimum not None,             # IN   (n_connectors,)
    const double[::1] maximum not None,             # IN   (n_connectors,)
    const int64_t[::1] offsets not None,            # IN   (n_groups + 1,)
    const double[::1] capacity not None,            # IN   (n_groups,)
    const double[::1] buffer not None,              # IN   (n_groups,)
    const double[::1] reserved not None,            # IN   (n_groups,)
    const double[::1] weight not None,              # IN   (n_connectors,) or (0,)
    const int64_t[::1] priority not None,           # IN   (n_connectors,) or (0,)
    const double[::1] rank not None,                # IN   (n_connectors,) or (0,)
    const uint8_t[::1] active not None,             # IN   (n_connectors,) or (0,)
    const int64_t[::1] order not None,              # IN   (n_groups,) or (0,), as plant() says
    const int64_t[::1] first not None,              # IN   likewise
    const int64_t[::1] up not None,                 # IN   likewise
    double[::1] power not None,                     # OUT  (n_connectors,)
    uint8_t[::1] reason not None,                   # OUT  (n_connectors,)
    int64_t[::1] bound_by not None,                 # OUT  (n_connectors,)
    double[::1] level not None,                     # OUT  (n_groups,)
    double[::1] usable not None,                    # OUT  (n_groups,)
    double[::1] used not None,                      # OUT  (n_groups,)
    double[::1] needed not None,                    # OUT  (n_groups,)
    double[::1] scratch not None,                   # as scratch_length() says
):
    """Solve the trees at places start..stop - 1; return a malformed connector, or -1."""
    cdef int64_t n_connectors = minimum.shape[0], n_groups = offsets.shape[0] - 1
    assert maximum.shape[0] == power.shape[0] == reason.shape[0] == n_connectors
    assert bound_by.shape[0] == n_connectors
    assert weight.shape[0] in (0, n_connectors) and priority.shape[0] in (0, n_connectors)
    assert rank.shape[0] in (0, n_connectors) and active.shape[0] in (0, n_connectors)
    assert capacity.shape[0] == buffer.shape[0] == reserved.shape[0] == n_groups
    assert level.shape[0] == usable.shape[0] == used.shape[0] == needed.shape[0] == n_groups
    assert order.shape[0] == first.shape[0] == up.shape[0]
    assert order.shape[0] in (0, n_groups)
    assert 0 <= start <= stop <= n_groups
    if start == stop:
        return -1
    cdef wattfill_batch batch
    memset(&batch, 0, sizeof(batch))
    batch.n_connectors = n_connectors
    batch.n_groups = n_groups
    batch.minimum = doubles(minimum)
    batch.maximum = doubles(maximum)
    batch.offsets = integers(offsets)
    batch.capacity = doubles(capacity)
    batch.buffer = doubles(buffer)
    batch.reserved = doubles(reserved)
    batch.weight = doubles(weight)
    batch.priority = integers(priority)
    batch.rank = doubles(rank)
    batch.active = &active[0] if active.shape[0] else NULL
    batch.per_unit = per_unit
    batch.step = step
    if n_connectors:
        batch.power = &power[0]
        batch.reason = &reason[0]
        batch.bound_by = &bound_by[0]
    batch.level = &level[0]
    batch.usable = &usable[0]
    batch.used = &used[0]
    batch.needed = &needed[0]
    batch.order = <int64_t *> integers(order)
    batch.first = <int64_t *> integers(first)
    batch.up = <int64_t *> integers(up)
    batch.most_connectors = most_connectors
    batch.most_groups = most_groups
    assert scratch.nbytes >= scratch_size(&batch)
    cdef int64_t malformed
    with nogil:
        malformed = solve_batch(&batch, start, stop, &scratch[0])
    return malformed


def simd_levels():
    """Names of the instruction-set levels that this processor runs, best last."""
    cdef const char *names[8]
    cdef int n = wattfill_simd_levels(names, 8)
    return [names[i].decode() for i in range(n)]


def simd_level(name=None):
    """The level in use; with a name, change to that one first."""
    if name is not None and wattfill_simd_choose(name.encode()) < 0:
        raise ValueError(
            f"WATTFILL_SIMD must be one of {', '.join(simd_levels())} on this processor, "
            f"got {name!r}"
        )
    return wattfill_simd_chosen().decode()


simd_level(os.environ.get("WATTFILL_SIMD") or None)
