/* The sampling kernels without torch, in buffers of their exact size: Philox against its published vectors, blocks of
 * draws against single ones, the elementary functions against libm, what partners promise, and a checksum of everything
 * drawn, which must come out the same for every compiler, set of flags and number of threads. */
#include <math.h>
#include <string.h>

#include "../../csrc/cpu/philox.h"
#include "no_torch.h"

static struct sumix_status status;

static void test_published_vectors(void)
{
  static const struct {
    uint64_t seed, sample;
    uint32_t draw, stream, words[4];
  } known[] = {
      {0, 0, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {UINT64_MAX, UINT64_MAX, UINT32_MAX, UINT32_MAX, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {0x299f31d0a4093822,
       0x85a308d3243f6a88,
       0x13198a2e,
       0x03707344,
       {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  for (size_t k = 0; k < sizeof known / sizeof *known; k++) {
    const struct sumix_words words = sumix_philox(known[k].seed, known[k].sample, known[k].draw, known[k].stream);
    CHECK(memcmp(words.w, known[k].words, sizeof words.w) == 0);
  }
}

static void test_blocks(void)
{
  static const uint64_t samples[] = {0, 5, UINT32_MAX - 60, UINT64_MAX - 3};  // counters that carry, and that wrap
  struct sumix_block block;
  for (size_t s = 0; s < sizeof samples / sizeof *samples; s++)
    for (int64_t count = 0; count <= SUMIX_BLOCK; count += count < 18 ? 1 : 22)
      for (int of_samples = 0; of_samples < 2; of_samples++) {
        const uint32_t draw = (uint32_t)samples[s] * 3;
        sumix_philox_block(UINT64_C(0x9876543210abcdef), samples[s], draw, 6, of_samples, count, &block);
        for (uint32_t j = 0; j < count; j++) {
          const struct sumix_words one = sumix_philox(UINT64_C(0x9876543210abcdef), samples[s] + (of_samples ? j : 0),
                                                      draw + (of_samples ? 0 : j), 6);
          const struct sumix_words same = sumix_words_of(&block, j);
          CHECK(memcmp(one.w, same.w, sizeof one.w) == 0);
        }
      }
}

static double ulps(double got, long double want) { return (double)(fabsl(got - want) / ldexpl(1, ilogbl(want) - 52)); }
static double ulps_f32(double got, double want) { return fabs(got - want) / ldexp(1, ilogb(want) - 23); }

static void test_functions(void)
{
  const long double pi = 3.14159265358979323846264338327950288L;
  double log_error = 0, exp_error = 0, rest_error = 0, sin_error = 0, radius_error = 0, normal_error = 0;
  for (int i = 0; i < 400000; i++) {
    const double u = 1 - uniform(), small = ldexp(u, -(i % 60)), x = -708 * ldexp(uniform(), -(i % 40)),
                 turn = uniform();
    double power, rest;
    if (small < 1) log_error = fmax(log_error, ulps(sumix_exact_log_f64(small), logl(small)));
    sumix_exact_exp_f64(x, &power, &rest);
    exp_error = fmax(exp_error, ulps(power, expl(x)));
    if (x < 0) rest_error = fmax(rest_error, ulps(rest, -expm1l(x)));
    if (turn > 0) sin_error = fmax(sin_error, ulps(sumix_exact_sin_f64(turn), sinl(pi / 2 * turn)));

    /* Words of every size, at both ends of the range. */
    const uint32_t size = (uint32_t)(uniform() * 0x1p32) >> (i % 32), word = i & 64 ? ~size : size;
    const uint32_t other = (uint32_t)(uniform() * 0x1p32);
    const double square = (double)(-2 * logl((word + 0.5L) / 0x1p32L)), radius = sqrt(square);
    radius_error = fmax(radius_error, ulps_f32(sumix_square_radius(word), square));
    float a, b;
    sumix_normals(word, other, &a, &b);
    const double cosine = radius * (double)cosl(2 * pi * other / 0x1p32L),
                 sine = radius * (double)sinl(2 * pi * other / 0x1p32L);
    if (cosine != 0) normal_error = fmax(normal_error, ulps_f32(a, cosine));
    if (sine != 0) normal_error = fmax(normal_error, ulps_f32(b, sine));
  }
  printf("log %.2f ulp, exp %.2f, 1 - exp %.2f, sin %.2f; float: -2 log %.2f, normal %.2f\n", log_error, exp_error,
         rest_error, sin_error, radius_error, normal_error);
  CHECK(log_error < 4 && exp_error < 4 && rest_error < 4 && sin_error < 4 && radius_error < 4 && normal_error < 5);
  double power, rest;
  sumix_exact_exp_f64(-INFINITY, &power, &rest);
  CHECK(power == 0 && rest == 1);
  sumix_exact_exp_f64(-0.0, &power, &rest);
  CHECK(power == 1 && rest == 0);
  CHECK(sumix_exact_log_f64(1) == 0);
  float a, b;
  sumix_normals(0, 0, &a, &b);
  CHECK(fabsf(a - 6.7637f) < 1e-3f && b == 0);
}

/* Of everything drawn, in order. */
static uint64_t checksum = UINT64_C(14695981039346656037);

static void add(const void *bytes, size_t count)
{
  for (size_t i = 0; i < count; i++) checksum = (checksum ^ ((const uint8_t *)bytes)[i]) * UINT64_C(1099511628211);
}

static void test_lam(const int64_t *seed, int64_t n)
{
  const double alphas[] = {1e-300, 0.05, 0.2, 1, 2, 100, 1e30}, ps[] = {1, 0.5, 0};
  float *lam = exactly((size_t)n * sizeof *lam);
  for (size_t k = 0; k < 7; k++)
    for (size_t p = 0; p < 3; p++) {
      CHECK(sumix_sample_lam_cpu_baseline(&(struct sumix_sample_lam_args){seed, n, alphas[k], ps[p], lam}, &status) ==
            0);
      for (int64_t i = 0; i < n; i++) CHECK(lam[i] >= 0 && lam[i] <= 1 && (ps[p] != 0 || lam[i] == 1));
      add(lam, (size_t)n * sizeof *lam);
    }
  free(lam);
}

static void test_perm(const int64_t *seed, int64_t n, int64_t classes)
{
  int64_t *labels = exactly((size_t)n * sizeof *labels), *perm = exactly((size_t)n * sizeof *perm);
  int64_t *seen = exactly((size_t)n * sizeof *seen), *sizes = exactly((size_t)classes * sizeof *sizes);
  memset(sizes, 0, (size_t)classes * sizeof *sizes);
  for (int64_t i = 0; i < n; i++) labels[i] = i * i % classes - 1, sizes[labels[i] + 1]++;
  int64_t largest = 0;
  for (int64_t k = 0; k < classes; k++) largest = sizes[k] > largest ? sizes[k] : largest;
  for (int partners = 0; partners < SUMIX_NUM_PARTNERS; partners++) {
    const struct sumix_sample_perm_args args = {seed, (enum sumix_partners)partners, n,
                                                partners == SUMIX_PARTNERS_CROSS_CLASS ? labels : NULL, perm};
    CHECK(sumix_sample_perm_cpu_baseline(&args, &status) == 0);
    add(perm, (size_t)n * sizeof *perm);
    memset(seen, 0, (size_t)n * sizeof *seen);
    int64_t met = 0;
    for (int64_t i = 0; i < n; i++) {
      CHECK(perm[i] >= 0 && perm[i] < n && seen[perm[i]]++ == 0);
      CHECK(partners == SUMIX_PARTNERS_ANY || n == 1 || perm[i] != i);
      met += labels[i] == labels[perm[i]];
    }
    if (partners == SUMIX_PARTNERS_CROSS_CLASS) CHECK(met == (2 * largest > n ? 2 * largest - n : 0));
    int64_t length = n > 0;
    if (partners == SUMIX_PARTNERS_NO_FIXED_POINTS && n > 0) {
      for (int64_t at = perm[0]; at != 0; at = perm[at]) length++;
      CHECK(length == n);
    }
  }
  free(labels), free(perm), free(seen), free(sizes);
}

static void test_boxes(const int64_t *seed, int64_t n, int64_t height, int64_t width)
{
  const double alphas[] = {0.3, 1, 0}, shares[][2] = {{0.1, 0.8}, {0, 1}, {0.5, 0.5}, {1, 1}};
  int64_t *box = exactly((size_t)(4 * n) * sizeof *box);
  float *lam = exactly((size_t)n * sizeof *lam);
  for (int kind = 0; kind < SUMIX_NUM_BOX_KINDS; kind++)
    for (size_t k = 0; k < (kind == SUMIX_BOX_RESIZE ? 3 : 2); k++)
      for (size_t s = 0; s < 4; s++) {
        const struct sumix_sample_box_args args = {.seed = seed,
                                                   .kind = (enum sumix_box_kind)kind,
                                                   .n = n,
                                                   .height = height,
                                                   .width = width,
                                                   .alpha = alphas[k],
                                                   .p = s % 2 ? 0.7 : 1,
                                                   .low = shares[s][0],
                                                   .high = shares[s][1],
                                                   .box = box,
                                                   .lam = lam};
        CHECK(sumix_sample_box_cpu_baseline(&args, &status) == 0);
        add(box, (size_t)(4 * n) * sizeof *box);
        add(lam, (size_t)n * sizeof *lam);
        for (int64_t i = 0; i < n; i++) {
          const int64_t *const b = box + 4 * i;
          CHECK(0 <= b[0] && b[0] <= b[2] && b[2] <= width && 0 <= b[1] && b[1] <= b[3] && b[3] <= height);
          CHECK(lam[i] >= 0 && lam[i] <= 1);
        }
      }
  free(box), free(lam);
}

static void test_noise(const int64_t *seed, int64_t n, int64_t size)
{
  float *out = exactly((size_t)(n * size) * sizeof *out);
  CHECK(sumix_sample_uniform_cpu_baseline(&(struct sumix_sample_uniform_args){{seed, n, size, out}}, &status) == 0);
  for (int64_t k = 0; k < n * size; k++) CHECK(out[k] >= 0 && out[k] < 1);
  add(out, (size_t)(n * size) * sizeof *out);
  CHECK(sumix_sample_normal_cpu_baseline(&(struct sumix_sample_normal_args){{seed, n, size, out}}, &status) == 0);
  for (int64_t k = 0; k < n * size; k++) CHECK(fabsf(out[k]) < 6.8f);
  add(out, (size_t)(n * size) * sizeof *out);
  free(out);
}

static void test_cut_box(void)
{
  const float lams[] = {0, 0.25f, 0.5f, 1 - 0x1p-24f, 1}, bad[] = {-0.5f, 1.5f, NAN};
  int64_t box[8];
  float exact[2];
  for (int64_t height = 1; height < 40; height += 13)
    for (int64_t width = 1; width < 40; width += 19)
      for (int s = 0; s < 5; s++)
        for (int corner = 0; corner < 2; corner++) {
          const int64_t centre[] = {corner ? width - 1 : 0, corner ? height - 1 : 0};
          const struct sumix_cut_box_args args = {1, height, width, &lams[s], centre, box, exact};
          CHECK(sumix_cut_box_cpu_baseline(&args, &status) == 0);
          CHECK(0 <= box[0] && box[0] <= box[2] && box[2] <= width && 0 <= box[1] && box[1] <= box[3] &&
                box[3] <= height);
          CHECK(exact[0] == (float)(1 - (double)((box[2] - box[0]) * (box[3] - box[1])) / (double)(height * width)));
          CHECK(lams[s] != 1 || (exact[0] == 1 && box[0] == box[2]));
        }
  const float fine[] = {0.5f, 0.5f};
  for (int b = 0; b < 3; b++) {
    const float wrong[] = {0.5f, bad[b]};
    const int64_t centre[] = {0, 0, 3, 3};
    const struct sumix_cut_box_args args = {2, 4, 4, wrong, centre, box, exact};
    CHECK(sumix_cut_box_cpu_baseline(&args, &status) == -1 && blames(&status, "lam[1]"));
  }
  for (int side = 0; side < 2; side++)
    for (int64_t wrong = -1; wrong <= 4; wrong += 5) {
      int64_t centre[] = {0, 0, 3, 3};
      centre[2 + side] = wrong;
      const struct sumix_cut_box_args args = {2, 4, 4, fine, centre, box, exact};
      CHECK(sumix_cut_box_cpu_baseline(&args, &status) == -1 && blames(&status, "centre[1]"));
    }
}

/* The checksum after every seed. */
static const int64_t seeds[] = {0, -7, INT64_MAX};
static const uint64_t CHECKSUMS[] = {UINT64_C(0x27aa09cad63a3010), UINT64_C(0x245748c2f07322ba),
                                     UINT64_C(0x9cf5b2be6fd3fd4d)};

/* Emulated, a block's threads take their time under ThreadSanitizer: there the first seed, once. */
#if defined SUMIX_TEST_CUDA && defined __SANITIZE_THREAD__
enum { SEEDS = 1, MOST_THREADS = 1 };
#else
enum { SEEDS = 3, MOST_THREADS = 3 };
#endif

int main(void)
{
  const int64_t counts[] = {0, 1, 2, 9, 128, 129, 300}, sizes[] = {0, 1, 3, 4, 5, 511, 1088};
  test_published_vectors();
  test_blocks();
  test_functions();
  test_cut_box();
  for (num_threads = 1; num_threads <= MOST_THREADS; num_threads += 2) {
    checksum = UINT64_C(14695981039346656037);
    for (size_t s = 0; s < SEEDS; s++) {
      for (size_t k = 0; k < 7; k++) {
        int64_t sub[300];
        CHECK(sumix_sample_seed_cpu_baseline(&(struct sumix_sample_seed_args){&seeds[s], counts[k], sub}, &status) ==
              0);
        add(sub, (size_t)counts[k] * sizeof *sub);
        test_lam(&seeds[s], counts[k]);
        for (int64_t classes = 1; classes < 8; classes += 2) test_perm(&seeds[s], counts[k], classes);
        test_boxes(&seeds[s], counts[k], 32, 32);
        test_boxes(&seeds[s], counts[k], 0, 257);
        test_boxes(&seeds[s], counts[k], 17, 257);
        for (size_t j = 0; j < 7; j++) test_noise(&seeds[s], counts[k] / 9, sizes[j]);
      }
      if (checksum != CHECKSUMS[s]) printf("checksum %016llx\n", (unsigned long long)checksum);
      CHECK(checksum == CHECKSUMS[s]);
    }
  }
  puts("sample: passed");
  return 0;
}
