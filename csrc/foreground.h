/* What csrc/cpu/foreground.c and csrc/cuda/foreground.cu compute alike. */
#ifndef SUMIX_FOREGROUND_H
#define SUMIX_FOREGROUND_H

#include <stdint.h>

#include "maths.h"

/* Place `at` of an axis that was resized from `from` to `to` places lies between two of them, `weight` of the way to
 * the second. */
struct sumix_neighbours {
  int64_t first, second;
  double weight;
};

static inline SUMIX_HD struct sumix_neighbours sumix_neighbours_of(int64_t at, int64_t from, int64_t to)
{
  const double source = ((double)at + 0.5) * ((double)from / (double)to) - 0.5, positive = source > 0 ? source : 0;
  const int64_t whole = (int64_t)positive, first = whole < from - 1 ? whole : from - 1;
  struct sumix_neighbours between = {first, first + 1 < from - 1 ? first + 1 : from - 1, positive - (double)first};
  return between;
}

/* A map (h, w) at place p of height x width, bilinearly, corners not aligned. */
static inline SUMIX_HD double sumix_upsampled(const double *map, int64_t h, int64_t w, int64_t height, int64_t width,
                                              int64_t p)
{
  const struct sumix_neighbours y = sumix_neighbours_of(p / width, h, height);
  const struct sumix_neighbours x = sumix_neighbours_of(p % width, w, width);
  const double *const top = map + y.first * w, *const bottom = map + y.second * w;
  const double above = top[x.first] + (top[x.second] - top[x.first]) * x.weight;
  const double below = bottom[x.first] + (bottom[x.second] - bottom[x.first]) * x.weight;
  return above + (below - above) * y.weight;
}

/* The gate for |a - b|^2 and |(a + b) / 2 - mu|^2. Both means coincide where there is no object. */
static inline SUMIX_HD double sumix_gate(double apart, double off, double low, double high)
{
  if (apart == 0) return 0;
  /* |a - mu|^2 + |b - mu|^2 = 2 |(a + b) / 2 - mu|^2 + |a - b|^2 / 2 */
  const double open = (apart / (2 * off + apart / 2) - low) / (high - low);
  return open < 0 ? 0 : open > 1 ? 1 : open;  // NaN stays
}

#endif
