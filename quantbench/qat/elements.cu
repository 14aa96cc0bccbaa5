/* What all kernels of the quantizers share: numbers, eight of them at a time, SiLU, a sum over a block. Stands before
 * each of the other sources (nvrtc.py). */
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

template <typename T> __device__ __forceinline__ float silu(T a) {
    /* As torch's SiLU stores it: rounded to the tensor's type. */
    float x = wide(a);
    T stored;
    narrow(x / (1.0f + expf(-x)), stored);
    return wide(stored);
}

/* Sum over the block, in its first thread. */
__device__ __forceinline__ float block_sum(float part) {
    __shared__ float parts[THREADS / 32];
    for (int offset = 16; offset; offset >>= 1) part += __shfl_xor_sync(~0u, part, offset);
    __syncthreads();
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = part;
    __syncthreads();
    float total = 0;
    if (threadIdx.x == 0)
        for (int i = 0; i < THREADS / 32; i++) total += parts[i];
    return total;
}
