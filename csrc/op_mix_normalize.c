/* sumix::mix_normalize: check, allocate in the input's memory format, run. A tensor of shape (0,) is one that is
 * absent. */
#include "op_mix.h"
#include "ops.h"

static const enum sumix_dtype dtypes[] = {SUMIX_FLOAT32, SUMIX_FLOAT16, SUMIX_BFLOAT16};
enum { NUM_DTYPES = sizeof dtypes / sizeof *dtypes };

static int is_absent(StableIValue argument, const char *name, bool *absent, struct sumix_status *status)
{
  struct sumix_tensor tensor;
  SUMIX_TRY(sumix_tensor_read(argument, name, &tensor, status));
  *absent = sumix_is_absent(&tensor);
  return 0;
}

static int read_channels(StableIValue argument, const char *name, const struct sumix_tensor *x,
                         struct sumix_tensor *values, struct sumix_status *status)
{
  SUMIX_TRY(sumix_tensor_read_contiguous(argument, name, values, status));
  return sumix_tensor_expect(values, SUMIX_FLOAT32, 1, x->sizes + 1, status);
}

static int mix_normalize(const StableIValue *args, StableIValue *results, struct sumix_status *status)
{
  struct sumix_tensor x, box, resize, perm, mean, std, out;
  struct sumix_mix_normalize_args how = {0};
  bool no_box, no_resize, no_mask;
  const int64_t dtype = sumix_int(args[7]);
  SUMIX_TRY(sumix_tensor_read(args[0], "x", &x, status));
  SUMIX_CHECK(x.dtype == SUMIX_UINT8 && x.dim == 4, status, "x must be uint8 (N, C, H, W)");
  SUMIX_CHECK(dtype >= 0 && dtype < NUM_DTYPES, status, "dtype must be 0 to %d, got %lld", NUM_DTYPES - 1,
              (long long)dtype);
  SUMIX_TRY(layout_of(&x, 1, &how.layout, status));
  SUMIX_TRY(is_absent(args[1], "box", &no_box, status));
  SUMIX_TRY(is_absent(args[2], "resize", &no_resize, status));
  SUMIX_TRY(is_absent(args[3], "mask", &no_mask, status));
  if (!no_box) {
    SUMIX_TRY(read_box(args[1], &x, &box, status));
    how.box = box.data;
  }
  if (!no_resize) {
    SUMIX_TRY(read_indices(args[2], "resize", &x, &resize, status));
    how.resize = resize.data;
  }
  if (!no_mask) SUMIX_TRY(read_mask(args[3], &how.layout, &how.mask, status));
  SUMIX_TRY(read_indices(args[4], "perm", &x, &perm, status));
  SUMIX_TRY(read_channels(args[5], "mean", &x, &mean, status));
  SUMIX_TRY(read_channels(args[6], "std", &x, &std, status));
  how.dtype = dtypes[dtype];
  SUMIX_TRY(sumix_tensor_new(&x, how.dtype, x.dim, x.sizes, x.strides, &results[0], &out, status));
  how.channels = x.sizes[1];
  how.x = x.data;
  how.perm = perm.data;
  how.mean = mean.data;
  how.std = std.data;
  how.out = out.data;
  return sumix_run_mix_normalize(&x, &how, status);
}
SUMIX_BOXED(mix_normalize, "x", "box", "resize", "mask", "perm", "mean", "std")

const struct sumix_op_entry sumix_mix_normalize_ops[] = {
    {"mix_normalize(Tensor x, Tensor box, Tensor resize, Tensor mask, Tensor perm, Tensor mean, Tensor std, int dtype) "
     "-> Tensor",
     "mix_normalize", boxed_mix_normalize},
    {0},
};
