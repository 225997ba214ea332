/* Where the pixels of a box come from when the partner is resized to it, for CPU and GPU: the same indices and weights.
 *
 * Pixels are those that torch.nn.functional.interpolate(partner, size=..., mode=...) would give: an axis of `from`
 * pixels shrunk to `to` has scale = from / to in float32, and output pixel j reads
 *
 *   nearest         floor(j scale), the product rounded to float32
 *   nearest-exact   floor((j + 1/2) scale)
 *   bilinear        between floor(s) and the next, s = max(0, (j + 1/2) scale - 1/2), weighted by s - floor(s)
 *
 * with s rounded once, as torch's builds with fused multiply-add do: an axis of 224 pixels has s near 200, whose
 * rounding shows in the fifth digit of the weight, so that another rounding would be far from torch's result. float64
 * images have s in float64; nearest is the same for all dtypes.
 *
 * In float32, s is therefore an explicit fused multiply-add; in float64 it is none, as in torch.
 */
#ifndef SUMIX_RESIZE_H
#define SUMIX_RESIZE_H

#include <math.h>

#include "exact.h"
#include "maths.h"

/* The values of the tensor `resize`; a box is filled from the partner's same box, or from all of it. */
enum sumix_resize {
  SUMIX_SAME_BOX,
  SUMIX_NEAREST,
  SUMIX_NEAREST_EXACT,
  SUMIX_BILINEAR,
  SUMIX_NUM_RESIZES,
};

static inline SUMIX_HD float sumix_scale_f32(int64_t from, int64_t to) { return (float)from / (float)to; }
static inline SUMIX_HD double sumix_scale_f64(int64_t from, int64_t to) { return (double)from / (double)to; }

static inline SUMIX_HD int64_t sumix_nearest_source(enum sumix_resize how, int64_t j, float scale, int64_t from)
{
  const float at = (float)j + (how == SUMIX_NEAREST_EXACT ? 0.5f : 0.0f);
  const int64_t source = (int64_t)(at * scale);
  return source < from - 1 ? source : from - 1;
}

/* A pixel of the box lies between two pixels of the partner's axis, `weight` of the way to the second. */
struct sumix_between_f32 {
  int64_t first, second;
  float weight;
};
struct sumix_between_f64 {
  int64_t first, second;
  double weight;
};

static inline SUMIX_HD struct sumix_between_f32 sumix_bilinear_source_f32(int64_t j, float scale, int64_t from,
                                                                          int64_t to)
{
  /* A float holds j + 1/2 below 2^23; beyond, the double product is exact up to 2^28. */
  const float at = j < 1 << 23 ? fmaf((float)j + 0.5f, scale, -0.5f) : (float)(((double)j + 0.5) * (double)scale - 0.5);
  const float positive = at > 0 ? at : 0;
  const int64_t whole = (int64_t)positive, first = whole < from - 1 ? whole : from - 1;
  const float weight = positive - (float)first;
  struct sumix_between_f32 between = {j, j, 0};
  if (from == to) return between;
  between.first = first;
  between.second = first + 1 < from - 1 ? first + 1 : from - 1;
  between.weight = weight < 1 ? weight : 1;
  return between;
}

static inline SUMIX_HD struct sumix_between_f64 sumix_bilinear_source_f64(int64_t j, double scale, int64_t from,
                                                                          int64_t to)
{
  const double at = ((double)j + 0.5) * scale - 0.5, positive = at > 0 ? at : 0;
  const int64_t whole = (int64_t)positive, first = whole < from - 1 ? whole : from - 1;
  const double weight = positive - (double)first;
  struct sumix_between_f64 between = {j, j, 0};
  if (from == to) return between;
  between.first = first;
  between.second = first + 1 < from - 1 ? first + 1 : from - 1;
  between.weight = weight < 1 ? weight : 1;
  return between;
}

#endif
