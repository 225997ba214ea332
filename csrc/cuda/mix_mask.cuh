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

/* Weight k of a mask that is binary or of floats. */
__device__ inline float mask_weight(const struct sumix_mask &mask, int64_t k)
{
  if (mask.binary) return ((const uint8_t *)mask.values)[k] != 0;
  const float weight = ((const float *)mask.values)[k];
  assert(weight >= 0 && weight <= 1 && "mask is out of range");  // NaN is
  return weight;
}

/* Those of elements first .. first + count of each plane of sample i. */
template <int count> __device__ inline void mask_weights(const struct sumix_mask &mask,
                                                         const struct mask_planes &planes, int64_t i, int64_t first,
                                                         float (&weights)[count])
{
  const int64_t own = i * (mask.uniform ? 1 : planes.pixels);
  if (mask.uniform || count == 1) {
    const float weight = mask_weight(mask, mask.uniform ? own : own + first / planes.channels);
#pragma unroll
    for (int k = 0; k < count; k++) weights[k] = weight;
    return;
  }
  enum { AT_ONCE = count % 4 == 0 ? 4 : count };
  typedef sumix_vector<float, AT_ONCE> vector;
  const float *const values = (const float *)mask.values + own + first;
  if (planes.channels == 1 && !mask.binary && sumix_is_aligned(values, sizeof(vector))) {
#pragma unroll
    for (int at = 0; at < count; at += AT_ONCE) {
      const vector some = *(const vector *)(values + at);
#pragma unroll
      for (int k = 0; k < AT_ONCE; k++) {
        weights[at + k] = some.at[k];
        assert(some.at[k] >= 0 && some.at[k] <= 1 && "mask is out of range");
      }
    }
    return;
  }
  int64_t pixel = first / planes.channels, channel = first % planes.channels;
  float weight = mask_weight(mask, own + pixel);
#pragma unroll
  for (int k = 0; k < count; k++) {
    weights[k] = weight;
    if (k + 1 == count || ++channel < planes.channels) continue;
    channel = 0;
    weight = mask_weight(mask, own + ++pixel);
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
