/* SPDX-License-Identifier: Apache-2.0
 *
 * Solve trees of groups: admit, fill from the leaves to the root, write the answer.
 *
 * This file is compiled once for each instruction-set level (WATTFILL_SIMD names it); the answer
 * is the same on all of them.
 */
#include "wattfill.h"

#include "flight.h"
#include "large.h"
#include "later.h"
#include "tiny.h"

#define PASTE_(a, b) a##b
#define PASTE(a, b) PASTE_(a, b)
#define AT_LEVEL(name) PASTE(name, WATTFILL_SIMD)

/* One tree on the way through. Connectors are numbered from 0 in the order of the places of their
 * groups, so that those below a group stand together; bounds and powers are in grains. Who takes no
 * part has a minimum of 1 and a maximum and a power of 0. */
typedef struct {
    const wattfill_batch *batch;
    grid in;
    rule by;
    contents has;
    int64_t root, n_groups;                      /* last place, and how many */
    double *minimum, *maximum, *power, *weight;  /* (n,) */
    double *low, *high, *heavy;                  /* (n,) a tier gathered: bounds and weights */
    int64_t *origin;                             /* (n,) index in the batch, once indexed */
    int64_t *owner;                              /* (n,) group in the tree, likewise */
    int64_t *line, *spare;                       /* (n,) admission order, and room to sort */
    int64_t *begin;                              /* (n_groups + 1,) first connector of a group */
    double *usable, *wanted;                     /* (n_groups,) */
    int indexed;
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

static inline pool connectors(const tree *t, int64_t start, int64_t stop)
{
    return (pool){t->minimum + start, t->power + start, t->weight ? t->weight + start : NULL,
                  stop - start};
}

ALWAYS_INLINE double sum_of(const double *x, int64_t n)
{
    lanes total = all(0.0);
    for (int64_t k = 0; k < n; k += LANES) total += get(x + k, n - k);
    return sum(total);
}

/* Usable capacities of n groups in grains; in units they go out. */
static void take_capacities(const wattfill_batch *b, const grid *of, int64_t start, int64_t n,
                            double *budget)
{
    const grid by = *of, *in = &by; /* a copy, which no store can change */
    for (int64_t k = 0; k < n; k += LANES) {
        int64_t g = start + k, left = n - k;
        lanes q = usable_quanta(in, get(b->capacity + g, left), get(b->buffer + g, left),
                                get(b->reserved + g, left));
        put(b->usable + g, left, units(in, q));
        put(budget + k, left, in->step > 0.0 ? steps_down(in, 1, q) : q);
    }
}

/* Levels and sums of n groups from grains to units. A sum of minimums that is larger than any
 * capacity can be need not be exact. */
static void levels_out(const wattfill_batch *b, const grid *of, int64_t start, int64_t n)
{
    const grid by = *of, *in = &by; /* a copy, which no store can change */
    for (int64_t k = 0; k < n; k += LANES) {
        int64_t g = start + k, left = n - k;
        lanes level = get(b->level + g, left), infinite = all(INFINITY);
        lanes needed = units_of_grains(in, get(b->needed + g, left));
        put(b->level + g, left,
            choose(is_same(level, infinite), infinite, units_of_grains(in, level)));
        put(b->used + g, left, units_of_grains(in, get(b->used + g, left)));
        put(b->needed + g, left, smaller(needed, all(0x1p53 / in->per_unit)));
    }
}

/* Returns -1, or a malformed connector. */
static int64_t take_in(tree *t)
{
    const wattfill_batch *b = t->batch;
    doubts d = no_doubts();
    int64_t n = 0;
    t->indexed = 0;
    for (int64_t k = 0; k < t->n_groups; ++k) {
        int64_t g = group_at(b, place_of(t, k)), i = b->offsets[g], m = b->offsets[g + 1] - i;
        t->begin[k] = n;
        take_capacities(b, &t->in, g, 1, &t->usable[k]);
        row_sums s = t->has & STEPS ? row_in(b, &t->in, HUGE_BOUNDS | GAPS | STEPS, 0.0, i, m,
                                             t->minimum + n, t->maximum + n, &d)
                                    : row_in(b, &t->in, HUGE_BOUNDS | GAPS, 0.0, i, m,
                                             t->minimum + n, t->maximum + n, &d);
        t->wanted[k] = sum(s.least);
        if (t->weight) memcpy(t->weight + n, b->weight + i, (size_t)m * sizeof *t->weight);
        if (b->bound_by)
            for (int64_t j = i; j < i + m; ++j) b->bound_by[j] = -1;
        n += m;
    }
    t->begin[t->n_groups] = n;
    if (t->power != t->maximum) memcpy(t->power, t->maximum, (size_t)n * sizeof *t->power);
    for (int64_t k = 0; is_doubtful(&d) && k < t->n_groups; ++k) {
        int64_t malformed = malformed_in(b, group_at(b, place_of(t, k)));
        if (malformed >= 0) return malformed;
    }
    return -1;
}

/* Sums of minimums are in `wanted`, group by group; here they are added up to the root. */
static int all_minimums_fit(tree *t)
{
    int fit = 1;
    for (int64_t k = 0; k < t->n_groups; ++k) {
        fit &= t->wanted[k] <= t->usable[k];
        t->batch->needed[group_at(t->batch, place_of(t, k))] = t->wanted[k];
        int64_t parent = above(t, k);
        if (parent >= 0) t->wanted[parent] += t->wanted[k];
    }
    return fit;
}

/* Say which connector of the batch, and which group of the tree, stands where. */
static void put_on_line(tree *t)
{
    for (int64_t i = 0; i < t->begin[t->n_groups]; ++i) t->line[i] = i;
    if (t->indexed) return;
    t->indexed = 1;
    for (int64_t k = 0; k < t->n_groups; ++k) {
        int64_t i = t->batch->offsets[group_at(t->batch, place_of(t, k))];
        for (int64_t n = t->begin[k]; n < t->begin[k + 1]; ++n) {
            t->origin[n] = i++;
            t->owner[n] = k;
        }
    }
}

/* One after another, as long as the minimum fits in the connector's group and all above it. */
static void admit(tree *t)
{
    const wattfill_batch *b = t->batch;
    int64_t n = t->begin[t->n_groups];
    double *left = t->wanted;
    for (int64_t k = 0; k < t->n_groups; ++k) left[k] = t->usable[k];
    put_on_line(t);
    put_in_line(b, t->origin, t->line, n, t->spare);
    for (int64_t at = 0; at < n; ++at) {
        int64_t i = t->line[at], k = t->owner[i];
        if (t->minimum[i] > t->maximum[i]) continue;
        while (k >= 0 && t->minimum[i] <= left[k]) k = above(t, k);
        if (k >= 0) {
            t->minimum[i] = 1.0;
            t->maximum[i] = t->power[i] = 0.0;
            if (b->bound_by) b->bound_by[t->origin[i]] = group_at(b, place_of(t, k));
            continue;
        }
        for (k = t->owner[i]; k >= 0; k = above(t, k)) left[k] -= t->minimum[i];
    }
}

/* What a level gives connector i within its own bounds. */
static inline double given(const tree *t, double level, int64_t i)
{
    lanes weight = all(t->weight ? t->weight[i] : 1.0), low = all(t->minimum[i]);
    return lane(share(t->by, all(level), weight, low, all(t->maximum[i])), 0);
}

/* The level of group g, which gives `most`, keeps connector i at its power: then it is bound by
 * g. Of several such groups, by the one nearest to the root, which has nothing left. */
static inline void hold(const tree *t, int64_t i, double most, int64_t g)
{
    if (most <= t->power[i] && t->power[i] < t->maximum[i]) t->batch->bound_by[t->origin[i]] = g;
}

static double guess_of(const tree *t, int64_t g)
{
    return t->batch->guess ? guess_in(&t->in, t->batch->guess[g]) : -1.0;
}

/* Fill connectors start..stop - 1 of group g, who want more than `budget`, in one go. */
static double fill_at_once(tree *t, int64_t g, int64_t start, int64_t stop, double budget,
                           double wanted)
{
    pool p = connectors(t, start, stop);
    double level = highest_level(t->by, &p, budget, wanted, guess_of(t, g)).level;
    clip_to_level(t->by, &p, level);
    if (t->batch->bound_by)
        for (int64_t i = start; i < stop; ++i) hold(t, i, given(t, level, i), g);
    return level;
}

/* The same, tier after tier; with steps, what is left goes out a step at a time. Who stands lower
 * than the tier that the group binds keeps its minimum. */
static double fill_in_line(tree *t, int64_t g, int64_t start, int64_t stop, double budget)
{
    const wattfill_batch *b = t->batch;
    double left = budget, level = INFINITY;
    int64_t *who = t->spare;
    put_in_line(b, t->origin, t->line + start, stop - start, t->spare);
    for (int64_t i = start; i < stop; ++i) left -= at_most(t->minimum[i], t->maximum[i]);

    for (int64_t at = start, end; at < stop; at = end) {
        int64_t n = 0;
        double wanted = 0.0, minimums = 0.0;
        for (end = at; end < stop; ++end) {
            int64_t i = t->line[end];
            if (b->priority &&
                b->priority[t->origin[i]] != b->priority[t->origin[t->line[at]]]) break;
            if (t->minimum[i] > t->maximum[i]) continue;
            t->low[n] = t->minimum[i];
            t->high[n] = t->power[i];
            if (t->weight) t->heavy[n] = t->weight[i];
            wanted += t->high[n];
            minimums += t->low[n];
            who[n++] = i;
        }
        if (level < INFINITY) {
            for (int64_t j = 0; j < n; ++j) {
                t->power[who[j]] = t->low[j] + 0.0; /* rounded up to 0 it may be -0 */
                if (b->bound_by) hold(t, who[j], t->low[j], g);
            }
        } else if (wanted - minimums <= left) {
            left -= wanted - minimums;
        } else {
            pool p = {t->low, t->high, t->heavy, n};
            mark m = highest_level(t->by, &p, left + minimums, wanted, guess_of(t, g));
            level = m.level;
            left += minimums;
            for (int64_t j = 0; j < n; ++j) left -= at_most(given(t, level, who[j]), t->high[j]);
            for (int64_t j = 0; j < n; ++j) {
                int64_t i = who[j];
                double most = given(t, level, i), power = at_most(most, t->high[j]);
                int rising = at_most(given(t, m.next, i), t->high[j]) > power;
                if (b->step > 0.0 && rising && left >= 1.0) {
                    power += 1.0;
                    left -= 1.0;
                }
                t->power[i] = power;
                if (b->bound_by) hold(t, i, most, g);
            }
        }
    }
    return level;
}

/* Leaves `used`, in grains, in `wanted`. */
static void fill(tree *t)
{
    const wattfill_batch *b = t->batch;
    int in_line = b->priority || b->step > 0.0;
    if (in_line || b->bound_by) put_on_line(t);
    for (int64_t k = 0; k < t->n_groups; ++k) t->wanted[k] = 0.0;
    for (int64_t k = 0; k < t->n_groups; ++k) {
        int64_t g = group_at(b, place_of(t, k));
        int64_t start = t->begin[first_below(t, k)], stop = t->begin[k + 1];
        double level = INFINITY;
        t->wanted[k] += sum_of(t->power + t->begin[k], stop - t->begin[k]);
        if (t->wanted[k] > t->usable[k]) {
            level = in_line ? fill_in_line(t, g, start, stop, t->usable[k])
                            : fill_at_once(t, g, start, stop, t->usable[k], t->wanted[k]);
            t->wanted[k] = sum_of(t->power + start, stop - start);
        }
        b->level[g] = level;
        int64_t parent = above(t, k);
        if (parent >= 0) t->wanted[parent] += t->wanted[k];
    }
}

/* Why the connectors of group k of the tree, in the batch from i on, have their powers. */
static void explain_tree(const tree *t, int64_t k, int64_t i)
{
    const wattfill_batch *b = t->batch;
    for (int64_t n = t->begin[k]; n < t->begin[k + 1]; ++n, ++i) {
        int gone = t->minimum[n] > t->maximum[n];
        b->reason[i] = gone ? b->active && !b->active[i] ? WATTFILL_IDLE : WATTFILL_PAUSED
                       : t->power[n] == t->maximum[n] ? WATTFILL_MAXIMUM
                       : t->power[n] == t->minimum[n] ? WATTFILL_MINIMUM
                                                      : WATTFILL_SHARING;
    }
}

static void write_out(tree *t)
{
    const wattfill_batch *b = t->batch;
    double *used = t->wanted;
    for (int64_t k = 0; k < t->n_groups; ++k) used[k] = 0.0;
    for (int64_t k = 0; k < t->n_groups; ++k) {
        int64_t g = group_at(b, place_of(t, k)), i = b->offsets[g];
        pool p = connectors(t, t->begin[k], t->begin[k + 1]);
        used[k] += sum_of(p.maximum, p.n);
        if (t->has & STEPS) row_out(b, &t->in, EQUAL, GAPS | STEPS, &p, i, INFINITY);
        else row_out(b, &t->in, EQUAL, GAPS, &p, i, INFINITY);
        if (b->reason) explain_tree(t, k, i);
        b->used[g] = used[k];
        levels_out(b, &t->in, g, 1);
        int64_t parent = above(t, k);
        if (parent >= 0) used[parent] += used[k];
    }
}

/* Returns -1, or a malformed connector, with nothing of use written. */
static int64_t solve_tree(tree *t, int64_t root)
{
    t->root = root;
    t->n_groups = t->batch->first ? root - t->batch->first[root] + 1 : 1;
    int64_t malformed = take_in(t);
    if (malformed >= 0) return malformed;
    if (!all_minimums_fit(t)) admit(t);
    fill(t);
    write_out(t);
    return -1;
}

/* Bounds that count are below 2**42 quanta then, as PLAIN ones must be. */
static inline int is_small(const grid *in, double budget)
{
    return budget < SMALL_CAPACITY && budget * in->step < 0x1p41;
}

/* A group that is not small, by the way that suits its size. Returns 0, with nothing of use
 * written, where its minimums do not fit or a connector is malformed. */
static int solve_one(tree *t, int later, int64_t g, double budget)
{
    const wattfill_batch *b = t->batch;
    int64_t start = b->offsets[g], n = b->offsets[g + 1] - start;
    const lone l = {g, start, n, budget, guess_of(t, g), later, t->minimum, t->maximum};
    if (n >= LARGE && !b->active && solve_large(b, &t->in, &l, DEVIATIONS)) return 1;
    return solve_alone(b, &t->in, &l);
}

ALWAYS_INLINE int64_t solve_flat(tree *t, rule by, contents has, int64_t start, int64_t stop)
{
    const wattfill_batch *b = t->batch;
    const grid in = grid_of(b->per_unit, has & STEPS ? b->step : 0.0);
    double budget[BLOCK];
    int64_t others[BLOCK], waiting[BLOCK];
    flight f;
    clear(&f);
    for (int64_t at = start, end; at < stop; at = end) {
        end = at + BLOCK < stop ? at + BLOCK : stop;
        doubts d = no_doubts();
        int64_t n_waiting = 0, n_others;
        take_capacities(b, &in, at, end - at, budget);
        int plain = by == EQUAL && (has & ~(CHECKED | LATER)) == PLAIN && !b->priority;
        if (LANES > 1 && plain && !b->reason && end - at >= GATHERED / 2)
            n_others = solve_tiny(b, &in, has, at, end, budget, others, waiting, &n_waiting, &d);
        else
            for (n_others = 0; n_others < end - at; ++n_others) others[n_others] = at + n_others;
        for (int64_t k = 0; k < n_others; ++k) {
            int64_t g = others[k], n = b->offsets[g + 1] - b->offsets[g];
            if (n <= SMALL && is_small(&in, budget[g - at]))
                take_off(b, &in, by, has, &f, g, budget[g - at], &d);
            else if (by != EQUAL || has & STEPS || b->priority ||
                     !solve_one(t, has & LATER, g, budget[g - at]))
                waiting[n_waiting++] = g;
            if (f.n == IN_FLIGHT || k == n_others - 1)
                n_waiting += land(b, &in, by, has, &f, waiting + n_waiting);
        }
        int64_t bad = is_doubtful(&d)
            ? first_malformed(b->minimum, b->maximum, b->offsets[at], b->offsets[end]) : -1;
        if (bad >= 0) return bad;
        levels_out(b, &in, at, end - at);
        for (int64_t k = 0; k < n_waiting; ++k) {
            int64_t g = waiting[k], malformed = has & LATER ? malformed_in(b, g) : solve_tree(t, g);
            if (malformed >= 0) return malformed;
            if (has & LATER) b->level[g] = NAN;
        }
    }
    return -1;
}

static int64_t solve_forest(tree *t, int64_t start, int64_t stop)
{
    const wattfill_batch *b = t->batch;
    for (int64_t place = start; place < stop; ++place) {
        int64_t malformed = b->up && b->up[place] >= 0 ? -1 : solve_tree(t, place);
        if (malformed >= 0) return malformed;
    }
    return -1;
}

/* Part the scratch among the arrays of a tree. */
ALWAYS_INLINE void set_up(tree *t, const wattfill_batch *b, void *scratch)
{
    int64_t n = b->most_connectors + WATTFILL_SLACK;
    double *numbers = scratch;
    *t = (tree){.batch = b, .in = grid_of(b->per_unit, b->step)};
    t->by = !b->weight ? EQUAL : b->step > 0.0 ? WEBSTER : WEIGHTED;
    t->has = b->step > 0.0 ? STEPS | GAPS : GAPS;
    t->minimum = numbers;
    t->maximum = t->minimum + n;
    t->usable = t->maximum + n;
    t->wanted = t->usable + b->most_groups;
    t->begin = (int64_t *)(t->wanted + b->most_groups);
    t->origin = t->begin + b->most_groups + 1;
    t->owner = t->origin + n;
    t->line = t->owner + n;
    t->spare = t->line + n;
    /* What follows is there when it is needed, as wattfill_scratch_size has it-> */
    int in_line = b->priority || b->step > 0.0;
    double *more = (double *)(t->spare + n);
    t->weight = b->weight ? more : NULL;
    more += b->weight ? n : 0;
    /* Otherwise nobody asks for the maximums that connectors had. */
    t->power = b->reason || in_line ? more : t->maximum;
    t->low = more + n;
    t->high = t->low + n;
    t->heavy = t->high + n;
}

int64_t AT_LEVEL(wattfill_solve_)(const wattfill_batch *b, int64_t start, int64_t stop,
                                  void *scratch)
{
    tree t;
    set_up(&t, b, scratch);
    int in_line = b->priority || b->step > 0.0, unlike = b->weight || in_line;
    if (b->order || t.by == WEBSTER || (unlike && b->reason)) return solve_forest(&t, start, stop);
    if (t.by == WEIGHTED) return b->active    ? solve_flat(&t, WEIGHTED, GAPS, start, stop)
                                 : b->checked ? solve_flat(&t, WEIGHTED, CHECKED, start, stop)
                                              : solve_flat(&t, WEIGHTED, PLAIN, start, stop);
    if (b->step > 0.0) return b->active ? solve_flat(&t, EQUAL, STEPS | GAPS, start, stop)
                                        : solve_flat(&t, EQUAL, STEPS, start, stop);
    return b->active    ? solve_flat(&t, EQUAL, GAPS, start, stop)
           : b->checked ? solve_flat(&t, EQUAL, CHECKED, start, stop)
                        : solve_flat(&t, EQUAL, PLAIN, start, stop);
}

int64_t AT_LEVEL(wattfill_levels_)(const wattfill_batch *b, int64_t start, int64_t stop,
                                   void *scratch)
{
    tree t;
    set_up(&t, b, scratch);
    return solve_flat(&t, EQUAL, LATER, start, stop);
}

void AT_LEVEL(wattfill_powers_)(const wattfill_batch *b, int64_t start, int64_t stop, void *scratch)
{
    tree t;
    set_up(&t, b, scratch);
    rows_out(b, &t.in, start, stop);
    for (int64_t g = start; g < stop; ++g)
        if (isnan(b->level[g])) solve_tree(&t, g);
}

int64_t AT_LEVEL(wattfill_first_malformed_)(int64_t n, const double *minimum, const double *maximum)
{
    enum { SOME = 1024 };
    for (int64_t start = 0; start < n; start += SOME) {
        int64_t stop = start + SOME < n ? start + SOME : n;
        doubts d = no_doubts();
        int64_t i = start;
        for (; i + LANES <= stop; i += LANES) doubt(&d, load(minimum + i), load(maximum + i), 1);
        if (i < stop)
            doubt(&d, load_some(minimum + i, stop - i), load_some(maximum + i, stop - i), 1);
        if (!is_doubtful(&d)) continue;
        int64_t bad = first_malformed(minimum, maximum, start, stop);
        if (bad >= 0) return bad;
    }
    return -1;
}

int AT_LEVEL(wattfill_are_within_)(int64_t n, const double *x, double least, double most)
{
    lanes smallest = all(0.0), total = all(0.0);
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        lanes y = load(x + i);
        smallest = smaller(smallest, smaller(y - all(least), all(most) - y));
        total += y - y;
    }
    int within = !bits(is_above(all(0.0), smallest)) && sum(total) == 0.0;
    for (; i < n; ++i) within &= x[i] >= least && x[i] <= most;
    return within;
}
