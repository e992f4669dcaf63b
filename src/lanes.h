/* SPDX-License-Identifier: Apache-2.0
 *
 * A few doubles at a time: four where registers have that many, two elsewhere. Eight were slower, as
 * groups do not come in eights. Plain arithmetic is the compiler's own; what it has no operator for
 * stands here.
 */
#ifndef WATTFILL_LANES_H
#define WATTFILL_LANES_H

#include <stdint.h>
#include <string.h>

#include "grid.h"

#ifdef __AVX2__
#include <immintrin.h>
enum { LANES = 4 };
#else
enum { LANES = 2 };
#endif

#define ALWAYS_INLINE static inline __attribute__((always_inline))

typedef double lanes __attribute__((vector_size(8 * LANES)));
typedef int64_t flags __attribute__((vector_size(8 * LANES))); /* all bits set, or none */
typedef uint8_t bytes __attribute__((vector_size(LANES)));

ALWAYS_INLINE lanes all(double x) { return x - (lanes){0}; }

ALWAYS_INLINE lanes load(const double *from)
{
    lanes x;
    memcpy(&x, from, sizeof x);
    return x;
}

ALWAYS_INLINE void store(double *to, lanes x) { memcpy(to, &x, sizeof x); }

ALWAYS_INLINE lanes choose(flags which, lanes yes, lanes no)
{
    return (lanes)((which & (flags)yes) | (~which & (flags)no));
}

/* load_some and store_some: the first n lanes, fewer than all; the others are 0, or stay. */
#ifdef __AVX2__
ALWAYS_INLINE lanes larger(lanes x, lanes y) { return _mm256_max_pd(x, y); }
ALWAYS_INLINE lanes smaller(lanes x, lanes y) { return _mm256_min_pd(x, y); }
ALWAYS_INLINE lanes round_down(lanes x) { return _mm256_floor_pd(x); }
ALWAYS_INLINE lanes round_up(lanes x) { return _mm256_ceil_pd(x); }
ALWAYS_INLINE int any(flags f) { return _mm256_movemask_pd((__m256d)f) != 0; }
ALWAYS_INLINE lanes load_some(const double *from, int64_t n)
{
    return _mm256_maskload_pd(from, (__m256i)(n > (flags){0, 1, 2, 3}));
}
ALWAYS_INLINE void store_some(double *to, int64_t n, lanes x)
{
    _mm256_maskstore_pd(to, (__m256i)(n > (flags){0, 1, 2, 3}), x);
}
#else
ALWAYS_INLINE lanes larger(lanes x, lanes y) { return choose(x > y, x, y); }
ALWAYS_INLINE lanes smaller(lanes x, lanes y) { return choose(x < y, x, y); }
ALWAYS_INLINE lanes round_down(lanes x)
{
    return (lanes){whole_below(x[0]), whole_below(x[1])};
}
ALWAYS_INLINE lanes round_up(lanes x) { return (lanes){whole_above(x[0]), whole_above(x[1])}; }
ALWAYS_INLINE int any(flags f) { return (f[0] | f[1]) != 0; }
/* Fewer than all lanes, which is one of two. */
ALWAYS_INLINE lanes load_some(const double *from, int64_t n)
{
    return (lanes){n > 0 ? *from : 0.0, 0.0};
}
ALWAYS_INLINE void store_some(double *to, int64_t n, lanes x)
{
    if (n > 0) *to = x[0];
}
#endif

/* All lanes, or the first n where n is less. */
ALWAYS_INLINE lanes get(const double *from, int64_t n)
{
    return n >= LANES ? load(from) : load_some(from, n);
}
ALWAYS_INLINE void put(double *to, int64_t n, lanes x)
{
    if (n >= LANES) store(to, x);
    else store_some(to, n, x);
}

/* Turn LANES rows of LANES into columns: exchange the halves of pairs of rows, then quarters, and
 * so on (Eklundh: A fast computer method for matrix transposing, IEEE Trans. Comput. 1972). */
#define EXCHANGE(rows, i, j, low, high)                                                         \
    do {                                                                                        \
        lanes x_ = rows[i], y_ = rows[j];                                                       \
        rows[i] = __builtin_shufflevector(x_, y_, low);                                         \
        rows[j] = __builtin_shufflevector(x_, y_, high);                                        \
    } while (0)

ALWAYS_INLINE void transpose(lanes rows[LANES])
{
#ifdef __AVX2__
#define LOW_1 0, 4, 2, 6
#define HIGH_1 1, 5, 3, 7
#define LOW_2 0, 1, 4, 5
#define HIGH_2 2, 3, 6, 7
    for (int i = 0; i < 4; i += 2) EXCHANGE(rows, i, i + 1, LOW_1, HIGH_1);
    for (int i = 0; i < 2; ++i) EXCHANGE(rows, i, i + 2, LOW_2, HIGH_2);
#else
#define LOW_1 0, 2
#define HIGH_1 1, 3
    EXCHANGE(rows, 0, 1, LOW_1, HIGH_1);
#endif
}

#endif
