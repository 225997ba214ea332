/* sumix::uncertainty and its backward: check, allocate, run. */
#include "device.h"
#include "ops.h"

static int uncertainty(const StableIValue *args, StableIValue *results, struct sumix_status *status)
{
  struct sumix_tensor x, u;
  SUMIX_TRY(sumix_tensor_read_contiguous(args[0], "logits", &x, status));
  SUMIX_CHECK(sumix_is_floating(x.dtype), status, "logits must be float16, bfloat16, float32 or float64");
  SUMIX_CHECK(x.dim == 2 && x.sizes[1] > 0, status, "logits must be (N, K) with K > 0");
  SUMIX_TRY(sumix_tensor_new(&x, x.dtype, 2, x.sizes, NULL, &results[0], &u, status));
  return sumix_run_uncertainty(&x, &(struct sumix_uncertainty_args){x.dtype, x.sizes[0], x.sizes[1], x.data, u.data},
                               status);
}
SUMIX_BOXED(uncertainty, "logits")

static int uncertainty_backward(const StableIValue *args, StableIValue *results, struct sumix_status *status)
{
  struct sumix_tensor u, g, grad_x;
  SUMIX_TRY(sumix_tensor_read_contiguous(args[0], "u", &u, status));
  SUMIX_TRY(sumix_tensor_read_contiguous(args[1], "grad_u", &g, status));
  SUMIX_CHECK(sumix_is_floating(u.dtype), status, "u must be float16, bfloat16, float32 or float64");
  SUMIX_CHECK(u.dim == 2, status, "u must be (N, K)");
  SUMIX_TRY(sumix_tensor_expect(&g, u.dtype, 2, u.sizes, status));
  SUMIX_TRY(sumix_tensor_new(&u, u.dtype, 2, u.sizes, NULL, &results[0], &grad_x, status));
  if (u.numel == 0) return 0;  // there may be any number of rows
  return sumix_run_uncertainty_backward(
      &u, &(struct sumix_uncertainty_backward_args){u.dtype, u.sizes[0], u.sizes[1], u.data, g.data, grad_x.data},
      status);
}
SUMIX_BOXED(uncertainty_backward, "u", "grad_u")

const struct sumix_op_entry sumix_uncertainty_ops[] = {
    {"uncertainty(Tensor logits) -> Tensor", "uncertainty", boxed_uncertainty},
    {"uncertainty_backward(Tensor u, Tensor grad_u) -> Tensor", "uncertainty_backward", boxed_uncertainty_backward},
    {0},
};
