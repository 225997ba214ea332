/* The arithmetic of saliency, one pixel at a time: csrc/cpu/saliency.c says what it computes and why its divisions are
 * exact. Nothing is multiplied and then added but whole numbers that float holds exactly, so that there is nothing for
 * a fused multiply-add to change, and every processor gets the same bits. */
#ifndef SUMIX_SALIENCY_H
#define SUMIX_SALIENCY_H

#include <stdbool.h>
#include <stdint.h>

#include "maths.h"

enum { SUMIX_SALIENCY_WINDOWS = 6 };

/* The windows' radii: 12, 24, 28, 48, 56, 112. All of them multiples of 4. */
static inline SUMIX_HD int32_t sumix_saliency_radius(int64_t window)
{
  return window == 0 ? 12 : window == 1 ? 24 : window == 2 ? 28 : window == 3 ? 48 : window == 4 ? 56 : 112;
}

/* To 8 bits: round((x + shift) scale), ties to even, within 0 to 255; NaN is 0. Rounding: the sum is so large that its
 * last bit is a whole. */
static inline SUMIX_HD uint8_t sumix_saliency_level_f32(float x, float shift, float scale)
{
  const float level = (x + shift) * scale, positive = level > 0 ? level : 0, bounded = positive < 255 ? positive : 255;
  return (uint8_t)(int32_t)((bounded + 0x1.8p23f) - 0x1.8p23f);
}

static inline SUMIX_HD uint8_t sumix_saliency_level_f64(double x, double shift, double scale)
{
  const double level = (x + shift) * scale, positive = level > 0 ? level : 0, bounded = positive < 255 ? positive : 255;
  return (uint8_t)(int32_t)((bounded + 0x1.8p52) - 0x1.8p52);
}

static inline SUMIX_HD uint8_t sumix_saliency_grey(int32_t first, int32_t second, int32_t third, bool bgr)
{
  const int32_t a = bgr ? 3735 : 9798, b = 19235, c = bgr ? 9798 : 3735;
  return (uint8_t)((a * first + b * second + c * third + 16384) >> 15);
}

/* The place that stands for one outside of 0 .. size, mirrored without repeating the border; at most two outside. */
static inline SUMIX_HD int64_t sumix_saliency_mirror(int64_t at, int64_t size)
{
  if (size == 1) return 0;
  const int64_t low = at < 0 ? -at : at, high = 2 * size - 2 - low;
  return low < size ? low : high < 0 ? -high : high;
}

/* How a pixel differs from the n pixels of a window about it, which sum to `sum`: N / (n - 1), towards 0. n >= 2. */
static inline SUMIX_HD int32_t sumix_saliency_quotient(float n, float centre, float sum)
{
  return (int32_t)((n * centre - sum) / (n - 1));
}

/* The map's value; the scales are sumix_ratio_upwards(255, the maximum). */
static inline SUMIX_HD int32_t sumix_saliency_value(int32_t on, int32_t off, float scale_on, float scale_off)
{
  return ((int32_t)((float)on * scale_on) + (int32_t)((float)off * scale_off)) & 255;
}

#endif
