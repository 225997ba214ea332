#ifndef SUMIX_ARGS_UNCERTAINTY_H
#define SUMIX_ARGS_UNCERTAINTY_H

#include <stdint.h>

#include "../dtype.h"

/* u = q / ||q||_2 with q = softmax(x), row by row; and its gradient from u alone. */
struct sumix_uncertainty_args {
  enum sumix_dtype dtype;
  int64_t n, k;
  const void *x;  // (n, k)
  void *u;        // (n, k)
};
struct sumix_uncertainty_backward_args {
  enum sumix_dtype dtype;
  int64_t n, k;
  const void *u, *grad_u;  // (n, k)
  void *grad_x;            // (n, k)
};

#endif
