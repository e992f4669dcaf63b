/* SPDX-License-Identifier: Apache-2.0
 *
 * The loop over events; simulate.h says what it counts in.
 *
 * At an instant everything that happens is done in this order: vehicles leave, batteries are full or
 * take less from now on; capacities change; vehicles come, in the order of their rows; turns of a
 * rotation begin. Then the powers are made anew, once, if anything of it can change them.
 */
#include "simulate.h"

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

/* Events */

static void depart(tree *t, int64_t i)
{
    plug *p = &t->plugs[i];
    const sim_output *out = t->out;
    if (p->left == 0 && p->goal > 0) out->full_at[p->row] = least(out->full_at[p->row], t->now);
    retire(t, i);
    out->delivered[p->row] = p->goal - p->left;
    out->paused[p->row] = p->paused;
    for (int64_t g = p->group; g >= 0; g = t->feeders[g].parent)
        add_energy(&out->energy[t->first_group + g], p->goal - p->left);
    p->row = -1;
    t->taken[i / 64] &= ~((uint64_t)1 << i % 64);
    enter(&t->next, i, SIM_NEVER);
}

/* What the connector has come to: the vehicle leaves, is full, or takes less from now on; or in this
 * millisecond it draws the last that it wants. */
static void proceed(tree *t, int64_t i)
{
    plug *p = &t->plugs[i];
    settle(t, p);
    if (t->now == p->departure) {
        depart(t, i);
        return;
    }
    if (p->left == 0) {
        t->out->full_at[p->row] = t->now;
        retire(t, i);
        enter(&t->next, i, p->departure);
        return;
    }
    if (p->mark >= 0 && p->left <= p->mark) {
        find_piece(t, p);
        find_bounds(t, i);
        touch(t, i);
    }
    restart(t, i);
}

/* First connector of first..last - 1 that is free, or -1. */
static int64_t free_plug(const tree *t, int64_t first, int64_t last)
{
    for (int64_t i = first; i < last; i = (i / 64 + 1) * 64) {
        uint64_t open = ~t->taken[i / 64] >> i % 64;
        if (open == 0) continue;
        while (!(open & 1)) {
            open >>= 1;
            ++i;
        }
        return i < last ? i : -1;
    }
    return -1;
}

static void arrive(tree *t, int64_t row)
{
    const sim_input *in = t->in;
    const sim_output *out = t->out;
    int64_t first, last, group;
    if (in->connector && in->connector[row] >= 0) {
        first = in->first[in->connector[row]];
        last = in->last[in->connector[row]];
        group = t->plugs[first - t->first_plug].group;
    } else {
        int64_t g = in->group_at[in->group[row]];
        first = in->offsets[g];
        last = in->offsets[g + 1];
        group = g - t->first_group;
    }
    int64_t i = free_plug(t, first - t->first_plug, last - t->first_plug);
    int64_t energy = energy_of(in->energy[row]);
    out->delivered[row] = out->paused[row] = 0;
    out->full_at[row] = i >= 0 && energy == 0 ? t->now : SIM_NEVER;
    out->connector[row] = i < 0 ? -1 : (int32_t)(t->first_plug + i);
    for (int64_t g = group; g >= 0; g = t->feeders[g].parent) {
        int64_t at = t->first_group + g;
        ++out->n_sessions[at];
        out->n_turned_away[at] += i < 0;
        add_energy(i < 0 ? &out->refused[at] : &out->wanted[at], energy);
    }
    int64_t number = t->n_arrived++;
    /* Who leaves in the millisecond in which it comes takes a free connector from nobody. */
    if (i < 0 || in->departure[row] == t->now) return;

    plug *p = &t->plugs[i];
    *p = (plug){.row = row, .number = number, .group = p->group, .departure = in->departure[row],
                .goal = energy, .since = t->now, .place = -1, .mark = -1, .held_by = -1};
    t->taken[i / 64] |= (uint64_t)1 << i % 64;
    enter(&t->next, i, p->departure);
    if (in->battery && !isnan(in->battery[row]))
        p->goal = least(energy, energy_of((1.0 - in->soc[row]) * in->battery[row]));
    p->left = p->goal;
    if (p->goal == 0) {
        out->full_at[row] = t->now;
        return;
    }
    double rating = in->rating[t->first_plug + i];
    double maximum = in->maximum ? in->maximum[row] : INFINITY;
    p->low_kw = at_least(in->least[t->first_plug + i], in->minimum ? in->minimum[row] : 0.0);
    p->taken_kw = maximum < INFINITY ? maximum : rating;
    /* It can never have what it needs here. */
    if (p->low_kw > rating) return;
    find_piece(t, p);
    find_bounds(t, i);
    sit_down(t, i, in->weight ? in->weight[row] : 1.0, in->priority ? in->priority[row] : 0);
    touch(t, i);
}

int64_t sim_usable(double capacity, double buffer, double reserved, double per_kw)
{
    grid by = grid_of(per_kw, 0.0);
    return (int64_t)lane(usable_quanta(&by, all(capacity), all(buffer), all(reserved)), 0);
}

static void find_usable(tree *t, int64_t g)
{
    feeder *f = &t->feeders[g];
    double buffer = t->in->buffer[t->first_group + g];
    int64_t usable = sim_usable(f->capacity, buffer, f->reserved, t->in->per_kw);
    if (usable == f->usable) return;
    f->usable = usable;
    t->usable[g] = (double)usable;
    t->stale = t->anew = 1;
    judge(t, g);
    note_group(t, g);
}

static void change(tree *t, int64_t k)
{
    feeder *f = &t->feeders[t->in->change_group[k] - t->first_group];
    double capacity = t->in->change_capacity[k], reserved = t->in->change_reserved[k];
    if (!isnan(capacity)) f->capacity = capacity;
    if (!isnan(reserved)) f->reserved = reserved;
    find_usable(t, f - t->feeders);
}

/* Who comes first, as `wattfill._trees.Tree` has it: the root's policy orders all, and every group
 * that has another one its own anew, among the places that they hold. */

static int by_minimum(const void *one, const void *other)
{
    const struct rank_key *x = one, *y = other;
    if (x->minimum != y->minimum) return x->minimum < y->minimum ? -1 : 1;
    return x->number < y->number ? -1 : x->number > y->number;
}

/* Put those whom group g orders, n of them, into its order. */
static void order_by(tree *t, int64_t g, int64_t *members, int64_t n)
{
    uint8_t policy = t->in->policy[t->first_group + g];
    if (policy == SIM_ROTATE) {
        line *l = t->lines;
        while (l->group != g) ++l;
        assert(l->n == n);
        memcpy(members, l->order, (size_t)n * sizeof *members);
        return;
    }
    for (int64_t k = 0; k < n; ++k) {
        const plug *p = &t->plugs[members[k]];
        double minimum = policy == SIM_MOST ? p->low_kw : 0.0;
        t->keys[k] = (struct rank_key){minimum, p->number, members[k]};
    }
    qsort(t->keys, (size_t)n, sizeof *t->keys, by_minimum);
    for (int64_t k = 0; k < n; ++k) members[k] = t->keys[k].who;
}

static void line_up(tree *t)
{
    memcpy(t->seats, t->who, (size_t)t->n_active * sizeof *t->seats);
    order_by(t, 0, t->seats, t->n_active);
    for (int64_t k = 1; k < t->n_ordering; ++k) {
        int64_t g = t->ordering[k], after = t->feeders[g].after, n = 0;
        for (int64_t at = 0; at < t->n_active; ++at) {
            int64_t group = t->plugs[t->seats[at]].group;
            if (g <= group && group < after) t->members[n++] = t->seats[at];
        }
        order_by(t, g, t->members, n);
        n = 0;
        for (int64_t at = 0; at < t->n_active; ++at) {
            int64_t group = t->plugs[t->seats[at]].group;
            if (g <= group && group < after) t->seats[at] = t->members[n++];
        }
    }
    for (int64_t at = 0; at < t->n_active; ++at)
        t->rank[t->plugs[t->seats[at]].place] = (double)at;
}

/* Strategies */

static void hold(tree *t, int64_t g, int holds)
{
    feeder *f = &t->feeders[g];
    if (f->holds == holds) return;
    if (f->holds) t->out->limiting[t->first_group + g] += t->now - f->held_since;
    f->holds = (uint8_t)holds;
    f->held_since = t->now;
}

/* What the kernel gives. A group holds somebody down if less fits in it than those below it want, as
 * far as the groups between let them, or a minimum does not fit in it. */
static void fill(tree *t)
{
    wattfill_batch *b = &t->batch;
    double *level = t->level;
    t->level = t->guess;
    t->guess = level;
    b->n_connectors = t->n_active;
    b->weight = t->n_weighted ? t->weight : NULL;
    b->priority = t->n_preferred ? t->priority : NULL;
    b->reason = t->n_brief ? t->reason : NULL;
    b->bound_by = t->n_brief ? t->bound_by : NULL;
    b->guess = t->guess;
    b->level = t->level;
    if (t->n_brief && (t->n_ordering > 1 || t->in->policy[t->first_group] != SIM_FIFO)) line_up(t);
    t->in->kernel.solve(b, 0, t->n_groups, t->scratch);
    ++t->report->n_solved;
    t->n_paused = 0;
    for (int64_t g = 0; g < t->n_groups; ++g) t->feeders[g].n_held = t->level[g] < INFINITY;
    for (int64_t at = 0; at < t->n_active; ++at) {
        if (t->n_brief && t->reason[at] == WATTFILL_PAUSED) {
            ++t->n_paused;
            ++t->feeders[t->bound_by[at]].n_held;
        }
        give(t, t->who[at], (int64_t)t->power[at]);
    }
    for (int64_t g = 0; g < t->n_groups; ++g) hold(t, g, t->feeders[g].n_held > 0);
}

/* In the order of arrival each takes as much as it can. */
static void serve(tree *t)
{
    const line *l = t->lines;
    ++t->report->n_solved;
    for (int64_t g = 0; g < t->n_groups; ++g) {
        t->feeders[g].n_held = 0;
        t->feeders[g].share = t->feeders[g].usable; /* what is left of it */
    }
    for (int64_t at = 0; at < l->n; ++at) {
        const plug *p = &t->plugs[l->order[at]];
        int64_t power = p->high, by = -1;
        for (int64_t g = p->group; g >= 0; g = t->feeders[g].parent) {
            if (t->feeders[g].share >= power) continue;
            power = t->feeders[g].share;
            by = g;
        }
        if (by >= 0) ++t->feeders[by].n_held;
        if (power < p->low) power = 0;
        for (int64_t g = p->group; g >= 0; g = t->feeders[g].parent) t->feeders[g].share -= power;
        give(t, l->order[at], power);
    }
    for (int64_t g = 0; g < t->n_groups; ++g) hold(t, g, t->feeders[g].n_held > 0);
}

/* The least of the equal shares of a group and of all above it. */
static void find_shares(tree *t)
{
    for (int64_t g = 0; g < t->n_groups; ++g) {
        feeder *f = &t->feeders[g];
        f->share = f->n_plugs > 0 ? f->usable / f->n_plugs : INT64_MAX;
        f->share_of = g;
        if (f->parent < 0 || t->feeders[f->parent].share > f->share) continue;
        f->share = t->feeders[f->parent].share;
        f->share_of = t->feeders[f->parent].share_of;
    }
}

static void give_share(tree *t, int64_t i)
{
    plug *p = &t->plugs[i];
    const feeder *f = &t->feeders[p->group];
    int64_t power = least(p->high, f->share), by = power < p->high ? f->share_of : -1;
    if (p->held_by >= 0) --t->feeders[p->held_by].n_held;
    if (by >= 0) ++t->feeders[by].n_held;
    p->held_by = by;
    give(t, i, power < p->low ? 0 : power);
}

/* All of them, or where nothing can have changed for the others, those whose bounds are new. */
static void give_all(tree *t, int everybody, void (*to)(tree *, int64_t))
{
    const int64_t *who = everybody ? t->who : t->touched;
    int64_t n = everybody ? t->n_active : t->n_touched;
    for (int64_t k = 0; k < n; ++k)
        if (t->plugs[who[k]].place >= 0) to(t, who[k]);
}

static void give_maximum(tree *t, int64_t i) { give(t, i, t->plugs[i].high); }

static void share_out(tree *t)
{
    if (t->in->strategy == SIM_EQUAL) {
        if (t->anew) find_shares(t);
        give_all(t, t->anew, give_share);
        for (int64_t g = 0; g < t->n_groups; ++g) hold(t, g, t->feeders[g].n_held > 0);
    } else if (t->in->strategy == SIM_UNCONTROLLED) {
        give_all(t, 0, give_maximum);
    } else if (t->n_over > 0) {
        if (t->in->strategy == SIM_WATTFILL) fill(t);
        else serve(t);
        t->was_over = 1;
    } else {
        /* Everybody has the maximum, and had it before if nobody was held down. */
        give_all(t, t->was_over, give_maximum);
        for (int64_t g = 0; t->was_over && g < t->n_groups; ++g) hold(t, g, 0);
        t->was_over = 0;
        t->n_paused = 0;
    }
}

static void note_served(tree *t)
{
    for (line *l = t->lines; l < t->lines + t->n_lines; ++l)
        for (int64_t at = 0; at < l->n; ++at) {
            const plug *p = &t->plugs[l->order[at]];
            l->served[l->order[at]] |= p->power > 0 || p->low == 0;
        }
}

static void note_loads(tree *t)
{
    for (int64_t k = 0; k < t->n_changed; ++k) {
        int64_t g = t->changed[k], at = t->first_group + g;
        feeder *f = &t->feeders[g];
        f->changed = 0;
        int64_t excess = most(f->load - f->usable, 0);
        assert(excess == 0 || t->in->strategy == SIM_UNCONTROLLED);
        if (f->excess > 0) t->out->over[at] += t->now - f->over_since;
        f->over_since = t->now;
        f->excess = excess;
        t->out->over_peak[at] = most(t->out->over_peak[at], excess);
        if (t->in->strategy == SIM_UNCONTROLLED) hold(t, g, excess > 0);
        if (f->load == f->kept) continue;
        f->kept = f->load;
        t->out->peak[at] = most(t->out->peak[at], f->load);
        note_step(t, &t->steps, g, f->load);
    }
    t->n_changed = 0;
}

/* When the next turn begins that can change anything: while nobody is paused all were served, and go
 * to the end of the line in the order in which they stand. */
static int64_t next_of_turns(const tree *t)
{
    int64_t next = SIM_NEVER;
    if (t->n_paused == 0) return next;
    for (const line *l = t->lines; l < t->lines + t->n_lines; ++l)
        if (l->rotation > 0) next = least(next, next_turn(l, t->now));
    return next;
}

static int64_t row_at(const sim_input *in, int64_t k) { return in->rows ? in->rows[k] : k; }

/* `rows` are those of the tree, in the order of arrival. */
static void live_through(tree *t, int64_t k, const int64_t *rows, int64_t n)
{
    const sim_input *in = t->in;
    int64_t change_to = in->changes ? in->changes[k + 1] : 0, at = 0;
    int64_t change_at = in->changes ? in->changes[k] : 0, turn = SIM_NEVER;
    while ((at < n || t->next.at[1] < SIM_NEVER) && !t->failed) {
        int64_t arrival = at < n ? in->arrival[rows[at]] : SIM_NEVER;
        int64_t changes = change_at < change_to ? in->change_at[change_at] : SIM_NEVER;
        t->now = least(least(t->next.at[1], turn), least(arrival, changes));
        t->n_touched = t->stale = t->anew = 0;
        for (; t->next.at[1] == t->now; ++t->report->n_events) proceed(t, winner(&t->next));
        for (; changes == t->now; ++t->report->n_events) {
            change(t, change_at++);
            changes = change_at < change_to ? in->change_at[change_at] : SIM_NEVER;
        }
        for (; arrival == t->now; ++t->report->n_events) {
            arrive(t, rows[at++]);
            arrival = at < n ? in->arrival[rows[at]] : SIM_NEVER;
        }
        int turned = 0;
        for (line *l = t->lines; l < t->lines + t->n_lines; ++l) {
            if (!begins_turn(l, t->now)) continue;
            turned = 1;
            if (turn_over(l) && t->n_brief) t->stale = 1;
        }
        t->report->n_events += turn == t->now;
        if (t->stale) share_out(t);
        if (t->stale || turned) note_served(t);
        turn = next_of_turns(t);
        note_loads(t);
    }
}

/* Before and after */

typedef struct {
    int64_t arrival, row;
} comer;

static int by_arrival(const void *one, const void *other)
{
    const comer *x = one, *y = other;
    if (x->arrival != y->arrival) return x->arrival < y->arrival ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

/* The rows of tree k in the order of arrival, and in that of the table where they come at once; to be
 * freed. */
static int64_t *rows_of(const sim_input *in, int64_t k, int64_t *n)
{
    int64_t start = in->of_tree[k], sorted = 1;
    *n = in->of_tree[k + 1] - start;
    int64_t *rows = malloc((size_t)(*n + 1) * sizeof *rows);
    if (!rows) return NULL;
    for (int64_t at = 0; at < *n; ++at) {
        rows[at] = row_at(in, start + at);
        sorted &= at == 0 || in->arrival[rows[at - 1]] <= in->arrival[rows[at]];
    }
    if (sorted) return rows;
    comer *comers = malloc((size_t)*n * sizeof *comers);
    if (!comers) {
        free(rows);
        return NULL;
    }
    for (int64_t at = 0; at < *n; ++at) comers[at] = (comer){in->arrival[rows[at]], rows[at]};
    qsort(comers, (size_t)*n, sizeof *comers, by_arrival);
    for (int64_t at = 0; at < *n; ++at) rows[at] = comers[at].row;
    free(comers);
    return rows;
}

/* All that a tree needs lies in one block; it is measured by laying it out at address 0. */
static size_t lay_out(tree *t, char *at, int64_t n_lines)
{
    size_t size = 0, n = (size_t)t->n_plugs, m = (size_t)t->n_groups, room;
#define TAKE(name, count)                                                                          \
    do {                                                                                           \
        if (at) t->name = (void *)(at + size);                                                     \
        size += ((size_t)(count) * sizeof *t->name + 15) / 16 * 16;                                \
    } while (0)
    room = n + WATTFILL_SLACK;
    TAKE(plugs, n);
    TAKE(feeders, m);
    TAKE(next.at, 2 * room_for((int64_t)n));
    TAKE(taken, n / 64 + 1);
    TAKE(begin, m + 1);
    TAKE(who, n);
    TAKE(low, room);
    TAKE(high, room);
    TAKE(weight, room);
    TAKE(rank, room);
    TAKE(priority, room);
    TAKE(power, room);
    TAKE(bound_by, room);
    TAKE(reason, room);
    TAKE(usable, m);
    TAKE(level, m);
    TAKE(guess, m);
    TAKE(batch.parent, m);
    TAKE(batch.order, m);
    TAKE(batch.first, m);
    TAKE(batch.up, m);
    TAKE(batch.buffer, m); /* all 0 */
    TAKE(batch.usable, m); /* these four are not read */
    TAKE(batch.used, m);
    TAKE(batch.needed, m);
    TAKE(touched, 2 * n);  /* a connector may be freed and taken again at one instant */
    TAKE(changed, m);
    TAKE(ordering, m);
    TAKE(seats, n);
    TAKE(members, n);
    TAKE(keys, n);
    TAKE(lines, n_lines);
#undef TAKE
    for (int64_t k = 0; k < n_lines; ++k) {
        if (at) {
            t->lines[k].order = (int64_t *)(at + size);
            t->lines[k].spare = t->lines[k].order + n;
            t->lines[k].served = (uint8_t *)(t->lines[k].spare + n);
        }
        size += (17 * n + 15) / 16 * 16;
    }
    return size;
}

/* Whether group g of the tree orders its sessions in another way than its parent. */
static int orders_anew(const sim_input *in, int64_t g)
{
    int64_t parent = in->parent[g];
    if (parent < 0 || in->policy[g] != in->policy[parent]) return 1;
    return in->policy[g] == SIM_ROTATE && in->rotation[g] != in->rotation[parent];
}

static int plant(tree *t)
{
    const sim_input *in = t->in;
    wattfill_batch *b = &t->batch;
    t->next.size = room_for(t->n_plugs);
    for (int64_t k = 0; k < 2 * t->next.size; ++k) t->next.at[k] = SIM_NEVER;
    int64_t *parent = (int64_t *)b->parent, *offsets = t->begin;
    for (int64_t g = 0; g < t->n_groups; ++g) {
        int64_t at = t->first_group + g;
        feeder *f = &t->feeders[g];
        f->parent = parent[g] = in->parent[at] < 0 ? -1 : in->parent[at] - t->first_group;
        f->after = g + 1;
        f->capacity = in->capacity[at];
        f->reserved = in->reserved[at];
        f->usable = -1;
        f->over_since = f->held_since = in->start;
        offsets[g + 1] = in->offsets[at + 1] - t->first_plug;
        f->n_plugs = offsets[g + 1] - offsets[g];
        for (int64_t i = offsets[g]; i < offsets[g + 1]; ++i)
            t->plugs[i] = (plug){.row = -1, .group = g, .place = -1, .held_by = -1};
    }
    for (int64_t g = t->n_groups - 1; g > 0; --g) {
        feeder *above = &t->feeders[parent[g]];
        above->n_plugs += t->feeders[g].n_plugs;
        above->after = most(above->after, t->feeders[g].after);
    }
    line *l = t->lines;
    for (int64_t g = 0; g < t->n_groups; ++g) {
        if (!orders_anew(in, t->first_group + g)) continue;
        t->ordering[t->n_ordering++] = g;
        l->group = g;
        l->after = t->feeders[g].after;
        if (in->strategy == SIM_FIRST_COME && g == 0) ++l;
        if (in->strategy != SIM_WATTFILL || in->policy[t->first_group + g] != SIM_ROTATE) continue;
        l++->rotation = in->rotation[t->first_group + g];
    }
    t->n_lines = l - t->lines;

    b->n_connectors = t->n_plugs;
    b->n_groups = t->n_groups;
    b->minimum = t->low;
    b->maximum = t->high;
    b->offsets = t->begin;
    b->capacity = t->usable;
    b->reserved = b->buffer;
    b->weight = t->weight;
    b->priority = t->priority;
    b->rank = t->rank;
    b->per_unit = 1.0;
    b->checked = 1;
    b->power = t->power;
    b->reason = t->reason;
    b->bound_by = t->bound_by;
    if (t->n_groups == 1) {
        b->parent = NULL;
        b->order = b->first = b->up = NULL;
    }
    int64_t *room = malloc(2 * (size_t)t->n_groups * sizeof *room);
    if (!room) return -1;
    in->kernel.plant(b, room);
    free(room);
    t->scratch = malloc(in->kernel.scratch_size(b));
    memset(t->begin, 0, (size_t)(t->n_groups + 1) * sizeof *t->begin);
    for (int64_t g = 0; g < t->n_groups; ++g) {
        t->level[g] = t->guess[g] = INFINITY;
        find_usable(t, g);
    }
    find_shares(t);
    t->n_changed = 0;
    for (int64_t g = 0; g < t->n_groups; ++g) t->feeders[g].changed = 0;
    return t->scratch ? 0 : -1;
}

/* Steps of the tree's groups, group after group, and what follows from them. */
static int reap(tree *t)
{
    const sim_input *in = t->in;
    sim_steps sorted = {0};
    int64_t *end = t->begin, n = t->steps.n;
    memset(end, 0, (size_t)(t->n_groups + 1) * sizeof *end);
    if (make_room(&sorted, n + 1)) return -1;
    for (int64_t k = 0; k < n; ++k) ++end[t->steps.steps[k].who + 1];
    for (int64_t g = 0; g < t->n_groups; ++g) end[g + 1] += end[g];
    for (int64_t k = 0; k < n; ++k) {
        sim_step step = t->steps.steps[k];
        int64_t g = step.who;
        step.who += t->first_group;
        sorted.steps[end[g]++] = step;
    }
    sim_steps *kept = &t->report->groups;
    if (t->report->keep_groups && !make_room(kept, n)) {
        memcpy(kept->steps + kept->n, sorted.steps, (size_t)n * sizeof *sorted.steps);
        kept->n += n;
    } else if (t->report->keep_groups) {
        t->failed = 1;
    }
    /* From behind, as the percentile takes one step more. */
    for (int64_t g = t->n_groups - 1; g >= 0; --g) {
        int64_t begin = g > 0 ? end[g - 1] : 0;
        t->out->p95[t->first_group + g] =
            percentile_95(sorted.steps + begin, end[g] - begin, in->start, in->stop);
    }
    free(sorted.steps);
    return t->failed ? -1 : 0;
}

static int run_tree(tree *t, int64_t k)
{
    const sim_input *in = t->in;
    int64_t n_lines = 0, n;
    t->by = grid_of(in->per_kw, 0.0);
    t->first_group = in->trees[k];
    t->n_groups = in->trees[k + 1] - t->first_group;
    t->first_plug = in->offsets[t->first_group];
    t->n_plugs = in->offsets[in->trees[k + 1]] - t->first_plug;
    t->n_arrived = t->n_active = t->n_weighted = t->n_preferred = t->n_over = t->n_brief = 0;
    t->n_paused = t->n_touched = t->n_changed = t->n_lines = t->n_ordering = 0;
    t->was_over = t->failed = 0;
    t->steps.n = 0;
    for (int64_t g = in->trees[k]; g < in->trees[k + 1]; ++g) n_lines += orders_anew(in, g);
    char *block = calloc(1, lay_out(t, NULL, n_lines));
    int64_t *rows = rows_of(in, k, &n);
    t->scratch = NULL;
    int failed = !block || !rows;
    if (!failed) {
        lay_out(t, block, n_lines);
        failed = plant(t);
    }
    if (!failed) {
        live_through(t, k, rows, n);
        failed = t->failed || reap(t);
    }
    free(t->scratch);
    free(rows);
    free(block);
    return failed ? -1 : 0;
}

int sim_run(const sim_input *in, const sim_output *out, int64_t start, int64_t stop,
            sim_report *report)
{
    tree t = {.in = in, .out = out, .report = report};
    int failed = 0;
    for (int64_t k = start; k < stop && !failed; ++k) failed = run_tree(&t, k);
    free(t.steps.steps);
    return failed;
}

void sim_free(sim_report *report)
{
    free(report->groups.steps);
    free(report->sessions.steps);
    report->groups = report->sessions = (sim_steps){0};
}
