/* SPDX-License-Identifier: Apache-2.0
 *
 * The way in and out: from the caller's units to whole numbers of grains and back. A grain is a
 * step, or a quantum where there are no steps.
 *
 * People type decimals and binary fractions betray them, so what lies within a thousandth of a
 * quantum of a grid point, or within the rounding error of a large value, is that point.
 */
#ifndef WATTFILL_GRID_H
#define WATTFILL_GRID_H

#include "lanes.h"

#define BEYOND 0x1p54 /* more quanta than any group can have: stands for all that is larger */
#define NEAR 0x1p-10  /* a thousandth of a quantum */

typedef struct {
    double per_unit;  /* quanta in one unit, whole */
    double unit;      /* 1 / per_unit */
    double unit_rest; /* and what that lacks */
    double step;      /* quanta in one step, whole; 0 for none */
    double one_by;    /* 1 / step */
} grid;

ALWAYS_INLINE grid grid_of(double per_unit, double step)
{
    double unit = 1.0 / per_unit;
    double rest = LANES > 1 ? fma(-per_unit, unit, 1.0) / per_unit : 0.0;
    return (grid){per_unit, unit, rest, step, step > 0.0 ? 1.0 / step : 0.0};
}

/* Whole numbers of quanta at or below x units, and at or above. `all_sizes`, or only those below
 * 2**42 quanta, where nothing is further from a grid point than NEAR that is meant to be one:
 * larger ones then stay larger. */
ALWAYS_INLINE lanes quanta_down(const grid *by, int all_sizes, lanes x)
{
    lanes y = x * all(by->per_unit), reach = all(NEAR);
    if (all_sizes) {
        y = smaller(all(BEYOND), y);
        reach = larger(y * all(0x1p-52), reach);
    }
    return whole_below(plus(y, reach));
}

ALWAYS_INLINE lanes quanta_up(const grid *by, int all_sizes, lanes x)
{
    lanes y = x * all(by->per_unit), reach = all(NEAR);
    if (all_sizes) {
        y = smaller(all(BEYOND), y);
        reach = larger(y * all(0x1p-52), reach);
    }
    return whole_above(minus(y, reach));
}

/* Whole steps at or below q quanta, and at or above. Below 2**42 quanta the rounding error of a
 * quotient is far less than half a quantum is in steps; above, it can be off by one. */
ALWAYS_INLINE lanes steps_down(const grid *by, int all_sizes, lanes q)
{
    lanes n = whole_below(add_product(all(0.5 * by->one_by), q, all(by->one_by))), one = all(1.0);
    if (all_sizes) {
        n = choose(is_above(n * all(by->step), q), n - one, n);
        n = choose(is_above((n + one) * all(by->step), q), n, n + one);
    }
    return n;
}

ALWAYS_INLINE lanes steps_up(const grid *by, int all_sizes, lanes q)
{
    lanes n = whole_above(add_product(all(-0.5 * by->one_by), q, all(by->one_by))), one = all(1.0);
    if (all_sizes) {
        n = choose(is_above(q, n * all(by->step)), n + one, n);
        n = choose(is_above(q, (n - one) * all(by->step)), n, n - one);
    }
    return n;
}

/* Bounds in grains, NaN where they are. With steps there may be none between them: then they are 1
 * and 0. */
ALWAYS_INLINE void bounds_in(const grid *by, int all_sizes, int steps, lanes low, lanes high,
                             lanes *minimum, lanes *maximum)
{
    *maximum = quanta_down(by, all_sizes, high);
    *minimum = smaller(*maximum, quanta_up(by, all_sizes, low));
    if (steps) {
        lanes quanta = *maximum;
        *maximum = steps_down(by, all_sizes, *maximum);
        *minimum = steps_up(by, all_sizes, *minimum);
        flags none = is_above(*minimum, *maximum);
        /* Of larger ones only this much is known: they are larger. */
        if (!all_sizes) none = both(none, is_above(all(0x1p42), quanta));
        *minimum = choose(none, all(1.0), *minimum);
        *maximum = choose(none, all(0.0), *maximum);
    }
}

/* x whole quanta below 2**53, not -0, in units, correctly rounded. With a fused multiply-add and
 * 1 / per_unit in two doubles this takes no division (Brisebarre, Muller: Correctly rounded
 * multiplication by arbitrary precision constants, IEEE Trans. Comput. 57, 2008): before the last
 * rounding it is wrong by hardly more than one part in 2**105, half of it from the second double,
 * half of it from its product; and as per_unit is whole and at most 2**50, no quotient lies
 * within one part in 2**104 of the middle between two doubles. */
ALWAYS_INLINE lanes units(const grid *by, lanes x)
{
#if LANES > 1
    return add_product(x * all(by->unit_rest), x, all(by->unit));
#else
    return x / by->per_unit;
#endif
}

ALWAYS_INLINE lanes units_of_grains(const grid *by, lanes n)
{
    if (by->step > 0.0) n = n * all(by->step);
    return units(by, n);
}

/* A level from outside, in grains; any number may come. */
ALWAYS_INLINE lanes guesses_in(const grid *by, lanes level)
{
    lanes grains = level * all(by->per_unit) + all(NEAR);
    if (by->step > 0.0) grains = grains * all(by->one_by);
    return grains;
}

ALWAYS_INLINE double guess_in(const grid *by, double level)
{
    return lane(guesses_in(by, all(level)), 0);
}

/* Quanta a group may use. */
ALWAYS_INLINE lanes usable_quanta(const grid *by, lanes capacity, lanes buffer, lanes reserved)
{
    lanes gross = quanta_down(by, 1, capacity * (all(1.0) - buffer));
    return smaller(larger(gross - quanta_up(by, 1, reserved), all(0.0)), all(0x1p53 - 1.0));
}

#endif
