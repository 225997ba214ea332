/* sumix::sumix_loss and its backward: check, allocate, run.
 *
 * An absent tensor (uncertainties in the plain form, class weights, a learned ratio, gradients that nobody
 * wants) is one of shape (0,).
 */
#include "device.h"
#include "ops.h"

static int read_enum(StableIValue value, int count, const char *name, struct sumix_status *status)
{
  const int64_t number = sumix_int(value);
  SUMIX_CHECK(number >= 0 && number < count, status, "%s must be 0 to %d, got %lld", name, count - 1,
              (long long)number);
  return (int)number;
}

/* An (n, k) gradient if it is wanted, else an absent tensor and NULL. */
static int new_gradient(const struct sumix_tensor *like, enum sumix_dtype dtype, bool wanted, StableIValue *result,
                        void **data, struct sumix_status *status)
{
  struct sumix_tensor gradient;
  const int64_t none = 0;
  SUMIX_TRY(
      sumix_tensor_new(like, dtype, wanted ? 2 : 1, wanted ? like->sizes : &none, NULL, result, &gradient, status));
  *data = wanted ? gradient.data : NULL;
  return 0;
}

static int sumix_loss(const StableIValue *args, StableIValue *results, struct sumix_status *status)
{
  static const char *const names[] = {"logits", "raw_logits", "uncertainty", "raw_uncertainty", "y_a",
                                      "y_b",    "perm",       "lam",         "weight",          "learned"};
  struct sumix_tensor in[10], loss, parts;
  for (int t = 0; t < 10; t++) SUMIX_TRY(sumix_tensor_read_contiguous(args[t], names[t], &in[t], status));
  const struct sumix_tensor *z = &in[0];
  SUMIX_CHECK(sumix_is_floating(z->dtype), status, "logits must be float16, bfloat16, float32 or float64");
  SUMIX_CHECK(z->dim == 2 && z->sizes[1] > 0, status, "logits must be (N, K) with K > 0");
  const int64_t n = z->sizes[0], k = z->sizes[1];
  const enum sumix_dtype real = sumix_real_of(z->dtype);
  const bool plain = sumix_is_absent(&in[2]), weighted = !sumix_is_absent(&in[8]), learned = !sumix_is_absent(&in[9]);
  SUMIX_CHECK(plain == sumix_is_absent(&in[3]), status,
              "uncertainty and raw_uncertainty must be given both or neither");
  for (int t = 1; t < (plain ? 2 : 4); t++) SUMIX_TRY(sumix_tensor_expect(&in[t], z->dtype, 2, z->sizes, status));
  for (int t = 4; t < 7; t++) SUMIX_TRY(sumix_tensor_expect(&in[t], SUMIX_INT64, 1, &n, status));
  SUMIX_TRY(sumix_tensor_expect(&in[7], real, 1, &n, status));
  if (weighted) SUMIX_TRY(sumix_tensor_expect(&in[8], real, 1, &k, status));
  const bool three = in[9].dim == 2;
  const int64_t learned_sizes[] = {n, 3};
  if (learned) SUMIX_TRY(sumix_tensor_expect(&in[9], real, three ? 2 : 1, learned_sizes, status));

  const int ratio = read_enum(args[10], SUMIX_NUM_RATIOS, "ratio", status);
  const int weighting = read_enum(args[11], SUMIX_NUM_WEIGHTINGS, "weighting", status);
  const int reduction = read_enum(args[12], SUMIX_NUM_REDUCTIONS, "reduction", status);
  if (ratio < 0 || weighting < 0 || reduction < 0) return -1;
  const bool needs_grad = sumix_bool(args[17]), whole = reduction == SUMIX_REDUCTION_NONE;

  struct sumix_loss_args a = {
      .dtype = z->dtype,
      .ratio = learned ? SUMIX_RATIO_AREA : (enum sumix_ratio)ratio,
      .weighting = (enum sumix_weighting)weighting,
      .reduction = (enum sumix_reduction)reduction,
      .n = n,
      .k = k,
      .z = z->data,
      .r = in[1].data,
      .v = plain ? NULL : in[2].data,
      .u = plain ? NULL : in[3].data,
      .y_a = in[4].data,
      .y_b = in[5].data,
      .perm = in[6].data,
      .lam = in[7].data,
      .class_weight = weighted ? in[8].data : NULL,
      .learned = learned && !three ? in[9].data : NULL,
      .label_weights = three ? in[9].data : NULL,
      .gamma = sumix_float(args[13]),
      .scale = sumix_float(args[14]),
      .label_smoothing = sumix_float(args[15]),
      .ignore_index = sumix_int(args[16]),
  };
  const int64_t parts_sizes[] = {3, n};
  SUMIX_TRY(sumix_tensor_new(z, real, whole ? 1 : 0, &n, NULL, &results[0], &loss, status));
  SUMIX_TRY(sumix_tensor_new(z, real, 2, parts_sizes, NULL, &results[1], &parts, status));
  a.loss = loss.data;
  a.parts = parts.data;
  SUMIX_TRY(new_gradient(z, real, needs_grad, &results[2], &a.grad_z, status));
  SUMIX_TRY(new_gradient(z, real, needs_grad && !plain, &results[3], &a.grad_v, status));
  SUMIX_TRY(new_gradient(z, real, needs_grad, &results[4], &a.grad_u, status));
  SUMIX_TRY(new_gradient(z, real, needs_grad && whole, &results[5], &a.grad_partner, status));
  struct sumix_device_scratch scratch;
  SUMIX_TRY(sumix_scratch_new(z, sumix_loss_scratch(&a), &scratch, status));
  a.scratch = scratch.data;
  const int failed = sumix_run_loss(z, &a, status);
  sumix_scratch_free(&scratch);
  return failed;
}
SUMIX_BOXED(sumix_loss, "logits", "raw_logits", "uncertainty", "raw_uncertainty", "y_a", "y_b", "perm", "lam", "weight",
            "learned")

/* The inputs come along unread: autograd then knows that a second derivative would depend on them, and refuses it. */
static int sumix_loss_backward(const StableIValue *args, StableIValue *results, struct sumix_status *status)
{
  struct sumix_tensor g, z, perm, grads[4];
  static const char *const names[] = {"grad_logits", "grad_uncertainty", "grad_raw", "grad_partner"};
  SUMIX_TRY(sumix_tensor_read_contiguous(args[0], "grad_loss", &g, status));
  SUMIX_TRY(sumix_tensor_read(args[1], "logits", &z, status));
  for (int t = 0; t < 4; t++) SUMIX_TRY(sumix_tensor_read_contiguous(args[5 + t], names[t], &grads[t], status));
  SUMIX_TRY(sumix_tensor_read_contiguous(args[9], "perm", &perm, status));
  SUMIX_CHECK(z.dim == 2 && sumix_is_floating(z.dtype), status, "logits must be (N, K), floating point");
  const enum sumix_dtype real = sumix_real_of(z.dtype);
  const bool plain = sumix_is_absent(&grads[1]), per_sample = !sumix_is_absent(&grads[3]);
  for (int t = 0; t < 4; t++)
    if (!(t == 1 && plain) && !(t == 3 && !per_sample))
      SUMIX_TRY(sumix_tensor_expect(&grads[t], real, 2, z.sizes, status));
  SUMIX_TRY(sumix_tensor_expect(&g, real, per_sample ? 1 : 0, z.sizes, status));
  SUMIX_TRY(sumix_tensor_expect(&perm, SUMIX_INT64, 1, z.sizes, status));

  struct sumix_loss_backward_args a = {
      .dtype = z.dtype,
      .per_sample = per_sample,
      .n = z.sizes[0],
      .k = z.sizes[1],
      .grad_loss = g.data,
      .perm = perm.data,
      .grad_z = grads[0].data,
      .grad_v = plain ? NULL : grads[1].data,
      .grad_u = grads[2].data,
      .grad_partner = per_sample ? grads[3].data : NULL,
  };
  SUMIX_TRY(new_gradient(&z, z.dtype, true, &results[0], &a.out_z, status));
  SUMIX_TRY(new_gradient(&z, z.dtype, !plain, &results[1], &a.out_v, status));
  SUMIX_TRY(new_gradient(&z, z.dtype, true, &results[2], &a.out_u, status));
  return sumix_run_loss_backward(&z, &a, status);
}
SUMIX_BOXED(sumix_loss_backward, "grad_loss", "logits", "raw_logits", "uncertainty", "raw_uncertainty", "grad_logits",
            "grad_uncertainty", "grad_raw", "grad_partner", "perm")

const struct sumix_op_entry sumix_loss_ops[] = {
    {"sumix_loss(Tensor logits, Tensor raw_logits, Tensor uncertainty, Tensor raw_uncertainty, Tensor y_a, Tensor y_b, "
     "Tensor perm, Tensor lam, Tensor weight, Tensor learned, int ratio, int weighting, int reduction, float gamma, "
     "float scale, float label_smoothing, int ignore_index, bool needs_grad) -> (Tensor loss, Tensor parts, Tensor "
     "grad_logits, "
     "Tensor grad_uncertainty, Tensor grad_raw, Tensor grad_partner)",
     "sumix_loss", boxed_sumix_loss},
    {"sumix_loss_backward(Tensor grad_loss, Tensor logits, Tensor raw_logits, Tensor uncertainty, Tensor "
     "raw_uncertainty, "
     "Tensor grad_logits, Tensor grad_uncertainty, Tensor grad_raw, Tensor grad_partner, Tensor perm) -> "
     "(Tensor, Tensor, Tensor)",
     "sumix_loss_backward", boxed_sumix_loss_backward},
    {0},
};
