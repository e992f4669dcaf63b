/* SPDX-License-Identifier: Apache-2.0
 *
 * What is the same on every instruction-set level: the layout of a forest, and the choice of a
 * level.
 */
#include "wattfill.h"

#include <string.h>

#define LEVEL(name)                                                                             \
    int64_t wattfill_solve_##name(const wattfill_batch *, int64_t, int64_t, void *);               \
    int64_t wattfill_levels_##name(const wattfill_batch *, int64_t, int64_t, void *);              \
    void wattfill_powers_##name(const wattfill_batch *, int64_t, int64_t, void *);                 \
    int64_t wattfill_first_malformed_##name(int64_t, const double *, const double *);           \
    int wattfill_are_within_##name(int64_t, const double *, double, double);
#define ENTRY(name)                                                                             \
    {#name,                wattfill_solve_##name,           wattfill_levels_##name,                 \
     wattfill_powers_##name, wattfill_first_malformed_##name, wattfill_are_within_##name}

typedef struct {
    const char *name;
    int64_t (*solve)(const wattfill_batch *, int64_t, int64_t, void *);
    int64_t (*levels)(const wattfill_batch *, int64_t, int64_t, void *);
    void (*powers)(const wattfill_batch *, int64_t, int64_t, void *);
    int64_t (*first_malformed)(int64_t, const double *, const double *);
    int (*are_within)(int64_t, const double *, double, double);
} simd_level;

LEVEL(baseline)
#ifdef WATTFILL_X86_64
LEVEL(x86_64_v3)
LEVEL(x86_64_v4)
#endif

static const simd_level levels[] = {
    ENTRY(baseline),
#ifdef WATTFILL_X86_64
    ENTRY(x86_64_v3),
    ENTRY(x86_64_v4),
#endif
};

static const simd_level *chosen; /* by name; NULL for what suits */

/* How many of `levels` this processor runs. */
static int n_levels(void)
{
#ifdef WATTFILL_X86_64
    __builtin_cpu_init();
    if (!(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") &&
          __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("fma")))
        return 1;
    if (!(__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
          __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
          __builtin_cpu_supports("avx512vl")))
        return 2;
    return 3;
#else
    return 1;
#endif
}

int wattfill_simd_levels(const char **names, int most)
{
    int n = n_levels();
    for (int i = 0; i < n && i < most; ++i) names[i] = levels[i].name;
    return n;
}

int wattfill_simd_choose(const char *name)
{
    for (int i = 0; i < n_levels(); ++i) {
        if (strcmp(levels[i].name, name) != 0) continue;
        chosen = &levels[i];
        return 0;
    }
    return -1;
}

static const simd_level *best(void) { return &levels[n_levels() - 1]; }

/* Whether the best level has registers of eight lanes that this processor works on in halves: Zen 4
 * does, the one of its family that has them. */
static int best_is_halved(void)
{
#if defined(WATTFILL_X86_64) && defined(__GNUC__)
    return n_levels() == 3 && __builtin_cpu_is("amdfam19h");
#else
    return 0;
#endif
}

/* The level that is quickest for a batch, whose answer is the same on all. In halves eight lanes
 * calculate no quicker than four, take longer to add up, and leave more of a row's last register
 * empty: with them equal groups of 50 took a seventh longer, weights and priorities an eighth. Tiny
 * groups, which have a lane each, took up to a quarter less, and mixed sizes hardly differed. */
static const simd_level *level_for(const wattfill_batch *b)
{
    enum { TINY = 40, SMALL = 256 }; /* connectors of a group, at most */
    if (chosen) return chosen;
    int unlike = b->weight || b->priority || b->step > 0.0;
    int fly = b->n_connectors > TINY * b->n_groups && b->most_connectors <= SMALL;
    return best_is_halved() && (unlike || fly) ? best() - 1 : best();
}

const char *wattfill_simd_chosen(void) { return (chosen ? chosen : best())->name; }

int64_t wattfill_solve(const wattfill_batch *batch, int64_t start, int64_t stop, void *scratch)
{
    return level_for(batch)->solve(batch, start, stop, scratch);
}

int wattfill_parts_work(const wattfill_batch *b)
{
    return !b->order && !b->weight && !b->priority && !b->active && !b->reason && b->step == 0.0;
}

int64_t wattfill_levels(const wattfill_batch *batch, int64_t start, int64_t stop, void *scratch)
{
    return level_for(batch)->levels(batch, start, stop, scratch);
}

void wattfill_powers(const wattfill_batch *batch, const double *found, int64_t start, int64_t stop,
                     void *scratch)
{
    double *rows[] = {batch->level, batch->usable, batch->used, batch->needed};
    for (int k = 0; k < 4; ++k)
        memcpy(rows[k] + start, found + k * batch->n_groups + start,
               (size_t)(stop - start) * sizeof *found);
    level_for(batch)->powers(batch, start, stop, scratch);
}

int64_t wattfill_first_malformed(int64_t n, const double *minimum, const double *maximum)
{
    return (chosen ? chosen : best())->first_malformed(n, minimum, maximum);
}

int wattfill_are_within(int64_t n, const double *x, double least, double most)
{
    return (chosen ? chosen : best())->are_within(n, x, least, most);
}

size_t wattfill_scratch_size(const wattfill_batch *b)
{
    /* Memory that nobody writes to still costs: the C library gives large pieces back at once, and
     * then every page of them is mapped anew. */
    int in_line = b->priority || b->step > 0.0;
    size_t per_connector = 2 + 4, per_group = 2 + 1;
    if (b->weight) ++per_connector;
    if (b->reason || in_line) ++per_connector;
    if (in_line) per_connector += b->weight ? 3 : 2;
    return 8 * (per_connector * (size_t)(b->most_connectors + WATTFILL_SLACK) +
                per_group * (size_t)b->most_groups + 1);
}

static int64_t n_owned(const wattfill_batch *b, int64_t g)
{
    return b->offsets[g + 1] - b->offsets[g];
}

static void measure(wattfill_batch *b, int64_t connectors, int64_t groups)
{
    if (connectors > b->most_connectors) b->most_connectors = connectors;
    if (groups > b->most_groups) b->most_groups = groups;
}

int64_t wattfill_plant(wattfill_batch *b, int64_t *scratch)
{
    int64_t n = b->n_groups;
    b->most_connectors = b->most_groups = 0;
    if (!b->parent) {
        for (int64_t g = 0; g < n; ++g) measure(b, n_owned(b, g), 1);
        return -1;
    }
    /* Children hang on their parent as a list, first child first; every group is stepped into
     * once and left once, so the walk needs no stack but the parents themselves. */
    int64_t *child = scratch, *sibling = scratch + n, place = 0;
    for (int64_t g = 0; g < n; ++g) child[g] = -1;
    for (int64_t g = n - 1; g >= 0; --g) {
        int64_t parent = b->parent[g];
        if (parent < 0) continue;
        sibling[g] = child[parent];
        child[parent] = g;
    }
    for (int64_t root = 0; root < n; ++root) {
        if (b->parent[root] >= 0) continue;
        int64_t first_of_tree = place, g = root;
        int64_t connectors = 0;
        /* `first` of a group on the way down waits where nothing stands yet: at its own index in
         * `up`, which is overwritten with places at the end. */
        b->up[g] = place;
        for (;;) {
            if (child[g] >= 0) {
                int64_t next = child[g];
                child[g] = sibling[next];
                g = next;
                b->up[g] = place;
                continue;
            }
            b->order[place] = g;
            b->first[place] = b->up[g];
            child[g] = -2 - place; /* done, and where */
            connectors += n_owned(b, g);
            ++place;
            if (g == root) break;
            g = b->parent[g];
        }
        measure(b, connectors, place - first_of_tree);
    }
    if (place < n)
        for (int64_t g = 0; g < n; ++g)
            if (child[g] > -2) return g;
    for (int64_t k = 0; k < n; ++k) {
        int64_t parent = b->parent[b->order[k]];
        b->up[k] = parent < 0 ? -1 : -2 - child[parent];
    }
    return -1;
}
