/* SPDX-License-Identifier: Apache-2.0  A few doubles at a time: eight or four where registers
 * hold that many, and one at a time, which is plain C for any compiler, elsewhere. All other
 * files are written once, with what stands here and with + - * on lanes. */
#ifndef WATTFILL_LANES_H
#define WATTFILL_LANES_H

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#if FLT_EVAL_METHOD != 0
#error "Doubles must be rounded to doubles: on x86 compile for SSE2"
#endif

#if defined(__AVX512DQ__) && defined(__AVX512VL__)
#define LANES 8
#elif defined(__AVX2__) && defined(__FMA__)
#define LANES 4
#else
#define LANES 1
#endif

#if LANES > 1
#include <immintrin.h>
#define ALWAYS_INLINE static inline __attribute__((always_inline))
#define APART static __attribute__((noinline))
/* Have memory near that is to be written soon. */
#define EXPECT_WRITE(to) __builtin_prefetch(to, 1)
/* What was stored past the caches is there for others before what is stored from now on. */
#define SETTLE() _mm_sfence()
#else
#define ALWAYS_INLINE static inline
#define APART static
#define EXPECT_WRITE(to) ((void)(to))
#define SETTLE() ((void)0)
#endif

/* The lowest bit that is set, of which there is one. */
ALWAYS_INLINE int first_of(unsigned set)
{
#if LANES > 1
    return __builtin_ctz(set);
#else
    int at = 0;
    while (!(set >> at & 1)) ++at;
    return at;
#endif
}

/* Ask for what is going to be read or written, `ahead` doubles on, be it beyond the end. */
ALWAYS_INLINE void ask_for(const double *from, int64_t ahead)
{
#if LANES > 1
    __builtin_prefetch((const void *)((uintptr_t)from + (uintptr_t)ahead * sizeof *from));
#else
    (void)from;
    (void)ahead;
#endif
}

#define FIRST_HALF 0x20
#define SECOND_HALF 0x31

#if LANES == 8

typedef __m512d lanes;
typedef __mmask8 flags;

ALWAYS_INLINE lanes all(double x) { return _mm512_set1_pd(x); }
ALWAYS_INLINE lanes load(const double *from) { return _mm512_loadu_pd(from); }
ALWAYS_INLINE void store(double *to, lanes x) { _mm512_storeu_pd(to, x); }
/* Past the caches, to an address that is a multiple of a register's size. */
ALWAYS_INLINE void store_past(double *to, lanes x) { _mm512_stream_pd(to, x); }
ALWAYS_INLINE flags first_lanes(int64_t n)
{
    return (flags)_bzhi_u32(0xff, n > 0 ? (unsigned)n : 0);
}
ALWAYS_INLINE lanes load_some(const double *from, int64_t n)
{
    return _mm512_maskz_loadu_pd(first_lanes(n), from);
}
ALWAYS_INLINE void store_some(double *to, int64_t n, lanes x)
{
    _mm512_mask_storeu_pd(to, first_lanes(n), x);
}
ALWAYS_INLINE lanes larger(lanes x, lanes y) { return _mm512_max_pd(x, y); }
ALWAYS_INLINE lanes smaller(lanes x, lanes y) { return _mm512_min_pd(x, y); }
ALWAYS_INLINE lanes whole_below(lanes x)
{
    return _mm512_roundscale_pd(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}
ALWAYS_INLINE lanes whole_above(lanes x)
{
    return _mm512_roundscale_pd(x, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC);
}
ALWAYS_INLINE lanes add_product(lanes sum, lanes x, lanes y) { return _mm512_fmadd_pd(x, y, sum); }
ALWAYS_INLINE flags is_above(lanes x, lanes y) { return _mm512_cmp_pd_mask(x, y, _CMP_GT_OQ); }
ALWAYS_INLINE flags is_same(lanes x, lanes y) { return _mm512_cmp_pd_mask(x, y, _CMP_EQ_OQ); }
ALWAYS_INLINE flags both(flags f, flags g) { return f & g; }
ALWAYS_INLINE flags except(flags f, flags g) { return f & (flags)~g; }
ALWAYS_INLINE lanes choose(flags f, lanes yes, lanes no) { return _mm512_mask_mov_pd(no, f, yes); }
ALWAYS_INLINE lanes only(flags f, lanes x) { return _mm512_maskz_mov_pd(f, x); }
typedef __m512i integers;
ALWAYS_INLINE integers all_integers(int64_t x) { return _mm512_set1_epi64(x); }
ALWAYS_INLINE integers get_integers(const int64_t *from, int64_t n)
{
    return _mm512_maskz_loadu_epi64(n < LANES ? first_lanes(n) : (flags)-1, from);
}
ALWAYS_INLINE flags is_higher(integers x, integers y) { return _mm512_cmpgt_epi64_mask(x, y); }
ALWAYS_INLINE integers higher(integers x, integers y) { return _mm512_max_epi64(x, y); }
ALWAYS_INLINE integers choose_integers(flags f, integers yes, integers no)
{
    return _mm512_mask_mov_epi64(no, f, yes);
}
ALWAYS_INLINE lanes as_doubles(integers x) { return _mm512_cvtepi64_pd(x); }
ALWAYS_INLINE unsigned bits(flags f) { return f; }
/* Store some lanes side by side, and anything in what is left of a register. */
ALWAYS_INLINE void pack(double *to, unsigned which, lanes x)
{
    store(to, _mm512_maskz_compress_pd((flags)which, x));
}
ALWAYS_INLINE int n_set(unsigned which) { return __builtin_popcount(which); }
/* Not all bits 0 where x and y do not have the same bits, or have not had so far. */
ALWAYS_INLINE lanes unlike(lanes so_far, lanes x, lanes y)
{
    __m512i other = _mm512_xor_si512(_mm512_castpd_si512(x), _mm512_castpd_si512(y));
    return _mm512_castsi512_pd(_mm512_or_si512(_mm512_castpd_si512(so_far), other));
}
ALWAYS_INLINE int is_unlike(lanes so_far)
{
    __m512i i = _mm512_castpd_si512(so_far);
    return _mm512_test_epi64_mask(i, i) != 0;
}
/* Negative where 0 <= low <= high is not so, or was not so far; NaN does not count, and what is
 * negative may be a low of -0. */
ALWAYS_INLINE lanes unordered(lanes so_far, lanes low, lanes high)
{
    lanes width = _mm512_fmadd_pd(low, _mm512_set1_pd(-1.0), high);
    return smaller(so_far, smaller(low, width));
}
ALWAYS_INLINE int any_negative(lanes x) { return bits(is_above(all(0.0), x)) != 0; }
ALWAYS_INLINE flags set_bytes(const uint8_t from[8])
{
    return _mm_test_epi8_mask(_mm_loadl_epi64((const __m128i *)from), _mm_set1_epi8(-1)) & 0xff;
}
/* The double above each, for x >= 0, and below each, for x > 0. */
ALWAYS_INLINE lanes next_double(lanes x)
{
    return _mm512_castsi512_pd(_mm512_castpd_si512(x) + 1);
}
ALWAYS_INLINE lanes previous_double(lanes x)
{
    return _mm512_castsi512_pd(_mm512_castpd_si512(x) - 1);
}
/* Half the doubles between two that are not negative: their bits are in the same order. */
ALWAYS_INLINE lanes middle_double(lanes x, lanes y)
{
    __m512i i = _mm512_castpd_si512(x), j = _mm512_castpd_si512(y);
    return _mm512_castsi512_pd(i + _mm512_srli_epi64(j - i, 1));
}

ALWAYS_INLINE __m256d sums_of_four(const __m256d row[4])
{
    __m256d x = _mm256_unpacklo_pd(row[0], row[1]) + _mm256_unpackhi_pd(row[0], row[1]);
    __m256d y = _mm256_unpacklo_pd(row[2], row[3]) + _mm256_unpackhi_pd(row[2], row[3]);
    return _mm256_permute2f128_pd(x, y, FIRST_HALF) + _mm256_permute2f128_pd(x, y, SECOND_HALF);
}
/* In each lane the sum of one row. */
ALWAYS_INLINE lanes sums_of(const lanes row[LANES])
{
    __m256d half[8];
    for (int j = 0; j < 8; ++j)
        half[j] = _mm512_castpd512_pd256(row[j]) + _mm512_extractf64x4_pd(row[j], 1);
    return _mm512_insertf64x4(_mm512_castpd256_pd512(sums_of_four(half)), sums_of_four(half + 4),
                              1);
}
#define EVEN_QUARTERS 0x88
#define ODD_QUARTERS 0xdd
/* Rows to columns. */
ALWAYS_INLINE void transpose(lanes row[LANES])
{
    lanes two[LANES], four[LANES];
    for (int j = 0; j < LANES; j += 2) {
        two[j] = _mm512_unpacklo_pd(row[j], row[j + 1]);
        two[j + 1] = _mm512_unpackhi_pd(row[j], row[j + 1]);
    }
    for (int j = 0; j < LANES; j += 4)
        for (int i = 0; i < 2; ++i) {
            four[j + i] = _mm512_shuffle_f64x2(two[j + i], two[j + i + 2], EVEN_QUARTERS);
            four[j + i + 2] = _mm512_shuffle_f64x2(two[j + i], two[j + i + 2], ODD_QUARTERS);
        }
    for (int i = 0; i < 4; ++i) {
        row[i] = _mm512_shuffle_f64x2(four[i], four[i + 4], EVEN_QUARTERS);
        row[i + 4] = _mm512_shuffle_f64x2(four[i], four[i + 4], ODD_QUARTERS);
    }
}

#elif LANES == 4

typedef __m256d lanes;
typedef __m256i flags;

ALWAYS_INLINE lanes all(double x) { return _mm256_set1_pd(x); }
ALWAYS_INLINE lanes load(const double *from) { return _mm256_loadu_pd(from); }
ALWAYS_INLINE void store(double *to, lanes x) { _mm256_storeu_pd(to, x); }
ALWAYS_INLINE void store_past(double *to, lanes x) { _mm256_stream_pd(to, x); }
ALWAYS_INLINE flags first_lanes(int64_t n)
{
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
}
ALWAYS_INLINE lanes load_some(const double *from, int64_t n)
{
    return _mm256_maskload_pd(from, first_lanes(n));
}
ALWAYS_INLINE void store_some(double *to, int64_t n, lanes x)
{
    _mm256_maskstore_pd(to, first_lanes(n), x);
}
ALWAYS_INLINE lanes larger(lanes x, lanes y) { return _mm256_max_pd(x, y); }
ALWAYS_INLINE lanes smaller(lanes x, lanes y) { return _mm256_min_pd(x, y); }
ALWAYS_INLINE lanes whole_below(lanes x) { return _mm256_floor_pd(x); }
ALWAYS_INLINE lanes whole_above(lanes x) { return _mm256_ceil_pd(x); }
ALWAYS_INLINE lanes add_product(lanes sum, lanes x, lanes y) { return _mm256_fmadd_pd(x, y, sum); }
ALWAYS_INLINE flags is_above(lanes x, lanes y)
{
    return _mm256_castpd_si256(_mm256_cmp_pd(x, y, _CMP_GT_OQ));
}
ALWAYS_INLINE flags is_same(lanes x, lanes y)
{
    return _mm256_castpd_si256(_mm256_cmp_pd(x, y, _CMP_EQ_OQ));
}
ALWAYS_INLINE flags both(flags f, flags g) { return f & g; }
ALWAYS_INLINE flags except(flags f, flags g) { return _mm256_andnot_si256(g, f); }
ALWAYS_INLINE lanes choose(flags f, lanes yes, lanes no)
{
    return _mm256_blendv_pd(no, yes, _mm256_castsi256_pd(f));
}
ALWAYS_INLINE lanes only(flags f, lanes x) { return _mm256_and_pd(_mm256_castsi256_pd(f), x); }
typedef __m256i integers;
ALWAYS_INLINE integers all_integers(int64_t x) { return _mm256_set1_epi64x(x); }
ALWAYS_INLINE integers get_integers(const int64_t *from, int64_t n)
{
    if (n >= LANES) return _mm256_loadu_si256((const __m256i *)from);
    return _mm256_maskload_epi64((const long long *)from, first_lanes(n));
}
ALWAYS_INLINE flags is_higher(integers x, integers y) { return _mm256_cmpgt_epi64(x, y); }
ALWAYS_INLINE integers choose_integers(flags f, integers yes, integers no)
{
    return _mm256_blendv_epi8(no, yes, f);
}
ALWAYS_INLINE integers higher(integers x, integers y)
{
    return choose_integers(is_higher(x, y), x, y);
}
/* From 0 to 2**52 - 1: these are the last bits of a double that is 2**52 more. */
ALWAYS_INLINE lanes as_doubles(integers x)
{
    return _mm256_or_pd(_mm256_castsi256_pd(x), all(0x1p52)) - all(0x1p52);
}
ALWAYS_INLINE flags set_bytes(const uint8_t from[8])
{
    __m256i each = _mm256_cvtepu8_epi64(_mm_loadl_epi64((const __m128i *)from));
    return _mm256_cmpgt_epi64(each, _mm256_setzero_si256());
}
ALWAYS_INLINE unsigned bits(flags f)
{
    return (unsigned)_mm256_movemask_pd(_mm256_castsi256_pd(f));
}
ALWAYS_INLINE void pack(double *to, unsigned which, lanes x)
{
#define FROM(i, j, k, l) {2 * i, 2 * i + 1, 2 * j, 2 * j + 1, 2 * k, 2 * k + 1, 2 * l, 2 * l + 1}
    static const int32_t halves[16][8] = {
        FROM(0, 0, 0, 0), FROM(0, 0, 0, 0), FROM(1, 0, 0, 0), FROM(0, 1, 0, 0),
        FROM(2, 0, 0, 0), FROM(0, 2, 0, 0), FROM(1, 2, 0, 0), FROM(0, 1, 2, 0),
        FROM(3, 0, 0, 0), FROM(0, 3, 0, 0), FROM(1, 3, 0, 0), FROM(0, 1, 3, 0),
        FROM(2, 3, 0, 0), FROM(0, 2, 3, 0), FROM(1, 2, 3, 0), FROM(0, 1, 2, 3)};
#undef FROM
    __m256i from = _mm256_loadu_si256((const __m256i *)halves[which]);
    store(to, _mm256_castps_pd(_mm256_permutevar8x32_ps(_mm256_castpd_ps(x), from)));
}
ALWAYS_INLINE int n_set(unsigned which) { return __builtin_popcount(which); }
ALWAYS_INLINE lanes unlike(lanes so_far, lanes x, lanes y)
{
    return _mm256_or_pd(so_far, _mm256_xor_pd(x, y));
}
ALWAYS_INLINE int is_unlike(lanes so_far)
{
    __m256i i = _mm256_castpd_si256(so_far);
    return !_mm256_testz_si256(i, i);
}
/* The bits of doubles that are not negative are in the order of the doubles, and four units calculate
 * with integers where two compare doubles. */
ALWAYS_INLINE lanes unordered(lanes so_far, lanes low, lanes high)
{
    __m256i i = _mm256_castpd_si256(low), j = _mm256_castpd_si256(high);
    return _mm256_castsi256_pd(_mm256_castpd_si256(so_far) | i | j | _mm256_sub_epi64(j, i));
}
ALWAYS_INLINE int any_negative(lanes x) { return _mm256_movemask_pd(x) != 0; }
ALWAYS_INLINE lanes next_double(lanes x)
{
    return _mm256_castsi256_pd(_mm256_castpd_si256(x) + 1);
}
ALWAYS_INLINE lanes previous_double(lanes x)
{
    return _mm256_castsi256_pd(_mm256_castpd_si256(x) - 1);
}
ALWAYS_INLINE lanes middle_double(lanes x, lanes y)
{
    __m256i i = _mm256_castpd_si256(x), j = _mm256_castpd_si256(y);
    return _mm256_castsi256_pd(i + _mm256_srli_epi64(j - i, 1));
}
ALWAYS_INLINE lanes sums_of(const lanes row[LANES])
{
    lanes x = _mm256_unpacklo_pd(row[0], row[1]) + _mm256_unpackhi_pd(row[0], row[1]);
    lanes y = _mm256_unpacklo_pd(row[2], row[3]) + _mm256_unpackhi_pd(row[2], row[3]);
    return _mm256_permute2f128_pd(x, y, FIRST_HALF) + _mm256_permute2f128_pd(x, y, SECOND_HALF);
}
/* Rows to columns. */
ALWAYS_INLINE void transpose(lanes row[LANES])
{
    lanes even[2], odd[2];
    for (int j = 0; j < 2; ++j) {
        even[j] = _mm256_unpacklo_pd(row[2 * j], row[2 * j + 1]);
        odd[j] = _mm256_unpackhi_pd(row[2 * j], row[2 * j + 1]);
    }
    row[0] = _mm256_permute2f128_pd(even[0], even[1], FIRST_HALF);
    row[1] = _mm256_permute2f128_pd(odd[0], odd[1], FIRST_HALF);
    row[2] = _mm256_permute2f128_pd(even[0], even[1], SECOND_HALF);
    row[3] = _mm256_permute2f128_pd(odd[0], odd[1], SECOND_HALF);
}

#else

typedef double lanes;
typedef unsigned flags;

ALWAYS_INLINE lanes all(double x) { return x; }
ALWAYS_INLINE lanes load(const double *from) { return *from; }
ALWAYS_INLINE void store(double *to, lanes x) { *to = x; }
ALWAYS_INLINE void store_past(double *to, lanes x) { *to = x; }
/* Nobody asks for some of one. */
ALWAYS_INLINE lanes load_some(const double *from, int64_t n) { return n > 0 ? *from : 0.0; }
ALWAYS_INLINE void store_some(double *to, int64_t n, lanes x)
{
    if (n > 0) *to = x;
}
ALWAYS_INLINE lanes larger(lanes x, lanes y) { return x > y ? x : y; }
ALWAYS_INLINE lanes smaller(lanes x, lanes y) { return x < y ? x : y; }
#if defined(__SSE4_1__) || defined(__aarch64__)
ALWAYS_INLINE lanes whole_below(lanes x) { return floor(x); }
/* Not -0, which a division would keep. */
ALWAYS_INLINE lanes whole_above(lanes x) { return ceil(x) + 0.0; }
#else
/* Adding 2**52 rounds to a whole number, for 0 <= x: for processors without an instruction for
 * it. From 2**52 on every double is whole. Nobody asks for less than 0 but to round up from
 * above -1. */
ALWAYS_INLINE lanes nearest_whole(lanes x) { return x < 0x1p52 ? (x + 0x1p52) - 0x1p52 : x; }
ALWAYS_INLINE lanes whole_below(lanes x)
{
    double n = nearest_whole(x);
    return n - (n > x ? 1.0 : 0.0);
}
ALWAYS_INLINE lanes whole_above(lanes x)
{
    double n = nearest_whole(x < 0.0 ? 0.0 : x);
    return n + (n < x ? 1.0 : 0.0);
}
#endif
ALWAYS_INLINE lanes add_product(lanes sum, lanes x, lanes y) { return sum + x * y; }
ALWAYS_INLINE flags is_above(lanes x, lanes y) { return x > y; }
ALWAYS_INLINE flags is_same(lanes x, lanes y) { return x == y; }
ALWAYS_INLINE flags both(flags f, flags g) { return f & g; }
ALWAYS_INLINE flags except(flags f, flags g) { return f & !g; }
ALWAYS_INLINE lanes choose(flags f, lanes yes, lanes no) { return f ? yes : no; }
ALWAYS_INLINE lanes only(flags f, lanes x) { return f ? x : 0.0; }
typedef int64_t integers;
ALWAYS_INLINE integers all_integers(int64_t x) { return x; }
ALWAYS_INLINE integers get_integers(const int64_t *from, int64_t n) { return n > 0 ? *from : 0; }
ALWAYS_INLINE flags is_higher(integers x, integers y) { return x > y; }
ALWAYS_INLINE integers higher(integers x, integers y) { return x > y ? x : y; }
ALWAYS_INLINE integers choose_integers(flags f, integers yes, integers no) { return f ? yes : no; }
ALWAYS_INLINE lanes as_doubles(integers x) { return (double)x; }
ALWAYS_INLINE unsigned bits(flags f) { return f; }
ALWAYS_INLINE void pack(double *to, unsigned which, lanes x)
{
    (void)which;
    *to = x;
}
ALWAYS_INLINE int n_set(unsigned which) { return (int)which; }
ALWAYS_INLINE lanes unlike(lanes so_far, lanes x, lanes y)
{
    return x == y && (signbit(x) != 0) == (signbit(y) != 0) ? so_far : 1.0;
}
ALWAYS_INLINE int is_unlike(lanes so_far) { return so_far != 0.0; }
ALWAYS_INLINE lanes unordered(lanes so_far, lanes low, lanes high)
{
    return smaller(so_far, smaller(low, high - low));
}
ALWAYS_INLINE int any_negative(lanes x) { return x < 0.0; }
ALWAYS_INLINE flags set_bytes(const uint8_t from[8]) { return from[0] != 0; }
ALWAYS_INLINE lanes doubles_on(lanes x, int64_t n)
{
    int64_t i;
    memcpy(&i, &x, sizeof i);
    i += n;
    memcpy(&x, &i, sizeof x);
    return x;
}
ALWAYS_INLINE lanes next_double(lanes x) { return doubles_on(x, 1); }
ALWAYS_INLINE lanes previous_double(lanes x) { return doubles_on(x, -1); }
ALWAYS_INLINE lanes middle_double(lanes x, lanes y)
{
    int64_t i, j;
    memcpy(&i, &x, sizeof i);
    memcpy(&j, &y, sizeof j);
    i += (j - i) / 2;
    memcpy(&x, &i, sizeof x);
    return x;
}
ALWAYS_INLINE lanes sums_of(const lanes row[LANES]) { return row[0]; }
ALWAYS_INLINE void transpose(lanes row[LANES]) { (void)row; }

#endif

ALWAYS_INLINE double at_least(double x, double bound) { return x > bound ? x : bound; }
ALWAYS_INLINE double at_most(double x, double bound) { return x < bound ? x : bound; }

/* x + y and x - y, of registers of 512 bits by a multiplication by 1. Of the four units of a Zen 4
 * core, which take two cycles for such a register, two add, round and compare for the larger, the
 * other two multiply: where there is little to multiply, these may as well add. */
ALWAYS_INLINE lanes plus(lanes x, lanes y)
{
#if LANES == 8
    return add_product(x, y, all(1.0));
#else
    return x + y;
#endif
}
ALWAYS_INLINE lanes minus(lanes x, lanes y)
{
#if LANES == 8
    return add_product(x, y, all(-1.0));
#else
    return x - y;
#endif
}

/* All lanes, or the first n where n is less; the others are 0, or stay. */
ALWAYS_INLINE lanes get(const double *from, int64_t n)
{
    return n >= LANES ? load(from) : load_some(from, n);
}
ALWAYS_INLINE void put(double *to, int64_t n, lanes x)
{
    if (n >= LANES) store(to, x);
    else store_some(to, n, x);
}

/* The same for any n, also below 0. A mask costs nothing where a register has eight lanes, and
 * where it has four a store with one costs more than a branch. */
ALWAYS_INLINE void store_any(double *to, int64_t n, lanes x)
{
    if (LANES == 8) store_some(to, n, x);
    else if (n > 0) put(to, n, x);
}

/* Which of the first n bytes, as far as there are lanes, are not 0. */
ALWAYS_INLINE flags get_set(const uint8_t *from, int64_t n)
{
    uint8_t each[8] = {0};
    if (n >= LANES) memcpy(each, from, LANES);
    else for (int64_t j = 0; j < n; ++j) each[j] = from[j];
    return set_bytes(each);
}

ALWAYS_INLINE double lane(lanes x, int j)
{
    double each[LANES];
    store(each, x);
    return each[j];
}
ALWAYS_INLINE double sum(lanes x)
{
    double each[LANES], total = 0.0;
    store(each, x);
    for (int j = 0; j < LANES; ++j) total += each[j];
    return total;
}

ALWAYS_INLINE double most_of(lanes x)
{
    double each[LANES], most = 0.0;
    store(each, x);
    for (int j = 0; j < LANES; ++j) most = at_least(most, each[j]);
    return most;
}

ALWAYS_INLINE double least_of(lanes x)
{
    double each[LANES], least = INFINITY;
    store(each, x);
    for (int j = 0; j < LANES; ++j) least = at_most(least, each[j]);
    return least;
}
ALWAYS_INLINE int64_t highest_of(integers x)
{
    int64_t each[LANES], most = INT64_MIN;
    memcpy(each, &x, sizeof each);
    for (int j = 0; j < LANES; ++j) most = each[j] > most ? each[j] : most;
    return most;
}

ALWAYS_INLINE int64_t total_of(integers x)
{
    int64_t each[LANES], total = 0;
    memcpy(each, &x, sizeof each);
    for (int j = 0; j < LANES; ++j) total += each[j];
    return total;
}

#endif
