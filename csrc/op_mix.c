/* sumix::mix_box and sumix::mix_linear and their backward ops, sumix::soft_labels: check, allocate in the input's
 * memory format, run. */
#include "device.h"
#include "op_mix.h"
#include "ops.h"

static int read_ratios(const StableIValue *args, const struct sumix_tensor *x, struct sumix_tensor *lam,
                       struct sumix_tensor *perm, struct sumix_status *status)
{
  SUMIX_TRY(sumix_tensor_read_contiguous(args[1], "lam", lam, status));
  SUMIX_TRY(sumix_tensor_expect(lam, SUMIX_FLOAT32, 1, x->sizes, status));
  return read_indices(args[2], "perm", x, perm, status);
}

static int mix_box(const StableIValue *args, StableIValue *results, struct sumix_status *status)
{
  struct sumix_tensor x, box, perm, out;
  struct sumix_layout layout;
  SUMIX_TRY(sumix_tensor_read(args[0], "x", &x, status));
  SUMIX_TRY(layout_of(&x, (int64_t)libtorch.aoti_torch_dtype_element_size(x.torch_dtype), &layout, status));
  SUMIX_TRY(read_box(args[1], &x, &box, status));
  SUMIX_TRY(read_indices(args[2], "perm", &x, &perm, status));
  SUMIX_TRY(sumix_tensor_new(&x, x.dtype, x.dim, x.sizes, x.strides, &results[0], &out, status));
  return sumix_run_mix_box(&x, &(struct sumix_mix_box_args){layout, x.data, box.data, perm.data, out.data}, status);
}
SUMIX_BOXED(mix_box, "x", "box", "perm")

static int mix_box_backward(const StableIValue *args, StableIValue *results, struct sumix_status *status)
{
  struct sumix_tensor g, box, perm, grad_x;
  struct sumix_layout layout;
  SUMIX_TRY(sumix_tensor_read(args[0], "grad_out", &g, status));
  SUMIX_CHECK(sumix_is_floating(g.dtype), status, "grad_out must be float16, bfloat16, float32 or float64");
  SUMIX_TRY(layout_of(&g, (int64_t)sumix_dtype_size(g.dtype), &layout, status));
  SUMIX_TRY(read_box(args[1], &g, &box, status));
  SUMIX_TRY(read_indices(args[2], "perm", &g, &perm, status));
  SUMIX_TRY(sumix_tensor_new(&g, g.dtype, g.dim, g.sizes, g.strides, &results[0], &grad_x, status));
  return sumix_run_mix_box_backward(
      &g, &(struct sumix_mix_box_backward_args){g.dtype, layout, g.data, box.data, perm.data, grad_x.data}, status);
}
SUMIX_BOXED(mix_box_backward, "grad_out", "box", "perm")

static int mix_linear(const StableIValue *args, StableIValue *results, struct sumix_status *status)
{
  struct sumix_tensor x, lam, perm, out;
  SUMIX_TRY(sumix_tensor_read(args[0], "x", &x, status));
  SUMIX_CHECK(x.dtype != SUMIX_OTHER, status, "x must be floating point or an integer");
  SUMIX_TRY(expect_dense(&x, status));
  SUMIX_TRY(read_ratios(args, &x, &lam, &perm, status));
  SUMIX_TRY(sumix_tensor_new(&x, x.dtype, x.dim, x.sizes, x.strides, &results[0], &out, status));
  const int64_t n = x.sizes[0], size = n > 0 ? x.numel / n : 0;
  return sumix_run_mix_linear(
      &x, &(struct sumix_mix_linear_args){x.dtype, n, size, x.data, lam.data, perm.data, out.data}, status);
}
SUMIX_BOXED(mix_linear, "x", "lam", "perm")

static int mix_linear_backward(const StableIValue *args, StableIValue *results, struct sumix_status *status)
{
  struct sumix_tensor g, lam, perm, grad_x;
  SUMIX_TRY(sumix_tensor_read(args[0], "grad_out", &g, status));
  SUMIX_CHECK(sumix_is_floating(g.dtype), status, "grad_out must be float16, bfloat16, float32 or float64");
  SUMIX_TRY(expect_dense(&g, status));
  SUMIX_TRY(read_ratios(args, &g, &lam, &perm, status));
  SUMIX_TRY(sumix_tensor_new(&g, g.dtype, g.dim, g.sizes, g.strides, &results[0], &grad_x, status));
  const int64_t n = g.sizes[0], size = n > 0 ? g.numel / n : 0;
  return sumix_run_mix_linear_backward(
      &g, &(struct sumix_mix_linear_backward_args){g.dtype, n, size, g.data, lam.data, perm.data, grad_x.data}, status);
}
SUMIX_BOXED(mix_linear_backward, "grad_out", "lam", "perm")

static int soft_labels(const StableIValue *args, StableIValue *results, struct sumix_status *status)
{
  struct sumix_tensor y_a, y_b, lam, soft;
  const int64_t k = sumix_int(args[3]);
  const double smoothing = sumix_float(args[4]);
  SUMIX_TRY(sumix_tensor_read_contiguous(args[0], "y_a", &y_a, status));
  SUMIX_TRY(sumix_tensor_read_contiguous(args[1], "y_b", &y_b, status));
  SUMIX_TRY(sumix_tensor_read_contiguous(args[2], "lam", &lam, status));
  SUMIX_TRY(sumix_tensor_expect(&y_a, SUMIX_INT64, 1, (const int64_t[]){-1}, status));
  SUMIX_TRY(sumix_tensor_expect(&y_b, SUMIX_INT64, 1, y_a.sizes, status));
  SUMIX_TRY(sumix_tensor_expect(&lam, SUMIX_FLOAT32, 1, y_a.sizes, status));
  SUMIX_CHECK(k > 0, status, "num_classes must be at least 1, got %lld", (long long)k);
  SUMIX_CHECK(smoothing >= 0 && smoothing <= 1, status, "label_smoothing must be 0 to 1, got %g", smoothing);
  const int64_t n = y_a.sizes[0];
  SUMIX_TRY(sumix_tensor_new(&y_a, SUMIX_FLOAT32, 2, (const int64_t[]){n, k}, NULL, &results[0], &soft, status));
  return sumix_run_soft_labels(
      &y_a, &(struct sumix_soft_labels_args){n, k, y_a.data, y_b.data, lam.data, smoothing, soft.data}, status);
}
SUMIX_BOXED(soft_labels, "y_a", "y_b", "lam")

const struct sumix_op_entry sumix_mix_ops[] = {
    {"mix_box(Tensor x, Tensor box, Tensor perm) -> Tensor", "mix_box", boxed_mix_box},
    {"mix_box_backward(Tensor grad_out, Tensor box, Tensor perm) -> Tensor", "mix_box_backward",
     boxed_mix_box_backward},
    {"mix_linear(Tensor x, Tensor lam, Tensor perm) -> Tensor", "mix_linear", boxed_mix_linear},
    {"mix_linear_backward(Tensor grad_out, Tensor lam, Tensor perm) -> Tensor", "mix_linear_backward",
     boxed_mix_linear_backward},
    {"soft_labels(Tensor y_a, Tensor y_b, Tensor lam, SymInt num_classes, float label_smoothing) -> Tensor",
     "soft_labels", boxed_soft_labels},
    {0},
};
