/* The sweep of quantbench/calibration/sweep.c on an NVIDIA GPU: |x|, its maximum, NaN and infinity, and the histogram
 * on the nested grid, in one reading of the tensor. Compiled by NVRTC (quantbench/qat/nvrtc.py).
 *
 * Each block keeps a private histogram in shared memory, several copies of it for different lanes, two bins of 16 bits
 * in a word: with 16 copies no more than two lanes of a warp ever meet in a bank. Before a counter can overflow the
 * copies are added up into registers. The block holds a tile in registers, looks whether a value lies past the grid (one
 * barrier with a vote), gives away what it has if so, and counts the tile. At the end it adds what it has to the tensor's
 * row, or, where its grid grew, to `scratch`, a histogram for each possible exponent; then the last block of the launch
 * folds all of them into the row. So nothing waits for the host, and the result is that of any other order.
 */
typedef unsigned int u32;
typedef unsigned short u16;
typedef unsigned long long u64;

#define BITS 12
#define BINS (1 << BITS)
#define MIN_EXPONENT (-126)
#define SLOTS 243
#define INFINITE 0x7f800000u
#ifndef THREADS
#define THREADS 1024
#endif
#ifndef VECTORS
#define VECTORS 2
#endif
#ifndef COPIES
#define COPIES 16
#endif
/* Word w of a copy holds the counts of bins w and w + WORDS; the copies of a word lie beside each other. */
#define WORDS (BINS / 2)
#define OWNED (WORDS / THREADS)

enum { FLOAT32 = 0, FLOAT16 = 1, BFLOAT16 = 2 };

struct State {
    u64 *counts;     /* [rows, BINS] */
    int *exponents;  /* [rows] */
    u32 *maxima;     /* [rows], bits of a float32 */
    u32 *scratch;    /* [SLOTS, BINS], zero between launches */
    u32 *used;       /* [8], a bit for each slot */
    u32 *finished;   /* blocks that are done */
};

__device__ __forceinline__ int exponent_for(u32 bits) {
    int exponent = (int)(min(bits, INFINITE - 1u) >> 23) - 126 - BITS;
    return max(exponent, MIN_EXPONENT);
}

template <int KIND> __device__ __forceinline__ u32 magnitude(u32 word, int half) {
    if (KIND == FLOAT32) return word & 0x7fffffffu;
    u16 value = half ? (u16)(word >> 16) : (u16)(word & 0xffffu);
    if (KIND == BFLOAT16) return (u32)(value & 0x7fffu) << 16;
    float wide;
    asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"((u16)(value & 0x7fffu)));
    return __float_as_uint(wide);
}

/* The largest |x| of a vector, as bits of a float32. For halves too the order of the bits is that of the values. */
template <int KIND> __device__ __forceinline__ u32 largest(const uint4 &v) {
    u32 words[4] = {v.x, v.y, v.z, v.w}, found = 0;
#if __CUDA_ARCH__ >= 900
    if (KIND != FLOAT32) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            u32 word = words[i] & 0x7fff7fffu;
            asm("max.u16x2 %0, %0, %1;" : "+r"(found) : "r"(word));
        }
        return magnitude<KIND>(max(found & 0xffffu, found >> 16), 0);
    }
#endif
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int half = 0; half < (KIND == FLOAT32 ? 1 : 2); half++) found = max(found, magnitude<KIND>(words[i], half));
    return found;
}

__device__ __forceinline__ void load(uint4 *tile, const uint4 *source, long long start, long long vectors) {
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        long long at = start + v * THREADS + threadIdx.x;
        tile[v] = at < vectors ? __ldcs(source + at) : make_uint4(0, 0, 0, 0);
    }
}

/* Bin 0 is not counted here: it is what all elements and all other bins differ by. */
__device__ __forceinline__ void count_one(u32 bits, float scale, u32 mine) {
    /* Scaling by a power of two is exact, so this is floor(|x| * scale) + 2^23, and the bin its last 12 bits. What is
     * infinite or NaN lands anywhere: its row is told to be broken. A predicate and not a branch, which lanes would take
     * in turns. */
    u32 bin = __float_as_uint(__fmaf_rz(__uint_as_float(bits), scale, 8388608.0f));
    u32 one = bin & WORDS ? 1u << 16 : 1u;
    asm volatile("{ .reg .pred some; .reg .u32 low; and.b32 low, %2, %3; setp.ne.u32 some, low, 0;\n"
                 "@some red.shared.add.u32 [%0], %1; }"
                 :: "r"(mine + (bin & (WORDS - 1)) * COPIES * 4), "r"(one), "r"(bin), "n"(BINS - 1) : "memory");
}

template <int KIND> __device__ __forceinline__ void count(const uint4 &v, float scale, u32 mine) {
    u32 words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int half = 0; half < (KIND == FLOAT32 ? 1 : 2); half++) count_one(magnitude<KIND>(words[i], half), scale, mine);
}

/* Move what the copies hold into `kept`: the counts of bins w and w + WORDS of each word that the thread owns. */
__device__ __forceinline__ void collect(u32 *table, u32 kept[OWNED][2], u32 &zeros) {
    __syncthreads();
#pragma unroll
    for (int k = 0; k < OWNED; k++) {
        uint4 *copies = (uint4 *)(table + (threadIdx.x + k * THREADS) * COPIES);
#pragma unroll
        for (int i = 0; i < COPIES / 4; i++) {
            int at = (i + threadIdx.x) % (COPIES / 4); /* neighbours look into different banks */
            uint4 v = copies[at];
            copies[at] = make_uint4(0, 0, 0, 0);
            u32 low = (v.x & 0xffffu) + (v.y & 0xffffu) + (v.z & 0xffffu) + (v.w & 0xffffu);
            u32 high = (v.x >> 16) + (v.y >> 16) + (v.z >> 16) + (v.w >> 16);
            kept[k][0] += low;
            kept[k][1] += high;
            zeros -= low + high;
        }
    }
    __syncthreads();
}

/* Add `kept` to the row where the grid is still the row's, else to the scratch of that grid; nothing is kept then. */
__device__ void give(u32 kept[OWNED][2], int exponent, int started, u64 *counts, const State &state) {
    const int slot = exponent - MIN_EXPONENT;
#pragma unroll
    for (int half = 0; half < 2; half++)
#pragma unroll
        for (int k = 0; k < OWNED; k++) {
            int bin = threadIdx.x + k * THREADS + half * WORDS;
            if (!kept[k][half]) continue;
            if (exponent > started) {
                atomicAdd(state.scratch + slot * BINS + bin, kept[k][half]);
                atomicOr(state.used + slot / 32, 1u << slot % 32);
            } else {
                atomicAdd(counts + bin, (u64)kept[k][half]);
            }
            kept[k][half] = 0;
        }
}

template <int KIND> __device__ void sweep(const void *data, long long size, int row, State state) {
    extern __shared__ u64 total[]; /* [BINS], at the end; until then the table in the same memory */
    u32 *table = (u32 *)total;     /* [WORDS, COPIES] */
    __shared__ u32 block_maximum, all_zeros;
    __shared__ int started, last;
    const int each = KIND == FLOAT32 ? 4 : 8;
    /* Tiles after which a 16-bit counter could be full, one more for the tail. */
    const int most = 65535 / (THREADS / COPIES * VECTORS * each) - 1;
    const long long vectors = size / each;
    const uint4 *source = (const uint4 *)data;
    for (int i = threadIdx.x; i < COPIES * WORDS / 4; i += THREADS) ((uint4 *)table)[i] = make_uint4(0, 0, 0, 0);
    if (threadIdx.x == 0) {
        started = *(volatile int *)(state.exponents + row);
        block_maximum = all_zeros = 0;
    }
    const long long step = (long long)gridDim.x * THREADS * VECTORS;
    long long start = (long long)blockIdx.x * THREADS * VECTORS;
    uint4 tile[VECTORS], next[VECTORS];
    load(next, source, start, vectors);
    __syncthreads();
    int exponent = started, pending = 0;
    u32 mine = (u32)__cvta_generic_to_shared(table + threadIdx.x % COPIES);
    u64 *counts = state.counts + (long long)row * BINS;
    u32 zeros = 0, maximum = 0, kept[OWNED][2] = {};
    for (; start <= vectors; start += step) {
        u32 found = 0, tail = 0;
#pragma unroll
        for (int v = 0; v < VECTORS; v++) {
            tile[v] = next[v];
            found = max(found, largest<KIND>(tile[v]));
        }
        load(next, source, start + step, vectors); /* on its way while this tile is counted */
        /* What is left over after whole vectors belongs to the tile that ends the tensor. */
        bool ends = start <= vectors && vectors < start + THREADS * VECTORS;
        long long left = vectors * each + threadIdx.x;
        bool has_tail = ends && threadIdx.x < each && left < size;
        if (has_tail) {
            u32 word = KIND == FLOAT32 ? ((const u32 *)data)[left] : ((const u16 *)data)[left];
            tail = magnitude<KIND>(word, 0);
            found = max(found, tail);
        }
        maximum = max(maximum, found);
        u32 limit = (u32)(exponent + BITS + 127) << 23;
        if (__syncthreads_or(found >= limit && exponent < exponent_for(found))) {
            atomicMax(&block_maximum, found);
            collect(table, kept, zeros); /* holds the barriers that the maximum needs */
            give(kept, exponent, started, counts, state);
            exponent = max(exponent, exponent_for(block_maximum));
            pending = 0;
        } else if (pending == most) {
            collect(table, kept, zeros);
            pending = 0;
        }
        pending++;
        float scale = __uint_as_float((u32)(127 - exponent) << 23);
#pragma unroll
        for (int v = 0; v < VECTORS; v++)
            if (start + v * THREADS + threadIdx.x < vectors) {
                count<KIND>(tile[v], scale, mine);
                zeros += each;
            }
        if (has_tail) {
            count_one(tail, scale, mine);
            zeros++;
        }
    }
    collect(table, kept, zeros);
    /* Of a thread `zeros` is what it read less what it collected, modulo 2^32; of all threads the elements in bin 0. */
    for (int offset = 16; offset; offset >>= 1) {
        zeros += __shfl_xor_sync(~0u, zeros, offset);
        maximum = max(maximum, __shfl_xor_sync(~0u, maximum, offset));
    }
    if (threadIdx.x % 32 == 0) {
        atomicAdd(&all_zeros, zeros);
        atomicMax(state.maxima + row, maximum);
    }
    __syncthreads();
    if (threadIdx.x == 0) kept[0][0] += all_zeros; /* zero lies in bin 0 of every grid */
    give(kept, exponent, started, counts, state);
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) last = atomicAdd(state.finished, 1u) == gridDim.x - 1;
    __syncthreads();
    if (!last) return;

    __threadfence();
    if (threadIdx.x == 0) *state.finished = 0;
    u32 used[8];
    int widest = started;
#pragma unroll
    for (int word = 0; word < 8; word++) {
        used[word] = __ldcg(state.used + word);
        if (used[word]) widest = word * 32 + 31 - __clz(used[word]) + MIN_EXPONENT;
    }
    if (widest == started) return;
    for (int bin = threadIdx.x; bin < BINS; bin += THREADS) total[bin] = 0;
    __syncthreads();
    for (int bin = threadIdx.x; bin < BINS; bin += THREADS) {
        u64 value = __ldcg(counts + bin);
        if (value) atomicAdd(&total[bin >> min(widest - started, BITS)], value);
    }
#pragma unroll
    for (int word = 0; word < 8; word++)
        for (u32 bits = used[word]; bits; bits &= bits - 1) {
            int from = word * 32 + __ffs(bits) - 1;
            int steps = min(widest - (from + MIN_EXPONENT), BITS);
            for (int bin = threadIdx.x; bin < BINS; bin += THREADS) {
                u32 value = __ldcg(state.scratch + from * BINS + bin);
                if (!value) continue;
                atomicAdd(&total[bin >> steps], (u64)value);
                state.scratch[from * BINS + bin] = 0;
            }
        }
    __syncthreads();
    for (int bin = threadIdx.x; bin < BINS; bin += THREADS) counts[bin] = total[bin];
    if (threadIdx.x < 8) state.used[threadIdx.x] = 0;
    if (threadIdx.x == 0) state.exponents[row] = widest;
}

#define KERNEL(NAME, KIND) \
    extern "C" __global__ void __launch_bounds__(THREADS) NAME(const void *data, long long size, int row, State state) { \
        sweep<KIND>(data, size, row, state); \
    }
KERNEL(sweep_float32, FLOAT32)
KERNEL(sweep_float16, FLOAT16)
KERNEL(sweep_bfloat16, BFLOAT16)
