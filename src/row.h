/* SPDX-License-Identifier: Apache-2.0
 *
 * A row: the connectors of one group, which stand side by side. Their bounds on the way in, their
 * powers and reasons on the way out.
 */
#ifndef WATTFILL_ROW_H
#define WATTFILL_ROW_H

#include "level.h"
#include "wattfill.h"

/* What a row can have in it, known when it is compiled. */
typedef enum {
    PLAIN = 0,
    HUGE_BOUNDS = 1, /* 2**42 quanta and more that count */
    STEPS = 2,
    GAPS = 4,        /* connectors that take no part; with STEPS there may always be some */
    AWAY = 8,        /* powers that are not written here soon, or past the caches */
    CHECKED = 16,    /* bounds that the caller has looked at: none is malformed */
    LATER = 32       /* powers in a pass of their own, when all levels are known */
} contents;

/* What became apparent of the bounds on the way in: whether one may be malformed. */
typedef struct {
    lanes order; /* negative where a minimum is, or is above its maximum */
    lanes total; /* NaN or infinite where a bound is, or where they are too large to add up */
} doubts;

ALWAYS_INLINE doubts no_doubts(void) { return (doubts){all(0.0), all(0.0)}; }

ALWAYS_INLINE int is_endless(const doubts *d) { return !(fabs(sum(d->total)) < INFINITY); }

ALWAYS_INLINE int is_doubtful(const doubts *d) { return any_negative(d->order) || is_endless(d); }

/* First connector of start..stop - 1 that breaks 0 <= minimum <= maximum < infinity, or -1. */
static int64_t first_malformed(const double *minimum, const double *maximum, int64_t start,
                               int64_t stop)
{
    for (int64_t i = start; i < stop; ++i)
        if (!(minimum[i] >= 0.0 && maximum[i] >= minimum[i] && maximum[i] < INFINITY)) return i;
    return -1;
}

static int64_t malformed_in(const wattfill_batch *b, int64_t g)
{
    return first_malformed(b->minimum, b->maximum, b->offsets[g], b->offsets[g + 1]);
}

/* Whether group g may have a malformed bound, or some that are too large to add up: a minimum of -0
 * does not count. */
static int is_doubted(const wattfill_batch *b, int64_t g, const doubts *d)
{
    return is_endless(d) || (any_negative(d->order) && malformed_in(b, g) >= 0);
}

ALWAYS_INLINE void doubt(doubts *d, lanes low, lanes high, int total)
{
    d->order = unordered(d->order, low, high);
    if (total) d->total += (high - low) - (high - low);
}

/* Of n connectors, in grains: the sums of the minimums, of the maximums, and of what is drawn at a
 * level. */
typedef struct {
    lanes least, most, drawn;
} row_sums;

ALWAYS_INLINE void some_in(const grid *by, contents has, lanes level, lanes low, lanes high,
                           const uint8_t *active, int64_t left, double *minimum, double *maximum,
                           row_sums *s, doubts *d)
{
    lanes least, most;
    if (!(has & CHECKED)) doubt(d, low, high, has & (HUGE_BOUNDS | GAPS));
    bounds_in(by, has & HUGE_BOUNDS, has & STEPS, low, high, &least, &most);
    if (has & GAPS && active) {
        flags on = get_set(active, left);
        most = only(on, most);
        least = choose(on, least, all(1.0));
    }
    /* Whole registers: what follows the row is written later, or never read. */
    store(minimum, least);
    store(maximum, most);
    s->least = plus(s->least, has & (STEPS | GAPS) ? smaller(most, least) : least);
    s->most = plus(s->most, most);
    s->drawn = plus(s->drawn, smaller(larger(least, level), most));
}

/* Bring in the bounds of n connectors from index i on. A few more may be overwritten behind
 * them. */
ALWAYS_INLINE row_sums row_in(const wattfill_batch *b, const grid *by, contents has, double level,
                              int64_t i, int64_t n, double *minimum, double *maximum, doubts *d)
{
    /* Copies, which no store into a row can change. */
    const grid in = *by;
    const double *low = b->minimum + i, *high = b->maximum + i, *power = b->power + i;
    const uint8_t *active = has & GAPS && b->active ? b->active + i : NULL;
    row_sums s = {all(0.0), all(0.0), all(0.0)};
    doubts seen = *d;
    lanes at = all(level);
    int64_t k = 0;
#define IN(left)                                                                                \
    some_in(&in, has, at, get(low + k, left), get(high + k, left), active ? active + k : NULL,  \
            left, minimum + k, maximum + k, &s, &seen)
    for (; k + LANES <= n; k += LANES) {
        if (!(has & (AWAY | LATER))) EXPECT_WRITE(power + k);
        IN(LANES);
    }
    if (k < n) IN(n - k);
#undef IN
    if (!(has & (HUGE_BOUNDS | GAPS | CHECKED))) seen.total += s.least + s.most;
    *d = seen;
    return s;
}

/* Whole quanta in units, within the bounds as they were given. In this order a bound of -0 comes
 * out as 0. */
ALWAYS_INLINE lanes power_within(const grid *by, lanes low, lanes high, lanes quanta)
{
    return smaller(high, larger(low, units(by, quanta)));
}

ALWAYS_INLINE lanes some_out(const grid *by, contents has, lanes low, lanes high, lanes grains,
                             lanes minimum, lanes maximum)
{
    if (has & STEPS) grains = grains * all(by->step);
    lanes power = power_within(by, low, high, grains);
    if (has & (STEPS | GAPS)) power = choose(is_above(minimum, maximum), all(0.0), power);
    return power;
}

ALWAYS_INLINE lanes share_at(rule by, const pool *p, lanes level, int64_t k, int64_t left)
{
    return share(by, level, by == EQUAL ? all(1.0) : get(p->weight + k, left),
                 get(p->minimum + k, left), get(p->maximum + k, left));
}

/* The powers at a level of connectors from index i on. */
ALWAYS_INLINE void row_out(const wattfill_batch *b, const grid *in, rule by, contents has,
                           const pool *p, int64_t i, double level)
{
    /* Copies, which no store can change. */
    const grid by_value = *in;
    const pool row = *p;
    const double *low = b->minimum + i, *high = b->maximum + i;
    double *power = b->power + i;
    int64_t k = 0, n = row.n;
#define OUT(left)                                                                               \
    some_out(&by_value, has, get(low + k, left), get(high + k, left),                           \
             share_at(by, &row, all(level), k, left), get(row.minimum + k, left),               \
             get(row.maximum + k, left))
    for (; k + LANES <= n; k += LANES) store(power + k, OUT(LANES));
    if (n > LANES && k < n) {
        /* Some of them once more: a store with a mask takes longer. */
        k = n - LANES;
        store(power + k, OUT(LANES));
    } else if (k < n) {
        store_some(power + k, n - k, OUT(n - k));
    }
#undef OUT
}

/* The powers of n connectors from index i on at a level, from the bounds as they were given;
 * written from `to` on. */
APART void powers_to(const wattfill_batch *b, const grid *by, int64_t i, int64_t n, double level,
                     double *to)
{
    const grid in = *by; /* a copy, which no store can change */
    for (int64_t k = 0; k < n; k += LANES) {
        int64_t left = n - k;
        lanes low = get(b->minimum + i + k, left), high = get(b->maximum + i + k, left);
        lanes least, most;
        bounds_in(&in, 0, 0, low, high, &least, &most);
        put(to + k, left, power_within(&in, low, high, smaller(larger(least, all(level)), most)));
    }
}

/* Why connectors of group g, alike in all but their bounds, got what a level gives. */
static void explain(const wattfill_batch *b, const pool *p, int64_t g, double level)
{
    uint8_t *restrict reason = b->reason + b->offsets[g];
    int64_t *restrict bound_by = b->bound_by + b->offsets[g];
    const double *restrict minimum = p->minimum, *restrict maximum = p->maximum;
#pragma omp simd
    for (int64_t i = 0; i < p->n; ++i) {
        int64_t active = minimum[i] <= maximum[i];
        int64_t at_maximum = at_least(level, minimum[i]) >= maximum[i];
        int64_t at_minimum = (level <= minimum[i]) & !at_maximum;
        reason[i] = (uint8_t)(-active & (WATTFILL_SHARING + at_maximum - at_minimum));
        bound_by[i] = (active & !at_maximum) ? g : -1;
    }
}

#endif
