/* One vector register, and nothing else: its element, its lanes, partial loads and stores, exp and its kin.
 *
 * This is the only C of the project, because only a C declaration can name a vector type. CMake compiles
 * every kernel once per instruction set and precision; this header turns the compiler's target and
 * FASTCONV_DOUBLE into `real`, `vreal` and `LANES`, so that one Cython source serves all builds.
 * Vectors are GCC/Clang vector extensions: arithmetic is written with the ordinary operators.
 */
#pragma once
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#if defined(FASTCONV_DOUBLE)
typedef double real;
typedef int64_t ireal;
#else
typedef float real;
typedef int32_t ireal;
#endif

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif

#if defined(__AVX512F__) || defined(__aarch64__)
#define VECTOR_REGISTERS 32
#else
#define VECTOR_REGISTERS 16
#endif

typedef real vreal __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(real)), may_alias));
typedef ireal vint __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(real)), may_alias));
enum { LANES = VECTOR_BYTES / (int)sizeof(real) };

/* Rows of the micro-kernel tile for 1 to 4 vectors of columns: rows x vectors accumulators, the vectors
 * themselves and one broadcast must fit the register file. */
#if VECTOR_REGISTERS == 32
enum { TILE_ROWS_1 = 14, TILE_ROWS_2 = 14, TILE_ROWS_3 = 9, TILE_ROWS_4 = 6 };
enum { DOT_ROWS = 4, DOT_COLUMNS = 6 };
enum { PANEL_VECTORS = 4 };
#else
enum { TILE_ROWS_1 = 8, TILE_ROWS_2 = 6, TILE_ROWS_3 = 4, TILE_ROWS_4 = 2 };
enum { DOT_ROWS = 3, DOT_COLUMNS = 4 };
enum { PANEL_VECTORS = 2 };
#endif

/* Bounds of every pointer walk, checked in a Debug build only. */
#if defined(FASTCONV_DEBUG)
#define CHECK_BOUNDS(low, high, size)                                                                    \
    do {                                                                                                 \
        if ((low) < 0 || (high) > (size)) {                                                              \
            fprintf(stderr, "fastconv: %s:%d: [%lld, %lld) leaves a buffer of %lld elements\n", __FILE__, \
                    __LINE__, (long long)(low), (long long)(high), (long long)(size));                   \
            abort();                                                                                     \
        }                                                                                                \
    } while (0)
#else
#define CHECK_BOUNDS(low, high, size) ((void)(low), (void)(high), (void)(size))
#endif

static inline vreal vload(const real *p) { return *(const vreal *)p; }

/* A load that stays one load: GCC otherwise repeats it as an operand of every multiply-add that uses it. */
static inline vreal vload_once(const real *p)
{
    vreal v = vload(p);
#if defined(__x86_64__)
    __asm__("" : "+v"(v));
#endif
    return v;
}

/* 1 for n >= 0, as GCC learns only once it has unrolled the loops inside: the outermost loops of a function it unrolls
 * too late for what they fill to live in registers alone. */
static inline int once(ptrdiff_t n) { return 1 + (__builtin_constant_p(n) && n < 0); }

/* A pointer that stays one register: GCC otherwise adds its two terms anew at every use. */
static inline const real *kept(const real *p)
{
    __asm__("" : "+r"(p));
    return p;
}

/* LANES/2 elements from each of two places. */
#if defined(__AVX512F__)
enum { HALVES = 1 };
static inline vreal vload_halves(const real *p, const real *q)
{
    const __m512d low = _mm512_castpd256_pd512(_mm256_loadu_pd((const double *)p));
    return (vreal)_mm512_insertf64x4(low, _mm256_loadu_pd((const double *)q), 1);
}
#elif defined(__AVX__)
enum { HALVES = 1 };
static inline vreal vload_halves(const real *p, const real *q)
{
    const __m256 low = _mm256_castps128_ps256(_mm_loadu_ps((const float *)p));
    return (vreal)_mm256_insertf128_ps(low, _mm_loadu_ps((const float *)q), 1);
}
#else
enum { HALVES = 0 }; /* too few lanes for it to pay: never called */
static inline vreal vload_halves(const real *p, const real *q)
{
    vreal v = {0};
    memcpy(&v, p, sizeof v / 2);
    memcpy((char *)&v + sizeof v / 2, q, sizeof v / 2);
    return v;
}
#endif

static inline void vstore(real *p, vreal v) { *(vreal *)p = v; }

static inline vreal vset(real s) { return s - (vreal){0}; }

/* The first n < LANES elements at p, zeros after them: touches no byte beyond. */
static inline vreal vload_partial(const real *p, int n)
{
#if defined(__AVX512F__) && defined(FASTCONV_DOUBLE)
    return (vreal)_mm512_maskz_loadu_pd((__mmask8)((1u << n) - 1u), p);
#elif defined(__AVX512F__)
    return (vreal)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1u), p);
#else
    vreal v = {0};
    memcpy(&v, p, (size_t)n * sizeof(real));
    return v;
#endif
}

/* The first n < LANES elements at p, `rest` after them. */
static inline vreal vload_padded(const real *p, int n, real rest)
{
#if defined(__AVX512F__) && defined(FASTCONV_DOUBLE)
    return (vreal)_mm512_mask_loadu_pd((__m512d)vset(rest), (__mmask8)((1u << n) - 1u), p);
#elif defined(__AVX512F__)
    return (vreal)_mm512_mask_loadu_ps((__m512)vset(rest), (__mmask16)((1u << n) - 1u), p);
#else
    vreal v = vset(rest);
    memcpy(&v, p, (size_t)n * sizeof(real));
    return v;
#endif
}

static inline void vstore_partial(real *p, vreal v, int n)
{
#if defined(__AVX512F__) && defined(FASTCONV_DOUBLE)
    _mm512_mask_storeu_pd(p, (__mmask8)((1u << n) - 1u), (__m512d)v);
#elif defined(__AVX512F__)
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1u), (__m512)v);
#else
    memcpy(p, &v, (size_t)n * sizeof(real));
#endif
}

/* The first n <= LANES lanes, zeros after them. */
static inline vreal vfirst(vreal v, int n)
{
#if defined(__AVX512F__) && defined(FASTCONV_DOUBLE)
    return (vreal)_mm512_maskz_mov_pd((__mmask8)((1u << n) - 1u), (__m512d)v);
#elif defined(__AVX512F__)
    return (vreal)_mm512_maskz_mov_ps((__mmask16)((1u << n) - 1u), (__m512)v);
#else
    vreal first = {0};
    memcpy(&first, &v, (size_t)n * sizeof(real));
    return first;
#endif
}

/* Sum of the lanes, always in the same order: halves are added until one is left. */
static inline real vsum(vreal v)
{
#if defined(__AVX512F__) && defined(FASTCONV_DOUBLE)
    const __m256d half = _mm256_add_pd(_mm512_castpd512_pd256((__m512d)v), _mm512_extractf64x4_pd((__m512d)v, 1));
    const __m128d quarter = _mm_add_pd(_mm256_castpd256_pd128(half), _mm256_extractf128_pd(half, 1));
    return _mm_cvtsd_f64(_mm_add_sd(quarter, _mm_unpackhi_pd(quarter, quarter)));
#elif defined(__AVX512F__)
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256((__m512)v), _mm512_extractf32x8_ps((__m512)v, 1));
    const __m128 quarter = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    const __m128 eighth = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
    return _mm_cvtss_f32(_mm_add_ss(eighth, _mm_shuffle_ps(eighth, eighth, 1)));
#else
    real part[LANES];
    memcpy(part, &v, sizeof v);
    for (int width = LANES / 2; width > 0; width /= 2)
        for (int i = 0; i < width; i++)
            part[i] += part[i + width];
    return part[0];
#endif
}

/* The largest lane; whether NaN counts is not said. */
static inline real vmax(vreal v)
{
#if defined(__AVX512F__) && defined(FASTCONV_DOUBLE)
    return _mm512_reduce_max_pd((__m512d)v);
#elif defined(__AVX512F__)
    return _mm512_reduce_max_ps((__m512)v);
#else
    real part[LANES];
    memcpy(part, &v, sizeof v);
    for (int width = LANES / 2; width > 0; width /= 2)
        for (int i = 0; i < width; i++)
            part[i] = part[i] < part[i + width] ? part[i + width] : part[i];
    return part[0];
#endif
}

/* The first cache line that starts at or after p: a vector stored across two lines is slow to store and slower to
 * load again. Whoever allocates asks for CACHE_LINE bytes more. */
enum { CACHE_LINE = 64 };
static inline real *aligned(void *p) { return (real *)(((uintptr_t)p + CACHE_LINE - 1) & ~(uintptr_t)(CACHE_LINE - 1)); }

/* count, rounded up to whole vectors. */
static inline ptrdiff_t whole_vectors(ptrdiff_t count) { return (count + LANES - 1) / LANES * LANES; }

/* Sum of an array: short chains of lanes, added up in double. */
static inline double sum_of(const real *p, ptrdiff_t count)
{
    double total = 0;
    ptrdiff_t i = 0;
    while (i + LANES <= count) {
        const ptrdiff_t block = count - i < 256 * LANES ? count - i : 256 * LANES;
        const ptrdiff_t end = i + block / LANES * LANES;
        vreal sums = {0};
        for (; i < end; i += LANES)
            sums += vload(p + i);
        total += vsum(sums);
    }
    for (; i < count; i++)
        total += p[i];
    return total;
}

static inline vreal vselect(vint mask, vreal yes, vreal no) { return (vreal)((mask & (vint)yes) | (~mask & (vint)no)); }

/* Lane numbers of shuffles of two vectors: every second lane of both from the first or the second on, and the lower
 * or upper lanes of both in turn. */
#if VECTOR_BYTES == 64 && !defined(FASTCONV_DOUBLE)
#define LOG2_LANES 4
#define EVEN_LANES 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define ODD_LANES 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#define LOWER_IN_TURN 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define UPPER_IN_TURN 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif VECTOR_BYTES == 64 || (VECTOR_BYTES == 32 && !defined(FASTCONV_DOUBLE))
#define LOG2_LANES 3
#define EVEN_LANES 0, 2, 4, 6, 8, 10, 12, 14
#define ODD_LANES 1, 3, 5, 7, 9, 11, 13, 15
#define LOWER_IN_TURN 0, 8, 1, 9, 2, 10, 3, 11
#define UPPER_IN_TURN 4, 12, 5, 13, 6, 14, 7, 15
#elif VECTOR_BYTES == 32 || !defined(FASTCONV_DOUBLE)
#define LOG2_LANES 2
#define EVEN_LANES 0, 2, 4, 6
#define ODD_LANES 1, 3, 5, 7
#define LOWER_IN_TURN 0, 4, 1, 5
#define UPPER_IN_TURN 2, 6, 3, 7
#else
#define LOG2_LANES 1
#define EVEN_LANES 0, 2
#define ODD_LANES 1, 3
#define LOWER_IN_TURN 0, 2
#define UPPER_IN_TURN 1, 3
#endif
#if defined(__clang__)
#define VSHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define VSHUFFLE(a, b, ...) __builtin_shuffle(a, b, (vint){__VA_ARGS__})
#endif

/* Every second lane of a and b, one after the other, from the first or from the second on. */
static inline vreal veven(vreal a, vreal b) { return VSHUFFLE(a, b, EVEN_LANES); }

static inline vreal vodd(vreal a, vreal b) { return VSHUFFLE(a, b, ODD_LANES); }

/* The lower halves of a and b, lane by lane in turn: a0 b0 a1 b1 ...; and their upper halves. */
static inline vreal vlower_in_turn(vreal a, vreal b) { return VSHUFFLE(a, b, LOWER_IN_TURN); }

static inline vreal vupper_in_turn(vreal a, vreal b) { return VSHUFFLE(a, b, UPPER_IN_TURN); }

/* Lanes of a (0 .. LANES - 1) and b (LANES .. 2 LANES - 1) by number. */
#if defined(__AVX512F__)
enum { PERMUTES = 1 };
static inline vreal vpermute(vreal a, vreal b, vint lanes)
{
#if defined(FASTCONV_DOUBLE)
    return (vreal)_mm512_permutex2var_pd((__m512d)a, (__m512i)lanes, (__m512d)b);
#else
    return (vreal)_mm512_permutex2var_ps((__m512)a, (__m512i)lanes, (__m512)b);
#endif
}
#else
enum { PERMUTES = 0 }; /* several instructions: never called */
static inline vreal vpermute(vreal a, vreal b, vint lanes)
{
    vreal v;
    for (int i = 0; i < LANES; i++)
        v[i] = lanes[i] < LANES ? a[lanes[i]] : b[lanes[i] - LANES];
    return v;
}
#endif

/* LANES vectors of LANES elements, transposed. A round that takes vector i and vector i + LANES/2 in turn rotates the
 * bits of every element's (vector, lane) by one: after log2(LANES) rounds the two have changed places. */
static inline void vtranspose(vreal v[LANES])
{
    vreal w[LANES];
    for (int round = 0; round < LOG2_LANES; round++) {
        for (int i = 0; i < LANES / 2; i++) {
            w[2 * i] = vlower_in_turn(v[i], v[i + LANES / 2]);
            w[2 * i + 1] = vupper_in_turn(v[i], v[i + LANES / 2]);
        }
        for (int i = 0; i < LANES; i++)
            v[i] = w[i];
    }
}

/* target[k*step + n] = rows[n*pitch + k] for n, k < LANES. */
static inline void vtranspose_block(const real *rows, ptrdiff_t pitch, real *target, ptrdiff_t step)
{
#if defined(__AVX512F__) && !defined(FASTCONV_DOUBLE)
    /* Four rows, four apart, meet in one register as they are loaded; the rest stays within quarters. */
    const float *first[4];
    for (int i = 0; i < 4; i++) {
        first[i] = rows + i * pitch;
        __asm__("" : "+r"(first[i])); /* four pointers and three steps, not sixteen pointers */
    }
    for (int k = 0; k < LANES; k += 4) {
        __m512 quarters[4];
        for (int i = 0; i < 4; i++) {
            const float *p = first[i] + k;
            quarters[i] = _mm512_castps128_ps512(_mm_loadu_ps(p));
            quarters[i] = _mm512_insertf32x4(quarters[i], _mm_loadu_ps(p + 4 * pitch), 1);
            quarters[i] = _mm512_insertf32x4(quarters[i], _mm_loadu_ps(p + 8 * pitch), 2);
            quarters[i] = _mm512_insertf32x4(quarters[i], _mm_loadu_ps(p + 12 * pitch), 3);
        }
        const __m512d a = (__m512d)_mm512_unpacklo_ps(quarters[0], quarters[1]);
        const __m512d b = (__m512d)_mm512_unpackhi_ps(quarters[0], quarters[1]);
        const __m512d c = (__m512d)_mm512_unpacklo_ps(quarters[2], quarters[3]);
        const __m512d d = (__m512d)_mm512_unpackhi_ps(quarters[2], quarters[3]);
        vstore(target + k * step, (vreal)_mm512_unpacklo_pd(a, c));
        vstore(target + (k + 1) * step, (vreal)_mm512_unpackhi_pd(a, c));
        vstore(target + (k + 2) * step, (vreal)_mm512_unpacklo_pd(b, d));
        vstore(target + (k + 3) * step, (vreal)_mm512_unpackhi_pd(b, d));
    }
#else
    vreal v[LANES];
    for (int n = 0; n < LANES; n++)
        v[n] = vload(rows + n * pitch);
    vtranspose(v);
    for (int k = 0; k < LANES; k++)
        vstore(target + k * step, v[k]);
#endif
}

static inline vreal vload_some(const real *p, int n) { return n == LANES ? vload(p) : vload_partial(p, n); }

static inline void vstore_some(real *p, vreal v, int n)
{
    if (n == LANES)
        vstore(p, v);
    else
        vstore_partial(p, v, n);
}

/* target[k*step + n] = rows[n*pitch + k] for n < count and k < columns, each at most LANES. */
static inline void vtranspose_part(const real *rows, ptrdiff_t pitch, int count, int columns, real *target,
                                   ptrdiff_t step)
{
    if (count == LANES && columns == LANES) {
        vtranspose_block(rows, pitch, target, step);
        return;
    }
    vreal v[LANES];
    for (int n = 0; n < LANES; n++)
        v[n] = n < count ? vload_some(rows + n * pitch, columns) : (vreal){0};
    vtranspose(v);
    for (int k = 0; k < LANES; k++)
        if (k < columns)
            vstore_some(target + k * step, v[k], count);
}

/* memcpy for rows that are mostly a few vectors long, without the call. */
static inline void vcopy(real *target, const real *source, ptrdiff_t count)
{
    ptrdiff_t i = 0;
    for (; i + LANES <= count; i += LANES)
        vstore(target + i, vload(source + i));
    if (i < count)
        vstore_partial(target + i, vload_partial(source + i, (int)(count - i)), (int)(count - i));
}

/* Ask for the cache lines of count elements ahead of their use: into the second level, the first is full. */
static inline void vprefetch(const real *p, ptrdiff_t count)
{
    for (ptrdiff_t i = 0; i < count; i += CACHE_LINE / (ptrdiff_t)sizeof(real))
        __builtin_prefetch(p + i, 0, 2);
    __builtin_prefetch(p + count - 1, 0, 2);
}

/* One such line; the address need not be valid. */
static inline void vprefetch_line(const real *p) { __builtin_prefetch(p, 0, 2); }

/* p[0], p[stride], ... n <= LANES of them: touches nothing past the last. */
static inline vreal vload_strided(const real *p, ptrdiff_t stride, int n)
{
    if (stride == 1)
        return vload_some(p, n);
    if (stride == 2) {
        const int touched = 2 * n - 1;
        const vreal zero = {0};
        if (touched <= LANES)
            return veven(vload_some(p, touched), zero);
        return veven(vload(p), vload_partial(p + LANES, touched - LANES));
    }
    vreal v = {0};
    for (int i = 0; i < n; i++)
        v[i] = p[i * stride];
    return v;
}

/* n <= LANES pairs of neighbours: the first of each, and the second of each. */
static inline void vload_pairs(const real *p, int n, vreal *first, vreal *second)
{
    vreal low = {0}, high = {0};
    if (2 * n >= LANES) {
        low = vload(p);
        high = vload_some(p + LANES, 2 * n - LANES);
    } else {
        low = vload_partial(p, 2 * n);
    }
    *first = veven(low, high);
    *second = vodd(low, high);
}

/* The first n <= 2 LANES of first[0], second[0], first[1], second[1] and so on. */
static inline void vstore_in_turn(real *p, vreal first, vreal second, int n)
{
    const vreal low = vlower_in_turn(first, second), high = vupper_in_turn(first, second);
    if (n >= LANES) {
        vstore(p, low);
        vstore_some(p + LANES, high, n - LANES);
    } else {
        vstore_partial(p, low, n);
    }
}

static inline void vstore_pairs(real *p, vreal first, vreal second, int n) { vstore_in_turn(p, first, second, 2 * n); }

/* The first n lanes to p[0], p[stride], ...: touches nothing between or past them. */
static inline void vstore_strided(real *p, vreal v, ptrdiff_t stride, int n)
{
    if (stride == 1) {
        vstore_some(p, v, n);
        return;
    }
#if defined(__AVX512F__)
    if (stride == 2) {
        const unsigned every_second = 0x55555555u & (unsigned)((1ull << (2 * n)) - 1);
        const vreal lower = vlower_in_turn(v, v), upper = vupper_in_turn(v, v);
#if defined(FASTCONV_DOUBLE)
        _mm512_mask_storeu_pd(p, (__mmask8)every_second, (__m512d)lower);
        _mm512_mask_storeu_pd(p + LANES, (__mmask8)(every_second >> LANES), (__m512d)upper);
#else
        _mm512_mask_storeu_ps(p, (__mmask16)every_second, (__m512)lower);
        _mm512_mask_storeu_ps(p + LANES, (__mmask16)(every_second >> LANES), (__m512)upper);
#endif
        return;
    }
#endif
    for (int i = 0; i < n; i++)
        p[i * stride] = v[i];
}

/* Lanes where `best` stays before `value`: NaN is larger than every number, and of equals the first stays. */
static inline vint vstays(vreal best, vreal value) { return (value <= best) | (best != best); }

/* The larger of two, NaN being larger than every number. */
static inline vreal vmaximum(vreal a, vreal b)
{
#if defined(__AVX512F__) && defined(FASTCONV_DOUBLE)
    const __mmask8 nan = _mm512_cmp_pd_mask((__m512d)b, (__m512d)b, _CMP_UNORD_Q);
    return (vreal)_mm512_mask_mov_pd(_mm512_max_pd((__m512d)b, (__m512d)a), nan, (__m512d)b);
#elif defined(__AVX512F__)
    const __mmask16 nan = _mm512_cmp_ps_mask((__m512)b, (__m512)b, _CMP_UNORD_Q);
    return (vreal)_mm512_mask_mov_ps(_mm512_max_ps((__m512)b, (__m512)a), nan, (__m512)b);
#else
    return vselect(vstays(a, b), a, b);
#endif
}

/* v where the mask is set, else zero. */
static inline vreal vkeep(vint mask, vreal v) { return (vreal)(mask & (vint)v); }

static inline vint vset_int(ireal s) { return s - (vint){0}; }

static inline vint vselect_int(vint mask, vint yes, vint no) { return (mask & yes) | (~mask & no); }

static inline void vstore_int(ireal *p, vint v) { *(vint *)p = v; }

static inline vint vload_int(const ireal *p) { return *(const vint *)p; }

/* n <= LANES integers from 0 to 255, as bytes. */
typedef uint8_t vbytes __attribute__((vector_size(LANES)));

static inline void vstore_bytes(uint8_t *p, vint v, int n)
{
#if defined(__AVX512F__) && defined(FASTCONV_DOUBLE)
    _mm512_mask_cvtepi64_storeu_epi8(p, (__mmask8)((1u << n) - 1u), (__m512i)v);
#elif defined(__AVX512F__)
    _mm512_mask_cvtepi32_storeu_epi8(p, (__mmask16)((1u << n) - 1u), (__m512i)v);
#else
    const vbytes bytes = __builtin_convertvector(v, vbytes);
    memcpy(p, &bytes, (size_t)n);
#endif
}

static inline vint vload_bytes(const uint8_t *p, int n)
{
#if defined(__AVX512F__) && defined(FASTCONV_DOUBLE)
    return (vint)_mm512_cvtepu8_epi64(_mm_maskz_loadu_epi8((__mmask16)((1u << n) - 1u), p));
#elif defined(__AVX512F__)
    return (vint)_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8((__mmask16)((1u << n) - 1u), p));
#else
    vbytes bytes = {0};
    memcpy(&bytes, p, (size_t)n);
    return __builtin_convertvector(bytes, vint);
#endif
}

static inline vint vequal(vint a, vint b) { return a == b; }

static inline vreal vabs(vreal x)
{
    const vint sign = (vint)vset((real)-0.0);
    return (vreal)((vint)x & ~sign);
}

/* 2^n for integral n in the range of normal exponents. */
static inline vreal vpow2(vreal n)
{
#if defined(FASTCONV_DOUBLE)
    return (vreal)((__builtin_convertvector(n, vint) + 1023) << 52);
#else
    return (vreal)((__builtin_convertvector(n, vint) + 127) << 23);
#endif
}

static inline vreal vround(vreal x)
{
#if defined(FASTCONV_DOUBLE)
    const vreal magic = vset(6755399441055744.0); /* 1.5 * 2^52 */
#else
    const vreal magic = vset(12582912.0f); /* 1.5 * 2^23 */
#endif
    return (x + magic) - magic; /* value-changing reassociation is off in every build */
}

/* e^r - 1 on |r| <= ln(2)/2 and the n of x = n ln(2) + r. The polynomial stands for (e^r - 1 - r)/r^2: in double its
 * Taylor series, in float the minimax polynomial of the Cephes library; what it leaves is below half an ulp. */
static inline vreal vexpm1_reduced(vreal x, vreal *n_out)
{
#if defined(FASTCONV_DOUBLE)
    const vreal n = vround(x * 1.4426950408889634);
    const vreal r = (x - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10;
    vreal p = vset(1.0 / 87178291200.0);
    p = p * r + 1.0 / 6227020800.0;
    p = p * r + 1.0 / 479001600.0;
    p = p * r + 1.0 / 39916800.0;
    p = p * r + 1.0 / 3628800.0;
    p = p * r + 1.0 / 362880.0;
    p = p * r + 1.0 / 40320.0;
    p = p * r + 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
#else
    const vreal n = vround(x * 1.44269504f);
    const vreal r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    vreal p = vset(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
#endif
    *n_out = n;
    return r + r * r * p;
}

/* x between low and high; NaN stays. */
static inline vreal vclamp(vreal x, real low, real high)
{
#if defined(__AVX512F__) && defined(FASTCONV_DOUBLE)
    return (vreal)_mm512_max_pd((__m512d)vset(low), _mm512_min_pd((__m512d)vset(high), (__m512d)x));
#elif defined(__AVX512F__)
    return (vreal)_mm512_max_ps((__m512)vset(low), _mm512_min_ps((__m512)vset(high), (__m512)x));
#else
    x = vselect(x > high, vset(high), x);
    return vselect(x < low, vset(low), x);
#endif
}

/* e^x over the whole range: overflow gives infinity, underflow is gradual, NaN stays NaN. */
static inline vreal vexp(vreal x)
{
#if defined(FASTCONV_DOUBLE)
    const real highest = 709.79, lowest = -745.2;
#else
    const real highest = 88.73f, lowest = -104.0f;
#endif
    vreal n;
    const vreal e = vexpm1_reduced(vclamp(x, lowest, highest), &n) + 1;
#if defined(__AVX512F__) && defined(FASTCONV_DOUBLE)
    return (vreal)_mm512_scalef_pd((__m512d)e, (__m512d)n);
#elif defined(__AVX512F__)
    return (vreal)_mm512_scalef_ps((__m512)e, (__m512)n);
#else
    /* 2^n in two factors, each a normal number, so that subnormal results are rounded once. */
    const vreal half = vround(n * (real)0.5);
    const vreal scaled = e * vpow2(half) * vpow2(n - half);
    return vselect(x == x, scaled, x);
#endif
}

/* a / b for 1 <= b <= 2, to within an ulp: Newton's steps from an estimate take half the time of a division. */
static inline vreal vdivide(vreal a, vreal b)
{
#if defined(__AVX512F__) && defined(FASTCONV_DOUBLE)
    vreal inverse = (vreal)_mm512_rcp14_pd((__m512d)b);
    inverse += inverse * (1 - b * inverse);
#elif defined(__AVX512F__)
    vreal inverse = (vreal)_mm512_rcp14_ps((__m512)b);
#endif
#if defined(__AVX512F__)
    inverse += inverse * (1 - b * inverse);
    const vreal quotient = a * inverse;
    return quotient + inverse * (a - b * quotient);
#else
    return a / b;
#endif
}

/* 1 / (1 + e^-x), from e^-|x| so that nothing overflows and small results keep their digits. */
static inline vreal vsigmoid(vreal x)
{
    const vreal e = vexp(-vabs(x));
    return vdivide(vselect(x < 0, e, vset(1)), 1 + e);
}

/* tanh|x| = -m / (m + 2) with m = e^(-2|x|) - 1, which is exact to the last digits near zero too. */
static inline vreal vtanh(vreal x)
{
#if defined(FASTCONV_DOUBLE)
    const real saturation = 22;
#else
    const real saturation = 10;
#endif
    vreal n;
    const vreal p = vexpm1_reduced(-2 * vclamp(vabs(x), 0, saturation), &n); /* NaN where x is */
    const vreal scale = vpow2(n);
    const vreal m = scale * p + (scale - 1);
    const vint t = (vint)vdivide(m, m + 2), sign = (vint)vset((real)-0.0);
    return (vreal)((t & ~sign) | ((vint)x & sign));
}

/* The activations that a kernel can apply as it stores. The numbers are those of python's _validation. */
enum { LINEAR = 0, RELU = 1, LEAKY_RELU = 2, SIGMOID = 3, TANH = 4 };

static inline vreal vactivate(vreal x, int activation, real slope)
{
    switch (activation) {
    case RELU:
        return vselect(x < 0, vset(0), x); /* NaN is not below zero: it stays */
    case LEAKY_RELU:
        return vselect(x < 0, slope * x, x);
    case SIGMOID:
        return vsigmoid(x);
    case TANH:
        return vtanh(x);
    default:
        return x;
    }
}

/* The derivative of an activation, written with its output y. */
static inline vreal vactivate_backward(vreal grad, vreal y, int activation, real slope)
{
    switch (activation) {
    case RELU:
        return vselect(y <= 0, vset(0), grad); /* an output that is NaN lets the gradient pass */
    case LEAKY_RELU:
        return vselect(y > 0, grad, slope * grad);
    case SIGMOID:
        return grad * (y * (1 - y));
    case TANH:
        return grad * (1 - y * y);
    default:
        return grad;
    }
}
