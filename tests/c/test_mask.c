/* The top-k mask, and the number of pixels it keeps, without torch, in buffers of their exact size: every image against
 * ranks counted pair by pair, with ties, equal pixels, NaN, infinities, both zeros and subnormals, values out of range,
 * and the same bits on one thread and on several.
 *
 *   cc -std=c11 -D_GNU_SOURCE -g -O1 -fopenmp-simd -Wall -Wextra -Werror -fsanitize=address,undefined \
 *      -fno-sanitize-recover=all -ffp-contract=off -DSUMIX_NO_CONTRACTION \
 *      tests/c/test_mask.c csrc/cpu/[a-z]*.c -lm -lpthread -o test_mask && ./test_mask
 */
#include <math.h>
#include <string.h>

#include "no_torch.h"

/* An emulated block of threads takes its time, and more so under ThreadSanitizer. */
#ifdef SUMIX_TEST_CUDA
enum { IMAGES = 2, SIZES = 5 };
#else
enum { IMAGES = 10, SIZES = 9 };
#endif

static struct sumix_status status;

static int64_t below(int64_t end) { return (int64_t)(uniform() * (double)end); }

enum kind { SMOOTH, WIDE, FEW, EQUAL, SPECIAL, BITS, NUM_KINDS };

static float pixel(enum kind kind, int64_t j)
{
  static const float special[] = {NAN,    -NAN,    INFINITY, -INFINITY, 0.0f,         -0.0f,
                                  1e-45f, -1e-45f, 1e-39f,   3.4e38f,   -3.40282e38f, 1.0f};
  const uint32_t bits = (uint32_t)below(INT64_C(1) << 32);
  float any;
  memcpy(&any, &bits, sizeof any);
  switch (kind) {
    case SMOOTH: return sinf(0.1f * (float)j) + 0.01f * (float)uniform();
    case WIDE: return (float)(uniform() - 0.5) * powf(10, (float)below(70) - 35);
    case FEW: return (float)below(5) - 2;
    case EQUAL: return -1.5f;
    case SPECIAL: return special[below(sizeof special / sizeof *special)];
    default: return any;
  }
}

/* Whether pixel a ranks before pixel b. */
static bool before(const float *grey, int64_t a, int64_t b)
{
  const bool a_nan = isnan(grey[a]), b_nan = isnan(grey[b]);
  if (a_nan != b_nan) return a_nan;
  if (!a_nan && grey[a] != grey[b]) return grey[a] > grey[b];
  return a < b;
}

static float expected(int64_t rank, int64_t k, int64_t soft)
{
  if (rank < k - soft) return 1;
  if (rank >= k + soft) return 0;
  return (float)((double)(k + soft - 1 - rank) / (double)(2 * soft - 1));
}

static void test_top_k(enum kind kind, int64_t n, int64_t size)
{
  float *grey = exactly((size_t)(n * size) * sizeof *grey), *mask = exactly((size_t)(n * size) * sizeof *mask);
  int64_t *k = exactly((size_t)n * sizeof *k), *soft = exactly((size_t)n * sizeof *soft);
  for (int64_t j = 0; j < n * size; j++) grey[j] = pixel(kind, j);
  for (int64_t i = 0; i < n; i++) {
    static int images;
    const int image = images++;
    k[i] = image % 5 == 3 ? 0 : image % 5 == 4 ? size : below(size + 1);
    soft[i] = image % 2 ? below((k[i] < size - k[i] ? k[i] : size - k[i]) + 1) : 0;
  }
  for (int softly = 0; softly < 2; softly++)
    for (num_threads = 1; num_threads <= 3; num_threads += 2) {
      memset(mask, 0xa5, (size_t)(n * size) * sizeof *mask);
      const struct sumix_mask_top_k_args args = {n, size, grey, k, softly ? soft : NULL, mask, NULL};
      CHECK(sumix_mask_top_k_cpu_baseline(&args, &status) == 0);
      for (int64_t j = 0; j < n * size; j++) {
        const int64_t i = j / size;
        int64_t rank = 0;
        for (int64_t other = i * size; other < (i + 1) * size; other++) rank += before(grey, other, j);
        CHECK(mask[j] == expected(rank, k[i], softly ? soft[i] : 0));
      }
    }
  free(grey), free(mask), free(k), free(soft);
}

static void test_sample(int64_t n, int64_t size, double max_soft)
{
  const int64_t seed = -3;
  float *lam = exactly((size_t)n * sizeof *lam), *exact = exactly((size_t)n * sizeof *exact);
  int64_t *k[2], *soft = exactly((size_t)n * sizeof *soft);
  for (int64_t i = 0; i < n; i++) lam[i] = i < 2 ? (float)i : (float)uniform();
  for (int t = 0; t < 2; t++) {
    k[t] = exactly((size_t)n * sizeof **k);
    num_threads = 1 + 2 * t;
    const struct sumix_sample_top_k_args args = {&seed, n, size, max_soft, lam, k[t], soft, exact};
    CHECK(sumix_sample_top_k_cpu_baseline(&args, &status) == 0);
    for (int64_t i = 0; i < n; i++) {
      const int64_t most = k[t][i] < size - k[t][i] ? k[t][i] : size - k[t][i];
      CHECK(fabs((double)k[t][i] - (double)lam[i] * (double)size) < 1);
      CHECK(soft[i] >= 0 && soft[i] <= most && (double)soft[i] <= max_soft * (double)size);
      CHECK(exact[i] == (float)((double)k[t][i] / (double)size));
    }
  }
  CHECK(n == 0 || memcmp(k[0], k[1], (size_t)n * sizeof **k) == 0);
  free(lam), free(exact), free(k[0]), free(k[1]), free(soft);
}

static void test_bad_values(void)
{
  const int64_t seed = 0;
  const float bad[] = {-0.1f, 1.1f, NAN};
  float exact[2];
  int64_t made[2], edge[2];
  for (int b = 0; b < 3; b++) {
    const float lam[] = {0.5f, bad[b]};
    const struct sumix_sample_top_k_args sample = {&seed, 2, 9, 0.1, lam, made, edge, exact};
    CHECK(sumix_sample_top_k_cpu_baseline(&sample, &status) == -1 && blames(&status, "lam[1]"));
  }
  const float grey[6] = {0};
  float mask[6];
  int64_t k[] = {1, 2}, soft[] = {1, 1};
  const struct sumix_mask_top_k_args args = {2, 3, grey, k, soft, mask, NULL};
  CHECK(sumix_mask_top_k_cpu_baseline(&args, &status) == 0);
  for (int64_t wrong = -1; wrong <= 4; wrong += 5) {
    k[1] = wrong;
    CHECK(sumix_mask_top_k_cpu_baseline(&args, &status) == -1 && blames(&status, "k[1]"));
    k[1] = 2;
  }
  for (int64_t wrong = -1; wrong <= 2; wrong += 3) {
    soft[1] = wrong;
    CHECK(sumix_mask_top_k_cpu_baseline(&args, &status) == -1 && blames(&status, "soft[1]"));
    soft[1] = 1;
  }
}

int main(void)
{
  const int64_t sizes[] = {0, 1, 17, 257, 1024, 2, 3, 7, 64};
  for (enum kind kind = 0; kind < NUM_KINDS; kind++)
    for (size_t s = 0; s < SIZES; s++)
      for (int64_t n = 0; n <= IMAGES; n += IMAGES / 2) test_top_k(kind, n, sizes[s]);
  test_top_k(SMOOTH, 2, 4099);  // too large for a GPU's shared memory
  test_top_k(FEW, 2, 4100);
  for (int64_t n = 0; n <= 2000; n += 500)
    for (size_t s = 1; s < sizeof sizes / sizeof *sizes; s++) test_sample(n, sizes[s], (double)(s % 3) / 4);
  test_bad_values();
  puts("mask: passed");
  return 0;
}
