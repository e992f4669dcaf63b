/* SPDX-License-Identifier: Apache-2.0
 *
 * The inner loops of the kernel, each on one register of a row, to see what they are made of:
 * python tests/native ports. Nothing here is run.
 */
#include "later.h"

#define BEGIN(name) __asm__ volatile("# LLVM-MCA-BEGIN " name ::: "memory")
#define END() __asm__ volatile("# LLVM-MCA-END" ::: "memory")
#define REGISTERS_OF(n) for (int64_t k = 0; k < (n); k += LANES)

#define WAY_IN(function, name, has)                                                              \
    row_sums function(const wattfill_batch *b, const grid *by, double level, int64_t n,          \
                      double *minimum, double *maximum, doubts *d)                               \
    {                                                                                            \
        const grid in = *by;                                                                     \
        const double *low = b->minimum, *high = b->maximum;                                      \
        row_sums s = {all(0.0), all(0.0), all(0.0)};                                             \
        doubts seen = *d;                                                                        \
        REGISTERS_OF(n)                                                                          \
        {                                                                                        \
            BEGIN(name);                                                                         \
            some_in(&in, has, all(level), load(low + k), load(high + k), NULL, LANES,            \
                    minimum + k, maximum + k, &s, &seen);                                        \
            END();                                                                               \
        }                                                                                        \
        *d = seen;                                                                               \
        return s;                                                                                \
    }

WAY_IN(bounds_way_in, "bounds in", PLAIN)
WAY_IN(steps_way_in, "bounds in, steps", STEPS)

#define LOOK(function, name, by)                                                                 \
    draw function(const pool *of, double level)                                                  \
    {                                                                                            \
        const pool p = *of;                                                                      \
        draw d = no_draw();                                                                      \
        REGISTERS_OF(p.n)                                                                        \
        {                                                                                        \
            BEGIN(name);                                                                         \
            if (by == EQUAL)                                                                     \
                d.drawn += share_at(by, &p, all(level), k, LANES);                               \
            else                                                                                 \
                add_draw(by, all(level), load(p.weight + k), load(p.minimum + k),                \
                         load(p.maximum + k), &d);                                               \
            END();                                                                               \
        }                                                                                        \
        return d;                                                                                \
    }

LOOK(plain_look, "look", EQUAL)
LOOK(weighted_look, "look, weights", WEIGHTED)

#define WAY_OUT(function, name, by, has)                                                         \
    void function(const wattfill_batch *b, const grid *in, const pool *of, double level)         \
    {                                                                                            \
        const grid units_in = *in;                                                               \
        const pool p = *of;                                                                      \
        const double *low = b->minimum, *high = b->maximum;                                      \
        double *power = b->power;                                                                \
        REGISTERS_OF(p.n)                                                                        \
        {                                                                                        \
            BEGIN(name);                                                                         \
            store(power + k, some_out(&units_in, has, load(low + k), load(high + k),             \
                                      share_at(by, &p, all(level), k, LANES),                    \
                                      load(p.minimum + k), load(p.maximum + k)));                \
            END();                                                                               \
        }                                                                                        \
    }

WAY_OUT(powers_way_out, "powers out", EQUAL, PLAIN)
WAY_OUT(steps_way_out, "powers out, steps", EQUAL, STEPS)
WAY_OUT(weighted_way_out, "powers out, weights", WEIGHTED, PLAIN)

lanes powers_from_bounds(const wattfill_batch *b, const grid *by, double level, int64_t n)
{
    const grid in = *by;
    const double *low = b->minimum, *high = b->maximum;
    double *power = b->power;
    lanes off_grid = all(0.0);
    REGISTERS_OF(n)
    {
        BEGIN("powers from bounds");
        lanes x = smaller(load(high + k), larger(load(low + k), all(level)));
        off_grid = unlike(off_grid, x, units(&in, quanta_down(&in, 0, x)));
        store(power + k, x);
        END();
    }
    return off_grid;
}
