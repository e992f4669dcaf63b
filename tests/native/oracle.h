/* SPDX-License-Identifier: Apache-2.0
 *
 * What a batch must come to, from the definition: exact, slow, and unlike the kernel in method.
 *
 * wattfill.testing.solve in C, so that a fuzzer can ask it a thousand times a second. Sums are
 * integers of 128 bits; levels are built bit by bit instead of searched for; a group looks for the
 * connectors below it instead of having them side by side. It reads the inputs of a batch and
 * shares no code with src.
 */
#ifndef WATTFILL_ORACLE_H
#define WATTFILL_ORACLE_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "wattfill.h"

typedef __int128 whole;

static const double MOST_QUANTA = 0x1p53;
static const double BEYOND_ALL = 0x1p54; /* more quanta than any group can have */

typedef struct {
    double *power;               /* (n_connectors,) */
    uint8_t *reason;             /* (n_connectors,) */
    int64_t *bound_by;           /* (n_connectors,) */
    double *level, *usable, *used, *needed; /* (n_groups,) */
} answer;

/* One connector on the way; bounds and power in grains: steps, or quanta where there are none. */
typedef struct {
    int64_t group, minimum, maximum, power, bound_by;
    double weight;
    int admitted;
} member;

/* Who shares a budget, in admission order. */
typedef struct {
    member **of;
    int64_t n;
    int weighted, steps;
} tier;

static double near_enough(double quanta) { return fmax(0x1p-10, quanta * 0x1p-52); }

static int64_t rounded_down(double x, double per_unit)
{
    double quanta = fmin(x * per_unit, BEYOND_ALL);
    return (int64_t)floor(quanta + near_enough(quanta));
}

static int64_t rounded_up(double x, double per_unit)
{
    double quanta = fmin(x * per_unit, BEYOND_ALL);
    return (int64_t)fmax(ceil(quanta - near_enough(quanta)), 0.0);
}

static int feeds(const wattfill_batch *b, int64_t above, int64_t g)
{
    while (g != above && g >= 0) g = b->parent ? b->parent[g] : -1;
    return g == above;
}

static int64_t depth(const wattfill_batch *b, int64_t g)
{
    int64_t n = 0;
    for (; b->parent && b->parent[g] >= 0; g = b->parent[g]) ++n;
    return n;
}

static const wattfill_batch *sorted; /* whose connectors qsort puts in line */

static int in_admission_order(const void *one, const void *other)
{
    int64_t i = *(const int64_t *)one, j = *(const int64_t *)other;
    if (sorted->priority && sorted->priority[i] != sorted->priority[j])
        return sorted->priority[i] > sorted->priority[j] ? -1 : 1;
    if (sorted->rank && sorted->rank[i] != sorted->rank[j])
        return sorted->rank[i] < sorted->rank[j] ? -1 : 1;
    return i < j ? -1 : i > j;
}

/* How many of the claims (k + 1/2) / weight, k = 0, 1, ... a level has reached. */
static int64_t claims(double level, double weight)
{
    int64_t k = (int64_t)floor(fmin(level * weight, BEYOND_ALL));
    while (k > 0 && ((double)k - 0.5) / weight > level) --k;
    while (((double)k + 0.5) / weight <= level && (double)k < BEYOND_ALL) ++k;
    return k;
}

/* What a level allows a member within its own bounds, and what the member draws of it. */
static int64_t allowed(const tier *t, const member *m, double level)
{
    int64_t share = t->weighted && t->steps ? claims(level, m->weight)
                                            : (int64_t)floor(fmin(level * m->weight, BEYOND_ALL));
    if (share < m->minimum) share = m->minimum;
    return share > m->maximum ? m->maximum : share;
}

static int64_t drawn(const tier *t, const member *m, double level)
{
    int64_t share = allowed(t, m, level);
    return share > m->power ? m->power : share;
}

static whole all_drawn(const tier *t, double level)
{
    whole sum = 0;
    for (int64_t j = 0; j < t->n; ++j) sum += drawn(t, t->of[j], level);
    return sum;
}

/* The highest level at which a tier draws at most its budget, and the next one on the grid. */
static double highest_of(const tier *t, whole budget, double *above)
{
    double level = 0.0;
    for (int place = 62; place >= 0; --place) {
        /* Doubles that are not negative are in the order of their bits. */
        uint64_t bits;
        double higher;
        memcpy(&bits, &level, sizeof bits);
        bits |= (uint64_t)1 << place;
        memcpy(&higher, &bits, sizeof higher);
        if (isfinite(higher) && all_drawn(t, higher) <= budget) level = higher;
    }
    *above = nextafter(level, INFINITY);
    if (t->weighted && t->steps) return level;
    /* On the grid: the largest power of two that raises nobody by more than one. */
    double heaviest = 0.0;
    for (int64_t j = 0; j < t->n; ++j)
        if (t->of[j]->minimum < t->of[j]->power) heaviest = fmax(heaviest, t->of[j]->weight);
    int exponent;
    double fraction = frexp(heaviest, &exponent);
    double grain = ldexp(1.0, fraction == 0.5 ? 1 - exponent : -exponent);
    level = floor(level / grain) * grain;
    *above = fmax(level + grain, nextafter(level, INFINITY));
    return level;
}

/* Give a member `power`, which its level keeps there if it allows no more. */
static void give(member *m, int64_t power, int64_t most, int64_t g)
{
    m->power = power;
    if (most <= power && power < m->maximum) m->bound_by = g;
}

/* Lower those in line who want more than the budget of group g, tier after tier. */
static double fill_line(const wattfill_batch *b, int64_t g, member *all, tier line, whole budget)
{
    double level = INFINITY;
    whole spare = budget;
    for (int64_t j = 0; j < line.n; ++j) spare -= line.of[j]->minimum;
    for (int64_t start = 0, stop; start < line.n; start = stop) {
        tier t = line;
        whole room = 0, left;
        for (stop = start; stop < line.n; ++stop) {
            if (b->priority && b->priority[line.of[stop] - all] !=
                                   b->priority[line.of[start] - all]) break;
            room += line.of[stop]->power - line.of[stop]->minimum;
        }
        t.of = line.of + start;
        t.n = stop - start;
        if (level < INFINITY) {
            for (int64_t j = 0; j < t.n; ++j) give(t.of[j], t.of[j]->minimum, t.of[j]->minimum, g);
            continue;
        }
        if (room <= spare) {
            spare -= room;
            continue;
        }
        double above;
        left = spare;
        for (int64_t j = 0; j < t.n; ++j) left += t.of[j]->minimum;
        level = highest_of(&t, left, &above);
        left -= all_drawn(&t, level);
        for (int64_t j = 0; j < t.n; ++j) {
            int64_t power = drawn(&t, t.of[j], level);
            if (t.steps && left > 0 && drawn(&t, t.of[j], above) > power) {
                ++power;
                --left;
            }
            give(t.of[j], power, allowed(&t, t.of[j], level), g);
        }
    }
    return level;
}

static void solve_by_definition(const wattfill_batch *b, answer *a)
{
    int64_t n = b->n_connectors, n_groups = b->n_groups;
    int64_t grain = b->step > 0.0 ? (int64_t)b->step : 1;
    member *all = malloc(sizeof *all * (size_t)(n + 1)), **below = malloc(sizeof *below * (size_t)(n + 1));
    int64_t *line = malloc(sizeof *line * (size_t)(n + 1));
    whole *left = malloc(sizeof *left * (size_t)(n_groups + 1));
    whole *budget = malloc(sizeof *budget * (size_t)(n_groups + 1));

    for (int64_t g = 0; g < n_groups; ++g) {
        int64_t usable = rounded_down(b->capacity[g] * (1.0 - b->buffer[g]), b->per_unit) -
                         rounded_up(b->reserved[g], b->per_unit);
        if (usable < 0) usable = 0;
        if (usable > (int64_t)MOST_QUANTA - 1) usable = (int64_t)MOST_QUANTA - 1;
        left[g] = budget[g] = usable / grain;
        a->usable[g] = (double)usable / b->per_unit;
        for (int64_t i = b->offsets[g]; i < b->offsets[g + 1]; ++i) {
            int64_t high = rounded_down(b->maximum[i], b->per_unit);
            int64_t low = rounded_up(b->minimum[i], b->per_unit);
            if (low > high) low = high;
            all[i] = (member){.group = g, .minimum = low / grain + (low % grain > 0),
                              .maximum = high / grain, .bound_by = -1,
                              .weight = b->weight ? b->weight[i] : 1.0};
        }
    }
    for (int64_t i = 0; i < n; ++i) line[i] = i;
    sorted = b;
    if (b->priority || b->rank) qsort(line, (size_t)n, sizeof *line, in_admission_order);

    for (int64_t g = 0; g < n_groups; ++g) {
        whole needed = 0;
        for (int64_t i = 0; i < n; ++i)
            if ((!b->active || b->active[i]) && all[i].minimum <= all[i].maximum &&
                feeds(b, g, all[i].group)) needed += (whole)all[i].minimum * grain;
        a->needed[g] = (needed > (whole)MOST_QUANTA ? MOST_QUANTA : (double)needed) / b->per_unit;
    }

    /* Admission: one after another, if the minimum fits in the group and in every ancestor. */
    for (int64_t at = 0; at < n; ++at) {
        member *m = &all[line[at]];
        int64_t g = m->group;
        if ((b->active && !b->active[line[at]]) || m->minimum > m->maximum) continue;
        while (g >= 0 && m->minimum <= left[g]) g = b->parent ? b->parent[g] : -1;
        m->admitted = g < 0;
        m->bound_by = g;
        if (!m->admitted) continue;
        m->power = m->maximum;
        for (g = m->group; g >= 0; g = b->parent ? b->parent[g] : -1) left[g] -= m->minimum;
    }

    /* Filling: from the leaves to the root, with what the child gives as the upper bound. */
    for (int64_t g = 0; g < n_groups; ++g) a->level[g] = INFINITY;
    int64_t deepest = 0;
    for (int64_t g = 0; g < n_groups; ++g)
        if (depth(b, g) > deepest) deepest = depth(b, g);
    for (int64_t d = deepest; d >= 0; --d) {
        for (int64_t g = 0; g < n_groups; ++g) {
            if (depth(b, g) != d) continue;
            whole wanted = 0;
            tier t = {.of = below, .weighted = b->weight != NULL, .steps = b->step > 0.0};
            for (int64_t at = 0; at < n; ++at) {
                member *m = &all[line[at]];
                if (!m->admitted || !feeds(b, g, m->group)) continue;
                below[t.n++] = m;
                wanted += m->power;
            }
            if (wanted > budget[g])
                a->level[g] = fill_line(b, g, all, t, budget[g]) * (double)grain / b->per_unit;
        }
    }

    for (int64_t i = 0; i < n; ++i) {
        const member *m = &all[i];
        a->bound_by[i] = m->bound_by;
        a->power[i] = 0.0;
        if (b->active && !b->active[i]) {
            a->reason[i] = WATTFILL_IDLE;
        } else if (!m->admitted) {
            a->reason[i] = WATTFILL_PAUSED;
        } else {
            double power = (double)(m->power * grain) / b->per_unit;
            if (!(power > b->minimum[i])) power = b->minimum[i] + 0.0;
            if (!(power < b->maximum[i])) power = b->maximum[i] + 0.0;
            a->power[i] = power;
            a->reason[i] = m->power == m->maximum   ? WATTFILL_MAXIMUM
                           : m->power == m->minimum ? WATTFILL_MINIMUM
                                                    : WATTFILL_SHARING;
        }
    }
    for (int64_t g = 0; g < n_groups; ++g) {
        whole used = 0;
        for (int64_t i = 0; i < n; ++i)
            if (feeds(b, g, all[i].group)) used += (whole)all[i].power * grain;
        a->used[g] = (double)used / b->per_unit;
    }
    free(all);
    free(below);
    free(line);
    free(left);
    free(budget);
}

#endif
