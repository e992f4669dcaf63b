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
#include <stdint.h>
#include <string.h>

#include "lanes.h"

typedef enum {
    EQUAL,    /* the level itself */
    WEIGHTED, /* floor(level * weight) */
    WEBSTER   /* level * weight, rounded: how many of the claims (k + 1/2) / weight, k = 0, 1, ...
                 the level has reached (Balinski and Young: Fair Representation, 1982, ch. 9) */
} rule;

/* Connectors that share one budget. All whole numbers, 0 <= minimum <= maximum. */
typedef struct {
    const double *minimum, *maximum;
    const double *weight; /* not read when the rule is EQUAL */
    int64_t n;
} pool;

typedef struct {
    double drawn; /* what all draw together, exact below 2**53 */
    double slope; /* by how much that grows as the level grows by one */
} draw;

/* A level and the next one on the grid: at the first all fit, at the second they do not. */
typedef struct {
    double level, next;
} mark;

ALWAYS_INLINE double wanted(rule by, double level, double weight, double maximum)
{
    if (by == EQUAL) return level;
    double y = level * weight;
    if (by == WEIGHTED) return whole_below(y);
    if (y > maximum + 1.0) return maximum;
    double claims = whole_below(y + 0.5);
    if (claims > 0.0 && (claims - 0.5) / weight > level) claims -= 1.0;
    else if ((claims + 0.5) / weight <= level) claims += 1.0;
    return claims;
}

ALWAYS_INLINE double share(rule by, double level, double weight, double minimum, double maximum)
{
    return at_most(at_least(wanted(by, level, weight, maximum), minimum), maximum);
}

ALWAYS_INLINE draw draw_at(rule by, double level, const pool *p)
{
    const double *restrict minimum = p->minimum, *restrict maximum = p->maximum;
    const double *restrict weight = p->weight;
    double drawn = 0.0, slope = 0.0;
#pragma omp simd reduction(+ : drawn, slope)
    for (int64_t i = 0; i < p->n; ++i) {
        double w = by == EQUAL ? 1.0 : weight[i];
        double want = wanted(by, level, w, maximum[i]);
        double least = at_least(want, minimum[i]);
        drawn += at_most(least, maximum[i]);
        slope += ((want >= minimum[i]) & (want < maximum[i])) ? w : 0.0;
    }
    return (draw){drawn, slope};
}

/* Newton's guesses are few where they are good. After that, every third one halves what lies between
 * below and above, fewer than 2**62 doubles; the others can only help. */
enum { NEWTON_GUESSES = 6, MOST_GUESSES = NEWTON_GUESSES + 3 * 64 };
static inline int must_halve(int guess) { return guess > NEWTON_GUESSES && guess % 3 == 0; }

ALWAYS_INLINE double halfway(rule by, double low, double high)
{
    if (by == EQUAL) return low + (high - low) / 2;
    /* Half the doubles between two that are not negative: their bits are in the same order. */
    int64_t a, b, middle;
    memcpy(&a, &low, sizeof a);
    memcpy(&b, &high, sizeof b);
    middle = a + (b - a) / 2;
    memcpy(&low, &middle, sizeof middle);
    return low;
}

/* The highest level on the grid at which the pool draws at most `budget`. Its minimums fit and its
 * maximums do not. The grid: whole numbers for EQUAL; for WEIGHTED, multiples of the largest
 * power of two that raises nobody by more than one; for WEBSTER, all doubles. */
ALWAYS_INLINE mark highest(rule by, const pool *p, double budget)
{
    double heaviest = 1.0, lightest = 1.0, weights = (double)p->n, grain = 1.0;
    if (by != EQUAL) {
        /* Who cannot rise does not count. */
        heaviest = weights = 0.0;
        lightest = INFINITY;
        for (int64_t i = 0; i < p->n; ++i) {
            if (p->minimum[i] == p->maximum[i]) continue;
            heaviest = at_least(heaviest, p->weight[i]);
            lightest = at_most(lightest, p->weight[i]);
            weights += p->weight[i];
        }
        int exponent;
        double fraction = frexp(heaviest, &exponent);
        grain = ldexp(1.0, fraction == 0.5 ? 1 - exponent : -exponent);
    }
    double below = 0.0;
    double above = by == EQUAL ? budget + 1.0 : 2.0 * (budget + 2.0) / lightest;
    double level = budget / weights;
    for (int guess = 1; guess <= MOST_GUESSES; ++guess) {
        if (by != WEBSTER) level = whole_below(level / grain) * grain;
        double up = by == EQUAL ? below + 1.0 : nextafter(below, INFINITY);
        if (by == WEIGHTED) up = at_least(up, below + grain);
        if (up >= above) return (mark){below, above};
        if (!(level >= up)) level = up;
        if (!(level < above)) level = at_least(up, halfway(by, below, above));
        if (by != WEBSTER) level = whole_below(level / grain) * grain;

        draw d = draw_at(by, level, p);
        double left = budget - d.drawn;
        if (left < 0.0) {
            above = level;
        } else {
            below = level;
            /* With the EQUAL rule the slope is the growth to the next level, exactly. */
            if (by == EQUAL && left < d.slope) return (mark){level, level + 1.0};
        }
        level = must_halve(guess) || d.slope == 0.0 ? halfway(by, below, above)
                                                    : level + left / d.slope;
    }
    assert(!"the bracket closes within the bound");
    return (mark){below, above};
}

static mark highest_level(rule by, const pool *p, double budget)
{
    switch (by) {
    case WEIGHTED: return highest(WEIGHTED, p, budget);
    case WEBSTER: return highest(WEBSTER, p, budget);
    default: return highest(EQUAL, p, budget);
    }
}

static double share_of(rule by, double level, double weight, double minimum, double maximum)
{
    switch (by) {
    case WEIGHTED: return share(WEIGHTED, level, weight, minimum, maximum);
    case WEBSTER: return share(WEBSTER, level, weight, minimum, maximum);
    default: return share(EQUAL, level, weight, minimum, maximum);
    }
}

#endif
