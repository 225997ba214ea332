#ifndef SUMIX_ARGS_MAP_H
#define SUMIX_ARGS_MAP_H

#include <stdbool.h>
#include <stdint.h>

#include "../dtype.h"

/* A batch of a network's maps: d channels at each of `places` places. */
struct sumix_map {
  const void *data;  // sample i begins i * stride elements on
  int64_t stride, d, places;
  enum sumix_dtype dtype;
  bool channels_last;  // a sample is (places, d), else (d, places)
};

#endif
