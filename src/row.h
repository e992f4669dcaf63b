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

/* Bounds in whole quanta, as grid.h has them; `all_sizes` or only those below 2**42, where nothing
 * is further from a grid point than NEAR that is meant to be one. Larger ones then stay larger. */
ALWAYS_INLINE void bounds_in(int all_sizes, lanes low, lanes high, double per_unit, lanes *minimum,
                             lanes *maximum)
{
    lanes x = low * per_unit, y = high * per_unit, reach_x = all(NEAR), reach_y = all(NEAR);
    if (all_sizes) {
        x = smaller(x, all(BEYOND));
        y = smaller(y, all(BEYOND));
        reach_x = larger(x * 0x1p-52, reach_x);
        reach_y = larger(y * 0x1p-52, reach_y);
    }
    *maximum = round_down(y + reach_y);
    *minimum = smaller(round_up(larger(x - reach_x, all(0.0))), *maximum);
}

/* Bounds of n connectors from index i on, and their sums; 0 for those without a session. */
ALWAYS_INLINE void row_in(const wattfill_batch *b, int all_sizes, int64_t i, int64_t n,
                          double *minimum, double *maximum, double *least, double *most)
{
    const double *low = b->minimum + i, *high = b->maximum + i;
    const uint8_t *active = b->active ? b->active + i : NULL;
    const double per_unit = b->per_unit;
    lanes low_sum = {0}, high_sum = {0}, x, y;
    for (int64_t k = 0; k < n; k += LANES) {
        int64_t left = n - k;
        __builtin_prefetch(low + k + AHEAD);
        __builtin_prefetch(high + k + AHEAD);
        x = get(low + k, left);
        y = get(high + k, left);
        if (active) {
            for (int64_t j = 0; j < LANES && j < left; ++j)
                if (!active[k + j]) x[j] = y[j] = 0.0;
        }
        bounds_in(all_sizes, x, y, per_unit, &x, &y);
        put(minimum + k, left, x);
        put(maximum + k, left, y);
        low_sum += x;
        high_sum += y;
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
    /* In this order a bound of -0 comes out as 0. */
    *power = smaller(high, larger(low, q / per_unit));
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
    const double *low = b->minimum + i, *high = b->maximum + i;
    double *power = b->power + i;
    uint8_t *reason = b->reason ? b->reason + i : NULL;
    int64_t *bound_by = b->reason ? b->bound_by + i : NULL;
    const double per_unit = b->per_unit;
    lanes used = {0}, powers;
    bytes reasons;
    flags bounds;
    for (int64_t k = 0; k < n; k += LANES) {
        int64_t left = n - k;
        __builtin_prefetch(power + k + AHEAD, 1);
        used += powers_out(all(level), get(low + k, left), get(high + k, left),
                           get(minimum + k, left), get(maximum + k, left), per_unit, g, &powers,
                           &reasons, &bounds);
        put(power + k, left, powers);
        if (!b->reason) continue;
        if (left >= LANES) {
            memcpy(reason + k, &reasons, sizeof reasons);
            memcpy(bound_by + k, &bounds, sizeof bounds);
        } else {
            for (int64_t j = 0; j < left; ++j) {
                reason[k + j] = reasons[j];
                bound_by[k + j] = bounds[j];
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
        if (!b->reason) continue;
        b->reason[i] = WATTFILL_IDLE;
        b->bound_by[i] = -1;
    }
}

#endif
