/* SPDX-License-Identifier: Apache-2.0  Tiny groups, a lane each. To a row of one register or
 * two, sums across it and what it takes to fly are most of the work. With their rows turned into
 * columns, a crowd of neighbours shares every instruction, there is nothing to sum across, and
 * one branch says that all have their levels. */
#ifndef WATTFILL_TINY_H
#define WATTFILL_TINY_H

#include "flight.h"

enum {
    /* Connectors of a tiny group, at most. Measured with equal sizes: at 8 flying takes nearly
     * twice the time, at 24 an eighth to a third more; it catches up a register beyond this, as
     * sums across a row cost less the longer it is. A whole number of registers. */
    TINY = LANES == 8 ? 40 : 32,
    REGISTERS_OF_CROWD = 16 / LANES,          /* in lockstep, for none to wait for its divisions */
    CROWD = REGISTERS_OF_CROWD * LANES,
    /* A crowd takes as long as its longest row. Unless a third of it is filled, its groups are
     * quicker in flight. */
    FILLED = 3,
    AHEAD = 256                               /* connectors, asked for before their turn */
};

/* Bounds in grains, a lane for each group. */
typedef struct {
    lanes minimum, maximum;
} bounds;

/* CROWD neighbours. Those who are not tiny have no seat, and no connectors here. */
typedef struct {
    const double *low, *high;                 /* (n_connectors,) */
    double *power;
    const int64_t *first, *size;              /* (CROWD,) connectors of a group */
    const double *budget, *guess;             /* (CROWD,), in grains; in units, or NULL */
    double *level, *used, *needed;            /* (CROWD,), in grains */
    int64_t longest;
    contents has;
    grid in;
} crowd;

/* A square: connectors k to k + LANES - 1 of the LANES groups in register r. In a crowd that is
 * alike, all rows are as long as the longest; in a square that is whole, all are there. */
typedef struct {
    int alike, whole, r;
    int64_t k;
} square;

ALWAYS_INLINE int64_t place(const crowd *c, square s, int j, int64_t *left)
{
    *left = s.whole ? LANES : (s.alike ? c->longest : c->size[s.r * LANES + j]) - s.k;
    return c->first[s.r * LANES + j] + s.k;
}

ALWAYS_INLINE lanes load_row(square s, const double *from, int64_t left)
{
    return s.whole ? load(from) : load_some(from, left);
}

ALWAYS_INLINE lanes clipped(const bounds *to, lanes level)
{
    return smaller(larger(to->minimum, level), to->maximum);
}

ALWAYS_INLINE void square_in(const crowd *c, square s, lanes level, bounds *column, row_sums *sums,
                             doubts *d)
{
    lanes minimum[LANES], maximum[LANES];
    for (int j = 0; j < LANES; ++j) {
        int64_t left, i = place(c, s, j, &left);
        lanes low = load_row(s, c->low + i, left), high = load_row(s, c->high + i, left);
        /* A row of eight is a line of memory. With rows of four it made no difference. */
        if (LANES == 8) {
            ask_for(c->low + i, AHEAD);
            ask_for(c->high + i, AHEAD);
            if (!(c->has & LATER)) ask_for(c->power + i, AHEAD);
        }
        if (!(c->has & CHECKED)) doubt(d, low, high, 0);
        bounds_in(&c->in, 0, 0, low, high, &minimum[j], &maximum[j]);
    }
    transpose(minimum);
    transpose(maximum);
    for (int i = 0; i < LANES; ++i) {
        column[s.k + i] = (bounds){minimum[i], maximum[i]};
        sums->least += minimum[i];
        sums->most += maximum[i];
        sums->drawn += clipped(&column[s.k + i], level);
    }
}

ALWAYS_INLINE void square_out(const crowd *c, square s, lanes level, const bounds *column)
{
    lanes grains[LANES];
    for (int i = 0; i < LANES; ++i) grains[i] = clipped(&column[s.k + i], level);
    transpose(grains);
    for (int j = 0; j < LANES; ++j) {
        int64_t left, i = place(c, s, j, &left);
        lanes low = load_row(s, c->low + i, left), high = load_row(s, c->high + i, left);
        lanes power = power_within(&c->in, low, high, grains[j]);
        if (s.whole) store(c->power + i, power);
        else store_any(c->power + i, left, power);
    }
}

/* Bring in the groups of register r: the sums of each, and what it draws at its level. */
ALWAYS_INLINE row_sums crowd_in(const crowd *c, int alike, int r, lanes level, bounds *column,
                                doubts *d)
{
    row_sums sums = {all(0.0), all(0.0), all(0.0)};
    int64_t k = 0;
    for (; alike && k + LANES <= c->longest; k += LANES)
        square_in(c, (square){alike, 1, r, k}, level, column, &sums, d);
    for (; k < c->longest; k += LANES)
        square_in(c, (square){alike, 0, r, k}, level, column, &sums, d);
    if (!(c->has & CHECKED)) d->total += sums.least + sums.most;
    return sums;
}

ALWAYS_INLINE void crowd_out(const crowd *c, int alike, int r, lanes level, const bounds *column)
{
    int64_t k = 0;
    for (; alike && k + LANES <= c->longest; k += LANES)
        square_out(c, (square){alike, 1, r, k}, level, column);
    for (; k < c->longest; k += LANES) square_out(c, (square){alike, 0, r, k}, level, column);
}

/* What the groups of a register draw. Squares have an even number of columns. */
ALWAYS_INLINE lanes crowd_draw(const bounds *column, int64_t n, lanes level)
{
    lanes one = all(0.0), other = one;
    for (const bounds *end = column + n; column < end; column += 2) {
        one += clipped(column, level);
        other += clipped(column + 1, level);
    }
    return one + other;
}

/* Where the groups of register r look first: a whole number of grains from 1 to the budget. */
ALWAYS_INLINE lanes first_levels(const crowd *c, int alike, int r, lanes budget)
{
    integers size = all_integers(c->longest);
    if (!alike) size = get_integers(c->size + r * LANES, LANES);
    lanes level = budget / larger(as_doubles(size), all(1.0));
    if (c->guess) {
        lanes guess = load(c->guess + r * LANES);
        level = choose(is_above(guess, all(-1.0)), guesses_in(&c->in, guess), level);
    }
    return larger(whole_below(smaller(level, budget)), all(1.0));
}

/* Returns whose minimums do not fit, as bits; whoever has no seat may be among them. */
ALWAYS_INLINE unsigned solve_crowd(const crowd *of, int alike, contents has, bounds *room,
                                   doubts *d)
{
    /* No store can change a copy, so it stays in registers. */
    crowd copy = *of;
    copy.has = has;
    const crowd *c = &copy;
    doubts of_crowd = *d;
    search s[REGISTERS_OF_CROWD];
    row_sums sums[REGISTERS_OF_CROWD];
    flags bound[REGISTERS_OF_CROWD];
    unsigned fitting = 0, open = 0;
    for (int r = 0; r < REGISTERS_OF_CROWD; ++r) {
        lanes budget = load(c->budget + r * LANES), level = first_levels(c, alike, r, budget);
        sums[r] = crowd_in(c, alike, r, level + all(SLIVER), room + r * TINY, &of_crowd);
        flags fits = is_above(budget + all(1.0), sums[r].least);
        bound[r] = both(fits, is_above(sums[r].most, budget));
        begin(EQUAL, &s[r], bound[r], budget, sums[r].least, all(1.0));
        s[r].level = level;
        fitting |= bits(fits) << (r * LANES);
        open |= bits(bound[r]);
    }
    for (int guess = 1; open && guess <= MOST_GUESSES; ++guess) {
        open = 0;
        for (int r = 0; r < REGISTERS_OF_CROWD; ++r) {
            look_at_slivers(&s[r], sums[r].drawn, guess);
            open |= bits(s[r].open);
        }
        for (int r = 0; open && r < REGISTERS_OF_CROWD; ++r)
            sums[r].drawn = crowd_draw(room + r * TINY, c->longest, s[r].level + all(SLIVER));
    }
    for (int r = 0; r < REGISTERS_OF_CROWD; ++r) {
        lanes level = choose(bound[r], s[r].below, all(INFINITY));
        if (!(has & LATER)) crowd_out(c, alike, r, level, room + r * TINY);
        /* Whoever has no seat is written over later. */
        store(c->level + r * LANES, level);
        store(c->used + r * LANES, choose(bound[r], s[r].used, sums[r].most));
        store(c->needed + r * LANES, sums[r].least);
    }
    *d = of_crowd;
    return ~fitting;
}

/* Apart, for the compiler not to take the size of `room` for a reason to keep all of it in
 * registers. */
APART unsigned solve_alike(const crowd *c, bounds *room, doubts *d)
{
    return c->has & CHECKED ? solve_crowd(c, 1, CHECKED, room, d)
           : c->has & LATER ? solve_crowd(c, 1, LATER, room, d)
                            : solve_crowd(c, 1, PLAIN, room, d);
}

APART unsigned solve_unlike(const crowd *c, bounds *room, doubts *d)
{
    return c->has & CHECKED ? solve_crowd(c, 0, CHECKED, room, d)
           : c->has & LATER ? solve_crowd(c, 0, LATER, room, d)
                            : solve_crowd(c, 0, PLAIN, room, d);
}

static inline int is_filled(const crowd *c)
{
    int64_t filled = 0;
    for (int j = 0; j < CROWD; ++j) filled += c->size[j];
    return FILLED * filled >= CROWD * c->longest;
}

/* Solve the tiny ones among groups start..stop - 1: those whose minimums do not fit are added to
 * a list of `n_waiting`, those who are not tiny, or in too thin a crowd, are listed as others.
 * Returns how many others. */
static inline int64_t solve_tiny(const wattfill_batch *b, const grid *in, contents has,
                                 int64_t start, int64_t stop, const double *budget, int64_t *others,
                                 int64_t *waiting, int64_t *n_waiting, doubts *d)
{
    const unsigned everybody = (1u << CROWD) - 1;
    bounds room[REGISTERS_OF_CROWD * TINY];
    int64_t n_others = 0, g = start;
    for (; g + CROWD <= stop; g += CROWD, budget += CROWD) {
        const int64_t *first = b->offsets + g;
        int64_t size[CROWD];
        integers longest = all_integers(0), front = all_integers(first[1] - first[0]);
        unsigned seats = 0, shorter = 0, waits = 0;
        for (int at = 0; at < CROWD; at += LANES) {
            integers n = get_integers(first + at + 1, LANES) - get_integers(first + at, LANES);
            flags tiny = both(is_higher(all_integers(TINY + 1), n),
                              is_above(all(SMALL_CAPACITY), load(budget + at)));
            n = choose_integers(tiny, n, all_integers(0));
            memcpy(size + at, &n, sizeof n);
            seats |= bits(tiny) << at;
            longest = higher(longest, n);
            shorter |= bits(is_higher(front, n));
        }
        const crowd c = {
            .low = b->minimum, .high = b->maximum, .power = b->power, .first = first, .size = size,
            .budget = budget, .guess = b->guess ? b->guess + g : NULL,
            .level = b->level + g, .used = b->used + g, .needed = b->needed + g,
            .longest = seats ? highest_of(longest) : 0, .has = has, .in = *in};
        if (seats == everybody && !shorter && c.longest == first[1] - first[0])
            waits = solve_alike(&c, room, d);
        else if (seats && is_filled(&c))
            waits = solve_unlike(&c, room, d);
        else
            seats = 0;
        waits &= seats;
        for (int j = 0; waits >> j; ++j)
            if (waits >> j & 1) waiting[(*n_waiting)++] = g + j;
        for (int j = 0; seats != everybody && j < CROWD; ++j)
            if (!(seats >> j & 1)) others[n_others++] = g + j;
    }
    for (; g < stop; ++g) others[n_others++] = g;
    return n_others;
}

#endif
