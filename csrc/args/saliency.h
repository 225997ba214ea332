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
  void *scratch;            // CUDA: sumix_saliency_scratch(a) bytes
};

/* How the CUDA kernels lay out an image: rows of whole vectors of 4 pixels, in strips of 32 rows that are smoothed, and
 * summed, together. An image that fits into a block's shared memory needs no scratch. Else scratch is shared by as many
 * images as GROUP bytes hold, group after group, so that what one kernel leaves the next one finds in the cache. */
enum { SUMIX_SALIENCY_STRIP = 32, SUMIX_SALIENCY_SHARED = 46 << 10, SUMIX_SALIENCY_GROUP = 32 << 20 };
enum { SUMIX_SALIENCY_STATE = 32 };  // bytes an image for what all its blocks add to

struct sumix_saliency_layout {
  int64_t vectors, strips;                // of a row; of an image
  int64_t integral, parts, sums, smooth;  // bytes an image
  int64_t whole;                          // bytes of shared memory for an image
  int64_t images;                         // at a time; 0 where shared memory is enough
};

static inline struct sumix_saliency_layout sumix_saliency_lay_out(const struct sumix_saliency_args *a)
{
  struct sumix_saliency_layout l;
  l.vectors = (a->width + 3) / 4;
  l.strips = (a->height + SUMIX_SALIENCY_STRIP - 1) / SUMIX_SALIENCY_STRIP;
  l.integral = 16 * (a->height + 1) * (l.vectors + 2);
  l.parts = 16 * a->height * l.vectors;
  l.sums = 16 * l.strips * l.vectors;
  l.smooth = (4 * a->height * l.vectors + 15) / 16 * 16;
  l.whole = l.integral + l.parts + 2 * 4 * (a->height + 4) * (l.vectors + 2);
  const int64_t fit = SUMIX_SALIENCY_GROUP / (l.integral + l.parts + l.sums + l.smooth), most = fit > 0 ? fit : 1;
  const int64_t groups = (a->n + most - 1) / most;
  l.images = l.whole <= SUMIX_SALIENCY_SHARED || groups == 0 ? 0 : (a->n + groups - 1) / groups;
  return l;
}

static inline int64_t sumix_saliency_scratch(const struct sumix_saliency_args *a)
{
  const struct sumix_saliency_layout l = sumix_saliency_lay_out(a);
  if (l.images == 0) return 0;
  return a->n * SUMIX_SALIENCY_STATE + l.images * (l.integral + l.parts + l.sums + l.smooth);
}

#endif
