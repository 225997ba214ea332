#ifndef SUMIX_ARGS_MIX_RESIZE_H
#define SUMIX_ARGS_MIX_RESIZE_H

#include <stdint.h>

#include "../dtype.h"
#include "layout.h"

/* out[i] = x[i], with box[i] filled from x[perm[i]] by resize[i]: 0 from the same box, otherwise from the whole of it,
 * resized to the box by 1 nearest, 2 nearest-exact, 3 bilinear, as torch.nn.functional.interpolate does. */
struct sumix_mix_resize_args {
  enum sumix_dtype dtype;  // for bilinear one that is computed with
  struct sumix_layout layout;
  int64_t element;  // bytes
  const void *x;
  const int64_t *box;     // (n, 4)
  const int64_t *resize;  // (n)
  const int64_t *perm;    // (n)
  void *out;
};
/* grad_x[i] = grad_out[i] outside box[i], plus the transpose of that for every j with perm[j] = i. */
struct sumix_mix_resize_backward_args {
  enum sumix_dtype dtype;
  struct sumix_layout layout;
  const void *grad_out;
  const int64_t *box, *resize, *perm;
  void *grad_x;
};

#endif
