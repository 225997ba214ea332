#ifndef SUMIX_ARGS_MIX_MASK_H
#define SUMIX_ARGS_MIX_MASK_H

#include <stdint.h>

#include "../dtype.h"
#include "layout.h"

/* out[i] = mask[i] x[i] + (1 - mask[i]) x[perm[i]], with weights of 0 and rounding as in mix_linear. */
struct sumix_mix_mask_args {
  enum sumix_dtype dtype;  // for a binary mask any
  struct sumix_layout layout;
  int64_t element;  // bytes
  const void *x;
  struct sumix_mask mask;
  const int64_t *perm;
  void *out;
};
/* grad_x[i] = mask[i] grad_out[i] + sum of (1 - mask[j]) grad_out[j] over every j with perm[j] = i. */
struct sumix_mix_mask_backward_args {
  enum sumix_dtype dtype;
  struct sumix_layout layout;
  const void *grad_out;
  struct sumix_mask mask;
  const int64_t *perm;
  void *grad_x;
};

#endif
