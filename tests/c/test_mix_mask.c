/* mix_mask without torch, in buffers of their exact size: every dtype, masks of floats and bytes, planes and pixels of
 * several channels, against loops in double precision; values out of range; the same bits on any number of threads.
 */
#include "mixing.h"

/* Weights of every kind: any, and 0 or 1, alone and all over a sample. */
static struct sumix_mask random_mask(int64_t n, int64_t pixels, bool binary, bool alike)
{
  const int64_t count = alike ? 1 : pixels;
  uint8_t *const bytes = exactly((size_t)(n * count));
  float *const floats = exactly((size_t)(n * count) * sizeof *floats);
  for (int64_t i = 0; i < n; i++) {
    const int64_t kind = below(4);
    for (int64_t k = i * count; k < (i + 1) * count; k++) {
      bytes[k] = kind == 0 ? 1 : kind == 1 ? 0 : (uint8_t)below(2);
      floats[k] = kind == 0 ? 1 : kind == 1 ? 0 : below(4) == 0 ? (float)below(2) : (float)uniform();
    }
  }
  free(binary ? (void *)floats : (void *)bytes);
  return (struct sumix_mask){binary ? (void *)bytes : (void *)floats, binary, alike};
}

static double weight_of(struct sumix_mask mask, int64_t i, int64_t pixels, int64_t pixel)
{
  const int64_t at = mask.uniform ? i : i * pixels + pixel;
  return mask.binary ? ((const uint8_t *)mask.values)[at] : (double)((const float *)mask.values)[at];
}

static void test_forward(enum sumix_dtype dtype, struct sumix_layout l, int64_t channels, struct sumix_mask mask)
{
  l.pixel = channels * (int64_t)sizes[dtype];
  const int64_t pixels = l.height * l.width, size = l.planes * pixels * channels, count = l.n * size;
  void *x = random_elements(dtype, count), *out = exactly((size_t)count * sizes[dtype]);
  void *again = exactly((size_t)count * sizes[dtype]);
  int64_t *perm = random_partners(l.n, below(2));
  struct sumix_mix_mask_args args = {dtype, l, (int64_t)sizes[dtype], x, mask, perm, out};
  num_threads = 1;
  CHECK(sumix_mix_mask_cpu_baseline(&args, &status) == 0);
  for (int64_t k = 0; k < count; k++) {
    const int64_t i = k / size;
    const double w = weight_of(mask, i, pixels, k / channels % pixels);
    const double exact = w * get(dtype, x, k) + (1 - w) * get(dtype, x, perm[i] * size + k % size);
    CHECK(fabs(get(dtype, out, k) - exact) <= (mask.binary ? 0 : tolerance(dtype, fabs(exact))));
  }
  num_threads = 3, args.out = again;
  CHECK(sumix_mix_mask_cpu_baseline(&args, &status) == 0);
  CHECK(memcmp(out, again, (size_t)count * sizes[dtype]) == 0);
  free(x), free(out), free(again), free(perm);
}

static void test_backward(enum sumix_dtype dtype, struct sumix_layout l, int64_t channels, struct sumix_mask mask)
{
  l.pixel = channels * (int64_t)sizes[dtype];
  const int64_t pixels = l.height * l.width, size = l.planes * pixels * channels, count = l.n * size;
  void *g = random_elements(dtype, count), *out = exactly((size_t)count * sizes[dtype]);
  void *again = exactly((size_t)count * sizes[dtype]);
  double *expected = exactly((size_t)count * sizeof *expected);
  int64_t *perm = random_partners(l.n, below(2));
  struct sumix_mix_mask_backward_args args = {dtype, l, g, mask, perm, out};
  num_threads = 1;
  CHECK(sumix_mix_mask_backward_cpu_baseline(&args, &status) == 0);
  for (int64_t k = 0; k < count; k++) expected[k] = 0;
  for (int64_t k = 0; k < count; k++) {
    const double w = weight_of(mask, k / size, pixels, k / channels % pixels);
    expected[k] += w * get(dtype, g, k);
    expected[perm[k / size] * size + k % size] += (1 - w) * get(dtype, g, k);
  }
  for (int64_t k = 0; k < count; k++)
    CHECK(fabs(get(dtype, out, k) - expected[k]) <= tolerance(dtype, fabs(expected[k])));
  num_threads = 3, args.grad_x = again;
  CHECK(sumix_mix_mask_backward_cpu_baseline(&args, &status) == 0);
  CHECK(memcmp(out, again, (size_t)count * sizes[dtype]) == 0);
  free(g), free(out), free(again), free(expected), free(perm);
}

static void test_bad_values(void)
{
  const float bad[] = {-0.5f, 1.5f, NAN}, x[8] = {0};
  float out[8], weights[8] = {0};
  int64_t perm[] = {1, 0};
  const struct sumix_layout l = {2, 1, 2, 2, 4};
  const struct sumix_mask mask = {weights, false, false};
  const struct sumix_mix_mask_args mix = {SUMIX_FLOAT32, l, 4, x, mask, perm, out};
  const struct sumix_mix_mask_backward_args back = {SUMIX_FLOAT32, l, x, mask, perm, out};
  for (int b = 0; b < 3; b++) {
    weights[6] = bad[b];
    CHECK(sumix_mix_mask_cpu_baseline(&mix, &status) == -1 && blames(&status, "mask[1, 1, 0]"));
    CHECK(sumix_mix_mask_backward_cpu_baseline(&back, &status) == -1 && blames(&status, "mask[1, 1, 0]"));
    weights[6] = 0;
  }
  for (int64_t wrong = -1; wrong <= 2; wrong += 3) {
    perm[1] = wrong;
    CHECK(sumix_mix_mask_cpu_baseline(&mix, &status) == -1 && blames(&status, "perm[1]"));
    CHECK(sumix_mix_mask_backward_cpu_baseline(&back, &status) == -1);
    perm[1] = 0;
  }
  CHECK(sumix_mix_mask_cpu_baseline(&mix, &status) == 0);
}

static const struct sumix_layout layouts[] = {{5, 3, 7, 3, 0},   {3, 1, 1, 1, 0},    {4, 2, 9, 11, 0}, {0, 3, 4, 4, 0},
                                              {3, 1, 20, 50, 0}, {2, 2, 3, 1300, 0}, {3, 0, 4, 5, 0},  {2, 1, 0, 5, 0}};
static const int64_t channel_counts[] = {1, 3, 5, 2100};

/* Emulated, a block's threads take their time under ThreadSanitizer: there one combination in seven. */
#if defined SUMIX_TEST_CUDA && defined __SANITIZE_THREAD__
enum { EVERY = 7 };
#else
enum { EVERY = 1 };
#endif

int main(void)
{
  int combinations = 0;
  for (size_t k = 0; k < sizeof layouts / sizeof *layouts; k++)
    for (size_t c = 0; c < sizeof channel_counts / sizeof *channel_counts; c++) {
      const struct sumix_layout l = layouts[k];
      if (l.height * l.width * channel_counts[c] > (channel_counts[c] < 2000 ? 4000 : 2100) && l.planes > 0) continue;
      for (int kind = 0; kind < 4; kind++) {
        const struct sumix_mask mask = random_mask(l.n, l.height * l.width, kind & 1, kind & 2);
        for (enum sumix_dtype dtype = SUMIX_FLOAT32; dtype < SUMIX_OTHER; dtype++) {
          if (combinations++ % EVERY != 0) continue;
          test_forward(dtype, l, channel_counts[c], mask);
          if (dtype < SUMIX_UINT8) test_backward(dtype, l, channel_counts[c], mask);
        }
        free((void *)mask.values);
      }
    }
  test_bad_values();
  puts("mix_mask: passed");
  return 0;
}
