/* What the mixing ops share: where the pixels of a batch are, and reading boxes and partners. */
#ifndef SUMIX_OP_MIX_H
#define SUMIX_OP_MIX_H

#include "device.h"

static inline int expect_dense(const struct sumix_tensor *x, struct sumix_status *status)
{
  SUMIX_CHECK(x->dim >= 1, status, "%s must have a batch dimension", x->name);
  SUMIX_CHECK(x->numel == 0 || sumix_is_contiguous(x) || sumix_is_channels_last(x), status,
              "%s must be contiguous or channels_last", x->name);
  return 0;
}

/* Where the pixels of a batch of images (N, ..., H, W) are; `itemsize`: bytes of an element. */
static inline int layout_of(const struct sumix_tensor *x, int64_t itemsize, struct sumix_layout *layout,
                            struct sumix_status *status)
{
  SUMIX_TRY(expect_dense(x, status));
  SUMIX_CHECK(x->dim >= 3, status, "%s must be (N, ..., H, W), got %lld dimensions", x->name, (long long)x->dim);
  int64_t outer = x->numel > 0;  // without pixels there are no planes to visit, whatever the shape of x says
  for (int64_t d = 1; d < x->dim - 2; d++) outer *= x->sizes[d];
  *layout = (struct sumix_layout){x->sizes[0], outer, x->sizes[x->dim - 2], x->sizes[x->dim - 1], itemsize};
  if (x->numel > 0 && !sumix_is_contiguous(x)) {
    layout->planes = outer / x->sizes[1];
    layout->pixel = x->sizes[1] * itemsize;
  }
  return 0;
}

/* (n, 4) beside x's n samples. */
static inline int read_box(StableIValue argument, const struct sumix_tensor *x, struct sumix_tensor *box,
                           struct sumix_status *status)
{
  SUMIX_TRY(sumix_tensor_read_contiguous(argument, "box", box, status));
  return sumix_tensor_expect(box, SUMIX_INT64, 2, (const int64_t[]){x->sizes[0], 4}, status);
}

/* (n) beside x's n samples: partners, or ways to resize. */
static inline int read_indices(StableIValue argument, const char *name, const struct sumix_tensor *x,
                               struct sumix_tensor *indices, struct sumix_status *status)
{
  SUMIX_TRY(sumix_tensor_read_contiguous(argument, name, indices, status));
  return sumix_tensor_expect(indices, SUMIX_INT64, 1, x->sizes, status);
}

/* A mask over x's pixels: (n, height, width), or (n, 1, 1) for one weight a sample; float32 or bool. */
static inline int read_mask(StableIValue argument, const struct sumix_layout *l, struct sumix_mask *mask,
                            struct sumix_status *status)
{
  struct sumix_tensor m;
  SUMIX_TRY(sumix_tensor_read_contiguous(argument, "mask", &m, status));
  const bool binary = m.torch_dtype == libtorch.aoti_torch_dtype_bool();
  const bool uniform = m.dim == 3 && m.sizes[1] == 1 && m.sizes[2] == 1;
  const int64_t sizes[] = {l->n, uniform ? 1 : l->height, uniform ? 1 : l->width};
  SUMIX_TRY(sumix_tensor_expect(&m, binary ? m.dtype : SUMIX_FLOAT32, 3, sizes, status));
  *mask = (struct sumix_mask){m.data, binary, uniform};
  return 0;
}

#endif
