/* Rows of float16 and bfloat16. Kernels compute in float: a row of halves is widened into scratch, and a row of results
 * narrowed from it. */
#ifndef SUMIX_CPU_HALF_H
#define SUMIX_CPU_HALF_H

#include <stddef.h>

#include "../half.h"
#include "../kernels.h"

/* Elements offset .. offset + k of x, as floats: in place for float32, else widened into scratch (k). */
static inline const float *sumix_load_f32(enum sumix_dtype dtype, const void *x, int64_t offset, int64_t k,
                                          float *restrict scratch)
{
  if (dtype == SUMIX_FLOAT32) return (const float *)x + offset;
  const uint16_t *restrict halves = (const uint16_t *)x + offset;
  if (dtype == SUMIX_FLOAT16) {
#pragma omp simd
    for (int64_t j = 0; j < k; j++) scratch[j] = sumix_float_of_half(halves[j]);
  } else {
#pragma omp simd
    for (int64_t j = 0; j < k; j++) scratch[j] = sumix_float_of_bfloat(halves[j]);
  }
  return scratch;
}

/* Where to compute elements offset .. offset + k of x before sumix_store_f32 puts them there. */
static inline float *sumix_store_place_f32(enum sumix_dtype dtype, void *x, int64_t offset, float *scratch)
{
  return dtype == SUMIX_FLOAT32 ? (float *)x + offset : scratch;
}

static inline void sumix_store_f32(enum sumix_dtype dtype, void *x, int64_t offset, int64_t k,
                                   const float *restrict from)
{
  if (dtype == SUMIX_FLOAT32) return;  // computed in place
  uint16_t *restrict halves = (uint16_t *)x + offset;
  if (dtype == SUMIX_FLOAT16) {
#pragma omp simd
    for (int64_t j = 0; j < k; j++) halves[j] = sumix_half_of_float(from[j]);
  } else {
#pragma omp simd
    for (int64_t j = 0; j < k; j++) halves[j] = sumix_bfloat_of_float(from[j]);
  }
}

/* The same for double, which is always in place, so that one text serves both types. */
static inline const double *sumix_load_f64(enum sumix_dtype dtype, const void *x, int64_t offset, int64_t k,
                                           double *scratch)
{
  (void)dtype, (void)k, (void)scratch;
  return (const double *)x + offset;
}

static inline double *sumix_store_place_f64(enum sumix_dtype dtype, void *x, int64_t offset, double *scratch)
{
  (void)dtype, (void)scratch;
  return (double *)x + offset;
}

static inline void sumix_store_f64(enum sumix_dtype dtype, void *x, int64_t offset, int64_t k, const double *from)
{
  (void)dtype, (void)x, (void)offset, (void)k, (void)from;
}

#endif
