/* Resizing the partner to a box, on a GPU: csrc/resize.h for an axis and a pixel at a time, forward and transposed.
 *
 * Pixels and channels are counted by int: registers are what limits these kernels, and float32 has no scale for an axis
 * of 2^31 pixels anyway. mix_fits() says on the host whether they can be.
 */
#ifndef SUMIX_CUDA_MIX_RESIZE_CUH
#define SUMIX_CUDA_MIX_RESIZE_CUH

#include "../resize.h"
#include "mix.cuh"

static inline bool mix_fits(const struct sumix_layout *l)
{
  return l->height <= INT32_MAX && l->width <= INT32_MAX && l->pixel <= INT32_MAX;
}

/* Calls launch::run<element>(args, stream). What is only copied goes as integers of its size, complex128 as two. */
template <typename launch, typename args_type>
static void mix_by_element(enum sumix_dtype dtype, int64_t bytes, const args_type *args, void *stream)
{
  if (dtype != SUMIX_OTHER)
    mix_by_dtype<launch>(dtype, args, stream);
  else if (bytes == 1)
    launch::template run<uint8_t>(args, stream);
  else if (bytes == 2)
    launch::template run<int16_t>(args, stream);
  else if (bytes == 4)
    launch::template run<int32_t>(args, stream);
  else
    launch::template run<int64_t>(args, stream);
}

/* ---- One axis ---- */

/* `from` pixels of the partner become `to` pixels from `start` on. */
template <typename real> struct mix_axis {
  int start, from, to;
  float nearest_scale;
  real scale;
};

/* What a pixel of the box is made of; `second` is -1 where that is one pixel. */
template <typename real> struct mix_source {
  int first, second;
  real weight;  // of the second
};

__device__ inline void mix_set_scale(mix_axis<float> *axis) { axis->scale = axis->nearest_scale; }
__device__ inline void mix_set_scale(mix_axis<double> *axis) { axis->scale = sumix_scale_f64(axis->from, axis->to); }

template <typename real> __device__ inline mix_axis<real> mix_axis_of(int start, int end, int from)
{
  mix_axis<real> axis = {start, from, end - start, sumix_scale_f32(from, end - start), 0};
  mix_set_scale(&axis);
  return axis;
}

__device__ inline mix_source<float> mix_bilinear_source(const mix_axis<float> &axis, int j)
{
  const struct sumix_between_f32 between = sumix_bilinear_source_f32(j, axis.scale, axis.from, axis.to);
  const mix_source<float> source = {(int)between.first, (int)between.second, between.weight};
  return source;
}

__device__ inline mix_source<double> mix_bilinear_source(const mix_axis<double> &axis, int j)
{
  const struct sumix_between_f64 between = sumix_bilinear_source_f64(j, axis.scale, axis.from, axis.to);
  const mix_source<double> source = {(int)between.first, (int)between.second, between.weight};
  return source;
}

/* Of pixel `at` of the image, which lies in the box. */
template <typename real>
__device__ inline mix_source<real> mix_source_of(enum sumix_resize how, const mix_axis<real> &axis, int at)
{
  if (how == SUMIX_BILINEAR) return mix_bilinear_source(axis, at - axis.start);
  mix_source<real> source = {at, -1, 0};
  if (how != SUMIX_SAME_BOX)
    source.first = (int)sumix_nearest_source(how, at - axis.start, axis.nearest_scale, axis.from);
  return source;
}

/* ---- A box ---- */

template <typename real> struct mix_resizer {
  enum sumix_resize how;
  mix_axis<real> rows, columns;
  int64_t row;   // elements of a row of the image
  int channels;  // elements of a pixel
};

/* numeric: whether x can be computed with. */
__device__ inline enum sumix_resize mix_read_resize(const int64_t *__restrict__ resize, int64_t i, bool numeric)
{
  const int64_t how = resize[i];
  assert(how >= 0 && how < SUMIX_NUM_RESIZES && "resize is out of range");
  assert((numeric || how != SUMIX_BILINEAR) && "resize is bilinear, and x neither floating point nor an integer");
  return (enum sumix_resize)how;
}

/* box: in pixels, and not empty if it is to be used. */
template <typename real> __device__ inline mix_resizer<real> mix_resizer_of(enum sumix_resize how,
                                                                            const struct mix_box &box, int height,
                                                                            int width, int channels)
{
  const mix_resizer<real> resizer = {how, mix_axis_of<real>((int)box.y1, (int)box.y2, height),
                                     mix_axis_of<real>((int)box.x1, (int)box.x2, width), (int64_t)width * channels,
                                     channels};
  return resizer;
}

/* The box with its columns counted in elements. */
__device__ inline struct mix_box mix_in_elements(const struct mix_box &box, int64_t channels)
{
  const struct mix_box scaled = {box.x1 * channels, box.y1, box.x2 * channels, box.y2};
  return scaled;
}

__device__ inline bool mix_is_empty(const struct mix_box &box) { return box.x1 == box.x2 || box.y1 == box.y2; }

/* ---- Elements in the order of memory ---- */

/* The unsigned type of an element's bytes, and what 16 bytes of them are put together in. */
template <int bytes> struct mix_bits {
  typedef uint32_t word, wide;
};
template <> struct mix_bits<1> {
  typedef uint8_t word;
  typedef uint32_t wide;
};
template <> struct mix_bits<2> {
  typedef uint16_t word;
  typedef uint32_t wide;
};
template <> struct mix_bits<8> {
  typedef uint64_t word, wide;
};

/* Where an element is: pixel x, channel c of it, row y, of the plane that begins at element `plane` of the sample. */
struct mix_cursor {
  int x, c, y;
  int64_t plane;
};

/* Of element `at` of the sample. */
__device__ inline struct mix_cursor mix_cursor_of(int64_t at, struct mix_place place, int64_t row, int channels)
{
  const int x = (int)(channels == 1 ? place.column : place.column / channels);
  const struct mix_cursor cursor = {x, (int)(place.column - (int64_t)x * channels), (int)place.y,
                                    at - place.y * row - place.column};
  return cursor;
}

__device__ inline void mix_next(struct mix_cursor *cursor, const struct mix_planes &planes, int width, int channels)
{
  if (++cursor->c < channels) return;
  cursor->c = 0;
  if (++cursor->x < width) return;
  cursor->x = 0;
  if (++cursor->y < planes.height) return;
  cursor->y = 0;
  cursor->plane += planes.row * planes.height;
}

/* The sources of the pixel that a cursor is at, worked out anew only where it has moved on. */
template <typename real> struct mix_sources {
  int x, y;
  mix_source<real> rows, columns;
};

template <typename real> __device__ inline void mix_look_up(mix_sources<real> *sources, const mix_resizer<real> &r,
                                                            const struct mix_cursor &cursor)
{
  if (sources->y != cursor.y) sources->rows = mix_source_of(r.how, r.rows, cursor.y);
  if (sources->x != cursor.x) sources->columns = mix_source_of(r.how, r.columns, cursor.x);
  sources->x = cursor.x;
  sources->y = cursor.y;
}

/* By bilinear interpolation of a plane of the partner; `plane`: its channel c. */
template <typename element, typename real> __device__ inline real mix_interpolate(const element *__restrict__ plane,
                                                                                  const mix_resizer<real> &r,
                                                                                  const mix_sources<real> &s)
{
  const element *const a = plane + s.rows.first * r.row, *const b = plane + s.rows.second * r.row;
  const int64_t left = (int64_t)s.columns.first * r.channels, right = (int64_t)s.columns.second * r.channels;
  const real wx = s.columns.weight, wy = s.rows.weight;
  const real above = (1 - wx) * sumix_to_real(a[left]) + wx * sumix_to_real(a[right]);
  const real below = (1 - wx) * sumix_to_real(b[left]) + wx * sumix_to_real(b[right]);
  return (1 - wy) * above + wy * below;
}

/* The element of the box at the cursor; `partner`: the partner's sample. */
template <typename element, typename real>
__device__ inline element mix_resized(const element *__restrict__ partner, const mix_resizer<real> &r,
                                      const struct mix_cursor &cursor, mix_sources<real> *sources)
{
  const element *const plane = partner + cursor.plane + cursor.c;
  mix_look_up(sources, r, cursor);
  if (r.how != SUMIX_BILINEAR) return plane[sources->rows.first * r.row + (int64_t)sources->columns.first * r.channels];
  element rounded;
  sumix_from_real(mix_interpolate(plane, r, *sources), &rounded);
  return rounded;
}

/* The same, not rounded. */
template <typename element, typename real>
__device__ inline real mix_resized_real(const element *__restrict__ partner, const mix_resizer<real> &r,
                                        const struct mix_cursor &cursor, mix_sources<real> *sources)
{
  const element *const plane = partner + cursor.plane + cursor.c;
  mix_look_up(sources, r, cursor);
  if (r.how == SUMIX_BILINEAR) return mix_interpolate(plane, r, *sources);
  return sumix_to_real(plane[sources->rows.first * r.row + (int64_t)sources->columns.first * r.channels]);
}

/* ---- Transposed: what a pixel of the partner has got from the box's gradient ---- */

/* A box is never larger than the image, so its pixels j step by one pixel of the partner or more, and pixel s is among
 * the sources of no j but s to / from - 1 to s to / from + 1. Rounding may add the next; which of them it is, their
 * sources say themselves. */
enum { MIX_HEIRS = 4 };

__device__ inline int mix_first_heir(int s, int from, int to) { return (int)((int64_t)s * to / from) - 1; }

/* Rows: weights, which are 0 for those that have nothing of s. A second row of weight 0 takes nothing, not even NaN. */
template <typename real> struct mix_heirs {
  int first;  // row of the box
  real weight[MIX_HEIRS];
};

template <typename real>
__device__ inline mix_heirs<real> mix_heirs_of(enum sumix_resize how, const mix_axis<real> &axis, int s)
{
  mix_heirs<real> heirs;
  heirs.first = mix_first_heir(s, axis.from, axis.to);
#pragma unroll
  for (int k = 0; k < MIX_HEIRS; k++) {
    const int j = heirs.first + k;
    heirs.weight[k] = 0;
    if (j < 0 || j >= axis.to) continue;
    const mix_source<real> source = mix_source_of(how, axis, axis.start + j);
    if (source.first == s) heirs.weight[k] += 1 - source.weight;
    if (source.second == s) heirs.weight[k] += source.weight;
  }
  return heirs;
}

/* For column x of the row that `rows` was made for; `plane`: the gradient of channel c of the plane pasted into. */
template <typename element, typename real> __device__ inline real mix_passed_on(const element *__restrict__ plane,
                                                                                const mix_resizer<real> &r,
                                                                                const mix_heirs<real> &rows, int x)
{
  const int first = mix_first_heir(x, r.columns.from, r.columns.to);
  real sum = 0;
  for (int j = first < 0 ? 0 : first; j < first + MIX_HEIRS && j < r.columns.to; j++) {
    const mix_source<real> source = mix_source_of(r.how, r.columns, r.columns.start + j);
    if (source.first != x && source.second != x) continue;
    const element *const from =
        plane + (r.rows.start + rows.first) * r.row + (int64_t)(r.columns.start + j) * r.channels;
    real column = 0;
#pragma unroll
    for (int k = 0; k < MIX_HEIRS; k++)
      if (rows.weight[k] != 0) column += rows.weight[k] * sumix_to_real(from[k * r.row]);
    if (source.first == x) sum += (1 - source.weight) * column;
    if (source.second == x) sum += source.weight * column;
  }
  return sum;
}

#endif
