# SPDX-License-Identifier: Apache-2.0
"""The compiled kernel for other compiled modules, which `cimport` it; see `wattfill.h`.

It trusts its arguments, needs no GIL and touches nothing of Python while it works. A whole batch
can be solved by several threads, of which nothing is left when the call returns: they work on
parts of the batch, cut between trees, until there is none left to take.
"""
import os

from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from libc.stdint cimport int64_t


cdef extern from "wattfill.h" nogil:
    int64_t wattfill_plant(wattfill_batch *batch, int64_t *scratch)
    size_t wattfill_scratch_size(const wattfill_batch *batch)
    int64_t wattfill_solve(const wattfill_batch *batch, int64_t start, int64_t stop, void *scratch)
    int wattfill_parts_work(const wattfill_batch *batch)
    int64_t wattfill_levels(const wattfill_batch *batch, int64_t start, int64_t stop, void *scratch)
    void wattfill_powers(
        const wattfill_batch *batch, const double *found, int64_t start, int64_t stop, void *scratch
    )
    int64_t wattfill_first_malformed(int64_t n, const double *minimum, const double *maximum)
    int wattfill_are_within(int64_t n, const double *x, double least, double most)
    int wattfill_simd_levels(const char **names, int most)
    int wattfill_simd_choose(const char *name)
    const char *wattfill_simd_chosen()


cdef extern from "pythread.h" nogil:
    ctypedef void *PyThread_type_lock
    const unsigned long PYTHREAD_INVALID_THREAD_ID
    const int WAIT_LOCK
    unsigned long PyThread_start_new_thread(void (*run)(void *) noexcept nogil, void *argument)
    PyThread_type_lock PyThread_allocate_lock()
    void PyThread_free_lock(PyThread_type_lock lock)
    int PyThread_acquire_lock(PyThread_type_lock lock, int wait)
    void PyThread_release_lock(PyThread_type_lock lock)


cdef bint are_within(int64_t n, const double *x, double least, double most) noexcept nogil:
    return wattfill_are_within(n, x, least, most)


cdef int64_t plant_batch(wattfill_batch *batch, int64_t *scratch) noexcept nogil:
    return wattfill_plant(batch, scratch)


cdef size_t scratch_size(const wattfill_batch *batch) noexcept nogil:
    return wattfill_scratch_size(batch)


cdef int64_t solve_batch(
    const wattfill_batch *batch, int64_t start, int64_t stop, void *scratch
) noexcept nogil:
    return wattfill_solve(batch, start, stop, scratch)


cdef enum:
    # Connectors below which a thread, which takes some 20 microseconds to start and to end, is
    # not worth it: to solve them, and to look at their bounds alone.
    LEAST_SHARE = 16384
    LEAST_LOOK = 131072
    # A thread takes a part of what is left, so that in the end, when one waits for another, parts
    # are small: one of so many for each thread, and so many connectors at least.
    PARTS_PER_THREAD = 4
    LEAST_PART = 4096
    # Connectors of a group whose powers are not written before all of its bounds were looked at.
    LATE = 1024
    # Connectors of a group, on average: with fewer, to write powers in a pass of their own takes
    # longer than to look at bounds first.
    NOT_TINY = 32
    # Doubles of scratch on the stack: enough for a small batch, which malloc would slow down.
    SMALL_SCRATCH = 2048
    N_FOUND = 4     # numbers that are known of a group: level, usable, used, needed


# What can be done with a batch, part by part. Where nothing may be written before all bounds were
# looked at, there are two passes: a look and then a solution, or levels and then powers.
cdef enum Pass:
    NOTHING
    LOOK        # at bounds
    SOLVE
    LEVELS      # found, and bounds looked at
    POWERS      # written, at levels that were found


# What is there to be done, and where it has got to.
cdef struct Crew:
    const wattfill_batch *batch
    wattfill_batch found        # the same, but what is known of groups goes to scratch: LEVELS
    int64_t n_threads
    char *scratch               # a piece for each thread, and then `found`
    size_t scratch_size         # of one piece
    PyThread_type_lock turn     # guards what follows
    Pass now, then
    int64_t next                # first that nobody has taken
    int64_t end                 # of places to solve, or of connectors to look at
    int64_t n_left              # connectors that nobody has taken
    int64_t n_taken             # parts that somebody works on
    int64_t malformed
    int64_t n_started, n_working
    PyThread_type_lock halfway  # held until the first of two passes is over
    PyThread_type_lock over     # held until nobody works


cdef int64_t take_part(Crew *crew) noexcept nogil:
    """Take a part and return where it ends: between trees, if it is to be solved."""
    cdef const wattfill_batch *b = crew.batch
    cdef int64_t start = crew.next, stop = start, low = start + 1, high = crew.end, middle, g
    cdef int64_t n = max(<int64_t> LEAST_PART, crew.n_left // (PARTS_PER_THREAD * crew.n_threads))
    if crew.now == LOOK:
        stop = min(start + n, crew.end)
        n = stop - start
    elif b.order == NULL:
        while low < high:
            middle = low + (high - low) // 2
            if b.offsets[middle] - b.offsets[start] < n:
                low = middle + 1
            else:
                high = middle
        stop = low
        n = b.offsets[stop] - b.offsets[start]
    else:
        middle = 0
        while stop < crew.end and (middle < n or b.up[stop - 1] >= 0):
            g = b.order[stop]
            middle += b.offsets[g + 1] - b.offsets[g]
            stop += 1
        n = middle
    crew.next = stop
    crew.n_left -= n
    crew.n_taken += 1
    return stop


cdef int64_t do_part(
    Crew *crew, Pass what, int64_t start, int64_t stop, void *scratch
) noexcept nogil:
    """Return -1, or a malformed connector."""
    cdef const wattfill_batch *b = crew.batch
    cdef int64_t malformed
    if what == SOLVE:
        return wattfill_solve(b, start, stop, scratch)
    if what == LEVELS:
        return wattfill_levels(&crew.found, start, stop, scratch)
    if what == POWERS:
        wattfill_powers(b, crew.found.level, start, stop, scratch)
        return -1
    malformed = wattfill_first_malformed(stop - start, b.minimum + start, b.maximum + start)
    return malformed if malformed < 0 else start + malformed


cdef void begin(Crew *crew, Pass what) noexcept nogil:
    crew.now = what
    crew.next = 0
    crew.n_left = crew.batch.n_connectors
    crew.end = crew.n_left if what == LOOK else crew.batch.n_groups


cdef void do_parts(Crew *crew, void *scratch) noexcept nogil:
    """Do part after part, until none is left or a connector turned out to be malformed."""
    cdef int64_t start, stop, malformed
    cdef Pass now = crew.now
    while crew.malformed < 0 and crew.now == now and crew.next < crew.end:
        start = crew.next
        stop = take_part(crew)
        PyThread_release_lock(crew.turn)
        malformed = do_part(crew, now, start, stop, scratch)
        PyThread_acquire_lock(crew.turn, WAIT_LOCK)
        crew.n_taken -= 1
        if malformed >= 0:
            crew.malformed = malformed


cdef void do_first(Crew *crew, void *scratch) noexcept nogil:
    """Do the first of two passes with the others, until it is over.

    Nobody waits for a thread that comes late: it finds nothing left to do.
    """
    do_parts(crew, scratch)
    if crew.then == NOTHING:
        return
    if crew.n_taken == 0:
        begin(crew, crew.then)
        crew.then = NOTHING
        PyThread_release_lock(crew.halfway)
        return
    PyThread_release_lock(crew.turn)
    PyThread_acquire_lock(crew.halfway, WAIT_LOCK)
    PyThread_release_lock(crew.halfway)
    PyThread_acquire_lock(crew.turn, WAIT_LOCK)


cdef void work(void *argument) noexcept nogil:
    cdef Crew *crew = <Crew *> argument
    cdef bint last
    PyThread_acquire_lock(crew.turn, WAIT_LOCK)
    cdef char *scratch = crew.scratch + crew.n_started * crew.scratch_size
    crew.n_started += 1
    if crew.then != NOTHING:
        do_first(crew, scratch)
    do_parts(crew, scratch)
    crew.n_working -= 1
    last = crew.n_working == 0
    PyThread_release_lock(crew.turn)
    if last:
        PyThread_release_lock(crew.over)


cdef void work_together(Crew *crew) noexcept nogil:
    """Let this thread and up to n_threads - 1 others do all parts."""
    cdef int64_t i
    if crew.then != NOTHING:
        PyThread_acquire_lock(crew.halfway, WAIT_LOCK)
    PyThread_acquire_lock(crew.over, WAIT_LOCK)
    crew.n_working = crew.n_threads
    for i in range(1, crew.n_threads):
        if PyThread_start_new_thread(work, crew) == PYTHREAD_INVALID_THREAD_ID:
            # There is no other thread to be had: those that there are do its part.
            PyThread_acquire_lock(crew.turn, WAIT_LOCK)
            crew.n_working -= crew.n_threads - i
            PyThread_release_lock(crew.turn)
            break
    work(crew)
    PyThread_acquire_lock(crew.over, WAIT_LOCK)
    PyThread_release_lock(crew.over)


cdef void work_alone(Crew *crew) noexcept nogil:
    crew.malformed = do_part(crew, crew.now, 0, crew.end, crew.scratch)
    if crew.malformed < 0 and crew.then != NOTHING:
        crew.malformed = do_part(crew, crew.then, 0, crew.batch.n_groups, crew.scratch)


cdef void work_side_by_side(Crew *crew) noexcept nogil:
    crew.turn = PyThread_allocate_lock()
    crew.halfway = PyThread_allocate_lock()
    crew.over = PyThread_allocate_lock()
    crew.malformed = NO_MEMORY
    if crew.turn != NULL and crew.halfway != NULL and crew.over != NULL:
        crew.malformed = -1
        work_together(crew)
    if crew.turn != NULL:
        PyThread_free_lock(crew.turn)
    if crew.halfway != NULL:
        PyThread_free_lock(crew.halfway)
    if crew.over != NULL:
        PyThread_free_lock(crew.over)


cdef int64_t run(
    const wattfill_batch *batch, Pass first, Pass then, int64_t n_threads
) noexcept nogil:
    """Do one pass or two, by several threads if there are as many parts."""
    if first != LEVELS and is_small(batch):
        return run_small(batch, first == LOOK, first == SOLVE or then == SOLVE)
    return run_large(batch, first, then, n_threads)


cdef inline bint is_small(const wattfill_batch *batch) noexcept nogil:
    """Whether scratch on the stack is enough, and one thread, for a call that costs little else."""
    return (
        batch.n_connectors <= LEAST_SHARE
        and wattfill_scratch_size(batch) <= SMALL_SCRATCH * sizeof(double)
    )


cdef int64_t run_small(const wattfill_batch *batch, bint looks, bint solves) noexcept nogil:
    cdef double scratch[SMALL_SCRATCH]
    cdef int64_t malformed = -1
    if looks:
        malformed = wattfill_first_malformed(batch.n_connectors, batch.minimum, batch.maximum)
    if solves and malformed < 0:
        malformed = wattfill_solve(batch, 0, batch.n_groups, scratch)
    return malformed


cdef int64_t run_large(
    const wattfill_batch *batch, Pass first, Pass then, int64_t n_threads
) noexcept nogil:
    cdef Crew crew
    cdef size_t size = 0
    cdef int64_t n = batch.n_connectors, n_groups = batch.n_groups, least = LEAST_LOOK
    crew.scratch_size = 0
    if first != LOOK or then != NOTHING:
        crew.scratch_size = wattfill_scratch_size(batch)
        # A tree is not parted.
        least = max(<int64_t> LEAST_SHARE, batch.most_connectors)
    crew.n_threads = max(<int64_t> 1, min(n_threads, (n + least - 1) // least))
    if crew.n_threads > 1:
        # A cache line belongs to one thread.
        crew.scratch_size = (crew.scratch_size + 63) // 64 * 64
    size = crew.n_threads * crew.scratch_size
    if first == LEVELS:
        size += N_FOUND * n_groups * sizeof(double)
    crew.scratch = <char *> PyMem_RawMalloc(size)
    if crew.scratch == NULL:
        return NO_MEMORY
    if first == LEVELS:
        crew.found = batch[0]
        crew.found.level = <double *> (crew.scratch + crew.n_threads * crew.scratch_size)
        crew.found.usable = crew.found.level + n_groups
        crew.found.used = crew.found.usable + n_groups
        crew.found.needed = crew.found.used + n_groups
    crew.batch = batch
    crew.then = then
    crew.n_taken = crew.n_started = 0
    begin(&crew, first)
    if crew.n_threads == 1:
        work_alone(&crew)
    else:
        work_side_by_side(&crew)
    PyMem_RawFree(crew.scratch)
    return crew.malformed


cdef int64_t screen_all(const wattfill_batch *batch, int64_t n_threads) noexcept nogil:
    return run(batch, LOOK, NOTHING, n_threads)


cdef int64_t solve_all(const wattfill_batch *batch, int64_t n_threads) noexcept nogil:
    return run(batch, SOLVE, NOTHING, n_threads)


cdef int64_t solve_sound(const wattfill_batch *batch, int64_t n_threads) noexcept nogil:
    cdef wattfill_batch sound = batch[0]
    cdef double level = 0.0, usable = 0.0, used = 0.0, needed = 0.0
    cdef int64_t malformed
    if (
        batch.n_connectors > LATE
        and 1 < batch.n_groups <= batch.n_connectors // NOT_TINY
        and wattfill_parts_work(batch)
    ):
        return run(batch, LEVELS, POWERS, n_threads)
    if batch.n_groups != 1 or batch.n_connectors <= LATE or batch.reason != NULL:
        sound.checked = 1       # by the time that it is solved
        return run(&sound, LOOK, SOLVE, n_threads)
    sound.level, sound.usable, sound.used, sound.needed = &level, &usable, &used, &needed
    malformed = run(&sound, SOLVE, NOTHING, 1)
    if malformed == -1:
        batch.level[0], batch.usable[0], batch.used[0], batch.needed[0] = (
            level, usable, used, needed
        )
    return malformed


def is_checked():
    """Whether this is the checked build, in which assertions are compiled in."""
    try:
        assert False
    except AssertionError:
        return True
    return False


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
