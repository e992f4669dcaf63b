/* SPDX-License-Identifier: Apache-2.0
 *
 * Small fixed workloads, one for each size class and feature, for counting instructions:
 *
 *     workloads                   prints the names
 *     workloads NAME [LEVEL]      solves one, on an instruction-set level or on each that there is;
 *                                 prints how many connectors it has and a hash of the answer, the
 *                                 same on every level and machine
 *
 * Values are those of the benchmarks: ratings that are sold, minimums that standards ask for, one
 * group in five that is not short of anything and one in ten that has hardly more than the minimums;
 * groups of ratings with ties everywhere take turns with groups that have none.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wattfill.h"

enum {
    REASONS = 1,
    WEIGHTS = 2,
    TREE = 4,
    TIERS = 8,
    STEPS = 16,
    IDLE = 32,
    SHORT = 64,   /* minimums do not fit */
    ONE_CALL = 128, /* for each group */
    WARM = 256,
    IN_PARTS = 512, /* levels first, then powers */
    SKEWED = 1024   /* sizes by a power law: most are small, and their neighbours are not alike */
};

typedef struct {
    const char *name;
    int n_groups, least, most; /* connectors of a group */
    int features;
} workload;

static const workload WORKLOADS[] = {
    {"groups of 8", 4000, 8, 8, 0},
    {"groups of 20", 1000, 20, 20, 0},
    {"groups of 50", 600, 50, 50, 0},
    {"groups of 200", 150, 200, 200, 0},
    {"groups of 1000", 40, 1000, 1000, 0},
    {"groups of 20000", 4, 20000, 20000, 0},
    {"groups of 200000", 2, 200000, 200000, 0},
    {"sizes mixed", 600, 0, 100, 0},
    {"tiny sizes mixed", 4000, 1, 40, SKEWED},
    {"a call for each", 500, 20, 20, ONE_CALL},
    {"levels known", 600, 50, 50, WARM},
    {"levels, then powers", 600, 50, 50, IN_PARTS},
    {"reasons", 600, 50, 50, REASONS},
    {"idle ones", 600, 50, 50, IDLE},
    {"minimums too much", 300, 50, 50, SHORT},
    {"weights", 400, 50, 50, WEIGHTS},
    {"tree", 400, 50, 50, TREE},
    {"tiers", 400, 50, 50, TIERS},
    {"steps", 400, 50, 50, STEPS},
    {"weights and steps", 200, 50, 50, WEIGHTS | STEPS},
    {"all of it", 100, 50, 50, REASONS | WEIGHTS | TREE | TIERS | STEPS | IDLE | SHORT},
};
enum { N_WORKLOADS = sizeof WORKLOADS / sizeof *WORKLOADS };

static const double PER_UNIT = 1e6;
static const double RATINGS[] = {3.7, 7.4, 11.0, 22.0, 50.0, 150.0};
static const double RATING_SHARES[] = {0.10, 0.30, 0.60, 0.85, 0.95, 1.0};
static const double MINIMUMS[] = {1.4, 4.1, 5.0, 10.0};

static uint64_t state = 1;

/* Knuth's linear congruence; in 0..1. */
static double random_part(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (double)(state >> 11) * 0x1p-53;
}

static double whole_quanta(double kw) { return (double)(int64_t)(kw * PER_UNIT + 0.5) / PER_UNIT; }

static void *room(int64_t n, size_t size)
{
    void *block = calloc((size_t)n, size);
    if (!block) abort();
    return block;
}

static void some_bounds(int continuous, double *minimum, double *maximum)
{
    double part = random_part();
    int rating = 0, n_fitting = 0;
    while (part >= RATING_SHARES[rating]) ++rating;
    while (n_fitting < 4 && MINIMUMS[n_fitting] <= RATINGS[rating]) ++n_fitting;
    double high = RATINGS[rating], low = MINIMUMS[(int)(random_part() * n_fitting)];
    if (continuous) {
        high *= 0.4 + 0.6 * random_part();
        low *= 0.7 + 0.3 * random_part();
    }
    *maximum = whole_quanta(high);
    *minimum = low < high ? whole_quanta(low) : *maximum;
}

static double some_capacity(int features, double least, double most)
{
    double kind = random_part(), part = random_part();
    if (features & SHORT) return whole_quanta(least * part);
    if (kind < 0.2) return whole_quanta(most * (1.0 + part));
    if (kind < 0.9) return whole_quanta(least + (most - least) * part);
    return whole_quanta(least * (1.0 + 0.01 * part));
}

static uint64_t hash(uint64_t so_far, const void *block, size_t size)
{
    /* Fowler, Noll, Vo. */
    for (size_t k = 0; k < size; ++k)
        so_far = (so_far ^ ((const uint8_t *)block)[k]) * 0x100000001b3u;
    return so_far;
}

/* What callgrind counts: --toggle-collect=counted. */
__attribute__((noinline)) void counted(const wattfill_batch *b, int64_t each, const wattfill_batch *found, void *scratch);
void counted(const wattfill_batch *b, int64_t each, const wattfill_batch *found, void *scratch)
{
    if (found) {
        if (wattfill_levels(found, 0, b->n_groups, scratch) >= 0) abort();
        wattfill_powers(b, found->level, 0, b->n_groups, scratch);
        return;
    }
    for (int64_t g = 0; g < b->n_groups; g += each)
        if (wattfill_solve(b, g, g + each, scratch) >= 0) abort();
}

static workload named(const char *name)
{
    for (int k = 0; k < N_WORKLOADS; ++k)
        if (strcmp(WORKLOADS[k].name, name) == 0) return WORKLOADS[k];
    fprintf(stderr, "there is no workload %s\n", name);
    exit(EXIT_FAILURE);
}

/* Connectors of a group. Sizes have the same density from least to most, or with a power law, from 1
 * to most, one of size**-1.5. */
static int64_t some_size(workload w)
{
    double part = random_part(), narrow = 1.0 - part * (1.0 - 1.0 / sqrt(w.most));
    if (w.features & SKEWED) return (int64_t)(1.0 / (narrow * narrow));
    return w.least + (int64_t)(part * (w.most - w.least + 1));
}

static wattfill_batch make(workload w)
{
    int64_t n_groups = w.n_groups, *offsets = room(n_groups + 1, 8);
    for (int64_t g = 0; g < n_groups; ++g)
        offsets[g + 1] = offsets[g] + some_size(w);
    int64_t n = offsets[n_groups];

    double *minimum = room(n, 8), *maximum = room(n, 8), *weight = room(n, 8), *rank = room(n, 8);
    double *capacity = room(n_groups, 8), *zero = room(n_groups, 8);
    int64_t *priority = room(n, 8), *parent = room(n_groups, 8);
    uint8_t *active = room(n, 1);
    for (int64_t g = 0; g < n_groups; ++g) {
        double least = 0.0, most = 0.0;
        for (int64_t i = offsets[g]; i < offsets[g + 1]; ++i) {
            some_bounds(g % 2, &minimum[i], &maximum[i]);
            weight[i] = 1.0 + (int)(random_part() * 4.0);
            rank[i] = random_part();
            priority[i] = (int64_t)(random_part() * 3.0);
            active[i] = random_part() < 0.7;
            least += minimum[i];
            most += maximum[i];
        }
        capacity[g] = some_capacity(w.features, least, most);
        /* Every twenty sites are below the one after them, and these below the last. */
        int64_t above = g % 21 == 20 ? n_groups - 1 : g + 20 - g % 21;
        parent[g] = g == n_groups - 1 ? -1 : above < n_groups ? above : n_groups - 1;
        if (g % 21 == 20) capacity[g] *= 16.0;
    }
    if (w.features & TREE) capacity[n_groups - 1] *= 0.7 * (double)n_groups;

    wattfill_batch b = {
        .n_connectors = n, .n_groups = n_groups,
        .minimum = minimum, .maximum = maximum, .offsets = offsets,
        .capacity = capacity, .buffer = zero, .reserved = zero,
        .parent = w.features & TREE ? parent : NULL,
        .weight = w.features & WEIGHTS ? weight : NULL,
        .priority = w.features & TIERS ? priority : NULL,
        .rank = w.features & (TIERS | SHORT) ? rank : NULL,
        .active = w.features & IDLE ? active : NULL,
        .per_unit = PER_UNIT, .step = w.features & STEPS ? 1e5 : 0.0,
        .power = room(n, 8),
        .reason = w.features & REASONS ? room(n, 1) : NULL,
        .bound_by = w.features & REASONS ? room(n, 8) : NULL,
        .level = room(n_groups, 8), .usable = room(n_groups, 8), .used = room(n_groups, 8),
        .needed = room(n_groups, 8),
        .order = w.features & TREE ? room(n_groups, 8) : NULL,
        .first = w.features & TREE ? room(n_groups, 8) : NULL,
        .up = w.features & TREE ? room(n_groups, 8) : NULL,
    };
    if (wattfill_plant(&b, room(2 * n_groups, 8)) >= 0) abort();
    return b;
}

static uint64_t answer_of(const wattfill_batch *b)
{
    size_t n = (size_t)b->n_connectors, n_groups = (size_t)b->n_groups;
    uint64_t answer = hash(0xcbf29ce484222325, b->power, n * 8);
    if (b->reason) answer = hash(answer, b->reason, n);
    if (b->bound_by) answer = hash(answer, b->bound_by, n * 8);
    answer = hash(answer, b->level, n_groups * 8);
    answer = hash(answer, b->used, n_groups * 8);
    return hash(answer, b->needed, n_groups * 8);
}

int main(int n_words, char **words)
{
    if (n_words < 2) {
        for (int k = 0; k < N_WORKLOADS; ++k) puts(WORKLOADS[k].name);
        return EXIT_SUCCESS;
    }
    workload w = named(words[1]);
    wattfill_batch b = make(w);
    void *scratch = room(1, wattfill_scratch_size(&b));
    if (w.features & WARM) {
        if (wattfill_solve(&b, 0, b.n_groups, scratch) >= 0) abort();
        b.guess = memcpy(room(b.n_groups, 8), b.level, (size_t)b.n_groups * 8);
    }
    wattfill_batch found = b;
    found.level = room(4 * b.n_groups, 8);
    found.usable = found.level + b.n_groups;
    found.used = found.usable + b.n_groups;
    found.needed = found.used + b.n_groups;
    const char *levels[8];
    int n_levels = wattfill_simd_levels(levels, 8);
    if (n_words > 2) {
        levels[0] = words[2];
        n_levels = 1;
    }
    uint64_t answer = 0;
    for (int k = 0; k < n_levels; ++k) {
        if (wattfill_simd_choose(levels[k]) < 0) {
            fprintf(stderr, "there is no level %s here\n", levels[k]);
            return EXIT_FAILURE;
        }
        counted(&b, w.features & ONE_CALL ? 1 : b.n_groups, w.features & IN_PARTS ? &found : NULL,
                scratch);
        if (k > 0 && answer_of(&b) != answer) {
            fprintf(stderr, "%s answers otherwise than %s\n", levels[k], levels[0]);
            return EXIT_FAILURE;
        }
        answer = answer_of(&b);
    }
    printf("%lld %016llx\n", (long long)b.n_connectors, (unsigned long long)answer);
    return EXIT_SUCCESS;
}
