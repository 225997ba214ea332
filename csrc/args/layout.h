#ifndef SUMIX_ARGS_LAYOUT_H
#define SUMIX_ARGS_LAYOUT_H

#include <stdbool.h>
#include <stdint.h>

/* The layout of a batch for mixing: each sample is `planes` images of `height` x `width` pixels of `pixel` bytes.
 * NCHW: planes = C, one channel a pixel. channels_last: one plane, C channels a pixel. */
struct sumix_layout {
  int64_t n, planes, height, width, pixel;
};

/* The weight of the own image, pixel by pixel. */
struct sumix_mask {
  const void *values;  // (n, height, width) or, if uniform, (n): float from 0 to 1, or if binary bytes that are 0 or 1
  bool binary, uniform;
};

#endif
