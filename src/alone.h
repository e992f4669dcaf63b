/* SPDX-License-Identifier: Apache-2.0
 *
 * Groups of middle size, one at a time: long enough to keep the processor busy by themselves, short
 * enough for their bounds in grains to stay near it. A sample says where to look first.
 */
#ifndef WATTFILL_ALONE_H
#define WATTFILL_ALONE_H

#include "row.h"

#ifndef SAMPLED
#define SAMPLED 1000
#endif
#ifndef LARGE
#define LARGE 40000
#endif

/* The connectors of a group that is alone, and room for the bounds of all of them. */
typedef struct {
    int64_t group, start, n;
    double budget, guess; /* a guess is not above or equal to 0 where there is none */
    double *minimum, *maximum;
} lone;

/* What a sample says of a level: the level, and how far off it may well be. */
typedef struct {
    double level, error;
} estimate;

enum { RUN = 8 }; /* neighbours of whom the sample has all or none */

/* Solve for about n^(2/3) connectors, and their part of the budget. */
ALWAYS_INLINE estimate sample(const wattfill_batch *b, const grid *in, const lone *l)
{
    int64_t n_runs = (int64_t)(cbrt((double)l->n) * cbrt((double)l->n)) / RUN + 1;
    int64_t stride = l->n / n_runs;
    doubts unread = no_doubts();
    lanes least = all(0.0), most = all(0.0);
    for (int64_t r = 0; r < n_runs; ++r) {
        row_sums s = row_in(b, in, GAPS, 0.0, l->start + r * stride, RUN, l->minimum + r * RUN,
                            l->maximum + r * RUN, &unread);
        least += s.least;
        most += s.most;
    }
    pool p = {l->minimum, l->maximum, NULL, n_runs * RUN};
    double budget = floor(l->budget * ((double)p.n / (double)l->n)), wanted = sum(most);
    if (!(wanted > budget)) return (estimate){INFINITY, 0.0};
    if (!(sum(least) <= budget)) return (estimate){0.0, 0.0};
    double level = highest(EQUAL, &p, budget, wanted, -1.0).level;

    draw d = draw_at(EQUAL, level, &p);
    double mean = sum(d.drawn) / (double)p.n;
    lanes squares = all(0.0);
    for (int64_t k = 0; k < p.n; k += LANES) {
        lanes q = share_at(EQUAL, &p, all(level), k, p.n - k) - all(mean);
        squares += q * q;
    }
    return (estimate){level, sqrt(sum(squares)) / at_least(sum(d.slope), 1.0)};
}

/* Returns 0, with nothing of use written, where the minimums do not fit or a bound may be malformed.
 * Levels and sums go out in grains. */
static int solve_alone(const wattfill_batch *b, const grid *in, const lone *l)
{
    int64_t g = l->group, i = l->start, n = l->n;
    pool p = {l->minimum, l->maximum, NULL, n};
    doubts d = no_doubts();
    double guess = l->guess;
    if (!(guess >= 0.0) && n >= SAMPLED) guess = sample(b, in, l).level;
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
