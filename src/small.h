/* SPDX-License-Identifier: Apache-2.0
 *
 * Small groups, a lane each. A small group by itself is all latency: sums across a register,
 * branches that nobody predicts, a few connectors too many for one register. Side by side in
 * lanes, groups share every instruction, and there is nothing to sum across.
 */
#ifndef WATTFILL_SMALL_H
#define WATTFILL_SMALL_H

#include "level.h"
#include "row.h"

enum { SMALL = 64 };             /* connectors of a small group, at most */
#define SMALL_CAPACITY 0x1p39    /* quanta of a small group, less than this */
/* Part of a quantum: all slivers of a group are less than one, and their sum is exact, as at
 * levels up to its capacity a group draws less than (SMALL + 1) * SMALL_CAPACITY < 2**46. */
#define SLIVER 0x1p-7

typedef struct {
    int n;                       /* lanes in use */
    int64_t group[LANES];
    double size[LANES];          /* in connectors */
    /* Bounds in quanta, connector by connector: of one group each, and across the groups. */
    double row_minimum[LANES][SMALL], row_maximum[LANES][SMALL];
    double minimum[SMALL][LANES], maximum[SMALL][LANES];
} crowd;

static void join(crowd *c, int64_t g, int64_t n)
{
    c->group[c->n] = g;
    c->size[c->n] = (double)n;
    ++c->n;
}

/* Usable capacities in quanta, as usable_quanta() has them below SMALL_CAPACITY. */
static lanes crowd_capacity(const wattfill_batch *b, const crowd *c)
{
    lanes capacity, buffer, reserved;
    for (int j = 0; j < LANES; ++j) {
        int64_t g = c->group[j];
        capacity[j] = b->capacity[g];
        buffer[j] = b->buffer[g];
        reserved[j] = b->reserved[g];
    }
    lanes gross = round_down(capacity * (1.0 - buffer) * b->per_unit + NEAR);
    lanes taken = round_up(larger(reserved * b->per_unit - NEAR, all(0.0)));
    return larger(gross - taken, all(0.0));
}

/* Bring the bounds in: row by row, as memory has them; then across, in whole registers, of which
 * the rows that are shorter have zeros. Returns how long the longest row is then. */
static int64_t crowd_in(const wattfill_batch *b, crowd *c, lanes *least, lanes *most, lanes *top)
{
    int64_t longest = 0;
    for (int j = 0; j < c->n; ++j)
        if ((int64_t)c->size[j] > longest) longest = (int64_t)c->size[j];
    longest = (longest + LANES - 1) / LANES * LANES;
    for (int j = 0; j < LANES; ++j) {
        int64_t n = (int64_t)c->size[j];
        double unread;
        if (n > 0)
            row_in(b, 0, b->offsets[c->group[j]], n, c->row_minimum[j], c->row_maximum[j],
                   &unread, &unread);
        for (int64_t k = n; k < longest; ++k) c->row_minimum[j][k] = c->row_maximum[j][k] = 0.0;
    }
    *least = *most = *top = (lanes){0};
    for (int64_t k = 0; k < longest; k += LANES) {
        lanes minimum[LANES], maximum[LANES];
        for (int j = 0; j < LANES; ++j) {
            minimum[j] = load(c->row_minimum[j] + k);
            maximum[j] = load(c->row_maximum[j] + k);
        }
        transpose(minimum);
        transpose(maximum);
        for (int i = 0; i < LANES; ++i) {
            *least += minimum[i];
            *most += maximum[i];
            *top = larger(*top, maximum[i]);
            store(c->minimum[k + i], minimum[i]);
            store(c->maximum[k + i], maximum[i]);
        }
    }
    return longest;
}

/* What each group draws at its level. */
ALWAYS_INLINE lanes crowd_draw(const crowd *c, int64_t n, lanes level)
{
    lanes one = {0}, other = {0};
    for (int64_t i = 0; i < n; i += 2) {
        one += smaller(larger(level, load(c->minimum[i])), load(c->maximum[i]));
        other += smaller(larger(level, load(c->minimum[i + 1])), load(c->maximum[i + 1]));
    }
    return one + other;
}

/* Levels of those groups whose maximums do not fit and whose minimums do; infinite for others. */
static lanes crowd_levels(const crowd *c, int64_t n, lanes capacity, lanes least, lanes most,
                          lanes top)
{
    lanes found = all(INFINITY);
    flags open = (most > capacity) & (least <= capacity);
    lanes below = {0}, above = smaller(top, capacity + 1.0);
    lanes level = round_down(capacity / larger(load(c->size), all(1.0)));
    for (int guess = 1; any(open) && guess <= MOST_GUESSES; ++guess) {
        flags closed = open & (above <= below + 1.0);
        found = choose(closed, below, found);
        open &= ~closed;
        flags outside = (level <= below) | (level >= above);
        level = choose(outside, round_down((below + above) * 0.5), level);

        /* A sliver above the level, everybody who rises with it shows as a sliver in the sum. */
        lanes drawn = crowd_draw(c, n, level + SLIVER);
        lanes whole = round_down(drawn), rising = (drawn - whole) * (1.0 / SLIVER);
        lanes left = capacity - whole;
        flags fits = left >= 0.0, hit = open & fits & (left < rising);
        found = choose(hit, level, found);
        open &= ~hit;
        below = choose(fits, level, below);
        above = choose(fits, above, level);
        lanes halfway = round_down((below + above) * 0.5);
        lanes newton = round_down(level + left / larger(rising, all(1.0)));
        level = must_halve(guess) ? halfway : choose(rising > 0.0, newton, halfway);
    }
    return found;
}

/* Solve the crowd and empty it. Returns the lanes whose minimums do not fit: nothing is written
 * for them. */
static flags solve_crowd(const wattfill_batch *b, crowd *c)
{
    int n_groups = c->n;
    for (int j = n_groups; j < LANES; ++j) {
        c->group[j] = c->group[0];
        c->size[j] = 0.0;
    }
    lanes least, most, top, capacity = crowd_capacity(b, c);
    int64_t n = crowd_in(b, c, &least, &most, &top);
    lanes level = crowd_levels(c, n, capacity, least, most, top);
    flags too_much = least > capacity;
    lanes level_out = level / b->per_unit, used = crowd_draw(c, n, level) / b->per_unit;
    lanes usable = capacity / b->per_unit, needed = least / b->per_unit;
    for (int j = 0; j < n_groups; ++j) {
        if (too_much[j]) continue;
        int64_t g = c->group[j], start = b->offsets[g];
        write_row(b, g, start, (int64_t)c->size[j], c->row_minimum[j], c->row_maximum[j], level[j]);
        b->level[g] = level_out[j];
        b->usable[g] = usable[j];
        b->used[g] = used[j];
        b->needed[g] = needed[j];
        if (b->active) mark_idle(b, start, b->offsets[g + 1]);
    }
    c->n = 0;
    return too_much;
}

#endif
