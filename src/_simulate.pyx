# SPDX-License-Identifier: Apache-2.0
"""The loop over events for `wattfill.simulation`; `simulate.h` says what it does.

It trusts its arguments: `wattfill.simulation` has checked every number that comes here.
"""
cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int32_t, int64_t, uint8_t

from wattfill._kernel cimport plant_batch, scratch_size, solve_batch, wattfill_batch


cdef extern from "simulate.h" nogil:
    ctypedef struct sim_kernel:
        int64_t (*plant)(wattfill_batch *, int64_t *) noexcept nogil
        size_t (*scratch_size)(const wattfill_batch *) noexcept nogil
        int64_t (*solve)(const wattfill_batch *, int64_t, int64_t, void *) noexcept nogil

    enum:
        SIM_MOST_PIECES

    ctypedef struct sim_input:
        sim_kernel kernel
        double per_kw
        int64_t strategy, n_trees
        const int64_t *trees
        const double *capacity
        const double *buffer
        const double *reserved
        const int64_t *parent
        const uint8_t *policy
        const int64_t *rotation
        const int64_t *offsets
        const double *least
        const double *rating
        const int64_t *of_tree
        const int64_t *rows
        const int64_t *arrival
        const int64_t *departure
        const double *energy
        const double *maximum
        const double *minimum
        const double *weight
        const int64_t *priority
        const double *battery
        const double *soc
        const int32_t *group
        const int32_t *connector
        const int64_t *group_at
        const int64_t *first
        const int64_t *last
        int64_t n_pieces
        double *piece_soc
        double *piece_fraction
        const int64_t *changes
        const int64_t *change_at
        const int64_t *change_group
        const double *change_capacity
        const double *change_reserved
        int64_t start, stop

    ctypedef struct sim_energy:
        int64_t high, low

    ctypedef struct sim_output:
        int32_t *connector
        int64_t *delivered
        int64_t *full_at
        int64_t *paused
        int64_t *n_sessions
        int64_t *n_turned_away
        sim_energy *energy
        sim_energy *wanted
        sim_energy *refused
        int64_t *peak
        int64_t *p95
        int64_t *limiting
        int64_t *over
        int64_t *over_peak

    ctypedef struct sim_step:
        int64_t who, at, power

    ctypedef struct sim_steps:
        sim_step *steps
        int64_t n

    ctypedef struct sim_report:
        int64_t n_events, n_solved, keep_groups, keep_sessions
        sim_steps groups, sessions

    int sim_run(
        const sim_input *given, const sim_output *found, int64_t start, int64_t stop,
        sim_report *report,
    )
    void sim_free(sim_report *report)
    int64_t sim_usable(double capacity, double buffer, double reserved, double per_kw)


# Where an array begins: NULL for one that is absent or has nothing in it.

cdef const double *reals(const double[::1] x) noexcept:
    if x is None or x.shape[0] == 0:
        return NULL
    return &x[0]


cdef const int64_t *whole(const int64_t[::1] x) noexcept:
    if x is None or x.shape[0] == 0:
        return NULL
    return &x[0]


cdef const int32_t *codes(const int32_t[::1] x) noexcept:
    if x is None or x.shape[0] == 0:
        return NULL
    return &x[0]


cdef const uint8_t *small(const uint8_t[::1] x) noexcept:
    if x is None or x.shape[0] == 0:
        return NULL
    return &x[0]


cdef int64_t *numbers(int64_t[::1] x) noexcept:
    if x.shape[0] == 0:
        return NULL
    return &x[0]


cdef int32_t *places(int32_t[::1] x) noexcept:
    if x.shape[0] == 0:
        return NULL
    return &x[0]


cdef bytes packed(const sim_steps *of):
    return PyBytes_FromStringAndSize(<const char *> of.steps, of.n * sizeof(sim_step))


@cython.final
@cython.auto_pickle(False)
cdef class Simulation:
    """Arrays to read from and to write to, by the names that `simulate.h` has for them."""

    cdef sim_input given
    cdef sim_output found
    cdef dict kept

    def __init__(
        self, dict arrays not None, *, double per_kw, int64_t strategy, int64_t start,
        int64_t stop, tuple taper not None,
    ):
        cdef sim_input *g = &self.given
        cdef sim_output *f = &self.found
        cdef int64_t k
        self.kept = arrays
        g.kernel.plant = plant_batch
        g.kernel.scratch_size = scratch_size
        g.kernel.solve = solve_batch
        g.per_kw, g.strategy, g.start, g.stop = per_kw, strategy, start, stop
        g.n_trees = len(arrays["trees"]) - 1
        g.trees, g.parent = whole(arrays["trees"]), whole(arrays["parent"])
        g.capacity, g.buffer = reals(arrays["capacity"]), reals(arrays["buffer"])
        g.reserved, g.policy = reals(arrays["reserved"]), small(arrays["policy"])
        g.rotation, g.offsets = whole(arrays["rotation"]), whole(arrays["offsets"])
        g.least, g.rating = reals(arrays["least"]), reals(arrays["rating"])
        g.of_tree, g.rows = whole(arrays["of_tree"]), whole(arrays["rows"])
        g.arrival, g.departure = whole(arrays["arrival"]), whole(arrays["departure"])
        g.energy, g.maximum = reals(arrays["energy"]), reals(arrays["maximum"])
        g.minimum, g.weight = reals(arrays["minimum"]), reals(arrays["weight"])
        g.priority, g.battery = whole(arrays["priority"]), reals(arrays["battery"])
        g.soc = reals(arrays["soc"])
        g.group, g.connector = codes(arrays["group"]), codes(arrays["connector"])
        g.group_at, g.first = whole(arrays["group_at"]), whole(arrays["first"])
        g.last, g.changes = whole(arrays["last"]), whole(arrays["changes"])
        g.change_at, g.change_group = whole(arrays["change_at"]), whole(arrays["change_group"])
        g.change_capacity = reals(arrays["change_capacity"])
        g.change_reserved = reals(arrays["change_reserved"])
        g.n_pieces = len(taper)
        assert g.n_pieces <= SIM_MOST_PIECES
        for k in range(g.n_pieces):
            g.piece_soc[k], g.piece_fraction[k] = taper[k]
        f.connector, f.delivered = places(arrays["taken"]), numbers(arrays["delivered"])
        f.full_at, f.paused = numbers(arrays["full_at"]), numbers(arrays["paused"])
        f.n_sessions = numbers(arrays["n_sessions"])
        f.n_turned_away = numbers(arrays["n_turned_away"])
        f.energy = <sim_energy *> numbers(arrays["group_energy"])
        f.wanted = <sim_energy *> numbers(arrays["group_wanted"])
        f.refused = <sim_energy *> numbers(arrays["group_refused"])
        f.peak, f.p95 = numbers(arrays["peak"]), numbers(arrays["p95"])
        f.limiting, f.over = numbers(arrays["limiting"]), numbers(arrays["over"])
        f.over_peak = numbers(arrays["over_peak"])

    def run(self, int64_t start, int64_t stop, bint groups, bint sessions):
        """Simulate trees start..stop - 1, without the GIL.

        Return how many events there were, how often power was shared out because not everybody
        could have the maximum, and on request the steps of the powers of groups and of sessions:
        (who, when, power), each in 64 bits.
        """
        cdef sim_report report
        cdef int failed
        if not 0 <= start <= stop <= self.given.n_trees:
            raise IndexError(start, stop)
        report.n_events = report.n_solved = 0
        report.groups.steps = report.sessions.steps = NULL
        report.groups.n = report.sessions.n = 0
        sim_free(&report)
        report.keep_groups, report.keep_sessions = groups, sessions
        with nogil:
            failed = sim_run(&self.given, &self.found, start, stop, &report)
        try:
            if failed:
                raise MemoryError
            return (
                report.n_events, report.n_solved, packed(&report.groups), packed(&report.sessions)
            )
        finally:
            sim_free(&report)


def usable(double capacity, double buffer, double reserved, double per_kw):
    """Return a usable capacity in quanta, as the kernel has it."""
    return sim_usable(capacity, buffer, reserved, per_kw)
