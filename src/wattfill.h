/* SPDX-License-Identifier: Apache-2.0
 *
 * The C interface of wattfill: share the usable capacity of groups among their connectors.
 *
 * Another extension module reaches the kernel by `cimport wattfill._kernel`, which has these
 * functions under names of its own; a program of your own compiles the sources.
 *
 * Everything is counted in whole numbers of a quantum, held in doubles; sums below 2**53 are
 * exact in every order, so the answer depends on the input alone. Nothing here allocates
 * or locks. The bounds of connectors are checked on the way; the caller has checked the rest
 * (see `wattfill_batch`).
 */
#ifndef WATTFILL_H
#define WATTFILL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Why a connector got what it got. */
enum {
    WATTFILL_IDLE = 0,    /* no session */
    WATTFILL_PAUSED = 1,  /* its minimum did not fit */
    WATTFILL_MINIMUM = 2, /* held at its minimum by `bound_by` */
    WATTFILL_SHARING = 3, /* at the level of `bound_by` */
    WATTFILL_MAXIMUM = 4  /* at its own maximum */
};

/* A batch of groups, CSR style: group g owns connectors offsets[g]..offsets[g + 1] - 1.
 *
 * The caller ensures: offsets start at 0, never fall and end
 * at n_connectors; 0 <= buffer <= 1; 0 <= capacity, reserved; weight within 1e-100..1e100; rank
 * not NaN; per_unit a whole number in 1..2**50; step a whole number of quanta; capacity *
 * per_unit below 2**53, or below 2**51 with weights. Optional arrays may be NULL. */
typedef struct wattfill_batch {
    /* IN */
    int64_t n_connectors, n_groups;
    const double *minimum, *maximum;             /* (n_connectors,) */
    const int64_t *offsets;                      /* (n_groups + 1,) */
    const double *capacity, *buffer, *reserved;  /* (n_groups,) */
    const int64_t *parent;                       /* (n_groups,) or NULL: no nesting */
    const double *weight;                        /* (n_connectors,) or NULL: all 1 */
    const int64_t *priority;                     /* (n_connectors,) or NULL: all 0; higher first */
    const double *rank;                          /* (n_connectors,) or NULL; lower first */
    const uint8_t *active;                       /* (n_connectors,) or NULL: all */
    const double *guess;                         /* (n_groups,) or NULL: where to look for the
                                                    levels first, any doubles */
    double per_unit;                             /* quanta in one unit of power */
    double step;                                 /* quanta in one step, 0 for none */
    int64_t checked;                             /* not 0 where nobody's bounds are malformed */
    /* OUT, in memory that is not read from */
    double *power;                               /* (n_connectors,) */
    uint8_t *reason;                             /* (n_connectors,), or NULL: not asked for */
    int64_t *bound_by;                           /* (n_connectors,) group, or -1; or NULL, both */
    double *level, *usable, *used, *needed;      /* (n_groups,) */
    /* Filled in by wattfill_plant when there are parents, read by wattfill_solve: groups in
     * post-order, so that the groups below one stand right before it. */
    int64_t *order;                              /* (n_groups,) group at a place */
    int64_t *first;                              /* (n_groups,) first place below a place */
    int64_t *up;                                 /* (n_groups,) place of the parent, or -1 */
    /* What the largest tree takes; filled in by wattfill_plant. */
    int64_t most_connectors, most_groups;
} wattfill_batch;

/* Lay the groups out in post-order and measure the largest tree. With parents, `order`, `first`
 * and `up` are written and `scratch` holds 2 * n_groups numbers. Returns -1, or a group whose
 * chain of parents never ends. */
int64_t wattfill_plant(wattfill_batch *batch, int64_t *scratch);

/* More connectors than a register has lanes: room that rows of scratch are written over by. */
#define WATTFILL_SLACK 8

/* How many bytes of scratch one call of wattfill_solve needs; aligned for doubles. */
size_t wattfill_scratch_size(const wattfill_batch *batch);

/* Solve the trees at places start..stop - 1 (without parents: the groups). Both ends stand
 * between trees. Disjoint ranges may run at once, each with its own scratch. Returns -1, or a
 * connector that breaks 0 <= minimum <= maximum < infinity: then what is written is of no use, but no
 * power is written to a tree of more than 1024 connectors that has such a one. */
int64_t wattfill_solve(const wattfill_batch *batch, int64_t start, int64_t stop, void *scratch);

/* The same in two parts, for what may not be written over before all bounds were looked at: find
 * the levels of groups start..stop - 1, and write `level`, `usable`, `used` and `needed`, but no
 * power; then, when all groups have theirs, take these four, one behind the other in `found`, and
 * write all. For batches without parents, weights, priorities, idle ones, steps and reasons, which
 * wattfill_parts_work knows. */
int wattfill_parts_work(const wattfill_batch *batch);
int64_t wattfill_levels(const wattfill_batch *batch, int64_t start, int64_t stop, void *scratch);
void wattfill_powers(const wattfill_batch *batch, const double *found, int64_t start, int64_t stop,
                     void *scratch);

/* First connector that breaks 0 <= minimum <= maximum < infinity, or -1. */
int64_t wattfill_first_malformed(int64_t n, const double *minimum, const double *maximum);

/* Whether n numbers are all within least..most; NaN and infinities are not. */
int wattfill_are_within(int64_t n, const double *x, double least, double most);

/* The instruction-set levels compiled in that this processor runs, best last; choosing one that
 * is not among them returns -1. Before one is chosen, a batch goes by the best, or where that is
 * slower on this processor, by the one before it. */
int wattfill_simd_levels(const char **names, int most);
int wattfill_simd_choose(const char *name);
const char *wattfill_simd_chosen(void);

#ifdef __cplusplus
}
#endif
#endif
