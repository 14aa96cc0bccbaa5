/* The sweep of quantbench/calibration/sweep.c on an NVIDIA GPU: |x|, its maximum, NaN and infinity, and the histogram
 * on the nested grid, in one reading of each tensor. Compiled by NVRTC (quantbench/qat/nvrtc.py).
 *
 * A launch counts a list of tensors (jobs). They are cut into tiles, and each block takes a stretch of all tiles, so that
 * it meets few tensors and what a tensor costs beyond its reading is paid by few blocks.
 *
 * Each block keeps a private histogram in shared memory, several copies of it for different lanes, two bins of 16 bits
 * in a word. Before a counter can overflow the copies are added up into registers. The block holds a tile in registers, looks whether a value lies past the grid (one
 * barrier with a vote), gives away what it has if so, and counts the tile. At the end of a tensor it adds what it has to
 * the tensor's row, or, where its grid grew, to `scratch`, a histogram for each job and possible exponent; then the last
 * block of the launch folds all of them into the rows. So nothing waits for the host, and the result is that of any other
 * order.
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
#define THREADS 256
#endif
#ifndef VECTORS
#define VECTORS 4
#endif
#ifndef COPIES
#define COPIES 8
#endif
#ifndef JOBS
#define JOBS 16
#endif
#define TILE (THREADS * VECTORS)
#if __CUDA_ARCH__ >= 700
#define IN_PLACE __grid_constant__ /* read where the launch put it, not copied by each thread */
#else
#define IN_PLACE
#endif
/* Bytes from a bin to the next. */
#define STRIDE (4 * COPIES)
/* Word w of a copy holds the counts of bins w and w + WORDS; the copies of a word lie beside each other. */
#define WORDS (BINS / 2)
#define OWNED (WORDS / THREADS)

enum { FLOAT32 = 0, FLOAT16 = 1, BFLOAT16 = 2 };

struct State {
    u64 *counts;     /* [rows, BINS] */
    int *exponents;  /* [rows] */
    u32 *maxima;     /* [rows], bits of a float32 */
    u32 *scratch;    /* [JOBS, SLOTS, BINS], zero between launches */
    u32 *used;       /* [JOBS, 8], a bit for each slot */
    u32 *finished;   /* blocks that are done */
};

struct Job {
    const void *data;
    long long size;  /* elements */
    int row;
    int first;       /* tile, in the numbering of the launch */
};

struct Launch {
    Job jobs[JOBS];
    int count;
    int tiles;       /* of all jobs */
};

/* How far into its memory a job's row of `scratch` lies. */
#define SCRATCH(JOB, SLOT) (((long long)(JOB) * SLOTS + (SLOT)) * BINS)

__device__ __forceinline__ int exponent_for(u32 bits) {
    int exponent = (int)(min(bits, INFINITE - 1u) >> 23) - 126 - BITS;
    return max(exponent, MIN_EXPONENT);
}

/* A half, the low 16 bits, as bits of a float32. */
template <int KIND> __device__ __forceinline__ u32 widened(u32 half) {
    if (KIND == BFLOAT16) return half << 16;
    float wide;
    asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"((u16)half));
    return __float_as_uint(wide);
}

/* The largest |x| of a vector, as bits of a float32. For halves too the order of the bits is that of the values. */
template <int KIND> __device__ __forceinline__ u32 largest(const uint4 &v) {
    u32 words[4] = {v.x, v.y, v.z, v.w}, found = 0, high = 0;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if (KIND == FLOAT32) {
            found = max(found, words[i] & 0x7fffffffu);
            continue;
        }
        u32 word = words[i] & 0x7fff7fffu;
#if __CUDA_ARCH__ >= 900
        asm("max.u16x2 %0, %0, %1;" : "+r"(found) : "r"(word));
#else
        found = max(found, word & 0xffffu);
        high = max(high, word >> 16);
#endif
    }
    if (KIND == FLOAT32) return found;
    return widened<KIND>(max(found & 0xffffu, max(found >> 16, high)));
}

__device__ __forceinline__ void load(uint4 *tile, const uint4 *source, long long start, long long vectors) {
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        long long at = start + v * THREADS + threadIdx.x;
        tile[v] = at < vectors ? __ldcs(source + at) : make_uint4(0, 0, 0, 0);
    }
}

/* Count a value into the copy whose words begin at byte `copy` of the table. Zeros too, without a branch, which lanes would
 * take in turns: with it (a predicate also became one) FP16 values of a ReLU took 1.3 times as long. */
__device__ __forceinline__ void count_one(u32 bits, float scale, u32 copy, char *table) {
    /* Scaling by a power of two is exact, so this is floor(|x| * scale * STRIDE) + 2^23, and the bin the 12 bits above the
     * last SHIFT ones: shifted to where it tells a word's address. What is infinite or NaN lands anywhere: its row is told
     * to be broken. */
    u32 at = __float_as_uint(__fmaf_rz(__uint_as_float(bits), scale, (float)(8388608 / STRIDE)));
    u32 one = at & WORDS * STRIDE ? 1u << 16 : 1u;
    atomicAdd((u32 *)(table + ((at & (WORDS - 1) * STRIDE) | copy)), one);
}

template <int KIND> __device__ __forceinline__ void count(const uint4 &v, float scale, u32 copy, char *table) {
    u32 words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if (KIND == FLOAT32) {
            count_one(words[i] & 0x7fffffffu, scale, copy, table);
        } else {
            u32 word = words[i] & 0x7fff7fffu;
            count_one(widened<KIND>(word), scale, copy, table);
            count_one(widened<KIND>(word >> 16), scale, copy, table);
        }
    }
}

/* Move what the copies hold into `kept`: the counts of bins w and w + WORDS of each word that the thread owns. */
__device__ __forceinline__ void collect(u32 *table, u32 kept[OWNED][2]) {
    __syncthreads();
#pragma unroll
    for (int k = 0; k < OWNED; k++) {
        uint4 *copies = (uint4 *)(table + (threadIdx.x + k * THREADS) * COPIES);
#pragma unroll
        for (int i = 0; i < COPIES / 4; i++) {
            int at = (i + threadIdx.x) % (COPIES / 4); /* neighbours look into different banks */
            uint4 v = copies[at];
            copies[at] = make_uint4(0, 0, 0, 0);
            kept[k][0] += (v.x & 0xffffu) + (v.y & 0xffffu) + (v.z & 0xffffu) + (v.w & 0xffffu);
            kept[k][1] += (v.x >> 16) + (v.y >> 16) + (v.z >> 16) + (v.w >> 16);
        }
    }
    __syncthreads();
}

/* Add `kept` to the row where the grid is still the row's, else to the scratch of that grid; nothing is kept then. */
__device__ void give(u32 kept[OWNED][2], int exponent, int started, int number, u64 *counts, const State &state) {
    const int slot = exponent - MIN_EXPONENT;
#pragma unroll
    for (int half = 0; half < 2; half++)
#pragma unroll
        for (int k = 0; k < OWNED; k++) {
            int bin = threadIdx.x + k * THREADS + half * WORDS;
            if (!kept[k][half]) continue;
            if (exponent > started) {
                atomicAdd(state.scratch + SCRATCH(number, slot) + bin, kept[k][half]);
                atomicOr(state.used + number * 8 + slot / 32, 1u << slot % 32);
            } else {
                atomicAdd(counts + bin, (u64)kept[k][half]);
            }
            kept[k][half] = 0;
        }
}

/* Count tiles `tile` to `stop` of the job into its row; `table` is zero before and after. */
template <int KIND> __device__ __forceinline__ void sweep_job(const Job &job, int number, int tile, int stop, u32 *table, const State &state) {
    __shared__ u32 block_maximum;
    __shared__ int shared_started;
    const int each = KIND == FLOAT32 ? 4 : 8;
    /* Tiles after which a 16-bit counter could be full, one more for the tail. */
    const int most = 65535 / (THREADS / COPIES * VECTORS * each) - 1;
    const long long size = job.size, vectors = size / each, end = (long long)stop * TILE;
    const uint4 *source = (const uint4 *)job.data;
    if (threadIdx.x == 0) {
        shared_started = *(volatile int *)(state.exponents + job.row);
        block_maximum = 0;
    }
    long long start = (long long)tile * TILE;
    uint4 held[VECTORS], next[VECTORS];
    load(next, source, start, vectors);
    __syncthreads();
    const int started = shared_started;
    int exponent = started, pending = 0;
    const u32 copy = threadIdx.x % COPIES * 4;
    u64 *counts = state.counts + (long long)job.row * BINS;
    u32 maximum = 0, kept[OWNED][2] = {};
    for (; start < end; start += TILE) {
        u32 found = 0, tail = 0;
#pragma unroll
        for (int v = 0; v < VECTORS; v++) {
            held[v] = next[v];
            found = max(found, largest<KIND>(held[v]));
        }
        if (start + TILE < end) load(next, source, start + TILE, vectors); /* on its way while this tile is counted */
        /* What is left over after whole vectors belongs to the tile that ends the tensor. */
        bool ends = vectors < start + TILE;
        long long left = vectors * each + threadIdx.x;
        bool has_tail = ends && threadIdx.x < each && left < size;
        if (has_tail) {
            u32 word = KIND == FLOAT32 ? ((const u32 *)job.data)[left] : ((const u16 *)job.data)[left];
            tail = KIND == FLOAT32 ? word & 0x7fffffffu : widened<KIND>(word & 0x7fffu);
            found = max(found, tail);
        }
        maximum = max(maximum, found);
        u32 limit = (u32)(exponent + BITS + 127) << 23;
        if (__syncthreads_or(found >= limit && exponent < exponent_for(found))) {
            atomicMax(&block_maximum, found);
            collect(table, kept); /* holds the barriers that the maximum needs */
            give(kept, exponent, started, number, counts, state);
            exponent = max(exponent, exponent_for(block_maximum));
            pending = 0;
        } else if (pending == most) {
            collect(table, kept);
            pending = 0;
        }
        pending++;
        float scale = __uint_as_float((u32)(127 - exponent) << 23);
        if (!ends) {
#pragma unroll
            for (int v = 0; v < VECTORS; v++) count<KIND>(held[v], scale, copy, (char *)table);
        } else {
            for (int v = 0; v < VECTORS; v++)
                if (start + v * THREADS + threadIdx.x < vectors) count<KIND>(held[v], scale, copy, (char *)table);
            if (has_tail) count_one(tail, scale, copy, (char *)table);
        }
    }
    collect(table, kept);
    for (int offset = 16; offset; offset >>= 1) maximum = max(maximum, __shfl_xor_sync(~0u, maximum, offset));
    if (threadIdx.x % 32 == 0) atomicMax(state.maxima + job.row, maximum);
    give(kept, exponent, started, number, counts, state);
}

/* Fold what lies in the job's part of `scratch` into its row, by one block when all others are done; `total` [BINS]. */
__device__ void fold(int row, int number, u64 *total, const State &state) {
    u64 *counts = state.counts + (long long)row * BINS;
    u32 used[8];
    /* Another job of this launch may have had the same row. */
    const int started = *(volatile int *)(state.exponents + row);
    int widest = started;
    bool any = false;
#pragma unroll
    for (int word = 0; word < 8; word++) {
        used[word] = __ldcg(state.used + number * 8 + word);
        if (!used[word]) continue;
        widest = max(widest, word * 32 + 31 - __clz(used[word]) + MIN_EXPONENT);
        any = true;
    }
    if (!any) return;
    __syncthreads(); /* all have read the marks, the exponent and `total` */
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
            u32 *part = state.scratch + SCRATCH(number, from);
            for (int bin = threadIdx.x; bin < BINS; bin += THREADS) {
                u32 value = __ldcg(part + bin);
                if (!value) continue;
                atomicAdd(&total[bin >> steps], (u64)value);
                part[bin] = 0;
            }
        }
    __syncthreads();
    for (int bin = threadIdx.x; bin < BINS; bin += THREADS) counts[bin] = total[bin];
    if (threadIdx.x < 8) state.used[number * 8 + threadIdx.x] = 0;
    if (threadIdx.x == 0) *(volatile int *)(state.exponents + row) = widest;
    __threadfence();
    __syncthreads();
}

template <int KIND> __device__ void sweep(const Launch &launch, const State &state) {
    extern __shared__ u64 total[]; /* [BINS], at the end; until then the table in the same memory */
    u32 *table = (u32 *)total;     /* [WORDS, COPIES] */
    __shared__ int last;
    for (int i = threadIdx.x; i < COPIES * WORDS / 4; i += THREADS) ((uint4 *)table)[i] = make_uint4(0, 0, 0, 0);
    int tile = (int)((long long)launch.tiles * blockIdx.x / gridDim.x);
    const int end = (int)((long long)launch.tiles * (blockIdx.x + 1) / gridDim.x);
    for (int number = 0; number < launch.count && tile < end; number++) {
        const Job &job = launch.jobs[number];
        const int after = number + 1 < launch.count ? launch.jobs[number + 1].first : launch.tiles;
        if (after <= tile) continue;
        const int stop = min(after, end);
        sweep_job<KIND>(job, number, tile - job.first, stop - job.first, table, state);
        tile = stop;
    }
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) last = atomicAdd(state.finished, 1u) == gridDim.x - 1;
    __syncthreads();
    if (!last) return;
    __threadfence();
    if (threadIdx.x == 0) *state.finished = 0;
    for (int number = 0; number < launch.count; number++) fold(launch.jobs[number].row, number, total, state);
}

#define KERNEL(NAME, KIND) \
    extern "C" __global__ void __launch_bounds__(THREADS) NAME(const IN_PLACE Launch launch, const IN_PLACE State state) { \
        sweep<KIND>(launch, state); \
    }
KERNEL(sweep_float32, FLOAT32)
KERNEL(sweep_float16, FLOAT16)
KERNEL(sweep_bfloat16, BFLOAT16)
