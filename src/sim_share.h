/* SPDX-License-Identifier: Apache-2.0
 *
 * How power is shared out: who comes first, what each strategy gives, and what is noted of it.
 */
#ifndef SIM_SHARE_H
#define SIM_SHARE_H

#include "sim_tree.h"

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

/* What the kernel gives. A group holds somebody down if less fits in it than those below it want,
 * as far as the groups between let them, or a minimum does not fit in it. */
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

/* What is noted once all have their powers */

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

/* When the next turn begins that can change anything: while nobody is paused all were served, and
 * go to the end of the line in the order in which they stand. */
static int64_t next_of_turns(const tree *t)
{
    int64_t next = SIM_NEVER;
    if (t->n_paused == 0) return next;
    for (const line *l = t->lines; l < t->lines + t->n_lines; ++l)
        if (l->rotation > 0) next = least(next, next_turn(l, t->now));
    return next;
}

#endif
