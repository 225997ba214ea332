/* The k largest pixels of each image, as a mask, on CUDA: the order, the edges and the bits of csrc/cpu/mask.c, a block
 * an image.
 *
 *   sample_top_k   a thread a sample, one launch
 *   mask_top_k     one launch: the cut is selected, not sorted for; only a soft edge's pixels are
 *
 * A pixel's depth is how far its key is below the greatest there is, so rank 1 has the least depth. The depth of rank
 * k is found digit by digit, the highest first: counts of the digit's values, in shared memory, among the pixels that
 * have the digits found so far; their running sum says which value rank k has. Three digits (11, 11 and 10 bits), not
 * the CPU's search by false position: a count of all pixels costs a GPU a pass and two barriers like a whole
 * histogram, which says 11 bits where the count says one. A soft edge has two cuts, found in the same passes. Of the
 * pixels equal to the last that is kept, the first in index order are.
 *
 * Counts are atomic increments in shared memory, and whole numbers: the same in any order. Digits of smooth images
 * crowd into few values, and those of a constant one into one, where increments wait for each other; so a warp adds
 * up those of one of its values before it touches memory.
 *
 * The soft edge's ranks come from a stable radix sort of its pixels' indices, the lowest byte of the depth first. Each
 * warp counts, and later moves, a stretch of its own, which keeps the order without a barrier in between; what moves in
 * the last pass is the mask's value. 2 s pixels cost at most 4 passes over them however large s is.
 *
 * An image of up to 4096 pixels stays in shared memory as depths, with the lists of indices: one read and one write of
 * device memory a pixel. Larger ones are read again from the caches: 3 passes for the cuts, 1 for the mask, 2 more for
 * a soft edge; their lists of indices lie in scratch and, until it is written, in the mask.
 */
#include "mask_cut.cuh"

namespace
{

enum {
  SAMPLE_THREADS = 256,
  RADIX_BITS = 8,  // of the sort
  RADIX = 1 << RADIX_BITS,
};

template <bool in_shared> __device__ void write_hard(pixels<in_shared> image, struct cut cut, float *mask)
{
  const uint32_t threads = pixels<in_shared>::THREADS, size = image.size;
  for (uint32_t v = threadIdx.x; image.aligned && v < size / QUAD; v += threads) {
    const depths depth = depths_at(image, v * QUAD);
    values value;
    for (int e = 0; e < QUAD; e++) value.at[e] = keeps(cut, depth.at[e], v * QUAD + e) ? 1.0f : 0.0f;
    ((values *)mask)[v] = value;
  }
  for (uint32_t j = threadIdx.x; !image.aligned && j < size; j += threads)
    mask[j] = keeps(cut, depth_at(image, j), j) ? 1.0f : 0.0f;
}

/* What a list of an image's pixels consists of. */
template <bool in_shared> struct index_of {
  typedef uint32_t type;
};
template <> struct index_of<true> {
  typedef uint16_t type;
};

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

/* Bytes moved: 8 a pixel, if the caches hold an image a block. 256 threads for a small image, of which an SM then cuts
 * four or more at a time; 1024 for a large one, since there may be fewer of those than SMs. */
template <bool in_shared>
__global__ void __launch_bounds__(pixels<in_shared>::THREADS, pixels<in_shared>::BLOCKS_PER_SM)
    mask_cut(int64_t n, uint32_t size, bool aligned, const float *__restrict__ grey, const int64_t *__restrict__ k,
             const int64_t *__restrict__ soft, uint32_t *scratch, float *mask)
{
  const int threads = pixels<in_shared>::THREADS, counts = threads / SUMIX_WARP * RADIX;
  typedef typename index_of<in_shared>::type index;
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
    else
      write_soft(image, shared.cut[0], shared.cut[1], (uint32_t)(2 * edge), work,
                 in_shared ? lists : (index *)(scratch + (int64_t)blockIdx.x * size),
                 in_shared ? lists + size : (index *)row, shared.sums, row);
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
