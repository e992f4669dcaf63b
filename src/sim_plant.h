/* SPDX-License-Identifier: Apache-2.0
 *
 * Before and after: the rows of a tree in the order of arrival, the memory that it takes, its groups
 * as they are at first; and what is to be told of their loads in the end.
 */
#ifndef SIM_PLANT_H
#define SIM_PLANT_H

#include "sim_share.h"

typedef struct {
    int64_t arrival, row;
} comer;

static int by_arrival(const void *one, const void *other)
{
    const comer *x = one, *y = other;
    if (x->arrival != y->arrival) return x->arrival < y->arrival ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

/* The rows of tree k in the order of arrival, and in that of the table where they come at once; to
 * be freed. */
static int64_t *rows_of(const sim_input *in, int64_t k, int64_t *n)
{
    int64_t start = in->of_tree[k], sorted = 1;
    *n = in->of_tree[k + 1] - start;
    int64_t *rows = malloc((size_t)(*n + 1) * sizeof *rows);
    if (!rows) return NULL;
    for (int64_t at = 0; at < *n; ++at) {
        rows[at] = in->rows ? in->rows[start + at] : start + at;
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
    if (t->report->keep_groups && n > 0) {
        t->failed = make_room(kept, n);
        if (!t->failed) memcpy(kept->steps + kept->n, sorted.steps, (size_t)n * sizeof(sim_step));
        if (!t->failed) kept->n += n;
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

#endif
