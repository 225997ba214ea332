/* Masks cut from maps of evidence, without torch, in buffers of their exact size: every pixel against the formula in
 * double, sums against the mask itself, the same bits on one thread and on several, and values out of range.
 *
 *   cc -std=c11 -D_GNU_SOURCE -g -O1 -fopenmp-simd -Wall -Wextra -Werror -fsanitize=address,undefined \
 *      -fno-sanitize-recover=all -ffp-contract=off -DSUMIX_NO_CONTRACTION \
 *      tests/c/test_evidence_mask.c csrc/cpu/[a-z]*.c -lm -lpthread -o test_evidence_mask && ./test_evidence_mask
 */
#include <math.h>
#include <string.h>

#include "no_torch.h"

static struct sumix_status status;

/* The map enlarged, at one coordinate of an axis: between which cells, and how far. */
static double between(int64_t at, int64_t cells, int64_t pixels, int64_t *first, int64_t *second)
{
  const double s = fmax(0, ((double)at + 0.5) * (double)cells / (double)pixels - 0.5);
  *first = (int64_t)s < cells - 1 ? (int64_t)s : cells - 1;
  *second = *first + 1 < cells ? *first + 1 : cells - 1;
  return cells == pixels ? 0 : s - (double)*first;
}

static double enlarged(const struct sumix_evidence_mask_args *a, const float *map, int64_t y, int64_t x)
{
  int64_t top, bottom, left, right;
  const double down = between(y, a->h, a->height, &top, &bottom), across = between(x, a->w, a->width, &left, &right);
  const double above = (1 - across) * map[top * a->w + left] + across * map[top * a->w + right];
  const double below = (1 - across) * map[bottom * a->w + left] + across * map[bottom * a->w + right];
  return (1 - down) * above + down * below;
}

static void check_image(const struct sumix_evidence_mask_args *a, int64_t i)
{
  const int64_t cells = a->h * a->w, pixels = a->height * a->width;
  const float *map = a->evidence + i * cells;
  double most = 0, sum = 0;
  for (int64_t p = 0; p < cells; p++) most = fmax(most, map[p]);
  for (int64_t p = 0; p < pixels; p++) {
    const double above = enlarged(a, map, p / a->width, p % a->width) / most - a->threshold;
    const double own = a->hard ? ((const uint8_t *)a->mask)[i * pixels + p] : ((const float *)a->mask)[i * pixels + p];
    sum += own;
    if (!a->paste[i] || most == 0)
      CHECK(own == 1);
    else if (!a->hard)
      CHECK(fabs(own - (1 - fmin(fmax(above / a->soft + 0.5, 0), 1))) < 1e-5 / a->soft);
    else if (fabs(above) > 1e-6)
      CHECK(own == (above > 0 ? 0 : 1));
  }
  CHECK(fabs(sum / (double)pixels - a->lam[i]) < 1e-6);
}

static void test_masks(int64_t n, int64_t h, int64_t w, int64_t height, int64_t width, float threshold, float soft)
{
  const size_t lane = soft > 0 ? sizeof(float) : 1, bytes = (size_t)(n * height * width) * lane;
  float *evidence = exactly((size_t)(n * h * w) * sizeof *evidence), *lam[2];
  uint8_t *paste = exactly((size_t)n);
  void *mask[2];
  for (int64_t j = 0; j < n * h * w; j++) evidence[j] = j / (h * w) % 4 == 2 ? 0 : (float)(uniform() * uniform());
  memset(paste, 1, (size_t)n);
  if (n > 1) paste[n - 2] = 0;
  for (int t = 0; t < 2; t++) {
    num_threads = 1 + 2 * t;
    mask[t] = exactly(bytes), lam[t] = exactly((size_t)n * sizeof **lam);
    memset(mask[t], 0xa5, bytes);
    const struct sumix_evidence_mask_args args = {n,         h,    w,        height, width,   soft == 0,
                                                  threshold, soft, evidence, paste,  mask[t], lam[t]};
    CHECK(sumix_evidence_mask_cpu_baseline(&args, &status) == 0);
    for (int64_t i = 0; i < n; i++) check_image(&args, i);
  }
  CHECK(n == 0 || (memcmp(mask[0], mask[1], bytes) == 0 && memcmp(lam[0], lam[1], (size_t)n * sizeof **lam) == 0));
  for (int t = 0; t < 2; t++) free(mask[t]), free(lam[t]);
  free(evidence), free(paste);
}

static void test_bad_values(void)
{
  float evidence[8] = {0}, lam[2];
  uint8_t paste[2] = {1, 1}, mask[8];
  const struct sumix_evidence_mask_args args = {2, 2, 2, 2, 2, true, 0.25f, 0, evidence, paste, mask, lam};
  CHECK(sumix_evidence_mask_cpu_baseline(&args, &status) == 0);
  evidence[5] = -1;
  CHECK(sumix_evidence_mask_cpu_baseline(&args, &status) == -1 && blames(&status, "evidence[1]"));
  evidence[5] = 0, paste[1] = 2;
  CHECK(sumix_evidence_mask_cpu_baseline(&args, &status) == -1 && blames(&status, "paste[1]"));
}

int main(void)
{
  const int64_t sides[][4] = {{1, 1, 1, 1}, {7, 7, 32, 32}, {3, 5, 17, 65}, {1, 9, 1, 257}, {9, 8, 5, 3}, {4, 4, 4, 4}};
  for (size_t s = 0; s < sizeof sides / sizeof *sides; s++)
    for (int64_t n = 0; n <= 6; n += 3)
      for (int soft = 0; soft < 2; soft++)
        test_masks(n, sides[s][0], sides[s][1], sides[s][2], sides[s][3], 0.25f + 0.1f * (float)soft,
                   0.3f * (float)soft);
  test_bad_values();
  puts("evidence_mask: passed");
  return 0;
}
