/* SPDX-License-Identifier: Apache-2.0
 *
 * What comes of powers over time: the steps of a load, sums of energy, and percentiles.
 */
#ifndef SIM_LOAD_H
#define SIM_LOAD_H

#include <stdlib.h>
#include <string.h>

#include "simulate.h"

/* Make room for n more. Returns 0, or -1 where there is no memory. */
static inline int make_room(sim_steps *of, int64_t n)
{
    if (of->n + n <= of->room) return 0;
    int64_t room = of->room + of->room / 2 + n + 1024;
    sim_step *steps = realloc(of->steps, (size_t)room * sizeof *steps);
    if (!steps) return -1;
    of->steps = steps;
    of->room = room;
    return 0;
}

/* Energies are whole and not negative, and one of them is below 2**62. */
static inline void add_energy(sim_energy *to, int64_t energy)
{
    const int64_t limb = (int64_t)1 << 62;
    to->low += energy;
    if (to->low < limb) return;
    to->low -= limb;
    ++to->high;
}

static inline int64_t median(int64_t x, int64_t y, int64_t z)
{
    int64_t low = x < y ? x : y, high = x < y ? y : x;
    return z < low ? low : z > high ? high : z;
}

/* The least power such that at most this power was drawn for `needed` ms or more. Steps hold how
 * long each lasted in place of when it began, `needed` ms or more together, and are put into
 * another order. Quickselect, by weights, with three parts (Hoare: Algorithm 65, CACM 4, 1961). */
static int64_t power_for(sim_step *steps, int64_t n, int64_t needed)
{
    int64_t start = 0, stop = n;
    while (stop - start > 1) {
        int64_t pivot = median(steps[start].power, steps[start + (stop - start) / 2].power,
                               steps[stop - 1].power);
        int64_t below = start, at = start, above = stop, less = 0, same = 0;
        while (at < above) {
            sim_step step = steps[at];
            if (step.power < pivot) {
                less += step.at;
                steps[at++] = steps[below];
                steps[below++] = step;
            } else if (step.power > pivot) {
                steps[at] = steps[--above];
                steps[above] = step;
            } else {
                same += step.at;
                ++at;
            }
        }
        if (needed <= less) {
            stop = below;
        } else if (needed <= less + same) {
            return pivot;
        } else {
            needed -= less + same;
            start = above;
        }
    }
    return steps[start].power;
}

/* The 95th percentile of a load from `start` to `stop`: the least power that was not passed for
 * 95 % of the time. Its steps are used up, and there is room for one more. */
static int64_t percentile_95(sim_step *steps, int64_t n, int64_t start, int64_t stop)
{
    int64_t total = stop - start;
    if (n == 0 || total == 0) return 0;
    steps[n] = (sim_step){.at = steps[0].at - start}; /* nothing before the first */
    for (int64_t k = 0; k < n; ++k)
        steps[k].at = (k + 1 < n ? steps[k + 1].at : stop) - steps[k].at;
    return power_for(steps, n + 1, total - total / 20);
}

#endif
