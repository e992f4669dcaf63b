/* SPDX-License-Identifier: Apache-2.0
 *
 * Which of many comes soonest: a tournament. Every entrant has a time, every match goes to the
 * sooner one, and a changed time is played again up to the first match that ends as before.
 */
#ifndef SIM_SOONEST_H
#define SIM_SOONEST_H

#include <stdint.h>

typedef struct {
    int64_t *at;  /* (2 * size,) the winner of all at 1, those who meet in k at 2k and 2k + 1 */
    int64_t size; /* a power of two */
} soonest;

/* How many entrants there is room for, of which n come. */
static inline int64_t room_for(int64_t n)
{
    int64_t size = 1;
    while (size < n) size *= 2;
    return size;
}

static inline void enter(soonest *of, int64_t who, int64_t at)
{
    int64_t k = of->size + who;
    of->at[k] = at;
    while ((k /= 2) > 0) {
        int64_t one = of->at[2 * k], other = of->at[2 * k + 1], first = one < other ? one : other;
        if (of->at[k] == first) return;
        of->at[k] = first;
    }
}

/* Somebody whose time is that of the winner. */
static inline int64_t winner(const soonest *of)
{
    int64_t k = 1;
    while (k < of->size) k = 2 * k + (of->at[2 * k] != of->at[1]);
    return k - of->size;
}

#endif
