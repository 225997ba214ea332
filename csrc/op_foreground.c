/* sumix::foreground: check, allocate, run. An absent mean is one of shape (0,). */
#include <math.h>

#include "op_map.h"
#include "ops.h"

static int foreground(const StableIValue *args, StableIValue *results, struct sumix_status *status)
{
  static const char *const sizes[] = {"h", "w", "fine_h", "fine_w"};
  struct sumix_tensor features, fine, mean, out[3];
  struct sumix_foreground_args a = {0};
  int64_t *const sides[] = {&a.h, &a.w, &a.fine_h, &a.fine_w};
  for (int t = 0; t < 4; t++) SUMIX_TRY(sumix_size_read(args[3 + t], sizes[t], sides[t], status));
  SUMIX_CHECK(a.fine_h >= a.h && a.fine_w >= a.w, status,
              "fine_h and fine_w must be at least h = %lld and w = %lld, got %lld and %lld", (long long)a.h,
              (long long)a.w, (long long)a.fine_h, (long long)a.fine_w);
  SUMIX_TRY(sumix_map_read(args[0], "features", (const int64_t[]){1, a.h, a.w}, sumix_bool(args[7]), &features,
                           &a.coarse, status));
  SUMIX_TRY(sumix_map_read(args[1], "fine", (const int64_t[]){1, a.fine_h, a.fine_w}, sumix_bool(args[8]), &fine,
                           &a.fine, status));
  SUMIX_CHECK(fine.dtype == features.dtype, status, "fine must have the dtype of features");
  a.n = features.sizes[0];
  SUMIX_CHECK(fine.sizes[0] == a.n, status, "fine must have as many samples as features, %lld, got %lld",
              (long long)a.n, (long long)fine.sizes[0]);
  const enum sumix_dtype real = sumix_real_of(fine.dtype);
  SUMIX_TRY(sumix_tensor_read_contiguous(args[2], "mean", &mean, status));
  if (!sumix_is_absent(&mean)) {
    SUMIX_TRY(sumix_tensor_expect(&mean, real, 1, &a.fine.d, status));
    a.mean = mean.data;
  }
  a.rounds = sumix_int(args[9]);
  SUMIX_CHECK(a.rounds > 0 && a.rounds <= SUMIX_FOREGROUND_ROUNDS, status, "rounds must be 1 to %d, got %lld",
              SUMIX_FOREGROUND_ROUNDS, (long long)a.rounds);
  a.low = sumix_float(args[10]);
  a.high = sumix_float(args[11]);
  SUMIX_CHECK(a.low < a.high && isfinite(a.high - a.low), status, "low must be below high, both finite, got %g and %g",
              a.low, a.high);
  a.min_contrast = sumix_float(args[12]);
  SUMIX_TRY(
      sumix_tensor_new(&fine, real, 3, (const int64_t[]){a.n, a.fine_h, a.fine_w}, NULL, &results[0], &out[0], status));
  SUMIX_TRY(sumix_tensor_new(&fine, real, 1, &a.n, NULL, &results[1], &out[1], status));
  SUMIX_TRY(sumix_tensor_new(&fine, real, 2, (const int64_t[]){a.n, a.fine.d}, NULL, &results[2], &out[2], status));
  a.map = out[0].data;
  a.gate = out[1].data;
  a.means = out[2].data;
  struct sumix_device_scratch scratch;
  SUMIX_TRY(sumix_scratch_new(&fine, sumix_foreground_scratch(&a), &scratch, status));
  a.scratch = scratch.data;
  const int failed = sumix_run_foreground(&fine, &a, status);
  sumix_scratch_free(&scratch);
  return failed;
}
SUMIX_BOXED(foreground, "features", "fine", "mean")

const struct sumix_op_entry sumix_foreground_ops[] = {
    {"foreground(Tensor features, Tensor fine, Tensor mean, SymInt h, SymInt w, SymInt fine_h, SymInt fine_w, bool "
     "tokens, bool fine_tokens, int rounds, float low, float high, float min_contrast) -> (Tensor map, Tensor gate, "
     "Tensor means)",
     "foreground", boxed_foreground},
    {0},
};
