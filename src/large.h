/* SPDX-License-Identifier: Apache-2.0
 *
 * Large groups: more connectors than the nearer caches hold, so that each look at all of them
 * costs. They are looked at twice. A sample says between which two levels the one we look for lies;
 * the first look adds up everybody, and keeps the few bounds that lie between these to search
 * among; the second writes the powers.
 */
#ifndef WATTFILL_LARGE_H
#define WATTFILL_LARGE_H

#include "alone.h"

/* Connectors of a large group, at least. Powers and bounds, as they are and in grains, of more do
 * not stay in a cache of 1 MiB; measured, the two ways take the same time at about this size. */
enum { LARGE = 30000 };

/* What a sample says of a level: the level, and how far off it may well be. */
typedef struct {
    double level, error;
} estimate;

enum { RUN = 16 }; /* neighbours of whom the sample has all or none */

/* Solve for about n^(2/3) connectors, and their part of the budget. */
ALWAYS_INLINE estimate sample(const wattfill_batch *b, const grid *in, const lone *l)
{
    int64_t n_runs = (int64_t)(cbrt((double)l->n) * cbrt((double)l->n)) / RUN + 1;
    int64_t stride = l->n / n_runs;
    doubts unread = no_doubts();
    lanes least = all(0.0), most = all(0.0);
    for (int64_t r = 0; r < n_runs; ++r) {
        row_sums s = row_in(b, in, PLAIN | AWAY, 0.0, l->start + r * stride, RUN,
                            l->minimum + r * RUN, l->maximum + r * RUN, &unread);
        least += s.least;
        most += s.most;
    }
    pool p = {l->minimum, l->maximum, NULL, n_runs * RUN};
    double budget = floor(l->budget * ((double)p.n / (double)l->n)), wanted = sum(most);
    if (!(wanted > budget)) return (estimate){INFINITY, 0.0};
    if (!(sum(least) <= budget)) return (estimate){0.0, 0.0};
    double level = highest(EQUAL, &p, budget, wanted, -1.0).level;

    draw d = draw_at(EQUAL, level, &p);
    double mean = sum(d.drawn) / (double)p.n;
    lanes squares = all(0.0);
    for (int64_t k = 0; k < p.n; k += LANES) {
        lanes q = share_at(EQUAL, &p, all(level), k, p.n - k) - all(mean);
        squares += q * q;
    }
    return (estimate){level, sqrt(sum(squares)) / at_least(sum(d.slope), 1.0)};
}

/* What all draw between two levels: a line that bends where somebody's minimum or maximum lies. Who
 * has neither there needs no further look. */
typedef struct {
    double low, high;     /* the levels */
    double at_low, slope; /* what is drawn at `low`, and how many draw more above it */
    double *starts;       /* minimums between the levels: from there on one more draws more */
    double *stops;        /* maximums */
    int64_t n_starts, n_stops;
} bracket;

/* What is drawn at a level within the bracket, and how many draw more above it. */
ALWAYS_INLINE draw draw_within(const bracket *k, double level)
{
    lanes at = all(level), next = all(level + 1.0), one = all(1.0);
    lanes more = all(0.0), less = more, started = more, stopped = more;
    for (int64_t j = 0; j < k->n_starts; j += LANES) {
        lanes from = load(k->starts + j);
        more += larger(at - from, all(0.0));
        started += only(is_above(next, from), one);
    }
    for (int64_t j = 0; j < k->n_stops; j += LANES) {
        lanes to = load(k->stops + j);
        less += larger(at - to, all(0.0));
        stopped += only(is_above(next, to), one);
    }
    return (draw){.drawn = all(k->at_low + k->slope * (level - k->low) + sum(more) - sum(less)),
                  .slope = all(k->slope + sum(started) - sum(stopped))};
}

/* Sums over all. */
typedef struct {
    lanes at_low, least, wanted;
    lanes largest; /* of the sums of maximums in a block: no maximum is larger */
    int64_t rising;
} look_sums;

/* Nobody can foresee who has a bound in the bracket, and a branch that is taken wrongly now and
 * then costs more than all else here. So a look first writes down which registers of a block have
 * one. */
enum { BLOCK_REGISTERS = 64 };

typedef struct {
    int n;
    int64_t at[BLOCK_REGISTERS];
    unsigned starts[BLOCK_REGISTERS], stops[BLOCK_REGISTERS];
} findings;

/* Add up a few connectors, the first of them at index i. */
ALWAYS_INLINE void add_up(const bracket *k, int64_t i, lanes least, lanes most, look_sums *s,
                          findings *f)
{
    lanes low = all(k->low), high = all(k->high);
    flags not_yet = is_above(least, low), not_done = is_above(most, low);
    s->at_low = plus(s->at_low, smaller(larger(least, low), most));
    s->least = plus(s->least, least);
    s->wanted = plus(s->wanted, most);
    s->rising += n_set(bits(except(not_done, not_yet)));
    unsigned starts = bits(both(not_yet, is_above(high, least)));
    unsigned stops = bits(both(not_done, is_above(high, most)));
    f->at[f->n] = i;
    f->starts[f->n] = starts;
    f->stops[f->n] = stops;
    f->n += (starts | stops) != 0;
}

/* Keep the bounds that were found. Behind them there is room for a register. */
ALWAYS_INLINE void keep(const wattfill_batch *b, const grid *in, int64_t end, const findings *f,
                        bracket *k)
{
    for (int j = 0; j < f->n; ++j) {
        int64_t i = f->at[j];
        lanes low = get(b->minimum + i, end - i), high = get(b->maximum + i, end - i), least, most;
        bounds_in(in, 0, 0, low, high, &least, &most);
        pack(k->starts + k->n_starts, f->starts[j], least);
        pack(k->stops + k->n_stops, f->stops[j], most);
        k->n_starts += n_set(f->starts[j]);
        k->n_stops += n_set(f->stops[j]);
    }
}

ALWAYS_INLINE look_sums look_at_all(const wattfill_batch *b, const grid *by, const lone *l,
                                    bracket *k, doubts *of_all)
{
    /* Copies, which no store can change. */
    const grid in = *by;
    const bracket of = *k;
    look_sums s = {all(0.0), all(0.0), all(0.0), all(0.0), 0};
    doubts d = *of_all;
    int64_t end = l->start + l->n;
    for (int64_t i = l->start, stop; i < end; i = stop) {
        stop = i + BLOCK_REGISTERS * LANES < end ? i + BLOCK_REGISTERS * LANES : end;
        findings f;
        f.n = 0;
        lanes wanted = s.wanted;
        s.wanted = all(0.0);
        for (int64_t at = i; at < stop; at += LANES) {
            lanes low = get(b->minimum + at, end - at), high = get(b->maximum + at, end - at);
            lanes least, most;
            doubt(&d, low, high, 0);
            bounds_in(&in, 0, 0, low, high, &least, &most);
            add_up(&of, at, least, most, &s, &f);
        }
        s.largest = larger(s.largest, s.wanted);
        s.wanted += wanted;
        keep(b, &in, end, &f, k);
    }
    /* Whole registers. */
    store(k->starts + k->n_starts, all(INFINITY));
    store(k->stops + k->n_stops, all(INFINITY));
    k->at_low = sum(s.at_low);
    k->slope = (double)s.rising;
    d.total = s.wanted + s.least;
    *of_all = d;
    return s;
}

/* The level within a bracket that has it. */
static mark level_within(const bracket *k, double budget, double at_high)
{
    double width = k->high - k->low;
    search s;
    begin(EQUAL, &s, is_same(all(0.0), all(0.0)), all(budget), all(k->at_low), all(1.0));
    s.below = all(k->low);
    s.above = all(k->high);
    if (width <= 1.0) return (mark){k->low, k->high, k->at_low};
    go_to(EQUAL, &s, all(k->low + (budget - k->at_low) * (width / (at_high - k->at_low))));
    for (int guess = 1; bits(s.open) && guess <= MOST_GUESSES; ++guess) {
        draw d = draw_within(k, lane(s.level, 0));
        look(EQUAL, &s, &d, guess);
    }
    assert(!bits(s.open));
    double level = lane(s.below, 0);
    return (mark){level, level + 1.0, lane(s.used, 0)};
}

/* Reasons, a few connectors at a time, so that there is no need for room for the bounds of all. */
static void reasons_out(const wattfill_batch *b, const grid *in, const lone *l, double level)
{
    enum { SOME = 512 };
    double minimum[SOME + LANES], maximum[SOME + LANES];
    wattfill_batch rest = *b; /* its arrays of reasons start later and later */
    for (int64_t k = 0; k < l->n; k += SOME) {
        pool p = {minimum, maximum, NULL, l->n - k < SOME ? l->n - k : SOME};
        doubts known = no_doubts();
        row_in(b, in, PLAIN | AWAY, level, l->start + k, p.n, minimum, maximum, &known);
        explain(&rest, &p, l->group, level);
        rest.reason += SOME;
        rest.bound_by += SOME;
    }
}

/* How far a bracket reaches beyond the sample's level: with three deviations it misses the level
 * once in some hundred groups, which then are looked at once more with twelve. */
enum { DEVIATIONS = 3, MOST_DEVIATIONS = 12 };

/* Returns 0, with nothing of use written, where this is not the way. A guess that is far off is
 * forgotten. */
static int solve_large(const wattfill_batch *b, const grid *in, const lone *l, int deviations)
{
    int64_t g = l->group;
    estimate e = {l->guess, l->guess * 0x1p-9};
    if (!(l->guess >= 0.0)) e = sample(b, in, l);
    bracket k = {.low = l->budget + 1.0, .starts = l->minimum, .stops = l->maximum};
    k.high = k.low;
    if (e.level < INFINITY) {
        k.low = at_least(floor(e.level - deviations * e.error), 0.0);
        k.high = at_most(ceil(e.level + deviations * e.error) + 1.0, k.high);
    }
    doubts d = no_doubts();
    look_sums s = look_at_all(b, in, l, &k, &d);
    double least = sum(s.least), wanted = sum(s.wanted);
    /* Otherwise bounds and sums would not be exact. */
    if (is_doubted(b, g, &d) || most_of(s.largest) >= 0x1p42 ||
        k.at_low + (k.high - k.low) * (double)l->n >= 0x1p52)
        return 0;
    mark m = {INFINITY, INFINITY, wanted};
    if (wanted > l->budget) {
        double at_high = lane(draw_within(&k, k.high).drawn, 0);
        if (!(k.at_low <= l->budget && l->budget < at_high)) {
            int is_cold = !(l->guess >= 0.0);
            if (is_cold && (deviations == MOST_DEVIATIONS || e.level == INFINITY)) return 0;
            lone cold = *l;
            cold.guess = -1.0;
            return solve_large(b, in, &cold, is_cold ? MOST_DEVIATIONS : DEVIATIONS);
        }
        m = level_within(&k, l->budget, at_high);
    }
    if (!l->later) powers_out(b, in, l->start, l->n, m.level);
    if (b->reason) reasons_out(b, in, l, m.level);
    b->level[g] = m.level;
    b->used[g] = m.used;
    b->needed[g] = least;
    return 1;
}

#endif
