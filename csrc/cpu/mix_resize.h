/* Filling a box from the partner: from its same box, or from the whole partner resized to the box's size.
 *
 * Pixels are those that torch.nn.functional.interpolate(partner, size=..., mode=...) would give: an axis of `from`
 * pixels shrunk to `to` has scale = from / to in float32, and output pixel j reads
 *
 *   nearest         floor(j scale), the product rounded to float32
 *   nearest-exact   floor((j + 1/2) scale)
 *   bilinear        between floor(s) and the next, s = max(0, (j + 1/2) scale - 1/2), weighted by s - floor(s)
 *
 * with s rounded once, as torch's builds with fused multiply-add do: an axis of 224 pixels has s near 200, whose
 * rounding shows in the fifth digit of the weight, so that another rounding would be far from torch's result. Taking
 * the sum in double and rounding that gives the fused result in every build of ours. float64 images have s in float64;
 * nearest is the same for all dtypes.
 *
 * bilinear is separable: the two rows of the partner that a row of the box lies between are first shrunk horizontally,
 * then their weighted mean is taken. Shrunk rows are kept for the next row of the box, which may share one.
 */
#ifndef SUMIX_CPU_MIX_RESIZE_H
#define SUMIX_CPU_MIX_RESIZE_H

#include "mix.h"

enum resize { RESIZE_SAME_BOX, RESIZE_NEAREST, RESIZE_NEAREST_EXACT, RESIZE_BILINEAR, NUM_RESIZES };

static inline int check_resize(const int64_t *resize, int64_t n, enum sumix_dtype dtype, struct sumix_status *status)
{
  for (int64_t i = 0; i < n; i++) {
    SUMIX_CHECK(resize[i] >= 0 && resize[i] < NUM_RESIZES, status, "resize[%lld] is %lld, expected 0 to %d",
                (long long)i, (long long)resize[i], NUM_RESIZES - 1);
    SUMIX_CHECK(resize[i] != RESIZE_BILINEAR || dtype != SUMIX_OTHER, status,
                "resize[%lld] is bilinear, and x neither floating point nor an integer", (long long)i);
  }
  return 0;
}

static inline int64_t nearest_source(enum resize how, int64_t j, int64_t from, int64_t to)
{
  const float scale = (float)from / (float)to, at = (float)j + (how == RESIZE_NEAREST_EXACT ? 0.5f : 0.0f);
  return smaller((int64_t)(at * scale), from - 1);
}

/* Where a pixel of the box lies: between two pixels of the partner's axis, `weight` of the way to the second. */
struct between {
  int64_t first, second;
  double weight;
};

static inline struct between bilinear_source(int64_t j, int64_t from, int64_t to, bool in_float)
{
  if (from == to) return (struct between){j, j, 0};
  const double scale = in_float ? (float)from / (float)to : (double)from / (double)to;
  double at = ((double)j + 0.5) * scale - 0.5;
  at = in_float ? (float)at : at;
  at = at > 0 ? at : 0;
  const int64_t first = smaller((int64_t)at, from - 1);
  const double weight = at - (double)first;
  return (struct between){first, smaller(first + 1, from - 1), weight < 1 ? weight : 1};
}

/* A thread's tables for the box at hand, and its rows. */
struct resizer {
  enum resize how;
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
static inline void resizer_set(struct resizer *r, enum resize how, struct box b)
{
  r->how = how;
  r->box_height = b.y2 - b.y1;
  r->box_width = b.x2 - b.x1;
  if (how == RESIZE_NEAREST || how == RESIZE_NEAREST_EXACT)
    for (int64_t j = 0; j < r->box_width; j++) r->first[j] = nearest_source(how, j, r->width, r->box_width);
  if (how == RESIZE_BILINEAR)
    for (int64_t j = 0; j < r->box_width; j++) {
      const struct between x = bilinear_source(j, r->width, r->box_width, r->in_float);
      r->first[j] = x.first * r->channels;
      r->second[j] = x.second * r->channels;
      if (r->in_float)
        ((float *)r->weight)[j] = (float)x.weight;
      else
        ((double *)r->weight)[j] = x.weight;
    }
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
    if (r->how == RESIZE_SAME_BOX)
      memcpy(out, partner + (b.y1 + y) * row + b.x1 * l->pixel, (size_t)bytes);
    else if (r->how != RESIZE_BILINEAR)
      gather_pixels(out, partner + nearest_source(r->how, y, l->height, r->box_height) * row, r->first, r->box_width,
                    l->pixel);
    else if (r->in_float)
      store_bilinear_row_f32(r, dtype, l->height, partner, y, out);
    else
      store_bilinear_row_f64(r, dtype, l->height, partner, y, out);
  }
}

#endif
