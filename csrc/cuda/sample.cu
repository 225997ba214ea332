/* What a mixer draws, on CUDA: the bits of csrc/cpu/sample.c, which says what is drawn and from where.
 *
 * Equal bits are owed to csrc/random.h and csrc/sampling.h, one source for both, of operations that IEEE 754 rounds
 * correctly. On a GPU those are, unless nvcc is told otherwise: + - * and conversions; / of float and double
 * (-prec-div=true: div.rn), sqrtf and sqrt (-prec-sqrt=true: sqrt.rn); subnormal numbers (-ftz=false). What it does
 * unless told otherwise is to contract a product and a sum; this file is compiled with --fmad=false. Its PTX then has
 * no fma of floating point (tests/test_cuda_exact.py looks); the machine code has those with which ptxas makes a
 * correctly rounded quotient or root.
 *
 * The seed lies on the device and is read there. One launch an op, two for partners of another class, and no memory but
 * the results: 4 n bytes are written by sample_lam, 8 n by sample_perm and sample_seed, 36 n by the boxes, 4 n size by
 * the noise. Nothing is read but the seed, the labels (8 n) and what cut_box is given (20 n). In batches of some
 * thousand that takes no longer than a launch itself. Noise alone can be large: 16 bytes for the 150 (uniform) or 330
 * (normal) instructions of a draw, so an H100 would be bound by its memory and by its arithmetic alike.
 *
 * Partners. The CPU sorts samples by random keys. Sorting takes a GPU memory and many launches, or one block; but a
 * sample can find its own place by looking at each of the others: its rank is the number of smaller keys, and the next
 * on a cycle is the one with the next larger key. That is n^2 comparisons, all alike, in one launch. Keys are drawn
 * where they are needed, a tile at a time into shared memory. LANES threads share a sample's comparisons: with more, a
 * block has fewer samples to draw all n keys for, with fewer, small batches keep few blocks busy. The pair of two
 * samples takes 12 instructions (15 in a cycle, 27 with classes), and 5 (10) for its share of the keys, most of them of
 * integers, of which an H100 does 1.4e13 a second: under 3 us for n = 1024, 0.1 ms (0.2 with classes) for 8192. From
 * some ten thousand on a sort is faster; 65,536 take 5 ms, and 10 with classes (all of this on paper).
 *
 * Partners of another class are s places on in the order by class and own key, where s depends on the largest class:
 * known when all have counted. The first launch counts each sample's rank and class, and puts both into the place of
 * that rank; the second, one block, finds s and the partners, in the same memory: see `place`.
 */
#include "common.cuh"

#include "../sampling.h"

namespace
{

enum { THREADS = 256, LANES = 16, SAMPLES = THREADS / LANES, TURN_THREADS = 1024 };

__device__ inline int64_t first_item() { return blockIdx.x * (int64_t)blockDim.x + threadIdx.x; }
__device__ inline int64_t item_step() { return gridDim.x * (int64_t)blockDim.x; }

/* Aligned or not. */
template <typename element, int count> __device__ void store(const sumix_vector<element, count> &made, element *out)
{
  if (sumix_is_aligned(out, sizeof made)) {
    *(sumix_vector<element, count> *)out = made;
  } else {
    for (int k = 0; k < count; k++) out[k] = made.at[k];
  }
}

/* ---- Ratios and boxes: a thread a sample, one launch ---- */

__device__ inline float draw_beta(uint64_t seed, double alpha, int64_t i)
{
  const struct sumix_words words = sumix_philox(seed, (uint64_t)i, 0, SUMIX_STREAM_LAM);
  return (float)(alpha == 1 ? sumix_uniform_f64(sumix_half(words, 0)) : sumix_beta(words, alpha));
}

/* A draw of its own, so that p changes no other number. */
__device__ inline bool draw_mixed(uint64_t seed, double p, int64_t i)
{
  return p == 1 || sumix_uniform_f64(sumix_half(sumix_philox(seed, (uint64_t)i, 1, SUMIX_STREAM_LAM), 0)) < p;
}

__global__ void __launch_bounds__(THREADS) sample_lam(struct sumix_sample_lam_args a)
{
  const uint64_t seed = (uint64_t)*a.seed;
  for (int64_t i = first_item(); i < a.n; i += item_step())
    a.lam[i] = draw_mixed(seed, a.p, i) ? draw_beta(seed, a.alpha, i) : 1;
}

__global__ void __launch_bounds__(THREADS) sample_box(struct sumix_sample_box_args a)
{
  const uint64_t seed = (uint64_t)*a.seed;
  const uint32_t other_draw = a.kind == SUMIX_BOX_MINMAX ? 1 : 2;
  for (int64_t i = first_item(); i < a.n; i += item_step()) {
    sumix_vector<int64_t, 4> box = {};
    float left = 1;
    if (draw_mixed(seed, a.p, i)) {
      const float lam = a.alpha > 0 && a.kind != SUMIX_BOX_MINMAX ? draw_beta(seed, a.alpha, i) : 0;
      left = sumix_draw_box(&a, lam, sumix_philox(seed, (uint64_t)i, 0, SUMIX_STREAM_BOX),
                            sumix_philox(seed, (uint64_t)i, other_draw, SUMIX_STREAM_BOX), box.at);
    }
    a.lam[i] = left;
    store(box, a.box + 4 * i);
  }
}

__global__ void __launch_bounds__(THREADS) sample_cut_box(struct sumix_cut_box_args a)
{
  for (int64_t i = first_item(); i < a.n; i += item_step()) {
    const float lam = a.lam[i];
    const int64_t x = a.centre[2 * i], y = a.centre[2 * i + 1];
    assert(lam >= 0 && lam <= 1 && "lam is out of range");  // so that NaN fails
    assert(x >= 0 && x < a.width && y >= 0 && y < a.height && "centre is out of range");
    sumix_vector<int64_t, 4> box;
    a.exact_lam[i] = sumix_cut_box(lam, x, y, a.height, a.width, box.at);
    store(box, a.box + 4 * i);
  }
}

/* ---- Partners ---- */

__device__ inline uint64_t draw_key(uint64_t seed, int64_t i)
{
  return sumix_half(sumix_philox(seed, (uint64_t)i, 0, SUMIX_STREAM_PERM), 0);
}

/* Sums over the LANES threads of a sample. */
__device__ inline uint32_t sum_of_lanes(uint32_t value)
{
  for (int offset = LANES / 2; offset > 0; offset /= 2) value += __shfl_xor_sync(~0u, value, offset);
  return value;
}

/* perm[rank] is the sample. One launch, LANES threads a sample. */
__global__ void __launch_bounds__(THREADS)
    sample_any(const int64_t *__restrict__ seed_at, int64_t n, int64_t *__restrict__ perm)
{
  __shared__ uint64_t keys[THREADS];
  const uint64_t seed = (uint64_t)*seed_at;
  const int lane = (int)threadIdx.x % LANES;
  for (int64_t sample = (int64_t)blockIdx.x * SAMPLES; sample < n; sample += (int64_t)gridDim.x * SAMPLES) {
    const int64_t i = sample + threadIdx.x / LANES;
    const uint64_t key = draw_key(seed, i);
    uint32_t rank = 0;
    for (int64_t first = 0; first < n; first += THREADS) {
      __syncthreads();
      keys[threadIdx.x] = draw_key(seed, first + threadIdx.x);
      __syncthreads();
      const int count = n - first < THREADS ? (int)(n - first) : THREADS;
      const int own = (int)(i - first);  // of two equal keys, that of the lower number is smaller
      for (int t = lane; t < count; t += LANES) rank += keys[t] < key || (keys[t] == key && t < own);
    }
    rank = sum_of_lanes(rank);
    if (lane == 0 && i < n) perm[rank] = i;
  }
}

/* How far it is from one sample's key up to another's, beyond the greatest key to the least. A number of 96 bits: of
 * two equal keys, that of the lower number is smaller. Distances less one, so that a sample itself is farthest away. */
struct distance {
  uint64_t high;
  uint32_t low;
};

__device__ inline struct distance distance_to(uint64_t key, uint64_t from_key, uint32_t number, uint32_t from_number)
{
  const struct distance far = {key - from_key - (number <= from_number), number - from_number - 1};
  return far;
}

__device__ inline bool is_nearer(struct distance a, struct distance b)
{
  return a.high < b.high || (a.high == b.high && a.low < b.low);
}

/* A sample's partner is the nearest. One launch, LANES threads a sample. */
__global__ void __launch_bounds__(THREADS)
    sample_cycle(const int64_t *__restrict__ seed_at, int64_t n, int64_t *__restrict__ perm)
{
  __shared__ uint64_t keys[THREADS];
  const uint64_t seed = (uint64_t)*seed_at;
  const int lane = (int)threadIdx.x % LANES;
  for (int64_t sample = (int64_t)blockIdx.x * SAMPLES; sample < n; sample += (int64_t)gridDim.x * SAMPLES) {
    const int64_t i = sample + threadIdx.x / LANES;
    const uint64_t key = draw_key(seed, i);
    struct distance nearest = {UINT64_MAX, UINT32_MAX};
    for (int64_t first = 0; first < n; first += THREADS) {
      __syncthreads();
      keys[threadIdx.x] = draw_key(seed, first + threadIdx.x);
      __syncthreads();
      const int count = n - first < THREADS ? (int)(n - first) : THREADS;
      for (int t = lane; t < count; t += LANES) {
        const struct distance far = distance_to(keys[t], key, (uint32_t)first + t, (uint32_t)i);
        if (is_nearer(far, nearest)) nearest = far;
      }
    }
    for (int offset = LANES / 2; offset > 0; offset /= 2) {
      const struct distance far = {__shfl_xor_sync(~0u, nearest.high, offset),
                                   __shfl_xor_sync(~0u, nearest.low, offset)};
      if (is_nearer(far, nearest)) nearest = far;
    }
    if (lane == 0 && i < n) perm[i] = (uint32_t)i + 1 + nearest.low;
  }
}

/* ---- Partners of another class ---- */

/* What an int64 of `perm` holds meanwhile. `sample`: whose rank this is. `other`: first how many that sample's class
 * has, later the partner of the sample with this number. A number below 2^32 and a 0 after it are the int64 that the
 * number is: GPUs put the low half first. */
struct place {
  uint32_t sample, other;
};

/* What samples are ordered by: their class's key, then, should two be equal, its label, their own key, their number. */
struct ranked {
  uint64_t class_key, label, key;
};

__device__ inline struct ranked draw_ranked(uint64_t seed, const int64_t *__restrict__ labels, int64_t n, int64_t i)
{
  const uint64_t label = i < n ? (uint64_t)labels[i] : 0;
  const struct ranked made = {sumix_class_key(seed, label), label, draw_key(seed, i)};
  return made;
}

/* The first launch: LANES threads a sample. */
__global__ void __launch_bounds__(THREADS)
    sample_ranks(const int64_t *__restrict__ seed_at, const int64_t *__restrict__ labels, int64_t n,
                 struct place *__restrict__ places)
{
  __shared__ struct ranked others[THREADS];
  const uint64_t seed = (uint64_t)*seed_at;
  const int lane = (int)threadIdx.x % LANES;
  for (int64_t sample = (int64_t)blockIdx.x * SAMPLES; sample < n; sample += (int64_t)gridDim.x * SAMPLES) {
    const int64_t i = sample + threadIdx.x / LANES;
    const struct ranked own = draw_ranked(seed, labels, n, i);
    uint32_t rank = 0, classmates = 0;
    for (int64_t first = 0; first < n; first += THREADS) {
      __syncthreads();
      others[threadIdx.x] = draw_ranked(seed, labels, n, first + threadIdx.x);
      __syncthreads();
      const int count = n - first < THREADS ? (int)(n - first) : THREADS, own_place = (int)(i - first);
      for (int t = lane; t < count; t += LANES) {
        const struct ranked other = others[t];
        const bool before_in_class = other.key < own.key || (other.key == own.key && t < own_place);
        const bool class_before =
            other.class_key < own.class_key || (other.class_key == own.class_key && other.label < own.label);
        classmates += other.label == own.label;
        rank += other.label == own.label ? before_in_class : class_before;
      }
    }
    rank = sum_of_lanes(rank);
    classmates = sum_of_lanes(classmates);
    if (lane == 0 && i < n) {
      const struct place made = {(uint32_t)i, classmates};
      places[rank] = made;
    }
  }
}

/* The second launch: one block, for the barriers between what all read and what all write. */
__global__ void __launch_bounds__(TURN_THREADS)
    sample_turn(const int64_t *__restrict__ seed, int64_t n, struct place *places)
{
  __shared__ uint32_t scratch[SUMIX_WARP];
  uint32_t largest = 0;
  for (int64_t rank = threadIdx.x; rank < n; rank += TURN_THREADS) largest = sumix_max()(places[rank].other, largest);
  const int64_t shift = sumix_class_shift((uint64_t)*seed, sumix_block_reduce(largest, sumix_max(), scratch), n);
  for (int64_t rank = threadIdx.x; rank < n; rank += TURN_THREADS) {
    const int64_t to = rank + shift < n ? rank + shift : rank + shift - n;
    places[places[rank].sample].other = places[to].sample;
  }
  __syncthreads();
  for (int64_t i = threadIdx.x; i < n; i += TURN_THREADS) {
    const struct place partner = {places[i].other, 0};
    places[i] = partner;
  }
}

/* ---- Noise: a thread a draw of four elements, one launch ---- */

struct uniform {
  __device__ sumix_vector<float, 4> operator()(struct sumix_words words) const
  {
    sumix_vector<float, 4> made;
    for (int k = 0; k < 4; k++) made.at[k] = sumix_uniform_f32(words.w[k]);
    return made;
  }
};
struct normal {
  __device__ sumix_vector<float, 4> operator()(struct sumix_words words) const
  {
    sumix_vector<float, 4> made;
    for (int k = 0; k < 4; k += 2) sumix_normals(words.w[k], words.w[k + 1], &made.at[k], &made.at[k + 1]);
    return made;
  }
};

/* Written in 16 bytes where every sample's elements begin at a multiple of them, which is where size is one of four. */
template <typename distribution> __global__ void __launch_bounds__(THREADS)
    sample_noise(const int64_t *__restrict__ seed_at, int64_t n, int64_t size, float *__restrict__ out,
                 enum sumix_stream stream, distribution made_of)
{
  const uint64_t seed = (uint64_t)*seed_at;
  const int64_t draws = (size + 3) / 4;
  for (int64_t item = first_item(); item < n * draws; item += item_step()) {
    const int64_t i = item / draws, draw = item % draws;
    const sumix_vector<float, 4> made = made_of(sumix_philox(seed, (uint64_t)i, (uint32_t)draw, stream));
    float *const at = out + i * size + 4 * draw;
    if (size - 4 * draw >= 4) {
      store(made, at);
    } else {
      for (int k = 0; k < 3; k++)
        if (4 * draw + k < size) at[k] = made.at[k];
    }
  }
}

template <typename distribution> int launch_noise(const struct sumix_sample_noise_args *a, enum sumix_stream stream,
                                                  distribution made_of, void *cuda_stream)
{
  if (a->n == 0 || a->size == 0) return 0;
  SUMIX_LAUNCH(sample_noise<distribution>, sumix_grid(a->n * ((a->size + 3) / 4), THREADS), THREADS, 0, cuda_stream,
               a->seed, a->n, a->size, a->out, stream, made_of);
  return (int)cudaGetLastError();
}

/* ---- Seeds: a thread each, one launch ---- */

__global__ void __launch_bounds__(THREADS)
    sample_seed(const int64_t *__restrict__ seed, int64_t n, int64_t *__restrict__ seeds)
{
  for (int64_t i = first_item(); i < n; i += item_step())
    seeds[i] = (int64_t)sumix_half(sumix_philox((uint64_t)*seed, (uint64_t)i, 0, SUMIX_STREAM_SEED), 0);
}

}  // namespace

extern "C" int sumix_sample_lam_cuda(const struct sumix_sample_lam_args *a, void *stream)
{
  if (a->n == 0) return 0;
  SUMIX_LAUNCH(sample_lam, sumix_grid(a->n, THREADS), THREADS, 0, stream, *a);
  return (int)cudaGetLastError();
}

extern "C" int sumix_sample_perm_cuda(const struct sumix_sample_perm_args *a, void *stream)
{
  const unsigned grid = sumix_grid(a->n, SAMPLES);
  if (a->n == 0) return 0;
  if (a->partners == SUMIX_PARTNERS_ANY) SUMIX_LAUNCH(sample_any, grid, THREADS, 0, stream, a->seed, a->n, a->perm);
  if (a->partners == SUMIX_PARTNERS_NO_FIXED_POINTS)
    SUMIX_LAUNCH(sample_cycle, grid, THREADS, 0, stream, a->seed, a->n, a->perm);
  if (a->partners == SUMIX_PARTNERS_CROSS_CLASS) {
    struct place *const places = (struct place *)a->perm;
    SUMIX_LAUNCH(sample_ranks, grid, THREADS, 0, stream, a->seed, a->labels, a->n, places);
    SUMIX_LAUNCH(sample_turn, 1, TURN_THREADS, 0, stream, a->seed, a->n, places);
  }
  return (int)cudaGetLastError();
}

extern "C" int sumix_sample_box_cuda(const struct sumix_sample_box_args *a, void *stream)
{
  if (a->n == 0) return 0;
  SUMIX_LAUNCH(sample_box, sumix_grid(a->n, THREADS), THREADS, 0, stream, *a);
  return (int)cudaGetLastError();
}

extern "C" int sumix_cut_box_cuda(const struct sumix_cut_box_args *a, void *stream)
{
  if (a->n == 0) return 0;
  SUMIX_LAUNCH(sample_cut_box, sumix_grid(a->n, THREADS), THREADS, 0, stream, *a);
  return (int)cudaGetLastError();
}

extern "C" int sumix_sample_uniform_cuda(const struct sumix_sample_uniform_args *a, void *stream)
{
  return launch_noise(&a->noise, SUMIX_STREAM_UNIFORM, uniform(), stream);
}

extern "C" int sumix_sample_normal_cuda(const struct sumix_sample_normal_args *a, void *stream)
{
  return launch_noise(&a->noise, SUMIX_STREAM_NORMAL, normal(), stream);
}

extern "C" int sumix_sample_seed_cuda(const struct sumix_sample_seed_args *a, void *stream)
{
  if (a->n == 0) return 0;
  SUMIX_LAUNCH(sample_seed, sumix_grid(a->n, THREADS), THREADS, 0, stream, a->seed, a->n, a->seeds);
  return (int)cudaGetLastError();
}
