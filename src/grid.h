/* SPDX-License-Identifier: Apache-2.0
 *
 * The way in and out: from the caller's units to whole numbers of quanta and back.
 *
 * People type decimals and binary fractions betray them, so what lies within a thousandth of a
 * quantum of a grid point, or within the rounding error of a large value, is that point.
 */
#ifndef WATTFILL_GRID_H
#define WATTFILL_GRID_H

#include <float.h>
#include <math.h>

#if FLT_EVAL_METHOD != 0
#error "Doubles must be rounded to doubles: on x86 compile for SSE2"
#endif

#define BEYOND 0x1p54 /* more quanta than any group can have: stands for all that is larger */
#define NEAR 0x1p-10  /* a thousandth of a quantum */

static inline double at_least(double x, double bound) { return x > bound ? x : bound; }
static inline double at_most(double x, double bound) { return x < bound ? x : bound; }

/* Largest whole number not above x, and smallest not below it, for x >= 0. */
#if defined(__SSE4_1__) || defined(__aarch64__)
static inline double whole_below(double x) { return floor(x); }
static inline double whole_above(double x) { return ceil(x); }
#else
/* Adding 2**52 rounds to a whole number: for processors without an instruction for it. From
 * 2**52 on every double is whole. */
static inline double whole_nearest(double x) { return x < 0x1p52 ? (x + 0x1p52) - 0x1p52 : x; }
static inline double whole_below(double x)
{
    double nearest = whole_nearest(x);
    return nearest > x ? nearest - 1.0 : nearest;
}
static inline double whole_above(double x)
{
    double nearest = whole_nearest(x);
    return nearest < x ? nearest + 1.0 : nearest;
}
#endif

/* Quanta in x units, before rounding; finite whatever x is. */
static inline double quanta(double x, double per_unit) { return at_most(x * per_unit, BEYOND); }

/* How far a grid point may be from y and still be meant. */
static inline double reach(double y) { return at_least(y * 0x1p-52, NEAR); }

static inline double quanta_down(double x, double per_unit)
{
    double y = quanta(x, per_unit);
    return whole_below(y + reach(y));
}

static inline double quanta_up(double x, double per_unit)
{
    double y = quanta(x, per_unit);
    return whole_above(at_least(y - reach(y), 0.0));
}

/* Whole numbers of steps in q quanta; both are whole, and the quotient may round up to one. */
static inline double steps_down(double q, double step)
{
    double n = whole_below(q / step);
    return n * step > q ? n - 1.0 : n;
}

static inline double steps_up(double q, double step)
{
    double n = steps_down(q, step);
    return n * step < q ? n + 1.0 : n;
}

/* Quanta a group may use. */
static inline double usable_quanta(double capacity, double buffer, double reserved, double per_unit)
{
    double gross = quanta_down(capacity * (1.0 - buffer), per_unit);
    return at_most(at_least(gross - quanta_up(reserved, per_unit), 0.0), 0x1p53 - 1.0);
}

#endif
