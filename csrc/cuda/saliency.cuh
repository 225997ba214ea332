/* The steps of saliency.cu on a tile, a row or a pixel, for a block, a warp or a thread. */
#ifndef SUMIX_CUDA_SALIENCY_CUH
#define SUMIX_CUDA_SALIENCY_CUH

#include <float.h>

#include "../saliency.h"
#include "common.cuh"

namespace
{

typedef unsigned long long ordered;         // numbers whose maximum an atomic finds
typedef sumix_vector<uint32_t, 4> entries;  // of T; or on | off << 16 of 4 pixels

/* ---- Levels ---- */

template <typename real> struct scaling {
  real shift[3], scale[3];
};

__device__ inline uint8_t level_of(float x, float shift, float scale)
{
  return sumix_saliency_level_f32(x, shift, scale);
}
__device__ inline uint8_t level_of(double x, double shift, double scale)
{
  return sumix_saliency_level_f64(x, shift, scale);
}
template <typename element, typename real> __device__ uint8_t level(element x, int c, const scaling<real> &s)
{
  return level_of(sumix_to_real(x), s.shift[c], s.scale[c]);
}
template <typename real> __device__ uint8_t level(uint8_t x, int, const scaling<real> &) { return x; }

template <typename element> __device__ bool is_stretched(const struct sumix_saliency_args &a)
{
  return sizeof(element) > 1 && a.mean == NULL;
}

template <typename real> __device__ scaling<real> find_scaling(const struct sumix_saliency_args &a, real low, real high)
{
  scaling<real> s;
#pragma unroll
  for (int c = 0; c < 3; c++) {
    s.shift[c] = -low, s.scale[c] = 255 / (high - low);
    if (a.mean == NULL || c >= a.channels) continue;
    const float mean = a.mean[c], std = a.std[c];
    assert(fabsf(mean) <= FLT_MAX && "mean is not finite");
    assert(std > 0 && std <= FLT_MAX && "std is not above 0");
    s.shift[c] = (real)mean / (real)std, s.scale[c] = 255 * (real)std;
  }
  return s;
}

/* Extends low and high by the finite values among x[first], x[first + step], ... */
template <typename element, typename real> __device__ void extend_range(const element *__restrict__ x, int64_t first,
                                                                        int64_t count, int64_t step, real *low,
                                                                        real *high)
{
  for (int64_t k = first; k < count; k += step) {
    const real value = sumix_to_real(x[k]);
    const bool finite = value - value == 0;
    *low = finite && value < *low ? value : *low;
    *high = finite && value > *high ? value : *high;
  }
}
template <typename real> __device__ void extend_range(const uint8_t *, int64_t, int64_t, int64_t, real *, real *) {}

/* As numbers whose order is that of the values; above 0, which is no value's. */
__device__ inline ordered order_of(double value)
{
  const uint64_t bits = sumix_bits_of_double(value), sign = (uint64_t)1 << 63;
  return bits & sign ? ~bits : bits | sign;
}
__device__ inline double value_of(ordered order)
{
  const uint64_t bits = order, sign = (uint64_t)1 << 63;
  return sumix_double_of_bits(bits & sign ? bits ^ sign : ~bits);
}

/* ---- A tile: `rows` rows of `vectors` words of 4 pixels, from (y, x) of the image on, with two rows and a word around
 * it ---- */

template <typename element, typename real>
__device__ void load_grey(const struct sumix_saliency_args &a, const element *__restrict__ image,
                          const scaling<real> &s, int64_t y, int64_t x, int rows, int vectors, uint8_t *tile)
{
  const int64_t step = a.channels_last ? a.channels : 1, plane = a.channels_last ? 1 : a.height * a.width;
  const int columns = 4 * vectors + 4;
#pragma unroll 2
  for (int k = threadIdx.x; k < (rows + 4) * columns; k += blockDim.x) {
    const int row = k / columns, column = k % columns;
    const int64_t v = y + row - 2, u = x + column - 2;
    uint8_t grey = 0;
    if (v < a.height + 2 && u < a.width + 2) {
      const int64_t pixel = sumix_saliency_mirror(v, a.height) * a.width + sumix_saliency_mirror(u, a.width);
      const element *at = image + pixel * step;
      grey = level(at[0], 0, s);
      if (a.channels == 3) grey = sumix_saliency_grey(grey, level(at[plane], 1, s), level(at[2 * plane], 2, s), a.bgr);
    }
    tile[row * 4 * (vectors + 2) + column + 2] = grey;
  }
}

/* [1 2 1] down three words, of their pixels 0 and 2, or 1 and 3: each in 16 bits, which hold all sums to come. */
__device__ inline uint32_t down(const uint32_t *word, int stride, int shift)
{
  const uint32_t mask = 0x00ff00ffu;
  return (word[-stride] >> shift & mask) + 2 * (word[0] >> shift & mask) + (word[stride] >> shift & mask);
}

/* The 3 x 3 kernel on the rows first .. first + rows of a tile, 4 pixels at once. The outermost pixels of its first and
 * last words get no neighbours, and are nobody's that counts: the tile's own pixels lie a whole word from its edge. */
__device__ inline void smooth_tile(const uint32_t *from, uint32_t *to, int first, int rows, int vectors)
{
  const int stride = vectors + 2;
  for (int k = threadIdx.x; k < rows * stride; k += blockDim.x) {
    const uint32_t *word = from + first * stride + k;
    const uint32_t even = down(word, stride, 0), odd = down(word, stride, 8);
    const uint32_t before = k % stride > 0 ? down(word - 1, stride, 8) : 0;
    const uint32_t after = k % stride < stride - 1 ? down(word + 1, stride, 0) : 0;
    const uint32_t sum_even = 2 * even + odd + (odd << 16 | before >> 16) + 0x00080008u;
    const uint32_t sum_odd = 2 * odd + even + (even >> 16 | after << 16) + 0x00080008u;
    to[first * stride + k] = (sum_even >> 4 & 0x00ff00ffu) | (sum_odd >> 4 & 0x00ff00ffu) << 8;
  }
}

/* The grey image, smoothed twice, into `tile`, for the whole block; `other` as large. Mirrored around the image before
 * it is smoothed, it is the mirror image after. */
template <typename element, typename real>
__device__ void smooth_twice(const struct sumix_saliency_args &a, int64_t i, const scaling<real> &s, int64_t y,
                             int64_t x, int rows, int vectors, uint32_t *tile, uint32_t *other)
{
  const element *const image = (const element *)a.x + i * a.channels * a.height * a.width;
  load_grey(a, image, s, y, x, rows, vectors, (uint8_t *)tile);
  __syncthreads();
  smooth_tile(tile, other, 1, rows + 2, vectors);
  __syncthreads();
  smooth_tile(other, tile, 2, rows, vectors);
  __syncthreads();
}

/* ---- The integral image ---- */

/* A warp's 4 x 32 entries become their sums so far, on top of *carry, to which all are added. */
__device__ inline entries scan(entries e, uint32_t *carry)
{
  const int lane = threadIdx.x % SUMIX_WARP;
  for (int j = 1; j < 4; j++) e.at[j] += e.at[j - 1];
  uint32_t sum = e.at[3];
  for (int offset = 1; offset < SUMIX_WARP; offset *= 2) {
    const uint32_t before = __shfl_up_sync(~0u, sum, offset);
    if (lane >= offset) sum += before;
  }
  const uint32_t before = *carry + sum - e.at[3];
  for (int j = 0; j < 4; j++) e.at[j] += before;
  *carry += __shfl_sync(~0u, sum, SUMIX_WARP - 1);
  return e;
}

__device__ inline entries all_of(uint32_t value) { return {{value, value, value, value}}; }

/* ---- Compare ---- */

__device__ inline int within(int at, int size) { return at < 0 ? 0 : at < size ? at : size; }

/* on | off << 16 of the pixels (y + row, 4 v + j) of an image; 0 beyond it. smooth: the word of the first of them. */
template <int rows> __device__ void compare(const entries *__restrict__ integral, const uint32_t *__restrict__ smooth,
                                            int stride, int height, int width, int vectors, int y, int v,
                                            entries *parts)
{
  float centre[rows][4];
  for (int row = 0; row < rows; row++) {
    const uint32_t word = y + row < height ? smooth[row * stride] : 0;
    for (int j = 0; j < 4; j++) centre[row][j] = (float)(word >> 8 * j & 255);
    parts[row] = all_of(0);
  }
#pragma unroll
  for (int k = 0; k < SUMIX_SALIENCY_WINDOWS; k++) {
    const int radius = sumix_saliency_radius(k);
    const int left = within(v + 1 - radius / 4, vectors + 1), right = within(v + 1 + radius / 4, vectors + 1);
    float columns[4];
    for (int j = 0; j < 4; j++)
      columns[j] = (float)(within(4 * v + j + radius + 1, width) - within(4 * v + j - radius + 1, width));
    for (int row = 0; row < rows; row++) {
      const int from = within(y + row - radius + 1, height), to = within(y + row + radius + 1, height);
      const entries *const top = integral + (int64_t)from * (vectors + 2);
      const entries *const bottom = integral + (int64_t)to * (vectors + 2);
      const entries a = bottom[right], b = bottom[left], c = top[right], d = top[left];
      for (int j = 0; j < 4; j++) {
        const float sum = (float)(int32_t)((a.at[j] - b.at[j]) - (c.at[j] - d.at[j]));
        const int32_t quotient = sumix_saliency_quotient((float)(to - from) * columns[j], centre[row][j], sum);
        parts[row].at[j] += quotient > 0 ? (uint32_t)quotient : (uint32_t)-quotient << 16;
      }
    }
  }
  for (int row = 0; row < rows; row++)
    for (int j = 0; j < 4; j++)
      if (4 * v + j >= width || y + row >= height) parts[row].at[j] = 0;
}

__device__ inline void extend_most(entries parts, uint32_t *on, uint32_t *off)
{
  for (int j = 0; j < 4; j++) {
    *on = sumix_max()(*on, parts.at[j] & 0xffff);
    *off = sumix_max()(*off, parts.at[j] >> 16);
  }
}

/* ---- Map ---- */

struct scales {
  float on, off;
};

__device__ inline struct scales scales_of(uint32_t most_on, uint32_t most_off)
{
  return {sumix_ratio_upwards(255, (int32_t)most_on), sumix_ratio_upwards(255, (int32_t)most_off)};
}

/* Writes 4 pixels of the map of an image unless it is NULL; returns what the peak is the maximum of. */
__device__ inline ordered finish(entries parts, struct scales s, int64_t y, int64_t v, int64_t width, uint8_t *map)
{
  ordered best = 0;
  sumix_vector<uint8_t, 4> values;
  for (int j = 0; j < 4; j++) {
    const int32_t value =
        sumix_saliency_value((int32_t)(parts.at[j] & 0xffff), (int32_t)(parts.at[j] >> 16), s.on, s.off);
    values.at[j] = (uint8_t)value;
    const ordered here = (ordered)value << 32 | (uint32_t)~(uint32_t)(y * width + 4 * v + j);
    if (4 * v + j < width) best = sumix_max()(best, here);
  }
  if (map == NULL) return best;
  uint8_t *const at = map + y * width + 4 * v;
  if (width % 4 == 0 && sumix_is_aligned(map, 4))
    *(sumix_vector<uint8_t, 4> *)at = values;
  else
    for (int j = 0; j < 4 && 4 * v + j < width; j++) at[j] = values.at[j];
  return best;
}

__device__ inline void set_peak(ordered best, int64_t width, int64_t *peak)
{
  const int64_t place = (uint32_t)~(uint32_t)best;
  peak[0] = place % width;
  peak[1] = place / width;
}

}  // namespace

#endif
