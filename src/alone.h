/* SPDX-License-Identifier: Apache-2.0
 *
 * Groups of middle size, one at a time: long enough to keep the processor busy by themselves, short
 * enough for their bounds in grains to stay in its second cache, where another look at all of them
 * costs less than anything that would spare it.
 */
#ifndef WATTFILL_ALONE_H
#define WATTFILL_ALONE_H

#include "row.h"

/* The connectors of a group that is alone, and room for the bounds of all of them. */
typedef struct {
    int64_t group, start, n;
    double budget, guess; /* a guess is not above or equal to 0 where there is none */
    int later;            /* powers come later, at the level that is found */
    double *minimum, *maximum;
} lone;

/* The same. People type decimals, so next to all bounds lie on the grid: they are what their own
 * whole number of quanta is in units. Then what is true of quanta is true of units: the power is
 * the level in units clipped to the bounds, and lies on the grid. If it does, it is right: where it
 * is the level, nobody asks for the bounds, and where it is a bound, that one is on the grid.
 * `past` the caches they go from an address that is a multiple of a register's size. */
ALWAYS_INLINE void clipped_out(const wattfill_batch *b, const grid *by, int64_t i, int64_t n,
                               double level, int past)
{
    enum { SOME = 4 };
    const grid in = *by; /* a copy, which no store can change */
    const double *low = b->minimum + i, *high = b->maximum + i;
    double *power = b->power + i;
    lanes at = level < INFINITY ? units(&in, all(level)) : all(INFINITY);
    int64_t k = 0;
    for (; k + SOME * LANES <= n; k += SOME * LANES) {
        lanes clipped[SOME], off_grid = all(0.0);
        for (int j = 0; j < SOME; ++j) {
            lanes x = larger(load(low + k + j * LANES), at);
            clipped[j] = smaller(load(high + k + j * LANES), x);
            off_grid = unlike(off_grid, clipped[j], units(&in, quanta_down(&in, 0, clipped[j])));
        }
        if (is_unlike(off_grid)) powers_to(b, &in, i + k, SOME * LANES, level, power + k);
        else if (past) for (int j = 0; j < SOME; ++j) store_past(power + k + j * LANES, clipped[j]);
        else for (int j = 0; j < SOME; ++j) store(power + k + j * LANES, clipped[j]);
    }
    powers_to(b, &in, i + k, n - k, level, power + k);
}

/* Connectors of a batch whose bounds and powers do not stay in a cache of 32 MiB that others use,
 * too. There, to have memory near before it is written costs as much as to read a bound. */
enum { FAR = 700000 };

static void powers_out(const wattfill_batch *b, const grid *in, int64_t i, int64_t n, double level)
{
    enum { SIZE = sizeof(double) };
    int64_t beyond = (int64_t)((uintptr_t)(b->power + i) % (LANES * SIZE));
    int64_t head = beyond ? LANES - beyond / SIZE : 0;
    if (b->n_connectors < FAR || n < head) {
        clipped_out(b, in, i, n, level, 0);
        return;
    }
    powers_to(b, in, i, head, level, b->power + i);
    clipped_out(b, in, i + head, n - head, level, 1);
    SETTLE();
}

/* Returns 0, with nothing of use written, where the minimums do not fit or a bound may be
 * malformed. Levels and sums go out in grains. */
static int solve_alone(const wattfill_batch *b, const grid *in, const lone *l)
{
    int64_t g = l->group, i = l->start, n = l->n;
    pool p = {l->minimum, l->maximum, NULL, n};
    doubts d = no_doubts();
    double guess = l->guess;
    if (!(guess >= 0.0 && guess <= l->budget)) guess = floor(l->budget / (double)n);
    double sliver = sliver_of(n), at = floor(guess) + sliver;
    int plain = l->budget < 0x1p41 && !b->active;
    if (l->later && !plain) return 0;
    row_sums s;
    if (LANES > 1 && plain && (l->later || b->n_connectors >= FAR))
        s = row_in(b, in, PLAIN | AWAY, at, i, n, p.minimum, p.maximum, &d);
    else if (plain)
        s = row_in(b, in, PLAIN, at, i, n, p.minimum, p.maximum, &d);
    else if (l->budget < 0x1p41)
        s = row_in(b, in, GAPS, at, i, n, p.minimum, p.maximum, &d);
    else
        s = row_in(b, in, GAPS | HUGE_BOUNDS, at, i, n, p.minimum, p.maximum, &d);
    double least = sum(s.least), most = sum(s.most), level = INFINITY, used = most;
    if (is_doubted(b, g, &d) || least > l->budget) return 0;
    if (most > l->budget) {
        double drawn = sum(s.drawn), whole = floor(drawn), rising = (drawn - whole) / sliver;
        if (rising > 0.0) guess = floor(guess) + (l->budget - whole) / rising;
        mark m = highest_level(EQUAL, &p, l->budget, most, guess);
        level = m.level;
        used = level > 0.0 ? m.used : least;
    }
    /* Where an instruction rounds, it costs less to find the bounds on the grid than to read them
     * in grains once more. */
    if (!plain) row_out(b, in, EQUAL, GAPS, &p, i, level);
    else if (!l->later && LANES > 1) powers_out(b, in, i, n, level);
    else if (!l->later) row_out(b, in, EQUAL, PLAIN, &p, i, level);
    if (b->reason) explain(b, &p, g, level);
    b->level[g] = level;
    b->used[g] = used;
    b->needed[g] = least;
    return 1;
}

#endif
