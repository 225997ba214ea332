/* mix_resize, in place and not, and mix_normalize without torch, in buffers of their exact size: every dtype against
 * loops from the formulas; values out of range; the same bits on any number of threads.
 */
#include "../../csrc/resize.h"
#include "mixing.h"

/* Along one axis: the two pixels of `from` that pixel j of `to` lies between, and the weight of the second. */
struct source {
  int64_t first, second;
  double weight;
};

static struct source source_of(int64_t code, int64_t j, int64_t from, int64_t to)
{
  const float scale = (float)from / (float)to;
  if (code == 1 || code == 2) {
    const float at = ((float)j + (code == 2 ? 0.5f : 0)) * scale;
    const int64_t nearest = (int64_t)floorf(at) < from - 1 ? (int64_t)floorf(at) : from - 1;
    return (struct source){nearest, nearest, 0};
  }
  const double at = fmax(0, ((double)j + 0.5) * ((double)from / (double)to) - 0.5);
  const int64_t first = (int64_t)at < from - 1 ? (int64_t)at : from - 1;
  return (struct source){first, first + 1 < from ? first + 1 : first, at - (double)first};
}

/* What element k of the batch is made of: up to four elements and their weights. */
struct sum {
  int64_t at[4];
  double weight[4];
};

static struct sum made_of(struct sumix_layout l, int64_t channels, const int64_t *box, const int64_t *resize,
                          const int64_t *perm, int64_t k)
{
  const int64_t pixel = k / channels, x = pixel % l.width, row = pixel / l.width, y = row % l.height;
  const int64_t plane = row / l.height, i = plane / l.planes, *const b = box + 4 * i;
  struct sum sum = {{k, k, k, k}, {1, 0, 0, 0}};
  if (x < b[0] || x >= b[2] || y < b[1] || y >= b[3]) return sum;
  const int64_t partner = perm[i] * l.planes + plane % l.planes;
  struct source v = {y, y, 0}, h = {x, x, 0};
  if (resize[i] != 0) {
    v = source_of(resize[i], y - b[1], l.height, b[3] - b[1]);
    h = source_of(resize[i], x - b[0], l.width, b[2] - b[0]);
  }
  for (int corner = 0; corner < 4; corner++) {
    const int64_t ys = corner < 2 ? v.first : v.second, xs = corner % 2 ? h.second : h.first;
    sum.at[corner] = ((partner * l.height + ys) * l.width + xs) * channels + k % channels;
    sum.weight[corner] = (corner < 2 ? 1 - v.weight : v.weight) * (corner % 2 ? h.weight : 1 - h.weight);
  }
  return sum;
}

static int64_t *random_resize(int64_t n)
{
  int64_t *resize = exactly((size_t)n * sizeof *resize);
  for (int64_t i = 0; i < n; i++) resize[i] = below(4);
  return resize;
}

/* Weights of bilinear are rounded to float where computing is in float: relative to positions up to `size`. */
static double bound(enum sumix_dtype dtype, double magnitude, int64_t size)
{
  const double weights = dtype == SUMIX_FLOAT64 ? 0 : 0x1p-22 * (double)size * (dtype < SUMIX_UINT8 ? 1 : 127);
  return 4 * tolerance(dtype, magnitude) * (dtype < SUMIX_UINT8 ? 1 : 0.25) + weights;
}

static void test_resize(enum sumix_dtype dtype, struct sumix_layout l, int64_t channels)
{
  l.pixel = channels * (int64_t)sizes[dtype];
  const int64_t count = l.n * l.planes * l.height * l.width * channels, element = (int64_t)sizes[dtype];
  const int64_t side = l.height > l.width ? l.height : l.width;
  const size_t bytes = (size_t)count * sizes[dtype];
  void *x = random_elements(dtype, count), *out = exactly(bytes), *again = exactly(bytes);
  double *expected = exactly((size_t)count * sizeof *expected);
  int64_t *box = random_boxes(l.n, l.height, l.width), *perm = random_partners(l.n, below(2));
  int64_t *resize = random_resize(l.n);
  struct sumix_mix_resize_args args = {dtype, l, element, x, box, resize, perm, out};
  num_threads = 1;
  CHECK(sumix_mix_resize_cpu_baseline(&args, &status) == 0);
  for (int64_t k = 0; k < count; k++) {
    const struct sum sum = made_of(l, channels, box, resize, perm, k);
    double exact = 0;
    for (int c = 0; c < 4; c++) exact += sum.weight[c] * get(dtype, x, sum.at[c]);
    CHECK(fabs(get(dtype, out, k) - exact) <= bound(dtype, fabs(exact), side));
  }
  num_threads = 3, args.out = again;
  CHECK(sumix_mix_resize_cpu_baseline(&args, &status) == 0);
  CHECK(memcmp(out, again, bytes) == 0);
  for (num_threads = 1; num_threads <= 3; num_threads += 2) {
    memcpy(again, x, bytes);
    const struct sumix_mix_inplace_args inplace = {dtype, l, element, again, box, resize, perm, NULL};
    CHECK(sumix_mix_inplace_cpu_baseline(&inplace, &status) == 0);
    CHECK(memcmp(out, again, bytes) == 0);
    memcpy(again, x, bytes);
    const struct sumix_mix_inplace_args boxes = {dtype, l, element, again, box, NULL, perm, NULL};
    const struct sumix_mix_box_args apart = {l, x, box, perm, expected};
    CHECK(sumix_mix_inplace_cpu_baseline(&boxes, &status) == 0);
    CHECK(sumix_mix_box_cpu_baseline(&apart, &status) == 0);
    CHECK(memcmp(expected, again, bytes) == 0);
  }
  if (dtype < SUMIX_UINT8) {
    struct sumix_mix_resize_backward_args back = {dtype, l, x, box, resize, perm, out};
    num_threads = 1;
    CHECK(sumix_mix_resize_backward_cpu_baseline(&back, &status) == 0);
    for (int64_t k = 0; k < count; k++) expected[k] = 0;
    for (int64_t k = 0; k < count; k++) {
      const struct sum sum = made_of(l, channels, box, resize, perm, k);
      for (int c = 0; c < 4; c++) expected[sum.at[c]] += sum.weight[c] * get(dtype, x, k);
    }
    for (int64_t k = 0; k < count; k++)
      CHECK(fabs(get(dtype, out, k) - expected[k]) <= bound(dtype, fabs(expected[k]), 8 * side));
    num_threads = 3, back.grad_x = again;
    CHECK(sumix_mix_resize_backward_cpu_baseline(&back, &status) == 0);
    CHECK(memcmp(out, again, bytes) == 0);
  }
  free(x), free(out), free(again), free(expected), free(box), free(perm), free(resize);
}

static void test_normalize(enum sumix_dtype dtype, struct sumix_layout l, int64_t channels)
{
  l.pixel = channels;
  const int64_t pixels = l.height * l.width, size = l.planes * pixels * channels, count = l.n * size;
  const int64_t all = l.planes * channels, side = l.height > l.width ? l.height : l.width;
  uint8_t *x = random_elements(SUMIX_UINT8, count);
  void *out = exactly((size_t)count * sizes[dtype]), *again = exactly((size_t)count * sizes[dtype]);
  float *mean = exactly((size_t)all * sizeof *mean), *std = exactly((size_t)all * sizeof *std);
  float *weights = exactly((size_t)(l.n * pixels) * sizeof *weights);
  for (int64_t c = 0; c < all; c++) mean[c] = (float)uniform(), std[c] = (float)(0.2 + uniform());
  for (int64_t k = 0; k < l.n * pixels; k++) weights[k] = k / 50 % 2 ? (float)uniform() : (float)(k / 100 % 2);
  int64_t *box = random_boxes(l.n, l.height, l.width), *perm = random_partners(l.n, below(2));
  int64_t *resize = random_resize(l.n), *zeros = calloc((size_t)l.n + 1, sizeof *zeros);
  for (int kind = 0; kind < 4; kind++) {
    const struct sumix_mask mask = {kind & 1 ? weights : NULL, false, false};
    struct sumix_mix_normalize_args args = {
        dtype, l, all, x, kind & 2 ? box : NULL, kind == 3 ? resize : NULL, mask, perm, mean, std, out};
    num_threads = 1;
    CHECK(sumix_mix_normalize_cpu_baseline(&args, &status) == 0);
    for (int64_t k = 0; k < count; k++) {
      const struct sum sum = made_of(l, channels, box, kind == 3 ? resize : zeros, perm, k);
      const int64_t i = k / size, c = channels == 1 ? k / pixels % l.planes : k % channels;
      double mixed = kind & 2 ? 0 : x[k];
      for (int corner = 0; kind & 2 && corner < 4; corner++) mixed += sum.weight[corner] * x[sum.at[corner]];
      const double w = kind & 1 ? weights[i * pixels + k / channels % pixels] : 1;
      mixed = w * mixed + (1 - w) * x[perm[i] * size + k % size];
      const double exact = (mixed / 255 - mean[c]) / std[c];
      CHECK(fabs(get(dtype, out, k) - exact) <= 8 * bound(dtype, fabs(exact), side));
    }
    num_threads = 3, args.out = again;
    CHECK(sumix_mix_normalize_cpu_baseline(&args, &status) == 0);
    CHECK(memcmp(out, again, (size_t)count * sizes[dtype]) == 0);
  }
  free(x), free(out), free(again), free(mean), free(std), free(weights), free(box), free(perm), free(resize),
      free(zeros);
}

/* Positions are sums rounded once: those of exact arithmetic, which double is for axes of less than 2^24 pixels. */
static void test_positions(int64_t from, int64_t to, int64_t j)
{
  const float scale = sumix_scale_f32(from, to), at = (float)(((double)j + 0.5) * (double)scale - 0.5);
  const struct sumix_between_f32 between = sumix_bilinear_source_f32(j, scale, from, to);
  const int64_t first = (int64_t)at < from - 1 ? (int64_t)at : from - 1;
  const float weight = from == to ? 0 : at - (float)first;
  CHECK(between.first == (from == to ? j : first) && between.weight == (weight < 1 ? weight : 1));
  CHECK(between.second == (from == to || first + 1 == from ? between.first : first + 1));
}

static void test_bad_values(void)
{
  const struct sumix_layout l = {2, 1, 2, 2, 4}, bytes = {2, 1, 2, 2, 1};
  const float x[8] = {0};
  float out[8], mean[] = {0}, std[] = {1}, weights[8] = {0};
  int64_t perm[] = {1, 0}, box[8] = {0}, resize[] = {1, 3};
  const struct sumix_mask mask = {weights, false, false};
  const struct sumix_mix_resize_args mix = {SUMIX_FLOAT32, l, 4, x, box, resize, perm, out};
  const struct sumix_mix_resize_args other = {SUMIX_OTHER, l, 4, x, box, resize, perm, out};
  const struct sumix_mix_resize_backward_args back = {SUMIX_FLOAT32, l, x, box, resize, perm, out};
  const struct sumix_mix_inplace_args inplace = {SUMIX_FLOAT32, l, 4, out, box, resize, perm, NULL};
  const struct sumix_mix_normalize_args normalize = {
      SUMIX_FLOAT32, bytes, 1, (const uint8_t *)x, box, resize, mask, perm, mean, std, out};
  int64_t *const places[] = {&box[6], &perm[1], &resize[1]};
  const char *const names[] = {"box[1]", "perm[1]", "resize[1]"};
  for (int p = 0; p < 3; p++)
    for (int64_t wrong = -1; wrong <= 4; wrong += 5) {
      const int64_t right = *places[p];
      *places[p] = wrong;
      CHECK(sumix_mix_resize_cpu_baseline(&mix, &status) == -1 && blames(&status, names[p]));
      CHECK(sumix_mix_resize_backward_cpu_baseline(&back, &status) == -1 && blames(&status, names[p]));
      CHECK(sumix_mix_inplace_cpu_baseline(&inplace, &status) == -1 && blames(&status, names[p]));
      CHECK(sumix_mix_normalize_cpu_baseline(&normalize, &status) == -1 && blames(&status, names[p]));
      *places[p] = right;
    }
  CHECK(sumix_mix_resize_cpu_baseline(&other, &status) == -1 && blames(&status, "resize[1] is bilinear"));
  float *const numbers[] = {&mean[0], &std[0], &std[0], &weights[5]};
  const float wrong[] = {INFINITY, 0, NAN, 2};
  const char *const says[] = {"mean[0]", "std[0]", "std[0]", "mask[1, 0, 1]"};
  for (int p = 0; p < 4; p++) {
    const float right = *numbers[p];
    *numbers[p] = wrong[p];
    CHECK(sumix_mix_normalize_cpu_baseline(&normalize, &status) == -1 && blames(&status, says[p]));
    *numbers[p] = right;
  }
  CHECK(sumix_mix_resize_cpu_baseline(&mix, &status) == 0);
  CHECK(sumix_mix_normalize_cpu_baseline(&normalize, &status) == 0);
}

static const struct sumix_layout layouts[] = {{6, 3, 7, 3, 0},   {1, 1, 1, 1, 0},   {5, 2, 9, 11, 0}, {0, 3, 4, 4, 0},
                                              {4, 1, 40, 60, 0}, {3, 1, 3, 700, 0}, {3, 0, 4, 5, 0},  {2, 1, 0, 5, 0}};

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
    for (int64_t channels = 1; channels <= 7; channels += 2) {
      for (enum sumix_dtype dtype = SUMIX_FLOAT32; dtype < SUMIX_OTHER; dtype++)
        if (combinations++ % EVERY == 0) test_resize(dtype, layouts[k], channels);
      if ((channels > 1 && layouts[k].planes > 1) || combinations % EVERY != 0) continue;
      test_normalize(SUMIX_FLOAT32, layouts[k], channels);
      test_normalize(SUMIX_FLOAT16, layouts[k], channels);
      test_normalize(SUMIX_BFLOAT16, layouts[k], channels);
    }
  for (int64_t from = 1; from <= 80; from++)
    for (int64_t to = 1; to <= from; to++)
      for (int64_t j = 0; j < to; j++) test_positions(from, to, j);
  for (int k = 0; k < 100000; k++) {
    const int64_t from = 1 + below(1 << (1 + below(24))), to = 1 + below(from);
    test_positions(from, to, below(to));
  }
  test_bad_values();
  puts("mix_resize: passed");
  return 0;
}
