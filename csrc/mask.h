/* What the mask kernels of every device have in common: the order of pixels, a soft edge's values, and how many pixels
 * a ratio is. */
#ifndef SUMIX_MASK_H
#define SUMIX_MASK_H

#include "random.h"

/* Ordered as the values are; -0 as 0, NaN above all. Integer arithmetic, so subnormals count even where they are
 * flushed. No key is INT32_MIN. */
static inline SUMIX_HD int32_t sumix_key_of_bits(uint32_t bits)
{
  const uint32_t magnitude = bits & 0x7fffffffu;
  const int32_t key = (bits >> 31) != 0 ? -(int32_t)magnitude : (int32_t)magnitude;
  return magnitude > 0x7f800000u ? INT32_MAX : key;
}

/* A soft edge over `ranks` pixels, at least 2 and below 2^31, falls from 1 at rank 0 to 0 at the last: the quotient
 * rounded to double, then to float. Up to 2^24 both numbers are floats, and then float's own division gives the same
 * bits: rounding twice does no harm where the wider format has more than twice the bits (Figueroa, 1995). GPUs are slow
 * in double. */
static inline SUMIX_HD float sumix_ramp(int64_t rank, int64_t ranks)
{
  const int32_t above = (int32_t)(ranks - 1 - rank), steps = (int32_t)(ranks - 1);
  return steps <= 1 << 24 ? (float)above / (float)steps : (float)((double)above / (double)steps);
}

/* What sample_top_k makes of a ratio. */
struct sumix_top_k {
  int64_t k, soft;
  float exact_lam;
};

static inline SUMIX_HD struct sumix_top_k sumix_draw_top_k(uint64_t seed, int64_t i, double lam, int64_t size,
                                                           double max_soft)
{
  const struct sumix_words words = sumix_philox(seed, (uint64_t)i, 0, SUMIX_STREAM_TOP_K);
  const double pixels = (double)size, wanted = lam * pixels;
  const int64_t k = (int64_t)(words.w[0] >> 31 ? ceil(wanted) : floor(wanted));
  const double share = fmin(max_soft, fmin(lam, 1 - lam));
  const int64_t soft = (int64_t)(share * pixels), most = k < size - k ? k : size - k;
  const struct sumix_top_k drawn = {k, soft < most ? soft : most, (float)((double)k / pixels)};
  return drawn;
}

#endif
