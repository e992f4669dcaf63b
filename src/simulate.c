/* SPDX-License-Identifier: Apache-2.0
 *
 * The loop over events; simulate.h says what it counts in.
 *
 * At an instant everything that happens is done in this order: vehicles leave, batteries are full
 * or take less from now on; capacities change; vehicles come, in the order of their rows; turns of
 * a rotation begin. Then the powers are made anew, once, if anything of it can change them.
 */
#include "simulate.h"

#include "sim_plant.h"

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

/* What the connector has come to: the vehicle leaves, is full, or takes less from now on; or in
 * this millisecond it draws the last that it wants. */
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

static void change(tree *t, int64_t k)
{
    feeder *f = &t->feeders[t->in->change_group[k] - t->first_group];
    double capacity = t->in->change_capacity[k], reserved = t->in->change_reserved[k];
    if (!isnan(capacity)) f->capacity = capacity;
    if (!isnan(reserved)) f->reserved = reserved;
    find_usable(t, f - t->feeders);
}

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

int64_t sim_usable(double capacity, double buffer, double reserved, double per_kw)
{
    const grid by = grid_of(per_kw, 0.0);
    return usable_of(&by, capacity, buffer, reserved);
}
