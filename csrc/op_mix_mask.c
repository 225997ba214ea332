/* sumix::mix_mask and its backward op: check, allocate in the input's memory format, run. */
#include "op_mix.h"
#include "ops.h"

static int mix_mask(const StableIValue *args, StableIValue *results, struct sumix_status *status)
{
  struct sumix_tensor x, perm, out;
  struct sumix_layout layout;
  struct sumix_mask mask;
  SUMIX_TRY(sumix_tensor_read(args[0], "x", &x, status));
  const int64_t element = (int64_t)libtorch.aoti_torch_dtype_element_size(x.torch_dtype);
  SUMIX_TRY(layout_of(&x, element, &layout, status));
  SUMIX_TRY(read_mask(args[1], &layout, &mask, status));
  SUMIX_CHECK(mask.binary || x.dtype != SUMIX_OTHER, status,
              "x must be floating point or an integer unless the mask is bool");
  SUMIX_TRY(read_indices(args[2], "perm", &x, &perm, status));
  SUMIX_TRY(sumix_tensor_new(&x, x.dtype, x.dim, x.sizes, x.strides, &results[0], &out, status));
  return sumix_run_mix_mask(
      &x, &(struct sumix_mix_mask_args){x.dtype, layout, element, x.data, mask, perm.data, out.data}, status);
}
SUMIX_BOXED(mix_mask, "x", "mask", "perm")

static int mix_mask_backward(const StableIValue *args, StableIValue *results, struct sumix_status *status)
{
  struct sumix_tensor g, perm, grad_x;
  struct sumix_layout layout;
  struct sumix_mask mask;
  SUMIX_TRY(sumix_tensor_read(args[0], "grad_out", &g, status));
  SUMIX_CHECK(sumix_is_floating(g.dtype), status, "grad_out must be float16, bfloat16, float32 or float64");
  SUMIX_TRY(layout_of(&g, (int64_t)sumix_dtype_size(g.dtype), &layout, status));
  SUMIX_TRY(read_mask(args[1], &layout, &mask, status));
  SUMIX_TRY(read_indices(args[2], "perm", &g, &perm, status));
  SUMIX_TRY(sumix_tensor_new(&g, g.dtype, g.dim, g.sizes, g.strides, &results[0], &grad_x, status));
  return sumix_run_mix_mask_backward(
      &g, &(struct sumix_mix_mask_backward_args){g.dtype, layout, g.data, mask, perm.data, grad_x.data}, status);
}
SUMIX_BOXED(mix_mask_backward, "grad_out", "mask", "perm")

const struct sumix_op_entry sumix_mix_mask_ops[] = {
    {"mix_mask(Tensor x, Tensor mask, Tensor perm) -> Tensor", "mix_mask", boxed_mix_mask},
    {"mix_mask_backward(Tensor grad_out, Tensor mask, Tensor perm) -> Tensor", "mix_mask_backward",
     boxed_mix_mask_backward},
    {0},
};
