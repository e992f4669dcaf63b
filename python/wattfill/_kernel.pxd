# The C-level interface: `cimport` it, and compile with `wattfill.get_include()` on the path.
from libc.stdint cimport int64_t, uint8_t


cdef extern from "wattfill.h" nogil:
    ctypedef struct wattfill_batch:
        int64_t n_connectors, n_groups
        const double *minimum
        const double *maximum
        const int64_t *offsets
        const double *capacity
        const double *buffer
        const double *reserved
        const int64_t *parent
        const double *weight
        const int64_t *priority
        const double *rank
        const uint8_t *active
        const double *guess
        double per_unit, step
        int64_t checked
        double *power
        uint8_t *reason
        int64_t *bound_by
        double *level
        double *usable
        double *used
        double *needed
        int64_t *order
        int64_t *first
        int64_t *up
        int64_t most_connectors, most_groups


# wattfill.h says what each does and what the caller must have ensured.
cdef bint are_within(int64_t n, const double *x, double least, double most) noexcept nogil
cdef int64_t plant_batch(wattfill_batch *batch, int64_t *scratch) noexcept nogil
cdef size_t scratch_size(const wattfill_batch *batch) noexcept nogil
cdef int64_t solve_batch(
    const wattfill_batch *batch, int64_t start, int64_t stop, void *scratch
) noexcept nogil

cdef enum:
    NO_MEMORY = -2

# The same with scratch of their own and up to n_threads threads, of which this one is the first
# and none is left in the end: look at the bounds of all connectors; solve all trees of a planted
# batch; or do both, in such a way that nothing is written if a connector is malformed. They return
# -1, or a malformed connector (of several, any), or NO_MEMORY.
cdef int64_t screen_all(const wattfill_batch *batch, int64_t n_threads) noexcept nogil
cdef int64_t solve_all(const wattfill_batch *batch, int64_t n_threads) noexcept nogil
cdef int64_t solve_sound(const wattfill_batch *batch, int64_t n_threads) noexcept nogil
