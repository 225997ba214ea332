#ifndef SUMIX_ARGS_MIX_NORMALIZE_H
#define SUMIX_ARGS_MIX_NORMALIZE_H

#include <stdint.h>

#include "../dtype.h"
#include "layout.h"

/* out[i] = (mixed[i] / 255 - mean) / std, channel by channel, where mixed[i] is x[i] with its box filled as in
 * mix_resize, and of that, by the mask, the weighted mean with x[perm[i]]; none of it rounded to 8 bits in between. */
struct sumix_mix_normalize_args {
  enum sumix_dtype dtype;      // of out: float32, float16 or bfloat16
  struct sumix_layout layout;  // of x: a pixel of one channel, or of all of them
  int64_t channels;            // of an image
  const uint8_t *x;
  const int64_t *box, *resize;  // (n, 4), (n), or NULL: no box, no resizing
  struct sumix_mask mask;       // values NULL: no mask
  const int64_t *perm;          // (n)
  const float *mean, *std;      // (channels), for images from 0 to 1
  void *out;                    // as x
};

#endif
