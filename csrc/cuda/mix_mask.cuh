/* Masks on a GPU: the weights of some elements that follow each other in a plane, read once for all planes.
 *
 * A thread takes its elements of up to MASK_PLANES planes, one after another, with their weights in registers. That is
 * all planes of a colour image: its mask of 4 bytes a pixel, which is more than 8-bit images have themselves, passes
 * the caches once.
 */
#ifndef SUMIX_CUDA_MIX_MASK_CUH
#define SUMIX_CUDA_MIX_MASK_CUH

#include "../args/layout.h"
#include "mix.cuh"

enum { MASK_PLANES = 4 };

/* The elements of a plane in vectors, and the planes in groups. A thread's place is (vector of a plane, group). */
struct mask_planes {
  int64_t channels;     // elements of a pixel
  int64_t pixels;       // of a plane
  int64_t count, size;  // planes; vectors of a plane
  int64_t items;        // vectors of a plane times groups
  struct mix_planes walk;
};

static inline struct mask_planes mask_planes_of(const struct sumix_layout *l, int64_t element, int64_t count)
{
  const int64_t channels = l->pixel / element, pixels = l->height * l->width, size = pixels * channels / count;
  const int64_t groups = (l->planes + MASK_PLANES - 1) / MASK_PLANES;
  const struct mask_planes planes = {channels, pixels,        l->planes,
                                     size,     size * groups, mix_planes_of(size, groups, MIX_THREADS)};
  return planes;
}

__device__ inline float mask_checked(float weight)
{
  assert(weight >= 0 && weight <= 1 && "mask is out of range");  // NaN is
  return weight;
}
__device__ inline float mask_checked(uint8_t weight) { return weight != 0; }

/* The weights of elements first .. first + count of each plane, from `values`: of a sample, pixel by pixel. */
template <int count, typename stored> __device__ inline void mask_spread(const stored *__restrict__ values,
                                                                         int64_t channels, int64_t first,
                                                                         float (&weights)[count])
{
  enum { AT_ONCE = count * sizeof(stored) < 16 ? count : 16 / sizeof(stored) };
  typedef sumix_vector<stored, AT_ONCE> vector;
  if (channels == 1 && sumix_is_aligned(values + first, sizeof(vector))) {
#pragma unroll
    for (int at = 0; at < count; at += AT_ONCE) {
      const vector some = *(const vector *)(values + first + at);
#pragma unroll
      for (int k = 0; k < AT_ONCE; k++) weights[at + k] = mask_checked(some.at[k]);
    }
    return;
  }
  int64_t pixel = channels == 1 ? first : first / channels, left = (pixel + 1) * channels - first;
  float weight = mask_checked(values[pixel]);
#pragma unroll
  for (int k = 0; k < count; k++) {
    weights[k] = weight;
    if (--left > 0 || k + 1 == count) continue;
    left = channels;
    weight = mask_checked(values[++pixel]);
  }
}

/* The same for sample i of any mask. */
template <int count> __device__ inline void mask_weights(const struct sumix_mask &mask,
                                                         const struct mask_planes &planes, int64_t i, int64_t first,
                                                         float (&weights)[count])
{
  const uint8_t *const bytes = (const uint8_t *)mask.values;
  const float *const floats = (const float *)mask.values;
  if (mask.uniform) {
    const float weight = mask.binary ? mask_checked(bytes[i]) : mask_checked(floats[i]);
#pragma unroll
    for (int k = 0; k < count; k++) weights[k] = weight;
  } else if (mask.binary) {
    mask_spread(bytes + i * planes.pixels, planes.channels, first, weights);
  } else {
    mask_spread(floats + i * planes.pixels, planes.channels, first, weights);
  }
}

/* Whether all of the weights are `value`. */
template <int count> __device__ inline bool mask_is_all(const float (&weights)[count], float value)
{
  bool all = true;
#pragma unroll
  for (int k = 0; k < count; k++) all &= weights[k] == value;
  return all;
}

#endif
