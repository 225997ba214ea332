#ifndef SUMIX_ARGS_MASK_H
#define SUMIX_ARGS_MASK_H

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
};

#endif
