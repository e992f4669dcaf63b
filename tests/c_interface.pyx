# cython: language_level=3, boundscheck=False
"""What another package does to call the kernel from compiled code: no Python in between."""

from libc.stdint cimport int64_t, uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from wattfill._kernel cimport plant_batch, scratch_size, solve_batch, wattfill_batch


def fill(
    const double[::1] minimum not None,             # IN   (n_connectors,)
    const double[::1] maximum not None,             # IN   (n_connectors,)
    const int64_t[::1] offsets not None,            # IN   (n_groups + 1,)
    const double[::1] capacity not None,            # IN   (n_groups,)
    const int64_t[::1] parent not None,             # IN   (n_groups,)
    double[::1] power not None,                     # OUT  (n_connectors,)
    uint8_t[::1] reason not None,                   # OUT  (n_connectors,)
    int64_t[::1] bound_by not None,                 # OUT  (n_connectors,)
    double[:, ::1] per_group not None,              # OUT  (4, n_groups): level, usable, used, needed
):
    """Solve all trees; return a group below a cycle, or -1."""
    cdef int64_t n_groups = capacity.shape[0]
    cdef wattfill_batch batch
    memset(&batch, 0, sizeof(batch))
    cdef double[::1] nothing = per_group[0].copy()
    cdef int64_t *places = <int64_t *> malloc(5 * n_groups * sizeof(int64_t))
    cdef int64_t cyclic
    cdef void *scratch
    nothing[:] = 0.0
    batch.n_connectors, batch.n_groups = minimum.shape[0], n_groups
    batch.minimum, batch.maximum = &minimum[0], &maximum[0]
    batch.offsets, batch.capacity, batch.parent = &offsets[0], &capacity[0], &parent[0]
    batch.buffer = batch.reserved = &nothing[0]
    batch.per_unit = 1e6
    batch.power, batch.reason, batch.bound_by = &power[0], &reason[0], &bound_by[0]
    batch.level, batch.usable = &per_group[0, 0], &per_group[1, 0]
    batch.used, batch.needed = &per_group[2, 0], &per_group[3, 0]
    batch.order, batch.first, batch.up = places, places + n_groups, places + 2 * n_groups
    with nogil:
        cyclic = plant_batch(&batch, places + 3 * n_groups)
        if cyclic < 0:
            scratch = malloc(scratch_size(&batch))
            solve_batch(&batch, 0, n_groups, scratch)
            free(scratch)
    free(places)
    return cyclic
