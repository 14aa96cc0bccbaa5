/* A batch norm with held statistics, in channels-last memory: forward with the SiLU behind it and that one's quantizer,
 * backward of all of them with the sums for scale and shift (quantbench/qat/held_norms.py). Behind elements.cu.
 *
 * A thread has eight neighbouring channels of a pixel and goes through the pixels; `channels` is a multiple of eight,
 * 2048 or fewer. Numbers are torch's: its forward is fma(weight * (x - mean), invstd, bias), its gradient
 * g * weight * invstd, and each step is rounded to the tensor's type as if it were an operator of its own.
 */
struct Norm {
    const float *mean, *variance, *weight, *bias;
    float eps;
    u32 channels;
};

enum Quantizer { NONE, FIXED, LEARNED };

/* Eight channels of a norm. */
struct Channels {
    float mean[EACH], invstd[EACH], weight[EACH], bias[EACH];

    __device__ __forceinline__ Channels(const Norm &norm, u32 first) {
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            mean[i] = norm.mean[first + i];
            invstd[i] = rsqrtf(norm.variance[first + i] + norm.eps);
            weight[i] = norm.weight[first + i];
            bias[i] = norm.bias[first + i];
        }
    }
    template <typename T> __device__ __forceinline__ T normalized(float x, int i) const {
        T z;
        narrow(fmaf(weight[i] * (x - mean[i]), invstd[i], bias[i]), z);
        return z;
    }
};

/* Which pixels a thread goes through: from `pixel` on, `step` apart. Threads that fill no pixel have none. */
struct Walk {
    u32 column, lanes, columns;
    long long pixel, step;

    __device__ __forceinline__ Walk(u32 channels, long long pixels) {
        columns = channels / EACH;
        lanes = THREADS / columns;
        column = threadIdx.x % columns;
        pixel = threadIdx.x < lanes * columns ? (long long)blockIdx.x * lanes + threadIdx.x / columns : pixels;
        step = (long long)gridDim.x * lanes;
    }
};

/* A tensor whose pixels begin `pitch` elements apart. The next pixel is read while one is computed: see the loops. */
template <typename T> struct Pixels {
    const T *from;
    long long pitch;
    __device__ __forceinline__ Pack<T> at(long long pixel, u32 channel, long long pixels) const {
        if (from && pixel < pixels) return *(const Pack<T> *)(from + pixel * pitch + channel);
        return Pack<T>();
    }
};

/* z = norm of x; with SILU y = SiLU of z; with a quantizer q = fake-quantized y. */
template <typename T, bool SILU, Quantizer QUANTIZER>
__device__ void norm_forward(
    const T *x, T *z, T *y, T *q, const Norm &norm, const float *learned, float scale, float inverse, long long pixels) {
    Walk walk(norm.channels, pixels);
    const Channels channels(norm, walk.column * EACH);
    const float step = QUANTIZER == LEARNED ? *learned : scale;
    const Pixels<T> source = {x, norm.channels};
    Pack<T> next = source.at(walk.pixel, walk.column * EACH, pixels);
    for (long long pixel = walk.pixel; pixel < pixels; pixel += walk.step) {
        const long long at = pixel * norm.channels + walk.column * EACH;
        Pack<T> given = next, normalized, activated, result;
        next = source.at(pixel + walk.step, walk.column * EACH, pixels);
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            normalized.v[i] = channels.normalized<T>(wide(given.v[i]), i);
            if (SILU) {
                float value = silu(normalized.v[i]);
                narrow(value, activated.v[i]);
                float level = QUANTIZER == LEARNED ? rintf(clipped(__fdiv_rn(value, step)))
                                                   : clipped(rintf(value * inverse));
                if (QUANTIZER != NONE) narrow(level * step, result.v[i]);
            }
        }
        *(Pack<T> *)(z + at) = normalized;
        if (SILU) *(Pack<T> *)(y + at) = activated;
        if (QUANTIZER != NONE) *(Pack<T> *)(q + at) = result;
    }
}

/* Gradient `out` of x. `g` is that of the last of norm, SiLU and quantized; with a quantizer `direct` (may be null) is
 * that of the SiLU by its other readers. Block b leaves its sums in row b of `parts`: those of the norm's gradient by
 * channel, those of it times x - mean, and with LEARNED that of the scale. */
template <typename T, bool SILU, Quantizer QUANTIZER>
__device__ void norm_backward(
    const T *x, Pixels<T> g, Pixels<T> direct, T *out, const Norm &norm, float *parts, const float *learned,
    float inverse, long long pixels) {
    __shared__ float shared[2 * EACH * THREADS];
    Walk walk(norm.channels, pixels);
    const u32 channel = walk.column * EACH;
    const Channels channels(norm, channel);
    const float step = QUANTIZER == LEARNED ? *learned : 0.0f;
    float sums[EACH] = {}, products[EACH] = {}, part = 0;
    const Pixels<T> source = {x, norm.channels};
    Pack<T> next = source.at(walk.pixel, channel, pixels), next_grads = g.at(walk.pixel, channel, pixels), next_others;
    if (QUANTIZER != NONE) next_others = direct.at(walk.pixel, channel, pixels);
    for (long long pixel = walk.pixel; pixel < pixels; pixel += walk.step) {
        const long long at = pixel * norm.channels + channel;
        Pack<T> given = next, grads = next_grads, others = next_others;
        next = source.at(pixel + walk.step, channel, pixels);
        next_grads = g.at(pixel + walk.step, channel, pixels);
        if (QUANTIZER != NONE) next_others = direct.at(pixel + walk.step, channel, pixels);
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const float raw = wide(given.v[i]);
            T passed = grads.v[i];
            if (SILU) {
                const T z = channels.normalized<T>(raw, i);
                const float a = wide(z), factor = 1.0f / (1.0f + expf(-a));
                float grad = wide(grads.v[i]);
                if (QUANTIZER != NONE) {
                    const float value = silu(z);
                    const float ratio = QUANTIZER == LEARNED ? __fdiv_rn(value, step) : rintf(value * inverse);
                    const bool in = inside(ratio);
                    if (QUANTIZER == LEARNED) part += grad * (rintf(clipped(ratio)) - (in ? ratio : 0.0f));
                    grad = in ? grad : 0.0f;
                    if (direct.from) {
                        narrow(grad + wide(others.v[i]), passed); /* as autograd adds two gradients */
                        grad = wide(passed);
                    }
                }
                narrow(grad * factor * (1.0f + a * (1.0f - factor)), passed);
            }
            const float grad = wide(passed);
            sums[i] += grad;
            products[i] += grad * (raw - channels.mean[i]);
            narrow(grad * channels.weight[i] * channels.invstd[i], given.v[i]);
        }
        *(Pack<T> *)(out + at) = given;
    }
    float *row = parts + (long long)blockIdx.x * (2 * norm.channels + 1);
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        shared[i * THREADS + threadIdx.x] = sums[i];
        shared[(EACH + i) * THREADS + threadIdx.x] = products[i];
    }
    __syncthreads();
    for (u32 k = threadIdx.x; k < 2 * norm.channels; k += THREADS) {
        const u32 of = k % norm.channels;
        const float *first = shared + (k / norm.channels * EACH + of % EACH) * THREADS + of / EACH;
        float total = 0;
        for (u32 lane = 0; lane < walk.lanes; lane++) total += first[lane * walk.columns];
        row[k] = total;
    }
    if (QUANTIZER != LEARNED) return;
    part = block_sum(part);
    if (threadIdx.x == 0) row[2 * norm.channels] = part;
}

/* Adds up `rows` rows of parts, always in the same order: gradients of bias, weight and, times `damping`, of a learned
 * scale; each may be null. A block has 32 columns and eight threads for each. */
__device__ void norm_sums(
    const float *parts, float *bias, float *weight, float *scale, const Norm &norm, float damping, u32 rows) {
    __shared__ float shared[THREADS];
    const u32 width = 2 * norm.channels + 1, column = blockIdx.x * 32 + threadIdx.x % 32;
    float total = 0;
    if (column + (scale ? 0 : 1) < width)
        for (u32 row = threadIdx.x / 32; row < rows; row += THREADS / 32) total += parts[(long long)row * width + column];
    shared[threadIdx.x] = total;
    __syncthreads();
    if (threadIdx.x >= 32 || column >= width) return;
    for (u32 i = 1; i < THREADS / 32; i++) total += shared[i * 32 + threadIdx.x];
    if (column < norm.channels) {
        if (bias) bias[column] = total;
    } else if (column < 2 * norm.channels) {
        const u32 channel = column - norm.channels;
        if (weight) weight[channel] = total * rsqrtf(norm.variance[channel] + norm.eps);
    } else if (scale) {
        *scale = total * damping;
    }
}

#define NORM(T, NAME, KIND, SILU, QUANTIZER) \
    extern "C" __global__ void __launch_bounds__(THREADS, 2) KIND##_##NAME( \
        const T *x, T *z, T *y, T *q, Norm norm, const float *learned, float scale, float inverse, long long pixels) { \
        norm_forward<T, SILU, QUANTIZER>(x, z, y, q, norm, learned, scale, inverse, pixels); \
    } \
    extern "C" __global__ void __launch_bounds__(THREADS, 2) KIND##_backward_##NAME( \
        const T *x, Pixels<T> g, Pixels<T> direct, T *out, Norm norm, float *parts, const float *learned, float inverse, \
        long long pixels) { \
        norm_backward<T, SILU, QUANTIZER>(x, g, direct, out, norm, parts, learned, inverse, pixels); \
    }
NORM(Brain, bfloat16, norm, false, NONE)
NORM(Brain, bfloat16, norm_silu, true, NONE)
NORM(Brain, bfloat16, norm_silu_quantize, true, FIXED)
NORM(Brain, bfloat16, norm_silu_learned, true, LEARNED)
extern "C" __global__ void norm_sums_bfloat16(
    const float *parts, float *bias, float *weight, float *scale, Norm norm, float damping, u32 rows) {
    norm_sums(parts, bias, weight, scale, norm, damping, rows);
}
