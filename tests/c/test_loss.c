/* The loss kernels without torch, in buffers of their exact size: every combination of options at odd shapes, values
 * out of range, and the same bits on one thread and on several. */
#include <math.h>
#include <string.h>

#include "no_torch.h"

/* The emulated CUDA kernels take their time: one combination of options in 31, and fewer samples. */
#ifdef SUMIX_TEST_CUDA
enum { EVERY = 31, MANY = 19 };
#else
enum { EVERY = 1, MANY = 401 };
#endif

struct batch {
  enum sumix_dtype dtype;
  int64_t n, k;
  void *z, *r, *v, *u, *lam, *weight, *label_weights;
  int64_t *y_a, *y_b, *perm;
  void *loss, *parts, *grad_z, *grad_v, *grad_u, *grad_partner;
};

static size_t size_of(enum sumix_dtype dtype) { return dtype == SUMIX_FLOAT64 ? 8 : dtype == SUMIX_FLOAT32 ? 4 : 2; }

/* 0x3c01 is about 1 as float16 and about 0.008 as bfloat16: any sign and low bits make usable logits of both. */
static void *random_rows(enum sumix_dtype dtype, int64_t count)
{
  void *rows = exactly((size_t)count * size_of(dtype));
  for (int64_t i = 0; i < count; i++) {
    const double value = 8 * uniform() - 4;
    if (dtype == SUMIX_FLOAT64) ((double *)rows)[i] = value;
    if (dtype == SUMIX_FLOAT32) ((float *)rows)[i] = (float)value;
    if (size_of(dtype) == 2)
      ((uint16_t *)rows)[i] = (uint16_t)(0x3c00 + (int)(uniform() * 1024) + (value < 0 ? 0x8000 : 0));
  }
  return rows;
}

static enum sumix_dtype real_of(enum sumix_dtype dtype)
{
  return dtype == SUMIX_FLOAT64 ? SUMIX_FLOAT64 : SUMIX_FLOAT32;
}

static struct batch new_batch(enum sumix_dtype dtype, int64_t n, int64_t k, bool repeats)
{
  const enum sumix_dtype real = real_of(dtype);
  struct batch b = {.dtype = dtype, .n = n, .k = k};
  b.z = random_rows(dtype, n * k), b.r = random_rows(dtype, n * k);
  b.v = random_rows(dtype, n * k), b.u = random_rows(dtype, n * k);
  b.lam = random_rows(real, n), b.weight = random_rows(real, k);
  b.label_weights = exactly((size_t)(3 * n) * size_of(real));
  for (int64_t i = 0; i < 3 * n; i++) {
    if (real == SUMIX_FLOAT64) ((double *)b.label_weights)[i] = uniform();
    if (real == SUMIX_FLOAT32) ((float *)b.label_weights)[i] = (float)uniform();
  }
  b.y_a = exactly((size_t)n * 8), b.y_b = exactly((size_t)n * 8), b.perm = exactly((size_t)n * 8);
  for (int64_t i = 0; i < n; i++) {
    b.y_a[i] = (int64_t)(uniform() * (double)k);
    b.y_b[i] = i % 5 == 4 ? -100 : (int64_t)(uniform() * (double)k);
    b.perm[i] = repeats ? (int64_t)(uniform() * (double)n) : n - 1 - i;
    if (real == SUMIX_FLOAT64) ((double *)b.lam)[i] = uniform();
    if (real == SUMIX_FLOAT32) ((float *)b.lam)[i] = (float)uniform();
  }
  const size_t real_size = size_of(real), rows = (size_t)(n * k) * real_size;
  b.loss = exactly((size_t)(n > 0 ? n : 1) * real_size), b.parts = exactly((size_t)(3 * n) * real_size);
  b.grad_z = exactly(rows), b.grad_v = exactly(rows), b.grad_u = exactly(rows), b.grad_partner = exactly(rows);
  return b;
}

static void free_batch(struct batch *b)
{
  void *all[] = {b->z,    b->r,    b->v,     b->u,      b->lam,    b->weight, b->y_a,         b->y_b, b->label_weights,
                 b->perm, b->loss, b->parts, b->grad_z, b->grad_v, b->grad_u, b->grad_partner};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

static struct sumix_loss_args arguments(const struct batch *b, bool plain, bool grads, enum sumix_reduction reduction)
{
  const bool whole = reduction == SUMIX_REDUCTION_NONE;
  return (struct sumix_loss_args){
      .dtype = b->dtype,
      .reduction = reduction,
      .n = b->n,
      .k = b->k,
      .z = b->z,
      .r = b->r,
      .v = plain ? NULL : b->v,
      .u = plain ? NULL : b->u,
      .y_a = b->y_a,
      .y_b = b->y_b,
      .perm = b->perm,
      .lam = b->lam,
      .gamma = 0.5,
      .scale = 3,
      .ignore_index = -100,
      .loss = b->loss,
      .parts = b->parts,
      .grad_z = grads ? b->grad_z : NULL,
      .grad_v = grads && !plain ? b->grad_v : NULL,
      .grad_u = grads ? b->grad_u : NULL,
      .grad_partner = grads && whole ? b->grad_partner : NULL,
  };
}

static double real_at(enum sumix_dtype dtype, const void *x, int64_t i)
{
  return dtype == SUMIX_FLOAT64 ? ((const double *)x)[i] : (double)((const float *)x)[i];
}

static void check_results(const struct batch *b, const struct sumix_loss_args *a)
{
  for (int64_t i = 0; i < b->n; i++) {
    const double ratio = real_at(b->dtype, a->parts, i);
    CHECK(ratio >= 0 && ratio <= 1 && isfinite(real_at(b->dtype, a->parts, b->n + i)));
    /* Of the classification term: the gradient by a shift of all logits of a sample is zero. */
    double sum = 0;
    for (int64_t j = 0; a->grad_z != NULL && a->grad_v != NULL && j < b->k; j++)
      sum += real_at(b->dtype, a->grad_z, i * b->k + j);
    CHECK(fabs(sum) < 1e-4);
  }
}

static void run_backward(const struct batch *b, const struct sumix_loss_args *a)
{
  const size_t rows = (size_t)(b->n * b->k) * size_of(b->dtype);
  void *out[3] = {exactly(rows), exactly(rows), exactly(rows)};
  struct sumix_status status;
  const struct sumix_loss_backward_args backward = {
      .dtype = b->dtype,
      .per_sample = a->grad_partner != NULL,
      .n = b->n,
      .k = b->k,
      .grad_loss = b->n > 0 ? b->lam : b->loss,
      .perm = b->perm,
      .grad_z = a->grad_z,
      .grad_v = a->grad_v,
      .grad_u = a->grad_u,
      .grad_partner = a->grad_partner,
      .out_z = out[0],
      .out_v = a->grad_v != NULL ? out[1] : NULL,
      .out_u = out[2],
  };
  CHECK(sumix_loss_backward_cpu_baseline(&backward, &status) == 0);
  for (int i = 0; i < 3; i++) free(out[i]);
}

static void test_every_option(void)
{
  static const int64_t shapes[][2] = {{0, 3}, {1, 1}, {3, 2}, {5, 17}, {2, 257}};
  struct sumix_status status;
  int number = 0;
  for (int dtype = SUMIX_FLOAT32; dtype <= SUMIX_BFLOAT16; dtype++)
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
      for (int bits = 0; bits < 32; bits++) {
        struct batch b = new_batch((enum sumix_dtype)dtype, shapes[s][0], shapes[s][1], bits & 1);
        for (int ratio = 0; ratio < SUMIX_NUM_RATIOS; ratio++)
          for (int weighting = 0; weighting < SUMIX_NUM_WEIGHTINGS; weighting++)
            for (int reduction = 0; reduction < SUMIX_NUM_REDUCTIONS; reduction++) {
              if (number++ % EVERY != 0) continue;
              struct sumix_loss_args a = arguments(&b, bits & 2, bits & 4, (enum sumix_reduction)reduction);
              a.ratio = (enum sumix_ratio)ratio;
              a.weighting = (enum sumix_weighting)weighting;
              if (bits & 8) a.class_weight = b.weight;
              if (bits & 16) a.label_smoothing = 0.1;
              if (a.ratio == SUMIX_RATIO_AREA && bits & 4) a.label_weights = b.label_weights;
              CHECK(sumix_loss_cpu_baseline(&a, &status) == 0);
              check_results(&b, &a);
              if (a.grad_z != NULL) run_backward(&b, &a);
            }
        free_batch(&b);
      }
}

static void test_values_out_of_range(void)
{
  struct sumix_status status;
  struct batch b = new_batch(SUMIX_FLOAT32, 4, 3, false);
  struct sumix_loss_args a = arguments(&b, false, true, SUMIX_REDUCTION_MEAN);
  const int64_t bad_labels[] = {-1, 3, INT64_MAX, INT64_MIN};
  for (size_t i = 0; i < 4; i++) {
    int64_t *const arrays[] = {b.y_a, b.y_b, b.perm};
    const int64_t bad_perm[] = {-1, 4, INT64_MAX, INT64_MIN};
    for (int which = 0; which < 3; which++) {
      const int64_t good = arrays[which][1];
      arrays[which][1] = which == 2 ? bad_perm[i] : bad_labels[i];
      CHECK(sumix_loss_cpu_baseline(&a, &status) == -1);
      CHECK(blames(&status, which == 0 ? "y_a[1]" : which == 1 ? "y_b[1]" : "perm[1]"));
      arrays[which][1] = good;
    }
  }
  const float bad_ratios[] = {-0.001f, 1.001f, NAN, INFINITY};
  for (size_t i = 0; i < 4; i++) {
    ((float *)b.lam)[2] = bad_ratios[i];
    CHECK(sumix_loss_cpu_baseline(&a, &status) == -1 && blames(&status, "lam[2]"));
    ((float *)b.lam)[2] = 0.5f;
    a.label_weights = b.label_weights;
    ((float *)b.label_weights)[7] = bad_ratios[i];
    const bool refused = sumix_loss_cpu_baseline(&a, &status) == -1;
    CHECK(isnan(bad_ratios[i]) ? !refused : refused && blames(&status, "learned[2, 1]"));
    a.label_weights = NULL;
  }
  free_batch(&b);
}

static void test_threads_do_not_change_a_bit(void)
{
  struct sumix_status status;
  for (int repeats = 0; repeats < 2; repeats++) {
    struct batch b = new_batch(SUMIX_FLOAT32, MANY, 129, repeats);
    const struct sumix_loss_args a = arguments(&b, false, true, SUMIX_REDUCTION_MEAN);
    const size_t bytes = (size_t)(b.n * b.k) * sizeof(float);
    float loss = 0;
    float *first = exactly(bytes);
    for (num_threads = 1; num_threads <= MAX_THREADS; num_threads++) {
      memset(b.grad_u, 255, bytes);
      CHECK(sumix_loss_cpu_baseline(&a, &status) == 0);
      if (num_threads == 1) {
        memcpy(first, b.grad_u, bytes);
        loss = *(float *)b.loss;
      }
      CHECK(memcmp(first, b.grad_u, bytes) == 0 && loss == *(float *)b.loss);
    }
    num_threads = 1;
    free(first);
    free_batch(&b);
  }
}

static void test_the_smaller_kernels(void)
{
  struct sumix_status status;
  static const int64_t shapes[][2] = {{0, 3}, {1, 1}, {3, 2}, {5, 17}, {2, 257}};
  for (int dtype = SUMIX_FLOAT32; dtype <= SUMIX_BFLOAT16; dtype++)
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
      struct batch b = new_batch((enum sumix_dtype)dtype, shapes[s][0], shapes[s][1], false);
      const size_t rows = (size_t)(b.n * b.k) * size_of(b.dtype);
      void *out = exactly(rows), *grad = exactly(rows);
      const struct sumix_uncertainty_args u = {b.dtype, b.n, b.k, b.z, out};
      const struct sumix_uncertainty_backward_args back = {b.dtype, b.n, b.k, out, b.r, grad};
      CHECK(sumix_uncertainty_cpu_baseline(&u, &status) == 0 &&
            sumix_uncertainty_backward_cpu_baseline(&back, &status) == 0);
      struct sumix_semantic_distance_args d = {b.dtype, b.n, b.k, b.z, b.r, b.y_a, 2, s % 2 == 0, out};
      CHECK(sumix_semantic_distance_cpu_baseline(&d, &status) == 0);
      if (b.n > 0) {
        b.y_a[0] = b.k;
        CHECK(sumix_semantic_distance_cpu_baseline(&d, &status) == -1 && blames(&status, "masked[0]"));
      }
      free(out);
      free(grad);
      free_batch(&b);
    }
}

int main(void)
{
  test_every_option();
  test_values_out_of_range();
  test_threads_do_not_change_a_bit();
  test_the_smaller_kernels();
  puts("loss: passed");
  return 0;
}
