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
    double *minimum, *maximum;
} lone;

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
    row_sums s = l->budget < 0x1p41
        ? row_in(b, in, GAPS, at, i, n, p.minimum, p.maximum, &d)
        : row_in(b, in, GAPS | HUGE_BOUNDS, at, i, n, p.minimum, p.maximum, &d);
    double least = sum(s.least), most = sum(s.most), level = INFINITY, used = most;
    if (is_doubtful(&d) || least > l->budget) return 0;
    if (most > l->budget) {
        double drawn = sum(s.drawn), whole = floor(drawn), rising = (drawn - whole) / sliver;
        if (rising > 0.0) guess = floor(guess) + (l->budget - whole) / rising;
        mark m = highest_level(EQUAL, &p, l->budget, most, guess);
        level = m.level;
        used = level > 0.0 ? m.used : least;
    }
    row_out(b, in, EQUAL, GAPS, &p, i, level);
    if (b->reason) explain(b, &p, g, level);
    b->level[g] = level;
    b->used[g] = used;
    b->needed[g] = least;
    return 1;
}

#endif
