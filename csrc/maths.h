/* Elementary functions that a compiler vectorises: no call, no branch, no table.
 *
 *   sumix_exp_*       exp(x) for x <= 88 (double: 709): 2^n p(r) with n = round(x / ln 2) and r = x - n ln 2 in
 *                     [-ln 2 / 2, ln 2 / 2]. NaN for NaN, 0 for -inf and wherever the result would be subnormal.
 *   sumix_exp_unit_*  exp(x) for |x| <= 1, a polynomial alone: differences of probabilities need no more.
 *
 *   sumix_ratio_upwards  a / b rounded upwards, for whole 0 <= a, b <= 2^24; 0 for b = 0. Not vectorised.
 *
 * p is the minimax polynomial of relative error with p(0) = 1, of the degree that leaves about one unit in the last
 * place. Both are within 4 ulp, without fused multiply-add too; tests/c/test_maths.c measures it.
 */
#ifndef SUMIX_MATHS_H
#define SUMIX_MATHS_H

#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#define SUMIX_HD __host__ __device__
#else
#define SUMIX_HD
#endif

static inline SUMIX_HD float sumix_float_of_bits(uint32_t bits)
{
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static inline SUMIX_HD uint32_t sumix_bits_of_float(float value)
{
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

static inline SUMIX_HD double sumix_double_of_bits(uint64_t bits)
{
  double value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static inline SUMIX_HD uint64_t sumix_bits_of_double(double value)
{
  uint64_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

static inline SUMIX_HD float sumix_exp_f32(float x)
{
  /* Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits: a conversion without a cast that NaN could
   * upset. */
  const float magic = 0x1.8p23f, shifted = x * 0x1.715476p+0f + magic, n = shifted - magic;
  const float r = (x - n * 0x1.62ep-1f) - n * 0x1.0bfbe8p-15f;  // ln 2 in two parts: n times the first is exact
  float p = 0x1.10470ep-7f;
  p = p * r + 0x1.57265ap-5f;
  p = p * r + 0x1.5557eep-3f;
  p = p * r + 0x1.fffe10p-2f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  /* The low bits moved to the exponent's place; the magic's own bits fall off the end. */
  const float power = sumix_float_of_bits((sumix_bits_of_float(shifted) << 23) + 0x3f800000u);
  return x < -0x1.5d58ap6f ? 0.0f : p * power;  // -87.3365: the smallest normal number
}

static inline SUMIX_HD float sumix_exp_unit_f32(float x)
{
  float p = 0x1.95d198p-16f;
  p = p * x + 0x1.aca410p-13f;
  p = p * x + 0x1.6c9a46p-10f;
  p = p * x + 0x1.10edcep-7f;
  p = p * x + 0x1.555282p-5f;
  p = p * x + 0x1.5555e4p-3f;
  p = p * x + 0x1.00000ap-1f;
  p = p * x + 0x1.fffffep-1f;
  return p * x + 1.0f;
}

static inline SUMIX_HD double sumix_exp_f64(double x)
{
  const double magic = 0x1.8p52, shifted = x * 0x1.71547652b82fep+0 + magic, n = shifted - magic;
  const double r = (x - n * 0x1.62e42feep-1) - n * 0x1.a39ef35793c76p-33;
  double p = 0x1.ad65a6b58290dp-26;
  p = p * r + 0x1.28b37af28b430p-22;
  p = p * r + 0x1.71df462a26e1ep-19;
  p = p * r + 0x1.a019925fe7468p-16;
  p = p * r + 0x1.a01a010f7daf4p-13;
  p = p * r + 0x1.6c16c187ab0a9p-10;
  p = p * r + 0x1.11111111311dfp-7;
  p = p * r + 0x1.555555554f2a8p-5;
  p = p * r + 0x1.55555555554a0p-3;
  p = p * r + 0x1.0000000000010p-1;
  p = p * r + 1.0;
  p = p * r + 1.0;
  const double power = sumix_double_of_bits((sumix_bits_of_double(shifted) << 52) + 0x3ff0000000000000u);
  return x < -708.3 ? 0.0 : p * power;
}

static inline SUMIX_HD double sumix_exp_unit_f64(double x)
{
  double p = 0x1.a835b54022f5ep-41;
  p = p * x + 0x1.9a2c5b686aa59p-37;
  p = p * x + 0x1.6148f8e0c7df1p-33;
  p = p * x + 0x1.1ee33304d7e32p-29;
  p = p * x + 0x1.ae63dceda1be8p-26;
  p = p * x + 0x1.27e50c4f37ed8p-22;
  p = p * x + 0x1.71de3b165d20bp-19;
  p = p * x + 0x1.a01a01820d010p-16;
  p = p * x + 0x1.a01a019eda3dfp-13;
  p = p * x + 0x1.6c16c16c33813p-10;
  p = p * x + 0x1.11111111121d2p-7;
  p = p * x + 0x1.55555555553adp-5;
  p = p * x + 0x1.555555555553dp-3;
  p = p * x + 0x1.0000000000001p-1;
  p = p * x + 1.0;
  return p * x + 1.0;
}

static inline SUMIX_HD float sumix_ratio_upwards(int32_t a, int32_t b)
{
  if (b == 0) return 0;
  const float nearest = (float)a / (float)b;
  return (double)nearest * b < a ? sumix_float_of_bits(sumix_bits_of_float(nearest) + 1) : nearest;
}

#endif
