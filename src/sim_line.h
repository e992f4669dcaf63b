/* SPDX-License-Identifier: Apache-2.0
 *
 * Who stands where in a line, and who of it was served during a turn, as `wattfill._trees.Line`
 * has it.
 */
#ifndef SIM_LINE_H
#define SIM_LINE_H

#include <stdint.h>
#include <string.h>

typedef struct {
    int64_t group, after; /* of the groups of the tree: those from here on, before that one */
    int64_t rotation;     /* ms in a turn, or 0: no turns */
    int64_t n;
    int64_t *order;       /* (n,) connectors, the front of the line first; room for all */
    int64_t *spare;       /* room for all */
    uint8_t *served;      /* by connector: was admitted during this turn */
} line;

static inline void join(line *l, int64_t who)
{
    l->order[l->n++] = who;
    l->served[who] = 0;
}

static inline void quit(line *l, int64_t who)
{
    int64_t at = 0;
    while (l->order[at] != who) ++at;
    --l->n;
    memmove(l->order + at, l->order + at + 1, (size_t)(l->n - at) * sizeof *l->order);
}

/* Whether a turn of the line begins now: at a whole multiple of its length, before 1970 too. */
static inline int begins_turn(const line *l, int64_t now)
{
    return l->rotation > 0 && now % l->rotation == 0;
}

static inline int64_t next_turn(const line *l, int64_t now)
{
    int64_t since = now % l->rotation;
    if (since < 0) since += l->rotation;
    return now - since + l->rotation;
}

/* Send those who were served to the end of the line. Returns whether that changed it. */
static inline int turn_over(line *l)
{
    int64_t front = 0, back = 0;
    int changed = 0;
    for (int64_t at = 0; at < l->n; ++at) {
        int64_t who = l->order[at];
        if (l->served[who]) {
            l->spare[back++] = who;
            l->served[who] = 0;
        } else {
            changed |= back > 0;
            l->order[front++] = who;
        }
    }
    memcpy(l->order + front, l->spare, (size_t)back * sizeof *l->order);
    return changed;
}

#endif
