/* From a float or double to the nearest integer, ties to even, as a compiler vectorises it and as a GPU does it without
 * its slow conversions: adding 1.5 * 2^23 (2^52) leaves the sum so large that its last bit is a whole. For |value|
 * below 2^22 (2^51), which every mean of integers of the type lies within.
 */
#ifndef SUMIX_ROUNDING_H
#define SUMIX_ROUNDING_H

#include "maths.h"

#include <math.h>

static inline SUMIX_HD float sumix_round_f32(float value) { return (value + 0x1.8p23f) - 0x1.8p23f; }
static inline SUMIX_HD double sumix_round_f64(double value) { return (value + 0x1.8p52) - 0x1.8p52; }

/* Narrowed at once: the integer is in the low bits of the sum. */
static inline SUMIX_HD uint8_t sumix_nearest_uint8(float value)
{
  return (uint8_t)sumix_bits_of_float(value + 0x1.8p23f);
}

/* w a + (1 - w) b as b + w (a - b): one conversion instead of two, and b joins the large number as an integer. */
static inline SUMIX_HD uint8_t sumix_mean_uint8(float w, uint8_t a, uint8_t b)
{
  return (uint8_t)sumix_bits_of_float(w * (float)(a - b) + sumix_float_of_bits(0x4b400000u + b));
}

static inline SUMIX_HD int8_t sumix_nearest_int8(float value) { return (int8_t)(int32_t)sumix_round_f32(value); }
static inline SUMIX_HD int16_t sumix_nearest_int16(float value) { return (int16_t)(int32_t)sumix_round_f32(value); }
static inline SUMIX_HD int32_t sumix_nearest_int32(double value) { return (int32_t)sumix_round_f64(value); }

/* A double rounds the largest int64 up to 2^63, which is none. */
static inline SUMIX_HD int64_t sumix_nearest_int64(double value)
{
  return value < 0x1p63 ? (int64_t)rint(value) : INT64_MAX;
}

#endif
