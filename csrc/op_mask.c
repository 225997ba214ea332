/* sumix::mask_top_k: check, allocate, run. */
#include "boxed.h"
#include "ops.h"

static int mask_top_k(const StableIValue *args, StableIValue *results, struct sumix_status *status)
{
  struct sumix_tensor grey, k, soft, mask;
  SUMIX_TRY(sumix_tensor_read_contiguous(args[0], "grey", &grey, status));
  SUMIX_TRY(sumix_tensor_read_contiguous(args[1], "k", &k, status));
  SUMIX_TRY(sumix_tensor_read_contiguous(args[2], "soft", &soft, status));
  SUMIX_CHECK(grey.dim >= 1, status, "grey must have a batch dimension");
  SUMIX_TRY(sumix_tensor_expect(&grey, SUMIX_FLOAT32, grey.dim, grey.sizes, &grey, status));
  const int64_t n = grey.sizes[0], size = n > 0 ? grey.numel / n : 0;
  SUMIX_CHECK(size < INT64_C(1) << 31, status, "grey must have less than 2^31 pixels an image, got %lld",
              (long long)size);
  SUMIX_TRY(sumix_tensor_expect(&k, SUMIX_INT64, 1, &n, &grey, status));
  const bool hard = soft.dim == 1 && soft.sizes[0] == 0;
  if (!hard) SUMIX_TRY(sumix_tensor_expect(&soft, SUMIX_INT64, 1, &n, &grey, status));
  SUMIX_TRY(sumix_tensor_new(&grey, SUMIX_FLOAT32, grey.dim, grey.sizes, NULL, &results[0], &mask, status));
  return sumix_cpu.mask_top_k(
      &(struct sumix_mask_top_k_args){
          .n = n,
          .size = size,
          .grey = grey.data,
          .k = k.data,
          .soft = hard ? NULL : soft.data,
          .mask = mask.data,
      },
      status);
}
SUMIX_BOXED(mask_top_k, 3)

const struct sumix_op_entry sumix_mask_ops[] = {
    {"mask_top_k(Tensor grey, Tensor k, Tensor soft) -> Tensor", "mask_top_k", boxed_mask_top_k},
    {0},
};
