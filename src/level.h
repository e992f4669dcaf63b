/* SPDX-License-Identifier: Apache-2.0
 *
 * The water level: the highest at which what the connectors draw still fits.
 *
 * What a connector draws at a level is one of three rules, clipped to its bounds. Each never
 * falls as the level rises, so there is one highest level on the rule's grid, whatever way it is
 * searched for. The search is Newton's on a piecewise linear function, kept inside a bracket
 * that is halved now and then (Cominetti, Mascarenhas, Silva: A Newton's method for the
 * continuous quadratic knapsack problem, Math. Prog. Comp. 6, 2014, section 2).
 */
#ifndef WATTFILL_LEVEL_H
#define WATTFILL_LEVEL_H

#include <assert.h>

#include "grid.h"

typedef enum {
    EQUAL,    /* the level itself */
    WEIGHTED, /* floor(level * weight) */
    WEBSTER   /* level * weight, rounded: how many of the claims (k + 1/2) / weight, k = 0, 1, ...
                 the level has reached (Balinski and Young: Fair Representation, 1982, ch. 9) */
} rule;

/* Connectors that share one budget. All whole numbers, 0 <= minimum <= maximum; but whoever
 * takes no part has a minimum of 1 and a maximum of 0. */
typedef struct {
    double *minimum, *maximum;
    double *weight; /* not read when the rule is EQUAL */
    int64_t n;
} pool;

ALWAYS_INLINE lanes wanted(rule by, lanes level, lanes weight, lanes maximum)
{
    if (by == EQUAL) return level;
    lanes y = level * weight;
    if (by == WEIGHTED) return whole_below(y);
    lanes half = all(0.5), one = all(1.0);
    lanes claims = whole_below(y + half);
    flags too_many = both(is_above(claims, all(0.0)), is_above((claims - half) / weight, level));
    flags too_few = is_above((claims + half) / weight, level);
    lanes all_claims = choose(too_many, claims - one, choose(too_few, claims, claims + one));
    return choose(is_above(y, maximum + one), maximum, all_claims);
}

/* A level of 0 is not -0, so no share is. */
ALWAYS_INLINE lanes share(rule by, lanes level, lanes weight, lanes minimum, lanes maximum)
{
    return smaller(larger(minimum, wanted(by, level, weight, maximum)), maximum);
}

/* What a pool draws at a level, and by how much that grows as the level grows by one: with the
 * EQUAL rule exactly; with the others, who stands where he stops rising may still be counted. */
typedef struct {
    lanes drawn, slope;
    /* WEBSTER: the last claim within bounds that the level has reached, and the first that it has
     * not. */
    lanes reached, ahead;
} draw;

ALWAYS_INLINE draw no_draw(void)
{
    return (draw){all(0.0), all(0.0), all(0.0), all(INFINITY)};
}

ALWAYS_INLINE void add_draw(rule by, lanes level, lanes weight, lanes minimum, lanes maximum,
                            draw *d)
{
    lanes want = wanted(by, level, weight, maximum), q = smaller(larger(minimum, want), maximum);
    flags rising = by == EQUAL ? except(is_above(maximum, want), is_above(minimum, want))
                               : is_same(q, want);
    d->drawn += q;
    d->slope += only(rising, weight);
    if (by != WEBSTER) return;
    lanes reached = (q - all(0.5)) / weight, ahead = (q + all(0.5)) / weight;
    d->reached = larger(d->reached, only(is_above(q, minimum), reached));
    d->ahead = smaller(d->ahead, choose(is_above(maximum, q), ahead, d->ahead));
}

ALWAYS_INLINE draw draw_at(rule by, double level, const pool *p)
{
    lanes at = all(level), one = all(1.0);
    draw d = no_draw(), e = d;
    int64_t k = 0;
    for (; k + 2 * LANES <= p->n; k += 2 * LANES) {
        add_draw(by, at, by == EQUAL ? one : load(p->weight + k), load(p->minimum + k),
                 load(p->maximum + k), &d);
        add_draw(by, at, by == EQUAL ? one : load(p->weight + k + LANES),
                 load(p->minimum + k + LANES), load(p->maximum + k + LANES), &e);
    }
    for (; k < p->n; k += LANES)
        add_draw(by, at, by == EQUAL ? one : get(p->weight + k, p->n - k),
                 get(p->minimum + k, p->n - k), get(p->maximum + k, p->n - k), &d);
    return (draw){d.drawn + e.drawn, d.slope + e.slope, larger(d.reached, e.reached),
                  smaller(d.ahead, e.ahead)};
}

/* Searches for levels, a lane each. The highest level lies at or above `below`, where `used` is
 * drawn, and below `above`. Both are on the grid: whole numbers for EQUAL; for WEIGHTED, multiples
 * of the largest power of two that raises nobody by more than one; for WEBSTER, all doubles. */
typedef struct {
    lanes budget, level, below, above, used;
    lanes grain, per_grain; /* WEIGHTED: that power of two, and one over it */
    flags open;
} search;

/* Newton's guesses are few where they are good. After that, every third one halves what lies
 * between below and above, fewer than 2**62 doubles; the others can only help. */
enum { NEWTON_GUESSES = 6, MOST_GUESSES = NEWTON_GUESSES + 3 * 66 };

/* Everybody has the maximum, BEYOND at most, before the level is here: weights are 1e-100 or
 * more. */
#define HIGHEST 1e117

ALWAYS_INLINE lanes on_grid(rule by, const search *s, lanes level)
{
    if (by == EQUAL) return whole_below(level);
    if (by == WEIGHTED) return whole_below(level * s->per_grain) * s->grain;
    return level;
}

ALWAYS_INLINE lanes lowest_above(rule by, const search *s, lanes level)
{
    if (by == EQUAL) return level + all(1.0);
    if (by == WEIGHTED) return larger(next_double(level), level + s->grain);
    return next_double(level);
}

/* Go to a level on the grid within the bracket, which is wider than one step: this one, if it
 * is. */
ALWAYS_INLINE void go_to(rule by, search *s, lanes level)
{
    lanes lowest = lowest_above(by, s, s->below);
    lanes halfway = s->below + (s->above - s->below) * all(0.5);
    if (by != EQUAL) halfway = middle_double(s->below, s->above);
    level = larger(on_grid(by, s, level), lowest);
    halfway = larger(on_grid(by, s, halfway), lowest);
    s->level = choose(is_above(s->above, level), level, halfway);
}

/* Say what is drawn at the level, and where to look next. */
ALWAYS_INLINE void look(rule by, search *s, const draw *d, int guess)
{
    lanes left = s->budget - d->drawn, slope = d->slope, low = s->level, high = s->level;
    flags over = is_above(all(0.0), left);
    flags fits = except(s->open, over);
    if (by == WEBSTER) {
        /* Between two claims nothing changes. */
        high = d->reached;
        low = previous_double(d->ahead);
    }
    s->above = choose(both(s->open, over), high, s->above);
    s->below = choose(fits, low, s->below);
    s->used = choose(fits, d->drawn, s->used);
    s->open = both(s->open, is_above(s->above, lowest_above(by, s, s->below)));
    /* With the EQUAL rule the slope is the growth to the next level, exactly. */
    if (by == EQUAL) s->open = except(s->open, both(fits, is_above(slope, left)));
    int halve = guess > NEWTON_GUESSES && guess % 3 == 0;
    /* A weighted level may rise on before anything more is drawn: look for where it is. */
    if (by == WEIGHTED) left = choose(over, left, left + all(1.0));
    lanes newton = s->level + left / slope;
    /* From infinity it goes halfway. */
    go_to(by, s, choose(halve ? s->open : is_same(slope, all(0.0)), all(INFINITY), newton));
}

/* Begin to search where the minimums, which add up to `least`, fit the budget and the maximums do
 * not. */
ALWAYS_INLINE void begin(rule by, search *s, flags open, lanes budget, lanes least, lanes grain)
{
    s->open = open;
    s->budget = budget;
    s->used = least;
    s->below = all(0.0);
    s->above = all(HIGHEST);
    if (by == EQUAL) s->above = budget + all(1.0);
    s->grain = grain;
    s->per_grain = all(1.0) / grain;
}

/* Largest power of two whose product with the weight is at most one. */
static inline double grain_of(double weight)
{
    int64_t exponent, one = 1023;
    memcpy(&exponent, &weight, sizeof exponent);
    int is_power = (exponent & 0xfffffffffffff) == 0;
    exponent = 2 * one - (exponent >> 52) - !is_power;
    exponent <<= 52;
    memcpy(&weight, &exponent, sizeof weight);
    return weight;
}

/* A level, the next one on the grid, and what is drawn at the first. */
typedef struct {
    double level, next, used;
} mark;

/* The heavier of those before and of those here who can rise. */
ALWAYS_INLINE lanes heavier(lanes before, lanes weight, lanes minimum, lanes maximum)
{
    return larger(before, only(is_above(maximum, minimum), weight));
}

/* A part of a grain: everybody of n who rises at a level draws one more a sliver above it, and all
 * together less than a grain. */
ALWAYS_INLINE double sliver_of(int64_t n)
{
    double sliver = 0x1p-9;
    while (sliver * (double)n >= 1.0) sliver *= 0.5;
    return sliver;
}

/* What a pool draws at a level and a sliver, of which the whole grains are drawn at the level. */
ALWAYS_INLINE lanes draw_of_slivers(const pool *p, double level)
{
    lanes one = all(0.0), other = one, want = all(level);
    int64_t k = 0;
#define DRAWN(at) smaller(larger(load(p->minimum + (at)), want), load(p->maximum + (at)))
    for (; k + 2 * LANES <= p->n; k += 2 * LANES) {
        one = plus(one, DRAWN(k));
        other = plus(other, DRAWN(k + LANES));
    }
#undef DRAWN
    for (; k < p->n; k += LANES)
        one += smaller(larger(get(p->minimum + k, p->n - k), want), get(p->maximum + k, p->n - k));
    return one + other;
}

/* The highest level on the grid at which the pool draws at most `budget`. Its minimums fit,
 * its maximums, `wanted` together, do not. Looked for at `guess` first, if that is a number. */
ALWAYS_INLINE mark highest(rule by, const pool *p, double budget, double wanted, double guess)
{
    search s;
    lanes weights = all(0.0), heaviest = weights;
    for (int64_t k = 0; by != EQUAL && k < p->n; k += LANES) {
        int64_t left = p->n - k;
        lanes weight = get(p->weight + k, left);
        weights += weight;
        heaviest = heavier(heaviest, weight, get(p->minimum + k, left), get(p->maximum + k, left));
    }
    begin(by, &s, is_same(all(0.0), all(0.0)), all(budget), all(0.0),
          all(grain_of(most_of(heaviest))));
    go_to(by, &s, all(guess >= 0.0 ? guess : budget / (by == EQUAL ? (double)p->n : sum(weights))));
    double sliver = sliver_of(p->n);
    int exact = by == EQUAL && wanted < 0x1p52 * sliver;
    for (int i = 1; bits(s.open) && i <= MOST_GUESSES; ++i) {
        double level = lane(s.level, 0);
        if (exact) {
            double drawn = sum(draw_of_slivers(p, level + sliver)), whole = floor(drawn);
            draw d = {.drawn = all(whole), .slope = all((drawn - whole) / sliver)};
            look(by, &s, &d, i);
        } else {
            draw d = draw_at(by, level, p);
            d.drawn = all(sum(d.drawn));
            d.slope = all(sum(d.slope));
            d.reached = all(most_of(d.reached));
            d.ahead = all(least_of(d.ahead));
            look(by, &s, &d, i);
        }
    }
    assert(!bits(s.open));
    double level = lane(s.below, 0);
    return (mark){level, by == EQUAL ? level + 1.0 : lane(s.above, 0), lane(s.used, 0)};
}

static mark highest_level(rule by, const pool *p, double budget, double wanted, double guess)
{
    switch (by) {
    case WEIGHTED: return highest(WEIGHTED, p, budget, wanted, guess);
    case WEBSTER: return highest(WEBSTER, p, budget, wanted, guess);
    default: return highest(EQUAL, p, budget, wanted, guess);
    }
}

/* Clip a pool to a level: nobody's maximum is more than the share at it. Returns what is drawn. */
ALWAYS_INLINE double clip(rule by, const pool *p, double level)
{
    lanes drawn = all(0.0);
    for (int64_t k = 0; k < p->n; k += LANES) {
        int64_t left = p->n - k;
        lanes q = share(by, all(level), by == EQUAL ? all(1.0) : get(p->weight + k, left),
                        get(p->minimum + k, left), get(p->maximum + k, left));
        put(p->maximum + k, left, q);
        drawn += q;
    }
    return sum(drawn);
}

static double clip_to_level(rule by, const pool *p, double level)
{
    switch (by) {
    case WEIGHTED: return clip(WEIGHTED, p, level);
    case WEBSTER: return clip(WEBSTER, p, level);
    default: return clip(EQUAL, p, level);
    }
}

#endif
