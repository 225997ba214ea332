#ifndef SUMIX_ARGS_MASK_H
#define SUMIX_ARGS_MASK_H

#include <stddef.h>
#include <stdint.h>

/* How many pixels of an image of `size` a mask is to keep for lam, floor or ceil of lam size, each with probability
 * 1/2, and the half width of its soft edge in ranks. */
struct sumix_sample_top_k_args {
  const int64_t *seed;  // one
  int64_t n, size;
  double max_soft;   // 0 to 1/2
  const float *lam;  // (n), 0 to 1
  int64_t *k;        // (n)
  int64_t *soft;     // (n): floor(min(max_soft, lam, 1 - lam) size), at most k and size - k
  float *exact_lam;  // (n): k / size
};

/* The k[i] largest pixels of image i become 1, the others 0, equal ones by index. With soft, the soft[i] ranks to
 * either side of the threshold ramp from 1 to 0. */
struct sumix_mask_top_k_args {
  int64_t n, size;      // size: pixels of an image, below 2^31
  const float *grey;    // (n, size)
  const int64_t *k;     // (n), 0 to size
  const int64_t *soft;  // (n), 0 to min(k, size - k), or NULL
  void *mask;           // (n, size) float
  void *scratch;        // CUDA: sumix_mask_top_k_scratch(a) bytes
};

/* On a GPU a block cuts an image: in shared memory up to this many pixels; larger ones by at most this many blocks,
 * which is more than run at a time, since each needs a list of its soft edge's pixels in memory. */
enum { SUMIX_MASK_SHARED_PIXELS = 4096, SUMIX_MASK_MOST_BLOCKS = 320 };

static inline int64_t sumix_mask_top_k_scratch(const struct sumix_mask_top_k_args *a)
{
  const int64_t most = SUMIX_MASK_MOST_BLOCKS, blocks = a->n < most ? a->n : most;
  return a->soft == NULL || a->size <= SUMIX_MASK_SHARED_PIXELS ? 0 : blocks * a->size * (int64_t)sizeof(uint32_t);
}

#endif
