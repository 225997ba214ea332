#ifndef SUMIX_ARGS_MIX_INPLACE_H
#define SUMIX_ARGS_MIX_INPLACE_H

#include <stdint.h>

#include "../dtype.h"
#include "layout.h"

/* mix_resize, or with resize NULL mix_box, in place. */
struct sumix_mix_inplace_args {
  enum sumix_dtype dtype;
  struct sumix_layout layout;
  int64_t element;
  void *x;
  const int64_t *box, *resize, *perm;
};

#endif
