/* Sums over activations in one reading of each: the mean of a tensor beside that of its fake-quantized twin, and how far
 * two tensors are apart. Called through ctypes, so without the GIL; the loops are plain, and compilers vectorise them.
 */
#include <stdint.h>

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define HAVE_AVX2 1
#endif
#define INLINE static inline __attribute__((always_inline))

#define BLOCK 512
/* Rows that are summed in float32 before they go into the totals. */
#define ROWS 64
/* Adding and subtracting this rounds a float32 below 2^22 to the nearest integer, ties to even. */
#define ROUNDING 12582912.0f
#define LANES 16
#define STRETCH 64

INLINE void fake_quantized_sums(const float *x, int64_t rows, int64_t stride, int64_t columns, float scale, float low,
                                float high, double *sums, double *levels) {
    for (int64_t first = 0; first < rows; first += ROWS) {
        int64_t last = first + ROWS < rows ? first + ROWS : rows;
        for (int64_t start = 0; start < columns; start += BLOCK) {
            int64_t size = columns - start < BLOCK ? columns - start : BLOCK;
            float sum[BLOCK] = {0}, level[BLOCK] = {0};
            for (int64_t row = first; row < last; row++) {
                const float *values = x + row * stride + start;
                for (int64_t i = 0; i < size; i++) {
                    float value = values[i], step = value / scale;
                    step = step < low ? low : step;
                    step = step > high ? high : step;
                    sum[i] += value;
                    level[i] += (step + ROUNDING) - ROUNDING;
                }
            }
            for (int64_t i = 0; i < size; i++) {
                sums[start + i] += sum[i];
                levels[start + i] += level[i];
            }
        }
    }
}

/* totals: sum of x^2, of y^2, of x y, of (x - y)^2; a stretch of each lane in float32, stretches in float64. */
INLINE void differences(const float *x, const float *y, int64_t size, double *totals) {
    int64_t i = 0;
    while (i + LANES <= size) {
        float xx[LANES] = {0}, yy[LANES] = {0}, xy[LANES] = {0}, dd[LANES] = {0};
        int64_t end = i + LANES * STRETCH < size ? i + LANES * STRETCH : size;
        for (; i + LANES <= end; i += LANES)
            for (int lane = 0; lane < LANES; lane++) {
                float a = x[i + lane], b = y[i + lane], d = a - b;
                xx[lane] += a * a;
                yy[lane] += b * b;
                xy[lane] += a * b;
                dd[lane] += d * d;
            }
        for (int lane = 0; lane < LANES; lane++) {
            totals[0] += xx[lane];
            totals[1] += yy[lane];
            totals[2] += xy[lane];
            totals[3] += dd[lane];
        }
    }
    for (; i < size; i++) {
        double a = x[i], b = y[i], d = a - b;
        totals[0] += a * a;
        totals[1] += b * b;
        totals[2] += a * b;
        totals[3] += d * d;
    }
}

#ifdef HAVE_AVX2
__attribute__((target("avx2"))) static void fake_quantized_sums_avx2(const float *x, int64_t rows, int64_t stride,
                                                                     int64_t columns, float scale, float low, float high,
                                                                     double *sums, double *levels) {
    fake_quantized_sums(x, rows, stride, columns, scale, low, high, sums, levels);
}

__attribute__((target("avx2"))) static void differences_avx2(const float *x, const float *y, int64_t size,
                                                             double *totals) {
    differences(x, y, size, totals);
}
#endif

/* sums[columns] += x, levels[columns] += round(x / scale) within [low, high], over `rows` rows that are `stride` apart. */
void quantbench_fake_quantized_sums(const float *x, int64_t rows, int64_t stride, int64_t columns, float scale, float low,
                                    float high, double *sums, double *levels) {
#ifdef HAVE_AVX2
    if (__builtin_cpu_supports("avx2")) {
        fake_quantized_sums_avx2(x, rows, stride, columns, scale, low, high, sums, levels);
        return;
    }
#endif
    fake_quantized_sums(x, rows, stride, columns, scale, low, high, sums, levels);
}

void quantbench_differences(const float *x, const float *y, int64_t size, double *totals) {
#ifdef HAVE_AVX2
    if (__builtin_cpu_supports("avx2")) {
        differences_avx2(x, y, size, totals);
        return;
    }
#endif
    differences(x, y, size, totals);
}
