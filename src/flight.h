/* SPDX-License-Identifier: Apache-2.0
 *
 * Small groups, several in flight. One after another they are all latency: sums across a register,
 * a division, a branch that nobody predicts, each waiting for the one before. So the bounds of a
 * few groups are brought in; then all of them draw at their levels, and one set of registers,
 * with a lane for each group, says where each looks next; and at the end all powers go out.
 */
#ifndef WATTFILL_FLIGHT_H
#define WATTFILL_FLIGHT_H

#include "level.h"
#include "order.h"
#include "row.h"

enum {
    IN_FLIGHT = 8,
    REGISTERS = IN_FLIGHT / LANES,
    SMALL = 256 /* connectors of a small group, at most */
};
/* Up to its capacity a group draws less than (SMALL + 1) * (SMALL_CAPACITY + 1) grains, so that
 * sums with slivers are exact too. */
#define SLIVER 0x1p-9
#define SMALL_CAPACITY 0x1p34

typedef struct {
    int n;
    int64_t group[IN_FLIGHT];
    pool row[IN_FLIGHT]; /* whole registers: who fills up the last one has bounds of 0 */
    /* In grains; of those who take no part 0. */
    double budget[IN_FLIGHT], level[IN_FLIGHT], grain[IN_FLIGHT];
    lanes least[IN_FLIGHT], most[IN_FLIGHT], drawn[IN_FLIGHT], slope[IN_FLIGHT];
    double *room;
    double bounds[3 * IN_FLIGHT * SMALL];
} flight;

static inline void clear(flight *f)
{
    f->n = 0;
    f->room = f->bounds;
}

/* Of a group that wants more than its budget, leave the bounds of the tier that it binds as they
 * are; who stands higher has the maximum, who stands lower the minimum. `left` is what the
 * minimums leave. Returns what is drawn at a level then. */
ALWAYS_INLINE lanes narrow_to_tier(contents has, const pool *p, const int64_t *priority,
                                   int64_t n_priorities, double left, double level)
{
    integers tiers[SMALL / LANES];
    int64_t n = p->n / LANES;
    integers highest = all_integers(INT64_MIN);
    for (int64_t k = 0; k < n; ++k) {
        tiers[k] = get_integers(priority + k * LANES, n_priorities - k * LANES);
        highest = higher(highest, tiers[k]);
    }
    int64_t next = highest_of(highest), last;
    integers tier;
    double wanted_in_all;
    /* Some tier does not fit, unless bounds are malformed; every round goes to a lower one. */
    do {
        last = next;
        tier = all_integers(last);
        lanes wanted = all(0.0);
        integers below = all_integers(INT64_MIN);
        for (int64_t k = 0; k < n; ++k) {
            flags lower = is_higher(tier, tiers[k]);
            lanes width = load(p->maximum + k * LANES) - load(p->minimum + k * LANES);
            if (has & (STEPS | GAPS)) width = larger(width, all(0.0));
            wanted += choose(lower, all(0.0), width);
            below = choose_integers(both(lower, is_higher(tiers[k], below)), tiers[k], below);
        }
        next = highest_of(below);
        wanted_in_all = sum(wanted);
    } while (wanted_in_all <= left && next < last);
    lanes drawn = all(0.0);
    for (int64_t k = 0; k < n; ++k) {
        double *minimum = p->minimum + k * LANES, *maximum = p->maximum + k * LANES;
        lanes low = load(minimum), high = load(maximum);
        flags first = is_higher(tiers[k], tier), later = is_higher(tier, tiers[k]);
        if (has & (STEPS | GAPS)) {
            flags takes_part = is_above(high, low);
            first = both(takes_part, first);
            later = both(takes_part, later);
        }
        lanes new_low = choose(first, high, low);
        /* A minimum of 0, which was rounded up, may be -0; a power is not. */
        high = choose(later, low, high) + all(0.0);
        store(minimum, new_low);
        store(maximum, high);
        drawn += smaller(larger(new_low, all(level)), high);
    }
    return drawn;
}

/* About the mean of n weights: that of the first ones. */
ALWAYS_INLINE double typical(const double *weight, int64_t n)
{
    return sum(get(weight, n)) / at_most((double)n, LANES);
}

/* Bring in the n weights of a row. Returns what it draws at a level that need not be on the grid,
 * which depends on the weights. */
ALWAYS_INLINE draw weigh(const pool *p, const double *weight, int64_t n, double level,
                         double *grain)
{
    lanes heaviest = all(0.0), at = all(level);
    draw d = no_draw();
    for (int64_t k = 0; k < p->n; k += LANES) {
        lanes low = load(p->minimum + k), high = load(p->maximum + k);
        lanes each = get(weight + k, n - k);
        lanes want = at * each, q = smaller(larger(low, want), high);
        store(p->weight + k, each);
        heaviest = heavier(heaviest, each, low, high);
        d.drawn += q;
        d.slope += only(is_same(q, want), each);
    }
    *grain = grain_of(most_of(heaviest));
    return d;
}

/* Bring in the connectors of group g, which may use `budget` grains, and let it take off. */
ALWAYS_INLINE void take_off(const wattfill_batch *b, const grid *in, rule by, contents has,
                            flight *f, int64_t g, double budget, doubts *d)
{
    int64_t i = b->offsets[g], n = b->offsets[g + 1] - i, room = (n + LANES - 1) / LANES * LANES;
    int j = f->n++;
    pool p = {f->room, f->room + room, by == EQUAL ? NULL : f->room + 2 * room, room};
    double level = budget / at_least((double)n, 1.0);
    if (b->guess && b->guess[g] >= 0.0) level = guess_in(in, b->guess[g]);
    level = at_least(floor(at_most(level, budget)), 1.0);
    row_sums s = row_in(b, in, has, level + SLIVER, i, n, p.minimum, p.maximum, d);
    f->room += (by == EQUAL ? 2 : 3) * room;
    if (b->priority && n > 0) {
        double least = sum(s.least);
        if (least <= budget && budget < sum(s.most)) {
            s.drawn = narrow_to_tier(has, &p, b->priority + i, n, budget - least, level + SLIVER);
        }
    }
    if (by != EQUAL && n > 0) {
        const double *weight = b->weight + i;
        level = b->guess && b->guess[g] >= 0.0 ? at_most(guess_in(in, b->guess[g]), HIGHEST)
                                               : budget / ((double)n * typical(weight, n));
        draw d = weigh(&p, weight, n, level, &f->grain[j]);
        s.drawn = d.drawn;
        f->slope[j] = d.slope;
    }
    f->group[j] = g;
    f->row[j] = p;
    f->budget[j] = budget;
    f->level[j] = level;
    f->least[j] = s.least;
    f->most[j] = s.most;
    f->drawn[j] = s.drawn;
}

/* Hand out what steps leave over, one each to those who rise, in admission order. Others than the
 * binding tier do not rise. */
static double hand_out(const wattfill_batch *b, const pool *p, int64_t start, double level,
                       double left)
{
    int64_t line[SMALL], spare[SMALL], n = 0, most = (int64_t)at_most(left, (double)p->n);
    for (int64_t k = 0; k < p->n && (b->rank || n < most); k += LANES) {
        lanes low = load(p->minimum + k), next = all(level + 1.0);
        flags rising = both(is_above(next, low), is_above(load(p->maximum + k), all(level)));
        unsigned on = bits(rising);
        if (b->rank) {
            for (; on; on &= on - 1) line[n++] = start + k + first_of(on);
        } else if (n + n_set(on) <= most) {
            store(p->minimum + k, choose(rising, next, low));
            n += n_set(on);
        } else {
            for (; n < most; on &= on - 1, ++n) p->minimum[k + first_of(on)] = level + 1.0;
        }
    }
    if (!b->rank) return (double)n;
    put_in_line(b, NULL, line, n, spare);
    if (n > most) n = most;
    for (int64_t at = 0; at < n; ++at) p->minimum[line[at] - start] = level + 1.0;
    return (double)n;
}

ALWAYS_INLINE void draw_row(rule by, flight *f, int j)
{
    if (by == EQUAL) {
        f->drawn[j] = draw_of_slivers(&f->row[j], f->level[j] + SLIVER);
    } else {
        draw d = draw_at(by, f->level[j], &f->row[j]);
        f->drawn[j] = d.drawn;
        f->slope[j] = d.slope;
    }
}

/* `drawn` is at the level and a sliver. */
ALWAYS_INLINE void look_at_slivers(search *s, lanes drawn, int guess)
{
    draw d = {.drawn = whole_below(drawn)};
    d.slope = (drawn - d.drawn) * all(1.0 / SLIVER);
    look(EQUAL, s, &d, guess);
}

ALWAYS_INLINE void look_register(rule by, flight *f, search *s, int r, int guess)
{
    lanes drawn = sums_of(f->drawn + r * LANES);
    if (by == EQUAL) {
        look_at_slivers(s, drawn, guess);
    } else {
        draw d = {.drawn = drawn, .slope = sums_of(f->slope + r * LANES)};
        look(by, s, &d, guess);
    }
    store(f->level + r * LANES, s->level);
}

/* Find the levels of all groups in flight and land them: powers go out, and levels, used and needed
 * in grains. Groups whose minimums do not fit are put on a list; returns how many. */
ALWAYS_INLINE int64_t land(const wattfill_batch *b, const grid *in, rule by, contents has,
                           flight *f, int64_t *waiting)
{
    search s[REGISTERS];
    lanes least[REGISTERS], most[REGISTERS];
    flags bound[REGISTERS];
    unsigned flying = 0, fitting = 0;
    for (int j = f->n; j < IN_FLIGHT; ++j) {
        f->budget[j] = f->level[j] = 0.0;
        f->grain[j] = 1.0;
        f->least[j] = f->most[j] = f->drawn[j] = f->slope[j] = all(0.0);
    }
    for (int r = 0; r < REGISTERS; ++r) {
        lanes budget = load(f->budget + r * LANES);
        least[r] = sums_of(f->least + r * LANES);
        most[r] = sums_of(f->most + r * LANES);
        flags fits = is_above(budget + all(1.0), least[r]);
        bound[r] = both(fits, is_above(most[r], budget));
        begin(by, &s[r], bound[r], budget, least[r], load(f->grain + r * LANES));
        s[r].level = load(f->level + r * LANES);
        if (by != EQUAL) {
            lanes slope = sums_of(f->slope + r * LANES);
            lanes newton = s[r].level + (budget - sums_of(f->drawn + r * LANES)) / slope;
            go_to(by, &s[r], choose(is_above(slope, all(0.0)), newton, s[r].level));
            store(f->level + r * LANES, s[r].level);
        }
        flying |= bits(bound[r]) << (r * LANES);
        fitting |= bits(fits) << (r * LANES);
    }
    if (by != EQUAL)
        for (int j = 0; j < f->n; ++j)
            if (flying >> j & 1) draw_row(by, f, j);
    for (int guess = 1; flying && guess <= MOST_GUESSES; ++guess) {
        flying = 0;
        for (int r = 0; r < REGISTERS; ++r) {
            look_register(by, f, &s[r], r, guess);
            flying |= bits(s[r].open) << (r * LANES);
        }
        for (unsigned on = flying; on; on &= on - 1) draw_row(by, f, first_of(on));
    }
    double used[IN_FLIGHT], needed[IN_FLIGHT];
    int64_t n_waiting = 0;
    for (int r = 0; r < REGISTERS; ++r) {
        store(f->level + r * LANES, choose(bound[r], s[r].below, all(INFINITY)));
        store(used + r * LANES, choose(bound[r], s[r].used, most[r]));
        store(needed + r * LANES, least[r]);
    }
    for (int j = 0; j < f->n; ++j) {
        int64_t g = f->group[j], i = b->offsets[g];
        if (!(fitting >> j & 1)) {
            waiting[n_waiting++] = g;
            continue;
        }
        pool p = f->row[j];
        double level = f->level[j];
        /* Where there are tiers, more than the minimums is drawn at a level of 0. */
        if (level == 0.0 && b->priority) used[j] = sum(draw_at(by, level, &p).drawn);
        double left = f->budget[j] - used[j];
        if (has & STEPS && level < INFINITY && left >= 1.0)
            used[j] += hand_out(b, &p, i, level, left);
        p.n = b->offsets[g + 1] - i;
        if (!(has & LATER)) row_out(b, in, by, has, &p, i, level);
        if (b->reason) explain(b, &p, g, level);
        b->level[g] = level;
        b->used[g] = used[j];
        b->needed[g] = needed[j];
    }
    clear(f);
    return n_waiting;
}

#endif
