#ifndef SUMIX_ARGS_SEMANTIC_DISTANCE_H
#define SUMIX_ARGS_SEMANTIC_DISTANCE_H

#include <stdbool.h>
#include <stdint.h>

#include "../dtype.h"

/* alpha = scale * d / ||d||_2, d = softmax(sign * (p - m)), m = softmax(z), p = softmax(r) with p[i, masked[i]] = 0. */
struct sumix_semantic_distance_args {
  enum sumix_dtype dtype;
  int64_t n, k;
  const void *z, *r;      // (n, k)
  const int64_t *masked;  // (n): a class to forget, or -1
  double scale;
  bool published;  // sign -1 (the authors' code); else +1
  void *alpha;     // (n, k)
};

#endif
