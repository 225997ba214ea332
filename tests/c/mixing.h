/* What the tests of the mixing kernels share: random partners, boxes, ratios, and elements of any dtype as doubles. */
#ifndef SUMIX_TESTS_MIXING_H
#define SUMIX_TESTS_MIXING_H

#include <math.h>
#include <string.h>

#include "../../csrc/cpu/half.h"
#include "no_torch.h"

static struct sumix_status status;

static inline int64_t below(int64_t end) { return (int64_t)(uniform() * (double)end); }

static inline int64_t *random_partners(int64_t n, bool repeats)
{
  int64_t *perm = exactly((size_t)n * sizeof *perm);
  for (int64_t i = 0; i < n; i++) perm[i] = repeats ? below(n) : n - 1 - i;
  return perm;
}

/* Any box, or an empty, a full, or a full-width one. */
static inline int64_t *random_boxes(int64_t n, int64_t height, int64_t width)
{
  int64_t *box = exactly((size_t)(4 * n) * sizeof *box);
  for (int64_t i = 0; i < n; i++) {
    int64_t *const b = box + 4 * i;
    const int64_t kind = below(6);
    b[0] = kind == 0 || kind == 1 ? 0 : below(width + 1);
    b[1] = kind == 0 ? 0 : below(height + 1);
    b[2] = kind == 0 || kind == 1 ? width : b[0] + below(width + 1 - b[0]);
    b[3] = kind == 0 ? height : kind == 2 ? b[1] : b[1] + below(height + 1 - b[1]);
  }
  return box;
}

static inline bool inside(const int64_t *b, int64_t y, int64_t x)
{
  return b[0] <= x && x < b[2] && b[1] <= y && y < b[3];
}

/* ---- Elements of any dtype as doubles ---- */

static const size_t sizes[] = {4, 8, 2, 2, 1, 1, 2, 4, 8};

static inline double get(enum sumix_dtype dtype, const void *x, int64_t k)
{
  switch (dtype) {
    case SUMIX_FLOAT32: return ((const float *)x)[k];
    case SUMIX_FLOAT64: return ((const double *)x)[k];
    case SUMIX_FLOAT16: return sumix_float_of_half(((const uint16_t *)x)[k]);
    case SUMIX_BFLOAT16: return sumix_float_of_bfloat(((const uint16_t *)x)[k]);
    case SUMIX_UINT8: return ((const uint8_t *)x)[k];
    case SUMIX_INT8: return ((const int8_t *)x)[k];
    case SUMIX_INT16: return ((const int16_t *)x)[k];
    case SUMIX_INT32: return ((const int32_t *)x)[k];
    case SUMIX_INT64: return (double)((const int64_t *)x)[k];
    case SUMIX_OTHER: break;
  }
  abort();
}

static inline void put(enum sumix_dtype dtype, void *x, int64_t k, double value)
{
  switch (dtype) {
    case SUMIX_FLOAT32: ((float *)x)[k] = (float)value; return;
    case SUMIX_FLOAT64: ((double *)x)[k] = value; return;
    case SUMIX_FLOAT16: ((uint16_t *)x)[k] = sumix_half_of_float((float)value); return;
    case SUMIX_BFLOAT16: ((uint16_t *)x)[k] = sumix_bfloat_of_float((float)value); return;
    case SUMIX_UINT8: ((uint8_t *)x)[k] = (uint8_t)fabs(value); return;
    case SUMIX_INT8: ((int8_t *)x)[k] = (int8_t)value; return;
    case SUMIX_INT16: ((int16_t *)x)[k] = (int16_t)value; return;
    case SUMIX_INT32: ((int32_t *)x)[k] = (int32_t)value; return;
    case SUMIX_INT64: ((int64_t *)x)[k] = (int64_t)value; return;
    case SUMIX_OTHER: break;
  }
  abort();
}

static inline void *random_elements(enum sumix_dtype dtype, int64_t count)
{
  void *x = exactly((size_t)count * sizes[dtype]);
  for (int64_t k = 0; k < count; k++) put(dtype, x, k, dtype < SUMIX_UINT8 ? 2 * uniform() - 1 : 254 * uniform() - 127);
  return x;
}

/* Half a unit in the last place of sums of size `magnitude`; of an integer half a unit. */
static inline double tolerance(enum sumix_dtype dtype, double magnitude)
{
  static const double unit[] = {0x1p-20, 0x1p-49, 0x1p-11, 0x1p-8};
  return dtype < SUMIX_UINT8 ? unit[dtype] * (1 + magnitude) : 0.5 + 1e-4;
}

static inline float *random_lam(int64_t n)
{
  float *lam = exactly((size_t)n * sizeof *lam);
  for (int64_t i = 0; i < n; i++) {
    const int64_t kind = below(4);
    lam[i] = kind == 0 ? 0 : kind == 1 ? 1 : (float)uniform();
  }
  return lam;
}

#endif
