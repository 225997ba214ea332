/* The k largest pixels of each image, as a mask, on CUDA: the order, the edges and the bits of csrc/cpu/mask.c, a block
 * an image.
 *
 *   sample_top_k   a thread a sample, one launch
 *   mask_top_k     one launch: the cut is selected, not sorted for; only a soft edge's pixels are
 *
 * A pixel's depth is how far its key is below the greatest there is, so rank 1 has the least depth. The depth of rank k
 * is found digit by digit, the highest first: counts of the digit's values, in shared memory, among the pixels that have
 * the digits found so far; their running sum says which value rank k has. Three digits (11, 11 and 10 bits) instead of
 * the CPU's search by false position: a count of all pixels costs a GPU a pass and two barriers like a whole histogram,
 * which says 11 bits where the count says one. A soft edge has two cuts, found in the same passes. Of the pixels equal
 * to the last that is kept, the first in index order are.
 *
 * Counts are atomic increments in shared memory, and whole numbers: the same in any order. Digits of smooth images crowd
 * into few values, and those of a constant one into one, where increments wait for each other; so a warp adds up those
 * of one of its values before it touches memory.
 *
 * The soft edge's ranks come from a stable radix sort of its pixels' indices, the lowest byte of the depth first. Each
 * warp counts, and later moves, a stretch of its own, which keeps the order without a barrier in between; what moves in
 * the last pass is the mask's value. 2 s pixels cost at most 4 passes over them however large s is.
 *
 * An image of up to 4096 pixels stays in shared memory as depths, with the lists of indices: one read and one write of
 * device memory a pixel. Larger ones are read again from the caches: 3 passes for the cuts, 1 for the mask, 2 more for a
 * soft edge; their lists of indices lie in scratch and, until it is written, in the mask.
 */
#include "../mask.h"
#include "common.cuh"

namespace
{

enum {
  SAMPLE_THREADS = 256,
  DIGIT_BITS = 11,  // of a selection's histogram
  BINS = 1 << DIGIT_BITS,
  RADIX_BITS = 8,  // of the sort
  RADIX = 1 << RADIX_BITS,
  QUAD = 4,  // pixels of a vector
};

/* Where a place beyond the image's end ranks: after every pixel, the deepest of which is -inf's. */
const uint32_t beyond = UINT32_MAX;

__device__ inline uint32_t depth_of(float value)
{
  return (uint32_t)INT32_MAX - (uint32_t)sumix_key_of_bits(sumix_bits_of_float(value));
}

/* A block's image. How many threads it has, and the type of an index, by where the image is. */
template <bool in_shared> struct pixels {
  enum { THREADS = 1024, PER_SM = 1 };
  typedef uint32_t index;
  const float *grey;
  uint32_t *depth;  // not there
  uint32_t size;
  bool aligned;  // grey and mask are, so that vectors of them can be
};
template <> struct pixels<true> {
  enum { THREADS = 256, PER_SM = 4 };
  typedef uint16_t index;
  const float *grey;
  uint32_t *depth;  // shared: (size, rounded up to vectors), of which the last are `beyond`
  uint32_t size;
  bool aligned;
};

__device__ inline uint32_t depth_at(pixels<true> image, uint32_t j) { return image.depth[j]; }
__device__ inline uint32_t depth_at(pixels<false> image, uint32_t j) { return depth_of(image.grey[j]); }

typedef sumix_vector<uint32_t, QUAD> depths;
typedef sumix_vector<float, QUAD> values;

/* Of the pixels j .. j + 3, from memory; j is a multiple of 4. */
template <bool in_shared> __device__ depths read_depths(pixels<in_shared> image, uint32_t j)
{
  depths depth;
  if (image.aligned && j < image.size) {
    const values value = *(const values *)&image.grey[j];
    for (int e = 0; e < QUAD; e++) depth.at[e] = depth_of(value.at[e]);
  } else {
    for (int e = 0; e < QUAD; e++) depth.at[e] = j + e < image.size ? depth_of(image.grey[j + e]) : beyond;
  }
  return depth;
}

__device__ inline depths depths_at(pixels<true> image, uint32_t j) { return *(const depths *)&image.depth[j]; }
__device__ inline depths depths_at(pixels<false> image, uint32_t j) { return read_depths(image, j); }

/* The pixels that are kept: all of less depth, and of this depth those whose index is below `end`. */
struct cut {
  uint32_t depth, end;
};

__device__ inline bool keeps(struct cut cut, uint32_t depth, uint32_t index)
{
  return depth < cut.depth || (depth == cut.depth && index < cut.end);
}

/* The search for one cut: the digits found, which rank of the pixels that have them is wanted, counted from 1, and how
 * many pixels those are. */
struct search {
  uint32_t digits, rank, count;
};

struct shared {
  uint32_t sums[SUMIX_WARP];
  struct search search[2];
  struct cut cut[2];
};

__device__ inline unsigned lane_of_thread() { return threadIdx.x % SUMIX_WARP; }
__device__ inline unsigned warp_of_thread() { return threadIdx.x / SUMIX_WARP; }
__device__ inline unsigned lanes_below() { return (1u << lane_of_thread()) - 1; }

/* The sum over all threads before this one. sums: shared memory for 32, free again on return. */
template <int threads> __device__ uint32_t sum_before(uint32_t value, uint32_t *sums)
{
  uint32_t sum = value;
  for (int offset = 1; offset < SUMIX_WARP; offset *= 2) {
    const uint32_t other = __shfl_up_sync(~0u, sum, offset);
    if (lane_of_thread() >= (unsigned)offset) sum += other;
  }
  if (lane_of_thread() == SUMIX_WARP - 1) sums[warp_of_thread()] = sum;
  __syncthreads();
  for (unsigned warp = 0; warp < threads / SUMIX_WARP; warp++) sum += warp < warp_of_thread() ? sums[warp] : 0;
  __syncthreads();
  return sum - value;
}

/* Adds this pixel to its bin if it counts; for a whole warp. The pixels of the first lane's bin are added at once. */
__device__ inline void count(bool counts, uint32_t bin, uint32_t *histogram)
{
  const unsigned counting = __ballot_sync(~0u, counts);
  if (counting == 0) return;
  const int leader = __ffs((int)counting) - 1;
  const uint32_t first = __shfl_sync(~0u, bin, leader);
  const unsigned same = __ballot_sync(~0u, counts && bin == first);
  if ((int)lane_of_thread() == leader)
    atomicAdd(&histogram[first], (uint32_t)__popc(same));
  else if (counts && bin != first)
    atomicAdd(&histogram[bin], 1u);
}

/* The search goes on in the bin where its rank is. */
template <int threads>
__device__ void find_bin(const uint32_t *histogram, int bits, struct search *search, uint32_t *sums)
{
  enum { EACH = BINS / threads };
  const uint32_t first = threadIdx.x * EACH, rank = search->rank;
  uint32_t sum = 0;
  for (int b = 0; b < EACH; b++) sum += histogram[first + b];
  uint32_t before = sum_before<threads>(sum, sums);
  if (before < rank && rank <= before + sum) {
    uint32_t bin = first;
    while (before + histogram[bin] < rank) before += histogram[bin++];
    search->digits = search->digits << bits | bin;
    search->rank = rank - before;
    search->count = histogram[bin];
  }
}

/* The stretch of `items` that is this warp's: [*begin, *end), whole warps of them. */
template <int threads> __device__ void stretch(uint32_t items, uint32_t *begin, uint32_t *end)
{
  const uint32_t rounds = (items + threads - 1) / threads, from = warp_of_thread() * rounds * SUMIX_WARP;
  *begin = from < items ? from : items;
  *end = *begin + rounds * SUMIX_WARP < items ? *begin + rounds * SUMIX_WARP : items;
}

/* The cut ends after the `rank`-th pixel of its depth. */
template <bool in_shared>
__device__ void find_end(pixels<in_shared> image, uint32_t rank, struct cut *cut, uint32_t *sums)
{
  uint32_t begin, end, count = 0, before = 0;
  const uint32_t depth = cut->depth;
  stretch<pixels<in_shared>::THREADS>(image.size, &begin, &end);
  for (uint32_t j = begin; j < end; j += SUMIX_WARP) {
    const uint32_t at = j + lane_of_thread();
    count += __popc(__ballot_sync(~0u, at < end && depth_at(image, at) == depth));
  }
  if (lane_of_thread() == 0) sums[warp_of_thread()] = count;
  __syncthreads();
  for (unsigned warp = 0; warp < warp_of_thread(); warp++) before += sums[warp];
  const bool here = before < rank && rank <= before + count;
  for (uint32_t j = begin; here && j < end; j += SUMIX_WARP) {
    const uint32_t at = j + lane_of_thread();
    const bool equal = at < end && depth_at(image, at) == depth;
    const unsigned all = __ballot_sync(~0u, equal);
    if (equal && before + __popc(all & lanes_below()) + 1 == rank) cut->end = at + 1;
    before += __popc(all);
  }
  __syncthreads();
}

/* shared->cut[c], c < cuts: cuts that keep first and second pixels. histogram: shared, (cuts, BINS) */
template <bool in_shared> __device__ void find_cuts(pixels<in_shared> image, int cuts, uint32_t first, uint32_t second,
                                                    uint32_t *histogram, struct shared *shared)
{
  const int threads = pixels<in_shared>::THREADS;
  if (threadIdx.x < 2) {
    /* Where nothing is kept, the depth of the first pixel bounds a soft edge as well as any. */
    const uint32_t kept = threadIdx.x == 0 ? first : second;
    const struct search search = {0, kept > 0 ? kept : 1, 0};
    shared->search[threadIdx.x] = search;
  }
  for (int above = 32, shift; above > 0; above = shift) {
    shift = above < DIGIT_BITS ? 0 : above - DIGIT_BITS;
    const uint32_t last = (1u << (above - shift)) - 1;
    __syncthreads();
    const uint32_t one = shared->search[0].digits, other = shared->search[1].digits;
    const bool apart = cuts == 2 && one != other;  // else one histogram serves both cuts
    for (uint32_t b = threadIdx.x; b < (apart ? 2 : 1) * BINS; b += threads) histogram[b] = 0;
    __syncthreads();
    for (uint32_t j = 0; j < image.size; j += QUAD * threads) {
      const uint32_t at = j + QUAD * threadIdx.x;
      depths depth = {{beyond, beyond, beyond, beyond}};
      if (at < image.size) depth = depths_at(image, at);
      for (int e = 0; e < QUAD; e++) {
        const uint32_t high = depth.at[e] >> (above - 1) >> 1, bin = depth.at[e] >> shift & last;
        count(high == one, bin, histogram);
        if (apart) count(high == other, bin, histogram + BINS);
      }
    }
    __syncthreads();
    for (int c = 0; c < cuts; c++)
      find_bin<pixels<in_shared>::THREADS>(histogram + (apart ? c * BINS : 0), above - shift, &shared->search[c],
                                           shared->sums);
  }
  __syncthreads();
  for (int c = 0; c < cuts; c++) {
    const struct search found = shared->search[c];
    const uint32_t kept = c == 0 ? first : second;
    const struct cut cut = {found.digits, kept > 0 ? image.size : 0};
    if (threadIdx.x == 0) shared->cut[c] = cut;
    __syncthreads();
    if (kept > 0 && found.rank < found.count) find_end(image, found.rank, &shared->cut[c], shared->sums);
  }
}

template <bool in_shared> __device__ void write_hard(pixels<in_shared> image, struct cut cut, float *mask)
{
  const int threads = pixels<in_shared>::THREADS;
  for (uint32_t j = QUAD * threadIdx.x; j < image.size; j += QUAD * threads) {
    const depths depth = depths_at(image, j);
    values value;
    for (int e = 0; e < QUAD; e++) value.at[e] = keeps(cut, depth.at[e], j + e) ? 1.0f : 0.0f;
    if (image.aligned)
      *(values *)&mask[j] = value;
    else
      for (int e = 0; e < QUAD && j + e < image.size; e++) mask[j + e] = value.at[e];
  }
}

/* The lanes whose digit is this lane's, among the active ones; for a whole warp. */
__device__ inline unsigned peers_of(bool active, uint32_t digit)
{
  unsigned peers = __ballot_sync(~0u, active);
  for (int bit = 0; bit < RADIX_BITS; bit++) {
    const bool on = digit >> bit & 1;
    const unsigned with = __ballot_sync(~0u, on);
    peers &= on ? with : ~with;
  }
  return peers;
}

/* The mask falls from 1 to 0 over the `ranks` pixels between two cuts. counts: shared, (warps, RADIX); list: what the
 * last pass reads and every second one before it; other: what the others do, which may be the mask itself. */
template <bool in_shared, typename index>
__device__ void write_soft(pixels<in_shared> image, struct cut inner, struct cut outer, uint32_t ranks,
                           uint32_t *counts, index *list, index *other, uint32_t *sums, float *mask)
{
  const int threads = pixels<in_shared>::THREADS, warps = threads / SUMIX_WARP;
  uint32_t *const own = counts + warp_of_thread() * RADIX;
  const uint32_t deepest = outer.depth - inner.depth;
  int left = 1;  // passes
  while (left * RADIX_BITS < 32 && deepest >> left * RADIX_BITS != 0) left++;
  for (int shift = 0; left > 0; left--, shift += RADIX_BITS) {
    const index *const from = left % 2 == 1 ? list : other;
    index *const to = left % 2 == 1 ? other : list;
    uint32_t begin, end;
    stretch<threads>(shift == 0 ? image.size : ranks, &begin, &end);
    if (left == 1) write_hard(image, inner, mask);

    for (int digit = lane_of_thread(); digit < RADIX; digit += SUMIX_WARP) own[digit] = 0;
    __syncwarp();
    for (uint32_t j = begin + lane_of_thread(); j < end; j += SUMIX_WARP) {
      const uint32_t at = shift == 0 ? j : from[j], depth = depth_at(image, at);
      if (shift > 0 || (keeps(outer, depth, at) && !keeps(inner, depth, at)))
        atomicAdd(&own[(depth - inner.depth) >> shift & (RADIX - 1)], 1u);
    }
    __syncthreads();

    /* From how many there are to where they go: lower digits first, then earlier warps. */
    uint32_t sum = 0;
    for (int warp = 0; threadIdx.x < RADIX && warp < warps; warp++) sum += counts[warp * RADIX + threadIdx.x];
    uint32_t place = sum_before<threads>(sum, sums);
    for (int warp = 0; threadIdx.x < RADIX && warp < warps; warp++) {
      uint32_t *const at = &counts[warp * RADIX + threadIdx.x];
      const uint32_t here = *at;
      *at = place;
      place += here;
    }
    __syncthreads();

    for (uint32_t j = begin; j < end; j += SUMIX_WARP) {
      const uint32_t item = j + lane_of_thread();
      bool active = item < end;
      const uint32_t at = !active || shift == 0 ? item : from[item];
      const uint32_t depth = active ? depth_at(image, at) : 0;
      if (shift == 0) active = active && keeps(outer, depth, at) && !keeps(inner, depth, at);
      const uint32_t digit = (depth - inner.depth) >> shift & (RADIX - 1);
      const unsigned peers = peers_of(active, digit), before = peers & lanes_below();
      if (active) {
        const uint32_t rank = own[digit] + __popc(before);
        if (left == 1)
          mask[at] = sumix_ramp(rank, ranks);
        else
          to[rank] = (index)at;
      }
      __syncwarp();
      if (active && before == 0) own[digit] += __popc(peers);
      __syncwarp();
    }
    __syncthreads();
  }
}

/* Bytes moved: 8 a pixel, if the caches hold an image a block; 8 blocks an SM of small images, 1 or 2 of large ones. */
template <bool in_shared> __global__ void __launch_bounds__(pixels<in_shared>::THREADS, pixels<in_shared>::PER_SM)
    mask_cut(int64_t n, uint32_t size, bool aligned, const float *__restrict__ grey, const int64_t *__restrict__ k,
             const int64_t *__restrict__ soft, uint32_t *scratch, float *mask)
{
  const int threads = pixels<in_shared>::THREADS, counts = threads / SUMIX_WARP * RADIX;
  typedef typename pixels<in_shared>::index index;
  __shared__ struct shared shared;
  uint32_t *const depth = (uint32_t *)SUMIX_DYNAMIC_SHARED();
  uint32_t *const work = in_shared ? depth + (size + QUAD - 1) / QUAD * QUAD : depth;
  for (int64_t i = blockIdx.x; i < n; i += gridDim.x) {
    const int64_t keep = k[i], edge = soft != NULL ? soft[i] : 0;
    assert(keep >= 0 && keep <= size && "k is out of range");
    assert(edge >= 0 && edge <= keep && edge <= size - keep && "soft is out of range");
    if (size == 0) continue;
    const pixels<in_shared> image = {grey + i * size, depth, size, aligned};
    float *const row = mask + i * size;
    if (in_shared) {
      for (uint32_t j = QUAD * threadIdx.x; j < size; j += QUAD * threads) *(depths *)&depth[j] = read_depths(image, j);
      __syncthreads();
    }
    find_cuts(image, edge > 0 ? 2 : 1, (uint32_t)(keep - edge), (uint32_t)(keep + edge), work, &shared);
    index *const lists = (index *)(work + counts);
    if (edge == 0)
      write_hard(image, shared.cut[0], row);
    else if (in_shared)
      write_soft(image, shared.cut[0], shared.cut[1], (uint32_t)(2 * edge), work, lists, lists + size, shared.sums,
                 row);
    else
      write_soft(image, shared.cut[0], shared.cut[1], (uint32_t)(2 * edge), work,
                 (index *)(scratch + (int64_t)blockIdx.x * size), (index *)row, shared.sums, row);
    __syncthreads();
  }
}

template <bool in_shared> void launch(const struct sumix_mask_top_k_args *a, void *stream)
{
  const int threads = pixels<in_shared>::THREADS;
  const int64_t counts = threads / SUMIX_WARP * RADIX * sizeof(uint32_t);
  const bool aligned = a->size % QUAD == 0 && sumix_is_aligned(a->grey, 16) && sumix_is_aligned(a->mask, 16);
  const int64_t most = in_shared ? INT64_MAX : (int64_t)SUMIX_MASK_MOST_BLOCKS, blocks = a->n < most ? a->n : most;
  const int64_t quads = (a->size + QUAD - 1) / QUAD, bins = BINS * sizeof(uint32_t);
  int64_t bytes = a->soft != NULL ? 2 * bins : bins;
  if (a->soft != NULL) {
    const int64_t sort = counts + (in_shared ? 2 * a->size * (int64_t)sizeof(uint16_t) : 0);
    bytes = bytes < sort ? sort : bytes;
  }
  if (in_shared) bytes += quads * QUAD * (int64_t)sizeof(uint32_t);
  SUMIX_LAUNCH(mask_cut<in_shared>, sumix_grid(blocks, 1), threads, (size_t)bytes, stream, a->n, (uint32_t)a->size,
               aligned, a->grey, a->k, a->soft, (uint32_t *)a->scratch, (float *)a->mask);
}

__global__ void __launch_bounds__(SAMPLE_THREADS)
    mask_sample(int64_t n, int64_t size, double max_soft, const int64_t *__restrict__ seed,
                const float *__restrict__ lam, int64_t *__restrict__ k, int64_t *__restrict__ soft,
                float *__restrict__ exact_lam)
{
  for (int64_t i = blockIdx.x * (int64_t)SAMPLE_THREADS + threadIdx.x; i < n;
       i += gridDim.x * (int64_t)SAMPLE_THREADS) {
    assert(lam[i] >= 0 && lam[i] <= 1 && "lam is out of range");
    const struct sumix_top_k drawn = sumix_draw_top_k((uint64_t)*seed, i, lam[i], size, max_soft);
    k[i] = drawn.k;
    soft[i] = drawn.soft;
    exact_lam[i] = drawn.exact_lam;
  }
}

}  // namespace

extern "C" int sumix_mask_top_k_cuda(const struct sumix_mask_top_k_args *a, void *stream)
{
  if (a->n == 0) return 0;
  if (a->size <= SUMIX_MASK_SHARED_PIXELS)
    launch<true>(a, stream);
  else
    launch<false>(a, stream);
  return (int)cudaGetLastError();
}

extern "C" int sumix_sample_top_k_cuda(const struct sumix_sample_top_k_args *a, void *stream)
{
  if (a->n == 0) return 0;
  SUMIX_LAUNCH(mask_sample, sumix_grid(a->n, SAMPLE_THREADS), SAMPLE_THREADS, 0, stream, a->n, a->size, a->max_soft,
               a->seed, a->lam, a->k, a->soft, a->exact_lam);
  return (int)cudaGetLastError();
}
