/* float16 and bfloat16 in integer arithmetic that every compiler vectorises, with or without F16C. Kernels compute in
 * float: a row of halves is widened into scratch, and a row of results narrowed from it, round to nearest even. */
#ifndef SUMIX_CPU_HALF_H
#define SUMIX_CPU_HALF_H

#include <stddef.h>

#include "../kernels.h"
#include "../maths.h"

static inline float sumix_float_of_half(uint16_t half)
{
  const uint32_t sign = (uint32_t)(half & 0x8000u) << 16, magnitude = (uint32_t)(half & 0x7fffu) << 13;
  /* The exponent is 112 too small: multiplying by 2^112 mends it, for subnormals too. Infinity and NaN need all its
   * bits. */
  const float scaled = sumix_float_of_bits(magnitude) * 0x1p112f;
  const uint32_t all_ones = magnitude >= 0x0f800000u ? 0x7f800000u : 0u;
  return sumix_float_of_bits(sumix_bits_of_float(scaled) | all_ones | sign);
}

static inline uint16_t sumix_half_of_float(float value)
{
  const uint32_t bits = sumix_bits_of_float(value), sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7fffffffu;
  /* Normal results: rebias, and round by adding just under half a unit, plus the last kept bit for ties to even. */
  const uint32_t normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  /* Results below 2^-14: adding 0.5 leaves them, rounded, in units of 2^-24 at the end of the significand. */
  const uint32_t subnormal = sumix_bits_of_float(sumix_float_of_bits(magnitude) + 0.5f) - 0x3f000000u;
  uint32_t half = magnitude < 0x38800000u ? subnormal : normal;
  half = magnitude >= 0x47800000u ? 0x7c00u : half;  // 65536 and more; 65520 and more have rounded to it already
  half = magnitude > 0x7f800000u ? 0x7e00u : half;   // NaN
  return (uint16_t)(sign | half);
}

static inline float sumix_float_of_bfloat(uint16_t bfloat) { return sumix_float_of_bits((uint32_t)bfloat << 16); }

static inline uint16_t sumix_bfloat_of_float(float value)
{
  const uint32_t bits = sumix_bits_of_float(value);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? (bits >> 16) | 0x40u : rounded);  // a NaN stays one
}

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
