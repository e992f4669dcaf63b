/* SPDX-License-Identifier: Apache-2.0
 *
 * Admission order: priority, highest first; then rank, lowest first; then position.
 */
#ifndef WATTFILL_ORDER_H
#define WATTFILL_ORDER_H

#include <stdint.h>
#include <string.h>

#include "wattfill.h"

static inline int goes_before(const wattfill_batch *b, const int64_t *origin, int64_t i, int64_t j)
{
    if (origin) {
        i = origin[i];
        j = origin[j];
    }
    if (b->priority && b->priority[i] != b->priority[j]) return b->priority[i] > b->priority[j];
    if (b->rank && b->rank[i] != b->rank[j]) return b->rank[i] < b->rank[j];
    return i < j;
}

/* Where the run that starts at `start` ends: as far as the line is in order already. */
static inline int64_t run_end(const wattfill_batch *b, const int64_t *origin, const int64_t *line,
                              int64_t start, int64_t n)
{
    int64_t end = start + 1;
    while (end < n && goes_before(b, origin, line[end - 1], line[end])) ++end;
    return end < n ? end : n;
}

/* Sort line[0..n - 1], places whose connectors are origin[place] (or the
 * places themselves), into admission order. Natural
 * merge sort: what is in order already costs one look. `spare` holds n numbers. */
static void put_in_line(const wattfill_batch *b, const int64_t *origin, int64_t *line, int64_t n,
                        int64_t *spare)
{
    /* Each round at least halves the number of runs. */
    while (n > 0 && run_end(b, origin, line, 0, n) < n) {
        for (int64_t start = 0; start < n;) {
            int64_t middle = run_end(b, origin, line, start, n);
            if (middle == n) break;
            int64_t end = run_end(b, origin, line, middle, n);
            memcpy(spare, line + start, (size_t)(middle - start) * sizeof *line);
            int64_t left = 0, n_left = middle - start, right = middle, to = start;
            while (left < n_left) {
                int right_first =
                    right < end && goes_before(b, origin, line[right], spare[left]);
                line[to++] = right_first ? line[right++] : spare[left++];
            }
            start = end;
        }
    }
}

#endif
