/* What the ops of a network's maps share: reading the maps and their sizes. */
#ifndef SUMIX_OP_MAP_H
#define SUMIX_OP_MAP_H

#include "device.h"

/* Sizes of which a kernel multiplies two; anything larger is no image. */
static inline int sumix_size_read(StableIValue value, const char *name, int64_t *size, struct sumix_status *status)
{
  *size = sumix_int(value);
  SUMIX_CHECK(*size > 0 && *size < (int64_t)1 << 31, status, "%s must be above 0 and below 2^31, got %lld", name,
              (long long)*size);
  return 0;
}

/* (n, l, d) tokens, of which the last frames * h * w are read, or (n, d, frames * h * w). Each sample is dense in
 * itself; the step from one to the next may be any. sides: frames, h, w. */
static inline int sumix_map_read(StableIValue argument, const char *name, const int64_t sides[3], bool tokens,
                                 struct sumix_tensor *x, struct sumix_map *map, struct sumix_status *status)
{
  SUMIX_CHECK(sides[1] * sides[2] < (int64_t)1 << 31, status,
              "%s must have less than 2^31 places, got h = %lld and w = %lld", name, (long long)sides[1],
              (long long)sides[2]);
  SUMIX_TRY(sumix_tensor_read(argument, name, x, status));
  SUMIX_CHECK(sumix_is_floating(x->dtype), status, "%s must be float16, bfloat16, float32 or float64", name);
  SUMIX_CHECK(x->dim == 3, status, "%s must have 3 dimensions, got %lld", name, (long long)x->dim);
  const int64_t places = sides[0] * sides[1] * sides[2], length = x->sizes[tokens ? 1 : 2];
  const int64_t d = x->sizes[tokens ? 2 : 1];
  SUMIX_CHECK(d > 0 && places > 0, status, "%s must have channels and places", name);
  SUMIX_CHECK(tokens ? length >= places : length == places, status,
              "%s must have %s%lld places as frames, h and w say, got %lld", name, tokens ? "at least " : "",
              (long long)places, (long long)length);
  const bool dense = (x->sizes[2] == 1 || x->strides[2] == 1) && (x->sizes[1] == 1 || x->strides[1] == x->sizes[2]) &&
                     (x->sizes[0] <= 1 || x->strides[0] >= 0);
  SUMIX_CHECK(dense || x->numel == 0, status, "%s must be contiguous in every sample", name);
  const int64_t skipped = tokens ? (length - places) * d * (int64_t)sumix_dtype_size(x->dtype) : 0;
  *map = (struct sumix_map){
      .data = x->numel > 0 ? (const char *)x->data + skipped : x->data,
      .stride = x->strides[0],
      .d = d,
      .places = places,
      .dtype = x->dtype,
      .channels_last = tokens,
  };
  return 0;
}

#endif
