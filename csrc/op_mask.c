/* sumix::sample_top_k, sumix::mask_top_k: check, allocate, run. */
#include "device.h"
#include "ops.h"

static const int64_t most_pixels = (INT64_C(1) << 31) - 1;

static int sample_top_k(const StableIValue *args, StableIValue *results, struct sumix_status *status)
{
  struct sumix_tensor seed, lam, k, soft, exact_lam;
  const int64_t size = sumix_int(args[2]);
  const double max_soft = sumix_float(args[3]);
  SUMIX_TRY(sumix_tensor_read(args[0], "seed", &seed, status));
  SUMIX_TRY(sumix_tensor_read_contiguous(args[1], "lam", &lam, status));
  SUMIX_TRY(sumix_tensor_expect(&lam, SUMIX_FLOAT32, 1, (const int64_t[]){-1}, status));
  SUMIX_TRY(sumix_tensor_expect(&seed, SUMIX_INT64, seed.dim, seed.sizes, status));
  SUMIX_CHECK(seed.numel == 1, status, "seed must have one element, got %lld", (long long)seed.numel);
  SUMIX_CHECK(size >= 1 && size <= most_pixels, status, "size must be 1 to %lld pixels, got %lld",
              (long long)most_pixels, (long long)size);
  SUMIX_CHECK(max_soft >= 0 && max_soft <= 0.5, status, "max_soft must be 0 to 0.5, got %g", max_soft);
  const int64_t n = lam.sizes[0];
  SUMIX_TRY(sumix_tensor_new(&lam, SUMIX_INT64, 1, &n, NULL, &results[0], &k, status));
  SUMIX_TRY(sumix_tensor_new(&lam, SUMIX_INT64, 1, &n, NULL, &results[1], &soft, status));
  SUMIX_TRY(sumix_tensor_new(&lam, SUMIX_FLOAT32, 1, &n, NULL, &results[2], &exact_lam, status));
  return sumix_run_sample_top_k(&lam,
                                &(struct sumix_sample_top_k_args){
                                    .seed = seed.data,
                                    .n = n,
                                    .size = size,
                                    .max_soft = max_soft,
                                    .lam = lam.data,
                                    .k = k.data,
                                    .soft = soft.data,
                                    .exact_lam = exact_lam.data,
                                },
                                status);
}
SUMIX_BOXED(sample_top_k, "seed", "lam")

static int mask_top_k(const StableIValue *args, StableIValue *results, struct sumix_status *status)
{
  struct sumix_tensor grey, k, soft, mask;
  SUMIX_TRY(sumix_tensor_read_contiguous(args[0], "grey", &grey, status));
  SUMIX_TRY(sumix_tensor_read_contiguous(args[1], "k", &k, status));
  SUMIX_TRY(sumix_tensor_read_contiguous(args[2], "soft", &soft, status));
  SUMIX_CHECK(grey.dim >= 1, status, "grey must have a batch dimension");
  SUMIX_TRY(sumix_tensor_expect(&grey, SUMIX_FLOAT32, grey.dim, grey.sizes, status));
  const int64_t n = grey.sizes[0], size = n > 0 ? grey.numel / n : 0;
  SUMIX_CHECK(size <= most_pixels, status, "grey must have at most %lld pixels an image, got %lld",
              (long long)most_pixels, (long long)size);
  SUMIX_TRY(sumix_tensor_expect(&k, SUMIX_INT64, 1, &n, status));
  const bool hard = sumix_is_absent(&soft);
  if (!hard) SUMIX_TRY(sumix_tensor_expect(&soft, SUMIX_INT64, 1, &n, status));
  SUMIX_TRY(sumix_tensor_new(&grey, SUMIX_FLOAT32, grey.dim, grey.sizes, NULL, &results[0], &mask, status));
  struct sumix_mask_top_k_args to_run = {
      .n = n,
      .size = size,
      .grey = grey.data,
      .k = k.data,
      .soft = hard ? NULL : soft.data,
      .mask = mask.data,
  };
  struct sumix_device_scratch scratch;
  SUMIX_TRY(sumix_scratch_new(&grey, sumix_mask_top_k_scratch(&to_run), &scratch, status));
  to_run.scratch = scratch.data;
  const int failed = sumix_run_mask_top_k(&grey, &to_run, status);
  sumix_scratch_free(&scratch);
  return failed;
}
SUMIX_BOXED(mask_top_k, "grey", "k", "soft")

const struct sumix_op_entry sumix_mask_ops[] = {
    {"sample_top_k(Tensor seed, Tensor lam, SymInt size, float max_soft) -> (Tensor, Tensor, Tensor)", "sample_top_k",
     boxed_sample_top_k},
    {"mask_top_k(Tensor grey, Tensor k, Tensor soft) -> Tensor", "mask_top_k", boxed_mask_top_k},
    {0},
};
