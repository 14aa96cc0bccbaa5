/* Fake quantization and its gradient on an NVIDIA GPU, each tensor read and written once (quantbench/qat/fused.py,
 * fused_weights.py). Compiled by NVRTC (nvrtc.py), behind elements.cu. A thread has eight elements; x / s is computed as
 * torch does it, x times the float32 reciprocal of s, but for a learned scale, by which is divided.
 *
 * What is read may lie in rows of `width` elements that begin `pitch` apart, both multiples of eight (a slice of
 * channels); width 0: no gaps. What is written never has gaps.
 */
/* Where element `at` of a tensor with rows lies. */
__device__ __forceinline__ long long lies(long long at, long long width, long long pitch) {
    return width ? at / width * pitch + at % width : at;
}

__device__ __forceinline__ long long first_of_thread() {
    return ((long long)blockIdx.x * THREADS + threadIdx.x) * EACH;
}

/* y = fake-quantized x; a bit of `mask` for each element, set where x was in range (mask may be null). */
template <typename T>
__device__ void quantize(
    const T *x, T *y, u8 *mask, float scale, float inverse, long long width, long long pitch, long long size) {
    long long at = first_of_thread();
    if (at >= size) return;
    Pack<T> values = load(x + lies(at, width, pitch) - at, at, size), result;
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

template <typename T>
__device__ void pass_masked(const T *g, const u8 *mask, T *out, long long width, long long pitch, long long size) {
    long long at = first_of_thread();
    if (at >= size) return;
    Pack<T> values = load(g + lies(at, width, pitch) - at, at, size);
    u32 bits = mask[at / EACH];
#pragma unroll
    for (int i = 0; i < EACH; i++)
        if (!(bits >> i & 1u)) narrow(0.0f, values.v[i]);
    store(out, at, size, values);
}

/* y = x on the grid of a scale that lies on the card. */
template <typename T>
__device__ void learned(const T *x, T *y, const float *scale, long long width, long long pitch, long long size) {
    long long at = first_of_thread();
    if (at >= size) return;
    const float step = *scale;
    Pack<T> values = load(x + lies(at, width, pitch) - at, at, size), result;
#pragma unroll
    for (int i = 0; i < EACH; i++) narrow(rintf(clipped(__fdiv_rn(wide(values.v[i]), step))) * step, result.v[i]);
    store(y, at, size, result);
}

/* y = SiLU of a, and q = fake-quantized y; with LEARNED by the scale on the card. */
template <typename T, bool LEARNED>
__device__ void silu_quantize(const T *a, T *y, T *q, const float *learned, float scale, float inverse, long long size) {
    long long at = first_of_thread();
    if (at >= size) return;
    const float step = LEARNED ? *learned : scale;
    Pack<T> given = load(a, at, size), values, result;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        float value = silu(given.v[i]);
        narrow(value, values.v[i]);
        float level = LEARNED ? rintf(clipped(__fdiv_rn(value, step))) : clipped(rintf(value * inverse));
        narrow(level * step, result.v[i]);
    }
    store(y, at, size, values);
    store(q, at, size, result);
}

/* A tensor that is read, and its rows. */
template <typename T> struct Read {
    const T *from;
    long long width, pitch;
    __device__ __forceinline__ Pack<T> at(long long i, long long size) const {
        return load(from + lies(i, width, pitch) - i, i, size);
    }
};

/* Where the gradient of a learned scale goes: parts of blocks, how many are there, and the sum times `damping`. */
struct ScaleGradient {
    float *parts;
    u32 *done;
    float *sum;
    float damping;
};

/* Gradient `out` of the quantized tensor x or, with SILU, of the tensor x whose SiLU it is; `g` is that of the result,
 * `direct` (may be null) that of the SiLU by its other readers. The block that ends last adds up all blocks' parts of
 * the scale's gradient, always in the same order, and leaves `done` at 0. */
template <typename T, bool SILU, bool LEARNED>
__device__ void backward(
    Read<T> x, Read<T> g, Read<T> direct, T *out, ScaleGradient gradient, const float *scale, float inverse,
    long long size) {
    long long at = first_of_thread();
    const float step = LEARNED ? *scale : 0.0f;
    float part = 0;
    if (at < size) {
        Pack<T> given = x.at(at, size), grads = g.at(at, size), result;
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            float a = wide(given.v[i]), grad = wide(grads.v[i]), value = SILU ? silu(given.v[i]) : a;
            float ratio = LEARNED ? __fdiv_rn(value, step) : rintf(value * inverse);
            bool in = inside(ratio);
            float passed = in ? grad : 0.0f;
            if (SILU) {
                float factor = 1.0f / (1.0f + expf(-a));
                passed = passed * factor * (1.0f + a * (1.0f - factor));
            }
            narrow(passed, result.v[i]);
            if (LEARNED) part += grad * (rintf(clipped(ratio)) - (in ? ratio : 0.0f));
        }
        if (SILU && direct.from) {
            Pack<T> others = direct.at(at, size);
#pragma unroll
            for (int i = 0; i < EACH; i++) {
                /* Each rounded by itself, as autograd adds two gradients. */
                float a = wide(given.v[i]), factor = 1.0f / (1.0f + expf(-a));
                T other;
                narrow(wide(others.v[i]) * factor * (1.0f + a * (1.0f - factor)), other);
                narrow(wide(result.v[i]) + wide(other), result.v[i]);
            }
        }
        store(out, at, size, result);
    }
    if (!LEARNED) return;
    __shared__ bool last;
    float total = block_sum(part);
    if (threadIdx.x == 0) {
        gradient.parts[blockIdx.x] = total;
        __threadfence();
        last = atomicAdd(gradient.done, 1u) == gridDim.x - 1;
    }
    __syncthreads();
    if (!last) return;
    __threadfence();
    part = 0;
    for (u32 i = threadIdx.x; i < gridDim.x; i += THREADS) part += ((volatile float *)gradient.parts)[i];
    total = block_sum(part);
    if (threadIdx.x == 0) {
        *gradient.sum = total * gradient.damping;
        *gradient.done = 0;
    }
}

/* Up to MOST weights of a network in one launch. Weight i has the blocks from first[i] on; its element k is of channel
 * k / inner[i] % channels[i], as it lies in memory. */
#define MOST 64
struct Weights {
    const void *x[MOST];
    void *y[MOST];
    const float *scale[MOST];
    u32 first[MOST + 1], inner[MOST], channels[MOST], size[MOST];
    u8 *mask;
    u32 count;
};

__device__ __forceinline__ u32 weight_of_block(const Weights &w) {
    u32 low = 0, high = w.count;
    while (high - low > 1) {
        u32 middle = (low + high) / 2;
        if (w.first[middle] <= blockIdx.x) low = middle;
        else high = middle;
    }
    return low;
}

/* y = x fake-quantized with the scale of its channel, in type T; a bit of `mask` as above (mask may be null). */
template <typename T> __device__ void weights(const Weights &w) {
    const u32 which = weight_of_block(w);
    const u32 size = w.size[which], inner = w.inner[which], channels = w.channels[which];
    const u32 at = ((blockIdx.x - w.first[which]) * THREADS + threadIdx.x) * EACH;
    if (at >= size) return;
    const float *scales = w.scale[which];
    Pack<float> values = load((const float *)w.x[which], at, size);
    Pack<T> result;
    u32 bits = 0;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        float scale = scales[(at + i) / inner % channels];
        float level = rintf(values.v[i] * __fdiv_rn(1.0f, scale));
        bits |= (u32)inside(level) << i;
        narrow(clipped(level) * scale, result.v[i]);
    }
    store((T *)w.y[which], at, size, result);
    if (w.mask) w.mask[(u32)blockIdx.x * THREADS + threadIdx.x] = (u8)bits;
}

/* y = gradients x (null: none) where the bit of the mask is set, else 0, in float32. */
template <typename T> __device__ void weights_backward(const Weights &w) {
    const u32 which = weight_of_block(w);
    const u32 size = w.size[which], at = ((blockIdx.x - w.first[which]) * THREADS + threadIdx.x) * EACH;
    if (at >= size || !w.x[which]) return;
    Pack<T> grads = load((const T *)w.x[which], at, size);
    Pack<float> result;
    u32 bits = w.mask[(u32)blockIdx.x * THREADS + threadIdx.x];
#pragma unroll
    for (int i = 0; i < EACH; i++) result.v[i] = bits >> i & 1u ? wide(grads.v[i]) : 0.0f;
    store((float *)w.y[which], at, size, result);
}

#define KERNELS(T, NAME) \
    extern "C" __global__ void quantize_##NAME( \
        const T *x, T *y, u8 *mask, float scale, float inverse, long long width, long long pitch, long long size) { \
        quantize(x, y, mask, scale, inverse, width, pitch, size); \
    } \
    extern "C" __global__ void pass_masked_##NAME( \
        const T *g, const u8 *mask, T *out, long long width, long long pitch, long long size) { \
        pass_masked(g, mask, out, width, pitch, size); \
    } \
    extern "C" __global__ void learned_##NAME( \
        const T *x, T *y, const float *scale, long long width, long long pitch, long long size) { \
        learned(x, y, scale, width, pitch, size); \
    } \
    extern "C" __global__ void silu_quantize_##NAME(const T *a, T *y, T *q, float scale, float inverse, long long size) { \
        silu_quantize<T, false>(a, y, q, nullptr, scale, inverse, size); \
    } \
    extern "C" __global__ void silu_learned_##NAME(const T *a, T *y, T *q, const float *scale, long long size) { \
        silu_quantize<T, true>(a, y, q, scale, 0.0f, 0.0f, size); \
    } \
    extern "C" __global__ void silu_backward_##NAME( \
        Read<T> a, Read<T> g, Read<T> direct, T *out, float inverse, long long size) { \
        backward<T, true, false>(a, g, direct, out, ScaleGradient(), nullptr, inverse, size); \
    } \
    extern "C" __global__ void learned_backward_##NAME( \
        Read<T> x, Read<T> g, T *out, ScaleGradient gradient, const float *scale, long long size) { \
        backward<T, false, true>(x, g, Read<T>(), out, gradient, scale, 0.0f, size); \
    } \
    extern "C" __global__ void silu_learned_backward_##NAME( \
        Read<T> a, Read<T> g, Read<T> direct, T *out, ScaleGradient gradient, const float *scale, long long size) { \
        backward<T, true, true>(a, g, direct, out, gradient, scale, 0.0f, size); \
    } \
    extern "C" __global__ void weights_##NAME(const __grid_constant__ Weights w) { weights<T>(w); } \
    extern "C" __global__ void weights_backward_##NAME(const __grid_constant__ Weights w) { weights_backward<T>(w); }
KERNELS(float, float32)
KERNELS(Half, float16)
KERNELS(Brain, bfloat16)
