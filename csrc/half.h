/* float16 and bfloat16, from and to float, round to nearest even: in integer arithmetic that every compiler vectorises,
 * or by the instruction that does it on a GPU. Both give the same bits, but for what is in a NaN. */
#ifndef SUMIX_HALF_H
#define SUMIX_HALF_H

#include "maths.h"

static inline SUMIX_HD float sumix_float_of_half(uint16_t half)
{
#ifdef __CUDA_ARCH__
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(half));
  return value;
#else
  const uint32_t sign = (uint32_t)(half & 0x8000u) << 16, magnitude = (uint32_t)(half & 0x7fffu) << 13;
  /* The exponent is 112 too small: multiplying by 2^112 mends it, for subnormals too. Infinity and NaN need all its
   * bits. */
  const float scaled = sumix_float_of_bits(magnitude) * 0x1p112f;
  const uint32_t all_ones = magnitude >= 0x0f800000u ? 0x7f800000u : 0u;
  return sumix_float_of_bits(sumix_bits_of_float(scaled) | all_ones | sign);
#endif
}

static inline SUMIX_HD uint16_t sumix_half_of_float(float value)
{
#ifdef __CUDA_ARCH__
  uint16_t rounded;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(rounded) : "f"(value));
  return rounded;
#else
  const uint32_t bits = sumix_bits_of_float(value), sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7fffffffu;
  /* Normal results: rebias, and round by adding just under half a unit, plus the last kept bit for ties to even. */
  const uint32_t normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  /* Results below 2^-14: adding 0.5 leaves them, rounded, in units of 2^-24 at the end of the significand. */
  const uint32_t subnormal = sumix_bits_of_float(sumix_float_of_bits(magnitude) + 0.5f) - 0x3f000000u;
  uint32_t half = magnitude < 0x38800000u ? subnormal : normal;
  half = magnitude >= 0x47800000u ? 0x7c00u : half;  // 65536 and more; 65520 and more have rounded to it already
  half = magnitude > 0x7f800000u ? 0x7e00u : half;   // NaN
  return (uint16_t)(sign | half);
#endif
}

static inline SUMIX_HD float sumix_float_of_bfloat(uint16_t bfloat)
{
  return sumix_float_of_bits((uint32_t)bfloat << 16);
}

static inline SUMIX_HD uint16_t sumix_bfloat_of_float(float value)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  uint16_t nearest;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(nearest) : "f"(value));
  return nearest;
#else
  const uint32_t bits = sumix_bits_of_float(value);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? (bits >> 16) | 0x40u : rounded);  // a NaN stays one
#endif
}

#endif
