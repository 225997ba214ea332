/* Random numbers that are the same everywhere: from a seed and a place, not from a state.
 *
 *   sumix_philox     128 random bits (four words) of a seed, a sample's number, a draw's number and a stream: Philox
 *                    4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011). Each op draws
 *                    from streams of its own, so one seed can feed all of them, and whatever is drawn for sample i
 *                    depends on nothing that any other sample, thread or device draws.
 *   sumix_beta       Beta(alpha, alpha)
 *   sumix_normals    two standard normal deviates (Box and Muller, 1958)
 *
 * Equal bits on every processor, compiler and device are promised: exact.h says what that takes. No branch, no table,
 * no call: compilers vectorise all of it.
 */
#ifndef SUMIX_RANDOM_H
#define SUMIX_RANDOM_H

#include <math.h>

#include "exact.h"
#include "maths.h"

/* Who draws. A number here is part of what a seed means: it never changes. */
enum sumix_stream {
  SUMIX_STREAM_SEED,     // sub-seeds
  SUMIX_STREAM_LAM,      // draw 0: the ratio; draw 1: whether to mix at all
  SUMIX_STREAM_PERM,     // the key that a sample is sorted by
  SUMIX_STREAM_CLASS,    // the key that a class is sorted by; its label stands for the sample's number
  SUMIX_STREAM_SHIFT,    // how far partners of another class are away
  SUMIX_STREAM_BOX,      // draw 0: the centre, or the sides; draw 1: the corner; draw 2: a ratio from a range
  SUMIX_STREAM_UNIFORM,  // draw d: elements 4 d to 4 d + 3
  SUMIX_STREAM_NORMAL,   // the same
  SUMIX_STREAM_TOP_K,    // draw 0: which way a number of pixels is rounded
};

struct sumix_words {
  uint32_t w[4];
};

/* Philox's multipliers, and what its key grows by from round to round: the golden ratio and sqrt(3) - 1. */
#define SUMIX_PHILOX_M0 0xD2511F53u
#define SUMIX_PHILOX_M1 0xCD9E8D57u
#define SUMIX_PHILOX_W0 0x9E3779B9u
#define SUMIX_PHILOX_W1 0xBB67AE85u

static inline SUMIX_HD struct sumix_words sumix_philox(uint64_t seed, uint64_t sample, uint32_t draw, uint32_t stream)
{
  uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
  uint32_t c0 = (uint32_t)sample, c1 = (uint32_t)(sample >> 32), c2 = draw, c3 = stream;
  for (int round = 0; round < 10; round++) {
    const uint64_t p0 = (uint64_t)SUMIX_PHILOX_M0 * c0, p1 = (uint64_t)SUMIX_PHILOX_M1 * c2;
    c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
    c1 = (uint32_t)p1;
    c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
    c3 = (uint32_t)p0;
    k0 += SUMIX_PHILOX_W0;
    k1 += SUMIX_PHILOX_W1;
  }
  const struct sumix_words words = {{c0, c1, c2, c3}};
  return words;
}

/* Two of the four words as one number: the first (half 0) or the last (half 1). */
static inline SUMIX_HD uint64_t sumix_half(struct sumix_words words, int half)
{
  return words.w[2 * half] | (uint64_t)words.w[2 * half + 1] << 32;
}

/* Uniform in [0, 1), on a grid of 2^-52: the bits fill the fraction of a number in [1, 2). */
static inline SUMIX_HD double sumix_uniform_f64(uint64_t bits)
{
  return sumix_double_of_bits(bits >> 12 | UINT64_C(0x3ff0000000000000)) - 1;
}

/* Uniform in [0, 1), on a grid of 2^-24. */
static inline SUMIX_HD float sumix_uniform_f32(uint32_t bits) { return (float)(int32_t)(bits >> 8) * 0x1p-24f; }

/* floor(bits n / 2^64): uniform among 0 to n - 1 but for n / 2^64. n < 2^31. */
static inline SUMIX_HD int64_t sumix_below(uint64_t bits, int64_t n)
{
  const uint64_t low = (bits & 0xffffffffu) * (uint64_t)n >> 32;
  return (int64_t)(((bits >> 32) * (uint64_t)n + low) >> 32);
}

/* log(x) for normal x > 0: x = 2^e m with m in [sqrt(1/2), sqrt(2)), and log(m) = 2 atanh(s), s = (m - 1) / (m + 1), by
 * atanh's series, whose first term left out is below 2^-60. */
static inline SUMIX_HD double sumix_exact_log_f64(double x)
{
  const uint64_t shifted = sumix_bits_of_double(x) + (UINT64_C(0x3ff0000000000000) - UINT64_C(0x3fe6a09e667f3bcd));
  /* The biased exponent as a double, without a conversion: it lies in the low bits of 2^52 + it. */
  const double e = sumix_double_of_bits(shifted >> 52 | UINT64_C(0x4330000000000000)) - (0x1p52 + 1023);
  const double m = sumix_double_of_bits((shifted & UINT64_C(0x000fffffffffffff)) + UINT64_C(0x3fe6a09e667f3bcd));
  const double f = m - 1, s = f / (m + 1), z = s * s;
  double p = 1.0 / 21;
  p = p * z + 1.0 / 19;
  p = p * z + 1.0 / 17;
  p = p * z + 1.0 / 15;
  p = p * z + 1.0 / 13;
  p = p * z + 1.0 / 11;
  p = p * z + 1.0 / 9;
  p = p * z + 1.0 / 7;
  p = p * z + 1.0 / 5;
  p = p * z + 1.0 / 3;
  /* ln 2 in two parts: e times the first is exact. */
  return e * 0x1.62e42feep-1 + (2 * s + (2 * s * z * p + e * 0x1.a39ef35793c76p-33));
}

/* exp(x) and 1 - exp(x), each to its own last places, for x <= 0: by the series of exp(r) - 1 for r = x - n ln 2. Below
 * -708 exp(x) is 0. */
static inline SUMIX_HD void sumix_exact_exp_f64(double x, double *exp_x, double *one_minus_exp_x)
{
  const double magic = 0x1.8p52, y = x < -708 ? -708 : x, shifted = y * 0x1.71547652b82fep+0 + magic;
  const double n = shifted - magic, r = (y - n * 0x1.62e42feep-1) - n * 0x1.a39ef35793c76p-33;
  double p = 1.0 / 6227020800;  // 13!
  p = p * r + 1.0 / 479001600;
  p = p * r + 1.0 / 39916800;
  p = p * r + 1.0 / 3628800;
  p = p * r + 1.0 / 362880;
  p = p * r + 1.0 / 40320;
  p = p * r + 1.0 / 5040;
  p = p * r + 1.0 / 720;
  p = p * r + 1.0 / 120;
  p = p * r + 1.0 / 24;
  p = p * r + 1.0 / 6;
  p = p * r + 1.0 / 2;
  const double e = p * r * r + r;
  const double power = sumix_double_of_bits((sumix_bits_of_double(shifted) << 52) + UINT64_C(0x3ff0000000000000));
  *exp_x = x < -708 ? 0 : power * e + power;
  *one_minus_exp_x = (1 - power) - power * e;
}

/* sin(pi/2 x) for x in [0, 1): its series. */
static inline SUMIX_HD double sumix_exact_sin_f64(double x)
{
  const double a = x * 0x1.921fb54442d18p+0, z = a * a;
  double p = 1.0 / 51090942171709440000.0;  // 21!
  p = p * z - 1.0 / 121645100408832000;
  p = p * z + 1.0 / 355687428096000;
  p = p * z - 1.0 / 1307674368000;
  p = p * z + 1.0 / 6227020800;
  p = p * z - 1.0 / 39916800;
  p = p * z + 1.0 / 362880;
  p = p * z - 1.0 / 5040;
  p = p * z + 1.0 / 120;
  p = p * z - 1.0 / 6;
  return p * z * a + a;
}

/* Beta(alpha, alpha) by the polar method (Bailey, Mathematics of Computation 62, 1994): for u in (0, 1] and an angle
 * phi, both uniform, t = sqrt(u^(-1/alpha) - 1) cos(phi) is, but for a factor, Student's t with 2 alpha degrees of
 * freedom, and (1 + t / sqrt(1 + t^2)) / 2 is Beta(alpha, alpha). Exact for every alpha, and without rejection.
 *
 * With q = u^(1/alpha), c = |cos(phi)| and R = sqrt(c^2 + q (1 - c^2)) the smaller of the two shares that a draw and
 * its mirror image give is q / (2 R (R + sqrt(1 - q) c)): nothing overflows, and nothing cancels however small it is.
 * phi is folded into a quarter turn, where c is as well distributed as its sine; a bit of its own says which share it
 * is. */
static inline SUMIX_HD double sumix_beta(struct sumix_words words, double alpha)
{
  const uint64_t turn = sumix_half(words, 1);
  const double u = 1 - sumix_uniform_f64(sumix_half(words, 0)), c = sumix_exact_sin_f64(sumix_uniform_f64(turn << 1));
  double q, rest;
  sumix_exact_exp_f64(sumix_exact_log_f64(u) / alpha, &q, &rest);
  const double square = c * c, radius = sqrt(square + q * (1 - square));
  const double small = q > 0 ? q / (2 * radius * (radius + sqrt(rest) * c)) : 0;
  return turn >> 63 ? 1 - small : small;
}

/* -2 log(u) for u = (bits + 1/2) / 2^32, to float's last places at both ends: near 1 from 1 - u, which a conversion of
 * the bits as a signed number gives without rounding u first. */
static inline SUMIX_HD float sumix_square_radius(uint32_t bits)
{
  const float near = ((float)(int32_t)bits + 0.5f) * 0x1p-32f;  // u below 1/2, u - 1 above
  /* u = 2^e (1 + f), f in [sqrt(1/2) - 1, sqrt(2) - 1) */
  const uint32_t shifted = sumix_bits_of_float(near) + (0x3f800000u - 0x3f3504f3u);
  const float m = sumix_float_of_bits((shifted & 0x007fffffu) + 0x3f3504f3u);
  const float below = (float)((int32_t)(shifted >> 23) - 127), top = near < -0.29289323f ? -1.0f : 0.0f;
  const float e = near < 0 ? top : below, f = near < 0 ? (near < -0.29289323f ? 2 * near + 1 : near) : m - 1;
  const float s = f / (2 + f), z = s * s;
  float p = 1.0f / 9;
  p = p * z + 1.0f / 7;
  p = p * z + 1.0f / 5;
  p = p * z + 1.0f / 3;
  const float log_m = 2 * s + 2 * s * z * p;
  return -2 * (e * 0x1.62ep-1f + (log_m + e * 0x1.0bfbe8p-15f));
}

/* sqrt(-2 log(u)) times the cosine and the sine of a uniform angle, from two words. The angle is taken apart as an
 * integer: its quarter turn, and what is left of it, from -1/8 to 1/8 turn, for the series. */
static inline SUMIX_HD void sumix_normals(uint32_t first, uint32_t second, float *a, float *b)
{
  const float radius = sqrtf(sumix_square_radius(first));
  const uint32_t quarter = (second + 0x20000000u) >> 30;
  const float x = (float)(int32_t)(second - (quarter << 30)) * 0x1.921fb6p-30f, z = x * x;  // times pi/2 2^-30
  const float sine = (((1.0f / 362880 * z - 1.0f / 5040) * z + 1.0f / 120) * z - 1.0f / 6) * z * x + x;
  const float cosine = (((((-1.0f / 3628800) * z + 1.0f / 40320) * z - 1.0f / 720) * z + 1.0f / 24) * z - 0.5f) * z + 1;
  /* (cos, sin) in the four quarters: (c, s), (-s, c), (-c, -s), (s, -c); a sign is the top bit. */
  const float swapped_cos = quarter & 1 ? sine : cosine, swapped_sin = quarter & 1 ? cosine : sine;
  const uint32_t cos_sign = ((quarter + 1) & 2) << 30, sin_sign = (quarter & 2) << 30;
  *a = radius * sumix_float_of_bits(sumix_bits_of_float(swapped_cos) ^ cos_sign);
  *b = radius * sumix_float_of_bits(sumix_bits_of_float(swapped_sin) ^ sin_sign);
}

#endif
