#ifndef SUMIX_ARGS_MIX_INPLACE_H
#define SUMIX_ARGS_MIX_INPLACE_H

#include <stddef.h>
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
  void *scratch;  // CUDA: sumix_mix_inplace_scratch(a) bytes
};

/* CUDA: a batch is mixed slice by slice, each of so many bytes of every sample, which fit in 32 MiB of scratch whatever
 * the boxes are: the host does not know them. A byte of a box that is not resized depends on the same byte of the
 * partner alone, so a slice may be any 16 of them. A resized one depends on all of its plane: there a slice is one
 * plane at least, and the scratch as large as that plane of all samples. */
static inline int64_t sumix_mix_inplace_slice(const struct sumix_mix_inplace_args *a)
{
  const struct sumix_layout *l = &a->layout;
  const int64_t plane = l->height * l->width * l->pixel, size = l->planes * plane, most = (int64_t)32 << 20;
  const int64_t least = a->resize == NULL ? 16 : plane;
  if (l->n == 0 || size == 0) return 0;
  const int64_t fit = most / l->n / least, slice = (fit < 1 ? 1 : fit) * least;
  return slice < size ? slice : size;
}

static inline int64_t sumix_mix_inplace_scratch(const struct sumix_mix_inplace_args *a)
{
  return a->layout.n * sumix_mix_inplace_slice(a);
}

#endif
