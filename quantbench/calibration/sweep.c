/* One sweep over an activation: |x|, its maximum, NaN and infinity, and the histogram of quantbench/calibration/
 * histogram.py, in a single reading of the tensor. No Python in here: called through ctypes, so without the GIL.
 *
 * A block of the tensor that fits in the L1 cache is read twice: for the largest |x| (as bits: for non-negative floats
 * the order of the bits is the order of the values, infinity is above all of them and NaN above infinity), which says
 * whether the grid must grow, and for the indices. Zeros, half of a ReLU's output, are not scattered but counted by
 * leaving them out. Four private tables keep increments of the same bin from waiting for each other.
 */
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#include <immintrin.h>
#define HAVE_AVX2 1
#endif

#define BITS 12
#define BINS (1 << BITS)
#define TABLES 4
#define BLOCK 2048
/* Each table gets a quarter of what is counted, and the first up to seven more of each block: below 65536. */
#define MOST_PENDING (TABLES * 64000u - BLOCK)
#define MIN_EXPONENT (-126)
#define INFINITE 0x7f800000u
#define NOT_A_NUMBER 0x7fc00000u

enum { FLOAT32 = 0, FLOAT16 = 1, BFLOAT16 = 2 };

/* One slice of a tensor, and the row of the shared state that it counts into. */
typedef struct {
    const void *data;
    int64_t size;
    int32_t dtype;
    int32_t row;
} Slice;

typedef struct {
    const Slice *slices;
    int64_t count;
    int64_t next;      /* first slice that no thread has taken yet */
    int64_t *counts;   /* [rows, BINS] */
    int32_t *exponents; /* [rows] */
    uint32_t *maxima;  /* [rows], bits of a float32 */
    char *locks;       /* [rows], zero */
} Job;

typedef struct {
    uint16_t table[TABLES][BINS];
    int64_t zeros; /* elements of bin 0 that are in no table */
    int64_t total[BINS];
    int32_t exponent;
    uint32_t maximum;
    int32_t counted; /* whether `total` holds anything; if not it is not even zero */
    uint32_t pending; /* elements in `table`, which holds 16 bits a bin, so that all four fit in the L1 cache */
} Local;

const char *quantbench_sweep_fingerprint(void) { return FINGERPRINT; }

static float from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static int32_t exponent_for(uint32_t bits) {
    int32_t exponent = (int32_t)(bits >> 23) - 126 - BITS; /* frexp's exponent less BITS; subnormals end in the floor */
    return exponent < MIN_EXPONENT ? MIN_EXPONENT : exponent;
}

static void fold(int64_t *counts, int32_t steps) {
    if (steps >= BITS) {
        for (int i = 1; i < BINS; i++) counts[0] += counts[i];
        memset(counts + 1, 0, (BINS - 1) * sizeof *counts);
        return;
    }
    for (; steps > 0; steps--) {
        for (int i = 0; i < BINS / 2; i++) counts[i] = counts[2 * i] + counts[2 * i + 1];
        memset(counts + BINS / 2, 0, BINS / 2 * sizeof *counts);
    }
}

/* Move what the tables hold to `counts`. */
static void add_tables(Local *local, int64_t *counts) {
    for (int i = 0; i < BINS; i++)
        counts[i] += (int64_t)local->table[0][i] + local->table[1][i] + local->table[2][i] + local->table[3][i];
    memset(local->table, 0, sizeof local->table);
    counts[0] += local->zeros;
    local->zeros = 0;
    local->pending = 0;
}

static void drain(Local *local) {
    if (!local->counted) memset(local->total, 0, sizeof local->total);
    add_tables(local, local->total);
    local->counted = 1;
}

static void grow(Local *local, uint32_t maximum) {
    int32_t exponent = exponent_for(maximum);
    local->maximum = maximum;
    if (exponent > local->exponent) {
        if (local->pending) drain(local);
        if (local->counted) fold(local->total, exponent - local->exponent);
        local->exponent = exponent;
    }
}

#if defined(__GNUC__)
/* Inlined it lands where compilers like: on a tensor of one value that took half as long again. */
__attribute__((noinline, aligned(64)))
#endif
/* Two indices a load; a table never meets the increment before last. */
static void scatter(Local *local, const int32_t *index, int64_t size) {
    int64_t i = 0;
    for (; i + 8 <= size; i += 8) {
        uint64_t p, q, r, s;
        memcpy(&p, index + i, 8);
        memcpy(&q, index + i + 2, 8);
        memcpy(&r, index + i + 4, 8);
        memcpy(&s, index + i + 6, 8);
        local->table[0][(uint32_t)p]++;
        local->table[1][p >> 32]++;
        local->table[2][(uint32_t)q]++;
        local->table[3][q >> 32]++;
        local->table[0][(uint32_t)r]++;
        local->table[1][r >> 32]++;
        local->table[2][(uint32_t)s]++;
        local->table[3][s >> 32]++;
    }
    for (; i < size; i++) local->table[0][index[i]]++;
}

/* The plain form, for any processor; compilers vectorise both loops. */
static uint32_t block_maximum(const uint32_t *bits, int64_t size) {
    uint32_t maximum = 0;
    for (int64_t i = 0; i < size; i++) {
        uint32_t magnitude = bits[i] & 0x7fffffffu;
        maximum = magnitude > maximum ? magnitude : maximum;
    }
    return maximum;
}

static void count_block(Local *local, const float *values, int64_t size, float scale) {
    int32_t index[BLOCK];
    for (int64_t i = 0; i < size; i++) index[i] = (int32_t)((values[i] < 0 ? -values[i] : values[i]) * scale);
    scatter(local, index, size);
}

static uint32_t half_bits(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16, exponent = (half >> 10) & 31u, mantissa = half & 0x3ffu;
    if (exponent == 31) return sign | INFINITE | mantissa << 13;
    if (exponent) return sign | (exponent + 112) << 23 | mantissa << 13;
    float value = (float)mantissa * 5.9604644775390625e-8f; /* 2^-24 */
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return sign | bits;
}

static void widen_half(uint32_t *bits, const uint16_t *values, int64_t size) {
    for (int64_t i = 0; i < size; i++) bits[i] = half_bits(values[i]);
}

#ifdef HAVE_AVX2
static uint64_t packed[256]; /* for each mask of eight lanes: the set lanes first, as bytes */

__attribute__((constructor)) static void fill_packed(void) {
    for (int mask = 0; mask < 256; mask++)
        for (int lane = 0, at = 0; lane < 8; lane++)
            if (mask >> lane & 1) packed[mask] |= (uint64_t)lane << 8 * at++;
}

__attribute__((target("avx2"))) static uint32_t block_maximum_avx2(const uint32_t *bits, int64_t size) {
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    __m256i a = _mm256_setzero_si256(), b = a;
    int64_t i = 0;
    for (; i + 16 <= size; i += 16) {
        a = _mm256_max_epi32(a, _mm256_and_si256(_mm256_loadu_si256((const __m256i *)(bits + i)), magnitude));
        b = _mm256_max_epi32(b, _mm256_and_si256(_mm256_loadu_si256((const __m256i *)(bits + i + 8)), magnitude));
    }
    uint32_t lanes[8], maximum = block_maximum(bits + i, size - i);
    _mm256_storeu_si256((__m256i *)lanes, _mm256_max_epi32(a, b));
    for (int lane = 0; lane < 8; lane++) maximum = lanes[lane] > maximum ? lanes[lane] : maximum;
    return maximum;
}

__attribute__((target("avx2,popcnt"))) static void count_block_avx2(
    Local *local, const float *values, int64_t size, float scale, const char *next, int width) {
    int32_t index[BLOCK + 8];
    const __m256 factor = _mm256_set1_ps(scale), magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
    int64_t filled = 0, i = 0;
    for (; i + 8 <= size; i += 8) {
        __builtin_prefetch(next + i * width); /* the next block comes while this one is counted */
        __m256 x = _mm256_and_ps(_mm256_loadu_ps(values + i), magnitude);
        __m256i bin = _mm256_cvttps_epi32(_mm256_mul_ps(x, factor));
        int mask = _mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(bin, _mm256_setzero_si256())));
        __m256i order = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)&packed[mask]));
        _mm256_storeu_si256((__m256i *)(index + filled), _mm256_permutevar8x32_epi32(bin, order));
        filled += __builtin_popcount((unsigned)mask);
    }
    local->zeros += i - filled;
    for (; i < size; i++) index[filled++] = (int32_t)((values[i] < 0 ? -values[i] : values[i]) * scale);
    scatter(local, index, filled);
}

__attribute__((target("avx2,f16c"))) static void widen_half_avx2(uint32_t *bits, const uint16_t *values, int64_t size) {
    int64_t i = 0;
    for (; i + 8 <= size; i += 8)
        _mm256_storeu_ps((float *)(bits + i), _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(values + i))));
    widen_half(bits + i, values + i, size - i);
}

__attribute__((target("avx512f,avx512vl,popcnt"))) static uint32_t block_maximum_avx512(const uint32_t *bits, int64_t size) {
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    __m512i a = _mm512_setzero_si512(), b = a;
    int64_t i = 0;
    for (; i + 32 <= size; i += 32) {
        a = _mm512_max_epu32(a, _mm512_and_si512(_mm512_loadu_si512(bits + i), magnitude));
        b = _mm512_max_epu32(b, _mm512_and_si512(_mm512_loadu_si512(bits + i + 16), magnitude));
    }
    uint32_t maximum = block_maximum(bits + i, size - i), found = _mm512_reduce_max_epu32(_mm512_max_epu32(a, b));
    return found > maximum ? found : maximum;
}

__attribute__((target("avx512f,avx512vl,popcnt"))) static void count_block_avx512(
    Local *local, const float *values, int64_t size, float scale, const char *next, int width) {
    int32_t index[BLOCK + 16];
    const __m512 factor = _mm512_set1_ps(scale);
    int64_t filled = 0, i = 0;
    for (; i + 16 <= size; i += 16) {
        __builtin_prefetch(next + i * width);
        __m512 x = _mm512_abs_ps(_mm512_loadu_ps(values + i));
        __m512i bin = _mm512_cvttps_epi32(_mm512_mul_ps(x, factor));
        __mmask16 mask = _mm512_test_epi32_mask(bin, bin);
        _mm512_storeu_si512(index + filled, _mm512_maskz_compress_epi32(mask, bin));
        filled += __builtin_popcount((unsigned)mask);
    }
    local->zeros += i - filled;
    for (; i < size; i++) index[filled++] = (int32_t)((values[i] < 0 ? -values[i] : values[i]) * scale);
    scatter(local, index, filled);
}
#endif

static void sweep(Local *local, const Slice *slice) {
    uint32_t wide[BLOCK];
    const int width = slice->dtype == FLOAT32 ? 4 : 2;
#ifdef HAVE_AVX2
    const int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt");
    const int avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl");
    const int f16c = avx2 && __builtin_cpu_supports("f16c");
#endif
    for (int64_t start = 0; start < slice->size; start += BLOCK) {
        int64_t size = slice->size - start < BLOCK ? slice->size - start : BLOCK;
        const uint32_t *bits = wide;
        const char *next = (const char *)slice->data + (start + BLOCK) * width;
        if (slice->dtype == FLOAT32) {
            bits = (const uint32_t *)slice->data + start;
        } else {
            const uint16_t *halves = (const uint16_t *)slice->data + start;
            if (slice->dtype == BFLOAT16)
                for (int64_t i = 0; i < size; i++) wide[i] = (uint32_t)halves[i] << 16;
#ifdef HAVE_AVX2
            else if (f16c)
                widen_half_avx2(wide, halves, size);
#endif
            else
                widen_half(wide, halves, size);
        }
#ifdef HAVE_AVX2
        uint32_t maximum = avx512 ? block_maximum_avx512(bits, size) : avx2 ? block_maximum_avx2(bits, size) : block_maximum(bits, size);
#else
        uint32_t maximum = block_maximum(bits, size);
#endif
        if (maximum >= INFINITE) {
            /* Infinity may come first and NaN after it: look at the rest before saying which. */
            uint32_t worst = maximum > INFINITE ? NOT_A_NUMBER : INFINITE;
            local->maximum = worst > local->maximum ? worst : local->maximum;
            if (worst == NOT_A_NUMBER) return;
            continue;
        }
        if (maximum > local->maximum) grow(local, maximum);
        if (local->maximum >= INFINITE) continue;
        if (local->pending > MOST_PENDING) drain(local);
        float scale = from_bits((uint32_t)(127 - local->exponent) << 23);
#ifdef HAVE_AVX2
        if (avx512)
            count_block_avx512(local, (const float *)bits, size, scale, next, width);
        else if (avx2)
            count_block_avx2(local, (const float *)bits, size, scale, next, width);
        else
#endif
            count_block(local, (const float *)bits, size, scale);
        local->pending += (uint32_t)size;
    }
}

/* Add what one slice held to its row; a row can be the target of several threads. */
static void publish(Job *job, Local *local, int32_t row) {
    int64_t *counts = job->counts + (int64_t)row * BINS;
    if (local->counted && local->pending) drain(local);
    while (__atomic_test_and_set(job->locks + row, __ATOMIC_ACQUIRE)) {
    }
    if (local->maximum > job->maxima[row]) job->maxima[row] = local->maximum;
    if (!local->counted && local->exponent == job->exponents[row]) {
        add_tables(local, counts); /* a small slice on the row's own grid, as most are */
    } else {
        if (!local->counted) drain(local);
        if (local->exponent > job->exponents[row]) {
            fold(counts, local->exponent - job->exponents[row]);
            job->exponents[row] = local->exponent;
        } else {
            fold(local->total, job->exponents[row] - local->exponent);
        }
        for (int i = 0; i < BINS; i++) counts[i] += local->total[i];
    }
    __atomic_clear(job->locks + row, __ATOMIC_RELEASE);
}

/* Take slices until none is left. Any number of threads may work on one job. */
void quantbench_sweep(Job *job) {
    static __thread Local local;
    int64_t i;
    while ((i = __atomic_fetch_add(&job->next, 1, __ATOMIC_RELAXED)) < job->count) {
        const Slice *slice = job->slices + i;
        /* Tables, zeros and pending are zero: `publish` leaves them so. */
        local.counted = 0;
        local.maximum = 0;
        /* The row's grid or a finer one: what comes out is the same, and mostly nothing has to be folded. */
        local.exponent = __atomic_load_n(job->exponents + slice->row, __ATOMIC_RELAXED);
        sweep(&local, slice);
        publish(job, &local, slice->row);
    }
}
