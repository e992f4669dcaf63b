/* SPDX-License-Identifier: Apache-2.0
 *
 * One tree of groups at an instant: connectors and the sessions at them, what groups draw and want,
 * and who of them is given power.
 */
#ifndef SIM_TREE_H
#define SIM_TREE_H

#include <assert.h>
#include <math.h>

#include "grid.h"
#include "sim_line.h"
#include "sim_load.h"
#include "sim_soonest.h"

#define UJ_PER_KWH 3.6e12

/* A connector, and the session at it. */
typedef struct {
    int64_t row;           /* -1: free */
    int64_t number;        /* how many came to the tree before */
    int64_t group;         /* in the tree */
    int64_t departure;
    int64_t goal;          /* what it takes until it is full */
    int64_t left;          /* of this, not delivered by `since`; 0 where it takes no part */
    int64_t since;
    int64_t power, draw;   /* given, and drawn: less in the last millisecond */
    int64_t paused;        /* ms */
    int64_t place;         /* among those who are given power; -1: it is not */
    int64_t low, high;     /* bounds in quanta */
    int64_t piece;         /* of the taper, that begins next */
    int64_t mark;          /* what is left when it does; -1: never */
    int64_t held_by;       /* group whose equal share holds it down, or -1 */
    double low_kw, taken_kw; /* effective minimum; what the vehicle takes before it tapers */
} plug;

/* What one knows of a group. */
typedef struct {
    int64_t parent;            /* in the tree, or -1 */
    int64_t after;             /* behind the last group below it */
    double capacity, reserved; /* kW */
    int64_t usable;
    int64_t wanted, needed;    /* sums of the upper and of the lower bounds below it */
    int64_t load, kept;        /* what is drawn, and what was noted last */
    int64_t share;             /* EQUAL: the least of its own and those above, and whose it is */
    int64_t share_of;
    int64_t n_plugs, n_held;   /* connectors below it; EQUAL: sessions that its share holds down */
    int64_t held_since, over_since, excess;
    uint8_t over, brief;       /* `wanted`, `needed` exceed `usable` */
    uint8_t holds, changed;
} feeder;

/* One tree on its way through time. */
typedef struct {
    const sim_input *in;
    const sim_output *out;
    sim_report *report;
    grid by;
    int64_t now;
    int64_t first_group, n_groups, first_plug, n_plugs;
    plug *plugs;
    feeder *feeders;
    soonest next;
    uint64_t *taken;           /* a bit for each connector */
    int64_t n_arrived;
    /* Those who are given power, group after group; in a group they stand in any order, as ranks
     * and not places say who is admitted first. */
    int64_t n_active;
    int64_t *begin;            /* (n_groups + 1,) */
    int64_t *who;
    double *low, *high, *weight, *rank;
    int64_t *priority;
    int64_t n_weighted, n_preferred, n_over, n_brief, n_paused;
    wattfill_batch batch;
    double *usable, *level, *guess, *power;
    int64_t *bound_by;
    uint8_t *reason;
    void *scratch;
    /* What happened at this instant. */
    int64_t *touched, n_touched; /* whose bounds are new */
    int64_t *changed, n_changed; /* groups whose load or capacity is new */
    int stale, anew, was_over;   /* powers may change; those of all; somebody was held down */
    line *lines;
    int64_t n_lines;
    int64_t *ordering, n_ordering; /* groups that order their sessions anew, the root first */
    int64_t *seats, *members;
    struct rank_key *keys;
    sim_steps steps;
    int failed;                /* for want of memory */
} tree;

struct rank_key {
    double minimum;
    int64_t number, who;
};

static inline int64_t least(int64_t x, int64_t y) { return x < y ? x : y; }
static inline int64_t most(int64_t x, int64_t y) { return x > y ? x : y; }

static void note_step(tree *t, sim_steps *steps, int64_t who, int64_t power)
{
    if (make_room(steps, 1)) {
        t->failed = 1;
        return;
    }
    steps->steps[steps->n++] = (sim_step){who, t->now, power};
}

static inline void note_group(tree *t, int64_t g)
{
    if (t->feeders[g].changed) return;
    t->feeders[g].changed = 1;
    t->changed[t->n_changed++] = g;
}

static inline void touch(tree *t, int64_t i)
{
    t->touched[t->n_touched++] = i;
    t->stale = 1;
}

/* Powers and energies of one session */

static void draw(tree *t, plug *p, int64_t power)
{
    int64_t more = power - p->draw;
    if (more == 0) return;
    p->draw = power;
    for (int64_t g = p->group; g >= 0; g = t->feeders[g].parent) {
        t->feeders[g].load += more;
        note_group(t, g);
    }
    if (t->report->keep_sessions) note_step(t, &t->report->sessions, p->row, power);
}

/* Bring what it has been delivered up to now. It draws no more than there is left, as whatever
 * takes the last of it is an event. */
static inline void settle(tree *t, plug *p)
{
    int64_t time = t->now - p->since;
    p->since = t->now;
    if (p->left == 0) return;
    p->left -= p->draw * time;
    assert(p->left >= 0);
    if (p->power == 0) p->paused += time;
}

/* Let a settled session draw what it is given, and say when that ends. */
static void restart(tree *t, int64_t i)
{
    plug *p = &t->plugs[i];
    int64_t power = least(p->power, p->left), next = p->departure;
    draw(t, p, power);
    if (power > 0 && p->left < p->power) {
        next = least(next, t->now + 1);
    } else if (power > 0) {
        next = least(next, t->now + p->left / power);
        if (p->mark >= 0) next = least(next, t->now + (p->left - p->mark + power - 1) / power);
    }
    enter(&t->next, i, next);
}

static inline void give(tree *t, int64_t i, int64_t power)
{
    plug *p = &t->plugs[i];
    if (p->power == power) return;
    settle(t, p);
    p->power = power;
    restart(t, i);
}

/* What sessions want, group by group */

static void judge(tree *t, int64_t g)
{
    feeder *f = &t->feeders[g];
    uint8_t over = f->wanted > f->usable, brief = f->needed > f->usable;
    t->n_over += over - f->over;
    t->n_brief += brief - f->brief;
    f->over = over;
    f->brief = brief;
}

static void want(tree *t, int64_t group, int64_t low, int64_t high)
{
    for (int64_t g = group; g >= 0; g = t->feeders[g].parent) {
        t->feeders[g].needed += low;
        t->feeders[g].wanted += high;
        judge(t, g);
    }
}

/* Bounds as the registry has them: the upper one is never below the effective minimum. */
static void find_bounds(tree *t, int64_t i)
{
    plug *p = &t->plugs[i];
    double taken = p->taken_kw;
    if (p->piece > 0) taken *= t->in->piece_fraction[p->piece - 1];
    double high = at_least(at_most(taken, t->in->rating[t->first_plug + i]), p->low_kw);
    double high_q = lane(quanta_down(&t->by, 1, all(high)), 0);
    double low_q = at_most(lane(quanta_up(&t->by, 1, all(p->low_kw)), 0), high_q);
    if (p->place >= 0) {
        want(t, p->group, (int64_t)low_q - p->low, (int64_t)high_q - p->high);
        t->low[p->place] = low_q;
        t->high[p->place] = high_q;
    }
    p->low = (int64_t)low_q;
    p->high = (int64_t)high_q;
}

static inline int64_t energy_of(double kwh) { return (int64_t)rint(kwh * UJ_PER_KWH); }

/* Go to the piece of the taper that its battery is in, and mark where the next one begins. */
static void find_piece(tree *t, plug *p)
{
    const sim_input *in = t->in;
    p->mark = -1;
    if (!in->battery || isnan(in->battery[p->row])) return;
    double soc = in->soc[p->row], battery = in->battery[p->row];
    for (; p->piece < in->n_pieces; ++p->piece) {
        int64_t until = energy_of((in->piece_soc[p->piece] - soc) * battery);
        if (until > p->goal - p->left) {
            if (until < p->goal) p->mark = p->goal - until;
            return;
        }
    }
}

/* Who is given power stands in the arrays that the kernel reads. To make a place in a group, the
 * first of every group behind it goes behind its last. */

static void move_seat(tree *t, int64_t to, int64_t from)
{
    if (to == from) return;
    t->who[to] = t->who[from];
    t->low[to] = t->low[from];
    t->high[to] = t->high[from];
    t->weight[to] = t->weight[from];
    t->rank[to] = t->rank[from];
    t->priority[to] = t->priority[from];
    t->plugs[t->who[to]].place = to;
}

static void sit_down(tree *t, int64_t i, double weight, int64_t priority)
{
    plug *p = &t->plugs[i];
    for (int64_t g = t->n_groups - 1; g > p->group; --g) {
        if (t->begin[g] < t->begin[g + 1]) move_seat(t, t->begin[g + 1], t->begin[g]);
        ++t->begin[g + 1];
    }
    int64_t place = t->begin[p->group + 1]++;
    ++t->n_active;
    p->place = place;
    t->who[place] = i;
    t->low[place] = (double)p->low;
    t->high[place] = (double)p->high;
    t->weight[place] = weight;
    t->rank[place] = (double)p->number;
    t->priority[place] = priority;
    t->n_weighted += weight != 1.0;
    t->n_preferred += priority != 0;
    want(t, p->group, p->low, p->high);
    for (line *l = t->lines; l < t->lines + t->n_lines; ++l)
        if (l->group <= p->group && p->group < l->after) join(l, i);
}

static void stand_up(tree *t, int64_t i)
{
    plug *p = &t->plugs[i];
    for (line *l = t->lines; l < t->lines + t->n_lines; ++l)
        if (l->group <= p->group && p->group < l->after) quit(l, i);
    want(t, p->group, -p->low, -p->high);
    t->n_weighted -= t->weight[p->place] != 1.0;
    t->n_preferred -= t->priority[p->place] != 0;
    if (p->held_by >= 0) --t->feeders[p->held_by].n_held;
    p->held_by = -1;
    move_seat(t, p->place, --t->begin[p->group + 1]);
    for (int64_t g = p->group + 1; g < t->n_groups; ++g) {
        int64_t last = --t->begin[g + 1];
        if (t->begin[g] <= last) move_seat(t, t->begin[g], last);
    }
    --t->n_active;
    p->place = -1;
}

/* It takes no part any more. */
static void retire(tree *t, int64_t i)
{
    plug *p = &t->plugs[i];
    if (p->place >= 0) {
        stand_up(t, i);
        t->stale = 1;
    }
    p->power = 0;
    draw(t, p, 0);
}

/* What groups may draw */

/* Usable capacity in quanta, as the kernel has it. */
static int64_t usable_of(const grid *by, double capacity, double buffer, double reserved)
{
    return (int64_t)lane(usable_quanta(by, all(capacity), all(buffer), all(reserved)), 0);
}

static void find_usable(tree *t, int64_t g)
{
    feeder *f = &t->feeders[g];
    double buffer = t->in->buffer[t->first_group + g];
    int64_t usable = usable_of(&t->by, f->capacity, buffer, f->reserved);
    if (usable == f->usable) return;
    f->usable = usable;
    t->usable[g] = (double)usable;
    t->stale = t->anew = 1;
    judge(t, g);
    note_group(t, g);
}

/* Note whether group g holds somebody down from now on. */
static void hold(tree *t, int64_t g, int holds)
{
    feeder *f = &t->feeders[g];
    if (f->holds == holds) return;
    if (f->holds) t->out->limiting[t->first_group + g] += t->now - f->held_since;
    f->holds = (uint8_t)holds;
    f->held_since = t->now;
}

#endif
