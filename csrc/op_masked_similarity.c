/* sumix::masked_similarity: check, allocate, run. An absent tensor is one of shape (0,). */
#include "device.h"
#include "ops.h"

/* The maps: (n, l, d) tokens, of which the last `places` are read, or (n, d, places). Each sample dense in itself; the
 * step from one to the next may be any. */
static int read_features(StableIValue argument, bool tokens, int64_t places, struct sumix_masked_similarity_args *a,
                         struct sumix_tensor *x, struct sumix_status *status)
{
  SUMIX_TRY(sumix_tensor_read(argument, "features", x, status));
  SUMIX_CHECK(sumix_is_floating(x->dtype), status, "features must be float16, bfloat16, float32 or float64");
  SUMIX_CHECK(x->dim == 3, status, "features must have 3 dimensions, got %lld", (long long)x->dim);
  const int64_t length = x->sizes[tokens ? 1 : 2], d = x->sizes[tokens ? 2 : 1];
  SUMIX_CHECK(d > 0 && places > 0, status, "features must have channels and places");
  SUMIX_CHECK(tokens ? length >= places : length == places, status,
              "features must have %s%lld places as frames, h and w say, got %lld", tokens ? "at least " : "",
              (long long)places, (long long)length);
  const bool dense = (x->sizes[2] == 1 || x->strides[2] == 1) && (x->sizes[1] == 1 || x->strides[1] == x->sizes[2]) &&
                     (x->sizes[0] <= 1 || x->strides[0] >= 0);
  SUMIX_CHECK(dense || x->numel == 0, status, "features must be contiguous in every sample");
  a->dtype = x->dtype;
  a->channels_last = tokens;
  a->n = x->sizes[0];
  a->d = d;
  a->stride = x->strides[0];
  const int64_t skipped = tokens ? (length - places) * d * (int64_t)sumix_dtype_size(x->dtype) : 0;
  a->features = x->numel > 0 ? (const char *)x->data + skipped : x->data;
  return 0;
}

static int read_mask(const struct sumix_tensor *mask, struct sumix_masked_similarity_args *a,
                     struct sumix_status *status)
{
  if (sumix_is_absent(mask)) return 0;
  SUMIX_CHECK(mask->dtype == SUMIX_FLOAT32 || mask->dtype == SUMIX_UINT8, status, "mask must be float32 or uint8");
  a->mask_is_constant = mask->dim == 3 && mask->sizes[1] == 1 && mask->sizes[2] == 1;
  const int64_t sizes[] = {a->n, a->mask_is_constant ? 1 : a->height, a->mask_is_constant ? 1 : a->width};
  SUMIX_TRY(sumix_tensor_expect(mask, mask->dtype, 3, sizes, status));
  a->mask = mask->data;
  a->mask_dtype = mask->dtype;
  return 0;
}

/* Sizes of which the kernel multiplies two; anything larger is no image. */
static int read_size(StableIValue value, const char *name, int64_t *size, struct sumix_status *status)
{
  *size = sumix_int(value);
  SUMIX_CHECK(*size > 0 && *size < (int64_t)1 << 31, status, "%s must be above 0 and below 2^31, got %lld", name,
              (long long)*size);
  return 0;
}

static int masked_similarity(const StableIValue *args, StableIValue *results, struct sumix_status *status)
{
  static const char *const names[] = {"features", "class_weight", "labels", "perm", "lam",
                                      "box",      "mask",         "resize", "gate"};
  struct sumix_tensor in[9], out[4];
  struct sumix_masked_similarity_args a = {0};
  for (int t = 1; t < 9; t++) SUMIX_TRY(sumix_tensor_read_contiguous(args[t], names[t], &in[t], status));
  SUMIX_TRY(read_size(args[9], "frames", &a.frames, status));
  SUMIX_TRY(read_size(args[10], "h", &a.h, status));
  SUMIX_TRY(read_size(args[11], "w", &a.w, status));
  SUMIX_TRY(read_size(args[12], "height", &a.height, status));
  SUMIX_TRY(read_size(args[13], "width", &a.width, status));
  SUMIX_CHECK(a.h * a.w < (int64_t)1 << 31, status, "a map must have less than 2^31 places, got h = %lld and w = %lld",
              (long long)a.h, (long long)a.w);
  SUMIX_TRY(read_features(args[0], sumix_bool(args[14]), a.frames * a.h * a.w, &a, &in[0], status));
  const struct sumix_tensor *x = &in[0];
  const enum sumix_dtype real = sumix_real_of(x->dtype);
  const int64_t evidence = sumix_int(args[15]);
  SUMIX_CHECK(evidence >= 0 && evidence < SUMIX_NUM_EVIDENCES, status, "evidence must be 0 to %d, got %lld",
              SUMIX_NUM_EVIDENCES - 1, (long long)evidence);
  a.evidence = (enum sumix_evidence)evidence;
  a.min_contrast = sumix_float(args[16]);
  const int64_t rule = sumix_int(args[17]);
  SUMIX_CHECK(rule >= 0 && rule < SUMIX_NUM_RULES, status, "rule must be 0 to %d, got %lld", SUMIX_NUM_RULES - 1,
              (long long)rule);
  a.rule = (enum sumix_rule)rule;
  a.area_weight = sumix_float(args[18]);
  SUMIX_CHECK(a.area_weight >= 0 && a.area_weight <= 1, status, "area_weight must be from 0 to 1, got %g",
              a.area_weight);
  if (a.evidence == SUMIX_EVIDENCE_OBJECT)
    SUMIX_CHECK(a.d == 1 && a.frames == 1 && !a.channels_last, status, "objects must have one channel");
  if (a.evidence == SUMIX_EVIDENCE_CAM) {
    SUMIX_TRY(sumix_tensor_expect(&in[1], real, 2, (const int64_t[]){-1, a.d}, status));
    SUMIX_TRY(sumix_tensor_expect(&in[2], SUMIX_INT64, 1, &a.n, status));
    a.class_weight = in[1].data;
    a.k = in[1].sizes[0];
    a.labels = in[2].data;
  }
  SUMIX_TRY(sumix_tensor_expect(&in[3], SUMIX_INT64, 1, &a.n, status));
  SUMIX_TRY(sumix_tensor_expect(&in[4], real, 1, &a.n, status));
  a.perm = in[3].data;
  a.lam = in[4].data;
  if (!sumix_is_absent(&in[5])) {
    SUMIX_TRY(sumix_tensor_expect(&in[5], SUMIX_INT64, 2, (const int64_t[]){a.n, 4}, status));
    a.box = in[5].data;
  }
  SUMIX_TRY(read_mask(&in[6], &a, status));
  if (!sumix_is_absent(&in[7])) {
    SUMIX_TRY(sumix_tensor_expect(&in[7], SUMIX_INT64, 1, &a.n, status));
    SUMIX_CHECK(a.box != NULL, status, "resize needs a box");
    a.resize = in[7].data;
  }
  if (!sumix_is_absent(&in[8])) {
    SUMIX_TRY(sumix_tensor_expect(&in[8], real, 1, &a.n, status));
    a.gate = in[8].data;
  }
  const int64_t weights[] = {a.n, 3};
  SUMIX_TRY(sumix_tensor_new(x, real, 2, weights, NULL, &results[3], &out[3], status));
  for (int t = 0; t < 3; t++) SUMIX_TRY(sumix_tensor_new(x, real, 1, &a.n, NULL, &results[t], &out[t], status));
  a.visible_a = out[0].data;
  a.visible_b = out[1].data;
  a.ratio = out[2].data;
  a.weights = out[3].data;
  struct sumix_device_scratch scratch;
  SUMIX_TRY(sumix_scratch_new(x, sumix_masked_similarity_scratch(&a), &scratch, status));
  a.scratch = scratch.data;
  const int failed = sumix_run_masked_similarity(x, &a, status);
  sumix_scratch_free(&scratch);
  return failed;
}
SUMIX_BOXED(masked_similarity, "features", "class_weight", "labels", "perm", "lam", "box", "mask", "resize", "gate")

const struct sumix_op_entry sumix_masked_similarity_ops[] = {
    {"masked_similarity(Tensor features, Tensor class_weight, Tensor labels, Tensor perm, Tensor lam, Tensor box, "
     "Tensor mask, Tensor resize, Tensor gate, SymInt frames, SymInt h, SymInt w, SymInt height, SymInt width, "
     "bool tokens, int evidence, float min_contrast, int rule, float area_weight) -> "
     "(Tensor visible_a, Tensor visible_b, Tensor ratio, Tensor weights)",
     "masked_similarity", boxed_masked_similarity},
    {0},
};
