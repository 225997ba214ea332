/* Many draws of csrc/random.h at once, word by word, as vector code likes them.
 *
 * Where the processor has AVX2, eight draws at a time: a vector holds the same word of eight draws, and multiplying its
 * even and its odd elements to 64 bits, each by one instruction, gives the halves of all eight products. Left to
 * themselves compilers widen and narrow the vectors around every product, which takes gcc three times as long.
 */
#ifndef SUMIX_CPU_PHILOX_H
#define SUMIX_CPU_PHILOX_H

#include <stdbool.h>

#include "../random.h"

#ifdef __AVX2__
#include <immintrin.h>
#endif

enum { SUMIX_BLOCK = 128 };

struct sumix_block {
  _Alignas(64) uint32_t w[4][SUMIX_BLOCK];
};

static inline struct sumix_words sumix_words_of(const struct sumix_block *block, int64_t j)
{
  return (struct sumix_words){{block->w[0][j], block->w[1][j], block->w[2][j], block->w[3][j]}};
}

#ifdef __AVX2__
typedef uint32_t sumix_u32x8 __attribute__((vector_size(32)));
typedef uint64_t sumix_u64x4 __attribute__((vector_size(32)));

static inline void sumix_multiply(sumix_u32x8 x, uint32_t by, sumix_u32x8 *high, sumix_u32x8 *low)
{
  const __m256i factor = _mm256_set1_epi32((int)by);
  const sumix_u64x4 even = (sumix_u64x4)_mm256_mul_epu32((__m256i)x, factor);
  const sumix_u64x4 odd = (sumix_u64x4)_mm256_mul_epu32((__m256i)((sumix_u64x4)x >> 32), factor);
  *high = (sumix_u32x8)_mm256_blend_epi32((__m256i)(even >> 32), (__m256i)odd, 0xaa);
  *low = (sumix_u32x8)_mm256_blend_epi32((__m256i)even, (__m256i)(odd << 32), 0xaa);
}
#endif

/* Draw `draw` of the samples from `sample` on (of_samples), or the draws from `draw` on of one sample: at least `count`
 * of them, at most SUMIX_BLOCK. */
static inline void sumix_philox_block(uint64_t seed, uint64_t sample, uint32_t draw, uint32_t stream, bool of_samples,
                                      int64_t count, struct sumix_block *block)
{
#ifdef __AVX2__
  const sumix_u32x8 zero = {0}, lane = {0, 1, 2, 3, 4, 5, 6, 7};
  for (int64_t j = 0; j < count; j += 8) {
    const sumix_u32x8 step = (uint32_t)j + lane;
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    sumix_u32x8 c0 = zero + (uint32_t)sample, c1 = zero + (uint32_t)(sample >> 32), c2 = zero + draw;
    sumix_u32x8 c3 = zero + stream, high0, low0, high1, low1;
    if (of_samples) {
      c0 += step;
      c1 -= (sumix_u32x8)(c0 < step);  // true is -1: the carry
    } else {
      c2 += step;
    }
    for (int round = 0; round < 10; round++) {
      sumix_multiply(c0, SUMIX_PHILOX_M0, &high0, &low0);
      sumix_multiply(c2, SUMIX_PHILOX_M1, &high1, &low1);
      c0 = high1 ^ c1 ^ k0;
      c1 = low1;
      c2 = high0 ^ c3 ^ k1;
      c3 = low0;
      k0 += SUMIX_PHILOX_W0;
      k1 += SUMIX_PHILOX_W1;
    }
    memcpy(&block->w[0][j], &c0, sizeof c0);
    memcpy(&block->w[1][j], &c1, sizeof c1);
    memcpy(&block->w[2][j], &c2, sizeof c2);
    memcpy(&block->w[3][j], &c3, sizeof c3);
  }
#else
  for (int64_t j = 0; j < count; j++) {
    const struct sumix_words words = of_samples ? sumix_philox(seed, sample + (uint64_t)j, draw, stream)
                                                : sumix_philox(seed, sample, draw + (uint32_t)j, stream);
    for (int k = 0; k < 4; k++) block->w[k][j] = words.w[k];
  }
#endif
}

#endif
