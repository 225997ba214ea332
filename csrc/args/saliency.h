#ifndef SUMIX_ARGS_SALIENCY_H
#define SUMIX_ARGS_SALIENCY_H

#include <stdbool.h>
#include <stdint.h>

#include "../dtype.h"

/* Fine-grained static saliency of each image, and where it is highest. Images that are not uint8 are brought to 8 bits:
 * 255 (std x + mean), or where mean is NULL from each image's own minimum and maximum. */
struct sumix_saliency_args {
  enum sumix_dtype dtype;  // uint8 or floating point
  int64_t n, channels, height, width;
  bool channels_last;       // x is (n, height, width, channels)
  bool bgr;                 // blue is the first of three channels; else red
  const void *x;            // (n, channels, height, width), 1 or 3 channels
  const float *mean, *std;  // (channels), or NULL
  uint8_t *map;             // (n, height, width), or NULL
  int64_t *peak;            // (n, 2): x, y, the first in row-major order; or NULL
};

#endif
