/* sumix::sample_*, sumix::cut_box: check, allocate on the device of the seed, run. */
#include <math.h>

#include "device.h"
#include "ops.h"

static int read_seed(StableIValue argument, struct sumix_tensor *seed, struct sumix_status *status)
{
  SUMIX_TRY(sumix_tensor_read(argument, "seed", seed, status));
  SUMIX_TRY(sumix_tensor_expect(seed, SUMIX_INT64, seed->dim, seed->sizes, status));
  SUMIX_CHECK(seed->numel == 1, status, "seed must have one element, got %lld", (long long)seed->numel);
  return 0;
}

static int read_count(StableIValue argument, const char *name, int64_t *count, struct sumix_status *status)
{
  *count = sumix_int(argument);
  SUMIX_CHECK(*count >= 0, status, "%s must be at least 0, got %lld", name, (long long)*count);
  return 0;
}

static int check_alpha(double alpha, struct sumix_status *status)
{
  SUMIX_CHECK(alpha > 0 && isfinite(alpha), status, "alpha must be above 0 and finite, got %g", alpha);
  return 0;
}

static int check_share(double share, const char *name, struct sumix_status *status)
{
  SUMIX_CHECK(share >= 0 && share <= 1, status, "%s must be from 0 to 1, got %g", name, share);
  return 0;
}

static int read_image(const StableIValue *args, int64_t *height, int64_t *width, struct sumix_status *status)
{
  const int64_t most = INT64_C(1) << 31;
  *height = sumix_int(args[0]), *width = sumix_int(args[1]);
  SUMIX_CHECK(*height >= 0 && *height < most && *width >= 0 && *width < most, status, "no image is %lld x %lld",
              (long long)*height, (long long)*width);
  return 0;
}

static int sample_lam(const StableIValue *args, StableIValue *results, struct sumix_status *status)
{
  struct sumix_tensor seed, lam;
  struct sumix_sample_lam_args a = {.alpha = sumix_float(args[2]), .p = sumix_float(args[3])};
  SUMIX_TRY(read_seed(args[0], &seed, status));
  SUMIX_TRY(read_count(args[1], "n", &a.n, status));
  SUMIX_TRY(check_alpha(a.alpha, status));
  SUMIX_TRY(check_share(a.p, "p", status));
  SUMIX_TRY(sumix_tensor_new(&seed, SUMIX_FLOAT32, 1, &a.n, NULL, &results[0], &lam, status));
  a.seed = seed.data, a.lam = lam.data;
  return sumix_run_sample_lam(&seed, &a, status);
}
SUMIX_BOXED(sample_lam, "seed")

static int sample_perm(const StableIValue *args, StableIValue *results, struct sumix_status *status)
{
  struct sumix_tensor seed, labels, perm;
  struct sumix_sample_perm_args a = {0};
  const int64_t partners = sumix_int(args[3]);
  SUMIX_TRY(read_seed(args[0], &seed, status));
  SUMIX_TRY(sumix_tensor_read_contiguous(args[1], "labels", &labels, status));
  SUMIX_TRY(read_count(args[2], "n", &a.n, status));
  SUMIX_CHECK(a.n < INT64_C(1) << 31, status, "n must be below 2^31, got %lld", (long long)a.n);
  SUMIX_CHECK(partners >= 0 && partners < SUMIX_NUM_PARTNERS, status, "partners must be 0 to %d, got %lld",
              SUMIX_NUM_PARTNERS - 1, (long long)partners);
  a.partners = (enum sumix_partners)partners;
  if (a.partners == SUMIX_PARTNERS_CROSS_CLASS) SUMIX_TRY(sumix_tensor_expect(&labels, SUMIX_INT64, 1, &a.n, status));
  SUMIX_TRY(sumix_tensor_new(&seed, SUMIX_INT64, 1, &a.n, NULL, &results[0], &perm, status));
  a.seed = seed.data, a.labels = labels.data, a.perm = perm.data;
  return sumix_run_sample_perm(&seed, &a, status);
}
SUMIX_BOXED(sample_perm, "seed", "labels")

static int sample_box(const StableIValue *args, StableIValue *results, struct sumix_status *status)
{
  struct sumix_tensor seed, box, lam;
  const int64_t kind = sumix_int(args[4]);
  struct sumix_sample_box_args a = {.alpha = sumix_float(args[5]),
                                    .p = sumix_float(args[6]),
                                    .low = sumix_float(args[7]),
                                    .high = sumix_float(args[8])};
  SUMIX_TRY(read_seed(args[0], &seed, status));
  SUMIX_TRY(read_count(args[1], "n", &a.n, status));
  SUMIX_TRY(read_image(args + 2, &a.height, &a.width, status));
  SUMIX_CHECK(kind >= 0 && kind < SUMIX_NUM_BOX_KINDS, status, "kind must be 0 to %d, got %lld",
              SUMIX_NUM_BOX_KINDS - 1, (long long)kind);
  a.kind = (enum sumix_box_kind)kind;
  if (a.kind != SUMIX_BOX_MINMAX && !(a.kind == SUMIX_BOX_RESIZE && a.alpha == 0))
    SUMIX_TRY(check_alpha(a.alpha, status));
  SUMIX_TRY(check_share(a.p, "p", status));
  if (a.kind == SUMIX_BOX_MINMAX || a.kind == SUMIX_BOX_RESIZE) {
    SUMIX_TRY(check_share(a.low, "low", status));
    SUMIX_TRY(check_share(a.high, "high", status));
    SUMIX_CHECK(a.low <= a.high, status, "low must be at most high, got %g and %g", a.low, a.high);
  }
  SUMIX_TRY(sumix_tensor_new(&seed, SUMIX_INT64, 2, (const int64_t[]){a.n, 4}, NULL, &results[0], &box, status));
  SUMIX_TRY(sumix_tensor_new(&seed, SUMIX_FLOAT32, 1, &a.n, NULL, &results[1], &lam, status));
  a.seed = seed.data, a.box = box.data, a.lam = lam.data;
  return sumix_run_sample_box(&seed, &a, status);
}
SUMIX_BOXED(sample_box, "seed")

static int cut_box(const StableIValue *args, StableIValue *results, struct sumix_status *status)
{
  struct sumix_tensor lam, centre, box, exact_lam;
  struct sumix_cut_box_args a = {0};
  SUMIX_TRY(sumix_tensor_read_contiguous(args[0], "lam", &lam, status));
  SUMIX_TRY(sumix_tensor_read_contiguous(args[1], "centre", &centre, status));
  SUMIX_TRY(read_image(args + 2, &a.height, &a.width, status));
  SUMIX_TRY(sumix_tensor_expect(&lam, SUMIX_FLOAT32, 1, (const int64_t[]){-1}, status));
  a.n = lam.sizes[0];
  SUMIX_TRY(sumix_tensor_expect(&centre, SUMIX_INT64, 2, (const int64_t[]){a.n, 2}, status));
  SUMIX_TRY(sumix_tensor_new(&lam, SUMIX_INT64, 2, (const int64_t[]){a.n, 4}, NULL, &results[0], &box, status));
  SUMIX_TRY(sumix_tensor_new(&lam, SUMIX_FLOAT32, 1, &a.n, NULL, &results[1], &exact_lam, status));
  a.lam = lam.data, a.centre = centre.data, a.box = box.data, a.exact_lam = exact_lam.data;
  return sumix_run_cut_box(&lam, &a, status);
}
SUMIX_BOXED(cut_box, "lam", "centre")

static int new_noise(const StableIValue *args, StableIValue *results, struct sumix_tensor *seed,
                     struct sumix_sample_noise_args *a, struct sumix_status *status)
{
  struct sumix_tensor out;
  SUMIX_TRY(read_seed(args[0], seed, status));
  SUMIX_TRY(read_count(args[1], "n", &a->n, status));
  SUMIX_TRY(read_count(args[2], "size", &a->size, status));
  SUMIX_CHECK(a->size <= INT64_C(1) << 34, status, "size must be at most 2^34, got %lld", (long long)a->size);
  SUMIX_TRY(
      sumix_tensor_new(seed, SUMIX_FLOAT32, 2, (const int64_t[]){a->n, a->size}, NULL, &results[0], &out, status));
  a->seed = seed->data, a->out = out.data;
  return 0;
}

static int sample_uniform(const StableIValue *args, StableIValue *results, struct sumix_status *status)
{
  struct sumix_tensor seed;
  struct sumix_sample_uniform_args a;
  SUMIX_TRY(new_noise(args, results, &seed, &a.noise, status));
  return sumix_run_sample_uniform(&seed, &a, status);
}
SUMIX_BOXED(sample_uniform, "seed")

static int sample_normal(const StableIValue *args, StableIValue *results, struct sumix_status *status)
{
  struct sumix_tensor seed;
  struct sumix_sample_normal_args a;
  SUMIX_TRY(new_noise(args, results, &seed, &a.noise, status));
  return sumix_run_sample_normal(&seed, &a, status);
}
SUMIX_BOXED(sample_normal, "seed")

static int sample_seed(const StableIValue *args, StableIValue *results, struct sumix_status *status)
{
  struct sumix_tensor seed, seeds;
  int64_t n;
  SUMIX_TRY(read_seed(args[0], &seed, status));
  SUMIX_TRY(read_count(args[1], "n", &n, status));
  SUMIX_TRY(sumix_tensor_new(&seed, SUMIX_INT64, 1, &n, NULL, &results[0], &seeds, status));
  return sumix_run_sample_seed(&seed, &(struct sumix_sample_seed_args){seed.data, n, seeds.data}, status);
}
SUMIX_BOXED(sample_seed, "seed")

const struct sumix_op_entry sumix_sample_ops[] = {
    {"sample_lam(Tensor seed, SymInt n, float alpha, float p) -> Tensor", "sample_lam", boxed_sample_lam},
    {"sample_perm(Tensor seed, Tensor labels, SymInt n, int partners) -> Tensor", "sample_perm", boxed_sample_perm},
    {"sample_box(Tensor seed, SymInt n, SymInt height, SymInt width, int kind, float alpha, float p, float low, "
     "float high) -> (Tensor, Tensor)",
     "sample_box", boxed_sample_box},
    {"cut_box(Tensor lam, Tensor centre, SymInt height, SymInt width) -> (Tensor, Tensor)", "cut_box", boxed_cut_box},
    {"sample_uniform(Tensor seed, SymInt n, SymInt size) -> Tensor", "sample_uniform", boxed_sample_uniform},
    {"sample_normal(Tensor seed, SymInt n, SymInt size) -> Tensor", "sample_normal", boxed_sample_normal},
    {"sample_seed(Tensor seed, SymInt n) -> Tensor", "sample_seed", boxed_sample_seed},
    {0},
};
