/* SPDX-License-Identifier: Apache-2.0
 *
 * Bytes to a batch; the batch to the kernel, on every instruction-set level, in one piece and in
 * several, with and without guesses and reasons; each answer to that of the definition, bit by
 * bit. A target of libFuzzer, or with replay.c a program that takes files.
 *
 * What the bytes do not say, a generator that they seed does: one byte more or less makes another
 * batch, and a short input is as rich as a long one. Each array is a block of memory of its own, of
 * exactly its size, so that the address sanitizer sees a step beside it.
 */
#include <stdio.h>

#include "oracle.h"

enum { MOST_KINDS = 20 };

/* How large groups are, how many, and how many connectors they have together: each of the kernel's
 * ways to go, and the larger the rarer, as time goes by connectors. */
typedef struct {
    int from, least, most, n_groups, n_connectors;
} shape;
static const shape SHAPES[] = { /* from: this value of a byte on */
    {0, 0, 8, 12, 100},       {90, 0, 20, 40, 300},       {150, 0, 70, 12, 500},
    {200, 17, 260, 9, 800},   {240, 240, 2500, 4, 5000},  {252, 6000, 21000, 2, 21000},
    {255, 100001, 101024, 2, 110000},
};

static const double RATINGS[] = {3.7, 7.4, 11.0, 22.0, 50.0, 150.0, 1.4, 4.14};
static const double EVIL[] = {0.1,  0.3,    1e-6,   1.5e-6,  1e-9,    5e-324,  0.1 + 0.2,  1e-6 / 3,
                              1e9,  0x1p40, 0x1p33, 0x1p53,  1e300,   -0.0,    0x1p52,     4398046.511105,
                              2e-6, 1e15,   0x1p42, 0x1p-10, 0x1p-11, 1e-7,    2.0000005,  549755.813888};
static const double MALFORMED[] = {-1.0, -5e-324, NAN, INFINITY, -INFINITY, -1e300, -NAN, 1e308};
static const double PER_UNIT[] = {1e6, 1e6, 1e6, 1.0, 3.0, 1e3, 0x1p20, 1e9, 7.0, 0x1p53, 1e12, 10.0};
static const double STEPS[] = {1e5, 1.0, 2.0, 23000.0, 250000.0, 1e6, 7e6, 3.0};
static const double WEIGHTS[] = {1.0, 2.0, 3.0, 0.1, 0.5, 1.0 / 3, 1e-6, 1e3, 1e-100, 1e100};
static const double RANKS[] = {0.0, 1.0, 2.0, 3.0, -0.0, -INFINITY, INFINITY, 5e-324};
static const int64_t PRIORITIES[] = {0, 1, -1, 2, INT64_MIN, INT64_MAX, 0, 1};
#define PICK(from, n) (from)[(size_t)(n) % (sizeof(from) / sizeof *(from))]

/* ---- Bytes, and when they have run out, numbers that they seed (Marsaglia's xorshift). */

typedef struct {
    const uint8_t *bytes;
    size_t left;
    uint64_t state;
} source;

static uint64_t random_bits(source *s)
{
    s->state ^= s->state << 13;
    s->state ^= s->state >> 7;
    s->state ^= s->state << 17;
    return s->state >> 16;
}

static unsigned byte(source *s)
{
    if (s->left == 0) return random_bits(s) & 0xff;
    --s->left;
    return *s->bytes++;
}

static unsigned two_bytes(source *s) { return byte(s) << 8 | byte(s); }

/* ---- Values. */

static double a_power(source *s, double per_unit)
{
    unsigned how = byte(s), x = two_bytes(s);
    switch (how & 15) {
    case 0: return x / per_unit;
    case 1: return (x + 0.5) / per_unit;
    case 2: return x / 100.0;
    case 3: return x & 31;
    case 4: return PICK(RATINGS, x);
    case 5: return PICK(EVIL, x);
    case 6: return x / 3.0 / per_unit;
    case 7: return ((x >> 4) + ldexp((x & 15) - 7.5, -12)) / per_unit; /* around the snap */
    case 8: return ldexp(1.0 + x / 65536.0, (int)(how >> 4) * 5 - 45);
    case 9: return ldexp(x, (int)(how >> 4) * 3) / per_unit;
    case 10: return 0.0;
    case 11: return x / 1000.0;
    default: return 10.0 + x % 8;
    }
}

static double a_guess(source *s, double level)
{
    unsigned how = byte(s);
    switch (how & 7) {
    case 0: return NAN;
    case 1: return how & 8 ? INFINITY : -INFINITY;
    case 2: return how & 8 ? 0.0 : -1.0;
    case 3: return how & 8 ? 5e-324 : 1.7e308;
    case 4: return level * (0.5 + two_bytes(s) / 65536.0);
    case 5: return nextafter(level, how & 8 ? INFINITY : 0.0);
    case 6: return two_bytes(s) / 1000.0;
    default: return level;
    }
}

/* ---- Batches. */

typedef struct {
    double minimum, maximum, weight, rank;
    int64_t priority;
    uint8_t active;
} kind;

static void *room(int64_t n, size_t size)
{
    void *block = malloc((size_t)n * size);
    /* What nobody writes is to show. */
    memset(block, 0xa5, (size_t)n * size);
    return block;
}
#define ROOM(n, type) ((type *)room(n, sizeof(type)))

static int64_t a_size(source *s, shape of)
{
    return of.least + (int64_t)two_bytes(s) % (of.most - of.least + 1);
}

static kind a_kind(source *s, double per_unit)
{
    double x = a_power(s, per_unit), y = a_power(s, per_unit);
    unsigned code = byte(s);
    kind k = {.minimum = x < y ? x : y, .maximum = x < y ? y : x};
    if ((code & 3) == 0) k.minimum = 0.0;
    if ((code & 0x1c) == 0) k.minimum = k.maximum;
    k.weight = code & 32 ? PICK(WEIGHTS, byte(s)) : ldexp(1.0 + byte(s) / 256.0, (int)(code >> 5) - 3);
    k.rank = PICK(RANKS, byte(s));
    k.priority = PICK(PRIORITIES, byte(s) >> 4);
    k.active = byte(s) % 4 != 0;
    return k;
}

/* The connectors of a group: one kind each, or drawn from a few kinds, all equal or all unlike. */
static void some_connectors(source *s, const wattfill_batch *b, int64_t g)
{
    int64_t start = b->offsets[g], n = b->offsets[g + 1] - start;
    int64_t n_kinds = 1 + byte(s) % MOST_KINDS;
    int unlike = byte(s) & 1;
    kind kinds[MOST_KINDS];
    if (n <= MOST_KINDS) n_kinds = n;
    for (int64_t k = 0; k < n_kinds; ++k) kinds[k] = a_kind(s, b->per_unit);
    for (int64_t k = 0; k < n; ++k) {
        kind one = kinds[n <= MOST_KINDS ? k : (int64_t)random_bits(s) % n_kinds];
        if (unlike) {
            one.minimum *= (double)(random_bits(s) & 0xfffff) * 0x1p-20;
            one.maximum = fmax(one.minimum, one.maximum * (double)(random_bits(s) & 0xfffff) * 0x1p-20);
        }
        int64_t i = start + k;
        ((double *)b->minimum)[i] = one.minimum;
        ((double *)b->maximum)[i] = one.maximum;
        if (b->weight) ((double *)b->weight)[i] = one.weight;
        if (b->rank) ((double *)b->rank)[i] = one.rank;
        if (b->priority) ((int64_t *)b->priority)[i] = one.priority;
        if (b->active) ((uint8_t *)b->active)[i] = one.active;
    }
}

/* What all below group g draw at a level, about: capacities on it and beside it are kinks. */
static double drawn_about(const wattfill_batch *b, int64_t g, double level)
{
    double sum = 0.0;
    for (int64_t other = 0; other < b->n_groups; ++other) {
        if (!feeds(b, g, other)) continue;
        for (int64_t i = b->offsets[other]; i < b->offsets[other + 1]; ++i) {
            if (b->active && !b->active[i]) continue;
            double want = fmin(fmax(level * (b->weight ? b->weight[i] : 1.0), b->minimum[i]), b->maximum[i]);
            sum += rint(fmin(want * b->per_unit, 0x1p54));
        }
    }
    return sum;
}

static double a_capacity(source *s, const wattfill_batch *b, int64_t g)
{
    unsigned how = byte(s), x = two_bytes(s);
    double least = drawn_about(b, g, 0.0), quanta;
    switch (how & 7) {
    case 0: quanta = a_power(s, b->per_unit) * b->per_unit; break;
    case 1: quanta = least; break;
    case 2: quanta = drawn_about(b, g, 1e200); break;
    case 3: quanta = least * (x / 65536.0); break;
    case 4:
    case 5: {
        double level = 0.0;
        if (b->n_connectors) {
            int64_t i = (int64_t)x % b->n_connectors;
            level = (how & 8 ? b->minimum : b->maximum)[i] / (b->weight ? b->weight[i] : 1.0);
        }
        quanta = drawn_about(b, g, level);
        break;
    }
    default: quanta = least + (drawn_about(b, g, 1e200) - least) * (x / 65536.0);
    }
    quanta += (how >> 4 & 3) == 1 ? -1.0 : (how >> 4 & 3) == 2 ? 1.0 : 0.0;
    double limit = (b->weight ? 0x1p51 : 0x1p53) / b->per_unit;
    double capacity = fmax(quanta, 0.0) / b->per_unit;
    return capacity < limit ? capacity : nextafter(limit, 0.0);
}

static void spoil(source *s, wattfill_batch *b)
{
    if (b->n_connectors == 0) return;
    for (int times = 1 + byte(s) % 3; times > 0; --times) {
        int64_t i = (int64_t)(random_bits(s) % (uint64_t)b->n_connectors);
        ((double *)(byte(s) & 1 ? b->minimum : b->maximum))[i] = PICK(MALFORMED, byte(s));
    }
}

/* A batch as the caller of the kernel has to make it, but for bounds that are malformed and parents
 * in a circle, which the kernel has to find. */
static wattfill_batch a_batch(source *s, int *parents_in_a_circle)
{
    unsigned has = byte(s), more = byte(s);
    wattfill_batch b = {.per_unit = PICK(PER_UNIT, byte(s)), .step = PICK(STEPS, byte(s))};
    unsigned code = byte(s);
    shape of = SHAPES[0];
    for (size_t k = 1; k < sizeof SHAPES / sizeof *SHAPES; ++k)
        if (code >= (unsigned)SHAPES[k].from) of = SHAPES[k];
    b.n_groups = byte(s) % (of.n_groups + 1);
    /* The largest have no steps, weights, priorities and ranks: these go the same way at any size. */
    if (of.least > 100000) has &= ~(1u | 4 | 8 | 16);
    if (!(has & 1)) b.step = 0.0;

    int64_t *offsets = ROOM(b.n_groups + 1, int64_t), *parent = NULL;
    int64_t same_size = a_size(s, of);
    offsets[0] = 0;
    for (int64_t g = 0; g < b.n_groups; ++g) {
        int64_t size = more & 1 ? same_size : a_size(s, of);
        offsets[g + 1] = offsets[g] + (offsets[g] + size > of.n_connectors ? 0 : size);
    }
    b.offsets = offsets;
    b.n_connectors = offsets[b.n_groups];
    *parents_in_a_circle = 0;
    if (has & 2) {
        b.parent = parent = ROOM(b.n_groups, int64_t);
        for (int64_t g = 0; g < b.n_groups; ++g) {
            /* Upwards in one of two orders; now and then anywhere. */
            code = byte(s);
            int64_t above = (int64_t)(code >> 1) % (b.n_groups - g) + g;
            parent[g] = above == g || code & 1 ? -1 : above;
            if (more & 2 && parent[g] >= 0) parent[g] = (int64_t)(code >> 1) % b.n_groups;
        }
        for (int64_t g = 0; g < b.n_groups; ++g) {
            int64_t up = g;
            for (int64_t times = 0; up >= 0 && times <= b.n_groups; ++times) up = parent[up];
            *parents_in_a_circle |= up >= 0;
        }
        if (*parents_in_a_circle) return b;
    }
    b.minimum = ROOM(b.n_connectors, double);
    b.maximum = ROOM(b.n_connectors, double);
    if (has & 4) b.weight = ROOM(b.n_connectors, double);
    if (has & 8) b.priority = ROOM(b.n_connectors, int64_t);
    if (has & 16) b.rank = ROOM(b.n_connectors, double);
    if (has & 32) b.active = ROOM(b.n_connectors, uint8_t);
    for (int64_t g = 0; g < b.n_groups; ++g) some_connectors(s, &b, g);

    double *capacity = ROOM(b.n_groups, double), *buffer = ROOM(b.n_groups, double),
           *reserved = ROOM(b.n_groups, double);
    for (int64_t g = 0; g < b.n_groups; ++g) {
        capacity[g] = a_capacity(s, &b, g);
        buffer[g] = has & 64 ? PICK(((double[]){0.0, 0.1, 0.2, 0.9, 1.0, 5e-324, 1.0 / 3}), byte(s)) : 0.0;
        reserved[g] = has & 128 ? a_power(s, b.per_unit) : 0.0;
    }
    b.capacity = capacity;
    b.buffer = buffer;
    b.reserved = reserved;
    if (more >> 2 == 0) spoil(s, &b);
    return b;
}

static void free_batch(wattfill_batch *b)
{
    const void *blocks[] = {b->minimum, b->maximum, b->offsets, b->capacity, b->buffer, b->reserved,
                            b->parent,  b->weight,  b->priority, b->rank,    b->active, b->guess,
                            b->order,   b->first,   b->up};
    for (size_t k = 0; k < sizeof blocks / sizeof *blocks; ++k) free((void *)blocks[k]);
}

/* ---- The same as a call from Python, for who has to find out what is wrong. */

#define LIST(name, n, format, what)                                                              \
    do {                                                                                         \
        fprintf(stderr, name "[");                                                               \
        for (int64_t k = 0; k < (n); ++k) fprintf(stderr, format ", ", what);                    \
        fprintf(stderr, "],\n");                                                                 \
    } while (0)

static void show(const wattfill_batch *b)
{
    fprintf(stderr, "from math import inf, nan; import wattfill; wattfill.allocate(\n");
    LIST("minimum=", b->n_connectors, "%.17g", b->minimum[k]);
    LIST("maximum=", b->n_connectors, "%.17g", b->maximum[k]);
    LIST("capacity=", b->n_groups, "%.17g", b->capacity[k]);
    LIST("offsets=", b->n_groups + 1, "%lld", (long long)b->offsets[k]);
    LIST("buffer=", b->n_groups, "%.17g", b->buffer[k]);
    LIST("reserved=", b->n_groups, "%.17g", b->reserved[k]);
    if (b->parent) LIST("parent=", b->n_groups, "%lld", (long long)b->parent[k]);
    if (b->weight) LIST("weight=", b->n_connectors, "%.17g", b->weight[k]);
    if (b->priority) LIST("priority=", b->n_connectors, "%lld", (long long)b->priority[k]);
    if (b->rank) LIST("rank=", b->n_connectors, "%.17g", b->rank[k]);
    if (b->active) LIST("active=", b->n_connectors, "%s", b->active[k] ? "True" : "False");
    if (b->guess) LIST("level=", b->n_groups, "%.17g", b->guess[k]);
    if (b->step > 0.0) fprintf(stderr, "step=%.17g,\n", b->step / b->per_unit);
    fprintf(stderr, "resolution=1 / %.17g)\n", b->per_unit);
}

_Noreturn static void wrong(const wattfill_batch *b, const char *what, int64_t at, double found,
                            double due)
{
    show(b);
    fprintf(stderr, "got %.17g for %.17g: ", found, due);
    fprintf(stderr, "%s at %lld is wrong on %s, %s guess, %s reasons, %s binding groups\n", what,
            (long long)at, wattfill_simd_chosen(), b->guess ? "with a" : "without a",
            b->reason ? "with" : "without", b->bound_by ? "with" : "without");
    abort();
}

/* ---- What has to hold. */

static int is_malformed(const wattfill_batch *b, int64_t i)
{
    return !(b->minimum[i] >= 0.0 && b->maximum[i] >= b->minimum[i] && b->maximum[i] < INFINITY);
}

/* Solve the trees from a place to another, or find their levels, with scratch of its own; find what is
 * malformed there. */
static void solve_piece(const wattfill_batch *b, int levels, int64_t start, int64_t stop)
{
    size_t size = wattfill_scratch_size(b);
    void *scratch = room((int64_t)size, 1);
    int64_t named = levels ? wattfill_levels(b, start, stop, scratch)
                           : wattfill_solve(b, start, stop, scratch);
    free(scratch);
    int64_t first = -1, named_is_here = 0;
    for (int64_t place = start; place < stop; ++place) {
        int64_t g = b->order ? b->order[place] : place;
        for (int64_t i = b->offsets[g]; i < b->offsets[g + 1]; ++i) {
            if (!is_malformed(b, i)) continue;
            if (first < 0) first = i;
            named_is_here |= i == named;
        }
    }
    if (named < 0 ? first >= 0 : !named_is_here)
        wrong(b, "the malformed connector", start, (double)named, (double)first);
}

/* In one piece, or cut here and there between trees, the last piece first. */
static void solve_all(const wattfill_batch *b, int levels, int pieces, uint64_t seed)
{
    source s = {.state = seed | 1};
    int64_t stop = b->n_groups;
    for (int64_t place = b->n_groups - 1; pieces && place > 0; --place) {
        int between_trees = !b->up || b->up[place - 1] < 0;
        if (!between_trees || random_bits(&s) % 4) continue;
        solve_piece(b, levels, place, stop);
        stop = place;
    }
    solve_piece(b, levels, 0, stop);
}

/* Find all levels and then write all powers, the latter in two pieces. */
static void solve_in_parts(const wattfill_batch *b, int any_malformed, int pieces, uint64_t seed)
{
    double *found = ROOM(4 * b->n_groups, double);
    void *scratch = room((int64_t)wattfill_scratch_size(b), 1);
    wattfill_batch apart = *b;
    apart.level = found;
    apart.usable = found + b->n_groups;
    apart.used = found + 2 * b->n_groups;
    apart.needed = found + 3 * b->n_groups;
    for (int64_t i = 0; i < b->n_connectors; ++i) b->power[i] = -1.0;
    solve_all(&apart, 1, pieces, seed);
    for (int64_t i = 0; i < b->n_connectors; ++i)
        if (b->power[i] != -1.0) wrong(b, "a power that was not to be written", i, b->power[i], -1.0);
    int64_t middle = (int64_t)(seed % (uint64_t)(b->n_groups + 1));
    if (!any_malformed) {
        wattfill_powers(b, found, middle, b->n_groups, scratch);
        wattfill_powers(b, found, 0, middle, scratch);
    }
    free(scratch);
    free(found);
}

#define HOLD(b, n, found, due)                                                                   \
    for (int64_t k = 0; found && k < (n); ++k)                                                   \
        if (memcmp(&(found)[k], &(due)[k], sizeof *(found)) != 0)                         \
            wrong(b, #found, k, (double)(found)[k], (double)(due)[k]);

static void check(wattfill_batch *b, const answer *due, int pieces, int reasons, uint64_t seed)
{
    double *power = b->power = ROOM(b->n_connectors, double);
    uint8_t *reason = b->reason = reasons & 1 ? ROOM(b->n_connectors, uint8_t) : NULL;
    int64_t *bound_by = b->bound_by = reasons & 2 ? ROOM(b->n_connectors, int64_t) : NULL;
    double *level = b->level = ROOM(b->n_groups, double);
    double *usable = b->usable = ROOM(b->n_groups, double);
    double *used = b->used = ROOM(b->n_groups, double);
    double *needed = b->needed = ROOM(b->n_groups, double);
    if (!reasons && wattfill_parts_work(b)) solve_in_parts(b, !due, pieces, seed);
    else solve_all(b, 0, pieces, seed);
    if (due) {
        HOLD(b, b->n_connectors, power, due->power);
        HOLD(b, b->n_connectors, reason, due->reason);
        HOLD(b, b->n_connectors, bound_by, due->bound_by);
        HOLD(b, b->n_groups, level, due->level);
        HOLD(b, b->n_groups, usable, due->usable);
        HOLD(b, b->n_groups, used, due->used);
        HOLD(b, b->n_groups, needed, due->needed);
    }
    void *blocks[] = {power, reason, bound_by, level, usable, used, needed};
    for (size_t k = 0; k < sizeof blocks / sizeof *blocks; ++k) free(blocks[k]);
}

static void check_first_malformed(const wattfill_batch *b, int *any)
{
    int64_t first = 0;
    while (first < b->n_connectors && !is_malformed(b, first)) ++first;
    *any = first < b->n_connectors;
    int64_t named = wattfill_first_malformed(b->n_connectors, b->minimum, b->maximum);
    if (!*any) first = -1;
    if (named != first) wrong(b, "the first malformed connector", 0, (double)named, (double)first);
}

/* For inputs that do not come to an end: say what the call is first. */
int shows_all;

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    source s = {.bytes = bytes, .left = size, .state = 0x9e3779b97f4a7c15};
    for (size_t k = 0; k < size; ++k) s.state = (s.state ^ bytes[k]) * 0x100000001b3;
    s.state |= 1;

    const char *names[8];
    int n_levels = wattfill_simd_levels(names, 8), in_a_circle, malformed;
    wattfill_batch b = a_batch(&s, &in_a_circle);
    if (b.parent) {
        b.order = ROOM(b.n_groups, int64_t);
        b.first = ROOM(b.n_groups, int64_t);
        b.up = ROOM(b.n_groups, int64_t);
    }
    int64_t *scratch = ROOM(2 * b.n_groups, int64_t);
    int64_t cyclic = wattfill_plant(&b, scratch);
    free(scratch);
    if (in_a_circle) {
        int64_t up = cyclic;
        for (int64_t times = 0; up >= 0 && times <= b.n_groups; ++times) up = b.parent[up];
        if (up < 0) abort();
        free_batch(&b);
        return 0;
    }
    if (cyclic >= 0) abort();

    answer due = {ROOM(b.n_connectors, double), ROOM(b.n_connectors, uint8_t),
                  ROOM(b.n_connectors, int64_t), ROOM(b.n_groups, double), ROOM(b.n_groups, double),
                  ROOM(b.n_groups, double), ROOM(b.n_groups, double)};
    check_first_malformed(&b, &malformed);
    if (!malformed) solve_by_definition(&b, &due);
    double *guess = ROOM(b.n_groups, double);
    for (int64_t g = 0; g < b.n_groups; ++g) guess[g] = a_guess(&s, malformed ? 1.0 : due.level[g]);

    if (shows_all) show(&b);
    unsigned how = byte(&s);
    for (int k = 0; k < n_levels; ++k) {
        wattfill_simd_choose(names[k]);
        b.guess = NULL;
        check(&b, malformed ? NULL : &due, how & 1, 3, s.state);
        b.guess = guess;
        check(&b, malformed ? NULL : &due, !(how & 1), how & 2 ? 3 : 0, s.state);
        if (wattfill_parts_work(&b)) check(&b, malformed ? NULL : &due, how & 1, 0, s.state);
    }
    void *blocks[] = {due.power, due.reason, due.bound_by, due.level, due.usable, due.used, due.needed};
    for (size_t k = 0; k < sizeof blocks / sizeof *blocks; ++k) free(blocks[k]);
    free_batch(&b);
    return 0;
}
