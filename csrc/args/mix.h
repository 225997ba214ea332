#ifndef SUMIX_ARGS_MIX_H
#define SUMIX_ARGS_MIX_H

#include <stdint.h>

#include "../dtype.h"
#include "layout.h"

/* out[i] = x[i], with box[i] = (x1, y1, x2, y2) (ends exclusive) filled from x[perm[i]]. */
struct sumix_mix_box_args {
  struct sumix_layout layout;
  const void *x;        // (n, planes, height, width) pixels
  const int64_t *box;   // (n, 4)
  const int64_t *perm;  // (n)
  void *out;            // as x
};
/* grad_x[i] = grad_out[i] outside box[i], plus grad_out[j] inside box[j] for every j with perm[j] = i. */
struct sumix_mix_box_backward_args {
  enum sumix_dtype dtype;
  struct sumix_layout layout;
  const void *grad_out;
  const int64_t *box, *perm;
  void *grad_x;
};

/* out[i] = lam[i] x[i] + (1 - lam[i]) x[perm[i]], rounded to nearest even for integers. A weight of exactly 0 takes
 * nothing from its image, not even NaN. */
struct sumix_mix_linear_args {
  enum sumix_dtype dtype;
  int64_t n, size;      // size: elements a sample
  const void *x;        // (n, size)
  const float *lam;     // (n)
  const int64_t *perm;  // (n)
  void *out;            // (n, size)
};
/* grad_x[i] = lam[i] grad_out[i] + sum of (1 - lam[j]) grad_out[j] over every j with perm[j] = i. */
struct sumix_mix_linear_backward_args {
  enum sumix_dtype dtype;
  int64_t n, size;
  const void *grad_out;
  const float *lam;
  const int64_t *perm;
  void *grad_x;
};

/* soft[i] = smoothing / k everywhere, plus (1 - smoothing) lam[i] at y_a[i] and (1 - smoothing) (1 - lam[i]) at y_b[i].
 */
struct sumix_soft_labels_args {
  int64_t n, k;
  const int64_t *y_a, *y_b;  // (n)
  const float *lam;          // (n)
  double smoothing;
  float *soft;  // (n, k)
};

#endif
