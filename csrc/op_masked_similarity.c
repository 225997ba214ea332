/* sumix::masked_similarity: check, allocate, run. An absent tensor is one of shape (0,). */
#include "op_map.h"
#include "ops.h"

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

static int masked_similarity(const StableIValue *args, StableIValue *results, struct sumix_status *status)
{
  static const char *const names[] = {"features", "class_weight", "labels", "perm", "lam",
                                      "box",      "mask",         "resize", "gate"};
  struct sumix_tensor in[9], out[4];
  struct sumix_masked_similarity_args a = {0};
  for (int t = 1; t < 9; t++) SUMIX_TRY(sumix_tensor_read_contiguous(args[t], names[t], &in[t], status));
  SUMIX_TRY(sumix_size_read(args[9], "frames", &a.frames, status));
  SUMIX_TRY(sumix_size_read(args[10], "h", &a.h, status));
  SUMIX_TRY(sumix_size_read(args[11], "w", &a.w, status));
  SUMIX_TRY(sumix_size_read(args[12], "height", &a.height, status));
  SUMIX_TRY(sumix_size_read(args[13], "width", &a.width, status));
  struct sumix_map map;
  const bool tokens = sumix_bool(args[14]);
  SUMIX_TRY(sumix_map_read(args[0], "features", (const int64_t[]){a.frames, a.h, a.w}, tokens, &in[0], &map, status));
  const struct sumix_tensor *x = &in[0];
  a.dtype = map.dtype;
  a.channels_last = map.channels_last;
  a.n = x->sizes[0];
  a.d = map.d;
  a.stride = map.stride;
  a.features = map.data;
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
