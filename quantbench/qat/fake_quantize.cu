/* Fake quantization and its gradient on an NVIDIA GPU, each tensor read and written once (quantbench/qat/fused.py).
 * Compiled by NVRTC (nvrtc.py). A thread has eight elements; x / s is computed as torch does it, x times the float32
 * reciprocal of s, but for a learned scale, by which is divided.
 */
typedef unsigned int u32;
typedef unsigned short u16;
typedef unsigned char u8;

#define THREADS 256
#define EACH 8
#define QMIN -128.0f
#define QMAX 127.0f

struct Half { u16 bits; };
struct Brain { u16 bits; };

__device__ __forceinline__ float wide(float x) { return x; }
__device__ __forceinline__ float wide(Half x) {
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
    return y;
}
__device__ __forceinline__ float wide(Brain x) { return __uint_as_float((u32)x.bits << 16); }

__device__ __forceinline__ void narrow(float x, float &y) { y = x; }
__device__ __forceinline__ void narrow(float x, Half &y) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x)); }
__device__ __forceinline__ void narrow(float x, Brain &y) {
    u32 bits = __float_as_uint(x);
    /* To the nearest, ties to even; NaN stays NaN. */
    y.bits = x != x ? 0x7fc0 : (u16)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

template <typename T> struct alignas(16) Pack { T v[EACH]; };

template <typename T> __device__ __forceinline__ Pack<T> load(const T *source, long long at, long long size) {
    Pack<T> found;
    if (at + EACH <= size) return *(const Pack<T> *)(source + at);
#pragma unroll
    for (int i = 0; i < EACH; i++) narrow(at + i < size ? wide(source[at + i]) : 0.0f, found.v[i]);
    return found;
}

template <typename T> __device__ __forceinline__ void store(T *target, long long at, long long size, const Pack<T> &values) {
    if (at + EACH <= size) {
        *(Pack<T> *)(target + at) = values;
        return;
    }
#pragma unroll
    for (int i = 0; i < EACH; i++)
        if (at + i < size) target[at + i] = values.v[i];
}

__device__ __forceinline__ bool inside(float level) { return level >= QMIN && level <= QMAX; }
__device__ __forceinline__ float clipped(float level) { return fminf(fmaxf(level, QMIN), QMAX); }

/* y = fake-quantized x; a bit of `mask` for each element, set where x was in range (mask may be null). */
template <typename T> __device__ void quantize(const T *x, T *y, u8 *mask, float scale, float inverse, long long size) {
    long long at = ((long long)blockIdx.x * THREADS + threadIdx.x) * EACH;
    if (at >= size) return;
    Pack<T> values = load(x, at, size), result;
    u32 bits = 0;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        float level = rintf(wide(values.v[i]) * inverse);
        bits |= (u32)inside(level) << i;
        narrow(clipped(level) * scale, result.v[i]);
    }
    store(y, at, size, result);
    if (mask) mask[at / EACH] = (u8)bits;
}

template <typename T> __device__ void pass_masked(const T *g, const u8 *mask, T *out, long long size) {
    long long at = ((long long)blockIdx.x * THREADS + threadIdx.x) * EACH;
    if (at >= size) return;
    Pack<T> values = load(g, at, size);
    u32 bits = mask[at / EACH];
#pragma unroll
    for (int i = 0; i < EACH; i++)
        if (!(bits >> i & 1u)) narrow(0.0f, values.v[i]);
    store(out, at, size, values);
}

/* y = x on the grid of a scale that lies on the card. */
template <typename T> __device__ void learned(const T *x, T *y, const float *scale, long long size) {
    long long at = ((long long)blockIdx.x * THREADS + threadIdx.x) * EACH;
    if (at >= size) return;
    const float step = *scale;
    Pack<T> values = load(x, at, size), result;
#pragma unroll
    for (int i = 0; i < EACH; i++) narrow(rintf(clipped(__fdiv_rn(wide(values.v[i]), step))) * step, result.v[i]);
    store(y, at, size, result);
}

/* Gradient of the quantized tensor or, with SILU, of the tensor whose SiLU it is. With LEARNED each block adds its part
 * of the scale's gradient to `sum`. */
template <typename T, bool SILU, bool LEARNED>
__device__ void backward(const T *x, const T *g, T *out, float *sum, const float *scale, float inverse, long long size) {
    long long at = ((long long)blockIdx.x * THREADS + threadIdx.x) * EACH;
    const float step = LEARNED ? *scale : 0.0f;
    float part = 0;
    if (at < size) {
        Pack<T> given = load(x, at, size), grads = load(g, at, size), result;
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            float a = wide(given.v[i]), grad = wide(grads.v[i]), value = a, factor = 1.0f;
            if (SILU) {
                /* As torch's SiLU stored it: rounded to the tensor's type. */
                T stored;
                narrow(a / (1.0f + expf(-a)), stored);
                value = wide(stored);
                factor = 1.0f / (1.0f + expf(-a));
            }
            float ratio = LEARNED ? __fdiv_rn(value, step) : rintf(value * inverse);
            bool in = inside(ratio);
            float passed = in ? grad : 0.0f;
            narrow(SILU ? passed * factor * (1.0f + a * (1.0f - factor)) : passed, result.v[i]);
            if (LEARNED) part += grad * (rintf(clipped(ratio)) - (in ? ratio : 0.0f));
        }
        store(out, at, size, result);
    }
    if (!LEARNED) return;
    __shared__ float parts[THREADS / 32];
    for (int offset = 16; offset; offset >>= 1) part += __shfl_xor_sync(~0u, part, offset);
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = part;
    __syncthreads();
    if (threadIdx.x == 0) {
        float total = 0;
        for (int i = 0; i < THREADS / 32; i++) total += parts[i];
        sum[blockIdx.x] = total;
    }
}

#define KERNELS(T, NAME) \
    extern "C" __global__ void quantize_##NAME(const T *x, T *y, u8 *mask, float scale, float inverse, long long size) { \
        quantize(x, y, mask, scale, inverse, size); \
    } \
    extern "C" __global__ void pass_masked_##NAME(const T *g, const u8 *mask, T *out, long long size) { \
        pass_masked(g, mask, out, size); \
    } \
    extern "C" __global__ void learned_##NAME(const T *x, T *y, const float *scale, long long size) { \
        learned(x, y, scale, size); \
    } \
    extern "C" __global__ void silu_backward_##NAME(const T *a, const T *g, T *out, float inverse, long long size) { \
        backward<T, true, false>(a, g, out, nullptr, nullptr, inverse, size); \
    } \
    extern "C" __global__ void learned_backward_##NAME( \
        const T *x, const T *g, T *out, float *sum, const float *scale, long long size) { \
        backward<T, false, true>(x, g, out, sum, scale, 0.0f, size); \
    } \
    extern "C" __global__ void learned_silu_backward_##NAME( \
        const T *x, const T *g, T *out, float *sum, const float *scale, long long size) { \
        backward<T, true, true>(x, g, out, sum, scale, 0.0f, size); \
    }
KERNELS(float, float32)
KERNELS(Half, float16)
KERNELS(Brain, bfloat16)
