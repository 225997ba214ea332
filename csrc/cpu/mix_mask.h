/* Masks, the weight of the own image pixel by pixel, for the kernels that mix by one. */
#ifndef SUMIX_CPU_MIX_MASK_H
#define SUMIX_CPU_MIX_MASK_H

#include "mix.h"

/* What the weights of a chunk amount to. */
enum weights { WEIGHTS_MIXED, WEIGHTS_OWN, WEIGHTS_PARTNER, WEIGHTS_WRONG };

/* A mask over elements: those of a plane, pixel by pixel, share the weights of all other planes. */
struct mask {
  const void *values;  // (n, pixels) or, if uniform, (n)
  bool binary, uniform;
  int64_t pixels, channels;  // pixels of a plane, elements of a pixel
  int64_t chunk;             // elements computed at once: whole pixels, unless they are larger than that
};

static inline struct mask mask_of(const struct sumix_mask *mask, const struct sumix_layout *l, int64_t element)
{
  const int64_t channels = l->pixel / element, chunk = channels <= CHUNK ? CHUNK / channels * channels : CHUNK;
  return (struct mask){mask->values, mask->binary, mask->uniform, l->height * l->width, channels, chunk};
}

static inline int64_t chunks_of(const struct mask *mask)
{
  return (mask->pixels * mask->channels + mask->chunk - 1) / mask->chunk;
}

static inline enum weights judge_floats(const float *restrict values, int64_t k)
{
  int fine = 1, own = 1, partner = 1;
#pragma omp simd reduction(& : fine, own, partner)
  for (int64_t j = 0; j < k; j++) {
    fine &= (values[j] >= 0) & (values[j] <= 1);  // written so that NaN fails
    own &= values[j] == 1;
    partner &= values[j] == 0;
  }
  return !fine ? WEIGHTS_WRONG : own ? WEIGHTS_OWN : partner ? WEIGHTS_PARTNER : WEIGHTS_MIXED;
}

static inline enum weights judge_bytes(const uint8_t *restrict values, int64_t k)
{
  uint8_t own = 1, partner = 1;
#pragma omp simd reduction(& : own, partner)
  for (int64_t j = 0; j < k; j++) {
    own &= values[j] != 0;
    partner &= values[j] == 0;
  }
  return own ? WEIGHTS_OWN : partner ? WEIGHTS_PARTNER : WEIGHTS_MIXED;
}

/* The weights of elements first .. first + k of each plane of sample i: what they amount to. */
static inline enum weights judge(const struct mask *mask, int64_t i, int64_t first, int64_t k)
{
  const int64_t pixel = first / mask->channels, end = (first + k + mask->channels - 1) / mask->channels;
  const int64_t at = mask->uniform ? i : i * mask->pixels + pixel, count = mask->uniform ? 1 : end - pixel;
  if (mask->binary) return judge_bytes((const uint8_t *)mask->values + at, count);
  return judge_floats((const float *)mask->values + at, count);
}

/* The same weights themselves, one an element. */
static inline const float *float_weights(const struct mask *mask, int64_t i, int64_t first, int64_t k,
                                         float *restrict spread)
{
  const float *values = mask->values;
  const uint8_t *bytes = mask->values;
  if (mask->uniform) {
    for (int64_t j = 0; j < k; j++) spread[j] = mask->binary ? bytes[i] != 0 : values[i];
    return spread;
  }
  const int64_t channels = mask->channels, pixel = i * mask->pixels + first / channels;
  if (channels == 1 && !mask->binary) return values + pixel;
  if (channels == 3 && first % 3 == 0 && !mask->binary) {  // of colours, at a stride that the compiler knows
    for (int64_t j = 0; j < k / 3; j++) spread[3 * j] = spread[3 * j + 1] = spread[3 * j + 2] = values[pixel + j];
    return spread;
  }
  for (int64_t j = 0, at = pixel; j < k; at++) {
    const float weight = mask->binary ? bytes[at] != 0 : values[at];
    const int64_t end = smaller((at - i * mask->pixels + 1) * channels - first, k);
    for (; j < end; j++) spread[j] = weight;
  }
  return spread;
}

/* What a kernel failed of: a weight out of range, or if there is none, memory. */
static inline int find_wrong_weight(const struct sumix_mask *mask, const struct sumix_layout *l,
                                    struct sumix_status *status)
{
  const int64_t height = mask->uniform ? 1 : l->height, width = mask->uniform ? 1 : l->width;
  const float *const values = mask->values;
  for (int64_t k = 0; !mask->binary && k < l->n * height * width; k++)
    SUMIX_CHECK(values[k] >= 0 && values[k] <= 1, status, "mask[%lld, %lld, %lld] is %g, expected 0 to 1",
                (long long)(k / width / height), (long long)(k / width % height), (long long)(k % width),
                (double)values[k]);
  return sumix_out_of_memory(status);
}

#endif
