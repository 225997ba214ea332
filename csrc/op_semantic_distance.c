/* sumix::semantic_distance: check, allocate, run. It has no gradient. */
#include "device.h"
#include "ops.h"

static int semantic_distance(const StableIValue *args, StableIValue *results, struct sumix_status *status)
{
  struct sumix_tensor z, r, masked, alpha;
  SUMIX_TRY(sumix_tensor_read_contiguous(args[0], "logits", &z, status));
  SUMIX_TRY(sumix_tensor_read_contiguous(args[1], "raw_logits", &r, status));
  SUMIX_TRY(sumix_tensor_read_contiguous(args[2], "masked", &masked, status));
  SUMIX_CHECK(sumix_is_floating(z.dtype), status, "logits must be float16, bfloat16, float32 or float64");
  SUMIX_CHECK(z.dim == 2 && z.sizes[1] > 0, status, "logits must be (N, K) with K > 0");
  SUMIX_TRY(sumix_tensor_expect(&r, z.dtype, 2, z.sizes, status));
  SUMIX_TRY(sumix_tensor_expect(&masked, SUMIX_INT64, 1, z.sizes, status));
  SUMIX_TRY(sumix_tensor_new(&z, z.dtype, 2, z.sizes, NULL, &results[0], &alpha, status));
  return sumix_run_semantic_distance(&z,
                                     &(struct sumix_semantic_distance_args){
                                         .dtype = z.dtype,
                                         .n = z.sizes[0],
                                         .k = z.sizes[1],
                                         .z = z.data,
                                         .r = r.data,
                                         .masked = masked.data,
                                         .scale = sumix_float(args[3]),
                                         .published = sumix_bool(args[4]),
                                         .alpha = alpha.data,
                                     },
                                     status);
}
SUMIX_BOXED(semantic_distance, "logits", "raw_logits", "masked")

const struct sumix_op_entry sumix_semantic_distance_ops[] = {
    {"semantic_distance(Tensor logits, Tensor raw_logits, Tensor masked, float scale, bool published) -> Tensor",
     "semantic_distance", boxed_semantic_distance},
    {0},
};
