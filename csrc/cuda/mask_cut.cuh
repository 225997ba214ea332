/* Finding a cut in a block's image: the depth of its rank-k pixel, by histograms of digits, and how many of the pixels
 * of that depth are kept. csrc/cuda/mask.cu says why. */
#ifndef SUMIX_CUDA_MASK_CUT_CUH
#define SUMIX_CUDA_MASK_CUT_CUH

#include "../mask.h"
#include "common.cuh"

namespace
{

enum {
  DIGIT_BITS = 11,  // of a histogram
  BINS = 1 << DIGIT_BITS,
  QUAD = 4,  // pixels of a vector
};

/* Where a place beyond the image's end ranks: after every pixel, the deepest of which is -inf's. */
const uint32_t beyond = UINT32_MAX;

__device__ inline uint32_t depth_of(float value)
{
  return (uint32_t)INT32_MAX - (uint32_t)sumix_key_of_bits(sumix_bits_of_float(value));
}

/* A block's image. aligned: its rows and the mask's can be read and written as vectors. */
template <bool in_shared> struct pixels {
  enum { THREADS = in_shared ? 256 : 1024, BLOCKS_PER_SM = in_shared ? 4 : 1 };
  const float *grey;
  uint32_t *depth;  // in shared memory, if it is; (size, rounded up to vectors), of which the last are `beyond`
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
  return (depth < cut.depth) | ((depth == cut.depth) & (index < cut.end));  // without a branch, so stores stay vectors
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

}  // namespace

#endif
