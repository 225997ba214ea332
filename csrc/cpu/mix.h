/* What the mixing kernels share: boxes, sizes, checks, and elements of any dtype as float or double. */
#ifndef SUMIX_CPU_MIX_H
#define SUMIX_CPU_MIX_H

#include <math.h>

#include "../exact.h"
#include "../rounding.h"
#include "half.h"
#include "inverse.h"
#include "isa.h"
#include "parallel.h"

enum { CHUNK = 2048 };  // elements computed at once: three chunks of floats stay in the first-level cache

/* mix_linear and mix_mask work on chunks of samples, so that one large image also occupies every thread. */
static inline int64_t chunks(int64_t size) { return (size + CHUNK - 1) / CHUNK; }

static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

struct box {
  int64_t x1, y1, x2, y2;
};

static inline struct box box_of(const int64_t *boxes, int64_t i)
{
  const int64_t *b = boxes + 4 * i;
  return (struct box){b[0], b[1], b[2], b[3]};
}

static inline bool is_empty(struct box b) { return b.x1 == b.x2 || b.y1 == b.y2; }

static inline int64_t sample_size(const struct sumix_layout *l) { return l->planes * l->height * l->width * l->pixel; }

static inline int check_boxes(const int64_t *boxes, const struct sumix_layout *l, struct sumix_status *status)
{
  return sumix_check_boxes(boxes, l->n, l->height, l->width, status);
}

/* A gradient gathers through the inverse lists of perm. */
struct gradient_task {
  struct sumix_task task;
  struct sumix_inverse partners;  // samples that image i was mixed into
};

static inline int64_t element_size(enum sumix_dtype dtype)
{
  switch (dtype) {
    case SUMIX_FLOAT64:
    case SUMIX_INT64: return 8;
    case SUMIX_FLOAT32:
    case SUMIX_INT32: return 4;
    case SUMIX_UINT8:
    case SUMIX_INT8: return 1;
    default: return 2;
  }
}

/* Whether elements of this dtype are computed with in double; otherwise in float. */
static inline bool in_double(enum sumix_dtype dtype)
{
  return dtype == SUMIX_FLOAT64 || dtype == SUMIX_INT32 || dtype == SUMIX_INT64;
}

/* As sumix_load_f32 and sumix_store_f32, for integers of 8 and 16 bits too. */
static inline const float *load_f32(enum sumix_dtype dtype, const void *x, int64_t offset, int64_t k,
                                    float *restrict scratch)
{
  switch (dtype) {
    case SUMIX_UINT8:
      for (int64_t j = 0; j < k; j++) scratch[j] = ((const uint8_t *)x)[offset + j];
      return scratch;
    case SUMIX_INT8:
      for (int64_t j = 0; j < k; j++) scratch[j] = ((const int8_t *)x)[offset + j];
      return scratch;
    case SUMIX_INT16:
      for (int64_t j = 0; j < k; j++) scratch[j] = ((const int16_t *)x)[offset + j];
      return scratch;
    default: return sumix_load_f32(dtype, x, offset, k, scratch);
  }
}

static inline void store_f32(enum sumix_dtype dtype, void *x, int64_t offset, int64_t k, const float *restrict from)
{
  switch (dtype) {
    case SUMIX_UINT8:
      for (int64_t j = 0; j < k; j++) ((uint8_t *)x)[offset + j] = sumix_nearest_uint8(from[j]);
      return;
    case SUMIX_INT8:
      for (int64_t j = 0; j < k; j++) ((int8_t *)x)[offset + j] = sumix_nearest_int8(from[j]);
      return;
    case SUMIX_INT16:
      for (int64_t j = 0; j < k; j++) ((int16_t *)x)[offset + j] = sumix_nearest_int16(from[j]);
      return;
    default: sumix_store_f32(dtype, x, offset, k, from);
  }
}

/* The same for double, and integers of 32 and 64 bits. */
static inline const double *load_f64(enum sumix_dtype dtype, const void *x, int64_t offset, int64_t k,
                                     double *restrict scratch)
{
  switch (dtype) {
    case SUMIX_INT32:
      for (int64_t j = 0; j < k; j++) scratch[j] = ((const int32_t *)x)[offset + j];
      return scratch;
    case SUMIX_INT64:
      for (int64_t j = 0; j < k; j++) scratch[j] = (double)((const int64_t *)x)[offset + j];
      return scratch;
    default: return sumix_load_f64(dtype, x, offset, k, scratch);
  }
}

static inline void store_f64(enum sumix_dtype dtype, void *x, int64_t offset, int64_t k, const double *restrict from)
{
  switch (dtype) {
    case SUMIX_INT32:
      for (int64_t j = 0; j < k; j++) ((int32_t *)x)[offset + j] = sumix_nearest_int32(from[j]);
      return;
    case SUMIX_INT64:
      for (int64_t j = 0; j < k; j++) ((int64_t *)x)[offset + j] = sumix_nearest_int64(from[j]);
      return;
    default: sumix_store_f64(dtype, x, offset, k, from);
  }
}

static inline float *store_place_f32(enum sumix_dtype dtype, void *x, int64_t offset, float *scratch)
{
  return sumix_store_place_f32(dtype, x, offset, scratch);
}

static inline double *store_place_f64(enum sumix_dtype dtype, void *x, int64_t offset, double *scratch)
{
  return dtype == SUMIX_FLOAT64 ? (double *)x + offset : scratch;
}

#endif
