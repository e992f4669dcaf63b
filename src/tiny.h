/* SPDX-License-Identifier: Apache-2.0  Tiny groups, a lane each. To a row of one register or
 * two, sums across it and what it takes to fly are most of the work. With their rows turned into
 * columns, a crowd shares every instruction, there is nothing to sum across, and one branch says
 * that all have their levels. Neighbours of about one size are a crowd as they stand; others are
 * sorted by length, as a crowd takes as long as its longest row. */
#ifndef WATTFILL_TINY_H
#define WATTFILL_TINY_H

#include "flight.h"

enum {
    /* Connectors of a tiny group, at most. Measured with equal sizes: at 8 flying takes nearly
     * twice the time, at 24 an eighth to a third more; it catches up a register beyond this, as
     * sums across a row cost less the longer it is. A whole number of registers. */
    TINY = LANES == 8 ? 40 : 32,
    LENGTHS = TINY / LANES,                   /* of rows, in registers */
    REGISTERS_OF_CROWD = 4,                   /* in lockstep, for none to wait for its divisions */
    CROWD = REGISTERS_OF_CROWD * LANES,       /* neighbours */
    /* Groups from here and there: with 32 rows of 40, which do not stand side by side, sizes of up
     * to 40 took a tenth longer than with 16. */
    REGISTERS_GATHERED = LANES == 8 ? 2 : REGISTERS_OF_CROWD,
    GATHERED = REGISTERS_GATHERED * LANES,
    /* Unless all but a third of a crowd of neighbours is filled, it pays to sort them first:
     * measured, three fifths filled take a twentieth longer as they stand, three quarters less. */
    FILLED = 3,
    AHEAD = 256,                              /* connectors, asked for before their turn */
    BLOCK = 512                               /* groups among whom they are sorted */
};
#define EVERYBODY (~0u >> (32 - CROWD))

/* A row's length in registers, less one; of no connectors, too. */
static inline int length_of(int64_t size) { return size > 0 ? (int)((size - 1) / LANES) : 0; }

/* Bounds in grains, a lane for each group. */
typedef struct {
    lanes minimum, maximum;
} bounds;

/* CROWD neighbours, or GATHERED groups from here and there. */
typedef struct {
    const double *low, *high;                 /* (n_connectors,) */
    double *power;
    const int64_t *first, *size;              /* (groups,) connectors of each */
    const double *budget, *guess;             /* (groups,), in grains; in units, or NULL */
    double *level, *used, *needed;            /* (groups,), in grains */
    int64_t longest;
    int in_a_row;                             /* each row follows the one before it */
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
        if (LANES == 8 && c->in_a_row) {
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

/* Returns whose minimums do not fit, as bits; those that nobody has are set. */
ALWAYS_INLINE unsigned solve_crowd(const crowd *of, int registers, int alike, contents has,
                                   bounds *room, doubts *d)
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
    for (int r = 0; r < registers; ++r) {
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
        for (int r = 0; r < registers; ++r) {
            look_at_slivers(&s[r], sums[r].drawn, guess);
            open |= bits(s[r].open);
        }
        for (int r = 0; open && r < registers; ++r)
            sums[r].drawn = crowd_draw(room + r * TINY, c->longest, s[r].level + all(SLIVER));
    }
    for (int r = 0; r < registers; ++r) {
        lanes level = choose(bound[r], s[r].below, all(INFINITY));
        if (!(has & LATER)) crowd_out(c, alike, r, level, room + r * TINY);
        store(c->level + r * LANES, level);
        store(c->used + r * LANES, choose(bound[r], s[r].used, sums[r].most));
        store(c->needed + r * LANES, sums[r].least);
    }
    *d = of_crowd;
    return ~fitting;
}

/* Apart, for the compiler not to take the size of `room` for a reason to keep all of it in
 * registers. */
#define APART_WITH(name, registers, alike)                                                      \
    APART unsigned name(const crowd *c, bounds *room, doubts *d)                                \
    {                                                                                           \
        return c->has & CHECKED ? solve_crowd(c, registers, alike, CHECKED, room, d)            \
               : c->has & LATER ? solve_crowd(c, registers, alike, LATER, room, d)              \
                                : solve_crowd(c, registers, alike, PLAIN, room, d);             \
    }
APART_WITH(solve_alike, REGISTERS_OF_CROWD, 1)
APART_WITH(solve_unlike, REGISTERS_OF_CROWD, 0)
APART_WITH(solve_gathered, REGISTERS_GATHERED, 0)
#undef APART_WITH

/* CROWD neighbours, or fewer where a block ends. */
typedef struct {
    int64_t size[CROWD]; /* connectors */
    unsigned tiny;       /* who is, as bits */
    int alike;           /* all have as many connectors */
} neighbours;

ALWAYS_INLINE neighbours see(const int64_t *first, const double *budget, int64_t n)
{
    neighbours who;
    integers front = all_integers(first[1] - first[0]), none = all_integers(0), other = none;
    who.tiny = 0;
    for (int at = 0; at < n; at += LANES) {
        integers size = get_integers(first + at + 1, n - at) - get_integers(first + at, n - at);
        flags tiny = both(is_higher(all_integers(TINY + 1), size),
                          is_above(all(SMALL_CAPACITY), get(budget + at, n - at)));
        memcpy(who.size + at, &size, sizeof size);
        who.tiny |= bits(tiny) << at;
        other |= size ^ front;
    }
    who.alike = !(bits(is_higher(other, none)) | bits(is_higher(none, other)));
    return who;
}

/* The longest row of a full crowd in whole registers; 0 where so much room is not filled. */
static inline int64_t longest_if_filled(const neighbours *who)
{
    integers longest = all_integers(0), filled = longest;
    for (int at = 0; at < CROWD; at += LANES) {
        integers size = get_integers(who->size + at, LANES);
        integers row = (size + all_integers(LANES - 1)) & all_integers(-LANES);
        longest = higher(longest, row);
        filled += row;
    }
    int64_t most = highest_of(longest);
    return FILLED * total_of(filled) >= (FILLED - 1) * CROWD * most ? most : 0;
}

/* Others wait until enough of their length in registers have come. */
typedef struct {
    int n;
    int64_t group[GATHERED], first[GATHERED], size[GATHERED];
    double budget[GATHERED], guess[GATHERED];
} gathering;

/* The tiny groups of a block, which has at most BLOCK groups. */
typedef struct {
    const wattfill_batch *b;
    const grid *in;
    contents has;
    int64_t *waiting, n_waiting;
    doubts d;
    gathering of_length[LENGTHS];
    bounds room[REGISTERS_OF_CROWD * TINY];
} tiny_ones;

static inline void solve_neighbours(tiny_ones *t, const neighbours *who, int64_t g,
                                    const double *budget, int64_t longest)
{
    const wattfill_batch *b = t->b;
    const crowd c = {
        .low = b->minimum, .high = b->maximum, .power = b->power, .first = b->offsets + g,
        .size = who->size, .budget = budget, .guess = b->guess ? b->guess + g : NULL,
        .level = b->level + g, .used = b->used + g, .needed = b->needed + g,
        .longest = longest, .in_a_row = 1, .has = t->has, .in = *t->in};
    unsigned waits = who->alike ? solve_alike(&c, t->room, &t->d)
                                : solve_unlike(&c, t->room, &t->d);
    for (waits &= EVERYBODY; waits; waits &= waits - 1)
        t->waiting[t->n_waiting++] = g + first_of(waits);
}

/* Solve those who have gathered; empty groups take the seats that are left. */
APART void solve_gathering(tiny_ones *t, int length)
{
    const wattfill_batch *b = t->b;
    gathering *who = &t->of_length[length];
    double level[GATHERED], used[GATHERED], needed[GATHERED];
    for (int j = who->n; j < GATHERED; ++j) {
        who->first[j] = who->first[0];
        who->size[j] = 0;
        who->budget[j] = who->guess[j] = 0.0;
    }
    const crowd c = {
        .low = b->minimum, .high = b->maximum, .power = b->power, .first = who->first,
        .size = who->size, .budget = who->budget, .guess = b->guess ? who->guess : NULL,
        .level = level, .used = used, .needed = needed, .longest = (length + 1) * LANES,
        .has = t->has, .in = *t->in};
    unsigned waits = solve_gathered(&c, t->room, &t->d);
    for (int j = 0; j < who->n; ++j) {
        int64_t g = who->group[j];
        b->level[g] = level[j];
        b->used[g] = used[j];
        b->needed[g] = needed[j];
        if (waits >> j & 1) t->waiting[t->n_waiting++] = g;
    }
    who->n = 0;
}

/* Let a group wait for others of its length, or solve all of them; what it reads is near by then. */
static inline void gather(tiny_ones *t, int length, int64_t g, double budget)
{
    const wattfill_batch *b = t->b;
    gathering *who = &t->of_length[length];
    int j = who->n++;
    int64_t i = b->offsets[g];
    who->group[j] = g;
    who->first[j] = i;
    who->size[j] = b->offsets[g + 1] - i;
    who->budget[j] = budget;
    if (b->guess) who->guess[j] = b->guess[g];
    ask_for(b->minimum + i, 0);
    ask_for(b->maximum + i, 0);
    if (!(t->has & LATER)) ask_for(b->power + i, 0);
    if (who->n == GATHERED) solve_gathering(t, length);
}

/* Solve the tiny ones among groups start..stop - 1: those whose minimums do not fit are added to
 * a list of `n_waiting`, those who are not tiny, or too few for a crowd, are listed as others.
 * Returns how many others. */
static inline int64_t solve_tiny(const wattfill_batch *b, const grid *in, contents has,
                                 int64_t start, int64_t stop, const double *budget, int64_t *others,
                                 int64_t *waiting, int64_t *n_waiting, doubts *d)
{
    tiny_ones t;
    int64_t n_others = 0;
    t.b = b;
    t.in = in;
    t.has = has;
    t.waiting = waiting;
    t.n_waiting = *n_waiting;
    t.d = *d;
    for (int length = 0; length < LENGTHS; ++length) t.of_length[length].n = 0;
    for (int64_t g = start; g < stop; g += CROWD, budget += CROWD) {
        int64_t n = stop - g < CROWD ? stop - g : CROWD;
        const neighbours who = n == CROWD ? see(b->offsets + g, budget, CROWD)
                                          : see(b->offsets + g, budget, n);
        int together = n == CROWD && who.tiny == EVERYBODY;
        int64_t longest = !together ? 0 : who.alike ? who.size[0] : longest_if_filled(&who);
        if (longest > 0) {
            solve_neighbours(&t, &who, g, budget, longest);
            continue;
        }
        for (int j = 0; j < n; ++j) {
            if (who.tiny >> j & 1) gather(&t, length_of(who.size[j]), g + j, budget[j]);
            else others[n_others++] = g + j;
        }
    }
    /* Who are too few for a crowd go with those who are one register longer. */
    for (int length = 0; length < LENGTHS; ++length) {
        gathering *who = &t.of_length[length];
        if (who->n >= GATHERED / 2) {
            solve_gathering(&t, length);
            continue;
        }
        for (int j = 0; j < who->n; ++j) {
            if (length < LENGTHS - 1) gather(&t, length + 1, who->group[j], who->budget[j]);
            else others[n_others++] = who->group[j];
        }
    }
    *n_waiting = t.n_waiting;
    *d = t.d;
    return n_others;
}

#endif
