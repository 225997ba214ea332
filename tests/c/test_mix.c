/* The mixing kernels without torch, in buffers of their exact size: every dtype at odd shapes against byte by byte and
 * double precision loops, values out of range, and the same bits on one thread and on several. */
#include "mixing.h"

static void test_box(struct sumix_layout l)
{
  const int64_t size = l.planes * l.height * l.width * l.pixel;
  uint8_t *x = exactly((size_t)(l.n * size)), *out = exactly((size_t)(l.n * size));
  for (int64_t k = 0; k < l.n * size; k++) x[k] = (uint8_t)below(256);
  for (int repeats = 0; repeats < 2; repeats++) {
    int64_t *box = random_boxes(l.n, l.height, l.width), *perm = random_partners(l.n, repeats);
    for (num_threads = 1; num_threads <= 3; num_threads += 2) {
      memset(out, 0xa5, (size_t)(l.n * size));
      const struct sumix_mix_box_args args = {l, x, box, perm, out};
      CHECK(sumix_mix_box_cpu_baseline(&args, &status) == 0);
      for (int64_t k = 0; k < l.n * size; k++) {
        const int64_t i = k / size, row = k % size / l.pixel / l.width;
        const bool pasted = inside(box + 4 * i, row % l.height, k / l.pixel % l.width);
        CHECK(out[k] == x[(pasted ? perm[i] : i) * size + k % size]);
      }
    }
    free(box), free(perm);
  }
  free(x), free(out);
}

static void test_linear(enum sumix_dtype dtype, int64_t n, int64_t size)
{
  void *x = random_elements(dtype, n * size), *out = exactly((size_t)(n * size) * sizes[dtype]);
  void *again = exactly((size_t)(n * size) * sizes[dtype]);
  double *expected = exactly((size_t)(n * size) * sizeof *expected);
  for (int repeats = 0; repeats < 2; repeats++) {
    int64_t *perm = random_partners(n, repeats);
    float *lam = random_lam(n);
    struct sumix_mix_linear_args args = {dtype, n, size, x, lam, perm, out};
    num_threads = 1;
    CHECK(sumix_mix_linear_cpu_baseline(&args, &status) == 0);
    for (int64_t k = 0; k < n * size; k++) {
      const int64_t i = k / size;
      const double exact = lam[i] * get(dtype, x, k) + (1.0 - lam[i]) * get(dtype, x, perm[i] * size + k % size);
      CHECK(fabs(get(dtype, out, k) - exact) <= tolerance(dtype, fabs(exact)));
    }
    num_threads = 3, args.out = again;
    CHECK(sumix_mix_linear_cpu_baseline(&args, &status) == 0);
    CHECK(memcmp(out, again, (size_t)(n * size) * sizes[dtype]) == 0);

    if (dtype < SUMIX_UINT8) {
      struct sumix_mix_linear_backward_args back = {dtype, n, size, x, lam, perm, out};
      num_threads = 1;
      CHECK(sumix_mix_linear_backward_cpu_baseline(&back, &status) == 0);
      for (int64_t k = 0; k < n * size; k++) expected[k] = lam[k / size] * get(dtype, x, k);
      for (int64_t k = 0; k < n * size; k++)
        expected[perm[k / size] * size + k % size] += (1.0 - lam[k / size]) * get(dtype, x, k);
      for (int64_t k = 0; k < n * size; k++)
        CHECK(fabs(get(dtype, out, k) - expected[k]) <= tolerance(dtype, fabs(expected[k])));
      num_threads = 3, back.grad_x = again;
      CHECK(sumix_mix_linear_backward_cpu_baseline(&back, &status) == 0);
      CHECK(memcmp(out, again, (size_t)(n * size) * sizes[dtype]) == 0);
    }
    free(perm), free(lam);
  }
  free(x), free(out), free(again), free(expected);
}

static void test_box_backward(enum sumix_dtype dtype, struct sumix_layout l, int64_t channels)
{
  l.pixel = channels * (int64_t)sizes[dtype];
  const int64_t size = l.planes * l.height * l.width * channels, count = l.n * size;
  void *g = random_elements(dtype, count), *out = exactly((size_t)count * sizes[dtype]);
  void *again = exactly((size_t)count * sizes[dtype]);
  double *expected = exactly((size_t)count * sizeof *expected);
  for (int repeats = 0; repeats < 2; repeats++) {
    int64_t *box = random_boxes(l.n, l.height, l.width), *perm = random_partners(l.n, repeats);
    struct sumix_mix_box_backward_args args = {dtype, l, g, box, perm, out};
    num_threads = 1;
    CHECK(sumix_mix_box_backward_cpu_baseline(&args, &status) == 0);
    for (int64_t k = 0; k < count; k++) expected[k] = 0;
    for (int64_t k = 0; k < count; k++) {
      const int64_t i = k / size, row = k % size / channels / l.width;
      const bool pasted = inside(box + 4 * i, row % l.height, k / channels % l.width);
      expected[(pasted ? perm[i] : i) * size + k % size] += get(dtype, g, k);
    }
    for (int64_t k = 0; k < count; k++)
      CHECK(fabs(get(dtype, out, k) - expected[k]) <= tolerance(dtype, fabs(expected[k])));
    num_threads = 3, args.grad_x = again;
    CHECK(sumix_mix_box_backward_cpu_baseline(&args, &status) == 0);
    CHECK(memcmp(out, again, (size_t)count * sizes[dtype]) == 0);
    free(box), free(perm);
  }
  free(g), free(out), free(again), free(expected);
}

static void test_bad_values(void)
{
  const double bad[] = {-0.5, 1.5, NAN};
  const float x[8] = {0};
  float out[8];
  int64_t box[] = {0, 0, 1, 1, 0, 0, 1, 1}, perm[] = {1, 0}, labels[] = {0, 1};
  float lam[] = {0.5f, 0.5f};
  const struct sumix_layout l = {2, 1, 2, 2, 4};
  const struct sumix_mix_box_args mix = {l, x, box, perm, out};
  const struct sumix_mix_box_backward_args back = {SUMIX_FLOAT32, l, x, box, perm, out};
  const struct sumix_mix_linear_args linear = {SUMIX_FLOAT32, 2, 4, x, lam, perm, out};
  const struct sumix_mix_linear_backward_args linear_back = {SUMIX_FLOAT32, 2, 4, x, lam, perm, out};
  const struct sumix_soft_labels_args soft = {2, 4, labels, perm, lam, 0.1, out};

  for (int side = 0; side < 4; side++)
    for (int64_t wrong = -1; wrong <= 3; wrong += 4) {
      const int64_t right = box[4 + side];
      box[4 + side] = wrong;
      CHECK(sumix_mix_box_cpu_baseline(&mix, &status) == -1 && blames(&status, "box[1]"));
      CHECK(sumix_mix_box_backward_cpu_baseline(&back, &status) == -1);
      box[4 + side] = right;
    }
  for (int64_t wrong = -1; wrong <= 2; wrong += 3) {
    perm[1] = wrong;
    CHECK(sumix_mix_box_cpu_baseline(&mix, &status) == -1 && blames(&status, "perm[1]"));
    CHECK(sumix_mix_box_backward_cpu_baseline(&back, &status) == -1);
    CHECK(sumix_mix_linear_cpu_baseline(&linear, &status) == -1);
    CHECK(sumix_mix_linear_backward_cpu_baseline(&linear_back, &status) == -1);
    perm[1] = 0;
  }
  for (int64_t wrong = -1; wrong <= 4; wrong += 5) {
    labels[1] = wrong;
    CHECK(sumix_soft_labels_cpu_baseline(&soft, &status) == -1 && blames(&status, "y_a[1]"));
    labels[1] = 1;
  }
  for (int b = 0; b < 3; b++) {
    lam[1] = (float)bad[b];
    CHECK(sumix_mix_linear_cpu_baseline(&linear, &status) == -1 && blames(&status, "lam[1]"));
    CHECK(sumix_mix_linear_backward_cpu_baseline(&linear_back, &status) == -1);
    CHECK(sumix_soft_labels_cpu_baseline(&soft, &status) == -1);
    lam[1] = 0.5f;
  }
  CHECK(sumix_mix_box_cpu_baseline(&mix, &status) == 0);
  CHECK(sumix_soft_labels_cpu_baseline(&soft, &status) == 0);
  CHECK(fabsf(out[0] - (0.025f + 0.45f)) < 1e-6f && fabsf(out[1] - (0.025f + 0.45f)) < 1e-6f && out[2] == 0.025f);
}

/* Rows from one byte to several times what is copied at once, batches of one, and images without pixels. */
static const struct sumix_layout layouts[] = {
    {6, 1, 2, 3, 1},   {0, 3, 4, 4, 4},   {1, 1, 1, 1, 1},  {1, 3, 17, 257, 4}, {2, 1, 1, 1, 1},   {5, 3, 7, 3, 1},
    {4, 1, 9, 11, 12}, {7, 2, 5, 8, 4},   {3, 1, 6, 33, 1}, {6, 3, 32, 32, 4},  {3, 1, 3, 1, 96},  {2, 2, 3, 1300, 4},
    {9, 1, 4, 5, 16},  {2, 1, 40, 32, 4}, {3, 1, 0, 5, 4},  {3, 2, 5, 0, 4},    {4, 1, 2, 700, 6},
};

/* Emulated, every thread of every block costs some 30 us under ThreadSanitizer. */
#ifdef SUMIX_TEST_CUDA
enum { BOXES = 1, BATCHES = 1 };
#else
enum { BOXES = 5, BATCHES = 6 };
#endif

int main(void)
{
  const int64_t batches[] = {5, 1, 0, 2, 3, 4};
  const int64_t linear_sizes[] = {0, 1, 7, 33, 2047, 2048, 2049, 5000};
  for (size_t k = 0; k < sizeof layouts / sizeof *layouts; k++)
    for (int again = 0; again < BOXES; again++) {
      test_box(layouts[k]);
      for (enum sumix_dtype dtype = SUMIX_FLOAT32; dtype <= SUMIX_BFLOAT16; dtype++)
        test_box_backward(dtype, layouts[k], 1 + again % 3);
    }
  for (enum sumix_dtype dtype = SUMIX_FLOAT32; dtype < SUMIX_OTHER; dtype++)
    for (size_t k = 0; k < sizeof linear_sizes / sizeof *linear_sizes; k++)
      for (int b = 0; b < BATCHES; b++) test_linear(dtype, batches[b], linear_sizes[k]);
  test_bad_values();
  puts("mix: passed");
  return 0;
}
