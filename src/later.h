/* SPDX-License-Identifier: Apache-2.0
 *
 * Powers in a pass of their own. Whoever writes over an earlier answer may not begin before all
 * bounds were looked at. To look at them first takes a pass over all; to find all levels first does
 * it on the way, and what is left is to clip the bounds, as they were given, to levels in units, at
 * the speed of memory.
 */
#ifndef WATTFILL_LATER_H
#define WATTFILL_LATER_H

#include "alone.h"

/* The powers of a row at a level in units, written from `to` on (see clipped_out). */
ALWAYS_INLINE void row_at(const wattfill_batch *b, const grid *by, int64_t i, int64_t n,
                          double level, double *to)
{
    const double *low = b->minimum + i, *high = b->maximum + i;
    lanes at = all(level), off_grid = all(0.0);
    int64_t k = 0;
#define CLIP(left, save)                                                                        \
    do {                                                                                        \
        lanes x = smaller(get(high + k, left), larger(get(low + k, left), at));                 \
        off_grid = unlike(off_grid, x, units(by, quanta_down(by, 0, x)));                       \
        save(to + k, left, x);                                                                  \
    } while (0)
    for (; k + LANES <= n; k += LANES) CLIP(LANES, put);
    if (n > LANES && k < n) {
        /* Some of them once more: a store with a mask takes longer. */
        k = n - LANES;
        CLIP(LANES, put);
    } else if (k < n) {
        CLIP(n - k, store_some);
    }
#undef CLIP
    if (is_unlike(off_grid)) powers_to(b, by, i, n, floor(level * by->per_unit + 0.5), to);
}

/* Powers on their way past the caches: those from index `first` on. To go there half of a line of
 * memory takes as long as several whole ones, so they wait until they fill lines. */
enum { LINE = 64 / sizeof(double), WAITING = 256 };

/* Connectors of a batch whose powers stay in no cache, not even where somebody has read them since:
 * to go past a cache that has the line takes twice the time. */
enum { OUT_OF_REACH = 3 * FAR };

typedef struct {
    double *power;
    int64_t first, n;
    double waiting[WAITING + LINE];
} outbox;

static void empty(outbox *o)
{
    if (o->n == 0) return;
    memcpy(o->power + o->first, o->waiting, (size_t)o->n * sizeof *o->power);
    o->n = 0;
}

/* Send what fills lines. */
static void send(outbox *o)
{
    double *to = o->power + o->first;
    int64_t head = (int64_t)(-((uintptr_t)to / sizeof *to) % LINE), k = head;
    if (o->n < head + LINE) return;
    memcpy(to, o->waiting, (size_t)head * sizeof *to);
    for (; k + LINE <= o->n; k += LINE)
        for (int j = 0; j < LINE; j += LANES) store_past(to + k + j, load(o->waiting + k + j));
    o->first += k;
    o->n -= k;
    memmove(o->waiting, o->waiting + k, (size_t)o->n * sizeof *to);
}

/* The powers of groups start..stop - 1, whose levels are there in units: not a number where a group
 * is to be solved. */
static void rows_out(const wattfill_batch *b, const grid *of, int64_t start, int64_t stop)
{
    const grid by = *of; /* a copy, which no store can change */
    outbox o;
    o.power = b->power;
    o.first = o.n = 0;
    int past = LANES > 1 && b->n_connectors >= OUT_OF_REACH;
    for (int64_t g = start; g < stop; ++g) {
        int64_t i = b->offsets[g], n = b->offsets[g + 1] - i;
        double level = b->level[g];
        int waits = past && n <= WAITING && level >= 0.0;
        if (waits && o.n + n > WAITING) send(&o);
        if (!waits || o.n + n > WAITING) empty(&o);
        if (o.n == 0) o.first = i;
        if (waits) {
            row_at(b, &by, i, n, level, o.waiting + o.n);
            o.n += n;
        } else if (n > WAITING && level >= 0.0) {
            powers_out(b, &by, i, n, floor(level * by.per_unit + 0.5));
        } else if (level >= 0.0) {
            row_at(b, &by, i, n, level, b->power + i);
        }
    }
    empty(&o);
    if (past) SETTLE();
}

#endif
