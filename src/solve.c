/* SPDX-License-Identifier: Apache-2.0
 *
 * Solve trees of groups: admit, fill from the leaves to the root, write the answer.
 *
 * This file is compiled once for each instruction-set level (WATTFILL_SIMD names it); the answer
 * is the same on all of them.
 */
#include "wattfill.h"

#include "level.h"
#include "order.h"
#include "small.h"

#define PASTE_(a, b) a##b
#define PASTE(a, b) PASTE_(a, b)
#define AT_LEVEL(name) PASTE(name, WATTFILL_SIMD)

/* One tree on the way through. Connectors are numbered from 0 in the order of the places of their
 * groups, so that those below a group stand together; bounds and powers are in grains: steps, or
 * quanta where there are none. */
typedef struct {
    const wattfill_batch *batch;
    rule by;
    int64_t root, n_groups;                      /* last place, and how many */
    double *minimum, *maximum, *power, *weight;  /* (n,) of the admitted; the others have 0, 0, 0 */
    double *low, *high, *heavy;                  /* (n,) a tier gathered: bounds and weights */
    int64_t *origin;                             /* (n,) index in the batch */
    int64_t *owner;                              /* (n,) group in the tree */
    uint8_t *reason;                             /* (n,) */
    int64_t *line, *spare;                       /* (n,) admission order, and room to sort */
    int64_t *begin;                              /* (n_groups + 1,) first connector of a group */
    double *usable, *wanted;                     /* (n_groups,) */
} tree;

static inline int64_t place_of(const tree *t, int64_t k) { return t->root - t->n_groups + 1 + k; }

static inline int64_t group_at(const wattfill_batch *b, int64_t place)
{
    return b->order ? b->order[place] : place;
}

/* Group that feeds group k of the tree, or -1. */
static inline int64_t above(const tree *t, int64_t k)
{
    if (!t->batch->up || k == t->n_groups - 1) return -1;
    return t->batch->up[place_of(t, k)] - place_of(t, 0);
}

static inline int64_t first_below(const tree *t, int64_t k)
{
    return t->batch->first ? t->batch->first[place_of(t, k)] - place_of(t, 0) : k;
}

static inline double weight_of(const tree *t, int64_t i) { return t->weight ? t->weight[i] : 1.0; }

/* Bounds of one connector in grains. */
static inline void take_bounds(const wattfill_batch *b, int64_t i, double *minimum, double *maximum)
{
    double high = quanta_down(b->maximum[i], b->per_unit);
    double low = at_most(quanta_up(b->minimum[i], b->per_unit), high);
    *minimum = b->step > 0.0 ? steps_up(low, b->step) : low;
    *maximum = b->step > 0.0 ? steps_down(high, b->step) : high;
}

/* Usable capacity of one group in grains; in quanta it goes out. */
static inline double take_capacity(const wattfill_batch *b, int64_t g)
{
    double q = usable_quanta(b->capacity[g], b->buffer[g], b->reserved[g], b->per_unit);
    b->usable[g] = q / b->per_unit;
    return b->step > 0.0 ? steps_down(q, b->step) : q;
}

static inline double units(const wattfill_batch *b, double grains)
{
    return (b->step > 0.0 ? grains * b->step : grains) / b->per_unit;
}

static inline double power_out(const wattfill_batch *b, int64_t i, double grains)
{
    /* In this order a bound of -0 comes out as 0. */
    return at_most(b->maximum[i], at_least(b->minimum[i], units(b, grains)));
}

static void leave_out(tree *t, int64_t i, uint8_t reason, int64_t bound_by)
{
    t->minimum[i] = t->maximum[i] = t->power[i] = 0.0;
    t->reason[i] = reason;
    if (t->batch->bound_by) t->batch->bound_by[t->origin[i]] = bound_by;
}

static void take_in(tree *t)
{
    const wattfill_batch *b = t->batch;
    int64_t n = 0;
    for (int64_t k = 0; k < t->n_groups; ++k) {
        int64_t g = group_at(b, place_of(t, k));
        t->begin[k] = n;
        t->usable[k] = take_capacity(b, g);
        for (int64_t i = b->offsets[g]; i < b->offsets[g + 1]; ++i, ++n) {
            t->origin[n] = i;
            t->owner[n] = k;
            if (t->weight) t->weight[n] = b->weight[i];
            take_bounds(b, i, &t->minimum[n], &t->maximum[n]);
            t->power[n] = t->maximum[n];
            t->reason[n] = WATTFILL_SHARING;
            if (b->bound_by) b->bound_by[i] = -1;
            if (b->active && !b->active[i]) leave_out(t, n, WATTFILL_IDLE, -1);
            /* No step lies between its bounds. */
            else if (t->minimum[n] > t->maximum[n]) leave_out(t, n, WATTFILL_PAUSED, -1);
        }
    }
    t->begin[t->n_groups] = n;
}

static int all_minimums_fit(tree *t)
{
    int fit = 1;
    for (int64_t k = 0; k < t->n_groups; ++k) t->wanted[k] = 0.0;
    for (int64_t k = 0; k < t->n_groups; ++k) {
        for (int64_t i = t->begin[k]; i < t->begin[k + 1]; ++i) t->wanted[k] += t->minimum[i];
        fit &= t->wanted[k] <= t->usable[k];
        /* A sum that is larger than any capacity can be need not be exact. */
        t->batch->needed[group_at(t->batch, place_of(t, k))] =
            at_most(units(t->batch, t->wanted[k]), 0x1p53 / t->batch->per_unit);
        int64_t parent = above(t, k);
        if (parent >= 0) t->wanted[parent] += t->wanted[k];
    }
    return fit;
}

/* One after another, as long as the minimum fits in the connector's group and all above it. */
static void admit(tree *t)
{
    int64_t n = t->begin[t->n_groups];
    double *left = t->wanted;
    for (int64_t k = 0; k < t->n_groups; ++k) left[k] = t->usable[k];
    for (int64_t i = 0; i < n; ++i) t->line[i] = i;
    put_in_line(t->batch, t->origin, t->line, n, t->spare);
    for (int64_t at = 0; at < n; ++at) {
        int64_t i = t->line[at], k = t->owner[i];
        while (k >= 0 && t->minimum[i] <= left[k]) k = above(t, k);
        if (k >= 0) {
            leave_out(t, i, WATTFILL_PAUSED, group_at(t->batch, place_of(t, k)));
            continue;
        }
        for (k = t->owner[i]; k >= 0; k = above(t, k)) left[k] -= t->minimum[i];
    }
}

/* What a level gives connector i within its own bounds. */
static inline double given(const tree *t, double level, int64_t i)
{
    return share_of(t->by, level, weight_of(t, i), t->minimum[i], t->maximum[i]);
}

/* Group g gives connector i `power`, no more than it had. If its level, which gives `most`, is what
 * keeps it there, it is bound by g: of several such groups, by the one nearest to the root, which
 * has nothing left. */
static inline void hold(tree *t, int64_t i, double power, double most, int64_t g)
{
    t->power[i] = power;
    if (t->batch->bound_by && most <= power && power < t->maximum[i])
        t->batch->bound_by[t->origin[i]] = g;
}

/* Fill connectors start..stop - 1 of group g, who want more than `budget`, in one go. */
static double fill_at_once(tree *t, int64_t g, int64_t start, int64_t stop, double budget)
{
    pool p = {t->minimum + start, t->power + start, t->weight ? t->weight + start : NULL,
              stop - start};
    mark m = highest_level(t->by, &p, budget);
    for (int64_t i = start; i < stop; ++i) {
        double most = given(t, m.level, i);
        hold(t, i, at_most(most, t->power[i]), most, g);
    }
    return m.level;
}

/* The same, tier after tier; with steps, what is left goes out a step at a time. Who stands lower
 * than the tier that the group binds keeps its minimum. */
static double fill_in_line(tree *t, int64_t g, int64_t start, int64_t stop, double budget)
{
    const wattfill_batch *b = t->batch;
    double left = budget, level = INFINITY;
    put_in_line(b, t->origin, t->line + start, stop - start, t->spare);
    for (int64_t i = start; i < stop; ++i) left -= t->minimum[i];

    for (int64_t at = start, end; at < stop; at = end) {
        int64_t n = 0;
        double wanted = 0.0, minimums = 0.0;
        for (end = at; end < stop; ++end, ++n) {
            int64_t i = t->line[end];
            if (b->priority &&
                b->priority[t->origin[i]] != b->priority[t->origin[t->line[at]]]) break;
            t->low[n] = t->minimum[i];
            t->high[n] = t->power[i];
            if (t->weight) t->heavy[n] = t->weight[i];
            wanted += t->high[n];
            minimums += t->low[n];
        }
        if (level < INFINITY) {
            for (int64_t j = 0; j < n; ++j) hold(t, t->line[at + j], t->low[j], t->low[j], g);
        } else if (wanted - minimums <= left) {
            left -= wanted - minimums;
        } else {
            pool p = {t->low, t->high, t->heavy, n};
            mark m = highest_level(t->by, &p, left + minimums);
            level = m.level;
            left += minimums;
            for (int64_t j = 0; j < n; ++j)
                left -= at_most(given(t, m.level, t->line[at + j]), t->high[j]);
            for (int64_t j = 0; j < n; ++j) {
                int64_t i = t->line[at + j];
                double most = given(t, m.level, i), power = at_most(most, t->high[j]);
                int rising = at_most(given(t, m.next, i), t->high[j]) > power;
                if (b->step > 0.0 && rising && left >= 1.0) {
                    power += 1.0;
                    left -= 1.0;
                }
                hold(t, i, power, most, g);
            }
        }
    }
    return level;
}

static void fill(tree *t)
{
    const wattfill_batch *b = t->batch;
    int in_line = b->priority || b->step > 0.0;
    if (in_line)
        for (int64_t i = 0; i < t->begin[t->n_groups]; ++i) t->line[i] = i;
    for (int64_t k = 0; k < t->n_groups; ++k) t->wanted[k] = 0.0;
    for (int64_t k = 0; k < t->n_groups; ++k) {
        int64_t g = group_at(b, place_of(t, k));
        int64_t start = t->begin[first_below(t, k)], stop = t->begin[k + 1];
        double level = INFINITY;
        for (int64_t i = t->begin[k]; i < stop; ++i) t->wanted[k] += t->power[i];
        if (t->wanted[k] > t->usable[k]) {
            level = in_line ? fill_in_line(t, g, start, stop, t->usable[k])
                            : fill_at_once(t, g, start, stop, t->usable[k]);
            t->wanted[k] = 0.0;
            for (int64_t i = start; i < stop; ++i) t->wanted[k] += t->power[i];
        }
        b->level[g] = units(b, level);
        int64_t parent = above(t, k);
        if (parent >= 0) t->wanted[parent] += t->wanted[k];
    }
}

static void write_out(tree *t)
{
    const wattfill_batch *b = t->batch;
    double *used = t->wanted;
    for (int64_t k = 0; k < t->n_groups; ++k) used[k] = 0.0;
    for (int64_t k = 0; k < t->n_groups; ++k) {
        for (int64_t n = t->begin[k]; n < t->begin[k + 1]; ++n) {
            int64_t i = t->origin[n];
            used[k] += t->power[n];
            uint8_t reason = t->reason[n];
            if (reason == WATTFILL_SHARING) {
                b->power[i] = power_out(b, i, t->power[n]);
                if (t->power[n] == t->maximum[n]) reason = WATTFILL_MAXIMUM;
                else if (t->power[n] == t->minimum[n]) reason = WATTFILL_MINIMUM;
            } else {
                b->power[i] = 0.0;
            }
            if (b->reason) b->reason[i] = reason;
        }
        b->used[group_at(b, place_of(t, k))] = units(b, used[k]);
        int64_t parent = above(t, k);
        if (parent >= 0) used[parent] += used[k];
    }
}

static void solve_tree(tree *t, int64_t root)
{
    t->root = root;
    t->n_groups = t->batch->first ? root - t->batch->first[root] + 1 : 1;
    take_in(t);
    if (!all_minimums_fit(t)) admit(t);
    fill(t);
    write_out(t);
}

/* One group on its own, all weights, priorities and ranks alike, no steps: the common case.
 * Returns 0, with nothing of use written, where minimums do not fit. */
static int solve_plain(tree *t, int64_t g)
{
    const wattfill_batch *b = t->batch;
    int64_t start = b->offsets[g], n = b->offsets[g + 1] - start;
    double *minimum = t->minimum, *maximum = t->maximum;
    double budget = take_capacity(b, g), least = 0.0, most = 0.0, level = INFINITY;
    row_in(b, 1, start, n, minimum, maximum, &least, &most);
    if (least > budget) return 0;
    b->needed[g] = least / b->per_unit;
    if (most > budget) {
        pool p = {minimum, maximum, NULL, n};
        level = highest_level(EQUAL, &p, budget).level;
    }
    b->used[g] = write_row(b, g, start, n, minimum, maximum, level) / b->per_unit;
    b->level[g] = level / b->per_unit;
    if (b->active) mark_idle(b, start, start + n);
    return 1;
}

/* Groups on their own: crowds of small ones of about one size, the others one by one. */
static void solve_plains(tree *t, int64_t start, int64_t stop)
{
    enum { SIZES = 4 }; /* up to 8, 16, 32, 64 connectors */
    const wattfill_batch *b = t->batch;
    crowd crowds[SIZES];
    for (int s = 0; s < SIZES; ++s) crowds[s].n = 0;
    for (int64_t g = start; g < stop + SIZES; ++g) {
        /* After the last group, what waits for company goes without. */
        crowd *c = &crowds[0];
        if (g < stop) {
            int64_t n = b->offsets[g + 1] - b->offsets[g];
            if (n > SMALL || b->capacity[g] * b->per_unit >= SMALL_CAPACITY) {
                if (!solve_plain(t, g)) solve_tree(t, g);
                continue;
            }
            while (n > 8 << (c - crowds)) ++c;
            join(c, g, n);
            if (c->n < LANES) continue;
        } else {
            c = &crowds[g - stop];
            if (c->n == 0) continue;
        }
        int n_groups = c->n;
        flags too_much = solve_crowd(b, c);
        for (int j = 0; j < n_groups; ++j)
            if (too_much[j]) solve_tree(t, c->group[j]);
    }
}

int64_t AT_LEVEL(wattfill_first_malformed_)(int64_t n, const double *minimum, const double *maximum)
{
    enum { BLOCK = 1024 };
    for (int64_t start = 0; start < n; start += BLOCK) {
        int64_t stop = start + BLOCK < n ? start + BLOCK : n, bad = 0;
        for (int64_t i = start; i < stop; ++i)
            bad |= !(minimum[i] >= 0.0) | !(maximum[i] >= minimum[i]) | !(maximum[i] < INFINITY);
        if (!bad) continue;
        for (int64_t i = start; i < stop; ++i)
            if (!(minimum[i] >= 0.0 && maximum[i] >= minimum[i] && maximum[i] < INFINITY)) return i;
    }
    return -1;
}

int64_t AT_LEVEL(wattfill_solve_)(const wattfill_batch *b, int64_t start, int64_t stop, void *scratch)
{
    int64_t n = b->most_connectors;
    double *numbers = scratch;
    tree t = {.batch = b};
    t.by = !b->weight ? EQUAL : b->step > 0.0 ? WEBSTER : WEIGHTED;
    t.minimum = numbers;
    t.maximum = t.minimum + n;
    t.power = t.maximum + n;
    t.low = t.power + n;
    t.high = t.low + n;
    t.weight = b->weight ? t.high + n : NULL;
    t.heavy = b->weight ? t.weight + n : NULL;
    t.usable = t.high + n + (b->weight ? 2 * n : 0);
    t.wanted = t.usable + b->most_groups;
    t.begin = (int64_t *)(t.wanted + b->most_groups);
    t.origin = t.begin + b->most_groups + 1;
    t.owner = t.origin + n;
    t.line = t.owner + n;
    t.spare = t.line + n;
    t.reason = (uint8_t *)(t.spare + n);

    for (int64_t place = start; place < stop; ++place) {
        int64_t g = group_at(b, place), at = b->offsets[g];
        int64_t bad = AT_LEVEL(wattfill_first_malformed_)(b->offsets[g + 1] - at, b->minimum + at,
                                                          b->maximum + at);
        if (bad >= 0) return at + bad;
    }
    if (!b->order && !b->weight && !b->priority && b->step == 0.0) {
        solve_plains(&t, start, stop);
        return -1;
    }
    for (int64_t place = start; place < stop; ++place)
        if (!b->up || b->up[place] < 0) solve_tree(&t, place);
    return -1;
}
