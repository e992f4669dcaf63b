/* SPDX-License-Identifier: Apache-2.0
 *
 * One group on its own whose connectors differ in nothing but their bounds: its bounds on the way
 * in, its powers on the way out, a few connectors at a time.
 */
#ifndef WATTFILL_ROW_H
#define WATTFILL_ROW_H

#include "lanes.h"
#include "wattfill.h"

/* The memory of rows to come, fetched while this one is worked on: bursts of work leave the
 * processor's own prefetching behind. */
enum { AHEAD = 1024 };

ALWAYS_INLINE double sum(lanes x)
{
    double total = 0.0;
    for (int j = 0; j < LANES; ++j) total += x[j];
    return total;
}

/* Bounds in whole quanta; what grid.h does, lane by lane. */
ALWAYS_INLINE void bounds_in(lanes low, lanes high, double per_unit, lanes *minimum, lanes *maximum)
{
    lanes y = smaller(high * per_unit, all(BEYOND));
    *maximum = round_down(y + larger(y * 0x1p-52, all(NEAR)));
    y = smaller(low * per_unit, all(BEYOND));
    y = round_up(larger(y - larger(y * 0x1p-52, all(NEAR)), all(0.0)));
    *minimum = smaller(y, *maximum);
}

/* Bounds of n connectors from index i on, and their sums; 0 for those without a session, and for
 * those that are missing to a full register. */
ALWAYS_INLINE void row_in(const wattfill_batch *b, int64_t i, int64_t n, double *minimum,
                          double *maximum, double *least, double *most)
{
    lanes low_sum = {0}, high_sum = {0}, low, high;
    for (int64_t k = 0; k < n; k += LANES) {
        int64_t at = i + k, left = n - k;
        __builtin_prefetch(b->minimum + at + AHEAD);
        __builtin_prefetch(b->maximum + at + AHEAD);
        low = left >= LANES ? load(b->minimum + at) : load_some(b->minimum + at, left);
        high = left >= LANES ? load(b->maximum + at) : load_some(b->maximum + at, left);
        if (b->active) {
            for (int64_t j = 0; j < LANES && j < left; ++j)
                if (!b->active[at + j]) low[j] = high[j] = 0.0;
        }
        bounds_in(low, high, b->per_unit, &low, &high);
        store(minimum + k, low);
        store(maximum + k, high);
        low_sum += low;
        high_sum += high;
    }
    *least = sum(low_sum);
    *most = sum(high_sum);
}

/* Powers at a level, with the reason and the binding group of each; returns their quanta. */
ALWAYS_INLINE lanes powers_out(lanes level, lanes low, lanes high, lanes minimum, lanes maximum,
                               double per_unit, int64_t g, lanes *power, bytes *reason,
                               flags *bound_by)
{
    lanes q = smaller(larger(level, minimum), maximum);
    *power = smaller(larger(q / per_unit, low), high);
    flags at_maximum = q == maximum, at_minimum = q == minimum;
    /* A flag is -1. */
    flags why = WATTFILL_SHARING - at_maximum + (at_minimum & ~at_maximum);
    *reason = __builtin_convertvector(why, bytes);
    *bound_by = at_maximum | g;
    return q;
}

/* The answer for n connectors from index i on, of group g. Returns the sum of their quanta. */
static inline double write_row(const wattfill_batch *b, int64_t g, int64_t i, int64_t n,
                               const double *minimum, const double *maximum, double level)
{
    lanes used = {0}, power;
    bytes reason;
    flags bound_by;
    for (int64_t k = 0; k < n; k += LANES) {
        int64_t at = i + k, left = n - k;
        int whole = left >= LANES;
        __builtin_prefetch(b->power + at + AHEAD, 1);
        __builtin_prefetch(b->bound_by + at + AHEAD, 1);
        lanes low = whole ? load(b->minimum + at) : load_some(b->minimum + at, left);
        lanes high = whole ? load(b->maximum + at) : load_some(b->maximum + at, left);
        used += powers_out(all(level), low, high, load(minimum + k), load(maximum + k),
                           b->per_unit, g, &power, &reason, &bound_by);
        if (whole) {
            store(b->power + at, power);
            memcpy(b->reason + at, &reason, sizeof reason);
            memcpy(b->bound_by + at, &bound_by, sizeof bound_by);
        } else {
            store_some(b->power + at, left, power);
            for (int64_t j = 0; j < left; ++j) {
                b->reason[at + j] = reason[j];
                b->bound_by[at + j] = bound_by[j];
            }
        }
    }
    return sum(used);
}

/* Connectors without a session have bounds of 0 on the way in; here they get their reason. */
static inline void mark_idle(const wattfill_batch *b, int64_t start, int64_t stop)
{
    for (int64_t i = start; i < stop; ++i) {
        if (b->active[i]) continue;
        b->power[i] = 0.0;
        b->reason[i] = WATTFILL_IDLE;
        b->bound_by[i] = -1;
    }
}

#endif
