/* sumix::mix_resize and its backward op: check, allocate in the input's memory format, run. */
#include "op_mix.h"
#include "ops.h"

static int read_how(const StableIValue *args, const struct sumix_tensor *x, struct sumix_tensor *box,
                    struct sumix_tensor *resize, struct sumix_tensor *perm, struct sumix_status *status)
{
  SUMIX_TRY(read_box(args[1], x, box, status));
  SUMIX_TRY(read_indices(args[2], "resize", x, resize, status));
  return read_indices(args[3], "perm", x, perm, status);
}

static int mix_resize(const StableIValue *args, StableIValue *results, struct sumix_status *status)
{
  struct sumix_tensor x, box, resize, perm, out;
  struct sumix_layout layout;
  SUMIX_TRY(sumix_tensor_read(args[0], "x", &x, status));
  const int64_t element = (int64_t)libtorch.aoti_torch_dtype_element_size(x.torch_dtype);
  SUMIX_TRY(layout_of(&x, element, &layout, status));
  SUMIX_TRY(read_how(args, &x, &box, &resize, &perm, status));
  SUMIX_TRY(sumix_tensor_new(&x, x.dtype, x.dim, x.sizes, x.strides, &results[0], &out, status));
  return sumix_run_mix_resize(
      &x, &(struct sumix_mix_resize_args){x.dtype, layout, element, x.data, box.data, resize.data, perm.data, out.data},
      status);
}
SUMIX_BOXED(mix_resize, "x", "box", "resize", "perm")

static int mix_resize_backward(const StableIValue *args, StableIValue *results, struct sumix_status *status)
{
  struct sumix_tensor g, box, resize, perm, grad_x;
  struct sumix_layout layout;
  SUMIX_TRY(sumix_tensor_read(args[0], "grad_out", &g, status));
  SUMIX_CHECK(sumix_is_floating(g.dtype), status, "grad_out must be float16, bfloat16, float32 or float64");
  SUMIX_TRY(layout_of(&g, (int64_t)sumix_dtype_size(g.dtype), &layout, status));
  SUMIX_TRY(read_how(args, &g, &box, &resize, &perm, status));
  SUMIX_TRY(sumix_tensor_new(&g, g.dtype, g.dim, g.sizes, g.strides, &results[0], &grad_x, status));
  return sumix_run_mix_resize_backward(
      &g,
      &(struct sumix_mix_resize_backward_args){g.dtype, layout, g.data, box.data, resize.data, perm.data, grad_x.data},
      status);
}
SUMIX_BOXED(mix_resize_backward, "grad_out", "box", "resize", "perm")

const struct sumix_op_entry sumix_mix_resize_ops[] = {
    {"mix_resize(Tensor x, Tensor box, Tensor resize, Tensor perm) -> Tensor", "mix_resize", boxed_mix_resize},
    {"mix_resize_backward(Tensor grad_out, Tensor box, Tensor resize, Tensor perm) -> Tensor", "mix_resize_backward",
     boxed_mix_resize_backward},
    {0},
};
