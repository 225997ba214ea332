/* What a pixel of an evidence mask is, for CPU and GPU: the same bits.
 *
 * The maps are enlarged bilinearly, first along a row and then along a column, each mean rounded on its own. The sum of
 * a mask is a sum of integers, in units of 2^-24, so that its order does not matter. */
#ifndef SUMIX_EVIDENCE_MASK_H
#define SUMIX_EVIDENCE_MASK_H

#include "resize.h"

enum { SUMIX_MASK_UNIT = 1 << 24 };

static inline SUMIX_HD float sumix_mean_of_two(float first, float second, float weight)
{
  return first * (1 - weight) + second * weight;
}

/* The partner's weight where its enlarged map has the value u: a ramp of the given width about the threshold. Without
 * any evidence, and at NaN, it is 0. */
static inline SUMIX_HD float sumix_soft_edge(float u, float from, float width)
{
  const float ramp = (u - from) / width;
  return ramp > 0 ? (ramp < 1 ? ramp : 1) : 0;
}

/* The mean of a mask whose sum is given in units of 2^-24. */
static inline SUMIX_HD float sumix_mask_mean(int64_t sum, int64_t pixels)
{
  return (float)((double)sum / ((double)pixels * (double)SUMIX_MASK_UNIT));
}

#endif
