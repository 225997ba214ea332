/* sumix::evidence_mask: check, allocate, run. */
#include <math.h>

#include "device.h"
#include "ops.h"

static int evidence_mask(const StableIValue *args, StableIValue *results, struct sumix_status *status)
{
  struct sumix_tensor evidence, paste, mask, lam;
  const int64_t height = sumix_int(args[2]), width = sumix_int(args[3]);
  const bool hard = sumix_bool(args[4]);
  const double threshold = sumix_float(args[5]), soft = sumix_float(args[6]);
  SUMIX_TRY(sumix_tensor_read_contiguous(args[0], "evidence", &evidence, status));
  SUMIX_TRY(sumix_tensor_read_contiguous(args[1], "paste", &paste, status));
  SUMIX_TRY(sumix_tensor_expect(&evidence, SUMIX_FLOAT32, 3, (const int64_t[]){-1, -1, -1}, status));
  const int64_t n = evidence.sizes[0], h = evidence.sizes[1], w = evidence.sizes[2];
  SUMIX_TRY(sumix_tensor_expect(&paste, SUMIX_UINT8, 1, &n, status));
  SUMIX_CHECK(h > 0 && w > 0 && h <= INT32_MAX / w, status,
              "evidence must have at least 1 and fewer than 2^31 places, got (%lld, %lld)", (long long)h, (long long)w);
  SUMIX_CHECK(height > 0 && width > 0 && height <= INT32_MAX / width, status,
              "height and width must be at least 1 and have fewer than 2^31 pixels, got %lld and %lld",
              (long long)height, (long long)width);
  SUMIX_CHECK(threshold >= 0 && threshold <= 1, status, "threshold must be 0 to 1, got %g", threshold);
  SUMIX_CHECK(soft >= 0 && soft <= 2 * fmin(threshold, 1 - threshold), status,
              "soft must be 0 to 2 min(threshold, 1 - threshold), got %g", soft);
  SUMIX_CHECK(hard || soft > 0, status, "soft must be above 0 unless the edge is hard, got %g", soft);
  const enum sumix_dtype kind = hard ? SUMIX_UINT8 : SUMIX_FLOAT32;
  SUMIX_TRY(
      sumix_tensor_new(&evidence, kind, 3, (const int64_t[]){n, height, width}, NULL, &results[0], &mask, status));
  SUMIX_TRY(sumix_tensor_new(&evidence, SUMIX_FLOAT32, 1, &n, NULL, &results[1], &lam, status));
  return sumix_run_evidence_mask(&evidence,
                                 &(struct sumix_evidence_mask_args){
                                     .n = n,
                                     .h = h,
                                     .w = w,
                                     .height = height,
                                     .width = width,
                                     .hard = hard,
                                     .threshold = (float)threshold,
                                     .soft = (float)soft,
                                     .evidence = evidence.data,
                                     .paste = paste.data,
                                     .mask = mask.data,
                                     .lam = lam.data,
                                 },
                                 status);
}
SUMIX_BOXED(evidence_mask, "evidence", "paste")

const struct sumix_op_entry sumix_evidence_mask_ops[] = {
    {"evidence_mask(Tensor evidence, Tensor paste, SymInt height, SymInt width, bool hard, float threshold, float "
     "soft) "
     "-> (Tensor, Tensor)",
     "evidence_mask", boxed_evidence_mask},
    {0},
};
