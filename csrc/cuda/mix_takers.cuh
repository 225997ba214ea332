/* The samples that took an image as their partner, for gradients that gather from them in ascending order. */
#ifndef SUMIX_CUDA_MIX_TAKERS_CUH
#define SUMIX_CUDA_MIX_TAKERS_CUH

#include "common.cuh"

/* Up to 32 of them, one a lane of the warp. A permutation has one, and any perm without an image that is taken more
 * often than 32 times is looked through once for all of a warp's vectors. */
struct mix_takers {
  int64_t sample;  // of this lane
  int count;
  int64_t next;  // sample to look on from
};

/* Of image i, from sample `first` on; for a whole warp. */
__device__ inline struct mix_takers mix_find_takers(const int64_t *__restrict__ perm, int64_t n, int64_t first,
                                                    int64_t i)
{
  struct mix_takers takers = {0, 0, first};
  for (; takers.next < n; takers.next += SUMIX_WARP) {
    unsigned took = sumix_takers(perm, n, takers.next, i);
    const int more = __popc(took);
    if (takers.count + more > SUMIX_WARP) break;
    int rank = (int)(threadIdx.x % SUMIX_WARP) - takers.count;
    if (rank >= 0 && rank < more) {
      for (; rank > 0; rank--) took &= took - 1;
      takers.sample = takers.next + __ffs((int)took) - 1;
    }
    takers.count += more;
  }
  return takers;
}

__device__ inline int64_t mix_taker(const struct mix_takers &takers, int k)
{
  return __shfl_sync(~0u, takers.sample, k);
}

#endif
