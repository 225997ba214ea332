/* Filling a box from the partner: from its same box, or from the whole partner resized to the box's size. csrc/resize.h
 * says which pixels those are.
 *
 * bilinear is separable: the two rows of the partner that a row of the box lies between are first shrunk horizontally,
 * then their weighted mean is taken. Shrunk rows are kept for the next row of the box, which may share one.
 */
#ifndef SUMIX_CPU_MIX_RESIZE_H
#define SUMIX_CPU_MIX_RESIZE_H

#include "../resize.h"
#include "mix.h"

static inline int check_resize(const int64_t *resize, int64_t n, enum sumix_dtype dtype, struct sumix_status *status)
{
  for (int64_t i = 0; i < n; i++) {
    SUMIX_CHECK(resize[i] >= 0 && resize[i] < SUMIX_NUM_RESIZES, status, "resize[%lld] is %lld, expected 0 to %d",
                (long long)i, (long long)resize[i], SUMIX_NUM_RESIZES - 1);
    SUMIX_CHECK(resize[i] != SUMIX_BILINEAR || dtype != SUMIX_OTHER, status,
                "resize[%lld] is bilinear, and x neither floating point nor an integer", (long long)i);
  }
  return 0;
}

/* A thread's tables for the box at hand, and its rows. */
struct resizer {
  enum sumix_resize how;
  bool in_float;
  int64_t width, channels;  // of the images; elements a pixel
  int64_t box_height, box_width;
  int64_t *first, *second;   // (width): elements of the partner's row that those of the box's row start from
  void *weight;              // (width) real: of the second
  void *loaded, *shrunk[2];  // (width, channels) real
  int64_t shrunk_from[2];    // rows of the partner, or -1
};

/* One allocation, to be freed by free(r->first). */
static inline bool resizer_new(struct resizer *r, enum sumix_dtype dtype, int64_t width, int64_t channels)
{
  const size_t real = in_double(dtype) ? sizeof(double) : sizeof(float);
  const int64_t row = (width * channels * (int64_t)real + 63) / 64 * 64, table = (width * 8 + 63) / 64 * 64;
  char *const memory = sumix_scratch(3 * table + 3 * row, 1);
  *r = (struct resizer){.in_float = !in_double(dtype), .width = width, .channels = channels};
  r->first = (int64_t *)memory;
  if (memory == NULL) return false;
  r->second = (int64_t *)(memory + table);
  r->weight = memory + 2 * table;
  r->loaded = memory + 3 * table;
  r->shrunk[0] = memory + 3 * table + row;
  r->shrunk[1] = memory + 3 * table + 2 * row;
  return true;
}

/* For a box of one sample. */
static inline void resizer_set(struct resizer *r, enum sumix_resize how, struct box b)
{
  r->how = how;
  r->box_height = b.y2 - b.y1;
  r->box_width = b.x2 - b.x1;
  const float scale = sumix_scale_f32(r->width, r->box_width);
  const double scale_f64 = sumix_scale_f64(r->width, r->box_width);
  for (int64_t j = 0; how != SUMIX_SAME_BOX && j < r->box_width; j++) {
    if (how != SUMIX_BILINEAR) {
      r->first[j] = sumix_nearest_source(how, j, scale, r->width);
    } else if (r->in_float) {
      const struct sumix_between_f32 x = sumix_bilinear_source_f32(j, scale, r->width, r->box_width);
      r->first[j] = x.first * r->channels;
      r->second[j] = x.second * r->channels;
      ((float *)r->weight)[j] = x.weight;
    } else {
      const struct sumix_between_f64 x = sumix_bilinear_source_f64(j, scale_f64, r->width, r->box_width);
      r->first[j] = x.first * r->channels;
      r->second[j] = x.second * r->channels;
      ((double *)r->weight)[j] = x.weight;
    }
  }
}

/* The partner's row that row y of the box is, by either kind of nearest. */
static inline int64_t nearest_row(const struct resizer *r, int64_t y, int64_t height)
{
  return sumix_nearest_source(r->how, y, sumix_scale_f32(height, r->box_height), height);
}

/* Before the rows of another plane. */
static inline void resizer_begin_plane(struct resizer *r) { r->shrunk_from[0] = r->shrunk_from[1] = -1; }

/* Pixels of `bytes` bytes, gathered; a size that the compiler knows is a move instead of a call. */
static inline void gather_sized(char *restrict out, const char *restrict row, const int64_t *restrict from,
                                int64_t count, size_t bytes)
{
  for (int64_t j = 0; j < count; j++) memcpy(out + (size_t)j * bytes, row + (size_t)from[j] * bytes, bytes);
}

static inline void gather_pixels(char *out, const char *row, const int64_t *from, int64_t count, int64_t bytes)
{
  switch (bytes) {
    case 1: gather_sized(out, row, from, count, 1); break;
    case 2: gather_sized(out, row, from, count, 2); break;
    case 3: gather_sized(out, row, from, count, 3); break;
    case 4: gather_sized(out, row, from, count, 4); break;
    case 8: gather_sized(out, row, from, count, 8); break;
    case 12: gather_sized(out, row, from, count, 12); break;
    default: gather_sized(out, row, from, count, (size_t)bytes);
  }
}

#define REAL float
#define SUFFIX(name) name##_f32
#include "mix_resize_rows.h"
#undef REAL
#undef SUFFIX

#define REAL double
#define SUFFIX(name) name##_f64
#include "mix_resize_rows.h"
#undef REAL
#undef SUFFIX

/* Fills a box of one plane from the partner's plane: rows of bytes to `out`, `stride` bytes apart. `b`: the box that
 * the resizer was set for. */
static inline void fill_box(struct resizer *r, const struct sumix_layout *l, enum sumix_dtype dtype, struct box b,
                            const char *partner, char *out, int64_t stride)
{
  const int64_t row = l->width * l->pixel, bytes = r->box_width * l->pixel;
  resizer_begin_plane(r);
  for (int64_t y = 0; y < r->box_height; y++, out += stride) {
    if (r->how == SUMIX_SAME_BOX)
      memcpy(out, partner + (b.y1 + y) * row + b.x1 * l->pixel, (size_t)bytes);
    else if (r->how != SUMIX_BILINEAR)
      gather_pixels(out, partner + nearest_row(r, y, l->height) * row, r->first, r->box_width, l->pixel);
    else if (r->in_float)
      store_bilinear_row_f32(r, dtype, l->height, partner, y, out);
    else
      store_bilinear_row_f64(r, dtype, l->height, partner, y, out);
  }
}

#endif
