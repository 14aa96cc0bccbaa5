/* Threshold searches over a histogram of 2048 levels: quantbench/calibration/thresholds has the mathematics and the same
 * in numpy. Called through ctypes, so without the GIL.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define HAVE_AVX2 1
#endif
#define INLINE static inline __attribute__((always_inline))

#define BINS 2048
#define FIRST 128  /* bins of the first candidate */
#define LEVELS 256 /* from zero on, at most */
#define LANES 8
/* Adding and subtracting this rounds a float32 below 2^22 to the nearest integer, ties to even. */
#define ROUNDING 12582912.0f

/* The natural logarithm of a normal double: 2 artanh(s), s = (m - 1) / (m + 1), with m between sqrt(1/2) and sqrt(2); the
 * series ends where its terms are below the last bit. No branches, so that loops over it are vectorised.
 */
INLINE double logarithm(double x) {
    const uint64_t half_root = 0x3fe6a09e667f3bcdu; /* sqrt(1/2) */
    uint64_t bits, shifted, integer;
    double m, exponent;
    memcpy(&bits, &x, sizeof bits);
    shifted = bits - half_root + ((uint64_t)1024 << 52);
    bits = (shifted & 0x000fffffffffffffu) + half_root;
    memcpy(&m, &bits, sizeof m);
    integer = shifted >> 52 | 0x4330000000000000u; /* 2^52 + exponent + 1024 */
    memcpy(&exponent, &integer, sizeof exponent);
    exponent -= 4503599627370496.0 + 1024;
    double s = (m - 1.0) / (m + 1.0), z = s * s, sum = 1.0 / 21;
    sum = sum * z + 1.0 / 19;
    sum = sum * z + 1.0 / 17;
    sum = sum * z + 1.0 / 15;
    sum = sum * z + 1.0 / 13;
    sum = sum * z + 1.0 / 11;
    sum = sum * z + 1.0 / 9;
    sum = sum * z + 1.0 / 7;
    sum = sum * z + 1.0 / 5;
    sum = sum * z + 1.0 / 3;
    return exponent * 0.6931471805599453 + 2.0 * (s + s * z * sum);
}

/* For a level of `width` bins from each first bin on: mass times log(mass / filled bins). */
INLINE void terms_of(const double *mass, const double *filled, int width, double *terms) {
    for (int first = 0; first + width <= BINS; first++) {
        double level = mass[first + width] - mass[first], bins = filled[first + width] - filled[first];
        /* Empty levels count nothing: 0 log 0. */
        double ratio = level > 0 ? level / bins : 1.0;
        terms[first] = level * logarithm(ratio);
    }
}

/* For every candidate of 128 ... 2048 bins the sum over its levels of mass times log(mass / filled bins); the last level
 * has the `outliers` besides, and a last bin that they fill. -inf where they stand where nothing is kept.
 * mass, filled: sums of what is before a bin, [2049]; empty: whether a bin is, [2048]; counts: levels of each candidate
 * from zero on, 1 to 256, [1921]; one with fewer bins than levels gets 0 for both.
 *
 * Levels are candidate / count bins wide or one more, so the candidates share few widths of 2048 levels each: a logarithm
 * is taken once, not for each of 1921 * 128 levels.
 */
INLINE void cross_entropies(const double *mass, const double *filled, const uint8_t *empty, const int32_t *counts,
                            double *cross, double *kept) {
    double shared[2 * BINS]; /* terms of levels of even and of odd width */
    int held[2] = {0, 0};    /* and which widths these are */
    for (int candidate = FIRST; candidate <= BINS; candidate++) {
        double before[LEVELS + 1], level[LEVELS], terms[LEVELS], lanes[2][LANES] = {{0}};
        uint32_t edges[LEVELS + 1], at[LEVELS];
        int count = counts[candidate - FIRST];
        cross[candidate - FIRST] = kept[candidate - FIRST] = 0;
        if (candidate < count) continue;
        for (int width = candidate / count; width <= candidate / count + 1; width++)
            if (held[width & 1] != width) {
                terms_of(mass, filled, width, shared + (width & 1) * BINS);
                held[width & 1] = width;
            }
        /* k * candidate / count, to whole bins: what is cut off is nothing or at least 1/256. */
        double bins_a_level = candidate / (double)count;
        for (int k = 0; k <= count; k++) edges[k] = (uint32_t)(int32_t)(k * bins_a_level + 1e-6);
        for (int k = 0; k < count; k++) at[k] = ((edges[k + 1] - edges[k]) & 1) * BINS + edges[k];
        for (int k = 0; k <= count; k++) before[k] = mass[edges[k]];
        for (int k = 0; k < count; k++) level[k] = before[k + 1] - before[k];
        for (int k = 0; k < count; k++) terms[k] = shared[at[k]];
        for (int k = count; k % LANES; k++) level[k] = terms[k] = 0; /* up to whole lanes */
        double outliers = mass[BINS] - mass[candidate], last = level[count - 1];
        double bins = filled[candidate] - filled[edges[count - 1]];
        if (empty[candidate - 1] && outliers > 0) bins += 1;
        terms[count - 1] = 0;
        if (last + outliers > 0) terms[count - 1] = last > 0 ? (last + outliers) * logarithm(last / bins) : -INFINITY;
        for (int k = 0; k < count; k += LANES)
            for (int lane = 0; lane < LANES; lane++) lanes[0][lane] += terms[k + lane];
        for (int k = 0; k < count; k += LANES)
            for (int lane = 0; lane < LANES; lane++) lanes[1][lane] += level[k + lane];
        double sum = 0, total = 0;
        for (int lane = 0; lane < LANES; lane++) {
            sum += lanes[0][lane];
            total += lanes[1][lane];
        }
        cross[candidate - FIRST] = sum;
        kept[candidate - FIRST] = total;
    }
}

/* Squared error in bins of every candidate, whose levels are `steps` bins apart up to number `tops`: rounding and clipping
 * centres [size] (in bins) that stand for `counts`. What is clipped counts `clipping` times. */
INLINE void squared_errors(const float *centres, const double *counts, int64_t size, const float *steps,
                           const float *tops, double clipping, int64_t tried, double *costs) {
    for (int64_t candidate = 0; candidate < tried; candidate++) {
        float step = steps[candidate], top = tops[candidate];
        double lanes[LANES] = {0};
        int64_t i = 0;
        for (; i + LANES <= size; i += LANES)
            for (int lane = 0; lane < LANES; lane++) {
                float centre = centres[i + lane], level = (centre / step + ROUNDING) - ROUNDING;
                double weight = level > top ? clipping : 1;
                level = level > top ? top : level;
                double error = level * step - centre;
                lanes[lane] += error * error * counts[i + lane] * weight;
            }
        double sum = 0;
        for (; i < size; i++) {
            float level = (centres[i] / step + ROUNDING) - ROUNDING;
            double weight = level > top ? clipping : 1;
            level = level > top ? top : level;
            double error = level * step - centres[i];
            sum += error * error * counts[i] * weight;
        }
        for (int lane = 0; lane < LANES; lane++) sum += lanes[lane];
        costs[candidate] = sum;
    }
}

#ifdef HAVE_AVX2
__attribute__((target("avx2"))) static void cross_entropies_avx2(const double *mass, const double *filled,
                                                                 const uint8_t *empty, const int32_t *counts,
                                                                 double *cross, double *kept) {
    cross_entropies(mass, filled, empty, counts, cross, kept);
}

__attribute__((target("avx2"))) static void squared_errors_avx2(const float *centres, const double *counts, int64_t size,
                                                                const float *steps, const float *tops,
                                                                double clipping, int64_t tried, double *costs) {
    squared_errors(centres, counts, size, steps, tops, clipping, tried, costs);
}
#endif

void quantbench_cross_entropies(const double *mass, const double *filled, const uint8_t *empty, const int32_t *counts,
                                double *cross, double *kept) {
#ifdef HAVE_AVX2
    if (__builtin_cpu_supports("avx2")) {
        cross_entropies_avx2(mass, filled, empty, counts, cross, kept);
        return;
    }
#endif
    cross_entropies(mass, filled, empty, counts, cross, kept);
}

void quantbench_squared_errors(const float *centres, const double *counts, int64_t size, const float *steps,
                               const float *tops, double clipping, int64_t tried, double *costs) {
#ifdef HAVE_AVX2
    if (__builtin_cpu_supports("avx2")) {
        squared_errors_avx2(centres, counts, size, steps, tops, clipping, tried, costs);
        return;
    }
#endif
    squared_errors(centres, counts, size, steps, tops, clipping, tried, costs);
}
